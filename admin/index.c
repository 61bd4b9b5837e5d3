/*
 * admin/index.c - INDEX: mailboxes brought level in the index for SEARCH
 * (squatter).
 *
 * A running instance indexes by itself in the background; asked here it does so
 * at once, and to the last message.  Where none runs the index is opened beside
 * the store, and what was found stays for the instance.
 */
#include "admin/ask.h"

#include "search/indexer.h"

struct indexing {
    struct ask *ask;
    struct search_index *index;
    struct search_wish wish;
    struct search_done sum;
    uint64_t mailboxes;
};

static bool
is_left(void *ctx)
{
    struct ask *ask = ctx;

    return !ask->answer->pause(ask->answer->ctx, 0);
}

static enum errcode
index_one(struct indexing *in, mbid_t id, struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct search_done done = {0};
    struct mailbox mb;

    enum errcode rc = search_update(in->index, id, &in->wish, &done, err);
    if (rc == ERR_CORRUPT) /* it was thrown away: from the start */
        rc = search_update(in->index, id, &in->wish, &done, err);
    if (rc != ERR_OK)
        return rc;
    AUTO(store_release)
    struct store_snap *snap = store_snapshot(in->ask->store);
    rc = snap_mailbox(snap, id, &a, &mb, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    if (rc != ERR_OK)
        return rc;
    in->mailboxes++;
    in->sum.messages += done.messages;
    in->sum.skipped += done.skipped;
    in->sum.bytes += done.bytes;
    struct dlist_printer *p = ask_row(in->ask, "MAILBOX");
    dlist_str(p, "NAME", mb.name);
    dlist_u64(p, "MESSAGES", done.messages);
    dlist_u64(p, "SKIPPED", done.skipped);
    return ask_row_end(in->ask, err);
}

static enum errcode
choose(struct ask *ask, struct ask_mailboxes *ret, struct error *err)
{
    bool tree = ask_flag(ask, "TREE"), users = ask_flag(ask, "USERS");
    const struct dlist *d = ask_list(ask, "NAMES");
    enum errcode rc = ERR_OK;

    if (d == NULL)
        return ask_mailboxes_below(ask, "", NULL, NULL, ret, err);
    for (; rc == ERR_OK && d != NULL; d = d->next)
        rc = users ? ask_mailboxes_of(ask, d->text, ret, err)
                   : ask_mailboxes_named(ask, d->text, tree, ret, err);
    return rc;
}

static enum errcode
open_index(struct indexing *in, struct search_index **ret_own,
           struct error *err)
{
    struct indexer_options o;
    struct ask *ask = in->ask;

    if (!indexer_options_from_config(ask->cfg, &o))
        return error_set(err, ERR_UNSUPPORTED,
                         "search_engine is none in imapd.conf: there is no "
                         "index");
    if (ask->host->index != NULL)
        return ask->host->index(ask->host->index_ctx, &in->index, err);
    AUTO(xfree) char *dir = indexer_dir(ask->store);
    enum errcode rc =
        search_index_open(ask->env, dir, ask->store, ret_own, err);
    in->index = *ret_own;
    return rc;
}

enum errcode
admin_index(struct ask *ask, struct error *err)
{
    struct indexing in = {
        .ask = ask,
        .wish = {.rebuild = ask_flag(ask, "REBUILD"),
                 .compact = ask_flag(ask, "COMPACT"),
                 .stop = is_left,
                 .stop_ctx = ask},
    };
    struct ask_mailboxes m = {0};
    AUTO(search_index_close) struct search_index *own = NULL;

    enum errcode rc = open_index(&in, &own, err);
    if (rc == ERR_OK)
        rc = choose(ask, &m, err);
    for (size_t i = 0; rc == ERR_OK && i < m.n; i++) {
        rc = index_one(&in, m.ids[i], err);
        if (rc == ERR_OK)
            rc = ask_progress(ask, i + 1, m.n, err);
    }
    ask_mailboxes_free(&m);
    if (rc == ERR_OK)
        rc = search_index_flush(in.index, err);
    if (rc != ERR_OK)
        return rc;
    struct dlist_printer *p = ask_row(ask, "SUM");
    dlist_u64(p, "MAILBOXES", in.mailboxes);
    dlist_u64(p, "MESSAGES", in.sum.messages);
    dlist_u64(p, "SKIPPED", in.sum.skipped);
    dlist_u64(p, "BYTES", in.sum.bytes);
    return ask_row_end(ask, err);
}
