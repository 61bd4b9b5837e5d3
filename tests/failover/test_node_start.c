/*
 * tests/failover/test_node_start.c - what a node makes at its start of what it
 * finds: a promotion that was cut short, a node file that lies, no twin; and a
 * promotion for which there is no room.
 */
#include <poll.h>
#include <unistd.h>

#include "nodetest.h"
#include "base/env_sim.h"
#include "store/kv_mem.h"

/* A crash of B between the node file and the epoch's record; B is closed. */
static void
cut_promotion_short(struct pair *p)
{
    start_pair(p);
    close_twin(&p->b);
    edit_node_file(&p->b, ROLE_MASTER, 2);
}

static void
assert_promotion_finished(struct pair *p)
{
    struct logstatus b = status(&p->b);

    assert_int_equal(b.role, ROLE_MASTER);
    assert_int_equal(b.nepochs, 2);
    assert_int_equal(b.epochs[1].epoch, 2);
    assert_int_equal(b.epochs[1].uid_headroom, 1000);
}

static void
test_promotion_cut_short_is_finished_at_the_next_start(void **state)
{
    struct pair *p = *state;

    cut_promotion_short(p);
    open_twin(&p->b, true);
    assert_promotion_finished(p);
}

/* While the fence is up it waits, and the fence then goes in any way. */
static void
test_promotion_cut_short_is_finished_when_the_fence_goes(void **state)
{
    struct pair *p = *state;
    struct error err = {0};

    cut_promotion_short(p);
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
    assert_promotion_finished(p);
}

static void
test_node_file_that_lies_about_the_epoch_is_refused(void **state)
{
    struct pair *p = *state;
    struct error err = {0};
    struct store_opened found;
    struct node_hooks hooks = {0};

    start_pair(p);
    close_twin(&p->a);
    edit_node_file(&p->a, ROLE_MASTER, 0);
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        NODE_TEST(test_promotion_cut_short_is_finished_at_the_next_start),
        NODE_TEST(test_promotion_cut_short_is_finished_when_the_fence_goes),
        NODE_TEST(test_node_file_that_lies_about_the_epoch_is_refused),
        NODE_TEST(test_instance_without_a_twin_starts_as_the_master),
        cmocka_unit_test(test_promotion_without_room_uses_up_no_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
