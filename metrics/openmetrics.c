/*
 * metrics/openmetrics.c - see metrics/openmetrics.h.
 *
 * Names are kept: dashboards and alert rules know them (docs/monitoring/, and a
 * test compares).  A state is a gauge for each of its values, 1 for the one
 * that holds, so that old parsers take it too.
 */
#include "metrics/openmetrics.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct om {
    struct buf *out;
    const char *name;
};

/* ---- printing ---------------------------------------------------------- */

static void
family(struct om *om, const char *name, const char *type, const char *unit,
       const char *help)
{
    om->name = name;
    buf_addf(om->out, "# TYPE %s %s\n", name, type);
    if (unit != NULL)
        buf_addf(om->out, "# UNIT %s %s\n", name, unit);
    buf_addf(om->out, "# HELP %s %s\n", name, help);
}

/* Into a label's value. */
static void
escaped(struct buf *out, const char *s)
{
    for (; *s != '\0'; s++) {
        if (*s == '\n')
            buf_add_str(out, "\\n");
        else if (*s == '"' || *s == '\\')
            buf_addf(out, "\\%c", *s);
        else if ((unsigned char)*s >= ' ' && (unsigned char)*s < 0x7f)
            buf_add_byte(out, (uint8_t)*s);
        else
            buf_add_byte(out, '?');
    }
}

struct label {
    const char *name, *value;
};

static void
labels(struct buf *out, const struct label *l, size_t n, const char *le)
{
    if (n == 0 && le == NULL)
        return;
    buf_add_byte(out, '{');
    for (size_t i = 0; i < n; i++) {
        buf_addf(out, "%s%s=\"", i == 0 ? "" : ",", l[i].name);
        escaped(out, l[i].value);
        buf_add_byte(out, '"');
    }
    if (le != NULL)
        buf_addf(out, "%sle=\"%s\"", n == 0 ? "" : ",", le);
    buf_add_byte(out, '}');
}

static void
put(struct om *om, const char *suffix, const struct label *l, size_t n,
    uint64_t value)
{
    buf_addf(om->out, "%s%s", om->name, suffix);
    labels(om->out, l, n, NULL);
    buf_addf(om->out, " %" PRIu64 "\n", value);
}

static void
put_real(struct om *om, const char *suffix, const struct label *l, size_t n,
         double value)
{
    buf_addf(om->out, "%s%s", om->name, suffix);
    labels(om->out, l, n, NULL);
    buf_addf(om->out, " %.6f\n", value);
}

static void
gauge(struct om *om, const char *name, const char *unit, const char *help,
      uint64_t value)
{
    family(om, name, "gauge", unit, help);
    put(om, "", NULL, 0, value);
}

/* NAME without _total. */
static void
counter(struct om *om, const char *name, const char *unit, const char *help,
        uint64_t value)
{
    family(om, name, "counter", unit, help);
    put(om, "_total", NULL, 0, value);
}

/* Buckets FROM to UNTIL in steps of STEP powers of two; what UNIT_OF 1 makes of
 * a value of the tally. */
struct scale {
    unsigned from, until, step;
    double unit;
};

static const struct scale seconds = {4, 24, 1, 1e-6};
static const struct scale coarse_seconds = {6, 24, 2, 1e-6};
static const struct scale plain = {0, 14, 1, 1};

static void
histogram(struct om *om, const struct label *l, size_t n,
          const struct tally_view *v, const struct scale *scale)
{
    uint64_t below = 0;
    unsigned i = 0;

    for (unsigned at = scale->from; at <= scale->until; at += scale->step) {
        char le[32];
        for (; i <= at; i++)
            below += v->bucket[i];
        snprintf(le, sizeof(le), scale->unit < 1 ? "%.6f" : "%.1f",
                 (double)(UINT64_C(1) << at) * scale->unit);
        buf_addf(om->out, "%s_bucket", om->name);
        labels(om->out, l, n, le);
        buf_addf(om->out, " %" PRIu64 "\n", below);
    }
    buf_addf(om->out, "%s_bucket", om->name);
    labels(om->out, l, n, "+Inf");
    buf_addf(om->out, " %" PRIu64 "\n", v->count);
    put(om, "_count", l, n, v->count);
    put_real(om, "_sum", l, n, (double)v->sum * scale->unit);
}

