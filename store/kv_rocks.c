/*
 * store/kv_rocks.c - kv.h on RocksDB, below store/kv_front.c.
 *
 * Two column families: "default" is KV_STATE, "cache" is KV_CACHE.  Rows come
 * as whole tables, each becoming one file that RocksDB takes in (ingests) at
 * once: its memtables stay empty and there is no WAL; the sync log is the only
 * log.  Because all state is in one family, what is on disk is a prefix of the
 * batches written, with the applied position in it.
 *
 * A delivery asks for keys that are not there (is this GUID known?), so files
 * have filters over whole keys.
 *
 * RocksDB's C interface says errors as text only; error_of() reads it.
 */
#include "store/kv.h"

#include <fcntl.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/env.h"
#include "store/kv_private.h"
#include "store/kv_table.h"

/* A table may take so much memory before it goes to a file. */
#define STATE_TABLE_BYTES ((size_t)64 << 20)
#define CACHE_TABLE_BYTES ((size_t)32 << 20)
/* Never written to. */
#define MEMTABLE_BYTES ((size_t)64 << 10)
/* With so many files that are not merged yet nothing more is taken. */
#define FRESH_FILES_MAX 16U
/* A file goes to the disk in such pieces: one sync of it all would stand in
 * the way of the log's. */
#define WRITE_BEHIND_BYTES ((uint64_t)1 << 20)
#define BLOCK_BYTES ((size_t)8 << 10)
#define FILTER_BITS 10.0
#define OPEN_FILES 512
/*
 * RocksDB's own log of events lies beside the data, and in a build with
 * assertions, as Debian's is, the second line after one that met a full disk
 * ends the process.  So it gets the lines of opening, and no others.
 */
#define INFO_LOG_FATAL 4

struct rocks {
    struct kv kv;
    rocksdb_t *db;
    rocksdb_options_t *options[KV_FAMILIES];
    rocksdb_column_family_handle_t *family[KV_FAMILIES];
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *probe; /* says at once that writes stall */
    rocksdb_readoptions_t *read;
    rocksdb_options_t *file_options; /* of the files that are taken in */
    rocksdb_ingestexternalfileoptions_t *take;
    char *path;
    _Atomic uint64_t errors_healed; /* background errors now over */
};

struct kv_snap {
    const rocksdb_snapshot_t *snapshot;
    rocksdb_readoptions_t *read;
};

struct rocks_iter {
    struct kv_iter it;
    rocksdb_iterator_t *i;
    rocksdb_readoptions_t *read;
    struct buf prefix;
    struct buf end; /* the first key behind the prefix; read has a pointer */
    bool is_before; /* stands at what the next call is to give */
};

/* Take TEXT, which RocksDB gave, for what was tried. */
static enum errcode
error_of(char *text, const char *what, struct error *err)
{
    static const struct {
        const char *part;
        enum errcode code;
    } codes[] = {
        {"No space left", ERR_NOSPACE},
        {"quota exceeded", ERR_NOSPACE},
        {"NoSpace", ERR_NOSPACE},
        {"SpaceLimit", ERR_NOSPACE},
        {"Corruption", ERR_CORRUPT},
        {"While lock file", ERR_BUSY},
        {"lock hold by current process", ERR_BUSY},
        {"Write stall", ERR_AGAIN},
    };
    enum errcode code = ERR_IO;

    for (size_t i = 0; i < ARRAY_LEN(codes) && code == ERR_IO; i++)
        if (strstr(text, codes[i].part) != NULL)
            code = codes[i].code;
    error_set(err, code, "state database: %s: %s", what, text);
    rocksdb_free(text);
    return code;
}

/*
 * RocksDB counts what each thread does, key by key, for whoever asks: nobody
 * does.  Said once in each thread.
 */
static void
count_nothing(void)
{
    static _Thread_local bool is_said;

    if (!is_said)
        rocksdb_set_perf_level(rocksdb_disable);
    is_said = true;
}

static void
rocks_close(struct kv *kv)
{
    struct rocks *r = (struct rocks *)kv;

    for (size_t f = 0; f < KV_FAMILIES; f++)
        if (r->family[f] != NULL)
            rocksdb_column_family_handle_destroy(r->family[f]);
    if (r->db != NULL)
        rocksdb_close(r->db);
    for (size_t f = 0; f < KV_FAMILIES; f++)
        if (r->options[f] != NULL)
            rocksdb_options_destroy(r->options[f]);
    if (r->cache != NULL)
        rocksdb_cache_destroy(r->cache);
    rocksdb_options_destroy(r->file_options);
    rocksdb_ingestexternalfileoptions_destroy(r->take);
    rocksdb_writeoptions_destroy(r->probe);
    rocksdb_readoptions_destroy(r->read);
    free(r->path);
    free(r);
}

