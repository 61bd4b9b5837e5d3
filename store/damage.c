/*
 * store/damage.c - the register of damage.
 *
 * All entries are in memory, sorted by what names them, and each has a local
 * row, so that a restart forgets nothing.  The rows are written past the
 * writer: nobody else touches them, and no other row depends on them.  One
 * that could not be written is found again after a restart.
 *
 * One lock, which is held over the write of a row; who waits for a repair, and
 * who repairs, sleep on one condition each.
 */
#include "store/damage.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "store/body_private.h"
#include "store/damage_private.h"
#include "store/history_private.h"
#include "store/snap_private.h"
#include "store/store_private.h"

#define DAMAGE_VERSION 1U
#define NAME_BYTES (1U + GUID_BYTES)
#define US_PER_S UINT64_C(1000000)
#define AGAIN_FIRST_US US_PER_S
#define AGAIN_MAX_US (600 * US_PER_S)

struct damages {
    struct env *env;
    struct kv *kv;
    pthread_mutex_t lock;
    pthread_cond_t work;   /* something for a repairer */
    pthread_cond_t change; /* something was healed, or given up */
    struct damage **v;     /* sorted */
    size_t n, cap;
    uint64_t healed;
    int attending;
    bool stopping;
};

/* ---- rows -------------------------------------------------------------- */

/* What names D: kind, then GUID, or file and offset. */
static struct span
name_of(const struct damage *d, uint8_t out[NAME_BYTES])
{
    memset(out, 0, NAME_BYTES);
    out[0] = (uint8_t)d->kind;
    if (d->kind == DAMAGE_BODY) {
        memcpy(out + 1, d->guid.b, GUID_BYTES);
        return span_of(out, NAME_BYTES);
    }
    for (unsigned i = 0; i < 8; i++) {
        out[1 + i] = (uint8_t)(d->file >> (56 - 8 * i));
        out[9 + i] = (uint8_t)(d->offset >> (56 - 8 * i));
    }
    return span_of(out, 17);
}

static struct span
key_of(const struct damage *d, struct key *k)
{
    uint8_t name[NAME_BYTES];
    struct span s = name_of(d, name);

    (void)key_local(k, LOCAL_DAMAGE);
    memcpy(k->b + k->n, s.p, s.n);
    k->n += s.n;
    return key_span(k);
}

void
damage_encode(const struct damage *d, struct buf *out)
{
    buf_add_byte(out, DAMAGE_VERSION);
    buf_add_byte(out, d->home);
    buf_add_byte(out, d->lost ? 1 : 0);
    buf_add_varint(out, d->part);
    buf_add_varint(out, d->file);
    buf_add_varint(out, d->offset);
    buf_add_varint(out, d->found_us);
    buf_add_varint(out, d->tried_us);
    buf_add_varint(out, d->tries);
    buf_add_blob(out, span_str(d->why));
}

enum errcode
damage_decode(struct span key, struct span value, struct damage *ret,
              struct error *err)
{
    struct damage d = {0};
    struct rd k = rd_init(span_skip(key, 2));
    struct rd r = rd_init(value);
    const uint8_t kind = rd_u8(&k);
    uint64_t file = 0;
    uint64_t offset = 0;

    if (kind == DAMAGE_BODY) {
        struct span guid = rd_span(&k, GUID_BYTES);
        if (!k.bad)
            memcpy(d.guid.b, guid.p, GUID_BYTES);
    } else {
        file = rd_u64be(&k);
        offset = rd_u64be(&k);
    }
    const uint8_t version = rd_u8(&r);
    d.home = rd_u8(&r);
    const uint8_t lost = rd_u8(&r);
    d.part = rd_varint32(&r);
    d.file = rd_varint(&r);
    d.offset = rd_varint(&r);
    d.found_us = rd_varint(&r);
    d.tried_us = rd_varint(&r);
    d.tries = rd_varint32(&r);
    struct span why = rd_blob(&r, DAMAGE_WHY_BYTES - 1);
    if (!rd_done(&k) || !rd_done(&r) || version != DAMAGE_VERSION ||
        kind < DAMAGE_BODY || kind > DAMAGE_PACK || lost > 1 ||
        d.home > BODY_IN_PACK ||
        (kind != DAMAGE_BODY && (file != d.file || offset != d.offset)))
        return error_set(err, ERR_CORRUPT, "malformed row of the damages");
    d.kind = (enum damage_kind)kind;
    d.lost = lost != 0;
    if (why.n > 0)
        memcpy(d.why, why.p, why.n);
    *ret = d;
    return ERR_OK;
}

