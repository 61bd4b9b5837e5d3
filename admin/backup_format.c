/*
 * admin/backup_format.c - manifests, headers, frames and entries as bytes.
 *
 * A manifest is decoded line by line and then written again: equal bytes prove
 * that it has no second spelling, so the decoder need not look for one.
 */
#include "admin/backup_format.h"

#include <xxhash.h>

#define HEAD_MAGIC UINT64_C(0x50554b42584c50) /* "PLXBKUP" as it lies there */
#define FRAME_MAGIC 0x4b584c50U               /* "PLXK" */
#define CHECKSUM_AT 12U
#define CHECK_LINE_BYTES (sizeof("check 0123456789abcdef\n") - 1)

static const char *const kinds[] = {
    [BACKUP_ROWS] = "rows",
    [BACKUP_INDEX] = "index",
    [BACKUP_PACK] = "pack",
};

/* ---- manifest ---------------------------------------------------------- */

void
backup_manifest_encode(const struct backup_manifest *m, struct buf *out)
{
    char cluster[2 * INSTANCE_ID_BYTES + 1];
    size_t start = out->n;

    format_hex_bytes(m->cluster.b, INSTANCE_ID_BYTES, cluster);
    buf_addf(out, "pollux-backup %u\ngeneration %" PRIu64 "\ncluster %s\n",
             BACKUP_VERSION, m->generation, cluster);
    buf_addf(out,
             "epoch %" PRI_EPOCH "\nlsn %" PRI_LSN "\nchain %016" PRIx64
             "\ndigest %016" PRIx64 "\ntime %" PRIu64 "\nmade %" PRIu64 "\n",
             m->pos.applied.epoch, m->pos.applied.lsn, m->pos.chain,
             m->pos.digest, m->pos.time_us, m->made_us);
    buf_addf(out,
             "rows %" PRIu64 "\nbodies %" PRIu64 "\nbytes %" PRIu64
             "\nnew %" PRIu64 "\nnewbytes %" PRIu64 "\nlost %" PRIu64 "\n",
             m->rows, m->bodies, m->body_bytes, m->new_bodies, m->new_bytes,
             m->lost);
    for (size_t i = 0; i < m->nfiles; i++)
        buf_addf(out, "file %s %" PRIu64 " %" PRIu64 " %016" PRIx64 "\n",
                 kinds[m->files[i].kind], m->files[i].number, m->files[i].bytes,
                 m->files[i].hash);
    buf_addf(out, "check %016" PRIx64 "\n",
             (uint64_t)XXH3_64bits(out->p + start, out->n - start));
}

/* What is read line by line; `bad` stays. */
struct lines {
    struct span left;
    bool bad;
};

static struct span
word(struct span *line)
{
    ptrdiff_t at = span_find_byte(*line, ' ', 0);
    size_t n = at < 0 ? line->n : (size_t)at;
    struct span w = span_sub(*line, 0, n);

    *line = span_skip(*line, n + 1);
    return w;
}

/* The value of the next line, which must be called NAME. */
static struct span
value_of(struct lines *l, const char *name)
{
    ptrdiff_t end = span_find_byte(l->left, '\n', 0);
    struct span line = span_sub(l->left, 0, end < 0 ? 0 : (size_t)end);

    if (end < 0 || l->bad || !span_eq_str(word(&line), name)) {
        l->bad = true;
        return SPAN_EMPTY;
    }
    l->left = span_skip(l->left, (size_t)end + 1);
    return line;
}

static uint64_t
number_of(struct lines *l, const char *name)
{
    uint64_t v = 0;

    if (!parse_u64(value_of(l, name), &v))
        l->bad = true;
    return v;
}

static uint64_t
hex_of(struct lines *l, const char *name)
{
    uint64_t v = 0;

    if (!parse_hex_u64(value_of(l, name), &v))
        l->bad = true;
    return v;
}

