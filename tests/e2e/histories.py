"""Random histories with random cuts: whatever users, admins and tools do, and
whatever is killed meanwhile, a replica by log and a peer by state end equal.

    histories.py BIN_DIR [--seeds N] [--first SEED] [--ops N] [--users N]

A seed is a world of its own: master a, its replica b (by log), and c, a Pollux
of another history that sync_client -b brings level (by state).  Users and an
admin send their commands in batches, many at once, and look at the answers only
to know which names there are; between two batches, at random, sync_client of
either kind, b, c or a itself is killed (kill -9) in the middle of its work.

At the end a and b have to have equal digests at one position; -A by state has to
end well, and to send nothing when it is run once more; and a, b and c are
compared over IMAP by tests/peers/imapstate.py, which knows nothing of how one
became like the other: mailboxes, messages (bytes, flags, dates, UIDs, MODSEQs),
rights, annotations, quota, subscriptions, \\Seen in mailboxes of others; deleted
mailboxes and Sieve scripts as an admin sees them.

A seed that fails is printed with what it takes to run it again; its world is
kept with --keep.
"""

import argparse
import collections
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "peers")]
import imapstate  # noqa: E402
import load  # noqa: E402
from pair import (Instance, Pair, SYNC_PASSWORD, SYNC_USER,  # noqa: E402
                  tail, wait_for)

OPTIONS = {"autocreate_quota": "-1", "autocreate_post": "no",
           "altnamespace": "yes", "unixhierarchysep": "yes",
           "delete_mode": "delayed", "expunge_mode": "delayed",
           "sync_segment_bytes": "1M", "state_flush_bytes": "1M"}
FOLDERS = ["f%d" % i for i in range(6)] + \
    ["f%d/g%d" % (i, j) for i in range(3) for j in range(2)] + \
    ["f0/g0/h", "Entw&APw-rfe"]
SYSTEM = (b"\\Seen", b"\\Flagged", b"\\Answered", b"\\Draft", b"\\Deleted")
KEYWORDS = (b"$Label1", b"$Forwarded", b"NonJunk", b"Work", b"$MDNSent")
BATCH = 40


class Gone(Exception):
    """The connection ended: what was under way may or may not have been."""


class Pipe:
    """An IMAP connection that sends many commands before it reads."""

    def __init__(self, side, user):
        self.s = socket.create_connection((side.host, side.imap_port), 60)
        self.f = self.s.makefile("rb")
        self.n = 0
        self.f.readline()
        if self.run([b"LOGIN %s secret" % user.encode()])[0][0] != b"OK":
            raise Gone("no login for " + user)

    def send(self, commands):
        out = []
        for c in commands:
            self.n += 1
            out.append(b"t%d %s\r\n" % (self.n, c))
        try:
            self.s.sendall(b"".join(out))
        except OSError as e:
            raise Gone(str(e)) from e

    def read(self, count):
        """[(OK, NO or BAD; untagged lines)] of the last COUNT commands."""
        got, lines, line = [], [], b""
        try:
            while len(got) < count:
                last, line = line, self.f.readline()
                if not line.endswith(b"\r\n"):
                    raise Gone("closed after %r" % last)
                if line.startswith(b"t"):
                    got.append((line.split(b" ", 2)[1], lines, line))
                    lines = []
                    continue
                literal = re.search(rb"\{(\d+)\}\r\n$", line)
                if literal:
                    line += self.f.read(int(literal.group(1)))
                lines.append(line)
        except OSError as e:
            raise Gone(str(e)) from e
        return got

    def run(self, commands):
        self.send(commands)
        return self.read(len(commands))

    def close(self):
        try:
            self.s.close()
        except OSError:
            pass


