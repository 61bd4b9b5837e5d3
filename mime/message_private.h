/*
 * mime/message_private.h - what mime_parse() leaves for mime_cache_encode().
 */
#ifndef POLLUX_MIME_MESSAGE_PRIVATE_H
#define POLLUX_MIME_MESSAGE_PRIVATE_H

#include "base/arena.h"
#include "mime/header.h"
#include "mime/message.h"

#define MIME_DEPTH_MAX 500U

enum mime_env_list {
    MIME_FROM,
    MIME_SENDER,
    MIME_REPLY_TO,
    MIME_TO,
    MIME_CC,
    MIME_BCC,
    MIME_ENV_LISTS,
};

/* What ENVELOPE wants of the header of a message or of one in it.  Values are
 * as in the message, NULL where the field is absent; the first one counts. */
struct mime_env {
    struct span date;
    struct span subject;
    struct span in_reply_to;
    struct span message_id;
    struct span references;
    struct {
        struct mime_address *first;
        struct mime_address **tail; /* fields of one name are one list */
    } lists[MIME_ENV_LISTS];
};

/* What the body structure wants of a part. */
struct mime_node {
    struct mime_part part;
    size_t end;       /* index behind the last part in this one */
    bool opaque;      /* a container that was not looked into */
    bool plain;       /* to be called text/plain whatever the header says */
    bool digest;      /* multipart/digest: parts are messages by default */
    uint64_t body_lf; /* line feeds before the body, while parsing */
    struct mime_typed type;
    struct span id;
    struct span description;
    struct span encoding;
    struct span md5;
    struct span disposition;
    struct span language;
    struct span location;
    struct mime_env *env; /* of a message, else NULL */
};

struct mime_message {
    struct span raw;
    struct mime_limits limits; /* with defaults filled in */
    bool limited;
    struct arena arena;
    struct mime_node *nodes; /* from the front to the back */
    size_t n;
    size_t cap;
};

/* mime/kept.c: append the fields of HEADER that mime_cache_keeps(), as they
 * are; false, and nothing, if they are more than MAX bytes. */
MUST_CHECK bool
mime_kept_fields(struct span header, size_t max, struct buf *out);

#endif
