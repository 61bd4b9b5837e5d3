/*
 * csync/peer.c - sending a command, and reading what comes back as it comes.
 *
 * MAILBOX and MESSAGE lines are read by csync/sync_read.h, other lines whole,
 * within the limits of csync/dlist.h.  When something in an answer is not what
 * it should be, the rest of it is still read, so that the next command finds
 * its own answer.
 */
#include "csync/peer.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

#define FILL_MAX (1U << 20)
#define SLICE_MS 200
#define SAID_MAX 200U
/* Of one answer of a peer, without bodies and records. */
#define ANSWER_BYTES ((size_t)64 << 20)

struct sync_peer {
    struct csync_client *client;
    struct bclient *conn;
    int timeout_ms;
    bool (*stop)(void *ctx);
    void *stop_ctx;
    bool broken;
    uint64_t commands, applies;
    bool at_start;  /* of a command */
    bool is_own;    /* our instance: its answers are as long as they are */
    size_t taken;   /* of the answer under way, as ANSWER_BYTES counts */
    bool dry, held; /* no APPLY is sent; this command is not */
    struct arena arena;
};

struct sync_peer *
peer_new(struct csync_client **c, int timeout_ms, bool (*stop)(void *ctx),
         void *stop_ctx)
{
    struct sync_peer *p = xcalloc(1, sizeof(*p));

    p->client = *c;
    p->conn = csync_client_conn(*c);
    p->timeout_ms = timeout_ms;
    p->stop = stop;
    p->stop_ctx = stop_ctx;
    p->at_start = true;
    *c = NULL;
    return p;
}

void
peer_free(struct sync_peer **p)
{
    if (*p == NULL)
        return;
    csync_client_close(&(*p)->client);
    arena_free(&(*p)->arena);
    free(*p);
    *p = NULL;
}

bool
peer_is_pollux(const struct sync_peer *p)
{
    return csync_client_has_log(p->client);
}

const char *
peer_name(const struct sync_peer *p)
{
    return bclient_name(p->conn);
}

uint64_t
peer_commands(const struct sync_peer *p, uint64_t *ret_applies)
{
    *ret_applies = p->applies;
    return p->commands;
}

struct csync_client *
peer_client(struct sync_peer *p)
{
    return p->client;
}

void
peer_set_own(struct sync_peer *p)
{
    p->is_own = true;
}

void
peer_set_dry(struct sync_peer *p)
{
    p->dry = true;
}

bool
peer_is_broken(const struct sync_peer *p)
{
    return p->broken;
}

/* What is changed over there, without what is in it (-l, --dry-run). */
static void
say_apply(const struct sync_peer *p, struct span line)
{
    static const char *const contents[] = {"\r", " CONTENT ", " VALUE ",
                                           " RECORD "};

    line = span_sub(line, 0, MIN(line.n, (size_t)SAID_MAX));
    for (size_t i = 0; i < ARRAY_LEN(contents); i++) {
        ptrdiff_t at = span_find(line, span_str(contents[i]));
        if (at >= 0)
            line = span_sub(line, 0, (size_t)at);
    }
    if (p->dry)
        printf("would say: %.*s\n", SPAN_FMT(line));
    else
        log_info(NULL, "push.apply", "peer=%s line=\"%.*s\"",
                 bclient_name(p->conn), SPAN_FMT(line));
}

enum errcode
peer_send(struct sync_peer *p, struct span bytes, struct error *err)
{
    if (p->at_start) {
        p->commands++;
        if (span_starts(bytes, SPAN_LIT("APPLY ")) &&
            !span_starts(bytes, SPAN_LIT("APPLY RESERVE"))) {
            p->applies++;
            say_apply(p, bytes);
        }
        p->held = p->dry && span_starts(bytes, SPAN_LIT("APPLY "));
        p->at_start = false;
    }
    if (p->held)
        return ERR_OK;
    enum errcode rc = bclient_write(p->conn, bytes, p->timeout_ms, err);
    p->broken |= rc != ERR_OK;
    return rc;
}

