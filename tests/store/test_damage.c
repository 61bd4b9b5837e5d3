/*
 * The register of damage, and bodies that are put back: a body with a flipped
 * bit is never given out, is noted once, survives a restart in the register,
 * and is whole again after the same bytes came from elsewhere; bytes that are
 * not those of its GUID change nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "store/body_private.h"
#include "store/damage_private.h"
#include "store/rows.h"
#include "store/seed.h"
#include "store/store_private.h"
#include "tests/lib/storetest.h"

#define LARGE (BODY_PART_BYTES + 70000U)

struct world {
    struct teststore ts;
    mbid_t id;
    struct guid small, large;
};

static struct guid
guid_at(struct world *w, uint32_t uid)
{
    struct arena a = ARENA_INIT;
    struct message m = ts_message(&w->ts, w->id, uid, &a);

    arena_free(&a);
    return m.guid;
}

static int
setup(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    enum errcode rc;

    ts_new_master(&w->ts, 7, 0);
    w->id = ts_create(&w->ts, "user.ann");
    assert_int_equal(ts_append(&w->ts, w->id, 1, 3000, &rc), 1);
    assert_int_equal(ts_append(&w->ts, w->id, 2, LARGE, &rc), 2);
    w->small = guid_at(w, 1);
    w->large = guid_at(w, 2);
    *state = w;
    return 0;
}

static int
teardown(void **state)
{
    struct world *w = *state;

    ts_free(&w->ts);
    free(w);
    return 0;
}

static struct body_loc
place(struct world *w, const struct guid *guid, uint32_t part)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct body_loc loc;
    struct key k;

    assert_int_equal(kv_get(w->ts.kv, NULL, KV_STATE, key_body(&k, guid, part),
                            &value, NULL),
                     ERR_OK);
    assert_int_equal(body_loc_decode(buf_span(&value), &loc, NULL), ERR_OK);
    return loc;
}

/* Turns over a bit of the stored bytes of a part in the log. */
static void
flip(struct world *w, const struct guid *guid, uint32_t part, uint64_t at)
{
    struct body_loc loc = place(w, guid, part);
    AUTO(xfree)
    char *path = xasprintf("/be/synclog/seg-%016" PRIx64 ".plx", loc.file);

    assert_int_equal(loc.home, BODY_IN_LOG);
    assert_true(at < loc.stored_bytes);
    assert_true(env_sim_flip_bit(w->ts.sim, path, loc.offset + at, 3));
}

static enum errcode
read_all(struct world *w, const struct guid *guid, struct buf *out)
{
    struct error err = {0};

    buf_clear(out);
    return store_body_read(w->ts.store, guid, 0, UINT64_MAX, out, &err);
}

static uint64_t
count(struct world *w)
{
    struct damage_view view;

    store_damage_view(w->ts.store, &view);
    return view.count;
}

/* The body of SEED and BYTES as the twin would give it. */
static enum errcode
put_back(struct world *w, const struct guid *guid, uint64_t seed, size_t bytes)
{
    AUTO(body_free) struct body *b = ts_body(seed, bytes);
    struct error err = {0};
    struct mend *mend = NULL;
    enum errcode rc = mend_open(w->ts.store, guid, &mend, &err);

    for (uint32_t i = 0; rc == ERR_OK && i < body_part_count(b); i++) {
        struct body_loc loc = {
            .part = i, .parts = body_part_count(b), .size = body_size(b)};
        struct span stored =
            body_part(b, i, &loc.encoding, &loc.raw_bytes, &loc.hash);
        loc.stored_bytes = (uint32_t)stored.n;
        loc.home = BODY_IN_LOG;
        rc = mend_put_part(mend, &loc, stored, &err);
    }
    if (rc == ERR_OK)
        rc = mend_finish(mend, &err);
    mend_close(&mend);
    return rc;
}

static void
test_damaged_body_is_noted_once_and_healed_by_its_bytes(void **state)
{
    struct world *w = *state;
    AUTO(buf_free) struct buf before = BUF_INIT;
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct damage d;

    assert_int_equal(read_all(w, &w->small, &before), ERR_OK);
    flip(w, &w->small, 0, 100);
    assert_int_equal(read_all(w, &w->small, &out), ERR_CORRUPT);
    assert_int_equal(out.n, 0);
    assert_int_equal(read_all(w, &w->small, &out), ERR_CORRUPT);
    assert_int_equal(count(w), 1);

    assert_true(store_damage_next(w->ts.store, 0, &d));
    assert_int_equal(d.kind, DAMAGE_BODY);
    assert_true(guid_eq(&d.guid, &w->small));
    assert_int_equal(d.home, BODY_IN_LOG);
    assert_int_equal(d.offset, place(w, &w->small, 0).offset);
    assert_false(store_damage_next(w->ts.store, 0, &d)); /* it was its turn */

    assert_int_equal(put_back(w, &w->small, 1, 3000), ERR_OK);
    assert_int_equal(count(w), 0);
    assert_int_equal(read_all(w, &w->small, &out), ERR_OK);
    assert_true(span_eq(buf_span(&out), buf_span(&before)));
    assert_int_equal(place(w, &w->small, 0).home, BODY_IN_PACK);
}

