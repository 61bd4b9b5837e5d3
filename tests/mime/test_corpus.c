/*
 * tests/mime/test_corpus.c - mail as it really comes: every message of a folder
 * of messages (POLLUX_CORPUS, or ../shared/corpus beside the sources) as it is,
 * with CRLF and with LF line ends.  Skipped where there is no such folder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "mime/header.h"
#include "mime/text.h"
#include "tests/lib/mime_check.h"

#define MESSAGE_BYTES_MAX (64U << 20)

struct corpus {
    struct mime_needle *needle;
    size_t messages;
    size_t parts;
    size_t found;
};

/* What is asked of every message. */
static uint32_t
check_message(struct corpus *c, const char *path, struct span raw)
{
    struct mime_message *m = NULL;
    struct buf record = BUF_INIT;
    struct buf again = BUF_INIT;
    struct mime_cache cache;
    struct error err = {0};
    struct mime_section header;
    struct buf out = BUF_INIT;

    mime_parse(raw, NULL, &m);
    mime_cache_encode(m, &record);
    mime_cache_encode(m, &again);
    mime_message_free(&m);
    assert_true(span_eq(buf_span(&record), buf_span(&again)));
    if (mime_cache_decode(buf_span(&record), &cache, &err) != ERR_OK)
        fail_msg("%s: %s", path, err.text);
    const char *why = mime_check_cache(&cache, raw);
    if (why != NULL)
        fail_msg("%s: %s\n%.*s\n%.*s", path, why, SPAN_FMT(cache.envelope),
                 SPAN_FMT(cache.bodystructure));
    if ((cache.flags & MIME_CACHE_LIMITED) != 0)
        fail_msg("%s: beyond a limit", path);
    c->found += mime_text_search(&cache, raw, c->needle, MIME_SEARCH_TEXT);

    /* Received and all but Received are together the fields. */
    struct span name = SPAN_LIT("received");
    assert_int_equal(mime_section_find(&cache, SPAN_LIT("HEADER"), &header),
                     ERR_OK);
    struct span block = mime_section_bytes(raw, &header);
    mime_header_fields(block, &name, 1, false, &out);
    mime_header_fields(block, &name, 1, true, &out);
    struct mime_field f;
    size_t bytes = 0;
    while (mime_field_next(&block, &f))
        bytes += f.raw.n + (f.raw.p[f.raw.n - 1] == '\n' ? 0 : 2);
    assert_int_equal(out.n, bytes + 4);

    c->parts += cache.nparts;
    c->messages++;
    buf_free(&out);
    buf_free(&record);
    buf_free(&again);
    return cache.nparts;
}

static void
with_line_ends(struct span raw, const char *end, struct buf *out)
{
    for (size_t i = 0; i < raw.n; i++) {
        if (raw.p[i] == '\r' && i + 1 < raw.n && raw.p[i + 1] == '\n')
            continue;
        if (raw.p[i] == '\n')
            buf_add_str(out, end);
        else
            buf_add_byte(out, raw.p[i]);
    }
}

static void
check_file(struct corpus *c, const char *path)
{
    struct buf raw = BUF_MAX(MESSAGE_BYTES_MAX);
    struct buf crlf = BUF_INIT;
    struct buf lf = BUF_INIT;
    FILE *f = fopen(path, "rb");
    uint8_t *to = NULL;
    size_t n = 0;

    if (f == NULL)
        return;
    while ((to = buf_reserve(&raw, 65536)) != NULL &&
           (n = fread(to, 1, 65536, f)) > 0)
        raw.n += n;
    fclose(f);
    with_line_ends(buf_span(&raw), "\r\n", &crlf);
    with_line_ends(buf_span(&raw), "\n", &lf);
    uint32_t parts = check_message(c, path, buf_span(&raw));
    assert_int_equal(check_message(c, path, buf_span(&crlf)), parts);
    assert_int_equal(check_message(c, path, buf_span(&lf)), parts);
    buf_free(&raw);
    buf_free(&crlf);
    buf_free(&lf);
}

/* All files of DIR and of the folders in it; false if there is no DIR. */
static bool
check_folder(struct corpus *c, const char *path, int depth)
{
    DIR *dir = opendir(path);
    struct dirent *e = NULL;

    if (dir == NULL)
        return false;
    while ((e = readdir(dir)) != NULL) {
        char name[4096];
        struct stat st;
        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
        if (stat(name, &st) != 0)
            continue;
        if (S_ISREG(st.st_mode))
            check_file(c, name);
        else if (S_ISDIR(st.st_mode) && depth < 4)
            (void)check_folder(c, name, depth + 1);
    }
    closedir(dir);
    return true;
}

static void
test_every_message_of_the_corpus(void **state)
{
    struct corpus c = {.needle = mime_needle_new(SPAN_LIT("notmuch"))};
    const char *path = getenv("POLLUX_CORPUS");
    (void)state;

    if (path == NULL)
        path = POLLUX_SOURCE_DIR "/../shared/corpus";
    bool there = check_folder(&c, path, 0);
    mime_needle_free(&c.needle);
    if (!there)
        skip();
    print_message("%zu messages, %zu parts, %zu found\n", c.messages, c.parts,
                  c.found);
    assert_true(c.messages > 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_message_of_the_corpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
