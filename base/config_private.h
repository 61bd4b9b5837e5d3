/*
 * base/config_private.h - what the readers of imapd.conf and cyrus.conf share:
 * the list of findings, values of the simple types.
 */
#ifndef POLLUX_BASE_CONFIG_PRIVATE_H
#define POLLUX_BASE_CONFIG_PRIVATE_H

#include "base/arena.h"
#include "base/config.h"

#define CONFIG_FILE_BYTES (1U << 20)
#define CONFIG_FINDINGS 500
#define CONFIG_SHOWN 64 /* bytes of the file's text that a finding repeats */

/* Findings in the order of the file; texts and names live in the arena. */
struct findings {
    struct config_finding *items;
    size_t n;
    bool errors;     /* some are errors */
    size_t first;    /* index of the first error */
    bool overflowed; /* more were found than are kept */
};

/* FILE must live as long as the findings; the text is copied.  The first error
 * is always kept, even when the list is full of lesser things. */
void
findings_add(struct findings *f, struct arena *arena,
             enum config_severity severity, const char *file, unsigned line,
             const char *fmt, ...) PRINTF_LIKE(6, 7);
void
findings_free(struct findings *f);
/* ERR_OK without errors, else ERR_SYNTAX with "file:line: text" of the first.
 */
MUST_CHECK enum errcode
findings_result(const struct findings *f, struct error *err);

/* T for a message: cut to CONFIG_SHOWN, unprintable bytes as "?". */
const char *
config_shown(struct arena *arena, struct span t);

bool
config_is_blank(uint8_t c);
MUST_CHECK bool
config_parse_switch(struct span s, bool *ret);
/* Decimal, with "-" if it must be. */
MUST_CHECK bool
config_parse_int(struct span s, int64_t *ret);

/*
 * The text most like WANTED among N ones given by AT(CTX, i): at most 3 edits
 * away, fewer for short words; NULL if there is none.  *RET_EDITS (if not NULL)
 * is how many.
 */
const char *
config_nearest(struct span wanted, const char *(*at)(const void *ctx, size_t i),
               const void *ctx, size_t n, size_t *ret_edits);

#endif
