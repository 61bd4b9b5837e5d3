/*
 * tests/store/test_autocreate.c - what a new user gets: INBOX, folders,
 * subscriptions, quota; twice is the same as once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "store/autocreate.h"
#include "tests/lib/storetest.h"

static const struct namespace ns = {.sep = '/',
                                    .user_prefix = "Other Users",
                                    .shared_prefix = "Shared Folders"};

static bool
count_subscription(void *ctx, const char *name, struct span value)
{
    struct buf *b = ctx;

    (void)value;
    buf_addf(b, "%s ", name);
    return true;
}

static void
autocreate(struct teststore *ts, const struct autocreate_options *options,
           const char *user)
{
    struct store_txn *txn = NULL;
    struct error err = {0};

    assert_int_equal(autocreate_txn(options, &ns, user, &txn, &err), ERR_OK);
    assert_int_equal(ts_commit(ts, &txn), ERR_OK);
}

static void
test_all_is_made_once(void **state)
{
    (void)state;
    static const char *const folders[] = {"Sent", "Work/Old", "a//b", "INBOX",
                                          NULL};
    static const char *const subscribe[] = {"Sent", "nothing", NULL};
    const struct autocreate_options options = {.on_login = true,
                                               .quota_bytes = 5000,
                                               .folders = folders,
                                               .subscribe = subscribe,
                                               .partition = "default"};
    struct teststore ts;
    struct arena a = ARENA_INIT;
    struct buf subs = BUF_INIT;
    struct error err = {0};
    struct quota quota;

    ts_new_master(&ts, 1, 0);
    autocreate(&ts, &options, "fred.x");
    mbid_t inbox = ts_lookup(&ts, "user.fred^x");
    assert_true(ts_lookup(&ts, "user.fred^x.Sent") != 0);
    assert_true(ts_lookup(&ts, "user.fred^x.Work.Old") != 0);
    struct mailbox mb = ts_mailbox(&ts, inbox, &a);
    assert_string_equal(mb.quota_root, "user.fred^x");
    autocreate(&ts, &options, "fred.x");
    assert_true(ts_lookup(&ts, "user.fred^x") == inbox);

    struct store_snap *snap = store_snapshot(ts.store);
    assert_int_equal(snap_quota(snap, "user.fred^x", &a, &quota, &err), ERR_OK);
    assert_true(quota.limit[QUOTA_STORAGE] == 5000);
    assert_int_equal(snap_user_each(snap, "fred.x", USER_SUBSCRIPTION,
                                    count_subscription, &subs, &err),
                     ERR_OK);
    assert_string_equal(buf_cstr(&subs), "user.fred^x user.fred^x.Sent ");
    store_release(&snap);
    ts_verify(&ts);
    buf_free(&subs);
    arena_free(&a);
    ts_free(&ts);
}

static void
test_impossible_users_are_refused(void **state)
{
    (void)state;
    const struct autocreate_options options = {.partition = "default"};
    struct store_txn *txn = NULL;
    struct error err = {0};

    assert_int_equal(autocreate_txn(&options, &ns, "", &txn, &err),
                     ERR_BADNAME);
    assert_int_equal(autocreate_txn(&options, &ns, "a\nb", &txn, &err),
                     ERR_BADNAME);
    assert_null(txn);
}

static void
test_options_follow_the_configuration(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool on_login, on_post;
        uint64_t bytes;
    } rows[] = {
        {"", false, false, 0},
        {"autocreate_post: yes\n", false, false, 0},
        {"autocreate_quota: 0\n", true, false, 0},
        {"autocreate_quota: 10\nautocreate_post: yes\n", true, true, 10240}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config *cfg = NULL;
        struct error err = {0};
        struct autocreate_options o;
        assert_int_equal(
            config_parse(span_str(rows[i].text), "test", &cfg, &err), ERR_OK);
        autocreate_options_from_config(cfg, &o);
        assert_true(o.on_login == rows[i].on_login &&
                    o.on_post == rows[i].on_post &&
                    o.quota_bytes == rows[i].bytes);
        config_free(&cfg);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_is_made_once),
        cmocka_unit_test(test_impossible_users_are_refused),
        cmocka_unit_test(test_options_follow_the_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
