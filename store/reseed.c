/*
 * store/reseed.c - a store that has a state becomes one that waits for a seed,
 * and keeps its bodies: what is here by GUID is not sent again.
 *
 * Bodies stay where they lie in packs.  Those that are only in the log go with
 * it; so would one that lies half in each.  The rows of the old state are left
 * until those of the seed begin (seed_begin_rows()); nobody reads them, since
 * the state has no position any more.
 *
 * Each step may be done twice, so after a crash it is begun again: the state
 * first, then the log, which would otherwise be replayed over it.
 */
#include "store/seed.h"

#include "store/local.h"
#include "store/places.h"
#include "store/store_private.h"

#define BATCH_BYTES ((size_t)1 << 20)

struct keep {
    struct kv *kv;
    struct kv_batch *b;
    struct guid guid; /* of the rows that are looked at */
    bool has_guid;
    bool goes; /* a part of it lies in the log */
    uint64_t kept, dropped;
};

static enum errcode
write_batch(struct keep *k, size_t from, struct error *err)
{
    if (kv_batch_bytes(k->b) < from)
        return ERR_OK;
    enum errcode rc = kv_write(k->kv, k->b, err);
    kv_batch_clear(k->b);
    return rc;
}

/* All parts of a body that is not kept; their packs are told. */
static enum errcode
drop_body(struct keep *k, const struct guid *guid, struct error *err)
{
    struct key prefix;
    struct span key, value;
    enum errcode rc = ERR_OK;
    struct kv_iter *it = kv_iter_open(
        k->kv, NULL, KV_STATE,
        span_sub(key_body(&prefix, guid, 0), 0, 1 + GUID_BYTES), SPAN_EMPTY);

    while (rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        struct body_loc loc;
        rc = body_loc_decode(value, &loc, err);
        if (rc == ERR_OK)
            rc = pack_account_move(k->kv, k->b, &loc, true, err);
        kv_batch_delete(k->b, KV_STATE, key);
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    k->dropped++;
    return rc == ERR_OK ? closed : rc;
}

static enum errcode
end_guid(struct keep *k, struct error *err)
{
    if (!k->has_guid)
        return ERR_OK;
    k->has_guid = false;
    if (k->goes)
        return drop_body(k, &k->guid, err);
    k->kept++;
    return ERR_OK;
}

static enum errcode
keep_packed(struct keep *k, struct error *err)
{
    struct key table;
    struct span key, value;
    enum errcode rc = ERR_OK;
    struct kv_snap *snap = kv_snapshot(k->kv);
    struct kv_iter *it = kv_iter_open(k->kv, snap, KV_STATE,
                                      key_table(&table, TAB_BODY), SPAN_EMPTY);

    while (rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        struct body_loc loc;
        if (key.n < 1 + GUID_BYTES) {
            rc = error_set(err, ERR_CORRUPT, "malformed row of a body");
            break;
        }
        if (!k->has_guid || memcmp(k->guid.b, key.p + 1, GUID_BYTES) != 0) {
            rc = end_guid(k, err);
            memcpy(k->guid.b, key.p + 1, GUID_BYTES);
            k->has_guid = true;
            k->goes = false;
        }
        if (rc == ERR_OK)
            rc = body_loc_decode(value, &loc, err);
        if (rc == ERR_OK) {
            k->goes |= loc.home == BODY_IN_LOG;
            rc = write_batch(k, BATCH_BYTES, err);
        }
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    kv_release(k->kv, &snap);
    if (rc == ERR_OK)
        rc = closed;
    return rc == ERR_OK ? end_guid(k, err) : rc;
}

static enum errcode
forget_rows(struct keep *k, struct span prefix, struct error *err)
{
    struct span key, value;
    enum errcode rc = ERR_OK;
    struct kv_iter *it =
        kv_iter_open(k->kv, NULL, KV_STATE, prefix, SPAN_EMPTY);

    while (rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        kv_batch_delete(k->b, KV_STATE, key);
        rc = write_batch(k, BATCH_BYTES, err);
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? closed : rc;
}

static enum errcode
forget_state(struct keep *k, struct error *err)
{
    /* What may be garbage is found by a walk over all bodies afterwards. */
    static const enum local_row rows[] = {
        LOCAL_APPLIED, LOCAL_START, LOCAL_BODIES, LOCAL_DEAD,
        LOCAL_PARTS,   LOCAL_SWEEP, LOCAL_SCRUB,
    };
    struct key key;
    enum errcode rc = ERR_OK;

    kv_batch_put(k->b, KV_STATE, key_local(&key, LOCAL_SEEDING), SPAN_EMPTY);
    for (size_t i = 0; rc == ERR_OK && i < ARRAY_LEN(rows); i++)
        rc = forget_rows(k, key_local(&key, rows[i]), err);
    /* They would have to give the digest of a position that is gone. */
    if (rc == ERR_OK)
        rc = forget_rows(k, key_table(&key, TAB_DIGEST), err);
    return rc == ERR_OK ? write_batch(k, 0, err) : rc;
}

enum errcode
store_make_seedable(struct env *env, const struct store_config *cfg,
                    const char *log_aside, uint64_t *ret_kept,
                    uint64_t *ret_dropped, struct error *err)
{
    AUTO(xfree) char *state = xasprintf("%s/state", cfg->dir);
    AUTO(xfree) char *log = xasprintf("%s/synclog", cfg->dir);
    struct keep k = {.kv = cfg->kv};
    enum errcode rc = ERR_OK;

    *ret_kept = *ret_dropped = 0;
    if (k.kv == NULL && cfg->open_kv != NULL)
        k.kv = cfg->open_kv(cfg->open_kv_ctx, cfg->dir);
    if (k.kv == NULL && env_may_exist(env, state))
        rc = kv_open_rocks(cfg->dir, cfg->cache_bytes, &k.kv, err);
    if (rc == ERR_OK && k.kv != NULL) {
        k.b = kv_batch_new();
        rc = keep_packed(&k, err);
        if (rc == ERR_OK)
            rc = forget_state(&k, err);
        if (rc == ERR_OK)
            rc = kv_flush(k.kv, err);
        kv_batch_free(&k.b);
    }
    if (cfg->kv == NULL)
        kv_close(&k.kv);
    if (rc == ERR_OK)
        rc = env_rename(env, log, log_aside, err);
    if (rc == ERR_OK || rc == ERR_NOTFOUND) /* it may have been done already */
        rc = env_syncdir(env, cfg->dir, err);
    if (rc != ERR_OK)
        return error_prefix(err, "reseed");
    *ret_kept = k.kept;
    *ret_dropped = k.dropped;
    return ERR_OK;
}
