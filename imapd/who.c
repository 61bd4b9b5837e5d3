/*
 * imapd/who.c - what a session may do: the capabilities that it is told of, and
 * the names and rights of mailboxes for its user.
 */
#include "imapd/session_private.h"

#include "imapd/utf7.h"

/* ---- capabilities ------------------------------------------------------ */

/* Known before login. */
static const char always[] = "IMAP4rev1 IMAP4rev2 LITERAL+ ID ENABLE";

/* Known after it, as a list so that each has its line. */
static const char *const after_login[] = {
    "ACL",
    "RIGHTS=kxten",
    "QUOTA",
    "QUOTASET",
    "QUOTA=RES-STORAGE",
    "QUOTA=RES-MESSAGE",
    "QUOTA=RES-MAILBOX",
    "QUOTA=RES-ANNOTATION-STORAGE",
    "NAMESPACE",
    "UIDPLUS",
    "UNSELECT",
    "CHILDREN",
    "MOVE",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "IDLE",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "LIST-MYRIGHTS",
    "LIST-METADATA",
    "XLIST",
    "STATUS=SIZE",
    "CONDSTORE",
    "QRESYNC",
    "ANNOTATE-EXPERIMENT-1",
    "ESEARCH",
    "CONTEXT=SEARCH",
    "CONTEXT=SORT",
    "SEARCHRES",
    "SEARCH=FUZZY",
    "MULTISEARCH",
    "NOTIFY",
    "PARTIAL",
    "WITHIN",
    "SAVEDATE",
    "SORT",
    "SORT=DISPLAY",
    "ESORT",
    "METADATA",
    "OBJECTID",
    "BINARY",
    "CATENATE",
    "MULTIAPPEND",
    "REPLACE",
    "PREVIEW",
    "UTF8=ACCEPT",
    "UIDONLY",
    "I18NLEVEL=1",
    "INPROGRESS",
    "THREAD=ORDEREDSUBJECT",
    "THREAD=REFERENCES",
    "THREAD=REFS",
};

static void
add_mechs(struct imap_session *s, struct buf *b)
{
    AUTO(buf_free) struct buf mechs = BUF_INIT;
    struct saslsrv *sasl = session_sasl(s);

    if (sasl == NULL)
        return;
    saslsrv_mechs(sasl, &mechs);
    struct span left = buf_span(&mechs);
    while (left.n > 0) {
        ptrdiff_t sp = span_find_byte(left, ' ', 0);
        struct span mech = sp < 0 ? left : span_sub(left, 0, (size_t)sp);
        left = span_skip(left, mech.n + 1);
        if (mech.n > 0)
            buf_addf(b, " AUTH=%.*s", SPAN_FMT(mech));
    }
}

const char *
capabilities(struct imap_session *s, bool whole, struct arena *a)
{
    AUTO(buf_free) struct buf b = BUF_INIT;

    buf_add_str(&b, always);
    for (size_t i = 0; i < ARRAY_LEN(after_login) && whole; i++) {
        buf_add_byte(&b, ' ');
        buf_add_str(&b, after_login[i]);
    }
    if (whole) {
        buf_addf(&b, " APPENDLIMIT=%" PRIu64, s->opt->message_bytes_max);
        if (s->opt->message_limit > 0)
            buf_addf(&b, " MESSAGELIMIT=%" PRIu32, s->opt->message_limit);
        if (!s->compressed)
            buf_add_str(&b, " COMPRESS=DEFLATE");
        buf_add_str(&b, " UNAUTHENTICATE");
    }
    if (s->state != STATE_NOT_AUTH)
        return arena_str(a, buf_span(&b));
    buf_add_str(&b, " SASL-IR");
    if (s->opt->starttls && s->opt->tls != NULL && s->peer.tls_bits == 0)
        buf_add_str(&b, " STARTTLS");
    add_mechs(s, &b);
    if (s->peer.tls_bits == 0 && !s->opt->allow_plain)
        buf_add_str(&b, " LOGINDISABLED");
    return arena_str(a, buf_span(&b));
}

/* ---- ENABLE ------------------------------------------------------------ */

