/*
 * store/places.c - the directories of packs, and what is alive in each pack.
 *
 * Opening fails closed: a partition that is not mounted looks like one without
 * packs, and a state that is not mounted like a new one; in both cases going on
 * would end in bodies that are gone, so both are refused by name.
 *
 * Accounts are kept with the rows of the bodies, in the same batch.  The writer
 * however, which does not read before it writes, may put a row over one that
 * named a pack; the pack then has less alive than its account says, until the
 * sweep has counted again (collect.c).  Never the other way round.
 */
#include "store/places.h"

#include <stdlib.h>

#include "base/log.h"
#include "store/local.h"

struct place {
    uint32_t number;
    enum place_kind kind;
    char *name;
    char *path;
    struct packs *packs;
};

struct places {
    struct env *env;
    struct kv *kv;
    struct place *v;
    size_t n;
    uint32_t default_number;
};

static const char *
kind_option(enum place_kind kind)
{
    return kind == PLACE_ARCHIVE ? "archivepartition" : "partition";
}

/* ------------------------------------------------------------- accounts */

void
pack_account_encode(const struct pack_account *a, struct buf *out)
{
    buf_add_varint(out, a->live);
    buf_add_varint(out, a->total);
    buf_add_varint(out, a->is_condemned ? 1 : 0);
}

enum errcode
pack_account_decode(struct span in, struct pack_account *ret, struct error *err)
{
    struct rd r = rd_init(in);
    struct pack_account a;

    a.live = rd_varint(&r);
    a.total = rd_varint(&r);
    const uint64_t condemned = rd_varint(&r);
    a.is_condemned = condemned == 1;
    if (!rd_done(&r) || a.live > a.total || condemned > 1)
        return error_set(err, ERR_CORRUPT, "malformed account of a pack");
    *ret = a;
    return ERR_OK;
}

enum errcode
pack_account_move(struct kv *kv, struct kv_batch *b, const struct body_loc *loc,
                  bool is_going, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct pack_account a = {0};
    struct span in_batch;
    struct key k;
    enum errcode rc = ERR_OK;

    if (loc->home != BODY_IN_PACK)
        return ERR_OK;
    struct span key = key_local_pack(&k, loc->dir, loc->file);
    int said = kv_batch_get(b, KV_STATE, key, &in_batch);
    if (said == 1) {
        rc = pack_account_decode(in_batch, &a, err);
    } else if (said < 0) {
        rc = kv_get(kv, NULL, KV_STATE, key, &value, err);
        if (rc == ERR_OK)
            rc = pack_account_decode(buf_span(&value), &a, err);
        else if (rc == ERR_NOTFOUND)
            rc = ERR_OK;
    }
    if (rc != ERR_OK)
        return rc;
    const uint64_t bytes = pack_frame_bytes(loc->stored_bytes);
    if (!is_going && a.is_condemned)
        return error_set(err, ERR_AGAIN,
                         "pack %016" PRIx64 " is about to be removed",
                         loc->file);
    if (is_going) {
        a.live -= MIN(a.live, bytes);
    } else {
        a.live += bytes;
        a.total += bytes;
    }
    buf_clear(&value);
    pack_account_encode(&a, &value);
    kv_batch_put(b, KV_STATE, key, buf_span(&value));
    return ERR_OK;
}

enum errcode
pack_account_each(struct kv *kv, const struct kv_snap *snap,
                  bool (*call)(void *ctx, uint32_t dir, uint64_t pack,
                               const struct pack_account *a),
                  void *ctx, struct error *err)
{
    struct key k;
    struct span key;
    struct span value;
    enum errcode rc = ERR_OK;
    struct kv_iter *it =
        kv_iter_open(kv, snap, KV_STATE, key_local(&k, LOCAL_PACK), SPAN_EMPTY);

    while (kv_iter_next(it, &key, &value)) {
        struct rd r = rd_init(span_skip(key, 2));
        struct pack_account a;
        const uint32_t dir = rd_u32be(&r);
        const uint64_t pack = rd_u64be(&r);
        rc = pack_account_decode(value, &a, err);
        if (rc == ERR_OK && !rd_done(&r))
            rc = error_set(err, ERR_CORRUPT, "malformed row of a pack");
        if (rc != ERR_OK || !call(ctx, dir, pack, &a))
            break;
    }
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? closed : rc;
}

/* -------------------------------------------------------------- opening */

