/*
 * mime/wire.c - IMAP's words for a message.
 *
 * A string is quoted where the grammar allows it (7-bit, no line end) and it
 * is short, else a literal; header bytes above 127 pass as they are.  Types and
 * parameter names, which have no case, are written in capitals as in the
 * examples of RFC 3501.  The recursion is as deep as the parts, which
 * mime_limits bounds.
 */
#include "mime/wire_private.h"

#define QUOTED_MAX 1000U

static uint8_t
same(uint8_t c)
{
    return c;
}

static inline void
add_literal(struct buf *out, struct span s, uint8_t (*as)(uint8_t c))
{
    buf_add_byte(out, '{');
    buf_add_dec(out, s.n);
    buf_add_str(out, "}\r\n");
    for (size_t i = 0; i < s.n; i++) /* CHAR8 has no NUL */
        buf_add_byte(out, s.p[i] == 0 ? '?' : as(s.p[i]));
}

static inline void
add_string_as(struct buf *out, struct span s, uint8_t (*as)(uint8_t c))
{
    uint8_t *to = s.n > QUOTED_MAX ? NULL : buf_reserve(out, 2 * s.n + 2);
    size_t n = 0;

    if (to == NULL)
        return add_literal(out, s, as);
    to[n++] = '"';
    for (size_t i = 0; i < s.n; i++) {
        const uint8_t c = s.p[i];
        if (c == 0 || c == '\r' || c == '\n' || c > 127)
            return add_literal(out, s, as); /* nothing was added yet */
        if (c == '"' || c == '\\')
            to[n++] = '\\';
        to[n++] = as(c);
    }
    to[n++] = '"';
    out->n += n;
}

static void
add_string(struct buf *out, struct span s)
{
    add_string_as(out, s, same);
}

static void
add_nil(struct buf *out)
{
    buf_add(out, SPAN_LIT("NIL"));
}

/* NIL for what is not there or empty. */
static void
add_nstring(struct buf *out, struct span s)
{
    if (s.n == 0)
        add_nil(out);
    else
        add_string(out, s);
}

static void
add_upper(struct buf *out, struct span s)
{
    add_string_as(out, s, ascii_upper);
}

/* A field's value, unfolded; NIL where absent, and where empty too unless
 * KEEP_EMPTY. */
static void
add_value(struct buf *out, struct span value, bool keep_empty)
{
    struct span s = span_trim(value);

    if (value.p == NULL || (s.n == 0 && !keep_empty))
        return add_nil(out);
    if (s.n == 0 ||
        (memchr(s.p, '\n', s.n) == NULL && memchr(s.p, 0, s.n) == NULL))
        return add_string(out, s);
    struct buf text = BUF_INIT;
    mime_unfold(s, &text);
    add_string(out, buf_span(&text));
    buf_free(&text);
}

/* ---- ENVELOPE ---- */

static void
add_address(struct buf *out, const struct mime_address *a)
{
    buf_add_byte(out, '(');
    switch (a->kind) {
    case MIME_ADDRESS_MAILBOX:
        add_nstring(out, a->name);
        buf_add_byte(out, ' ');
        add_nstring(out, a->route);
        buf_add_byte(out, ' ');
        add_string(out, a->mailbox);
        buf_add_byte(out, ' ');
        /* NIL would make a group of it. */
        if (a->host.n == 0)
            add_string(out, SPAN_LIT("unspecified-domain"));
        else
            add_string(out, a->host);
        break;
    case MIME_ADDRESS_GROUP:
        buf_add_str(out, "NIL NIL ");
        add_string(out, a->mailbox);
        buf_add_str(out, " NIL");
        break;
    case MIME_ADDRESS_GROUP_END:
        buf_add_str(out, "NIL NIL NIL NIL");
        break;
    }
    buf_add_byte(out, ')');
}

static void
add_addresses(struct buf *out, const struct mime_address *a)
{
    if (a == NULL)
        return add_nil(out);
    buf_add_byte(out, '(');
    for (; a != NULL; a = a->next)
        add_address(out, a);
    buf_add_byte(out, ')');
}

