/*
 * master/plan.h - what a cyrus.conf asks of an instance: which services it
 * hosts, which programs it runs, and what of it is without effect here.
 *
 * A plan is made whole or not at all: nothing is started by a file that has an
 * error in it.
 */
#ifndef POLLUX_MASTER_PLAN_H
#define POLLUX_MASTER_PLAN_H

#include "base/arena.h"
#include "base/cyrusconf.h"

enum service_kind {
    SERVICE_IMAP,
    SERVICE_LMTP,
    SERVICE_SYNC,
};

/* A line of SERVICES that this process hosts. */
struct plan_service {
    const char *name; /* prefix of overrides in imapd.conf */
    const char *cmd;
    enum service_kind kind;
    const char *listen;
    const char *proto;
    bool implicit_tls;  /* imapd -s */
    bool preauth;       /* lmtpd -a: who connects may deliver */
    bool outer_layer;   /* -p: something in front encrypts already */
    unsigned max_conns; /* maxchild; 0: no limit */
};

/* A line of START, DAEMON or EVENTS whose program is there. */
struct plan_child {
    enum cyrusconf_section section;
    const char *name;
    const char *cmd;
    const char *const *argv; /* argv[0] is a path; NULL-terminated */
    int period_min;          /* EVENTS; 0 with at_hhmm -1: once */
    int at_hhmm;             /* EVENTS: 0 to 2359, or -1 */
};

struct plan {
    struct plan_service *services;
    size_t nservices;
    struct plan_child *children;
    size_t nchildren;
    /* Notes and warnings; after a failed plan_make() errors too. */
    struct config_finding *findings;
    size_t nfindings;
    struct arena arena; /* holds all of the above */
};

/* Where the instance stands. */
struct plan_place {
    const char *imapd_conf; /* its -C */
    const char *exe_dir;    /* where our programs lie; looked into first */
    const char *path;       /* PATH, or NULL */
};

/*
 * Read CONF, which has no errors of its own.  *RET is set even then with
 * ERR_SYNTAX, so that all findings can be shown: a service program that nobody
 * knows, an option that it does not have, a -C of another file.  Programs of
 * Cyrus that have no meaning here or are not in this version are notes, other
 * programs that cannot be found warnings.
 */
MUST_CHECK enum errcode
plan_make(const struct cyrusconf *conf, const struct plan_place *place,
          struct plan **ret, struct error *err);
/* NULL is fine. */
void
plan_free(struct plan **plan);

#endif
