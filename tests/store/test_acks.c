/*
 * Commits that wait for replicas: what is shown and answered when, by a store
 * with its threads in a folder under /tmp, and slots that the test writes as
 * sync_client does.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "store/acks.h"
#include "store/txn.h"
#include "synclog/bell.h"
#include "synclog/slot.h"
#include "tests/lib/tmpdir.h"

#define CHANNELS 3

struct instance {
    char dir[64];
    char fence[96];
    char log_dir[96];
    struct store *store;
    struct synclog_bell *bell;
    struct synclog_slot *slot[CHANNELS];
    mbid_t box;
};

/* One transaction on its way. */
struct asked {
    struct store_txn *txn;
    atomic_bool done;
    enum errcode code;
};

static void
open_store(struct instance *in, const struct store_acks *acks)
{
    struct store_opened found;
    struct error err = {0};
    const struct store_config cfg = {
        .dir = in->dir,
        .fence_path = in->fence,
        .acks = *acks,
        .segment_bytes = 12U << 20,
        .cluster = {{1}},
        .instance = {{2}},
    };
    if (store_open(env_system(), &cfg, NULL, &in->store, &found, &err) !=
        ERR_OK)
        fail_msg("%s", err.text);
}

/* A channel streams, and its replica has all up to LSN. */
static void
acknowledge(struct instance *in, int channel, lsn_t received, lsn_t durable)
{
    struct synclog_slot *slot = in->slot[channel];

    atomic_store(&slot->received_lsn, received);
    atomic_store(&slot->durable_lsn, durable);
    if (atomic_load(&slot->state) != SLOT_STREAMING)
        slot_set_state(slot, SLOT_STREAMING, "", 1);
    bell_ring(in->bell);
}

static lsn_t
durable(struct instance *in)
{
    struct store_log_view v;

    store_log_view(in->store, &v);
    return v.durable.lsn;
}

static lsn_t
seen(struct instance *in)
{
    return store_pos(in->store).applied.lsn;
}

static void
attach_slots(struct instance *in, int channels)
{
    struct error err = {0};

    assert_int_equal(bell_attach(in->log_dir, &in->bell, &err), ERR_OK);
    for (int i = 0; i < channels; i++) {
        char name[16];
        snprintf(name, sizeof(name), "c%d", i);
        assert_int_equal(
            slot_attach(in->log_dir, name, true, &in->slot[i], &err), ERR_OK);
        acknowledge(in, i, 1, 1);
    }
}

static void
begin(struct instance *in, const struct store_acks *acks, int channels)
{
    struct error err = {0};

    *in = (struct instance){.dir = "/tmp/pollux-acks-XXXXXX"};
    assert_non_null(mkdtemp(in->dir));
    snprintf(in->fence, sizeof(in->fence), "%s/shutdown", in->dir);
    snprintf(in->log_dir, sizeof(in->log_dir), "%s/synclog", in->dir);
    /* A mailbox first, by a store that waits for nobody. */
    open_store(in, &(struct store_acks){.mode = ACK_NONE});
    store_set_role(in->store, ROLE_MASTER, 1);
    assert_int_equal(store_begin_epoch(in->store, 1, 0, "first start", &err),
                     ERR_OK);
    struct store_txn *txn = txn_new();
    txn_create(txn, &(struct txn_mailbox){.name = "user.u"});
    assert_int_equal(store_commit(in->store, txn, &err), ERR_OK);
    in->box = txn_result(txn, 0)->id;
    txn_free(&txn);
    store_close(&in->store);

    attach_slots(in, channels);
    open_store(in, acks);
    /* An epoch begins whether replicas are there or not. */
    store_set_role(in->store, ROLE_MASTER, 2);
    assert_int_equal(store_begin_epoch(in->store, 2, 0, "test", &err), ERR_OK);
    assert_int_equal(seen(in), durable(in));
}

static void
end(struct instance *in)
{
    store_close(&in->store);
    bell_detach(&in->bell);
    for (int i = 0; i < CHANNELS; i++)
        slot_detach(&in->slot[i]);
    remove_tree(in->dir);
}

static void
on_done(void *ctx, struct store_txn *txn)
{
    struct asked *q = ctx;

    q->code = txn_code(txn);
    txn_free(&txn);
    atomic_store(&q->done, true);
}

