/*
 * imapd/sort.c - sorting messages.
 *
 * What is compared is gathered first (imapd/keys.h), so that the sort itself
 * reads nothing.  It moves numbers of messages with the head of their first
 * key: the eight bytes behind what all texts begin with ("Re: [list] " is no
 * help), or the number itself.  Most comparisons end there.
 */
#include "imapd/sort.h"

#include <stdlib.h>

#include "base/rd.h"
#include "imapd/annotate.h"
#include "mime/text.h"

#define HEAD_BYTES 8U

struct order {
    uint64_t head;
    size_t at;
};

struct sorting {
    const struct sorted *hits;
    const struct imap_command *cmd;
};

void
sort_clear(struct sort_list *list)
{
    free(list->hits);
    arena_free(&list->arena);
    *list = (struct sort_list){0};
}

/* ---- gathering --------------------------------------------------------- */

/* The text that KEY compares, empty for what is none. */
static struct span
text_of(enum imap_sort_what what, const struct message_keys *keys)
{
    switch (what) {
    case SORT_CC:
        return keys->text[KEY_CC];
    case SORT_FROM:
        return keys->text[KEY_FROM];
    case SORT_SUBJECT:
        return keys->text[KEY_SUBJECT];
    case SORT_TO:
        return keys->text[KEY_TO];
    case SORT_DISPLAYFROM:
        return keys->text[KEY_DISPLAYFROM];
    case SORT_DISPLAYTO:
        return keys->text[KEY_DISPLAYTO];
    case SORT_ARRIVAL:
    case SORT_DATE:
    case SORT_SIZE:
    case SORT_RELEVANCY:
    case SORT_ANNOTATION:
        break;
    }
    return SPAN_EMPTY;
}

static bool
is_of_row(enum imap_sort_what what)
{
    return what == SORT_ARRIVAL || what == SORT_SIZE ||
           what == SORT_RELEVANCY || what == SORT_ANNOTATION;
}

static bool
is_text(enum imap_sort_what what)
{
    return what == SORT_ANNOTATION || (!is_of_row(what) && what != SORT_DATE);
}

/* What KEY compares of f->msg, into A. */
static struct span
read_text(struct imap_session *s, struct finder *f,
          const struct imap_sort_key *key, const struct message_keys *keys,
          struct arena *a)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    AUTO(buf_free) struct buf mapped = BUF_INIT;

    if (key->what != SORT_ANNOTATION)
        return arena_copy(a, text_of(key->what, keys));
    annot_sort_value(s, f->snap, &f->msg, key, &value);
    mime_casemap(buf_span(&value), &mapped);
    return arena_copy(a, buf_span(&mapped));
}

/* All that is compared of f->msg, the texts in A.  ALONE: it is not one of
 * many. */
static struct sorted
read_sorted(struct imap_session *s, struct finder *f, bool alone,
            struct arena *a)
{
    const struct imap_command *cmd = s->cmd;
    struct message_keys keys = {0};
    struct span *text = arena_array(a, cmd->nsort, sizeof(text[0]));
    struct sorted hit = {.uid = f->msg.uid,
                         .seq = f->seq,
                         .text = text,
                         .relevance = f->relevance};
    bool has_keys = false, by_date = false;

    for (size_t i = 0; i < cmd->nsort; i++) {
        has_keys |= !is_of_row(cmd->sort[i].what);
        by_date |= cmd->sort[i].what == SORT_DATE;
    }
    if (has_keys)
        has_keys = alone ? find_own_keys(s, f, &keys) : find_keys(s, f, &keys);
    for (size_t i = 0; i < cmd->nsort; i++)
        if (is_text(cmd->sort[i].what))
            text[i] = read_text(s, f, &cmd->sort[i], &keys, a);
    if (by_date && has_keys && (keys.flags & MIME_CACHE_DATED) != 0)
        hit.sent_s = keys.sent_utc_s;
    else if (by_date && find_row(s, f)) /* RFC 5256, 2.2 */
        hit.sent_s = f->msg.internal_s;
    if (f->has_row) {
        hit.arrival_s = f->msg.internal_s;
        hit.size = f->msg.size;
    }
    return hit;
}

void
sort_add(struct imap_session *s, struct finder *f, struct sort_list *list)
{
    if (list->n == list->cap) {
        list->cap = list->cap == 0 ? 64 : list->cap * 2;
        list->hits = xrealloc(list->hits, list->cap * sizeof(list->hits[0]));
    }
    list->hits[list->n++] = read_sorted(s, f, false, &list->arena);
}

/* ---- comparing --------------------------------------------------------- */

