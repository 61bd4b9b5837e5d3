/*
 * csync/push_roll.c - sync_client -r by state: from the records of our log to
 * whom and what to bring level at the peer, again and again.
 *
 * The log is read like a shipper reads it, by a channel with a slot.  What
 * comes until there is no more, or for a while, is gathered: mailboxes by
 * number, users by name, each once, however often it changed.  Then they are
 * brought level, a mailbox that fails with its owner's all, and only then does
 * the slot move on: a crash in between does it again, which changes nothing.
 *
 * A user who cannot be brought level is parked: tried again each minute, named
 * in the slot's text, while the others go on.  Parked users are not in the log
 * any more once the slot has moved on, so before that an end of the process
 * leaves the slot where it was.
 */
#include "csync/push_private.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/names.h"
#include "store/record.h"
#include "synclog/mark.h"
#include "synclog/reader.h"

#define READ_BYTES (4U << 20)
#define GATHER_MAX 2000U /* mailboxes and users of one round */
#define RETRY_MS 60000U
#define BACKOFF_FIRST_MS 100U
#define BACKOFF_MAX_MS 5000U
#define IDS_PER_ASK 500U
#define PARKED_MAX 1000U

struct set { /* of names */
    const char **v;
    size_t n, cap;
};

struct ids { /* of mailboxes */
    mbid_t *v;
    size_t n, cap;
};

struct roll {
    struct push *p;
    const struct synclog_mark *mark;
    struct synclog_slot *slot;
    struct arena arena; /* of a round */
    struct ids ids;
    struct ids shown;   /* of those, what others may see now, or not any more */
    struct set users;   /* all of them */
    struct set metas;   /* only META */
    struct set shared;  /* mailboxes that nobody owns: internal names */
    struct set owned;   /* the others */
    struct set removed; /* users that lost what a rename or a purge took */
    bool server;        /* its annotations */
    bool purged;        /* a mailbox went for good */
    struct arena parked_arena;
    struct set parked;
    uint64_t retry_ms;
};

static uint64_t
now_ms(const struct roll *r)
{
    return env_mono_ns(r->p->o->ship->env) / 1000000;
}

static void
set_state(struct roll *r, enum slot_state state, const char *text)
{
    slot_set_state(r->slot, state, text, env_wall_us(r->p->o->ship->env));
}

/* ---- what a record is about ---------------------------------------------- */

static void
add(struct set *s, struct arena *a, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->v[i], name) == 0)
            return;
    if (s->n == s->cap) {
        s->cap = s->cap * 2 + 16;
        s->v = xrealloc(s->v, s->cap * sizeof(*s->v));
    }
    s->v[s->n++] = arena_str(a, span_str(name));
}

static void
add_id(struct ids *ids, mbid_t id)
{
    for (size_t i = ids->n; i > 0; i--) /* the last ones are the likely ones */
        if (ids->v[i - 1] == id)
            return;
    if (ids->n == ids->cap) {
        ids->cap = ids->cap * 2 + 64;
        ids->v = xrealloc(ids->v, ids->cap * sizeof(*ids->v));
    }
    ids->v[ids->n++] = id;
}

static void
add_owner_of(struct roll *r, const char *name)
{
    const char *owner = name_owner(name, &r->arena);

    if (owner != NULL)
        add(&r->users, &r->arena, owner);
}

#define DECODE(kind)                                                           \
    struct rec_##kind rec;                                                     \
    enum errcode rc =                                                          \
        rec_##kind##_decode(record->body, record->version, a, &rec, err);      \
    if (rc != ERR_OK)                                                          \
        return rc;

