/*
 * base/config_findings.c - what a reader of a configuration file has to say
 * about it, and the small parsers that both files need.
 *
 * A reader never stops at the first mistake: an admin wants to see all of them
 * at once.  The number that is kept is bounded, since a file may be garbage.
 */
#include "base/config_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* The last place of a full list is kept for an error. */
static bool
has_room(const struct findings *f, enum config_severity severity)
{
    if (severity == CONFIG_ERROR && !f->errors)
        return f->n < CONFIG_FINDINGS;
    return f->n < CONFIG_FINDINGS - 1;
}

void
findings_add(struct findings *f, struct arena *arena,
             enum config_severity severity, const char *file, unsigned line,
             const char *fmt, ...)
{
    if (!has_room(f, severity)) {
        f->overflowed = true;
        return;
    }
    if (f->items == NULL)
        f->items = xcalloc(CONFIG_FINDINGS, sizeof(*f->items));

    char text[ERROR_TEXT_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);

    if (severity == CONFIG_ERROR && !f->errors) {
        f->errors = true;
        f->first = f->n;
    }
    f->items[f->n++] =
        (struct config_finding){.severity = severity,
                                .file = file,
                                .line = line,
                                .text = arena_str(arena, span_str(text))};
}

void
findings_free(struct findings *f)
{
    free(f->items);
    *f = (struct findings){0};
}

enum errcode
findings_result(const struct findings *f, struct error *err)
{
    if (!f->errors)
        return ERR_OK;

    const struct config_finding *first = &f->items[f->first];
    if (first->line == 0)
        return error_set(err, ERR_SYNTAX, "%s: %s", first->file, first->text);
    return error_set(err, ERR_SYNTAX, "%s:%u: %s", first->file, first->line,
                     first->text);
}

const char *
config_shown(struct arena *arena, struct span t)
{
    size_t n = MIN(t.n, (size_t)CONFIG_SHOWN);
    char *s = arena_alloc(arena, n + 4);

    for (size_t i = 0; i < n; i++)
        s[i] = t.p[i] >= ' ' && t.p[i] < 0x7f ? (char)t.p[i] : '?';
    if (n < t.n)
        memcpy(s + n, "...", 3);
    return s;
}

bool
config_is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' ||
           c == '\f';
}

bool
config_parse_switch(struct span s, bool *ret)
{
    static const char *const words[][2] = {
        {"no", "yes"},     {"off", "on"}, {"0", "1"},
        {"false", "true"}, {"f", "t"},    {"n", "y"},
    };

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        for (unsigned v = 0; v < 2; v++) {
            if (span_eq_nocase_str(s, words[i][v])) {
                *ret = v == 1;
                return true;
            }
        }
    }
    return false;
}

bool
config_parse_int(struct span s, int64_t *ret)
{
    bool negative = s.n > 0 && s.p[0] == '-';
    uint64_t v;

    if (!parse_u64(span_skip(s, negative ? 1 : 0), &v) || v > INT64_MAX)
        return false;
    *ret = negative ? -(int64_t)v : (int64_t)v;
    return true;
}

#define NEAREST_MAX 48 /* longer words are not compared */

/*
 * Edits (insert, delete, replace, swap of neighbours) from A to B: three rows
 * of the usual table.  Given up above LIMIT: any number above it.
 */
static size_t
distance(struct span a, struct span b, size_t limit)
{
    uint8_t rows[3][NEAREST_MAX + 1];
    uint8_t *before = rows[0], *above = rows[1], *row = rows[2];

    for (size_t j = 0; j <= b.n; j++)
        above[j] = (uint8_t)j;
    for (size_t i = 1; i <= a.n; i++) {
        uint8_t least = row[0] = (uint8_t)i;
        for (size_t j = 1; j <= b.n; j++) {
            bool same = ascii_lower(a.p[i - 1]) == ascii_lower(b.p[j - 1]);
            uint8_t best = (uint8_t)(above[j - 1] + (same ? 0 : 1));
            best = (uint8_t)MIN(best, above[j] + 1);
            best = (uint8_t)MIN(best, row[j - 1] + 1);
            if (i > 1 && j > 1 &&
                ascii_lower(a.p[i - 1]) == ascii_lower(b.p[j - 2]) &&
                ascii_lower(a.p[i - 2]) == ascii_lower(b.p[j - 1]))
                best = (uint8_t)MIN(best, before[j - 2] + 1);
            row[j] = best;
            least = MIN(least, best);
        }
        /* A swap reaches two rows back, and costs one. */
        if (least > limit + 1)
            return least;
        uint8_t *oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[b.n];
}

const char *
config_nearest(struct span wanted, const char *(*at)(const void *ctx, size_t i),
               const void *ctx, size_t n, size_t *ret_edits)
{
    const char *best = NULL;
    size_t limit = wanted.n < 4 ? 1 : wanted.n < 12 ? 2 : 3;

    if (wanted.n < 2 || wanted.n > NEAREST_MAX)
        return NULL;
    for (size_t i = 0; i < n && limit > 0; i++) {
        struct span have = span_str(at(ctx, i));
        size_t apart =
            have.n > wanted.n ? have.n - wanted.n : wanted.n - have.n;

        if (apart > limit || have.n > NEAREST_MAX)
            continue;
        size_t d = distance(wanted, have, limit);
        if (d < limit || (d == limit && best == NULL)) {
            best = at(ctx, i);
            limit = d;
        }
    }
    if (best != NULL && ret_edits != NULL)
        *ret_edits = limit;
    return best;
}
