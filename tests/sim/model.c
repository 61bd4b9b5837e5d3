/*
 * tests/sim/model.c - what the state should be: the records of a line, applied
 * in the plainest way, to be compared with what an instance shows (I2, I3,
 * I14).
 *
 * Written from the description of the records (store/record.h), not from
 * store/apply.c.
 */
#include "tests/sim/sim_private.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* The others say what else there is of a message. */
#define FLAGS_KNOWN (FLAGS_SETTABLE | (uint32_t)FLAG_EXPUNGED)

struct mmsg {
    uint32_t uid, flags;
    struct guid guid;
    modseq_t modseq, created;
    uint64_t size, words;
    int64_t internal_s, saved_s;
};

struct mbox {
    mbid_t id;
    struct uniqueid uniqueid;
    char *name, *acl, *use;
    uint32_t uidvalidity, uidnext, recent;
    modseq_t created, highest;
    lsn_t purged;
    struct mmsg *v; /* by UID */
    size_t n, cap;
};

struct muser {
    char *key; /* user NUL kind name, as text with '/' */
    uint64_t value;
};

/* A private annotation of a message. */
struct mannot {
    mbid_t id;
    uint32_t uid;
    char *user, *entry;
};

struct mquota {
    char *root;
    uint64_t bytes, messages, folders; /* used */
};

struct mmark {
    uint8_t mark[16];
    unsigned times;
};

struct model {
    size_t frames; /* applied */
    epoch_t epoch; /* begun last */
    struct mbox *boxes;
    size_t nboxes, boxes_cap;
    struct muser *users;
    size_t nusers, users_cap;
    struct mannot *annots;
    size_t nannots, annots_cap;
    struct mmark *marks; /* open addressing */
    size_t nmarks, marks_cap;
    struct arena a;
};

#define GROW(v, n, cap)                                                        \
    do {                                                                       \
        if ((n) == (cap)) {                                                    \
            (cap) = (cap)*2 + 8;                                               \
            (v) = xrealloc((v), (cap) * sizeof(*(v)));                         \
        }                                                                      \
    } while (0)

static void
set_text(char **to, const char *s)
{
    free(*to);
    *to = xstrdup(s);
}

static struct mbox *
box_of(struct model *md, mbid_t id)
{
    for (size_t i = 0; i < md->nboxes; i++)
        if (md->boxes[i].id == id)
            return &md->boxes[i];
    return NULL;
}

static void
box_free(struct mbox *b)
{
    free(b->name);
    free(b->acl);
    free(b->use);
    free(b->v);
}

static uint64_t
words_hash(const struct span *words, size_t n)
{
    uint64_t hash = n;

    for (size_t i = 0; i < n; i++)
        hash = XXH3_64bits_withSeed(words[i].p, words[i].n, hash);
    return hash;
}

static struct mmark *
mark_of(struct model *md, const uint8_t mark[16], bool make)
{
    if (make && md->nmarks * 2 >= md->marks_cap) {
        struct mmark *old = md->marks;
        size_t n = md->marks_cap;
        md->marks_cap = n == 0 ? 64 : n * 2;
        md->marks = xcalloc(md->marks_cap, sizeof(*md->marks));
        md->nmarks = 0;
        for (size_t i = 0; i < n; i++)
            if (old[i].times > 0)
                *mark_of(md, old[i].mark, true) = old[i];
        free(old);
    }
    if (md->marks_cap == 0)
        return NULL;
    size_t at = (size_t)(XXH3_64bits(mark, 16) % md->marks_cap);
    for (;; at = (at + 1) % md->marks_cap) {
        if (md->marks[at].times == 0) {
            if (!make)
                return NULL;
            md->nmarks++;
            memcpy(md->marks[at].mark, mark, 16);
            return &md->marks[at];
        }
        if (memcmp(md->marks[at].mark, mark, 16) == 0)
            return &md->marks[at];
    }
}

/* ---- records ----------------------------------------------------------- */

