/*
 * What lets the log go, and what keeps it: the flushed state, the slots by the
 * bytes that they pin, the cap that expels them; and that a key-value store
 * that fails ends the instance within moments.  On a real folder, since slots
 * are mapped.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "store/compact.h"
#include "store/damage.h"
#include "store/kv_mem.h"
#include "store/store_private.h"
#include "synclog/slot.h"
#include "tests/lib/storetest.h"
#include "tests/lib/tmpdir.h"

#define SEGMENT ((uint64_t)1 << 18)
#define BODY 9000U
/* Full segments are cut to some 145,000 bytes of this fill: three, not four. */
#define CAP UINT64_C(500000)

struct fixture {
    char dir[64];
    char log_dir[96];
    struct kv *kv;
    struct store *store;
    struct error err;
    mbid_t id;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_fatal;
};

static void
on_fatal(void *ctx, const struct error *err)
{
    struct fixture *f = ctx;

    (void)err;
    pthread_mutex_lock(&f->lock);
    f->is_fatal = true;
    pthread_cond_signal(&f->cond);
    pthread_mutex_unlock(&f->lock);
}

static void
open_store(struct fixture *f, uint64_t cap, bool threads)
{
    const struct store_hooks hooks = {.ctx = f, .on_fatal = on_fatal};
    f->kv = kv_open_mem();
    const struct store_config cfg = {
        .dir = f->dir,
        .segment_bytes = SEGMENT,
        .log_cap_bytes = cap,
        .cluster = {{1}},
        .instance = {{2}},
        .kv = f->kv,
        .no_threads = !threads,
    };

    if (store_open(env_system(), &cfg, &hooks, &f->store, NULL, &f->err) !=
        ERR_OK)
        fail_msg("%s", f->err.text);
    store_set_role(f->store, ROLE_MASTER, 1);
    assert_int_equal(store_begin_epoch(f->store, 1, 0, "first start", &f->err),
                     ERR_OK);
    struct store_txn *txn = txn_new();
    txn_create(txn, &(struct txn_mailbox){.name = "user.ann"});
    assert_int_equal(store_commit(f->store, txn, &f->err), ERR_OK);
    f->id = txn_result(txn, 0)->id;
    txn_free(&txn);
}

static int
setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));

    snprintf(f->dir, sizeof(f->dir), "/tmp/pollux-checkpoint-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->log_dir, sizeof(f->log_dir), "%s/synclog", f->dir);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->cond, NULL);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    store_close(&f->store);
    remove_tree(f->dir);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->cond);
    free(f);
    return 0;
}

/* Flags, so that no body keeps the log: each a record of some bytes. */
static void
grow_log(struct fixture *f, unsigned segments)
{
    struct synclog *log = store_log(f->store);
    struct synclog_segment *v = NULL;
    AUTO(buf_free) struct buf value = BUF_INIT;

    (void)!buf_reserve(&value, 20000);
    for (size_t i = 0; i < 20000; i++)
        buf_add_byte(&value, (uint8_t)('a' + i % 20));
    size_t n = synclog_segments(log, &v);
    uint64_t last = v[n - 1].number;
    free(v);
    const uint64_t until = last + segments;
    while (last < until) {
        struct store_txn *txn = txn_new();
        const struct span bytes = buf_span(&value);
        txn_user(txn, "ann", 1, "blob", &bytes);
        assert_int_equal(store_commit(f->store, txn, &f->err), ERR_OK);
        txn_free(&txn);
        value.p[0]++;
        n = synclog_segments(log, &v);
        last = v[n - 1].number;
        free(v);
    }
}

static size_t
segments(struct fixture *f)
{
    struct synclog_segment *v = NULL;
    const size_t n = synclog_segments(store_log(f->store), &v);

    free(v);
    return n;
}

static void
test_flushed_segments_go(void **state)
{
    struct fixture *f = *state;

    open_store(f, 0, false);
    grow_log(f, 3);
    assert_int_equal(segments(f), 4);
    assert_int_equal(store_checkpoint(f->store, &f->err), ERR_OK);
    assert_int_equal(segments(f), 1);
}

