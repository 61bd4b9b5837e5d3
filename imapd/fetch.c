/*
 * imapd/fetch.c - FETCH.
 *
 * In chunks of messages: those that the command makes \Seen are committed
 * first, then the chunk is told.  The step stops wherever the client does not
 * read, inside a message and inside a literal too, and keeps no snapshot
 * meanwhile: a slow reader holds nothing of the store.
 *
 * A message whose bytes are damaged is not given out: its items are NIL, the
 * other messages come, and the command ends with NO [CORRUPTION].  Where the
 * twin may have it, that is waited for first, for a moment, on a worker.
 */
#include "imapd/annotate.h"
#include "imapd/search.h"

#include "mime/date.h"
#include "mime/header.h"
#include "store/damage.h"
#include "store/epochs.h"

#define CHUNK_MESSAGES 500U
#define TURN_BYTES 524288U
#define TURN_MESSAGES 500U
/* Of a header from which fields are picked. */
#define HEADER_BYTES_MAX (8U << 20)
/* Fewer messages are not worth a worker. */
#define AHEAD_FROM 16U
/* For the repair of a body. */
#define HEAL_MS 2000

static void
fetch_end(struct imap_session *s)
{
    struct fetch_job *job = s->job;

    ahead_end(&job->ahead);
    uidset_free(&job->all);
    uidset_free(&job->chunk);
    uidset_free(&job->seen);
    arena_free(&job->arena);
    buf_free(&job->cache);
    buf_free(&job->picked);
}

/* ---- items ------------------------------------------------------------- */

static void
write_datetime(struct buf *out, const char *label, struct mime_date date)
{
    char text[MIME_IMAP_DATETIME_BYTES + 1];

    mime_imap_datetime_format(date, text);
    buf_addf(out, "%s \"%s\"", label, text);
}

static void
write_or_nil(struct buf *out, const char *label, bool ok, struct span text)
{
    buf_add_str(out, label);
    if (ok)
        buf_add(out, text);
    else
        buf_add_str(out, " NIL");
}

void
apply_partial(const struct imap_fetch_item *item, uint64_t *off, uint64_t *n)
{
    if (!item->has_partial)
        return;
    uint64_t skip = MIN((uint64_t)item->partial_off, *n);
    *off += skip;
    *n = MIN((uint64_t)item->partial_bytes, *n - skip);
}

/* On a worker. */
static void
heal_work(void *session)
{
    struct fetch_job *job = ((struct imap_session *)session)->job;

    job->no_heal = !store_damage_wait(((struct imap_session *)session)->store,
                                      &job->msg.guid, HEAL_MS);
}

bool
may_heal(struct fetch_job *job, const struct error *err)
{
    if (job->no_heal || job->healed == job->msg.uid ||
        (err->code != ERR_CORRUPT && err->code != ERR_NOTFOUND &&
         err->code != ERR_IO))
        return false;
    job->healed = job->msg.uid;
    job->work = heal_work;
    return true;
}

enum errcode
fetch_damaged(struct imap_session *s, struct fetch_job *job, struct error *err)
{
    job->some_damaged = true;
    log_error(&s->log, "imap.body_damaged",
              "mailbox=%" PRIu64 " uid=%" PRIu32 " code=%s why=\"%s\" "
              "consequence=\"the client gets NIL\"",
              s->sel->id, job->msg.uid, errcode_name(err->code), err->text);
    return err->code;
}

/* " {N}", line end. */
static void
write_literal_begin(struct buf *out, uint64_t n)
{
    buf_add(out, SPAN_LIT(" {"));
    write_number(out, n);
    buf_add(out, SPAN_LIT("}\r\n"));
}

/* Of the fields in HEADER, those that the item names. */
static void
write_picked(struct imap_session *s, struct fetch_job *job,
             const struct imap_fetch_item *item, struct span header)
{
    uint64_t off = 0;

    buf_clear(&job->picked);
    mime_header_fields(header, item->fields, item->nfields, item->fields_not,
                       &job->picked);
    uint64_t n = job->picked.n;
    apply_partial(item, &off, &n);
    write_literal_begin(&s->out, n);
    buf_add(&s->out, span_sub(buf_span(&job->picked), (size_t)off, (size_t)n));
    job->turn_bytes += header.n;
}

