/*
 * bench/storecheck.c - the store of an instance that does not run: is it whole?
 *
 * Opens it as the instance would (which replays the log), computes all counters
 * and digests anew, and reads every message's body, whose GUID has to be what
 * its bytes say.  For tests that have done bad things to it.
 *
 *   storecheck -d CONFIGDIRECTORY -s SPOOL
 *
 * One line of JSON and 0; or what is wrong, and 1.
 */
#include <openssl/sha.h>

#include "base/log.h"
#include "bench/bench.h"
#include "failover/nodefile.h"
#include "store/body.h"
#include "store/store.h"

struct check {
    struct store *store;
    struct store_snap *snap;
    uint64_t mailboxes, messages, bytes;
};

static void
check_body(struct check *c, const struct mailbox *mb, const struct message *m)
{
    AUTO(buf_free) struct buf bytes = BUF_INIT;
    struct error err = {0};
    struct guid guid;

    if (store_body_read(c->store, &m->guid, 0, UINT64_MAX, &bytes, &err) !=
        ERR_OK)
        die("%s UID %" PRIu32 ": %s", mb->name, m->uid, err.text);
    SHA1(bytes.p, bytes.n, guid.b);
    if (bytes.n != m->size || !guid_eq(&guid, &m->guid))
        die("%s UID %" PRIu32 ": %zu bytes that are not its own", mb->name,
            m->uid, bytes.n);
    c->bytes += bytes.n;
    c->messages++;
}

static bool
check_mailbox(void *ctx, const struct mailbox *mb)
{
    struct check *c = ctx;
    struct msg_iter *it = snap_messages(c->snap, mb->id, 1, false);
    struct message m;
    struct error err = {0};

    while (msg_iter_next(it, &m))
        check_body(c, mb, &m);
    if (msg_iter_close(&it, &err) != ERR_OK)
        die("%s: %s", mb->name, err.text);
    c->mailboxes++;
    return true;
}

int
main(int argc, char **argv)
{
    struct store_config cfg = {.no_threads = true,
                               .cache_bytes = UINT64_C(64) << 20};
    struct store_opened found = {0};
    struct nodefile node = {0};
    struct check c = {0};
    struct error err = {0};

    for (int o; (o = getopt(argc, argv, "d:s:")) != -1;) {
        if (o == 'd')
            cfg.dir = optarg;
        else if (o == 's')
            cfg.pack_dir = optarg;
        else
            return 2;
    }
    if (cfg.dir == NULL || cfg.pack_dir == NULL || optind != argc)
        die("usage: storecheck -d CONFIGDIRECTORY -s SPOOL");
    AUTO(xfree) char *path = xasprintf("%s/node", cfg.dir);
    if (log_open(LOG_TO_STDERR, NULL, "storecheck", LOG_LV_WARN, &err) !=
            ERR_OK ||
        nodefile_read(env_system(), path, &node, &err) != ERR_OK)
        die("%s", err.text);
    cfg.cluster = node.cluster;
    cfg.instance = node.instance;
    if (store_open(env_system(), &cfg, NULL, &c.store, &found, &err) != ERR_OK)
        die("%s", err.text);
    c.snap = store_snapshot(c.store);
    if (snap_verify(c.snap, &err) != ERR_OK ||
        snap_each_mailbox(c.snap, "", check_mailbox, &c, &err) != ERR_OK)
        die("%s", err.text);
    const struct store_pos pos = snap_pos(c.snap);
    store_release(&c.snap);
    printf("{\"lsn\":%" PRI_LSN ",\"digest\":\"%016" PRIx64
           "\",\"replayed\":%" PRIu64 ",\"mailboxes\":%" PRIu64
           ",\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64 "}\n",
           pos.applied.lsn, pos.digest, found.replayed, c.mailboxes, c.messages,
           c.bytes);
    store_close(&c.store);
    return 0;
}
