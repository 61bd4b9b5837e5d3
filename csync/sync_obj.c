/*
 * csync/sync_obj.c - MAILBOX, RECORD and SEEN as dlists, and the CRCs over
 * records.
 *
 * Keys are printed in the order in which Cyrus 3.6 prints them.  Annotations of
 * a record carry fields of its index too (thread id, savedate,
 * createdmodseq): those that are fields here become fields, the others stay
 * annotations, so that what came goes out again.
 */
#include "csync/sync_obj.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#define SAVEDATE SYNC_NS "savedate"
#define CREATEDMODSEQ SYNC_NS "createdmodseq"
/* A peer's clock may be ahead of ours by so much; then its UIDVALIDITYs, which
 * are seconds, are not what they should be. */
#define UIDVALIDITY_AHEAD_S (UINT64_C(20) * 366 * 86400)
#define MODSEQ_MAX (UINT64_MAX >> 1)
#define ANNOTS_MAX 4000U
/* Seconds that stay seconds when they become microseconds. */
#define SECONDS_MAX (UINT64_C(1) << 40)

static const struct {
    const char *name;
    uint32_t bit;
} system_flags[] = {
    /* in the order in which Cyrus prints them */
    {"\\Deleted", FLAG_DELETED},   {"\\Answered", FLAG_ANSWERED},
    {"\\Flagged", FLAG_FLAGGED},   {"\\Draft", FLAG_DRAFT},
    {"\\Expunged", FLAG_EXPUNGED}, {"\\Seen", FLAG_SEEN},
};

static const struct {
    char letter;
    uint32_t bit;
} option_letters[] = {
    {'P', MBOX_POP3_UIDL},
    {'S', MBOX_SHAREDSEEN},
    {'D', MBOX_DUPLICATES},
    {'A', MBOX_ALARMS},
};

const char *
sync_options_text(uint32_t options, char ret[5])
{
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(option_letters); i++)
        if ((options & option_letters[i].bit) != 0)
            ret[n++] = option_letters[i].letter;
    ret[n] = '\0';
    return ret;
}

uint32_t
sync_options_bits(struct span text)
{
    uint32_t bits = 0;

    for (size_t i = 0; i < text.n; i++)
        for (size_t k = 0; k < ARRAY_LEN(option_letters); k++)
            if (text.p[i] == (uint8_t)option_letters[k].letter)
                bits |= option_letters[k].bit;
    return bits;
}

/* ---- reading ----------------------------------------------------------- */

static enum errcode
missing(const char *key, struct error *err)
{
    return error_set(err, ERR_SYNTAX, "without a usable %s", key);
}

/* Text, or NIL, which is "". */
static bool
get_text(const struct dlist *d, const char *key, size_t max, struct arena *a,
         const char **ret)
{
    const struct dlist *c = dlist_get(d, key);
    const char *text = "";

    if (c == NULL || (c->type != DLIST_NIL && !dlist_get_str(d, key, a, &text)))
        return false;
    if (strlen(text) > max)
        return false;
    *ret = text;
    return true;
}

/* 0 where it is absent; false where it is no number up to MAX. */
static bool
get_optional(const struct dlist *d, const char *key, uint64_t max,
             uint64_t *ret)
{
    *ret = 0;
    return dlist_get(d, key) == NULL ||
           (dlist_get_u64(d, key, ret) && *ret <= max);
}

static bool
get_number(const struct dlist *d, const char *key, uint64_t max, uint64_t *ret)
{
    return dlist_get_u64(d, key, ret) && *ret <= max;
}

static bool
has_control(const char *s)
{
    for (const char *c = s; *c != '\0'; c++)
        if ((uint8_t)*c < ' ' && *c != '\t')
            return true;
    return false;
}

static enum errcode
read_annot(const struct dlist *d, struct arena *a, struct sync_annot *ret,
           struct error *err)
{
    struct span value = SPAN_EMPTY;

    if (!get_text(d, "ENTRY", ANNOT_ENTRY_MAX, a, &ret->entry) ||
        ret->entry[0] == '\0')
        return missing("ENTRY", err);
    if (!get_text(d, "USERID", USER_MAX, a, &ret->user))
        return missing("USERID", err);
    if (!get_optional(d, "MODSEQ", MODSEQ_MAX, &ret->modseq))
        return missing("MODSEQ", err);
    if (!dlist_get_text(d, "VALUE", &value))
        return missing("VALUE", err);
    ret->value = arena_copy(a, value);
    return ERR_OK;
}

