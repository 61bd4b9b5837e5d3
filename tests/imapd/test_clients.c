/*
 * tests/imapd/test_clients.c - the habits of mail programs: what they send, in
 * their order and their spelling, by what is published of them, and what they
 * are answered.
 */
#include "tests/imapd/talking.h"

/* Answers that many of them get. */
#define POLLUX_ID                                                              \
    "* ID (\"name\" \"Pollux\" \"version\" \"" POLLUX_VERSION "\")\r\n"
#define NAMESPACE                                                              \
    "* NAMESPACE ((\"INBOX/\" \"/\")) ((\"user/\" \"/\")) ((\"\" \"/\"))\r\n"
#define SELECTED                                                               \
    "* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen)\r\n"              \
    "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Draft \\Deleted "            \
    "\\Seen \\*)] Ok\r\n"                                                      \
    "* 2 EXISTS\r\n"                                                           \
    "* 0 RECENT\r\n"                                                           \
    "* OK [UNSEEN 1] Ok\r\n"                                                   \
    "* OK [UIDVALIDITY V] Ok\r\n"                                              \
    "* OK [UIDNEXT 3] Ok\r\n"                                                  \
    "* OK [HIGHESTMODSEQ M1] Ok\r\n"                                           \
    "* OK [MAILBOXID (V)] Ok\r\n"                                              \
    "* OK [ANNOTATIONS V] Ok\r\n"
/* The header of MSG_A, and of MSG_B without MIME-Version. */
#define HEAD_A                                                                 \
    "From: Ann <ann@example.org>\r\n"                                          \
    "To: bob@example.org\r\n"                                                  \
    "Subject: first\r\n"                                                       \
    "Date: Wed, 17 Jul 1996 02:23:25 -0700\r\n"                                \
    "\r\n"
#define FEW_OF_B                                                               \
    "From: Carl <carl@example.org>\r\n"                                        \
    "Subject: second\r\n"                                                      \
    "Content-Type: multipart/mixed; boundary=x\r\n"                            \
    "\r\n"

/* Two messages, a folder for sent mail, nothing recent. */
static struct fake_client *
two(void)
{
    struct fake_client *c = login(0, "fred");

    append(c, "INBOX", DATE, MSG_A);
    append(c, "INBOX", "(\\Seen) " DATE, MSG_B);
    quiet(c, "x CREATE INBOX/Sent (USE (\\Sent))");
    quiet(c, "x SUBSCRIBE INBOX/Sent");
    quiet(c, "x SELECT INBOX");
    quiet(c, "x UNSELECT");
    return c;
}

/* Thunderbird: capabilities, ID, namespace, subscriptions with special uses;
 * flags by CHANGEDSINCE the second time; headers in one go, bodies whole; MOVE
 * to the trash, IDLE in between. */
