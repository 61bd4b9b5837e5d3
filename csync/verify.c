/*
 * csync/verify.c - comparing two stores by their digests.
 *
 * The root first: who is ahead still knows the digest that it had at the other
 * one's LSN, so under load too one question to each proves equality.  Only what
 * is unequal there, or was named, is walked, and what is written to meanwhile
 * is looked at again (struct held), TRIES times.
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
#define WALKS 10U /* through one user who is written to all the time */
#define ROWS_SHOWN_MAX 1000U

struct sides {
    const struct ship_options *o;
    struct csync_client *self, *peer;
    struct arena arena; /* of the answer under way */
    enum verify_result worst;
    unsigned shown;
    struct buf text; /* what one user's walk has found */
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
            return error_set(
                err, ERR_HISTORY,
                "%s belongs to another cluster, so no digest tells "
                "whether it is equal: 'sync_client -b -A --anew "
                "--dry-run' does, by changes=0",
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

/*
 * What one side has of a user (or a mailbox), and at which LSN it looked.
 *
 * While others are written to, the LSNs of two sides are hardly ever the same.
 * But what is the same before and after was so all the time, so a user who
 * differs is asked about here, there, and here again: if nothing has changed
 * here meanwhile, and what is there is of an LSN in between, they do differ.
 * What only lags is never told so.
 */
struct held {
    uint64_t digest;
    bool has;
    lsn_t lsn;
};

static bool
same_held(const struct held *x, const struct held *y)
{
    return x->has == y->has && (!x->has || x->digest == y->digest);
}

/* MAILBOX NULL: the user as a whole. */
static enum errcode
ask_held(struct sides *v, struct csync_client *c, const char *user,
         const char *mailbox, struct held *ret, struct error *err)
{
    struct tree_view view = {0};
    struct tree_mailbox *list = NULL;
    size_t n = 0;

    arena_reset(&v->arena);
    *ret = (struct held){0};
    enum errcode rc = ERR_OK;
    if (mailbox == NULL) {
        rc = tree_ask_user(c, user, &v->arena, &view, &ret->digest, err);
        ret->has = rc == ERR_OK;
        rc = rc == ERR_NOTFOUND ? ERR_OK : rc;
    } else {
        rc = tree_ask_mailboxes(c, user, &v->arena, &view, &list, &n, err);
        for (size_t i = 0; rc == ERR_OK && i < n; i++)
            if (strcmp(list[i].name, mailbox) == 0) {
                ret->digest = list[i].hash;
                ret->has = true;
            }
    }
    ret->lsn = view.lsn;
    return rc;
}

/* Here, then there, as soon as that side is as far. */
static enum errcode
ask_both(struct sides *v, const char *user, const char *mailbox,
         struct held *ret_here, struct held *ret_there, unsigned *tries,
         struct error *err)
{
    enum errcode rc = ask_held(v, v->self, user, mailbox, ret_here, err);

    do {
        if (rc == ERR_OK)
            rc = ask_held(v, v->peer, user, mailbox, ret_there, err);
    } while (rc == ERR_OK && !same_held(ret_here, ret_there) &&
             ret_there->lsn < ret_here->lsn && again(v, tries));
    return rc;
}

/* Here it was FROM to TO, there SINCE to UNTIL: was there one LSN at which both
 * are known? */
static bool
met(const struct held *from, const struct held *to, const struct held *since,
    const struct held *until)
{
    return same_held(from, to) && same_held(since, until) &&
           since->lsn <= to->lsn && from->lsn <= until->lsn;
}

static void
say_one(const char *what, const char *name, enum verify_result r,
        const struct held *here, const struct held *there)
{
    if (!here->has && !there->has && r != VERIFY_BEHIND)
        printf("%s %s: is on neither side\n", what, name);
    else if (r == VERIFY_EQUAL)
        printf("%s %s: equal, digest %016" PRIx64 "\n", what, name,
               here->digest);
    else if (r == VERIFY_UNEQUAL)
        printf("%s %s: UNEQUAL at %" PRI_LSN "%s\n", what, name, there->lsn,
               !there->has  ? ", only here"
               : !here->has ? ", only on the replica"
                            : "");
    else if (there->lsn < here->lsn)
        printf("%s %s: not known, the replica is at %" PRI_LSN " of %" PRI_LSN
               "\n",
               what, name, there->lsn, here->lsn);
    else
        printf("%s %s: not known, it is being written to\n", what, name);
}

static enum errcode
verify_one(struct sides *v, const char *user, const char *mailbox,
           struct error *err)
{
    struct held here, there, later;
    enum verify_result r = VERIFY_BEHIND;
    unsigned tries = 0;

    do {
        enum errcode rc =
            ask_both(v, user, mailbox, &here, &there, &tries, err);
        if (rc != ERR_OK)
            return rc;
        if (same_held(&here, &there)) {
            r = here.has ? VERIFY_EQUAL : VERIFY_UNEQUAL;
            break;
        }
        rc = ask_held(v, v->self, user, mailbox, &later, err);
        if (rc != ERR_OK)
            return rc;
        if (met(&here, &later, &there, &there))
            r = VERIFY_UNEQUAL;
    } while (r == VERIFY_BEHIND && again(v, &tries));
    say_one(mailbox == NULL ? "user" : "mailbox",
            mailbox == NULL ? user : mailbox, r, &here, &there);
    note(v, r);
    return ERR_OK;
}

/* ---- what differs ------------------------------------------------------- */

static const char *
shown_user(const char *user)
{
    return user[0] == '\0' ? "(nobody)" : user;
}

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

static enum errcode
all_users(struct csync_client *c, struct arena *a, struct tree_user **ret,
          size_t *ret_n, struct error *err)
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
         struct tree_row **ret, size_t *ret_n, struct error *err)
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
            buf_add_str(&v->text, "    (no more rows are named)\n");
        return;
    }
    tree_describe_key(key, &text);
    buf_addf(&v->text, "    %s: %s\n", buf_cstr(&text), how);
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
          struct error *err)
{
    struct tree_row *x = NULL, *y = NULL;
    size_t nx = 0, ny = 0;

