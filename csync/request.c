/*
 * csync/request.c - ADMIN requests: what a tool asks of a running instance.
 *
 * Such a request may read half a million mailboxes or purge for an hour, so it
 * has a thread of its own: neither reactors nor the workers that the verbs of a
 * failover need are ever waited for.  A few at a time are taken, more are
 * refused.
 *
 * Lines go from the thread into a bounded buffer and from there, posted, to the
 * connection; a tool that does not read makes its request wait, and nobody
 * else.  A tool that is gone cancels its request, which notices with its next
 * line or pause.  The session stays until the thread has come back.
 */
#include "csync/session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#define BUFFER_BYTES (256U << 10)

struct request {
    struct csync_session *s;
    struct request_list *list;
    struct request *prev, *next; /* by the list's lock */
    struct request_job job;
    pthread_t thread;
    enum errcode code;
    struct error err;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct buf out;  /* lines that the connection has not got yet */
    bool posted;     /* somebody will take them there */
    bool cancelled;  /* nobody waits */
    const char *why; /* CANCELLED by us: said with the refusal */
};

/* ---- the list ---------------------------------------------------------- */

void
request_list_init(struct request_list *l, unsigned max)
{
    *l = (struct request_list){.max = max};
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->gone, NULL);
}

void
request_list_free(struct request_list *l)
{
    ENSURE(l->n == 0);
    pthread_cond_destroy(&l->gone);
    pthread_mutex_destroy(&l->lock);
}

static enum errcode
list_add(struct request_list *l, struct request *rq, struct error *err)
{
    enum errcode rc = ERR_OK;

    pthread_mutex_lock(&l->lock);
    if (l->closed)
        rc = error_set(err, ERR_AGAIN, "the store is being exchanged");
    else if (l->n == l->max)
        rc =
            error_set(err, ERR_BUSY,
                      "%u requests of this kind are under way already", l->max);
    if (rc == ERR_OK) {
        rq->next = l->head;
        if (l->head != NULL)
            l->head->prev = rq;
        l->head = rq;
        l->n++;
    }
    pthread_mutex_unlock(&l->lock);
    return rc;
}

static void
list_remove(struct request_list *l, struct request *rq)
{
    pthread_mutex_lock(&l->lock);
    if (rq->prev != NULL)
        rq->prev->next = rq->next;
    else
        l->head = rq->next;
    if (rq->next != NULL)
        rq->next->prev = rq->prev;
    l->n--;
    pthread_cond_broadcast(&l->gone);
    pthread_mutex_unlock(&l->lock);
}

static void
cancel(struct request *rq, const char *why)
{
    pthread_mutex_lock(&rq->lock);
    if (!rq->cancelled)
        rq->why = why;
    rq->cancelled = true;
    pthread_cond_broadcast(&rq->changed);
    pthread_mutex_unlock(&rq->lock);
}

