/*
 * failover/ctl_swap.c - fence, unfence, and leading both twins through a swap.
 *
 * The swap, and what a crash of this tool at each step leaves:
 *
 *   check     both there, roles fit, lag small       nothing changed
 *   prepare   the twin gives a token                 nothing changed
 *   fence     nothing is acknowledged any more       fenced: unfence
 *   drain     the twin has applied all of it         fenced: unfence
 *   mark      the fence file says "handover"         fenced: unfence asks the
 *                                                    twin, and lowers it only
 *                                                    if the token is void
 *   handover  the twin checks, is master, epoch + 1  the same
 *   demote    we are its replica, the fence is down  done
 */
#include "failover/ctl_private.h"

#include <poll.h>
#include <string.h>

#define DRAIN_MS 10000U
/* A twin that answers and is not shipped to yet: sync_client tries again within
 * two seconds, and logs in. */
#define STREAM_MS 5000U
#define STREAM_LOOK_MS 50

/* ---- fence ------------------------------------------------------------- */

enum ctl_exit
ctl_fence(struct ctl *c)
{
    struct error err = {0};

    enum ctl_exit code = ctl_need_local(c);
    if (code != CTL_OK)
        return code;
    if (ctl_ask(c, "NODE FENCE", &err) != ERR_OK)
        return ctl_fail(c, CTL_FAILED, "fence", &err);
    fprintf(c->o->out,
            "fenced at %" PRI_EPOCH ":%" PRI_LSN
            ": nothing is acknowledged any more\n",
            c->fenced_at.applied.epoch, c->fenced_at.applied.lsn);
    return CTL_OK;
}

/* A new token makes every older one worthless, and is then called off itself.
 * Who was fenced has forgotten all of them, and need not be asked. */
static bool
void_tokens(struct ctl *c, struct error *err)
{
    char *line = arena_printf(&c->arena, "LOG PREPARE %%(EPOCH %" PRI_EPOCH ")",
                              c->here.epoch + 1);

    if (csync_command(c->twin, span_str(line), ctl_take_answer, c, err) !=
        ERR_OK)
        return false;
    line = arena_printf(&c->arena, "LOG CANCEL %%(TOKEN %016" PRIx64 ")",
                        c->token);
    return csync_command(c->twin, span_str(line), ctl_take_answer, c, err) ==
           ERR_OK;
}

/*
 * A handover may have been sent from here: lower the fence only if the twin
 * says that it was not promoted, and never will be by that token.  *RET_SWAPPED
 * says which of the two came out, if the answer is CTL_OK.
 */
static enum ctl_exit
settle_handover(struct ctl *c, bool *ret_swapped)
{
    struct error err = {0};

    *ret_swapped = false;
    csync_client_close(&c->twin); /* it may have been lost with the answer */
    ctl_look(c);
    if (!c->has_here)
        return ctl_fail(c, CTL_NOLOCAL, "no instance answers here",
                        &c->here_err);
    if (!c->has_there)
        return ctl_fail(c, CTL_UNCLEAR,
                        "a handover was sent and the twin cannot be asked",
                        &c->there_err);
    if (c->there.role == ROLE_MASTER && c->there.epoch > c->here.epoch) {
        char *line = arena_printf(
            &c->arena, "NODE DEMOTE %%(EPOCH %" PRI_EPOCH ")", c->there.epoch);
        if (ctl_ask(c, line, &err) != ERR_OK)
            return ctl_fail(c, CTL_FAILED, "demote", &err);
        fprintf(c->o->out,
                "the twin had been promoted to epoch %" PRI_EPOCH
                ": this instance is its replica now\n",
                c->there.epoch);
        *ret_swapped = true;
        return CTL_OK;
    }
    if ((c->there.role != ROLE_FENCED || c->there.epoch > c->here.epoch) &&
        !void_tokens(c, &err))
        return ctl_fail(c, CTL_UNCLEAR, "the twin does not call it off", &err);
    if (ctl_ask(c, "NODE UNFENCE %(FORCE 1)", &err) != ERR_OK)
        return ctl_fail(c, CTL_FAILED, "unfence", &err);
    fprintf(c->o->out, "called off: this instance goes on as the master\n");
    return CTL_OK;
}

enum ctl_exit
ctl_unfence(struct ctl *c)
{
    struct error err = {0};

    enum ctl_exit code = ctl_need_local(c);
    if (code != CTL_OK)
        return code;
    enum errcode rc = ctl_ask(
        c, c->o->force ? "NODE UNFENCE %(FORCE 1)" : "NODE UNFENCE", &err);
    bool swapped;
    if (rc == ERR_CONFLICT && !c->o->force)
        return settle_handover(c, &swapped);
    if (rc != ERR_OK)
        return ctl_fail(c, CTL_FAILED, "unfence", &err);
    fprintf(c->o->out, "the fence is down\n");
    return CTL_OK;
}