/* One line for each of the N names, 1 for the one that holds. */
static void
states(struct om *om, const struct label *before, size_t nbefore,
       const char *label, const char *(*name)(unsigned), unsigned n,
       unsigned now)
{
    struct label l[4];

    ENSURE(nbefore < ARRAY_LEN(l));
    for (size_t i = 0; i < nbefore; i++)
        l[i] = before[i];
    for (unsigned i = 0; i < n; i++) {
        l[nbefore] = (struct label){label, name(i)};
        put(om, "", l, nbefore + 1, i == now);
    }
}

static const char *
name_of_role(unsigned i)
{
    return role_name((enum role)i);
}

static const char *
name_of_state(unsigned i)
{
    return slot_state_name((enum slot_state)i);
}

static const char *
name_of_acks(unsigned i)
{
    return ack_state_name((enum ack_state)i);
}

static const char *
name_of_equality(unsigned i)
{
    return equality_name((enum equality)i);
}

/* ---- the instance ------------------------------------------------------ */

static void
print_role(struct om *om, const struct sample *s)
{
    const struct label version = {"version", POLLUX_VERSION};

    family(om, "pollux_build_info", "gauge", NULL, "Version of the program.");
    put(om, "", &version, 1, 1);
    family(om, "pollux_role", "gauge", NULL, "1 for the role that it has.");
    states(om, NULL, 0, "role", name_of_role, 3, (unsigned)s->role);
    gauge(om, "pollux_epoch", NULL, "Epoch of the instance.", s->epoch);
    gauge(om, "pollux_fence", NULL,
          "1 while the shutdown file is there: nothing is acknowledged.",
          s->fence);
    gauge(om, "pollux_swapping", NULL, "1 while a swap is under way.",
          s->swapping);
    gauge(om, "pollux_seeding", NULL,
          "1 while the state is incomplete or a seed is waited for.",
          s->seeding || s->seed_wanted);
    gauge(om, "pollux_serving", NULL, "1 while clients are let in.",
          s->is_serving);
    family(om, "pollux_heartbeat_age_seconds", "gauge", "seconds",
           "Since the main thread went round last.");
    put_real(om, "", NULL, 0, (double)s->heartbeat_ms / 1e3);
    family(om, "pollux_sample_timestamp_seconds", "gauge", "seconds",
           "When the instance could be looked at last.");
    put_real(om, "", NULL, 0, (double)s->wall_us / 1e6);
}

static void
print_position(struct om *om, const struct sample *s)
{
    gauge(om, "pollux_durable_lsn", NULL,
          "Last record on stable storage here, that is the last one that may "
          "have been acknowledged.",
          s->durable.lsn);
    gauge(om, "pollux_applied_lsn", NULL, "Last record in the state.",
          s->applied.lsn);
    gauge(om, "pollux_first_lsn", NULL,
          "Oldest record that is still in the log.", s->first_lsn);
    family(om, "pollux_last_commit_timestamp_seconds", "gauge", "seconds",
           "Commit time of the last record.");
    put_real(om, "", NULL, 0, (double)s->applied_time_us / 1e6);
    gauge(om, "pollux_digest", NULL,
          "Upper 48 bits of the digest of the state at pollux_applied_lsn: "
          "equal on two instances that are at the same record and hold the "
          "same.",
          s->digest >> 16);
}

static void
print_log(struct om *om, const struct sample *s)
{
    counter(om, "pollux_commits", NULL,
            "Commit groups, each one sync of the log.", s->sync_us.count);
    counter(om, "pollux_records", NULL, "Records that became durable.",
            s->group_records.sum);
    counter(om, "pollux_log_written_bytes", "bytes",
            "Bytes of frames written to the log.", s->log_written);
    family(om, "pollux_log_sync_seconds", "histogram", "seconds",
           "How long a sync of the log took.");
    histogram(om, NULL, 0, &s->sync_us, &seconds);
    family(om, "pollux_commit_group_records", "histogram", NULL,
           "Records of a commit group.");
    histogram(om, NULL, 0, &s->group_records, &plain);
    family(om, "pollux_log_sync_stalled_seconds", "gauge", "seconds",
           "How long the sync under way has taken so far.");
    put_real(om, "", NULL, 0, (double)s->sync_stalled_ms / 1e3);
    gauge(om, "pollux_writer_queue_bytes", "bytes",
          "Frames and transactions that wait for the writer.", s->queue_bytes);
    gauge(om, "pollux_disk_full", NULL,
          "1 while mutations are refused for want of room.", s->full.is_full);
}

