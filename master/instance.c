/*
 * master/instance.c - the order in which an instance comes up, lives, and goes.
 *
 *   up    files read -> (background) -> log -> as root: directories, pid file,
 *         ports -> user -> SASL -> store recovered -> twin asked -> control
 *         socket -> START -> services -> DAEMON, EVENTS
 *   down  ports closed -> sessions ended -> children ended -> control socket
 *         closed -> store closed
 *
 * The main thread owns all of it: signals come through a descriptor, and what
 * other threads want (a role has changed, sessions must go for a rejoin) is
 * left for it in `ask` with a wake-up.  So nothing here but `ask` needs a lock.
 *
 * Clients have reactors of their own, apart from those of the control socket:
 * to end every session for certain, their whole pool is stopped, and a new one
 * made for those who come afterwards.
 */
#include "master/instance.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/admin.h"
#include "base/config_check.h"
#include "base/log.h"
#include "failover/node.h"
#include "master/child.h"
#include "master/keepers.h"
#include "master/look.h"
#include "master/notify.h"
#include "master/services.h"
#include "master/user.h"

#define GRACE_MS 1500U     /* for sessions to end */
#define CONTROL_WORKERS 4U /* blocking verbs at a time */
#define TWIN_MS 3000       /* to hear of the twin before serving */
#define DRAIN_POLL_MS 50
#define ROUND_MS 5000U /* of the main thread, at least */

struct instance {
    struct env *env;
    const struct instance_options *o;
    struct config *cfg;
    struct plan *plan; /* of the last good cyrus.conf */
    struct run_user user;
    char servername[256];
    const char *log_path; /* NULL: it is no file */
    char *pid_path;
    int pid_fd;
    int ready_fd; /* the waiting parent of -d; -1 */
    int signal_fd, wake_fd;
    bool sasl_started;
    struct node *node;
    struct store *store; /* of the node, as sessions get it */
    struct keepers *keepers;
    _Atomic int role;
    enum role shown_role; /* that clients were told of */

    struct service_host host;
    struct services *services;
    struct look *look;
    struct reactor_pool *pool;

    struct reactor_pool *control_pool;
    struct listener *control;
    struct csync_server_options control_options;
    struct csync_server *control_server;
    struct admin_host admin; /* what tools ask of */

    struct children *children;
    bool serving;
    bool stopping;

    /* What other threads want. */
    pthread_mutex_t lock;
    pthread_cond_t answered;
    struct {
        bool close;  /* end all sessions */
        bool closed; /* none is left */
        bool reopen;
    } ask;
};

/* ---- saying ------------------------------------------------------------ */

static void
complain(const char *text, bool logged)
{
    fprintf(stderr, "master: %s\n", text);
    if (logged)
        log_error(NULL, "master.failed", "why=\"%s\"", text);
}

static const char *const severity_names[] = {
    [CONFIG_NOTE] = "note",
    [CONFIG_WARNING] = "warning",
    [CONFIG_ERROR] = "error",
};

static void
print_findings(const struct config_finding *f, size_t n, FILE *out)
{
    for (size_t i = 0; i < n; i++)
        fprintf(out, "%s:%u: %s: %s\n", f[i].file, f[i].line,
                severity_names[f[i].severity], f[i].text);
}

static void
log_findings(const struct config_finding *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        enum log_level level = f[i].severity == CONFIG_ERROR ? LOG_LV_ERROR
                               : f[i].severity == CONFIG_WARNING
                                   ? LOG_LV_WARN
                                   : LOG_LV_NOTICE;
        log_line(NULL, level, "config.finding",
                 "file=\"%s\" line=%u text=\"%s\"", f[i].file, f[i].line,
                 f[i].text);
    }
}

/* ---- files ------------------------------------------------------------- */

static char *
exe_dir(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    while (n > 0 && path[n - 1] != '/')
        n--;
    return n <= 1 ? xstrdup("/") : xstrndup(path, (size_t)n - 1);
}

static enum errcode
read_plan(const struct instance_options *o, const struct cyrusconf *conf,
          struct plan **ret, struct error *err)
{
    AUTO(xfree) char *dir = exe_dir();
    struct plan_place place = {
        .imapd_conf = o->imapd_conf,
        .exe_dir = dir,
        .path = getenv("PATH"),
    };

    return plan_make(conf, &place, ret, err);
}

