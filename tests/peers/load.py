"""Mail and what users do with it, said to an IMAP server: the same for any."""

import base64
import imaplib
import os
import random
import socket
import threading
import time

import imapstate
from imapstate import quoted

WORDS = ("alpha", "bravo", "delta", "Entwurf", "grau", "H&AOQ-user", "kilo",
         "lima", "Neu.es", "papa", "a b", "x(y)", "100%")
KEYWORDS = ("$Label1", "$Forwarded", "NonJunk", "Work", "$MDNSent")
SYSTEM = ("\\Seen", "\\Flagged", "\\Answered", "\\Draft")
USES = (("Sent", "\\Sent"), ("Trash", "\\Trash"), ("Drafts", "\\Drafts"))


def corpus_of(path):
    """Messages to choose from: files below PATH, or some made here."""
    found = []
    for where, _, names in os.walk(path) if path else ():
        for name in names:
            file = os.path.join(where, name)
            if 0 < os.path.getsize(file) < 300_000:
                with open(file, "rb") as f:
                    data = f.read()
                if b"\0" in data:
                    continue  # no IMAP literal (RFC 9051, 4.3)
                found.append(data.replace(b"\r\n", b"\n").replace(
                    b"\r", b"\n").replace(b"\n", b"\r\n"))
    rng = random.Random(7)
    while len(found) < 40:
        n = rng.randrange(20, 6000)
        found.append(b"From: a@example.org\r\nSubject: %d\r\n\r\n" % len(found)
                     + base64.encodebytes(rng.randbytes(n)).replace(
                         b"\n", b"\r\n"))
    return found


class Csync:
    """Enough of a csync client to put a Sieve script and to ask for them."""

    def __init__(self, side, user, password):
        self.s = socket.create_connection((side.host, side.csync_port), 30)
        self.f = self.s.makefile("rb")
        while not self.f.readline().startswith(b"* OK"):
            pass
        plain = base64.b64encode(b"\0%s\0%s" % (user.encode(),
                                                password.encode()))
        self.say(b"AUTHENTICATE PLAIN " + plain)

    def say(self, line):
        self.s.sendall(line + b"\r\n")
        lines = []
        while True:
            got = self.f.readline()
            if not got:
                raise EOFError("csync connection closed after %r" % line)
            if got.startswith(b"* "):
                lines.append(got.strip())
            elif got.startswith((b"OK", b"NO", b"BAD")):
                if not got.startswith(b"OK"):
                    raise ValueError("%r: %r" % (line, got))
                return lines

    def put_script(self, user, name, text):
        self.say(b"APPLY SIEVE %%(USERID %s FILENAME %s.script LAST_UPDATE 1 "
                 b"CONTENT {%d+}\r\n%s)" % (user.encode(), name.encode(),
                                            len(text), text))
        self.say(b"APPLY ACTIVATE_SIEVE %%(USERID %s FILENAME %s.bc)" % (
            user.encode(), name.encode()))

    def scripts(self, user):
        """(GUIDs by name, the active one)"""
        found, active = {}, None
        for line in self.say(b"GET META %s" % user.encode()):
            words = line.decode().replace("(", " ").replace(")", " ").split()
            if words[1] != "SIEVE":
                continue
            kv = dict(zip(words[3::2], words[4::2]))
            if kv["FILENAME"].endswith(".bc"):
                active = kv["FILENAME"][:-3]
            else:
                found[kv["FILENAME"]] = kv["GUID"]
        return found, active

    def close(self):
        self.s.close()