static void
read_file_line(struct lines *l, struct backup_file *f)
{
    struct span line = value_of(l, "file");
    struct span kind = word(&line);

    f->kind = 0;
    for (size_t i = BACKUP_ROWS; i < ARRAY_LEN(kinds); i++)
        if (span_eq_str(kind, kinds[i]))
            f->kind = (enum backup_kind)i;
    if (f->kind == 0 || !parse_u64(word(&line), &f->number) ||
        !parse_u64(word(&line), &f->bytes) ||
        !parse_hex_u64(word(&line), &f->hash) || f->number == 0)
        l->bad = true;
}

/* Sorted by kind and number, rows and index without gaps. */
static bool
files_are_in_order(const struct backup_manifest *m)
{
    uint64_t number = 0;
    enum backup_kind kind = BACKUP_ROWS;

    for (size_t i = 0; i < m->nfiles; i++) {
        const struct backup_file *f = &m->files[i];
        if (f->kind != kind)
            number = 0;
        if (f->kind < kind || f->number <= number ||
            (f->kind != BACKUP_PACK && f->number != number + 1))
            return false;
        kind = f->kind;
        number = f->number;
    }
    return true;
}

static enum errcode
read_lines(struct span in, struct arena *a, struct backup_manifest *m,
           struct error *err)
{
    struct lines l = {.left = in};
    uint64_t version = number_of(&l, "pollux-backup");

    if (!l.bad && version > BACKUP_VERSION)
        return error_set(err, ERR_VERSION,
                         "manifest of version %" PRIu64 ", of a newer Pollux",
                         version);
    m->generation = number_of(&l, "generation");
    if (!parse_hex_bytes(value_of(&l, "cluster"), m->cluster.b,
                         INSTANCE_ID_BYTES))
        l.bad = true;
    uint64_t epoch = number_of(&l, "epoch");
    m->pos.applied.epoch = (epoch_t)MIN(epoch, (uint64_t)EPOCH_MAX);
    m->pos.applied.lsn = number_of(&l, "lsn");
    m->pos.chain = hex_of(&l, "chain");
    m->pos.digest = hex_of(&l, "digest");
    m->pos.time_us = number_of(&l, "time");
    m->made_us = number_of(&l, "made");
    m->rows = number_of(&l, "rows");
    m->bodies = number_of(&l, "bodies");
    m->body_bytes = number_of(&l, "bytes");
    m->new_bodies = number_of(&l, "new");
    m->new_bytes = number_of(&l, "newbytes");
    m->lost = number_of(&l, "lost");
    size_t n = 0;
    for (size_t i = 0; i < l.left.n; i++)
        n += l.left.p[i] == '\n';
    n -= n > 0; /* the last line is the check's */
    if (n > BACKUP_FILES_MAX)
        return error_set(err, ERR_LIMIT, "%zu files, limit %u", n,
                         BACKUP_FILES_MAX);
    struct backup_file *files = arena_array(a, n + 1, sizeof(*files));
    for (size_t i = 0; i < n && !l.bad; i++)
        read_file_line(&l, &files[i]);
    m->files = files;
    m->nfiles = n;
    (void)hex_of(&l, "check");
    if (l.bad || l.left.n > 0 || m->generation == 0 || !files_are_in_order(m))
        return error_set(err, ERR_CORRUPT, "not a manifest, or damaged");
    return ERR_OK;
}

enum errcode
backup_manifest_decode(struct span in, struct arena *a,
                       struct backup_manifest *ret, struct error *err)
{
    struct backup_manifest m = {0};
    AUTO(buf_free) struct buf again = BUF_INIT;

    if (in.n > BACKUP_MANIFEST_MAX)
        return error_set(err, ERR_LIMIT, "manifest of %zu bytes, limit %zu",
                         in.n, BACKUP_MANIFEST_MAX);
    enum errcode rc = read_lines(in, a, &m, err);
    if (rc != ERR_OK)
        return rc;
    backup_manifest_encode(&m, &again);
    if (!span_eq(buf_span(&again), in))
        return error_set(err, ERR_CORRUPT, "manifest is damaged");
    *ret = m;
    return ERR_OK;
}

/* ---- files of rows and index ------------------------------------------- */

static void
put_le(uint8_t *to, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (uint8_t)(v >> (8 * i));
}

