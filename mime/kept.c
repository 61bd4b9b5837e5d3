/*
 * mime/kept.c - the header fields that a cache record has as they stand in the
 * message.
 *
 * Programs ask for the same few dozen, in lists of ten or twenty; one that is
 * not here costs a look into the message, for all of the list.  A name that is
 * here and not in a message costs nothing, so there are rare ones too.  What
 * traces of the way grow to (Received, signatures, verdicts) is left out.
 */
#include "mime/header.h"
#include "mime/message_private.h"

#define OF_ONE_LENGTH 8

/* By length, so that most names are told from all of these by that alone. */
static const char *const kept[][OF_ONE_LENGTH] = {
    [2] = {"To", "Cc"},
    [3] = {"Bcc"},
    [4] = {"From", "Date"},
    [5] = {"Lines"},
    [6] = {"Sender"},
    [7] = {"Subject", "List-Id", "X-Label"},
    [8] = {"Reply-To", "Priority", "X-Mailer", "Keywords"},
    [9] = {"List-Post", "List-Help", "Resent-To", "Resent-Cc"},
    [10] = {"Message-ID", "References", "X-Priority", "Importance",
            "User-Agent", "Precedence", "Newsgroups"},
    [11] = {"In-Reply-To", "Return-Path", "X-Spam-Flag", "Resent-From",
            "Resent-Date", "Followup-To", "Sensitivity"},
    [12] = {"Content-Type", "MIME-Version", "Delivered-To", "List-Archive",
            "Chat-Version", "X-Draft-Info"},
    [13] = {"X-Original-To", "X-Envelope-To", "Mail-Reply-To"},
    [14] = {"Auto-Submitted", "List-Subscribe"},
    [16] = {"List-Unsubscribe", "Mail-Followup-To", "X-Mozilla-Status"},
    [17] = {"X-MSMail-Priority", "Return-Receipt-To", "X-K9mail-Identity"},
    [19] = {"Content-Disposition", "Content-Description"},
    [21] = {"List-Unsubscribe-Post"},
    [22] = {"X-Forwarded-Message-Id"},
    [25] = {"Content-Transfer-Encoding", "X-Uniform-Type-Identifier"},
    [27] = {"Disposition-Notification-To"},
    [31] = {"X-Universally-Unique-Identifier"},
};

bool
mime_cache_keeps(struct span name)
{
    if (name.n >= ARRAY_LEN(kept))
        return false;
    for (size_t i = 0; i < OF_ONE_LENGTH && kept[name.n][i] != NULL; i++)
        if (span_eq_nocase_str(name, kept[name.n][i]))
            return true;
    return false;
}

bool
mime_kept_fields(struct span header, size_t max, struct buf *out)
{
    const size_t before = out->n;
    struct mime_field f;

    while (mime_field_next(&header, &f)) {
        if (!mime_cache_keeps(f.name))
            continue;
        if (f.raw.n > max - (out->n - before)) {
            out->n = before;
            return false;
        }
        buf_add(out, f.raw);
    }
    return true;
}
