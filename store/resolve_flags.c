/*
 * store/resolve_flags.c - flags and keywords: messages that end alike share a
 * group of one record.
 */
#include "store/resolve_private.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define FLAG_RECORD_BYTES (512U << 10)

/* Messages that end with the same flags. */
struct flag_group {
    struct rec_flag_group rec;
    uint64_t hash;
    struct flag_group *next; /* in its bucket */
    struct flag_group *later;
};

#define FLAG_BUCKETS 256U

struct flag_groups {
    struct flag_group *bucket[FLAG_BUCKETS];
    struct flag_group *first, **last;
    struct arena a;
};

static bool
same_keywords(const struct span *a, size_t na, const struct span *b, size_t nb)
{
    if (na != nb)
        return false;
    for (size_t i = 0; i < na; i++)
        if (!span_eq(a[i], b[i]))
            return false;
    return true;
}

static struct flag_group *
find_group(struct flag_groups *gs, const struct message *m)
{
    uint64_t hash = m->flags;

    for (size_t i = 0; i < m->nkeywords; i++)
        hash = XXH3_64bits_withSeed(m->keywords[i].p, m->keywords[i].n, hash);
    struct flag_group **bucket = &gs->bucket[hash % FLAG_BUCKETS];
    for (struct flag_group *g = *bucket; g != NULL; g = g->next)
        if (g->hash == hash && g->rec.flags == m->flags &&
            same_keywords(g->rec.keywords, g->rec.nkeywords, m->keywords,
                          m->nkeywords))
            return g;
    struct flag_group *g = arena_alloc(&gs->a, sizeof(*g));
    struct span *keywords =
        arena_array(&gs->a, m->nkeywords + 1, sizeof(*keywords));
    for (size_t i = 0; i < m->nkeywords; i++)
        keywords[i] = arena_copy(&gs->a, m->keywords[i]);
    g->rec = (struct rec_flag_group){
        .flags = m->flags, .keywords = keywords, .nkeywords = m->nkeywords};
    g->hash = hash;
    g->next = *bucket;
    *bucket = g;
    *gs->last = g;
    gs->last = &g->later;
    return g;
}

/* What M's keywords become; the result lives in A. */
static void
change_keywords(const struct txn_flags *op, struct message *m, struct arena *a)
{
    const struct span *x = m->keywords, *y = op->keywords;
    const size_t nx = m->nkeywords, ny = op->nkeywords;
    size_t i = 0, j = 0, n = 0;

    if (op->mode == FLAGS_REPLACE) {
        m->keywords = y;
        m->nkeywords = ny;
        return;
    }
    struct span *out = arena_array(a, nx + ny + 1, sizeof(*out));
    while (i < nx || j < ny) {
        int c = i == nx ? 1 : j == ny ? -1 : span_cmp(x[i], y[j]);
        if (op->mode == FLAGS_ADD)
            out[n++] = c <= 0 ? x[i] : y[j];
        else if (c < 0)
            out[n++] = x[i];
        i += c <= 0;
        j += c >= 0;
    }
    m->keywords = out;
    m->nkeywords = n;
}

static uint32_t
change_flags(const struct txn_flags *op, uint32_t old)
{
    const uint32_t given = op->flags & FLAGS_SETTABLE;

    switch (op->mode) {
    case FLAGS_REPLACE:
        return (given & ~op->keep) | (old & op->keep);
    case FLAGS_ADD:
        return old | given;
    case FLAGS_REMOVE:
        return old & ~given;
    }
    return old;
}

static enum errcode
flag_one(const struct txn_flags *flags, struct op *op,
         const struct message *old, struct flag_groups *gs, struct arena *a,
         struct error *err)
{
    struct message m = *old;

    if ((old->flags & FLAG_EXPUNGED) != 0)
        return ERR_OK;
    if (flags->has_unchanged_since && old->modseq > flags->unchanged_since) {
        uidset_add(&op->res.refused, old->uid, old->uid);
        return ERR_OK;
    }
    m.flags = change_flags(flags, old->flags) & FLAGS_SETTABLE;
    change_keywords(flags, &m, a);
    if (m.flags == (old->flags & FLAGS_SETTABLE) &&
        same_keywords(m.keywords, m.nkeywords, old->keywords, old->nkeywords))
        return ERR_OK;
    enum errcode rc = resolve_check_keywords(m.keywords, m.nkeywords, err);
    if (rc != ERR_OK)
        return rc;
    uidset_add(&find_group(gs, &m)->rec.uids, m.uid, m.uid);
    uidset_add(&op->res.uids, m.uid, m.uid);
    return ERR_OK;
}

static size_t
group_bytes(const struct flag_group *g)
{
    size_t n = 16 + g->rec.uids.n * 10;
    for (size_t i = 0; i < g->rec.nkeywords; i++)
        n += g->rec.keywords[i].n + 2;
    return n;
}

static enum errcode
emit_flag_groups(struct group *g, struct op *op, const struct mailbox *mb,
                 struct flag_groups *gs, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (struct flag_group *f = gs->first; f != NULL && rc == ERR_OK;) {
        struct rec_flag_group some[64];
        struct rec_flags rec = {.id = op->id, .groups = some};
        size_t bytes = 0;
        if (f->rec.uids.n > RANGES_PER_RECORD) {
            some[0] = f->rec;
            rec.n = 1;
            for (size_t at = 0; at < f->rec.uids.n && rc == ERR_OK;
                 at += RANGES_PER_RECORD) {
                some[0].uids = resolve_part_of(&f->rec.uids, at);
                op->res.modseq = resolve_next_modseq(g, mb);
                rc = EMIT(flags, REC_FLAGS, &rec, err);
            }
            f = f->later;
            continue;
        }
        while (f != NULL && rec.n < ARRAY_LEN(some) &&
               f->rec.uids.n <= RANGES_PER_RECORD &&
               (rec.n == 0 || bytes + group_bytes(f) <= FLAG_RECORD_BYTES)) {
            bytes += group_bytes(f);
            some[rec.n++] = f->rec;
            f = f->later;
        }
        op->res.modseq = resolve_next_modseq(g, mb);
        rc = EMIT(flags, REC_FLAGS, &rec, err);
    }
    return rc;
}

enum errcode
resolve_flags(struct group *g, struct op *op, const struct txn_flags *flags,
              const struct uidset *uids, struct error *err)
{
    struct flag_groups *gs = arena_alloc(&g->arena, sizeof(*gs));
    struct head *h;
    struct message m;
    struct walk w;

    gs->last = &gs->first;
    enum errcode rc = resolve_mailbox(g, op->id, &h, err);
    if (rc == ERR_OK)
        rc = resolve_check_keywords(flags->keywords, flags->nkeywords, err);
    if (rc != ERR_OK)
        return rc;
    op->res.uidvalidity = h->mb.uidvalidity;
    walk_open(&w, g, op, h, uids);
    while (rc == ERR_OK && walk_next(&w, &m, &rc, err))
        rc = flag_one(flags, op, &m, gs, &w.rows, err);
    rc = walk_close(&w, rc, err);
    if (rc == ERR_OK)
        rc = emit_flag_groups(g, op, &h->mb, gs, err);
    for (struct flag_group *f = gs->first; f != NULL; f = f->later)
        uidset_free(&f->rec.uids);
    arena_free(&gs->a);
    return rc;
}

enum errcode
op_flags(struct group *g, struct op *op, struct error *err)
{
    return resolve_flags(g, op, &op->u.flags.op, &op->u.flags.uids, err);
}
