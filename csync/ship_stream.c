/*
 * csync/ship_stream.c - following the log, one stream to one replica.
 *
 * Two things can happen: there is more in the log, which a futex tells, and the
 * replica answers, which poll() tells.  So two threads wait, and whichever is
 * woken takes a turn of the stream, under its lock: nobody wakes the other for
 * a new record, and it is on the wire some tens of microseconds after its sync.
 * What is left to the thread of poll(), through an eventfd, is to wait until a
 * full connection takes more, and to end.
 *
 * Frames go out as they lie in the log, as many as the window allows, and
 * acknowledgements come back whenever they come.
 */
#include "csync/ship_private.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "csync/squeeze.h"
#include "store/store.h"

#define SEND_BYTES ((size_t)1 << 20)
/* Sent before the replica is listened to: less than it reads after its last
 * words (LINGER_BYTES). */
#define TURN_BYTES ((size_t)1 << 20)
/* Shipped and not yet durable over there; bounds what a slow replica queues. */
#define WINDOW_BYTES ((uint64_t)64 << 20)
#define PING_MS 1000U
#define SILENCE_MS 10000U
/* The watcher looks so often whether it is over: where the stream has an end,
 * somebody waits for it. */
#define WATCH_MS 200
#define WATCH_ENDING_MS 5

/* A batch on its way, to know its lag when it is acknowledged. */
struct batch {
    lsn_t last;
    uint64_t time_us;
    uint64_t bytes;
};

#define BATCHES_MAX 4096U

struct stream {
    pthread_mutex_t lock; /* over all that changes here */
    struct ship *s;
    struct bclient *conn;
    struct synclog_reader *reader;
    struct squeezer *squeezer; /* NULL: frames go as they lie in the log */
    int wake_fd;
    struct buf out; /* a message under way */
    size_t out_at;
    struct batch batches[BATCHES_MAX]; /* a ring */
    size_t first, count;
    uint64_t window; /* bytes in the ring */
    lsn_t sent;
    struct logack ack;
    bool acked; /* at least once */
    uint64_t heard_ms, pinged_ms;
    bool fence_at_start;
    epoch_t epoch; /* that it was opened in */
    lsn_t goal;    /* once or -A: end when this is applied; 0: never */
    bool drained;
    bool more; /* the last turn has not sent all that it could */
    bool over; /* by RC and ERR */
    enum errcode rc;
    struct error err;
};

struct watcher {
    struct stream *st;
    int look_ms;
    _Atomic bool stop;
    pthread_t thread;
};

/* What the stream looks at.  That a group has become visible is none of it, and
 * wakes the mark as often as that it has become durable. */
struct sight {
    uint64_t durable_lsn, epoch;
    uint32_t role, fence, seeding, writer_pid;
};

static struct sight
look_at(const struct synclog_mark *mark)
{
    return (struct sight){
        .durable_lsn = atomic_load(&mark->durable_lsn),
        .epoch = atomic_load(&mark->epoch),
        .role = atomic_load(&mark->role),
        .fence = atomic_load(&mark->fence),
        .seeding = atomic_load(&mark->seeding),
        .writer_pid = atomic_load(&mark->writer_pid),
    };
}

static bool
is_same(const struct sight *a, const struct sight *b)
{
    return a->durable_lsn == b->durable_lsn && a->epoch == b->epoch &&
           a->role == b->role && a->fence == b->fence &&
           a->seeding == b->seeding && a->writer_pid == b->writer_pid;
}

static void
message(struct stream *st, uint8_t type, struct span payload)
{
    uint8_t header[LOGMSG_HEADER_BYTES];

    logmsg_header(type, (uint32_t)payload.n, header);
    buf_add(&st->out, span_of(header, sizeof(header)));
    buf_add(&st->out, payload);
}

