/*
 * The directories of packs: numbers that stay, accounts of what is alive, what
 * a crash left, and the starts that are refused because going on would lose
 * bodies.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/env_sim.h"
#include "store/local.h"
#include "store/places.h"

static const struct instid cluster = {{7}};
static const struct store_partition both[] = {
    {"default", "/p/default", NULL},
    {"ssd", "/p/ssd", "/p/archive"},
};
static const struct store_partition turned[] = {
    {"ssd", "/q/ssd", "/p/archive"},
    {"new", "/p/new", NULL},
    {"default", "/p/default", NULL},
};

struct fixture {
    struct env_sim *sim;
    struct kv *kv;
    struct places *places;
    struct error err;
};

static enum errcode
open_them(struct fixture *f, const struct store_partition *v, size_t n,
          const char *def)
{
    places_close(&f->places);
    return places_open(env_sim_env(f->sim), f->kv, v, n, def, &cluster, 0,
                       &f->places, &f->err);
}

/* It is not a new state. */
static void
put_schema(struct fixture *f)
{
    struct kv_batch *b = kv_batch_new();
    struct key k;

    kv_batch_put(b, KV_STATE, key_local(&k, LOCAL_SCHEMA), SPAN_LIT("1234"));
    assert_int_equal(kv_write(f->kv, b, &f->err), ERR_OK);
    kv_batch_free(&b);
}

static int
setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));

    f->sim = env_sim_new(NULL);
    f->kv = kv_open_mem();
    assert_int_equal(open_them(f, both, 2, "default"), ERR_OK);
    put_schema(f);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    places_close(&f->places);
    kv_close(&f->kv);
    env_sim_free(&f->sim);
    free(f);
    return 0;
}

/* A body of 100 bytes into a new pack of DIR. */
static struct body_loc
append(struct fixture *f, uint32_t dir)
{
    uint8_t bytes[100] = {0};
    const struct guid guid = {{1}};
    struct body_loc loc = {.encoding = BODY_RAW,
                           .stored_bytes = sizeof(bytes),
                           .raw_bytes = sizeof(bytes),
                           .parts = 1,
                           .size = sizeof(bytes)};

    assert_int_equal(packs_append(places_packs(f->places, dir), &guid, &loc,
                                  span_of(bytes, sizeof(bytes)), &f->err),
                     ERR_OK);
    assert_int_equal(places_sync(f->places, &f->err), ERR_OK);
    return loc;
}

static enum errcode
move(struct fixture *f, const struct body_loc *loc, bool is_going)
{
    struct kv_batch *b = kv_batch_new();
    enum errcode rc = pack_account_move(f->kv, b, loc, is_going, &f->err);

    if (rc == ERR_OK)
        rc = kv_write(f->kv, b, &f->err);
    kv_batch_free(&b);
    return rc;
}

static bool
is_there(struct fixture *f, const char *dir, uint64_t pack)
{
    char *path = xasprintf("%s/pack-%016" PRIx64 ".plx", dir, pack);
    const bool there = env_exists(env_sim_env(f->sim), path);

    free(path);
    return there;
}

static void
test_numbers_stay_whatever_the_order(void **state)
{
    struct fixture *f = *state;
    const uint32_t def = places_dir(f->places, "default", PLACE_SPOOL);
    const uint32_t ssd = places_dir(f->places, "ssd", PLACE_SPOOL);
    const uint32_t archive = places_dir(f->places, "ssd", PLACE_ARCHIVE);

    assert_int_equal(places_default(f->places), def);
    assert_true(def != ssd && ssd != archive && def != archive);
    assert_int_equal(places_dir(f->places, "default", PLACE_ARCHIVE), 0);
    /* What a twin calls so, and is not here. */
    assert_int_equal(places_dir(f->places, "tape", PLACE_SPOOL), def);
    assert_int_equal(places_dir(f->places, "tape", PLACE_ARCHIVE), 0);

    assert_int_equal(open_them(f, turned, 3, "ssd"), ERR_OK);
    assert_int_equal(places_dir(f->places, "default", PLACE_SPOOL), def);
    assert_int_equal(places_dir(f->places, "ssd", PLACE_SPOOL), ssd);
    assert_int_equal(places_dir(f->places, "ssd", PLACE_ARCHIVE), archive);
    assert_int_equal(places_dir(f->places, "tape", PLACE_ARCHIVE), archive);
    assert_int_equal(places_dir(f->places, "new", PLACE_SPOOL), 4);
    assert_null(places_packs(f->places, 5));
}

