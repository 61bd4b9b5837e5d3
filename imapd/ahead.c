/*
 * imapd/ahead.c - reading ahead for a FETCH of many messages.
 *
 * Taking a small message out of the store is mostly decompression, and a FETCH
 * of thousands would do that and the writing of its answer by turns on one
 * processor.  So batches of messages are read on workers while those before are
 * told:
 *
 *               claimed by a worker, or by
 *   QUEUED ----- the session that needs it ----> RUNNING ---> DONE, or nothing
 *      |
 *      +--- the command is over: DROPPED         of what it is about is here
 *
 * The session never waits while there is something that it can read itself: it
 * takes what is queued, first what it needs, then what comes next.  So workers
 * that are busy with other things cost nothing, and the order of all is that of
 * the command.
 *
 * What is read is used for a message that has the same GUID.  What could not be
 * read, and what is large, is left to the session, which knows how to tell it.
 * Batches live until both the command and their worker are done with them.
 */
#include "imapd/ahead.h"

#include <stdatomic.h>
#include <stdlib.h>

#define BATCHES 3U
#define BATCH_MESSAGES 64U
#define BATCH_BYTES ((size_t)192 << 10)
#define MESSAGE_BYTES_MAX ((uint64_t)64 << 10)
/* Commands that read ahead at a time, for what they may keep in memory. */
#define COMMANDS_MAX 64U

enum batch_state { QUEUED, RUNNING, DONE, DROPPED };

struct entry {
    uint32_t uid;
    struct guid guid;
    size_t at;
    size_t n;
};

struct batch {
    struct ahead *of;
    struct store *store;
    mbid_t id;
    _Atomic int state;
    struct uidset uids;
    unsigned nentries;
    struct entry entries[BATCH_MESSAGES];
    struct buf bytes;
};

struct ahead {
    struct imap_session *s;
    struct batch *batches[BATCHES]; /* in order */
    unsigned n;
    unsigned next;     /* entry of the first one to look at */
    uint32_t asked;    /* up to this UID */
    unsigned on_works; /* that will come back */
    bool is_over;
    bool is_awaited;
};

static _Atomic unsigned commands;

/* ---- a batch ------------------------------------------------------------- */

static void
batch_free(struct batch *b)
{
    uidset_free(&b->uids);
    buf_free(&b->bytes);
    free(b);
}

static bool
claim(struct batch *b, int to)
{
    int was = QUEUED;
    return atomic_compare_exchange_strong(&b->state, &was, to);
}

/* False: enough. */
static bool
read_one(struct batch *b, const struct message *msg)
{
    struct error ignored = {0};
    const size_t at = b->bytes.n;

    if (b->nentries == BATCH_MESSAGES || at + msg->size > BATCH_BYTES)
        return false;
    if (store_body_read(b->store, &msg->guid, 0, msg->size, &b->bytes,
                        &ignored) == ERR_OK &&
        b->bytes.n - at == msg->size)
        b->entries[b->nentries++] =
            (struct entry){msg->uid, msg->guid, at, (size_t)msg->size};
    else
        b->bytes.n = at;
    return true;
}

static bool
is_wanted(const struct message *msg)
{
    return msg->size > 0 && msg->size <= MESSAGE_BYTES_MAX;
}

/* Rows side by side. */
static void
read_walking(struct batch *b, struct store_snap *snap, uint32_t first,
             uint32_t last)
{
    struct error ignored = {0};
    struct message msg;
    bool more = true;
    struct msg_iter *it = snap_messages(snap, b->id, first, true);

    while (more && msg_iter_next(it, &msg) && msg.uid <= last)
        if (is_wanted(&msg) && uidset_has(&b->uids, msg.uid))
            more = read_one(b, &msg);
    (void)!msg_iter_close(&it, &ignored);
}

/* Rows far apart. */
static void
read_looking(struct batch *b, struct store_snap *snap, uint32_t first,
             uint32_t last)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct error ignored = {0};
    struct message msg;
    bool more = true;

    for (uint32_t uid = first; more && uid != 0;) {
        if (snap_message(snap, b->id, uid, &a, &msg, &ignored) == ERR_OK &&
            is_wanted(&msg))
            more = read_one(b, &msg);
        arena_reset(&a);
        uid = uid < last ? uidset_next(&b->uids, uid + 1) : 0;
    }
}

