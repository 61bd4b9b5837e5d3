/*
 * tests/failover/test_node.c - who may write, between two nodes: promotion,
 * planned swap, the fence.
 *
 * Names of the invariants (N1 to N5) as in failover/node.h.
 */
#include "nodetest.h"

static enum errcode
handover(struct pair *p, uint64_t token, epoch_t epoch, struct error *err)
{
    struct store_pos at = store_pos(node_store(p->a.node));

    return p->b.i.handover(p->b.i.ctx, token, epoch, &at, err);
}

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
    const struct mailbox mb = mailbox_of(&p->b, "user.jane");
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
        NODE_TEST(test_other_cluster_and_oneself_are_refused),
        NODE_TEST(test_fence_by_hand_binds_like_the_tools_N4),
        NODE_TEST(test_fence_of_a_handover_is_not_lowered_unasked),
        NODE_TEST(test_replica_that_hears_of_a_newer_epoch_is_in_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
