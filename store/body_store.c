/*
 * store/body_store.c - the bodies of an open store: body_read.c with its log.
 *
 * What cannot be read is noted here (store/damage.h), whoever reads.
 */
#include "store/body_private.h"

#include "store/damage.h"
#include "store/store_private.h"

struct body *
store_body_new(struct store *store, uint64_t max_bytes)
{
    struct body *b = body_new(store_env(store), store_tmpdir(store), max_bytes);

    body_tell_full(b, &store->full);
    body_set_budget(b, &store->body_budget);
    return b;
}

enum errcode
store_body_read(struct store *store, const struct guid *guid, uint64_t offset,
                uint64_t n, struct buf *out, struct error *err)
{
    enum errcode rc = bodies_read(store_bodies(store), store_log(store), guid,
                                  offset, n, out, err);
    if (rc == ERR_CORRUPT || rc == ERR_NOTFOUND || rc == ERR_IO)
        store_damage_find(store, guid);
    return rc;
}

enum errcode
store_body_stat(struct store *store, const struct guid *guid,
                uint64_t *ret_size, struct error *err)
{
    return bodies_stat(store_bodies(store), NULL, guid, ret_size, err);
}
