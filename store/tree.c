/*
 * store/tree.c - reading the tree of digests: no more than walks over tables,
 * each row hashed as it goes into its owner's digest.
 */
#include "store/tree.h"

#include "store/names.h"
#include "store/snap_private.h"

static enum errcode
owner_digest(struct span value, uint64_t *ret, struct error *err)
{
    struct rd r = rd_init(value);

    *ret = rd_u64le(&r);
    return rd_done(&r) ? ERR_OK
                       : error_set(err, ERR_CORRUPT,
                                   "the digest of a user does not decode");
}

enum errcode
snap_tree_each_user(struct store_snap *snap, const char *after,
                    bool (*call)(void *ctx, const char *user, uint64_t digest),
                    void *ctx, struct error *err)
{
    struct key table, from = {0};
    struct span key, value;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    bool more = true;
    enum errcode rc = ERR_OK;

    if (after != NULL && strlen(after) <= USER_MAX)
        (void)key_text(&from, TAB_DIGEST, span_str(after));
    struct kv_iter *it =
        kv_iter_open(snap->kv, snap->view, KV_STATE,
                     key_table(&table, TAB_DIGEST), key_span(&from));
    while (rc == ERR_OK && more && kv_iter_next(it, &key, &value)) {
        uint64_t digest = 0;
        struct span user = span_skip(key, 1);
        if (after != NULL && span_eq_str(user, after))
            continue;
        rc = owner_digest(value, &digest, err);
        arena_reset(&a);
        if (rc == ERR_OK)
            more = call(ctx, arena_str(&a, user), digest);
    }
    enum errcode end = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? end : rc;
}

enum errcode
snap_tree_user(struct store_snap *snap, const char *user, uint64_t *ret,
               struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct key k;

    if (strlen(user) > USER_MAX)
        return error_set(err, ERR_NOTFOUND, "no such user");
    enum errcode rc =
        kv_get(snap->kv, snap->view, KV_STATE,
               key_text(&k, TAB_DIGEST, span_str(user)), &value, err);
    if (rc == ERR_NOTFOUND)
        return error_set(err, ERR_NOTFOUND, "no such user");
    return rc == ERR_OK ? owner_digest(buf_span(&value), ret, err) : rc;
}

struct owned {
    struct store_snap *snap;
    const char *user;
    bool (*call)(void *ctx, const struct mailbox *mb, uint64_t hash);
    void *ctx;
    bool more;
    enum errcode rc;
    struct error *err;
    struct arena a;
};

static bool
tell_owned(void *ctx, const struct mailbox *mb)
{
    struct owned *o = ctx;
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct key k;

    arena_reset(&o->a);
    if (strcmp(row_owner_of_name(mb->name, &o->a), o->user) != 0)
        return true;
    struct span key = key_mailbox(&k, mb->id);
    o->rc = kv_get(o->snap->kv, o->snap->view, KV_STATE, key, &value, o->err);
    if (o->rc == ERR_OK)
        o->more = o->call(o->ctx, mb, row_hash(key, buf_span(&value)));
    return o->more && o->rc == ERR_OK;
}

/*
 * Those that nobody owns: all others are below "user." and "DELETED.user.",
 * which are jumped over, since there may be half a million.
 */
static enum errcode
each_of_nobody(struct owned *o, struct error *err)
{
    static const char *const jumps[][2] = {{"user.", "user/"},
                                           {"DELETED.user.", "DELETED.user/"}};
    struct key table, from = {0};
    enum errcode rc = ERR_OK;
    bool jumped = true;

    while (rc == ERR_OK && jumped) {
        AUTO(arena_free) struct arena a = ARENA_INIT;
        struct span key, value;
        jumped = false;
        struct kv_iter *it =
            kv_iter_open(o->snap->kv, o->snap->view, KV_STATE,
                         key_table(&table, TAB_NAME), key_span(&from));
        while (rc == ERR_OK && o->rc == ERR_OK && o->more && !jumped &&
               kv_iter_next(it, &key, &value)) {
            struct mailbox mb;
            struct rd r = rd_init(value);
            for (size_t i = 0; i < ARRAY_LEN(jumps) && !jumped; i++) {
                jumped = span_starts(span_skip(key, 1), span_str(jumps[i][0]));
                if (jumped)
                    (void)key_text(&from, TAB_NAME, span_str(jumps[i][1]));
            }
            if (jumped)
                break;
            rc = snap_mailbox(o->snap, rd_u64le(&r), &a, &mb, err);
            if (rc == ERR_OK)
                (void)tell_owned(o, &mb);
            arena_reset(&a);
        }
        enum errcode end = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
        rc = rc == ERR_OK ? end : rc;
    }
    return rc;
}

