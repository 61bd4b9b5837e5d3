/*
 * imapd/fetch_private.h - a FETCH under way, and what its files share.
 */
#ifndef POLLUX_IMAPD_FETCH_PRIVATE_H
#define POLLUX_IMAPD_FETCH_PRIVATE_H

#include "imapd/ahead.h"
#include "imapd/session_private.h"
#include "mime/message.h"
#include "mime/text.h"

#define PIECE_BYTES 131072U

/* A part that is told without its transfer encoding (RFC 3516). */
struct binary {
    uint64_t raw_off; /* of the part in the message */
    uint64_t raw_bytes;
    enum mime_encoding encoding;
    /* What was found out about it. */
    bool measured;
    enum errcode code;
    struct error err;
    uint64_t bytes; /* decoded */
    bool has_nul;
    /* Being told: literal bytes come out of here. */
    bool telling;
    struct mime_decoder decoder;
    uint64_t raw_left;
    uint64_t skip; /* decoded bytes in front of those wanted */
};

struct fetch_job {
    struct uidset all;
    uint32_t done; /* of them, up to this UID in chunks */
    struct uidset chunk;
    struct uidset seen; /* made \Seen by this command */
    bool sets_seen;
    bool needs_cache;
    bool *kept;     /* by item: a derived record has all that it can want */
    bool has_flags; /* among the items */
    bool has_uid;
    bool has_modseq;
    bool some_gone;
    bool some_damaged;
    bool some_undecodable;
    bool some_bad_part; /* an annotation of a part that is not there */
    /* A damaged body may be repaired from the twin within a moment. */
    bool no_heal;    /* it did not help once: this command waits no more */
    uint32_t healed; /* UID of the message that was waited for */

    /* The message under way. */
    uint32_t uid; /* the last one taken from the chunk */
    bool open;
    size_t item;
    bool first; /* no item is written yet */
    struct arena arena;
    struct message msg;
    struct buf cache;
    struct mime_cache mime;
    bool cache_ok;
    struct buf picked;   /* fields of a header */
    struct ahead *ahead; /* NULL: nothing is read ahead */
    bool is_awaited;     /* what is being read for the next message */
    bool has_bytes;      /* the message was read ahead: */
    struct span bytes;
    /* A literal under way. */
    uint64_t off;
    uint64_t left;
    /* ANNOTATION under way (imapd/annotate.c). */
    bool annot_more;        /* goes on where it stopped */
    bool annot_any;         /* an entry is told */
    const char *annot_last; /* up to this one */
    struct binary binary;   /* BINARY (imapd/fetch_binary.c) */

    /* To be done on a worker before going on where we are. */
    void (*work)(void *session);

    /* Of one turn. */
    struct store_snap *snap;
    struct msg_iter *it; /* NULL: rows are looked up one by one */
    struct cache_walk *caches;
    size_t turn_bytes;
    unsigned turn_messages;
};

/* Of SIZE bytes, what the item's partial asks for. */
void
apply_partial(const struct imap_fetch_item *item, uint64_t *off, uint64_t *n);
/*
 * Is it worth a moment's wait?  Once for a message, and not again in a command
 * in which it was in vain.  Then the item is to be given up as if it had not
 * been looked at.
 */
bool
may_heal(struct fetch_job *job, const struct error *err);
/* Bytes that were promised are not there: it is logged, and the command ends in
 * NO. */
enum errcode
fetch_damaged(struct imap_session *s, struct fetch_job *job, struct error *err);

/* " {N}" and, as soon as it is there, what lies at OFF; " NIL" if it cannot be
 * read. */
void
begin_literal(struct imap_session *s, struct fetch_job *job, uint64_t off,
              uint64_t n);

/* imapd/fetch_binary.c: BINARY[...] and BINARY.SIZE[...]; the next piece of a
 * literal that it began. */
void
write_binary(struct imap_session *s, struct fetch_job *job,
             const struct imap_fetch_item *item);
MUST_CHECK enum errcode
write_binary_piece(struct imap_session *s, struct fetch_job *job,
                   struct error *err);

/* imapd/preview.c: PREVIEW (RFC 8970) */
void
write_preview(struct imap_session *s, struct fetch_job *job,
              const struct imap_fetch_item *item);

#endif
