/*
 * tests/sim/clients.c - clients that change something: random transactions, and
 * deliveries that an MTA tries again until each recipient has an answer.
 *
 * What is answered is taken down with the instance that answered; what an
 * instance says while it dies is heard by nobody.
 */
#include "tests/sim/sim_private.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define IN_FLIGHT_MAX 24U
#define RCPTS 3U

struct delivery {
    uint64_t id;
    unsigned nrcpts;
    bool flying;
    uint64_t again_at;
    struct {
        unsigned name;
        bool done;
        struct line *line; /* where it was answered */
        lsn_t lsn;
        uint8_t mark[16];
    } rcpt[RCPTS];
};

struct clients {
    struct delivery *v;
    size_t n, cap;
    size_t open; /* below it all are done */
    unsigned flying;
    uint64_t next_mail;
};

struct flight {
    struct world *w;
    struct machine *m;
    unsigned life;
    size_t delivery; /* index + 1; 0: none */
    size_t op_rcpt[RCPTS];
    size_t nops;
    bool probe;
    struct guid guid; /* of a single append */
    mbid_t append_id;
};

static const char *const names[] = {
    "user.ann", "user.ann.Sent", "user.ann.Sent.Old", "user.ann.Trash",
    "user.bob", "user.bob.Sent", "user.bob.Sent.Old", "user.bob.Trash",
    "shared",   "shared.list",   "shared.list.a",     "user.eve",
};

const char *const sim_users[SIM_USERS] = {"ann", "bob", "eve", "dan"};

void
clients_init(struct world *w)
{
    w->clients = xcalloc(1, sizeof(*w->clients));
}

void
clients_free(struct world *w)
{
    free(w->clients->v);
    free(w->clients);
}

static struct body *
make_body(uint64_t seed, size_t bytes)
{
    struct error err = {0};
    struct body *b = body_new(env_system(), "/tmp", UINT64_C(1) << 30);
    AUTO(buf_free) struct buf text = BUF_INIT;
    uint8_t *to = buf_reserve(&text, bytes + 64);
    size_t n = (size_t)snprintf((char *)to, 64, "Subject: %llu\r\n\r\n",
                                (unsigned long long)seed);

    for (; n < bytes; n += 8) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        uint64_t word = (seed >> 20 & UINT64_C(0x0f0f0f0f0f0f0f0f)) +
                        UINT64_C(0x6161616161616161);
        memcpy(to + n, &word, 8);
    }
    ENSURE(body_write(b, span_of(to, MAX(bytes, (size_t)20)), &err) == ERR_OK);
    ENSURE(body_finish(b, &err) == ERR_OK);
    return b;
}

/* ---- answers ----------------------------------------------------------- */

static void
note_ack(struct flight *f, const struct store_txn *txn)
{
    struct machine *m = f->m;
    struct world *w = f->w;
    const lsn_t lsn = txn_lsn(txn);
    const epoch_t epoch = store_pos(machine_store(m)).applied.epoch;

    w->res->acked++;
    if (lsn == LSN_NONE)
        return;
    m->acked = MAX(m->acked, lsn);
    if (env_exists(env_sim_env(m->sim), m->fence))
        sim_violation(w, "P3: n%u answers %llu and its fence is up", m->i,
                      (unsigned long long)lsn);
    if (store_role(machine_store(m)) != ROLE_MASTER)
        sim_violation(w, "I6: n%u answers %llu and is no master", m->i,
                      (unsigned long long)lsn);
    unsigned *acker = &w->acker[epoch % ARRAY_LEN(w->acker)];
    if (*acker != 0 && *acker != m->i + 1)
        sim_violation(w, "I6: n%u and n%u answer in epoch %u", *acker - 1, m->i,
                      epoch);
    *acker = m->i + 1;
}

/* An answered append can be seen. */
static void
look_for_append(struct flight *f, const struct txn_result *res)
{
    struct store_snap *snap = store_snapshot(machine_store(f->m));
    struct arena a = ARENA_INIT;
    struct message msg;
    struct mailbox mb;
    struct error err = {0};
    const uint32_t uid = uidset_next(&res->uids, 1);

    enum errcode rc = snap_message(snap, f->append_id, uid, &a, &msg, &err);
    if (rc == ERR_OK && !guid_eq(&msg.guid, &f->guid))
        sim_violation(f->w, "I7: n%u: UID %u that was answered is another",
                      f->m->i, uid);
    if (rc != ERR_OK &&
        snap_mailbox(snap, f->append_id, &a, &mb, &err) == ERR_OK &&
        mb.uidnext <= uid)
        sim_violation(f->w, "I4: n%u: UID %u was answered and is not there",
                      f->m->i, uid);
    arena_free(&a);
    store_release(&snap);
}

