/*
 * imapd/context.c - results that are kept level (RFC 5267, 4.3).
 *
 * A context is the text of the command that made it, the UIDs that its sequence
 * numbers stood for then, and what it has found.  When the session keeps its
 * mailbox level, the messages that changed are looked at again, by the keys
 * read anew from the text; those that came or went are told as ADDTO and
 * REMOVEFROM, after the EXISTS and FETCH that caused it and before the EXPUNGE.
 * So an expunged message leaves a result at once, also where the EXPUNGE itself
 * has to wait.
 *
 * Results of SORT are kept in their order: a new member's place is found by
 * halves, reading the keys of a few members, and told with its position.  Where
 * keys can change (annotations), what changed leaves first and comes back.
 *
 * One turn looks at so much and no more (I2); the rest is `pending`, for the
 * next time or for IDLE to come back to.
 */
#include "imapd/context.h"

#include <stdlib.h>

#include "imapd/find.h"
#include "imapd/search.h"

/* What one turn may cost, as in imapd/find.c. */
#define TURN_COST 4000U

struct context {
    struct context *next;
    char *tag;
    bool uid;
    bool sorted;
    bool moves;             /* sorted by what can change */
    bool is_over;           /* too much to keep */
    struct buf text;        /* of the command */
    struct uidset *numbers; /* what its sequence numbers stood for */
    size_t nnumbers;
    struct uidset members;
    uint32_t *order; /* SORT: the members in their order */
    size_t n, cap;
    bool wants_fetch;   /* attributes of what comes new */
    struct uidset came; /* since contexts_take_new() */

    /* While it is looked at. */
    struct imap_command cmd;
    struct finder f;
    struct buf added, removed; /* SORT: "1 5 2 7" */
    struct uidset in, out;     /* SEARCH: numbers */
};

static void
context_free(struct context *c)
{
    free(c->tag);
    buf_free(&c->text);
    for (size_t i = 0; i < c->nnumbers; i++)
        uidset_free(&c->numbers[i]);
    free(c->numbers);
    uidset_free(&c->members);
    uidset_free(&c->came);
    free(c->order);
    free(c);
}

void
contexts_free(struct selected *sel)
{
    while (sel->contexts != NULL) {
        struct context *c = sel->contexts;
        sel->contexts = c->next;
        context_free(c);
    }
    uidset_free(&sel->pending);
}

static size_t
bytes_of(const struct context *c)
{
    size_t n = sizeof(*c) + c->text.n +
               c->members.cap * sizeof(c->members.r[0]) +
               c->cap * sizeof(c->order[0]);

    for (size_t i = 0; i < c->nnumbers; i++)
        n += sizeof(c->numbers[0]) +
             c->numbers[i].cap * sizeof(c->numbers[i].r[0]);
    return n;
}

static size_t
bytes_of_all(const struct selected *sel)
{
    size_t n = 0;

    for (const struct context *c = sel->contexts; c != NULL; c = c->next)
        n += bytes_of(c);
    return n;
}

/* ---- made and cancelled ------------------------------------------------ */

bool
context_has_tag(const struct imap_session *s, struct span tag)
{
    for (const struct context *c = s->sel->contexts; c != NULL; c = c->next)
        if (span_eq_str(tag, c->tag))
            return true;
    return false;
}

/* "$" is what it stood for, too (RFC 5182, 2.1). */
static bool
is_numbers(const struct imap_search *node)
{
    return node->kind == SEARCH_SEQS;
}

static void
keep_numbers(struct context *c, const struct imap_search *node)
{
    for (; node != NULL; node = node->next) {
        if (is_numbers(node)) {
            c->numbers =
                xrealloc(c->numbers, (c->nnumbers + 1) * sizeof(c->numbers[0]));
            c->numbers[c->nnumbers] = UIDSET_INIT;
            uidset_add_set(&c->numbers[c->nnumbers++], &node->set);
        }
        keep_numbers(c, node->kids);
    }
}

static void
tell_no_update(struct imap_session *s, const char *tag)
{
    buf_add_str(&s->out, "* NO [NOUPDATE ");
    write_string(&s->out, span_str(tag));
    buf_add_str(&s->out, "] Too much to keep level\r\n");
}