static void
print_acks(struct om *om, const struct sample *s)
{
    family(om, "pollux_sync_ack", "gauge", NULL,
           "1 for the state of sync_ack: off, waiting for replicas as it is "
           "to be, refusing or degraded while they do not answer.");
    states(om, NULL, 0, "state", name_of_acks, 4, (unsigned)s->acks.state);
    gauge(om, "pollux_sync_ack_replicas", NULL,
          "Replicas that a commit waits for.", s->acks.replicas);
    gauge(om, "pollux_sync_ack_streaming", NULL, "Channels that stream.",
          s->acks.have);
    gauge(om, "pollux_sync_ack_held", NULL,
          "Commit groups that wait for them now.", s->acks.held);
    counter(om, "pollux_sync_ack_refused", NULL,
            "Mutations refused since too few replicas answered.",
            s->acks.refused);
    counter(om, "pollux_sync_ack_alone", NULL,
            "Commit groups answered without a replica.", s->acks.alone);
}

static void
print_storage(struct om *om, const struct sample *s)
{
    const struct compaction_view *v = &s->storage;

    gauge(om, "pollux_log_bytes", "bytes", "Bytes of all segments of the log.",
          v->log_bytes);
    gauge(om, "pollux_packs", NULL, "Packs that hold bodies.", v->packs);
    gauge(om, "pollux_pack_bytes", "bytes", "Bytes of bodies put into packs.",
          v->pack_bytes);
    gauge(om, "pollux_pack_dead_bytes", "bytes",
          "Of these, what nobody needs any more.", v->dead_bytes);
    counter(om, "pollux_compactor_moved_bytes", "bytes",
            "Bytes of bodies that the compactor has moved.", v->moved_bytes);
    counter(om, "pollux_compactor_dropped_bodies", NULL,
            "Bodies that nobody needed and that were dropped.", v->dropped);
    counter(om, "pollux_compactor_removed_packs", NULL, "Packs removed.",
            v->removed_packs);
    gauge(om, "pollux_compactor_bytes_per_second", NULL,
          "What the compactor reads and writes now.", v->bytes_per_s);
    gauge(om, "pollux_history_messages", NULL,
          "Messages that were purged and are kept here (sync_keep_history).",
          v->history_rows);
    gauge(om, "pollux_history_bytes", "bytes", "Bytes of these messages.",
          v->history_bytes);
    gauge(om, "pollux_log_stuck", NULL,
          "1 while a segment cannot go because bodies in it are damaged.",
          v->stuck_segment != 0);
}

static void
print_damage(struct om *om, const struct sample *s)
{
    gauge(om, "pollux_damaged", NULL,
          "Entries in the register of what is damaged here.", s->damage.count);
    gauge(om, "pollux_damaged_lost", NULL, "Of these, what no twin has either.",
          s->damage.lost);
    counter(om, "pollux_damage_healed", NULL, "Entries that were repaired.",
            s->damage.healed);
    gauge(om, "pollux_scrub_running", NULL,
          "1 while a round of the scrubber is under way.",
          s->has_scrub && s->scrub.phase != SCRUB_RESTING);
    gauge(om, "pollux_scrub_bytes", "bytes", "Read in this round.",
          s->has_scrub ? s->scrub.bytes : 0);
    family(om, "pollux_scrub_last_end_timestamp_seconds", "gauge", "seconds",
           "When the last whole round ended; 0: never.");
    put_real(om, "", NULL, 0,
             s->has_scrub ? (double)s->scrub.ended_us / 1e6 : 0);
}

