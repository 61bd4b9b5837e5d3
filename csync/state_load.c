/*
 * csync/bystate_load.c - mailboxes and messages of the store as CSYNC objects.
 *
 * The CRCs are over all messages of a mailbox.  They are not kept in its head,
 * where each mutation would pay for them, but computed when a peer asks, and
 * remembered with the head's digest: the digest is over the same rows, so a
 * mailbox that did not change costs a look.
 */
#include "csync/state.h"

#include <pthread.h>
#include <stdlib.h>

#include "store/names.h"
#include "store/rows.h"

/* Entries; a power of two.  Another mailbox of the same slot drives one out. */
#define CACHE_SLOTS (1U << 17)

struct crc_entry {
    mbid_t id;
    uint64_t digest;
    uint32_t crc, crc_annot;
};

struct crc_cache {
    pthread_mutex_t lock;
    struct crc_entry *slots;
};

struct crc_cache *
crc_cache_new(void)
{
    struct crc_cache *c = xcalloc(1, sizeof(*c));

    pthread_mutex_init(&c->lock, NULL);
    return c;
}

void
crc_cache_free(struct crc_cache **c)
{
    if (*c == NULL)
        return;
    pthread_mutex_destroy(&(*c)->lock);
    free((*c)->slots);
    free(*c);
    *c = NULL;
}

static size_t
slot_of(mbid_t id)
{
    return (size_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 47);
}

