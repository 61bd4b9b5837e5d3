/*
 * base/env_private.h - what the implementations of struct env share
 * (env.c, env_fault.c, env_sim.c); nobody else includes it.
 *
 * What the wrappers in env.c rely on, beyond the comments of struct env_ops:
 *   - open() gives out a struct envfile made by envfile_init(), which is the
 *     first member of the implementation's own struct; close() ends with
 *     envfile_done() and frees that struct;
 *   - pread() answers 0 only at the end of the file;
 *   - mkdir() answers -EEXIST only where PATH is a directory, -ENOTDIR where it
 *     is something else;
 *   - rename() replaces what TO was;
 *   - every call may be made from any thread.
 */
#ifndef POLLUX_BASE_ENV_PRIVATE_H
#define POLLUX_BASE_ENV_PRIVATE_H

#include "base/env.h"

/* The common part of an open file; constant from open to close. */
struct envfile {
    struct env *env; /* whose ops serve this file */
    char *path;      /* as it was opened, for messages */
};

void
envfile_init(struct envfile *f, struct env *env, const char *path);
void
envfile_done(struct envfile *f);

#endif
