/*
 * imapd/annotate.c - annotations of messages (RFC 5257): the store's rows of a
 * message, "" being everybody's value of an entry and the user's name their
 * own.
 *
 * Rows come entry by entry, so a FETCH holds the values of one entry at a time,
 * and stops behind one when it has told enough for a turn.  What the client is
 * told unasked are names: all that the message has, since the store knows that
 * its annotations changed, not which.
 */
#include "imapd/annotate.h"

#include "mime/text.h"
#include "store/epochs.h"

/* Told of one message in one turn. */
#define TELL_BYTES 65536U
/* Changes in one transaction. */
#define STORE_CHANGES 1000U

enum { PRIV, SHARED };

static size_t
value_max(const struct imap_session *s)
{
    return MIN((size_t)ANNOT_VALUE_MAX, s->opt->command_bytes_max / 2);
}

static bool
is_pattern(struct span entry)
{
    return span_find_byte(entry, '*', 0) >= 0 ||
           span_find_byte(entry, '%', 0) >= 0;
}

/* ---- reading ----------------------------------------------------------- */

/* What to do with each entry of a message that the user can see. */
struct reading {
    struct imap_session *s;
    bool (*each)(struct reading *r);
    void *ctx;
    struct buf entry; /* with its NUL */
    bool has[2];
    struct buf value[2]; /* PRIV, SHARED */
};

static bool
end_entry(struct reading *r)
{
    bool more = true;

    if (r->entry.n > 0 && (r->has[PRIV] || r->has[SHARED]))
        more = r->each(r);
    buf_clear(&r->entry);
    for (int i = 0; i < 2; i++) {
        r->has[i] = false;
        buf_clear(&r->value[i]);
    }
    return more;
}

static bool
on_row(void *ctx, const char *entry, const char *user, struct span value)
{
    struct reading *r = ctx;
    int which;

    if (*user == '\0')
        which = SHARED;
    else if (strcmp(user, r->s->user) == 0)
        which = PRIV;
    else
        return true;
    if (r->entry.n == 0 || strcmp((const char *)r->entry.p, entry) != 0) {
        if (!end_entry(r))
            return false;
        buf_add(&r->entry, span_of(entry, strlen(entry) + 1));
    }
    r->has[which] = true;
    buf_add(&r->value[which], value);
    return true;
}

/* EACH for every entry of MSG, in their order, until it says false. */
static enum errcode
read_annots(struct reading *r, struct store_snap *snap,
            const struct message *msg, struct error *err)
{
    enum errcode rc = ERR_OK;

    if ((msg->flags & FLAG_ANNOTATED) != 0) {
        rc = snap_annots(snap, r->s->sel->id, msg->uid, on_row, r, err);
        if (rc == ERR_OK)
            end_entry(r);
    }
    buf_free(&r->entry);
    buf_free(&r->value[PRIV]);
    buf_free(&r->value[SHARED]);
    return rc;
}

/* ---- FETCH ------------------------------------------------------------- */

struct telling {
    struct fetch_job *job;
    const struct imap_annot_ask *ask;
    size_t start;
};

static void
write_attribute(struct imap_session *s, const char **before, const char *name,
                bool is_size, bool has, struct span value)
{
    buf_addf(&s->out, "%s%s ", *before, name);
    *before = " ";
    if (is_size)
        buf_addf(&s->out, "\"%zu\"", has ? value.n : 0);
    else if (has)
        write_string8(&s->out, value);
    else
        buf_add_str(&s->out, "NIL");
}