enum errcode
snap_tree_each_mailbox(struct store_snap *snap, const char *user,
                       bool (*call)(void *ctx, const struct mailbox *mb,
                                    uint64_t hash),
                       void *ctx, struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct owned o = {.snap = snap,
                      .user = user,
                      .call = call,
                      .ctx = ctx,
                      .more = true,
                      .err = err};
    const char *inbox = "";

    if (user[0] != '\0' && name_inbox(user, &a, &inbox, err) != ERR_OK)
        return ERR_OK; /* such a one has none */
    enum errcode rc = user[0] == '\0'
                          ? each_of_nobody(&o, err)
                          : snap_each_mailbox(snap, inbox, tell_owned, &o, err);
    if (rc == ERR_OK && o.rc == ERR_OK && o.more && user[0] != '\0')
        rc = snap_each_mailbox(snap, arena_printf(&a, "DELETED.%s", inbox),
                               tell_owned, &o, err);
    arena_free(&o.a);
    return rc == ERR_OK ? o.rc : rc;
}

struct seers {
    struct store_snap *snap;
    bool (*call)(void *ctx, const char *seer);
    void *ctx;
    enum errcode rc;
    struct error *err;
};

/* False: it was told to stop, or S->rc says why. */
static bool
seers_in(struct seers *s, mbid_t id)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct span key, value, seer;
    struct key k;
    uint32_t chunk = 0;
    bool more = true;

    struct kv_iter *it =
        kv_iter_open(s->snap->kv, s->snap->view, KV_STATE,
                     key_of_mailbox(&k, TAB_SEEN, id), SPAN_EMPTY);
    while (more && kv_iter_next(it, &key, &value)) {
        arena_reset(&a);
        if (key_get_seen(key, &chunk, &seer))
            more = s->call(s->ctx, arena_str(&a, seer));
    }
    s->rc = kv_iter_close(&it, s->err);
    return more && s->rc == ERR_OK;
}

static bool
seers_of(void *ctx, const struct mailbox *mb, uint64_t hash)
{
    (void)hash;
    return seers_in(ctx, mb->id);
}

enum errcode
snap_tree_each_seer(struct store_snap *snap, const char *user,
                    bool (*call)(void *ctx, const char *seer), void *ctx,
                    struct error *err)
{
    struct seers s = {.snap = snap, .call = call, .ctx = ctx, .err = err};

    enum errcode rc = snap_tree_each_mailbox(snap, user, seers_of, &s, err);
    return rc == ERR_OK ? s.rc : rc;
}

enum errcode
snap_tree_each_seer_in(struct store_snap *snap, mbid_t id,
                       bool (*call)(void *ctx, const char *seer), void *ctx,
                       struct error *err)
{
    struct seers s = {.snap = snap, .call = call, .ctx = ctx, .err = err};

    (void)seers_in(&s, id);
    return s.rc;
}

/* ---- rows -------------------------------------------------------------- */

struct rows {
    struct store_snap *snap;
    struct span after;
    bool (*call)(void *ctx, struct span key, uint64_t hash);
    void *ctx;
    bool more;
    const char *user; /* not NULL: of a table by names, only this one's */
};

static enum errcode
each_below(struct rows *w, struct span prefix, struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct span key, value;
    struct span from = span_starts(w->after, prefix) ? w->after : SPAN_EMPTY;

    if (!w->more ||
        (from.n == 0 && w->after.n > 0 && span_cmp(w->after, prefix) > 0))
        return ERR_OK; /* all of it lies before */
    struct kv_iter *it =
        kv_iter_open(w->snap->kv, w->snap->view, KV_STATE, prefix, from);
    while (w->more && kv_iter_next(it, &key, &value)) {
        if (span_eq(key, w->after))
            continue;
        arena_reset(&a);
        if (w->user != NULL &&
            strcmp(row_owner_of_name(arena_str(&a, span_skip(key, 1)), &a),
                   w->user) != 0)
            continue;
        w->more = w->call(w->ctx, key, row_hash(key, value));
    }
    return kv_iter_close(&it, err);
}

