/*
 * admin/backup_restore.c - a backup becomes an instance.
 *
 * It is taken in as a seed is (store/seed.h), so all that is checked there is
 * checked here: each body's SHA-1, counters, digest, that no body is missing.
 * The new instance is a replica whatever imapd.conf says of a twin: the log of
 * its master may go on where the backup ends, and who is to write is for a
 * person to say.
 */
#include "admin/backup.h"

#include <stdlib.h>

#include "store/damage.h"
#include "store/seed.h"

struct restoring {
    struct env *env;
    const char *dir;
    const struct backup_manifest *m;
    const struct backup_watch *watch;
    struct store *store;
    struct seed *seed;
};

/* ---- is there room ----------------------------------------------------- */

static enum errcode
refuse_full(struct env *env, const char *dir, const char *name,
            struct error *err)
{
    AUTO(xfree) char *path = xasprintf("%s/%s", dir, name);

    if (!env_exists(env, path))
        return ERR_OK;
    return error_set(err, ERR_EXISTS,
                     "there is an instance already, or what is left of one: "
                     "%s; a backup is restored into empty directories only",
                     path);
}

static enum errcode
refuse_packs(struct env *env, const char *dir, struct error *err)
{
    AUTO(buf_free) struct buf names = BUF_INIT;

    if (dir == NULL || !env_exists(env, dir))
        return ERR_OK;
    enum errcode rc = env_list(env, dir, &names, err);
    for (size_t at = 0; rc == ERR_OK && at < names.n;) {
        const char *name = (const char *)names.p + at;
        at += strlen(name) + 1;
        if (span_starts(span_str(name), SPAN_LIT("pack-")))
            rc = refuse_full(env, dir, name, err);
    }
    return rc;
}

static enum errcode
check_empty(struct env *env, const struct store_config *cfg, struct error *err)
{
    static const char *const names[] = {"node", "synclog", "state"};
    enum errcode rc = ERR_OK;

    for (size_t i = 0; rc == ERR_OK && i < ARRAY_LEN(names); i++)
        rc = refuse_full(env, cfg->dir, names[i], err);
    if (rc == ERR_OK && cfg->npartitions == 0) {
        AUTO(xfree) char *path = xasprintf("%s/packs", cfg->dir);
        rc = refuse_packs(env, cfg->pack_dir != NULL ? cfg->pack_dir : path,
                          err);
    }
    for (size_t i = 0; rc == ERR_OK && i < cfg->npartitions; i++) {
        rc = refuse_packs(env, cfg->partitions[i].path, err);
        if (rc == ERR_OK)
            rc = refuse_packs(env, cfg->partitions[i].archive_path, err);
    }
    return rc;
}

/* ---- taking it in ------------------------------------------------------ */

static enum errcode
put_part(void *ctx, const struct guid *guid, const struct body_loc *loc,
         struct span stored, struct error *err)
{
    struct restoring *r = ctx;

    return seed_put_part(r->seed, guid, loc, stored, err);
}

static enum errcode
put_bodies(struct restoring *r, struct error *err)
{
    AUTO(backup_in_free) struct backup_in in = {0};
    AUTO(backup_packs_free)
    struct backup_packs packs = {.env = r->env, .dir = r->dir};
    struct backup_entry e;
    bool end = false;
    uint64_t done = 0;

    backup_in_init(&in, r->env, r->dir, r->m, BACKUP_INDEX);
    for (;;) {
        enum errcode rc = backup_in_entry(&in, &e, &end, err);
        if (rc != ERR_OK || end)
            return rc;
        if (e.pack == 0) {
            struct damage d = {.kind = DAMAGE_BODY,
                               .guid = e.guid,
                               .why = "the backup was made without it"};
            store_damage_note(r->store, &d);
        } else {
            rc = backup_packs_body(&packs, &e, put_part, r, err);
            if (rc != ERR_OK)
                return rc;
        }
        if (!r->watch->progress(r->watch->ctx, ++done,
                                r->m->bodies + r->m->lost))
            return error_set(err, ERR_CLOSED, "interrupted");
    }
}

static enum errcode
put_rows(struct restoring *r, struct error *err)
{
    AUTO(backup_in_free) struct backup_in in = {0};
    struct span key, value;
    bool end = false;

    enum errcode rc = seed_begin_rows(r->seed, err);
    backup_in_init(&in, r->env, r->dir, r->m, BACKUP_ROWS);
    while (rc == ERR_OK) {
        rc = backup_in_row(&in, &key, &value, &end, err);
        if (rc != ERR_OK || end)
            break;
        rc = seed_put_row(r->seed, key, value, err);
    }
    return rc;
}

static enum errcode
fill_instance(struct restoring *r, struct node *node, struct error *err)
{
    struct csync_instance instance;
    struct instid nobody = {{0}};

    /* As if its master had called: the cluster and its epoch are ours. */
    node_csync_instance(node, &instance);
    enum errcode rc = instance.follow(instance.ctx, &r->m->cluster, &nobody,
                                      r->m->pos.applied.epoch, err);
    r->store = node_store(node);
    if (rc == ERR_OK)
        rc = seed_open(r->store, &r->seed, err);
    if (rc == ERR_OK)
        rc = put_bodies(r, err);
    if (rc == ERR_OK)
        rc = seed_sync(r->seed, err);
    if (rc == ERR_OK)
        rc = put_rows(r, err);
    if (rc == ERR_OK)
        rc = seed_finish(r->seed, &r->m->pos, err);
    seed_close(&r->seed);
    return rc;
}

enum errcode
backup_restore(struct env *env, const char *dir, uint64_t number,
               const struct node_config *nc, const struct backup_watch *watch,
               struct backup_manifest *ret, struct error *err)
{
    AUTO(backup_list_free) struct backup_list list = {0};
    struct restoring r = {.env = env, .dir = dir, .watch = watch};
    struct node_config replica = *nc;
    struct node_hooks hooks = {0};
    struct store_opened found;
    struct node *node = NULL;

    enum errcode rc = backup_list_read(env, dir, &list, err);
    if (rc == ERR_OK)
        rc = backup_list_pick(&list, dir, number, &r.m, err);
    for (size_t i = 0; rc == ERR_OK && i < r.m->nfiles; i++)
        if (!backup_file_is_there(env, dir, r.m->generation, &r.m->files[i])) {
            AUTO(xfree)
            char *path = backup_path(dir, r.m->generation, r.m->files[i].kind,
                                     r.m->files[i].number);
            rc = error_set(err, ERR_CORRUPT,
                           "%s is missing, or of another size: see "
                           "'ctl_backup verify'",
                           path);
        }
    if (rc == ERR_OK)
        rc = check_empty(env, &nc->store, err);
    if (rc != ERR_OK)
        return rc;
    replica.has_twin = true;
    rc = node_open(env, &replica, &hooks, &node, &found, err);
    if (rc == ERR_OK)
        rc = fill_instance(&r, node, err);
    node_close(&node);
    if (rc != ERR_OK)
        return error_prefix(err, "nothing was restored, remove what is in %s",
                            nc->store.dir);
    *ret = *r.m;
    ret->files = NULL;
    ret->nfiles = 0;
    return ERR_OK;
}