/* Does a derived record have all that ITEM can want? */
static bool
is_kept(const struct imap_fetch_item *item)
{
    if (!item->has_fields || item->fields_not ||
        !span_eq_str(item->section, "HEADER.FIELDS"))
        return false;
    for (size_t i = 0; i < item->nfields; i++)
        if (!mime_cache_keeps(item->fields[i]))
            return false;
    return true;
}

static void
write_fields(struct imap_session *s, struct fetch_job *job,
             const struct imap_fetch_item *item,
             const struct mime_section *where)
{
    AUTO(buf_free) struct buf header = BUF_INIT;
    const uint64_t bytes = MIN(where->bytes, HEADER_BYTES_MAX);
    struct error err = {0};

    if (job->has_bytes) {
        write_picked(s, job, item,
                     span_sub(job->bytes, where->off, (size_t)bytes));
        return;
    }
    if (store_body_read(s->store, &job->msg.guid, where->off, bytes, &header,
                        &err) != ERR_OK) {
        if (may_heal(job, &err))
            return;
        fetch_damaged(s, job, &err);
        buf_add_str(&s->out, " NIL");
        return;
    }
    write_picked(s, job, item, buf_span(&header));
}

/* The next piece of the literal under way. */
static enum errcode
write_piece(struct imap_session *s, struct fetch_job *job, struct error *err)
{
    uint64_t n = MIN(job->left, (uint64_t)PIECE_BYTES);
    size_t before = s->out.n;

    if (job->binary.telling)
        return write_binary_piece(s, job, err);

    enum errcode rc = ERR_OK;
    if (job->has_bytes)
        buf_add(&s->out, span_sub(job->bytes, (size_t)job->off, (size_t)n));
    else
        rc = store_body_read(s->store, &job->msg.guid, job->off, n, &s->out,
                             err);
    if (rc == ERR_OK && s->out.n - before != n)
        rc = error_set(err, ERR_CORRUPT, "message is shorter than it says");
    if (rc != ERR_OK) {
        s->out.n = before;
        return rc;
    }
    job->off += n;
    job->left -= n;
    job->turn_bytes += (size_t)n;
    return ERR_OK;
}

/* A literal is only announced when its first piece is here. */
void
begin_literal(struct imap_session *s, struct fetch_job *job, uint64_t off,
              uint64_t n)
{
    struct error err = {0};
    size_t before = s->out.n;

    job->off = off;
    job->left = n;
    write_literal_begin(&s->out, n);
    /* What is damaged further on would cost the session. */
    bool known = n > PIECE_BYTES && store_damage_has(s->store, &job->msg.guid);
    if (known)
        error_set(&err, ERR_CORRUPT, "known to be damaged");
    if (known || (n > 0 && write_piece(s, job, &err) != ERR_OK)) {
        job->left = 0;
        if (may_heal(job, &err))
            return;
        fetch_damaged(s, job, &err);
        s->out.n = before;
        buf_add_str(&s->out, " NIL");
    }
}

static void
write_section(struct imap_session *s, struct fetch_job *job,
              const struct imap_fetch_item *item)
{
    struct mime_section where = {.bytes = (size_t)job->msg.size};

    buf_add(&s->out, item->label);
    if (job->cache_ok && (job->mime.flags & MIME_CACHE_FIELDS) != 0 &&
        job->kept[item - s->cmd->items]) {
        write_picked(s, job, item, job->mime.fields);
        return;
    }
    if (item->section.n > 0 &&
        (!job->cache_ok ||
         mime_section_find(&job->mime, item->section, &where) != ERR_OK)) {
        buf_add_str(&s->out, " NIL");
        return;
    }
    if (item->has_fields) {
        write_fields(s, job, item, &where);
        return;
    }
    uint64_t off = where.off, n = where.bytes;
    apply_partial(item, &off, &n);
    begin_literal(s, job, off, n);
}

static void
write_item_flags(struct imap_session *s, struct fetch_job *job)
{
    buf_add_str(&s->out, "FLAGS ");
    write_flags(&s->out, flags_seen(s, &job->msg), job->msg.keywords,
                job->msg.nkeywords, shows_recent(s, job->msg.uid));
}