static enum errcode
note_rename(struct roll *r, const struct record *record, struct arena *a,
            struct error *err)
{
    DECODE(rename)
    for (size_t i = 0; i < rec.n; i++) {
        add_id(&r->ids, rec.moves[i].id);
        add_id(&r->shown, rec.moves[i].id);
        add_owner_of(r, rec.moves[i].name);
    }
    if (rec.user_from[0] != '\0') {
        add(&r->users, &r->arena, rec.user_from);
        add(&r->removed, &r->arena, rec.user_from);
    }
    if (rec.user_to[0] != '\0')
        add(&r->users, &r->arena, rec.user_to);
    return ERR_OK;
}

static enum errcode
note_others(struct roll *r, const struct record *record, struct arena *a,
            struct error *err)
{
    if (record->type == REC_USER) {
        DECODE(user)
        add(&r->metas, &r->arena, rec.user);
        return rc;
    }
    if (record->type == REC_QUOTA) {
        DECODE(quota)
        add_owner_of(r, rec.root);
        return rc;
    }
    if (record->type == REC_SEEN) {
        DECODE(seen)
        add_id(&r->ids, rec.id);
        add(&r->metas, &r->arena, rec.user);
        return rc;
    }
    DECODE(annot)
    if (rec.id == 0)
        r->server = true;
    else
        add_id(&r->ids, rec.id);
    return ERR_OK;
}

/* Whoever has seen something in it before the right came, or came back: META
 * named it not, and nothing else does. */
static enum errcode
note_set(struct roll *r, const struct record *record, struct arena *a,
         struct error *err)
{
    DECODE(set)
    add_id(&r->ids, rec.id);
    if ((rec.fields & (SET_ACL | SET_OPTIONS)) != 0)
        add_id(&r->shown, rec.id);
    return ERR_OK;
}

/* The mailbox number is the first field of all these. */
static enum errcode
note_mailbox(struct roll *r, const struct record *record, struct error *err)
{
    struct rd rd = rd_init(record->body);
    const mbid_t id = rd_varint(&rd);

    if (rd.bad)
        return error_set(err, ERR_CORRUPT, "a record without a mailbox");
    add_id(&r->ids, id);
    return ERR_OK;
}

static enum errcode
note_record(struct roll *r, const struct record *record, struct arena *a,
            struct error *err)
{
    switch ((enum record_type)record->type) {
    case REC_MAILBOX:
        add_id(&r->ids, record->lsn);
        return ERR_OK;
    case REC_RENAME:
        return note_rename(r, record, a, err);
    case REC_SET:
        return note_set(r, record, a, err);
    case REC_APPEND:
    case REC_FLAGS:
    case REC_EXPUNGE:
    case REC_PURGE:
    case REC_UNEXPUNGED:
    case REC_ROWS:
    case REC_HEAD:
        return note_mailbox(r, record, err);
    case REC_USER:
    case REC_QUOTA:
    case REC_SEEN:
    case REC_ANNOT:
        return note_others(r, record, a, err);
    case REC_EPOCH:
    case REC_BODY:
    case REC_FORGET:
        return ERR_OK;
    }
    return error_set(err, ERR_VERSION, "a record of unknown type %u",
                     record->type);
}

static enum errcode
note_frames(struct roll *r, struct span frames, struct error *err)
{
    struct arena a = ARENA_INIT;
    enum errcode rc = ERR_OK;

    while (rc == ERR_OK && frames.n > 0) {
        struct frame_head head;
        struct span payload;
        struct record record;
        size_t used = 0, pos = 0;
        if (frame_decode(frames, &head, &payload, &used) != PARSE_DONE) {
            rc = error_set(err, ERR_CORRUPT, "the log has a bad frame");
            break;
        }
        while (rc == ERR_OK && frame_next_record(&head, payload, &pos, &record))
            rc = note_record(r, &record, &a, err);
        arena_reset(&a);
        frames = span_skip(frames, used);
    }
    arena_free(&a);
    return rc;
}

/* ---- names of mailboxes -------------------------------------------------- */

