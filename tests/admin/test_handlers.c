/*
 * tests/admin/test_handlers.c - the verbs over a store of their own, without a
 * socket: what needs annotations, another clock, a wrong row, or somebody who
 * goes away in the middle.  How the tools show it is tests/e2e/test_tools.py.
 *
 * Time is a wrapper of the real machine's: the store has the real clock, the
 * request one that may be days ahead.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "admin/admin.h"
#include "csync/dlist.h"
#include "store/body.h"
#include "store/rows.h"
#include "store/txn.h"
#include "tests/lib/tmpdir.h"

#define DAY_S UINT64_C(86400)

struct world {
    char dir[200];
    struct env env;
    struct env_ops ops;
    struct config *cfg;
    struct arena arena;
    struct admin_host host;
    struct store *store;
    struct buf answer; /* all rows, a line each */
    unsigned take;     /* rows until nobody waits any more; 0: for ever */
    unsigned rows;
    uint64_t paused_ms;
};

static uint64_t ahead_s; /* of the request's clock */

static uint64_t
wall_ahead(struct env *env)
{
    (void)env;
    return env_wall_us(env_system()) + ahead_s * 1000000;
}

static void
open_world(struct world *w, bool has_twin)
{
    struct node_config nc;
    struct node_hooks hooks = {0};
    struct error err = {0};

    node_config_from(w->cfg, "test.example", &w->arena, &nc);
    nc.has_twin = has_twin;
    if (node_open(env_system(), &nc, &hooks, &w->host.node, &w->host.found,
                  &err) != ERR_OK)
        fail_msg("%s", err.text);
    w->store = node_store(w->host.node);
}

static struct world *
world_new(bool has_twin)
{
    struct world *w = calloc(1, sizeof(*w));
    const char *tmp = getenv("TMPDIR");
    struct error err = {0};

    assert_non_null(w);
    ahead_s = 0;
    snprintf(w->dir, sizeof(w->dir), "%s/pollux-admin-XXXXXX",
             tmp == NULL ? "/tmp" : tmp);
    assert_non_null(mkdtemp(w->dir));
    AUTO(xfree)
    char *conf = xasprintf("configdirectory: %s/conf\n"
                           "partition-default: %s/spool\n"
                           "sync_segment_bytes: 16M\nrocksdb_cache: 8M\n",
                           w->dir, w->dir);
    if (config_parse(span_str(conf), "imapd.conf", &w->cfg, &err) != ERR_OK)
        fail_msg("%s", err.text);
    w->ops = *env_system()->ops;
    w->ops.wall_us = wall_ahead;
    w->env.ops = &w->ops;
    w->host.env = &w->env;
    w->host.cfg = w->cfg;
    open_world(w, has_twin);
    return w;
}

static int
setup(void **state)
{
    *state = world_new(false);
    return 0;
}

static int
setup_replica(void **state)
{
    *state = world_new(true);
    return 0;
}

static int
teardown(void **state)
{
    struct world *w = *state;

    node_close(&w->host.node);
    config_free(&w->cfg);
    arena_free(&w->arena);
    buf_free(&w->answer);
    remove_tree(w->dir);
    free(w);
    return 0;
}

/* ---- asking ------------------------------------------------------------ */

static bool
on_line(void *ctx, struct span line)
{
    struct world *w = ctx;

    buf_add(&w->answer, line);
    buf_add_byte(&w->answer, '\n');
    w->rows++;
    return w->take == 0 || w->rows < w->take;
}

static bool
on_pause(void *ctx, unsigned ms)
{
    struct world *w = ctx;

    w->paused_ms += ms;
    return w->take == 0 || w->rows < w->take;
}

/* "VERB" or "VERB %(...)". */
static enum errcode
ask(struct world *w, const char *line, struct error *err)
{
    struct csync_answer answer = {.ctx = w, .line = on_line, .pause = on_pause};
    AUTO(buf_free) struct buf text = BUF_INIT;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct dlist *d = NULL;
    size_t used = 0;

    buf_clear(&w->answer);
    w->rows = 0;
    w->paused_ms = 0;
    *err = (struct error){0};
    if (strchr(line, ' ') == NULL)
        return admin_run(&w->host, span_str(line), NULL, &answer, err);
    buf_add_str(&text, line);
    buf_add_str(&text, "\r\n");
    assert_int_equal(
        dlist_parse(buf_span(&text), &dlist_default_limits, &a, &d, &used, err),
        PARSE_DONE);
    return admin_run(&w->host, d->name, d, &answer, err);
}