static void
write_entry(struct imap_session *s, struct fetch_job *job, const char *entry,
            unsigned attributes, const bool has[2], const struct buf value[2])
{
    static const struct {
        unsigned bit;
        const char *name;
        bool is_size;
        int which;
    } all[] = {{ANNOT_VALUE_PRIV, "value.priv", false, PRIV},
               {ANNOT_VALUE_SHARED, "value.shared", false, SHARED},
               {ANNOT_SIZE_PRIV, "size.priv", true, PRIV},
               {ANNOT_SIZE_SHARED, "size.shared", true, SHARED}};
    const char *before = "";

    buf_add_str(&s->out, job->annot_any ? " " : "");
    job->annot_any = true;
    write_astring(&s->out, span_str(entry));
    buf_add_str(&s->out, " (");
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if ((attributes & all[i].bit) != 0)
            write_attribute(s, &before, all[i].name, all[i].is_size,
                            has[all[i].which], buf_span(&value[all[i].which]));
    buf_add_byte(&s->out, ')');
}

/* By name, or by a pattern where it has what is asked for. */
static bool
is_asked(const struct imap_annot_ask *ask, const struct reading *r)
{
    const char *entry = (const char *)r->entry.p;
    const bool has =
        (r->has[PRIV] &&
         (ask->attributes & (ANNOT_VALUE_PRIV | ANNOT_SIZE_PRIV)) != 0) ||
        (r->has[SHARED] &&
         (ask->attributes & (ANNOT_VALUE_SHARED | ANNOT_SIZE_SHARED)) != 0);

    for (size_t i = 0; i < ask->nentries; i++)
        if (is_pattern(ask->entries[i])
                ? has && name_match(entry, ask->entries[i], '/')
                : span_eq_str(ask->entries[i], entry))
            return true;
    return false;
}

static bool
tell_one(struct reading *r)
{
    struct telling *t = r->ctx;
    struct fetch_job *job = t->job;
    const char *entry = (const char *)r->entry.p;

    /* Told in a turn before. */
    if (job->annot_last != NULL && strcmp(entry, job->annot_last) <= 0)
        return true;
    if (!is_asked(t->ask, r))
        return true;
    if (r->s->out.n - t->start > TELL_BYTES) {
        job->annot_more = true;
        return false;
    }
    write_entry(r->s, job, entry, t->ask->attributes, r->has, r->value);
    job->annot_last = arena_str(&job->arena, span_str(entry));
    return true;
}

/* What was asked for by name and has no value (3.2.2). */
static void
tell_missing(struct imap_session *s, struct fetch_job *job,
             const struct imap_annot_ask *ask)
{
    const char *const users[2] = {s->user, ""};
    const bool none[2] = {false, false};
    const struct buf nothing[2] = {BUF_INIT, BUF_INIT};

    for (size_t i = 0; i < ask->nentries; i++) {
        AUTO(buf_free) struct buf value = BUF_INIT;
        struct error ignored = {0};
        bool is_there = is_pattern(ask->entries[i]);
        const char *entry = arena_str(&job->arena, ask->entries[i]);
        for (size_t k = 0; k < i && !is_there; k++)
            is_there = span_eq(ask->entries[k], ask->entries[i]);
        for (int u = 0; u < 2 && !is_there; u++)
            is_there =
                snap_annot_get(job->snap, s->sel->id, job->msg.uid, entry,
                               users[u], &value, &ignored) == ERR_OK;
        if (!is_there)
            write_entry(s, job, entry, ask->attributes, none, nothing);
    }
}

/* "1.2" of "/1.2/comment"; empty: the whole message. */
static struct span
part_of(struct span entry)
{
    if (entry.n < 2 || entry.p[1] < '0' || entry.p[1] > '9')
        return SPAN_EMPTY;
    const ptrdiff_t end = span_find_byte(entry, '/', 1);
    return end < 0 ? span_skip(entry, 1) : span_sub(entry, 1, (size_t)end - 1);
}

bool
annot_names_part(const struct imap_annot_ask *ask)
{
    for (size_t i = 0; i < ask->nentries; i++)
        if (!is_pattern(ask->entries[i]) && part_of(ask->entries[i]).n > 0)
            return true;
    return false;
}

static bool
part_exists(const struct mime_cache *mime, struct span entry)
{
    const struct span part = part_of(entry);
    struct mime_section where;

    return part.n == 0 || mime_section_find(mime, part, &where) == ERR_OK;
}

