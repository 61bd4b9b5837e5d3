/*
 * csync/sync_read.c - a line taken apart while it comes.
 *
 * Each step takes one whole piece (a key with its value, one RECORD, some bytes
 * of a file) or nothing, so a step that was cut begins again with more bytes
 * and the state between two steps is small.  A RECORD becomes a struct at once.
 * What is wrong with a mailbox does not end the reading: its line is read to
 * the end, or the next command could not be found, and nothing of it is kept.
 */
#include "csync/sync_read.h"

#include <stdlib.h>

#define KEYS_MAX 64U

enum step {
    STEP_OPEN,    /* "%(" of a mailbox, "(" or "%{" of messages */
    STEP_KEY,     /* a key and its value, or the end of the mailbox */
    STEP_RECORD,  /* a RECORD, or the end of them */
    STEP_MESSAGE, /* a file, or the end of the list */
    STEP_BYTES,   /* of a file */
    STEP_END,     /* of the line */
};

struct sync_reader {
    enum step step;
    bool is_list; /* of messages */
    struct sync_files files;
    bool takes_files;
    uint64_t left;        /* of the file */
    struct arena arena;   /* what is kept */
    struct arena scratch; /* of a step */
    struct dlist top;     /* the keys */
    struct dlist **tail;
    unsigned nkeys;
    struct sync_mailbox mb;
    bool is_head_only;
    enum errcode code;
    struct error err;
};

/* What is read in one piece: a key with all annotations of a mailbox. */
static const struct dlist_limits piece_limits = {
    .total_bytes = 4U << 20,
    .literal_bytes = 131072,
    .file_bytes = 1U << 30,
    .depth = 8,
    .nodes = 20000,
};

struct sync_reader *
sync_reader_mailbox(void)
{
    struct sync_reader *r = xcalloc(1, sizeof(*r));

    r->top.type = DLIST_KVLIST;
    r->tail = &r->top.child;
    return r;
}

struct sync_reader *
sync_reader_message(const struct sync_files *files)
{
    struct sync_reader *r = sync_reader_mailbox();

    r->files = *files;
    r->takes_files = true;
    return r;
}

void
sync_reader_free(struct sync_reader **r)
{
    if (*r == NULL)
        return;
    free((*r)->mb.records);
    arena_free(&(*r)->arena);
    arena_free(&(*r)->scratch);
    free(*r);
    *r = NULL;
}

/* The first thing that is wrong counts. */
static void
note(struct sync_reader *r, enum errcode code, const struct error *err)
{
    if (r->code != ERR_OK || code == ERR_OK)
        return;
    r->code = code;
    r->err = *err;
}

static enum parse
bad(struct error *err, const char *why)
{
    error_set(err, ERR_PROTO, "%s", why);
    return PARSE_BAD;
}

static enum parse
open_value(struct sync_reader *r, struct span in, size_t *ret_used,
           struct error *err)
{
    if (in.n < 2)
        return PARSE_MORE;
    if (r->takes_files && in.p[0] == '(') {
        r->is_list = true;
        r->step = STEP_MESSAGE;
        *ret_used = 1;
        return PARSE_DONE;
    }
    if (r->takes_files && in.p[0] == '%' && in.p[1] == '{') {
        r->step = STEP_MESSAGE;
        *ret_used = 0;
        return PARSE_DONE;
    }
    if (!r->takes_files && in.p[0] == '%' && in.p[1] == '(') {
        r->step = STEP_KEY;
        *ret_used = 2;
        return PARSE_DONE;
    }
    return bad(err, r->takes_files ? "files are missing" : "keys are missing");
}

/* All keys are here. */
static void
finish_mailbox(struct sync_reader *r)
{
    struct error err = {0};

    if (r->code != ERR_OK)
        return;
    note(r,
         sync_mailbox_read(&r->top, &r->arena, &r->mb, &r->is_head_only, &err),
         &err);
}

static void
keep_key(struct sync_reader *r, struct span name, struct span value)
{
    struct dlist *d = arena_alloc(&r->arena, sizeof(*d));
    struct error err = {0};
    size_t used = 0;

    if (++r->nkeys > KEYS_MAX) {
        note(r, error_set(&err, ERR_LIMIT, "more than %u keys", KEYS_MAX),
             &err);
        return;
    }
    /* Again, from bytes that stay; a blank ends an atom. */
    uint8_t *copy = arena_alloc(&r->arena, value.n + 1);
    memcpy(copy, value.p, value.n);
    copy[value.n] = ' ';
    ENSURE(dlist_take_value(span_of(copy, value.n + 1), &piece_limits,
                            &r->arena, d, &used, &err) == PARSE_DONE);
    d->name = arena_copy(&r->arena, name);
    *r->tail = d;
    r->tail = &d->next;
}

static enum parse
take_key(struct sync_reader *r, struct span in, size_t *ret_used,
         struct error *err)
{
    struct dlist value;
    struct span name;
    size_t used = 0, more = 0;

