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
    ARG_INTERVAL,
    ARG_ID,
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
    {"EMAILID", SEARCH_EMAILID, ARG_ID, 0, true, NULL},
    {"FLAGGED", SEARCH_FLAG, ARG_NONE, FLAG_FLAGGED, true, NULL},
    {"FROM", SEARCH_HEADER, ARG_STRING, 0, true, "From"},
    {"KEYWORD", SEARCH_KEYWORD, ARG_KEYWORD, 0, true, NULL},
    {"LARGER", SEARCH_LARGER, ARG_NUMBER, 0, true, NULL},
    {"NEW", SEARCH_NEW, ARG_NONE, 0, true, NULL},
    {"OLD", SEARCH_RECENT, ARG_NONE, 0, false, NULL},
    {"OLDER", SEARCH_OLDER, ARG_INTERVAL, 0, true, NULL},
    {"ON", SEARCH_ON, ARG_DATE, 0, true, NULL},
    {"RECENT", SEARCH_RECENT, ARG_NONE, 0, true, NULL},
    {"SAVEDATESUPPORTED", SEARCH_ALL, ARG_NONE, 0, true, NULL},
    {"SAVEDBEFORE", SEARCH_SAVEDBEFORE, ARG_DATE, 0, true, NULL},
    {"SAVEDON", SEARCH_SAVEDON, ARG_DATE, 0, true, NULL},
    {"SAVEDSINCE", SEARCH_SAVEDSINCE, ARG_DATE, 0, true, NULL},
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
    {"YOUNGER", SEARCH_YOUNGER, ARG_INTERVAL, 0, true, NULL},
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
    case ARG_INTERVAL:
        node->number = lex_number(l);
        if (!lex_bad(l) && node->number == 0)
            lex_fail(l, "Invalid interval");
        break;
    case ARG_ID:
        node->text = lex_astring(l);
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

/* All words of TEXT, wherever each is (RFC 6203 leaves to us what is near). */
static struct imap_search *
words_of(struct search_parser *p, const struct imap_search *node)
{
    struct imap_search *all = node_new(p, SEARCH_AND);
    struct imap_search **end = &all->kids;
    struct span left = span_trim(node->text);

    while (left.n > 0 && !lex_bad(p->l)) {
        ptrdiff_t sp = span_find_byte(left, ' ', 0);
        struct span word = sp < 0 ? left : span_sub(left, 0, (size_t)sp);
        left = span_trim(span_skip(left, word.n));
        *end = node_new(p, node->kind);
        (*end)->name = node->name;
        (*end)->want = node->want;
        (*end)->text = word;
        end = &(*end)->next;
    }
    if (all->kids == NULL)
        all->kids = node_new(p, SEARCH_ALL);
    return all;
}

/* The key behind FUZZY; one that is no text means what it says. */
static struct imap_search *
lex_fuzzy(struct search_parser *p, unsigned depth)
{
    struct imap_search *key = lex_key(p, depth + 1);

    if (key->kind != SEARCH_HEADER && key->kind != SEARCH_BODY &&
        key->kind != SEARCH_TEXT)
        return key;
    struct imap_search *node = node_new(p, SEARCH_FUZZY);
    node->kids = key;
    key->next = words_of(p, key);
    return node;
}