bool
instance_check(struct env *env, const struct instance_options *o, FILE *out)
{
    AUTO(config_free) struct config *cfg = NULL;
    AUTO(cyrusconf_free) struct cyrusconf *conf = NULL;
    AUTO(plan_free) struct plan *plan = NULL;
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct error err = {0};

    bool good = config_read(env, o->imapd_conf, &cfg, &err) == ERR_OK;
    if (cfg == NULL)
        fprintf(out, "%s\n", err.text);
    bool conf_good = cyrusconf_read(env, o->cyrus_conf, &conf, &err) == ERR_OK;
    if (conf == NULL)
        fprintf(out, "%s\n", err.text);
    if (conf_good && read_plan(o, conf, &plan, &err) != ERR_OK)
        good = false;
    if (plan != NULL)
        print_findings(plan->findings, plan->nfindings, out);
    if (!config_check_print(cfg, conf, &text))
        good = false;
    fprintf(out, "%.*s", SPAN_FMT(buf_span(&text)));
    return good && conf_good;
}

/* Both files, for a start; what is wrong is on stderr. */
static bool
read_files(struct instance *in)
{
    AUTO(cyrusconf_free) struct cyrusconf *conf = NULL;
    AUTO(buf_free) struct buf text = BUF_INIT;
    struct error err = {0};

    if (config_read(in->env, in->o->imapd_conf, &in->cfg, &err) == ERR_OK &&
        cyrusconf_read(in->env, in->o->cyrus_conf, &conf, &err) == ERR_OK &&
        read_plan(in->o, conf, &in->plan, &err) == ERR_OK &&
        config_check_print(in->cfg, conf, &text))
        return true;
    (void)instance_check(in->env, in->o, stderr);
    return false;
}

/* ---- background, log --------------------------------------------------- */

/* The parent's exit code once the child is up or gone. */
static int
wait_for_child(int fd)
{
    char up = 0;
    ssize_t n;

    do
        n = read(fd, &up, 1);
    while (n < 0 && errno == EINTR);
    return n == 1 ? 0 : 1;
}

static enum errcode
detach(struct instance *in, struct error *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) != 0)
        return error_set_errno(err, errno, "pipe");
    pid_t pid = fork();
    if (pid < 0)
        return error_set_errno(err, errno, "go into the background");
    if (pid > 0) {
        close(fds[1]);
        _exit(wait_for_child(fds[0]));
    }
    close(fds[0]);
    setsid();
    in->ready_fd = fds[1];
    return ERR_OK;
}

/* The store is up: let the parent of -d go, and the terminal. */
static void
tell_ready(struct instance *in)
{
    if (in->ready_fd < 0)
        return;
    ssize_t told = write(in->ready_fd, "+", 1);
    (void)told;
    close(in->ready_fd);
    in->ready_fd = -1;
    int null_fd = in->o->keep_streams ? -1 : open("/dev/null", O_RDWR);
    if (null_fd < 0)
        return;
    dup2(null_fd, STDIN_FILENO);
    dup2(null_fd, STDOUT_FILENO);
    dup2(null_fd, STDERR_FILENO);
    if (null_fd > STDERR_FILENO)
        close(null_fd);
}

static enum errcode
open_log(struct instance *in, struct error *err)
{
    static const enum log_target targets[] = {LOG_TO_STDERR, LOG_TO_FILE,
                                              LOG_TO_SYSLOG};
    const char *prefix = config_string(in->cfg, "syslog_prefix");
    const char *path = in->o->log_file;
    enum log_target target = LOG_TO_STDERR;
    AUTO(xfree)
    char *ident = prefix == NULL || prefix[0] == '\0'
                      ? xstrdup("pollux")
                      : xasprintf("pollux/%s", prefix);

    if (path != NULL)
        target = LOG_TO_FILE;
    else if (in->o->detach || config_is_set(in->cfg, "log_target"))
        target = targets[config_enum(in->cfg, "log_target")];
    if (target == LOG_TO_FILE && path == NULL)
        path = config_string(in->cfg, "log_file");
    if (target == LOG_TO_FILE && path == NULL)
        return error_set(err, ERR_SYNTAX,
                         "log_target: file needs a log_file in imapd.conf");
    enum log_level least =
        in->o->verbose ? LOG_LV_DEBUG
                       : (enum log_level)config_enum(in->cfg, "log_level");
    enum errcode rc = log_open(target, path, ident, least, err);
    if (rc == ERR_OK && target == LOG_TO_FILE)
        in->log_path = path;
    return rc;
}

