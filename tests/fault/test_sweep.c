/*
 * tests/fault/test_sweep.c - every file call of a scenario fails once.
 *
 * The scenario opens a store, delivers small and large messages, changes flags,
 * copies, moves, expunges, renames, deletes, flushes the state, fills log
 * segments, closes and opens again.  For n = 1, 2, 3 ... the n-th call of the
 * env answers EIO, or ENOSPC, or does half of what was asked, or is the last
 * one that reaches the disk.  Then the store is opened without faults, and has
 * to be what a model of plain arrays says: all that was acknowledged, nothing
 * of what was refused, and of what was under way when it died all or nothing.
 *
 *   fault_test_sweep [LAST [STRIDE]]     e.g. 500 1; without: 500 37
 *
 * What an error has to do: a full disk refuses with ERR_NOSPACE and the same
 * thing succeeds a moment later; half a transfer is not noticed by anybody; EIO
 * on the log's bytes or their sync stops the instance.
 *
 * Over the machine in memory, with its harsh power cuts, and for fewer n over
 * real files and RocksDB.  What RocksDB itself does with files is not seen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "store/store_private.h"
#include "tests/lib/storetest.h"

#define BOXES 8
#define MESSAGES 40
#define BODIES 300
#define ROUNDS 28
#define DIR_BYTES 64
#define BIG_BYTES ((5U << 19) + 77) /* three parts */
#define LARGE_BYTES (700U << 10)

static unsigned sweep_last = 500;
static unsigned sweep_stride = 37;

/* ---- the model --------------------------------------------------------- */

struct model_message {
    uint32_t uid;
    uint32_t flags;
    uint64_t size;
    struct guid guid;
};

struct model_box {
    char name[64]; /* empty: not there */
    uint32_t uidnext;
    size_t n;
    struct model_message v[MESSAGES];
};

struct model {
    struct model_box box[BOXES];
};

static struct model_box *
box_of(struct model *m, const char *name)
{
    for (size_t i = 0; i < BOXES; i++)
        if (strcmp(m->box[i].name, name) == 0)
            return &m->box[i];
    fail_msg("the model has no %s", name);
    return NULL;
}

static struct model_message *
add_to(struct model_box *b)
{
    assert_true(b->n < MESSAGES);
    struct model_message *msg = &b->v[b->n++];
    *msg = (struct model_message){.uid = b->uidnext++};
    return msg;
}

static void
take_out(struct model_box *b, uint32_t first, uint32_t last)
{
    size_t kept = 0;

    for (size_t i = 0; i < b->n; i++)
        if (b->v[i].uid < first || b->v[i].uid > last)
            b->v[kept++] = b->v[i];
    b->n = kept;
}

/* ---- a run of the scenario --------------------------------------------- */

enum kind { KIND_EIO, KIND_ENOSPC, KIND_SHORT, KIND_KILL, KINDS };

static const char *const kind_names[KINDS] = {"EIO", "ENOSPC", "short", "kill"};

struct run {
    struct teststore ts; /* sim is NULL over real files */
    char dir[DIR_BYTES];
    enum kind kind;
    unsigned nth;
    bool is_hit;
    enum env_fault_kind hit_kind; /* the call that failed */
    char hit_path[256];
    struct model sure;  /* what is there */
    struct model maybe; /* what is there if the last step was done */
    bool is_unsure;
    bool has_ended; /* no more steps: something was refused for good */
    uint64_t seed;  /* of the next body */
};

#define FAIL(r, ...)                                                           \
    do {                                                                       \
        print_error("%s at call %u (%s): ", kind_names[(r)->kind], (r)->nth,   \
                    (r)->hit_path);                                            \
        fail_msg(__VA_ARGS__);                                                 \
    } while (0)

static int
on_hit(void *ctx, enum env_fault_kind kind, const char *path)
{
    struct run *r = ctx;

    if (!r->is_hit) {
        r->hit_kind = kind;
        snprintf(r->hit_path, sizeof(r->hit_path), "%s", path);
    }
    r->is_hit = true;
    switch (r->kind) {
    case KIND_EIO:
        return -EIO;
    case KIND_ENOSPC:
        return -ENOSPC;
    case KIND_KILL:
        if (r->ts.sim == NULL)
            return -EIO; /* and so all that follow */
        kv_disk_cut(r->ts.disk, r->seed + r->nth);
        env_sim_halt(r->ts.sim);
        return 0;
    case KIND_SHORT:
    case KINDS:
        break;
    }
    return 0;
}

