/*
 * store/damage.h - the register of what is damaged here, and what became of it.
 *
 * Damage is noted by whoever finds it: a reader of a body, the scrubber, a
 * seed that could not be given whole.  It is logged once, kept in a local row
 * (LOCAL_DAMAGE) until it is healed, shown in the status, and taken up by the
 * repairer (csync/repair.h), which asks the twin.  A body that no twin has is
 * `lost`: it stays in the register, with the messages that it hurts, until one
 * has it again or its last message is expunged.  A place in the log that no
 * twin has goes with its segment: the compactor lets go of it early.
 */
#ifndef POLLUX_STORE_DAMAGE_H
#define POLLUX_STORE_DAMAGE_H

#include "store/body.h"
#include "store/store.h"

enum damage_kind {
    DAMAGE_BODY = 1, /* a part of a body, or a body that is missing */
    DAMAGE_LOG = 2,  /* a frame or the header of a segment of the log */
    DAMAGE_PACK =
        3, /* the first block of a pack; its bodies are on their own */
};

#define DAMAGE_WHY_BYTES 160U
/* What lies behind so many is found again when some are healed. */
#define DAMAGE_MAX 100000U

struct damage {
    enum damage_kind kind;
    struct guid guid;  /* BODY */
    uint32_t part;     /* BODY: the first that is damaged */
    uint8_t home;      /* BODY: enum body_home, or 0: it is nowhere */
    uint64_t file;     /* number of the segment or pack */
    uint64_t offset;   /* in it */
    uint64_t found_us; /* wall clock; 0 in store_damage_note(): now */
    uint64_t tried_us; /* when a twin was asked last, 0: never */
    uint32_t tries;
    bool lost;                  /* no twin has it */
    char why[DAMAGE_WHY_BYTES]; /* what is wrong, or why it was not healed */
};

/* Note D; one that is known already is fine, and stays as it was.  Any thread.
 */
void
store_damage_note(struct store *store, const struct damage *d);
/* Look at all parts of the body GUID, and note the first that is damaged, or
 * that the body is missing although a message has it. */
void
store_damage_find(struct store *store, const struct guid *guid);

/* Is the body GUID in the register? */
bool
store_damage_has(struct store *store, const struct guid *guid);

struct damage_view {
    uint64_t count;
    uint64_t lost;      /* of them, those that no twin has */
    uint64_t oldest_us; /* when the first of them was found, 0: none is */
    uint64_t healed;    /* since the store was opened */
};
void
store_damage_view(struct store *store, struct damage_view *ret);
/* All entries, bodies first, in the order of their GUIDs; CALL returns false
 * to stop and must not call back into the register. */
void
store_damage_each(struct store *store,
                  bool (*call)(void *ctx, const struct damage *d), void *ctx);
/* The messages of GUID, tombstones too, and those that were purged and are kept
 * (store/history.h): internal mailbox name and UID.  CALL returns false to
 * stop. ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
store_damage_messages(struct store *store, const struct guid *guid,
                      bool (*call)(void *ctx, const char *mailbox,
                                   uint32_t uid),
                      void *ctx, struct error *err);

/* ---- healing ----------------------------------------------------------- */

/* A repairer comes (+1) or goes (-1); without one nobody waits for repairs. */
void
store_damage_attend(struct store *store, int delta);
/*
 * The next body or log range whose turn it is, the time of asking noted; waits
 * up to TIMEOUT_MS for one.  Turns come 1 s after a failure, doubling to ten
 * minutes; for lost ones every ten minutes.  False: none is due.
 */
MUST_CHECK bool
store_damage_next(struct store *store, int timeout_ms, struct damage *ret);
/* It did not work; LOST: because no twin has it. */
void
store_damage_failed(struct store *store, const struct damage *d, bool lost,
                    const char *why);
/* It is whole again, or nobody needs it any more: WHAT says which. */
void
store_damage_heal(struct store *store, const struct damage *d,
                  const char *what);
/*
 * Wait until body GUID is not in the register, at most TIMEOUT_MS.  True: it is
 * healed, or was never in it.  False, at once, where nobody is at it.  Blocks:
 * for workers.
 */
MUST_CHECK bool
store_damage_wait(struct store *store, const struct guid *guid, int timeout_ms);

/* A body that came from a twin, on its way to a pack. */
struct mend;

MUST_CHECK enum errcode
mend_open(struct store *store, const struct guid *guid, struct mend **ret,
          struct error *err);
void
mend_close(struct mend **mend);
/* The parts in their order.  ERR_CORRUPT (not what LOC says), ERR_PROTO (not
 * the next part), ERR_NOSPACE, ERR_IO. */
MUST_CHECK enum errcode
mend_put_part(struct mend *mend, const struct body_loc *loc, struct span stored,
              struct error *err);
/*
 * All parts are there: the whole is compared with its GUID (ERR_CORRUPT:
 * nothing is changed), made durable, and the rows say where it lies now.
 * ERR_PROTO: parts are missing; ERR_NOSPACE, ERR_IO.
 */
MUST_CHECK enum errcode
mend_finish(struct mend *mend, struct error *err);

#endif
