/*
 * store/kv_mem.c - kv.h in memory, as persistent treaps.
 *
 * A node is never changed while more than one root can reach it: an update
 * copies the nodes on its path that are shared and changes those that are its
 * own.  So a snapshot, an iterator, the flushed image and each state since then
 * are one reference to a root, and readers walk without a lock once they have
 * it.  Priorities come from a hash of the key: the shape depends on the keys
 * alone, and a simulation runs the same way every time.
 *
 * Reference counts are atomic; KV's lock guards only which roots are current.
 *
 * The disk keeps the roots of the last flush and up to HISTORY_MAX states since
 * (when there are more, every second one is forgotten), which is what a crash
 * picks from.
 */
#include "store/kv_mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/kv_private.h"

#define HISTORY_MAX 1024U

struct value {
    _Atomic uint32_t refs;
    size_t n;
    uint8_t bytes[];
};

struct node {
    _Atomic uint32_t refs;
    uint64_t priority;
    struct node *left;
    struct node *right;
    struct value *value;
    size_t key_bytes;
    uint8_t key[];
};

struct roots {
    struct node *of[KV_FAMILIES];
};

struct kv_disk {
    struct roots image;
    struct kv_mem *open; /* NULL: nothing is open, or the power was cut */
};

struct kv_mem {
    struct kv kv;
    pthread_mutex_t lock;
    struct roots now;
    struct roots history[HISTORY_MAX]; /* after writes since the flush */
    size_t nhistory;
    struct kv_disk *disk;
    bool owns_disk;
    bool is_cut;
    enum errcode failing;
};

struct kv_snap {
    struct roots roots;
};

struct mem_iter {
    struct kv_iter it;
    struct node *root;
    struct buf prefix;
    const struct node **path; /* still to be given, the next one on top */
    size_t npath;
    size_t cap;
};

static struct span
node_key(const struct node *n)
{
    return span_of(n->key, n->key_bytes);
}

static struct value *
value_new(struct span s)
{
    struct value *v = xmalloc(sizeof(*v) + s.n);

    atomic_init(&v->refs, 1);
    v->n = s.n;
    if (s.n > 0)
        memcpy(v->bytes, s.p, s.n);
    return v;
}

static struct value *
value_ref(struct value *v)
{
    atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
    return v;
}

static void
value_drop(struct value *v)
{
    if (atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) == 1)
        free(v);
}

static struct node *
node_ref(struct node *n)
{
    if (n != NULL)
        atomic_fetch_add_explicit(&n->refs, 1, memory_order_relaxed);
    return n;
}

static void
node_drop(struct node *n)
{
    while (n != NULL &&
           atomic_fetch_sub_explicit(&n->refs, 1, memory_order_acq_rel) == 1) {
        struct node *right = n->right;
        node_drop(n->left);
        value_drop(n->value);
        free(n);
        n = right;
    }
}

/* Takes LEFT and RIGHT; VALUE gets a reference. */
static struct node *
node_new(struct span key, uint64_t priority, struct value *value,
         struct node *left, struct node *right)
{
    struct node *n = xmalloc(sizeof(*n) + key.n);

    atomic_init(&n->refs, 1);
    n->priority = priority;
    n->value = value_ref(value);
    n->left = left;
    n->right = right;
    n->key_bytes = key.n;
    if (key.n > 0)
        memcpy(n->key, key.p, key.n);
    return n;
}

/* Take a reference to N, give one to a node of the same content that nobody
 * else can reach. */
static struct node *
node_own(struct node *n)
{
    if (atomic_load_explicit(&n->refs, memory_order_acquire) == 1)
        return n;
    struct node *copy = node_new(node_key(n), n->priority, n->value,
                                 node_ref(n->left), node_ref(n->right));
    node_drop(n);
    return copy;
}

/* Take A and B, all keys of A below those of B. */
static struct node *
join(struct node *a, struct node *b)
{
    if (a == NULL)
        return b;
    if (b == NULL)
        return a;
    if (a->priority >= b->priority) {
        a = node_own(a);
        a->right = join(a->right, b);
        return a;
    }
    b = node_own(b);
    b->left = join(a, b->left);
    return b;
}

