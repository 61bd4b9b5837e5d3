/*
 * failover/ctl.c - the admin's verbs: asking both twins, showing what they say,
 * and leading them through a swap.
 *
 * The swap, and what a crash of this tool at each step leaves:
 *
 *   check     both there, roles fit, lag small            nothing changed
 *   prepare   the twin gives a token                      nothing changed
 *   fence     nothing is acknowledged any more            fenced: unfence
 *   drain     sync_client ships, the twin has applied     fenced: unfence
 *   mark      the fence file says "handover"              fenced: unfence asks
 *   handover  the twin checks, is master at epoch + 1       the twin, and
 * lowers demote    we are its replica, the fence goes down       it only if the
 * token was cancelled
 */
#include "failover/ctl.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "csync/client.h"
#include "failover/node.h"
#include "synclog/slot.h"

#define DRAIN_MS 10000U
#define SLOTS_MAX 16U

struct slot_line {
    const char *channel, *state, *peer, *text;
    uint64_t pid, sent, durable, applied, lag_us, ack_wall, since;
};

struct ctl {
    const struct ctl_options *o;
    struct csync_client *local, *twin;
    struct arena arena;
    struct logstatus here, there;
    bool has_here, has_there;
    struct error here_err, there_err;
    struct slot_line slots[SLOTS_MAX];
    size_t nslots;
    uint64_t damaged, lost, healed, oldest_us; /* here */
    uint64_t log_bytes, packs, pack_bytes, dead_bytes, bytes_per_s;
    uint64_t stuck_segment;
    const char *scrub; /* phase; NULL: none */
    uint64_t scrub_per_mille, scrub_bodies, scrub_ended_us;
    const char *ack_mode, *ack_state, *ack_policy; /* NULL: no sync_ack */
    uint64_t ack_replicas, ack_streaming, ack_held, ack_refused, ack_alone;
    uint64_t ack_since_us;
    struct store_pos fenced_at;
    uint64_t token;
    const char *path; /* of an answer */
    uint64_t records, messages;
};

static int
timeout_ms(const struct ctl *c)
{
    return c->o->timeout_ms > 0 ? c->o->timeout_ms : 10000;
}

