/*
 * store/body.c - a message's bytes on their way in, and the value of the guid
 * table.
 *
 * Up to BODY_PART_BYTES bytes stay in memory, and are hashed when all are
 * there: they come in very small pieces, a line of the message each.  Beyond
 * that all of them go to an unnamed file, which finishing maps, and SHA-1 is
 * computed as they come.  The compressed parts of a spilled message are written
 * behind its raw bytes in the same file: the writer needs them in any order and
 * at once, and memory is not to grow with the message.
 *
 * Compressing asks zstd for at least a twentieth less than there was, by giving
 * it no more room; what does not fit, and what is short, is kept as it is.
 * Contexts are one a thread: making one costs more than a small message.
 *
 * It is most of what a body costs a session, and may as well be done later, by
 * the compactor: so bodies of a store share a budget.  While mail comes as mail
 * does, all of it is compressed here, and log and replicas are spared two
 * thirds of the bytes; in a rush the time goes to deliveries.
 */
#include "store/body_private.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "base/rd.h"

#define ZSTD_LEVEL 1
#define COMPRESS_MIN_BYTES 256U
#define FIRST_BYTES ((size_t)8 << 10) /* room that is made at first */
#define MESSAGE_BYTES_MAX ((uint64_t)BODY_PARTS_MAX * BODY_PART_BYTES)

#define LOC_VERSION 2U

/* One in so many seconds of all processors, and how much of a second's work may
 * have been saved up. */
#define BUDGET_SHARE 100U
#define BUDGET_SAVED_NS UINT64_C(50000000)

struct part {
    enum body_encoding encoding;
    struct span stored;
    uint64_t hash;
};

struct body {
    _Atomic uint32_t refs;
    struct env *env;
    struct full *full;          /* to be told of; may be NULL */
    struct body_budget *budget; /* NULL: no bound */
    char *tmpdir;
    uint64_t max_bytes;
    uint64_t size;
    enum errcode failed; /* what body_write() answers from now on */
    bool is_finished;
    EVP_MD_CTX *sha; /* of what was spilled so far; else NULL */
    struct guid guid;
    uint8_t *memory; /* raw bytes, while there is no spill */
    size_t cap;
    uint8_t *compressed; /* of the one part of an unspilled message */
    struct envfile *spill;
    uint8_t *map; /* of the spill, or a copy of it where it has no fd */
    size_t map_bytes;
    bool is_copy;
    uint32_t nparts;
    struct part *parts;
    struct part one;
};

/* ------------------------------------------------------------------------ */
/* What a thread keeps. */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t zstd_key;
static pthread_key_t sha_key;
static EVP_MD *sha1;

static void
free_zstd(void *ctx)
{
    ZSTD_freeCCtx(ctx);
}

static void
free_sha(void *ctx)
{
    EVP_MD_CTX_free(ctx);
}

static void
init_once(void)
{
    ENSURE(pthread_key_create(&zstd_key, free_zstd) == 0);
    ENSURE(pthread_key_create(&sha_key, free_sha) == 0);
    sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
    ENSURE(sha1 != NULL);
}

static ZSTD_CCtx *
thread_zstd(void)
{
    ZSTD_CCtx *ctx = pthread_getspecific(zstd_key);

    if (ctx == NULL) {
        ctx = ZSTD_createCCtx();
        ENSURE(ctx != NULL);
        ENSURE(pthread_setspecific(zstd_key, ctx) == 0);
    }
    return ctx;
}

/* One that has begun. */
static EVP_MD_CTX *
thread_sha(void)
{
    EVP_MD_CTX *ctx = pthread_getspecific(sha_key);

    if (ctx == NULL) {
        ctx = EVP_MD_CTX_new();
        ENSURE(ctx != NULL);
        ENSURE(pthread_setspecific(sha_key, ctx) == 0);
    }
    ENSURE(EVP_DigestInit_ex2(ctx, sha1, NULL) == 1);
    return ctx;
}

size_t
body_compress_part(struct span raw, uint8_t *to)
{
    pthread_once(&once, init_once);
    if (raw.n < COMPRESS_MIN_BYTES)
        return 0;
    size_t n = ZSTD_compressCCtx(thread_zstd(), to, raw.n - raw.n / 20, raw.p,
                                 raw.n, ZSTD_LEVEL);
    return ZSTD_isError(n) ? 0 : n;
}

/* ------------------------------------------------------------------------ */
/* What may be spent. */

void
body_budget_init(struct body_budget *budget, enum body_compress how)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);

    budget->how = how;
    budget->times =
        MAX(BUDGET_SHARE / (uint64_t)(processors > 0 ? processors : 1), 1U);
    atomic_init(&budget->paid_until_ns, 0);
}

