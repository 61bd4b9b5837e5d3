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
 * in the slot's text, while the others go on; so is a mailbox that nobody owns,
 * and what the peer hangs up on again and again.  Who is parked is not in the
 * log any more once the slot has moved on, so that is written down before
 * (csync/parked.h).
 */
#include "csync/push_private.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "csync/parked.h"
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
/* A peer that hangs up on the same one so often in a row does so always. */
#define DEATHS_MAX 3U

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
    struct parked *parked;
    uint64_t retry_ms;
    enum parked_kind culprit_kind; /* at whom the peer hung up last */
    char *culprit;                 /* or NULL */
    unsigned deaths;               /* in a row */
    bool fence_at_start;
    enum errcode park_code; /* of start_from_all() */
    struct error park_err;
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

static bool
has(const struct set *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->v[i], name) == 0)
            return true;
    return false;
}

static bool
is_parked(const struct roll *r, const char *user)
{
    return parked_has(r->parked, PARKED_USER, user);
}

/* The slot's text: how many are parked, and why the last one is, if that is
 * known (WHY). */
static void
say_parked(struct roll *r, const char *why)
{
    char text[240] = "";
    size_t n = 0;
    const struct parked_item *items = parked_items(r->parked, &n);

    if (n > 0)
        snprintf(text, sizeof(text),
                 "%zu parked, the last one %s %.60s%s%.120s", n,
                 parked_kind_text(items[n - 1].kind), items[n - 1].name,
                 why[0] == '\0' ? "" : ": ", why);
    set_state(r, SLOT_STREAMING, text);
}

/* WHY it could not be brought level. */
static enum errcode
park(struct roll *r, enum parked_kind kind, const char *name,
     const struct error *why, struct error *err)
{
    const bool is_new = !parked_has(r->parked, kind, name);
    size_t n = 0;

    enum errcode rc = parked_add(r->parked, kind, name, err);
    if (rc != ERR_OK)
        return error_prefix(err, "%s %s: %s", parked_kind_text(kind), name,
                            why->text);
    if (is_new)
        log_warn(&r->p->log, "push.parked", "%s=\"%s\" code=%s why=\"%s\"",
                 parked_kind_text(kind), name, errcode_name(why->code),
                 why->text);
    (void)parked_items(r->parked, &n);
    if (is_new && n == 1)
        r->retry_ms = now_ms(r) + RETRY_MS;
    say_parked(r, why->text);
    return ERR_OK;
}

static bool
is_culprit(const struct roll *r, enum parked_kind kind, const char *name)
{
    return r->culprit != NULL && r->culprit_kind == kind &&
           strcmp(r->culprit, name) == 0;
}

static bool
is_deadly(const struct roll *r, enum parked_kind kind, const char *name)
{
    return r->deaths >= DEATHS_MAX && is_culprit(r, kind, name);
}

/* The connection went while this one was brought level. */
static void
note_death(struct roll *r, enum parked_kind kind, const char *name)
{
    if (!peer_is_broken(r->p->dst) || push_stopped(r->p))
        return;
    if (is_culprit(r, kind, name)) {
        r->deaths++;
        return;
    }
    xfree(&r->culprit);
    r->culprit = xstrdup(name);
    r->culprit_kind = kind;
    r->deaths = 1;
}

static void
forget_deaths(struct roll *r, enum parked_kind kind, const char *name)
{
    if (is_culprit(r, kind, name))
        xfree(&r->culprit);
}

/* No reason to go on with the others. */
static bool
ends_round(const struct roll *r, enum errcode rc)
{
    return is_lost(r) || rc == ERR_READONLY || rc == ERR_FENCED;
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
        if (owner == NULL || has(&r->users, owner) || is_parked(r, owner))
            continue;
        enum errcode rc = is_deadly(r, PARKED_USER, owner)
                              ? ERR_CLOSED
                              : push_mailboxes(r->p, &name, 1, &why);
        if (rc == ERR_OK)
            continue;
        if (ends_round(r, rc)) {
            note_death(r, PARKED_USER, owner);
            *err = why;
            return rc;
        }
        add(&r->users, &r->arena, owner);
    }
    return ERR_OK;
}

