/*
 * mime/date.c - dates are taken as a row of words and numbers: whatever the
 * order, a month has a name, a time has a colon, and a zone follows the time.
 */
#include "mime/date.h"

#include <stdio.h>

static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

struct civil {
    int year;
    int month; /* 1 to 12 */
    int day;   /* 1 to 31 */
};

struct clock {
    int hour;
    int min;
    int sec; /* 60: a leap second, counted as the one before it */
};

/* Days since 1970-01-01; eras of 400 years begin in March, so that a leap day
 * is the last of its year. */
static int64_t
civil_day(struct civil c)
{
    int64_t y = c.month <= 2 ? c.year - 1 : c.year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy =
        (153 * (c.month + (c.month > 2 ? -3 : 9)) + 2) / 5 + c.day - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

static struct civil
day_civil(int64_t day)
{
    int64_t z = day + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    int64_t month = mp < 10 ? mp + 3 : mp - 9;
    return (struct civil){.year = (int)(yoe + era * 400 + (month <= 2)),
                          .month = (int)month,
                          .day = (int)(doy - (153 * mp + 2) / 5 + 1)};
}

static bool
civil_valid(struct civil c)
{
    static const int days[12] = {31, 29, 31, 30, 31, 30,
                                 31, 31, 30, 31, 30, 31};
    if (c.year < 1 || c.year > 9999 || c.month < 1 || c.month > 12 ||
        c.day < 1 || c.day > days[c.month - 1])
        return false;
    bool leap = (c.year % 4 == 0 && c.year % 100 != 0) || c.year % 400 == 0;
    return c.month != 2 || c.day < 29 || leap;
}

static bool
clock_valid(struct clock t)
{
    return t.hour >= 0 && t.hour <= 23 && t.min >= 0 && t.min <= 59 &&
           t.sec >= 0 && t.sec <= 60;
}

static struct mime_date
date_make(struct civil c, struct clock t, int32_t zone_min)
{
    int64_t s =
        civil_day(c) * 86400 + t.hour * 3600 + t.min * 60 + MIN(t.sec, 59);
    return (struct mime_date){.utc_s = s - (int64_t)zone_min * 60,
                              .zone_min = zone_min};
}

static bool
is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool
is_alpha(uint8_t c)
{
    c = ascii_lower(c);
    return c >= 'a' && c <= 'z';
}

/* 1 to 12 if WORD is the name of a month or begins with its three letters. */
static int
month_of(struct span word)
{
    for (int i = 0; i < 12; i++)
        if (word.n >= 3 && span_eq_nocase_str(span_sub(word, 0, 3), months[i]))
            return i + 1;
    return 0;
}

/* ---- RFC 5322 ---- */

struct date_words {
    struct civil c; /* 0 where not known yet */
    struct clock t;
    bool have_time;
    bool have_zone;
    int32_t zone_min;
};

/* RFC 5322, 4.3; other names and the military letters count as UTC. */
static void
take_zone_name(struct date_words *d, struct span word)
{
    static const struct {
        char name[4];
        int hours;
    } zones[] = {{"UT", 0},   {"UTC", 0},  {"GMT", 0},  {"EST", -5},
                 {"EDT", -4}, {"CST", -6}, {"CDT", -5}, {"MST", -7},
                 {"MDT", -6}, {"PST", -8}, {"PDT", -7}};

    for (size_t i = 0; i < ARRAY_LEN(zones); i++)
        if (span_eq_nocase_str(word, zones[i].name)) {
            d->zone_min = zones[i].hours * 60;
            d->have_zone = true;
        }
}

/* At most 9 digits from *AT on; all digits are skipped. */
static int
take_number(struct span s, size_t *at, size_t *ret_digits)
{
    int v = 0;
    size_t n = 0;

    while (*at < s.n && is_digit(s.p[*at])) {
        if (n < 9)
            v = v * 10 + (s.p[*at] - '0');
        n++;
        ++*at;
    }
    *ret_digits = n;
    return n > 9 ? -1 : v;
}

/* At the sign of "+hhmm" or "+hh:mm". */
static void
take_zone_number(struct date_words *d, struct span s, size_t *at)
{
    bool west = s.p[*at] == '-';
    size_t digits = 0;

    ++*at;
    int v = take_number(s, at, &digits);
    if (digits == 2 && *at < s.n && s.p[*at] == ':') {
        size_t more = 0;
        ++*at;
        v = v * 100 + take_number(s, at, &more);
        digits += more;
    } else if (digits <= 2) {
        v *= 100;
    }
    if (digits == 0 || digits > 4 || v / 100 > 23 || v % 100 > 59)
        return;
    d->zone_min = (v / 100 * 60 + v % 100) * (west ? -1 : 1);
    d->have_zone = true;
}

/* Behind the comment that begins at AT. */
static size_t
comment_end(struct span s, size_t at)
{
    size_t depth = 0;

    for (; at < s.n; at++) {
        if (s.p[at] == '(')
            depth++;
        else if (s.p[at] == ')' && --depth == 0)
            return at + 1;
        else if (s.p[at] == '\\')
            at++;
    }
    return s.n;
}

/* Behind blanks, folds and comments from AT on. */
static size_t
cfws_end(struct span s, size_t at)
{
    while (at < s.n) {
        uint8_t c = s.p[at];
        if (c == '(')
            at = comment_end(s, at);
        else if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
            at++;
        else
            break;
    }
    return at;
}

/* A colon comes next, maybe behind blanks; *AT goes to what follows it. */
static bool
take_colon(struct span s, size_t *at)
{
    size_t to = cfws_end(s, *at);

    if (to >= s.n || s.p[to] != ':')
        return false;
    *at = cfws_end(s, to + 1);
    return true;
}

/* The hour was HOUR, now behind the colon. */
static void
take_time(struct date_words *d, int hour, struct span s, size_t *at)
{
    size_t digits = 0;

    d->t = (struct clock){.hour = hour, .min = take_number(s, at, &digits)};
    if (take_colon(s, at))
        d->t.sec = take_number(s, at, &digits);
    if (*at < s.n && s.p[*at] == '.') { /* a fraction */
        ++*at;
        (void)take_number(s, at, &digits);
    }
    d->have_time = true;
}

/* A number that is no time: day, year, or in "1996-07-17" the month. */
static void
take_plain_number(struct date_words *d, int v, size_t digits)
{
    if (digits > 2 && d->c.year == 0) {
        d->c.year = digits == 3 ? v + 1900 : v;
    } else if (d->c.month == 0 && d->c.year != 0) {
        d->c.month = v;
    } else if (d->c.day == 0) {
        d->c.day = v;
    } else if (d->c.year == 0) { /* RFC 5322, 4.3 */
        d->c.year = v + (v < 50 ? 2000 : 1900);
    }
}

bool
mime_date_parse(struct span value, struct mime_date *ret)
{
    struct date_words d = {0};
    size_t at = 0;

    while (at < value.n) {
        uint8_t c = value.p[at];
        size_t from = at;
        if (c == '(') {
            at = comment_end(value, at);
        } else if (is_alpha(c)) {
            while (at < value.n && is_alpha(value.p[at]))
                at++;
            struct span word = span_sub(value, from, at - from);
            if (d.c.month == 0)
                d.c.month = month_of(word);
            if (d.have_time && !d.have_zone)
                take_zone_name(&d, word);
            if (d.have_time && d.t.hour < 12 && span_eq_nocase_str(word, "PM"))
                d.t.hour += 12;
        } else if (is_digit(c)) {
            size_t digits = 0;
            int v = take_number(value, &at, &digits);
            if (!d.have_time && take_colon(value, &at))
                take_time(&d, v, value, &at);
            else
                take_plain_number(&d, v, digits);
        } else if ((c == '+' || c == '-') && d.have_time && !d.have_zone) {
            take_zone_number(&d, value, &at);
        } else {
            at++;
        }
    }
    if (!civil_valid(d.c) || !clock_valid(d.t))
        return false;
    *ret = date_make(d.c, d.t, d.zone_min);
    return true;
}

/* ---- IMAP ---- */

/* N digits at P, or -1. */
static int
fixed_number(const uint8_t *p, size_t n)
{
    int v = 0;

    for (size_t i = 0; i < n; i++) {
        if (!is_digit(p[i]))
            return -1;
        v = v * 10 + (p[i] - '0');
    }
    return v;
}

/* "Feb-1994" */
static bool
month_year(const uint8_t *p, struct civil *c)
{
    c->month = month_of(span_of(p, 3));
    c->year = fixed_number(p + 4, 4);
    return c->month > 0 && p[3] == '-' && c->year >= 0;
}

bool
mime_imap_date_parse(struct span s, int32_t *ret_day)
{
    struct civil c = {0};

    if (s.n != 10 && s.n != 11)
        return false;
    size_t digits = s.n - 9;
    c.day = fixed_number(s.p, digits);
    if (s.p[digits] != '-' || !month_year(s.p + digits + 1, &c) ||
        !civil_valid(c))
        return false;
    *ret_day = (int32_t)civil_day(c);
    return true;
}

bool
mime_imap_datetime_parse(struct span s, struct mime_date *ret)
{
    struct civil c = {0};
    struct clock t = {0};
    const uint8_t *p = s.p;

    if (s.n != MIME_IMAP_DATETIME_BYTES)
        return false;
    c.day = p[0] == ' ' ? fixed_number(p + 1, 1) : fixed_number(p, 2);
    t.hour = fixed_number(p + 12, 2);
    t.min = fixed_number(p + 15, 2);
    t.sec = fixed_number(p + 18, 2);
    int zone = fixed_number(p + 22, 4);
    if (p[2] != '-' || !month_year(p + 3, &c) || p[11] != ' ' || p[14] != ':' ||
        p[17] != ':' || p[20] != ' ' || (p[21] != '+' && p[21] != '-') ||
        zone < 0 || zone / 100 > 23 || zone % 100 > 59 || !civil_valid(c) ||
        !clock_valid(t))
        return false;
    zone = zone / 100 * 60 + zone % 100;
    *ret = date_make(c, t, p[21] == '-' ? -zone : zone);
    return true;
}

struct fields {
    struct civil c;
    struct clock t;
    int weekday; /* 0: Thursday */
    int zone;    /* hhmm */
    char sign;
};

/* What to print; kept within what has four digits for the year. */
static struct fields
date_fields(struct mime_date d)
{
    int64_t s = d.utc_s + (int64_t)d.zone_min * 60;
    int64_t lowest = civil_day((struct civil){1, 1, 1}) * 86400;
    int64_t highest = civil_day((struct civil){9999, 12, 31}) * 86400 + 86399;
    int zone = d.zone_min < 0 ? -d.zone_min : d.zone_min;

    s = s < lowest ? lowest : MIN(s, highest);
    int64_t sec = ((s % 86400) + 86400) % 86400;
    int64_t day = (s - sec) / 86400;
    return (struct fields){
        .c = day_civil(day),
        .t = {.hour = (int)(sec / 3600),
              .min = (int)(sec / 60 % 60),
              .sec = (int)(sec % 60)},
        .weekday = (int)((day % 7 + 7) % 7),
        .zone = zone / 60 % 24 * 100 + zone % 60,
        .sign = d.zone_min < 0 ? '-' : '+',
    };
}

/* The last N digits of V; the place behind them. */
static char *
put_digits(char *to, int v, size_t n)
{
    for (size_t at = n; at-- > 0; v /= 10)
        to[at] = (char)('0' + v % 10);
    return to + n;
}

void
mime_imap_datetime_format(struct mime_date d,
                          char out[MIME_IMAP_DATETIME_BYTES + 1])
{
    struct fields f = date_fields(d);
    char text[64];

    (void)snprintf(text, sizeof(text), "%2d-%s-%04d %02d:%02d:%02d %c%04d",
                   f.c.day, months[f.c.month - 1], f.c.year, f.t.hour, f.t.min,
                   f.t.sec, f.sign, f.zone);
    memcpy(out, text, MIME_IMAP_DATETIME_BYTES);
    out[MIME_IMAP_DATETIME_BYTES] = 0;
}

void
mime_date_format(struct mime_date d, char out[MIME_RFC5322_DATE_BYTES])
{
    static const char weekdays[7][4] = {"Thu", "Fri", "Sat", "Sun",
                                        "Mon", "Tue", "Wed"};
    const struct fields f = date_fields(d);

    /* "Thu, 1 Jan 1970 00:00:00 +0000": each delivery writes one. */
    memcpy(out, weekdays[f.weekday], 3);
    memcpy(out + 3, ", ", 2);
    char *to = put_digits(out + 5, f.c.day, f.c.day < 10 ? 1 : 2);
    *to++ = ' ';
    memcpy(to, months[f.c.month - 1], 3);
    to[3] = ' ';
    to = put_digits(to + 4, f.c.year, 4);
    *to++ = ' ';
    to = put_digits(to, f.t.hour, 2);
    *to++ = ':';
    to = put_digits(to, f.t.min, 2);
    *to++ = ':';
    to = put_digits(to, f.t.sec, 2);
    *to++ = ' ';
    *to++ = f.sign;
    to = put_digits(to, f.zone, 4);
    *to = '\0';
}
