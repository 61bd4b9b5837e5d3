#include "tests/lib/storetest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/log.h"
#include "synclog/reader.h"

static void
on_fatal(void *ctx, const struct error *err)
{
    ((struct teststore *)ctx)->fatal = *err;
}

enum errcode
ts_open(struct teststore *ts, struct error *err)
{
    const struct store_hooks hooks = {.ctx = ts, .on_fatal = on_fatal};

    ts->kv = kv_open_mem_on(ts->disk);
    ts->cfg.kv = ts->kv;
    ts->fatal = (struct error){0};
    return store_open(env_fault_env(ts->fault), &ts->cfg, &hooks, &ts->store,
                      &ts->opened, err);
}

static void
must(enum errcode rc, const struct error *err)
{
    if (rc != ERR_OK)
        fail_msg("%s: %s", errcode_name(rc), err->text);
}

void
ts_new(struct teststore *ts, uint64_t seed, unsigned mutants)
{
    struct error err = {0};

    /* A cut machine cannot flush when it is closed: not worth a line. */
    must(log_open(LOG_TO_STDERR, NULL, "test", LOG_LV_ERROR, &err), &err);
    *ts = (struct teststore){0};
    ts->sim = env_sim_new(&(struct env_sim_options){.seed = seed});
    ts->fault = env_fault_new(env_sim_env(ts->sim));
    ts->disk = kv_disk_new();
    ts->cfg = (struct store_config){
        .dir = "/be",
        .fence_path = "/be/shutdown",
        .segment_bytes = 4U << 20,
        .cluster = {{1}},
        .instance = {{2}},
        .no_threads = true,
        .mutants = mutants,
    };
    must(ts_open(ts, &err), &err);
}

void
ts_new_master(struct teststore *ts, uint64_t seed, unsigned mutants)
{
    struct error err = {0};

    ts_new(ts, seed, mutants);
    store_set_role(ts->store, ROLE_MASTER, 1);
    must(store_begin_epoch(ts->store, 1, 0, "first start", &err), &err);
}

void
ts_close(struct teststore *ts)
{
    store_close(&ts->store);
    ts->kv = NULL;
}

void
ts_crash(struct teststore *ts, uint64_t seed)
{
    kv_disk_cut(ts->disk, seed);
    env_sim_halt(ts->sim);
    ts_close(ts);
    env_fault_clear(ts->fault);
    env_sim_crash(ts->sim, seed);
}

void
ts_free(struct teststore *ts)
{
    ts_close(ts);
    kv_disk_free(&ts->disk);
    env_fault_free(&ts->fault);
    env_sim_free(&ts->sim);
}

enum errcode
ts_commit(struct teststore *ts, struct store_txn **txn)
{
    struct error err = {0};
    enum errcode rc = store_commit(ts->store, *txn, &err);
    if (rc == ERR_OK && txn_lsn(*txn) != LSN_NONE)
        ts->acked = txn_lsn(*txn);
    txn_free(txn);
    return rc;
}

mbid_t
ts_create(struct teststore *ts, const char *name)
{
    struct store_txn *txn = txn_new();
    struct error err = {0};

    txn_create(txn, &(struct txn_mailbox){.name = name});
    must(store_commit(ts->store, txn, &err), &err);
    mbid_t id = txn_result(txn, 0)->id;
    txn_free(&txn);
    return id;
}

enum errcode
ts_body_fill(struct body *b, uint64_t seed, size_t bytes, struct error *err)
{
    AUTO(buf_free) struct buf text = BUF_INIT;

    buf_addf(&text, "Subject: %" PRIu64 "\r\n\r\n", seed);
    while (text.n < bytes) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        buf_addf(&text, "%016" PRIx64 "\r\n", seed);
    }
    text.n = bytes;
    enum errcode rc = body_write(b, buf_span(&text), err);
    return rc == ERR_OK ? body_finish(b, err) : rc;
}

struct body *
ts_body(uint64_t seed, size_t bytes)
{
    struct error err = {0};
    struct body *b = body_new(env_system(), "/tmp", UINT64_C(1) << 30);

    must(ts_body_fill(b, seed, bytes, &err), &err);
    return b;
}

uint32_t
ts_append(struct teststore *ts, mbid_t id, uint64_t seed, size_t bytes,
          enum errcode *ret_code)
{
    struct store_txn *txn = txn_new();
    struct body *b = ts_body(seed, bytes);
    struct error err = {0};

    txn_append(txn, &(struct txn_append){.id = id,
                                         .body = b,
                                         .internal_s = 1000000,
                                         .check_quota = true});
    body_free(&b);
    enum errcode rc = store_commit(ts->store, txn, &err);
    if (ret_code != NULL)
        *ret_code = rc;
    else
        must(rc, &err);
    uint32_t uid = rc == ERR_OK ? uidset_next(&txn_result(txn, 0)->uids, 1) : 0;
    txn_free(&txn);
    return uid;
}

