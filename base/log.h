/*
 * base/log.h - one line a fact: an event name, key=value pairs, the session or
 * peer added by the context.
 *
 *   csync.peer_lost peer=b2 applied=7:4182 why="silent for 10000 ms"
 *
 * Never a password, never message text.  Values with blanks, quotes or control
 * bytes are to be given as %s inside quotes; control bytes and quotes in them
 * are escaped here, so that a line cannot be forged (a %s without quotes gets
 * them where it needs them; so do not pass several pairs in one %s).  Widths of
 * %s are ignored, precisions are not.  Thread-safe: one write(2) or one
 * syslog(3) a line.  A line longer than 4 KiB is cut and ends in "cut=1".
 *
 * On stderr and in a file the event comes after time (UTC), program and level:
 *   2026-03-01T12:00:00.123Z pollux/be[4711] notice csync.peer_lost peer=b2 ...
 */
#ifndef POLLUX_BASE_LOG_H
#define POLLUX_BASE_LOG_H

#include "base/error.h"
#include "base/env.h"

enum log_level {
    LOG_LV_DEBUG,
    LOG_LV_INFO,
    LOG_LV_NOTICE,
    LOG_LV_WARN,
    LOG_LV_ERROR
};

enum log_target { LOG_TO_STDERR, LOG_TO_FILE, LOG_TO_SYSLOG };

/*
 * Where this process logs; set once by main before threads start.  IDENT is
 * the program with the instance's prefix ("pollux/be").  With LOG_TO_FILE, PATH
 * is appended to, and reopened by log_reopen() (SIGHUP; any thread, but not
 * from the signal handler itself).  Until it is called, and after log_close(),
 * notices and above go to stderr.  Errors: as env_open(), the target unchanged.
 */
MUST_CHECK enum errcode
log_open(enum log_target target, const char *path, const char *ident,
         enum log_level least, struct error *err);
/* Where the file cannot be opened the old one is kept, and told so. */
void
log_reopen(void);
void
log_close(void);

/* Who speaks: `prefix` ("session=12 peer=127.0.0.1:4711") is put into each
 * line after the event.  NULL context or prefix: nothing is added. */
struct log_ctx {
    char prefix[160];
};

void
log_line(const struct log_ctx *ctx, enum log_level level, const char *event,
         const char *fmt, ...) PRINTF_LIKE(4, 5);

/*
 * Pass on LINE (no line end), which another program of ours wrote to its
 * stderr: it leaves as it is, with its own time and name.  False, and nothing
 * is written, if it is not such a line.
 */
bool
log_relay(struct span line);

#define log_debug(ctx, ...) log_line(ctx, LOG_LV_DEBUG, __VA_ARGS__)
#define log_info(ctx, ...) log_line(ctx, LOG_LV_INFO, __VA_ARGS__)
#define log_notice(ctx, ...) log_line(ctx, LOG_LV_NOTICE, __VA_ARGS__)
#define log_warn(ctx, ...) log_line(ctx, LOG_LV_WARN, __VA_ARGS__)
#define log_error(ctx, ...) log_line(ctx, LOG_LV_ERROR, __VA_ARGS__)

#endif