bool
write_annotations(struct imap_session *s, struct fetch_job *job,
                  const struct imap_fetch_item *item)
{
    struct telling t = {.job = job, .ask = &item->annot, .start = s->out.n};
    struct reading r = {.s = s, .each = tell_one, .ctx = &t};
    struct error err = {0};

    if (!job->annot_more) {
        buf_add_str(&s->out, "ANNOTATION (");
        job->annot_any = false;
        job->annot_last = NULL;
        for (size_t i = 0; i < item->annot.nentries; i++)
            if (!is_pattern(item->annot.entries[i]) && job->cache_ok &&
                !part_exists(&job->mime, item->annot.entries[i]))
                job->some_bad_part = true;
    }
    job->annot_more = false;
    if (read_annots(&r, job->snap, &job->msg, &err) != ERR_OK)
        fetch_damaged(s, job, &err);
    if (job->annot_more)
        return true;
    tell_missing(s, job, &item->annot);
    buf_add_byte(&s->out, ')');
    return job->annot_any;
}

/* ---- unasked ----------------------------------------------------------- */

static bool
tell_name(struct reading *r)
{
    const char **before = r->ctx;

    buf_add_str(&r->s->out, *before);
    write_astring(&r->s->out, span_str((const char *)r->entry.p));
    *before = " ";
    return true;
}

void
write_annot_names(struct imap_session *s, struct store_snap *snap,
                  const struct message *msg)
{
    const char *before = " ANNOTATION (";
    const size_t start = s->out.n;
    struct reading r = {.s = s, .each = tell_name, .ctx = &before};
    struct error ignored = {0};

    if (read_annots(&r, snap, msg, &ignored) != ERR_OK)
        s->out.n = start;
    else if (s->out.n > start)
        buf_add_byte(&s->out, ')');
}

void
write_annot_level(struct imap_session *s)
{
    if (s->sel->readonly || s->sel->on_replica)
        buf_add_str(&s->out, "* OK [ANNOTATIONS READ-ONLY] Ok\r\n");
    else
        buf_addf(&s->out, "* OK [ANNOTATIONS %zu] Ok\r\n", value_max(s));
}

/* ---- SEARCH, SORT ------------------------------------------------------ */

struct matching {
    const struct imap_search *node;
    bool found;
};

static bool
match_one(struct reading *r)
{
    struct matching *m = r->ctx;
    const char *entry = (const char *)r->entry.p;
    static const unsigned bits[2] = {ANNOT_VALUE_PRIV, ANNOT_VALUE_SHARED};

    if (is_pattern(m->node->name) ? !name_match(entry, m->node->name, '/')
                                  : !span_eq_str(m->node->name, entry))
        return true;
    for (int i = 0; i < 2 && !m->found; i++)
        m->found = r->has[i] && (m->node->flag & bits[i]) != 0 &&
                   mime_needle_in(m->node->needle, buf_span(&r->value[i]));
    return !m->found;
}

bool
match_annotation(struct imap_session *s, struct store_snap *snap,
                 const struct message *msg, const struct imap_search *node)
{
    struct matching m = {.node = node};
    struct reading r = {.s = s, .each = match_one, .ctx = &m};
    struct error ignored = {0};

    return read_annots(&r, snap, msg, &ignored) == ERR_OK && m.found;
}

void
annot_sort_value(struct imap_session *s, struct store_snap *snap,
                 const struct message *msg, const struct imap_sort_key *key,
                 struct buf *ret)
{
    struct error ignored = {0};

    if ((msg->flags & FLAG_ANNOTATED) != 0)
        (void)!snap_annot_get(snap, s->sel->id, msg->uid, key->entry,
                              key->is_private ? s->user : "", ret, &ignored);
}

/* ---- STORE ------------------------------------------------------------- */

