/*
 * tests/csync/test_level.c - who was level: kept over a restart, of these two
 * sides only, and a file that was cut or damaged anywhere never says more than
 * was noted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "csync/level.h"

static const struct level_sides sides = {
    .here_cluster = {{1}},
    .here_instance = {{2}},
    .there_cluster = {{3}},
    .there_instance = {{4}},
};

struct place {
    char dir[64];
    char path[96];
};

static struct place
make_place(void)
{
    struct place p = {.dir = "/tmp/pollux-level-XXXXXX"};

    assert_non_null(mkdtemp(p.dir));
    snprintf(p.path, sizeof(p.path), "%s/level", p.dir);
    return p;
}

static void
end_place(const struct place *p)
{
    unlink(p->path);
    assert_int_equal(rmdir(p->dir), 0);
}

static bool
has(struct level *l, const char *user, uint64_t here, uint64_t there)
{
    return level_has(l, user,
                     (struct level_pair){.here = here, .there = there});
}

static void
note(struct level *l, const char *user, uint64_t here, uint64_t there)
{
    level_note(l, user, (struct level_pair){.here = here, .there = there});
}

static void
read_all(const struct place *p, struct buf *out)
{
    struct error err = {0};

    buf_clear(out);
    assert_int_equal(env_read_file(env_system(), p->path, 1 << 20, out, &err),
                     ERR_OK);
}

static void
write_all(const struct place *p, struct span bytes)
{
    struct error err = {0};

    assert_int_equal(env_write_file_atomic(env_system(), p->path, bytes, &err),
                     ERR_OK);
}

static void
test_notes_have_their_golden_lines(void **state)
{
    (void)state;
    struct place p = make_place();
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct level *l = level_open(env_system(), p.path, &sides);

    note(l, "john", 0x1234, UINT64_MAX);
    note(l, "a b", 1, 0);
    note(l, "bad\nname", 1, 1);
    level_close(&l);
    assert_null(l);
    read_all(&p, &text);
    assert_string_equal(
        buf_cstr(&text),
        "pollux-level 1 01000000000000000000000000000000 "
        "02000000000000000000000000000000 03000000000000000000000000000000 "
        "04000000000000000000000000000000\n"
        "u 0000000000001234 ffffffffffffffff john\n"
        "u 0000000000000001 0000000000000000 a b\n");
    end_place(&p);
}

static void
test_what_was_noted_is_known_again(void **state)
{
    (void)state;
    struct place p = make_place();
    struct error err = {0};
    const struct level_pair root = {.here = 7, .there = 8};
    struct level *l = level_open(env_system(), p.path, &sides);

    assert_false(has(l, "john", 1, 2));
    note(l, "john", 1, 2);
    note(l, "john", 3, 4);
    note(l, "mary", 5, 6);
    assert_true(has(l, "john", 3, 4));
    assert_false(has(l, "john", 1, 2));
    level_close(&l);

    l = level_open(env_system(), p.path, &sides);
    assert_true(has(l, "john", 3, 4));
    assert_true(has(l, "mary", 5, 6));
    assert_false(has(l, "mary", 5, 7));
    assert_false(has(l, "joh", 3, 4));
    assert_false(level_has_root(l, root));
    assert_int_equal(level_save(l, &root, &err), ERR_OK);
    assert_true(level_has_root(l, root));
    level_close(&l);

    l = level_open(env_system(), p.path, &sides);
    assert_true(level_has_root(l, root));
    assert_false(level_has_root(l, (struct level_pair){.here = 7}));
    assert_true(has(l, "john", 3, 4));
    note(l, "john", 9, 9); /* so the root is of before */
    assert_false(level_has_root(l, root));
    level_close(&l);

    l = level_open(env_system(), p.path, &sides);
    assert_false(level_has_root(l, root));
    assert_true(has(l, "john", 9, 9));
    assert_int_equal(level_save(l, NULL, &err), ERR_OK);
    level_close(&l);
    end_place(&p);
}

static void
test_of_other_sides_nothing_is_known(void **state)
{
    (void)state;
    struct place p = make_place();
    struct level_sides others = sides;
    struct level *l = level_open(env_system(), p.path, &sides);

    note(l, "john", 1, 2);
    level_close(&l);
    others.there_instance.b[0] = 5;
    l = level_open(env_system(), p.path, &others);
    assert_false(has(l, "john", 1, 2));
    note(l, "mary", 1, 2);
    level_close(&l);
    l = level_open(env_system(), p.path, &others);
    assert_true(has(l, "mary", 1, 2));
    assert_false(has(l, "john", 1, 2));
    level_close(&l);
    end_place(&p);
}

/* Any cut, any byte turned over: never a pair that was not noted; and one can
 * go on with the file. */
static void
test_a_damaged_file_says_no_more(void **state)
{
    (void)state;
    struct place p = make_place();
    AUTO(buf_free) struct buf good = BUF_INIT;
    struct level *l = level_open(env_system(), p.path, &sides);

    note(l, "john", 0x11, 0x22);
    note(l, "mary", 0x33, 0x44);
    level_close(&l);
    read_all(&p, &good);
    const size_t first = good.n - strlen("u 0000000000000033 "
                                         "0000000000000044 mary\n");
    for (size_t cut = 0; cut <= good.n; cut++) {
        write_all(&p, span_sub(buf_span(&good), 0, cut));
        l = level_open(env_system(), p.path, &sides);
        assert_int_equal(has(l, "john", 0x11, 0x22), cut >= first);
        assert_int_equal(has(l, "mary", 0x33, 0x44), cut == good.n);
        assert_false(has(l, "mar", 0x33, 0x44));
        note(l, "paul", 1, 1);
        level_close(&l);
        l = level_open(env_system(), p.path, &sides);
        assert_true(has(l, "paul", 1, 1));
        assert_int_equal(has(l, "john", 0x11, 0x22), cut >= first);
        level_close(&l);
    }
    for (size_t at = 0; at < good.n; at++) {
        good.p[at] ^= 0x80;
        write_all(&p, buf_span(&good));
        l = level_open(env_system(), p.path, &sides);
        if (at < first)
            assert_false(has(l, "john", 0x11, 0x22));
        else
            assert_false(has(l, "mary", 0x33, 0x44));
        level_close(&l);
        good.p[at] ^= 0x80;
    }
    end_place(&p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_notes_have_their_golden_lines),
        cmocka_unit_test(test_what_was_noted_is_known_again),
        cmocka_unit_test(test_of_other_sides_nothing_is_known),
        cmocka_unit_test(test_a_damaged_file_says_no_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