static void
note_delivery(struct flight *f, const struct store_txn *txn)
{
    struct delivery *d = &f->w->clients->v[f->delivery - 1];

    history_observe(f->w, f->m);
    for (size_t i = 0; i < f->nops; i++) {
        const struct txn_result *res = txn_result(txn, i);
        size_t r = f->op_rcpt[i];
        if (res->code == ERR_OK || res->code == ERR_EXISTS) {
            d->rcpt[r].done = true;
            d->rcpt[r].line = f->m->line;
            d->rcpt[r].lsn = txn_lsn(txn);
        } else if (res->code == ERR_NOTFOUND || res->code == ERR_QUOTA ||
                   res->code == ERR_LIMIT) {
            d->rcpt[r].done = true; /* bounced */
        }
    }
}

static void
on_done(void *ctx, struct store_txn *txn)
{
    struct flight *f = ctx;
    struct world *w = f->w;
    const bool heard = f->m->death == ALIVE && f->m->life == f->life &&
                       machine_store(f->m) != NULL;
    const enum errcode rc = txn_code(txn);

    w->clients->flying--;
    if (f->delivery != 0) {
        struct delivery *d = &w->clients->v[f->delivery - 1];
        d->flying = false;
        d->again_at = w->now + sim_random(w, 200 * US_PER_MS);
    }
    if (!heard || rc == ERR_CLOSED || rc == ERR_IO) {
        w->res->unknown++;
    } else if (rc == ERR_OK) {
        note_ack(f, txn);
        if (f->probe)
            w->probes++;
        if (f->delivery != 0)
            note_delivery(f, txn);
        if (f->append_id != 0)
            look_for_append(f, txn_result(txn, 0));
    } else {
        w->res->refused++;
    }
    sim_trace(w, "n%u %s %s %llu", f->m->i, f->delivery ? "delivery" : "op",
              heard ? errcode_name(rc) : "unheard",
              (unsigned long long)txn_lsn(txn));
    txn_free(&txn);
    free(f);
}

static struct flight *
flight_new(struct world *w, struct machine *m)
{
    struct flight *f = xcalloc(1, sizeof(*f));

    f->w = w;
    f->m = m;
    f->life = m->life;
    return f;
}

static void
submit(struct flight *f, struct store_txn *txn)
{
    struct machine *m = f->m;

    f->w->clients->flying++;
    if (m->step_at <= f->w->now)
        m->step_at = f->w->now + sim_random(f->w, m->slow_us + 1);
    store_submit(machine_store(m), txn, on_done, f);
}

/* ---- random transactions ----------------------------------------------- */

static mbid_t
random_box(struct world *w, struct machine *m)
{
    return m->line == NULL
               ? 0
               : model_random_mailbox(m->line, sim_random(w, 1U << 30));
}

static struct uidset
random_uids(struct world *w, struct machine *m, mbid_t id)
{
    struct uidset s = UIDSET_INIT;
    struct store_snap *snap = store_snapshot(machine_store(m));
    struct arena a = ARENA_INIT;
    struct mailbox mb = {.uidnext = 10};
    struct error err = {0};

    (void)!snap_mailbox(snap, id, &a, &mb, &err);
    for (uint64_t n = sim_random(w, 3) + 1; n > 0; n--) {
        /* The newest, mostly; UIDs jump at promotions. */
        uint32_t back = (uint32_t)sim_random(w, sim_one_in(w, 3) ? 1200 : 12);
        uint32_t first = mb.uidnext > back ? mb.uidnext - back : 1;
        uidset_add(&s, MAX(first, 1U),
                   MAX(first, 1U) + (uint32_t)sim_random(w, 6));
    }
    arena_free(&a);
    store_release(&snap);
    return s;
}

static size_t
random_size(struct world *w)
{
    if (w->segment_bytes >= (UINT64_C(8) << 20) && sim_one_in(w, 100))
        return (size_t)(1100000 + sim_random(w, 1500000));
    return (size_t)(20 + sim_random(w, sim_one_in(w, 4) ? 6000 : 400));
}

