/*
 * synclog/reader.h - following the log, from the writing process or another.
 *
 * A reader never sees more than is durable (L6), and reads through the page
 * cache.  One reader belongs to one thread.
 */
#ifndef POLLUX_SYNCLOG_READER_H
#define POLLUX_SYNCLOG_READER_H

#include "synclog/synclog.h"

struct synclog_reader;

/*
 * Open the log in DIR for reading behind AFTER (0: from the start of the
 * history).  MARK bounds what is given out.
 * Errors: ERR_GAP (AFTER+1 is not in the log any more, or the log begins
 * later, or AFTER is beyond what is durable, or inside a frame), ERR_CORRUPT,
 * ERR_VERSION, ERR_NOTFOUND (no such directory), ERR_AGAIN (it was trimmed
 * again and again while we looked), ERR_IO.
 */
MUST_CHECK enum errcode
reader_open(struct env *env, const char *dir, const struct synclog_mark *mark,
            lsn_t after, struct synclog_reader **ret, struct error *err);
void
reader_close(struct synclog_reader **r);
/*
 * The next whole frames, at least one and at most about MAX_BYTES, as they lie
 * in the file (heartbeats left out); empty if nothing more is durable.
 * *RET_LAST and *RET_TIME_US are the last record's LSN and commit time.  The
 * bytes are valid until the next call.  ERR_GAP: trimmed under us; ERR_CORRUPT,
 * ERR_VERSION, ERR_IO.  After a failure the reader is where it was.
 */
MUST_CHECK enum errcode
reader_next(struct synclog_reader *r, size_t max_bytes, struct span *ret_frames,
            lsn_t *ret_last, uint64_t *ret_time_us, struct error *err);
/* Where the frames of the last reader_next() lie: segment, and offset of the
 * first one's header in its file.  They lie there one behind the other. */
void
reader_place(const struct synclog_reader *r, uint64_t *ret_segment,
             uint64_t *ret_offset);
/* Chain and epoch after the last frame given (or at AFTER, at the start). */
uint64_t
reader_chain(const struct synclog_reader *r);
epoch_t
reader_epoch(const struct synclog_reader *r);

/*
 * The chain after record LSN, which must end a frame (ERR_GAP otherwise, or if
 * it is not in the log): how two logs are compared.
 */
MUST_CHECK enum errcode
reader_chain_at(struct env *env, const char *dir,
                const struct synclog_mark *mark, lsn_t lsn, uint64_t *ret_chain,
                epoch_t *ret_epoch, struct error *err);

#endif
