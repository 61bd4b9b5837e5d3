/*
 * failover/export.c - saving what a deposed master had acknowledged and not
 * shipped.
 *
 * DIR/export/epoch-E-after-N/index.txt has a line for each record behind the
 * fork: LSN, what it did, in which mailbox, and for a message its GUID; the
 * message itself lies beside it as GUID.eml, unless it was purged later in this
 * tail.  The folder gets its name only when all of it is on disk, so an export
 * is whole or not there, and a second one finds the first and reads from its
 * index what it said.
 *
 * The log may begin behind the fork: this instance was seeded there, or it let
 * go of what no channel within its cap (sync_log_cap) had to get.  What came
 * into being in this gap is taken from the state then, which still has it; what
 * else was done there (ACLs, subscriptions, scripts, renames) cannot be listed.
 */
#include <stdio.h>
#include <stdlib.h>

#include "failover/node_private.h"
#include "store/body.h"
#include "store/record.h"
#include "synclog/reader.h"

#define READ_BYTES ((size_t)1 << 20)
#define COPY_BYTES ((uint64_t)1 << 20)
#define INDEX_BYTES ((size_t)1 << 20) /* of it in memory */

struct exporter {
    struct node *node;
    struct store_snap *snap;
    char *dir;            /* temporary name */
    struct envfile *file; /* of the index; made with its first bytes */
    struct buf index;     /* what is not in the file yet */
    uint64_t written;
    uint64_t records;
    uint64_t messages;
};

/* What is in memory of the index goes into its file. */
static enum errcode
flush_index(struct exporter *x, struct error *err)
{
    enum errcode rc = ERR_OK;

    if (x->file == NULL) {
        AUTO(xfree) char *path = xasprintf("%s/index.txt", x->dir);
        rc = env_open(x->node->env, path, ENV_CREATE, &x->file, err);
        if (rc == ERR_OK) /* one that was broken off may have left more */
            rc = env_truncate(x->file, 0, err);
    }
    if (rc == ERR_OK && x->index.n > 0)
        rc = env_pwrite(x->file, x->index.p, x->index.n, x->written, err);
    if (rc == ERR_OK) {
        x->written += x->index.n;
        buf_clear(&x->index);
    }
    return rc;
}

/* A line is complete. */
static enum errcode
end_line(struct exporter *x, struct error *err)
{
    buf_add_byte(&x->index, '\n');
    return x->index.n < INDEX_BYTES ? ERR_OK : flush_index(x, err);
}

static enum errcode
write_body(struct exporter *x, const struct guid *guid, struct error *err)
{
    char hex[GUID_TEXT_BYTES];
    AUTO(xfree)
    char *path = xasprintf("%s/%s.eml", x->dir, guid_text(guid, hex));
    AUTO(env_close) struct envfile *f = NULL;
    AUTO(buf_free) struct buf bytes = BUF_INIT;
    uint64_t size = 0;

    enum errcode rc = store_body_stat(x->node->store, guid, &size, err);
    if (rc == ERR_OK)
        rc = env_open(x->node->env, path, ENV_CREATE, &f, err);
    for (uint64_t at = 0; rc == ERR_OK && at < size; at += bytes.n) {
        buf_clear(&bytes);
        rc = store_body_read(x->node->store, guid, at, COPY_BYTES, &bytes, err);
        if (rc == ERR_OK)
            rc = env_pwrite(f, bytes.p, bytes.n, at, err);
    }
    if (rc == ERR_OK)
        rc = env_fsync(f, err);
    return rc;
}

static void
add_mailbox(struct exporter *x, mbid_t id, struct arena *a)
{
    struct mailbox mb;
    struct error err = {0};

    if (snap_mailbox(x->snap, id, a, &mb, &err) == ERR_OK)
        buf_addf(&x->index, "\tmailbox=\"%s\"", mb.name);
}

/* Has the message gone since, with its body? */
static bool
is_purged(const struct exporter *x, const struct rec_append *append,
          struct arena *a)
{
    struct message msg;
    struct error err = {0};

    return snap_message(x->snap, append->id, append->msg.uid, a, &msg, &err) ==
           ERR_NOTFOUND;
}

static enum errcode
export_record(struct exporter *x, const struct record *rec, struct error *err)
{
    struct arena a = ARENA_INIT;
    enum errcode rc = ERR_OK;

    buf_addf(&x->index, "%" PRI_EPOCH ":%" PRI_LSN "\t", rec->epoch, rec->lsn);
    record_describe(rec, &x->index);
    if (rec->type == REC_APPEND) {
        struct rec_append append;
        rc = rec_append_decode(rec->body, rec->version, &a, &append, err);
        if (rc == ERR_OK) {
            add_mailbox(x, append.id, &a);
            rc = write_body(x, &append.msg.guid, err);
        }
        if (rc == ERR_NOTFOUND && is_purged(x, &append, &a)) {
            buf_add_str(&x->index, "\tpurged");
            rc = ERR_OK;
        } else {
            x->messages++;
        }
    }
    x->records++;
    arena_free(&a);
    return rc == ERR_OK ? end_line(x, err) : rc;
}