static bool
cache_get(struct crc_cache *c, const struct mailbox *mb, struct crc_entry *ret)
{
    bool found = false;

    if (c == NULL)
        return false;
    pthread_mutex_lock(&c->lock);
    if (c->slots != NULL) {
        const struct crc_entry *e = &c->slots[slot_of(mb->id)];
        found = e->id == mb->id && e->digest == mb->digest;
        *ret = *e;
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

static void
cache_put(struct crc_cache *c, const struct crc_entry *e)
{
    if (c == NULL)
        return;
    pthread_mutex_lock(&c->lock);
    if (c->slots == NULL)
        c->slots = xcalloc(CACHE_SLOTS, sizeof(*c->slots));
    c->slots[slot_of(e->id)] = *e;
    pthread_mutex_unlock(&c->lock);
}

/* ---- annotations -------------------------------------------------------- */

struct annots {
    struct arena *a;
    struct sync_annot *list;
    size_t n, cap;
};

static bool
add_annot(void *ctx, const char *entry, const char *user, struct span value)
{
    struct annots *as = ctx;

    if (as->n == as->cap) {
        struct sync_annot *more =
            arena_array(as->a, as->cap * 2 + 8, sizeof(*more));
        if (as->n > 0)
            memcpy(more, as->list, as->n * sizeof(*more));
        as->list = more;
        as->cap = as->cap * 2 + 8;
    }
    as->list[as->n++] = (struct sync_annot){
        .entry = arena_str(as->a, span_str(entry)),
        .user = arena_str(as->a, span_str(user)),
        .value = arena_copy(as->a, value),
    };
    return true;
}

enum errcode
bystate_load_annots(struct store_snap *snap, mbid_t id, uint32_t uid,
                    struct arena *a, const struct sync_annot **ret,
                    size_t *ret_n, struct error *err)
{
    struct annots as = {.a = a};

    enum errcode rc = snap_annots(snap, id, uid, add_annot, &as, err);
    if (rc == ERR_OK) {
        *ret = as.list;
        *ret_n = as.n;
    }
    return rc;
}

/* Thread ids come behind the others. */
static void
sort_annots(struct annots *as)
{
    size_t n = as->n;

    for (size_t i = 0; i < n;) {
        if (strncmp(as->list[i].entry, SYNC_NS, strlen(SYNC_NS)) != 0) {
            i++;
            continue;
        }
        struct sync_annot last = as->list[i];
        memmove(&as->list[i], &as->list[i + 1],
                (as->n - i - 1) * sizeof(*as->list));
        as->list[as->n - 1] = last;
        n--;
    }
}

enum errcode
bystate_load_record(struct store_snap *snap, mbid_t id, const struct message *m,
                    struct arena *a, struct sync_record *ret, struct error *err)
{
    struct annots as = {.a = a};
    enum errcode rc = ERR_OK;

    *ret = (struct sync_record){.m = *m};
    if ((m->flags & FLAG_ANNOTATED) != 0)
        rc = snap_annots(snap, id, m->uid, add_annot, &as, err);
    if (rc != ERR_OK)
        return rc;
    sort_annots(&as);
    for (size_t i = 0; i < as.n; i++)
        as.list[i].modseq =
            strncmp(as.list[i].entry, SYNC_NS, strlen(SYNC_NS)) == 0
                ? 0
                : m->modseq;
    ret->annots = as.list;
    ret->nannots = as.n;
    return ERR_OK;
}

/* ---- mailboxes ---------------------------------------------------------- */

static enum errcode
compute_crcs(struct store_snap *snap, mbid_t id, struct crc_entry *ret,
             struct error *err)
{
    struct arena a = ARENA_INIT;
    struct msg_iter *it = snap_messages(snap, id, 1, false);
    struct message m;
    enum errcode rc = ERR_OK;

    ret->crc = 0;
    ret->crc_annot = SYNC_CRC_ANNOT_START;
    while (rc == ERR_OK && msg_iter_next(it, &m)) {
        struct sync_record r;
        rc = bystate_load_record(snap, id, &m, &a, &r, err);
        if (rc == ERR_OK) {
            ret->crc ^= sync_crc_basic(&m);
            ret->crc_annot ^= sync_crc_annots(&r);
        }
        arena_reset(&a);
    }
    enum errcode end = msg_iter_close(&it, rc == ERR_OK ? err : NULL);
    arena_free(&a);
    return rc == ERR_OK ? end : rc;
}

/* Special use is an annotation of the owner. */
static enum errcode
load_head_annots(struct store_snap *snap, const struct mailbox *mb,
                 struct arena *a, struct sync_mailbox *ret, struct error *err)
{
    struct annots as = {.a = a};
    const char *owner = name_owner(mb->name, a);

    enum errcode rc = snap_annots(snap, mb->id, 0, add_annot, &as, err);
    if (rc != ERR_OK)
        return rc;
    if (mb->special_use[0] != '\0') {
        size_t at = as.n;
        add_annot(&as, SYNC_SPECIALUSE, owner == NULL ? "" : owner,
                  span_str(mb->special_use));
        /* in the order of entries */
        while (at > 0 && strcmp(as.list[at - 1].entry, SYNC_SPECIALUSE) > 0) {
            struct sync_annot swap = as.list[at];
            as.list[at] = as.list[at - 1];
            as.list[at - 1] = swap;
            at--;
        }
    }
    ret->annots = as.list;
    ret->nannots = as.n;
    return ERR_OK;
}

enum errcode
bystate_load_mailbox(struct store_snap *snap, mbid_t id,
                     struct crc_cache *cache, struct arena *a,
                     struct sync_mailbox *ret, struct error *err)
{
    struct mailbox mb;
    struct crc_entry e = {0};

    enum errcode rc = snap_mailbox_row(snap, id, a, &mb, err);
    if (rc == ERR_OK && !cache_get(cache, &mb, &e)) {
        e = (struct crc_entry){.id = id, .digest = mb.digest};
        rc = compute_crcs(snap, id, &e, err);
        if (rc == ERR_OK)
            cache_put(cache, &e);
    }
    if (rc != ERR_OK)
        return rc;
    *ret = (struct sync_mailbox){
        .uniqueid = arena_str(a, span_str(mb.uniqueid.s)),
        .name = mb.name,
        .type = "",
        .partition = mb.partition,
        .acl = mb.acl,
        .quota_root = mb.quota_root,
        .options = mb.options & MBOX_OPTIONS,
        .uidvalidity = mb.uidvalidity,
        .last_uid = mb.uidnext - 1,
        .recent_uid = MIN(mb.recent_uid, mb.uidnext - 1),
        .highestmodseq = mb.highestmodseq,
        .created_modseq = mb.created_modseq,
        .recent_time_s = mb.recent_time_s,
        .last_append_s = mb.last_append_us / 1000000,
        .pop3_login_s = mb.pop3_login_s,
        .pop3_show_after_s = mb.pop3_show_after_s,
        .crc = e.crc,
        .crc_annot = e.crc_annot,
    };
    return load_head_annots(snap, &mb, a, ret, err);
}