enum errcode
ts_flag(struct teststore *ts, mbid_t id, uint32_t first, uint32_t last,
        enum txn_flag_mode mode, uint32_t flags, const char *keyword)
{
    struct store_txn *txn = txn_new();
    struct uidrange range = {first, last};
    const struct uidset uids = {.r = &range, .n = 1};
    struct span word = span_str(keyword == NULL ? "" : keyword);

    txn_flags(txn, &(struct txn_flags){.id = id,
                                       .uids = &uids,
                                       .mode = mode,
                                       .flags = flags,
                                       .keywords = &word,
                                       .nkeywords = keyword != NULL});
    return ts_commit(ts, &txn);
}

enum errcode
ts_expunge(struct teststore *ts, mbid_t id, uint32_t first, uint32_t last)
{
    struct store_txn *txn = txn_new();
    struct uidrange range = {first, last};
    const struct uidset uids = {.r = &range, .n = 1};

    txn_expunge(txn, id, &uids, false);
    return ts_commit(ts, &txn);
}

struct mailbox
ts_mailbox(struct teststore *ts, mbid_t id, struct arena *a)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct mailbox mb;
    struct error err = {0};

    must(snap_mailbox(snap, id, a, &mb, &err), &err);
    store_release(&snap);
    return mb;
}

mbid_t
ts_lookup(struct teststore *ts, const char *name)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct mailbox mb = {0};
    struct arena a = ARENA_INIT;
    struct error err = {0};

    enum errcode rc = snap_mailbox_by_name(snap, name, &a, &mb, &err);
    if (rc != ERR_NOTFOUND)
        must(rc, &err);
    store_release(&snap);
    arena_free(&a);
    return rc == ERR_OK ? mb.id : 0;
}

struct message
ts_message(struct teststore *ts, mbid_t id, uint32_t uid, struct arena *a)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct message m;
    struct error err = {0};

    must(snap_message(snap, id, uid, a, &m, &err), &err);
    store_release(&snap);
    return m;
}

void
ts_verify(struct teststore *ts)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct error err = {0};

    must(snap_verify(snap, &err), &err);
    assert_int_equal(snap_pos(snap).digest, store_pos(ts->store).digest);
    store_release(&snap);
}

uint64_t
ts_random(uint64_t *rng, uint64_t below)
{
    *rng = *rng * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (*rng >> 33) % below;
}

/* ------------------------------------------------------- random histories */

static const char *
random_name(uint64_t *rng, char out[64])
{
    static const char *const users[] = {"user.ann", "user.bob", "shared"};
    static const char *const below[] = {"", ".Sent", ".Sent.Old", ".Trash"};
    snprintf(out, 64, "%s%s", users[ts_random(rng, 3)],
             below[ts_random(rng, 4)]);
    return out;
}

static mbid_t
random_mailbox(struct teststore *ts, uint64_t *rng)
{
    char name[64];
    for (int i = 0; i < 20; i++) {
        mbid_t id = ts_lookup(ts, random_name(rng, name));
        if (id != 0)
            return id;
    }
    return 0;
}

static struct uidset
random_uids(uint64_t *rng)
{
    struct uidset s = UIDSET_INIT;
    for (uint64_t n = ts_random(rng, 4) + 1; n > 0; n--) {
        uint32_t first = (uint32_t)ts_random(rng, 30) + 1;
        uidset_add(&s, first, first + (uint32_t)ts_random(rng, 5));
    }
    return s;
}

static void
add_append(struct store_txn *txn, mbid_t id, uint64_t *rng)
{
    struct body *b = ts_body(ts_random(rng, 40), 20 + ts_random(rng, 3000));
    struct span word = SPAN_LIT("$Work");

    struct txn_append a = {.id = id,
                           .body = b,
                           .flags = (uint32_t)ts_random(rng, 32),
                           .keywords = &word,
                           .nkeywords = ts_random(rng, 2),
                           .internal_s = 77,
                           .check_quota = true,
                           .independent = ts_random(rng, 2) == 0};
    if (ts_random(rng, 3) == 0)
        a.dedup[0] = (uint8_t)(1 + ts_random(rng, 9));
    txn_append(txn, &a);
    body_free(&b);
}