/* Lock is held.  D NULL: the row of NAME goes. */
static void
write_row(struct damages *ds, const struct damage *name, bool is_there)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct kv_batch *b = kv_batch_new();
    struct error err = {0};
    struct key k;

    if (is_there) {
        damage_encode(name, &value);
        kv_batch_put(b, KV_STATE, key_of(name, &k), buf_span(&value));
    } else {
        kv_batch_delete(b, KV_STATE, key_of(name, &k));
    }
    if (kv_write(ds->kv, b, &err) != ERR_OK)
        log_warn(NULL, "store.damage_row",
                 "why=\"%s\" effect=\"known until the next start\"", err.text);
    kv_batch_free(&b);
}

/* ---- the sorted list --------------------------------------------------- */

/* Lock is held.  The place of D, or where it is to be put. */
static size_t
find(const struct damages *ds, const struct damage *d, bool *ret_there)
{
    uint8_t name[NAME_BYTES];
    uint8_t other[NAME_BYTES];
    struct span wanted = name_of(d, name);
    size_t low = 0;
    size_t high = ds->n;

    *ret_there = false;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = span_cmp(name_of(ds->v[mid], other), wanted);
        if (c == 0)
            *ret_there = true;
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Lock is held. */
static bool
insert(struct damages *ds, const struct damage *d)
{
    bool there;
    size_t at = find(ds, d, &there);

    if (there || ds->n == DAMAGE_MAX)
        return false;
    if (ds->n == ds->cap) {
        ds->cap = ds->cap * 2 + 16;
        ds->v = xrealloc(ds->v, ds->cap * sizeof(*ds->v));
    }
    memmove(&ds->v[at + 1], &ds->v[at], (ds->n - at) * sizeof(*ds->v));
    ds->v[at] = xmalloc(sizeof(*d));
    *ds->v[at] = *d;
    ds->n++;
    return true;
}

static enum errcode
read_rows(struct damages *ds, struct error *err)
{
    struct key k;
    struct span key;
    struct span value;
    enum errcode rc = ERR_OK;
    struct kv_iter *it = kv_iter_open(ds->kv, NULL, KV_STATE,
                                      key_local(&k, LOCAL_DAMAGE), SPAN_EMPTY);

    while (rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        struct damage d;
        rc = damage_decode(key, value, &d, err);
        if (rc == ERR_OK)
            (void)insert(ds, &d);
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? closed : rc;
}

enum errcode
damages_open(struct env *env, struct kv *kv, struct damages **ret,
             struct error *err)
{
    struct damages *ds = xcalloc(1, sizeof(*ds));
    pthread_condattr_t attr;

    ds->env = env;
    ds->kv = kv;
    pthread_mutex_init(&ds->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&ds->work, &attr);
    pthread_cond_init(&ds->change, &attr);
    pthread_condattr_destroy(&attr);
    enum errcode rc = read_rows(ds, err);
    if (rc != ERR_OK)
        damages_close(&ds);
    else
        *ret = ds;
    return rc;
}

void
damages_stop(struct damages *ds)
{
    if (ds == NULL)
        return;
    pthread_mutex_lock(&ds->lock);
    ds->stopping = true;
    pthread_cond_broadcast(&ds->work);
    pthread_cond_broadcast(&ds->change);
    pthread_mutex_unlock(&ds->lock);
}

void
damages_close(struct damages **pd)
{
    struct damages *ds = *pd;

    *pd = NULL;
    if (ds == NULL)
        return;
    for (size_t i = 0; i < ds->n; i++)
        free(ds->v[i]);
    free(ds->v);
    pthread_cond_destroy(&ds->work);
    pthread_cond_destroy(&ds->change);
    pthread_mutex_destroy(&ds->lock);
    free(ds);
}

/* ---- noting ------------------------------------------------------------ */

static void
describe(const struct damage *d, char out[160])
{
    char guid[GUID_TEXT_BYTES];

    switch (d->kind) {
    case DAMAGE_BODY:
        snprintf(out, 160,
                 "kind=body guid=%s part=%" PRIu32 " %s=%" PRIx64
                 " offset=%" PRIu64,
                 guid_text(&d->guid, guid), d->part,
                 d->home == BODY_IN_PACK  ? "pack"
                 : d->home == BODY_IN_LOG ? "segment"
                                          : "nowhere",
                 d->file, d->offset);
        return;
    case DAMAGE_LOG:
        snprintf(out, 160, "kind=log segment=%" PRIx64 " offset=%" PRIu64,
                 d->file, d->offset);
        return;
    case DAMAGE_PACK:
        snprintf(out, 160, "kind=pack pack=%" PRIx64, d->file);
        return;
    }
}

void
store_damage_note(struct store *store, const struct damage *d)
{
    struct damages *ds = store_damages(store);
    struct damage own = *d;
    char text[160];

    if (own.found_us == 0)
        own.found_us = env_wall_us(ds->env);
    pthread_mutex_lock(&ds->lock);
    const bool is_new = insert(ds, &own);
    if (is_new) {
        write_row(ds, &own, true);
        pthread_cond_broadcast(&ds->work);
    }
    pthread_mutex_unlock(&ds->lock);
    if (!is_new)
        return;
    describe(&own, text);
    log_error(NULL, "store.damaged",
              "%s why=\"%s\" effect=\"not given out; the twin is asked\"", text,
              own.why);
}

/* Has a message this body, or one that was purged and is kept? */
static enum errcode
is_referenced(struct store *store, const struct guid *guid, bool *ret,
              struct error *err)
{
    struct key k;
    struct span key;
    struct span value;
    struct span prefix = key_guidref(&k, guid, 0, 0);

    prefix.n = 1 + GUID_BYTES;
    struct kv_iter *it =
        kv_iter_open(store_kv(store), NULL, KV_STATE, prefix, SPAN_EMPTY);
    const bool found = kv_iter_next(it, &key, &value);
    enum errcode rc = kv_iter_close(&it, err);
    if (rc == ERR_OK)
        *ret = found;
    return rc == ERR_OK && !found
               ? history_has(store_kv(store), NULL, guid, ret, err)
               : rc;
}

/* Where part PART of GUID lies; false if that is not known. */
static bool
place_of(struct store *store, const struct guid *guid, uint32_t part,
         struct body_loc *ret)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct key k;

    return kv_get(store_kv(store), NULL, KV_STATE, key_body(&k, guid, part),
                  &value, NULL) == ERR_OK &&
           body_loc_decode(buf_span(&value), ret, NULL) == ERR_OK;
}

/* The stored bytes of a part are read and unpacked. */
static enum errcode
check_part(struct store *store, const struct guid *guid, uint32_t part,
           uint32_t *ret_parts, struct error *err)
{
    AUTO(buf_free) struct buf stored = BUF_INIT;
    struct body_loc loc;

    enum errcode rc = bodies_read_stored(store_bodies(store), store_log(store),
                                         NULL, guid, part, &loc, &stored, err);
    if (rc != ERR_OK)
        return rc;
    uint8_t *raw = xmalloc((size_t)loc.raw_bytes + 1);
    if (!body_unpack(&loc, buf_span(&stored), raw))
        rc = error_set(err, ERR_CORRUPT, "it does not decompress");
    free(raw);
    *ret_parts = loc.parts;
    return rc;
}

void
store_damage_find(struct store *store, const struct guid *guid)
{
    struct damage d = {.kind = DAMAGE_BODY, .guid = *guid};
    struct error err = {0};
    struct body_loc loc;
    uint32_t parts = 1;
    bool needed = false;
    enum errcode rc = ERR_OK;

    for (d.part = 0; rc == ERR_OK && d.part < parts;) {
        rc = check_part(store, guid, d.part, &parts, &err);
        if (rc == ERR_OK)
            d.part++;
    }
    if (rc == ERR_OK || rc == ERR_AGAIN || rc == ERR_GAP || rc == ERR_LIMIT)
        return;
    /* A body whose last message went meanwhile is missed by nobody. */
    if (is_referenced(store, guid, &needed, NULL) != ERR_OK || !needed)
        return;
    if (place_of(store, guid, d.part, &loc)) {
        d.home = (uint8_t)loc.home;
        d.file = loc.file;
        d.offset = loc.offset;
    }
    snprintf(d.why, sizeof(d.why), "%.150s",
             rc == ERR_NOTFOUND  ? "it is missing"
             : rc == ERR_CORRUPT ? "its bytes are not what was written"
                                 : err.text);
    store_damage_note(store, &d);
}

bool
store_damage_has(struct store *store, const struct guid *guid)
{
    const struct damage d = {.kind = DAMAGE_BODY, .guid = *guid};
    struct damages *ds = store_damages(store);
    bool there;

    pthread_mutex_lock(&ds->lock);
    (void)find(ds, &d, &there);
    pthread_mutex_unlock(&ds->lock);
    return there;
}

uint64_t
store_damage_lost_segment(struct store *store)
{
    struct damages *ds = store_damages(store);
    uint64_t last = 0;

    pthread_mutex_lock(&ds->lock);
    for (size_t i = 0; i < ds->n; i++)
        if (ds->v[i]->kind == DAMAGE_LOG && ds->v[i]->lost)
            last = MAX(last, ds->v[i]->file);
    pthread_mutex_unlock(&ds->lock);
    return last;
}

/* One that lies before segment FIRST. */
static bool
find_trimmed(struct damages *ds, uint64_t first, struct damage *ret)
{
    bool found = false;

    pthread_mutex_lock(&ds->lock);
    for (size_t i = 0; i < ds->n && !found; i++)
        if (ds->v[i]->kind == DAMAGE_LOG && ds->v[i]->file < first) {
            *ret = *ds->v[i];
            found = true;
        }
    pthread_mutex_unlock(&ds->lock);
    return found;
}

void
store_damage_trimmed(struct store *store, uint64_t first)
{
    struct damage d;

    while (find_trimmed(store_damages(store), first, &d))
        store_damage_heal(store, &d, "its segment was let go of");
}

/* ---- looking ----------------------------------------------------------- */

void
store_damage_view(struct store *store, struct damage_view *ret)
{
    struct damages *ds = store_damages(store);
    struct damage_view view = {0};

    pthread_mutex_lock(&ds->lock);
    view.count = ds->n;
    view.healed = ds->healed;
    for (size_t i = 0; i < ds->n; i++) {
        view.lost += ds->v[i]->lost;
        if (view.oldest_us == 0 || ds->v[i]->found_us < view.oldest_us)
            view.oldest_us = ds->v[i]->found_us;
    }
    pthread_mutex_unlock(&ds->lock);
    *ret = view;
}

void
store_damage_each(struct store *store,
                  bool (*call)(void *ctx, const struct damage *d), void *ctx)
{
    struct damages *ds = store_damages(store);

    pthread_mutex_lock(&ds->lock);
    for (size_t i = 0; i < ds->n; i++)
        if (!call(ctx, ds->v[i]))
            break;
    pthread_mutex_unlock(&ds->lock);
}

struct telling {
    bool (*call)(void *ctx, const char *mailbox, uint32_t uid);
    void *ctx;
};

static bool
tell_history(void *ctx, const struct history *h)
{
    const struct telling *t = ctx;

    return t->call(t->ctx, h->name, h->at.uid);
}

enum errcode
store_damage_messages(struct store *store, const struct guid *guid,
                      bool (*call)(void *ctx, const char *mailbox,
                                   uint32_t uid),
                      void *ctx, struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(store);
    struct key k;
    struct span key;
    struct span value;
    struct span prefix = key_guidref(&k, guid, 0, 0);
    enum errcode rc = ERR_OK;
    bool more = true;

    prefix.n = 1 + GUID_BYTES;
    struct kv_iter *it =
        kv_iter_open(snap->kv, snap->view, KV_STATE, prefix, SPAN_EMPTY);
    while (rc == ERR_OK && more && kv_iter_next(it, &key, &value)) {
        struct rd r = rd_init(span_skip(key, prefix.n));
        mbid_t id = rd_u64be(&r);
        uint32_t uid = (uint32_t)rd_be(&r, 4);
        struct arena a = ARENA_INIT;
        struct mailbox mb;
        rc = snap_mailbox(snap, id, &a, &mb, err);
        if (rc == ERR_OK)
            more = call(ctx, mb.name, uid);
        arena_free(&a);
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = closed;
    struct telling t = {.call = call, .ctx = ctx};
    return rc == ERR_OK && more
               ? store_history_of(store, guid, tell_history, &t, err)
               : rc;
}

/* ---- healing ----------------------------------------------------------- */

void
store_damage_attend(struct store *store, int delta)
{
    struct damages *ds = store_damages(store);

    pthread_mutex_lock(&ds->lock);
    ds->attending += delta;
    pthread_cond_broadcast(&ds->change);
    pthread_mutex_unlock(&ds->lock);
}

/* When D's turn is. */
static uint64_t
due_us(const struct damage *d)
{
    if (d->tried_us == 0)
        return 0;
    if (d->lost || d->tries > 10)
        return d->tried_us + AGAIN_MAX_US;
    return d->tried_us +
           MIN(AGAIN_FIRST_US << (d->tries - (d->tries > 0)), AGAIN_MAX_US);
}

/* Lock is held.  The one that has waited longest of those whose turn is. */
static struct damage *
next_due(struct damages *ds, uint64_t now)
{
    struct damage *best = NULL;

    for (size_t i = 0; i < ds->n; i++) {
        struct damage *d = ds->v[i];
        if (d->kind != DAMAGE_PACK && due_us(d) <= now &&
            (best == NULL || due_us(d) < due_us(best)))
            best = d;
    }
    return best;
}

static struct timespec
in_ms(int ms)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (long)(ms % 1000) * 1000000L;
    if (at.tv_nsec >= 1000000000L) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000L;
    }
    return at;
}

