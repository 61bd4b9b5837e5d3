/*
 * admin/backup_files.c - writing and reading the files of a backup.
 *
 * Who writes hashes on the way, so that nothing is read again, and syncs every
 * few MiB: the log of a running instance must not wait behind a heap of pages.
 *
 * Who reads rows or index takes frames off the front of a bounded buffer; the
 * hash of the whole file is compared when it ends, so a record may be given out
 * before its file proves good, but the end of the records never.
 */
#include "admin/backup_dir.h"

#include <stdlib.h>
#include <xxhash.h>

#include "store/pack.h"

#define WRITE_BYTES ((size_t)1 << 20)
#define SYNC_BYTES ((uint64_t)8 << 20)
#define READ_BYTES ((size_t)1 << 20)
/* Of a pack: no part of a body is longer as it is stored than raw. */
#define FRAME_MAX ((uint64_t)2 * BODY_PART_BYTES)

/* ---- writing ----------------------------------------------------------- */

void
backup_out_init(struct backup_out *o, struct env *env, const char *dir,
                const struct backup_head *head, uint64_t first_number,
                uint64_t file_bytes)
{
    *o = (struct backup_out){
        .env = env,
        .dir = dir,
        .head = *head,
        .number = first_number - 1,
        .file_bytes = file_bytes,
        .created_us = env_wall_us(env),
        .hash = XXH3_createState(),
    };
    ENSURE(o->hash != NULL);
}

void
backup_out_free(struct backup_out *o)
{
    env_close(&o->file);
    if (o->hash != NULL)
        XXH3_freeState(o->hash);
    buf_free(&o->wait);
    buf_free(&o->payload);
    free(o->files);
    *o = (struct backup_out){0};
}

/* Write what waits. */
static enum errcode
write_waiting(struct backup_out *o, struct error *err)
{
    if (o->wait.n == 0)
        return ERR_OK;
    enum errcode rc =
        env_pwrite(o->file, o->wait.p, o->wait.n, o->written, err);
    if (rc != ERR_OK)
        return rc;
    ENSURE(XXH3_64bits_update(o->hash, o->wait.p, o->wait.n) == XXH_OK);
    o->written += o->wait.n;
    buf_clear(&o->wait);
    if (o->written - o->synced < SYNC_BYTES)
        return ERR_OK;
    o->synced = o->written;
    return env_fdatasync(o->file, err);
}

static void
put(struct backup_out *o, struct span s)
{
    buf_add(&o->wait, s);
    o->bytes += s.n;
    o->total += s.n;
}

static enum errcode
end_file(struct backup_out *o, struct error *err)
{
    if (o->file == NULL)
        return ERR_OK;
    enum errcode rc = write_waiting(o, err);
    if (rc == ERR_OK)
        rc = env_fsync(o->file, err);
    env_close(&o->file);
    if (rc != ERR_OK)
        return rc;
    o->files = xrealloc(o->files, (o->nfiles + 1) * sizeof(*o->files));
    o->files[o->nfiles++] = (struct backup_file){
        .kind = o->head.kind,
        .number = o->number,
        .bytes = o->bytes,
        .hash = XXH3_64bits_digest(o->hash),
    };
    return ERR_OK;
}

static enum errcode
begin_file(struct backup_out *o, struct error *err)
{
    enum errcode rc = end_file(o, err);

    if (rc != ERR_OK)
        return rc;
    o->number++;
    AUTO(xfree)
    char *path =
        backup_path(o->dir, o->head.generation, o->head.kind, o->number);
    rc = env_open(o->env, path, ENV_NEW, &o->file, err);
    if (rc != ERR_OK)
        return rc;
    o->bytes = o->written = o->synced = 0;
    ENSURE(XXH3_64bits_reset(o->hash) == XXH_OK);
    if (o->head.kind == BACKUP_PACK) {
        struct pack_head h = {.cluster = o->head.cluster,
                              .number = o->number,
                              .created_us = o->created_us};
        uint8_t block[PACK_HEADER_BYTES];
        pack_head_encode(&h, block);
        put(o, span_of(block, sizeof(block)));
    } else {
        uint8_t block[BACKUP_HEAD_BYTES];
        o->head.number = o->number;
        backup_head_encode(&o->head, block);
        put(o, span_of(block, sizeof(block)));
    }
    return ERR_OK;
}

