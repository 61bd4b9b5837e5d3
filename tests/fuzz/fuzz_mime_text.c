/*
 * tests/fuzz/fuzz_mime_text.c - header values, dates and encoded text: nothing
 * depends on where the input is cut, and UTF-8 comes out.
 */
#include <stdint.h>

#include "mime/date.h"
#include "mime/header.h"
#include "mime/text.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_utf8(struct buf *text)
{
    struct buf again = BUF_INIT;

    mime_charset_to_utf8(SPAN_LIT("utf-8"), buf_span(text), &again);
    ENSURE(span_eq(buf_span(text), buf_span(&again)));
    buf_free(&again);
}

static void
decode_in_two(enum mime_encoding encoding, struct span in, size_t cut)
{
    struct mime_decoder d;
    struct buf one = BUF_INIT;
    struct buf two = BUF_INIT;

    mime_decode(encoding, in, &one);
    mime_decoder_init(&d, encoding);
    mime_decoder_push(&d, span_sub(in, 0, cut), &two);
    mime_decoder_push(&d, span_skip(in, cut), &two);
    mime_decoder_finish(&d, &two);
    ENSURE(span_eq(buf_span(&one), buf_span(&two)));
    ENSURE(one.n <= in.n + 2);
    buf_free(&one);
    buf_free(&two);
}

static void
parse_values(struct span in)
{
    struct arena arena = ARENA_INIT;
    struct mime_address *a = NULL;
    struct mime_typed typed;
    struct mime_date date;
    char text[MIME_IMAP_DATETIME_BYTES + 1];
    int32_t day = 0;

    ENSURE(mime_addresses_parse(in, 20, &arena, &a, NULL) <= 20);
    mime_typed_parse(in, true, 20, &arena, &typed, NULL);
    mime_typed_parse(in, false, 20, &arena, &typed, NULL);
    arena_free(&arena);
    if (mime_date_parse(in, &date)) {
        struct mime_date back;
        mime_imap_datetime_format(date, text);
        ENSURE(mime_imap_datetime_parse(span_str(text), &back));
        ENSURE(back.utc_s == date.utc_s && back.zone_min == date.zone_min);
    }
    if (mime_imap_datetime_parse(in, &date))
        ENSURE(date.zone_min > -1440 && date.zone_min < 1440);
    if (mime_imap_date_parse(in, &day))
        ENSURE(day > -719163 && day < 2932897);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const charsets[] = {
        "",        "utf-8",      "iso-8859-1", "iso-2022-jp",
        "gb18030", "utf-7",      "shift_jis",  "iso-2022-kr",
        "utf-16",  "hz-gb-2312", "euc-jp",     "iso-2022-cn"};
    struct span in = span_of(data, size);
    struct buf out = BUF_INIT;
    unsigned choice = size > 0 ? data[0] : 0;

    in = span_skip(in, 1);
    mime_header_decode(in, &out);
    check_utf8(&out);
    buf_clear(&out);
    (void)mime_base_subject(in, &out);
    check_utf8(&out);
    buf_clear(&out);
    mime_charset_to_utf8(span_str(charsets[choice % ARRAY_LEN(charsets)]), in,
                         &out);
    check_utf8(&out);
    buf_clear(&out);
    mime_casemap(in, &out);
    buf_free(&out);
    size_t cut = in.n > 0 ? choice % in.n : 0;
    decode_in_two(MIME_ENC_BASE64, in, cut);
    decode_in_two(MIME_ENC_QP, in, cut);
    parse_values(in);
    return 0;
}
