/*
 * store/scrub.c - reading everything that is stored, slowly.
 *
 * The thread takes a slice of a tenth of a second's bytes, reads it, and rests
 * for what the slice should have taken.  Bodies are walked by their rows, from
 * where the last slice ended, without a snapshot: what moves meanwhile is found
 * where it lies now, and what comes in behind is the next round's.
 *
 * The log is read by synclog/check.c, which goes on behind what is damaged.
 * The state is read row by row as it lies on disk (kv_disk_iter()), which
 * checks each block; the walk is begun again behind its last row after each 64
 * MiB, so that it does not keep replaced files for long.
 */
#include "store/scrub.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "store/body_private.h"
#include "store/damage.h"
#include "store/local.h"
#include "store/rows.h"
#include "store/store_private.h"

#define SCRUB_VERSION 1U
#define SLICES_A_SECOND 10U
#define SAVE_BYTES (UINT64_C(64) << 20)
/* A file that is merged away ends the walk; so often in a row it is missing. */
#define ROWS_TRIES 20U
#define US_PER_S UINT64_C(1000000)

struct scrub {
    struct store *store;
    struct scrub_options o;
    pthread_mutex_t lock; /* of what follows, and of stop */
    pthread_cond_t wake;
    struct scrub_view view;
    bool stop;
    bool has_thread;
    pthread_t thread;

    /* The thread's own. */
    struct guid at; /* the body read last */
    bool has_at;
    struct synclog_check *log; /* where it is in the log, or NULL */
    struct buf row_at;
    struct kv_iter *rows; /* behind row_at, or NULL */
    uint64_t rows_read;   /* bytes by it */
    unsigned rows_tries;  /* to begin again, since a row was read */
    uint64_t unsaved;
    uint8_t *raw; /* BODY_PART_BYTES */
};

/* ---- where it is ------------------------------------------------------- */

static void
encode(const struct scrub *s, struct buf *out)
{
    buf_add_byte(out, SCRUB_VERSION);
    buf_add_byte(out, (uint8_t)s->view.phase);
    buf_add_varint(out, s->view.began_us);
    buf_add_varint(out, s->view.ended_us);
    buf_add_varint(out, s->view.bodies);
    buf_add_varint(out, s->view.bytes);
    buf_add_byte(out, s->has_at ? 1 : 0);
    buf_add(out, span_of(s->at.b, GUID_BYTES));
}

/* A row that does not decode is a round that begins anew. */
static void
decode(struct scrub *s, struct span in)
{
    struct rd r = rd_init(in);
    struct scrub_view v = {0};
    const uint8_t version = rd_u8(&r);
    const uint8_t phase = rd_u8(&r);

    v.began_us = rd_varint(&r);
    v.ended_us = rd_varint(&r);
    v.bodies = rd_varint(&r);
    v.bytes = rd_varint(&r);
    const uint8_t has_at = rd_u8(&r);
    struct span guid = rd_span(&r, GUID_BYTES);
    if (!rd_done(&r) || version != SCRUB_VERSION || phase > SCRUB_STATE)
        return;
    v.phase = (enum scrub_phase)phase;
    s->view = v;
    s->has_at = has_at != 0;
    memcpy(s->at.b, guid.p, GUID_BYTES);
}

static enum errcode
put_row(void *ctx, struct state *st, struct kv_batch *b, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct key k;

    (void)st;
    (void)err;
    encode(ctx, &value);
    kv_batch_put(b, KV_STATE, key_local(&k, LOCAL_SCRUB), buf_span(&value));
    return ERR_OK;
}

/* What cannot be kept costs a part of a round. */
void
scrub_save(struct scrub *s)
{
    (void)!store_local(s->store, put_row, s, NULL);
    s->unsaved = 0;
}

static void
enter(struct scrub *s, enum scrub_phase phase)
{
    pthread_mutex_lock(&s->lock);
    s->view.phase = phase;
    s->view.per_mille = 0;
    if (phase == SCRUB_RESTING)
        s->view.ended_us = env_wall_us(store_env(s->store));
    pthread_mutex_unlock(&s->lock);
    s->has_at = false;
    synclog_check_free(&s->log);
    buf_clear(&s->row_at);
    scrub_save(s);
}

