/*
 * lmtpd/deliver.h - the backend of a session that is a store.
 */
#ifndef POLLUX_LMTPD_DELIVER_H
#define POLLUX_LMTPD_DELIVER_H

#include "lmtpd/session.h"

/* What it needs; as long as the session. */
struct lmtp_store {
    const struct lmtpd_options *options;
    struct store *store;
};

/* Takes a struct lmtp_store as its ctx. */
extern const struct lmtp_backend lmtp_store_backend;

#endif
