/*
 * imapd/sort.h - messages in the order of a SORT (RFC 5256, 5957, 6203).
 */
#ifndef POLLUX_IMAPD_SORT_H
#define POLLUX_IMAPD_SORT_H

#include "imapd/find.h"

/* What is compared of a message. */
struct sorted {
    uint32_t uid;
    uint32_t seq;
    int64_t arrival_s;
    int64_t sent_s;
    uint64_t size;
    const struct span *text; /* for each key of the command, empty if none */
    uint8_t relevance;
};

struct sort_list {
    struct sorted *hits;
    size_t n, cap;
    struct arena arena; /* their texts */
};

/* Add the message that F stands on. */
void
sort_add(struct imap_session *s, struct finder *f, struct sort_list *list);
/* Into the order that CMD asks for; may take a while. */
void
sort_run(struct sort_list *list, const struct imap_command *cmd);
/* Before which of the N UIDs of ORDER, which are in the order of the command's
 * sort keys, f->msg has its place. */
size_t
sort_place(struct imap_session *s, struct finder *f, const uint32_t *order,
           size_t n);
/* Forget the messages; the list can be used anew. */
void
sort_clear(struct sort_list *list);

#endif
