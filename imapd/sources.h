/*
 * imapd/sources.h - mailboxes by source options: ESEARCH (RFC 7377, 2.2) and
 * NOTIFY (RFC 5465, 6).
 */
#ifndef POLLUX_IMAPD_SOURCES_H
#define POLLUX_IMAPD_SOURCES_H

#include "imapd/session_private.h"

struct box {
    mbid_t id;
    bool named; /* by the client, and not only below what it named */
};

struct box_list {
    struct imap_session *s;
    struct box *boxes; /* to be given back with free() */
    size_t n, cap;
    size_t max;
    bool too_many; /* there are more than MAX */
    bool adding_named;
};

/* Add what SRC stands for; nothing is known yet of rights.  What cannot be
 * named, or is not there, is passed over.  ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum errcode
box_list_add(struct box_list *list, struct store_snap *snap,
             const struct imap_source *src, struct error *err);
/* By id, each once. */
void
box_list_unite(struct box_list *list);

#endif