static void
add_append(struct world *w, struct store_txn *txn, mbid_t id, struct guid *ret)
{
    struct body *b = make_body(sim_random(w, 60), random_size(w));
    struct span word = SPAN_LIT("$Work");

    txn_append(
        txn, &(struct txn_append){.id = id,
                                  .body = b,
                                  .flags = (uint32_t)sim_random(w, 32),
                                  .keywords = &word,
                                  .nkeywords = sim_random(w, 2),
                                  .internal_s = (int64_t)sim_random(w, 1000000),
                                  .check_quota = true,
                                  .independent = sim_one_in(w, 3)});
    *ret = *body_guid(b);
    body_free(&b);
}

static void
add_flags(struct world *w, struct store_txn *txn, mbid_t id,
          const struct uidset *uids)
{
    static const char *const words[] = {"$Work", "$Todo", "Later"};
    struct span word = span_str(words[sim_random(w, 3)]);

    txn_flags(txn,
              &(struct txn_flags){.id = id,
                                  .uids = uids,
                                  .mode = (enum txn_flag_mode)sim_random(w, 3),
                                  .flags = (uint32_t)sim_random(w, 32),
                                  .keywords = &word,
                                  .nkeywords = sim_random(w, 2)});
}

static void
add_quota(struct world *w, struct store_txn *txn)
{
    uint64_t limit[QUOTA_RESOURCES] = {
        [QUOTA_STORAGE] = 20000 + sim_random(w, 40000),
        [QUOTA_MESSAGE] = sim_one_in(w, 2) ? QUOTA_UNLIMITED : 60,
        [QUOTA_FOLDERS] = sim_one_in(w, 2) ? QUOTA_UNLIMITED : 4,
        [QUOTA_ANNOTATION] = QUOTA_UNLIMITED,
    };

    txn_quota(txn, names[sim_random(w, ARRAY_LEN(names))],
              sim_one_in(w, 2) ? limit : NULL);
}

/* Annotations, \Seen of others, messages that come back. */
static void
add_state(struct world *w, struct store_txn *txn, mbid_t id,
          const struct uidset *uids)
{
    struct span value = SPAN_LIT("note");

    switch (sim_random(w, 4)) {
    case 0:
        txn_annotate(txn, &(struct txn_annot){
                              .id = id,
                              .uids = sim_one_in(w, 3) ? NULL : uids,
                              .entry = "/comment",
                              .user = sim_one_in(w, 2) ? "" : "ann",
                              .value = sim_one_in(w, 3) ? NULL : &value});
        break;
    case 1:
        txn_seen(txn, id, sim_one_in(w, 2) ? "ann" : "bob", uids,
                 sim_one_in(w, 2));
        break;
    case 2:
        txn_unexpunge(txn, id, uids, sim_one_in(w, 2));
        break;
    default:
        txn_delete_tree(txn, id, true, w->now / US_PER_S + 7000);
        break;
    }
}

/* Scripts, and users who get another name or go. */
static void
add_user_op(struct world *w, struct store_txn *txn)
{
    static const char *const scripts[] = {"main", "vacation"};
    const char *user = sim_users[sim_random(w, SIM_USERS)];
    const char *script = scripts[sim_random(w, ARRAY_LEN(scripts))];
    char text[40];
    snprintf(text, sizeof(text), "# %llu\r\nkeep;\r\n",
             (unsigned long long)sim_random(w, 1000));
    struct span value = span_str(text);
    struct span name = span_str(script);

    switch (sim_random(w, 8)) {
    case 0:
    case 1:
        txn_rename_user(txn, user, sim_users[sim_random(w, SIM_USERS)]);
        break;
    case 2:
        if (sim_one_in(w, 3)) {
            txn_user_remove_all(txn, user);
            break;
        }
        txn_user(txn, user, USER_SIEVE_ACTIVE, "", NULL);
        break;
    case 3:
        txn_user(txn, user, USER_SIEVE, script, NULL);
        break;
    case 4:
        txn_user(txn, user, USER_SIEVE_ACTIVE, "", &name);
        break;
    default:
        txn_user(txn, user, USER_SIEVE, script, &value);
        break;
    }
}