static void
test_thunderbird(void **state)
{
    (void)state;
    struct fake_client *c = two();

    talk(c, "1 ID (\"name\" \"Thunderbird\" \"version\" \"115.4.1\")",
         POLLUX_ID "1 OK Completed\r\n");
    talk(c, "2 namespace", NAMESPACE "2 OK Completed\r\n");
    talk(c, "3 list (subscribed) \"\" \"*\" return (special-use)",
         "* LIST (\\HasChildren \\Subscribed) \"/\" INBOX\r\n"
         "* LIST (\\HasNoChildren \\Subscribed \\Sent) \"/\" INBOX/Sent\r\n"
         "3 OK Completed\r\n");
    talk(c, "4 list \"\" \"INBOX\"",
         "* LIST (\\HasChildren) \"/\" INBOX\r\n"
         "4 OK Completed\r\n");
    talk(c, "5 select \"INBOX\" (CONDSTORE)",
         SELECTED "5 OK [READ-WRITE] Completed\r\n");
    talk(c, "6 getquotaroot \"INBOX\"",
         "* QUOTAROOT INBOX\r\n"
         "6 OK Completed\r\n");
    talk(c, "7 UID fetch 1:* (FLAGS)",
         "* 1 FETCH (UID 1 FLAGS () MODSEQ (M2))\r\n"
         "* 2 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (M1))\r\n"
         "7 OK Completed\r\n");
    talk(c,
         "8 UID fetch 1:2 (UID RFC822.SIZE FLAGS "
         "BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date "
         "Message-ID Priority X-Priority References Newsgroups "
         "In-Reply-To Content-Type Reply-To)])",
         "* 1 FETCH (UID 1 RFC822.SIZE 120 FLAGS () "
         "BODY[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID "
         "Priority X-Priority References Newsgroups In-Reply-To "
         "Content-Type Reply-To)] {107}\r\n" HEAD_A " MODSEQ (M2))\r\n"
         "* 2 FETCH (UID 2 RFC822.SIZE 180 FLAGS (\\Seen) "
         "BODY[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID "
         "Priority X-Priority References Newsgroups In-Reply-To "
         "Content-Type Reply-To)] {93}\r\n" FEW_OF_B " MODSEQ (M1))\r\n"
         "8 OK Completed\r\n");
    talk(c, "9 UID fetch 1 (UID RFC822.SIZE BODY[])",
         "* 1 FETCH (UID 1 RFC822.SIZE 120 BODY[] {120}\r\n" MSG_A
         " FLAGS (\\Seen) MODSEQ (M3))\r\n"
         "9 OK Completed\r\n");
    talk(c, "10 create \"INBOX/Trash\"", "10 OK [MAILBOXID (V)] Completed\r\n");
    talk(c, "11 subscribe \"INBOX/Trash\"", "11 OK Completed\r\n");
    talk(c, "12 uid move 2 \"INBOX/Trash\"",
         "* OK [COPYUID V 2 1] Completed\r\n"
         "* 2 EXPUNGE\r\n"
         "12 OK Completed\r\n");
    talk(c, "13 uid store 1 +Flags (\\Flagged $label1)",
         "* 1 FETCH (FLAGS (\\Flagged \\Seen $label1) UID 1 MODSEQ "
         "(M4))\r\n"
         "* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen $label1)\r\n"
         "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Draft \\Deleted "
         "\\Seen $label1 \\*)] Ok\r\n"
         "13 OK Completed\r\n");
    talk(c, "14 noop", "14 OK Completed\r\n");
    talk(c, "15 UID fetch 1:* (FLAGS) (CHANGEDSINCE M1)",
         "* 1 FETCH (UID 1 FLAGS (\\Flagged \\Seen $label1) MODSEQ "
         "(M4))\r\n"
         "15 OK Completed\r\n");
    talk(c, "16 close", "16 OK Completed\r\n");
    talk(c, "17 logout",
         "* BYE LOGOUT received\r\n"
         "17 OK Completed\r\n");
}

