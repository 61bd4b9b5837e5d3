/*
 * search/index.c - opening, and bringing a mailbox level with the store.
 *
 * Messages that are not indexed yet become a segment, some thousand at a time:
 * their words gathered in memory (search/lexicon.h), written as blocks, and
 * named by the mailbox's head in the last write.  Blocks that no head names are
 * of an attempt that broke off; the next segment has their number and removes
 * them first.  Segments are merged so that there are few (search/merge.c).
 */
#include "search/index_private.h"

#include <stdlib.h>

#define SEGMENT_DOCS 8192U
#define WRITE_BYTES ((size_t)1 << 20)

static const char key_origin[] = {'I'};

/* ---- rows -------------------------------------------------------------- */

enum errcode
head_read(struct search_db *db, struct search_db_view *view, mbid_t id,
          struct index_head *ret, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct row_key k;

    enum errcode rc =
        search_db_get(db, view, row_key_mailbox(&k, 'H', id), &value, err);
    if (rc == ERR_OK && !index_head_decode(buf_span(&value), ret))
        rc = error_set(err, ERR_CORRUPT,
                       "search index: head of mailbox %" PRIu64, id);
    return rc;
}

enum errcode
docs_read(struct search_db *db, struct search_db_view *view, mbid_t id,
          uint32_t segment, struct uidset *ret, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct row_key k;

    enum errcode rc = search_db_get(
        db, view, row_key_segment(&k, 'D', id, segment), &value, err);
    if (rc == ERR_NOTFOUND ||
        (rc == ERR_OK && !index_docs_decode(buf_span(&value), ret)))
        rc = error_set(err, ERR_CORRUPT,
                       "search index: messages of segment %" PRIu64 ".%" PRIu32,
                       id, segment);
    return rc;
}

static enum errcode
drop_prefix(struct search_db *db, struct span prefix, struct error *err)
{
    struct search_batch *batch = search_batch_new();
    struct search_db_iter *it = search_db_iter(db, NULL, prefix);
    struct span key, value;
    enum errcode rc = ERR_OK;

    while (rc == ERR_OK && search_db_next(it, &key, &value)) {
        search_batch_delete(batch, key);
        if (search_batch_bytes(batch) >= WRITE_BYTES)
            rc = search_db_write(db, batch, err);
    }
    enum errcode end = search_db_iter_close(&it, rc == ERR_OK ? err : NULL);
    if (rc == ERR_OK)
        rc = end;
    if (rc == ERR_OK)
        rc = search_db_write(db, batch, err);
    search_batch_free(&batch);
    return rc;
}

enum errcode
rows_drop(struct search_db *db, mbid_t id, uint32_t segment, struct error *err)
{
    struct row_key k;
    const bool all = segment == ALL_SEGMENTS;
    enum errcode rc = ERR_OK;

    for (const char *t = all ? "HDBF" : "DBF"; rc == ERR_OK && *t != '\0'; t++)
        rc = drop_prefix(db,
                         all ? row_key_mailbox(&k, *t, id)
                             : row_key_segment(&k, *t, id, segment),
                         err);
    return rc;
}

enum errcode
head_write(struct search_index *x, struct search_batch *batch, mbid_t id,
           const struct index_head *h, struct error *err)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct row_key k;
    struct store_log_view log;
    const struct store_pos pos = store_pos(x->store);

    store_log_view(x->store, &log);
    index_head_encode(h, &value);
    search_batch_put(batch, row_key_mailbox(&k, 'H', id), buf_span(&value));
    buf_clear(&value);
    index_origin_encode(&(struct index_origin){.cluster = log.cluster,
                                               .epoch = pos.applied.epoch,
                                               .lsn = pos.applied.lsn},
                        &value);
    search_batch_put(batch, span_of(key_origin, 1), buf_span(&value));
    return search_db_write(x->db, batch, err);
}

/* ---- segments ---------------------------------------------------------- */

void
segment_out_begin(struct segment_out *o, struct search_db *db, mbid_t id,
                  uint32_t segment, struct error *err)
{
    *o = (struct segment_out){.db = db,
                              .batch = search_batch_new(),
                              .id = id,
                              .seg = {.id = segment},
                              .filter = xcalloc(1, sizeof(*o->filter)),
                              .err = err};
    /* Of an attempt that broke off. */
    o->rc = rows_drop(db, id, segment, err);
}

