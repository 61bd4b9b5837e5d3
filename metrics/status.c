/*
 * metrics/status.c - see metrics/status.h.  Names are kept; new ones may come.
 */
#include "metrics/status.h"

#include "metrics/advice.h"

#define POINTS 300U /* seconds of history that are shown */

/* ---- JSON -------------------------------------------------------------- */

static void
string(struct buf *out, const char *s)
{
    buf_add_byte(out, '"');
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            buf_addf(out, "\\%c", c);
        else if (c < ' ' || c >= 0x7f)
            buf_addf(out, "\\u%04x", c < 0x80 ? c : '?');
        else
            buf_add_byte(out, c);
    }
    buf_add_byte(out, '"');
}

static void
text(struct buf *out, const char *key, const char *value)
{
    buf_addf(out, ",\"%s\":", key);
    string(out, value);
}

static void
number(struct buf *out, const char *key, uint64_t value)
{
    buf_addf(out, ",\"%s\":%" PRIu64, key, value);
}

static void
truth(struct buf *out, const char *key, bool value)
{
    buf_addf(out, ",\"%s\":%s", key, value ? "true" : "false");
}

static void
hash(struct buf *out, const char *key, uint64_t value)
{
    buf_addf(out, ",\"%s\":\"%016" PRIx64 "\"", key, value);
}

static void
id(struct buf *out, const char *key, const struct instid *value)
{
    char hex[2 * INSTANCE_ID_BYTES + 1];

    format_hex_bytes(value->b, INSTANCE_ID_BYTES, hex);
    text(out, key, hex);
}

/* Time from THEN to NOW; nothing if it never was. */
static void
age(struct buf *out, const char *key, uint64_t then_us, uint64_t now_us)
{
    if (then_us != 0)
        number(out, key, now_us > then_us ? (now_us - then_us) / 1000 : 0);
}

/* ---- parts ------------------------------------------------------------- */

static void
print_here(const struct sample *s, struct buf *out)
{
    buf_add_str(out, ",\"here\":{\"there\":");
    buf_add_str(out, s->is_there ? "true" : "false");
    text(out, "servername", s->servername);
    text(out, "role", role_name(s->role));
    number(out, "epoch", s->epoch);
    truth(out, "fence", s->fence);
    truth(out, "swapping", s->swapping);
    truth(out, "seeding", s->seeding);
    truth(out, "seed_wanted", s->seed_wanted);
    truth(out, "serving", s->is_serving);
    number(out, "durable", s->durable.lsn);
    number(out, "applied", s->applied.lsn);
    number(out, "applied_epoch", s->applied.epoch);
    number(out, "first_lsn", s->first_lsn);
    hash(out, "digest", s->digest);
    hash(out, "chain", s->chain);
    id(out, "cluster", &s->cluster);
    id(out, "instance", &s->instance);
    text(out, "why", s->why);
    buf_add_byte(out, '}');
}

static void
print_twin(const struct sample_twin *t, uint64_t now_us, struct buf *out)
{
    buf_add_str(out, "{\"channel\":");
    string(out, t->channel[0] == '\0' ? "default" : t->channel);
    text(out, "host", t->host);
    truth(out, "asked", t->was_asked);
    truth(out, "reachable", t->is_reachable);
    text(out, "error", t->error);
    age(out, "asked_ms_ago", t->asked_us, now_us);
    if (t->servername[0] != '\0') { /* it has answered at least once */
        text(out, "servername", t->servername);
        text(out, "role", role_name(t->role));
        number(out, "epoch", t->epoch);
        truth(out, "fence", t->fence);
        truth(out, "seeding", t->seeding);
        truth(out, "seed_wanted", t->seed_wanted);
        number(out, "durable", t->durable);
        number(out, "applied", t->applied.lsn);
        hash(out, "digest", t->digest);
        id(out, "instance", &t->instance);
        text(out, "why", t->why);
    }
    text(out, "compared", equality_name(t->equality));
    buf_add_byte(out, '}');
}

