#!/usr/bin/env python3
"""Backups: made while mail comes in, checked, brought back as an instance; what
is damaged is found, what was interrupted is never taken for whole."""

import glob
import imaplib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

from pollux import World, check, check_equal, mailbox, numbers, run, wait_for
from test_tools import (DATA, DIFFERS, OK, TEMPFAIL, USAGE, alone, good,
                        refused, tool)
from withstand import check_same_picture, no_crash, picture, solid


def backup(instance, directory, *args):
    return json.loads(good(instance, "ctl_backup", "create", directory,
                           "--json", *args))


def files(directory):
    return {name: os.path.getsize(os.path.join(directory, name))
            for name in os.listdir(directory)}


def verify(instance, directory, *args):
    return good(instance, "ctl_backup", "verify", directory, *args)


def restored(w, directory, *args):
    """b, made of the backup; the line that ctl_backup says."""
    for name in ("conf", "spool"):
        shutil.rmtree(os.path.join(w.b.dir, name), ignore_errors=True)
    return good(w.b, "ctl_backup", "restore", directory, *args)


class Deliveries:
    """Mail that comes in, message by message, until the end of the `with`."""

    def __init__(self, instance, first):
        self.instance = instance
        self.next = first
        self.done = threading.Event()
        self.error = None

    def __enter__(self):
        self.thread = threading.Thread(target=self.work)
        self.thread.start()
        return self

    def work(self):
        try:
            conn = self.instance.lmtp()
            while not self.done.is_set():
                codes = self.instance.deliver(
                    conn, ["bob"], solid(self.next, 3000, "bob"))
                check_equal(codes, [250], "delivery beside a backup")
                self.next += 1
            conn.quit()
        except Exception as e:  # shown at the end
            self.error = e

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        check(self.error is None, "delivery failed: %r" % self.error)


def test_create_restore_promote(bin_dir):
    with alone(bin_dir) as w:
        a, b = w.a, w.b
        a.start()
        to = os.path.join(w.tmp, "backup")
        w.deliver_all(a, range(30), size=4000)
        conn = a.imap("alice")
        conn.select("INBOX")
        conn.store("2:5", "+FLAGS", "(\\Seen $Work)")
        conn.create("Archive.Old")
        conn.copy("3", "Archive.Old")
        # Larger than one part of a body.
        conn.append("INBOX", "(\\Flagged)", None, solid(900, 3 << 20))
        conn.logout()
        with Deliveries(a, 1000) as d:
            wait_for("mail for bob", lambda: d.next > 1005)
            made = backup(a, to)
            until = d.next
            wait_for("mail beside it", lambda: d.next > until + 2)
        check_equal(made["generation"], 1, "the first one")
        check_equal((made["lost"], made["new"]), (0, made["bodies"]), "bodies")
        check("all good" in verify(a, to), "verify")
        said = restored(w, to)
        check("at %d:%d, digest %s" % (made["epoch"], made["lsn"],
                                       made["digest"]) in said, said)
        # Nobody promotes it but a person, twin or not.
        b.start()
        here = b.status()["here"]
        check_equal((here["role"], here["applied"], here["digest"]),
                    ("replica", made["lsn"], made["digest"]), "restored")
        b.must("promote")
        # All that was there at the position is there, and it takes more.
        check_equal(sorted(numbers(b, "alice")), sorted(numbers(a, "alice")),
                    "alice's mail")
        was, now = picture(a, "alice"), picture(b, "alice")
        check_equal(sorted(now), sorted(was), "alice's mailboxes")
        for name, (validity, _, messages) in was.items():
            check_equal(now[name][0], validity, "UIDVALIDITY of " + name)
            check(now[name][2] == messages, "messages of " + name)
        of_bob = [raw for _, raw in mailbox(b, "bob")]
        check_equal(of_bob, [raw for _, raw in mailbox(a, "bob")][:len(of_bob)],
                    "bob's mail")
        check(5 <= len(of_bob) <= until - 1000, "%d of bob's" % len(of_bob))
        w.deliver_all(b, [77])
        check("verified in" in good(b, "ctl_cyrusdb", "-r", "--verify"),
              "counted anew")
        # Not over something.
        refused(b, DATA, "into empty directories only", "ctl_backup",
                "restore", to)
        b.stop()
        refused(b, DATA, "into empty directories only", "ctl_backup",
                "restore", to)
        no_crash(a)


