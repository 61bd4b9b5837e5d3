/*
 * csync/verify.c - comparing two stores by their digests.
 *
 * The root first: who is ahead still knows the digest that it had at the other
 * one's LSN, so under load too one question to each proves equality.  Only what
 * is unequal there, or was named, is walked; each answer on the way says of
 * which LSN it is, and a pair of answers counts only if both are of the same
 * one.  So the walk takes a moment in which nothing is written, which a store
 * that differs is given TRIES times.
 */
#include "csync/verify.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "csync/ship_private.h"
#include "csync/tree.h"
#include "store/names.h"
#include "store/tree.h"

#define TRIES 250U
#define TRY_MS 20
#define ROWS_SHOWN_MAX 1000U

struct sides {
    const struct ship_options *o;
    struct csync_client *self, *peer;
    struct arena arena; /* of the pair of answers under way */
    enum verify_result worst;
    unsigned shown;
};

static void
note(struct sides *v, enum verify_result r)
{
    if (r > v->worst)
        v->worst = r;
}

/* Another try, a moment later; false: it was the last. */
static bool
again(struct sides *v, unsigned *tries)
{
    if (++*tries >= TRIES || (v->o->stop != NULL && v->o->stop(v->o->stop_ctx)))
        return false;
    poll(NULL, 0, TRY_MS);
    return true;
}

/* ---- the root ---------------------------------------------------------- */

enum errcode
verify_root(struct csync_client *self, struct csync_client *peer,
            enum verify_result *ret, struct logpos *ret_at,
            uint64_t *ret_digest, struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct logstatus here, there;

    enum errcode rc = csync_log_status(peer, &a, &there, err);
    if (rc == ERR_OK)
        rc = csync_log_status(self, &a, &here, err);
    if (rc != ERR_OK)
        return rc;
    if (!instid_eq(&here.cluster, &there.cluster)) {
        if (there.applied.applied.lsn != LSN_NONE)
            return error_set(err, ERR_HISTORY, "%s belongs to another cluster",
                             there.servername);
        *ret_at = there.applied.applied;
        *ret_digest = 0;
        *ret = VERIFY_BEHIND;
        return ERR_OK;
    }
    const bool leads = here.applied.applied.lsn > there.applied.applied.lsn;
    const struct store_pos *behind = leads ? &there.applied : &here.applied;
    uint64_t digest = leads ? here.applied.digest : there.applied.digest;
    *ret_at = behind->applied;
    *ret_digest = behind->digest;
    *ret = VERIFY_BEHIND;
    if (here.applied.applied.lsn != there.applied.applied.lsn) {
        rc = csync_log_digest(leads ? self : peer, behind->applied.lsn, &digest,
                              err);
        if (rc == ERR_GAP)
            return ERR_OK; /* too far apart to be known */
        if (rc != ERR_OK)
            return rc;
    }
    *ret = digest != behind->digest || there.seeding ? VERIFY_UNEQUAL
                                                     : VERIFY_EQUAL;
    return ERR_OK;
}

/* ---- users and mailboxes ------------------------------------------------ */

/* Said once in each try: 0 nothing, else the digest. */
struct pair {
    uint64_t here, there;
    bool has_here, has_there;
    lsn_t lsn;
};

static enum errcode
ask_user_of(struct csync_client *c, const char *user, struct arena *a,
            struct tree_view *view, uint64_t *ret, bool *ret_has,
            struct error *err)
{
    enum errcode rc = tree_ask_user(c, user, a, view, ret, err);

    *ret_has = rc == ERR_OK;
    return rc == ERR_NOTFOUND ? ERR_OK : rc;
}

static enum errcode
ask_mailbox_of(struct csync_client *c, const char *user, const char *name,
               struct arena *a, struct tree_view *view, uint64_t *ret,
               bool *ret_has, struct error *err)
{
    struct tree_mailbox *v = NULL;
    size_t n = 0;

    *ret_has = false;
    enum errcode rc = tree_ask_mailboxes(c, user, a, view, &v, &n, err);
    for (size_t i = 0; rc == ERR_OK && i < n; i++)
        if (strcmp(v[i].name, name) == 0) {
            *ret = v[i].hash;
            *ret_has = true;
        }
    return rc;
}

/* MAILBOX NULL: the user as a whole. */
static enum errcode
ask_both(struct sides *v, const char *user, const char *mailbox,
         struct pair *ret, bool *ret_same_lsn, struct error *err)
{
    struct tree_view here = {0}, there = {0};
    enum errcode rc;