static void
add_flags(struct store_txn *txn, mbid_t id, uint64_t *rng)
{
    static const char *const words[] = {"$Work", "$Todo", "Later"};
    struct span word = span_str(words[ts_random(rng, 3)]);
    struct uidset uids = random_uids(rng);

    txn_flags(txn,
              &(struct txn_flags){.id = id,
                                  .uids = &uids,
                                  .mode = (enum txn_flag_mode)ts_random(rng, 3),
                                  .flags = (uint32_t)ts_random(rng, 32),
                                  .keywords = &word,
                                  .nkeywords = ts_random(rng, 2)});
    uidset_free(&uids);
}

/* Somebody, the owners of the mailboxes above among them. */
static const char *
random_user(uint64_t *rng)
{
    static const char *const users[] = {"ann", "bob", "cho", "dan"};
    return users[ts_random(rng, ARRAY_LEN(users))];
}

static void
add_annotate(struct store_txn *txn, mbid_t id, uint64_t *rng)
{
    static const char *const entries[] = {"/comment", "/vendor/x",
                                          "/altsubject"};
    char text[300];
    struct uidset uids = random_uids(rng);
    const size_t n = (size_t)ts_random(rng, sizeof(text));
    const uint64_t on = ts_random(rng, 10);

    memset(text, 'a' + (int)ts_random(rng, 26), sizeof(text));
    struct span value = span_of(text, n);
    txn_annotate(txn,
                 &(struct txn_annot){
                     .id = on == 0 ? 0 : id,
                     .uids = on < 4 ? NULL : &uids,
                     .entry = entries[ts_random(rng, ARRAY_LEN(entries))],
                     .user = ts_random(rng, 2) == 0 ? "" : random_user(rng),
                     .value = ts_random(rng, 4) == 0 ? NULL : &value,
                     .check_quota = ts_random(rng, 2) == 0});
    uidset_free(&uids);
}

/* Limits so low that they are met. */
static void
add_quota(struct store_txn *txn, uint64_t *rng)
{
    char name[64];
    uint64_t limit[QUOTA_RESOURCES] = {
        [QUOTA_STORAGE] = 20000,
        [QUOTA_MESSAGE] = 30,
        [QUOTA_FOLDERS] = 4,
        [QUOTA_ANNOTATION] = 2000,
    };

    for (size_t i = 0; i < QUOTA_RESOURCES; i++)
        if (ts_random(rng, 2) == 0)
            limit[i] = QUOTA_UNLIMITED;
    txn_quota(txn, random_name(rng, name),
              ts_random(rng, 3) == 0 ? NULL : limit);
}

static void
add_user_object(struct store_txn *txn, uint64_t *rng)
{
    char name[64];
    struct span value = SPAN_LIT("keep;");
    const char *user = random_user(rng);
    const struct span *set = ts_random(rng, 3) == 0 ? NULL : &value;

    switch (ts_random(rng, 3)) {
    case 0:
        txn_user(txn, user, USER_SUBSCRIPTION, random_name(rng, name), set);
        break;
    case 1:
        txn_user(txn, user, USER_SIEVE, ts_random(rng, 2) == 0 ? "a" : "b",
                 set);
        break;
    default:
        txn_user(txn, user, USER_SIEVE_ACTIVE, "", set);
        break;
    }
}

static bool
pick_any(void *ctx, const struct mailbox *mb)
{
    *(mbid_t *)ctx = mb->id;
    return false;
}

/* A deleted mailbox comes back, under its name or another. */
static void
add_undelete(struct teststore *ts, struct store_txn *txn, uint64_t *rng)
{
    char name[64];
    struct store_snap *snap = store_snapshot(ts->store);
    struct error err = {0};
    mbid_t id = 0;

    must(snap_each_mailbox(snap, "DELETED.", pick_any, &id, &err), &err);
    store_release(&snap);
    if (id != 0)
        txn_rename(txn, id, random_name(rng, name), false);
}

static void
add_forget(struct store_txn *txn, uint64_t *rng)
{
    uint8_t hashes[3][16] = {{0}};

    for (size_t i = 0; i < ARRAY_LEN(hashes); i++)
        hashes[i][0] = (uint8_t)(1 + ts_random(rng, 9));
    txn_forget_deliveries(txn, (const uint8_t(*)[16])hashes, 3);
}

static void
add_head_op(struct store_txn *txn, mbid_t id, uint64_t *rng)
{
    switch (ts_random(rng, 5)) {
    case 0:
        txn_set_acl(txn, id, ts_random(rng, 2) == 0 ? "ann\tlr\t" : "b\tl\t",
                    NULL);
        break;
    case 1:
        txn_set_options(txn, id, MBOX_SHAREDSEEN,
                        ts_random(rng, 2) == 0 ? MBOX_SHAREDSEEN : 0);
        break;
    case 2:
        txn_set_partition(txn, id, ts_random(rng, 2) == 0 ? "p2" : "default",
                          ts_random(rng, 2) == 0);
        break;
    case 3:
        txn_set_uidvalidity(txn, id, 1800000000 + (uint32_t)ts_random(rng, 50));
        break;
    default:
        txn_set_recent(txn, id, (uint32_t)ts_random(rng, 30));
        break;
    }
}