/* A user that is gone here: what is left of them there goes too, unless it is
 * mail. */
static enum errcode
level_gone(struct roll *r, const char *user, struct error *err)
{
    struct push_user here = {0}, there = {0};
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct dlist_printer pr;
    size_t live = 0;

    enum errcode rc = push_ask(r->p->src, &here, err, "USER", user);
    if (rc == ERR_OK)
        rc = push_ask(r->p->dst, &there, err, "USER", user);
    for (size_t k = 0; k < here.mailboxes.n; k++)
        live += strncmp(here.mailboxes.v[k].name, "DELETED.", 8) != 0;
    for (size_t k = 0; k < there.mailboxes.n; k++)
        live += strncmp(there.mailboxes.v[k].name, "DELETED.", 8) != 0;
    push_user_free(&here);
    push_user_free(&there);
    if (rc != ERR_OK || live > 0)
        return rc;
    buf_add_str(&line, "APPLY ");
    dlist_print_begin(&pr, &line, DLIST_CLIENT);
    dlist_str(&pr, "UNUSER", user);
    return peer_command(r->p->dst, buf_span(&line), NULL, err);
}

static enum errcode
level_one(struct roll *r, enum parked_kind kind, const char *name,
          struct error *err)
{
    switch (kind) {
    case PARKED_USER:
        return push_one_user(r->p, name, r->p->o->remove_extra, err);
    case PARKED_MAILBOX:
        return push_mailboxes(r->p, &name, 1, err);
    case PARKED_GONE:
        return level_gone(r, name, err);
    case PARKED_SERVER:
        return push_server_annotations(r->p, err);
    }
    return ERR_OK;
}

/* An error is one that ends the round. */
static enum errcode
level_or_park(struct roll *r, enum parked_kind kind, const char *name,
              struct error *err)
{
    struct error why = {0};
    enum errcode rc = ERR_OK;

    if (is_deadly(r, kind, name)) {
        r->deaths = 0; /* it is tried again like any other */
        error_set(&why, ERR_CLOSED, "the peer hangs up on it each time");
        return park(r, kind, name, &why, err);
    }
    rc = level_one(r, kind, name, &why);
    if (rc == ERR_OK) {
        forget_deaths(r, kind, name);
        return ERR_OK;
    }
    if (!ends_round(r, rc))
        return park(r, kind, name, &why, err);
    note_death(r, kind, name);
    *err = why;
    return rc;
}

/* NAMES of KIND, but for those that are parked already. */
static enum errcode
level_set(struct roll *r, enum parked_kind kind, const struct set *names,
          struct error *err)
{
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < names->n && rc == ERR_OK; i++)
        if (!parked_has(r->parked, kind, names->v[i]))
            rc = level_or_park(r, kind, names->v[i], err);
    return rc;
}

