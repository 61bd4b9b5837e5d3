/*
 * store/store.h - the state of an instance: one log, one key-value store, one
 * writer thread, any number of readers.
 *
 * Every mutation goes through store_submit() on the master, or
 * store_append_frames() on a replica; both end in the same apply (design:
 * docs/architecture.md).  What a reader sees is durable.
 */
#ifndef POLLUX_STORE_STORE_H
#define POLLUX_STORE_STORE_H

#include "base/env.h"
#include "base/uidset.h"
#include "store/kv.h"
#include "store/types.h"
#include "synclog/synclog.h"

struct store;

/* What the compactor may do (store/compact.h). */
struct store_compaction {
    uint64_t log_keep_bytes; /* so much of the log keeps its bodies */
    uint64_t rate_bytes;     /* read and written a second; 0: no bound */
    unsigned dead_percent;   /* a pack with so much dead is rewritten; 0: 50 */
    bool archive;            /* archive_enabled */
    bool archive_keepflagged;
    uint64_t archive_maxsize; /* larger ones are archived at once; 0: never */
};

/* When the bytes of bodies are compressed. */
enum body_compress {
    COMPRESS_AUTO,   /* as they come, while that takes little of the machine */
    COMPRESS_ALWAYS, /* as they come */
    COMPRESS_LATER,  /* by the compactor, on their way to a pack */
};

/* What a commit of a master waits for, beside its own disk (store/acks.h). */
enum ack_mode {
    ACK_NONE,
    ACK_RECEIVED, /* replicas have it in memory */
    ACK_DURABLE,  /* on their disks */
};

struct store_acks {
    enum ack_mode mode;
    unsigned replicas;   /* so many; 0: 1 */
    uint64_t timeout_ms; /* 0: 10 s */
    bool degrade;        /* then go on without, instead of refusing */
};

/* partition-NAME and archivepartition-NAME. */
struct store_partition {
    const char *name;
    const char *path;
    const char *archive_path; /* NULL: it has none */
};

struct store_config {
    const char *dir; /* configdirectory: synclog/, state/, tmp/, packs below */
    /* Where bodies go that outlive their log segment.  The strings and the
     * array must outlive the store.  None: one called "default" in PACK_DIR
     * (NULL: DIR/packs). */
    const struct store_partition *partitions;
    size_t npartitions;
    const char *default_partition; /* name of one of them; NULL: "default" */
    const char *pack_dir;
    uint64_t pack_bytes; /* 0: PACK_BYTES_MAX */
    enum body_compress compress;
    struct store_compaction compaction;
    struct store_acks acks; /* not with no_threads */
    const char *fence_path; /* the shutdown file; NULL: none */
    uint64_t segment_bytes;
    uint64_t cache_bytes;
    uint64_t flush_bytes;   /* log between two flushes; 0: 256 MiB */
    uint64_t log_cap_bytes; /* a slot may pin so much; 0: no cap */
    bool feeds_others;      /* as a replica, too, slots pin what they need */
    /* A replica has records in its log at once, and in its state so much later
     * by their commit time; who becomes the master applies all first. */
    uint64_t apply_delay_us;
    /* Messages that are purged are kept so many seconds more, here and in no
     * digest (store/history.h); 0: not at all. */
    uint64_t keep_history_s;
    struct instid cluster;
    struct instid instance;
    struct kv *kv; /* NULL: RocksDB in DIR/state; given: a test's, taken over */
    /* Not NULL: asked for KV whenever a store is opened in DIR (simulation). */
    struct kv *(*open_kv)(void *ctx, const char *dir);
    void *open_kv_ctx;
    bool no_threads; /* simulation: store_step() runs the writer */
    /* Tests of the tests: break a promise on purpose (store/mutants.h). */
    unsigned mutants;
};

/* Told whenever something that others may wait for changed; writer's thread. */
struct store_hooks {
    void *ctx;
    /* A fatal error: nothing more will be written.  The process should end. */
    void (*on_fatal)(void *ctx, const struct error *err);
    /* May be NULL.  A thread of the store's is about to answer all of a group,
     * or of several, and to call who watches (BEGINS), or has done so. */
    void (*on_answers)(void *ctx, bool begins);
};

