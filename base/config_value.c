/*
 * base/config_value.c - values of options, as imapd.conf(5) writes them.
 *
 * A number that Cyrus would silently raise to a minimum is raised here too, and
 * said; a word that no table knows is a mistake, with the nearest one named.
 */
#include "base/config_value.h"

#include <inttypes.h>

/* A duration or size that no one means: keeps every sum within 63 bits. */
#define VALUE_MAX (INT64_C(1) << 55)

static bool
next_word(struct span *rest, char separator, struct span *ret)
{
    for (;;) {
        size_t n = 0;

        if (separator == '|') {
            while (n < rest->n && rest->p[n] != '|')
                n++;
        } else {
            *rest = span_trim(*rest);
            while (n < rest->n && !config_is_blank(rest->p[n]))
                n++;
        }
        if (rest->n == 0)
            return false;
        *ret = span_trim(span_sub(*rest, 0, n));
        *rest = span_skip(*rest, n < rest->n ? n + 1 : n);
        if (ret->n > 0)
            return true;
    }
}

static void
parse_list(struct arena *arena, const struct config_option *o, struct span text,
           struct config_value *ret)
{
    size_t n = 0;
    struct span word;

    for (struct span rest = text; next_word(&rest, o->unit, &word);)
        n++;

    const char **words = arena_array(arena, n + 1, sizeof(*words));
    n = 0;
    for (struct span rest = text; next_word(&rest, o->unit, &word);)
        words[n++] = span_eq_str(word, "\"\"") ? "" : arena_str(arena, word);
    words[n] = NULL;
    ret->words = words;
}

/* Is WORD one of the spellings "a=b=c"? */
static bool
spells(const char *spellings, struct span word)
{
    struct span rest = span_str(spellings);

    for (;;) {
        ptrdiff_t end = span_find_byte(rest, '=', 0);
        if (span_eq_nocase(end < 0 ? rest : span_sub(rest, 0, (size_t)end),
                           word))
            return true;
        if (end < 0)
            return false;
        rest = span_skip(rest, (size_t)end + 1);
    }
}

