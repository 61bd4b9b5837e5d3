/*
 * imapd/thread.c - the three ways of threading.
 *
 * ORDEREDSUBJECT: sorted by base subject and date; each subject is a thread,
 * all others in it are children of the first.
 *
 * REFERENCES (RFC 5256, 3): a node for each Message-ID that is there or is
 * spoken of, parents by References; nodes without a message that join nothing
 * are taken out; threads of one base subject are joined; siblings sort by date.
 *
 * REFS is the same without joining by subject, and threads sort by the latest
 * arrival of any of their messages.
 *
 * Chains may be as long as the mailbox, so trees are walked by parent and
 * sibling links, never by recursion.
 */
#include "imapd/thread.h"

#include "imapd/write.h"

#include <stdlib.h>
#include <xxhash.h>

#define NONE UINT32_MAX

struct node {
    const struct thread_message *msg; /* NULL: only spoken of */
    struct span id;
    uint32_t parent, child, next; /* NONE: none */
    int64_t sort_s;
    uint32_t order; /* breaks ties: mailbox order */
};

struct forest {
    struct node *nodes;
    uint32_t n, cap;
    uint32_t *table; /* open addressing by id: node + 1, 0: free */
    size_t mask;
    uint32_t *scratch; /* children being sorted */
    size_t scratch_cap;
};

/* ---- nodes ------------------------------------------------------------- */

static uint32_t
node_new(struct forest *f, struct span id)
{
    if (f->n == f->cap) {
        f->cap = f->cap == 0 ? 256 : f->cap * 2;
        f->nodes = xrealloc(f->nodes, f->cap * sizeof(f->nodes[0]));
    }
    f->nodes[f->n] = (struct node){
        .id = id, .parent = NONE, .child = NONE, .next = NONE, .order = NONE};
    return f->n++;
}

/* The node of ID, made if need be. */
static uint32_t
node_of(struct forest *f, struct span id)
{
    size_t at = (size_t)XXH3_64bits(id.p, id.n) & f->mask;

    for (; f->table[at] != 0; at = (at + 1) & f->mask)
        if (span_eq(f->nodes[f->table[at] - 1].id, id))
            return f->table[at] - 1;
    uint32_t node = node_new(f, id);
    f->table[at] = node + 1;
    return node;
}

static bool
is_above(const struct forest *f, uint32_t node, uint32_t below)
{
    for (uint32_t up = below; up != NONE; up = f->nodes[up].parent)
        if (up == node)
            return true;
    return false;
}

static void
unlink_node(struct forest *f, uint32_t node)
{
    uint32_t parent = f->nodes[node].parent;

    if (parent == NONE)
        return;
    uint32_t *link = &f->nodes[parent].child;
    while (*link != node)
        link = &f->nodes[*link].next;
    *link = f->nodes[node].next;
    f->nodes[node].next = NONE;
    f->nodes[node].parent = NONE;
}

static void
link_node(struct forest *f, uint32_t node, uint32_t parent)
{
    unlink_node(f, node);
    f->nodes[node].parent = parent;
    f->nodes[node].next = f->nodes[parent].child;
    f->nodes[parent].child = node;
}

/* RFC 5256, 3, step 1 */
static void
add_message(struct forest *f, const struct thread_message *m, uint32_t order)
{
    uint32_t node = m->id.n == 0 ? NONE : node_of(f, m->id);
    uint32_t up = NONE;

    /* None, or one that another message has: a node of its own. */
    if (node == NONE || f->nodes[node].msg != NULL)
        node = node_new(f, SPAN_EMPTY);
    f->nodes[node].msg = m;
    f->nodes[node].order = order;
    for (size_t i = 0; i < m->nrefs; i++) {
        uint32_t ref = node_of(f, m->refs[i]);
        if (up != NONE && ref != up && f->nodes[ref].parent == NONE &&
            !is_above(f, ref, up))
            link_node(f, ref, up);
        up = ref;
    }
    /* What others said of its parent counts less than what it says itself. */
    if (up == NONE)
        unlink_node(f, node);
    else if (up != node && f->nodes[node].parent != up &&
             !is_above(f, node, up))
        link_node(f, node, up);
}

/* ---- walking ----------------------------------------------------------- */

