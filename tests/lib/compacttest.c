#include "tests/lib/compacttest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/rows.h"
#include "store/store_private.h"

static void
must(enum errcode rc, const struct error *err)
{
    if (rc != ERR_OK)
        fail_msg("%s: %s", errcode_name(rc), err->text);
}

void
ct_new_master(struct teststore *ts, uint64_t seed, uint64_t segment_bytes,
              uint64_t pack_bytes)
{
    struct error err = {0};

    /* The first segment is made with the store: so this is a machine anew. */
    ts_new(ts, seed, 0);
    ts_close(ts);
    kv_disk_free(&ts->disk);
    env_fault_free(&ts->fault);
    env_sim_free(&ts->sim);
    ts->sim = env_sim_new(&(struct env_sim_options){.seed = seed});
    ts->fault = env_fault_new(env_sim_env(ts->sim));
    ts->disk = kv_disk_new();
    if (segment_bytes != 0)
        ts->cfg.segment_bytes = segment_bytes;
    ts->cfg.pack_bytes = pack_bytes;
    must(ts_open(ts, &err), &err);
    store_set_role(ts->store, ROLE_MASTER, 1);
    must(store_begin_epoch(ts->store, 1, 0, "first start", &err), &err);
}

enum errcode
ct_compact(struct teststore *ts, struct error *err)
{
    bool more = true;
    enum errcode rc = store_checkpoint(ts->store, err);

    for (unsigned i = 0; rc == ERR_OK && more; i++) {
        uint64_t bytes = 0;
        if (i > 100000)
            fail_msg("the compactor does not come to an end");
        rc = store_compact_step(ts->store, &more, &bytes, err);
    }
    return rc;
}

unsigned
ct_read_all(struct teststore *ts, mbid_t id, size_t bytes,
            const char **ret_wrong)
{
    struct store_snap *snap = store_snapshot(ts->store);
    struct msg_iter *it = snap_messages(snap, id, 1, false);
    struct message m;
    struct error err = {0};
    AUTO(buf_free) struct buf got = BUF_INIT;
    const char *wrong = NULL;
    unsigned n = 0;

    while (wrong == NULL && msg_iter_next(it, &m)) {
        struct body *b = ts_body(m.uid, bytes);
        buf_clear(&got);
        if (store_body_read(ts->store, &m.guid, 0, UINT64_MAX, &got, &err) !=
            ERR_OK)
            wrong = "a body cannot be read";
        else if (!span_eq(buf_span(&got), body_raw(b)))
            wrong = "a body has changed";
        body_free(&b);
        n++;
    }
    if (msg_iter_close(&it, &err) != ERR_OK && wrong == NULL)
        wrong = "a mailbox cannot be walked";
    store_release(&snap);
    if (ret_wrong != NULL)
        *ret_wrong = wrong;
    else if (wrong != NULL)
        fail_msg("%s: %s", wrong, err.text);
    return n;
}

void
ct_fill(struct teststore *ts, mbid_t id, unsigned n, size_t bytes)
{
    struct arena a = ARENA_INIT;
    const uint32_t first = ts_mailbox(ts, id, &a).uidnext;

    for (uint32_t uid = first; uid < first + n; uid++)
        assert_int_equal(ts_append(ts, id, uid, bytes, NULL), uid);
    arena_free(&a);
}

void
ct_purge(struct teststore *ts, mbid_t id, uint32_t first, uint32_t last)
{
    AUTO(uidset_free) struct uidset uids = {0};
    struct store_txn *txn = txn_new();

    assert_int_equal(ts_expunge(ts, id, first, last), ERR_OK);
    uidset_add(&uids, first, last);
    txn_purge(txn, id, &uids);
    assert_int_equal(ts_commit(ts, &txn), ERR_OK);
}

size_t
ct_segments(struct teststore *ts)
{
    struct synclog_segment *v = NULL;
    const size_t n = synclog_segments(store_log(ts->store), &v);

    free(v);
    return n;
}

uint64_t
ct_dir_bytes(struct teststore *ts, const char *dir, const char *prefix)
{
    struct env *env = env_sim_env(ts->sim);
    AUTO(buf_free) struct buf names = BUF_INIT;
    struct error err = {0};
    uint64_t bytes = 0;

    must(env_list(env, dir, &names, &err), &err);
    for (size_t at = 0; at < names.n;) {
        const char *name = (const char *)names.p + at;
        at += strlen(name) + 1;
        if (strncmp(name, prefix, strlen(prefix)) != 0)
            continue;
        AUTO(xfree) char *path = xasprintf("%s/%s", dir, name);
        struct envfile *f = NULL;
        uint64_t size = 0;
        must(env_open(env, path, ENV_READ, &f, &err), &err);
        must(env_size(f, &size, &err), &err);
        env_close(&f);
        bytes += size;
    }
    return bytes;
}

struct body_loc
ct_place(struct teststore *ts, mbid_t id, uint32_t uid)
{
    struct arena a = ARENA_INIT;
    const struct guid guid = ts_message(ts, id, uid, &a).guid;
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct body_loc loc = {0};
    struct error err = {0};
    struct key k;

    arena_free(&a);
    must(kv_get(ts->kv, NULL, KV_STATE, key_body(&k, &guid, 0), &value, &err),
         &err);
    must(body_loc_decode(buf_span(&value), &loc, &err), &err);
    return loc;
}
