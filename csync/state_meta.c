/*
 * csync/state_meta.c - GET META and GET SEEN: what a user has beside mail.
 *
 * META names \Seen in the mailboxes that the user may see now, and what a peer
 * said, as there is no way from a user to the rows of table s.  What one has
 * seen where they had a right once, or in a mailbox that was deleted, is still
 * here and comes back with the right.  So that META is silent of a mailbox does
 * not mean that the user has seen nothing there: who holds something of it asks
 * SEEN, which goes by mailbox and minds no rights.
 */
#include "csync/state.h"

#include <stdlib.h>

#include <openssl/evp.h>

#include "store/names.h"

#define SEEN_RANGES_MAX 200000U

/* ---- META ---------------------------------------------------------------- */

struct meta {
    struct state_call *c;
    struct store_snap *snap;
    const char *user;
    struct buf names; /* of LSUB, printed */
    struct dlist_printer list;
    char active[MAILBOX_NAME_MAX + 1];
    size_t said, nsaid_cap;
    const char **uniqueids; /* of which SEEN was said */
    enum errcode rc;
    struct error *err;
};

static enum errcode
say_seen(struct meta *m, const struct sync_seen *s)
{
    struct dlist_printer p;

    bystate_begin_line(m->c, &p);
    sync_seen_print(s, &p);
    return bystate_end_line(m->c, m->err);
}

/* What a peer said stands as it said it. */
static bool
on_seen_text(void *ctx, const char *name, struct span value)
{
    struct meta *m = ctx;
    struct sync_seen s = {.uniqueid = name};

    if (!sync_seen_decode(value, &s))
        return true;
    if (m->said == m->nsaid_cap) {
        m->nsaid_cap = m->nsaid_cap * 2 + 16;
        m->uniqueids =
            xrealloc(m->uniqueids, m->nsaid_cap * sizeof(*m->uniqueids));
    }
    m->uniqueids[m->said++] = arena_str(&m->c->arena, span_str(name));
    m->rc = say_seen(m, &s);
    return m->rc == ERR_OK;
}

/* Rows come by name, so what was said is sorted. */
static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool
on_visible(void *ctx, const struct mailbox *mb)
{
    struct meta *m = ctx;
    AUTO(uidset_free) struct uidset uids = UIDSET_INIT;
    AUTO(buf_free) struct buf text = BUF_INIT;
    const char *uniqueid = mb->uniqueid.s;

    if (!mailbox_has_own_seen(mb, m->user) ||
        (m->said > 0 && bsearch(&uniqueid, m->uniqueids, m->said,
                                sizeof(*m->uniqueids), compare_names) != NULL))
        return true;
    m->rc = snap_seen(m->snap, mb, m->user, &uids, m->err);
    if (m->rc != ERR_OK || uids.n == 0)
        return m->rc == ERR_OK;
    uidset_format(&uids, &text);
    m->rc = say_seen(m, &(struct sync_seen){
                            .uniqueid = uniqueid,
                            .last_uid = uids.r[uids.n - 1].last,
                            .uids = buf_span(&text),
                        });
    return m->rc == ERR_OK;
}

static bool
on_subscription(void *ctx, const char *name, struct span value)
{
    struct meta *m = ctx;

    (void)value;
    dlist_str(&m->list, NULL, name);
    return true;
}

static bool
on_active(void *ctx, const char *name, struct span value)
{
    struct meta *m = ctx;

    (void)name;
    if (value.n < sizeof(m->active))
        memcpy(m->active, value.p, value.n);
    return true;
}

static enum errcode
say_script(struct meta *m, const char *file, const struct guid *guid,
           bool is_active)
{
    struct dlist_printer p;

    bystate_begin_line(m->c, &p);
    dlist_open_kv(&p, "SIEVE");
    dlist_str(&p, "FILENAME", file);
    dlist_u64(&p, "LAST_UPDATE", 0);
    dlist_guid(&p, "GUID", guid);
    dlist_u64(&p, "ISACTIVE", is_active ? 1 : 0);
    dlist_close(&p);
    return bystate_end_line(m->c, m->err);
}

static bool
on_script(void *ctx, const char *name, struct span value)
{
    struct meta *m = ctx;
    uint8_t sha1[EVP_MAX_MD_SIZE];
    struct guid guid = {0};

    ENSURE(EVP_Digest(value.p, value.n, sha1, NULL, EVP_sha1(), NULL) == 1);
    memcpy(guid.b, sha1, GUID_BYTES);
    m->rc = say_script(m, arena_printf(&m->c->arena, "%s.script", name), &guid,
                       false);
    return m->rc == ERR_OK;
}