/* What changes which mailboxes there are, and how they are called. */
static void
add_name_op(struct teststore *ts, struct store_txn *txn, mbid_t id,
            uint64_t *rng)
{
    char name[64];

    switch (ts_random(rng, 10)) {
    case 0:
    case 1:
    case 2:
    case 3:
        txn_create(
            txn, &(struct txn_mailbox){.name = random_name(rng, name),
                                       .check_quota = ts_random(rng, 2) == 0});
        break;
    case 4:
        txn_rename(txn, id, random_name(rng, name), ts_random(rng, 2) == 0);
        break;
    case 5:
        txn_delete(txn, id, ts_random(rng, 3) != 0, 5000);
        break;
    case 6:
        txn_delete_tree(txn, id, ts_random(rng, 3) != 0, 5000);
        break;
    case 7:
        add_undelete(ts, txn, rng);
        break;
    case 8:
        txn_rename_user(txn, random_user(rng), random_user(rng));
        break;
    default:
        add_quota(txn, rng);
        break;
    }
}

/* Messages that are there, or tombstones. */
static void
add_message_op(struct teststore *ts, struct store_txn *txn, mbid_t id,
               uint64_t *rng)
{
    struct uidset uids = random_uids(rng);

    switch (ts_random(rng, 10)) {
    case 0:
    case 1:
        txn_copy(txn, id, &uids, random_mailbox(ts, rng),
                 ts_random(rng, 2) == 0, true);
        break;
    case 2:
        txn_expunge(txn, id, &uids, ts_random(rng, 2) == 0);
        break;
    case 3:
        txn_purge(txn, id, &uids);
        break;
    case 4:
        txn_unexpunge(txn, id, &uids, ts_random(rng, 2) == 0);
        break;
    case 5:
        txn_seen(txn, id, random_user(rng), &uids, ts_random(rng, 3) != 0);
        break;
    case 6:
    case 7:
        add_annotate(txn, id, rng);
        break;
    default:
        add_flags(txn, id, rng);
        break;
    }
    uidset_free(&uids);
}

static void
add_op(struct teststore *ts, struct store_txn *txn, uint64_t *rng)
{
    mbid_t id = random_mailbox(ts, rng);
    const uint64_t what = ts_random(rng, 24);

    if (what < 4)
        add_name_op(ts, txn, id, rng);
    else if (what == 4)
        add_user_object(txn, rng);
    else if (what == 5)
        add_head_op(txn, id, rng);
    else if (what == 6 && ts_random(rng, 3) != 0)
        add_forget(txn, rng);
    else if (what == 6)
        txn_user_remove_all(txn, random_user(rng));
    else if (what < 16)
        add_message_op(ts, txn, id, rng);
    else
        add_append(txn, id, rng);
}

enum errcode
ts_random_txn(struct teststore *ts, uint64_t *rng)
{
    struct store_txn *txn = txn_new();

    for (uint64_t n = ts_random(rng, 3) + 1; n > 0; n--)
        add_op(ts, txn, rng);
    return ts_commit(ts, &txn);
}

/* --------------------------------------------------------------- shipping */

struct shipped {
    bool done;
    enum errcode code;
    struct error err;
};

static void
on_frames(void *ctx, enum errcode code, const struct error *err,
          struct store_pos pos)
{
    struct shipped *s = ctx;

    (void)pos;
    s->done = true;
    s->code = code;
    s->err = *err;
}

enum errcode
ts_ship(struct teststore *from, struct teststore *to, size_t max_bytes)
{
    struct synclog_reader *r = NULL;
    struct error err = {0};
    enum errcode rc = ERR_OK;
    AUTO(xfree) char *dir = xasprintf("%s/synclog", from->cfg.dir);

    must(reader_open(env_fault_env(from->fault), dir,
                     synclog_mark(store_log(from->store)),
                     store_pos(to->store).applied.lsn, &r, &err),
         &err);
    while (rc == ERR_OK) {
        struct span frames;
        lsn_t last;
        uint64_t time_us;
        struct shipped s = {0};
        must(reader_next(r, max_bytes, &frames, &last, &time_us, &err), &err);
        if (frames.n == 0)
            break;
        store_append_frames(to->store, frames, on_frames, &s);
        for (int i = 0; i < 1000 && !s.done; i++)
            (void)store_step(to->store);
        assert_true(s.done);
        rc = s.code;
    }
    reader_close(&r);
    return rc;
}
