/*
 * tests/sim/history.c - what histories there are: lines of frames, as the logs
 * of the instances have had them.
 *
 * A line is extended from whoever's log has more of it.  Two instances that
 * have the same LSN have the same chain and digest, or are on two lines, and
 * lines part only where one of them begins a new epoch (I5, I6).  An instance
 * never goes back on its line (I1, I4), unless it was emptied to rejoin, and
 * then what it had answered beyond the fork is in its export (I17).
 */
#include "tests/sim/sim_private.h"

#include <stdlib.h>

#define READ_BYTES ((size_t)1 << 20)

lsn_t
line_end(const struct line *line)
{
    return line->n == 0 ? 0 : line->v[line->n - 1]->last;
}

static uint64_t
line_chain(const struct line *line)
{
    return line->n == 0 ? 0 : line->v[line->n - 1]->chain;
}

static epoch_t
line_epoch(const struct line *line)
{
    return line->n == 0 ? 0 : line->v[line->n - 1]->epoch;
}

/* The frame that ends with LSN; else NULL, and *RET_AT is the index of the one
 * that it would lie in. */
static struct frame_ref *
find(const struct line *line, lsn_t lsn, size_t *ret_at)
{
    size_t low = 0, high = line->n;

    while (low < high) {
        size_t mid = (low + high) / 2;
        if (line->v[mid]->last < lsn)
            low = mid + 1;
        else
            high = mid;
    }
    *ret_at = low;
    return low < line->n && line->v[low]->last == lsn ? line->v[low] : NULL;
}

static void
add(struct line *line, struct frame_ref *f)
{
    if (line->n == line->cap) {
        line->cap = line->cap * 2 + 256;
        line->v = xrealloc(line->v, line->cap * sizeof(*line->v));
    }
    line->v[line->n++] = f;
    f->refs++;
}

/* A line that has the first N frames of OF. */
static struct line *
line_new(struct world *w, const struct line *of, size_t n)
{
    struct line *line = xcalloc(1, sizeof(*line));

    line->id = w->nlines++;
    for (size_t i = 0; i < n; i++)
        add(line, of->v[i]);
    line->next = w->lines;
    w->lines = line;
    return line;
}

static bool
read_from(struct machine *m, lsn_t after)
{
    struct error err = {0};
    struct synclog_mark *mark = machine_mark(m);

    if (m->reader != NULL && m->reader_at == after)
        return true;
    reader_close(&m->reader);
    m->reader_at = after;
    return mark != NULL && reader_open(env_sim_env(m->sim), m->log_dir, mark,
                                       after, &m->reader, &err) == ERR_OK;
}

static struct frame_ref *
frame_copy(struct machine *m, struct span frame, const struct frame_head *h)
{
    struct frame_ref *f = xmalloc(sizeof(*f) + frame.n);

    *f = (struct frame_ref){
        .first = h->first_lsn,
        .last = frame_last_lsn(h),
        .epoch = h->epoch,
        .chain = h->chain,
        .nrecords = h->nrecords,
        .n = frame.n,
    };
    memcpy(f->bytes, frame.p, frame.n);
    f->has_digest = store_digest_at(machine_store(m), f->last, &f->digest);
    return f;
}

/* Append to LINE, whose end is in M's log, what that has behind it.  False: it
 * has another history there. */
static bool
extend(struct world *w, struct line *line, struct machine *m)
{
    struct error err = {0};

    if (!read_from(m, line_end(line)) ||
        reader_chain(m->reader) != line_chain(line))
        return false;
    for (;;) {
        struct span frames;
        lsn_t last;
        uint64_t time_us;
        enum errcode rc =
            reader_next(m->reader, READ_BYTES, &frames, &last, &time_us, &err);
        if (rc != ERR_OK) {
            reader_close(&m->reader);
            if (!m->damaged && rc != ERR_IO)
                sim_violation(w, "I15: log of n%u: %s", m->i, err.text);
            return true;
        }
        if (frames.n == 0)
            return true;
        while (frames.n > 0) {
            struct frame_head h;
            struct span payload;
            size_t used;
            if (frame_decode(frames, &h, &payload, &used) != PARSE_DONE) {
                sim_violation(w, "I15: n%u gives out a bad frame", m->i);
                return true;
            }
            if (h.nrecords > 0) {
                if (h.first_lsn != line_end(line) + 1 ||
                    h.epoch < line_epoch(line))
                    sim_violation(w, "I15: n%u: gap or epoch at %llu", m->i,
                                  (unsigned long long)h.first_lsn);
                add(line, frame_copy(m, span_sub(frames, 0, used), &h));
            }
            frames = span_skip(frames, used);
        }
        m->reader_at = last;
    }
}

enum fit { FITS, BEYOND, DIFFERS };

static enum fit
fit(struct world *w, struct line *line, struct machine *m,
    const struct store_pos *pos)
{
    size_t at;
    struct frame_ref *f = find(line, pos->applied.lsn, &at);

    if (f == NULL)
        return at == line->n ? BEYOND : DIFFERS;
    if (f->chain != pos->chain)
        return DIFFERS;
    if (!f->has_digest) {
        f->has_digest = true;
        f->digest = pos->digest;
    } else if (f->digest != pos->digest) {
        sim_violation(w, "I5: n%u at %u:%llu has another state (line %u)", m->i,
                      pos->applied.epoch, (unsigned long long)pos->applied.lsn,
                      line->id);
    }
    return FITS;
}

