/*
 * csync/ship.c - following the log and shipping it.
 *
 * One thread runs poll() over the connection and an eventfd; a second one does
 * nothing but wait on the mark's futex and write to the eventfd, so that a new
 * durable record is on the wire some tens of microseconds after its sync.
 * Frames go out as they lie in the log, as many as the window allows, and
 * acknowledgements come back whenever they come.
 *
 * Why something cannot go on is decided in csync/ship_peer.c: wait,
 * connect again, or park.
 */
#include "csync/ship.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "csync/ship_private.h"
#include "csync/squeeze.h"
#include "store/record.h"
#include "store/store.h"

#define SEND_BYTES ((size_t)1 << 20)
/* Sent before the replica is listened to: less than it reads after its last
 * words (LINGER_BYTES). */
#define TURN_BYTES ((size_t)1 << 20)
/* Shipped and not yet durable over there; bounds what a slow replica queues. */
#define WINDOW_BYTES ((uint64_t)64 << 20)
#define PING_MS 1000U
#define SILENCE_MS 10000U
#define BACKOFF_FIRST_MS 50U
/* Asking a host that is down costs next to nothing, so the backoff stays short
 * whatever sync_reconnect_maxwait allows. */
#define BACKOFF_MAX_MS 2000U
/* A twin that stays away is worth a line so often. */
#define SAY_AGAIN_MS 60000U
/* A change of role is noticed so soon. */
#define LOOK_MS 20U
/* How often an instance that is not the master is looked at. */
#define WAITING_MS 200U
/* The watcher looks so often whether it is over: where the stream has an end,
 * somebody waits for it. */
#define WATCH_MS 200
#define WATCH_ENDING_MS 5
/* What somebody is likely to mend soon, and the rest. */
#define PARKED_SHORT_MS 10000U
#define PARKED_MS 60000U

/* ---- small things ------------------------------------------------------ */

uint64_t
ship_now_ms(const struct ship *s)
{
    return env_mono_ns(s->o->env) / 1000000;
}

bool
ship_stopped(const struct ship *s)
{
    return s->o->stop != NULL && s->o->stop(s->o->stop_ctx);
}

void
ship_set_state(struct ship *s, enum slot_state state, const char *text)
{
    /* The log is not kept for it: that is what an admin has to see. */
    if (state == SLOT_CONNECTING && atomic_load(&s->slot->expelled) != 0)
        state = SLOT_RESEED;
    slot_set_state(s->slot, state, text, env_wall_us(s->o->env));
}

/* Wait up to MS, or until something changes in the instance. */
void
ship_rest(struct ship *s, uint64_t ms)
{
    uint64_t until = ship_now_ms(s) + ms;
    uint32_t role = s->mark == NULL ? 0 : atomic_load(&s->mark->role);

    /* Not on the mark's futex, which every commit wakes: what cannot be shipped
     * now is no reason to run thousands of times a second. */
    for (uint64_t now; !ship_stopped(s) && (now = ship_now_ms(s)) < until;) {
        poll(NULL, 0, (int)MIN(until - now, (uint64_t)LOOK_MS));
        if (s->mark != NULL && atomic_load(&s->mark->role) != role)
            return;
    }
}

/* May what is durable here be shipped: by the master, and, if it feeds others
 * (sync_log_chain), by a replica that is whole. */
bool
ship_may(const struct ship *s)
{
    if (s->mark == NULL || atomic_load(&s->mark->writer_pid) == 0)
        return false;
    if (atomic_load(&s->mark->role) == ROLE_MASTER)
        return true;
    return atomic_load(&s->mark->role) == ROLE_REPLICA &&
           atomic_load(&s->mark->seeding) == 0 &&
           config_switch(s->o->cfg, "sync_log_chain");
}

static bool
is_fenced(const struct ship *s)
{
    return s->mark != NULL && atomic_load(&s->mark->writer_pid) != 0 &&
           atomic_load(&s->mark->role) == ROLE_FENCED;
}

void
ship_command(const struct ship *s, const char *verb,
             void (*keys)(void *ctx, struct dlist_printer *p), void *ctx,
             struct buf *out)
{
    struct dlist_printer p;
    struct instid cluster;
    struct instid instance;

