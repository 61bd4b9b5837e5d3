/*
 * imapd/search.c - SEARCH and SORT: what was found, told as RFC 3501, 4731
 * (ESEARCH), 5182 (the saved result), 5256 and 5267 (SORT), 9394 (PARTIAL) ask
 * for it.
 */
#include "imapd/search.h"

#include "imapd/context.h"

void
search_clear(struct imap_session *s, struct search_job *job)
{
    find_close(s, &job->f);
    uidset_clear(&job->found);
    uidset_clear(&job->uids);
    buf_clear(&job->relevance);
    sort_clear(&job->sort);
    job->f = (struct finder){0};
    job->modseq = job->min_modseq = job->max_modseq = 0;
}

static void
search_free(struct imap_session *s, struct search_job *job)
{
    find_close(s, &job->f);
    uidset_free(&job->found);
    uidset_free(&job->uids);
    buf_free(&job->relevance);
    sort_clear(&job->sort);
}

static void
search_end(struct imap_session *s)
{
    search_free(s, s->job);
}

/* ---- what was found ---------------------------------------------------- */

static void
take_hit(struct imap_session *s, struct search_job *job)
{
    const struct message *msg = &job->f.msg;
    uint32_t number = s->cmd->uid ? msg->uid : job->f.seq;

    if (job->uids.n == 0)
        job->min_modseq = msg->modseq;
    job->max_modseq = msg->modseq;
    job->modseq = MAX(job->modseq, msg->modseq);
    uidset_add(&job->uids, msg->uid, msg->uid);
    if (s->cmd->cmd == CMD_SORT)
        sort_add(s, &job->f, &job->sort);
    else
        uidset_add(&job->found, number, number);
    if ((s->cmd->returns & RETURN_RELEVANCY) != 0 && s->cmd->cmd != CMD_SORT)
        buf_add_byte(&job->relevance, job->f.relevance);
}

/* On a worker. */
static void
sort_work(void *arg)
{
    struct imap_session *s = arg;
    struct search_job *job = s->job;

    sort_run(&job->sort, s->cmd);
}

/* ---- telling ----------------------------------------------------------- */

static uint32_t
hit_number(const struct imap_session *s, const struct search_job *job, size_t i)
{
    return s->cmd->uid ? job->sort.hits[i].uid : job->sort.hits[i].seq;
}

/* The I-th number of what was found, from 0. */
static uint32_t
number_at(const struct search_job *job, uint64_t i)
{
    for (size_t k = 0; k < job->found.n; k++) {
        uint64_t n = (uint64_t)job->found.r[k].last - job->found.r[k].first + 1;
        if (i < n)
            return job->found.r[k].first + (uint32_t)i;
        i -= n;
    }
    return 0;
}

/* Numbers in the order of the sort as a sequence set: only what ascends by one
 * is a range (RFC 5267, 3). */
static void
write_sorted_set(const struct imap_session *s, const struct search_job *job,
                 size_t from, size_t to, struct buf *out)
{
    for (size_t i = from; i < to;) {
        size_t last = i;
        uint32_t first = hit_number(s, job, i);
        while (last + 1 < to &&
               hit_number(s, job, last + 1) == first + (uint32_t)(last + 1 - i))
            last++;
        buf_addf(out, "%s%" PRIu32, i == from ? "" : ",", first);
        if (last > i)
            buf_addf(out, ":%" PRIu32, hit_number(s, job, last));
        i = last + 1;
    }
}

void
search_partial_range(const struct imap_command *cmd, uint64_t count,
                     uint64_t *ret_from, uint64_t *ret_to)
{
    int64_t a = cmd->partial_from, b = cmd->partial_to;

    if (a < 0) { /* from the end */
        a += (int64_t)count + 1;
        b += (int64_t)count + 1;
    }
    int64_t first = MAX(MIN(a, b), (int64_t)1);
    int64_t last = MIN(MAX(a, b), (int64_t)count);
    *ret_from = (uint64_t)first - 1;
    *ret_to = last < first ? *ret_from : (uint64_t)last;
}