void
mime_wire_envelope(const struct mime_env *env, struct buf *out)
{
    buf_add_byte(out, '(');
    add_value(out, env->date, true);
    buf_add_byte(out, ' ');
    add_value(out, env->subject, true);
    for (size_t i = 0; i < MIME_ENV_LISTS; i++) {
        const struct mime_address *a = env->lists[i].first;
        if (a == NULL && (i == MIME_SENDER || i == MIME_REPLY_TO))
            a = env->lists[MIME_FROM].first;
        buf_add_byte(out, ' ');
        add_addresses(out, a);
    }
    buf_add_byte(out, ' ');
    add_value(out, env->in_reply_to, true);
    buf_add_byte(out, ' ');
    add_value(out, env->message_id, true);
    buf_add_byte(out, ')');
}

/* ---- BODY, BODYSTRUCTURE ---- */

static void
add_params(struct buf *out, const struct mime_param *p)
{
    if (p == NULL)
        return add_nil(out);
    buf_add_byte(out, '(');
    for (; p != NULL; p = p->next) {
        add_upper(out, p->name);
        buf_add_byte(out, ' ');
        add_string(out, p->value);
        if (p->next != NULL)
            buf_add_byte(out, ' ');
    }
    buf_add_byte(out, ')');
}

static void
add_disposition(const struct mime_message *m, struct buf *out,
                struct span value)
{
    struct arena arena = ARENA_INIT;
    struct mime_typed typed = {0};

    if (span_trim(value).n > 0)
        mime_typed_parse(value, false, m->limits.params, &arena, &typed, NULL);
    if (typed.type.n == 0) {
        add_nil(out);
    } else {
        buf_add_byte(out, '(');
        add_upper(out, typed.type);
        buf_add_byte(out, ' ');
        add_params(out, typed.params);
        buf_add_byte(out, ')');
    }
    arena_free(&arena);
}

/* The next tag of a Content-Language (RFC 3282: comma, comments). */
static struct span
language_tag(struct span *left)
{
    size_t i = 0;
    size_t depth = 0;
    struct span tag = SPAN_EMPTY;

    for (; i < left->n; i++) {
        uint8_t c = left->p[i];
        if (c == ',' && depth == 0)
            break;
        if (c == '(') {
            depth++;
        } else if (c == ')' && depth > 0) {
            depth--;
        } else if (depth == 0 && c > ' ' && c != ')') {
            if (tag.n == 0)
                tag.p = left->p + i;
            if (tag.p + tag.n == left->p + i)
                tag.n++; /* the first word of it */
        }
    }
    *left = span_skip(*left, i + 1);
    return tag;
}

static void
add_language(struct buf *out, struct span value)
{
    struct span left = value;
    struct span first = SPAN_EMPTY;
    size_t n = 0;

    while (left.n > 0) {
        struct span tag = language_tag(&left);
        if (tag.n > 0 && n++ == 0)
            first = tag;
    }
    if (n <= 1)
        return add_nstring(out, first);
    left = value;
    n = 0;
    while (left.n > 0) {
        struct span tag = language_tag(&left);
        if (tag.n == 0)
            continue;
        buf_add_byte(out, n++ == 0 ? '(' : ' ');
        add_string(out, tag);
    }
    buf_add_byte(out, ')');
}

/* RFC 2557, 4.4.1: a folded URI is put together without its blanks. */
static void
add_location(struct buf *out, struct span value)
{
    struct buf text = BUF_INIT;
    bool folded = value.n > 0 && memchr(value.p, '\n', value.n) != NULL;

    for (size_t i = 0; folded && i < value.n; i++)
        if (value.p[i] != ' ' && value.p[i] != '\t' && value.p[i] != '\r' &&
            value.p[i] != '\n')
            buf_add_byte(&text, value.p[i]);
    if (folded)
        add_nstring(out, buf_span(&text));
    else
        add_value(out, value, false);
    buf_free(&text);
}