/* As cyr_expire does: all tombstones of a mailbox. */
static void
add_expiry(struct store_txn *txn, mbid_t id)
{
    struct uidset all = UIDSET_INIT;

    uidset_add(&all, 1, UINT32_MAX - 1);
    txn_purge(txn, id, &all);
    uidset_free(&all);
}

static void
add_op(struct world *w, struct machine *m, struct store_txn *txn,
       struct flight *f, bool alone)
{
    mbid_t id = random_box(w, m);
    struct uidset uids = random_uids(w, m, id);
    struct span value = SPAN_LIT("x");
    const char *name = names[sim_random(w, ARRAY_LEN(names))];
    struct guid guid;

    switch (sim_random(w, 27)) {
    case 0:
    case 1:
        txn_create(txn, &(struct txn_mailbox){.name = name,
                                              .exist_ok = sim_one_in(w, 2)});
        break;
    case 2:
        txn_rename(txn, id, name, sim_one_in(w, 2));
        break;
    case 3:
        if (sim_one_in(w, 3))
            txn_delete(txn, id, !sim_one_in(w, 4), w->now / US_PER_S + 5000);
        else
            txn_set_special_use(txn, id, sim_one_in(w, 2) ? "\\Sent" : "");
        break;
    case 4:
        if (sim_one_in(w, 3))
            add_quota(w, txn);
        else
            txn_set_acl(txn, id,
                        sim_one_in(w, 2) ? "ann\tlr\t-bob\tw\t" : "bob\tl\t",
                        sim_one_in(w, 3) ? "ann\tlr\t-bob\tw\t" : NULL);
        break;
    case 5:
        txn_user(txn, sim_one_in(w, 2) ? "ann" : "bob", USER_SUBSCRIPTION, name,
                 sim_one_in(w, 3) ? NULL : &value);
        break;
    case 6:
        if (sim_one_in(w, 2))
            add_state(w, txn, id, &uids);
        else
            txn_set_recent(txn, id, (uint32_t)sim_random(w, 30));
        break;
    case 7:
    case 8:
        txn_copy(txn, id, &uids, random_box(w, m), sim_one_in(w, 2),
                 !sim_one_in(w, 3));
        break;
    case 9:
    case 10:
    case 11:
        txn_expunge(txn, id, &uids, sim_one_in(w, 2));
        break;
    case 12:
        if (sim_one_in(w, 3))
            add_expiry(txn, id);
        else
            txn_purge(txn, id, &uids);
        break;
    case 13:
    case 14:
    case 15:
    case 16:
        add_flags(w, txn, id, &uids);
        break;
    case 17:
        add_user_op(w, txn);
        break;
    default:
        add_append(w, txn, id, &guid);
        if (alone) {
            f->guid = guid;
            f->append_id = id;
        }
        break;
    }
    uidset_free(&uids);
}

static void
random_txn(struct world *w, struct machine *m)
{
    struct store_txn *txn = txn_new();
    struct flight *f = flight_new(w, m);
    const uint64_t n = sim_one_in(w, 3) ? 2 + sim_random(w, 2) : 1;

    for (uint64_t i = 0; i < n; i++)
        add_op(w, m, txn, f, n == 1);
    submit(f, txn);
}

/* ---- deliveries -------------------------------------------------------- */

static mbid_t
lookup(struct machine *m, const char *name)
{
    struct store_snap *snap = store_snapshot(machine_store(m));
    struct arena a = ARENA_INIT;
    struct mailbox mb = {0};
    struct error err = {0};

    enum errcode rc = snap_mailbox_by_name(snap, name, &a, &mb, &err);
    store_release(&snap);
    arena_free(&a);
    return rc == ERR_OK ? mb.id : 0;
}

static bool
is_done(const struct delivery *d)
{
    for (unsigned i = 0; i < d->nrcpts; i++)
        if (!d->rcpt[i].done)
            return false;
    return true;
}

static void
send(struct world *w, struct machine *m, size_t index)
{
    struct delivery *d = &w->clients->v[index];
    struct store_txn *txn = txn_new();
    struct flight *f = flight_new(w, m);
    struct body *b = make_body(1000000 + d->id, 60 + d->id % 700);

    for (unsigned i = 0; i < d->nrcpts; i++) {
        if (d->rcpt[i].done)
            continue;
        struct txn_append a = {.id = lookup(m, names[d->rcpt[i].name]),
                               .body = b,
                               .internal_s = (int64_t)d->id,
                               .independent = true};
        memcpy(a.dedup, d->rcpt[i].mark, sizeof(a.dedup));
        f->op_rcpt[f->nops++] = i;
        txn_append(txn, &a);
    }
    body_free(&b);
    f->delivery = index + 1;
    d->flying = true;
    submit(f, txn);
}

