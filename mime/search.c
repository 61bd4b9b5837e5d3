/*
 * mime/search.c - looking for a text in a message as a person reads it
 * (mime/fold.c).  What is kept between two pieces is one byte less than the
 * needle, so that a hit across their border is seen.
 */
#include "mime/text_private.h"

#include <stdlib.h>

#include "mime/header.h"

struct mime_needle {
    struct buf want; /* folded */
    struct mime_folder *folder;
    struct buf text; /* memory used again */
    struct buf folded;
};

struct mime_needle *
mime_needle_new(struct span utf8)
{
    struct mime_needle *needle = xcalloc(1, sizeof(*needle));

    mime_casemap(utf8, &needle->want);
    needle->folder = mime_folder_new();
    return needle;
}

void
mime_needle_free(struct mime_needle **needle)
{
    if (*needle == NULL)
        return;
    mime_folder_free(&(*needle)->folder);
    buf_free(&(*needle)->want);
    buf_free(&(*needle)->text);
    buf_free(&(*needle)->folded);
    xfree(needle);
}

struct span
mime_needle_folded(const struct mime_needle *needle)
{
    return buf_span(&needle->want);
}

static bool
contains(const struct mime_needle *needle, struct span folded)
{
    struct span want = buf_span(&needle->want);

    if (want.n == 0)
        return true;
    return folded.n >= want.n &&
           memmem(folded.p, folded.n, want.p, want.n) != NULL;
}

bool
mime_needle_in(struct mime_needle *needle, struct span utf8)
{
    buf_clear(&needle->folded);
    mime_casemap(utf8, &needle->folded);
    return contains(needle, buf_span(&needle->folded));
}

bool
mime_header_search(struct span block, struct span name,
                   struct mime_needle *needle)
{
    struct mime_field f;

    while (mime_field_next(&block, &f)) {
        if (!span_eq_nocase(f.name, name))
            continue;
        buf_clear(&needle->text);
        mime_header_decode(f.value, &needle->text);
        if (mime_needle_in(needle, buf_span(&needle->text)))
            return true;
    }
    return false;
}

struct look {
    const struct mime_needle *needle;
    bool found;
};

static size_t
look_in(void *ctx, bool own_header, struct span text)
{
    struct look *look = ctx;

    (void)own_header;
    look->found = contains(look->needle, text);
    return look->found ? MIME_TAKE_STOP : look->needle->want.n - 1;
}

bool
mime_source_search(const struct mime_cache *cache,
                   const struct mime_source *src, struct mime_needle *needle,
                   enum mime_search_where where)
{
    struct look look = {.needle = needle};

    if (needle->want.n == 0)
        return true;
    (void)!mime_fold(cache, src, where, needle->folder, look_in, &look);
    return look.found;
}

static bool
read_span(void *ctx, size_t off, size_t n, struct span *ret)
{
    const struct span *raw = ctx;

    *ret = span_sub(*raw, off, n);
    return true;
}

struct mime_source
mime_source_of(const struct span *raw)
{
    union {
        const struct span *in;
        void *out;
    } ctx = {.in = raw}; /* read_span() changes nothing */

    return (struct mime_source){.ctx = ctx.out, .read = read_span};
}

bool
mime_text_search(const struct mime_cache *cache, struct span raw,
                 struct mime_needle *needle, enum mime_search_where where)
{
    const struct mime_source src = mime_source_of(&raw);

    return mime_source_search(cache, &src, needle, where);
}
