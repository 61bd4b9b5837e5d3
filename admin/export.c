/*
 * admin/export.c - writing mail as Maildir++ or mbox; and EXPORT, which does it
 * for a user of this store.
 *
 * A message is in memory as a whole while it is written.  Files are not synced
 * one by one: an export is a copy for other programs, and no backup.
 */
#include "admin/export.h"

#include <sys/stat.h>
#include <time.h>

#include "admin/ask.h"
#include "store/body.h"

enum errcode
export_open(struct env *env, const char *target, enum export_format format,
            struct export *ret, struct error *err)
{
    AUTO(buf_free) struct buf names = BUF_INIT;

    enum errcode rc = env_mkdirs(env, target, err);
    if (rc == ERR_OK)
        rc = env_list(env, target, &names, err);
    if (rc == ERR_OK && names.n > 0)
        rc = error_set(err, ERR_EXISTS,
                       "%s is not empty: mail is written into an empty "
                       "directory only",
                       target);
    if (rc == ERR_OK)
        *ret = (struct export){.env = env, .target = target, .format = format};
    return rc;
}

void
export_close(struct export *x)
{
    env_close(&x->mbox);
    xfree(&x->dir);
    buf_free(&x->out);
}

/* ---- folders ----------------------------------------------------------- */

/* BELOW as part of a file's name. */
static void
add_name(const char *below, struct buf *out)
{
    for (; *below != '\0'; below++) {
        if (*below == '/')
            buf_add_str(out, "%2F");
        else
            buf_add_byte(out, (uint8_t)*below);
    }
}

static enum errcode
make_maildir(struct export *x, bool is_inbox, struct error *err)
{
    static const char *const parts[] = {"cur", "new", "tmp"};
    enum errcode rc = ERR_OK;

    for (size_t i = 0; rc == ERR_OK && i < ARRAY_LEN(parts); i++) {
        AUTO(xfree) char *path = xasprintf("%s/%s", x->dir, parts[i]);
        rc = env_mkdirs(x->env, path, err);
    }
    if (rc == ERR_OK && !is_inbox) {
        AUTO(xfree) char *path = xasprintf("%s/maildirfolder", x->dir);
        AUTO(env_close) struct envfile *f = NULL;
        rc = env_open(x->env, path, ENV_CREATE, &f, err);
    }
    return rc;
}

static enum errcode
flush_mbox(struct export *x, struct error *err)
{
    if (x->mbox == NULL || x->out.n == 0)
        return ERR_OK;
    enum errcode rc = env_pwrite(x->mbox, x->out.p, x->out.n, x->end, err);
    x->end += x->out.n;
    buf_clear(&x->out);
    return rc;
}

enum errcode
export_folder(struct export *x, const char *below, uint32_t uidvalidity,
              struct error *err)
{
    AUTO(buf_free) struct buf path = BUF_INIT;

    x->folders++;
    x->uidvalidity = uidvalidity;
    buf_addf(&path, "%s/%s", x->target,
             x->format == EXPORT_MBOX ? "INBOX" : "");
    add_name(below, &path);
    if (x->format == EXPORT_MBOX) {
        env_close(&x->mbox);
        x->end = 0;
        buf_add_str(&path, ".mbox");
        return env_open(x->env, buf_cstr(&path), ENV_NEW, &x->mbox, err);
    }
    xfree(&x->dir);
    x->dir = xstrdup(buf_cstr(&path));
    return make_maildir(x, below[0] == '\0', err);
}

/* ---- messages ---------------------------------------------------------- */

