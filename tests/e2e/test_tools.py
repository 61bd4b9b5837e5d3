#!/usr/bin/env python3
"""The admin's tools, against a running instance and without one: the same
question has the same answer both ways."""

import base64
import json
import os
import random
import re
import socket
import subprocess
import time

from pollux import (World, check, check_equal, log_has, mailbox, message, run,
                    wait_for)

ALONE = {"sync_host": "", "unixhierarchysep": "yes"}
OK, DIFFERS, USAGE, DATA, NOSTORE, FAILED = 0, 1, 64, 65, 69, 70
IO, TEMPFAIL, CONFIG = 74, 75, 78


def alone(bin_dir, **options):
    """One instance without a twin, not started."""
    return World(bin_dir, {**ALONE, **options}, promote=False, start=False)


def tool(instance, *args, stdin=None, env=None):
    """(exit code, stdout, stderr) of a tool."""
    done = subprocess.run(instance.program(*args), input=stdin,
                          capture_output=True, text=True, timeout=120,
                          env={**os.environ, **(env or {})})
    return done.returncode, done.stdout, done.stderr


def good(instance, *args, **kwargs):
    code, out, err = tool(instance, *args, **kwargs)
    check_equal(code, OK, "%s: %s%s" % (" ".join(args), out, err))
    return out


def refused(instance, code, text, *args, **kwargs):
    """It ends with CODE and one sentence that has TEXT in it."""
    got, out, err = tool(instance, *args, **kwargs)
    check_equal(got, code, "exit code of %s: %s%s" % (" ".join(args), out,
                                                      err))
    check(text in err, "%s says %r" % (" ".join(args), err))
    check(err.startswith(args[0] + ": "), "who speaks? %r" % err)


def both_ways(instance, *args, same=True):
    """The answer of the running instance and then that of its store."""
    live = tool(instance, *args)
    instance.stop()
    dead = tool(instance, *args)
    instance.start()
    if same:
        check_equal(dead, live, "%s without an instance" % " ".join(args))
    return live


def test_store(bin_dir):
    with alone(bin_dir) as w:
        a = w.a
        refused(a, NOSTORE, "there is no store in", "ctl_cyrusdb", "-r")
        check(not os.path.exists(os.path.join(a.dir, "conf", "node")),
              "a tool founded a store")
        a.start()
        w.deliver_all(a, range(5))
        code, out, _ = both_ways(a, "ctl_cyrusdb", "-r", "-x", "--json")
        check_equal(code, OK, "ctl_cyrusdb -r")
        found = json.loads(out)
        check_equal(found["role"], "master", "role")
        check_equal(found["lsn"], a.status()["here"]["applied"], "position")
        out = good(a, "ctl_cyrusdb", "-r", "--verify")
        check("recovered: master at 1:" in out and "verified in" in out, out)
        out = good(a, "ctl_cyrusdb", "-c")
        check(out.startswith("checkpoint: the state at 1:"), out)
        refused(a, USAGE, "one of -r and -c", "ctl_cyrusdb")
        refused(a, USAGE, "one of -r and -c", "ctl_cyrusdb", "-r", "-c")
        refused(a, USAGE, "-z is not known", "ctl_cyrusdb", "-z")
        check_equal(tool(a, "ctl_cyrusdb", "-h")[0], OK, "-h")
        # What a kill -9 leaves is recovered by whoever comes first.
        w.deliver_all(a, range(5, 8))
        a.kill()
        found = json.loads(good(a, "ctl_cyrusdb", "-r", "--json"))
        check(found["replayed"] > 0, "nothing was applied again: %r" % found)


def test_configuration(bin_dir):
    with alone(bin_dir) as w:
        with open(w.a.imapd_conf, "a") as f:
            f.write("no_such_option: 1\n")
        refused(w.a, CONFIG, "no_such_option", "ctl_cyrusdb", "-r")
        w.a.imapd_conf += ".missing"
        refused(w.a, CONFIG, "imapd.conf.missing", "mbpath", "user/alice")


