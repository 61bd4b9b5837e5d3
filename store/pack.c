/*
 * store/pack.c - the packs of a directory, as pack.h has their bytes.
 *
 * One pack is open for appending, made when the first body comes.  After a
 * failed write or sync nobody knows what of it is on the disk, so it is left as
 * it is and the next body begins a new one: nothing is written twice, nothing
 * is synced again (what the kernel has lost once it calls clean).  A directory
 * is synced with the first sync of a pack in it.
 *
 * Reading goes through a few handles that stay open.  One that is in use is
 * never closed; when all are, the next reader opens one of its own.
 */
#include "store/pack.h"

#include <pthread.h>
#include <stdlib.h>
#include <xxhash.h>

#define PACK_MAGIC UINT64_C(0x4b434150584c50) /* "PLXPACK" as it lies there */
#define FRAME_MAGIC_BODY 0x42584c50U          /* "PLXB" */
#define CHECKSUM_AT 12U
#define HANDLES 32U
#define WALK_BYTES ((size_t)256 << 10)
#define BEGIN_BYTES ((uint64_t)4 << 20)
#define NAME_BYTES (sizeof("pack-0123456789abcdef.plx") - 1)

struct handle {
    uint64_t number; /* 0: free place */
    struct envfile *file;
    unsigned readers;
    uint64_t used; /* when last, by packs.clock */
};

struct packs {
    struct env *env;
    char *dir;
    uint32_t dir_number;
    struct instid cluster;
    uint64_t pack_bytes;

    pthread_mutex_t append_lock;
    uint64_t next_number;
    uint64_t number; /* of `file` */
    struct envfile *file;
    uint64_t end;
    bool is_unsynced;
    bool is_new;       /* its name may not be durable */
    enum errcode lost; /* why appends since the last sync were; ERR_OK: none */
    uint64_t synced;   /* so much of `file` */
    uint64_t begun;    /* the disk was told of so much */
    struct given_up {  /* packs of which only so much counts */
        uint64_t number;
        uint64_t synced;
    } * given_up;
    size_t ngiven_up;
    struct buf frame;

    pthread_mutex_t handle_lock;
    struct handle handles[HANDLES];
    uint64_t clock;
};

/* ------------------------------------------------------------------------ */
/* Bytes. */

static void
put_le(uint8_t *to, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (uint8_t)(v >> (8 * i));
}

static size_t
padded(size_t n)
{
    return (n + 7U) & ~(size_t)7U;
}

void
pack_head_encode(const struct pack_head *h, uint8_t out[PACK_HEADER_BYTES])
{
    memset(out, 0, PACK_HEADER_BYTES);
    put_le(out, PACK_MAGIC, 8);
    put_le(out + 8, PACK_VERSION, 4);
    memcpy(out + 16, h->cluster.b, INSTANCE_ID_BYTES);
    put_le(out + 32, h->number, 8);
    put_le(out + 40, h->created_us, 8);
    put_le(out + CHECKSUM_AT, XXH3_64bits(out, PACK_HEADER_BYTES), 4);
}

enum errcode
pack_head_decode(struct span in, struct pack_head *ret, struct error *err)
{
    uint8_t block[PACK_HEADER_BYTES];
    struct rd r = rd_init(in);
    uint64_t magic = rd_u64le(&r);
    uint32_t version = rd_u32le(&r);
    uint32_t checksum = rd_u32le(&r);
    struct pack_head h = {0};

    if (in.n < PACK_HEADER_BYTES || magic != PACK_MAGIC)
        return error_set(err, ERR_CORRUPT, "not a pack");
    memcpy(block, in.p, PACK_HEADER_BYTES);
    memset(block + CHECKSUM_AT, 0, 4);
    if ((uint32_t)XXH3_64bits(block, PACK_HEADER_BYTES) != checksum)
        return error_set(err, ERR_CORRUPT, "first block of a pack is damaged");
    if (version != PACK_VERSION)
        return error_set(err, ERR_VERSION, "pack of version %" PRIu32, version);
    memcpy(h.cluster.b, rd_span(&r, INSTANCE_ID_BYTES).p, INSTANCE_ID_BYTES);
    h.number = rd_u64le(&r);
    h.created_us = rd_u64le(&r);
    *ret = h;
    return ERR_OK;
}

