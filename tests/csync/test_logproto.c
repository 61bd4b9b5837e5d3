/* tests/csync/test_logproto.c - golden bytes of messages, cuts, and LOGSTATUS
 * there and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "csync/logproto.h"

static void
test_message_has_its_golden_bytes(void **state)
{
    (void)state;
    uint8_t head[LOGMSG_HEADER_BYTES];
    static const uint8_t golden[] = {5, 1, 0, 0, 64, 0, 0, 0};

    logmsg_header(LOGMSG_ACK, 261, head);
    assert_memory_equal(head, golden, sizeof(golden));
}

static void
test_message_cut_anywhere_asks_for_more(void **state)
{
    (void)state;
    uint8_t bytes[LOGMSG_HEADER_BYTES + 3] = {0};
    struct logmsg m;
    size_t used = 0;

    logmsg_header(LOGMSG_PING, 3, bytes);
    for (size_t cut = 0; cut < sizeof(bytes); cut++)
        assert_int_equal(logmsg_parse(span_of(bytes, cut), &m, &used),
                         PARSE_MORE);
    assert_int_equal(logmsg_parse(span_of(bytes, sizeof(bytes)), &m, &used),
                     PARSE_DONE);
    assert_int_equal(used, sizeof(bytes));
}

static void
test_unknown_or_oversized_message_is_bad_at_its_header(void **state)
{
    (void)state;
    uint8_t bytes[LOGMSG_HEADER_BYTES];
    struct logmsg m;
    size_t used = 0;

    logmsg_header(63, 0, bytes);
    assert_int_equal(logmsg_parse(span_of(bytes, 8), &m, &used), PARSE_BAD);
    logmsg_header(LOGMSG_FRAMES, LOGMSG_PAYLOAD_MAX + 1, bytes);
    assert_int_equal(logmsg_parse(span_of(bytes, 8), &m, &used), PARSE_BAD);
    logmsg_header(LOGMSG_FRAMES, 0, bytes);
    bytes[7] = 1;
    assert_int_equal(logmsg_parse(span_of(bytes, 8), &m, &used), PARSE_BAD);
}

static void
test_ack_comes_back_as_it_went(void **state)
{
    (void)state;
    struct logack in = {
        .received = 9,
        .durable = 8,
        .applied = {.applied = {3, 7}, .chain = 6, .digest = 5, .time_us = 4},
        .ping = 2,
    };
    struct logack out;
    struct buf b = BUF_INIT;

    logack_encode(&in, &b);
    assert_int_equal(b.n, 60);
    assert_true(logack_decode(buf_span(&b), &out));
    assert_memory_equal(&in.applied.digest, &out.applied.digest, 8);
    assert_int_equal(out.applied.applied.lsn, 7);
    for (size_t cut = 0; cut < b.n; cut++)
        assert_false(logack_decode(span_sub(buf_span(&b), 0, cut), &out));
    buf_free(&b);
}

static void
test_status_comes_back_as_it_went(void **state)
{
    (void)state;
    struct epoch_entry epochs[] = {{.epoch = 1}, {.epoch = 2, .fork_lsn = 9}};
    struct logstatus in = {
        .version = 1,
        .record_format = 1,
        .role = ROLE_MASTER,
        .epoch = 2,
        .fence = true,
        .durable = {2, 11},
        .applied = {.applied = {2, 10}, .digest = 0xabcdef},
        .servername = "ma01.example",
        .text = "swapped at \"noon\" %",
        .epochs = epochs,
        .nepochs = 2,
    };
    struct logstatus out;
    struct arena a = ARENA_INIT;
    struct buf b = BUF_INIT;
    struct dlist *d = NULL;
    struct error err = {0};
    size_t used = 0;

    memset(in.cluster.b, 7, sizeof(in.cluster.b));
    logstatus_print(&in, DLIST_SERVER, &b);
    buf_add_str(&b, "\r\n");
    assert_int_equal(
        dlist_parse(buf_span(&b), &dlist_default_limits, &a, &d, &used, &err),
        PARSE_DONE);
    assert_int_equal(logstatus_read(d, &a, &out, &err), ERR_OK);
    assert_true(instid_eq(&in.cluster, &out.cluster));
    assert_int_equal(out.role, ROLE_MASTER);
    assert_true(out.fence && !out.seeding);
    assert_int_equal(out.applied.digest, 0xabcdef);
    assert_string_equal(out.text, in.text);
    assert_int_equal(out.nepochs, 2);
    assert_int_equal(out.epochs[1].fork_lsn, 9);

    ((struct dlist *)dlist_get(d, "ROLE"))->text = SPAN_LIT("emperor");
    assert_int_equal(logstatus_read(d, &a, &out, &err), ERR_PROTO);
    assert_non_null(strstr(err.text, "ROLE"));
    buf_free(&b);
    arena_free(&a);
}

/* What a replica has is part of its master's history, or it is not. */
static void
test_prefix_of_a_history(void **state)
{
    const struct epoch_entry one = {.epoch = 1};
    const struct epoch_entry two = {
        .epoch = 2, .fork_lsn = 100, .fork_chain = 7};
    struct epoch_entry own_epochs[] = {one, two};
    struct epoch_entry other[] = {one, two};
    struct logstatus own = {.epochs = own_epochs, .nepochs = 2};
    struct logstatus peer = {.epochs = other, .nepochs = 1};

    (void)state;
    peer.durable.lsn = 100;
    assert_true(logstatus_is_prefix(&own, &peer));
    peer.durable.lsn = 101; /* of an epoch that ended at 100 here */
    assert_false(logstatus_is_prefix(&own, &peer));
    peer.nepochs = 2;
    assert_true(logstatus_is_prefix(&own, &peer));
    other[1].fork_chain = 8; /* another epoch of that number */
    assert_false(logstatus_is_prefix(&own, &peer));
    other[1] = two;
    own.nepochs = 1; /* it knows of one that we do not */
    assert_false(logstatus_is_prefix(&own, &peer));
    peer.nepochs = 0;
    assert_false(logstatus_is_prefix(&own, &peer));
    /* Old ones that we do not tell of any more are passed over. */
    own = (struct logstatus){.epochs = own_epochs + 1, .nepochs = 1};
    peer.nepochs = 2;
    assert_true(logstatus_is_prefix(&own, &peer));
}