static void
test_damage_in_any_part_is_found(void **state)
{
    struct world *w = *state;
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct damage d;

    flip(w, &w->large, 1, 17);
    assert_int_equal(read_all(w, &w->large, &out), ERR_CORRUPT);
    assert_true(store_damage_next(w->ts.store, 0, &d));
    assert_int_equal(d.part, 1);
    assert_int_equal(put_back(w, &w->large, 2, LARGE), ERR_OK);
    assert_int_equal(read_all(w, &w->large, &out), ERR_OK);
    assert_int_equal(out.n, LARGE);
}

static void
test_bytes_of_another_guid_change_nothing(void **state)
{
    struct world *w = *state;
    AUTO(buf_free) struct buf out = BUF_INIT;
    AUTO(body_free) struct body *b = ts_body(1, 3000);
    struct body_loc loc = {.home = BODY_IN_LOG, .parts = 1, .size = 3000};
    struct span stored =
        body_part(b, 0, &loc.encoding, &loc.raw_bytes, &loc.hash);
    struct error err = {0};
    struct mend *mend = NULL;

    flip(w, &w->small, 0, 5);
    assert_int_equal(read_all(w, &w->small, &out), ERR_CORRUPT);
    assert_int_equal(put_back(w, &w->small, 9, 3000), ERR_CORRUPT);
    assert_int_equal(count(w), 1);
    assert_int_equal(place(w, &w->small, 0).home, BODY_IN_LOG);

    assert_int_equal(mend_open(w->ts.store, &w->small, &mend, &err), ERR_OK);
    assert_int_equal(mend_finish(mend, &err), ERR_PROTO); /* no part came */
    loc.stored_bytes = (uint32_t)stored.n;
    loc.hash ^= 1;
    assert_int_equal(mend_put_part(mend, &loc, stored, &err), ERR_CORRUPT);
    loc.hash ^= 1;
    loc.stored_bytes++;
    assert_int_equal(mend_put_part(mend, &loc, stored, &err), ERR_CORRUPT);
    loc.stored_bytes--;
    assert_int_equal(mend_put_part(mend, &loc, stored, &err), ERR_OK);
    assert_int_equal(mend_put_part(mend, &loc, stored, &err), ERR_PROTO);
    mend_close(&mend);
    assert_int_equal(read_all(w, &w->small, &out), ERR_CORRUPT);
}

static void
test_register_outlives_a_restart(void **state)
{
    struct world *w = *state;
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct error err = {0};
    struct damage log = {.kind = DAMAGE_LOG,
                         .file = 3,
                         .offset = 4096,
                         .why = "a frame is damaged"};
    struct damage d;

    flip(w, &w->small, 0, 9);
    assert_int_equal(read_all(w, &w->small, &out), ERR_CORRUPT);
    store_damage_note(w->ts.store, &log);
    assert_true(store_damage_next(w->ts.store, 0, &d));
    assert_int_equal(d.kind, DAMAGE_BODY);
    store_damage_failed(w->ts.store, &d, true, "the twin has it not");
    flip(w, &w->small, 0, 9); /* or the log would not open */
    ts_close(&w->ts);
    assert_int_equal(ts_open(&w->ts, &err), ERR_OK);

    struct damage_view view;
    store_damage_view(w->ts.store, &view);
    assert_int_equal(view.count, 2);
    assert_int_equal(view.lost, 1);
    assert_int_not_equal(view.oldest_us, 0);
    assert_true(store_damage_next(w->ts.store, 0, &d));
    assert_int_equal(d.kind, DAMAGE_LOG);
    assert_int_equal(d.file, 3);
    assert_int_equal(d.offset, 4096);
    assert_string_equal(d.why, "a frame is damaged");
    assert_false(store_damage_next(w->ts.store, 0, &d)); /* lost: not yet */
    env_sim_advance_us(w->ts.sim, UINT64_C(601000000));
    assert_true(store_damage_next(w->ts.store, 0, &d));
    store_damage_heal(w->ts.store, &log, "it was fetched");
    ts_close(&w->ts);
    assert_int_equal(ts_open(&w->ts, &err), ERR_OK);
    assert_int_equal(count(w), 1);
}