void
pack_frame_encode(const struct guid *guid, const struct body_loc *loc,
                  uint8_t out[PACK_FRAME_BYTES])
{
    memset(out, 0, PACK_FRAME_BYTES);
    put_le(out, FRAME_MAGIC_BODY, 4);
    memcpy(out + 8, guid->b, GUID_BYTES);
    put_le(out + 28, loc->part, 4);
    put_le(out + 32, loc->size, 8);
    put_le(out + 40, loc->raw_bytes, 4);
    put_le(out + 44, loc->stored_bytes, 4);
    put_le(out + 48, loc->hash, 8);
    out[56] = (uint8_t)loc->encoding;
    put_le(out + 60, loc->parts, 4);
    put_le(out + 4, XXH3_64bits(out + 8, PACK_FRAME_BYTES - 8), 4);
}

/* The header only; its lengths are within their bounds then. */
static enum parse
frame_head_read(struct span in, struct guid *ret_guid, struct body_loc *ret)
{
    struct rd r = rd_init(span_sub(in, 0, PACK_FRAME_BYTES));
    uint32_t magic = rd_u32le(&r);
    uint32_t checksum = rd_u32le(&r);
    struct span guid = rd_span(&r, GUID_BYTES);
    struct body_loc loc = {.home = BODY_IN_PACK};

    loc.part = rd_u32le(&r);
    loc.size = rd_u64le(&r);
    loc.raw_bytes = rd_u32le(&r);
    loc.stored_bytes = rd_u32le(&r);
    loc.hash = rd_u64le(&r);
    uint32_t encoding = rd_u32le(&r);
    loc.parts = rd_u32le(&r);
    if (r.bad)
        return PARSE_MORE;
    if (magic != FRAME_MAGIC_BODY ||
        (uint32_t)XXH3_64bits(in.p + 8, PACK_FRAME_BYTES - 8) != checksum ||
        encoding > BODY_ZSTD)
        return PARSE_BAD;
    loc.encoding = encoding == BODY_ZSTD ? BODY_ZSTD : BODY_RAW;
    if (!body_loc_fits(&loc))
        return PARSE_BAD;
    memcpy(ret_guid->b, guid.p, GUID_BYTES);
    *ret = loc;
    return PARSE_DONE;
}

enum parse
pack_frame_decode(struct span in, struct guid *ret_guid,
                  struct body_loc *ret_loc, struct span *ret_stored,
                  size_t *ret_used)
{
    struct guid guid;
    struct body_loc loc;
    enum parse rc = frame_head_read(in, &guid, &loc);

    if (rc != PARSE_DONE)
        return rc;
    size_t n = PACK_FRAME_BYTES + padded(loc.stored_bytes);
    if (in.n < n)
        return PARSE_MORE;
    struct span stored = span_sub(in, PACK_FRAME_BYTES, loc.stored_bytes);
    if (XXH3_64bits(stored.p, stored.n) != loc.hash)
        return PARSE_BAD;
    *ret_guid = guid;
    *ret_loc = loc;
    *ret_stored = stored;
    *ret_used = n;
    return PARSE_DONE;
}

/* ------------------------------------------------------------------------ */
/* Files. */

static char *
path_in(const char *dir, uint64_t number)
{
    return xasprintf("%s/pack-%016" PRIx64 ".plx", dir, number);
}

static char *
pack_path(const struct packs *p, uint64_t number)
{
    return path_in(p->dir, number);
}

