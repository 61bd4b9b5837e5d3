/*
 * tests/fuzz/fuzz_mime_cache.c - any bytes as a cache record: what decodes
 * keeps its promises.
 */
#include <stdint.h>

#include "mime/text.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const paths[] = {"",    "TEXT",     "1",
                                        "1.1", "1.HEADER", "2.1.MIME"};
    struct mime_cache c;
    struct mime_part part;
    struct span id;
    uint32_t n = 0;

    if (mime_cache_decode(span_of(data, size), &c, NULL) != ERR_OK)
        return 0;
    struct mime_part_iter iter = mime_part_iter(&c);
    while (mime_part_next(&iter, &part)) {
        ENSURE(part.body_off + part.body_bytes <= c.message_size);
        n++;
    }
    ENSURE(n == c.nparts);
    struct span refs = c.refs;
    for (n = 0; mime_cache_ref(&refs, &id); n++)
        ENSURE(id.n <= size);
    ENSURE(n == c.nrefs);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct mime_section s;
        if (mime_section_find(&c, span_str(paths[i]), &s) == ERR_OK)
            ENSURE(s.off + s.bytes <= c.message_size);
    }
    /* A record may belong to another message: nothing beyond that is read. */
    struct mime_needle *needle = mime_needle_new(SPAN_LIT("x"));
    (void)mime_text_search(&c, span_of(data, size), needle, MIME_SEARCH_TEXT);
    mime_needle_free(&needle);
    return 0;
}