static enum errcode
take_mbid(void *ctx, const struct dlist *d, struct error *err)
{
    struct roll *r = ctx;
    const char *name;

    (void)err;
    if (!span_eq_nocase_str(d->name, "MBID") ||
        !dlist_get_str(d, "MBOXNAME", &r->arena, &name))
        return ERR_OK;
    add(name_owner(name, &r->arena) == NULL ? &r->shared : &r->owned, &r->arena,
        name);
    return ERR_OK;
}

static enum errcode
take_reader(void *ctx, const struct dlist *d, struct error *err)
{
    struct roll *r = ctx;

    (void)err;
    if (!span_eq_nocase_str(d->name, "SEERS"))
        return ERR_OK;
    for (const struct dlist *c = d->child; c != NULL; c = c->next)
        add(&r->metas, &r->arena, arena_str(&r->arena, c->text));
    return ERR_OK;
}

static enum errcode
ask_ids(struct roll *r, const char *verb, const struct ids *ids,
        const struct sync_answer *a, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t at = 0; at < ids->n && rc == ERR_OK; at += IDS_PER_ASK) {
        AUTO(buf_free) struct buf line = BUF_INIT;
        buf_addf(&line, "GET %s (", verb);
        for (size_t i = at; i < MIN(at + IDS_PER_ASK, ids->n); i++)
            buf_addf(&line, "%s%" PRIu64, i > at ? " " : "", ids->v[i]);
        buf_add_byte(&line, ')');
        rc = peer_command(r->p->src, buf_span(&line), a, err);
    }
    return rc;
}

static enum errcode
ask_names(struct roll *r, struct error *err)
{
    const struct sync_answer boxes = {.ctx = r, .line = take_mbid};
    const struct sync_answer readers = {.ctx = r, .line = take_reader};

    enum errcode rc = ask_ids(r, "MBIDS", &r->ids, &boxes, err);
    return rc == ERR_OK ? ask_ids(r, "READERS", &r->shown, &readers, err) : rc;
}

/* ---- a round --------------------------------------------------------------
 */

static bool
is_lost(const struct roll *r)
{
    return peer_is_broken(r->p->src) || peer_is_broken(r->p->dst) ||
           push_stopped(r->p);
}

static void
park(struct roll *r, const char *user, const struct error *err)
{
    char text[200];

    if (r->parked.n < PARKED_MAX)
        add(&r->parked, &r->parked_arena, user);
    log_warn(&r->p->log, "push.parked", "user=\"%s\" code=%s why=\"%s\"", user,
             errcode_name(err->code), err->text);
    snprintf(text, sizeof(text), "%zu users parked, the last one %.60s: %.100s",
             r->parked.n, user, err->text);
    set_state(r, SLOT_STREAMING, text);
}

static enum errcode
level_user(struct roll *r, const char *user, struct error *err)
{
    struct error why = {0};

    enum errcode rc = push_one_user(r->p, user, r->p->o->remove_extra, &why);
    if (rc == ERR_OK)
        return rc;
    *err = why;
    if (is_lost(r) || rc == ERR_READONLY || rc == ERR_FENCED)
        return rc;
    park(r, user, &why);
    return ERR_OK;
}

static bool
has(const struct set *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->v[i], name) == 0)
            return true;
    return false;
}

/* Those of users who are not brought level as a whole anyway; one that fails
 * makes its owner so. */
static enum errcode
level_owned(struct roll *r, struct error *err)
{
    for (size_t i = 0; i < r->owned.n; i++) {
        const char *name = r->owned.v[i];
        const char *owner = name_owner(name, &r->arena);
        struct error why = {0};
        if (owner == NULL || has(&r->users, owner) || has(&r->parked, owner))
            continue;
        enum errcode rc = push_mailboxes(r->p, &name, 1, &why);
        if (rc == ERR_OK)
            continue;
        if (is_lost(r) || rc == ERR_READONLY || rc == ERR_FENCED) {
            *err = why;
            return rc;
        }
        add(&r->users, &r->arena, owner);
    }
    return ERR_OK;
}

