/*
 * search/block.c and search/rows.c: golden bytes, what was written is read
 * back, and nothing that was cut or changed is taken for whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <xxhash.h>

#include "search/block.h"
#include "search/rows.h"

static void
keep(void *ctx, struct span block, const struct gram_set *grams)
{
    struct buf *out = ctx;

    (void)grams;
    buf_add_u32le(out, (uint32_t)block.n);
    buf_add(out, block);
}

static struct span
first_block(const struct buf *blocks)
{
    struct rd r = rd_init(buf_span(blocks));
    uint32_t n = rd_u32le(&r);

    return rd_span(&r, n);
}

static void
note(void *ctx, uint32_t doc)
{
    buf_addf(ctx, " %u", doc);
}

static const uint32_t few[] = {0, 3, 300};

static void
write_small(struct buf *out)
{
    struct block_writer w = {.emit = keep, .ctx = out};
    uint32_t many[40];

    for (uint32_t i = 0; i < 40; i++)
        many[i] = 2 + 2 * i;
    block_write(&w, SPAN_LIT("ABC"), few, 3);
    block_write(&w, SPAN_LIT("B"), many, 40);
    block_write_end(&w);
    block_write_end(&w); /* nothing is left */
    block_writer_free(&w);
}

static void
test_golden_bytes(void **state)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    AUTO(buf_free) struct buf want = BUF_INIT;
    (void)state;

    static const uint8_t head[] = {
        1,                                                 /* version */
        2,                                                 /* words */
        7,          0,    'A',  'B',  'C',  0,    'B',  0, /* their bytes */
        4 * 2,                     /* deltas in 4 bytes: 0, 3, 300 */
        0,          2,    0xA8, 2, /* 300 - 3 - 1 = 296 */
        11 * 2 + 1, 2,             /* bits from 2 on: every second */
        0x55,       0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55};
    buf_add(&want, span_of(head, sizeof(head)));
    buf_add_u64le(&want, XXH3_64bits(head, sizeof(head)));
    write_small(&out);
    assert_int_equal(first_block(&out).n, want.n);
    assert_memory_equal(first_block(&out).p, want.p, want.n);
    assert_int_equal(out.n, want.n + 4);
}

static void
check_find(struct span bytes, struct span pattern, const char *want)
{
    AUTO(buf_free) struct buf found = BUF_INIT;
    struct block b;

    assert_true(block_open(bytes, &b));
    assert_true(block_find(&b, pattern, 301, note, &found));
    assert_string_equal(buf_cstr(&found), want);
}

static void
test_patterns_are_found(void **state)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    (void)state;

    write_small(&out);
    struct span b = first_block(&out);
    check_find(b, SPAN_LIT("BC"), " 0 3 300");
    check_find(b, span_of("\0ABC\0", 5), " 0 3 300");
    check_find(b, span_of("\0BC", 3), "");
    check_find(b, span_of("C\0", 2), " 0 3 300");
    check_find(b, SPAN_LIT("X"), "");
    AUTO(buf_free) struct buf all = BUF_INIT;
    struct block open;
    assert_true(block_open(b, &open));
    assert_true(block_find(&open, SPAN_LIT("B"), 301, note, &all));
    assert_true(span_starts(buf_span(&all), SPAN_LIT(" 0 3 300 2 4 6")));
    /* A number beyond the segment is damage. */
    assert_true(block_open(b, &open));
    assert_false(block_find(&open, SPAN_LIT("A"), 300, note, &all));
}

static void
test_many_words_become_blocks_in_order(void **state)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    AUTO(buf_free) struct buf got = BUF_INIT;
    struct block_writer w = {.emit = keep, .ctx = &out};
    const uint32_t words = 30000;
    (void)state;

    for (uint32_t i = 0; i < words; i++) {
        char word[16];
        snprintf(word, sizeof(word), "W%07u", i);
        uint32_t docs[2] = {i, i + 1 + i % 5};
        block_write(&w, span_str(word), docs, 2);
    }
    block_write_end(&w);
    block_writer_free(&w);
    struct rd r = rd_init(buf_span(&out));
    uint32_t i = 0, blocks = 0;
    while (r.left.n > 0) {
        uint32_t n = rd_u32le(&r);
        struct block b;
        struct span word, list;
        bool bits;
        assert_true(block_open(rd_span(&r, n), &b));
        blocks++;
        while (block_next(&b, &word, &list, &bits)) {
            char want[16];
            snprintf(want, sizeof(want), "W%07u", i);
            assert_true(span_eq_str(word, want));
            buf_clear(&got);
            assert_true(block_list(list, bits, words + 10, note, &got));
            char text[40];
            snprintf(text, sizeof(text), " %u %u", i, i + 1 + i % 5);
            assert_string_equal(buf_cstr(&got), text);
            i++;
        }
        assert_false(b.lists.bad);
    }
    assert_int_equal(i, words);
    assert_true(blocks > 3);
}