/* Take N; what is below KEY to *RET_LEFT, what is above to *RET_RIGHT.  KEY
 * itself must not be in it. */
static void
split(struct node *n, struct span key, struct node **ret_left,
      struct node **ret_right)
{
    if (n == NULL) {
        *ret_left = NULL;
        *ret_right = NULL;
        return;
    }
    n = node_own(n);
    if (span_cmp(node_key(n), key) < 0) {
        split(n->right, key, &n->right, ret_right);
        *ret_left = n;
    } else {
        split(n->left, key, ret_left, &n->left);
        *ret_right = n;
    }
}

static const struct node *
find(const struct node *n, struct span key)
{
    while (n != NULL) {
        int order = span_cmp(key, node_key(n));
        if (order == 0)
            return n;
        n = order < 0 ? n->left : n->right;
    }
    return NULL;
}

/* Take N, give the tree with KEY in it, which was not. */
static struct node *
insert(struct node *n, struct span key, uint64_t priority, struct value *value)
{
    if (n == NULL || n->priority < priority) {
        struct node *left;
        struct node *right;
        split(n, key, &left, &right);
        return node_new(key, priority, value, left, right);
    }
    n = node_own(n);
    if (span_cmp(key, node_key(n)) < 0)
        n->left = insert(n->left, key, priority, value);
    else
        n->right = insert(n->right, key, priority, value);
    return n;
}

/* Take N, give the tree in which KEY, which is there, has VALUE. */
static struct node *
replace(struct node *n, struct span key, struct value *value)
{
    int order = span_cmp(key, node_key(n));

    n = node_own(n);
    if (order < 0) {
        n->left = replace(n->left, key, value);
    } else if (order > 0) {
        n->right = replace(n->right, key, value);
    } else {
        value_drop(n->value);
        n->value = value_ref(value);
    }
    return n;
}

/* Take N, give the tree without KEY, which is there. */
static struct node *
take_out(struct node *n, struct span key)
{
    int order = span_cmp(key, node_key(n));

    if (order == 0) {
        struct node *rest = join(node_ref(n->left), node_ref(n->right));
        node_drop(n);
        return rest;
    }
    n = node_own(n);
    if (order < 0)
        n->left = take_out(n->left, key);
    else
        n->right = take_out(n->right, key);
    return n;
}

static void
apply_op(struct node **root, const struct kv_batch *b, const struct kv_op *op)
{
    struct span key = kv_op_key(b, op);
    bool is_there = find(*root, key) != NULL;

    if (op->is_put) {
        struct value *v = value_new(kv_op_value(b, op));
        *root = is_there ? replace(*root, key, v)
                         : insert(*root, key, XXH3_64bits(key.p, key.n), v);
        value_drop(v);
    } else if (is_there) {
        *root = take_out(*root, key);
    }
}

static struct roots
roots_ref(const struct roots *r)
{
    struct roots copy;

    for (size_t f = 0; f < KV_FAMILIES; f++)
        copy.of[f] = node_ref(r->of[f]);
    return copy;
}

static void
roots_drop(struct roots *r)
{
    for (size_t f = 0; f < KV_FAMILIES; f++) {
        node_drop(r->of[f]);
        r->of[f] = NULL;
    }
}

static void
history_add(struct kv_mem *m)
{
    if (m->nhistory == HISTORY_MAX) {
        for (size_t i = 0; i < HISTORY_MAX; i += 2) {
            roots_drop(&m->history[i]);
            m->history[i / 2] = m->history[i + 1];
        }
        m->nhistory = HISTORY_MAX / 2;
    }
    m->history[m->nhistory++] = roots_ref(&m->now);
}

static void
history_drop(struct kv_mem *m)
{
    for (size_t i = 0; i < m->nhistory; i++)
        roots_drop(&m->history[i]);
    m->nhistory = 0;
}

/* Lock is held.  The state of the disk becomes what a crash leaves. */
static void
crash(struct kv_mem *m, uint64_t seed)
{
    for (size_t f = 0; f < KV_FAMILIES && seed != 0; f++) {
        uint64_t pick = XXH3_64bits_withSeed(&f, sizeof(f), seed);
        size_t writes = (size_t)(pick % (m->nhistory + 1));
        if (writes == 0)
            continue;
        node_drop(m->disk->image.of[f]);
        m->disk->image.of[f] = node_ref(m->history[writes - 1].of[f]);
    }
    history_drop(m);
}

