/*
 * mime/date.h - dates of messages (RFC 5322) and of IMAP.
 *
 * Days and seconds count from 1970-01-01 in the proleptic Gregorian calendar.
 */
#ifndef POLLUX_MIME_DATE_H
#define POLLUX_MIME_DATE_H

#include "base/span.h"

struct mime_date {
    int64_t utc_s;    /* seconds since 1970, UTC; years 1 to 9999 */
    int32_t zone_min; /* minutes east of UTC, -1439 to 1439 */
};

/* The day in the date's own zone: what SENTON, ON and kin compare. */
static inline int32_t
mime_date_day(struct mime_date d)
{
    int64_t local = d.utc_s + (int64_t)d.zone_min * 60;
    return (int32_t)((local - ((local % 86400) + 86400) % 86400) / 86400);
}

/*
 * The value of a Date field (RFC 5322, 3.3 and 4.3), forgiving: weekday,
 * seconds, zone may lack, comments, folds, 2-digit years, named zones, asctime
 * and dashes are understood, unknown zones are UTC.  *RET untouched on failure.
 */
MUST_CHECK bool
mime_date_parse(struct span value, struct mime_date *ret);

#define MIME_IMAP_DATETIME_BYTES 26
#define MIME_RFC5322_DATE_BYTES 40

/* "17-Jul-1996 02:44:25 -0700" without quotes, 26 characters and a NUL. */
void
mime_imap_datetime_format(struct mime_date d,
                          char out[MIME_IMAP_DATETIME_BYTES + 1]);

/* date-time of RFC 3501 without its quotes; strict. */
MUST_CHECK bool
mime_imap_datetime_parse(struct span s, struct mime_date *ret);

/* date-text of RFC 3501 ("1-Feb-1994") without quotes; days since 1970. */
MUST_CHECK bool
mime_imap_date_parse(struct span s, int32_t *ret_day);

/* "Wed, 17 Jul 1996 02:23:25 -0700" for header fields that we write. */
void
mime_date_format(struct mime_date d, char out[MIME_RFC5322_DATE_BYTES]);

#endif