static void
put_row(struct segment_out *o, char table, uint32_t no, struct span value)
{
    struct row_key k;

    search_batch_put(o->batch,
                     row_key_block(&k, table, o->id, o->seg.id, o->kind, no),
                     value);
    o->seg.bytes += value.n;
    if (search_batch_bytes(o->batch) >= WRITE_BYTES)
        o->rc = search_db_write(o->db, o->batch, o->err);
}

void
segment_out_kind_end(struct segment_out *o)
{
    AUTO(buf_free) struct buf row = BUF_INIT;

    if (o->rc == ERR_OK && o->filter->nblocks >= FILTER_BLOCKS_MIN) {
        gram_filter_encode(o->filter, &row);
        put_row(o, 'F', (o->seg.blocks[o->kind] - 1) / GRAM_FILTER_BLOCKS,
                buf_span(&row));
    }
    gram_filter_clear(o->filter);
}

void
segment_out_block(void *out, struct span block, const struct gram_set *grams)
{
    struct segment_out *o = out;

    if (o->rc != ERR_OK)
        return;
    put_row(o, 'B', o->seg.blocks[o->kind]++, block);
    gram_filter_add(o->filter, grams);
    if (o->filter->nblocks == GRAM_FILTER_BLOCKS)
        segment_out_kind_end(o);
}

void
segment_out_free(struct segment_out *o)
{
    search_batch_free(&o->batch);
    xfree(&o->filter);
}

static void
add_segment(struct index_head *h, const struct index_segment *seg)
{
    h->segments =
        xrealloc(h->segments, (h->nsegments + 1) * sizeof(h->segments[0]));
    h->segments[h->nsegments++] = *seg;
    h->next_segment = seg->id + 1;
}

/* The lexicons become a segment of the messages UIDS. */
static enum errcode
write_segment(struct search_index *x, mbid_t id, struct index_head *h,
              const struct uidset *uids, struct error *err)
{
    struct segment_out out;
    struct block_writer w = {.emit = segment_out_block, .ctx = &out};
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct row_key k;

    segment_out_begin(&out, x->db, id, h->next_segment, err);
    for (size_t i = 0; i < WORDS_KINDS; i++) {
        out.kind = (enum words_of)i;
        lexicon_write(&x->lex[i], &w);
        segment_out_kind_end(&out);
    }
    block_writer_free(&w);
    enum errcode rc = out.rc;
    if (rc == ERR_OK) {
        out.seg.docs = (uint32_t)uidset_count(uids);
        index_docs_encode(uids, &value);
        search_batch_put(out.batch, row_key_segment(&k, 'D', id, out.seg.id),
                         buf_span(&value));
        add_segment(h, &out.seg);
        rc = head_write(x, out.batch, id, h, err);
    }
    segment_out_free(&out);
    return rc;
}

/* ---- messages ---------------------------------------------------------- */

struct intake {
    struct search_index *x;
    bool too_many;
    struct lexicon *lex;
};

static void
take_word(void *ctx, struct span word)
{
    struct intake *in = ctx;

    if (!in->too_many && !lexicon_add(in->lex, word))
        in->too_many = true;
}

static size_t
take_text(void *ctx, bool own_header, struct span text)
{
    struct intake *in = ctx;

    in->lex = &in->x->lex[own_header ? WORDS_HEADER : WORDS_BODY];
    size_t keep = words_split(text, take_word, in);
    return in->too_many ? MIME_TAKE_STOP : keep;
}

/* Its derived record, made where it is missing, into x->cache. */
static bool
read_cache(struct search_index *x, struct store_snap *snap, mbid_t id,
           const struct message *m, struct mime_cache *ret)
{
    struct error ignored = {0};
    struct mime_message *parsed = NULL;
    AUTO(buf_free) struct buf raw = BUF_INIT;

    buf_clear(&x->cache);
    if (snap_cache(snap, id, m->uid, &x->cache, &ignored) == ERR_OK &&
        mime_cache_decode(buf_span(&x->cache), ret, &ignored) == ERR_OK &&
        ret->message_size == m->size)
        return true;
    if (store_body_read(x->store, &m->guid, 0, m->size, &raw, &ignored) !=
            ERR_OK ||
        raw.n != m->size)
        return false;
    mime_parse(buf_span(&raw), NULL, &parsed);
    buf_clear(&x->cache);
    mime_cache_encode(parsed, &x->cache);
    mime_message_free(&parsed);
    return mime_cache_decode(buf_span(&x->cache), ret, &ignored) == ERR_OK;
}

