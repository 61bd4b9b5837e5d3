/*
 * tests/store/test_seed.c - an empty store is filled with the state of another:
 * equal afterwards, or empty and seeding after whatever went wrong or was cut,
 * and then the next attempt ends well.
 *
 * Both stores run in memory without threads; the giver has a few mailboxes and
 * messages, one of them with several parts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/env_sim.h"
#include "store/kv_mem.h"
#include "store/rows.h"
#include "store/seed.h"
#include "store/txn.h"
#include "synclog/reader.h"

#define MESSAGES 12U
#define OTHERS 600U
#define LARGE (BODY_PART_BYTES + 5000U)

static const struct instid cluster = {{1, 2, 3}};

struct machine {
    struct env_sim *sim;
    struct kv_disk *disk;
    struct store *store;
    uint8_t id;
};

static void
start(struct machine *m)
{
    struct store_config cfg = {.dir = "/var/be",
                               .pack_dir = "/var/be/packs",
                               .segment_bytes = 8U << 20,
                               .cluster = cluster,
                               .instance = {{9, m->id}},
                               .kv = kv_open_mem_on(m->disk),
                               .no_threads = true};
    struct store_opened found;
    struct error err = {0};
    enum errcode rc =
        store_open(env_sim_env(m->sim), &cfg, NULL, &m->store, &found, &err);

    if (rc != ERR_OK)
        print_error("%s\n", err.text);
    assert_int_equal(rc, ERR_OK);
}

static struct machine *
make_machine(uint8_t id)
{
    struct machine *m = xcalloc(1, sizeof(*m));

    m->id = id;
    m->sim = env_sim_new(&(struct env_sim_options){.seed = id});
    m->disk = kv_disk_new();
    start(m);
    return m;
}

static void
free_machine(struct machine **pm)
{
    struct machine *m = *pm;

    *pm = NULL;
    store_close(&m->store);
    kv_disk_free(&m->disk);
    env_sim_free(&m->sim);
    free(m);
}

/* The power goes and comes back. */
static void
cut_power(struct machine *m, uint64_t seed)
{
    env_sim_halt(m->sim);
    kv_disk_cut(m->disk, seed);
    store_close(&m->store);
    env_sim_crash(m->sim, seed);
    start(m);
}

/* ---- the giver ---------------------------------------------------------- */

static void
commit(struct store *store, struct store_txn *txn)
{
    struct error err = {0};
    enum errcode rc = store_commit(store, txn, &err);

    if (rc != ERR_OK)
        print_error("%s\n", err.text);
    assert_int_equal(rc, ERR_OK);
}

static struct body *
make_message(unsigned i)
{
    struct body *b = body_new(env_system(), "/tmp", 8U << 20);
    size_t n = i == 3 ? LARGE : 400 + i;
    uint8_t *bytes = xmalloc(n);
    struct error err = {0};

    for (size_t at = 0; at < n; at++)
        bytes[at] = (uint8_t)(at % 10 + 97 + (at / 4096 + i) % 7);
    assert_int_equal(body_write(b, span_of(bytes, n), &err), ERR_OK);
    assert_int_equal(body_finish(b, &err), ERR_OK);
    free(bytes);
    return b;
}

/* With N messages from number FIRST on. */
static struct machine *
make_giver_of(unsigned first, unsigned n)
{
    struct machine *m = make_machine(1);
    struct error err = {0};

    store_set_role(m->store, ROLE_MASTER, 1);
    assert_int_equal(store_begin_epoch(m->store, 1, 0, "first start", &err),
                     ERR_OK);
    struct store_txn *txn = txn_new();
    txn_create(txn, &(struct txn_mailbox){.name = "user.john"});
    txn_create(txn, &(struct txn_mailbox){.name = "user.john.Sent"});
    commit(m->store, txn);
    mbid_t inbox = txn_result(txn, 0)->id;
    txn_free(&txn);
    for (unsigned i = first; i < first + n; i++) {
        struct body *b = make_message(i);
        struct span keyword = SPAN_LIT("$Work");
        txn = txn_new();
        txn_append(txn, &(struct txn_append){.id = inbox,
                                             .body = b,
                                             .flags = i % 2 ? FLAG_SEEN : 0,
                                             .keywords = &keyword,
                                             .nkeywords = i % 3 ? 0 : 1,
                                             .internal_s = 1000000 + i});
        commit(m->store, txn);
        txn_free(&txn);
        body_free(&b);
    }
    txn = txn_new();
    struct span value = SPAN_LIT("");
    txn_user(txn, "john", USER_SUBSCRIPTION, "user.john", &value);
    txn_quota(txn, "user.john",
              (uint64_t[QUOTA_RESOURCES]){100U << 20, QUOTA_UNLIMITED,
                                          QUOTA_UNLIMITED, QUOTA_UNLIMITED});
    commit(m->store, txn);
    txn_free(&txn);
    struct uidset gone = UIDSET_INIT;
    uidset_add(&gone, 2, 3);
    txn = txn_new();
    txn_expunge(txn, inbox, &gone, false);
    commit(m->store, txn);
    txn_free(&txn);
    uidset_free(&gone);
    return m;
}

