/* tests/fuzz/fuzz_dlist.c - any bytes as a dlist; what parses is printed and
 * must parse again to the same text. */
#include <stdint.h>
#include <stdlib.h>

#include "base/macros.h"
#include "csync/dlist.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
print(struct dlist_printer *p, const struct dlist *d, bool named)
{
    char *name = named ? span_dup(d->name) : NULL;

    switch (d->type) {
    case DLIST_NIL:
        dlist_nil(p, name);
        break;
    case DLIST_ATOM:
        dlist_span(p, name, d->text);
        break;
    case DLIST_LIST:
    case DLIST_KVLIST:
        if (d->type == DLIST_LIST)
            dlist_open_list(p, name);
        else
            dlist_open_kv(p, name);
        for (const struct dlist *c = d->child; c != NULL; c = c->next)
            print(p, c, d->type == DLIST_KVLIST);
        dlist_close(p);
        break;
    case DLIST_FILE:
        dlist_guid(p, name, &d->guid);
        break;
    }
    free(name);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a = ARENA_INIT;
    struct dlist *d = NULL;
    struct error err = {0};
    size_t used = 0;
    struct buf once = BUF_INIT;
    struct buf twice = BUF_INIT;
    struct dlist_printer p;

    if (dlist_parse(span_of(data, size), &dlist_default_limits, &a, &d, &used,
                    &err) == PARSE_DONE) {
        ENSURE(used <= size);
        dlist_print_begin(&p, &once, DLIST_CLIENT);
        print(&p, d, true);
        buf_add_str(&once, "\r\n");
        ENSURE(dlist_parse(buf_span(&once), &dlist_default_limits, &a, &d,
                           &used, &err) == PARSE_DONE);
        dlist_print_begin(&p, &twice, DLIST_CLIENT);
        print(&p, d, true);
        buf_add_str(&twice, "\r\n");
        ENSURE(span_eq(buf_span(&once), buf_span(&twice)));
    }
    buf_free(&once);
    buf_free(&twice);
    arena_free(&a);
    return 0;
}
