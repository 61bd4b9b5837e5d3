/*
 * mime/text.h - from the bytes of a message to text: transfer encodings,
 * charsets, encoded words, case, and searching.
 *
 * Charset conversion and case mapping are ICU's; neither depends on a locale.
 */
#ifndef POLLUX_MIME_TEXT_H
#define POLLUX_MIME_TEXT_H

#include "mime/message.h"

/* Decodes a transfer encoding piece by piece.  Wrong input gives what can be
 * made of it. */
struct mime_decoder {
    enum mime_encoding encoding;
    uint32_t bits; /* base64: sextets so far */
    unsigned nbits;
    size_t npending; /* quoted-printable: '=' or blanks not yet decided */
    uint8_t pending[80];
};

void
mime_decoder_init(struct mime_decoder *d, enum mime_encoding encoding);
/* Append to OUT what IN and the input before it decide. */
void
mime_decoder_push(struct mime_decoder *d, struct span in, struct buf *out);
/* The input is over. */
void
mime_decoder_finish(struct mime_decoder *d, struct buf *out);

/* The whole of IN decoded (RFC 2045, 6.7 and 6.8); 7bit, 8bit, binary and
 * unknown are copied.  OUT's maximum bounds it. */
void
mime_decode(enum mime_encoding encoding, struct span in, struct buf *out);

/* The value of a Content-Transfer-Encoding field; empty is 7bit. */
enum mime_encoding
mime_encoding_parse(struct span value);

/* May SEARCH CHARSET name it? */
bool
mime_charset_known(struct span charset);

/*
 * Append IN as UTF-8.  Without a known CHARSET (and for us-ascii) bytes are
 * taken for UTF-8 where they are that, else for windows-1252; what a known one
 * cannot explain becomes U+FFFD.  Returns whether CHARSET was known.
 */
bool
mime_charset_to_utf8(struct span charset, struct span in, struct buf *out);

/* Append a header value as UTF-8: unfolded, encoded words (RFC 2047, 2231 5)
 * decoded, blanks between two of them gone; raw 8-bit bytes as above. */
void
mime_header_decode(struct span value, struct buf *out);

/* Append UTF8 so that two texts are equal under i;unicode-casemap (RFC 5051)
 * exactly if the results are, and sort as the results sort. */
void
mime_casemap(struct span utf8, struct buf *out);

/*
 * Append the base subject of RFC 5256, 2.1, of a raw Subject value, case kept.
 * Returns whether something of a reply or forward was taken off.
 */
bool
mime_base_subject(struct span value, struct buf *out);

enum mime_search_where {
    MIME_SEARCH_HEADER, /* any field of the message's header */
    MIME_SEARCH_BODY,   /* SEARCH BODY: text parts decoded, headers of parts */
    MIME_SEARCH_TEXT,   /* SEARCH TEXT: both */
};

/*
 * Where the bytes of a message are: N of them from OFF on, which stay until the
 * next read (fewer: the message is shorter than it should be).  False: they
 * cannot be read; why is for CTX to remember.
 */
struct mime_source {
    void *ctx;
    bool (*read)(void *ctx, size_t off, size_t n, struct span *ret);
};

/* The source that is *RAW, which must stay. */
struct mime_source
mime_source_of(const struct span *raw);

struct mime_folder; /* memory of mime_fold(), used again */
struct mime_folder *
mime_folder_new(void);
/* NULL is fine. */
void
mime_folder_free(struct mime_folder **f);

/*
 * Some text as mime_casemap() has it.  A field ("Name: value") or a text part
 * ends with a NUL, and nothing is found across it.  OWN_HEADER: of the
 * message's own header, which comes first and apart.  Returns how many bytes
 * from its end are to come again in front of what follows, or MIME_TAKE_STOP.
 */
typedef size_t
mime_take(void *ctx, bool own_header, struct span text);
#define MIME_TAKE_STOP SIZE_MAX

/*
 * All that SEARCH looks through, to TAKE, in pieces of tens of KiB.  Memory is
 * bounded whatever the size (but for headers); parts that are not text are not
 * looked into, nor read.  False: SRC could not be read.
 */
MUST_CHECK bool
mime_fold(const struct mime_cache *cache, const struct mime_source *src,
          enum mime_search_where where, struct mime_folder *f, mime_take *take,
          void *ctx);

struct mime_needle; /* what a SEARCH looks for, prepared once; one thread */

/* NEEDLE is UTF-8 (convert before).  An empty one is found everywhere. */
struct mime_needle *
mime_needle_new(struct span utf8);
void
mime_needle_free(struct mime_needle **needle);
/* By mime_casemap(). */
struct span
mime_needle_folded(const struct mime_needle *needle);

/* Does UTF-8 text contain it?  Case is ignored (i;unicode-casemap). */
bool
mime_needle_in(struct mime_needle *needle, struct span utf8);

/*
 * SEARCH HEADER (RFC 3501, 6.4.4): has BLOCK a field NAME whose decoded value
 * contains the needle?  SEARCH FROM, TO, CC, BCC, SUBJECT are this.
 */
bool
mime_header_search(struct span block, struct span name,
                   struct mime_needle *needle);

/* Does mime_fold() give text that has the needle?  Where SRC cannot be read,
 * there is none. */
bool
mime_source_search(const struct mime_cache *cache,
                   const struct mime_source *src, struct mime_needle *needle,
                   enum mime_search_where where);
/* The same of a message in memory. */
bool
mime_text_search(const struct mime_cache *cache, struct span raw,
                 struct mime_needle *needle, enum mime_search_where where);

#endif
