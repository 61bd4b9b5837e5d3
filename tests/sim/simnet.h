/*
 * tests/sim/simnet.h - the simulated network from inside: simnet.c (links and
 * the server's ends), simclient.c (the clients' ends) and simproc.c (who
 * waits).
 */
#ifndef POLLUX_TESTS_SIM_SIMNET_H
#define POLLUX_TESTS_SIM_SIMNET_H

#include "net/conn.h"
#include "tests/sim/sim_private.h"

#define FD_BASE 100000
#define OUTPUT_HIGH ((size_t)256 << 10)

struct chunk {
    uint64_t at;
    size_t n;
};

struct pipe {
    struct buf flight, in;
    struct chunk *chunks;
    size_t first, count, cap; /* of chunks; not a ring: first moves up */
    size_t shown;             /* of in: what bclient_fill() has shown */
    bool fin;                 /* ends behind what is in flight */
    size_t cut_after;         /* breaks after so many bytes; SIZE_MAX: not */
};

struct bclient {
    struct simlink *l;
    char name[32];
};

struct conn {
    struct simlink *l;
    struct machine *m;
    const struct conn_handler *h;
    void *ctx;
    bool paused, fresh; /* fresh: look at the input */
    bool closing, reset;
    bool was_full;
    uint64_t active_at;
    enum errcode why;
};

struct simlink {
    struct simlink *next;
    struct world *w;
    unsigned id;
    unsigned from, to;
    bool control;
    bool accepted;
    bool broken;          /* reset: both ends are told */
    bool silent;          /* an end vanished without a word */
    unsigned to_life;     /* of the machine at the server's end */
    struct pipe up, down; /* client to server, and back */
    struct bclient *client;
    struct conn *conn;
};

/* Bytes go into flight until AT. */
void
net_put(struct pipe *p, struct span bytes, uint64_t at);
/* When what is written now arrives. */
uint64_t
net_arrival(struct simlink *l);
struct simlink *
net_link_new(struct world *w, unsigned from, unsigned to, bool control);
/* Is there something for the client, be it the end? */
bool
net_can_read(const struct simlink *l);
/* Is it a descriptor of a simulated connection? */
bool
net_fd_is_ours(int fd);
/* Those of EVENTS that are so now; 0 if it is none of ours. */
short
net_fd_events(int fd, short events);

#endif
