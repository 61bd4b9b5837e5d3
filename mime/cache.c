/*
 * mime/cache.c - the cache record: a row of varints and blobs, so that decoding
 * it copies nothing, and so small that a mailbox's records fit the page cache.
 * The layout is in README.md; a change of what goes in, even of a word on the
 * wire, is a new version.
 */
#include "base/rd.h"
#include "mime/date.h"
#include "mime/message_private.h"
#include "mime/text.h"
#include "mime/wire_private.h"

#define REFS_MAX 200U /* kept of a longer list: the first, the last ones */
#define ID_BYTES_MAX 998U
#define SUBJECT_BYTES_MAX 4096U /* of a Subject that the base is taken of */
#define NAME_BYTES_MAX 1024U
#define PART_BYTES_MIN 6U
#define RECORD_BYTES 1024U /* most have no more, so they grow once */
#define FIELDS_BYTES_MAX 4096U
/* Longer headers are not gone through. */
#define HEADER_BYTES_MAX (1U << 20)

/* ---- encoding ---- */

static void
add_zigzag(struct buf *out, int64_t v)
{
    buf_add_varint(out, (uint64_t)v << 1 ^ (uint64_t)(v >> 63));
}

/* A blob of what stands in SCRATCH, which is cleared. */
static void
add_scratch(struct buf *out, struct buf *scratch)
{
    buf_add_blob(out, buf_span(scratch));
    buf_clear(scratch);
}

/*
 * Take the next message id off *S, normalized (RFC 5256, 2.2: quoting removed),
 * into OUT; false at the end.
 */
static bool
next_id(struct span *s, struct buf *out)
{
    while (s->n > 0) {
        ptrdiff_t open = span_find_byte(*s, '<', 0);
        if (open < 0)
            break;
        *s = span_skip(*s, (size_t)open + 1);
        buf_clear(out);
        size_t i = 0;
        for (; i < s->n && s->p[i] != '>' && s->p[i] != '<'; i++) {
            uint8_t c = s->p[i];
            if (c <= ' ' || c == '"')
                continue;
            if (c == '\\' && i + 1 < s->n)
                c = s->p[++i];
            if (out->n <= ID_BYTES_MAX)
                buf_add_byte(out, c);
        }
        bool whole = i < s->n && s->p[i] == '>';
        *s = span_skip(*s, i);
        if (whole && out->n > 0 && out->n <= ID_BYTES_MAX)
            return true;
    }
    s->n = 0;
    return false;
}

static size_t
count_ids(struct span s, struct buf *scratch)
{
    size_t n = 0;

    while (next_id(&s, scratch))
        n++;
    return n;
}

/* RFC 5256, 3 (REFERENCES): References, or the first id of In-Reply-To. */
static void
add_references(struct buf *out, const struct mime_env *env, struct buf *scratch)
{
    struct span from = env->references;
    struct buf refs = BUF_INIT;
    size_t all = count_ids(from, scratch);
    size_t kept = MIN(all, REFS_MAX);

    if (all == 0) {
        from = env->in_reply_to;
        all = kept = MIN(count_ids(from, scratch), 1);
    }
    for (size_t i = 0; i < all && next_id(&from, scratch); i++)
        if (i == 0 || kept == 1 || all - i < kept) {
            buf_add_blob(&refs, buf_span(scratch));
            if (kept == 1)
                break;
        }
    buf_clear(scratch);
    buf_add_varint(out, kept);
    buf_add_blob(out, buf_span(&refs));
    buf_free(&refs);
}

static struct span
first_mailbox(const struct mime_env *env, enum mime_env_list list)
{
    const struct mime_address *a = env->lists[list].first;
    return a == NULL ? SPAN_EMPTY : span_sub(a->mailbox, 0, NAME_BYTES_MAX);
}

/* RFC 5957, 3: the name, else the address, else the group. */
static void
add_display(struct buf *out, const struct mime_env *env,
            enum mime_env_list list, struct buf *scratch)
{
    const struct mime_address *a = env->lists[list].first;

    if (a != NULL && a->name.n > 0) {
        mime_header_decode(span_sub(a->name, 0, NAME_BYTES_MAX), scratch);
    } else if (a != NULL) {
        buf_add(scratch, span_sub(a->mailbox, 0, NAME_BYTES_MAX));
        if (a->host.n > 0) {
            buf_add_byte(scratch, '@');
            buf_add(scratch, span_sub(a->host, 0, NAME_BYTES_MAX));
        }
    }
    add_scratch(out, scratch);
}

