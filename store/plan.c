/*
 * store/plan.c - which bodies are to leave a segment or a pack: those that lie
 * there and that rows name just there.
 *
 * A segment is read frame by frame.  If one of them is damaged the table of
 * bodies is walked for rows that name the segment instead: dearer, but it needs
 * nothing of the segment's own order, and once its bodies are out nobody needs
 * the damaged frame any more.  A pack is read by its headers.
 */
#include "store/compact_private.h"

#include <stdlib.h>

#define READ_BYTES ((size_t)1 << 20)
#define TABLE_ROWS 4000U
#define ROW_COST 64U

struct planning {
    struct store *store;
    struct plan *plan;
    enum errcode rc;
    struct error *err;
};

/* The part at LOC, if a row names it there. */
static enum errcode
plan_part(struct store *store, struct plan *j, const struct guid *guid,
          const struct body_loc *loc, struct error *err)
{
    struct item item = {.guid = *guid, .from = *loc};
    bool is_live = false;

    enum errcode rc = body_is_at(store, guid, loc, &is_live, err);
    if (rc != ERR_OK || !is_live)
        return rc;
    rc = placer_place(j->placer, &item, err);
    if (rc != ERR_OK)
        return rc;
    if (j->kind == JOB_PACK)
        item.to_dir = loc->dir; /* what is archived stays so */
    items_add(&j->items, &item);
    return ERR_OK;
}

/* The body in REC, if it has one. */
static enum errcode
plan_record(struct store *store, struct plan *j, const struct record *rec,
            uint64_t payload_at, struct arena *a, struct error *err)
{
    struct body_loc loc = {.home = BODY_IN_LOG,
                           .file = j->segment.number,
                           .offset = payload_at + rec->offset};
    enum errcode rc = ERR_OK;

    if (rec->type == REC_APPEND) {
        struct rec_append r;
        rc = rec_append_decode(rec->body, rec->version, a, &r, err);
        if (rc != ERR_OK || !r.has_body)
            return rc;
        loc.encoding = r.encoding;
        loc.offset += r.body_offset;
        loc.stored_bytes = (uint32_t)r.body.n;
        loc.raw_bytes = (uint32_t)r.msg.size;
        loc.hash = r.body_hash;
        loc.parts = 1;
        loc.size = r.msg.size;
        return plan_part(store, j, &r.msg.guid, &loc, err);
    }
    if (rec->type == REC_BODY) {
        struct rec_body r;
        rc = rec_body_decode(rec->body, rec->version, a, &r, err);
        if (rc != ERR_OK)
            return rc;
        loc.encoding = r.encoding;
        loc.offset += r.body_offset;
        loc.stored_bytes = (uint32_t)r.body.n;
        loc.raw_bytes = r.raw_bytes;
        loc.hash = r.body_hash;
        loc.part = r.part;
        loc.parts = r.parts;
        loc.size = r.size;
        return plan_part(store, j, &r.guid, &loc, err);
    }
    return ERR_OK;
}

static enum errcode
plan_frames(struct store *store, struct plan *j, struct span frames,
            uint64_t offset, struct error *err)
{
    struct arena a = ARENA_INIT;
    enum errcode rc = ERR_OK;
    size_t at = 0;

    while (rc == ERR_OK && at < frames.n) {
        struct frame_head h;
        struct span payload;
        struct record rec;
        size_t used;
        size_t pos = 0;
        if (frame_decode(span_skip(frames, at), &h, &payload, &used) !=
            PARSE_DONE) {
            rc = error_set(err, ERR_CORRUPT, "a frame does not decode");
            break;
        }
        while (rc == ERR_OK && frame_next_record(&h, payload, &pos, &rec)) {
            rc = plan_record(store, j, &rec, offset + at + FRAME_HEADER_BYTES,
                             &a, err);
            arena_reset(&a);
        }
        at += used;
    }
    arena_free(&a);
    return rc;
}

