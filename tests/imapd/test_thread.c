/*
 * tests/imapd/test_thread.c - messages into threads (RFC 5256, 3): each step of
 * the algorithm by a mailbox written as a table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "imapd/thread.h"

struct mail {
    int64_t sent_s;
    const char *subject;
    bool is_reply;
    const char *id;
    const char *refs; /* blanks between */
};

static void
expect_threads(enum imap_thread how, const struct mail *mails, size_t n,
               const char *want)
{
    struct arena a = ARENA_INIT;
    struct buf out = BUF_INIT;
    struct thread_message *m = arena_array(&a, n, sizeof(*m));

    for (size_t i = 0; i < n; i++) {
        struct span left = span_str(mails[i].refs);
        struct span *refs = arena_array(&a, left.n + 1, sizeof(*refs));
        m[i] = (struct thread_message){.number = (uint32_t)i + 1,
                                       .sent_s = mails[i].sent_s,
                                       .arrival_s = mails[i].sent_s,
                                       .subject = span_str(mails[i].subject),
                                       .is_reply = mails[i].is_reply,
                                       .id = span_str(mails[i].id),
                                       .refs = refs};
        while (left.n > 0) {
            ptrdiff_t sp = span_find_byte(left, ' ', 0);
            struct span id = sp < 0 ? left : span_sub(left, 0, (size_t)sp);
            refs[m[i].nrefs++] = id;
            left = span_skip(left, id.n + 1);
        }
    }
    thread_messages(how, m, n, &out);
    if (!span_eq_str(buf_span(&out), want))
        fail_msg("got %s, wanted %s", buf_cstr(&out), want);
    buf_free(&out);
    arena_free(&a);
}

#define EXPECT(how, mails, want)                                               \
    expect_threads(how, mails, ARRAY_LEN(mails), want)

static void
test_by_subject(void **state)
{
    (void)state;
    const struct mail mails[] = {
        {50, "b", false, "1", ""}, {10, "a", false, "2", ""},
        {30, "b", true, "3", ""},  {20, "c", false, "4", ""},
        {60, "b", true, "5", ""},  {70, "c", true, "6", ""}};

    EXPECT(THREAD_ORDEREDSUBJECT, mails, "(2)(4 6)(3 (1)(5))");
}

static void
test_a_chain_and_a_branch(void **state)
{
    (void)state;
    const struct mail chain[] = {{1, "a", false, "1", ""},
                                 {2, "a", true, "2", "1"},
                                 {3, "a", true, "3", "1 2"}};
    const struct mail branch[] = {{1, "a", false, "1", ""},
                                  {4, "a", true, "2", "1"},
                                  {3, "a", true, "3", "1"},
                                  {5, "a", true, "4", "1 2"},
                                  {6, "b", false, "5", ""}};

    EXPECT(THREAD_REFERENCES, chain, "(1 2 3)");
    EXPECT(THREAD_REFERENCES, branch, "(1 (3)(2 4))(5)");
}

/* 1 and 3: a message that is not there joins two that are, or goes. */
static void
test_messages_that_are_only_spoken_of(void **state)
{
    (void)state;
    const struct mail joined[] = {{2, "x", true, "1", "gone"},
                                  {1, "y", true, "2", "gone"}};
    const struct mail alone[] = {{1, "x", true, "1", "gone"},
                                 {2, "z", true, "2", "1 lost"}};

    EXPECT(THREAD_REFERENCES, joined, "((2)(1))");
    EXPECT(THREAD_REFERENCES, alone, "(1 2)");
}

/* The first of two with one Message-ID has it; loops are not made. */
static void
test_hostile_references(void **state)
{
    (void)state;
    const struct mail twice[] = {{1, "a", false, "1", ""},
                                 {2, "b", false, "1", ""},
                                 {3, "c", true, "3", "1"}};
    const struct mail loop[] = {{1, "a", false, "1", "2"},
                                {2, "b", false, "2", "1"},
                                {3, "c", false, "3", "3"}};

    EXPECT(THREAD_REFERENCES, twice, "(1 3)(2)");
    EXPECT(THREAD_REFERENCES, loop, "(2 1)(3)");
}

/* 5: what has no references joins by subject. */
static void
test_threads_of_one_subject_are_joined(void **state)
{
    (void)state;
    const struct mail reply[] = {{2, "a", true, "1", ""},
                                 {1, "a", false, "2", ""}};
    const struct mail equal[] = {{1, "a", false, "1", ""},
                                 {2, "a", false, "2", ""},
                                 {3, "", false, "3", ""},
                                 {4, "", false, "4", ""}};
    const struct mail empty[] = {{1, "a", true, "1", "gone"},
                                 {2, "a", true, "2", "gone"},
                                 {3, "a", false, "3", ""}};
    const struct mail both[] = {{1, "a", true, "1", "p"},
                                {2, "a", true, "2", "p"},
                                {3, "a", true, "3", "q"},
                                {4, "a", true, "4", "q"}};

    EXPECT(THREAD_REFERENCES, reply, "(2 1)");
    EXPECT(THREAD_REFERENCES, equal, "((1)(2))(3)(4)");
    EXPECT(THREAD_REFERENCES, empty, "((1)(2)(3))");
    EXPECT(THREAD_REFERENCES, both, "((1)(2)(3)(4))");
    EXPECT(THREAD_REFS, reply, "(2)(1)");
}

/* REFS: the thread with the newest message is last. */
static void
test_refs_sorts_by_the_latest(void **state)
{
    (void)state;
    const struct mail mails[] = {{1, "a", false, "1", ""},
                                 {2, "b", false, "2", ""},
                                 {9, "a", true, "3", "1"}};

    EXPECT(THREAD_REFS, mails, "(2)(1 3)");
    EXPECT(THREAD_REFERENCES, mails, "(1 3)(2)");
}

/* A chain as long as it may be: nothing recurses. */
static void
test_a_very_long_chain(void **state)
{
    (void)state;
    enum { LONG = 20000 };
    struct arena a = ARENA_INIT;
    struct buf out = BUF_INIT, want = BUF_INIT;
    struct thread_message *m = arena_array(&a, LONG, sizeof(*m));

    for (uint32_t i = 0; i < LONG; i++) {
        m[i] = (struct thread_message){
            .number = i + 1,
            .sent_s = i,
            .id = span_str(arena_printf(&a, "%u", (unsigned)i))};
        if (i > 0) {
            m[i].refs = &m[i - 1].id;
            m[i].nrefs = 1;
        }
        buf_addf(&want, "%c%u", i == 0 ? '(' : ' ', (unsigned)i + 1);
    }
    buf_add_byte(&want, ')');
    thread_messages(THREAD_REFERENCES, m, LONG, &out);
    assert_true(span_eq(buf_span(&out), buf_span(&want)));
    buf_free(&out);
    buf_free(&want);
    arena_free(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_subject),
        cmocka_unit_test(test_a_chain_and_a_branch),
        cmocka_unit_test(test_messages_that_are_only_spoken_of),
        cmocka_unit_test(test_hostile_references),
        cmocka_unit_test(test_threads_of_one_subject_are_joined),
        cmocka_unit_test(test_refs_sorts_by_the_latest),
        cmocka_unit_test(test_a_very_long_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
