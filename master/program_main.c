/*
 * master/program_main.c - a tool's environment.
 *
 * Who opens the store writes files in it, which the instance must be able to
 * read: so root becomes the instance's user first, as Cyrus's tools do.
 */
#include "master/program_main.h"

#include <stdlib.h>

#include "master/child.h"
#include "master/user.h"

static enum errcode
become(const struct config *cfg, struct error *err)
{
    struct run_user u;

    enum errcode rc = user_choose(cfg, &u, err);
    return rc == ERR_OK ? user_become(&u, err) : rc;
}

int
program_main(const struct tool_def *def, int argc, char **argv)
{
    struct tool_hooks hooks = {
        .conf = getenv(CHILD_ENV_CONF),
        .is_child = getenv(CHILD_ENV) != NULL,
        .become = become,
    };

    return tool_main(def, argc, argv, &hooks);
}