static void
count(struct scrub *s, uint64_t bytes, uint64_t bodies, unsigned per_mille)
{
    pthread_mutex_lock(&s->lock);
    s->view.bytes += bytes;
    s->view.bodies += bodies;
    s->view.per_mille = MIN(per_mille, 1000U);
    pthread_mutex_unlock(&s->lock);
    s->unsaved += bytes;
    if (s->unsaved > SAVE_BYTES)
        scrub_save(s);
}

/* ---- bodies ------------------------------------------------------------ */

/* The GUID of the first row behind s->at; false: there is none. */
static enum errcode
next_guid(struct scrub *s, struct guid *ret, bool *ret_found, struct error *err)
{
    struct key table;
    struct key from = {0};
    struct span key;
    struct span value;

    if (s->has_at)
        (void)key_body(&from, &s->at, UINT16_MAX);
    struct kv_iter *it =
        kv_iter_open(store_kv(s->store), NULL, KV_STATE,
                     key_table(&table, TAB_BODY), key_span(&from));
    *ret_found = kv_iter_next(it, &key, &value) && key.n >= 1 + GUID_BYTES;
    if (*ret_found)
        memcpy(ret->b, key.p + 1, GUID_BYTES);
    return kv_iter_close(&it, err);
}

/* False: it is not what its GUID says.  *RET_BYTES were read. */
static bool
body_is_whole(struct scrub *s, const struct guid *guid, uint64_t *ret_bytes)
{
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    uint32_t parts = 1;
    bool good = true;
    struct guid got;

    ENSURE(sha != NULL && EVP_DigestInit_ex2(sha, EVP_sha1(), NULL) == 1);
    for (uint32_t i = 0; good && i < parts; i++) {
        AUTO(buf_free) struct buf stored = BUF_INIT;
        struct body_loc loc;
        good =
            bodies_read_stored(store_bodies(s->store), store_log(s->store),
                               NULL, guid, i, &loc, &stored, NULL) == ERR_OK &&
            body_unpack(&loc, buf_span(&stored), s->raw);
        if (good) {
            ENSURE(EVP_DigestUpdate(sha, s->raw, loc.raw_bytes) == 1);
            *ret_bytes += loc.stored_bytes;
            parts = loc.parts;
        }
    }
    ENSURE(EVP_DigestFinal_ex(sha, got.b, NULL) == 1);
    EVP_MD_CTX_free(sha);
    return good && guid_eq(&got, guid);
}

/*
 * The first blocks of all packs.  Bodies are found by their rows, so nothing is
 * lost with one; and as all that it says is known, it is written anew at once.
 */
static void
check_pack_heads(struct scrub *s)
{
    struct places *places = bodies_places(store_bodies(s->store));
    const char *name;
    const char *path;
    enum place_kind kind;
    uint32_t dir;

    for (size_t i = 0; places_each(places, i, &dir, &kind, &name, &path); i++) {
        struct packs *packs = places_packs(places, dir);
        uint64_t *v = NULL;
        size_t n = 0;
        if (packs == NULL || packs_list(packs, &v, &n, NULL) != ERR_OK)
            continue;
        for (size_t k = 0; k < n; k++) {
            struct error why = {0};
            struct damage d = {.kind = DAMAGE_PACK, .file = v[k]};
            if (packs_check_head(packs, v[k], &why) != ERR_CORRUPT)
                continue;
            snprintf(d.why, sizeof(d.why), "%.150s", why.text);
            store_damage_note(s->store, &d);
            if (packs_mend_head(packs, v[k], &why) == ERR_OK)
                store_damage_heal(s->store, &d, "written anew");
            else
                store_damage_failed(s->store, &d, false, why.text);
        }
        count(s, n * PACK_HEADER_BYTES, 0, 1000);
        free(v);
    }
}

static enum errcode
step_bodies(struct scrub *s, uint64_t limit, uint64_t *ret_bytes,
            struct error *err)
{
    while (*ret_bytes < limit) {
        uint64_t bytes = 256; /* its row */
        struct guid guid;
        bool found = false;
        enum errcode rc = next_guid(s, &guid, &found, err);
        if (rc != ERR_OK)
            return rc;
        if (!found) {
            check_pack_heads(s);
            enter(s, SCRUB_LOG);
            return ERR_OK;
        }
        if (!body_is_whole(s, &guid, &bytes))
            store_damage_find(s->store, &guid);
        s->at = guid;
        s->has_at = true;
        *ret_bytes += bytes;
        /* GUIDs are spread evenly. */
        count(s, bytes, 1,
              (unsigned)(((unsigned)guid.b[0] << 8 | guid.b[1]) * 1000U >> 16));
    }
    return ERR_OK;
}