/* Who the instance becomes has to open the file again after a rotation. */
static enum errcode
give_log(const struct instance *in, struct error *err)
{
    if (in->log_path == NULL || !in->user.change ||
        chown(in->log_path, in->user.uid, in->user.gid) == 0)
        return ERR_OK;
    return error_set_errno(err, errno, "give %s to %s", in->log_path,
                           in->user.name);
}

/* ---- what other threads want ------------------------------------------- */

static void
wake(struct instance *in)
{
    uint64_t one = 1;
    ssize_t n = write(in->wake_fd, &one, sizeof(one));

    (void)n; /* full: it is awake already */
}

static void
hook_role(void *ctx, enum role role)
{
    struct instance *in = ctx;

    atomic_store(&in->role, (int)role);
    wake(in);
}

static void
hook_close_sessions(void *ctx)
{
    struct instance *in = ctx;

    csync_server_end_requests(in->control_server);
    pthread_mutex_lock(&in->lock);
    in->ask.close = true;
    wake(in);
    while (!in->ask.closed)
        pthread_cond_wait(&in->answered, &in->lock);
    pthread_mutex_unlock(&in->lock);
}

static void
hook_reopened(void *ctx)
{
    struct instance *in = ctx;

    csync_server_take_requests(in->control_server);
    pthread_mutex_lock(&in->lock);
    in->ask.reopen = true;
    wake(in);
    pthread_mutex_unlock(&in->lock);
}

/* Fail-stop: whoever cannot write any more must not look alive. */
static void
hook_fatal(void *ctx, const struct error *err)
{
    (void)ctx;
    log_error(NULL, "master.fatal", "code=%s why=\"%s\"",
              errcode_name(err->code), err->text);
    _exit(INSTANCE_EXIT_FATAL);
}

/* ---- services ---------------------------------------------------------- */

static enum errcode
start_pool(struct instance *in, struct error *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t wanted = config_int(in->cfg, "reactor_threads");
    unsigned threads = wanted > 0  ? (unsigned)wanted
                       : cores > 0 ? (unsigned)cores
                                   : 1;
    struct reactor_pool_options options = {
        .threads = MIN(threads, REACTOR_THREADS_MAX),
        .workers = MIN(4 + 2 * threads, REACTOR_WORKERS_MAX),
    };

    return reactor_pool_start(&options, &in->pool, err);
}

static void
serve(struct instance *in)
{
    struct error err = {0};

    if (start_pool(in, &err) != ERR_OK) {
        log_error(NULL, "master.failed", "why=\"%s\"", err.text);
        _exit(INSTANCE_EXIT_FATAL);
    }
    services_start(in->services, in->pool);
    in->serving = true;
    look_serving(in->look, true);
    log_notice(NULL, "master.serving", "services=%zu",
               services_count(in->services));
}

/* Nobody is left inside when this returns. */
static void
end_sessions(struct instance *in)
{
    in->serving = false;
    if (in->services == NULL)
        return;
    look_serving(in->look, false);
    services_quiet(in->services);
    reactor_pool_stop(&in->pool, GRACE_MS);
    services_rest(in->services);
}

/* ---- SIGHUP ------------------------------------------------------------ */

/* imapd.conf is read once; say what of it has changed since. */
static void
compare_config(const struct instance *in)
{
    AUTO(config_free) struct config *now = NULL;
    AUTO(buf_free) struct buf names = BUF_MAX(2000);
    struct error err = {0};
    size_t n = 0;
    const struct config_option *options = config_options(&n);

    if (config_read(in->env, in->o->imapd_conf, &now, &err) != ERR_OK) {
        log_error(NULL, "config.finding", "text=\"%s\" then=\"%s\"", err.text,
                  "an instance would not start with this file");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const char *was = config_string(in->cfg, options[i].name);
        const char *is = config_string(now, options[i].name);
        if ((was == NULL) != (is == NULL) ||
            (was != NULL && strcmp(was, is) != 0))
            buf_addf(&names, "%s%s", names.n == 0 ? "" : " ", options[i].name);
    }
    if (names.n > 0)
        log_warn(NULL, "config.needs_restart", "file=\"%s\" options=\"%s\"",
                 in->o->imapd_conf, buf_cstr(&names));
}

