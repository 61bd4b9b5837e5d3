/*
 * metrics/http.c - see metrics/http.h.  Strict (RFC 9112): a line ends in CRLF,
 * no header goes on in a second line, and whatever could make two readers see
 * two different requests is refused.
 */
#include "metrics/http.h"

#define HEADERS_MAX 64U

static bool
is_token_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool
is_token(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_token_char(s.p[i]))
            return false;
    return s.n > 0;
}

/* Printable ASCII without blanks, beginning with '/'. */
static bool
is_target(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f)
            return false;
    return s.n > 0 && s.p[0] == '/';
}

/* HTTP/1.DIGIT; 0: it is; else what to answer. */
static unsigned
check_version(struct span s)
{
    if (s.n != 8 || !span_starts(s, SPAN_LIT("HTTP/")) || s.p[6] != '.')
        return 400;
    return s.p[5] == '1' && s.p[7] >= '0' && s.p[7] <= '9' ? 0 : 505;
}

static unsigned
request_line(struct span line, struct http_request *ret)
{
    ptrdiff_t a = span_find_byte(line, ' ', 0);
    ptrdiff_t b = a < 0 ? -1 : span_find_byte(line, ' ', (size_t)a + 1);

    if (b < 0)
        return 400;
    struct span method = span_sub(line, 0, (size_t)a);
    struct span target = span_sub(line, (size_t)a + 1, (size_t)(b - a - 1));
    struct span version = span_skip(line, (size_t)b + 1);
    unsigned wrong = check_version(version);
    if (wrong != 0)
        return wrong;
    if (!is_token(method) || !is_target(target))
        return 400;
    ret->is_head = span_eq_str(method, "HEAD");
    if (!ret->is_head && !span_eq_str(method, "GET"))
        return 405;
    ret->keep_alive = version.p[7] != '0'; /* RFC 9112, 9.3 */
    ptrdiff_t query = span_find_byte(target, '?', 0);
    ret->path = query < 0 ? target : span_sub(target, 0, (size_t)query);
    return 0;
}

/* Is WORD among the words of VALUE, which commas part? */
static bool
has_word(struct span value, const char *word)
{
    while (value.n > 0) {
        ptrdiff_t comma = span_find_byte(value, ',', 0);
        struct span one = comma < 0 ? value : span_sub(value, 0, (size_t)comma);
        value = comma < 0 ? SPAN_EMPTY : span_skip(value, (size_t)comma + 1);
        if (span_eq_nocase_str(span_trim(one), word))
            return true;
    }
    return false;
}

static unsigned
header_line(struct span line, struct http_request *ret)
{
    ptrdiff_t colon = span_find_byte(line, ':', 0);

    if (colon < 0)
        return 400;
    struct span name = span_sub(line, 0, (size_t)colon);
    struct span value = span_trim(span_skip(line, (size_t)colon + 1));
    if (!is_token(name))
        return 400;
    for (size_t i = 0; i < value.n; i++)
        if ((value.p[i] < ' ' && value.p[i] != '\t') || value.p[i] == 0x7f)
            return 400;
    if (span_eq_nocase_str(name, "Transfer-Encoding"))
        return 413;
    if (span_eq_nocase_str(name, "Content-Length") && !span_eq_str(value, "0"))
        return 413;
    if (span_eq_nocase_str(name, "Connection") && has_word(value, "close"))
        ret->keep_alive = false;
    return 0;
}

/* Length of the head with its empty line, 0 if it is not there. */
static size_t
head_length(struct span in)
{
    ptrdiff_t end = span_find(in, SPAN_LIT("\r\n\r\n"));

    return end < 0 ? 0 : (size_t)end + 4;
}

/* What cannot become a request is not waited for. */
static unsigned
check_start(struct span in)
{
    for (size_t i = 0; i < in.n && in.p[i] != ' '; i++)
        if (i >= 16 || !is_token_char(in.p[i]))
            return 400;
    return in.n > 0 && in.p[0] == ' ' ? 400 : 0;
}

enum parse
http_parse(struct span in, struct http_request *ret, size_t *ret_used,
           unsigned *ret_status)
{
    struct http_request q = {0};
    size_t n = head_length(span_sub(in, 0, HTTP_HEAD_MAX));
    unsigned wrong = check_start(in);
    unsigned headers = 0;

    if (wrong == 0 && n == 0 && in.n >= HTTP_HEAD_MAX)
        wrong = 431;
    if (wrong == 0 && n == 0)
        return PARSE_MORE;
    struct span head = span_sub(in, 0, n >= 2 ? n - 2 : 0);
    for (bool first = true; wrong == 0 && head.n > 0; first = false) {
        ptrdiff_t end = span_find(head, SPAN_LIT("\r\n"));
        ENSURE(end >= 0);
        struct span line = span_sub(head, 0, (size_t)end);
        head = span_skip(head, (size_t)end + 2);
        if (first)
            wrong = request_line(line, &q);
        else if (++headers > HEADERS_MAX)
            wrong = 431;
        else
            wrong = header_line(line, &q);
    }
    if (wrong != 0) {
        *ret_status = wrong;
        return PARSE_BAD;
    }
    *ret = q;
    *ret_used = n;
    return PARSE_DONE;
}

const char *
http_reason(unsigned status)
{
    static const struct {
        unsigned status;
        const char *text;
    } reasons[] = {
        {200, "OK"},
        {400, "Bad Request"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {413, "Content Too Large"},
        {431, "Request Header Fields Too Large"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };

    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].text;
    return "Unknown";
}

void
http_print(const struct http_response *r, const struct http_request *q,
           struct buf *out)
{
    buf_addf(out,
             "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
             "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
             "%s%s\r\n",
             r->status, http_reason(r->status), r->type, r->body.n,
             r->extra == NULL ? "" : r->extra,
             q->keep_alive ? "" : "Connection: close\r\n");
    if (!q->is_head)
        buf_add(out, r->body);
}