static void
arm(struct run *r)
{
    static const unsigned calls[KINDS] = {
        [KIND_EIO] = FAULT_ANY,
        [KIND_ENOSPC] = FAULT_GROWS,
        [KIND_SHORT] = FAULT_READ | FAULT_WRITE,
        [KIND_KILL] = FAULT_ANY,
    };
    env_fault_add(
        r->ts.fault,
        &(struct env_fault_rule){
            .kinds = calls[r->kind],
            .nth = r->nth,
            .from_then_on = r->kind == KIND_KILL && r->ts.sim == NULL,
            .action = r->kind == KIND_SHORT ? FAULT_SHORT : FAULT_HOOK,
            .hook = on_hit,
            .hook_ctx = r,
        });
}

static void
on_fatal(void *ctx, const struct error *err)
{
    ((struct teststore *)ctx)->fatal = *err;
}

static enum errcode
open_store(struct run *r, struct error *err)
{
    const struct store_hooks hooks = {.ctx = &r->ts, .on_fatal = on_fatal};

    if (r->ts.sim != NULL)
        return ts_open(&r->ts, err);
    r->ts.fatal = (struct error){0};
    return store_open(env_fault_env(r->ts.fault), &r->ts.cfg, &hooks,
                      &r->ts.store, &r->ts.opened, err);
}

static void
begin_run(struct run *r, enum kind kind, unsigned nth, const char *real_dir)
{
    struct error err = {0};
    struct teststore *ts = &r->ts;

    assert_int_equal(log_open(LOG_TO_STDERR, NULL, "test", LOG_LV_ERROR, &err),
                     ERR_OK);
    *r = (struct run){.kind = kind, .nth = nth, .seed = 1};
    snprintf(r->dir, sizeof(r->dir), "%s", real_dir == NULL ? "/be" : real_dir);
    if (real_dir == NULL) {
        ts->sim = env_sim_new(&(struct env_sim_options){.seed = 1});
        ts->disk = kv_disk_new();
    }
    ts->fault =
        env_fault_new(ts->sim == NULL ? env_system() : env_sim_env(ts->sim));
    ts->cfg = (struct store_config){
        .dir = r->dir,
        .segment_bytes = 4U << 20,
        .cache_bytes = 1U << 20,
        .cluster = {{1}},
        .instance = {{2}},
        .no_threads = true,
    };
}

static void
end_run(struct run *r)
{
    store_close(&r->ts.store);
    kv_disk_free(&r->ts.disk);
    env_fault_free(&r->ts.fault);
    env_sim_free(&r->ts.sim);
}

/* ---- is it what the model says? ---------------------------------------- */

static const char *
differs_body(struct run *r, const struct model_message *want)
{
    AUTO(buf_free) struct buf bytes = BUF_INIT;
    struct error err = {0};
    struct guid guid;

    if (store_body_read(r->ts.store, &want->guid, 0, UINT64_MAX, &bytes,
                        &err) != ERR_OK)
        return "a body cannot be read";
    SHA1(bytes.p, bytes.n, guid.b);
    return bytes.n == want->size && guid_eq(&guid, &want->guid)
               ? NULL
               : "a body is not what was sent";
}

static const char *
differs_box(struct run *r, struct store_snap *snap,
            const struct model_box *want)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct error err = {0};
    struct mailbox mb;
    struct message m;
    const char *wrong = NULL;
    size_t n = 0;

    if (snap_mailbox_by_name(snap, want->name, &a, &mb, &err) != ERR_OK)
        return "a mailbox is missing";
    if (mb.exists != want->n || mb.uidnext < want->uidnext)
        return "a head is another";
    struct msg_iter *it = snap_messages(snap, mb.id, 1, false);
    while (wrong == NULL && msg_iter_next(it, &m)) {
        const struct model_message *w = &want->v[n];
        if (n++ == want->n)
            wrong = "there is a message too much";
        else if (m.uid != w->uid || m.flags != w->flags ||
                 !guid_eq(&m.guid, &w->guid) || m.size != w->size)
            wrong = "a message is another";
        else
            wrong = differs_body(r, w);
    }
    if (msg_iter_close(&it, &err) != ERR_OK)
        return "the messages cannot be read";
    return wrong == NULL && n != want->n ? "a message is missing" : wrong;
}

