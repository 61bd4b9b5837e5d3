/*
 * imapd/cmd_thread.c - the command THREAD (RFC 5256): what the keys find, with
 * what threading needs of it, is threaded on a worker.
 */
#include "imapd/find.h"
#include "imapd/thread.h"

#include <stdlib.h>

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

/* NREFS of REFS, as they are in a record. */
static void
take_refs(struct thread_job *job, uint32_t nrefs, struct span refs,
          struct thread_message *m)
{
    struct span left = arena_copy(&job->arena, refs), id;
    struct span *ids = arena_array(&job->arena, nrefs, sizeof(ids[0]));

    while (m->nrefs < nrefs && mime_cache_ref(&left, &id))
        ids[m->nrefs++] = id;
    m->refs = ids;
}

static void
take_hit(struct imap_session *s, struct thread_job *job)
{
    struct finder *f = &job->f;
    struct message_keys keys = {0};

    if (job->n == job->cap) {
        job->cap = job->cap == 0 ? 64 : job->cap * 2;
        job->messages =
            xrealloc(job->messages, job->cap * sizeof(job->messages[0]));
    }
    struct thread_message *m = &job->messages[job->n++];
    *m = (struct thread_message){.number = s->cmd->uid ? f->msg.uid : f->seq};
    const bool has_keys = find_keys(s, f, &keys);
    if (has_keys && (keys.flags & MIME_CACHE_DATED) != 0)
        m->sent_s = keys.sent_utc_s;
    else if (find_row(s, f)) /* RFC 5256, 2.2 */
        m->sent_s = f->msg.internal_s;
    if (!f->by_map)
        m->arrival_s = f->msg.internal_s;
    job->modseq = MAX(job->modseq, f->msg.modseq);
    if (!has_keys)
        return;
    m->is_reply = (keys.flags & MIME_CACHE_REPLY) != 0;
    m->subject = arena_copy(&job->arena, keys.text[KEY_SUBJECT]);
    m->id = arena_copy(&job->arena, keys.message_id);
    if (s->cmd->thread == THREAD_ORDEREDSUBJECT)
        return;
    if (keys.has_refs)
        take_refs(job, keys.nrefs, keys.refs, m);
    else if (find_cache(s, f))
        take_refs(job, f->mime.nrefs, f->mime.refs, m);
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
