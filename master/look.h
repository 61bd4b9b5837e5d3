/*
 * master/look.h - what an instance counts, and letting people look at it
 * (metrics/metrics.h).
 */
#ifndef POLLUX_MASTER_LOOK_H
#define POLLUX_MASTER_LOOK_H

#include "master/keepers.h"
#include "master/services.h"

struct look;

struct look *
look_new(struct env *env);
/* After services_free(): they count into it.  NULL is fine. */
void
look_free(struct look **l);
/* Let services made with HOST count here. */
void
look_count(struct look *l, struct service_host *host);

/*
 * Listen where metrics_listen of CFG says; not set: not at all.  SERVICES, NODE
 * and KEEPERS live until look_stop().  Errors: those of metrics_listen_parse()
 * and metrics_start().
 */
MUST_CHECK enum errcode
look_start(struct look *l, const struct config *cfg, struct node *node,
           struct services *services, struct keepers *keepers,
           struct error *err);
void
look_stop(struct look *l);

/* The main thread goes round. */
void
look_beat(struct look *l);
/* Clients are let in, or not. */
void
look_serving(struct look *l, bool is_serving);

#endif
