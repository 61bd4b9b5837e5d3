/*
 * base/log.c - lines that cannot be forged.
 *
 * A line is put together in a buffer on the stack and leaves in one write(2),
 * to a descriptor opened with O_APPEND, or one syslog(3): lines of several
 * threads and processes never mix, and no lock is taken.
 *
 * To tell the quotes of a format from the quotes in a value, the format is
 * walked here instead of handing it to vsnprintf whole: literal text is copied,
 * numbers (but plain unsigned ones) go through snprintf one at a time, and the
 * bytes of a %s are escaped
 * (\" \\ \n \r \t, else \xHH for control bytes and what is not UTF-8).  A
 * string outside of quotes which has blanks or anything to escape gets quotes.
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 4096
/* Kept free for the mark of a cut line: closing quote, mark, newline, NUL. */
#define TAIL_BYTES 16
#define CUT_MARK " cut=1"

static struct {
    enum log_target target;
    int fd;
    char *path;
    char *ident;
    _Atomic int least;
} sink = {.target = LOG_TO_STDERR, .fd = STDERR_FILENO, .least = LOG_LV_NOTICE};

static const struct {
    const char *name;
    int priority;
} levels[] = {
    [LOG_LV_DEBUG] = {"debug", LOG_DEBUG},
    [LOG_LV_INFO] = {"info", LOG_INFO},
    [LOG_LV_NOTICE] = {"notice", LOG_NOTICE},
    [LOG_LV_WARN] = {"warn", LOG_WARNING},
    [LOG_LV_ERROR] = {"error", LOG_ERR},
};

struct line {
    char text[LINE_BYTES];
    size_t n;
    bool cut;
    bool quoted; /* what is put next stands between quotes */
};

/* All of S or, when there is no room, nothing any more. */
static void
put(struct line *l, const char *s, size_t n)
{
    if (l->cut || n > LINE_BYTES - TAIL_BYTES - l->n) {
        l->cut = true;
        return;
    }
    memcpy(l->text + l->n, s, n);
    l->n += n;
}

/* As much of S as there is room for; one byte is one character. */
static void
put_run(struct line *l, const char *s, size_t n)
{
    const size_t room = l->cut ? 0 : LINE_BYTES - TAIL_BYTES - l->n;

    put(l, s, MIN(n, room));
    l->cut = l->cut || n > room;
}

static void
put_str(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

/*
 * Bytes of the character at P that may stand as it is, 0 if P[0] must be
 * escaped: control characters (C1 too), and what is not UTF-8 (RFC 3629, 4).
 */
static size_t
plain_bytes(const uint8_t *p, size_t n)
{
    if (p[0] < 0x80)
        return p[0] >= 0x20 && p[0] != 0x7f;

    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool c1 = p[0] == 0xc2 && p[1] < 0xa0;
    bool overlong =
        (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool outside =
        (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f);
    return c1 || overlong || outside ? 0 : len;
}

static bool
is_plain_ascii(uint8_t c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void
put_escaped(struct line *l, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n;) {
        size_t run = 0;
        while (i + run < n && is_plain_ascii(p[i + run]))
            run++;
        if (run > 0) {
            put_run(l, (const char *)p + i, run);
            i += run;
            continue;
        }
        size_t len = plain_bytes(p + i, n - i);
        if (p[i] == '"' || p[i] == '\\') {
            put(l, (char[]){'\\', (char)p[i]}, 2);
            i++;
        } else if (len > 0) {
            put(l, (const char *)p + i, len);
            i += len;
        } else {
            const char *at = strchr("\nn\rr\tt", p[i]);
            if (p[i] != '\0' && at != NULL)
                put(l, (char[]){'\\', at[1]}, 2);
            else
                put(l,
                    (char[]){'\\', 'x', digits[p[i] >> 4], digits[p[i] & 15]},
                    4);
            i++;
        }
    }
}

static bool
needs_quotes(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] <= ' ' || p[i] >= 0x7f || p[i] == '"' || p[i] == '\\')
            return true;
    return n == 0;
}