    enum errcode rc = all_rows(v->peer, user, id, a, &y, &ny, err);
    if (rc == ERR_OK)
        rc = all_rows(v->self, user, id, a, &x, &nx, err);
    if (rc == ERR_OK)
        merge_rows(v, x, nx, y, ny);
    return rc;
}

static enum errcode
diff_mailbox(struct sides *v, const char *user, const struct tree_mailbox *x,
             const struct tree_mailbox *y, struct arena *a, struct error *err)
{
    if (y == NULL || x == NULL) {
        buf_addf(&v->text, "  mailbox %s: only %s\n", (x == NULL ? y : x)->name,
                 x == NULL ? "on the replica" : "here");
        return ERR_OK;
    }
    if (x->hash == y->hash && strcmp(x->name, y->name) == 0)
        return ERR_OK;
    buf_addf(
        &v->text,
        "  mailbox %s: exists %" PRIu32 " and %" PRIu32 ", uidnext %" PRIu32
        " and %" PRIu32 ", highestmodseq %" PRIu64 " and %" PRIu64 "%s%s\n",
        x->name, x->exists, y->exists, x->uidnext, y->uidnext, x->highestmodseq,
        y->highestmodseq, strcmp(x->name, y->name) == 0 ? "" : ", there named ",
        strcmp(x->name, y->name) == 0 ? "" : y->name);
    return diff_rows(v, user, x->id, a, err);
}

/* What is in USER's mailboxes and beside them, into v->text. */
static enum errcode
walk_user(struct sides *v, const char *user, struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct tree_mailbox *x = NULL, *y = NULL;
    struct tree_view view;
    size_t nx = 0, ny = 0;

    enum errcode rc =
        tree_ask_mailboxes(v->peer, user, &a, &view, &y, &ny, err);
    if (rc == ERR_OK)
        rc = tree_ask_mailboxes(v->self, user, &a, &view, &x, &nx, err);
    if (rc != ERR_OK)
        return rc;
    buf_addf(&v->text, "user %s: differs\n", shown_user(user));
    if (nx > 0)
        qsort(x, nx, sizeof(*x), by_mailbox);
    if (ny > 0)
        qsort(y, ny, sizeof(*y), by_mailbox);
    for (size_t i = 0, j = 0; rc == ERR_OK && (i < nx || j < ny);) {
        int c = i == nx ? 1 : j == ny ? -1 : by_mailbox(&x[i], &y[j]);
        rc = diff_mailbox(v, user, c <= 0 ? &x[i] : NULL, c >= 0 ? &y[j] : NULL,
                          &a, err);
        i += c <= 0;
        j += c >= 0;
    }
    return rc == ERR_OK ? diff_rows(v, user, 0, &a, err) : rc;
}

