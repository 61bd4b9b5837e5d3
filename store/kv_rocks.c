/*
 * store/kv_rocks.c - one RocksDB database, the half of store/kv_pair.c.
 *
 * Rows come as whole tables, each becoming one file that RocksDB takes in
 * (ingests) at once: its memtables stay empty and there is no WAL; the sync log
 * is the only log.  Because all state is in one database, in one family, what
 * is on disk is a prefix of the batches written, with the applied position in
 * it.
 *
 * A delivery asks for keys that are not there (is this GUID known?), so files
 * have filters over whole keys.  Filters and indexes are kept with the open
 * file and not in the block cache: where they did not fit they drove each other
 * and all data out of it, and filling half a million mailboxes took more than
 * twice the time.  OPEN_FILES bounds what they take: about 2 MiB a file.
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
#include "store/kv_pair.h"
#include "store/kv_private.h"
#include "store/kv_table.h"

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
#define OPEN_FILES_DISK 16 /* of a walk over the disk */
#define CHECKSUM_XXH3 4    /* rocksdb::kXXH3 */
/*
 * RocksDB's own log of events lies beside the data, and in a build with
 * assertions, as Debian's is, the second line after one that met a full disk
 * ends the process.  So it gets the lines of opening, and no others.
 */
#define INFO_LOG_FATAL 4

struct rocks {
    struct kv kv;
    const char *name; /* in messages */
    rocksdb_t *db;
    rocksdb_options_t *options;
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
    const char *name;
    rocksdb_t *own; /* of a walk over the disk, or NULL */
    struct buf prefix;
    struct buf end; /* the first key behind the prefix; read has a pointer */
#ifdef __SANITIZE_THREAD__
    struct buf key, value; /* the row */
#endif
    bool is_before; /* stands at what the next call is to give */
};

/* Take TEXT, which RocksDB gave, for what was tried. */
static enum errcode
error_of(char *text, const char *name, const char *what, struct error *err)
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
    error_set(err, code, "%s: %s: %s", name, what, text);
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

/* The same of a walk over the disk: a file may have been replaced meanwhile. */
static enum errcode
disk_error_of(char *text, const char *name, struct error *err)
{
    const bool is_gone = strstr(text, "No such file") != NULL;
    enum errcode rc = error_of(text, name, "look at the disk", err);

    return is_gone ? (err->code = ERR_NOTFOUND) : rc;
}

static rocksdb_readoptions_t *
read_options(void)
{
    rocksdb_readoptions_t *o = rocksdb_readoptions_create();

    rocksdb_readoptions_set_verify_checksums(o, 1);
    return o;
}

static void
rocks_close(struct kv *kv)
{
    struct rocks *r = (struct rocks *)kv;

    if (r->db != NULL)
        rocksdb_close(r->db);
    rocksdb_options_destroy(r->options);
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

    (void)f;
    rocksdb_property_int(r->db, "rocksdb.num-files-at-level0", &fresh);
    if (fresh >= FRESH_FILES_MAX)
        return error_set(err, ERR_AGAIN, "%s: merging", r->name);
    AUTO(xfree) char *path = xasprintf("%s/load.tmp", r->path);
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
        rocksdb_ingest_external_file(r->db, files, 1, r->take, &text);
    }
    rocksdb_sstfilewriter_destroy(w);
    rocksdb_envoptions_destroy(io);
    (void)unlink(path);
    return text == NULL ? ERR_OK : error_of(text, r->name, "write", err);
}

static enum errcode
rocks_get(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
          struct span key, struct buf *ret, struct error *err)
{
    struct rocks *r = (struct rocks *)kv;
    char *text = NULL;

    (void)f;
    count_nothing();
    rocksdb_pinnableslice_t *v =
        rocksdb_get_pinned(r->db, snap == NULL ? r->read : snap->read,
                           (const char *)key.p, key.n, &text);

    if (text != NULL)
        return error_of(text, r->name, "read", err);
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
    snap->read = read_options();
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

    (void)f;
    count_nothing();
    it->it.ops = kv->ops;
    it->name = r->name;
    it->read = read_options();
    if (snap != NULL)
        rocksdb_readoptions_set_snapshot(it->read, snap->snapshot);
    buf_add(&it->prefix, prefix);
    if (kv_prefix_end(prefix, &it->end))
        rocksdb_readoptions_set_iterate_upper_bound(
            it->read, (const char *)it->end.p, it->end.n);
    it->i = rocksdb_create_iterator(r->db, it->read);
    rocks_iter_seek(&it->it, from);
    return &it->it;
}

