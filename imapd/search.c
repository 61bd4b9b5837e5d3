/*
 * imapd/search.c - SEARCH (RFC 3501, 6.4.4): a walk over the rows of one
 * snapshot, some at a time.  Keys that only need the row come first; headers
 * and bodies are read only for messages that are still in question.
 */
#include "imapd/session_private.h"

#include "mime/date.h"
#include "mime/message.h"
#include "mime/text.h"

/* What one turn may cost: a row is 1, reading a message is more. */
#define TURN_COST 4000U
#define CACHE_COST 20U
#define BODY_COST 200U

struct search_job {
    struct store_snap *snap;
    struct msg_iter *it;
    struct buf out; /* the numbers found, as text */
    unsigned cost;
    struct error err;

    /* The message in question, as far as it was needed. */
    struct message msg;
    bool has_cache, cache_ok, has_header, has_body;
    struct buf cache;
    struct mime_cache mime;
    struct buf header;
    struct buf body;
};

static void
free_needles(struct imap_search *node)
{
    for (; node != NULL; node = node->next) {
        mime_needle_free(&node->needle);
        uidset_free(&node->set);
        free_needles(node->kids);
    }
}

static void
search_end(struct imap_session *s)
{
    struct search_job *job = s->job;
    struct error ignored = {0};

    if (job->it != NULL)
        (void)!msg_iter_close(&job->it, &ignored);
    store_release(&job->snap);
    buf_free(&job->out);
    buf_free(&job->cache);
    buf_free(&job->header);
    buf_free(&job->body);
    free_needles(s->cmd->search);
}

/* ---- what a key may need ----------------------------------------------- */

static bool
need_cache(struct imap_session *s, struct search_job *job)
{
    if (job->has_cache)
        return job->cache_ok;
    job->has_cache = true;
    job->cost += CACHE_COST;
    job->cache_ok = load_cache(s, job->snap, s->sel->id, &job->msg, &job->cache,
                               &job->err) == ERR_OK &&
                    mime_cache_decode(buf_span(&job->cache), &job->mime,
                                      &job->err) == ERR_OK;
    return job->cache_ok;
}

static struct span
need_header(struct imap_session *s, struct search_job *job)
{
    struct mime_section where;

    if (!job->has_header) {
        job->has_header = true;
        buf_clear(&job->header);
        if (need_cache(s, job) &&
            mime_section_find(&job->mime, SPAN_LIT("HEADER"), &where) ==
                ERR_OK &&
            store_body_read(s->store, &job->msg.guid, where.off, where.bytes,
                            &job->header, &job->err) != ERR_OK)
            buf_clear(&job->header);
    }
    return buf_span(&job->header);
}

static struct span
need_body(struct imap_session *s, struct search_job *job)
{
    if (!job->has_body) {
        job->has_body = true;
        job->cost += BODY_COST;
        buf_clear(&job->body);
        if (store_body_read(s->store, &job->msg.guid, 0, job->msg.size,
                            &job->body, &job->err) != ERR_OK)
            buf_clear(&job->body);
    }
    return buf_span(&job->body);
}

/* ---- keys -------------------------------------------------------------- */

static bool
is_dear(const struct imap_search *node)
{
    switch (node->kind) {
    case SEARCH_HEADER:
    case SEARCH_BODY:
    case SEARCH_TEXT:
    case SEARCH_SENTBEFORE:
    case SEARCH_SENTON:
    case SEARCH_SENTSINCE:
        return true;
    case SEARCH_AND:
    case SEARCH_OR:
    case SEARCH_NOT:
        for (const struct imap_search *kid = node->kids; kid != NULL;
             kid = kid->next)
            if (is_dear(kid))
                return true;
        return false;
    case SEARCH_ALL:
    case SEARCH_FLAG:
    case SEARCH_KEYWORD:
    case SEARCH_RECENT:
    case SEARCH_NEW:
    case SEARCH_BEFORE:
    case SEARCH_ON:
    case SEARCH_SINCE:
    case SEARCH_LARGER:
    case SEARCH_SMALLER:
    case SEARCH_UIDS:
    case SEARCH_SEQS:
        break;
    }
    return false;
}

static bool
has_keyword(const struct message *msg, struct span word)
{
    for (size_t i = 0; i < msg->nkeywords; i++)
        if (span_eq_nocase(msg->keywords[i], word))
            return true;
    return false;
}

static int32_t
arrival_day(const struct message *msg)
{
    const struct mime_date date = {msg->internal_s, msg->internal_tz_min};
    return mime_date_day(date);
}

/* Compares by SEARCH_SENT*; a message without a date matches none. */
static bool
match_sent(struct imap_session *s, struct search_job *job,
           const struct imap_search *node)
{
    if (!need_cache(s, job) || (job->mime.flags & MIME_CACHE_DATED) == 0)
        return false;
    const struct mime_date date = {job->mime.sent_utc_s,
                                   job->mime.sent_zone_min};
    int32_t day = mime_date_day(date);
    return node->kind == SEARCH_SENTBEFORE ? day < node->day
           : node->kind == SEARCH_SENTON   ? day == node->day
                                           : day >= node->day;
}

static bool
match(struct imap_session *s, struct search_job *job,
      const struct imap_search *node);