static enum errcode
read_annots(const struct dlist *list, struct arena *a,
            const struct sync_annot **ret, size_t *ret_n, struct error *err)
{
    size_t n = 0;

    if (list == NULL || list->type == DLIST_NIL)
        return ERR_OK;
    if (list->type != DLIST_LIST)
        return missing("ANNOTATIONS", err);
    for (const struct dlist *c = list->child; c != NULL; c = c->next)
        n++;
    if (n > ANNOTS_MAX)
        return error_set(err, ERR_LIMIT, "%zu annotations, at most %u", n,
                         ANNOTS_MAX);
    struct sync_annot *annots = arena_array(a, n + 1, sizeof(*annots));
    n = 0;
    for (const struct dlist *c = list->child; c != NULL; c = c->next) {
        enum errcode rc = read_annot(c, a, &annots[n++], err);
        if (rc != ERR_OK)
            return rc;
    }
    *ret = annots;
    *ret_n = n;
    return ERR_OK;
}

/* What all mailboxes but those that are only names must have. */
static enum errcode
read_fields(const struct dlist *d, struct arena *a, struct sync_mailbox *mb,
            struct error *err)
{
    const char *options = "";
    uint64_t uidvalidity, last_uid, recent_uid, crc, crc_annot, n;
    const struct {
        const char *key;
        uint64_t max;
        uint64_t *to;
        bool is_optional;
    } numbers[] = {
        {"LAST_UID", UINT32_MAX - 1, &last_uid, false},
        {"HIGHESTMODSEQ", MODSEQ_MAX, &mb->highestmodseq, false},
        {"RECENTUID", UINT32_MAX, &recent_uid, false},
        {"RECENTTIME", SECONDS_MAX, &mb->recent_time_s, false},
        {"LAST_APPENDDATE", SECONDS_MAX, &mb->last_append_s, true},
        {"POP3_LAST_LOGIN", SECONDS_MAX, &mb->pop3_login_s, false},
        {"POP3_SHOW_AFTER", SECONDS_MAX, &mb->pop3_show_after_s, true},
        {"UIDVALIDITY", UINT32_MAX, &uidvalidity, false},
        {"CREATEDMODSEQ", MODSEQ_MAX, &mb->created_modseq, true},
        {"SYNC_CRC", UINT32_MAX, &crc, true},
        {"SYNC_CRC_ANNOT", UINT32_MAX, &crc_annot, true},
        {"SINCE_MODSEQ", MODSEQ_MAX, &mb->since_modseq, true},
        {"PURGEDMODSEQ", MODSEQ_MAX, &mb->purged_modseq, true},
    };

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (!(numbers[i].is_optional ? get_optional : get_number)(
                d, numbers[i].key, numbers[i].max, numbers[i].to))
            return missing(numbers[i].key, err);
    mb->uidvalidity = (uint32_t)uidvalidity;
    mb->last_uid = (uint32_t)last_uid;
    mb->recent_uid = (uint32_t)recent_uid;
    mb->crc = (uint32_t)crc;
    mb->crc_annot = (uint32_t)crc_annot;
    if (!get_optional(d, "SINCE_CRC", UINT32_MAX, &n))
        return missing("SINCE_CRC", err);
    mb->since_crc = (uint32_t)n;
    if (!get_optional(d, "SINCE_CRC_ANNOT", UINT32_MAX, &n))
        return missing("SINCE_CRC_ANNOT", err);
    mb->since_crc_annot = (uint32_t)n;
    if (!get_text(d, "PARTITION", USER_MAX, a, &mb->partition) ||
        has_control(mb->partition))
        return missing("PARTITION", err);
    if (!get_text(d, "ACL", ACL_BYTES_MAX, a, &mb->acl) || has_control(mb->acl))
        return missing("ACL", err);
    if (!get_text(d, "OPTIONS", KEYWORD_MAX, a, &options))
        return missing("OPTIONS", err);
    mb->options = sync_options_bits(span_str(options));
    return read_annots(dlist_get(d, "ANNOTATIONS"), a, &mb->annots,
                       &mb->nannots, err);
}

