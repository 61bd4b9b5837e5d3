/*
 * base/uidset.c - a sorted vector of ranges.
 *
 * Ranges are at least one missing UID apart, so that a set has one form only,
 * in memory as on disk: equal sets have equal bytes, and digests may run over
 * them.  Growing at the end, the usual case, costs nothing; whole sets and
 * parsed text are merged in one pass, so that text with its numbers in the
 * worst order costs no more than sorting it.
 */
#include "base/uidset.h"

#include <inttypes.h>
#include <stdlib.h>

void
uidset_free(struct uidset *s)
{
    free(s->r);
    *s = UIDSET_INIT;
}

void
uidset_clear(struct uidset *s)
{
    s->n = 0;
}

static void
reserve(struct uidset *s, size_t n)
{
    if (n <= s->cap)
        return;
    ENSURE(n <= SIZE_MAX / sizeof(*s->r) / 2);
    s->cap = MAX(n, s->cap + s->cap / 2 + 4);
    s->r = xrealloc(s->r, s->cap * sizeof(*s->r));
}

/* Index of the first range that ends at or after UID; s->n if none does. */
static size_t
find(const struct uidset *s, uint64_t uid)
{
    size_t low = 0;
    size_t high = s->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->r[mid].last < uid)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Put WITH in place of the ranges [FROM, TO). */
static void
splice(struct uidset *s, size_t from, size_t to, const struct uidrange *with,
       size_t nwith)
{
    size_t n = s->n - (to - from) + nwith;

    reserve(s, n);
    if (s->n > to)
        memmove(s->r + from + nwith, s->r + to, (s->n - to) * sizeof(*s->r));
    if (nwith > 0)
        memcpy(s->r + from, with, nwith * sizeof(*s->r));
    s->n = n;
}

void
uidset_add(struct uidset *s, uint32_t first, uint32_t last)
{
    struct uidrange range = {MIN(first, last), MAX(first, last)};

    if (range.last == 0)
        return;
    if (range.first == 0)
        range.first = 1;

    /* Everything that touches RANGE, neighbours included, becomes part of it.
     */
    size_t from = find(s, (uint64_t)range.first - 1);
    size_t to = from;
    while (to < s->n && s->r[to].first <= (uint64_t)range.last + 1)
        to++;
    if (to > from) {
        range.first = MIN(range.first, s->r[from].first);
        range.last = MAX(range.last, s->r[to - 1].last);
    }
    splice(s, from, to, &range, 1);
}

/* Append R, which does not begin before the last range does. */
static void
append(struct uidset *s, struct uidrange r)
{
    if (s->n > 0 && r.first <= (uint64_t)s->r[s->n - 1].last + 1) {
        s->r[s->n - 1].last = MAX(s->r[s->n - 1].last, r.last);
        return;
    }
    reserve(s, s->n + 1);
    s->r[s->n++] = r;
}

/* Add N ranges sorted by their first UID; they may overlap. */
static void
merge_sorted(struct uidset *s, const struct uidrange *r, size_t n)
{
    struct uidset both = UIDSET_INIT;
    size_t a = 0;
    size_t b = 0;

    reserve(&both, s->n + n);
    while (a < s->n || b < n) {
        if (b == n || (a < s->n && s->r[a].first <= r[b].first))
            append(&both, s->r[a++]);
        else
            append(&both, r[b++]);
    }
    uidset_free(s);
    *s = both;
}

void
uidset_add_set(struct uidset *s, const struct uidset *other)
{
    if (other != s && other->n > 0)
        merge_sorted(s, other->r, other->n);
}

void
uidset_intersect(struct uidset *s, const struct uidset *with)
{
    struct uidset out = UIDSET_INIT;
    size_t i = 0, j = 0;

    while (i < s->n && j < with->n) {
        uint32_t first = MAX(s->r[i].first, with->r[j].first);
        uint32_t last = MIN(s->r[i].last, with->r[j].last);
        if (first <= last)
            uidset_add(&out, first, last);
        if (s->r[i].last < with->r[j].last)
            i++;
        else
            j++;
    }
    uidset_free(s);
    *s = out;
}

void
uidset_remove(struct uidset *s, uint32_t first, uint32_t last)
{
    struct uidrange gone = {MIN(first, last), MAX(first, last)};
    size_t from = find(s, gone.first);
    size_t to = from;

    while (to < s->n && s->r[to].first <= gone.last)
        to++;
    if (to == from)
        return;

    struct uidrange rest[2];
    size_t n = 0;
    if (s->r[from].first < gone.first)
        rest[n++] = (struct uidrange){s->r[from].first, gone.first - 1};
    if (s->r[to - 1].last > gone.last)
        rest[n++] = (struct uidrange){gone.last + 1, s->r[to - 1].last};
    splice(s, from, to, rest, n);
}