static struct place *
find(struct places *ps, uint32_t dir)
{
    for (size_t i = 0; i < ps->n; i++)
        if (ps->v[i].number == dir)
            return &ps->v[i];
    return NULL;
}

static struct place *
find_name(struct places *ps, struct span name, enum place_kind kind)
{
    for (size_t i = 0; i < ps->n; i++)
        if (ps->v[i].kind == kind && span_eq_str(name, ps->v[i].name))
            return &ps->v[i];
    return NULL;
}

static enum errcode
add_place(struct places *ps, const char *name, const char *path,
          enum place_kind kind, struct error *err)
{
    for (size_t i = 0; i < ps->n; i++)
        if (strcmp(ps->v[i].path, path) == 0)
            return error_set(err, ERR_CONFLICT,
                             "%s-%s and %s-%s are both %s: each needs a "
                             "directory of its own",
                             kind_option(ps->v[i].kind), ps->v[i].name,
                             kind_option(kind), name, path);
    ps->v = xrealloc(ps->v, (ps->n + 1) * sizeof(*ps->v));
    ps->v[ps->n++] = (struct place){
        .kind = kind, .name = xstrdup(name), .path = xstrdup(path)};
    return ERR_OK;
}

/* Is any pack in directory CTX? */
struct search {
    uint32_t dir;
    uint64_t packs;
};

static bool
count_of_dir(void *ctx, uint32_t dir, uint64_t pack,
             const struct pack_account *a)
{
    struct search *s = ctx;

    (void)pack;
    if (dir == s->dir && a->live > 0)
        s->packs++;
    return true;
}

static enum errcode
take_number(struct places *ps, struct span key, struct span value,
            uint32_t *highest, struct error *err)
{
    struct rd r = rd_init(value);
    const uint32_t number = rd_varint32(&r);

    if (!rd_done(&r) || number == 0 || key.n < 4)
        return error_set(err, ERR_CORRUPT,
                         "malformed row of a directory of packs");
    const enum place_kind kind =
        key.p[2] == PLACE_ARCHIVE ? PLACE_ARCHIVE : PLACE_SPOOL;
    const struct span name = span_skip(key, 3);
    *highest = MAX(*highest, number);
    struct place *p = find_name(ps, name, kind);
    if (p != NULL) {
        p->number = number;
        return ERR_OK;
    }
    struct search s = {.dir = number};
    enum errcode rc = pack_account_each(ps->kv, NULL, count_of_dir, &s, err);
    if (rc == ERR_OK && s.packs > 0)
        rc = error_set(err, ERR_CONFLICT,
                       "%" PRIu64 " packs with bodies lie in %s-%.*s, which is "
                       "not in imapd.conf any more: put it back",
                       s.packs, kind_option(kind), SPAN_FMT(name));
    return rc;
}

/* Known ones keep their number, new ones get the next. */
static enum errcode
number_places(struct places *ps, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct key k;
    struct span key;
    struct span v;
    uint32_t highest = 0;
    enum errcode rc = ERR_OK;
    struct kv_iter *it = kv_iter_open(ps->kv, NULL, KV_STATE,
                                      key_local(&k, LOCAL_DIR), SPAN_EMPTY);

    while (rc == ERR_OK && kv_iter_next(it, &key, &v))
        rc = take_number(ps, key, v, &highest, err);
    enum errcode closed = kv_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = closed;
    if (rc != ERR_OK)
        return rc;
    struct kv_batch *b = kv_batch_new();
    for (size_t i = 0; i < ps->n; i++) {
        struct place *p = &ps->v[i];
        if (p->number != 0)
            continue;
        p->number = ++highest;
        buf_clear(&value);
        buf_add_varint(&value, p->number);
        kv_batch_put(b, KV_STATE, key_local_dir(&k, (uint8_t)p->kind, p->name),
                     buf_span(&value));
    }
    if (kv_batch_bytes(b) > 0)
        rc = kv_write(ps->kv, b, err);
    kv_batch_free(&b);
    return rc;
}

/* Do the packs that rows name lie in P, and do rows know those that do? */
struct presence {
    const struct place *place;
    const uint64_t *files;
    size_t nfiles;
    uint64_t named;
    uint64_t missing;
};