static void
on_mailbox(struct model *md, const struct record *rec,
           const struct rec_mailbox *r)
{
    GROW(md->boxes, md->nboxes, md->boxes_cap);
    struct mbox *b = &md->boxes[md->nboxes++];
    *b = (struct mbox){
        .id = rec->lsn,
        .uniqueid = r->head.uniqueid,
        .name = xstrdup(r->head.name),
        .acl = xstrdup(r->head.acl),
        .use = xstrdup(r->head.special_use),
        .uidvalidity = r->head.uidvalidity,
        .uidnext = r->head.uidnext,
        .created = modseq_of(rec->epoch, rec->lsn),
        .highest = modseq_of(rec->epoch, rec->lsn),
    };
}

static unsigned
deliver(struct model *md, const uint8_t dedup[16])
{
    struct mmark *m = mark_of(md, dedup, true);

    m->times = m->times >= 1U << 30 ? 1 : m->times + 1;
    return m->times;
}

static void
on_append(struct world *w, struct model *md, const struct record *rec,
          const struct rec_append *r)
{
    struct mbox *b = box_of(md, r->id);
    const modseq_t modseq = modseq_of(rec->epoch, rec->lsn);

    if (b == NULL || r->msg.uid < b->uidnext) {
        sim_violation(w, "I8: record %llu: UID %u in mailbox %llu",
                      (unsigned long long)rec->lsn, r->msg.uid,
                      (unsigned long long)r->id);
        return;
    }
    GROW(b->v, b->n, b->cap);
    b->v[b->n++] = (struct mmsg){
        .uid = r->msg.uid,
        .flags = r->msg.flags,
        .guid = r->msg.guid,
        .modseq = r->msg.modseq != 0 ? r->msg.modseq : modseq,
        .created = r->msg.created_modseq != 0 ? r->msg.created_modseq : modseq,
        .size = r->msg.size,
        .words = words_hash(r->msg.keywords, r->msg.nkeywords),
        .internal_s = r->msg.internal_s,
        .saved_s = r->msg.saved_s,
    };
    b->uidnext = r->msg.uid + 1;
    b->highest = MAX(b->highest, modseq);
    if (r->has_dedup && deliver(md, r->dedup) > 1)
        sim_violation(w, "I12: record %llu delivers a second time",
                      (unsigned long long)rec->lsn);
}

static void
on_flags(struct model *md, const struct record *rec, const struct rec_flags *r)
{
    struct mbox *b = box_of(md, r->id);
    const modseq_t modseq = modseq_of(rec->epoch, rec->lsn);

    for (size_t g = 0; b != NULL && g < r->n; g++) {
        const struct rec_flag_group *group = &r->groups[g];
        for (size_t i = 0; i < b->n; i++) {
            struct mmsg *m = &b->v[i];
            if ((m->flags & FLAG_EXPUNGED) != 0 ||
                !uidset_has(&group->uids, m->uid))
                continue;
            m->flags = group->flags;
            m->words = words_hash(group->keywords, group->nkeywords);
            m->modseq = modseq;
            b->highest = MAX(b->highest, modseq);
        }
    }
}

static void
on_expunge(struct model *md, const struct record *rec,
           const struct rec_expunge *r)
{
    struct mbox *b = box_of(md, r->id);
    const modseq_t modseq = modseq_of(rec->epoch, rec->lsn);

    for (size_t i = 0; b != NULL && i < b->n; i++) {
        struct mmsg *m = &b->v[i];
        if ((m->flags & FLAG_EXPUNGED) != 0 || !uidset_has(&r->uids, m->uid))
            continue;
        m->flags |= FLAG_EXPUNGED;
        m->modseq = modseq;
        b->highest = MAX(b->highest, modseq);
    }
}

static void
on_purge(struct model *md, const struct record *rec, const struct rec_purge *r)
{
    struct mbox *b = box_of(md, r->id);
    size_t kept = 0;

    if (b == NULL)
        return;
    if (r->uids.n == 0) {
        box_free(b);
        *b = md->boxes[--md->nboxes];
        return;
    }
    for (size_t i = 0; i < b->n; i++)
        if ((!r->live && (b->v[i].flags & FLAG_EXPUNGED) == 0) ||
            !uidset_has(&r->uids, b->v[i].uid))
            b->v[kept++] = b->v[i];
    b->n = kept;
    b->purged = rec->lsn;
}