static void
test_slot_pins_what_it_needs(void **state)
{
    struct fixture *f = *state;
    struct synclog_slot *slot = NULL;

    open_store(f, 0, false);
    assert_int_equal(slot_attach(f->log_dir, "b2", true, &slot, &f->err),
                     ERR_OK);
    grow_log(f, 1);
    atomic_store(&slot->durable_lsn, store_pos(f->store).applied.lsn);
    grow_log(f, 3);
    assert_int_equal(store_checkpoint(f->store, &f->err), ERR_OK);
    assert_int_equal(segments(f), 4);
    atomic_store(&slot->durable_lsn, store_pos(f->store).applied.lsn);
    assert_int_equal(store_checkpoint(f->store, &f->err), ERR_OK);
    assert_int_equal(segments(f), 1);
    slot_detach(&slot);
}

/* Its sync_client waits until it is the master: what it will need then nobody
 * knows now, and the log must not grow for it. */
static void
test_slots_of_a_replica_pin_nothing(void **state)
{
    struct fixture *f = *state;
    struct synclog_slot *slot = NULL;

    open_store(f, CAP, false);
    assert_int_equal(slot_attach(f->log_dir, "b2", true, &slot, &f->err),
                     ERR_OK);
    slot_set_state(slot, SLOT_WAITING, "this instance is not the master", 1);
    grow_log(f, 4);
    store_set_role(f->store, ROLE_REPLICA, 1);
    assert_int_equal(store_checkpoint(f->store, &f->err), ERR_OK);
    assert_int_equal(segments(f), 1);
    assert_int_equal(atomic_load(&slot->expelled), SLOT_NOT_KEPT);
    assert_int_equal(atomic_load(&slot->state), SLOT_WAITING);
    /* Promoted: what is left, and what comes, is kept for it. */
    store_set_role(f->store, ROLE_MASTER, 1);
    grow_log(f, 2);
    assert_int_equal(store_checkpoint(f->store, &f->err), ERR_OK);
    assert_int_equal(segments(f), 3);
    /* So it is at a replica that feeds others. */
    f->store->cfg.feeds_others = true;
    store_set_role(f->store, ROLE_REPLICA, 1);
    assert_int_equal(store_checkpoint(f->store, &f->err), ERR_OK);
    assert_int_equal(segments(f), 3);
    slot_detach(&slot);
}

static void
test_slot_beyond_the_cap_is_told_to_reseed(void **state)
{
    struct fixture *f = *state;
    struct synclog_slot *slow = NULL;
    struct synclog_slot *good = NULL;

    open_store(f, CAP, false);
    assert_int_equal(slot_attach(f->log_dir, "slow", true, &slow, &f->err),
                     ERR_OK);
    assert_int_equal(slot_attach(f->log_dir, "good", true, &good, &f->err),
                     ERR_OK);
    /* Three segments behind the one that is written, and then a fourth. */
    grow_log(f, 3);
    atomic_store(&good->durable_lsn, store_pos(f->store).applied.lsn);
    assert_int_equal(store_checkpoint(f->store, &f->err), ERR_OK);
    assert_int_equal(segments(f), 4);
    assert_int_not_equal(atomic_load(&slow->state), SLOT_RESEED);
    grow_log(f, 1);
    atomic_store(&good->durable_lsn, store_pos(f->store).applied.lsn);
    assert_int_equal(store_checkpoint(f->store, &f->err), ERR_OK);
    assert_int_equal(atomic_load(&slow->state), SLOT_RESEED);
    assert_int_not_equal(atomic_load(&good->state), SLOT_RESEED);
    assert_int_equal(segments(f), 1);
    /* It pins nothing any more. */
    grow_log(f, 2);
    atomic_store(&good->durable_lsn, store_pos(f->store).applied.lsn);
    assert_int_equal(store_checkpoint(f->store, &f->err), ERR_OK);
    assert_int_equal(segments(f), 1);
    slot_detach(&slow);
    slot_detach(&good);
}

static void
test_body_in_the_log_keeps_it(void **state)
{
    struct fixture *f = *state;

    open_store(f, 0, false);
    grow_log(f, 1);
    struct store_txn *txn = txn_new();
    struct body *b = ts_body(1, BODY);
    txn_append(txn, &(struct txn_append){.id = f->id, .body = b});
    body_free(&b);
    assert_int_equal(store_commit(f->store, txn, &f->err), ERR_OK);
    txn_free(&txn);
    grow_log(f, 3);
    assert_int_equal(store_checkpoint(f->store, &f->err), ERR_OK);
    assert_int_equal(segments(f), 4);
}