static enum errcode
make_room(struct backup_out *o, uint64_t more, struct error *err)
{
    if (o->file == NULL || o->bytes + more > o->file_bytes)
        return begin_file(o, err);
    return ERR_OK;
}

static enum errcode
end_frame(struct backup_out *o, struct error *err)
{
    uint8_t head[BACKUP_FRAME_BYTES];

    if (o->payload.n == 0)
        return ERR_OK;
    ENSURE(o->payload.n <= BACKUP_PAYLOAD_MAX);
    enum errcode rc =
        make_room(o, BACKUP_FRAME_BYTES + (uint64_t)o->payload.n, err);
    if (rc != ERR_OK)
        return rc;
    backup_frame_encode(buf_span(&o->payload), head);
    put(o, span_of(head, sizeof(head)));
    put(o, buf_span(&o->payload));
    buf_clear(&o->payload);
    return write_waiting(o, err);
}

enum errcode
backup_out_row(struct backup_out *o, struct span key, struct span value,
               struct error *err)
{
    buf_add_blob(&o->payload, key);
    buf_add_blob(&o->payload, value);
    return o->payload.n < WRITE_BYTES ? ERR_OK : end_frame(o, err);
}

enum errcode
backup_out_entry(struct backup_out *o, const struct backup_entry *e,
                 struct error *err)
{
    backup_entry_encode(e, &o->payload);
    return o->payload.n < WRITE_BYTES ? ERR_OK : end_frame(o, err);
}

enum errcode
backup_out_body(struct backup_out *o, uint64_t *ret_pack, uint64_t *ret_offset,
                struct error *err)
{
    enum errcode rc = ERR_OK;

    if (o->file == NULL || o->bytes >= o->file_bytes)
        rc = begin_file(o, err);
    if (rc != ERR_OK)
        return rc;
    *ret_pack = o->number;
    *ret_offset = o->bytes;
    return ERR_OK;
}

enum errcode
backup_out_part(struct backup_out *o, const struct guid *guid,
                const struct body_loc *loc, struct span stored,
                struct error *err)
{
    static const uint8_t zeros[8];
    uint8_t head[PACK_FRAME_BYTES];

    pack_frame_encode(guid, loc, head);
    put(o, span_of(head, sizeof(head)));
    put(o, stored);
    put(o, span_of(zeros, (size_t)(-stored.n & 7U)));
    return o->wait.n < WRITE_BYTES ? ERR_OK : write_waiting(o, err);
}

/* Frames that belong to nobody are harmless in a pack, so what is on the disk
 * already stays there. */
void
backup_out_undo(struct backup_out *o, uint64_t offset)
{
    if (offset >= o->written) {
        size_t drop = (size_t)(o->bytes - offset);
        o->wait.n -= drop;
        o->bytes -= drop;
        o->total -= drop;
    }
}

enum errcode
backup_out_end(struct backup_out *o, struct error *err)
{
    enum errcode rc = end_frame(o, err);

    return rc == ERR_OK ? end_file(o, err) : rc;
}

/* ---- reading rows and index -------------------------------------------- */

void
backup_in_init(struct backup_in *in, struct env *env, const char *dir,
               const struct backup_manifest *m, enum backup_kind kind)
{
    *in = (struct backup_in){
        .env = env,
        .dir = dir,
        .m = m,
        .kind = kind,
        .hash = XXH3_createState(),
    };
    ENSURE(in->hash != NULL);
}

void
backup_in_free(struct backup_in *in)
{
    env_close(&in->file);
    if (in->hash != NULL)
        XXH3_freeState(in->hash);
    buf_free(&in->bytes);
    xfree(&in->path);
    *in = (struct backup_in){0};
}

/* More bytes, until there are N or the file ends. */
static enum errcode
fill(struct backup_in *in, size_t n, struct error *err)
{
    while (in->bytes.n < n && in->at < in->desc->bytes) {
        size_t want = (size_t)MIN(in->desc->bytes - in->at, READ_BYTES);
        uint8_t *to = buf_reserve(&in->bytes, want);
        enum errcode rc = env_pread(in->file, to, want, in->at, err);
        if (rc == ERR_GAP)
            return error_set(err, ERR_CORRUPT, "it is cut");
        if (rc != ERR_OK)
            return rc;
        ENSURE(XXH3_64bits_update(in->hash, to, want) == XXH_OK);
        in->bytes.n += want;
        in->at += want;
    }
    return ERR_OK;
}

