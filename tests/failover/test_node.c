/*
 * tests/failover/test_node.c - two nodes in one process, without sockets: what
 * a twin may ask of the other is called directly, and frames are carried by
 * hand.
 *
 * Names of the invariants (N1 to N5) as in failover/node.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/env_sim.h"
#include "failover/node.h"
#include "failover/nodefile.h"
#include "store/compact.h"
#include "store/kv.h"
#include "store/kv_mem.h"
#include "store/seed.h"
#include "store/txn.h"
#include "synclog/reader.h"

struct twin {
    char dir[256];
    char fence[300];
    struct node *node;
    struct csync_instance i;
    struct arena arena;
};

struct pair {
    char root[200];
    struct twin a, b;
};

static void
open_twin(struct twin *t, bool has_twin)
{
    struct node_config cfg = {
        .store = {.dir = t->dir,
                  .pack_dir = t->dir,
                  .fence_path = t->fence,
                  .segment_bytes = 16U << 20,
                  .cache_bytes = 8U << 20},
        .servername = "test.example",
        .has_twin = has_twin,
        .uid_headroom = 1000,
        .swap_hold_ms = 2000,
        .swap_max_lag = 10,
    };
    struct node_hooks hooks = {0};
    struct store_opened found;
    struct error err = {0};

    if (node_open(env_system(), &cfg, &hooks, &t->node, &found, &err) != ERR_OK)
        fail_msg("%s", err.text);
    node_csync_instance(t->node, &t->i);
}

static void
close_twin(struct twin *t)
{
    node_close(&t->node);
    arena_free(&t->arena);
}

static int
setup(void **state)
{
    struct pair *p = calloc(1, sizeof(*p));
    const char *tmp = getenv("TMPDIR");

    snprintf(p->root, sizeof(p->root), "%s/pollux-node-XXXXXX",
             tmp == NULL ? "/tmp" : tmp);
    assert_non_null(mkdtemp(p->root));
    snprintf(p->a.dir, sizeof(p->a.dir), "%s/a", p->root);
    snprintf(p->b.dir, sizeof(p->b.dir), "%s/b", p->root);
    snprintf(p->a.fence, sizeof(p->a.fence), "%s/a-shutdown", p->root);
    snprintf(p->b.fence, sizeof(p->b.fence), "%s/b-shutdown", p->root);
    open_twin(&p->a, true);
    open_twin(&p->b, true);
    *state = p;
    return 0;
}

static int
teardown(void **state)
{
    struct pair *p = *state;
    char command[300];

    close_twin(&p->a);
    close_twin(&p->b);
    snprintf(command, sizeof(command), "rm -rf '%s'", p->root);
    (void)!system(command);
    free(p);
    return 0;
}

/* "VERB [%(...)]" to T. */
static enum errcode
verb(struct twin *t, const char *line, struct error *err)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct arena a = ARENA_INIT;
    struct dlist *d = NULL;
    size_t used = 0;
    struct span name = span_str(line);

    buf_add_str(&text, line);
    buf_add_str(&text, "\r\n");
    if (strchr(line, ' ') != NULL) {
        assert_int_equal(dlist_parse(buf_span(&text), &dlist_default_limits, &a,
                                     &d, &used, err),
                         PARSE_DONE);
        name = d->name;
    }
    enum errcode rc = t->i.node(t->i.ctx, name, d, &out, err);
    arena_free(&a);
    return rc;
}

static struct logstatus
status(struct twin *t)
{
    struct logstatus s;

    t->i.status(t->i.ctx, &t->arena, &s);
    return s;
}

static enum errcode
follow(struct twin *replica, struct twin *master, struct error *err)
{
    struct logstatus s = status(master);

    return replica->i.follow(replica->i.ctx, &s.cluster, &s.instance, s.epoch,
                             err);
}

/* ---- mail, and its way over -------------------------------------------- */

static enum errcode
create(struct twin *t, const char *name, struct error *err)
{
    struct store_txn *txn = txn_new();
    struct txn_mailbox mb = {.name = name, .partition = "default"};

    txn_create(txn, &mb);
    enum errcode rc = store_commit(node_store(t->node), txn, err);
    txn_free(&txn);
    return rc;
}

static uint32_t
append(struct twin *t, const char *mailbox, const char *text)
{
    struct store *store = node_store(t->node);
    struct store_snap *snap = store_snapshot(store);
    struct mailbox mb;
    struct error err = {0};
    struct body *body = store_body_new(store, 1U << 20);
    struct store_txn *txn = txn_new();

    assert_int_equal(snap_mailbox_by_name(snap, mailbox, &t->arena, &mb, &err),
                     ERR_OK);
    store_release(&snap);
    assert_int_equal(body_write(body, span_str(text), &err), ERR_OK);
    assert_int_equal(body_finish(body, &err), ERR_OK);
    struct txn_append msg = {.id = mb.id, .body = body};
    size_t op = txn_append(txn, &msg);
    assert_int_equal(store_commit(store, txn, &err), ERR_OK);
    uint32_t uid = txn_result(txn, op)->uids.r[0].first;
    txn_free(&txn);
    body_free(&body);
    return uid;
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    enum errcode code;
    struct error err;
};

