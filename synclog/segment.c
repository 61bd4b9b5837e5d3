/*
 * synclog/segment.c - segment files: header, name, and the list of them.
 *
 * Names carry the number in hex with leading zeros, so that sorted names are
 * segments in order.  Numbers have no holes, since segments are made one after
 * the other and removed oldest first: a hole is damage.
 */
#include "synclog/synclog_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#define SEGMENT_MAGIC "PLXSEG\0"
#define SUM_OFFSET (SEGMENT_HEADER_BYTES - 8U)
#define NAME_PREFIX "seg-"
#define NAME_SUFFIX ".plx"
#define NAME_DIGITS 16U

static void
put_le(uint8_t *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

void
segment_head_encode(const struct segment_head *h,
                    uint8_t out[SEGMENT_HEADER_BYTES])
{
    memset(out, 0, SEGMENT_HEADER_BYTES);
    memcpy(out, SEGMENT_MAGIC, 8);
    put_le(out + 8, SEGMENT_VERSION, 4);
    put_le(out + 12, h->epoch, 4);
    memcpy(out + 16, h->cluster.b, INSTANCE_ID_BYTES);
    memcpy(out + 32, h->instance.b, INSTANCE_ID_BYTES);
    put_le(out + 48, h->number, 8);
    put_le(out + 56, h->first_lsn, 8);
    put_le(out + 64, h->prev_lsn, 8);
    put_le(out + 72, h->prev_chain, 8);
    put_le(out + 80, h->created_us, 8);
    put_le(out + SUM_OFFSET, XXH3_64bits(out, SUM_OFFSET), 8);
}

enum errcode
segment_head_decode(struct span in, struct segment_head *ret, struct error *err)
{
    if (in.n < SEGMENT_HEADER_BYTES)
        return error_set(err, ERR_CORRUPT,
                         "a segment header has %u bytes, here are %zu",
                         SEGMENT_HEADER_BYTES, in.n);
    if (memcmp(in.p, SEGMENT_MAGIC, 8) != 0)
        return error_set(err, ERR_CORRUPT, "no segment header");

    struct rd sum = rd_init(span_sub(in, SUM_OFFSET, 8));
    if (rd_u64le(&sum) != XXH3_64bits(in.p, SUM_OFFSET))
        return error_set(err, ERR_CORRUPT,
                         "the checksum of the segment header is wrong");

    struct rd r = rd_init(span_sub(in, 8, 80));
    struct segment_head h = {0};
    uint32_t version = rd_u32le(&r);
    if (version != SEGMENT_VERSION)
        return error_set(err, ERR_VERSION,
                         "segment format %" PRIu32 ", this version knows %u",
                         version, SEGMENT_VERSION);
    h.epoch = rd_u32le(&r);
    memcpy(h.cluster.b, rd_span(&r, INSTANCE_ID_BYTES).p, INSTANCE_ID_BYTES);
    memcpy(h.instance.b, rd_span(&r, INSTANCE_ID_BYTES).p, INSTANCE_ID_BYTES);
    h.number = rd_u64le(&r);
    h.first_lsn = rd_u64le(&r);
    h.prev_lsn = rd_u64le(&r);
    h.prev_chain = rd_u64le(&r);
    h.created_us = rd_u64le(&r);
    if (!rd_done(&r) || h.number == 0 || h.epoch > EPOCH_MAX ||
        h.prev_lsn > FRAME_LSN_MAX || h.first_lsn != h.prev_lsn + 1)
        return error_set(err, ERR_CORRUPT, "the segment header makes no sense");
    *ret = h;
    return ERR_OK;
}

void
seglist_free(struct seglist *list)
{
    free(list->v);
    *list = (struct seglist){0};
}

void
seglist_add(struct seglist *list, const struct seginfo *seg)
{
    if (list->n == list->cap) {
        list->cap = list->cap * 2 + 8;
        list->v = xrealloc(list->v, list->cap * sizeof(*list->v));
    }
    list->v[list->n++] = *seg;
}

void
seglist_drop(struct seglist *list, size_t n)
{
    ENSURE(n <= list->n);
    list->n -= n;
    memmove(list->v, list->v + n, list->n * sizeof(*list->v));
}

struct seginfo *
seglist_find(const struct seglist *list, uint64_t number)
{
    if (list->n == 0 || number < list->v[0].head.number ||
        number - list->v[0].head.number >= list->n)
        return NULL;
    return &list->v[number - list->v[0].head.number];
}

const char *
segment_path(const char *dir, uint64_t number, char out[LOG_PATH_BYTES])
{
    int n = snprintf(out, LOG_PATH_BYTES,
                     "%s/" NAME_PREFIX "%016" PRIx64 NAME_SUFFIX, dir, number);

    ENSURE(n > 0 && n < LOG_PATH_BYTES);
    return out;
}

bool
segment_number(struct span name, uint64_t *ret_number)
{
    const struct span prefix = SPAN_LIT(NAME_PREFIX);

    if (name.n != prefix.n + NAME_DIGITS + strlen(NAME_SUFFIX) ||
        !span_starts(name, prefix) ||
        !span_eq_str(span_skip(name, prefix.n + NAME_DIGITS), NAME_SUFFIX))
        return false;
    return parse_hex_u64(span_sub(name, prefix.n, NAME_DIGITS), ret_number) &&
           *ret_number != 0;
}

enum errcode
segment_read_head(struct envfile *f, uint64_t number, struct seginfo *ret,
                  struct error *err)
{
    uint8_t block[SEGMENT_HEADER_BYTES];
    struct seginfo seg;
    size_t n = 0;

    enum errcode rc = env_size(f, &seg.bytes, err);
    if (rc == ERR_OK)
        rc = env_pread_some(f, block, sizeof(block), 0, &n, err);
    if (rc != ERR_OK)
        return rc;
    rc = segment_head_decode(span_of(block, n), &seg.head, err);
    if (rc != ERR_OK) {
        error_prefix(err, "segment %s, offset 0", env_path(f));
        return rc;
    }
    if (seg.head.number != number)
        return error_set(err, ERR_CORRUPT,
                         "segment %s says that it is number %" PRIx64,
                         env_path(f), seg.head.number);
    *ret = seg;
    return ERR_OK;
}

/* What two neighbours have to agree on. */
static enum errcode
check_neighbours(const struct segment_head *a, const struct segment_head *b,
                 struct error *err)
{
    if (b->number != a->number + 1)
        return error_set(err, ERR_CORRUPT,
                         "segment %" PRIx64 " of the log is missing: there is "
                         "%" PRIx64 " and then %" PRIx64,
                         a->number + 1, a->number, b->number);
    if (!instid_eq(&a->cluster, &b->cluster))
        return error_set(err, ERR_HISTORY,
                         "segments %" PRIx64 " and %" PRIx64
                         " of the log come from different clusters",
                         a->number, b->number);
    if (b->first_lsn < a->first_lsn || b->epoch < a->epoch)
        return error_set(
            err, ERR_CORRUPT,
            "segment %" PRIx64 " begins at %" PRI_EPOCH ":%" PRI_LSN
            " and the next at %" PRI_EPOCH ":%" PRI_LSN,
            a->number, a->epoch, a->first_lsn, b->epoch, b->first_lsn);
    return ERR_OK;
}

static enum errcode
load_one(struct env *env, const char *dir, uint64_t number,
         struct seglist *list, struct error *err)
{
    char path[LOG_PATH_BYTES];
    struct seginfo seg;
    AUTO(env_close) struct envfile *f = NULL;

    enum errcode rc =
        env_open(env, segment_path(dir, number, path), ENV_READ, &f, err);
    if (rc == ERR_NOTFOUND)
        return error_set(err, ERR_AGAIN, "segment %s was just trimmed", path);
    if (rc == ERR_OK)
        rc = segment_read_head(f, number, &seg, err);
    if (rc == ERR_OK && list->n > 0)
        rc = check_neighbours(&list->v[list->n - 1].head, &seg.head, err);
    if (rc == ERR_OK)
        seglist_add(list, &seg);
    return rc;
}

enum errcode
seglist_load(struct env *env, const char *dir, struct seglist *ret,
             struct error *err)
{
    AUTO(buf_free) struct buf names = BUF_INIT;
    struct seglist list = {0};

    enum errcode rc = env_list(env, dir, &names, err);
    for (size_t at = 0; rc == ERR_OK && at < names.n;) {
        struct span name = span_str((const char *)names.p + at);
        uint64_t number = 0;
        at += name.n + 1;
        if (segment_number(name, &number))
            rc = load_one(env, dir, number, &list, err);
    }
    if (rc != ERR_OK) {
        seglist_free(&list);
        return rc;
    }
    *ret = list;
    return ERR_OK;
}
