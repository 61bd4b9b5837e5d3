/*
 * search/db.c - a small face for RocksDB.
 *
 * Rows are tens of KiB and are written once, so there is no WAL: a crash loses
 * what was in the memtable, always the newest writes and no others, since there
 * is one family.  RocksDB's own log is silent for the reason that
 * store/kv_rocks.c gives.
 */
#include "search/db.h"

#include <rocksdb/c.h>
#include <stdlib.h>

#define CACHE_BYTES ((size_t)32 << 20)
#define MEMTABLE_BYTES ((size_t)8 << 20)
#define FILE_BYTES ((uint64_t)32 << 20)
#define BLOCK_BYTES ((size_t)16 << 10)
#define OPEN_FILES 128
#define CHECKSUM_XXH3 4 /* rocksdb::kXXH3 */
#define INFO_LOG_FATAL 4

struct search_db {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
};

struct search_db_view {
    struct search_db *db;
    const rocksdb_snapshot_t *snapshot;
    rocksdb_readoptions_t *read;
};

struct search_db_iter {
    rocksdb_iterator_t *i;
    struct buf prefix;
    bool fresh;
};

struct search_batch {
    rocksdb_writebatch_t *b;
    size_t bytes;
};

static enum errcode
error_of(char *text, const char *what, struct error *err)
{
    static const struct {
        const char *part;
        enum errcode code;
    } codes[] = {
        {"No space left", ERR_NOSPACE},
        {"NoSpace", ERR_NOSPACE},
        {"SpaceLimit", ERR_NOSPACE},
        {"quota exceeded", ERR_NOSPACE},
        {"Corruption", ERR_CORRUPT},
        {"No such file", ERR_CORRUPT},
        {"lock", ERR_BUSY},
    };
    enum errcode code = ERR_IO;

    for (size_t i = 0; i < ARRAY_LEN(codes) && code == ERR_IO; i++)
        if (strstr(text, codes[i].part) != NULL)
            code = codes[i].code;
    error_set(err, code, "search index: %s: %s", what, text);
    rocksdb_free(text);
    return code;
}

static rocksdb_options_t *
options_new(void)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_block_based_table_options_t *t =
        rocksdb_block_based_options_create();
    rocksdb_cache_t *cache = rocksdb_cache_create_lru(CACHE_BYTES);

    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_paranoid_checks(o, 1);
    rocksdb_options_set_max_background_jobs(o, 1);
    rocksdb_options_set_max_open_files(o, OPEN_FILES);
    rocksdb_options_set_info_log_level(o, INFO_LOG_FATAL);
    rocksdb_options_set_keep_log_file_num(o, 1);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_bytes_per_sync(o, (uint64_t)1 << 20);
    rocksdb_options_set_write_buffer_size(o, MEMTABLE_BYTES);
    rocksdb_options_set_target_file_size_base(o, FILE_BYTES);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
    rocksdb_options_set_compression(o, rocksdb_lz4_compression);
    rocksdb_block_based_options_set_block_size(t, BLOCK_BYTES);
    rocksdb_block_based_options_set_block_cache(t, cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 1);
    rocksdb_block_based_options_set_format_version(t, 5);
    rocksdb_block_based_options_set_checksum(t, CHECKSUM_XXH3);
    rocksdb_options_set_block_based_table_factory(o, t);
    rocksdb_block_based_options_destroy(t);
    rocksdb_cache_destroy(cache);
    return o;
}

enum errcode
search_db_open(struct env *env, const char *dir, struct search_db **ret,
               struct error *err)
{
    char *text = NULL;
    enum errcode rc = env_mkdirs(env, dir, err);

    if (rc != ERR_OK)
        return rc;
    struct search_db *db = xcalloc(1, sizeof(*db));
    db->options = options_new();
    db->read = rocksdb_readoptions_create();
    db->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(db->write, 1);
    db->db = rocksdb_open(db->options, dir, &text);
    if (text != NULL) {
        rc = error_of(text, "open", err);
        search_db_close(&db);
        return rc;
    }
    *ret = db;
    return ERR_OK;
}

void
search_db_close(struct search_db **dbp)
{
    struct search_db *db = *dbp;

    if (db == NULL)
        return;
    if (db->db != NULL)
        rocksdb_close(db->db); /* flushes */
    rocksdb_options_destroy(db->options);
    rocksdb_readoptions_destroy(db->read);
    rocksdb_writeoptions_destroy(db->write);
    xfree(dbp);
}

enum errcode
search_db_wipe(struct env *env, const char *dir, struct error *err)
{
    AUTO(buf_free) struct buf names = BUF_INIT;

    if (!env_exists(env, dir))
        return ERR_OK;
    enum errcode rc = env_list(env, dir, &names, err);
    struct span left = buf_span(&names);
    while (rc == ERR_OK && left.n > 0) {
        const char *name = (const char *)left.p;
        AUTO(xfree) char *path = xasprintf("%s/%s", dir, name);
        left = span_skip(left, strlen(name) + 1);
        rc = env_unlink(env, path, err);
    }
    return rc;
}

