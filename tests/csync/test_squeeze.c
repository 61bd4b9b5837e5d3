/*
 * tests/csync/test_squeeze.c - messages with zstd around them: golden bytes,
 * there and back, cut at every byte, every byte turned over, sizes that lie.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "csync/squeeze.h"

/* 300 times 'a' as one zstd frame that says its size. */
static const uint8_t golden[] = {
    1,    0,    0,    0,    0x2c, 0x01, 0, 0, /* FRAMES, 300 bytes */
    0x28, 0xb5, 0x2f, 0xfd,                   /* magic number */
    0x60, 0x2c, 0x00, /* single segment, size - 256 in 2 bytes */
    0x63, 0x09, 0x00, /* last block, RLE, 300 times */
    'a',
};

static void
some_text(struct buf *b, size_t n)
{
    for (unsigned i = 0; b->n < n; i++)
        buf_addf(b, "row %u of the mailbox user.john.%u\n", i, i % 7);
    b->n = n;
}

/* What does not get smaller. */
static void
some_noise(struct buf *b, size_t n)
{
    uint64_t x = 88172645463325252U;

    while (b->n < n) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        buf_add_u64le(b, x);
    }
    b->n = n;
}

static void
test_golden_bytes_are_taken(void **state)
{
    (void)state;
    struct unsqueezer *u = unsqueezer_new();
    struct logmsg m;
    struct error err = {0};

    assert_int_equal(
        unsqueezer_take(u, span_of(golden, sizeof(golden)), &m, &err), ERR_OK);
    assert_int_equal(m.type, LOGMSG_FRAMES);
    assert_int_equal(m.payload.n, 300);
    for (size_t i = 0; i < 300; i++)
        assert_int_equal(m.payload.p[i], 'a');
    unsqueezer_free(&u);
    assert_null(u);
    unsqueezer_free(&u);
}

static void
test_what_was_squeezed_comes_back(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,   1,    255,      256,
                                   257, 5000, 1U << 20, LOGMSG_PAYLOAD_MAX};
    struct squeezer *s = squeezer_new();
    struct unsqueezer *u = unsqueezer_new();
    uint64_t plain = 0, wire = 0, sum = 0;

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        AUTO(buf_free) struct buf text = BUF_INIT, out = BUF_INIT;
        struct logmsg m;
        struct error err = {0};
        size_t used = 0;
        some_text(&text, sizes[i]);
        squeezer_add(s, LOGMSG_SEED_ROWS, buf_span(&text), &out);
        assert_int_equal(logmsg_parse(buf_span(&out), &m, &used), PARSE_DONE);
        assert_int_equal(used, out.n);
        sum += text.n;
        assert_int_equal(m.type, sizes[i] < SQUEEZE_MIN_BYTES ? LOGMSG_SEED_ROWS
                                                              : LOGMSG_ZSTD);
        if (m.type == LOGMSG_ZSTD)
            assert_int_equal(unsqueezer_take(u, m.payload, &m, &err), ERR_OK);
        assert_int_equal(m.type, LOGMSG_SEED_ROWS);
        assert_true(span_eq(m.payload, buf_span(&text)));
    }
    squeezer_counts(s, &plain, &wire);
    assert_int_equal(plain, sum);
    assert_true(wire < plain / 4);
    squeezer_free(&s);
    assert_null(s);
    squeezer_free(&s);
    unsqueezer_free(&u);
}

/* What wins nothing goes as it is, and is tried less and less often; one that
 * wins is found again. */
static void
test_noise_goes_as_it_is(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf noise = BUF_INIT, text = BUF_INIT;
    struct squeezer *s = squeezer_new();
    size_t tries = 0;
    bool won = false;

    some_noise(&noise, 4096);
    some_text(&text, 4096);
    for (size_t i = 0; i < 100; i++) {
        AUTO(buf_free) struct buf out = BUF_INIT;
        squeezer_add(s, LOGMSG_FRAMES, buf_span(&noise), &out);
        assert_int_equal(out.n, LOGMSG_HEADER_BYTES + noise.n);
        assert_int_equal(out.p[4], LOGMSG_FRAMES);
    }
    while (!won) {
        AUTO(buf_free) struct buf out = BUF_INIT;
        squeezer_add(s, LOGMSG_FRAMES, buf_span(&text), &out);
        won = out.p[4] == LOGMSG_ZSTD;
        assert_true(tries++ <= 16);
    }
    squeezer_free(&s);
}

