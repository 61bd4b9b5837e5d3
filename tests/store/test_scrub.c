/*
 * The scrubber: a round reads every body, every frame of the log and every row;
 * what is damaged is in the register afterwards, and only that; it goes on
 * after a restart where it was, and rests until the next round is due.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>

#include "store/body_private.h"
#include "store/damage.h"
#include "store/rows.h"
#include "store/scrub.h"
#include "store/store_private.h"
#include "tests/lib/storetest.h"

#define MESSAGES 30U
#define DAY_US (UINT64_C(86400) * 1000000)

static const struct scrub_options options = {.rate = 1000,
                                             .interval_us = 7 * DAY_US};

struct world {
    struct teststore ts;
    mbid_t id;
};

static int
setup(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    enum errcode rc;

    ts_new_master(&w->ts, 11, 0);
    w->id = ts_create(&w->ts, "user.ann");
    for (unsigned i = 1; i <= MESSAGES; i++)
        assert_int_equal(ts_append(&w->ts, w->id, i,
                                   i == 7 ? BODY_PART_BYTES + 70000 : 2000 + i,
                                   &rc),
                         i);
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

/* Steps of about BYTES until nothing is due; how many. */
static unsigned
scrub_all(struct scrub *s, uint64_t bytes)
{
    unsigned n = 0;

    for (uint64_t got = 1; got > 0; n++) {
        struct error err = {0};
        struct scrub_view v;
        enum errcode rc = scrub_step(s, bytes, &got, &err);
        if (rc != ERR_OK)
            fail_msg("%s", err.text);
        scrub_look(s, &v);
        assert_true(v.per_mille <= 1000);
        if (got == 0 && v.phase != SCRUB_RESTING)
            got = 1; /* between two phases */
        assert_true(n < 10000);
    }
    return n;
}

static struct body_loc
place(struct world *w, uint32_t uid, uint32_t part)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct arena a = ARENA_INIT;
    struct message m = ts_message(&w->ts, w->id, uid, &a);
    struct body_loc loc;
    struct key k;

    assert_int_equal(kv_get(w->ts.kv, NULL, KV_STATE,
                            key_body(&k, &m.guid, part), &value, NULL),
                     ERR_OK);
    assert_int_equal(body_loc_decode(buf_span(&value), &loc, NULL), ERR_OK);
    arena_free(&a);
    return loc;
}

static void
flip(struct world *w, uint64_t segment, uint64_t offset)
{
    AUTO(xfree)
    char *path = xasprintf("/be/synclog/seg-%016" PRIx64 ".plx", segment);

    assert_true(env_sim_flip_bit(w->ts.sim, path, offset, 5));
}

static uint64_t
count(struct world *w)
{
    struct damage_view view;

    store_damage_view(w->ts.store, &view);
    return view.count;
}

static void
test_round_over_what_is_whole_finds_nothing(void **state)
{
    struct world *w = *state;
    struct scrub *s = scrub_new(w->ts.store, &options);
    struct scrub_view v;

    assert_true(scrub_all(s, 4000) > 8);
    scrub_look(s, &v);
    assert_int_equal(v.phase, SCRUB_RESTING);
    assert_int_equal(v.bodies, MESSAGES);
    assert_true(v.bytes > BODY_PART_BYTES / 2);
    assert_true(v.ended_us >= v.began_us && v.began_us > 0);
    assert_int_equal(count(w), 0);
    /* The next round is due in a week. */
    assert_int_equal(scrub_all(s, 4000), 1);
    env_sim_advance_us(w->ts.sim, 7 * DAY_US + 1);
    assert_true(scrub_all(s, 4000) > 8);
    scrub_stop(&s);
}

static bool
count_kinds(void *ctx, const struct damage *d)
{
    ((unsigned *)ctx)[d->kind]++;
    return true;
}

static void
test_damaged_bodies_and_frames_are_found(void **state)
{
    struct world *w = *state;
    struct scrub *s = scrub_new(w->ts.store, &options);
    struct body_loc small = place(w, 3, 0);
    struct body_loc large = place(w, 7, 1);
    unsigned kinds[4] = {0};

    flip(w, small.file, small.offset + 10);
    flip(w, large.file, large.offset + large.stored_bytes - 1);
    (void)scrub_all(s, 100000);
    store_damage_each(w->ts.store, count_kinds, kinds);
    assert_int_equal(kinds[DAMAGE_BODY], 2);
    /* The frame of the first of them; what lies behind it in the segment waits
     * for its mending. */
    assert_int_equal(kinds[DAMAGE_LOG], 1);
    scrub_stop(&s);
}

static bool
is_log(void *ctx, const struct damage *d)
{
    *(struct damage *)ctx = *d;
    return d->kind != DAMAGE_LOG;
}

static void
test_damaged_frame_names_segment_and_offset(void **state)
{
    struct world *w = *state;
    struct scrub *s = scrub_new(w->ts.store, &options);
    struct damage d = {0};

    /* The first frame: its commit time. */
    flip(w, 1, SEGMENT_HEADER_BYTES + 57);
    (void)scrub_all(s, 100000);
    assert_int_equal(count(w), 1);
    store_damage_each(w->ts.store, is_log, &d);
    assert_int_equal(d.kind, DAMAGE_LOG);
    assert_int_equal(d.file, 1);
    assert_int_equal(d.offset, SEGMENT_HEADER_BYTES);
    scrub_stop(&s);
}

