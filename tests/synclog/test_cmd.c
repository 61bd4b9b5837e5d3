/*
 * tests/synclog/test_cmd.c - the program synclog as an admin runs it: what it
 * prints, and its exit status for a whole, a torn and a damaged log.
 */
#include "tests/synclog/logtest.h"
#include "tests/lib/tmpdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM POLLUX_BIN_DIR "/synclog"
#define RECORD_AT(i) (SEGMENT_HEADER_BYTES + (uint64_t)(i)*176U)

static char dir[256];
static char out[65536];

static int
setup(void **state)
{
    struct synclog_recovery found;
    char log_dir[300];

    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/synclog-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(log_dir, sizeof(log_dir), "%s/synclog", dir);
    struct synclog *log = logtest_open(env_system(), log_dir, &found);
    for (unsigned i = 0; i < 3; i++) {
        logtest_append(log, 7, 1, 100);
        logtest_sync(log);
    }
    synclog_close(&log);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    remove_tree(dir);
    return 0;
}

static void
write_at(uint64_t offset, const char *text)
{
    char path[400];

    snprintf(path, sizeof(path), "%s/synclog/seg-0000000000000001.plx", dir);
    logtest_write(env_system(), path, offset, span_str(text));
}

/* Run synclog with BEFORE, the test's directory and AFTER; the exit status. */
static int
run(const char *before, const char *after)
{
    char command[1024];

    if (access(PROGRAM, X_OK) != 0)
        skip(); /* built by the target "synclog" */
    snprintf(command, sizeof(command), "%s %s%s%s 2>&1", PROGRAM, before, dir,
             after);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(out, 1, sizeof(out) - 1, f);
    out[n] = '\0';
    int status = pclose(f);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void
test_dump_prints_a_line_a_record(void **state)
{
    (void)state;
    assert_int_equal(run("dump ", "/synclog"), 0);
    const char *first = "lsn=1 epoch=7 time=1970-01-01T00:00:00.001001Z type=";
    assert_memory_equal(out, first, strlen(first));
    assert_non_null(strstr(out, " bytes=100 at=1:4160 "));
    assert_non_null(strstr(out, "\nlsn=3 "));
    assert_int_equal(run("dump --from 2 --to 2 ", "/synclog"), 0);
    assert_memory_equal(out, "lsn=2 ", 6);
    assert_null(strstr(out, "lsn=3 "));
    assert_int_equal(run("dump --json --from 3 ", "/synclog"), 0);
    assert_memory_equal(out, "{\"lsn\":3,\"epoch\":7,\"time\":\"", 27);
    assert_non_null(strstr(out, "\"segment\":1,\"offset\":4512}\n"));
}

static void
test_verify_of_a_whole_log_says_so(void **state)
{
    (void)state;
    assert_int_equal(run("verify ", "/synclog"), 0);
    assert_non_null(strstr(out, " is whole: LSN 1 to 3, epoch 7, chain "));
}

static void
test_verify_finds_the_log_by_imapd_conf(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct error err = {0};
    char path[300];
    buf_addf(&text, "configdirectory: %s\n", dir);
    snprintf(path, sizeof(path), "%s/imapd.conf", dir);
    assert_int_equal(
        env_write_file_atomic(env_system(), path, buf_span(&text), &err),
        ERR_OK);
    assert_int_equal(run("verify -C ", "/imapd.conf"), 0);
    assert_non_null(strstr(out, "/synclog is whole: LSN 1 to 3"));
}

static void
test_verify_notes_a_torn_tail(void **state)
{
    (void)state;
    write_at(RECORD_AT(3), "PLXF and then nothing");
    assert_int_equal(run("verify ", "/synclog"), 0);
    assert_non_null(strstr(out, "is whole: LSN 1 to 3"));
    assert_non_null(strstr(out, "last 21 bytes are a torn tail"));
}

static void
test_damage_is_exit_status_1(void **state)
{
    (void)state;
    write_at(RECORD_AT(1) + 100, "?");
    assert_int_equal(run("verify ", "/synclog"), 1);
    assert_non_null(strstr(out, "is damaged: segment 1, offset 4272: "));
    assert_int_equal(run("dump ", "/synclog"), 1);
    assert_non_null(strstr(out, "lsn=1 "));
}

static void
test_wrong_use_is_exit_status_2(void **state)
{
    (void)state;
    assert_int_equal(run("verify ", "/nothing"), 2);
    assert_non_null(strstr(out, "There is no log in "));
    assert_int_equal(run("look ", ""), 2);
    assert_int_equal(run("dump --from x ", ""), 2);
    assert_int_equal(run("verify a ", ""), 2);
    assert_int_equal(run("verify -C ", "/nothing"), 2);
    assert_int_equal(run("--help ", ""), 0);
    assert_non_null(strstr(out, "usage: synclog dump"));
}

int
main(void)
{
#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        ON_DISK(test_dump_prints_a_line_a_record),
        ON_DISK(test_verify_of_a_whole_log_says_so),
        ON_DISK(test_verify_finds_the_log_by_imapd_conf),
        ON_DISK(test_verify_notes_a_torn_tail),
        ON_DISK(test_damage_is_exit_status_1),
        ON_DISK(test_wrong_use_is_exit_status_2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