/* A string value; a precision below 0 is none. */
static void
put_value(struct line *l, const char *s, int precision)
{
    if (s == NULL)
        s = precision == 0 ? "" : "(null)";
    size_t n = precision < 0 ? strlen(s) : strnlen(s, (size_t)precision);
    bool quotes = !l->quoted && needs_quotes((const uint8_t *)s, n);

    if (quotes) {
        put(l, "\"", 1);
        l->quoted = true;
    }
    put_escaped(l, (const uint8_t *)s, n);
    if (quotes && !l->cut) {
        put(l, "\"", 1);
        l->quoted = l->cut;
    }
}

/* One conversion of a format, "%-08.3llu" taken apart. */
struct conversion {
    char spec[40]; /* to hand to snprintf */
    int precision; /* -1: none */
    char length;   /* 0, 'H' (hh), 'h', 'l', 'L' (ll), 'z', 'j', 't' */
    char type;
};

/* Digits or "*"; what was there is put into the spec as a number. */
static const char *
take_number(const char *f, va_list *args, int *ret, struct buf *spec)
{
    if (*f == '*') {
        *ret = va_arg(*args, int);
        buf_addf(spec, "%d", *ret);
        return f + 1;
    }
    for (*ret = 0; *f >= '0' && *f <= '9'; f++) {
        *ret = *ret < 1000 ? *ret * 10 + (*f - '0') : *ret;
        buf_add_byte(spec, (uint8_t)*f);
    }
    return f;
}

/* F is behind the "%"; answers what follows, NULL for what we do not know. */
static const char *
take_conversion(const char *f, va_list *args, struct conversion *ret)
{
    uint8_t room[sizeof(ret->spec)];
    struct buf spec = {.p = room, .cap = sizeof(room), .max = sizeof(room) - 1};
    int width;

    *ret = (struct conversion){.precision = -1};
    buf_add_byte(&spec, '%');
    for (; *f != '\0' && strchr("-+ #0", *f) != NULL; f++)
        buf_add_byte(&spec, (uint8_t)*f);
    f = take_number(f, args, &width, &spec);
    if (*f == '.') {
        buf_add_byte(&spec, '.');
        f = take_number(f + 1, args, &ret->precision, &spec);
    }
    for (; *f != '\0' && strchr("hlzjt", *f) != NULL; f++) {
        if (ret->length != 0)
            ret->length = *f == 'h' ? 'H' : 'L';
        else
            ret->length = *f;
        buf_add_byte(&spec, (uint8_t)*f);
    }
    if (*f == '\0' || strchr("diouxXcspeEfFgGaA", *f) == NULL)
        return NULL;
    ret->type = *f;
    buf_add_byte(&spec, (uint8_t)*f);
    if (spec.full)
        return NULL;
    memcpy(ret->spec, room, spec.n);
    ret->spec[spec.n] = '\0';
    return f + 1;
}

/* V with leading zeros up to WIDTH digits; those of larger ones too. */
static void
put_digits(struct line *l, uint64_t v, size_t width)
{
    char digits[20];
    size_t at = sizeof(digits);

    while (v > 0 || sizeof(digits) - at < width) {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    }
    put(l, digits + at, sizeof(digits) - at);
}

/* Of "%u" and its kin with a length, but nothing else: true if it was. */
static bool
put_plain_unsigned(struct line *l, const struct conversion *c, va_list *args)
{
    if (c->type != 'u' || strspn(c->spec + 1, "hlzjt") + 2 != strlen(c->spec))
        return false;
    switch (c->length) {
    case 0:
        put_digits(l, va_arg(*args, unsigned), 1);
        return true;
    case 'l':
        put_digits(l, va_arg(*args, unsigned long), 1);
        return true;
    case 'z':
        put_digits(l, va_arg(*args, size_t), 1);
        return true;
    default:
        return false;
    }
}

