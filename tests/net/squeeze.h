/*
 * tests/net/squeeze.h - a client's side of DEFLATE byte by byte, with an end of
 * the stream, which struct bclient does not have.
 */
#ifndef POLLUX_TESTS_SQUEEZE_H
#define POLLUX_TESTS_SQUEEZE_H

#include "net_test.h"
#include "net/zpipe.h"

static inline void
add_to(void *ctx, struct span out)
{
    buf_add(ctx, out);
}

enum ending {
    BY_FLUSH,
    BY_FINAL_BLOCK,
    BY_BOTH,
};

/* TEXT compressed, with an end. */
static inline void
squeeze(struct zpipe *z, const char *text, enum ending how, struct buf *out)
{
    zpipe_deflate(z, span_str(text), add_to, out);
    if (how != BY_FINAL_BLOCK)
        zpipe_flush(z, add_to, out);
    if (how != BY_FLUSH)
        zpipe_end_output(z, add_to, out);
}

/* A compressed line, byte for byte. */
static inline void
hear_squeezed(struct bclient *c, struct zpipe *z, const char *want)
{
    struct error err = {0};
    struct buf got = BUF_INIT;
    bool end = false;

    while (got.n < 2 || got.p[got.n - 1] != '\n') {
        uint8_t byte, plain[16];
        size_t n = 0;
        ASSERT_OK(bclient_read_exact(c, &byte, 1, PATIENCE_MS, &err));
        zpipe_feed(z, span_of(&byte, 1));
        do {
            ASSERT_OK(zpipe_inflate(z, plain, sizeof(plain), &n, &end, &err));
            buf_add(&got, span_of(plain, n));
        } while (n > 0);
    }
    buf_add_byte(&got, 0);
    assert_string_equal((const char *)got.p, want);
    buf_free(&got);
}

/* Up to the final block. */
static inline void
hear_stream_end(struct bclient *c, struct zpipe *z)
{
    struct error err = {0};
    bool end = false;

    while (!end) {
        uint8_t byte, plain;
        size_t n = 0;
        ASSERT_OK(zpipe_inflate(z, &plain, 1, &n, &end, &err));
        assert_int_equal(n, 0);
        if (end)
            break;
        ASSERT_OK(bclient_read_exact(c, &byte, 1, PATIENCE_MS, &err));
        zpipe_feed(z, span_of(&byte, 1));
    }
    assert_int_equal(zpipe_unused(z).n, 0);
}

#endif
