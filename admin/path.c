/*
 * admin/path.c - PATH: where the mail of a mailbox lies (mbpath).
 *
 * There is no directory for each mailbox: bodies lie in the log and in the
 * packs of the mailbox's partition, everything else in the state.  So what is
 * told is the directory of the partition, and the mailbox's number and
 * UNIQUEID, by which it is known in both.
 */
#include "admin/ask.h"

static const char *
partition_path(struct ask *ask, const char *family, const char *name)
{
    if (name[0] == '\0') {
        name = config_string(ask->cfg, "defaultpartition");
        name = name == NULL ? "default" : name;
    }
    const char *path = config_free_form(
        ask->cfg, arena_printf(&ask->arena, "%s-%s", family, name));
    return path == NULL ? "" : path;
}

static enum errcode
path_of(struct ask *ask, struct store_snap *snap, struct span external,
        bool is_user, struct error *err)
{
    const char *name = NULL;
    const char *dir = config_string(ask->cfg, "configdirectory");
    struct mailbox mb;
    enum errcode rc;

    if (is_user)
        rc = name_inbox(arena_str(&ask->arena, external), &ask->arena, &name,
                        err);
    else
        rc = ask_internal(ask, external, &ask->arena, &name, err);
    if (rc == ERR_OK)
        rc = snap_mailbox_by_name(snap, name, &ask->arena, &mb, err);
    if (rc == ERR_NOTFOUND)
        return error_set(err, rc, "%.*s: there is no such mailbox",
                         SPAN_FMT(span_sub(external, 0, 300)));
    if (rc != ERR_OK)
        return rc;
    struct dlist_printer *p = ask_row(ask, "PATH");
    dlist_str(p, "NAME", mb.name);
    dlist_str(p, "UNIQUEID", mb.uniqueid.s);
    dlist_u64(p, "NUMBER", mb.id);
    dlist_str(p, "PARTITION", mb.partition);
    dlist_str(p, "DATA", partition_path(ask, "partition", mb.partition));
    dlist_str(p, "ARCHIVE",
              partition_path(ask, "archivepartition", mb.partition));
    dlist_str(p, "META", arena_printf(&ask->arena, "%s/state", dir));
    dlist_str(p, "LOG", arena_printf(&ask->arena, "%s/synclog", dir));
    return ask_row_end(ask, err);
}

/* NAMES, or with USERS users; one that is not there is a row FAILED, and with
 * STOP the end. */
enum errcode
admin_path(struct ask *ask, struct error *err)
{
    AUTO(store_release) struct store_snap *snap = store_snapshot(ask->store);
    bool is_user = ask_flag(ask, "USERS");
    enum errcode rc = ERR_OK;

    for (const struct dlist *d = ask_list(ask, "NAMES");
         rc == ERR_OK && d != NULL; d = d->next) {
        struct error why = {0};
        rc = path_of(ask, snap, d->text, is_user, &why);
        if (rc != ERR_NOTFOUND && rc != ERR_BADNAME) {
            if (rc != ERR_OK && err != NULL)
                *err = why;
            continue;
        }
        struct dlist_printer *p = ask_row(ask, "FAILED");
        dlist_span(p, "NAME", d->text);
        dlist_str(p, "TEXT", why.text);
        rc = ask_row_end(ask, err);
        if (rc == ERR_OK && ask_flag(ask, "STOP"))
            break;
    }
    return rc;
}
