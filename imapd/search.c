/*
 * imapd/search.c - SEARCH and SORT: what was found, told as RFC 3501, 4731
 * (ESEARCH), 5182 (the saved result), 5256 and 5267 (SORT), 9394 (PARTIAL) ask
 * for it.
 */
#include "imapd/search.h"

#include "imapd/annotate.h"
#include "imapd/context.h"

#include <stdlib.h>

#include "mime/text.h"

/* What SORT compares of a message; texts by mime_casemap(), in the arena. */
struct sorted {
    uint32_t uid;
    uint32_t seq;
    int64_t arrival_s;
    int64_t sent_s;
    uint64_t size;
    uint8_t relevance;
    struct span text[IMAP_SORT_KEYS_MAX]; /* by key, where it is one */
};

void
search_clear(struct imap_session *s, struct search_job *job)
{
    find_close(s, &job->f);
    uidset_clear(&job->found);
    uidset_clear(&job->uids);
    buf_clear(&job->relevance);
    arena_reset(&job->arena);
    job->f = (struct finder){0};
    job->nhits = 0;
    job->modseq = job->min_modseq = job->max_modseq = 0;
}

static void
search_free(struct imap_session *s, struct search_job *job)
{
    find_close(s, &job->f);
    uidset_free(&job->found);
    uidset_free(&job->uids);
    buf_free(&job->relevance);
    free(job->hits);
    arena_free(&job->arena);
}

static void
search_end(struct imap_session *s)
{
    search_free(s, s->job);
}

/* ---- what was found ---------------------------------------------------- */

/* The text that KEY compares, empty for what is none. */
static struct span
sort_text(enum imap_sort_what what, const struct mime_cache *mime)
{
    switch (what) {
    case SORT_CC:
        return mime->cc;
    case SORT_FROM:
        return mime->from;
    case SORT_SUBJECT:
        return mime->base_subject;
    case SORT_TO:
        return mime->to;
    case SORT_DISPLAYFROM:
        return mime->display_from;
    case SORT_DISPLAYTO:
        return mime->display_to;
    case SORT_ARRIVAL:
    case SORT_DATE:
    case SORT_SIZE:
    case SORT_RELEVANCY:
    case SORT_ANNOTATION:
        break;
    }
    return SPAN_EMPTY;
}

static bool
sorts_by_row(enum imap_sort_what what)
{
    return what == SORT_ARRIVAL || what == SORT_SIZE || what == SORT_RELEVANCY;
}

/* The keys of f->msg; their texts in A. */
static struct sorted
read_sorted(struct imap_session *s, struct finder *f, struct arena *a)
{
    const struct imap_command *cmd = s->cmd;
    AUTO(buf_free) struct buf mapped = BUF_INIT;
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct sorted hit = {.uid = f->msg.uid,
                         .seq = f->seq,
                         .arrival_s = f->msg.internal_s,
                         /* RFC 5256, 2.2: without a Date, INTERNALDATE */
                         .sent_s = f->msg.internal_s,
                         .size = f->msg.size,
                         .relevance = f->relevance};

    for (size_t i = 0; i < cmd->nsort; i++) {
        if (cmd->sort[i].what == SORT_ANNOTATION) {
            buf_clear(&value);
            buf_clear(&mapped);
            annot_sort_value(s, f->snap, &f->msg, &cmd->sort[i], &value);
            mime_casemap(buf_span(&value), &mapped);
            hit.text[i] = arena_copy(a, buf_span(&mapped));
            continue;
        }
        if (sorts_by_row(cmd->sort[i].what) || !find_cache(s, f))
            continue;
        if ((f->mime.flags & MIME_CACHE_DATED) != 0)
            hit.sent_s = f->mime.sent_utc_s;
        buf_clear(&mapped);
        mime_casemap(sort_text(cmd->sort[i].what, &f->mime), &mapped);
        hit.text[i] = arena_copy(a, buf_span(&mapped));
    }
    return hit;
}

static void
take_sorted(struct imap_session *s, struct search_job *job)
{
    if (job->nhits == job->cap) {
        job->cap = job->cap == 0 ? 64 : job->cap * 2;
        job->hits = xrealloc(job->hits, job->cap * sizeof(job->hits[0]));
    }
    job->hits[job->nhits++] = read_sorted(s, &job->f, &job->arena);
}

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
        take_sorted(s, job);
    else
        uidset_add(&job->found, number, number);
    if ((s->cmd->returns & RETURN_RELEVANCY) != 0 && s->cmd->cmd != CMD_SORT)
        buf_add_byte(&job->relevance, job->f.relevance);
}

