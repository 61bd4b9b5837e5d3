/*
 * imapd/parse.c - tag, command word, arguments: a table of the commands and of
 * what follows their names.
 */
#include "imapd/parse.h"

#include "imapd/lex.h"

/* Of an APPEND, which is read anew with each of its messages. */
#define APPEND_TEXT_MAX 65536U

static void
args_none(struct lex *l, struct imap_command *cmd)
{
    (void)l;
    (void)cmd;
}

static void
args_compress(struct lex *l, struct imap_command *cmd)
{
    lex_sp(l);
    cmd->arg = lex_atom(l);
}

static void
args_name(struct lex *l, struct imap_command *cmd)
{
    lex_sp(l);
    cmd->name = lex_astring(l);
}

static void
args_name_arg(struct lex *l, struct imap_command *cmd)
{
    args_name(l, cmd);
    lex_sp(l);
    cmd->arg = lex_astring(l);
    cmd->has_arg = true;
}

/* RENAME: Cyrus takes a partition too (cyradm). */
static void
args_rename(struct lex *l, struct imap_command *cmd)
{
    args_name_arg(l, cmd);
    if (lex_accept(l, ' ')) {
        cmd->arg2 = lex_astring(l);
        cmd->has_arg2 = true;
    }
}

/* A name and perhaps a list, or for cyradm an atom, behind it: SELECT with
 * parameters is not ours yet, so nothing but the name. */
static void
args_delete(struct lex *l, struct imap_command *cmd)
{
    args_name(l, cmd);
    if (lex_accept(l, ' ')) { /* cyradm: the host */
        cmd->arg = lex_astring(l);
        cmd->has_arg = true;
    }
}

/* "(USE (\Sent \Trash))" of RFC 6154, 3; "(PARTITION x)" and a bare partition
 * of Cyrus. */
