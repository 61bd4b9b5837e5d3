/*
 * admin/backup.c - BACKUP: one more generation in a directory (ctl_backup
 * create).
 *
 * All comes from one snapshot: its rows, and the bodies that it names.  The
 * bodies are walked by GUID beside the index of the generation before, which
 * has the same order: what is there already is not read, and its entry is
 * copied; so memory does not grow with the store, and a backup costs what is
 * new.  The manifest comes last.  Whatever ends this before leaves files that
 * nobody names, and the next backup removes them.
 *
 * A body that is damaged here, or gone, is taken from the generation before;
 * where that has none it is counted as lost and does not hold up the rest.
 *
 * Beside clients nothing is locked, files are synced in small pieces, and RATE
 * bounds the bytes a second.
 */
#include <stdlib.h>

#include "admin/ask.h"
#include "admin/backup_dir.h"
#include "base/log.h"
#include "store/damage.h"
#include "store/seed.h"

#define PAUSE_MAX_MS 500U
#define KEEP_MAX 100000U
/* Bodies between two looks whether anybody still waits. */
#define LOOK_EVERY 64U

struct taking {
    struct ask *ask;
    const char *dir;
    struct store_snap *snap;
    struct backup_list list; /* generations before */
    struct backup_manifest m;

    /* The generation before, if it can be built upon. */
    const struct backup_manifest *base;
    bool *base_has; /* by place in base->files: the file is there */
    struct backup_in base_index;
    struct backup_entry base_entry;
    bool base_end;

    struct guid *missing; /* bodies that messages have and the store has not */
    size_t nmissing, missing_room, next_missing;

    struct backup_out packs, index, rows;
    uint64_t *used; /* packs of BASE that are needed on: by place in files */
    struct buf stored;
    uint64_t total;
    uint64_t rate; /* bytes a second, 0: no bound */
    uint64_t began_ns;
    unsigned looked;
    enum errcode rc;
    struct error *err;
};

static enum errcode
warn(struct ask *ask, const char *text, struct error *err)
{
    struct dlist_printer *p = ask_row(ask, "WARNING");

    dlist_str(p, "TEXT", text);
    return ask_row_end(ask, err);
}

/* ---- holding back ------------------------------------------------------ */

/* Wait while more was written than RATE allows for the time; notice who went.
 */
static enum errcode
hold_back(struct taking *t, struct error *err)
{
    const struct csync_answer *answer = t->ask->answer;

    for (;;) {
        uint64_t ms = 0;
        if (t->rate > 0) {
            uint64_t bytes = t->packs.total + t->rows.total + t->index.total;
            uint64_t due_ms =
                (uint64_t)((double)bytes * 1000 / (double)t->rate);
            uint64_t now_ms =
                (env_mono_ns(t->ask->env) - t->began_ns) / 1000000;
            ms = due_ms > now_ms ? due_ms - now_ms : 0;
        }
        if (ms == 0 && ++t->looked % LOOK_EVERY != 0)
            return ERR_OK;
        if (!answer->pause(answer->ctx, (unsigned)MIN(ms, PAUSE_MAX_MS)))
            return error_set(err, ERR_CLOSED,
                             "nobody waits for the answer any more");
        if (ms == 0)
            return ERR_OK;
    }
}

/* ---- the generation before --------------------------------------------- */

static size_t
place_of_pack(const struct backup_manifest *m, uint64_t pack)
{
    size_t low = 0, high = m->nfiles;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct backup_file *f = &m->files[mid];
        if (f->kind == BACKUP_PACK && f->number == pack)
            return mid;
        if (f->kind != BACKUP_PACK || f->number < pack)
            low = mid + 1;
        else
            high = mid;
    }
    return SIZE_MAX;
}

static enum errcode
next_base_entry(struct taking *t, struct error *err)
{
    struct error why = {0};

    if (t->base_end)
        return ERR_OK;
    if (backup_in_entry(&t->base_index, &t->base_entry, &t->base_end, &why) ==
        ERR_OK)
        return ERR_OK;
    /* Not to be trusted beyond this: the rest is copied again. */
    t->base_end = true;
    return warn(t->ask, why.text, err);
}