/* What block_find() is to say, word by word. */
static void
find_slowly(struct span bytes, struct span pattern, struct buf *ret)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct span word, list;
    struct block b;
    bool bits;

    assert_true(block_open(bytes, &b));
    while (block_next(&b, &word, &list, &bits)) {
        buf_clear(&text);
        buf_add_byte(&text, 0);
        buf_add(&text, word);
        buf_add_byte(&text, 0);
        if (memmem(text.p, text.n, pattern.p, pattern.n) != NULL)
            assert_true(block_list(list, bits, UINT32_MAX, note, ret));
    }
    assert_false(b.lists.bad);
}

/* Lists of a byte, of some, and of so many that their length takes two. */
static void
test_words_between_hits_are_passed_over(void **state)
{
    static const struct span patterns[] = {
        {(const uint8_t *)"W", 1},
        {(const uint8_t *)"77", 2},
        {(const uint8_t *)"\0W00012", 7},
        {(const uint8_t *)"9\0", 2},
        {(const uint8_t *)"\0W0001234\0", 10},
        {(const uint8_t *)"2999", 4},
        {(const uint8_t *)"3000", 4}};
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct block_writer w = {.emit = keep, .ctx = &out};
    uint32_t docs[200];
    (void)state;

    for (uint32_t i = 0; i < 3000; i++) {
        char word[16];
        const size_t n = i % 11 == 0 ? 1 + i % 200 : 1;
        snprintf(word, sizeof(word), "W%07u", i);
        for (uint32_t k = 0; k < n; k++)
            docs[k] = i + k * 400;
        block_write(&w, span_str(word), docs, n);
    }
    block_write_end(&w);
    block_writer_free(&w);
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        AUTO(buf_free) struct buf want = BUF_INIT;
        AUTO(buf_free) struct buf got = BUF_INIT;
        struct block b;
        find_slowly(first_block(&out), patterns[i], &want);
        assert_true(block_open(first_block(&out), &b));
        assert_true(block_find(&b, patterns[i], UINT32_MAX, note, &got));
        assert_string_equal(buf_cstr(&got), buf_cstr(&want));
        assert_int_equal(got.n > 0, i + 1 < ARRAY_LEN(patterns));
    }
}

/* Bytes that are no block's, with a hash that is right. */
static void
test_fewer_lists_than_words_is_damage(void **state)
{
    static const uint8_t bytes[] = {1,   3, 7,   0, 'A', 0,
                                    'B', 0, 'C', 0, 2,   0, /* of A */
                                    0x7E};
    static const uint8_t cut[] = {1, 3, 7, 0, 'A', 0, 'B', 0, 'C', 0, 2, 0};
    AUTO(buf_free) struct buf b = BUF_INIT;
    AUTO(buf_free) struct buf got = BUF_INIT;
    struct block open;
    (void)state;

    buf_add(&b, span_of(bytes, sizeof(bytes)));
    buf_add_u64le(&b, XXH3_64bits(b.p, b.n));
    assert_true(block_open(buf_span(&b), &open));
    assert_true(block_find(&open, SPAN_LIT("A"), 300, note, &got));
    assert_true(block_open(buf_span(&b), &open));
    assert_false(block_find(&open, SPAN_LIT("C"), 300, note, &got));
    buf_clear(&b);
    buf_add(&b, span_of(cut, sizeof(cut)));
    buf_add_u64le(&b, XXH3_64bits(b.p, b.n));
    assert_true(block_open(buf_span(&b), &open));
    assert_false(block_find(&open, SPAN_LIT("C"), 300, note, &got));
}

static void
test_cut_or_changed_is_damaged(void **state)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct block b;
    (void)state;

    write_small(&out);
    struct span whole = first_block(&out);
    for (size_t n = 0; n < whole.n; n++)
        assert_false(block_open(span_sub(whole, 0, n), &b));
    uint8_t *bytes = xmalloc(whole.n);
    memcpy(bytes, whole.p, whole.n);
    for (size_t i = 0; i < whole.n * 8; i++) {
        bytes[i / 8] = (uint8_t)(bytes[i / 8] ^ 1U << i % 8);
        assert_false(block_open(span_of(bytes, whole.n), &b));
        bytes[i / 8] = (uint8_t)(bytes[i / 8] ^ 1U << i % 8);
    }
    free(bytes);
}