/* ---- forks ------------------------------------------------------------- */

#define EPOCH(e, lsn, who)                                                     \
    {                                                                          \
        .epoch = (e), .fork_lsn = (lsn), .fork_chain = (lsn)*7, .instance = {  \
            {(who)}                                                            \
        }                                                                      \
    }

/* Two histories, as their epochs tell of them, and where they part. */
static void
test_fork_is_the_last_record_that_both_have(void **state)
{
    static const struct {
        struct epoch_entry own[3], peer[3];
        size_t nown, npeer;
        bool found;
        lsn_t lsn;
    } rows[] = {
        /* The peer was promoted at 50. */
        {{EPOCH(1, 0, 1)}, {EPOCH(1, 0, 1), EPOCH(2, 50, 2)}, 1, 2, true, 50},
        /* Nothing is newer over there. */
        {{EPOCH(1, 0, 1), EPOCH(2, 50, 2)}, {EPOCH(1, 0, 1)}, 2, 1, false, 0},
        {{EPOCH(1, 0, 1)}, {EPOCH(1, 0, 1)}, 1, 1, false, 0},
        /* Both were promoted since: whoever left first. */
        {{EPOCH(1, 0, 1), EPOCH(2, 30, 1)},
         {EPOCH(1, 0, 1), EPOCH(3, 50, 2)},
         2,
         2,
         true,
         30},
        {{EPOCH(1, 0, 1), EPOCH(2, 60, 1)},
         {EPOCH(1, 0, 1), EPOCH(3, 50, 2)},
         2,
         2,
         true,
         50},
        /* An epoch of the same number is the same one only if the same instance
         * began it, at the same record. */
        {{EPOCH(1, 0, 1), EPOCH(2, 60, 1)},
         {EPOCH(1, 0, 1), EPOCH(2, 60, 2), EPOCH(3, 90, 2)},
         2,
         3,
         true,
         60},
        {{EPOCH(1, 0, 1), EPOCH(2, 40, 1)},
         {EPOCH(1, 0, 1), EPOCH(2, 60, 1), EPOCH(3, 90, 2)},
         2,
         3,
         true,
         40},
        /* We went on in the last one that both know. */
        {{EPOCH(1, 0, 1), EPOCH(2, 60, 1)},
         {EPOCH(1, 0, 1), EPOCH(2, 60, 1), EPOCH(3, 90, 2)},
         2,
         3,
         true,
         90},
        /* Nothing in common. */
        {{EPOCH(1, 0, 1)}, {EPOCH(1, 0, 2)}, 1, 1, true, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct logstatus own = {.epochs = rows[i].own,
                                      .nepochs = rows[i].nown};
        const struct logstatus peer = {.epochs = rows[i].peer,
                                       .nepochs = rows[i].npeer};
        uint64_t chain = 1;
        lsn_t lsn = 1;
        assert_int_equal(logstatus_fork(&own, &peer, &lsn, &chain),
                         rows[i].found);
        assert_int_equal(lsn, rows[i].found ? rows[i].lsn : 1);
        assert_int_equal(chain, rows[i].found ? rows[i].lsn * 7 : 1);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_has_its_golden_bytes),
        cmocka_unit_test(test_message_cut_anywhere_asks_for_more),
        cmocka_unit_test(
            test_unknown_or_oversized_message_is_bad_at_its_header),
        cmocka_unit_test(test_ack_comes_back_as_it_went),
        cmocka_unit_test(test_status_comes_back_as_it_went),
        cmocka_unit_test(test_fork_is_the_last_record_that_both_have),
        cmocka_unit_test(test_prefix_of_a_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