/* As RFC 8474, 4 wants object ids. */
static bool
is_object_id(const char *s)
{
    for (const char *c = s; *c != '\0'; c++)
        if (!(*c >= '0' && *c <= '9') && !(*c >= 'a' && *c <= 'z') &&
            !(*c >= 'A' && *c <= 'Z') && *c != '-' && *c != '_')
            return false;
    return s[0] != '\0';
}

enum errcode
sync_mailbox_read(const struct dlist *d, struct arena *a,
                  struct sync_mailbox *ret, bool *ret_is_head_only,
                  struct error *err)
{
    struct sync_mailbox mb = {.type = ""};

    if (d->type != DLIST_KVLIST)
        return error_set(err, ERR_SYNTAX, "a MAILBOX that has no keys");
    if (!get_text(d, "UNIQUEID", UNIQUEID_MAX, a, &mb.uniqueid) ||
        !is_object_id(mb.uniqueid))
        return missing("UNIQUEID", err);
    if (!get_text(d, "MBOXNAME", MAILBOX_NAME_MAX, a, &mb.name) ||
        mb.name[0] == '\0')
        return missing("MBOXNAME", err);
    if (dlist_get(d, "MBOXTYPE") != NULL &&
        !get_text(d, "MBOXTYPE", KEYWORD_MAX, a, &mb.type))
        return missing("MBOXTYPE", err);
    *ret_is_head_only =
        strchr(mb.type, 'i') != NULL || strchr(mb.type, 'd') != NULL;
    enum errcode rc = *ret_is_head_only ? ERR_OK : read_fields(d, a, &mb, err);
    mb.records = ret->records;
    mb.nrecords = ret->nrecords;
    mb.records_cap = ret->records_cap;
    if (rc == ERR_OK)
        *ret = mb;
    return rc;
}

static int
compare_spans(const void *a, const void *b)
{
    return span_cmp(*(const struct span *)a, *(const struct span *)b);
}

/* An atom of IMAP: else nobody could say it. */
static bool
is_keyword(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f ||
            memchr("(){%*\"\\", s.p[i], 7) != NULL)
            return false;
    return true;
}

static enum errcode
read_flags(const struct dlist *list, struct arena *a, struct message *m,
           struct error *err)
{
    size_t n = 0;

    if (list == NULL || list->type != DLIST_LIST)
        return missing("FLAGS", err);
    for (const struct dlist *c = list->child; c != NULL; c = c->next)
        n++;
    struct span *keywords = arena_array(a, n + 1, sizeof(*keywords));
    for (const struct dlist *c = list->child; c != NULL; c = c->next) {
        size_t i = 0;
        if (c->type != DLIST_ATOM || c->text.n == 0)
            return missing("FLAGS", err);
        while (i < ARRAY_LEN(system_flags) &&
               !span_eq_nocase_str(c->text, system_flags[i].name))
            i++;
        if (i < ARRAY_LEN(system_flags)) {
            m->flags |= system_flags[i].bit;
        } else if (c->text.p[0] != '\\') { /* others are not known: ignored */
            if (!is_keyword(c->text))
                return missing("FLAGS", err);
            if (c->text.n > KEYWORD_MAX)
                return error_set(err, ERR_LIMIT, "keyword of %zu bytes",
                                 c->text.n);
            keywords[m->nkeywords++] = arena_copy(a, c->text);
        }
    }
    if (m->nkeywords > KEYWORDS_PER_MESSAGE)
        return error_set(err, ERR_LIMIT, "%zu keywords on one message",
                         m->nkeywords);
    qsort(keywords, m->nkeywords, sizeof(*keywords), compare_spans);
    m->keywords = keywords;
    return ERR_OK;
}

/* Annotations that are fields go into M; the others stay. */
static enum errcode
take_fields(struct sync_record *r, struct error *err)
{
    struct sync_annot *annots =
        (struct sync_annot *)(uintptr_t)r->annots; /* ours, just made */
    size_t kept = 0;
    uint64_t n = 0;

    for (size_t i = 0; i < r->nannots; i++) {
        const struct sync_annot *an = &annots[i];
        const bool is_shared = an->user[0] == '\0';
        if (is_shared && strcmp(an->entry, SAVEDATE) == 0) {
            if (!parse_u64(an->value, &n) || n > SECONDS_MAX)
                return missing("savedate", err);
            r->m.saved_s = (int64_t)n;
        } else if (is_shared && strcmp(an->entry, CREATEDMODSEQ) == 0) {
            if (!parse_u64(an->value, &n) || n > MODSEQ_MAX)
                return missing("createdmodseq", err);
            r->m.created_modseq = n;
        } else {
            annots[kept++] = *an;
        }
    }
    r->nannots = kept;
    return ERR_OK;
}

