/*
 * tests/failover/test_node_faults.c - calls on files that fail while a node
 * changes its role or gives up its store, on a machine in memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "base/env_fault.h"
#include "base/env_sim.h"
#include "failover/node.h"
#include "failover/nodefile.h"
#include "store/kv_mem.h"
#include "store/txn.h"

#define DIR "/a"

struct machine {
    struct env_sim *sim;
    struct env_fault *fault;
    struct kv_disk *disk[4]; /* one for each DIR/state that there ever was */
    size_t ndisks;
    struct kv *kv; /* the open one */
    struct node *node;
    struct csync_instance i;
    unsigned fatals;
    bool renamed; /* the node file has got its new name */
};

/* A state that was set aside is not found again. */
static struct kv *
open_kv(void *ctx, const char *dir)
{
    struct machine *m = ctx;
    struct env *env = env_sim_env(m->sim);
    struct error err = {0};
    char path[40];

    snprintf(path, sizeof(path), "%s/state", dir);
    if (!env_exists(env, path)) {
        assert_in_range(m->ndisks, 0, ARRAY_LEN(m->disk) - 1);
        m->disk[m->ndisks++] = kv_disk_new();
        assert_int_equal(env_mkdirs(env, path, &err), ERR_OK);
    }
    return m->kv = kv_open_mem_on(m->disk[m->ndisks - 1]);
}

static void
on_fatal(void *ctx, const struct error *err)
{
    struct machine *m = ctx;

    (void)err;
    m->fatals++;
}

static void
start(struct machine *m)
{
    const struct node_config cfg = {
        .store = {.dir = DIR,
                  .fence_path = DIR "/shutdown",
                  .segment_bytes = 256U << 10,
                  .no_threads = true,
                  .open_kv = open_kv,
                  .open_kv_ctx = m},
        .servername = "test.example",
        .has_twin = true,
        .uid_headroom = 1000,
    };
    const struct node_hooks hooks = {.ctx = m, .on_fatal = on_fatal};
    struct store_opened found;
    struct error err = {0};

    if (node_open(env_fault_env(m->fault), &cfg, &hooks, &m->node, &found,
                  &err) != ERR_OK)
        fail_msg("%s", err.text);
    node_csync_instance(m->node, &m->i);
}

static void
new_machine(struct machine *m)
{
    *m = (struct machine){
        .sim = env_sim_new(&(struct env_sim_options){.seed = 1})};
    m->fault = env_fault_new(env_sim_env(m->sim));
    start(m);
}

static void
free_machine(struct machine *m)
{
    node_close(&m->node);
    for (size_t i = 0; i < m->ndisks; i++)
        kv_disk_free(&m->disk[i]);
    env_fault_free(&m->fault);
    env_sim_free(&m->sim);
}

static void
start_again(struct machine *m)
{
    env_fault_clear(m->fault);
    node_close(&m->node);
    start(m);
}

static struct logstatus
status(struct machine *m)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct logstatus s;

    m->i.status(m->i.ctx, &a, &s);
    s.servername = s.text = NULL;
    s.epochs = NULL;
    return s;
}

static enum errcode
verb(struct machine *m, const char *name, struct error *err)
{
    AUTO(buf_free) struct buf out = BUF_INIT;

    return m->i.node(m->i.ctx, span_str(name), NULL, &out, err);
}

/* ---- a role that nobody knows ------------------------------------------ */

/* The sync of the directory fails that holds the node file's new name. */
static int
fail_sync_of_the_name(void *ctx, enum env_fault_kind kind, const char *path)
{
    struct machine *m = ctx;

    if (kind == FAULT_RENAME && strncmp(path, DIR "/node", 7) == 0)
        m->renamed = true;
    return kind == FAULT_SYNCDIR && m->renamed ? -EIO : 0;
}

static void
prepare(struct machine *m, uint64_t *token)
{
    struct error err = {0};

    if (m->i.prepare(m->i.ctx, 1, token, &err) != ERR_OK)
        fail_msg("%s", err.text);
}

/* What the next start reads may be a master.  Were the handover called off
 * then, the old master would go on beside it (N5). */
static void
test_handover_that_is_in_doubt_cannot_be_called_off(void **state)
{
    const struct store_pos nothing = {0};
    struct error err = {0};
    struct machine m;
    uint64_t token;

    (void)state;
    new_machine(&m);
    prepare(&m, &token);
    env_fault_add(m.fault,
                  &(struct env_fault_rule){.kinds = FAULT_ANY,
                                           .nth = 1,
                                           .from_then_on = true,
                                           .action = FAULT_HOOK,
                                           .hook = fail_sync_of_the_name,
                                           .hook_ctx = &m});
    assert_int_equal(m.i.handover(m.i.ctx, token, 1, &nothing, &err), ERR_IO);
    assert_int_equal(m.fatals, 1);
    assert_int_equal(m.i.cancel(m.i.ctx, token, &err), ERR_IO);
    assert_int_equal(m.i.prepare(m.i.ctx, 1, &token, &err), ERR_IO);
    assert_int_equal(verb(&m, "STATUS", &err), ERR_IO);
    env_fault_clear(m.fault);
    assert_int_equal(verb(&m, "PROMOTE", &err), ERR_IO);
    start_again(&m);
    assert_int_equal(status(&m).role, ROLE_MASTER);
    free_machine(&m);
}