static void
write_partial(struct imap_session *s, struct search_job *job, uint64_t count)
{
    uint64_t from, to;
    AUTO(uidset_free) struct uidset some = UIDSET_INIT;

    search_partial_range(s->cmd, count, &from, &to);
    buf_addf(&s->out, " PARTIAL (%" PRId64 ":%" PRId64 " ",
             s->cmd->partial_from, s->cmd->partial_to);
    if (from >= to) {
        buf_add_str(&s->out, "NIL)");
        return;
    }
    if (s->cmd->cmd == CMD_SORT) {
        write_sorted_set(s, job, (size_t)from, (size_t)to, &s->out);
    } else {
        for (uint64_t i = from; i < to; i++) {
            uint32_t n = number_at(job, i);
            uidset_add(&some, n, n);
        }
        uidset_format(&some, &s->out);
    }
    buf_add_byte(&s->out, ')');
}

/* RFC 4731, 3.2: which MODSEQ goes with what was asked for. */
static modseq_t
esearch_modseq(const struct imap_command *cmd, const struct search_job *job)
{
    unsigned some = cmd->returns & (RETURN_ALL | RETURN_COUNT | RETURN_PARTIAL);
    bool min = (cmd->returns & RETURN_MIN) != 0;
    bool max = (cmd->returns & RETURN_MAX) != 0;

    if (some != 0 || (!min && !max))
        return job->modseq;
    return MAX(min ? job->min_modseq : 0, max ? job->max_modseq : 0);
}

/* RFC 6203, 4: of all messages found, in the order of ALL. */
static void
write_relevancy(struct imap_session *s, const struct search_job *job)
{
    const bool sorted = s->cmd->cmd == CMD_SORT;
    const size_t n = sorted ? job->sort.n : job->relevance.n;

    buf_add_str(&s->out, " RELEVANCY (");
    for (size_t i = 0; i < n; i++)
        buf_addf(&s->out, "%s%u", i == 0 ? "" : " ",
                 sorted ? job->sort.hits[i].relevance : job->relevance.p[i]);
    buf_add_byte(&s->out, ')');
}

static void
write_esearch(struct imap_session *s, struct search_job *job)
{
    const struct imap_command *cmd = s->cmd;
    bool sorted = cmd->cmd == CMD_SORT;
    uint64_t count = uidset_count(&job->uids);

    /* RFC 5182, 2.1: only SAVE asked for, so nothing is told. */
    if ((cmd->returns & ~(unsigned)(RETURN_GIVEN | RETURN_SAVE)) == 0)
        return;
    buf_add_str(&s->out, "* ESEARCH (TAG ");
    write_string(&s->out, cmd->tag);
    if (job->mailbox != NULL) {
        buf_add_str(&s->out, " MAILBOX ");
        write_astring_str(&s->out, job->mailbox);
        buf_addf(&s->out, " UIDVALIDITY %" PRIu32, job->uidvalidity);
    }
    buf_add_str(&s->out, cmd->uid ? ") UID" : ")");
    if (count > 0 && (cmd->returns & RETURN_MIN) != 0)
        buf_addf(&s->out, " MIN %" PRIu32,
                 sorted ? hit_number(s, job, 0) : number_at(job, 0));
    if (count > 0 && (cmd->returns & RETURN_MAX) != 0)
        buf_addf(&s->out, " MAX %" PRIu32,
                 sorted ? hit_number(s, job, job->sort.n - 1)
                        : number_at(job, count - 1));
    if ((cmd->returns & RETURN_COUNT) != 0)
        buf_addf(&s->out, " COUNT %" PRIu64, count);
    if (count > 0 && (cmd->returns & RETURN_ALL) != 0) {
        buf_add_str(&s->out, " ALL ");
        if (sorted)
            write_sorted_set(s, job, 0, job->sort.n, &s->out);
        else
            uidset_format(&job->found, &s->out);
    }
    if ((cmd->returns & RETURN_PARTIAL) != 0)
        write_partial(s, job, count);
    if ((cmd->returns & RETURN_RELEVANCY) != 0 && count > 0)
        write_relevancy(s, job);
    if (job->f.has_modseq && count > 0)
        buf_addf(&s->out, " MODSEQ %" PRIu64, esearch_modseq(cmd, job));
    buf_add_str(&s->out, "\r\n");
}

static void
write_numbers(struct imap_session *s, struct search_job *job)
{
    if (s->cmd->cmd == CMD_SORT) {
        buf_add_str(&s->out, "* SORT");
        for (size_t i = 0; i < job->sort.n; i++) {
            buf_add_byte(&s->out, ' ');
            write_number(&s->out, hit_number(s, job, i));
        }
    } else {
        buf_add_str(&s->out, "* SEARCH");
        for (size_t i = 0; i < job->found.n; i++)
            for (uint64_t n = job->found.r[i].first; n <= job->found.r[i].last;
                 n++) {
                buf_add_byte(&s->out, ' ');
                write_number(&s->out, n);
            }
    }
    if (job->f.has_modseq && job->uids.n > 0) /* RFC 7162, 3.1.5 and 3.1.6 */
        buf_addf(&s->out, " (MODSEQ %" PRIu64 ")", job->modseq);
    buf_add_str(&s->out, "\r\n");
}

