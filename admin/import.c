/*
 * admin/import.c - IMPORT: a Maildir++ directory into the mailboxes of a user
 * (ctl_backup import): what EXPORT and HISTORYEXPORT have written, or another
 * server.
 *
 * Each folder is a mailbox below the user's INBOX, or below FOLDER there; those
 * that are missing are made.  Each message is an ordinary append, so it has a
 * new UID, goes to replicas, and counts for the quota, and INTERNALDATE and
 * flags are those that its file's name says.  One that the mailbox has already,
 * byte for byte, is passed over: so what was interrupted is called again.
 * Files that EXPORT_MARK says are ours are taken byte for byte; others have the
 * line ends of their system, which become CRLF.
 */
#include <stdlib.h>

#include "admin/ask.h"
#include "admin/export.h"
#include "store/body.h"

#define NAMES_BYTES_MAX ((size_t)256 << 20) /* of a directory */
#define MESSAGE_BYTES_MAX ((uint64_t)BODY_PARTS_MAX * BODY_PART_BYTES - 1)
#define READ_BYTES ((size_t)1 << 20)

struct importing {
    struct ask *ask;
    const char *source;
    const char *inbox; /* internal: what folders are below of */
    const char *partition;
    mbid_t id; /* of the mailbox under way */
    const char *name;
    struct guid *has; /* what it had before, sorted */
    size_t n, room;
    uint64_t messages, bytes, skipped, made, failed;
};

/* ---- mailboxes ---------------------------------------------------------- */

static enum errcode
find_mailbox(struct importing *im, const char *name, struct mailbox *ret,
             struct error *err)
{
    AUTO(store_release)
    struct store_snap *snap = store_snapshot(im->ask->store);

    return snap_mailbox_by_name(snap, name, &im->ask->arena, ret, err);
}

/* NAME, and what is missing above it. */
static enum errcode
make_mailbox(struct importing *im, const char *name, mbid_t *ret,
             struct error *err)
{
    struct mailbox mb;
    enum errcode rc = find_mailbox(im, name, &mb, err);

    if (rc == ERR_OK)
        *ret = mb.id;
    if (rc != ERR_NOTFOUND)
        return rc;
    mbid_t above = 0;
    const char *parent = name_parent(name, &im->ask->arena);
    rc = parent == NULL ? ERR_OK : make_mailbox(im, parent, &above, err);
    if (rc != ERR_OK)
        return rc;
    AUTO(txn_free) struct store_txn *txn = txn_new();
    txn_create(txn, &(struct txn_mailbox){.name = name,
                                          .partition = im->partition,
                                          .exist_ok = true,
                                          .check_quota = true});
    rc = ask_commit(im->ask, txn, err);
    if (rc == ERR_OK)
        rc = find_mailbox(im, name, &mb, err);
    if (rc != ERR_OK)
        return error_prefix(err, "%.300s", name);
    im->made++;
    *ret = mb.id;
    return ERR_OK;
}

static int
compare_guids(const void *a, const void *b)
{
    return memcmp(a, b, GUID_BYTES);
}

static void
add_guid(struct importing *im, const struct guid *guid)
{
    if (im->n == im->room) {
        im->room = im->room * 2 + 256;
        im->has = xrealloc(im->has, im->room * sizeof(*im->has));
    }
    im->has[im->n++] = *guid;
}

/* What is in the mailbox already. */
static enum errcode
look_into_mailbox(struct importing *im, struct error *err)
{
    AUTO(store_release)
    struct store_snap *snap = store_snapshot(im->ask->store);
    struct msg_iter *it = snap_messages(snap, im->id, 1, false);
    struct message m;

    im->n = 0;
    while (msg_iter_next(it, &m))
        add_guid(im, &m.guid);
    if (im->n > 1)
        qsort(im->has, im->n, sizeof(*im->has), compare_guids);
    return msg_iter_close(&it, err);
}

/* ---- messages ----------------------------------------------------------- */

/* Flags behind ":2,". */
static uint32_t
read_flags(const char *name)
{
    static const struct {
        char letter;
        uint32_t flag;
    } letters[] = {{'D', FLAG_DRAFT},
                   {'F', FLAG_FLAGGED},
                   {'R', FLAG_ANSWERED},
                   {'S', FLAG_SEEN},
                   {'T', FLAG_DELETED}};
    const char *at = strstr(name, ":2,");
    uint32_t flags = 0;

    for (size_t i = 0; at != NULL && i < ARRAY_LEN(letters); i++)
        if (strchr(at + 3, letters[i].letter) != NULL)
            flags |= letters[i].flag;
    return flags;
}

