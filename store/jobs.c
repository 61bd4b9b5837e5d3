/*
 * store/jobs.c - what waits for the writer, and how it is answered: lists of
 * transactions and of frames from a master.
 */
#include "store/store_private.h"

#include <stdlib.h>

void
jobs_init(struct job_list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

void
jobs_add(struct job_list *list, struct job *job)
{
    job->next = NULL;
    *list->last = job;
    list->last = &job->next;
}

struct job *
jobs_take(struct job_list *list)
{
    struct job *job = list->first;

    if (job != NULL) {
        list->first = job->next;
        if (list->first == NULL)
            list->last = &list->first;
        job->next = NULL;
    }
    return job;
}

/* All of LIST in front of what waits. */
void
jobs_put_back(struct store *store, struct job_list *list)
{
    if (list->first == NULL)
        return;
    *list->last = store->queue.first;
    if (store->queue.first == NULL)
        store->queue.last = list->last;
    store->queue.first = list->first;
    jobs_init(list);
}

void
job_answer(struct store *store, struct job *job)
{
    atomic_fetch_sub(&store->queue_bytes, job->bytes);
    if (job->is_frames) {
        struct frames_job *f = (struct frames_job *)job;
        f->done(f->done_ctx, f->code, &f->err, store_pos(store));
        buf_free(&f->frames);
        free(f);
    } else {
        struct store_txn *txn = (struct store_txn *)job;
        txn->done(txn->done_ctx, txn);
    }
}

void
job_set_code(struct job *job, const struct error *err)
{
    if (job->is_frames) {
        ((struct frames_job *)job)->code = err->code;
        ((struct frames_job *)job)->err = *err;
        return;
    }
    struct store_txn *txn = (struct store_txn *)job;
    txn_reset(txn);
    txn->code = err->code;
    txn->err = *err;
}

void
job_refuse(struct store *store, struct job *job, const struct error *err)
{
    if (err->code == ERR_NOSPACE)
        full_refused(&store->full, err);
    job_set_code(job, err);
    job_answer(store, job);
}

void
jobs_refuse(struct store *store, struct job_list *list, const struct error *err)
{
    struct job *job;
    while ((job = jobs_take(list)) != NULL)
        job_refuse(store, job, err);
}

void
jobs_answer(struct store *store, struct job_list *list)
{
    struct job *job;
    while ((job = jobs_take(list)) != NULL)
        job_answer(store, job);
}

void
writer_refuse_all(struct store *store, enum errcode code, const char *why)
{
    struct error err;

    (void)error_set(&err, code, "%s", why);
    jobs_refuse(store, &store->acks, &err);
    jobs_refuse(store, &store->queue, &err);
}
