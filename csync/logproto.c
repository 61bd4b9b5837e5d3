/* csync/logproto.c - the bytes of CSYNC by log, and LOGSTATUS as a dlist. */
#include "csync/logproto.h"

static const char *const role_names[] = {
    [ROLE_REPLICA] = "replica",
    [ROLE_MASTER] = "master",
    [ROLE_FENCED] = "fenced",
};

const char *
role_name(enum role role)
{
    size_t i = (size_t)role;

    return i < ARRAY_LEN(role_names) ? role_names[i] : "unknown";
}

static bool
type_known(uint8_t type)
{
    switch ((enum logmsg_type)type) {
    case LOGMSG_FRAMES:
    case LOGMSG_PING:
    case LOGMSG_END:
    case LOGMSG_SEED_GUIDS:
    case LOGMSG_SEED_PART:
    case LOGMSG_SEED_SYNC:
    case LOGMSG_SEED_BEGIN:
    case LOGMSG_SEED_ROWS:
    case LOGMSG_SEED_FINISH:
    case LOGMSG_SEED_TOTALS:
    case LOGMSG_ACK:
    case LOGMSG_ERROR:
    case LOGMSG_SEED_MISSING:
    case LOGMSG_SEED_SYNCED:
    case LOGMSG_SEED_DONE:
    case LOGMSG_GET_PART:
    case LOGMSG_GET_FRAMES:
    case LOGMSG_SEED_LOST:
    case LOGMSG_PART:
    case LOGMSG_LENT_FRAMES:
    case LOGMSG_LACKING:
    case LOGMSG_ZSTD:
        return true;
    }
    return false;
}

enum parse
logmsg_parse(struct span in, struct logmsg *ret, size_t *ret_used)
{
    struct rd r = rd_init(in);
    uint32_t n = rd_u32le(&r);
    uint8_t type = rd_u8(&r);
    uint8_t zero[3] = {rd_u8(&r), rd_u8(&r), rd_u8(&r)};

    if (r.bad)
        return PARSE_MORE;
    if (n > LOGMSG_PAYLOAD_MAX || !type_known(type) || zero[0] != 0 ||
        zero[1] != 0 || zero[2] != 0)
        return PARSE_BAD;
    struct span payload = rd_span(&r, n);
    if (r.bad)
        return PARSE_MORE;
    *ret = (struct logmsg){.type = type, .payload = payload};
    *ret_used = LOGMSG_HEADER_BYTES + payload.n;
    return PARSE_DONE;
}

void
logmsg_header(uint8_t type, uint32_t n, uint8_t out[LOGMSG_HEADER_BYTES])
{
    for (unsigned i = 0; i < 4; i++)
        out[i] = (uint8_t)(n >> (8 * i));
    out[4] = type;
    out[5] = out[6] = out[7] = 0;
}

void
store_pos_encode(const struct store_pos *pos, struct buf *out)
{
    buf_add_u32le(out, pos->applied.epoch);
    buf_add_u64le(out, pos->applied.lsn);
    buf_add_u64le(out, pos->chain);
    buf_add_u64le(out, pos->digest);
    buf_add_u64le(out, pos->time_us);
}

void
store_pos_decode(struct rd *r, struct store_pos *ret)
{
    ret->applied.epoch = rd_u32le(r);
    ret->applied.lsn = rd_u64le(r);
    ret->chain = rd_u64le(r);
    ret->digest = rd_u64le(r);
    ret->time_us = rd_u64le(r);
}

void
logack_encode(const struct logack *ack, struct buf *out)
{
    buf_add_u64le(out, ack->received);
    buf_add_u64le(out, ack->durable);
    store_pos_encode(&ack->applied, out);
    buf_add_u64le(out, ack->ping);
}

bool
logack_decode(struct span payload, struct logack *ret)
{
    struct rd r = rd_init(payload);
    struct logack ack;

    ack.received = rd_u64le(&r);
    ack.durable = rd_u64le(&r);
    store_pos_decode(&r, &ack.applied);
    ack.ping = rd_u64le(&r);
    if (!rd_done(&r))
        return false;
    *ret = ack;
    return true;
}

void
logpart_encode(const struct guid *guid, const struct body_loc *loc,
               struct span stored, struct buf *out)
{
    AUTO(buf_free) struct buf where = BUF_INIT;

