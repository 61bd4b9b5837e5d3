/*
 * tests/csync/test_repair.c - what is said where one twin lends to the other:
 * golden bytes, every cut, what is refused.  That it works between instances is
 * tests/e2e/test_damage.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <xxhash.h>

#include "csync/logproto.h"

static struct logmsg
message(uint8_t type, const struct buf *payload)
{
    return (struct logmsg){.type = type, .payload = buf_span(payload)};
}

static void
test_questions_have_these_bytes(void **state)
{
    static const uint8_t part[] = {0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                   0,    0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0};
    static const uint8_t frames[] = {7, 0, 0, 0, 0, 0, 0, 0,
                                     9, 1, 0, 0, 0, 0, 0, 0};
    struct lend_request q = {.guid = {{0xaa}}, .part = 3};
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct lend_request got;

    (void)state;
    q.guid.b[GUID_BYTES - 1] = 1;
    lend_request_encode(&q, &out);
    assert_int_equal(out.n, sizeof(part));
    assert_memory_equal(out.p, part, sizeof(part));
    struct logmsg m = message(LOGMSG_GET_PART, &out);
    assert_true(lend_request_decode(&m, &got));
    assert_false(got.wants_frames);
    assert_true(guid_eq(&got.guid, &q.guid));
    assert_int_equal(got.part, 3);

    buf_clear(&out);
    q = (struct lend_request){.wants_frames = true, .after = 7, .until = 265};
    lend_request_encode(&q, &out);
    assert_int_equal(out.n, sizeof(frames));
    assert_memory_equal(out.p, frames, sizeof(frames));
    m = message(LOGMSG_GET_FRAMES, &out);
    assert_true(lend_request_decode(&m, &got));
    assert_true(got.wants_frames);
    assert_int_equal(got.after, 7);
    assert_int_equal(got.until, 265);
}

static void
test_questions_that_are_none_are_refused(void **state)
{
    struct lend_request q = {.guid = {{1}}, .part = 65535};
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct lend_request got;

    (void)state;
    lend_request_encode(&q, &out);
    for (size_t n = 0; n <= out.n + 1; n++) {
        struct buf longer = BUF_INIT;
        buf_add(&longer, buf_span(&out));
        buf_add_byte(&longer, 0);
        longer.n = n;
        struct logmsg m = message(LOGMSG_GET_PART, &longer);
        assert_int_equal(lend_request_decode(&m, &got), n == out.n);
        m.type = LOGMSG_GET_FRAMES;
        assert_false(n != 16 && lend_request_decode(&m, &got));
        m.type = LOGMSG_PING;
        assert_false(lend_request_decode(&m, &got));
        buf_free(&longer);
    }
    /* No body has so many parts. */
    buf_clear(&out);
    q.part = 65536;
    lend_request_encode(&q, &out);
    struct logmsg m = message(LOGMSG_GET_PART, &out);
    assert_false(lend_request_decode(&m, &got));
    /* Nothing is asked for. */
    buf_clear(&out);
    q = (struct lend_request){.wants_frames = true, .after = 8, .until = 8};
    lend_request_encode(&q, &out);
    m = message(LOGMSG_GET_FRAMES, &out);
    assert_false(lend_request_decode(&m, &got));
}

static void
test_part_is_taken_whole_or_not_at_all(void **state)
{
    const struct guid guid = {{5, 6, 7}};
    const struct span stored = SPAN_LIT("eight by");
    const struct body_loc loc = {.home = BODY_IN_LOG,
                                 .encoding = BODY_RAW,
                                 .file = 1,
                                 .offset = 2,
                                 .stored_bytes = 8,
                                 .raw_bytes = 8,
                                 .hash = XXH3_64bits(stored.p, stored.n),
                                 .parts = 1,
                                 .size = 8};
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct error err = {0};
    struct guid got_guid;
    struct body_loc got;
    struct span bytes;

    (void)state;
    logpart_encode(&guid, &loc, stored, &out);
    assert_int_equal(
        logpart_decode(buf_span(&out), &got_guid, &got, &bytes, &err), ERR_OK);
    assert_true(guid_eq(&guid, &got_guid));
    assert_true(span_eq(bytes, stored));
    assert_int_equal(got.hash, loc.hash);
    for (size_t n = 0; n < out.n; n++) {
        enum errcode rc =
            logpart_decode(span_of(out.p, n), &got_guid, &got, &bytes, &err);
        assert_true(rc == ERR_PROTO || rc == ERR_CORRUPT);
    }
    buf_add_byte(&out, 0);
    assert_int_equal(
        logpart_decode(buf_span(&out), &got_guid, &got, &bytes, &err),
        ERR_PROTO);
}

static void
test_messages_of_lending_are_known(void **state)
{
    static const uint8_t types[] = {LOGMSG_GET_PART,    LOGMSG_GET_FRAMES,
                                    LOGMSG_SEED_LOST,   LOGMSG_PART,
                                    LOGMSG_LENT_FRAMES, LOGMSG_LACKING};

    (void)state;
    for (size_t i = 0; i < sizeof(types); i++) {
        uint8_t bytes[LOGMSG_HEADER_BYTES];
        struct logmsg m;
        size_t used;
        logmsg_header(types[i], 0, bytes);
        assert_int_equal(logmsg_parse(span_of(bytes, sizeof(bytes)), &m, &used),
                         PARSE_DONE);
        assert_int_equal(m.type, types[i]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_questions_have_these_bytes),
        cmocka_unit_test(test_questions_that_are_none_are_refused),
        cmocka_unit_test(test_part_is_taken_whole_or_not_at_all),
        cmocka_unit_test(test_messages_of_lending_are_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