class Person:
    """A user: makes up commands, and learns from the answers."""

    def __init__(self, world, name):
        self.world, self.rng = world, world.rng
        self.name = name
        self.folders = {"INBOX"}
        self.others = set()  # mailboxes of others
        self.folders_stale = True
        self.pipe = None

    def folder(self):
        return self.rng.choice(sorted(self.folders))

    def quoted_folder(self):
        return imapstate.quoted(self.folder()).encode()

    def uids(self):
        lo = self.rng.randrange(1, 60)
        return b"%d:%d" % (lo, lo + self.rng.randrange(0, 6))

    # Each gives [(command, what it is counted as, or None)].

    def append(self):
        rng, words = self.rng, self.world.messages
        if rng.random() < 0.3:
            text = rng.choice(words)
        else:
            text = b"Subject: %d\r\nMessage-ID: <%d@x>\r\n\r\n%s\r\n" % (
                rng.randrange(10**9), rng.randrange(10**9),
                b"line of text\r\n" * rng.choice((1, 5, 20, 150)))
        flags = rng.sample(SYSTEM[:4], rng.randrange(3)) + \
            rng.sample(KEYWORDS, rng.randrange(3))
        date = b'"%02d-%s-%d 1%d:%02d:11 +0%d00"' % (
            rng.randrange(1, 28), rng.choice((b"Jan", b"Jul", b"Oct")),
            rng.randrange(1999, 2026), rng.randrange(10), rng.randrange(60),
            rng.randrange(10))
        return [(b"APPEND %s (%s) %s {%d+}\r\n%s" % (
            self.quoted_folder(), b" ".join(flags), date, len(text), text),
            "append")]

    def select(self):
        return [(b"SELECT " + self.quoted_folder(), None)]

    def flag(self):
        out = self.select() if self.rng.random() < 0.3 else []
        for _ in range(self.rng.randrange(1, 4)):
            what = self.rng.choice(SYSTEM[:4] + KEYWORDS)
            out.append((b"UID STORE %s %sFLAGS%s (%s)" % (
                self.uids(), self.rng.choice((b"+", b"-", b"")),
                self.rng.choice((b"", b".SILENT")), what), "flag"))
        return out

    def expunge(self):
        uids = self.uids()
        return [(b"UID STORE %s +FLAGS.SILENT (\\Deleted)" % uids, "flag"),
                (b"UID EXPUNGE " + uids, "expunge")]

    def move(self):
        return [(b"UID %s %s %s" % (self.rng.choice((b"MOVE", b"COPY")),
                                    self.uids(), self.quoted_folder()), "move")]

    def create(self):
        return [(b"CREATE " + imapstate.quoted(
            self.rng.choice(FOLDERS)).encode(), "create")]

    def rename(self):
        old, new = self.folder(), self.rng.choice(FOLDERS)
        if old == "INBOX" and self.rng.random() < 0.9:
            return []
        return [(b"RENAME %s %s" % (imapstate.quoted(old).encode(),
                                    imapstate.quoted(new).encode()), "rename")]

    def delete(self):
        return [(b"DELETE " + imapstate.quoted(
            self.rng.choice(FOLDERS)).encode(), "delete")]

    def acl(self):
        other = self.rng.choice([p.name for p in self.world.people
                                 if p is not self] + ["anyone"]).encode()
        if self.rng.random() < 0.2:
            return [(b"DELETEACL %s %s" % (self.quoted_folder(), other), "acl")]
        return [(b"SETACL %s %s %s" % (
            self.quoted_folder(), other, self.rng.choice(
                (b"lrs", b"lrs", b"lrswite", b"lr", b"lrsp"))), "acl")]

    def annotate(self):
        entry = self.rng.choice((b"/shared/comment", b"/private/comment"))
        value = self.rng.choice((b'"a %b \\"c\\""', b'"x"', b"NIL",
                                 b'"%d"' % self.rng.randrange(99)))
        return [(b"SETMETADATA %s (%s %s)" % (self.quoted_folder(), entry,
                                              value), "annotate")]

    def subscribe(self):
        return [(self.rng.choice((b"SUBSCRIBE ", b"SUBSCRIBE ",
                                  b"UNSUBSCRIBE ")) + self.quoted_folder(),
                 "subscribe")]

    def seen(self):
        if not self.others:
            return []
        name = self.rng.choice(sorted(self.others))
        sign = self.rng.choice((b"+", b"+", b"-"))
        return [(b"SELECT " + imapstate.quoted(name).encode(), None),
                (b"UID STORE %s %sFLAGS (\\Seen)" % (self.uids(), sign),
                 "seen")] + self.select()

    KINDS = (("append", 34), ("flag", 18), ("expunge", 6), ("move", 6),
             ("select", 12), ("create", 4), ("rename", 3), ("delete", 2),
             ("acl", 3), ("annotate", 3), ("subscribe", 4), ("seen", 4))

    def batch(self):
        names, weights = zip(*self.KINDS)
        out = self.select()
        while len(out) < BATCH:
            out += getattr(self, self.rng.choices(names, weights)[0])()
        return out

    def learn(self, commands, answers):
        for (command, kind), (result, _, line) in zip(commands, answers):
            if kind is None:
                continue
            self.world.count(kind, result)
            if result == b"BAD" and b"select a mailbox" not in line:
                raise AssertionError("%r: %r" % (command[:200], line))
            if result == b"OK" and kind in ("create", "rename", "delete"):
                self.folders_stale = True
            if kind == "acl":
                for p in self.world.people:
                    p.folders_stale = True

    def look(self):
        """Which mailboxes are there?"""
        if self.folders_stale:
            self.folders, self.others = {"INBOX"}, set()
            for line in self.pipe.run([b'LIST "" "*"'])[0][1]:
                m = re.match(rb'\* LIST \((.*?)\) "/" "?(.*?)"?\r\n', line)
                name = m.group(2).decode() if m else ""
                if not m or b"\\nonexistent" in m.group(1).lower() or \
                        b"\\noselect" in m.group(1).lower():
                    continue
                (self.others if name.startswith(("Other Users/", "Shared "))
                 else self.folders).add(name)
            self.folders_stale = False


