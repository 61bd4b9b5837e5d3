/*
 * store/record_describe.c - a record as one line of text, for who reads a log.
 */
#include "store/record.h"

#include <inttypes.h>

static void
describe_append(const struct rec_append *rec, struct buf *out)
{
    char guid[GUID_TEXT_BYTES];

    buf_addf(out,
             " mbid=%" PRIu64 " uid=%" PRIu32 " guid=%s size=%" PRIu64
             " flags=0x%" PRIx32 " keywords=%zu",
             rec->id, rec->msg.uid, guid_text(&rec->msg.guid, guid),
             rec->msg.size, rec->msg.flags, rec->msg.nkeywords);
    if (rec->has_body)
        buf_addf(out, " body=%zu", rec->body.n);
    if (rec->has_dedup)
        buf_add_str(out, " dedup=1");
}

static void
describe_flags(const struct rec_flags *rec, struct buf *out)
{
    buf_addf(out, " mbid=%" PRIu64, rec->id);
    for (size_t i = 0; i < rec->n; i++) {
        buf_addf(out, " flags=0x%" PRIx32 " keywords=%zu uids=",
                 rec->groups[i].flags, rec->groups[i].nkeywords);
        uidset_format(&rec->groups[i].uids, out);
    }
}

static void
describe_rename(const struct rec_rename *rec, struct buf *out)
{
    for (size_t i = 0; i < rec->n; i++)
        buf_addf(out, " mbid=%" PRIu64 " name=%s", rec->moves[i].id,
                 rec->moves[i].name);
    if (rec->user_from[0] != '\0')
        buf_addf(out, " user=%s to=%s", rec->user_from, rec->user_to);
}

static void
describe_set(const struct rec_set *rec, struct buf *out)
{
    buf_addf(out, " mbid=%" PRIu64, rec->id);
    if ((rec->fields & SET_ACL) != 0)
        buf_add_str(out, " acl=1");
    if ((rec->fields & SET_SPECIAL_USE) != 0)
        buf_addf(out, " special_use=\"%s\"", rec->special_use);
    if ((rec->fields & SET_RECENT) != 0)
        buf_addf(out, " recent_uid=%" PRIu32, rec->recent_uid);
    if ((rec->fields & SET_OPTIONS) != 0)
        buf_addf(out, " options=0x%" PRIx32, rec->options);
    if ((rec->fields & SET_PARTITION) != 0)
        buf_addf(out, " partition=%s", rec->partition);
    if ((rec->fields & SET_UIDVALIDITY) != 0)
        buf_addf(out, " uidvalidity=%" PRIu32, rec->uidvalidity);
}

static void
describe_annot(const struct rec_annot *rec, struct buf *out)
{
    buf_addf(out, " mbid=%" PRIu64 " uid=%" PRIu32, rec->id, rec->uid);
    for (size_t i = 0; i < rec->n; i++)
        buf_addf(out, " entry=%s user=%s set=%d", rec->items[i].entry,
                 rec->items[i].user, rec->items[i].is_set);
}

static void
describe_quota(const struct rec_quota *rec, struct buf *out)
{
    static const char *const names[QUOTA_RESOURCES] = {
        [QUOTA_STORAGE] = "storage",
        [QUOTA_MESSAGE] = "messages",
        [QUOTA_FOLDERS] = "folders",
        [QUOTA_ANNOTATION] = "annotations",
    };

    buf_addf(out, " root=%s set=%d", rec->root, rec->is_set);
    for (size_t i = 0; i < QUOTA_RESOURCES; i++)
        if (rec->is_set && rec->limit[i] != QUOTA_UNLIMITED)
            buf_addf(out, " %s=%" PRIu64, names[i], rec->limit[i]);
}

static void
describe_body(const struct rec_body *rec, struct buf *out)
{
    char guid[GUID_TEXT_BYTES];

    buf_addf(out,
             " guid=%s part=%" PRIu32 "/%" PRIu32 " size=%" PRIu64 " body=%zu",
             guid_text(&rec->guid, guid), rec->part, rec->parts, rec->size,
             rec->body.n);
}

static void
describe_epoch(const struct rec_epoch *rec, struct buf *out)
{
    buf_addf(out,
             " epoch=%" PRI_EPOCH " fork=%" PRI_LSN " headroom=%" PRIu32
             " reason=\"%s\"",
             rec->entry.epoch, rec->entry.fork_lsn, rec->entry.uid_headroom,
             rec->reason);
}

static void
describe_mailbox(const struct rec_mailbox *rec, struct buf *out)
{
    buf_addf(out, " name=%s uniqueid=%s uidvalidity=%" PRIu32, rec->head.name,
             rec->head.uniqueid.s, rec->head.uidvalidity);
}

