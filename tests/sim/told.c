/*
 * tests/sim/told.c - what clients have ever been told, by any master, and
 * clients that keep a cache.
 *
 * (mailbox, UIDVALIDITY, UID) names one message for ever (I7); what a master of
 * an epoch says of UIDNEXT and HIGHESTMODSEQ is never below what was said
 * before in the same epoch, or ever in an older one (I8, I9); (name,
 * UIDVALIDITY) is one mailbox for ever.  A cache that is brought level equals a
 * fresh listing (I10).  What was purged and is kept (SIM_KEEPER) has its body.
 */
#include "tests/sim/sim_private.h"

#include <openssl/evp.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/epochs.h"
#include "store/history.h"

struct pair {
    uint64_t key, value; /* key 0: free */
};

struct map {
    struct pair *v;
    size_t n, cap;
};

struct head_told {
    uint64_t key;
    epoch_t epoch;
    uint64_t uidnext_min, uidnext_max, modseq_min, modseq_max;
    size_t older; /* index + 1 of the same key's entry before */
};

struct told {
    struct map uids, names, heads; /* heads: index + 1 of the newest */
    struct head_told *v;
    size_t n, cap;
};

static uint64_t *
map_at(struct map *map, uint64_t key)
{
    if (map->n * 2 >= map->cap) {
        struct map old = *map;
        map->cap = old.cap == 0 ? 1024 : old.cap * 2;
        map->v = xcalloc(map->cap, sizeof(*map->v));
        map->n = 0;
        for (size_t i = 0; i < old.cap; i++)
            if (old.v[i].key != 0)
                *map_at(map, old.v[i].key) = old.v[i].value;
        free(old.v);
    }
    if (key == 0)
        key = 1;
    size_t at = (size_t)(key % map->cap);
    while (map->v[at].key != 0 && map->v[at].key != key)
        at = (at + 1) % map->cap;
    if (map->v[at].key == 0) {
        map->v[at].key = key;
        map->n++;
    }
    return &map->v[at].value;
}

void
told_init(struct world *w)
{
    w->told = xcalloc(1, sizeof(*w->told));
}

void
told_free(struct world *w)
{
    free(w->told->uids.v);
    free(w->told->names.v);
    free(w->told->heads.v);
    free(w->told->v);
    free(w->told);
}

static uint64_t
box_key(const struct mailbox *mb)
{
    return XXH3_64bits_withSeed(mb->uniqueid.s, strlen(mb->uniqueid.s),
                                mb->uidvalidity);
}

static uint64_t
guid_key(const struct guid *guid)
{
    return XXH3_64bits(guid->b, GUID_BYTES) | 1;
}

static void
told_head(struct world *w, const struct machine *m, const struct mailbox *mb,
          epoch_t epoch)
{
    struct told *t = w->told;
    const uint64_t key = box_key(mb);
    uint64_t *newest = map_at(&t->heads, key);
    struct head_told *own = NULL;

    for (size_t i = (size_t)*newest; i != 0; i = t->v[i - 1].older) {
        struct head_told *h = &t->v[i - 1];
        if (h->epoch == epoch)
            own = h;
        if (h->epoch <= epoch ? (mb->uidnext < h->uidnext_max ||
                                 mb->highestmodseq < h->modseq_max)
                              : (mb->uidnext > h->uidnext_min ||
                                 mb->highestmodseq > h->modseq_min))
            sim_violation(w,
                          "I8/I9: n%u, epoch %u: %s has UIDNEXT %u MODSEQ %llx;"
                          " epoch %u said %llu..%llu, %llx..%llx",
                          m->i, epoch, mb->name, mb->uidnext,
                          (unsigned long long)mb->highestmodseq, h->epoch,
                          (unsigned long long)h->uidnext_min,
                          (unsigned long long)h->uidnext_max,
                          (unsigned long long)h->modseq_min,
                          (unsigned long long)h->modseq_max);
    }
    if (mb->highestmodseq == 0 || mb->uidnext == 0)
        sim_violation(w, "I9: n%u: %s has nothing", m->i, mb->name);
    if (own != NULL) {
        own->uidnext_max = MAX(own->uidnext_max, (uint64_t)mb->uidnext);
        own->modseq_max = MAX(own->modseq_max, mb->highestmodseq);
        return;
    }
    if (t->n == t->cap) {
        t->cap = t->cap * 2 + 64;
        t->v = xrealloc(t->v, t->cap * sizeof(*t->v));
    }
    t->v[t->n++] = (struct head_told){
        .key = key,
        .epoch = epoch,
        .uidnext_min = mb->uidnext,
        .uidnext_max = mb->uidnext,
        .modseq_min = mb->highestmodseq,
        .modseq_max = mb->highestmodseq,
        .older = (size_t)*newest,
    };
    *newest = t->n;
}

