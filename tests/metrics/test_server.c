/*
 * tests/metrics/test_server.c - metrics/metrics.c and sample.c with a real node
 * in this process: who looks, from several threads, while the node is promoted,
 * fenced and closed for a rejoin; what is said is of the moment, and nobody
 * waits for ever.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "failover/node.h"
#include "metrics/metrics.h"
#include "tests/lib/tmpdir.h"

struct world {
    char dir[200];
    char fence[220];
    struct config *cfg;
    struct node *node;
    struct csync_instance instance;
    struct arena arena;
    struct metrics *metrics;
    uint16_t port;
    atomic_bool serving;
    atomic_bool over;
    atomic_uint answers;
};

static struct command_tally tallies[1];

static const char *
command_name(size_t i)
{
    (void)i;
    return "FETCH";
}

static size_t
services(void *ctx, struct metrics_service *ret, size_t max)
{
    (void)ctx;
    assert_true(max >= 1);
    ret[0] = (struct metrics_service){
        .name = "imap", .protocol = "imap", .conns = 3};
    return 1;
}

static void
look_at_index(void *ctx, struct metrics_index *ret)
{
    (void)ctx;
    *ret = (struct metrics_index){.is_wanted = true, .left = 17};
}

static bool
is_serving(void *ctx)
{
    return atomic_load(&((struct world *)ctx)->serving);
}

static uint64_t
heartbeat_ms(void *ctx)
{
    (void)ctx;
    return 7;
}

/* The answer to a GET of PATH, in BUF. */
static void
get(const struct world *w, const char *path, struct buf *buf)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(w->port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char part[4096];
    ssize_t n;

    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    AUTO(xfree) char *ask = xasprintf("GET %s HTTP/1.0\r\n\r\n", path);
    assert_int_equal(write(fd, ask, strlen(ask)), (ssize_t)strlen(ask));
    buf_clear(buf);
    while ((n = read(fd, part, sizeof(part))) > 0)
        buf_add(buf, span_of(part, (size_t)n));
    close(fd);
}

static void
expect(const struct world *w, const char *path, const char *text)
{
    AUTO(buf_free) struct buf buf = BUF_INIT;

    get(w, path, &buf);
    if (strstr(buf_cstr(&buf), text) == NULL)
        fail_msg("%s: no \"%s\" in %.400s", path, text, buf_cstr(&buf));
}

static void
verb(struct world *w, const char *name)
{
    AUTO(buf_free) struct buf out = BUF_INIT;
    struct error err = {0};
    const struct dlist none = {0};

    if (w->instance.node(w->instance.ctx, span_str(name), &none, &out, &err) !=
        ERR_OK)
        fail_msg("%s: %s", name, err.text);
}

static int
setup(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    struct error err = {0};
    struct store_opened found;
    struct node_hooks hooks = {0};
    struct listen_spec spec;
    static const struct metrics_protocol protocol = {
        .name = "imap",
        .ncommands = 1,
        .command = command_name,
        .commands = tallies,
    };

    snprintf(w->dir, sizeof(w->dir), "%s/pollux-metrics-XXXXXX",
             getenv("TMPDIR") == NULL ? "/tmp" : getenv("TMPDIR"));
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->fence, sizeof(w->fence), "%s/shutdown", w->dir);
    AUTO(xfree) char *text = xasprintf("configdirectory: %s\n", w->dir);
    assert_int_equal(config_parse(span_str(text), "test", &w->cfg, &err),
                     ERR_OK);
    const struct node_config nc = {
        .store = {.dir = w->dir,
                  .pack_dir = w->dir,
                  .fence_path = w->fence,
                  .segment_bytes = 16U << 20,
                  .cache_bytes = 8U << 20},
        .servername = "test.example",
        .has_twin = true,
        .uid_headroom = 1000,
        .swap_hold_ms = 2000,
        .swap_max_lag = 10,
    };
    if (node_open(env_system(), &nc, &hooks, &w->node, &found, &err) != ERR_OK)
        fail_msg("%s", err.text);
    node_csync_instance(w->node, &w->instance);
    const struct metrics_host host = {
        .env = env_system(),
        .cfg = w->cfg,
        .dir = w->dir,
        .node = w->node,
        .protocols = &protocol,
        .nprotocols = 1,
        .ctx = w,
        .services = services,
        .index = look_at_index,
        .is_serving = is_serving,
        .heartbeat_ms = heartbeat_ms,
    };
    assert_int_equal(metrics_listen_parse("0", &spec, &err), ERR_OK);
    if (metrics_start(&host, &spec, &w->metrics, &err) != ERR_OK)
        fail_msg("%s", err.text);
    uint32_t port = 0;
    const char *colon = strrchr(metrics_address(w->metrics), ':');
    assert_true(parse_u32(span_str(colon + 1), &port));
    w->port = (uint16_t)port;
    atomic_store(&w->serving, true);
    *state = w;
    return 0;
}

