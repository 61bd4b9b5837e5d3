/*
 * tests/lmtpd/lmtptest.h - a session without socket and store: output goes into
 * a buffer, posts into a queue, messages to a backend whose answer is the
 * recipient's name.
 */
#ifndef POLLUX_TESTS_LMTPTEST_H
#define POLLUX_TESTS_LMTPTEST_H

#include <stdio.h>

#include "lmtpd/session.h"

#define LT_EVENTS 16
#define LT_MESSAGE_MAX 100000U

struct lt_event {
    void (*work)(void *arg);
    void (*fn)(void *arg);
    void *arg;
};

struct lt {
    struct lmtpd_options opt;
    struct lmtp_counters counters;
    struct lmtp_session *s; /* NULL: ended */
    struct buf out;
    struct buf pending; /* input that was not used */
    struct lt_event events[LT_EVENTS];
    size_t nevents;
    bool hold_events; /* nothing comes back until lt_run() */
    bool paused;
    bool closed;
    bool tls_wanted;
    int holds;
    /* Another backend than ours, and what moves it on when nothing else
     * happens. */
    const struct lmtp_backend *backend;
    void *backend_ctx;
    bool (*step)(void *ctx);
    enum errcode not_ready;
    /* What was delivered: "rcpt rcpt: body" each. */
    struct buf delivered;
    struct lmtp_delivery *last;
    uint8_t last_hash[16];
};

static inline void
lt_event_add(struct lt *t, struct lt_event e)
{
    ENSURE(t->nevents < LT_EVENTS);
    t->events[t->nevents++] = e;
}

static inline void
lt_write(void *ctx, struct span bytes)
{
    struct lt *t = ctx;
    ENSURE(!t->closed);
    buf_add(&t->out, bytes);
}

static inline void
lt_resume(void *ctx)
{
    ((struct lt *)ctx)->paused = false;
}

static inline void
lt_pause(void *ctx)
{
    ((struct lt *)ctx)->paused = true;
}

static inline void
lt_close(void *ctx)
{
    ((struct lt *)ctx)->closed = true;
}

static inline void
lt_start_tls(void *ctx)
{
    ((struct lt *)ctx)->tls_wanted = true;
}

static inline void
lt_post(void *ctx, void (*fn)(void *arg), void *arg)
{
    lt_event_add(ctx, (struct lt_event){NULL, fn, arg});
}

static inline void
lt_hold(void *ctx)
{
    ((struct lt *)ctx)->holds++;
}

static inline void
lt_release(void *ctx)
{
    ((struct lt *)ctx)->holds--;
}

static inline void
lt_work(void *ctx, void (*work)(void *arg), void (*done)(void *arg), void *arg)
{
    lt_event_add(ctx, (struct lt_event){work, done, arg});
}

static inline void
lt_ended(void *ctx)
{
    struct lt *t = ctx;
    ENSURE(t->s != NULL && t->holds == 0);
    t->s = NULL;
}

static const struct session_io lt_io = {
    .write = lt_write,
    .resume = lt_resume,
    .pause = lt_pause,
    .close = lt_close,
    .start_tls = lt_start_tls,
    .post = lt_post,
    .hold = lt_hold,
    .release = lt_release,
    .work = lt_work,
    .ended = lt_ended,
};

static inline enum errcode
lt_ready(void *ctx, struct error *err)
{
    struct lt *t = ctx;
    return t->not_ready == ERR_OK ? ERR_OK
                                  : error_set(err, t->not_ready, "not now");
}

static inline struct body *
lt_new_body(void *ctx, uint64_t max_bytes)
{
    (void)ctx;
    return body_new(env_system(), "/tmp", max_bytes);
}

/* "err-quota" is an error's name. */
static inline enum errcode
lt_code(const char *name, const char *prefix)
{
    size_t n = strlen(prefix);

    if (strncmp(name, prefix, n) != 0)
        return ERR_OK;
    for (int c = ERR_OK; c <= (int)ERR_UNSUPPORTED; c++)
        if (strcmp(errcode_name((enum errcode)c), name + n) == 0)
            return (enum errcode)c;
    return ERR_NOTFOUND;
}

/* "no-denied" fails here, "err-quota" when it is delivered. */
static inline enum errcode
lt_lookup(void *ctx, struct lmtp_rcpt *rcpt, const char *sender,
          struct arena *a, struct error *err)
{
    enum errcode rc = lt_code(rcpt->local, "no-");

