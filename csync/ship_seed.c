/*
 * csync/ship_seed.c - the pipe between the instance that gives a seed and the
 * replica that takes it.
 *
 * Only the instance can read its state, so it speaks the giving side on its
 * control socket; here the bytes pass, are counted for whoever watches, and the
 * end is recognised.  Each direction has one bounded buffer, so memory does not
 * depend on either side's speed.
 */
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "csync/ship_private.h"

#define PIPE_BYTES ((size_t)256 << 10)
/* What is still listened to when a side has hung up. */
#define LAST_BYTES ((size_t)4 << 20)
/* Totals: position, bodies, bytes. */
#define TOTALS_BYTES (4U + 8U * 4U + 16U)

/* Messages seen passing, whatever the borders of the reads. */
struct counter {
    uint8_t head[LOGMSG_HEADER_BYTES];
    size_t head_n;
    uint64_t left;      /* of the payload under way */
    struct buf payload; /* kept only of small messages that matter */
    bool keep;
};

struct progress {
    struct ship *s;
    bool on_tty;
    uint64_t start_us, shown_us;
    uint64_t bodies, bytes;           /* in all */
    uint64_t asked;                   /* bodies gone by */
    uint64_t sent_bodies, sent_bytes; /* really sent */
    uint64_t row_bytes;
    uint64_t lost; /* bodies that are damaged here */
    struct store_pos pos;
    bool known;
    bool done;
    bool failed;
    enum errcode code;
    struct error err;
};

static void
say(const struct progress *p, const char *what)
{
    if (!p->on_tty)
        printf("%s\n", what);
    fflush(stdout);
}

static void
show(struct progress *p, bool last)
{
    uint64_t now = env_mono_ns(p->s->o->env) / 1000;

    if (!p->on_tty || (!last && now - p->shown_us < 200000))
        return;
    double seconds = (double)(now - p->start_us) / 1e6;
    double rate = seconds > 0 ? (double)p->asked / seconds : 0;
    double left =
        rate > 0 ? (double)(p->bodies - MIN(p->asked, p->bodies)) / rate : 0;
    p->shown_us = now;
    printf("\rseeding: %" PRIu64 " of %" PRIu64 " messages, %.1f MB sent, "
           "%.0f/s, %.0f s left   %s",
           p->asked, p->bodies, (double)p->sent_bytes / 1e6, rate, left,
           last ? "\n" : "");
    fflush(stdout);
}

static void
on_totals(struct progress *p, struct span payload)
{
    struct rd r = rd_init(payload);

    store_pos_decode(&r, &p->pos);
    p->bodies = rd_u64le(&r);
    p->bytes = rd_u64le(&r);
    p->known = rd_done(&r);
    if (!p->on_tty)
        printf("seed: snapshot at %" PRI_EPOCH ":%" PRI_LSN ", %" PRIu64
               " messages, %.1f MB\n",
               p->pos.applied.epoch, p->pos.applied.lsn, p->bodies,
               (double)p->bytes / 1e6);
    /* From here on the log must be kept for us. */
    atomic_store(&p->s->slot->expelled, SLOT_KEPT);
    uint64_t pinned = atomic_load(&p->s->slot->durable_lsn);
    if (pinned == 0 || pinned > p->pos.applied.lsn)
        atomic_store(&p->s->slot->durable_lsn, p->pos.applied.lsn);
}

static void
on_header(struct progress *p, uint8_t type, uint32_t n)
{
    switch ((enum logmsg_type)type) {
    case LOGMSG_SEED_GUIDS:
        p->asked += n / GUID_BYTES;
        break;
    case LOGMSG_SEED_PART:
        p->sent_bodies++;
        p->sent_bytes += n;
        break;
    case LOGMSG_SEED_SYNC:
        show(p, true);
        say(p, "seed: bodies are there, made durable now");
        break;
    case LOGMSG_SEED_ROWS:
    case LOGMSG_ZSTD: /* of rows */
        p->row_bytes += n;
        break;
    case LOGMSG_SEED_FINISH:
        say(p, "seed: state is there, compared now");
        break;
    case LOGMSG_SEED_DONE:
        p->done = true;
        break;
    case LOGMSG_FRAMES:
    case LOGMSG_PING:
    case LOGMSG_END:
    case LOGMSG_SEED_BEGIN:
    case LOGMSG_SEED_TOTALS:
    case LOGMSG_ACK:
    case LOGMSG_ERROR:
    case LOGMSG_SEED_MISSING:
    case LOGMSG_SEED_SYNCED:
    case LOGMSG_GET_PART:
    case LOGMSG_GET_FRAMES:
    case LOGMSG_PART:
    case LOGMSG_LENT_FRAMES:
    case LOGMSG_LACKING:
        break;
    case LOGMSG_SEED_LOST:
        p->lost++;
        break;
    }
}