static void
print_channel(const struct sample_channel *c, uint64_t now_us, struct buf *out)
{
    buf_add_str(out, "{\"channel\":");
    string(out, c->name);
    text(out, "peer", c->peer);
    text(out, "state", slot_state_name(c->state));
    truth(out, "running", c->is_running);
    text(out, "text", c->text);
    age(out, "since_ms", c->since_us, now_us);
    age(out, "ack_ms_ago", c->ack_us, now_us);
    number(out, "sent", c->sent);
    number(out, "durable", c->durable);
    number(out, "applied", c->applied);
    number(out, "lag_records", c->lag_records);
    number(out, "lag_bytes", c->lag_bytes);
    number(out, "lag_us", c->lag_us);
    truth(out, "lag_is_exact", c->is_exact);
    buf_add_byte(out, '}');
}

static uint64_t
per_second(uint64_t from, uint64_t to, uint64_t us)
{
    return to <= from || us == 0
               ? 0
               : (uint64_t)((double)(to - from) * 1e6 / (double)us + 0.5);
}

/* [ms ago, records/s, bytes/s, syncs/s, lag in records, lag in ms] */
static void
print_history(const struct history *h, uint64_t now_us, struct buf *out)
{
    size_t from = h->n > POINTS + 1 ? h->n - POINTS - 1 : 0;

    buf_add_str(out, ",\"history\":[");
    for (size_t i = from + 1; i < h->n; i++) {
        const struct history_point *p = history_at(h, i - 1);
        const struct history_point *q = history_at(h, i);
        uint64_t us = q->wall_us > p->wall_us ? q->wall_us - p->wall_us : 0;
        buf_addf(out,
                 "%s[%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64
                 ",%" PRIu64 "]",
                 i == from + 1 ? "" : ",",
                 now_us > q->wall_us ? (now_us - q->wall_us) / 1000 : 0,
                 per_second(p->lsn, q->lsn, us),
                 per_second(p->bytes, q->bytes, us),
                 per_second(p->syncs, q->syncs, us), q->lag_records,
                 q->lag_us / 1000);
    }
    buf_add_byte(out, ']');
}

static void
print_storage(const struct sample *s, uint64_t now_us, struct buf *out)
{
    const struct compaction_view *v = &s->storage;

    buf_addf(out, ",\"storage\":{\"log_bytes\":%" PRIu64, v->log_bytes);
    number(out, "packs", v->packs);
    number(out, "pack_bytes", v->pack_bytes);
    number(out, "dead_bytes", v->dead_bytes);
    number(out, "compactor_bytes_per_s", v->bytes_per_s);
    number(out, "stuck_segment", v->stuck_segment);
    number(out, "history_messages", v->history_rows);
    number(out, "history_bytes", v->history_bytes);
    truth(out, "full", s->full.is_full);
    number(out, "state_bytes", s->properties[1]);
    number(out, "state_memory_bytes",
           s->properties[2] + s->properties[3] + s->properties[4]);
    number(out, "queue_bytes", s->queue_bytes);
    buf_addf(out, "},\"sync\":{\"count\":%" PRIu64, s->sync_us.count);
    number(out, "p50_us", tally_quantile(&s->sync_us, 500));
    number(out, "p99_us", tally_quantile(&s->sync_us, 990));
    number(out, "stalled_ms", s->sync_stalled_ms);
    buf_addf(out, "},\"sync_ack\":{\"replicas\":%u", s->acks.replicas);
    text(out, "state", ack_state_name(s->acks.state));
    number(out, "streaming", s->acks.have);
    number(out, "held", s->acks.held);
    number(out, "refused", s->acks.refused);
    number(out, "alone", s->acks.alone);
    buf_addf(out, "},\"damage\":{\"count\":%" PRIu64, s->damage.count);
    number(out, "lost", s->damage.lost);
    number(out, "healed", s->damage.healed);
    age(out, "oldest_ms", s->damage.oldest_us, now_us);
    text(out, "scrub", s->has_scrub ? scrub_phase_name(s->scrub.phase) : "off");
    number(out, "scrub_per_mille", s->has_scrub ? s->scrub.per_mille : 0);
    if (s->has_scrub)
        age(out, "scrub_ended_ms", s->scrub.ended_us, now_us);
    buf_add_byte(out, '}');
}