/* Others can see that something about these messages has changed. */
static void
touch(struct model *md, const struct record *rec, mbid_t id, uint32_t uid,
      const struct uidset *uids)
{
    struct mbox *b = box_of(md, id);
    const modseq_t modseq = modseq_of(rec->epoch, rec->lsn);

    for (size_t i = 0; b != NULL && i < b->n; i++) {
        struct mmsg *m = &b->v[i];
        if ((m->flags & FLAG_EXPUNGED) != 0 ||
            (uids != NULL ? !uidset_has(uids, m->uid) : m->uid != uid))
            continue;
        m->modseq = modseq;
        b->highest = MAX(b->highest, modseq);
    }
}

static void
put_annot(struct model *md, mbid_t id, uint32_t uid, const char *user,
          const char *entry, bool is_set)
{
    size_t i = 0;

    while (i < md->nannots &&
           (md->annots[i].id != id || md->annots[i].uid != uid ||
            strcmp(md->annots[i].user, user) != 0 ||
            strcmp(md->annots[i].entry, entry) != 0))
        i++;
    if (is_set && i == md->nannots) {
        GROW(md->annots, md->nannots, md->annots_cap);
        md->annots[md->nannots++] =
            (struct mannot){id, uid, xstrdup(user), xstrdup(entry)};
    } else if (!is_set && i < md->nannots) {
        free(md->annots[i].user);
        free(md->annots[i].entry);
        md->annots[i] = md->annots[--md->nannots];
    }
}

static void
on_annot(struct model *md, const struct record *rec, const struct rec_annot *r)
{
    if (r->uid == 0)
        return;
    touch(md, rec, r->id, r->uid, NULL);
    for (size_t i = 0; i < r->n; i++)
        if (r->items[i].user[0] != '\0')
            put_annot(md, r->id, r->uid, r->items[i].user, r->items[i].entry,
                      r->items[i].is_set);
}

/* Who reads the message under the new name finds them there. */
static void
rename_annots(struct model *md, const struct record *rec, const char *from,
              const char *to)
{
    const size_t n = md->nannots;
    struct mannot *old = md->annots;

    md->annots = NULL;
    md->nannots = md->annots_cap = 0;
    for (size_t i = 0; i < n; i++)
        if (strcmp(old[i].user, from) != 0)
            put_annot(md, old[i].id, old[i].uid, old[i].user, old[i].entry,
                      true);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(old[i].user, from) == 0) {
            touch(md, rec, old[i].id, old[i].uid, NULL);
            if (to[0] != '\0')
                put_annot(md, old[i].id, old[i].uid, to, old[i].entry, true);
        }
        free(old[i].user);
        free(old[i].entry);
    }
    free(old);
}

static void
on_forget(struct model *md, const struct rec_forget *r)
{
    for (size_t i = 0; i < r->n; i++) {
        struct mmark *m = mark_of(md, r->hashes[i], false);
        if (m != NULL)
            m->times = 1U << 30; /* may come again */
    }
}

static void
on_set(struct model *md, const struct rec_set *r)
{
    struct mbox *b = box_of(md, r->id);

    if (b == NULL)
        return;
    if ((r->fields & SET_ACL) != 0)
        set_text(&b->acl, r->acl);
    if ((r->fields & SET_SPECIAL_USE) != 0)
        set_text(&b->use, r->special_use);
    if ((r->fields & SET_UIDVALIDITY) != 0)
        b->uidvalidity = r->uidvalidity;
    if ((r->fields & SET_RECENT) != 0)
        b->recent = r->recent_uid;
}

/* user.FROM and below become user.TO. */
static char *
name_after(const char *name, const char *from, const char *to)
{
    AUTO(xfree) char *inbox = xasprintf("user.%s", from);
    const size_t n = strlen(inbox);

    if (strncmp(name, inbox, n) != 0 || (name[n] != '\0' && name[n] != '.'))
        return xstrdup(name);
    return xasprintf("user.%s%s", to, name + n);
}