/* What opening found. */
struct store_opened {
    struct synclog_recovery log;
    uint64_t replayed; /* records applied again */
    bool is_new;       /* nothing was there */
};

/*
 * Open, recover, replay; the role is REPLICA until store_set_role().
 * ERR_BUSY (second process), ERR_HISTORY, ERR_VERSION, ERR_CORRUPT, ERR_IO,
 * ERR_NOSPACE.
 */
MUST_CHECK enum errcode
store_open(struct env *env, const struct store_config *cfg,
           const struct store_hooks *hooks, struct store **ret,
           struct store_opened *ret_found, struct error *err);
/* Ends the writer after what is queued (refused with ERR_CLOSED), flushes. */
void
store_close(struct store **store);
/* Beside no open store: move all packs of CFG's partitions into a directory
 * NAME of each, for an instance that begins anew.  ERR_IO, ERR_NOSPACE. */
MUST_CHECK enum errcode
store_set_packs_aside(struct env *env, const struct store_config *cfg,
                      const char *name, struct error *err);
/* no_threads: run the writer over what is queued; true if it did something. */
bool
store_step(struct store *store);

/*
 * Role and epoch, from failover/, which has made them durable before.  A
 * master takes transactions; a replica frames; a fenced one nothing.  Returns
 * when the writer obeys; so it, store_check_fence() and store_hold() are not
 * for the writer's own thread.  A master's transactions are ERR_READONLY until
 * its epoch has begun.
 */
void
store_set_role(struct store *store, enum role role, epoch_t epoch);
enum role
store_role(const struct store *store);
epoch_t
store_epoch(const struct store *store);
/* Write the REC_EPOCH that begins ENTRY's epoch (fork_* and time are filled in
 * here) and wait for it; role MASTER must be set.  First thing of an epoch. */
MUST_CHECK enum errcode
store_begin_epoch(struct store *store, epoch_t epoch, uint32_t uid_headroom,
                  const char *reason, struct error *err);
/*
 * What will be begun once it is the epoch of store_set_role() (0: nothing);
 * before that is called, since readers are told of UIDs and MODSEQs as if it
 * had.  BY_ITSELF: the writer begins it as soon as the fence is down and there
 * is room, and nobody waits; else store_begin_epoch() does.
 */
void
store_plan_epoch(struct store *store, epoch_t epoch, uint32_t uid_headroom,
                 const char *reason, bool by_itself);
/*
 * A store that is empty and of no cluster becomes one of CLUSTER: its log is
 * begun anew under that name.  Returns when the writer obeys.  ERR_CONFLICT:
 * there is history here, or another cluster; ERR_IO, ERR_NOSPACE.
 */
MUST_CHECK enum errcode
store_join_cluster(struct store *store, const struct instid *cluster,
                   struct error *err);
/* Look at the fence now, not at the next group; returns when the writer obeys:
 * true if it is up and no group is under way.  Those that wait for a replica
 * are waited for, as long as sync_ack allows. */
bool
store_check_fence(struct store *store);
/*
 * While the fence is up because of a swap, transactions wait instead of being
 * refused, until release or HOLD_MS has passed.  0 ends the waiting.
 */
void
store_hold(struct store *store, uint64_t hold_ms);

/* How far the state in DIR (configdirectory) of a stopped instance is; 0:0 if
 * there is none.  ERR_BUSY, ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
store_peek_pos(const char *dir, struct store_pos *ret, struct error *err);
/* How far the state is.  Any thread, no lock held for long. */
struct store_pos
store_pos(const struct store *store);
/* The digest that the state had at LSN, if it is one of the last few thousand
 * commit groups. */
bool
store_digest_at(const struct store *store, lsn_t lsn, uint64_t *ret_digest);
struct synclog *
store_log(struct store *store);
/* What the log says of itself; safe beside a seed that begins it anew.  All
 * zero if it could not be begun anew, and the store stops. */
