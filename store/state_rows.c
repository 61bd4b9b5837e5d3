/*
 * store/state_rows.c - the rows of a mailbox's messages, in UID order.
 *
 * What a transaction is about is read when it is resolved, and once more when
 * its record is applied a moment later.  So the first walk leaves what it has
 * read (struct read_rows), until the savepoint ends; a row that changes is
 * forgotten.  Who finds nothing there reads the state: it makes no difference
 * but time.
 */
#include "store/state_private.h"

/* A turn of the writer's, and some more. */
#define READ_ROWS_MAX 4096U

void
state_forget_rows(struct state *st)
{
    st->rows.id = 0;
    st->rows.n = 0;
    st->rows.at = 0;
    arena_reset(&st->rows.a);
}

/* The row of UID, or NULL. */
static struct read_row *
find_row(struct read_rows *rows, mbid_t id, uint32_t uid)
{
    size_t low = rows->at, high = rows->n;

    if (rows->id != id || rows->n == 0)
        return NULL;
    /* Mostly the one that was asked for last, or the next one. */
    if (low < rows->n && rows->r[low].m.uid < uid)
        low++;
    if (low == rows->n || rows->r[low].m.uid != uid) {
        for (low = 0; low < high;) {
            size_t mid = low + (high - low) / 2;
            if (rows->r[mid].m.uid < uid)
                low = mid + 1;
            else
                high = mid;
        }
    }
    if (low == rows->n || rows->r[low].m.uid != uid || rows->r[low].gone)
        return NULL;
    rows->at = low;
    return &rows->r[low];
}

bool
state_take_row(struct state *st, mbid_t id, uint32_t uid, uint64_t *ret_hash)
{
    struct read_row *row = find_row(&st->rows, id, uid);

    if (row == NULL)
        return false;
    row->gone = true;
    *ret_hash = row->hash;
    return true;
}

static void
leave_row(struct read_rows *rows, const struct message *m, uint64_t hash)
{
    if (rows->r == NULL)
        rows->r = xcalloc(READ_ROWS_MAX, sizeof(*rows->r));
    rows->r[rows->n++] = (struct read_row){.m = *m, .hash = hash};
}

/* ------------------------------------------------------------- iterators */

static void
iter_step(struct state_iter *it)
{
    struct span key;

    it->kv_valid = kv_iter_next(it->kv, &key, &it->kv_value);
    if (it->kv_valid)
        it->kv_uid = key_get_uid(key);
}

void
state_iter_open(struct state *st, struct head *head, struct state_iter *ret)
{
    *ret = (struct state_iter){.st = st, .head = head, .next = 1};
}

void
state_iter_leave_rows(struct state_iter *it)
{
    state_forget_rows(it->st);
    it->st->rows.id = it->head->mb.id;
    it->leaves_rows = true;
}

/* Stand on the first stored row >= UID. */
static void
iter_reach(struct state_iter *it, uint32_t uid)
{
    struct key from, prefix;
    const mbid_t id = it->head->mb.id;

    if (it->kv == NULL) {
        key_of_mailbox(&prefix, TAB_MESSAGE, id);
        it->kv = kv_iter_open(it->st->kv, NULL, KV_STATE, key_span(&prefix),
                              key_message(&from, id, uid));
        iter_step(it);
        return;
    }
    /* A short way is walked, a long one jumped. */
    for (int i = 0; i < 8 && it->kv_valid && it->kv_uid < uid; i++)
        iter_step(it);
    if (it->kv_valid && it->kv_uid < uid) {
        kv_iter_seek(it->kv, key_message(&from, id, uid));
        iter_step(it);
    }
}

static enum errcode
take_row(struct state_iter *it, uint32_t uid, struct span value,
         struct arena *a, struct message *ret, struct error *err)
{
    struct read_rows *rows = &it->st->rows;
    const bool leave = it->leaves_rows && rows->n < READ_ROWS_MAX;
    struct message m = {.uid = uid};
    struct key k;

    enum errcode rc = message_decode(value, leave ? &rows->a : a, &m, err);
    if (rc != ERR_OK)
        return rc;
    if (leave)
        leave_row(rows, &m,
                  row_hash(key_message(&k, it->head->mb.id, uid), value));
    *ret = m;
    return ERR_OK;
}

bool
state_iter_next(struct state_iter *it, uint32_t from, struct arena *a,
                struct message *ret, enum errcode *rc, struct error *err)
{
    *rc = ERR_OK;
    uint32_t uid = MAX(it->next, from);
    const struct read_row *known =
        it->leaves_rows ? NULL : find_row(&it->st->rows, it->head->mb.id, uid);

    if (known != NULL) {
        it->next = uid + 1;
        *ret = known->m;
        return true;
    }
    for (;;) {
        if (uid == 0)
            return false; /* past the last UID there can be */
        iter_reach(it, uid);
        uint32_t touched = uidset_next(&it->head->touched, uid);
        if (!it->kv_valid && touched == 0)
            return false;
        const bool in_batch =
            touched != 0 && (!it->kv_valid || touched <= it->kv_uid);
        uid = in_batch ? touched : it->kv_uid;
        it->next = uid + 1;
        struct span value = it->kv_value;
        struct key k;
        if (in_batch)
            *rc = state_get(it->st, key_message(&k, it->head->mb.id, uid), a,
                            &value, err);
        if (*rc == ERR_NOTFOUND) {
            *rc = ERR_OK;
            uid++;
            continue;
        }
        if (*rc == ERR_OK)
            *rc = take_row(it, uid, value, a, ret, err);
        return *rc == ERR_OK;
    }
}

enum errcode
state_iter_close(struct state_iter *it, enum errcode rc, struct error *err)
{
    if (it->kv == NULL)
        return rc;
    enum errcode end = kv_iter_close(&it->kv, rc == ERR_OK ? err : NULL);
    return rc == ERR_OK ? end : rc;
}