/* The words of M into the lexicons; false: they are not all to be had. */
static bool
take_message(struct search_index *x, struct store_snap *snap, mbid_t id,
             const struct message *m)
{
    struct mime_cache cache;
    struct intake in = {.x = x};
    bool whole = read_cache(x, snap, id, m, &cache);

    for (size_t i = 0; i < WORDS_KINDS; i++)
        lexicon_begin(&x->lex[i]);
    if (whole) {
        stored_source_set(&x->source, x->store, &m->guid, m->size);
        const struct mime_source src = stored_source(&x->source);
        whole = mime_fold(&cache, &src, MIME_SEARCH_TEXT, x->folder, take_text,
                          &in) &&
                !in.too_many;
    }
    for (size_t i = 0; !whole && i < WORDS_KINDS; i++)
        lexicon_take_back(&x->lex[i]);
    return whole;
}

/* Some of MISSING, which loses them, become a segment. */
static enum errcode
index_some(struct search_index *x, struct store_snap *snap, mbid_t id,
           struct index_head *h, struct uidset *missing,
           const struct search_wish *wish, struct search_done *done,
           struct error *err)
{
    AUTO(uidset_free) struct uidset taken = UIDSET_INIT;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    enum errcode rc = ERR_OK;
    uint32_t uid = 0, n = 0;

    for (size_t i = 0; i < WORDS_KINDS; i++)
        lexicon_clear(&x->lex[i]);
    while (n < SEGMENT_DOCS && !lexicon_is_full(&x->lex[WORDS_HEADER]) &&
           !lexicon_is_full(&x->lex[WORDS_BODY]) &&
           (uid = uidset_next(missing, uid + 1)) != 0) {
        struct message m;
        arena_reset(&a);
        if (wish->stop != NULL && wish->stop(wish->stop_ctx))
            return error_set(err, ERR_CLOSED, "stopped");
        rc = snap_message(snap, id, uid, &a, &m, err);
        if (rc == ERR_NOTFOUND)
            continue;
        if (rc != ERR_OK)
            return rc;
        if (take_message(x, snap, id, &m)) {
            uidset_add(&taken, uid, uid);
            done->messages++;
            done->bytes += m.size;
            n++;
        } else {
            uidset_add(&h->skipped, uid, uid);
            done->skipped++;
        }
    }
    h->upto = MAX(h->upto, uid == 0 ? missing->r[missing->n - 1].last : uid);
    uidset_remove(missing, 1, uid == 0 ? UINT32_MAX : uid);
    if (n > 0)
        return write_segment(x, id, h, &taken, err);
    struct search_batch *batch = search_batch_new();
    rc = head_write(x, batch, id, h, err);
    search_batch_free(&batch);
    return rc;
}

/* What is to be indexed: in MB, and in no segment. */
static enum errcode
find_missing(struct search_index *x, mbid_t id, const struct index_head *h,
             const struct uidset *alive, struct uidset *ret, struct error *err)
{
    AUTO(uidset_free) struct uidset docs = UIDSET_INIT;
    enum errcode rc = ERR_OK;

    AUTO(uidset_free) struct uidset known = UIDSET_INIT;

    uidset_add_set(&known, &h->skipped);
    for (size_t i = 0; rc == ERR_OK && i < h->nsegments; i++) {
        uidset_clear(&docs);
        rc = docs_read(x->db, NULL, id, h->segments[i].id, &docs, err);
        uidset_add_set(&known, &docs);
    }
    search_uids_without(alive, &known, ret);
    return rc;
}

/* ---- a mailbox --------------------------------------------------------- */

/* The head of MB, an empty one where what is there is of another. */
static enum errcode
begin_head(struct search_index *x, const struct mailbox *mb, bool rebuild,
           struct index_head *h, struct error *err)
{
    enum errcode rc = head_read(x->db, NULL, mb->id, h, err);

