/*
 * failover/storage.c - partitions and compaction out of imapd.conf.
 */
#include "failover/storage.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

/* Of the file system of configdirectory, where log_keep_bytes is not set. */
#define KEEP_SHARE 20U

struct walk {
    const struct config *cfg;
    struct arena *arena;
    struct store_partition *v;
    size_t n;
};

static void
add_partition(void *ctx, const char *option, const char *value)
{
    struct walk *w = ctx;
    const char *name = option + strlen("partition-");
    AUTO(xfree) char *archive = xasprintf("archivepartition-%s", name);
    const char *path = config_free_form(w->cfg, archive);

    w->v = xrealloc(w->v, (w->n + 1) * sizeof(*w->v));
    w->v[w->n++] = (struct store_partition){
        .name = arena_str(w->arena, span_str(name)),
        .path = arena_str(w->arena, span_str(value)),
        .archive_path =
            path == NULL ? NULL : arena_str(w->arena, span_str(path)),
    };
}

/* Where bodies go whose mailbox says nothing better. */
static const char *
default_name(const struct walk *w, struct arena *a)
{
    const char *name = config_string(w->cfg, "defaultpartition");

    if (name != NULL)
        return arena_str(a, span_str(name));
    for (size_t i = 0; i < w->n; i++)
        if (strcmp(w->v[i].name, "default") == 0)
            return "default";
    return w->n > 0 ? w->v[0].name : "default";
}

static uint64_t
log_keep(const struct config *cfg)
{
    const uint64_t keep = config_bytes(cfg, "log_keep_bytes");
    struct statvfs fs;

    if (config_is_set(cfg, "log_keep_bytes") ||
        statvfs(config_string(cfg, "configdirectory"), &fs) != 0)
        return keep;
    return MIN(keep, (uint64_t)fs.f_blocks * fs.f_frsize / KEEP_SHARE);
}

void
storage_from_config(const struct config *cfg, struct arena *a,
                    struct store_config *ret)
{
    struct walk w = {.cfg = cfg, .arena = a};

    config_each(cfg, "partition-", add_partition, &w);
    ret->default_partition = default_name(&w, a);
    if (w.n == 0) {
        w.v = xcalloc(1, sizeof(*w.v));
        w.v[w.n++] = (struct store_partition){
            .name = ret->default_partition,
            .path =
                arena_str(a, span_str(config_string(cfg, "configdirectory"))),
        };
    }
    struct store_partition *kept = arena_array(a, w.n, sizeof(*kept));
    memcpy(kept, w.v, w.n * sizeof(*kept));
    free(w.v);
    ret->partitions = kept;
    ret->npartitions = w.n;
    ret->compress = (enum body_compress)config_enum(cfg, "log_compress");
    ret->compaction = (struct store_compaction){
        .log_keep_bytes = log_keep(cfg),
        .rate_bytes = config_bytes(cfg, "compact_rate"),
        .dead_percent = (unsigned)config_int(cfg, "compact_dead_percent"),
        .archive = config_switch(cfg, "archive_enabled"),
        .archive_keepflagged = config_switch(cfg, "archive_keepflagged"),
        .archive_maxsize = config_bytes(cfg, "archive_maxsize"),
    };
}
