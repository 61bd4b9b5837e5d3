/*
 * imapd/catenate.c - messages put together from literals and from what is
 * there already (RFC 4469), named by relative IMAP URLs (RFC 5092):
 *
 *     /mailbox;UIDVALIDITY=7/;UID=3/;SECTION=1.2/;PARTIAL=0.1000
 *     ;UID=3/;SECTION=TEXT                     of the selected mailbox
 *
 * Names in URLs are UTF-8 in percent signs, whatever the session speaks.
 */
#include "imapd/append.h"

#include "imapd/utf7.h"
#include "mime/message.h"

#define PIECE_BYTES 131072U

struct message_url {
    struct span mailbox;  /* still encoded; empty: the selected one */
    uint32_t uidvalidity; /* 0: not given */
    uint32_t uid;
    struct span section; /* still encoded */
    uint64_t off;
    uint64_t bytes; /* UINT64_MAX: to the end */
};

/* ---- the URL ----------------------------------------------------------- */

/* "%41" becomes "A"; false: no such URL. */
static bool
percent_decode(struct span in, struct buf *out)
{
    for (size_t i = 0; i < in.n; i++) {
        uint8_t byte;
        if (in.p[i] != '%') {
            buf_add_byte(out, in.p[i]);
            continue;
        }
        if (!parse_hex_bytes(span_sub(in, i + 1, 2), &byte, 1) || byte == 0)
            return false;
        buf_add_byte(out, byte);
        i += 2;
    }
    return true;
}

/* Take "NAME=value" off the front of *URL, up to the next slash. */
static bool
take_field(struct span *url, const char *name, struct span *ret)
{
    struct span field = span_str(name);

    if (!span_starts_nocase(*url, field))
        return false;
    struct span rest = span_skip(*url, field.n);
    ptrdiff_t end = span_find_byte(rest, '/', 0);
    *ret = end < 0 ? rest : span_sub(rest, 0, (size_t)end);
    *url = end < 0 ? SPAN_EMPTY : span_skip(rest, (size_t)end + 1);
    return true;
}

static bool
parse_partial(struct span range, struct message_url *ret)
{
    ptrdiff_t dot = span_find_byte(range, '.', 0);

    if (dot < 0)
        return parse_u64(range, &ret->off);
    return parse_u64(span_sub(range, 0, (size_t)dot), &ret->off) &&
           parse_u64(span_skip(range, (size_t)dot + 1), &ret->bytes) &&
           ret->bytes > 0;
}

/* "name;UIDVALIDITY=7" */
static bool
parse_mailbox(struct span text, struct message_url *ret)
{
    ptrdiff_t semicolon = span_find_byte(text, ';', 0);

    ret->mailbox = text;
    if (semicolon < 0)
        return text.n > 0;
    struct span rest = span_skip(text, (size_t)semicolon);
    ret->mailbox = span_sub(text, 0, (size_t)semicolon);
    return ret->mailbox.n > 0 &&
           span_starts_nocase(rest, SPAN_LIT(";UIDVALIDITY=")) &&
           parse_u32(span_skip(rest, 13), &ret->uidvalidity);
}

static bool
parse_url(struct span url, struct message_url *ret)
{
    struct span value;
    bool absolute = url.n > 0 && url.p[0] == '/';

    *ret = (struct message_url){.bytes = UINT64_MAX};
    if (absolute)
        url = span_skip(url, 1);
    if (absolute && url.n > 0 && url.p[0] == '/') /* names a server */
        return false;
    if (absolute || !span_starts_nocase(url, SPAN_LIT(";UID="))) {
        ptrdiff_t at = span_find(url, SPAN_LIT("/;"));
        if (at < 0 || !parse_mailbox(span_sub(url, 0, (size_t)at), ret))
            return false;
        url = span_skip(url, (size_t)at + 1);
    }
    if (!take_field(&url, ";UID=", &value) || !parse_u32(value, &ret->uid))
        return false;
    if (take_field(&url, ";SECTION=", &value))
        ret->section = value;
    if (take_field(&url, ";PARTIAL=", &value) && !parse_partial(value, ret))
        return false;
    return url.n == 0;
}

/* ---- what it names ----------------------------------------------------- */

static enum errcode
find_url_mailbox(struct imap_session *s, struct store_snap *snap,
                 const struct message_url *url, struct mailbox *ret,
                 struct error *err)
{
    AUTO(buf_free) struct buf name = BUF_INIT;
    const char *utf7, *internal;

    if (url->mailbox.n == 0) {
        if (s->sel == NULL)
            return error_set(err, ERR_SYNTAX, "nothing is selected");
        return snap_mailbox(snap, s->sel->id, &s->arena, ret, err);
    }
    if (!percent_decode(url->mailbox, &name) ||
        !utf7_from_utf8(buf_span(&name), &s->arena, &utf7))
        return error_set(err, ERR_SYNTAX, "bad mailbox in a URL");
    enum errcode rc =
        name_to_internal(&s->opt->ns, s->user, s->is_admin, span_str(utf7),
                         &s->arena, &internal, err);
    if (rc == ERR_OK)
        rc = snap_mailbox_by_name(snap, internal, &s->arena, ret, err);
    if (rc == ERR_OK && (rights_of(s, ret) & ACL_READ) == 0)
        rc = error_set(err, ERR_DENIED, "no right to read");
    return rc;
}

