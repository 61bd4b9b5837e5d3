/*
 * store/kv.c - passes the calls of kv.h on to who implements them, and tells of
 * damage.
 */
#include "store/kv.h"

#include <stdlib.h>

#include "store/kv_private.h"

bool
kv_prefix_end(struct span prefix, struct buf *ret)
{
    size_t n = prefix.n;

    while (n > 0 && prefix.p[n - 1] == 0xff)
        n--;
    if (n == 0)
        return false;
    buf_add(ret, span_sub(prefix, 0, n - 1));
    buf_add_byte(ret, (uint8_t)(prefix.p[n - 1] + 1));
    return true;
}

void
kv_close(struct kv **kv)
{
    if (*kv == NULL)
        return;
    (*kv)->ops->close(*kv);
    *kv = NULL;
}

void
kv_on_corrupt(struct kv *kv, void (*call)(void *ctx, const struct error *err),
              void *ctx)
{
    kv->on_corrupt = call;
    kv->on_corrupt_ctx = ctx;
}

/* RC, with the reason in OWN, is passed on to ERR, and told if it is damage. */
static enum errcode
pass_on(const struct kv *kv, enum errcode rc, const struct error *own,
        struct error *err)
{
    if (rc == ERR_OK)
        return rc;
    if (err != NULL)
        *err = *own;
    if (rc == ERR_CORRUPT && kv->on_corrupt != NULL)
        kv->on_corrupt(kv->on_corrupt_ctx, own);
    return rc;
}

enum errcode
kv_write(struct kv *kv, struct kv_batch *b, struct error *err)
{
    struct error own = {0};
    size_t n;

    (void)kv_batch_ops(b, &n);
    return n == 0 ? ERR_OK
                  : pass_on(kv, kv->ops->write(kv, b, &own), &own, err);
}

enum errcode
kv_get(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
       struct span key, struct buf *ret, struct error *err)
{
    struct error own = {0};
    enum errcode rc = kv->ops->get(kv, snap, f, key, ret, &own);

    /* What is derived is made anew where it cannot be read. */
    if (f == KV_CACHE && rc == ERR_CORRUPT)
        rc = error_set(&own, ERR_NOTFOUND, "%s", own.text);
    return pass_on(kv, rc, &own, err);
}

struct kv_snap *
kv_snapshot(struct kv *kv)
{
    return kv->ops->snapshot(kv);
}

void
kv_release(struct kv *kv, struct kv_snap **snap)
{
    if (*snap == NULL)
        return;
    kv->ops->release(kv, *snap);
    *snap = NULL;
}

struct kv_iter *
kv_iter_open(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
             struct span prefix, struct span from)
{
    if (span_cmp(from, prefix) < 0)
        from = prefix;
    struct kv_iter *it = kv->ops->iter_open(kv, snap, f, prefix, from);
    it->kv = kv;
    it->family = f;
    return it;
}

enum errcode
kv_disk_iter(struct kv *kv, struct span from, struct kv_iter **ret,
             struct error *err)
{
    struct error own = {0};

    if (kv->ops->disk_iter == NULL) {
        *ret = kv_iter_open(kv, NULL, KV_STATE, SPAN_EMPTY, from);
        return ERR_OK;
    }
    enum errcode rc = kv->ops->disk_iter(kv, from, ret, &own);
    if (rc != ERR_OK)
        return pass_on(kv, rc, &own, err);
    (*ret)->kv = kv;
    (*ret)->family = KV_STATE;
    return ERR_OK;
}

bool
kv_iter_next(struct kv_iter *it, struct span *ret_key, struct span *ret_value)
{
    return it->ops->iter_next(it, ret_key, ret_value);
}

void
kv_iter_seek(struct kv_iter *it, struct span key)
{
    it->ops->iter_seek(it, key);
}

enum errcode
kv_iter_close(struct kv_iter **it, struct error *err)
{
    if (*it == NULL)
        return ERR_OK;
    struct error own = {0};
    struct kv *kv = (*it)->kv;
    const bool is_state = (*it)->family == KV_STATE;
    enum errcode rc = (*it)->ops->iter_close(*it, &own);

    *it = NULL;
    if (is_state)
        return pass_on(kv, rc, &own, err);
    if (rc != ERR_OK && err != NULL)
        *err = own;
    return rc;
}

enum errcode
kv_flush(struct kv *kv, struct error *err)
{
    struct error own = {0};

    return pass_on(kv, kv->ops->flush(kv, &own), &own, err);
}

enum errcode
kv_health(struct kv *kv, struct error *err)
{
    struct error own = {0};

    return pass_on(kv, kv->ops->health(kv, &own), &own, err);
}

uint64_t
kv_property(struct kv *kv, const char *name)
{
    return kv->ops->property(kv, name);
}