void
body_set_budget(struct body *b, struct body_budget *budget)
{
    b->budget = budget;
}

static bool
can_afford(struct body_budget *budget, uint64_t now_ns)
{
    const uint64_t paid =
        atomic_load_explicit(&budget->paid_until_ns, memory_order_relaxed);

    return paid <= now_ns || paid - now_ns <= BUDGET_SAVED_NS * budget->times;
}

static void
pay(struct body_budget *budget, uint64_t began_ns, uint64_t took_ns)
{
    uint64_t paid =
        atomic_load_explicit(&budget->paid_until_ns, memory_order_relaxed);

    while (!atomic_compare_exchange_weak_explicit(
        &budget->paid_until_ns, &paid,
        MAX(paid, began_ns) + took_ns * budget->times, memory_order_relaxed,
        memory_order_relaxed))
        ;
}

/* May RAW be compressed now, at BEGAN_NS? */
static bool
may_compress(const struct body *b, uint64_t began_ns)
{
    if (b->budget == NULL || b->budget->how == COMPRESS_ALWAYS)
        return true;
    return b->budget->how != COMPRESS_LATER && can_afford(b->budget, began_ns);
}

/* body_compress_part(), which was allowed at BEGAN_NS, and paid for. */
static size_t
compress(const struct body *b, uint64_t began_ns, struct span raw, uint8_t *to)
{
    if (b->budget == NULL || b->budget->how == COMPRESS_ALWAYS)
        return body_compress_part(raw, to);
    const size_t n = body_compress_part(raw, to);
    pay(b->budget, began_ns, env_mono_ns(b->env) - began_ns);
    return n;
}

/* ------------------------------------------------------------------------ */
/* Bytes come. */

struct body *
body_new(struct env *env, const char *tmpdir, uint64_t max_bytes)
{
    struct body *b = xcalloc(1, sizeof(*b));

    pthread_once(&once, init_once);
    atomic_init(&b->refs, 1);
    b->env = env;
    b->tmpdir = xstrdup(tmpdir);
    b->max_bytes = MIN(max_bytes, MESSAGE_BYTES_MAX);
    return b;
}