static enum errcode
next_frames(struct stream *st, bool *ret_some, struct error *err)
{
    struct span frames = SPAN_EMPTY;
    struct batch b = {0};

    *ret_some = false;
    if (st->count == BATCHES_MAX || st->window > WINDOW_BYTES)
        return ERR_OK;
    enum errcode rc =
        reader_next(st->reader, SEND_BYTES, &frames, &b.last, &b.time_us, err);
    if (rc != ERR_OK || frames.n == 0)
        return rc;
    /* A replica has to hear of an epoch before its first record; it does when
     * the stream is opened. */
    if (atomic_load(&st->s->mark->epoch) != st->epoch)
        return error_set(err, ERR_AGAIN, "a new epoch has begun here");
    b.bytes = frames.n;
    st->batches[(st->first + st->count) % BATCHES_MAX] = b;
    st->count++;
    st->window += b.bytes;
    st->sent = b.last;
    atomic_store(&st->s->slot->sent_lsn, b.last);
    if (st->squeezer != NULL)
        squeezer_add(st->squeezer, LOGMSG_FRAMES, frames, &st->out);
    else
        message(st, LOGMSG_FRAMES, frames);
    *ret_some = true;
    return ERR_OK;
}

static enum errcode
on_ack(struct stream *st, const struct logack *ack, struct error *err)
{
    struct synclog_slot *slot = st->s->slot;
    uint64_t wall = env_wall_us(st->s->o->env);

    /* Commits may wait for this (sync_ack), and the log goes by it. */
    if (MAX(ack->received, ack->applied.applied.lsn) > st->sent)
        return error_set(err, ERR_PROTO,
                         "the replica acknowledges %" PRI_LSN ", and %" PRI_LSN
                         " is the last that it was sent",
                         MAX(ack->received, ack->applied.applied.lsn),
                         st->sent);
    st->ack = *ack;
    st->acked = true;
    while (st->count > 0 && st->batches[st->first].last <= ack->durable) {
        const struct batch *b = &st->batches[st->first];
        atomic_store(&slot->lag_us, wall > b->time_us ? wall - b->time_us : 0);
        st->window -= b->bytes;
        st->first = (st->first + 1) % BATCHES_MAX;
        st->count--;
    }
    atomic_store(&slot->received_lsn, ack->received);
    atomic_store(&slot->durable_lsn, ack->durable);
    atomic_store(&slot->applied_lsn, ack->applied.applied.lsn);
    atomic_store(&slot->ack_wall_us, wall);
    if (st->s->bell != NULL)
        bell_ring(st->s->bell);
    return ERR_OK;
}

static enum errcode
take_answers(struct stream *st, struct error *err)
{
    for (;;) {
        struct logack ack;
        enum errcode rc = ship_hear(st->conn, &ack, err);
        if (rc == ERR_OK)
            rc = on_ack(st, &ack, err);
        if (rc != ERR_OK)
            return rc == ERR_AGAIN ? ERR_OK : rc;
        st->heard_ms = ship_now_ms(st->s);
    }
}

/* Sending has failed, as ERR says; why the replica hung up, it may have said
 * before. */
static enum errcode
last_words(struct stream *st, struct error *err)
{
    struct error why = {0};

    enum errcode rc = take_answers(st, &why);
    if (rc != ERR_OK && rc != ERR_CLOSED)
        *err = why;
    return err->code;
}

/* Not more than TURN_BYTES, so that a replica that takes and takes is heard
 * too: *RET_MORE, and it goes on after that. */
static enum errcode
send_some(struct stream *st, bool *ret_more, struct error *err)
{
    size_t sent = 0;

    for (*ret_more = false; sent < TURN_BYTES;) {
        if (st->out_at == st->out.n) {
            bool some = false;
            buf_clear(&st->out);
            st->out_at = 0;
            enum errcode rc = next_frames(st, &some, err);
            if (rc != ERR_OK)
                return rc;
            if (!some) {
                rc = bclient_flush_some(st->conn, err);
                return rc == ERR_AGAIN ? ERR_OK : rc;
            }
        }
        size_t n = 0;
        enum errcode rc = bclient_write_some(
            st->conn, span_skip(buf_span(&st->out), st->out_at), &n, err);
        if (rc != ERR_OK && rc != ERR_AGAIN)
            return rc;
        st->out_at += n;
        sent += n;
        if (n == 0)
            return ERR_OK;
    }
    *ret_more = true;
    return ERR_OK;
}

static void
ping_if_due(struct stream *st)
{
    uint64_t now = ship_now_ms(st->s);

    if (st->out_at != st->out.n || now - st->pinged_ms < PING_MS)
        return;
    AUTO(buf_free) struct buf payload = BUF_INIT;
    buf_add_u64le(&payload, now);
    message(st, LOGMSG_PING, buf_span(&payload));
    st->pinged_ms = now;
}

