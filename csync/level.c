/*
 * csync/level.c - a hash table, and lines at the end of a file.
 *
 * Notes are gathered and written APPEND_BYTES at a time without a sync: what a
 * crash takes of them is looked at again.
 */
#include "csync/level.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/rd.h"

#define BUCKETS 65536U
#define APPEND_BYTES 4096U
#define FILE_MAX ((size_t)1 << 30)
#define HEX64 16U
#define LINES_SPARE 1000U

struct known {
    struct known *next;
    const char *user;
    struct level_pair pair;
};

struct level {
    pthread_mutex_t lock;
    struct env *env;
    char *path, *head;
    struct arena arena;
    struct known *buckets[BUCKETS];
    struct level_pair root;
    bool has_root;
    struct envfile *file; /* open for appending; NULL: not (yet) */
    uint64_t end;
    struct buf pending;
    uint64_t lines, users; /* in the file; in the table */
};

static unsigned
bucket_of(struct span name)
{
    uint32_t h = 2166136261U; /* FNV-1a */

    for (size_t i = 0; i < name.n; i++)
        h = (h ^ name.p[i]) * 16777619U;
    return (h ^ h >> 16) % BUCKETS;
}

static struct known *
find(struct level *l, struct span user)
{
    struct known *k = l->buckets[bucket_of(user)];

    while (k != NULL && !span_eq_str(user, k->user))
        k = k->next;
    return k;
}

static void
put(struct level *l, struct span user, struct level_pair p)
{
    struct known *k = find(l, user);

    if (k == NULL) {
        unsigned b = bucket_of(user);
        k = arena_alloc(&l->arena, sizeof(*k));
        *k = (struct known){.next = l->buckets[b],
                            .user = arena_str(&l->arena, user)};
        l->buckets[b] = k;
        l->users++;
    }
    k->pair = p;
    l->lines++;
}

/* ---- the file ------------------------------------------------------------ */

static bool
parse_pair(struct span s, struct level_pair *ret)
{
    uint8_t b[16];

    if (s.n != 2 * HEX64 + 1 || s.p[HEX64] != ' ' ||
        !parse_hex_bytes(span_sub(s, 0, HEX64), b, 8) ||
        !parse_hex_bytes(span_skip(s, HEX64 + 1), b + 8, 8))
        return false;
    struct rd r = rd_init(span_of(b, sizeof(b)));
    ret->here = rd_u64be(&r);
    ret->there = rd_u64be(&r);
    return true;
}

static bool
take_line(struct level *l, struct span line)
{
    const size_t pair = 2 * HEX64 + 1;
    struct level_pair p;

    if (line.n < 2 + pair || line.p[1] != ' ' ||
        !parse_pair(span_sub(line, 2, pair), &p))
        return false;
    if (line.p[0] == 'r' && line.n == 2 + pair) {
        l->root = p;
        l->has_root = true;
        return true;
    }
    struct span user = span_skip(line, 2 + pair);
    if (line.p[0] != 'u' || user.n == 0 || user.p[0] != ' ' ||
        span_find_byte(user, 0, 0) >= 0)
        return false;
    put(l, span_skip(user, 1), p);
    l->has_root = false; /* of before */
    return true;
}

static void
read_file(struct level *l)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct error ignored = {0};

    if (env_read_file(l->env, l->path, FILE_MAX, &text, &ignored) != ERR_OK)
        return;
    struct span rest = buf_span(&text);
    for (bool is_head = true; rest.n > 0; is_head = false) {
        ptrdiff_t end = span_find_byte(rest, '\n', 0);
        if (end < 0)
            break;
        struct span line = span_sub(rest, 0, (size_t)end);
        if (is_head ? !span_eq_str(line, l->head) : !take_line(l, line))
            break;
        rest = span_skip(rest, (size_t)end + 1);
        l->end = text.n - rest.n;
    }
}

static void
add_pair(struct buf *out, char kind, struct level_pair p)
{
    buf_addf(out, "%c %016" PRIx64 " %016" PRIx64, kind, p.here, p.there);
}

