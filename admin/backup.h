/*
 * admin/backup.h - what is done with a backup that is there: looked through,
 * and made an instance of.  Making one is the verb BACKUP (admin/backup.c), as
 * it needs a store; these two need the backup's directory alone.
 */
#ifndef POLLUX_ADMIN_BACKUP_H
#define POLLUX_ADMIN_BACKUP_H

#include "admin/backup_dir.h"
#include "failover/node.h"

/* Told now and then; false ends the work (ERR_CLOSED). */
struct backup_watch {
    void *ctx;
    bool (*progress)(void *ctx, uint64_t done, uint64_t total);
    /* verify: one fault, one line */
    void (*fault)(void *ctx, const char *text);
};

struct backup_verified {
    uint64_t generations, rows, bodies, packs, faults;
};

/*
 * Every byte of every generation (NUMBER 0) or of one: checksums of all files,
 * each body's SHA-1, that each message has its body, and the state counted
 * anew: counters, quotas, digest.  TMPDIR takes the rows for that, as a
 * key-value store that is removed again.  Faults are told one by one and do not
 * end it.  Errors: ERR_NOTFOUND (no backup in DIR), ERR_IO and ERR_NOSPACE of
 * TMPDIR, ERR_CLOSED.
 */
MUST_CHECK enum errcode
backup_verify(struct env *env, const char *dir, const char *tmpdir,
              uint64_t number, const struct backup_watch *watch,
              struct backup_verified *ret, struct error *err);

/*
 * Make of generation NUMBER (0: the newest) an instance: a replica that nobody
 * has promoted, of the same cluster, at the backup's position.  NC as of the
 * new instance's imapd.conf.  ERR_EXISTS: there is something in its
 * directories; ERR_NOTFOUND (no such generation), ERR_CORRUPT and ERR_VERSION
 * (of the backup), ERR_NOSPACE, ERR_IO, ERR_CLOSED.  After a failure what is
 * there is no instance that serves anybody, and must be removed.
 */
MUST_CHECK enum errcode
backup_restore(struct env *env, const char *dir, uint64_t number,
               const struct node_config *nc, const struct backup_watch *watch,
               struct backup_manifest *ret, struct error *err);

#endif