struct body *
body_ref(struct body *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

static void
unmap_spill(struct body *b)
{
    if (b->is_copy)
        free(b->map);
    else if (b->map != NULL)
        munmap(b->map, b->map_bytes);
    b->map = NULL;
    b->is_copy = false;
}

void
body_free(struct body **pb)
{
    struct body *b = *pb;

    *pb = NULL;
    if (b == NULL ||
        atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    EVP_MD_CTX_free(b->sha);
    unmap_spill(b);
    env_close(&b->spill);
    if (b->parts != &b->one)
        free(b->parts);
    free(b->compressed);
    free(b->memory);
    free(b->tmpdir);
    free(b);
}

static void
hash(EVP_MD_CTX *sha, struct span bytes)
{
    if (bytes.n > 0)
        ENSURE(EVP_DigestUpdate(sha, bytes.p, bytes.n) == 1);
}

static enum errcode
keep(struct body *b, struct span bytes, struct error *err)
{
    if (b->spill == NULL && b->size + bytes.n <= BODY_PART_BYTES) {
        size_t need = (size_t)b->size + bytes.n;
        if (need > b->cap) {
            b->cap =
                MIN(MAX(MAX(need, b->cap * 2), FIRST_BYTES), BODY_PART_BYTES);
            b->memory = xrealloc(b->memory, b->cap);
        }
        if (bytes.n > 0)
            memcpy(b->memory + b->size, bytes.p, bytes.n);
        return ERR_OK;
    }
    if (b->spill == NULL) {
        enum errcode rc =
            env_open(b->env, b->tmpdir, ENV_UNNAMED, &b->spill, err);
        if (rc == ERR_OK)
            rc = env_pwrite(b->spill, b->memory, (size_t)b->size, 0, err);
        if (rc != ERR_OK)
            return rc;
        b->sha = EVP_MD_CTX_new();
        ENSURE(b->sha != NULL && EVP_DigestInit_ex2(b->sha, sha1, NULL) == 1);
        hash(b->sha, span_of(b->memory, (size_t)b->size));
        free(b->memory);
        b->memory = NULL;
        b->cap = 0;
    }
    hash(b->sha, bytes);
    return env_pwrite(b->spill, bytes.p, bytes.n, b->size, err);
}

void
body_tell_full(struct body *b, struct full *full)
{
    b->full = full;
}

/* What the file said, as body_write() promises it. */
static enum errcode
spilled(struct body *b, enum errcode rc, struct error *err)
{
    if (rc == ERR_OK)
        return ERR_OK;
    if (rc == ERR_NOSPACE && b->full != NULL)
        full_refused(b->full, err);
    if (rc != ERR_NOSPACE)
        rc = err->code = ERR_IO;
    return error_prefix(err, "large message");
}

enum errcode
body_write(struct body *b, struct span bytes, struct error *err)
{
    ENSURE(!b->is_finished);
    if (b->failed != ERR_OK)
        return error_set(err, b->failed, "message was refused before");
    if (bytes.n > b->max_bytes - b->size) {
        b->failed = ERR_LIMIT;
        return error_set(err, ERR_LIMIT,
                         "message of more than %" PRIu64 " bytes",
                         b->max_bytes);
    }
    b->failed = spilled(b, keep(b, bytes, err), err);
    if (b->failed != ERR_OK)
        return b->failed;
    b->size += bytes.n;
    return ERR_OK;
}

/* ------------------------------------------------------------------------ */
/* All are there. */

uint32_t
body_parts_of(uint64_t size)
{
    return size == 0
               ? 1
               : (uint32_t)((size + BODY_PART_BYTES - 1) / BODY_PART_BYTES);
}

uint32_t
body_part_raw_bytes(uint64_t size, uint32_t part)
{
    uint64_t before = (uint64_t)part * BODY_PART_BYTES;

    return size <= before ? 0 : (uint32_t)MIN(size - before, BODY_PART_BYTES);
}

static struct part
part_of(struct span stored, enum body_encoding encoding)
{
    return (struct part){.encoding = encoding,
                         .stored = stored,
                         .hash = XXH3_64bits(stored.p, stored.n)};
}

static void
finish_in_memory(struct body *b)
{
    const uint64_t began_ns = env_mono_ns(b->env);
    struct span raw = span_of(b->memory, (size_t)b->size);
    uint8_t *to = NULL;
    size_t n = 0;

    b->parts = &b->one;
    if (may_compress(b, began_ns)) {
        to = xmalloc(raw.n + 1);
        n = compress(b, began_ns, raw, to);
    }
    if (n == 0) {
        free(to);
        b->one = part_of(raw, BODY_RAW);
        return;
    }
    b->compressed = xrealloc(to, n);
    b->one = part_of(span_of(b->compressed, n), BODY_ZSTD);
}

/* See N bytes of the file anew. */
static enum errcode
map_spill(struct body *b, size_t n, struct error *err)
{
    const int fd = env_fd(b->spill);

    unmap_spill(b);
    if (fd < 0) {
        uint8_t *copy = xmalloc(n);
        enum errcode rc = env_pread(b->spill, copy, n, 0, err);
        if (rc != ERR_OK) {
            free(copy);
            return rc;
        }
        b->map = copy;
        b->map_bytes = n;
        b->is_copy = true;
        return ERR_OK;
    }
    void *map = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return error_set_errno(err, errno, "map large message in %s",
                               b->tmpdir);
    b->map = map;
    b->map_bytes = n;
    return ERR_OK;
}

/*
 * The compressed parts go behind the raw bytes; only then is it known how much
 * is to be mapped, so until then a part's stored.n stands for itself and its
 * place follows from the order.
 */
static enum errcode
finish_spilled(struct body *b, struct error *err)
{
    enum errcode rc = map_spill(b, (size_t)b->size, err);
    uint64_t end = b->size;

    if (rc != ERR_OK)
        return rc;
    b->parts = xcalloc(b->nparts, sizeof(*b->parts));
    uint8_t *to = xmalloc(BODY_PART_BYTES);
    for (uint32_t i = 0; i < b->nparts && rc == ERR_OK; i++) {
        struct span raw = span_of(b->map + (size_t)i * BODY_PART_BYTES,
                                  body_part_raw_bytes(b->size, i));
        const uint64_t began_ns = env_mono_ns(b->env);
        const size_t n =
            may_compress(b, began_ns) ? compress(b, began_ns, raw, to) : 0;
        b->parts[i] =
            n > 0 ? part_of(span_of(to, n), BODY_ZSTD) : part_of(raw, BODY_RAW);
        if (n > 0)
            rc = env_pwrite(b->spill, to, n, end, err);
        end += n;
    }
    free(to);
    if (rc == ERR_OK)
        rc = map_spill(b, (size_t)end, err);
    if (rc != ERR_OK)
        return rc;

    const uint8_t *at = b->map + b->size;
    for (uint32_t i = 0; i < b->nparts; i++) {
        struct part *p = &b->parts[i];
        if (p->encoding == BODY_RAW) {
            p->stored.p = b->map + (size_t)i * BODY_PART_BYTES;
        } else {
            p->stored.p = at;
            at += p->stored.n;
        }
    }
    return ERR_OK;
}

enum errcode
body_finish(struct body *b, struct error *err)
{
    ENSURE(!b->is_finished);
    if (b->failed != ERR_OK)
        return error_set(err, b->failed, "message was refused before");
    EVP_MD_CTX *sha = b->sha != NULL ? b->sha : thread_sha();
    if (b->spill == NULL)
        hash(sha, span_of(b->memory, (size_t)b->size));
    ENSURE(EVP_DigestFinal_ex(sha, b->guid.b, NULL) == 1);
    EVP_MD_CTX_free(b->sha);
    b->sha = NULL;
    b->nparts = body_parts_of(b->size);
    if (b->spill == NULL)
        finish_in_memory(b);
    else
        b->failed = spilled(b, finish_spilled(b, err), err);
    b->is_finished = b->failed == ERR_OK;
    return b->failed;
}

uint64_t
body_size(const struct body *b)
{
    return b->size;
}

const struct guid *
body_guid(const struct body *b)
{
    ENSURE(b->is_finished);
    return &b->guid;
}

struct span
body_raw(const struct body *b)
{
    ENSURE(b->is_finished);
    return span_of(b->spill == NULL ? b->memory : b->map, (size_t)b->size);
}

uint32_t
body_part_count(const struct body *b)
{
    ENSURE(b->is_finished);
    return b->nparts;
}

struct span
body_part(const struct body *b, uint32_t part, enum body_encoding *ret_encoding,
          uint32_t *ret_raw_bytes, uint64_t *ret_hash)
{
    ENSURE(b->is_finished && part < b->nparts);
    *ret_encoding = b->parts[part].encoding;
    *ret_raw_bytes = body_part_raw_bytes(b->size, part);
    *ret_hash = b->parts[part].hash;
    return b->parts[part].stored;
}

/* ------------------------------------------------------------------------ */
/* Where a part lies. */

bool
body_loc_fits(const struct body_loc *loc)
{
    return loc->size <= MESSAGE_BYTES_MAX &&
           loc->parts == body_parts_of(loc->size) && loc->part < loc->parts &&
           loc->raw_bytes == body_part_raw_bytes(loc->size, loc->part) &&
           loc->stored_bytes <= loc->raw_bytes &&
           (loc->encoding == BODY_ZSTD || loc->stored_bytes == loc->raw_bytes);
}

bool
body_loc_same(const struct body_loc *a, const struct body_loc *b)
{
    return a->home == b->home && a->dir == b->dir && a->file == b->file &&
           a->offset == b->offset;
}

void
body_loc_encode(const struct body_loc *loc, struct buf *out)
{
    buf_add_byte(out, LOC_VERSION);
    buf_add_byte(out, (uint8_t)loc->home);
    buf_add_byte(out, (uint8_t)loc->encoding);
    buf_add_varint(out, loc->dir);
    buf_add_varint(out, loc->file);
    buf_add_varint(out, loc->offset);
    buf_add_varint(out, loc->stored_bytes);
    buf_add_varint(out, loc->raw_bytes);
    buf_add_varint(out, loc->part);
    buf_add_varint(out, loc->size);
    buf_add_u64le(out, loc->hash);
}

enum errcode
body_loc_decode(struct span in, struct body_loc *ret, struct error *err)
{
    struct rd r = rd_init(in);
    uint8_t version = rd_u8(&r);
    uint8_t home = rd_u8(&r);
    uint8_t encoding = rd_u8(&r);
    struct body_loc loc = {
        .home = home == BODY_IN_PACK ? BODY_IN_PACK : BODY_IN_LOG,
        .encoding = encoding == BODY_ZSTD ? BODY_ZSTD : BODY_RAW,
    };

    loc.dir = rd_varint32(&r);
    loc.file = rd_varint(&r);
    loc.offset = rd_varint(&r);
    loc.stored_bytes = rd_varint32(&r);
    loc.raw_bytes = rd_varint32(&r);
    loc.part = rd_varint32(&r);
    loc.size = rd_varint(&r);
    loc.hash = rd_u64le(&r);
    if (!r.bad && version != LOC_VERSION)
        return error_set(err, ERR_VERSION, "place of a body: version %u",
                         version);
    if (!rd_done(&r) || home != loc.home || encoding != loc.encoding ||
        (home == BODY_IN_PACK) != (loc.dir != 0) ||
        loc.size > MESSAGE_BYTES_MAX)
        return error_set(err, ERR_CORRUPT, "place of a body: malformed");
    loc.parts = body_parts_of(loc.size);
    if (!body_loc_fits(&loc))
        return error_set(err, ERR_CORRUPT,
                         "place of a body: part %" PRIu32 " of %" PRIu64
                         " bytes has %" PRIu32,
                         loc.part, loc.size, loc.raw_bytes);
    *ret = loc;
    return ERR_OK;
}