    arena_reset(&v->arena);
    *ret = (struct pair){0};
    if (mailbox == NULL) {
        rc = ask_user_of(v->peer, user, &v->arena, &there, &ret->there,
                         &ret->has_there, err);
        if (rc == ERR_OK)
            rc = ask_user_of(v->self, user, &v->arena, &here, &ret->here,
                             &ret->has_here, err);
    } else {
        rc = ask_mailbox_of(v->peer, user, mailbox, &v->arena, &there,
                            &ret->there, &ret->has_there, err);
        if (rc == ERR_OK)
            rc = ask_mailbox_of(v->self, user, mailbox, &v->arena, &here,
                                &ret->here, &ret->has_here, err);
    }
    ret->lsn = here.lsn;
    *ret_same_lsn = here.lsn == there.lsn;
    return rc;
}

static enum errcode
verify_one(struct sides *v, const char *user, const char *mailbox,
           enum verify_result *ret, struct error *err)
{
    const char *what = mailbox == NULL ? "user" : "mailbox";
    const char *name = mailbox == NULL ? user : mailbox;
    struct pair p = {0};
    bool same = false;
    unsigned tries = 0;
    enum errcode rc;

    do {
        rc = ask_both(v, user, mailbox, &p, &same, err);
        /* Equal digests prove it, whatever else was written meanwhile. */
    } while (rc == ERR_OK && !same &&
             !(p.has_here && p.has_there && p.here == p.there) &&
             again(v, &tries));
    if (rc != ERR_OK)
        return rc;
    if (!p.has_here && !p.has_there) {
        printf("%s %s: is on neither side\n", what, name);
        *ret = VERIFY_UNEQUAL;
    } else if (p.has_here && p.has_there && p.here == p.there) {
        printf("%s %s: equal, digest %016" PRIx64 "\n", what, name, p.here);
        *ret = VERIFY_EQUAL;
    } else if (!same) {
        printf("%s %s: not known, it is being written to\n", what, name);
        *ret = VERIFY_BEHIND;
    } else {
        printf("%s %s: UNEQUAL at %" PRI_LSN "%s\n", what, name, p.lsn,
               !p.has_there  ? ", only here"
               : !p.has_here ? ", only on the replica"
                             : "");
        *ret = VERIFY_UNEQUAL;
    }
    note(v, *ret);
    return ERR_OK;
}

/* ---- what differs ------------------------------------------------------- */

static int
by_user(const void *x, const void *y)
{
    return strcmp(((const struct tree_user *)x)->name,
                  ((const struct tree_user *)y)->name);
}

static int
by_mailbox(const void *x, const void *y)
{
    const mbid_t a = ((const struct tree_mailbox *)x)->id;
    const mbid_t b = ((const struct tree_mailbox *)y)->id;

    return (a > b) - (a < b);
}

/* Something has been written in between: what was read is of two moments. */
static enum errcode
moved_on(struct error *err)
{
    return error_set(err, ERR_AGAIN, "it is being written to");
}

static enum errcode
all_users(struct csync_client *c, struct arena *a, lsn_t *lsn,
          struct tree_user **ret, size_t *ret_n, struct error *err)
{
    struct tree_view view = {.more = true};
    const char *after = NULL;
    struct tree_user *all = NULL;
    size_t n = 0;

    while (view.more) {
        struct tree_user *some = NULL;
        size_t nsome = 0;
        enum errcode rc =
            tree_ask_users(c, after, a, &view, &some, &nsome, err);
        if (rc != ERR_OK)
            return rc;
        if (*lsn != LSN_NONE && *lsn != view.lsn)
            return moved_on(err);
        *lsn = view.lsn;
        if (nsome == 0)
            break;
        struct tree_user *both = arena_array(a, n + nsome, sizeof(*both));
        if (n > 0)
            memcpy(both, all, n * sizeof(*both));
        memcpy(both + n, some, nsome * sizeof(*both));
        all = both;
        n += nsome;
        after = all[n - 1].name;
    }
    if (n > 0)
        qsort(all, n, sizeof(*all), by_user);
    *ret = all;
    *ret_n = n;
    return ERR_OK;
}