void
context_add(struct imap_session *s, const struct uidset *found,
            const uint32_t *order, size_t n)
{
    const struct imap_command *cmd = s->cmd;
    struct context *c = xcalloc(1, sizeof(*c));
    size_t others = 0;

    c->tag = span_dup(cmd->tag);
    c->uid = cmd->uid;
    c->sorted = cmd->cmd == CMD_SORT;
    for (size_t i = 0; i < cmd->nsort; i++)
        c->moves |= cmd->sort[i].what == SORT_ANNOTATION;
    buf_add(&c->text, buf_span(&s->reader.text));
    keep_numbers(c, cmd->search);
    uidset_add_set(&c->members, found);
    if (c->sorted && n > 0) {
        c->order = xcalloc(n, sizeof(c->order[0]));
        memcpy(c->order, order, n * sizeof(c->order[0]));
        c->n = c->cap = n;
    }
    c->wants_fetch = cmd->nitems > 0;
    for (const struct context *o = s->sel->contexts; o != NULL; o = o->next)
        others++;
    if (others >= CONTEXTS_MAX ||
        bytes_of_all(s->sel) + bytes_of(c) > CONTEXT_BYTES_MAX) {
        tell_no_update(s, c->tag);
        context_free(c);
        return;
    }
    c->next = s->sel->contexts;
    s->sel->contexts = c;
}

enum run
cmd_cancelupdate(struct imap_session *s)
{
    for (size_t i = 0; i < s->cmd->nwords; i++)
        for (struct context **at = &s->sel->contexts; *at != NULL;) {
            struct context *c = *at;
            if (!span_eq_str(s->cmd->words[i], c->tag)) {
                at = &c->next;
                continue;
            }
            *at = c->next;
            context_free(c);
        }
    return reply(s, "OK No further updates");
}

/* ---- telling ----------------------------------------------------------- */

static uint32_t
number_of(const struct imap_session *s, const struct context *c, uint32_t uid)
{
    return c->uid ? uid : seqmap_seq(&s->sel->map, uid);
}

static void
add_pair(struct buf *out, size_t position, uint32_t number)
{
    buf_addf(out, "%s%zu %" PRIu32, out->n == 0 ? "" : " ", position, number);
}

/* What has gathered, as one response. */
static void
tell(struct imap_session *s, struct context *c)
{
    const bool out = c->removed.n > 0 || c->out.n > 0;
    const bool in = c->added.n > 0 || c->in.n > 0;

    if (in || out) {
        buf_add_str(&s->out, "* ESEARCH (TAG ");
        write_string(&s->out, span_str(c->tag));
        buf_add_str(&s->out, c->uid ? ") UID" : ")");
        if (out)
            buf_add_str(&s->out,
                        c->sorted ? " REMOVEFROM (" : " REMOVEFROM (0 ");
        buf_add(&s->out, buf_span(&c->removed));
        uidset_format(&c->out, &s->out);
        if (out)
            buf_add_byte(&s->out, ')');
        if (in)
            buf_add_str(&s->out, c->sorted ? " ADDTO (" : " ADDTO (0 ");
        buf_add(&s->out, buf_span(&c->added));
        uidset_format(&c->in, &s->out);
        if (in)
            buf_add_byte(&s->out, ')');
        buf_add_str(&s->out, "\r\n");
    }
    buf_free(&c->removed);
    buf_free(&c->added);
    uidset_free(&c->out);
    uidset_free(&c->in);
}

/* UID, a member, leaves. */
static void
leaves(struct imap_session *s, struct context *c, uint32_t uid)
{
    const uint32_t number = number_of(s, c, uid);
    size_t i = 0;

    uidset_remove(&c->members, uid, uid);
    if (!c->sorted) {
        uidset_add(&c->out, number, number);
        return;
    }
    while (i < c->n && c->order[i] != uid)
        i++;
    ENSURE(i < c->n);
    memmove(&c->order[i], &c->order[i + 1],
            (c->n - i - 1) * sizeof(c->order[0]));
    c->n--;
    /* Positions are those when it is their turn, and in one response
     * REMOVEFROM stands before ADDTO (RFC 5267, 4.3.2). */
    if (c->added.n > 0)
        tell(s, c);
    add_pair(&c->removed, i + 1, number);
}