static void
print_index(struct om *om, const struct metrics_index *x)
{
    gauge(om, "pollux_search_index_open", NULL,
          "1 while the index of words is open; 0 without search_engine too.",
          x->is_open);
    gauge(om, "pollux_search_index_failing", NULL,
          "1 while it could not be opened, or not be brought level.",
          x->is_failing);
    gauge(om, "pollux_search_index_level", NULL,
          "1 while no mailbox waits to be looked at.", x->is_level);
    gauge(om, "pollux_search_index_waiting_mailboxes", NULL,
          "Mailboxes that wait to be looked at, at least.", x->waiting);
    gauge(om, "pollux_search_index_left_messages", NULL,
          "Messages that are too few to be indexed (search_batchsize), at "
          "most.",
          x->left);
    gauge(om, "pollux_search_index_bytes", "bytes", "Bytes of its files.",
          x->bytes);
    counter(om, "pollux_search_indexed_messages", NULL, "Messages indexed.",
            x->messages);
    counter(om, "pollux_search_indexed_bytes", "bytes",
            "Bytes of messages read for that.", x->read_bytes);
    counter(om, "pollux_search_skipped_messages", NULL,
            "Messages that could not be indexed, and are read.", x->skipped);
    counter(om, "pollux_search_index_failures", NULL,
            "Attempts to bring it level that failed.", x->failures);
    family(om, "pollux_search_index_last_failure_timestamp_seconds", "gauge",
           "seconds", "When the last of them did; 0: never.");
    put_real(om, "", NULL, 0, (double)x->failed_us / 1e6);
}

/* "rocksdb.num-snapshots" as pollux_rocksdb_num_snapshots. */
static void
print_properties(struct om *om, const struct sample *s)
{
    for (size_t i = 0; i < SAMPLE_PROPERTIES; i++) {
        AUTO(xfree) char *name = xasprintf("pollux_%s", sample_properties[i]);
        AUTO(xfree)
        char *help = xasprintf("Property %s of the state's database.",
                               sample_properties[i]);
        for (char *p = name; *p != '\0'; p++)
            if (*p == '.' || *p == '-')
                *p = '_';
        gauge(om, name, NULL, help, s->properties[i]);
    }
}

/* ---- channels and twins ------------------------------------------------ */

#define CHANNEL_STATES 7U

static void
each_channel(struct om *om, const struct sample *s, const char *name,
             const char *unit, const char *help,
             uint64_t (*value)(const struct sample_channel *c))
{
    family(om, name, "gauge", unit, help);
    for (size_t i = 0; i < s->nchannels; i++) {
        const struct label l = {"channel", s->channels[i].name};
        put(om, "", &l, 1, value(&s->channels[i]));
    }
}

static uint64_t
channel_up(const struct sample_channel *c)
{
    return c->is_running;
}

static uint64_t
channel_parked(const struct sample_channel *c)
{
    return c->state == SLOT_PARKED || c->state == SLOT_RESEED;
}

static uint64_t
channel_sent(const struct sample_channel *c)
{
    return c->sent;
}

static uint64_t
channel_durable(const struct sample_channel *c)
{
    return c->durable;
}

static uint64_t
channel_applied(const struct sample_channel *c)
{
    return c->applied;
}

static uint64_t
channel_lag_records(const struct sample_channel *c)
{
    return c->lag_records;
}

static uint64_t
channel_lag_bytes(const struct sample_channel *c)
{
    return c->lag_bytes;
}

static void
print_channels(struct om *om, const struct sample *s)
{
    family(om, "pollux_channel_state", "gauge", NULL,
           "1 for the state that the channel is in.");
    for (size_t i = 0; i < s->nchannels; i++) {
        const struct label l = {"channel", s->channels[i].name};
        states(om, &l, 1, "state", name_of_state, CHANNEL_STATES,
               (unsigned)s->channels[i].state);
    }
    each_channel(om, s, "pollux_channel_up", NULL,
                 "1 while a sync_client serves the channel.", channel_up);
    each_channel(om, s, "pollux_channel_parked", NULL,
                 "1 while it is parked, or has to be seeded anew.",
                 channel_parked);
    each_channel(om, s, "pollux_channel_sent_lsn", NULL,
                 "Last record that was sent.", channel_sent);
    each_channel(om, s, "pollux_channel_acknowledged_lsn", NULL,
                 "Last record that the replica has on stable storage.",
                 channel_durable);
    each_channel(om, s, "pollux_channel_applied_lsn", NULL,
                 "Last record in the replica's state.", channel_applied);
    each_channel(om, s, "pollux_channel_lag_records", NULL,
                 "Records that are durable here and not applied there.",
                 channel_lag_records);
    each_channel(om, s, "pollux_channel_lag_bytes", "bytes",
                 "Bytes of log of these.", channel_lag_bytes);
    family(om, "pollux_channel_lag_seconds", "gauge", "seconds",
           "Age of the first of these.");
    for (size_t i = 0; i < s->nchannels; i++) {
        const struct label l = {"channel", s->channels[i].name};
        put_real(om, "", &l, 1, (double)s->channels[i].lag_us / 1e6);
    }
    family(om, "pollux_channel_last_ack_timestamp_seconds", "gauge", "seconds",
           "When the replica acknowledged last; 0: never.");
    for (size_t i = 0; i < s->nchannels; i++) {
        const struct label l = {"channel", s->channels[i].name};
        put_real(om, "", &l, 1, (double)s->channels[i].ack_us / 1e6);
    }
}

