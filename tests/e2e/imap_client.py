"""What one client of imap_stress.py does: commands at random, each with what it
knows of the answer.  The commands of later extensions are in imap_habits.py.
"""

import re
import traceback

from imap_habits import Habits
from imap_model import Gone, Session
from imap_words import members

FLAGS = ["\\Seen", "\\Flagged", "\\Answered", "\\Draft", "\\Deleted", "$one",
         "$two"]
FIXED_BOXES = ["INBOX", "a", "b"]
LOOSE_BOXES = ["t%d" % i for i in range(4)]
MODES = [(), (), ("CONDSTORE",), ("QRESYNC",), ("IMAP4rev2",),
         ("IMAP4rev2", "QRESYNC"), ("UIDONLY",), ("UTF8=ACCEPT",),
         ("UIDONLY", "QRESYNC", "IMAP4rev2")]
# With these a command may end in NO, since others are at work too.
MAY_FAIL = ("OK", "NO")


def message(number, binary=False):
    head = b"From: a@example.org\r\nSubject: message %d\r\nX-Number: %d\r\n" % (
        number, number)
    text = b"%s\r\n" % (b"x" * (number % 700))
    if not binary:
        return head + b"\r\n" + text
    # What is NUL is kept in base64 by the server (RFC 3516, 4.4).
    return (head + b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream"
            b"\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\1" + text)


