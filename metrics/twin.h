/*
 * metrics/twin.h - asking the other instances what they say of themselves, and
 * whether they hold the same as this one.
 */
#ifndef POLLUX_METRICS_TWIN_H
#define POLLUX_METRICS_TWIN_H

#include "metrics/sample.h"

struct twins;

/* A thread that asks whoever sync_host names, of any channel, every 2 s. */
struct twins *
twins_start(struct env *env, const struct config *cfg, struct node *node);
/* Waits for an answer under way, 2 s at most.  NULL is fine. */
void
twins_stop(struct twins **t);
/* What was heard last, into RET with room for SAMPLE_CHANNELS_MAX; how many.
 * Any thread. */
size_t
twins_look(struct twins *t, struct sample_twin *ret);

#endif