bool
store_damage_next(struct store *store, int timeout_ms, struct damage *ret)
{
    struct damages *ds = store_damages(store);
    const struct timespec until = in_ms(timeout_ms);
    struct damage *d = NULL;
    int rc = 0;

    pthread_mutex_lock(&ds->lock);
    while (!ds->stopping && (d = next_due(ds, env_wall_us(ds->env))) == NULL &&
           rc == 0 && timeout_ms > 0)
        rc = pthread_cond_timedwait(&ds->work, &ds->lock, &until);
    if (d != NULL) {
        d->tried_us = env_wall_us(ds->env);
        d->tries++;
        *ret = *d;
    }
    pthread_mutex_unlock(&ds->lock);
    return d != NULL;
}

void
store_damage_failed(struct store *store, const struct damage *d, bool lost,
                    const char *why)
{
    struct damages *ds = store_damages(store);
    char text[160];
    bool there;

    pthread_mutex_lock(&ds->lock);
    size_t at = find(ds, d, &there);
    const bool is_news = there && lost && !ds->v[at]->lost;
    if (there) {
        struct damage *own = ds->v[at];
        own->lost = lost;
        snprintf(own->why, sizeof(own->why), "%s", why);
        write_row(ds, own, true);
        pthread_cond_broadcast(&ds->change);
    }
    pthread_mutex_unlock(&ds->lock);
    if (!is_news)
        return;
    describe(d, text);
    log_error(NULL, "store.damage_lost", "%s why=\"%s\" effect=\"%s\"", text,
              why,
              d->kind == DAMAGE_LOG
                  ? "its segment, and what lies before it, is let go of as "
                    "soon as no replica waits for it and no body lies in it"
                  : "the messages that have it cannot be read; 'synclog verify "
                    "-C imapd.conf' names them");
}