static void
reload(struct instance *in)
{
    AUTO(cyrusconf_free) struct cyrusconf *conf = NULL;
    AUTO(plan_free) struct plan *plan = NULL;
    struct error err = {0};
    size_t n = 0;

    log_reopen();
    enum errcode rc = cyrusconf_read(in->env, in->o->cyrus_conf, &conf, &err);
    if (rc == ERR_OK)
        rc = read_plan(in->o, conf, &plan, &err);
    if (plan != NULL)
        log_findings(plan->findings, plan->nfindings);
    else if (conf != NULL)
        log_findings(cyrusconf_findings(conf, &n), n);
    if (rc != ERR_OK) {
        log_error(NULL, "master.not_reloaded",
                  "why=\"%s\" then=\"goes on as before\"", err.text);
        return;
    }
    compare_config(in);
    services_change(in->services, plan);
    if (in->serving)
        services_start(in->services, in->pool);
    children_plan(in->children, plan);
    plan_free(&in->plan);
    in->plan = plan;
    plan = NULL;
    log_notice(NULL, "master.reloaded", "services=%zu children=%zu",
               services_count(in->services), in->plan->nchildren);
}

/* ---- coming up --------------------------------------------------------- */

static enum errcode
watch_signals(struct instance *in, struct error *err)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    in->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    in->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (in->signal_fd < 0 || in->wake_fd < 0)
        return error_set_errno(err, errno, "descriptors for signals");
    return ERR_OK;
}

/* All that may need root. */
static enum errcode
prepare_as_root(struct instance *in, struct error *err)
{
    user_raise_limits();
    enum errcode rc = user_make_dirs(in->env, in->cfg, &in->user, err);
    if (rc != ERR_OK)
        return rc;
    in->pid_path = in->o->pid_file != NULL
                       ? xstrdup(in->o->pid_file)
                       : xasprintf("%s/master.pid",
                                   config_string(in->cfg, "configdirectory"));
    rc = pidfile_take(in->pid_path, &in->pid_fd, err);
    if (rc == ERR_OK)
        rc = services_bind(in->services, in->plan, err);
    if (rc == ERR_OK)
        rc = user_become(&in->user, err);
    return rc;
}

static enum errcode
open_node(struct instance *in, struct error *err)
{
    const struct config *cfg = in->cfg;
    AUTO(arena_free) struct arena storage = ARENA_INIT;
    struct node_config nc;
    struct node_hooks hooks = {
        .ctx = in,
        .on_role = hook_role,
        .close_sessions = hook_close_sessions,
        .reopened = hook_reopened,
        .on_fatal = hook_fatal,
    };
    struct store_opened found = {0};
    uint64_t began_ns = env_mono_ns(in->env);

    node_config_from(cfg, in->servername, &storage, &nc);
    enum errcode rc = node_open(in->env, &nc, &hooks, &in->node, &found, err);
    if (rc != ERR_OK)
        return rc;
    in->admin.found = found;
    in->store = node_store(in->node);
    in->shown_role = node_role(in->node);
    atomic_store(&in->role, (int)in->shown_role);
    node_csync_instance(in->node, &in->host.instance);
    log_notice(NULL, "store.open",
               "dir=\"%s\" new=%d replayed=%" PRIu64 " ms=%" PRIu64,
               nc.store.dir, found.is_new, found.replayed,
               (env_mono_ns(in->env) - began_ns) / 1000000);
    return ERR_OK;
}

static enum errcode
open_control(struct instance *in, struct error *err)
{
    const char *path = config_string(in->cfg, "control_socket");
    struct reactor_pool_options pool = {.threads = 1,
                                        .workers = CONTROL_WORKERS};
    struct listen_spec spec;
    struct listener_service service = {
        .name = "control",
        .conn = service_sync_conn_options(),
        .on_conn = csync_server_accept,
    };

    enum errcode rc = listen_spec_parse(path, NULL, &spec, err);
    if (rc == ERR_OK)
        rc = listener_bind(&spec, in->o->backlog, &in->control, err);
    if (rc == ERR_OK && chmod(path, 0600) != 0)
        rc = error_set_errno(err, errno, "chmod %s", path);
    if (rc == ERR_OK)
        rc = reactor_pool_start(&pool, &in->control_pool, err);
    if (rc != ERR_OK)
        return error_prefix(err, "control socket");
    in->control_options = (struct csync_server_options){
        .servername = in->servername,
        .cfg = in->cfg,
        .is_control = true,
        .instance = in->host.instance,
    };
    in->admin.env = in->env;
    in->admin.cfg = in->cfg;
    in->admin.node = in->node;
    in->admin.index = keepers_await_index;
    in->admin.index_ctx = in->keepers;
    in->admin.is_live = true;
    admin_csync(&in->admin, &in->control_options.admin);
    in->control_server = csync_server_new(&in->control_options);
    service.ctx = in->control_server;
    listener_start(in->control, in->control_pool, &service, NULL);
    return ERR_OK;
}

