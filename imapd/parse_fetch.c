/*
 * imapd/parse_fetch.c - what a FETCH asks for (RFC 3501, 6.4.5).
 */
#include "imapd/lex.h"

#include "base/buf.h"

static struct imap_fetch_item *
item_add(struct lex *l, struct imap_command *cmd, enum imap_fetch_what what)
{
    static struct imap_fetch_item nowhere;

    if (cmd->nitems >= IMAP_ITEMS_MAX) {
        lex_fail(l, "Too many fetch items");
        nowhere = (struct imap_fetch_item){0};
        return &nowhere;
    }
    struct imap_fetch_item *item = &cmd->items[cmd->nitems++];
    *item = (struct imap_fetch_item){.what = what};
    return item;
}

static void
add_section(struct lex *l, struct imap_command *cmd, const char *label,
            const char *section, bool peek)
{
    struct imap_fetch_item *item = item_add(l, cmd, FETCH_SECTION);
    item->label = span_str(label);
    item->section = span_str(section);
    item->peek = peek;
}

static struct span
upper(struct arena *a, struct span s)
{
    uint8_t *p = arena_alloc(a, s.n + 1);
    for (size_t i = 0; i < s.n; i++)
        p[i] = ascii_upper(s.p[i]);
    return span_of(p, s.n);
}

/* section-spec without header list: numbers, then perhaps a word. */
static bool
section_ok(struct span s)
{
    bool numbers = false;

    while (s.n > 0 && s.p[0] >= '0' && s.p[0] <= '9') {
        size_t n = 0;
        while (n < s.n && s.p[n] >= '0' && s.p[n] <= '9')
            n++;
        uint32_t v;
        if (!parse_u32(span_sub(s, 0, n), &v) || v == 0)
            return false;
        numbers = true;
        s = span_skip(s, n);
        if (s.n == 0)
            return true;
        if (s.p[0] != '.')
            return false;
        s = span_skip(s, 1);
        if (s.n == 0)
            return false;
    }
    return (!numbers && s.n == 0) || span_eq_str(s, "HEADER") ||
           span_eq_str(s, "TEXT") || span_eq_str(s, "HEADER.FIELDS") ||
           span_eq_str(s, "HEADER.FIELDS.NOT") ||
           (numbers && span_eq_str(s, "MIME"));
}

static bool
ends_with(struct span s, const char *end)
{
    size_t n = strlen(end);
    return s.n >= n && span_eq_str(span_skip(s, s.n - n), end);
}

static void
lex_field_names(struct lex *l, struct imap_fetch_item *item)
{
    lex_sp(l);
    lex_expect(l, '(', "Missing header list");
    item->fields = arena_array(l->a, IMAP_LIST_MAX, sizeof(struct span));
    do {
        if (item->nfields >= IMAP_LIST_MAX) {
            lex_fail(l, "Too many header names");
            return;
        }
        item->fields[item->nfields++] = lex_astring(l);
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after header names");
}

static bool
is_plain_atom(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= 0x20 || s.p[i] >= 0x7f ||
            memchr("(){%*\"\\]", s.p[i], 8) != NULL)
            return false;
    return s.n > 0;
}

/* The name under which the answer comes (RFC 3501, 7.4.2). */
static struct span
make_label(struct arena *a, const struct imap_fetch_item *item)
{
    AUTO(buf_free) struct buf b = BUF_INIT;

    buf_add_str(&b, item->what == FETCH_BINARY        ? "BINARY["
                    : item->what == FETCH_BINARY_SIZE ? "BINARY.SIZE["
                                                      : "BODY[");
    buf_add(&b, item->section);
    for (size_t i = 0; item->has_fields && i < item->nfields; i++) {
        struct span f = item->fields[i];
        buf_add_str(&b, i == 0 ? " (" : " ");
        if (is_plain_atom(f)) {
            buf_add(&b, f);
        } else {
            buf_addf(&b, "{%zu}\r\n", f.n);
            buf_add(&b, f);
        }
    }
    buf_add_str(&b, item->has_fields ? ")]" : "]");
    if (item->has_partial)
        buf_addf(&b, "<%" PRIu32 ">", item->partial_off);
    return arena_copy(a, buf_span(&b));
}

static void
lex_partial(struct lex *l, struct imap_fetch_item *item)
{
    item->has_partial = true;
    item->partial_off = lex_number(l);
    lex_expect(l, '.', "Invalid partial");
    item->partial_bytes = lex_number(l);
    lex_expect(l, '>', "Invalid partial");
    if (!lex_bad(l) && item->partial_bytes == 0)
        lex_fail(l, "Invalid partial");
}

/* section-part alone: numbers. */
static bool
is_part(struct span s)
{
    return s.n == 0 || (s.p[s.n - 1] >= '0' && s.p[s.n - 1] <= '9');
}