/* The number that NAME begins with, or that follows MARK; false: none. */
static bool
read_number(const char *name, const char *mark, uint64_t *ret)
{
    const char *at = mark == NULL ? name : strstr(name, mark);
    size_t n = 0;

    if (at == NULL)
        return false;
    at += mark == NULL ? 0 : strlen(mark);
    while (at[n] >= '0' && at[n] <= '9')
        n++;
    return parse_u64(span_of(at, n), ret);
}

/* BYTES of a message, each line end as CRLF where it is not ours. */
static enum errcode
write_some(struct body *b, struct span bytes, bool is_ours, uint8_t *last,
           struct error *err)
{
    AUTO(buf_free) struct buf out = BUF_INIT;

    if (is_ours)
        return body_write(b, bytes, err);
    for (size_t i = 0; i < bytes.n; i++) {
        if (bytes.p[i] == '\n' && *last != '\r')
            buf_add_byte(&out, '\r');
        buf_add_byte(&out, bytes.p[i]);
        *last = bytes.p[i];
    }
    return body_write(b, buf_span(&out), err);
}

static enum errcode
read_file(struct importing *im, const char *path, const char *name,
          struct body **ret, struct error *err)
{
    AUTO(env_close) struct envfile *f = NULL;
    AUTO(buf_free) struct buf bytes = BUF_INIT;
    const uint64_t set = config_bytes(im->ask->cfg, "maxmessagesize");
    const uint64_t most =
        set == 0 || set > MESSAGE_BYTES_MAX ? MESSAGE_BYTES_MAX : set;
    const bool is_ours = strstr(name, EXPORT_MARK) != NULL;
    uint64_t size = 0, said = 0;
    uint8_t last = 0;

    enum errcode rc = env_open(im->ask->env, path, ENV_READ, &f, err);
    if (rc == ERR_OK)
        rc = env_size(f, &size, err);
    if (rc == ERR_OK && is_ours && read_number(name, EXPORT_MARK "S=", &said) &&
        said != size)
        rc = error_set(err, ERR_CORRUPT,
                       "it has %" PRIu64 " bytes, and its name says %" PRIu64,
                       size, said);
    if (rc == ERR_OK && size > most)
        rc = error_set(err, ERR_LIMIT,
                       "it has %" PRIu64 " bytes, the limit is %" PRIu64, size,
                       most);
    if (rc != ERR_OK)
        return rc;
    struct body *b = store_body_new(im->ask->store, is_ours ? size : most);
    for (uint64_t at = 0; rc == ERR_OK && at < size; at += READ_BYTES) {
        const size_t n = (size_t)MIN(size - at, READ_BYTES);
        buf_clear(&bytes);
        rc = env_pread(f, buf_reserve(&bytes, n), n, at, err);
        if (rc == ERR_OK)
            rc = write_some(b, span_of(bytes.p, n), is_ours, &last, err);
    }
    if (rc == ERR_OK)
        rc = body_finish(b, err);
    if (rc == ERR_OK)
        *ret = b;
    else
        body_free(&b);
    return rc;
}

static enum errcode
append(struct importing *im, struct body *b, const char *name,
       struct error *err)
{
    AUTO(txn_free) struct store_txn *txn = txn_new();
    uint64_t received = 0;

    if (!read_number(name, NULL, &received) || received > INT32_MAX)
        received = env_wall_us(im->ask->env) / 1000000;
    txn_append(txn, &(struct txn_append){.id = im->id,
                                         .body = b,
                                         .flags = read_flags(name),
                                         .internal_s = (int64_t)received,
                                         .check_quota = true});
    enum errcode rc = ask_commit(im->ask, txn, err);
    if (rc != ERR_OK)
        return rc;
    im->messages++;
    im->bytes += body_size(b);
    return ERR_OK;
}

/* One that cannot be read is told, and left out. */
static enum errcode
import_file(struct importing *im, const char *dir, const char *name,
            struct error *err)
{
    AUTO(xfree) char *path = xasprintf("%s/%s", dir, name);
    AUTO(body_free) struct body *b = NULL;
    struct error why = {0};

    enum errcode rc = read_file(im, path, name, &b, &why);
    if (rc == ERR_NOSPACE) {
        *err = why;
        return rc;
    }
    if (rc != ERR_OK) {
        im->failed++;
        struct dlist_printer *p = ask_row(im->ask, "FAILED");
        dlist_str(p, "NAME", path);
        dlist_str(p, "TEXT", why.text);
        return ask_row_end(im->ask, err);
    }
    if (im->n > 0 && bsearch(body_guid(b), im->has, im->n, sizeof(*im->has),
                             compare_guids) != NULL) {
        im->skipped++;
        return ERR_OK;
    }
    rc = append(im, b, name, err);
    return rc == ERR_OK ? rc : error_prefix(err, "%.300s", path);
}

