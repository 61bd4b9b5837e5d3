#include "tests/lib/historytest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "store/store_private.h"

void
ht_must(enum errcode rc, const struct error *err)
{
    if (rc != ERR_OK)
        fail_msg("%s: %s", errcode_name(rc), err->text);
}

void
ht_compact(struct teststore *ts)
{
    struct error err = {0};

    ht_must(ct_compact(ts, &err), &err);
}

/* ---- what is kept, as text --------------------------------------------- */

static void
check_body(struct ht_listing *l, const struct history *h)
{
    AUTO(buf_free) struct buf got = BUF_INIT;
    struct error err = {0};
    struct body *b =
        ts_body(h->msg.uid, l->body + (strstr(h->name, "bob") != NULL));

    if (store_body_read(l->ts->store, &h->msg.guid, 0, UINT64_MAX, &got,
                        &err) != ERR_OK)
        l->wrong = "the body of a row cannot be read";
    else if (!span_eq(buf_span(&got), body_raw(b)))
        l->wrong = "the body of a row is another one";
    body_free(&b);
}

bool
ht_add_row(void *ctx, const struct history *h)
{
    struct ht_listing *l = ctx;
    char guid[GUID_TEXT_BYTES];

    l->n++;
    l->bytes += h->msg.size;
    buf_addf(&l->text,
             "%" PRI_EPOCH ":%" PRI_LSN " %" PRIu64 "/%" PRIu32
             " %s %s %u %" PRIu64 " %s %" PRIu32 " 0x%x %" PRId64 "\n",
             h->at.epoch, h->at.lsn, h->at.mbid, h->at.uid, h->name,
             h->uniqueid.s, (unsigned)h->way, h->purged_us,
             guid_text(&h->msg.guid, guid), h->uidvalidity, h->msg.flags,
             h->msg.expunged_s);
    if (l->body != 0)
        check_body(l, h);
    return true;
}

/* All of it; that the sum says the same. */
void
ht_list(struct teststore *ts, size_t body, struct ht_listing *ret)
{
    struct history_at after = {0};
    struct history_view v;
    struct error err = {0};
    bool more = true;

    *ret = (struct ht_listing){.ts = ts, .body = body};
    while (more)
        ht_must(
            store_history_walk(ts->store, &after, ht_add_row, ret, &more, &err),
            &err);
    ht_must(store_history_view(ts->store, &v, &err), &err);
    if (v.rows != ret->n || v.bytes != ret->bytes)
        ret->wrong = "the sum is not that of the rows";
}

unsigned
ht_count(struct teststore *ts, size_t body)
{
    struct ht_listing l;

    ht_list(ts, body, &l);
    buf_free(&l.text);
    if (l.wrong != NULL)
        fail_msg("%s", l.wrong);
    return l.n;
}

/* ---- instances --------------------------------------------------------- */

void
ht_set_keep(struct teststore *ts, uint64_t keep_s)
{
    struct error err = {0};
    const enum role role = store_role(ts->store);
    const epoch_t epoch = store_epoch(ts->store);

    ts_close(ts);
    ts->cfg.keep_history_s = keep_s;
    ht_must(ts_open(ts, &err), &err);
    store_set_role(ts->store, role, epoch);
}

struct ht_pair
ht_new_keeper(struct teststore *ts, uint64_t seed, uint64_t keep_s)
{
    ct_new_master(ts, seed, HT_SEGMENT, HT_PACK);
    ht_set_keep(ts, keep_s);
    return (struct ht_pair){ts_create(ts, "user.ann"),
                            ts_create(ts, "user.bob")};
}

void
ht_purge_mailbox(struct teststore *ts, mbid_t id)
{
    struct store_txn *txn = txn_new();

    txn_purge(txn, id, &(struct uidset){0});
    assert_int_equal(ts_commit(ts, &txn), ERR_OK);
}