/* The specs come from formats that the compiler has checked at the call. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

static void
put_number(struct line *l, const struct conversion *c, va_list *args)
{
    char out[512];
    int n;

    if (strchr("eEfFgGaA", c->type) != NULL)
        n = snprintf(out, sizeof(out), c->spec, va_arg(*args, double));
    else if (c->type == 'p')
        n = snprintf(out, sizeof(out), c->spec, va_arg(*args, void *));
    else if (c->length == 'l')
        n = snprintf(out, sizeof(out), c->spec, va_arg(*args, long));
    else if (c->length == 'L')
        n = snprintf(out, sizeof(out), c->spec, va_arg(*args, long long));
    else if (c->length == 'z')
        n = snprintf(out, sizeof(out), c->spec, va_arg(*args, size_t));
    else if (c->length == 'j')
        n = snprintf(out, sizeof(out), c->spec, va_arg(*args, intmax_t));
    else if (c->length == 't')
        n = snprintf(out, sizeof(out), c->spec, va_arg(*args, ptrdiff_t));
    else
        n = snprintf(out, sizeof(out), c->spec, va_arg(*args, int));
    if (n > 0)
        put(l, out, MIN((size_t)n, sizeof(out) - 1));
}

#pragma GCC diagnostic pop

static const char *
put_conversion(struct line *l, const char *f, va_list *args)
{
    struct conversion c;

    if (*f == '%') {
        put(l, "%", 1);
        return f + 1;
    }
    const char *next = take_conversion(f, args, &c);
    if (next == NULL)
        return NULL;
    if (c.type == 's') {
        put_value(l, va_arg(*args, const char *), c.precision);
    } else if (c.type == 'c') {
        char byte = (char)va_arg(*args, int);
        put_value(l, byte == '\0' ? "\\0" : (char[]){byte, '\0'}, -1);
    } else if (!put_plain_unsigned(l, &c, args)) {
        put_number(l, &c, args);
    }
    return next;
}

static void
put_format(struct line *l, const char *f, va_list *args)
{
    while (f != NULL && *f != '\0' && !l->cut) {
        if (*f == '%') {
            f = put_conversion(l, f + 1, args);
            continue;
        }
        if (*f == '"')
            l->quoted = !l->quoted;
        const size_t run = strcspn(f + 1, "%\"");
        put_run(l, f, run + 1);
        f += run + 1;
    }
    if (f == NULL)
        put_str(l, " (bad format)");
}

/* "2026-03-01T12:00:00", which is the same for many lines of a thread. */
static void
put_second(struct line *l, time_t now_s)
{
    static _Thread_local time_t made_s = -1;
    static _Thread_local char text[32];
    static _Thread_local size_t n;

    if (now_s != made_s) {
        struct tm tm = {0};
        gmtime_r(&now_s, &tm);
        n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
        made_s = now_s;
    }
    put(l, text, n);
}

/* "2026-03-01T12:00:00.123Z pollux/be[4711] notice " */
static void
put_head(struct line *l, enum log_level level)
{
    struct timespec now = {0};

    clock_gettime(CLOCK_REALTIME, &now);
    put_second(l, now.tv_sec);
    put_str(l, ".");
    put_digits(l, (uint64_t)now.tv_nsec / 1000000, 3);
    put_str(l, "Z ");
    put_str(l, sink.ident == NULL ? "pollux" : sink.ident);
    put_str(l, "[");
    put_digits(l, (uint64_t)getpid(), 1);
    put_str(l, "] ");
    put_str(l, levels[level].name);
    put_str(l, " ");
}

/* Escape what could end the line, but leave blanks and quotes alone. */
static void
put_prefix(struct line *l, const char *prefix)
{
    put(l, " ", 1);
    for (; *prefix != '\0'; prefix++) {
        if ((uint8_t)*prefix < 0x20 || *prefix == 0x7f)
            put_escaped(l, (const uint8_t *)prefix, 1);
        else
            put(l, prefix, 1);
    }
}

static void
send_line(const struct line *l, enum log_level level)
{
    if (sink.target == LOG_TO_SYSLOG) {
        syslog(levels[level].priority, "%.*s", (int)(l->n - 1), l->text);
        return;
    }
    ssize_t rc;
    do
        rc = write(sink.fd, l->text, l->n);
    while (rc < 0 && errno == EINTR);
    /* Nobody is left to be told that the log cannot be written. */
}

