/*
 * tests/lib/mime_check.c - recursive descent over the wire text; each function
 * takes its piece off the front and remembers the first thing wrong.
 */
#include "tests/lib/mime_check.h"

#include "mime/header.h"

#include <stdio.h>

struct check {
    struct span left;
    const char *wrong;
};

static bool
fail(struct check *c, const char *why)
{
    if (c->wrong == NULL)
        c->wrong = why;
    return false;
}

static bool
next_is(const struct check *c, char what)
{
    return c->left.n > 0 && c->left.p[0] == (uint8_t)what;
}

static bool
take(struct check *c, char what)
{
    if (!next_is(c, what))
        return false;
    c->left = span_skip(c->left, 1);
    return true;
}

static void
want(struct check *c, char what, const char *why)
{
    if (!take(c, what))
        fail(c, why);
}

static bool
take_nil(struct check *c)
{
    if (!span_starts(c->left, SPAN_LIT("NIL")))
        return false;
    c->left = span_skip(c->left, 3);
    return true;
}

static uint64_t
number(struct check *c)
{
    size_t n = 0;
    uint64_t v = 0;

    while (n < c->left.n && c->left.p[n] >= '0' && c->left.p[n] <= '9')
        n++;
    if (!parse_u64(span_sub(c->left, 0, n), &v))
        fail(c, "number");
    c->left = span_skip(c->left, n);
    return v;
}

static struct span
string(struct check *c)
{
    if (take(c, '{')) {
        uint64_t n = number(c);
        want(c, '}', "literal");
        want(c, '\r', "literal");
        want(c, '\n', "literal");
        if (n > c->left.n) {
            fail(c, "literal too long");
            n = 0;
        }
        struct span s = span_sub(c->left, 0, (size_t)n);
        if (s.n > 0 && memchr(s.p, 0, s.n) != NULL)
            fail(c, "NUL in a literal");
        c->left = span_skip(c->left, (size_t)n);
        return s;
    }
    if (!take(c, '"')) {
        fail(c, "string");
        return SPAN_EMPTY;
    }
    struct span s = c->left;
    s.n = 0;
    while (c->left.n > 0 && !next_is(c, '"')) {
        if (take(c, '\\')) {
            if (!next_is(c, '"') && !next_is(c, '\\'))
                fail(c, "quoted special");
            s.n++;
        }
        uint8_t b = c->left.n > 0 ? c->left.p[0] : 0;
        if (b == 0 || b == '\r' || b == '\n' || b > 127)
            fail(c, "quoted character");
        c->left = span_skip(c->left, 1);
        s.n++;
    }
    want(c, '"', "end of quoted");
    return s;
}

static void
nstring(struct check *c)
{
    if (!take_nil(c))
        (void)string(c);
}

static void
space(struct check *c)
{
    want(c, ' ', "space");
}

static void
addresses(struct check *c)
{
    bool group = false;

    if (take_nil(c))
        return;
    want(c, '(', "address list");
    if (next_is(c, ')'))
        fail(c, "empty address list");
    while (c->wrong == NULL && !take(c, ')')) {
        want(c, '(', "address");
        nstring(c);
        space(c);
        nstring(c);
        space(c);
        bool no_mailbox = take_nil(c);
        if (!no_mailbox)
            (void)string(c);
        space(c);
        bool no_host = take_nil(c);
        if (!no_host)
            (void)string(c);
        want(c, ')', "end of address");
        if (no_mailbox && (!group || !no_host))
            fail(c, "end of no group");
        if (no_host)
            group = !no_mailbox;
    }
    if (group)
        fail(c, "group not closed");
}

static void
envelope(struct check *c)
{
    want(c, '(', "envelope");
    nstring(c);
    space(c);
    nstring(c);
    for (int i = 0; i < 6; i++) {
        space(c);
        addresses(c);
    }
    space(c);
    nstring(c);
    space(c);
    nstring(c);
    want(c, ')', "end of envelope");
}

static void
params(struct check *c)
{
    if (take_nil(c))
        return;
    want(c, '(', "parameters");
    do {
        (void)string(c);
        space(c);
        (void)string(c);
    } while (c->wrong == NULL && take(c, ' '));
    want(c, ')', "end of parameters");
}

/* dsp SP lang SP loc */
static void
extension(struct check *c)
{
    if (!take_nil(c)) {
        want(c, '(', "disposition");
        (void)string(c);
        space(c);
        params(c);
        want(c, ')', "end of disposition");
    }
    space(c);
    if (take(c, '(')) {
        do
            (void)string(c);
        while (c->wrong == NULL && take(c, ' '));
        want(c, ')', "end of languages");
    } else {
        nstring(c);
    }
    space(c);
    nstring(c);
}

static void
body(struct check *c, bool extended)
{
    want(c, '(', "body");
    if (next_is(c, '(')) {
        while (c->wrong == NULL && next_is(c, '('))
            body(c, extended);
        space(c);
        (void)string(c);
        if (extended) {
            space(c);
            params(c);
            space(c);
            extension(c);
        }
        want(c, ')', "end of multipart");
        return;
    }
    struct span type = string(c);
    space(c);
    struct span subtype = string(c);
    space(c);
    params(c);
    space(c);
    nstring(c);
    space(c);
    nstring(c);
    space(c);
    (void)string(c);
    space(c);
    (void)number(c);
    bool message =
        span_eq_str(type, "MESSAGE") && span_eq_str(subtype, "RFC822");
    if (span_eq_str(type, "MULTIPART"))
        fail(c, "a multipart without parts");
    if (message) {
        space(c);
        envelope(c);
        space(c);
        body(c, extended);
    }
    if (message || span_eq_str(type, "TEXT")) {
        space(c);
        (void)number(c);
    }
    if (extended) {
        space(c);
        nstring(c);
        space(c);
        extension(c);
    }
    want(c, ')', "end of body");
}