/* The next node of the tree under TOP, children before siblings; NONE: over. */
static uint32_t
walk_next(const struct forest *f, uint32_t top, uint32_t node)
{
    if (f->nodes[node].child != NONE)
        return f->nodes[node].child;
    while (node != top && f->nodes[node].next == NONE)
        node = f->nodes[node].parent;
    return node == top ? NONE : f->nodes[node].next;
}

/* Children before their parent: start with walk_deepest(). */
static uint32_t
walk_deepest(const struct forest *f, uint32_t node)
{
    while (f->nodes[node].child != NONE)
        node = f->nodes[node].child;
    return node;
}

static uint32_t
walk_up(const struct forest *f, uint32_t top, uint32_t node)
{
    if (node == top)
        return NONE;
    return f->nodes[node].next == NONE ? f->nodes[node].parent
                                       : walk_deepest(f, f->nodes[node].next);
}

/* ---- sorting ----------------------------------------------------------- */

static int
compare_nodes(const void *a, const void *b, void *ctx)
{
    const struct forest *f = ctx;
    const struct node *x = &f->nodes[*(const uint32_t *)a];
    const struct node *y = &f->nodes[*(const uint32_t *)b];

    if (x->sort_s != y->sort_s)
        return x->sort_s < y->sort_s ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order ? 1 : 0;
}

static void
sort_children(struct forest *f, uint32_t parent)
{
    size_t n = 0;

    for (uint32_t c = f->nodes[parent].child; c != NONE; c = f->nodes[c].next) {
        if (n == f->scratch_cap) {
            f->scratch_cap = f->scratch_cap == 0 ? 64 : f->scratch_cap * 2;
            f->scratch =
                xrealloc(f->scratch, f->scratch_cap * sizeof(f->scratch[0]));
        }
        f->scratch[n++] = c;
    }
    if (n < 2)
        return;
    qsort_r(f->scratch, n, sizeof(f->scratch[0]), compare_nodes, f);
    uint32_t *link = &f->nodes[parent].child;
    for (size_t i = 0; i < n; i++) {
        *link = f->scratch[i];
        link = &f->nodes[f->scratch[i]].next;
    }
    *link = NONE;
}

/* Step 6, and 4 on the way: what has no message goes by its first child. */
static void
sort_tree(struct forest *f, uint32_t root)
{
    for (uint32_t i = walk_deepest(f, root); i != NONE;) {
        uint32_t next = walk_up(f, root, i);
        struct node *node = &f->nodes[i];
        sort_children(f, i);
        if (node->msg != NULL) {
            node->sort_s = node->msg->sent_s;
        } else if (node->child != NONE) {
            node->sort_s = f->nodes[node->child].sort_s;
            node->order = f->nodes[node->child].order;
        }
        i = next;
    }
}

/* ---- step 3: nodes without a message ----------------------------------- */

static void
replace_by_children(struct forest *f, uint32_t node)
{
    uint32_t parent = f->nodes[node].parent;
    uint32_t child = f->nodes[node].child;

    f->nodes[node].child = NONE;
    while (child != NONE) {
        uint32_t next = f->nodes[child].next;
        f->nodes[child].parent = parent;
        f->nodes[child].next = f->nodes[parent].child;
        f->nodes[parent].child = child;
        child = next;
    }
    unlink_node(f, node);
}

static void
prune(struct forest *f, uint32_t root)
{
    for (uint32_t i = walk_deepest(f, root); i != NONE;) {
        uint32_t next = walk_up(f, root, i);
        const struct node *node = &f->nodes[i];
        bool empty = i != root && node->msg == NULL;
        bool several =
            node->child != NONE && f->nodes[node->child].next != NONE;
        if (empty && (node->parent != root || !several))
            replace_by_children(f, i);
        i = next;
    }
}

/* ---- step 5: threads of one subject ------------------------------------ */

/* The message whose subject is the thread's. */
static const struct thread_message *
first_message(const struct forest *f, uint32_t node)
{
    return f->nodes[node].msg != NULL ? f->nodes[node].msg
                                      : f->nodes[f->nodes[node].child].msg;
}

struct subjects {
    uint32_t *slots; /* node + 1 */
    size_t mask;
};

static uint32_t *
subject_slot(const struct forest *f, struct subjects *t, struct span subject)
{
    size_t at = (size_t)XXH3_64bits(subject.p, subject.n) & t->mask;

    while (t->slots[at] != 0 &&
           !span_eq(first_message(f, t->slots[at] - 1)->subject, subject))
        at = (at + 1) & t->mask;
    return &t->slots[at];
}