static const char *
good(struct world *w, const char *line)
{
    struct error err;

    if (ask(w, line, &err) != ERR_OK)
        fail_msg("%s: %s", line, err.text);
    return buf_cstr(&w->answer);
}

static void
refused(struct world *w, const char *line, enum errcode code, const char *text)
{
    struct error err;

    assert_int_equal(ask(w, line, &err), code);
    if (strstr(err.text, text) == NULL)
        fail_msg("%s: \"%s\" is not in \"%s\"", line, text, err.text);
}

static void
says(struct world *w, const char *line, const char *text)
{
    const char *answer = good(w, line);

    if (strstr(answer, text) == NULL)
        fail_msg("%s: \"%s\" is not in\n%s", line, text, answer);
}

/* ---- making ------------------------------------------------------------ */

static void
commit(struct world *w, struct store_txn *txn)
{
    struct error err = {0};

    if (store_commit(w->store, txn, &err) != ERR_OK)
        fail_msg("%s", err.text);
}

static mbid_t
make_mailbox(struct world *w, const char *name)
{
    AUTO(txn_free) struct store_txn *txn = txn_new();

    size_t op = txn_create(txn, &(struct txn_mailbox){.name = name,
                                                      .acl = "a\tlrs\t",
                                                      .partition = "default"});
    commit(w, txn);
    return txn_result(txn, op)->id;
}

/* N messages that arrived AGE_S ago. */
static void
add_messages(struct world *w, mbid_t id, unsigned n, uint64_t age_s)
{
    static unsigned number;
    AUTO(txn_free) struct store_txn *txn = txn_new();
    struct error err = {0};

    for (unsigned i = 0; i < n; i++) {
        struct body *body = store_body_new(w->store, 1000);
        AUTO(xfree)
        char *text = xasprintf("Subject: %u\r\n\r\nx\r\n", number++);
        assert_int_equal(body_write(body, span_str(text), &err), ERR_OK);
        assert_int_equal(body_finish(body, &err), ERR_OK);
        struct txn_append op = {
            .id = id,
            .body = body,
            .internal_s =
                (int64_t)(env_wall_us(env_system()) / 1000000 - age_s),
        };
        memcpy(op.dedup, &number, sizeof(number));
        op.dedup[15] = 1;
        txn_append(txn, &op);
        body_free(&body);
    }
    commit(w, txn);
}

static void
expunge(struct world *w, mbid_t id, uint32_t first, uint32_t last)
{
    AUTO(txn_free) struct store_txn *txn = txn_new();
    struct uidset uids = UIDSET_INIT;

    uidset_add(&uids, first, last);
    txn_expunge(txn, id, &uids, false);
    commit(w, txn);
    uidset_free(&uids);
}

static void
annotate(struct world *w, mbid_t id, const char *what, const char *value)
{
    AUTO(txn_free) struct store_txn *txn = txn_new();
    AUTO(xfree) char *entry = xasprintf("/vendor/cmu/cyrus-imapd/%s", what);
    struct span text = span_str(value);

    txn_annotate(txn,
                 &(struct txn_annot){
                     .id = id, .entry = entry, .user = "", .value = &text});
    commit(w, txn);
}

static struct mailbox
head(struct world *w, mbid_t id)
{
    struct store_snap *snap = store_snapshot(w->store);
    struct arena a = ARENA_INIT;
    struct mailbox mb;
    struct error err = {0};

    assert_int_equal(snap_mailbox(snap, id, &a, &mb, &err), ERR_OK);
    store_release(&snap);
    arena_free(&a);
    mb.name = mb.acl = mb.quota_root = NULL;
    return mb;
}

/* ---- the frame --------------------------------------------------------- */

static void
test_what_is_not_known_is_refused(void **state)
{
    struct world *w = *state;

    refused(w, "DANCE", ERR_PROTO, "does not know how to DANCE");
    refused(w, "LOAD %(NAME user.x)", ERR_SYNTAX, "LOAD without");
    refused(w, "LOAD %(NAME user..x ACL NIL)", ERR_SYNTAX, "LOAD without");
    refused(w, "EXPIRE %(EXPUNGED soon)", ERR_SYNTAX,
            "EXPUNGED is not a number");
    refused(w, "UNEXPUNGE", ERR_SYNTAX, "no mailbox is named");
    refused(w, "UNEXPUNGE %(NAME user/x)", ERR_NOTFOUND, "user/x: there is no");
    refused(w, "REMOVE %(NAMES (user.x))", ERR_NOTFOUND, "user.x");
}