    if (in.p[0] == ')') {
        finish_mailbox(r);
        r->step = STEP_END;
        *ret_used = 1;
        return PARSE_DONE;
    }
    enum parse rc =
        dlist_take_name(in, &piece_limits, &r->scratch, &name, &used, err);
    if (rc != PARSE_DONE)
        return rc;
    used += dlist_take_blanks(span_skip(in, used));
    if (used == in.n)
        return PARSE_MORE;
    if (span_eq_str(name, "RECORD") && in.p[used] == '(') {
        r->step = STEP_RECORD;
        *ret_used = used + 1;
        return PARSE_DONE;
    }
    rc = dlist_take_value(span_skip(in, used), &piece_limits, &r->scratch,
                          &value, &more, err);
    if (rc != PARSE_DONE)
        return rc;
    keep_key(r, name, span_sub(in, used, more));
    *ret_used = used + more;
    return PARSE_DONE;
}

static enum parse
take_record(struct sync_reader *r, struct span in, size_t *ret_used,
            struct error *err)
{
    struct sync_record record;
    struct error why = {0};
    struct dlist d;

    if (in.p[0] == ')') {
        r->step = STEP_KEY;
        *ret_used = 1;
        return PARSE_DONE;
    }
    enum parse rc =
        dlist_take_value(in, &piece_limits, &r->scratch, &d, ret_used, err);
    if (rc != PARSE_DONE || r->code != ERR_OK)
        return rc;
    enum errcode code = sync_record_read(&d, &r->arena, &record, &why);
    if (code == ERR_OK)
        code = sync_mailbox_add(&r->mb, &record, &r->arena, &why);
    note(r, code, &why);
    return rc;
}

static enum parse
take_message(struct sync_reader *r, struct span in, size_t *ret_used,
             struct error *err)
{
    struct error why = {0};
    struct dlist d;

    if (r->is_list && in.p[0] == ')') {
        r->step = STEP_END;
        *ret_used = 1;
        return PARSE_DONE;
    }
    if (in.p[0] != '%') /* NIL is passed over */
        return dlist_take_value(in, &piece_limits, &r->scratch, &d, ret_used,
                                err);
    enum parse rc =
        dlist_take_file(in, &piece_limits, &r->scratch, &d, ret_used, err);
    if (rc != PARSE_DONE)
        return rc;
    r->left = d.size;
    if (r->code == ERR_OK)
        note(r, r->files.begin(r->files.ctx, &d.guid, d.size, &why), &why);
    r->step = STEP_BYTES;
    return rc;
}

static enum parse
take_bytes(struct sync_reader *r, struct span in, size_t *ret_used)
{
    struct span some = span_sub(in, 0, (size_t)MIN(r->left, (uint64_t)in.n));
    struct error why = {0};

    if (r->code == ERR_OK && some.n > 0)
        note(r, r->files.bytes(r->files.ctx, some, &why), &why);
    r->left -= some.n;
    *ret_used = some.n;
    if (r->left > 0)
        return some.n > 0 ? PARSE_DONE : PARSE_MORE;
    if (r->code == ERR_OK)
        note(r, r->files.end(r->files.ctx, &why), &why);
    r->step = r->is_list ? STEP_MESSAGE : STEP_END;
    return PARSE_DONE;
}

/* Blanks, but no line end among them, then CRLF or LF. */
static enum parse
take_end(struct span in, size_t *ret_used, struct error *err)
{
    size_t n = 0;

    while (n < in.n && (in.p[n] == ' ' || in.p[n] == '\t'))
        n++;
    if (n < in.n && in.p[n] == '\r')
        n++;
    if (n == in.n)
        return PARSE_MORE;
    if (in.p[n] != '\n')
        return bad(err, "something follows the value");
    *ret_used = n + 1;
    return PARSE_DONE;
}

static enum parse
take_step(struct sync_reader *r, struct span in, size_t *ret_used,
          struct error *err)
{
    switch (r->step) {
    case STEP_OPEN:
        return open_value(r, in, ret_used, err);
    case STEP_KEY:
        return take_key(r, in, ret_used, err);
    case STEP_RECORD:
        return take_record(r, in, ret_used, err);
    case STEP_MESSAGE:
        return take_message(r, in, ret_used, err);
    case STEP_BYTES:
    case STEP_END:
        break;
    }
    return PARSE_BAD;
}

enum parse
sync_reader_feed(struct sync_reader *r, struct span in, size_t *ret_used,
                 struct error *err)
{
    size_t at = 0;

    *ret_used = 0;
    for (;;) {
        size_t used = 0;
        enum parse rc;
        if (r->step == STEP_BYTES) {
            rc = take_bytes(r, span_skip(in, at), &used);
        } else if (r->step == STEP_END) {
            rc = take_end(span_skip(in, at), &used, err);
            if (rc == PARSE_DONE) {
                *ret_used = at + used;
                return rc;
            }
        } else {
            at += dlist_take_blanks(span_skip(in, at));
            *ret_used = at;
            rc = at == in.n ? PARSE_MORE
                            : take_step(r, span_skip(in, at), &used, err);
            arena_reset(&r->scratch);
        }
        if (rc != PARSE_DONE)
            return rc;
        at += used;
        *ret_used = at;
    }
}

enum errcode
sync_reader_code(const struct sync_reader *r, struct error *err)
{
    if (r->code != ERR_OK && err != NULL)
        *err = r->err;
    return r->code;
}

struct sync_mailbox *
sync_reader_result(struct sync_reader *r, bool *ret_is_head_only)
{
    *ret_is_head_only = r->is_head_only;
    return &r->mb;
}