static bool
collect_log(void *ctx, const struct damage *d)
{
    uint64_t *at = ctx;

    if (d->kind == DAMAGE_LOG && d->file < 4)
        at[d->file] = d->offset + 1;
    return true;
}

static void
test_damage_in_one_segment_does_not_hide_that_in_others(void **state)
{
    struct world *w = *state;
    struct scrub *s = scrub_new(w->ts.store, &options);
    uint64_t at[4] = {0};
    enum errcode rc;

    for (unsigned i = MESSAGES + 1; i <= MESSAGES + 60; i++) {
        struct synclog_segment *v = NULL;
        size_t n = synclog_segments(store_log(w->ts.store), &v);
        free(v);
        if (n >= 4)
            break;
        assert_int_equal(ts_append(&w->ts, w->id, i, BODY_PART_BYTES - 9, &rc),
                         i);
    }
    flip(w, 1, SEGMENT_HEADER_BYTES + 57);
    flip(w, 2, 30); /* its header */
    flip(w, 3, SEGMENT_HEADER_BYTES + 57);
    (void)scrub_all(s, 1000000);
    store_damage_each(w->ts.store, collect_log, at);
    assert_int_equal(at[1], SEGMENT_HEADER_BYTES + 1);
    assert_int_equal(at[2], 1);
    assert_int_equal(at[3], SEGMENT_HEADER_BYTES + 1);
    scrub_stop(&s);
}

static void
test_first_block_of_a_pack_is_written_anew(void **state)
{
    struct world *w = *state;
    struct scrub *s = scrub_new(w->ts.store, &options);
    struct places *places = bodies_places(store_bodies(w->ts.store));
    struct packs *packs = places_packs(places, places_default(places));
    const struct guid guid = {{7}};
    struct body_loc loc = {.encoding = 0,
                           .parts = 1,
                           .size = 5,
                           .raw_bytes = 5,
                           .stored_bytes = 5};
    struct damage_view view;
    struct error err = {0};
    const char *name;
    const char *path = NULL;
    enum place_kind kind;
    uint32_t dir;

    assert_int_equal(packs_append(packs, &guid, &loc, SPAN_LIT("hello"), &err),
                     ERR_OK);
    assert_int_equal(packs_sync(packs, &err), ERR_OK);
    for (size_t i = 0; places_each(places, i, &dir, &kind, &name, &path); i++)
        if (dir == loc.dir)
            break;
    AUTO(xfree)
    char *file = xasprintf("%s/pack-%016" PRIx64 ".plx", path, loc.file);
    assert_int_equal(packs_check_head(packs, loc.file, &err), ERR_OK);
    assert_true(env_sim_flip_bit(w->ts.sim, file, 33, 5));
    assert_int_equal(packs_check_head(packs, loc.file, &err), ERR_CORRUPT);
    (void)scrub_all(s, 1000000);
    store_damage_view(w->ts.store, &view);
    assert_int_equal(view.count, 0);
    assert_int_equal(view.healed, 1);
    assert_int_equal(packs_check_head(packs, loc.file, &err), ERR_OK);
    assert_int_equal(packs_check_head(packs, loc.file + 9, &err), ERR_NOTFOUND);
    assert_int_equal(packs_mend_head(packs, loc.file + 9, &err), ERR_NOTFOUND);
    scrub_stop(&s);
}

static void
test_restart_goes_on_where_it_was(void **state)
{
    struct world *w = *state;
    struct scrub *s = scrub_new(w->ts.store, &options);
    struct error err = {0};
    struct scrub_view v;
    uint64_t got;

    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(scrub_step(s, 4000, &got, &err), ERR_OK);
    scrub_look(s, &v);
    assert_int_equal(v.phase, SCRUB_BODIES);
    const uint64_t bodies = v.bodies;
    assert_true(bodies >= 5 && bodies < MESSAGES);
    scrub_save(s);
    scrub_stop(&s);
    ts_close(&w->ts);
    assert_int_equal(ts_open(&w->ts, &err), ERR_OK);
    store_set_role(w->ts.store, ROLE_MASTER, 1);

    s = scrub_new(w->ts.store, &options);
    scrub_look(s, &v);
    assert_int_equal(v.phase, SCRUB_BODIES);
    assert_int_equal(v.bodies, bodies);
    (void)scrub_all(s, 4000);
    scrub_look(s, &v);
    assert_int_equal(v.bodies, MESSAGES); /* each once */
    scrub_stop(&s);
}

static void
test_rate_of_nothing_reads_nothing(void **state)
{
    struct world *w = *state;
    const struct scrub_options none = {.interval_us = 1};
    struct scrub *s = scrub_new(w->ts.store, &none);
    struct error err = {0};
    uint64_t got = 1;

    assert_int_equal(scrub_step(s, 4000, &got, &err), ERR_OK);
    assert_int_equal(got, 0);
    scrub_stop(&s);
}

int
main(void)
{
#define WITH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH(test_round_over_what_is_whole_finds_nothing),
        WITH(test_damaged_bodies_and_frames_are_found),
        WITH(test_damaged_frame_names_segment_and_offset),
        WITH(test_damage_in_one_segment_does_not_hide_that_in_others),
        WITH(test_first_block_of_a_pack_is_written_anew),
        WITH(test_restart_goes_on_where_it_was),
        WITH(test_rate_of_nothing_reads_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