/* Dates are unsigned on the wire; before 1970 they wrap. */
static bool
get_date(const struct dlist *d, const char *key, int64_t *ret)
{
    uint64_t n = 0;

    if (!dlist_get_u64(d, key, &n))
        return false;
    *ret = (int64_t)n;
    return (*ret >= 0 && n <= SECONDS_MAX) ||
           (*ret < 0 && 0 - n <= SECONDS_MAX);
}

enum errcode
sync_record_read(const struct dlist *d, struct arena *a,
                 struct sync_record *ret, struct error *err)
{
    struct sync_record r = {0};
    uint32_t size = 0;
    struct span guid;

    if (d->type != DLIST_KVLIST)
        return error_set(err, ERR_SYNTAX, "a RECORD that has no keys");
    if (!dlist_get_u32(d, "UID", &r.m.uid) || r.m.uid == 0 ||
        r.m.uid == UINT32_MAX)
        return missing("UID", err);
    if (!get_number(d, "MODSEQ", MODSEQ_MAX, &r.m.modseq) || r.m.modseq == 0)
        return missing("MODSEQ", err);
    if (!get_date(d, "LAST_UPDATED", &r.m.updated_s))
        return missing("LAST_UPDATED", err);
    if (!get_date(d, "INTERNALDATE", &r.m.internal_s))
        return missing("INTERNALDATE", err);
    if (!dlist_get_u32(d, "SIZE", &size))
        return missing("SIZE", err);
    if (!dlist_get_text(d, "GUID", &guid) ||
        !parse_hex_bytes(guid, r.m.guid.b, GUID_BYTES))
        return missing("GUID", err);
    r.m.size = size;
    enum errcode rc = read_flags(dlist_get(d, "FLAGS"), a, &r.m, err);
    if (rc == ERR_OK)
        rc = read_annots(dlist_get(d, "ANNOTATIONS"), a, &r.annots, &r.nannots,
                         err);
    if (rc == ERR_OK)
        rc = take_fields(&r, err);
    if (rc != ERR_OK)
        return error_prefix(err, "UID %" PRIu32, r.m.uid);
    if ((r.m.flags & FLAG_EXPUNGED) != 0)
        r.m.expunged_s = r.m.updated_s;
    *ret = r;
    return ERR_OK;
}

enum errcode
sync_mailbox_add(struct sync_mailbox *mb, const struct sync_record *r,
                 struct arena *a, struct error *err)
{
    if (mb->nrecords > 0 && mb->records[mb->nrecords - 1].m.uid >= r->m.uid)
        return error_set(err, ERR_SYNTAX,
                         "RECORDs do not ascend at UID %" PRIu32, r->m.uid);
    if (mb->nrecords >= SYNC_RECORDS_MAX || a->used > SYNC_MAILBOX_BYTES)
        return error_set(err, ERR_LIMIT, "more than %zu RECORDs or %u bytes",
                         mb->nrecords, SYNC_MAILBOX_BYTES);
    if (mb->nrecords == mb->records_cap) {
        mb->records_cap = mb->records_cap * 2 + 16;
        mb->records =
            xrealloc(mb->records, mb->records_cap * sizeof(*mb->records));
    }
    mb->records[mb->nrecords++] = *r;
    return ERR_OK;
}

static const char *
keep(struct arena *a, const char *s)
{
    return s == NULL ? NULL : arena_str(a, span_str(s));
}

static const struct sync_annot *
copy_annots(const struct sync_annot *annots, size_t n, struct arena *a)
{
    struct sync_annot *ret = arena_array(a, n + 1, sizeof(*ret));

    for (size_t i = 0; i < n; i++)
        ret[i] = (struct sync_annot){
            .entry = keep(a, annots[i].entry),
            .user = keep(a, annots[i].user),
            .modseq = annots[i].modseq,
            .value = arena_copy(a, annots[i].value),
        };
    return ret;
}