static enum errcode
open_next(struct backup_in *in, bool *ret_end, struct error *err)
{
    struct backup_head h;
    uint64_t size = 0;

    while (in->next_file < in->m->nfiles &&
           in->m->files[in->next_file].kind != in->kind)
        in->next_file++;
    *ret_end = in->next_file == in->m->nfiles;
    if (*ret_end)
        return ERR_OK;
    in->desc = &in->m->files[in->next_file++];
    xfree(&in->path);
    in->path =
        backup_path(in->dir, in->m->generation, in->kind, in->desc->number);
    enum errcode rc = env_open(in->env, in->path, ENV_READ, &in->file, err);
    if (rc == ERR_OK)
        rc = env_size(in->file, &size, err);
    if (rc != ERR_OK)
        return rc;
    in->at = 0;
    ENSURE(XXH3_64bits_reset(in->hash) == XXH_OK);
    if (size != in->desc->bytes)
        return error_set(err, ERR_CORRUPT,
                         "it has %" PRIu64 " bytes, the manifest says %" PRIu64,
                         size, in->desc->bytes);
    rc = fill(in, BACKUP_HEAD_BYTES, err);
    if (rc == ERR_OK)
        rc = backup_head_decode(buf_span(&in->bytes), &h, err);
    if (rc != ERR_OK)
        return rc;
    if (h.generation != in->m->generation || h.kind != in->kind ||
        h.number != in->desc->number || !instid_eq(&h.cluster, &in->m->cluster))
        return error_set(err, ERR_CORRUPT, "it is another file");
    buf_drop(&in->bytes, BACKUP_HEAD_BYTES);
    return ERR_OK;
}

static enum errcode
end_of_file(struct backup_in *in, struct error *err)
{
    env_close(&in->file);
    if (XXH3_64bits_digest(in->hash) != in->desc->hash)
        return error_set(err, ERR_CORRUPT, "its checksum is wrong");
    return ERR_OK;
}

/* The next frame becomes in->payload. */
static enum errcode
next_frame(struct backup_in *in, bool *ret_end, struct error *err)
{
    struct span payload = SPAN_EMPTY;
    enum errcode rc = ERR_OK;

    *ret_end = false;
    buf_drop(&in->bytes, in->used);
    in->used = 0;
    if (in->file != NULL && in->bytes.n == 0 && in->at == in->desc->bytes)
        rc = end_of_file(in, err);
    while (rc == ERR_OK && in->file == NULL) {
        rc = open_next(in, ret_end, err);
        if (rc != ERR_OK || *ret_end)
            return rc;
        if (in->bytes.n == 0 && in->at == in->desc->bytes)
            rc = end_of_file(in, err);
    }
    if (rc != ERR_OK)
        return rc;
    rc = fill(in, BACKUP_FRAME_BYTES, err);
    if (rc == ERR_OK) {
        struct rd r = rd_init(span_skip(buf_span(&in->bytes), 4));
        rc = fill(in,
                  BACKUP_FRAME_BYTES +
                      MIN((size_t)rd_u32le(&r), BACKUP_PAYLOAD_MAX),
                  err);
    }
    if (rc != ERR_OK)
        return rc;
    if (backup_frame_decode(buf_span(&in->bytes), &payload, &in->used) !=
        PARSE_DONE)
        return error_set(err, ERR_CORRUPT, "damaged before byte %" PRIu64,
                         in->at);
    in->payload = rd_init(payload);
    return ERR_OK;
}

/* in->payload has something to read, or the end is there. */
static enum errcode
need_payload(struct backup_in *in, bool *ret_end, struct error *err)
{
    *ret_end = false;
    if (in->payload.left.n > 0)
        return ERR_OK;
    enum errcode rc = next_frame(in, ret_end, err);
    if (rc != ERR_OK && in->path != NULL && rc != ERR_IO && rc != ERR_NOTFOUND)
        return error_prefix(err, "%s", in->path);
    return rc;
}

static enum errcode
malformed(const struct backup_in *in, struct error *err)
{
    return error_set(err, ERR_CORRUPT, "%s: a malformed record", in->path);
}

enum errcode
backup_in_row(struct backup_in *in, struct span *ret_key,
              struct span *ret_value, bool *ret_end, struct error *err)
{
    enum errcode rc = need_payload(in, ret_end, err);