static enum errcode
level_shared(struct roll *r, struct error *err)
{
    for (size_t i = 0; i < r->shared.n; i++) {
        struct error why = {0};
        enum errcode rc = push_mailboxes(r->p, &r->shared.v[i], 1, &why);
        if (rc == ERR_OK)
            continue;
        *err = why;
        if (is_lost(r) || rc == ERR_READONLY || rc == ERR_FENCED)
            return rc;
        push_complain(r->p, "mailbox", r->shared.v[i], &why);
    }
    return ERR_OK;
}

/* Users that are gone here: what is left of them there goes too, unless it is
 * mail. */
static enum errcode
level_removed(struct roll *r, struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < r->removed.n && rc == ERR_OK; i++) {
        struct push_user here = {0}, there = {0};
        AUTO(buf_free) struct buf line = BUF_INIT;
        struct dlist_printer pr;
        size_t live = 0;
        rc = push_ask(r->p->src, &here, err, "USER", r->removed.v[i]);
        if (rc == ERR_OK)
            rc = push_ask(r->p->dst, &there, err, "USER", r->removed.v[i]);
        for (size_t k = 0; k < here.mailboxes.n; k++)
            live += strncmp(here.mailboxes.v[k].name, "DELETED.", 8) != 0;
        for (size_t k = 0; k < there.mailboxes.n; k++)
            live += strncmp(there.mailboxes.v[k].name, "DELETED.", 8) != 0;
        push_user_free(&here);
        push_user_free(&there);
        if (rc != ERR_OK || live > 0)
            continue;
        buf_add_str(&line, "APPLY ");
        dlist_print_begin(&pr, &line, DLIST_CLIENT);
        dlist_str(&pr, "UNUSER", r->removed.v[i]);
        rc = peer_command(r->p->dst, buf_span(&line), NULL, err);
    }
    return rc;
}

static enum errcode
level_metas(struct roll *r, struct error *err)
{
    for (size_t i = 0; i < r->metas.n; i++) {
        const char *user = r->metas.v[i];
        struct error why = {0};
        if (has(&r->users, user) || has(&r->parked, user))
            continue;
        enum errcode rc = push_meta(r->p, user, &why);
        if (rc == ERR_OK)
            continue;
        *err = why;
        if (is_lost(r) || rc == ERR_READONLY || rc == ERR_FENCED)
            return rc;
        add(&r->users, &r->arena, user);
    }
    return ERR_OK;
}

/* All that was gathered. */
static enum errcode
level_round(struct roll *r, struct error *err)
{
    enum errcode rc = ask_names(r, err);
    if (rc == ERR_OK)
        rc = level_owned(r, err);
    if (rc == ERR_OK)
        rc = level_shared(r, err);
    if (rc == ERR_OK)
        rc = level_metas(r, err);
    for (size_t i = 0; i < r->users.n && rc == ERR_OK; i++)
        if (!has(&r->parked, r->users.v[i]))
            rc = level_user(r, r->users.v[i], err);
    if (rc == ERR_OK)
        rc = level_removed(r, err);
    if (rc == ERR_OK && r->server)
        rc = push_server_annotations(r->p, err);
    return rc;
}

static void
forget_round(struct roll *r)
{
    r->ids.n = r->shown.n = 0;
    r->users.n = r->metas.n = r->shared.n = r->owned.n = r->removed.n = 0;
    r->server = false;
    arena_reset(&r->arena);
}

static enum errcode
retry_parked(struct roll *r, struct error *err)
{
    struct set old = r->parked;
    struct arena a = r->parked_arena;
    enum errcode rc = ERR_OK;

    if (old.n == 0 || now_ms(r) < r->retry_ms)
        return ERR_OK;
    r->retry_ms = now_ms(r) + RETRY_MS;
    r->parked = (struct set){0};
    r->parked_arena = (struct arena)ARENA_INIT;
    for (size_t i = 0; i < old.n; i++) {
        if (rc == ERR_OK)
            rc = level_user(r, old.v[i], err);
        if (rc != ERR_OK)
            add(&r->parked, &r->parked_arena, old.v[i]);
    }
    if (r->parked.n == 0)
        set_state(r, SLOT_STREAMING, "");
    free(old.v);
    arena_free(&a);
    return rc;
}