static bool
count_box(void *ctx, const struct mailbox *mb)
{
    (void)mb;
    ++*(size_t *)ctx;
    return true;
}

/* How the store is different from M; NULL: not at all. */
static const char *
differs(struct run *r, const struct model *m)
{
    struct store_snap *snap = store_snapshot(r->ts.store);
    struct error err = {0};
    const char *wrong = NULL;
    size_t want = 0, got = 0;

    for (size_t i = 0; i < BOXES && wrong == NULL; i++) {
        if (m->box[i].name[0] == '\0')
            continue;
        if (strncmp(m->box[i].name, "DELETED.", 8) != 0)
            want++;
        wrong = differs_box(r, snap, &m->box[i]);
    }
    if (snap_each_mailbox(snap, "", count_box, &got, &err) != ERR_OK ||
        (wrong == NULL && got != want))
        wrong = "there are other mailboxes";
    store_release(&snap);
    return wrong;
}

static void
check_is_model(struct run *r, const char *when)
{
    const char *wrong = differs(r, &r->sure);

    if (wrong != NULL && r->is_unsure && differs(r, &r->maybe) == NULL) {
        r->sure = r->maybe;
        wrong = NULL;
    }
    if (wrong != NULL)
        FAIL(r, "%s: %s", when, wrong);
    r->is_unsure = false;
    ts_verify(&r->ts);
}

/* ---- steps ------------------------------------------------------------- */

/* Bytes of a log segment: what becomes of them after an error is unknown. */
static bool
was_log(const struct run *r)
{
    return r->is_hit && strstr(r->hit_path, "/synclog/") != NULL &&
           (r->hit_kind == FAULT_WRITE || r->hit_kind == FAULT_SYNC);
}

/*
 * A failed call refuses a thing for good, or stops the instance, only if it
 * says EIO; or if the bytes of the log, whose room was taken before, meet a
 * full disk all the same (a file system that copies on write).
 */
static void
check_refusal(struct run *r, const struct error *err)
{
    if (!r->is_hit)
        FAIL(r, "refused without a fault: %s", err->text);
    if (r->kind == KIND_EIO || r->kind == KIND_KILL ||
        (r->kind == KIND_ENOSPC && was_log(r))) {
        if (err->code != ERR_IO)
            FAIL(r, "%s instead of io: %s", errcode_name(err->code), err->text);
        return;
    }
    FAIL(r, "%s: %s", errcode_name(err->code), err->text);
}

/* Commit what MAKE puts together, again if the disk was full. */
static enum errcode
commit(struct run *r, struct store_txn *(*make)(struct run *, const void *),
       const void *arg, struct error *err)
{
    enum errcode rc = ERR_NOSPACE;

    for (int i = 0; i < 2 && rc == ERR_NOSPACE; i++) {
        struct store_txn *txn = make(r, arg);
        rc = store_commit(r->ts.store, txn, err);
        if (rc == ERR_NOSPACE && !r->is_hit)
            FAIL(r, "full without a fault: %s", err->text);
        txn_free(&txn);
    }
    return rc;
}

static void
step(struct run *r, struct store_txn *(*make)(struct run *, const void *),
     const void *arg, const struct model *after)
{
    struct error err = {0};

    enum errcode rc = commit(r, make, arg, &err);
    if (rc == ERR_OK) {
        r->sure = *after;
        return;
    }
    check_refusal(r, &err);
    r->has_ended = true;
    r->maybe = *after;
    r->is_unsure = r->ts.fatal.code != ERR_OK;
    if (!r->is_unsure && r->kind != KIND_KILL)
        check_is_model(r, "after a refusal");
}

struct create_arg {
    const char *name;
};