static void
comes(struct imap_session *s, struct context *c, uint32_t uid)
{
    const uint32_t number = number_of(s, c, uid);

    uidset_add(&c->members, uid, uid);
    if (!c->sorted) {
        uidset_add(&c->in, number, number);
        return;
    }
    const size_t at = sort_place(s, &c->f, c->order, c->n);
    if (c->n == c->cap) {
        c->cap = c->cap == 0 ? 16 : c->cap * 2;
        c->order = xrealloc(c->order, c->cap * sizeof(c->order[0]));
    }
    memmove(&c->order[at + 1], &c->order[at],
            (c->n - at) * sizeof(c->order[0]));
    c->order[at] = uid;
    c->n++;
    add_pair(&c->added, at + 1, number);
}

/* S without what is in GONE: at once, for both may be many ranges. */
static void
subtract(struct uidset *s, const struct uidset *gone)
{
    struct uidset rest = UIDSET_INIT;
    size_t k = 0;

    for (size_t i = 0; i < s->n; i++) {
        const uint32_t last = s->r[i].last;
        uint32_t from = s->r[i].first;
        bool is_over = false;
        while (k < gone->n && gone->r[k].last < from)
            k++;
        for (size_t j = k; !is_over && j < gone->n && gone->r[j].first <= last;
             j++) {
            if (gone->r[j].first > from)
                uidset_add(&rest, from, gone->r[j].first - 1);
            is_over = gone->r[j].last >= last;
            from = is_over ? from : MAX(from, gone->r[j].last + 1);
        }
        if (!is_over)
            uidset_add(&rest, from, last);
    }
    uidset_free(s);
    *s = rest;
}

/* The members among UIDS leave, in one pass over those in order, however many
 * they are.  Nothing has gathered in C yet. */
static void
leave_all(struct imap_session *s, struct context *c, const struct uidset *uids)
{
    AUTO(uidset_free) struct uidset gone = UIDSET_INIT;
    size_t to = 0;

    uidset_add_set(&gone, &c->members);
    uidset_intersect(&gone, uids);
    if (gone.n == 0)
        return;
    subtract(&c->members, &gone);
    for (uint32_t uid = uidset_next(&gone, 1); !c->sorted && uid != 0;
         uid = uid == UINT32_MAX ? 0 : uidset_next(&gone, uid + 1)) {
        const uint32_t number = number_of(s, c, uid);
        uidset_add(&c->out, number, number);
    }
    for (size_t i = 0; i < c->n; i++) {
        const uint32_t uid = c->order[i];
        if (uidset_has(&gone, uid)) /* those before it have left already */
            add_pair(&c->removed, to + 1, number_of(s, c, uid));
        else
            c->order[to++] = uid;
    }
    c->n = to;
}

void
contexts_expunge(struct imap_session *s, const struct uidset *uids)
{
    for (struct context *c = s->sel->contexts; c != NULL; c = c->next) {
        leave_all(s, c, uids);
        subtract(&c->came, uids);
        tell(s, c);
    }
}

/* ---- looking again ----------------------------------------------------- */

static void
restore_numbers(const struct context *c, struct imap_search *node, size_t *i)
{
    for (; node != NULL; node = node->next) {
        if (is_numbers(node)) {
            ENSURE(*i < c->nnumbers);
            uidset_clear(&node->set);
            uidset_add_set(&node->set, &c->numbers[(*i)++]);
        }
        restore_numbers(c, node->kids, i);
    }
}

/* The text is what was parsed before. */
static void
open_context(struct imap_session *s, struct context *c, struct arena *a)
{
    struct imap_command *const cmd = s->cmd;
    const char *why;
    size_t i = 0;

    const enum imap_parsed parsed =
        imap_parse(buf_span(&c->text), a, &c->cmd, &why);
    ENSURE(parsed == IMAP_PARSED);
    s->cmd = &c->cmd;
    find_open_again(s, &c->f);
    s->cmd = cmd;
    restore_numbers(c, c->cmd.search, &i);
}

static void
close_context(struct imap_session *s, struct context *c)
{
    struct imap_command *const cmd = s->cmd;

    s->cmd = &c->cmd;
    find_close(s, &c->f);
    s->cmd = cmd;
    c->f = (struct finder){0};
    c->cmd = (struct imap_command){0};
}

static bool
on_changed(void *ctx, modseq_t modseq, uint32_t uid)
{
    (void)modseq;
    uidset_add(ctx, uid, uid);
    return true;
}

