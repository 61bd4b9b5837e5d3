/*
 * master/notify.c - see master/notify.h.
 *
 * The programs that we start are not to speak for us: they keep NOTIFY_SOCKET,
 * but the unit says NotifyAccess=main.
 */
#include "master/notify.h"

#include <inttypes.h>
#include <stdint.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "base/macros.h"

void
notify_ready(void)
{
    (void)sd_notify(0, "READY=1");
}

void
notify_reloading(void)
{
    struct timespec now = {0};

    clock_gettime(CLOCK_MONOTONIC, &now);
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
                     (uint64_t)now.tv_sec * 1000000 +
                         (uint64_t)now.tv_nsec / 1000);
}

void
notify_stopping(void)
{
    (void)sd_notify(0, "STOPPING=1");
}

void
notify_status(const char *text)
{
    (void)sd_notifyf(0, "STATUS=%s", text);
}

unsigned
notify_alive(unsigned wait_ms)
{
    uint64_t us = 0;

    if (sd_watchdog_enabled(0, &us) <= 0)
        return wait_ms;
    (void)sd_notify(0, "WATCHDOG=1");
    return (unsigned)MIN((uint64_t)wait_ms, MAX(us / 3000, (uint64_t)1));
}
