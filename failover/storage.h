/*
 * failover/storage.h - what imapd.conf says about where bodies lie: partitions,
 * their archives, and what the compactor may do.
 */
#ifndef POLLUX_FAILOVER_STORAGE_H
#define POLLUX_FAILOVER_STORAGE_H

#include "base/arena.h"
#include "base/config.h"
#include "store/store.h"

/*
 * Fill in the partitions and the compaction of *RET; all that it points to
 * lives in A.  Without a partition-NAME there is one in configdirectory.
 */
void
storage_from_config(const struct config *cfg, struct arena *a,
                    struct store_config *ret);

#endif