    memcpy(cluster.b, s->mark->cluster, INSTANCE_ID_BYTES);
    memcpy(instance.b, s->mark->instance, INSTANCE_ID_BYTES);
    buf_add_str(out, "LOG ");
    dlist_print_begin(&p, out, DLIST_CLIENT);
    dlist_open_kv(&p, verb);
    dlist_str(&p, "CHANNEL", s->o->channel);
    dlist_instid(&p, "CLUSTER", &cluster);
    dlist_instid(&p, "INSTANCE", &instance);
    dlist_u64(&p, "EPOCH", atomic_load(&s->mark->epoch));
    dlist_u64(&p, "FORMAT", RECORD_FORMAT);
    if (keys != NULL)
        keys(ctx, &p);
    dlist_close(&p);
}

/* ---- one stream -------------------------------------------------------- */

/* A batch on its way, to know its lag when it is acknowledged. */
struct batch {
    lsn_t last;
    uint64_t time_us;
    uint64_t bytes;
};

#define BATCHES_MAX 4096U

struct stream {
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
};

struct watcher {
    const struct synclog_mark *mark;
    int fd;
    int look_ms;
    _Atomic bool stop;
    pthread_t thread;
};

static void *
watch_mark(void *ctx)
{
    struct watcher *w = ctx;
    uint32_t seq = atomic_load(&w->mark->seq);

    while (!atomic_load(&w->stop)) {
        uint32_t next = mark_wait(w->mark, seq, w->look_ms);
        uint64_t one = 1;
        if (next != seq && write(w->fd, &one, sizeof(one)) < 0)
            continue; /* full: it is awake already */
        seq = next;
    }
    return NULL;
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

static void
on_ack(struct stream *st, const struct logack *ack)
{
    struct synclog_slot *slot = st->s->slot;
    uint64_t wall = env_wall_us(st->s->o->env);

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
}

static enum errcode
take_answers(struct stream *st, struct error *err)
{
    for (;;) {
        struct logack ack;
        enum errcode rc = ship_hear(st->conn, &ack, err);
        if (rc != ERR_OK)
            return rc == ERR_AGAIN ? ERR_OK : rc;
        st->heard_ms = ship_now_ms(st->s);
        on_ack(st, &ack);
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

/* Until there is something to do, or not at all: MORE is to be sent. */
static enum errcode
stream_wait(struct stream *st, bool more, struct error *err)
{
    struct pollfd fds[2] = {
        {.fd = st->wake_fd, .events = POLLIN},
        {.fd = bclient_fd(st->conn), .events = bclient_poll_events(st->conn)},
    };
    uint64_t count;

    if (st->out_at < st->out.n)
        fds[1].events = (short)(fds[1].events | POLLOUT);
    if (!more && bclient_buffered(st->conn) == 0)
        poll(fds, 2, 200);
    if ((fds[0].revents & POLLIN) != 0 &&
        read(st->wake_fd, &count, sizeof(count)) < 0)
        return ERR_OK; /* somebody else's wake-up: look again */
    if (ship_now_ms(st->s) - st->heard_ms > SILENCE_MS)
        return error_set(err, ERR_TIMEOUT, "silent for %u ms", SILENCE_MS);
    return ERR_OK;
}

static enum errcode
stream_loop(struct stream *st, struct error *err)
{
    st->heard_ms = ship_now_ms(st->s);
    st->pinged_ms = 0; /* at once: who has all already acknowledges nothing */
    for (;;) {
        if (ship_stopped(st->s))
            return error_set(err, ERR_CLOSED, "stopped");
        if (!ship_may(st->s))
            return error_set(err, ERR_READONLY,
                             "this instance is not the master any more");
        ping_if_due(st);
        bool more = false;
        enum errcode rc = send_some(st, &more, err);
        if (rc == ERR_OK)
            rc = take_answers(st, err);
        else if (rc == ERR_CLOSED)
            rc = last_words(st, err);
        if (rc != ERR_OK)
            return rc;
        if (is_finished(st))
            return ERR_OK;
        rc = stream_wait(st, more, err);
        if (rc != ERR_OK)
            return rc;
    }
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
    atomic_store(&s->slot->expelled, 0);
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

/* A failure costs retention only. */
static void
remember_slot(struct ship *s)
{
    struct error why = {0};

    if (slot_sync(s->slot, &why) != ERR_OK)
        log_warn(&s->log, "sync.slot", "why=\"%s\"", why.text);
}

/* Stream from where the replica is, until GOAL (0: for ever). */
static enum errcode
stream_run(struct ship *s, struct csync_client *peer,
           const struct logstatus *status, lsn_t goal, bool fence_at_start,
           struct error *err)
{
    struct stream *st = xcalloc(1, sizeof(*st));
    struct watcher w = {
        .mark = s->mark,
        .look_ms = goal != 0 ? WATCH_ENDING_MS : WATCH_MS,
    };

    st->s = s;
    st->conn = csync_client_conn(peer);
    st->goal = goal;
    st->epoch = (epoch_t)atomic_load(&s->mark->epoch);
    st->fence_at_start = fence_at_start;
    if (csync_client_takes_zstd(peer))
        st->squeezer = squeezer_new();
    st->wake_fd = w.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum errcode rc =
        w.fd < 0 ? error_set(err, ERR_IO, "no descriptor for waking up")
                 : stream_open(st, peer, status, err);
    if (rc == ERR_OK) {
        if (pthread_create(&w.thread, NULL, watch_mark, &w) != 0) {
            rc = error_set(err, ERR_IO, "no thread for waking up");
        } else {
            rc = stream_loop(st, err);
            atomic_store(&w.stop, true);
            pthread_join(w.thread, NULL);
        }
    }
    remember_slot(s);
    say_squeezed(st);
    squeezer_free(&st->squeezer);
    reader_close(&st->reader);
    if (w.fd >= 0)
        close(w.fd);
    buf_free(&st->out);
    free(st);
    return rc;
}

/* ---- conversations ----------------------------------------------------- */

enum errcode
ship_connect(struct ship *s, struct csync_client **ret, struct error *err)
{
    if (s->spare == NULL)
        return csync_connect(&s->target, s->o->cfg, ret, err);
    *ret = s->spare;
    s->spare = NULL;
    return ERR_OK;
}

/*
 * A seed has brought the replica to where STATUS says.  Is that all of what was
 * asked for?  Then a stream would only say so again, after looking for its
 * beginning in a long log.
 */
static bool
seed_was_all(struct ship *s, const struct logstatus *status, lsn_t goal)
{
    struct synclog_slot *slot = s->slot;
    const lsn_t applied = status->applied.applied.lsn;

    if (goal == 0 || applied < goal || status->durable.lsn < applied ||
        status->seeding)
        return false;
    atomic_store(&slot->sent_lsn, applied);
    atomic_store(&slot->received_lsn, status->durable.lsn);
    atomic_store(&slot->durable_lsn, status->durable.lsn);
    atomic_store(&slot->applied_lsn, applied);
    atomic_store(&slot->ack_wall_us, env_wall_us(s->o->env));
    atomic_store(&slot->peer_role, (uint32_t)status->role);
    atomic_store(&slot->peer_epoch, status->epoch);
    remember_slot(s);
    if (s->bell != NULL)
        bell_ring(s->bell);
    return true;
}

/* One connection from beginning to end. */
enum errcode
ship_converse(struct ship *s, lsn_t goal, bool seed_ok, bool fence_at_start,
              struct error *err)
{
    struct csync_client *peer = NULL;
    struct arena arena = ARENA_INIT;
    struct logstatus status;
    AUTO(buf_free) struct buf line = BUF_INIT;

    enum errcode rc = ship_connect(s, &peer, err);
    if (rc != ERR_OK)
        goto out;
    rc = csync_log_status(peer, &arena, &status, err);
    if (rc != ERR_OK)
        goto out;
    enum verdict verdict = ship_verdict(s, &status, seed_ok, err);
    if (verdict == PEER_DEPOSES) {
        ship_tell_deposed(s, &status);
        rc = error_set(err, ERR_FENCED,
                       "%s is at epoch %" PRI_EPOCH ": we are not the master",
                       status.servername, status.epoch);
        goto out;
    }
    if (verdict == PEER_PARK) {
        rc = err->code;
        goto out;
    }
    ship_command(s, "OPEN", NULL, NULL, &line);
    rc = csync_command(peer, buf_span(&line), NULL, NULL, err);
    if (rc == ERR_OK && verdict == PEER_SEED) {
        rc = ship_seed(s, peer, err);
        csync_client_close(&peer);
        if (rc == ERR_OK)
            rc = csync_connect(&s->target, s->o->cfg, &peer, err);
    }
    if (rc == ERR_OK)
        rc = csync_log_status(peer, &arena, &status, err);
    if (rc == ERR_OK && verdict == PEER_SEED &&
        seed_was_all(s, &status, goal)) {
        s->spare = peer;
        peer = NULL;
        goto out;
    }
    bool may_reseed = seed_ok || atomic_load(&s->slot->expelled) != 0;
    if (rc == ERR_OK && may_reseed && ship_is_beyond(s, &status))
        rc = ship_ask_to_reseed(s, peer, &status, err);
    if (rc == ERR_OK)
        rc = stream_run(s, peer, &status, goal, fence_at_start, err);
out:
    csync_client_close(&peer);
    arena_free(&arena);
    return rc;
}

/* ---- the two ways in --------------------------------------------------- */

/* As options are named: NULL is the one without a prefix. */
const char *
ship_channel(const struct ship_options *o)
{
    return strcmp(o->channel, "default") == 0 ? NULL : o->channel;
}

enum errcode
ship_target(const struct ship_options *o, struct csync_target *ret,
            struct error *err)
{
    enum errcode rc =
        csync_target_from_config(o->cfg, ship_channel(o), o->host, ret, err);

    if (rc == ERR_OK) {
        ret->require_compress = o->require_compress;
        ret->by_log = true;
        if (o->timeout_ms > 0)
            ret->timeout_ms = o->timeout_ms;
    }
    return rc;
}

static void
sign_slot(struct ship *s)
{
    atomic_store(&s->slot->consumer_pid, (uint32_t)getpid());
    atomic_store(&s->slot->by_state, 0);
    atomic_store(&s->slot->cap_bytes,
                 config_channel_bytes(s->o->cfg, s->channel, "sync_log_cap"));
    snprintf(s->slot->peer, sizeof(s->slot->peer), "%s", s->target.host);
}

static enum errcode
ship_open(struct ship *s, const struct ship_options *o, struct error *err)
{
    *s = (struct ship){.o = o, .channel = ship_channel(o)};
    snprintf(s->log.prefix, sizeof(s->log.prefix), "channel=%s", o->channel);
    enum errcode rc = ship_target(o, &s->target, err);
    if (rc != ERR_OK)
        return rc;
    rc = slot_attach(o->log_dir, o->channel, true, &s->slot, err);
    if (rc != ERR_OK)
        return rc;
    sign_slot(s);
    return ERR_OK;
}

static void
ship_close(struct ship *s)
{
    if (s->slot != NULL) {
        atomic_store(&s->slot->consumer_pid, 0);
        ship_set_state(s, SLOT_DOWN, "sync_client has ended");
    }
    csync_client_close(&s->spare); /* of a seed that was all (sync_client -1) */
    slot_detach(&s->slot);
    bell_detach(&s->bell);
    mark_detach(&s->mark);
}

/* The mark is made anew whenever the instance starts. */
bool
ship_look(struct ship *s)
{
    struct error err = {0};

    mark_detach(&s->mark);
    return mark_attach(s->o->log_dir, &s->mark, &err) == ERR_OK &&
           atomic_load(&s->mark->writer_pid) != 0;
}

/* The same, and the slot, which a rejoin sets aside with the store: in the old
 * one nobody would read what we say, and the new log would not be kept for us.
 */
static bool
look_at_instance(struct ship *s)
{
    struct synclog_slot *slot = NULL;
    struct error err = {0};

    if (!ship_look(s))
        return false;
    if (slot_attach(s->o->log_dir, s->o->channel, true, &slot, &err) !=
        ERR_OK) {
        log_warn(&s->log, "sync.slot", "why=\"%s\"", err.text);
        return false;
    }
    slot_detach(&s->slot);
    s->slot = slot;
    sign_slot(s);
    bell_detach(&s->bell);
    if (bell_attach(s->o->log_dir, &s->bell, &err) != ERR_OK)
        log_warn(&s->log, "sync.bell", "why=\"%s\"", err.text);
    return true;
}

/* What went wrong decides how long to wait before it is tried again. */
static uint64_t
pause_after(struct ship *s, enum errcode rc, const struct error *err,
            uint64_t *backoff_ms)
{
    uint64_t wait = *backoff_ms;
    bool parked = rc == ERR_HISTORY || rc == ERR_VERSION || rc == ERR_AUTH ||
                  rc == ERR_DENIED || rc == ERR_CORRUPT || rc == ERR_GAP ||
                  rc == ERR_UNSUPPORTED || rc == ERR_SYNTAX;

    if (rc == ERR_READONLY || rc == ERR_FENCED) {
        *backoff_ms = BACKOFF_FIRST_MS;
        ship_set_state(s, SLOT_WAITING, err->text);
        return rc == ERR_FENCED ? 1000 : 0;
    }
    /* The replica may only have been busy with an old stream. */
    if (parked && (rc != ERR_GAP || wait > 1000)) {
        log_warn(&s->log, "sync.parked", "code=%s why=\"%s\"", errcode_name(rc),
                 err->text);
        ship_set_state(s, SLOT_PARKED, err->text);
        return rc == ERR_GAP || rc == ERR_AUTH || rc == ERR_CORRUPT
                   ? PARKED_SHORT_MS
                   : PARKED_MS;
    }
    if (wait == BACKOFF_FIRST_MS ||
        ship_now_ms(s) - s->said_ms > SAY_AGAIN_MS) {
        s->said_ms = ship_now_ms(s);
        log_warn(&s->log, "sync.peer_lost",
                 "code=%s again_ms=%" PRIu64 " why=\"%s\"", errcode_name(rc),
                 wait, err->text);
    }
    ship_set_state(s, SLOT_CONNECTING, err->text);
    *backoff_ms = MIN(2 * wait, (uint64_t)BACKOFF_MAX_MS);
    return wait;
}

enum errcode
ship_rolling(const struct ship_options *o, struct error *err)
{
    struct ship s;
    uint64_t backoff_ms = BACKOFF_FIRST_MS;
    bool first = true;
    bool fence_at_start = false;

    enum errcode rc = ship_open(&s, o, err);
    if (rc != ERR_OK)
        return rc;
    while (!ship_stopped(&s)) {
        if (!look_at_instance(&s) || !ship_may(&s)) {
            ship_set_state(&s, SLOT_WAITING,
                           s.mark == NULL ? "no instance runs here"
                                          : "this instance is not the master");
            if (is_fenced(&s))
                ship_ask_for_fork(&s);
            ship_rest(&s, WAITING_MS);
            first = false;
            continue;
        }
        if (first)
            fence_at_start = atomic_load(&s.mark->fence) != 0;
        else if (atomic_load(&s.mark->fence) == 0)
            fence_at_start = false;
        first = false;
        lsn_t goal = o->once ? atomic_load(&s.mark->durable_lsn) : 0;
        struct error why = {0};
        uint64_t began = ship_now_ms(&s);
        rc = ship_converse(&s, goal, false, fence_at_start, &why);
        if (rc == ERR_OK)
            break;
        if (ship_now_ms(&s) - began > 5000)
            backoff_ms = BACKOFF_FIRST_MS;
        if (o->connect_once || o->once) {
            *err = why;
            break;
        }
        ship_rest(&s, pause_after(&s, rc, &why, &backoff_ms));
        rc = ERR_OK;
    }
    ship_close(&s);
    return rc;
}