/* What was claimed. */
static void
run_batch(struct batch *b)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(b->store);
    const uint32_t first = b->uids.r[0].first;
    const uint32_t last = b->uids.r[b->uids.n - 1].last;

    if (last - first < 4 * uidset_count(&b->uids))
        read_walking(b, snap, first, last);
    else
        read_looking(b, snap, first, last);
    atomic_store(&b->state, DONE);
}

/* On a worker. */
static void
batch_work(void *arg)
{
    struct batch *b = arg;

    if (claim(b, RUNNING))
        run_batch(b);
}

/* ---- all of them --------------------------------------------------------- */

static void
free_if_over(struct ahead *a)
{
    if (!a->is_over || a->on_works > 0)
        return;
    free(a);
    atomic_fetch_sub(&commands, 1);
}

static bool
is_listed(const struct ahead *a, const struct batch *b)
{
    for (unsigned i = 0; i < a->n; i++)
        if (a->batches[i] == b)
            return true;
    return false;
}

/* The worker is done with it. */
static void
batch_posted(void *arg)
{
    struct batch *b = arg;
    struct ahead *a = b->of;
    struct imap_session *s = a->s;
    const bool is_awaited = a->is_awaited;

    a->on_works--;
    b->of = NULL;
    if (!is_listed(a, b))
        batch_free(b);
    a->is_awaited = false;
    free_if_over(a);
    if (is_awaited)
        s->waiting = false;
    if (async_end(s) && is_awaited)
        session_run(s);
}

/* The command is done with it. */
static void
leave_first(struct ahead *a)
{
    struct batch *b = a->batches[0];

    (void)claim(b, DROPPED);
    a->n--;
    memmove(a->batches, a->batches + 1, a->n * sizeof(a->batches[0]));
    a->next = 0;
    if (b->of == NULL) /* its worker is, too */
        batch_free(b);
}

struct ahead *
ahead_begin(struct imap_session *s)
{
    if (atomic_fetch_add(&commands, 1) >= COMMANDS_MAX) {
        atomic_fetch_sub(&commands, 1);
        return NULL;
    }
    struct ahead *a = xcalloc(1, sizeof(*a));
    a->s = s;
    return a;
}

void
ahead_fill(struct ahead *a, const struct uidset *uids, uint32_t from_uid)
{
    while (a->n > 0 &&
           a->batches[0]->uids.r[a->batches[0]->uids.n - 1].last < from_uid)
        leave_first(a);
    a->asked = MAX(a->asked, from_uid - 1);
    while (a->n < BATCHES) {
        struct batch *b = xcalloc(1, sizeof(*b));
        if (!take_chunk(uids, &a->asked, BATCH_MESSAGES, &b->uids)) {
            batch_free(b);
            return;
        }
        b->of = a;
        b->store = a->s->store;
        b->id = a->s->sel->id;
        a->batches[a->n++] = b;
        a->on_works++;
        async_begin(a->s);
        a->s->io->work(a->s->io_ctx, batch_work, batch_posted, b);
    }
}

bool
ahead_must_wait(struct ahead *a, uint32_t uid)
{
    if (a->n == 0 || !uidset_has(&a->batches[0]->uids, uid))
        return false;
    for (unsigned i = 0; i < a->n; i++) {
        if (claim(a->batches[i], RUNNING))
            run_batch(a->batches[i]);
        if (atomic_load(&a->batches[0]->state) == DONE)
            return false;
    }
    a->is_awaited = true;
    a->s->waiting = true;
    return true;
}

bool
ahead_get(struct ahead *a, const struct message *msg, struct span *ret)
{
    struct batch *b = a->n == 0 ? NULL : a->batches[0];

    if (b == NULL || atomic_load(&b->state) != DONE)
        return false;
    while (a->next < b->nentries && b->entries[a->next].uid < msg->uid)
        a->next++;
    if (a->next == b->nentries)
        return false;
    const struct entry *e = &b->entries[a->next];
    if (e->uid != msg->uid || !guid_eq(&e->guid, &msg->guid) ||
        e->n != msg->size)
        return false;
    *ret = span_sub(buf_span(&b->bytes), e->at, e->n);
    return true;
}

void
ahead_end(struct ahead **pa)
{
    struct ahead *a = *pa;

    *pa = NULL;
    if (a == NULL)
        return;
    a->is_over = true;
    while (a->n > 0)
        leave_first(a);
    free_if_over(a);
}