/* ---- swap -------------------------------------------------------------- */

/* The channel to the twin; NULL: there is none. */
static const struct slot_line *
twin_slot(const struct ctl *c)
{
    const char *name = c->o->channel != NULL ? c->o->channel : "default";

    for (size_t i = 0; i < c->nslots; i++)
        if (strcmp(c->slots[i].channel, name) == 0)
            return &c->slots[i];
    return NULL;
}

static bool
is_state(const struct slot_line *s, const char *state)
{
    return s != NULL && strcmp(s->state, state) == 0;
}

/* Right after the twin was started its stream is still to come: worth a moment.
 */
static void
look_for_stream(struct ctl *c)
{
    uint64_t until = env_mono_ns(c->o->env) / 1000000 + STREAM_MS;

    ctl_look(c);
    while (c->has_here && c->has_there && c->here.role == ROLE_MASTER &&
           c->there.role == ROLE_REPLICA && c->there.delay_us == 0 &&
           !c->here.fence &&
           (is_state(twin_slot(c), "connecting") ||
            is_state(twin_slot(c), "waiting")) &&
           env_mono_ns(c->o->env) / 1000000 < until) {
        poll(NULL, 0, STREAM_LOOK_MS);
        ctl_look(c);
    }
}

static void
no_stream_error(const struct slot_line *s, struct error *err)
{
    if (s == NULL || s->pid == 0)
        error_set(err, ERR_CONFLICT,
                  "no sync_client ships to the twin: start 'sync_client -r'");
    else
        error_set(err, ERR_CONFLICT,
                  "sync_client does not ship to the twin now, it is %s%s%s: "
                  "'ctl_failover status' shows when it does",
                  s->state, s->text[0] == '\0' ? "" : ", ", s->text);
}

static enum ctl_exit
check_swap(struct ctl *c)
{
    struct error err = {0};
    uint64_t max = (uint64_t)config_int(c->o->cfg, "swap_max_lag");

    look_for_stream(c);
    if (!c->has_here)
        return ctl_fail(c, CTL_NOLOCAL, "no instance answers here",
                        &c->here_err);
    if (!c->has_there)
        return ctl_fail(c, CTL_NOTWIN, "the twin cannot be reached",
                        &c->there_err);
    lsn_t lag = c->here.durable.lsn > c->there.applied.applied.lsn
                    ? c->here.durable.lsn - c->there.applied.applied.lsn
                    : 0;
    if (c->here.role != ROLE_MASTER)
        error_set(&err, ERR_READONLY,
                  "this instance is %s: run swap on the master",
                  role_name(c->here.role));
    else if (c->there.role != ROLE_REPLICA)
        error_set(&err, ERR_CONFLICT, "the twin is %s, not a replica",
                  role_name(c->there.role));
    else if (!instid_eq(&c->here.cluster, &c->there.cluster))
        error_set(&err, ERR_HISTORY, "the twin does not hold this history");
    else if (c->there.seeding)
        error_set(&err, ERR_CONFLICT, "the twin is being seeded");
    else if (c->there.delay_us > 0)
        error_set(&err, ERR_CONFLICT,
                  "the twin shows what happened %" PRIu64 " s ago "
                  "(sync_apply_delay): it would have to apply all of that "
                  "first; set it to 0 over there and start it again, or "
                  "'ctl_failover promote' there if this instance is lost",
                  c->there.delay_us / 1000000);
    else if (c->here.fence)
        error_set(&err, ERR_FENCED,
                  "the fence is up already: 'ctl_failover unfence' first");
    else if (!is_state(twin_slot(c), "streaming"))
        no_stream_error(twin_slot(c), &err);
    else if (lag > max && !c->o->force)
        error_set(&err, ERR_LIMIT,
                  "the twin is %" PRI_LSN " records behind, swap_max_lag is "
                  "%" PRIu64 ": wait, or --force",
                  lag, max);
    else
        return CTL_OK;
    return ctl_fail(c, CTL_FAILED, "no swap", &err);
}

/* Wait until the twin has applied all that was durable when the fence went up.
 */
static enum errcode
drain(struct ctl *c, struct error *err)
{
    uint64_t until = env_mono_ns(c->o->env) / 1000000 + DRAIN_MS;

    for (;;) {
        enum errcode rc = csync_log_status(c->twin, &c->arena, &c->there, err);
        if (rc != ERR_OK)
            return rc;
        if (c->there.applied.applied.lsn == c->fenced_at.applied.lsn)
            return ERR_OK;
        if (env_mono_ns(c->o->env) / 1000000 > until)
            return error_set(err, ERR_TIMEOUT,
                             "the twin is at %" PRI_LSN " of %" PRI_LSN
                             " after %u ms",
                             c->there.applied.applied.lsn,
                             c->fenced_at.applied.lsn, DRAIN_MS);
        poll(NULL, 0, 1);
    }
}

