/*
 * mime/search.c - looking for a text in a message as a person reads it.
 *
 * Transfer encoding, charset and case are undone chunk by chunk; what is kept
 * between two chunks is one byte less than the needle, so that a hit across
 * their border is seen, and a message of any size needs little memory.
 */
#include "mime/text_private.h"

#include <stdlib.h>

#include "mime/header.h"

#define CHUNK_BYTES 16384U

struct mime_needle {
    struct buf folded;
};

struct mime_needle *
mime_needle_new(struct span utf8)
{
    struct mime_needle *needle = xcalloc(1, sizeof(*needle));

    mime_casemap(utf8, &needle->folded);
    return needle;
}

void
mime_needle_free(struct mime_needle **needle)
{
    if (*needle == NULL)
        return;
    buf_free(&(*needle)->folded);
    free(*needle);
    *needle = NULL;
}

static bool
contains(const struct mime_needle *needle, struct span folded)
{
    struct span want = buf_span(&needle->folded);

    if (want.n == 0)
        return true;
    return folded.n >= want.n &&
           memmem(folded.p, folded.n, want.p, want.n) != NULL;
}

bool
mime_needle_in(const struct mime_needle *needle, struct span utf8)
{
    struct buf folded = BUF_INIT;

    mime_casemap(utf8, &folded);
    bool found = contains(needle, buf_span(&folded));
    buf_free(&folded);
    return found;
}

/* ---- headers ---- */

bool
mime_header_search(struct span block, struct span name,
                   const struct mime_needle *needle)
{
    struct mime_field f;
    struct buf text = BUF_INIT;
    bool found = false;

    while (!found && mime_field_next(&block, &f)) {
        if (!span_eq_nocase(f.name, name))
            continue;
        buf_clear(&text);
        mime_header_decode(f.value, &text);
        found = mime_needle_in(needle, buf_span(&text));
    }
    buf_free(&text);
    return found;
}

/* In any field, its name included. */
static bool
search_fields(struct span block, const struct mime_needle *needle)
{
    struct mime_field f;
    struct buf text = BUF_INIT;
    bool found = false;

    while (!found && mime_field_next(&block, &f)) {
        buf_clear(&text);
        buf_add(&text, f.name);
        buf_add_str(&text, ": ");
        mime_header_decode(f.value, &text);
        found = mime_needle_in(needle, buf_span(&text));
    }
    buf_free(&text);
    return found;
}

/* ---- bodies ---- */

struct text_stream {
    struct mime_decoder decoder;
    struct charset charset;
    struct buf decoded;
    struct buf utf8;
    struct buf window; /* folded: the end of what was seen, and the new */
};

static void
stream_open(struct text_stream *s, struct span header,
            enum mime_encoding encoding)
{
    struct arena arena = ARENA_INIT;
    struct buf value = BUF_INIT;
    struct mime_typed typed = {0};

    *s = (struct text_stream){0};
    mime_decoder_init(&s->decoder, encoding);
    if (mime_header_get(header, SPAN_LIT("Content-Type"), 0, &value))
        mime_typed_parse(buf_span(&value), true, 100, &arena, &typed, NULL);
    (void)charset_open(&s->charset, mime_param_get(&typed, "charset"));
    buf_free(&value);
    arena_free(&arena);
}

static void
stream_close(struct text_stream *s)
{
    charset_close(&s->charset);
    buf_free(&s->decoded);
    buf_free(&s->utf8);
    buf_free(&s->window);
}

static bool
stream_push(struct text_stream *s, struct span in, bool last,
            const struct mime_needle *needle)
{
    buf_clear(&s->decoded);
    mime_decoder_push(&s->decoder, in, &s->decoded);
    if (last)
        mime_decoder_finish(&s->decoder, &s->decoded);
    buf_clear(&s->utf8);
    charset_push(&s->charset, buf_span(&s->decoded), last, &s->utf8);
    mime_casemap(buf_span(&s->utf8), &s->window);
    if (contains(needle, buf_span(&s->window)))
        return true;
    if (s->window.n >= needle->folded.n)
        buf_drop(&s->window, s->window.n - needle->folded.n + 1);
    return false;
}

static bool
search_text_part(struct span raw, const struct mime_part *part,
                 const struct mime_needle *needle)
{
    struct span body = span_sub(raw, part->body_off, part->body_bytes);
    struct text_stream s;
    bool found = false;

    stream_open(&s, span_sub(raw, part->header_off, part->header_bytes),
                part->encoding);
    for (bool last = false; !last && !found;) {
        struct span chunk = span_sub(body, 0, CHUNK_BYTES);
        body = span_skip(body, chunk.n);
        last = body.n == 0;
        found = stream_push(&s, chunk, last, needle);
    }
    stream_close(&s);
    return found;
}

bool
mime_text_search(const struct mime_cache *cache, struct span raw,
                 const struct mime_needle *needle, enum mime_search_where where)
{
    struct mime_part_iter iter = mime_part_iter(cache);
    struct mime_part part;

    if (needle->folded.n == 0)
        return true;
    while (mime_part_next(&iter, &part)) {
        bool own_header = part.depth == 0;
        struct span header = span_sub(raw, part.header_off, part.header_bytes);
        if ((own_header ? where != MIME_SEARCH_BODY
                        : where != MIME_SEARCH_HEADER) &&
            search_fields(header, needle))
            return true;
        if (where != MIME_SEARCH_HEADER && part.kind == MIME_KIND_TEXT &&
            search_text_part(raw, &part, needle))
            return true;
    }
    return false;
}
