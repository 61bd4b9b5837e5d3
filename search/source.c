/*
 * search/source.c - most mail is a few KiB, and one read of it costs less than
 * two; of mail with attachments only header and texts are read.
 */
#include "search/source.h"

#define AT_ONCE_BYTES 65536U

void
stored_source_set(struct stored_source *s, struct store *store,
                  const struct guid *guid, uint64_t size)
{
    s->store = store;
    s->guid = *guid;
    s->size = size;
    s->has_all = false;
    s->err = (struct error){0};
}

static bool
read_stored(void *ctx, size_t off, size_t n, struct span *ret)
{
    struct stored_source *s = ctx;
    const bool small = s->size <= AT_ONCE_BYTES;

    if (s->has_all) {
        *ret = span_sub(buf_span(&s->bytes), off, n);
        return true;
    }
    if (s->bytes.cap > 16 * AT_ONCE_BYTES)
        buf_free(&s->bytes);
    buf_clear(&s->bytes);
    enum errcode rc = store_body_read(s->store, &s->guid, small ? 0 : off,
                                      small ? s->size : n, &s->bytes, &s->err);
    if (rc != ERR_OK)
        return false;
    s->has_all = small;
    *ret = small ? span_sub(buf_span(&s->bytes), off, n) : buf_span(&s->bytes);
    return true;
}

struct mime_source
stored_source(struct stored_source *s)
{
    return (struct mime_source){.ctx = s, .read = read_stored};
}

void
stored_source_free(struct stored_source *s)
{
    buf_free(&s->bytes);
    *s = (struct stored_source){0};
}