/* ---- reading ----------------------------------------------------------- */

struct search_db_view *
search_db_view(struct search_db *db)
{
    struct search_db_view *v = xcalloc(1, sizeof(*v));

    v->db = db;
    v->snapshot = rocksdb_create_snapshot(db->db);
    v->read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_snapshot(v->read, v->snapshot);
    return v;
}

void
search_db_release(struct search_db_view **vp)
{
    struct search_db_view *v = *vp;

    if (v == NULL)
        return;
    rocksdb_readoptions_destroy(v->read);
    rocksdb_release_snapshot(v->db->db, v->snapshot);
    xfree(vp);
}

enum errcode
search_db_get(struct search_db *db, struct search_db_view *view,
              struct span key, struct buf *ret, struct error *err)
{
    char *text = NULL;
    size_t n = 0;
    rocksdb_pinnableslice_t *v =
        rocksdb_get_pinned(db->db, view == NULL ? db->read : view->read,
                           (const char *)key.p, key.n, &text);

    if (text != NULL)
        return error_of(text, "read", err);
    if (v == NULL)
        return error_set(err, ERR_NOTFOUND, "no such row of the index");
    const char *p = rocksdb_pinnableslice_value(v, &n);
    buf_add(ret, span_of(p, n));
    rocksdb_pinnableslice_destroy(v);
    return ERR_OK;
}

struct search_db_iter *
search_db_iter(struct search_db *db, struct search_db_view *view,
               struct span prefix)
{
    struct search_db_iter *it = xcalloc(1, sizeof(*it));

    buf_add(&it->prefix, prefix);
    it->i =
        rocksdb_create_iterator(db->db, view == NULL ? db->read : view->read);
    rocksdb_iter_seek(it->i, (const char *)prefix.p, prefix.n);
    it->fresh = true;
    return it;
}

bool
search_db_next(struct search_db_iter *it, struct span *ret_key,
               struct span *ret_value)
{
    size_t n;

    if (!it->fresh && rocksdb_iter_valid(it->i))
        rocksdb_iter_next(it->i);
    it->fresh = false;
    if (!rocksdb_iter_valid(it->i))
        return false;
    const char *p = rocksdb_iter_key(it->i, &n);
    *ret_key = span_of(p, n);
    if (!span_starts(*ret_key, buf_span(&it->prefix)))
        return false;
    p = rocksdb_iter_value(it->i, &n);
    *ret_value = span_of(p, n);
    return true;
}

void
search_db_seek(struct search_db_iter *it, struct span key)
{
    rocksdb_iter_seek(it->i, (const char *)key.p, key.n);
    it->fresh = true;
}

enum errcode
search_db_iter_close(struct search_db_iter **itp, struct error *err)
{
    struct search_db_iter *it = *itp;
    char *text = NULL;

    if (it == NULL)
        return ERR_OK;
    rocksdb_iter_get_error(it->i, &text);
    rocksdb_iter_destroy(it->i);
    buf_free(&it->prefix);
    xfree(itp);
    return text == NULL ? ERR_OK : error_of(text, "iterate", err);
}

/* ---- writing ----------------------------------------------------------- */

uint64_t
search_db_bytes(const struct search_db *db)
{
    uint64_t n = 0;

    return rocksdb_property_int(db->db, "rocksdb.total-sst-files-size", &n) == 0
               ? n
               : 0;
}

struct search_batch *
search_batch_new(void)
{
    struct search_batch *b = xcalloc(1, sizeof(*b));

    b->b = rocksdb_writebatch_create();
    return b;
}

void
search_batch_free(struct search_batch **b)
{
    if (*b == NULL)
        return;
    rocksdb_writebatch_destroy((*b)->b);
    xfree(b);
}

void
search_batch_put(struct search_batch *b, struct span key, struct span value)
{
    rocksdb_writebatch_put(b->b, (const char *)key.p, key.n,
                           (const char *)value.p, value.n);
    b->bytes += key.n + value.n;
}

void
search_batch_delete(struct search_batch *b, struct span key)
{
    rocksdb_writebatch_delete(b->b, (const char *)key.p, key.n);
    b->bytes += key.n;
}

size_t
search_batch_bytes(const struct search_batch *b)
{
    return b->bytes;
}

enum errcode
search_db_write(struct search_db *db, struct search_batch *b, struct error *err)
{
    char *text = NULL;

    rocksdb_write(db->db, db->write, b->b, &text);
    rocksdb_writebatch_clear(b->b);
    b->bytes = 0;
    return text == NULL ? ERR_OK : error_of(text, "write", err);
}

enum errcode
search_db_flush(struct search_db *db, struct error *err)
{
    rocksdb_flushoptions_t *o = rocksdb_flushoptions_create();
    char *text = NULL;

    rocksdb_flushoptions_set_wait(o, 1);
    rocksdb_flush(db->db, o, &text);
    rocksdb_flushoptions_destroy(o);
    return text == NULL ? ERR_OK : error_of(text, "flush", err);
}
