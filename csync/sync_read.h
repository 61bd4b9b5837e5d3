/*
 * csync/sync_read.h - reading what may be too long to be held: a MAILBOX with
 * its RECORDs, a MESSAGE with its files.  Bytes in, structs and calls out; no
 * I/O.
 *
 * The same reader serves a server (the rest of "APPLY MAILBOX ...") and a
 * client ("* MAILBOX ...", "* MESSAGE ...").
 */
#ifndef POLLUX_CSYNC_SYNC_READ_H
#define POLLUX_CSYNC_SYNC_READ_H

#include "csync/sync_obj.h"

struct sync_reader;

/* Files of a MESSAGE, as they come.  An error makes the reader drop the rest,
 * and is what sync_reader_code() says in the end. */
struct sync_files {
    void *ctx;
    enum errcode (*begin)(void *ctx, const struct guid *guid, uint64_t size,
                          struct error *err);
    enum errcode (*bytes)(void *ctx, struct span bytes, struct error *err);
    enum errcode (*end)(void *ctx, struct error *err);
};

/* A reader of one MAILBOX value: "%(...)" and the end of its line. */
struct sync_reader *
sync_reader_mailbox(void);
/* Of one MESSAGE value: a list of files or one file.  FILES is copied. */
struct sync_reader *
sync_reader_message(const struct sync_files *files);
void
sync_reader_free(struct sync_reader **r);

/*
 * Take what can be taken off the front of IN.  PARSE_DONE: the line is at its
 * end, behind *RET_USED.  PARSE_MORE: *RET_USED bytes are used and more are
 * wanted.  PARSE_BAD: not a dlist, and no way to go on; ERR says why.
 */
enum parse
sync_reader_feed(struct sync_reader *r, struct span in, size_t *ret_used,
                 struct error *err);

/* After PARSE_DONE: what came was of the right kind?  ERR_SYNTAX, ERR_LIMIT, or
 * what a call of FILES said. */
enum errcode
sync_reader_code(const struct sync_reader *r, struct error *err);
/* The mailbox; lives as long as R.  IS_HEAD_ONLY as sync_mailbox_read(). */
struct sync_mailbox *
sync_reader_result(struct sync_reader *r, bool *ret_is_head_only);

#endif
