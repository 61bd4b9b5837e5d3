/*
 * tests/fuzz/fuzz_names.c - names as clients send them, and LIST patterns.
 * First byte: which kind of reader; then a name, optionally LF and a pattern.
 */
#include "store/names.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const struct namespace ns = {.sep = (data[0] & 1) != 0 ? '/' : '.',
                                 .alt = (data[0] & 2) != 0,
                                 .user_prefix = "Other Users",
                                 .shared_prefix = "Shared Folders"};
    bool is_admin = (data[0] & 4) != 0;
    struct span text = span_of(data + 1, size - 1);
    ptrdiff_t lf = span_find_byte(text, '\n', 0);
    struct span name = lf < 0 ? text : span_sub(text, 0, (size_t)lf);
    struct arena a = ARENA_INIT;
    const char *internal = NULL;

    if (name_to_internal(&ns, "john", is_admin, name, &a, &internal, NULL) ==
        ERR_OK) {
        const char *again = NULL;
        ENSURE(name_check(internal, NULL) == ERR_OK);
        const char *shown =
            name_to_external(&ns, "john", is_admin, internal, &a);
        ENSURE(name_to_internal(&ns, "john", is_admin, span_str(shown), &a,
                                &again, NULL) == ERR_OK);
        ENSURE(strcmp(internal, again) == 0);
        (void)name_owner(internal, &a);
        (void)name_parent(internal, &a);
        if (lf >= 0 && text.n < 4096)
            (void)name_match(shown, span_skip(text, (size_t)lf + 1), ns.sep);
        ENSURE(name_match(shown, SPAN_LIT("*"), ns.sep));
    }
    arena_free(&a);
    return 0;
}