/* The number in a file's name; 0 if it is not a pack's. */
static uint64_t
number_of(struct span name)
{
    struct span prefix = SPAN_LIT("pack-");
    uint64_t number;

    if (name.n != NAME_BYTES || !span_starts(name, prefix) ||
        !span_eq_str(span_skip(name, NAME_BYTES - 4), ".plx") ||
        !parse_hex_u64(span_sub(name, prefix.n, 16), &number))
        return 0;
    return number;
}

static int
compare_numbers(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static enum errcode
list_packs(struct env *env, const char *dir, uint64_t **ret, size_t *ret_n,
           struct error *err)
{
    AUTO(buf_free) struct buf names = BUF_INIT;
    uint64_t *v = NULL;
    size_t n = 0;

    enum errcode rc = env_list(env, dir, &names, err);
    if (rc != ERR_OK)
        return rc;
    for (size_t at = 0; at < names.n;) {
        struct span name = span_str((const char *)names.p + at);
        uint64_t number = number_of(name);
        at += name.n + 1;
        if (number == 0)
            continue;
        if ((n & (n + 1)) == 0) /* room for 2^k - 1 is used up */
            v = xrealloc(v, (2 * n + 1) * sizeof(*v));
        v[n++] = number;
    }
    if (n > 1)
        qsort(v, n, sizeof(*v), compare_numbers);
    *ret = v;
    *ret_n = n;
    return ERR_OK;
}

enum errcode
packs_open(struct env *env, const char *dir, uint32_t number,
           const struct instid *cluster, uint64_t pack_bytes,
           struct packs **ret, struct error *err)
{
    uint64_t *numbers = NULL;
    size_t n = 0;
    enum errcode rc = env_mkdirs(env, dir, err);

    if (rc == ERR_OK)
        rc = list_packs(env, dir, &numbers, &n, err);
    if (rc != ERR_OK)
        return error_prefix(err, "packs");
    const uint64_t highest = n > 0 ? numbers[n - 1] : 0;
    free(numbers);

    struct packs *p = xcalloc(1, sizeof(*p));
    p->env = env;
    p->dir = xstrdup(dir);
    p->dir_number = number;
    p->cluster = *cluster;
    p->pack_bytes = pack_bytes == 0 ? PACK_BYTES_MAX : pack_bytes;
    p->next_number = highest + 1;
    ENSURE(pthread_mutex_init(&p->append_lock, NULL) == 0);
    ENSURE(pthread_mutex_init(&p->handle_lock, NULL) == 0);
    *ret = p;
    return ERR_OK;
}

void
packs_close(struct packs **pp)
{
    struct packs *p = *pp;

    *pp = NULL;
    if (p == NULL)
        return;
    env_close(&p->file);
    for (size_t i = 0; i < HANDLES; i++) {
        ENSURE(p->handles[i].readers == 0);
        env_close(&p->handles[i].file);
    }
    pthread_mutex_destroy(&p->append_lock);
    pthread_mutex_destroy(&p->handle_lock);
    buf_free(&p->frame);
    free(p->given_up);
    free(p->dir);
    free(p);
}

enum errcode
packs_list(struct packs *p, uint64_t **ret, size_t *ret_n, struct error *err)
{
    enum errcode rc = list_packs(p->env, p->dir, ret, ret_n, err);

    return rc == ERR_OK ? rc : error_prefix(err, "packs");
}

enum errcode
packs_set_aside(struct env *env, const char *dir, const char *name,
                struct error *err)
{
    uint64_t *numbers = NULL;
    size_t n = 0;
    AUTO(xfree) char *aside = xasprintf("%s/%s", dir, name);

    if (!env_exists(env, dir))
        return ERR_OK;
    enum errcode rc = list_packs(env, dir, &numbers, &n, err);
    if (rc == ERR_OK && n > 0)
        rc = env_mkdirs(env, aside, err);
    for (size_t i = 0; rc == ERR_OK && i < n; i++) {
        AUTO(xfree) char *from = path_in(dir, numbers[i]);
        AUTO(xfree) char *to = path_in(aside, numbers[i]);
        rc = env_rename(env, from, to, err);
    }
    free(numbers);
    if (rc == ERR_OK && n > 0)
        rc = env_syncdir(env, aside, err);
    /* Also when nothing was left: one that was removed just now would be back
     * after a loss of power, beside a state that knows of none. */
    if (rc == ERR_OK)
        rc = env_syncdir(env, dir, err);
    return rc == ERR_OK ? rc : error_prefix(err, "packs");
}

uint64_t
packs_current(struct packs *p)
{
    pthread_mutex_lock(&p->append_lock);
    const uint64_t number = p->file == NULL ? 0 : p->number;
    pthread_mutex_unlock(&p->append_lock);
    return number;
}

/* What was appended since the last sync is lost.  Returns what *ERR says. */
static enum errcode
give_up_pack(struct packs *p, enum errcode rc)
{
    env_close(&p->file);
    p->given_up =
        xrealloc(p->given_up, (p->ngiven_up + 1) * sizeof(*p->given_up));
    p->given_up[p->ngiven_up++] = (struct given_up){p->number, p->synced};
    if (p->is_unsynced)
        p->lost = rc;
    p->is_unsynced = false;
    return rc;
}

static enum errcode
begin_pack(struct packs *p, struct error *err)
{
    uint8_t block[PACK_HEADER_BYTES];
    struct pack_head h = {.cluster = p->cluster,
                          .number = p->next_number,
                          .created_us = env_wall_us(p->env)};
    char *path = pack_path(p, h.number);

    /* A number is tried once: what a failure left of it may be found later. */
    p->next_number++;
    pack_head_encode(&h, block);
    enum errcode rc = env_open(p->env, path, ENV_NEW, &p->file, err);
    if (rc == ERR_OK)
        rc = env_pwrite(p->file, block, sizeof(block), 0, err);
    if (rc != ERR_OK) {
        env_close(&p->file);
        /* If this fails too there is an empty pack more, and nothing else. */
        if (env_unlink(p->env, path, NULL) != ERR_OK)
            p->is_new = true;
    }
    free(path);
    p->number = h.number;
    p->end = p->synced = PACK_HEADER_BYTES;
    p->begun = 0;
    p->is_new = true;
    return rc;
}

/* Locked.  What fails here is not tried again. */
static enum errcode
sync_pack(struct packs *p, struct error *err)
{
    enum errcode rc = ERR_OK;

    if (!p->is_unsynced)
        return ERR_OK;
    rc = env_fdatasync(p->file, err);
    if (rc == ERR_OK && p->is_new)
        rc = env_syncdir(p->env, p->dir, err);
    if (rc != ERR_OK)
        return give_up_pack(p, rc);
    p->synced = p->end;
    p->is_unsynced = false;
    p->is_new = false;
    return ERR_OK;
}

static enum errcode
append(struct packs *p, const struct guid *guid, struct body_loc *loc,
       struct span stored, struct error *err)
{
    static const uint8_t zeros[8];
    uint8_t head[PACK_FRAME_BYTES];
    enum errcode rc = ERR_OK;

    if (p->lost != ERR_OK)
        return error_set(err, p->lost, "bodies were lost before");
    if (p->file != NULL && p->end >= p->pack_bytes) {
        rc = sync_pack(p, err);
        if (rc != ERR_OK)
            return rc;
        env_close(&p->file);
    }
    if (p->file == NULL)
        rc = begin_pack(p, err);
    if (rc != ERR_OK)
        return rc;

    pack_frame_encode(guid, loc, head);
    buf_clear(&p->frame);
    buf_add(&p->frame, span_of(head, sizeof(head)));
    buf_add(&p->frame, stored);
    buf_add(&p->frame, span_of(zeros, padded(stored.n) - stored.n));
    p->is_unsynced = true;
    rc = env_pwrite(p->file, p->frame.p, p->frame.n, p->end, err);
    if (rc != ERR_OK)
        return give_up_pack(p, rc);
    loc->home = BODY_IN_PACK;
    loc->dir = p->dir_number;
    loc->file = p->number;
    loc->offset = p->end + PACK_FRAME_BYTES;
    p->end += p->frame.n;
    if (p->end - p->begun >= BEGIN_BYTES) {
        env_start_writing(p->file, p->begun, p->end - p->begun);
        p->begun = p->end;
    }
    return ERR_OK;
}

enum errcode
packs_append(struct packs *p, const struct guid *guid, struct body_loc *loc,
             struct span stored, struct error *err)
{
    ENSURE(body_loc_fits(loc) && stored.n == loc->stored_bytes);
    pthread_mutex_lock(&p->append_lock);
    enum errcode rc = append(p, guid, loc, stored, err);
    pthread_mutex_unlock(&p->append_lock);
    return rc == ERR_OK ? rc : error_prefix(err, "pack");
}

/*
 * A loss is told once: by the call in which it happens if it is this one, else
 * by the next of this kind; then appending begins anew.
 */
enum errcode
packs_sync(struct packs *p, struct error *err)
{
    pthread_mutex_lock(&p->append_lock);
    enum errcode rc = sync_pack(p, err);
    if (rc == ERR_OK && p->lost != ERR_OK)
        rc = error_set(err, p->lost, "bodies were lost before");
    p->lost = ERR_OK;
    pthread_mutex_unlock(&p->append_lock);
    return rc == ERR_OK ? rc : error_prefix(err, "pack");
}

bool
packs_holds(struct packs *p, const struct body_loc *loc)
{
    const uint64_t end = loc->offset + padded(loc->stored_bytes);
    uint64_t synced = UINT64_MAX; /* one that is full */

    pthread_mutex_lock(&p->append_lock);
    if (loc->file == p->number)
        synced = p->synced;
    for (size_t i = 0; i < p->ngiven_up; i++)
        if (p->given_up[i].number == loc->file)
            synced = p->given_up[i].synced;
    pthread_mutex_unlock(&p->append_lock);
    return end <= synced;
}

/* ------------------------------------------------------------------------ */
/* Reading. */

/* Locked.  The place of NUMBER, or the one to put it: NULL if all are read. */
static struct handle *
find_handle(struct packs *p, uint64_t number)
{
    struct handle *oldest = NULL;

    for (size_t i = 0; i < HANDLES; i++) {
        struct handle *h = &p->handles[i];
        if (h->number == number)
            return h;
        if (h->readers == 0 && (oldest == NULL || h->used < oldest->used))
            oldest = h;
    }
    return oldest;
}

static enum errcode
open_reader(struct packs *p, uint64_t number, struct envfile **ret,
            struct error *err)
{
    char *path = pack_path(p, number);
    enum errcode rc = env_open(p->env, path, ENV_READ, ret, err);

    free(path);
    return rc == ERR_NOTFOUND
               ? error_set(err, ERR_GAP, "no pack %016" PRIx64, number)
               : rc;
}

/*
 * *RET_HANDLE has one reader more, or is NULL: all places are being read, and
 * *RET_FILE is the caller's own.  Opening under the lock is rare and keeps two
 * threads from opening the same pack.
 */
static enum errcode
take_handle(struct packs *p, uint64_t number, struct handle **ret_handle,
            struct envfile **ret_file, struct error *err)
{
    enum errcode rc = ERR_OK;

    pthread_mutex_lock(&p->handle_lock);
    struct handle *h = find_handle(p, number);
    if (h == NULL) {
        rc = open_reader(p, number, ret_file, err);
    } else {
        if (h->number != number) {
            env_close(&h->file);
            h->number = 0;
            rc = open_reader(p, number, &h->file, err);
        }
        if (rc == ERR_OK) {
            h->number = number;
            h->readers++;
            h->used = ++p->clock;
            *ret_file = h->file;
        }
    }
    *ret_handle = rc == ERR_OK ? h : NULL;
    pthread_mutex_unlock(&p->handle_lock);
    return rc;
}

enum errcode
packs_pread(struct packs *p, uint64_t number, uint64_t offset, void *to,
            size_t n, struct error *err)
{
    struct handle *h = NULL;
    struct envfile *file = NULL;
    enum errcode rc = number == 0 ? error_set(err, ERR_GAP, "no pack 0")
                                  : take_handle(p, number, &h, &file, err);

    if (rc != ERR_OK)
        return rc;
    rc = env_pread(file, to, n, offset, err);
    if (h == NULL) {
        env_close(&file);
        return rc;
    }
    pthread_mutex_lock(&p->handle_lock);
    h->readers--;
    pthread_mutex_unlock(&p->handle_lock);
    return rc;
}

enum errcode
packs_remove(struct packs *p, uint64_t number, struct error *err)
{
    char *path = pack_path(p, number);

    pthread_mutex_lock(&p->handle_lock);
    for (size_t i = 0; i < HANDLES; i++) {
        struct handle *h = &p->handles[i];
        if (h->number == number && h->readers == 0) {
            env_close(&h->file);
            *h = (struct handle){0};
        }
    }
    pthread_mutex_unlock(&p->handle_lock);
    enum errcode rc = env_unlink(p->env, path, err);
    free(path);
    return rc;
}

uint64_t
pack_frame_bytes(uint32_t stored_bytes)
{
    return PACK_FRAME_BYTES + padded(stored_bytes);
}

/* Headers that lie within IN, which is from *AT of the file on. */
static bool
walk_window(struct packs *p, uint64_t number, struct span in, uint64_t *at,
            void (*each)(void *ctx, const struct guid *guid,
                         const struct body_loc *loc),
            void *ctx)
{
    uint64_t skip = 0;

    while (skip < in.n && in.n - skip >= PACK_FRAME_BYTES) {
        struct guid guid;
        struct body_loc loc;
        if (frame_head_read(span_skip(in, (size_t)skip), &guid, &loc) !=
            PARSE_DONE)
            return false;
        loc.dir = p->dir_number;
        loc.file = number;
        loc.offset = *at + PACK_FRAME_BYTES;
        each(ctx, &guid, &loc);
        *at += pack_frame_bytes(loc.stored_bytes);
        skip += pack_frame_bytes(loc.stored_bytes);
    }
    return true;
}

enum errcode
packs_walk(struct packs *p, uint64_t number, uint64_t *at,
           void (*each)(void *ctx, const struct guid *guid,
                        const struct body_loc *loc),
           void *ctx, bool *ret_end, bool *ret_broken, struct error *err)
{
    AUTO(buf_free) struct buf window = BUF_INIT;
    AUTO(env_close) struct envfile *file = NULL;
    uint64_t from = *at == 0 ? PACK_HEADER_BYTES : *at;
    uint64_t bytes = 0;
    size_t got = 0;

    enum errcode rc = open_reader(p, number, &file, err);
    if (rc == ERR_OK)
        rc = env_size(file, &bytes, err);
    if (rc == ERR_OK)
        rc = env_pread_some(file, buf_reserve(&window, WALK_BYTES), WALK_BYTES,
                            from, &got, err);
    if (rc != ERR_OK)
        return error_prefix(err, "pack");
    const bool is_sound =
        walk_window(p, number, span_of(window.p, got), &from, each, ctx);
    *at = from;
    *ret_end = !is_sound || got < WALK_BYTES;
    *ret_broken = *ret_end && from != bytes;
    return ERR_OK;
}

static enum errcode
verify_frames(struct packs *p, struct envfile *file, uint64_t end,
              void (*each)(void *ctx, const struct guid *guid,
                           const struct body_loc *loc),
              void *ctx, uint64_t number, uint64_t *ret_torn, struct error *err)
{
    struct buf frame = BUF_INIT;
    enum errcode rc = ERR_OK;
    uint64_t at = PACK_HEADER_BYTES;
    size_t most = PACK_FRAME_BYTES + padded(BODY_PART_BYTES);

    while (at < end) {
        struct guid guid;
        struct body_loc loc;
        struct span stored;
        size_t used = 0;
        size_t got = 0;
        buf_clear(&frame);
        rc = env_pread_some(file, buf_reserve(&frame, most), most, at, &got,
                            err);
        if (rc != ERR_OK)
            break;
        enum parse parsed = pack_frame_decode(span_of(frame.p, got), &guid,
                                              &loc, &stored, &used);
        if (parsed != PARSE_DONE)
            break;
        loc.dir = p->dir_number;
        loc.file = number;
        loc.offset = at + PACK_FRAME_BYTES;
        if (each != NULL)
            each(ctx, &guid, &loc);
        at += used;
    }
    buf_free(&frame);
    if (rc == ERR_OK)
        *ret_torn = end - at;
    return rc;
}

static enum errcode
check_head(struct packs *p, uint64_t number, struct envfile *file,
           struct error *err)
{
    uint8_t block[PACK_HEADER_BYTES];
    struct pack_head h;
    size_t got = 0;

    enum errcode rc = env_pread_some(file, block, sizeof(block), 0, &got, err);
    if (rc == ERR_OK)
        rc = pack_head_decode(span_of(block, got), &h, err);
    if (rc == ERR_OK &&
        (h.number != number || !instid_eq(&h.cluster, &p->cluster)))
        rc = error_set(err, ERR_CORRUPT,
                       "pack %016" PRIx64 " says it is %016" PRIx64
                       " or of another cluster",
                       number, h.number);
    return rc;
}

static enum errcode
open_pack(struct packs *p, uint64_t number, enum envopen mode,
          struct envfile **ret, struct error *err)
{
    AUTO(xfree) char *path = pack_path(p, number);

    return env_open(p->env, path, mode, ret, err);
}

enum errcode
packs_check_head(struct packs *p, uint64_t number, struct error *err)
{
    AUTO(env_close) struct envfile *file = NULL;

    enum errcode rc = open_pack(p, number, ENV_READ, &file, err);
    return rc == ERR_OK ? check_head(p, number, file, err) : rc;
}

enum errcode
packs_mend_head(struct packs *p, uint64_t number, struct error *err)
{
    AUTO(env_close) struct envfile *file = NULL;
    uint8_t block[PACK_HEADER_BYTES];
    const struct pack_head h = {.cluster = p->cluster,
                                .number = number,
                                .created_us = env_wall_us(p->env)};

    pack_head_encode(&h, block);
    enum errcode rc = open_pack(p, number, ENV_WRITE, &file, err);
    if (rc == ERR_OK)
        rc = env_pwrite(file, block, sizeof(block), 0, err);
    return rc == ERR_OK ? env_fdatasync(file, err) : rc;
}

enum errcode
packs_verify(struct packs *p, uint64_t number,
             void (*each)(void *ctx, const struct guid *guid,
                          const struct body_loc *loc),
             void *ctx, uint64_t *ret_torn_bytes, struct error *err)
{
    AUTO(env_close) struct envfile *file = NULL;
    uint64_t end = 0;

    enum errcode rc = open_pack(p, number, ENV_READ, &file, err);
    if (rc == ERR_OK)
        rc = env_size(file, &end, err);
    if (rc == ERR_OK)
        rc = check_head(p, number, file, err);
    if (rc == ERR_OK)
        rc =
            verify_frames(p, file, end, each, ctx, number, ret_torn_bytes, err);
    return rc;
}