/* Apple Mail: everything by UID, body structures first and then parts. */
static void
test_apple(void **state)
{
    (void)state;
    struct fake_client *c = two();

    talk(c, "1.3 CAPABILITY",
         "* CAPABILITY V\r\n"
         "1.3 OK Completed\r\n");
    talk(c,
         "2.3 ID (\"name\" \"Mac OS X Mail\" \"version\" \"16.0 "
         "(3696.120.41.1.1)\" \"os\" \"Mac OS X\" \"vendor\" \"Apple Inc.\")",
         POLLUX_ID "2.3 OK Completed\r\n");
    talk(c, "3.3 NAMESPACE", NAMESPACE "3.3 OK Completed\r\n");
    talk(c, "4.3 LIST \"\" \"%\"",
         "* LIST (\\HasChildren) \"/\" INBOX\r\n"
         "4.3 OK Completed\r\n");
    talk(c,
         "5.3 STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN "
         "HIGHESTMODSEQ)",
         "* STATUS INBOX (MESSAGES 2 UIDNEXT 3 UIDVALIDITY V UNSEEN 1 "
         "HIGHESTMODSEQ M1)\r\n"
         "5.3 OK Completed\r\n");
    talk(c, "6.3 ENABLE CONDSTORE",
         "* ENABLED CONDSTORE\r\n"
         "6.3 OK Completed\r\n");
    talk(c, "7.3 SELECT INBOX (CONDSTORE)",
         SELECTED "7.3 OK [READ-WRITE] Completed\r\n");
    talk(c, "8.3 FETCH 1:2 (FLAGS UID)",
         "* 1 FETCH (FLAGS () UID 1 MODSEQ (M2))\r\n"
         "* 2 FETCH (FLAGS (\\Seen) UID 2 MODSEQ (M1))\r\n"
         "8.3 OK Completed\r\n");
    talk(c, "9.3 UID SEARCH 1:* NOT DELETED",
         "* SEARCH 1 2\r\n"
         "9.3 OK Completed\r\n");
    talk(c,
         "10.3 UID FETCH 1:2 (BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS "
         "(Subject)])",
         "* 1 FETCH (UID 1 BODYSTRUCTURE (\"TEXT\" \"PLAIN\" (\"CHARSET\" "
         "\"US-ASCII\") NIL NIL \"7BIT\" 13 1 NIL NIL NIL NIL) "
         "BODY[HEADER.FIELDS (Subject)] {18}\r\n"
         "Subject: first\r\n"
         "\r\n"
         ")\r\n"
         "* 2 FETCH (UID 2 BODYSTRUCTURE ((\"TEXT\" \"PLAIN\" (\"CHARSET\" "
         "\"US-ASCII\") NIL NIL \"7BIT\" 8 0 NIL NIL NIL NIL)(\"TEXT\" "
         "\"HTML\" NIL NIL NIL \"7BIT\" 10 0 NIL NIL NIL NIL) \"MIXED\" "
         "(\"BOUNDARY\" \"x\") NIL NIL NIL) BODY[HEADER.FIELDS (Subject)] "
         "{19}\r\n"
         "Subject: second\r\n"
         "\r\n"
         ")\r\n"
         "10.3 OK Completed\r\n");
    talk(c, "11.3 UID FETCH 2 BODY.PEEK[1]",
         "* 2 FETCH (UID 2 BODY[1] {8}\r\n"
         "part one)\r\n"
         "11.3 OK Completed\r\n");
    talk(c, "12.3 UID FETCH 2 (BODY.PEEK[2.MIME] BODY.PEEK[2]<0.262144>)",
         "* 2 FETCH (UID 2 BODY[2.MIME] {27}\r\n"
         "Content-Type: text/html\r\n"
         "\r\n"
         " BODY[2]<0> {10}\r\n"
         "<p>two</p>)\r\n"
         "12.3 OK Completed\r\n");
    talk(c, "13.3 UID STORE 1:2 +FLAGS.SILENT (\\Seen)",
         "* 1 FETCH (UID 1 MODSEQ (M3))\r\n"
         "* 2 FETCH (UID 2 MODSEQ (M1))\r\n"
         "13.3 OK Completed\r\n");
    talk(c, "14.3 UID STORE 1 FLAGS.SILENT (\\Seen \\Deleted)",
         "* 1 FETCH (UID 1 MODSEQ (M4))\r\n"
         "14.3 OK Completed\r\n");
    talk(c, "15.3 UID EXPUNGE 1",
         "* 1 EXPUNGE\r\n"
         "15.3 OK Completed\r\n");
    talk(c, "16.3 LOGOUT",
         "* BYE LOGOUT received\r\n"
         "16.3 OK Completed\r\n");
}

/* Outlook: LIST, LSUB and XLIST one after the other, whole headers, flags of
 * all messages each time. */