static void
write_item(struct imap_session *s, struct fetch_job *job,
           const struct imap_fetch_item *item)
{
    const size_t before = s->out.n;
    const bool was_first = job->first;
    bool untold = false;

    if (!job->first && !job->annot_more)
        buf_add_byte(&s->out, ' ');
    job->first = false;
    switch (item->what) {
    case FETCH_UID:
        buf_add_str(&s->out, "UID ");
        write_number(&s->out, job->msg.uid);
        break;
    case FETCH_FLAGS:
        write_item_flags(s, job);
        break;
    case FETCH_INTERNALDATE: {
        const struct mime_date date = {job->msg.internal_s,
                                       job->msg.internal_tz_min};
        write_datetime(&s->out, "INTERNALDATE", date);
        break;
    }
    case FETCH_RFC822_SIZE:
        buf_add_str(&s->out, "RFC822.SIZE ");
        write_number(&s->out, job->msg.size);
        break;
    case FETCH_ENVELOPE:
        write_or_nil(&s->out, "ENVELOPE ", job->cache_ok, job->mime.envelope);
        break;
    case FETCH_BODY:
        write_or_nil(&s->out, "BODY ", job->cache_ok, job->mime.body);
        break;
    case FETCH_BODYSTRUCTURE:
        write_or_nil(&s->out, "BODYSTRUCTURE ", job->cache_ok,
                     job->mime.bodystructure);
        break;
    case FETCH_SAVEDATE: {
        const struct mime_date date = {job->msg.saved_s, 0};
        write_datetime(&s->out, "SAVEDATE", date);
        break;
    }
    case FETCH_EMAILID: {
        char hex[GUID_TEXT_BYTES];
        buf_addf(&s->out, "EMAILID (M%s)", guid_text(&job->msg.guid, hex));
        break;
    }
    case FETCH_THREADID: /* RFC 8474, 5.2: none is kept here */
        buf_add_str(&s->out, "THREADID NIL");
        break;
    case FETCH_MODSEQ:
        buf_addf(&s->out, "MODSEQ (%" PRIu64 ")", job->msg.modseq);
        break;
    case FETCH_SECTION:
        write_section(s, job, item);
        break;
    case FETCH_BINARY:
    case FETCH_BINARY_SIZE:
        write_binary(s, job, item);
        break;
    case FETCH_PREVIEW:
        write_preview(s, job, item);
        break;
    case FETCH_ANNOTATION:
        untold = !write_annotations(s, job, item);
        break;
    }
    if (job->work != NULL || untold) { /* as if it had not been looked at */
        s->out.n = before;
        job->first = was_first;
    }
}

/* ---- messages ---------------------------------------------------------- */

/* Rows side by side are walked; ones far apart are looked up. */
static void
begin_turn(struct imap_session *s, struct fetch_job *job)
{
    uint32_t next =
        job->uid == UINT32_MAX ? 0 : uidset_next(&job->chunk, job->uid + 1);

    job->turn_bytes = 0;
    job->turn_messages = 0;
    job->snap = store_snapshot(s->store);
    if (job->needs_cache)
        job->caches = snap_cache_walk(job->snap, s->sel->id);
    if (next == 0)
        return;
    uint64_t span = (uint64_t)job->chunk.r[job->chunk.n - 1].last - next;
    if (span < 4 * uidset_count(&job->chunk))
        job->it = snap_messages(job->snap, s->sel->id, next, true);
}

static void
end_turn(struct fetch_job *job)
{
    struct error err = {0};

    /* What could not be read is looked up again, and told then. */
    if (job->it != NULL)
        msg_iter_close(&job->it, &err);
    cache_walk_close(&job->caches);
    store_release(&job->snap);
}