/* ---- log --------------------------------------------------------------- */

static enum errcode
step_log(struct scrub *s, uint64_t limit, uint64_t *ret_bytes,
         struct error *err)
{
    struct synclog_checked got;
    struct error why = {0};
    struct store_log_view log;

    if (s->log == NULL)
        s->log = synclog_check_new(store_log(s->store));
    store_log_view(s->store, &log);
    enum errcode rc = synclog_check_next(s->log, limit, &got, &why);
    *ret_bytes += got.bytes + 1;
    count(s, got.bytes, 0,
          (unsigned)(got.last * 1000 / MAX(log.durable.lsn, (lsn_t)1)));
    if (rc == ERR_CORRUPT) {
        struct damage d = {
            .kind = DAMAGE_LOG, .file = got.segment, .offset = got.offset};
        snprintf(d.why, sizeof(d.why), "%.150s", why.text);
        store_damage_note(s->store, &d);
        rc = ERR_OK;
    }
    if (got.is_done)
        enter(s, SCRUB_STATE);
    if (rc != ERR_OK && err != NULL)
        *err = why;
    return rc;
}

/* ---- state ------------------------------------------------------------- */

/* The walk is at its end, or RC says why it broke off. */
static enum errcode
end_rows(struct scrub *s, struct error *err)
{
    struct error own = {0};

    s->rows_read = 0;
    enum errcode rc = kv_iter_close(&s->rows, &own);
    if (rc == ERR_NOTFOUND && ++s->rows_tries < ROWS_TRIES)
        return ERR_AGAIN;
    if (rc == ERR_NOTFOUND) {
        rc = own.code = ERR_CORRUPT;
        state_is_damaged(s->store, &own);
    }
    if (rc != ERR_OK && err != NULL)
        *err = own;
    return rc;
}

static enum errcode
begin_rows(struct scrub *s, struct error *err)
{
    AUTO(buf_free) struct buf from = BUF_INIT;

    buf_add(&from, buf_span(&s->row_at));
    if (from.n > 0)
        buf_add_byte(&from, 0); /* behind the last one */
    enum errcode rc =
        kv_disk_iter(store_kv(s->store), buf_span(&from), &s->rows, err);
    return rc == ERR_NOTFOUND && ++s->rows_tries < ROWS_TRIES ? ERR_AGAIN : rc;
}

static enum errcode
step_state(struct scrub *s, uint64_t limit, uint64_t *ret_bytes,
           struct error *err)
{
    struct span key;
    struct span value;
    bool more = true;
    uint64_t bytes = 1;
    enum errcode rc = s->rows == NULL ? begin_rows(s, err) : ERR_OK;

    while (rc == ERR_OK && *ret_bytes + bytes < limit &&
           (more = kv_iter_next(s->rows, &key, &value))) {
        bytes += key.n + value.n;
        s->rows_tries = 0;
        buf_clear(&s->row_at);
        buf_add(&s->row_at, key);
    }
    s->rows_read += bytes;
    if (rc == ERR_OK && (!more || s->rows_read > SAVE_BYTES))
        rc = end_rows(s, err);
    *ret_bytes += bytes;
    count(s, bytes, 0,
          s->row_at.n > 0 ? (unsigned)s->row_at.p[0] * 1000U / 256U : 0U);
    if (rc == ERR_OK && !more)
        enter(s, SCRUB_RESTING);
    return rc == ERR_AGAIN ? ERR_OK : rc;
}

/* ---- rounds ------------------------------------------------------------ */

static bool
is_due(struct scrub *s)
{
    const uint64_t now = env_wall_us(store_env(s->store));
    struct store_log_view log;

    if (s->view.phase != SCRUB_RESTING)
        return true;
    store_log_view(s->store, &log);
    if (log.seeding || (s->view.began_us != 0 && s->view.began_us <= now &&
                        now - s->view.began_us < s->o.interval_us))
        return false;
    pthread_mutex_lock(&s->lock);
    s->view.began_us = now;
    s->view.bodies = s->view.bytes = 0;
    pthread_mutex_unlock(&s->lock);
    enter(s, SCRUB_BODIES);
    return true;
}

