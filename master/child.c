/*
 * master/child.c - starting, reading, reaping.
 *
 * A child is made by fork(2) in a process with many threads; between fork and
 * exec only async-signal-safe calls are made, and all strings and tables are
 * ready before.  posix_spawn() would do, but cannot set the death signal.
 *
 * Output goes through one pipe for stdout and stderr of a child, watched by one
 * epoll descriptor.  A pipe may outlive its child (a grandchild has it), so
 * pipes are a list of their own.
 */
#include "master/child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "master/schedule.h"

#define OUTPUT_LINE_BYTES 4000U
#define TICK_MAX_MS 60000U

/* What one child prints. */
struct output {
    struct output *next;
    int fd;
    char *name;
    struct buf line;
};

struct child {
    struct child *next;
    enum cyrusconf_section section;
    char *name;
    char *cmd;
    char **argv;
    pid_t pid;    /* 0: not running */
    bool removed; /* goes when it has ended */
    uint64_t started_ms;
    uint64_t kill_ms;  /* SIGKILL then; 0: not asked to end */
    uint64_t start_ms; /* DAEMON: not before */
    uint64_t backoff_ms;
    int period_min, at_hhmm;
    uint64_t due_ms; /* EVENTS by period: monotonic */
    uint64_t due_s;  /* EVENTS by at: wall clock */
    bool done;       /* START and events without a time: has run */
};

struct children {
    struct env *env;
    struct child *list; /* in the order of the file */
    struct output *outputs;
    char **environment;
    int epoll_fd;
    bool planned;
    bool stopping;
};

static const char *const section_names[] = {
    [CYRUS_START] = "start",
    [CYRUS_SERVICES] = "service",
    [CYRUS_EVENTS] = "event",
    [CYRUS_DAEMON] = "daemon",
};

static uint64_t
now_ms(const struct children *c)
{
    return env_mono_ns(c->env) / 1000000;
}

static uint64_t
now_s(const struct children *c)
{
    return env_wall_us(c->env) / 1000000;
}

/* ---- output ------------------------------------------------------------ */

static void
say(const struct output *o, struct span line)
{
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    if (line.n > 0 && !log_relay(line))
        log_info(NULL, "child.says", "name=%s text=\"%.*s\"", o->name,
                 SPAN_FMT(line));
}

static void
say_lines(struct output *o, struct span in)
{
    for (ptrdiff_t end; (end = span_find_byte(in, '\n', 0)) >= 0;) {
        buf_add(&o->line, span_sub(in, 0, (size_t)end));
        say(o, buf_span(&o->line));
        buf_clear(&o->line);
        in = span_skip(in, (size_t)end + 1);
    }
    buf_add(&o->line, in);
    if (o->line.n < OUTPUT_LINE_BYTES)
        return;
    say(o, buf_span(&o->line));
    buf_clear(&o->line);
}

static void
output_free(struct output *o)
{
    say(o, buf_span(&o->line));
    close(o->fd);
    buf_free(&o->line);
    free(o->name);
    free(o);
}

/* False at the end of what will ever come. */
static bool
output_read(struct output *o)
{
    for (unsigned turns = 0; turns < 16; turns++) {
        char bytes[OUTPUT_LINE_BYTES];
        ssize_t n = read(o->fd, bytes, sizeof(bytes));
        if (n == 0)
            return false;
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        say_lines(o, span_of(bytes, (size_t)n));
    }
    return true;
}

void
children_read(struct children *c)
{
    for (struct output **at = &c->outputs; *at != NULL;) {
        struct output *o = *at;
        if (output_read(o)) {
            at = &o->next;
            continue;
        }
        *at = o->next;
        output_free(o);
    }
}

int
children_fd(const struct children *c)
{
    return c->epoll_fd;
}

/* ---- processes --------------------------------------------------------- */

