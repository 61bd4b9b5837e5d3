/*
 * master/notify.h - telling systemd how we are (sd_notify(3)): where it did not
 * start us, nothing happens.
 */
#ifndef POLLUX_MASTER_NOTIFY_H
#define POLLUX_MASTER_NOTIFY_H

/* The store is recovered and the control socket answers. */
void
notify_ready(void);
/* SIGHUP came; notify_ready() follows. */
void
notify_reloading(void);
void
notify_stopping(void);
/* What a person sees in `systemctl status`. */
void
notify_status(const char *text);
/*
 * For the unit's watchdog, WatchdogSec=: to be called every round of the main
 * thread.  Returns the milliseconds after which the next round is due, at most
 * WAIT_MS.
 */
unsigned
notify_alive(unsigned wait_ms);

#endif