static void
on_message(struct progress *p, uint8_t type, struct span payload,
           const char *side)
{
    if (type == LOGMSG_SEED_TOTALS) {
        on_totals(p, payload);
    } else if (type == LOGMSG_ERROR) {
        p->failed = true;
        p->code = payload.n > 0 ? (enum errcode)payload.p[0] : ERR_PROTO;
        error_set(&p->err, p->code, "%s: %.*s", side,
                  (int)MIN(payload.n - (payload.n > 0), (size_t)400),
                  (const char *)payload.p + (payload.n > 0));
    }
}

static bool
matters(uint8_t type)
{
    return type == LOGMSG_SEED_TOTALS || type == LOGMSG_ERROR;
}

/* Look at BYTES as they pass; false if they are not messages. */
static bool
count(struct counter *c, struct progress *p, struct span bytes,
      const char *side)
{
    while (bytes.n > 0) {
        if (c->head_n < sizeof(c->head)) {
            size_t n = MIN(bytes.n, sizeof(c->head) - c->head_n);
            memcpy(c->head + c->head_n, bytes.p, n);
            c->head_n += n;
            bytes = span_skip(bytes, n);
            if (c->head_n < sizeof(c->head))
                return true;
            struct rd r = rd_init(span_of(c->head, sizeof(c->head)));
            uint32_t size = rd_u32le(&r);
            if (size > LOGMSG_PAYLOAD_MAX)
                return false;
            c->left = size;
            c->keep = matters(c->head[4]) && size <= 4096;
            buf_clear(&c->payload);
            on_header(p, c->head[4], size);
        }
        size_t n = (size_t)MIN((uint64_t)bytes.n, c->left);
        if (c->keep)
            buf_add(&c->payload, span_sub(bytes, 0, n));
        bytes = span_skip(bytes, n);
        c->left -= n;
        if (c->left == 0) {
            if (c->keep)
                on_message(p, c->head[4], buf_span(&c->payload), side);
            c->head_n = 0;
        }
    }
    return true;
}

/* One direction. */
struct pipe_half {
    struct bclient *from, *to;
    struct buf held; /* taken and not yet given on */
    struct counter counter;
    const char *side;
};

static enum errcode
pump(struct pipe_half *h, struct progress *p, bool *ret_moved,
     struct error *err)
{
    if (h->held.n < PIPE_BYTES) {
        size_t n = 0;
        uint8_t *room = buf_reserve(&h->held, PIPE_BYTES);
        enum errcode rc = bclient_read_some(h->from, room, PIPE_BYTES, &n, err);
        if (rc == ERR_OK) {
            if (!count(&h->counter, p, span_of(room, n), h->side))
                return error_set(err, ERR_PROTO, "%s: not a message", h->side);
            h->held.n += n;
            *ret_moved = true;
        } else if (rc != ERR_AGAIN) {
            return error_prefix(err, "%s", h->side);
        }
    }
    if (h->held.n > 0) {
        size_t n = 0;
        enum errcode rc =
            bclient_write_some(h->to, buf_span(&h->held), &n, err);
        if (rc != ERR_OK && rc != ERR_AGAIN)
            return rc;
        buf_drop(&h->held, n);
        *ret_moved = *ret_moved || n > 0;
    } else {
        enum errcode rc = bclient_flush_some(h->to, err);
        if (rc != ERR_OK && rc != ERR_AGAIN)
            return rc;
    }
    return ERR_OK;
}

static enum errcode
pipe_wait(struct pipe_half halves[2], const struct ship_options *o,
          struct error *err)
{
    struct pollfd fds[2];

    for (int i = 0; i < 2; i++) {
        fds[i].fd = bclient_fd(halves[i].from);
        fds[i].events = bclient_poll_events(halves[i].from);
        if (halves[i].held.n >= PIPE_BYTES)
            fds[i].events = (short)(fds[i].events & ~POLLIN);
        if (halves[1 - i].held.n > 0)
            fds[i].events = (short)(fds[i].events | POLLOUT);
    }
    if (poll(fds, 2, 1000) < 0 && o->stop != NULL && !o->stop(o->stop_ctx))
        return ERR_OK;
    if (o->stop != NULL && o->stop(o->stop_ctx))
        return error_set(err, ERR_CLOSED, "stopped");
    return ERR_OK;
}

