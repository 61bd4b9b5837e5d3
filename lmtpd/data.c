/*
 * lmtpd/data.c - two machines, one behind the other: the first finds lines and
 * the end, the second takes Return-Path fields out of the header.
 *
 *          '.'          CR            LF
 *   START ----> DOT ---------> DOT_CR ----> the end
 *     ^  \      | else: the dot was stuffing
 *  LF |   \ else v
 *     CR <---- MID   (a bare LF leads to MID: it begins no line)
 *         CR
 *
 * Runs without CR, LF and NUL go to the sinks in one piece; in the body, which
 * needs no second machine, so do lines that hold nothing special.
 */
#include "lmtpd/data.h"

#include <endian.h>

/* A line's end is looked for so far: bytes are not looked at again and again.
 */
#define LINE_LOOK_BYTES 1000U

enum { START, DOT, DOT_CR, MID, CR };

#define RETURN_PATH SPAN_LIT("return-path:")

struct sinks {
    struct lmtp_data *d;
    lmtp_data_sink *raw;
    lmtp_data_sink *kept;
    void *ctx;
};

static void
give_kept(const struct sinks *to, struct span bytes)
{
    if (to->kept != NULL && bytes.n > 0)
        to->kept(to->ctx, bytes);
}

/* The bytes held back were no Return-Path. */
static void
let_head_go(const struct sinks *to)
{
    struct lmtp_data *d = to->d;

    give_kept(to, span_of(d->head, d->nhead));
    d->nhead = UINT8_MAX;
}

/* A header line's bytes without its end. */
static void
header_bytes(const struct sinks *to, struct span bytes)
{
    struct lmtp_data *d = to->d;
    const struct span name = RETURN_PATH;

    /* A fold continues what is dropped; the first byte of a line decides. */
    if (d->nhead == 0 && bytes.n > 0 && d->is_dropping &&
        (bytes.p[0] == ' ' || bytes.p[0] == '\t'))
        d->nhead = UINT8_MAX;
    else if (d->nhead == 0 && bytes.n > 0)
        d->is_dropping = false;
    while (d->nhead < name.n && bytes.n > 0) {
        d->head[d->nhead++] = bytes.p[0];
        bytes = span_skip(bytes, 1);
        if (ascii_lower(d->head[d->nhead - 1]) != name.p[d->nhead - 1]) {
            let_head_go(to);
        } else if (d->nhead == name.n) {
            d->is_dropping = true;
            d->nhead = UINT8_MAX;
        }
    }
    if (!d->is_dropping)
        give_kept(to, bytes);
}

static void
header_line_end(const struct sinks *to)
{
    struct lmtp_data *d = to->d;

    if (d->nhead == 0) { /* an empty line: the header is over */
        d->in_body = true;
        d->is_dropping = false;
    }
    if (d->nhead != UINT8_MAX)
        let_head_go(to);
    if (!d->is_dropping)
        give_kept(to, SPAN_LIT("\r\n"));
    d->nhead = 0;
}

static void
give(const struct sinks *to, struct span bytes)
{
    if (bytes.n == 0)
        return;
    if (to->raw != NULL)
        to->raw(to->ctx, bytes);
    if (to->d->in_body)
        give_kept(to, bytes);
    else
        header_bytes(to, bytes);
}

static void
give_line_end(const struct sinks *to)
{
    if (to->raw != NULL)
        to->raw(to->ctx, SPAN_LIT("\r\n"));
    if (to->d->in_body)
        give_kept(to, SPAN_LIT("\r\n"));
    else
        header_line_end(to);
}

static bool
is_plain(uint8_t c)
{
    return c != '\r' && c != '\n' && c != 0;
}

typedef uint8_t bytes16 __attribute__((vector_size(16)));

/* The first of 16 bytes that is below 14: CR, LF, NUL, or one of a few others;
 * 16 if there is none. */
static size_t
low_byte_at(const uint8_t *p)
{
    const bytes16 low = (bytes16){0} + '\r' + 1;
    bytes16 v;
    uint64_t found[2]; /* all bits of a byte that is */

    memcpy(&v, p, sizeof(v));
    v = (bytes16)(v < low);
    memcpy(found, &v, sizeof(found));
    if (found[0] != 0)
        return (size_t)__builtin_ctzll(le64toh(found[0])) / 8;
    if (found[1] != 0)
        return 8 + (size_t)__builtin_ctzll(le64toh(found[1])) / 8;
    return sizeof(v);
}

/* How many bytes at the front of P are plain. */
static size_t
plain_bytes(const uint8_t *p, size_t n)
{
    const size_t step = sizeof(bytes16);
    size_t i = 0;

    while (n - i >= step) {
        const size_t at = low_byte_at(p + i);
        i += at;
        if (at == step)
            continue;
        if (!is_plain(p[i]))
            return i;
        i++;
    }
    while (i < n && is_plain(p[i]))
        i++;
    return i;
}

/* A byte where nothing is special but line ends. */
static void
take_mid(const struct sinks *to, const uint8_t *c)
{
    struct lmtp_data *d = to->d;

    d->state = MID;
    if (*c == '\r') {
        d->state = CR;
    } else if (*c == '\n') {
        give_line_end(to);
    } else {
        d->has_nul = d->has_nul || *c == 0;
        give(to, span_of(c, 1));
    }
}

/* True: that was the end. */
static bool
take_byte(const struct sinks *to, const uint8_t *c)
{
    struct lmtp_data *d = to->d;

    switch (d->state) {
    case START:
        if (*c == '.') {
            d->state = DOT;
            return false;
        }
        break;
    case DOT:
        if (*c == '\r') {
            d->state = DOT_CR;
            return false;
        }
        break;
    case DOT_CR:
        if (*c == '\n') {
            d->state = START;
            return true;
        }
        break;
    case CR:
        if (*c == '\n') {
            give_line_end(to);
            d->state = START;
            return false;
        }
        break;
    default:
        break;
    }
    take_mid(to, c);
    return false;
}

/*
 * How many bytes at the front of IN are passed on as they are: whole lines with
 * CRLF, not beginning with a dot, and no NUL.  IN begins within a line, or at
 * the beginning of one.  The last bytes are left where what follows decides.
 */
static size_t
plain_lines(struct span in, bool at_start)
{
    size_t done = 0;

    while (done < in.n && !(at_start && in.p[done] == '.')) {
        const uint8_t *line = in.p + done;
        const size_t left = MIN(in.n - done, (size_t)LINE_LOOK_BYTES);
        const size_t n = plain_bytes(line, left);
        if (n == left || line[n] != '\r' || done + n + 1 == in.n ||
            line[n + 1] != '\n')
            break;
        done += n + 2;
        at_start = true;
    }
    return done;
}

size_t
lmtp_data_take(struct lmtp_data *d, struct span in, lmtp_data_sink *raw,
               lmtp_data_sink *kept, void *ctx, bool *ret_end)
{
    const struct sinks to = {d, raw, kept, ctx};
    size_t i = 0;

    *ret_end = false;
    while (i < in.n) {
        size_t run = 0;
        if (d->in_body && (d->state == START || d->state == MID))
            run = plain_lines(span_skip(in, i), d->state == START);
        if (run > 0) {
            give(&to, span_sub(in, i, run));
            d->state = START;
            i += run;
            continue;
        }
        if (d->state == MID)
            run = plain_bytes(in.p + i, in.n - i);
        if (run > 0) {
            give(&to, span_sub(in, i, run));
            i += run;
            continue;
        }
        if (take_byte(&to, in.p + i++)) {
            *ret_end = true;
            break;
        }
    }
    return i;
}
