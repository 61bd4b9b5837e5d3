/*
 * Bodies go where their messages want them: the partition of the mailbox, its
 * archive when they are old or large, back again when they are not; what is
 * flagged, shared, or without an archive stays.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/body_private.h"
#include "store/store_private.h"
#include "tests/lib/compacttest.h"

#define DAY_S 86400
#define NOW_S (INT64_C(1000) * DAY_S)
#define BODY 20000U

static const struct store_partition partitions[] = {
    {"default", "/p/default", NULL},
    {"ssd", "/p/ssd", "/p/archive"},
};

struct fixture {
    struct teststore ts;
    mbid_t ssd, plain; /* mailboxes */
    uint32_t dir_default, dir_ssd, dir_archive;
    unsigned slices;
};

static mbid_t
create(struct teststore *ts, const char *name, const char *partition)
{
    struct store_txn *txn = txn_new();
    struct error err = {0};

    (void)txn_create(
        txn, &(struct txn_mailbox){.name = name, .partition = partition});
    assert_int_equal(store_commit(ts->store, txn, &err), ERR_OK);
    const mbid_t id = txn_result(txn, 0)->id;
    txn_free(&txn);
    return id;
}

/* A message that is so many days old at NOW_S; its UID. */
static uint32_t
add(struct fixture *f, mbid_t id, uint64_t seed, size_t bytes, int days,
    uint32_t flags)
{
    struct store_txn *txn = txn_new();
    struct body *b = ts_body(seed, bytes);

    (void)txn_append(
        txn, &(struct txn_append){.id = id,
                                  .body = b,
                                  .flags = flags,
                                  .internal_s = NOW_S - (int64_t)days * DAY_S});
    body_free(&b);
    assert_int_equal(ts_commit(&f->ts, &txn), ERR_OK);
    struct arena a = ARENA_INIT;
    const uint32_t uid = ts_mailbox(&f->ts, id, &a).uidnext - 1;
    arena_free(&a);
    return uid;
}

static void
open_with(struct fixture *f, bool archive)
{
    struct error err = {0};

    ts_close(&f->ts);
    f->ts.cfg.compaction.archive = archive;
    f->ts.cfg.compaction.archive_maxsize = BODY;
    f->ts.cfg.compaction.archive_keepflagged = true;
    assert_int_equal(ts_open(&f->ts, &err), ERR_OK);
    store_set_role(f->ts.store, ROLE_MASTER, 1);
}

static int
setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    struct teststore *ts = &f->ts;

    ct_new_master(ts, 1, 1U << 18, 1U << 17);
    /* Anew over the partitions; nothing lies in packs yet. */
    ts->cfg.partitions = partitions;
    ts->cfg.npartitions = 2;
    ts->cfg.default_partition = "default";
    open_with(f, false);
    f->ssd = create(ts, "user.ann", "ssd");
    f->plain = create(ts, "user.bob", "default");
    struct places *places = bodies_places(store_bodies(ts->store));
    f->dir_default = places_dir(places, "default", PLACE_SPOOL);
    f->dir_ssd = places_dir(places, "ssd", PLACE_SPOOL);
    f->dir_archive = places_dir(places, "ssd", PLACE_ARCHIVE);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    ts_free(&f->ts);
    free(f);
    return 0;
}

/* Push what is there out of the log. */
static void
compact(struct fixture *f)
{
    struct error err = {0};

    for (unsigned i = 0; i < 40; i++)
        (void)add(f, f->plain, 9000 + i, BODY, 0, 0);
    enum errcode rc = ct_compact(&f->ts, &err);
    if (rc != ERR_OK)
        fail_msg("%s", err.text);
}

static void
assert_in(struct fixture *f, mbid_t id, uint32_t uid, uint32_t dir)
{
    const struct body_loc loc = ct_place(&f->ts, id, uid);

    assert_int_equal(loc.home, BODY_IN_PACK);
    assert_int_equal(loc.dir, dir);
}

static bool
count_slices(void *ctx, const struct archive_result *so_far)
{
    (void)so_far;
    ((struct fixture *)ctx)->slices++;
    return true;
}

static struct archive_result
archive(struct fixture *f, const struct archive_rule *rule, const char *prefix)
{
    struct archive_result r;
    struct error err = {0};

    assert_int_equal(store_archive(f->ts.store, rule, NOW_S, prefix,
                                   count_slices, f, &r, &err),
                     ERR_OK);
    return r;
}

static void
test_bodies_go_to_the_partition_of_their_mailbox(void **state)
{
    struct fixture *f = *state;

    const uint32_t a = add(f, f->ssd, 1, BODY, 0, 0);
    const uint32_t b = add(f, f->plain, 2, BODY, 0, 0);
    /* Shared: that of the mailbox that was there first. */
    const uint32_t c = add(f, f->plain, 1, BODY, 0, 0);
    compact(f);
    assert_in(f, f->ssd, a, f->dir_ssd);
    assert_in(f, f->plain, b, f->dir_default);
    assert_in(f, f->plain, c, f->dir_ssd);
}

