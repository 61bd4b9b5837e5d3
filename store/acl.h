/*
 * store/acl.h - rights (RFC 4314) and their text form in mailbox heads,
 * "id TAB rights TAB" repeated, as Cyrus has it.
 */
#ifndef POLLUX_STORE_ACL_H
#define POLLUX_STORE_ACL_H

#include "base/buf.h"
#include "base/error.h"

enum { /* bit i is the letter at i of "lrswipkxtecdan" less the obsolete ones*/
       ACL_LOOKUP = 1U << 0,     /* l */
       ACL_READ = 1U << 1,       /* r */
       ACL_SEEN = 1U << 2,       /* s */
       ACL_WRITE = 1U << 3,      /* w */
       ACL_INSERT = 1U << 4,     /* i */
       ACL_POST = 1U << 5,       /* p */
       ACL_CREATE = 1U << 6,     /* k */
       ACL_DELETEMBOX = 1U << 7, /* x */
       ACL_DELETEMSG = 1U << 8,  /* t */
       ACL_EXPUNGE = 1U << 9,    /* e */
       ACL_ADMIN = 1U << 10,     /* a */
       ACL_ANNOTATE = 1U << 11,  /* n */
       ACL_ALL = (1U << 12) - 1,
};

/* Letters to bits; obsolete c is kx, d is te.  ERR_SYNTAX names the letter. */
MUST_CHECK enum errcode
acl_parse_rights(struct span letters, uint32_t *ret, struct error *err);
/* In the order of "lrswipkxtecdan", the obsolete c and d where RFC 4314, 2.1.1
 * asks for them. */
void
acl_format_rights(uint32_t rights, struct buf *out);
/* What the entries that APPLY grant, less what negative ones take away (RFC
 * 4314, 2).  The identifier comes without its "-"; who is in a "group:" is the
 * caller's to know, and so are rights that need no entry (owners, admins). */
uint32_t
acl_rights_if(const char *acl,
              bool (*applies)(const void *ctx, struct span ident),
              const void *ctx);
/* The same with the entries of USER and of "anyone", which is everybody.  USER
 * NULL: "anonymous". */
uint32_t
acl_rights(const char *acl, const char *user);
/*
 * ACL with IDENT's rights changed: MODE '=' set, '+' add, '-' remove; no rights
 * left takes the entry out.  The result is appended to OUT.  ERR_LIMIT,
 * ERR_SYNTAX (identifier with TAB or control bytes, or empty).
 */
MUST_CHECK enum errcode
acl_change(const char *acl, const char *ident, char mode, uint32_t rights,
           struct buf *out, struct error *err);
/* ACL with the entries of FROM, and of "-FROM", become those of TO, appended to
 * OUT: where TO has one already both count. */
void
acl_rename_ident(const char *acl, const char *from, const char *to,
                 struct buf *out);
/* Walk the entries; start with *POS = 0. */
bool
acl_next(const char *acl, size_t *pos, struct span *ret_ident,
         uint32_t *ret_rights);

#endif
