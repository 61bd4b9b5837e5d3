"""Many clients do everything to the same mailboxes, on master and replica at
once, each with a model of what it may be told (imap_model.py).

imap_stress.py BIN_DIR SECONDS [CLIENTS] [SEED].  The seed decides what each
client does, not the scheduling.  Prints how often each command was given, and
every violation; the exit code is 0 if there was none.

Checked: each untagged response against the command under way; sequence numbers
and UIDs; what SEARCH finds; that a UID names the same message for everybody;
that caches come level by QRESYNC; and at the end, when all is quiet, that each
session's picture is that of a fresh one, on both sides.
"""

import collections
import random
import re
import sys
import threading
import time
import traceback

from imap_model import Gone, Session, members
from pollux import World

FLAGS = ["\\Seen", "\\Flagged", "\\Answered", "\\Draft", "\\Deleted", "$one",
         "$two"]
FIXED_BOXES = ["INBOX", "a", "b"]
LOOSE_BOXES = ["t%d" % i for i in range(4)]
MODES = [(), (), ("CONDSTORE",), ("QRESYNC",), ("IMAP4rev2",),
         ("IMAP4rev2", "QRESYNC"), ("UIDONLY",), ("UTF8=ACCEPT",)]
# With these a command may end in NO, since others are at work too.
MAY_FAIL = ("OK", "NO")


class Shared:
    def __init__(self):
        self.wrong = []
        self.lock = threading.Lock()
        self.bodies = {}     # (mailboxid, uidvalidity, uid) -> number
        self.counts = collections.Counter()
        self.next_number = 0
        self.stop = threading.Event()

    def number(self):
        with self.lock:
            self.next_number += 1
            return self.next_number

    def is_message(self, session, uid, number):
        box = session.box
        key = (box.mailboxid, box.validity, uid)
        with self.lock:
            was = self.bodies.setdefault(key, number)
        if was != number:
            session.fail("UID %d is message %d, was %d" % (uid, number, was))


def message(number):
    return (b"From: a@example.org\r\nSubject: message %d\r\nX-Number: %d\r\n"
            b"\r\n%s\r\n" % (number, number, b"x" * (number % 700)))