void
export_quote_mbox(struct span raw, struct buf *out)
{
    while (raw.n > 0) {
        ptrdiff_t end = span_find_byte(raw, '\n', 0);
        size_t n = end < 0 ? raw.n : (size_t)end;
        struct span line = span_sub(raw, 0, n);
        size_t quotes = 0;
        raw = span_skip(raw, n + 1);
        if (end >= 0 && line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        while (quotes < line.n && line.p[quotes] == '>')
            quotes++;
        if (span_starts(span_skip(line, quotes), SPAN_LIT("From ")))
            buf_add_byte(out, '>');
        buf_add(out, line);
        buf_add_byte(out, '\n');
    }
}

static enum errcode
append_mbox(struct export *x, const struct message *m, struct span raw,
            struct error *err)
{
    time_t t = (time_t)m->internal_s;
    struct tm tm = {0};
    char date[64];

    if (gmtime_r(&t, &tm) == NULL ||
        strftime(date, sizeof(date), "%a %b %e %H:%M:%S %Y", &tm) == 0)
        return error_set(err, ERR_LIMIT, "a date that cannot be written");
    buf_addf(&x->out, "From MAILER-DAEMON %s\n", date);
    export_quote_mbox(raw, &x->out);
    buf_add_byte(&x->out, '\n');
    return flush_mbox(x, err);
}

static void
add_flags(uint32_t flags, struct buf *out)
{
    static const struct {
        uint32_t flag;
        char letter;
    } letters[] = {{FLAG_DRAFT, 'D'},
                   {FLAG_FLAGGED, 'F'},
                   {FLAG_ANSWERED, 'R'},
                   {FLAG_SEEN, 'S'},
                   {FLAG_DELETED, 'T'}};

    for (size_t i = 0; i < ARRAY_LEN(letters); i++)
        if ((flags & letters[i].flag) != 0)
            buf_add_byte(out, (uint8_t)letters[i].letter);
}

static enum errcode
add_to_maildir(struct export *x, const struct message *m, struct span raw,
               struct error *err)
{
    AUTO(buf_free) struct buf name = BUF_INIT;
    AUTO(env_close) struct envfile *f = NULL;
    struct timespec times[2] = {{.tv_sec = (time_t)m->internal_s},
                                {.tv_sec = (time_t)m->internal_s}};

    buf_addf(&name, "%" PRId64 ".V%" PRIu32 "U%" PRIu32 EXPORT_MARK "S=%zu:2,",
             m->internal_s, x->uidvalidity, m->uid, raw.n);
    add_flags(m->flags, &name);
    AUTO(xfree) char *tmp = xasprintf("%s/tmp/%s", x->dir, buf_cstr(&name));
    AUTO(xfree) char *cur = xasprintf("%s/cur/%s", x->dir, buf_cstr(&name));
    enum errcode rc = env_open(x->env, tmp, ENV_NEW, &f, err);
    if (rc == ERR_OK && raw.n > 0)
        rc = env_pwrite(f, raw.p, raw.n, 0, err);
    if (rc == ERR_OK && env_fd(f) >= 0)
        (void)!futimens(env_fd(f), times);
    return rc == ERR_OK ? env_rename(x->env, tmp, cur, err) : rc;
}

enum errcode
export_message(struct export *x, const struct message *m, struct span raw,
               struct error *err)
{
    x->messages++;
    x->bytes += raw.n;
    return x->format == EXPORT_MBOX ? append_mbox(x, m, raw, err)
                                    : add_to_maildir(x, m, raw, err);
}

/* ---- EXPORT ------------------------------------------------------------ */

/* One that cannot be read is told, and left out. */
static enum errcode
export_stored(struct ask *ask, struct export *x, const struct mailbox *mb,
              const struct message *m, struct error *err)
{
    AUTO(buf_free) struct buf raw = BUF_INIT;
    struct error why = {0};

    enum errcode rc =
        store_body_read(ask->store, &m->guid, 0, m->size, &raw, &why);
    if (rc == ERR_OK)
        return export_message(x, m, buf_span(&raw), err);
    x->failed++;
    struct dlist_printer *p = ask_row(ask, "FAILED");
    dlist_str(p, "NAME", mb->name);
    dlist_u64(p, "UID", m->uid);
    dlist_str(p, "TEXT", why.text);
    return ask_row_end(ask, err);
}

static enum errcode
export_mailbox(struct ask *ask, struct export *x, mbid_t id, size_t inbox_n,
               uint64_t total, struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    AUTO(store_release) struct store_snap *snap = store_snapshot(ask->store);
    struct mailbox mb;
    struct message m;
    struct error end_err = {0};

    enum errcode rc = snap_mailbox(snap, id, &a, &mb, err);
    if (rc == ERR_NOTFOUND)
        return ERR_OK; /* it went meanwhile */
    if (rc == ERR_OK)
        rc = export_folder(x, mb.name + MIN(inbox_n, strlen(mb.name)),
                           mb.uidvalidity, err);
    if (rc != ERR_OK)
        return rc;
    struct msg_iter *it = snap_messages(snap, id, 1, false);
    while (rc == ERR_OK && msg_iter_next(it, &m)) {
        rc = export_stored(ask, x, &mb, &m, err);
        if (rc == ERR_OK)
            rc = ask_progress(ask, x->messages + x->failed, total, err);
        if (rc == ERR_OK && !ask->answer->pause(ask->answer->ctx, 0))
            rc = error_set(err, ERR_CLOSED,
                           "nobody waits for the answer any more");
    }
    enum errcode end = msg_iter_close(&it, &end_err);
    if (rc == ERR_OK && end != ERR_OK) {
        *err = end_err;
        rc = end;
    }
    return rc;
}

static bool
count_messages(void *ctx, const struct mailbox *mb)
{
    *(uint64_t *)ctx += mb->exists;
    return true;
}

enum errcode
admin_export(struct ask *ask, struct error *err)
{
    const char *user = ask_text(ask, "USER");
    const char *target = ask_text(ask, "TARGET");
    const char *inbox = NULL;
    struct ask_mailboxes boxes = {0};
    struct export x = {0};
    uint64_t total = 0;

    if (user == NULL || target == NULL || target[0] != '/')
        return error_set(err, ERR_SYNTAX,
                         "USER, and TARGET as an absolute path, are needed");
    enum errcode rc = name_inbox(user, &ask->arena, &inbox, err);
    if (rc == ERR_OK)
        rc = ask_mailboxes_of(ask, span_str(user), &boxes, err);
    if (rc == ERR_OK) {
        AUTO(store_release)
        struct store_snap *snap = store_snapshot(ask->store);
        rc = snap_each_mailbox(snap, inbox, count_messages, &total, err);
    }
    if (rc == ERR_OK)
        rc = export_open(ask->env, target,
                         ask_flag(ask, "MBOX") ? EXPORT_MBOX : EXPORT_MAILDIR,
                         &x, err);
    for (size_t i = 0; rc == ERR_OK && i < boxes.n; i++)
        rc = export_mailbox(ask, &x, boxes.ids[i], strlen(inbox), total, err);
    if (rc == ERR_OK) {
        struct dlist_printer *p = ask_row(ask, "EXPORTED");
        dlist_u64(p, "FOLDERS", x.folders);
        dlist_u64(p, "MESSAGES", x.messages);
        dlist_u64(p, "BYTES", x.bytes);
        dlist_u64(p, "FAILED", x.failed);
        rc = ask_row_end(ask, err);
    }
    export_close(&x);
    ask_mailboxes_free(&boxes);
    return rc;
}