/* Find out what there is to build upon. */
static enum errcode
open_base(struct taking *t, struct error *err)
{
    enum errcode rc = backup_list_read(t->ask->env, t->dir, &t->list, err);

    for (size_t i = 0; rc == ERR_OK && i < t->list.n; i++) {
        const struct backup_generation *g = &t->list.v[i];
        if (g->code != ERR_OK)
            rc = warn(t->ask, g->err.text, err);
        else if (!instid_eq(&g->m.cluster, &t->m.cluster))
            rc = error_set(err, ERR_HISTORY,
                           "%s holds backups of another cluster", t->dir);
        else
            t->base = &g->m;
    }
    t->base_end = true;
    if (rc != ERR_OK || t->base == NULL)
        return rc;
    t->base_has = xcalloc(t->base->nfiles + 1, sizeof(*t->base_has));
    t->used = xcalloc(t->base->nfiles + 1, sizeof(*t->used));
    for (size_t i = 0; i < t->base->nfiles; i++)
        t->base_has[i] = backup_file_is_there(
            t->ask->env, t->dir, t->base->generation, &t->base->files[i]);
    backup_in_init(&t->base_index, t->ask->env, t->dir, t->base, BACKUP_INDEX);
    t->base_end = false;
    return next_base_entry(t, err);
}

/* Is GUID in the generation before?  GUIDs are asked for in their order. */
static enum errcode
find_in_base(struct taking *t, const struct guid *guid, bool *ret,
             struct error *err)
{
    enum errcode rc = ERR_OK;

    *ret = false;
    while (rc == ERR_OK && !t->base_end &&
           memcmp(t->base_entry.guid.b, guid->b, GUID_BYTES) < 0)
        rc = next_base_entry(t, err);
    if (rc != ERR_OK || t->base_end || !guid_eq(&t->base_entry.guid, guid) ||
        t->base_entry.pack == 0)
        return rc;
    size_t place = place_of_pack(t->base, t->base_entry.pack);
    *ret = place != SIZE_MAX && t->base_has[place];
    if (*ret)
        t->used[place] = 1;
    return rc;
}

/* ---- bodies ------------------------------------------------------------ */

/* The parts of a body into a pack; *RET_LOST: it is not to be had. */
static enum errcode
copy_body(struct taking *t, const struct guid *guid, struct backup_entry *e,
          bool *ret_lost, struct error *err)
{
    struct body_loc loc = {.parts = 1};
    struct error why = {0};

    *ret_lost = false;
    enum errcode rc = backup_out_body(&t->packs, &e->pack, &e->offset, err);
    for (uint32_t part = 0; rc == ERR_OK && part < loc.parts; part++) {
        buf_clear(&t->stored);
        enum errcode got = seed_read_part(t->ask->store, t->snap, guid, part,
                                          &loc, &t->stored, &why);
        *ret_lost = got == ERR_CORRUPT || got == ERR_NOTFOUND;
        if (*ret_lost) {
            store_damage_find(t->ask->store, guid);
            backup_out_undo(&t->packs, e->offset);
            return ERR_OK;
        }
        if (got != ERR_OK)
            return error_set(err, got, "%s", why.text);
        rc = backup_out_part(&t->packs, guid, &loc, buf_span(&t->stored), err);
    }
    e->bytes = t->packs.bytes - e->offset;
    e->size = loc.size;
    return rc;
}

static enum errcode
take_guid(struct taking *t, const struct guid *guid, bool is_missing,
          struct error *err)
{
    struct backup_entry e = {.guid = *guid};
    bool is_there = false, is_lost = is_missing;

    enum errcode rc = find_in_base(t, guid, &is_there, err);
    if (rc == ERR_OK && is_there) {
        e = t->base_entry;
        is_lost = false;
    } else if (rc == ERR_OK && !is_missing) {
        rc = copy_body(t, guid, &e, &is_lost, err);
        if (!is_lost) {
            t->m.new_bodies++;
            t->m.new_bytes += e.bytes;
        }
    }
    if (rc != ERR_OK)
        return rc;
    if (is_lost)
        e = (struct backup_entry){.guid = *guid};
    t->m.lost += is_lost;
    t->m.bodies += !is_lost;
    t->m.body_bytes += e.size;
    rc = backup_out_entry(&t->index, &e, err);
    if (rc == ERR_OK)
        rc = hold_back(t, err);
    if (rc == ERR_OK)
        rc = ask_progress(t->ask, t->m.bodies + t->m.lost, t->total, err);
    return rc;
}

/* Those that are missing come in between, where their GUIDs belong. */
static enum errcode
take_missing_before(struct taking *t, const struct guid *guid,
                    struct error *err)
{
    enum errcode rc = ERR_OK;

    while (rc == ERR_OK && t->next_missing < t->nmissing &&
           (guid == NULL ||
            memcmp(t->missing[t->next_missing].b, guid->b, GUID_BYTES) < 0))
        rc = take_guid(t, &t->missing[t->next_missing++], true, err);
    return rc;
}

static bool
take_body(void *ctx, const struct guid *guid, uint64_t size)
{
    struct taking *t = ctx;

    (void)size;
    t->rc = take_missing_before(t, guid, t->err);
    if (t->rc == ERR_OK)
        t->rc = take_guid(t, guid, false, t->err);
    return t->rc == ERR_OK;
}

