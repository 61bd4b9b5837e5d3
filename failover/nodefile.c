/*
 * failover/nodefile.c - writing and reading DIR/node.
 *
 * Every key must be there once, in order, and the check must fit: a file that
 * was changed by hand or torn is not believed, since a wrong role is worse than
 * none.
 */
#include "failover/nodefile.h"

#include <stdio.h>
#include <xxhash.h>

static const char *const role_words[] = {
    [ROLE_REPLICA] = "replica",
    [ROLE_MASTER] = "master",
    [ROLE_FENCED] = "fenced",
};

static void
add_id(struct buf *out, const char *key, const struct instid *id)
{
    char text[2 * INSTANCE_ID_BYTES + 1];

    format_hex_bytes(id->b, INSTANCE_ID_BYTES, text);
    buf_addf(out, "%s: %s\n", key, text);
}

void
nodefile_encode(const struct nodefile *n, struct buf *out)
{
    size_t from = out->n;

    buf_addf(out, "version: %u\n", NODEFILE_VERSION);
    add_id(out, "cluster", &n->cluster);
    add_id(out, "instance", &n->instance);
    buf_addf(out, "role: %s\n", role_words[n->role]);
    buf_addf(out, "epoch: %" PRI_EPOCH "\n", n->epoch);
    buf_addf(out, "uid_headroom: %" PRIu32 "\n", n->uid_headroom);
    buf_addf(out, "fork_lsn: %" PRI_LSN "\n", n->fork_lsn);
    buf_addf(out, "fork_chain: %016" PRIx64 "\n", n->fork_chain);
    buf_addf(out, "seed_wanted: %d\n", n->seed_wanted);
    buf_add_str(out, "why: ");
    for (const char *c = n->why; *c != '\0'; c++)
        buf_add_byte(out, (uint8_t)*c < ' ' ? (uint8_t)' ' : (uint8_t)*c);
    buf_add_byte(out, '\n');
    uint64_t check = XXH3_64bits(out->p + from, out->n - from);
    buf_addf(out, "check: %016" PRIx64 "\n", check);
}

struct lines {
    struct span left;
    const char *wrong; /* the first key that was */
};

/* The value of the next line, which has to be KEY's. */
static struct span
value_of(struct lines *l, const char *key)
{
    ptrdiff_t end = span_find_byte(l->left, '\n', 0);
    struct span line = end < 0 ? SPAN_EMPTY : span_sub(l->left, 0, (size_t)end);
    size_t n = strlen(key);

    if (end < 0 || !span_starts(line, span_str(key)) || line.n < n + 2 ||
        line.p[n] != ':' || line.p[n + 1] != ' ') {
        l->wrong = l->wrong == NULL ? key : l->wrong;
        return SPAN_EMPTY;
    }
    l->left = span_skip(l->left, (size_t)end + 1);
    return span_skip(line, n + 2);
}

static uint64_t
number(struct lines *l, const char *key, uint64_t max)
{
    uint64_t v = 0;

    if (!parse_u64(value_of(l, key), &v) || v > max) {
        l->wrong = l->wrong == NULL ? key : l->wrong;
        return 0;
    }
    return v;
}

static uint64_t
hex(struct lines *l, const char *key)
{
    uint64_t v = 0;
    struct span text = value_of(l, key);

    if (text.n != 16 || !parse_hex_u64(text, &v))
        l->wrong = l->wrong == NULL ? key : l->wrong;
    return v;
}

static struct instid
id(struct lines *l, const char *key)
{
    struct instid i = {0};

    if (!parse_hex_bytes(value_of(l, key), i.b, INSTANCE_ID_BYTES))
        l->wrong = l->wrong == NULL ? key : l->wrong;
    return i;
}

static enum role
role(struct lines *l)
{
    struct span text = value_of(l, "role");

    for (size_t i = 0; i < ARRAY_LEN(role_words); i++)
        if (span_eq_str(text, role_words[i]))
            return (enum role)i;
    l->wrong = l->wrong == NULL ? "role" : l->wrong;
    return ROLE_FENCED;
}

enum errcode
nodefile_decode(struct span in, struct nodefile *ret, struct error *err)
{
    struct lines l = {.left = in};
    struct nodefile n = {0};

    uint64_t version = number(&l, "version", UINT32_MAX);
    if (l.wrong == NULL && version > NODEFILE_VERSION)
        return error_set(err, ERR_VERSION,
                         "written by a newer Pollux (format %" PRIu64
                         ", this one knows %u)",
                         version, NODEFILE_VERSION);
    n.cluster = id(&l, "cluster");
    n.instance = id(&l, "instance");
    n.role = role(&l);
    n.epoch = (epoch_t)number(&l, "epoch", EPOCH_MAX);
    n.uid_headroom = (uint32_t)number(&l, "uid_headroom", UINT32_MAX);
    n.fork_lsn = number(&l, "fork_lsn", UINT64_MAX);
    n.fork_chain = hex(&l, "fork_chain");
    n.seed_wanted = number(&l, "seed_wanted", 1) != 0;
    struct span why = value_of(&l, "why");
    size_t covered = (size_t)(in.n - l.left.n);
    uint64_t check = hex(&l, "check");
    if (l.wrong == NULL && why.n >= sizeof(n.why))
        l.wrong = "why";
    if (l.wrong == NULL && l.left.n > 0)
        l.wrong = "end";
    if (l.wrong == NULL && check != XXH3_64bits(in.p, covered))
        l.wrong = "check";
    if (l.wrong != NULL)
        return error_set(err, ERR_CORRUPT, "line \"%s\" is not as written",
                         l.wrong);
    if (why.n > 0)
        memcpy(n.why, why.p, why.n);
    *ret = n;
    return ERR_OK;
}

enum errcode
nodefile_read(struct env *env, const char *path, struct nodefile *ret,
              struct error *err)
{
    AUTO(buf_free) struct buf content = BUF_INIT;

    enum errcode rc =
        env_read_file(env, path, NODEFILE_BYTES_MAX, &content, err);
    if (rc != ERR_OK)
        return rc;
    rc = nodefile_decode(buf_span(&content), ret, err);
    if (rc != ERR_OK)
        return error_prefix(err, "%s", path);
    return ERR_OK;
}

enum errcode
nodefile_write(struct env *env, const char *path, const struct nodefile *n,
               struct error *err)
{
    AUTO(buf_free) struct buf content = BUF_INIT;

    nodefile_encode(n, &content);
    return env_write_file_atomic(env, path, buf_span(&content), err);
}