void
store_damage_heal(struct store *store, const struct damage *d, const char *what)
{
    struct damages *ds = store_damages(store);
    char text[160];
    bool there;

    pthread_mutex_lock(&ds->lock);
    size_t at = find(ds, d, &there);
    if (there) {
        write_row(ds, d, false);
        free(ds->v[at]);
        ds->n--;
        memmove(&ds->v[at], &ds->v[at + 1], (ds->n - at) * sizeof(*ds->v));
        ds->healed++;
        pthread_cond_broadcast(&ds->change);
    }
    pthread_mutex_unlock(&ds->lock);
    if (!there)
        return;
    describe(d, text);
    log_notice(NULL, "store.healed", "%s how=\"%s\"", text, what);
}

bool
store_damage_wait(struct store *store, const struct guid *guid, int timeout_ms)
{
    const struct damage d = {.kind = DAMAGE_BODY, .guid = *guid};
    struct damages *ds = store_damages(store);
    const struct timespec until = in_ms(timeout_ms);
    bool there = true;
    int rc = 0;

    pthread_mutex_lock(&ds->lock);
    for (;;) {
        size_t at = find(ds, &d, &there);
        if (!there || rc != 0 || ds->stopping || ds->attending <= 0 ||
            ds->v[at]->lost || ds->v[at]->tries > 1)
            break;
        rc = pthread_cond_timedwait(&ds->change, &ds->lock, &until);
    }
    pthread_mutex_unlock(&ds->lock);
    return !there;
}
