/*
 * tests/failover/nodetest.h - two nodes in one process, without sockets: what a
 * twin may ask of the other is called directly, and frames are carried by hand.
 */
#ifndef POLLUX_TESTS_NODETEST_H
#define POLLUX_TESTS_NODETEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "failover/node.h"
#include "failover/nodefile.h"
#include "store/txn.h"
#include "synclog/reader.h"
#include "tests/lib/tmpdir.h"

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

static inline void
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

/* It may be opened again. */
static inline void
close_twin(struct twin *t)
{
    node_close(&t->node);
    arena_free(&t->arena);
}

static inline int
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

static inline int
teardown(void **state)
{
    struct pair *p = *state;

    close_twin(&p->a);
    close_twin(&p->b);
    remove_tree(p->root);
    free(p);
    return 0;
}

#define NODE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* The node file of T, which is closed, as a crash or a liar leaves it. */
static inline void
edit_node_file(struct twin *t, enum role role, epoch_t epoch)
{
    AUTO(xfree) char *path = xasprintf("%s/node", t->dir);
    struct nodefile n;
    struct error err = {0};

    assert_int_equal(nodefile_read(env_system(), path, &n, &err), ERR_OK);
    n.role = role;
    n.epoch = epoch;
    n.uid_headroom = 1000;
    assert_int_equal(nodefile_write(env_system(), path, &n, &err), ERR_OK);
}

/* "VERB [%(...)]" to T. */
static inline enum errcode
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

static inline struct logstatus
status(struct twin *t)
{
    struct logstatus s;

    t->i.status(t->i.ctx, &t->arena, &s);
    return s;
}

static inline enum errcode
follow(struct twin *replica, struct twin *master, struct error *err)
{
    struct logstatus s = status(master);

    return replica->i.follow(replica->i.ctx, &s.cluster, &s.instance, s.epoch,
                             err);
}

/* ---- mail, and its way over -------------------------------------------- */

static inline enum errcode
create(struct twin *t, const char *name, struct error *err)
{
    struct store_txn *txn = txn_new();
    struct txn_mailbox mb = {.name = name, .partition = "default"};

    txn_create(txn, &mb);
    enum errcode rc = store_commit(node_store(t->node), txn, err);
    txn_free(&txn);
    return rc;
}

static inline struct mailbox
mailbox_of(struct twin *t, const char *name)
{
    struct store_snap *snap = store_snapshot(node_store(t->node));
    struct mailbox mb;
    struct error err = {0};

    assert_int_equal(snap_mailbox_by_name(snap, name, &t->arena, &mb, &err),
                     ERR_OK);
    store_release(&snap);
    return mb;
}

/* The UID. */
static inline uint32_t
append(struct twin *t, const char *mailbox, const char *text)
{
    struct store *store = node_store(t->node);
    const struct mailbox mb = mailbox_of(t, mailbox);
    struct error err = {0};
    struct body *body = store_body_new(store, 1U << 20);
    struct store_txn *txn = txn_new();

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

static inline void
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
static inline enum errcode
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

static inline void
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
static inline void
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

#endif