/*
 * A part of the row lies in the block cache, put there by whoever needed the
 * block first.  What orders that TSan does not see, for RocksDB is not built
 * for it; so there the bytes are copied here, and tests/tsan.supp can name this
 * one place instead of all that look at rows.
 */
#ifdef __SANITIZE_THREAD__
static struct span
rocks_iter_copy(struct buf *to, const char *p, size_t n)
{
    buf_clear(to);
    buf_add(to, span_of(p, n));
    return buf_span(to);
}
#define HAND_OUT(it, part, p, n) rocks_iter_copy(&(it)->part, p, n)
#else
#define HAND_OUT(it, part, p, n) span_of(p, n)
#endif

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
    *ret_key = HAND_OUT(it, key, p, n);
    p = rocksdb_iter_value(it->i, &n);
    *ret_value = HAND_OUT(it, value, p, n);
    return true;
}

static enum errcode
rocks_iter_close(struct kv_iter *kvit, struct error *err)
{
    struct rocks_iter *it = (struct rocks_iter *)kvit;
    const char *name = it->name;
    const bool is_disk = it->own != NULL;
    char *text = NULL;

    rocksdb_iter_get_error(it->i, &text);
    rocksdb_iter_destroy(it->i);
    if (it->own != NULL)
        rocksdb_close(it->own);
    rocksdb_readoptions_destroy(it->read);
    buf_free(&it->prefix);
    buf_free(&it->end);
#ifdef __SANITIZE_THREAD__
    buf_free(&it->key);
    buf_free(&it->value);
#endif
    free(it);
    if (text == NULL)
        return ERR_OK;
    return is_disk ? disk_error_of(text, name, err)
                   : error_of(text, name, "iterate", err);
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

    rocksdb_property_int(r->db, "rocksdb.background-errors", &errors);
    if (errors == atomic_load(&r->errors_healed))
        return ERR_OK;

    rocksdb_writebatch_t *nothing = rocksdb_writebatch_create();
    rocksdb_write(r->db, r->probe, nothing, &text);
    rocksdb_writebatch_destroy(nothing);
    if (text == NULL) {
        atomic_store(&r->errors_healed, errors);
        return ERR_OK;
    }
    enum errcode rc = error_of(text, r->name, "health", err);
    /* Writes wait since an error that heals: that is a full disk. */
    if (rc == ERR_AGAIN)
        return error_set(err, ERR_NOSPACE, "%s: flushes fail and writes wait",
                         r->name);
    return rc;
}

static uint64_t
rocks_property(struct kv *kv, const char *name)
{
    struct rocks *r = (struct rocks *)kv;
    uint64_t n = 0;

    if (rocksdb_property_int(r->db, name, &n) != 0)
        return 0;
    return n;
}

/* What holds for the database as a whole. */
static void
set_database_options(rocksdb_options_t *o)
{
    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_paranoid_checks(o, 1);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_set_max_open_files(o, OPEN_FILES);
    rocksdb_options_set_bytes_per_sync(o, (uint64_t)1 << 20);
    rocksdb_options_set_info_log_level(o, INFO_LOG_FATAL);
    rocksdb_options_set_keep_log_file_num(o, 2);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
}

/* Without a CACHE all is read from the files. */
static void
set_table_options(rocksdb_options_t *o, rocksdb_cache_t *cache)
{
    rocksdb_block_based_table_options_t *t =
        rocksdb_block_based_options_create();

    rocksdb_block_based_options_set_block_size(t, BLOCK_BYTES);
    if (cache != NULL)
        rocksdb_block_based_options_set_block_cache(t, cache);
    else
        rocksdb_block_based_options_set_no_block_cache(t, 1);
    rocksdb_block_based_options_set_filter_policy(
        t, rocksdb_filterpolicy_create_bloom_full(FILTER_BITS));
    rocksdb_block_based_options_set_format_version(t, 5);
    rocksdb_block_based_options_set_checksum(t, CHECKSUM_XXH3);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 0);
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

    set_table_options(o, cache);
    return o;
}

/*
 * A second look at the files, as if they had just been found: its own list of
 * files, no block cache and, where the file system can, no page cache.  Files
 * that are merged away meanwhile are gone when it comes to them.
 */
static enum errcode
rocks_disk_iter(struct kv *kv, struct span from, struct kv_iter **ret,
                struct error *err)
{
    struct rocks *r = (struct rocks *)kv;
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_t *db = NULL;