struct store_log_view {
    struct logpos durable;
    uint64_t chain;  /* there */
    lsn_t first_lsn; /* oldest record that can be read, 0: none */
    lsn_t start_lsn; /* the log begins behind it */
    bool seeding;    /* the state is incomplete */
    struct instid cluster, instance;
};
void
store_log_view(struct store *store, struct store_log_view *ret);
const char *
store_dir(const struct store *store);
/* Replica: frames from the master, written, synced and applied.  DONE runs in
 * the writer's thread with the position reached.  The bytes are copied.
 * Errors by DONE: ERR_READONLY (not a replica), ERR_FENCED (the fence binds a
 * replica too), ERR_NOSPACE, those of synclog_append_frames(), ERR_CORRUPT (a
 * body that is not its GUID). */
typedef void
store_frames_done(void *ctx, enum errcode code, const struct error *err,
                  struct store_pos pos);
void
store_append_frames(struct store *store, struct span frames,
                    store_frames_done *done, void *ctx);
/* Write the state through and let go of log segments that nobody needs, now and
 * not when it is due; may take seconds.  ERR_NOSPACE, ERR_IO, ERR_CORRUPT. */
MUST_CHECK enum errcode
store_checkpoint(struct store *store, struct error *err);
/* Bytes of frames and transactions that wait for the writer. */
size_t
store_queue_bytes(const struct store *store);

/* ---- reading ---------------------------------------------------------- */

struct store_snap; /* a consistent view; belongs to one thread at a time */

struct store_snap *
store_snapshot(struct store *store);
void
store_release(struct store_snap **snap);
/* Where the view is. */
struct store_pos
snap_pos(const struct store_snap *snap);

/* All of these: ERR_NOTFOUND, ERR_CORRUPT, ERR_IO; results live in A.  UIDNEXT
 * and HIGHESTMODSEQ are those that a client may be told: after an unplanned
 * promotion they are beyond whatever the lost master may have said. */
MUST_CHECK enum errcode
snap_mailbox_by_name(struct store_snap *snap, const char *name, struct arena *a,
                     struct mailbox *ret, struct error *err);
MUST_CHECK enum errcode
snap_mailbox(struct store_snap *snap, mbid_t id, struct arena *a,
             struct mailbox *ret, struct error *err);
/* The same as it stands in its row: what a peer gave, and no less. */
MUST_CHECK enum errcode
snap_mailbox_row(struct store_snap *snap, mbid_t id, struct arena *a,
                 struct mailbox *ret, struct error *err);
MUST_CHECK enum errcode
snap_mailbox_by_uniqueid(struct store_snap *snap, const char *uniqueid,
                         struct arena *a, struct mailbox *ret,
                         struct error *err);
/*
 * Call for every mailbox whose internal name begins with PREFIX, in name order;
 * CALL returns false to stop.  DELETED. ones come only if PREFIX asks for them.
 * The mailbox is valid during the call.
 */
MUST_CHECK enum errcode
snap_each_mailbox(struct store_snap *snap, const char *prefix,
                  bool (*call)(void *ctx, const struct mailbox *mb), void *ctx,
                  struct error *err);

/*
 * Call for every mailbox that may be USER's to see, each once, in no order: the
 * user's own, and those whose ACL names USER or "anyone".  Deleted ones do not
 * come.  Whether l is among the rights is for the caller to find out.  Costs
 * what is found, not what there is.
 */
MUST_CHECK enum errcode
snap_each_visible(struct store_snap *snap, const char *user,
                  bool (*call)(void *ctx, const struct mailbox *mb), void *ctx,
                  struct error *err);

/* Messages of a mailbox in UID order.  Tombstones only if WITH_EXPUNGED. */
struct msg_iter;
struct msg_iter *
snap_messages(struct store_snap *snap, mbid_t id, uint32_t from_uid,
              bool with_expunged);
/* False at the end or on an error, which msg_iter_close() returns.  The row is
 * valid until the next call. */
