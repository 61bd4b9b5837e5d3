/*
 * imapd/derived.c - the derived record of a message, as all commands get it:
 * the one that is kept, if it is this message's, else made from the message and
 * kept.
 */
#include "imapd/session_private.h"

#include "mime/message.h"

bool
have_cache(struct store_snap *snap, struct cache_walk *walk, mbid_t id,
           const struct message *msg, struct buf *ret,
           struct mime_cache *ret_mime)
{
    struct error ignored = {0};

    buf_clear(ret);
    enum errcode rc = walk != NULL
                          ? cache_walk_get(walk, msg->uid, ret, &ignored)
                          : snap_cache(snap, id, msg->uid, ret, &ignored);
    return rc == ERR_OK &&
           mime_cache_decode(buf_span(ret), ret_mime, &ignored) == ERR_OK &&
           ret_mime->message_size == msg->size;
}

enum errcode
make_cache(struct imap_session *s, mbid_t id, const struct message *msg,
           struct buf *ret, struct mime_cache *ret_mime, struct error *err)
{
    AUTO(buf_free) struct buf raw = BUF_INIT;
    struct mime_message *parsed = NULL;

    buf_clear(ret);
    enum errcode rc =
        store_body_read(s->store, &msg->guid, 0, msg->size, &raw, err);
    if (rc != ERR_OK)
        return rc;
    mime_parse(buf_span(&raw), NULL, &parsed);
    mime_cache_encode(parsed, ret);
    mime_message_free(&parsed);
    if (raw.n != msg->size)
        return error_set(err, ERR_CORRUPT,
                         "message of %zu bytes, should be %" PRIu64, raw.n,
                         msg->size);
    store_cache_put(s->store, id, msg->uid, buf_span(ret));
    return mime_cache_decode(buf_span(ret), ret_mime, err);
}

enum errcode
load_cache(struct imap_session *s, struct store_snap *snap,
           struct cache_walk *walk, mbid_t id, const struct message *msg,
           struct buf *ret, struct mime_cache *ret_mime, struct error *err)
{
    if (have_cache(snap, walk, id, msg, ret, ret_mime))
        return ERR_OK;
    return make_cache(s, id, msg, ret, ret_mime, err);
}
