/*
 * metrics/openmetrics.h - a sample as OpenMetrics 1.0 text.  No I/O but
 * /proc/self.
 */
#ifndef POLLUX_METRICS_OPENMETRICS_H
#define POLLUX_METRICS_OPENMETRICS_H

#include "metrics/sample.h"

#define OPENMETRICS_TYPE                                                       \
    "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* Add S, the commands of PROTOCOLS and this process to OUT. */
void
openmetrics_print(const struct sample *s,
                  const struct metrics_protocol *protocols, size_t nprotocols,
                  struct buf *out);

#endif