void
sync_mailbox_copy(const struct sync_mailbox *mb, struct arena *a,
                  struct sync_mailbox *ret)
{
    *ret = *mb;
    ret->uniqueid = keep(a, mb->uniqueid);
    ret->name = keep(a, mb->name);
    ret->type = keep(a, mb->type);
    ret->partition = keep(a, mb->partition);
    ret->acl = keep(a, mb->acl);
    ret->quota_root = keep(a, mb->quota_root);
    ret->annots = copy_annots(mb->annots, mb->nannots, a);
    ret->records = NULL;
    ret->nrecords = ret->records_cap = 0;
}

void
sync_record_copy(const struct sync_record *r, struct arena *a,
                 struct sync_record *ret)
{
    struct span *keywords =
        arena_array(a, r->m.nkeywords + 1, sizeof(*keywords));

    *ret = *r;
    for (size_t i = 0; i < r->m.nkeywords; i++)
        keywords[i] = arena_copy(a, r->m.keywords[i]);
    ret->m.keywords = keywords;
    ret->annots = copy_annots(r->annots, r->nannots, a);
}

enum errcode
sync_mailbox_check(const struct sync_mailbox *mb, uint64_t now_s,
                   struct error *err)
{
    if (mb->uidvalidity == 0 ||
        mb->uidvalidity > MIN(now_s + UIDVALIDITY_AHEAD_S, UINT32_MAX))
        return error_set(err, ERR_SYNTAX,
                         "UIDVALIDITY %" PRIu32 " is no time of this age",
                         mb->uidvalidity);
    if (mb->recent_uid > mb->last_uid)
        return error_set(err, ERR_SYNTAX, "RECENTUID is above LAST_UID");
    for (size_t i = 0; i < mb->nrecords; i++) {
        const struct message *m = &mb->records[i].m;
        if (m->uid > mb->last_uid || m->modseq > mb->highestmodseq)
            return error_set(err, ERR_SYNTAX,
                             "UID %" PRIu32 " of %s is above LAST_UID or "
                             "HIGHESTMODSEQ",
                             m->uid, mb->name);
    }
    return ERR_OK;
}

/* ---- printing ---------------------------------------------------------- */

static void
print_annot(struct dlist_printer *p, const struct sync_annot *an)
{
    dlist_open_kv(p, NULL);
    dlist_str(p, "ENTRY", an->entry);
    dlist_str(p, "USERID", an->user);
    dlist_u64(p, "MODSEQ", an->modseq);
    dlist_span(p, "VALUE", an->value);
    dlist_close(p);
}

static void
print_field(struct dlist_printer *p, const char *entry, uint64_t value)
{
    char text[24];

    if (value == 0)
        return;
    int n = snprintf(text, sizeof(text), "%" PRIu64, value);
    print_annot(p, &(struct sync_annot){.entry = entry,
                                        .user = "",
                                        .value = span_of(text, (size_t)n)});
}

void
sync_mailbox_print(const struct sync_mailbox *mb, struct dlist_printer *p)
{
    char options[5];

    dlist_open_kv(p, "MAILBOX");
    dlist_str(p, "UNIQUEID", mb->uniqueid);
    dlist_str(p, "MBOXNAME", mb->name);
    if (mb->type != NULL && mb->type[0] != '\0')
        dlist_str(p, "MBOXTYPE", mb->type);
    dlist_u64(p, "SYNC_CRC", mb->crc);
    dlist_u64(p, "SYNC_CRC_ANNOT", mb->crc_annot);
    dlist_u64(p, "LAST_UID", mb->last_uid);
    dlist_u64(p, "HIGHESTMODSEQ", mb->highestmodseq);
    dlist_u64(p, "RECENTUID", mb->recent_uid);
    dlist_u64(p, "RECENTTIME", mb->recent_time_s);
    dlist_u64(p, "LAST_APPENDDATE", mb->last_append_s);
    dlist_u64(p, "POP3_LAST_LOGIN", mb->pop3_login_s);
    dlist_u64(p, "POP3_SHOW_AFTER", mb->pop3_show_after_s);
    dlist_u64(p, "UIDVALIDITY", mb->uidvalidity);
    dlist_str(p, "PARTITION", mb->partition);
    dlist_str(p, "ACL", mb->acl);
    dlist_str(p, "OPTIONS", sync_options_text(mb->options, options));
    if (mb->quota_root != NULL && mb->quota_root[0] != '\0')
        dlist_str(p, "QUOTAROOT", mb->quota_root);
    if (mb->created_modseq != 0)
        dlist_u64(p, "CREATEDMODSEQ", mb->created_modseq);
    if (mb->purged_modseq != 0)
        dlist_u64(p, "PURGEDMODSEQ", mb->purged_modseq);
    if (mb->since_modseq != 0) {
        dlist_u64(p, "SINCE_MODSEQ", mb->since_modseq);
        dlist_u64(p, "SINCE_CRC", mb->since_crc);
        dlist_u64(p, "SINCE_CRC_ANNOT", mb->since_crc_annot);
    }
    if (mb->nannots > 0) {
        dlist_open_list(p, "ANNOTATIONS");
        for (size_t i = 0; i < mb->nannots; i++)
            print_annot(p, &mb->annots[i]);
        dlist_close(p);
    }
}

