/*
 * store/frames.c - frames from a master: the look at the bodies in them, in the
 * thread that received them, before they go to the writer.
 *
 * A body that comes whole is decompressed and its SHA-1 compared with the GUID
 * that its record names.  One in parts is hashed as the parts come, in order; a
 * stream that begins in the middle of a message, after a restart, cannot be
 * checked so, and has only the checksums of its frames and parts behind it.
 */
#include "store/store_private.h"

#include <stdlib.h>

#include <openssl/evp.h>

#include "store/body_private.h"

#define PART_HASHES_MAX 64U

struct part_hash {
    struct guid guid;
    uint32_t next_part;
    EVP_MD_CTX *sha1;
    struct part_hash *next;
};

static void
free_part_hash(struct part_hash *p)
{
    EVP_MD_CTX_free(p->sha1);
    free(p);
}

void
part_hashes_free(struct part_hashes *hashes)
{
    while (hashes->first != NULL) {
        struct part_hash *p = hashes->first;
        hashes->first = p->next;
        free_part_hash(p);
    }
    hashes->n = 0;
}

/* The raw bytes that STORED stands for; they live in ROOM. */
static enum errcode
decode_stored(enum body_encoding encoding, struct span stored,
              uint64_t raw_bytes, uint64_t hash, struct buf *room,
              struct span *ret, struct error *err)
{
    if (raw_bytes > BODY_PART_BYTES ||
        (encoding == BODY_RAW && stored.n != raw_bytes))
        return error_set(err, ERR_CORRUPT,
                         "a part of %" PRIu64 " bytes kept in %zu", raw_bytes,
                         stored.n);
    const struct body_loc loc = {
        .home = BODY_IN_LOG,
        .encoding = encoding,
        .stored_bytes = (uint32_t)stored.n,
        .raw_bytes = (uint32_t)raw_bytes,
        .hash = hash,
    };
    buf_clear(room);
    uint8_t *to = buf_reserve(room, (size_t)raw_bytes + 1);
    if (!body_unpack(&loc, stored, to))
        return error_set(err, ERR_CORRUPT,
                         "a body is not what its record says");
    room->n = (size_t)raw_bytes;
    *ret = buf_span(room);
    return ERR_OK;
}

static enum errcode
not_its_guid(const struct guid *guid, struct error *err)
{
    char text[GUID_TEXT_BYTES];
    return error_set(err, ERR_CORRUPT, "the body of %s has another SHA-1",
                     guid_text(guid, text));
}

static enum errcode
check_append(const struct record *rec, struct arena *a, struct buf *room,
             struct error *err)
{
    struct rec_append app;
    struct span raw;
    uint8_t sha1[EVP_MAX_MD_SIZE];

    enum errcode rc = rec_append_decode(rec->body, rec->version, a, &app, err);
    if (rc != ERR_OK || !app.has_body)
        return rc;
    rc = decode_stored(app.encoding, app.body, app.msg.size, app.body_hash,
                       room, &raw, err);
    if (rc != ERR_OK)
        return rc;
    ENSURE(EVP_Digest(raw.p, raw.n, sha1, NULL, EVP_sha1(), NULL) == 1);
    if (memcmp(sha1, app.msg.guid.b, GUID_BYTES) != 0)
        return not_its_guid(&app.msg.guid, err);
    return ERR_OK;
}

static struct part_hash **
find_part_hash(struct part_hashes *hashes, const struct guid *guid)
{
    struct part_hash **at = &hashes->first;
    while (*at != NULL && !guid_eq(&(*at)->guid, guid))
        at = &(*at)->next;
    return at;
}

static void
drop_part_hash(struct part_hashes *hashes, struct part_hash **at)
{
    struct part_hash *p = *at;
    *at = p->next;
    hashes->n--;
    free_part_hash(p);
}

static void
start_part_hash(struct part_hashes *hashes, const struct guid *guid)
{
    struct part_hash **at = find_part_hash(hashes, guid);

    if (*at != NULL)
        drop_part_hash(hashes, at);
    if (hashes->n >= PART_HASHES_MAX) { /* the one that waits longest */
        for (at = &hashes->first; (*at)->next != NULL;)
            at = &(*at)->next;
        drop_part_hash(hashes, at);
    }
    struct part_hash *p = xcalloc(1, sizeof(*p));
    p->guid = *guid;
    p->sha1 = EVP_MD_CTX_new();
    ENSURE(p->sha1 != NULL &&
           EVP_DigestInit_ex(p->sha1, EVP_sha1(), NULL) == 1);
    p->next = hashes->first;
    hashes->first = p;
    hashes->n++;
}

static enum errcode
hash_part(struct part_hashes *hashes, const struct rec_body *b, struct span raw,
          struct error *err)
{
    uint8_t sha1[EVP_MAX_MD_SIZE];

    if (b->part == 0)
        start_part_hash(hashes, &b->guid);
    struct part_hash **at = find_part_hash(hashes, &b->guid);
    if (*at == NULL || (*at)->next_part != b->part)
        return ERR_OK; /* its beginning was not seen */
    ENSURE(EVP_DigestUpdate((*at)->sha1, raw.p, raw.n) == 1);
    (*at)->next_part++;
    if (b->part + 1 < b->parts)
        return ERR_OK;
    ENSURE(EVP_DigestFinal_ex((*at)->sha1, sha1, NULL) == 1);
    drop_part_hash(hashes, at);
    if (memcmp(sha1, b->guid.b, GUID_BYTES) != 0)
        return not_its_guid(&b->guid, err);
    return ERR_OK;
}

static enum errcode
check_part(struct part_hashes *hashes, const struct record *rec,
           struct arena *a, struct buf *room, struct error *err)
{
    struct rec_body b;
    struct span raw;

    enum errcode rc = rec_body_decode(rec->body, rec->version, a, &b, err);
    if (rc == ERR_OK)
        rc = decode_stored(b.encoding, b.body, b.raw_bytes, b.body_hash, room,
                           &raw, err);
    if (rc != ERR_OK)
        return rc;
    pthread_mutex_lock(&hashes->lock);
    rc = hash_part(hashes, &b, raw, err);
    pthread_mutex_unlock(&hashes->lock);
    return rc;
}

static enum errcode
check_frame(struct part_hashes *hashes, const struct frame_head *h,
            struct span payload, struct buf *room, struct error *err)
{
    struct record rec;
    struct arena a = ARENA_INIT;
    size_t pos = 0;
    enum errcode rc = ERR_OK;

    while (rc == ERR_OK && frame_next_record(h, payload, &pos, &rec)) {
        if (rec.type == REC_APPEND)
            rc = check_append(&rec, &a, room, err);
        else if (rec.type == REC_BODY)
            rc = check_part(hashes, &rec, &a, room, err);
        if (rc != ERR_OK)
            (void)error_prefix(err, "record %" PRI_EPOCH ":%" PRI_LSN,
                               rec.epoch, rec.lsn);
        arena_reset(&a);
    }
    arena_free(&a);
    return rc;
}

enum errcode
frames_check_bodies(struct part_hashes *hashes, struct span frames,
                    struct error *err)
{
    AUTO(buf_free) struct buf room = BUF_INIT;
    enum errcode rc = ERR_OK;

    while (frames.n > 0 && rc == ERR_OK) {
        struct frame_head h;
        struct span payload;
        size_t used = 0;
        if (frame_decode(frames, &h, &payload, &used) != PARSE_DONE)
            return error_set(err, ERR_CORRUPT, "not whole frames");
        rc = check_frame(hashes, &h, payload, &room, err);
        frames = span_skip(frames, used);
    }
    return rc;
}