/* Disposition, language, location: what all parts end with. */
static void
add_extension(const struct mime_message *m, const struct mime_node *node,
              struct buf *out)
{
    buf_add_byte(out, ' ');
    add_disposition(m, out, node->disposition);
    buf_add_byte(out, ' ');
    add_language(out, node->language);
    buf_add_byte(out, ' ');
    add_location(out, node->location);
}

static void
add_type(const struct mime_node *node, struct buf *out)
{
    if (node->plain) {
        buf_add_str(out, "\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\")");
    } else if (node->opaque) {
        buf_add_str(out, "\"APPLICATION\" \"OCTET-STREAM\" NIL");
    } else {
        add_upper(out, node->type.type);
        buf_add_byte(out, ' ');
        add_upper(out, node->type.subtype);
        buf_add_byte(out, ' ');
        add_params(out, node->type.params);
    }
}

/* First word of a Content-Transfer-Encoding. */
static void
add_encoding(struct buf *out, struct span value)
{
    struct span s = span_trim(value);
    size_t n = 0;

    while (n < s.n && s.p[n] > ' ' && s.p[n] != ';' && s.p[n] != '(')
        n++;
    if (n == 0)
        buf_add_str(out, "\"7BIT\"");
    else
        add_upper(out, span_sub(s, 0, n));
}

static void
add_multipart(const struct mime_message *m, size_t i, bool extended,
              struct buf *out)
{
    const struct mime_node *node = &m->nodes[i];

    for (size_t child = i + 1; child < node->end; child = m->nodes[child].end)
        mime_wire_body(m, child, extended, out);
    buf_add_byte(out, ' ');
    add_upper(out, node->type.subtype);
    if (extended) {
        buf_add_byte(out, ' ');
        add_params(out, node->type.params);
        add_extension(m, node, out);
    }
}

/* Of what is no multipart: all that BODY has. */
static void
add_basic(const struct mime_message *m, size_t i, bool extended,
          struct buf *out)
{
    const struct mime_node *node = &m->nodes[i];

    add_type(node, out);
    buf_add_byte(out, ' ');
    add_value(out, node->id, false);
    buf_add_byte(out, ' ');
    add_value(out, node->description, false);
    buf_add_byte(out, ' ');
    add_encoding(out, node->encoding);
    buf_add_byte(out, ' ');
    buf_add_dec(out, node->part.body_bytes);
    if (node->part.kind == MIME_KIND_MESSAGE) {
        buf_add_byte(out, ' ');
        mime_wire_envelope(m->nodes[i + 1].env, out);
        buf_add_byte(out, ' ');
        mime_wire_body(m, i + 1, extended, out);
    }
    if (node->part.kind == MIME_KIND_MESSAGE ||
        node->part.kind == MIME_KIND_TEXT) {
        buf_add_byte(out, ' ');
        buf_add_dec(out, node->part.lines);
    }
}

/* What BODYSTRUCTURE has behind it. */
static void
add_more(const struct mime_message *m, const struct mime_node *node,
         struct buf *out)
{
    buf_add_byte(out, ' ');
    add_value(out, node->md5, false);
    add_extension(m, node, out);
}

void
mime_wire_body(const struct mime_message *m, size_t i, bool extended,
               struct buf *out)
{
    buf_add_byte(out, '(');
    if (m->nodes[i].part.kind == MIME_KIND_MULTIPART) {
        add_multipart(m, i, extended, out);
    } else {
        add_basic(m, i, extended, out);
        if (extended)
            add_more(m, &m->nodes[i], out);
    }
    buf_add_byte(out, ')');
}

size_t
mime_wire_leaf(const struct mime_message *m, struct buf *out)
{
    const size_t before = out->n;

    ENSURE(m->n == 1 && m->nodes[0].part.kind != MIME_KIND_MULTIPART &&
           m->nodes[0].part.kind != MIME_KIND_MESSAGE);
    buf_add_byte(out, '(');
    add_basic(m, 0, true, out);
    const size_t basic = out->n - before;
    add_more(m, &m->nodes[0], out);
    buf_add_byte(out, ')');
    return basic;
}