/* 5.B: of threads with one subject the table keeps the best to join others. */
static void
fill_subjects(struct forest *f, uint32_t root, struct subjects *t)
{
    for (uint32_t c = f->nodes[root].child; c != NONE; c = f->nodes[c].next) {
        const struct thread_message *m = first_message(f, c);
        if (m->subject.n == 0)
            continue;
        uint32_t *slot = subject_slot(f, t, m->subject);
        if (*slot == 0) {
            *slot = c + 1;
            continue;
        }
        const struct node *old = &f->nodes[*slot - 1];
        if (f->nodes[c].msg == NULL && old->msg != NULL)
            *slot = c + 1;
        else if (old->msg != NULL && old->msg->is_reply && !m->is_reply)
            *slot = c + 1;
    }
}

/* 5.C: NODE joins INTO, the one that the table has. */
static void
join(struct forest *f, uint32_t node, uint32_t into)
{
    const struct thread_message *m = first_message(f, node);
    const struct thread_message *t = first_message(f, into);
    bool node_empty = f->nodes[node].msg == NULL;
    bool into_empty = f->nodes[into].msg == NULL;

    if (into_empty && node_empty) {
        while (f->nodes[node].child != NONE)
            link_node(f, f->nodes[node].child, into);
        unlink_node(f, node);
        return;
    }
    ENSURE(!node_empty); /* fill_subjects() prefers what has no message */
    if (!into_empty && !(m->is_reply && !t->is_reply)) {
        /* INTO becomes a node without a message over both. */
        uint32_t copy = node_new(f, SPAN_EMPTY);
        while (f->nodes[into].child != NONE)
            link_node(f, f->nodes[into].child, copy);
        f->nodes[copy].msg = f->nodes[into].msg;
        f->nodes[copy].order = f->nodes[into].order;
        f->nodes[into].msg = NULL;
        link_node(f, copy, into);
    }
    link_node(f, node, into);
}

static void
join_subjects(struct forest *f, uint32_t root)
{
    size_t n = 0;
    struct subjects t = {.mask = 15};

    for (uint32_t c = f->nodes[root].child; c != NONE; c = f->nodes[c].next)
        n++;
    while (t.mask < 2 * n)
        t.mask = t.mask * 2 + 1;
    t.slots = xcalloc(t.mask + 1, sizeof(t.slots[0]));
    fill_subjects(f, root, &t);
    for (uint32_t c = f->nodes[root].child; c != NONE;) {
        uint32_t next = f->nodes[c].next;
        struct span subject = first_message(f, c)->subject;
        if (subject.n > 0) {
            uint32_t into = *subject_slot(f, &t, subject) - 1;
            if (into != c)
                join(f, c, into);
        }
        c = next;
    }
    free(t.slots);
}

/* ---- telling ----------------------------------------------------------- */

static void
write_node(struct buf *out, const struct node *node)
{
    if (node->msg == NULL)
        return;
    if (out->n > 0 && out->p[out->n - 1] != '(' && out->p[out->n - 1] != ')')
        buf_add_byte(out, ' ');
    write_number(out, node->msg->number);
}

/* "(" opens what has siblings, and each thread. */
static void
write_thread(const struct forest *f, uint32_t top, struct buf *out)
{
    uint32_t node = top;

    buf_add_byte(out, '(');
    for (;;) {
        write_node(out, &f->nodes[node]);
        uint32_t child = f->nodes[node].child;
        if (child != NONE) {
            if (f->nodes[child].next != NONE)
                buf_add_str(out, f->nodes[node].msg == NULL ? "(" : " (");
            node = child;
            continue;
        }
        /* Close all that ends here. */
        for (;;) {
            if (node == top) {
                buf_add_byte(out, ')');
                return;
            }
            uint32_t parent = f->nodes[node].parent;
            bool several = f->nodes[f->nodes[parent].child].next != NONE;
            if (several)
                buf_add_byte(out, ')');
            if (f->nodes[node].next != NONE) {
                buf_add_byte(out, '(');
                node = f->nodes[node].next;
                break;
            }
            node = parent;
        }
    }
}

/* ---- the three ways ---------------------------------------------------- */

