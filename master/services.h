/*
 * master/services.h - all lines of SERVICES of one instance.
 *
 * The main thread changes them; any thread may look.
 */
#ifndef POLLUX_MASTER_SERVICES_H
#define POLLUX_MASTER_SERVICES_H

#include "imapd/imapd.h"
#include "lmtpd/lmtpd.h"
#include "master/service.h"
#include "metrics/metrics.h"

struct services;

/* HOST must live as long as they. */
struct services *
services_new(const struct service_host *host);
/* When no session is left.  NULL is fine. */
void
services_free(struct services **s);

/* All of PLAN, bound.  Errors: those of service_bind(). */
MUST_CHECK enum errcode
services_bind(struct services *s, const struct plan *plan, struct error *err);
/* Bind what is not bound, and accept, on POOL.  One that cannot is said in the
 * log, and left until the next services_change(). */
void
services_start(struct services *s, struct reactor_pool *pool);
/* Those of PLAN from now on, and certificates anew.  New ones are bound only;
 * those who are connected to one that is gone stay. */
void
services_change(struct services *s, const struct plan *plan);
/* Nobody new. */
void
services_quiet(struct services *s);
/* No session is left: all are as after services_new(). */
void
services_rest(struct services *s);
/* Ask all clients to go. */
void
services_goodbye(struct services *s, const char *text);
size_t
services_count(const struct services *s);

/* Up to MAX of them, as they are now, into RET; how many.  Any thread. */
size_t
services_look(struct services *s, struct metrics_service *ret, size_t max);

#endif
