/*
 * csync/tree.c - both ends of the questions about the tree of digests.
 *
 * The answering end takes a view for each question, on a worker, and gives up
 * to PAGE entries of it; nothing is kept between two questions.
 */
#include "csync/tree.h"

#include <stdio.h>

#include "csync/session.h"
#include "store/tree.h"

#define PAGE 2000U
#define KEY_BYTES_MAX 1024U

/* ---- the side that answers --------------------------------------------- */

struct page {
    struct dlist_printer p;
    struct buf *out;
    size_t n;
    bool more;
    const char *after; /* mailboxes: up to this name all were told before */
};

static bool
is_full(struct page *pg)
{
    pg->more = pg->n == PAGE;
    pg->n++;
    return pg->more;
}

static void
begin_line(struct page *pg, const char *name)
{
    buf_add_str(pg->out, "* ");
    dlist_print_begin(&pg->p, pg->out, DLIST_SERVER);
    dlist_open_kv(&pg->p, name);
}

static void
end_line(struct page *pg)
{
    dlist_close(&pg->p);
    buf_add_str(pg->out, "\r\n");
}

static bool
add_user(void *ctx, const char *user, uint64_t digest)
{
    struct page *pg = ctx;

    if (is_full(pg))
        return false;
    begin_line(pg, "LOGUSER");
    dlist_str(&pg->p, "USER", user);
    dlist_hex64(&pg->p, "DIGEST", digest);
    end_line(pg);
    return true;
}

static bool
add_mailbox(void *ctx, const struct mailbox *mb, uint64_t hash)
{
    struct page *pg = ctx;

    begin_line(pg, "LOGMAILBOX");
    dlist_str(&pg->p, "NAME", mb->name);
    dlist_u64(&pg->p, "ID", mb->id);
    dlist_hex64(&pg->p, "HASH", hash);
    dlist_u64(&pg->p, "EXISTS", mb->exists);
    dlist_u64(&pg->p, "UIDNEXT", mb->uidnext);
    dlist_u64(&pg->p, "HIGHESTMODSEQ", mb->highestmodseq);
    end_line(pg);
    return true;
}

static bool
add_row(void *ctx, struct span key, uint64_t hash)
{
    struct page *pg = ctx;
    char hex[2 * KEY_BYTES_MAX + 1];

    if (is_full(pg))
        return false;
    if (key.n > KEY_BYTES_MAX)
        return true; /* no row has such a key (store/rows.h) */
    format_hex_bytes(key.p, key.n, hex);
    begin_line(pg, "LOGROW");
    dlist_str(&pg->p, "KEY", hex);
    dlist_hex64(&pg->p, "HASH", hash);
    end_line(pg);
    return true;
}

/* Lines of a page to S, and of which view they are. */
static void
finish_page(struct csync_session *s, struct store_snap *snap, struct page *pg)
{
    struct store_pos pos = snap_pos(snap);

    if (s->work_code == ERR_NOTFOUND) {
        s->work_code = ERR_OK; /* it is an answer like others */
        pg->more = false;
    }
    begin_line(pg, "LOGVIEW");
    dlist_u64(&pg->p, "LSN", pos.applied.lsn);
    dlist_hex64(&pg->p, "DIGEST", pos.digest);
    dlist_u64(&pg->p, "MORE", pg->more);
    end_line(pg);
}

static struct store_snap *
view_of(struct csync_session *s)
{
    const struct csync_instance *i = session_instance(s);

    return store_snapshot(i->store(i->ctx));
}

static const char *
text_arg(struct csync_session *s, const char *name)
{
    const char *value = NULL;

    if (s->args == NULL || !dlist_get_str(s->args, name, &s->arena, &value))
        return NULL;
    return value;
}

void
tree_work_users(struct csync_session *s)
{
    struct store_snap *snap = view_of(s);
    struct page pg = {.out = &s->work_out};
    const char *user = text_arg(s, "USER");
    uint64_t digest = 0;

    if (user == NULL) {
        s->work_code = snap_tree_each_user(snap, text_arg(s, "AFTER"), add_user,
                                           &pg, &s->work_err);
    } else {
        s->work_code = snap_tree_user(snap, user, &digest, &s->work_err);
        if (s->work_code == ERR_OK)
            (void)add_user(&pg, user, digest);
    }
    finish_page(s, snap, &pg);
    store_release(&snap);
}