static enum errcode
level_metas(struct roll *r, struct error *err)
{
    for (size_t i = 0; i < r->metas.n; i++) {
        const char *user = r->metas.v[i];
        struct error why = {0};
        if (has(&r->users, user) || is_parked(r, user))
            continue;
        enum errcode rc = is_deadly(r, PARKED_USER, user)
                              ? ERR_CLOSED
                              : push_meta(r->p, user, &why);
        if (rc == ERR_OK)
            continue;
        if (ends_round(r, rc)) {
            note_death(r, PARKED_USER, user);
            *err = why;
            return rc;
        }
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
        rc = level_set(r, PARKED_MAILBOX, &r->shared, err);
    if (rc == ERR_OK)
        rc = level_metas(r, err);
    if (rc == ERR_OK)
        rc = level_set(r, PARKED_USER, &r->users, err);
    if (rc == ERR_OK)
        rc = level_set(r, PARKED_GONE, &r->removed, err);
    if (rc == ERR_OK && r->server && !parked_has(r->parked, PARKED_SERVER, ""))
        rc = level_or_park(r, PARKED_SERVER, "", err);
    return rc == ERR_OK ? parked_save(r->parked, err) : rc;
}

static void
forget_round(struct roll *r)
{
    r->ids.n = r->shown.n = 0;
    r->users.n = r->metas.n = r->shared.n = r->owned.n = r->removed.n = 0;
    r->server = false;
    arena_reset(&r->arena);
}

/* Those that are parked, from the oldest on. */
static enum errcode
retry_parked(struct roll *r, struct error *err)
{
    size_t n = 0;

    (void)parked_items(r->parked, &n);
    if (n == 0 || now_ms(r) < r->retry_ms)
        return ERR_OK;
    r->retry_ms = now_ms(r) + RETRY_MS;
    enum errcode rc = ERR_OK;
    struct error why = {0};
    for (size_t i = 0; i < n && rc == ERR_OK;) {
        const struct parked_item item = parked_items(r->parked, &n)[i];
        why = (struct error){0};
        if (level_one(r, item.kind, item.name, &why) == ERR_OK) {
            parked_remove(r->parked, i);
            n--;
        } else if (ends_round(r, why.code)) {
            rc = why.code;
        } else {
            i++;
        }
    }
    if (rc != ERR_OK)
        *err = why;
    else
        rc = parked_save(r->parked, err);
    say_parked(r, why.text);
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

/* The fence is up and the peer has all that is durable here.  Where it was up
 * already at the start, somebody wants this to go on when it goes. */
static bool
is_drained(struct roll *r, lsn_t at)
{
    if (atomic_load(&r->mark->fence) == 0)
        r->fence_at_start = false;
    else if (!r->fence_at_start && at == atomic_load(&r->mark->durable_lsn)) {
        log_notice(&r->p->log, "push.drained", "lsn=%" PRI_LSN, at);
        printf("drained: the peer has all that is durable here, up to %" PRI_LSN
               "\n",
               at);
        fflush(stdout);
        return true;
    }
    return false;
}

/* From the slot's LSN on until told to stop or drained; GOAL not 0: until it is
 * reached.
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
    /* It is there, and is kept for this channel from now on. */
    atomic_store(&r->slot->expelled, SLOT_KEPT);
    say_parked(r, "");
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
        if (rc != ERR_OK || (goal != 0 && at >= goal) || is_drained(r, at))
            break;
        (void)mark_wait(r->mark, seq, 200);
    }
    forget_round(r);
    reader_close(&reader);
    return rc;
}

/* -A could not bring NAME level: mailboxes of users are told as their user. */
static void
on_left(void *ctx, bool is_user, const char *name)
{
    struct roll *r = ctx;
    const struct error why = {.code = ERR_CONFLICT, .text = "not level by -A"};

    if (r->park_code != ERR_OK ||
        (!is_user && name_owner(name, &r->arena) != NULL))
        return;
    r->park_code = park(r, is_user ? PARKED_USER : PARKED_MAILBOX, name, &why,
                        &r->park_err);
}

/* The first time, and where the log does not go back far enough: everybody. */
static enum errcode
start_from_all(struct roll *r,
               enum errcode (*all)(struct push *p, struct error *err),
               struct error *err)
{
    const lsn_t from = atomic_load(&r->mark->applied_lsn);

