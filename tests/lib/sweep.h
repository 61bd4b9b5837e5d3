/*
 * tests/lib/sweep.h - a run of steps over a store whose files may fail, beside
 * a model of plain arrays that says what has to be there (tests/fault/).
 *
 * A step is a mutation of the store and of the model.  What a failed call may
 * do to a step is checked here: a full disk refuses and the same step succeeds
 * a moment later; EIO, or the machine's end, refuses for good or stops the
 * instance.  Everything else ends the test, with the call that failed.
 */
#ifndef POLLUX_TESTS_SWEEP_H
#define POLLUX_TESTS_SWEEP_H

#include "tests/lib/storetest.h"

#define SWEEP_BOXES 8
#define SWEEP_MESSAGES 40
#define SWEEP_BODIES 300

struct model_message {
    uint32_t uid;
    uint32_t flags;
    uint64_t size;
    struct guid guid;
};

struct model_box {
    char name[64]; /* empty: not there */
    uint32_t uidnext;
    size_t n;
    struct model_message v[SWEEP_MESSAGES];
};

struct model {
    struct model_box box[SWEEP_BOXES];
};

enum kind { KIND_EIO, KIND_ENOSPC, KIND_SHORT, KIND_KILL, KINDS };

extern const char *const run_kind_names[KINDS];

struct run {
    struct teststore ts; /* sim is NULL over real files */
    char dir[64];
    enum kind kind;
    unsigned nth;
    bool is_hit;
    enum env_fault_kind hit_kind; /* the call that failed */
    char hit_path[256];
    struct model sure;  /* what is there */
    struct model maybe; /* what is there if the last step was done */
    bool is_unsure;
    bool has_ended; /* no more steps: something was refused for good */
    uint64_t seed;  /* of the next body */
};

#define RUN_FAIL(r, ...)                                                       \
    do {                                                                       \
        print_error("%s at call %u (%s): ", run_kind_names[(r)->kind],         \
                    (r)->nth, (r)->hit_path);                                  \
        fail_msg(__VA_ARGS__);                                                 \
    } while (0)

/* A machine (real files in REAL_DIR if that is not NULL) without a store. */
void
run_begin(struct run *r, enum kind kind, unsigned nth, const char *real_dir);
void
run_end(struct run *r);
/* From now on: the NTH call that KIND can hit is hit. */
void
run_arm(struct run *r);
enum errcode
run_open(struct run *r, struct error *err);
/* Epoch 1, unless it has begun. */
void
run_begin_epoch(struct run *r);
/* The store is what the model says; if a step was under way when it died, with
 * it or without it, and then the model is that. */
void
run_check(struct run *r, const char *when);
/* Was it bytes of the log, or their sync, that failed? */
bool
run_hit_log(const struct run *r);

struct model_box *
box_of(struct model *m, const char *name);

/* Steps; nothing is done once r->has_ended. */
void
step_open(struct run *r);
void
step_create(struct run *r, const char *name);
/* N messages in one transaction: all or none. */
void
step_deliver(struct run *r, const char *name, size_t n, size_t bytes);
void
step_flags(struct run *r, const char *name, uint32_t first, uint32_t last);
void
step_copy(struct run *r, const char *from, const char *to, uint32_t first,
          uint32_t last, bool is_move);
void
step_expunge(struct run *r, const char *name, uint32_t first, uint32_t last);
/* With what is below it; TO NULL: deleted with delay. */
void
step_rename(struct run *r, const char *name, const char *to);
/* Flush the state and let go of the log behind it, as the checkpointer does. */
void
step_checkpoint(struct run *r);

/* What all runs share. */
void
sweep_free_bodies(void);

#endif