static const char *
result(const struct check *c)
{
    if (c->wrong != NULL)
        return c->wrong;
    return c->left.n > 0 ? "something is left over" : NULL;
}

const char *
mime_check_envelope(struct span s)
{
    struct check c = {.left = s};
    envelope(&c);
    return result(&c);
}

const char *
mime_check_body(struct span s, bool extended)
{
    struct check c = {.left = s};
    body(&c, extended);
    return result(&c);
}

/* ---- places ---- */

#define DEPTH 512

static uint32_t
count_lf(struct span s)
{
    uint32_t n = 0;

    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == '\n';
    return n;
}

static const char *
check_section(const struct mime_cache *cache, const char *path,
              const char *suffix, size_t off, size_t bytes)
{
    char text[DEPTH * 8];
    struct mime_section s;

    (void)snprintf(text, sizeof(text), "%s%s", path, suffix);
    if (mime_section_find(cache, span_str(text), &s) != ERR_OK)
        return "a section is not found";
    return s.off == off && s.bytes == bytes ? NULL : "a section lies elsewhere";
}

/* What is kept of the header is all that is to be kept. */
static const char *
check_fields(const struct mime_cache *cache, struct span raw)
{
    struct span header, kept = cache->fields;
    struct mime_section where;
    struct mime_field f;

    if ((cache->flags & MIME_CACHE_FIELDS) == 0)
        return cache->fields.n == 0 ? NULL : "fields that are not kept";
    if (mime_section_find(cache, SPAN_LIT("HEADER"), &where) != ERR_OK)
        return "no header";
    header = mime_section_bytes(raw, &where);
    while (mime_field_next(&header, &f)) {
        if (!mime_cache_keeps(f.name))
            continue;
        if (!span_starts(kept, f.raw))
            return "a field is not kept as it is";
        kept = span_skip(kept, f.raw.n);
    }
    return kept.n == 0 ? NULL : "more fields are kept than there are";
}

/* The parts in order, with the number of each and those around it. */
const char *
mime_check_cache(const struct mime_cache *cache, struct span raw)
{
    static struct mime_part open[DEPTH];
    static uint32_t number_at[DEPTH]; /* children seen */
    static size_t path_bytes[DEPTH];  /* of the path of the part that is open */
    static char path[DEPTH * 8];
    struct mime_part_iter iter = mime_part_iter(cache);
    struct mime_part part;
    size_t seen = 0;
    const char *why = mime_check_envelope(cache->envelope);

    if (why == NULL)
        why = mime_check_body(cache->body, false);
    if (why == NULL)
        why = mime_check_body(cache->bodystructure, true);
    if (why == NULL && cache->message_size != raw.n)
        why = "size";
    if (why == NULL)
        why = check_fields(cache, raw);
    while (why == NULL && mime_part_next(&iter, &part)) {
        uint32_t d = part.depth;
        struct span text = span_sub(raw, part.body_off, part.body_bytes);

        if (part.body_off != part.header_off + part.header_bytes ||
            part.body_off + part.body_bytes > raw.n)
            return "a part does not lie in the message";
        if (part.lines != count_lf(text))
            return "lines";
        if (d == 0 && part.body_off + part.body_bytes != raw.n)
            return "the message ends before its end";
        if (d > 0 && (part.header_off < open[d - 1].body_off ||
                      part.body_off + part.body_bytes >
                          open[d - 1].body_off + open[d - 1].body_bytes))
            return "a part does not lie in the one around it";
        if (d > 0 && open[d - 1].kind == MIME_KIND_MESSAGE &&
            part.header_bytes + part.body_bytes != open[d - 1].body_bytes)
            return "a message does not fill its part";
        open[d] = part;
        number_at[d] = 0;
        seen++;
        path_bytes[d] = d == 0 ? 0 : path_bytes[d - 1];
        path[path_bytes[d]] = 0;
        bool is_message = d == 0 || open[d - 1].kind == MIME_KIND_MESSAGE;
        if (is_message) {
            const char *dot = path_bytes[d] == 0 ? "" : ".";
            char suffix[16];
            (void)snprintf(suffix, sizeof(suffix), "%sHEADER", dot);
            why = check_section(cache, path, suffix, part.header_off,
                                part.header_bytes);
            (void)snprintf(suffix, sizeof(suffix), "%sTEXT", dot);
            if (why == NULL)
                why = check_section(cache, path, suffix, part.body_off,
                                    part.body_bytes);
        }
        if (why == NULL && (!is_message || part.kind != MIME_KIND_MULTIPART)) {
            uint32_t n = is_message ? 1 : ++number_at[d - 1];
            path_bytes[d] += (size_t)snprintf(path + path_bytes[d], 12, "%s%u",
                                              path_bytes[d] > 0 ? "." : "", n);
            why =
                check_section(cache, path, "", part.body_off, part.body_bytes);
            if (why == NULL)
                why = check_section(cache, path, ".MIME", part.header_off,
                                    part.header_bytes);
        }
    }
    if (why == NULL && seen != cache->nparts)
        why = "number of parts";
    return why;
}
