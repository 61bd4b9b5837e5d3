/*
 * admin/backup_verify.c - every byte of a backup.
 *
 * Packs are read once from front to back, whoever needs them: the checksum of
 * the file, each frame, each body against its GUID.  Then each generation: its
 * index against the frames that it names, its rows into a
 * key-value store on the side, where everything is counted anew as a seed is,
 * and the bodies that its messages name against the index, as both are sorted
 * by GUID.  So memory is bounded, whatever the size of the backup.
 */
#include "admin/backup.h"

#include <dirent.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#include "store/pack.h"
#include "store/rows.h"
#include "store/seed.h"

#define READ_BYTES ((size_t)4 << 20)
#define BATCH_BYTES ((size_t)1 << 20)
#define KV_CACHE_BYTES ((uint64_t)16 << 20)

struct verifying {
    struct env *env;
    const char *dir, *tmpdir;
    const struct backup_watch *watch;
    struct backup_verified *sum;
    uint64_t done, total; /* bytes */
    uint8_t *raw;         /* BODY_PART_BYTES */
};

static void
fault(struct verifying *v, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void
fault(struct verifying *v, const char *fmt, ...)
{
    char text[ERROR_TEXT_BYTES + 200];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    v->sum->faults++;
    v->watch->fault(v->watch->ctx, text);
}

static enum errcode
went_on(struct verifying *v, uint64_t bytes, struct error *err)
{
    v->done += bytes;
    if (v->watch->progress(v->watch->ctx, v->done, v->total))
        return ERR_OK;
    return error_set(err, ERR_CLOSED, "interrupted");
}

/* ---- packs ------------------------------------------------------------- */

/* A body whose frames are coming. */
struct body_sum {
    struct guid guid;
    uint32_t next_part, parts;
    EVP_MD_CTX *sha;
};

static void
check_frame(struct verifying *v, struct body_sum *b, const char *path,
            uint64_t at, const struct guid *guid, const struct body_loc *loc,
            struct span stored)
{
    struct guid got;
    char text[GUID_TEXT_BYTES];

    if (loc->part == 0) {
        b->guid = *guid;
        b->next_part = 0;
        b->parts = loc->parts;
        ENSURE(EVP_DigestInit_ex2(b->sha, EVP_sha1(), NULL) == 1);
    }
    /* Parts of a body whose copying was given up: nobody names them. */
    if (!guid_eq(guid, &b->guid) || loc->part != b->next_part ||
        loc->parts != b->parts)
        return;
    b->next_part++;
    if (!seed_unpack_part(loc, stored, v->raw)) {
        fault(v, "%s: body %s at %" PRIu64 " does not decompress", path,
              guid_text(guid, text), at);
        b->parts = 0;
        return;
    }
    ENSURE(EVP_DigestUpdate(b->sha, v->raw, loc->raw_bytes) == 1);
    if (b->next_part < b->parts)
        return;
    v->sum->bodies++;
    ENSURE(EVP_DigestFinal_ex(b->sha, got.b, NULL) == 1);
    if (!guid_eq(&got, guid))
        fault(v, "%s: body %s before %" PRIu64 " has another SHA-1", path,
              guid_text(guid, text), at);
}

static enum errcode
read_pack(struct verifying *v, struct envfile *f, const struct backup_file *d,
          const struct instid *cluster, struct body_sum *b, XXH3_state_t *hash,
          struct error *err)
{
    AUTO(buf_free) struct buf bytes = BUF_INIT;
    const char *path = env_path(f);
    struct pack_head head;
    struct error why = {0};
    uint64_t at = 0, taken = 0;
    bool broken = false;

    while (at < d->bytes) {
        size_t want = (size_t)MIN(d->bytes - at, READ_BYTES);
        enum errcode rc =
            env_pread(f, buf_reserve(&bytes, want), want, at, &why);
        if (rc != ERR_OK) {
            fault(v, "%s", why.text);
            return ERR_OK;
        }
        ENSURE(XXH3_64bits_update(hash, bytes.p + bytes.n, want) == XXH_OK);
        bytes.n += want;
        at += want;
        if (taken == 0 && bytes.n >= PACK_HEADER_BYTES) {
            if (pack_head_decode(buf_span(&bytes), &head, &why) != ERR_OK) {
                fault(v, "%s: %s", path, why.text);
                broken = true;
            } else if (head.number != d->number ||
                       !instid_eq(&head.cluster, cluster)) {
                fault(v, "%s: it is another pack", path);
            }
            buf_drop(&bytes, PACK_HEADER_BYTES);
            taken = PACK_HEADER_BYTES;
        }
        size_t used = 0, n = 0;
        while (!broken && taken > 0 && used < bytes.n) {
            struct guid guid;
            struct body_loc loc;
            struct span stored;
            enum parse p = pack_frame_decode(span_skip(buf_span(&bytes), used),
                                             &guid, &loc, &stored, &n);
            if (p == PARSE_MORE && at < d->bytes)
                break;
            if (p != PARSE_DONE) {
                fault(v, "%s: damaged at byte %" PRIu64, path, taken + used);
                broken = true;
                break;
            }
            check_frame(v, b, path, taken + used, &guid, &loc, stored);
            used += n;
        }
        if (broken)
            used = bytes.n;
        buf_drop(&bytes, used);
        taken += used;
        rc = went_on(v, want, err);
        if (rc != ERR_OK)
            return rc;
    }
    if (XXH3_64bits_digest(hash) != d->hash)
        fault(v, "%s: its checksum is wrong", path);
    return ERR_OK;
}

static enum errcode
verify_pack(struct verifying *v, const struct backup_file *d,
            const struct instid *cluster, struct error *err)
{
    AUTO(xfree) char *path = backup_path(v->dir, 0, BACKUP_PACK, d->number);
    AUTO(env_close) struct envfile *f = NULL;
    struct body_sum b = {.sha = EVP_MD_CTX_new()};
    XXH3_state_t *hash = XXH3_createState();
    struct error why = {0};
    uint64_t size = 0;

    ENSURE(b.sha != NULL && hash != NULL);
    ENSURE(XXH3_64bits_reset(hash) == XXH_OK);
    v->sum->packs++;
    enum errcode rc = env_open(v->env, path, ENV_READ, &f, &why);
    if (rc == ERR_OK)
        rc = env_size(f, &size, &why);
    if (rc != ERR_OK) {
        fault(v, "%s", why.text);
        rc = ERR_OK;
    } else if (size != d->bytes) {
        fault(v, "%s: it has %" PRIu64 " bytes, the manifest says %" PRIu64,
              path, size, d->bytes);
    } else {
        rc = read_pack(v, f, d, cluster, &b, hash, err);
    }
    EVP_MD_CTX_free(b.sha);
    XXH3_freeState(hash);
    return rc;
}

static int
by_pack(const void *a, const void *b)
{
    const struct backup_file *x = *(const struct backup_file *const *)a;
    const struct backup_file *y = *(const struct backup_file *const *)b;

    return x->number < y->number ? -1 : x->number > y->number;
}

/* Each pack that any of the generations names, once. */
static enum errcode
verify_packs(struct verifying *v, const struct backup_list *l, uint64_t number,
             struct error *err)
{
    const struct backup_file **packs = NULL;
    const struct instid *cluster = NULL;
    size_t n = 0;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < l->n; i++) {
        const struct backup_generation *g = &l->v[i];
        if (g->code != ERR_OK || (number != 0 && g->number != number))
            continue;
        cluster = &g->m.cluster;
        packs = xrealloc(packs, (n + g->m.nfiles + 1) * sizeof(*packs));
        for (size_t k = 0; k < g->m.nfiles; k++)
            if (g->m.files[k].kind == BACKUP_PACK)
                packs[n++] = &g->m.files[k];
    }
    if (n > 1)
        qsort(packs, n, sizeof(*packs), by_pack);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || packs[i]->number != packs[i - 1]->number)
            v->total += packs[i]->bytes;
    for (size_t i = 0; rc == ERR_OK && i < n; i++) {
        if (i == 0 || packs[i]->number != packs[i - 1]->number)
            rc = verify_pack(v, packs[i], cluster, err);
        else if (packs[i]->bytes != packs[i - 1]->bytes ||
                 packs[i]->hash != packs[i - 1]->hash)
            fault(v, "two generations differ about pack %016" PRIx64,
                  packs[i]->number);
    }
    free(packs);
    return rc;
}