/* Input that has not been used; waits until there is more than HAVE bytes. */
static enum errcode
more(struct sync_peer *p, size_t have, struct span *ret, struct error *err)
{
    int waited_ms = 0;

    for (;;) {
        struct span in = SPAN_EMPTY;
        enum errcode rc = bclient_fill(p->conn, have + FILL_MAX, &in, err);
        if (in.n > have) { /* also what was said before hanging up */
            *ret = in;
            return ERR_OK;
        }
        if (rc != ERR_OK && rc != ERR_AGAIN)
            return rc;
        if (p->stop != NULL && p->stop(p->stop_ctx))
            return error_set(err, ERR_CLOSED, "told to stop");
        if (waited_ms >= p->timeout_ms)
            return error_set(err, ERR_TIMEOUT, "%s is silent for %d ms",
                             bclient_name(p->conn), waited_ms);
        struct pollfd fd = {.fd = bclient_fd(p->conn),
                            .events = bclient_poll_events(p->conn)};
        if (poll(&fd, 1, SLICE_MS) == 0)
            waited_ms += SLICE_MS;
    }
}

static const struct {
    const char *word;
    enum errcode code;
} words[] = {
    {"IMAP_MAILBOX_NONEXISTENT", ERR_NOTFOUND},
    {"IMAP_INVALID_USER", ERR_NOTFOUND},
    {"IMAP_SYNC_CHECKSUM", ERR_HISTORY},
    {"IMAP_MAILBOX_CRC", ERR_HISTORY},
    {"IMAP_SYNC_CHANGED", ERR_GAP},
    {"IMAP_MAILBOX_MOVED", ERR_EXISTS},
    {"IMAP_MAILBOX_LOCKED", ERR_AGAIN},
    {"IMAP_MAILBOX_NOTSUPPORTED", ERR_UNSUPPORTED},
    {"IMAP_PROTOCOL_BAD_PARAMETERS", ERR_SYNTAX},
    {"IMAP_PROTOCOL_ERROR", ERR_UNSUPPORTED},
    {"POLLUX-ROLE", ERR_READONLY},
    {"POLLUX-FENCED", ERR_FENCED},
};

static enum errcode
refusal(struct span text, struct error *err)
{
    enum errcode code = ERR_DENIED;
    ptrdiff_t blank = span_find_byte(text, ' ', 0);
    struct span word = blank < 0 ? text : span_sub(text, 0, (size_t)blank);

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (span_eq_str(word, words[i].word))
            code = words[i].code;
    return error_set(err, code, "the peer says: %.*s",
                     (int)MIN(text.n, (size_t)300), text.p);
}

/* The first error of an answer counts. */
struct outcome {
    enum errcode code;
    struct error err;
};

static void
note(struct outcome *o, enum errcode code, const struct error *err)
{
    if (o->code != ERR_OK || code == ERR_OK)
        return;
    o->code = code;
    o->err = *err;
}

/* N more bytes of an answer that we may have to keep. */
static enum errcode
account(struct sync_peer *p, size_t n, struct error *err)
{
    p->taken += n;
    return p->is_own || p->taken <= ANSWER_BYTES
               ? ERR_OK
               : error_set(err, ERR_PROTO, "answer of over %zu bytes",
                           ANSWER_BYTES);
}

/* A MAILBOX or MESSAGE line, behind its name. */
static enum errcode
read_long(struct sync_peer *p, const struct sync_answer *a, bool is_mailbox,
          struct outcome *o, struct error *err)
{
    static const struct sync_files none;
    struct sync_reader *r =
        is_mailbox ? sync_reader_mailbox()
                   : sync_reader_message(a == NULL ? &none : &a->files);
    enum errcode rc = ERR_OK;
    enum parse done = PARSE_MORE;
    struct error why = {0};
    size_t have = 0, size = 0;

    while (rc == ERR_OK && done == PARSE_MORE) {
        struct span in = SPAN_EMPTY;
        size_t used = 0;
        rc = more(p, have, &in, err);
        if (rc != ERR_OK)
            break;
        done = sync_reader_feed(r, in, &used, err);
        bclient_used(p->conn, used);
        have = in.n - used;
        size += used;
        if (done == PARSE_BAD)
            rc = error_prefix(err, "answer");
    }
    if (rc == ERR_OK) {
        enum errcode code = sync_reader_code(r, &why);
        bool is_head_only = false;
        struct sync_mailbox *mb = sync_reader_result(r, &is_head_only);
        if (code == ERR_OK && is_mailbox && a != NULL && a->mailbox != NULL)
            code = a->mailbox(a->ctx, mb, is_head_only, &why);
        note(o, code, &why);
        if (is_mailbox && (mb == NULL || mb->nrecords == 0))
            rc = account(p, size, err);
    }
    sync_reader_free(&r);
    return rc;
}

static enum errcode
read_line(struct sync_peer *p, const struct sync_answer *a, struct outcome *o,
          struct error *err)
{
    size_t have = 0;