/* Everything durable here is applied over there, and the fence keeps it so? */
static bool
is_drained(const struct stream *st)
{
    const struct synclog_mark *mark = st->s->mark;

    return atomic_load(&mark->fence) != 0 && st->acked &&
           st->ack.applied.applied.lsn == atomic_load(&mark->durable_lsn);
}

static void
say_drained(struct stream *st)
{
    const struct store_pos *at = &st->ack.applied;

    log_notice(&st->s->log, "sync.drained",
               "applied=%" PRI_EPOCH ":%" PRI_LSN " chain=%016" PRIx64
               " digest=%016" PRIx64,
               at->applied.epoch, at->applied.lsn, at->chain, at->digest);
    printf("drained: the replica holds %" PRI_EPOCH ":%" PRI_LSN
           " chain %016" PRIx64 " digest %016" PRIx64 "\n",
           at->applied.epoch, at->applied.lsn, at->chain, at->digest);
    fflush(stdout);
    atomic_store(&st->s->slot->drained_lsn, at->applied.lsn);
}

/* Has the stream done what it was started for? */
static bool
is_finished(struct stream *st)
{
    if (st->goal != 0 && st->acked && st->ack.applied.applied.lsn >= st->goal)
        return true;
    if (!is_drained(st)) {
        st->drained = false;
        return false;
    }
    if (!st->drained) {
        st->drained = true;
        say_drained(st);
    }
    return !st->fence_at_start;
}

/* All that can be done now; *RET_END: all that it was started for. */
static enum errcode
do_turn(struct stream *st, bool *ret_end, struct error *err)
{
    if (!ship_may(st->s))
        return error_set(err, ERR_READONLY,
                         "this instance is not the master any more");
    ping_if_due(st);
    enum errcode rc = send_some(st, &st->more, err);
    if (rc == ERR_OK)
        rc = take_answers(st, err);
    else if (rc == ERR_CLOSED)
        rc = last_words(st, err);
    if (rc != ERR_OK)
        return rc;
    *ret_end = is_finished(st);
    if (!*ret_end && ship_now_ms(st->s) - st->heard_ms > SILENCE_MS)
        return error_set(err, ERR_TIMEOUT, "silent for %u ms", SILENCE_MS);
    return ERR_OK;
}

/* With the lock, by either thread. */
static void
take_turn(struct stream *st)
{
    if (st->over)
        return;
    st->rc = do_turn(st, &st->over, &st->err);
    st->over = st->over || st->rc != ERR_OK;
}

static bool
wants_output(struct stream *st)
{
    return st->out_at < st->out.n ||
           (bclient_poll_events(st->conn) & POLLOUT) != 0;
}

static void *
watch_mark(void *ctx)
{
    struct watcher *w = ctx;
    struct stream *st = w->st;
    const struct synclog_mark *mark = st->s->mark;
    struct sight told = {0};
    const uint64_t one = 1;

    while (!atomic_load(&w->stop)) {
        const uint32_t seq = atomic_load(&mark->seq);
        const struct sight now = look_at(mark);
        if (!is_same(&now, &told)) {
            told = now;
            pthread_mutex_lock(&st->lock);
            take_turn(st);
            const bool wakes = st->over || st->more || wants_output(st);
            pthread_mutex_unlock(&st->lock);
            /* Full: it is awake already. */
            if (wakes)
                (void)!write(st->wake_fd, &one, sizeof(one));
        }
        (void)mark_wait(mark, seq, w->look_ms);
    }
    return NULL;
}

static enum errcode
stream_loop(struct stream *st, struct error *err)
{
    struct pollfd fds[2] = {{.fd = st->wake_fd, .events = POLLIN},
                            {.fd = bclient_fd(st->conn)}};
    bool over = false;
    uint64_t count;

    for (;;) {
        const bool stopped = ship_stopped(st->s); /* asked by one thread only */
        pthread_mutex_lock(&st->lock);
        if (stopped && !st->over) {
            st->over = true;
            st->rc = error_set(&st->err, ERR_CLOSED, "stopped");
        }
        take_turn(st);
        over = st->over;
        const bool rests = !st->more && bclient_buffered(st->conn) == 0;
        fds[1].events = POLLIN;
        if (wants_output(st))
            fds[1].events |= POLLOUT;
        pthread_mutex_unlock(&st->lock);
        if (over)
            break;
        if (rests)
            poll(fds, 2, 200);
        if (rests && (fds[0].revents & POLLIN) != 0)
            (void)!read(st->wake_fd, &count, sizeof(count));
    }
    if (st->rc != ERR_OK)
        *err = st->err;
    return st->rc;
}

