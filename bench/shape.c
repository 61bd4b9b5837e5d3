/*
 * bench/shape.c - a store of a given shape, made without a server: so many
 * users, mailboxes and messages, through the store's own transactions.
 *
 * What it leaves is the directories of an instance that is the master of epoch
 * 1: start `master` over a configuration that names them.  The same arguments
 * make the same mailboxes and messages.
 *
 * Users are PREFIX0000, PREFIX0001 and so on (as bench/mailload names its
 * recipients) with an INBOX each; the other mailboxes are spread over them,
 * below the INBOX.  All are subscribed to.  Messages go round over all
 * mailboxes.  Beside them, on demand: a user PREFIXbig whose INBOX holds many
 * messages, and a user PREFIXwide with many folders.
 *
 *   shape -d CONFIGDIRECTORY -s SPOOL [-U USERS] [-M MAILBOXES] [-N MESSAGES]
 *         [-b BYTES] [-B BIG] [-W WIDE] [-P PREFIX] [-S SEGMENT_MIB] [-k]
 *
 *   -k  end as by kill -9: nothing is flushed, the log has to be replayed
 *
 * Prints one line of JSON.  Without options: 44,000 users, 457,000 mailboxes.
 */
#include <pthread.h>
#include <sys/stat.h>

#include "base/log.h"
#include "bench/bench.h"
#include "failover/node.h"
#include "mime/message.h"
#include "store/txn.h"

#define OPS_PER_TXN 200
#define IN_FLIGHT 16
#define INTERNAL_S 1767607200 /* 2026-01-05 10:00 */
#define BODIES 256

struct shape {
    const char *dir, *spool, *prefix;
    uint32_t users, mailboxes, messages, bytes, big, wide, segment_mib;
    bool is_killed;
    struct node *node;
    struct store *store;
    char *texts[BODIES];
    mbid_t *ids; /* of all mailboxes, in the order of their making */
    size_t nids;
    size_t cap;
    uint64_t next_message;
    pthread_mutex_t lock;
    pthread_cond_t done;
    unsigned in_flight;
};

/* ---- transactions ------------------------------------------------------ */

/* One transaction on its way, and where the ids of its mailboxes go. */
struct sent {
    struct shape *s;
    size_t first_id;
    size_t ops[OPS_PER_TXN]; /* which of its operations make them */
    size_t ncreated;
};

static void
on_done(void *ctx, struct store_txn *txn)
{
    struct sent *sent = ctx;
    struct shape *s = sent->s;

    if (txn_code(txn) != ERR_OK)
        die("refused: %s", txn_error(txn)->text);
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < sent->ncreated; i++)
        s->ids[sent->first_id + i] = txn_result(txn, sent->ops[i])->id;
    s->in_flight--;
    pthread_cond_signal(&s->done);
    pthread_mutex_unlock(&s->lock);
    txn_free(&txn);
    free(sent);
}

