/*
 * net/lineread.h - lines and literals at the front of bytes that came in.
 * No I/O: the same code serves a connection, a test and a fuzzer.
 */
#ifndef POLLUX_NET_LINEREAD_H
#define POLLUX_NET_LINEREAD_H

#include "base/rd.h"
#include "base/span.h"

/*
 * Take one line off the front of IN, ended by CRLF or a bare LF.  *RET_LINE is
 * the line without its end, pointing into IN; *RET_USED counts the end too.  A
 * line of more than MAX bytes (its end not counted) is PARSE_BAD, as soon as
 * that is certain.  A CR elsewhere, and NUL, are left to the caller.
 */
enum parse
line_take(struct span in, size_t max, struct span *ret_line, size_t *ret_used);

/* The announcement of a literal at the end of a line. */
struct literal {
    uint64_t n;   /* bytes that follow the line */
    bool nonsync; /* {n+} or {n-}: the client does not wait for "+ " */
    bool binary;  /* ~{n}: literal8 (RFC 3516, RFC 9051 9) */
};

enum literal_found {
    LITERAL_NONE,    /* the line does not end in a literal */
    LITERAL_OK,      /* it does */
    LITERAL_TOO_BIG, /* it does, of more than MAX bytes; *RET is set, with
                        n = UINT64_MAX if the number does not even fit */
};

/*
 * Does LINE (without its end) end in {n}, {n+}, {n-} or one of these after a
 * "~" (RFC 9051, 9; RFC 7888)?  *RET_BEFORE is the line without it.  Anything
 * else that ends in "}" is LITERAL_NONE: that is for the command's parser.
 */
enum literal_found
line_literal(struct span line, uint64_t max, struct literal *ret,
             struct span *ret_before);

#endif
