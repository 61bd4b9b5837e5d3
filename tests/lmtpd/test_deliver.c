/*
 * tests/lmtpd/test_deliver.c - sessions on a real store, on a machine in
 * memory: who gets what, what a retry and a full disk do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/log.h"
#include "lmtpd/deliver.h"
#include "mime/message.h"
#include "store/autocreate.h"
#include "store/body.h"
#include "tests/lib/storetest.h"
#include "tests/lmtpd/lmtptest.h"

struct world {
    struct teststore ts;
    struct lt t;
    struct lmtp_store to; /* ctx of the backend */
    struct autocreate_options autocreate;
    struct arena a;
};

static bool
step(void *ctx)
{
    return store_step(((struct lmtp_store *)ctx)->store);
}

/* A new session on the store. */
static void
connect_to(struct world *w)
{
    struct lmtpd_options opt;

    lt_options(&w->t);
    w->t.opt.autocreate = &w->autocreate;
    opt = w->t.opt;
    opt.env = env_fault_env(w->ts.fault);
    w->t.opt = opt;
    w->to = (struct lmtp_store){&w->t.opt, w->ts.store};
    w->t.backend = &lmtp_store_backend;
    w->t.backend_ctx = &w->to;
    w->t.step = step;
    lt_start(&w->t, true);
    lt_feed(&w->t, SPAN_LIT("LHLO mta\r\n"), SIZE_MAX);
    buf_clear(&w->t.out);
}

static void
hang_up(struct world *w)
{
    lt_end(&w->t);
}

static void
add_mailbox(struct world *w, const char *name, const char *acl)
{
    struct store_txn *txn = txn_new();

    txn_create(txn, &(struct txn_mailbox){.name = name, .acl = acl});
    assert_int_equal(ts_commit(&w->ts, &txn), ERR_OK);
}

static int
setup(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));

    ts_new_master(&w->ts, 1, 0);
    add_mailbox(w, "user.fred", NULL);
    add_mailbox(w, "user.ann", NULL);
    connect_to(w);
    *state = w;
    return 0;
}

static int
teardown(void **state)
{
    struct world *w = *state;

    hang_up(w);
    ts_verify(&w->ts);
    ts_free(&w->ts);
    arena_free(&w->a);
    free(w);
    return 0;
}

/* Says TEXT and must hear OUT. */
static void
talk(struct world *w, const char *text, const char *out)
{
    lt_feed(&w->t, span_str(text), SIZE_MAX);
    if (!span_eq_str(buf_span(&w->t.out), out))
        fail_msg("said\n%sheard\n%sinstead of\n%s", text, buf_cstr(&w->t.out),
                 out);
    buf_clear(&w->t.out);
}

#define MAIL_OK "250 2.1.0 Ok\r\n"
#define RCPT_OK "250 2.1.5 Ok\r\n"
#define GO "354 End data with <CR><LF>.<CR><LF>\r\n"

/* MESSAGE to RCPT, which must be answered ANSWER after the dot. */
static void
send(struct world *w, const char *rcpt, const char *message, const char *answer)
{
    char *text = xasprintf("MAIL FROM:<m@x>\r\nRCPT TO:%s\r\nDATA\r\n%s.\r\n",
                           rcpt, message);
    char *out = xasprintf(MAIL_OK RCPT_OK GO "%s\r\n", answer);
    talk(w, text, out);
    free(text);
    free(out);
}

static uint32_t
exists(struct world *w, const char *name)
{
    return ts_mailbox(&w->ts, ts_lookup(&w->ts, name), &w->a).exists;
}

static bool
is_there(struct world *w, const char *name)
{
    struct store_snap *snap = store_snapshot(w->ts.store);
    struct mailbox mb;
    struct error err = {0};
    enum errcode rc = snap_mailbox_by_name(snap, name, &w->a, &mb, &err);

    store_release(&snap);
    assert_true(rc == ERR_OK || rc == ERR_NOTFOUND);
    return rc == ERR_OK;
}

#define M1 "Subject: one\r\n\r\nhello\r\n"
#define M2 "Subject: two\r\n\r\nhello\r\n"

/* ---- where it goes ----------------------------------------------------- */

