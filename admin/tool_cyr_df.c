/*
 * admin/tool_cyr_df.c - cyr_df: how full the file systems of the partitions
 * are.  The store is not asked.
 */
#include "admin/tool.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

static const char usage[] =
    "usage: cyr_df [-C imapd.conf] [-m] [--json]\n"
    "  -m  the directory of log and state, in place of the partitions\n";

struct df {
    struct tool *t;
    const char *family; /* "partition-" */
    bool any, failed;
};

static uint64_t
kib(uint64_t blocks, const struct statvfs *s)
{
    return (uint64_t)((double)blocks * (double)s->f_frsize / 1024);
}

static void
print_place(struct df *d, const char *name, const char *path)
{
    struct statvfs s;
    FILE *f = d->t->out;

    if (statvfs(path, &s) != 0) {
        d->failed = true;
        (void)tool_say(d->t, 0, "%s: %s", path, strerror(errno));
        return;
    }
    uint64_t all = kib(s.f_blocks, &s);
    uint64_t used = kib(s.f_blocks - s.f_bfree, &s);
    uint64_t free_kib = kib(s.f_bavail, &s);
    /* As df(1): of what users may have. */
    unsigned percent = used + free_kib == 0
                           ? 0
                           : (unsigned)((used * 100 + used + free_kib - 1) /
                                        (used + free_kib));
    if (d->t->json) {
        fputs(d->any ? ",\n" : "[\n", f);
        fputs("{\"partition\": ", f);
        tool_json_string(f, span_str(name));
        fprintf(f,
                ", \"kib\": %" PRIu64 ", \"used\": %" PRIu64
                ", \"available\": %" PRIu64 ", \"percent\": %u, \"location\": ",
                all, used, free_kib, percent);
        tool_json_string(f, span_str(path));
        fputc('}', f);
    } else {
        if (!d->any)
            fputs("Partition       1k-blocks         Used    Available Use% "
                  "Location\n",
                  f);
        fprintf(f, "%-12s %12" PRIu64 " %12" PRIu64 " %12" PRIu64 " %3u%% %s\n",
                name, all, used, free_kib, percent, path);
    }
    d->any = true;
}

static void
print_partition(void *ctx, const char *name, const char *path)
{
    struct df *d = ctx;

    print_place(d, name + strlen(d->family), path);
}

static void
print_archive(void *ctx, const char *name, const char *path)
{
    struct df *d = ctx;
    AUTO(xfree)
    char *shown = xasprintf("%s/archive", name + strlen(d->family));

    print_place(d, shown, path);
}

static int
run(struct tool *t, int argc, char **argv)
{
    struct df d = {.t = t};
    bool meta = false;
    int c;

    while ((c = tool_option(t, argc, argv, "m", "", NULL)) != -1) {
        if (c != 'm')
            return tool_end_options(t);
        meta = true;
    }
    if (optind != argc)
        return tool_usage(t, "only options are possible");
    int code = tool_begin(t);
    if (code != TOOL_OK)
        return code;
    if (meta) {
        print_place(&d, "state", config_string(t->cfg, "configdirectory"));
    } else {
        d.family = "partition-";
        config_each(t->cfg, d.family, print_partition, &d);
        d.family = "archivepartition-";
        config_each(t->cfg, d.family, print_archive, &d);
    }
    if (t->json)
        fputs(d.any ? "\n]\n" : "[]\n", t->out);
    return d.failed ? TOOL_IO : TOOL_OK;
}

const struct tool_def tool_cyr_df = {"cyr_df", usage, run};
