/*
 * master/programs.c - a table of names.
 *
 * A program that is in the table and yet lies beside us or in PATH is run as a
 * child all the same: the table only says what its absence means.  Not so our
 * own tools: a Cyrus's that lies at the path of the line would look for
 * databases that are not there.
 */
#include "master/programs.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct program services[] = {
    {"imapd", PROGRAM_HOSTED, SERVICE_IMAP, NULL},
    {"lmtpd", PROGRAM_HOSTED, SERVICE_LMTP, NULL},
    {"sync_server", PROGRAM_HOSTED, SERVICE_SYNC, NULL},
    {"backupd", PROGRAM_NOT_YET, 0, NULL},
    {"fud", PROGRAM_NO_SENSE, 0, "nobody asks for FUD any more"},
    {"httpd", PROGRAM_NOT_YET, 0, NULL},
    {"idled", PROGRAM_NO_SENSE, 0, "IDLE is told of changes by the store"},
    {"lmtpproxyd", PROGRAM_NOT_YET, 0, NULL},
    {"mupdate", PROGRAM_NOT_YET, 0, NULL},
    {"nntpd", PROGRAM_NOT_YET, 0, NULL},
    {"notifyd", PROGRAM_NO_SENSE, 0, "there is no notification socket"},
    {"pop3d", PROGRAM_NOT_YET, 0, NULL},
    {"pop3proxyd", PROGRAM_NOT_YET, 0, NULL},
    {"proxyd", PROGRAM_NOT_YET, 0, NULL},
    {"ptloader", PROGRAM_NO_SENSE, 0, "groups are not asked of a daemon"},
    {"smmapd", PROGRAM_NOT_YET, 0, NULL},
    {"timsieved", PROGRAM_NOT_YET, 0, NULL},
};

static const struct program children[] = {
    {"arbitron", PROGRAM_NOT_YET, 0, NULL},
    {"chk_cyrus", PROGRAM_NOT_YET, 0, NULL},
    {"calalarmd", PROGRAM_NOT_YET, 0, NULL},
    {"ctl_backups", PROGRAM_NOT_YET, 0, NULL},
    {"ctl_conversationsdb", PROGRAM_NOT_YET, 0, NULL},
    {"ctl_cyrusdb", PROGRAM_TOOL, 0, NULL},
    {"ctl_deliver", PROGRAM_TOOL, 0, NULL},
    {"ctl_mboxlist", PROGRAM_TOOL, 0, NULL},
    {"ctl_zoneinfo", PROGRAM_NOT_YET, 0, NULL},
    {"cvt_cyrusdb", PROGRAM_NO_SENSE, 0, "there are no databases to convert"},
    {"cyr_backup", PROGRAM_NOT_YET, 0, NULL},
    {"cyr_dbtool", PROGRAM_NO_SENSE, 0, "there are no databases of that kind"},
    {"cyr_df", PROGRAM_TOOL, 0, NULL},
    {"cyr_expire", PROGRAM_TOOL, 0, NULL},
    {"cyr_info", PROGRAM_TOOL, 0, NULL},
    {"cyr_synclog", PROGRAM_NO_SENSE, 0, "every change is in the log already"},
    {"deliver", PROGRAM_NOT_YET, 0, NULL},
    {"fetchnews", PROGRAM_NOT_YET, 0, NULL},
    {"idled", PROGRAM_NO_SENSE, 0, "IDLE is told of changes by the store"},
    {"ipurge", PROGRAM_NOT_YET, 0, NULL},
    {"mbexamine", PROGRAM_TOOL, 0, NULL},
    {"mbpath", PROGRAM_TOOL, 0, NULL},
    {"notifyd", PROGRAM_NO_SENSE, 0, "there is no notification socket"},
    {"promstatsd", PROGRAM_NO_SENSE, 0, "the instance counts by itself"},
    {"ptexpire", PROGRAM_NO_SENSE, 0, "there is no cache of groups"},
    {"ptloader", PROGRAM_NO_SENSE, 0, "groups are not asked of a daemon"},
    {"quota", PROGRAM_TOOL, 0, NULL},
    {"reconstruct", PROGRAM_TOOL, 0, NULL},
    {"squatter", PROGRAM_TOOL, 0, NULL},
    {"tls_prune", PROGRAM_NO_SENSE, 0, "TLS sessions are not kept on disk"},
    {"unexpunge", PROGRAM_TOOL, 0, NULL},
};

static const char *
last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

struct program
program_known(const char *path, bool is_service)
{
    const char *name = last_part(path);
    const struct program *table = is_service ? services : children;
    size_t n = is_service ? ARRAY_LEN(services) : ARRAY_LEN(children);

    for (size_t i = 0; i < n; i++)
        if (strcmp(table[i].name, name) == 0)
            return table[i];
    return (struct program){.name = name, .fate = PROGRAM_UNKNOWN};
}

const char *
program_dispatched(const char *word, const char *name)
{
    static const char *const prefixes[] = {"", "cyr_", "ctl_"};

    if (strcmp(last_part(word), "cyrus") != 0 || name == NULL)
        return NULL;
    for (size_t p = 0; p < ARRAY_LEN(prefixes); p++)
        for (size_t i = 0; i < ARRAY_LEN(children); i++) {
            size_t n = strlen(prefixes[p]);
            if (strncmp(children[i].name, prefixes[p], n) == 0 &&
                strcmp(children[i].name + n, name) == 0)
                return children[i].name;
        }
    return NULL;
}

static bool
can_run(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           access(path, X_OK) == 0;
}

const char *
program_find(const char *word, const char *exe_dir, const char *path,
             struct arena *a)
{
    if (strchr(word, '/') != NULL && can_run(word))
        return arena_str(a, span_str(word));
    const char *beside = arena_printf(a, "%s/%s", exe_dir, last_part(word));
    if (can_run(beside))
        return beside;
    if (strchr(word, '/') != NULL || path == NULL)
        return NULL;
    for (struct span rest = span_str(path);;) {
        ptrdiff_t colon = span_find_byte(rest, ':', 0);
        struct span dir = colon < 0 ? rest : span_sub(rest, 0, (size_t)colon);
        if (dir.n > 0) {
            const char *at = arena_printf(a, "%.*s/%s", SPAN_FMT(dir), word);
            if (can_run(at))
                return at;
        }
        if (colon < 0)
            return NULL;
        rest = span_skip(rest, (size_t)colon + 1);
    }
}