static void
test_message_is_stored_once_for_all_with_its_record(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    AUTO(buf_free) struct buf body = BUF_INIT;
    AUTO(buf_free) struct buf cache = BUF_INIT;
    struct mime_cache c;

    talk(w,
         "MAIL FROM:<m@x>\r\nRCPT TO:<fred@h>\r\nRCPT TO:<ANN>\r\nDATA\r\n" M1
         ".\r\n",
         MAIL_OK RCPT_OK RCPT_OK GO RCPT_OK RCPT_OK);
    struct message fred =
        ts_message(&w->ts, ts_lookup(&w->ts, "user.fred"), 1, &w->a);
    struct message ann =
        ts_message(&w->ts, ts_lookup(&w->ts, "user.ann"), 1, &w->a);
    assert_true(guid_eq(&fred.guid, &ann.guid));
    assert_int_equal(fred.flags, 0);
    assert_int_equal(
        store_body_read(w->ts.store, &fred.guid, 0, UINT64_MAX, &body, &err),
        ERR_OK);
    assert_int_equal(body.n, fred.size);
    assert_true(span_starts(buf_span(&body),
                            SPAN_LIT("Return-Path: <m@x>\r\nReceived: ")));
    assert_true(span_find(buf_span(&body), SPAN_LIT("\r\n" M1)) > 0);

    struct store_snap *snap = store_snapshot(w->ts.store);
    assert_int_equal(
        snap_cache(snap, ts_lookup(&w->ts, "user.fred"), 1, &cache, &err),
        ERR_OK);
    store_release(&snap);
    assert_int_equal(mime_cache_decode(buf_span(&cache), &c, &err), ERR_OK);
    assert_int_equal(c.message_size, fred.size);
    assert_true(span_eq_nocase_str(c.base_subject, "one"));
}

static void
test_detail_goes_to_the_folder_if_anyone_may_post(void **state)
{
    struct world *w = *state;

    add_mailbox(w, "user.fred.Lists", "fred\tlrswipkxtean\tanyone\tp\t");
    add_mailbox(w, "user.fred.Lists.Deep", "anyone\tp\t");
    add_mailbox(w, "user.fred.Own", "fred\tlrswipkxtean\t");
    send(w, "<fred+Lists@h>", M1, "250 2.1.5 Ok");
    assert_int_equal(exists(w, "user.fred.Lists"), 1);
    send(w, "<FRED+Lists/Deep>", M1, "250 2.1.5 Ok");
    assert_int_equal(exists(w, "user.fred.Lists.Deep"), 1);
    assert_int_equal(exists(w, "user.fred"), 0);
    /* No right, no such folder, not one of his, not a name: INBOX. */
    send(w, "<fred+Own>", M1, "250 2.1.5 Ok");
    send(w, "<fred+lists>", M1, "250 2.1.5 Ok");
    send(w, "<\"fred+Other Users/ann\">", M1, "250 2.1.5 Ok");
    send(w, "<fred+//>", M1, "250 2.1.5 Ok");
    send(w, "<fred+>", M1, "250 2.1.5 Ok");
    send(w, "<fred+INBOX>", M1, "250 2.1.5 Ok");
    assert_int_equal(exists(w, "user.fred"), 6);
    assert_int_equal(exists(w, "user.fred.Own"), 0);
    assert_int_equal(exists(w, "user.ann"), 0);
}

static void
test_rights_are_those_of_the_sender_that_the_client_vouches_for(void **state)
{
    struct world *w = *state;

    add_mailbox(w, "user.fred.Own", "fred\tlrswipkxtean\t");
    talk(w,
         "MAIL FROM:<m@x> AUTH=fred\r\nRCPT TO:<fred+Own>\r\nDATA\r\n" M1
         ".\r\n",
         MAIL_OK RCPT_OK GO RCPT_OK);
    assert_int_equal(exists(w, "user.fred.Own"), 1);
    talk(w,
         "MAIL FROM:<m@x> AUTH=ann\r\nRCPT TO:<fred+Own>\r\nDATA\r\n" M1
         ".\r\n",
         MAIL_OK RCPT_OK GO RCPT_OK);
    assert_int_equal(exists(w, "user.fred"), 1);
}