static void
new_delivery(struct world *w, struct machine *m)
{
    struct clients *c = w->clients;

    if (c->n == c->cap) {
        c->cap = c->cap * 2 + 64;
        c->v = xrealloc(c->v, c->cap * sizeof(*c->v));
    }
    struct delivery *d = &c->v[c->n++];
    *d = (struct delivery){.id = ++c->next_mail,
                           .nrcpts = 1 + (unsigned)sim_random(w, RCPTS)};
    for (unsigned i = 0; i < d->nrcpts; i++) {
        d->rcpt[i].name =
            (unsigned)(sim_random(w, ARRAY_LEN(names) / RCPTS) * RCPTS + i);
        const uint64_t key[2] = {d->id, d->rcpt[i].name};
        XXH128_hash_t h = XXH3_128bits(key, sizeof(key));
        memcpy(d->rcpt[i].mark, &h, sizeof(h));
    }
    send(w, m, c->n - 1);
}

/* The oldest one that waits for another try. */
static bool
retry(struct world *w, struct machine *m, bool now)
{
    struct clients *c = w->clients;

    while (c->open < c->n && is_done(&c->v[c->open]))
        c->open++;
    for (size_t i = c->open; i < c->n; i++)
        if (!c->v[i].flying && !is_done(&c->v[i]) &&
            (now || c->v[i].again_at <= w->now)) {
            send(w, m, i);
            return true;
        }
    return false;
}

/* ---- the world's side -------------------------------------------------- */

void
clients_step(struct world *w)
{
    struct machine *m = &w->m[sim_random(w, NODES)];

    for (unsigned i = 0; i < NODES && !machine_is_master(m); i++)
        m = &w->m[(m->i + 1) % NODES];
    if (!machine_is_master(m) || w->clients->flying >= IN_FLIGHT_MAX)
        return;
    told_look(w, m, 1);
    if (w->failed)
        return;
    if (!retry(w, m, false)) {
        if (sim_one_in(w, 5))
            new_delivery(w, m);
        else
            random_txn(w, m);
    }
    if (sim_one_in(w, 4))
        caches_resync(w);
}

void
clients_rush(struct world *w, struct machine *m)
{
    if (m->line != NULL && !w->failed && w->clients->flying < IN_FLIGHT_MAX)
        random_txn(w, m);
}

void
clients_lost(struct world *w, struct machine *m)
{
    (void)w;
    m->role_lost = false;
}

bool
clients_finish(struct world *w)
{
    for (unsigned i = 0; i < NODES; i++)
        if (machine_is_master(&w->m[i]) && w->clients->flying < IN_FLIGHT_MAX)
            return !retry(w, &w->m[i], true) && w->clients->flying == 0;
    return false;
}

void
clients_check_deliveries(struct world *w)
{
    const struct clients *c = w->clients;

    for (size_t i = 0; i < c->n && !w->failed; i++)
        for (unsigned r = 0; r < c->v[i].nrcpts; r++) {
            struct line *line = c->v[i].rcpt[r].line;
            if (line == NULL)
                continue;
            model_advance(w, line);
            if (model_deliveries(line, c->v[i].rcpt[r].mark) != 1)
                sim_violation(w, "I12: delivery %llu is there %u times",
                              (unsigned long long)c->v[i].id,
                              model_deliveries(line, c->v[i].rcpt[r].mark));
        }
}

bool
clients_probe(struct world *w, struct machine *m)
{
    struct store_txn *txn = txn_new();
    struct flight *f = flight_new(w, m);
    const uint64_t before = w->probes;
    struct span value = SPAN_LIT("probe");

    f->probe = true;
    AUTO(xfree) char *name = xasprintf("probe%llu", (unsigned long long)w->now);
    txn_user(txn, "probe", USER_SUBSCRIPTION, name, &value);
    w->clients->flying++;
    store_submit(machine_store(m), txn, on_done, f);
    for (int i = 0; i < 10 && m->death == ALIVE; i++)
        (void)store_step(machine_store(m));
    return w->probes > before;
}