static enum errcode
add_missing(void *ctx, const struct guid *guid, struct error *err)
{
    struct taking *t = ctx;

    (void)err;
    if (t->nmissing == t->missing_room) {
        t->missing_room = t->missing_room == 0 ? 64 : 2 * t->missing_room;
        t->missing =
            xrealloc(t->missing, t->missing_room * sizeof(*t->missing));
    }
    t->missing[t->nmissing++] = *guid;
    store_damage_find(t->ask->store, guid);
    return ERR_OK;
}

static bool
count_body(void *ctx, const struct guid *guid, uint64_t size)
{
    struct taking *t = ctx;

    (void)guid;
    (void)size;
    t->total++;
    return true;
}

static enum errcode
take_bodies(struct taking *t, struct error *err)
{
    enum errcode rc = seed_each_missing(t->snap, add_missing, t, err);

    t->total = t->nmissing;
    if (rc == ERR_OK)
        rc = seed_each_guid(t->snap, NULL, count_body, t, err);
    if (rc != ERR_OK)
        return rc;
    t->err = err;
    rc = seed_each_guid(t->snap, NULL, take_body, t, err);
    if (rc == ERR_OK)
        rc = t->rc;
    if (rc == ERR_OK)
        rc = take_missing_before(t, NULL, err);
    if (rc == ERR_OK)
        rc = backup_out_end(&t->packs, err);
    return rc == ERR_OK ? backup_out_end(&t->index, err) : rc;
}

/* ---- rows -------------------------------------------------------------- */

static bool
take_row(void *ctx, struct span key, struct span value)
{
    struct taking *t = ctx;

    t->m.rows++;
    t->rc = backup_out_row(&t->rows, key, value, t->err);
    if (t->rc == ERR_OK)
        t->rc = hold_back(t, t->err);
    return t->rc == ERR_OK;
}

static enum errcode
take_rows(struct taking *t, struct error *err)
{
    t->err = err;
    enum errcode rc = snap_each_row(t->snap, SPAN_EMPTY, take_row, t, err);
    if (rc == ERR_OK)
        rc = t->rc;
    return rc == ERR_OK ? backup_out_end(&t->rows, err) : rc;
}

/* ---- the whole --------------------------------------------------------- */

static enum errcode
write_manifest(struct taking *t, struct error *err)
{
    AUTO(xfree) char *path = backup_manifest_path(t->dir, t->m.generation);
    AUTO(buf_free) struct buf text = BUF_INIT;
    size_t most = t->rows.nfiles + t->index.nfiles + t->packs.nfiles +
                  (t->base == NULL ? 0 : t->base->nfiles);
    struct backup_file *files =
        arena_array(&t->ask->arena, most + 1, sizeof(*files));
    size_t n = 0;

    for (size_t i = 0; i < t->rows.nfiles; i++)
        files[n++] = t->rows.files[i];
    for (size_t i = 0; i < t->index.nfiles; i++)
        files[n++] = t->index.files[i];
    for (size_t i = 0; t->base != NULL && i < t->base->nfiles; i++)
        if (t->used[i] != 0)
            files[n++] = t->base->files[i];
    for (size_t i = 0; i < t->packs.nfiles; i++)
        files[n++] = t->packs.files[i];
    if (n > BACKUP_FILES_MAX)
        return error_set(err, ERR_LIMIT, "%zu files, limit %u", n,
                         BACKUP_FILES_MAX);
    t->m.files = files;
    t->m.nfiles = n;
    backup_manifest_encode(&t->m, &text);
    enum errcode rc = env_syncdir(t->ask->env, t->dir, err);
    if (rc == ERR_OK)
        rc = env_write_file_atomic(t->ask->env, path, buf_span(&text), err);
    return rc;
}

/* Remove the oldest whole ones until KEEP are left, the new one with them. */
static enum errcode
drop_old(struct taking *t, uint64_t keep, uint64_t *ret_dropped,
         struct error *err)
{
    uint64_t whole = 1;
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < t->list.n; i++)
        whole += t->list.v[i].code == ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < t->list.n && whole > keep; i++) {
        if (t->list.v[i].code != ERR_OK)
            continue;
        AUTO(xfree)
        char *path = backup_manifest_path(t->dir, t->list.v[i].number);
        rc = env_unlink(t->ask->env, path, err);
        whole--;
        ++*ret_dropped;
    }
    if (rc == ERR_OK && *ret_dropped > 0) {
        rc = env_syncdir(t->ask->env, t->dir, err);
        if (rc == ERR_OK)
            rc = backup_sweep(t->ask->env, t->dir, err);
    }
    return rc;
}

