/*
 * mime/message.c - one walk over the lines of a message.
 *
 * A stack holds the parts that are open: the message, the multipart in it, a
 * part of that, and so on.  The top one is in its header or in its body.  A
 * line that begins with "--" is compared with the boundaries of all open
 * multiparts, the innermost first (RFC 2046, 5.1.2: an outer boundary ends
 * the inner parts too), and closes what lies above the multipart it belongs
 * to.  The empty line that ends a header decides what its part is, and may
 * open further ones.  Without an open boundary nothing can happen any more and
 * the rest is only counted.
 *
 * The line end before a boundary belongs to the boundary (RFC 2046, 5.1.1).
 */
#include "mime/message_private.h"

#include <stdlib.h>

#include "mime/text.h"

struct boundary {
    struct span text;
    size_t level; /* of its multipart in the stack */
};

struct parser {
    struct mime_message *msg;
    struct span raw;
    size_t at;      /* begin of the line under way */
    uint64_t lf;    /* line feeds before AT */
    bool in_header; /* of the top part */
    size_t stack[MIME_DEPTH_MAX + 2];
    size_t nstack;
    struct boundary bounds[MIME_DEPTH_MAX + 2];
    size_t nbounds;
    uint64_t fields_left;
    uint64_t header_left;
    size_t addresses_left;
};

static struct mime_node *
node_at(const struct parser *p, size_t level)
{
    return &p->msg->nodes[p->stack[level]];
}

static struct mime_node *
top(const struct parser *p)
{
    return node_at(p, p->nstack - 1);
}

/* Open a part at offset OFF, in its header.  The last one allowed gets all
 * that follows: no boundary is looked for any more. */
static void
open_part(struct parser *p, size_t off, bool is_message)
{
    struct mime_message *m = p->msg;
    uint32_t depth = p->nstack == 0 ? 0 : top(p)->part.depth + 1;

    if (m->n == m->cap) {
        m->cap = m->cap == 0 ? 4 : m->cap * 2;
        m->nodes = xrealloc(m->nodes, m->cap * sizeof(*m->nodes));
    }
    struct mime_node *node = &m->nodes[m->n];
    *node = (struct mime_node){
        .part = {.depth = depth, .header_off = off, .body_off = off}};
    if (is_message) {
        node->env = arena_alloc(&m->arena, sizeof(*node->env));
        for (size_t i = 0; i < MIME_ENV_LISTS; i++)
            node->env->lists[i].tail = &node->env->lists[i].first;
    }
    p->stack[p->nstack++] = m->n++;
    p->in_header = true;
    if (m->n == m->limits.parts) {
        node->opaque = true;
        p->nbounds = 0;
        m->limited = true;
    }
}

/* ---- header fields ---- */

static void
take_first(struct span *slot, struct span value)
{
    if (slot->p == NULL)
        *slot = value;
}

static void
take_addresses(struct parser *p, struct mime_env *env, enum mime_env_list list,
               struct span value)
{
    struct mime_address *first = NULL;

    p->addresses_left -= mime_addresses_parse(
        value, p->addresses_left, &p->msg->arena, &first, &p->msg->limited);
    *env->lists[list].tail = first;
    while (*env->lists[list].tail != NULL)
        env->lists[list].tail = &(*env->lists[list].tail)->next;
}

static void
take_env_field(struct parser *p, struct mime_env *env,
               const struct mime_field *f)
{
    static const struct {
        const char *name;
        enum mime_env_list list;
    } lists[] = {{"From", MIME_FROM},
                 {"Sender", MIME_SENDER},
                 {"Reply-To", MIME_REPLY_TO},
                 {"To", MIME_TO},
                 {"Cc", MIME_CC},
                 {"Bcc", MIME_BCC}};
    const struct {
        const char *name;
        struct span *slot;
    } texts[] = {{"Date", &env->date},
                 {"Subject", &env->subject},
                 {"In-Reply-To", &env->in_reply_to},
                 {"Message-ID", &env->message_id},
                 {"References", &env->references}};

    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        if (span_eq_nocase_str(f->name, lists[i].name))
            return take_addresses(p, env, lists[i].list, f->value);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (span_eq_nocase_str(f->name, texts[i].name))
            return take_first(texts[i].slot, f->value);
}

static void
take_content_field(struct mime_node *node, const struct mime_field *f,
                   struct span *content_type)
{
    const struct {
        const char *name; /* behind "Content-" */
        struct span *slot;
    } texts[] = {{"Type", content_type},
                 {"Transfer-Encoding", &node->encoding},
                 {"ID", &node->id},
                 {"Description", &node->description},
                 {"MD5", &node->md5},
                 {"Disposition", &node->disposition},
                 {"Language", &node->language},
                 {"Location", &node->location}};
    struct span name = span_skip(f->name, strlen("Content-"));

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (span_eq_nocase_str(name, texts[i].name))
            return take_first(texts[i].slot, f->value);
}

/* Fields beyond the limits are not looked into, half ones neither. */
static void
take_fields(struct parser *p, struct mime_node *node, struct span header,
            struct span *content_type)
{
    struct mime_field f;