class Client:
    """One user of one instance; a new session when the old one is over."""

    def __init__(self, world, shared, index, rng, instance):
        self.w, self.shared, self.rng = world, shared, rng
        self.instance, self.index = instance, index
        self.on_master = instance is world.a
        self.s = None
        self.caches = {}

    def connect(self):
        mode = self.rng.choice(MODES)
        s = Session(self.instance, "alice", self.w.users["alice"],
                    self.shared.wrong, "client %d on %s with %s" % (
                        self.index, self.instance.name, "+".join(mode)))
        s.on_fetch = self.on_fetch
        self.s = s
        if mode:
            s.do("ENABLE " + " ".join(mode))
        if self.rng.random() < 0.2:
            s.do("COMPRESS DEFLATE")
        self.select()

    def on_fetch(self, uid, items):
        for name, value in items.items():
            if name.startswith(b"BODY[") and value and uid is not None:
                found = re.search(rb"X-Number: (\d+)", value)
                if found:
                    self.shared.is_message(self.s, uid, int(found.group(1)))

    # ---- pieces ------------------------------------------------------------

    @property
    def uidonly(self):
        return "UIDONLY" in self.s.enabled

    def learn(self):
        """All UIDs and flags of the mailbox."""
        s = self.s
        if not s.box:
            return
        low = 0  # all below it are known, with their flags
        for uid in s.box.uids if not self.uidonly else sorted(
                u or 0 for u in s.box.uids):
            if not uid or uid not in s.box.flags:
                break
            low = uid
        else:
            return
        s.do("UID FETCH %d:* (FLAGS)" % (low + 1))
        # What came while it was told is asked for in the next round.

    def select(self):
        s = self.s
        boxes = FIXED_BOXES if self.rng.random() < 0.8 else LOOSE_BOXES
        name = self.rng.choice(boxes)
        how = "EXAMINE" if self.rng.random() < 0.1 else "SELECT"
        cache = self.caches.get(name)
        if s.box is not None and s.condstore:
            self.keep_cache()
        if "QRESYNC" in s.enabled and cache and self.rng.random() < 0.7:
            self.resync(how, name, cache)
        else:
            s.do("%s %s" % (how, name),
                 ("OK",) if boxes is FIXED_BOXES else MAY_FAIL)
            self.learn()
        if s.box is not None and s.box.highest:
            key = ("highest", s.box.mailboxid)
            if s.box.highest < self.caches.get(key, 0):
                s.fail("HIGHESTMODSEQ fell")
            self.caches[key] = s.box.highest

    def keep_cache(self):
        """What RFC 7162 lets a client keep: all that was told up to the
        HIGHESTMODSEQ of the SELECT."""
        box = self.s.box
        if None in box.uids or len(box.flags) != len(box.uids):
            return
        self.caches[box.name.decode()] = (box.validity, box.highest,
                                          dict(box.flags), box.mailboxid)

    def resync(self, how, name, cache):
        s, (validity, modseq, flags, mailboxid) = self.s, cache
        s.do("%s %s (QRESYNC (%d %d))" % (how, name, validity, modseq), MAY_FAIL)
        if s.box is None or s.box.mailboxid != mailboxid:
            if s.box is not None and s.box.validity == validity:
                s.fail("another mailbox with the same UIDVALIDITY")
            self.learn()
            return
        known = dict(flags)
        for words in s.data:
            if words[0] == b"VANISHED":
                for uid in members(words[2]):
                    known.pop(uid, None)
        known.update(s.box.flags)
        s.box.flags.clear()
        s.do("UID FETCH 1:* (FLAGS)")
        # Others change things in between: what both of them saw is compared by
        # its MODSEQ.
        now = {u: f for u, f in s.box.flags.items()
               if s.box.modseq.get(u, 0) <= s.box.highest}
        for uid, got in now.items():
            if known.get(uid) != got:
                s.fail("QRESYNC from %d left UID %d with %r, it has %r" % (
                    modseq, uid, known.get(uid), got))
        left = set(known) - set(s.box.uids) - s.box.gone
        if left:
            s.fail("QRESYNC from %d did not tell that %r are gone" % (
                modseq, sorted(left)))

    def some(self, uid_form):
        """A set of messages, and its UIDs (None: they are not known)."""
        box = self.s.box
        n = len(box.uids)
        if n == 0:
            return None, None
        if self.rng.random() < 0.15:
            return "1:*", list(box.uids)
        picked = sorted(self.rng.sample(range(n), min(n, self.rng.randint(1, 5))))
        uids = [box.uids[k] for k in picked]
        if not uid_form:
            return ",".join(str(k + 1) for k in picked), uids
        if None in uids:
            return None, None
        return ",".join(str(u) for u in uids), uids

    # ---- commands --------------------------------------------------------

    def fetch(self):
        uid = self.uidonly or self.rng.random() < 0.5
        which, _ = self.some(uid)
        if which is None:
            return
        items = self.rng.choice(
            ["FLAGS", "(UID FLAGS)", "(FLAGS INTERNALDATE RFC822.SIZE)",
             "(ENVELOPE BODYSTRUCTURE)", "(BODY.PEEK[])", "(BODY[])",
             "(BODY.PEEK[HEADER.FIELDS (X-Number Subject)])", "MODSEQ",
             "(PREVIEW BINARY.SIZE[1] BINARY.PEEK[1]<0.10>)",
             "(EMAILID SAVEDATE UID)"])
        if "MODSEQ" in items:
            self.s.condstore = True
        self.s.do("%sFETCH %s %s" % ("UID " if uid else "", which, items),
                  MAY_FAIL)

    def store(self):
        s = self.s
        uid = self.uidonly or self.rng.random() < 0.5
        which, uids = self.some(uid)
        if which is None:
            return
        mode = self.rng.choice("+-=")
        flags = self.rng.sample(FLAGS, self.rng.randint(0, 2))
        silent = self.rng.random() < 0.5
        since = ""
        if s.condstore and self.rng.random() < 0.3:
            since = "(UNCHANGEDSINCE %d) " % (s.box.highest or 1)
        reply = s.do("%sSTORE %s %s%sFLAGS%s (%s)" % (
            "UID " if uid else "", which, since, "" if mode == "=" else mode,
            ".SILENT" if silent else "", " ".join(flags)), MAY_FAIL)
        if since:
            s.condstore = True
        if s.box is None or s.bye:
            return
        found = re.search(r"\[MODIFIED ([\d:,]+)\]", reply)
        kept = set(members(found.group(1).encode())) if found else set()
        if found and not uid:
            # The numbers are those before this command's EXPUNGEs: it has none.
            kept = {s.box.uids[k - 1] for k in kept}
        if not silent or not (reply.startswith("OK") or
                              "[EXPUNGEISSUED]" in reply or found):
            return
        given = frozenset(f.lower().encode() for f in flags)
        for u in uids:
            if u is None or u in s.told or u in kept or u not in s.box.flags:
                continue
            was = s.box.flags[u]
            s.box.flags[u] = (was | given if mode == "+" else
                              was - given if mode == "-" else given)

    def append(self):
        s, parts = self.s, b""
        for _ in range(self.rng.choice([1, 1, 1, 2, 3])):
            raw = message(self.shared.number())
            flags = " ".join(self.rng.sample(FLAGS, self.rng.randint(0, 2)))
            parts += b" (%s) %s{%d+}\r\n%s" % (
                flags.encode(), b"~" if self.rng.random() < 0.2 else b"",
                len(raw), raw)
        box = self.rng.choice(FIXED_BOXES)
        s.do(b"APPEND %s%s" % (box.encode(), parts))

    def catenate(self):
        s = self.s
        known = [u for u in s.box.uids if u is not None]
        if not known:
            return
        raw = b"X-Number: %d\r\n\r\n" % self.shared.number()
        s.do(b"APPEND %s CATENATE (TEXT {%d+}\r\n%s URL \";UID=%d\")" % (
            self.rng.choice(FIXED_BOXES).encode(), len(raw), raw,
            self.rng.choice(known)), MAY_FAIL)

    def replace(self):
        s = self.s
        known = [u for u in s.box.uids if u is not None]
        if not known:
            return
        raw = message(self.shared.number())
        s.do(b"UID REPLACE %d %s {%d+}\r\n%s" % (
            self.rng.choice(known), self.rng.choice(FIXED_BOXES).encode(),
            len(raw), raw), MAY_FAIL)

    def copy(self):
        uid = self.uidonly or self.rng.random() < 0.5
        which, uids = self.some(uid)
        if which is None or len(uids) > 50:
            return
        self.s.do("%s%s %s %s" % (
            "UID " if uid else "", self.rng.choice(["COPY", "MOVE"]), which,
            self.rng.choice(FIXED_BOXES + LOOSE_BOXES[:1])), MAY_FAIL)

    def expunge(self):
        if self.rng.random() < 0.5:
            self.s.do("EXPUNGE", MAY_FAIL)
            return
        which, _ = self.some(True)
        if which:
            self.s.do("UID EXPUNGE %s" % which, MAY_FAIL)

    def search(self):
        s = self.s
        uid = self.uidonly or self.rng.random() < 0.6
        key = self.rng.choice(["1:*" if not self.uidonly else "ALL", "ALL", "ALL", "SEEN", "UNFLAGGED", "SUBJECT message", "BODY xx", "LARGER 500",
            "OR SEEN DELETED"])
        ret = self.rng.choice(["", "RETURN () ", "RETURN (MIN MAX COUNT) ",
                               "RETURN (SAVE ALL) "])
        before = list(s.box.uids)
        if not before and key == "1:*":
            return
        s.do("%sSEARCH %s%s" % ("UID " if uid else "", ret, key))
        if key not in ("ALL", "1:*") or "MIN" in ret or s.box is None:
            return
        found = []
        for words in s.data:
            if words[0] == b"SEARCH":
                found = [int(w) for w in words[1:] if isinstance(w, bytes)]
            elif words[0] == b"ESEARCH" and b"ALL" in words:
                found = members(words[words.index(b"ALL") + 1])
        if uid:
            if None not in before and not set(found) <= set(before):
                s.fail("SEARCH found %r, which is not there" %
                       sorted(set(found) - set(before)))
            s.box.due |= (set(u for u in before if u is not None) -
                          set(found)) & set(s.box.uids)
        elif found and max(found) > len(before):
            s.fail("SEARCH found number %d of %d" % (max(found), len(before)))

    def sort(self):
        if self.rng.random() < 0.5:
            self.s.do("UID SORT (REVERSE SUBJECT ARRIVAL) UTF-8 ALL")
        else:
            self.s.do("UID THREAD REFERENCES UTF-8 ALL")

    def noop(self):
        s = self.s
        due = set(s.box.due)
        s.do(self.rng.choice(["NOOP", "NOOP", "CHECK"]))
        left = due & set(s.box.uids)
        if left:
            s.fail("not found by SEARCH, and still there: %r" % sorted(left))
        if None in s.box.uids:
            self.learn()

    def idle(self):
        self.s.idle(self.rng.uniform(0.02, 0.2))
        if self.s.box is not None and None in self.s.box.uids:
            self.learn()

    def look(self):
        s = self.s
        box = self.rng.choice(FIXED_BOXES)
        s.do(self.rng.choice([
            "STATUS %s (MESSAGES UIDNEXT UNSEEN DELETED SIZE HIGHESTMODSEQ "
            "MAILBOXID)" % box,
            'LIST "" *', 'LIST (SUBSCRIBED) "" % RETURN (CHILDREN)',
            'LIST "" (t% INBOX) RETURN (STATUS (MESSAGES) MYRIGHTS)',
            'LSUB "" *', "NAMESPACE", "GETQUOTAROOT " + box, "MYRIGHTS " + box,
            "GETACL " + box, "CAPABILITY", 'ID ("name" "x")',
            "GETMETADATA %s /shared/comment" % box]), MAY_FAIL)
        if s.cmd == "STATUS": # RFC 7162, 3.1
            s.condstore = True

    def boxes(self):
        a, b = self.rng.sample(LOOSE_BOXES, 2)
        self.s.do(self.rng.choice([
            "CREATE " + a, "CREATE " + a, "DELETE " + a,
            "RENAME %s %s" % (a, b), "SUBSCRIBE a",
            "UNSUBSCRIBE a",
            'SETMETADATA a (/shared/comment "x")']), MAY_FAIL)

    def leave(self):
        if self.s.condstore:
            self.keep_cache()
        self.s.do(self.rng.choice(["CLOSE", "UNSELECT"]), MAY_FAIL)
        self.select()

    def reading(self):
        return [(12, self.fetch), (8, self.search), (3, self.sort),
                (8, self.noop), (4, self.idle), (4, self.look),
                (3, self.select)]

    def writing(self):
        return self.reading() + [(14, self.store), (8, self.append),
                                 (2, self.catenate), (3, self.replace),
                                 (6, self.copy), (4, self.expunge),
                                 (3, self.boxes), (2, self.leave)]

    # ---- a life ----------------------------------------------------------

    def step(self):
        if self.s is None:
            self.connect()
        s = self.s
        if s.box is None:
            self.select()
            return
        table = self.writing() if self.on_master else self.reading()
        _, what = self.rng.choices(table, [w for w, _ in table])[0]
        self.shared.counts[what.__name__] += 1
        what()
        if s.bye:
            raise Gone(s.bye.decode("latin-1"))

    def run(self):
        while not self.shared.stop.is_set():
            try:
                self.step()
            except Gone as e:
                if "was deleted" not in str(e):
                    self.shared.wrong.append("client %d: %s" % (self.index, e))
                self.shared.counts["thrown out"] += 1
                self.s = None
            except Exception:
                self.shared.wrong.append("client %d: %s" % (
                    self.index, traceback.format_exc()))
                self.s = None

    def settle(self):
        """All is quiet: is the picture that of a fresh session?"""
        s = self.s
        if s is None or s.box is None:
            return False
        for _ in range(2):
            s.do("NOOP")
            self.learn()
        fresh = Session(self.instance, "alice", self.w.users["alice"],
                        self.shared.wrong, "fresh for %s" % s.name)
        try:
            if self.moved(fresh):
                return False
            fresh.do("EXAMINE " + s.box.name.decode())
            fresh.do("UID FETCH 1:* (FLAGS)")
            if fresh.box.uids != (sorted(s.box.uids) if self.uidonly and
                                  None not in s.box.uids else s.box.uids):
                s.fail("knows UIDs %r, there are %r" % (s.box.uids,
                                                        fresh.box.uids))
            for uid, flags in fresh.box.flags.items():
                if s.box.flags.get(uid) != flags:
                    s.fail("UID %d has %r, the session thinks %r" % (
                        uid, flags, s.box.flags.get(uid)))
        finally:
            fresh.close()
        return True

    def moved(self, fresh):
        """Has another mailbox this name now?"""
        reply = fresh.do("STATUS %s (MAILBOXID)" % self.s.box.name.decode(),
                         MAY_FAIL)
        return not reply.startswith("OK") or \
            fresh.data[0][2][1][0] != self.s.box.mailboxid


