/* tests/lib/tmpdir.h - directories of tests on a real disk. */
#ifndef POLLUX_TESTS_TMPDIR_H
#define POLLUX_TESTS_TMPDIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/macros.h"

/* With all that is below it; DIR has no quotes. */
static inline void
remove_tree(const char *dir)
{
    AUTO(xfree) char *command = xasprintf("rm -rf '%s'", dir);

    assert_int_equal(system(command), 0);
}

#endif