/* RFC 5182, 2.1 and 2.4: MIN and MAX alone save only these. */
static void
save_result(struct imap_session *s, struct search_job *job)
{
    const unsigned returns = s->cmd->returns;
    struct uidset *saved = &s->sel->saved;

    uidset_clear(saved);
    if (job->uids.n == 0)
        return;
    if ((returns & (RETURN_MIN | RETURN_MAX)) == 0 ||
        (returns & (RETURN_ALL | RETURN_COUNT | RETURN_PARTIAL)) != 0) {
        uidset_add_set(saved, &job->uids);
        return;
    }
    bool sorted = s->cmd->cmd == CMD_SORT;
    uint32_t min = sorted ? job->sort.hits[0].uid : job->uids.r[0].first;
    uint32_t max = sorted ? job->sort.hits[job->sort.n - 1].uid
                          : job->uids.r[job->uids.n - 1].last;
    if ((returns & RETURN_MIN) != 0)
        uidset_add(saved, min, min);
    if ((returns & RETURN_MAX) != 0)
        uidset_add(saved, max, max);
}

void
search_keep_level(struct imap_session *s)
{
    const struct search_job *job = s->job;
    uint32_t *order = arena_array(&s->arena, job->sort.n, sizeof(*order));

    for (size_t i = 0; i < job->sort.n; i++)
        order[i] = job->sort.hits[i].uid;
    context_add(s, &job->uids, order, job->sort.n);
}

static enum run
search_tell(struct imap_session *s)
{
    struct search_job *job = s->job;
    struct error err = {0};

    enum errcode rc = find_result(&job->f, &err);
    if ((s->cmd->returns & RETURN_SAVE) != 0 && rc != ERR_OK)
        uidset_clear(&s->sel->saved); /* RFC 5182, 2.1 */
    else if ((s->cmd->returns & RETURN_SAVE) != 0)
        save_result(s, job);
    if (s->cmd->returns != 0)
        write_esearch(s, job);
    else
        write_numbers(s, job);
    if (rc != ERR_OK)
        return reply_error(s, &err);
    if ((s->cmd->returns & RETURN_UPDATE) != 0)
        search_keep_level(s);
    return reply(s, "OK Completed");
}

static enum run
search_step(struct imap_session *s)
{
    struct search_job *job = s->job;

    for (;;) {
        switch (find_next(s, &job->f)) {
        case FIND_HIT:
            take_hit(s, job);
            break;
        case FIND_PAUSE:
            return RUN_YIELD;
        case FIND_END:
            if (job->sort.n > 1)
                return run_work(s, sort_work, job->tell);
            return job->tell(s);
        }
    }
}

/* On a worker. */
static void
search_ask_index(void *arg)
{
    struct imap_session *s = arg;
    struct search_job *job = s->job;

    find_ask_index(s, &job->f);
}

enum run
search_begin(struct imap_session *s)
{
    struct search_job *job = s->job;

    if (!find_open(s, &job->f)) {
        if ((s->cmd->returns & RETURN_SAVE) != 0)
            uidset_clear(&s->sel->saved);
        return RUN_DONE;
    }
    if (find_wants_index(s, &job->f))
        return run_work(s, search_ask_index, search_step);
    s->run = search_step;
    return search_step(s);
}

void
search_write(struct imap_session *s)
{
    write_esearch(s, s->job);
}

void
search_save(struct imap_session *s)
{
    save_result(s, s->job);
}

enum run
cmd_search(struct imap_session *s)
{
    struct search_job *job = arena_alloc(&s->arena, sizeof(*job));

    /* RFC 9051, 6.4.4: always ESEARCH. */
    if (s->rev2 && s->cmd->cmd == CMD_SEARCH && s->cmd->returns == 0)
        s->cmd->returns = RETURN_GIVEN | RETURN_ALL;
    if ((s->cmd->returns & RETURN_UPDATE) != 0 &&
        context_has_tag(s, s->cmd->tag)) /* RFC 5267, 4.3 */
        return reply(s, "BAD Tag reuse");
    job->tell = search_tell;
    s->job = job;
    s->job_end = search_end;
    return search_begin(s);
}
