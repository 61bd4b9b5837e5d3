/*
 * store/body_read.c - a message's bytes on their way out.
 *
 * The row of the guid table says where each part lies: in a segment of the log
 * or in a pack.  Its stored bytes are read whole and their hash compared before
 * a byte is given out.  Rows are always the newest ones, not those of the
 * reader's snapshot: a body never changes, but the compactor moves it, and lets
 * go of the segment after the rows are switched.  So who finds its file gone
 * looks at the row again, and only a row that still says the same is damage.
 *
 * Clients fetch large messages in slices.  A part of which only a slice was
 * asked is kept decompressed, the last few of them, so that the next slice
 * costs a copy.
 */
#include "store/body_private.h"

#include <pthread.h>
#include <stdlib.h>
#include <xxhash.h>
#include <zstd.h>

#include "store/rows.h"

#define CACHE_BYTES ((size_t)8 << 20)
#define CACHE_ENTRIES 64U
/* Smaller parts are decompressed again faster than they are worth keeping. */
#define CACHE_PART_MIN ((uint32_t)32 << 10)
#define MOVED_TRIES 8

struct cached {
    struct guid guid;
    uint32_t part;
    uint64_t used; /* 0: free */
    size_t n;
    uint8_t *raw;
};

struct bodies {
    struct kv *kv;
    struct places *places;
    pthread_mutex_t lock; /* of what follows */
    struct cached cached[CACHE_ENTRIES];
    size_t cached_bytes;
    uint64_t clock;
};

/* ------------------------------------------------------------------------ */
/* What was decompressed last. */

/* Append [FROM, FROM+N) of a part, if it is here. */
static bool
cache_get(struct bodies *b, const struct guid *guid, uint32_t part, size_t from,
          size_t n, struct buf *out)
{
    bool found = false;

    pthread_mutex_lock(&b->lock);
    for (size_t i = 0; i < CACHE_ENTRIES && !found; i++) {
        struct cached *c = &b->cached[i];
        if (c->used == 0 || c->part != part || !guid_eq(&c->guid, guid))
            continue;
        c->used = ++b->clock;
        buf_add(out, span_sub(span_of(c->raw, c->n), from, n));
        found = true;
    }
    pthread_mutex_unlock(&b->lock);
    return found;
}

static void
cache_drop(struct bodies *b, struct cached *c)
{
    b->cached_bytes -= c->n;
    free(c->raw);
    *c = (struct cached){0};
}

/* Takes RAW. */
static void
cache_put(struct bodies *b, const struct guid *guid, uint32_t part,
          uint8_t *raw, size_t n)
{
    struct cached *place = NULL;

    pthread_mutex_lock(&b->lock);
    do {
        struct cached *oldest = NULL;
        place = NULL;
        for (size_t i = 0; i < CACHE_ENTRIES; i++) {
            struct cached *c = &b->cached[i];
            if (c->used == 0)
                place = c;
            else if (oldest == NULL || c->used < oldest->used)
                oldest = c;
        }
        if (place != NULL && b->cached_bytes + n <= CACHE_BYTES)
            break;
        cache_drop(b, oldest);
        place = NULL;
    } while (place == NULL);
    *place = (struct cached){
        .guid = *guid, .part = part, .used = ++b->clock, .n = n, .raw = raw};
    b->cached_bytes += n;
    pthread_mutex_unlock(&b->lock);
}

/* ------------------------------------------------------------------------ */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t zstd_key;

static void
free_zstd(void *ctx)
{
    ZSTD_freeDCtx(ctx);
}

static void
init_once(void)
{
    ENSURE(pthread_key_create(&zstd_key, free_zstd) == 0);
}

static ZSTD_DCtx *
thread_zstd(void)
{
    pthread_once(&once, init_once);
    ZSTD_DCtx *ctx = pthread_getspecific(zstd_key);

    if (ctx == NULL) {
        ctx = ZSTD_createDCtx();
        ENSURE(ctx != NULL);
        ENSURE(pthread_setspecific(zstd_key, ctx) == 0);
    }
    return ctx;
}

bool
body_unpack(const struct body_loc *loc, struct span stored, uint8_t *to)
{
    if (stored.n != loc->stored_bytes ||
        XXH3_64bits(stored.p, stored.n) != loc->hash)
        return false;
    if (loc->encoding == BODY_RAW) {
        if (stored.n > 0)
            memcpy(to, stored.p, stored.n);
        return true;
    }
    return ZSTD_decompressDCtx(thread_zstd(), to, loc->raw_bytes, stored.p,
                               stored.n) == loc->raw_bytes;
}