    set_database_options(o);
    set_table_options(o, NULL);
    rocksdb_options_set_max_open_files(o, OPEN_FILES_DISK);
    for (int direct = 1; direct >= 0 && db == NULL; direct--) {
        char *text = NULL;
        rocksdb_options_set_use_direct_reads(o, (unsigned char)direct);
        db = rocksdb_open_for_read_only(o, r->path, 0, &text);
        if (text != NULL)
            (void)disk_error_of(text, r->name, err);
    }
    rocksdb_options_destroy(o);
    if (db == NULL)
        return err->code;
    struct rocks look = {.db = db, .name = r->name};
    look.kv.ops = kv->ops;
    *ret = rocks_iter_open(&look.kv, NULL, KV_STATE, SPAN_EMPTY, from);
    ((struct rocks_iter *)*ret)->own = db;
    return ERR_OK;
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
    .disk_iter = rocks_disk_iter,
};

/* Not in the C interface but by text.  Takes BASE. */
static enum errcode
set_text_options(rocksdb_options_t **base, const char *name, struct error *err)
{
    rocksdb_options_t *o = rocksdb_options_create();
    char *text = NULL;

    rocksdb_get_options_from_string(
        *base, "avoid_flush_during_shutdown=true;force_consistency_checks=true",
        o, &text);
    if (text != NULL) {
        rocksdb_options_destroy(o);
        return error_of(text, name, "options", err);
    }
    rocksdb_options_destroy(*base);
    *base = o;
    return ERR_OK;
}

/*
 * Derived records were in a second family of the state before they had a
 * database of their own.  It goes.  What is wrong here the opening tells.
 */
static void
drop_old_families(const struct rocks *r)
{
    char *text = NULL;
    size_t n = 0;
    AUTO(xfree) char *current = xasprintf("%s/CURRENT", r->path);

    if (!env_exists(env_system(), current))
        return;
    char **names = rocksdb_list_column_families(r->options, r->path, &n, &text);
    rocksdb_free(text);
    text = NULL;
    if (n > 1) {
        rocksdb_column_family_handle_t **of = xcalloc(n, sizeof(*of));
        const rocksdb_options_t **options = xcalloc(n, sizeof(*options));
        for (size_t i = 0; i < n; i++)
            options[i] = r->options;
        rocksdb_t *db = rocksdb_open_column_families(
            r->options, r->path, (int)n, (const char *const *)names, options,
            of, &text);
        for (size_t i = 0; db != NULL && i < n; i++) {
            if (strcmp(names[i], "default") != 0)
                rocksdb_drop_column_family(db, of[i], &text);
            rocksdb_column_family_handle_destroy(of[i]);
        }
        if (db != NULL)
            rocksdb_close(db);
        free(of);
        free(options);
        rocksdb_free(text);
    }
    rocksdb_list_column_families_destroy(names, n);
}

enum errcode
kv_rocks_one(const char *path, const char *name, rocksdb_cache_t *cache,
             struct kv **ret, struct error *err)
{
    enum errcode rc = env_mkdirs(env_system(), path, err);
    char *text = NULL;

    if (rc != ERR_OK)
        return error_prefix(err, "%s", name);
    struct rocks *r = xcalloc(1, sizeof(*r));
    r->kv.ops = &rocks_ops;
    r->name = name;
    r->path = xstrdup(path);
    r->file_options = file_options(cache);
    r->take = rocksdb_ingestexternalfileoptions_create();
    rocksdb_ingestexternalfileoptions_set_move_files(r->take, 1);
    r->probe = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(r->probe, 1);
    rocksdb_writeoptions_set_no_slowdown(r->probe, 1);
    r->read = read_options();
    r->options = rocksdb_options_create();
    set_database_options(r->options);
    set_table_options(r->options, cache);
    rocksdb_options_set_bottommost_compression(r->options,
                                               rocksdb_zstd_compression);

    struct kv *kv = &r->kv;
    rc = set_text_options(&r->options, name, err);
    if (rc == ERR_OK) {
        drop_old_families(r);
        r->db = rocksdb_open(r->options, path, &text);
        if (text != NULL)
            rc = error_of(text, name, "open", err);
        if (rc == ERR_BUSY)
            error_set(err, ERR_BUSY,
                      "%s: another process has %s open: one store belongs to "
                      "one process",
                      name, path);
    }
    if (rc != ERR_OK) {
        kv_close(&kv);
        return rc;
    }
    *ret = kv;
    return ERR_OK;
}
