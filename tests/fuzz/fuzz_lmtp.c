/*
 * tests/fuzz/fuzz_lmtp.c - bytes of an LMTP client through a whole session. The
 * first byte says in pieces of how many bytes they come and, by its highest
 * bit, whether the client must log in.  Whatever they are, each line of output
 * is a reply, and a session ends with nothing under way.
 */
#include "tests/lmtpd/lmtptest.h"

#include "base/log.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_replies(struct span out)
{
    while (out.n > 0) {
        ptrdiff_t end = span_find(out, SPAN_LIT("\r\n"));
        ENSURE(end >= 4 && out.p[0] >= '2' && out.p[0] <= '5');
        ENSURE(out.p[3] == ' ' || out.p[3] == '-');
        out = span_skip(out, (size_t)end + 2);
    }
}

/* A message has no bare CR, no bare LF and no NUL, and begins with ours. */
static void
check_messages(struct span all)
{
    for (size_t i = 0; i < all.n; i++) {
        ENSURE(all.p[i] != 0);
        ENSURE(all.p[i] != '\n' || (i > 0 && all.p[i - 1] == '\r'));
        ENSURE(all.p[i] != '\r' || (i + 1 < all.n && all.p[i + 1] == '\n'));
    }
    ENSURE(all.n == 0 || span_find(all, SPAN_LIT(": Return-Path: <")) >= 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lt t;
    struct error err = {0};
    static bool quiet;

    if (size == 0)
        return 0;
    if (!quiet) {
        quiet = true;
        ENSURE(log_open(LOG_TO_FILE, "/dev/null", "fuzz", LOG_LV_ERROR, &err) ==
               ERR_OK);
    }
    size_t piece = (data[0] & 0x7f) == 0 ? size : data[0] & 0x7f;
    lt_options(&t);
    lt_start(&t, (data[0] & 0x80) == 0);
    lt_feed(&t, span_of(data + 1, size - 1), piece);
    check_replies(buf_span(&t.out));
    check_messages(buf_span(&t.delivered));
    lt_end(&t);
    return 0;
}
