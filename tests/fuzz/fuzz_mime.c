/*
 * tests/fuzz/fuzz_mime.c - any bytes as a message: parse, encode, decode, find
 * and read every part, search.  The first byte chooses the limits.
 */
#include <stdint.h>
#include <stdio.h>

#include "mime/header.h"
#include "mime/text.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
read_parts(const struct mime_cache *cache, struct span raw)
{
    struct mime_part_iter iter = mime_part_iter(cache);
    struct mime_part part;
    uint32_t n = 0;

    while (mime_part_next(&iter, &part)) {
        struct buf out = BUF_MAX(1U << 20);
        struct span name = SPAN_LIT("Content-Type");
        ENSURE(part.body_off + part.body_bytes <= raw.n);
        ENSURE(part.body_off == part.header_off + part.header_bytes);
        struct span header = span_sub(raw, part.header_off, part.header_bytes);
        mime_decode(part.encoding,
                    span_sub(raw, part.body_off, part.body_bytes), &out);
        buf_clear(&out);
        mime_header_fields(header, &name, 1, true, &out);
        ENSURE(out.n <= header.n + 4);
        buf_free(&out);
        n++;
    }
    ENSURE(n == cache->nparts);
}

static void
find_sections(const struct mime_cache *cache, struct span raw)
{
    static const char *const paths[] = {
        "",           "HEADER", "TEXT", "1",        "1.MIME", "1.HEADER",
        "1.TEXT",     "2",      "1.1",  "1.1.MIME", "1.2",    "2.1",
        "1.1.1",      "2.TEXT", "1.x",  "0",        "1.",     "2.2.2.HEADER",
        "9.9.9.9.9.9"};

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct mime_section s;
        if (mime_section_find(cache, span_str(paths[i]), &s) == ERR_OK)
            ENSURE(s.off + s.bytes <= raw.n);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    unsigned choice = size > 0 ? data[0] : 0;
    struct mime_limits limits = {.depth = choice & 3,
                                 .parts = choice >> 2 & 7,
                                 .addresses = choice >> 5 & 3,
                                 .params = choice >> 7};
    struct span raw = span_skip(in, 1);
    struct mime_message *m = NULL;
    struct buf record = BUF_INIT;
    struct mime_cache cache;

    mime_parse(raw, &limits, &m);
    mime_cache_encode(m, &record);
    mime_message_free(&m);
    ENSURE(mime_cache_decode(buf_span(&record), &cache, NULL) == ERR_OK);
    ENSURE(cache.message_size == raw.n);
    read_parts(&cache, raw);
    find_sections(&cache, raw);
    struct mime_needle *needle = mime_needle_new(SPAN_LIT("no\xC3\xA4where"));
    (void)mime_text_search(&cache, raw, needle, MIME_SEARCH_TEXT);
    mime_needle_free(&needle);
    buf_free(&record);
    return 0;
}