/* ---- index ------------------------------------------------------------- */

static enum errcode
nothing_to_do(void *ctx, const struct guid *guid, const struct body_loc *loc,
              struct span stored, struct error *err)
{
    (void)ctx;
    (void)guid;
    (void)loc;
    (void)stored;
    (void)err;
    return ERR_OK;
}

/* Each entry leads to its body; entries are sorted, and as many as there have
 * to be. */
static enum errcode
verify_index(struct verifying *v, const struct backup_manifest *m,
             struct error *err)
{
    AUTO(backup_in_free) struct backup_in in = {0};
    AUTO(backup_packs_free)
    struct backup_packs packs = {.env = v->env, .dir = v->dir};
    struct backup_entry e, last = {{{0}}, 0, 0, 0, 0};
    struct error why = {0};
    uint64_t bodies = 0, bytes = 0, lost = 0;
    bool end = false;
    enum errcode rc = ERR_OK;

    backup_in_init(&in, v->env, v->dir, m, BACKUP_INDEX);
    for (;;) {
        if (backup_in_entry(&in, &e, &end, &why) != ERR_OK) {
            fault(v, "%s", why.text);
            return ERR_OK;
        }
        if (end)
            break;
        if (bodies + lost > 0 && memcmp(last.guid.b, e.guid.b, GUID_BYTES) >= 0)
            fault(v, "%s: entries out of order", in.path);
        last = e;
        bodies += e.pack != 0;
        lost += e.pack == 0;
        bytes += e.size;
        if (e.pack != 0 &&
            backup_packs_body(&packs, &e, nothing_to_do, NULL, &why) != ERR_OK)
            fault(v, "generation %" PRIu64 ": %s", m->generation, why.text);
        rc = went_on(v, 0, err);
        if (rc != ERR_OK)
            return rc;
    }
    if (bodies != m->bodies || lost != m->lost || bytes != m->body_bytes)
        fault(v,
              "generation %" PRIu64 ": the index has other bodies than the "
              "manifest counts",
              m->generation);
    return ERR_OK;
}