static struct store_txn *
make_create(struct run *r, const void *arg)
{
    const struct create_arg *a = arg;
    struct store_txn *txn = txn_new();

    (void)r;
    txn_create(txn, &(struct txn_mailbox){.name = a->name});
    return txn;
}

static void
step_create(struct run *r, const char *name)
{
    if (r->has_ended)
        return;
    struct model after = r->sure;
    struct model_box *b = box_of(&after, "");
    snprintf(b->name, sizeof(b->name), "%s", name);
    b->uidnext = 1;
    b->n = 0;
    step(r, make_create, &(struct create_arg){name}, &after);
}

struct deliver_arg {
    mbid_t id;
    size_t n;
    struct body *bodies[8];
};

static struct store_txn *
make_deliver(struct run *r, const void *arg)
{
    const struct deliver_arg *a = arg;
    struct store_txn *txn = txn_new();

    (void)r;
    for (size_t i = 0; i < a->n; i++)
        txn_append(txn, &(struct txn_append){.id = a->id,
                                             .body = a->bodies[i],
                                             .internal_s = 1000000});
    return txn;
}

/* Bodies are the same in all runs, and dear to make. */
static struct body *bodies[BODIES];

static struct body *
cached_body(uint64_t seed, size_t bytes)
{
    assert_true(seed < BODIES);
    if (bodies[seed] == NULL)
        bodies[seed] = ts_body(seed, bytes);
    return body_ref(bodies[seed]);
}

/* N messages in one transaction: all or none. */
static void
step_deliver(struct run *r, const char *name, size_t n, size_t bytes)
{
    if (r->has_ended)
        return;
    struct model after = r->sure;
    struct model_box *b = box_of(&after, name);
    struct deliver_arg arg = {.id = ts_lookup(&r->ts, name), .n = n};
    for (size_t i = 0; i < n; i++) {
        arg.bodies[i] = cached_body(r->seed++, bytes);
        assert_int_equal(body_size(arg.bodies[i]), bytes);
        struct model_message *msg = add_to(b);
        msg->guid = *body_guid(arg.bodies[i]);
        msg->size = bytes;
    }
    step(r, make_deliver, &arg, &after);
    for (size_t i = 0; i < n; i++)
        body_free(&arg.bodies[i]);
}

struct range_arg {
    mbid_t id, to;
    uint32_t first, last;
    bool is_move;
};

static struct store_txn *
make_flags(struct run *r, const void *arg)
{
    const struct range_arg *a = arg;
    struct store_txn *txn = txn_new();
    struct uidrange range = {a->first, a->last};
    const struct uidset uids = {.r = &range, .n = 1};
    struct span word = SPAN_LIT("$Work");

    (void)r;
    txn_flags(txn, &(struct txn_flags){.id = a->id,
                                       .uids = &uids,
                                       .mode = FLAGS_ADD,
                                       .flags = FLAG_SEEN | FLAG_FLAGGED,
                                       .keywords = &word,
                                       .nkeywords = 1});
    return txn;
}

static void
step_flags(struct run *r, const char *name, uint32_t first, uint32_t last)
{
    if (r->has_ended)
        return;
    struct model after = r->sure;
    struct model_box *b = box_of(&after, name);
    for (size_t i = 0; i < b->n; i++)
        if (b->v[i].uid >= first && b->v[i].uid <= last)
            b->v[i].flags |= FLAG_SEEN | FLAG_FLAGGED;
    step(r, make_flags,
         &(struct range_arg){
             .id = ts_lookup(&r->ts, name), .first = first, .last = last},
         &after);
}

static struct store_txn *
make_copy(struct run *r, const void *arg)
{
    const struct range_arg *a = arg;
    struct store_txn *txn = txn_new();
    struct uidrange range = {a->first, a->last};
    const struct uidset uids = {.r = &range, .n = 1};

    (void)r;
    txn_copy(txn, a->id, &uids, a->to, a->is_move, false);
    return txn;
}