static enum errcode
come_up(struct instance *in, struct error *err)
{
    enum errcode rc = open_log(in, err);
    if (rc == ERR_OK)
        rc = user_choose(in->cfg, &in->user, err);
    if (rc == ERR_OK)
        rc = give_log(in, err);
    if (rc != ERR_OK)
        return rc;
    log_notice(NULL, "master.starting",
               "version=%s imapd_conf=\"%s\" cyrus_conf=\"%s\" pid=%ld",
               POLLUX_VERSION, in->o->imapd_conf, in->o->cyrus_conf,
               (long)getpid());
    log_findings(in->plan->findings, in->plan->nfindings);
    node_servername(in->cfg, in->servername, sizeof(in->servername));
    in->keepers = keepers_new(in->env, in->cfg);
    in->host = (struct service_host){
        .env = in->env,
        .cfg = in->cfg,
        .servername = in->servername,
        .store = &in->store,
        .index = keepers_index(in->keepers),
        .backlog = in->o->backlog,
        .limits = conn_limits_new(
            (unsigned)config_int(in->cfg, "max_connections"),
            (unsigned)config_int(in->cfg, "max_connections_per_address")),
    };
    in->look = look_new(in->env);
    look_count(in->look, &in->host);
    in->services = services_new(&in->host);
    rc = prepare_as_root(in, err);
    if (rc == ERR_OK) {
        rc = sasl_library_start(in->cfg, "pollux", err);
        in->sasl_started = rc == ERR_OK;
    }
    if (rc == ERR_OK)
        rc = open_node(in, err);
    if (rc == ERR_OK)
        rc = node_ask_twin(in->node, in->cfg, TWIN_MS, err);
    if (rc == ERR_OK)
        rc = open_control(in, err);
    if (rc == ERR_OK)
        rc = children_new(in->env, in->o->imapd_conf, &in->children, err);
    if (rc == ERR_OK)
        rc = look_start(in->look, in->cfg, in->node, in->services, in->keepers,
                        err);
    if (rc == ERR_OK)
        keepers_start(in->keepers, in->store);
    return rc;
}

/* ---- living ------------------------------------------------------------ */