/* ---- rows -------------------------------------------------------------- */

static void
test_head_golden_and_back(void **state)
{
    struct index_segment seg[] = {
        {.id = 3, .docs = 200, .blocks = {1, 2}, .bytes = 70000}};
    struct index_head h = {.uniqueid = {"abc"},
                           .uidvalidity = 7,
                           .upto = 300,
                           .next_segment = 4,
                           .segments = seg,
                           .nsegments = 1};
    AUTO(buf_free) struct buf out = BUF_INIT;
    AUTO(buf_free) struct buf want = BUF_INIT;
    AUTO(index_head_free) struct index_head back = {0};
    (void)state;

    uidset_add(&h.skipped, 9, 9);
    index_head_encode(&h, &out);
    static const uint8_t golden[] = {
        2, 3,    'a', 'b', 'c', 7,    0xAC, 2, 4, 1, /* one segment: */
        3, 0xC8, 1,   1,   2,   0xF0, 0xA2, 4,       /* id docs blocks bytes */
        1, 8,    0};                                 /* skipped */
    buf_add(&want, span_of(golden, sizeof(golden)));
    buf_add_u64le(&want, XXH3_64bits(golden, sizeof(golden)));
    assert_int_equal(out.n, want.n);
    assert_memory_equal(out.p, want.p, want.n);
    assert_true(index_head_decode(buf_span(&out), &back));
    assert_string_equal(back.uniqueid.s, "abc");
    assert_int_equal(back.segments[0].bytes, 70000);
    assert_int_equal(back.upto, 300);
    assert_true(uidset_has(&back.skipped, 9));
    for (size_t n = 0; n < out.n; n++) {
        struct index_head bad = {0};
        assert_false(index_head_decode(span_sub(buf_span(&out), 0, n), &bad));
    }
    uidset_free(&h.skipped);
}

static void
test_docs_and_origin_and_keys(void **state)
{
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    AUTO(uidset_free) struct uidset back = UIDSET_INIT;
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct index_origin o = {.cluster = {{1, 2}}, .epoch = 3, .lsn = 1000};
    struct index_origin p;
    struct row_key k;
    (void)state;

    uidset_add(&uids, 5, 9);
    uidset_add(&uids, 11, 11);
    index_docs_encode(&uids, &out);
    assert_true(index_docs_decode(buf_span(&out), &back));
    assert_true(uidset_eq(&uids, &back));
    for (size_t n = 0; n < out.n; n++)
        assert_false(index_docs_decode(span_sub(buf_span(&out), 0, n), &back));
    buf_clear(&out);
    index_origin_encode(&o, &out);
    assert_true(index_origin_decode(buf_span(&out), &p));
    assert_true(instid_eq(&p.cluster, &o.cluster));
    assert_int_equal(p.epoch, 3);
    assert_int_equal(p.lsn, 1000);
    for (size_t n = 0; n < out.n; n++)
        assert_false(index_origin_decode(span_sub(buf_span(&out), 0, n), &p));
    struct span key = row_key_block(&k, 'B', 0x0102, 3, WORDS_BODY, 4);
    static const uint8_t want[] = {'B', 0, 0, 0, 0, 0, 0, 1, 2,
                                   0,   0, 0, 3, 1, 0, 0, 0, 4};
    assert_int_equal(key.n, sizeof(want));
    assert_memory_equal(key.p, want, sizeof(want));
    key = row_key_block(&k, 'F', 0x0102, 3, WORDS_BODY, 4);
    assert_int_equal(key.n, sizeof(want));
    assert_int_equal(key.p[0], 'F');
    assert_memory_equal(key.p + 1, want + 1, sizeof(want) - 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_bytes),
        cmocka_unit_test(test_patterns_are_found),
        cmocka_unit_test(test_many_words_become_blocks_in_order),
        cmocka_unit_test(test_words_between_hits_are_passed_over),
        cmocka_unit_test(test_fewer_lists_than_words_is_damage),
        cmocka_unit_test(test_cut_or_changed_is_damaged),
        cmocka_unit_test(test_head_golden_and_back),
        cmocka_unit_test(test_docs_and_origin_and_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
