/*
 * imapd/find.h - which messages match the search keys of a command: what
 * SEARCH, SORT and THREAD share.
 */
#ifndef POLLUX_IMAPD_FIND_H
#define POLLUX_IMAPD_FIND_H

#include "imapd/keys.h"
#include "imapd/session_private.h"
#include "mime/message.h"
#include "search/source.h"

/* A walk over the messages of the selected mailbox, in one snapshot. */
struct finder {
    struct store_snap *snap;
    mbid_t id;
    struct msg_iter *it;
    int64_t now_s;
    bool has_modseq;  /* MODSEQ is among the keys */
    unsigned cost;    /* of this turn */
    struct error err; /* of a message that could not be read */
    /* Every message that the client knows matches, and their rows are not
     * wanted: they are not read (IT is NULL). */
    bool by_map;
    struct cache_walk *caches;
    struct keys keys;

    /* The message in question, as far as it was needed. */
    struct message msg; /* with by_map: only its UID before find_row() */
    bool has_row;
    struct arena arena; /* of a row that was looked up */
    uint32_t seq;
    uint8_t relevance; /* 1 to 100 */
    bool has_cache, cache_ok, has_source;
    struct buf cache;
    struct mime_cache mime;
    struct stored_source source;
    struct buf scratch, decoded;

    /* What the index knows. */
    struct uidset covered; /* messages of which it knows all */
    bool restricted;       /* only these can match: */
    struct uidset may;
};

/* Take the command's keys.  False: the reply is set.  To be closed either way.
 */
MUST_CHECK bool
find_open(struct imap_session *s, struct finder *f);
void
find_close(struct imap_session *s, struct finder *f);
/* Is there a question for the index?  Then find_ask_index() before the first
 * find_next(), on a worker. */
bool
find_wants_index(struct imap_session *s, const struct finder *f);
void
find_ask_index(struct imap_session *s, struct finder *f);

/* For messages one by one, with a snapshot of its own; the keys have been taken
 * before.  s->cmd has them; to be closed. */
void
find_open_again(struct imap_session *s, struct finder *f);
/* MSG is f->msg from now on. */
void
find_stand_on(struct imap_session *s, struct finder *f,
              const struct message *msg);
/* Does MSG match?  It is f->msg then. */
bool
find_matches(struct imap_session *s, struct finder *f,
             const struct message *msg);

enum find {
    FIND_HIT,   /* f->msg and f->seq */
    FIND_PAUSE, /* enough for this turn */
    FIND_END,
};

enum find
find_next(struct imap_session *s, struct finder *f);
/* At the end: ERR_OK, or why the walk or a message could not be read. */
MUST_CHECK enum errcode
find_result(struct finder *f, struct error *err);
/* Is the row of the message in f->msg? */
MUST_CHECK bool
find_row(struct imap_session *s, struct finder *f);
/* Is the derived record of the message in f->mime? */
MUST_CHECK bool
find_cache(struct imap_session *s, struct finder *f);
/* Its keys for SORT and THREAD; valid until the next message. */
MUST_CHECK bool
find_keys(struct imap_session *s, struct finder *f, struct message_keys *ret);
/* The same where few messages are asked for, far apart. */
MUST_CHECK bool
find_own_keys(struct imap_session *s, struct finder *f,
              struct message_keys *ret);

#endif
