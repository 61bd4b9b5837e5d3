/*
 * tests/fuzz/fuzz_cyrusconf.c - cyrus.conf: any bytes give entries that are
 * whole, and what the reader took as right has all that an instance needs.
 */
#include "base/config_check.h"
#include "base/cyrusconf.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(cyrusconf_free) struct cyrusconf *conf = NULL;
    struct error err = {0};
    enum errcode rc = cyrusconf_parse(span_of(data, size), "f", &conf, &err);

    if (rc == ERR_LIMIT)
        return 0;
    ENSURE(rc == ERR_OK || rc == ERR_SYNTAX);

    struct buf to = BUF_INIT;
    size_t n;
    const struct cyrusconf_entry *e = cyrusconf_entries(conf, &n);
    for (size_t i = 0; i < n; i++) {
        buf_addf(&to, "%s %s %u", e[i].name, e[i].proto, e[i].line);
        for (size_t w = 0; e[i].argv[w] != NULL; w++)
            buf_add_str(&to, e[i].argv[w]);
        if (rc != ERR_OK)
            continue;
        ENSURE(e[i].cmd != NULL && e[i].argv[0] != NULL);
        ENSURE(e[i].section != CYRUS_SERVICES || e[i].listen != NULL);
        ENSURE(e[i].at_hhmm >= -1 && e[i].at_hhmm <= 2359);
    }
    (void)config_check_print(NULL, conf, &to);
    buf_free(&to);
    return 0;
}