/* ---- rows -------------------------------------------------------------- */

/* Rows into KV; *RET_GOOD false after a fault. */
static enum errcode
load_rows(struct verifying *v, const struct backup_manifest *m, struct kv *kv,
          bool *ret_good, struct error *err)
{
    AUTO(backup_in_free) struct backup_in in = {0};
    AUTO(kv_batch_free) struct kv_batch *batch = kv_batch_new();
    struct span key, value;
    struct error why = {0};
    uint64_t rows = 0;
    bool end = false;
    enum errcode rc = ERR_OK;

    *ret_good = false;
    backup_in_init(&in, v->env, v->dir, m, BACKUP_ROWS);
    for (;;) {
        if (backup_in_row(&in, &key, &value, &end, &why) != ERR_OK) {
            fault(v, "%s", why.text);
            return ERR_OK;
        }
        if (end)
            break;
        if (key.n == 0 || key.n > KEY_MAX || !table_is_replicated(key.p[0])) {
            fault(v, "%s: a row of no replicated table", in.path);
            return ERR_OK;
        }
        rows++;
        kv_batch_put(batch, KV_STATE, key, value);
        if (kv_batch_bytes(batch) < BATCH_BYTES)
            continue;
        rc = kv_write(kv, batch, err);
        kv_batch_clear(batch);
        if (rc == ERR_OK)
            rc = went_on(v, 0, err);
        if (rc != ERR_OK)
            return rc;
    }
    v->sum->rows += rows;
    if (rows != m->rows)
        fault(v,
              "generation %" PRIu64 ": %" PRIu64 " rows, the manifest says "
              "%" PRIu64,
              m->generation, rows, m->rows);
    *ret_good = true;
    return kv_write(kv, batch, err);
}

/* Every GUID that a message has is in the index. */
static enum errcode
verify_references(struct verifying *v, const struct backup_manifest *m,
                  struct kv *kv, struct error *err)
{
    AUTO(backup_in_free) struct backup_in in = {0};
    struct backup_entry e = {{{0}}, 0, 0, 0, 0};
    struct guid guid = {{0}};
    struct span key, value;
    struct key k;
    bool end = false, is_first = true;
    char text[GUID_TEXT_BYTES];

