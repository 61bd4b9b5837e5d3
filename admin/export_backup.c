/*
 * admin/export_backup.c - a user's mail out of a backup.
 *
 * One walk over the rows gathers the user's folders and messages (heads come
 * before messages, by the order of keys); these, sorted by GUID, are joined
 * with one walk over the index; then each folder is written in the order of
 * UIDs. Memory: a few dozen bytes for each message of the user, and one
 * message.
 */
#include "admin/export.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "store/names.h"
#include "store/rows.h"
#include "store/seed.h"

struct folder {
    mbid_t id;
    uint32_t uidvalidity;
    const char *below;
};

struct wanted {
    size_t folder;
    struct message m; /* without keywords */
    struct backup_entry e;
};

struct gathering {
    struct arena arena;
    struct folder *folders;
    size_t nfolders;
    struct wanted *v;
    size_t n, room;
    struct buf raw;
    EVP_MD_CTX *sha;
    uint8_t *part;
};

static enum errcode
take_head(struct gathering *g, struct span key, struct span value,
          const char *inbox, struct error *err)
{
    struct mailbox mb;
    size_t n = strlen(inbox);
    AUTO(arena_free) struct arena a = ARENA_INIT;

    enum errcode rc = mailbox_decode(value, &a, &mb, err);
    if (rc != ERR_OK)
        return rc;
    if (strncmp(mb.name, inbox, n) != 0 ||
        (mb.name[n] != '\0' && mb.name[n] != '.'))
        return ERR_OK;
    g->folders = xrealloc(g->folders, (g->nfolders + 1) * sizeof(*g->folders));
    g->folders[g->nfolders++] = (struct folder){
        .id = key_get_mbid(key),
        .uidvalidity = mb.uidvalidity,
        .below = arena_str(&g->arena, span_str(mb.name + n)),
    };
    return ERR_OK;
}

static enum errcode
take_message(struct gathering *g, struct span key, struct span value,
             struct error *err)
{
    mbid_t id = key_get_mbid(key);
    size_t folder = 0;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct message m;

    while (folder < g->nfolders && g->folders[folder].id != id)
        folder++;
    if (folder == g->nfolders)
        return ERR_OK;
    enum errcode rc = message_decode(value, &a, &m, err);
    if (rc != ERR_OK || (m.flags & FLAG_EXPUNGED) != 0)
        return rc;
    if (g->n == g->room) {
        g->room = g->room == 0 ? 256 : 2 * g->room;
        g->v = xrealloc(g->v, g->room * sizeof(*g->v));
    }
    m.uid = key_get_uid(key);
    m.keywords = NULL;
    m.nkeywords = 0;
    g->v[g->n++] = (struct wanted){.folder = folder, .m = m};
    return ERR_OK;
}

static enum errcode
gather(struct env *env, const char *dir, const struct backup_manifest *m,
       const char *inbox, struct gathering *g, struct error *err)
{
    AUTO(backup_in_free) struct backup_in in = {0};
    struct span key, value;
    bool end = false;
    enum errcode rc = ERR_OK;

    backup_in_init(&in, env, dir, m, BACKUP_ROWS);
    while (rc == ERR_OK) {
        rc = backup_in_row(&in, &key, &value, &end, err);
        if (rc != ERR_OK || end)
            break;
        if (key.n > 0 && key.p[0] == TAB_MAILBOX)
            rc = take_head(g, key, value, inbox, err);
        else if (key.n > 0 && key.p[0] == TAB_MESSAGE)
            rc = take_message(g, key, value, err);
    }
    return rc;
}

static int
by_guid(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;

    return memcmp(x->m.guid.b, y->m.guid.b, GUID_BYTES);
}

static int
by_folder(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;

    if (x->folder != y->folder)
        return x->folder < y->folder ? -1 : 1;
    return x->m.uid < y->m.uid ? -1 : x->m.uid > y->m.uid;
}

/* Where the bodies lie. */
static enum errcode
locate(struct env *env, const char *dir, const struct backup_manifest *m,
       struct gathering *g, struct error *err)
{
    AUTO(backup_in_free) struct backup_in in = {0};
    struct backup_entry e;
    bool end = false;
    size_t at = 0;
    enum errcode rc = ERR_OK;

