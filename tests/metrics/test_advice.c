/*
 * tests/metrics/test_advice.c - metrics/advice.c: each state in which an
 * instance can be is said, the worst first, and health says no for the right
 * reason; metrics/metrics.c: what metrics_listen may be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "metrics/advice.h"

static struct sample s;
static struct arena a;

static int
setup(void **state)
{
    (void)state;
    memset(&s, 0, sizeof(s));
    s.is_there = s.is_serving = true;
    s.role = ROLE_MASTER;
    s.epoch = 3;
    s.nchannels = 1;
    snprintf(s.channels[0].name, sizeof(s.channels[0].name), "default");
    snprintf(s.channels[0].text, sizeof(s.channels[0].text), "because");
    s.channels[0].state = SLOT_STREAMING;
    s.ntwins = 1;
    s.twins[0].was_asked = s.twins[0].is_reachable = true;
    s.twins[0].role = ROLE_REPLICA;
    s.twins[0].equality = EQUALITY_EQUAL;
    s.twins[0].same_cluster = true;
    snprintf(s.twins[0].host, sizeof(s.twins[0].host), "b2");
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    arena_free(&a);
    return 0;
}

/* The first thing that is said is of LEVEL and has TEXT in it. */
static void
expect(enum advice_level level, const char *text)
{
    const struct advice *v;
    size_t n = advice_make(&s, &a, &v);

    assert_true(n > 0);
    if (strstr(v[0].what, text) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", text, v[0].what);
    assert_int_equal(v[0].level, level);
    assert_true(v[0].todo[0] != '\0');
    for (size_t i = 1; i < n; i++)
        assert_true(v[i - 1].level <= v[i].level);
}

static void
expect_health(const char *ready, const char *master)
{
    const char *r = health_complaint(&s, HEALTH_READY, &a);
    const char *m = health_complaint(&s, HEALTH_MASTER, &a);

    assert_null(health_complaint(&s, HEALTH_LIVE, &a));
    if (ready == NULL)
        assert_null(r);
    else
        assert_string_equal(r, ready);
    if (master == NULL)
        assert_null(m);
    else
        assert_string_equal(m, master);
}

static void
test_a_pair_that_is_well_needs_nothing(void **state)
{
    const struct advice *v;

    (void)state;
    assert_int_equal(advice_make(&s, &a, &v), 0);
    expect_health(NULL, NULL);
    s.role = ROLE_REPLICA;
    s.twins[0].role = ROLE_MASTER;
    s.channels[0].state = SLOT_WAITING;
    assert_int_equal(advice_make(&s, &a, &v), 0);
    expect_health(NULL, "role replica");
}

static void
test_roles_and_fences(void **state)
{
    (void)state;
    s.fence = true;
    expect(ADVICE_BAD, "fence is up");
    expect_health(NULL, "the fence is up");
    s.swapping = true;
    expect(ADVICE_WARN, "swap");
    s.fence = s.swapping = false;
    s.role = ROLE_FENCED;
    s.twins[0].equality = EQUALITY_UNEQUAL; /* as it must be */
    expect(ADVICE_BAD, "was deposed");
    const struct advice *v;
    assert_int_equal(advice_make(&s, &a, &v), 1);
    s.twins[0].equality = EQUALITY_EQUAL;
    expect_health(NULL, "role fenced");
    s.role = ROLE_REPLICA;
    expect(ADVICE_BAD, "nobody takes mail");
    s.twins[0].role = ROLE_MASTER;
    s.seed_wanted = true;
    expect(ADVICE_WARN, "waits for a seed");
    expect_health("waits for a seed", "waits for a seed");
    s.seeding = true;
    expect(ADVICE_NOTE, "being seeded");
}

static void
test_disks(void **state)
{
    (void)state;
    s.damage.count = 3;
    expect(ADVICE_WARN, "3 damaged");
    s.damage.lost = 2;
    expect(ADVICE_BAD, "2 bodies are damaged");
    s.damage = (struct damage_view){0};
    s.storage.stuck_segment = 17;
    expect(ADVICE_WARN, "0000000000000011");
    s.full = (struct store_full_view){.is_full = true, .refused = 42};
    expect(ADVICE_BAD, "42 changes");
    expect_health(NULL, NULL); /* reading goes on, mail gets a 452 */
    s.full.is_full = false;
    s.sync_stalled_ms = 12000;
    expect(ADVICE_BAD, "12 s");
    expect_health(NULL, "the disk does not answer");
}

static void
test_commits_that_wait_for_replicas(void **state)
{
    (void)state;
    s.acks =
        (struct ack_view){.state = ACKS_DEGRADED, .replicas = 1, .alone = 17};
    expect(ADVICE_WARN, "17 groups");
    expect_health(NULL, NULL);
    s.acks.state = ACKS_REFUSING;
    expect(ADVICE_BAD, "Mail is refused");
    expect_health(NULL, "no replica answers, and sync_ack refuses");
    s.acks.state = ACKS_WAITING;
    const struct advice *v;
    assert_int_equal(advice_make(&s, &a, &v), 0);
}

static void
test_channels(void **state)
{
    struct sample_channel *c = &s.channels[0];

    (void)state;
    c->lag_us = 25000000;
    expect(ADVICE_WARN, "25 s behind");
    c->state = SLOT_CONNECTING;
    expect(ADVICE_WARN, "does not reach its replica: because");
    c->state = SLOT_PARKED;
    expect(ADVICE_BAD, "default is parked: because");
    c->state = SLOT_RESEED;
    expect(ADVICE_BAD, "sync_log_cap");
    c->state = SLOT_DOWN;
    expect(ADVICE_BAD, "Nobody serves channel default");
    c->state = SLOT_SEEDING;
    expect(ADVICE_NOTE, "is being seeded");
}

static void
test_twins(void **state)
{
    struct sample_twin *t = &s.twins[0];

    (void)state;
    t->equality = EQUALITY_UNEQUAL;
    expect(ADVICE_BAD, "another state");
    t->same_cluster = false;
    expect(ADVICE_BAD, "another cluster");
    t->equality = EQUALITY_UNKNOWN;
    t->role = ROLE_MASTER;
    expect(ADVICE_BAD, "is the master, too");
    t->role = ROLE_FENCED;
    expect(ADVICE_WARN, "was deposed");
    t->is_reachable = false;
    snprintf(t->error, sizeof(t->error), "refused");
    expect(ADVICE_WARN, "b2 does not answer: refused");
    s.role = ROLE_REPLICA;
    expect(ADVICE_BAD, "b2 does not answer: refused");
    t->was_asked = false;
    const struct advice *v;
    assert_int_equal(advice_make(&s, &a, &v), 0);
}

static void
test_an_index_that_fails(void **state)
{
    const struct advice *v;
    (void)state;

    s.index.is_wanted = s.index.is_failing = true;
    snprintf(s.index.why, sizeof(s.index.why), "nospace");
    expect(ADVICE_NOTE, "could not be opened: nospace");
    s.index.is_open = true;
    expect(ADVICE_NOTE, "not brought level: nospace");
    assert_null(health_complaint(&s, HEALTH_MASTER, &a));
    s.index.is_failing = false;
    assert_int_equal(advice_make(&s, &a, &v), 0);
}

static void
test_a_stuck_instance_is_not_alive(void **state)
{
    (void)state;
    s.heartbeat_ms = 31000;
    expect(ADVICE_BAD, "stuck");
    assert_string_equal(health_complaint(&s, HEALTH_LIVE, &a),
                        "the main thread is stuck since 31 s");
    s.heartbeat_ms = 0;
    s.is_serving = false;
    expect_health("no clients are let in now", "no clients are let in now");
    s.is_there = false;
    expect_health("not up yet", "not up yet");
}

static void
test_where_to_listen(void **state)
{
    struct listen_spec spec;
    struct error err = {0};

    (void)state;
    assert_int_equal(metrics_listen_parse("9405", &spec, &err), ERR_OK);
    assert_string_equal(spec.host, "127.0.0.1");
    assert_string_equal(spec.service, "9405");
    assert_int_equal(metrics_listen_parse("*:9405", &spec, &err), ERR_OK);
    assert_string_equal(spec.host, "");
    assert_int_equal(metrics_listen_parse("[::1]:9405", &spec, &err), ERR_OK);
    assert_string_equal(spec.host, "::1");
    assert_int_equal(metrics_listen_parse("/run/x", &spec, &err), ERR_OK);
    assert_string_equal(spec.path, "/run/x");
    assert_int_equal(metrics_listen_parse("a:b:c", &spec, &err), ERR_SYNTAX);
    assert_non_null(strstr(err.text, "metrics_listen"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_pair_that_is_well_needs_nothing,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_roles_and_fences, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_commits_that_wait_for_replicas,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_channels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_twins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_index_that_fails, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_stuck_instance_is_not_alive,
                                        setup, teardown),
        cmocka_unit_test(test_where_to_listen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
