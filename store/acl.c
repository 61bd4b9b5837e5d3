/*
 * store/acl.c - rights as bits, as letters, and in the text of a mailbox head.
 *
 * The text comes from clients, from a twin and from Cyrus, and may be from a
 * newer version: letters that are not known here grant nothing and stay where
 * they are as long as nobody changes their entry.  What does not end in TAB is
 * not an entry and grants nothing.
 *
 * The virtual rights c and d are for clients: a list that is shown has them
 * beside any of their members, so in the text they mean all members only where
 * none of these stands beside them (a list of before RFC 4314).  They are not
 * written into it.
 */
#include "store/acl.h"

#include "store/types.h"

/* The order in which Cyrus gives them; bit i is the i-th that is not obsolete.
 */
static const char letters[] = "lrswipkxtecdan";

static const char *const anyone = "anyone";
static const char *const anonymous = "anonymous";

/* 0 if C is no right. */
static uint32_t
bits_of(uint8_t c)
{
    unsigned bit = 0;

    if (c == 'c') /* RFC 4314, 2.1.1 */
        return ACL_CREATE | ACL_DELETEMBOX;
    if (c == 'd')
        return ACL_DELETEMSG | ACL_EXPUNGE;
    for (const char *l = letters; *l != 0; l++) {
        if (*l == 'c' || *l == 'd')
            continue;
        if ((uint8_t)*l == c)
            return 1U << bit;
        bit++;
    }
    return 0;
}

enum errcode
acl_parse_rights(struct span text, uint32_t *ret, struct error *err)
{
    uint32_t rights = 0;

    for (size_t i = 0; i < text.n; i++) {
        uint32_t bits = bits_of(text.p[i]);
        if (bits == 0 && text.p[i] > ' ' && text.p[i] < 127)
            return error_set(err, ERR_SYNTAX, "'%c' is not a right", text.p[i]);
        if (bits == 0)
            return error_set(err, ERR_SYNTAX, "byte %u is not a right",
                             text.p[i]);
        rights |= bits;
    }
    *ret = rights;
    return ERR_OK;
}

/* A client of RFC 2086 is to see c where any of its members is there, and d
 * likewise (RFC 4314, 2.1.1). */
void
acl_format_rights(uint32_t rights, struct buf *out)
{
    for (const char *l = letters; *l != 0; l++)
        if ((rights & bits_of((uint8_t)*l)) != 0)
            buf_add_byte(out, (uint8_t)*l);
}

/* Of a stored list: c and d only speak for members that are not named. */
static uint32_t
stored_rights(struct span text)
{
    uint32_t named = 0;
    uint32_t virtual = 0;

    for (size_t i = 0; i < text.n; i++) {
        const uint32_t bits = bits_of(text.p[i]);
        if (text.p[i] == 'c' || text.p[i] == 'd')
            virtual |= bits;
        else
            named |= bits;
    }
    if ((named & bits_of('c')) != 0)
        virtual &= ~bits_of('c');
    if ((named & bits_of('d')) != 0)
        virtual &= ~bits_of('d');
    return named | virtual;
}

/* The field that begins at *POS, which is moved behind its TAB. */
static bool
next_field(struct span acl, size_t *pos, struct span *ret)
{
    ptrdiff_t tab = span_find_byte(acl, '\t', *pos);

    if (tab < 0)
        return false;
    *ret = span_sub(acl, *pos, (size_t)tab - *pos);
    *pos = (size_t)tab + 1;
    return true;
}

bool
acl_next(const char *acl, size_t *pos, struct span *ret_ident,
         uint32_t *ret_rights)
{
    struct span text = span_str(acl);
    struct span ident;
    struct span rights;

    if (!next_field(text, pos, &ident) || !next_field(text, pos, &rights))
        return false;
    *ret_ident = ident;
    *ret_rights = stored_rights(rights);
    return true;
}

