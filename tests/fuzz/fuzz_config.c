/*
 * tests/fuzz/fuzz_config.c - imapd.conf: any bytes give a configuration whose
 * values can all be asked for, and a check that can be printed.
 */
#include "base/config.h"
#include "base/config_check.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
look_at(void *ctx, const char *name, const char *value)
{
    struct buf *to = ctx;

    buf_addf(to, "%s%s", name, value != NULL ? value : "");
}

static void
look_at_override(void *ctx, const struct config_override *o)
{
    struct buf *to = ctx;

    buf_addf(to, "%s%s%u", o->prefix, o->file, o->line);
}

static void
look_at_options(const struct config *cfg, struct buf *to)
{
    size_t n;
    const struct config_option *all = config_options(&n);

    for (size_t i = 0; i < n; i++) {
        const char *text = config_service_string(cfg, "imap", all[i].name);
        if (text != NULL)
            buf_add_str(to, text);
        if (all[i].type == CONFIG_LIST) {
            const char *const *w = config_list(cfg, all[i].name);
            for (; *w != NULL; w++)
                buf_add_str(to, *w);
        }
        if (all[i].type == CONFIG_ENUM)
            buf_add_str(to, all[i].words[config_enum(cfg, all[i].name)]);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(config_free) struct config *cfg = NULL;
    struct error err = {0};
    enum errcode rc = config_parse(span_of(data, size), "f", &cfg, &err);

    if (rc == ERR_LIMIT)
        return 0;
    ENSURE(rc == ERR_OK || rc == ERR_SYNTAX);
    ENSURE(cfg != NULL);

    struct buf to = BUF_INIT;
    look_at_options(cfg, &to);
    config_each(cfg, "", look_at, &to);
    config_each_override(cfg, look_at_override, &to);
    ENSURE(config_check_print(cfg, NULL, &to) == (rc == ERR_OK));
    buf_free(&to);
    return 0;
}