void
tree_work_mailboxes(struct csync_session *s)
{
    const char *user = text_arg(s, "USER");

    if (user == NULL) {
        s->work_code =
            error_set(&s->work_err, ERR_PROTO, "MAILBOXES without USER");
        return;
    }
    struct store_snap *snap = view_of(s);
    struct page pg = {.out = &s->work_out};
    s->work_code =
        snap_tree_each_mailbox(snap, user, add_mailbox, &pg, &s->work_err);
    finish_page(s, snap, &pg);
    store_release(&snap);
}

void
tree_work_rows(struct csync_session *s)
{
    const char *user = text_arg(s, "USER");
    const char *after = text_arg(s, "AFTER");
    uint8_t key[KEY_BYTES_MAX];
    size_t n = after == NULL ? 0 : strlen(after) / 2;
    uint64_t id = 0;

    if (user == NULL || n > sizeof(key) ||
        (n > 0 && !parse_hex_bytes(span_str(after), key, n))) {
        s->work_code = error_set(&s->work_err, ERR_PROTO,
                                 "ROWS without USER, or a bad AFTER");
        return;
    }
    (void)!dlist_get_u64(s->args, "MAILBOX", &id);
    struct store_snap *snap = view_of(s);
    struct page pg = {.out = &s->work_out};
    s->work_code = snap_tree_each_row(snap, user, id, span_of(key, n), add_row,
                                      &pg, &s->work_err);
    finish_page(s, snap, &pg);
    store_release(&snap);
}

/* ---- the side that asks ------------------------------------------------ */

struct asked {
    struct arena *arena;
    struct tree_view view;
    bool has_view;
    struct tree_user *users;
    struct tree_mailbox *mailboxes;
    struct tree_row *rows;
    size_t n, cap;
    bool bad;
};

/* Room for one more of SIZE bytes in V. */
static void *
grown(struct asked *q, void *v, size_t size)
{
    if (q->n < q->cap)
        return v;
    size_t cap = q->cap == 0 ? 64 : 2 * q->cap;
    void *to = arena_array(q->arena, cap, size);
    if (q->n > 0)
        memcpy(to, v, q->n * size);
    q->cap = cap;
    return to;
}

static void
on_row(struct asked *q, const struct dlist *d)
{
    struct span hex = SPAN_EMPTY;
    struct tree_row *r = grown(q, q->rows, sizeof(*r));

    q->rows = r;
    r += q->n;
    if (!dlist_get_text(d, "KEY", &hex) || hex.n % 2 != 0 ||
        hex.n > (size_t)2 * KEY_BYTES_MAX ||
        !dlist_get_hex64(d, "HASH", &r->hash)) {
        q->bad = true;
        return;
    }
    uint8_t *key = arena_alloc(q->arena, hex.n / 2 + 1);
    q->bad |= !parse_hex_bytes(hex, key, hex.n / 2);
    r->key = span_of(key, hex.n / 2);
    q->n++;
}

static void
on_line(void *ctx, const struct dlist *d)
{
    struct asked *q = ctx;
    uint64_t more = 0;

    if (span_eq_str(d->name, "LOGUSER")) {
        struct tree_user *u = q->users = grown(q, q->users, sizeof(*u));
        u += q->n++;
        q->bad |= !dlist_get_str(d, "USER", q->arena, &u->name) ||
                  !dlist_get_hex64(d, "DIGEST", &u->digest);
    } else if (span_eq_str(d->name, "LOGMAILBOX")) {
        struct tree_mailbox *m = q->mailboxes =
            grown(q, q->mailboxes, sizeof(*m));
        m += q->n++;
        q->bad |= !dlist_get_str(d, "NAME", q->arena, &m->name) ||
                  !dlist_get_u64(d, "ID", &m->id) ||
                  !dlist_get_hex64(d, "HASH", &m->hash) ||
                  !dlist_get_u32(d, "EXISTS", &m->exists) ||
                  !dlist_get_u32(d, "UIDNEXT", &m->uidnext) ||
                  !dlist_get_u64(d, "HIGHESTMODSEQ", &m->highestmodseq);
    } else if (span_eq_str(d->name, "LOGROW")) {
        on_row(q, d);
    } else if (span_eq_str(d->name, "LOGVIEW")) {
        q->has_view = dlist_get_u64(d, "LSN", &q->view.lsn) &&
                      dlist_get_hex64(d, "DIGEST", &q->view.digest) &&
                      dlist_get_u64(d, "MORE", &more);
        q->view.more = more != 0;
    }
}