static void
step_copy(struct run *r, const char *from, const char *to, uint32_t first,
          uint32_t last, bool is_move)
{
    if (r->has_ended)
        return;
    struct model after = r->sure;
    struct model_box *f = box_of(&after, from);
    struct model_box *t = box_of(&after, to);
    for (size_t i = 0; i < f->n; i++) {
        const struct model_message *m = &f->v[i];
        if (m->uid < first || m->uid > last)
            continue;
        struct model_message *msg = add_to(t);
        const uint32_t uid = msg->uid;
        *msg = *m;
        msg->uid = uid;
    }
    if (is_move)
        take_out(f, first, last);
    step(r, make_copy,
         &(struct range_arg){ts_lookup(&r->ts, from), ts_lookup(&r->ts, to),
                             first, last, is_move},
         &after);
}

static struct store_txn *
make_expunge(struct run *r, const void *arg)
{
    const struct range_arg *a = arg;
    struct store_txn *txn = txn_new();
    struct uidrange range = {a->first, a->last};
    const struct uidset uids = {.r = &range, .n = 1};

    (void)r;
    txn_expunge(txn, a->id, &uids, false);
    return txn;
}

static void
step_expunge(struct run *r, const char *name, uint32_t first, uint32_t last)
{
    if (r->has_ended)
        return;
    struct model after = r->sure;
    take_out(box_of(&after, name), first, last);
    step(r, make_expunge,
         &(struct range_arg){
             .id = ts_lookup(&r->ts, name), .first = first, .last = last},
         &after);
}

struct rename_arg {
    mbid_t id;
    const char *to; /* NULL: delete with delay */
};

static struct store_txn *
make_rename(struct run *r, const void *arg)
{
    const struct rename_arg *a = arg;
    struct store_txn *txn = txn_new();

    (void)r;
    if (a->to != NULL)
        txn_rename(txn, a->id, a->to, true);
    else
        txn_delete(txn, a->id, true, 0x5000);
    return txn;
}

static void
step_rename(struct run *r, const char *name, const char *to)
{
    if (r->has_ended)
        return;
    struct model after = r->sure;
    const size_t n = strlen(name);
    for (size_t i = 0; i < BOXES; i++) {
        char *at = after.box[i].name;
        char old[64];
        const bool is_it = strcmp(at, name) == 0;
        const bool is_below = strncmp(at, name, n) == 0 && at[n] == '.';
        if (!is_it && (!is_below || to == NULL))
            continue;
        snprintf(old, sizeof(old), "%s", at);
        if (to != NULL)
            snprintf(at, sizeof(old), "%s%s", to, old + n);
        else
            snprintf(at, sizeof(old), "DELETED.%s.00005000", name);
    }
    step(r, make_rename, &(struct rename_arg){ts_lookup(&r->ts, name), to},
         &after);
}

/* Flush the state and let go of the log behind it, as the checkpointer does. */
static void
step_checkpoint(struct run *r)
{
    struct error err = {0};

    if (r->has_ended)
        return;
    enum errcode rc = store_checkpoint(r->ts.store, &err);
    if (rc == ERR_NOSPACE && r->is_hit)
        rc = store_checkpoint(r->ts.store, &err);
    if (rc != ERR_OK) {
        check_refusal(r, &err);
        r->has_ended = true;
    }
}

static void
begin_epoch(struct run *r)
{
    struct error err = {0};
    const struct epoch_entry *epochs;
    AUTO(arena_free) struct arena a = ARENA_INIT;
    size_t n = 0;

    store_set_role(r->ts.store, ROLE_MASTER, 1);
    struct store_snap *snap = store_snapshot(r->ts.store);
    assert_int_equal(snap_epochs(snap, &a, &epochs, &n, &err), ERR_OK);
    store_release(&snap);
    if (n > 0)
        return;
    enum errcode rc = store_begin_epoch(r->ts.store, 1, 0, "first", &err);
    if (rc == ERR_NOSPACE && r->is_hit)
        rc = store_begin_epoch(r->ts.store, 1, 0, "first", &err);
    if (rc != ERR_OK) {
        check_refusal(r, &err);
        r->has_ended = true;
    }
}

static void
step_open(struct run *r)
{
    struct error err = {0};

    if (r->has_ended)
        return;
    enum errcode rc = open_store(r, &err);
    if (rc == ERR_NOSPACE && r->is_hit)
        rc = open_store(r, &err);
    if (rc != ERR_OK) {
        check_refusal(r, &err);
        r->has_ended = true;
        return;
    }
    begin_epoch(r);
}

