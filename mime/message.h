/*
 * mime/message.h - a message as RFC 5322 and 2045 see it: its parts, and what
 * of it goes into the cache.
 *
 * mime_parse() goes over the bytes once, when a message arrives.  What it found
 * becomes a cache record: ENVELOPE, BODY and BODYSTRUCTURE as they go on the
 * wire, where every section lies, and the keys for SORT and THREAD.  From then
 * on the record answers, and the message itself is read only for its bytes.
 *
 * Offsets and sizes are octets of the message as stored, lines are line feeds
 * in them; nothing is converted.  Line ends may be CRLF, LF or mixed.  Nothing
 * here can fail because of the bytes of a message, and nothing depends on the
 * locale.
 */
#ifndef POLLUX_MIME_MESSAGE_H
#define POLLUX_MIME_MESSAGE_H

#include "base/buf.h"
#include "base/error.h"
#include "base/span.h"

/*
 * How far a message is taken apart.  What goes beyond is not lost, it is just
 * not looked into: a part too deep is an opaque leaf, the last part allowed
 * reaches to the end of the message, header fields past the bounds count only
 * as bytes of their header.  A value of 0 means the default.
 */
struct mime_limits {
    uint32_t depth;        /* of parts within parts; default 100, at most 500 */
    uint32_t parts;        /* default 10,000 */
    uint32_t fields;       /* header fields, all parts together: 100,000 */
    uint32_t header_bytes; /* of fields looked into, all parts: 4 MiB */
    uint32_t addresses;    /* in all envelopes together: 20,000 */
    uint32_t params;       /* parameters of one field: 200 */
};

struct mime_message; /* one parsed message; it points into the raw bytes */

/*
 * Take RAW apart: one pass, time linear in its size.  LIMITS may be NULL.
 * Whatever the bytes, *RET is a message; it refers to RAW, which must stay.
 */
void
mime_parse(struct span raw, const struct mime_limits *limits,
           struct mime_message **ret);
/* Free *MSG and set it to NULL.  NULL is fine. */
void
mime_message_free(struct mime_message **msg);

/*
 * Append the cache record of MSG (mime/README.md, "Bytes").  Only OUT's maximum
 * can stop it (OUT->full).  The same message and limits give the same bytes.
 */
void
mime_cache_encode(const struct mime_message *msg, struct buf *out);

/* Content-Transfer-Encoding (RFC 2045, 6). */
enum mime_encoding {
    MIME_ENC_7BIT = 0,
    MIME_ENC_8BIT,
    MIME_ENC_BINARY,
    MIME_ENC_QP,
    MIME_ENC_BASE64,
    MIME_ENC_UNKNOWN, /* cannot be decoded: [UNKNOWN-CTE] of RFC 3516 */
};

enum mime_kind {
    MIME_KIND_LEAF = 0,  /* neither text nor a container */
    MIME_KIND_TEXT,      /* text/... */
    MIME_KIND_MULTIPART, /* its parts follow, one level deeper */
    MIME_KIND_MESSAGE,   /* message/rfc822: the message in it follows */
};

/* One part; the table of a message holds them from the front to the back. */
struct mime_part {
    enum mime_kind kind;
    enum mime_encoding encoding;
    uint32_t depth;    /* 0 for the message itself */
    uint32_t lines;    /* of the body */
    size_t header_off; /* the header, with the empty line that ends it */
    size_t header_bytes;
    size_t body_off;
    size_t body_bytes; /* without the line end that belongs to a boundary */
};

enum mime_cache_flag {
    MIME_CACHE_LIMITED =
        1,                 /* a limit was reached: there is more than is said */
    MIME_CACHE_REPLY = 2,  /* the subject is that of a reply or a forward */
    MIME_CACHE_DATED = 4,  /* sent_utc_s and sent_zone_min are known */
    MIME_CACHE_FIELDS = 8, /* `fields` has all that mime_cache_keeps() */
};

#define MIME_CACHE_VERSION 2

/*
 * A cache record, decoded.  The spans point into the record.  Texts are UTF-8
 * as far as the message's charsets were known, empty where there is none; case
 * is kept (compare with mime_casemap()).
 */
struct mime_cache {
    unsigned flags;      /* enum mime_cache_flag */
    size_t message_size; /* octets: what RFC822.SIZE says */

    /* Exactly as on the wire after "ENVELOPE " and so on, parenthesis to
     * parenthesis, with literals in them where needed. */
    struct span envelope;
    struct span body;
    struct span bodystructure;

    /* Keys of RFC 5256 (SORT, THREAD) and 5957 (display). */
    int64_t sent_utc_s;    /* seconds since 1970; 0 unless MIME_CACHE_DATED */
    int32_t sent_zone_min; /* of the Date field, minutes east; SENTON and kin
                              go by the day in this zone */
    struct span base_subject;
    struct span from; /* mailbox (the local part) of the first address */
    struct span to;
    struct span cc;
    struct span display_from; /* display name, else mailbox@host */
    struct span display_to;
    struct span message_id; /* normalized, without angle brackets */
    uint32_t nrefs;         /* References, else the first of In-Reply-To */
    struct span refs;       /* oldest first; mime_cache_ref() reads them */

    uint32_t nparts;   /* at least 1 */
    struct span parts; /* mime_cache_parts() reads them */

    /* With MIME_CACHE_FIELDS: the fields of the message's own header that
     * mime_cache_keeps(), as they are and in their order.  Without, they are
     * too long, and empty here. */
    struct span fields;
};

/* Does a record have the fields NAME (in any case)? */
bool
mime_cache_keeps(struct span name);

/*
 * Check and decode RECORD.  After ERR_OK every offset in it lies within
 * message_size; the caller compares that with the size of the message.
 * Errors: ERR_VERSION (another version: parse the message again), ERR_CORRUPT.
 */
MUST_CHECK enum errcode
mime_cache_decode(struct span record, struct mime_cache *ret,
                  struct error *err);

/* Take the next reference off *REFS (a copy of cache->refs); false at the end.
 */
bool
mime_cache_ref(struct span *refs, struct span *ret_id);

/* Walks the parts from front to back.  Start with mime_part_iter(). */
struct mime_part_iter {
    struct span left;
    size_t last_off;
};

struct mime_part_iter
mime_part_iter(const struct mime_cache *cache);
bool
mime_part_next(struct mime_part_iter *iter, struct mime_part *ret);

/* Where a section lies. */
struct mime_section {
    size_t off;
    size_t bytes;
    /* The part that the path names; for "" the message itself.  Its encoding
     * says how BINARY (RFC 3516) is made of the bytes. */
    struct mime_part part;
};

/*
 * Find SECTION, what stands between the brackets of BODY[...] without a header
 * list: "", "HEADER", "TEXT", "1.2", "1.2.MIME", "1.HEADER", "1.TEXT" (RFC
 * 3501, 6.4.5); "HEADER.FIELDS" and "HEADER.FIELDS.NOT" are as "HEADER", to be
 * given to mime_header_fields().  Case is ignored.  Part 1 of a message that is
 * not multipart is its body. Errors: ERR_SYNTAX (no section by the grammar:
 * BAD), ERR_NOTFOUND (the message has none: NIL, or an empty string).
 */
MUST_CHECK enum errcode
mime_section_find(const struct mime_cache *cache, struct span section,
                  struct mime_section *ret);

/* The bytes of SECTION in RAW, empty where RAW is shorter than it should be. */
static inline struct span
mime_section_bytes(struct span raw, const struct mime_section *section)
{
    return span_sub(raw, section->off, section->bytes);
}

#endif