static struct machine *
make_giver(void)
{
    return make_giver_of(0, MESSAGES);
}

/* ---- the way between ---------------------------------------------------- */

/* What is done wrong on purpose, and where. */
enum wrong {
    NOTHING,
    STOP_IN_BODIES, /* after `at` parts */
    STOP_IN_ROWS,   /* after `at` rows */
    STOP_BEFORE_END,
    LOSE_ROW, /* number `at` */
    CHANGE_ROW,
    LOSE_BODY,
    SWAP_GUID,
    DAMAGE_PART,
    SKIP_PART,
};

struct way {
    struct machine *from;
    struct store_snap *snap;
    struct seed *seed;
    enum wrong wrong;
    unsigned at;
    unsigned parts_sent;
    unsigned bodies_seen;
    unsigned bodies_had; /* were there by GUID */
    unsigned bodies_put; /* whole, and taken */
    unsigned rows_sent;
    bool stopped;
    enum errcode rc;
    struct error err;
};

static bool
send_part(struct way *w, const struct guid *guid, uint32_t part,
          uint32_t *ret_parts)
{
    struct body_loc loc;
    struct buf stored = BUF_INIT;
    struct guid to = *guid;

    assert_int_equal(seed_read_part(w->from->store, w->snap, guid, part, &loc,
                                    &stored, &w->err),
                     ERR_OK);
    *ret_parts = loc.parts;
    if (w->wrong == STOP_IN_BODIES && w->parts_sent == w->at)
        w->stopped = true;
    if (w->wrong == SWAP_GUID && w->parts_sent == w->at)
        to.b[0] ^= 1;
    if (w->wrong == DAMAGE_PART && w->parts_sent == w->at)
        stored.p[stored.n / 2] ^= 1;
    w->parts_sent++;
    if (!w->stopped && !(w->wrong == SKIP_PART && loc.parts > 1 && part == 0))
        w->rc = seed_put_part(w->seed, &to, &loc, buf_span(&stored), &w->err);
    buf_free(&stored);
    return !w->stopped && w->rc == ERR_OK;
}

static bool
send_body(void *ctx, const struct guid *guid, uint64_t size)
{
    struct way *w = ctx;
    uint32_t parts = body_parts_of(size);

    if (seed_has(w->seed, guid)) {
        w->bodies_had++;
        return true;
    }
    if (w->wrong == LOSE_BODY && w->bodies_seen++ == w->at)
        return true;
    for (uint32_t i = 0; i < parts; i++)
        if (!send_part(w, guid, i, &parts))
            return false;
    w->bodies_put += w->rc == ERR_OK;
    if (w->parts_sent % 5 == 0)
        w->rc = seed_sync(w->seed, &w->err);
    return w->rc == ERR_OK;
}

static bool
send_row(void *ctx, struct span key, struct span value)
{
    struct way *w = ctx;
    struct buf own = BUF_INIT;
    unsigned number = w->rows_sent++;

    if (w->wrong == STOP_IN_ROWS && number == w->at)
        w->stopped = true;
    if (w->stopped)
        return false;
    if (w->wrong == LOSE_ROW && number == w->at)
        return true;
    buf_add(&own, value);
    if (w->wrong == CHANGE_ROW && number == w->at && own.n > 0)
        own.p[own.n - 1] ^= 1;
    w->rc = seed_put_row(w->seed, key, buf_span(&own), &w->err);
    buf_free(&own);
    return w->rc == ERR_OK;
}

