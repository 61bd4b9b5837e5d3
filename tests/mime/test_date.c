/* tests/mime/test_date.c - dates of messages and of IMAP, both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mime/date.h"

/* Expected values come from date(1). */
static void
test_message_dates(void **state)
{
    static const struct {
        const char *text;
        int64_t utc_s;
        int32_t zone_min;
    } good[] = {
        {"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)", 837595405, -420},
        {" Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", 880127706, -360},
        {"Thu,\r\n\t13\r\n Feb\r\n 1969 23:32\r\n -0330 (Newfoundland Time)",
         -27723480, -210},
        {"21 Nov 97 09:55:06 GMT", 880106106, 0},
        {"21 Nov 97 09:55:06 EST", 880124106, -300},
        {"1 Jan 70 00:00 Z", 0, 0},
        {"1 Jan 49 00:00 +0000", 2493072000, 0},
        {"1 Jan 100 00:00:00 +0000", 946684800, 0},
        {"Sun Jan  6 08:49:37 2008", 1199609377, 0},
        {"Sun Jan  6 08:49:37 PST 2008", 1199638177, -480},
        {"17-Jul-1996 02:44:25 -0700", 837596665, -420},
        {"2008-01-06T08:49:37Z", 1199609377, 0},
        {"2008-01-06 08:49:37.123456+01:00", 1199605777, 60},
        {"29 Feb 2000 23:59:60 +0000", 951868799, 0},
        {"31 december 9999 23:59:59 -2359", 253402387139, -1439},
        {"1 Jan 0001 00:00:00 +2359", -62135683140, 1439},
        {"6 Jan 2008", 1199577600, 0},
        {"Wed 29 May 2019 06:09:22 PM EDT", 1559167762, -240},
        {"29 May 2019 12:09:22 PM UTC", 1559131762, 0},
        {"29 May 2019 06:09:22 AM UTC", 1559110162, 0},
        {"6 Jan 2008 08:49:37 XYZ", 1199609377, 0},
        {"6 Jan 2008 08:49:37 +9999", 1199609377, 0},
        {"6 Jan 2008 08:49:37 A", 1199609377, 0},
    };
    static const char *const bad[] = {
        "",
        "Wed",
        "17 Jul",
        "31 Jun 1996 00:00:00 +0000",
        "29 Feb 1900 00:00:00 +0000",
        "0 Jan 2000 00:00 +0000",
        "1 Foo 2000 00:00 +0000",
        "1 Jan 2000 24:00 +0000",
        "1 Jan 2000 00:60 +0000",
        "1 Jan 2000 00:00:61 +0000",
        "1 Jan 20000000000 00:00 +0000",
        "(1 Jan 2000 00:00 +0000",
        "\\",
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct mime_date d = {0};
        if (!mime_date_parse(span_str(good[i].text), &d))
            fail_msg("%s", good[i].text);
        if (d.utc_s != good[i].utc_s || d.zone_min != good[i].zone_min)
            fail_msg("%s: %jd %d", good[i].text, (intmax_t)d.utc_s, d.zone_min);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct mime_date d = {.utc_s = 7};
        if (mime_date_parse(span_str(bad[i]), &d) || d.utc_s != 7)
            fail_msg("%s", bad[i]);
    }
}

static void
test_day_is_of_the_zone(void **state)
{
    struct mime_date d = {0};
    (void)state;

    assert_true(mime_date_parse(SPAN_LIT("1 Feb 1994 23:30:00 -0700"), &d));
    assert_int_equal(mime_date_day(d), 8797);
    assert_int_equal(mime_date_day((struct mime_date){-1, 0}), -1);
    assert_int_equal(mime_date_day((struct mime_date){-1, 1}), 0);
    assert_int_equal(mime_date_day((struct mime_date){0, -1}), -1);
    assert_int_equal(mime_date_day((struct mime_date){86399, 0}), 0);
}

