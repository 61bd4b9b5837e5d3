/* base/error.c - filling in struct error; texts are cut, never overrun. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
    [ERR_OK] = "ok",           [ERR_AGAIN] = "again",
    [ERR_LIMIT] = "limit",     [ERR_PROTO] = "proto",
    [ERR_SYNTAX] = "syntax",   [ERR_GAP] = "gap",
    [ERR_FENCED] = "fenced",   [ERR_READONLY] = "readonly",
    [ERR_CORRUPT] = "corrupt", [ERR_IO] = "io",
    [ERR_NOSPACE] = "nospace", [ERR_CLOSED] = "closed",
    [ERR_TIMEOUT] = "timeout", [ERR_AUTH] = "auth",
    [ERR_DENIED] = "denied",   [ERR_NOTFOUND] = "notfound",
    [ERR_EXISTS] = "exists",   [ERR_CONFLICT] = "conflict",
    [ERR_QUOTA] = "quota",     [ERR_BADNAME] = "badname",
    [ERR_HISTORY] = "history", [ERR_VERSION] = "version",
    [ERR_BUSY] = "busy",       [ERR_UNSUPPORTED] = "unsupported",
};

enum errcode
error_set(struct error *err, enum errcode code, const char *fmt, ...)
{
    if (err == NULL)
        return code;

    err->code = code;
    err->sys_errno = 0;
    /* "No such row" is said several times for each mutation. */
    if (strchr(fmt, '%') == NULL) {
        const size_t n = MIN(strlen(fmt), sizeof(err->text) - 1);
        memcpy(err->text, fmt, n);
        err->text[n] = '\0';
        return code;
    }
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    return code;
}

static enum errcode
code_of_errno(int sys_errno)
{
    switch (sys_errno) {
    case ENOSPC:
    case EDQUOT:
        return ERR_NOSPACE;
    case ENOENT:
        return ERR_NOTFOUND;
    case EEXIST:
        return ERR_EXISTS;
    default:
        return ERR_IO;
    }
}

enum errcode
error_set_errno(struct error *err, int sys_errno, const char *fmt, ...)
{
    enum errcode code = code_of_errno(sys_errno);

    if (err == NULL)
        return code;

    va_list args;
    err->code = code;
    err->sys_errno = sys_errno;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);

    size_t n = strlen(err->text);
    char reason[128];
    snprintf(err->text + n, sizeof(err->text) - n, ": %s",
             strerror_r(sys_errno, reason, sizeof(reason)));
    return code;
}

enum errcode
error_prefix(struct error *err, const char *fmt, ...)
{
    if (err == NULL)
        return ERR_IO;

    char old[ERROR_TEXT_BYTES];
    va_list args;
    memcpy(old, err->text, sizeof(old));
    va_start(args, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);

    size_t n = strlen(err->text);
    snprintf(err->text + n, sizeof(err->text) - n, ": %s", old);
    return err->code;
}

const char *
errcode_name(enum errcode code)
{
    size_t i = (size_t)code;

    return i < ARRAY_LEN(names) && names[i] != NULL ? names[i] : "unknown";
}