static enum errcode
all_rows(struct csync_client *c, const char *user, mbid_t id, struct arena *a,
         lsn_t lsn, struct tree_row **ret, size_t *ret_n, struct error *err)
{
    struct tree_view view = {.more = true};
    struct span after = SPAN_EMPTY;
    struct tree_row *all = NULL;
    size_t n = 0;

    while (view.more) {
        struct tree_row *some = NULL;
        size_t nsome = 0;
        enum errcode rc =
            tree_ask_rows(c, user, id, after, a, &view, &some, &nsome, err);
        if (rc != ERR_OK)
            return rc;
        if (view.lsn != lsn)
            return moved_on(err);
        if (nsome == 0)
            break;
        struct tree_row *both = arena_array(a, n + nsome, sizeof(*both));
        if (n > 0)
            memcpy(both, all, n * sizeof(*both));
        memcpy(both + n, some, nsome * sizeof(*both));
        all = both;
        n += nsome;
        after = all[n - 1].key;
    }
    *ret = all;
    *ret_n = n;
    return ERR_OK;
}

static void
say_row(struct sides *v, struct span key, const char *how)
{
    AUTO(buf_free) struct buf text = BUF_INIT;

    if (v->shown++ >= ROWS_SHOWN_MAX) {
        if (v->shown == ROWS_SHOWN_MAX + 1)
            printf("    (no more rows are named)\n");
        return;
    }
    tree_describe_key(key, &text);
    printf("    %s: %s\n", buf_cstr(&text), how);
}

/* Both lists are in the order of the keys. */
static void
merge_rows(struct sides *v, const struct tree_row *x, size_t nx,
           const struct tree_row *y, size_t ny)
{
    size_t i = 0, j = 0;

    while (i < nx || j < ny) {
        int c = i == nx ? 1 : j == ny ? -1 : span_cmp(x[i].key, y[j].key);
        if (c < 0) {
            say_row(v, x[i++].key, "only here");
        } else if (c > 0) {
            say_row(v, y[j++].key, "only on the replica");
        } else {
            if (x[i].hash != y[j].hash)
                say_row(v, x[i].key, "differs");
            i++;
            j++;
        }
    }
}

static enum errcode
diff_rows(struct sides *v, const char *user, mbid_t id, struct arena *a,
          lsn_t lsn, struct error *err)
{
    struct tree_row *x = NULL, *y = NULL;
    size_t nx = 0, ny = 0;

    enum errcode rc = all_rows(v->peer, user, id, a, lsn, &y, &ny, err);
    if (rc == ERR_OK)
        rc = all_rows(v->self, user, id, a, lsn, &x, &nx, err);
    if (rc == ERR_OK)
        merge_rows(v, x, nx, y, ny);
    return rc;
}

static enum errcode
diff_mailbox(struct sides *v, const char *user, const struct tree_mailbox *x,
             const struct tree_mailbox *y, struct arena *a, lsn_t lsn,
             struct error *err)
{
    if (y == NULL || x == NULL) {
        printf("  mailbox %s: only %s\n", (x == NULL ? y : x)->name,
               x == NULL ? "on the replica" : "here");
        return ERR_OK;
    }
    if (x->hash == y->hash && strcmp(x->name, y->name) == 0)
        return ERR_OK;
    printf("  mailbox %s: exists %" PRIu32 " and %" PRIu32 ", uidnext %" PRIu32
           " and %" PRIu32 ", highestmodseq %" PRIu64 " and %" PRIu64 "%s%s\n",
           x->name, x->exists, y->exists, x->uidnext, y->uidnext,
           x->highestmodseq, y->highestmodseq,
           strcmp(x->name, y->name) == 0 ? "" : ", there named ",
           strcmp(x->name, y->name) == 0 ? "" : y->name);
    return diff_rows(v, user, x->id, a, lsn, err);
}

static enum errcode
diff_user(struct sides *v, const char *user, lsn_t lsn, struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct tree_mailbox *x = NULL, *y = NULL;
    struct tree_view here, there;
    size_t nx = 0, ny = 0;

    enum errcode rc =
        tree_ask_mailboxes(v->peer, user, &a, &there, &y, &ny, err);
    if (rc == ERR_OK)
        rc = tree_ask_mailboxes(v->self, user, &a, &here, &x, &nx, err);
    if (rc != ERR_OK)
        return rc;
    if (here.lsn != lsn || there.lsn != lsn)
        return moved_on(err);
    printf("user %s: differs\n", user[0] == '\0' ? "(nobody)" : user);
    if (nx > 0)
        qsort(x, nx, sizeof(*x), by_mailbox);
    if (ny > 0)
        qsort(y, ny, sizeof(*y), by_mailbox);
    for (size_t i = 0, j = 0; rc == ERR_OK && (i < nx || j < ny);) {
        int c = i == nx ? 1 : j == ny ? -1 : by_mailbox(&x[i], &y[j]);
        rc = diff_mailbox(v, user, c <= 0 ? &x[i] : NULL, c >= 0 ? &y[j] : NULL,
                          &a, lsn, err);
        i += c <= 0;
        j += c >= 0;
    }
    return rc == ERR_OK ? diff_rows(v, user, 0, &a, lsn, err) : rc;
}

