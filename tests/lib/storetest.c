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

struct body *
ts_body(uint64_t seed, size_t bytes)
{
    struct error err = {0};
    struct body *b = body_new("/tmp", UINT64_C(1) << 30);
    AUTO(buf_free) struct buf text = BUF_INIT;

    buf_addf(&text, "Subject: %" PRIu64 "\r\n\r\n", seed);
    while (text.n < bytes) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        buf_addf(&text, "%016" PRIx64 "\r\n", seed);
    }
    text.n = bytes;
    must(body_write(b, buf_span(&text), &err), &err);
    must(body_finish(b, &err), &err);
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

#define NAMES 12U

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

static void
add_op(struct teststore *ts, struct store_txn *txn, uint64_t *rng)
{
    char name[64];
    mbid_t id = random_mailbox(ts, rng);
    struct uidset uids = random_uids(rng);
    struct span value = SPAN_LIT("x");

    switch (ts_random(rng, 20)) {
    case 0:
    case 1:
        txn_create(txn, &(struct txn_mailbox){.name = random_name(rng, name)});
        break;
    case 2:
        txn_rename(txn, id, random_name(rng, name), ts_random(rng, 2) == 0);
        break;
    case 3:
        txn_delete(txn, id, ts_random(rng, 2) == 0, 5000);
        break;
    case 4:
        txn_quota(txn, random_name(rng, name),
                  ts_random(rng, 3) == 0
                      ? NULL
                      : (uint64_t[QUOTA_RESOURCES]){20000, QUOTA_UNLIMITED,
                                                    QUOTA_UNLIMITED,
                                                    QUOTA_UNLIMITED});
        break;
    case 5:
        txn_user(txn, ts_random(rng, 2) == 0 ? "ann" : "bob", USER_SUBSCRIPTION,
                 random_name(rng, name),
                 ts_random(rng, 3) == 0 ? NULL : &value);
        break;
    case 6:
        txn_set_acl(txn, id, ts_random(rng, 2) == 0 ? "a\tlr\t" : "b\tl\t",
                    NULL);
        break;
    case 7:
        txn_set_recent(txn, id, (uint32_t)ts_random(rng, 30));
        break;
    case 8:
    case 9:
        txn_copy(txn, id, &uids, random_mailbox(ts, rng),
                 ts_random(rng, 2) == 0, true);
        break;
    case 10:
        txn_expunge(txn, id, &uids, ts_random(rng, 2) == 0);
        break;
    case 11:
        txn_purge(txn, id, &uids);
        break;
    case 12:
    case 13:
    case 14:
        add_flags(txn, id, rng);
        break;
    default:
        add_append(txn, id, rng);
        break;
    }
    uidset_free(&uids);
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