static enum errcode
export_frames(struct exporter *x, struct span frames, struct error *err)
{
    enum errcode rc = ERR_OK;

    while (rc == ERR_OK && frames.n > 0) {
        struct frame_head head;
        struct span payload;
        struct record rec;
        size_t used = 0;
        size_t pos = 0;
        if (frame_decode(frames, &head, &payload, &used) != PARSE_DONE)
            return error_set(err, ERR_CORRUPT, "the log has a bad frame");
        while (rc == ERR_OK && frame_next_record(&head, payload, &pos, &rec))
            rc = export_record(x, &rec, err);
        frames = span_skip(frames, used);
    }
    return rc;
}

/* ---- what the log has not any more ------------------------------------- */

struct gap {
    struct exporter *x;
    lsn_t after, until; /* the log begins behind UNTIL */
    enum errcode rc;
    struct error *err;
};

static bool
is_in(const struct gap *g, modseq_t modseq)
{
    return modseq_lsn(modseq) > g->after && modseq_lsn(modseq) <= g->until;
}

static void
begin_line(struct exporter *x, modseq_t modseq, const char *what)
{
    buf_addf(&x->index, "%" PRI_EPOCH ":%" PRI_LSN "\t%s state=1",
             modseq_epoch(modseq), modseq_lsn(modseq), what);
    x->records++;
}

/* As it is now.  What a later record did to it, the log has. */
static enum errcode
export_message(struct gap *g, const struct mailbox *mb, const struct message *m)
{
    struct exporter *x = g->x;
    const bool is_new = is_in(g, m->created_modseq);
    char hex[GUID_TEXT_BYTES];

    if (!is_new && !is_in(g, m->modseq))
        return ERR_OK;
    if (is_new)
        begin_line(x, m->created_modseq, "append");
    else
        begin_line(x, m->modseq,
                   (m->flags & FLAG_EXPUNGED) != 0 ? "expunge" : "flags");
    buf_addf(&x->index,
             " mbid=%" PRIu64 " uid=%" PRIu32 " guid=%s size=%" PRIu64
             " flags=0x%" PRIx32 " keywords=%zu\tmailbox=\"%s\"",
             mb->id, m->uid, guid_text(&m->guid, hex), m->size, m->flags,
             m->nkeywords, mb->name);
    enum errcode rc = end_line(x, g->err);
    if (rc != ERR_OK || !is_new)
        return rc;
    x->messages++;
    return write_body(x, &m->guid, g->err);
}

static bool
export_mailbox(void *ctx, const struct mailbox *mb)
{
    struct gap *g = ctx;
    struct exporter *x = g->x;
    struct message m;

    if (mb->id > g->after && mb->id <= g->until) {
        begin_line(x, mb->created_modseq, "mailbox");
        buf_addf(&x->index,
                 " mbid=%" PRI_LSN " name=%s uniqueid=%s uidvalidity=%" PRIu32,
                 mb->id, mb->name, mb->uniqueid.s, mb->uidvalidity);
        g->rc = end_line(x, g->err);
        if (g->rc != ERR_OK)
            return false;
    }
    if (modseq_lsn(mb->highestmodseq) <= g->after)
        return true; /* nothing has changed in it */
    struct msg_iter *it = snap_messages(x->snap, mb->id, 1, true);
    while (g->rc == ERR_OK && msg_iter_next(it, &m))
        g->rc = export_message(g, mb, &m);
    const enum errcode rc =
        msg_iter_close(&it, g->rc == ERR_OK ? g->err : NULL);
    g->rc = g->rc == ERR_OK ? rc : g->rc;
    return g->rc == ERR_OK;
}

static enum errcode
export_gap(struct exporter *x, lsn_t after, lsn_t until, struct error *err)
{
    struct gap g = {.x = x, .after = after, .until = until, .err = err};

    buf_addf(&x->index,
             "%" PRI_LSN "-%" PRI_LSN
             "\tgap: not in the log any more; its messages and mailboxes are "
             "listed as the state has them (state=1), other changes are not\n",
             after + 1, until);
    enum errcode rc = snap_each_mailbox(x->snap, "", export_mailbox, &g, err);
    if (rc == ERR_OK && g.rc == ERR_OK)
        rc = snap_each_mailbox(x->snap, "DELETED.", export_mailbox, &g, err);
    return g.rc != ERR_OK ? g.rc : rc;
}

