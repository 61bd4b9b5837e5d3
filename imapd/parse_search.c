/*
 * imapd/parse_search.c - search keys (RFC 3501, 6.4.4) become a tree, of
 * bounded size and depth.
 */
#include "imapd/lex.h"

#include "mime/date.h"
#include "store/types.h"

struct search_parser {
    struct lex *l;
    size_t nodes;
};

enum key_arg {
    ARG_NONE,
    ARG_KEYWORD,
    ARG_DATE,
    ARG_STRING,
    ARG_NUMBER,
};

static const struct search_key {
    const char *name;
    enum imap_search_kind kind;
    enum key_arg arg;
    uint32_t flag;
    bool want;
    const char *field; /* SEARCH_HEADER */
} keys[] = {
    {"ALL", SEARCH_ALL, ARG_NONE, 0, true, NULL},
    {"ANSWERED", SEARCH_FLAG, ARG_NONE, FLAG_ANSWERED, true, NULL},
    {"BCC", SEARCH_HEADER, ARG_STRING, 0, true, "Bcc"},
    {"BEFORE", SEARCH_BEFORE, ARG_DATE, 0, true, NULL},
    {"BODY", SEARCH_BODY, ARG_STRING, 0, true, NULL},
    {"CC", SEARCH_HEADER, ARG_STRING, 0, true, "Cc"},
    {"DELETED", SEARCH_FLAG, ARG_NONE, FLAG_DELETED, true, NULL},
    {"DRAFT", SEARCH_FLAG, ARG_NONE, FLAG_DRAFT, true, NULL},
    {"FLAGGED", SEARCH_FLAG, ARG_NONE, FLAG_FLAGGED, true, NULL},
    {"FROM", SEARCH_HEADER, ARG_STRING, 0, true, "From"},
    {"KEYWORD", SEARCH_KEYWORD, ARG_KEYWORD, 0, true, NULL},
    {"LARGER", SEARCH_LARGER, ARG_NUMBER, 0, true, NULL},
    {"NEW", SEARCH_NEW, ARG_NONE, 0, true, NULL},
    {"OLD", SEARCH_RECENT, ARG_NONE, 0, false, NULL},
    {"ON", SEARCH_ON, ARG_DATE, 0, true, NULL},
    {"RECENT", SEARCH_RECENT, ARG_NONE, 0, true, NULL},
    {"SEEN", SEARCH_FLAG, ARG_NONE, FLAG_SEEN, true, NULL},
    {"SENTBEFORE", SEARCH_SENTBEFORE, ARG_DATE, 0, true, NULL},
    {"SENTON", SEARCH_SENTON, ARG_DATE, 0, true, NULL},
    {"SENTSINCE", SEARCH_SENTSINCE, ARG_DATE, 0, true, NULL},
    {"SINCE", SEARCH_SINCE, ARG_DATE, 0, true, NULL},
    {"SMALLER", SEARCH_SMALLER, ARG_NUMBER, 0, true, NULL},
    {"SUBJECT", SEARCH_HEADER, ARG_STRING, 0, true, "Subject"},
    {"TEXT", SEARCH_TEXT, ARG_STRING, 0, true, NULL},
    {"TO", SEARCH_HEADER, ARG_STRING, 0, true, "To"},
    {"UNANSWERED", SEARCH_FLAG, ARG_NONE, FLAG_ANSWERED, false, NULL},
    {"UNDELETED", SEARCH_FLAG, ARG_NONE, FLAG_DELETED, false, NULL},
    {"UNDRAFT", SEARCH_FLAG, ARG_NONE, FLAG_DRAFT, false, NULL},
    {"UNFLAGGED", SEARCH_FLAG, ARG_NONE, FLAG_FLAGGED, false, NULL},
    {"UNKEYWORD", SEARCH_KEYWORD, ARG_KEYWORD, 0, false, NULL},
    {"UNSEEN", SEARCH_FLAG, ARG_NONE, FLAG_SEEN, false, NULL},
};

