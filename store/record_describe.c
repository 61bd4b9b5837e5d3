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

/* Decode as KIND and, if that went well, run DO on `r`. */
#define DESCRIBE(kind, DO)                                                     \
    do {                                                                       \
        struct rec_##kind r;                                                   \
        rc = rec_##kind##_decode(rec->body, rec->version, &a, &r, &err);       \
        if (rc == ERR_OK) {                                                    \
            DO;                                                                \
        }                                                                      \
    } while (0)

void
record_describe(const struct record *rec, struct buf *out)
{
    struct arena a = ARENA_INIT;
    struct error err = {0};
    enum errcode rc = ERR_CORRUPT;
    const char *name = record_type_name(rec->type);

    if (name == NULL) {
        buf_addf(out, "undecodable: record of unknown type %u", rec->type);
        return;
    }
    const size_t start = out->n;
    buf_add_str(out, name);
    switch ((enum record_type)rec->type) {
    case REC_EPOCH:
        DESCRIBE(epoch, buf_addf(out,
                                 " epoch=%" PRI_EPOCH " fork=%" PRI_LSN
                                 " headroom=%" PRIu32 " reason=\"%s\"",
                                 r.entry.epoch, r.entry.fork_lsn,
                                 r.entry.uid_headroom, r.reason));
        break;
    case REC_MAILBOX:
        DESCRIBE(mailbox, buf_addf(out,
                                   " mbid=%" PRI_LSN " name=%s uniqueid=%s "
                                   "uidvalidity=%" PRIu32,
                                   rec->lsn, r.head.name, r.head.uniqueid.s,
                                   r.head.uidvalidity));
        break;
    case REC_RENAME:
        DESCRIBE(rename, describe_rename(&r, out));
        break;
    case REC_SET:
        DESCRIBE(set, describe_set(&r, out));
        break;
    case REC_APPEND:
        DESCRIBE(append, describe_append(&r, out));
        break;
    case REC_BODY:
        DESCRIBE(body, describe_body(&r, out));
        break;
    case REC_FLAGS:
        DESCRIBE(flags, describe_flags(&r, out));
        break;
    case REC_EXPUNGE:
    case REC_UNEXPUNGED:
        DESCRIBE(expunge, {
            buf_addf(out, " mbid=%" PRIu64 " uids=", r.id);
            uidset_format(&r.uids, out);
        });
        break;
    case REC_PURGE:
        DESCRIBE(purge, {
            buf_addf(out, " mbid=%" PRIu64 " live=%d uids=", r.id, r.live);
            uidset_format(&r.uids, out);
        });
        break;
    case REC_USER:
        DESCRIBE(user, buf_addf(out, " user=%s kind=%c name=%s set=%d", r.user,
                                r.kind, r.name, r.is_set));
        break;
    case REC_QUOTA:
        DESCRIBE(quota, describe_quota(&r, out));
        break;
    case REC_ANNOT:
        DESCRIBE(annot, describe_annot(&r, out));
        break;
    case REC_SEEN:
        DESCRIBE(seen, {
            buf_addf(out, " mbid=%" PRIu64 " user=%s seen=", r.id, r.user);
            uidset_format(&r.seen, out);
            buf_add_str(out, " unseen=");
            uidset_format(&r.unseen, out);
        });
        break;
    case REC_FORGET:
        DESCRIBE(forget, buf_addf(out, " marks=%zu", r.n));
        break;
    case REC_ROWS:
        DESCRIBE(rows, buf_addf(out,
                                " mbid=%" PRIu64 " rows=%zu first=%" PRIu32
                                " last=%" PRIu32,
                                r.id, r.n, r.rows[0].uid, r.rows[r.n - 1].uid));
        break;
    case REC_HEAD:
        DESCRIBE(head,
                 buf_addf(out,
                          " mbid=%" PRIu64 " uidvalidity=%" PRIu32
                          " uidnext=%" PRIu32 " highestmodseq=%" PRI_MODSEQ
                          " options=0x%" PRIx32,
                          r.id, r.uidvalidity, r.uidnext, r.highestmodseq,
                          r.options));
        break;
    }
    if (rc != ERR_OK) {
        out->n = start;
        buf_addf(out, "undecodable: %s", err.text);
    }
    arena_free(&a);
}