/* ---- sorting ----------------------------------------------------------- */

static int
compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b ? 1 : 0;
}

static int
compare_s64(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b ? 1 : 0;
}

static int
compare_text(struct span a, struct span b)
{
    size_t n = MIN(a.n, b.n);
    int c = n == 0 ? 0 : memcmp(a.p, b.p, n);

    return c != 0 ? c : compare_u64(a.n, b.n);
}

static int
compare_hits(const void *a, const void *b, void *ctx)
{
    const struct sorted *x = a, *y = b;
    const struct imap_command *cmd = ctx;

    for (size_t i = 0; i < cmd->nsort; i++) {
        enum imap_sort_what what = cmd->sort[i].what;
        int c = what == SORT_ARRIVAL ? compare_s64(x->arrival_s, y->arrival_s)
                : what == SORT_DATE  ? compare_s64(x->sent_s, y->sent_s)
                : what == SORT_SIZE  ? compare_u64(x->size, y->size)
                : what == SORT_RELEVANCY /* RFC 6203, 5: the best first */
                    ? compare_u64(y->relevance, x->relevance)
                    : compare_text(x->text[i], y->text[i]);
        if (c != 0)
            return cmd->sort[i].reverse ? -c : c;
    }
    return compare_u64(x->seq, y->seq); /* RFC 5256, 3 */
}

size_t
sort_place(struct imap_session *s, struct finder *f, const uint32_t *order,
           size_t n)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    const struct sorted mine = read_sorted(s, f, &a);
    size_t lo = 0, hi = n;

    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        AUTO(arena_free) struct arena row = ARENA_INIT;
        struct error ignored = {0};
        struct message msg;
        bool below = true; /* what cannot be read any more */
        if (snap_message(f->snap, s->sel->id, order[mid], &row, &msg,
                         &ignored) == ERR_OK) {
            f->msg = msg;
            f->seq = seqmap_seq(&s->sel->map, msg.uid);
            f->has_cache = f->has_source = false;
            f->cost++;
            const struct sorted other = read_sorted(s, f, &row);
            below = compare_hits(&other, &mine, s->cmd) < 0;
        }
        if (below)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* On a worker. */
static void
sort_work(void *arg)
{
    struct imap_session *s = arg;
    struct search_job *job = s->job;

    if (job->nhits > 1)
        qsort_r(job->hits, job->nhits, sizeof(job->hits[0]), compare_hits,
                s->cmd);
}

/* ---- telling ----------------------------------------------------------- */

static uint32_t
hit_number(const struct imap_session *s, const struct search_job *job, size_t i)
{
    return s->cmd->uid ? job->hits[i].uid : job->hits[i].seq;
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

/* [*RET_FROM, *RET_TO) of COUNT that PARTIAL names. */
static void
partial_range(const struct imap_command *cmd, uint64_t count,
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

    partial_range(s->cmd, count, &from, &to);
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
    const size_t n = sorted ? job->nhits : job->relevance.n;

    buf_add_str(&s->out, " RELEVANCY (");
    for (size_t i = 0; i < n; i++)
        buf_addf(&s->out, "%s%u", i == 0 ? "" : " ",
                 sorted ? job->hits[i].relevance : job->relevance.p[i]);
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
                 sorted ? hit_number(s, job, job->nhits - 1)
                        : number_at(job, count - 1));
    if ((cmd->returns & RETURN_COUNT) != 0)
        buf_addf(&s->out, " COUNT %" PRIu64, count);
    if (count > 0 && (cmd->returns & RETURN_ALL) != 0) {
        buf_add_str(&s->out, " ALL ");
        if (sorted)
            write_sorted_set(s, job, 0, job->nhits, &s->out);
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
        for (size_t i = 0; i < job->nhits; i++)
            buf_addf(&s->out, " %" PRIu32, hit_number(s, job, i));
    } else {
        buf_add_str(&s->out, "* SEARCH");
        for (size_t i = 0; i < job->found.n; i++)
            for (uint64_t n = job->found.r[i].first; n <= job->found.r[i].last;
                 n++)
                buf_addf(&s->out, " %" PRIu64, n);
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
    uint32_t min = sorted ? job->hits[0].uid : job->uids.r[0].first;
    uint32_t max = sorted ? job->hits[job->nhits - 1].uid
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
    uint32_t *order = arena_array(&s->arena, job->nhits, sizeof(*order));

    for (size_t i = 0; i < job->nhits; i++)
        order[i] = job->hits[i].uid;
    context_add(s, &job->uids, order, job->nhits);
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
            if (job->nhits > 1)
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