static void
by_references(enum imap_thread how, const struct thread_message *messages,
              size_t n, struct buf *out)
{
    struct forest f = {.mask = 15};
    size_t ids = n;

    for (size_t i = 0; i < n; i++)
        ids += messages[i].nrefs;
    while (f.mask < 2 * ids)
        f.mask = f.mask * 2 + 1;
    f.table = xcalloc(f.mask + 1, sizeof(f.table[0]));
    for (size_t i = 0; i < n; i++)
        add_message(&f, &messages[i], (uint32_t)i);
    const uint32_t tops = f.n; /* step 2 */
    const uint32_t root = node_new(&f, SPAN_EMPTY);
    for (uint32_t i = 0; i < tops; i++)
        if (f.nodes[i].parent == NONE)
            link_node(&f, i, root);
    prune(&f, root);
    sort_tree(&f, root);
    if (how == THREAD_REFERENCES) {
        join_subjects(&f, root);
        sort_tree(&f, root);
    } else {
        for (uint32_t c = f.nodes[root].child; c != NONE; c = f.nodes[c].next) {
            int64_t latest = INT64_MIN;
            for (uint32_t i = c; i != NONE; i = walk_next(&f, c, i))
                if (f.nodes[i].msg != NULL)
                    latest = MAX(latest, f.nodes[i].msg->arrival_s);
            f.nodes[c].sort_s = latest;
        }
        sort_children(&f, root);
    }
    for (uint32_t c = f.nodes[root].child; c != NONE; c = f.nodes[c].next)
        write_thread(&f, c, out);
    free(f.nodes);
    free(f.table);
    free(f.scratch);
}

static int
compare_subjects(const void *a, const void *b)
{
    const struct thread_message *x = *(const struct thread_message *const *)a;
    const struct thread_message *y = *(const struct thread_message *const *)b;
    size_t n = MIN(x->subject.n, y->subject.n);
    int c = n == 0 ? 0 : memcmp(x->subject.p, y->subject.p, n);

    if (c == 0)
        c = x->subject.n < y->subject.n ? -1 : x->subject.n > y->subject.n;
    if (c == 0)
        c = x->sent_s < y->sent_s ? -1 : x->sent_s > y->sent_s;
    return c != 0 ? c : x < y ? -1 : x > y;
}

struct run_of {
    const struct thread_message **first;
    size_t n;
};

static int
compare_runs(const void *a, const void *b)
{
    const struct thread_message *x = *((const struct run_of *)a)->first;
    const struct thread_message *y = *((const struct run_of *)b)->first;

    if (x->sent_s != y->sent_s)
        return x->sent_s < y->sent_s ? -1 : 1;
    return x < y ? -1 : x > y;
}

static void
by_subject(const struct thread_message *messages, size_t n, struct buf *out)
{
    const struct thread_message **sorted = xcalloc(n, sizeof(sorted[0]));
    struct run_of *runs = xcalloc(n, sizeof(runs[0]));
    size_t nruns = 0;

    for (size_t i = 0; i < n; i++)
        sorted[i] = &messages[i];
    qsort(sorted, n, sizeof(sorted[0]), compare_subjects);
    for (size_t i = 0; i < n; i++)
        if (nruns > 0 &&
            span_eq(sorted[i]->subject, (*runs[nruns - 1].first)->subject))
            runs[nruns - 1].n++;
        else
            runs[nruns++] = (struct run_of){&sorted[i], 1};
    qsort(runs, nruns, sizeof(runs[0]), compare_runs);
    for (size_t i = 0; i < nruns; i++) {
        const struct run_of *r = &runs[i];
        buf_addf(out, "(%" PRIu32, r->first[0]->number);
        if (r->n > 1)
            buf_add_byte(out, ' ');
        for (size_t k = 1; k < r->n; k++)
            buf_addf(out, r->n > 2 ? "(%" PRIu32 ")" : "%" PRIu32,
                     r->first[k]->number);
        buf_add_byte(out, ')');
    }
    free(sorted);
    free(runs);
}

void
thread_messages(enum imap_thread how, const struct thread_message *messages,
                size_t n, struct buf *out)
{
    if (n == 0)
        return;
    if (how == THREAD_ORDEREDSUBJECT)
        by_subject(messages, n, out);
    else
        by_references(how, messages, n, out);
}
