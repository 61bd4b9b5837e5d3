/*
 * metrics/http.h - as much of HTTP/1.1 as looking needs: GET and HEAD without a
 * body.  No I/O.
 *
 * Not evhttp: version 2.1 of libevent cannot bound how many connections it
 * has, and net/ can.
 */
#ifndef POLLUX_METRICS_HTTP_H
#define POLLUX_METRICS_HTTP_H

#include "base/buf.h"
#include "base/rd.h"

#define HTTP_HEAD_MAX 8192U /* request line and headers */

struct http_request {
    struct span path; /* without the query; into the input */
    bool is_head;
    bool keep_alive;
};

/*
 * One request off the front of IN.  PARSE_MORE: not whole yet, nothing used
 * (never with HTTP_HEAD_MAX bytes in IN).  PARSE_BAD: *RET_STATUS is what to
 * answer before hanging up: 400 (not a request), 405 (another method), 413 (it
 * has a body), 431 (too large), 505 (another version).
 */
enum parse
http_parse(struct span in, struct http_request *ret, size_t *ret_used,
           unsigned *ret_status);

/* "Not Found" */
const char *
http_reason(unsigned status);

struct http_response {
    unsigned status;
    const char *type;  /* Content-Type */
    const char *extra; /* more header lines, each with CRLF; NULL: none */
    struct span body;
};

/* Add R to OUT, without the body if it answers HEAD. */
void
http_print(const struct http_response *r, const struct http_request *q,
           struct buf *out);

#endif