static struct muser *
user_of(struct model *md, const char *key)
{
    for (size_t i = 0; i < md->nusers; i++)
        if (strcmp(md->users[i].key, key) == 0)
            return &md->users[i];
    return NULL;
}

static void
set_user(struct model *md, const char *key, uint64_t value)
{
    struct muser *u = user_of(md, key);

    if (u == NULL) {
        GROW(md->users, md->nusers, md->users_cap);
        u = &md->users[md->nusers++];
        u->key = xstrdup(key);
    }
    u->value = value;
}

static void
rename_acl(struct mbox *b, const char *from, const char *to)
{
    AUTO(buf_free) struct buf acl = BUF_INIT;

    for (const char *at = b->acl; *at != '\0';) {
        const char *who_end = strchr(at, '\t');
        const char *end = strchr(who_end + 1, '\t') + 1;
        if (*at == '-' && (size_t)(who_end - at) == strlen(from) + 1)
            buf_add_byte(&acl, (uint8_t)*at++);
        const bool is_theirs = (size_t)(who_end - at) == strlen(from) &&
                               memcmp(at, from, strlen(from)) == 0;
        if (is_theirs)
            buf_add_str(&acl, to);
        at = is_theirs ? who_end : at;
        buf_add(&acl, span_of(at, (size_t)(end - at)));
        at = end;
    }
    set_text(&b->acl, buf_cstr(&acl));
}

/* "FROM/kind/name": what was theirs, and entries for them in the ACLs that move
 * along; without TO all goes. */
static void
rename_user(struct model *md, const struct record *rec,
            const struct rec_rename *r)
{
    AUTO(xfree) char *prefix = xasprintf("%s/", r->user_from);
    const size_t n = strlen(prefix);
    struct muser *old = md->users;
    const size_t nold = md->nusers;

    md->users = NULL;
    md->nusers = md->users_cap = 0;
    for (size_t i = 0; i < nold; i++)
        if (strncmp(old[i].key, prefix, n) != 0)
            set_user(md, old[i].key, old[i].value);
    for (size_t i = 0; i < nold && r->user_to[0] != '\0'; i++) {
        const char *rest = old[i].key + n; /* kind/name */
        if (strncmp(old[i].key, prefix, n) != 0)
            continue;
        AUTO(xfree)
        char *name = rest[0] == USER_SUBSCRIPTION
                         ? name_after(rest + 2, r->user_from, r->user_to)
                         : xstrdup(rest + 2);
        AUTO(xfree) char *key = xasprintf("%s/%c/%s", r->user_to, *rest, name);
        set_user(md, key, old[i].value);
    }
    for (size_t i = 0; i < nold; i++)
        free(old[i].key);
    free(old);
    for (size_t i = 0; i < r->n && r->user_to[0] != '\0'; i++) {
        struct mbox *b = box_of(md, r->moves[i].id);
        if (b != NULL)
            rename_acl(b, r->user_from, r->user_to);
    }
    rename_annots(md, rec, r->user_from, r->user_to);
}

static void
on_rename(struct model *md, const struct record *rec,
          const struct rec_rename *r)
{
    for (size_t i = 0; i < r->n; i++) {
        struct mbox *b = box_of(md, r->moves[i].id);
        if (b == NULL)
            continue;
        set_text(&b->name, r->moves[i].name);
        if (r->moves[i].uidvalidity != 0)
            b->uidvalidity = r->moves[i].uidvalidity;
    }
    if (r->user_from[0] != '\0')
        rename_user(md, rec, r);
}

static void
on_user(struct model *md, const struct rec_user *r)
{
    AUTO(xfree) char *key = xasprintf("%s/%c/%s", r->user, r->kind, r->name);

    if (r->is_set) {
        set_user(md, key, XXH3_64bits(r->value.p, r->value.n));
        return;
    }
    struct muser *u = user_of(md, key);
    if (u != NULL) {
        free(u->key);
        *u = md->users[--md->nusers];
    }
}

#define DECODE(kind)                                                           \
    struct rec_##kind r;                                                       \
    rc = rec_##kind##_decode(rec->body, rec->version, &md->a, &r, &err);       \
    if (rc == ERR_OK)

