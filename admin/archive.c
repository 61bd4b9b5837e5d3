/*
 * admin/archive.c - ARCHIVE: bodies of old mail to the archive of their
 * partition, and back (cyr_expire -A).
 *
 * Where a body lies is this instance's own business: nothing of it is logged,
 * and a replica has its own.
 */
#include "admin/ask.h"

#include "store/compact.h"

struct mover {
    struct ask *ask;
    struct error err;
};

static bool
on_progress(void *ctx, const struct archive_result *so_far)
{
    struct mover *m = ctx;

    return ask_progress(m->ask, so_far->messages, 0, &m->err) == ERR_OK &&
           m->ask->answer->pause(m->ask->answer->ctx, 0);
}

/* AGE in seconds; PREFIX or USER. */
enum errcode
admin_archive(struct ask *ask, struct error *err)
{
    struct mover m = {.ask = ask};
    struct archive_rule rule = {
        .larger_bytes = config_bytes(ask->cfg, "archive_maxsize"),
        .keep_flagged = config_switch(ask->cfg, "archive_keepflagged"),
    };
    struct archive_result result = {0};
    const char *prefix = ask_text(ask, "PREFIX");
    const char *user = ask_text(ask, "USER");
    const char *internal = "";
    bool enabled = config_switch(ask->cfg, "archive_enabled");
    enum errcode rc = ask_u64(ask, "AGE", &rule.older_s, err);

    if (rc == ERR_OK && user != NULL)
        rc = name_inbox(user, &ask->arena, &internal, err);
    else if (prefix != NULL)
        internal = ask_prefix(ask, span_str(prefix));
    /* 0 would mean: none for its age. */
    rule.older_s = MAX(rule.older_s, (uint64_t)1);
    if (rc == ERR_OK && enabled)
        rc = store_archive(ask->store, &rule,
                           (int64_t)(env_wall_us(ask->env) / 1000000), internal,
                           on_progress, &m, &result, err);
    if (rc != ERR_OK)
        return rc;
    struct dlist_printer *p = ask_row(ask, "ARCHIVED");
    dlist_u64(p, "ENABLED", enabled ? 1 : 0);
    dlist_u64(p, "MESSAGES", result.messages);
    dlist_u64(p, "MOVED", result.moved);
    dlist_u64(p, "BYTES", result.bytes);
    return ask_row_end(ask, err);
}