/* Lock is held. */
static enum errcode
check_fit(const struct kv_mem *m, struct error *err)
{
    if (m->is_cut)
        return error_set(err, ERR_IO, "memory database: the power is off");
    if (m->failing != ERR_OK)
        return error_set(err, m->failing, "memory database: told to fail");
    return ERR_OK;
}

static void
mem_close(struct kv *kv)
{
    struct kv_mem *m = (struct kv_mem *)kv;

    history_drop(m);
    roots_drop(&m->now);
    if (m->disk->open == m)
        m->disk->open = NULL;
    if (m->owns_disk)
        kv_disk_free(&m->disk);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static enum errcode
mem_write(struct kv *kv, struct kv_batch *b, struct error *err)
{
    struct kv_mem *m = (struct kv_mem *)kv;
    size_t n;
    const struct kv_op *ops = kv_batch_ops(b, &n);

    pthread_mutex_lock(&m->lock);
    enum errcode rc = check_fit(m, err);
    if (rc == ERR_OK) {
        for (size_t i = 0; i < n; i++)
            apply_op(&m->now.of[ops[i].family], b, &ops[i]);
        history_add(m);
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

/* A reference to the root that SNAP, or now, has for F. */
static struct node *
root_of(struct kv_mem *m, const struct kv_snap *snap, enum kv_family f)
{
    if (snap != NULL)
        return node_ref(snap->roots.of[f]);
    pthread_mutex_lock(&m->lock);
    struct node *root = node_ref(m->now.of[f]);
    pthread_mutex_unlock(&m->lock);
    return root;
}

static enum errcode
mem_get(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
        struct span key, struct buf *ret, struct error *err)
{
    struct node *root = root_of((struct kv_mem *)kv, snap, f);
    const struct node *n = find(root, key);

    if (n != NULL)
        buf_add(ret, span_of(n->value->bytes, n->value->n));
    node_drop(root);
    return n != NULL ? ERR_OK : error_set(err, ERR_NOTFOUND, "no such key");
}

static struct kv_snap *
mem_snapshot(struct kv *kv)
{
    struct kv_mem *m = (struct kv_mem *)kv;
    struct kv_snap *snap = xmalloc(sizeof(*snap));

    pthread_mutex_lock(&m->lock);
    snap->roots = roots_ref(&m->now);
    pthread_mutex_unlock(&m->lock);
    return snap;
}

static void
mem_release(struct kv *kv, struct kv_snap *snap)
{
    (void)kv;
    roots_drop(&snap->roots);
    free(snap);
}

static void
path_push(struct mem_iter *it, const struct node *n)
{
    if (it->npath == it->cap) {
        it->cap = it->cap * 2 + 32;
        it->path = xrealloc(it->path, it->cap * sizeof(const struct node *));
    }
    it->path[it->npath++] = n;
}

static void
mem_iter_seek(struct kv_iter *kvit, struct span key)
{
    struct mem_iter *it = (struct mem_iter *)kvit;
    const struct node *n = it->root;

    if (span_cmp(key, buf_span(&it->prefix)) < 0)
        key = buf_span(&it->prefix);
    it->npath = 0;
    while (n != NULL) {
        if (span_cmp(node_key(n), key) < 0) {
            n = n->right;
        } else {
            path_push(it, n);
            n = n->left;
        }
    }
}

static struct kv_iter *
mem_iter_open(struct kv *kv, const struct kv_snap *snap, enum kv_family f,
              struct span prefix, struct span from)
{
    struct mem_iter *it = xcalloc(1, sizeof(*it));

    it->it.ops = kv->ops;
    it->root = root_of((struct kv_mem *)kv, snap, f);
    buf_add(&it->prefix, prefix);
    mem_iter_seek(&it->it, from);
    return &it->it;
}

static bool
mem_iter_next(struct kv_iter *kvit, struct span *ret_key,
              struct span *ret_value)
{
    struct mem_iter *it = (struct mem_iter *)kvit;

    if (it->npath == 0)
        return false;
    const struct node *n = it->path[--it->npath];
    for (const struct node *c = n->right; c != NULL; c = c->left)
        path_push(it, c);
    if (!span_starts(node_key(n), buf_span(&it->prefix))) {
        it->npath = 0;
        return false;
    }
    *ret_key = node_key(n);
    *ret_value = span_of(n->value->bytes, n->value->n);
    return true;
}

static enum errcode
mem_iter_close(struct kv_iter *kvit, struct error *err)
{
    struct mem_iter *it = (struct mem_iter *)kvit;

    (void)err;
    node_drop(it->root);
    buf_free(&it->prefix);
    free(it->path);
    free(it);
    return ERR_OK;
}

static enum errcode
mem_flush(struct kv *kv, struct error *err)
{
    struct kv_mem *m = (struct kv_mem *)kv;

    pthread_mutex_lock(&m->lock);
    enum errcode rc = check_fit(m, err);
    if (rc == ERR_OK) {
        roots_drop(&m->disk->image);
        m->disk->image = roots_ref(&m->now);
        history_drop(m);
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

static enum errcode
mem_health(struct kv *kv, struct error *err)
{
    struct kv_mem *m = (struct kv_mem *)kv;

    pthread_mutex_lock(&m->lock);
    enum errcode rc = check_fit(m, err);
    pthread_mutex_unlock(&m->lock);
    return rc;
}

static uint64_t
count(const struct node *n)
{
    return n == NULL ? 0 : 1 + count(n->left) + count(n->right);
}

static uint64_t
mem_property(struct kv *kv, const char *name)
{
    if (strcmp(name, "rocksdb.estimate-num-keys") != 0)
        return 0;
    struct node *root = root_of((struct kv_mem *)kv, NULL, KV_STATE);
    uint64_t n = count(root);
    node_drop(root);
    return n;
}

static const struct kv_ops mem_ops = {
    .close = mem_close,
    .write = mem_write,
    .get = mem_get,
    .snapshot = mem_snapshot,
    .release = mem_release,
    .iter_open = mem_iter_open,
    .iter_next = mem_iter_next,
    .iter_seek = mem_iter_seek,
    .iter_close = mem_iter_close,
    .flush = mem_flush,
    .health = mem_health,
    .property = mem_property,
};

struct kv_disk *
kv_disk_new(void)
{
    return xcalloc(1, sizeof(struct kv_disk));
}

void
kv_disk_free(struct kv_disk **disk)
{
    if (*disk == NULL)
        return;
    ENSURE((*disk)->open == NULL);
    roots_drop(&(*disk)->image);
    free(*disk);
    *disk = NULL;
}

struct kv *
kv_open_mem_on(struct kv_disk *disk)
{
    struct kv_mem *m = xcalloc(1, sizeof(*m));

    ENSURE(disk->open == NULL);
    m->kv.ops = &mem_ops;
    pthread_mutex_init(&m->lock, NULL);
    m->disk = disk;
    m->now = roots_ref(&disk->image);
    disk->open = m;
    return &m->kv;
}

struct kv *
kv_open_mem(void)
{
    struct kv *kv = kv_open_mem_on(kv_disk_new());

    ((struct kv_mem *)kv)->owns_disk = true;
    return kv;
}

void
kv_disk_cut(struct kv_disk *disk, uint64_t seed)
{
    struct kv_mem *m = disk->open;

    if (m == NULL)
        return;
    pthread_mutex_lock(&m->lock);
    crash(m, seed);
    m->is_cut = true;
    disk->open = NULL;
    pthread_mutex_unlock(&m->lock);
}

void
kv_mem_crash(struct kv *kv, uint64_t seed)
{
    struct kv_mem *m = (struct kv_mem *)kv;

    pthread_mutex_lock(&m->lock);
    crash(m, seed);
    roots_drop(&m->now);
    m->now = roots_ref(&m->disk->image);
    pthread_mutex_unlock(&m->lock);
}

void
kv_mem_fail(struct kv *kv, enum errcode code)
{
    struct kv_mem *m = (struct kv_mem *)kv;

    pthread_mutex_lock(&m->lock);
    m->failing = code;
    pthread_mutex_unlock(&m->lock);
}
