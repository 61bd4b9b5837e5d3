/*
 * admin/backup_dir.c - names and generations of a backup's directory.
 *
 * The manifest is written last, when all files that it names are synced, and in
 * one step (env_write_file_atomic); there is no other mark of a whole backup.
 */
#include "admin/backup_dir.h"

#include <stdlib.h>

static const char *const kind_names[] = {
    [BACKUP_ROWS] = "rows",
    [BACKUP_INDEX] = "index",
};

char *
backup_path(const char *dir, uint64_t generation, enum backup_kind kind,
            uint64_t number)
{
    if (kind == BACKUP_PACK)
        return xasprintf("%s/pack-%016" PRIx64 ".plx", dir, number);
    return xasprintf("%s/gen-%08" PRIu64 "-%s-%06" PRIu64 ".plb", dir,
                     generation, kind_names[kind], number);
}

char *
backup_manifest_path(const char *dir, uint64_t generation)
{
    return xasprintf("%s/gen-%08" PRIu64 ".manifest", dir, generation);
}

/* What a name in the directory is. */
struct named {
    enum { NAMED_OTHER, NAMED_MANIFEST, NAMED_FILE, NAMED_TMP } what;
    uint64_t generation; /* 0: a pack */
    enum backup_kind kind;
    uint64_t number;
};

/* "gen-NUMBER" off the front; 0: it is not there. */
static uint64_t
take_generation(struct span *name)
{
    uint64_t v = 0;
    size_t n = 0;

    if (!span_starts(*name, SPAN_LIT("gen-")))
        return 0;
    *name = span_skip(*name, 4);
    while (n < name->n && name->p[n] >= '0' && name->p[n] <= '9')
        n++;
    if (n < 8 || !parse_u64(span_sub(*name, 0, n), &v))
        return 0;
    *name = span_skip(*name, n);
    return v;
}

static struct named
name_read(struct span name)
{
    struct named r = {.what = NAMED_OTHER};
    struct span left = name;

    if (span_starts(name, SPAN_LIT("pack-")) && name.n == 25 &&
        span_eq_str(span_skip(name, 21), ".plx") &&
        parse_hex_u64(span_sub(name, 5, 16), &r.number)) {
        r.what = NAMED_FILE;
        r.kind = BACKUP_PACK;
        return r;
    }
    r.generation = take_generation(&left);
    if (r.generation == 0)
        return r;
    if (span_eq_str(left, ".manifest"))
        r.what = NAMED_MANIFEST;
    else if (span_starts(left, SPAN_LIT(".manifest" ENV_TMP_MARK)))
        r.what = NAMED_TMP;
    for (enum backup_kind k = BACKUP_ROWS; k <= BACKUP_INDEX; k++) {
        AUTO(xfree) char *prefix = xasprintf("-%s-", kind_names[k]);
        struct span rest = span_skip(left, strlen(prefix));
        if (span_starts(left, span_str(prefix)) && rest.n > 4 &&
            span_eq_str(span_skip(rest, rest.n - 4), ".plb") &&
            parse_u64(span_sub(rest, 0, rest.n - 4), &r.number)) {
            r.what = NAMED_FILE;
            r.kind = k;
        }
    }
    return r;
}

/* ---- generations ------------------------------------------------------- */

static enum errcode
read_manifest(struct env *env, const char *dir, struct arena *a,
              struct backup_generation *g)
{
    AUTO(xfree) char *path = backup_manifest_path(dir, g->number);
    AUTO(buf_free) struct buf text = BUF_INIT;

    g->code = env_read_file(env, path, BACKUP_MANIFEST_MAX, &text, &g->err);
    if (g->code == ERR_OK)
        g->code = backup_manifest_decode(buf_span(&text), a, &g->m, &g->err);
    if (g->code == ERR_OK && g->m.generation != g->number)
        g->code = error_set(&g->err, ERR_CORRUPT,
                            "it is the manifest of generation %" PRIu64,
                            g->m.generation);
    if (g->code != ERR_OK)
        (void)error_prefix(&g->err, "%s", path);
    return g->code;
}

static int
by_number(const void *a, const void *b)
{
    const struct backup_generation *x = a, *y = b;

    return x->number < y->number ? -1 : x->number > y->number;
}

enum errcode
backup_list_read(struct env *env, const char *dir, struct backup_list *ret,
                 struct error *err)
{
    AUTO(buf_free) struct buf names = BUF_INIT;
    struct backup_list l = {0};