enum errcode
scrub_step(struct scrub *s, uint64_t bytes, uint64_t *ret_bytes,
           struct error *err)
{
    *ret_bytes = 0;
    if (s->o.rate == 0 || !is_due(s))
        return ERR_OK;
    switch (s->view.phase) {
    case SCRUB_RESTING:
        break;
    case SCRUB_BODIES:
        return step_bodies(s, bytes, ret_bytes, err);
    case SCRUB_LOG:
        return step_log(s, bytes, ret_bytes, err);
    case SCRUB_STATE:
        return step_state(s, bytes, ret_bytes, err);
    }
    return ERR_OK;
}

/* Lock is held. */
static void
rest(struct scrub *s, uint64_t us)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + us * 1000;
    until.tv_sec += (time_t)(ns / 1000000000U);
    until.tv_nsec = (long)(ns % 1000000000U);
    if (!s->stop)
        (void)pthread_cond_timedwait(&s->wake, &s->lock, &until);
}

static void *
run(void *ctx)
{
    struct scrub *s = ctx;
    const uint64_t slice = MAX(s->o.rate / SLICES_A_SECOND, UINT64_C(4096));

    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        uint64_t bytes = 0;
        pthread_mutex_unlock(&s->lock);
        /* What is wrong with the state was told by the key-value store. */
        enum errcode rc = scrub_step(s, slice, &bytes, NULL);
        pthread_mutex_lock(&s->lock);
        const bool idle = rc != ERR_OK || s->view.phase == SCRUB_RESTING;
        rest(s,
             idle ? US_PER_S : MAX(bytes, UINT64_C(1)) * US_PER_S / s->o.rate);
    }
    pthread_mutex_unlock(&s->lock);
    scrub_save(s);
    return NULL;
}

struct scrub *
scrub_new(struct store *store, const struct scrub_options *o)
{
    struct scrub *s = xcalloc(1, sizeof(*s));
    AUTO(buf_free) struct buf value = BUF_INIT;
    pthread_condattr_t attr;
    struct key k;

    s->store = store;
    s->o = *o;
    s->raw = xmalloc(BODY_PART_BYTES);
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (kv_get(store_kv(store), NULL, KV_STATE, key_local(&k, LOCAL_SCRUB),
               &value, NULL) == ERR_OK)
        decode(s, buf_span(&value));
    return s;
}

struct scrub *
scrub_start(struct store *store, const struct scrub_options *o)
{
    struct scrub *s = scrub_new(store, o);

    if (o->rate > 0) {
        ENSURE(pthread_create(&s->thread, NULL, run, s) == 0);
        s->has_thread = true;
    }
    pthread_mutex_lock(&store->lock);
    store->scrub = s;
    pthread_mutex_unlock(&store->lock);
    return s;
}

bool
store_scrub_look(struct store *store, struct scrub_view *ret)
{
    pthread_mutex_lock(&store->lock);
    struct scrub *s = store->scrub;
    if (s != NULL)
        scrub_look(s, ret);
    pthread_mutex_unlock(&store->lock);
    return s != NULL;
}

void
scrub_stop(struct scrub **ps)
{
    struct scrub *s = *ps;

    *ps = NULL;
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->store->lock);
    if (s->store->scrub == s)
        s->store->scrub = NULL;
    pthread_mutex_unlock(&s->store->lock);
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    if (s->has_thread)
        pthread_join(s->thread, NULL);
    (void)!kv_iter_close(&s->rows, NULL);
    synclog_check_free(&s->log);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    buf_free(&s->row_at);
    free(s->raw);
    free(s);
}

void
scrub_look(struct scrub *s, struct scrub_view *ret)
{
    pthread_mutex_lock(&s->lock);
    *ret = s->view;
    pthread_mutex_unlock(&s->lock);
}

const char *
scrub_phase_name(enum scrub_phase phase)
{
    static const char *const names[] = {
        [SCRUB_RESTING] = "resting",
        [SCRUB_BODIES] = "bodies",
        [SCRUB_LOG] = "log",
        [SCRUB_STATE] = "state",
    };

    return names[phase];
}