/* One walk over all users; ERR_AGAIN: it has to be begun again. */
static enum errcode
diff_all(struct sides *v, struct error *err)
{
    struct tree_user *x = NULL, *y = NULL;
    size_t nx = 0, ny = 0;
    lsn_t lsn = LSN_NONE;

    arena_reset(&v->arena);
    enum errcode rc = all_users(v->peer, &v->arena, &lsn, &y, &ny, err);
    if (rc == ERR_OK)
        rc = all_users(v->self, &v->arena, &lsn, &x, &nx, err);
    for (size_t i = 0, j = 0; rc == ERR_OK && (i < nx || j < ny);) {
        int c = i == nx ? 1 : j == ny ? -1 : by_user(&x[i], &y[j]);
        const struct tree_user *u = c <= 0 ? &x[i] : &y[j];
        if (c != 0 || x[i].digest != y[j].digest)
            rc = diff_user(v, u->name, lsn, err);
        i += c <= 0;
        j += c >= 0;
    }
    return rc;
}

static enum errcode
diff_until_still(struct sides *v, struct error *err)
{
    unsigned tries = 0;
    enum errcode rc;

    while ((rc = diff_all(v, err)) == ERR_AGAIN && again(v, &tries))
        ;
    return rc;
}

/* ---- all of it ---------------------------------------------------------- */

static enum errcode
verify_names(struct sides *v, const struct verify_names *names,
             struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    enum verify_result r;
    enum errcode rc = ERR_OK;

    for (size_t i = 0;
         rc == ERR_OK && names->users != NULL && names->users[i] != NULL; i++)
        rc = verify_one(v, names->users[i], NULL, &r, err);
    for (size_t i = 0; rc == ERR_OK && names->mailboxes != NULL &&
                       names->mailboxes[i] != NULL;
         i++) {
        const char *owner = name_owner(names->mailboxes[i], &a);
        rc = verify_one(v, owner == NULL ? "" : owner, names->mailboxes[i], &r,
                        err);
    }
    return rc;
}

static enum errcode
verify_whole(struct sides *v, struct error *err)
{
    struct logpos at = {0};
    uint64_t digest = 0;
    enum verify_result r = VERIFY_BEHIND;
    unsigned tries = 0;
    enum errcode rc;

    do
        rc = verify_root(v->self, v->peer, &r, &at, &digest, err);
    while (rc == ERR_OK && r == VERIFY_BEHIND && again(v, &tries));
    if (rc != ERR_OK)
        return rc;
    note(v, r);
    if (r == VERIFY_BEHIND)
        printf("store: not known: the replica is at %" PRI_EPOCH ":%" PRI_LSN
               ", too far behind\n",
               at.epoch, at.lsn);
    else
        printf(
            "store: %s at %" PRI_EPOCH ":%" PRI_LSN ", digest %016" PRIx64 "\n",
            r == VERIFY_EQUAL ? "equal" : "UNEQUAL", at.epoch, at.lsn, digest);
    return ERR_OK;
}

enum errcode
verify_run(const struct ship_options *o, const struct verify_names *names,
           bool diff, enum verify_result *ret, struct error *err)
{
    struct sides v = {.o = o};
    struct csync_target target;
    const bool named = names->users != NULL || names->mailboxes != NULL;

    enum errcode rc = ship_target(o, &target, err);
    if (rc == ERR_OK)
        rc = csync_connect_control(o->control, target.timeout_ms, &v.self, err);
    if (rc == ERR_OK)
        rc = csync_connect(&target, o->cfg, &v.peer, err);
    if (rc == ERR_OK)
        rc = named ? verify_names(&v, names, err) : verify_whole(&v, err);
    if (rc == ERR_OK && diff && v.worst == VERIFY_UNEQUAL)
        rc = diff_until_still(&v, err);
    fflush(stdout);
    csync_client_close(&v.self);
    csync_client_close(&v.peer);
    arena_free(&v.arena);
    if (rc == ERR_OK)
        *ret = v.worst;
    return rc;
}