static void
told_message(struct world *w, const struct machine *m, const struct mailbox *mb,
             uint64_t box, const struct message *msg)
{
    const uint64_t key = XXH3_64bits_withSeed(&msg->uid, sizeof(msg->uid), box);
    const uint64_t value = guid_key(&msg->guid);
    uint64_t *at = map_at(&w->told->uids, key);

    if (*at != 0 && *at != value)
        sim_violation(w, "I7: n%u: UID %u of %s names another message", m->i,
                      msg->uid, mb->name);
    *at = value;
}

static void
told_name(struct world *w, const struct machine *m, const struct mailbox *mb)
{
    uint64_t *at =
        map_at(&w->told->names, XXH3_64bits_withSeed(mb->name, strlen(mb->name),
                                                     mb->uidvalidity));
    const uint64_t value =
        XXH3_64bits(mb->uniqueid.s, strlen(mb->uniqueid.s)) | 1;

    if (*at != 0 && *at != value)
        sim_violation(w, "I7: n%u: %s with UIDVALIDITY %u is another mailbox",
                      m->i, mb->name, mb->uidvalidity);
    *at = value;
}

static void
look_at(struct world *w, struct machine *m, struct store_snap *snap, mbid_t id)
{
    struct arena a = ARENA_INIT;
    struct mailbox mb;
    struct message msg;
    struct error err = {0};

    if (snap_mailbox(snap, id, &a, &mb, &err) == ERR_OK) {
        const uint64_t box = box_key(&mb);
        uint32_t last = 0;
        /* It may be about to begin one: what it says is said in that. */
        told_head(w, m, &mb, store_epoch(machine_store(m)));
        told_name(w, m, &mb);
        struct msg_iter *it = snap_messages(snap, id, 1, false);
        while (msg_iter_next(it, &msg)) {
            if (msg.uid <= last || msg.uid >= mb.uidnext ||
                msg.modseq > mb.highestmodseq)
                sim_violation(w, "I8: n%u: UID %u of %s out of order", m->i,
                              msg.uid, mb.name);
            last = msg.uid;
            told_message(w, m, &mb, box, &msg);
        }
        if (msg_iter_close(&it, &err) != ERR_OK)
            sim_violation(w, "n%u: %s: %s", m->i, mb.name, err.text);
    }
    arena_free(&a);
}

void
told_look(struct world *w, struct machine *m, unsigned mailboxes)
{
    history_observe(w, m);
    if (m->line == NULL || w->failed)
        return;
    model_advance(w, m->line);
    struct store_snap *snap = store_snapshot(machine_store(m));
    while (mailboxes-- > 0) {
        mbid_t id = model_random_mailbox(m->line, sim_random(w, 1U << 30));
        if (id != 0)
            look_at(w, m, snap, id);
    }
    store_release(&snap);
}

