/*
 * imapd/parse_notify.c - NOTIFY (RFC 5465, 8): event groups become a list.  An
 * event that is not known is not wrong, it is not supported: that is told by
 * who runs the command.
 */
#include "imapd/lex.h"

static void
lex_event(struct lex *l, struct imap_notify *n, struct imap_notify_group *g)
{
    static const struct {
        const char *name;
        unsigned event;
    } events[] = {{"MessageNew", EVENT_MESSAGE_NEW},
                  {"MessageExpunge", EVENT_MESSAGE_EXPUNGE},
                  {"FlagChange", EVENT_FLAG},
                  {"AnnotationChange", EVENT_ANNOTATION},
                  {"MailboxName", EVENT_NAME},
                  {"SubscriptionChange", EVENT_SUBSCRIPTION},
                  {"MailboxMetadataChange", EVENT_METADATA},
                  {"ServerMetadataChange", EVENT_SERVER_METADATA}};
    const struct span word = lex_atom(l);
    size_t i = 0;

    while (i < ARRAY_LEN(events) && !span_eq_nocase_str(word, events[i].name))
        i++;
    if (i == ARRAY_LEN(events)) {
        n->unknown_event |= !lex_bad(l);
        return;
    }
    g->events |= events[i].event;
    if (events[i].event != EVENT_MESSAGE_NEW ||
        !span_starts(l->left, SPAN_LIT(" (")))
        return;
    const struct span before = span_skip(l->left, 1);
    struct imap_command items = {0};
    lex_accept(l, ' ');
    lex_fetch_items(l, &items);
    if (!lex_bad(l))
        g->items = span_sub(before, 0, before.n - l->left.n);
    if (!g->selected)
        lex_fail(l, "Attributes are for the selected mailbox");
}

/* 5: what may not stand alone. */
static void
check_events(struct lex *l, const struct imap_notify_group *g)
{
    const unsigned both = EVENT_MESSAGE_NEW | EVENT_MESSAGE_EXPUNGE;

    if ((g->events & (both | EVENT_FLAG | EVENT_ANNOTATION)) != 0 &&
        (g->events & both) != both)
        lex_fail(l, "MessageNew and MessageExpunge belong together");
    if (g->selected && (g->events & ~(unsigned)EVENT_OF_MESSAGES) != 0)
        lex_fail(l, "Only events of messages there");
}

static void
lex_group(struct lex *l, struct imap_notify *n, struct imap_notify_group *g)
{
    lex_expect(l, '(', "Missing group of events");
    if (lex_accept_word(l, "SELECTED") ||
        (g->delayed = lex_accept_word(l, "SELECTED-DELAYED"))) {
        g->selected = true;
        if (n->has_selected)
            lex_fail(l, "The selected mailbox twice");
        n->has_selected = true;
    } else {
        lex_source(l, &g->source);
        if (!lex_bad(l) && (g->source.kind == SOURCE_SELECTED ||
                            g->source.kind == SOURCE_SUBTREE_ONE))
            lex_fail(l, "Unknown mailboxes");
    }
    lex_sp(l);
    if (!lex_accept_word(l, "NONE")) {
        lex_expect(l, '(', "Missing list of events");
        do
            lex_event(l, n, g);
        while (!lex_bad(l) && lex_accept(l, ' '));
        lex_expect(l, ')', "Missing ) after events");
        check_events(l, g);
    }
    lex_expect(l, ')', "Missing ) after group");
}

void
lex_notify(struct lex *l, struct imap_command *cmd)
{
    struct imap_notify *n = &cmd->notify;

    lex_sp(l);
    if (lex_accept_word(l, "NONE"))
        return;
    if (!lex_accept_word(l, "SET")) {
        lex_fail(l, "SET or NONE");
        return;
    }
    n->groups = arena_array(l->a, IMAP_SOURCES_MAX, sizeof(n->groups[0]));
    lex_sp(l);
    n->status = lex_accept_word(l, "STATUS");
    if (n->status)
        lex_sp(l);
    do {
        if (n->ngroups == IMAP_SOURCES_MAX) {
            lex_fail(l, "Too many groups");
            return;
        }
        lex_group(l, n, &n->groups[n->ngroups++]);
    } while (!lex_bad(l) && lex_accept(l, ' '));
}
