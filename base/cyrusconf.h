/*
 * base/cyrusconf.h - cyrus.conf: what an instance runs.
 *
 *   START { recover cmd="ctl_cyrusdb -r" }
 *   SERVICES { imap cmd="imapd -U 50" listen="host:imap" prefork=1 }
 *   EVENTS { expire cmd="cyr_expire -E 3" at=0400 }
 *   DAEMON { sync cmd="sync_client -r" }
 *
 * An entry is a name and its key=value pairs; it ends where the next name
 * stands, so it may go over several lines, and so may a quoted value.  Inside
 * quotes \" and \\ stand for the sign behind.  # starts a comment where a word
 * may start.
 */
#ifndef POLLUX_BASE_CYRUSCONF_H
#define POLLUX_BASE_CYRUSCONF_H

#include "base/config.h"

enum cyrusconf_section {
    CYRUS_START,
    CYRUS_SERVICES,
    CYRUS_EVENTS,
    CYRUS_DAEMON,
};

struct cyrusconf_entry {
    enum cyrusconf_section section;
    const char *name;
    const char *cmd;
    const char *const *argv; /* cmd split into words, NULL-terminated; at
                                least one word unless the file has errors */
    const char *listen;      /* SERVICES: "[proto:][host:]port" or /path */
    const char *proto;       /* tcp (default), tcp4, tcp6, udp, udp4, udp6 */
    int maxchild;            /* -1: not given */
    int maxfds;              /* -1 */
    int prefork;             /* 0 */
    int maxforkrate;         /* 0 */
    bool babysit;
    int period_min;   /* EVENTS: every so many minutes; 0: not given */
    int at_hhmm;      /* EVENTS: 0 to 2359, or -1 */
    unsigned on_days; /* reserved: 0 */
    bool wait;        /* DAEMON, START */
    const char *file;
    unsigned line;
};

struct cyrusconf;

/*
 * As config_read(): unknown sections, unknown or badly typed keys, two services
 * of one name, and missing cmd or listen are findings; *RET is set even on
 * ERR_SYNTAX.  Bounds: 1 MiB a file, 1024 entries, 4096 bytes a value.
 */
MUST_CHECK enum errcode
cyrusconf_read(struct env *env, const char *path, struct cyrusconf **ret,
               struct error *err);
MUST_CHECK enum errcode
cyrusconf_parse(struct span text, const char *name, struct cyrusconf **ret,
                struct error *err);
void
cyrusconf_free(struct cyrusconf **conf);
const struct cyrusconf_entry *
cyrusconf_entries(const struct cyrusconf *conf, size_t *ret_n);
const struct config_finding *
cyrusconf_findings(const struct cyrusconf *conf, size_t *ret_n);

#endif
