/*
 * imapd/lex.h - the tokens of RFC 3501, 9, read off a command's text.
 *
 * As struct rd: what failed once stays bad, so a row of reads needs one check.
 */
#ifndef POLLUX_IMAPD_LEX_H
#define POLLUX_IMAPD_LEX_H

#include "imapd/parse.h"

struct lex {
    struct span left;
    struct arena *a;
    const char *why; /* the first thing that was wrong; NULL: nothing */
};

static inline bool
lex_bad(const struct lex *l)
{
    return l->why != NULL;
}

/* Only the first reason counts.  Returns false. */
bool
lex_fail(struct lex *l, const char *why);
/* The next byte without taking it, or -1. */
int
lex_peek(const struct lex *l);
/* Take BYTE if it is next. */
bool
lex_accept(struct lex *l, char byte);
/* It must be next. */
void
lex_expect(struct lex *l, char byte, const char *why);
void
lex_sp(struct lex *l);
/* Nothing may be left. */
void
lex_end(struct lex *l);
/* Take WORD (case ignored) if it is next and ends there. */
bool
lex_accept_word(struct lex *l, const char *word);

/* One or more of the characters of an atom. */
struct span
lex_atom(struct lex *l);
/* The same with ']' allowed, as in astring. */
struct span
lex_astring_chars(struct lex *l);
/* Quoted or literal; unescaped, in the arena or in the text. */
struct span
lex_string(struct lex *l);
/* The same, or a literal8, in which NUL may be. */
struct span
lex_string8(struct lex *l);
struct span
lex_astring(struct lex *l);
/* *RET_NIL: it was NIL. */
struct span
lex_nstring(struct lex *l, bool *ret_nil);
/* list-mailbox: an astring in which '*' and '%' may stand too. */
struct span
lex_list_mailbox(struct lex *l);
uint32_t
lex_number(struct lex *l);
uint64_t
lex_number64(struct lex *l);
/* Text of a sequence set, its syntax checked; "$" is one. */
struct span
lex_seqset(struct lex *l);
/* "(" flags ")", or without parentheses if BARE_OK (STORE). */
void
lex_flags(struct lex *l, bool bare_ok, struct imap_flags *ret);

/* imapd/parse_append.c: the arguments of APPEND and REPLACE; and whether what
 * is left ends, as a part of such arguments, behind the announcement of a
 * message. */
void
lex_append(struct lex *l, struct imap_command *cmd);
bool
lex_append_head(struct lex *l, struct imap_command *cmd);

/* imapd/parse_notify.c; imapd/parse_search.c: mailboxes as RFC 5465, 6 and
 * 7377, 2.2 have them. */
void
lex_notify(struct lex *l, struct imap_command *cmd);
void
lex_source(struct lex *l, struct imap_source *ret);

/* imapd/parse_annotate.c: what follows the word ANNOTATION. */
void
lex_annot_ask(struct lex *l, struct imap_annot_ask *ret);
void
lex_annot_sets(struct lex *l, struct imap_annot_set **ret, size_t *ret_n);
void
lex_annot_search(struct lex *l, struct imap_search *node);
void
lex_annot_sort(struct lex *l, struct imap_sort_key *key);

/* imapd/parse_fetch.c, imapd/parse_search.c */
void
lex_fetch_items(struct lex *l, struct imap_command *cmd);
/* "from:to", 1 is the first and -1 the last (RFC 9394, 3.1). */
void
lex_partial_range(struct lex *l, struct imap_command *cmd);
void
lex_search(struct lex *l, struct imap_command *cmd);
void
lex_esearch(struct lex *l, struct imap_command *cmd);
void
lex_sort(struct lex *l, struct imap_command *cmd);
void
lex_thread(struct lex *l, struct imap_command *cmd);

#endif