struct stream_start {
    lsn_t lsn;
    uint64_t chain;
    bool on_receipt;
};

static void
stream_keys(void *ctx, struct dlist_printer *p)
{
    const struct stream_start *start = ctx;

    dlist_u64(p, "LSN", start->lsn);
    dlist_hex64(p, "CHAIN", start->chain);
    if (start->on_receipt)
        dlist_u64(p, "RECEIPTS", 1);
}

static enum errcode
stream_open(struct stream *st, struct csync_client *peer,
            const struct logstatus *status, struct error *err)
{
    struct ship *s = st->s;
    struct stream_start start = {
        .lsn = status->durable.lsn,
        .on_receipt = config_enum(s->o->cfg, "sync_ack") == ACK_RECEIVED,
    };
    AUTO(buf_free) struct buf line = BUF_INIT;

    enum errcode rc = reader_open(s->o->env, s->o->log_dir, s->mark, start.lsn,
                                  &st->reader, err);
    if (rc != ERR_OK)
        return rc;
    start.chain = reader_chain(st->reader);
    ship_command(s, "STREAM", stream_keys, &start, &line);
    rc = csync_command(peer, buf_span(&line), NULL, NULL, err);
    if (rc != ERR_OK)
        return rc;
    st->sent = start.lsn;
    /* While it says "streaming" the page is believed. */
    atomic_store(&s->slot->received_lsn, start.lsn);
    atomic_store(&s->slot->durable_lsn, start.lsn);
    atomic_store(&s->slot->expelled, SLOT_KEPT);
    ship_set_state(s, SLOT_STREAMING, "");
    if (s->bell != NULL)
        bell_ring(s->bell);
    atomic_store(&s->slot->peer_role, (uint32_t)status->role);
    atomic_store(&s->slot->peer_epoch, status->epoch);
    log_notice(&s->log, "sync.streaming",
               "peer=%s behind=%" PRI_LSN " durable=%" PRI_LSN,
               bclient_name(st->conn), start.lsn,
               atomic_load(&s->mark->durable_lsn));
    return ERR_OK;
}

static void
say_squeezed(const struct stream *st)
{
    uint64_t plain = 0, wire = 0;

    if (st->squeezer == NULL)
        return;
    squeezer_counts(st->squeezer, &plain, &wire);
    log_info(&st->s->log, "sync.squeezed",
             "bytes=%" PRIu64 " on_the_wire=%" PRIu64, plain, wire);
}

enum errcode
ship_stream(struct ship *s, struct csync_client *peer,
            const struct logstatus *status, lsn_t goal, bool fence_at_start,
            struct error *err)
{
    struct stream *st = xcalloc(1, sizeof(*st));
    struct watcher w = {
        .st = st,
        .look_ms = goal != 0 ? WATCH_ENDING_MS : WATCH_MS,
    };

    ENSURE(pthread_mutex_init(&st->lock, NULL) == 0);
    st->s = s;
    st->conn = csync_client_conn(peer);
    st->goal = goal;
    st->epoch = (epoch_t)atomic_load(&s->mark->epoch);
    st->fence_at_start = fence_at_start;
    if (csync_client_takes_zstd(peer))
        st->squeezer = squeezer_new();
    st->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum errcode rc =
        st->wake_fd < 0 ? error_set(err, ERR_IO, "no descriptor for waking up")
                        : stream_open(st, peer, status, err);
    if (rc == ERR_OK) {
        st->heard_ms = ship_now_ms(s);
        if (pthread_create(&w.thread, NULL, watch_mark, &w) != 0) {
            rc = error_set(err, ERR_IO, "no thread for waking up");
        } else {
            rc = stream_loop(st, err);
            atomic_store(&w.stop, true);
            pthread_join(w.thread, NULL);
        }
    }
    ship_remember_slot(s);
    say_squeezed(st);
    squeezer_free(&st->squeezer);
    reader_close(&st->reader);
    if (st->wake_fd >= 0)
        close(st->wake_fd);
    buf_free(&st->out);
    pthread_mutex_destroy(&st->lock);
    free(st);
    return rc;
}