static bool
walk_to(struct fetch_job *job, uint32_t uid)
{
    struct message msg;

    while (job->it != NULL && msg_iter_next(job->it, &msg) && msg.uid <= uid) {
        if (msg.uid < uid)
            continue;
        /* It outlives the turn, and so the iterator. */
        struct span *words =
            arena_array(&job->arena, msg.nkeywords, sizeof(words[0]));
        for (size_t i = 0; i < msg.nkeywords; i++)
            words[i] = arena_copy(&job->arena, msg.keywords[i]);
        job->msg = msg;
        job->msg.keywords = words;
        return true;
    }
    /* Passed by or at its end: from here on rows are looked up. */
    struct error ignored = {0};
    if (job->it != NULL)
        msg_iter_close(&job->it, &ignored);
    return false;
}

/* What follows is done for each message or item; room for an error, which is
 * cleared first, only where one may come. */

static bool
read_row(struct imap_session *s, struct fetch_job *job, struct store_snap *snap)
{
    struct error err = {0};

    return snap_message(snap, s->sel->id, job->uid, &job->arena, &job->msg,
                        &err) == ERR_OK;
}

/* The derived record of the message; false: the message comes again. */
static bool
take_cache(struct imap_session *s, struct fetch_job *job,
           struct store_snap *snap)
{
    struct error err = {0};

    job->cache_ok = load_cache(s, snap, job->caches, s->sel->id, &job->msg,
                               &job->cache, &job->mime, &err) == ERR_OK;
    if (!job->cache_ok && may_heal(job, &err)) {
        job->uid--;
        return false;
    }
    if (!job->cache_ok)
        fetch_damaged(s, job, &err);
    return true;
}

/* The next message of the chunk; false if there is none. */
static bool
open_message(struct imap_session *s, struct fetch_job *job,
             struct store_snap *snap)
{
    for (;;) {
        const uint32_t next =
            job->uid == UINT32_MAX ? 0 : uidset_next(&job->chunk, job->uid + 1);
        if (next != 0 && job->ahead != NULL) {
            ahead_fill(job->ahead, &job->all, next);
            job->is_awaited = ahead_must_wait(job->ahead, next);
            if (job->is_awaited)
                return true;
        }
        job->uid = next;
        if (job->uid == 0)
            return false;
        arena_reset(&job->arena);
        /* A tombstone that the client was not told of still answers. */
        if (walk_to(job, job->uid) || read_row(s, job, snap))
            break;
        job->some_gone = true;
    }
    if (job->needs_cache && !take_cache(s, job, snap))
        return true;
    job->has_bytes =
        job->ahead != NULL && ahead_get(job->ahead, &job->msg, &job->bytes);
    write_fetch_begin(s, job->uid);
    job->open = true;
    job->first = true;
    job->item = 0;
    if (s->cmd->uid && !job->has_uid && !s->uidonly) {
        write_fetch_uid(s, job->uid, true);
        job->first = false;
    }
    return true;
}

static void
close_message(struct imap_session *s, struct fetch_job *job)
{
    if (uidset_has(&job->seen, job->uid) && !job->has_flags) {
        if (!job->first)
            buf_add_byte(&s->out, ' ');
        write_item_flags(s, job);
    }
    /* With flags, once CONDSTORE is on (RFC 7162, 3.2), and with CHANGEDSINCE
     * always. */
    bool flags = job->has_flags || uidset_has(&job->seen, job->uid);
    if (!job->has_modseq && (flags || s->cmd->has_since))
        write_modseq(s, job->first && !flags, job->msg.modseq);
    else if (job->first && !flags) /* nothing that was asked for is there */
        write_fetch_uid(s, job->uid, true);
    buf_add_str(&s->out, ")\r\n");
    job->open = false;
    job->turn_messages++;
}

static enum run
fetch_next(struct imap_session *s);

/* The next piece of a long item; RUN_WAIT stands for "go on". */
static enum run
more_pieces(struct imap_session *s, struct fetch_job *job)
{
    struct error err = {0};

    if (write_piece(s, job, &err) == ERR_OK)
        return RUN_WAIT;
    if (may_heal(job, &err))
        return RUN_YIELD;
    fetch_damaged(s, job, &err);
    say_bye(s, "[CORRUPTION] A message cannot be read");
    return RUN_DONE;
}

