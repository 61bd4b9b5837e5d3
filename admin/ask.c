/*
 * admin/ask.c - what all handlers need: arguments, rows, progress, commits, and
 * which mailboxes are meant.
 */
#include "admin/ask.h"

#include <stdlib.h>

#include "mime/header.h"
#include "mime/text.h"

#define PROGRESS_EVERY_NS UINT64_C(250000000)
#define HOLD_BACK_MAX_MS 500U
#define RANGES_MAX 100000U
#define FIELD_BYTES 1000U

/* ---- arguments --------------------------------------------------------- */

const char *
ask_text(struct ask *ask, const char *name)
{
    const char *text = NULL;

    if (ask->args == NULL ||
        !dlist_get_str(ask->args, name, &ask->arena, &text))
        return NULL;
    return text;
}

bool
ask_flag(const struct ask *ask, const char *name)
{
    uint32_t v = 0;

    return ask->args != NULL && dlist_get_u32(ask->args, name, &v) && v != 0;
}

enum errcode
ask_u64(const struct ask *ask, const char *name, uint64_t *ret,
        struct error *err)
{
    if (ask->args == NULL || dlist_get(ask->args, name) == NULL)
        return ERR_OK;
    if (!dlist_get_u64(ask->args, name, ret))
        return error_set(err, ERR_SYNTAX, "%s is not a number", name);
    return ERR_OK;
}

const struct dlist *
ask_list(const struct ask *ask, const char *name)
{
    const struct dlist *d =
        ask->args == NULL ? NULL : dlist_get(ask->args, name);

    return d == NULL || d->type != DLIST_LIST ? NULL : d->child;
}

enum errcode
ask_uids(struct ask *ask, const char *name, struct uidset *ret, bool *ret_given,
         struct error *err)
{
    const char *text = ask_text(ask, name);

    *ret_given = text != NULL;
    if (text == NULL ||
        uidset_parse(span_str(text), UINT32_MAX, RANGES_MAX, ret))
        return ERR_OK;
    return error_set(err, ERR_SYNTAX, "\"%.100s\" is not a set of UIDs", text);
}

/* ---- rows -------------------------------------------------------------- */

struct dlist_printer *
ask_row(struct ask *ask, const char *name)
{
    buf_clear(&ask->line);
    buf_add_str(&ask->line, "* ");
    dlist_print_begin(&ask->row, &ask->line, DLIST_SERVER);
    dlist_open_kv(&ask->row, name);
    return &ask->row;
}

static enum errcode
nobody_waits(struct error *err)
{
    return error_set(err, ERR_CLOSED, "nobody waits for the answer any more");
}

enum errcode
ask_row_end(struct ask *ask, struct error *err)
{
    dlist_close(&ask->row);
    if (!ask->answer->line(ask->answer->ctx, buf_span(&ask->line)))
        return nobody_waits(err);
    return ERR_OK;
}

enum errcode
ask_progress(struct ask *ask, uint64_t done, uint64_t total, struct error *err)
{
    uint64_t now = env_mono_ns(ask->env);

    if (now - ask->told_ns < PROGRESS_EVERY_NS)
        return ERR_OK;
    ask->told_ns = now;
    struct dlist_printer *p = ask_row(ask, "PROGRESS");
    dlist_u64(p, "DONE", done);
    dlist_u64(p, "TOTAL", total);
    return ask_row_end(ask, err);
}

void
ask_field(struct dlist_printer *p, const char *key, struct span header,
          const char *field)
{
    AUTO(buf_free) struct buf raw = BUF_INIT;
    AUTO(buf_free) struct buf text = BUF_INIT;

    if (mime_header_get(header, span_str(field), 0, &raw))
        mime_header_decode(buf_span(&raw), &text);
    dlist_span(p, key, span_sub(buf_span(&text), 0, FIELD_BYTES));
}

/* ---- commits ----------------------------------------------------------- */

enum errcode
ask_commit(struct ask *ask, struct store_txn *txn, struct error *err)
{
    uint64_t began = env_mono_ns(ask->env);

    enum errcode rc = store_commit(ask->store, txn, err);
    if (rc != ERR_OK)
        return rc;
    uint64_t took_ms = (env_mono_ns(ask->env) - began) / 1000000;
    unsigned hold_ms =
        ask->host->is_live
            ? (unsigned)MIN(took_ms + 1, (uint64_t)HOLD_BACK_MAX_MS)
            : 0;
    if (!ask->answer->pause(ask->answer->ctx, hold_ms))
        return nobody_waits(err);
    return ERR_OK;
}

