/*
 * admin/export.h - a user's mail as files: Maildir++, or an mbox a folder.
 *
 * Maildir++: TARGET is INBOX, TARGET/.Sub.folder a folder below it.  A message
 * is "DATE.VvalidityUuid.pollux,S=SIZE:2,FLAGS" in cur, byte for byte as it is
 * stored, with INTERNALDATE as its mtime; FLAGS: D draft, F flagged, R
 * answered, S seen, T deleted.
 *
 * mbox: TARGET/INBOX.mbox, TARGET/INBOX.Sub.folder.mbox, line ends LF, mboxrd:
 * each line of '>' (any number of them, also none) and "From " gets one more
 * '>', so that all of it can be taken back.
 *
 * Folders have their internal names ('^' for a dot inside a level, modified
 * UTF-7), '/' as "%2F".
 */
#ifndef POLLUX_ADMIN_EXPORT_H
#define POLLUX_ADMIN_EXPORT_H

#include "admin/backup_dir.h"
#include "base/env.h"
#include "store/types.h"

#define EXPORT_MARK ".pollux," /* in the name of each file of a Maildir */

enum export_format { EXPORT_MAILDIR, EXPORT_MBOX };

struct export
{
    struct env *env;
    const char *target;
    enum export_format format;
    char *dir; /* Maildir: of the folder */
    struct envfile *mbox;
    uint64_t end; /* of MBOX */
    uint32_t uidvalidity;
    struct buf out;
    uint64_t messages, bytes, folders, failed;
};

/* TARGET is made, and must be empty: ERR_EXISTS.  ERR_IO, ERR_NOSPACE. */
MUST_CHECK enum errcode
export_open(struct env *env, const char *target, enum export_format format,
            struct export *ret, struct error *err);
void
export_close(struct export *x);
/* A folder: what follows INBOX's name, "" or ".Sub.folder". */
MUST_CHECK enum errcode
export_folder(struct export *x, const char *below, uint32_t uidvalidity,
              struct error *err);
/* A message of that folder: of M uid, flags, internal_s are looked at. */
MUST_CHECK enum errcode
export_message(struct export *x, const struct message *m, struct span raw,
               struct error *err);
/* RAW with line ends LF and mboxrd quoting, appended to OUT. */
void
export_quote_mbox(struct span raw, struct buf *out);

/* What is asked for by export_backup(): one line about a message that could not
 * be had (the rest goes on), and progress; false ends it (ERR_CLOSED). */
struct export_watch {
    void *ctx;
    bool (*progress)(void *ctx, uint64_t done, uint64_t total);
    void (*failed)(void *ctx, const char *text);
};
/* Mail of USER as a backup has it.  ERR_NOTFOUND: there is no such user, no
 * such generation. */
MUST_CHECK enum errcode
export_backup(struct env *env, const char *dir, uint64_t number,
              const char *user, struct export *x,
              const struct export_watch *watch, struct error *err);

#endif