class World(Pair):
    """One seed."""

    def __init__(self, bin_dir, base, seed, nusers):
        names = ["u%d" % i for i in range(nusers)]
        users = {n: "secret" for n in
                 names + [n + "n" for n in names] + ["admin"]}
        super().__init__(bin_dir, base, users, OPTIONS)
        self.seed, self.rng = seed, random.Random(seed)
        self.c = Instance(self, "c")
        self.messages = load.corpus_of("")
        self.people = [Person(self, n) for n in names]
        self.admin = None
        self.shipper = self.pusher = None
        self.counts = collections.Counter()
        self.refused = collections.Counter()
        self.cuts = collections.Counter()

    # ---- processes ----

    def set_up(self):
        super().set_up(rolling=False)
        self.a.configure(rolling=False, options={
            "far_sync_host": self.c.host, "far_sync_by_state": "yes"})
        # c has no twin: nothing is listening there
        self.c.configure(rolling=False, options={"sync_host": "127.0.0.99"})
        for i in (self.a, self.b, self.c):
            i.start(wait=False)
        for i in (self.a, self.b, self.c):
            i.wait_up()
        self.a.must("promote")
        self.c.must("promote")
        self.ship()
        self.connect()
        for p in self.people:
            self.admin.run([b"CREATE user/%s" % p.name.encode()])

    def spawn(self, *args):
        out = open(os.path.join(self.base, "sync_client.log"), "ab")
        proc = subprocess.Popen(self.a.program("sync_client", *args),
                                stdin=subprocess.DEVNULL, stdout=out,
                                stderr=out)
        out.close()
        return proc

    def ship(self):
        self.shipper = self.spawn("-R")

    def end(self, proc):
        if proc is not None:
            proc.kill()
            proc.wait()

    def kill(self):
        for proc in (self.shipper, self.pusher):
            self.end(proc)
        super().kill()
        self.c.kill()

    # ---- connections ----

    def connect(self):
        def once():
            try:
                if self.admin is None:
                    self.admin = Pipe(self.a, "admin")
                for p in self.people:
                    if p.pipe is None:
                        p.pipe = Pipe(self.a, p.name)
                        p.folders_stale = True
                return True
            except Gone as e:
                raise OSError(str(e)) from e
        wait_for("all to be logged in", once)

    def hang_up(self):
        for who in self.people:
            if who.pipe is not None:
                who.pipe.close()
            who.pipe = None
        if self.admin is not None:
            self.admin.close()
        self.admin = None

    def count(self, kind, result):
        (self.counts if result == b"OK" else self.refused)[kind] += 1

    def done(self):
        return sum(self.counts.values())

    # ---- what admins and tools do ----

    def as_admin(self, kind, *commands):
        answers = self.admin.run([c.encode() for c in commands])
        for result, _, line in answers:
            if result == b"BAD":
                raise AssertionError("%r: %r" % (commands, line))
            self.count(kind, result)
        return answers

    def admin_quota(self):
        p = self.rng.choice(self.people)
        root = "user/" + p.name
        if self.rng.random() < 0.3:
            root += "/" + self.rng.choice(FOLDERS)
        self.as_admin("quota", "SETQUOTA %s (%s)" % (
            imapstate.quoted(root), self.rng.choice(
                ("", "STORAGE 1000000", "STORAGE 900000 MESSAGE 100000",
                 "MESSAGE 90000"))))

    def admin_annotate(self):
        self.as_admin("annotate", 'SETMETADATA "" (/shared/comment "%d")'
                      % self.rng.randrange(1000))

    def admin_shared(self):
        name = "shared/%d" % self.rng.randrange(4)
        self.as_admin("create", "CREATE shared", "CREATE " + name,
                      "SETACL %s anyone lrsp" % name,
                      'APPEND %s {14+}\r\nSubject: a\r\n\r\n' % name)
        if self.rng.random() < 0.3:
            self.as_admin("rename", "RENAME %s shared/%d" % (
                name, self.rng.randrange(4)))
        elif self.rng.random() < 0.3:
            self.as_admin("delete", "SETACL %s admin lrswipkxtecda" % name,
                          "DELETE " + name)

    def admin_undelete(self):
        """A deleted mailbox is given a name again."""
        lines = self.admin.run([b'LIST "" "DELETED/user/*"'])[0][1]
        names = [m.group(1).decode() for m in (
            re.match(rb'\* LIST \([^)]*\) "/" "?(.*?)"?\r\n', x)
            for x in lines) if m]
        names = [n for n in names if imapstate.DELETED_STAMP.search(n)]
        if names:
            old = self.rng.choice(names)
            new = imapstate.DELETED_STAMP.sub("", old)[len("DELETED/"):]
            self.as_admin("undelete", "RENAME %s %s" % (
                imapstate.quoted(old), imapstate.quoted(new)))
            for p in self.people:
                p.folders_stale = True

    def tool_unexpunge(self):
        p = self.rng.choice(self.people)
        name = p.folder()
        done = self.a.run("unexpunge", *self.rng.choice(
            (("-a",), ("-a", "-d"), ("-t", "1h"))),
            "user/" + p.name + ("" if name == "INBOX" else "/" + name))
        self.count("unexpunge", b"OK" if done.returncode == 0 else b"NO")

    def admin_rename_user(self):
        p = self.rng.choice(self.people)
        new = p.name[:-1] if p.name.endswith("n") else p.name + "n"
        p.pipe.close()
        p.pipe = None
        answer = self.as_admin("rename user", "RENAME user/%s user/%s" % (
            p.name, new))[0]
        if answer[0] == b"OK":
            p.name = new
        self.connect()

    def admin_delete_user(self):
        p = self.rng.choice(self.people)
        p.pipe.close()
        p.pipe = None
        root = "user/" + p.name
        self.as_admin("delete user", "SETACL %s admin lrswipkxtecda" % root,
                      "DELETE " + root)
        self.as_admin("create", "CREATE " + root)
        self.connect()

    def sieve(self):
        p = self.rng.choice(self.people).name.encode()
        name = b"s%d" % self.rng.randrange(3)
        text = b'require "fileinto";\r\n# %d\r\n' % self.rng.randrange(50)
        line = self.rng.choice((
            b"APPLY SIEVE %%(USERID %s FILENAME %s.script LAST_UPDATE 1 "
            b"CONTENT {%d+}\r\n%s)" % (p, name, len(text), text),
            b"APPLY SIEVE %%(USERID %s FILENAME %s.script LAST_UPDATE 2 "
            b"CONTENT {%d+}\r\n%s)" % (p, name, len(text), text),
            b"APPLY ACTIVATE_SIEVE %%(USERID %s FILENAME %s.bc)" % (p, name),
            b"APPLY UNACTIVATE_SIEVE %%(USERID %s)" % p,
            b"APPLY UNSIEVE %%(USERID %s FILENAME %s.script)" % (p, name)))
        c = load.Csync(self.side(self.a), SYNC_USER, SYNC_PASSWORD)
        try:
            c.say(line)
            self.count("sieve", b"OK")
        except ValueError:
            self.count("sieve", b"NO")
        finally:
            c.close()

    def tool_expire(self):
        done = self.a.run("cyr_expire", "-X", "0", "-D", "0", "-E", "3")
        self.count("expire", b"OK" if done.returncode == 0 else b"NO")

    ADMIN = (("admin_quota", 30), ("admin_annotate", 10), ("admin_shared", 8),
             ("admin_undelete", 20), ("tool_unexpunge", 6), ("sieve", 40),
             ("admin_rename_user", 2), ("admin_delete_user", 1),
             ("tool_expire", 1))

    # ---- cuts ----

    def push_begin(self):
        if self.pusher is None:
            self.pusher = self.spawn("-n", "far", "--remove-extra",
                                     self.rng.choice(("-A", "-A", "-R")))

    def cut_push(self):
        """Whatever it has done by now stays; the rest is for the next one."""
        if self.pusher is not None:
            self.end(self.pusher)
            self.pusher = None

    def cut_ship(self):
        self.end(self.shipper)
        self.ship()

    def cut_replica(self):
        self.b.kill()
        self.b.start()

    def cut_peer(self):
        self.c.kill()
        self.c.start()

    def cut_master(self):
        self.a.kill()
        self.hang_up()
        self.a.start()
        self.connect()

    CUTS = (("push_begin", 8), ("cut_push", 6), ("cut_ship", 4),
            ("cut_replica", 2), ("cut_peer", 2), ("cut_master", 1))

    def maybe_cut(self, chance):
        if self.rng.random() < chance:
            names, weights = zip(*self.CUTS)
            name = self.rng.choices(names, weights)[0]
            getattr(self, name)()
            self.cuts[name] += 1

    # ---- the whole ----

    def some_batches(self):
        """One batch of each of some users, all under way at once."""
        some = self.rng.sample(self.people, self.rng.randrange(
            1, len(self.people) + 1))
        sent = []
        for p in some:
            p.look()
            commands = p.batch()
            p.pipe.send([c for c, _ in commands])
            sent.append((p, commands))
        for p, commands in sent:
            try:
                p.learn(commands, p.pipe.read(len(commands)))
            except Gone as e:
                # Somebody deleted for good what this one had selected.
                if "BYE Selected mailbox was deleted" not in str(e):
                    raise
                p.pipe.close()
                p.pipe = None
                self.connect()

    def play(self, ops):
        chance = min(0.5, 40 * BATCH * 2 / ops)
        while sum(self.counts.values()) < ops:
            self.some_batches()
            for name, weight in self.ADMIN:
                if self.rng.random() < weight / 150:
                    getattr(self, name)()
            self.maybe_cut(chance)

    def side(self, instance):
        return Side(instance)

    def push(self, *more):
        self.cut_push()
        return self.a.run("sync_client", "-n", "far", "--remove-extra", "-A",
                          *more, timeout=300)

    def finish(self):
        """All has to be equal now."""
        self.hang_up()
        wait_for("equal digests", lambda: self.is_level(), 60)
        verified = self.a.run("sync_client", "--verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        done = self.push()
        assert done.returncode == 0, "-A: " + done.stdout + done.stderr
        done = self.push("-l", "--anew")
        assert done.returncode == 0 and "changes=0" in done.stdout, \
            "second -A: " + done.stdout + done.stderr
        self.push()  # looks at the list of users, and at nobody
        done = self.push()
        assert "level: nothing has changed" in done.stdout, \
            "another -A: " + done.stdout + done.stderr
        self.compare()

    def is_level(self):
        s = self.a.status()
        return s["digests"] == "equal" and s["lag_records"] == 0

    def compare(self):
        names = sorted(n for n in self.users if n not in ("admin", SYNC_USER))
        self.messages_compared = 0
        for name in names:
            a, b, c = (imapstate.user_state(self.side(i), name, "secret")
                       for i in (self.a, self.b, self.c))
            same(a, b, "by log, %s" % name)
            if "INBOX" in a["mailboxes"]:  # others may be left over at c
                same(a, c, "by state, %s" % name)
            self.messages_compared += imapstate.count(a)[1]
        a, b, c = (as_admin_sees(self.side(i), names)
                   for i in (self.a, self.b, self.c))
        same(a, b, "by log, admin")
        for key in ("scripts", "deleted", "quota"):
            # Who or what went for good here is left over at c.
            c[key] = {k: v for k, v in c[key].items() if k in a[key]}
        same(a, c, "by state, admin")


class Side:
    admin = "admin"

    def __init__(self, instance):
        self.host, self.imap_port = instance.host, instance.imap_port
        self.csync_port = instance.csync_port


def same(a, b, what):
    diff = imapstate.differences(a, b)
    assert not diff, "%s:\n%s" % (what, "\n".join(diff[:12]))


def as_admin_sees(side, users):
    c = imapstate.connect(side, "admin", "secret")
    found = {"deleted": {}, "quota": {}, "scripts": {}}
    for line in imapstate.flat(c.list('""', '"DELETED/*"')[1]):
        m = re.match(rb'\(.*?\) "/" "?(.*?)"?$', line)
        if m and imapstate.DELETED_STAMP.search(m.group(1).decode()):
            name = m.group(1).decode()
            found["deleted"][name] = imapstate.flat(c.status(
                imapstate.quoted(name),
                "(MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)")[1])
    for user in users:
        for folder in ("", "/f0", "/f1", "/f2/g0"):
            root = "user/%s%s" % (user, folder)
            kind, data = c._simple_command("GETQUOTA", imapstate.quoted(root))
            lines = imapstate.flat(c._untagged_response(
                kind, data, "QUOTA")[1]) if kind == "OK" else []
            limits = re.findall(rb"(\w+) \d+ (\d+)", b" ".join(lines))
            if limits:
                found["quota"][root] = sorted(limits)
    found["server"] = imapstate.metadata_of(c, "")
    c.logout()
    scripts = load.Csync(side, SYNC_USER, SYNC_PASSWORD)
    for user in users:
        if found_for := scripts.scripts(user):
            if found_for != ({}, None):
                found["scripts"][user] = found_for
    scripts.close()
    return found


def run_seed(bin_dir, seed, ops, users, keep):
    """True if all was equal."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    base = tempfile.mkdtemp(prefix="pollux-histories-", dir=where)
    world = World(bin_dir, base, seed, users)
    began = time.monotonic()
    ok = False
    try:
        world.set_up()
        world.play(ops)
        played = time.monotonic()
        world.finish()
        print("seed %d: %d operations in %.1f s, %d refused, %d cuts, "
              "%d messages compared, %.1f s in all: equal" % (
                  seed, world.done(), played - began,
                  sum(world.refused.values()), sum(world.cuts.values()),
                  world.messages_compared, time.monotonic() - began))
        ok = True
    except Exception as e:  # the next seed is worth to be seen too
        print("seed %d: FAILED after %d operations: %s: %s\n%s" % (
            seed, world.done(), type(e).__name__, e,
            "" if isinstance(e, AssertionError) else traceback.format_exc()))
        for i in (world.a, world.b, world.c):
            if i.proc is not None and i.proc.poll() is not None:
                print("  %s has ended: %s" % (i.name, i.proc.poll()))
        print("  %r\n  %r" % (dict(world.counts), dict(world.cuts)))
        print("  again: histories.py %s --first %d --seeds 1 --ops %d "
              "--users %d --keep" % (bin_dir, seed, ops, users))
    finally:
        world.hang_up()
        world.kill()
        if keep and not ok:
            print("  kept: " + base)
            for i in (world.a, world.b, world.c):
                print("---- %s\n%s" % (i.name, tail(i.log, 10)))
        else:
            shutil.rmtree(base, ignore_errors=True)
    sys.stdout.flush()
    return world if ok else None


def main():
    p = argparse.ArgumentParser()
    p.add_argument("bin_dir")
    p.add_argument("--seeds", type=int, default=10)
    p.add_argument("--first", type=int, default=1)
    p.add_argument("--ops", type=int, default=10000)
    p.add_argument("--users", type=int, default=4)
    p.add_argument("--keep", action="store_true")
    o = p.parse_args()
    began = time.monotonic()
    counts, refused, cuts = (collections.Counter() for _ in range(3))
    failed = []
    for seed in range(o.first, o.first + o.seeds):
        world = run_seed(o.bin_dir, seed, o.ops, o.users, o.keep)
        if world is None:
            failed.append(seed)
            continue
        counts += world.counts
        refused += world.refused
        cuts += world.cuts
    print("%d seeds, %d operations done, %d refused, in %.0f s; failed: %s" % (
        o.seeds, sum(counts.values()), sum(refused.values()),
        time.monotonic() - began, failed or "none"))
    print("done: %s\nrefused: %s\ncuts: %s" % (
        *(", ".join("%s %d" % kv for kv in sorted(c.items()))
          for c in (counts, refused, cuts)),))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
