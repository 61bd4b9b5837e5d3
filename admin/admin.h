/*
 * admin/admin.h - what the tools ask of a store: one handler, two ways in.
 *
 * A tool talks to the running instance over its control socket ("ADMIN VERB
 * %(...)", csync/request.c); where none runs it opens the store itself and asks
 * the same handler (admin/tool.h).  Both come here.
 *
 * A request is a verb with named arguments.  Its answer is a number of rows
 * "* NAME %(...)", among them now and then "* PROGRESS %(DONE n TOTAL n)", and
 * at the end a code.  What the verbs take and say stands in admin/README.md.
 */
#ifndef POLLUX_ADMIN_ADMIN_H
#define POLLUX_ADMIN_ADMIN_H

#include "base/config.h"
#include "csync/server.h"
#include "failover/node.h"

struct search_index;

/* On what a request runs; lives as long as requests may come. */
struct admin_host {
    struct env *env;
    const struct config *cfg;
    struct node *node;
    /* The index of the instance, which may be waited for; ERR says why there is
     * none.  NULL: no instance. */
    enum errcode (*index)(void *ctx, struct search_index **ret,
                          struct error *err);
    void *index_ctx;
    struct store_opened found; /* when the store was opened */
    bool is_live; /* clients are served beside it: requests hold back */
};

/*
 * Answer one request, on the thread that it came on, which may take long.
 * Errors: ERR_PROTO (no such verb), ERR_SYNTAX (arguments), ERR_READONLY and
 * ERR_FENCED (a verb that changes something, on an instance that may not),
 * ERR_CLOSED (nobody waits for the answer any more), and what the verb says.
 * What was changed before an error stays changed.
 */
enum errcode
admin_run(const struct admin_host *host, struct span verb,
          const struct dlist *args, const struct csync_answer *answer,
          struct error *err);

/* For csync_server_options.admin; HOST stays the caller's. */
void
admin_csync(struct admin_host *host, struct csync_admin *ret);

#endif