static int
compare_u64(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static bool
look_for(void *ctx, uint32_t dir, uint64_t pack, const struct pack_account *a)
{
    struct presence *p = ctx;

    if (dir != p->place->number || a->is_condemned)
        return true;
    p->named++;
    if (p->nfiles == 0 || bsearch(&pack, p->files, p->nfiles, sizeof(pack),
                                  compare_u64) == NULL) {
        p->missing++;
        log_error(NULL, "store.pack_missing",
                  "dir=\"%s\" pack=%016" PRIx64 " bytes=%" PRIu64
                  " effect=\"the bodies in it cannot be read\"",
                  p->place->path, pack, a->live);
    }
    return true;
}

static enum errcode
check_presence(struct places *ps, const struct place *place, bool is_new,
               struct error *err)
{
    uint64_t *files = NULL;
    struct presence p = {.place = place};

    enum errcode rc = packs_list(place->packs, &files, &p.nfiles, err);
    if (rc != ERR_OK)
        return rc;
    p.files = files;
    rc = pack_account_each(ps->kv, NULL, look_for, &p, err);
    free(files);
    if (rc != ERR_OK)
        return rc;
    if (p.named > 0 && p.missing == p.named)
        return error_set(
            err, ERR_CONFLICT,
            "none of the %" PRIu64 " packs of %s-%s is in %s: is it mounted?",
            p.named, kind_option(place->kind), place->name, place->path);
    if (is_new && p.nfiles > 0)
        return error_set(err, ERR_CONFLICT,
                         "%zu packs lie in %s and the state, which is empty, "
                         "knows none of them: is configdirectory mounted?  To "
                         "begin anew, move them away",
                         p.nfiles, place->path);
    return ERR_OK;
}

/* Nothing was ever written to it. */
static enum errcode
state_is_new(struct kv *kv, bool *ret, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct key k;
    enum errcode rc =
        kv_get(kv, NULL, KV_STATE, key_local(&k, LOCAL_SCHEMA), &value, err);

    *ret = rc == ERR_NOTFOUND;
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

static enum errcode
open_all(struct places *ps, const struct store_partition *partitions, size_t n,
         const struct instid *cluster, uint64_t pack_bytes, struct error *err)
{
    bool is_new = false;
    enum errcode rc = state_is_new(ps->kv, &is_new, err);

    for (size_t i = 0; rc == ERR_OK && i < n; i++) {
        const struct store_partition *p = &partitions[i];
        rc = add_place(ps, p->name, p->path, PLACE_SPOOL, err);
        if (rc == ERR_OK && p->archive_path != NULL)
            rc = add_place(ps, p->name, p->archive_path, PLACE_ARCHIVE, err);
    }
    if (rc == ERR_OK)
        rc = number_places(ps, err);
    for (size_t i = 0; rc == ERR_OK && i < ps->n; i++) {
        struct place *p = &ps->v[i];
        rc = packs_open(ps->env, p->path, p->number, cluster, pack_bytes,
                        &p->packs, err);
        if (rc == ERR_OK)
            rc = check_presence(ps, p, is_new, err);
    }
    return rc;
}

enum errcode
places_open(struct env *env, struct kv *kv,
            const struct store_partition *partitions, size_t npartitions,
            const char *default_name, const struct instid *cluster,
            uint64_t pack_bytes, struct places **ret, struct error *err)
{
    struct places *ps = xcalloc(1, sizeof(*ps));

    ps->env = env;
    ps->kv = kv;
    enum errcode rc =
        open_all(ps, partitions, npartitions, cluster, pack_bytes, err);
    if (rc == ERR_OK) {
        const struct place *p =
            find_name(ps, span_str(default_name), PLACE_SPOOL);
        if (p == NULL)
            rc = error_set(err, ERR_CONFLICT,
                           "defaultpartition %s is no partition", default_name);
        else
            ps->default_number = p->number;
    }
    if (rc != ERR_OK) {
        places_close(&ps);
        return rc;
    }
    *ret = ps;
    return ERR_OK;
}

void
places_close(struct places **pps)
{
    struct places *ps = *pps;

    *pps = NULL;
    if (ps == NULL)
        return;
    for (size_t i = 0; i < ps->n; i++) {
        packs_close(&ps->v[i].packs);
        free(ps->v[i].name);
        free(ps->v[i].path);
    }
    free(ps->v);
    free(ps);
}

/* ------------------------------------------------------------- cleaning */

struct known {
    uint32_t dir;
    uint64_t *v;
    size_t n, cap;
    struct places *ps;
    struct kv_batch *gone; /* rows of packs in which nothing is left */
};

static bool
note_known(void *ctx, uint32_t dir, uint64_t pack, const struct pack_account *a)
{
    struct known *w = ctx;
    struct key k;

    if (dir != w->dir)
        return true;
    if (a->is_condemned) {
        kv_batch_delete(w->gone, KV_STATE, key_local_pack(&k, dir, pack));
        return true;
    }
    if (w->n == w->cap) {
        w->cap = w->cap * 2 + 64;
        w->v = xrealloc(w->v, w->cap * sizeof(*w->v));
    }
    w->v[w->n++] = pack;
    return true;
}

static enum errcode
clean_one(struct places *ps, struct place *p, unsigned *removed,
          struct error *err)
{
    struct known w = {.dir = p->number, .ps = ps, .gone = kv_batch_new()};
    uint64_t *files = NULL;
    size_t nfiles = 0;

    enum errcode rc = pack_account_each(ps->kv, NULL, note_known, &w, err);
    if (rc == ERR_OK)
        rc = packs_list(p->packs, &files, &nfiles, err);
    for (size_t i = 0; rc == ERR_OK && i < nfiles; i++) {
        if (w.n > 0 &&
            bsearch(&files[i], w.v, w.n, sizeof(*w.v), compare_u64) != NULL)
            continue;
        rc = packs_remove(p->packs, files[i], err);
        if (rc == ERR_OK)
            (*removed)++;
    }
    /* Rows go after files: a crash between leaves something to find. */
    if (rc == ERR_OK && kv_batch_bytes(w.gone) > 0)
        rc = kv_write(ps->kv, w.gone, err);
    kv_batch_free(&w.gone);
    free(w.v);
    free(files);
    return rc;
}

enum errcode
places_clean(struct places *ps, unsigned *ret_removed, struct error *err)
{
    unsigned removed = 0;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; rc == ERR_OK && i < ps->n; i++)
        rc = clean_one(ps, &ps->v[i], &removed, err);
    if (rc == ERR_OK)
        *ret_removed = removed;
    return rc == ERR_OK ? rc : error_prefix(err, "packs left by a crash");
}

/* -------------------------------------------------------------- finding */

struct packs *
places_packs(struct places *ps, uint32_t dir)
{
    struct place *p = find(ps, dir);

    return p == NULL ? NULL : p->packs;
}

uint32_t
places_default(struct places *ps)
{
    return ps->default_number;
}

uint32_t
places_dir(struct places *ps, const char *name, enum place_kind kind)
{
    const struct place *p = find_name(ps, span_str(name), kind);

    if (p != NULL)
        return p->number;
    if (kind == PLACE_SPOOL)
        return ps->default_number;
    /* A partition that is there and has no archive keeps everything. */
    if (find_name(ps, span_str(name), PLACE_SPOOL) != NULL)
        return 0;
    const struct place *def = find(ps, ps->default_number);
    p = find_name(ps, span_str(def->name), kind);
    return p == NULL ? 0 : p->number;
}

bool
places_each(struct places *ps, size_t i, uint32_t *ret_dir,
            enum place_kind *ret_kind, const char **ret_name,
            const char **ret_path)
{
    if (i >= ps->n)
        return false;
    *ret_dir = ps->v[i].number;
    *ret_kind = ps->v[i].kind;
    *ret_name = ps->v[i].name;
    *ret_path = ps->v[i].path;
    return true;
}

enum errcode
places_sync(struct places *ps, struct error *err)
{
    enum errcode rc = ERR_OK;

    /* All of them, so that each tells what it has lost. */
    for (size_t i = 0; i < ps->n; i++) {
        enum errcode one =
            packs_sync(ps->v[i].packs, rc == ERR_OK ? err : NULL);
        if (rc == ERR_OK)
            rc = one;
    }
    return rc;
}

enum errcode
store_set_packs_aside(struct env *env, const struct store_config *cfg,
                      const char *name, struct error *err)
{
    enum errcode rc = ERR_OK;

    if (cfg->npartitions == 0) {
        AUTO(xfree)
        char *dir = cfg->pack_dir != NULL ? xstrdup(cfg->pack_dir)
                                          : xasprintf("%s/packs", cfg->dir);
        return packs_set_aside(env, dir, name, err);
    }
    for (size_t i = 0; rc == ERR_OK && i < cfg->npartitions; i++) {
        const struct store_partition *p = &cfg->partitions[i];
        rc = packs_set_aside(env, p->path, name, err);
        if (rc == ERR_OK && p->archive_path != NULL)
            rc = packs_set_aside(env, p->archive_path, name, err);
    }
    return rc;
}