static enum errcode
take(struct taking *t, uint64_t keep, struct error *err)
{
    uint64_t dropped = 0;
    struct backup_head head = {.cluster = t->m.cluster};

    enum errcode rc = backup_sweep(t->ask->env, t->dir, err);
    if (rc == ERR_OK)
        rc = open_base(t, err);
    if (rc != ERR_OK)
        return rc;
    head.generation = t->m.generation = t->list.highest_generation + 1;
    head.kind = BACKUP_PACK;
    backup_out_init(&t->packs, t->ask->env, t->dir, &head,
                    t->list.highest_pack + 1, BACKUP_PACK_BYTES);
    head.kind = BACKUP_INDEX;
    backup_out_init(&t->index, t->ask->env, t->dir, &head, 1,
                    BACKUP_FILE_BYTES);
    head.kind = BACKUP_ROWS;
    backup_out_init(&t->rows, t->ask->env, t->dir, &head, 1, BACKUP_FILE_BYTES);
    rc = take_bodies(t, err);
    if (rc == ERR_OK)
        rc = take_rows(t, err);
    if (rc == ERR_OK)
        rc = write_manifest(t, err);
    if (rc == ERR_OK && keep > 0)
        rc = drop_old(t, keep, &dropped, err);
    if (rc != ERR_OK)
        return rc;
    struct dlist_printer *p = ask_row(t->ask, "BACKUP");
    dlist_u64(p, "GENERATION", t->m.generation);
    dlist_u64(p, "EPOCH", t->m.pos.applied.epoch);
    dlist_u64(p, "LSN", t->m.pos.applied.lsn);
    dlist_hex64(p, "DIGEST", t->m.pos.digest);
    dlist_u64(p, "ROWS", t->m.rows);
    dlist_u64(p, "BODIES", t->m.bodies);
    dlist_u64(p, "BYTES", t->m.body_bytes);
    dlist_u64(p, "NEW", t->m.new_bodies);
    dlist_u64(p, "NEWBYTES", t->m.new_bytes);
    dlist_u64(p, "LOST", t->m.lost);
    dlist_u64(p, "DROPPED", dropped);
    dlist_u64(p, "MS", (env_mono_ns(t->ask->env) - t->began_ns) / 1000000);
    return ask_row_end(t->ask, err);
}

static enum errcode
lock_dir(struct ask *ask, const char *dir, struct envfile **ret,
         struct error *err)
{
    AUTO(xfree) char *path = xasprintf("%s/lock", dir);

    enum errcode rc = env_mkdirs(ask->env, dir, err);
    if (rc == ERR_OK)
        rc = env_open(ask->env, path, ENV_CREATE, ret, err);
    if (rc != ERR_OK)
        return rc;
    rc = env_lock(*ret, err);
    if (rc == ERR_BUSY)
        return error_set(err, ERR_BUSY, "another backup into %s is under way",
                         dir);
    return rc;
}

enum errcode
admin_backup(struct ask *ask, struct error *err)
{
    AUTO(env_close) struct envfile *lock = NULL;
    struct taking t = {.ask = ask, .began_ns = env_mono_ns(ask->env)};
    struct store_log_view view;
    uint64_t keep = 0;

    t.dir = ask_text(ask, "PATH");
    if (t.dir == NULL || t.dir[0] != '/')
        return error_set(err, ERR_SYNTAX, "PATH is not an absolute path");
    enum errcode rc = ask_u64(ask, "KEEP", &keep, err);
    if (rc == ERR_OK)
        rc = ask_u64(ask, "RATE", &t.rate, err);
    if (rc == ERR_OK && keep > KEEP_MAX)
        rc = error_set(err, ERR_SYNTAX, "KEEP is more than %u", KEEP_MAX);
    if (rc != ERR_OK)
        return rc;
    store_log_view(ask->store, &view);
    t.snap = store_snapshot(ask->store);
    t.m.cluster = view.cluster;
    t.m.pos = snap_pos(t.snap);
    t.m.made_us = env_wall_us(ask->env);
    if (view.seeding || t.m.pos.applied.lsn == LSN_NONE)
        rc = error_set(err, ERR_AGAIN,
                       "the state here is not complete yet, there is nothing "
                       "to back up");
    if (rc == ERR_OK)
        rc = lock_dir(ask, t.dir, &lock, err);
    if (rc == ERR_OK)
        rc = take(&t, keep, err);
    store_release(&t.snap);
    backup_list_free(&t.list);
    backup_in_free(&t.base_index);
    backup_out_free(&t.packs);
    backup_out_free(&t.index);
    backup_out_free(&t.rows);
    buf_free(&t.stored);
    free(t.base_has);
    free(t.used);
    free(t.missing);
    return rc;
}