def test_mailbox_list(bin_dir):
    with alone(bin_dir) as w:
        a = w.a
        a.start()
        w.deliver_all(a, range(3), users=("alice", "bob"))
        conn = a.imap("alice")
        check_equal(conn.create("Sub.folder")[0], "OK", "CREATE")
        check_equal(conn.setacl("INBOX", "bob", "lr")[0], "OK", "SETACL")
        conn.logout()
        code, out, _ = both_ways(a, "ctl_mboxlist", "-d")
        check_equal(code, OK, "ctl_mboxlist -d")
        boxes = json.loads(out)
        check_equal(sorted(boxes), ["user.alice", "user.alice.Sub^folder",
                                    "user.bob"], "names")
        box = boxes["user.alice"]
        check_equal(box["acl"], {"alice": "lrswipkxtecdan", "bob": "lr"},
                    "rights")
        check_equal((box["name"], box["mbtype"], box["partition"]),
                    ("user.alice", "e", "default"), "what Cyrus has too")
        check(all(isinstance(v, (str, dict, list)) for v in box.values()),
              "Cyrus's numbers are strings")
        check_equal(json.loads(good(a, "ctl_mboxlist", "-d", "-p", "other")),
                    {}, "another partition")
        check_equal(both_ways(a, "ctl_mboxlist", "-v")[:2], (OK, ""), "-v")

        # -x takes what was dumped out of the list, -u brings it back.
        check_equal(good(a, "ctl_mboxlist", "-d", "-x"), out, "-d -x")
        left = json.loads(good(a, "ctl_mboxlist", "-d"))
        check(all(n.startswith("DELETED.user.") for n in left), repr(left))
        check_equal(good(a, "ctl_mboxlist", "-u", stdin=out),
                    "3 mailboxes made, 0 with other rights, 0 as they were\n",
                    "-u")
        check_equal(good(a, "ctl_mboxlist", "-u", stdin=out),
                    "0 mailboxes made, 0 with other rights, 3 as they were\n",
                    "-u again")
        changed = out.replace('"bob": "lr"', '"bob": "lrs"')
        path = os.path.join(a.dir, "dump")
        with open(path, "w") as f:
            f.write(changed)
        check_equal(good(a, "ctl_mboxlist", "-u", path),
                    "0 mailboxes made, 1 with other rights, 2 as they were\n",
                    "-u file")
        now = json.loads(good(a, "ctl_mboxlist", "-d"))
        check_equal(now["user.alice"]["acl"]["bob"], "lrs", "rights")
        check_equal(
            good(a, "ctl_mboxlist", "-u", "-L",
                 stdin="user.carol\t0 default carol\tlrswipkxtecda\t\n"),
            "1 mailboxes made, 0 with other rights, 0 as they were\n", "-L")

        refused(a, DATA, "this is not a dump", "ctl_mboxlist", "-u",
                stdin="{\"user.x\": {\"acl\": 7}}")
        refused(a, DATA, "it ends too early", "ctl_mboxlist", "-u",
                stdin=out[:-4])
        refused(a, DATA, "line 1", "ctl_mboxlist", "-u", "-L", stdin="what?")
        refused(a, USAGE, "rights are none", "ctl_mboxlist", "-u",
                stdin='{"user.x": {"acl": {"x": "lrQ"}}}')
        refused(a, NOSTORE, "mupdate_server", "ctl_mboxlist", "-m", "-a")
        refused(a, USAGE, "one of -d", "ctl_mboxlist")
        refused(a, USAGE, "one of -d", "ctl_mboxlist", "-d", "-v")


def test_partition_that_is_not_configured(bin_dir):
    with alone(bin_dir) as w:
        a = w.a
        a.start()
        w.deliver_all(a, range(1))
        check_equal(good(a, "ctl_mboxlist", "-v"), "", "nothing is wrong")
        a.stop()
        a.configure(options={"partition-other": os.path.join(a.dir, "other"),
                             "defaultpartition": "other", "sync_host": "x"})
        with open(a.imapd_conf) as f:
            text = f.read()
        with open(a.imapd_conf, "w") as f:
            f.write("".join(line + "\n" for line in text.splitlines()
                            if not line.startswith(("partition-default:",
                                                    "sync_host:"))))
        code, out, err = tool(a, "ctl_mboxlist", "-v")
        check_equal(code, DIFFERS, out + err)
        check("'user.alice': it is on partition \"default\"" in out, out)


