/*
 * csync/parked.c - an array, and a file that is written anew when it changed.
 *
 * It is saved before the slot moves on, so whatever ends the process, each name
 * is in the log behind the slot or in here.
 */
#include "csync/parked.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/macros.h"

#define HEAD "pollux-parked 1"
#define FILE_MAX ((size_t)64 << 20)

struct parked {
    struct env *env;
    char *path;
    struct parked_item *v;
    size_t n, cap;
    bool changed;
};

const char *
parked_kind_text(enum parked_kind kind)
{
    switch (kind) {
    case PARKED_USER:
        return "user";
    case PARKED_MAILBOX:
        return "mailbox";
    case PARKED_GONE:
        return "user that is gone";
    case PARKED_SERVER:
        return "annotations of the server";
    }
    return "";
}

bool
parked_has(const struct parked *p, enum parked_kind kind, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i].kind == kind && strcmp(p->v[i].name, name) == 0)
            return true;
    return false;
}

enum errcode
parked_add(struct parked *p, enum parked_kind kind, const char *name,
           struct error *err)
{
    if (parked_has(p, kind, name))
        return ERR_OK;
    if (p->n == PARKED_MAX)
        return error_set(err, ERR_LIMIT, "%u are parked already", PARKED_MAX);
    if (strchr(name, '\n') != NULL)
        return error_set(err, ERR_LIMIT, "a name with a line break");
    if (p->n == p->cap) {
        p->cap = 2 * p->cap + 16;
        p->v = xrealloc(p->v, p->cap * sizeof(*p->v));
    }
    p->v[p->n++] = (struct parked_item){.kind = kind, .name = xstrdup(name)};
    p->changed = true;
    return ERR_OK;
}

const struct parked_item *
parked_items(const struct parked *p, size_t *ret_n)
{
    *ret_n = p->n;
    return p->v;
}

void
parked_remove(struct parked *p, size_t at)
{
    ENSURE(at < p->n);
    free(p->v[at].name);
    memmove(p->v + at, p->v + at + 1, (p->n - at - 1) * sizeof(*p->v));
    p->n--;
    p->changed = true;
}

static bool
is_kind(uint8_t c)
{
    return c == PARKED_USER || c == PARKED_MAILBOX || c == PARKED_GONE ||
           c == PARKED_SERVER;
}

static enum errcode
take_line(struct parked *p, struct span line, struct error *err)
{
    if (line.n == 0 || !is_kind(line.p[0]) || span_find_byte(line, 0, 0) >= 0)
        return ERR_OK;
    const bool is_named = line.p[0] != PARKED_SERVER;
    if (is_named ? line.n < 3 || line.p[1] != ' ' : line.n != 1)
        return ERR_OK;
    AUTO(xfree)
    char *name = is_named ? xasprintf("%.*s", SPAN_FMT(span_skip(line, 2)))
                          : xstrdup("");
    return parked_add(p, (enum parked_kind)line.p[0], name, err);
}

static enum errcode
read_file(struct parked *p, struct error *err)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    enum errcode rc = env_read_file(p->env, p->path, FILE_MAX, &text, err);

    if (rc == ERR_NOTFOUND)
        return ERR_OK;
    struct span rest = buf_span(&text);
    for (bool is_head = true; rc == ERR_OK && rest.n > 0; is_head = false) {
        const ptrdiff_t end = span_find_byte(rest, '\n', 0);
        struct span line = end < 0 ? rest : span_sub(rest, 0, (size_t)end);
        rest = end < 0 ? SPAN_EMPTY : span_skip(rest, (size_t)end + 1);
        if (is_head && !span_eq_str(line, HEAD))
            break;
        if (!is_head)
            rc = take_line(p, line, err);
    }
    return rc;
}

enum errcode
parked_open(struct env *env, const char *path, struct parked **ret,
            struct error *err)
{
    struct parked *p = xcalloc(1, sizeof(*p));

    p->env = env;
    p->path = xstrdup(path);
    enum errcode rc = read_file(p, err);
    if (rc != ERR_OK) {
        parked_close(&p);
        return error_prefix(err, "%s", path);
    }
    p->changed = false;
    *ret = p;
    return ERR_OK;
}

void
parked_close(struct parked **pp)
{
    struct parked *p = *pp;

    if (p == NULL)
        return;
    for (size_t i = 0; i < p->n; i++)
        free(p->v[i].name);
    free(p->v);
    free(p->path);
    free(p);
    *pp = NULL;
}

enum errcode
parked_save(struct parked *p, struct error *err)
{
    AUTO(buf_free) struct buf text = BUF_INIT;

    if (!p->changed)
        return ERR_OK;
    buf_add_str(&text, HEAD "\n");
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i].kind == PARKED_SERVER)
            buf_add_str(&text, "s\n");
        else
            buf_addf(&text, "%c %s\n", (char)p->v[i].kind, p->v[i].name);
    enum errcode rc =
        env_write_file_atomic(p->env, p->path, buf_span(&text), err);
    p->changed = rc != ERR_OK;
    return rc;
}
