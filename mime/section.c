/*
 * mime/section.c - from "1.2.MIME" to bytes.
 *
 * Numbers lead from a part to a part in it.  What is peculiar (RFC 3501,
 * 6.4.5): the numbers of a message/rfc822 part go on into the message in it,
 * and a message that is not multipart has itself as part 1.  So there are two
 * states: at a message that no number names yet, and at a part that one names.
 */
#include "mime/message.h"

struct walk {
    struct mime_part_iter iter; /* behind PART */
    struct mime_part part;
    bool at_message; /* part is a message, to be entered by the next number */
};

/* The N-th part in walk->part. */
static bool
go_to_child(struct walk *w, uint32_t n)
{
    struct mime_part_iter iter = w->iter;
    struct mime_part part;

    while (mime_part_next(&iter, &part) && part.depth > w->part.depth) {
        if (part.depth == w->part.depth + 1 && --n == 0) {
            w->iter = iter;
            w->part = part;
            return true;
        }
    }
    return false;
}

static bool
go_to_number(struct walk *w, uint32_t n)
{
    if (!w->at_message && w->part.kind == MIME_KIND_MESSAGE) {
        if (!go_to_child(w, 1))
            return false;
        w->at_message = true;
    }
    bool was_message = w->at_message;
    w->at_message = false;
    if (w->part.kind == MIME_KIND_MULTIPART)
        return go_to_child(w, n);
    return was_message && n == 1;
}

/* nz-number and what follows its dot; false if S does not begin with one. */
static bool
take_number(struct span *s, uint32_t *ret, bool *ret_dot)
{
    ptrdiff_t dot = span_find_byte(*s, '.', 0);
    struct span word = dot < 0 ? *s : span_sub(*s, 0, (size_t)dot);

    if (word.n == 0 || word.p[0] == '0' || !parse_u32(word, ret))
        return false;
    *ret_dot = dot >= 0;
    *s = span_skip(*s, word.n + (dot >= 0));
    return true;
}

static bool
is_header(struct span what)
{
    return span_eq_nocase_str(what, "HEADER") ||
           span_eq_nocase_str(what, "HEADER.FIELDS") ||
           span_eq_nocase_str(what, "HEADER.FIELDS.NOT");
}

static void
set_header(struct mime_section *s)
{
    s->off = s->part.header_off;
    s->bytes = s->part.header_bytes;
}

static void
set_body(struct mime_section *s)
{
    s->off = s->part.body_off;
    s->bytes = s->part.body_bytes;
}

/* WHAT of the part where W stands; NUMBERED: a path led there. */
static enum errcode
section_of(struct walk *w, bool numbered, struct span what,
           struct mime_section *ret)
{
    struct mime_section s = {.part = w->part};
    bool header = is_header(what);
    bool text = span_eq_nocase_str(what, "TEXT");

    if (what.n == 0 && !numbered) {
        s.off = w->part.header_off;
        s.bytes = w->part.header_bytes + w->part.body_bytes;
    } else if (what.n == 0) {
        set_body(&s);
    } else if (numbered && span_eq_nocase_str(what, "MIME")) {
        set_header(&s);
    } else if (header || text) {
        if (numbered &&
            (w->part.kind != MIME_KIND_MESSAGE || !go_to_child(w, 1)))
            return ERR_NOTFOUND;
        s.part = w->part;
        if (header)
            set_header(&s);
        else
            set_body(&s);
    } else {
        return ERR_SYNTAX;
    }
    *ret = s;
    return ERR_OK;
}

enum errcode
mime_section_find(const struct mime_cache *cache, struct span section,
                  struct mime_section *ret)
{
    struct walk w = {.iter = mime_part_iter(cache), .at_message = true};
    struct span left = section;
    struct mime_section ignored;
    uint32_t n = 0;
    bool dot = false;
    bool numbered = false;
    bool found = mime_part_next(&w.iter, &w.part);

    while (take_number(&left, &n, &dot)) {
        numbered = true;
        found = found && go_to_number(&w, n);
        if (!dot)
            break;
    }
    if (numbered && dot == (left.n == 0))
        return ERR_SYNTAX; /* "1." and "1x" */
    enum errcode rc = section_of(&w, numbered, left, &ignored);
    if (rc == ERR_SYNTAX)
        return rc;
    if (!found || rc != ERR_OK)
        return ERR_NOTFOUND;
    *ret = ignored;
    return ERR_OK;
}