/* Behind the last good line; what cannot be written is only not known. */
static void
append_pending(struct level *l)
{
    struct error ignored = {0};

    if (l->file == NULL) {
        if (env_open(l->env, l->path, ENV_CREATE, &l->file, &ignored) != ERR_OK)
            goto out;
        if (l->end == 0) {
            struct span head = span_str(l->head);
            AUTO(buf_free) struct buf first = BUF_INIT;
            buf_add(&first, head);
            buf_add_byte(&first, '\n');
            buf_add(&first, buf_span(&l->pending));
            buf_clear(&l->pending);
            buf_add(&l->pending, buf_span(&first));
        }
        if (env_truncate(l->file, l->end, &ignored) != ERR_OK) {
            env_close(&l->file);
            goto out;
        }
    }
    if (env_pwrite(l->file, l->pending.p, l->pending.n, l->end, &ignored) ==
        ERR_OK)
        l->end += l->pending.n;
out:
    buf_clear(&l->pending);
}

/* ---- public ---------------------------------------------------------------
 */

struct level *
level_open(struct env *env, const char *path, const struct level_sides *sides)
{
    struct level *l = xcalloc(1, sizeof(*l));
    const struct instid *ids[] = {&sides->here_cluster, &sides->here_instance,
                                  &sides->there_cluster,
                                  &sides->there_instance};
    AUTO(buf_free) struct buf head = BUF_INIT;
    char hex[2 * INSTANCE_ID_BYTES + 1];

    pthread_mutex_init(&l->lock, NULL);
    l->env = env;
    l->path = xstrdup(path);
    buf_add_str(&head, "pollux-level 1");
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        format_hex_bytes(ids[i]->b, INSTANCE_ID_BYTES, hex);
        buf_addf(&head, " %s", hex);
    }
    l->head = xstrdup(buf_cstr(&head));
    read_file(l);
    return l;
}

bool
level_has(struct level *l, const char *user, struct level_pair p)
{
    pthread_mutex_lock(&l->lock);
    const struct known *k = find(l, span_str(user));
    bool has = k != NULL && k->pair.here == p.here && k->pair.there == p.there;
    pthread_mutex_unlock(&l->lock);
    return has;
}

bool
level_has_root(struct level *l, struct level_pair p)
{
    pthread_mutex_lock(&l->lock);
    bool has =
        l->has_root && l->root.here == p.here && l->root.there == p.there;
    pthread_mutex_unlock(&l->lock);
    return has;
}

void
level_note(struct level *l, const char *user, struct level_pair p)
{
    if (strchr(user, '\n') != NULL)
        return;
    pthread_mutex_lock(&l->lock);
    put(l, span_str(user), p);
    l->has_root = false;
    add_pair(&l->pending, 'u', p);
    buf_addf(&l->pending, " %s\n", user);
    if (l->pending.n >= APPEND_BYTES)
        append_pending(l);
    pthread_mutex_unlock(&l->lock);
}

enum errcode
level_save(struct level *l, const struct level_pair *root, struct error *err)
{
    AUTO(buf_free) struct buf out = BUF_INIT;

    pthread_mutex_lock(&l->lock);
    buf_addf(&out, "%s\n", l->head);
    for (size_t i = 0; i < BUCKETS; i++)
        for (const struct known *k = l->buckets[i]; k != NULL; k = k->next) {
            add_pair(&out, 'u', k->pair);
            buf_addf(&out, " %s\n", k->user);
        }
    if (root != NULL) {
        add_pair(&out, 'r', *root);
        buf_add_byte(&out, '\n');
        l->root = *root;
    }
    l->has_root = root != NULL;
    l->lines = l->users;
    buf_clear(&l->pending);
    env_close(&l->file);
    enum errcode rc =
        env_write_file_atomic(l->env, l->path, buf_span(&out), err);
    if (rc == ERR_OK)
        l->end = out.n;
    pthread_mutex_unlock(&l->lock);
    return rc;
}

bool
level_is_long(struct level *l)
{
    pthread_mutex_lock(&l->lock);
    bool is_long = l->lines > 2 * l->users + LINES_SPARE;
    pthread_mutex_unlock(&l->lock);
    return is_long;
}

void
level_close(struct level **l)
{
    if (*l == NULL)
        return;
    if ((*l)->pending.n > 0)
        append_pending(*l);
    env_close(&(*l)->file);
    buf_free(&(*l)->pending);
    arena_free(&(*l)->arena);
    pthread_mutex_destroy(&(*l)->lock);
    free((*l)->path);
    free((*l)->head);
    free(*l);
    *l = NULL;
}
