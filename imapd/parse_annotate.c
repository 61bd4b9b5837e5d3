/*
 * imapd/parse_annotate.c - annotations of messages as commands name them (RFC
 * 5257, 5): what FETCH asks for, what STORE and APPEND set, what SEARCH and
 * SORT go by.
 *
 * Names are checked here as far as they can be without the message: what is
 * wrong with them is BAD in every command (3.2).
 */
#include "imapd/lex.h"

#include "store/types.h"

/* "1.2" of "/1.2/comment". */
static bool
part_ok(struct span s)
{
    while (s.n > 0) {
        size_t n = 0;
        uint32_t v;
        while (n < s.n && s.p[n] >= '0' && s.p[n] <= '9')
            n++;
        if (!parse_u32(span_sub(s, 0, n), &v) || v == 0)
            return false;
        s = span_skip(s, n);
        if (s.n == 0)
            return true;
        if (s.p[0] != '.')
            return false;
        s = span_skip(s, 1);
    }
    return false;
}

/* 3.2, 3.2.1; /flags is nobody's (3.5). */
static bool
entry_ok(struct span s, bool is_pattern)
{
    if (s.n == 0 || s.n > ANNOT_ENTRY_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 0x20 || s.p[i] >= 0x7f ||
            (!is_pattern && (s.p[i] == '*' || s.p[i] == '%')) ||
            (s.p[i] == '/' && i + 1 < s.n && s.p[i + 1] == '/'))
            return false;
    if (is_pattern)
        return true;
    if (s.p[0] != '/' || s.p[s.n - 1] == '/' || span_eq_str(s, "/flags") ||
        span_starts(s, SPAN_LIT("/flags/")))
        return false;
    if (s.n < 2 || s.p[1] < '0' || s.p[1] > '9')
        return true;
    const ptrdiff_t end = span_find_byte(s, '/', 1);
    return end > 0 && part_ok(span_sub(s, 1, (size_t)end - 1));
}

static struct span
lex_entry(struct lex *l)
{
    struct span s = lex_astring(l);

    if (!lex_bad(l) && !entry_ok(s, false))
        lex_fail(l, "Invalid name of an annotation");
    return s;
}

/* A name that may have wildcards in it. */
static struct span
lex_entry_match(struct lex *l)
{
    struct span s = lex_list_mailbox(l);
    const bool wild =
        span_find_byte(s, '*', 0) >= 0 || span_find_byte(s, '%', 0) >= 0;

    if (!lex_bad(l) && !entry_ok(s, wild))
        lex_fail(l, "Invalid name of an annotation");
    return s;
}

static unsigned
lex_attribute(struct lex *l, unsigned allowed)
{
    static const struct {
        const char *name;
        unsigned bits;
    } names[] = {
        {"value", ANNOT_VALUE_PRIV | ANNOT_VALUE_SHARED},
        {"value.priv", ANNOT_VALUE_PRIV},
        {"value.shared", ANNOT_VALUE_SHARED},
        {"size", ANNOT_SIZE_PRIV | ANNOT_SIZE_SHARED},
        {"size.priv", ANNOT_SIZE_PRIV},
        {"size.shared", ANNOT_SIZE_SHARED},
    };
    const struct span word = lex_astring(l);

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (span_eq_str(word, names[i].name) && (names[i].bits & ~allowed) == 0)
            return names[i].bits;
    lex_fail(l, "Unknown attribute of an annotation");
    return 0;
}

void
lex_annot_ask(struct lex *l, struct imap_annot_ask *ret)
{
    const unsigned any = ANNOT_VALUE_PRIV | ANNOT_VALUE_SHARED |
                         ANNOT_SIZE_PRIV | ANNOT_SIZE_SHARED;

    ret->entries = arena_array(l->a, IMAP_ITEMS_MAX, sizeof(struct span));
    lex_sp(l);
    lex_expect(l, '(', "Missing list of annotations");
    const bool entries = lex_accept(l, '(');
    do {
        if (ret->nentries == IMAP_ITEMS_MAX) {
            lex_fail(l, "Too many annotations");
            return;
        }
        ret->entries[ret->nentries++] = lex_entry_match(l);
    } while (entries && !lex_bad(l) && lex_accept(l, ' '));
    if (entries)
        lex_expect(l, ')', "Missing ) after names of annotations");
    lex_sp(l);
    const bool attributes = lex_accept(l, '(');
    do
        ret->attributes |= lex_attribute(l, any);
    while (attributes && !lex_bad(l) && lex_accept(l, ' '));
    if (attributes)
        lex_expect(l, ')', "Missing ) after attributes");
    lex_expect(l, ')', "Missing ) after annotations");
}

/* "(value.priv NIL value.shared "x")" */
static void
lex_values(struct lex *l, struct span entry, struct imap_annot_set *sets,
           size_t *n)
{
    lex_expect(l, '(', "Missing list of attributes");
    do {
        if (*n == IMAP_ITEMS_MAX) {
            lex_fail(l, "Too many annotations");
            return;
        }
        struct imap_annot_set *set = &sets[(*n)++];
        const unsigned bits =
            lex_attribute(l, ANNOT_VALUE_PRIV | ANNOT_VALUE_SHARED);
        if (bits == (ANNOT_VALUE_PRIV | ANNOT_VALUE_SHARED))
            lex_fail(l, "Say .priv or .shared"); /* 3.3 */
        lex_sp(l);
        set->entry = arena_str(l->a, entry);
        set->is_private = bits == ANNOT_VALUE_PRIV;
        set->is_nil = lex_accept_word(l, "NIL");
        if (!set->is_nil)
            set->value = lex_string8(l);
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after attributes");
}

void
lex_annot_sets(struct lex *l, struct imap_annot_set **ret, size_t *ret_n)
{
    struct imap_annot_set *sets =
        arena_array(l->a, IMAP_ITEMS_MAX, sizeof(*sets));

    *ret = sets;
    *ret_n = 0;
    lex_sp(l);
    lex_expect(l, '(', "Missing list of annotations");
    do {
        const struct span entry = lex_entry(l);
        lex_sp(l);
        lex_values(l, entry, sets, ret_n);
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after annotations");
}

void
lex_annot_search(struct lex *l, struct imap_search *node)
{
    lex_sp(l);
    node->name = lex_entry_match(l);
    lex_sp(l);
    node->flag = lex_attribute(l, ANNOT_VALUE_PRIV | ANNOT_VALUE_SHARED);
    lex_sp(l);
    node->text = lex_accept_word(l, "NIL") ? SPAN_EMPTY : lex_string8(l);
}

void
lex_annot_sort(struct lex *l, struct imap_sort_key *key)
{
    lex_sp(l);
    const struct span entry = lex_entry(l);
    lex_sp(l);
    const unsigned bits =
        lex_attribute(l, ANNOT_VALUE_PRIV | ANNOT_VALUE_SHARED);
    if (bits == (ANNOT_VALUE_PRIV | ANNOT_VALUE_SHARED)) /* 4.9 */
        lex_fail(l, "Say .priv or .shared");
    key->entry = arena_str(l->a, entry);
    key->is_private = bits == ANNOT_VALUE_PRIV;
}
