/*
 * synclog/window.c - reading a segment forward in large pieces.
 *
 * One buffer of at most 1 MiB that grows to the largest frame; what is asked
 * for is bounded by FRAME_PAYLOAD_MAX before it comes here.
 */
#include "synclog/synclog_private.h"

enum errcode
window_get(struct window *w, uint64_t offset, size_t n, struct span *ret,
           struct error *err)
{
    if (offset >= w->offset && offset - w->offset < w->bytes.n &&
        w->bytes.n - (offset - w->offset) >= n) {
        *ret = span_skip(buf_span(&w->bytes), (size_t)(offset - w->offset));
        return ERR_OK;
    }

    size_t want = MAX(n, w->ahead != 0 ? w->ahead : WINDOW_BYTES);
    w->ahead = MIN(2 * w->ahead, WINDOW_BYTES);
    size_t got = 0;
    buf_clear(&w->bytes);
    uint8_t *to = buf_reserve(&w->bytes, want);
    ENSURE(to != NULL);
    enum errcode rc = env_pread_some(w->file, to, want, offset, &got, err);
    if (rc != ERR_OK)
        return rc;
    w->offset = offset;
    w->bytes.n = got;
    *ret = buf_span(&w->bytes);
    return ERR_OK;
}

void
window_forget(struct window *w)
{
    buf_clear(&w->bytes);
}

void
window_free(struct window *w)
{
    buf_free(&w->bytes);
}