/* One thing more; RUN_WAIT stands for "go on". */
static enum run
fetch_more(struct imap_session *s, struct fetch_job *job,
           struct store_snap *snap)
{
    if (job->left > 0) {
        enum run run = more_pieces(s, job);
        if (run != RUN_WAIT)
            return run;
    } else if (!job->open) {
        if (!open_message(s, job, snap)) {
            s->run = fetch_next;
            return RUN_YIELD;
        }
    } else if (job->item < s->cmd->nitems) {
        write_item(s, job, &s->cmd->items[job->item]);
        if (job->work == NULL && !job->annot_more)
            job->item++;
    } else {
        close_message(s, job);
    }
    if (job->work != NULL || job->is_awaited)
        return RUN_YIELD;
    if (is_full(s))
        return RUN_FULL;
    if (job->turn_bytes > TURN_BYTES || job->turn_messages > TURN_MESSAGES)
        return RUN_YIELD;
    return RUN_WAIT;
}

static enum run
fetch_tell(struct imap_session *s)
{
    struct fetch_job *job = s->job;
    enum run run;

    if (is_full(s))
        return RUN_FULL;
    begin_turn(s, job);
    do
        run = fetch_more(s, job, job->snap);
    while (run == RUN_WAIT);
    end_turn(job);
    if (job->is_awaited) {
        job->is_awaited = false;
        return RUN_WAIT;
    }
    if (job->work == NULL)
        return run;
    void (*work)(void *session) = job->work;
    job->work = NULL;
    return run_work(s, work, fetch_tell);
}

/* ---- chunks ------------------------------------------------------------ */

static enum run
made_seen(struct imap_session *s)
{
    struct fetch_job *job = s->job;

    /* A server that takes no changes still shows its mail. */
    if (txn_code(s->txn) == ERR_OK) {
        const struct txn_result *res = txn_result(s->txn, 0);
        uidset_add_set(&job->seen, &res->uids);
        if (s->sel->own_seen)
            uidset_add_set(&s->sel->seen, &res->uids);
        note_own(s->sel, &res->uids, res->modseq);
    }
    s->run = fetch_tell;
    return fetch_tell(s);
}

static void
find_unseen(struct imap_session *s, const struct fetch_job *job,
            struct uidset *ret)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    struct message msg;
    struct error err = {0};
    uint32_t last = job->chunk.r[job->chunk.n - 1].last;
    struct msg_iter *it =
        snap_messages(snap, s->sel->id, uidset_next(&job->chunk, 1), false);

    while (msg_iter_next(it, &msg) && msg.uid <= last)
        if ((flags_seen(s, &msg) & FLAG_SEEN) == 0 &&
            uidset_has(&job->chunk, msg.uid))
            uidset_add(ret, msg.uid, msg.uid);
    /* What cannot be read now is told when it is fetched. */
    if (msg_iter_close(&it, &err) != ERR_OK)
        uidset_clear(ret);
}

static enum run
fetch_next(struct imap_session *s)
{
    struct fetch_job *job = s->job;
    AUTO(uidset_free) struct uidset unseen = UIDSET_INIT;

    if (!take_chunk(&job->all, &job->done, CHUNK_MESSAGES, &job->chunk)) {
        if (job->some_damaged)
            return reply(s, "NO [CORRUPTION] Some messages cannot be read");
        if (job->some_bad_part) /* RFC 5257, 3.2.1 */
            return reply(s, "BAD There is no such part");
        if (job->some_undecodable) /* RFC 3516, 4.3 */
            return reply(s, "NO [UNKNOWN-CTE] Some parts cannot be decoded");
        if (job->some_gone)
            return reply(s, "NO [EXPUNGEISSUED] Some messages are gone");
        return reply(s, "OK Completed");
    }
    job->uid = 0;
    if (job->sets_seen)
        find_unseen(s, job, &unseen);
    if (unseen.n == 0) {
        s->run = fetch_tell;
        return fetch_tell(s);
    }
    struct store_txn *txn = txn_new();
    txn_seen(txn, s->sel->id, s->user, &unseen, true);
    return submit(s, txn, made_seen);
}

/* RFC 7162, 3.1.4.1 and 3.2.6: only what changed; with VANISHED also what has
 * gone of the UIDs named. */
