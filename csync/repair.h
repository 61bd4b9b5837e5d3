/*
 * csync/repair.h - getting back from a twin what is damaged here.
 *
 * A replica asks its master and a master its replica: whoever sync_host names,
 * of any channel.  What comes is compared with its GUID, or with the chain of
 * the log, before a byte of it counts.
 */
#ifndef POLLUX_CSYNC_REPAIR_H
#define POLLUX_CSYNC_REPAIR_H

#include "csync/client.h"
#include "store/damage.h"
#include "synclog/mend.h"

struct lender; /* a connection to a twin that lends */

/*
 * Connect, log in, LOG LEND.  Errors as csync_connect(); ERR_HISTORY (another
 * cluster), ERR_UNSUPPORTED (a Pollux that does not lend, or no Pollux).
 */
MUST_CHECK enum errcode
lender_open(const struct csync_target *target, const struct config *cfg,
            const struct instid *cluster, struct lender **ret,
            struct error *err);
void
lender_close(struct lender **l);
/*
 * Fetch body GUID and put it in the place of the damaged one.  ERR_NOTFOUND:
 * the twin has it not, or damaged too; ERR_CORRUPT, ERR_PROTO: what came is not
 * it; ERR_CLOSED, ERR_TIMEOUT, ERR_IO, ERR_NOSPACE.
 */
MUST_CHECK enum errcode
lender_body(struct lender *l, struct store *store, const struct guid *guid,
            struct error *err);
/*
 * Whole frames behind AFTER, up to UNTIL or less, appended to RET, and the
 * chain at AFTER.  ERR_GAP: not in the twin's log (any more), or AFTER is
 * inside of a frame; ERR_CORRUPT (there), and as above.
 */
MUST_CHECK enum errcode
lender_frames(struct lender *l, lsn_t after, lsn_t until, uint64_t *ret_chain,
              struct buf *ret, struct error *err);

/*
 * The log of the instance of CFG, which is stopped, is mended; *RET says what
 * was done, also on failure, and *RET_HOST who was asked (NULL: nobody had to
 * be).  ERR_BUSY: the instance runs; those of synclog_mend() and lender_open().
 */
MUST_CHECK enum errcode
repair_log(struct env *env, const struct config *cfg,
           const struct instid *cluster, const struct instid *instance,
           struct synclog_mended *ret, const char **ret_host,
           struct error *err);

/*
 * A thread that takes what the register of STORE has and asks the twins that
 * CFG names.  Stop it before the store is closed.
 */
struct repairer;
struct repairer *
repairer_start(struct env *env, const struct config *cfg, struct store *store);
void
repairer_stop(struct repairer **r);

#endif