static enum errcode
mailbox_rows(struct rows *w, mbid_t id, struct error *err)
{
    static const enum table tables[] = {TAB_ANNOT, TAB_KEYWORD, TAB_MESSAGE,
                                        TAB_SEEN};
    struct key k;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; rc == ERR_OK && i < ARRAY_LEN(tables); i++)
        rc = each_below(w, key_of_mailbox(&k, tables[i], id), err);
    return rc;
}

static enum errcode
user_rows(struct rows *w, const char *user, struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    const char *inbox = "";
    struct key k;

    if (name_inbox(user, &a, &inbox, err) != ERR_OK)
        return ERR_OK;
    w->user = user;
    enum errcode rc =
        each_below(w, key_text(&k, TAB_QUOTA, span_str(inbox)), err);
    w->user = NULL;
    if (rc != ERR_OK)
        return rc;
    struct span prefix = key_text(&k, TAB_USER, span_str(user));
    k.b[k.n++] = 0;
    prefix.n++;
    return each_below(w, prefix, err);
}

static enum errcode
common_rows(struct rows *w, struct error *err)
{
    struct key k;
    enum errcode rc = each_below(w, key_of_mailbox(&k, TAB_ANNOT, 0), err);

    if (rc == ERR_OK)
        rc = each_below(w, key_table(&k, TAB_DEDUP), err);
    if (rc == ERR_OK)
        rc = each_below(w, key_table(&k, TAB_EPOCH), err);
    w->user = "";
    if (rc == ERR_OK)
        rc = each_below(w, key_table(&k, TAB_QUOTA), err);
    w->user = NULL;
    return rc == ERR_OK ? each_below(w, key_table(&k, TAB_VALIDITY), err) : rc;
}

enum errcode
snap_tree_each_row(struct store_snap *snap, const char *user, mbid_t id,
                   struct span after,
                   bool (*call)(void *ctx, struct span key, uint64_t hash),
                   void *ctx, struct error *err)
{
    struct rows w = {
        .snap = snap, .after = after, .call = call, .ctx = ctx, .more = true};

    if (id != 0)
        return mailbox_rows(&w, id, err);
    return user[0] == '\0' ? common_rows(&w, err) : user_rows(&w, user, err);
}

/* ---- for a person ------------------------------------------------------ */

static void
add_printable(struct span s, struct buf *out)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= ' ' && s.p[i] < 127)
            buf_add_byte(out, s.p[i]);
        else
            buf_addf(out, "\\%02x", s.p[i]);
}

void
tree_describe_key(struct span key, struct buf *out)
{
    struct span entry, user;
    uint32_t uid = 0, chunk = 0;

    if (key.n == 0) {
        buf_add_str(out, "an empty key");
    } else if (key.p[0] == TAB_MESSAGE) {
        buf_addf(out, "UID %" PRIu32, key_get_uid(key));
    } else if (key.p[0] == TAB_ANNOT &&
               key_get_annot(key, &uid, &entry, &user)) {
        buf_addf(out, "UID %" PRIu32 " annotation ", uid);
        add_printable(entry, out);
    } else if (key.p[0] == TAB_SEEN && key_get_seen(key, &chunk, &user)) {
        buf_add_str(out, "seen by ");
        add_printable(user, out);
        buf_addf(out, ", UIDs from %" PRIu32, chunk << SEEN_CHUNK_BITS);
    } else if (key.p[0] == TAB_KEYWORD && key.n > 9) {
        buf_add_str(out, "keyword ");
        add_printable(span_skip(key, 9), out);
    } else if (key.p[0] == TAB_QUOTA) {
        buf_add_str(out, "quota of ");
        add_printable(span_skip(key, 1), out);
    } else {
        buf_addf(out, "row %c ",
                 key.p[0] >= ' ' && key.p[0] < 127 ? key.p[0] : '?');
        add_printable(span_skip(key, 1), out);
    }
}
