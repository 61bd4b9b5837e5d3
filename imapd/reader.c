/*
 * imapd/reader.c - lines and literals become commands.
 *
 * Memory is bounded by limits.command_bytes, whatever the peer sends: before a
 * literal is kept its size is compared with what is left, and a line without
 * end is skipped once it is longer than a line may be.  While skipping, the
 * last bytes of the line are kept, for a line that ends in {n+} is followed by
 * n bytes that are no command.
 */
#include "imapd/reader.h"

void
imap_reader_init(struct imap_reader *r, const struct imap_reader_limits *limits)
{
    *r = (struct imap_reader){.limits = *limits};
}

void
imap_reader_free(struct imap_reader *r)
{
    buf_free(&r->text);
}

void
imap_reader_reset(struct imap_reader *r)
{
    buf_free(&r->text);
    r->is_over = false;
}

static enum imap_read
too_long(struct imap_reader *r)
{
    r->state = READER_SKIP;
    r->left = 0;
    r->tail_bytes = 0;
    return IMAP_READ_TOO_LONG;
}

static enum imap_read
take_line(struct imap_reader *r, struct span in, size_t *ret_used)
{
    struct span line, before;
    size_t used = 0;

    if (r->is_over)
        imap_reader_reset(r);
    switch (line_take(in, r->limits.line_bytes, &line, &used)) {
    case PARSE_MORE:
        return IMAP_READ_MORE;
    case PARSE_BAD:
        /* The start of it may hold the tag; what is used is skipped. */
        if (r->text.n == 0)
            buf_add(&r->text, span_sub(in, 0, 256));
        return too_long(r);
    case PARSE_DONE:
        break;
    }
    *ret_used = used;
    if (r->text.n + line.n + 2 > r->limits.command_bytes)
        return too_long(r);
    buf_add(&r->text, line);
    enum literal_found found =
        line_literal(line, UINT64_MAX - 1, &r->literal, &before);
    if (found == LITERAL_NONE) {
        r->is_over = true;
        return IMAP_READ_COMMAND;
    }
    buf_add_str(&r->text, "\r\n");
    r->left = r->literal.n;
    r->state = READER_DECIDE;
    return IMAP_READ_DECIDE;
}

/* Bytes of the literal that are in IN. */
static struct span
literal_part(struct imap_reader *r, struct span in)
{
    struct span part = span_sub(in, 0, r->left < in.n ? (size_t)r->left : in.n);
    r->left -= part.n;
    return part;
}

static void
tail_add(struct imap_reader *r, struct span s)
{
    if (s.n >= sizeof(r->tail)) {
        memcpy(r->tail, s.p + s.n - sizeof(r->tail), sizeof(r->tail));
        r->tail_bytes = sizeof(r->tail);
        return;
    }
    size_t keep = MIN(r->tail_bytes, sizeof(r->tail) - s.n);
    memmove(r->tail, r->tail + r->tail_bytes - keep, keep);
    if (s.n > 0)
        memcpy(r->tail + keep, s.p, s.n);
    r->tail_bytes = keep + s.n;
}

static enum imap_read
take_skip(struct imap_reader *r, struct span in, size_t *ret_used)
{
    struct span before;

    if (r->left > 0) {
        *ret_used = literal_part(r, in).n;
        return IMAP_READ_MORE;
    }
    ptrdiff_t lf = span_find_byte(in, '\n', 0);
    if (lf < 0) {
        tail_add(r, in);
        *ret_used = in.n;
        return IMAP_READ_MORE;
    }
    tail_add(r, span_sub(in, 0, (size_t)lf));
    *ret_used = (size_t)lf + 1;
    struct span line = span_of(r->tail, r->tail_bytes);
    r->tail_bytes = 0;
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    /* A client that waits for "+ " waits for our answer: it has it. */
    if (line_literal(line, UINT64_MAX - 1, &r->literal, &before) !=
            LITERAL_NONE &&
        r->literal.nonsync) {
        r->left = r->literal.n;
        return IMAP_READ_MORE;
    }
    r->state = READER_LINE;
    r->is_over = true;
    return IMAP_READ_SKIPPED;
}

static enum imap_read
take_event(struct imap_reader *r, struct span in, size_t *ret_used)
{
    switch (r->state) {
    case READER_LINE:
        return take_line(r, in, ret_used);
    case READER_SKIP:
        return take_skip(r, in, ret_used);
    case READER_LITERAL: {
        struct span part = literal_part(r, in);
        buf_add(&r->text, part);
        *ret_used = part.n;
        if (r->left == 0)
            r->state = READER_LINE;
        return IMAP_READ_MORE;
    }
    case READER_STREAM:
        if (r->left == 0) {
            r->state = READER_LINE;
            return IMAP_READ_STREAMED;
        }
        r->chunk = literal_part(r, in);
        *ret_used = r->chunk.n;
        return r->chunk.n > 0 ? IMAP_READ_CHUNK : IMAP_READ_MORE;
    case READER_DECIDE:
        break;
    }
    ENSURE(r->state != READER_DECIDE);
    return IMAP_READ_MORE;
}

enum imap_read
imap_reader_take(struct imap_reader *r, struct span in, size_t *ret_used)
{
    size_t used = 0;

    *ret_used = 0;
    for (;;) {
        size_t step = 0;
        enum imap_read what = take_event(r, span_skip(in, used), &step);
        used += step;
        *ret_used = used;
        if (what != IMAP_READ_MORE || step == 0)
            return what;
    }
}

bool
imap_reader_keep(struct imap_reader *r)
{
    ENSURE(r->state == READER_DECIDE);
    if (r->text.n > r->limits.command_bytes ||
        r->literal.n > r->limits.command_bytes - r->text.n)
        return false;
    r->state = r->left == 0 ? READER_LINE : READER_LITERAL;
    return true;
}

void
imap_reader_stream(struct imap_reader *r)
{
    ENSURE(r->state == READER_DECIDE);
    r->state = READER_STREAM;
}

void
imap_reader_refuse(struct imap_reader *r)
{
    ENSURE(r->state == READER_DECIDE);
    r->is_over = true;
    r->tail_bytes = 0;
    if (r->literal.nonsync) {
        r->state = READER_SKIP;
    } else {
        r->state = READER_LINE;
        r->left = 0;
    }
}
