/*
 * tests/sim/test_twins.c - a pair of stores on machines in memory, driven from
 * a seed: work, shipping in pieces, power cuts of either, planned swaps and
 * promotions that leave a tail behind.  A failing seed is printed.
 *
 * Checked after each step (numbers of reliability.md 6.1): I1 what was answered
 * is there after a cut, I2 counters and digests are those of the messages, I5
 * equal LSN means equal chain and digest, I7 a UID names one GUID for ever,
 * over promotions too, I8 and I9 UIDNEXT and HIGHESTMODSEQ never fall.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/storetest.h"

#define SEEDS 30U
#define STEPS 40U
#define NAMES_MAX 65536U
#define HEADROOM 1000U

/* What clients have ever been shown: (mailbox, UIDVALIDITY, UID) -> GUID. */
struct shown {
    mbid_t id;
    uint32_t uidvalidity;
    uint32_t uid;
    struct guid guid;
};

struct heads {
    mbid_t id;
    uint32_t uidvalidity;
    uint32_t uidnext;
    modseq_t highest;
};

struct world {
    struct teststore twins[2];
    unsigned master;
    epoch_t epoch;
    uint64_t rng;
    uint64_t seed;
    struct shown *shown; /* open addressing */
    struct heads heads[256];
    size_t nheads;
};

static struct teststore *
master_of(struct world *w)
{
    return &w->twins[w->master];
}

static struct teststore *
replica_of(struct world *w)
{
    return &w->twins[1 - w->master];
}

/* ---- invariants -------------------------------------------------------- */

static void
see_message(struct world *w, const struct mailbox *mb, const struct message *m)
{
    uint64_t at = (mb->id * 0x9e3779b97f4a7c15U ^ m->uid * 0xff51afd7ed558ccdU ^
                   mb->uidvalidity) %
                  NAMES_MAX;

    for (;; at = (at + 1) % NAMES_MAX) {
        struct shown *s = &w->shown[at];
        if (s->uid == 0) {
            *s = (struct shown){mb->id, mb->uidvalidity, m->uid, m->guid};
            return;
        }
        if (s->id == mb->id && s->uidvalidity == mb->uidvalidity &&
            s->uid == m->uid) {
            if (!guid_eq(&s->guid, &m->guid))
                fail_msg("seed %u: I7: UID %u names another message",
                         (unsigned)w->seed, m->uid);
            return;
        }
    }
}

static void
see_head(struct world *w, const struct mailbox *mb)
{
    for (size_t i = 0; i < w->nheads; i++) {
        struct heads *h = &w->heads[i];
        if (h->id != mb->id || h->uidvalidity != mb->uidvalidity)
            continue;
        if (mb->uidnext < h->uidnext || mb->highestmodseq < h->highest)
            fail_msg("seed %u: I8/I9: %s went back", (unsigned)w->seed,
                     mb->name);
        h->uidnext = mb->uidnext;
        h->highest = mb->highestmodseq;
        return;
    }
    if (w->nheads < ARRAY_LEN(w->heads))
        w->heads[w->nheads++] = (struct heads){mb->id, mb->uidvalidity,
                                               mb->uidnext, mb->highestmodseq};
}

struct look {
    struct world *w;
    struct store_snap *snap;
};

static bool
see_mailbox(void *ctx, const struct mailbox *mb)
{
    struct look *l = ctx;
    struct msg_iter *it = snap_messages(l->snap, mb->id, 1, true);
    struct message m;
    struct error err = {0};

    see_head(l->w, mb);
    while (msg_iter_next(it, &m))
        see_message(l->w, mb, &m);
    assert_int_equal(msg_iter_close(&it, &err), ERR_OK);
    return true;
}

/* Look at the master as a client would. */
static void
see_master(struct world *w)
{
    struct look l = {.w = w, .snap = store_snapshot(master_of(w)->store)};
    struct error err = {0};

    assert_int_equal(snap_each_mailbox(l.snap, "", see_mailbox, &l, &err),
                     ERR_OK);
    store_release(&l.snap);
}

static void
check_equal(struct world *w)
{
    struct store_pos a = store_pos(w->twins[0].store);
    struct store_pos b = store_pos(w->twins[1].store);

    if (a.applied.lsn == b.applied.lsn &&
        (a.chain != b.chain || a.digest != b.digest))
        fail_msg("seed %u: I5: differs at %u", (unsigned)w->seed,
                 (unsigned)a.applied.lsn);
}