class Client(Habits):
    """One user of one instance; a new session when the old one is over."""

    def __init__(self, world, shared, index, rng, instance):
        self.w, self.shared, self.rng = world, shared, rng
        self.instance, self.index = instance, index
        self.on_master = instance is world.a
        self.s = None
        self.caches = {}

    def connect(self):
        s = Session(self.instance, "alice", self.w.users["alice"],
                    self.shared.wrong, "", 120, self.shared.commands)
        s.on_fetch, s.on_state = self.on_fetch, self.on_state
        s.lasting = FIXED_BOXES
        self.s = s
        if self.rng.random() < 0.2:
            s.do("COMPRESS DEFLATE")
        self.enable()
        self.select()

    def enable(self):
        mode = self.rng.choice(MODES)
        self.s.name = "client %d on %s with %s" % (
            self.index, self.instance.name, "+".join(mode))
        if mode:
            self.s.do("ENABLE " + " ".join(mode))

    def on_fetch(self, uid, items):
        for name, value in items.items():
            if name.startswith(b"BODY[") and value and uid is not None:
                found = re.search(rb"X-Number: (\d+)", value)
                if found:
                    self.shared.is_message(self.s, uid, int(found.group(1)))

    def on_state(self, uid, modseq, flags):
        self.shared.is_state(self.s, uid, modseq, flags)

    # ---- pieces ------------------------------------------------------------

    @property
    def by_uid(self):
        """Sequence numbers are of no use."""
        return "UIDONLY" in self.s.enabled or self.s.immediate()

    def fetch_flags(self, low=1):
        """Flags of all UIDs from LOW on, in as many commands as it takes."""
        top = "*"
        while True:
            self.s.do("UID FETCH %d:%s (FLAGS)" % (low, top), MAY_FAIL,
                      asked="(FLAGS)")
            if self.s.limited is None or self.s.limited <= low:
                return
            top = self.s.limited - 1

    def learn(self):
        """All UIDs and flags of the mailbox."""
        s = self.s
        if not s.box:
            return
        low = 0  # all below it are known, with their flags
        for uid in s.box.uids if "UIDONLY" not in s.enabled else sorted(
                u or 0 for u in s.box.uids):
            if not uid or uid not in s.box.flags:
                break
            low = uid
        else:
            return
        self.fetch_flags(low + 1)
        # What came while it was told is asked for in the next round.

    def select(self):
        s = self.s
        boxes = FIXED_BOXES if self.rng.random() < 0.8 else LOOSE_BOXES
        name = self.rng.choice(boxes)
        how = "EXAMINE" if self.rng.random() < 0.1 else "SELECT"
        cache = self.caches.get(name)
        if s.box is not None and s.condstore:
            self.keep_cache()
        s.watched.pop(name, None)
        if "QRESYNC" in s.enabled and cache and self.rng.random() < 0.7:
            self.resync(how, name, cache)
        else:
            option = self.rng.choice(["", "", "", " (CONDSTORE)",
                                      " (ANNOTATE)"])
            reply = s.do("%s %s%s" % (how, name, option),
                         ("OK",) if boxes is FIXED_BOXES else MAY_FAIL)
            if option == " (CONDSTORE)" and reply.startswith("OK"):
                s.condstore = True
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
        if box is None or None in box.uids or \
                len(box.flags) != len(box.uids):
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
        self.fetch_flags()
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
        s = self.s
        uid = self.by_uid or self.rng.random() < 0.5
        which, uids = self.some(uid)
        if which is None:
            return
        items = self.rng.choice(
            ["FLAGS", "(UID FLAGS)", "(FLAGS INTERNALDATE RFC822.SIZE)",
             "(ENVELOPE BODYSTRUCTURE)", "(BODY.PEEK[])", "(BODY[])",
             "(BODY.PEEK[HEADER.FIELDS (X-Number Subject)])", "MODSEQ",
             "(PREVIEW BINARY.SIZE[1] BINARY.PEEK[1]<0.10>)",
             "(EMAILID SAVEDATE UID)",
             "(UID ANNOTATION (/comment value.shared))"])
        reply = s.do("%sFETCH %s %s" % ("UID " if uid else "", which, items),
                     MAY_FAIL, asked=items)
        if not reply.startswith("OK"):
            return
        for u in uids:
            if u is None or u not in s.box.uids or \
                    s.limited is not None and u < s.limited:
                continue
            left = s.asked - s.answered.get(u, set())
            if left:
                s.fail("did not tell %r of UID %d" % (left, u))

    def store(self):
        s = self.s
        uid = self.by_uid or self.rng.random() < 0.5
        which, uids = self.some(uid)
        if which is None:
            return
        mode = self.rng.choice("+-=")
        flags = self.rng.sample(FLAGS, self.rng.randint(0, 2))
        # With NOTIFY what others did may be told at any time, and one cannot
        # say if before the STORE or after.
        silent = self.rng.random() < 0.5 and s.notify is None
        since = ""
        if s.condstore and self.rng.random() < 0.3:
            since = "(UNCHANGEDSINCE %d) " % (s.box.highest or 1)
        reply = s.do("%sSTORE %s %s%sFLAGS%s (%s)" % (
            "UID " if uid else "", which, since, "" if mode == "=" else mode,
            ".SILENT" if silent else "", " ".join(flags)), MAY_FAIL)
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
            if u is None or u in s.told or u in kept or \
                    u not in s.box.flags or \
                    s.limited is not None and u < s.limited:
                continue
            was = s.box.flags[u]
            s.box.flags[u] = (was | given if mode == "+" else
                              was - given if mode == "-" else given)

    def append(self):
        s, parts, made = self.s, b"", []
        for _ in range(self.rng.choice([1, 1, 1, 2, 3])):
            made.append(self.shared.number())
            binary = self.rng.random() < 0.2
            raw = message(made[-1], binary)
            flags = " ".join(self.rng.sample(FLAGS, self.rng.randint(0, 2)))
            parts += b" (%s) %s{%d+}\r\n%s" % (
                flags.encode(), b"~" if binary else b"", len(raw), raw)
        box = self.rng.choice(FIXED_BOXES)
        s.do(b"APPEND %s%s" % (box.encode(), parts))
        self.made(box, made)

    def made(self, box, numbers):
        """The messages of NUMBERS were put into BOX, APPENDUID says where."""
        s = self.s
        if s.appended is None or len(s.appended[1]) != len(numbers):
            s.fail("%r for %d messages" % (s.appended, len(numbers)))
            return
        for uid, number in zip(s.appended[1], numbers):
            self.shared.is_message_of(s, self.shared.ids[box], s.appended[0],
                                      uid, number)

    def catenate(self):
        s = self.s
        known = [u for u in s.box.uids if u is not None]
        if not known:
            return
        self.shared.counts["CATENATE"] += 1
        raw = b"X-Number: %d\r\n\r\n" % self.shared.number()
        s.do(b"APPEND %s CATENATE (TEXT {%d+}\r\n%s URL \";UID=%d\")" % (
            self.rng.choice(FIXED_BOXES).encode(), len(raw), raw,
            self.rng.choice(known)), MAY_FAIL)

    def replace(self):
        s = self.s
        known = [u for u in s.box.uids if u is not None]
        if not known:
            return
        number, uid = self.shared.number(), self.rng.choice(known)
        raw, box = message(number), self.rng.choice(FIXED_BOXES)
        reply = s.do(b"UID REPLACE %d %s {%d+}\r\n%s" % (
            uid, box.encode(), len(raw), raw), MAY_FAIL)
        if reply.startswith("OK"):
            self.made(box, [number])
            if uid in s.box.uids:
                s.fail("UID %d was replaced, and is there" % uid)

    def copy(self):
        s = self.s
        uid = self.by_uid or self.rng.random() < 0.5
        which, uids = self.some(uid)
        if which is None or len(uids) > 50:
            return
        how = self.rng.choice(["COPY", "MOVE"])
        box = self.rng.choice(FIXED_BOXES + LOOSE_BOXES[:1])
        reply = s.do("%s%s %s %s" % ("UID " if uid else "", how, which, box),
                     MAY_FAIL)
        if s.box is None or s.bye or not reply.startswith("OK"):
            return
        left = set(uids) & set(s.box.uids) - {None}
        if how == "MOVE" and left and "1:*" != which:
            s.fail("%r were moved, and are there" % sorted(left))
        if s.copied is None: # nothing of it was there any more
            return
        validity, sources, copies = s.copied
        if len(sources) != len(copies):
            s.fail("%r" % reply)
        for source, made in zip(sources, copies):
            number = self.shared.bodies.get(
                (s.box.mailboxid, s.box.validity, source))
            if number is not None and box in self.shared.ids:
                self.shared.is_message_of(s, self.shared.ids[box], validity,
                                          made, number)

    def expunge(self):
        if self.rng.random() < 0.5:
            self.s.do("EXPUNGE", MAY_FAIL)
            return
        which, _ = self.some(True)
        if which:
            self.s.do("UID EXPUNGE %s" % which, MAY_FAIL)

    def search(self):
        s = self.s
        uid = self.by_uid or self.rng.random() < 0.6
        key = self.rng.choice([
            "1:*" if not self.by_uid else "ALL", "ALL", "ALL", "SEEN",
            "UNFLAGGED", "SUBJECT message", "BODY xx", "LARGER 500",
            "OR SEEN DELETED", "SAVEDATESUPPORTED SAVEDSINCE 1-Jan-2020",
            'ANNOTATION /comment value.shared "x"', "FUZZY SUBJECT message"])
        ret = self.rng.choice([None, None, [], ["MIN", "MAX", "COUNT"],
                               ["SAVE", "ALL"], ["PARTIAL 1:5"],
                               ["PARTIAL -5:-1"]])
        before = list(s.box.uids)
        if not before and key == "1:*":
            return
        s.do("%sSEARCH %s%s" % (
            "UID " if uid else "",
            "" if ret is None else "RETURN (%s) " % " ".join(ret), key),
            returns={w.split()[0] for w in ret or ["ALL"]} | {"MODSEQ"})
        if s.box is None:
            return
        found, partial = [], False
        for words in s.data:
            if words[0] == b"SEARCH":
                found = [int(w) for w in words[1:] if isinstance(w, bytes)]
            elif words[0] == b"ESEARCH" and b"ALL" in words:
                found = members(words[words.index(b"ALL") + 1])
            elif words[0] == b"ESEARCH" and b"PARTIAL" in words:
                partial = True
                some = words[words.index(b"PARTIAL") + 1][1]
                found = members(some) if some is not None else []
                if len(found) > 5:
                    s.fail("more than five: %r" % found)
        if key not in ("ALL", "1:*") or ret == ["MIN", "MAX", "COUNT"]:
            return
        if uid:
            # NOTIFY may have told more in between.
            there = set(before) | set(s.box.uids)
            if None not in there and not set(found) <= there:
                s.fail("SEARCH found %r, which is not there" %
                       sorted(set(found) - there))
            if not partial:
                s.box.due |= {
                    u for u in before
                    if u is not None and u >= (s.limited or 0)} - set(
                        found) & set(s.box.uids)
        elif found and max(found) > max(len(before), len(s.box.uids)):
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
        if s.box is None:
            return
        left = due & set(s.box.uids)
        if left and s.tells("MessageExpunge"):
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
            "GETMETADATA %s /shared/comment" % box, "LISTRIGHTS a alice",
            "GETQUOTA nowhere", "SETQUOTA nowhere (STORAGE 1)",
            'XLIST "" *']), MAY_FAIL)

    def boxes(self):
        a, b = self.rng.sample(LOOSE_BOXES, 2)
        self.s.do(self.rng.choice([
            "CREATE " + a, "CREATE " + a, "DELETE " + a,
            "RENAME %s %s" % (a, b), "SUBSCRIBE a",
            "UNSUBSCRIBE a", "SETACL %s bob lr" % a, "DELETEACL %s bob" % a,
            'SETMETADATA a (/shared/comment "x")']), MAY_FAIL)

    def leave(self):
        if self.s.condstore:
            self.keep_cache()
        self.s.do(self.rng.choice(["CLOSE", "UNSELECT"]), MAY_FAIL)
        self.select()

    def reading(self):
        return [(12, self.fetch), (8, self.search), (3, self.sort),
                (8, self.noop), (4, self.idle), (4, self.look),
                (3, self.select)] + self.habits()

    def writing(self):
        return self.reading() + [(14, self.store), (8, self.append),
                                 (2, self.catenate), (3, self.replace),
                                 (6, self.copy), (4, self.expunge),
                                 (3, self.boxes), (2, self.leave),
                                 (3, self.annotate)]

    # ---- a life ----------------------------------------------------------

    def step(self):
        if self.s is None:
            self.connect()
        s = self.s
        if s.box is None:
            self.select()
            return
        table = self.writing() if self.on_master else \
            self.reading() + [(1, self.refused)]
        _, what = self.rng.choices(table, [w for w, _ in table])[0]
        self.shared.count(what.__name__, self.on_master)
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
                self.shared.count("thrown out", self.on_master)
                self.s.close()
                self.s = None
            except Exception:
                self.shared.wrong.append("client %d: %s" % (
                    self.index, traceback.format_exc()))
                self.s = None

    def settle(self, picture, names):
        """All is quiet: is what the session knows what a fresh one was told?
        PICTURE: of all mailboxes, NAMES theirs.  Returns how many mailboxes
        and results were compared."""
        s = self.s
        if s is None:
            return 0
        self.hear(picture, names)
        for _ in range(20): # large results are kept level in turns
            s.listen(0.05)
            s.do("NOOP")
            self.learn()
            if not s.data:
                break
        else:
            s.fail("tells something with every NOOP")
        compared = self.settle_watched(picture, names)
        there = s.box and picture.get(s.box.name)
        # Another mailbox may have this name by now.
        if not there or there.mailboxid != s.box.mailboxid or \
                not s.tells("MessageNew"):
            return compared
        if there.uids != (sorted(s.box.uids) if "UIDONLY" in s.enabled and
                          None not in s.box.uids else s.box.uids):
            s.fail("knows UIDs %r, there are %r" % (s.box.uids, there.uids))
        if not s.box.stale:
            for uid, flags in there.flags.items():
                if s.box.flags.get(uid) != flags:
                    s.fail("UID %d has %r, the session thinks %r" % (
                        uid, flags, s.box.flags.get(uid)))
        return compared + 1 + self.settle_results()