static enum errcode
only_changed(struct imap_session *s, struct fetch_job *job, struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    AUTO(uidset_free) struct uidset changed = UIDSET_INIT;
    AUTO(uidset_free) struct uidset named = UIDSET_INIT;
    modseq_t since = 0;
    struct mailbox mb;

    enum errcode rc = snap_living_modseq(snap, s->cmd->since, &since, err);
    if (rc == ERR_OK)
        rc = snap_mailbox(snap, s->sel->id, &s->arena, &mb, err);
    if (rc == ERR_OK)
        rc = changed_since(snap, s->sel->id, since, &changed, err);
    if (rc != ERR_OK)
        return rc;
    uidset_intersect(&job->all, &changed);
    if (!s->cmd->vanished)
        return ERR_OK;
    /* The syntax was checked; of "$" nothing has gone that it stands for. */
    if (!uidset_parse(s->cmd->set, seqmap_last_uid(&s->sel->map),
                      IMAP_RANGES_MAX, &named))
        uidset_add_set(&named, &s->sel->saved);
    return tell_vanished(s, snap, &mb, since, &named, err);
}

/* RFC 9394, 3.3: of the messages named, before CHANGEDSINCE leaves out some
 * (3.4). */
static void
only_partial(const struct imap_command *cmd, struct uidset *all)
{
    AUTO(uidset_free) struct uidset some = UIDSET_INIT;
    uint64_t from, to, i = 0; /* how many lie before a range */

    search_partial_range(cmd, uidset_count(all), &from, &to);
    for (size_t k = 0; k < all->n && i < to; k++) {
        const struct uidrange *r = &all->r[k];
        const uint64_t n = (uint64_t)r->last - r->first + 1;
        const uint64_t first = MAX(i, from), end = MIN(i + n, to);
        if (first < end)
            uidset_add(&some, r->first + (uint32_t)(first - i),
                       r->first + (uint32_t)(end - 1 - i));
        i += n;
    }
    uidset_intersect(all, &some);
}

enum run
cmd_fetch(struct imap_session *s)
{
    struct fetch_job *job = arena_alloc(&s->arena, sizeof(*job));
    bool may_set = !s->sel->readonly && (s->sel->rights & ACL_SEEN) != 0 &&
                   store_role(s->store) == ROLE_MASTER;
    bool reads = false; /* of the messages themselves */

    s->job = job;
    s->job_end = fetch_end;
    if (!resolve_set(s, s->cmd->set, s->cmd->uid, &job->all))
        return RUN_DONE;
    if (s->cmd->partial_from != 0)
        only_partial(s->cmd, &job->all);
    limit_messages(s, &job->all);
    job->kept = arena_array(&s->arena, s->cmd->nitems, sizeof(job->kept[0]));
    for (size_t i = 0; i < s->cmd->nitems; i++) {
        const struct imap_fetch_item *item = &s->cmd->items[i];
        job->kept[i] = is_kept(item);
        bool section =
            item->what == FETCH_SECTION || item->what == FETCH_BINARY;
        reads |= item->what == FETCH_SECTION && !job->kept[i];
        job->has_uid |= item->what == FETCH_UID;
        job->has_flags |= item->what == FETCH_FLAGS;
        job->has_modseq |= item->what == FETCH_MODSEQ;
        job->sets_seen |= section && !item->peek && may_set;
        job->needs_cache |=
            item->what == FETCH_ENVELOPE || item->what == FETCH_BODY ||
            item->what == FETCH_BODYSTRUCTURE ||
            item->what == FETCH_BINARY_SIZE || item->what == FETCH_PREVIEW ||
            (item->what == FETCH_ANNOTATION &&
             annot_names_part(&item->annot)) ||
            (section && item->section.n > 0);
    }
    if (reads && uidset_count(&job->all) >= AHEAD_FROM)
        job->ahead = ahead_begin(s);
    if (s->cmd->vanished && !s->qresync)
        return reply(s, "BAD QRESYNC is not enabled");
    if (job->has_modseq || s->cmd->has_since)
        enable_condstore(s);
    struct error err = {0};
    if (s->cmd->has_since && only_changed(s, job, &err) != ERR_OK)
        return reply_error(s, &err);
    s->run = fetch_next;
    return fetch_next(s);
}