uint32_t
acl_rights_if(const char *acl,
              bool (*applies)(const void *ctx, struct span ident),
              const void *ctx)
{
    uint32_t granted = 0;
    uint32_t denied = 0;
    size_t pos = 0;
    struct span ident;
    uint32_t rights;

    while (acl_next(acl, &pos, &ident, &rights)) {
        const bool is_negative = ident.n > 0 && ident.p[0] == '-';
        if (!applies(ctx, span_skip(ident, is_negative ? 1 : 0)))
            continue;
        if (is_negative)
            denied |= rights;
        else
            granted |= rights;
    }
    return granted & ~denied;
}

static bool
is_user(const void *user, struct span ident)
{
    return span_eq_str(ident, user) || span_eq_str(ident, anyone);
}

uint32_t
acl_rights(const char *acl, const char *user)
{
    return acl_rights_if(acl, is_user, user == NULL ? anonymous : user);
}

static enum errcode
check_ident(const char *ident, struct error *err)
{
    size_t n = strlen(ident);

    if (n == 0 || n > USER_MAX)
        return error_set(err, ERR_SYNTAX, "identifier of %zu bytes", n);
    for (size_t i = 0; i < n; i++)
        if ((uint8_t)ident[i] < ' ' || ident[i] == 127)
            return error_set(err, ERR_SYNTAX, "identifier with control bytes");
    return ERR_OK;
}

static void
add_entry(struct buf *out, const char *ident, uint32_t rights)
{
    if (rights == 0)
        return;
    buf_add_str(out, ident);
    buf_add_byte(out, '\t');
    for (const char *l = letters; *l != 0; l++)
        if (*l != 'c' && *l != 'd' && (rights & bits_of((uint8_t)*l)) != 0)
            buf_add_byte(out, (uint8_t)*l);
    buf_add_byte(out, '\t');
}

enum errcode
acl_change(const char *acl, const char *ident, char mode, uint32_t rights,
           struct buf *out, struct error *err)
{
    struct buf text = BUF_MAX(ACL_BYTES_MAX);
    enum errcode rc = check_ident(ident, err);
    size_t pos = 0;
    size_t start = 0;
    struct span who;
    uint32_t one = 0;
    uint32_t has = 0;
    bool is_done = false;

    ENSURE(mode == '=' || mode == '+' || mode == '-');
    if (rc != ERR_OK)
        return rc;
    /* A list from elsewhere may name one identifier twice: both count, and
     * they become one entry. */
    while (acl_next(acl, &pos, &who, &one))
        if (span_eq_str(who, ident))
            has |= one;
    if (mode == '=')
        has = rights;
    else
        has = mode == '+' ? has | rights : has & ~rights;
    for (pos = 0; acl_next(acl, &pos, &who, &one); start = pos) {
        if (!span_eq_str(who, ident)) {
            buf_add(&text, span_of(acl + start, pos - start));
            continue;
        }
        if (!is_done)
            add_entry(&text, ident, has);
        is_done = true;
    }
    if (!is_done && mode != '-')
        add_entry(&text, ident, rights);
    if (text.full)
        rc = error_set(err, ERR_LIMIT, "access list of more than %u bytes",
                       ACL_BYTES_MAX);
    else
        buf_add(out, buf_span(&text));
    buf_free(&text);
    return rc;
}

void
acl_rename_ident(const char *acl, const char *from, const char *to,
                 struct buf *out)
{
    size_t pos = 0, start = 0;
    struct span who;
    uint32_t rights;

    for (; acl_next(acl, &pos, &who, &rights); start = pos) {
        const size_t minus = who.n > 0 && who.p[0] == '-' ? 1 : 0;
        const size_t skip = span_eq_str(who, from) ? 0 : minus;
        if (!span_eq_str(span_skip(who, skip), from)) {
            buf_add(out, span_of(acl + start, pos - start));
            continue;
        }
        buf_add(out, span_sub(who, 0, skip));
        buf_add_str(out, to);
        buf_add(out, span_of(acl + start + who.n, pos - start - who.n));
    }
}