static void
take_signals(struct instance *in)
{
    struct signalfd_siginfo si;

    while (read(in->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
        if (si.ssi_signo == SIGCHLD) {
            children_reap(in->children);
        } else if (si.ssi_signo == SIGHUP) {
            notify_reloading();
            reload(in);
            notify_ready();
        } else {
            log_notice(NULL, "master.stopping", "signal=%u from_pid=%u",
                       si.ssi_signo, si.ssi_pid);
            in->stopping = true;
        }
    }
}

static void
take_role(struct instance *in)
{
    enum role role = (enum role)atomic_load(&in->role);

    if (in->shown_role == ROLE_MASTER && role != ROLE_MASTER)
        services_goodbye(in->services,
                         "This server is no longer the master, please connect "
                         "again");
    if (in->shown_role != role)
        notify_status(role_name(role));
    in->shown_role = role;
}

static void
take_asked(struct instance *in)
{
    uint64_t times;
    ssize_t n = read(in->wake_fd, &times, sizeof(times));

    (void)n;
    pthread_mutex_lock(&in->lock);
    bool must_close = in->ask.close && !in->ask.closed;
    bool reopen = in->ask.reopen;
    in->ask.reopen = false;
    if (reopen)
        in->ask.close = in->ask.closed = false;
    pthread_mutex_unlock(&in->lock);

    if (must_close) {
        bool was_serving = in->serving;
        if (was_serving)
            end_sessions(in);
        keepers_stop(in->keepers);
        pthread_mutex_lock(&in->lock);
        in->ask.closed = true;
        pthread_cond_broadcast(&in->answered);
        pthread_mutex_unlock(&in->lock);
    }
    if (reopen) {
        in->store = node_store(in->node);
        keepers_start(in->keepers, in->store);
    }
    take_role(in);
}

/* May clients be let in? */
static bool
may_serve(struct instance *in)
{
    pthread_mutex_lock(&in->lock);
    bool closed = in->ask.close;
    pthread_mutex_unlock(&in->lock);
    return !closed && !in->serving && !children_are_starting(in->children);
}

static void
live(struct instance *in)
{
    enum { SIGNALS, WAKE, OUTPUT, N };
    struct pollfd fds[N] = {
        [SIGNALS] = {.fd = in->signal_fd, .events = POLLIN},
        [WAKE] = {.fd = in->wake_fd, .events = POLLIN},
        [OUTPUT] = {.fd = children_fd(in->children), .events = POLLIN},
    };

    children_plan(in->children, in->plan);
    while (!in->stopping) {
        /* Clients before daemons, START before clients. */
        look_beat(in->look);
        unsigned wait_ms =
            notify_alive(MIN(children_tick(in->children), ROUND_MS));
        if (may_serve(in)) {
            serve(in);
            continue;
        }
        if (poll(fds, N, (int)wait_ms) < 0 && errno != EINTR)
            log_error(NULL, "master.poll", "errno=%d", errno);
        if (fds[OUTPUT].revents != 0)
            children_read(in->children);
        if (fds[SIGNALS].revents != 0)
            take_signals(in);
        if (fds[WAKE].revents != 0)
            take_asked(in);
    }
}

/* ---- going ------------------------------------------------------------- */

static void
end_children(struct instance *in)
{
    struct pollfd fds[] = {
        {.fd = in->signal_fd, .events = POLLIN},
        {.fd = children_fd(in->children), .events = POLLIN},
    };

    children_stop(in->children);
    while (children_alive(in->children) > 0) {
        (void)children_tick(in->children);
        (void)poll(fds, ARRAY_LEN(fds), DRAIN_POLL_MS);
        struct signalfd_siginfo si;
        while (read(in->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
            ;
        children_reap(in->children);
    }
}

static void
go_down(struct instance *in)
{
    notify_stopping();
    end_sessions(in);
    pthread_mutex_lock(&in->lock);
    in->ask.closed = true;
    pthread_cond_broadcast(&in->answered);
    pthread_mutex_unlock(&in->lock);
    if (in->children != NULL)
        end_children(in);
    if (in->keepers != NULL)
        keepers_last(in->keepers);
    listener_close(&in->control);
    reactor_pool_stop(&in->control_pool, GRACE_MS);
    csync_server_free(&in->control_server);
    if (in->keepers != NULL)
        keepers_stop(in->keepers);
    look_stop(in->look);
    keepers_free(&in->keepers);
    node_close(&in->node);
    children_free(&in->children);
    services_free(&in->services);
    look_free(&in->look);
    conn_limits_free(&in->host.limits);
    if (in->sasl_started)
        sasl_library_stop();
    if (in->pid_path != NULL)
        pidfile_release(in->pid_path, &in->pid_fd);
    free(in->pid_path);
    plan_free(&in->plan);
    config_free(&in->cfg);
    if (in->signal_fd >= 0)
        close(in->signal_fd);
    if (in->wake_fd >= 0)
        close(in->wake_fd);
    pthread_cond_destroy(&in->answered);
    pthread_mutex_destroy(&in->lock);
}

int
instance_run(struct env *env, const struct instance_options *o)
{
    struct instance in = {
        .env = env,
        .o = o,
        .pid_fd = -1,
        .ready_fd = -1,
        .signal_fd = -1,
        .wake_fd = -1,
        .role = ROLE_REPLICA,
        .shown_role = ROLE_REPLICA,
    };
    struct error err = {0};
    enum errcode rc = ERR_OK;

    pthread_mutex_init(&in.lock, NULL);
    pthread_cond_init(&in.answered, NULL);
    if (!read_files(&in)) {
        go_down(&in);
        return 1;
    }
    if (o->detach)
        rc = detach(&in, &err);
    if (rc == ERR_OK)
        rc = watch_signals(&in, &err);
    if (rc == ERR_OK)
        rc = come_up(&in, &err);
    if (rc != ERR_OK) {
        complain(err.text, o->detach || o->log_file != NULL);
        go_down(&in);
        return 1;
    }
    tell_ready(&in);
    notify_status(role_name(in.shown_role));
    notify_ready();
    live(&in);
    go_down(&in);
    log_notice(NULL, "master.stopped", "pid=%ld", (long)getpid());
    log_close();
    return 0;
}
