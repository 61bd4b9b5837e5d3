/*
 * imapd/parse.h - the text of one command (imapd/reader.h) becomes a struct.
 * No I/O, no state: sequence sets stay text, since "*" is the session's.
 */
#ifndef POLLUX_IMAPD_PARSE_H
#define POLLUX_IMAPD_PARSE_H

#include <inttypes.h>

#include "base/arena.h"
#include "base/uidset.h"

enum imap_cmd {
    CMD_APPEND,
    CMD_AUTHENTICATE,
    CMD_CANCELUPDATE,
    CMD_CAPABILITY,
    CMD_CHECK,
    CMD_CLOSE,
    CMD_COMPRESS,
    CMD_COPY,
    CMD_CREATE,
    CMD_DELETE,
    CMD_DELETEACL,
    CMD_ENABLE,
    CMD_ESEARCH,
    CMD_EXAMINE,
    CMD_EXPUNGE,
    CMD_FETCH,
    CMD_GETACL,
    CMD_GETMETADATA,
    CMD_GETQUOTA,
    CMD_GETQUOTAROOT,
    CMD_ID,
    CMD_IDLE,
    CMD_LIST,
    CMD_LISTRIGHTS,
    CMD_LOGIN,
    CMD_LOGOUT,
    CMD_LSUB,
    CMD_MOVE,
    CMD_MYRIGHTS,
    CMD_NAMESPACE,
    CMD_NOOP,
    CMD_NOTIFY,
    CMD_RENAME,
    CMD_REPLACE,
    CMD_SEARCH,
    CMD_SELECT,
    CMD_SETACL,
    CMD_SETMETADATA,
    CMD_SETQUOTA,
    CMD_SORT,
    CMD_STARTTLS,
    CMD_STATUS,
    CMD_STORE,
    CMD_SUBSCRIBE,
    CMD_THREAD,
    CMD_UNAUTHENTICATE,
    CMD_UNSELECT,
    CMD_UNSUBSCRIBE,
    CMD_XLIST,
    CMD_COUNT,
};

/* Flags as a client names them: system flags as bits, the rest as keywords. */
struct imap_flags {
    uint32_t flags; /* FLAG_* of store/types.h */
    struct span *keywords;
    size_t nkeywords;
};

enum imap_fetch_what {
    FETCH_UID,
    FETCH_FLAGS,
    FETCH_INTERNALDATE,
    FETCH_RFC822_SIZE,
    FETCH_ENVELOPE,
    FETCH_BODY,
    FETCH_BODYSTRUCTURE,
    FETCH_SAVEDATE, /* RFC 8514 */
    FETCH_EMAILID,  /* RFC 8474 */
    FETCH_THREADID,
    FETCH_MODSEQ,  /* RFC 7162 */
    FETCH_SECTION, /* BODY[...], RFC822, RFC822.HEADER, RFC822.TEXT */
    FETCH_BINARY,  /* RFC 3516 */
    FETCH_BINARY_SIZE,
    FETCH_PREVIEW,    /* RFC 8970 */
    FETCH_ANNOTATION, /* RFC 5257 */
};

enum { /* attributes of an annotation (RFC 5257, 3.2.2) */
       ANNOT_VALUE_PRIV = 1U << 0,
       ANNOT_VALUE_SHARED = 1U << 1,
       ANNOT_SIZE_PRIV = 1U << 2,
       ANNOT_SIZE_SHARED = 1U << 3,
};

/* What a FETCH asks of the annotations of a message. */
struct imap_annot_ask {
    struct span *entries; /* '*' and '%' may be in them */
    size_t nentries;
    unsigned attributes; /* ANNOT_* */
};

/* What a STORE or an APPEND sets. */
struct imap_annot_set {
    const char *entry;
    bool is_private;
    bool is_nil; /* it goes */
    struct span value;
};

struct imap_fetch_item {
    enum imap_fetch_what what;
    bool peek;           /* FETCH_SECTION, _BINARY: \Seen stays as it is */
    bool lazy;           /* FETCH_PREVIEW */
    struct span label;   /* how the answer names it: "BODY[1.MIME]<0>" */
    struct span section; /* for mime_section_find() */
    bool has_fields;     /* HEADER.FIELDS or HEADER.FIELDS.NOT */
    bool fields_not;
    struct span *fields;
    size_t nfields;
    struct imap_annot_ask annot; /* FETCH_ANNOTATION */
    bool has_partial;
    uint32_t partial_off;
    uint32_t partial_bytes;
};