    if (rc == ERR_OK && !rebuild && h->uidvalidity == mb->uidvalidity &&
        strcmp(h->uniqueid.s, mb->uniqueid.s) == 0)
        return ERR_OK;
    if (rc != ERR_OK && rc != ERR_NOTFOUND)
        return rc;
    if (rc == ERR_OK)
        rc = rows_drop(x->db, mb->id, ALL_SEGMENTS, err);
    index_head_free(h);
    *h = (struct index_head){.uniqueid = mb->uniqueid,
                             .uidvalidity = mb->uidvalidity};
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

/* Too much in the segments that is not in the mailbox any more? */
static bool
is_stale(const struct index_head *h, const struct uidset *alive)
{
    uint64_t docs = 0;

    for (size_t i = 0; i < h->nsegments; i++)
        docs += h->segments[i].docs;
    return docs > 2 * uidset_count(alive) + 64;
}

static enum errcode
update_mailbox(struct search_index *x, struct store_snap *snap,
               const struct mailbox *mb, const struct search_wish *wish,
               struct search_done *done, struct error *err)
{
    AUTO(index_head_free) struct index_head h = {0};
    AUTO(uidset_free) struct uidset alive = UIDSET_INIT;
    AUTO(uidset_free) struct uidset missing = UIDSET_INIT;
    const uint32_t least = MAX(wish->least, 1U);
    uint32_t unseen;

    enum errcode rc = begin_head(x, mb, wish->rebuild, &h, err);
    if (rc != ERR_OK)
        return rc;
    if (least > 1 && mb->uidnext - 1 < h.upto + least) {
        done->left += mb->uidnext - 1 > h.upto ? mb->uidnext - 1 - h.upto : 0;
        return ERR_OK;
    }
    rc = snap_uids(snap, mb, &alive, &unseen, err);
    if (rc == ERR_OK)
        rc = find_missing(x, mb->id, &h, &alive, &missing, err);
    if (rc != ERR_OK)
        return rc;
    while (rc == ERR_OK && uidset_count(&missing) >= least)
        rc = index_some(x, snap, mb->id, &h, &missing, wish, done, err);
    if (rc == ERR_OK)
        done->left += uidset_count(&missing);
    if (rc == ERR_OK && h.nsegments > 0)
        rc = segments_merge(x, mb->id, &h, &alive,
                            wish->compact || is_stale(&h, &alive), err);
    return rc;
}

/* While the database is ours. */
static enum errcode
update(struct search_index *x, mbid_t id, const struct search_wish *wish,
       struct search_done *done, struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(x->store);
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct mailbox mb;

    if (x->db == NULL || atomic_load(&x->broken))
        return error_set(err, ERR_CORRUPT, "search index: to be made again");
    enum errcode rc = snap_mailbox(snap, id, &a, &mb, err);
    if (rc == ERR_NOTFOUND)
        return rows_drop(x->db, id, ALL_SEGMENTS, err);
    if (rc != ERR_OK)
        return rc;
    rc = update_mailbox(x, snap, &mb, wish, done, err);
    if (rc != ERR_CORRUPT)
        return rc;
    struct error ignored = {0};
    if (rows_drop(x->db, id, ALL_SEGMENTS, &ignored) == ERR_CORRUPT)
        atomic_store(&x->broken, true);
    return rc;
}

enum errcode
search_update(struct search_index *x, mbid_t id, const struct search_wish *wish,
              struct search_done *ret, struct error *err)
{
    struct search_done mine = {0};