    for (;;) {
        struct span in = SPAN_EMPTY;
        struct dlist *d = NULL;
        struct error why = {0};
        size_t used = 0;
        enum errcode rc = more(p, have, &in, err);
        if (rc != ERR_OK)
            return rc;
        arena_reset(&p->arena);
        switch (dlist_parse(span_skip(in, 2), &dlist_default_limits, &p->arena,
                            &d, &used, err)) {
        case PARSE_MORE:
            have = in.n;
            continue;
        case PARSE_BAD:
            return error_prefix(err, "answer");
        case PARSE_DONE:
            break;
        }
        if (a != NULL && a->line != NULL)
            note(o, a->line(a->ctx, d, &why), &why);
        bclient_used(p->conn, used + 2);
        return account(p, used, err);
    }
}

/* The line that ends an answer, or which kind of data line comes. */
enum next { NEXT_END, NEXT_MAILBOX, NEXT_MESSAGE, NEXT_LINE };

static enum errcode
look(struct sync_peer *p, enum next *ret, struct outcome *o, struct error *err)
{
    size_t have = 0;

    for (;;) {
        struct span in = SPAN_EMPTY;
        enum errcode rc = more(p, have, &in, err);
        if (rc != ERR_OK)
            return rc;
        have = in.n;
        const ptrdiff_t end = span_find_byte(in, '\n', 0);
        if (end < 0 && in.n > (64U << 10) && in.p[0] != '*')
            return error_set(err, ERR_PROTO, "not an answer");
        if (span_starts(in, SPAN_LIT("* Fatal error")))
            return error_set(err, ERR_PROTO, "the peer says: %.*s",
                             (int)MIN(in.n, (size_t)200), in.p);
        if (in.n >= 10 && span_starts(in, SPAN_LIT("* MAILBOX "))) {
            bclient_used(p->conn, 10);
            *ret = NEXT_MAILBOX;
            return ERR_OK;
        }
        if (in.n >= 10 && span_starts(in, SPAN_LIT("* MESSAGE "))) {
            bclient_used(p->conn, 10);
            *ret = NEXT_MESSAGE;
            return ERR_OK;
        }
        if (in.n >= 10 && span_starts(in, SPAN_LIT("* "))) {
            *ret = NEXT_LINE;
            return ERR_OK;
        }
        if (end < 0)
            continue;
        struct span line = span_trim(span_sub(in, 0, (size_t)end));
        *ret = NEXT_END;
        struct error why = {0};
        if (span_starts(line, SPAN_LIT("NO")))
            note(o, refusal(span_trim(span_skip(line, 2)), &why), &why);
        else if (span_starts(line, SPAN_LIT("BAD")))
            note(o, refusal(span_trim(span_skip(line, 3)), &why), &why);
        else if (!span_starts(line, SPAN_LIT("OK")))
            return error_set(err, ERR_CLOSED, "the peer says: %.*s",
                             (int)MIN(line.n, (size_t)200), line.p);
        bclient_used(p->conn, (size_t)end + 1);
        return ERR_OK;
    }
}

static enum errcode
read_answer(struct sync_peer *p, const struct sync_answer *a, struct outcome *o,
            struct error *err)
{
    enum next next = NEXT_LINE;

    p->taken = 0;
    while (next != NEXT_END) {
        enum errcode rc = look(p, &next, o, err);
        if (rc == ERR_OK && next == NEXT_LINE)
            rc = read_line(p, a, o, err);
        else if (rc == ERR_OK && next != NEXT_END)
            rc = read_long(p, a, next == NEXT_MAILBOX, o, err);
        if (rc != ERR_OK)
            return rc;
    }
    return ERR_OK;
}

enum errcode
peer_finish(struct sync_peer *p, const struct sync_answer *a, struct error *err)
{
    struct outcome o = {0};

    enum errcode rc = peer_send(p, SPAN_LIT("\r\n"), err);
    p->at_start = true;
    if (p->held) {
        p->held = false;
        return ERR_OK;
    }
    if (rc == ERR_OK)
        rc = read_answer(p, a, &o, err);
    if (rc != ERR_OK) {
        p->broken = true;
        return error_prefix(err, "%s", bclient_name(p->conn));
    }
    if (o.code != ERR_OK && err != NULL)
        *err = o.err;
    return o.code;
}

enum errcode
peer_command(struct sync_peer *p, struct span line, const struct sync_answer *a,
             struct error *err)
{
    enum errcode rc = peer_send(p, line, err);

    return rc == ERR_OK ? peer_finish(p, a, err) : rc;
}
