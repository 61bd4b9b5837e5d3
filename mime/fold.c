/*
 * mime/fold.c - all text of a message as SEARCH compares it.
 *
 * Transfer encodings, charsets, encoded words and case are undone piece by
 * piece; what has gathered is given out when it is much, so a message of any
 * size needs little memory, and attachments are not even read.  Nearly all mail
 * is ASCII without encoded words: that is folded straight from the message,
 * eight bytes at a time, without a step in between.
 */
#include "mime/text_private.h"

#include <stdlib.h>

#include "mime/header.h"

/* So much is read at once, and so much gathers before it is given out. */
#define CHUNK_BYTES 32768U

struct mime_folder {
    struct buf text; /* folded, and not yet taken */
    struct buf decoded;
    struct buf utf8;
    struct arena arena;
};

struct walk {
    struct mime_folder *f;
    const struct mime_source *src;
    mime_take *take;
    void *ctx;
    bool own_header;
    bool stopped;
    bool failed;
};

struct mime_folder *
mime_folder_new(void)
{
    return xcalloc(1, sizeof(struct mime_folder));
}

void
mime_folder_free(struct mime_folder **f)
{
    if (*f == NULL)
        return;
    buf_free(&(*f)->text);
    buf_free(&(*f)->decoded);
    buf_free(&(*f)->utf8);
    arena_free(&(*f)->arena);
    xfree(f);
}

/* Give out what has gathered.  False: enough. */
static bool
give(struct walk *w)
{
    struct buf *text = &w->f->text;

    if (text->n == 0 || w->stopped)
        return !w->stopped;
    size_t keep = w->take(w->ctx, w->own_header, buf_span(text));
    if (keep == MIME_TAKE_STOP) {
        w->stopped = true;
        return false;
    }
    buf_drop(text, text->n - MIN(keep, text->n));
    return true;
}

static bool
get(struct walk *w, size_t off, size_t n, struct span *ret)
{
    *ret = SPAN_EMPTY;
    if (n > 0 && !w->src->read(w->src->ctx, off, n, ret))
        w->failed = true;
    return !w->failed;
}

/* ---- headers ---- */

static void
fold_field(struct mime_folder *f, const struct mime_field *field)
{
    struct span value = span_trim(field->value);
    bool plain =
        mime_is_ascii(field->raw) && span_find(value, SPAN_LIT("=?")) < 0;

    if (plain && memchr(field->raw.p, 0, field->raw.n) == NULL) {
        mime_casemap(field->name, &f->text);
        buf_add_str(&f->text, ": ");
        if (memchr(value.p == NULL ? "" : (const char *)value.p, '\n',
                   value.n) == NULL) {
            mime_casemap(value, &f->text);
        } else {
            buf_clear(&f->decoded);
            mime_unfold(value, &f->decoded);
            mime_casemap(buf_span(&f->decoded), &f->text);
        }
    } else {
        buf_clear(&f->decoded);
        buf_add(&f->decoded, field->name);
        buf_add_str(&f->decoded, ": ");
        mime_header_decode(field->value, &f->decoded);
        mime_casemap(buf_span(&f->decoded), &f->text);
    }
    buf_add_byte(&f->text, 0);
}

/* The HEADER of a part; false: enough, or it cannot be read. */
static bool
fold_header(struct walk *w, struct span header)
{
    struct mime_field field;

    while (mime_field_next(&header, &field)) {
        fold_field(w->f, &field);
        if (w->f->text.n >= CHUNK_BYTES && !give(w))
            return false;
    }
    return true;
}

/* ---- bodies ---- */

static void
open_charset(struct mime_folder *f, struct span header, struct charset *ret)
{
    struct mime_typed typed = {0};

    buf_clear(&f->decoded);
    if (mime_header_get(header, SPAN_LIT("Content-Type"), 0, &f->decoded))
        mime_typed_parse(buf_span(&f->decoded), true, 100, &f->arena, &typed,
                         NULL);
    (void)charset_open(ret, mime_param_get(&typed, "charset"));
    arena_reset(&f->arena);
}

static bool
is_identity(enum mime_encoding encoding)
{
    return encoding != MIME_ENC_QP && encoding != MIME_ENC_BASE64;
}

static void
fold_chunk(struct mime_folder *f, struct mime_decoder *d, struct charset *c,
           struct span in, bool last)
{
    if (!is_identity(d->encoding)) {
        buf_clear(&f->decoded);
        mime_decoder_push(d, in, &f->decoded);
        if (last)
            mime_decoder_finish(d, &f->decoded);
        in = buf_span(&f->decoded);
    }
    if (c->kind != CHARSET_ICU && c->ntail == 0 && mime_is_ascii(in)) {
        mime_casemap(in, &f->text);
        return;
    }
    buf_clear(&f->utf8);
    charset_push(c, in, last, &f->utf8);
    mime_casemap(buf_span(&f->utf8), &f->text);
}

static bool
fold_body(struct walk *w, const struct mime_part *part, struct charset *c)
{
    struct mime_decoder decoder;
    size_t off = part->body_off, left = part->body_bytes;

    mime_decoder_init(&decoder, part->encoding);
    do {
        struct span in;
        if (!get(w, off, MIN(left, (size_t)CHUNK_BYTES), &in))
            return false;
        size_t n = MIN(left, (size_t)CHUNK_BYTES);
        off += n;
        left -= n;
        fold_chunk(w->f, &decoder, c, in, left == 0);
        if (w->f->text.n >= CHUNK_BYTES && !give(w))
            return false;
    } while (left > 0);
    buf_add_byte(&w->f->text, 0);
    return true;
}

static bool
fold_part(struct walk *w, const struct mime_part *part,
          enum mime_search_where where)
{
    const bool own = part->depth == 0;
    const bool text =
        where != MIME_SEARCH_HEADER && part->kind == MIME_KIND_TEXT;
    const bool fields =
        own ? where != MIME_SEARCH_BODY : where != MIME_SEARCH_HEADER;
    struct span header;
    struct charset charset;

    if (!fields && !text)
        return true;
    if (!get(w, part->header_off, part->header_bytes, &header))
        return false;
    if (text) /* before the bytes of the header may be gone */
        open_charset(w->f, header, &charset);
    w->own_header = own;
    bool more = !fields || fold_header(w, header);
    if (own && more) { /* what follows is the body's */
        more = give(w);
        buf_clear(&w->f->text);
        w->own_header = false;
    }
    if (!text)
        return more;
    more = more && fold_body(w, part, &charset);
    charset_close(&charset);
    return more;
}

bool
mime_fold(const struct mime_cache *cache, const struct mime_source *src,
          enum mime_search_where where, struct mime_folder *f, mime_take *take,
          void *ctx)
{
    struct walk w = {.f = f, .src = src, .take = take, .ctx = ctx};
    struct mime_part_iter iter = mime_part_iter(cache);
    struct mime_part part;
    bool more = true;

    buf_clear(&f->text);
    while (more && mime_part_next(&iter, &part)) {
        more = fold_part(&w, &part, where);
        if (where == MIME_SEARCH_HEADER)
            break;
    }
    if (more)
        (void)!give(&w);
    /* A walk that broke off leaves much memory to nobody. */
    if (f->text.cap > 8 * CHUNK_BYTES)
        buf_free(&f->text);
    return !w.failed;
}