void
backup_head_encode(const struct backup_head *h, uint8_t out[BACKUP_HEAD_BYTES])
{
    memset(out, 0, BACKUP_HEAD_BYTES);
    put_le(out, HEAD_MAGIC, 8);
    put_le(out + 8, BACKUP_VERSION, 4);
    memcpy(out + 16, h->cluster.b, INSTANCE_ID_BYTES);
    put_le(out + 32, h->generation, 8);
    put_le(out + 40, (uint64_t)h->kind, 4);
    put_le(out + 48, h->number, 8);
    put_le(out + CHECKSUM_AT, XXH3_64bits(out, BACKUP_HEAD_BYTES), 4);
}

enum errcode
backup_head_decode(struct span in, struct backup_head *ret, struct error *err)
{
    uint8_t block[BACKUP_HEAD_BYTES];
    struct rd r = rd_init(in);
    struct backup_head h = {0};
    uint64_t magic = rd_u64le(&r);
    uint32_t version = rd_u32le(&r);
    uint32_t checksum = rd_u32le(&r);

    if (in.n < BACKUP_HEAD_BYTES || magic != HEAD_MAGIC)
        return error_set(err, ERR_CORRUPT, "not a file of a backup");
    memcpy(block, in.p, BACKUP_HEAD_BYTES);
    memset(block + CHECKSUM_AT, 0, 4);
    if ((uint32_t)XXH3_64bits(block, BACKUP_HEAD_BYTES) != checksum)
        return error_set(err, ERR_CORRUPT, "its header is damaged");
    if (version != BACKUP_VERSION)
        return error_set(err, ERR_VERSION, "file of version %" PRIu32, version);
    memcpy(h.cluster.b, rd_span(&r, INSTANCE_ID_BYTES).p, INSTANCE_ID_BYTES);
    h.generation = rd_u64le(&r);
    uint64_t kind = rd_u64le(&r);
    h.number = rd_u64le(&r);
    if (kind != BACKUP_ROWS && kind != BACKUP_INDEX)
        return error_set(err, ERR_CORRUPT, "its header is damaged");
    h.kind = (enum backup_kind)kind;
    *ret = h;
    return ERR_OK;
}

void
backup_frame_encode(struct span payload, uint8_t out[BACKUP_FRAME_BYTES])
{
    put_le(out, FRAME_MAGIC, 4);
    put_le(out + 4, payload.n, 4);
    put_le(out + 8, XXH3_64bits(payload.p, payload.n), 8);
}

enum parse
backup_frame_decode(struct span in, struct span *ret, size_t *ret_used)
{
    struct rd r = rd_init(in);
    uint32_t magic = rd_u32le(&r);
    uint32_t n = rd_u32le(&r);
    uint64_t hash = rd_u64le(&r);

    if (r.bad)
        return PARSE_MORE;
    if (magic != FRAME_MAGIC || n == 0 || n > BACKUP_PAYLOAD_MAX)
        return PARSE_BAD;
    struct span payload = rd_span(&r, n);
    if (r.bad)
        return PARSE_MORE;
    if (XXH3_64bits(payload.p, payload.n) != hash)
        return PARSE_BAD;
    *ret = payload;
    *ret_used = BACKUP_FRAME_BYTES + payload.n;
    return PARSE_DONE;
}

void
backup_entry_encode(const struct backup_entry *e, struct buf *out)
{
    buf_add(out, span_of(e->guid.b, GUID_BYTES));
    buf_add_u64le(out, e->pack);
    buf_add_u64le(out, e->offset);
    buf_add_u64le(out, e->bytes);
    buf_add_u64le(out, e->size);
}

void
backup_entry_read(struct rd *r, struct backup_entry *ret)
{
    struct span guid = rd_span(r, GUID_BYTES);
    struct backup_entry e = {{{0}}, 0, 0, 0, 0};

    e.pack = rd_u64le(r);
    e.offset = rd_u64le(r);
    e.bytes = rd_u64le(r);
    e.size = rd_u64le(r);
    if (r->bad)
        return;
    memcpy(e.guid.b, guid.p, GUID_BYTES);
    *ret = e;
}