static void
test_outlook(void **state)
{
    (void)state;
    struct fake_client *c = two();

    talk(c, "a1 CAPABILITY",
         "* CAPABILITY V\r\n"
         "a1 OK Completed\r\n");
    talk(c, "a2 LIST \"\" \"*\"",
         "* LIST (\\HasChildren) \"/\" INBOX\r\n"
         "* LIST (\\HasNoChildren \\Sent) \"/\" INBOX/Sent\r\n"
         "a2 OK Completed\r\n");
    talk(c, "a3 LSUB \"\" \"*\"",
         "* LSUB (\\HasChildren) \"/\" INBOX\r\n"
         "* LSUB () \"/\" INBOX/Sent\r\n"
         "a3 OK Completed\r\n");
    talk(c, "a4 XLIST \"\" \"*\"",
         "* XLIST (\\HasChildren \\Inbox) \"/\" INBOX\r\n"
         "* XLIST (\\HasNoChildren \\Sent) \"/\" INBOX/Sent\r\n"
         "a4 OK Completed\r\n");
    talk(c, "a5 STATUS \"INBOX\" (UNSEEN MESSAGES UIDNEXT UIDVALIDITY)",
         "* STATUS INBOX (MESSAGES 2 UIDNEXT 3 UIDVALIDITY V UNSEEN "
         "1)\r\n"
         "a5 OK Completed\r\n");
    talk(c, "a6 SELECT \"INBOX\"", SELECTED "a6 OK [READ-WRITE] Completed\r\n");
    talk(c, "a7 UID FETCH 1:* (UID FLAGS)",
         "* 1 FETCH (UID 1 FLAGS ())\r\n"
         "* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n"
         "a7 OK Completed\r\n");
    talk(c,
         "a8 UID FETCH 1:2 (UID FLAGS RFC822.SIZE BODY.PEEK[HEADER] "
         "INTERNALDATE)",
         "* 1 FETCH (UID 1 FLAGS () RFC822.SIZE 120 BODY[HEADER] "
         "{107}\r\n" HEAD_A " INTERNALDATE \" 1-Feb-2020 10:00:00 +0100\")\r\n"
         "* 2 FETCH (UID 2 FLAGS (\\Seen) RFC822.SIZE 180 BODY[HEADER] "
         "{112}\r\n"
         "From: Carl <carl@example.org>\r\n"
         "Subject: second\r\n"
         "MIME-Version: 1.0\r\n"
         "Content-Type: multipart/mixed; boundary=x\r\n"
         "\r\n"
         " INTERNALDATE \" 1-Feb-2020 10:00:00 +0100\")\r\n"
         "a8 OK Completed\r\n");
    talk(c, "a9 UID FETCH 1 (BODY.PEEK[])",
         "* 1 FETCH (UID 1 BODY[] {120}\r\n" MSG_A ")\r\n"
         "a9 OK Completed\r\n");
    talk(c, "b1 UID STORE 1 +FLAGS (\\Seen)",
         "* 1 FETCH (FLAGS (\\Seen) UID 1)\r\n"
         "b1 OK Completed\r\n");
    talk(c, "b2 UID STORE 2 +FLAGS (\\Deleted)",
         "* 2 FETCH (FLAGS (\\Deleted \\Seen) UID 2)\r\n"
         "b2 OK Completed\r\n");
    talk(c, "b3 EXPUNGE",
         "* 2 EXPUNGE\r\n"
         "b3 OK Completed\r\n");
    talk(c, "b4 UID FETCH 1:* (UID FLAGS)",
         "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n"
         "b4 OK Completed\r\n");
    talk(c, "b5 NOOP", "b5 OK Completed\r\n");
    talk(c, "b6 LOGOUT",
         "* BYE LOGOUT received\r\n"
         "b6 OK Completed\r\n");
}

/* K-9: COMPRESS, the prefix by LIST "" "", what is not deleted by UID SEARCH, a
 * few headers, the structure, then parts. */
