/*
 * store/kv.c - passes the calls of kv.h on to who implements them.
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

enum errcode
kv_write(struct kv *kv, struct kv_batch *b, struct error *err)
{
    size_t n;

    (void)kv_batch_ops(b, &n);
    return n == 0 ? ERR_OK : kv->ops->write(kv, b, err);
}

enum errcode
kv_get(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
       struct span key, struct buf *ret, struct error *err)
{
    return kv->ops->get(kv, snap, f, key, ret, err);
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
    return kv->ops->iter_open(kv, snap, f, prefix, from);
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
    enum errcode rc = (*it)->ops->iter_close(*it, err);
    *it = NULL;
    return rc;
}

enum errcode
kv_flush(struct kv *kv, struct error *err)
{
    return kv->ops->flush(kv, err);
}

enum errcode
kv_health(struct kv *kv, struct error *err)
{
    return kv->ops->health(kv, err);
}

uint64_t
kv_property(struct kv *kv, const char *name)
{
    return kv->ops->property(kv, name);
}