static enum errcode
export_tail(struct exporter *x, lsn_t fork, struct error *err)
{
    struct synclog_reader *reader = NULL;
    char *dir = xasprintf("%s/synclog", x->node->dir);

    enum errcode rc =
        reader_open(x->node->env, dir, synclog_mark(store_log(x->node->store)),
                    fork, &reader, err);
    if (rc == ERR_GAP) {
        struct store_log_view log;
        store_log_view(x->node->store, &log);
        log_warn(NULL, "failover.export_gap",
                 "fork=%" PRI_LSN " log_begins_behind=%" PRI_LSN
                 " then=\"messages and mailboxes of what lies between come "
                 "from the state, other changes are not listed\"",
                 fork, log.start_lsn);
        rc = export_gap(x, fork, log.start_lsn, err);
        if (rc == ERR_OK)
            rc = reader_open(x->node->env, dir,
                             synclog_mark(store_log(x->node->store)),
                             log.start_lsn, &reader, err);
    }
    while (rc == ERR_OK) {
        struct span frames = SPAN_EMPTY;
        lsn_t last = 0;
        uint64_t time_us = 0;
        rc = reader_next(reader, READ_BYTES, &frames, &last, &time_us, err);
        if (rc != ERR_OK || frames.n == 0)
            break;
        rc = export_frames(x, frames, err);
    }
    reader_close(&reader);
    free(dir);
    return rc;
}

static enum errcode
publish(struct exporter *x, const char *final, struct error *err)
{
    AUTO(xfree) char *parent = xasprintf("%s/export", x->node->dir);

    enum errcode rc = flush_index(x, err);
    if (rc == ERR_OK)
        rc = env_fsync(x->file, err);
    if (rc == ERR_OK)
        rc = env_syncdir(x->node->env, x->dir, err);
    if (rc == ERR_OK)
        rc = env_rename(x->node->env, x->dir, final, err);
    if (rc == ERR_OK)
        rc = env_syncdir(x->node->env, parent, err);
    return rc;
}

static bool
ends(struct span line, struct span with)
{
    return line.n >= with.n && span_eq(span_skip(line, line.n - with.n), with);
}

static void
count_line(struct exporter *x, struct span line)
{
    const ptrdiff_t tab = span_find_byte(line, '\t', 0);

    if (tab < 0)
        return;
    struct span what = span_skip(line, (size_t)tab + 1);
    x->records += !span_starts(what, SPAN_LIT("gap:"));
    x->messages += span_starts(what, SPAN_LIT("append ")) &&
                   !ends(line, SPAN_LIT("\tpurged"));
}

/* Whole lines of what was read are counted, and taken off. */
static void
count_lines(struct exporter *x)
{
    struct span left = buf_span(&x->index);

    for (ptrdiff_t end; (end = span_find_byte(left, '\n', 0)) >= 0;) {
        count_line(x, span_sub(left, 0, (size_t)end));
        left = span_skip(left, (size_t)end + 1);
    }
    buf_drop(&x->index, x->index.n - left.n);
}

/* How many records and messages an index of before has, however long. */
static enum errcode
count_index(struct exporter *x, const char *final, struct error *err)
{
    AUTO(xfree) char *path = xasprintf("%s/index.txt", final);
    AUTO(env_close) struct envfile *f = NULL;
    uint64_t at = 0;
    size_t n = 1;

    enum errcode rc = env_open(x->node->env, path, ENV_READ, &f, err);
    while (rc == ERR_OK && n > 0) {
        uint8_t *room = buf_reserve(&x->index, INDEX_BYTES);
        n = 0;
        rc = env_pread_some(f, room, INDEX_BYTES, at, &n, err);
        if (rc != ERR_OK)
            break;
        x->index.n += n;
        at += n;
        count_lines(x);
    }
    return rc;
}

/* All that is behind FORK, into the folder that will be FINAL. */
static enum errcode
export_new(struct exporter *x, lsn_t fork, lsn_t end, const char *final,
           struct error *err)
{
    /* Else bodies are found by rows that are not there yet. */
    if (snap_pos(x->snap).applied.lsn < end)
        return error_set(err, ERR_AGAIN,
                         "the state's disk is full, and the state behind the "
                         "log: make room first");
    enum errcode rc = env_mkdirs(x->node->env, x->dir, err);
    if (rc == ERR_OK && fork < end)
        rc = export_tail(x, fork, err);
    if (rc == ERR_OK)
        rc = publish(x, final, err);
    if (rc == ERR_OK)
        log_notice(NULL, "failover.export",
                   "records=%" PRIu64 " messages=%" PRIu64 " path=\"%s\"",
                   x->records, x->messages, final);
    return rc;
}

enum errcode
node_export(struct node *node, lsn_t fork, uint64_t *ret_records,
            uint64_t *ret_messages, struct buf *ret_path, struct error *err)
{
    struct exporter x = {.node = node};
    const struct logpos end = synclog_durable(store_log(node->store), NULL);
    AUTO(xfree)
    char *final = xasprintf("%s/export/epoch-%" PRI_EPOCH "-after-%" PRI_LSN,
                            node->dir, end.epoch, fork);
    enum errcode rc;

    if (env_exists(node->env, final)) {
        rc = count_index(&x, final, err);
    } else {
        x.dir = xasprintf("%s.new", final);
        x.snap = store_snapshot(node->store);
        rc = export_new(&x, fork, end.lsn, final, err);
        store_release(&x.snap);
        env_close(&x.file);
        free(x.dir);
    }
    buf_free(&x.index);
    if (rc != ERR_OK)
        return error_prefix(err, "export");
    *ret_records = x.records;
    *ret_messages = x.messages;
    buf_add_str(ret_path, final);
    return ERR_OK;
}