/* MSG NULL: it is gone. */
static void
look_at(struct imap_session *s, struct context *c, uint32_t uid,
        const struct message *msg)
{
    struct imap_command *const cmd = s->cmd;
    const bool was = uidset_has(&c->members, uid);

    s->cmd = &c->cmd;
    const bool is = msg != NULL && find_matches(s, &c->f, msg);
    if (was && !is)
        leaves(s, c, uid);
    if (is && !was)
        comes(s, c, uid);
    s->cmd = cmd;
}

static unsigned
cost_of(const struct selected *sel)
{
    unsigned cost = 0;

    for (const struct context *c = sel->contexts; c != NULL; c = c->next)
        cost += c->f.cost;
    return cost;
}

static void
look_at_pending(struct imap_session *s, struct store_snap *snap)
{
    struct selected *sel = s->sel;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct message msg;
    struct error ignored = {0};
    uint32_t last = 0; /* that was looked at */

    while (cost_of(sel) < TURN_COST && last < UINT32_MAX) {
        const uint32_t uid = uidset_next(&sel->pending, last + 1);
        if (uid == 0)
            break;
        last = uid;
        if (seqmap_seq(&sel->map, uid) == 0) /* not told yet, or no more */
            continue;
        arena_reset(&a);
        const bool is_there =
            snap_message(snap, sel->id, uid, &a, &msg, &ignored) == ERR_OK &&
            (msg.flags & FLAG_EXPUNGED) == 0;
        for (struct context *c = sel->contexts; c != NULL; c = c->next) {
            c->f.cost++;
            look_at(s, c, uid, is_there ? &msg : NULL);
            if (c->wants_fetch && is_there && uid >= sel->fresh_uid &&
                uidset_has(&c->members, uid))
                uidset_add(&c->came, uid, uid);
        }
    }
    if (last != 0)
        uidset_remove(&sel->pending, 1, last);
}

/* Those that have grown too large end. */
static void
drop_large(struct imap_session *s)
{
    struct context **at = &s->sel->contexts;

    while (bytes_of_all(s->sel) > CONTEXT_BYTES_MAX && *at != NULL) {
        struct context *c = *at; /* the one made last */
        tell_no_update(s, c->tag);
        *at = c->next;
        context_free(c);
    }
}

void
contexts_update(struct imap_session *s, modseq_t since)
{
    struct selected *sel = s->sel;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct error ignored = {0};

    if (sel->contexts == NULL)
        return;
    struct store_snap *snap = store_snapshot(s->store);
    /* What cannot be read now is told by who reads it. */
    (void)!snap_changed(snap, sel->id, since, on_changed, &sel->pending,
                        &ignored);
    if (sel->pending.n > 0) {
        for (struct context *c = sel->contexts; c != NULL; c = c->next)
            open_context(s, c, &a);
        /* Again: no context may see what is not pending. */
        store_release(&snap);
        snap = store_snapshot(s->store);
        (void)!snap_changed(snap, sel->id, since, on_changed, &sel->pending,
                            &ignored);
        for (struct context *c = sel->contexts; c != NULL; c = c->next)
            /* What is sorted by what can change leaves before it is looked at
             * again: those that stay are in order, and places can be found by
             * halves. */
            if (c->moves)
                leave_all(s, c, &sel->pending);
        look_at_pending(s, snap);
        for (struct context *c = sel->contexts; c != NULL; c = c->next) {
            close_context(s, c);
            tell(s, c);
        }
        drop_large(s);
    }
    store_release(&snap);
}

bool
contexts_pending(const struct imap_session *s)
{
    return s->sel != NULL && s->sel->contexts != NULL && s->sel->pending.n > 0;
}

bool
contexts_have_new(const struct imap_session *s)
{
    for (const struct context *c = s->sel->contexts; c != NULL; c = c->next)
        if (c->came.n > 0)
            return true;
    return false;
}

void
contexts_take_new(struct imap_session *s, struct uidset *ret, struct buf *text)
{
    for (struct context *c = s->sel->contexts; c != NULL; c = c->next) {
        if (c->came.n == 0)
            continue;
        uidset_add_set(ret, &c->came);
        uidset_clear(&c->came);
        AUTO(arena_free) struct arena a = ARENA_INIT;
        struct imap_command cmd;
        const char *why;
        if (imap_parse(buf_span(&c->text), &a, &cmd, &why) != IMAP_PARSED)
            continue;
        buf_add_str(text, text->n == 0 ? "" : " ");
        buf_add(text, cmd.update_items);
    }
}
