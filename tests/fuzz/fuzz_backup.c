/*
 * tests/fuzz/fuzz_backup.c - what a backup's directory may hold: a manifest,
 * the header of a file, frames with rows or entries of the index.  The first
 * byte says which.
 */
#include "admin/backup_format.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A good manifest is written as it was read. */
static void
manifest(struct span in)
{
    struct arena a = ARENA_INIT;
    struct buf out = BUF_INIT;
    struct backup_manifest m;

    if (backup_manifest_decode(in, &a, &m, NULL) == ERR_OK) {
        ENSURE(m.nfiles <= BACKUP_FILES_MAX && m.generation != 0);
        backup_manifest_encode(&m, &out);
        ENSURE(span_eq(buf_span(&out), in));
    }
    buf_free(&out);
    arena_free(&a);
}

static void
head(struct span in)
{
    struct backup_head h;
    uint8_t out[BACKUP_HEAD_BYTES];

    if (backup_head_decode(in, &h, NULL) == ERR_OK) {
        ENSURE(h.kind == BACKUP_ROWS || h.kind == BACKUP_INDEX);
        backup_head_encode(&h, out);
    }
}

static void
frames(struct span in)
{
    struct span payload;
    size_t used = 0;

    while (backup_frame_decode(in, &payload, &used) == PARSE_DONE) {
        struct backup_entry e = {{{0}}, 0, 0, 0, 0};
        struct rd r = rd_init(payload);
        ENSURE(payload.n > 0 && payload.n <= BACKUP_PAYLOAD_MAX);
        ENSURE(used == BACKUP_FRAME_BYTES + payload.n && used <= in.n);
        while (r.left.n > 0 && !r.bad)
            backup_entry_read(&r, &e);
        in = span_skip(in, used);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct span in = span_of(data + 1, size - 1);

    if (data[0] == 'm')
        manifest(in);
    else if (data[0] == 'h')
        head(in);
    else
        frames(in);
    return 0;
}