/* All of TABLE, to the file that W has open at FD. */
static char *
write_rows(rocksdb_sstfilewriter_t *w, int fd, const struct kv_table *table)
{
    struct kv_place at = {.seq = UINT64_MAX};
    char *text = NULL;
    uint64_t synced = 0;

    for (bool more = kv_table_seek(table, SPAN_EMPTY, &at);
         more && text == NULL; more = kv_table_next(&at)) {
        uint64_t n = 0;
        const char *key = (const char *)at.key.p;
        if (at.is_put)
            rocksdb_sstfilewriter_put(
                w, key, at.key.n, (const char *)at.value.p, at.value.n, &text);
        else
            rocksdb_sstfilewriter_delete(w, key, at.key.n, &text);
        rocksdb_sstfilewriter_file_size(w, &n);
        if (n < synced + WRITE_BEHIND_BYTES || fd < 0)
            continue;
        /* Only so that the sync at the end has little to do. */
        (void)sync_file_range(fd, (off_t)synced, (off_t)(n - synced),
                              SYNC_FILE_RANGE_WRITE);
        synced = n;
    }
    if (text == NULL)
        rocksdb_sstfilewriter_finish(w, &text);
    return text;
}

static enum errcode
rocks_load(struct kv *kv, enum kv_family f, const struct kv_table *table,
           struct error *err)
{
    struct rocks *r = (struct rocks *)kv;
    uint64_t fresh = 0;
    char *text = NULL;

    rocksdb_property_int_cf(r->db, r->family[f], "rocksdb.num-files-at-level0",
                            &fresh);
    if (fresh >= FRESH_FILES_MAX)
        return error_set(err, ERR_AGAIN, "state database: merging");
    AUTO(xfree) char *path = xasprintf("%s/load-%u.tmp", r->path, (unsigned)f);
    rocksdb_envoptions_t *io = rocksdb_envoptions_create();
    rocksdb_sstfilewriter_t *w =
        rocksdb_sstfilewriter_create(io, r->file_options);
    (void)unlink(path); /* of one that broke off */
    rocksdb_sstfilewriter_open(w, path, &text);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (text == NULL)
        text = write_rows(w, fd, table);
    if (fd >= 0)
        close(fd);
    if (text == NULL) {
        const char *const files[] = {path};
        rocksdb_ingest_external_file_cf(r->db, r->family[f], files, 1, r->take,
                                        &text);
    }
    rocksdb_sstfilewriter_destroy(w);
    rocksdb_envoptions_destroy(io);
    (void)unlink(path);
    return text == NULL ? ERR_OK : error_of(text, "write", err);
}

static enum errcode
rocks_get(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
          struct span key, struct buf *ret, struct error *err)
{
    struct rocks *r = (struct rocks *)kv;
    char *text = NULL;

    count_nothing();
    rocksdb_pinnableslice_t *v =
        rocksdb_get_pinned_cf(r->db, snap == NULL ? r->read : snap->read,
                              r->family[f], (const char *)key.p, key.n, &text);

    if (text != NULL)
        return error_of(text, "read", err);
    if (v == NULL)
        return error_set(err, ERR_NOTFOUND, "no such key");
    size_t n;
    const char *p = rocksdb_pinnableslice_value(v, &n);
    buf_add(ret, span_of(p, n));
    rocksdb_pinnableslice_destroy(v);
    return ERR_OK;
}

static struct kv_snap *
rocks_snapshot(struct kv *kv)
{
    struct rocks *r = (struct rocks *)kv;
    struct kv_snap *snap = xmalloc(sizeof(*snap));

    snap->snapshot = rocksdb_create_snapshot(r->db);
    snap->read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_snapshot(snap->read, snap->snapshot);
    return snap;
}

static void
rocks_release(struct kv *kv, struct kv_snap *snap)
{
    struct rocks *r = (struct rocks *)kv;

    rocksdb_readoptions_destroy(snap->read);
    rocksdb_release_snapshot(r->db, snap->snapshot);
    free(snap);
}