    if (rc != ERR_OK || *ret_end)
        return rc;
    *ret_key = rd_blob(&in->payload, BACKUP_PAYLOAD_MAX);
    *ret_value = rd_blob(&in->payload, BACKUP_PAYLOAD_MAX);
    return in->payload.bad ? malformed(in, err) : ERR_OK;
}

enum errcode
backup_in_entry(struct backup_in *in, struct backup_entry *ret, bool *ret_end,
                struct error *err)
{
    enum errcode rc = need_payload(in, ret_end, err);

    if (rc != ERR_OK || *ret_end)
        return rc;
    backup_entry_read(&in->payload, ret);
    return in->payload.bad ? malformed(in, err) : ERR_OK;
}

/* ---- reading bodies ---------------------------------------------------- */

void
backup_packs_free(struct backup_packs *p)
{
    for (size_t i = 0; i < BACKUP_HANDLES; i++)
        env_close(&p->handles[i].file);
    buf_free(&p->bytes);
}

static enum errcode
open_pack(struct backup_packs *p, uint64_t number, struct envfile **ret,
          struct error *err)
{
    size_t slot = number % BACKUP_HANDLES;

    if (p->handles[slot].file == NULL || p->handles[slot].number != number) {
        AUTO(xfree) char *path = backup_path(p->dir, 0, BACKUP_PACK, number);
        env_close(&p->handles[slot].file);
        p->handles[slot].number = number;
        enum errcode rc =
            env_open(p->env, path, ENV_READ, &p->handles[slot].file, err);
        if (rc != ERR_OK)
            return rc;
    }
    *ret = p->handles[slot].file;
    return ERR_OK;
}

/* The frame at OFFSET, which ends before END. */
static enum errcode
read_frame(struct backup_packs *p, struct envfile *f, uint64_t offset,
           uint64_t end, struct guid *guid, struct body_loc *loc,
           struct span *stored, size_t *used, struct error *err)
{
    size_t want = PACK_FRAME_BYTES;
    enum errcode rc = ERR_OK;

    for (int i = 0; i < 2 && rc == ERR_OK; i++) {
        buf_clear(&p->bytes);
        if (want > end - offset || want > FRAME_MAX)
            return error_set(err, ERR_CORRUPT, "a body that does not end");
        uint8_t *to = buf_reserve(&p->bytes, want);
        rc = env_pread(f, to, want, offset, err);
        if (rc != ERR_OK)
            break;
        p->bytes.n = want;
        struct rd r = rd_init(span_skip(buf_span(&p->bytes), 44));
        want = (size_t)pack_frame_bytes(rd_u32le(&r));
    }
    if (rc == ERR_GAP)
        return error_set(err, ERR_CORRUPT, "it is cut");
    if (rc == ERR_OK && pack_frame_decode(buf_span(&p->bytes), guid, loc,
                                          stored, used) != PARSE_DONE)
        return error_set(err, ERR_CORRUPT, "damaged at byte %" PRIu64, offset);
    return rc;
}

enum errcode
backup_packs_body(struct backup_packs *p, const struct backup_entry *e,
                  enum errcode (*call)(void *ctx, const struct guid *guid,
                                       const struct body_loc *loc,
                                       struct span stored, struct error *err),
                  void *ctx, struct error *err)
{
    struct envfile *f = NULL;
    struct guid guid;
    struct body_loc loc = {.parts = 1};
    struct span stored;
    uint64_t at = e->offset;
    size_t used = 0;

    if (e->bytes > UINT64_MAX - e->offset)
        return error_set(err, ERR_CORRUPT,
                         "an entry of the index that cannot "
                         "be");
    enum errcode rc = open_pack(p, e->pack, &f, err);
    if (rc != ERR_OK)
        return rc;
    for (uint32_t part = 0; rc == ERR_OK && part < loc.parts; part++) {
        rc = read_frame(p, f, at, e->offset + e->bytes, &guid, &loc, &stored,
                        &used, err);
        if (rc != ERR_OK)
            return error_prefix(err, "%s", env_path(f));
        if (!guid_eq(&guid, &e->guid) || loc.part != part ||
            loc.size != e->size)
            return error_set(err, ERR_CORRUPT, "%s: another body at %" PRIu64,
                             env_path(f), at);
        at += used;
        rc = call(ctx, &guid, &loc, stored, err);
    }
    return rc;
}
