/*
 * csync/push_mailbox.c - one mailbox of a peer becomes as it is here.
 *
 *     heads equal       nothing
 *     CHANGES           from our instance: the head and all RECORDs above the
 *                       peer's HIGHESTMODSEQ, of one moment
 *     RESERVE, MESSAGE  bodies that the peer will need and lacks, straight from
 *                       one connection to the other
 *     MAILBOX           with SINCE_MODSEQ; after a refusal once more, without
 *
 * What a delta cannot say (messages that were purged here since) is found by
 * comparing all RECORDs, and expunged there.  Where the peer has changes of its
 * own nothing is sent, unless forced: somebody has to look at them.
 */
#include "csync/push_private.h"

#include <stdlib.h>

#define GUIDS_PER_RESERVE 4000U
#define FILES_PER_MESSAGE 500U
#define FETCHES 100U
#define FLUSH_BYTES (256U << 10)

struct pushing {
    struct push *p;
    const struct sync_mailbox *s, *d;
    const struct push_list *all;
    const char *partition;
    struct sync_mailbox now; /* with the RECORDs to be sent */
    struct arena arena;
    /* GUIDs of RECORDs that the peer needs bodies for, sorted, no doubles. */
    struct guid *guids;
    size_t nguids;
    bool *missing; /* at the peer */
    bool *sent;
    bool is_full; /* NOW has all there is */
};

/* ---- equal? ------------------------------------------------------------- */

static bool
same_annots(const struct sync_mailbox *a, const struct sync_mailbox *b)
{
    if (a->nannots != b->nannots)
        return false;
    for (size_t i = 0; i < a->nannots; i++) {
        size_t k = 0;
        while (k < b->nannots &&
               (strcmp(a->annots[i].entry, b->annots[k].entry) != 0 ||
                strcmp(a->annots[i].user, b->annots[k].user) != 0 ||
                !span_eq(a->annots[i].value, b->annots[k].value)))
            k++;
        if (k == b->nannots)
            return false;
    }
    return true;
}

static bool
same_head(const struct sync_mailbox *s, const struct sync_mailbox *d)
{
    /* A Cyrus says P of every mailbox that is empty. */
    const uint32_t mask =
        s->crc == 0 ? ~(uint32_t)MBOX_POP3_UIDL : ~(uint32_t)0;

    return strcmp(s->name, d->name) == 0 && s->last_uid == d->last_uid &&
           s->highestmodseq == d->highestmodseq &&
           s->recent_uid == d->recent_uid &&
           s->recent_time_s == d->recent_time_s &&
           s->pop3_login_s == d->pop3_login_s &&
           s->pop3_show_after_s == d->pop3_show_after_s &&
           s->uidvalidity == d->uidvalidity && strcmp(s->acl, d->acl) == 0 &&
           (s->options & mask) == (d->options & mask) &&
           sync_crc_fits(s->crc, d->crc) &&
           sync_crc_fits(s->crc_annot, d->crc_annot) && same_annots(s, d);
}

static enum errcode
check_ahead(const struct pushing *g, struct error *err)
{
    const struct sync_mailbox *s = g->s, *d = g->d;
    const char *what = d == NULL                             ? NULL
                       : d->last_uid > s->last_uid           ? "UIDs"
                       : d->uidvalidity > s->uidvalidity     ? "UIDVALIDITY"
                       : d->highestmodseq > s->highestmodseq ? "MODSEQ"
                                                             : NULL;

    if (what == NULL || (g->p->o->force && d->last_uid <= s->last_uid))
        return ERR_OK;
    return error_set(err, ERR_HISTORY,
                     "the peer's %s are ahead of ours: it has changes of its "
                     "own",
                     what);
}

/* ---- RECORDs ------------------------------------------------------------ */

/* The mailbox goes from the reader to us; its strings go with the reader, so
 * they are copied. */
static enum errcode
take_changes(void *ctx, struct sync_mailbox *mb, bool is_head_only,
             struct error *err)
{
    struct pushing *g = ctx;

    (void)is_head_only;
    (void)err;
    free(g->now.records);
    sync_mailbox_copy(mb, &g->arena, &g->now);
    g->now.records =
        arena_array(&g->arena, mb->nrecords + 1, sizeof(*g->now.records));
    for (size_t i = 0; i < mb->nrecords; i++)
        sync_record_copy(&mb->records[i], &g->arena, &g->now.records[i]);
    g->now.nrecords = mb->nrecords;
    g->now.records_cap = 0;
    return ERR_OK;
}