static void
lex_create_options(struct lex *l, struct imap_command *cmd)
{
    do {
        if (lex_accept_word(l, "USE")) {
            lex_sp(l);
            lex_expect(l, '(', "Missing list of uses");
            ptrdiff_t end = span_find_byte(l->left, ')', 0);
            if (end < 0) {
                lex_fail(l, "Missing ) after uses");
                return;
            }
            cmd->use = span_sub(l->left, 0, (size_t)end);
            cmd->has_use = true;
            l->left = span_skip(l->left, (size_t)end + 1);
        } else if (lex_accept_word(l, "PARTITION")) {
            lex_sp(l);
            cmd->arg = lex_astring(l);
            cmd->has_arg = true;
        } else {
            lex_fail(l, "Unknown CREATE parameter");
        }
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after CREATE parameters");
}

static void
args_create(struct lex *l, struct imap_command *cmd)
{
    args_name(l, cmd);
    if (!lex_accept(l, ' '))
        return;
    if (lex_accept(l, '(')) {
        lex_create_options(l, cmd);
        return;
    }
    cmd->arg = lex_astring(l);
    cmd->has_arg = true;
}

static void
args_authenticate(struct lex *l, struct imap_command *cmd)
{
    lex_sp(l);
    cmd->arg = lex_atom(l);
    cmd->has_arg = true;
    if (!lex_accept(l, ' '))
        return;
    cmd->has_arg2 = true; /* RFC 4959, 3: "=" is the empty one */
    cmd->arg2 = l->left;
    l->left = SPAN_EMPTY;
    if (span_eq_str(cmd->arg2, "="))
        cmd->arg2 = SPAN_EMPTY;
    else if (cmd->arg2.n == 0)
        lex_fail(l, "Missing initial response");
}

static void
args_words(struct lex *l, struct imap_command *cmd)
{
    cmd->words = arena_array(l->a, IMAP_LIST_MAX, sizeof(struct span));
    lex_sp(l);
    do {
        if (cmd->nwords >= IMAP_LIST_MAX) {
            lex_fail(l, "Too many arguments");
            return;
        }
        cmd->words[cmd->nwords++] = lex_atom(l);
    } while (!lex_bad(l) && lex_accept(l, ' '));
}

/* RFC 5267, 5 */
static void
args_cancelupdate(struct lex *l, struct imap_command *cmd)
{
    cmd->words = arena_array(l->a, IMAP_ITEMS_MAX, sizeof(struct span));
    lex_sp(l);
    do {
        if (cmd->nwords == IMAP_ITEMS_MAX) {
            lex_fail(l, "Too many tags");
            return;
        }
        cmd->words[cmd->nwords++] = lex_string(l);
    } while (!lex_bad(l) && lex_accept(l, ' '));
}

/* RFC 2971, 3.1 and 3.3: at most 30 pairs. */
static void
args_id(struct lex *l, struct imap_command *cmd)
{
    bool nil;

    lex_sp(l);
    if (lex_accept_word(l, "NIL"))
        return;
    lex_expect(l, '(', "Missing list");
    if (lex_accept(l, ')'))
        return;
    cmd->words = arena_array(l->a, 60, sizeof(struct span));
    do {
        if (cmd->nwords + 2 > 60) {
            lex_fail(l, "Too many fields");
            return;
        }
        cmd->words[cmd->nwords++] = lex_string(l);
        lex_sp(l);
        cmd->words[cmd->nwords++] = lex_nstring(l, &nil);
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after fields");
}

/* "(" items ")" */
static unsigned
lex_status_items(struct lex *l)
{
    static const struct {
        const char *name;
        unsigned bit;
    } items[] = {{"MESSAGES", STATUS_MESSAGES},
                 {"RECENT", STATUS_RECENT},
                 {"UIDNEXT", STATUS_UIDNEXT},
                 {"UIDVALIDITY", STATUS_UIDVALIDITY},
                 {"UNSEEN", STATUS_UNSEEN},
                 {"DELETED", STATUS_DELETED},
                 {"SIZE", STATUS_SIZE},
                 {"HIGHESTMODSEQ", STATUS_HIGHESTMODSEQ},
                 {"MAILBOXID", STATUS_MAILBOXID},
                 {"APPENDLIMIT", STATUS_APPENDLIMIT},
                 {"DELETED-STORAGE", STATUS_DELETED_STORAGE}};
    unsigned bits = 0;

    lex_expect(l, '(', "Missing list of status items");
    do {
        struct span word = lex_atom(l);
        size_t i = 0;
        while (i < ARRAY_LEN(items) && !span_eq_nocase_str(word, items[i].name))
            i++;
        if (i == ARRAY_LEN(items))
            lex_fail(l, "Unknown status item");
        else
            bits |= items[i].bit;
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after status items");
    return bits;
}

static void
args_status(struct lex *l, struct imap_command *cmd)
{
    args_name(l, cmd);
    lex_sp(l);
    cmd->status = lex_status_items(l);
}

static const struct {
    const char *name;
    unsigned selection; /* 0: not allowed there */
    unsigned ret;
} list_options[] = {
    {"SUBSCRIBED", LIST_SELECT_SUBSCRIBED, LIST_RETURN_SUBSCRIBED},
    {"SPECIAL-USE", LIST_SELECT_SPECIAL_USE, LIST_RETURN_SPECIAL_USE},
    {"REMOTE", LIST_SELECT_REMOTE, 0},
    {"RECURSIVEMATCH", LIST_SELECT_RECURSIVE, 0},
    {"CHILDREN", 0, LIST_RETURN_CHILDREN},
    {"STATUS", 0, LIST_RETURN_STATUS},
    {"MYRIGHTS", 0, LIST_RETURN_MYRIGHTS},
    {"METADATA", 0, LIST_RETURN_METADATA},
};

/* "(" entries ")" (RFC 9590, 4) */
static void
lex_list_entries(struct lex *l, struct imap_list *list)
{
    list->entries = arena_array(l->a, IMAP_ITEMS_MAX, sizeof(struct span));
    list->nentries = 0;
    lex_expect(l, '(', "Missing list of entries");
    do {
        if (list->nentries == IMAP_ITEMS_MAX) {
            lex_fail(l, "Too many entries");
            return;
        }
        list->entries[list->nentries++] = lex_astring(l);
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after entries");
}

/* Behind the "(". */
static void
lex_list_options(struct lex *l, bool selection, struct imap_list *list)
{
    list->extended = true;
    if (lex_accept(l, ')'))
        return;
    do {
        struct span word = lex_atom(l);
        unsigned bit = 0;
        for (size_t i = 0; i < ARRAY_LEN(list_options); i++)
            if (span_eq_nocase_str(word, list_options[i].name))
                bit =
                    selection ? list_options[i].selection : list_options[i].ret;
        if (bit == 0)
            lex_fail(l, "Unknown LIST option");
        list->options |= bit;
        if (bit == LIST_RETURN_STATUS) {
            lex_sp(l);
            list->status |= lex_status_items(l);
        }
        if (bit == LIST_RETURN_METADATA) {
            lex_sp(l);
            lex_list_entries(l, list);
        }
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after LIST options");
}

static void
lex_pattern(struct lex *l, struct imap_list *list)
{
    if (list->npatterns >= IMAP_ITEMS_MAX) {
        lex_fail(l, "Too many patterns");
        return;
    }
    list->patterns[list->npatterns++] = lex_list_mailbox(l);
}

/* LIST of RFC 3501 with the syntax of RFC 5258, 6. */
static void
args_list(struct lex *l, struct imap_command *cmd)
{
    struct imap_list *list = &cmd->list;

    list->patterns = arena_array(l->a, IMAP_ITEMS_MAX, sizeof(struct span));
    lex_sp(l);
    if (lex_accept(l, '(')) {
        lex_list_options(l, true, list);
        lex_sp(l);
    }
    list->reference = lex_astring(l);
    lex_sp(l);
    if (lex_accept(l, '(')) {
        list->extended = true;
        do
            lex_pattern(l, list);
        while (!lex_bad(l) && lex_accept(l, ' '));
        lex_expect(l, ')', "Missing ) after patterns");
    } else {
        lex_pattern(l, list);
    }
    if (lex_accept(l, ' ')) {
        if (!lex_accept_word(l, "RETURN"))
            lex_fail(l, "Unexpected extra arguments");
        lex_sp(l);
        lex_expect(l, '(', "Missing list of return options");
        lex_list_options(l, false, list);
    }
    /* RFC 5258, 3.1: RECURSIVEMATCH modifies another one. */
    if ((list->options & LIST_SELECT_RECURSIVE) != 0 &&
        (list->options & (LIST_SELECT_SUBSCRIBED | LIST_SELECT_SPECIAL_USE)) ==
            0)
        lex_fail(l, "RECURSIVEMATCH needs another option");
}

static void
args_lsub(struct lex *l, struct imap_command *cmd)
{
    cmd->list.patterns = arena_array(l->a, 1, sizeof(struct span));
    lex_sp(l);
    cmd->list.reference = lex_astring(l);
    lex_sp(l);
    lex_pattern(l, &cmd->list);
}

static void
args_set(struct lex *l, struct imap_command *cmd)
{
    lex_sp(l);
    cmd->set = lex_seqset(l);
}

/* "(uidvalidity modseq [known-uids [(seqs uids)]])" (RFC 7162, 3.2.5) */
static void
lex_qresync(struct lex *l, struct imap_qresync *ret)
{
    ret->given = true;
    if (span_find_byte(l->left, '$', 0) >= 0) /* nothing can be saved yet */
        lex_fail(l, "Invalid QRESYNC");
    lex_expect(l, '(', "Missing list of QRESYNC");
    ret->uidvalidity = lex_number(l);
    lex_sp(l);
    ret->modseq = lex_number64(l);
    if (!lex_bad(l) &&
        (ret->uidvalidity == 0 || ret->modseq == 0 || ret->modseq > INT64_MAX))
        lex_fail(l, "Invalid QRESYNC");
    if (lex_accept(l, ' ') && lex_peek(l) != '(') {
        ret->known_uids = lex_seqset(l);
        if (!lex_accept(l, ' ')) {
            lex_expect(l, ')', "Missing ) after QRESYNC");
            return;
        }
    }
    if (lex_accept(l, '(')) {
        ret->match_seqs = lex_seqset(l);
        lex_sp(l);
        ret->match_uids = lex_seqset(l);
        lex_expect(l, ')', "Missing ) after QRESYNC's matches");
    }
    lex_expect(l, ')', "Missing ) after QRESYNC");
}

/* SELECT, EXAMINE: parameters of RFC 4466, 2.1. */
static void
args_select(struct lex *l, struct imap_command *cmd)
{
    args_name(l, cmd);
    if (!lex_accept(l, ' '))
        return;
    lex_expect(l, '(', "Missing list of parameters");
    do {
        if (lex_accept_word(l, "CONDSTORE")) {
            cmd->condstore = true;
        } else if (lex_accept_word(l, "ANNOTATE")) {
            cmd->annotate = true;
        } else if (lex_accept_word(l, "QRESYNC")) {
            lex_sp(l);
            lex_qresync(l, &cmd->qresync);
        } else {
            lex_fail(l, "Unknown SELECT parameter");
        }
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after parameters");
}

static uint64_t
lex_modseq(struct lex *l)
{
    uint64_t v = lex_number64(l);

    if (!lex_bad(l) && v > INT64_MAX)
        lex_fail(l, "Invalid mod-sequence");
    return v;
}

/* "(CHANGEDSINCE n [VANISHED])" (RFC 7162, 3.1.4.1 and 3.2.6), "(PARTIAL 1:5)"
 * (RFC 9394, 3.3) */
static void
lex_fetch_modifiers(struct lex *l, struct imap_command *cmd)
{
    lex_expect(l, '(', "Missing list of fetch modifiers");
    do {
        if (lex_accept_word(l, "CHANGEDSINCE")) {
            lex_sp(l);
            cmd->has_since = true;
            cmd->since = lex_modseq(l);
        } else if (lex_accept_word(l, "VANISHED")) {
            cmd->vanished = true;
        } else if (lex_accept_word(l, "PARTIAL")) {
            lex_sp(l);
            lex_partial_range(l, cmd);
        } else {
            lex_fail(l, "Unknown fetch modifier");
        }
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after fetch modifiers");
    if (!lex_bad(l) && cmd->vanished && (!cmd->uid || !cmd->has_since))
        lex_fail(l, "VANISHED is for UID FETCH with CHANGEDSINCE");
}

static void
args_copy(struct lex *l, struct imap_command *cmd)
{
    args_set(l, cmd);
    args_name(l, cmd);
}

static void
args_expunge(struct lex *l, struct imap_command *cmd)
{
    if (cmd->uid)
        args_set(l, cmd);
}

static void
args_fetch(struct lex *l, struct imap_command *cmd)
{
    args_set(l, cmd);
    lex_sp(l);
    lex_fetch_items(l, cmd);
    if (lex_accept(l, ' '))
        lex_fetch_modifiers(l, cmd);
}

static void
args_store(struct lex *l, struct imap_command *cmd)
{
    args_set(l, cmd);
    lex_sp(l);
    if (lex_accept(l, '(')) { /* RFC 7162, 3.1.3 */
        if (!lex_accept_word(l, "UNCHANGEDSINCE"))
            lex_fail(l, "Unknown STORE modifier");
        lex_sp(l);
        cmd->has_since = true;
        cmd->since = lex_modseq(l);
        lex_expect(l, ')', "Missing ) after STORE modifier");
        lex_sp(l);
    }
    if (lex_accept_word(l, "ANNOTATION")) {
        lex_annot_sets(l, &cmd->annots, &cmd->nannots);
        return;
    }
    cmd->store_mode = lex_accept(l, '+') ? '+' : lex_accept(l, '-') ? '-' : '=';
    if (lex_accept_word(l, "FLAGS.SILENT"))
        cmd->silent = true;
    else if (!lex_accept_word(l, "FLAGS"))
        lex_fail(l, "Unknown STORE item");
    lex_sp(l);
    lex_flags(l, true, &cmd->flags);
}

static void
args_search(struct lex *l, struct imap_command *cmd)
{
    lex_sp(l);
    lex_search(l, cmd);
}

static void
args_esearch(struct lex *l, struct imap_command *cmd)
{
    lex_sp(l);
    lex_esearch(l, cmd);
}

static void
args_sort(struct lex *l, struct imap_command *cmd)
{
    lex_sp(l);
    lex_sort(l, cmd);
}

static void
args_thread(struct lex *l, struct imap_command *cmd)
{
    lex_sp(l);
    lex_thread(l, cmd);
}

static void
args_setacl(struct lex *l, struct imap_command *cmd)
{
    args_name_arg(l, cmd);
    lex_sp(l);
    cmd->arg2 = lex_astring(l);
    cmd->has_arg2 = true;
}

/* Behind "(" (RFC 5464, 5: getmetadata-options). */
static void
lex_metadata_options(struct lex *l, struct imap_command *cmd)
{
    do {
        if (lex_accept_word(l, "MAXSIZE")) {
            lex_sp(l);
            cmd->has_maxsize = true;
            cmd->maxsize = lex_number64(l);
        } else if (lex_accept_word(l, "DEPTH")) {
            lex_sp(l);
            if (lex_accept_word(l, "0"))
                cmd->metadata_depth = METADATA_ITSELF;
            else if (lex_accept_word(l, "1"))
                cmd->metadata_depth = METADATA_ONE_BELOW;
            else if (lex_accept_word(l, "infinity"))
                cmd->metadata_depth = METADATA_ALL_BELOW;
            else
                lex_fail(l, "Invalid DEPTH");
        } else {
            lex_fail(l, "Unknown METADATA option");
        }
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after METADATA options");
}

static bool
is_metadata_option(const struct lex *l)
{
    return span_starts_nocase(l->left, SPAN_LIT("(MAXSIZE ")) ||
           span_starts_nocase(l->left, SPAN_LIT("(DEPTH "));
}

/* Options stand before the mailbox by the grammar of RFC 5464, behind it by
 * its examples. */
static void
args_getmetadata(struct lex *l, struct imap_command *cmd)
{
    cmd->words = arena_array(l->a, IMAP_ITEMS_MAX, sizeof(struct span));
    lex_sp(l);
    if (is_metadata_option(l)) {
        lex_accept(l, '(');
        lex_metadata_options(l, cmd);
        lex_sp(l);
    }
    cmd->name = lex_astring(l);
    lex_sp(l);
    if (is_metadata_option(l)) {
        lex_accept(l, '(');
        lex_metadata_options(l, cmd);
        lex_sp(l);
    }
    if (!lex_accept(l, '(')) {
        cmd->words[cmd->nwords++] = lex_astring(l);
        return;
    }
    do {
        if (cmd->nwords == IMAP_ITEMS_MAX) {
            lex_fail(l, "Too many entries");
            return;
        }
        cmd->words[cmd->nwords++] = lex_astring(l);
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after entries");
}

static void
args_setmetadata(struct lex *l, struct imap_command *cmd)
{
    bool nil = false;

    cmd->words = arena_array(l->a, IMAP_ITEMS_MAX, sizeof(struct span));
    cmd->values = arena_array(l->a, IMAP_ITEMS_MAX, sizeof(struct span));
    args_name(l, cmd);
    lex_sp(l);
    lex_expect(l, '(', "Missing list of entries");
    do {
        if (cmd->nwords == IMAP_ITEMS_MAX) {
            lex_fail(l, "Too many entries");
            return;
        }
        cmd->words[cmd->nwords] = lex_astring(l);
        lex_sp(l);
        struct span value = lex_nstring(l, &nil);
        if (!nil) /* also an empty one has a place */
            cmd->values[cmd->nwords] = arena_copy(l->a, value);
        cmd->nwords++;
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after entries");
}

static void
args_setquota(struct lex *l, struct imap_command *cmd)
{
    cmd->limits = arena_array(l->a, 16, sizeof(cmd->limits[0]));
    args_name(l, cmd);
    lex_sp(l);
    lex_expect(l, '(', "Missing list of limits");
    if (lex_accept(l, ')'))
        return;
    do {
        if (cmd->nlimits >= 16) {
            lex_fail(l, "Too many limits");
            return;
        }
        struct imap_quota_limit *limit = &cmd->limits[cmd->nlimits++];
        limit->resource = lex_atom(l);
        lex_sp(l);
        limit->limit = lex_number64(l);
    } while (!lex_bad(l) && lex_accept(l, ' '));
    lex_expect(l, ')', "Missing ) after limits");
}

static const struct {
    const char *name;
    void (*args)(struct lex *l, struct imap_command *cmd);
    bool uid_ok; /* "UID name" exists */
} commands[] = {
    [CMD_APPEND] = {"APPEND", lex_append, false},
    [CMD_AUTHENTICATE] = {"AUTHENTICATE", args_authenticate, false},
    [CMD_CANCELUPDATE] = {"CANCELUPDATE", args_cancelupdate, false},
    [CMD_CAPABILITY] = {"CAPABILITY", args_none, false},
    [CMD_CHECK] = {"CHECK", args_none, false},
    [CMD_CLOSE] = {"CLOSE", args_none, false},
    [CMD_COMPRESS] = {"COMPRESS", args_compress, false},
    [CMD_COPY] = {"COPY", args_copy, true},
    [CMD_CREATE] = {"CREATE", args_create, false},
    [CMD_DELETE] = {"DELETE", args_delete, false},
    [CMD_DELETEACL] = {"DELETEACL", args_name_arg, false},
    [CMD_ENABLE] = {"ENABLE", args_words, false},
    [CMD_ESEARCH] = {"ESEARCH", args_esearch, true},
    [CMD_EXAMINE] = {"EXAMINE", args_select, false},
    [CMD_EXPUNGE] = {"EXPUNGE", args_expunge, true},
    [CMD_FETCH] = {"FETCH", args_fetch, true},
    [CMD_GETACL] = {"GETACL", args_name, false},
    [CMD_GETMETADATA] = {"GETMETADATA", args_getmetadata, false},
    [CMD_GETQUOTA] = {"GETQUOTA", args_name, false},
    [CMD_GETQUOTAROOT] = {"GETQUOTAROOT", args_name, false},
    [CMD_ID] = {"ID", args_id, false},
    [CMD_IDLE] = {"IDLE", args_none, false},
    [CMD_LIST] = {"LIST", args_list, false},
    [CMD_LISTRIGHTS] = {"LISTRIGHTS", args_name_arg, false},
    [CMD_LOGIN] = {"LOGIN", args_name_arg, false},
    [CMD_LOGOUT] = {"LOGOUT", args_none, false},
    [CMD_LSUB] = {"LSUB", args_lsub, false},
    [CMD_MOVE] = {"MOVE", args_copy, true},
    [CMD_MYRIGHTS] = {"MYRIGHTS", args_name, false},
    [CMD_NAMESPACE] = {"NAMESPACE", args_none, false},
    [CMD_NOOP] = {"NOOP", args_none, false},
    [CMD_NOTIFY] = {"NOTIFY", lex_notify, false},
    [CMD_RENAME] = {"RENAME", args_rename, false},
    [CMD_REPLACE] = {"REPLACE", lex_append, true},
    [CMD_SEARCH] = {"SEARCH", args_search, true},
    [CMD_SELECT] = {"SELECT", args_select, false},
    [CMD_SETACL] = {"SETACL", args_setacl, false},
    [CMD_SETMETADATA] = {"SETMETADATA", args_setmetadata, false},
    [CMD_SETQUOTA] = {"SETQUOTA", args_setquota, false},
    [CMD_SORT] = {"SORT", args_sort, true},
    [CMD_STARTTLS] = {"STARTTLS", args_none, false},
    [CMD_STATUS] = {"STATUS", args_status, false},
    [CMD_STORE] = {"STORE", args_store, true},
    [CMD_SUBSCRIBE] = {"SUBSCRIBE", args_name, false},
    [CMD_THREAD] = {"THREAD", args_thread, true},
    [CMD_UNAUTHENTICATE] = {"UNAUTHENTICATE", args_none, false},
    [CMD_UNSELECT] = {"UNSELECT", args_none, false},
    [CMD_UNSUBSCRIBE] = {"UNSUBSCRIBE", args_name, false},
    [CMD_XLIST] = {"XLIST", args_lsub, false},
};

bool
imap_cmd_takes_uid(enum imap_cmd cmd)
{
    return commands[cmd].uid_ok;
}

const char *
imap_cmd_name(enum imap_cmd cmd)
{
    return commands[cmd].name;
}

/* tag = 1*<any ASTRING-CHAR except "+"> */
static bool
lex_tag(struct lex *l, struct imap_command *ret)
{
    struct span tag = lex_astring_chars(l);
    if (lex_bad(l) || tag.n > IMAP_TAG_MAX ||
        span_find_byte(tag, '+', 0) >= 0) {
        l->why = "Invalid tag";
        l->left = SPAN_EMPTY;
        return false;
    }
    ret->tag = tag;
    return true;
}

/* The command word(s); false if there is none of that name. */
static bool
lex_command(struct lex *l, struct imap_command *ret)
{
    struct span word = lex_atom(l);
    ret->uid = span_eq_nocase_str(word, "UID");
    if (ret->uid) {
        lex_sp(l);
        word = lex_atom(l);
    }
    for (size_t i = 0; i < CMD_COUNT; i++)
        if (span_eq_nocase_str(word, commands[i].name) &&
            (!ret->uid || commands[i].uid_ok)) {
            ret->cmd = (enum imap_cmd)i;
            return true;
        }
    return false;
}

enum imap_parsed
imap_parse(struct span text, struct arena *a, struct imap_command *ret,
           const char **ret_why)
{
    struct lex l = {.left = text, .a = a};

    *ret = (struct imap_command){0};
    *ret_why = NULL;
    if (lex_tag(&l, ret)) {
        lex_expect(&l, ' ', "Missing command");
        if (!lex_command(&l, ret) && !lex_bad(&l))
            return IMAP_PARSE_UNKNOWN;
        if (!lex_bad(&l))
            commands[ret->cmd].args(&l, ret);
        if (!lex_bad(&l))
            lex_end(&l);
    }
    *ret_why = l.why;
    return lex_bad(&l) ? IMAP_PARSE_BAD : IMAP_PARSED;
}

bool
imap_parse_append_head(struct span text, struct arena *a,
                       struct imap_command *ret)
{
    struct lex l = {.left = text, .a = a};

    *ret = (struct imap_command){0};
    if (text.n > APPEND_TEXT_MAX || !lex_tag(&l, ret))
        return false;
    lex_sp(&l);
    if (!lex_command(&l, ret) || lex_bad(&l) ||
        (ret->cmd != CMD_APPEND && ret->cmd != CMD_REPLACE))
        return false;
    return lex_append_head(&l, ret);
}
