/*
 * The real thing: RocksDB, threads, a folder under /tmp.  Many sessions commit
 * at once while others read, watch and change the fence; run under TSan too.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "store/store.h"
#include "store/txn.h"
#include "tests/lib/tmpdir.h"

#define SESSIONS 6
#define EACH 40

struct instance {
    char dir[64];
    char fence[96];
    struct store *store;
    mbid_t box[SESSIONS];
    atomic_uint answered, refused, woken;
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool was_woken;
};

static void
open_store(struct instance *in)
{
    struct store_opened found;
    struct error err = {0};
    const struct store_config cfg = {
        .dir = in->dir,
        .fence_path = in->fence,
        .segment_bytes = 12U << 20,
        .cluster = {{1}},
        .instance = {{2}},
    };
    if (store_open(env_system(), &cfg, NULL, &in->store, &found, &err) !=
        ERR_OK)
        fail_msg("%s", err.text);
}

static void
start(struct instance *in)
{
    struct error err = {0};

    *in = (struct instance){.dir = "/tmp/pollux-threads-XXXXXX"};
    assert_non_null(mkdtemp(in->dir));
    snprintf(in->fence, sizeof(in->fence), "%s/shutdown", in->dir);
    pthread_mutex_init(&in->lock, NULL);
    pthread_cond_init(&in->cond, NULL);
    open_store(in);
    store_set_role(in->store, ROLE_MASTER, 1);
    assert_int_equal(store_begin_epoch(in->store, 1, 0, "first start", &err),
                     ERR_OK);
    struct store_txn *txn = txn_new();
    for (int i = 0; i < SESSIONS; i++) {
        char name[32];
        snprintf(name, sizeof(name), "user.u%d", i);
        txn_create(txn, &(struct txn_mailbox){.name = name});
    }
    assert_int_equal(store_commit(in->store, txn, &err), ERR_OK);
    for (size_t i = 0; i < SESSIONS; i++)
        in->box[i] = txn_result(txn, i)->id;
    txn_free(&txn);
}

static void
end(struct instance *in)
{
    store_close(&in->store);
    pthread_mutex_destroy(&in->lock);
    pthread_cond_destroy(&in->cond);
    remove_tree(in->dir);
}

struct session {
    struct instance *in;
    mbid_t id;
    unsigned seed;
};

static void *
deliver(void *arg)
{
    struct session *s = arg;

    for (unsigned i = 0; i < EACH; i++) {
        struct store_txn *txn = txn_new();
        struct body *b = body_new(env_system(), s->in->dir, 1 << 24);
        struct error err = {0};
        char text[64];
        int n =
            snprintf(text, sizeof(text), "Subject: %u %u\r\n\r\n", s->seed, i);
        ENSURE(body_write(b, span_of(text, (size_t)n), &err) == ERR_OK);
        ENSURE(body_finish(b, &err) == ERR_OK);
        txn_append(txn, &(struct txn_append){.id = s->id, .body = b});
        body_free(&b);
        enum errcode rc = store_commit(s->in->store, txn, &err);
        txn_free(&txn);
        ENSURE(rc == ERR_OK || rc == ERR_FENCED);
        pthread_mutex_lock(&s->in->lock);
        atomic_fetch_add(rc == ERR_OK ? &s->in->answered : &s->in->refused, 1);
        pthread_cond_broadcast(&s->in->cond);
        pthread_mutex_unlock(&s->in->lock);
    }
    return NULL;
}

static void
on_change(void *ctx)
{
    struct instance *in = ctx;

    atomic_fetch_add(&in->woken, 1);
    pthread_mutex_lock(&in->lock);
    in->was_woken = true;
    pthread_cond_signal(&in->cond);
    pthread_mutex_unlock(&in->lock);
}

/* What is seen only ever grows, and is whole. */
static void *
read_on(void *arg)
{
    struct instance *in = arg;
    struct store_watch *w = store_watch(in->store, in->box[0], on_change, in);
    lsn_t last = 0;

    while (!atomic_load(&in->stop)) {
        struct store_snap *snap = store_snapshot(in->store);
        struct arena a = ARENA_INIT;
        struct mailbox mb;
        struct message m;
        struct error err = {0};
        unsigned n = 0;
        ENSURE(snap_pos(snap).applied.lsn >= last);
        last = snap_pos(snap).applied.lsn;
        ENSURE(snap_mailbox(snap, in->box[0], &a, &mb, &err) == ERR_OK);
        struct msg_iter *it = snap_messages(snap, in->box[0], 1, false);
        while (msg_iter_next(it, &m))
            n++;
        ENSURE(msg_iter_close(&it, &err) == ERR_OK);
        ENSURE(n == mb.exists);
        store_release(&snap);
        arena_free(&a);
        watch_rearm(w);
        (void)store_pos(in->store);
        (void)store_queue_bytes(in->store);
    }
    store_unwatch(&w);
    return NULL;
}

