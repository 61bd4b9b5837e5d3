/*
 * search/db.h - the database that the index lies in: a RocksDB of its own in
 * one directory, local and derived.  Nothing is synced: after a crash it is as
 * it was some time before, and what is missing is indexed again.
 *
 * Any thread; one at a time writes.
 */
#ifndef POLLUX_SEARCH_DB_H
#define POLLUX_SEARCH_DB_H

#include "base/buf.h"
#include "base/env.h"

struct search_db;
struct search_db_view; /* a consistent view */
struct search_batch;

/* In DIR, made where it is absent.  ERR_BUSY (another process has it),
 * ERR_CORRUPT, ERR_NOSPACE, ERR_IO. */
MUST_CHECK enum errcode
search_db_open(struct env *env, const char *dir, struct search_db **ret,
               struct error *err);
void
search_db_close(struct search_db **db);
/* All that is in DIR goes.  ERR_IO. */
MUST_CHECK enum errcode
search_db_wipe(struct env *env, const char *dir, struct error *err);

struct search_db_view *
search_db_view(struct search_db *db);
void
search_db_release(struct search_db_view **view);
/* VIEW NULL: the newest.  Appended to RET.  ERR_NOTFOUND, ERR_CORRUPT, ERR_IO.
 */
MUST_CHECK enum errcode
search_db_get(struct search_db *db, struct search_db_view *view,
              struct span key, struct buf *ret, struct error *err);
/* Rows whose key begins with PREFIX, in order. */
struct search_db_iter;
struct search_db_iter *
search_db_iter(struct search_db *db, struct search_db_view *view,
               struct span prefix);
/* False at the end or on an error, which closing returns.  Valid until the next
 * call. */
bool
search_db_next(struct search_db_iter *it, struct span *ret_key,
               struct span *ret_value);
/* The next one is the first whose key is not below KEY. */
void
search_db_seek(struct search_db_iter *it, struct span key);
enum errcode
search_db_iter_close(struct search_db_iter **it, struct error *err);

/* Of its files. */
uint64_t
search_db_bytes(const struct search_db *db);

struct search_batch *
search_batch_new(void);
void
search_batch_free(struct search_batch **b);
void
search_batch_put(struct search_batch *b, struct span key, struct span value);
void
search_batch_delete(struct search_batch *b, struct span key);
size_t
search_batch_bytes(const struct search_batch *b);
/* All of B or nothing; B is empty afterwards.  ERR_NOSPACE, ERR_CORRUPT,
 * ERR_IO. */
MUST_CHECK enum errcode
search_db_write(struct search_db *db, struct search_batch *b,
                struct error *err);
/* What was written is in files.  ERR_NOSPACE, ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
search_db_flush(struct search_db *db, struct error *err);

#endif
