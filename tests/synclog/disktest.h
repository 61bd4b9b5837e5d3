/*
 * tests/synclog/disktest.h - a log on a real disk, in a directory of each test.
 */
#ifndef POLLUX_TESTS_SYNCLOG_DISKTEST_H
#define POLLUX_TESTS_SYNCLOG_DISKTEST_H

#include "tests/synclog/logtest.h"

#include <stdio.h>

#include "tests/lib/tmpdir.h"

static char dir[256];

static inline int
setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/synclog-XXXXXX");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static inline int
teardown(void **state)
{
    (void)state;
    remove_tree(dir);
    return 0;
}

#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

static inline struct synclog *
open_log(struct synclog_recovery *found)
{
    return logtest_open(env_system(), dir, found);
}

/* One record of BYTES bytes, durable. */
static inline void
append_synced(struct synclog *log, size_t bytes)
{
    logtest_append(log, 1, 1, bytes);
    logtest_sync(log);
}

#endif