static void
test_imap_dates(void **state)
{
    static const char *const bad[] = {
        "",           "1-Feb-94",      "001-Feb-1994", "30-Feb-1994",
        "1 Feb 1994", "1-Fex-1994",    "-1-Feb-1994",  "1-Feb-199x",
        "1-Feb-0000", "\"1-Feb-1994\""};
    int32_t day = 7;
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(mime_imap_date_parse(span_str(bad[i]), &day));
    assert_int_equal(day, 7);
    assert_true(mime_imap_date_parse(SPAN_LIT("1-Feb-1994"), &day));
    assert_int_equal(day, 8797);
    assert_true(mime_imap_date_parse(SPAN_LIT("01-feb-1994"), &day));
    assert_int_equal(day, 8797);
    assert_true(mime_imap_date_parse(SPAN_LIT("31-DEC-1969"), &day));
    assert_int_equal(day, -1);
}

static void
test_imap_datetimes(void **state)
{
    static const char *const bad[] = {
        "17-Jul-1996 02:44:25 -070",  "17-Jul-1996 02:44:25 -07000",
        "17-Jul-1996 02:44:25  0700", "17-Jul-1996 24:44:25 -0700",
        "31-Jun-1996 02:44:25 -0700", "17-Jul-1996 02:44:25 -0760",
        "17-Jul-1996 02:44:25 -2400", "17 Jul 1996 02:44:25 -0700",
        " 17-Jul-1996 02:44:2 -0700", "1x-Jul-1996 02:44:25 -0700",
        "17-Jul-1996T02:44:25 -0700", "  -Jul-1996 02:44:25 -0700"};
    struct mime_date d = {.utc_s = 7};
    char text[MIME_IMAP_DATETIME_BYTES + 1];
    char mail[MIME_RFC5322_DATE_BYTES];
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(mime_imap_datetime_parse(span_str(bad[i]), &d));
    assert_int_equal(d.utc_s, 7);
    assert_true(
        mime_imap_datetime_parse(SPAN_LIT("17-jul-1996 02:44:25 -0700"), &d));
    assert_int_equal(d.utc_s, 837596665);
    assert_int_equal(d.zone_min, -420);
    mime_imap_datetime_format(d, text);
    assert_string_equal(text, "17-Jul-1996 02:44:25 -0700");
    mime_date_format(d, mail);
    assert_string_equal(mail, "Wed, 17 Jul 1996 02:44:25 -0700");
    assert_true(
        mime_imap_datetime_parse(SPAN_LIT(" 1-Jan-1970 00:00:00 +0530"), &d));
    mime_imap_datetime_format(d, text);
    assert_string_equal(text, " 1-Jan-1970 00:00:00 +0530");

    /* Whatever the number, 26 characters come out. */
    const int64_t odd[] = {INT32_MIN, INT32_MAX, INT64_C(1) << 40,
                           -(INT64_C(1) << 40)};
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        mime_imap_datetime_format((struct mime_date){odd[i], -1439}, text);
        assert_int_equal(strlen(text), MIME_IMAP_DATETIME_BYTES);
    }
}

/* Every day of 400 years, there and back. */
static void
test_every_day_survives_the_round_trip(void **state)
{
    char text[MIME_IMAP_DATETIME_BYTES + 1];
    (void)state;

    for (int32_t day = -62091; day < 84006; day += 3) {
        struct mime_date d = {(int64_t)day * 86400 + 12345, 90};
        struct mime_date back = {0};
        int32_t back_day = 0;
        mime_imap_datetime_format(d, text);
        assert_true(mime_imap_datetime_parse(span_str(text), &back));
        assert_true(back.utc_s == d.utc_s && back.zone_min == d.zone_min);
        assert_true(mime_date_parse(span_str(text), &back));
        assert_true(back.utc_s == d.utc_s && back.zone_min == d.zone_min);
        struct span date = span_trim(span_sub(span_str(text), 0, 11));
        assert_true(mime_imap_date_parse(date, &back_day));
        assert_int_equal(back_day, day);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_dates),
        cmocka_unit_test(test_day_is_of_the_zone),
        cmocka_unit_test(test_imap_dates),
        cmocka_unit_test(test_imap_datetimes),
        cmocka_unit_test(test_every_day_survives_the_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
