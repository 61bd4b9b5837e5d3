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

/* Is there one with the command's tag? */
bool
context_has_tag(const struct imap_session *s, struct span tag);
/*
 * The command under way asks for updates of FOUND, or (SORT) of the N UIDs of
 * ORDER; or it is told that there will be none.
 */
void
context_add(struct imap_session *s, const struct uidset *found,
            const uint32_t *order, size_t n);
/* What changed after SINCE, as far as the client knows the messages; some of it
 * the next time if it is dear to look at. */
void
contexts_update(struct imap_session *s, modseq_t since);
/* UIDS are about to be told as expunged: their numbers are valid still. */
void
contexts_expunge(struct imap_session *s, const struct uidset *uids);
/* There is more to look at. */
bool
contexts_pending(const struct imap_session *s);
/* All that hangs on SEL. */
void
contexts_free(struct selected *sel);
/* Did some come in whose command wants attributes of them? */
bool
contexts_have_new(const struct imap_session *s);
/* UIDs that came into results whose command wants attributes of them (RFC 5465,
 * 7), since this was asked; added to RET, the attributes as text to TEXT. */
void
contexts_take_new(struct imap_session *s, struct uidset *ret, struct buf *text);
enum run
cmd_cancelupdate(struct imap_session *s);

#endif