enum errcode
bystate_print_meta(struct state_call *c, struct store_snap *snap,
                   const char *user, struct error *err)
{
    struct meta m = {.c = c, .snap = snap, .user = user, .err = err};

    enum errcode rc =
        snap_user_each(snap, user, USER_SEEN_TEXT, on_seen_text, &m, err);
    if (rc == ERR_OK && m.rc == ERR_OK)
        rc = snap_each_visible(snap, user, on_visible, &m, err);
    free(m.uniqueids);
    if (rc == ERR_OK && m.rc == ERR_OK) {
        dlist_print_begin(&m.list, &m.names, DLIST_SERVER);
        rc = snap_user_each(snap, user, USER_SUBSCRIPTION, on_subscription, &m,
                            err);
    }
    if (rc == ERR_OK && m.rc == ERR_OK && m.names.n > 0) {
        buf_add_str(&c->out, "* LSUB (");
        buf_add(&c->out, buf_span(&m.names));
        buf_add_byte(&c->out, ')');
        rc = bystate_end_line(c, err);
    }
    buf_free(&m.names);
    if (rc == ERR_OK && m.rc == ERR_OK)
        rc = snap_user_each(snap, user, USER_SIEVE, on_script, &m, err);
    if (rc == ERR_OK && m.rc == ERR_OK)
        rc = snap_user_each(snap, user, USER_SIEVE_ACTIVE, on_active, &m, err);
    if (rc == ERR_OK && m.rc == ERR_OK && m.active[0] != '\0')
        rc = say_script(&m, arena_printf(&c->arena, "%s.bc", m.active),
                        &(struct guid){0}, true);
    return rc == ERR_OK ? m.rc : rc;
}

enum errcode
bystate_get_meta(struct state_call *c, struct store_snap *snap,
                 struct error *err)
{
    const char *user;

    enum errcode rc = bystate_one_text(c, &user, err);
    if (rc == ERR_OK && strlen(user) > USER_MAX)
        return ERR_OK;
    return rc == ERR_OK ? bystate_print_meta(c, snap, user, err) : rc;
}

/* ---- SEEN ---------------------------------------------------------------- */

/* What USER has seen in MB: as a peer said it, or else as it is here. */
static enum errcode
load_seen(struct store_snap *snap, const struct mailbox *mb, const char *user,
          struct uidset *ret, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct sync_seen s;

    enum errcode rc =
        snap_user_get(snap, user, USER_SEEN_TEXT, mb->uniqueid.s, &value, err);
    if (rc == ERR_NOTFOUND)
        return snap_seen(snap, mb, user, ret, err);
    if (rc != ERR_OK)
        return rc;
    if (!sync_seen_decode(buf_span(&value), &s) ||
        (s.uids.n > 0 && !uidset_parse(s.uids, 0, SEEN_RANGES_MAX, ret)))
        return error_set(err, ERR_CORRUPT, "what a peer said that %s has seen",
                         user);
    return ERR_OK;
}

/* Is a message, or tombstone, of mailbox ID in just one of A and B? */
static enum errcode
tell_apart(struct store_snap *snap, mbid_t id, const struct uidset *a,
           const struct uidset *b, bool *ret, struct error *err)
{
    struct message m;
    bool differ = false;

    if (uidset_eq(a, b)) {
        *ret = false;
        return ERR_OK;
    }
    struct msg_iter *it = snap_messages(snap, id, 1, true);
    while (!differ && msg_iter_next(it, &m))
        differ = uidset_has(a, m.uid) != uidset_has(b, m.uid);
    enum errcode rc = msg_iter_close(&it, err);
    if (rc == ERR_OK)
        *ret = differ;
    return rc;
}

/*
 * SEEN %(USERID u UNIQUEID i ... SEENUIDS s): * SEEN as META has it if USERID
 * has seen anything else than s of the messages that are in that mailbox, even
 * where they may not see it; no line where s is as good, where there is no such
 * mailbox, or \Seen in it is not the user's own.
 */
enum errcode
bystate_get_seen(struct state_call *c, struct store_snap *snap,
                 struct error *err)
{
    AUTO(uidset_free) struct uidset theirs = UIDSET_INIT, ours = UIDSET_INIT;
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct dlist_printer p;
    struct sync_seen s;
    struct mailbox mb;
    bool differ = false;

    if (c->args == NULL)
        return error_set(err, ERR_SYNTAX, "USERID is wanted");
    enum errcode rc = sync_seen_read(c->args, &c->arena, &s, err);
    if (rc != ERR_OK)
        return rc;
    if (s.user == NULL || s.user[0] == '\0' ||
        (s.uids.n > 0 && !uidset_parse(s.uids, 0, SEEN_RANGES_MAX, &theirs)))
        return error_set(err, ERR_SYNTAX, "USERID and SEENUIDS are wanted");
    rc = snap_mailbox_by_uniqueid(snap, s.uniqueid, &c->arena, &mb, err);
    if (rc == ERR_NOTFOUND ||
        (rc == ERR_OK && !mailbox_has_own_seen(&mb, s.user)))
        return ERR_OK;
    if (rc == ERR_OK)
        rc = load_seen(snap, &mb, s.user, &ours, err);
    if (rc == ERR_OK)
        rc = tell_apart(snap, mb.id, &ours, &theirs, &differ, err);
    if (rc != ERR_OK || !differ)
        return rc;
    uidset_format(&ours, &text);
    bystate_begin_line(c, &p);
    sync_seen_print(
        &(struct sync_seen){
            .uniqueid = s.uniqueid,
            .last_uid = ours.n > 0 ? ours.r[ours.n - 1].last : 0,
            .uids = buf_span(&text),
        },
        &p);
    return bystate_end_line(c, err);
}
