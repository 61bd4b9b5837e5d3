/*
 * store/mend.c - a body that came from a twin takes the place of a damaged one.
 *
 * Its parts go to a pack as they come; when the last one is there the whole is
 * compared with its GUID, the pack is synced, and only then do the rows of the
 * guid table change, while the writer stands still.  A crash before leaves the
 * old rows, and bytes in a pack that belong to nobody.
 */
#include "store/damage.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "store/body_private.h"
#include "store/damage_private.h"
#include "store/local.h"
#include "store/places.h"
#include "store/rows.h"
#include "store/store_private.h"

struct mend {
    struct store *store;
    struct guid guid;
    EVP_MD_CTX *sha;
    struct body_loc *locs; /* of the parts so far */
    uint32_t n;
    uint8_t *raw; /* BODY_PART_BYTES */
};

enum errcode
mend_open(struct store *store, const struct guid *guid, struct mend **ret,
          struct error *err)
{
    struct mend *m = xcalloc(1, sizeof(*m));

    (void)err;
    m->store = store;
    m->guid = *guid;
    m->raw = xmalloc(BODY_PART_BYTES);
    m->sha = EVP_MD_CTX_new();
    ENSURE(m->sha != NULL && EVP_DigestInit_ex2(m->sha, EVP_sha1(), NULL) == 1);
    *ret = m;
    return ERR_OK;
}

void
mend_close(struct mend **pm)
{
    struct mend *m = *pm;

    *pm = NULL;
    if (m == NULL)
        return;
    EVP_MD_CTX_free(m->sha);
    free(m->locs);
    free(m->raw);
    free(m);
}

enum errcode
mend_put_part(struct mend *m, const struct body_loc *loc, struct span stored,
              struct error *err)
{
    struct body_loc own = *loc;

    if (!body_loc_fits(loc) || stored.n != loc->stored_bytes)
        return error_set(err, ERR_CORRUPT, "the sizes of a part do not fit");
    if (loc->part != m->n || (m->n > 0 && loc->size != m->locs[0].size))
        return error_set(err, ERR_PROTO,
                         "part %" PRIu32 " is not the one that follows",
                         loc->part);
    if (!body_unpack(loc, stored, m->raw))
        return error_set(err, ERR_CORRUPT, "the bytes of a part are damaged");
    ENSURE(EVP_DigestUpdate(m->sha, m->raw, loc->raw_bytes) == 1);
    enum errcode rc = packs_append(bodies_packs(store_bodies(m->store)),
                                   &m->guid, &own, stored, err);
    if (rc != ERR_OK)
        return rc;
    m->locs = xrealloc(m->locs, (m->n + 1) * sizeof(*m->locs));
    m->locs[m->n++] = own;
    return ERR_OK;
}

/* The old row of a part goes out of its pack's account, if it says anything. */
static enum errcode
leave_place(struct kv *kv, struct kv_batch *b, struct span key,
            struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct body_loc old;

    enum errcode rc = kv_get(kv, NULL, KV_STATE, key, &value, err);
    if (rc == ERR_NOTFOUND ||
        (rc == ERR_OK &&
         body_loc_decode(buf_span(&value), &old, NULL) != ERR_OK))
        return ERR_OK;
    return rc == ERR_OK ? pack_account_move(kv, b, &old, true, err) : rc;
}

/* While the writer stands still. */
static enum errcode
switch_rows(void *ctx, struct state *st, struct kv_batch *b, struct error *err)
{
    const struct mend *m = ctx;
    struct kv *kv = store_kv(m->store);
    AUTO(buf_free) struct buf value = BUF_INIT;
    enum errcode rc = ERR_OK;
    struct key k;

    (void)st;
    for (uint32_t i = 0; rc == ERR_OK && i < m->n; i++) {
        struct span key = key_body(&k, &m->guid, i);
        rc = leave_place(kv, b, key, err);
        if (rc == ERR_OK)
            rc = pack_account_move(kv, b, &m->locs[i], false, err);
        buf_clear(&value);
        body_loc_encode(&m->locs[i], &value);
        kv_batch_put(b, KV_STATE, key, buf_span(&value));
    }
    return rc;
}

enum errcode
mend_finish(struct mend *m, struct error *err)
{
    const struct damage d = {.kind = DAMAGE_BODY, .guid = m->guid};
    struct guid got;

    if (m->n == 0 || m->n != m->locs[0].parts)
        return error_set(err, ERR_PROTO, "%" PRIu32 " of %" PRIu32 " parts",
                         m->n, m->n == 0 ? 0 : m->locs[0].parts);
    ENSURE(EVP_DigestFinal_ex(m->sha, got.b, NULL) == 1);
    if (!guid_eq(&got, &m->guid))
        return error_set(err, ERR_CORRUPT,
                         "the bytes that came are of another GUID");
    struct packs *packs = bodies_packs(store_bodies(m->store));
    enum errcode rc = packs_sync(packs, err);
    /* The compactor appends there too, and may have been told of the loss. */
    for (uint32_t i = 0; rc == ERR_OK && i < m->n; i++)
        if (!packs_holds(packs, &m->locs[i]))
            rc = error_set(err, ERR_IO, "its pack could not be written");
    if (rc == ERR_OK)
        rc = store_local(m->store, switch_rows, m, err);
    /* The segment that the old rows named may be let go of only when these are
     * on disk; until then a restart finds the damage again. */
    if (rc == ERR_OK)
        rc = kv_flush(store_kv(m->store), err);
    if (rc == ERR_OK)
        store_damage_heal(m->store, &d, "the twin had it");
    return rc;
}