enum errcode
bodies_open(struct env *env, struct kv *kv, const struct store_config *cfg,
            const struct instid *cluster, struct bodies **ret,
            struct error *err)
{
    /* Without partitions there is one, for tests and tools. */
    const struct store_partition only = {.name = "default",
                                         .path = cfg->pack_dir};
    const bool has_any = cfg->npartitions > 0;
    struct places *places = NULL;
    enum errcode rc = places_open(env, kv, has_any ? cfg->partitions : &only,
                                  has_any ? cfg->npartitions : 1,
                                  has_any && cfg->default_partition != NULL
                                      ? cfg->default_partition
                                      : "default",
                                  cluster, cfg->pack_bytes, &places, err);

    if (rc != ERR_OK)
        return rc;
    struct bodies *b = xcalloc(1, sizeof(*b));
    b->kv = kv;
    b->places = places;
    ENSURE(pthread_mutex_init(&b->lock, NULL) == 0);
    *ret = b;
    return ERR_OK;
}

void
bodies_close(struct bodies **pb)
{
    struct bodies *b = *pb;

    *pb = NULL;
    if (b == NULL)
        return;
    for (size_t i = 0; i < CACHE_ENTRIES; i++)
        free(b->cached[i].raw);
    places_close(&b->places);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

struct places *
bodies_places(struct bodies *b)
{
    return b->places;
}

struct packs *
bodies_packs(struct bodies *b)
{
    return places_packs(b->places, places_default(b->places));
}

static enum errcode
read_row(struct bodies *b, const struct kv_snap *snap, const struct guid *guid,
         uint32_t part, struct body_loc *ret, struct error *err)
{
    struct key k;
    struct buf value = BUF_INIT;
    char text[GUID_TEXT_BYTES];
    enum errcode rc =
        kv_get(b->kv, snap, KV_STATE, key_body(&k, guid, part), &value, err);

    if (rc == ERR_NOTFOUND)
        error_set(err, ERR_NOTFOUND, "no body here");
    if (rc == ERR_OK)
        rc = body_loc_decode(buf_span(&value), ret, err);
    if (rc == ERR_OK && ret->part != part)
        rc = error_set(err, ERR_CORRUPT, "the row is of part %" PRIu32,
                       ret->part);
    buf_free(&value);
    return rc == ERR_OK ? rc
                        : error_prefix(err, "body %s, part %" PRIu32,
                                       guid_text(guid, text), part);
}

static enum errcode
read_at(struct bodies *b, struct synclog *log, const struct body_loc *loc,
        uint8_t *to, struct error *err)
{
    if (loc->home == BODY_IN_PACK) {
        struct packs *packs = places_packs(b->places, loc->dir);
        if (packs == NULL)
            return error_set(err, ERR_CORRUPT, "there is no directory %" PRIu32,
                             loc->dir);
        return packs_pread(packs, loc->file, loc->offset, to, loc->stored_bytes,
                           err);
    }
    if (log == NULL)
        return error_set(err, ERR_IO, "it is in the log, which is not open");
    return synclog_pread(log, loc->file, loc->offset, to, loc->stored_bytes,
                         err);
}

enum errcode
bodies_read_place(struct bodies *b, struct synclog *log,
                  const struct body_loc *loc, struct buf *ret,
                  struct error *err)
{
    uint8_t *to = buf_reserve(ret, loc->stored_bytes);

    if (to == NULL)
        return error_set(err, ERR_LIMIT, "no room for %" PRIu32 " bytes",
                         loc->stored_bytes);
    enum errcode rc = read_at(b, log, loc, to, err);
    if (rc == ERR_OK && XXH3_64bits(to, loc->stored_bytes) != loc->hash)
        rc = error_set(err, ERR_CORRUPT, "its bytes are damaged");
    if (rc == ERR_OK)
        ret->n += loc->stored_bytes;
    return rc;
}

/* KNOWN: what the row says, if it was read just now, or NULL. */
static enum errcode
read_stored(struct bodies *b, struct synclog *log, const struct kv_snap *snap,
            const struct guid *guid, uint32_t part,
            const struct body_loc *known, struct body_loc *ret_loc,
            struct buf *ret, struct error *err)
{
    struct body_loc loc = {0};
    struct body_loc before = {0};
    char text[GUID_TEXT_BYTES];
    enum errcode rc = ERR_OK;

    for (int i = 0; i < MOVED_TRIES; i++) {
        /* A snapshot's row may name a segment that is gone meanwhile. */
        if (i == 0 && known != NULL)
            loc = *known;
        else
            rc = read_row(b, i == 0 ? snap : NULL, guid, part, &loc, err);
        if (rc != ERR_OK)
            return rc;
        if (i > 0 && body_loc_same(&loc, &before)) {
            rc = error_set(err, ERR_CORRUPT, "its file is gone or too short");
            break;
        }
        rc = bodies_read_place(b, log, &loc, ret, err);
        if (rc == ERR_OK) {
            *ret_loc = loc;
            return ERR_OK;
        }
        if (rc != ERR_GAP)
            break;
        before = loc;
    }
    return rc == ERR_GAP
               ? error_prefix(err, "body %s moves", guid_text(guid, text))
               : error_prefix(err,
                              "body %s, part %" PRIu32 ", %s %" PRIu64
                              " at %" PRIu64,
                              guid_text(guid, text), part,
                              loc.home == BODY_IN_PACK ? "pack" : "segment",
                              loc.file, loc.offset);
}

enum errcode
bodies_read_stored(struct bodies *b, struct synclog *log,
                   const struct kv_snap *snap, const struct guid *guid,
                   uint32_t part, struct body_loc *ret_loc, struct buf *ret,
                   struct error *err)
{
    return read_stored(b, log, snap, guid, part, NULL, ret_loc, ret, err);
}

/* [FROM, FROM+N) of a part that has RAW_BYTES appended to OUT.  KNOWN: as
 * above. */
static enum errcode
read_part(struct bodies *b, struct synclog *log, const struct guid *guid,
          uint32_t part, const struct body_loc *known, size_t from, size_t n,
          struct buf *out, struct error *err)
{
    struct buf stored = BUF_INIT;
    struct body_loc loc;
    char text[GUID_TEXT_BYTES];

    if (cache_get(b, guid, part, from, n, out))
        return out->full ? error_set(err, ERR_LIMIT, "too many bytes") : ERR_OK;
    enum errcode rc =
        read_stored(b, log, NULL, guid, part, known, &loc, &stored, err);
    if (rc != ERR_OK) {
        buf_free(&stored);
        return rc;
    }

    bool is_whole = from == 0 && n >= loc.raw_bytes;
    uint8_t *own = is_whole ? NULL : xmalloc((size_t)loc.raw_bytes + 1);
    uint8_t *to = is_whole ? buf_reserve(out, loc.raw_bytes) : own;
    if (to == NULL)
        rc = error_set(err, ERR_LIMIT, "too many bytes");
    else if (!body_unpack(&loc, buf_span(&stored), to))
        rc = error_set(err, ERR_CORRUPT,
                       "body %s, part %" PRIu32 " does not decompress",
                       guid_text(guid, text), part);
    else if (is_whole)
        out->n += loc.raw_bytes;
    else
        buf_add(out, span_sub(span_of(own, loc.raw_bytes), from, n));
    buf_free(&stored);
    if (rc == ERR_OK && own != NULL && loc.raw_bytes >= CACHE_PART_MIN)
        cache_put(b, guid, part, own, loc.raw_bytes);
    else
        free(own);
    if (rc == ERR_OK && out->full)
        rc = error_set(err, ERR_LIMIT, "too many bytes");
    return rc;
}

enum errcode
bodies_read(struct bodies *b, struct synclog *log, const struct guid *guid,
            uint64_t offset, uint64_t n, struct buf *out, struct error *err)
{
    size_t before = out->n;
    struct body_loc first;
    enum errcode rc = read_row(b, NULL, guid, 0, &first, err);

    if (rc != ERR_OK)
        return rc;
    uint64_t end = offset + MIN(n, UINT64_MAX - offset);
    end = MIN(end, first.size);
    while (offset < end && rc == ERR_OK) {
        uint32_t part = (uint32_t)(offset / BODY_PART_BYTES);
        size_t from = (size_t)(offset % BODY_PART_BYTES);
        size_t take = (size_t)MIN(end - offset, BODY_PART_BYTES - from);
        rc = read_part(b, log, guid, part, part == 0 ? &first : NULL, from,
                       take, out, err);
        offset += take;
    }
    if (rc != ERR_OK)
        out->n = before; /* nothing of a damaged message */
    return rc;
}

/* A body is whole when the rows of all its parts are there. */
enum errcode
bodies_stat(struct bodies *b, const struct kv_snap *snap,
            const struct guid *guid, uint64_t *ret_size, struct error *err)
{
    struct body_loc loc;
    enum errcode rc = read_row(b, snap, guid, 0, &loc, err);
    struct key k;
    struct span key;
    struct span value;
    uint32_t rows = 1;

    if (rc == ERR_OK && loc.parts > 1) {
        struct span prefix = key_body(&k, guid, 0);
        prefix.n -= 2;
        struct kv_iter *it =
            kv_iter_open(b->kv, snap, KV_STATE, prefix, SPAN_EMPTY);
        for (rows = 0; kv_iter_next(it, &key, &value);)
            rows++;
        rc = kv_iter_close(&it, err);
    }
    if (rc == ERR_OK && rows != loc.parts)
        rc = error_set(err, ERR_NOTFOUND,
                       "body with %" PRIu32 " of %" PRIu32 " parts", rows,
                       loc.parts);
    if (rc == ERR_OK)
        *ret_size = loc.size;
    return rc;
}