static void
rocks_iter_seek(struct kv_iter *kvit, struct span key)
{
    struct rocks_iter *it = (struct rocks_iter *)kvit;

    if (span_cmp(key, buf_span(&it->prefix)) < 0)
        key = buf_span(&it->prefix);
    rocksdb_iter_seek(it->i, (const char *)key.p, key.n);
    it->is_before = true;
}

static struct kv_iter *
rocks_iter_open(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
                struct span prefix, struct span from)
{
    struct rocks *r = (struct rocks *)kv;
    struct rocks_iter *it = xcalloc(1, sizeof(*it));

    count_nothing();
    it->it.ops = kv->ops;
    it->read = rocksdb_readoptions_create();
    if (snap != NULL)
        rocksdb_readoptions_set_snapshot(it->read, snap->snapshot);
    buf_add(&it->prefix, prefix);
    if (kv_prefix_end(prefix, &it->end))
        rocksdb_readoptions_set_iterate_upper_bound(
            it->read, (const char *)it->end.p, it->end.n);
    it->i = rocksdb_create_iterator_cf(r->db, it->read, r->family[f]);
    rocks_iter_seek(&it->it, from);
    return &it->it;
}

static bool
rocks_iter_next(struct kv_iter *kvit, struct span *ret_key,
                struct span *ret_value)
{
    struct rocks_iter *it = (struct rocks_iter *)kvit;

    if (!it->is_before && rocksdb_iter_valid(it->i))
        rocksdb_iter_next(it->i);
    it->is_before = false;
    if (!rocksdb_iter_valid(it->i))
        return false;
    size_t n;
    const char *p = rocksdb_iter_key(it->i, &n);
    *ret_key = span_of(p, n);
    p = rocksdb_iter_value(it->i, &n);
    *ret_value = span_of(p, n);
    return true;
}

static enum errcode
rocks_iter_close(struct kv_iter *kvit, struct error *err)
{
    struct rocks_iter *it = (struct rocks_iter *)kvit;
    char *text = NULL;

    rocksdb_iter_get_error(it->i, &text);
    rocksdb_iter_destroy(it->i);
    rocksdb_readoptions_destroy(it->read);
    buf_free(&it->prefix);
    buf_free(&it->end);
    free(it);
    return text == NULL ? ERR_OK : error_of(text, "iterate", err);
}

/*
 * RocksDB counts its background errors and never takes one back, so whether
 * the last one still stands is asked by a write of nothing.
 */
static enum errcode
rocks_health(struct kv *kv, struct error *err)
{
    struct rocks *r = (struct rocks *)kv;
    uint64_t errors = 0;
    char *text = NULL;

    rocksdb_property_int_cf(r->db, r->family[KV_STATE],
                            "rocksdb.background-errors", &errors);
    if (errors == atomic_load(&r->errors_healed))
        return ERR_OK;

    rocksdb_writebatch_t *nothing = rocksdb_writebatch_create();
    rocksdb_write(r->db, r->probe, nothing, &text);
    rocksdb_writebatch_destroy(nothing);
    if (text == NULL) {
        atomic_store(&r->errors_healed, errors);
        return ERR_OK;
    }
    enum errcode rc = error_of(text, "health", err);
    /* Writes wait since an error that heals: that is a full disk. */
    if (rc == ERR_AGAIN)
        return error_set(err, ERR_NOSPACE,
                         "state database: flushes fail and writes wait");
    return rc;
}

static uint64_t
rocks_property(struct kv *kv, const char *name)
{
    struct rocks *r = (struct rocks *)kv;
    uint64_t n = 0;

    if (rocksdb_property_int_cf(r->db, r->family[KV_STATE], name, &n) != 0)
        return 0;
    return n;
}

static const struct kv_ops rocks_ops = {
    .close = rocks_close,
    .get = rocks_get,
    .snapshot = rocks_snapshot,
    .release = rocks_release,
    .iter_open = rocks_iter_open,
    .iter_next = rocks_iter_next,
    .iter_seek = rocks_iter_seek,
    .iter_close = rocks_iter_close,
    .health = rocks_health,
    .property = rocks_property,
    .load = rocks_load,
};

/* What holds for the database as a whole. */
static void
set_database_options(rocksdb_options_t *o)
{
    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_create_missing_column_families(o, 1);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_set_max_open_files(o, OPEN_FILES);
    rocksdb_options_set_bytes_per_sync(o, (uint64_t)1 << 20);
    rocksdb_options_set_info_log_level(o, INFO_LOG_FATAL);
    rocksdb_options_set_keep_log_file_num(o, 2);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
}

