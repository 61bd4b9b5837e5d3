/*
 * store/names.c - mailbox names there and back.
 *
 * Internal names are those of Cyrus: levels between dots, "user.NAME..." for
 * what belongs to a user, real dots as '^', modified UTF-7 (RFC 3501, 5.1.3),
 * "DELETED." before what waits for its end.
 *
 * A name goes in two steps.  Its bytes: with '/' as separator, '/' becomes '.'
 * and a real '.' becomes '^'; with '.' they stay.  Then its place: what the
 * first levels mean to this user.  Both steps can be undone, so that every name
 * of the store has one external name for a user and comes back from it.  In
 * particular a folder beside INBOX that would look like INBOX or like one of
 * the prefixes is shown below INBOX, and only such a one is taken there.
 */
#include "store/names.h"

#include <inttypes.h>
#include <stdlib.h>

#include "store/types.h"

/* What delayed deletion adds: "DELETED." and "." and 10 hex digits. */
#define DELETED_ROOM 19U

static const char user_level[] = "user.";
static const char deleted_level[] = "DELETED.";

static bool
starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static size_t
level_bytes(const char *name)
{
    return strcspn(name, ".");
}

static bool
is_inbox_word(const char *s, size_t n)
{
    return span_eq_nocase_str(span_of(s, n), "INBOX");
}

/* ------------------------------------------------------------------------ */
/* Bytes. */

/* 0 to 63, or -1. */
static int
base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == ',' ? 63 : -1;
}

/*
 * Is TEXT what stands between '&' and '-', in its one right form: whole 16-bit
 * units, zero bits behind them, surrogates in pairs, nothing that is printable
 * ASCII or a control character?
 */
static bool
is_shifted(struct span text)
{
    uint32_t bits = 0;
    unsigned nbits = 0;
    uint32_t high = 0; /* a surrogate that waits for its other half */

    for (size_t i = 0; i < text.n; i++) {
        bits = (bits << 6 | (uint32_t)base64_value(text.p[i])) & 0x3fffffU;
        nbits += 6;
        if (nbits < 16)
            continue;
        nbits -= 16;
        uint32_t unit = bits >> nbits & 0xffffU;
        bool is_low = unit >= 0xdc00 && unit <= 0xdfff;
        if (is_low != (high != 0))
            return false;
        high = unit >= 0xd800 && unit <= 0xdbff ? unit : 0;
        if (unit <= 0x7f)
            return false;
    }
    return text.n > 0 && high == 0 && nbits < 6 &&
           (bits & ((1U << nbits) - 1)) == 0;
}

/* Modified UTF-7 in which nothing is shifted that need not be, so that there
 * is one way to write a name. */
static bool
is_utf7(const char *s)
{
    const char *behind_shift = NULL;

    while ((s = strchr(s, '&')) != NULL) {
        const char *text = s + 1;
        const char *end = text;
        while (base64_value((uint8_t)*end) >= 0)
            end++;
        if (*end != '-')
            return false;
        if (end > text) {
            if (s == behind_shift ||
                !is_shifted(span_of(text, (size_t)(end - text))))
                return false;
            behind_shift = end + 1;
        }
        s = end + 1;
    }
    return true;
}

/* Levels, bytes and length; what the levels mean is not looked at. */
static enum errcode
check_bytes(const char *name, struct error *err)
{
    size_t n = strlen(name);

    if (n == 0 || name[0] == '.' || name[n - 1] == '.' ||
        strstr(name, "..") != NULL)
        return error_set(err, ERR_BADNAME, "mailbox name with an empty level");
    size_t most = starts(name, deleted_level) ? MAILBOX_NAME_MAX
                                              : MAILBOX_NAME_MAX - DELETED_ROOM;
    if (n > most)
        return error_set(err, ERR_BADNAME,
                         "mailbox name of %zu bytes, at most %zu", n, most);
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)name[i];
        if (c < ' ' || c >= 127)
            return error_set(err, ERR_BADNAME, "mailbox name with byte 0x%02x",
                             c);
        if (c == '/' || c == '*' || c == '%')
            return error_set(err, ERR_BADNAME, "mailbox name with '%c'", c);
    }
    if (!is_utf7(name))
        return error_set(err, ERR_BADNAME,
                         "mailbox name is not in the one "
                         "right form of modified UTF-7");
    return ERR_OK;
}

enum errcode
name_check(const char *internal, struct error *err)
{
    enum errcode rc = check_bytes(internal, err);

    if (rc != ERR_OK)
        return rc;
    if (is_inbox_word(internal, level_bytes(internal)))
        return error_set(err, ERR_BADNAME, "INBOX belongs to somebody");
    if (strcmp(internal, "user") == 0 || strcmp(internal, "DELETED") == 0)
        return error_set(err, ERR_BADNAME, "%s cannot be a mailbox", internal);
    return ERR_OK;
}