static void
apply(struct world *w, struct model *md, const struct record *rec)
{
    struct error err = {0};
    enum errcode rc = ERR_OK;

    if (rec->type != REC_EPOCH && rec->epoch != md->epoch)
        sim_violation(w, "I6: record %u:%llu, the epoch begun last is %u",
                      rec->epoch, (unsigned long long)rec->lsn, md->epoch);
    switch ((enum record_type)rec->type) {
    case REC_EPOCH: {
        DECODE(epoch)
        md->epoch = r.entry.epoch;
        break;
    }
    case REC_MAILBOX: {
        DECODE(mailbox)
        on_mailbox(md, rec, &r);
        break;
    }
    case REC_RENAME: {
        DECODE(rename)
        on_rename(md, rec, &r);
        break;
    }
    case REC_SET: {
        DECODE(set)
        on_set(md, &r);
        break;
    }
    case REC_APPEND: {
        DECODE(append)
        on_append(w, md, rec, &r);
        break;
    }
    case REC_BODY:
        break;
    case REC_FLAGS: {
        DECODE(flags)
        on_flags(md, rec, &r);
        break;
    }
    case REC_EXPUNGE: {
        DECODE(expunge)
        on_expunge(md, rec, &r);
        break;
    }
    case REC_USER: {
        DECODE(user)
        on_user(md, &r);
        break;
    }
    case REC_PURGE: {
        DECODE(purge)
        on_purge(md, rec, &r);
        break;
    }
    case REC_ANNOT: {
        DECODE(annot)
        on_annot(md, rec, &r);
        break;
    }
    case REC_SEEN: {
        DECODE(seen)
        {
            touch(md, rec, r.id, 0, &r.seen);
            touch(md, rec, r.id, 0, &r.unseen);
        }
        break;
    }
    case REC_FORGET: {
        DECODE(forget)
        on_forget(md, &r);
        break;
    }
    case REC_ROWS: /* nobody replicates into the cluster by state */
    case REC_HEAD:
    case REC_QUOTA:      /* compared by what is used */
    case REC_UNEXPUNGED: /* the copies are records of their own */
        break;
    }
    if (rc != ERR_OK)
        sim_violation(w, "I15: record %llu: %s", (unsigned long long)rec->lsn,
                      err.text);
    arena_reset(&md->a);
}

void
model_advance(struct world *w, struct line *line)
{
    if (line->model == NULL)
        line->model = xcalloc(1, sizeof(*line->model));
    for (struct model *md = line->model; md->frames < line->n; md->frames++) {
        const struct frame_ref *f = line->v[md->frames];
        struct frame_head h;
        struct span payload;
        struct record rec;
        size_t used, pos = 0;
        ENSURE(frame_decode(span_of(f->bytes, f->n), &h, &payload, &used) ==
               PARSE_DONE);
        while (frame_next_record(&h, payload, &pos, &rec))
            apply(w, md, &rec);
    }
}

void
model_free(struct model **mdp)
{
    struct model *md = *mdp;

    if (md == NULL)
        return;
    for (size_t i = 0; i < md->nboxes; i++)
        box_free(&md->boxes[i]);
    for (size_t i = 0; i < md->nusers; i++)
        free(md->users[i].key);
    free(md->boxes);
    for (size_t i = 0; i < md->nannots; i++) {
        free(md->annots[i].user);
        free(md->annots[i].entry);
    }
    free(md->annots);
    free(md->users);
    free(md->marks);
    arena_free(&md->a);
    free(md);
    *mdp = NULL;
}

unsigned
model_deliveries(const struct line *line, const uint8_t mark[16])
{
    const struct mmark *m = mark_of(line->model, mark, false);

    return m == NULL ? 0 : m->times;
}

lsn_t
model_purged(const struct line *line, mbid_t id)
{
    const struct mbox *b = box_of(line->model, id);

    return b == NULL ? 0 : b->purged;
}

bool
model_has(const struct line *line, mbid_t id, uint32_t uid)
{
    const struct mbox *b = box_of(line->model, id);

    for (size_t i = 0; b != NULL && i < b->n; i++)
        if (b->v[i].uid == uid)
            return true;
    return false;
}

