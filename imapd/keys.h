/*
 * imapd/keys.h - what SORT and THREAD compare of messages, at hand for very
 * many of them.
 */
#ifndef POLLUX_IMAPD_KEYS_H
#define POLLUX_IMAPD_KEYS_H

#include "base/buf.h"
#include "mime/message.h"
#include "store/store.h"

enum key_text {
    KEY_SUBJECT, /* base subject */
    KEY_FROM,
    KEY_TO,
    KEY_CC,
    KEY_DISPLAYFROM,
    KEY_DISPLAYTO,
    KEY_TEXTS,
};

/* Of one message. */
struct message_keys {
    unsigned flags;              /* MIME_CACHE_REPLY, MIME_CACHE_DATED */
    int64_t sent_utc_s;          /* 0 unless MIME_CACHE_DATED */
    bool has_refs;               /* false: they are too long to be here */
    struct span text[KEY_TEXTS]; /* by mime_casemap() */
    struct span message_id;
    uint32_t nrefs;
    struct span refs; /* mime_cache_ref() reads them */
};

#define KEYS_VERSION 1
/* Messages of a block: UIDs that are the same but for so many bits. */
#define KEYS_BLOCK_BITS 8U

/* Append the entry of a message, and read it.  The spans point into ENTRY. */
void
keys_encode(const struct mime_cache *mime, struct buf *out);
MUST_CHECK bool
keys_decode(struct span entry, struct message_keys *ret);

/* A walk over the blocks of a mailbox. */
struct keys {
    bool is_open;
    uint32_t number;   /* of the block that is here */
    struct buf block;  /* as it is stored; empty: there is none */
    struct span left;  /* of it: behind the last entry that was found */
    uint32_t next;     /* no UID with lower bits is asked for any more */
    uint32_t nentries; /* in it */
    struct buf fresh;  /* entries to be added, in order */
    uint32_t nfresh;
    struct buf scratch;
};

/*
 * The keys of UID, if its block has them; the spans are valid until the next
 * call.  UIDs best ascend.  STORE is where a block goes that keys_add() has
 * added to, once another one is asked for.
 */
MUST_CHECK bool
keys_find(struct keys *k, struct store *store, struct store_snap *snap,
          mbid_t id, uint32_t uid, struct message_keys *ret);
/* The same from the record of the message, which was not found just now. */
void
keys_add(struct keys *k, uint32_t uid, const struct mime_cache *mime,
         struct message_keys *ret);
/* The same of a message by itself, without its block. */
void
keys_make(struct keys *k, const struct mime_cache *mime,
          struct message_keys *ret);
/* To be called at the end; *K can be used anew. */
void
keys_close(struct keys *k, struct store *store, mbid_t id);

#endif
