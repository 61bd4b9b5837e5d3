/*
 * store/damage_state.c - what to do when state or log are damaged as a whole.
 *
 * A body is repaired alone; rows of the state are not.  Whoever comes upon a
 * damaged block of the key-value store ends the instance, with one sentence
 * that says what to do, and leaves a mark beside the database, so that it is
 * not served until somebody happens to read that block again.  Where the log
 * reaches back to its beginning the next start makes the state anew from it;
 * otherwise the twin has it.
 */
#include <stdlib.h>

#include "base/log.h"
#include "store/store_private.h"
#include "synclog/reader.h"

#define MARK_BYTES_MAX ((size_t)4096)

static char *
mark_path(const char *dir)
{
    return xasprintf("%s/state/DAMAGED", dir);
}

void
damage_advise(bool is_state, struct error *err)
{
    const struct error old = *err;

    (void)error_set(
        err, old.code, "%.280s: %s", old.text,
        is_state ? "promote the twin with 'ctl_failover promote', then run "
                   "'ctl_failover rejoin' here: it seeds this instance anew"
                 : "nothing was changed; run 'synclog repair' here, which "
                   "fetches it from the twin, or promote the twin and run "
                   "'ctl_failover rejoin' here");
}

enum errcode
state_check_mark(struct env *env, const char *dir, struct error *err)
{
    AUTO(xfree) char *path = mark_path(dir);
    AUTO(buf_free) struct buf text = BUF_INIT;

    if (!env_may_exist(env, path))
        return ERR_OK;
    if (env_read_file(env, path, MARK_BYTES_MAX, &text, NULL) != ERR_OK)
        buf_clear(&text);
    return error_set(err, ERR_CORRUPT, "the state was found damaged (%s): %.*s",
                     path, (int)MIN(text.n, (size_t)200), (const char *)text.p);
}

void
state_is_damaged(void *ctx, const struct error *err)
{
    struct store *store = ctx;
    AUTO(xfree) char *path = mark_path(store->cfg.dir);
    struct error own = *err;

    store->state_damaged = true;
    if (!store->is_open || atomic_load(&store->dead))
        return;
    /* If this fails the next start finds it when it reads there. */
    if (env_write_file_atomic(store->env, path, span_str(err->text), NULL) !=
        ERR_OK)
        log_warn(NULL, "store.mark_failed", "path=\"%s\"", path);
    damage_advise(true, &own);
    store_die(store, &own);
}

bool
state_can_be_rebuilt(struct env *env, const char *log_dir)
{
    AUTO(reader_close) struct synclog_reader *r = NULL;
    const struct synclog_mark nothing = {0};

    return reader_open(env, log_dir, &nothing, LSN_NONE, &r, NULL) == ERR_OK;
}

enum errcode
state_set_aside(struct env *env, const struct store_config *cfg,
                const struct error *why, struct error *err)
{
    AUTO(xfree)
    char *name = xasprintf("damaged-state-%" PRIu64, env_wall_us(env));
    AUTO(xfree) char *from = xasprintf("%s/state", cfg->dir);
    AUTO(xfree) char *to = xasprintf("%s/%s", cfg->dir, name);

    enum errcode rc = env_rename(env, from, to, err);
    if (rc == ERR_OK)
        rc = env_syncdir(env, cfg->dir, err);
    /* Everything that is in packs is in the log too, which is whole. */
    if (rc == ERR_OK)
        rc = store_set_packs_aside(env, cfg, name, err);
    if (rc == ERR_OK)
        log_warn(NULL, "store.rebuilt",
                 "why=\"%s\" aside=\"%s\" effect=\"made anew from the log\"",
                 why->text, to);
    return rc;
}