    backup_in_init(&in, v->env, v->dir, m, BACKUP_INDEX);
    struct kv_iter *refs = kv_iter_open(kv, NULL, KV_STATE,
                                        key_table(&k, TAB_GUIDREF), SPAN_EMPTY);
    while (kv_iter_next(refs, &key, &value)) {
        if (key.n < 1 + GUID_BYTES ||
            (!is_first && memcmp(guid.b, key.p + 1, GUID_BYTES) == 0))
            continue;
        memcpy(guid.b, key.p + 1, GUID_BYTES);
        while (!end && (is_first || memcmp(e.guid.b, guid.b, GUID_BYTES) < 0)) {
            is_first = false;
            if (backup_in_entry(&in, &e, &end, NULL) != ERR_OK)
                end = true; /* told before */
        }
        is_first = false;
        if (end || !guid_eq(&e.guid, &guid))
            fault(v,
                  "generation %" PRIu64 ": a message has body %s, which is "
                  "not there",
                  m->generation, guid_text(&guid, text));
    }
    return kv_iter_close(&refs, err);
}

static enum errcode
verify_rows(struct verifying *v, const struct backup_manifest *m, struct kv *kv,
            struct error *err)
{
    struct error why = {0};
    uint64_t digest = 0;
    bool good = false;

    enum errcode rc = load_rows(v, m, kv, &good, err);
    if (rc != ERR_OK || !good)
        return rc;
    rc = seed_check_rows(kv, &digest, &why);
    if (rc == ERR_NOSPACE || rc == ERR_IO)
        return error_set(err, rc, "%s", why.text);
    if (rc != ERR_OK) {
        fault(v, "generation %" PRIu64 ": %s", m->generation, why.text);
        return ERR_OK;
    }
    if (digest != m->pos.digest)
        fault(v,
              "generation %" PRIu64 ": the digest of its rows is %016" PRIx64
              ", not %016" PRIx64,
              m->generation, digest, m->pos.digest);
    return verify_references(v, m, kv, err);
}

/* The store on the side: a directory of files, no directories in it. */
static void
remove_side(const char *path)
{
    DIR *d = opendir(path);

    if (d != NULL) {
        for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
            (void)!unlinkat(dirfd(d), e->d_name, 0);
        closedir(d);
    }
    (void)!rmdir(path);
}

static enum errcode
verify_generation(struct verifying *v, const struct backup_manifest *m,
                  struct error *err)
{
    AUTO(xfree) char *side = xasprintf("%s/pollux-verify-XXXXXX", v->tmpdir);
    struct kv *kv = NULL;

    v->sum->generations++;
    enum errcode rc = verify_index(v, m, err);
    if (rc != ERR_OK)
        return rc;
    if (mkdtemp(side) == NULL)
        return error_set(err, ERR_IO, "%s cannot be made", side);
    rc = kv_open_rocks(side, KV_CACHE_BYTES, &kv, err);
    if (rc == ERR_OK)
        rc = verify_rows(v, m, kv, err);
    kv_close(&kv);
    remove_side(side);
    return rc;
}

enum errcode
backup_verify(struct env *env, const char *dir, const char *tmpdir,
              uint64_t number, const struct backup_watch *watch,
              struct backup_verified *ret, struct error *err)
{
    AUTO(backup_list_free) struct backup_list l = {0};
    struct verifying v = {
        .env = env, .dir = dir, .tmpdir = tmpdir, .watch = watch, .sum = ret};
    bool is_there = false;

    *ret = (struct backup_verified){0};
    enum errcode rc = backup_list_read(env, dir, &l, err);
    if (rc != ERR_OK)
        return rc;
    for (size_t i = 0; i < l.n; i++) {
        if (number != 0 && l.v[i].number != number)
            continue;
        is_there = true;
        if (l.v[i].code != ERR_OK)
            fault(&v, "%s", l.v[i].err.text);
    }
    if (!is_there) {
        const struct backup_manifest *none;
        return backup_list_pick(&l, dir, number, &none, err);
    }
    v.raw = xmalloc(BODY_PART_BYTES);
    rc = verify_packs(&v, &l, number, err);
    for (size_t i = 0; rc == ERR_OK && i < l.n; i++)
        if (l.v[i].code == ERR_OK && (number == 0 || l.v[i].number == number))
            rc = verify_generation(&v, &l.v[i].m, err);
    free(v.raw);
    return rc;
}