/* All of it, as far as W goes; what came of it is in w->rc. */
static void
seed_all(struct way *w, struct machine *to)
{
    struct error err = {0};

    w->rc = seed_open(to->store, &w->seed, &w->err);
    assert_int_equal(w->rc, ERR_OK);
    w->snap = store_snapshot(w->from->store);
    struct store_pos pos = snap_pos(w->snap);
    assert_int_equal(seed_each_guid(w->snap, NULL, send_body, w, &err), ERR_OK);
    if (w->rc == ERR_OK && !w->stopped)
        w->rc = seed_sync(w->seed, &w->err);
    if (w->rc == ERR_OK && !w->stopped)
        w->rc = seed_begin_rows(w->seed, &w->err);
    if (w->rc == ERR_OK && !w->stopped)
        assert_int_equal(snap_each_row(w->snap, SPAN_EMPTY, send_row, w, &err),
                         ERR_OK);
    if (w->wrong == STOP_BEFORE_END)
        w->stopped = true;
    if (w->rc == ERR_OK && !w->stopped)
        w->rc = seed_finish(w->seed, &pos, &w->err);
    seed_close(&w->seed);
    store_release(&w->snap);
}

/* Are both the same, and can every message of the one be read of the other? */
static bool
read_both(void *ctx, const struct guid *guid, uint64_t size)
{
    struct machine **both = ctx;
    struct buf a = BUF_INIT;
    struct buf b = BUF_INIT;
    struct error err = {0};

    assert_int_equal(
        store_body_read(both[0]->store, guid, 0, UINT64_MAX, &a, &err), ERR_OK);
    assert_int_equal(
        store_body_read(both[1]->store, guid, 0, UINT64_MAX, &b, &err), ERR_OK);
    assert_int_equal(a.n, size);
    assert_true(span_eq(buf_span(&a), buf_span(&b)));
    buf_free(&a);
    buf_free(&b);
    return true;
}

static void
assert_equal(struct machine *a, struct machine *b)
{
    struct store_pos at = store_pos(a->store);
    struct store_pos bt = store_pos(b->store);
    struct machine *both[2] = {a, b};
    struct error err = {0};

    assert_false(store_is_empty(b->store));
    assert_int_equal(at.applied.lsn, bt.applied.lsn);
    assert_int_equal(at.applied.epoch, bt.applied.epoch);
    assert_true(at.digest == bt.digest && at.chain == bt.chain);
    struct store_snap *snap = store_snapshot(b->store);
    assert_int_equal(snap_verify(snap, &err), ERR_OK);
    store_release(&snap);
    snap = store_snapshot(a->store);
    assert_int_equal(seed_each_guid(snap, NULL, read_both, both, &err), ERR_OK);
    store_release(&snap);
}

static void
assert_empty(struct machine *m)
{
    assert_true(store_is_empty(m->store));
    assert_int_equal(atomic_load(&synclog_mark(store_log(m->store))->seeding),
                     1);
}

/* ---- tests -------------------------------------------------------------- */

static void
test_seeded_store_is_equal_and_stays_so(void **state)
{
    (void)state;
    struct machine *a = make_giver();
    struct machine *b = make_machine(2);
    struct way w = {.from = a};

    assert_true(store_is_empty(b->store));
    seed_all(&w, b);
    if (w.rc != ERR_OK)
        print_error("%s\n", w.err.text);
    assert_int_equal(w.rc, ERR_OK);
    assert_int_equal(w.parts_sent, MESSAGES + 1);
    assert_equal(a, b);
    assert_int_equal(atomic_load(&synclog_mark(store_log(b->store))->seeding),
                     0);
    cut_power(b, 5);
    assert_equal(a, b);
    free_machine(&a);
    free_machine(&b);
}

static void
test_store_with_history_is_not_seeded_over(void **state)
{
    (void)state;
    struct machine *a = make_giver();
    struct seed *seed = NULL;
    struct error err = {0};

    assert_int_equal(seed_open(a->store, &seed, &err), ERR_CONFLICT);
    assert_null(seed);
    free_machine(&a);
}

/* One row of FROM that any seed may bring, for one that comes late. */
static bool
put_late_row(void *ctx, struct span key, struct span value)
{
    struct seed *seed = ctx;
    struct error err = {0};

    assert_int_equal(seed_put_row(seed, key, value, &err), ERR_CONFLICT);
    return false;
}

/* A second giver comes while the first one is at its rows: the first one is
 * over, and whatever it still sends changes nothing, neither before nor after
 * the second one is done. */
