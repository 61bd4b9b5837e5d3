#!/usr/bin/env python3
"""A replica that keeps what its master purges (sync_keep_history): its digest
is that of its twin, and what was purged is listed and given out byte for byte,
through compaction, restart, kill -9, promotion and a seed.
test_keep_history.py BIN_DIR [TEST ...]."""

import glob
import json
import os
import subprocess

from pollux import (World, check, check_equal, log_has, mailbox, number_of,
                    run, wait_for)
from test_channels import SMALL, Three, channels, here, same
from test_tools import (DATA, DIFFERS, NOSTORE, OK, TEMPFAIL, USAGE, good,
                        refused, tool)
from withstand import check_same_picture, flood, no_crash, solid

KEEP = {"sync_keep_history": "yes"}


def kept_of(instance, *args):
    """{guid: row}, after the sum was compared."""
    rows = json.loads(good(instance, "ctl_history", "list", "--json", *args))
    return {row["guid"]: row for row in rows}


def cat(instance, *args):
    done = subprocess.run(instance.program("ctl_history", "cat", *args),
                          capture_output=True, timeout=60)
    check_equal(done.returncode, OK, "cat: %r" % done.stderr)
    return done.stdout


def expunge(instance, user, first, last, name="INBOX"):
    conn = instance.imap(user)
    check_equal(conn.select(name)[0], "OK", "SELECT")
    check_equal(conn.uid("STORE", "%d:%d" % (first, last), "+FLAGS.SILENT",
                         "(\\Deleted)")[0], "OK", "STORE")
    check_equal(conn.expunge()[0], "OK", "EXPUNGE")
    conn.logout()


def purge(instance):
    good(instance, "cyr_expire", "-X", "0", "-D", "0s", "-E", "3")


def check_bodies(instance, want, what):
    """WANT: {(mailbox, uid): bytes}; each as it was, and nothing else."""
    rows = kept_of(instance).values()
    check_equal(sorted((r["mailbox"], r["uid"]) for r in rows), sorted(want),
                what)
    for row in rows:
        check(cat(instance, row["guid"]) == want[row["mailbox"], row["uid"]],
              "%s: %s, UID %d" % (what, row["mailbox"], row["uid"]))


def test_keeper_and_its_twin(bin_dir):
    with World(bin_dir, SMALL, start=False) as w:
        w.b.configure(rolling=False, options=KEEP)
        w.start()
        w.a.must("promote")
        w.wait_equal()
        w.deliver_all(w.a, range(1, 31), size=4000)
        w.deliver_all(w.a, range(101, 111), users=("bob",), size=9000)
        conn = w.a.imap("alice")
        check_equal(conn.create("Old")[0], "OK", "CREATE")
        conn.select("INBOX")
        check_equal(conn.uid("COPY", "21:24", "Old")[0], "OK", "COPY")
        check_equal(conn.append("Old", "(\\Seen $Later)",
                                '"05-Jan-2026 10:00:00 +0100"',
                                solid(900, 100000))[0], "OK", "APPEND")
        conn.logout()
        alice = dict(mailbox(w.a, "alice"))
        old = dict(mailbox(w.a, "alice", "Old"))
        check_equal(len(old), 5, "messages in Old")

        expunge(w.a, "alice", 1, 10)
        conn = w.a.imap("alice")
        check_equal(conn.delete("Old")[0], "OK", "DELETE")
        conn.logout()
        refused(w.b, DATA, "of the 0 purged messages", "ctl_history", "list")
        purge(w.a)
        w.wait_equal()
        want = {("user/alice", uid): alice[uid] for uid in range(1, 11)}
        want |= {("user/alice/Old", uid): raw for uid, raw in old.items()}
        rows = json.loads(good(w.b, "ctl_history", "list", "--json"))
        check_equal(sorted((r["mailbox"], r["uid"]) for r in rows),
                    sorted(want), "kept")
        last = [r for r in rows if r["size"] > 100000]
        check_equal(len(last), 1, "the large one")
        check_equal((last[0]["flags"], last[0]["received"], last[0]["user"],
                     last[0]["way"]),
                    ("\\Seen $Later", 1767603600, "alice", "purged"), "its row")
        check(last[0]["name"].startswith("DELETED.user.alice.Old."),
              last[0]["name"])
        check(all(r["expunged"] > 0 and r["purged_us"] > 0 and r["lsn"] > 0
                  for r in rows if r["mailbox"] == "user/alice"), "times")
        check_bodies(w.b, want, "kept")
        # It is not in the state: of either.
        check_same_picture(w.a, w.b, ["alice", "bob"])
        refused(w.a, DATA, "keeps no history", "ctl_history", "list")
        refused(w.b, TEMPFAIL, "this instance is a replica", "ctl_backup",
                "import", "--user", "alice", w.tmp)
        status = w.b.status()
        check_equal(status["history"], 15, "status")
        check(status["history_bytes"] == sum(map(len, want.values())), "bytes")

        # Out of the log of b, and past what was there.
        flood(w.a, 2000, 300, user="bob", size=4000)
        w.wait_equal(timeout=60)
        wait_for("b to have its bodies in packs",
                 lambda: here(w.b)["first_lsn"] > 100, 60)
        check_bodies(w.b, want, "behind the compactor")
        w.b.kill()
        w.b.start()
        check_bodies(w.b, want, "after kill -9")
        w.wait_equal(timeout=60)
        w.b.stop()
        check_bodies(w.b, want, "without an instance")
        w.b.configure(options=KEEP)
        w.b.start()
        w.wait_equal(timeout=60)

        # As the master it goes on; the other one keeps none.
        wait_for("a to stream",
                 lambda: channels(w.a)["default"]["state"] == "streaming", 60)
        w.a.must("swap", timeout=120)
        bob = dict(mailbox(w.b, "bob"))
        expunge(w.b, "bob", 1, 5)
        purge(w.b)
        w.wait_equal(timeout=60)
        want |= {("user/bob", uid): bob[uid] for uid in range(1, 6)}
        check_bodies(w.b, want, "after the promotion")
        refused(w.a, DATA, "keeps no history", "ctl_history", "list")
        no_crash(w.a, w.b)


