/*
 * tests/failover/test_nodefile.c - DIR/node: golden text, every cut and every
 * changed byte refused, and a power cut at any call leaves old or new.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#include "base/env_sim.h"
#include "failover/nodefile.h"

static struct nodefile
sample(void)
{
    struct nodefile n = {
        .role = ROLE_MASTER,
        .epoch = 7,
        .uid_headroom = 65536,
        .fork_lsn = 12,
        .fork_chain = 0xabc,
        .seed_wanted = false,
    };
    memset(n.cluster.b, 0x11, sizeof(n.cluster.b));
    memset(n.instance.b, 0x22, sizeof(n.instance.b));
    snprintf(n.why, sizeof(n.why), "promoted: swap");
    return n;
}

static const char golden[] = "version: 1\n"
                             "cluster: 11111111111111111111111111111111\n"
                             "instance: 22222222222222222222222222222222\n"
                             "role: master\n"
                             "epoch: 7\n"
                             "uid_headroom: 65536\n"
                             "fork_lsn: 12\n"
                             "fork_chain: 0000000000000abc\n"
                             "seed_wanted: 0\n"
                             "why: promoted: swap\n"
                             "check: ";

static void
test_node_file_has_its_golden_text(void **state)
{
    (void)state;
    struct nodefile in = sample();
    struct nodefile out;
    struct error err = {0};
    struct buf b = BUF_INIT;

    nodefile_encode(&in, &b);
    assert_true(span_starts(buf_span(&b), span_str(golden)));
    assert_int_equal(b.n, sizeof(golden) - 1 + 17);
    assert_int_equal(nodefile_decode(buf_span(&b), &out, &err), ERR_OK);
    assert_int_equal(out.role, ROLE_MASTER);
    assert_int_equal(out.epoch, 7);
    assert_int_equal(out.uid_headroom, 65536);
    assert_string_equal(out.why, in.why);
    buf_free(&b);
}

static void
test_node_file_cut_or_changed_is_refused(void **state)
{
    (void)state;
    struct nodefile in = sample();
    struct nodefile out;
    struct error err = {0};
    struct buf b = BUF_INIT;

    nodefile_encode(&in, &b);
    for (size_t cut = 0; cut < b.n; cut++)
        assert_int_equal(
            nodefile_decode(span_sub(buf_span(&b), 0, cut), &out, &err),
            ERR_CORRUPT);
    for (size_t i = 0; i < b.n; i++) {
        b.p[i] ^= 1;
        assert_int_not_equal(nodefile_decode(buf_span(&b), &out, &err), ERR_OK);
        b.p[i] ^= 1;
    }
    buf_free(&b);
}

static void
test_node_file_of_a_newer_format_is_refused_by_name(void **state)
{
    (void)state;
    struct nodefile out;
    struct error err = {0};

    assert_int_equal(nodefile_decode(SPAN_LIT("version: 2\n"), &out, &err),
                     ERR_VERSION);
}

static void
test_power_cut_leaves_the_old_or_the_new_node_file(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct env_sim *sim =
            env_sim_new(&(struct env_sim_options){.seed = seed});
        struct env *env = env_sim_env(sim);
        struct error err = {0};
        struct nodefile n = sample();
        struct nodefile out;
        assert_int_equal(env_mkdirs(env, "/x", &err), ERR_OK);
        assert_int_equal(nodefile_write(env, "/x/node", &n, &err), ERR_OK);
        n.epoch = 8;
        if (seed % 2 == 0)
            assert_int_equal(nodefile_write(env, "/x/node", &n, &err), ERR_OK);
        env_sim_crash(sim, seed);
        assert_int_equal(nodefile_read(env, "/x/node", &out, &err), ERR_OK);
        assert_int_equal(out.epoch, seed % 2 == 0 ? 8 : 7);
        env_sim_free(&sim);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_node_file_has_its_golden_text),
        cmocka_unit_test(test_node_file_cut_or_changed_is_refused),
        cmocka_unit_test(test_node_file_of_a_newer_format_is_refused_by_name),
        cmocka_unit_test(test_power_cut_leaves_the_old_or_the_new_node_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
