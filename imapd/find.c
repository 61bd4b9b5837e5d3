/*
 * imapd/find.c - search keys (RFC 3501, 6.4.4; 5032, 7162, 8474, 8514): a walk
 * over the rows of one snapshot, some at a time.  Keys that only need the row
 * come first; headers and bodies are read only for messages that are still in
 * question.
 */
#include "imapd/find.h"

#include "imapd/annotate.h"

#include "mime/date.h"
#include "mime/text.h"

/* What one turn may cost: a row is 1, reading a message is more. */
#define TURN_COST 4000U
#define CACHE_COST 4U
#define BODY_COST 100U
/* Of a message that has all words, but not as they were given (RFC 6203, 4). */
#define FUZZY_RELEVANCE 50U
/* Passing over so many rows costs as much as a jump. */
#define SEEK_FROM 16U

/* ---- what a key may need ----------------------------------------------- */

bool
find_row(struct imap_session *s, struct finder *f)
{
    if (f->has_row)
        return true;
    arena_reset(&f->arena);
    f->has_row = snap_message(f->snap, s->sel->id, f->msg.uid, &f->arena,
                              &f->msg, &f->err) == ERR_OK;
    return f->has_row;
}

bool
find_cache(struct imap_session *s, struct finder *f)
{
    if (f->has_cache)
        return f->cache_ok;
    f->has_cache = true;
    f->cache_ok = false;
    if (!find_row(s, f))
        return false;
    if (f->caches == NULL)
        f->caches = snap_cache_walk(f->snap, s->sel->id);
    f->cost += CACHE_COST;
    f->cache_ok = have_cache(f->snap, f->caches, s->sel->id, &f->msg, &f->cache,
                             &f->mime);
    if (f->cache_ok)
        return true;
    f->cost += BODY_COST;
    f->cache_ok = make_cache(s, s->sel->id, &f->msg, &f->cache, &f->mime,
                             &f->err) == ERR_OK;
    return f->cache_ok;
}

bool
find_keys(struct imap_session *s, struct finder *f, struct message_keys *ret)
{
    if (keys_find(&f->keys, s->store, f->snap, s->sel->id, f->msg.uid, ret))
        return true;
    if (!find_cache(s, f))
        return false;
    keys_add(&f->keys, f->msg.uid, &f->mime, ret);
    return true;
}

/* The message's bytes, of which only what is asked for is read. */
static struct mime_source
need_source(struct imap_session *s, struct finder *f)
{
    if (!f->has_source) {
        f->has_source = true;
        f->cost += BODY_COST;
        stored_source_set(&f->source, s->store, &f->msg.guid, f->msg.size);
    }
    return stored_source(&f->source);
}

static struct span
need_header(struct imap_session *s, struct finder *f)
{
    struct mime_section where;
    struct span header = SPAN_EMPTY;

    if (!find_cache(s, f) ||
        mime_section_find(&f->mime, SPAN_LIT("HEADER"), &where) != ERR_OK)
        return SPAN_EMPTY;
    const struct mime_source src = need_source(s, f);
    if (where.bytes > 0 && !src.read(src.ctx, where.off, where.bytes, &header))
        f->err = f->source.err;
    return header;
}