    (void)ctx;
    if (rc != ERR_OK)
        return error_set(err, rc, "as told");
    rcpt->mailbox = arena_printf(a, "user.%s", rcpt->local);
    rcpt->id = sender == NULL ? 1 : 2;
    return ERR_OK;
}

static inline void
lt_deliver(void *ctx, struct lmtp_delivery *d)
{
    struct lt *t = ctx;

    for (size_t i = 0; i < d->nrcpts; i++) {
        enum errcode rc = lt_code(d->rcpts[i].local, "err-");
        buf_addf(&t->delivered, "%s%s", i == 0 ? "" : " ", d->rcpts[i].local);
        if (rc != ERR_OK)
            error_set(&d->rcpts[i].result, rc, "as told");
        d->rcpts[i].uid = 7;
    }
    buf_add_str(&t->delivered, ": ");
    buf_add(&t->delivered, body_raw(d->body));
    ENSURE(d->cache.n > 0);
    memcpy(t->last_hash, d->received_hash, sizeof(t->last_hash));
    d->io->post(d->io_ctx, d->done, d->arg);
}

static const struct lmtp_backend lt_backend = {
    .ready = lt_ready,
    .new_body = lt_new_body,
    .lookup = lt_lookup,
    .deliver = lt_deliver,
};

static inline bool
lt_check_password(void *ctx, struct span user, struct span password)
{
    (void)ctx;
    (void)user;
    return span_eq_str(password, "secret");
}

static inline void
lt_options(struct lt *t)
{
    static const char *const admins[] = {"postman", NULL};

    *t = (struct lt){.opt = {
                         .env = env_system(),
                         .servername = "mx.example",
                         .ns = {.sep = '/',
                                .user_prefix = "Other Users",
                                .shared_prefix = "Shared Folders"},
                         .admins = admins,
                         .downcase_rcpt = true,
                         .user_tolower = true,
                         .postuser = "",
                         .dedup = true,
                         .message_bytes_max = LT_MESSAGE_MAX,
                         .recipients_max = 5,
                         .bad_commands_max = 8,
                         .check_password = lt_check_password,
                     }};
}

static inline void
lt_start(struct lt *t, bool trusted)
{
    const struct lmtp_wiring wiring = {
        .options = &t->opt,
        .io = &lt_io,
        .io_ctx = t,
        .backend = t->backend != NULL ? t->backend : &lt_backend,
        .backend_ctx = t->backend != NULL ? t->backend_ctx : t,
        .counters = &t->counters,
    };
    const struct session_peer peer = {.peer_name = "127.0.0.1:4711",
                                      .on_unix = trusted};
    t->s = lmtp_session_new(&wiring, &peer);
    lmtp_session_start(t->s);
}

/* What came back, and the input that waited for it. */
static inline void
lt_run(struct lt *t)
{
    bool busy = true;

    while (busy) {
        busy = false;
        if (t->nevents > 0) {
            struct lt_event e = t->events[0];
            t->nevents--;
            memmove(t->events, t->events + 1, t->nevents * sizeof(e));
            if (e.work != NULL)
                e.work(e.arg);
            e.fn(e.arg);
            busy = true;
        } else if (t->s != NULL && !t->paused && !t->closed &&
                   t->pending.n > 0) {
            size_t used = lmtp_session_input(t->s, buf_span(&t->pending));
            ENSURE(used <= t->pending.n);
            buf_drop(&t->pending, used);
            if (t->tls_wanted)
                buf_clear(&t->pending); /* as a connection does */
            busy = used > 0 && !(t->hold_events && t->nevents > 0);
        }
        if (!busy && t->step != NULL)
            busy = t->step(t->backend_ctx);
    }
}

/* IN in pieces of PIECE bytes. */
static inline void
lt_feed(struct lt *t, struct span in, size_t piece)
{
    while (in.n > 0) {
        struct span next = span_sub(in, 0, piece);
        buf_add(&t->pending, next);
        in = span_skip(in, next.n);
        lt_run(t);
    }
}

static inline void
lt_end(struct lt *t)
{
    if (t->s != NULL)
        lmtp_session_gone(t->s);
    lt_run(t);
    ENSURE(t->s == NULL && t->holds == 0);
    buf_free(&t->out);
    buf_free(&t->pending);
    buf_free(&t->delivered);
}

#endif