static void
wait_until_less(struct shape *s, unsigned than)
{
    pthread_mutex_lock(&s->lock);
    while (s->in_flight >= than)
        pthread_cond_wait(&s->done, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static void
submit(struct shape *s, struct store_txn *txn, struct sent *sent)
{
    wait_until_less(s, IN_FLIGHT);
    pthread_mutex_lock(&s->lock);
    s->in_flight++;
    pthread_mutex_unlock(&s->lock);
    store_submit(s->store, txn, on_done, sent);
}

static struct sent *
new_sent(struct shape *s)
{
    struct sent *sent = xcalloc(1, sizeof(*sent));

    sent->s = s;
    sent->first_id = s->nids;
    return sent;
}

/* ---- mailboxes --------------------------------------------------------- */

static void
add_mailbox(struct shape *s, struct store_txn *txn, struct sent *sent,
            const char *user, const char *folder)
{
    const struct span nothing = SPAN_EMPTY;
    AUTO(xfree)
    char *name =
        xasprintf("user.%s%s%s", user, folder[0] != '\0' ? "." : "", folder);

    if (s->nids == s->cap) {
        s->cap = s->cap == 0 ? 4096 : 2 * s->cap;
        /* on_done() writes into it */
        wait_until_less(s, 1);
        s->ids = xrealloc(s->ids, s->cap * sizeof(*s->ids));
    }
    sent->ops[sent->ncreated++] = txn_create(
        txn, &(struct txn_mailbox){.name = name, .partition = "default"});
    txn_user(txn, user, USER_SUBSCRIPTION, name, &nothing);
    s->nids++;
}

/* INBOX and N folders of USER, in as many transactions as it takes. */
static void
make_user(struct shape *s, const char *user, uint32_t n)
{
    static const char *const usual[] = {"Drafts", "Sent", "Trash", "Junk",
                                        "Archive"};
    struct store_txn *txn = txn_new();
    struct sent *sent = new_sent(s);

    add_mailbox(s, txn, sent, user, "");
    for (uint32_t i = 0; i < n; i++) {
        if (sent->ncreated == OPS_PER_TXN) {
            submit(s, txn, sent);
            txn = txn_new();
            sent = new_sent(s);
        }
        AUTO(xfree)
        char *name = i < ARRAY_LEN(usual) ? xstrdup(usual[i])
                                          : xasprintf("folder-%04u", i);
        add_mailbox(s, txn, sent, user, name);
    }
    submit(s, txn, sent);
}

static void
make_users(struct shape *s)
{
    const uint32_t folders =
        s->mailboxes > s->users ? s->mailboxes - s->users : 0;

    for (uint32_t i = 0; i < s->users; i++) {
        AUTO(xfree) char *user = xasprintf("%s%04u", s->prefix, i);
        make_user(s, user,
                  folders / s->users + (i < folders % s->users ? 1 : 0));
    }
    wait_until_less(s, 1);
}

/* ---- messages ---------------------------------------------------------- */

static void
add_message(struct shape *s, struct store_txn *txn, mbid_t id)
{
    struct error err = {0};
    AUTO(buf_free) struct buf text = BUF_INIT;
    AUTO(buf_free) struct buf cache = BUF_INIT;
    const uint64_t n = s->next_message++;
    struct body *b = store_body_new(s->store, UINT64_C(1) << 30);

    buf_addf(&text,
             "From: Sender <sender@example.org>\r\n"
             "To: Recipient <recipient@example.org>\r\n"
             "Subject: message %" PRIu64 "\r\n"
             "Message-ID: <shape-%" PRIu64 "@example.org>\r\n"
             "Date: Mon, 05 Jan 2026 10:00:00 +0000\r\n\r\n",
             n, n);
    if (text.n < s->bytes)
        buf_add(&text, span_of(s->texts[n % BODIES], s->bytes - text.n));
    struct mime_message *msg = NULL;
    mime_parse(buf_span(&text), NULL, &msg);
    mime_cache_encode(msg, &cache);
    mime_message_free(&msg);
    if (body_write(b, buf_span(&text), &err) != ERR_OK ||
        body_finish(b, &err) != ERR_OK)
        die("%s", err.text);
    txn_append(txn, &(struct txn_append){.id = id,
                                         .body = b,
                                         .internal_s = INTERNAL_S,
                                         .cache = buf_span(&cache)});
    body_free(&b);
}

/* N messages over the NIDS mailboxes of IDS in turn. */
static void
make_messages(struct shape *s, const mbid_t *ids, size_t nids, uint32_t n)
{
    for (uint32_t i = 0; i < n;) {
        struct store_txn *txn = txn_new();
        /* As much as a few deliveries, so that it stays below a group. */
        for (size_t bytes = 0, ops = 0;
             i < n && ops < OPS_PER_TXN && bytes < (256U << 10);
             i++, ops++, bytes += s->bytes)
            add_message(s, txn, ids[i % nids]);
        submit(s, txn, new_sent(s));
    }
    wait_until_less(s, 1);
}

/* ---- all of it --------------------------------------------------------- */

static void
on_fatal(void *ctx, const struct error *err)
{
    (void)ctx;
    die("%s", err->text);
}

static void
on_role(void *ctx, enum role role)
{
    (void)ctx;
    (void)role;
}

static void
open_node(struct shape *s)
{
    struct store_opened found = {0};
    struct error err = {0};
    const struct node_config cfg = {
        .store = {.dir = s->dir,
                  .pack_dir = s->spool,
                  .segment_bytes = (uint64_t)s->segment_mib << 20,
                  /* As of mail that came in the course of years. */
                  .compress = COMPRESS_ALWAYS,
                  /* As log_keep_bytes: without it the compactor may be at work
                   * already, and a state that is lost is not made anew. */
                  .compaction = {.log_keep_bytes = UINT64_C(1) << 30},
                  .cache_bytes = UINT64_C(64) << 20},
        .servername = "shape",
    };
    const struct node_hooks hooks = {.on_role = on_role, .on_fatal = on_fatal};

    if (log_open(LOG_TO_STDERR, NULL, "shape", LOG_LV_WARN, &err) != ERR_OK)
        die("%s", err.text);
    if (node_open(env_system(), &cfg, &hooks, &s->node, &found, &err) != ERR_OK)
        die("%s", err.text);
    if (!found.is_new)
        die("there is a store in %s already", s->dir);
    s->store = node_store(s->node);
}

static void
options(struct shape *s, int argc, char **argv)
{
    for (int c; (c = getopt(argc, argv, "d:s:U:M:N:b:B:W:P:S:k")) != -1;) {
        switch (c) {
        case 'd':
            s->dir = optarg;
            break;
        case 's':
            s->spool = optarg;
            break;
        case 'U':
            s->users = number(optarg, 1000000);
            break;
        case 'M':
            s->mailboxes = number(optarg, 10000000);
            break;
        case 'N':
            s->messages = number(optarg, 100000000);
            break;
        case 'b':
            s->bytes = number(optarg, 1U << 20);
            break;
        case 'B':
            s->big = number(optarg, 10000000);
            break;
        case 'W':
            s->wide = number(optarg, 1000000);
            break;
        case 'P':
            s->prefix = optarg;
            break;
        case 'S':
            s->segment_mib = number(optarg, 1024);
            break;
        case 'k':
            s->is_killed = true;
            break;
        default:
            exit(2);
        }
    }
    if (s->dir == NULL || s->spool == NULL || optind != argc ||
        (s->users == 0 && s->messages > 0))
        die("usage: shape -d CONFIGDIRECTORY -s SPOOL [-U USERS] "
            "[-M MAILBOXES] [-N MESSAGES] [-b BYTES] [-B BIG] [-W WIDE] "
            "[-P PREFIX] [-S SEGMENT_MIB] [-k]");
}

int
main(int argc, char **argv)
{
    struct shape s = {
        .prefix = "u",
        .users = 44000,
        .mailboxes = 457000,
        .bytes = 1000,
        .segment_mib = 64,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .done = PTHREAD_COND_INITIALIZER,
    };

    options(&s, argc, argv);
    for (size_t i = 0; i < BODIES; i++) {
        s.texts[i] = xmalloc(s.bytes + 1);
        fill_text(s.texts[i], s.bytes, i + 1);
    }
    open_node(&s);
    const uint64_t began = now_ns();
    make_users(&s);
    const uint64_t made = now_ns();
    if (s.messages > 0)
        make_messages(&s, s.ids, s.nids, s.messages);
    if (s.big > 0) {
        AUTO(xfree) char *user = xasprintf("%sbig", s.prefix);
        make_user(&s, user, 0);
        wait_until_less(&s, 1);
        make_messages(&s, &s.ids[s.nids - 1], 1, s.big);
    }
    if (s.wide > 0) {
        AUTO(xfree) char *user = xasprintf("%swide", s.prefix);
        make_user(&s, user, s.wide);
        wait_until_less(&s, 1);
    }
    const uint64_t ended = now_ns();
    printf("{\"mailboxes\":%zu,\"messages\":%" PRIu64 ",\"records\":%" PRI_LSN
           ",\"log_bytes\":%" PRIu64 ",\"create_s\":%.2f,\"append_s\":%.2f}\n",
           s.nids, s.next_message, store_pos(s.store).applied.lsn,
           synclog_bytes(store_log(s.store)), (double)(made - began) / 1e9,
           (double)(ended - made) / 1e9);
    (void)fflush(stdout);
    if (s.is_killed)
        _exit(0);
    node_close(&s.node);
    for (size_t i = 0; i < BODIES; i++)
        free(s.texts[i]);
    free(s.ids);
    return 0;
}