/* Behind "BODY[", "BODY.PEEK[" and their kin. */
static void
lex_section(struct lex *l, struct imap_command *cmd, enum imap_fetch_what what,
            bool peek)
{
    struct imap_fetch_item *item = item_add(l, cmd, what);
    size_t n = 0;

    while (n < l->left.n && l->left.p[n] != ']' && l->left.p[n] != ' ')
        n++;
    item->peek = peek;
    item->section = upper(l->a, span_sub(l->left, 0, n));
    if (!section_ok(item->section) ||
        (what != FETCH_SECTION && !is_part(item->section))) {
        lex_fail(l, "Invalid body section");
        return;
    }
    l->left = span_skip(l->left, n);
    item->fields_not = ends_with(item->section, "HEADER.FIELDS.NOT");
    item->has_fields =
        item->fields_not || ends_with(item->section, "HEADER.FIELDS");
    if (item->has_fields)
        lex_field_names(l, item);
    lex_expect(l, ']', "Missing ] after body section");
    if (what != FETCH_BINARY_SIZE && lex_accept(l, '<'))
        lex_partial(l, item);
    if (!lex_bad(l))
        item->label = make_label(l->a, item);
}

/* "PREVIEW" or "PREVIEW (LAZY)" (RFC 8970, 6) */
static void
lex_preview(struct lex *l, struct imap_command *cmd)
{
    struct imap_fetch_item *item = item_add(l, cmd, FETCH_PREVIEW);

    if (!span_starts(l->left, SPAN_LIT(" (")) || lex_bad(l) ||
        span_starts_nocase(l->left, SPAN_LIT(" (CHANGEDSINCE ")) ||
        span_starts_nocase(l->left, SPAN_LIT(" (PARTIAL ")))
        return;
    l->left = span_skip(l->left, 2);
    do
        if (lex_accept_word(l, "LAZY"))
            item->lazy = true;
        else
            lex_fail(l, "Unknown PREVIEW modifier");
    while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after PREVIEW modifiers");
}

static void
lex_item(struct lex *l, struct imap_command *cmd)
{
    static const struct {
        const char *name;
        enum imap_fetch_what what;
    } simple[] = {
        {"UID", FETCH_UID},
        {"FLAGS", FETCH_FLAGS},
        {"INTERNALDATE", FETCH_INTERNALDATE},
        {"RFC822.SIZE", FETCH_RFC822_SIZE},
        {"ENVELOPE", FETCH_ENVELOPE},
        {"BODYSTRUCTURE", FETCH_BODYSTRUCTURE},
        {"MODSEQ", FETCH_MODSEQ},
        {"SAVEDATE", FETCH_SAVEDATE},
        {"EMAILID", FETCH_EMAILID},
        {"THREADID", FETCH_THREADID},
    };

    static const struct {
        const char *name;
        enum imap_fetch_what what;
        bool peek;
    } sections[] = {
        {"BODY[", FETCH_SECTION, false},
        {"BODY.PEEK[", FETCH_SECTION, true},
        {"BINARY[", FETCH_BINARY, false},
        {"BINARY.PEEK[", FETCH_BINARY, true},
        {"BINARY.SIZE[", FETCH_BINARY_SIZE, true},
    };

    for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
        struct span name = span_str(sections[i].name);
        if (!span_starts_nocase(l->left, name))
            continue;
        l->left = span_skip(l->left, name.n);
        lex_section(l, cmd, sections[i].what, sections[i].peek);
        return;
    }
    struct span word = lex_atom(l);
    for (size_t i = 0; i < ARRAY_LEN(simple); i++)
        if (span_eq_nocase_str(word, simple[i].name)) {
            item_add(l, cmd, simple[i].what);
            return;
        }
    if (span_eq_nocase_str(word, "PREVIEW"))
        lex_preview(l, cmd);
    else if (span_eq_nocase_str(word, "ANNOTATION"))
        lex_annot_ask(l, &item_add(l, cmd, FETCH_ANNOTATION)->annot);
    else if (span_eq_nocase_str(word, "BODY"))
        item_add(l, cmd, FETCH_BODY);
    else if (span_eq_nocase_str(word, "RFC822"))
        add_section(l, cmd, "RFC822", "", false);
    else if (span_eq_nocase_str(word, "RFC822.HEADER"))
        add_section(l, cmd, "RFC822.HEADER", "HEADER", true);
    else if (span_eq_nocase_str(word, "RFC822.TEXT"))
        add_section(l, cmd, "RFC822.TEXT", "TEXT", false);
    else
        lex_fail(l, "Unknown fetch item");
}

static bool
lex_macro(struct lex *l, struct imap_command *cmd)
{
    static const enum imap_fetch_what order[] = {
        FETCH_FLAGS, FETCH_INTERNALDATE, FETCH_RFC822_SIZE, FETCH_ENVELOPE,
        FETCH_BODY};
    size_t n = lex_accept_word(l, "ALL")    ? 4
               : lex_accept_word(l, "FAST") ? 3
               : lex_accept_word(l, "FULL") ? 5
                                            : 0;

    for (size_t i = 0; i < n; i++)
        item_add(l, cmd, order[i]);
    return n > 0;
}

void
lex_fetch_items(struct lex *l, struct imap_command *cmd)
{
    cmd->items = arena_array(l->a, IMAP_ITEMS_MAX, sizeof(cmd->items[0]));
    if (lex_macro(l, cmd))
        return;
    if (!lex_accept(l, '(')) {
        lex_item(l, cmd);
        return;
    }
    do
        lex_item(l, cmd);
    while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after fetch items");
}