static void
test_a_replica_is_only_read(void **state)
{
    static const char *const changes[] = {
        "LOAD %(NAME user.x ACL NIL)", "REMOVE %(NAMES (user.x))",
        "UNEXPUNGE %(NAME user/x)", "QUOTAFIX", "EXPIRE %(EXPUNGED 1)"};
    static const char *const reads[] = {
        "RECOVER %(VERIFY 1)", "CHECKPOINT",  "MAILBOXES", "VERIFY",
        "QUOTA %(CHECK 1)",    "RECONSTRUCT", "DELIVERIES"};
    struct world *w = *state;

    for (size_t i = 0; i < ARRAY_LEN(changes); i++)
        refused(w, changes[i], ERR_READONLY, "this instance is a replica");
    for (size_t i = 0; i < ARRAY_LEN(reads); i++)
        (void)good(w, reads[i]);
}

static void
test_who_is_gone_ends_the_request(void **state)
{
    struct world *w = *state;

    for (unsigned i = 0; i < 20; i++) {
        AUTO(xfree) char *name = xasprintf("user.u%02u", i);
        mbid_t id = make_mailbox(w, name);
        add_messages(w, id, 3, 0);
        expunge(w, id, 1, 3);
    }
    w->take = 5;
    refused(w, "MAILBOXES", ERR_CLOSED, "nobody waits");
    assert_int_equal(w->rows, 5);
    w->take = 4;
    refused(w, "EXPIRE %(EXPUNGED 0 VERBOSE 1)", ERR_CLOSED, "");
    /* What was done before is done, and the rest is there. */
    w->take = 0;
    says(w, "EXPIRE %(EXPUNGED 0)", "PURGED 48 ");
}

static void
test_beside_clients_half_of_the_time_is_theirs(void **state)
{
    struct world *w = *state;
    mbid_t id = make_mailbox(w, "user.joe");

    add_messages(w, id, 600, 0);
    expunge(w, id, 1, 600);
    w->host.is_live = true;
    says(w, "EXPIRE %(EXPUNGED 0)", "PURGED 600 ");
    assert_true(w->paused_ms >= 3); /* 256, 256, 88: each at least 1 ms */
    w->host.is_live = false;
    says(w, "EXPIRE %(EXPUNGED 0)", "PURGED 0 ");
    assert_int_equal(w->paused_ms, 0);
}

/* ---- EXPIRE ------------------------------------------------------------ */

static void
test_tombstones_go_when_their_time_is_up(void **state)
{
    struct world *w = *state;
    mbid_t id = make_mailbox(w, "user.joe");

    add_messages(w, id, 10, 100 * DAY_S); /* the age of the mail is not it */
    expunge(w, id, 1, 4);
    says(w, "EXPIRE %(EXPUNGED 86400)", "PURGED 0 ");
    ahead_s = DAY_S - 100;
    says(w, "EXPIRE %(EXPUNGED 86400)", "PURGED 0 ");
    ahead_s = DAY_S + 100;
    says(w, "EXPIRE %(EXPUNGED 86400)", "EXPIRED 0 PURGED 4 ");
    assert_int_equal(head(w, id).expunged, 0);
    assert_int_equal(head(w, id).exists, 6);
    (void)good(w, "RECOVER %(VERIFY 1)");
}

static void
test_mail_expires_by_annotation(void **state)
{
    struct world *w = *state;
    mbid_t joe = make_mailbox(w, "user.joe");
    mbid_t sub = make_mailbox(w, "user.joe.sub");
    mbid_t deep = make_mailbox(w, "user.joe.sub.deep");
    mbid_t keep = make_mailbox(w, "user.joe.keep");
    mbid_t other = make_mailbox(w, "user.joes");
    const mbid_t all[] = {joe, sub, deep, keep, other};

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        add_messages(w, all[i], 2, 10 * DAY_S);
        add_messages(w, all[i], 3, 1 * DAY_S);
    }
    annotate(w, joe, "expire", "5");
    annotate(w, sub, "expire", "12h");
    annotate(w, keep, "expire", "0");
    says(w, "EXPIRE %(MARKS 99999999 NOANNOTATIONS 1)", "EXPIRED 0 ");
    says(w, "EXPIRE %(MARKS 99999999 NOEXPUNGE 1)", "EXPIRED 0 ");
    says(w, "EXPIRE %(EXPUNGED 99999999)", "EXPIRED 0 ");
    says(w, "EXPIRE %(MARKS 99999999 VERBOSE 1)", "EXPIRED 12 ");
    assert_int_equal(head(w, joe).exists, 3);  /* older than 5 days went */
    assert_int_equal(head(w, sub).exists, 0);  /* its own: 12 hours */
    assert_int_equal(head(w, deep).exists, 0); /* that of the nearest above */
    assert_int_equal(head(w, keep).exists, 5); /* 0: never */
    assert_int_equal(head(w, other).exists, 5);
    assert_int_equal(head(w, joe).expunged, 2); /* and is still there */
    annotate(w, keep, "expire", "soon");        /* says nothing: joe's counts */
    says(w, "EXPIRE %(MARKS 99999999)", "EXPIRED 2 ");
}