    enum errcode rc = env_list(env, dir, &names, err);
    if (rc != ERR_OK)
        return rc;
    for (size_t at = 0; at < names.n;) {
        struct span name = span_str((const char *)names.p + at);
        struct named is = name_read(name);
        at += name.n + 1;
        l.highest_generation = MAX(l.highest_generation, is.generation);
        if (is.what == NAMED_FILE && is.kind == BACKUP_PACK)
            l.highest_pack = MAX(l.highest_pack, is.number);
        if (is.what != NAMED_MANIFEST)
            continue;
        l.v = xrealloc(l.v, (l.n + 1) * sizeof(*l.v));
        l.v[l.n] = (struct backup_generation){.number = is.generation};
        (void)read_manifest(env, dir, &l.arena, &l.v[l.n]);
        /* Also of packs that are lost: their numbers are never used again. */
        const struct backup_manifest *m = &l.v[l.n].m;
        if (m->nfiles > 0 && m->files[m->nfiles - 1].kind == BACKUP_PACK)
            l.highest_pack =
                MAX(l.highest_pack, m->files[m->nfiles - 1].number);
        l.n++;
    }
    if (l.n > 1)
        qsort(l.v, l.n, sizeof(*l.v), by_number);
    *ret = l;
    return ERR_OK;
}

void
backup_list_free(struct backup_list *l)
{
    free(l->v);
    arena_free(&l->arena);
    *l = (struct backup_list){0};
}

enum errcode
backup_list_pick(const struct backup_list *l, const char *dir, uint64_t number,
                 const struct backup_manifest **ret, struct error *err)
{
    for (size_t i = l->n; i-- > 0;) {
        const struct backup_generation *g = &l->v[i];
        if (number != 0 && g->number != number)
            continue;
        if (g->code != ERR_OK)
            return error_set(err, g->code, "%s", g->err.text);
        *ret = &g->m;
        return ERR_OK;
    }
    if (number != 0)
        return error_set(err, ERR_NOTFOUND,
                         "there is no generation %" PRIu64 " in %s", number,
                         dir);
    return error_set(err, ERR_NOTFOUND, "there is no whole backup in %s", dir);
}

/* Does a manifest name it?  Packs are asked for often, and sorted. */
static bool
is_named(const struct backup_list *l, const struct named *is)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct backup_manifest *m = &l->v[i].m;
        if (is->kind != BACKUP_PACK && l->v[i].number != is->generation)
            continue;
        for (size_t low = 0, high = m->nfiles; low < high;) {
            size_t mid = low + (high - low) / 2;
            const struct backup_file *f = &m->files[mid];
            if (f->kind == is->kind && f->number == is->number)
                return true;
            if (f->kind < is->kind ||
                (f->kind == is->kind && f->number < is->number))
                low = mid + 1;
            else
                high = mid;
        }
    }
    return false;
}

enum errcode
backup_sweep(struct env *env, const char *dir, struct error *err)
{
    AUTO(backup_list_free) struct backup_list l = {0};
    AUTO(buf_free) struct buf names = BUF_INIT;

    enum errcode rc = backup_list_read(env, dir, &l, err);
    if (rc == ERR_OK)
        rc = env_list(env, dir, &names, err);
    for (size_t i = 0; i < l.n; i++)
        if (l.v[i].code != ERR_OK)
            return rc;
    for (size_t at = 0; rc == ERR_OK && at < names.n;) {
        struct span name = span_str((const char *)names.p + at);
        struct named is = name_read(name);
        at += name.n + 1;
        if (is.what == NAMED_TMP ||
            (is.what == NAMED_FILE && !is_named(&l, &is))) {
            AUTO(xfree) char *path = xasprintf("%s/%.*s", dir, SPAN_FMT(name));
            rc = env_unlink(env, path, err);
        }
    }
    return rc;
}

bool
backup_file_is_there(struct env *env, const char *dir, uint64_t generation,
                     const struct backup_file *f)
{
    AUTO(xfree) char *path = backup_path(dir, generation, f->kind, f->number);
    AUTO(env_close) struct envfile *file = NULL;
    uint64_t size = 0;

    return env_open(env, path, ENV_READ, &file, NULL) == ERR_OK &&
           env_size(file, &size, NULL) == ERR_OK && size == f->bytes;
}
