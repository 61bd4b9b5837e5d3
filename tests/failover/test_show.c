/*
 * tests/failover/test_show.c - failover/show.c: words that decide are coloured,
 * sentences are not, and nothing else changes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "failover/show.h"

static void
expect(const char *text, const char *want)
{
    AUTO(buf_free) struct buf got = BUF_INIT;

    ctl_color(span_str(text), &got);
    assert_string_equal(buf_cstr(&got), want);
}

static void
test_words_that_decide_are_coloured(void **state)
{
    (void)state;
    expect("here   master   epoch 1  FENCE UP\n",
           "here   \033[1;33mmaster\033[0m   epoch 1  "
           "\033[1;31mFENCE UP\033[0m\n");
    expect("digests equal, lag 0 records\n",
           "digests \033[32mequal\033[0m, lag 0 records\n");
    expect("digests UNEQUAL", "digests \033[1;31mUNEQUAL\033[0m");
    expect("twin   not reachable: no\n",
           "twin   \033[1;31mnot reachable\033[0m: no\n");
}

static void
test_sentences_and_parts_of_words_are_not(void **state)
{
    (void)state;
    expect("       mail.example: follows its master\n",
           "       mail.example: follows its master\n");
    expect("unequal masters pre-master master_x\n",
           "unequal masters pre-master master_x\n");
    expect("channel a to b: parked: the master is fenced\n",
           "channel a to b: \033[1;31mparked\033[0m: the master is fenced\n");
    expect("", "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_that_decide_are_coloured),
        cmocka_unit_test(test_sentences_and_parts_of_words_are_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
