/* tests/fuzz/fuzz_logmsg.c - any bytes as messages of a log stream. */
#include <stdint.h>

#include "csync/logproto.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    struct logmsg m;
    size_t used = 0;

    while (logmsg_parse(in, &m, &used) == PARSE_DONE) {
        struct logack ack;
        struct body_loc loc;
        struct error err = {0};
        ENSURE(used <= in.n && used >= LOGMSG_HEADER_BYTES);
        (void)!logack_decode(m.payload, &ack);
        (void)!body_loc_decode(m.payload, &loc, &err);
        struct lend_request q;
        struct guid guid;
        struct span stored;
        (void)!lend_request_decode(&m, &q);
        if (logpart_decode(m.payload, &guid, &loc, &stored, &err) == ERR_OK)
            ENSURE(stored.n == loc.stored_bytes);
        in = span_skip(in, used);
    }
    return 0;
}