    pthread_mutex_lock(&x->turn);
    pthread_rwlock_rdlock(&x->lock);
    enum errcode rc = update(x, id, wish, ret == NULL ? &mine : ret, err);
    pthread_rwlock_unlock(&x->lock);
    pthread_mutex_unlock(&x->turn);
    return rc;
}

enum errcode
search_each_mailbox(struct search_index *x, void (*call)(void *ctx, mbid_t id),
                    void *ctx, struct error *err)
{
    struct span key, value;
    enum errcode rc = ERR_OK;

    pthread_rwlock_rdlock(&x->lock);
    if (x->db != NULL) {
        struct search_db_iter *it = search_db_iter(x->db, NULL, SPAN_LIT("H"));
        while (search_db_next(it, &key, &value)) {
            struct rd r = rd_init(span_skip(key, 1));
            call(ctx, rd_u64be(&r));
        }
        rc = search_db_iter_close(&it, err);
    }
    pthread_rwlock_unlock(&x->lock);
    return rc;
}

/* ---- opening ----------------------------------------------------------- */

/* Is what lies there of this store, and of no later time of it? */
static bool
is_of_store(struct search_index *x)
{
    AUTO(buf_free) struct buf value = BUF_INIT;
    struct index_origin o;
    struct error ignored = {0};
    struct store_log_view log;
    const struct store_pos pos = store_pos(x->store);

    store_log_view(x->store, &log);
    enum errcode rc =
        search_db_get(x->db, NULL, span_of(key_origin, 1), &value, &ignored);
    if (rc == ERR_NOTFOUND) {
        struct span key, any;
        struct search_db_iter *it = search_db_iter(x->db, NULL, SPAN_LIT("H"));
        bool empty = !search_db_next(it, &key, &any);
        return search_db_iter_close(&it, &ignored) == ERR_OK && empty;
    }
    if (rc != ERR_OK || !index_origin_decode(buf_span(&value), &o))
        return false;
    return instid_eq(&o.cluster, &log.cluster) &&
           (o.epoch < pos.applied.epoch ||
            (o.epoch == pos.applied.epoch && o.lsn <= pos.applied.lsn));
}

static enum errcode
open_db(struct search_index *x, struct error *err)
{
    enum errcode rc = search_db_open(x->env, x->dir, &x->db, err);

    if (rc == ERR_OK && is_of_store(x))
        return ERR_OK;
    if (rc != ERR_OK && rc != ERR_CORRUPT && rc != ERR_IO)
        return rc;
    search_db_close(&x->db);
    rc = search_db_wipe(x->env, x->dir, err);
    return rc == ERR_OK ? search_db_open(x->env, x->dir, &x->db, err) : rc;
}

enum errcode
search_index_open(struct env *env, const char *dir, struct store *store,
                  struct search_index **ret, struct error *err)
{
    struct search_index *x = xcalloc(1, sizeof(*x));

    x->env = env;
    x->dir = xstrdup(dir);
    x->store = store;
    x->folder = mime_folder_new();
    pthread_mutex_init(&x->turn, NULL);
    pthread_rwlock_init(&x->lock, NULL);
    enum errcode rc = open_db(x, err);
    if (rc != ERR_OK)
        search_index_close(&x);
    else
        *ret = x;
    return rc;
}

void
search_index_close(struct search_index **xp)
{
    struct search_index *x = *xp;

    if (x == NULL)
        return;
    search_db_close(&x->db);
    for (size_t i = 0; i < WORDS_KINDS; i++)
        lexicon_free(&x->lex[i]);
    mime_folder_free(&x->folder);
    stored_source_free(&x->source);
    buf_free(&x->cache);
    pthread_mutex_destroy(&x->turn);
    pthread_rwlock_destroy(&x->lock);
    free(x->dir);
    xfree(xp);
}

enum errcode
search_index_reset(struct search_index *x, struct error *err)
{
    pthread_mutex_lock(&x->turn);
    pthread_rwlock_wrlock(&x->lock);
    search_db_close(&x->db);
    enum errcode rc = search_db_wipe(x->env, x->dir, err);
    if (rc == ERR_OK)
        rc = search_db_open(x->env, x->dir, &x->db, err);
    atomic_store(&x->broken, rc != ERR_OK);
    pthread_rwlock_unlock(&x->lock);
    pthread_mutex_unlock(&x->turn);
    return rc;
}

bool
search_index_is_broken(const struct search_index *x)
{
    return atomic_load(&x->broken);
}

uint64_t
search_index_bytes(struct search_index *x)
{
    pthread_rwlock_rdlock(&x->lock);
    uint64_t bytes = x->db == NULL ? 0 : search_db_bytes(x->db);
    pthread_rwlock_unlock(&x->lock);
    return bytes;
}

enum errcode
search_index_flush(struct search_index *x, struct error *err)
{
    pthread_rwlock_rdlock(&x->lock);
    enum errcode rc = x->db == NULL
                          ? error_set(err, ERR_IO, "search index: not open")
                          : search_db_flush(x->db, err);
    pthread_rwlock_unlock(&x->lock);
    return rc;
}