struct annotate_job {
    struct uidset all;
    uint32_t done; /* of them, up to this UID in chunks */
    struct uidset chunk;
    modseq_t since;
    bool first_only;        /* under way: what finds out who has changed */
    struct uidset modified; /* changed since: left as they were */
};

static void
annotate_end(struct imap_session *s)
{
    struct annotate_job *job = s->job;

    uidset_free(&job->all);
    uidset_free(&job->chunk);
    uidset_free(&job->modified);
}

/* RFC 5257, 3.4 and 4.5 */
bool
check_annot_sets(struct imap_session *s, const struct imap_annot_set *sets,
                 size_t n, uint32_t rights)
{
    for (size_t i = 0; i < n; i++) {
        if ((rights & (sets[i].is_private ? ACL_READ : ACL_ANNOTATE)) == 0) {
            reply(s, "NO [NOPERM] Permission denied");
            return false;
        }
        if (sets[i].value.n > value_max(s)) {
            reply(s, "NO [ANNOTATE TOOBIG] Annotation too large");
            return false;
        }
    }
    return true;
}

bool
annot_parts_exist(const struct imap_annot_set *sets, size_t n,
                  struct span cache)
{
    struct mime_cache mime;
    struct error ignored = {0};

    if (n == 0 || mime_cache_decode(cache, &mime, &ignored) != ERR_OK)
        return true;
    for (size_t i = 0; i < n; i++)
        if (!part_exists(&mime, span_str(sets[i].entry)))
            return false;
    return true;
}

const struct txn_append_annot *
annots_of_append(struct imap_session *s, const struct imap_append *how,
                 size_t *ret_n)
{
    struct txn_append_annot *annots =
        arena_array(&s->arena, how->nannots, sizeof(*annots));

    *ret_n = 0;
    for (size_t i = 0; i < how->nannots; i++)
        if (!how->annots[i].is_nil)
            annots[(*ret_n)++] = (struct txn_append_annot){
                .entry = how->annots[i].entry,
                .user = how->annots[i].is_private ? s->user : "",
                .value = how->annots[i].value};
    return annots;
}

/* Are the parts that are named in all of the chunk's messages?  False: the
 * reply is set. */
static bool
check_parts(struct imap_session *s, const struct annotate_job *job)
{
    const struct imap_command *cmd = s->cmd;
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    AUTO(buf_free) struct buf cache = BUF_INIT;
    bool named = false;

    for (size_t i = 0; i < cmd->nannots; i++)
        named |= part_of(span_str(cmd->annots[i].entry)).n > 0;
    for (uint32_t uid = uidset_next(&job->chunk, 1); named && uid != 0;
         uid = uid == UINT32_MAX ? 0 : uidset_next(&job->chunk, uid + 1)) {
        AUTO(arena_free) struct arena a = ARENA_INIT;
        struct message msg;
        struct mime_cache mime;
        struct error ignored = {0};
        if (snap_message(snap, s->sel->id, uid, &a, &msg, &ignored) == ERR_OK &&
            load_cache(s, snap, NULL, s->sel->id, &msg, &cache, &mime,
                       &ignored) == ERR_OK &&
            !annot_parts_exist(cmd->annots, cmd->nannots, buf_span(&cache))) {
            reply(s, "BAD There is no such part");
            return false;
        }
    }
    return true;
}

static void
add_changes(struct imap_session *s, struct store_txn *txn, size_t from,
            size_t to)
{
    const struct annotate_job *job = s->job;

    for (size_t i = from; i < to; i++) {
        const struct imap_annot_set *set = &s->cmd->annots[i];
        const struct txn_annot annot = {.id = s->sel->id,
                                        .uids = &job->chunk,
                                        .entry = set->entry,
                                        .user = set->is_private ? s->user : "",
                                        .value =
                                            set->is_nil ? NULL : &set->value,
                                        .check_quota = true,
                                        .unchanged_since = job->since,
                                        .has_unchanged_since = job->first_only};
        txn_annotate(txn, &annot);
    }
}