def test_mbpath_and_mbexamine(bin_dir):
    with alone(bin_dir) as w:
        a = w.a
        a.start()
        w.deliver_all(a, range(5), users=("alice", "bob"))
        conn = a.imap("alice")
        conn.select("INBOX")
        conn.store("2", "+FLAGS", "(\\Seen $Work)")
        conn.store("3", "+FLAGS", "(\\Deleted)")
        conn.expunge()
        conn.logout()
        spool = os.path.join(a.dir, "spool") + "\n"
        check_equal(both_ways(a, "mbpath", "user/alice"), (OK, spool, ""),
                    "mbpath")
        check_equal(good(a, "mbpath", "-u", "alice", "bob"), 2 * spool, "-u")
        check_equal(good(a, "mbpath", "-U", "-u", "alice"),
                    os.path.join(a.dir, "conf", "state") + "\n", "-U")
        boxes = json.loads(good(a, "mbpath", "--json", "user/alice"))
        check_equal(boxes[0]["name"], "user.alice", "--json")
        check("Uniqueid: " + boxes[0]["uniqueid"] in
              good(a, "mbpath", "-a", "user/alice"), "-a")
        refused(a, DATA, "user/nobody: there is no such mailbox", "mbpath",
                "user/nobody", "user/alice")
        check_equal(tool(a, "mbpath", "-q", "-s", "user/nobody", "user/bob"),
                    (DATA, "", ""), "-q -s")
        refused(a, USAGE, "name a mailbox", "mbpath")

        code, out, _ = both_ways(a, "mbexamine", "user/alice")
        check_equal(code, OK, "mbexamine")
        for part in ("Examining user/alice...", "Number of Messages: 4  ",
                     "UID:00000003", "FLAGS: \\Deleted EXPUNGED",
                     "FLAGS: \\Seen $Work", "User Flags: $Work",
                     "Last UID: 5", "Expunged: 1"):
            check(part in out, "%r is not in %s" % (part, out))
        out = good(a, "mbexamine", "-u", "4:5", "user/alice")
        check("UID:00000004" in out and "UID:00000002" not in out, out)
        out = good(a, "mbexamine", "-s", "3", "user/alice")
        check("000003> UID:00000004" in out and "UID:00000003" not in out, out)
        for option in ("-q", "-c"):
            code, out, _ = both_ways(a, "mbexamine", option, "user/*")
            check_equal((code, out.count("nothing differs")), (OK, 2), out)
        refused(a, DATA, "user/x: there is no such mailbox", "mbexamine",
                "user/x", "user/alice")
        refused(a, USAGE, "not a set of UIDs", "mbexamine", "-u", "x",
                "user/alice")
        refused(a, USAGE, "only one of", "mbexamine", "-q", "-c", "user/bob")


def test_reconstruct(bin_dir):
    with alone(bin_dir) as w:
        a = w.a
        a.start()
        w.deliver_all(a, range(4), users=("alice", "bob"))
        conn = a.imap("alice")
        check_equal(conn.create("Sub")[0], "OK", "CREATE")
        conn.logout()
        names = "user/alice\nuser/alice/Sub\nuser/bob\n"
        check_equal(both_ways(a, "reconstruct", "-n"), (OK, names, ""), "-n")
        check_equal(good(a, "reconstruct", "-s", "user/alice"),
                    "user/alice\n", "one mailbox")
        check_equal(good(a, "reconstruct", "-r", "user/alice"),
                    "user/alice\nuser/alice/Sub\n", "-r")
        check_equal(good(a, "reconstruct", "-G", "-u", "bob"), "user/bob\n",
                    "-u -G")
        check_equal(good(a, "reconstruct", "-q", "-G", "user/*"), "", "-q")
        code, out, err = tool(a, "reconstruct", "-k", "-V", "max", "user/bob")
        check_equal((code, out), (OK, "user/bob\n"), "Cyrus's options")
        check("-k has no effect" in err and "-V has no effect" in err, err)
        refused(a, DATA, "user/x: there is no such mailbox", "reconstruct",
                "user/x")
        refused(a, DATA, "there is no such user", "reconstruct", "-u", "carl")
        refused(a, USAGE, "-u needs", "reconstruct", "-u")

    # A seed carries no derived records: they are made again.
    with World(bin_dir) as w:
        w.deliver_all(w.a, range(3))
        w.wait_equal()
        w.b.must("rejoin")
        w.wait_equal()
        box = "user/alice"
        missing = ["%s uid %d: its derived record was missing" % (box, n)
                   for n in (1, 2, 3)]
        code, out, _ = tool(w.b, "reconstruct", "-n")
        check_equal((code, out.splitlines()),
                    (DIFFERS, [m + " (to be made again)" for m in missing] +
                     [box]), "-n on a seeded replica")
        check_equal(good(w.b, "reconstruct", "-q").splitlines(),
                    [m + " (made again)" for m in missing], "rebuilding")
        check_equal(good(w.b, "reconstruct", "-q", "-G"), "", "and then")


