/*
 * tests/fuzz/fuzz_uidset.c - UID sets from foreign bytes.  The first byte
 * chooses text or binary; whatever is accepted must come out of both forms
 * unchanged, and the binary form byte for byte.
 */
#include "base/uidset.h"

#define RANGES_MAX 1000
#define STAR 4711

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_forms(const struct uidset *s)
{
    struct uidset back = UIDSET_INIT;
    struct buf out = BUF_INIT;

    uidset_encode(s, &out);
    struct rd r = rd_init(buf_span(&out));
    uidset_decode(&r, SIZE_MAX, &back);
    ENSURE(rd_done(&r) && uidset_eq(s, &back));
    if (s->n > 0) {
        buf_clear(&out);
        uidset_clear(&back);
        uidset_format(s, &out);
        ENSURE(uidset_parse(buf_span(&out), 0, s->n, &back));
        ENSURE(uidset_eq(s, &back));
    }
    buf_free(&out);
    uidset_free(&back);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = {data, size};
    struct uidset s = UIDSET_INIT;

    if (size == 0)
        return 0;
    in = span_skip(in, 1);
    if (data[0] % 2 == 0) {
        if (uidset_parse(in, STAR, RANGES_MAX, &s))
            check_forms(&s);
    } else {
        struct rd r = rd_init(in);
        uidset_decode(&r, RANGES_MAX, &s);
        if (!r.bad) {
            struct buf again = BUF_INIT;
            uidset_encode(&s, &again);
            ENSURE(span_eq(buf_span(&again), span_sub(in, 0, in.n - r.left.n)));
            buf_free(&again);
            check_forms(&s);
        }
    }
    uidset_free(&s);
    return 0;
}
