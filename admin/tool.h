/*
 * admin/tool.h - the tool's half: options, the way in, the answer shown.
 *
 * A tool asks the running instance over its control socket.  Where none runs it
 * opens the store that imapd.conf names, as that instance would, asks the same
 * handler (admin/admin.h), and closes it.
 */
#ifndef POLLUX_ADMIN_TOOL_H
#define POLLUX_ADMIN_TOOL_H

#include <getopt.h>
#include <stdio.h>

#include "admin/admin.h"
#include "csync/dlist.h"
#include "store/names.h"

/* Exit codes: those of sysexits.h, as Cyrus has them. */
enum tool_exit {
    TOOL_OK = 0,
    TOOL_DIFFERS = 1,  /* looked, and found something to mend */
    TOOL_USAGE = 64,   /* command line */
    TOOL_DATA = 65,    /* no such mailbox, user, UID; a name that cannot be */
    TOOL_NOSTORE = 69, /* no instance runs, and its store cannot be opened */
    TOOL_FAILED = 70,
    TOOL_IO = 74,       /* disk, or damaged data */
    TOOL_TEMPFAIL = 75, /* replica, fence, full disk, busy: later, elsewhere */
    TOOL_NOPERM = 77,
    TOOL_CONFIG = 78,
};

struct tool;

/* One program. */
struct tool_def {
    const char *name;
    const char *usage; /* its whole text, with line ends */
    int (*run)(struct tool *t, int argc, char **argv);
};

/* What a main brings along; folders that stand above this one. */
struct tool_hooks {
    const char *conf; /* imapd.conf where -C is not given; NULL: the default */
    bool is_child;    /* started by the instance: START, EVENTS */
    /* Before the store is opened here: stop being root.  NULL: stay. */
    enum errcode (*become)(const struct config *cfg, struct error *err);
    FILE *out, *err; /* NULL: stdout, stderr */
};

/* A tool under way; what it needs of it. */
struct tool {
    const struct tool_def *def;
    struct tool_hooks hooks;
    struct env *env;
    FILE *out, *err;
    const char *conf;
    struct config *cfg; /* after tool_begin() */
    bool json, quiet;
    bool shows_progress; /* standard error is a terminal */
    struct namespace ns;
    struct arena names;

    /* The request being made: tool_request(), dlist_*(&t->args), tool_ask() */
    struct buf request;
    struct dlist_printer args;

    /* private */
    int exit_code; /* TOOL_USAGE once tool_option() found something wrong */
    struct csync_client *client;
    struct node *node; /* opened here */
    struct admin_host host;
    uint64_t began_ns;
    bool progress_shown;
    uint64_t shown_ns; /* when tool_progress() showed it last */
    void (*each)(void *ctx, const struct dlist *row);
    void *each_ctx;
};

/* The whole program; returns its exit code. */
int
tool_main(const struct tool_def *def, int argc, char **argv,
          const struct tool_hooks *hooks);

/*
 * The next option as getopt_long() gives it; -C FILE, --json, -h and --help are
 * taken here.  -1: no more.  '?': wrong, or help was asked for; the tool then
 * returns tool_end_options().  Options in VOID (letters) are Cyrus's and have
 * no effect here: each is said so once, and passed over.
 */
int
tool_option(struct tool *t, int argc, char **argv, const char *letters,
            const char *no_effect, const struct option *long_options);
/* The exit code after '?'. */
int
tool_end_options(const struct tool *t);
/* Says how it is to be called, on stderr; returns TOOL_USAGE. */
int
tool_usage(const struct tool *t, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Read imapd.conf.  TOOL_OK, or TOOL_CONFIG after saying why. */
int
tool_begin(struct tool *t);
/* Begin a request; its arguments are printed to t->args. */
void
tool_request(struct tool *t, const char *verb);
/*
 * Send it; each row of the answer goes to EACH (progress does not).  TOOL_OK,
 * or the exit code of the failure, after it was said on stderr.
 */
int
tool_ask(struct tool *t, void (*each)(void *ctx, const struct dlist *row),
         void *ctx);
/* The same, but it is for the caller to say what failed. */
enum errcode
tool_ask_quietly(struct tool *t,
                 void (*each)(void *ctx, const struct dlist *row), void *ctx,
                 struct error *err);
/* "TOOL: text" on stderr; returns the exit code that goes with the error. */
int
tool_fail(struct tool *t, enum errcode code, const struct error *err);
/* The same for words of one's own. */
int
tool_say(struct tool *t, int exit_code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/*
 * For work that the tool does by itself.  tool_work() begins it: from then on
 * SIGINT and SIGTERM only make tool_progress() false; AS_INSTANCE: what is
 * written is the instance's, so root becomes its user.  ERR_DENIED, ERR_IO,
 * ERR_NOTFOUND (no such user).
 */
MUST_CHECK enum errcode
tool_work(struct tool *t, bool as_instance, struct error *err);
/* Shows it on a terminal, a few times a second; false: it is to end. */
bool
tool_progress(struct tool *t, uint64_t done, uint64_t total);

/* ---- reading rows, and showing them ------------------------------------ */

/* "" and 0 where it is not there. */
struct span
row_text(const struct dlist *row, const char *name);
uint64_t
row_u64(const struct dlist *row, const char *name);
bool
row_is(const struct dlist *row, const char *name);
void
tool_json_string(FILE *f, struct span s);
/* An internal name as an admin writes it; lives until the next call.  */
const char *
tool_external(struct tool *t, const char *internal);

/*
 * "3", "3d", "12h", "90m", "30s", "1.5d" in seconds; a plain number has UNIT
 * ('d' or 's').  W is weeks.  False: none, or more than 1000 years.
 */
MUST_CHECK bool
tool_duration(const char *text, char unit, uint64_t *ret_s);

/* The programs. */
extern const struct tool_def tool_ctl_cyrusdb;
extern const struct tool_def tool_ctl_mboxlist;
extern const struct tool_def tool_mbpath;
extern const struct tool_def tool_mbexamine;
extern const struct tool_def tool_unexpunge;
extern const struct tool_def tool_quota;
extern const struct tool_def tool_cyr_expire;
extern const struct tool_def tool_cyr_info;
extern const struct tool_def tool_cyr_df;
extern const struct tool_def tool_reconstruct;
extern const struct tool_def tool_squatter;
extern const struct tool_def tool_ctl_deliver;
extern const struct tool_def tool_ctl_backup;
extern const struct tool_def tool_ctl_history;

#endif
