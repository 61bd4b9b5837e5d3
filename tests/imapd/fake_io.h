/*
 * tests/imapd/fake_io.h - sessions without sockets and threads: what they post
 * waits in a list, work is done at once, the store (in memory, on a simulated
 * machine) runs its writer when the world is turned.
 *
 * fake_turn() goes on until nothing is left to do; so a test never waits.
 */
#ifndef POLLUX_TESTS_IMAPD_FAKE_IO_H
#define POLLUX_TESTS_IMAPD_FAKE_IO_H

#include <stdio.h>
#include <stdlib.h>

#include "base/env_sim.h"
#include "imapd/session.h"
#include "store/kv_mem.h"

#define FAKE_CLIENTS 4

struct fake_world;

struct fake_client {
    struct fake_world *world;
    struct imap_session *session; /* NULL: none, or ended */
    struct buf in;                /* not used yet */
    struct buf out;
    bool paused;
    bool closed; /* the session asked for it */
    bool tls_asked;
    bool deflate_asked;
    uint64_t timeout_ms;
    size_t full_at; /* output from here on is "full"; 0: never */
};

struct fake_post {
    void (*fn)(void *arg);
    void *arg;
};

struct fake_world {
    struct env_sim *sim;
    struct kv_disk *disk;
    struct store *store;
    struct imapd_options opt;
    struct imap_counters counters;
    struct fake_client clients[FAKE_CLIENTS];
    struct fake_post *posts;
    size_t nposts, cap;
    int holds;
    bool late_work; /* work waits in the list, too */
};

/* ---- struct session_io ------------------------------------------------- */

static void
fake_write(void *ctx, struct span bytes)
{
    struct fake_client *c = ctx;
    buf_add(&c->out, bytes);
}

static bool
fake_is_full(void *ctx)
{
    struct fake_client *c = ctx;
    return c->full_at > 0 && c->out.n >= c->full_at;
}

static void
fake_resume(void *ctx)
{
    ((struct fake_client *)ctx)->paused = false;
}

static void
fake_pause(void *ctx)
{
    ((struct fake_client *)ctx)->paused = true;
}

static void
fake_close(void *ctx)
{
    ((struct fake_client *)ctx)->closed = true;
}

static void
fake_start_tls(void *ctx)
{
    ((struct fake_client *)ctx)->tls_asked = true;
}

static void
fake_start_deflate(void *ctx)
{
    ((struct fake_client *)ctx)->deflate_asked = true;
}

static void
fake_end_deflate(void *ctx)
{
    ((struct fake_client *)ctx)->deflate_asked = false;
}

static void
fake_set_timeout(void *ctx, uint64_t ms)
{
    ((struct fake_client *)ctx)->timeout_ms = ms;
}

static void
fake_post(void *ctx, void (*fn)(void *arg), void *arg)
{
    struct fake_world *w = ((struct fake_client *)ctx)->world;

    if (w->nposts == w->cap) {
        w->cap = w->cap == 0 ? 16 : w->cap * 2;
        w->posts = xrealloc(w->posts, w->cap * sizeof(w->posts[0]));
    }
    w->posts[w->nposts++] = (struct fake_post){fn, arg};
}

static void
fake_hold(void *ctx)
{
    ((struct fake_client *)ctx)->world->holds++;
}

static void
fake_release(void *ctx)
{
    ((struct fake_client *)ctx)->world->holds--;
}

struct fake_late {
    void (*work)(void *arg);
    void (*done)(void *arg);
    void *arg;
};

static void
fake_do_late(void *arg)
{
    struct fake_late late = *(struct fake_late *)arg;

    free(arg);
    late.work(late.arg);
    late.done(late.arg);
}

static void
fake_work(void *ctx, void (*work)(void *arg), void (*done)(void *arg),
          void *arg)
{
    if (((struct fake_client *)ctx)->world->late_work) {
        struct fake_late *late = xmalloc(sizeof(*late));
        *late = (struct fake_late){work, done, arg};
        fake_post(ctx, fake_do_late, late);
        return;
    }
    work(arg);
    fake_post(ctx, done, arg);
}

static void
fake_ended(void *ctx)
{
    ((struct fake_client *)ctx)->session = NULL;
}

static const struct session_io fake_io = {
    .write = fake_write,
    .is_full = fake_is_full,
    .resume = fake_resume,
    .pause = fake_pause,
    .close = fake_close,
    .start_tls = fake_start_tls,
    .start_deflate = fake_start_deflate,
    .end_deflate = fake_end_deflate,
    .set_timeout = fake_set_timeout,
    .post = fake_post,
    .hold = fake_hold,
    .release = fake_release,
    .work = fake_work,
    .ended = fake_ended,
};

/* ---- turning ----------------------------------------------------------- */