def same_on_both(world, shared):
    """Every mailbox, as a fresh session sees it."""
    seen = []
    for instance in (world.a, world.b):
        s = Session(instance, "alice", world.users["alice"], shared.wrong,
                    "last look at %s" % instance.name)
        s.do("ENABLE CONDSTORE")
        s.do('LIST "" *')
        names = sorted(w[3] for w in s.data if w[0] == b"LIST")
        picture = {}
        for name in names:
            s.do(b"EXAMINE " + name)
            s.do("UID FETCH 1:* (FLAGS)")
            picture[name] = (s.box.validity, s.box.uidnext, s.box.mailboxid,
                             s.box.flags, s.box.modseq)
        s.close()
        seen.append(picture)
    if seen[0] != seen[1]:
        for name in sorted(set(seen[0]) | set(seen[1])):
            if seen[0].get(name) != seen[1].get(name):
                shared.wrong.append("%r differs on master and replica" % name)


def main(bin_dir, seconds, clients=20, seed=1, threads_of_replica=4):
    shared = Shared()
    print("seed %d, %d clients, %d s" % (seed, clients, seconds), flush=True)
    # Small segments: an empty one is looked through, which takes long under TSan.
    with World(bin_dir, options={"sync_segment_bytes": "4M"}) as w:
        first = w.a.imap("alice")
        for name in FIXED_BOXES[1:]:
            first.create(name)
        for _ in range(30):
            n = shared.number()
            first.append("INBOX", None, None, message(n))
        first.logout()
        w.wait_equal()
        people = [Client(w, shared, i, random.Random(seed * 1000 + i),
                         w.b if i % threads_of_replica == 3 else w.a)
                  for i in range(clients)]
        threads = [threading.Thread(target=p.run) for p in people]
        for t in threads:
            t.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and len(shared.wrong) < 20:
            threads[0].join(0.1)  # they go on until they are stopped
        shared.stop.set()
        for t in threads:
            t.join()
        w.wait_equal()
        settled = 0
        for p in people:
            try:
                settled += p.settle()
            except Gone as e:
                if "was deleted" not in str(e):
                    shared.wrong.append("at the end: %s" % e)
        same_on_both(w, shared)
    for name, n in sorted(shared.counts.items()):
        print("%-12s %d" % (name, n))
    print("%d messages, %d UIDs seen, %d sessions compared at the end, "
          "%d violations" % (shared.next_number, len(shared.bodies), settled,
                             len(shared.wrong)))
    for text in shared.wrong[:20]:
        print("VIOLATION " + text)
    if settled == 0:
        print("VIOLATION nothing was compared")
    return 1 if shared.wrong or settled == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]),
                  *[int(a) for a in sys.argv[3:5]]))