mbid_t
model_random_mailbox(const struct line *line, uint64_t random)
{
    const struct model *md = line->model;

    return md == NULL || md->nboxes == 0 ? 0
                                         : md->boxes[random % md->nboxes].id;
}

/* ---- comparing --------------------------------------------------------- */

struct compare {
    struct world *w;
    struct machine *m;
    struct model *md;
    struct store_snap *snap;
    size_t seen;
    struct mquota quotas[64];
    size_t nquotas;
    struct arena a;
};

static void
compare_messages(struct compare *c, const struct mbox *b)
{
    struct msg_iter *it = snap_messages(c->snap, b->id, 1, true);
    struct error err = {0};
    struct message m;
    size_t i = 0;

    while (!c->w->failed && msg_iter_next(it, &m)) {
        const struct mmsg *x = i < b->n ? &b->v[i] : NULL;
        if (x == NULL || x->uid != m.uid ||
            ((x->flags ^ m.flags) & FLAGS_KNOWN) != 0 ||
            !guid_eq(&x->guid, &m.guid) || x->modseq != m.modseq ||
            x->created != m.created_modseq || x->size != m.size ||
            x->internal_s != m.internal_s || x->saved_s != m.saved_s ||
            x->words != words_hash(m.keywords, m.nkeywords))
            sim_violation(c->w,
                          "I2: n%u: %s UID %u (flags %x, %llx) is not what the "
                          "log says (UID %u flags %x, %llx)",
                          c->m->i, b->name, m.uid, m.flags,
                          (unsigned long long)m.modseq, x == NULL ? 0 : x->uid,
                          x == NULL ? 0 : x->flags,
                          (unsigned long long)(x == NULL ? 0 : x->modseq));
        i++;
    }
    if (i < b->n)
        sim_violation(c->w, "I2: n%u: %s lacks UID %u", c->m->i, b->name,
                      b->v[i].uid);
    if (msg_iter_close(&it, &err) != ERR_OK)
        sim_violation(c->w, "I2: n%u: %s: %s", c->m->i, b->name, err.text);
}

static void
compare_counters(struct compare *c, const struct mbox *b,
                 const struct mailbox *mb)
{
    uint32_t exists = 0, unseen = 0, deleted = 0;
    uint64_t bytes = 0;

    for (size_t i = 0; i < b->n; i++) {
        const struct mmsg *m = &b->v[i];
        if ((m->flags & FLAG_EXPUNGED) != 0)
            continue;
        exists++;
        bytes += m->size;
        unseen += (m->flags & FLAG_SEEN) == 0;
        deleted += (m->flags & FLAG_DELETED) != 0;
    }
    if (mb->exists != exists || mb->unseen != unseen ||
        mb->deleted != deleted || mb->bytes != bytes ||
        mb->expunged != b->n - exists)
        sim_violation(c->w, "I14: n%u: counters of %s", c->m->i, b->name);
}

/* Count what is live in B into its root's entry. */
static void
charge(struct compare *c, const struct mbox *b, const char *root)
{
    size_t at = 0;

    if (root[0] == '\0')
        return;
    while (at < c->nquotas && strcmp(c->quotas[at].root, root) != 0)
        at++;
    if (at == ARRAY_LEN(c->quotas))
        return;
    if (at == c->nquotas)
        c->quotas[c->nquotas++] =
            (struct mquota){.root = arena_str(&c->a, span_str(root))};
    struct mquota *q = &c->quotas[at];
    q->folders++;
    for (size_t i = 0; i < b->n; i++)
        if ((b->v[i].flags & FLAG_EXPUNGED) == 0) {
            q->bytes += b->v[i].size;
            q->messages++;
        }
}

