/*
 * store_append_frames(): what a replica refuses of what comes from its master,
 * and that applying something else shows in the digest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/mutants.h"
#include "tests/store/txntest.h"

struct got {
    enum errcode code;
    int calls;
};

static void
on_frames(void *ctx, enum errcode code, const struct error *err,
          struct store_pos pos)
{
    struct got *got = ctx;
    (void)err;
    (void)pos;
    got->code = code;
    got->calls++;
}

static enum errcode
push(struct teststore *ts, struct span frames)
{
    struct got got = {0};
    store_append_frames(ts->store, frames, on_frames, &got);
    (void)store_step(ts->store);
    assert_int_equal(got.calls, 1);
    return got.code;
}

/* A frame with one REC_APPEND whose body is not its GUID. */
static void
forged_frame(struct teststore *like, mbid_t id, struct buf *ret)
{
    struct store_pos pos = store_pos(like->store);
    AUTO(buf_free) struct buf body = BUF_INIT, payload = BUF_INIT;
    struct body *b = ts_body(1, 100);
    struct rec_append rec = {.id = id, .has_body = true};
    uint32_t raw;
    uint8_t head[FRAME_HEADER_BYTES];

    rec.msg.uid = 1;
    rec.msg.size = 100;
    rec.msg.guid = *body_guid(b);
    rec.msg.guid.b[0] ^= 1;
    rec.body = body_part(b, 0, &rec.encoding, &raw, &rec.body_hash);
    rec_append_encode(&rec, &body);
    frame_add_record(&payload, REC_APPEND, record_version(REC_APPEND),
                     buf_span(&body));
    struct frame_head h = {.payload_bytes = (uint32_t)payload.n,
                           .nrecords = 1,
                           .epoch = 1,
                           .first_lsn = pos.applied.lsn + 1,
                           .time_us = 1};
    h.payload_hash = frame_payload_hash(buf_span(&payload));
    h.chain = frame_chain(pos.chain, &h);
    frame_head_encode(&h, head);
    buf_add(ret, span_of(head, sizeof(head)));
    buf_add(ret, buf_span(&payload));
    while (ret->n % 8 != 0)
        buf_add_byte(ret, 0);
    body_free(&b);
}

static void
test_frames_are_refused_for_what_is_wrong_with_them(void **state)
{
    struct teststore ma, re;
    AUTO(buf_free) struct buf frame = BUF_INIT;

    (void)state;
    ts_new_master(&ma, 1, 0);
    ts_new(&re, 2, 0);
    mbid_t id = ts_create(&ma, "user.ann");
    assert_int_equal(ts_ship(&ma, &re, 1), ERR_OK);
    struct store_pos before = store_pos(re.store);
    assert_int_equal(push(&re, SPAN_LIT("no frames at all")), ERR_CORRUPT);
    forged_frame(&re, id, &frame);
    assert_int_equal(push(&re, buf_span(&frame)), ERR_CORRUPT);
    assert_int_equal(push(&ma, buf_span(&frame)), ERR_READONLY);
    assert_int_equal(store_pos(re.store).digest, before.digest);
    assert_int_equal(re.fatal.code, ERR_OK);
    (void)ts_append(&ma, id, 1, 100, NULL);
    put_file(&re, "/be/shutdown");
    assert_int_equal(ts_ship(&ma, &re, 1), ERR_FENCED);
    remove_file(&re, "/be/shutdown");
    assert_int_equal(ts_ship(&ma, &re, 1), ERR_OK);
    uint64_t digest;
    assert_true(store_digest_at(re.store, 3, &digest));
    assert_true(digest == store_pos(ma.store).digest);
    assert_false(store_digest_at(re.store, 99, &digest));
    store_set_role(re.store, ROLE_FENCED, 1);
    (void)ts_append(&ma, id, 2, 100, NULL);
    assert_int_equal(ts_ship(&ma, &re, 1), ERR_READONLY);
    ts_free(&ma);
    ts_free(&re);
}

static void
test_flipped_apply_shows_in_the_digest(void **state)
{
    struct teststore ma, re;
    struct store_txn *txn = txn_new();
    struct uidrange r;
    struct uidset one = range(&r, 1, 1);

    (void)state;
    ts_new_master(&ma, 1, 0);
    ts_new(&re, 2, MUTANT_APPLY_FLIPPED);
    mbid_t id = ts_create(&ma, "user.ann");
    (void)ts_append(&ma, id, 1, 100, NULL);
    txn_flags(txn, &(struct txn_flags){.id = id,
                                       .uids = &one,
                                       .mode = FLAGS_ADD,
                                       .flags = FLAG_SEEN});
    txn_flags(txn, &(struct txn_flags){.id = id,
                                       .uids = &one,
                                       .mode = FLAGS_REPLACE,
                                       .flags = FLAG_DRAFT});
    assert_int_equal(ts_commit(&ma, &txn), ERR_OK);
    assert_int_equal(ts_ship(&ma, &re, 1), ERR_OK);
    assert_int_equal(store_pos(ma.store).applied.lsn,
                     store_pos(re.store).applied.lsn);
    assert_true(store_pos(ma.store).digest != store_pos(re.store).digest);
    ts_free(&ma);
    ts_free(&re);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_are_refused_for_what_is_wrong_with_them),
        cmocka_unit_test(test_flipped_apply_shows_in_the_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
