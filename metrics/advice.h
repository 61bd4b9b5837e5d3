/*
 * metrics/advice.h - what of a sample needs a person, and what he is to do.
 */
#ifndef POLLUX_METRICS_ADVICE_H
#define POLLUX_METRICS_ADVICE_H

#include "metrics/sample.h"

enum advice_level {
    ADVICE_BAD,  /* mail is refused, or in danger */
    ADVICE_WARN, /* it will be, or the second copy is missing */
    ADVICE_NOTE  /* good to know */
};
const char *
advice_level_name(enum advice_level level);

struct advice {
    enum advice_level level;
    const char *what; /* one sentence */
    const char *todo; /* one more; a command stands in `quotes` */
};

/* All that is to be said of S, the worst first; strings live in A.  How many.
 */
size_t
advice_make(const struct sample *s, struct arena *a, const struct advice **ret);

/* Why S is not fit for this, or NULL: it is.  READY: to serve clients; MASTER:
 * to take mail; LIVE: to go on running.  Text that lives as long as A. */
enum health { HEALTH_LIVE, HEALTH_READY, HEALTH_MASTER };
const char *
health_complaint(const struct sample *s, enum health what, struct arena *a);

#endif