static bool
compare_mailbox(void *ctx, const struct mailbox *mb)
{
    struct compare *c = ctx;
    const struct mbox *b = box_of(c->md, mb->id);

    if (b == NULL) {
        sim_violation(c->w, "I3: n%u: nobody made %s", c->m->i, mb->name);
        return false;
    }
    c->seen++;
    if (strcmp(b->name, mb->name) != 0 || strcmp(b->acl, mb->acl) != 0 ||
        strcmp(b->use, mb->special_use) != 0 ||
        strcmp(b->uniqueid.s, mb->uniqueid.s) != 0 ||
        b->uidvalidity != mb->uidvalidity || b->uidnext > mb->uidnext ||
        b->highest > mb->highestmodseq || b->recent != mb->recent_uid ||
        b->created != mb->created_modseq)
        sim_violation(c->w, "I2: n%u: head of %s (%s)", c->m->i, mb->name,
                      b->name);
    compare_counters(c, b, mb);
    charge(c, b, mb->quota_root);
    compare_messages(c, b);
    return !c->w->failed;
}

static void
compare_quotas(struct compare *c)
{
    for (size_t i = 0; i < c->nquotas; i++) {
        const struct mquota *q = &c->quotas[i];
        struct quota got = {0};
        struct error err = {0};
        if (snap_quota(c->snap, q->root, &c->a, &got, &err) != ERR_OK ||
            got.used[QUOTA_STORAGE] != q->bytes ||
            got.used[QUOTA_MESSAGE] != q->messages ||
            got.used[QUOTA_FOLDERS] != q->folders)
            sim_violation(c->w, "I14: n%u: quota of %s: %llu bytes, not %llu",
                          c->m->i, q->root,
                          (unsigned long long)got.used[QUOTA_STORAGE],
                          (unsigned long long)q->bytes);
    }
}

static bool
count_object(void *ctx, const char *name, struct span value)
{
    size_t *n = ctx;

    (void)name;
    (void)value;
    ++*n;
    return true;
}

/* Those that the log says, and no others. */
static void
compare_users(struct compare *c)
{
    static const char kinds[] = {USER_SUBSCRIPTION, USER_SIEVE,
                                 USER_SIEVE_ACTIVE};
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct error err = {0};
    size_t n = 0;

    for (size_t i = 0; i < c->md->nusers; i++) {
        char *key = xstrdup(c->md->users[i].key);
        char *kind = strchr(key, '/');
        *kind++ = '\0';
        buf_clear(&value);
        if (snap_user_get(c->snap, key, (uint8_t)*kind, kind + 2, &value,
                          &err) != ERR_OK ||
            XXH3_64bits(value.p, value.n) != c->md->users[i].value)
            sim_violation(c->w, "I2: n%u: user object %s", c->m->i,
                          c->md->users[i].key);
        n += strcmp(key, "probe") != 0;
        free(key);
    }
    for (size_t i = 0; i < SIM_USERS * sizeof(kinds); i++) {
        size_t got = 0;
        if (snap_user_each(c->snap, sim_users[i / sizeof(kinds)],
                           (uint8_t)kinds[i % sizeof(kinds)], count_object,
                           &got, &err) != ERR_OK ||
            got > n)
            sim_violation(c->w, "I3: n%u: objects of %s that nobody made",
                          c->m->i, sim_users[i / sizeof(kinds)]);
        n -= MIN(got, n);
    }
    if (n > 0)
        sim_violation(c->w, "I2: n%u lacks %zu objects of users", c->m->i, n);
}

void
model_compare(struct world *w, struct line *line, struct machine *m)
{
    struct compare c = {.w = w,
                        .m = m,
                        .md = line->model,
                        .snap = store_snapshot(machine_store(m))};
    struct error err = {0};

    w->res->checks++;
    ENSURE(snap_pos(c.snap).applied.lsn == line_end(line));
    if (snap_each_mailbox(c.snap, "", compare_mailbox, &c, &err) != ERR_OK ||
        snap_each_mailbox(c.snap, "DELETED.", compare_mailbox, &c, &err) !=
            ERR_OK)
        sim_violation(w, "I2: n%u: %s", m->i, err.text);
    if (c.seen != c.md->nboxes)
        sim_violation(w, "I2: n%u has %zu mailboxes, the log %zu", m->i, c.seen,
                      c.md->nboxes);
    compare_quotas(&c);
    compare_users(&c);
    if (!w->failed && snap_verify(c.snap, &err) != ERR_OK)
        sim_violation(w, "I2: n%u: %s", m->i, err.text);
    store_release(&c.snap);
    arena_free(&c.a);
}