static void
test_of_two_seeds_the_later_one_counts(void **state)
{
    (void)state;
    struct machine *a = make_giver();
    struct machine *b = make_machine(2);
    struct way first = {.from = a};
    struct seed *second = NULL;
    struct error err = {0};
    const struct store_pos pos = store_pos(a->store);

    first.snap = store_snapshot(a->store);
    assert_int_equal(seed_open(b->store, &first.seed, &err), ERR_OK);
    assert_int_equal(seed_each_guid(first.snap, NULL, send_body, &first, &err),
                     ERR_OK);
    assert_int_equal(seed_begin_rows(first.seed, &err), ERR_OK);
    assert_int_equal(first.rc, ERR_OK);

    assert_int_equal(seed_open(b->store, &second, &err), ERR_OK);
    assert_int_equal(
        snap_each_row(first.snap, SPAN_EMPTY, put_late_row, first.seed, &err),
        ERR_OK);
    assert_int_equal(seed_begin_rows(first.seed, &err), ERR_CONFLICT);
    assert_int_equal(seed_sync(first.seed, &err), ERR_CONFLICT);
    assert_int_equal(seed_finish(first.seed, &pos, &err), ERR_CONFLICT);
    assert_empty(b);
    seed_close(&second);

    struct way w = {.from = a};
    seed_all(&w, b);
    assert_int_equal(w.rc, ERR_OK);
    assert_int_equal(seed_begin_rows(first.seed, &err), ERR_CONFLICT);
    assert_int_equal(
        snap_each_row(first.snap, SPAN_EMPTY, put_late_row, first.seed, &err),
        ERR_OK);
    assert_equal(a, b);
    seed_close(&first.seed);
    store_release(&first.snap);
    assert_equal(a, b);
    free_machine(&a);
    free_machine(&b);
}

static void
frames_answered(void *ctx, enum errcode code, const struct error *err,
                struct store_pos pos)
{
    (void)err;
    (void)pos;
    *(enum errcode *)ctx = code;
}

/* Another master's stream was open when the seed began. */
static void
test_no_frames_are_taken_while_a_seed_comes(void **state)
{
    (void)state;
    struct machine *a = make_giver();
    struct machine *b = make_machine(2);
    struct synclog_reader *r = NULL;
    struct span frames = SPAN_EMPTY;
    struct error err = {0};
    enum errcode code = ERR_OK;
    lsn_t last;
    uint64_t time_us;
    struct seed *seed = NULL;

    assert_int_equal(reader_open(env_sim_env(a->sim), "/var/be/synclog",
                                 synclog_mark(store_log(a->store)), 0, &r,
                                 &err),
                     ERR_OK);
    assert_int_equal(reader_next(r, 1 << 20, &frames, &last, &time_us, &err),
                     ERR_OK);
    assert_true(frames.n > 0);
    assert_int_equal(seed_open(b->store, &seed, &err), ERR_OK);
    store_append_frames(b->store, frames, frames_answered, &code);
    while (store_step(b->store))
        ;
    assert_int_equal(code, ERR_CONFLICT);
    assert_empty(b);
    seed_close(&seed);
    reader_close(&r);
    struct way w = {.from = a};
    seed_all(&w, b);
    assert_int_equal(w.rc, ERR_OK);
    assert_equal(a, b);
    free_machine(&a);
    free_machine(&b);
}

/* The way breaks after each part and at some rows; with and without the power
 * going too, the next attempt ends well and does not send what is there. */
static void
test_seeding_goes_on_where_it_was_cut(void **state)
{
    (void)state;
    static const enum wrong stops[] = {STOP_IN_BODIES, STOP_IN_ROWS,
                                       STOP_BEFORE_END};
    struct machine *a = make_giver();

    for (size_t i = 0; i < ARRAY_LEN(stops); i++)
        for (unsigned at = 0; at < MESSAGES; at += 5)
            for (uint64_t power = 0; power < 3; power++) {
                struct machine *b = make_machine(2);
                struct way w = {.from = a, .wrong = stops[i], .at = at};
                seed_all(&w, b);
                assert_true(w.stopped);
                if (power > 0)
                    cut_power(b, power * 100 + at);
                assert_empty(b);
                struct way again = {.from = a};
                seed_all(&again, b);
                assert_int_equal(again.rc, ERR_OK);
                /* Only a crash of this side may cost what was not synced. */
                if (stops[i] == STOP_IN_BODIES && power == 0)
                    assert_int_equal(again.bodies_had, w.bodies_put);
                if (stops[i] != STOP_IN_BODIES)
                    assert_int_equal(again.parts_sent, 0);
                assert_equal(a, b);
                free_machine(&b);
            }
    free_machine(&a);
}

