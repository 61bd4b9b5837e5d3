/*
 * failover/ctl.c - the admin's verbs: asking both twins, and which verb is
 * which.  What they do is in failover/ctl_status.c, ctl_swap.c (fence, unfence,
 * swap) and ctl_rejoin.c (promote, export, rejoin).
 */
#include "failover/ctl_private.h"

#include <string.h>

static int
timeout_ms(const struct ctl *c)
{
    return c->o->timeout_ms > 0 ? c->o->timeout_ms : 10000;
}

enum ctl_exit
ctl_fail(const struct ctl *c, enum ctl_exit code, const char *what,
         const struct error *err)
{
    fprintf(c->o->err, "ctl_failover: %s: %s\n", what, err->text);
    return code;
}

/* ---- asking ------------------------------------------------------------ */

static void
read_slot(struct ctl *c, const struct dlist *d)
{
    struct slot_line s = {.channel = "", .state = "", .peer = "", .text = ""};

    if (c->nslots == SLOTS_MAX)
        return;
    (void)!dlist_get_str(d, "CHANNEL", &c->arena, &s.channel);
    (void)!dlist_get_str(d, "STATE", &c->arena, &s.state);
    (void)!dlist_get_str(d, "PEER", &c->arena, &s.peer);
    (void)!dlist_get_str(d, "TEXT", &c->arena, &s.text);
    (void)!dlist_get_u64(d, "PID", &s.pid);
    (void)!dlist_get_u64(d, "SENT", &s.sent);
    (void)!dlist_get_u64(d, "DURABLE", &s.durable);
    (void)!dlist_get_u64(d, "APPLIED", &s.applied);
    (void)!dlist_get_u64(d, "LAG_US", &s.lag_us);
    (void)!dlist_get_u64(d, "ACK_WALL", &s.ack_wall);
    (void)!dlist_get_u64(d, "SINCE", &s.since);
    c->slots[c->nslots++] = s;
}

/* Every line that an instance may answer with. */
void
ctl_take_answer(void *ctx, const struct dlist *d)
{
    struct ctl *c = ctx;
    uint32_t epoch = 0;

    if (span_eq_str(d->name, "LOGSTATUS")) {
        c->has_here =
            logstatus_read(d, &c->arena, &c->here, &c->here_err) == ERR_OK;
    } else if (span_eq_str(d->name, "SLOT")) {
        read_slot(c, d);
    } else if (span_eq_str(d->name, "DAMAGE")) {
        (void)!dlist_get_u64(d, "COUNT", &c->damaged);
        (void)!dlist_get_u64(d, "LOST", &c->lost);
        (void)!dlist_get_u64(d, "HEALED", &c->healed);
        (void)!dlist_get_u64(d, "OLDEST", &c->oldest_us);
        (void)!dlist_get_str(d, "SCRUB", &c->arena, &c->scrub);
        (void)!dlist_get_u64(d, "SCRUB_PER_MILLE", &c->scrub_per_mille);
        (void)!dlist_get_u64(d, "SCRUB_BODIES", &c->scrub_bodies);
        (void)!dlist_get_u64(d, "SCRUB_ENDED", &c->scrub_ended_us);
    } else if (span_eq_str(d->name, "STORAGE")) {
        (void)!dlist_get_u64(d, "LOG_BYTES", &c->log_bytes);
        (void)!dlist_get_u64(d, "PACKS", &c->packs);
        (void)!dlist_get_u64(d, "PACK_BYTES", &c->pack_bytes);
        (void)!dlist_get_u64(d, "DEAD_BYTES", &c->dead_bytes);
        (void)!dlist_get_u64(d, "BYTES_PER_S", &c->bytes_per_s);
        (void)!dlist_get_u64(d, "STUCK_SEGMENT", &c->stuck_segment);
        (void)!dlist_get_u64(d, "HISTORY", &c->history);
        (void)!dlist_get_u64(d, "HISTORY_BYTES", &c->history_bytes);
    } else if (span_eq_str(d->name, "ACKS")) {
        (void)!dlist_get_str(d, "MODE", &c->arena, &c->ack_mode);
        (void)!dlist_get_str(d, "STATE", &c->arena, &c->ack_state);
        (void)!dlist_get_str(d, "POLICY", &c->arena, &c->ack_policy);
        (void)!dlist_get_u64(d, "REPLICAS", &c->ack_replicas);
        (void)!dlist_get_u64(d, "STREAMING", &c->ack_streaming);
        (void)!dlist_get_u64(d, "HELD", &c->ack_held);
        (void)!dlist_get_u64(d, "REFUSED", &c->ack_refused);
        (void)!dlist_get_u64(d, "ALONE", &c->ack_alone);
        (void)!dlist_get_u64(d, "SINCE", &c->ack_since_us);
    } else if (span_eq_str(d->name, "POS")) {
        (void)!dlist_get_u32(d, "EPOCH", &epoch);
        c->fenced_at.applied.epoch = epoch;
        (void)!dlist_get_u64(d, "LSN", &c->fenced_at.applied.lsn);
        (void)!dlist_get_hex64(d, "CHAIN", &c->fenced_at.chain);
        (void)!dlist_get_hex64(d, "DIGEST", &c->fenced_at.digest);
    } else if (span_eq_str(d->name, "LOGPREPARED")) {
        (void)!dlist_get_hex64(d, "TOKEN", &c->token);
    } else if (span_eq_str(d->name, "EXPORT")) {
        (void)!dlist_get_str(d, "PATH", &c->arena, &c->path);
        (void)!dlist_get_u64(d, "RECORDS", &c->records);
        (void)!dlist_get_u64(d, "MESSAGES", &c->messages);
    } else if (span_eq_str(d->name, "REJOIN")) {
        (void)!dlist_get_str(d, "ASIDE", &c->arena, &c->path);
    }
}