static void
test_new_mail_that_is_too_large_goes_to_the_archive(void **state)
{
    struct fixture *f = *state;

    open_with(f, true);
    const uint32_t small = add(f, f->ssd, 1, BODY, 900, 0);
    const uint32_t large = add(f, f->ssd, 2, BODY + 1, 0, 0);
    const uint32_t kept = add(f, f->ssd, 3, BODY + 1, 0, FLAG_FLAGGED);
    const uint32_t none = add(f, f->plain, 4, BODY + 1, 0, 0);
    compact(f);
    assert_in(f, f->ssd, small, f->dir_ssd);
    assert_in(f, f->ssd, large, f->dir_archive);
    assert_in(f, f->ssd, kept, f->dir_ssd);
    assert_in(f, f->plain, none, f->dir_default);
}

static void
test_archive_moves_what_is_old_and_back_what_is_not(void **state)
{
    struct fixture *f = *state;
    const struct archive_rule week = {.older_s = 7 * DAY_S,
                                      .keep_flagged = true};
    const struct archive_rule year = {.older_s = 365 * DAY_S};

    const uint32_t young = add(f, f->ssd, 1, BODY, 6, 0);
    const uint32_t old = add(f, f->ssd, 2, BODY, 8, 0);
    const uint32_t flagged = add(f, f->ssd, 3, BODY, 8, FLAG_FLAGGED);
    const uint32_t none = add(f, f->plain, 4, BODY, 8, 0);
    const uint32_t shared = add(f, f->ssd, 5, BODY, 8, 0);
    const uint32_t other = add(f, f->ssd, 5, BODY, 1, 0);
    compact(f);
    const uint64_t digest = store_pos(f->ts.store).digest;
    struct archive_result r = archive(f, &week, "");
    assert_int_equal(r.moved > 0, true);
    assert_in(f, f->ssd, young, f->dir_ssd);
    assert_in(f, f->ssd, old, f->dir_archive);
    assert_in(f, f->ssd, flagged, f->dir_ssd);
    assert_in(f, f->plain, none, f->dir_default);
    assert_in(f, f->ssd, shared, f->dir_ssd);
    assert_in(f, f->ssd, other, f->dir_ssd);
    assert_int_equal(store_pos(f->ts.store).digest, digest);
    /* Again: nothing is left to do. */
    r = archive(f, &week, "");
    assert_int_equal(r.moved, 0);
    /* Only below the prefix; then back. */
    r = archive(f, &year, "user.bob");
    assert_int_equal(r.moved, 0);
    r = archive(f, &year, "user.ann");
    assert_int_equal(r.moved, 1);
    assert_in(f, f->ssd, old, f->dir_ssd);
    ts_verify(&f->ts);
}

static void
test_rewriting_leaves_the_archive_archived(void **state)
{
    struct fixture *f = *state;
    const struct archive_rule week = {.older_s = 7 * DAY_S};
    struct error err = {0};

    for (unsigned i = 0; i < 30; i++)
        (void)add(f, f->ssd, 1 + i, BODY, 30, 0);
    (void)archive(f, &week, "");
    assert_in(f, f->ssd, 30, f->dir_archive);
    ct_purge(&f->ts, f->ssd, 1, 25);
    assert_int_equal(ct_compact(&f->ts, &err), ERR_OK);
    open_with(f, false);
    assert_int_equal(ct_compact(&f->ts, &err), ERR_OK);
    for (uint32_t uid = 26; uid <= 30; uid++)
        assert_in(f, f->ssd, uid, f->dir_archive);
    assert_true(ct_dir_bytes(&f->ts, "/p/archive", "pack-") < 20 * BODY / 2);
    assert_int_equal(ct_read_all(&f->ts, f->ssd, BODY, NULL), 5);
}

static bool
stop(void *ctx, const struct archive_result *so_far)
{
    (void)ctx;
    (void)so_far;
    return false;
}

static void
test_archive_can_be_stopped(void **state)
{
    struct fixture *f = *state;
    const struct archive_rule week = {.older_s = 7 * DAY_S};
    struct archive_result r;
    struct error err = {0};

    (void)add(f, f->ssd, 1, BODY, 30, 0);
    assert_int_equal(
        store_archive(f->ts.store, &week, NOW_S, "", stop, NULL, &r, &err),
        ERR_CLOSED);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_bodies_go_to_the_partition_of_their_mailbox),
        T(test_new_mail_that_is_too_large_goes_to_the_archive),
        T(test_archive_moves_what_is_old_and_back_what_is_not),
        T(test_rewriting_leaves_the_archive_archived),
        T(test_archive_can_be_stopped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