def test_without_an_instance_and_incremental(bin_dir):
    with alone(bin_dir) as w:
        a = w.a
        a.start()
        to = os.path.join(w.tmp, "backup")
        w.deliver_all(a, range(20), size=4000)
        first = backup(a, to)
        before = files(to)
        w.deliver_all(a, range(20, 23), size=4000)
        a.stop()
        second = backup(a, to)
        check_equal((second["generation"], second["new"]), (2, 3), "new ones")
        check_equal(second["bodies"], first["bodies"] + 3, "bodies")
        after = files(to)
        for name, size in before.items():
            check_equal(after.get(name), size, "%s is as it was" % name)
        packs = [n for n in after if n.startswith("pack-") and n not in before]
        check_equal(len(packs), 1, "new packs")
        third = backup(a, to)
        check_equal((third["new"], third["digest"]), (0, second["digest"]),
                    "nothing new")
        verify(a, to)
        listed = json.loads(good(a, "ctl_backup", "list", to, "--json"))
        check_equal([g["generation"] for g in listed], [1, 2, 3], "list")
        check_equal([g["new"] for g in listed], [first["new"], 3, 0], "new")
        check("digest " + first["digest"] in good(a, "ctl_backup", "list", to),
              "list")
        # The middle one of them.
        restored(w, to, "--generation", "1")
        found = json.loads(good(w.b, "ctl_cyrusdb", "-r", "--verify", "--json"))
        check_equal((found["role"], found["digest"], found["lsn"]),
                    ("replica", first["digest"], first["lsn"]), "generation 1")
        # Old ones go, and what only they needed; not what others need.
        a.start()
        conn = a.imap("alice")
        conn.select("INBOX")
        conn.store("1:20", "+FLAGS", "(\\Deleted)")
        conn.expunge()
        conn.logout()
        good(a, "cyr_expire", "-E", "1", "-X", "0")
        fourth = backup(a, to, "--keep", "2", "--rate", "100M")
        check_equal(fourth["dropped"], 2, "dropped")
        left = files(to)
        check("gen-00000003.manifest" in left and
              "gen-00000002.manifest" not in left, repr(sorted(left)))
        check(not any(n.startswith(("gen-00000001", "gen-00000002"))
                      for n in left), repr(sorted(left)))
        check(all(n in left for n in packs), "a pack that is needed is gone")
        verify(a, to)
        w.deliver_all(a, [50])
        backup(a, to, "--keep", "1")
        verify(a, to)
        refused(a, DATA, "there is no generation 3", "ctl_backup", "verify",
                to, "--generation", "3")
        refused(a, DATA, "No such file", "ctl_backup", "verify", to + "x")
        refused(a, USAGE, "a command and a directory", "ctl_backup", "create")
        refused(a, USAGE, "is not a command", "ctl_backup", "burn", to)
        refused(a, USAGE, "--rate needs", "ctl_backup", "create", to, "--rate",
                "fast")
        refused(a, USAGE, "--keep needs", "ctl_backup", "create", to, "--keep",
                "0")


def test_follows_the_log(bin_dir):
    """What was restored follows the master's log where the backup ended."""
    with World(bin_dir) as w:
        a, b = w.a, w.b
        w.deliver_all(a, range(10))
        to = os.path.join(w.tmp, "backup")
        made = backup(a, to)
        b.stop()
        w.deliver_all(a, range(10, 15))
        restored(w, to)
        found = json.loads(good(b, "ctl_cyrusdb", "-r", "--json"))
        check_equal(found["lsn"], made["lsn"], "position")
        b.start()
        w.wait_equal()
        check(check_same_picture(a, b, ["alice"]) == 15, "alice's mail")
        # A replica can be backed up too, and has the same bodies.
        check_equal(backup(b, to)["new"], 5, "of the twin")
        verify(a, to)
        # Another cluster's mail does not go in between.
        b.stop()
        for name in ("conf", "spool"):
            shutil.rmtree(os.path.join(b.dir, name), ignore_errors=True)
        a.stop()
        b.configure()
        with open(b.imapd_conf) as f:
            lines = [line for line in f if not line.startswith("sync_host")]
        with open(b.imapd_conf, "w") as f:
            f.writelines(lines)
        b.start()
        refused(b, 74, "backups of another cluster", "ctl_backup", "create",
                to)