bool
msg_iter_next(struct msg_iter *it, struct message *ret);
/* The next row is the first one with a UID >= UID, in mailbox ID as before. */
void
msg_iter_seek(struct msg_iter *it, mbid_t id, uint32_t uid);
enum errcode
msg_iter_close(struct msg_iter **it, struct error *err);
/* Does any message, tombstones too, have this body, and is it here?  Or was it
 * staged not long ago (txn_stage())?  NOW_US: wall clock. */
MUST_CHECK enum errcode
snap_has_body(struct store_snap *snap, const struct guid *guid, uint64_t now_us,
              bool *ret, struct error *err);
/* One row, also a tombstone. */
MUST_CHECK enum errcode
snap_message(struct store_snap *snap, mbid_t id, uint32_t uid, struct arena *a,
             struct message *ret, struct error *err);
/* UIDs whose MODSEQ is above SINCE, tombstones too, in MODSEQ order.
 * ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
snap_changed(struct store_snap *snap, mbid_t id, modseq_t since,
             bool (*call)(void *ctx, modseq_t modseq, uint32_t uid), void *ctx,
             struct error *err);
/*
 * Replace *RET by the UIDs of all messages of MB (as SNAP has it) but
 * tombstones; *RET_UNSEEN is the first one without FLAG_SEEN, 0 if there is
 * none.  Costs what changed since somebody asked last, or all rows of the
 * mailbox.
 */
MUST_CHECK enum errcode
snap_uids(struct store_snap *snap, const struct mailbox *mb, struct uidset *ret,
          uint32_t *ret_unseen, struct error *err);

/* Keywords ever used in the mailbox, sorted. */
MUST_CHECK enum errcode
snap_keywords(struct store_snap *snap, mbid_t id, struct arena *a,
              const struct span **ret, size_t *ret_n, struct error *err);

/* The derived record of a message (mime/message.h), appended to RET;
 * ERR_NOTFOUND where it has to be made from the body and put. */
MUST_CHECK enum errcode
snap_cache(struct store_snap *snap, mbid_t id, uint32_t uid, struct buf *ret,
           struct error *err);
/* Failure is not told: it can be made again. */
void
store_cache_put(struct store *store, mbid_t id, uint32_t uid,
                struct span record);

/* A walk over the derived records of a mailbox: cheaper than one look after
 * another where UIDs ascend and lie close together, as dear where they do not.
 * SNAP must outlive it. */
struct cache_walk *
snap_cache_walk(struct store_snap *snap, mbid_t id);
/* As snap_cache(); a record put after the walk began may not be seen. */
MUST_CHECK enum errcode
cache_walk_get(struct cache_walk *w, uint32_t uid, struct buf *ret,
               struct error *err);
/* NULL is fine; *W becomes NULL. */
void
cache_walk_close(struct cache_walk **w);

/*
 * What was gathered of many messages of a mailbox into one derived record, by
 * any number that the caller gives it; as snap_cache() and store_cache_put().
 * It is never deleted with a message: UIDs do not come again.
 */
MUST_CHECK enum errcode
snap_cache_block(struct store_snap *snap, mbid_t id, uint32_t block,
                 struct buf *ret, struct error *err);
void
store_cache_put_block(struct store *store, mbid_t id, uint32_t block,
                      struct span record);

MUST_CHECK enum errcode
snap_quota(struct store_snap *snap, const char *root, struct arena *a,
           struct quota *ret, struct error *err);
/* The root that a mailbox of this name has or would get; NULL: none. */
MUST_CHECK enum errcode
snap_quota_root_for(struct store_snap *snap, const char *name, struct arena *a,
                    const char **ret, struct error *err);

/* Every root whose name begins with PREFIX, in name order; CALL returns false
 * to stop. */
MUST_CHECK enum errcode
snap_each_quota(struct store_snap *snap, const char *prefix,
                bool (*call)(void *ctx, const struct quota *quota), void *ctx,
                struct error *err);