static struct imap_search *
lex_combined(struct search_parser *p, unsigned depth)
{
    struct lex *l = p->l;
    struct imap_search *node;

    if (lex_accept(l, '(')) {
        node = lex_keys(p, depth);
        lex_expect(l, ')', "Missing ) after search keys");
    } else if (lex_accept_word(l, "FUZZY")) {
        lex_sp(l);
        node = lex_fuzzy(p, depth);
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
    if (c == '*' || c == '$' || (c >= '0' && c <= '9')) {
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
    } else if (span_eq_nocase_str(word, "ANNOTATION")) {
        node->kind = SEARCH_ANNOTATION;
        lex_annot_search(l, node);
    } else if (span_eq_nocase_str(word, "MODSEQ")) {
        node->kind = SEARCH_MODSEQ;
        lex_sp(l);
        if (lex_peek(l) == '"') { /* RFC 7162, 3.1.5: entry and kind */
            (void)lex_string(l);
            lex_sp(l);
            struct span type = lex_atom(l);
            if (!span_eq_nocase_str(type, "all") &&
                !span_eq_nocase_str(type, "priv") &&
                !span_eq_nocase_str(type, "shared"))
                lex_fail(l, "Unknown kind of MODSEQ");
            lex_sp(l);
        }
        node->number = lex_number64(l);
    } else {
        lex_fail(l, "Unknown search key");
    }
    return node;
}

void
lex_partial_range(struct lex *l, struct imap_command *cmd)
{
    bool last = lex_accept(l, '-');

    cmd->partial_from = lex_number(l);
    lex_expect(l, ':', "Invalid PARTIAL");
    if (last)
        lex_expect(l, '-', "Invalid PARTIAL");
    cmd->partial_to = lex_number(l);
    if (!lex_bad(l) && (cmd->partial_from == 0 || cmd->partial_to == 0))
        lex_fail(l, "Invalid PARTIAL");
    if (last) {
        cmd->partial_from = -cmd->partial_from;
        cmd->partial_to = -cmd->partial_to;
    }
}

/* "UPDATE (attributes)": of what comes new (RFC 5465, 7). */
static void
lex_update_items(struct lex *l, struct imap_command *cmd)
{
    const struct span before = span_skip(l->left, 2);

    if (!span_starts(l->left, SPAN_LIT(" (")))
        return;
    lex_accept(l, ' ');
    lex_fetch_items(l, cmd);
    if (!lex_bad(l))
        cmd->update_items = span_sub(before, 0, before.n - l->left.n - 1);
}

/* "RETURN (...)" and a blank, if they are there. */
static void
lex_returns(struct lex *l, struct imap_command *cmd)
{
    static const struct {
        const char *name;
        unsigned bit;
    } options[] = {{"MIN", RETURN_MIN},
                   {"MAX", RETURN_MAX},
                   {"ALL", RETURN_ALL},
                   {"COUNT", RETURN_COUNT},
                   {"SAVE", RETURN_SAVE},
                   {"PARTIAL", RETURN_PARTIAL},
                   {"RELEVANCY", RETURN_RELEVANCY},
                   {"CONTEXT", RETURN_CONTEXT},
                   {"UPDATE", RETURN_UPDATE}};

    if (!lex_accept_word(l, "RETURN"))
        return;
    cmd->returns = RETURN_GIVEN;
    lex_sp(l);
    lex_expect(l, '(', "Missing list of return options");
    if (!lex_accept(l, ')')) {
        do {
            struct span word = lex_atom(l);
            size_t i = 0;
            while (i < ARRAY_LEN(options) &&
                   !span_eq_nocase_str(word, options[i].name))
                i++;
            if (i == ARRAY_LEN(options)) {
                lex_fail(l, "Unknown return option");
                return;
            }
            cmd->returns |= options[i].bit;
            if (options[i].bit == RETURN_PARTIAL) {
                lex_sp(l);
                lex_partial_range(l, cmd);
            }
            if (options[i].bit == RETURN_UPDATE)
                lex_update_items(l, cmd);
        } while (!lex_bad(l) && lex_accept(l, ' '));
        lex_expect(l, ')', "Missing ) after return options");
    }
    /* RFC 4731, 3.1: "()" is ALL. */
    if (cmd->returns == RETURN_GIVEN)
        cmd->returns |= RETURN_ALL;
    if ((cmd->returns & RETURN_ALL) != 0 &&
        (cmd->returns & RETURN_PARTIAL) != 0) /* RFC 9394, 3.1 */
        lex_fail(l, "ALL and PARTIAL exclude each other");
    lex_sp(l);
}

void
lex_search(struct lex *l, struct imap_command *cmd)
{
    struct search_parser p = {.l = l};

    lex_returns(l, cmd);
    if (lex_accept_word(l, "CHARSET")) {
        lex_sp(l);
        cmd->charset = lex_astring(l);
        lex_sp(l);
    }
    cmd->search = lex_keys(&p, 0);
}

/* One mailbox, or several in parentheses. */
static void
lex_source_names(struct lex *l, struct imap_source *src)
{
    const bool several = lex_accept(l, '(');

    src->names = arena_array(l->a, IMAP_SOURCES_MAX, sizeof(struct span));
    do {
        if (src->nnames == IMAP_SOURCES_MAX) {
            lex_fail(l, "Too many mailboxes");
            return;
        }
        src->names[src->nnames++] = lex_astring(l);
    } while (several && !lex_bad(l) && lex_accept(l, ' '));
    if (several)
        lex_expect(l, ')', "Missing ) after mailboxes");
}

void
lex_source(struct lex *l, struct imap_source *ret)
{
    static const struct {
        const char *name;
        enum imap_source_kind kind;
        bool names;
    } kinds[] = {
        {"SELECTED", SOURCE_SELECTED, false},
        {"INBOXES", SOURCE_INBOXES, false},
        {"PERSONAL", SOURCE_PERSONAL, false},
        {"SUBSCRIBED", SOURCE_SUBSCRIBED, false},
        {"SUBTREE", SOURCE_SUBTREE, true},
        {"SUBTREE-ONE", SOURCE_SUBTREE_ONE, true},
        {"MAILBOXES", SOURCE_MAILBOXES, true},
    };
    const struct span word = lex_atom(l);
    size_t i = 0;

    while (i < ARRAY_LEN(kinds) && !span_eq_nocase_str(word, kinds[i].name))
        i++;
    if (i == ARRAY_LEN(kinds)) {
        lex_fail(l, "Unknown source option");
        return;
    }
    ret->kind = kinds[i].kind;
    if (!kinds[i].names)
        return;
    lex_sp(l);
    lex_source_names(l, ret);
}

/* "(" source SP source ... ")" (RFC 7377, 4). */
static void
lex_sources(struct lex *l, struct imap_command *cmd)
{
    cmd->sources = arena_array(l->a, IMAP_SOURCES_MAX, sizeof(cmd->sources[0]));
    lex_expect(l, '(', "Missing list of mailboxes");
    do {
        if (cmd->nsources == IMAP_SOURCES_MAX) {
            lex_fail(l, "Unknown source option");
            return;
        }
        lex_source(l, &cmd->sources[cmd->nsources++]);
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after mailboxes");
}

void
lex_esearch(struct lex *l, struct imap_command *cmd)
{
    if (lex_accept_word(l, "IN")) {
        lex_sp(l);
        lex_sources(l, cmd);
        lex_sp(l);
    }
    lex_search(l, cmd);
    cmd->uid = true; /* RFC 7377, 2.1 */
    if (cmd->returns == 0)
        cmd->returns = RETURN_GIVEN | RETURN_ALL;
}

/* charset SP search-keys, as SORT and THREAD have it. */
static void
lex_charset_and_keys(struct lex *l, struct imap_command *cmd)
{
    struct search_parser p = {.l = l};

    lex_sp(l);
    cmd->charset = lex_astring(l);
    lex_sp(l);
    cmd->search = lex_keys(&p, 0);
}

void
lex_sort(struct lex *l, struct imap_command *cmd)
{
    static const char *const names[] = {
        [SORT_ARRIVAL] = "ARRIVAL",
        [SORT_CC] = "CC",
        [SORT_DATE] = "DATE",
        [SORT_FROM] = "FROM",
        [SORT_SIZE] = "SIZE",
        [SORT_SUBJECT] = "SUBJECT",
        [SORT_TO] = "TO",
        [SORT_DISPLAYFROM] = "DISPLAYFROM",
        [SORT_DISPLAYTO] = "DISPLAYTO",
        [SORT_RELEVANCY] = "RELEVANCY",
        [SORT_ANNOTATION] = "ANNOTATION",
    };

    lex_returns(l, cmd);
    lex_expect(l, '(', "Missing list of sort keys");
    do {
        if (cmd->nsort == IMAP_SORT_KEYS_MAX) {
            lex_fail(l, "Too many sort keys");
            return;
        }
        struct imap_sort_key *key = &cmd->sort[cmd->nsort++];
        if (lex_accept_word(l, "REVERSE")) {
            key->reverse = true;
            lex_sp(l);
        }
        struct span word = lex_atom(l);
        size_t i = 0;
        while (i < ARRAY_LEN(names) && !span_eq_nocase_str(word, names[i]))
            i++;
        if (i == ARRAY_LEN(names)) {
            lex_fail(l, "Unknown sort key");
            return;
        }
        key->what = (enum imap_sort_what)i;
        if (key->what == SORT_ANNOTATION)
            lex_annot_sort(l, key);
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after sort keys");
    lex_charset_and_keys(l, cmd);
}

void
lex_thread(struct lex *l, struct imap_command *cmd)
{
    static const char *const names[] = {
        [THREAD_ORDEREDSUBJECT] = "ORDEREDSUBJECT",
        [THREAD_REFERENCES] = "REFERENCES",
        [THREAD_REFS] = "REFS",
    };
    struct span word = lex_atom(l);
    size_t i = 0;

    while (i < ARRAY_LEN(names) && !span_eq_nocase_str(word, names[i]))
        i++;
    if (i == ARRAY_LEN(names)) {
        lex_fail(l, "Unknown threading algorithm");
        return;
    }
    cmd->thread = (enum imap_thread)i;
    lex_charset_and_keys(l, cmd);
}
