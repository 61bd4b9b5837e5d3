/*
 * imapd/seqmap.c - ranges in UID order, each knowing how many messages are in
 * front of it.  Removing rebuilds the list: one pass, however many go.
 */
#include "imapd/seqmap.h"

#include <stdlib.h>

void
seqmap_free(struct seqmap *m)
{
    free(m->r);
    *m = SEQMAP_INIT;
}

uint32_t
seqmap_count(const struct seqmap *m)
{
    if (m->n == 0)
        return 0;
    const struct seqrange *r = &m->r[m->n - 1];
    return r->before + (r->last - r->first) + 1;
}

static void
add_range(struct seqmap *m, uint32_t first, uint32_t last)
{
    if (m->n > 0 && m->r[m->n - 1].last + 1 == first) {
        m->r[m->n - 1].last = last;
        return;
    }
    if (m->n == m->cap) {
        m->cap = m->cap == 0 ? 1 : m->cap * 2;
        m->r = xrealloc(m->r, m->cap * sizeof(m->r[0]));
    }
    uint32_t before = seqmap_count(m);
    m->r[m->n++] = (struct seqrange){first, last, before};
}

void
seqmap_append(struct seqmap *m, uint32_t uid)
{
    seqmap_append_range(m, uid, uid);
}

void
seqmap_append_range(struct seqmap *m, uint32_t first, uint32_t last)
{
    ENSURE(first > seqmap_last_uid(m) && last >= first);
    add_range(m, first, last);
}

uint32_t
seqmap_last_uid(const struct seqmap *m)
{
    return m->n == 0 ? 0 : m->r[m->n - 1].last;
}

uint32_t
seqmap_uid(const struct seqmap *m, uint32_t seq)
{
    if (seq == 0 || seq > seqmap_count(m))
        return 0;
    uint32_t lo = 0, hi = m->n;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (m->r[mid].before < seq)
            lo = mid;
        else
            hi = mid;
    }
    return m->r[lo].first + (seq - m->r[lo].before - 1);
}

/* Index of the first range that ends at or behind UID; m->n: none. */
static uint32_t
range_at(const struct seqmap *m, uint32_t uid)
{
    uint32_t lo = 0, hi = m->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (m->r[mid].last < uid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

uint32_t
seqmap_seq(const struct seqmap *m, uint32_t uid)
{
    uint32_t i = range_at(m, uid);
    if (i == m->n || m->r[i].first > uid || uid == 0)
        return 0;
    return m->r[i].before + (uid - m->r[i].first) + 1;
}

uint32_t
seqmap_next(const struct seqmap *m, uint32_t uid)
{
    uint32_t i = range_at(m, uid);
    return i == m->n ? 0 : MAX(uid, m->r[i].first);
}

void
seqmap_remove(struct seqmap *m, const struct uidset *uids)
{
    struct seqmap left = SEQMAP_INIT;

    for (uint32_t i = 0; i < m->n; i++) {
        uint64_t at = m->r[i].first;
        while (at <= m->r[i].last) {
            uint32_t gone = uidset_next(uids, (uint32_t)at);
            uint64_t stop = gone == 0 || gone > m->r[i].last
                                ? (uint64_t)m->r[i].last + 1
                                : gone;
            if (stop > at)
                add_range(&left, (uint32_t)at, (uint32_t)(stop - 1));
            at = stop + 1;
        }
    }
    seqmap_free(m);
    *m = left;
}

void
seqmap_intersect(const struct seqmap *m, const struct uidset *uids,
                 struct uidset *ret)
{
    for (size_t i = 0; i < uids->n; i++)
        for (uint32_t k = range_at(m, uids->r[i].first);
             k < m->n && m->r[k].first <= uids->r[i].last; k++)
            uidset_add(ret, MAX(uids->r[i].first, m->r[k].first),
                       MIN(uids->r[i].last, m->r[k].last));
}

bool
seqmap_resolve(const struct seqmap *m, const struct uidset *seqs,
               struct uidset *ret)
{
    uint32_t count = seqmap_count(m);

    for (size_t i = 0; i < seqs->n; i++) {
        uint64_t at = seqs->r[i].first;
        if (seqs->r[i].last > count)
            return false;
        while (at <= seqs->r[i].last) {
            uint32_t uid = seqmap_uid(m, (uint32_t)at);
            const struct seqrange *r = &m->r[range_at(m, uid)];
            uint64_t n =
                MIN((uint64_t)(r->last - uid) + 1, seqs->r[i].last - at + 1);
            uidset_add(ret, uid, (uint32_t)(uid + n - 1));
            at += n;
        }
    }
    return true;
}