static void
test_k9(void **state)
{
    (void)state;
    struct fake_client *c = two();

    talk(c, "1 CAPABILITY",
         "* CAPABILITY V\r\n"
         "1 OK Completed\r\n");
    talk(c, "2 COMPRESS DEFLATE", "2 OK DEFLATE active\r\n");
    talk(c, "3 ID (\"name\" \"K-9 Mail\")", POLLUX_ID "3 OK Completed\r\n");
    talk(c, "4 NAMESPACE", NAMESPACE "4 OK Completed\r\n");
    talk(c, "5 LIST \"\" \"\"",
         "* LIST (\\Noselect) \"/\" \"\"\r\n"
         "5 OK Completed\r\n");
    talk(c, "6 LIST \"\" \"*\" RETURN (SPECIAL-USE)",
         "* LIST (\\HasChildren) \"/\" INBOX\r\n"
         "* LIST (\\HasNoChildren \\Sent) \"/\" INBOX/Sent\r\n"
         "6 OK Completed\r\n");
    talk(c, "7 SELECT \"INBOX\"", SELECTED "7 OK [READ-WRITE] Completed\r\n");
    talk(c, "8 UID SEARCH 1:* NOT DELETED",
         "* SEARCH 1 2\r\n"
         "8 OK Completed\r\n");
    talk(c, "9 UID FETCH 1,2 (UID FLAGS)",
         "* 1 FETCH (UID 1 FLAGS ())\r\n"
         "* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n"
         "9 OK Completed\r\n");
    talk(c,
         "10 UID FETCH 1 (UID INTERNALDATE RFC822.SIZE FLAGS "
         "BODY.PEEK[HEADER.FIELDS (date subject from content-type to "
         "cc reply-to message-id references in-reply-to "
         "list-unsubscribe sender X-K9mail-Identity)])",
         "* 1 FETCH (UID 1 INTERNALDATE \" 1-Feb-2020 10:00:00 +0100\" "
         "RFC822.SIZE 120 FLAGS () BODY[HEADER.FIELDS (date subject "
         "from content-type to cc reply-to message-id references "
         "in-reply-to list-unsubscribe sender X-K9mail-Identity)] "
         "{107}\r\n" HEAD_A ")\r\n"
         "10 OK Completed\r\n");
    talk(c, "11 UID FETCH 2 (UID BODYSTRUCTURE)",
         "* 2 FETCH (UID 2 BODYSTRUCTURE ((\"TEXT\" \"PLAIN\" (\"CHARSET\" "
         "\"US-ASCII\") NIL NIL \"7BIT\" 8 0 NIL NIL NIL NIL)(\"TEXT\" "
         "\"HTML\" NIL NIL NIL \"7BIT\" 10 0 NIL NIL NIL NIL) \"MIXED\" "
         "(\"BOUNDARY\" \"x\") NIL NIL NIL))\r\n"
         "11 OK Completed\r\n");
    talk(c, "12 UID FETCH 2 (BODY.PEEK[1.MIME] BODY.PEEK[1]<0.5120>)",
         "* 2 FETCH (UID 2 BODY[1.MIME] {2}\r\n"
         "\r\n"
         " BODY[1]<0> {8}\r\n"
         "part one)\r\n"
         "12 OK Completed\r\n");
    talk(c, "13 UID STORE 1 +FLAGS.SILENT (\\Seen)", "13 OK Completed\r\n");
    talk(c, "14 UID COPY 1 \"INBOX\"",
         "* 3 EXISTS\r\n"
         "* 1 RECENT\r\n"
         "14 OK [COPYUID V 1 3] Completed\r\n");
    talk(c, "15 UID STORE 1 +FLAGS.SILENT (\\Deleted)", "15 OK Completed\r\n");
    talk(c, "16 UID EXPUNGE 1",
         "* 1 EXPUNGE\r\n"
         "16 OK Completed\r\n");
    talk(c, "17 CLOSE", "17 OK Completed\r\n");
}

/* neomutt: UTF-8 and QRESYNC where there is, header lines of all messages in
 * one FETCH by number, changes by UID. */