static void
test_deleted_mailboxes_go_when_their_time_is_up(void **state)
{
    struct world *w = *state;
    uint64_t now_s = env_wall_us(env_system()) / 1000000;
    mbid_t ids[3];
    static const char *const names[] = {"user.joe.a", "user.joe.b",
                                        "user.joe.c"};
    static const uint64_t ages[] = {3 * DAY_S, DAY_S, 3 * DAY_S};

    make_mailbox(w, "user.joe");
    for (size_t i = 0; i < 3; i++) {
        AUTO(txn_free) struct store_txn *txn = txn_new();
        ids[i] = make_mailbox(w, names[i]);
        add_messages(w, ids[i], 2, 0);
        if (i == 2)
            annotate(w, ids[i], "delete", "9");
        txn_delete(txn, ids[i], true, now_s - ages[i]);
        commit(w, txn);
    }
    says(w, "EXPIRE %(DELETED 172800 PREFIX user/jim)", "REMOVED 0 ");
    says(w, "EXPIRE %(DELETED 172800 USER joe)", "REMOVED 1 ");
    assert_int_equal(head(w, ids[1]).exists, 2);
    assert_int_equal(head(w, ids[2]).exists, 2);
    says(w, "EXPIRE %(DELETED 172800 NOANNOTATIONS 1)", "REMOVED 1 ");
    ahead_s = 2 * DAY_S;
    says(w, "EXPIRE %(DELETED 172800)", "REMOVED 1 ");
    assert_null(strstr(good(w, "MAILBOXES"), "DELETED."));
    (void)good(w, "RECOVER %(VERIFY 1)");
}

static void
test_marks_of_deliveries_go_when_their_time_is_up(void **state)
{
    struct world *w = *state;
    mbid_t id = make_mailbox(w, "user.joe");

    add_messages(w, id, 300, 0);
    says(w, "EXPIRE %(MARKS 86400)", "MARKS 0)");
    ahead_s = 2 * DAY_S;
    says(w, "EXPIRE %(MARKS 86400 USER joe)", "MARKS 0)");
    says(w, "EXPIRE %(MARKS 86400)", "MARKS 300)");
    assert_string_equal(good(w, "DELIVERIES"), "");
}

static void
test_archiving_needs_to_be_enabled(void **state)
{
    struct world *w = *state;

    says(w, "ARCHIVE %(AGE 60)", "ENABLED 0 ");
    refused(w, "ARCHIVE %(AGE old)", ERR_SYNTAX, "AGE is not a number");
}

/* ---- UNEXPUNGE --------------------------------------------------------- */

static void
test_what_was_expunged_lately_comes_back(void **state)
{
    struct world *w = *state;
    mbid_t id = make_mailbox(w, "user.joe");

    add_messages(w, id, 250, 0);
    expunge(w, id, 1, 249);
    ahead_s = 3600;
    says(w, "EXPUNGED %(NAME user/joe UIDS \"1:2\")", "UID 2 ");
    assert_int_equal(w->rows, 2);
    (void)good(w, "UNEXPUNGE %(NAME user/joe WITHIN 60)");
    assert_int_equal(w->rows, 0);
    (void)good(w, "UNEXPUNGE %(NAME user/joe WITHIN 7200 FLAG \\Flagged)");
    assert_int_equal(w->rows, 249);
    assert_int_equal(head(w, id).exists, 250);
    says(w, "EXAMINE %(NAMES (user/joe) UIDS \"251\")", "\\Flagged");
    (void)good(w, "UNEXPUNGE %(NAME user/joe)");
    assert_int_equal(w->rows, 0); /* once only */
    (void)good(w, "RECOVER %(VERIFY 1)");
}

/* ---- QUOTA ------------------------------------------------------------- */

