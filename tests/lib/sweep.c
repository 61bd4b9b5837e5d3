/*
 * tests/lib/sweep.c - the steps, what a failed call may do to them, and the
 * comparison of the store with the model.
 *
 * A message that spills to a file on its way in is made anew in each run,
 * through the env of the run, so that its calls can fail as well; small ones
 * are made once.
 */
#include "tests/lib/sweep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/log.h"
#include "store/store_private.h"

const char *const run_kind_names[KINDS] = {"EIO", "ENOSPC", "short", "kill"};

/* ---- the model --------------------------------------------------------- */

struct model_box *
box_of(struct model *m, const char *name)
{
    for (size_t i = 0; i < SWEEP_BOXES; i++)
        if (strcmp(m->box[i].name, name) == 0)
            return &m->box[i];
    fail_msg("the model has no %s", name);
    return NULL;
}

static struct model_message *
add_to(struct model_box *b)
{
    assert_true(b->n < SWEEP_MESSAGES);
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

void
run_arm(struct run *r)
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

enum errcode
run_open(struct run *r, struct error *err)
{
    const struct store_hooks hooks = {.ctx = &r->ts, .on_fatal = on_fatal};

    if (r->ts.sim != NULL)
        return ts_open(&r->ts, err);
    r->ts.fatal = (struct error){0};
    return store_open(env_fault_env(r->ts.fault), &r->ts.cfg, &hooks,
                      &r->ts.store, &r->ts.opened, err);
}

void
run_begin(struct run *r, enum kind kind, unsigned nth, const char *real_dir)
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

void
run_end(struct run *r)
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

    for (size_t i = 0; i < SWEEP_BOXES && wrong == NULL; i++) {
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

void
run_check(struct run *r, const char *when)
{
    const char *wrong = differs(r, &r->sure);

    if (wrong != NULL && r->is_unsure && differs(r, &r->maybe) == NULL) {
        r->sure = r->maybe;
        wrong = NULL;
    }
    if (wrong != NULL)
        RUN_FAIL(r, "%s: %s", when, wrong);
    r->is_unsure = false;
    ts_verify(&r->ts);
}

/* ---- steps ------------------------------------------------------------- */

/* Bytes of a log segment: what becomes of them after an error is unknown. */
bool
run_hit_log(const struct run *r)
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
        RUN_FAIL(r, "refused without a fault: %s", err->text);
    if (r->kind == KIND_EIO || r->kind == KIND_KILL ||
        (r->kind == KIND_ENOSPC && run_hit_log(r))) {
        if (err->code != ERR_IO)
            RUN_FAIL(r, "%s instead of io: %s", errcode_name(err->code),
                     err->text);
        return;
    }
    RUN_FAIL(r, "%s: %s", errcode_name(err->code), err->text);
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
            RUN_FAIL(r, "full without a fault: %s", err->text);
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
        run_check(r, "after a refusal");
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

void
step_create(struct run *r, const char *name)
{
    if (r->has_ended)
        return;
    struct model after = r->sure;
    struct model_box *b = box_of(&after, "");
    ENSURE(strlen(name) < sizeof(b->name));
    memcpy(b->name, name, strlen(name) + 1);
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

/* Small bodies are the same in all runs, and dear to make. */
static struct body *bodies[SWEEP_BODIES];

static struct body *
cached_body(uint64_t seed, size_t bytes)
{
    assert_true(seed < SWEEP_BODIES);
    if (bodies[seed] == NULL)
        bodies[seed] = ts_body(seed, bytes);
    return body_ref(bodies[seed]);
}

/* Again if the disk was full.  NULL: its file failed, and so this message is
 * refused and nothing else. */
static struct body *
spilled_body(struct run *r, uint64_t seed, size_t bytes)
{
    struct error err = {0};
    enum errcode rc = ERR_NOSPACE;

    for (int i = 0; i < 2 && rc == ERR_NOSPACE; i++) {
        struct body *b = store_body_new(r->ts.store, UINT64_C(1) << 30);
        rc = ts_body_fill(b, seed, bytes, &err);
        if (rc == ERR_OK)
            return b;
        body_free(&b);
    }
    check_refusal(r, &err);
    if (r->ts.fatal.code != ERR_OK)
        RUN_FAIL(r, "a message's own file has stopped the instance");
    r->has_ended = r->kind == KIND_KILL;
    return NULL;
}

void
step_deliver(struct run *r, const char *name, size_t n, size_t bytes)
{
    if (r->has_ended)
        return;
    struct model after = r->sure;
    struct model_box *b = box_of(&after, name);
    struct deliver_arg arg = {.id = ts_lookup(&r->ts, name), .n = n};
    for (size_t i = 0; i < n; i++) {
        const uint64_t seed = r->seed++;
        const bool spills = bytes > BODY_PART_BYTES;
        ENSURE(!spills || n == 1);
        arg.bodies[i] =
            spills ? spilled_body(r, seed, bytes) : cached_body(seed, bytes);
        if (arg.bodies[i] == NULL)
            return;
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

void
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

void
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

void
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

void
step_rename(struct run *r, const char *name, const char *to)
{
    if (r->has_ended)
        return;
    struct model after = r->sure;
    const size_t n = strlen(name);
    for (size_t i = 0; i < SWEEP_BOXES; i++) {
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

void
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

void
run_begin_epoch(struct run *r)
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

void
step_open(struct run *r)
{
    struct error err = {0};

    if (r->has_ended)
        return;
    enum errcode rc = run_open(r, &err);
    if (rc == ERR_NOSPACE && r->is_hit)
        rc = run_open(r, &err);
    if (rc != ERR_OK) {
        check_refusal(r, &err);
        r->has_ended = true;
        return;
    }
    run_begin_epoch(r);
}

void
sweep_free_bodies(void)
{
    for (size_t i = 0; i < SWEEP_BODIES; i++)
        body_free(&bodies[i]);
}