bool
find_own_keys(struct imap_session *s, struct finder *f,
              struct message_keys *ret)
{
    if (!find_cache(s, f))
        return false;
    keys_make(&f->keys, &f->mime, ret);
    return true;
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
    case SEARCH_FUZZY:
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
    case SEARCH_MODSEQ:
    case SEARCH_OLDER:
    case SEARCH_YOUNGER:
    case SEARCH_SAVEDBEFORE:
    case SEARCH_SAVEDON:
    case SEARCH_SAVEDSINCE:
    case SEARCH_EMAILID:
    case SEARCH_ANNOTATION:
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

/* SAVEDATE has no zone of its own: UTC. */
static int32_t
saved_day(const struct message *msg)
{
    const struct mime_date date = {msg->saved_s, 0};
    return mime_date_day(date);
}

static bool
is_emailid(struct span text, const struct guid *guid)
{
    char hex[GUID_TEXT_BYTES];

    return text.n == 1 + 2 * GUID_BYTES && text.p[0] == 'M' &&
           span_eq_str(span_skip(text, 1), guid_text(guid, hex));
}

/* Compares by SEARCH_SENT*; a message without a date matches none. */
static bool
match_sent(struct imap_session *s, struct finder *f,
           const struct imap_search *node)
{
    if (!find_cache(s, f) || (f->mime.flags & MIME_CACHE_DATED) == 0)
        return false;
    const struct mime_date date = {f->mime.sent_utc_s, f->mime.sent_zone_min};
    int32_t day = mime_date_day(date);
    return node->kind == SEARCH_SENTBEFORE ? day < node->day
           : node->kind == SEARCH_SENTON   ? day == node->day
                                           : day >= node->day;
}

static bool
match(struct imap_session *s, struct finder *f, const struct imap_search *node);

/* The cheap ones first. */
static bool
match_all(struct imap_session *s, struct finder *f,
          const struct imap_search *kids)
{
    for (int dear = 0; dear < 2; dear++)
        for (const struct imap_search *kid = kids; kid != NULL; kid = kid->next)
            if (is_dear(kid) == (dear == 1) && !match(s, f, kid))
                return false;
    return true;
}

static bool
match_text(struct imap_session *s, struct finder *f,
           const struct imap_search *node)
{
    enum mime_search_where where =
        node->kind == SEARCH_BODY ? MIME_SEARCH_BODY : MIME_SEARCH_TEXT;

    if (!find_cache(s, f))
        return false;
    const struct mime_source src = need_source(s, f);
    bool found = mime_source_search(&f->mime, &src, node->needle, where);
    if (f->source.err.code != ERR_OK)
        f->err = f->source.err;
    return found;
}

/* Take an nstring off the front of *IN, an ENVELOPE that we wrote; UNQUOTED
 * gets its bytes. */
static bool
take_nstring(struct span *in, struct buf *unquoted)
{
    struct span s = *in;
    size_t at = 1;

    buf_clear(unquoted);
    if (span_starts(s, SPAN_LIT("NIL"))) {
        *in = span_skip(s, 3);
        return true;
    }
    if (s.n == 0)
        return false;
    if (s.p[0] == '{') {
        uint32_t n = 0;
        ptrdiff_t end = span_find_byte(s, '}', 0);
        if (end < 0 || !parse_u32(span_sub(s, 1, (size_t)end - 1), &n))
            return false;
        s = span_skip(s, (size_t)end + 3);
        buf_add(unquoted, span_sub(s, 0, n));
        *in = span_skip(s, n);
        return true;
    }
    if (s.p[0] != '"')
        return false;
    for (; at < s.n && s.p[at] != '"'; at++) {
        if (s.p[at] == '\\')
            at++;
        if (at < s.n)
            buf_add_byte(unquoted, s.p[at]);
    }
    *in = span_skip(s, at + 1);
    return true;
}

static bool
match_subject(struct imap_session *s, struct finder *f,
              const struct imap_search *node)
{
    if (!find_cache(s, f))
        return false;
    struct span left =
        span_skip(f->mime.envelope, 1); /* "(" date " " subject */
    if (!take_nstring(&left, &f->scratch) || left.n == 0)
        return false;
    left = span_skip(left, 1);
    if (span_starts(left, SPAN_LIT("NIL")) || !take_nstring(&left, &f->scratch))
        return false;
    buf_clear(&f->decoded);
    mime_header_decode(buf_span(&f->scratch), &f->decoded);
    return mime_needle_in(node->needle, buf_span(&f->decoded));
}

/* HEADER, BODY, TEXT: by the index where it knows the message. */
static bool
match_words(struct imap_session *s, struct finder *f,
            const struct imap_search *node)
{
    if (node->has_hits && uidset_has(&f->covered, f->msg.uid)) {
        if (!uidset_has(&node->hits, f->msg.uid))
            return false;
        if (node->exact)
            return true;
    }
    if (node->kind != SEARCH_HEADER)
        return match_text(s, f, node);
    /* RFC 9051, 6.4.4: SUBJECT is the envelope's, which is at hand. */
    if (node->want && span_eq_str(node->name, "Subject"))
        return match_subject(s, f, node);
    return mime_header_search(need_header(s, f), node->name, node->needle);
}

static bool
match(struct imap_session *s, struct finder *f, const struct imap_search *node)
{
    const struct message *msg = &f->msg;
    bool recent = uidset_has(&s->sel->recent, msg->uid);

    switch (node->kind) {
    case SEARCH_ALL:
        return true;
    case SEARCH_AND:
        return match_all(s, f, node->kids);
    case SEARCH_OR:
        return match(s, f, node->kids) || match(s, f, node->kids->next);
    case SEARCH_NOT:
        return !match(s, f, node->kids);
    case SEARCH_FUZZY:
        if (match(s, f, node->kids))
            return true;
        if (!match(s, f, node->kids->next))
            return false;
        f->relevance = FUZZY_RELEVANCE;
        return true;
    case SEARCH_FLAG:
        return ((flags_seen(s, msg) & node->flag) != 0) == node->want;
    case SEARCH_KEYWORD:
        return has_keyword(msg, node->text) == node->want;
    case SEARCH_RECENT:
        return recent == node->want;
    case SEARCH_NEW:
        return recent && (flags_seen(s, msg) & FLAG_SEEN) == 0;
    case SEARCH_BEFORE:
        return arrival_day(msg) < node->day;
    case SEARCH_ON:
        return arrival_day(msg) == node->day;
    case SEARCH_SINCE:
        return arrival_day(msg) >= node->day;
    case SEARCH_SENTBEFORE:
    case SEARCH_SENTON:
    case SEARCH_SENTSINCE:
        return match_sent(s, f, node);
    case SEARCH_LARGER:
        return msg->size > node->number;
    case SEARCH_SMALLER:
        return msg->size < node->number;
    case SEARCH_HEADER:
    case SEARCH_BODY:
    case SEARCH_TEXT:
        return match_words(s, f, node);
    case SEARCH_MODSEQ:
        return msg->modseq >= node->number;
    case SEARCH_OLDER:
        return msg->internal_s <= f->now_s - (int64_t)node->number;
    case SEARCH_YOUNGER:
        return msg->internal_s >= f->now_s - (int64_t)node->number;
    case SEARCH_SAVEDBEFORE:
        return saved_day(msg) < node->day;
    case SEARCH_SAVEDON:
        return saved_day(msg) == node->day;
    case SEARCH_SAVEDSINCE:
        return saved_day(msg) >= node->day;
    case SEARCH_EMAILID:
        return is_emailid(node->text, &msg->guid);
    case SEARCH_ANNOTATION:
        return match_annotation(s, f->snap, msg, node);
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
    return kind == SEARCH_HEADER || kind == SEARCH_BODY ||
           kind == SEARCH_TEXT || kind == SEARCH_ANNOTATION;
}

/* RFC 7377, 2: a number beyond the end of the mailbox is no error here. */
static void
name_messages(struct imap_session *s, struct imap_search *node)
{
    const struct seqmap *map = &s->sel->map;
    const uint32_t count = seqmap_count(map);
    AUTO(uidset_free) struct uidset seqs = UIDSET_INIT;

    if (node->kind == SEARCH_UIDS || span_eq_str(node->text, "$")) {
        bool ok = resolve_set(s, node->text, true, &node->set);
        ENSURE(ok);
        return;
    }
    /* The syntax was checked; "*" of an empty mailbox names nothing. */
    bool ok = uidset_parse(node->text, count, IMAP_RANGES_MAX, &seqs);
    ENSURE(ok);
    if (count < UINT32_MAX)
        uidset_remove(&seqs, count + 1, UINT32_MAX);
    ok = seqmap_resolve(map, &seqs, &node->set);
    ENSURE(ok);
}

/* Sets become UIDs, texts become needles.  False: the reply is set. */
static bool
prepare(struct imap_session *s, struct imap_search *node)
{
    for (; node != NULL; node = node->next) {
        if (node->kind == SEARCH_SEQS && s->uidonly &&
            !span_eq_str(node->text, "$")) { /* RFC 9586, 3.1 */
            reply(s, "BAD [UIDREQUIRED] Only UIDs, please");
            return false;
        }
        if (node->kind == SEARCH_UIDS || node->kind == SEARCH_SEQS) {
            name_messages(s, node);
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

static bool
asks_modseq(const struct imap_search *node)
{
    for (; node != NULL; node = node->next)
        if (node->kind == SEARCH_MODSEQ || asks_modseq(node->kids))
            return true;
    return false;
}

static void
free_needles(struct imap_search *node)
{
    for (; node != NULL; node = node->next) {
        mime_needle_free(&node->needle);
        uidset_free(&node->set);
        uidset_free(&node->hits);
        node->has_hits = false;
        free_needles(node->kids);
    }
}

static bool
asks_all(const struct imap_search *node)
{
    for (; node != NULL; node = node->next)
        if (node->kind != SEARCH_ALL &&
            (node->kind != SEARCH_AND || !asks_all(node->kids)))
            return false;
    return true;
}

/* A command about all messages, of which it compares what never changes. */
static bool
wants_no_rows(const struct imap_command *cmd)
{
    if (!asks_all(cmd->search))
        return false;
    if (cmd->cmd == CMD_THREAD)
        return cmd->thread != THREAD_REFS;
    for (size_t i = 0; i < cmd->nsort; i++)
        if (cmd->sort[i].what == SORT_ARRIVAL ||
            cmd->sort[i].what == SORT_SIZE ||
            cmd->sort[i].what == SORT_ANNOTATION)
            return false;
    return cmd->cmd == CMD_SORT;
}

/* Does the client know of just the messages that SNAP has? */
static bool
is_level(struct imap_session *s, struct store_snap *snap)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct error ignored = {0};
    struct mailbox mb;

    return s->sel->gone.n == 0 &&
           snap_mailbox(snap, s->sel->id, &a, &mb, &ignored) == ERR_OK &&
           mb.highestmodseq == s->sel->modseq &&
           mb.exists == seqmap_count(&s->sel->map);
}

bool
find_open(struct imap_session *s, struct finder *f)
{
    if (s->cmd->cmd == CMD_SEARCH && s->utf8_accept && s->cmd->charset.n > 0) {
        reply(s, "BAD With UTF8=ACCEPT there is no CHARSET"); /* RFC 6855, 3 */
        return false;
    }
    if (s->cmd->charset.n > 0 && !mime_charset_known(s->cmd->charset)) {
        reply(s, "NO [BADCHARSET (US-ASCII UTF-8)] Unknown charset");
        return false;
    }
    if (!prepare(s, s->cmd->search))
        return false;
    f->has_modseq = asks_modseq(s->cmd->search);
    if (f->has_modseq)
        enable_condstore(s);
    f->now_s = (int64_t)(env_wall_us(s->opt->env) / 1000000);
    f->snap = store_snapshot(s->store);
    f->id = s->sel->id;
    struct uidset all = UIDSET_INIT;
    for (uint32_t i = 0; i < s->sel->map.n; i++)
        uidset_add(&all, s->sel->map.r[i].first, s->sel->map.r[i].last);
    limit_messages(s, &all);
    s->progress_goal = uidset_count(&all);
    uidset_free(&all);
    const uint32_t from = MAX(s->limited_uid, 1U);
    f->by_map = wants_no_rows(s->cmd) && is_level(s, f->snap);
    if (f->by_map)
        f->msg.uid = from - 1;
    else
        f->it = snap_messages(f->snap, s->sel->id, from, false);
    return true;
}

void
find_open_again(struct imap_session *s, struct finder *f)
{
    const bool ok = prepare(s, s->cmd->search);

    ENSURE(ok);
    f->now_s = (int64_t)(env_wall_us(s->opt->env) / 1000000);
    f->snap = store_snapshot(s->store);
    f->id = s->sel->id;
}

void
find_stand_on(struct imap_session *s, struct finder *f,
              const struct message *msg)
{
    f->msg = *msg;
    f->seq = seqmap_seq(&s->sel->map, msg->uid);
    f->has_row = true;
    f->has_cache = f->has_source = false;
    f->relevance = 100;
}

bool
find_matches(struct imap_session *s, struct finder *f,
             const struct message *msg)
{
    find_stand_on(s, f, msg);
    return match(s, f, s->cmd->search);
}

void
find_close(struct imap_session *s, struct finder *f)
{
    struct error ignored = {0};

    if (f->it != NULL)
        (void)!msg_iter_close(&f->it, &ignored);
    cache_walk_close(&f->caches);
    keys_close(&f->keys, s->store, f->id);
    store_release(&f->snap);
    arena_free(&f->arena);
    buf_free(&f->cache);
    stored_source_free(&f->source);
    buf_free(&f->scratch);
    buf_free(&f->decoded);
    uidset_free(&f->covered);
    uidset_free(&f->may);
    free_needles(s->cmd->search);
}

/* To the next message that can match, where that is not the very next. */
static bool
skip_to_next(struct imap_session *s, struct finder *f)
{
    uint32_t next = uidset_next(&f->may, f->msg.uid + 1);

    if (next == 0)
        return false;
    if (next - f->msg.uid > SEEK_FROM)
        msg_iter_seek(f->it, s->sel->id, next);
    return true;
}

/* To the next message of the walk; false at its end. */
static bool
go_on(struct imap_session *s, struct finder *f)
{
    f->has_row = !f->by_map;
    if (f->by_map) {
        const uint32_t last = f->msg.uid;
        const uint32_t uid =
            last == UINT32_MAX ? 0 : seqmap_next(&s->sel->map, last + 1);
        f->msg = (struct message){.uid = uid};
        return uid != 0;
    }
    if (f->restricted && !skip_to_next(s, f))
        return false;
    return msg_iter_next(f->it, &f->msg);
}

enum find
find_next(struct imap_session *s, struct finder *f)
{
    for (; f->cost < TURN_COST; f->cost++) {
        if (!go_on(s, f))
            return FIND_END;
        f->seq = seqmap_seq(&s->sel->map, f->msg.uid);
        if (f->seq == 0) /* not told yet */
            continue;
        s->progress_done++;
        f->has_cache = f->has_source = false;
        f->relevance = 100;
        if (f->by_map || match(s, f, s->cmd->search)) {
            f->cost++;
            return FIND_HIT;
        }
    }
    f->cost = 0;
    return FIND_PAUSE;
}

enum errcode
find_result(struct finder *f, struct error *err)
{
    enum errcode rc = f->it == NULL ? ERR_OK : msg_iter_close(&f->it, err);

    if (rc == ERR_OK && (f->err.code == ERR_CORRUPT || f->err.code == ERR_IO)) {
        *err = f->err;
        rc = err->code;
    }
    return rc;
}