class User:
    """One user's own view, and what they do."""

    def __init__(self, side, name, password, rng, corpus, others):
        self.side, self.name, self.password = side, name, password
        self.rng, self.corpus, self.others = rng, corpus, others
        self.c = None
        self.folders = ["INBOX"]
        self.made = 0
        self.counts = {}

    def connect(self):
        self.c = imapstate.connect(self.side, self.name, self.password)

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def folder(self):
        return self.rng.choice(self.folders)

    def do(self, command, *args):
        kind, data = self.c._simple_command(command, *args)
        return kind == "OK"

    # ---- what they do ----

    def create(self):
        self.made += 1
        name = "%s %d" % (self.rng.choice(WORDS), self.made)
        parent = self.folder()
        if parent != "INBOX" and parent.count("/") < 3 and \
                self.rng.random() < 0.4:
            name = "%s/%s" % (parent, name)
        if self.do("CREATE", quoted(name)):
            self.folders.append(name)
            self.count("create")

    def special(self):
        for name, use in USES:
            if self.do("CREATE", quoted(name), "(USE (%s))" % use):
                self.folders.append(name)

    def append(self):
        flags = self.rng.sample(SYSTEM, self.rng.randrange(3)) + \
            self.rng.sample(KEYWORDS, self.rng.randrange(3))
        date = '"%02d-%s-%d 1%d:%02d:11 +0%d00"' % (
            self.rng.randrange(1, 28), self.rng.choice(("Jan", "Jul", "Oct")),
            self.rng.randrange(1999, 2026), self.rng.randrange(10),
            self.rng.randrange(60), self.rng.randrange(10))
        message = self.rng.choice(self.corpus)
        kind, _ = self.c.append(quoted(self.folder()),
                                "(%s)" % " ".join(flags), date, message)
        if kind == "OK":
            self.count("append")

    def with_messages(self, change):
        folder = self.folder()
        kind, data = self.c.select(quoted(folder))
        if kind != "OK":
            return
        uids = self.c.uid("SEARCH", "ALL")[1][0].split()
        if uids:
            some = self.rng.sample(uids, min(len(uids),
                                             self.rng.randrange(1, 5)))
            change(b",".join(some).decode())
        self.c.close() if self.rng.random() < 0.3 else \
            self.c._simple_command("UNSELECT")
        self.c.state = "AUTH"

    def flag(self):
        def change(uids):
            sign = self.rng.choice("+-")
            what = self.rng.choice(SYSTEM + KEYWORDS)
            self.c.uid("STORE", uids, sign + "FLAGS", "(%s)" % what)
            self.count("flag")
        self.with_messages(change)

    def expunge(self):
        def change(uids):
            self.c.uid("STORE", uids, "+FLAGS", "(\\Deleted)")
            self.c.expunge()
            self.count("expunge")
        self.with_messages(change)

    def copy(self):
        def change(uids):
            self.c.uid(self.rng.choice(("COPY", "MOVE")), uids,
                       quoted(self.folder()))
            self.count("copy")
        self.with_messages(change)

    def movable(self):
        special = [name for name, _ in USES]
        free = [f for f in self.folders if f != "INBOX" and f not in special]
        return self.rng.choice(free) if free else None

    def rename(self):
        old = self.movable()
        if old is None:
            return
        self.made += 1
        new = "%s to %d" % (self.rng.choice(WORDS), self.made)
        if self.do("RENAME", quoted(old), quoted(new)):
            self.folders = [new + f[len(old):]
                            if f == old or f.startswith(old + "/") else f
                            for f in self.folders]
            self.count("rename")

    def delete(self):
        name = self.movable()
        if name is None or len(self.folders) < 4 or any(
                f.startswith(name + "/") for f in self.folders):
            return
        if self.do("DELETE", quoted(name)):
            self.folders.remove(name)
            self.count("delete")

    def subscribe(self):
        name = quoted(self.folder())
        if self.rng.random() < 0.7:
            self.c.subscribe(name)
        else:
            self.c.unsubscribe(name)
        self.count("subscribe")

    def share(self):
        rights = self.rng.choice(("lrs", "lrsw", "lrswite", ""))
        who = self.rng.choice(self.others)
        command = ("SETACL", quoted(self.folder()), who, '"%s"' % rights)
        if self.do(*command):
            self.count("acl")

    def annotate(self):
        entry = self.rng.choice(("/shared/comment", "/private/comment"))
        value = self.rng.choice(('"a %b \\"c\\""', '"x"', "NIL"))
        if self.do("SETMETADATA", quoted(self.folder()),
                   "(%s %s)" % (entry, value)):
            self.count("annotate")

    def look_at_others(self):
        """Reads what others share: \\Seen of one's own in it."""
        names = [n for n in imapstate.list_names(self.c, "list")
                 if n.startswith("Other Users/")]
        if not names:
            return
        kind, _ = self.c.select(quoted(self.rng.choice(names)))
        if kind != "OK":
            self.c.state = "AUTH"
            return
        uids = self.c.uid("SEARCH", "UNSEEN")[1][0].split()
        if uids:
            self.c.uid("FETCH", self.rng.choice(uids).decode(), "(BODY[])")
            self.count("seen")
        self.c._simple_command("UNSELECT")
        self.c.state = "AUTH"

    ACTIONS = (("append", 40), ("flag", 20), ("expunge", 8), ("copy", 8),
               ("create", 3), ("rename", 2), ("delete", 1), ("subscribe", 3),
               ("share", 2), ("annotate", 3), ("look_at_others", 6))

    def act(self):
        names, weights = zip(*self.ACTIONS)
        getattr(self, self.rng.choices(names, weights)[0])()