static void
test_mutt(void **state)
{
    (void)state;
    struct fake_client *c = two();

    talk(c, "a0 CAPABILITY",
         "* CAPABILITY V\r\n"
         "a0 OK Completed\r\n");
    talk(c, "a1 ENABLE UTF8=ACCEPT QRESYNC",
         "* ENABLED UTF8=ACCEPT QRESYNC\r\n"
         "a1 OK Completed\r\n");
    talk(c, "a2 LIST \"\" \"\"",
         "* LIST (\\Noselect) \"/\" \"\"\r\n"
         "a2 OK Completed\r\n");
    talk(c, "a3 STATUS \"INBOX\" (UIDNEXT UIDVALIDITY UNSEEN RECENT)",
         "* STATUS INBOX (RECENT 0 UIDNEXT 3 UIDVALIDITY V UNSEEN 1)\r\n"
         "a3 OK Completed\r\n");
    talk(c, "a4 SELECT \"INBOX\"", SELECTED "a4 OK [READ-WRITE] Completed\r\n");
    talk(c,
         "a5 FETCH 1:2 (UID FLAGS INTERNALDATE RFC822.SIZE "
         "BODY.PEEK[HEADER.FIELDS (DATE FROM SENDER SUBJECT TO CC "
         "MESSAGE-ID REFERENCES CONTENT-TYPE CONTENT-DESCRIPTION "
         "IN-REPLY-TO REPLY-TO LINES LIST-POST LIST-SUBSCRIBE "
         "LIST-UNSUBSCRIBE X-LABEL X-ORIGINAL-TO)])",
         "* 1 FETCH (UID 1 FLAGS () INTERNALDATE \" 1-Feb-2020 "
         "10:00:00 +0100\" RFC822.SIZE 120 BODY[HEADER.FIELDS (DATE "
         "FROM SENDER SUBJECT TO CC MESSAGE-ID REFERENCES "
         "CONTENT-TYPE CONTENT-DESCRIPTION IN-REPLY-TO REPLY-TO LINES "
         "LIST-POST LIST-SUBSCRIBE LIST-UNSUBSCRIBE X-LABEL "
         "X-ORIGINAL-TO)] {107}\r\n" HEAD_A " MODSEQ (M2))\r\n"
         "* 2 FETCH (UID 2 FLAGS (\\Seen) INTERNALDATE \" 1-Feb-2020 "
         "10:00:00 +0100\" RFC822.SIZE 180 BODY[HEADER.FIELDS (DATE "
         "FROM SENDER SUBJECT TO CC MESSAGE-ID REFERENCES "
         "CONTENT-TYPE CONTENT-DESCRIPTION IN-REPLY-TO REPLY-TO LINES "
         "LIST-POST LIST-SUBSCRIBE LIST-UNSUBSCRIBE X-LABEL "
         "X-ORIGINAL-TO)] {93}\r\n" FEW_OF_B " MODSEQ (M1))\r\n"
         "a5 OK Completed\r\n");
    talk(c, "a6 UID FETCH 1 BODY.PEEK[]",
         "* 1 FETCH (UID 1 BODY[] {120}\r\n" MSG_A ")\r\n"
         "a6 OK Completed\r\n");
    talk(c, "a7 UID STORE 1 +FLAGS.SILENT (\\Seen \\Answered)",
         "* 1 FETCH (UID 1 MODSEQ (M3))\r\n"
         "a7 OK Completed\r\n");
    talk(c, "a8 UID STORE 2 +FLAGS.SILENT (\\Deleted)",
         "* 2 FETCH (UID 2 MODSEQ (M4))\r\n"
         "a8 OK Completed\r\n");
    talk(c, "a9 EXPUNGE",
         "* VANISHED 2\r\n"
         "a9 OK [HIGHESTMODSEQ M5] Completed\r\n");
    talk(c, "b0 CLOSE", "b0 OK Completed\r\n");
    talk(c, "b1 LOGOUT",
         "* BYE LOGOUT received\r\n"
         "b1 OK Completed\r\n");
}

/* mbsync: flags of everything, X-TUID to find again what it uploaded where
 * there is no UIDPLUS, flags back silently. */