/* The cheap ones first. */
static bool
match_all(struct imap_session *s, struct search_job *job,
          const struct imap_search *kids)
{
    for (int dear = 0; dear < 2; dear++)
        for (const struct imap_search *kid = kids; kid != NULL; kid = kid->next)
            if (is_dear(kid) == (dear == 1) && !match(s, job, kid))
                return false;
    return true;
}

static bool
match_text(struct imap_session *s, struct search_job *job,
           const struct imap_search *node)
{
    enum mime_search_where where =
        node->kind == SEARCH_BODY ? MIME_SEARCH_BODY : MIME_SEARCH_TEXT;

    return need_cache(s, job) &&
           mime_text_search(&job->mime, need_body(s, job), node->needle, where);
}

static bool
match(struct imap_session *s, struct search_job *job,
      const struct imap_search *node)
{
    const struct message *msg = &job->msg;
    bool recent = uidset_has(&s->sel->recent, msg->uid);

    switch (node->kind) {
    case SEARCH_ALL:
        return true;
    case SEARCH_AND:
        return match_all(s, job, node->kids);
    case SEARCH_OR:
        return match(s, job, node->kids) || match(s, job, node->kids->next);
    case SEARCH_NOT:
        return !match(s, job, node->kids);
    case SEARCH_FLAG:
        return ((msg->flags & node->flag) != 0) == node->want;
    case SEARCH_KEYWORD:
        return has_keyword(msg, node->text) == node->want;
    case SEARCH_RECENT:
        return recent == node->want;
    case SEARCH_NEW:
        return recent && (msg->flags & FLAG_SEEN) == 0;
    case SEARCH_BEFORE:
        return arrival_day(msg) < node->day;
    case SEARCH_ON:
        return arrival_day(msg) == node->day;
    case SEARCH_SINCE:
        return arrival_day(msg) >= node->day;
    case SEARCH_SENTBEFORE:
    case SEARCH_SENTON:
    case SEARCH_SENTSINCE:
        return match_sent(s, job, node);
    case SEARCH_LARGER:
        return msg->size > node->number;
    case SEARCH_SMALLER:
        return msg->size < node->number;
    case SEARCH_HEADER:
        return mime_header_search(need_header(s, job), node->name,
                                  node->needle);
    case SEARCH_BODY:
    case SEARCH_TEXT:
        return match_text(s, job, node);
    case SEARCH_UIDS:
    case SEARCH_SEQS:
        return uidset_has(&node->set, msg->uid);
    }
    return false;
}

/* ---- before and after -------------------------------------------------- */

static bool
takes_text(enum imap_search_kind kind)
{
    return kind == SEARCH_HEADER || kind == SEARCH_BODY || kind == SEARCH_TEXT;
}

/* Sets become UIDs, texts become needles.  False: the reply is set. */
static bool
prepare(struct imap_session *s, struct imap_search *node)
{
    for (; node != NULL; node = node->next) {
        if (node->kind == SEARCH_UIDS || node->kind == SEARCH_SEQS) {
            if (!resolve_set(s, node->text, node->kind == SEARCH_UIDS,
                             &node->set))
                return false;
        } else if (takes_text(node->kind)) {
            AUTO(buf_free) struct buf utf8 = BUF_INIT;
            mime_charset_to_utf8(s->cmd->charset.n == 0 ? SPAN_LIT("utf-8")
                                                        : s->cmd->charset,
                                 node->text, &utf8);
            node->needle = mime_needle_new(buf_span(&utf8));
        }
        if (!prepare(s, node->kids))
            return false;
    }
    return true;
}

static enum run
search_done(struct imap_session *s)
{
    struct search_job *job = s->job;
    struct error err = {0};

    if (msg_iter_close(&job->it, &err) != ERR_OK)
        return reply_error(s, &err);
    buf_add_str(&s->out, "* SEARCH");
    buf_add(&s->out, buf_span(&job->out));
    buf_add_str(&s->out, "\r\n");
    if (job->err.code == ERR_CORRUPT || job->err.code == ERR_IO)
        return reply_error(s, &job->err);
    return reply(s, "OK Completed");
}

static enum run
search_step(struct imap_session *s)
{
    struct search_job *job = s->job;

    for (job->cost = 0; job->cost < TURN_COST; job->cost++) {
        if (!msg_iter_next(job->it, &job->msg))
            return search_done(s);
        uint32_t seq = seqmap_seq(&s->sel->map, job->msg.uid);
        if (seq == 0) /* not told yet */
            continue;
        job->has_cache = job->has_header = job->has_body = false;
        if (match(s, job, s->cmd->search))
            buf_addf(&job->out, " %" PRIu32, s->cmd->uid ? job->msg.uid : seq);
    }
    return RUN_YIELD;
}

enum run
cmd_search(struct imap_session *s)
{
    struct search_job *job = arena_alloc(&s->arena, sizeof(*job));

    s->job = job;
    s->job_end = search_end;
    if (s->cmd->charset.n > 0 && !mime_charset_known(s->cmd->charset))
        return reply(s, "NO [BADCHARSET (US-ASCII UTF-8)] Unknown charset");
    if (!prepare(s, s->cmd->search))
        return RUN_DONE;
    job->snap = store_snapshot(s->store);
    job->it = snap_messages(job->snap, s->sel->id, 1, false);
    s->run = search_step;
    return search_step(s);
}