void
request_list_close(struct request_list *l)
{
    pthread_mutex_lock(&l->lock);
    l->closed = true;
    for (struct request *rq = l->head; rq != NULL; rq = rq->next)
        cancel(rq, "the store is being exchanged");
    while (l->n > 0)
        pthread_cond_wait(&l->gone, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

void
request_list_open(struct request_list *l)
{
    pthread_mutex_lock(&l->lock);
    l->closed = false;
    pthread_mutex_unlock(&l->lock);
}

/* ---- on the reactor ---------------------------------------------------- */

static void
request_free(struct request *rq)
{
    buf_free(&rq->out);
    pthread_cond_destroy(&rq->changed);
    pthread_mutex_destroy(&rq->lock);
    free(rq);
}

/* Give the connection what has gathered; a full one comes back for more. */
static void
hand_over(struct request *rq)
{
    struct conn *c = rq->s->conn;

    pthread_mutex_lock(&rq->lock);
    if (c == NULL) {
        buf_clear(&rq->out);
        rq->posted = false;
    } else if (!conn_output_is_full(c)) {
        conn_write(c, buf_span(&rq->out));
        buf_clear(&rq->out);
        rq->posted = false;
        pthread_cond_broadcast(&rq->changed);
    }
    pthread_mutex_unlock(&rq->lock);
}

static void
on_posted(void *ctx)
{
    hand_over(ctx);
}

void
request_drained(struct csync_session *s)
{
    hand_over(s->request);
}

void
request_cancel(struct csync_session *s)
{
    if (s->request != NULL)
        cancel(s->request, "the instance is going down");
}

/* The thread is at its end. */
static void
on_finished(void *ctx)
{
    struct request *rq = ctx;
    struct csync_session *s = rq->s;

    pthread_join(rq->thread, NULL);
    s->request = NULL;
    if (!session_job_end(s)) {
        conn_write(s->conn, buf_span(&rq->out));
        rq->job.done(s, rq->code, &rq->err);
        /* What was pipelined is to be shown again. */
        conn_pause_input(s->conn);
        conn_resume_input(s->conn);
    }
    request_free(rq);
}

/* ---- on the request's thread ------------------------------------------- */

static bool
answer(struct request *rq, struct span bytes, bool is_line)
{
    pthread_mutex_lock(&rq->lock);
    while (!rq->cancelled && rq->out.n >= BUFFER_BYTES)
        pthread_cond_wait(&rq->changed, &rq->lock);
    bool waiting = !rq->cancelled;
    bool must_post = waiting && !rq->posted;
    if (waiting) {
        buf_add(&rq->out, bytes);
        if (is_line)
            buf_add_str(&rq->out, "\r\n");
        rq->posted = true;
    }
    pthread_mutex_unlock(&rq->lock);
    if (must_post)
        reactor_post(rq->s->reactor, on_posted, rq);
    return waiting;
}

static bool
answer_line(void *ctx, struct span line)
{
    return answer(ctx, line, true);
}

static bool
answer_bytes(void *ctx, struct span bytes)
{
    return answer(ctx, bytes, false);
}

static bool
answer_pause(void *ctx, unsigned ms)
{
    struct request *rq = ctx;
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&rq->lock);
    while (!rq->cancelled && ms > 0)
        if (pthread_cond_timedwait(&rq->changed, &rq->lock, &until) ==
            ETIMEDOUT)
            break;
    bool waiting = !rq->cancelled;
    pthread_mutex_unlock(&rq->lock);
    return waiting;
}

static void *
request_main(void *arg)
{
    struct request *rq = arg;
    struct csync_session *s = rq->s;
    struct csync_answer to = {
        .ctx = rq,
        .line = answer_line,
        .bytes = answer_bytes,
        .pause = answer_pause,
    };

    rq->code = rq->job.run(rq->job.ctx, s->verb, s->args, &to, &rq->err);
    pthread_mutex_lock(&rq->lock);
    if (rq->code != ERR_OK && rq->cancelled)
        rq->code = error_set(&rq->err, ERR_CLOSED, "%s", rq->why);
    pthread_mutex_unlock(&rq->lock);
    list_remove(rq->list, rq);
    reactor_post(s->reactor, on_finished, rq);
    return NULL;
}

static enum errcode
start(struct request *rq, struct error *err)
{
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int code = pthread_create(&rq->thread, NULL, request_main, rq);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return code == 0 ? ERR_OK : error_set_errno(err, code, "start a thread");
}

void
request_run(struct csync_session *s, const struct request_job *job)
{
    struct error err = {0};
    enum errcode rc;
    pthread_condattr_t attr;
    struct request *rq = xcalloc(1, sizeof(*rq));

    rq->s = s;
    rq->list = job->list;
    rq->job = *job;
    pthread_mutex_init(&rq->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&rq->changed, &attr);
    pthread_condattr_destroy(&attr);
    rc = list_add(rq->list, rq, &err);
    if (rc == ERR_OK) {
        s->request = rq;
        session_job_begin(s);
        rc = start(rq, &err);
        if (rc == ERR_OK)
            return;
        s->request = NULL;
        list_remove(rq->list, rq);
        (void)session_job_end(s);
    }
    job->done(s, rc, &err);
    request_free(rq);
}

static void
answer_tool(struct csync_session *s, enum errcode code, const struct error *err)
{
    if (code == ERR_OK)
        conn_write_str(s->conn, "OK success\r\n");
    else
        session_refuse(s, code, err);
}

void
request_begin(struct csync_session *s)
{
    const struct csync_admin *admin = &session_options(s)->admin;
    struct error err = {0};

    if (admin->run == NULL) {
        enum errcode rc =
            error_set(&err, ERR_UNSUPPORTED, "this server has no tools");
        session_refuse(s, rc, &err);
        return;
    }
    request_run(s, &(struct request_job){.run = admin->run,
                                         .ctx = admin->ctx,
                                         .done = answer_tool,
                                         .list = session_requests(s)});
}