static void
on_frames(void *ctx, enum errcode code, const struct error *err,
          struct store_pos pos)
{
    struct waiter *w = ctx;

    (void)pos;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    w->code = code;
    if (err != NULL)
        w->err = *err;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

/* Everything that is durable on FROM and not yet on TO. */
static enum errcode
ship(struct twin *from, struct twin *to, struct error *err)
{
    struct store *source = node_store(from->node);
    struct store *target = node_store(to->node);
    struct synclog_reader *r = NULL;
    char dir[300];

    snprintf(dir, sizeof(dir), "%s/synclog", from->dir);
    enum errcode rc =
        reader_open(env_system(), dir, synclog_mark(store_log(source)),
                    store_pos(target).applied.lsn, &r, err);
    while (rc == ERR_OK) {
        struct waiter w = {.lock = PTHREAD_MUTEX_INITIALIZER,
                           .cond = PTHREAD_COND_INITIALIZER};
        struct span frames = SPAN_EMPTY;
        lsn_t last = 0;
        uint64_t time_us = 0;
        rc = reader_next(r, 1U << 20, &frames, &last, &time_us, err);
        if (rc != ERR_OK || frames.n == 0)
            break;
        store_append_frames(target, frames, on_frames, &w);
        pthread_mutex_lock(&w.lock);
        while (!w.done)
            pthread_cond_wait(&w.cond, &w.lock);
        pthread_mutex_unlock(&w.lock);
        rc = w.code;
        *err = w.err;
    }
    reader_close(&r);
    return rc;
}

static void
assert_equal_state(struct pair *p)
{
    struct store_pos a = store_pos(node_store(p->a.node));
    struct store_pos b = store_pos(node_store(p->b.node));

    assert_int_equal(a.applied.lsn, b.applied.lsn);
    assert_int_equal(a.applied.epoch, b.applied.epoch);
    assert_true(a.chain == b.chain);
    assert_true(a.digest == b.digest);
}

/* A is the master with a message, B follows and is level. */
static void
start_pair(struct pair *p)
{
    struct error err = {0};

    assert_int_equal(verb(&p->a, "PROMOTE", &err), ERR_OK);
    assert_int_equal(create(&p->a, "user.jane", &err), ERR_OK);
    assert_int_equal(append(&p->a, "user.jane", "Subject: 1\r\n\r\n"), 1);
    if (follow(&p->b, &p->a, &err) != ERR_OK)
        fail_msg("%s", err.text);
    if (ship(&p->a, &p->b, &err) != ERR_OK)
        fail_msg("%s", err.text);
    assert_equal_state(p);
}

static enum errcode
handover(struct pair *p, uint64_t token, epoch_t epoch, struct error *err)
{
    struct store_pos at = store_pos(node_store(p->a.node));

    return p->b.i.handover(p->b.i.ctx, token, epoch, &at, err);
}

/* ---- tests ------------------------------------------------------------- */

static void
test_new_twin_writes_nothing_until_promoted_N3(void **state)
{
    struct pair *p = *state;
    struct error err = {0};

    assert_int_equal(status(&p->a).role, ROLE_REPLICA);
    assert_int_equal(create(&p->a, "user.x", &err), ERR_READONLY);
    assert_int_equal(verb(&p->a, "PROMOTE", &err), ERR_OK);
    assert_int_equal(status(&p->a).role, ROLE_MASTER);
    assert_int_equal(status(&p->a).epoch, 1);
    assert_int_equal(create(&p->a, "user.x", &err), ERR_OK);
    assert_int_equal(verb(&p->a, "PROMOTE", &err), ERR_CONFLICT);
}

static void
test_swap_hands_over_and_back(void **state)
{
    struct pair *p = *state;
    struct error err = {0};
    uint64_t token = 0;

    start_pair(p);
    assert_int_equal(p->b.i.prepare(p->b.i.ctx, 2, &token, &err), ERR_OK);
    assert_int_equal(verb(&p->a, "FENCE %(WHY swap SWAP 0)", &err), ERR_OK);
    assert_int_equal(create(&p->a, "user.late", &err), ERR_FENCED);
    assert_int_equal(handover(p, token, 2, &err), ERR_OK);
    assert_int_equal(status(&p->b).role, ROLE_MASTER);
    assert_int_equal(status(&p->b).epoch, 2);
    assert_int_equal(verb(&p->a, "DEMOTE %(EPOCH 2)", &err), ERR_OK);
    assert_int_equal(status(&p->a).role, ROLE_REPLICA);
    assert_false(status(&p->a).fence);

    assert_int_equal(append(&p->b, "user.jane", "Subject: 2\r\n\r\n"), 2);
    assert_int_equal(follow(&p->a, &p->b, &err), ERR_OK);
    assert_int_equal(ship(&p->b, &p->a, &err), ERR_OK);
    assert_equal_state(p);
    assert_int_equal(create(&p->a, "user.no", &err), ERR_READONLY);
}

static void
test_handover_that_was_called_off_never_promotes_N5(void **state)
{
    struct pair *p = *state;
    struct error err = {0};
    uint64_t old = 0;
    uint64_t token = 0;

    start_pair(p);
    assert_int_equal(p->b.i.prepare(p->b.i.ctx, 2, &old, &err), ERR_OK);
    assert_int_equal(p->b.i.prepare(p->b.i.ctx, 2, &token, &err), ERR_OK);
    assert_int_equal(handover(p, old, 2, &err), ERR_CONFLICT);
    assert_int_equal(p->b.i.cancel(p->b.i.ctx, token, &err), ERR_OK);
    assert_int_equal(handover(p, token, 2, &err), ERR_CONFLICT);
    assert_int_equal(status(&p->b).role, ROLE_REPLICA);

    assert_int_equal(p->b.i.prepare(p->b.i.ctx, 2, &token, &err), ERR_OK);
    assert_int_equal(handover(p, token, 2, &err), ERR_OK);
    assert_int_equal(p->b.i.cancel(p->b.i.ctx, token, &err), ERR_CONFLICT);
}

static void
test_handover_is_refused_when_anything_differs(void **state)
{
    struct pair *p = *state;
    struct error err = {0};
    uint64_t token = 0;

    start_pair(p);
    struct store_pos at = store_pos(node_store(p->a.node));
    assert_int_equal(p->b.i.prepare(p->b.i.ctx, 3, &token, &err), ERR_FENCED);
    assert_int_equal(p->b.i.prepare(p->b.i.ctx, 2, &token, &err), ERR_OK);
    struct store_pos wrong = at;
    wrong.digest ^= 1;
    assert_int_equal(p->b.i.handover(p->b.i.ctx, token, 2, &wrong, &err),
                     ERR_HISTORY);
    wrong = at;
    wrong.chain ^= 1;
    assert_int_equal(p->b.i.handover(p->b.i.ctx, token, 2, &wrong, &err),
                     ERR_HISTORY);
    wrong = at;
    wrong.applied.lsn++;
    assert_int_equal(p->b.i.handover(p->b.i.ctx, token, 2, &wrong, &err),
                     ERR_GAP);
    assert_int_equal(p->b.i.handover(p->b.i.ctx, token, 2, &at, &err), ERR_OK);
}

static void
test_old_master_is_fenced_by_a_newer_epoch_N1_N2(void **state)
{
    struct pair *p = *state;
    struct error err = {0};

    start_pair(p);
    append(&p->a, "user.jane", "Subject: lost\r\n\r\n");
    assert_int_equal(verb(&p->b, "PROMOTE", &err), ERR_OK);
    assert_int_equal(follow(&p->a, &p->b, &err), ERR_FENCED);
    assert_int_equal(status(&p->a).role, ROLE_FENCED);
    assert_int_equal(create(&p->a, "user.x", &err), ERR_FENCED);
    /* It stays so over a restart. */
    close_twin(&p->a);
    p->a.arena = ARENA_INIT;
    open_twin(&p->a, true);
    assert_int_equal(status(&p->a).role, ROLE_FENCED);
    assert_int_equal(verb(&p->a, "PROMOTE", &err), ERR_FENCED);
    /* And the new one refuses the old one's stream. */
    struct logstatus a = status(&p->a);
    assert_int_equal(
        p->b.i.follow(p->b.i.ctx, &a.cluster, &a.instance, 1, &err),
        ERR_FENCED);
}

/* I7: what the dead master had handed out is never handed out again. */
static void
test_promotion_leaves_headroom_for_uids_I7(void **state)
{
    struct pair *p = *state;
    struct error err = {0};

    start_pair(p);
    assert_int_equal(append(&p->a, "user.jane", "Subject: lost\r\n\r\n"), 2);
    assert_int_equal(verb(&p->b, "PROMOTE", &err), ERR_OK);
    /* Nor is it told as UIDNEXT, or HIGHESTMODSEQ lowered (I8, I9). */
    struct store_snap *snap = store_snapshot(node_store(p->b.node));
    struct mailbox mb;
    assert_int_equal(
        snap_mailbox_by_name(snap, "user.jane", &p->b.arena, &mb, &err),
        ERR_OK);
    store_release(&snap);
    assert_int_equal(mb.uidnext, 2 + 1000);
    assert_int_equal(modseq_epoch(mb.highestmodseq), 2);
    assert_int_equal(append(&p->b, "user.jane", "Subject: new\r\n\r\n"),
                     2 + 1000);
    assert_int_equal(append(&p->b, "user.jane", "Subject: next\r\n\r\n"),
                     3 + 1000);
}

static void
test_deposed_without_a_tail_becomes_the_replica(void **state)
{
    struct pair *p = *state;
    struct error err = {0};

    start_pair(p);
    assert_int_equal(verb(&p->b, "PROMOTE", &err), ERR_OK);
    struct logstatus b = status(&p->b);
    assert_int_equal(node_heard(p->a.node, &b, &err), ERR_OK);
    assert_int_equal(status(&p->a).role, ROLE_REPLICA);
    assert_int_equal(follow(&p->a, &p->b, &err), ERR_OK);
    assert_int_equal(ship(&p->b, &p->a, &err), ERR_OK);
    assert_equal_state(p);
}

static void
test_tail_is_exported_before_a_rejoin_P5(void **state)
{
    struct pair *p = *state;
    struct error err = {0};
    char path[600];

    start_pair(p);
    struct logpos fork = store_pos(node_store(p->a.node)).applied;
    append(&p->a, "user.jane", "Subject: lost\r\n\r\n");
    assert_int_equal(verb(&p->b, "PROMOTE", &err), ERR_OK);
    assert_int_equal(verb(&p->a, "EXPORT", &err), ERR_CONFLICT);
    struct logstatus b = status(&p->b);
    assert_int_equal(node_heard(p->a.node, &b, &err), ERR_OK);
    assert_int_equal(status(&p->a).role, ROLE_FENCED);
    if (verb(&p->a, "REJOIN", &err) != ERR_OK)
        fail_msg("%s", err.text);

    snprintf(path, sizeof(path),
             "%s/export/epoch-1-after-%" PRI_LSN "/index.txt", p->a.dir,
             fork.lsn);
    AUTO(buf_free) struct buf index = BUF_INIT;
    assert_int_equal(env_read_file(env_system(), path, 1U << 20, &index, &err),
                     ERR_OK);
    assert_true(span_find(buf_span(&index), SPAN_LIT("append")) > 0);
    assert_true(span_find(buf_span(&index), SPAN_LIT("user.jane")) > 0);

    struct logstatus a = status(&p->a);
    assert_int_equal(a.role, ROLE_REPLICA);
    assert_true(a.seed_wanted);
    assert_true(store_is_empty(node_store(p->a.node)));
    assert_int_equal(verb(&p->a, "PROMOTE", &err), ERR_CONFLICT);
    /* The new master's log begins at 1, so it can follow from there. */
    assert_int_equal(follow(&p->a, &p->b, &err), ERR_OK);
    assert_int_equal(ship(&p->b, &p->a, &err), ERR_OK);
    assert_equal_state(p);
}

static void
test_other_cluster_and_oneself_are_refused(void **state)
{
    struct pair *p = *state;
    struct error err = {0};
    struct instid other = {{9}};

    start_pair(p);
    struct logstatus a = status(&p->a);
    assert_int_equal(p->b.i.follow(p->b.i.ctx, &other, &a.instance, 1, &err),
                     ERR_HISTORY);
    assert_int_equal(
        p->a.i.follow(p->a.i.ctx, &a.cluster, &a.instance, 1, &err),
        ERR_CONFLICT);
}

static void
test_fence_by_hand_binds_like_the_tools_N4(void **state)
{
    struct pair *p = *state;
    struct error err = {0};

    start_pair(p);
    assert_int_equal(env_write_file_atomic(env_system(), p->a.fence,
                                           SPAN_LIT("maintenance\n"), &err),
                     ERR_OK);
    assert_true(store_check_fence(node_store(p->a.node)));
    assert_int_equal(create(&p->a, "user.x", &err), ERR_FENCED);
    assert_int_equal(verb(&p->a, "UNFENCE", &err), ERR_OK);
    assert_int_equal(create(&p->a, "user.x", &err), ERR_OK);
}

static void
test_fence_of_a_handover_is_not_lowered_unasked(void **state)
{
    struct pair *p = *state;
    struct error err = {0};

    start_pair(p);
    assert_int_equal(
        verb(&p->a, "FENCE %(WHY \"handover sent to b:2005\" SWAP 0)", &err),
        ERR_OK);
    assert_int_equal(verb(&p->a, "UNFENCE", &err), ERR_CONFLICT);
    assert_non_null(strstr(err.text, "handover sent to b:2005,"));
    assert_int_equal(verb(&p->a, "UNFENCE %(FORCE 1)", &err), ERR_OK);

    /* Deposed meanwhile: it could not write anyhow, and has to follow. */
    assert_int_equal(verb(&p->a, "FENCE %(WHY \"handover sent\" SWAP 0)", &err),
                     ERR_OK);
    assert_int_equal(
        verb(&p->a, "DEPOSED %(EPOCH 2 FORK 0 CHAIN 0000000000000000)", &err),
        ERR_OK);
    assert_int_equal(status(&p->a).role, ROLE_FENCED);
    assert_int_equal(verb(&p->a, "UNFENCE", &err), ERR_OK);
    assert_false(status(&p->a).fence);
    assert_int_equal(create(&p->a, "user.x", &err), ERR_FENCED);
}

/* A crash between the node file and the epoch's record. */
static void
test_promotion_cut_short_is_finished_at_the_next_start(void **state)
{
    struct pair *p = *state;
    struct error err = {0};
    struct nodefile n;
    char path[300];

    start_pair(p);
    close_twin(&p->b);
    p->b.arena = ARENA_INIT;
    snprintf(path, sizeof(path), "%s/node", p->b.dir);
    assert_int_equal(nodefile_read(env_system(), path, &n, &err), ERR_OK);
    n.role = ROLE_MASTER;
    n.epoch = 2;
    n.uid_headroom = 1000;
    assert_int_equal(nodefile_write(env_system(), path, &n, &err), ERR_OK);
    open_twin(&p->b, true);
    struct logstatus b = status(&p->b);
    assert_int_equal(b.role, ROLE_MASTER);
    assert_int_equal(b.nepochs, 2);
    assert_int_equal(b.epochs[1].epoch, 2);
    assert_int_equal(b.epochs[1].uid_headroom, 1000);
}

/* The same while the fence is up, which then goes in any way. */
static void
test_promotion_cut_short_is_finished_when_the_fence_goes(void **state)
{
    struct pair *p = *state;
    struct error err = {0};
    struct nodefile n;
    char path[300];

    start_pair(p);
    close_twin(&p->b);
    p->b.arena = ARENA_INIT;
    snprintf(path, sizeof(path), "%s/node", p->b.dir);
    assert_int_equal(nodefile_read(env_system(), path, &n, &err), ERR_OK);
    n.role = ROLE_MASTER;
    n.epoch = 2;
    n.uid_headroom = 1000;
    assert_int_equal(nodefile_write(env_system(), path, &n, &err), ERR_OK);
    assert_int_equal(env_write_file_atomic(env_system(), p->b.fence,
                                           SPAN_LIT("maintenance\n"), &err),
                     ERR_OK);
    open_twin(&p->b, true);
    assert_int_equal(status(&p->b).nepochs, 1);
    assert_int_equal(create(&p->b, "user.x", &err), ERR_FENCED);
    assert_int_equal(unlink(p->b.fence), 0); /* by hand */
    enum errcode rc = ERR_FENCED;
    for (int i = 0; rc != ERR_OK && i < 2000; i++) {
        assert_false(store_check_fence(node_store(p->b.node)));
        rc = create(&p->b, "user.x", &err);
        assert_true(rc == ERR_OK || rc == ERR_READONLY);
        poll(NULL, 0, rc == ERR_OK ? 0 : 5);
    }
    assert_int_equal(rc, ERR_OK);
    struct logstatus b = status(&p->b);
    assert_int_equal(b.role, ROLE_MASTER);
    assert_int_equal(b.nepochs, 2);
    assert_int_equal(b.epochs[1].epoch, 2);
    assert_int_equal(b.epochs[1].uid_headroom, 1000);
}

/* ---- what lies behind a fork ------------------------------------------- */

static bool
give_body(void *ctx, const struct guid *guid, uint64_t size)
{
    void **v = ctx;
    struct body_loc loc;
    AUTO(buf_free) struct buf stored = BUF_INIT;
    struct error err = {0};

    (void)size;
    assert_int_equal(seed_read_part(v[0], v[1], guid, 0, &loc, &stored, &err),
                     ERR_OK);
    assert_int_equal(seed_put_part(v[2], guid, &loc, buf_span(&stored), &err),
                     ERR_OK);
    return true;
}

static bool
give_row(void *ctx, struct span key, struct span value)
{
    void **v = ctx;
    struct error err = {0};

    assert_int_equal(seed_put_row(v[2], key, value, &err), ERR_OK);
    return true;
}

/* TO is empty, and gets FROM's state, not its log. */
static void
give_seed(struct twin *from, struct twin *to)
{
    struct store *source = node_store(from->node);
    struct store_snap *snap = store_snapshot(source);
    const struct store_pos pos = snap_pos(snap);
    struct seed *seed = NULL;
    struct error err = {0};

    assert_int_equal(follow(to, from, &err), ERR_OK);
    assert_int_equal(seed_open(node_store(to->node), &seed, &err), ERR_OK);
    void *v[] = {source, snap, seed};
    assert_int_equal(seed_each_guid(snap, NULL, give_body, v, &err), ERR_OK);
    assert_int_equal(seed_begin_rows(seed, &err), ERR_OK);
    assert_int_equal(snap_each_row(snap, SPAN_EMPTY, give_row, v, &err),
                     ERR_OK);
    if (seed_finish(seed, &pos, &err) != ERR_OK)
        fail_msg("%s", err.text);
    seed_close(&seed);
    store_release(&snap);
}

static void
read_index(struct twin *t, epoch_t epoch, lsn_t fork, struct buf *ret)
{
    char path[600];
    struct error err = {0};

    snprintf(path, sizeof(path),
             "%s/export/epoch-%" PRI_EPOCH "-after-%" PRI_LSN "/index.txt",
             t->dir, epoch, fork);
    if (env_read_file(env_system(), path, 1U << 20, ret, &err) != ERR_OK)
        fail_msg("%s", err.text);
}

static size_t
lines_of(const struct buf *b)
{
    size_t n = 0;

    for (size_t i = 0; i < b->n; i++)
        n += b->p[i] == '\n';
    return n;
}

/* A master that had been seeded is deposed, and the fork is before its log:
 * what is not in that comes from the state. */
static void
test_export_takes_from_the_state_what_the_log_has_not(void **state)
{
    struct pair *p = *state;
    struct error err = {0};
    char line[100];

    assert_int_equal(verb(&p->a, "PROMOTE", &err), ERR_OK);
    assert_int_equal(create(&p->a, "user.jane", &err), ERR_OK);
    const lsn_t fork = store_pos(node_store(p->a.node)).applied.lsn;
    append(&p->a, "user.jane", "Subject: 1\r\n\r\n");
    assert_int_equal(create(&p->a, "user.joe", &err), ERR_OK);
    give_seed(&p->a, &p->b);
    assert_equal_state(p);
    const lsn_t seeded = store_pos(node_store(p->b.node)).applied.lsn;
    assert_int_equal(verb(&p->b, "PROMOTE", &err), ERR_OK);
    append(&p->b, "user.jane", "Subject: 2\r\n\r\n");
    assert_int_equal(append(&p->b, "user.jane", "Subject: 3\r\n\r\n"), 1003);
    /* Deleted since, and in a mailbox that has another name. */
    struct uidset uids = UIDSET_INIT;
    struct mailbox mb;
    struct store_snap *snap = store_snapshot(node_store(p->b.node));
    assert_int_equal(
        snap_mailbox_by_name(snap, "user.jane", &p->b.arena, &mb, &err),
        ERR_OK);
    store_release(&snap);
    uidset_add(&uids, 1, 1);
    struct store_txn *txn = txn_new();
    txn_expunge(txn, mb.id, &uids, false);
    txn_delete(txn, mb.id, true, 7000);
    assert_int_equal(store_commit(node_store(p->b.node), txn, &err), ERR_OK);
    txn_free(&txn);
    uidset_free(&uids);
    snprintf(line, sizeof(line),
             "DEPOSED %%(EPOCH 3 FORK %" PRI_LSN " CHAIN 0000000000000000)",
             fork);
    if (verb(&p->b, line, &err) != ERR_OK)
        fail_msg("%s", err.text);
    if (verb(&p->b, "EXPORT", &err) != ERR_OK)
        fail_msg("%s", err.text);
    AUTO(buf_free) struct buf index = BUF_INIT;
    read_index(&p->b, 2, fork, &index);
    /* The gap: a message, a mailbox; the epoch, two messages, two changes. */
    assert_int_equal(seeded, fork + 2);
    assert_int_equal(lines_of(&index), 1 + 2 + 5);
    AUTO(xfree)
    char *gap = xasprintf("%" PRI_LSN "-%" PRI_LSN "\tgap", fork + 1, seeded);
    AUTO(xfree)
    char *lost = xasprintf("\n1:%" PRI_LSN "\tappend state=1 mbid=%" PRIu64
                           " uid=1 guid=",
                           fork + 1, mb.id);
    AUTO(xfree)
    char *made = xasprintf("\n1:%" PRI_LSN "\tmailbox state=1 mbid=%" PRI_LSN
                           " name=user.joe ",
                           seeded, seeded);
    assert_true(span_starts(buf_span(&index), span_str(gap)));
    const ptrdiff_t at = span_find(buf_span(&index), span_str(lost));
    assert_true(at > 0);
    assert_true(span_find(buf_span(&index), span_str(made)) > 0);
    /* The message itself lies beside it. */
    AUTO(buf_free) struct buf text = BUF_INIT;
    const char *hex = buf_cstr(&index) + (size_t)at + strlen(lost);
    AUTO(xfree)
    char *path = xasprintf("%s/export/epoch-2-after-%" PRI_LSN "/%.40s.eml",
                           p->b.dir, fork, hex);
    assert_int_equal(env_read_file(env_system(), path, 4096, &text, &err),
                     ERR_OK);
    assert_true(span_eq(buf_span(&text), SPAN_LIT("Subject: 1\r\n\r\n")));
}

/* A message that came and went behind the fork has no body any more: that is
 * said, and holds nothing up. */
static void
test_purged_message_does_not_hold_up_the_export(void **state)
{
    struct pair *p = *state;
    struct error err = {0};

    start_pair(p);
    const lsn_t fork = store_pos(node_store(p->b.node)).applied.lsn;
    const uint32_t uid =
        append(&p->a, "user.jane", "Subject: short-lived\r\n\r\n");
    append(&p->a, "user.jane", "Subject: only here\r\n\r\n");
    struct store_snap *snap = store_snapshot(node_store(p->a.node));
    struct mailbox mb;
    assert_int_equal(
        snap_mailbox_by_name(snap, "user.jane", &p->a.arena, &mb, &err),
        ERR_OK);
    store_release(&snap);
    struct uidset uids = UIDSET_INIT;
    uidset_add(&uids, uid, uid);
    for (int i = 0; i < 2; i++) {
        struct store_txn *txn = txn_new();
        if (i == 0)
            txn_expunge(txn, mb.id, &uids, false);
        else
            txn_purge(txn, mb.id, &uids);
        assert_int_equal(store_commit(node_store(p->a.node), txn, &err),
                         ERR_OK);
        txn_free(&txn);
    }
    uidset_free(&uids);
    struct compaction_view view = {0};
    for (int i = 0; view.dropped == 0 && i < 4000; i++) {
        assert_int_equal(
            store_compaction_view(node_store(p->a.node), &view, &err), ERR_OK);
        poll(NULL, 0, view.dropped == 0 ? 5 : 0);
    }
    assert_int_equal(view.dropped, 1);
    assert_int_equal(verb(&p->b, "PROMOTE", &err), ERR_OK);
    struct logstatus b = status(&p->b);
    assert_int_equal(node_heard(p->a.node, &b, &err), ERR_OK);
    if (verb(&p->a, "REJOIN", &err) != ERR_OK)
        fail_msg("%s", err.text);
    AUTO(buf_free) struct buf index = BUF_INIT;
    read_index(&p->a, 1, fork, &index);
    assert_int_equal(lines_of(&index), 4);
    assert_true(span_find(buf_span(&index), SPAN_LIT("\tpurged\n")) > 0);
}

/* A replica has followed the old master beyond where the new one began. */
static void
test_tail_of_a_replica_is_exported_before_a_rejoin(void **state)
{
    struct pair *p = *state;
    struct error err = {0};
    char line[60];

    start_pair(p);
    const lsn_t fork = store_pos(node_store(p->b.node)).applied.lsn;
    append(&p->a, "user.jane", "Subject: only here\r\n\r\n");
    assert_int_equal(ship(&p->a, &p->b, &err), ERR_OK);
    snprintf(line, sizeof(line), "REJOIN %%(FORK %" PRI_LSN ")", fork);
    if (verb(&p->b, line, &err) != ERR_OK)
        fail_msg("%s", err.text);
    AUTO(buf_free) struct buf index = BUF_INIT;
    read_index(&p->b, 1, fork, &index);
    assert_int_equal(lines_of(&index), 1);
    assert_true(span_find(buf_span(&index), SPAN_LIT("user.jane")) > 0);
    assert_true(store_is_empty(node_store(p->b.node)));
}

/* It has nothing that the new master lacks. */
static void
test_replica_before_the_fork_exports_nothing(void **state)
{
    struct pair *p = *state;
    struct error err = {0};
    char path[300];
    char line[60];

    start_pair(p);
    snprintf(line, sizeof(line), "REJOIN %%(FORK %" PRI_LSN ")",
             store_pos(node_store(p->b.node)).applied.lsn);
    assert_int_equal(verb(&p->b, line, &err), ERR_OK);
    snprintf(path, sizeof(path), "%s/export", p->b.dir);
    assert_false(env_exists(env_system(), path));
}

/* Emptied for a seed that never came, and deposed: nothing is to be exported,
 * so where the newer history began need not be known. */
static void
test_empty_one_rejoins_without_knowing_the_fork(void **state)
{
    struct pair *p = *state;
    struct error err = {0};
    struct nodefile n;
    char path[300];

    close_twin(&p->a);
    p->a.arena = ARENA_INIT;
    snprintf(path, sizeof(path), "%s/node", p->a.dir);
    assert_int_equal(nodefile_read(env_system(), path, &n, &err), ERR_OK);
    n.role = ROLE_FENCED;
    n.epoch = 4;
    assert_int_equal(nodefile_write(env_system(), path, &n, &err), ERR_OK);
    open_twin(&p->a, true);
    assert_int_equal(status(&p->a).role, ROLE_FENCED);
    assert_true(store_is_empty(node_store(p->a.node)));
    if (verb(&p->a, "REJOIN", &err) != ERR_OK)
        fail_msg("%s", err.text);
    assert_int_equal(status(&p->a).role, ROLE_REPLICA);
}

/* Who has heard of a newer epoch obeys it, so that connections made in the old
 * one are known for what they are (csync C7). */
static void
test_replica_that_hears_of_a_newer_epoch_is_in_it(void **state)
{
    struct pair *p = *state;
    struct error err = {0};

    start_pair(p);
    assert_int_equal(store_epoch(node_store(p->b.node)), 1);
    assert_int_equal(
        verb(&p->b, "DEPOSED %(EPOCH 4 FORK 0 CHAIN 0000000000000000)", &err),
        ERR_OK);
    assert_int_equal(status(&p->b).role, ROLE_REPLICA);
    assert_int_equal(store_epoch(node_store(p->b.node)), 4);
    assert_int_equal(follow(&p->b, &p->a, &err), ERR_FENCED);
}

static void
test_node_file_that_lies_about_the_epoch_is_refused(void **state)
{
    struct pair *p = *state;
    struct error err = {0};
    struct nodefile n;
    struct store_opened found;
    struct node_hooks hooks = {0};
    char path[300];

    start_pair(p);
    close_twin(&p->a);
    p->a.arena = ARENA_INIT;
    snprintf(path, sizeof(path), "%s/node", p->a.dir);
    assert_int_equal(nodefile_read(env_system(), path, &n, &err), ERR_OK);
    n.epoch = 0;
    assert_int_equal(nodefile_write(env_system(), path, &n, &err), ERR_OK);
    struct node_config cfg = {.store = {.dir = p->a.dir,
                                        .pack_dir = p->a.dir,
                                        .segment_bytes = 16U << 20,
                                        .cache_bytes = 8U << 20},
                              .servername = "x"};
    assert_int_equal(
        node_open(env_system(), &cfg, &hooks, &p->a.node, &found, &err),
        ERR_CORRUPT);
}

static void
test_instance_without_a_twin_starts_as_the_master(void **state)
{
    struct pair *p = *state;
    struct error err = {0};
    struct twin c = {0};

    snprintf(c.dir, sizeof(c.dir), "%s/c", p->root);
    snprintf(c.fence, sizeof(c.fence), "%s/c-shutdown", p->root);
    open_twin(&c, false);
    assert_int_equal(status(&c).role, ROLE_MASTER);
    assert_int_equal(create(&c, "user.solo", &err), ERR_OK);
    close_twin(&c);
}

/* ---- full disks -------------------------------------------------------- */

static struct kv *
open_kv_mem(void *ctx, const char *dir)
{
    (void)dir;
    return kv_open_mem_on(ctx);
}

/* A promotion for which there is no room leaves the epoch as it was: with a
 * newer one this instance would depose the master that it follows. */
static void
test_promotion_without_room_uses_up_no_epoch(void **state)
{
    struct env_sim *sim = env_sim_new(&(struct env_sim_options){.seed = 1});
    struct kv_disk *disk = kv_disk_new();
    struct twin t = {.dir = "/a", .fence = "/a/shutdown"};
    struct node_config cfg = {
        .store = {.dir = t.dir,
                  .fence_path = t.fence,
                  .segment_bytes = 256U << 10,
                  .no_threads = true,
                  .open_kv = open_kv_mem,
                  .open_kv_ctx = disk},
        .servername = "test.example",
        .has_twin = true,
        .uid_headroom = 1000,
    };
    struct node_hooks hooks = {0};
    struct store_opened found;
    struct error err = {0};
    enum errcode rc = ERR_OK;
    char name[40];

    (void)state;
    if (node_open(env_sim_env(sim), &cfg, &hooks, &t.node, &found, &err) !=
        ERR_OK)
        fail_msg("%s", err.text);
    node_csync_instance(t.node, &t.i);
    assert_int_equal(verb(&t, "PROMOTE", &err), ERR_OK);
    const uint64_t used = env_sim_used_bytes(sim);
    env_sim_set_disk_bytes(sim, used + 8192);
    for (int i = 0; rc == ERR_OK && i < 20000; i++) {
        snprintf(name, sizeof(name), "user.jane.%d", i);
        rc = create(&t, name, &err);
    }
    assert_int_equal(rc, ERR_NOSPACE);
    env_sim_set_disk_bytes(sim, env_sim_used_bytes(sim) + 8192);
    if (verb(&t, "DEPOSED %(EPOCH 4 FORK 0 CHAIN 0000000000000000)", &err) !=
        ERR_OK)
        fail_msg("%s", err.text);
    assert_int_equal(verb(&t, "PROMOTE %(FORCE 1)", &err), ERR_NOSPACE);
    assert_int_equal(status(&t).role, ROLE_FENCED);
    assert_int_equal(status(&t).epoch, 4);
    env_sim_set_disk_bytes(sim, 0);
    if (verb(&t, "PROMOTE %(FORCE 1)", &err) != ERR_OK)
        fail_msg("%s", err.text);
    assert_int_equal(status(&t).epoch, 5);
    assert_int_equal(create(&t, "user.joe", &err), ERR_OK);
    close_twin(&t);
    kv_disk_free(&disk);
    env_sim_free(&sim);
}

#define NODE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        NODE_TEST(test_new_twin_writes_nothing_until_promoted_N3),
        NODE_TEST(test_swap_hands_over_and_back),
        NODE_TEST(test_handover_that_was_called_off_never_promotes_N5),
        NODE_TEST(test_handover_is_refused_when_anything_differs),
        NODE_TEST(test_old_master_is_fenced_by_a_newer_epoch_N1_N2),
        NODE_TEST(test_promotion_leaves_headroom_for_uids_I7),
        NODE_TEST(test_deposed_without_a_tail_becomes_the_replica),
        NODE_TEST(test_tail_is_exported_before_a_rejoin_P5),
        NODE_TEST(test_other_cluster_and_oneself_are_refused),
        NODE_TEST(test_fence_by_hand_binds_like_the_tools_N4),
        NODE_TEST(test_fence_of_a_handover_is_not_lowered_unasked),
        NODE_TEST(test_promotion_cut_short_is_finished_at_the_next_start),
        NODE_TEST(test_promotion_cut_short_is_finished_when_the_fence_goes),
        NODE_TEST(test_export_takes_from_the_state_what_the_log_has_not),
        NODE_TEST(test_purged_message_does_not_hold_up_the_export),
        cmocka_unit_test(test_promotion_without_room_uses_up_no_epoch),
        NODE_TEST(test_tail_of_a_replica_is_exported_before_a_rejoin),
        NODE_TEST(test_replica_before_the_fork_exports_nothing),
        NODE_TEST(test_empty_one_rejoins_without_knowing_the_fork),
        NODE_TEST(test_replica_that_hears_of_a_newer_epoch_is_in_it),
        NODE_TEST(test_node_file_that_lies_about_the_epoch_is_refused),
        NODE_TEST(test_instance_without_a_twin_starts_as_the_master),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
