/*
 * tests/synclog/test_frame.c - the bytes of segment headers, frames and
 * records: golden ones, cut at each byte, every bit turned over.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "synclog/frame.h"

/* "PLXF", the checksum, then the fields in the order of frame.h. */
static const uint8_t golden_frame[] = {
    0x50, 0x4c, 0x58, 0x46, 0xe9, 0x9c, 0xb7, 0x62, /* magic, checksum */
    0x13, 0,    0,    0,    0x02, 0,    0,    0,    /* 19 bytes, 2 records */
    0x07, 0,    0,    0,    0x01, 0,    0,    0,    /* epoch 7, version 1 */
    0x56, 0x10, 0,    0,    0,    0,    0,    0,    /* LSN 4182 */
    0x55, 0x10, 0,    0,    0,    0,    0,    0,    /* durable 4181 */
    0x47, 0x42, 0x3a, 0x47, 0x6c, 0x59, 0x6e, 0xf8, /* payload hash */
    0xb0, 0x42, 0xe6, 0x72, 0x9f, 0x40, 0xff, 0xb2, /* chain */
    0x00, 0x40, 0x16, 0x9e, 0x6e, 0x4f, 0x06, 0x00, /* a time */
    0x0b, 0,    0,    0,    0x05, 0x01, 0,    0,
    'a',  'b',  'c',                             /* 11 bytes, type 5, v1 */
    0x08, 0,    0,    0,    0x09, 0x02, 0,    0, /* 8 bytes, type 9, v2 */
    0,    0,    0,    0,    0,                   /* padding */
};

static void
make_frame(struct frame_head *h, struct buf *out)
{
    AUTO(buf_free) struct buf payload = BUF_INIT;

    frame_add_record(&payload, 5, 1, SPAN_LIT("abc"));
    frame_add_record(&payload, 9, 2, SPAN_EMPTY);
    *h = (struct frame_head){
        .payload_bytes = (uint32_t)payload.n,
        .nrecords = 2,
        .epoch = 7,
        .first_lsn = 4182,
        .durable_lsn = 4181,
        .payload_hash = frame_payload_hash(buf_span(&payload)),
        .time_us = UINT64_C(0x00064f6e9e164000),
    };
    h->chain = frame_chain(0x1122334455667788, h);
    uint8_t head[FRAME_HEADER_BYTES];
    frame_head_encode(h, head);
    buf_add(out, span_of(head, sizeof(head)));
    buf_add(out, buf_span(&payload));
    while (out->n % 8 != 0)
        buf_add_byte(out, 0);
}

static void
test_frame_has_its_golden_bytes(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf b = BUF_INIT;
    struct frame_head h;
    make_frame(&h, &b);
    assert_int_equal(b.n, sizeof(golden_frame));
    assert_memory_equal(b.p, golden_frame, sizeof(golden_frame));
    assert_int_equal(frame_bytes(&h), sizeof(golden_frame));
    assert_int_equal(frame_last_lsn(&h), 4183);
}

static void
test_frame_decodes_to_what_was_encoded(void **state)
{
    (void)state;
    struct frame_head h;
    struct span payload;
    size_t used = 0;
    assert_int_equal(frame_decode(span_of(golden_frame, sizeof(golden_frame)),
                                  &h, &payload, &used),
                     PARSE_DONE);
    assert_int_equal(used, sizeof(golden_frame));
    assert_int_equal(h.epoch, 7);
    assert_int_equal(h.first_lsn, 4182);
    assert_int_equal(h.durable_lsn, 4181);
    assert_true(h.chain == frame_chain(0x1122334455667788, &h));

    struct record rec = {0};
    size_t pos = 0;
    assert_true(frame_next_record(&h, payload, &pos, &rec));
    assert_int_equal(rec.lsn, 4182);
    assert_int_equal(rec.epoch, 7);
    assert_int_equal(rec.type, 5);
    assert_int_equal(rec.version, 1);
    assert_int_equal(rec.offset, RECORD_HEADER_BYTES);
    assert_true(span_eq_str(rec.body, "abc"));
    assert_true(frame_next_record(&h, payload, &pos, &rec));
    assert_int_equal(rec.lsn, 4183);
    assert_int_equal(rec.type, 9);
    assert_int_equal(rec.offset, 19);
    assert_int_equal(rec.body.n, 0);
    assert_false(frame_next_record(&h, payload, &pos, &rec));
}

static void
test_frame_cut_anywhere_asks_for_more(void **state)
{
    (void)state;
    for (size_t cut = 0; cut < sizeof(golden_frame); cut++) {
        struct frame_head h;
        struct span payload;
        size_t used = 77;
        assert_int_equal(
            frame_decode(span_of(golden_frame, cut), &h, &payload, &used),
            PARSE_MORE);
        assert_int_equal(used, 77);
    }
}

