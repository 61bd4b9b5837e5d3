/*
 * tests/csync/test_parked.c - what is parked is there after a restart, in its
 * order; a file that is cut or damaged anywhere gives no more than was noted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/buf.h"
#include "csync/parked.h"

struct place {
    char dir[64];
    char path[96];
};

static struct place
make_place(void)
{
    struct place p = {.dir = "/tmp/pollux-parked-XXXXXX"};

    assert_non_null(mkdtemp(p.dir));
    snprintf(p.path, sizeof(p.path), "%s/parked", p.dir);
    return p;
}

static void
end_place(const struct place *p)
{
    unlink(p->path);
    assert_int_equal(rmdir(p->dir), 0);
}

static struct parked *
must_open(const struct place *p)
{
    struct parked *ret = NULL;
    struct error err = {0};

    assert_int_equal(parked_open(env_system(), p->path, &ret, &err), ERR_OK);
    return ret;
}

static void
must_add(struct parked *p, enum parked_kind kind, const char *name)
{
    struct error err = {0};

    assert_int_equal(parked_add(p, kind, name, &err), ERR_OK);
}

static void
must_save(struct parked *p)
{
    struct error err = {0};

    assert_int_equal(parked_save(p, &err), ERR_OK);
}

static size_t
count(const struct parked *p)
{
    size_t n = 0;

    (void)parked_items(p, &n);
    return n;
}

static void
write_all(const struct place *p, struct span bytes)
{
    struct error err = {0};

    assert_int_equal(env_write_file_atomic(env_system(), p->path, bytes, &err),
                     ERR_OK);
}

static const char golden[] = "pollux-parked 1\n"
                             "u alice\n"
                             "m shared.x y\n"
                             "g bob\n"
                             "s\n"
                             "u c\xc3\xa9line\n";

static void
test_all_kinds_are_there_again(void **state)
{
    struct place place = make_place();
    struct parked *p = must_open(&place);
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct error err = {0};

    (void)state;
    must_add(p, PARKED_USER, "alice");
    must_add(p, PARKED_MAILBOX, "shared.x y");
    must_add(p, PARKED_USER, "alice"); /* once */
    must_add(p, PARKED_GONE, "bob");
    must_add(p, PARKED_SERVER, "");
    must_add(p, PARKED_USER, "c\xc3\xa9line");
    must_save(p);
    parked_close(&p);
    assert_int_equal(
        env_read_file(env_system(), place.path, 1 << 20, &text, &err), ERR_OK);
    assert_string_equal(buf_cstr(&text), golden);

    p = must_open(&place);
    assert_int_equal(count(p), 5);
    assert_true(parked_has(p, PARKED_MAILBOX, "shared.x y"));
    assert_true(parked_has(p, PARKED_SERVER, ""));
    assert_false(parked_has(p, PARKED_USER, "bob"));
    parked_remove(p, 0);
    must_save(p);
    parked_close(&p);
    p = must_open(&place);
    assert_int_equal(count(p), 4);
    assert_false(parked_has(p, PARKED_USER, "alice"));
    parked_close(&p);
    end_place(&place);
}

static void
test_what_was_not_saved_is_not_there(void **state)
{
    struct place place = make_place();
    struct parked *p = must_open(&place);

    (void)state;
    must_add(p, PARKED_USER, "alice");
    parked_close(&p);
    p = must_open(&place);
    assert_int_equal(count(p), 0);
    must_save(p); /* nothing has changed: no file */
    assert_false(env_exists(env_system(), place.path));
    parked_close(&p);
    end_place(&place);
}

static void
test_cut_anywhere_gives_no_more_than_was_noted(void **state)
{
    struct place place = make_place();

    (void)state;
    for (size_t n = 0; n < sizeof(golden); n++) {
        write_all(&place, span_of(golden, n));
        struct parked *p = must_open(&place);
        assert_true(count(p) <= 5);
        if (n < sizeof("pollux-parked 1\n"))
            assert_int_equal(count(p), 0);
        parked_close(&p);
    }
    end_place(&place);
}

static void
test_other_lines_count_for_nothing(void **state)
{
    static const char text[] = "pollux-parked 1\nx y\nu\nu \n\ns s\nualice\n"
                               "u a\0b\nm ok\n";
    struct place place = make_place();

    (void)state;
    write_all(&place, span_of(text, sizeof(text) - 1));
    struct parked *p = must_open(&place);
    assert_int_equal(count(p), 1);
    assert_true(parked_has(p, PARKED_MAILBOX, "ok"));
    parked_close(&p);
    write_all(&place, SPAN_LIT("pollux-parked 2\nu alice\n"));
    p = must_open(&place);
    assert_int_equal(count(p), 0);
    parked_close(&p);
    end_place(&place);
}

static void
test_no_more_than_the_limit(void **state)
{
    struct place place = make_place();
    struct parked *p = must_open(&place);
    struct error err = {0};
    char name[32];

    (void)state;
    assert_int_equal(parked_add(p, PARKED_USER, "a\nb", &err), ERR_LIMIT);
    for (unsigned i = 0; i < PARKED_MAX; i++) {
        snprintf(name, sizeof(name), "user%u", i);
        must_add(p, PARKED_USER, name);
    }
    assert_int_equal(parked_add(p, PARKED_USER, "one more", &err), ERR_LIMIT);
    must_add(p, PARKED_USER, "user7"); /* is there */
    must_save(p);
    parked_close(&p);
    p = must_open(&place);
    assert_int_equal(count(p), PARKED_MAX);
    parked_close(&p);
    end_place(&place);
}

static void
test_a_file_that_cannot_be_read_or_written(void **state)
{
    struct place place = make_place();
    struct parked *p = must_open(&place);
    struct error err = {0};

    (void)state;
    must_add(p, PARKED_USER, "alice");
    assert_int_equal(rmdir(place.dir), 0);
    assert_int_not_equal(parked_save(p, &err), ERR_OK);
    assert_int_equal(mkdir(place.dir, 0700), 0);
    must_save(p); /* it was not forgotten */
    parked_close(&p);
    unlink(place.path);
    assert_int_equal(mkdir(place.path, 0700), 0);
    assert_int_equal(parked_open(env_system(), place.path, &p, &err), ERR_IO);
    assert_null(p);
    assert_int_equal(rmdir(place.path), 0);
    end_place(&place);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_kinds_are_there_again),
        cmocka_unit_test(test_what_was_not_saved_is_not_there),
        cmocka_unit_test(test_cut_anywhere_gives_no_more_than_was_noted),
        cmocka_unit_test(test_other_lines_count_for_nothing),
        cmocka_unit_test(test_no_more_than_the_limit),
        cmocka_unit_test(test_a_file_that_cannot_be_read_or_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