static void
rest(struct roll *r, uint64_t ms)
{
    for (uint64_t slept = 0; slept < ms && !push_stopped(r->p); slept += 50)
        (void)poll(NULL, 0, 50);
}

/* ---- following ------------------------------------------------------------
 */

static void
acknowledge(struct roll *r, lsn_t lsn, uint64_t time_us)
{
    struct error err = {0};
    const uint64_t wall = env_wall_us(r->p->o->ship->env);

    atomic_store(&r->slot->sent_lsn, lsn);
    atomic_store(&r->slot->received_lsn, lsn);
    atomic_store(&r->slot->durable_lsn, lsn);
    atomic_store(&r->slot->applied_lsn, lsn);
    atomic_store(&r->slot->ack_wall_us, wall);
    if (time_us != 0 && wall > time_us)
        atomic_store(&r->slot->lag_us, wall - time_us);
    if (slot_sync(r->slot, &err) != ERR_OK)
        log_warn(&r->p->log, "push.slot", "why=\"%s\"", err.text);
}

/* A record is durable a moment before what it did can be read: wait for that,
 * or what is asked for now is without it.  False: told to stop, or the instance
 * is gone. */
static bool
wait_applied(struct roll *r, lsn_t lsn)
{
    for (;;) {
        const uint32_t seq = atomic_load(&r->mark->seq);
        if (atomic_load(&r->mark->applied_lsn) >= lsn)
            return true;
        if (push_stopped(r->p) || atomic_load(&r->mark->writer_pid) == 0)
            return false;
        (void)mark_wait(r->mark, seq, 5);
    }
}

/* From the slot's LSN on until told to stop; GOAL not 0: until it is reached.
 */
static enum errcode
follow(struct roll *r, lsn_t goal, struct error *err)
{
    struct synclog_reader *reader = NULL;
    lsn_t at = atomic_load(&r->slot->durable_lsn);
    uint64_t time_us = 0;

    enum errcode rc = reader_open(r->p->o->ship->env, r->p->o->ship->log_dir,
                                  r->mark, at, &reader, err);
    if (rc != ERR_OK)
        return rc;
    set_state(r, SLOT_STREAMING, "");
    while (rc == ERR_OK && !push_stopped(r->p)) {
        const uint32_t seq = atomic_load(&r->mark->seq);
        struct span frames = SPAN_EMPTY;
        lsn_t last = at;
        if (atomic_load(&r->mark->role) != ROLE_MASTER ||
            atomic_load(&r->mark->writer_pid) == 0) {
            rc = error_set(err, ERR_READONLY,
                           "this instance is not the master any more");
            break;
        }
        rc = reader_next(reader, READ_BYTES, &frames, &last, &time_us, err);
        if (rc == ERR_OK && frames.n > 0) {
            rc = note_frames(r, frames, err);
            at = last;
            if (r->ids.n + r->users.n + r->metas.n < GATHER_MAX)
                continue; /* there may be more */
        }
        if (rc == ERR_OK && at > atomic_load(&r->slot->durable_lsn)) {
            if (!wait_applied(r, at))
                continue;
            rc = level_round(r, err);
            if (rc == ERR_OK) {
                acknowledge(r, at, time_us);
                forget_round(r);
                rest(r, (uint64_t)r->p->o->delay_s * 1000);
                continue;
            }
        }
        if (rc == ERR_OK)
            rc = retry_parked(r, err);
        if (rc != ERR_OK || (goal != 0 && at >= goal))
            break;
        (void)mark_wait(r->mark, seq, 200);
    }
    forget_round(r);
    reader_close(&reader);
    return rc;
}