static void
test_mbsync(void **state)
{
    (void)state;
    struct fake_client *c = two();

    talk(c, "1 CAPABILITY",
         "* CAPABILITY V\r\n"
         "1 OK Completed\r\n");
    talk(c, "2 NAMESPACE", NAMESPACE "2 OK Completed\r\n");
    talk(c, "3 LIST \"\" \"INBOX*\"",
         "* LIST (\\HasChildren) \"/\" INBOX\r\n"
         "* LIST (\\HasNoChildren \\Sent) \"/\" INBOX/Sent\r\n"
         "3 OK Completed\r\n");
    talk(c, "4 SELECT \"INBOX\"", SELECTED "4 OK [READ-WRITE] Completed\r\n");
    talk(c, "5 UID FETCH 1:1000000000 (UID FLAGS)",
         "* 1 FETCH (UID 1 FLAGS ())\r\n"
         "* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n"
         "5 OK Completed\r\n");
    talk(c,
         "6 UID FETCH 2:1000000000 (UID FLAGS RFC822.SIZE "
         "BODY.PEEK[HEADER.FIELDS (X-TUID)])",
         "* 2 FETCH (UID 2 FLAGS (\\Seen) RFC822.SIZE 180 "
         "BODY[HEADER.FIELDS (X-TUID)] {2}\r\n"
         "\r\n"
         ")\r\n"
         "6 OK Completed\r\n");
    talk(c, "7 UID FETCH 1 (BODY.PEEK[])",
         "* 1 FETCH (UID 1 BODY[] {120}\r\n" MSG_A ")\r\n"
         "7 OK Completed\r\n");
    talk(c,
         "8 APPEND \"INBOX\" (\\Seen) {29+}\r\nX-TUID: "
         "abcdefghijkl\r\n\r\nhello",
         "* 3 EXISTS\r\n"
         "* 1 RECENT\r\n"
         "8 OK [APPENDUID V 3] Completed\r\n");
    talk(c, "9 UID STORE 1 +FLAGS.SILENT (\\Seen)", "9 OK Completed\r\n");
    talk(c, "10 UID STORE 2 -FLAGS.SILENT (\\Flagged)", "10 OK Completed\r\n");
    talk(c, "11 UID SEARCH HEADER X-TUID abcdefghijkl",
         "* SEARCH 3\r\n"
         "11 OK Completed\r\n");
    talk(c, "12 CHECK", "12 OK Completed\r\n");
    talk(c, "13 CLOSE", "13 OK Completed\r\n");
    talk(c, "14 LOGOUT",
         "* BYE LOGOUT received\r\n"
         "14 OK Completed\r\n");
}

/* Roundcube: one connection for each click, sorted and threaded by the server,
 * the list of a page by UIDs, quota and rights beside it. */
