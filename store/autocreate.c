/*
 * store/autocreate.c - one transaction for all that a new user gets, so that a
 * login during a delivery sees all of it or nothing.
 */
#include "store/autocreate.h"

#include "store/partition.h"

void
autocreate_options_from_config(const struct config *cfg,
                               struct autocreate_options *ret)
{
    int64_t quota_kib = config_int(cfg, "autocreate_quota");
    int64_t messages = config_int(cfg, "autocreate_quota_messages");

    *ret = (struct autocreate_options){
        .on_login = quota_kib >= 0,
        .on_post = quota_kib >= 0 && config_switch(cfg, "autocreate_post"),
        .quota_bytes = quota_kib > 0 ? (uint64_t)quota_kib * 1024 : 0,
        .quota_messages = messages > 0 ? (uint64_t)messages : 0,
        .folders = config_list(cfg, "autocreate_inbox_folders"),
        .subscribe = config_list(cfg, "autocreate_subscribe_folders"),
        .partition = config_string(cfg, "defaultpartition"),
    };
    if (ret->partition == NULL)
        ret->partition = "default";
}

static void
add_mailbox(struct store_txn *txn, const char *partition, const char *name)
{
    struct txn_mailbox mb = {
        .name = name, .partition = partition, .exist_ok = true};
    txn_create(txn, &mb);
}

/* "Sent/2024" of the configuration, below INBOX.  NULL if it cannot be. */
static const char *
folder_name(const struct namespace *ns, const char *user, const char *inbox,
            const char *folder, struct arena *a)
{
    struct namespace alt = *ns;
    struct error ignored;
    const char *name = NULL;

    /* As the owner names it where the children of INBOX stand beside it. */
    alt.alt = true;
    if (span_eq_nocase_str(span_str(folder), "INBOX") ||
        name_to_internal(&alt, user, false, span_str(folder), a, &name,
                         &ignored) != ERR_OK ||
        !span_starts(span_str(name), span_str(inbox)))
        return NULL;
    return name;
}

static bool
is_listed(const char *const *list, const char *word)
{
    for (; list != NULL && *list != NULL; list++)
        if (span_eq_str(span_str(*list), word))
            return true;
    return false;
}

enum errcode
autocreate_txn(const struct autocreate_options *options,
               const struct namespace *ns, const char *user,
               struct store_txn **ret, struct error *err)
{
    AUTO(arena_free) struct arena a = ARENA_INIT;
    const char *inbox = NULL;
    const char *partition = options->partitions != NULL
                                ? partition_choose(options->partitions)
                                : options->partition;

    enum errcode rc = name_inbox(user, &a, &inbox, err);
    if (rc != ERR_OK)
        return rc;
    struct store_txn *txn = txn_new();
    const struct span nothing = SPAN_EMPTY;
    add_mailbox(txn, partition, inbox);
    txn_user(txn, user, USER_SUBSCRIPTION, inbox, &nothing);
    if (options->quota_bytes > 0 || options->quota_messages > 0)
        txn_quota(txn, inbox,
                  (uint64_t[QUOTA_RESOURCES]){
                      [QUOTA_STORAGE] = options->quota_bytes > 0
                                            ? options->quota_bytes
                                            : QUOTA_UNLIMITED,
                      [QUOTA_MESSAGE] = options->quota_messages > 0
                                            ? options->quota_messages
                                            : QUOTA_UNLIMITED,
                      [QUOTA_FOLDERS] = QUOTA_UNLIMITED,
                      [QUOTA_ANNOTATION] = QUOTA_UNLIMITED,
                  });
    for (const char *const *f = options->folders; f != NULL && *f != NULL;
         f++) {
        const char *name = folder_name(ns, user, inbox, *f, &a);
        if (name == NULL)
            continue;
        add_mailbox(txn, partition, name);
        if (is_listed(options->subscribe, *f))
            txn_user(txn, user, USER_SUBSCRIPTION, name, &nothing);
    }
    *ret = txn;
    return ERR_OK;
}