def test_questions_exports_and_mistakes(bin_dir):
    with World(bin_dir, {"sync_host": "", **KEEP}, promote=False,
               start=False) as w:
        a = w.a
        refused(a, NOSTORE, "there is no store in", "ctl_history", "list")
        a.start()
        w.deliver_all(a, range(1, 9), users=("alice", "bob"))
        conn = a.imap("alice")
        check_equal(conn.create("Sub")[0], "OK", "CREATE")
        conn.select("INBOX")
        check_equal(conn.append("INBOX", None, None, solid(77, 5 << 19))[0],
                    "OK", "APPEND")  # of three parts
        check_equal(conn.uid("COPY", "3:4", "Sub")[0], "OK", "COPY")
        check_equal(conn.uid("STORE", "1", "+FLAGS", "(\\Flagged)")[0], "OK",
                    "STORE")
        conn.logout()
        was = dict(mailbox(a, "alice"))
        expunge(a, "alice", 1, 3)
        expunge(a, "bob", 2, 2)
        conn = a.imap("alice")
        check_equal(conn.delete("Sub")[0], "OK", "DELETE")
        conn.logout()
        purge(a)

        def found(*args):
            rows = json.loads(good(a, "ctl_history", "list", "--json", *args))
            return sorted("%s/%d" % (r["mailbox"], r["uid"]) for r in rows)
        inbox = ["user/alice/%d" % n for n in (1, 2, 3)]
        sub = ["user/alice/Sub/%d" % n for n in (1, 2)]
        check_equal(found(), inbox + sub + ["user/bob/2"], "all")
        check_equal(found("-u", "alice"), inbox + sub, "-u")
        check_equal(found("-m", "user/alice"), inbox, "-m")
        check_equal(found("-m", "user/alice/Sub"), sub, "-m of a deleted one")
        check_equal(found("--since", "1h"), found(), "--since")
        check_equal(found("--until", "2100-01-01T00:00:00Z"), found(), "--until")
        out = good(a, "ctl_history", "list", "-m", "user/bob", "--headers")
        check("message 2" in out and "sender@example.org" in out and
              "1 of 6 purged messages" in out, out)
        refused(a, DATA, "none is asked for", "ctl_history", "list",
                "--since", "2100-01-01")
        refused(a, DATA, "none is asked for", "ctl_history", "list", "-u",
                "carol")
        check_equal(cat(a, "-m", "user/alice", "2"), was[2], "by UID")

        # As files.
        target = os.path.join(w.tmp, "maildir")
        out = good(a, "ctl_history", "export", "-u", "alice", target)
        check_equal(out, "2 folders, 5 messages, %d bytes\n" % (
            sum(len(was[n]) for n in (1, 2, 3, 3, 4))), "export")
        for folder, want in (("cur", [1, 2, 3]), (".Sub/cur", [3, 4])):
            got = []
            for path in glob.glob(os.path.join(target, folder, "*")):
                with open(path, "rb") as f:
                    raw = f.read()
                got.append(number_of(raw))
                check(raw == was[number_of(raw)], path)
                flags = path.rpartition(",")[2]
                check_equal(flags, "F" if number_of(raw) == 1 else "", path)
            check_equal(sorted(got), want, folder)
        mbox = os.path.join(w.tmp, "mbox")
        good(a, "ctl_history", "export", "-m", "user/alice/Sub", "--format",
             "mbox", mbox)
        with open(os.path.join(mbox, "INBOX.Sub.mbox"), "rb") as f:
            check_equal(f.read().count(b"From MAILER-DAEMON"), 2, "mbox")
        refused(a, DATA, target, "ctl_history", "export", "-u", "alice",
                target)

        # And back, as new mail; what is there is not taken twice.
        check_equal(good(a, "ctl_backup", "import", "--user", "alice",
                         "--folder", "Restored", target),
                    "5 messages, %d bytes; 0 were there already; 2 mailboxes "
                    "made\n" % sum(len(was[n]) for n in (1, 2, 3, 3, 4)), "import")
        got = mailbox(a, "alice", "Restored")
        check_equal([raw for _, raw in got], [was[n] for n in (1, 2, 3)],
                    "Restored")
        got = mailbox(a, "alice", "Restored/Sub")
        check_equal([raw for _, raw in got], [was[n] for n in (3, 4)],
                    "Restored/Sub")
        conn = a.imap("alice")
        conn.select("Restored", readonly=True)
        kind, data = conn.fetch("1", "(FLAGS)")
        check(kind == "OK" and b"\\Flagged" in data[0], data)
        conn.logout()
        with open(os.path.join(target, "new", "1767607200.other"), "wb") as f:
            f.write(b"Subject: elsewhere\n\nline\nend\n")
        spoilt = os.path.join(target, "cur", "1.V1U1.pollux,S=9:2,")
        with open(spoilt, "w") as f:
            f.write("short")
        code, out, err = tool(a, "ctl_backup", "import", "--user", "alice",
                              "--folder", "Restored", target)
        check_equal((code, out), (DIFFERS, "1 messages, 33 bytes; 5 were there "
                                  "already; 0 mailboxes made\n"), "again")
        check_equal(err, "ctl_backup: %s: it has 5 bytes, and its name says "
                    "9\n" % spoilt, "a file that is not whole")
        check_equal(mailbox(a, "alice", "Restored")[-1][1],
                    b"Subject: elsewhere\r\n\r\nline\r\nend\r\n", "CRLF")
        refused(a, DATA, "there is no such user", "ctl_backup", "import",
                "--user", "carol", target)
        refused(a, DATA, "is no Maildir", "ctl_backup", "import", "--user",
                "alice", mbox)
        refused(a, USAGE, "import needs --user", "ctl_backup", "import", mbox)
        for text, args in (
                ("a command is needed", ()),
                ("show is not a command", ("show",)),
                ("list takes options only", ("list", "x")),
                ("cat takes a GUID", ("cat",)),
                ("export takes a directory", ("export", "-u", "alice")),
                ("export needs -u or -m", ("export", "/tmp/x")),
                ("drop needs -u or -m", ("drop",)),
                ("-u and -m do not go together",
                 ("list", "-u", "a", "-m", "user.a")),
                ("is no time", ("list", "--since", "yesterday")),
                ("--format is", ("export", "-u", "a", "--format", "zip", "x")),
                ("cat takes neither", ("cat", "-u", "alice", "x"))):
            refused(a, USAGE, text, "ctl_history", *args)
        refused(a, USAGE, "40 hex digits", "ctl_history", "cat", "beef")
        refused(a, DATA, "none is asked for", "ctl_history", "cat", "0" * 40)
        refused(a, USAGE, "several messages", "ctl_history", "cat", "-m",
                "user/alice", "1:3")

        # Switched off: it is said, and stays for an hour more.
        def switched(to):
            a.stop()
            with open(a.imapd_conf) as f:
                lines = [line for line in f if "sync_keep" not in line]
            with open(a.imapd_conf, "w") as f:
                f.writelines(lines + ["sync_keep_history: %s\n" % to])
            a.start()
        switched("no")
        wait_for("the line in the log",
                 lambda: log_has(a, "store.history_off"), 60)
        check_equal(found("-u", "alice"), inbox + sub, "just switched off")
        switched("30")
        check_equal(found("-u", "alice"), inbox + sub, "30 days")
        expunge(a, "alice", 9, 9)
        purge(a)
        check(len(was[9]) > 2 << 20, "the large one")
        check(cat(a, "-m", "user/alice", "9") == was[9], "the large one")

        check_equal(good(a, "ctl_history", "drop", "-m", "user/alice/Sub"),
                    "2 messages, %d bytes are not kept any more\n" % (
                        len(was[3]) + len(was[4])), "drop")
        check_equal(found("-u", "alice"), inbox + ["user/alice/9"], "dropped")
        a.stop()
        good(a, "ctl_history", "drop", "-u", "alice", "--since", "1h")
        check_equal(found(), ["user/bob/2"], "dropped without an instance")
        a.start()
        refused(a, DATA, "none is asked for", "ctl_history", "drop", "-u",
                "alice")
        no_crash(a)


