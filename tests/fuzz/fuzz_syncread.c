/*
 * csync/sync_read.c: the rest of an APPLY MAILBOX or APPLY MESSAGE (first byte:
 * which), fed whole and in pieces of the second byte: the same comes of both,
 * and what is taken is printed and read again to the same.
 */
#include <stdlib.h>

#include "csync/sync_read.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum errcode
on_begin(void *ctx, const struct guid *guid, uint64_t size, struct error *err)
{
    (void)guid;
    (void)err;
    *(uint64_t *)ctx += size;
    return ERR_OK;
}

static enum errcode
on_bytes(void *ctx, struct span bytes, struct error *err)
{
    (void)err;
    ENSURE(*(uint64_t *)ctx >= bytes.n);
    *(uint64_t *)ctx -= bytes.n;
    return ERR_OK;
}

static enum errcode
on_end(void *ctx, struct error *err)
{
    (void)err;
    ENSURE(*(uint64_t *)ctx == 0);
    return ERR_OK;
}

static enum parse
feed(struct sync_reader *r, struct span in, size_t step, size_t *ret_used)
{
    struct error err = {0};
    size_t at = 0, shown = 0;
    enum parse rc = PARSE_MORE;

    while (rc == PARSE_MORE && shown < in.n) {
        size_t used = 0;
        shown = MIN(shown + step, in.n);
        rc = sync_reader_feed(r, span_sub(in, at, shown - at), &used, &err);
        ENSURE(used <= shown - at);
        at += used;
    }
    *ret_used = at;
    return rc;
}

static void
print(const struct sync_mailbox *mb, struct buf *out)
{
    struct dlist_printer p;

    dlist_print_begin(&p, out, DLIST_CLIENT);
    sync_mailbox_print(mb, &p);
    dlist_open_list(&p, "RECORD");
    for (size_t i = 0; i < mb->nrecords; i++) {
        (void)sync_crc_basic(&mb->records[i].m);
        (void)sync_crc_annots(&mb->records[i]);
        sync_record_print(&mb->records[i], &p);
    }
    dlist_close(&p);
    dlist_close(&p);
    buf_add_str(out, "\r\n");
}

/* What was printed reads back, and prints the same. */
static void
check_again(struct sync_reader *r)
{
    AUTO(buf_free) struct buf out = BUF_INIT, again = BUF_INIT;
    bool head_only = false;
    struct sync_mailbox *mb = sync_reader_result(r, &head_only);
    struct error err = {0};
    size_t used = 0;

    if (head_only)
        return;
    enum errcode rc = sync_mailbox_check(mb, 1795303662, &err);
    ENSURE(rc == ERR_OK || rc == ERR_SYNTAX);
    print(mb, &out);
    struct sync_reader *back = sync_reader_mailbox();
    ENSURE(feed(back, span_skip(buf_span(&out), 8), SIZE_MAX / 2, &used) ==
           PARSE_DONE);
    if (sync_reader_code(back, &err) == ERR_OK) {
        print(sync_reader_result(back, &head_only), &again);
        ENSURE(span_eq(buf_span(&out), buf_span(&again)));
    }
    sync_reader_free(&back);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t left[2] = {0};
    struct error err = {0};
    struct sync_reader *r[2];
    size_t used[2];
    enum parse rc[2];

    if (size < 2)
        return 0;
    const struct span in = span_of(data + 2, size - 2);
    for (size_t i = 0; i < 2; i++) {
        r[i] = data[0] % 2 == 0 ? sync_reader_mailbox()
                                : sync_reader_message(&(struct sync_files){
                                      &left[i], on_begin, on_bytes, on_end});
        rc[i] =
            feed(r[i], in, i == 0 ? SIZE_MAX / 2 : data[1] % 64 + 1U, &used[i]);
    }
    ENSURE(rc[0] == rc[1]);
    if (rc[0] == PARSE_DONE) {
        ENSURE(used[0] == used[1]);
        ENSURE(sync_reader_code(r[0], &err) == sync_reader_code(r[1], &err));
        if (data[0] % 2 == 0 && sync_reader_code(r[0], &err) == ERR_OK)
            check_again(r[0]);
    }
    sync_reader_free(&r[0]);
    sync_reader_free(&r[1]);
    return 0;
}