static struct imap_search *
node_new(struct search_parser *p, enum imap_search_kind kind)
{
    if (++p->nodes > IMAP_SEARCH_MAX)
        lex_fail(p->l, "Too many search keys");
    struct imap_search *node = arena_alloc(p->l->a, sizeof(*node));
    node->kind = kind;
    return node;
}

static int32_t
lex_date(struct lex *l)
{
    int32_t day = 0;
    struct span s = lex_peek(l) == '"' ? lex_string(l) : lex_astring_chars(l);

    if (!lex_bad(l) && !mime_imap_date_parse(s, &day))
        lex_fail(l, "Invalid date");
    return day;
}

static void
lex_key_arg(struct lex *l, const struct search_key *key,
            struct imap_search *node)
{
    node->flag = key->flag;
    node->want = key->want;
    if (key->field != NULL)
        node->name = span_str(key->field);
    if (key->arg == ARG_NONE)
        return;
    lex_sp(l);
    switch (key->arg) {
    case ARG_NONE:
        break;
    case ARG_KEYWORD:
        node->text = lex_atom(l);
        break;
    case ARG_DATE:
        node->day = lex_date(l);
        break;
    case ARG_STRING:
        node->text = lex_astring(l);
        break;
    case ARG_NUMBER:
        node->number = lex_number64(l);
        break;
    }
}

static struct imap_search *
lex_key(struct search_parser *p, unsigned depth);

/* Keys with a blank between them, all of which must hold. */
static struct imap_search *
lex_keys(struct search_parser *p, unsigned depth)
{
    struct imap_search *all = node_new(p, SEARCH_AND);
    struct imap_search **end = &all->kids;

    do {
        *end = lex_key(p, depth + 1);
        end = &(*end)->next;
    } while (!lex_bad(p->l) && lex_accept(p->l, ' '));
    return all;
}

static struct imap_search *
lex_combined(struct search_parser *p, unsigned depth)
{
    struct lex *l = p->l;
    struct imap_search *node;

    if (lex_accept(l, '(')) {
        node = lex_keys(p, depth);
        lex_expect(l, ')', "Missing ) after search keys");
    } else if (lex_accept_word(l, "NOT")) {
        node = node_new(p, SEARCH_NOT);
        lex_sp(l);
        node->kids = lex_key(p, depth + 1);
    } else if (lex_accept_word(l, "OR")) {
        node = node_new(p, SEARCH_OR);
        lex_sp(l);
        node->kids = lex_key(p, depth + 1);
        lex_sp(l);
        node->kids->next = lex_key(p, depth + 1);
    } else {
        return NULL;
    }
    return node;
}

static struct imap_search *
lex_key(struct search_parser *p, unsigned depth)
{
    struct lex *l = p->l;
    int c = lex_peek(l);

    if (depth > IMAP_SEARCH_DEPTH)
        lex_fail(l, "Search keys nested too deeply");
    if (lex_bad(l))
        return node_new(p, SEARCH_ALL);
    struct imap_search *node = lex_combined(p, depth);
    if (node != NULL)
        return node;
    if (c == '*' || (c >= '0' && c <= '9')) {
        node = node_new(p, SEARCH_SEQS);
        node->text = lex_seqset(l);
        return node;
    }
    struct span word = lex_atom(l);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (span_eq_nocase_str(word, keys[i].name)) {
            node = node_new(p, keys[i].kind);
            lex_key_arg(l, &keys[i], node);
            return node;
        }
    node = node_new(p, SEARCH_UIDS);
    if (span_eq_nocase_str(word, "UID")) {
        lex_sp(l);
        node->text = lex_seqset(l);
    } else if (span_eq_nocase_str(word, "HEADER")) {
        node->kind = SEARCH_HEADER;
        lex_sp(l);
        node->name = lex_astring(l);
        lex_sp(l);
        node->text = lex_astring(l);
    } else {
        lex_fail(l, "Unknown search key");
    }
    return node;
}

void
lex_search(struct lex *l, struct imap_command *cmd)
{
    struct search_parser p = {.l = l};

    if (lex_accept_word(l, "CHARSET")) {
        lex_sp(l);
        cmd->charset = lex_astring(l);
        lex_sp(l);
    }
    cmd->search = lex_keys(&p, 0);
}