static bool
on_any_line(struct world *w, struct machine *m, const struct store_pos *pos)
{
    for (struct line *l = w->lines; l != NULL; l = l->next)
        if (l != m->line && fit(w, l, m, pos) == FITS) {
            m->line = l;
            return true;
        }
    return false;
}

/* M's log goes on where a line ends that nobody has been seen on for a while.
 */
static bool
beyond_any_line(struct world *w, struct machine *m, const struct store_pos *pos)
{
    for (struct line *l = w->lines; l != NULL; l = l->next)
        if (l != m->line && fit(w, l, m, pos) == BEYOND && extend(w, l, m) &&
            fit(w, l, m, pos) == FITS) {
            m->line = l;
            return true;
        }
    return false;
}

/* M has left its line: where, and was it allowed to? */
static void
branch(struct world *w, struct machine *m, const struct store_pos *pos)
{
    struct line *old = m->line;
    struct error err = {0};
    size_t at = 0;

    if (!read_from(m, m->seen.applied.lsn)) {
        sim_violation(w, "I15: the log of n%u does not go on behind %llu", m->i,
                      (unsigned long long)m->seen.applied.lsn);
        return;
    }
    struct frame_ref *f = find(old, m->seen.applied.lsn, &at);
    at = f == NULL ? 0 : at + 1;
    struct span frames = SPAN_EMPTY;
    lsn_t last;
    uint64_t time_us;
    struct frame_head h = {0};
    bool parted = false;
    while (!parted) {
        if (frames.n == 0 && (reader_next(m->reader, READ_BYTES, &frames, &last,
                                          &time_us, &err) != ERR_OK ||
                              frames.n == 0))
            break;
        struct span payload;
        size_t used;
        ENSURE(frame_decode(frames, &h, &payload, &used) == PARSE_DONE);
        if (at == old->n || old->v[at]->chain != h.chain) {
            parted = true;
        } else {
            at++;
            frames = span_skip(frames, used);
        }
    }
    reader_close(&m->reader);
    if (at < old->n && (!parted || old->v[at]->epoch == h.epoch)) {
        sim_violation(w, "I5: two histories in epoch %u at %llu (n%u, line %u)",
                      h.epoch, (unsigned long long)h.first_lsn, m->i, old->id);
        return;
    }
    struct line *line = line_new(w, old, at);
    sim_trace(w, "line %u leaves line %u behind %llu: n%u epoch %u", line->id,
              old->id, (unsigned long long)line_end(line), m->i, h.epoch);
    m->line = line;
    if (!extend(w, line, m) || fit(w, line, m, pos) != FITS)
        sim_violation(w, "I5: n%u at %llu is on no line", m->i,
                      (unsigned long long)pos->applied.lsn);
}

/* Nothing is known of M yet. */
static void
settle(struct world *w, struct machine *m, const struct store_pos *pos)
{
    if (w->lines == NULL)
        (void)line_new(w, NULL, 0);
    m->seeded_at = pos->applied.lsn;
    if (on_any_line(w, m, pos))
        return;
    for (unsigned i = 0; i < NODES; i++)
        if (&w->m[i] != m && machine_store(&w->m[i]) != NULL)
            history_observe(w, &w->m[i]);
    if (on_any_line(w, m, pos) || beyond_any_line(w, m, pos))
        return;
    sim_violation(w, "I5: n%u at %u:%llu is on no line", m->i,
                  pos->applied.epoch, (unsigned long long)pos->applied.lsn);
}

void
history_observe(struct world *w, struct machine *m)
{
    struct store *store = machine_store(m);

    if (store == NULL || m->death != ALIVE || w->failed)
        return;
    const struct store_pos pos = store_pos(store);
    const lsn_t lsn = pos.applied.lsn;
    if (lsn < m->acked)
        sim_violation(w, "I1: n%u has answered %llu and is at %llu", m->i,
                      (unsigned long long)m->acked, (unsigned long long)lsn);
    if (lsn < m->seen.applied.lsn)
        sim_violation(w, "I4: n%u showed %llu and is at %llu", m->i,
                      (unsigned long long)m->seen.applied.lsn,
                      (unsigned long long)lsn);
    if (lsn == 0 || w->failed)
        return;
    if (m->line != NULL && lsn == m->seen.applied.lsn &&
        pos.chain == m->seen.chain && pos.digest == m->seen.digest)
        return;
    if (m->line == NULL) {
        settle(w, m, &pos);
    } else {
        enum fit f = fit(w, m->line, m, &pos);
        if (f == BEYOND && extend(w, m->line, m))
            f = fit(w, m->line, m, &pos);
        if (f != FITS && !on_any_line(w, m, &pos) &&
            !beyond_any_line(w, m, &pos))
            branch(w, m, &pos);
    }
    m->seen = pos;
    w->max_epoch = MAX(w->max_epoch, pos.applied.epoch);
}