/* NAME and VALUE pairs of ARGS, up to a NULL; those without a value are left
 * out. */
static enum errcode
ask(struct csync_client *c, const char *verb, const char *const *args,
    struct asked *q, struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct dlist_printer p;

    buf_add_str(&line, "LOG ");
    dlist_print_begin(&p, &line, DLIST_CLIENT);
    dlist_open_kv(&p, verb);
    for (; args[0] != NULL; args += 2)
        if (args[1] != NULL)
            dlist_str(&p, args[0], args[1]);
    dlist_close(&p);
    enum errcode rc = csync_command(c, buf_span(&line), on_line, q, err);
    if (rc == ERR_OK && (q->bad || !q->has_view))
        rc = error_set(err, ERR_PROTO, "a malformed answer to LOG %s", verb);
    return rc;
}

/* What comes is in order, and behind what was asked from: or a peer could go on
 * for ever. */
static bool
is_behind(struct span key, struct span after)
{
    const int c = memcmp(key.p, after.p, MIN(key.n, after.n));

    return c > 0 || (c == 0 && key.n > after.n);
}

static enum errcode
out_of_order(struct error *err)
{
    return error_set(err, ERR_PROTO, "an answer about digests is not in order");
}

enum errcode
tree_ask_users(struct csync_client *c, const char *after, struct arena *a,
               struct tree_view *ret_view, struct tree_user **ret,
               size_t *ret_n, struct error *err)
{
    const char *const args[] = {"AFTER", after, NULL};
    struct asked q = {.arena = a};

    enum errcode rc = ask(c, "USERS", args, &q, err);
    if (rc != ERR_OK)
        return rc;
    for (size_t i = 0; i < q.n; i++) {
        const char *before = i == 0 ? after : q.users[i - 1].name;
        if (before != NULL && strcmp(q.users[i].name, before) <= 0)
            return out_of_order(err);
    }
    *ret_view = q.view;
    *ret = q.users;
    *ret_n = q.n;
    return ERR_OK;
}

enum errcode
tree_ask_user(struct csync_client *c, const char *user, struct arena *a,
              struct tree_view *ret_view, uint64_t *ret, struct error *err)
{
    const char *const args[] = {"USER", user, NULL};
    struct asked q = {.arena = a};

    enum errcode rc = ask(c, "USERS", args, &q, err);
    if (rc != ERR_OK)
        return rc;
    *ret_view = q.view;
    if (q.n == 0)
        return error_set(err, ERR_NOTFOUND, "no such user");
    *ret = q.users[0].digest;
    return ERR_OK;
}

enum errcode
tree_ask_mailboxes(struct csync_client *c, const char *user, struct arena *a,
                   struct tree_view *ret_view, struct tree_mailbox **ret,
                   size_t *ret_n, struct error *err)
{
    const char *const args[] = {"USER", user, NULL};
    struct asked q = {.arena = a};

    enum errcode rc = ask(c, "MAILBOXES", args, &q, err);
    if (rc != ERR_OK)
        return rc;
    *ret_view = q.view;
    *ret = q.mailboxes;
    *ret_n = q.n;
    return ERR_OK;
}

enum errcode
tree_ask_rows(struct csync_client *c, const char *user, mbid_t id,
              struct span after, struct arena *a, struct tree_view *ret_view,
              struct tree_row **ret, size_t *ret_n, struct error *err)
{
    char hex[2 * KEY_BYTES_MAX + 1];
    char number[24];
    struct asked q = {.arena = a};

    ENSURE(after.n <= KEY_BYTES_MAX);
    format_hex_bytes(after.p, after.n, hex);
    snprintf(number, sizeof(number), "%" PRIu64, id);
    const char *const args[] = {"USER", user,    "MAILBOX",
                                number, "AFTER", after.n > 0 ? hex : NULL,
                                NULL};
    enum errcode rc = ask(c, "ROWS", args, &q, err);
    if (rc != ERR_OK)
        return rc;
    for (size_t i = 0; i < q.n; i++) {
        struct span before = i == 0 ? after : q.rows[i - 1].key;
        if (before.n > 0 && !is_behind(q.rows[i].key, before))
            return out_of_order(err);
    }
    *ret_view = q.view;
    *ret = q.rows;
    *ret_n = q.n;
    return ERR_OK;
}