/* Of an attempt whose messages were deleted meanwhile, say: there is no end of
 * them between two that count. */
static void
test_lost_body_is_seen_among_many_that_nobody_has(void **state)
{
    (void)state;
    struct machine *a = make_giver();
    struct machine *c = make_giver_of(1000, OTHERS);
    struct machine *b = make_machine(2);
    struct way others = {.from = c, .wrong = STOP_IN_ROWS};
    seed_all(&others, b);
    assert_int_equal(others.bodies_put, OTHERS);

    struct way w = {.from = a, .wrong = LOSE_BODY, .at = MESSAGES / 2};
    seed_all(&w, b);
    assert_int_equal(w.rc, ERR_CORRUPT);
    assert_non_null(strstr(w.err.text, "did not come"));
    assert_empty(b);
    struct way again = {.from = a};
    seed_all(&again, b);
    assert_int_equal(again.rc, ERR_OK);
    assert_equal(a, b);
    free_machine(&b);
    free_machine(&c);
    free_machine(&a);
}

static void
test_wrong_bytes_are_not_taken_over(void **state)
{
    (void)state;
    static const struct {
        enum wrong wrong;
        enum errcode code;
    } rows[] = {{LOSE_ROW, ERR_CORRUPT},    {CHANGE_ROW, ERR_CORRUPT},
                {LOSE_BODY, ERR_CORRUPT},   {SWAP_GUID, ERR_CORRUPT},
                {DAMAGE_PART, ERR_CORRUPT}, {SKIP_PART, ERR_PROTO}};
    struct machine *a = make_giver();

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (unsigned at = 0; at < MESSAGES; at += 5) {
            struct machine *b = make_machine(2);
            struct way w = {.from = a, .wrong = rows[i].wrong, .at = at};
            seed_all(&w, b);
            /* A part of another GUID may also come where a second part should.
             */
            enum errcode want = rows[i].wrong == SWAP_GUID && w.rc == ERR_PROTO
                                    ? ERR_PROTO
                                    : rows[i].code;
            if (w.rc != want)
                print_error("wrong %d at %u: %s\n", (int)rows[i].wrong, at,
                            w.err.text);
            assert_int_equal(w.rc, want);
            assert_empty(b);
            struct way again = {.from = a};
            seed_all(&again, b);
            assert_int_equal(again.rc, ERR_OK);
            assert_equal(a, b);
            free_machine(&b);
        }
    free_machine(&a);
}

static void
test_rows_of_other_tables_and_sizes_are_refused(void **state)
{
    (void)state;
    struct machine *b = make_machine(2);
    struct seed *seed = NULL;
    struct error err = {0};
    static uint8_t large[2U << 20];
    struct store_pos nowhere = {0};

    assert_int_equal(seed_open(b->store, &seed, &err), ERR_OK);
    assert_int_equal(seed_begin_rows(seed, &err), ERR_OK);
    assert_int_equal(seed_put_row(seed, SPAN_LIT("La"), SPAN_LIT("x"), &err),
                     ERR_CORRUPT);
    assert_int_equal(seed_put_row(seed, SPAN_LIT("g"), SPAN_LIT("x"), &err),
                     ERR_CORRUPT);
    assert_int_equal(seed_put_row(seed, SPAN_LIT("n"), SPAN_EMPTY, &err),
                     ERR_CORRUPT);
    assert_int_equal(seed_put_row(seed, SPAN_EMPTY, SPAN_EMPTY, &err),
                     ERR_CORRUPT);
    memset(large, 'u', sizeof(large));
    assert_int_equal(
        seed_put_row(seed, span_of(large, KEY_MAX + 1), SPAN_EMPTY, &err),
        ERR_LIMIT);
    assert_int_equal(
        seed_put_row(seed, SPAN_LIT("u"), span_of(large, sizeof(large)), &err),
        ERR_LIMIT);
    assert_int_equal(seed_finish(seed, &nowhere, &err), ERR_CORRUPT);
    seed_close(&seed);
    seed_close(&seed);
    assert_empty(b);
    free_machine(&b);
}

static mbid_t
inbox_of(struct machine *m)
{
    struct store_snap *snap = store_snapshot(m->store);
    struct arena a = ARENA_INIT;
    struct mailbox mb = {0};
    struct error err = {0};

    assert_int_equal(snap_mailbox_by_name(snap, "user.john", &a, &mb, &err),
                     ERR_OK);
    arena_free(&a);
    store_release(&snap);
    return mb.id;
}