def test_flipped_bytes(bin_dir):
    """A byte turned over, in each file, is found."""
    with alone(bin_dir) as w:
        a = w.a
        a.start()
        to = os.path.join(w.tmp, "backup")
        w.deliver_all(a, range(8), size=2000)
        backup(a, to)
        names = [n for n in files(to) if n != "lock"]
        check(len(names) == 4, repr(names))
        for name in names:
            path = os.path.join(to, name)
            with open(path, "rb") as f:
                content = f.read()
            for at in (0, len(content) // 3, len(content) - 1):
                with open(path, "r+b") as f:
                    f.seek(at)
                    f.write(bytes([content[at] ^ 0x10]))
                code, out, err = tool(a, "ctl_backup", "verify", to)
                check_equal(code, DIFFERS, "%s at %d: %s%s" % (name, at, out,
                                                               err))
                check(name in out, "%s at %d: %s" % (name, at, out))
                with open(path, "wb") as f:
                    f.write(content)
            os.rename(path, path + ".away")
            if not name.endswith(".manifest"):
                check_equal(tool(a, "ctl_backup", "verify", to)[0], DIFFERS,
                            "without " + name)
            else:
                refused(a, DATA, "there is no whole backup", "ctl_backup",
                        "verify", to)
            os.rename(path + ".away", path)
        verify(a, to)
        # A pack that is gone is made again by the next backup.
        os.unlink(glob.glob(os.path.join(to, "pack-*"))[0])
        again = backup(a, to)
        check_equal(again["new"], again["bodies"], "copied again")
        verify(a, to, "--generation", "2")
        code, out, err = tool(w.b, "ctl_backup", "restore", to,
                              "--generation", "1")
        check_equal(code, 74, err)
        check("is missing" in err and not os.path.exists(
            os.path.join(w.b.dir, "conf", "node")), err)


def test_interrupted(bin_dir):
    """kill -9 of the instance under a backup, and of the tool: the generations
    before stay good, the one under way is none, what it left is removed."""
    with alone(bin_dir) as w:
        a = w.a
        a.start()
        to = os.path.join(w.tmp, "backup")
        w.deliver_all(a, range(5))
        first = backup(a, to)
        before = files(to)
        for n in range(100, 130):
            w.deliver_all(a, [n], size=300000)
        slow = ("ctl_backup", "create", to, "--rate", "20k")

        def begin():
            proc = subprocess.Popen(a.program(*slow), text=True,
                                    stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE)
            wait_for("a new pack", lambda: len(files(to)) > len(before))
            return proc

        tool_killed = begin()
        refused(a, TEMPFAIL, "another backup into", "ctl_backup", "create", to)
        tool_killed.send_signal(signal.SIGKILL)
        tool_killed.communicate()

        check_equal([g["generation"] for g in json.loads(
            good(a, "ctl_backup", "list", to, "--json"))], [1], "after a kill")
        verify(a, to)

        def inodes():
            return {os.stat(os.path.join(to, n)).st_ino for n in files(to)}

        def begin_again():
            """The request of the tool that was killed may not have ended yet:
            then this one is refused; else it makes a file of its own."""
            left = inodes()
            proc = subprocess.Popen(a.program(*slow), text=True,
                                    stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE)
            wait_for("a file or the end", lambda: proc.poll() is not None
                     or inodes() - left)
            if proc.poll() is None:
                return proc
            check("another backup into" in proc.communicate()[1], "refusal")
            return None
        instance_killed = wait_for("the tool's request to end", begin_again)
        a.kill()
        _, err = instance_killed.communicate(timeout=30)
        check_equal(instance_killed.returncode, TEMPFAIL, err)
        verify(a, to)
        listed = json.loads(good(a, "ctl_backup", "list", to, "--json"))
        check_equal([g["digest"] for g in listed], [first["digest"]], "list")
        a.start()
        made = backup(a, to)
        check(made["new"] >= 30, repr(made))
        verify(a, to)
        check_equal(len([n for n in files(to) if n.startswith("pack-")]), 2,
                    "what nobody names is removed: %r" % files(to))


def maildir(path):
    """{folder: [(date, flags, bytes)]} of a Maildir++."""
    shown = {}
    for folder in [""] + [n for n in os.listdir(path) if n.startswith(".")]:
        cur = os.path.join(path, folder, "cur")
        check_equal(os.listdir(os.path.join(path, folder, "tmp")), [], "tmp")
        check(folder == "" or os.path.exists(
            os.path.join(path, folder, "maildirfolder")), folder)
        mails = []
        for name in os.listdir(cur):
            full = os.path.join(cur, name)
            with open(full, "rb") as f:
                raw = f.read()
            check(",S=%d:2," % len(raw) in name, name)
            mails.append((int(os.stat(full).st_mtime),
                          name.partition(":2,")[2], raw))
        shown["INBOX" + folder] = sorted(mails)
    return shown


def mboxes(path):
    """{folder: [bytes]} of what export wrote as mboxrd, taken back."""
    shown = {}
    for name in os.listdir(path):
        with open(os.path.join(path, name), "rb") as f:
            text = f.read()
        mails = []
        for line in text.splitlines(keepends=True):
            if line.startswith(b"From "):
                mails.append(b"")
            else:
                mails[-1] += re.sub(rb"^>(>*From )", rb"\1", line)
        check(name.endswith(".mbox"), name)
        shown[name[:-5]] = [m[:-1] for m in mails]  # the blank line
    return shown


def by_imap(instance, user):
    """{folder: [(date, flags, bytes)]} as IMAP shows it."""
    letters = {b"\\Draft": "D", b"\\Flagged": "F", b"\\Answered": "R",
               b"\\Seen": "S", b"\\Deleted": "T"}
    conn = instance.imap(user)
    shown = {}
    try:
        for line in conn.list()[1]:
            name = line.split(b" ")[-1].decode().strip('"')
            check_equal(conn.select(name, readonly=True)[0], "OK", name)
            mails = []
            for part in conn.uid("FETCH", "1:*",
                                 "(FLAGS INTERNALDATE BODY.PEEK[])")[1]:
                if not isinstance(part, tuple):
                    continue
                flags = imaplib.ParseFlags(part[0])
                date = int(time.mktime(imaplib.Internaldate2tuple(part[0])))
                mails.append((date, "".join(sorted(
                    letters[f] for f in flags if f in letters)), part[1]))
            name = name.replace("/", ".")
            if not name.startswith("INBOX"):
                name = "INBOX." + name
            shown[name] = mails
    finally:
        conn.logout()
    return shown


def test_export(bin_dir):
    with alone(bin_dir) as w:
        a = w.a
        a.start()
        w.deliver_all(a, range(12))
        conn = a.imap("alice")
        for name in ("Sub", "Sub/Folder", "Empty"):
            check_equal(conn.create(name)[0], "OK", name)
        conn.append("Sub/Folder", "(\\Draft \\Flagged)",
                    '"05-Jan-2020 10:00:00 +0000"',
                    b"Subject: quoting\r\n\r\nFrom here\r\n>From there\r\n"
                    b">>From far\r\n From no\r\nFrom\r\n")
        conn.append("INBOX", None, None, solid(500, 3 << 20))
        conn.select("INBOX")
        conn.store("1:3", "+FLAGS", "(\\Seen \\Answered)")
        conn.store("4", "+FLAGS", "(\\Deleted)")
        conn.store("5", "+FLAGS", "(\\Deleted)")
        conn.uid("EXPUNGE", "5")
        conn.logout()
        want = by_imap(a, "alice")
        check_equal(sum(len(m) for m in want.values()), 13, "messages")

        def compare(out, *args):
            said = json.loads(good(a, "ctl_backup", "export", "--json",
                                   "--user", "alice", out, *args))
            check_equal((said["messages"], said["folders"]),
                        (13, len(want)), repr(said))
            if "mbox" not in args:
                got = maildir(out)
                check(got == {n: sorted(m) for n, m in want.items()},
                      "%s: %r, %r" % (out, *(
                          {n: [(d, f, len(r)) for d, f, r in m]
                           for n, m in shown.items()}
                          for shown in (got, want))))
                return
            check(mboxes(out) == {n: [r.replace(b"\r\n", b"\n")
                                      for _, _, r in m]
                                  for n, m in want.items()}, out)
        to = os.path.join(w.tmp, "backup")
        backup(a, to)
        for n, args in enumerate(((), ("--format", "mbox"), ("--from", to),
                                  ("--from", to, "--format", "mbox"))):
            compare(os.path.join(w.tmp, "out%d" % n), *args)
        refused(a, DATA, "is not empty", "ctl_backup", "export", "--user",
                "alice", os.path.join(w.tmp, "out0"))
        for args in ((), ("--from", to)):
            refused(a, DATA, "there is no such user", "ctl_backup", "export",
                    "--user", "nobody", os.path.join(w.tmp, "none"), *args)
        refused(a, USAGE, "--user", "ctl_backup", "export", to)
        refused(a, USAGE, "maildir or mbox", "ctl_backup", "export", "--format",
                "zip", to)
        a.stop()
        compare(os.path.join(w.tmp, "out5"))


if __name__ == "__main__":
    run([test_create_restore_promote, test_without_an_instance_and_incremental,
         test_follows_the_log, test_flipped_bytes, test_interrupted,
         test_export])