/* A write that failed before has changed nothing. */
static void
test_handover_that_failed_can_be_called_off(void **state)
{
    const struct store_pos nothing = {0};
    struct error err = {0};
    struct machine m;
    uint64_t token;

    (void)state;
    new_machine(&m);
    prepare(&m, &token);
    env_fault_add(m.fault, &(struct env_fault_rule){.kinds = FAULT_RENAME,
                                                    .path_part = DIR "/node",
                                                    .nth = 1,
                                                    .action = FAULT_FAIL,
                                                    .sys_errno = EIO});
    assert_int_equal(m.i.handover(m.i.ctx, token, 1, &nothing, &err), ERR_IO);
    assert_int_equal(env_fault_hits(m.fault), 1);
    assert_int_equal(m.fatals, 0);
    assert_int_equal(m.i.cancel(m.i.ctx, token, &err), ERR_OK);
    start_again(&m);
    assert_int_equal(status(&m).role, ROLE_REPLICA);
    free_machine(&m);
}

/* ---- a fence before all is shown --------------------------------------- */

static void
on_done(void *ctx, struct store_txn *txn)
{
    enum errcode *code = ctx;

    *code = txn_code(txn);
    txn_free(&txn);
}

/* What is durable and found no room in the state is shown later, be it after
 * a handover: a twin that was promoted without it would give out the same UIDs
 * again. */
static void
test_fence_says_no_position_while_the_state_lacks_one(void **state)
{
    struct store_txn *txn = txn_new();
    enum errcode code = ERR_OK;
    struct error err = {0};
    struct machine m;

    (void)state;
    new_machine(&m);
    assert_int_equal(verb(&m, "PROMOTE", &err), ERR_OK);
    const lsn_t before = status(&m).durable.lsn;
    kv_mem_fail(m.kv, ERR_NOSPACE);
    txn_create(txn, &(struct txn_mailbox){.name = "user.jane"});
    store_submit(node_store(m.node), txn, on_done, &code);
    (void)store_step(node_store(m.node));
    assert_int_equal(status(&m).durable.lsn, before + 1);
    assert_int_equal(status(&m).applied.applied.lsn, before);
    assert_int_equal(verb(&m, "FENCE", &err), ERR_AGAIN);
    kv_mem_fail(m.kv, ERR_OK);
    env_sim_advance_us(m.sim, 10000000);
    (void)store_step(node_store(m.node));
    assert_int_equal(code, ERR_FENCED);
    assert_int_equal(status(&m).applied.applied.lsn, before + 1);
    assert_int_equal(verb(&m, "FENCE", &err), ERR_OK);
    free_machine(&m);
}

/* ---- a rejoin that stops halfway --------------------------------------- */

/* A replica with some history. */
static void
make_history(struct machine *m)
{
    struct store_txn *txn = txn_new();
    struct error err = {0};
    struct nodefile n;

    assert_int_equal(verb(m, "PROMOTE", &err), ERR_OK);
    txn_create(txn, &(struct txn_mailbox){.name = "user.jane"});
    assert_int_equal(store_commit(node_store(m->node), txn, &err), ERR_OK);
    txn_free(&txn);
    node_close(&m->node);
    assert_int_equal(nodefile_read(env_sim_env(m->sim), DIR "/node", &n, &err),
                     ERR_OK);
    n.role = ROLE_REPLICA;
    assert_int_equal(nodefile_write(env_sim_env(m->sim), DIR "/node", &n, &err),
                     ERR_OK);
    start(m);
}

/* Each call fails once: what is there afterwards starts, whole or empty. */
static void
test_rejoin_with_any_call_failing_is_finished_at_the_next_start(void **state)
{
    unsigned whole = 0, emptied = 0, ended = 0;
    bool hit = true;

    (void)state;
    for (uint64_t nth = 1; hit; nth++) {
        struct error err = {0};
        struct machine m;
        new_machine(&m);
        make_history(&m);
        env_fault_add(m.fault, &(struct env_fault_rule){.kinds = FAULT_ANY,
                                                        .nth = nth,
                                                        .action = FAULT_FAIL,
                                                        .sys_errno = EIO});
        enum errcode rc = verb(&m, "REJOIN", &err);
        hit = env_fault_hits(m.fault) > 0;
        if (rc != ERR_OK && node_store(m.node) == NULL)
            assert_int_equal(m.fatals, 1);
        ended += m.fatals;
        start_again(&m);
        const struct logstatus s = status(&m);
        assert_int_equal(s.role, ROLE_REPLICA);
        if (s.applied.applied.lsn == 0) {
            assert_true(s.seed_wanted);
            emptied++;
        } else {
            assert_int_not_equal(rc, ERR_OK);
            assert_false(s.seed_wanted);
            whole++;
        }
        assert_false(env_exists(env_sim_env(m.sim), DIR "/rejoin"));
        free_machine(&m);
    }
    assert_in_range(whole, 1, 100);
    assert_in_range(emptied, 5, 1000);
    assert_in_range(ended, 3, 1000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handover_that_is_in_doubt_cannot_be_called_off),
        cmocka_unit_test(test_handover_that_failed_can_be_called_off),
        cmocka_unit_test(test_fence_says_no_position_while_the_state_lacks_one),
        cmocka_unit_test(
            test_rejoin_with_any_call_failing_is_finished_at_the_next_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