static void
ask(struct instance *in, struct asked *q, const char *text)
{
    struct store_txn *txn = txn_new();
    struct body *b = body_new(env_system(), in->dir, 1 << 20);
    struct error err = {0};

    *q = (struct asked){.txn = txn};
    assert_int_equal(body_write(b, span_str(text), &err), ERR_OK);
    assert_int_equal(body_finish(b, &err), ERR_OK);
    txn_append(txn, &(struct txn_append){.id = in->box, .body = b});
    body_free(&b);
    store_submit(in->store, txn, on_done, q);
}

static void
ask_dedup(struct instance *in, struct asked *q, const char *text)
{
    struct store_txn *txn = txn_new();
    struct body *b = body_new(env_system(), in->dir, 1 << 20);
    struct error err = {0};

    *q = (struct asked){.txn = txn};
    assert_int_equal(body_write(b, span_str(text), &err), ERR_OK);
    assert_int_equal(body_finish(b, &err), ERR_OK);
    txn_append(
        txn, &(struct txn_append){
                 .id = in->box, .body = b, .dedup = {7}, .independent = true});
    body_free(&b);
    store_submit(in->store, txn, on_done, q);
}

#define WAIT_FOR(cond)                                                         \
    do {                                                                       \
        for (int i_ = 0; !(cond); i_++) {                                      \
            if (i_ > 20000)                                                    \
                fail_msg("waited too long for %s", #cond);                     \
            usleep(1000);                                                      \
        }                                                                      \
    } while (0)

static enum ack_state
state(struct instance *in)
{
    struct ack_view v;

    store_ack_view(in->store, &v);
    return v.state;
}

/* Messages that a reader sees. */
static unsigned
count(struct instance *in)
{
    struct store_snap *snap = store_snapshot(in->store);
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct mailbox mb = {0};
    struct error err = {0};

    assert_int_equal(snap_mailbox(snap, in->box, &a, &mb, &err), ERR_OK);
    assert_int_equal(snap_pos(snap).applied.lsn <= seen(in), 1);
    store_release(&snap);
    return mb.exists;
}

static void
on_change(void *ctx)
{
    atomic_store((atomic_bool *)ctx, true);
}

/* What a peer that is brought level by state has is no replica's log. */
static void
test_a_channel_by_state_counts_for_nobody(void **unused)
{
    struct instance in;
    struct asked q;
    struct ack_view v;

    (void)unused;
    begin(&in, &(struct store_acks){.mode = ACK_DURABLE, .timeout_ms = 60000},
          2);
    atomic_store(&in.slot[0]->by_state, 1);
    const lsn_t last = durable(&in);
    ask(&in, &q, "Subject: x\r\n\r\n");
    WAIT_FOR(durable(&in) > last);
    const lsn_t lsn = durable(&in);
    acknowledge(&in, 0, lsn, lsn);
    /* The other one tells that the first was looked at. */
    acknowledge(&in, 1, lsn, lsn - 1);
    WAIT_FOR((store_ack_view(in.store, &v), v.acked == lsn - 1));
    assert_false(atomic_load(&q.done));
    acknowledge(&in, 1, lsn, lsn);
    WAIT_FOR(atomic_load(&q.done));
    assert_int_equal(q.code, ERR_OK);
    end(&in);
}

/* Groups follow each other; each is shown and answered when it was
 * acknowledged, and not before. */
static void
test_shown_and_answered_when_acknowledged(void **unused)
{
    struct instance in;
    struct asked q[3];
    lsn_t lsn[3];
    atomic_bool woken = false;

    (void)unused;
    begin(&in, &(struct store_acks){.mode = ACK_DURABLE, .timeout_ms = 60000},
          1);
    struct store_watch *w = store_watch(in.store, in.box, on_change, &woken);
    const lsn_t before = durable(&in);
    struct store_snap *old = store_snapshot(in.store);
    for (int i = 0; i < 3; i++) {
        char text[32];
        snprintf(text, sizeof(text), "Subject: %d\r\n\r\n", i);
        lsn_t last = durable(&in);
        ask(&in, &q[i], text);
        /* The next one does not wait for the acknowledgement of this one. */
        WAIT_FOR(durable(&in) > last);
        lsn[i] = durable(&in);
    }
    /* Others have it, but not on their disks; or less than all of it. */
    acknowledge(&in, 0, lsn[2], lsn[0] - 1);
    struct ack_view v;
    store_ack_view(in.store, &v);
    WAIT_FOR((store_ack_view(in.store, &v), v.acked == lsn[0] - 1));
    WAIT_FOR((store_ack_view(in.store, &v), v.held == 3));
    assert_int_equal(seen(&in), before);
    assert_int_equal(count(&in), 0);
    assert_false(atomic_load(&woken));
    assert_false(atomic_load(&q[0].done));

    acknowledge(&in, 0, lsn[2], lsn[1]);
    WAIT_FOR(atomic_load(&q[0].done) && atomic_load(&q[1].done));
    assert_int_equal(q[0].code, ERR_OK);
    assert_int_equal(count(&in), 2);
    assert_int_equal(seen(&in), lsn[1]);
    WAIT_FOR(atomic_load(&woken));
    assert_false(atomic_load(&q[2].done));
    uint64_t digest = 0;
    assert_true(store_digest_at(in.store, lsn[0], &digest));
    assert_false(store_digest_at(in.store, lsn[2], &digest));

    acknowledge(&in, 0, lsn[2], lsn[2]);
    WAIT_FOR(atomic_load(&q[2].done));
    assert_int_equal(count(&in), 3);
    store_ack_view(in.store, &v);
    assert_int_equal(v.held, 0);
    assert_int_equal(v.alone, 0);
    store_release(&old);
    store_unwatch(&w);
    end(&in);
}

/* The second delivery of a message is answered no earlier than the first. */
static void
test_answers_without_records_wait_too(void **unused)
{
    struct instance in;
    struct asked first, again;

    (void)unused;
    begin(&in, &(struct store_acks){.mode = ACK_DURABLE, .timeout_ms = 60000},
          1);
    const lsn_t before = durable(&in);
    ask_dedup(&in, &first, "Subject: once\r\n\r\n");
    WAIT_FOR(durable(&in) > before);
    ask_dedup(&in, &again, "Subject: once\r\n\r\n");
    struct ack_view v;
    WAIT_FOR((store_ack_view(in.store, &v), v.held == 2));
    assert_false(atomic_load(&again.done));
    acknowledge(&in, 0, durable(&in), durable(&in));
    WAIT_FOR(atomic_load(&first.done) && atomic_load(&again.done));
    assert_int_equal(count(&in), 1);
    end(&in);
}

static void
test_received_is_enough_if_asked_for(void **unused)
{
    struct instance in;
    struct asked q;

    (void)unused;
    begin(&in, &(struct store_acks){.mode = ACK_RECEIVED, .timeout_ms = 60000},
          1);
    const lsn_t before = durable(&in);
    ask(&in, &q, "Subject: r\r\n\r\n");
    WAIT_FOR(durable(&in) > before);
    acknowledge(&in, 0, durable(&in), before);
    WAIT_FOR(atomic_load(&q.done));
    assert_int_equal(q.code, ERR_OK);
    end(&in);
}

/* Two of three: the second best counts, and one that does not stream does
 * not. */
static void
test_so_many_replicas_as_are_asked_for(void **unused)
{
    struct instance in;
    struct asked q;
    struct ack_view v;

    (void)unused;
    begin(&in,
          &(struct store_acks){
              .mode = ACK_DURABLE, .replicas = 2, .timeout_ms = 60000},
          3);
    const lsn_t before = durable(&in);
    ask(&in, &q, "Subject: n\r\n\r\n");
    WAIT_FOR(durable(&in) > before);
    const lsn_t lsn = durable(&in);
    acknowledge(&in, 0, lsn, lsn);
    slot_set_state(in.slot[1], SLOT_CONNECTING, "gone", 2);
    atomic_store(&in.slot[1]->durable_lsn, lsn);
    bell_ring(in.bell);
    WAIT_FOR((store_ack_view(in.store, &v), v.have == 2));
    assert_int_equal(v.acked, 1);
    assert_false(atomic_load(&q.done));
    acknowledge(&in, 2, lsn, lsn);
    WAIT_FOR(atomic_load(&q.done));
    assert_int_equal(q.code, ERR_OK);
    end(&in);
}

/* Refuse: an error, nothing is seen, nothing more is taken; then the replica
 * comes after all, and what was durable appears. */
static void
test_refuse_until_the_replica_comes(void **unused)
{
    struct instance in;
    struct asked q, next;

    (void)unused;
    begin(&in, &(struct store_acks){.mode = ACK_DURABLE, .timeout_ms = 200}, 1);
    ask(&in, &q, "Subject: late\r\n\r\n");
    WAIT_FOR(atomic_load(&q.done));
    assert_int_equal(q.code, ERR_TIMEOUT);
    assert_int_equal(state(&in), ACKS_REFUSING);
    assert_int_equal(count(&in), 0);
    const lsn_t lsn = durable(&in);
    assert_true(seen(&in) < lsn);
    ask(&in, &next, "Subject: not taken\r\n\r\n");
    WAIT_FOR(atomic_load(&next.done));
    assert_int_equal(next.code, ERR_TIMEOUT);
    assert_int_equal(durable(&in), lsn);

    acknowledge(&in, 0, lsn, lsn);
    WAIT_FOR(state(&in) == ACKS_WAITING);
    assert_int_equal(count(&in), 1);
    assert_int_equal(seen(&in), lsn);
    ask(&in, &next, "Subject: taken\r\n\r\n");
    WAIT_FOR(durable(&in) > lsn);
    acknowledge(&in, 0, durable(&in), durable(&in));
    WAIT_FOR(atomic_load(&next.done));
    assert_int_equal(next.code, ERR_OK);
    end(&in);
}

/* A channel that has been away for the whole timeout: nothing is even written.
 */
static void
test_refuse_at_once_when_none_streams(void **unused)
{
    struct instance in;
    struct asked q;

    (void)unused;
    begin(&in, &(struct store_acks){.mode = ACK_DURABLE, .timeout_ms = 200}, 1);
    slot_set_state(in.slot[0], SLOT_CONNECTING, "gone", 2);
    bell_ring(in.bell);
    WAIT_FOR(state(&in) == ACKS_REFUSING);
    const lsn_t lsn = durable(&in);
    ask(&in, &q, "Subject: no\r\n\r\n");
    WAIT_FOR(atomic_load(&q.done));
    assert_int_equal(q.code, ERR_TIMEOUT);
    assert_int_equal(durable(&in), lsn);
    end(&in);
}

static void
test_degrade_goes_on_and_comes_back(void **unused)
{
    struct instance in;
    struct asked q, next;
    struct ack_view v;

    (void)unused;
    begin(&in,
          &(struct store_acks){
              .mode = ACK_DURABLE, .timeout_ms = 200, .degrade = true},
          1);
    ask(&in, &q, "Subject: late\r\n\r\n");
    WAIT_FOR(atomic_load(&q.done));
    assert_int_equal(q.code, ERR_OK);
    assert_int_equal(state(&in), ACKS_DEGRADED);
    assert_int_equal(count(&in), 1);
    ask(&in, &next, "Subject: alone\r\n\r\n");
    WAIT_FOR(atomic_load(&next.done));
    assert_int_equal(next.code, ERR_OK);
    store_ack_view(in.store, &v);
    assert_int_equal(v.alone, 1);
    assert_int_equal(v.refused, 0);

    acknowledge(&in, 0, durable(&in), durable(&in));
    WAIT_FOR(state(&in) == ACKS_WAITING);
    const lsn_t lsn = durable(&in);
    ask(&in, &next, "Subject: waits again\r\n\r\n");
    WAIT_FOR(durable(&in) > lsn);
    acknowledge(&in, 0, durable(&in), durable(&in));
    WAIT_FOR(atomic_load(&next.done));
    end(&in);
}

struct fencing {
    struct instance *in;
    atomic_bool up;
};

static void *
fence(void *ctx)
{
    struct fencing *f = ctx;

    atomic_store(&f->up, store_check_fence(f->in->store));
    return NULL;
}

/* The fence is up when what went before it is answered. */
static void
test_fence_waits_for_what_waits(void **unused)
{
    struct instance in;
    struct fencing f = {.in = &in};
    struct error err = {0};
    struct asked q, late;
    pthread_t thread;

    (void)unused;
    begin(&in, &(struct store_acks){.mode = ACK_DURABLE, .timeout_ms = 60000},
          1);
    const lsn_t before = durable(&in);
    ask(&in, &q, "Subject: before the fence\r\n\r\n");
    WAIT_FOR(durable(&in) > before);
    assert_int_equal(
        env_write_file_atomic(env_system(), in.fence, SPAN_LIT("test\n"), &err),
        ERR_OK);
    assert_int_equal(pthread_create(&thread, NULL, fence, &f), 0);
    ask(&in, &late, "Subject: behind the fence\r\n\r\n");
    WAIT_FOR(atomic_load(&late.done));
    assert_int_equal(late.code, ERR_FENCED);
    assert_false(atomic_load(&f.up));
    assert_int_equal(atomic_load(&synclog_mark(store_log(in.store))->fence), 0);
    acknowledge(&in, 0, durable(&in), durable(&in));
    pthread_join(thread, NULL);
    assert_true(atomic_load(&f.up));
    assert_true(atomic_load(&q.done));
    assert_int_equal(q.code, ERR_OK);
    assert_int_equal(atomic_load(&synclog_mark(store_log(in.store))->fence), 1);
    end(&in);
}

/* Deposed, or closed, with something waiting: refused, and there. */
static void
test_end_of_the_role_and_of_the_store(void **unused)
{
    struct instance in;
    struct asked q;

    (void)unused;
    begin(&in, &(struct store_acks){.mode = ACK_DURABLE, .timeout_ms = 60000},
          1);
    lsn_t before = durable(&in);
    ask(&in, &q, "Subject: deposed\r\n\r\n");
    WAIT_FOR(durable(&in) > before);
    store_set_role(in.store, ROLE_FENCED, 3);
    WAIT_FOR(atomic_load(&q.done));
    assert_int_equal(q.code, ERR_FENCED);
    assert_int_equal(seen(&in), durable(&in));
    assert_int_equal(count(&in), 1);
    end(&in);

    begin(&in, &(struct store_acks){.mode = ACK_DURABLE, .timeout_ms = 60000},
          1);
    before = durable(&in);
    ask(&in, &q, "Subject: closed\r\n\r\n");
    WAIT_FOR(durable(&in) > before);
    store_close(&in.store);
    assert_true(atomic_load(&q.done));
    assert_int_equal(q.code, ERR_CLOSED);
    open_store(&in, &(struct store_acks){.mode = ACK_NONE});
    assert_int_equal(count(&in), 1);
    end(&in);
}

static void
test_bell_of_another_version_is_refused(void **unused)
{
    struct synclog_bell *bell = NULL, *same = NULL;
    char dir[] = "/tmp/pollux-bell-XXXXXX";
    struct error err = {0};

    (void)unused;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(bell_attach(dir, &bell, &err), ERR_OK);
    assert_int_equal(bell_attach(dir, &same, &err), ERR_OK);
    uint32_t seq = atomic_load(&bell->seq);
    assert_int_equal(bell_wait(bell, seq, 1), seq);
    bell_ring(same);
    assert_int_equal(bell_wait(bell, seq, 10000), seq + 1);
    same->version++;
    bell_detach(&same);
    assert_int_equal(bell_attach(dir, &same, &err), ERR_VERSION);
    bell_detach(&bell);
    remove_tree(dir);
    char longer[5000];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(bell_attach(longer, &bell, &err), ERR_LIMIT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shown_and_answered_when_acknowledged),
        cmocka_unit_test(test_answers_without_records_wait_too),
        cmocka_unit_test(test_received_is_enough_if_asked_for),
        cmocka_unit_test(test_so_many_replicas_as_are_asked_for),
        cmocka_unit_test(test_refuse_until_the_replica_comes),
        cmocka_unit_test(test_refuse_at_once_when_none_streams),
        cmocka_unit_test(test_degrade_goes_on_and_comes_back),
        cmocka_unit_test(test_fence_waits_for_what_waits),
        cmocka_unit_test(test_end_of_the_role_and_of_the_store),
        cmocka_unit_test(test_a_channel_by_state_counts_for_nobody),
        cmocka_unit_test(test_bell_of_another_version_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