static enum errcode
ask_changes(struct pushing *g, modseq_t since, struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct dlist_printer p;
    const struct sync_answer a = {.ctx = g, .mailbox = take_changes};

    arena_reset(&g->arena);
    g->now = (struct sync_mailbox){0};
    buf_add_str(&line, "GET ");
    dlist_print_begin(&p, &line, DLIST_CLIENT);
    dlist_open_kv(&p, "CHANGES");
    dlist_str(&p, "UNIQUEID", g->s->uniqueid);
    dlist_u64(&p, "SINCE", since);
    dlist_close(&p);
    g->is_full = since == 0;
    enum errcode rc = peer_command(g->p->src, buf_span(&line), &a, err);
    if (rc == ERR_OK && g->now.uniqueid == NULL)
        rc = error_set(err, ERR_NOTFOUND, "the mailbox is gone");
    return rc;
}

/* ---- bodies ------------------------------------------------------------- */

static int
compare_guids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct guid));
}

/* Those of new messages, tombstones too. */
static void
list_guids(struct pushing *g)
{
    const uint32_t above = g->d == NULL ? 0 : g->d->last_uid;
    size_t n = 0;

    g->guids = arena_array(&g->arena, g->now.nrecords + 1, sizeof(*g->guids));
    for (size_t i = 0; i < g->now.nrecords; i++)
        if (g->now.records[i].m.uid > above)
            g->guids[n++] = g->now.records[i].m.guid;
    qsort(g->guids, n, sizeof(*g->guids), compare_guids);
    g->nguids = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || !guid_eq(&g->guids[i], &g->guids[g->nguids - 1]))
            g->guids[g->nguids++] = g->guids[i];
    g->missing = arena_array(&g->arena, g->nguids + 1, sizeof(*g->missing));
    g->sent = arena_array(&g->arena, g->nguids + 1, sizeof(*g->sent));
}

static bool *
find_guid(struct pushing *g, const struct guid *guid, bool *of)
{
    const struct guid *at = g->nguids == 0
                                ? NULL
                                : bsearch(guid, g->guids, g->nguids,
                                          sizeof(*g->guids), compare_guids);

    return at == NULL ? NULL : &of[at - g->guids];
}

static enum errcode
on_missing(void *ctx, const struct dlist *d, struct error *err)
{
    struct pushing *g = ctx;
    struct guid guid;

    (void)err;
    if (!span_eq_nocase_str(d->name, "MISSING") || d->type != DLIST_LIST)
        return ERR_OK;
    for (const struct dlist *c = d->child; c != NULL; c = c->next)
        if (parse_hex_bytes(c->text, guid.b, GUID_BYTES)) {
            bool *missing = find_guid(g, &guid, g->missing);
            if (missing != NULL)
                *missing = true;
        }
    return ERR_OK;
}

/* Which bodies does the peer lack?  One that has nothing lacks all. */
static enum errcode
reserve(struct pushing *g, struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    const struct sync_answer a = {.ctx = g, .line = on_missing};
    enum errcode rc = ERR_OK;

    if (g->all->n == 0) {
        for (size_t i = 0; i < g->nguids; i++)
            g->missing[i] = true;
        return ERR_OK;
    }
    for (size_t at = 0; at < g->nguids && rc == ERR_OK;
         at += GUIDS_PER_RESERVE) {
        struct dlist_printer p;
        buf_clear(&line);
        buf_add_str(&line, "APPLY ");
        dlist_print_begin(&p, &line, DLIST_CLIENT);
        dlist_open_kv(&p, "RESERVE");
        dlist_str(&p, "PARTITION", g->partition);
        dlist_open_list(&p, "MBOXNAME");
        for (size_t i = 0; i < g->all->n; i++)
            dlist_str(&p, NULL, g->all->v[i].name);
        dlist_close(&p);
        dlist_open_list(&p, "GUID");
        for (size_t i = at; i < MIN(at + GUIDS_PER_RESERVE, g->nguids); i++)
            dlist_guid(&p, NULL, &g->guids[i]);
        dlist_close(&p);
        dlist_close(&p);
        rc = peer_command(g->p->dst, buf_span(&line), &a, err);
    }
    return rc;
}

/* From one connection to the other. */
struct relay {
    struct pushing *g;
    struct buf out;
    size_t files; /* in the command under way; 0: none */
    size_t bytes;
    struct guid guid; /* coming in */
};

static enum errcode
relay_flush(struct relay *r, struct error *err)
{
    enum errcode rc = peer_send(r->g->p->dst, buf_span(&r->out), err);

    buf_clear(&r->out);
    return rc;
}