static void
print_index(const struct metrics_index *x, uint64_t now_us, struct buf *out)
{
    buf_addf(out, ",\"search\":{\"waiting_mailboxes\":%" PRIu64, x->waiting);
    number(out, "left_messages", x->left);
    number(out, "bytes", x->bytes);
    number(out, "failures", x->failures);
    text(out, "state",
         !x->is_wanted   ? "off"
         : x->is_failing ? "failing"
         : !x->is_open   ? "opening"
         : x->is_level   ? "level"
                         : "working");
    if (x->failed_us > 0)
        age(out, "failed_ms", x->failed_us, now_us);
    text(out, "why", x->why);
    buf_add_byte(out, '}');
}

static void
print_services(const struct sample *s, struct buf *out)
{
    buf_add_str(out, ",\"services\":[");
    for (size_t i = 0; i < s->nservices; i++) {
        const struct metrics_service *v = &s->services[i];
        buf_add_str(out, i == 0 ? "{\"name\":" : ",{\"name\":");
        string(out, v->name);
        text(out, "protocol", v->protocol);
        text(out, "address", v->address);
        number(out, "conns", v->conns);
        number(out, "sessions", v->sessions);
        buf_add_byte(out, '}');
    }
    buf_add_byte(out, ']');
}

static void
print_commands(const struct metrics_protocol *protocols, size_t n,
               struct buf *out)
{
    struct tally_view v;
    bool first = true;

    buf_add_str(out, ",\"commands\":[");
    for (size_t p = 0; p < n; p++)
        for (size_t i = 0; i < protocols[p].ncommands; i++) {
            const struct command_tally *c = &protocols[p].commands[i];
            tally_read(&c->us, &v);
            if (v.count == 0)
                continue;
            buf_add_str(out, first ? "{\"protocol\":" : ",{\"protocol\":");
            first = false;
            string(out, protocols[p].name);
            text(out, "command", protocols[p].command(i));
            number(out, "count", v.count);
            number(out, "failed", atomic_load(&c->failed));
            number(out, "p50_us", tally_quantile(&v, 500));
            number(out, "p99_us", tally_quantile(&v, 990));
            buf_add_byte(out, '}');
        }
    buf_add_byte(out, ']');
}

static void
print_advice(const struct sample *s, struct buf *out)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    const struct advice *v;
    size_t n = advice_make(s, &a, &v);

    buf_add_str(out, ",\"advice\":[");
    for (size_t i = 0; i < n; i++) {
        buf_add_str(out, i == 0 ? "{\"level\":" : ",{\"level\":");
        string(out, advice_level_name(v[i].level));
        text(out, "what", v[i].what);
        text(out, "todo", v[i].todo);
        buf_add_byte(out, '}');
    }
    buf_add_byte(out, ']');
}

void
status_print(const struct sample *s, const struct history *history,
             const struct metrics_protocol *protocols, size_t nprotocols,
             uint64_t now_us, struct buf *out)
{
    buf_add_str(out, "{\"version\":\"" POLLUX_VERSION "\"");
    number(out, "wall_us", now_us);
    age(out, "sample_ms_ago", s->wall_us, now_us);
    number(out, "heartbeat_ms", s->heartbeat_ms);
    print_here(s, out);
    buf_add_str(out, ",\"twins\":[");
    for (size_t i = 0; i < s->ntwins; i++) {
        buf_add_str(out, i == 0 ? "" : ",");
        print_twin(&s->twins[i], now_us, out);
    }
    buf_add_str(out, "],\"channels\":[");
    for (size_t i = 0; i < s->nchannels; i++) {
        buf_add_str(out, i == 0 ? "" : ",");
        print_channel(&s->channels[i], now_us, out);
    }
    buf_add_byte(out, ']');
    print_history(history, now_us, out);
    print_storage(s, now_us, out);
    print_index(&s->index, now_us, out);
    print_services(s, out);
    print_commands(protocols, nprotocols, out);
    print_advice(s, out);
    buf_add_str(out, "}\n");
}