void
told_peek(struct world *w, struct machine *m)
{
    struct store *store = machine_store(m);
    struct arena a = ARENA_INIT;
    struct mailbox mb;
    struct error err = {0};

    if (store == NULL || m->line == NULL || m->line->model == NULL ||
        store_log(store) == NULL || store_pos(store).applied.lsn == 0)
        return;
    const struct logpos durable = synclog_durable(store_log(store), NULL);
    struct store_snap *snap = store_snapshot(store);
    mbid_t id = model_random_mailbox(m->line, w->now / 7);
    if (snap_pos(snap).applied.lsn > durable.lsn)
        sim_violation(w, "I4: n%u shows %llu, durable is %llu", m->i,
                      (unsigned long long)snap_pos(snap).applied.lsn,
                      (unsigned long long)durable.lsn);
    /* Of an epoch that is about to begin it names the record that begins it,
     * and nothing that could be lost. */
    if (id != 0 && snap_mailbox(snap, id, &a, &mb, &err) == ERR_OK &&
        modseq_epoch(mb.highestmodseq) <= durable.epoch &&
        modseq_lsn(mb.highestmodseq) > durable.lsn)
        sim_violation(w, "I4: n%u: %s shows %llu, durable is %llu", m->i,
                      mb.name, (unsigned long long)modseq_lsn(mb.highestmodseq),
                      (unsigned long long)durable.lsn);
    store_release(&snap);
    arena_free(&a);
}

/* ---- bodies ------------------------------------------------------------ */

static void
check_body(struct world *w, struct machine *m, const struct message *msg,
           const char *name)
{
    AUTO(buf_free) struct buf raw = BUF_INIT;
    struct guid guid;
    struct error err = {0};
    unsigned n = GUID_BYTES;

    enum errcode rc = store_body_read(machine_store(m), &msg->guid, 0,
                                      msg->size + 1, &raw, &err);
    if (rc != ERR_OK) {
        if ((m->damaged && rc == ERR_CORRUPT) || rc == ERR_IO)
            return; /* said so, and served nothing */
        if (m->death == ALIVE)
            sim_violation(w, "I13: n%u: body of UID %u of %s: %s", m->i,
                          msg->uid, name, err.text);
        return;
    }
    ENSURE(EVP_Digest(raw.p, raw.n, guid.b, &n, EVP_sha1(), NULL) == 1);
    if (raw.n != msg->size || !guid_eq(&guid, &msg->guid))
        sim_violation(w, "I13/I21: n%u: body of UID %u of %s is another", m->i,
                      msg->uid, name);
}

struct kept {
    struct world *w;
    struct machine *m;
    unsigned left;
};

static bool
check_kept(void *ctx, const struct history *h)
{
    struct kept *k = ctx;

    check_body(k->w, k->m, &h->msg, h->name);
    k->w->res->kept_bodies++;
    return --k->left > 0 && !k->w->failed;
}

/* What was purged and is kept has its bodies too. */
static void
check_history(struct world *w, struct machine *m)
{
    struct history_at after = {
        .epoch = 1,
        .lsn = sim_random(w, 1 + store_pos(machine_store(m)).applied.lsn)};
    struct kept k = {.w = w, .m = m, .left = 4};
    struct error err = {0};
    bool more;

    const enum errcode rc = store_history_walk(machine_store(m), &after,
                                               check_kept, &k, &more, &err);
    if (rc != ERR_OK && m->death == ALIVE && !m->damaged)
        sim_violation(w, "n%u: history: %s", m->i, err.text);
}

void
told_bodies(struct world *w, struct machine *m, unsigned n)
{
    check_history(w, m);
    struct store_snap *snap = store_snapshot(machine_store(m));
    struct arena a = ARENA_INIT;
    struct error err = {0};

    for (; n > 0 && m->line != NULL && m->line->model != NULL; n--) {
        mbid_t id = model_random_mailbox(m->line, sim_random(w, 1U << 30));
        struct mailbox mb;
        struct message msg;
        if (id == 0 || snap_mailbox(snap, id, &a, &mb, &err) != ERR_OK)
            continue;
        struct msg_iter *it = snap_messages(
            snap, id, (uint32_t)sim_random(w, mb.uidnext) + 1, false);
        for (int k = 0; k < 4 && msg_iter_next(it, &msg); k++)
            check_body(w, m, &msg, mb.name);
        (void)!msg_iter_close(&it, &err);
        arena_reset(&a);
    }
    arena_free(&a);
    store_release(&snap);
}

/* ---- clients with caches ----------------------------------------------- */

enum cache_kind { CACHE_PLAIN, CACHE_CONDSTORE, CACHE_QRESYNC };