static enum errcode
relay_begin(void *ctx, const struct guid *guid, uint64_t size,
            struct error *err)
{
    struct relay *r = ctx;
    char text[GUID_TEXT_BYTES];
    AUTO(buf_free) struct buf partition = BUF_INIT;
    struct dlist_printer p;

    (void)err;
    buf_add_str(&r->out, r->files == 0 ? "APPLY MESSAGE (" : " ");
    dlist_print_begin(&p, &partition, DLIST_CLIENT);
    dlist_str(&p, NULL, r->g->partition);
    buf_addf(&r->out, "%%{%s %s %" PRIu64 "}\r\n", buf_cstr(&partition),
             guid_text(guid, text), size);
    r->files++;
    r->guid = *guid;
    r->g->p->counts.messages++;
    r->g->p->counts.bytes += size;
    return ERR_OK;
}

static enum errcode
relay_bytes(void *ctx, struct span bytes, struct error *err)
{
    struct relay *r = ctx;

    buf_add(&r->out, bytes);
    return r->out.n >= FLUSH_BYTES ? relay_flush(r, err) : ERR_OK;
}

static enum errcode
relay_end(void *ctx, struct error *err)
{
    struct relay *r = ctx;
    bool *sent = find_guid(r->g, &r->guid, r->g->sent);

    (void)err;
    if (sent != NULL)
        *sent = true;
    return ERR_OK;
}

/* End the MESSAGE under way. */
static enum errcode
relay_close(struct relay *r, struct error *err)
{
    if (r->files == 0)
        return ERR_OK;
    r->files = 0;
    buf_add_byte(&r->out, ')');
    enum errcode rc = relay_flush(r, err);
    return rc == ERR_OK ? peer_finish(r->g->p->dst, NULL, err) : rc;
}

static enum errcode
send_bodies(struct pushing *g, struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct relay r = {.g = g};
    const struct sync_answer a = {
        .files = {&r, relay_begin, relay_bytes, relay_end}};
    enum errcode rc = ERR_OK;

    for (size_t i = 0; i < g->nguids && rc == ERR_OK;) {
        struct dlist_printer p;
        size_t n = 0;
        buf_clear(&line);
        buf_add_str(&line, "GET ");
        dlist_print_begin(&p, &line, DLIST_CLIENT);
        dlist_open_list(&p, "BODIES");
        for (; i < g->nguids && n < FETCHES; i++)
            if (g->missing[i]) {
                dlist_guid(&p, NULL, &g->guids[i]);
                n++;
            }
        dlist_close(&p);
        if (n > 0)
            rc = peer_command(g->p->src, buf_span(&line), &a, err);
        if (rc == ERR_OK && r.files >= FILES_PER_MESSAGE)
            rc = relay_close(&r, err);
        if (rc == ERR_OK && push_stopped(g->p))
            rc = error_set(err, ERR_CLOSED, "told to stop");
    }
    if (rc == ERR_OK)
        rc = relay_close(&r, err);
    buf_free(&r.out);
    return rc;
}

/* Live RECORDs whose body is nowhere must not be sent. */
static enum errcode
check_bodies(struct pushing *g, struct error *err)
{
    for (size_t i = 0; i < g->now.nrecords; i++) {
        const struct message *m = &g->now.records[i].m;
        const bool *missing = find_guid(g, &m->guid, g->missing);
        const bool *sent = find_guid(g, &m->guid, g->sent);
        if ((m->flags & FLAG_EXPUNGED) == 0 && missing != NULL && *missing &&
            !*sent)
            return error_set(err, ERR_CORRUPT,
                             "the body of UID %" PRIu32 " cannot be read here",
                             m->uid);
    }
    return ERR_OK;
}

/* ---- MAILBOX ------------------------------------------------------------ */

static enum errcode
send_mailbox(struct pushing *g, modseq_t since, struct error *err)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct dlist_printer p;
    struct sync_mailbox head = g->now;
    enum errcode rc = ERR_OK;

    head.partition = g->partition;
    head.since_modseq = since;
    head.purged_modseq = 0; /* nobody else's business */
    buf_add_str(&out, "APPLY ");
    dlist_print_begin(&p, &out, DLIST_CLIENT);
    sync_mailbox_print(&head, &p);
    dlist_open_list(&p, "RECORD");
    for (size_t i = 0; i < g->now.nrecords && rc == ERR_OK; i++) {
        sync_record_print(&g->now.records[i], &p);
        if (out.n < FLUSH_BYTES)
            continue;
        rc = peer_send(g->p->dst, buf_span(&out), err);
        buf_clear(&out);
    }
    dlist_close(&p);
    dlist_close(&p);
    if (rc == ERR_OK)
        rc = peer_send(g->p->dst, buf_span(&out), err);
    if (rc == ERR_OK)
        rc = peer_finish(g->p->dst, NULL, err);
    g->p->counts.sent += rc == ERR_OK;
    return rc;
}