static void
print_twins(struct om *om, const struct sample *s)
{
    family(om, "pollux_twin_up", "gauge", NULL,
           "1 if the twin answered when it was asked last.");
    for (size_t i = 0; i < s->ntwins; i++) {
        const struct label l = {"host", s->twins[i].host};
        put(om, "", &l, 1, s->twins[i].is_reachable);
    }
    family(om, "pollux_twin_role", "gauge", NULL,
           "1 for the role that the twin has; none while it does not answer.");
    for (size_t i = 0; i < s->ntwins; i++) {
        const struct label l = {"host", s->twins[i].host};
        if (s->twins[i].is_reachable)
            states(om, &l, 1, "role", name_of_role, 3,
                   (unsigned)s->twins[i].role);
    }
    family(om, "pollux_twin_epoch", "gauge", NULL, "Epoch of the twin.");
    for (size_t i = 0; i < s->ntwins; i++) {
        const struct label l = {"host", s->twins[i].host};
        put(om, "", &l, 1, s->twins[i].epoch);
    }
    family(om, "pollux_twin_digest", "gauge", NULL,
           "1 for how its state compares with ours: equal (at the same "
           "record), behind (equal as far as the one behind is), unequal, "
           "unknown.");
    for (size_t i = 0; i < s->ntwins; i++) {
        const struct label l = {"host", s->twins[i].host};
        states(om, &l, 1, "compared", name_of_equality, 4,
               (unsigned)s->twins[i].equality);
    }
}

/* ---- services ---------------------------------------------------------- */

static void
each_service(struct om *om, const struct sample *s, const char *protocol,
             const char *name, const char *type, const char *suffix,
             const char *help,
             uint64_t (*value)(const struct metrics_service *v))
{
    family(om, name, type, NULL, help);
    for (size_t i = 0; i < s->nservices; i++) {
        const struct metrics_service *v = &s->services[i];
        const struct label l[] = {{"service", v->name},
                                  {"protocol", v->protocol}};
        if (protocol == NULL || strcmp(v->protocol, protocol) == 0)
            put(om, suffix, l, 2, value(v));
    }
}

static uint64_t
service_conns_now(const struct metrics_service *v)
{
    return v->conns;
}

static uint64_t
service_sessions(const struct metrics_service *v)
{
    return v->sessions;
}

static uint64_t
service_logins(const struct metrics_service *v)
{
    return v->logins;
}

static uint64_t
service_login_failures(const struct metrics_service *v)
{
    return v->login_failures;
}

static uint64_t
service_messages(const struct metrics_service *v)
{
    return v->messages;
}

static uint64_t
service_delivered(const struct metrics_service *v)
{
    return v->delivered;
}

static uint64_t
service_duplicates(const struct metrics_service *v)
{
    return v->duplicates;
}

static uint64_t
service_refused(const struct metrics_service *v)
{
    return v->refused;
}

static void
print_services(struct om *om, const struct sample *s)
{
    each_service(om, s, NULL, "pollux_sessions", "gauge", "",
                 "Connections now.", service_conns_now);
    each_service(om, s, NULL, "pollux_sessions_begun", "counter", "_total",
                 "Sessions since the start.", service_sessions);
    each_service(om, s, "imap", "pollux_logins", "counter", "_total", "Logins.",
                 service_logins);
    each_service(om, s, NULL, "pollux_login_failures", "counter", "_total",
                 "Logins that failed.", service_login_failures);
    each_service(om, s, "lmtp", "pollux_lmtp_messages", "counter", "_total",
                 "Messages taken for at least one recipient.",
                 service_messages);
    each_service(om, s, "lmtp", "pollux_lmtp_delivered", "counter", "_total",
                 "Recipients that got their message.", service_delivered);
    each_service(om, s, "lmtp", "pollux_lmtp_duplicates", "counter", "_total",
                 "Recipients that had it already.", service_duplicates);
    each_service(om, s, "lmtp", "pollux_lmtp_refused", "counter", "_total",
                 "Recipients refused, for now or for ever.", service_refused);
}