struct cached {
    uint32_t uid, flags;
    uint64_t guid, words;
};

struct listing {
    struct cached *v; /* by UID */
    size_t n, cap;
};

struct cache {
    enum cache_kind kind;
    char uniqueid[UNIQUEID_MAX + 1]; /* "": none yet */
    mbid_t id;
    uint32_t uidvalidity;
    modseq_t modseq;
    epoch_t epoch; /* of the newest master it has seen */
    struct listing l;
};

#define CACHES 6U

static uint64_t
words_hash(const struct message *m)
{
    uint64_t hash = m->nkeywords;

    for (size_t i = 0; i < m->nkeywords; i++)
        hash = XXH3_64bits_withSeed(m->keywords[i].p, m->keywords[i].n, hash);
    return hash;
}

static struct cached
cached_of(const struct message *m)
{
    return (struct cached){m->uid, m->flags, guid_key(&m->guid), words_hash(m)};
}

static size_t
listing_at(const struct listing *l, uint32_t uid)
{
    size_t low = 0, high = l->n;

    while (low < high) {
        size_t mid = (low + high) / 2;
        if (l->v[mid].uid < uid)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void
listing_put(struct listing *l, struct cached c)
{
    size_t at = listing_at(l, c.uid);

    if (at < l->n && l->v[at].uid == c.uid) {
        l->v[at] = c;
        return;
    }
    if (l->n == l->cap) {
        l->cap = l->cap * 2 + 16;
        l->v = xrealloc(l->v, l->cap * sizeof(*l->v));
    }
    memmove(&l->v[at + 1], &l->v[at], (l->n - at) * sizeof(*l->v));
    l->v[at] = c;
    l->n++;
}

static void
listing_drop(struct listing *l, uint32_t uid)
{
    size_t at = listing_at(l, uid);

    if (at == l->n || l->v[at].uid != uid)
        return;
    memmove(&l->v[at], &l->v[at + 1], (l->n - at - 1) * sizeof(*l->v));
    l->n--;
}

/* Does SINCE come from a history that is no more? */
static bool
is_dead(struct store_snap *snap, modseq_t since)
{
    struct error err = {0};
    modseq_t from;

    return snap_living_modseq(snap, since, &from, &err) != ERR_OK ||
           from != since;
}

struct resync {
    struct cache *c;
    struct store_snap *snap;
    struct arena a;
};

static bool
on_changed(void *ctx, modseq_t modseq, uint32_t uid)
{
    struct resync *r = ctx;
    struct message m;
    struct error err = {0};

    (void)modseq;
    arena_reset(&r->a);
    if (snap_message(r->snap, r->c->id, uid, &r->a, &m, &err) != ERR_OK ||
        (m.flags & FLAG_EXPUNGED) != 0) {
        if (r->c->kind == CACHE_QRESYNC)
            listing_drop(&r->c->l, uid); /* VANISHED */
    } else {
        listing_put(&r->c->l, cached_of(&m));
    }
    return true;
}

static void
list(struct store_snap *snap, mbid_t id, struct listing *ret)
{
    struct msg_iter *it = snap_messages(snap, id, 1, false);
    struct message m;
    struct error err = {0};

    while (msg_iter_next(it, &m))
        listing_put(ret, cached_of(&m));
    (void)!msg_iter_close(&it, &err);
}

/* Bring C level, the way its kind does; then compare with FRESH. */
static void
bring_level(struct world *w, struct machine *m, struct cache *c,
            struct store_snap *snap, const struct listing *fresh)
{
    struct resync r = {.c = c, .snap = snap};
    struct error err = {0};
    const bool full = c->kind == CACHE_PLAIN || is_dead(snap, c->modseq);
    const bool gone_by_list =
        c->kind != CACHE_QRESYNC || full ||
        model_purged(m->line, c->id) > modseq_lsn(c->modseq);

    if (full) {
        for (size_t i = 0; i < fresh->n; i++) {
            size_t at = listing_at(&c->l, fresh->v[i].uid);
            struct cached x = fresh->v[i];
            if (at < c->l.n && c->l.v[at].uid == x.uid)
                x.guid = c->l.v[at].guid; /* its body is here already */
            listing_put(&c->l, x);
        }
    } else if (snap_changed(snap, c->id, c->modseq, on_changed, &r, &err) !=
               ERR_OK) {
        sim_violation(w, "I10: n%u: %s", m->i, err.text);
    }
    for (size_t i = 0; gone_by_list && i < c->l.n;) {
        size_t at = listing_at(fresh, c->l.v[i].uid);
        if (at < fresh->n && fresh->v[at].uid == c->l.v[i].uid)
            i++;
        else
            listing_drop(&c->l, c->l.v[i].uid);
    }
    for (size_t i = 0; i < MAX(c->l.n, fresh->n); i++) {
        const struct cached *x = i < c->l.n ? &c->l.v[i] : NULL;
        const struct cached *y = i < fresh->n ? &fresh->v[i] : NULL;
        if (x != NULL && y != NULL && x->uid == y->uid &&
            x->flags == y->flags && x->guid == y->guid && x->words == y->words)
            continue;
        sim_violation(w,
                      "I10: n%u: cache of kind %d at %llx: UID %u flags %x, it "
                      "is UID %u flags %x",
                      m->i, (int)c->kind, (unsigned long long)c->modseq,
                      x == NULL ? 0 : x->uid, x == NULL ? 0 : x->flags,
                      y == NULL ? 0 : y->uid, y == NULL ? 0 : y->flags);
        break;
    }
    arena_free(&r.a);
}

static void
resync_one(struct world *w, struct machine *m, struct cache *c)
{
    struct store_snap *snap = store_snapshot(machine_store(m));
    struct listing fresh = {0};
    struct arena a = ARENA_INIT;
    struct mailbox mb;
    struct error err = {0};
    enum errcode rc = ERR_NOTFOUND;

    if (c->uniqueid[0] == '\0') {
        mbid_t id = model_random_mailbox(m->line, sim_random(w, 1U << 30));
        if (id != 0)
            rc = snap_mailbox(snap, id, &a, &mb, &err);
    } else {
        rc = snap_mailbox_by_uniqueid(snap, c->uniqueid, &a, &mb, &err);
    }
    if (rc != ERR_OK) {
        c->uniqueid[0] = '\0';
        c->l.n = 0;
        c->uidvalidity = 0;
    } else {
        list(snap, mb.id, &fresh);
        sim_trace(w, "cache %d at n%u: %s from %llx to %llx, %zu messages",
                  (int)(c - w->caches), m->i, mb.name,
                  (unsigned long long)c->modseq,
                  (unsigned long long)mb.highestmodseq, fresh.n);
        snprintf(c->uniqueid, sizeof(c->uniqueid), "%s", mb.uniqueid.s);
        c->id = mb.id;
        c->epoch = store_epoch(machine_store(m));
        if (c->uidvalidity != mb.uidvalidity) {
            c->l.n = 0;
            for (size_t i = 0; i < fresh.n; i++)
                listing_put(&c->l, fresh.v[i]);
        } else {
            bring_level(w, m, c, snap, &fresh);
        }
        c->uidvalidity = mb.uidvalidity;
        c->modseq = mb.highestmodseq;
    }
    free(fresh.v);
    arena_free(&a);
    store_release(&snap);
}

void
caches_resync(struct world *w)
{
    if (w->caches == NULL) {
        w->caches = xcalloc(CACHES, sizeof(*w->caches));
        for (unsigned i = 0; i < CACHES; i++)
            w->caches[i].kind = (enum cache_kind)(i % 3);
    }
    struct cache *c = &w->caches[sim_random(w, CACHES)];
    struct machine *m = &w->m[sim_random(w, NODES)];
    if (!machine_is_master(m))
        return;
    history_observe(w, m);
    if (m->line == NULL || store_epoch(machine_store(m)) < c->epoch ||
        w->failed)
        return;
    model_advance(w, m->line);
    resync_one(w, m, c);
}

void
caches_free(struct world *w)
{
    for (unsigned i = 0; w->caches != NULL && i < CACHES; i++)
        free(w->caches[i].l.v);
    free(w->caches);
}