    while (mime_field_next(&header, &f)) {
        if (p->fields_left == 0 || f.raw.n > p->header_left) {
            p->msg->limited = true;
            return;
        }
        p->fields_left--;
        p->header_left -= f.raw.n;
        uint8_t c = ascii_lower(f.name.p[0]);
        if (c == 'c' && span_starts_nocase(f.name, SPAN_LIT("Content-")))
            take_content_field(node, &f, content_type);
        else if (node->env != NULL && memchr("bcdfimrst", c, 9) != NULL)
            take_env_field(p, node->env, &f);
    }
}

/* ---- parts ---- */

/* The boundary as lines are compared with it: no blanks at its end. */
static struct span
boundary_of(const struct mime_node *node)
{
    struct span s = mime_param_get(&node->type, "boundary");

    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* Its type is known: what is it, and may we look into it? */
static void
decide_kind(struct parser *p, struct mime_node *node, bool in_digest)
{
    bool may_open = !node->opaque && node->part.depth < p->msg->limits.depth;

    if (node->type.type.n == 0 && in_digest) { /* RFC 2046, 5.1.5 */
        node->type.type = SPAN_LIT("MESSAGE");
        node->type.subtype = SPAN_LIT("RFC822");
    } else if (node->type.type.n == 0) { /* RFC 2045, 5.2 */
        node->plain = true;
    }

    bool multipart = span_eq_nocase_str(node->type.type, "multipart");
    bool message = span_eq_nocase_str(node->type.type, "message") &&
                   span_eq_nocase_str(node->type.subtype, "rfc822");
    if (multipart && boundary_of(node).n == 0) {
        node->plain = true;
        multipart = false;
    }
    node->opaque = (multipart || message) && !may_open;
    if (node->opaque) {
        node->part.kind = MIME_KIND_LEAF;
        p->msg->limited = true;
    } else if (multipart) {
        node->part.kind = MIME_KIND_MULTIPART;
        node->digest = span_eq_nocase_str(node->type.subtype, "digest");
    } else if (message) {
        node->part.kind = MIME_KIND_MESSAGE;
    } else if (node->plain || span_eq_nocase_str(node->type.type, "text")) {
        node->part.kind = MIME_KIND_TEXT;
    }
}

/* The header of the top part ends, its body begins at P->at. */
static void
end_header(struct parser *p)
{
    struct mime_node *node = top(p);
    struct span content_type = SPAN_EMPTY;
    bool in_digest = p->nstack > 1 && node_at(p, p->nstack - 2)->digest;

    node->part.header_bytes = p->at - node->part.header_off;
    node->part.body_off = p->at;
    node->body_lf = p->lf;
    p->in_header = false;
    take_fields(
        p, node,
        span_sub(p->raw, node->part.header_off, node->part.header_bytes),
        &content_type);
    node->part.encoding = mime_encoding_parse(node->encoding);
    mime_typed_parse(content_type, true, p->msg->limits.params, &p->msg->arena,
                     &node->type, &p->msg->limited);
    decide_kind(p, node, in_digest);
    if (node->part.kind == MIME_KIND_MULTIPART) {
        p->bounds[p->nbounds++] = (struct boundary){.text = boundary_of(node),
                                                    .level = p->nstack - 1};
    } else if (node->part.kind == MIME_KIND_MESSAGE) {
        open_part(p, p->at, true);
    }
}

/* Headers under way end here: nothing follows but what closes them. */
static void
end_headers(struct parser *p)
{
    while (p->in_header)
        end_header(p);
}

/*
 * Close the parts from LEVEL up: they end at END, before which there are LF
 * line feeds.  What they had beyond END (an empty line that ends their header
 * and at the same time belongs to the boundary) is taken back.
 */
static void
close_parts(struct parser *p, size_t level, size_t end, uint64_t lf)
{
    while (p->nstack > level) {
        struct mime_node *node = top(p);
        struct mime_part *part = &node->part;

        if (part->header_off > end)
            part->header_off = end;
        if (part->body_off > end)
            part->body_off = end;
        part->header_bytes = part->body_off - part->header_off;
        part->body_bytes = end - part->body_off;
        part->lines = 0;
        if (part->body_bytes > 0)
            part->lines = (uint32_t)MIN(lf - node->body_lf, UINT32_MAX);
        node->end = p->msg->n;
        if (part->kind == MIME_KIND_MULTIPART &&
            node->end == p->stack[p->nstack - 1] + 1) {
            /* Not one part in it: show what is there instead of hiding it. */
            part->kind = MIME_KIND_TEXT;
            node->plain = true;
        }
        p->nstack--;
    }
}

/* ---- lines ---- */

/* The innermost open multipart that LINE (no line end) delimits, as an index
 * of bounds; -1 if none.  *RET_LAST: it is the closing one. */
static ptrdiff_t
match_boundary(const struct parser *p, struct span line, bool *ret_last)
{
    while (line.n > 2 &&
           (line.p[line.n - 1] == ' ' || line.p[line.n - 1] == '\t'))
        line.n--;
    line = span_skip(line, 2);
    struct span last = line;
    bool may_close = line.n > 2 && memcmp(line.p + line.n - 2, "--", 2) == 0;
    if (may_close)
        last.n -= 2;

    for (size_t i = p->nbounds; i-- > 0;) {
        struct span text = p->bounds[i].text;
        *ret_last = may_close && span_eq(last, text);
        if (*ret_last || span_eq(line, text))
            return (ptrdiff_t)i;
    }
    return -1;
}

/* A delimiter of bounds[I] at P->at; the next line begins at NEXT. */
static void
take_boundary(struct parser *p, size_t i, bool last, size_t next)
{
    size_t level = p->bounds[i].level;
    size_t end = p->at;
    uint64_t lf = p->lf;

    end_headers(p);
    if (p->nbounds == 0)
        return; /* that has opened the last part allowed: no boundary */
    if (p->nstack > level + 1) {
        size_t body_off = node_at(p, level + 1)->part.body_off;
        if (body_off < end) {
            end--;
            lf--;
            if (end > body_off && p->raw.p[end - 1] == '\r')
                end--;
        }
        close_parts(p, level + 1, end, lf);
    }
    p->nbounds = last ? i : i + 1;
    p->at = next;
    p->lf += p->raw.p[next - 1] == '\n';
    if (!last)
        open_part(p, next, false);
}

typedef uint8_t bytes16 __attribute__((vector_size(16)));

/* Sixteen bytes at a time: of large messages this is most of the walk. */
static uint64_t
count_lf(struct span s)
{
    const bytes16 lf = (bytes16){0} + '\n';
    uint64_t n = 0;
    size_t i = 0;

    while (i + sizeof(lf) <= s.n) {
        bytes16 sums = {0}; /* of each of 16 columns, up to 255 */
        for (unsigned k = 0; k < 255 && i + sizeof(lf) <= s.n;
             k++, i += sizeof(lf)) {
            bytes16 v;
            memcpy(&v, s.p + i, sizeof(v));
            sums -= (bytes16)(v == lf); /* all bits are 1 where it is one */
        }
        for (size_t k = 0; k < sizeof(lf); k++)
            n += sums[k];
    }
    for (; i < s.n; i++)
        n += s.p[i] == '\n';
    return n;
}

/* Take one line, or all that is left where nothing can happen any more. */
static void
take_line(struct parser *p)
{
    if (p->nbounds == 0 && !p->in_header) {
        p->lf += count_lf(span_skip(p->raw, p->at));
        p->at = p->raw.n;
        return;
    }

    const uint8_t *from = p->raw.p + p->at;
    const uint8_t *lf = memchr(from, '\n', p->raw.n - p->at);
    size_t n = lf == NULL ? p->raw.n - p->at : (size_t)(lf - from);
    size_t next = p->at + n + (lf != NULL);
    if (lf != NULL && n > 0 && from[n - 1] == '\r')
        n--;

    if (p->nbounds > 0 && n > 2 && from[0] == '-' && from[1] == '-') {
        bool last = false;
        ptrdiff_t i = match_boundary(p, span_of(from, n), &last);
        if (i >= 0)
            return take_boundary(p, (size_t)i, last, next);
    }
    p->at = next;
    p->lf += lf != NULL;
    if (n == 0 && p->in_header)
        end_header(p);
}

static struct mime_limits
limits_or_default(const struct mime_limits *given)
{
    struct mime_limits l = {0};

    if (given != NULL)
        l = *given;
    l.depth = l.depth == 0 ? 100 : MIN(l.depth, MIME_DEPTH_MAX);
    l.parts = l.parts == 0 ? 10000 : l.parts;
    l.fields = l.fields == 0 ? 100000 : l.fields;
    l.header_bytes = l.header_bytes == 0 ? 4U << 20 : l.header_bytes;
    l.addresses = l.addresses == 0 ? 20000 : l.addresses;
    l.params = l.params == 0 ? 200 : l.params;
    return l;
}

void
mime_parse(struct span raw, const struct mime_limits *limits,
           struct mime_message **ret)
{
    struct mime_message *m = xcalloc(1, sizeof(*m));
    struct parser *p = xmalloc(sizeof(*p)); /* no zeros for its arrays */

    if (raw.p == NULL)
        raw = SPAN_LIT("");
    m->raw = raw;
    m->limits = limits_or_default(limits);
    p->msg = m;
    p->raw = raw;
    p->at = 0;
    p->lf = 0;
    p->in_header = false;
    p->nstack = 0;
    p->nbounds = 0;
    p->fields_left = m->limits.fields;
    p->header_left = m->limits.header_bytes;
    p->addresses_left = m->limits.addresses;
    open_part(p, 0, true);
    while (p->at < raw.n)
        take_line(p);
    end_headers(p);
    close_parts(p, 0, raw.n, p->lf);
    free(p);
    *ret = m;
}

void
mime_message_free(struct mime_message **msg)
{
    if (*msg == NULL)
        return;
    arena_free(&(*msg)->arena);
    free((*msg)->nodes);
    free(*msg);
    *msg = NULL;
}