bool
uidset_has(const struct uidset *s, uint32_t uid)
{
    size_t i = find(s, uid);

    return uid != 0 && i < s->n && s->r[i].first <= uid;
}

uint64_t
uidset_count(const struct uidset *s)
{
    uint64_t count = 0;

    for (size_t i = 0; i < s->n; i++)
        count += (uint64_t)s->r[i].last - s->r[i].first + 1;
    return count;
}

uint32_t
uidset_next(const struct uidset *s, uint32_t uid)
{
    size_t i = find(s, uid);

    return i == s->n ? 0 : MAX(uid, s->r[i].first);
}

bool
uidset_eq(const struct uidset *a, const struct uidset *b)
{
    return a->n == b->n &&
           (a->n == 0 || memcmp(a->r, b->r, a->n * sizeof(*a->r)) == 0);
}

void
uidset_format(const struct uidset *s, struct buf *out)
{
    for (size_t i = 0; i < s->n; i++) {
        buf_addf(out, "%s%" PRIu32, i == 0 ? "" : ",", s->r[i].first);
        if (s->r[i].last != s->r[i].first)
            buf_addf(out, ":%" PRIu32, s->r[i].last);
    }
}

/* seq-number of RFC 9051, 9: nz-number / "*". */
static bool
parse_number(struct span text, uint32_t star, uint32_t *ret)
{
    if (span_eq_str(text, "*")) {
        *ret = star;
        return true;
    }
    return text.n > 0 && text.p[0] != '0' && parse_u32(text, ret);
}

/* One part between commas; 0:0 when it stands for nothing. */
static bool
parse_part(struct span text, uint32_t star, struct uidrange *ret)
{
    ptrdiff_t colon = span_find_byte(text, ':', 0);
    uint32_t a = 0;
    uint32_t b = 0;

    if (colon < 0) {
        if (!parse_number(text, star, &a))
            return false;
        b = a;
    } else if (!parse_number(span_sub(text, 0, (size_t)colon), star, &a) ||
               !parse_number(span_skip(text, (size_t)colon + 1), star, &b)) {
        return false;
    }
    /* Only "*" with nothing for it gives 0, and takes its range with it. */
    *ret = a == 0 || b == 0 ? (struct uidrange){0, 0}
                            : (struct uidrange){MIN(a, b), MAX(a, b)};
    return true;
}

static int
compare_ranges(const void *a, const void *b)
{
    const struct uidrange *x = a;
    const struct uidrange *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}

bool
uidset_parse(struct span text, uint32_t star, size_t max_ranges,
             struct uidset *s)
{
    size_t parts = 1;
    for (size_t i = 0; i < text.n; i++)
        parts += text.p[i] == ',';
    if (parts > max_ranges)
        return false; /* before anything is allocated */

    struct uidrange *found = xcalloc(parts, sizeof(*found));
    size_t n = 0;
    bool good = true;
    while (good) {
        ptrdiff_t comma = span_find_byte(text, ',', 0);
        struct span part = comma < 0 ? text : span_sub(text, 0, (size_t)comma);
        good = parse_part(part, star, &found[n]);
        if (good && found[n].first != 0)
            n++;
        if (comma < 0)
            break;
        text = span_skip(text, (size_t)comma + 1);
    }
    if (good && n > 0) {
        qsort(found, n, sizeof(*found), compare_ranges);
        merge_sorted(s, found, n);
    }
    free(found);
    return good;
}

void
uidset_encode(const struct uidset *s, struct buf *out)
{
    uint32_t before = 0;

    buf_add_varint(out, s->n);
    for (size_t i = 0; i < s->n; i++) {
        buf_add_varint(out, s->r[i].first - before - 1);
        buf_add_varint(out, s->r[i].last - s->r[i].first);
        before = s->r[i].last;
    }
}

void
uidset_decode(struct rd *r, size_t max_ranges, struct uidset *s)
{
    uidset_clear(s);
    uint64_t count = rd_varint(r);
    /* A range takes two bytes at least: no memory for what cannot come. */
    if (count > max_ranges || count > r->left.n / 2)
        r->bad = true;
    if (r->bad)
        return;

    reserve(s, (size_t)count);
    uint64_t before = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t gap = rd_varint32(r);
        uint64_t first = before + 1 + gap;
        uint64_t last = first + rd_varint32(r);
        if (r->bad || last > UINT32_MAX || (i > 0 && gap == 0)) {
            r->bad = true; /* or adjacent: not the one form of this set */
            uidset_clear(s);
            return;
        }
        s->r[s->n++] = (struct uidrange){(uint32_t)first, (uint32_t)last};
        before = last;
    }
}