static void
test_shared_folders_take_mail_by_the_right_to_post(void **state)
{
    struct world *w = *state;

    add_mailbox(w, "shared", "anyone\tlr\t");
    add_mailbox(w, "shared.in", "anyone\tp\t");
    send(w, "<+shared/in>", M1, "250 2.1.5 Ok");
    assert_int_equal(exists(w, "shared.in"), 1);
    talk(w,
         "MAIL FROM:<>\r\nRCPT TO:<+shared>\r\nRCPT TO:<+none>\r\n"
         "RCPT TO:<+user/fred>\r\nRCPT TO:<+>\r\n",
         MAIL_OK "550 5.7.1 Posting is not allowed there\r\n"
                 "550 5.1.1 Unknown user\r\n550 5.1.1 Unknown user\r\n"
                 "550 5.1.1 Unknown user\r\n");
    talk(w, "RSET\r\n", "250 2.0.0 Ok\r\n");
    w->t.opt.postuser = "bb";
    send(w, "<bb+shared/in>", M1, "250 2.1.5 Ok");
    assert_int_equal(exists(w, "shared.in"), 2);
}

static void
test_user_names_are_found_as_they_are_written(void **state)
{
    struct world *w = *state;

    add_mailbox(w, "user.john^doe", NULL);
    add_mailbox(w, "user.postmaster", NULL);
    send(w, "<John.Doe@h>", M1, "250 2.1.5 Ok");
    send(w, "<\"john.doe\">", M2, "250 2.1.5 Ok");
    assert_int_equal(exists(w, "user.john^doe"), 2);
    w->t.opt.downcase_rcpt = false;
    send(w, "<PostMaster>", M1, "250 2.1.5 Ok");
    assert_int_equal(exists(w, "user.postmaster"), 1);
    talk(w, "MAIL FROM:<>\r\nRCPT TO:<Fred>\r\nRCPT TO:<nobody>\r\n",
         MAIL_OK "550 5.1.1 Unknown user\r\n550 5.1.1 Unknown user\r\n");
}

/* ---- autocreate -------------------------------------------------------- */

static void
test_new_users_get_inbox_and_folders_when_mail_is_there(void **state)
{
    struct world *w = *state;
    static const char *const folders[] = {"Sent", NULL};

    w->autocreate = (struct autocreate_options){
        .on_post = true, .folders = folders, .partition = "default"};
    talk(w, "MAIL FROM:<>\r\nRCPT TO:<new>\r\nRSET\r\n",
         MAIL_OK RCPT_OK "250 2.0.0 Ok\r\n");
    assert_false(is_there(w, "user.new"));
    talk(w,
         "MAIL FROM:<>\r\nRCPT TO:<new>\r\nRCPT TO:<fred>\r\n"
         "RCPT TO:<newer>\r\nRCPT TO:<new+Sent>\r\nDATA\r\n" M1 ".\r\n",
         MAIL_OK RCPT_OK RCPT_OK RCPT_OK RCPT_OK GO RCPT_OK RCPT_OK RCPT_OK
             RCPT_OK);
    assert_int_equal(exists(w, "user.new"), 2);
    assert_int_equal(exists(w, "user.newer"), 1);
    assert_int_equal(exists(w, "user.fred"), 1);
    assert_true(is_there(w, "user.new.Sent"));
}

static void
test_inbox_that_cannot_be_made_is_a_temporary_failure(void **state)
{
    struct world *w = *state;

    w->autocreate =
        (struct autocreate_options){.on_post = true, .partition = "default"};
    talk(w, "MAIL FROM:<>\r\nRCPT TO:<new>\r\nDATA\r\n", MAIL_OK RCPT_OK GO);
    store_set_role(w->ts.store, ROLE_REPLICA, 1);
    talk(w, M1 ".\r\n", "451 4.3.2 This server is a replica\r\n");
    assert_false(is_there(w, "user.new"));
}

/* ---- once -------------------------------------------------------------- */