/* ---- names ------------------------------------------------------------- */

enum errcode
ask_internal(struct ask *ask, struct span external, struct arena *a,
             const char **ret, struct error *err)
{
    enum errcode rc =
        name_to_internal(&ask->ns, NULL, true, external, a, ret, err);

    if (rc != ERR_OK)
        return error_prefix(err, "%.*s", SPAN_FMT(span_sub(external, 0, 200)));
    return rc;
}

const char *
ask_external(struct ask *ask, const char *internal, struct arena *a)
{
    return name_to_external(&ask->ns, NULL, true, internal, a);
}

const char *
ask_prefix(struct ask *ask, struct span external)
{
    char *name = arena_str(&ask->arena, external);

    for (char *c = name; ask->ns.sep != '.' && *c != '\0'; c++)
        *c = *c == '.' ? '^' : *c == ask->ns.sep ? '.' : *c;
    return name;
}

/* ---- mailboxes --------------------------------------------------------- */

void
ask_mailboxes_free(struct ask_mailboxes *m)
{
    free(m->ids);
    *m = (struct ask_mailboxes){0};
}

struct gather {
    struct ask_mailboxes *to;
    bool (*call)(void *ctx, const struct mailbox *mb);
    void *ctx;
    const char *exactly; /* NULL, or the name with what is below it */
    size_t exactly_n;
    bool tree;
};

static bool
take_mailbox(void *ctx, const struct mailbox *mb)
{
    struct gather *g = ctx;
    struct ask_mailboxes *m = g->to;

    if (g->exactly != NULL && mb->name[g->exactly_n] != '\0' &&
        (!g->tree || mb->name[g->exactly_n] != '.'))
        return true;
    if (g->call != NULL && !g->call(g->ctx, mb))
        return true;
    if (m->n == m->room) {
        m->room = m->room == 0 ? 64 : 2 * m->room;
        m->ids = xrealloc(m->ids, m->room * sizeof(*m->ids));
    }
    m->ids[m->n++] = mb->id;
    return true;
}

static enum errcode
gather(struct ask *ask, const char *prefix, struct gather *g, struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(ask->store);

    return snap_each_mailbox(snap, prefix, take_mailbox, g, err);
}

enum errcode
ask_mailboxes_below(struct ask *ask, const char *prefix,
                    bool (*call)(void *ctx, const struct mailbox *mb),
                    void *ctx, struct ask_mailboxes *ret, struct error *err)
{
    struct gather g = {.to = ret, .call = call, .ctx = ctx};

    return gather(ask, prefix, &g, err);
}

enum errcode
ask_mailboxes_named(struct ask *ask, struct span external, bool tree,
                    struct ask_mailboxes *ret, struct error *err)
{
    const char *internal = NULL;
    struct gather g = {.to = ret, .tree = tree};
    size_t had = ret->n;
    bool is_pattern = external.n > 0 && (external.p[external.n - 1] == '*' ||
                                         external.p[external.n - 1] == '%');

    enum errcode rc = ERR_OK;

    if (is_pattern) {
        internal = ask_prefix(ask, span_sub(external, 0, external.n - 1));
    } else {
        rc = ask_internal(ask, external, &ask->arena, &internal, err);
        if (rc != ERR_OK)
            return rc;
        g.exactly = internal;
        g.exactly_n = strlen(internal);
    }
    rc = gather(ask, internal, &g, err);
    if (rc == ERR_OK && ret->n == had)
        return error_set(err, ERR_NOTFOUND, "%.*s: there is no such mailbox",
                         SPAN_FMT(span_sub(external, 0, 300)));
    return rc;
}

enum errcode
ask_mailboxes_of(struct ask *ask, struct span user, struct ask_mailboxes *ret,
                 struct error *err)
{
    const char *inbox = NULL;
    struct gather g = {.to = ret, .tree = true};
    const char *name = arena_str(&ask->arena, user);
    size_t had = ret->n;

    enum errcode rc = name_inbox(name, &ask->arena, &inbox, err);
    if (rc != ERR_OK)
        return rc;
    g.exactly = inbox;
    g.exactly_n = strlen(inbox);
    rc = gather(ask, inbox, &g, err);
    if (rc == ERR_OK && ret->n == had)
        return error_set(err, ERR_NOTFOUND, "%.300s: there is no such user",
                         name);
    return rc;
}
