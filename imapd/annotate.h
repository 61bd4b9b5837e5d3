/*
 * imapd/annotate.h - annotations of messages (RFC 5257), as FETCH, STORE,
 * APPEND, SEARCH, SORT and SELECT have them.
 */
#ifndef POLLUX_IMAPD_ANNOTATE_H
#define POLLUX_IMAPD_ANNOTATE_H

#include "imapd/append.h"
#include "imapd/fetch_private.h"

struct mime_needle;

/* STORE ... ANNOTATION. */
enum run
store_annotations(struct imap_session *s);

/*
 * The next piece of the ANNOTATION item under way: job->annot_more says that it
 * is not over.  False: there is nothing to tell at all.
 */
bool
write_annotations(struct imap_session *s, struct fetch_job *job,
                  const struct imap_fetch_item *item);
/* Is one of them about a part of the message (3.2.1)? */
bool
annot_names_part(const struct imap_annot_ask *ask);

/* " ANNOTATION (names)" of those on MSG that the user sees, without values
 * (4.4); nothing if there are none. */
void
write_annot_names(struct imap_session *s, struct store_snap *snap,
                  const struct message *msg);
/* "* OK [ANNOTATIONS ...] Ok" (4.1). */
void
write_annot_level(struct imap_session *s);

/* Does an annotation of MSG that NODE names have its text in it? */
bool
match_annotation(struct imap_session *s, struct store_snap *snap,
                 const struct message *msg, const struct imap_search *node);
/* The value that KEY sorts by, appended to RET; nothing: none. */
void
annot_sort_value(struct imap_session *s, struct store_snap *snap,
                 const struct message *msg, const struct imap_sort_key *key,
                 struct buf *ret);

/* May the N ones of SETS be set with RIGHTS?  False: the reply is set. */
MUST_CHECK bool
check_annot_sets(struct imap_session *s, const struct imap_annot_set *sets,
                 size_t n, uint32_t rights);
/* Are the parts that SETS name in the message of this derived record? */
bool
annot_parts_exist(const struct imap_annot_set *sets, size_t n,
                  struct span cache);
/* SETS as the store takes them with a new message, in the command's arena. */
const struct txn_append_annot *
annots_of_append(struct imap_session *s, const struct imap_append *how,
                 size_t *ret_n);

#endif
