/*
 * admin/json.h - JSON text (RFC 8259) token by token, for dumps that are loaded
 * again.  No I/O, no allocation but for strings with escapes in them.
 */
#ifndef POLLUX_ADMIN_JSON_H
#define POLLUX_ADMIN_JSON_H

#include "base/arena.h"
#include "base/span.h"

#define JSON_DEPTH_MAX 32U
#define JSON_STRING_MAX 65536U

enum json_kind {
    JSON_END, /* the text is over, and was whole */
    JSON_BAD, /* not JSON; json->why says what */
    JSON_OBJECT,
    JSON_OBJECT_END,
    JSON_ARRAY,
    JSON_ARRAY_END,
    JSON_KEY,    /* of a member; its value follows */
    JSON_STRING, /* text is without quotes and escapes, UTF-8 */
    JSON_NUMBER, /* text as it is written */
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL,
};

struct json {
    struct span left;
    struct arena *arena;           /* for strings with escapes */
    const char *why;               /* JSON_BAD */
    struct span text;              /* of KEY, STRING, NUMBER */
    uint8_t stack[JSON_DEPTH_MAX]; /* '{' or '[' */
    unsigned depth;
    uint8_t expects; /* private */
};

void
json_begin(struct json *j, struct span text, struct arena *arena);
/* The next token.  After JSON_BAD only that comes. */
enum json_kind
json_next(struct json *j);
/* The value whose first token was KIND is not wanted: false if it is bad. */
bool
json_skip(struct json *j, enum json_kind kind);

#endif
