/*
 * tests/imapd/test_ahead.c - FETCH of many messages, which reads them ahead
 * (imapd/ahead.c): whatever the workers and the client do, the answers are
 * those of one message at a time.  With threads: test_service.
 */
#include "tests/imapd/talking.h"

#define MESSAGES 150U
#define LARGE 70000U /* not read ahead */

/* Message I, from 1. */
static void
make(unsigned i, struct buf *out)
{
    const size_t bytes = i % 40 == 7 ? LARGE : 100 + i * 37 % 5000;

    buf_clear(out);
    buf_addf(out, "Subject: number %u\r\nX-Other: %u\r\n\r\n", i, i * 3);
    while (out->n < bytes)
        buf_addf(out, "line %u of message %u\r\n", (unsigned)out->n, i);
}

static struct fake_client *
fill(void)
{
    struct fake_client *c = login(0, "fred");
    struct buf raw = BUF_INIT;

    for (unsigned i = 1; i <= MESSAGES; i++) {
        make(i, &raw);
        append(c, "INBOX", "", buf_cstr(&raw));
    }
    quiet(c, "s SELECT INBOX");
    buf_free(&raw);
    return c;
}

/* What FETCH of whole messages tells of message I. */
static void
want_whole(unsigned i, struct buf *want)
{
    struct buf raw = BUF_INIT;

    make(i, &raw);
    buf_addf(want, "* %u FETCH (BODY[] {%zu}\r\n", i, raw.n);
    buf_add(want, buf_span(&raw));
    buf_add_str(want, ")\r\n");
    buf_free(&raw);
}

/* Send, and take what comes in pieces of PIECE bytes (0: at once). */
static void
fetch(struct fake_client *c, const char *command, size_t piece, struct buf *ret)
{
    buf_clear(ret);
    c->full_at = piece;
    add_line(c, command);
    do {
        fake_turn(c->world);
        buf_add(ret, buf_span(&c->out));
        buf_clear(&c->out);
        if (c->session != NULL)
            imap_session_drained(c->session);
    } while (span_find(buf_span(ret), SPAN_LIT("\r\nf OK ")) < 0 &&
             span_find(buf_span(ret), SPAN_LIT("\r\nf NO ")) < 0);
    c->full_at = 0;
}

static void
assert_same(struct buf *got, struct buf *want)
{
    if (!span_eq(buf_span(got), buf_span(want)))
        fail_msg("got %zu bytes, wanted %zu", got->n, want->n);
}

static void
test_all_messages_come_whole_and_in_order(void **state)
{
    struct fake_client *c = fill();
    struct buf got = BUF_INIT, want = BUF_INIT;
    (void)state;

    for (unsigned i = 1; i <= MESSAGES; i++)
        want_whole(i, &want);
    buf_add_str(&want, "f OK Completed\r\n");
    for (int late = 0; late < 2; late++) {
        world.late_work = late == 1;
        fetch(c, "f FETCH 1:* (BODY.PEEK[])", 0, &got);
        assert_same(&got, &want);
        fetch(c, "f FETCH 1:* (BODY.PEEK[])", 3000, &got);
        assert_same(&got, &want);
    }
    buf_free(&got);
    buf_free(&want);
}

/* Some that lie together, some far apart, one alone. */
static void
test_a_set_with_gaps(void **state)
{
    struct fake_client *c = fill();
    struct buf got = BUF_INIT, want = BUF_INIT, command = BUF_INIT;
    (void)state;

    buf_add_str(&command, "f FETCH 1:20");
    for (unsigned i = 1; i <= 20; i++)
        want_whole(i, &want);
    for (unsigned i = 30; i <= MESSAGES; i += 6) {
        buf_addf(&command, ",%u", i);
        want_whole(i, &want);
    }
    buf_add_str(&command, " (BODY.PEEK[])");
    buf_add_str(&want, "f OK Completed\r\n");
    fetch(c, buf_cstr(&command), 0, &got);
    assert_same(&got, &want);
    world.late_work = true;
    fetch(c, buf_cstr(&command), 20000, &got);
    assert_same(&got, &want);
    buf_free(&got);
    buf_free(&want);
    buf_free(&command);
}

/* Parts, partials and fields come of the same bytes. */
static void
test_pieces_of_what_was_read(void **state)
{
    struct fake_client *c = fill();
    struct buf got = BUF_INIT, want = BUF_INIT, raw = BUF_INIT;
    (void)state;

    for (unsigned i = 1; i <= MESSAGES; i++) {
        make(i, &raw);
        const size_t head =
            (size_t)span_find(buf_span(&raw), SPAN_LIT("\r\n\r\n")) + 4;
        char field[40];
        int n = snprintf(field, sizeof(field), "X-Other: %u\r\n\r\n", i * 3);
        buf_addf(&want,
                 "* %u FETCH (BODY[HEADER.FIELDS (X-OTHER)] {%d}\r\n%s "
                 "BODY[TEXT] {%zu}\r\n",
                 i, n, field, raw.n - head);
        buf_add(&want, span_skip(buf_span(&raw), head));
        buf_add_str(&want, " BODY[]<3> {10}\r\n");
        buf_add(&want, span_sub(buf_span(&raw), 3, 10));
        buf_add_str(&want, ")\r\n");
    }
    buf_add_str(&want, "f OK Completed\r\n");
    for (int late = 0; late < 2; late++) {
        world.late_work = late == 1;
        fetch(c,
              "f FETCH 1:* (BODY.PEEK[HEADER.FIELDS (X-OTHER)] "
              "BODY.PEEK[TEXT] BODY.PEEK[]<3.10>)",
              late == 1 ? 5000 : 0, &got);
        assert_same(&got, &want);
    }
    buf_free(&got);
    buf_free(&want);
    buf_free(&raw);
}

/* Purged by somebody else while it goes on: told as gone, the others come. */
static void
test_messages_that_go_meanwhile(void **state)
{
    struct fake_client *c = fill();
    struct fake_client *other = login(1, "fred");
    struct buf got = BUF_INIT;
    (void)state;

    world.late_work = true;
    quiet(other, "s SELECT INBOX");
    c->full_at = 1000;
    add_line(c, "f FETCH 1:* (UID BODY.PEEK[])");
    fake_turn(&world);
    quiet(other, "d STORE 50:140 +FLAGS.SILENT (\\Deleted)");
    quiet(other, "e EXPUNGE");
    buf_add(&got, buf_span(&c->out));
    buf_clear(&c->out);
    c->full_at = 0;
    imap_session_drained(c->session);
    fake_turn(&world);
    buf_add(&got, buf_span(&c->out));
    buf_clear(&c->out);
    assert_true(span_find(buf_span(&got), SPAN_LIT("* 49 FETCH (")) >= 0);
    assert_true(span_find(buf_span(&got), SPAN_LIT("* 150 FETCH (UID 150 ")) >=
                0);
    assert_true(span_find(buf_span(&got), SPAN_LIT("\r\nf ")) >= 0);
    buf_free(&got);
}

/* The connection goes while batches wait for a worker. */
static void
test_a_client_that_hangs_up(void **state)
{
    (void)state;

    for (int late = 0; late < 2; late++) {
        struct fake_client *c = late == 0 ? fill() : login(0, "fred");
        quiet(c, "s SELECT INBOX");
        world.late_work = late == 1;
        c->full_at = 1000;
        add_line(c, "f FETCH 1:* (BODY.PEEK[])");
        fake_input(c);
        fake_hang_up(c);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_all_messages_come_whole_and_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_set_with_gaps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pieces_of_what_was_read, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_messages_that_go_meanwhile, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_client_that_hangs_up, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
