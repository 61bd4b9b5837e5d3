/*
 * synclog/verify.c - the whole log walked from its first segment, read only,
 * with the code that recovery uses.
 */
#include "synclog/synclog_private.h"

static enum errcode
verify_segment(struct env *env, const char *dir, const struct seglist *list,
               size_t i, scan_each *each, void *ctx, struct scan *ret,
               struct error *err)
{
    const struct segment_head *next =
        i + 1 < list->n ? &list->v[i + 1].head : NULL;
    char path[LOG_PATH_BYTES];
    AUTO(env_close) struct envfile *f = NULL;

    enum errcode rc =
        env_open(env, segment_path(dir, list->v[i].head.number, path), ENV_READ,
                 &f, err);
    if (rc == ERR_NOTFOUND)
        return error_set(err, ERR_AGAIN, "segment %s was just trimmed", path);
    if (rc == ERR_OK)
        rc = scan_segment(f, &list->v[i], next, each, ctx, ret, err);
    return rc;
}

enum errcode
synclog_verify(struct env *env, const char *dir,
               void (*each)(void *ctx, uint64_t segment, uint64_t offset,
                            const struct frame_head *head, struct span payload),
               void *ctx, struct synclog_recovery *ret_found,
               uint64_t *ret_torn_bytes, struct error *err)
{
    AUTO(seglist_free) struct seglist list = {0};
    struct synclog_recovery found = {0};
    struct scan scan = {0};

    enum errcode rc = seglist_load(env, dir, &list, err);
    if (rc == ERR_OK && list.n == 0)
        return error_set(err, ERR_NOTFOUND, "there is no log in %s", dir);
    for (size_t i = 0; rc == ERR_OK && i < list.n; i++) {
        rc = verify_segment(env, dir, &list, i, each, ctx, &scan, err);
        if (rc == ERR_OK && scan.end.time_us != 0)
            found.last_time_us = scan.end.time_us;
    }
    if (rc != ERR_OK)
        return rc;
    found.last = scan.end.last;
    found.chain = scan.end.chain;
    if (list.v[0].head.prev_lsn < found.last.lsn)
        found.first_lsn = list.v[0].head.first_lsn;
    found.torn_bytes = scan.torn_end - scan.end_offset;
    *ret_found = found;
    *ret_torn_bytes = found.torn_bytes;
    return ERR_OK;
}
