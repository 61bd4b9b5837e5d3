/*
 * tests/imapd/talking.h - sessions of a world of tests/imapd/fake_io.h in a
 * test's words: what is sent, and exactly what is answered.
 */
#ifndef POLLUX_TESTS_IMAPD_TALKING_H
#define POLLUX_TESTS_IMAPD_TALKING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/imapd/fake_io.h"

static struct fake_world world;

/* ---- talking ----------------------------------------------------------- */

/*
 * UIDVALIDITY, MAILBOXID and CAPABILITY, wherever they stand, become V.
 * Mod-sequences are told by the order in which they turn up: M1, M2 ...; in
 * what is sent M1 is the number again.
 */
static uint64_t modseqs[100];
static size_t nmodseqs;

#define MODSEQ_LEAST (UINT64_C(1) << 43)

static inline void
name_modseq(struct buf *to, uint64_t v)
{
    size_t i = 0;

    while (i < nmodseqs && modseqs[i] != v)
        i++;
    if (i == nmodseqs && nmodseqs < ARRAY_LEN(modseqs))
        modseqs[nmodseqs++] = v;
    buf_addf(to, "M%zu", i + 1);
}

static inline size_t
digits(struct span s)
{
    size_t n = 0;

    while (n < s.n && s.p[n] >= '0' && s.p[n] <= '9')
        n++;
    return n;
}

static inline void
normalize(struct buf *out)
{
    static const char *const before[] = {"UIDVALIDITY ", "APPENDUID ",
                                         "COPYUID ", "MAILBOXID (",
                                         "ANNOTATIONS "};
    struct buf to = BUF_INIT;

    for (size_t i = 0; i < out->n;) {
        struct span left = span_skip(buf_span(out), i);
        size_t k = 0;
        uint64_t v = 0;
        size_t n = digits(left);
        if (n > 12 && parse_u64(span_sub(left, 0, n), &v) &&
            v >= MODSEQ_LEAST) {
            name_modseq(&to, v);
            i += n;
            continue;
        }
        if (span_starts(left, SPAN_LIT("* CAPABILITY "))) {
            buf_add_str(&to, "* CAPABILITY V");
            i += (size_t)span_find_byte(left, '\r', 0);
            continue;
        }
        if (span_starts(left, SPAN_LIT("[CAPABILITY "))) {
            buf_add_str(&to, "[CAPABILITY V]");
            i += (size_t)span_find_byte(left, ']', 0) + 1;
            continue;
        }
        while (k < ARRAY_LEN(before) && !span_starts(left, span_str(before[k])))
            k++;
        if (k == ARRAY_LEN(before)) {
            size_t take = MAX(n, (size_t)1);
            buf_add(&to, span_sub(left, 0, take));
            i += take;
            continue;
        }
        buf_add_str(&to, before[k]);
        buf_add_byte(&to, 'V');
        i += strlen(before[k]);
        while (i < out->n && memchr(" ])\r", out->p[i], 4) == NULL)
            i++;
    }
    buf_free(out);
    *out = to;
}

/* "M1" in what is sent becomes the number that was told. */
static inline void
add_line(struct fake_client *c, const char *send)
{
    for (const char *p = send; *p != '\0'; p++) {
        size_t i = (size_t)(p[0] == 'M' && p[1] >= '1' && p[1] <= '9' &&
                                    (p == send || p[-1] == ' ')
                                ? p[1] - '0'
                                : 0);
        if (i > 0 && i <= nmodseqs) {
            buf_addf(&c->in, "%" PRIu64, modseqs[i - 1]);
            p++;
        } else {
            buf_add_byte(&c->in, (uint8_t)*p);
        }
    }
    buf_add_str(&c->in, "\r\n");
}

static inline void
expect(struct fake_client *c, const char *want)
{
    fake_turn(c->world);
    normalize(&c->out);
    if (!span_eq_str(buf_span(&c->out), want))
        fail_msg("got:\n%s\nwanted:\n%s", buf_cstr(&c->out), want);
    buf_clear(&c->out);
}

/* Send and compare; each line of WANT ends in CRLF. */
static inline void
talk(struct fake_client *c, const char *send, const char *want)
{
    add_line(c, send);
    expect(c, want);
}

static inline void
quiet(struct fake_client *c, const char *send)
{
    add_line(c, send);
    fake_turn(c->world);
    if (span_find(buf_span(&c->out), SPAN_LIT(" OK ")) < 0)
        fail_msg("%s: %s", send, buf_cstr(&c->out));
    buf_clear(&c->out);
}

static inline struct fake_client *
login(size_t i, const char *user)
{
    struct fake_client *c = fake_connect(&world, i);
    char line[100];

    buf_clear(&c->out);
    snprintf(line, sizeof(line), "l LOGIN %s secret", user);
    quiet(c, line);
    return c;
}

static inline void
append(struct fake_client *c, const char *mailbox, const char *args,
       const char *message)
{
    struct buf b = BUF_INIT;

    buf_addf(&b, "p APPEND %s %s{%zu+}\r\n%s", mailbox, args, strlen(message),
             message);
    quiet(c, buf_cstr(&b));
    buf_free(&b);
}

#define MSG_A                                                                  \
    "From: Ann <ann@example.org>\r\n"                                          \
    "To: bob@example.org\r\n"                                                  \
    "Subject: first\r\n"                                                       \
    "Date: Wed, 17 Jul 1996 02:23:25 -0700\r\n"                                \
    "\r\n"                                                                     \
    "Hello world\r\n"

#define MSG_B                                                                  \
    "From: Carl <carl@example.org>\r\n"                                        \
    "Subject: second\r\n"                                                      \
    "MIME-Version: 1.0\r\n"                                                    \
    "Content-Type: multipart/mixed; boundary=x\r\n"                            \
    "\r\n"                                                                     \
    "--x\r\n"                                                                  \
    "\r\n"                                                                     \
    "part one\r\n"                                                             \
    "--x\r\n"                                                                  \
    "Content-Type: text/html\r\n"                                              \
    "\r\n"                                                                     \
    "<p>two</p>\r\n"                                                           \
    "--x--\r\n"

#define DATE "\" 1-Feb-2020 10:00:00 +0100\" "

static inline int
setup(void **state)
{
    (void)state;
    nmodseqs = 0;
    fake_open(&world);
    return 0;
}

static inline int
teardown(void **state)
{
    (void)state;
    fake_close_world(&world);
    return 0;
}

#endif