static enum ctl_exit
fail(const struct ctl *c, enum ctl_exit code, const char *what,
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
static void
on_answer(void *ctx, const struct dlist *d)
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

static enum errcode
ask_local(struct ctl *c, const char *line, struct error *err)
{
    return csync_command(c->local, span_str(line), on_answer, c, err);
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

static enum errcode
connect_twin(struct ctl *c, struct error *err)
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
static void
look(struct ctl *c)
{
    c->nslots = 0;
    c->has_here = c->has_there = false;
    enum errcode rc = connect_local(c, &c->here_err);
    if (rc == ERR_OK && ask_local(c, "NODE STATUS", &c->here_err) != ERR_OK)
        c->has_here = false;
    rc = c->twin != NULL ? ERR_OK : connect_twin(c, &c->there_err);
    if (rc == ERR_OK && csync_log_status(c->twin, &c->arena, &c->there,
                                         &c->there_err) == ERR_OK)
        c->has_there = true;
}

/* ---- status ------------------------------------------------------------ */

enum equality { EQ_UNKNOWN, EQ_EQUAL, EQ_BEHIND, EQ_UNEQUAL };

static const char *const equality_words[] = {
    [EQ_UNKNOWN] = "unknown",
    [EQ_EQUAL] = "equal",
    [EQ_BEHIND] = "behind",
    [EQ_UNEQUAL] = "UNEQUAL",
};

/*
 * Compares the replica's digest with the one that the master had at the same
 * LSN; *RET_LAG is how many records the replica is behind.
 */
static enum equality
compare(struct ctl *c, uint64_t *ret_lag)
{
    bool here_leads =
        c->here.applied.applied.lsn > c->there.applied.applied.lsn;
    const struct logstatus *ahead = here_leads ? &c->here : &c->there;
    const struct logstatus *behind = here_leads ? &c->there : &c->here;
    lsn_t at = behind->applied.applied.lsn;
    uint64_t digest = ahead->applied.digest;
    struct error err = {0};

    *ret_lag = ahead->durable.lsn > at ? ahead->durable.lsn - at : 0;
    if (!instid_eq(&c->here.cluster, &c->there.cluster))
        return at == 0 ? EQ_BEHIND : EQ_UNEQUAL;
    if (ahead->applied.applied.lsn != at &&
        csync_log_digest(here_leads ? c->local : c->twin, at, &digest, &err) !=
            ERR_OK)
        return at == 0 ? EQ_BEHIND : EQ_UNKNOWN;
    if (digest != behind->applied.digest ||
        (ahead->applied.applied.lsn == at &&
         ahead->applied.chain != behind->applied.chain))
        return EQ_UNEQUAL;
    return *ret_lag == 0 ? EQ_EQUAL : EQ_BEHIND;
}

static void
json_string(FILE *f, const char *s)
{
    fputc('"', f);
    for (; s != NULL && *s != '\0'; s++) {
        unsigned char ch = (unsigned char)*s;
        if (ch == '"' || ch == '\\')
            fprintf(f, "\\%c", ch);
        else if (ch < ' ')
            fprintf(f, "\\u%04x", ch);
        else
            fputc(ch, f);
    }
    fputc('"', f);
}

static void
json_side(FILE *f, const char *name, const struct logstatus *s, bool is_there,
          const struct error *err)
{
    char cluster[2 * INSTANCE_ID_BYTES + 1];
    char instance[2 * INSTANCE_ID_BYTES + 1];

    fprintf(f, "\"%s\":", name);
    if (!is_there) {
        fputs("{\"reachable\":false,\"error\":", f);
        json_string(f, err->text);
        fputc('}', f);
        return;
    }
    format_hex_bytes(s->cluster.b, INSTANCE_ID_BYTES, cluster);
    format_hex_bytes(s->instance.b, INSTANCE_ID_BYTES, instance);
    fprintf(f,
            "{\"reachable\":true,\"role\":\"%s\",\"epoch\":%" PRI_EPOCH
            ",\"fence\":%s,\"swapping\":%s,\"seeding\":%s,"
            "\"seed_wanted\":%s,"
            "\"durable\":%" PRI_LSN ",\"applied\":%" PRI_LSN
            ",\"applied_epoch\":%" PRI_EPOCH ",\"chain\":\"%016" PRIx64
            "\",\"digest\":\"%016" PRIx64 "\",\"first_lsn\":%" PRI_LSN
            ",\"cluster\":\"%s\",\"instance\":\"%s\",\"servername\":",
            role_name(s->role), s->epoch, s->fence ? "true" : "false",
            s->swapping ? "true" : "false", s->seeding ? "true" : "false",
            s->seed_wanted ? "true" : "false", s->durable.lsn,
            s->applied.applied.lsn, s->applied.applied.epoch, s->applied.chain,
            s->applied.digest, s->first_lsn, cluster, instance);
    json_string(f, s->servername);
    fputs(",\"why\":", f);
    json_string(f, s->text);
    fputc('}', f);
}

/* Milliseconds from the commit of what the replica lacks first, or of the last
 * record it acknowledged. */
static double
lag_ms(const struct ctl *c, uint64_t lag_records)
{
    for (size_t i = 0; i < c->nslots; i++)
        if (c->slots[i].pid != 0 && lag_records == 0)
            return (double)c->slots[i].lag_us / 1000.0;
    const struct logstatus *ahead =
        c->here.applied.applied.lsn > c->there.applied.applied.lsn ? &c->here
                                                                   : &c->there;
    const struct logstatus *behind = ahead == &c->here ? &c->there : &c->here;
    uint64_t from = behind->applied.time_us;
    uint64_t to = ahead->applied.time_us;
    return from == 0 || to < from ? 0 : (double)(to - from) / 1000.0;
}

static void
print_json(const struct ctl *c, enum equality eq, uint64_t lag,
           enum ctl_exit code)
{
    FILE *f = c->o->out;

    fputc('{', f);
    json_side(f, "here", &c->here, c->has_here, &c->here_err);
    fputc(',', f);
    json_side(f, "twin", &c->there, c->has_there, &c->there_err);
    fprintf(f,
            ",\"digests\":\"%s\",\"lag_records\":%" PRIu64
            ",\"lag_ms\":%.3f,\"damaged\":%" PRIu64 ",\"damaged_lost\":%" PRIu64
            ",\"damaged_since_us\":%" PRIu64 ",\"log_bytes\":%" PRIu64
            ",\"packs\":%" PRIu64 ",\"pack_bytes\":%" PRIu64
            ",\"dead_bytes\":%" PRIu64 ",\"compact_bytes_per_s\":%" PRIu64
            ",\"stuck_segment\":%" PRIu64 ",\"healed\":%" PRIu64
            ",\"scrub\":\"%s\",\"scrub_per_mille\":%" PRIu64
            ",\"scrub_bodies\":%" PRIu64 ",\"scrub_ended_us\":%" PRIu64
            ",\"channels\":[",
            equality_words[eq], lag, lag_ms(c, lag), c->damaged, c->lost,
            c->oldest_us, c->log_bytes, c->packs, c->pack_bytes, c->dead_bytes,
            c->bytes_per_s, c->stuck_segment, c->healed,
            c->scrub == NULL ? "off" : c->scrub, c->scrub_per_mille,
            c->scrub_bodies, c->scrub_ended_us);
    for (size_t i = 0; i < c->nslots; i++) {
        const struct slot_line *s = &c->slots[i];
        fputs(i == 0 ? "{\"channel\":" : ",{\"channel\":", f);
        json_string(f, s->channel);
        fputs(",\"state\":", f);
        json_string(f, s->state);
        fputs(",\"peer\":", f);
        json_string(f, s->peer);
        fprintf(f,
                ",\"pid\":%" PRIu64 ",\"sent\":%" PRIu64 ",\"durable\":%" PRIu64
                ",\"applied\":%" PRIu64 ",\"lag_us\":%" PRIu64
                ",\"since_us\":%" PRIu64 ",\"text\":",
                s->pid, s->sent, s->durable, s->applied, s->lag_us, s->since);
        json_string(f, s->text);
        fputc('}', f);
    }
    fputc(']', f);
    if (c->ack_mode != NULL && c->ack_state != NULL)
        fprintf(f,
                ",\"acks\":{\"mode\":\"%s\",\"state\":\"%s\","
                "\"replicas\":%" PRIu64 ",\"streaming\":%" PRIu64
                ",\"held\":%" PRIu64 ",\"refused\":%" PRIu64
                ",\"alone\":%" PRIu64 ",\"since_us\":%" PRIu64 "}",
                c->ack_mode, c->ack_state, c->ack_replicas, c->ack_streaming,
                c->ack_held, c->ack_refused, c->ack_alone, c->ack_since_us);
    fprintf(f, ",\"exit\":%d}\n", (int)code);
}

static void
print_side(FILE *f, const char *name, const struct logstatus *s, bool is_there,
           const struct error *err)
{
    if (!is_there) {
        fprintf(f, "%-5s  not reachable: %s\n", name, err->text);
        return;
    }
    fprintf(f,
            "%-5s  %-7s  epoch %" PRI_EPOCH "  durable %" PRI_LSN
            "  applied %" PRI_EPOCH ":%" PRI_LSN "  digest %016" PRIx64
            "%s%s\n",
            name, role_name(s->role), s->epoch, s->durable.lsn,
            s->applied.applied.epoch, s->applied.applied.lsn, s->applied.digest,
            s->fence ? "  FENCE UP" : "",
            s->seeding       ? "  seeding"
            : s->seed_wanted ? "  waits for a seed"
                             : "");
    fprintf(f, "       %s: %s\n", s->servername, s->text);
}

static double
mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static void
print_storage(const struct ctl *c)
{
    fprintf(c->o->out,
            "storage here: log %.1f MiB, %" PRIu64
            " packs %.1f MiB, %.1f MiB of it dead, compacting %.1f MiB/s\n",
            mib(c->log_bytes), c->packs, mib(c->pack_bytes), mib(c->dead_bytes),
            mib(c->bytes_per_s));
    if (c->stuck_segment != 0)
        fprintf(c->o->out,
                "LOG STUCK here: segment %016" PRIx64
                " holds damaged bodies and cannot go\n",
                c->stuck_segment);
}

static void
print_human(const struct ctl *c, enum equality eq, uint64_t lag)
{
    FILE *f = c->o->out;

    print_side(f, "here", &c->here, c->has_here, &c->here_err);
    print_side(f, "twin", &c->there, c->has_there, &c->there_err);
    if (c->has_here && c->has_there)
        fprintf(f, "digests %s, lag %" PRIu64 " records, %.3f ms\n",
                equality_words[eq], lag, lag_ms(c, lag));
    if (c->damaged > 0) {
        time_t since = (time_t)(c->oldest_us / 1000000);
        char text[32] = "?";
        struct tm tm;
        if (gmtime_r(&since, &tm) != NULL)
            (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
        fprintf(f,
                "DAMAGED here: %" PRIu64 ", since %s, %" PRIu64
                " of them not to be had from a twin ('synclog verify' names "
                "the messages)\n",
                c->damaged, text, c->lost);
    }
    if (c->has_here)
        print_storage(c);
    if (c->ack_mode != NULL && c->ack_state != NULL) {
        bool bad = strcmp(c->ack_state, "refusing") == 0 ||
                   strcmp(c->ack_state, "degraded") == 0;
        fprintf(f,
                "%s here: commits wait for %" PRIu64 " replicas (%s), %" PRIu64
                " stream; %" PRIu64 " refused, %" PRIu64
                " groups answered without a replica\n",
                !bad                     ? "sync_ack"
                : c->ack_state[0] == 'r' ? "SYNC_ACK REFUSES"
                                         : "SYNC_ACK DEGRADED",
                c->ack_replicas, c->ack_mode, c->ack_streaming, c->ack_refused,
                c->ack_alone);
    }
    if (c->scrub != NULL && strcmp(c->scrub, "resting") != 0)
        fprintf(f, "scrubbing here: %s, %.1f %%\n", c->scrub,
                (double)c->scrub_per_mille / 10);
    for (size_t i = 0; i < c->nslots; i++) {
        const struct slot_line *s = &c->slots[i];
        fprintf(f, "channel %s to %s: %s", s->channel, s->peer, s->state);
        if (s->text[0] != '\0' && s->since > 0 && c->here.wall_us > s->since)
            fprintf(f, " for %" PRIu64 " s",
                    (c->here.wall_us - s->since) / 1000000);
        fprintf(f, ", acknowledged %" PRIu64 "%s%s\n", s->applied,
                s->text[0] == '\0' ? "" : ": ", s->text);
    }
}

static enum ctl_exit
judge(const struct ctl *c, enum equality eq)
{
    if (!c->has_here)
        return CTL_NOLOCAL;
    bool one_master = (c->here.role == ROLE_MASTER) !=
                      (c->has_there && c->there.role == ROLE_MASTER);
    if (c->here.role == ROLE_FENCED ||
        (c->here.role == ROLE_MASTER && c->here.fence) ||
        (c->has_there && c->there.role == ROLE_MASTER && c->there.fence))
        return CTL_FENCED;
    if (!c->has_there)
        return CTL_NOTWIN;
    if (eq == EQ_UNEQUAL || !one_master)
        return CTL_UNEQUAL;
    return eq == EQ_EQUAL ? CTL_OK : CTL_LAGGING;
}

static enum ctl_exit
run_status(struct ctl *c)
{
    enum equality eq = EQ_UNKNOWN;
    uint64_t lag = 0;

    look(c);
    if (c->has_here && c->has_there)
        eq = compare(c, &lag);
    enum ctl_exit code = judge(c, eq);
    if (c->o->json)
        print_json(c, eq, lag, code);
    else
        print_human(c, eq, lag);
    return code;
}

/* ---- fence ------------------------------------------------------------- */

static enum ctl_exit
need_local(struct ctl *c)
{
    struct error err = {0};

    if (connect_local(c, &err) != ERR_OK)
        return fail(c, CTL_NOLOCAL, "no instance answers here", &err);
    return CTL_OK;
}

static enum ctl_exit
run_fence(struct ctl *c)
{
    struct error err = {0};

    enum ctl_exit code = need_local(c);
    if (code != CTL_OK)
        return code;
    if (ask_local(c, "NODE FENCE", &err) != ERR_OK)
        return fail(c, CTL_FAILED, "fence", &err);
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

    if (csync_command(c->twin, span_str(line), on_answer, c, err) != ERR_OK)
        return false;
    line = arena_printf(&c->arena, "LOG CANCEL %%(TOKEN %016" PRIx64 ")",
                        c->token);
    return csync_command(c->twin, span_str(line), on_answer, c, err) == ERR_OK;
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
    look(c);
    if (!c->has_here)
        return fail(c, CTL_NOLOCAL, "no instance answers here", &c->here_err);
    if (!c->has_there)
        return fail(c, CTL_UNCLEAR,
                    "a handover was sent and the twin cannot be asked",
                    &c->there_err);
    if (c->there.role == ROLE_MASTER && c->there.epoch > c->here.epoch) {
        char *line = arena_printf(
            &c->arena, "NODE DEMOTE %%(EPOCH %" PRI_EPOCH ")", c->there.epoch);
        if (ask_local(c, line, &err) != ERR_OK)
            return fail(c, CTL_FAILED, "demote", &err);
        fprintf(c->o->out,
                "the twin had been promoted to epoch %" PRI_EPOCH
                ": this instance is its replica now\n",
                c->there.epoch);
        *ret_swapped = true;
        return CTL_OK;
    }
    if ((c->there.role != ROLE_FENCED || c->there.epoch > c->here.epoch) &&
        !void_tokens(c, &err))
        return fail(c, CTL_UNCLEAR, "the twin does not call it off", &err);
    if (ask_local(c, "NODE UNFENCE %(FORCE 1)", &err) != ERR_OK)
        return fail(c, CTL_FAILED, "unfence", &err);
    fprintf(c->o->out, "called off: this instance goes on as the master\n");
    return CTL_OK;
}

static enum ctl_exit
run_unfence(struct ctl *c)
{
    struct error err = {0};

    enum ctl_exit code = need_local(c);
    if (code != CTL_OK)
        return code;
    enum errcode rc = ask_local(
        c, c->o->force ? "NODE UNFENCE %(FORCE 1)" : "NODE UNFENCE", &err);
    bool swapped;
    if (rc == ERR_CONFLICT && !c->o->force)
        return settle_handover(c, &swapped);
    if (rc != ERR_OK)
        return fail(c, CTL_FAILED, "unfence", &err);
    fprintf(c->o->out, "the fence is down\n");
    return CTL_OK;
}

/* ---- swap -------------------------------------------------------------- */

static enum ctl_exit
check_swap(struct ctl *c)
{
    struct error err = {0};
    uint64_t max = (uint64_t)config_int(c->o->cfg, "swap_max_lag");

    look(c);
    if (!c->has_here)
        return fail(c, CTL_NOLOCAL, "no instance answers here", &c->here_err);
    if (!c->has_there)
        return fail(c, CTL_NOTWIN, "the twin cannot be reached", &c->there_err);
    lsn_t lag = c->here.durable.lsn > c->there.applied.applied.lsn
                    ? c->here.durable.lsn - c->there.applied.applied.lsn
                    : 0;
    bool streaming = false;
    for (size_t i = 0; i < c->nslots; i++)
        streaming = streaming || strcmp(c->slots[i].state, "streaming") == 0;
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
    else if (c->here.fence)
        error_set(&err, ERR_FENCED,
                  "the fence is up already: 'ctl_failover unfence' first");
    else if (!streaming)
        error_set(&err, ERR_CONFLICT,
                  "no sync_client ships to the twin: start 'sync_client -r'");
    else if (lag > max && !c->o->force)
        error_set(&err, ERR_LIMIT,
                  "the twin is %" PRI_LSN " records behind, swap_max_lag is "
                  "%" PRIu64 ": wait, or --force",
                  lag, max);
    else
        return CTL_OK;
    return fail(c, CTL_FAILED, "no swap", &err);
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

    if (ask_local(c, "NODE UNFENCE %(FORCE 1)", &err) != ERR_OK)
        return fail(c, CTL_FENCED, "called off, but the fence stays up", &err);
    fprintf(c->o->err,
            "ctl_failover: swap called off (%s): %s; this instance goes on as "
            "the master\n",
            what, why->text);
    return CTL_FAILED;
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

static enum ctl_exit
run_swap(struct ctl *c)
{
    struct error err = {0};

    enum ctl_exit code = check_swap(c);
    if (code != CTL_OK)
        return code;
    epoch_t epoch = c->here.epoch + 1;
    char *line =
        arena_printf(&c->arena, "LOG PREPARE %%(EPOCH %" PRI_EPOCH ")", epoch);
    if (csync_command(c->twin, span_str(line), on_answer, c, &err) != ERR_OK)
        return fail(c, CTL_FAILED, "the twin is not prepared", &err);

    uint64_t fence_us = env_mono_ns(c->o->env) / 1000;
    if (ask_local(c, "NODE FENCE %(WHY \"swap\" SWAP 1)", &err) != ERR_OK)
        return call_off(c, "fence", &err);
    if (drain(c, &err) != ERR_OK)
        return call_off(c, "drain", &err);
    if (ask_local(c, "NODE FENCE %(WHY \"handover sent to the twin\" SWAP 1)",
                  &err) != ERR_OK)
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
    if (ask_local(c, line, &err) != ERR_OK)
        return fail(c, CTL_UNCLEAR,
                    "the twin is the master, but this instance did not step "
                    "back",
                    &err);
    /* Writing goes on over there since it answered. */
    fence_us += env_mono_ns(c->o->env) / 1000 - twin_us;
    return swap_done(c, epoch, fence_us);
}

/* ---- promote, export, rejoin ------------------------------------------- */

static enum ctl_exit
run_promote(struct ctl *c)
{
    struct error err = {0};

    look(c);
    if (!c->has_here)
        return fail(c, CTL_NOLOCAL, "no instance answers here", &c->here_err);
    if (c->has_there && c->there.role == ROLE_MASTER && !c->there.fence &&
        !c->o->force) {
        error_set(&err, ERR_CONFLICT,
                  "the twin is the master and serves: use swap there (--force "
                  "promotes all the same and deposes it)");
        return fail(c, CTL_FAILED, "not promoted", &err);
    }
    if (ask_local(c, c->o->force ? "NODE PROMOTE %(FORCE 1)" : "NODE PROMOTE",
                  &err) != ERR_OK)
        return fail(c, CTL_FAILED, "not promoted", &err);
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
    return ask_local(c, line, err);
}

static enum ctl_exit
run_export(struct ctl *c)
{
    struct error err = {0};

    look(c);
    if (!c->has_here)
        return fail(c, CTL_NOLOCAL, "no instance answers here", &c->here_err);
    if (tell_fork(c, &err) != ERR_OK ||
        ask_local(c, "NODE EXPORT", &err) != ERR_OK)
        return fail(c, CTL_FAILED, "no export", &err);
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
        return fail(c, CTL_NOLOCAL, "the instance does not answer",
                    &c->here_err);
    if (!has_master && !c->o->force) {
        error_set(&err, ERR_CONFLICT,
                  "the twin is not a master that could seed this instance "
                  "(--force empties it all the same)");
        return fail(c, CTL_FAILED, "not rejoined", &err);
    }
    if (node_ask_rejoin(c->o->env, dir, has_master ? c->there.epoch : 0,
                        c->o->force, &err) != ERR_OK)
        return fail(c, CTL_FAILED, "not rejoined", &err);
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

static enum ctl_exit
run_rejoin(struct ctl *c)
{
    struct error err = {0};

    look(c);
    if (!c->has_here)
        return rejoin_stopped(c);
    if (!(c->has_there && c->there.role == ROLE_MASTER) && !c->o->force) {
        error_set(&err, ERR_CONFLICT,
                  "the twin is not a master that could seed this instance "
                  "(--force empties it all the same)");
        return fail(c, CTL_FAILED, "not rejoined", &err);
    }
    if (c->has_there && c->there.epoch < c->here.epoch && !c->o->force) {
        error_set(&err, ERR_FENCED,
                  "the twin is the master of epoch %" PRI_EPOCH
                  ", and epoch %" PRI_EPOCH
                  " has begun elsewhere (--force rejoins it all the same)",
                  c->there.epoch, c->here.epoch);
        return fail(c, CTL_FAILED, "not rejoined", &err);
    }
    if (tell_fork(c, &err) != ERR_OK ||
        ask_local(c, rejoin_command(c), &err) != ERR_OK)
        return fail(c, CTL_FAILED, "not rejoined", &err);
    fprintf(c->o->out,
            "rejoined: %" PRIu64 " records (%" PRIu64
            " messages) that the twin had not got were exported; the old store "
            "is kept in %s; the twin's sync_client seeds this instance now\n",
            c->records, c->messages, c->path == NULL ? "?" : c->path);
    return CTL_OK;
}

static const struct {
    const char *name;
    enum ctl_exit (*run)(struct ctl *c);
} verbs[] = {
    {"status", run_status}, {"fence", run_fence},     {"unfence", run_unfence},
    {"swap", run_swap},     {"promote", run_promote}, {"export", run_export},
    {"rejoin", run_rejoin},
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
