/*
 * tests/fuzz/fuzz_keys.c - any bytes as an entry of SORT's and THREAD's keys
 * (imapd/keys.c): what decodes lies within the bytes.
 */
#include <stdint.h>

#include "imapd/keys.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct message_keys k;
    struct span id;
    uint32_t n = 0;

    if (!keys_decode(span_of(data, size), &k))
        return 0;
    for (size_t i = 0; i < KEY_TEXTS; i++)
        ENSURE(k.text[i].n <= size);
    ENSURE(k.nrefs <= size);
    while (n < k.nrefs && mime_cache_ref(&k.refs, &id))
        n++;
    return 0;
}