    if (g->n > 1)
        qsort(g->v, g->n, sizeof(*g->v), by_guid);
    backup_in_init(&in, env, dir, m, BACKUP_INDEX);
    while (rc == ERR_OK) {
        rc = backup_in_entry(&in, &e, &end, err);
        if (rc != ERR_OK || end)
            break;
        while (at < g->n &&
               memcmp(g->v[at].m.guid.b, e.guid.b, GUID_BYTES) <= 0) {
            if (guid_eq(&g->v[at].m.guid, &e.guid))
                g->v[at].e = e;
            at++;
        }
    }
    if (rc == ERR_OK && g->n > 1)
        qsort(g->v, g->n, sizeof(*g->v), by_folder);
    return rc;
}

static enum errcode
add_part(void *ctx, const struct guid *guid, const struct body_loc *loc,
         struct span stored, struct error *err)
{
    struct gathering *g = ctx;

    (void)guid;
    if (!seed_unpack_part(loc, stored, g->part))
        return error_set(err, ERR_CORRUPT, "its bytes are damaged");
    buf_add(&g->raw, span_of(g->part, loc->raw_bytes));
    return ERR_OK;
}

static enum errcode
read_body(struct gathering *g, struct backup_packs *packs,
          const struct wanted *w, struct error *err)
{
    struct guid got;

    buf_clear(&g->raw);
    if (w->e.pack == 0)
        return error_set(err, ERR_NOTFOUND, "the backup was made without it");
    enum errcode rc = backup_packs_body(packs, &w->e, add_part, g, err);
    if (rc != ERR_OK)
        return rc;
    ENSURE(EVP_DigestInit_ex2(g->sha, EVP_sha1(), NULL) == 1);
    ENSURE(EVP_DigestUpdate(g->sha, g->raw.p, g->raw.n) == 1);
    ENSURE(EVP_DigestFinal_ex(g->sha, got.b, NULL) == 1);
    if (!guid_eq(&got, &w->m.guid))
        return error_set(err, ERR_CORRUPT, "its bytes have another SHA-1");
    return ERR_OK;
}

static enum errcode
write_all(struct env *env, const char *dir, struct gathering *g,
          struct export *x, const struct export_watch *watch, struct error *err)
{
    AUTO(backup_packs_free)
    struct backup_packs packs = {.env = env, .dir = dir};
    enum errcode rc = ERR_OK;
    size_t at = 0;

    for (size_t i = 0; rc == ERR_OK && i < g->nfolders; i++) {
        rc = export_folder(x, g->folders[i].below, g->folders[i].uidvalidity,
                           err);
        for (; rc == ERR_OK && at < g->n && g->v[at].folder == i; at++) {
            struct error why = {0};
            if (read_body(g, &packs, &g->v[at], &why) == ERR_OK) {
                rc = export_message(x, &g->v[at].m, buf_span(&g->raw), err);
            } else {
                AUTO(xfree)
                char *text =
                    xasprintf("INBOX%s, UID %" PRIu32 ": %s",
                              g->folders[i].below, g->v[at].m.uid, why.text);
                x->failed++;
                watch->failed(watch->ctx, text);
            }
            if (rc == ERR_OK && !watch->progress(watch->ctx, at + 1, g->n))
                rc = error_set(err, ERR_CLOSED, "interrupted");
        }
    }
    return rc;
}

enum errcode
export_backup(struct env *env, const char *dir, uint64_t number,
              const char *user, struct export *x,
              const struct export_watch *watch, struct error *err)
{
    AUTO(backup_list_free) struct backup_list l = {0};
    const struct backup_manifest *m = NULL;
    struct gathering g = {.sha = EVP_MD_CTX_new(),
                          .part = xmalloc(BODY_PART_BYTES)};
    const char *inbox = NULL;

    ENSURE(g.sha != NULL);
    enum errcode rc = backup_list_read(env, dir, &l, err);
    if (rc == ERR_OK)
        rc = backup_list_pick(&l, dir, number, &m, err);
    if (rc == ERR_OK)
        rc = name_inbox(user, &g.arena, &inbox, err);
    if (rc == ERR_OK)
        rc = gather(env, dir, m, inbox, &g, err);
    if (rc == ERR_OK && g.nfolders == 0)
        rc =
            error_set(err, ERR_NOTFOUND, "%.300s: there is no such user", user);
    if (rc == ERR_OK)
        rc = locate(env, dir, m, &g, err);
    if (rc == ERR_OK)
        rc = write_all(env, dir, &g, x, watch, err);
    arena_free(&g.arena);
    free(g.folders);
    free(g.v);
    buf_free(&g.raw);
    EVP_MD_CTX_free(g.sha);
    free(g.part);
    return rc;
}