static bool
find_word(const struct config_option *o, struct span word, unsigned *ret)
{
    for (unsigned i = 0; o->words[i] != NULL; i++) {
        if (spells(o->words[i], word)) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static const char *
word_at(const void *ctx, size_t i)
{
    const struct config_option *o = ctx;

    return o->words[i];
}

/* The sentence for a word that is not in the table: the nearest, or all. */
static const char *
unknown_word(struct arena *arena, const struct config_option *o,
             struct span word)
{
    size_t n = 0;
    while (o->words[n] != NULL)
        n++;

    const char *shown = config_shown(arena, word);
    const char *near = config_nearest(word, word_at, o, n, NULL);
    if (near != NULL)
        return arena_printf(arena, "\"%s\" is unknown, did you mean \"%.*s\"?",
                            shown, (int)strcspn(near, "="), near);

    struct buf all = BUF_MAX(256);
    for (size_t i = 0; i < n; i++)
        buf_addf(&all, "%s%.*s", i == 0 ? "" : ", ",
                 (int)strcspn(o->words[i], "="), o->words[i]);
    const char *why =
        arena_printf(arena, "\"%s\" is unknown, it may be %s%s", shown,
                     buf_cstr(&all), all.full ? " ..." : "");
    buf_free(&all);
    return why;
}

/* Words of the table, and "yes", "0" and so on where it has "on" and "off". */
static bool
parse_enum(struct arena *arena, const struct config_option *o, struct span text,
           struct config_value *ret, const char **ret_why)
{
    unsigned i;
    bool on;

    if (!find_word(o, text, &i) &&
        !(config_parse_switch(text, &on) &&
          find_word(o, span_str(on ? "on" : "off"), &i))) {
        *ret_why = unknown_word(arena, o, text);
        return false;
    }
    ret->u = i;
    return true;
}

static bool
parse_bits(struct arena *arena, const struct config_option *o, struct span text,
           struct config_value *ret, const char **ret_why)
{
    uint64_t bits = 0;
    struct span word;

    for (struct span rest = text; next_word(&rest, ' ', &word);) {
        unsigned i;
        if (!find_word(o, word, &i)) {
            *ret_why = unknown_word(arena, o, word);
            return false;
        }
        bits |= UINT64_C(1) << i;
    }
    ret->u = bits;
    return true;
}

static int64_t
unit_of(char c)
{
    switch (c) {
    case 's':
    case 'B':
        return 1;
    case 'm':
        return 60;
    case 'h':
        return 3600;
    case 'd':
        return 86400;
    case 'K':
        return 1024;
    case 'M':
        return 1024 * 1024;
    case 'G':
        return 1024 * 1024 * 1024;
    default:
        return 0;
    }
}

/* Digits at the front of *REST, as a number up to VALUE_MAX. */
static bool
take_number(struct span *rest, int64_t *ret)
{
    size_t n = 0;
    uint64_t v;

    while (n < rest->n && rest->p[n] >= '0' && rest->p[n] <= '9')
        n++;
    if (!parse_u64(span_sub(*rest, 0, n), &v) || v > VALUE_MAX)
        return false;
    *rest = span_skip(*rest, n);
    *ret = (int64_t)v;
    return true;
}

/* "[-]N[unit][N[unit]...]"; UNITS are those that may be written. */
static bool
parse_amount(const struct config_option *o, struct span text, const char *units,
             int64_t *ret)
{
    bool negative = text.n > 0 && text.p[0] == '-';
    struct span rest = span_skip(text, negative ? 1 : 0);
    int64_t sum = 0;

    if (rest.n == 0)
        return false;
    while (rest.n > 0) {
        int64_t n;
        if (!take_number(&rest, &n))
            return false;

        char unit = o->unit;
        if (rest.n > 0) {
            const char *known = strchr(units, (char)rest.p[0]);
            if (known == NULL || rest.p[0] == '\0')
                return false;
            unit = o->type == CONFIG_BYTES ? (char)ascii_upper(rest.p[0])
                                           : (char)rest.p[0];
            rest = span_skip(rest, 1);
        }
        if (n > (VALUE_MAX - sum) / unit_of(unit))
            return false;
        sum += n * unit_of(unit);
    }
    *ret = negative ? -sum : sum;
    return true;
}

/* Below and above what the row allows: taken as the nearest allowed. */
static int64_t
clamped(struct arena *arena, const struct config_option *o, int64_t v,
        const char **ret_why)
{
    if (o->min == 0 && o->max == 0)
        return v;

    int64_t taken = MIN(MAX(v, o->min), o->max);
    if (taken != v)
        *ret_why =
            arena_printf(arena, "%" PRId64 " %s is the %s: that is used", taken,
                         o->type == CONFIG_DURATION ? "s" : "bytes",
                         taken > v ? "least" : "most");
    return taken;
}

static bool
parse_duration(struct arena *arena, const struct config_option *o,
               struct span text, struct config_value *ret, const char **ret_why)
{
    int64_t v;
    bool on;

    if (!parse_amount(o, text, "smhd", &v)) {
        if (o->or_switch && config_parse_switch(text, &on)) {
            ret->u = on ? CONFIG_FOREVER : 0;
            return true;
        }
        *ret_why = arena_printf(arena,
                                "\"%s\" is not a duration as 90s, 32m, "
                                "1d12h",
                                config_shown(arena, text));
        return false;
    }
    if (v < 0 && o->min < 0) {
        ret->u = CONFIG_FOREVER;
        return true;
    }
    if (v < 0) {
        *ret_why = "a duration that is not negative is wanted";
        return false;
    }
    ret->u = (uint64_t)clamped(arena, o, v, ret_why);
    return true;
}

static bool
parse_bytes(struct arena *arena, const struct config_option *o,
            struct span text, struct config_value *ret, const char **ret_why)
{
    struct span number = text;
    int64_t v;

    /* Later Cyrus takes "64MB" and "64MiB" as well. */
    if (number.n > 2 && ascii_lower(number.p[number.n - 1]) == 'b') {
        bool binary = ascii_lower(number.p[number.n - 2]) == 'i';
        if (number.p[number.n - 2] > '9')
            number = span_sub(number, 0, number.n - (binary ? 2 : 1));
    }
    if (!parse_amount(o, number, "KMGkmgB", &v) || v < 0) {
        *ret_why =
            arena_printf(arena, "\"%s\" is not a size as 8192, 512K, 64M, 2G",
                         config_shown(arena, text));
        return false;
    }
    ret->u = (uint64_t)clamped(arena, o, v, ret_why);
    return true;
}

static bool
parse_int(struct arena *arena, const struct config_option *o, struct span text,
          struct config_value *ret, const char **ret_why)
{
    int64_t v;

    if (!config_parse_int(text, &v)) {
        *ret_why = arena_printf(arena, "\"%s\" is not a number",
                                config_shown(arena, text));
        return false;
    }
    if ((o->min != 0 || o->max != 0) && (v < o->min || v > o->max)) {
        *ret_why = arena_printf(
            arena, "%" PRId64 " is not between %" PRId64 " and %" PRId64, v,
            o->min, o->max);
        return false;
    }
    ret->i = v;
    return true;
}

static bool
parse_switch(struct arena *arena, struct span text, struct config_value *ret,
             const char **ret_why)
{
    bool on;

    if (!config_parse_switch(text, &on)) {
        *ret_why = arena_printf(arena, "\"%s\" is neither yes nor no",
                                config_shown(arena, text));
        return false;
    }
    ret->u = on;
    return true;
}

static bool
parse_typed(struct arena *arena, const struct config_option *o,
            struct span text, struct config_value *ret, const char **ret_why)
{
    switch (o->type) {
    case CONFIG_STRING:
        return true;
    case CONFIG_INT:
        return parse_int(arena, o, text, ret, ret_why);
    case CONFIG_SWITCH:
        return parse_switch(arena, text, ret, ret_why);
    case CONFIG_ENUM:
        return parse_enum(arena, o, text, ret, ret_why);
    case CONFIG_BITFIELD:
        return parse_bits(arena, o, text, ret, ret_why);
    case CONFIG_DURATION:
        return parse_duration(arena, o, text, ret, ret_why);
    case CONFIG_BYTES:
        return parse_bytes(arena, o, text, ret, ret_why);
    case CONFIG_LIST:
        parse_list(arena, o, text, ret);
        return true;
    }
    ENSURE(false); /* no other type is in the table */
    return false;
}

bool
config_value_parse(struct arena *arena, const struct config_option *o,
                   struct span text, struct config_value *ret,
                   const char **ret_why)
{
    struct config_value v = {0};

    *ret_why = NULL;
    if (!parse_typed(arena, o, text, &v, ret_why))
        return false;
    v.text = arena_str(arena, text);
    *ret = v;
    return true;
}