/*
 * The annotations of a message, of the mailbox (UID 0) or of the server (ID 0),
 * by entry and user ("" is the shared value); CALL returns false to stop.
 */
MUST_CHECK enum errcode
snap_annots(struct store_snap *snap, mbid_t id, uint32_t uid,
            bool (*call)(void *ctx, const char *entry, const char *user,
                         struct span value),
            void *ctx, struct error *err);
/* One of them, appended to RET. */
MUST_CHECK enum errcode
snap_annot_get(struct store_snap *snap, mbid_t id, uint32_t uid,
               const char *entry, const char *user, struct buf *ret,
               struct error *err);

/* Is USER's \Seen in this mailbox kept apart from the messages' flags?  So it
 * is for everybody but the owner, unless MBOX_SHAREDSEEN is set.  Nobody (NULL)
 * has seen nothing. */
MUST_CHECK bool
mailbox_has_own_seen(const struct mailbox *mb, const char *user);
/* UIDs that USER has seen where it is kept apart, replacing *RET. */
MUST_CHECK enum errcode
snap_seen(struct store_snap *snap, const struct mailbox *mb, const char *user,
          struct uidset *ret, struct error *err);

/* Every mark of a delivery (txn_append's dedup) and its time. */
MUST_CHECK enum errcode
snap_each_delivery(struct store_snap *snap,
                   bool (*call)(void *ctx, const uint8_t hash[16],
                                uint64_t time_us),
                   void *ctx, struct error *err);
/* Every user that owns a mailbox, deleted ones too, or a row, by name. */
MUST_CHECK enum errcode
snap_each_user(struct store_snap *snap,
               bool (*call)(void *ctx, const char *user), void *ctx,
               struct error *err);

MUST_CHECK enum errcode
snap_user_get(struct store_snap *snap, const char *user, uint8_t kind,
              const char *name, struct buf *ret, struct error *err);
MUST_CHECK enum errcode
snap_user_each(struct store_snap *snap, const char *user, uint8_t kind,
               bool (*call)(void *ctx, const char *name, struct span value),
               void *ctx, struct error *err);
/* Those whose names begin with BEGIN. */
MUST_CHECK enum errcode
snap_user_each_from(struct store_snap *snap, const char *user, uint8_t kind,
                    const char *begin,
                    bool (*call)(void *ctx, const char *name,
                                 struct span value),
                    void *ctx, struct error *err);
/* Epoch history, oldest first. */
MUST_CHECK enum errcode
snap_epochs(struct store_snap *snap, struct arena *a,
            const struct epoch_entry **ret, size_t *ret_n, struct error *err);
/*
 * Every replicated row in key order (seeding, full comparison): table byte and
 * key, value.  Derived and local tables are left out.
 */
MUST_CHECK enum errcode
snap_each_row(struct store_snap *snap, struct span from_key,
              bool (*call)(void *ctx, struct span key, struct span value),
              void *ctx, struct error *err);
/* Walk everything and compute counters and digests anew: equal to what is kept?
 * ERR_CORRUPT names the first mailbox where it is not. */
MUST_CHECK enum errcode
snap_verify(struct store_snap *snap, struct error *err);

/* ---- watching --------------------------------------------------------- */

/*
 * CALL runs in the writer's thread (after the change can be read), at most once
 * until the watcher is armed again by watch_rearm(): post to your reactor and
 * return.  MBID 0: any change of the mailbox list, of subscriptions or of
 * the server's annotations.
 */
struct store_watch;
struct store_watch *
store_watch(struct store *store, mbid_t id, void (*call)(void *ctx), void *ctx);
void
watch_rearm(struct store_watch *w);
/* After it returns CALL does not run any more. */
void
store_unwatch(struct store_watch **w);
/*
 * CALL runs in the writer's thread, as above, with each mailbox of a group that
 * changed, was made or is gone; 0: the list.  One follower; CALL NULL: none,
 * and after that it does not run any more.
 */
void
store_follow(struct store *store, void (*call)(void *ctx, mbid_t id),
             void *ctx);

#endif