/* EXTERNAL with dots between levels; ERR_BADNAME for what cannot be undone. */
static enum errcode
dotted(const struct namespace *ns, struct span external, struct arena *a,
       char **ret, struct error *err)
{
    /* No internal name is longer than its external one by more than this. */
    if (external.n > MAILBOX_NAME_MAX + USER_MAX)
        return error_set(err, ERR_BADNAME, "mailbox name of %zu bytes",
                         external.n);
    char *name = arena_str(a, external);
    for (size_t i = 0; i < external.n; i++) {
        if (name[i] == 0)
            return error_set(err, ERR_BADNAME, "mailbox name with a NUL");
        if (ns->sep == '.')
            continue;
        if (name[i] == '^')
            return error_set(err, ERR_BADNAME, "mailbox name with '^'");
        if (name[i] == '.')
            name[i] = '^';
        else if (name[i] == ns->sep)
            name[i] = '.';
    }
    *ret = name;
    return ERR_OK;
}

static char *
undotted(const struct namespace *ns, char *name)
{
    for (char *p = name; *p != 0 && ns->sep != '.'; p++) {
        if (*p == '.')
            *p = ns->sep;
        else if (*p == '^')
            *p = '.';
    }
    return name;
}

/* ------------------------------------------------------------------------ */
/* Places. */

/* A byte of a prefix of the configuration as the dotted form has it. */
static char
dotted_byte(const struct namespace *ns, char c)
{
    return c == '.' && ns->sep != '.' ? '^' : c;
}

/* PREFIX of the configuration as the dotted form has it, with a dot behind. */
static const char *
dotted_prefix(const struct namespace *ns, const char *prefix, struct arena *a)
{
    const size_t n = strlen(prefix);
    char *p = arena_alloc(a, n + 2);

    for (size_t i = 0; i < n; i++)
        p[i] = dotted_byte(ns, prefix[i]);
    p[n] = '.';
    return p;
}

/* Is the first level of NAME, or are its first ones, the dotted PREFIX? */
static bool
is_at_prefix(const struct namespace *ns, const char *name, const char *prefix)
{
    for (; *prefix != 0; name++, prefix++)
        if (*name != dotted_byte(ns, *prefix))
            return false;
    return *name == '.' || *name == 0;
}

/* Would NAME, standing beside INBOX, be taken for something else? */
static bool
is_hidden_by_place(const struct namespace *ns, const char *name)
{
    return is_at_prefix(ns, name, ns->user_prefix) ||
           is_at_prefix(ns, name, ns->shared_prefix) ||
           is_inbox_word(name, level_bytes(name));
}

static enum errcode
bad_place(struct span external, struct error *err)
{
    return error_set(err, ERR_BADNAME, "no mailbox can be at \"%.*s\"",
                     SPAN_FMT(span_sub(external, 0, 200)));
}

/* *RET NULL: nothing can be there. */
static void
place_alt(const struct namespace *ns, const char *inbox, const char *name,
          struct arena *a, const char **ret)
{
    const char *users = dotted_prefix(ns, ns->user_prefix, a);
    const char *shared = dotted_prefix(ns, ns->shared_prefix, a);
    size_t first = level_bytes(name);

    *ret = NULL;
    if (starts(name, users)) {
        *ret = arena_printf(a, "user.%s", name + strlen(users));
    } else if (starts(name, shared)) {
        const char *rest = name + strlen(shared);
        if (!starts(rest, user_level) && !starts(rest, deleted_level))
            *ret = rest;
    } else if (inbox != NULL && is_inbox_word(name, first)) {
        const char *rest = name + first;
        if (*rest == 0)
            *ret = inbox;
        else if (is_hidden_by_place(ns, rest + 1))
            *ret = arena_printf(a, "%s%s", inbox, rest);
    } else if (inbox != NULL && !is_hidden_by_place(ns, name)) {
        *ret = arena_printf(a, "%s.%s", inbox, name);
    }
}

enum errcode
name_to_internal(const struct namespace *ns, const char *user, bool is_admin,
                 struct span external, struct arena *a, const char **ret,
                 struct error *err)
{
    char *name = NULL;
    const char *inbox = NULL;
    const char *internal = NULL;
    enum errcode rc = dotted(ns, external, a, &name, err);

    if (rc == ERR_OK && user != NULL)
        rc = name_inbox(user, a, &inbox, err);
    if (rc != ERR_OK)
        return rc;
    /* An empty level is to be seen before something is put in front of it. */
    if (external.n == 0 || name[0] == '.' || name[external.n - 1] == '.')
        return bad_place(external, err);

    size_t first = level_bytes(name);
    if (ns->alt && !is_admin)
        place_alt(ns, inbox, name, a, &internal);
    else if (is_inbox_word(name, first))
        internal =
            inbox == NULL ? NULL : arena_printf(a, "%s%s", inbox, name + first);
    else if (is_admin || !starts(name, deleted_level))
        internal = name;
    if (internal == NULL)
        return bad_place(external, err);
    rc = name_check(internal, err);
    if (rc == ERR_OK)
        *ret = internal;
    return rc;
}