/* ---- steps ------------------------------------------------------------- */

static void
work(struct world *w)
{
    for (uint64_t n = 1 + ts_random(&w->rng, 8); n > 0; n--)
        (void)ts_random_txn(master_of(w), &w->rng);
}

static void
ship(struct world *w)
{
    size_t piece = 1 + (size_t)ts_random(&w->rng, 65536);

    if (ts_ship(master_of(w), replica_of(w), piece) != ERR_OK)
        fail_msg("seed %u: the replica refuses", (unsigned)w->seed);
    check_equal(w);
}

static void
set_roles(struct world *w)
{
    store_set_role(replica_of(w)->store, ROLE_REPLICA, w->epoch);
    store_set_role(master_of(w)->store, ROLE_MASTER, w->epoch);
}

static void
cut_power(struct world *w, unsigned who)
{
    struct teststore *ts = &w->twins[who];
    struct error err = {0};
    lsn_t acked = ts->acked;

    ts_crash(ts, ts_random(&w->rng, UINT64_MAX));
    if (ts_open(ts, &err) != ERR_OK)
        fail_msg("seed %u: %s", (unsigned)w->seed, err.text);
    if (store_pos(ts->store).applied.lsn < acked)
        fail_msg("seed %u: I1: %u was answered, %u is there", (unsigned)w->seed,
                 (unsigned)acked, (unsigned)store_pos(ts->store).applied.lsn);
    set_roles(w);
    ts_verify(ts);
    check_equal(w);
}

static void
begin_epoch(struct world *w, uint32_t headroom)
{
    struct error err = {0};

    w->epoch++;
    w->master = 1 - w->master;
    set_roles(w);
    if (store_begin_epoch(master_of(w)->store, w->epoch, headroom, "test",
                          &err) != ERR_OK)
        fail_msg("seed %u: %s", (unsigned)w->seed, err.text);
    master_of(w)->acked = store_pos(master_of(w)->store).applied.lsn;
}

static void
swap(struct world *w)
{
    ship(w);
    begin_epoch(w, 0);
    ship(w);
}

/* The master dies with what it had not shipped; its twin takes over; it comes
 * back empty and follows from the beginning of the log. */
static void
lose_master(struct world *w)
{
    unsigned old = w->master;

    see_master(w); /* clients have seen the tail */
    begin_epoch(w, HEADROOM);
    ts_free(&w->twins[old]);
    ts_new(&w->twins[old], ts_random(&w->rng, UINT64_MAX), 0);
    set_roles(w);
    ship(w);
}

static void
one_seed(uint64_t seed)
{
    struct world *w = calloc(1, sizeof(*w));

    w->seed = seed;
    w->rng = seed * 0x9e3779b97f4a7c15U + 1;
    w->epoch = 1;
    w->shown = calloc(NAMES_MAX, sizeof(*w->shown));
    ts_new_master(&w->twins[0], seed, 0);
    ts_new(&w->twins[1], seed + 1000000, 0);
    for (unsigned i = 0; i < STEPS; i++) {
        switch (ts_random(&w->rng, 10)) {
        case 0:
            cut_power(w, 0);
            break;
        case 1:
            cut_power(w, 1);
            break;
        case 2:
            swap(w);
            break;
        case 3:
            lose_master(w);
            break;
        case 4:
        case 5:
            ship(w);
            break;
        default:
            work(w);
            break;
        }
        see_master(w);
    }
    ship(w);
    ts_verify(&w->twins[0]);
    ts_verify(&w->twins[1]);
    struct store_pos a = store_pos(w->twins[0].store);
    struct store_pos b = store_pos(w->twins[1].store);
    assert_int_equal(a.applied.lsn, b.applied.lsn);
    ts_free(&w->twins[0]);
    ts_free(&w->twins[1]);
    free(w->shown);
    free(w);
}

static void
test_twins_keep_every_invariant_whatever_happens(void **state)
{
    (void)state;
    const char *only = getenv("POLLUX_SEED");
    const char *many = getenv("POLLUX_SEEDS");
    uint64_t seeds = SEEDS;
    uint64_t first = 1;

    if (many != NULL)
        assert_true(parse_u64(span_str(many), &seeds));
    if (only != NULL) {
        assert_true(parse_u64(span_str(only), &first));
        seeds = 1;
    }
    for (uint64_t seed = first; seed < first + seeds; seed++)
        one_seed(seed);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_twins_keep_every_invariant_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