static void
test_roundcube(void **state)
{
    (void)state;
    struct fake_client *c = two();

    talk(c, "A0001 CAPABILITY",
         "* CAPABILITY V\r\n"
         "A0001 OK Completed\r\n");
    talk(c, "A0002 ID (\"name\" \"Roundcube\" \"version\" \"1.6.5\")",
         POLLUX_ID "A0002 OK Completed\r\n");
    talk(c, "A0003 NAMESPACE", NAMESPACE "A0003 OK Completed\r\n");
    talk(c, "A0004 LIST (SUBSCRIBED) \"\" * RETURN (SPECIAL-USE)",
         "* LIST (\\HasChildren \\Subscribed) \"/\" INBOX\r\n"
         "* LIST (\\HasNoChildren \\Subscribed \\Sent) \"/\" INBOX/Sent\r\n"
         "A0004 OK Completed\r\n");
    talk(c, "A0005 SELECT INBOX",
         SELECTED "A0005 OK [READ-WRITE] Completed\r\n");
    talk(c,
         "A0006 UID SORT RETURN (ALL COUNT) (REVERSE DATE) UTF-8 ALL "
         "UNDELETED",
         "* ESEARCH (TAG \"A0006\") UID COUNT 2 ALL 2,1\r\n"
         "A0006 OK Completed\r\n");
    talk(c, "A0007 UID SEARCH RETURN (COUNT) UNSEEN UNDELETED",
         "* ESEARCH (TAG \"A0007\") UID COUNT 1\r\n"
         "A0007 OK Completed\r\n");
    talk(c, "A0008 UID THREAD REFERENCES UTF-8 ALL",
         "* THREAD (1)(2)\r\n"
         "A0008 OK Completed\r\n");
    talk(c,
         "A0009 UID FETCH 2,1 (UID RFC822.SIZE FLAGS INTERNALDATE "
         "BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (DATE FROM TO SUBJECT "
         "CONTENT-TYPE CC REPLY-TO LIST-POST "
         "DISPOSITION-NOTIFICATION-TO X-PRIORITY)])",
         "* 1 FETCH (UID 1 RFC822.SIZE 120 FLAGS () INTERNALDATE \" "
         "1-Feb-2020 10:00:00 +0100\" BODYSTRUCTURE (\"TEXT\" \"PLAIN\" "
         "(\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 13 1 NIL NIL NIL NIL) "
         "BODY[HEADER.FIELDS (DATE FROM TO SUBJECT CONTENT-TYPE CC "
         "REPLY-TO LIST-POST DISPOSITION-NOTIFICATION-TO X-PRIORITY)] "
         "{107}\r\n" HEAD_A ")\r\n"
         "* 2 FETCH (UID 2 RFC822.SIZE 180 FLAGS (\\Seen) INTERNALDATE "
         "\" 1-Feb-2020 10:00:00 +0100\" BODYSTRUCTURE ((\"TEXT\" \"PLAIN\" "
         "(\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 8 0 NIL NIL NIL "
         "NIL)(\"TEXT\" \"HTML\" NIL NIL NIL \"7BIT\" 10 0 NIL NIL NIL NIL) "
         "\"MIXED\" (\"BOUNDARY\" \"x\") NIL NIL NIL) BODY[HEADER.FIELDS "
         "(DATE FROM TO SUBJECT CONTENT-TYPE CC REPLY-TO LIST-POST "
         "DISPOSITION-NOTIFICATION-TO X-PRIORITY)] {93}\r\n" FEW_OF_B ")\r\n"
         "A0009 OK Completed\r\n");
    talk(c, "A0010 STATUS INBOX (MESSAGES UNSEEN RECENT)",
         "* STATUS INBOX (MESSAGES 2 RECENT 0 UNSEEN 1)\r\n"
         "A0010 OK Completed\r\n");
    talk(c, "A0011 GETQUOTAROOT INBOX",
         "* QUOTAROOT INBOX\r\n"
         "A0011 OK Completed\r\n");
    talk(c, "A0012 MYRIGHTS INBOX",
         "* MYRIGHTS INBOX lrswipkxtecdan\r\n"
         "A0012 OK Completed\r\n");
    talk(c, "A0013 UID FETCH 2 (UID BODY.PEEK[1])",
         "* 2 FETCH (UID 2 BODY[1] {8}\r\n"
         "part one)\r\n"
         "A0013 OK Completed\r\n");
    talk(c, "A0014 UID STORE 2 +FLAGS.SILENT (\\Seen)",
         "A0014 OK Completed\r\n");
    talk(c,
         "A0015 UID SEARCH RETURN (ALL) OR HEADER SUBJECT first TEXT "
         "two",
         "* ESEARCH (TAG \"A0015\") UID ALL 1:2\r\n"
         "A0015 OK Completed\r\n");
    talk(c, "A0016 CLOSE", "A0016 OK Completed\r\n");
    talk(c, "A0017 LOGOUT",
         "* BYE LOGOUT received\r\n"
         "A0017 OK Completed\r\n");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_thunderbird), T(test_apple),  T(test_outlook),   T(test_k9),
        T(test_mutt),        T(test_mbsync), T(test_roundcube),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
