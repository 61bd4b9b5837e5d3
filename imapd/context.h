/*
 * imapd/context.h - results that are kept level: UPDATE of SEARCH and SORT (RFC
 * 5267, 4.3).
 */
#ifndef POLLUX_IMAPD_CONTEXT_H
#define POLLUX_IMAPD_CONTEXT_H

#include "imapd/session_private.h"

/* Of a session; what goes beyond is [NOUPDATE]. */
#define CONTEXTS_MAX 8U
#define CONTEXT_BYTES_MAX (1U << 20) /* all of them */

struct context;

/* But for contexts_pending() and contexts_free(), all of these are for a
 * session that has selected a mailbox, and none of them fails: what cannot be
 * read then is told by who reads it for the client. */

/* Is there one that a command with this tag made? */
bool
context_has_tag(const struct imap_session *s, struct span tag);
/*
 * The command under way asks for updates of FOUND, or (SORT) of the N UIDs of
 * ORDER; or it is told that there will be none.
 */
void
context_add(struct imap_session *s, const struct uidset *found,
            const uint32_t *order, size_t n);
/* Look again at what changed after SINCE, as far as the client knows the
 * messages, and tell what came and went; some of it is left for the next time
 * (contexts_pending()) if it is dear to look at. */
void
contexts_update(struct imap_session *s, modseq_t since);
/* UIDS are about to be told as expunged: they leave the results, by numbers
 * that are valid still. */
void
contexts_expunge(struct imap_session *s, const struct uidset *uids);
/* Is there more to look at? */
bool
contexts_pending(const struct imap_session *s);
/* Free all that hang on SEL. */
void
contexts_free(struct selected *sel);
/* Did some come in whose command wants attributes of them? */
bool
contexts_have_new(const struct imap_session *s);
/* UIDs that came into results whose command wants attributes of them (RFC 5465,
 * 7), since this was asked; added to RET, the attributes as text to TEXT. */
void
contexts_take_new(struct imap_session *s, struct uidset *ret, struct buf *text);
/* CANCELUPDATE (RFC 5267, 4.3.5): tags that are unknown are fine. */
enum run
cmd_cancelupdate(struct imap_session *s);

#endif