    body_loc_encode(loc, &where);
    buf_add(out, span_of(guid->b, GUID_BYTES));
    buf_add_blob(out, buf_span(&where));
    buf_add(out, stored);
}

enum errcode
logpart_decode(struct span payload, struct guid *ret_guid,
               struct body_loc *ret_loc, struct span *ret_stored,
               struct error *err)
{
    struct rd r = rd_init(payload);
    struct span guid = rd_span(&r, GUID_BYTES);
    struct span where = rd_blob(&r, 256);

    if (r.bad)
        return error_set(err, ERR_PROTO, "a part of a body is cut");
    enum errcode rc = body_loc_decode(where, ret_loc, err);
    if (rc != ERR_OK)
        return error_prefix(err, "a part of a body");
    if (r.left.n != ret_loc->stored_bytes)
        return error_set(err, ERR_PROTO, "a part of a body is cut");
    memcpy(ret_guid->b, guid.p, GUID_BYTES);
    *ret_stored = r.left;
    return ERR_OK;
}

void
lend_request_encode(const struct lend_request *q, struct buf *out)
{
    if (q->wants_frames) {
        buf_add_u64le(out, q->after);
        buf_add_u64le(out, q->until);
    } else {
        buf_add(out, span_of(q->guid.b, GUID_BYTES));
        buf_add_u32le(out, q->part);
    }
}

bool
lend_request_decode(const struct logmsg *m, struct lend_request *ret)
{
    struct lend_request q = {.wants_frames = m->type == LOGMSG_GET_FRAMES};
    struct rd r = rd_init(m->payload);

    if (q.wants_frames) {
        q.after = rd_u64le(&r);
        q.until = rd_u64le(&r);
    } else if (m->type == LOGMSG_GET_PART) {
        struct span guid = rd_span(&r, GUID_BYTES);
        if (!r.bad)
            memcpy(q.guid.b, guid.p, GUID_BYTES);
        q.part = rd_u32le(&r);
    } else {
        return false;
    }
    if (!rd_done(&r) || q.part > UINT16_MAX ||
        (q.wants_frames && q.until <= q.after))
        return false;
    *ret = q;
    return true;
}

/* ---- LOGSTATUS ---------------------------------------------------------- */

static void
print_pos(struct dlist_printer *p, const struct store_pos *pos)
{
    dlist_u64(p, "APPLIED_EPOCH", pos->applied.epoch);
    dlist_u64(p, "APPLIED", pos->applied.lsn);
    dlist_hex64(p, "APPLIED_CHAIN", pos->chain);
    dlist_hex64(p, "DIGEST", pos->digest);
    dlist_u64(p, "APPLIED_TIME", pos->time_us);
}

void
logstatus_print(const struct logstatus *s, enum dlist_side side,
                struct buf *out)
{
    struct dlist_printer p;

    dlist_print_begin(&p, out, side);
    dlist_open_kv(&p, "LOGSTATUS");
    dlist_u64(&p, "VERSION", s->version);
    dlist_u64(&p, "RECORD_FORMAT", s->record_format);
    dlist_instid(&p, "CLUSTER", &s->cluster);
    dlist_instid(&p, "INSTANCE", &s->instance);
    dlist_str(&p, "ROLE", role_name(s->role));
    dlist_u64(&p, "EPOCH", s->epoch);
    dlist_u64(&p, "FENCE", s->fence);
    dlist_u64(&p, "SWAPPING", s->swapping);
    dlist_u64(&p, "SEEDING", s->seeding);
    dlist_u64(&p, "SEED_WANTED", s->seed_wanted);
    dlist_u64(&p, "DURABLE_EPOCH", s->durable.epoch);
    dlist_u64(&p, "DURABLE", s->durable.lsn);
    dlist_hex64(&p, "CHAIN", s->chain);
    print_pos(&p, &s->applied);
    if (s->delay_us > 0)
        dlist_u64(&p, "DELAY", s->delay_us);
    dlist_u64(&p, "FIRST", s->first_lsn);
    dlist_u64(&p, "START", s->start_lsn);
    dlist_u64(&p, "WALL", s->wall_us);
    dlist_str(&p, "SERVERNAME", s->servername == NULL ? "" : s->servername);
    dlist_str(&p, "TEXT", s->text == NULL ? "" : s->text);
    dlist_open_list(&p, "EPOCHS");
    for (size_t i = 0; i < s->nepochs; i++) {
        dlist_open_kv(&p, NULL);
        dlist_u64(&p, "EPOCH", s->epochs[i].epoch);
        dlist_u64(&p, "LSN", s->epochs[i].fork_lsn);
        dlist_hex64(&p, "CHAIN", s->epochs[i].fork_chain);
        dlist_u64(&p, "TIME", s->epochs[i].time_us);
        dlist_u64(&p, "HEADROOM", s->epochs[i].uid_headroom);
        dlist_instid(&p, "INSTANCE", &s->epochs[i].instance);
        dlist_close(&p);
    }
    dlist_close(&p);
    dlist_close(&p);
}