static enum errcode
hand_over(struct ctl *c, epoch_t epoch, struct error *err)
{
    char *line = arena_printf(&c->arena,
                              "LOG HANDOVER %%(TOKEN %016" PRIx64
                              " EPOCH %" PRI_EPOCH " LSN %" PRI_LSN
                              " CHAIN %016" PRIx64 " DIGEST %016" PRIx64 ")",
                              c->token, epoch, c->fenced_at.applied.lsn,
                              c->fenced_at.chain, c->fenced_at.digest);

    return csync_command(c->twin, span_str(line), NULL, NULL, err);
}

/* Up to here nothing is lost by going back. */
static enum ctl_exit
call_off(struct ctl *c, const char *what, const struct error *why)
{
    struct error err = {0};

    if (ctl_ask(c, "NODE UNFENCE %(FORCE 1)", &err) != ERR_OK)
        return ctl_fail(c, CTL_FENCED, "called off, but the fence stays up",
                        &err);
    fprintf(c->o->err,
            "ctl_failover: swap called off (%s): %s; this instance goes on as "
            "the master\n",
            what, why->text);
    return CTL_FAILED;
}

/* Whoever finds the file has to ask that one, and no other. */
static enum errcode
mark_handover(struct ctl *c, struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct dlist_printer p;
    char *why = arena_printf(&c->arena, "handover sent to %s%s%s",
                             bclient_name(csync_client_conn(c->twin)),
                             c->o->channel == NULL ? "" : ", channel ",
                             c->o->channel == NULL ? "" : c->o->channel);

    buf_add_str(&line, "NODE ");
    dlist_print_begin(&p, &line, DLIST_CLIENT);
    dlist_open_kv(&p, "FENCE");
    dlist_str(&p, "WHY", why);
    dlist_u64(&p, "SWAP", 1);
    dlist_close(&p);
    return csync_command(c->local, buf_span(&line), ctl_take_answer, c, err);
}

static enum ctl_exit
swap_done(struct ctl *c, epoch_t epoch, uint64_t fence_us)
{
    double gap_ms = (double)(env_mono_ns(c->o->env) / 1000 - fence_us) / 1000.0;

    if (c->o->json)
        fprintf(c->o->out,
                "{\"swapped\":true,\"epoch\":%" PRI_EPOCH
                ",\"position\":%" PRI_LSN ",\"gap_ms\":%.3f}\n",
                epoch, c->fenced_at.applied.lsn, gap_ms);
    else
        fprintf(c->o->out,
                "swapped at %" PRI_LSN ": the twin is the master of epoch "
                "%" PRI_EPOCH ", this instance its replica; write gap %.1f "
                "ms\n",
                c->fenced_at.applied.lsn, epoch, gap_ms);
    return CTL_OK;
}

enum ctl_exit
ctl_swap(struct ctl *c)
{
    struct error err = {0};

    enum ctl_exit code = check_swap(c);
    if (code != CTL_OK)
        return code;
    epoch_t epoch = c->here.epoch + 1;
    char *line =
        arena_printf(&c->arena, "LOG PREPARE %%(EPOCH %" PRI_EPOCH ")", epoch);
    if (csync_command(c->twin, span_str(line), ctl_take_answer, c, &err) !=
        ERR_OK)
        return ctl_fail(c, CTL_FAILED, "the twin is not prepared", &err);

    uint64_t fence_us = env_mono_ns(c->o->env) / 1000;
    if (ctl_ask(c, "NODE FENCE %(WHY \"swap\" SWAP 1)", &err) != ERR_OK)
        return call_off(c, "fence", &err);
    if (drain(c, &err) != ERR_OK)
        return call_off(c, "drain", &err);
    if (mark_handover(c, &err) != ERR_OK)
        return call_off(c, "mark", &err);
    enum errcode rc = hand_over(c, epoch, &err);
    if (rc == ERR_CLOSED || rc == ERR_TIMEOUT || rc == ERR_IO) {
        fprintf(c->o->err,
                "ctl_failover: the twin's answer to the handover was lost "
                "(%s)\n",
                err.text);
        bool swapped;
        code = settle_handover(c, &swapped);
        return code == CTL_OK && !swapped ? CTL_FAILED : code;
    }
    if (rc != ERR_OK)
        return call_off(c, "the twin refuses", &err);
    line =
        arena_printf(&c->arena, "NODE DEMOTE %%(EPOCH %" PRI_EPOCH ")", epoch);
    uint64_t twin_us = env_mono_ns(c->o->env) / 1000;
    if (ctl_ask(c, line, &err) != ERR_OK)
        return ctl_fail(
            c, CTL_UNCLEAR,
            "the twin is the master, but this instance did not step "
            "back",
            &err);
    /* Writing goes on over there since it answered. */
    fence_us += env_mono_ns(c->o->env) / 1000 - twin_us;
    return swap_done(c, epoch, fence_us);
}