def test_seed_finds_what_was_missed(bin_dir):
    """c is left behind, and its master purges meanwhile: when it was seeded, it
    has what it kept before, and of what it missed all that it had."""
    with Three(bin_dir, SMALL, third={"third_sync_log_cap": "1M"}) as w:
        w.c.stop()
        w.c.configure(rolling=False, options=KEEP)
        w.c.start()
        w.deliver_all(w.a, range(1, 61), size=4000)
        alice = dict(mailbox(w.a, "alice"))
        expunge(w.a, "alice", 1, 5)
        purge(w.a)
        wait_for("c to be equal", lambda: same(w.a, w.c), 60)
        want = {("user/alice", uid): alice[uid] for uid in range(1, 6)}
        check_bodies(w.c, want, "before")
        w.c.kill()
        expunge(w.a, "alice", 6, 20)
        purge(w.a)
        conn = w.a.lmtp()
        number = 1000

        def expelled():
            nonlocal number
            for _ in range(40):
                number += 1
                check_equal(w.a.deliver(conn, ["bob"], solid(
                    number, 20000, "bob")), [250], "mail while c is away")
            return channels(w.a)["third"]["state"] == "reseed"
        wait_for("the channel to be given up", expelled, 120)
        first = here(w.a)["first_lsn"]
        wait_for("the log to be let go", lambda: expelled() and
                 here(w.a)["first_lsn"] > max(first, 100), 120)
        w.c.start()
        wait_for("c to be seeded", lambda: same(w.a, w.c), 120)
        check(log_has(w.c, "failover.reseed"), "c was not seeded")
        want |= {("user/alice", uid): alice[uid] for uid in range(6, 21)}
        check_bodies(w.c, want, "seeded")
        ways = {r["uid"]: r["way"] for r in kept_of(w.c).values()}
        check_equal({uid for uid, way in ways.items() if way == "seeded"},
                    set(range(6, 21)), "what it missed")
        check_same_picture(w.a, w.c, ["alice", "bob"])
        expunge(w.a, "alice", 21, 22)
        purge(w.a)
        wait_for("c to be equal", lambda: same(w.a, w.c), 60)
        want |= {("user/alice", uid): alice[uid] for uid in (21, 22)}
        check_bodies(w.c, want, "and on")
        no_crash(w.a, w.b, w.c)


if __name__ == "__main__":
    run([test_keeper_and_its_twin, test_questions_exports_and_mistakes,
         test_seed_finds_what_was_missed])