static void
test_nobody_waits_where_nobody_repairs(void **state)
{
    struct world *w = *state;
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct damage d;

    assert_true(store_damage_wait(w->ts.store, &w->small, 60000));
    flip(w, &w->small, 0, 9);
    assert_int_equal(read_all(w, &w->small, &out), ERR_CORRUPT);
    assert_false(store_damage_wait(w->ts.store, &w->small, 60000));
    store_damage_attend(w->ts.store, 1);
    assert_false(store_damage_wait(w->ts.store, &w->small, 1));
    assert_true(store_damage_next(w->ts.store, 0, &d));
    store_damage_failed(w->ts.store, &d, true, "the twin has it not");
    assert_false(store_damage_wait(w->ts.store, &w->small, 60000));
    store_damage_attend(w->ts.store, -1);
}

static bool
count_names(void *ctx, const char *mailbox, uint32_t uid)
{
    assert_string_equal(mailbox, "user.ann");
    assert_int_equal(uid, 1);
    ++*(unsigned *)ctx;
    return true;
}

static void
test_messages_of_a_damaged_body_are_named(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    unsigned n = 0;

    assert_int_equal(
        store_damage_messages(w->ts.store, &w->small, count_names, &n, &err),
        ERR_OK);
    assert_int_equal(n, 1);
}

static void
test_missing_body_is_damage_only_where_a_message_has_it(void **state)
{
    struct world *w = *state;
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct guid nobodys = {{1, 2, 3}};
    struct kv_batch *b = kv_batch_new();
    struct error err = {0};
    struct key k;

    assert_int_equal(read_all(w, &nobodys, &out), ERR_NOTFOUND);
    assert_int_equal(count(w), 0);
    kv_batch_delete(b, KV_STATE, key_body(&k, &w->small, 0));
    assert_int_equal(kv_write(w->ts.kv, b, &err), ERR_OK);
    kv_batch_free(&b);
    assert_int_equal(read_all(w, &w->small, &out), ERR_NOTFOUND);
    assert_int_equal(count(w), 1);
    assert_int_equal(put_back(w, &w->small, 1, 3000), ERR_OK);
    assert_int_equal(read_all(w, &w->small, &out), ERR_OK);
}

/* Golden bytes, each cut, and what a row must not say. */
static void
test_row_has_these_bytes(void **state)
{
    static const uint8_t golden[] = {1, 2, 1, 5, 7,   0x80, 0x20,
                                     9, 8, 3, 2, 'n', 'o'};
    struct damage d = {.kind = DAMAGE_BODY,
                       .guid = {{0xaa}},
                       .part = 5,
                       .home = BODY_IN_PACK,
                       .file = 7,
                       .offset = 4096,
                       .found_us = 9,
                       .tried_us = 8,
                       .tries = 3,
                       .lost = true,
                       .why = "no"};
    uint8_t key[3 + GUID_BYTES] = {'L', 'D', DAMAGE_BODY, 0xaa};
    struct span whole_key = span_of(key, sizeof(key));
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct damage got;

    (void)state;
    damage_encode(&d, &out);
    assert_int_equal(out.n, sizeof(golden));
    assert_memory_equal(out.p, golden, sizeof(golden));
    assert_int_equal(damage_decode(whole_key, buf_span(&out), &got, NULL),
                     ERR_OK);
    assert_memory_equal(&got.guid, &d.guid, GUID_BYTES);
    assert_int_equal(got.offset, 4096);
    assert_true(got.lost);
    assert_string_equal(got.why, "no");
    for (size_t n = 0; n < sizeof(golden); n++)
        assert_int_equal(
            damage_decode(whole_key, span_of(golden, n), &got, NULL),
            ERR_CORRUPT);
    for (size_t n = 2; n < sizeof(key); n++)
        assert_int_equal(
            damage_decode(span_of(key, n), buf_span(&out), &got, NULL),
            ERR_CORRUPT);
    out.p[0] = 2; /* another version */
    assert_int_equal(damage_decode(whole_key, buf_span(&out), &got, NULL),
                     ERR_CORRUPT);
}

int
main(void)
{
#define WITH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH(test_damaged_body_is_noted_once_and_healed_by_its_bytes),
        WITH(test_damage_in_any_part_is_found),
        WITH(test_bytes_of_another_guid_change_nothing),
        WITH(test_register_outlives_a_restart),
        WITH(test_nobody_waits_where_nobody_repairs),
        WITH(test_messages_of_a_damaged_body_are_named),
        WITH(test_missing_body_is_damage_only_where_a_message_has_it),
        cmocka_unit_test(test_row_has_these_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
