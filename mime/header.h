/*
 * mime/header.h - header blocks: fields, addresses, parameters.
 *
 * A header block is what mime_section_find() gives for "HEADER" or "1.MIME":
 * fields, folded or not, and (usually) the empty line that ends them.  Lines
 * that are no field (mbox "From ", garbage) are skipped.
 */
#ifndef POLLUX_MIME_HEADER_H
#define POLLUX_MIME_HEADER_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/span.h"

/* One field; everything points into the block. */
struct mime_field {
    struct span name;  /* without blanks and colon */
    struct span value; /* behind the colon, still folded, no line end at last */
    struct span raw;   /* the whole, with folds and the line end */
};

/* Take the next field off *BLOCK; false at its end. */
bool
mime_field_next(struct span *block, struct mime_field *ret);

/*
 * Append the fields of BLOCK whose name is (with NOT: is not) one of NAMES,
 * as they are, and an empty line: HEADER.FIELDS and HEADER.FIELDS.NOT of
 * RFC 3501, 6.4.5.  Case is ignored.  Each field ends with a line end even if
 * the last one did not.
 */
void
mime_header_fields(struct span block, const struct span *names, size_t n,
                   bool not, struct buf *out);

/* The N-th (from 0) field NAME of BLOCK, its value unfolded and trimmed (bytes
 * as they are, no decoding); false if there is none. */
bool
mime_header_get(struct span block, struct span name, size_t n, struct buf *out);

/* Append VALUE without folds and blanks at its ends (RFC 5322, 2.2.3); NUL
 * becomes '?', for no string of IMAP may hold it. */
void
mime_unfold(struct span value, struct buf *out);

enum mime_address_kind {
    MIME_ADDRESS_MAILBOX,
    MIME_ADDRESS_GROUP, /* begin of a group: mailbox is its name */
    MIME_ADDRESS_GROUP_END,
};

/* One entry of an address list; quoting is removed, encoded words are not. */
struct mime_address {
    enum mime_address_kind kind;
    struct span name;  /* display name, else the comment behind it; or empty */
    struct span route; /* "@a,@b" (obsolete), or empty */
    struct span mailbox; /* local part */
    struct span host;    /* empty if there was no "@" */
    struct mime_address *next;
};

/*
 * Parse an address list (RFC 5322, 3.4 and 4.4), forgiving: something comes out
 * of anything that is not blank.  At most MAX entries, in memory of ARENA, all
 * groups closed.  Returns their number; *RET_FULL (may be NULL) is set true,
 * and never false, if there were more.
 */
size_t
mime_addresses_parse(struct span value, size_t max, struct arena *arena,
                     struct mime_address **ret, bool *ret_full);

/* One parameter: "name=value" of RFC 2045, pieces of RFC 2231 put together. */
struct mime_param {
    struct span name;  /* with '*' at the end if the value is encoded */
    struct span value; /* unquoted; or charset'lang'%41... */
    struct mime_param *next;
};

/* "text/plain; charset=..." or "attachment; filename=..." */
struct mime_typed {
    struct span type;    /* empty if it does not parse */
    struct span subtype; /* empty but for a type with a slash */
    struct mime_param *params;
};

/*
 * Parse a Content-Type (SLASH) or Content-Disposition (without) value, at most
 * MAX parameters.  *RET_FULL as above.
 */
void
mime_typed_parse(struct span value, bool slash, size_t max, struct arena *arena,
                 struct mime_typed *ret, bool *ret_full);

/* Value of parameter NAME (case ignored; "NAME*" not counted), or empty. */
struct span
mime_param_get(const struct mime_typed *typed, const char *name);

#endif