/* Where the bytes are: of message *RET_MSG from *RET_OFF, *RET_N of them. */
static enum errcode
find_url(struct imap_session *s, const struct message_url *url,
         struct message *ret_msg, uint64_t *ret_off, uint64_t *ret_n,
         struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(s->store);
    AUTO(buf_free) struct buf section = BUF_INIT;
    AUTO(buf_free) struct buf cache = BUF_INIT;
    struct mime_cache mime;
    struct mime_section where = {0};
    struct mailbox mb;

    enum errcode rc = find_url_mailbox(s, snap, url, &mb, err);
    if (rc == ERR_OK && url->uidvalidity != 0 &&
        url->uidvalidity != mb.uidvalidity)
        rc = error_set(err, ERR_NOTFOUND, "another UIDVALIDITY");
    if (rc == ERR_OK)
        rc = snap_message(snap, mb.id, url->uid, &s->arena, ret_msg, err);
    if (rc == ERR_OK && (ret_msg->flags & FLAG_EXPUNGED) != 0)
        rc = error_set(err, ERR_NOTFOUND, "expunged");
    if (rc != ERR_OK)
        return rc;
    *ret_off = 0;
    *ret_n = ret_msg->size;
    if (!percent_decode(url->section, &section))
        return error_set(err, ERR_SYNTAX, "bad section in a URL");
    if (section.n > 0) {
        if (span_find(buf_span(&section), SPAN_LIT("FIELDS")) >= 0)
            return error_set(err, ERR_SYNTAX, "fields of a header in a URL");
        rc = load_cache(s, snap, NULL, mb.id, ret_msg, &cache, &mime, err);
        if (rc != ERR_OK)
            return rc;
        if (mime_section_find(&mime, buf_span(&section), &where) != ERR_OK)
            return error_set(err, ERR_NOTFOUND, "no such section");
        *ret_off = where.off;
        *ret_n = where.bytes;
    }
    uint64_t skip = MIN(url->off, *ret_n);
    *ret_off += skip;
    *ret_n = MIN(url->bytes, *ret_n - skip);
    return ERR_OK;
}

static enum errcode
add_url(struct imap_session *s, struct span text, struct body *to,
        struct error *err)
{
    AUTO(buf_free) struct buf piece = BUF_INIT;
    struct message_url url;
    struct message msg;
    uint64_t off, left;

    if (!parse_url(text, &url))
        return error_set(err, ERR_SYNTAX, "not the URL of a message");
    enum errcode rc = find_url(s, &url, &msg, &off, &left, err);
    while (rc == ERR_OK && left > 0) {
        uint64_t n = MIN(left, (uint64_t)PIECE_BYTES);
        buf_clear(&piece);
        rc = store_body_read(s->store, &msg.guid, off, n, &piece, err);
        if (rc == ERR_OK && piece.n != n)
            rc = error_set(err, ERR_CORRUPT, "message is shorter than it says");
        if (rc == ERR_OK)
            rc = body_write(to, buf_span(&piece), err);
        off += n;
        left -= n;
    }
    return rc;
}

/* ---- putting together -------------------------------------------------- */

/* RFC 4469, 4.1: the URL goes back as it came, as far as a text can hold it. */
static const char *
bad_url(struct imap_session *s, struct span url)
{
    AUTO(buf_free) struct buf text = BUF_INIT;

    buf_add_str(&text, "NO [BADURL ");
    for (size_t i = 0; i < MIN(url.n, (size_t)400); i++)
        buf_add_byte(&text, url.p[i] > 0x20 && url.p[i] < 0x7f &&
                                    url.p[i] != ']' && url.p[i] != '"'
                                ? url.p[i]
                                : '?');
    buf_add_str(&text, "] This cannot be put into a message");
    return arena_str(&s->arena, buf_span(&text));
}

bool
catenate(struct imap_session *s, struct append_job *job,
         const struct imap_append *how, struct append_msg *msg)
{
    struct span literals = SPAN_EMPTY;
    enum errcode rc = ERR_OK;

    msg->joined = store_body_new(s->store, s->opt->message_bytes_max);
    if (msg->body != NULL) {
        rc = body_finish(msg->body, &job->err);
        if (rc == ERR_OK)
            literals = body_raw(msg->body);
    }
    for (const struct imap_cat_part *part = how->parts;
         part != NULL && rc == ERR_OK; part = part->next) {
        if (part->is_url) {
            rc = add_url(s, part->url, msg->joined, &job->err);
            if (rc == ERR_SYNTAX || rc == ERR_NOTFOUND || rc == ERR_DENIED ||
                rc == ERR_BADNAME)
                job->why = bad_url(s, part->url);
            continue;
        }
        struct span piece = span_sub(literals, 0, (size_t)part->bytes);
        literals = span_skip(literals, piece.n);
        rc = body_write(msg->joined, piece, &job->err);
    }
    if (rc == ERR_LIMIT && job->why == NULL)
        job->why = "NO [TOOBIG] Message too large";
    return rc == ERR_OK;
}