static void
test_failed_flush_lets_nothing_go(void **state)
{
    struct fixture *f = *state;

    open_store(f, 0, false);
    grow_log(f, 2);
    kv_mem_fail(f->kv, ERR_NOSPACE);
    assert_int_equal(store_checkpoint(f->store, &f->err), ERR_NOSPACE);
    assert_int_equal(segments(f), 3);
    kv_mem_fail(f->kv, ERR_OK);
    assert_int_equal(store_checkpoint(f->store, &f->err), ERR_OK);
    assert_int_equal(segments(f), 1);
}

static void
test_sick_store_of_keys_ends_the_instance(void **state)
{
    struct fixture *f = *state;
    struct timespec until;

    open_store(f, 0, true);
    kv_mem_fail(f->kv, ERR_IO);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 30;
    pthread_mutex_lock(&f->lock);
    int rc = 0;
    while (!f->is_fatal && rc == 0)
        rc = pthread_cond_timedwait(&f->cond, &f->lock, &until);
    pthread_mutex_unlock(&f->lock);
    assert_true(f->is_fatal);
}

/* The segment that is being written is damaged, and no twin has that. */
static void
lose_segment(struct fixture *f)
{
    struct synclog_segment *v = NULL;
    const size_t n = synclog_segments(store_log(f->store), &v);
    const struct damage d = {
        .kind = DAMAGE_LOG, .file = v[n - 1].number, .offset = 4096};

    free(v);
    store_damage_note(f->store, &d);
    store_damage_failed(f->store, &d, true, "no twin has it");
}

/* How many damages are left when the compactor has nothing more to do. */
static uint64_t
compact(struct fixture *f)
{
    struct damage_view view;
    uint64_t bytes;
    bool more = true;

    while (more)
        assert_int_equal(store_compact_step(f->store, &more, &bytes, &f->err),
                         ERR_OK);
    store_damage_view(f->store, &view);
    return view.count;
}

/* A replica that is on its way is waited for; one that the damage has stopped
 * is to be seeded anew. */
static void
test_lost_segment_waits_for_replicas_that_can_pass(void **state)
{
    struct fixture *f = *state;
    struct synclog_slot *slot = NULL;

    open_store(f, 0, false);
    assert_int_equal(slot_attach(f->log_dir, "b", true, &slot, &f->err),
                     ERR_OK);
    slot_set_state(slot, SLOT_STREAMING, "", 1);
    grow_log(f, 1);
    lose_segment(f);
    assert_int_equal(compact(f), 1);
    assert_int_equal(segments(f), 3); /* it is not written any more */
    slot_set_state(slot, SLOT_PARKED, "the log has a bad frame", 2);
    assert_int_equal(compact(f), 0);
    assert_int_equal(segments(f), 1);
    assert_int_equal(atomic_load(&slot->expelled), SLOT_EXPELLED);
    assert_int_equal(atomic_load(&slot->state), SLOT_RESEED);

    atomic_store(&slot->expelled, SLOT_KEPT);
    slot_set_state(slot, SLOT_STREAMING, "", 3);
    grow_log(f, 1);
    lose_segment(f);
    assert_int_equal(compact(f), 1);
    atomic_store(&slot->durable_lsn, store_pos(f->store).applied.lsn);
    assert_int_equal(compact(f), 0);
    assert_int_equal(segments(f), 1);
    assert_int_equal(atomic_load(&slot->expelled), SLOT_KEPT);
    slot_detach(&slot);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_flushed_segments_go),
        T(test_slot_pins_what_it_needs),
        T(test_slots_of_a_replica_pin_nothing),
        T(test_slot_beyond_the_cap_is_told_to_reseed),
        T(test_lost_segment_waits_for_replicas_that_can_pass),
        T(test_body_in_the_log_keeps_it),
        T(test_failed_flush_lets_nothing_go),
        T(test_sick_store_of_keys_ends_the_instance),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