enum imap_search_kind {
    SEARCH_ALL,
    SEARCH_AND,     /* kids */
    SEARCH_OR,      /* two kids */
    SEARCH_NOT,     /* one kid */
    SEARCH_FUZZY,   /* two kids: as it stands, and what will do */
    SEARCH_FLAG,    /* flag, want */
    SEARCH_KEYWORD, /* text, want */
    SEARCH_RECENT,  /* want */
    SEARCH_NEW,     /* RECENT UNSEEN */
    SEARCH_BEFORE,  /* day; as the next five */
    SEARCH_ON,
    SEARCH_SINCE,
    SEARCH_SENTBEFORE,
    SEARCH_SENTON,
    SEARCH_SENTSINCE,
    SEARCH_LARGER, /* number */
    SEARCH_SMALLER,
    SEARCH_HEADER, /* name, text */
    SEARCH_BODY,   /* text */
    SEARCH_TEXT,
    SEARCH_MODSEQ, /* number (RFC 7162) */
    SEARCH_OLDER,  /* number: seconds (RFC 5032) */
    SEARCH_YOUNGER,
    SEARCH_SAVEDBEFORE, /* day (RFC 8514) */
    SEARCH_SAVEDON,
    SEARCH_SAVEDSINCE,
    SEARCH_EMAILID,    /* text (RFC 8474) */
    SEARCH_ANNOTATION, /* name, flag: ANNOT_VALUE_*, text (RFC 5257) */
    SEARCH_UIDS,       /* text: a sequence set */
    SEARCH_SEQS,
};

enum { /* RETURN (...) of SEARCH and SORT: RFC 4731, 5182, 9394 */
       RETURN_GIVEN = 1U << 0,
       RETURN_MIN = 1U << 1,
       RETURN_MAX = 1U << 2,
       RETURN_ALL = 1U << 3,
       RETURN_COUNT = 1U << 4,
       RETURN_SAVE = 1U << 5,
       RETURN_PARTIAL = 1U << 6,
       RETURN_RELEVANCY = 1U << 7, /* RFC 6203 */
       RETURN_CONTEXT = 1U << 8,   /* RFC 5267: a hint */
       RETURN_UPDATE = 1U << 9,
};

enum imap_source_kind { /* RFC 5465, 6, and 7377, 2.2 */
                        SOURCE_SELECTED,
                        SOURCE_INBOXES,
                        SOURCE_PERSONAL,
                        SOURCE_SUBSCRIBED,
                        SOURCE_SUBTREE,
                        SOURCE_SUBTREE_ONE,
                        SOURCE_MAILBOXES,
};

struct imap_source {
    enum imap_source_kind kind;
    struct span *names;
    size_t nnames;
};

enum { /* events of NOTIFY (RFC 5465, 5) */
       EVENT_MESSAGE_NEW = 1U << 0,
       EVENT_MESSAGE_EXPUNGE = 1U << 1,
       EVENT_FLAG = 1U << 2,
       EVENT_ANNOTATION = 1U << 3,
       EVENT_OF_MESSAGES = (1U << 4) - 1,
       EVENT_NAME = 1U << 4,
       EVENT_SUBSCRIPTION = 1U << 5,
       EVENT_METADATA = 1U << 6,
       EVENT_SERVER_METADATA = 1U << 7,
};

struct imap_notify_group {
    bool selected;             /* of the selected mailbox, */
    bool delayed;              /* EXPUNGE only where a command allows it */
    struct imap_source source; /* else: of these */
    unsigned events;
    struct span items; /* MessageNew (...): with its parentheses, as given */
};

/* No groups: NONE. */
struct imap_notify {
    bool status;
    bool has_selected;
    bool unknown_event;
    struct imap_notify_group *groups;
    size_t ngroups;
};

