/*
 * tests/fuzz/fuzz_imap.c - bytes of an IMAP client through reader and parser.
 * The first byte says in pieces of how many bytes they come; whatever they are,
 * the text stays within its limit and what is parsed lies within the text.
 */
#include "imapd/parse.h"
#include "imapd/reader.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
parse_text(struct span text)
{
    struct arena a = ARENA_INIT;
    struct imap_command cmd;
    const char *why;

    enum imap_parsed parsed = imap_parse(text, &a, &cmd, &why);
    ENSURE((parsed == IMAP_PARSE_BAD) == (why != NULL));
    ENSURE(cmd.tag.n <= IMAP_TAG_MAX);
    ENSURE(parsed != IMAP_PARSED || cmd.cmd < CMD_COUNT);
    arena_free(&a);
}

static void
decide(struct imap_reader *r)
{
    struct arena a = ARENA_INIT;
    struct imap_command head;

    if (imap_parse_append_head(buf_span(&r->text), &a, &head)) {
        if (head.literal_bytes < 1000)
            imap_reader_stream(r);
        else
            imap_reader_refuse(r);
    } else if (!imap_reader_keep(r)) {
        imap_reader_refuse(r);
    }
    arena_free(&a);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct imap_reader_limits limits = {.line_bytes = 2000,
                                              .command_bytes = 4000};
    struct imap_reader r;
    struct buf pending = BUF_INIT;

    if (size == 0)
        return 0;
    size_t piece = data[0] == 0 ? size : data[0];
    struct span in = span_of(data + 1, size - 1);
    imap_reader_init(&r, &limits);
    for (;;) {
        size_t used = 0;
        enum imap_read what = imap_reader_take(&r, buf_span(&pending), &used);
        ENSURE(used <= pending.n && r.text.n <= limits.command_bytes + 2);
        if (what == IMAP_READ_COMMAND)
            parse_text(buf_span(&r.text));
        else if (what == IMAP_READ_DECIDE)
            decide(&r);
        buf_drop(&pending, used);
        if (what != IMAP_READ_MORE)
            continue;
        if (in.n == 0)
            break;
        struct span next = span_sub(in, 0, piece);
        buf_add(&pending, next);
        in = span_skip(in, next.n);
    }
    imap_reader_free(&r);
    buf_free(&pending);
    return 0;
}
