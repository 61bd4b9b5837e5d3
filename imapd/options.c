/*
 * imapd/options.c - imapd.conf becomes struct imapd_options.
 */
#include "imapd/imapd.h"

#include "store/acl.h"
#include "store/partition.h"

#include <unistd.h>

/* A line holds the sequence set of a client that names single UIDs. */
/* Words of delete_mode in base/config_options.c. */
enum { DELETE_IMMEDIATE, DELETE_DELAYED };

#define LINE_BYTES 131072U
/* RFC 7888, 4: how much of an unwanted {n+} is read before we hang up. */
#define SWALLOW_BYTES (64U << 20)
/* RFC 9585, 3 */
#define PROGRESS_MS 10000U
#define MESSAGE_BYTES_MAX ((uint64_t)BODY_PARTS_MAX * BODY_PART_BYTES - 1)

static const char *
host_name(struct arena *a)
{
    char name[256] = "localhost";

    if (gethostname(name, sizeof(name) - 1) != 0)
        return "localhost";
    return arena_str(a, span_str(name));
}

/* "anyone lrs fred all" becomes the store's form. */
static enum errcode
parse_acl(const char *text, struct arena *a, const char **ret,
          struct error *err)
{
    AUTO(buf_free) struct buf acl = BUF_INIT;
    struct span left = span_trim(span_str(text));

    while (left.n > 0) {
        struct span word[2];
        for (int i = 0; i < 2; i++) {
            ptrdiff_t sp = span_find_byte(left, ' ', 0);
            word[i] = sp < 0 ? left : span_sub(left, 0, (size_t)sp);
            left = span_trim(span_skip(left, word[i].n));
        }
        uint32_t rights = 0;
        AUTO(buf_free) struct buf next = BUF_INIT;
        enum errcode rc = acl_parse_rights(word[1], &rights, err);
        if (rc == ERR_OK)
            rc = acl_change(buf_cstr(&acl), arena_str(a, word[0]), '=', rights,
                            &next, err);
        if (rc != ERR_OK) {
            error_prefix(err, "defaultacl");
            return ERR_SYNTAX;
        }
        buf_clear(&acl);
        buf_add(&acl, buf_span(&next));
    }
    *ret = arena_str(a, buf_span(&acl));
    return ERR_OK;
}

static void
set_limits(const struct config *cfg, struct imapd_options *o)
{
    uint64_t literal = config_bytes(cfg, "maxliteral");

    o->message_bytes_max = config_bytes(cfg, "maxmessagesize");
    if (o->message_bytes_max == 0 || o->message_bytes_max > MESSAGE_BYTES_MAX)
        o->message_bytes_max = MESSAGE_BYTES_MAX;
    o->line_bytes_max = LINE_BYTES;
    if (literal == 0 || literal > (16U << 20))
        literal = 16U << 20;
    o->command_bytes_max = LINE_BYTES + (size_t)literal;
    o->swallow_bytes_max = SWALLOW_BYTES;
    o->bad_commands_max = 10;
}

enum errcode
imapd_options_from_config(const struct config *cfg, struct env *env,
                          struct store *const *store, struct tls_context *tls,
                          bool implicit, struct arena *a,
                          struct imapd_options *ret, struct error *err)
{
    const char *name = config_string(cfg, "servername");
    const char *partition = config_string(cfg, "defaultpartition");
    struct imapd_options o = {
        .cfg = cfg,
        .env = env,
        .store = store,
        .servername = name != NULL ? name : host_name(a),
        .ns = {.sep = config_switch(cfg, "unixhierarchysep") ? '/' : '.',
               .alt = config_switch(cfg, "altnamespace"),
               .user_prefix = config_string(cfg, "userprefix"),
               .shared_prefix = config_string(cfg, "sharedprefix")},
        .admins = config_list(cfg, "admins"),
        .proxyservers = config_list(cfg, "proxyservers"),
        .tls = tls,
        .starttls = tls != NULL && !implicit,
        .allow_plain = config_switch(cfg, "allowplaintext"),
        .user_tolower = config_switch(cfg, "username_tolower"),
        .subscribe_all = config_switch(cfg, "allowallsubscribe"),
        .delete_delayed = config_enum(cfg, "delete_mode") == DELETE_DELAYED,
        .deleted_prefix = config_string(cfg, "deletedprefix"),
        .partition = partition != NULL ? partition : "default",
        .login_timeout_ms = config_duration_s(cfg, "login_timeout") * 1000,
        .idle_timeout_ms = config_duration_s(cfg, "timeout") * 1000,
        .idle_cmd_timeout_ms = config_duration_s(cfg, "imapidletimeout") * 1000,
    };

    o.progress_ms = PROGRESS_MS;
    o.message_limit = (uint32_t)config_int(cfg, "imap_message_limit");
    o.partitions = partitions_from_config(env, cfg, a);
    autocreate_options_from_config(cfg, &o.autocreate);
    o.autocreate.partitions = o.partitions;
    set_limits(cfg, &o);
    enum errcode rc =
        parse_acl(config_string(cfg, "defaultacl"), a, &o.default_acl, err);
    if (rc == ERR_OK)
        *ret = o;
    return rc;
}