static void
test_same_message_again_is_stored_once_also_after_a_crash(void **state)
{
    struct world *w = *state;
    struct error err = {0};

    send(w, "<fred>", M1, "250 2.1.5 Ok");
    send(w, "<Fred@other>", M1, "250 2.1.5 Ok");
    assert_int_equal(exists(w, "user.fred"), 1);
    assert_int_equal(w->t.counters.duplicates, 1);
    hang_up(w);

    ts_crash(&w->ts, 7);
    assert_int_equal(ts_open(&w->ts, &err), ERR_OK);
    store_set_role(w->ts.store, ROLE_MASTER, 1);
    connect_to(w);
    send(w, "<fred>", M1, "250 2.1.5 Ok");
    assert_int_equal(exists(w, "user.fred"), 1);
    /* Another message, recipient or mailbox is not the same. */
    send(w, "<fred>", M2, "250 2.1.5 Ok");
    send(w, "<fred+x>", M1, "250 2.1.5 Ok");
    send(w, "<ann>", M1, "250 2.1.5 Ok");
    assert_int_equal(exists(w, "user.fred"), 3);
    assert_int_equal(exists(w, "user.ann"), 1);
}

static void
test_recipient_given_twice_gets_one_and_two_answers(void **state)
{
    struct world *w = *state;

    talk(w,
         "MAIL FROM:<>\r\nRCPT TO:<fred>\r\nRCPT TO:<ann>\r\n"
         "RCPT TO:<FRED@h>\r\nDATA\r\n" M1 ".\r\n",
         MAIL_OK RCPT_OK RCPT_OK RCPT_OK GO RCPT_OK RCPT_OK RCPT_OK);
    assert_int_equal(exists(w, "user.fred"), 1);
}

static void
test_without_suppression_each_delivery_counts(void **state)
{
    struct world *w = *state;

    w->t.opt.dedup = false;
    send(w, "<fred>", M1, "250 2.1.5 Ok");
    send(w, "<fred>", M1, "250 2.1.5 Ok");
    talk(w,
         "MAIL FROM:<>\r\nRCPT TO:<fred>\r\nRCPT TO:<fred>\r\nDATA\r\n" M1
         ".\r\n",
         MAIL_OK RCPT_OK RCPT_OK GO RCPT_OK RCPT_OK);
    assert_int_equal(exists(w, "user.fred"), 4);
}

/* ---- refused ----------------------------------------------------------- */

static void
set_quota(struct world *w, uint64_t messages)
{
    struct store_txn *txn = txn_new();

    txn_quota(txn, "user.fred",
              (uint64_t[QUOTA_RESOURCES]){QUOTA_UNLIMITED, messages,
                                          QUOTA_UNLIMITED, QUOTA_UNLIMITED});
    assert_int_equal(ts_commit(&w->ts, &txn), ERR_OK);
}

static void
test_quota_refuses_its_own_recipient_only(void **state)
{
    struct world *w = *state;

    set_quota(w, 1);
    send(w, "<fred>", M1, "250 2.1.5 Ok");
    talk(w,
         "MAIL FROM:<>\r\nRCPT TO:<fred>\r\nRCPT TO:<ann>\r\nDATA\r\n" M2
         ".\r\n",
         MAIL_OK RCPT_OK RCPT_OK GO "452 4.2.2 Over quota\r\n" RCPT_OK);
    assert_int_equal(exists(w, "user.fred"), 1);
    assert_int_equal(exists(w, "user.ann"), 1);
    /* What filled it is not refused when it comes again. */
    send(w, "<fred>", M1, "250 2.1.5 Ok");
    send(w, "<fred> IGNOREQUOTA", M2, "250 2.1.5 Ok");
    assert_int_equal(exists(w, "user.fred"), 2);
    w->t.opt.over_quota_permanent = true;
    send(w, "<fred>", "x: y\r\n", "552 5.2.2 Over quota");
}

static void
test_mailbox_that_went_after_rcpt_is_a_temporary_failure(void **state)
{
    struct world *w = *state;
    struct store_txn *txn = txn_new();

    talk(w, "MAIL FROM:<>\r\nRCPT TO:<fred>\r\nRCPT TO:<ann>\r\nDATA\r\n",
         MAIL_OK RCPT_OK RCPT_OK GO);
    txn_delete(txn, ts_lookup(&w->ts, "user.fred"), false, 0);
    assert_int_equal(ts_commit(&w->ts, &txn), ERR_OK);
    talk(w, M1 ".\r\n",
         "450 4.2.0 The mailbox has changed, try again\r\n" RCPT_OK);
}