static void
add_parts(struct buf *out, const struct mime_message *m, struct buf *scratch)
{
    size_t last_off = 0;

    for (size_t i = 0; i < m->n; i++) {
        const struct mime_part *part = &m->nodes[i].part;
        buf_add_byte(scratch, (uint8_t)((unsigned)part->kind |
                                        (unsigned)part->encoding << 4));
        buf_add_varint(scratch, part->depth);
        buf_add_varint(scratch, part->header_off - last_off);
        buf_add_varint(scratch, part->header_bytes);
        buf_add_varint(scratch, part->body_bytes);
        buf_add_varint(scratch, part->lines);
        last_off = part->header_off;
    }
    buf_add_varint(out, m->n);
    add_scratch(out, scratch);
}

/* The fields that are kept, or false. */
static bool
take_fields(const struct mime_message *msg, struct buf *out)
{
    const struct mime_part *part = &msg->nodes[0].part;

    return part->header_bytes <= HEADER_BYTES_MAX &&
           mime_kept_fields(
               span_sub(msg->raw, part->header_off, part->header_bytes),
               FIELDS_BYTES_MAX, out);
}

/* BODY and BODYSTRUCTURE; nearly all of one is the front of the other in a
 * message of one part. */
static void
add_bodies(struct buf *out, const struct mime_message *msg, struct buf *scratch)
{
    if (msg->n == 1 && msg->nodes[0].part.kind != MIME_KIND_MULTIPART &&
        msg->nodes[0].part.kind != MIME_KIND_MESSAGE) {
        const size_t basic = mime_wire_leaf(msg, scratch);
        buf_add_varint(out, basic + 1);
        buf_add(out, span_of(scratch->p, basic));
        buf_add_byte(out, ')');
    } else {
        mime_wire_body(msg, 0, false, scratch);
        add_scratch(out, scratch);
        mime_wire_body(msg, 0, true, scratch);
    }
    add_scratch(out, scratch);
}

void
mime_cache_encode(const struct mime_message *msg, struct buf *out)
{
    const struct mime_env *env = msg->nodes[0].env;
    struct buf scratch = BUF_INIT;
    struct buf subject = BUF_INIT;
    struct buf fields = BUF_INIT;
    struct mime_date date = {0};
    unsigned flags = 0;
    struct span id = env->message_id;

    (void)buf_reserve(out, RECORD_BYTES);
    (void)buf_reserve(&scratch, RECORD_BYTES);
    if (msg->limited)
        flags |= MIME_CACHE_LIMITED;
    if (mime_base_subject(span_sub(env->subject, 0, SUBJECT_BYTES_MAX),
                          &subject))
        flags |= MIME_CACHE_REPLY;
    if (mime_date_parse(span_sub(env->date, 0, NAME_BYTES_MAX), &date))
        flags |= MIME_CACHE_DATED;
    if (take_fields(msg, &fields))
        flags |= MIME_CACHE_FIELDS;

    buf_add_byte(out, MIME_CACHE_VERSION);
    buf_add_byte(out, (uint8_t)flags);
    buf_add_varint(out, msg->raw.n);
    mime_wire_envelope(env, &scratch);
    add_scratch(out, &scratch);
    add_bodies(out, msg, &scratch);
    add_zigzag(out, date.utc_s);
    add_zigzag(out, date.zone_min);
    add_scratch(out, &subject);
    buf_add_blob(out, first_mailbox(env, MIME_FROM));
    buf_add_blob(out, first_mailbox(env, MIME_TO));
    buf_add_blob(out, first_mailbox(env, MIME_CC));
    add_display(out, env, MIME_FROM, &scratch);
    add_display(out, env, MIME_TO, &scratch);
    if (!next_id(&id, &scratch))
        buf_clear(&scratch);
    add_scratch(out, &scratch);
    add_references(out, env, &scratch);
    add_parts(out, msg, &scratch);
    add_scratch(out, &fields);
    buf_free(&scratch);
    buf_free(&subject);
    buf_free(&fields);
}

/* ---- decoding ---- */

static int64_t
rd_zigzag(struct rd *r)
{
    uint64_t v = rd_varint(r);
    return (int64_t)(v >> 1 ^ (0 - (v & 1)));
}

/* One part; LAST_OFF is the header_off of the one before. */
static void
rd_part(struct rd *r, size_t last_off, struct mime_part *ret)
{
    unsigned kind = rd_u8(r);

    *ret = (struct mime_part){0};
    if ((kind & 15) > MIME_KIND_MESSAGE || kind >> 4 > MIME_ENC_UNKNOWN)
        r->bad = true;
    ret->kind = (enum mime_kind)(kind & 15);
    ret->encoding = (enum mime_encoding)(kind >> 4);
    ret->depth = rd_varint32(r);
    uint64_t delta = rd_varint(r);
    uint64_t header_bytes = rd_varint(r);
    uint64_t body_bytes = rd_varint(r);
    ret->lines = rd_varint32(r);
    ret->header_off = last_off + (size_t)delta;
    ret->header_bytes = (size_t)header_bytes;
    ret->body_off = ret->header_off + ret->header_bytes;
    ret->body_bytes = (size_t)body_bytes;
    /* Nothing of it may overflow, whatever the message size. */
    if (delta > SIZE_MAX / 8 || header_bytes > SIZE_MAX / 8 ||
        body_bytes > SIZE_MAX / 8 || last_off > SIZE_MAX / 4)
        r->bad = true;
}