/* The first time, and where the log does not go back far enough: everybody. */
static enum errcode
start_from_all(struct roll *r,
               enum errcode (*all)(struct push *p, struct error *err),
               struct error *err)
{
    const lsn_t from = atomic_load(&r->mark->applied_lsn);

    set_state(r, SLOT_SEEDING, "everybody is brought level");
    enum errcode rc = all(r->p, err);
    if (rc == ERR_OK)
        acknowledge(r, from, 0);
    return rc;
}

static enum errcode
converse(struct roll *r,
         enum errcode (*connect)(struct push *p, struct error *err),
         enum errcode (*all)(struct push *p, struct error *err),
         struct error *err)
{
    const lsn_t goal =
        r->p->o->mode == PUSH_ONCE ? atomic_load(&r->mark->durable_lsn) : 0;

    set_state(r, SLOT_CONNECTING, "");
    enum errcode rc = connect(r->p, err);
    if (rc != ERR_OK)
        return rc;
    if (atomic_load(&r->slot->durable_lsn) == 0)
        rc = start_from_all(r, all, err);
    if (rc == ERR_OK)
        rc = follow(r, goal, err);
    if (rc == ERR_GAP && !is_lost(r)) {
        log_warn(&r->p->log, "push.gap", "why=\"%s\" then=\"%s\"", err->text,
                 "everybody is brought level");
        rc = start_from_all(r, all, err);
        if (rc == ERR_OK)
            rc = follow(r, goal, err);
    }
    return rc;
}

enum errcode
push_rolling(struct push *p,
             enum errcode (*connect)(struct push *p, struct error *err),
             enum errcode (*all)(struct push *p, struct error *err),
             struct error *err)
{
    const struct ship_options *o = p->o->ship;
    struct roll r = {.p = p};
    uint64_t backoff = BACKOFF_FIRST_MS;

    enum errcode rc = slot_attach(o->log_dir, o->channel, true, &r.slot, err);
    if (rc != ERR_OK)
        return rc;
    atomic_store(&r.slot->consumer_pid, (uint32_t)getpid());
    atomic_store(&r.slot->by_state, 1);
    while (!push_stopped(p)) {
        struct error why = {0};
        mark_detach(&r.mark);
        rc = mark_attach(o->log_dir, &r.mark, &why);
        if (rc == ERR_OK && (atomic_load(&r.mark->writer_pid) == 0 ||
                             atomic_load(&r.mark->role) != ROLE_MASTER))
            rc = error_set(&why, ERR_READONLY,
                           "this instance is not the master");
        if (rc == ERR_OK)
            rc = converse(&r, connect, all, &why);
        if (rc == ERR_OK || push_stopped(p)) {
            rc = ERR_OK;
            break;
        }
        if (p->o->mode == PUSH_ONCE || o->connect_once) {
            *err = why;
            break;
        }
        log_warn(&p->log, "push.again",
                 "code=%s again_ms=%" PRIu64 " why=\"%s\"", errcode_name(rc),
                 backoff, why.text);
        set_state(&r, rc == ERR_READONLY ? SLOT_WAITING : SLOT_CONNECTING,
                  why.text);
        rest(&r, backoff);
        backoff = MIN(backoff * 2, (uint64_t)BACKOFF_MAX_MS);
        if (p->dst != NULL && !peer_is_broken(p->dst))
            backoff = BACKOFF_FIRST_MS;
    }
    set_state(&r, SLOT_DOWN, "");
    atomic_store(&r.slot->consumer_pid, 0);
    slot_detach(&r.slot);
    mark_detach(&r.mark);
    free(r.ids.v);
    free(r.shown.v);
    free(r.users.v);
    free(r.metas.v);
    free(r.shared.v);
    free(r.owned.v);
    free(r.removed.v);
    free(r.parked.v);
    arena_free(&r.arena);
    arena_free(&r.parked_arena);
    return rc;
}
