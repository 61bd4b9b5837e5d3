/*
 * imapd/ahead.h - whole messages read on workers before a FETCH comes to them.
 */
#ifndef POLLUX_IMAPD_AHEAD_H
#define POLLUX_IMAPD_AHEAD_H

#include "imapd/session_private.h"

struct ahead;

/*
 * For a FETCH of the session's mailbox.  NULL: too many do so already.  To be
 * ended with the command by ahead_end(), which may be while workers read.
 */
struct ahead *
ahead_begin(struct imap_session *s);
/* Begin to read the messages of UIDS, in order, as far ahead as it goes; each
 * time with what is left of them. */
void
ahead_fill(struct ahead *a, const struct uidset *uids, uint32_t from_uid);
/*
 * Is UID being read just now?  Then the command goes on later: session_run() is
 * called, and the caller returns RUN_WAIT.
 */
MUST_CHECK bool
ahead_must_wait(struct ahead *a, uint32_t uid);
/* The bytes of MSG, if they are here; valid until ahead_fill(). */
MUST_CHECK bool
ahead_get(struct ahead *a, const struct message *msg, struct span *ret);
/* NULL is fine; *A becomes NULL. */
void
ahead_end(struct ahead **a);

#endif