/* Reads with one place that remembers the first key that was wrong. */
struct status_reader {
    const struct dlist *d;
    const char *wrong;
};

static uint64_t
get_u64(struct status_reader *r, const char *key, uint64_t max)
{
    uint64_t v = 0;

    if ((!dlist_get_u64(r->d, key, &v) || v > max) && r->wrong == NULL)
        r->wrong = key;
    return v > max ? 0 : v;
}

static uint64_t
get_hex(struct status_reader *r, const char *key)
{
    uint64_t v = 0;

    if (!dlist_get_hex64(r->d, key, &v) && r->wrong == NULL)
        r->wrong = key;
    return v;
}

static struct instid
get_instid(struct status_reader *r, const char *key)
{
    struct instid id = {0};

    if (!dlist_get_instid(r->d, key, &id) && r->wrong == NULL)
        r->wrong = key;
    return id;
}

static enum role
get_role(struct status_reader *r, const char *key)
{
    struct span text = SPAN_EMPTY;

    if (dlist_get_text(r->d, key, &text))
        for (size_t i = 0; i < ARRAY_LEN(role_names); i++)
            if (span_eq_str(text, role_names[i]))
                return (enum role)i;
    if (r->wrong == NULL)
        r->wrong = key;
    return ROLE_REPLICA;
}

static void
get_epochs(struct status_reader *r, struct arena *a, struct logstatus *s)
{
    const struct dlist *list = dlist_get(r->d, "EPOCHS");

    if (list == NULL || list->type != DLIST_LIST) {
        r->wrong = r->wrong == NULL ? "EPOCHS" : r->wrong;
        return;
    }
    size_t n = 0;
    for (const struct dlist *c = list->child; c != NULL; c = c->next)
        n++;
    if (n > EPOCHS_MAX) {
        r->wrong = r->wrong == NULL ? "EPOCHS" : r->wrong;
        return;
    }
    struct epoch_entry *epochs = arena_array(a, n, sizeof(*epochs));
    size_t i = 0;
    for (const struct dlist *c = list->child; c != NULL; c = c->next, i++) {
        struct status_reader er = {.d = c};
        epochs[i].epoch = (epoch_t)get_u64(&er, "EPOCH", EPOCH_MAX);
        epochs[i].fork_lsn = get_u64(&er, "LSN", UINT64_MAX);
        epochs[i].fork_chain = get_hex(&er, "CHAIN");
        epochs[i].time_us = get_u64(&er, "TIME", UINT64_MAX);
        epochs[i].uid_headroom = (uint32_t)get_u64(&er, "HEADROOM", UINT32_MAX);
        epochs[i].instance = get_instid(&er, "INSTANCE");
        if (er.wrong != NULL && r->wrong == NULL)
            r->wrong = er.wrong;
    }
    s->epochs = epochs;
    s->nepochs = n;
}

enum errcode
logstatus_read(const struct dlist *d, struct arena *a, struct logstatus *ret,
               struct error *err)
{
    struct status_reader r = {.d = d};
    struct logstatus s = {0};

