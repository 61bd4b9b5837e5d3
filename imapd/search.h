/*
 * imapd/search.h - a search under way, which SEARCH and SORT tell of at its
 * end, and ESEARCH of each mailbox.
 */
#ifndef POLLUX_IMAPD_SEARCH_H
#define POLLUX_IMAPD_SEARCH_H

#include "imapd/find.h"
#include "imapd/sort.h"

/* s->job points to it, or to what it is the first member of. */
struct search_job {
    struct finder f;
    struct uidset found; /* numbers as the client asked for them, of SEARCH */
    struct uidset uids;
    modseq_t modseq;       /* the highest one found */
    modseq_t min_modseq;   /* of the first one */
    modseq_t max_modseq;   /* of the last one */
    struct sort_list sort; /* what SORT found */
    struct buf relevance;  /* a byte for each, 1 to 100 (RFC 6203) */
    /* Everything is found: tell it. */
    enum run (*tell)(struct imap_session *s);
    const char *mailbox; /* named in ESEARCH (RFC 7377); NULL: not */
    uint32_t uidvalidity;
};

/* Begin with the keys of the command on the messages of s->sel; s->run is set,
 * or what is returned is how it ended. */
enum run
search_begin(struct imap_session *s);
/* "* ESEARCH ..." as the command asks for it. */
void
search_write(struct imap_session *s);
/* Updates of it follow (RFC 5267, 4.3). */
void
search_keep_level(struct imap_session *s);
/* What "$" stands for from now on. */
void
search_save(struct imap_session *s);
/* [*RET_FROM, *RET_TO) of COUNT that PARTIAL names (RFC 9394). */
void
search_partial_range(const struct imap_command *cmd, uint64_t count,
                     uint64_t *ret_from, uint64_t *ret_to);
/* Give back what it holds; JOB can begin again. */
void
search_clear(struct imap_session *s, struct search_job *job);

#endif
