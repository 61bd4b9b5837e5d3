/*
 * failover/ctl_rejoin.c - promote, and what a deposed master does afterwards:
 * export, rejoin.
 */
#include "failover/ctl_private.h"

#include "failover/node.h"

enum ctl_exit
ctl_promote(struct ctl *c)
{
    struct error err = {0};

    ctl_look(c);
    if (!c->has_here)
        return ctl_fail(c, CTL_NOLOCAL, "no instance answers here",
                        &c->here_err);
    if (c->has_there && c->there.role == ROLE_MASTER && !c->there.fence &&
        !c->o->force) {
        error_set(&err, ERR_CONFLICT,
                  "the twin is the master and serves: use swap there (--force "
                  "promotes all the same and deposes it)");
        return ctl_fail(c, CTL_FAILED, "not promoted", &err);
    }
    if (ctl_ask(c, c->o->force ? "NODE PROMOTE %(FORCE 1)" : "NODE PROMOTE",
                &err) != ERR_OK)
        return ctl_fail(c, CTL_FAILED, "not promoted", &err);
    fprintf(c->o->out,
            "promoted: this instance is the master of epoch %" PRI_EPOCH
            ", from %" PRI_LSN " on\n",
            c->fenced_at.applied.epoch, c->fenced_at.applied.lsn);
    return CTL_OK;
}

/* Tell our instance where the twin's newer history began, if it did: what is
 * exported begins there. */
MUST_CHECK static enum errcode
tell_fork(struct ctl *c, struct error *err)
{
    uint64_t chain = 0;
    lsn_t fork = 0;

    if (!c->has_there || !instid_eq(&c->here.cluster, &c->there.cluster) ||
        !logstatus_fork(&c->here, &c->there, &fork, &chain))
        return ERR_OK;
    char *line = arena_printf(&c->arena,
                              "NODE DEPOSED %%(EPOCH %" PRI_EPOCH
                              " FORK %" PRI_LSN " CHAIN %016" PRIx64 ")",
                              c->there.epoch, fork, chain);
    return ctl_ask(c, line, err);
}

enum ctl_exit
ctl_export(struct ctl *c)
{
    struct error err = {0};

    ctl_look(c);
    if (!c->has_here)
        return ctl_fail(c, CTL_NOLOCAL, "no instance answers here",
                        &c->here_err);
    if (tell_fork(c, &err) != ERR_OK ||
        ctl_ask(c, "NODE EXPORT", &err) != ERR_OK)
        return ctl_fail(c, CTL_FAILED, "no export", &err);
    fprintf(c->o->out,
            "exported %" PRIu64 " records, %" PRIu64 " messages, to %s\n",
            c->records, c->messages, c->path == NULL ? "?" : c->path);
    return CTL_OK;
}

/* The instance does not run, perhaps because it cannot: it rejoins when it is
 * started. */
static enum ctl_exit
rejoin_stopped(struct ctl *c)
{
    const char *dir = config_string(c->o->cfg, "configdirectory");
    struct error err = {0};
    const bool has_master = c->has_there && c->there.role == ROLE_MASTER;

    if (c->here_err.code != ERR_NOTFOUND && c->here_err.code != ERR_CLOSED)
        return ctl_fail(c, CTL_NOLOCAL, "the instance does not answer",
                        &c->here_err);
    if (!has_master && !c->o->force) {
        error_set(&err, ERR_CONFLICT,
                  "the twin is not a master that could seed this instance "
                  "(--force empties it all the same)");
        return ctl_fail(c, CTL_FAILED, "not rejoined", &err);
    }
    if (node_ask_rejoin(c->o->env, dir, has_master ? c->there.epoch : 0,
                        c->o->force, &err) != ERR_OK)
        return ctl_fail(c, CTL_FAILED, "not rejoined", &err);
    fprintf(c->o->out,
            "the instance does not run: when you start it it keeps its old "
            "store in %s/discarded-*, and the twin's sync_client seeds it\n",
            dir);
    return CTL_OK;
}

/* A replica is told where the twin's history left its own. */
static const char *
rejoin_command(struct ctl *c)
{
    uint64_t chain = 0;
    lsn_t fork = 0;

    if (c->here.role != ROLE_REPLICA || !c->has_there ||
        !instid_eq(&c->here.cluster, &c->there.cluster) ||
        !logstatus_fork(&c->here, &c->there, &fork, &chain))
        return "NODE REJOIN";
    return arena_printf(&c->arena, "NODE REJOIN %%(FORK %" PRI_LSN ")", fork);
}

enum ctl_exit
ctl_rejoin(struct ctl *c)
{
    struct error err = {0};

    ctl_look(c);
    if (!c->has_here)
        return rejoin_stopped(c);
    if (!(c->has_there && c->there.role == ROLE_MASTER) && !c->o->force) {
        error_set(&err, ERR_CONFLICT,
                  "the twin is not a master that could seed this instance "
                  "(--force empties it all the same)");
        return ctl_fail(c, CTL_FAILED, "not rejoined", &err);
    }
    if (c->has_there && c->there.epoch < c->here.epoch && !c->o->force) {
        error_set(&err, ERR_FENCED,
                  "the twin is the master of epoch %" PRI_EPOCH
                  ", and epoch %" PRI_EPOCH
                  " has begun elsewhere (--force rejoins it all the same)",
                  c->there.epoch, c->here.epoch);
        return ctl_fail(c, CTL_FAILED, "not rejoined", &err);
    }
    if (tell_fork(c, &err) != ERR_OK ||
        ctl_ask(c, rejoin_command(c), &err) != ERR_OK)
        return ctl_fail(c, CTL_FAILED, "not rejoined", &err);
    fprintf(c->o->out,
            "rejoined: %" PRIu64 " records (%" PRIu64
            " messages) that the twin had not got were exported; the old store "
            "is kept in %s; the twin's sync_client seeds this instance now\n",
            c->records, c->messages, c->path == NULL ? "?" : c->path);
    return CTL_OK;
}