/* ---- rejoin ------------------------------------------------------------ */

/* The master's, if there is one: who began an epoch and gave it back at once
 * (its disk failed) has the newest one, and nobody follows it. */
static struct line *
current(struct world *w)
{
    struct line *best = w->lines;
    const struct machine *master = NULL;

    for (unsigned i = 0; i < NODES; i++) {
        const struct machine *m = &w->m[i];
        if (machine_is_master(m) && m->line != NULL &&
            (master == NULL || store_epoch(machine_store(m)) >
                                   store_epoch(machine_store(master))))
            master = m;
    }
    if (master != NULL)
        return master->line;
    for (struct line *l = w->lines; l != NULL; l = l->next)
        if (line_epoch(l) > line_epoch(best))
            best = l;
    return best;
}

static void
check_message(struct world *w, struct machine *m, const char *dir,
              const struct record *rec)
{
    struct arena a = ARENA_INIT;
    struct rec_append append;
    struct error err = {0};
    char hex[GUID_TEXT_BYTES];

    if (rec_append_decode(rec->body, rec->version, &a, &append, &err) ==
        ERR_OK) {
        AUTO(xfree)
        char *path =
            xasprintf("%s/%s.eml", dir, guid_text(&append.msg.guid, hex));
        if (!env_exists(env_sim_env(m->sim), path) &&
            model_has(m->line, append.id, append.msg.uid))
            sim_violation(w, "I17: n%u: %s is not exported", m->i, path);
    }
    arena_free(&a);
}

/* M had answered, or got as a replica, what lies behind FORK on its line up to
 * END. */
static void
check_export(struct world *w, struct machine *m, lsn_t fork, lsn_t end)
{
    AUTO(buf_free) struct buf index = BUF_INIT;
    struct error err = {0};
    AUTO(xfree)
    char *dir = xasprintf("%s/export/epoch-%" PRI_EPOCH "-after-%" PRI_LSN,
                          m->dir, m->seen.applied.epoch, fork);
    AUTO(xfree) char *path = xasprintf("%s/index.txt", dir);
    uint64_t lines = 0;

    if (env_read_file(env_sim_env(m->sim), path, (size_t)1 << 26, &index,
                      &err) != ERR_OK) {
        sim_violation(w, "I17: n%u had %llu, the fork is at %llu: %s", m->i,
                      (unsigned long long)end, (unsigned long long)fork,
                      err.text);
        return;
    }
    for (size_t i = 0; i < index.n; i++)
        lines += index.p[i] == '\n';
    /* What came by a seed is with who gave it.  Of what the log has not any
     * more only the messages can be there. */
    const lsn_t from = MAX(fork, m->seeded_at);
    struct store_log_view log;
    store_log_view(machine_store(m), &log);
    const lsn_t listed = MAX(from, log.start_lsn);
    if (end > listed && lines < end - listed)
        sim_violation(w, "I17: %llu records exported by n%u of %llu",
                      (unsigned long long)lines, m->i,
                      (unsigned long long)(end - fork));
    size_t at;
    model_advance(w, m->line);
    (void)find(m->line, from + 1, &at);
    for (; at < m->line->n && m->line->v[at]->last <= end; at++) {
        const struct frame_ref *f = m->line->v[at];
        struct frame_head h;
        struct span payload;
        struct record rec;
        size_t used, pos = 0;
        ENSURE(frame_decode(span_of(f->bytes, f->n), &h, &payload, &used) ==
               PARSE_DONE);
        while (frame_next_record(&h, payload, &pos, &rec))
            if (rec.type == REC_APPEND)
                check_message(w, m, dir, &rec);
    }
}

void
history_rejoins(struct machine *m)
{
    struct world *w = m->w;
    const struct line *now = current(w);
    const enum role role = node_role(m->node);
    size_t n = 0;

    if (m->line == NULL || now == NULL || m->line == now || w->failed)
        return;
    while (n < m->line->n && n < now->n &&
           m->line->v[n]->chain == now->v[n]->chain)
        n++;
    const lsn_t fork = n == 0 ? 0 : now->v[n - 1]->last;
    if (role == ROLE_FENCED && m->acked > fork)
        check_export(w, m, fork, m->acked);
    /* Before its master has begun its epoch nobody can say where it left. */
    else if (role == ROLE_REPLICA && line_epoch(now) > line_epoch(m->line) &&
             m->seen.applied.lsn > MAX(fork, m->seeded_at))
        check_export(w, m, fork, m->seen.applied.lsn);
}

void
history_reset(struct machine *m)
{
    sim_trace(m->w, "n%u is emptied", m->i);
    m->rejoining = false;
    m->line = NULL;
    m->seen = (struct store_pos){0};
    m->acked = m->promised = 0;
}

void
history_free(struct world *w)
{
    while (w->lines != NULL) {
        struct line *l = w->lines;
        w->lines = l->next;
        model_free(&l->model);
        for (size_t i = 0; i < l->n; i++)
            if (--l->v[i]->refs == 0)
                free(l->v[i]);
        free(l->v);
        free(l);
    }
}