enum imap_sort_what { /* RFC 5256, 5957 */
                      SORT_ARRIVAL,
                      SORT_CC,
                      SORT_DATE,
                      SORT_FROM,
                      SORT_SIZE,
                      SORT_SUBJECT,
                      SORT_TO,
                      SORT_DISPLAYFROM,
                      SORT_DISPLAYTO,
                      SORT_RELEVANCY,  /* RFC 6203 */
                      SORT_ANNOTATION, /* entry, is_private (RFC 5257) */
};

struct imap_sort_key {
    enum imap_sort_what what;
    bool reverse;
    const char *entry;
    bool is_private;
};

#define IMAP_SORT_KEYS_MAX 10U

enum imap_thread { THREAD_ORDEREDSUBJECT, THREAD_REFERENCES, THREAD_REFS };

struct mime_needle;

struct imap_search {
    enum imap_search_kind kind;
    struct imap_search *kids; /* first of a list by next */
    struct imap_search *next;
    uint32_t flag;
    bool want;
    int32_t day; /* since 1970 */
    uint64_t number;
    struct span name;
    struct span text;
    /* For who runs it. */
    struct uidset set;
    struct mime_needle *needle;
    bool has_hits; /* of the index: what is not among them does not match, */
    bool exact;    /* and what is, does */
    struct uidset hits;
};

enum {
    STATUS_MESSAGES = 1U << 0,
    STATUS_RECENT = 1U << 1,
    STATUS_UIDNEXT = 1U << 2,
    STATUS_UIDVALIDITY = 1U << 3,
    STATUS_UNSEEN = 1U << 4,
    STATUS_DELETED = 1U << 5,          /* RFC 9051 */
    STATUS_SIZE = 1U << 6,             /* RFC 8438 */
    STATUS_HIGHESTMODSEQ = 1U << 7,    /* RFC 7162 */
    STATUS_MAILBOXID = 1U << 8,        /* RFC 8474 */
    STATUS_APPENDLIMIT = 1U << 9,      /* RFC 7889 */
    STATUS_DELETED_STORAGE = 1U << 10, /* RFC 9208 */
};

enum { /* LIST-EXTENDED (RFC 5258) */
       LIST_SELECT_SUBSCRIBED = 1U << 0,
       LIST_SELECT_SPECIAL_USE = 1U << 1,
       LIST_SELECT_REMOTE = 1U << 2,
       LIST_SELECT_RECURSIVE = 1U << 3,
       LIST_RETURN_SUBSCRIBED = 1U << 4,
       LIST_RETURN_CHILDREN = 1U << 5,
       LIST_RETURN_SPECIAL_USE = 1U << 6,
       LIST_RETURN_STATUS = 1U << 7,   /* RFC 5819 */
       LIST_RETURN_MYRIGHTS = 1U << 8, /* RFC 8440 */
       LIST_RETURN_METADATA = 1U << 9, /* RFC 9590 */
};

struct imap_list {
    unsigned options;
    bool extended;        /* selection, return options, or several patterns */
    unsigned status;      /* STATUS_*: with LIST_RETURN_STATUS */
    struct span *entries; /* with LIST_RETURN_METADATA */
    size_t nentries;
    struct span reference;
    struct span *patterns;
    size_t npatterns;
};

/* A piece of a message that is put together (RFC 4469). */
struct imap_cat_part {
    struct imap_cat_part *next;
    bool is_url;
    struct span url;
    uint64_t bytes; /* of a literal, which is not in the text */
};

/* One message of APPEND (RFC 3502: there may be several) or REPLACE. */
struct imap_append {
    struct imap_append *next;
    struct imap_flags flags;
    bool has_date;
    int64_t date_s;
    int32_t date_zone_min;
    struct imap_annot_set *annots;
    size_t nannots;
    bool is_binary; /* a literal8: NUL may be in it */
    bool is_catenate;
    struct imap_cat_part *parts; /* else: one literal */
};

#define IMAP_APPENDS_MAX 500U    /* messages of one command */
#define IMAP_CAT_PARTS_MAX 1000U /* of all of them */

/* What RFC 7162 lets a client add to SELECT. */
struct imap_qresync {
    bool given;
    uint32_t uidvalidity;
    uint64_t modseq;
    struct span known_uids;             /* empty: all */
    struct span match_seqs, match_uids; /* empty: not given */
};

enum imap_metadata_depth { /* RFC 5464, 4.2.2 */
                           METADATA_ITSELF,
                           METADATA_ONE_BELOW,
                           METADATA_ALL_BELOW,
};