/* One of the two takes no more; why, it may have said before. */
static void
last_words(struct pipe_half halves[2], struct progress *p)
{
    for (int i = 0; i < 2; i++) {
        struct pipe_half *h = &halves[i];
        for (size_t seen = 0, n = 0; !p->failed && seen < LAST_BYTES;
             seen += n) {
            struct error ignored = {0};
            buf_clear(&h->held);
            uint8_t *room = buf_reserve(&h->held, PIPE_BYTES);
            if (bclient_read_some(h->from, room, PIPE_BYTES, &n, &ignored) !=
                    ERR_OK ||
                !count(&h->counter, p, span_of(room, n), h->side))
                break;
        }
    }
}

static enum errcode
pipe_run(struct ship *s, struct bclient *giver, struct bclient *taker,
         struct progress *p, struct error *err)
{
    struct pipe_half halves[2] = {
        {.from = giver, .to = taker, .side = "this instance"},
        {.from = taker, .to = giver, .side = "the replica"},
    };
    enum errcode rc = ERR_OK;

    while (rc == ERR_OK && !p->done && !p->failed) {
        bool moved = false;
        for (int i = 0; i < 2 && rc == ERR_OK; i++)
            rc = pump(&halves[i], p, &moved, err);
        show(p, false);
        if (rc == ERR_OK && !moved && !p->done && !p->failed)
            rc = pipe_wait(halves, s->o, err);
    }
    if (rc != ERR_OK)
        last_words(halves, p);
    for (int i = 0; i < 2; i++) {
        buf_free(&halves[i].held);
        buf_free(&halves[i].counter.payload);
    }
    if (p->failed) {
        *err = p->err;
        return p->code == ERR_OK ? ERR_PROTO : p->code;
    }
    return rc;
}

enum errcode
ship_seed(struct ship *s, struct csync_client *peer, struct error *err)
{
    struct csync_client *self = NULL;
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct progress p = {
        .s = s,
        .on_tty = isatty(STDOUT_FILENO) == 1,
        .start_us = env_mono_ns(s->o->env) / 1000,
    };

    enum errcode rc =
        csync_connect_control(s->o->control, s->target.timeout_ms, &self, err);
    if (rc != ERR_OK)
        return error_prefix(err, "control socket %s", s->o->control);
    ship_command(s, "SEED", NULL, NULL, &line);
    rc = csync_command(peer, buf_span(&line), NULL, NULL, err);
    if (rc != ERR_OK)
        rc = error_prefix(err, "the replica refused the seed");
    if (rc == ERR_OK)
        rc = csync_command(self,
                           csync_client_takes_zstd(peer)
                               ? SPAN_LIT("LOG EXPORT %(ZSTD 1)")
                               : SPAN_LIT("LOG EXPORT"),
                           NULL, NULL, err);
    if (rc == ERR_OK) {
        slot_set_state(s->slot, SLOT_SEEDING, "", env_wall_us(s->o->env));
        rc = pipe_run(s, csync_client_conn(self), csync_client_conn(peer), &p,
                      err);
    }
    csync_client_close(&self);
    if (rc != ERR_OK)
        return rc;
    show(&p, true);
    double seconds = (double)(env_mono_ns(s->o->env) / 1000 - p.start_us) / 1e6;
    if (p.lost > 0) {
        log_error(&s->log, "sync.seed_lost",
                  "bodies=%" PRIu64 " effect=\"damaged here and missing over "
                  "there: 'synclog verify -C imapd.conf' names them\"",
                  p.lost);
        printf("seed: %" PRIu64 " bodies are damaged here and could not be "
               "sent\n",
               p.lost);
    }
    printf("seed: done, %" PRIu64 " of %" PRIu64
           " messages sent, %.1f MB, %.2f s; the log goes on behind %" PRI_EPOCH
           ":%" PRI_LSN "\n",
           p.sent_bodies, p.bodies, (double)(p.sent_bytes + p.row_bytes) / 1e6,
           seconds, p.pos.applied.epoch, p.pos.applied.lsn);
    fflush(stdout);
    return ERR_OK;
}
