/*
 * imapd/fetch_binary.c - BINARY[...] and BINARY.SIZE[...] of FETCH (RFC 3516,
 * RFC 9051, 6.4.5): parts without their transfer encoding.
 *
 * A literal's size stands in front of it, so a part that is encoded is decoded
 * twice: once to count, on a worker if it is large, and once to tell, piece by
 * piece as the client reads.  Nothing of it is kept in between.
 */
#include "imapd/fetch_private.h"

/* More is counted on a worker. */
#define INLINE_BYTES (1U << 20)

/* Decodes all of it; what comes out is only counted. */
static enum errcode
measure(struct imap_session *s, const struct guid *guid, struct binary *b)
{
    AUTO(buf_free) struct buf raw = BUF_INIT;
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct mime_decoder decoder;
    enum errcode rc = ERR_OK;

    mime_decoder_init(&decoder, b->encoding);
    for (uint64_t done = 0; done < b->raw_bytes && rc == ERR_OK;) {
        uint64_t n = MIN(b->raw_bytes - done, (uint64_t)PIECE_BYTES);
        buf_clear(&raw);
        rc = store_body_read(s->store, guid, b->raw_off + done, n, &raw,
                             &b->err);
        if (rc == ERR_OK && raw.n != n)
            rc = error_set(&b->err, ERR_CORRUPT,
                           "message is shorter than it says");
        done += n;
        if (rc != ERR_OK)
            break;
        buf_clear(&out);
        mime_decoder_push(&decoder, buf_span(&raw), &out);
        if (done == b->raw_bytes)
            mime_decoder_finish(&decoder, &out);
        b->bytes += out.n;
        b->has_nul |= span_find_byte(buf_span(&out), 0, 0) >= 0;
    }
    return rc;
}

static void
measure_work(void *session)
{
    struct fetch_job *job = ((struct imap_session *)session)->job;

    job->binary.code = measure(session, &job->msg.guid, &job->binary);
    job->binary.measured = true;
}

/* The part into job->binary.  False: it is told already. */
static bool
find_part(struct imap_session *s, struct fetch_job *job,
          const struct imap_fetch_item *item)
{
    const char *nothing = item->what == FETCH_BINARY_SIZE ? " 0" : " NIL";
    struct mime_section where = {.bytes = (size_t)job->msg.size,
                                 .part = {.encoding = MIME_ENC_BINARY}};

    if (item->section.n > 0 &&
        (!job->cache_ok ||
         mime_section_find(&job->mime, item->section, &where) != ERR_OK)) {
        buf_add_str(&s->out, nothing);
        return false;
    }
    enum mime_encoding encoding = where.part.encoding;
    /* What holds other parts is not encoded itself (RFC 2045, 6.4); all of a
     * message is as it is. */
    if (item->section.n == 0 || where.part.kind == MIME_KIND_MULTIPART ||
        where.part.kind == MIME_KIND_MESSAGE)
        encoding = MIME_ENC_BINARY;
    if (encoding == MIME_ENC_UNKNOWN) {
        job->some_undecodable = true;
        buf_add_str(&s->out, nothing);
        return false;
    }
    job->binary = (struct binary){.raw_off = where.off,
                                  .raw_bytes = where.bytes,
                                  .encoding = encoding,
                                  .bytes = where.bytes};
    return true;
}

static void
tell(struct imap_session *s, struct fetch_job *job,
     const struct imap_fetch_item *item)
{
    struct binary *b = &job->binary;
    uint64_t skip = 0, n = b->bytes;

    if (item->what == FETCH_BINARY_SIZE) {
        buf_addf(&s->out, " %" PRIu64, n);
        return;
    }
    apply_partial(item, &skip, &n);
    buf_addf(&s->out, " %s{%" PRIu64 "}\r\n", b->has_nul && n > 0 ? "~" : "",
             n);
    job->left = n;
    b->telling = n > 0;
    b->skip = skip;
    b->raw_left = b->raw_bytes;
    job->off = b->raw_off;
    mime_decoder_init(&b->decoder, b->encoding);
}

void
write_binary(struct imap_session *s, struct fetch_job *job,
             const struct imap_fetch_item *item)
{
    struct binary *b = &job->binary;
    const char *nothing = item->what == FETCH_BINARY_SIZE ? " 0" : " NIL";

    buf_add(&s->out, item->label);
    if (!b->measured) {
        if (!find_part(s, job, item))
            return;
        const bool is_coded =
            b->encoding == MIME_ENC_QP || b->encoding == MIME_ENC_BASE64;
        if (!is_coded) {
            if (item->what == FETCH_BINARY_SIZE) {
                buf_addf(&s->out, " %" PRIu64, b->bytes);
                return;
            }
            uint64_t off = b->raw_off, n = b->raw_bytes;
            apply_partial(item, &off, &n);
            begin_literal(s, job, off, n);
            return;
        }
        b->bytes = 0;
        if (b->raw_bytes > INLINE_BYTES) {
            job->work = measure_work;
            return;
        }
        b->code = measure(s, &job->msg.guid, b);
        job->turn_bytes += (size_t)b->raw_bytes;
    }
    b->measured = false;
    if (b->code == ERR_OK) {
        tell(s, job, item);
        return;
    }
    if (may_heal(job, &b->err))
        return;
    fetch_damaged(s, job, &b->err);
    buf_add_str(&s->out, nothing);
}

enum errcode
write_binary_piece(struct imap_session *s, struct fetch_job *job,
                   struct error *err)
{
    AUTO(buf_free) struct buf raw = BUF_INIT;
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct binary *b = &job->binary;
    uint64_t n = MIN(b->raw_left, (uint64_t)PIECE_BYTES);

    enum errcode rc =
        store_body_read(s->store, &job->msg.guid, job->off, n, &raw, err);
    if (rc == ERR_OK && (raw.n != n || n == 0))
        rc = error_set(err, ERR_CORRUPT, "message is shorter than it says");
    if (rc != ERR_OK)
        return rc;
    job->off += n;
    b->raw_left -= n;
    job->turn_bytes += (size_t)n;
    mime_decoder_push(&b->decoder, buf_span(&raw), &out);
    if (b->raw_left == 0)
        mime_decoder_finish(&b->decoder, &out);
    struct span some = span_skip(buf_span(&out), (size_t)MIN(b->skip, out.n));
    b->skip -= out.n - some.n;
    some = span_sub(some, 0, (size_t)MIN(job->left, (uint64_t)some.n));
    buf_add(&s->out, some);
    job->left -= some.n;
    b->telling = job->left > 0;
    return ERR_OK;
}
