/*
 * store/autocreate.h - a new user's INBOX and folders, made at the first login
 * (imapd) or the first delivery (lmtpd), as Cyrus does by the options
 * autocreate_*.
 */
#ifndef POLLUX_STORE_AUTOCREATE_H
#define POLLUX_STORE_AUTOCREATE_H

#include "base/config.h"
#include "store/names.h"
#include "store/txn.h"

/* Strings and lists live as long as the configuration. */
struct autocreate_options {
    bool on_login;                /* autocreate_quota is 0 or more */
    bool on_post;                 /* and autocreate_post is on */
    uint64_t quota_bytes;         /* 0: no limit is set */
    uint64_t quota_messages;      /* 0: no limit is set */
    const char *const *folders;   /* below INBOX, with the namespace's
                                     separators; NULL-terminated or NULL */
    const char *const *subscribe; /* those of `folders` */
    const char *partition;
    struct partitions *partitions; /* filled in by the caller: to choose from;
                                      NULL: `partition` */
};

void
autocreate_options_from_config(const struct config *cfg,
                               struct autocreate_options *ret);

/*
 * A transaction that makes USER's INBOX, its folders, their subscriptions and
 * the quota; what is there already is left as it is.  Submit it and free it as
 * any other; the caller looks before whether there is an INBOX.  Folders with
 * impossible names are left out.  ERR_BADNAME for users that cannot have a
 * mailbox.
 */
MUST_CHECK enum errcode
autocreate_txn(const struct autocreate_options *options,
               const struct namespace *ns, const char *user,
               struct store_txn **ret, struct error *err);

#endif