/* The parts form a tree: a container's first child is one deeper and comes
 * next, nothing else is deeper than the part before it. */
static bool
parts_valid(const struct mime_cache *c)
{
    struct rd r = rd_init(c->parts);
    struct mime_part last = {0};

    if (c->nparts == 0 || c->nparts > c->parts.n / PART_BYTES_MIN)
        return false;
    for (uint32_t i = 0; i < c->nparts; i++) {
        struct mime_part part;
        bool opened =
            last.kind == MIME_KIND_MULTIPART || last.kind == MIME_KIND_MESSAGE;

        rd_part(&r, last.header_off, &part);
        if (r.bad || part.body_off + part.body_bytes > c->message_size ||
            part.lines > part.body_bytes || part.depth > MIME_DEPTH_MAX)
            return false;
        if (i == 0 ? part.depth != 0
                   : (part.depth == 0 || (opened ? part.depth != last.depth + 1
                                                 : part.depth > last.depth)))
            return false;
        last = part;
    }
    return rd_done(&r) && last.kind != MIME_KIND_MULTIPART &&
           last.kind != MIME_KIND_MESSAGE;
}

static bool
refs_valid(const struct mime_cache *c)
{
    struct rd r = rd_init(c->refs);

    if (c->nrefs > c->refs.n)
        return false;
    for (uint32_t i = 0; i < c->nrefs; i++)
        (void)rd_blob(&r, ID_BYTES_MAX);
    return rd_done(&r);
}

enum errcode
mime_cache_decode(struct span record, struct mime_cache *ret, struct error *err)
{
    struct rd r = rd_init(record);
    struct mime_cache c = {0};
    const size_t any = SIZE_MAX;

    unsigned version = rd_u8(&r);
    if (!r.bad && version != MIME_CACHE_VERSION)
        return error_set(err, ERR_VERSION, "cache record of version %u, not %d",
                         version, MIME_CACHE_VERSION);
    c.flags = rd_u8(&r);
    uint64_t size = rd_varint(&r);
    c.message_size = (size_t)size;
    c.envelope = rd_blob(&r, any);
    c.body = rd_blob(&r, any);
    c.bodystructure = rd_blob(&r, any);
    c.sent_utc_s = rd_zigzag(&r);
    int64_t zone_min = rd_zigzag(&r);
    c.sent_zone_min = (int32_t)zone_min;
    c.base_subject = rd_blob(&r, any);
    c.from = rd_blob(&r, any);
    c.to = rd_blob(&r, any);
    c.cc = rd_blob(&r, any);
    c.display_from = rd_blob(&r, any);
    c.display_to = rd_blob(&r, any);
    c.message_id = rd_blob(&r, any);
    c.nrefs = rd_varint32(&r);
    c.refs = rd_blob(&r, any);
    c.nparts = rd_varint32(&r);
    c.parts = rd_blob(&r, any);
    c.fields = rd_blob(&r, any);
    if (!rd_done(&r) || size > SIZE_MAX / 8 || c.flags > 15 ||
        (c.fields.n > 0 && (c.flags & MIME_CACHE_FIELDS) == 0) ||
        zone_min < -1439 || zone_min > 1439 ||
        c.sent_utc_s < INT64_C(-62135683200) ||
        c.sent_utc_s > INT64_C(253402387200) || !refs_valid(&c) ||
        !parts_valid(&c))
        return error_set(err, ERR_CORRUPT,
                         "cache record of %zu bytes is damaged", record.n);
    *ret = c;
    return ERR_OK;
}

bool
mime_cache_ref(struct span *refs, struct span *ret_id)
{
    struct rd r = rd_init(*refs);
    struct span id = rd_blob(&r, ID_BYTES_MAX);

    if (r.bad)
        return false;
    *refs = r.left;
    *ret_id = id;
    return true;
}

struct mime_part_iter
mime_part_iter(const struct mime_cache *cache)
{
    return (struct mime_part_iter){.left = cache->parts};
}

bool
mime_part_next(struct mime_part_iter *iter, struct mime_part *ret)
{
    struct rd r = rd_init(iter->left);
    struct mime_part part;

    if (iter->left.n == 0)
        return false;
    rd_part(&r, iter->last_off, &part);
    if (r.bad)
        return false;
    iter->left = r.left;
    iter->last_off = part.header_off;
    *ret = part;
    return true;
}