static void
set_family_options(rocksdb_options_t *o, rocksdb_cache_t *cache)
{
    rocksdb_block_based_table_options_t *t =
        rocksdb_block_based_options_create();

    rocksdb_block_based_options_set_block_size(t, BLOCK_BYTES);
    rocksdb_block_based_options_set_block_cache(t, cache);
    rocksdb_block_based_options_set_filter_policy(
        t, rocksdb_filterpolicy_create_bloom_full(FILTER_BITS));
    rocksdb_block_based_options_set_format_version(t, 5);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(t,
                                                                            1);
    rocksdb_options_set_block_based_table_factory(o, t);
    rocksdb_block_based_options_destroy(t);

    rocksdb_options_set_write_buffer_size(o, MEMTABLE_BYTES);
    rocksdb_options_set_compaction_style(o, rocksdb_level_compaction);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
    rocksdb_options_set_compression(o, rocksdb_lz4_compression);
}

/* What a fresh file is written with: it is rewritten soon, so cheaply. */
static rocksdb_options_t *
file_options(rocksdb_cache_t *cache)
{
    rocksdb_options_t *o = rocksdb_options_create();

    set_family_options(o, cache);
    return o;
}

/* Not in the C interface but by text.  Takes BASE. */
static enum errcode
set_no_flush_at_close(rocksdb_options_t **base, struct error *err)
{
    rocksdb_options_t *o = rocksdb_options_create();
    char *text = NULL;

    rocksdb_get_options_from_string(*base, "avoid_flush_during_shutdown=true",
                                    o, &text);
    if (text != NULL) {
        rocksdb_options_destroy(o);
        return error_of(text, "options", err);
    }
    rocksdb_options_destroy(*base);
    *base = o;
    return ERR_OK;
}

enum errcode
kv_rocks_below(const char *path, uint64_t cache_bytes, struct kv **ret,
               struct error *err)
{
    static const char *const names[KV_FAMILIES] = {
        [KV_STATE] = "default", [KV_CACHE] = "cache"};
    enum errcode rc = env_mkdirs(env_system(), path, err);
    char *text = NULL;

    if (rc != ERR_OK)
        return error_prefix(err, "state database");
    struct rocks *r = xcalloc(1, sizeof(*r));
    r->kv.ops = &rocks_ops;
    r->cache = rocksdb_cache_create_lru(cache_bytes);
    r->path = xstrdup(path);
    r->file_options = file_options(r->cache);
    r->take = rocksdb_ingestexternalfileoptions_create();
    rocksdb_ingestexternalfileoptions_set_move_files(r->take, 1);
    r->probe = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(r->probe, 1);
    rocksdb_writeoptions_set_no_slowdown(r->probe, 1);
    r->read = rocksdb_readoptions_create();
    for (size_t f = 0; f < KV_FAMILIES; f++) {
        r->options[f] = rocksdb_options_create();
        set_database_options(r->options[f]);
        set_family_options(r->options[f], r->cache);
        rocksdb_options_set_bottommost_compression(r->options[f],
                                                   rocksdb_zstd_compression);
    }

    struct kv *kv = &r->kv;
    rc = set_no_flush_at_close(&r->options[KV_STATE], err);
    if (rc == ERR_OK) {
        r->db = rocksdb_open_column_families(
            r->options[KV_STATE], path, (int)KV_FAMILIES, names,
            (const rocksdb_options_t *const *)r->options, r->family, &text);
        if (text != NULL)
            rc = error_of(text, "open", err);
        if (rc == ERR_BUSY)
            error_set(err, ERR_BUSY,
                      "state database: another process has %s open: one store "
                      "belongs to one process",
                      path);
    }
    if (rc != ERR_OK) {
        kv_close(&kv);
        return rc;
    }
    *ret = kv;
    return ERR_OK;
}

enum errcode
kv_open_rocks(const char *path, uint64_t cache_bytes, struct kv **ret,
              struct error *err)
{
    static const struct kv_front_limits limits = {
        .bytes = {
            [KV_STATE] = STATE_TABLE_BYTES, [KV_CACHE] = CACHE_TABLE_BYTES}};
    struct kv *below = NULL;

    enum errcode rc = kv_rocks_below(path, cache_bytes, &below, err);
    if (rc == ERR_OK)
        *ret = kv_front_open(below, &limits);
    return rc;
}