/* What is told is of one moment, or not told (struct held). */
static enum errcode
diff_user(struct sides *v, const char *user, struct error *err)
{
    const unsigned shown = v->shown;
    unsigned tries = 0, walks = 0;

    do {
        struct held here, later, there, since;
        enum errcode rc = ask_both(v, user, NULL, &here, &there, &tries, err);
        if (rc == ERR_OK && same_held(&here, &there))
            return ERR_OK; /* it was only behind */
        buf_clear(&v->text);
        v->shown = shown;
        if (rc == ERR_OK)
            rc = walk_user(v, user, err);
        if (rc == ERR_OK)
            rc = ask_held(v, v->peer, user, NULL, &since, err);
        if (rc == ERR_OK)
            rc = ask_held(v, v->self, user, NULL, &later, err);
        if (rc != ERR_OK)
            return rc;
        if (met(&here, &later, &there, &since)) {
            fwrite(v->text.p, 1, v->text.n, stdout);
            return ERR_OK;
        }
    } while (++walks < WALKS && again(v, &tries));
    v->shown = shown;
    printf("user %s: not known, it is being written to\n", shown_user(user));
    return ERR_OK;
}

/* One walk over all users. */
static enum errcode
diff_all(struct sides *v, struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct tree_user *x = NULL, *y = NULL;
    size_t nx = 0, ny = 0;

    enum errcode rc = all_users(v->peer, &a, &y, &ny, err);
    if (rc == ERR_OK)
        rc = all_users(v->self, &a, &x, &nx, err);
    for (size_t i = 0, j = 0; rc == ERR_OK && (i < nx || j < ny);) {
        int c = i == nx ? 1 : j == ny ? -1 : by_user(&x[i], &y[j]);
        const struct tree_user *u = c <= 0 ? &x[i] : &y[j];
        if (c != 0 || x[i].digest != y[j].digest)
            rc = diff_user(v, u->name, err);
        i += c <= 0;
        j += c >= 0;
    }
    return rc;
}

/* ---- all of it ---------------------------------------------------------- */

/* Users of either side whose names begin with PREFIX. */
static enum errcode
verify_prefix(struct sides *v, const char *prefix, struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    struct tree_user *x = NULL, *y = NULL;
    size_t nx = 0, ny = 0;

    enum errcode rc = all_users(v->self, &a, &x, &nx, err);
    if (rc == ERR_OK)
        rc = all_users(v->peer, &a, &y, &ny, err);
    for (size_t i = 0, j = 0; rc == ERR_OK && (i < nx || j < ny);) {
        int c = i == nx ? 1 : j == ny ? -1 : by_user(&x[i], &y[j]);
        const char *user = (c <= 0 ? &x[i] : &y[j])->name;
        if (user[0] != '\0' && strncmp(user, prefix, strlen(prefix)) == 0)
            rc = verify_one(v, user, NULL, err);
        i += c <= 0;
        j += c >= 0;
    }
    return rc;
}

static enum errcode
verify_names(struct sides *v, const struct verify_names *names,
             struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    enum errcode rc = ERR_OK;

    for (size_t i = 0;
         rc == ERR_OK && names->prefixes != NULL && names->prefixes[i] != NULL;
         i++)
        rc = verify_prefix(v, names->prefixes[i], err);
    for (size_t i = 0;
         rc == ERR_OK && names->users != NULL && names->users[i] != NULL; i++)
        rc = verify_one(v, names->users[i], NULL, err);
    for (size_t i = 0; rc == ERR_OK && names->mailboxes != NULL &&
                       names->mailboxes[i] != NULL;
         i++) {
        const char *owner = name_owner(names->mailboxes[i], &a);
        rc =
            verify_one(v, owner == NULL ? "" : owner, names->mailboxes[i], err);
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
    const bool named = names->users != NULL || names->mailboxes != NULL ||
                       names->prefixes != NULL;

    enum errcode rc = ship_target(o, &target, err);
    if (rc == ERR_OK)
        rc = csync_connect_control(o->control, target.timeout_ms, &v.self, err);
    if (rc == ERR_OK)
        rc = csync_connect(&target, o->cfg, &v.peer, err);
    if (rc == ERR_OK)
        rc = named ? verify_names(&v, names, err) : verify_whole(&v, err);
    if (rc == ERR_OK && diff && v.worst == VERIFY_UNEQUAL)
        rc = diff_all(&v, err);
    fflush(stdout);
    csync_client_close(&v.self);
    csync_client_close(&v.peer);
    arena_free(&v.arena);
    buf_free(&v.text);
    if (rc == ERR_OK)
        *ret = v.worst;
    return rc;
}