/* Only those that came at least once. */
static void
print_commands(struct om *om, const struct metrics_protocol *protocols,
               size_t n)
{
    struct tally_view v;

    family(om, "pollux_command_seconds", "histogram", "seconds",
           "How long commands took, from the command to its answer (DATA: "
           "from the dot).");
    for (size_t p = 0; p < n; p++) {
        const struct metrics_protocol *proto = &protocols[p];
        for (size_t i = 0; i < proto->ncommands; i++) {
            const struct label l[] = {{"protocol", proto->name},
                                      {"command", proto->command(i)}};
            tally_read(&proto->commands[i].us, &v);
            if (v.count > 0)
                histogram(om, l, 2, &v, &coarse_seconds);
        }
    }
    family(om, "pollux_commands_failed", "counter", NULL,
           "Commands that were answered with NO, BAD, 4xx or 5xx.");
    for (size_t p = 0; p < n; p++) {
        const struct metrics_protocol *proto = &protocols[p];
        for (size_t i = 0; i < proto->ncommands; i++) {
            const struct label l[] = {{"protocol", proto->name},
                                      {"command", proto->command(i)}};
            tally_read(&proto->commands[i].us, &v);
            if (v.count > 0)
                put(om, "_total", l, 2,
                    atomic_load(&proto->commands[i].failed));
        }
    }
}

/* ---- the process ------------------------------------------------------- */

static uint64_t
count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t n = 0;

    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n > 3 ? n - 3 : 0; /* . and .. and this one */
}

/* Field I, from 1, behind the name in /proc/self/stat (proc(5): state is 1). */
static uint64_t
stat_field(const char *stat, unsigned i)
{
    const char *p = strrchr(stat, ')');
    uint64_t value = 0;

    for (unsigned field = 0; p != NULL && field < i; field++) {
        p = strchr(p, ' ');
        p = p == NULL ? NULL : p + 1;
    }
    if (p == NULL)
        return 0;
    return parse_u64(span_of(p, strcspn(p, " \n")), &value) ? value : 0;
}

static void
print_process(struct om *om)
{
    char stat[1024] = "";
    struct rlimit limit = {0};
    const double ticks = (double)sysconf(_SC_CLK_TCK);
    FILE *f = fopen("/proc/self/stat", "re");

    if (f != NULL) {
        stat[fread(stat, 1, sizeof(stat) - 1, f)] = '\0';
        fclose(f);
    }
    family(om, "process_cpu_seconds", "counter", "seconds",
           "Time of the processor.");
    put_real(om, "_total", NULL, 0,
             (double)(stat_field(stat, 12) + stat_field(stat, 13)) / ticks);
    gauge(om, "process_resident_memory_bytes", "bytes", "Resident memory.",
          stat_field(stat, 22) * (uint64_t)sysconf(_SC_PAGESIZE));
    gauge(om, "process_threads", NULL, "Threads.", stat_field(stat, 18));
    gauge(om, "process_open_fds", NULL, "Open descriptors.",
          count_descriptors());
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    gauge(om, "process_max_fds", NULL, "How many there may be.",
          limit.rlim_cur);
    struct timespec now = {0}, boot = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    family(om, "process_start_time_seconds", "gauge", "seconds",
           "When the process began.");
    put_real(om, "", NULL, 0,
             (double)(now.tv_sec - boot.tv_sec) +
                 (double)stat_field(stat, 20) / ticks);
}

void
openmetrics_print(const struct sample *s,
                  const struct metrics_protocol *protocols, size_t nprotocols,
                  struct buf *out)
{
    struct om om = {.out = out};

    print_role(&om, s);
    print_position(&om, s);
    print_log(&om, s);
    print_acks(&om, s);
    print_storage(&om, s);
    print_damage(&om, s);
    print_index(&om, &s->index);
    print_properties(&om, s);
    print_channels(&om, s);
    print_twins(&om, s);
    print_services(&om, s);
    print_commands(&om, protocols, nprotocols);
    print_process(&om);
    buf_add_str(out, "# EOF\n");
}