static void
took_frames(void *ctx, enum errcode code, const struct error *err,
            struct store_pos pos)
{
    (void)err;
    (void)pos;
    *(enum errcode *)ctx = code;
}

static void
make_seedable(struct machine *m, uint64_t *ret_kept, uint64_t *ret_dropped)
{
    struct error err = {0};
    struct kv *kv = kv_open_mem_on(m->disk);
    static unsigned calls;
    char aside[64];
    snprintf(aside, sizeof(aside), "/var/be/old-log-%u", calls++);
    const struct store_config cfg = {
        .dir = "/var/be", .pack_dir = "/var/be/packs", .kv = kv};

    assert_int_equal(store_make_seedable(env_sim_env(m->sim), &cfg, aside,
                                         ret_kept, ret_dropped, &err),
                     ERR_OK);
    kv_close(&kv);
}

/* A replica whose master's log has moved on gives up its state: what it has by
 * GUID in packs is not sent again, and what was only in its log is. */
static void
test_reseeded_store_keeps_its_bodies(void **state)
{
    struct machine *from = make_giver();
    struct machine *to = make_machine(2);
    struct way first = {.from = from};
    uint64_t kept = 0, dropped = 0, none = 0;
    unsigned was_in_log = 1;

    (void)state;
    seed_all(&first, to);
    assert_int_equal(first.rc, ERR_OK);
    /* One that came by the log. */
    struct store_txn *txn = txn_new();
    struct body *b = make_message(100);
    txn_append(txn, &(struct txn_append){.id = inbox_of(from), .body = b});
    commit(from->store, txn);
    txn_free(&txn);
    body_free(&b);
    struct synclog_reader *r = NULL;
    struct error err = {0};
    assert_int_equal(reader_open(env_sim_env(from->sim), "/var/be/synclog",
                                 synclog_mark(store_log(from->store)),
                                 store_pos(to->store).applied.lsn, &r, &err),
                     ERR_OK);
    struct span frames;
    lsn_t last;
    uint64_t time_us;
    enum errcode rc = ERR_IO;
    assert_int_equal(reader_next(r, 1U << 20, &frames, &last, &time_us, &err),
                     ERR_OK);
    store_append_frames(to->store, frames, took_frames, &rc);
    (void)store_step(to->store);
    assert_int_equal(rc, ERR_OK);
    reader_close(&r);
    assert_equal(from, to);

    for (int crash = 0; crash < 2; crash++) {
        store_close(&to->store);
        make_seedable(to, &kept, &dropped);
        assert_int_equal(kept, first.bodies_put);
        assert_int_equal(dropped, was_in_log);
        if (crash) { /* it did not hear that it was done */
            env_sim_halt(to->sim);
            kv_disk_cut(to->disk, 5);
            env_sim_crash(to->sim, 5);
            make_seedable(to, &kept, &none);
            assert_int_equal(kept, first.bodies_put);
            assert_int_equal(none, 0);
        }
        start(to);
        assert_true(store_is_empty(to->store));
        struct store_log_view view;
        store_log_view(to->store, &view);
        assert_true(view.seeding);
        assert_int_equal(view.durable.lsn, 0);
        struct way again = {.from = from};
        seed_all(&again, to);
        assert_int_equal(again.rc, ERR_OK);
        assert_int_equal(again.bodies_had, kept);
        assert_int_equal(again.bodies_put, was_in_log);
        assert_equal(from, to);
        /* Now all of them are in packs. */
        first.bodies_put += was_in_log;
        was_in_log = 0;
    }
    free_machine(&to);
    free_machine(&from);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seeded_store_is_equal_and_stays_so),
        cmocka_unit_test(test_store_with_history_is_not_seeded_over),
        cmocka_unit_test(test_reseeded_store_keeps_its_bodies),
        cmocka_unit_test(test_of_two_seeds_the_later_one_counts),
        cmocka_unit_test(test_no_frames_are_taken_while_a_seed_comes),
        cmocka_unit_test(test_seeding_goes_on_where_it_was_cut),
        cmocka_unit_test(test_lost_body_is_seen_among_many_that_nobody_has),
        cmocka_unit_test(test_wrong_bytes_are_not_taken_over),
        cmocka_unit_test(test_rows_of_other_tables_and_sizes_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