const char *
name_to_external(const struct namespace *ns, const char *user, bool is_admin,
                 const char *internal, struct arena *a)
{
    const char *inbox = NULL;
    size_t n = 0;

    if (is_admin)
        return undotted(ns, arena_str(a, span_str(internal)));
    if (user != NULL && name_inbox(user, a, &inbox, NULL) == ERR_OK)
        n = strlen(inbox);
    if (n > 0 && strncmp(internal, inbox, n) == 0 &&
        (internal[n] == 0 || internal[n] == '.')) {
        const char *rest = internal + n;
        if (ns->alt && *rest == '.' && !is_hidden_by_place(ns, rest + 1))
            return undotted(ns, arena_str(a, span_str(rest + 1)));
        return undotted(ns, arena_printf(a, "INBOX%s", rest));
    }
    if (!ns->alt)
        return undotted(ns, arena_str(a, span_str(internal)));
    if (starts(internal, user_level))
        return undotted(ns, arena_printf(a, "%s%s",
                                         dotted_prefix(ns, ns->user_prefix, a),
                                         internal + strlen(user_level)));
    return undotted(ns, arena_printf(a, "%s%s",
                                     dotted_prefix(ns, ns->shared_prefix, a),
                                     internal));
}

/* ------------------------------------------------------------------------ */
/* What names say. */

const char *
name_owner(const char *internal, struct arena *a)
{
    if (starts(internal, deleted_level))
        internal += strlen(deleted_level);
    if (!starts(internal, user_level))
        return NULL;
    internal += strlen(user_level);
    char *owner = arena_str(a, span_of(internal, level_bytes(internal)));
    for (char *p = owner; *p != 0; p++)
        if (*p == '^')
            *p = '.';
    return owner;
}

enum errcode
name_inbox(const char *user, struct arena *a, const char **ret,
           struct error *err)
{
    size_t n = strlen(user);

    if (n == 0 || n > USER_MAX || strchr(user, '^') != NULL)
        return error_set(err, ERR_BADNAME,
                         "a user of this name cannot have a mailbox");
    char *inbox = arena_alloc(a, sizeof(user_level) + n);
    memcpy(inbox, user_level, sizeof(user_level) - 1);
    memcpy(inbox + sizeof(user_level) - 1, user, n);
    for (char *p = inbox + strlen(user_level); *p != 0; p++)
        if (*p == '.')
            *p = '^';
    enum errcode rc = check_bytes(inbox, err);
    if (rc != ERR_OK)
        return error_prefix(err, "user");
    *ret = inbox;
    return ERR_OK;
}

const char *
name_parent(const char *internal, struct arena *a)
{
    const char *dot = strrchr(internal, '.');

    if (dot == NULL || name_is_inbox(internal))
        return NULL;
    return arena_str(a, span_of(internal, (size_t)(dot - internal)));
}

bool
name_is_inbox(const char *internal)
{
    const char *user = internal + strlen(user_level);

    return starts(internal, user_level) && *user != 0 &&
           strchr(user, '.') == NULL;
}

/*
 * Which starts of NAME does the pattern so far match?  One bit a start: work is
 * bounded by the product of both lengths, whatever the pattern.
 */
bool
name_match(const char *name, struct span pattern, char sep)
{
    size_t n = strlen(name);
    size_t inbox =
        strncmp(name, "INBOX", 5) == 0 && (name[5] == 0 || name[5] == sep)
            ? 5
            : 0; /* so many bytes in any case (RFC 9051, 5.1) */
    bool few[512];
    bool *reach = n < ARRAY_LEN(few) ? few : xcalloc(n + 1, sizeof(*reach));
    bool any = true;

    memset(reach, 0, (n + 1) * sizeof(*reach));
    reach[0] = true;
    for (size_t i = 0; i < pattern.n && any; i++) {
        uint8_t c = pattern.p[i];
        any = false;
        if (c == '*' || c == '%') {
            for (size_t j = 1; j <= n; j++)
                if (reach[j - 1] && (c == '*' || name[j - 1] != sep))
                    reach[j] = true;
            any = true;
            continue;
        }
        for (size_t j = n; j > 0; j--) {
            uint8_t have = (uint8_t)name[j - 1];
            bool same = have == c || (j <= inbox && have == ascii_upper(c));
            reach[j] = reach[j - 1] && same;
            any = any || reach[j];
        }
        reach[0] = false;
    }
    bool matches = any && reach[n];
    if (reach != few)
        free(reach);
    return matches;
}

const char *
name_deleted(const char *internal, const char *prefix, uint64_t now_s,
             struct arena *a)
{
    return arena_printf(a, "%s.%s.%08" PRIX64, prefix, internal, now_s);
}