static void
everyday(struct run *r, const char *name)
{
    for (int i = 0; i < ROUNDS; i++) {
        if (r->has_ended)
            return;
        const uint32_t uid = box_of(&r->sure, name)->uidnext;
        step_deliver(r, name, 1, 600);
        step_flags(r, name, uid, uid);
        step_expunge(r, name, uid, uid);
    }
}

static void
first_half(struct run *r)
{
    step_open(r);
    step_create(r, "user.ann");
    step_create(r, "user.ann.Sent");
    step_deliver(r, "user.ann", 1, 900);
    step_deliver(r, "user.ann", 6, 5000);
    step_deliver(r, "user.ann", 1, BIG_BYTES);
    step_flags(r, "user.ann", 1, 3);
    step_copy(r, "user.ann", "user.ann.Sent", 2, 8, false);
    step_expunge(r, "user.ann", 2, 2);
    everyday(r, "user.ann");
    step_checkpoint(r);
    step_rename(r, "user.ann", "user.amy"); /* with what is below it */
    for (int i = 0; i < 8; i++)
        step_deliver(r, "user.amy.Sent", 1, LARGE_BYTES);
}

static void
second_half(struct run *r)
{
    step_copy(r, "user.amy.Sent", "user.amy", 1, 2, true);
    step_checkpoint(r);
    step_deliver(r, "user.amy", 2, 2000);
    if (!r->has_ended) {
        store_close(&r->ts.store);
        step_open(r);
    }
    step_flags(r, "user.amy", 4, 6);
    everyday(r, "user.amy");
    step_deliver(r, "user.amy", 1, 300);
    step_rename(r, "user.amy.Sent", NULL);
    step_deliver(r, "user.amy", 1, BIG_BYTES);
}

static void
whole_scenario(struct run *r)
{
    first_half(r);
    second_half(r);
}

/* ---- after it ---------------------------------------------------------- */

/* What the disk has now, without faults. */
static void
reopen(struct run *r, bool is_cut)
{
    struct error err = {0};

    env_fault_clear(r->ts.fault);
    if (r->ts.sim != NULL && is_cut)
        ts_crash(&r->ts, r->nth);
    else
        store_close(&r->ts.store);
    if (open_store(r, &err) != ERR_OK)
        FAIL(r, "it does not open again: %s", err.text);
}

/* The state made from nothing but the log is the same. */
static void
check_log_alone(struct run *r)
{
    const struct store_pos pos = store_pos(r->ts.store);
    struct kv_disk *kept = r->ts.disk;
    struct error err = {0};

    store_close(&r->ts.store);
    r->ts.disk = kv_disk_new();
    if (open_store(r, &err) != ERR_OK)
        FAIL(r, "the log alone does not open: %s", err.text);
    const struct store_pos again = store_pos(r->ts.store);
    if (again.applied.lsn != pos.applied.lsn || again.digest != pos.digest ||
        again.chain != pos.chain)
        FAIL(r, "the log alone says something else");
    store_close(&r->ts.store);
    kv_disk_free(&r->ts.disk);
    r->ts.disk = kept;
    if (open_store(r, &err) != ERR_OK)
        FAIL(r, "it does not open a third time: %s", err.text);
}

/* EIO on what the log says, or on its sync: nothing may be written any more. */
static void
check_stopped(struct run *r)
{
    if (r->kind == KIND_EIO && was_log(r) &&
        strstr(r->hit_path, "/seg-") != NULL && !r->has_ended)
        FAIL(r, "EIO on the log, and the instance went on");
}

/* One n of one kind.  False: there are fewer calls. */
static bool
one_case(enum kind kind, unsigned nth, const char *real_dir)
{
    struct run *r = xcalloc(1, sizeof(*r));

    begin_run(r, kind, nth, real_dir);
    arm(r);
    whole_scenario(r);
    const bool was_hit = env_fault_hits(r->ts.fault) > 0;
    if (kind == KIND_SHORT && r->has_ended)
        FAIL(r, "half a transfer was noticed");
    check_stopped(r);
    reopen(r, kind == KIND_KILL || nth % 2 == 0);
    check_is_model(r, "after reopening");
    if (real_dir == NULL)
        check_log_alone(r);
    /* And it goes on. */
    r->has_ended = false;
    begin_epoch(r);
    r->seed = BODIES - 1;
    step_create(r, "user.zoe");
    step_deliver(r, "user.zoe", 1, 700);
    check_is_model(r, "afterwards");
    end_run(r);
    free(r);
    return was_hit;
}