static void
describe_expunge(const struct rec_expunge *rec, struct buf *out)
{
    buf_addf(out, " mbid=%" PRIu64 " uids=", rec->id);
    uidset_format(&rec->uids, out);
}

static void
describe_purge(const struct rec_purge *rec, struct buf *out)
{
    buf_addf(out, " mbid=%" PRIu64 " live=%d uids=", rec->id, rec->live);
    uidset_format(&rec->uids, out);
}

static void
describe_user(const struct rec_user *rec, struct buf *out)
{
    buf_addf(out, " user=%s kind=%c name=%s set=%d", rec->user, rec->kind,
             rec->name, rec->is_set);
}

static void
describe_seen(const struct rec_seen *rec, struct buf *out)
{
    buf_addf(out, " mbid=%" PRIu64 " user=%s seen=", rec->id, rec->user);
    uidset_format(&rec->seen, out);
    buf_add_str(out, " unseen=");
    uidset_format(&rec->unseen, out);
}

static void
describe_forget(const struct rec_forget *rec, struct buf *out)
{
    buf_addf(out, " marks=%zu", rec->n);
}

static void
describe_rows(const struct rec_rows *rec, struct buf *out)
{
    buf_addf(out, " mbid=%" PRIu64 " rows=%zu first=%" PRIu32 " last=%" PRIu32,
             rec->id, rec->n, rec->rows[0].uid, rec->rows[rec->n - 1].uid);
}

static void
describe_head(const struct rec_head *rec, struct buf *out)
{
    buf_addf(out,
             " mbid=%" PRIu64 " uidvalidity=%" PRIu32 " uidnext=%" PRIu32
             " highestmodseq=%" PRI_MODSEQ " options=0x%" PRIx32,
             rec->id, rec->uidvalidity, rec->uidnext, rec->highestmodseq,
             rec->options);
}

/* Decode as KIND and, if that went well, describe it. */
#define DESCRIBE(kind)                                                         \
    do {                                                                       \
        struct rec_##kind r;                                                   \
        rc = rec_##kind##_decode(rec->body, rec->version, a, &r, err);         \
        if (rc == ERR_OK)                                                      \
            describe_##kind(&r, out);                                          \
    } while (0)

static enum errcode
describe_fields(const struct record *rec, struct arena *a, struct buf *out,
                struct error *err)
{
    enum errcode rc = ERR_CORRUPT;

    switch ((enum record_type)rec->type) {
    case REC_EPOCH:
        DESCRIBE(epoch);
        break;
    case REC_MAILBOX:
        buf_addf(out, " mbid=%" PRI_LSN, rec->lsn);
        DESCRIBE(mailbox);
        break;
    case REC_RENAME:
        DESCRIBE(rename);
        break;
    case REC_SET:
        DESCRIBE(set);
        break;
    case REC_APPEND:
        DESCRIBE(append);
        break;
    case REC_BODY:
        DESCRIBE(body);
        break;
    case REC_FLAGS:
        DESCRIBE(flags);
        break;
    case REC_EXPUNGE:
    case REC_UNEXPUNGED:
        DESCRIBE(expunge);
        break;
    case REC_PURGE:
        DESCRIBE(purge);
        break;
    case REC_USER:
        DESCRIBE(user);
        break;
    case REC_QUOTA:
        DESCRIBE(quota);
        break;
    case REC_ANNOT:
        DESCRIBE(annot);
        break;
    case REC_SEEN:
        DESCRIBE(seen);
        break;
    case REC_FORGET:
        DESCRIBE(forget);
        break;
    case REC_ROWS:
        DESCRIBE(rows);
        break;
    case REC_HEAD:
        DESCRIBE(head);
        break;
    }
    return rc;
}

/* Names and reasons come from outside, and this is a line. */
static void
blot_controls(struct buf *out, size_t from)
{
    for (size_t i = from; i < out->n; i++)
        if (out->p[i] < ' ' || out->p[i] == 0x7f)
            out->p[i] = '?';
}

void
record_describe(const struct record *rec, struct buf *out)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct error err = {0};
    const char *name = record_type_name(rec->type);
    const size_t start = out->n;

    if (name == NULL) {
        buf_addf(out, "undecodable: record of unknown type %u", rec->type);
        return;
    }
    buf_add_str(out, name);
    if (describe_fields(rec, &a, out, &err) != ERR_OK) {
        out->n = start;
        buf_addf(out, "undecodable: %s", err.text);
    }
    blot_controls(out, start);
}