imaplib.Commands["UNSELECT"] = ("SELECTED",)
imaplib.Commands["MOVE"] = ("SELECTED",)


def fill(side, users, corpus, mailboxes, messages, seed):
    """The store that is to be replicated.  Returns the users."""
    admin = imapstate.connect(side, side.admin, "secret")
    shared = []
    for name in users:
        admin.create("user/" + name)
        admin._simple_command("SETQUOTA", "user/" + name,
                              "(STORAGE %d MESSAGE 100000)" % 10_000_000)
    for name in ("bulletin", "bulletin/2026"):
        if admin.create(name)[0] == "OK":
            admin._simple_command("SETACL", name, "anyone", "lrsp")
            admin._simple_command("SETACL", name, users[0], "lrswipkxteca")
            shared.append(name)
    admin.logout()
    people = []
    for i, name in enumerate(users):
        rng = random.Random("%d %s" % (seed, name))
        u = User(side, name, "secret", rng, corpus,
                 [o for o in users if o != name])
        u.connect()
        u.special()
        while len(u.folders) < mailboxes // len(users):
            u.create()
        for _ in range(messages // len(users)):
            u.append()
        for action, often in (("flag", 20), ("expunge", 4), ("copy", 4),
                              ("rename", 2), ("delete", 1), ("subscribe", 4),
                              ("share", 3), ("annotate", 4)):
            for _ in range(often):
                getattr(u, action)()
        people.append(u)
    for u in people:
        for _ in range(5):
            u.look_at_others()
        u.c.logout()
        u.c = None
    scripts = Csync(side, "replica", "replica-secret")
    for i, name in enumerate(users):
        scripts.put_script(name, "rules", b'require "fileinto";\r\n'
                           b'fileinto "INBOX";\r\n# %d\r\n' % i)
    scripts.close()
    return people


class Load(threading.Thread):
    """Users who go on doing things until told to stop; a server that is away
    is waited for."""

    def __init__(self, people, per_s):
        super().__init__(daemon=True)
        self.people, self.per_s = people, per_s
        self.stopped = threading.Event()
        self.actions = self.refused = self.lost = 0

    def run(self):
        n = 0
        while not self.stopped.wait(1 / self.per_s):
            u = self.people[n % len(self.people)]
            n += 1
            try:
                if u.c is None:
                    u.connect()
                u.act()
                self.actions += 1
            except (OSError, EOFError, imaplib.IMAP4.abort):
                self.lost += 1
                u.c = None
                self.resync(u)
            except imaplib.IMAP4.error:
                self.refused += 1
                u.c = None

    def resync(self, u):
        """What it asked for before the end may or may not have been done."""
        while not self.stopped.wait(0.2):
            try:
                u.connect()
                u.folders = ["INBOX"] + [
                    n for n in imapstate.list_names(u.c, "list")
                    if n != "INBOX" and
                    not n.startswith(("Other Users", "Shared Folders"))]
                return
            except (OSError, EOFError, imaplib.IMAP4.error):
                u.c = None

    def stop(self):
        self.stopped.set()
        self.join(120)
        for u in self.people:
            if u.c is not None:
                try:
                    u.c.logout()
                except (OSError, EOFError, imaplib.IMAP4.error):
                    pass
                u.c = None


def totals(people):
    out = {}
    for u in people:
        for what, n in u.counts.items():
            out[what] = out.get(what, 0) + n
    return out