void
log_line(const struct log_ctx *ctx, enum log_level level, const char *event,
         const char *fmt, ...)
{
    if ((int)level < atomic_load_explicit(&sink.least, memory_order_relaxed))
        return;

    int saved_errno = errno;
    struct line l;
    va_list args;
    l.n = 0;
    l.cut = false;
    l.quoted = false;
    if (sink.target != LOG_TO_SYSLOG)
        put_head(&l, level);
    put_str(&l, event);
    if (ctx != NULL && ctx->prefix[0] != '\0')
        put_prefix(&l, ctx->prefix);
    if (fmt[0] != '\0')
        put(&l, " ", 1);
    va_start(args, fmt);
    put_format(&l, fmt, &args);
    va_end(args);

    /* The tail was kept free for this. */
    if (l.cut) {
        if (l.quoted)
            l.text[l.n++] = '"';
        memcpy(l.text + l.n, CUT_MARK, sizeof(CUT_MARK) - 1);
        l.n += sizeof(CUT_MARK) - 1;
    }
    l.text[l.n++] = '\n';
    send_line(&l, level);
    errno = saved_errno;
}

static int
open_file(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY,
                0640);
}

enum errcode
log_open(enum log_target target, const char *path, const char *ident,
         enum log_level least, struct error *err)
{
    int fd = STDERR_FILENO;

    if (target == LOG_TO_FILE) {
        fd = open_file(path);
        if (fd < 0)
            return error_set_errno(err, errno, "open log file %s", path);
    }
    log_close();
    sink.ident = xstrdup(ident);
    sink.path = target == LOG_TO_FILE ? xstrdup(path) : NULL;
    sink.fd = fd;
    sink.target = target;
    atomic_store(&sink.least, (int)least);
    if (target == LOG_TO_SYSLOG)
        openlog(sink.ident, LOG_PID | LOG_NDELAY, LOG_MAIL);
    return ERR_OK;
}

void
log_reopen(void)
{
    if (sink.target != LOG_TO_FILE)
        return;

    int fd = open_file(sink.path);
    if (fd < 0) {
        log_warn(NULL, "log.reopen_failed",
                 "path=\"%s\" why=\"%s\" kept=\"old file\"", sink.path,
                 strerrordesc_np(errno));
        return;
    }
    /* The number stays: a thread in the middle of a line writes to old or new.
     */
    if (dup3(fd, sink.fd, O_CLOEXEC) < 0)
        log_warn(NULL, "log.reopen_failed",
                 "path=\"%s\" why=\"%s\" kept=\"old file\"", sink.path,
                 strerrordesc_np(errno));
    close(fd);
}

void
log_close(void)
{
    if (sink.target == LOG_TO_SYSLOG)
        closelog();
    if (sink.target == LOG_TO_FILE)
        close(sink.fd);
    sink.target = LOG_TO_STDERR;
    sink.fd = STDERR_FILENO;
    xfree(&sink.path);
    xfree(&sink.ident);
}

/* "2026-03-01T12:00:00.123Z pollux": how each of our lines begins. */
static bool
is_our_line(struct span line)
{
    static const char form[] = "0000-00-00T00:00:00.000Z pollux";

    if (line.n < sizeof(form) - 1 || line.n > LINE_BYTES - 1)
        return false;
    for (size_t i = 0; form[i] != '\0'; i++) {
        bool digit = line.p[i] >= '0' && line.p[i] <= '9';
        if (form[i] == '0' ? !digit : line.p[i] != (uint8_t)form[i])
            return false;
    }
    for (size_t i = 0, len = 0; i < line.n; i += len) {
        len = plain_bytes(line.p + i, line.n - i);
        if (len == 0)
            return false;
    }
    return true;
}

bool
log_relay(struct span line)
{
    size_t level = 0;
    struct line l;
    ptrdiff_t at = is_our_line(line) ? span_find(line, SPAN_LIT("] ")) : -1;

    if (at < 0)
        return false;
    struct span rest = span_skip(line, (size_t)at + 2);
    for (; level < ARRAY_LEN(levels); level++)
        if (span_starts(rest, span_str(levels[level].name)))
            break;
    if (level == ARRAY_LEN(levels))
        return false;
    if ((int)level < atomic_load_explicit(&sink.least, memory_order_relaxed))
        return true;
    if (sink.target == LOG_TO_SYSLOG)
        line = span_skip(rest, strlen(levels[level].name) + 1);
    memcpy(l.text, line.p, line.n);
    l.n = line.n;
    l.text[l.n++] = '\n';
    send_line(&l, (enum log_level)level);
    return true;
}