static void
run_sessions(struct instance *in, void (*meanwhile)(struct instance *in))
{
    pthread_t threads[SESSIONS], reader;
    struct session s[SESSIONS];

    ENSURE(pthread_create(&reader, NULL, read_on, in) == 0);
    for (unsigned i = 0; i < SESSIONS; i++) {
        s[i] = (struct session){in, in->box[i], i};
        ENSURE(pthread_create(&threads[i], NULL, deliver, &s[i]) == 0);
    }
    if (meanwhile != NULL)
        meanwhile(in);
    for (unsigned i = 0; i < SESSIONS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&in->stop, true);
    pthread_join(reader, NULL);
}

static uint32_t
all_messages(struct instance *in)
{
    struct store_snap *snap = store_snapshot(in->store);
    struct arena a = ARENA_INIT;
    struct error err = {0};
    uint32_t n = 0;

    for (int i = 0; i < SESSIONS; i++) {
        struct mailbox mb;
        assert_int_equal(snap_mailbox(snap, in->box[i], &a, &mb, &err), ERR_OK);
        n += mb.exists;
    }
    if (snap_verify(snap, &err) != ERR_OK)
        fail_msg("%s", err.text);
    store_release(&snap);
    arena_free(&a);
    return n;
}

static void
test_many_sessions_commit_and_are_found_again(void **state)
{
    struct instance in;

    (void)state;
    start(&in);
    run_sessions(&in, NULL);
    assert_int_equal(atomic_load(&in.answered), SESSIONS * EACH);
    assert_int_equal(all_messages(&in), SESSIONS * EACH);
    assert_true(atomic_load(&in.woken) > 0);
    struct store_pos before = store_pos(in.store);
    store_close(&in.store);
    open_store(&in);
    assert_true(store_pos(in.store).digest == before.digest);
    assert_int_equal(all_messages(&in), SESSIONS * EACH);
    end(&in);
}

/* While store_check_fence() says true nothing is answered. */
static void
move_fence(struct instance *in)
{
    for (int i = 0; i < 10; i++) {
        struct error err = {0};
        ENSURE(env_write_file_atomic(env_system(), in->fence, SPAN_LIT("x"),
                                     &err) == ERR_OK);
        ENSURE(store_check_fence(in->store));
        struct store_pos at = store_pos(in->store);
        for (int k = 0; k < 20; k++) {
            (void)store_check_fence(in->store);
            ENSURE(store_pos(in->store).applied.lsn == at.applied.lsn);
        }
        ENSURE(env_unlink(env_system(), in->fence, &err) == ERR_OK);
        (void)store_check_fence(in->store);
        pthread_mutex_lock(&in->lock);
        while (store_pos(in->store).applied.lsn == at.applied.lsn &&
               atomic_load(&in->answered) + atomic_load(&in->refused) <
                   SESSIONS * EACH)
            pthread_cond_wait(&in->cond, &in->lock);
        pthread_mutex_unlock(&in->lock);
    }
}

static void
test_fence_goes_up_and_down_under_load(void **state)
{
    struct instance in;

    (void)state;
    start(&in);
    run_sessions(&in, move_fence);
    assert_int_equal(atomic_load(&in.answered) + atomic_load(&in.refused),
                     SESSIONS * EACH);
    assert_int_equal(all_messages(&in), atomic_load(&in.answered));
    end(&in);
}

static void
test_roles_change_under_load(void **state)
{
    struct instance in;
    struct error err = {0};

    (void)state;
    start(&in);
    for (epoch_t e = 2; e < 6; e++) {
        store_set_role(in.store, ROLE_REPLICA, e - 1);
        store_set_role(in.store, ROLE_MASTER, e);
        assert_int_equal(store_begin_epoch(in.store, e, 16, "promote", &err),
                         ERR_OK);
    }
    assert_int_equal(store_pos(in.store).applied.epoch, 5);
    end(&in);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_sessions_commit_and_are_found_again),
        cmocka_unit_test(test_fence_goes_up_and_down_under_load),
        cmocka_unit_test(test_roles_change_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
