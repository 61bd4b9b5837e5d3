/*
 * csync/dlist.h - the text form in which CSYNC says everything: names, strings,
 * numbers, lists and key-value lists, bit for bit as Cyrus 3.x prints and reads
 * them.  No I/O: bytes in, a tree in an arena out, and back.
 */
#ifndef POLLUX_CSYNC_DLIST_H
#define POLLUX_CSYNC_DLIST_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/ids.h"
#include "base/rd.h"

enum dlist_type {
    DLIST_NIL,
    DLIST_ATOM, /* string, flag, number, guid: not told apart on the wire */
    DLIST_LIST,
    DLIST_KVLIST,
    DLIST_FILE, /* %{partition guid size}CRLF bytes */
};

struct dlist {
    struct span name; /* empty for elements of a list */
    enum dlist_type type;
    struct span text; /* ATOM: the value; FILE: the bytes, if they are here */
    struct span partition;      /* FILE */
    struct guid guid;           /* FILE */
    uint64_t size;              /* FILE */
    struct dlist *child, *next; /* LIST, KVLIST */
};

struct dlist_limits {
    size_t total_bytes;   /* of one line with its literals, files not counted */
    size_t literal_bytes; /* one literal or quoted string */
    uint64_t file_bytes;  /* one file literal */
    unsigned depth;
    unsigned nodes;
};
/* 1 MiB, 131072 (as a Cyrus of Debian 12), 64 MiB, 32, 200000. */
extern const struct dlist_limits dlist_default_limits;

/*
 * One "NAME SP VALUE CRLF" off the front of IN, the literals of it included
 * ({n}, {n+}, files).  The tree points into IN or A.  PARSE_MORE: more bytes
 * are wanted (decided before anything of their size is allocated); PARSE_BAD:
 * not a dlist or over a limit, ERR says why; *RET_USED then skips to the end of
 * the line as Cyrus does, or is 0 when that end is not here yet.
 */
enum parse
dlist_parse(struct span in, const struct dlist_limits *limits, struct arena *a,
            struct dlist **ret, size_t *ret_used, struct error *err);

/*
 * The same by pieces, for lines that are too long to be held whole: blanks and
 * line ends off the front (how many bytes), a name, a value, the head of a file
 * literal up to its first byte.  A name or value counts as whole only when a
 * byte follows it.  PARSE_BAD leaves no way to go on.
 */
size_t
dlist_take_blanks(struct span in);
enum parse
dlist_take_name(struct span in, const struct dlist_limits *limits,
                struct arena *a, struct span *ret, size_t *ret_used,
                struct error *err);
enum parse
dlist_take_value(struct span in, const struct dlist_limits *limits,
                 struct arena *a, struct dlist *ret, size_t *ret_used,
                 struct error *err);
/* RET: partition, guid and size are set; the bytes follow. */
enum parse
dlist_take_file(struct span in, const struct dlist_limits *limits,
                struct arena *a, struct dlist *ret, size_t *ret_used,
                struct error *err);

/* Child of a kvlist by name (case-sensitive, the first wins), or NULL. */
const struct dlist *
dlist_get(const struct dlist *d, const char *name);
/* Values of children; false if absent or not of that kind. */
MUST_CHECK bool
dlist_get_text(const struct dlist *d, const char *name, struct span *ret);
MUST_CHECK bool
dlist_get_str(const struct dlist *d, const char *name, struct arena *a,
              const char **ret);
MUST_CHECK bool
dlist_get_u64(const struct dlist *d, const char *name, uint64_t *ret);
MUST_CHECK bool
dlist_get_u32(const struct dlist *d, const char *name, uint32_t *ret);
MUST_CHECK bool
dlist_get_hex64(const struct dlist *d, const char *name, uint64_t *ret);
MUST_CHECK bool
dlist_get_instid(const struct dlist *d, const char *name, struct instid *ret);

/* Which literal form to print: clients say {n+}, servers {n}. */
enum dlist_side { DLIST_CLIENT, DLIST_SERVER };

/*
 * Printing, piece by piece, with the blanks put where they belong:
 *   dlist_print_begin(&p, out, DLIST_CLIENT);
 *   dlist_open_kv(&p, "LOGOPEN"); dlist_str(&p, "CHANNEL", "b"); ...
 *   dlist_close(&p);
 * NAME NULL inside lists.
 */
struct dlist_printer {
    struct buf *out;
    enum dlist_side side;
    bool need_blank;
    unsigned depth;
};
void
dlist_print_begin(struct dlist_printer *p, struct buf *out,
                  enum dlist_side side);
void
dlist_open_kv(struct dlist_printer *p, const char *name);
void
dlist_open_list(struct dlist_printer *p, const char *name);
void
dlist_close(struct dlist_printer *p);
void
dlist_nil(struct dlist_printer *p, const char *name);
void
dlist_str(struct dlist_printer *p, const char *name, const char *value);
void
dlist_span(struct dlist_printer *p, const char *name, struct span value);
void
dlist_u64(struct dlist_printer *p, const char *name, uint64_t value);
void
dlist_hex64(struct dlist_printer *p, const char *name, uint64_t value);
void
dlist_guid(struct dlist_printer *p, const char *name, const struct guid *g);
void
dlist_instid(struct dlist_printer *p, const char *name, const struct instid *i);

#endif
