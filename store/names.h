/*
 * store/names.h - mailbox names: internal ("user.john.Sub^Folder", '.' between
 * levels, real dots as '^', modified UTF-7) and as clients see them, by
 * unixhierarchysep and altnamespace.
 */
#ifndef POLLUX_STORE_NAMES_H
#define POLLUX_STORE_NAMES_H

#include "base/arena.h"
#include "base/error.h"

struct namespace
{
    char sep; /* '/' with unixhierarchysep, else '.' */
    bool alt; /* altnamespace: INBOX's children stand beside INBOX */
    const char *user_prefix;   /* "Other Users" */
    const char *shared_prefix; /* "Shared Folders" */
};

/*
 * What USER means by EXTERNAL (INBOX in any case; with altnamespace "Sent" is
 * user.USER.Sent).  Admins (IS_ADMIN) see internal levels: "user/john/Sent".
 * ERR_BADNAME: empty levels, control bytes, bad modified UTF-7, '.' or '^'
 * where they cannot be, too long.
 */
MUST_CHECK enum errcode
name_to_internal(const struct namespace *ns, const char *user, bool is_admin,
                 struct span external, struct arena *a, const char **ret,
                 struct error *err);
/* The other way; INTERNAL is a name of the store. */
const char *
name_to_external(const struct namespace *ns, const char *user, bool is_admin,
                 const char *internal, struct arena *a);
/*
 * Is INTERNAL a name that a mailbox may have?  ERR_BADNAME.  At most
 * MAILBOX_NAME_MAX bytes below "DELETED.", less for others, so that each can be
 * deleted with delay.
 */
MUST_CHECK enum errcode
name_check(const char *internal, struct error *err);
/* Owner of user.X... or DELETED.user.X..., in external form (dots real);
 * NULL for shared ones. */
const char *
name_owner(const char *internal, struct arena *a);
/* "user." + USER with '.' as '^'.  ERR_BADNAME for users that cannot be. */
MUST_CHECK enum errcode
name_inbox(const char *user, struct arena *a, const char **ret,
           struct error *err);
/* NULL for a top level, and for the INBOX of a user. */
const char *
name_parent(const char *internal, struct arena *a);
bool
name_is_inbox(const char *internal);
/* Does the internal form of a LIST pattern match ('*', '%')?  Works on
 * external names with SEP. */
bool
name_match(const char *name, struct span pattern, char sep);
/* "DELETED.NAME.HEX". */
const char *
name_deleted(const char *internal, const char *prefix, uint64_t now_s,
             struct arena *a);

#endif