/* RFC 5161, 3.1: only what this ENABLE switched on is told. */
enum run
cmd_enable(struct imap_session *s)
{
    const struct imap_command *cmd = s->cmd;
    const struct {
        const char *name;
        bool *on;
        bool *implied; /* NULL: nothing more */
    } known[] = {
        /* Another command may have switched it on: told all the same. */
        {"CONDSTORE", &s->condstore_named, &s->condstore},
        {"QRESYNC", &s->qresync, &s->condstore},
        {"IMAP4rev2", &s->rev2, NULL},
        {"UTF8=ACCEPT", &s->utf8_accept, NULL},
        {"UIDONLY", &s->uidonly, NULL},
    };

    buf_add_str(&s->out, "* ENABLED");
    for (size_t i = 0; i < cmd->nwords; i++)
        for (size_t k = 0; k < ARRAY_LEN(known); k++) {
            if (*known[k].on ||
                !span_eq_nocase_str(cmd->words[i], known[k].name))
                continue;
            *known[k].on = true;
            if (known[k].implied != NULL)
                *known[k].implied = true;
            buf_addf(&s->out, " %s", known[k].name);
        }
    buf_add_str(&s->out, "\r\n");
    return reply(s, "OK Completed");
}

/* ---- names and rights -------------------------------------------------- */

const char *
internal_name(struct imap_session *s, struct span external)
{
    struct error err = {0};
    const char *name = NULL;

    if (speaks_utf8(s)) {
        if (!utf7_from_utf8(external, &s->arena, &name)) {
            error_set(&err, ERR_BADNAME, "not UTF-8");
            reply_error(s, &err);
            return NULL;
        }
        external = span_str(name);
    }
    if (name_to_internal(&s->opt->ns, s->user, s->is_admin, external, &s->arena,
                         &name, &err) == ERR_OK)
        return name;
    reply_error(s, &err);
    return NULL;
}

const char *
external_name(struct imap_session *s, const char *internal, struct arena *a)
{
    const char *name =
        name_to_external(&s->opt->ns, s->user, s->is_admin, internal, a);

    return speaks_utf8(s) ? utf7_to_utf8(name, a) : name;
}

uint32_t
rights_of(struct imap_session *s, const struct mailbox *mb)
{
    const uint32_t implicit =
        ACL_LOOKUP | ACL_CREATE | ACL_DELETEMBOX | ACL_ADMIN;
    uint32_t rights = acl_rights(mb->acl, s->user);

    if (s->is_admin)
        return rights | implicit;
    const char *owner = name_owner(mb->name, &s->arena);
    if (owner != NULL && strcmp(owner, s->user) == 0 && !mb->is_deleted)
        rights |= implicit;
    return rights;
}

/* NEED: all of these, or (ANY) one of them; none: l. */
static bool
find_with(struct imap_session *s, struct store_snap *snap, struct span name,
          uint32_t need, bool any, struct mailbox *ret)
{
    struct error err = {0};
    const char *internal = internal_name(s, name);

    if (internal == NULL)
        return false;
    if (snap_mailbox_by_name(snap, internal, &s->arena, ret, &err) != ERR_OK) {
        reply_error(s, &err);
        return false;
    }
    const uint32_t rights = rights_of(s, ret);
    const bool seen = (rights & ACL_LOOKUP) != 0;
    if (any ? (rights & need) != 0
            : (rights & need) == need && (need != 0 || seen))
        return true;
    /* RFC 4314, 6: who may not see it is not told that it is there. */
    if (seen)
        error_set(&err, ERR_DENIED, "rights");
    else
        error_set(&err, ERR_NOTFOUND, "not to be seen");
    reply_error(s, &err);
    return false;
}

bool
find_mailbox(struct imap_session *s, struct store_snap *snap, struct span name,
             uint32_t need, struct mailbox *ret)
{
    return find_with(s, snap, name, need, false, ret);
}

bool
find_mailbox_any(struct imap_session *s, struct store_snap *snap,
                 struct span name, uint32_t need, struct mailbox *ret)
{
    return find_with(s, snap, name, need, true, ret);
}
