/*
 * tests/store/kvrace.h - readers in threads beside a writer that writes
 * RACE_KEYS rows at a time, all of one value: none of them may see two values
 * at once.
 */
#ifndef POLLUX_TESTS_KVRACE_H
#define POLLUX_TESTS_KVRACE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>

#include "store/kv.h"

#define RACE_KEYS 64U
#define RACE_READERS 2U

struct race {
    struct kv *kv;
    _Atomic bool stop;
    _Atomic unsigned mixed; /* times that two values were seen */
    _Atomic unsigned rounds;
    pthread_t readers[RACE_READERS];
};

/* READER(race) until race->stop; it counts in `mixed` and `rounds`. */
static inline void
race_start(struct race *race, void *(*reader)(void *race))
{
    for (size_t i = 0; i < RACE_READERS; i++)
        assert_int_equal(pthread_create(&race->readers[i], NULL, reader, race),
                         0);
}

/* The rows "r00", "r01" ... with VALUE, to be written together. */
static inline void
race_put_all(struct kv_batch *b, struct span value)
{
    for (unsigned i = 0; i < RACE_KEYS; i++) {
        char key[16];
        snprintf(key, sizeof(key), "r%02u", i);
        kv_batch_put(b, KV_STATE, span_str(key), value);
    }
}

static inline void
race_end(struct race *race)
{
    atomic_store(&race->stop, true);
    for (size_t i = 0; i < RACE_READERS; i++)
        pthread_join(race->readers[i], NULL);
    assert_int_equal(atomic_load(&race->mixed), 0);
}

#endif