def test_damage_is_told(bin_dir):
    """A flipped bit in a body: reconstruct and mbexamine -c name it."""
    with alone(bin_dir) as w:
        a = w.a
        a.start()
        for n in range(3):
            noise = base64.encodebytes(random.Random(n).randbytes(60000))
            conn = a.lmtp()
            check_equal(a.deliver(conn, ["alice"], message(n) + noise), [250],
                        "LMTP")
            conn.quit()
        log = os.path.join(a.dir, "conf", "synclog")
        done = subprocess.run([os.path.join(bin_dir, "synclog"), "dump", log],
                              capture_output=True, text=True, timeout=60)
        appends = re.findall(r"type=append bytes=(\d+) at=(\d+):(\d+)",
                             done.stdout)
        size, segment, offset = map(int, appends[1])
        path = [os.path.join(log, n) for n in os.listdir(log)
                if n.startswith("seg-%016x" % segment)][0]
        with open(path, "r+b") as f:
            f.seek(offset + size // 2)
            byte = f.read(1)[0]
            f.seek(offset + size // 2)
            f.write(bytes([byte ^ 1]))
        for args in (("reconstruct", "-G"), ("mbexamine", "-c", "user/*")):
            code, out, err = tool(a, *args)
            check(code in (DIFFERS, IO), "%r: %d %s%s" % (args, code, out, err))
            check("uid 2: " in out and "uid 1: " not in out, out)


def test_configuration_is_shown(bin_dir):
    with alone(bin_dir) as w:
        a = w.a
        conf = good(a, "cyr_info", "conf").splitlines()
        check("servername: twins.localhost" in conf, conf)
        check("partition-default: %s" % os.path.join(a.dir, "spool") in conf,
              conf)
        check("unixhierarchysep: yes" not in conf, "that is the default")
        every = good(a, "cyr_info", "conf-all").splitlines()
        check("unixhierarchysep: yes" in every and len(every) > 300, every)
        check("unixhierarchysep: yes" in
              good(a, "cyr_info", "conf-default").splitlines(), "defaults")
        check(good(a, "cyr_info", "version").startswith("Pollux "), "version")
        lint = ("cyr_info", "-M", a.cyrus_conf, "conf-lint")
        check_equal(tool(a, *lint), (OK, "", ""), "conf-lint")
        with open(a.imapd_conf, "a") as f:
            f.write("no_such_option: 1\nmaxliteral: much\nnosuch_timeout: 3\n")
        code, out, _ = tool(a, *lint)
        check_equal(code, DIFFERS, out)
        for text in ("no_such_option", "maxliteral", "nosuch_timeout"):
            check(text in out, out)
        check("imapd.conf:" in out and ": error: " in out, out)
        refused(a, USAGE, "there is no command", "cyr_info", "everything")
        refused(a, USAGE, "name a command", "cyr_info")
        refused(a, CONFIG, "no-such-file", "cyr_info", "-M", "/no-such-file",
                "conf-lint")


def test_partitions_are_shown(bin_dir):
    with alone(bin_dir) as w:
        a = w.a
        refused(a, IO, "spool: No such file", "cyr_df")
        a.start()
        out = good(a, "cyr_df").splitlines()
        check_equal(out[0], "Partition       1k-blocks         Used    "
                    "Available Use% Location", "heading")
        fields = out[1].split()
        check_equal((fields[0], fields[5]),
                    ("default", os.path.join(a.dir, "spool")), "partition")
        s = os.statvfs(a.dir)
        check_equal(int(fields[1]), s.f_blocks * s.f_frsize // 1024, "size")
        shown = json.loads(good(a, "cyr_df", "--json", "-m"))
        check_equal(shown[0]["location"], os.path.join(a.dir, "conf"), "-m")
        refused(a, USAGE, "only options", "cyr_df", "default")


# What the Tuebingen templates have in START and EVENTS (their EVENTS run at
# night; here each minute would do, and START is what can be waited for).
TEMPLATE_START = """
START {
    Trecover cmd="ctl_cyrusdb -r -C %(conf)s"
    Tmupdatepush cmd="ctl_mboxlist -m -a -C %(conf)s"
    Tidled cmd="idled -C %(conf)s"
    Tdebian cmd="/usr/sbin/cyrus ctl_cyrusdb -c"
}
EVENTS {
    Tcheckpoint    cmd="ctl_cyrusdb -c -C
%(conf)s" period=30
    Tdelprune      cmd="cyr_expire -E 3 -X 60 -D 60 -C
%(conf)s" at=0100
    Ttlsprune      cmd="tls_prune -C %(conf)s" at=0430
    Tsquatter      cmd="squatter -C %(conf)s -i" at=2200
}
"""


def test_start_lines_are_run(bin_dir):
    with alone(bin_dir) as w:
        a = w.a
        with open(a.cyrus_conf, "a") as f:
            f.write((TEMPLATE_START % {"conf": a.imapd_conf})
                    .replace("-C\n", "-C "))
        a.start()
        for text in ('child.says name=Trecover text="recovered: master at',
                     'name=Tmupdatepush',
                     "imapd.conf names no mupdate_server",
                     'idled is not needed',
                     'child.says name=Tdebian text="checkpoint: the state at',
                     'tls_prune is not needed'):
            wait_for(text, lambda: log_has(a, text))
        check(not log_has(a, "Tcheckpoint: "), "an event was left out")
        w.deliver_all(a, range(1))


def expunge(instance, user, uids):
    conn = instance.imap(user)
    conn.select("INBOX")
    conn.uid("STORE", uids, "+FLAGS", "(\\Deleted)")
    check_equal(conn.expunge()[0], "OK", "EXPUNGE")
    conn.logout()


def test_archive(bin_dir):
    with alone(bin_dir, archive_enabled="yes") as w:
        a = w.a
        with open(a.imapd_conf, "a") as f:
            f.write("archivepartition-default: %s\n" %
                    os.path.join(a.dir, "archive"))
        a.start()
        w.deliver_all(a, range(8), users=("alice", "bob"), size=3000)
        def archived():
            path = os.path.join(a.dir, "archive")
            return [n for n in os.listdir(path) if n.startswith("pack-")]

        out = json.loads(good(a, "cyr_expire", "-A", "7d", "--json"))
        check_equal((out["messages"] > 0, archived()), (True, []),
                    "nothing is that old")
        wait_for("mail that is older than a second", lambda: (
            good(a, "cyr_expire", "-A", "0s"), archived())[1])
        check_equal(len(mailbox(a, "alice")), 8, "they can be read")
        good(a, "mbexamine", "-c", "user/*")


def test_unexpunge(bin_dir):
    with alone(bin_dir) as w:
        a = w.a
        a.start()
        w.deliver_all(a, range(10, 15))
        expunge(a, "alice", "2:4")
        code, out, _ = both_ways(a, "unexpunge", "-l", "user/alice")
        check_equal(code, OK, "unexpunge -l")
        check_equal(re.findall(r"^UID: (\d+)$", out, re.M), ["2", "3", "4"],
                    "UIDs")
        for text in ("\tSize: ", "\tSent: Mon, 05 Jan 2026", "\tRecv: ",
                     "\tExpg: ", "\tFrom: Sender <sender@example.org>",
                     "\tTo  : alice@example.org", "\tSubj: message 11"):
            check(text in out, "%r is not in %s" % (text, out))
        check_equal(re.findall(r"^UID: (\d+)$",
                               good(a, "unexpunge", "-l", "user/alice", "3"),
                               re.M), ["3"], "-l with UIDs")
        shown = json.loads(good(a, "unexpunge", "-l", "--json", "user/alice"))
        check_equal([m["uid"] for m in shown], [2, 3, 4], "--json")

        check_equal(good(a, "unexpunge", "-u", "-d", "-v", "-f", "Saved",
                         "user/alice", "3"),
                    "restoring expunged messages in mailbox 'user/alice'\n"
                    "Unexpunged user/alice: 3 => 6\n"
                    "restored 1 expunged messages\n", "-u")
        out = good(a, "mbexamine", "-u", "6", "user/alice")
        check("FLAGS: Saved\n" in out, out)
        check_equal([uid for uid, _ in mailbox(a, "alice")], [1, 5, 6],
                    "what alice sees")
        check_equal(json.loads(good(a, "unexpunge", "-l", "--json",
                                    "user/alice"))[0]["uid"], 2, "left")
        check("restored 2 expunged messages" in
              good(a, "unexpunge", "-t", "1h", "user/alice"), "-t")
        check("FLAGS: \\Deleted\n" in
              good(a, "mbexamine", "-u", "7", "user/alice"), "without -d")
        check_equal(good(a, "unexpunge", "-l", "user/alice"), "", "none left")
        check("restored 0 expunged" in good(a, "unexpunge", "-a", "user/alice"),
              "-a")
        refused(a, DATA, "user/x: there is no such mailbox", "unexpunge", "-a",
                "user/x")
        refused(a, USAGE, "-u needs UIDs", "unexpunge", "-u", "user/alice")
        refused(a, USAGE, "UIDs go with", "unexpunge", "-a", "user/alice", "1")
        refused(a, USAGE, "is no time", "unexpunge", "-t", "x", "user/alice")
        refused(a, USAGE, "one of -l", "unexpunge", "user/alice")
        refused(a, USAGE, "not a set of UIDs", "unexpunge", "-u", "user/alice",
                "seven")


def test_quota(bin_dir):
    with alone(bin_dir) as w:
        a = w.a
        w.add_user("admin", "admin-1")
        a.start()
        w.deliver_all(a, range(4), users=("alice", "bob"), size=5000)
        heading = "   Quota   % Used     Used             Resource Root\n"
        check_equal(good(a, "quota"), heading, "no quotas")
        conn = a.imap("admin")
        for user in ("alice", "bob"):
            check_equal(conn.setquota("user/" + user,
                                      "(STORAGE 100 MESSAGE 8)")[0], "OK",
                        "SETQUOTA")
        conn.logout()
        code, out, _ = both_ways(a, "quota")
        check_equal(code, OK, "quota")
        used = json.loads(good(a, "quota", "-J"))["user/alice"]
        check_equal(used["STORAGE"]["limit"], 102400, "limit in bytes")
        check_equal(used["MESSAGE"], {"used": 4, "limit": 8}, "messages")
        check_equal(used["X-NUM-FOLDERS"], {"used": 1}, "folders")
        kib = used["STORAGE"]["used"] // 1024
        check_equal(out.splitlines()[:5], [
            heading[:-1],
            "     100 %8d %8d              STORAGE user/alice" % (
                used["STORAGE"]["used"] * 100 // 102400, kib),
            "       8       50        4              MESSAGE user/alice",
            "                         0 X-ANNOTATION-STORAGE user/alice",
            "                         1        X-NUM-FOLDERS user/alice"],
            "as Cyrus shows it")
        check("user/bob" not in good(a, "quota", "user/al"), "prefix")
        check("user/alice" not in good(a, "quota", "-u", "bob"), "-u")
        check_equal(good(a, "quota", "-u", "al"), heading, "-u is no prefix")
        check_equal(both_ways(a, "quota", "-f", "-q"), (OK, "", ""), "-f -q")
        check_equal(good(a, "quota", "-f", "-n", "-q"), "", "-f -n -q")
        refused(a, USAGE, "-n goes with -f", "quota", "-n")


def test_expiry(bin_dir):
    with alone(bin_dir) as w:
        a = w.a
        a.start()
        w.deliver_all(a, range(6), users=("alice", "bob"))
        expunge(a, "alice", "1:3")
        conn = a.imap("bob")
        for name in ("Gone", "Kept"):
            check_equal(conn.create(name)[0], "OK", "CREATE")
        check_equal(conn.delete("Gone")[0], "OK", "DELETE")
        conn.logout()

        check_equal(good(a, "cyr_expire", "-X", "1d", "-D", "1", "-E", "2h"),
                    "", "nothing is that old")
        check_equal(len(json.loads(good(a, "unexpunge", "-l", "--json",
                                        "user/alice"))), 3, "all kept")
        check_equal(good(a, "cyr_expire", "-x", "-X", "0", "-E", "1"), "", "-x")
        out = json.loads(good(a, "cyr_expire", "-X", "0", "-u", "bob",
                              "--json"))
        check_equal((out["expunged"], out["messages"]), (0, 6), "only bob's")
        out = good(a, "cyr_expire", "-X", "0", "-v", "-p", "user/al")
        check("Expunging deleted messages in mailboxes older than 0.00 days"
              in out and "user/alice: expired 0, expunged 3" in out and
              "Expired 0 and expunged 3 out of 3 messages from 1 mailboxes"
              in out, out)
        check_equal(good(a, "unexpunge", "-l", "user/alice"), "", "gone")
        check_equal([uid for uid, _ in mailbox(a, "alice")], [4, 5, 6],
                    "the others")
        out = good(a, "cyr_expire", "-D", "0s", "-v")
        check("Removing: DELETED/user/bob/Gone/" in out and
              "Removed 1 deleted mailboxes" in out, out)
        check("DELETED" not in good(a, "ctl_mboxlist", "-d"), "still there")
        marks = good(a, "ctl_deliver", "-d").splitlines()
        check_equal(len(marks), 12, "marks of deliveries")
        good(a, "ctl_deliver", "-E", "1h")
        check_equal(len(good(a, "ctl_deliver", "-d").splitlines()), 12, "kept")
        out = json.loads(good(a, "cyr_expire", "-E", "0s", "--json"))
        check_equal(out["delivery_marks"], 12, "forgotten")
        check_equal(good(a, "ctl_deliver", "-d"), "", "none left")
        code, out, err = tool(a, "cyr_expire", "-A", "7d")
        check_equal((code, out), (OK, ""), err)
        check("archive_enabled is off" in err, err)
        check_equal(both_ways(a, "cyr_expire", "-E", "3", "-X", "60", "-D",
                              "60"), (OK, "", ""), "the templates' line")
        check("verified in" in good(a, "ctl_cyrusdb", "-r", "--verify"), "-r")
        refused(a, USAGE, "one of -A -D -E -X -t", "cyr_expire", "-v")
        refused(a, USAGE, "is no age", "cyr_expire", "-X", "often")
        refused(a, USAGE, "only options", "cyr_expire", "-X", "1", "user/bob")


class Control:
    """A raw connection to the control socket."""

    def __init__(self, instance):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(os.path.join(instance.dir, "conf", "socket",
                                       "control"))
        self.file = self.sock.makefile("rb")
        while not self.line().startswith(b"* OK"):
            pass

    def line(self):
        return self.file.readline()

    def send(self, *lines):
        self.sock.sendall(b"".join(line.encode() + b"\r\n" for line in lines))

    def answer(self):
        """(rows, the last line) of one command."""
        rows = []
        while True:
            line = self.line()
            if not line.startswith(b"* "):
                return rows, line
            rows.append(line)

    def wait_for_answer(self):
        """Until the answer has begun; nothing of it is taken."""
        self.sock.recv(1, socket.MSG_PEEK)

    def close(self):
        self.file.close()
        self.sock.close()


MANY = 4000


def test_many_requests_at_once(bin_dir):
    """Tools that ask for much and do not read: they are bounded, they keep
    nobody waiting, and they are gone when they go."""
    with alone(bin_dir) as w:
        a = w.a
        a.start()
        w.deliver_all(a, range(1))
        a.stop()
        boxes = {"user.u%04d" % i: {"acl": {"u%04d" % i: "lrs"}}
                 for i in range(MANY)}
        check_equal(good(a, "ctl_mboxlist", "-u", stdin=json.dumps(boxes)),
                    "%d mailboxes made, 0 with other rights, 0 as they were\n"
                    % MANY, "-u")
        a.start()
        began = time.monotonic()
        check_equal(len(json.loads(good(a, "ctl_mboxlist", "-d"))), MANY + 1,
                    "-d")
        print("dump of %d: %.2f s" % (MANY, time.monotonic() - began))

        c = Control(a)
        c.send("ADMIN RECOVER", "ADMIN MAILBOXES", "NOOP", "ADMIN DANCE")
        check_equal([len(c.answer()[0]) for _ in range(3)],
                    [1, MANY + 1, 0], "answers in order")
        check(b"does not know how to DANCE" in c.answer()[1], "DANCE")

        idle = [Control(a) for _ in range(8)]
        for i in idle: # more than buffers hold, wherever they are
            i.send(*["ADMIN MAILBOXES"] * 3)
        for i in idle: # else one may find the bound reached by RECOVER below
            i.wait_for_answer()
        wait_for("the bound", lambda: (c.send("ADMIN RECOVER"),
                 c.answer()[1].startswith(b"NO POLLUX-BUSY"))[1])
        check_equal(a.role(), "master", "status beside them")
        w.deliver_all(a, range(1, 3))
        refused(a, TEMPFAIL, "8 requests of this kind are under way",
                "ctl_cyrusdb", "-r")
        rows, last = idle[0].answer()
        check_equal((len(rows), last), (MANY + 1, b"OK success\r\n"),
                    "who reads late gets all")
        for i in idle[1:4]:
            i.close()
        wait_for("room", lambda: tool(a, "ctl_cyrusdb", "-r")[0] == OK)
        began = time.monotonic()
        check_equal(a.stop(), 0, "exit code under requests")
        check(time.monotonic() - began < 15, "stopping took long")
        for i in idle[4:] + [c]:
            i.close()


def test_only_on_the_control_socket(bin_dir):
    with alone(bin_dir) as w:
        w.a.start()
        with socket.create_connection((w.a.host, w.a.csync_port), 30) as s:
            f = s.makefile("rb")
            while not f.readline().startswith(b"* OK"):
                pass
            s.sendall(b"ADMIN RECOVER\r\n")
            check(f.readline().startswith(b"BAD "), "ADMIN on the csync port")
            f.close()


def test_rejoin_ends_requests(bin_dir):
    """The store is exchanged under a request that nobody reads."""
    with World(bin_dir) as w:
        boxes = {"user.u%04d" % i: {"acl": {"u%04d" % i: "lrs"}}
                 for i in range(MANY)}
        good(w.a, "ctl_mboxlist", "-u", stdin=json.dumps(boxes))
        w.wait_equal()
        c = Control(w.b)
        c.send(*["ADMIN MAILBOXES"] * 3)
        c.line()
        w.b.must("rejoin")
        w.wait_equal()
        ends = [c.answer()[1] for _ in range(3)]
        check(any(b"NO POLLUX-CLOSED" in end for end in ends), repr(ends))
        good(w.b, "ctl_cyrusdb", "-r")
        c.close()


def test_on_a_replica(bin_dir):
    """Reading works everywhere; what changes something is refused."""
    with World(bin_dir) as w:
        w.deliver_all(w.a, range(3))
        w.wait_equal()
        dumps = [good(i, "ctl_mboxlist", "-d") for i in (w.a, w.b)]
        check_equal(dumps[0], dumps[1], "the dumps of both")
        good(w.b, "mbexamine", "-c", "user/alice")
        good(w.b, "ctl_cyrusdb", "-c")
        check("recovered: replica at" in good(w.b, "ctl_cyrusdb", "-r"), "-r")
        for args in (("ctl_mboxlist", "-u"), ("cyr_expire", "-X", "3"),
                     ("unexpunge", "-a", "user/alice"), ("quota", "-f")):
            refused(w.b, TEMPFAIL, "this instance is a replica", *args,
                    stdin=dumps[0])
        good(w.b, "quota")
        good(w.b, "quota", "-f", "-n")
        good(w.b, "unexpunge", "-l", "user/alice")
        good(w.b, "reconstruct", "-q")
        # What a cyrus.conf asks of both twins is no failure there.
        code, _, err = tool(w.b, "cyr_expire", "-X", "3",
                            env={"POLLUX_CHILD": "1"})
        check_equal(code, OK, err)
        check("nothing is done: this instance is a replica" in err, err)
        # The fence binds tools too.
        w.a.must("fence")
        refused(w.a, TEMPFAIL, "the fence is up", "ctl_mboxlist", "-u",
                stdin=dumps[0])
        good(w.a, "ctl_mboxlist", "-d")
        w.a.must("unfence")
        # A master that was deposed while it was down writes nothing.
        w.a.stop()
        w.b.must("promote")
        refused(w.a, TEMPFAIL, "replica", "ctl_mboxlist", "-u",
                stdin=dumps[0])


if __name__ == "__main__":
    run([test_store, test_configuration, test_mailbox_list,
         test_partition_that_is_not_configured, test_mbpath_and_mbexamine,
         test_reconstruct, test_damage_is_told, test_configuration_is_shown,
         test_partitions_are_shown, test_start_lines_are_run,
         test_archive, test_unexpunge, test_quota, test_expiry, test_many_requests_at_once,
         test_only_on_the_control_socket, test_rejoin_ends_requests,
         test_on_a_replica])
