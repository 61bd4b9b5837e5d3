/*
 * store/full.c: how many lines a full disk is worth, on simulated time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/env_sim.h"
#include "base/log.h"
#include "base/span.h"
#include "store/full.h"

static char path[] = "/tmp/pollux-full-XXXXXX";
static struct env_sim *sim;
static struct full notes;

static int
set_up(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    if (fd < 0)
        return -1;
    close(fd);
    sim = env_sim_new(NULL);
    full_init(&notes, env_sim_env(sim));
    return log_open(LOG_TO_FILE, path, "test", LOG_LV_NOTICE, NULL) == ERR_OK
               ? 0
               : -1;
}

static int
tear_down(void **state)
{
    (void)state;
    log_close();
    full_done(&notes);
    env_sim_free(&sim);
    return unlink(path);
}

/* How many lines have EVENT. */
static unsigned
lines_of(const char *event)
{
    AUTO(buf_free) struct buf all = BUF_INIT;
    AUTO(xfree) char *word = xasprintf(" %s ", event);
    unsigned n = 0;

    assert_int_equal(env_read_file(env_system(), path, 1U << 20, &all, NULL),
                     ERR_OK);
    for (const char *at = buf_cstr(&all); (at = strstr(at, word)) != NULL; at++)
        n++;
    return n;
}

static bool
last_has(const char *text)
{
    AUTO(buf_free) struct buf all = BUF_INIT;

    assert_int_equal(env_read_file(env_system(), path, 1U << 20, &all, NULL),
                     ERR_OK);
    return strstr(buf_cstr(&all), text) != NULL;
}

/* A hundred refusals a second. */
static void
refuse_for(unsigned seconds)
{
    struct error err = {0};

    (void)error_set(&err, ERR_NOSPACE, "no room for the next segment");
    for (unsigned i = 0; i < seconds * 100; i++) {
        full_refused(&notes, &err);
        env_sim_advance_us(sim, 10000);
    }
}

static void
test_a_full_disk_is_told_once_and_counted(void **state)
{
    (void)state;
    refuse_for(9);
    assert_int_equal(lines_of("store.full"), 1);
    assert_int_equal(lines_of("store.full_still"), 0);
    refuse_for(26);
    assert_int_equal(lines_of("store.full"), 1);
    assert_int_equal(lines_of("store.full_still"), 3);
    assert_true(last_has("refused=1001 seconds=10 why=\"no room"));
}

static void
test_room_is_told_when_it_lasts(void **state)
{
    (void)state;
    full_taken(&notes); /* refused a moment ago */
    assert_int_equal(lines_of("store.room_again"), 0);
    env_sim_advance_us(sim, 2000000);
    full_taken(&notes);
    full_taken(&notes);
    assert_int_equal(lines_of("store.room_again"), 1);
    assert_true(last_has("store.room_again refused=3500 seconds=34"));
    refuse_for(1);
    assert_int_equal(lines_of("store.full"), 2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_full_disk_is_told_once_and_counted),
        cmocka_unit_test(test_room_is_told_when_it_lasts),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