    s.version = (uint32_t)get_u64(&r, "VERSION", UINT32_MAX);
    s.record_format = (uint32_t)get_u64(&r, "RECORD_FORMAT", UINT32_MAX);
    s.cluster = get_instid(&r, "CLUSTER");
    s.instance = get_instid(&r, "INSTANCE");
    s.role = get_role(&r, "ROLE");
    s.epoch = (epoch_t)get_u64(&r, "EPOCH", EPOCH_MAX);
    s.fence = get_u64(&r, "FENCE", 1) != 0;
    s.swapping = get_u64(&r, "SWAPPING", 1) != 0;
    s.seeding = get_u64(&r, "SEEDING", 1) != 0;
    s.seed_wanted = get_u64(&r, "SEED_WANTED", 1) != 0;
    s.durable.epoch = (epoch_t)get_u64(&r, "DURABLE_EPOCH", EPOCH_MAX);
    s.durable.lsn = get_u64(&r, "DURABLE", UINT64_MAX);
    s.chain = get_hex(&r, "CHAIN");
    s.applied.applied.epoch = (epoch_t)get_u64(&r, "APPLIED_EPOCH", EPOCH_MAX);
    s.applied.applied.lsn = get_u64(&r, "APPLIED", UINT64_MAX);
    s.applied.chain = get_hex(&r, "APPLIED_CHAIN");
    s.applied.digest = get_hex(&r, "DIGEST");
    s.applied.time_us = get_u64(&r, "APPLIED_TIME", UINT64_MAX);
    if (dlist_get(d, "DELAY") != NULL)
        s.delay_us = get_u64(&r, "DELAY", UINT64_MAX);
    s.first_lsn = get_u64(&r, "FIRST", UINT64_MAX);
    s.start_lsn = get_u64(&r, "START", UINT64_MAX);
    s.wall_us = get_u64(&r, "WALL", UINT64_MAX);
    if (!dlist_get_str(d, "SERVERNAME", a, &s.servername) && r.wrong == NULL)
        r.wrong = "SERVERNAME";
    if (!dlist_get_str(d, "TEXT", a, &s.text) && r.wrong == NULL)
        r.wrong = "TEXT";
    get_epochs(&r, a, &s);
    if (r.wrong != NULL)
        return error_set(err, ERR_PROTO,
                         "LOGSTATUS without a usable %s: another version?",
                         r.wrong);
    *ret = s;
    return ERR_OK;
}

/* ---- forks -------------------------------------------------------------- */

static const struct epoch_entry *
epoch_after(const struct logstatus *s, epoch_t epoch)
{
    for (size_t i = 0; i < s->nepochs; i++)
        if (s->epochs[i].epoch > epoch)
            return &s->epochs[i];
    return NULL;
}

static bool
has_epoch(const struct logstatus *s, const struct epoch_entry *e)
{
    for (size_t i = 0; i < s->nepochs; i++)
        if (s->epochs[i].epoch == e->epoch)
            return s->epochs[i].fork_lsn == e->fork_lsn &&
                   s->epochs[i].fork_chain == e->fork_chain &&
                   instid_eq(&s->epochs[i].instance, &e->instance);
    return false;
}

bool
logstatus_fork(const struct logstatus *own, const struct logstatus *peer,
               lsn_t *ret_lsn, uint64_t *ret_chain)
{
    epoch_t common = 0;

    for (size_t i = 0; i < own->nepochs; i++)
        if (has_epoch(peer, &own->epochs[i]))
            common = own->epochs[i].epoch;
    const struct epoch_entry *fork = epoch_after(peer, common);
    const struct epoch_entry *left = epoch_after(own, common);
    if (fork == NULL)
        return false;
    if (left != NULL && left->fork_lsn < fork->fork_lsn)
        fork = left;
    *ret_lsn = fork->fork_lsn;
    *ret_chain = fork->fork_chain;
    return true;
}

bool
logstatus_is_prefix(const struct logstatus *own, const struct logstatus *peer)
{
    epoch_t common = 0;

    /* Every epoch of the peer that is not older than what we tell of. */
    for (size_t i = 0; i < peer->nepochs; i++) {
        const struct epoch_entry *e = &peer->epochs[i];
        if (own->nepochs > 0 && e->epoch < own->epochs[0].epoch)
            continue;
        if (!has_epoch(own, e))
            return false;
        common = e->epoch;
    }
    const struct epoch_entry *next = epoch_after(own, common);
    return common != 0 && (next == NULL || peer->durable.lsn <= next->fork_lsn);
}