struct imap_quota_limit {
    struct span resource;
    uint64_t limit;
};

/* One command; everything lives in the arena or in the text. */
struct imap_command {
    struct span tag;
    enum imap_cmd cmd;
    bool uid;         /* UID FETCH, UID STORE ... */
    struct span set;  /* sequence set, its syntax checked */
    struct span name; /* mailbox, or quota root, or LOGIN's user */
    struct span arg;  /* the second: RENAME's new name, password, partition,
                         AUTHENTICATE's mechanism, an identifier */
    bool has_arg;
    struct span arg2; /* AUTHENTICATE: initial response; SETACL: rights */
    bool has_arg2;
    struct span use; /* CREATE: "\\Sent \\Trash" as given; empty: none */
    bool has_use;
    struct imap_flags flags;       /* STORE */
    struct imap_annot_set *annots; /* STORE ANNOTATION, in place of flags */
    size_t nannots;
    char store_mode; /* '=', '+', '-' */
    bool silent;
    struct imap_append *append; /* APPEND, REPLACE */
    struct imap_append *last_append;
    size_t nappends;
    uint64_t literal_bytes; /* of the last literal of them */
    struct imap_fetch_item *items;
    size_t nitems;
    struct imap_search *search;
    unsigned returns;            /* RETURN_* */
    struct span update_items;    /* UPDATE (...): in parentheses, as given */
    struct imap_source *sources; /* ESEARCH; none: what is selected */
    size_t nsources;
    struct imap_notify notify;
    int64_t partial_from; /* PARTIAL from:to, both of one sign; 0: not given */
    int64_t partial_to;
    struct imap_sort_key sort[IMAP_SORT_KEYS_MAX];
    size_t nsort;
    enum imap_thread thread;
    struct span charset; /* SEARCH; empty: none given */
    unsigned status;     /* STATUS_* */
    struct imap_list list;
    bool condstore; /* SELECT: (CONDSTORE) */
    bool annotate;  /* SELECT: (ANNOTATE) */
    struct imap_qresync qresync;
    bool has_since; /* FETCH: CHANGEDSINCE; STORE: UNCHANGEDSINCE */
    uint64_t since;
    bool vanished;      /* FETCH: (CHANGEDSINCE n VANISHED) */
    struct span *words; /* ENABLE; ID: names and values in turn; METADATA:
                           entries */
    size_t nwords;
    struct span *values; /* SETMETADATA: of the words; p NULL: NIL */
    enum imap_metadata_depth metadata_depth;
    bool has_maxsize; /* GETMETADATA */
    uint64_t maxsize;
    struct imap_quota_limit *limits; /* SETQUOTA */
    size_t nlimits;
};

enum imap_parsed {
    IMAP_PARSED,
    IMAP_PARSE_BAD,     /* *RET_WHY says what is wrong; tag may be set */
    IMAP_PARSE_UNKNOWN, /* no such command; tag is set */
};

/*
 * Parse TEXT.  RET->tag is set whenever there is one, else empty.  *RET_WHY is
 * static text, for the client.  Nothing is read beyond what the grammar of
 * RFC 3501, 9 (and of the extensions announced) takes; one blank is one blank.
 */
enum imap_parsed
imap_parse(struct span text, struct arena *a, struct imap_command *ret,
           const char **ret_why);

/*
 * TEXT ends in the announcement of a literal.  Is that the message of an
 * APPEND?  Then *RET has tag, name, flags and date.
 */
bool
imap_parse_append_head(struct span text, struct arena *a,
                       struct imap_command *ret);

/* Name of the command, "UID FETCH" is "FETCH". */
const char *
imap_cmd_name(enum imap_cmd cmd);
/* Is there a "UID name"? */
bool
imap_cmd_takes_uid(enum imap_cmd cmd);

/* Limits of what a command may hold. */
#define IMAP_TAG_MAX 64U
#define IMAP_ITEMS_MAX 256U
#define IMAP_LIST_MAX 1000U
#define IMAP_SEARCH_MAX 2000U
#define IMAP_SOURCES_MAX 100U
#define IMAP_SEARCH_DEPTH 60U
#define IMAP_RANGES_MAX 20000U

#endif