static int
compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b ? 1 : 0;
}

static int
compare_s64(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b ? 1 : 0;
}

static int
compare_text(struct span a, struct span b)
{
    size_t n = MIN(a.n, b.n);
    int c = n == 0 ? 0 : memcmp(a.p, b.p, n);

    return c != 0 ? c : compare_u64(a.n, b.n);
}

static int
compare_sorted(const struct sorted *x, const struct sorted *y,
               const struct imap_command *cmd)
{
    for (size_t i = 0; i < cmd->nsort; i++) {
        enum imap_sort_what what = cmd->sort[i].what;
        int c = what == SORT_ARRIVAL ? compare_s64(x->arrival_s, y->arrival_s)
                : what == SORT_DATE  ? compare_s64(x->sent_s, y->sent_s)
                : what == SORT_SIZE  ? compare_u64(x->size, y->size)
                : what == SORT_RELEVANCY /* RFC 6203, 5: the best first */
                    ? compare_u64(y->relevance, x->relevance)
                    : compare_text(x->text[i], y->text[i]);
        if (c != 0)
            return cmd->sort[i].reverse ? -c : c;
    }
    return compare_u64(x->seq, y->seq); /* RFC 5256, 3 */
}

static int
compare_order(const void *a, const void *b, void *ctx)
{
    const struct order *p = a, *q = b;
    const struct sorting *sorting = ctx;

    if (p->head != q->head)
        return p->head < q->head ? -1 : 1;
    return compare_sorted(&sorting->hits[p->at], &sorting->hits[q->at],
                          sorting->cmd);
}

size_t
sort_place(struct imap_session *s, struct finder *f, const uint32_t *order,
           size_t n)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    const struct sorted mine = read_sorted(s, f, true, &a);
    size_t lo = 0, hi = n;

    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        AUTO(arena_free) struct arena row = ARENA_INIT;
        struct error ignored = {0};
        struct message msg;
        bool below = true; /* what cannot be read any more */
        if (snap_message(f->snap, s->sel->id, order[mid], &row, &msg,
                         &ignored) == ERR_OK) {
            find_stand_on(s, f, &msg);
            f->relevance = mine.relevance;
            f->cost++;
            const struct sorted other = read_sorted(s, f, true, &row);
            below = compare_sorted(&other, &mine, s->cmd) < 0;
        }
        if (below)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* How many bytes all first texts begin with. */
static size_t
common_bytes(const struct sort_list *list)
{
    const struct span first = list->hits[0].text[0];
    size_t n = first.n;

    for (size_t i = 1; i < list->n && n > 0; i++) {
        const struct span t = list->hits[i].text[0];
        size_t same = 0;
        while (same < n && same < t.n && t.p[same] == first.p[same])
            same++;
        n = same;
    }
    return n;
}

/* Sorts as the first key does, as far as it goes. */
static uint64_t
head_of(const struct sorted *hit, enum imap_sort_what what, size_t common)
{
    const uint64_t sign = (uint64_t)1 << 63;

    if (what == SORT_ARRIVAL)
        return (uint64_t)hit->arrival_s ^ sign;
    if (what == SORT_DATE)
        return (uint64_t)hit->sent_s ^ sign;
    if (what == SORT_SIZE)
        return hit->size;
    if (what == SORT_RELEVANCY)
        return ~(uint64_t)hit->relevance;
    const struct span left =
        span_sub(span_skip(hit->text[0], common), 0, HEAD_BYTES);
    struct rd r = rd_init(left);
    return left.n == 0 ? 0 : rd_be(&r, left.n) << 8 * (HEAD_BYTES - left.n);
}

void
sort_run(struct sort_list *list, const struct imap_command *cmd)
{
    struct sorting sorting = {list->hits, cmd};

    if (list->n < 2 || cmd->nsort == 0)
        return;
    const enum imap_sort_what what = cmd->sort[0].what;
    const size_t common = is_text(what) ? common_bytes(list) : 0;
    struct order *order = xcalloc(list->n, sizeof(order[0]));
    struct sorted *hits = xcalloc(list->n, sizeof(hits[0]));
    for (size_t i = 0; i < list->n; i++) {
        const uint64_t head = head_of(&list->hits[i], what, common);
        order[i] = (struct order){cmd->sort[0].reverse ? ~head : head, i};
    }
    qsort_r(order, list->n, sizeof(order[0]), compare_order, &sorting);
    for (size_t i = 0; i < list->n; i++)
        hits[i] = list->hits[order[i].at];
    free(order);
    free(list->hits);
    list->hits = hits;
    list->cap = list->n;
}