static enum errcode
send_delta(struct pushing *g, modseq_t since, struct error *err)
{
    list_guids(g);
    enum errcode rc = reserve(g, err);
    if (rc == ERR_OK)
        rc = send_bodies(g, err);
    if (rc == ERR_OK)
        rc = check_bodies(g, err);
    return rc == ERR_OK ? send_mailbox(g, since, err) : rc;
}

/* ---- all RECORDs -------------------------------------------------------- */

struct full {
    struct pushing *g;
    struct buf uids; /* printed, of what is to be expunged there */
    struct dlist_printer p;
    size_t n;
};

/* Both ascend by UID.  What is there and never was here is the peer's own. */
static enum errcode
compare_records(void *ctx, struct sync_mailbox *d, bool is_head_only,
                struct error *err)
{
    struct full *f = ctx;
    const struct sync_mailbox *s = &f->g->now;
    size_t k = 0;

    (void)is_head_only;
    for (size_t i = 0; i < d->nrecords; i++) {
        const struct message *m = &d->records[i].m;
        while (k < s->nrecords && s->records[k].m.uid < m->uid)
            k++;
        if ((m->flags & FLAG_EXPUNGED) != 0)
            continue;
        if (k == s->nrecords || s->records[k].m.uid != m->uid) {
            if (m->uid > s->last_uid)
                return error_set(err, ERR_HISTORY,
                                 "UID %" PRIu32 " is the peer's own", m->uid);
            dlist_u64(&f->p, NULL, m->uid);
            f->n++;
        } else if (!guid_eq(&s->records[k].m.guid, &m->guid)) {
            return error_set(err, ERR_HISTORY,
                             "UID %" PRIu32 " is another message at the peer",
                             m->uid);
        }
    }
    return ERR_OK;
}

static enum errcode
send_full(struct pushing *g, struct error *err)
{
    AUTO(buf_free) struct buf line = BUF_INIT;
    struct full f = {.g = g};
    const struct sync_answer a = {.ctx = &f, .mailbox = compare_records};
    struct dlist_printer p;

    enum errcode rc = ask_changes(g, 0, err);
    if (rc != ERR_OK)
        return rc;
    buf_add_str(&line, "GET ");
    dlist_print_begin(&p, &line, DLIST_CLIENT);
    dlist_str(&p, "FULLMAILBOX", g->d->name);
    dlist_print_begin(&f.p, &f.uids, DLIST_CLIENT);
    rc = peer_command(g->p->dst, buf_span(&line), &a, err);
    if (rc == ERR_OK && f.n > 0) {
        buf_clear(&line);
        buf_add_str(&line, "APPLY ");
        dlist_print_begin(&p, &line, DLIST_CLIENT);
        dlist_open_kv(&p, "EXPUNGE");
        dlist_str(&p, "MBOXNAME", g->d->name);
        dlist_str(&p, "UNIQUEID", g->d->uniqueid);
        buf_addf(&line, " UID (%s)", buf_cstr(&f.uids));
        dlist_close(&p);
        rc = peer_command(g->p->dst, buf_span(&line), NULL, err);
    }
    buf_free(&f.uids);
    return rc == ERR_OK ? send_delta(g, 0, err) : rc;
}

enum errcode
push_mailbox(struct push *p, const struct sync_mailbox *s,
             const struct sync_mailbox *d, const struct push_list *all,
             struct error *err)
{
    struct pushing g = {.p = p, .s = s, .d = d, .all = all};

    p->counts.mailboxes++;
    if (d != NULL && same_head(s, d))
        return ERR_OK;
    g.partition = p->o->partition != NULL  ? p->o->partition
                  : d != NULL              ? d->partition
                  : peer_is_pollux(p->dst) ? s->partition
                                           : "default";
    enum errcode rc = check_ahead(&g, err);
    const modseq_t since = d == NULL ? 0 : d->highestmodseq;
    if (rc == ERR_OK)
        rc = ask_changes(&g, since, err);
    if (rc == ERR_OK && d != NULL && g.now.purged_modseq > since) {
        rc = send_full(&g, err);
    } else if (rc == ERR_OK) {
        rc = send_delta(&g, since, err);
        if ((rc == ERR_HISTORY || rc == ERR_GAP) && d != NULL)
            rc = send_full(&g, err);
    }
    arena_free(&g.arena);
    return rc;
}
