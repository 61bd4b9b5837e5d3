/*
 * metrics/history.c - see metrics/history.h.  Between two points time and bytes
 * are taken to grow evenly with the records.
 */
#include "metrics/history.h"

#include "base/macros.h"

void
history_add(struct history *h, const struct history_point *p)
{
    if (h->n > 0) {
        const struct history_point *last = history_at(h, h->n - 1);
        if (p->lsn < last->lsn || p->bytes < last->bytes ||
            p->syncs < last->syncs)
            h->n = 0;
    }
    h->ring[h->next] = *p;
    h->next = (h->next + 1) % HISTORY_POINTS;
    h->n = MIN(h->n + 1, HISTORY_POINTS);
}

const struct history_point *
history_at(const struct history *h, size_t i)
{
    ENSURE(i < h->n);
    return &h->ring[(h->next + HISTORY_POINTS - h->n + i) % HISTORY_POINTS];
}

/* FROM + (TO - FROM) * PART / ALL, without overflow for what occurs here. */
static uint64_t
between(uint64_t from, uint64_t to, uint64_t part, uint64_t all)
{
    return to <= from || all == 0
               ? from
               : from + (uint64_t)((double)(to - from) * (double)part /
                                   (double)all);
}

/* The I-th; behind the last one comes NOW. */
static const struct history_point *
point(const struct history *h, const struct history_point *now, size_t i)
{
    return i < h->n ? history_at(h, i) : now;
}

void
history_behind(const struct history *h, const struct history_point *now,
               lsn_t lsn, struct history_behind *ret)
{
    *ret = (struct history_behind){.is_whole = true};
    if (lsn >= now->lsn)
        return;
    /* The first point that is behind LSN. */
    size_t low = 0, high = h->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (point(h, now, mid)->lsn > lsn)
            high = mid;
        else
            low = mid + 1;
    }
    const struct history_point *p = point(h, now, low);
    if (low == 0) {
        ret->is_whole = false;
        ret->bytes = now->bytes > p->bytes ? now->bytes - p->bytes : 0;
        ret->age_us = now->wall_us > p->wall_us ? now->wall_us - p->wall_us : 0;
        return;
    }
    const struct history_point *q = point(h, now, low - 1);
    uint64_t all = p->lsn - q->lsn;
    uint64_t at = between(q->wall_us, p->wall_us, lsn + 1 - q->lsn, all);
    uint64_t bytes = between(q->bytes, p->bytes, lsn - q->lsn, all);
    ret->bytes = now->bytes > bytes ? now->bytes - bytes : 0;
    ret->age_us = now->wall_us > at ? now->wall_us - at : 0;
}
