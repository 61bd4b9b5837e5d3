/* tests/fuzz/fuzz_squeeze.c - any bytes as a message with zstd around it. */
#include <stdint.h>

#include "csync/squeeze.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct unsqueezer *u = unsqueezer_new();
    struct logmsg m;
    struct error err = {0};

    if (unsqueezer_take(u, span_of(data, size), &m, &err) == ERR_OK)
        ENSURE(m.payload.n <= LOGMSG_PAYLOAD_MAX &&
               (m.type == LOGMSG_FRAMES || m.type == LOGMSG_SEED_ROWS));
    unsqueezer_free(&u);
    return 0;
}
