/*
 * The real thing, while the compactor runs as fast as it can: sessions deliver
 * and purge, readers read whole messages, the log is trimmed and packs go.  A
 * message that is there can be read, always.  Also under TSan.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "store/body.h"
#include "store/compact.h"
#include "store/local.h"
#include "tests/lib/storetest.h"
#include "tests/lib/tmpdir.h"

#define READERS 3U
#define BODY 9000U
#define LIVE 150U /* messages that are kept */
#define ENOUGH_MOVED 400U
#define PATIENCE_S 90

struct instance {
    char dir[64];
    struct store *store;
    mbid_t id;
    atomic_bool stop;
    atomic_uint reads;
};

static void
start(struct instance *in)
{
    struct error err = {0};

    *in = (struct instance){.dir = "/tmp/pollux-compact-XXXXXX"};
    assert_non_null(mkdtemp(in->dir));
    const struct store_config cfg = {
        .dir = in->dir,
        .segment_bytes = 1U << 20,
        .pack_bytes = 1U << 19,
        .cluster = {{1}},
        .instance = {{2}},
    };
    if (store_open(env_system(), &cfg, NULL, &in->store, NULL, &err) != ERR_OK)
        fail_msg("%s", err.text);
    store_set_role(in->store, ROLE_MASTER, 1);
    assert_int_equal(store_begin_epoch(in->store, 1, 0, "first start", &err),
                     ERR_OK);
    struct store_txn *txn = txn_new();
    txn_create(txn, &(struct txn_mailbox){.name = "user.ann"});
    assert_int_equal(store_commit(in->store, txn, &err), ERR_OK);
    in->id = txn_result(txn, 0)->id;
    txn_free(&txn);
}

static void
end(struct instance *in)
{
    store_close(&in->store);
    remove_tree(in->dir);
}

static void
append(struct instance *in, uint32_t uid)
{
    struct store_txn *txn = txn_new();
    struct body *b = ts_body(uid, BODY);
    struct error err = {0};

    txn_append(txn, &(struct txn_append){.id = in->id, .body = b});
    body_free(&b);
    if (store_commit(in->store, txn, &err) != ERR_OK)
        fail_msg("%s", err.text);
    txn_free(&txn);
}

static void
purge(struct instance *in, uint32_t first, uint32_t last)
{
    AUTO(uidset_free) struct uidset uids = {0};
    struct error err = {0};

    uidset_add(&uids, first, last);
    struct store_txn *txn = txn_new();
    txn_expunge(txn, in->id, &uids, false);
    if (store_commit(in->store, txn, &err) != ERR_OK)
        fail_msg("%s", err.text);
    txn_free(&txn);
    txn = txn_new();
    txn_purge(txn, in->id, &uids);
    if (store_commit(in->store, txn, &err) != ERR_OK)
        fail_msg("%s", err.text);
    txn_free(&txn);
}

/* Is it still there, now? */
static bool
is_there(struct instance *in, uint32_t uid)
{
    struct store_snap *snap = store_snapshot(in->store);
    struct arena a = ARENA_INIT;
    struct message m;
    const bool there = snap_message(snap, in->id, uid, &a, &m, NULL) == ERR_OK;

    store_release(&snap);
    arena_free(&a);
    return there;
}

static void *
read_on(void *arg)
{
    struct instance *in = arg;
    AUTO(buf_free) struct buf got = BUF_INIT;

    while (!atomic_load(&in->stop)) {
        struct store_snap *snap = store_snapshot(in->store);
        struct msg_iter *it = snap_messages(snap, in->id, 1, false);
        struct message m;
        struct error err = {0};
        while (!atomic_load(&in->stop) && msg_iter_next(it, &m)) {
            const uint32_t uid = m.uid;
            const struct guid guid = m.guid;
            buf_clear(&got);
            enum errcode rc =
                store_body_read(in->store, &guid, 0, UINT64_MAX, &got, &err);
            if (rc != ERR_OK && is_there(in, uid)) {
                fprintf(stderr, "UID %u: %s\n", uid, err.text);
                ENSURE(!"a message that is there cannot be read");
            }
            ENSURE(rc != ERR_OK || got.n == BODY);
            atomic_fetch_add(&in->reads, 1);
        }
        ENSURE(msg_iter_close(&it, &err) == ERR_OK);
        store_release(&snap);
    }
    return NULL;
}

static void
test_readers_never_miss_a_message(void **state)
{
    struct instance in;
    pthread_t readers[READERS];
    struct compaction_view v = {0};
    struct error err = {0};
    const time_t until = time(NULL) + PATIENCE_S;
    uint32_t first = 1;
    uint32_t next = 1;

    (void)state;
    start(&in);
    for (unsigned i = 0; i < READERS; i++)
        ENSURE(pthread_create(&readers[i], NULL, read_on, &in) == 0);
    while (v.moved_bodies < ENOUGH_MOVED || v.removed_packs == 0) {
        if (time(NULL) > until)
            fail_msg("moved %u, removed %u packs", (unsigned)v.moved_bodies,
                     (unsigned)v.removed_packs);
        for (unsigned i = 0; i < 50; i++)
            append(&in, next++);
        while (next - first > LIVE) {
            purge(&in, first, first + 24);
            first += 25;
        }
        assert_int_equal(store_checkpoint(in.store, &err), ERR_OK);
        assert_int_equal(store_compaction_view(in.store, &v, &err), ERR_OK);
    }
    atomic_store(&in.stop, true);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_true(atomic_load(&in.reads) > 0);
    assert_true(v.dropped > 0);
    struct store_snap *snap = store_snapshot(in.store);
    assert_int_equal(snap_verify(snap, &err), ERR_OK);
    store_release(&snap);
    end(&in);
}

/* ---- local rows and groups take turns ---------------------------------- */

#define GROUPS 400U
#define TURNS 20U

/* Long enough for the writer to come by. */
static enum errcode
look_around(void *ctx, struct state *st, struct kv_batch *b, struct error *err)
{
    _Atomic uint32_t *turns = ctx;

    (void)st;
    (void)b;
    (void)err;
    for (unsigned i = 0; i < 50; i++)
        sched_yield();
    atomic_fetch_add(turns, 1);
    return ERR_OK;
}

struct local_worker {
    struct instance *in;
    _Atomic uint32_t turns;
    _Atomic uint32_t groups;
    atomic_bool stop;
};

static void *
local_on(void *arg)
{
    struct local_worker *w = arg;
    struct error err = {0};

    while (!atomic_load(&w->stop)) {
        const uint32_t seen = atomic_load(&w->groups);
        for (unsigned i = 0; i < TURNS; i++)
            ENSURE(store_local(w->in->store, look_around, &w->turns, &err) ==
                   ERR_OK);
        /* So many for each group, so that the writer gets its turn. */
        while (atomic_load(&w->groups) == seen && !atomic_load(&w->stop))
            sched_yield();
    }
    return NULL;
}

/* The writer and store_local() share what the state is read into: each says
 * (ENSURE) if somebody else was at work in its turn. */
static void
test_local_rows_and_groups_take_turns(void **state)
{
    struct instance in;
    struct local_worker w = {.in = &in};
    pthread_t thread;

    (void)state;
    start(&in);
    ENSURE(pthread_create(&thread, NULL, local_on, &w) == 0);
    for (uint32_t n = 1; n <= GROUPS; n++) {
        append(&in, n);
        atomic_fetch_add(&w.groups, 1);
    }
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    assert_true(atomic_load(&w.turns) > 0);
    end(&in);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readers_never_miss_a_message),
        cmocka_unit_test(test_local_rows_and_groups_take_turns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
