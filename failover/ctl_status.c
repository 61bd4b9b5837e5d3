/*
 * failover/ctl_status.c - ctl_failover status, for a person or as JSON.
 */
#include "failover/ctl_private.h"

#include <string.h>
#include <time.h>

#include "synclog/slot.h"

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
            ",\"stuck_segment\":%" PRIu64 ",\"history\":%" PRIu64
            ",\"history_bytes\":%" PRIu64 ",\"healed\":%" PRIu64
            ",\"scrub\":\"%s\",\"scrub_per_mille\":%" PRIu64
            ",\"scrub_bodies\":%" PRIu64 ",\"scrub_ended_us\":%" PRIu64
            ",\"channels\":[",
            equality_words[eq], lag, lag_ms(c, lag), c->damaged, c->lost,
            c->oldest_us, c->log_bytes, c->packs, c->pack_bytes, c->dead_bytes,
            c->bytes_per_s, c->stuck_segment, c->history, c->history_bytes,
            c->healed, c->scrub == NULL ? "off" : c->scrub, c->scrub_per_mille,
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
    if (c->history != 0)
        fprintf(c->o->out,
                "history here: %" PRIu64
                " purged messages of %.1f MiB are kept\n",
                c->history, mib(c->history_bytes));
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

enum ctl_exit
ctl_status(struct ctl *c)
{
    enum equality eq = EQ_UNKNOWN;
    uint64_t lag = 0;

    ctl_look(c);
    if (c->has_here && c->has_there)
        eq = compare(c, &lag);
    enum ctl_exit code = judge(c, eq);
    if (c->o->json)
        print_json(c, eq, lag, code);
    else
        print_human(c, eq, lag);
    return code;
}