/* Flags are printed as they are, whatever bytes they have. */
static void
print_flag(struct dlist_printer *p, struct span name)
{
    if (p->need_blank)
        buf_add_byte(p->out, ' ');
    buf_add(p->out, name);
    p->need_blank = true;
}

void
sync_record_print(const struct sync_record *r, struct dlist_printer *p)
{
    const struct message *m = &r->m;

    dlist_open_kv(p, NULL);
    dlist_u64(p, "UID", m->uid);
    dlist_u64(p, "MODSEQ", m->modseq);
    dlist_u64(p, "LAST_UPDATED", (uint64_t)m->updated_s);
    dlist_open_list(p, "FLAGS");
    for (size_t i = 0; i < ARRAY_LEN(system_flags); i++)
        if ((m->flags & system_flags[i].bit) != 0)
            print_flag(p, span_str(system_flags[i].name));
    for (size_t i = 0; i < m->nkeywords; i++)
        print_flag(p, m->keywords[i]);
    dlist_close(p);
    dlist_u64(p, "INTERNALDATE", (uint64_t)m->internal_s);
    dlist_u64(p, "SIZE", m->size);
    dlist_guid(p, "GUID", &m->guid);
    if (r->nannots > 0 || m->saved_s > 0 || m->created_modseq != 0) {
        dlist_open_list(p, "ANNOTATIONS");
        for (size_t i = 0; i < r->nannots; i++)
            print_annot(p, &r->annots[i]);
        print_field(p, SAVEDATE, m->saved_s > 0 ? (uint64_t)m->saved_s : 0);
        print_field(p, CREATEDMODSEQ, m->created_modseq);
        dlist_close(p);
    }
    dlist_close(p);
}

/* ---- CRCs --------------------------------------------------------------- */

static uint32_t
crc_of(struct span s)
{
    return (uint32_t)crc32(crc32(0, NULL, 0), s.p, (uInt)s.n);
}

static uint32_t
crc_of_flag(struct span name)
{
    uint8_t lower[KEYWORD_MAX];
    const size_t n = MIN(name.n, sizeof(lower));

    for (size_t i = 0; i < n; i++)
        lower[i] = ascii_lower(name.p[i]);
    return crc_of(span_of(lower, n));
}

uint32_t
sync_crc_basic(const struct message *m)
{
    char text[256], guid[GUID_TEXT_BYTES];
    uint32_t flags = 0;

    if ((m->flags & FLAG_EXPUNGED) != 0)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(system_flags); i++)
        if ((m->flags & system_flags[i].bit) != 0)
            flags ^= crc_of_flag(span_str(system_flags[i].name));
    for (size_t i = 0; i < m->nkeywords; i++)
        flags ^= crc_of_flag(m->keywords[i]);
    int n = snprintf(text, sizeof(text),
                     "%" PRIu32 " %" PRIu64 " %" PRId64 " (%" PRIu32
                     ") %" PRId64 " %s",
                     m->uid, m->modseq, m->updated_s, flags, m->internal_s,
                     guid_text(&m->guid, guid));
    return crc_of(span_of(text, (size_t)n));
}

static uint32_t
crc_of_annot(uint32_t uid, const char *entry, const char *user,
             struct span value)
{
    char head[16];
    uLong crc = crc32(0, NULL, 0);

