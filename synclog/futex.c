/*
 * synclog/futex.c - waiting on a counter.
 *
 * Waking costs a system call even if nobody waits, which is little beside the
 * sync that came before it; a count of waiters would be kept wrong by the first
 * waiter that is killed.
 */
#include "synclog/futex.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/macros.h"

void
futex_wake_all(_Atomic uint32_t *seq)
{
    atomic_fetch_add_explicit(seq, 1, memory_order_release);
    syscall(SYS_futex, seq, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static int64_t
now_ms(void)
{
    struct timespec ts;

    ENSURE(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

uint32_t
futex_wait_change(const _Atomic uint32_t *seq, uint32_t seen, int timeout_ms)
{
    const int64_t until = now_ms() + (timeout_ms > 0 ? timeout_ms : 0);

    for (;;) {
        uint32_t now = atomic_load_explicit(seq, memory_order_acquire);
        int64_t left = until - now_ms();
        if (now != seen || left <= 0)
            return now;
        struct timespec ts = {.tv_sec = (time_t)(left / 1000),
                              .tv_nsec = (long)(left % 1000) * 1000000};
        syscall(SYS_futex, seq, FUTEX_WAIT, seen, &ts, NULL, 0);
    }
}
