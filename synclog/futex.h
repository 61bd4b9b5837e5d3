/*
 * synclog/futex.h - a counter that processes wait on, in a page that they share
 * (mark.h, bell.h).
 */
#ifndef POLLUX_SYNCLOG_FUTEX_H
#define POLLUX_SYNCLOG_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

/* Count one on, and wake all who wait. */
void
futex_wake_all(_Atomic uint32_t *seq);
/* Wait until *SEQ is not SEEN, TIMEOUT_MS at most (0 or less: only look); what
 * it is then. */
uint32_t
futex_wait_change(const _Atomic uint32_t *seq, uint32_t seen, int timeout_ms);

#endif