enum errcode
ctl_ask(struct ctl *c, const char *line, struct error *err)
{
    return csync_command(c->local, span_str(line), ctl_take_answer, c, err);
}

static enum errcode
connect_local(struct ctl *c, struct error *err)
{
    const struct config *cfg = c->o->cfg;
    const char *path = config_string(cfg, "control_socket");

    if (c->local != NULL)
        return ERR_OK;
    if (path == NULL)
        path = arena_printf(&c->arena, "%s/socket/control",
                            config_string(cfg, "configdirectory"));
    return csync_connect_control(path, timeout_ms(c), &c->local, err);
}

enum errcode
ctl_connect_twin(struct ctl *c, struct error *err)
{
    struct csync_target target;

    csync_client_close(&c->twin);
    enum errcode rc =
        csync_target_from_config(c->o->cfg, c->o->channel, NULL, &target, err);
    if (rc != ERR_OK)
        return rc;
    if (c->o->timeout_ms > 0)
        target.timeout_ms = c->o->timeout_ms;
    return csync_connect(&target, c->o->cfg, &c->twin, err);
}

/* Both sides, as far as they answer. */
void
ctl_look(struct ctl *c)
{
    c->nslots = 0;
    c->has_here = c->has_there = false;
    enum errcode rc = connect_local(c, &c->here_err);
    if (rc == ERR_OK && ctl_ask(c, "NODE STATUS", &c->here_err) != ERR_OK)
        c->has_here = false;
    rc = c->twin != NULL ? ERR_OK : ctl_connect_twin(c, &c->there_err);
    if (rc == ERR_OK && csync_log_status(c->twin, &c->arena, &c->there,
                                         &c->there_err) == ERR_OK)
        c->has_there = true;
}

enum ctl_exit
ctl_need_local(struct ctl *c)
{
    struct error err = {0};

    if (connect_local(c, &err) != ERR_OK)
        return ctl_fail(c, CTL_NOLOCAL, "no instance answers here", &err);
    return CTL_OK;
}

static const struct {
    const char *name;
    enum ctl_exit (*run)(struct ctl *c);
} verbs[] = {
    {"status", ctl_status}, {"fence", ctl_fence},     {"unfence", ctl_unfence},
    {"swap", ctl_swap},     {"promote", ctl_promote}, {"export", ctl_export},
    {"rejoin", ctl_rejoin},
};

enum ctl_exit
ctl_run(const struct ctl_options *o, const char *verb)
{
    struct ctl c = {.o = o, .arena = ARENA_INIT};
    enum ctl_exit code = CTL_USAGE;
    bool known = false;

    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (strcmp(verb, verbs[i].name) == 0) {
            known = true;
            code = verbs[i].run(&c);
        }
    if (!known)
        fprintf(o->err,
                "ctl_failover: unknown verb \"%s\": status, fence, unfence, "
                "swap, promote, export or rejoin\n",
                verb);
    csync_client_close(&c.local);
    csync_client_close(&c.twin);
    arena_free(&c.arena);
    return code;
}
