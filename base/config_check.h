/*
 * base/config_check.h - what master --check-config prints.
 */
#ifndef POLLUX_BASE_CONFIG_CHECK_H
#define POLLUX_BASE_CONFIG_CHECK_H

#include "base/config.h"
#include "base/cyrusconf.h"

/*
 * Append to TO what is to be said about CFG and CONF, either of which may be
 * NULL: errors and warnings as "file:line: error: text", in the order of the
 * files; then, under a heading, what was accepted without effect; last a line
 * that counts.  With both, it is looked at too whether the prefix of each
 * override names a service or a channel, and whether two services listen on the
 * same address.
 *
 * True: an instance can start with it.
 */
bool
config_check_print(const struct config *cfg, const struct cyrusconf *conf,
                   struct buf *to);

#endif
