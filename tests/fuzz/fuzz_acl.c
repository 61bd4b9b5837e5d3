/*
 * tests/fuzz/fuzz_acl.c - lines: an access list, an identifier, rights.  What
 * a change gives is a list again and grants what was asked.
 */
#include "store/acl.h"

#include <stdlib.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *
next_line(struct span *text)
{
    ptrdiff_t lf = span_find_byte(*text, '\n', 0);
    size_t n = lf < 0 ? text->n : (size_t)lf;
    char *line = span_dup(span_sub(*text, 0, n));

    *text = span_skip(*text, n + 1);
    return line;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_of(data, size);
    char *acl = next_line(&text);
    char *ident = next_line(&text);
    uint32_t rights = 0;
    struct buf out = BUF_INIT;

    (void)acl_rights(acl, NULL);
    uint32_t before = acl_rights(acl, ident);
    if (acl_parse_rights(text, &rights, NULL) == ERR_OK &&
        acl_change(acl, ident, '+', rights, &out, NULL) == ERR_OK) {
        ENSURE((before & ~acl_rights(buf_cstr(&out), ident)) == 0 ||
               ident[0] == '-');
        struct buf back = BUF_INIT;
        ENSURE(acl_change(buf_cstr(&out), ident, '=', 0, &back, NULL) ==
               ERR_OK);
        ENSURE(back.n <= out.n);
        buf_free(&back);
    }
    buf_free(&out);
    free(acl);
    free(ident);
    return 0;
}
