/*
 * imapd/find_index.c - what the index (search/index.h) says of a command's
 * keys, before the walk over the messages begins.
 *
 * For each text it gives the messages that may have it.  From there the tree of
 * keys says which messages can match at all, and only these are looked at.
 * What the index does not know can always match.
 */
#include "imapd/find.h"

#include "mime/text.h"
#include "search/index.h"

static bool
takes_text(enum imap_search_kind kind)
{
    return kind == SEARCH_HEADER || kind == SEARCH_BODY || kind == SEARCH_TEXT;
}

static bool
has_text(const struct imap_search *node)
{
    for (; node != NULL; node = node->next)
        if (takes_text(node->kind) || has_text(node->kids))
            return true;
    return false;
}

bool
find_wants_index(struct imap_session *s, const struct finder *f)
{
    (void)f;
    return s->index != NULL && has_text(s->cmd->search);
}

static void
ask(struct search_view *view, struct imap_search *node)
{
    for (; node != NULL; node = node->next) {
        ask(view, node->kids);
        if (!takes_text(node->kind))
            continue;
        enum mime_search_where where =
            node->kind == SEARCH_HEADER ? MIME_SEARCH_HEADER
            : node->kind == SEARCH_BODY ? MIME_SEARCH_BODY
                                        : MIME_SEARCH_TEXT;
        node->has_hits =
            search_view_find(view, mime_needle_folded(node->needle), where,
                             &node->hits, &node->exact);
        if (node->kind == SEARCH_HEADER) /* in which field it does not know */
            node->exact = false;
    }
}

/* Add to RET what can match NODE, apart from what the index does not know
 * (OTHERS are added); false: anything. */
static bool
can_match(const struct imap_search *node, const struct uidset *others,
          struct uidset *ret)
{
    const struct imap_search *kid;

    switch (node->kind) {
    case SEARCH_HEADER:
    case SEARCH_BODY:
    case SEARCH_TEXT:
        if (!node->has_hits)
            return false;
        uidset_add_set(ret, &node->hits);
        uidset_add_set(ret, others);
        return true;
    case SEARCH_UIDS:
    case SEARCH_SEQS:
        uidset_add_set(ret, &node->set);
        return true;
    case SEARCH_AND: {
        bool any = false;
        for (kid = node->kids; kid != NULL; kid = kid->next) {
            AUTO(uidset_free) struct uidset one = UIDSET_INIT;
            if (!can_match(kid, others, &one))
                continue;
            if (any)
                uidset_intersect(ret, &one);
            else
                uidset_add_set(ret, &one);
            any = true;
        }
        return any;
    }
    case SEARCH_OR:
    case SEARCH_FUZZY:
        return can_match(node->kids, others, ret) &&
               can_match(node->kids->next, others, ret);
    case SEARCH_NOT:
    case SEARCH_ALL:
    case SEARCH_FLAG:
    case SEARCH_KEYWORD:
    case SEARCH_RECENT:
    case SEARCH_NEW:
    case SEARCH_BEFORE:
    case SEARCH_ON:
    case SEARCH_SINCE:
    case SEARCH_SENTBEFORE:
    case SEARCH_SENTON:
    case SEARCH_SENTSINCE:
    case SEARCH_LARGER:
    case SEARCH_SMALLER:
    case SEARCH_MODSEQ:
    case SEARCH_OLDER:
    case SEARCH_YOUNGER:
    case SEARCH_SAVEDBEFORE:
    case SEARCH_SAVEDON:
    case SEARCH_SAVEDSINCE:
    case SEARCH_EMAILID:
    case SEARCH_ANNOTATION:
        break;
    }
    return false;
}

void
find_ask_index(struct imap_session *s, struct finder *f)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    AUTO(uidset_free) struct uidset all = UIDSET_INIT;
    AUTO(uidset_free) struct uidset others = UIDSET_INIT;
    AUTO(search_view_close) struct search_view *view = NULL;
    struct mailbox mb;
    struct error ignored = {0};

    if (snap_mailbox(f->snap, s->sel->id, &a, &mb, &ignored) == ERR_OK)
        view = search_view_open(s->index, &mb);
    if (view != NULL) {
        ask(view, s->cmd->search);
        uidset_add_set(&f->covered, search_view_covered(view));
    }
    for (uint32_t i = 0; i < s->sel->map.n; i++)
        uidset_add(&all, s->sel->map.r[i].first, s->sel->map.r[i].last);
    search_uids_without(&all, &f->covered, &others);
    f->restricted = can_match(s->cmd->search, &others, &f->may);
}
