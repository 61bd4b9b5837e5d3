/*
 * imapd/reader.h - from bytes to whole commands: lines joined with the literals
 * in them (RFC 3501, 4.3; RFC 7888).  No I/O.
 *
 * The text of a command keeps its literals where they stood, announcement
 * included: "A1 LOGIN {4}\r\nfred {6}\r\nsecret".  A literal that is streamed
 * (APPEND's message) leaves its announcement only.
 */
#ifndef POLLUX_IMAPD_READER_H
#define POLLUX_IMAPD_READER_H

#include "base/buf.h"
#include "net/lineread.h"

struct imap_reader_limits {
    size_t line_bytes;    /* of one line */
    size_t command_bytes; /* of a whole command in memory, literals included */
};

enum imap_reader_state {
    READER_LINE,    /* lines of a command */
    READER_DECIDE,  /* a literal was announced: the caller decides */
    READER_LITERAL, /* its bytes go into the text */
    READER_STREAM,  /* its bytes go to the caller */
    READER_SKIP,    /* the rest of a refused command */
};

struct imap_reader {
    struct imap_reader_limits limits;
    enum imap_reader_state state;
    struct buf text;
    struct literal literal; /* the one announced last */
    uint64_t left;          /* bytes of it still to come */
    struct span chunk;      /* IMAP_READ_CHUNK: points into the input */
    uint8_t tail[40];       /* READER_SKIP: how the line ends so far */
    size_t tail_bytes;
    bool is_over; /* the text was a whole command: the next one starts anew */
};

enum imap_read {
    IMAP_READ_MORE,     /* wants more input */
    IMAP_READ_COMMAND,  /* text is a whole command, without its line end */
    IMAP_READ_DECIDE,   /* text ends in a literal's announcement, CRLF included:
                           imap_reader_keep(), _stream() or _refuse() */
    IMAP_READ_CHUNK,    /* chunk is part of a streamed literal */
    IMAP_READ_STREAMED, /* that was all of it */
    IMAP_READ_TOO_LONG, /* a line or a command beyond the limits; text is how it
                           began; the rest of it will be skipped */
    IMAP_READ_SKIPPED,  /* the rest of a refused command is over */
};

void
imap_reader_init(struct imap_reader *r,
                 const struct imap_reader_limits *limits);
void
imap_reader_free(struct imap_reader *r);
/* Between commands: forget the text and its memory. */
void
imap_reader_reset(struct imap_reader *r);
/*
 * Take the next event off IN; *RET_USED bytes of it are used.  Not while a
 * decision is due.
 */
enum imap_read
imap_reader_take(struct imap_reader *r, struct span in, size_t *ret_used);
/* The literal goes into the text; false if it does not fit there (then refuse
 * it). */
MUST_CHECK bool
imap_reader_keep(struct imap_reader *r);
void
imap_reader_stream(struct imap_reader *r);
/*
 * The command is refused.  A client that waits for "+ " (not nonsync) will not
 * send the literal, the next bytes are a new command; else what comes of the
 * command is skipped, IMAP_READ_SKIPPED says when.
 */
void
imap_reader_refuse(struct imap_reader *r);

#endif