static void
test_replica_and_fenced_take_no_mail(void **state)
{
    struct world *w = *state;

    talk(w, "MAIL FROM:<>\r\nRCPT TO:<fred>\r\nDATA\r\n", MAIL_OK RCPT_OK GO);
    store_set_role(w->ts.store, ROLE_REPLICA, 1);
    talk(w, M1 ".\r\n", "451 4.3.2 This server is a replica\r\n");
    talk(w, "MAIL FROM:<>\r\n", "451 4.3.2 This server is a replica\r\n");
    store_set_role(w->ts.store, ROLE_FENCED, 1);
    talk(w, "MAIL FROM:<>\r\n", "451 4.3.2 This server takes no mail now\r\n");
    assert_int_equal(exists(w, "user.fred"), 0);
}

/* A message that takes room in the log; false: the disk is full. */
static bool
try_large(struct world *w, uint64_t seed)
{
    AUTO(buf_free) struct buf text = BUF_INIT;

    buf_add_str(&text, "MAIL FROM:<>\r\nRCPT TO:<fred>\r\nDATA\r\n");
    for (unsigned i = 0; i < 10000; i++)
        buf_addf(&text, "%016" PRIx64 "\r\n", ts_random(&seed, UINT64_MAX));
    buf_add_str(&text, ".\r\n");
    lt_feed(&w->t, buf_span(&text), SIZE_MAX);
    struct span out = buf_span(&w->t.out);
    bool ok = span_eq_str(out, MAIL_OK RCPT_OK GO RCPT_OK);
    if (!ok)
        assert_true(span_eq_str(out, MAIL_OK RCPT_OK GO
                                "452 4.3.1 No space left on the server\r\n"));
    buf_clear(&w->t.out);
    return ok;
}

static void
test_fence_and_full_disk_refuse_for_now(void **state)
{
    struct world *w = *state;
    struct error err = {0};
    struct env *env = env_fault_env(w->ts.fault);

    assert_int_equal(
        env_write_file_atomic(env, "/be/shutdown", SPAN_LIT("x"), &err),
        ERR_OK);
    send(w, "<fred>", M1, "451 4.3.2 This server takes no mail now");
    assert_int_equal(env_unlink(env, "/be/shutdown", &err), ERR_OK);
    assert_false(store_check_fence(w->ts.store));
    send(w, "<fred>", M1, "250 2.1.5 Ok");

    w->t.opt.message_bytes_max = 1U << 20;
    env_sim_set_disk_bytes(w->ts.sim, 1);
    unsigned stored = 1;
    bool full = false;
    for (uint64_t i = 0; i < 50 && !full; i++) {
        full = !try_large(w, i);
        stored += !full;
    }
    assert_true(full);
    assert_int_equal(exists(w, "user.fred"), stored);
    env_sim_set_disk_bytes(w->ts.sim, 0);
    assert_true(try_large(w, 99));
    assert_int_equal(exists(w, "user.fred"), stored + 1);
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(test_message_is_stored_once_for_all_with_its_record),
        IN_WORLD(test_detail_goes_to_the_folder_if_anyone_may_post),
        IN_WORLD(
            test_rights_are_those_of_the_sender_that_the_client_vouches_for),
        IN_WORLD(test_shared_folders_take_mail_by_the_right_to_post),
        IN_WORLD(test_user_names_are_found_as_they_are_written),
        IN_WORLD(test_new_users_get_inbox_and_folders_when_mail_is_there),
        IN_WORLD(test_inbox_that_cannot_be_made_is_a_temporary_failure),
        IN_WORLD(test_same_message_again_is_stored_once_also_after_a_crash),
        IN_WORLD(test_recipient_given_twice_gets_one_and_two_answers),
        IN_WORLD(test_without_suppression_each_delivery_counts),
        IN_WORLD(test_quota_refuses_its_own_recipient_only),
        IN_WORLD(test_mailbox_that_went_after_rcpt_is_a_temporary_failure),
        IN_WORLD(test_replica_and_fenced_take_no_mail),
        IN_WORLD(test_fence_and_full_disk_refuse_for_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