static void
test_partition_with_bodies_may_not_vanish(void **state)
{
    struct fixture *f = *state;
    const struct body_loc loc = append(f, places_dir(f->places, "ssd", 's'));

    assert_int_equal(open_them(f, both, 1, "default"), ERR_OK);
    assert_int_equal(open_them(f, both, 2, "default"), ERR_OK);
    assert_int_equal(move(f, &loc, false), ERR_OK);
    assert_int_equal(open_them(f, both, 1, "default"), ERR_CONFLICT);
    assert_non_null(strstr(f->err.text, "partition-ssd"));
    /* It has moved: fine with its packs, refused without. */
    assert_int_equal(open_them(f, turned, 3, "ssd"), ERR_CONFLICT);
    assert_non_null(strstr(f->err.text, "is it mounted?"));
    assert_int_equal(open_them(f, both, 2, "default"), ERR_OK);
    assert_int_equal(open_them(f, both, 2, "tape"), ERR_CONFLICT);
}

static void
test_two_partitions_in_one_directory_are_refused(void **state)
{
    struct fixture *f = *state;
    static const struct store_partition same[] = {
        {"default", "/p/default", NULL}, {"ssd", "/p/ssd", "/p/default"}};

    assert_int_equal(open_them(f, same, 2, "default"), ERR_CONFLICT);
}

static void
test_packs_that_an_empty_state_does_not_know_are_left_alone(void **state)
{
    struct fixture *f = *state;
    const struct body_loc loc = append(f, 1);

    places_close(&f->places);
    kv_close(&f->kv);
    f->kv = kv_open_mem();
    assert_int_equal(open_them(f, both, 2, "default"), ERR_CONFLICT);
    assert_true(is_there(f, "/p/default", loc.file));
    const struct store_config cfg = {.partitions = both, .npartitions = 2};
    assert_int_equal(
        store_set_packs_aside(env_sim_env(f->sim), &cfg, "old-1", &f->err),
        ERR_OK);
    assert_true(is_there(f, "/p/default/old-1", loc.file));
    assert_int_equal(open_them(f, both, 2, "default"), ERR_OK);
}

static void
test_cleaning_removes_what_no_row_names(void **state)
{
    struct fixture *f = *state;
    unsigned removed = 0;
    const struct body_loc kept = append(f, 1);

    assert_int_equal(move(f, &kept, false), ERR_OK);
    assert_int_equal(open_them(f, both, 2, "default"), ERR_OK);
    const struct body_loc left = append(f, 1);
    const struct body_loc other = append(f, 3);
    assert_int_equal(open_them(f, both, 2, "default"), ERR_OK);
    assert_int_equal(places_clean(f->places, &removed, &f->err), ERR_OK);
    assert_int_equal(removed, 2);
    assert_true(is_there(f, "/p/default", kept.file));
    assert_false(is_there(f, "/p/default", left.file));
    assert_false(is_there(f, "/p/archive", other.file));
}

static bool
keep_account(void *ctx, uint32_t dir, uint64_t pack,
             const struct pack_account *a)
{
    (void)dir;
    (void)pack;
    *(struct pack_account *)ctx = *a;
    return true;
}

static void
test_accounts_follow_the_rows(void **state)
{
    struct fixture *f = *state;
    const struct body_loc loc = append(f, 1);
    struct pack_account a = {0};
    AUTO(buf_free) struct buf out = BUF_INIT;

    assert_int_equal(move(f, &loc, false), ERR_OK);
    assert_int_equal(move(f, &loc, false), ERR_OK);
    assert_int_equal(move(f, &loc, true), ERR_OK);
    assert_int_equal(pack_account_each(f->kv, NULL, keep_account, &a, &f->err),
                     ERR_OK);
    assert_int_equal(a.live, 168);
    assert_int_equal(a.total, 336);
    pack_account_encode(&a, &out);
    assert_memory_equal(out.p, "\xa8\x01\xd0\x02\x00", 5);
    assert_int_equal(out.n, 5);
    for (size_t cut = 0; cut < out.n; cut++)
        assert_int_equal(pack_account_decode(span_of(out.p, cut), &a, &f->err),
                         ERR_CORRUPT);
    out.p[4] = 2;
    assert_int_equal(pack_account_decode(buf_span(&out), &a, &f->err),
                     ERR_CORRUPT);
    /* A condemned one takes nothing more. */
    out.p[4] = 1;
    struct kv_batch *b = kv_batch_new();
    struct key k;
    kv_batch_put(b, KV_STATE, key_local_pack(&k, loc.dir, loc.file),
                 buf_span(&out));
    assert_int_equal(kv_write(f->kv, b, &f->err), ERR_OK);
    kv_batch_free(&b);
    assert_int_equal(move(f, &loc, false), ERR_AGAIN);
    assert_int_equal(move(f, &loc, true), ERR_OK);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_numbers_stay_whatever_the_order),
        T(test_partition_with_bodies_may_not_vanish),
        T(test_two_partitions_in_one_directory_are_refused),
        T(test_packs_that_an_empty_state_does_not_know_are_left_alone),
        T(test_cleaning_removes_what_no_row_names),
        T(test_accounts_follow_the_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