static enum run
annotated(struct imap_session *s);

static enum run
annotate_over(struct imap_session *s)
{
    const struct annotate_job *job = s->job;
    AUTO(buf_free) struct buf text = BUF_INIT;
    AUTO(uidset_free) struct uidset seqs = UIDSET_INIT;

    if (job->modified.n == 0)
        return reply(s, "OK Completed");
    for (uint32_t uid = uidset_next(&job->modified, 1); uid != 0;
         uid = uid == UINT32_MAX ? 0 : uidset_next(&job->modified, uid + 1)) {
        const uint32_t seq = seqmap_seq(&s->sel->map, uid);
        uidset_add(&seqs, seq, seq);
    }
    buf_add_str(&text, "OK [MODIFIED ");
    uidset_format(s->cmd->uid ? &job->modified : &seqs, &text);
    buf_add_str(&text, "] Conditional STORE failed");
    s->reply = arena_str(&s->arena, buf_span(&text));
    return RUN_DONE;
}

static enum run
next_messages(struct imap_session *s)
{
    struct annotate_job *job = s->job;
    const uint64_t n = MAX(STORE_CHANGES / s->cmd->nannots, (size_t)1);

    if (!take_chunk(&job->all, &job->done, n, &job->chunk))
        return annotate_over(s);
    if (!check_parts(s, job))
        return RUN_DONE;
    struct store_txn *txn = txn_new();
    /* What one entry changes is changed for the next one: so only the first
     * one asks. */
    job->first_only = s->cmd->has_since;
    add_changes(s, txn, 0, job->first_only ? 1 : s->cmd->nannots);
    return submit(s, txn, annotated);
}

static enum run
annotated(struct imap_session *s)
{
    struct annotate_job *job = s->job;
    const bool was_first = job->first_only;

    if (txn_code(s->txn) == ERR_LIMIT)
        return reply(s, "NO [ANNOTATE TOOMANY] Too many annotations");
    if (txn_code(s->txn) != ERR_OK)
        return reply_error(s, txn_error(s->txn));
    const size_t nops = was_first ? 1 : s->cmd->nannots - s->cmd->has_since;
    /* Silent, but with CONDSTORE the new MODSEQ is told (4.5): as news. */
    for (size_t i = 0; i < nops && !s->condstore; i++) {
        const struct txn_result *res = txn_result(s->txn, i);
        note_own(s->sel, &res->uids, res->modseq);
    }
    if (!was_first)
        return next_messages(s);
    const struct uidset *refused = &txn_result(s->txn, 0)->refused;
    uidset_add_set(&job->modified, refused);
    for (size_t i = 0; i < refused->n; i++)
        uidset_remove(&job->chunk, refused->r[i].first, refused->r[i].last);
    job->first_only = false;
    if (s->cmd->nannots == 1 || job->chunk.n == 0)
        return next_messages(s);
    struct store_txn *txn = txn_new();
    add_changes(s, txn, 1, s->cmd->nannots);
    return submit(s, txn, annotated);
}

enum run
store_annotations(struct imap_session *s)
{
    struct annotate_job *job = arena_alloc(&s->arena, sizeof(*job));
    struct error err = {0};

    s->job = job;
    s->job_end = annotate_end;
    if (refuse_on_replica(s))
        return RUN_DONE;
    if (s->sel->readonly)
        return reply(s, "NO Mailbox is read-only");
    if (!check_annot_sets(s, s->cmd->annots, s->cmd->nannots, s->sel->rights) ||
        !resolve_set(s, s->cmd->set, s->cmd->uid, &job->all))
        return RUN_DONE;
    limit_messages(s, &job->all);
    if (s->cmd->has_since) {
        AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
        if (snap_living_modseq(snap, s->cmd->since, &job->since, &err) !=
            ERR_OK)
            return reply_error(s, &err);
        enable_condstore(s);
    }
    return next_messages(s);
}
