/*
 * imapd/thread.h - THREAD (RFC 5256, 3): messages into threads, without I/O.
 */
#ifndef POLLUX_IMAPD_THREAD_H
#define POLLUX_IMAPD_THREAD_H

#include "imapd/parse.h"

#include "base/buf.h"

/* A message as threading sees it; spans live in the caller's arena. */
struct thread_message {
    uint32_t number; /* as it is told: UID or sequence number */
    int64_t sent_s;
    int64_t arrival_s;
    struct span subject; /* base subject, by mime_casemap() */
    bool is_reply;       /* something of a reply was taken off the subject */
    struct span id;      /* Message-ID, or empty */
    const struct span *refs; /* oldest first */
    size_t nrefs;
};

/*
 * Append "(1 (2)(3 4))..." for MESSAGES, which come in mailbox order.  Memory
 * is linear in messages and references; nothing recurses.
 */
void
thread_messages(enum imap_thread how, const struct thread_message *messages,
                size_t n, struct buf *out);

#endif