/* In the new process; only async-signal-safe calls. */
static NORETURN void
become(const struct child *ch, char **environment, int null_fd, int out_fd,
       pid_t parent)
{
    static const char text[] = "the program cannot be run\n";
    sigset_t none;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(127); /* it died before it could be known */
    if (dup2(null_fd, STDIN_FILENO) < 0 || dup2(out_fd, STDOUT_FILENO) < 0 ||
        dup2(out_fd, STDERR_FILENO) < 0)
        _exit(127);
    close_range(3, ~0U, 0);
    signal(SIGPIPE, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(ch->argv[0], ch->argv, environment);
    ssize_t said = write(STDERR_FILENO, text, sizeof(text) - 1);
    (void)said;
    _exit(127);
}

static void
watch_output(struct children *c, const char *name, int fd)
{
    struct output *o = xcalloc(1, sizeof(*o));
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = o};

    o->fd = fd;
    o->name = xstrdup(name);
    o->line = BUF_MAX((size_t)2 * OUTPUT_LINE_BYTES);
    o->next = c->outputs;
    c->outputs = o;
    if (epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
        log_warn(NULL, "child.output_lost", "name=%s errno=%d", name, errno);
}

/* False: not now; it is tried again. */
static bool
start_child(struct children *c, struct child *ch)
{
    int pipe_fds[2];

    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd < 0 || pipe2(pipe_fds, O_CLOEXEC) != 0) {
        log_error(NULL, "child.not_started", "name=%s errno=%d", ch->name,
                  errno);
        if (null_fd >= 0)
            close(null_fd);
        return false;
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(ch, c->environment, null_fd, pipe_fds[1], parent);
    int fork_errno = errno;
    close(null_fd);
    close(pipe_fds[1]);
    if (pid < 0) {
        close(pipe_fds[0]);
        log_error(NULL, "child.not_started", "name=%s errno=%d", ch->name,
                  fork_errno);
        return false;
    }
    setpgid(pid, pid); /* whoever of the two is first */
    fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
    watch_output(c, ch->name, pipe_fds[0]);
    ch->pid = pid;
    ch->kill_ms = 0;
    ch->started_ms = now_ms(c);
    log_info(NULL, "child.started", "section=%s name=%s pid=%ld cmd=\"%s\"",
             section_names[ch->section], ch->name, (long)pid, ch->cmd);
    return true;
}

static void
ask_to_end(struct children *c, struct child *ch)
{
    if (ch->pid == 0 || ch->kill_ms != 0)
        return;
    ch->kill_ms = now_ms(c) + CHILD_KILL_MS;
    kill(-ch->pid, SIGTERM);
}

static uint64_t
backoff_after(struct child *ch, bool good, uint64_t ran_ms)
{
    if (good || ran_ms >= CHILD_STEADY_MS)
        ch->backoff_ms = CHILD_PAUSE_MS;
    else
        ch->backoff_ms = MIN(MAX(ch->backoff_ms * 2, (uint64_t)CHILD_PAUSE_MS),
                             (uint64_t)CHILD_BACKOFF_MAX_MS);
    return ch->backoff_ms;
}

static void
child_ended(struct children *c, struct child *ch, int status)
{
    bool asked = ch->kill_ms != 0;
    bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    uint64_t ran_ms = now_ms(c) - ch->started_ms;
    enum log_level level = good || asked                ? LOG_LV_INFO
                           : ch->section == CYRUS_START ? LOG_LV_ERROR
                                                        : LOG_LV_WARN;

    ch->pid = 0;
    ch->kill_ms = 0;
    ch->done = true;
    if (ch->section == CYRUS_DAEMON)
        ch->start_ms = now_ms(c) + backoff_after(ch, good, ran_ms);
    log_line(NULL, level, "child.ended",
             "section=%s name=%s %s=%d ran_ms=%" PRIu64 " cmd=\"%s\"",
             section_names[ch->section], ch->name,
             WIFSIGNALED(status) ? "signal" : "code",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
             ran_ms, ch->cmd);
}

static void
child_free(struct child *ch)
{
    for (size_t i = 0; ch->argv[i] != NULL; i++)
        free(ch->argv[i]);
    free(ch->argv);
    free(ch->name);
    free(ch->cmd);
    free(ch);
}

static void
drop_removed(struct children *c)
{
    for (struct child **at = &c->list; *at != NULL;) {
        struct child *ch = *at;
        if (!ch->removed || ch->pid != 0) {
            at = &ch->next;
            continue;
        }
        *at = ch->next;
        child_free(ch);
    }
}

void
children_reap(struct children *c)
{
    children_read(c); /* its last words come before its end */
    for (struct child *ch = c->list; ch != NULL; ch = ch->next) {
        int status = 0;
        if (ch->pid != 0 && waitpid(ch->pid, &status, WNOHANG) == ch->pid)
            child_ended(c, ch, status);
    }
    drop_removed(c);
}

unsigned
children_alive(const struct children *c)
{
    unsigned n = 0;

    for (const struct child *ch = c->list; ch != NULL; ch = ch->next)
        n += ch->pid != 0;
    return n;
}

/* ---- what is due ------------------------------------------------------- */

bool
children_are_starting(const struct children *c)
{
    for (const struct child *ch = c->list; ch != NULL; ch = ch->next)
        if (ch->section == CYRUS_START && !ch->done)
            return true;
    return false;
}

/* The first of START that has not ended. */
static void
tick_start(struct children *c)
{
    for (struct child *ch = c->list; ch != NULL; ch = ch->next) {
        if (ch->section != CYRUS_START || ch->done)
            continue;
        if (ch->pid != 0 || start_child(c, ch))
            return;
        ch->done = true; /* logged; the others are not held up by it */
    }
}

static uint64_t
tick_daemon(struct children *c, struct child *ch)
{
    uint64_t now = now_ms(c);

    if (ch->pid != 0)
        return TICK_MAX_MS;
    if (now < ch->start_ms)
        return ch->start_ms - now;
    if (start_child(c, ch))
        return TICK_MAX_MS;
    ch->start_ms = now + CHILD_PAUSE_MS;
    return CHILD_PAUSE_MS;
}

static void
run_event(struct children *c, struct child *ch)
{
    if (ch->pid != 0)
        log_notice(NULL, "child.skipped", "name=%s why=\"%s\"", ch->name,
                   "the last run has not ended yet");
    else
        (void)start_child(c, ch);
    ch->done = true;
}

static uint64_t
tick_event(struct children *c, struct child *ch)
{
    uint64_t now = now_ms(c);
    uint64_t wall = now_s(c);

    if (ch->at_hhmm >= 0) {
        if (ch->due_s != 0 && wall >= ch->due_s)
            run_event(c, ch);
        if (ch->due_s == 0 || wall >= ch->due_s)
            ch->due_s = schedule_next_at(wall, ch->at_hhmm);
        return MIN((ch->due_s - wall) * 1000, (uint64_t)TICK_MAX_MS);
    }
    if (ch->period_min <= 0) {
        if (!ch->done)
            run_event(c, ch);
        return TICK_MAX_MS;
    }
    if (now >= ch->due_ms) {
        run_event(c, ch);
        ch->due_ms = now + (uint64_t)ch->period_min * 60000;
    }
    return ch->due_ms - now;
}

static uint64_t
tick_kill(struct children *c, struct child *ch)
{
    uint64_t now = now_ms(c);

    if (ch->pid == 0 || ch->kill_ms == 0)
        return TICK_MAX_MS;
    if (now < ch->kill_ms)
        return ch->kill_ms - now;
    log_warn(NULL, "child.killed", "name=%s pid=%ld why=\"%s\"", ch->name,
             (long)ch->pid, "it did not end when it was told to");
    kill(-ch->pid, SIGKILL);
    ch->kill_ms = now + CHILD_KILL_MS;
    return CHILD_KILL_MS;
}

unsigned
children_tick(struct children *c)
{
    uint64_t wait_ms = TICK_MAX_MS;

    if (!c->stopping)
        tick_start(c);
    bool starting = children_are_starting(c);
    for (struct child *ch = c->list; ch != NULL; ch = ch->next) {
        uint64_t next_ms = tick_kill(c, ch);
        if (!c->stopping && !starting && !ch->removed) {
            if (ch->section == CYRUS_DAEMON)
                next_ms = MIN(next_ms, tick_daemon(c, ch));
            else if (ch->section == CYRUS_EVENTS)
                next_ms = MIN(next_ms, tick_event(c, ch));
        }
        wait_ms = MIN(wait_ms, next_ms);
    }
    return (unsigned)wait_ms;
}

/* ---- plans ------------------------------------------------------------- */

static bool
is_same(const struct child *ch, const struct plan_child *p)
{
    return !ch->removed && ch->section == p->section &&
           strcmp(ch->name, p->name) == 0 && strcmp(ch->cmd, p->cmd) == 0 &&
           strcmp(ch->argv[0], p->argv[0]) == 0 &&
           ch->period_min == p->period_min && ch->at_hhmm == p->at_hhmm;
}

static bool
is_in_plan(const struct child *ch, const struct plan *plan)
{
    for (size_t i = 0; i < plan->nchildren; i++)
        if (is_same(ch, &plan->children[i]))
            return true;
    return false;
}

static void
add_child(struct children *c, const struct plan_child *p)
{
    struct child **at = &c->list;
    struct child *ch = xcalloc(1, sizeof(*ch));
    size_t n = 0;

    while (p->argv[n] != NULL)
        n++;
    ch->argv = xcalloc(n + 1, sizeof(*ch->argv));
    for (size_t i = 0; i < n; i++)
        ch->argv[i] = xstrdup(p->argv[i]);
    ch->section = p->section;
    ch->name = xstrdup(p->name);
    ch->cmd = xstrdup(p->cmd);
    ch->period_min = p->period_min;
    ch->at_hhmm = p->at_hhmm;
    while (*at != NULL)
        at = &(*at)->next;
    *at = ch;
}

void
children_plan(struct children *c, const struct plan *plan)
{
    for (struct child *ch = c->list; ch != NULL; ch = ch->next) {
        if (ch->section == CYRUS_START || is_in_plan(ch, plan))
            continue;
        ch->removed = true;
        if (ch->section == CYRUS_DAEMON)
            ask_to_end(c, ch);
    }
    for (size_t i = 0; i < plan->nchildren; i++) {
        const struct plan_child *p = &plan->children[i];
        const struct child *ch = c->list;
        while (ch != NULL && !is_same(ch, p))
            ch = ch->next;
        if (ch == NULL && (p->section != CYRUS_START || !c->planned))
            add_child(c, p);
    }
    c->planned = true;
    drop_removed(c);
}

void
children_stop(struct children *c)
{
    c->stopping = true;
    for (struct child *ch = c->list; ch != NULL; ch = ch->next)
        ask_to_end(c, ch);
}

/* ---- making ------------------------------------------------------------ */

/* Our own environment, with the two words for children. */
static char **
make_environment(const char *imapd_conf)
{
    size_t n = 0;
    size_t kept = 0;

    while (environ[n] != NULL)
        n++;
    char **to = xcalloc(n + 3, sizeof(*to));
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], CHILD_ENV "=", sizeof(CHILD_ENV)) != 0 &&
            strncmp(environ[i], CHILD_ENV_CONF "=", sizeof(CHILD_ENV_CONF)) !=
                0)
            to[kept++] = xstrdup(environ[i]);
    to[kept++] = xstrdup(CHILD_ENV "=1");
    if (imapd_conf != NULL)
        to[kept] = xasprintf(CHILD_ENV_CONF "=%s", imapd_conf);
    return to;
}

enum errcode
children_new(struct env *env, const char *imapd_conf, struct children **ret,
             struct error *err)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);

    if (fd < 0)
        return error_set_errno(err, errno, "epoll for the output of children");
    struct children *c = xcalloc(1, sizeof(*c));
    c->env = env;
    c->epoll_fd = fd;
    c->environment = make_environment(imapd_conf);
    *ret = c;
    return ERR_OK;
}

void
children_free(struct children **children)
{
    struct children *c = *children;

    if (c == NULL)
        return;
    for (struct child *ch = c->list; ch != NULL; ch = ch->next) {
        if (ch->pid == 0)
            continue;
        kill(-ch->pid, SIGKILL);
        waitpid(ch->pid, NULL, 0);
        ch->pid = 0;
    }
    children_read(c);
    while (c->outputs != NULL) {
        struct output *o = c->outputs;
        c->outputs = o->next;
        output_free(o);
    }
    while (c->list != NULL) {
        struct child *ch = c->list;
        c->list = ch->next;
        child_free(ch);
    }
    for (char **word = c->environment; *word != NULL; word++)
        free(*word);
    free(c->environment);
    close(c->epoll_fd);
    free(c);
    *children = NULL;
}
