/*
 * tests/failover/test_rejoin.c - what lies behind a fork is exported before the
 * node gives up its store and follows the newer history (P5): from the log, and
 * from the state what the log has not.
 */
#include <poll.h>

#include "nodetest.h"
#include "store/compact.h"
#include "store/kv.h"
#include "store/seed.h"

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

/* What T tells of an export, which the second time is the same. */
static void
assert_exports(struct twin *t, const char *want)
{
    for (int i = 0; i < 2; i++) {
        AUTO(buf_free) struct buf out = BUF_INIT;
        struct error err = {0};
        if (t->i.node(t->i.ctx, SPAN_LIT("EXPORT"), NULL, &out, &err) != ERR_OK)
            fail_msg("%s", err.text);
        if (span_find(buf_span(&out), span_str(want)) < 0)
            fail_msg("got %.*s", SPAN_FMT(buf_span(&out)));
    }
}

static size_t
lines_of(const struct buf *b)
{
    size_t n = 0;

    for (size_t i = 0; i < b->n; i++)
        n += b->p[i] == '\n';
    return n;
}

static void
test_tail_is_exported_before_a_rejoin_P5(void **state)
{
    struct pair *p = *state;
    struct error err = {0};

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

    AUTO(buf_free) struct buf index = BUF_INIT;
    read_index(&p->a, 1, fork.lsn, &index);
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
    const struct mailbox mb = mailbox_of(&p->b, "user.jane");
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
    assert_exports(&p->b, "RECORDS 7 MESSAGES 3)");
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
    const struct mailbox mb = mailbox_of(&p->a, "user.jane");
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
    assert_exports(&p->a, "RECORDS 4 MESSAGES 1)");
    if (verb(&p->a, "REJOIN", &err) != ERR_OK)
        fail_msg("%s", err.text);
    AUTO(buf_free) struct buf index = BUF_INIT;
    read_index(&p->a, 1, fork, &index);
    assert_int_equal(lines_of(&index), 4);
    assert_true(span_find(buf_span(&index), SPAN_LIT("\tpurged\n")) > 0);
}

/* Its index is written and counted in pieces, a line across two of them too. */
static void
test_export_with_a_long_index(void **state)
{
    enum { MESSAGES = 2500 };
    struct pair *p = *state;
    struct error err = {0};
    char name[460] = "user.jane.";
    char path[600], want[64];

    start_pair(p);
    const lsn_t fork = store_pos(node_store(p->b.node)).applied.lsn;
    memset(name + strlen(name), 'x', sizeof(name) - 1 - strlen(name));
    assert_int_equal(create(&p->a, name, &err), ERR_OK);
    for (int i = 0; i < MESSAGES; i++)
        append(&p->a, name, "Subject: again\r\n\r\n");
    assert_int_equal(verb(&p->b, "PROMOTE", &err), ERR_OK);
    struct logstatus b = status(&p->b);
    assert_int_equal(node_heard(p->a.node, &b, &err), ERR_OK);
    snprintf(want, sizeof(want), "RECORDS %d MESSAGES %d)", MESSAGES + 1,
             MESSAGES);
    assert_exports(&p->a, want);
    snprintf(path, sizeof(path),
             "%s/export/epoch-1-after-%" PRI_LSN "/index.txt", p->a.dir, fork);
    AUTO(buf_free) struct buf index = BUF_INIT;
    assert_int_equal(env_read_file(env_system(), path, 16U << 20, &index, &err),
                     ERR_OK);
    assert_true(index.n > (1U << 20));
    assert_int_equal(lines_of(&index), MESSAGES + 1);
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

    close_twin(&p->a);
    edit_node_file(&p->a, ROLE_FENCED, 4);
    open_twin(&p->a, true);
    assert_int_equal(status(&p->a).role, ROLE_FENCED);
    assert_true(store_is_empty(node_store(p->a.node)));
    if (verb(&p->a, "REJOIN", &err) != ERR_OK)
        fail_msg("%s", err.text);
    assert_int_equal(status(&p->a).role, ROLE_REPLICA);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        NODE_TEST(test_tail_is_exported_before_a_rejoin_P5),
        NODE_TEST(test_export_takes_from_the_state_what_the_log_has_not),
        NODE_TEST(test_purged_message_does_not_hold_up_the_export),
        NODE_TEST(test_export_with_a_long_index),
        NODE_TEST(test_tail_of_a_replica_is_exported_before_a_rejoin),
        NODE_TEST(test_replica_before_the_fork_exports_nothing),
        NODE_TEST(test_empty_one_rejoins_without_knowing_the_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
