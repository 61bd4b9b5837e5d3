/*
 * metrics/status.h - a sample and the last minutes as JSON, for the status
 * page and for scripts (docs/monitoring/README.md).
 */
#ifndef POLLUX_METRICS_STATUS_H
#define POLLUX_METRICS_STATUS_H

#include "metrics/sample.h"

void
status_print(const struct sample *s, const struct history *history,
             const struct metrics_protocol *protocols, size_t nprotocols,
             uint64_t now_us, struct buf *out);

#endif
