/*
 * imapd/parse_append.c - the arguments of APPEND and REPLACE: one message, or
 * several (RFC 3502), each a literal (RFC 3516: also literal8; RFC 6855: UTF8),
 * or put together of literals and URLs (RFC 4469).
 *
 * The bytes of messages are not in the text, only their announcements.  So the
 * same walk reads a whole command, and finds out whether the announcement at
 * the end of a text is that of a message.
 */
#include "imapd/lex.h"
#include "mime/date.h"
#include "net/lineread.h"

struct append_parser {
    struct lex *l;
    struct imap_command *cmd;
    bool is_head; /* the text may end behind a message's announcement */
    bool at_end;  /* and so it did */
    size_t nparts;
};

/* "{5}" and its line end; false: nothing more is to be read. */
static bool
take_literal(struct append_parser *p, struct imap_append *msg, uint64_t *ret)
{
    struct lex *l = p->l;
    struct literal lit;
    struct span before;

    ptrdiff_t lf = span_find_byte(l->left, '\n', 0);
    if (lf < 1 ||
        line_literal(span_sub(l->left, 0, (size_t)lf - 1), UINT64_MAX - 1, &lit,
                     &before) == LITERAL_NONE ||
        before.n != 0)
        return lex_fail(l, "Missing message literal");
    *ret = p->cmd->literal_bytes = lit.n;
    msg->is_binary |= lit.binary;
    l->left = span_skip(l->left, (size_t)lf + 1);
    p->at_end = p->is_head && l->left.n == 0;
    return !p->at_end;
}

static struct imap_cat_part *
part_add(struct append_parser *p, struct imap_append *msg)
{
    struct imap_cat_part *part = arena_alloc(p->l->a, sizeof(*part));
    struct imap_cat_part **end = &msg->parts;

    if (++p->nparts > IMAP_CAT_PARTS_MAX)
        lex_fail(p->l, "Too many parts");
    while (*end != NULL)
        end = &(*end)->next;
    *end = part;
    return part;
}

/* Behind "UTF8": " (~{5}...)" */
static bool
take_utf8(struct append_parser *p, struct imap_append *msg, uint64_t *ret)
{
    lex_sp(p->l);
    lex_expect(p->l, '(', "Missing ( before message");
    if (!take_literal(p, msg, ret))
        return false;
    lex_expect(p->l, ')', "Missing ) after message");
    return true;
}

/* cat-part of RFC 4469, 5 and RFC 6855, 4. */
static bool
take_part(struct append_parser *p, struct imap_append *msg)
{
    struct lex *l = p->l;
    struct imap_cat_part *part = part_add(p, msg);

    if (lex_accept_word(l, "TEXT")) {
        lex_sp(l);
        return take_literal(p, msg, &part->bytes);
    }
    if (lex_accept_word(l, "UTF8"))
        return take_utf8(p, msg, &part->bytes);
    if (!lex_accept_word(l, "URL"))
        return lex_fail(l, "Unknown part of a message");
    lex_sp(l);
    part->is_url = true;
    part->url = lex_astring(l);
    return !lex_bad(l);
}

static bool
take_catenate(struct append_parser *p, struct imap_append *msg)
{
    struct lex *l = p->l;

    msg->is_catenate = true;
    lex_sp(l);
    lex_expect(l, '(', "Missing list of parts");
    do
        if (!take_part(p, msg))
            return false;
    while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after parts");
    return true;
}

static bool
take_date(struct lex *l, struct imap_append *msg)
{
    struct mime_date date;
    struct span s = lex_string(l);

    /* The day may be " 7" (date-day-fixed). */
    if (!lex_bad(l) && !mime_imap_datetime_parse(s, &date))
        return lex_fail(l, "Invalid date-time");
    lex_sp(l);
    if (lex_bad(l))
        return false;
    msg->has_date = true;
    msg->date_s = date.utc_s;
    msg->date_zone_min = date.zone_min;
    return true;
}

/* Flags, date, and the message itself. */
static bool
take_message(struct append_parser *p)
{
    struct lex *l = p->l;
    struct imap_append *msg = arena_alloc(l->a, sizeof(*msg));
    uint64_t bytes;

    if (++p->cmd->nappends > IMAP_APPENDS_MAX)
        return lex_fail(l, "Too many messages");
    if (p->cmd->append == NULL)
        p->cmd->append = msg;
    else
        p->cmd->last_append->next = msg;
    p->cmd->last_append = msg;
    if (lex_peek(l) == '(') {
        lex_flags(l, false, &msg->flags);
        lex_sp(l);
    }
    if (lex_peek(l) == '"' && !take_date(l, msg))
        return false;
    if (lex_accept_word(l, "ANNOTATION")) { /* RFC 5257, 4.7 */
        lex_annot_sets(l, &msg->annots, &msg->nannots);
        lex_sp(l);
    }
    if (lex_accept_word(l, "CATENATE"))
        return take_catenate(p, msg);
    if (lex_accept_word(l, "UTF8"))
        return take_utf8(p, msg, &bytes);
    return take_literal(p, msg, &bytes);
}

static void
take_all(struct append_parser *p)
{
    struct lex *l = p->l;
    struct imap_command *cmd = p->cmd;

    if (cmd->cmd == CMD_REPLACE) { /* one message, by number */
        lex_sp(l);
        struct span before = l->left;
        uint32_t number = lex_number(l);
        cmd->set = span_sub(before, 0, before.n - l->left.n);
        if (!lex_bad(l) && number == 0)
            lex_fail(l, "Invalid number");
    }
    lex_sp(l);
    cmd->name = lex_astring(l);
    lex_sp(l);
    while (!lex_bad(l) && take_message(p) && !lex_bad(l) && lex_accept(l, ' '))
        if (cmd->cmd == CMD_REPLACE)
            lex_fail(l, "One message only");
}

void
lex_append(struct lex *l, struct imap_command *cmd)
{
    struct append_parser p = {.l = l, .cmd = cmd};

    take_all(&p);
}

bool
lex_append_head(struct lex *l, struct imap_command *cmd)
{
    struct append_parser p = {.l = l, .cmd = cmd, .is_head = true};

    take_all(&p);
    return p.at_end && !lex_bad(l);
}