static void
refuses(struct unsqueezer *u, struct span payload)
{
    struct logmsg m = {.type = 99};
    struct error err = {0};

    assert_int_equal(unsqueezer_take(u, payload, &m, &err), ERR_PROTO);
    assert_int_equal(m.type, 99);
    assert_true(err.text[0] != '\0');
}

static void
test_cut_anywhere_is_refused(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf text = BUF_INIT, out = BUF_INIT;
    struct squeezer *s = squeezer_new();
    struct unsqueezer *u = unsqueezer_new();

    for (size_t cut = 0; cut < sizeof(golden); cut++)
        refuses(u, span_of(golden, cut));
    some_text(&text, 3000);
    squeezer_add(s, LOGMSG_FRAMES, buf_span(&text), &out);
    struct span payload = span_skip(buf_span(&out), LOGMSG_HEADER_BYTES);
    for (size_t cut = 0; cut < payload.n; cut++)
        refuses(u, span_sub(payload, 0, cut));
    buf_add_byte(&out, 0); /* and one too many */
    refuses(u, span_skip(buf_span(&out), LOGMSG_HEADER_BYTES));
    squeezer_free(&s);
    unsqueezer_free(&u);
}

static void
test_lies_are_refused(void **state)
{
    (void)state;
    struct unsqueezer *u = unsqueezer_new();
    uint8_t bytes[sizeof(golden)];
    static const struct {
        size_t at;
        uint8_t value;
    } lies[] = {
        {0, LOGMSG_PING}, {0, LOGMSG_ZSTD}, {0, LOGMSG_SEED_PART},
        {0, 63},          {1, 1},           {3, 1},
        {4, 0x2d}, /* a byte more than the frame says */
        {7, 0x7f}, /* two gigabytes */
        {8, 0},    /* no frame */
        {12, 0},   /* the size is not said */
    };

    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        memcpy(bytes, golden, sizeof(bytes));
        bytes[lies[i].at] = lies[i].value;
        refuses(u, span_of(bytes, sizeof(bytes)));
    }
    /* Two frames in one. */
    AUTO(buf_free) struct buf two = BUF_INIT;
    buf_add(&two, span_of(golden, sizeof(golden)));
    buf_add(&two, span_of(golden + 8, sizeof(golden) - 8));
    refuses(u, buf_span(&two));
    unsqueezer_free(&u);
}

/* Any byte turned over: refused, or as many bytes as it says. */
static void
test_damage_stays_in_bounds(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf text = BUF_INIT, out = BUF_INIT;
    struct squeezer *s = squeezer_new();
    struct unsqueezer *u = unsqueezer_new();

    some_text(&text, 2000);
    squeezer_add(s, LOGMSG_FRAMES, buf_span(&text), &out);
    for (size_t at = LOGMSG_HEADER_BYTES; at < out.n; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            struct logmsg m;
            struct error err = {0};
            out.p[at] ^= (uint8_t)(1U << bit);
            struct span payload =
                span_skip(buf_span(&out), LOGMSG_HEADER_BYTES);
            if (unsqueezer_take(u, payload, &m, &err) == ERR_OK)
                assert_true(m.payload.n <= LOGMSG_PAYLOAD_MAX);
            out.p[at] ^= (uint8_t)(1U << bit);
        }
    squeezer_free(&s);
    unsqueezer_free(&u);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_bytes_are_taken),
        cmocka_unit_test(test_what_was_squeezed_comes_back),
        cmocka_unit_test(test_noise_goes_as_it_is),
        cmocka_unit_test(test_cut_anywhere_is_refused),
        cmocka_unit_test(test_lies_are_refused),
        cmocka_unit_test(test_damage_stays_in_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
