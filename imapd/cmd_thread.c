/*
 * imapd/cmd_thread.c - the command THREAD (RFC 5256): what the keys find, with
 * what threading needs of it, is threaded on a worker.
 */
#include "imapd/find.h"
#include "imapd/thread.h"

#include <stdlib.h>

#include "mime/text.h"

struct thread_job {
    struct finder f;
    struct arena arena;
    struct thread_message *messages;
    size_t n, cap;
    modseq_t modseq;
    struct buf out;
};

static void
thread_end(struct imap_session *s)
{
    struct thread_job *job = s->job;

    find_close(s, &job->f);
    free(job->messages);
    arena_free(&job->arena);
    buf_free(&job->out);
}

static void
take_refs(struct thread_job *job, const struct mime_cache *mime,
          struct thread_message *m)
{
    struct span left = mime->refs, id;
    struct span *refs = arena_array(&job->arena, mime->nrefs, sizeof(refs[0]));

    while (m->nrefs < mime->nrefs && mime_cache_ref(&left, &id))
        refs[m->nrefs++] = arena_copy(&job->arena, id);
    m->refs = refs;
}

static void
take_hit(struct imap_session *s, struct thread_job *job)
{
    struct finder *f = &job->f;
    AUTO(buf_free) struct buf mapped = BUF_INIT;

    if (job->n == job->cap) {
        job->cap = job->cap == 0 ? 64 : job->cap * 2;
        job->messages =
            xrealloc(job->messages, job->cap * sizeof(job->messages[0]));
    }
    struct thread_message *m = &job->messages[job->n++];
    *m = (struct thread_message){.number = s->cmd->uid ? f->msg.uid : f->seq,
                                 .sent_s = f->msg.internal_s,
                                 .arrival_s = f->msg.internal_s};
    job->modseq = MAX(job->modseq, f->msg.modseq);
    if (!find_cache(s, f))
        return;
    if ((f->mime.flags & MIME_CACHE_DATED) != 0)
        m->sent_s = f->mime.sent_utc_s;
    m->is_reply = (f->mime.flags & MIME_CACHE_REPLY) != 0;
    mime_casemap(f->mime.base_subject, &mapped);
    m->subject = arena_copy(&job->arena, buf_span(&mapped));
    m->id = arena_copy(&job->arena, f->mime.message_id);
    if (s->cmd->thread != THREAD_ORDEREDSUBJECT)
        take_refs(job, &f->mime, m);
}

static void
thread_work(void *arg)
{
    struct imap_session *s = arg;
    struct thread_job *job = s->job;

    thread_messages(s->cmd->thread, job->messages, job->n, &job->out);
}

static enum run
thread_tell(struct imap_session *s)
{
    struct thread_job *job = s->job;
    struct error err = {0};

    enum errcode rc = find_result(&job->f, &err);
    buf_add_str(&s->out, job->n > 0 ? "* THREAD " : "* THREAD");
    buf_add(&s->out, buf_span(&job->out));
    if (job->f.has_modseq && job->n > 0) /* RFC 7162, 3.1.6 */
        buf_addf(&s->out, " (MODSEQ %" PRIu64 ")", job->modseq);
    buf_add_str(&s->out, "\r\n");
    if (rc != ERR_OK)
        return reply_error(s, &err);
    return reply(s, "OK Completed");
}

static enum run
thread_step(struct imap_session *s)
{
    struct thread_job *job = s->job;

    for (;;) {
        switch (find_next(s, &job->f)) {
        case FIND_HIT:
            take_hit(s, job);
            break;
        case FIND_PAUSE:
            return RUN_YIELD;
        case FIND_END:
            return run_work(s, thread_work, thread_tell);
        }
    }
}

/* On a worker. */
static void
thread_ask_index(void *arg)
{
    struct imap_session *s = arg;
    struct thread_job *job = s->job;

    find_ask_index(s, &job->f);
}

enum run
cmd_thread(struct imap_session *s)
{
    struct thread_job *job = arena_alloc(&s->arena, sizeof(*job));

    s->job = job;
    s->job_end = thread_end;
    if (!find_open(s, &job->f))
        return RUN_DONE;
    if (find_wants_index(s, &job->f))
        return run_work(s, thread_ask_index, thread_step);
    s->run = thread_step;
    return thread_step(s);
}