/* A megabyte of the segment. */
static enum errcode
read_segment(struct store *store, struct plan *j, uint64_t *ret_bytes,
             struct error *err)
{
    struct span frames;
    uint64_t segment, offset, time_us;
    lsn_t last;
    enum errcode rc = ERR_OK;

    if (j->reader == NULL)
        rc = reader_open(store->env, store->log_dir, synclog_mark(store->log),
                         j->segment.first_lsn - 1, &j->reader, err);
    if (rc == ERR_OK)
        rc = reader_next(j->reader, READ_BYTES, &frames, &last, &time_us, err);
    if (rc != ERR_OK)
        return rc;
    *ret_bytes += frames.n;
    if (frames.n > 0) {
        reader_place(j->reader, &segment, &offset);
        if (segment == j->segment.number)
            rc = plan_frames(store, j, frames, offset, err);
        else
            last = j->segment.last_lsn; /* we are beyond it */
    }
    j->is_read = frames.n == 0 || last >= j->segment.last_lsn;
    return rc;
}

static void
plan_frame_of_pack(void *ctx, const struct guid *guid,
                   const struct body_loc *loc)
{
    struct planning *p = ctx;

    if (p->rc == ERR_OK)
        p->rc = plan_part(p->store, p->plan, guid, loc, p->err);
}

static enum errcode
read_pack(struct store *store, struct plan *j, uint64_t *ret_bytes,
          struct error *err)
{
    struct planning p = {.store = store, .plan = j, .err = err};
    struct packs *packs = places_packs(bodies_places(store->bodies), j->dir);
    const uint64_t before = j->walked;

    enum errcode rc = packs_walk(packs, j->pack, &j->walked, plan_frame_of_pack,
                                 &p, &j->is_read, &j->is_broken, err);
    *ret_bytes += (j->walked - before) / 4;
    return rc == ERR_OK ? p.rc : rc;
}

/* A stretch of the table of bodies. */
static enum errcode
read_table(struct store *store, struct plan *j, uint64_t *ret_bytes,
           struct error *err)
{
    struct key table;
    struct span key;
    struct span value;
    enum errcode rc = ERR_OK;
    unsigned n = 0;
    struct kv_iter *it =
        kv_iter_open(store->kv, NULL, KV_STATE, key_table(&table, TAB_BODY),
                     key_span(&j->cursor));

    j->is_read = true;
    while (rc == ERR_OK && kv_iter_next(it, &key, &value)) {
        struct body_loc loc;
        struct guid guid;
        if (key.n < 1 + GUID_BYTES || key.n > KEY_MAX) {
            rc = error_set(err, ERR_CORRUPT, "malformed row of a body");
            break;
        }
        if (n++ == TABLE_ROWS) {
            memcpy(j->cursor.b, key.p, key.n);
            j->cursor.n = key.n;
            j->is_read = false;
            break;
        }
        memcpy(guid.b, key.p + 1, GUID_BYTES);
        rc = body_loc_decode(value, &loc, err);
        if (rc == ERR_OK && loc.home == BODY_IN_LOG &&
            loc.file == j->segment.number)
            rc = plan_part(store, j, &guid, &loc, err);
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    *ret_bytes += (uint64_t)n * ROW_COST;
    return rc == ERR_OK ? closed : rc;
}

enum errcode
plan_read(struct store *store, struct plan *j, uint64_t *ret_bytes,
          struct error *err)
{
    enum errcode rc = ERR_OK;

    if (j->kind == JOB_PACK)
        rc = read_pack(store, j, ret_bytes, err);
    else if (j->is_by_table)
        rc = read_table(store, j, ret_bytes, err);
    else
        rc = read_segment(store, j, ret_bytes, err);
    if (rc == ERR_CORRUPT && j->kind == JOB_SEGMENT && !j->is_by_table) {
        j->is_by_table = true;
        j->items.n = 0;
        return ERR_OK;
    }
    if (rc == ERR_OK && j->is_read)
        items_sort(&j->items);
    return rc;
}

void
plan_end(struct plan *j)
{
    items_free(&j->items);
    placer_free(&j->placer);
    reader_close(&j->reader);
    *j = (struct plan){0};
}
