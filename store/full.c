/*
 * store/full.c - what is said of a full disk.
 *
 * Nothing runs on a clock of its own: refusals and successes are the only
 * moments at which there is something to say.
 */
#include "store/full.h"

#include <inttypes.h>

#include "base/log.h"

#define NS_PER_S UINT64_C(1000000000)
#define TELL_S 10
#define QUIET_S 2

void
full_init(struct full *f, struct env *env)
{
    *f = (struct full){.env = env};
    ENSURE(pthread_mutex_init(&f->lock, NULL) == 0);
}

void
full_done(struct full *f)
{
    pthread_mutex_destroy(&f->lock);
}

void
full_refused(struct full *f, const struct error *err)
{
    const uint64_t now = env_mono_ns(f->env);

    pthread_mutex_lock(&f->lock);
    f->refused_ns = now;
    if (!f->is_full) {
        f->since_ns = f->told_ns = now;
        f->refused = 1;
        f->is_full = true;
        log_error(NULL, "store.full",
                  "why=\"%s\" effect=\"changes are refused for now, reading "
                  "goes on\"",
                  err->text);
    } else {
        f->refused++;
        if (now - f->told_ns >= TELL_S * NS_PER_S) {
            f->told_ns = now;
            log_error(NULL, "store.full_still",
                      "refused=%" PRIu64 " seconds=%" PRIu64 " why=\"%s\"",
                      f->refused, (now - f->since_ns) / NS_PER_S, err->text);
        }
    }
    pthread_mutex_unlock(&f->lock);
}

void
full_taken(struct full *f)
{
    pthread_mutex_lock(&f->lock);
    if (f->is_full) {
        const uint64_t now = env_mono_ns(f->env);
        if (now - f->refused_ns >= QUIET_S * NS_PER_S) {
            f->is_full = false;
            log_notice(NULL, "store.room_again",
                       "refused=%" PRIu64 " seconds=%" PRIu64, f->refused,
                       (f->refused_ns - f->since_ns) / NS_PER_S);
        }
    }
    pthread_mutex_unlock(&f->lock);
}