static enum errcode
import_files(struct importing *im, const char *dir, struct error *err)
{
    AUTO(buf_free) struct buf names = BUF_MAX(NAMES_BYTES_MAX);
    enum errcode rc = env_list(im->ask->env, dir, &names, err);

    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    for (size_t at = 0; rc == ERR_OK && at < names.n;) {
        const char *name = (const char *)names.p + at;
        at += strlen(name) + 1;
        if (name[0] == '.')
            continue;
        rc = import_file(im, dir, name, err);
        if (rc == ERR_OK)
            rc = ask_progress(im->ask, im->messages + im->skipped, 0, err);
    }
    return rc;
}

/* ---- folders ------------------------------------------------------------ */

/* The mailbox of directory NAME, "" or ".Sub.folder". */
static const char *
mailbox_of(struct importing *im, const char *name)
{
    AUTO(buf_free) struct buf out = BUF_INIT;

    buf_add_str(&out, im->inbox);
    for (; *name != '\0'; name++) {
        const bool is_slash = strncmp(name, "%2F", 3) == 0;
        buf_add_byte(&out, is_slash ? '/' : (uint8_t)*name);
        name += is_slash ? 2 : 0;
    }
    return arena_str(&im->ask->arena, buf_span(&out));
}

static enum errcode
import_folder(struct importing *im, const char *name, struct error *err)
{
    AUTO(xfree)
    char *cur =
        xasprintf("%s/%s%scur", im->source, name, name[0] == '\0' ? "" : "/");
    AUTO(xfree)
    char *new =
        xasprintf("%s/%s%snew", im->source, name, name[0] == '\0' ? "" : "/");

    im->name = mailbox_of(im, name);
    enum errcode rc = name_check(im->name, err);
    if (rc == ERR_OK)
        rc = make_mailbox(im, im->name, &im->id, err);
    if (rc == ERR_OK)
        rc = look_into_mailbox(im, err);
    if (rc == ERR_OK)
        rc = import_files(im, cur, err);
    return rc == ERR_OK ? import_files(im, new, err) : rc;
}

static enum errcode
import_all(struct importing *im, struct error *err)
{
    AUTO(xfree) char *cur = xasprintf("%s/cur", im->source);
    AUTO(buf_free) struct buf names = BUF_MAX(NAMES_BYTES_MAX);
    unsigned folders = 0;
    enum errcode rc = env_list(im->ask->env, im->source, &names, err);

    if (rc == ERR_OK && env_may_exist(im->ask->env, cur)) {
        folders++;
        rc = import_folder(im, "", err);
    }
    for (size_t at = 0; rc == ERR_OK && at < names.n;) {
        const char *name = (const char *)names.p + at;
        at += strlen(name) + 1;
        AUTO(xfree) char *below = xasprintf("%s/%s/cur", im->source, name);
        if (name[0] != '.' || !env_may_exist(im->ask->env, below))
            continue;
        folders++;
        rc = import_folder(im, name, err);
    }
    if (rc == ERR_OK && folders == 0)
        rc = error_set(err, ERR_NOTFOUND,
                       "%s is no Maildir: there is no folder 'cur' in it",
                       im->source);
    return rc;
}

enum errcode
admin_import(struct ask *ask, struct error *err)
{
    const char *user = ask_text(ask, "USER");
    const char *folder = ask_text(ask, "FOLDER");
    struct importing im = {.ask = ask, .source = ask_text(ask, "SOURCE")};
    struct mailbox mb;

    if (user == NULL || im.source == NULL || im.source[0] != '/')
        return error_set(err, ERR_SYNTAX,
                         "USER, and SOURCE as an absolute path, are needed");
    enum errcode rc = name_inbox(user, &ask->arena, &im.inbox, err);
    if (rc == ERR_OK)
        rc = find_mailbox(&im, im.inbox, &mb, err);
    if (rc == ERR_NOTFOUND)
        return error_set(err, rc, "%.300s: there is no such user", user);
    if (rc == ERR_OK && folder != NULL)
        rc = name_to_internal(&ask->ns, user, false, span_str(folder),
                              &ask->arena, &im.inbox, err);
    if (rc == ERR_OK) {
        im.partition = mb.partition;
        rc = import_all(&im, err);
    }
    if (rc == ERR_OK) {
        struct dlist_printer *p = ask_row(ask, "IMPORTED");
        dlist_u64(p, "MESSAGES", im.messages);
        dlist_u64(p, "BYTES", im.bytes);
        dlist_u64(p, "SKIPPED", im.skipped);
        dlist_u64(p, "MADE", im.made);
        dlist_u64(p, "FAILED", im.failed);
        rc = ask_row_end(ask, err);
    }
    free(im.has);
    return rc;
}
