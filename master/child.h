/*
 * master/child.h - the programs that an instance runs beside itself: START,
 * DAEMON and EVENTS of its cyrus.conf.
 *
 *   START   one after the other, in the order of the file, each to its end
 *   DAEMON  from then on for ever: one that ends is started again
 *   EVENTS  when their time has come, unless they still run
 *
 * Everything is called on one thread, which must live as long as the process:
 * a child gets SIGTERM when that thread is gone (PR_SET_PDEATHSIG), so kill -9
 * of the instance leaves nobody behind.  Each child has its own process group,
 * no descriptor but 0, 1 and 2, and default signals; what it prints is logged
 * line by line, log lines of our own programs as they are.
 */
#ifndef POLLUX_MASTER_CHILD_H
#define POLLUX_MASTER_CHILD_H

#include "base/env.h"
#include "master/plan.h"

/* Set to "1" for every child, so that it stays in the foreground. */
#define CHILD_ENV "POLLUX_CHILD"
/* The imapd.conf of the instance: the default of -C of our own programs. */
#define CHILD_ENV_CONF "POLLUX_IMAPD_CONF"

#define CHILD_KILL_MS 5000U         /* from SIGTERM to SIGKILL */
#define CHILD_PAUSE_MS 1000U        /* before a daemon starts again */
#define CHILD_BACKOFF_MAX_MS 30000U /* where it keeps failing */
#define CHILD_STEADY_MS 60000U      /* who ran so long starts anew at once */

struct children;

/* IMAPD_CONF is copied; NULL: not told.  Errors: ERR_IO. */
MUST_CHECK enum errcode
children_new(struct env *env, const char *imapd_conf, struct children **ret,
             struct error *err);
/* Kills (SIGKILL) what still runs.  NULL is fine. */
void
children_free(struct children **c);

/*
 * Run what PLAN says; nothing of it is kept.  The first time START is run, and
 * the others wait for it.  Later plans: START is left alone, daemons that are
 * no longer there or have another command are ended, new ones begin, and events
 * are those of PLAN from now on.
 */
void
children_plan(struct children *c, const struct plan *plan);
/* Do what is due.  Returns how many ms may pass until the next call; at most
 * 60,000. */
unsigned
children_tick(struct children *c);
/* START has not ended yet. */
bool
children_are_starting(const struct children *c);

/* Readable when somebody has printed something: then children_read(). */
int
children_fd(const struct children *c);
void
children_read(struct children *c);
/* After SIGCHLD. */
void
children_reap(struct children *c);

/* SIGTERM to all, and SIGKILL (by children_tick()) to those that do not obey;
 * nothing is started any more. */
void
children_stop(struct children *c);
/* Processes that are alive. */
unsigned
children_alive(const struct children *c);

#endif
