/*
 * csync/follow.c - a master wants to ship: LOG OPEN, STREAM, SEED and RESEED up
 * to the moment in which messages begin (csync/take.c).
 *
 * Whether we follow it is for the instance to say; here it is seen to that both
 * are at the same record of the same history.
 */
#include "csync/session.h"
#include "store/record.h"
#include "synclog/mutants.h"

/* CLUSTER, INSTANCE, EPOCH; ours to check that we speak the same. */
static enum errcode
ask_follow(struct csync_session *s)
{
    const struct csync_instance *i = session_instance(s);
    struct instid cluster;
    struct instid instance;
    uint32_t epoch = 0;
    uint32_t format = 0;

    if (!dlist_get_instid(s->args, "CLUSTER", &cluster))
        return session_missing(s, "CLUSTER");
    if (!dlist_get_instid(s->args, "INSTANCE", &instance))
        return session_missing(s, "INSTANCE");
    if (!dlist_get_u32(s->args, "EPOCH", &epoch) || epoch > EPOCH_MAX)
        return session_missing(s, "EPOCH");
    if (!dlist_get_u32(s->args, "FORMAT", &format))
        return session_missing(s, "FORMAT");
    if (format > RECORD_FORMAT)
        return error_set(&s->work_err, ERR_VERSION,
                         "the master writes records of format %" PRIu32
                         ", this replica knows %u: upgrade the replica first",
                         format, RECORD_FORMAT);
    s->epoch = epoch;
    return i->follow(i->ctx, &cluster, &instance, epoch, &s->work_err);
}

void
follow_work_open(struct csync_session *s)
{
    s->work_code = ask_follow(s);
}

void
follow_work_stream(struct csync_session *s)
{
    const struct csync_instance *i = session_instance(s);
    struct store_log_view log;
    uint64_t chain = 0;
    uint64_t lsn = 0;

    s->work_code = ask_follow(s);
    if (s->work_code != ERR_OK)
        return;
    s->store = i->store(i->ctx);
    s->on_receipt = dlist_get_u64(s->args, "RECEIPTS", &lsn) && lsn != 0;
    store_log_view(s->store, &log);
    if (!dlist_get_u64(s->args, "LSN", &lsn))
        s->work_code = session_missing(s, "LSN");
    else if (!dlist_get_hex64(s->args, "CHAIN", &chain))
        s->work_code = session_missing(s, "CHAIN");
    else if (lsn != log.durable.lsn)
        s->work_code =
            error_set(&s->work_err, ERR_GAP,
                      "this replica is at %" PRI_LSN ", not at %" PRIu64,
                      log.durable.lsn, lsn);
    else if (lsn > 0 && chain != log.chain &&
             (session_options(s)->mutants & MUTANT_ANY_CHAIN) == 0)
        s->work_code = error_set(
            &s->work_err, ERR_HISTORY,
            "at %" PRI_LSN " this replica's log has chain %016" PRIx64
            ", the master's has %016" PRIx64 ": their histories differ",
            lsn, log.chain, chain);
}

void
follow_begin_stream(struct csync_session *s)
{
    if (s->work_code != ERR_OK) {
        session_refuse(s, s->work_code, &s->work_err);
        return;
    }
    conn_write_str(s->conn, "OK streaming\r\n");
    take_log_begin(s);
}

void
follow_work_reseed(struct csync_session *s)
{
    const struct csync_instance *i = session_instance(s);
    uint64_t lsn = 0;

    s->work_code = ask_follow(s);
    if (s->work_code != ERR_OK)
        return;
    /* Who asks must know where we are, and that it is behind its own log. */
    struct store_log_view log;
    store_log_view(i->store(i->ctx), &log);
    if (!dlist_get_u64(s->args, "LSN", &lsn))
        s->work_code = session_missing(s, "LSN");
    else if (lsn != log.durable.lsn)
        s->work_code =
            error_set(&s->work_err, ERR_GAP,
                      "this replica is at %" PRI_LSN ", not at %" PRIu64,
                      log.durable.lsn, lsn);
    else
        s->work_code = i->reseed(i->ctx, &s->work_err);
}

void
follow_work_seed(struct csync_session *s)
{
    const struct csync_instance *i = session_instance(s);

    s->work_code = ask_follow(s);
    if (s->work_code != ERR_OK)
        return;
    s->store = i->store(i->ctx);
    s->work_code = seed_open(s->store, &s->seed, &s->work_err);
}

void
follow_begin_seed(struct csync_session *s)
{
    if (s->work_code != ERR_OK) {
        session_refuse(s, s->work_code, &s->work_err);
        return;
    }
    conn_write_str(s->conn, "OK send the seed\r\n");
    take_seed_begin(s);
}