static inline bool
fake_input(struct fake_client *c)
{
    if (c->session == NULL || c->paused || c->in.n == 0)
        return false;
    size_t used = imap_session_input(c->session, buf_span(&c->in));
    ENSURE(used <= c->in.n);
    buf_drop(&c->in, used);
    return used > 0;
}

/* Until nothing is left to do. */
static inline void
fake_turn(struct fake_world *w)
{
    for (bool busy = true; busy;) {
        busy = w->store != NULL && store_step(w->store);
        struct fake_post *posts = w->posts;
        size_t n = w->nposts;
        w->posts = NULL;
        w->nposts = w->cap = 0;
        for (size_t i = 0; i < n; i++) {
            posts[i].fn(posts[i].arg);
            busy = true;
        }
        free(posts);
        for (size_t i = 0; i < FAKE_CLIENTS; i++)
            busy |= fake_input(&w->clients[i]);
    }
}

/* ---- clients ----------------------------------------------------------- */

static inline struct fake_client *
fake_connect(struct fake_world *w, size_t i)
{
    static const struct session_peer peer = {.local_name = "127.0.0.1:143",
                                             .peer_name = "127.0.0.1:4711"};
    struct fake_client *c = &w->clients[i];

    ENSURE(c->session == NULL);
    buf_free(&c->in);
    buf_free(&c->out);
    *c = (struct fake_client){.world = w};
    c->session = imap_session_new(&w->opt, &fake_io, c, &w->counters, &peer);
    imap_session_start(c->session);
    return c;
}

static inline void
fake_hang_up(struct fake_client *c)
{
    if (c->session != NULL)
        imap_session_gone(c->session);
    fake_turn(c->world);
    ENSURE(c->session == NULL);
}

/* ---- the world --------------------------------------------------------- */

/* Everybody's password is "secret". */
static bool
fake_check(void *ctx, struct span user, struct span password)
{
    (void)ctx;
    (void)user;
    return span_eq_str(password, "secret");
}

/* An empty store that waits for a master. */
static inline void
fake_open_replica(struct fake_world *w)
{
    static const char *const admins[] = {"cyrus", NULL};
    struct error err = {0};
    struct store_opened found;
    const struct env_sim_options options = {
        .seed = 1, .wall_us = UINT64_C(1780000000000000)};

    *w = (struct fake_world){.sim = env_sim_new(&options),
                             .disk = kv_disk_new()};
    struct env *env = env_sim_env(w->sim);
    ENSURE(env_mkdirs(env, "/pollux", &err) == ERR_OK);
    const struct store_hooks hooks = {0};
    const struct store_config cfg = {
        .dir = "/pollux",
        .pack_dir = "/pollux/pack",
        .fence_path = "/pollux/fence",
        .segment_bytes = 1U << 20,
        .kv = kv_open_mem_on(w->disk),
        .no_threads = true,
        .cluster = {{1}},
        .instance = {{2}},
    };
    if (store_open(env, &cfg, &hooks, &w->store, &found, &err) != ERR_OK) {
        fprintf(stderr, "store_open: %s\n", err.text);
        abort();
    }
    w->opt = (struct imapd_options){
        .env = env,
        .store = &w->store,
        .servername = "imap.example",
        .ns = {.sep = '/',
               .user_prefix = "Other Users",
               .shared_prefix = "Shared Folders"},
        .admins = admins,
        .allow_plain = true,
        .user_tolower = true,
        .delete_delayed = true,
        .deleted_prefix = "DELETED",
        .default_acl = "anyone\tlrs\t",
        .partition = "default",
        .autocreate = {.on_login = true, .partition = "default"},
        .login_timeout_ms = 1000,
        .idle_timeout_ms = 2000,
        .idle_cmd_timeout_ms = 3000,
        .progress_ms = 10000,
        .message_bytes_max = 100000,
        .command_bytes_max = 20000,
        .line_bytes_max = 8000,
        .swallow_bytes_max = 200000,
        .bad_commands_max = 3,
        .check_password = fake_check,
    };
    for (size_t i = 0; i < FAKE_CLIENTS; i++)
        w->clients[i].world = w;
}

/* An empty store that is its own master. */
static inline void
fake_open(struct fake_world *w)
{
    struct error err = {0};

    fake_open_replica(w);
    store_set_role(w->store, ROLE_MASTER, 1);
    ENSURE(store_begin_epoch(w->store, 1, 0, "first start", &err) == ERR_OK);
}

static inline void
fake_close_world(struct fake_world *w)
{
    for (size_t i = 0; i < FAKE_CLIENTS; i++) {
        fake_hang_up(&w->clients[i]);
        buf_free(&w->clients[i].in);
        buf_free(&w->clients[i].out);
    }
    ENSURE(w->holds == 0);
    free(w->posts);
    store_close(&w->store);
    kv_disk_free(&w->disk);
    env_sim_free(&w->sim);
}

#endif