static void
test_any_bit_turned_over_is_detected(void **state)
{
    (void)state;
    for (size_t bit = 0; bit < 8 * sizeof(golden_frame); bit++) {
        uint8_t bytes[sizeof(golden_frame)];
        struct frame_head h;
        struct span payload;
        size_t used;
        memcpy(bytes, golden_frame, sizeof(bytes));
        bytes[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        assert_int_equal(
            frame_decode(span_of(bytes, sizeof(bytes)), &h, &payload, &used),
            PARSE_BAD);
    }
}

static const uint8_t golden_heartbeat[FRAME_HEADER_BYTES] = {
    0x50, 0x4c, 0x58, 0x46,
    0x3e, 0x39, 0x0e, 0x6b, /* magic, checksum */
    0,    0,    0,    0,
    0,    0,    0,    0, /* nothing in it */
    0x07, 0,    0,    0,
    0x01, 0,    0,    0, /* epoch 7, version 1 */
    0x58, 0x10, 0,    0,
    0,    0,    0,    0, /* LSN 4184 is next */
    0x57, 0x10, 0,    0,
    0,    0,    0,    0, /* durable 4183 */
    0xc2, 0x94, 0xd3, 0x38,
    0x05, 0x80, 0x06, 0x2d, /* hash of no bytes */
    0x88, 0x77, 0x66, 0x55,
    0x44, 0x33, 0x22, 0x11, /* chain of the one before */
    0x01, 0,    0,    0,
    0,    0,    0,    0, /* a time */
};

static void
test_heartbeat_has_its_golden_bytes(void **state)
{
    (void)state;
    const struct frame_head h = {
        .epoch = 7,
        .first_lsn = 4184,
        .durable_lsn = 4183,
        .payload_hash = frame_payload_hash(SPAN_EMPTY),
        .chain = 0x1122334455667788,
        .time_us = 1,
    };
    uint8_t bytes[FRAME_HEADER_BYTES];
    struct frame_head back;
    struct span payload;
    size_t used = 0;
    frame_head_encode(&h, bytes);
    assert_memory_equal(bytes, golden_heartbeat, sizeof(bytes));
    assert_int_equal(
        frame_decode(span_of(bytes, sizeof(bytes)), &back, &payload, &used),
        PARSE_DONE);
    assert_int_equal(used, FRAME_HEADER_BYTES);
    assert_int_equal(payload.n, 0);
}

/* The chain is the same for copies that differ in durable_lsn only. */
static void
test_chain_leaves_out_durable_and_nothing_else(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf b = BUF_INIT;
    struct frame_head h, other;
    make_frame(&h, &b);
    const uint64_t chain = frame_chain(5, &h);

    other = h;
    other.durable_lsn = 17;
    other.chain = 99;
    assert_true(frame_chain(5, &other) == chain);
    assert_false(frame_chain(6, &h) == chain);
    other = h;
    other.payload_bytes++;
    assert_false(frame_chain(5, &other) == chain);
    other = h;
    other.nrecords++;
    assert_false(frame_chain(5, &other) == chain);
    other = h;
    other.epoch++;
    assert_false(frame_chain(5, &other) == chain);
    other = h;
    other.first_lsn++;
    assert_false(frame_chain(5, &other) == chain);
    other = h;
    other.payload_hash++;
    assert_false(frame_chain(5, &other) == chain);
    other = h;
    other.time_us++;
    assert_false(frame_chain(5, &other) == chain);
}

/* A good checksum does not make these headers good. */
static void
test_head_over_a_limit_is_bad(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf b = BUF_INIT;
    struct frame_head good;
    make_frame(&good, &b);
    struct frame_head h[] = {good, good, good, good, good, good, good, good};
    h[0].payload_bytes = FRAME_PAYLOAD_MAX + 1;
    h[1].nrecords = FRAME_RECORDS_MAX + 1;
    h[2].epoch = 0;
    h[3].epoch = EPOCH_MAX + 1;
    h[4].first_lsn = 0;
    h[5].durable_lsn = h[5].first_lsn;
    h[6].nrecords = 0;
    h[7].first_lsn = FRAME_LSN_MAX + 1;
    for (size_t i = 0; i < ARRAY_LEN(h); i++) {
        uint8_t bytes[FRAME_HEADER_BYTES];
        struct frame_head back;
        frame_head_encode(&h[i], bytes);
        assert_int_equal(
            frame_head_decode(span_of(bytes, sizeof(bytes)), &back), PARSE_BAD);
        assert_false(frame_head_is_newer(span_of(bytes, sizeof(bytes))));
    }
}

static void
test_records_that_do_not_fill_the_payload_are_bad(void **state)
{
    (void)state;
    static const struct {
        const char *payload;
        size_t n;
        uint32_t nrecords;
    } rows[] = {
        {"\x08\0\0\0\x01\x01\0\0", 8, 1},       /* good */
        {"\x07\0\0\0\x01\x01\0\0", 8, 1},       /* too short */
        {"\x09\0\0\0\x01\x01\0\0", 8, 1},       /* too long */
        {"\xff\xff\xff\xff\x01\x01\0\0", 8, 1}, /* far too long */
        {"\x08\0\0\0\x01\x01\0\0\x08\0\0\0\x01\x01\0\0", 16, 1}, /* two */
        {"\x10\0\0\0\x01\x01\0\0\x08\0\0\0\x01\x01\0\0", 16, 2}, /* one */
        {"\x08\0\0\0\x01\x01\0\0\x08\0\0", 11, 1},               /* a rest */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct frame_head h = {.nrecords = rows[i].nrecords, .first_lsn = 1};
        assert_int_equal(
            frame_records_sound(&h, span_of(rows[i].payload, rows[i].n)),
            i == 0);
    }
}

static void
test_record_beyond_the_maximum_is_left_out_whole(void **state)
{
    (void)state;
    AUTO(buf_free) struct buf b = BUF_MAX(20);
    frame_add_record(&b, 1, 1, SPAN_LIT("abc"));
    frame_add_record(&b, 1, 1, SPAN_LIT("abcd"));
    assert_true(b.full);
    assert_int_equal(b.n, 11);
}

static const uint8_t golden_segment[88] = {
    'P',  'L',  'X',  'S',  'E',  'G',  0,    0,    1,   0,   0, 0, 7, 0,
    0,    0, /* epoch 7 */
    'c',  'l',  'u',  's',  't',  'e',  'r',  0,    0,   0,   0, 0, 0, 0,
    0,    0,    'i',  'n',  's',  't',  'a',  'n',  'c', 'e', 0, 0, 0, 0,
    0,    0,    0,    0,    0x0c, 0,    0,    0,    0,   0,   0, 0, /* number 12
                                                                     */
    0x56, 0x10, 0,    0,    0,    0,    0,    0,    /* first LSN 4182 */
    0x55, 0x10, 0,    0,    0,    0,    0,    0,    /* behind 4181 */
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* and its chain */
    0x00, 0x40, 0x16, 0x9e, 0x6e, 0x4f, 0x06, 0x00, /* made then */
};
static const uint8_t golden_segment_sum[8] = {0xe3, 0xf0, 0x83, 0xbb,
                                              0xcf, 0x77, 0xbe, 0x01};

static const struct segment_head segment = {
    .cluster = {"cluster"},
    .instance = {"instance"},
    .number = 12,
    .first_lsn = 4182,
    .epoch = 7,
    .prev_lsn = 4181,
    .prev_chain = 0x1122334455667788,
    .created_us = UINT64_C(0x00064f6e9e164000),
};

static void
test_segment_header_has_its_golden_bytes(void **state)
{
    (void)state;
    uint8_t block[SEGMENT_HEADER_BYTES];
    segment_head_encode(&segment, block);
    assert_memory_equal(block, golden_segment, sizeof(golden_segment));
    for (size_t i = sizeof(golden_segment); i < sizeof(block) - 8; i++)
        assert_int_equal(block[i], 0);
    assert_memory_equal(block + sizeof(block) - 8, golden_segment_sum, 8);

    struct segment_head back;
    struct error err = {0};
    assert_int_equal(
        segment_head_decode(span_of(block, sizeof(block)), &back, &err),
        ERR_OK);
    assert_true(instid_eq(&back.cluster, &segment.cluster));
    assert_true(instid_eq(&back.instance, &segment.instance));
    assert_int_equal(back.number, 12);
    assert_int_equal(back.first_lsn, 4182);
    assert_int_equal(back.prev_lsn, 4181);
    assert_true(back.prev_chain == segment.prev_chain);
    assert_true(back.created_us == segment.created_us);
    assert_int_equal(back.epoch, 7);
}

static void
test_segment_header_cut_or_turned_is_corrupt(void **state)
{
    (void)state;
    uint8_t block[SEGMENT_HEADER_BYTES];
    struct segment_head back;
    struct error err = {0};
    segment_head_encode(&segment, block);
    for (size_t cut = 0; cut < sizeof(block); cut++)
        assert_int_equal(segment_head_decode(span_of(block, cut), &back, &err),
                         ERR_CORRUPT);
    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] ^= (uint8_t)(1U << (i % 8));
        assert_int_equal(
            segment_head_decode(span_of(block, sizeof(block)), &back, &err),
            ERR_CORRUPT);
        block[i] ^= (uint8_t)(1U << (i % 8));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_has_its_golden_bytes),
        cmocka_unit_test(test_frame_decodes_to_what_was_encoded),
        cmocka_unit_test(test_frame_cut_anywhere_asks_for_more),
        cmocka_unit_test(test_any_bit_turned_over_is_detected),
        cmocka_unit_test(test_heartbeat_has_its_golden_bytes),
        cmocka_unit_test(test_chain_leaves_out_durable_and_nothing_else),
        cmocka_unit_test(test_head_over_a_limit_is_bad),
        cmocka_unit_test(test_records_that_do_not_fill_the_payload_are_bad),
        cmocka_unit_test(test_record_beyond_the_maximum_is_left_out_whole),
        cmocka_unit_test(test_segment_header_has_its_golden_bytes),
        cmocka_unit_test(test_segment_header_cut_or_turned_is_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
