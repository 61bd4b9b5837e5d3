/*
 * lmtpd/options.c - imapd.conf becomes struct lmtpd_options.
 */
#include "lmtpd/lmtpd.h"

#include <unistd.h>

#include "base/config.h"
#include "store/autocreate.h"
#include "store/partition.h"
#include "store/record.h"

/* RFC 5321, 4.5.3.1.8 asks for 100 at least. */
#define RECIPIENTS_MAX 1000U
#define BAD_COMMANDS_MAX 20U
/* RFC 5321, 4.5.3.2.7: at least 5 minutes; an MTA keeps connections open
 * between messages. */
#define IDLE_MS (5U * 60U * 1000U)
/* Our own header lines have room in it. */
#define MESSAGE_BYTES_MAX                                                      \
    ((uint64_t)BODY_PARTS_MAX * BODY_PART_BYTES - (64U << 10))

static const char *
host_name(struct arena *a)
{
    char name[256] = "localhost";

    if (gethostname(name, sizeof(name) - 1) != 0)
        return "localhost";
    return arena_str(a, span_str(name));
}

static uint64_t
message_bytes_max(const struct config *cfg, const char *service)
{
    uint64_t max = config_service_bytes(cfg, service, "maxmessagesize");

    return max == 0 || max > MESSAGE_BYTES_MAX ? MESSAGE_BYTES_MAX : max;
}

enum errcode
lmtpd_options_from_config(const struct config *cfg, struct env *env,
                          struct store *const *store,
                          const struct lmtpd_listener *listener,
                          struct arena *a, struct lmtpd_options *ret,
                          struct error *err)
{
    static const struct lmtpd_listener none;
    const struct lmtpd_listener *l = listener != NULL ? listener : &none;
    /* "lmtp_admins" is for the service lmtp, and for those with other names
     * that have no admins of their own. */
    const char *service = l->service != NULL ? l->service : "lmtp";
    const char *const *admins = config_service_list(cfg, service, "admins");
    const char *name = config_string(cfg, "servername");
    const char *postuser = config_string(cfg, "postuser");
    struct autocreate_options *autocreate = arena_alloc(a, sizeof(*autocreate));

    (void)err;
    if (admins == config_list(cfg, "admins"))
        admins = config_service_list(cfg, "lmtp", "admins");
    autocreate_options_from_config(cfg, autocreate);
    autocreate->partitions = partitions_from_config(env, cfg, a);
    *ret = (struct lmtpd_options){
        .cfg = cfg,
        .env = env,
        .store = store,
        .servername = name != NULL ? name : host_name(a),
        .ns = {.sep = config_switch(cfg, "unixhierarchysep") ? '/' : '.',
               .alt = config_switch(cfg, "altnamespace"),
               .user_prefix = config_string(cfg, "userprefix"),
               .shared_prefix = config_string(cfg, "sharedprefix")},
        .admins = admins,
        .tls = l->tls,
        .starttls = l->tls != NULL && !l->implicit_tls,
        .preauth = l->preauth,
        .allow_plain = config_service_switch(cfg, service, "allowplaintext"),
        .user_tolower = config_switch(cfg, "username_tolower"),
        .downcase_rcpt = config_switch(cfg, "lmtp_downcase_rcpt"),
        .postuser = postuser != NULL ? postuser : "",
        .dedup = config_switch(cfg, "duplicatesuppression"),
        .over_quota_permanent =
            config_switch(cfg, "lmtp_over_quota_perm_failure"),
        .soft_noauth = config_switch(cfg, "soft_noauth"),
        .autocreate = autocreate,
        .idle_timeout_ms = IDLE_MS,
        .message_bytes_max = message_bytes_max(cfg, service),
        .recipients_max = RECIPIENTS_MAX,
        .bad_commands_max = BAD_COMMANDS_MAX,
    };
    return ERR_OK;
}