static void
set_quota(struct world *w, const char *root, uint64_t bytes)
{
    AUTO(txn_free) struct store_txn *txn = txn_new();
    const uint64_t limit[QUOTA_RESOURCES] = {
        [QUOTA_STORAGE] = bytes,
        [QUOTA_MESSAGE] = QUOTA_UNLIMITED,
        [QUOTA_FOLDERS] = QUOTA_UNLIMITED,
        [QUOTA_ANNOTATION] = QUOTA_UNLIMITED,
    };

    txn_quota(txn, root, limit);
    commit(w, txn);
}

/* Makes the row of ROOT say what is not so, with the store closed. */
static void
spoil_quota(struct world *w, const char *root)
{
    AUTO(xfree) char *path = xasprintf("%s/conf", w->dir);
    struct kv *kv = NULL;
    struct kv_batch *batch = kv_batch_new();
    struct key k;
    struct buf value = BUF_INIT;
    struct error err = {0};
    struct quota q = {0};

    node_close(&w->host.node);
    assert_int_equal(kv_open_rocks(path, 8U << 20, &kv, &err), ERR_OK);
    struct span key = key_text(&k, TAB_QUOTA, span_str(root));
    assert_int_equal(kv_get(kv, NULL, KV_STATE, key, &value, &err), ERR_OK);
    assert_int_equal(quota_decode(buf_span(&value), &q, &err), ERR_OK);
    q.used[QUOTA_STORAGE] += 1000;
    q.used[QUOTA_MESSAGE] -= 1;
    buf_clear(&value);
    quota_encode(&q, &value);
    kv_batch_put(batch, KV_STATE, key, buf_span(&value));
    assert_int_equal(kv_write(kv, batch, &err), ERR_OK);
    assert_int_equal(kv_flush(kv, &err), ERR_OK);
    kv_batch_free(&batch);
    kv_close(&kv);
    buf_free(&value);
    open_world(w, false);
}

static void
test_a_wrong_usage_is_told_and_mended(void **state)
{
    struct world *w = *state;
    mbid_t joe = make_mailbox(w, "user.joe");
    mbid_t sub = make_mailbox(w, "user.joe.sub");

    add_messages(w, joe, 4, 0);
    add_messages(w, sub, 2, 0);
    set_quota(w, "user.joe", 100000);
    says(w, "QUOTA %(CHECK 1)", "* ROOT %(NAME user.joe STORAGE %(USED ");
    assert_int_equal(w->rows, 1);
    spoil_quota(w, "user.joe");
    says(w, "QUOTA %(CHECK 1)",
         "* WRONG %(NAME user.joe RESOURCE MESSAGE WAS 5 IS 6)");
    says(w, "QUOTA %(CHECK 1 NAMES (user/jim))", "");
    assert_int_equal(w->rows, 0);
    says(w, "QUOTAFIX", "RESOURCE STORAGE ");
    says(w, "QUOTA %(CHECK 1)", "LIMIT 100000");
    assert_int_equal(w->rows, 1);
}

/* ---- many -------------------------------------------------------------- */

static void
test_a_thousand_mailboxes(void **state)
{
    struct world *w = *state;

    for (unsigned i = 0; i < 1000; i++) {
        AUTO(xfree) char *name = xasprintf("user.u%04u", i);
        make_mailbox(w, name);
    }
    (void)good(w, "MAILBOXES");
    assert_int_equal(w->rows, 1000);
    says(w, "VERIFY", "MAILBOXES 1000");
    says(w, "EXPIRE %(EXPUNGED 0 DELETED 0 MARKS 0)", "MAILBOXES 1000 ");
    says(w, "RECONSTRUCT %(NAMES (\"user/u00*\"))", "MAILBOXES 100 ");
    (void)good(w, "REMOVE %(NAMES (user.u0001 user.u0002))");
    says(w, "EXPIRE %(DELETED 0)", "REMOVED 2 ");
    says(w, "RECONSTRUCT", "MAILBOXES 998 ");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_not_known_is_refused,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_replica_is_only_read,
                                        setup_replica, teardown),
        cmocka_unit_test_setup_teardown(test_who_is_gone_ends_the_request,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_beside_clients_half_of_the_time_is_theirs, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_tombstones_go_when_their_time_is_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mail_expires_by_annotation, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            test_deleted_mailboxes_go_when_their_time_is_up, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_marks_of_deliveries_go_when_their_time_is_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_archiving_needs_to_be_enabled,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_what_was_expunged_lately_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_wrong_usage_is_told_and_mended,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_thousand_mailboxes, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