    set_state(r, SLOT_SEEDING, "everybody is brought level");
    r->park_code = ERR_OK;
    r->p->on_left = on_left;
    r->p->left_ctx = r;
    enum errcode rc = all(r->p, err);
    r->p->on_left = NULL;
    if (rc == ERR_OK && r->park_code != ERR_OK) {
        *err = r->park_err;
        rc = r->park_code;
    }
    if (rc == ERR_OK)
        rc = parked_save(r->parked, err);
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

/* One connection after another, until told to stop, drained, or (-1) done. */
static enum errcode
roll_on(struct roll *r,
        enum errcode (*connect)(struct push *p, struct error *err),
        enum errcode (*all)(struct push *p, struct error *err),
        struct error *err)
{
    struct push *p = r->p;
    const struct ship_options *o = p->o->ship;
    uint64_t backoff = BACKOFF_FIRST_MS;

    for (bool first = true; !push_stopped(p); first = false) {
        struct error why = {0};
        mark_detach(&r->mark);
        enum errcode rc = mark_attach(o->log_dir, &r->mark, &why);
        if (rc == ERR_OK && first)
            r->fence_at_start = atomic_load(&r->mark->fence) != 0;
        if (rc == ERR_OK && (atomic_load(&r->mark->writer_pid) == 0 ||
                             atomic_load(&r->mark->role) != ROLE_MASTER))
            rc = error_set(&why, ERR_READONLY,
                           "this instance is not the master");
        if (rc == ERR_OK)
            rc = converse(r, connect, all, &why);
        if (rc == ERR_OK || push_stopped(p))
            break;
        if (p->o->mode == PUSH_ONCE || o->connect_once) {
            *err = why;
            return rc;
        }
        log_warn(&p->log, "push.again",
                 "code=%s again_ms=%" PRIu64 " why=\"%s\"", errcode_name(rc),
                 backoff, why.text);
        set_state(r, rc == ERR_READONLY ? SLOT_WAITING : SLOT_CONNECTING,
                  why.text);
        rest(r, backoff);
        backoff = MIN(backoff * 2, (uint64_t)BACKOFF_MAX_MS);
        if (p->dst != NULL && !peer_is_broken(p->dst))
            backoff = BACKOFF_FIRST_MS;
    }
    return ERR_OK;
}

/* Done but for those that are parked. */
static enum errcode
say_left(struct roll *r, struct error *err)
{
    size_t n = 0;
    const struct parked_item *items = parked_items(r->parked, &n);

    for (size_t i = 0; i < n; i++)
        fprintf(stderr, "not level: %s %s\n", parked_kind_text(items[i].kind),
                items[i].name);
    return n == 0
               ? ERR_OK
               : error_set(err, ERR_CONFLICT,
                           "%zu were not brought level: the log says why", n);
}

enum errcode
push_rolling(struct push *p,
             enum errcode (*connect)(struct push *p, struct error *err),
             enum errcode (*all)(struct push *p, struct error *err),
             struct error *err)
{
    const struct ship_options *o = p->o->ship;
    struct roll r = {.p = p};
    AUTO(xfree) char *path = xasprintf("%s/parked-%s", o->log_dir, o->channel);

    enum errcode rc = slot_attach(o->log_dir, o->channel, true, &r.slot, err);
    if (rc == ERR_OK)
        rc = parked_open(o->env, path, &r.parked, err);
    if (rc != ERR_OK) {
        slot_detach(&r.slot);
        return rc;
    }
    atomic_store(&r.slot->consumer_pid, (uint32_t)getpid());
    atomic_store(&r.slot->by_state, 1);
    rc = roll_on(&r, connect, all, err);
    if (rc == ERR_OK && !push_stopped(p))
        rc = say_left(&r, err);
    set_state(&r, SLOT_DOWN, "");
    atomic_store(&r.slot->consumer_pid, 0);
    slot_detach(&r.slot);
    mark_detach(&r.mark);
    parked_close(&r.parked);
    xfree(&r.culprit);
    free(r.ids.v);
    free(r.shown.v);
    free(r.users.v);
    free(r.metas.v);
    free(r.shared.v);
    free(r.owned.v);
    free(r.removed.v);
    arena_free(&r.arena);
    return rc;
}