    int n = snprintf(head, sizeof(head), "%" PRIu32 " ", uid);
    crc = crc32(crc, (const Bytef *)head, (uInt)n);
    crc = crc32(crc, (const Bytef *)entry, (uInt)strlen(entry));
    crc = crc32(crc, (const Bytef *)" ", 1);
    crc = crc32(crc, (const Bytef *)user, (uInt)strlen(user));
    crc = crc32(crc, (const Bytef *)" ", 1);
    /* zlib takes NULL for "start again" */
    return (uint32_t)(value.n == 0 ? crc : crc32(crc, value.p, (uInt)value.n));
}

static uint32_t
crc_of_field(uint32_t uid, const char *entry, uint64_t value)
{
    char text[24];

    if (value == 0)
        return 0;
    int n = snprintf(text, sizeof(text), "%" PRIu64, value);
    return crc_of_annot(uid, entry, "", span_of(text, (size_t)n));
}

uint32_t
sync_crc_annots(const struct sync_record *r)
{
    const struct message *m = &r->m;
    uint32_t crc = 0;

    if ((m->flags & FLAG_EXPUNGED) != 0)
        return 0;
    for (size_t i = 0; i < r->nannots; i++) {
        struct span value = r->annots[i].value;
        /* The one whose text here and there differ. */
        if (strcmp(r->annots[i].entry, SYNC_THRID) == 0 &&
            r->annots[i].user[0] == '\0')
            while (value.n > 1 && value.p[0] == '0')
                value = span_skip(value, 1);
        crc ^=
            crc_of_annot(m->uid, r->annots[i].entry, r->annots[i].user, value);
    }
    if (m->saved_s > 0)
        crc ^= crc_of_field(m->uid, SAVEDATE, (uint64_t)m->saved_s);
    return crc ^ crc_of_field(m->uid, CREATEDMODSEQ, m->created_modseq);
}

/* ---- seen --------------------------------------------------------------- */

enum errcode
sync_seen_read(const struct dlist *d, struct arena *a, struct sync_seen *ret,
               struct error *err)
{
    struct sync_seen s = {0};
    const struct dlist *uids = dlist_get(d, "SEENUIDS");

    if (dlist_get(d, "USERID") != NULL &&
        !get_text(d, "USERID", USER_MAX, a, &s.user))
        return missing("USERID", err);
    if (!get_text(d, "UNIQUEID", UNIQUEID_MAX, a, &s.uniqueid) ||
        !is_object_id(s.uniqueid))
        return missing("UNIQUEID", err);
    if (!get_number(d, "LASTREAD", SECONDS_MAX, &s.last_read_s))
        return missing("LASTREAD", err);
    if (!dlist_get_u32(d, "LASTUID", &s.last_uid))
        return missing("LASTUID", err);
    if (!get_number(d, "LASTCHANGE", SECONDS_MAX, &s.last_change_s))
        return missing("LASTCHANGE", err);
    if (uids == NULL || (uids->type != DLIST_ATOM && uids->type != DLIST_NIL))
        return missing("SEENUIDS", err);
    s.uids = arena_copy(a, uids->text);
    *ret = s;
    return ERR_OK;
}

void
sync_seen_print(const struct sync_seen *s, struct dlist_printer *p)
{
    dlist_open_kv(p, "SEEN");
    if (s->user != NULL)
        dlist_str(p, "USERID", s->user);
    dlist_str(p, "UNIQUEID", s->uniqueid);
    dlist_u64(p, "LASTREAD", s->last_read_s);
    dlist_u64(p, "LASTUID", s->last_uid);
    dlist_u64(p, "LASTCHANGE", s->last_change_s);
    dlist_span(p, "SEENUIDS", s->uids);
    dlist_close(p);
}

void
sync_seen_encode(const struct sync_seen *s, struct buf *out)
{
    buf_add_varint(out, s->last_read_s);
    buf_add_varint(out, s->last_uid);
    buf_add_varint(out, s->last_change_s);
    buf_add(out, s->uids);
}

bool
sync_seen_decode(struct span value, struct sync_seen *ret)
{
    struct rd r = rd_init(value);

    ret->last_read_s = rd_varint(&r);
    ret->last_uid = rd_varint32(&r);
    ret->last_change_s = rd_varint(&r);
    ret->uids = r.left;
    return !r.bad;
}