static void
sweep(enum kind kind)
{
    unsigned n = 1;

    while (n <= sweep_last && one_case(kind, n, NULL))
        n += sweep_stride;
    print_message("%s: calls 1 to %u, each %u\n", kind_names[kind],
                  MIN(n, sweep_last), sweep_stride);
}

static void
test_eio_once_loses_nothing_and_stops_at_the_log(void **state)
{
    (void)state;
    sweep(KIND_EIO);
}

static void
test_enospc_once_is_refused_and_heals(void **state)
{
    (void)state;
    sweep(KIND_ENOSPC);
}

static void
test_short_transfers_are_not_noticed(void **state)
{
    (void)state;
    sweep(KIND_SHORT);
}

static void
test_killed_at_any_call_keeps_what_was_acknowledged(void **state)
{
    (void)state;
    sweep(KIND_KILL);
}

/* ---- recovery ---------------------------------------------------------- */

/* Killed without a flush, and again at call NTH of opening.  False: opening has
 * fewer calls. */
static bool
one_double(unsigned nth)
{
    struct run *r = xcalloc(1, sizeof(*r));
    struct error err = {0};

    begin_run(r, KIND_KILL, nth, NULL);
    whole_scenario(r);
    assert_false(r->has_ended);
    const struct store_pos before = store_pos(r->ts.store);
    ts_crash(&r->ts, 3);
    arm(r);
    (void)open_store(r, &err);
    const bool was_hit = r->is_hit;
    reopen(r, true);
    check_is_model(r, "after the second crash");
    const struct store_pos after = store_pos(r->ts.store);
    if (after.applied.lsn != before.applied.lsn ||
        after.digest != before.digest || after.chain != before.chain)
        FAIL(r, "the second crash has changed something");
    end_run(r);
    free(r);
    return was_hit;
}

/* I16. */
static void
test_recovery_killed_at_any_call_ends_the_same(void **state)
{
    unsigned n = 1;

    (void)state;
    while (n <= sweep_last && one_double(n))
        n += sweep_stride;
    print_message("recovery: calls 1 to %u, each %u\n", n, sweep_stride);
}

/* ---- RocksDB ----------------------------------------------------------- */

static void
remove_tree(const char *dir)
{
    AUTO(xfree) char *command = xasprintf("rm -rf '%s'", dir);

    assert_int_equal(system(command), 0);
}

static void
test_the_same_over_files_and_rocksdb(void **state)
{
    static const enum kind kinds[] = {KIND_EIO, KIND_ENOSPC, KIND_KILL};
    const unsigned stride = sweep_stride == 1 ? 10 : sweep_stride * 9;

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
        for (unsigned n = 1 + (unsigned)k; n <= sweep_last; n += stride) {
            char dir[] = "/tmp/pollux-sweep-XXXXXX";
            assert_non_null(mkdtemp(dir));
            const bool more = one_case(kinds[k], n, dir);
            remove_tree(dir);
            if (!more)
                break;
        }
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eio_once_loses_nothing_and_stops_at_the_log),
        cmocka_unit_test(test_enospc_once_is_refused_and_heals),
        cmocka_unit_test(test_short_transfers_are_not_noticed),
        cmocka_unit_test(test_killed_at_any_call_keeps_what_was_acknowledged),
        cmocka_unit_test(test_recovery_killed_at_any_call_ends_the_same),
        cmocka_unit_test(test_the_same_over_files_and_rocksdb),
    };

    if (argc > 1 && !parse_u32(span_str(argv[1]), &sweep_last))
        return 2;
    if (argc > 1)
        sweep_stride = 1;
    if (argc > 2 &&
        (!parse_u32(span_str(argv[2]), &sweep_stride) || sweep_stride == 0))
        return 2;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < BODIES; i++)
        body_free(&bodies[i]);
    return failed;
}