static int
teardown(void **state)
{
    struct world *w = *state;

    metrics_stop(&w->metrics);
    node_close(&w->node);
    config_free(&w->cfg);
    arena_free(&w->arena);
    remove_tree(w->dir);
    free(w);
    return 0;
}

static void
test_what_is_said_is_of_the_moment(void **state)
{
    struct world *w = *state;

    expect(w, "/health/live", "200 OK");
    expect(w, "/health/ready", "200 OK");
    expect(w, "/health/master", "role replica");
    verb(w, "PROMOTE");
    expect(w, "/health/master", "200 OK");
    expect(w, "/metrics", "pollux_role{role=\"master\"} 1\n");
    expect(w, "/metrics", "pollux_epoch 1\n");
    expect(w, "/metrics", "pollux_durable_lsn 1\n");
    expect(w, "/metrics", "pollux_commits_total 1\n");
    expect(w, "/metrics",
           "pollux_sessions{service=\"imap\",protocol=\"imap\"} "
           "3\n");
    expect(w, "/metrics", "pollux_heartbeat_age_seconds 0.007000\n");
    command_tally_add(&tallies[0], 3000000, 1);
    expect(w, "/metrics",
           "pollux_command_seconds_bucket{protocol=\"imap\",command=\"FETCH\","
           "le=\"0.004096\"} 1\n");
    expect(w, "/metrics",
           "pollux_commands_failed_total{protocol=\"imap\",command=\"FETCH\"} "
           "1\n");
    expect(w, "/status.json", "\"role\":\"master\"");
    verb(w, "FENCE");
    expect(w, "/health/master", "the fence is up");
    verb(w, "UNFENCE");
    expect(w, "/health/master", "200 OK");
    atomic_store(&w->serving, false);
    expect(w, "/health/ready", "503");
    expect(w, "/nothing", "404 Not Found");
    expect(w, "/", "<title>Pollux</title>");
}

static void *
ask_on(void *arg)
{
    struct world *w = arg;
    AUTO(buf_free) struct buf buf = BUF_INIT;
    static const char *const paths[] = {"/metrics", "/status.json",
                                        "/health/master", "/"};

    for (unsigned i = 0; !atomic_load(&w->over); i++) {
        get(w, paths[i % ARRAY_LEN(paths)], &buf);
        /* 503 is an answer, too; none, or half of one, is not. */
        assert_true(span_starts(buf_span(&buf), SPAN_LIT("HTTP/1.1 ")));
        atomic_fetch_add(&w->answers, 1);
    }
    return NULL;
}

static void
test_many_look_while_roles_change(void **state)
{
    struct world *w = *state;
    pthread_t threads[4];

    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_on, w), 0);
    verb(w, "PROMOTE");
    for (int i = 0; i < 5; i++) {
        const unsigned seen = atomic_load(&w->answers);
        verb(w, "FENCE");
        verb(w, "UNFENCE");
        while (atomic_load(&w->answers) < seen + 8)
            usleep(1000);
    }
    atomic_store(&w->over, true);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
}

static void
test_a_store_that_is_exchanged_is_looked_at_again(void **state)
{
    struct world *w = *state;
    pthread_t threads[2];

    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_on, w), 0);
    verb(w, "REJOIN"); /* closes the store, and opens an empty one */
    const unsigned seen = atomic_load(&w->answers);
    while (atomic_load(&w->answers) < seen + 4)
        usleep(1000);
    atomic_store(&w->over, true);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    expect(w, "/health/ready", "waits for a seed");
    expect(w, "/metrics", "pollux_seeding 1\n");
}

static void
test_an_address_that_is_taken_is_an_error(void **state)
{
    struct world *w = *state;
    struct listen_spec spec;
    struct error err = {0};
    struct metrics *second = NULL;
    const struct metrics_host host = {
        .env = env_system(),
        .cfg = w->cfg,
        .dir = w->dir,
        .node = w->node,
        .ctx = w,
        .services = services,
        .index = look_at_index,
        .is_serving = is_serving,
        .heartbeat_ms = heartbeat_ms,
    };
    AUTO(xfree) char *port = xasprintf("%u", w->port);

    assert_int_equal(metrics_listen_parse(port, &spec, &err), ERR_OK);
    assert_int_equal(metrics_start(&host, &spec, &second, &err), ERR_BUSY);
    assert_null(second);
    assert_non_null(strstr(err.text, "metrics_listen"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_said_is_of_the_moment,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_look_while_roles_change,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_store_that_is_exchanged_is_looked_at_again, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_an_address_that_is_taken_is_an_error, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
