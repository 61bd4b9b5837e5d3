"""A client of IMAP that believes nothing: every response is parsed, and held
against what the session may be told by which command (RFC 3501, 5.5 and 7;
7162; 9051; 9586), and what it has asked for besides (imap_watch.py).

Session.do() sends one command and takes its responses, Session.listen() what is
told between commands.  What is wrong with them goes to the list `wrong` that
all sessions of a run share.
"""

import base64
import collections
import re
import select
import socket
import time
import zlib

from imap_watch import NONE, Context, may_list, may_status
from imap_words import answers_to, members, tokens, whole

# Commands during which sequence numbers must not change (RFC 3501, 7.4.1).
FIXED = {"FETCH", "STORE", "SEARCH", "SORT", "THREAD"}
# What the client itself took away is told, whatever it asked NOTIFY for.
REMOVING = {"EXPUNGE", "MOVE", "REPLACE"}
# Which command an untagged response answers, and no other.
ANSWERS = {
    b"SEARCH": {"SEARCH"}, b"SORT": {"SORT"}, b"THREAD": {"THREAD"},
    b"LSUB": {"LSUB"}, b"ENABLED": {"ENABLE"}, b"ID": {"ID"},
    b"NAMESPACE": {"NAMESPACE"}, b"MYRIGHTS": {"MYRIGHTS", "LIST"},
    b"ACL": {"GETACL"}, b"QUOTAROOT": {"GETQUOTAROOT"},
    b"QUOTA": {"GETQUOTA", "GETQUOTAROOT"},
    b"LISTRIGHTS": {"LISTRIGHTS"}, b"XLIST": {"XLIST"},
    b"CAPABILITY": {"CAPABILITY", "LOGIN", "AUTHENTICATE"}}
SLOW = {"SEARCH", "SORT", "THREAD", "STORE"} # INPROGRESS


class Gone(Exception):
    """The connection is over."""


class Box:
    """What a session knows of its mailbox."""

    def __init__(self, name):
        self.name = name
        self.uids = []      # by sequence number; None: not known yet
        self.flags = {}     # UID -> set, without \\Recent
        self.modseq = {}
        self.validity = None
        self.uidnext = 0
        self.highest = 0
        self.mailboxid = None
        self.readonly = False
        self.gone = set()   # told to be gone
        self.due = set()    # not found by a SEARCH: must be told to be gone
        self.annotate = False
        self.stale = False  # flags changed that NOTIFY did not ask for


class Session:
    lasting = frozenset()  # names that no one deletes or renames

    def __init__(self, instance, user, password, wrong, name, timeout=60,
                 tally=None):
        self.instance, self.wrong, self.name = instance, wrong, name
        self.user, self.password = user, password
        self.sock = socket.create_connection(
            (instance.host, instance.imap_port), timeout)
        self.timeout = timeout
        self.raw = b""
        self.inflate = self.deflate = None
        self.count = 0
        self.cmd = ""
        self.line = b""
        self.bye = b""
        self.tally = collections.Counter() if tally is None else tally
        self.data = []      # untagged responses of this command, as tokens
        self.told = set()   # UIDs whose flags this command told
        self.is_uid = self.has_numbers = False
        self.forget_all()
        self.read_response()
        self.log_in()

    def forget_all(self):
        """As it is before LOGIN."""
        self.box = self.next_box = None
        self.enabled = set()
        self.condstore = self.maybe_condstore = False
        self.contexts = {}  # tag -> Context
        self.notify = None  # a Notify; None: it was never given
        self.next_notify = None
        self.names = None   # of mailboxes, where NOTIFY tells of them
        self.status = {}    # name -> what STATUS told last
        self.highest_of = {}
        self.watched = {}   # the same since NOTIFY SET STATUS

    def log_in(self):
        if self.count % 2:
            secret = "\0%s\0%s" % (self.user, self.password)
            self.do("AUTHENTICATE PLAIN " + base64.b64encode(
                secret.encode()).decode())
        else:
            self.do("LOGIN %s %s" % (self.user, self.password))

    # ---- bytes -----------------------------------------------------------

    def fail(self, text):
        self.wrong.append("%s: %s\n   after %r\n   selected %s, %s" % (
            self.name, text, self.line[:300],
            self.box and (self.box.name, len(self.box.uids),
                          self.box.uids[-20:]),
            self.notify and self.notify.command()))

    def fill(self):
        data = self.sock.recv(65536)
        if not data:
            raise Gone("closed" + (" after %r" % self.bye if self.bye else ""))
        self.raw += self.inflate.decompress(data) if self.inflate else data

    def read_response(self):
        while not whole(self.raw):
            self.fill()
        n = whole(self.raw)
        line, self.raw = self.raw[:n], self.raw[n:]
        return line

    def send(self, data):
        if self.deflate:
            # RFC 8437, 4.1: what ends the stream may be the one or the other.
            ends = self.cmd == "UNAUTHENTICATE" and self.count % 2
            data = self.deflate.compress(data)
            data += self.deflate.flush(zlib.Z_FINISH if ends
                                       else zlib.Z_SYNC_FLUSH)
        self.sock.sendall(data)

    def close(self):
        self.sock.close()

    # ---- commands --------------------------------------------------------

    def begin(self, line):
        self.count += 1
        self.tag = b"t%d" % self.count
        self.line = line
        words = line.split(b" ", 2)
        self.is_uid = words[0].upper() == b"UID"
        self.cmd = words[1 if self.is_uid else 0].decode().upper()
        self.tally[self.cmd] += 1
        self.copied = self.appended = None
        self.data, self.told = [], set()
        self.answered = {}  # UID -> items that were told
        self.asked = set()
        self.limited = None
        self.progress = 0
        self.returns = None

    def do(self, text, want=("OK",), returns=None, keep=None, asked=None):
        """TEXT may be bytes with literals in it ({n+}).  The tagged reply
        behind the tag: "OK [...] text".  RETURNS: what ESEARCH may have; KEEP:
        (sort, key, items) of a result that is kept level; ASKED: items of
        FETCH."""
        self.listen(0)
        self.begin(text if isinstance(text, bytes) else text.encode())
        self.returns = returns
        if asked is not None:
            self.asked = answers_to(asked)
        if keep is not None:
            self.contexts[self.tag] = Context(
                self, self.tag, self.is_uid or self.cmd == "ESEARCH", *keep)
        self.has_numbers = self.cmd == "SEARCH" and re.search(
            rb" \d+:\*$", self.line) is not None
        self.before()
        self.send(self.tag + b" " + self.line + b"\r\n")
        return self.finish(want)

    def finish(self, want):
        tag = self.tag
        while True:
            got = self.read_response()
            if got.startswith(tag + b" "):
                break
            if got.startswith(b"* "):
                self.untagged(got)
            elif not got.startswith(b"+"):
                self.fail("unexpected line %r" % got[:200])
        reply = got[len(tag) + 1:].rstrip(b"\r\n").decode("latin-1")
        self.code_of(got[len(tag) + 1:])
        if reply.split(" ")[0] not in want:
            self.fail("answered %r" % reply[:200])
        found = re.search(r"\[MESSAGELIMIT (\d+) (\d+)\]", reply)
        if found:
            self.limited = int(found.group(2))
        if self.cmd == "COMPRESS" and reply.startswith("OK"):
            self.inflate = zlib.decompressobj(-15)
            self.deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
            rest, self.raw = self.raw, b""
            if rest:
                self.raw = self.inflate.decompress(rest)
        self.after(reply)
        self.cmd = ""
        return reply

    def idle(self, wait):
        """IDLE for WAIT seconds."""
        self.listen(0)
        self.begin(b"IDLE")
        self.send(self.tag + b" IDLE\r\n")
        while True:
            got = self.read_response()
            if got.startswith(b"+"):
                break
            if not got.startswith(b"* "):
                self.fail("IDLE answered %r" % got)
                return
            self.untagged(got)
        self.take_until(time.monotonic() + wait)
        self.send(b"DONE\r\n")
        self.finish(("OK",))

    def listen(self, wait):
        """What is told while no command is under way."""
        self.line, self.is_uid = b"(no command)", False
        self.take_until(time.monotonic() + wait)

    def take_until(self, end):
        """All that comes until then; the number of responses."""
        taken = 0
        while True:
            if whole(self.raw):
                got = self.read_response()
                taken += 1
                if self.cmd == "" and not self.may_be_told_anything() and \
                        not got.startswith(b"* BYE"):
                    self.fail("%r between commands" % got[:200])
                if got.startswith(b"* "):
                    self.untagged(got)
                else:
                    self.fail("unexpected line %r" % got[:200])
                continue
            left = end - time.monotonic()
            if not select.select([self.sock], [], [], max(0, left))[0]:
                return taken
            try:
                self.fill()
            except Gone:
                if not self.bye:
                    raise
                return taken

    def may_be_told_anything(self):
        return (self.notify is not None and
                (self.notify.selected is not None or self.notify.groups)) or \
            any(c.items for c in self.contexts.values())

    def heard(self):
        """The NOTIFYs that may be in force; None stands for never."""
        return [self.notify, self.next_notify] if self.cmd == "NOTIFY" else \
            [self.notify]

    def immediate(self):
        return any(n is not None and n.immediate() for n in self.heard())

    def tells(self, event):
        """Is EVENT of the selected mailbox told?"""
        return any(n is None or n.tells(event) for n in self.heard()) or \
            self.cmd == "NOTIFY"

    def tells_flags(self):
        return self.notify is None or self.notify.tells("FlagChange")

    def before(self):
        if self.cmd in ("SELECT", "EXAMINE"):
            self.next_box = Box(self.line.split(b" ")[1])
            self.next_box.annotate = b"ANNOTATE" in self.line
            self.closed = self.box is None
            if self.closed:
                self.box = self.next_box
        elif self.cmd in ("LOGIN", "AUTHENTICATE"):
            self.forget_all()
        elif self.cmd == "CANCELUPDATE":
            for tag in re.findall(rb'"([^"]+)"', self.line):
                self.contexts[tag].lost = True # from some moment on
        if re.search(rb"MODSEQ|CONDSTORE|CHANGEDSINCE", self.line):
            self.maybe_condstore = True

    def after(self, reply):
        ok = reply.startswith("OK")
        if self.cmd in ("SELECT", "EXAMINE"):
            if not self.closed:
                self.fail("no [CLOSED] for the mailbox before")
            if ok:
                self.box.readonly = "[READ-ONLY]" in reply
                self.box.stale = not self.tells_flags()
            else:
                self.leave()
        elif self.cmd in ("CLOSE", "UNSELECT") and ok:
            self.leave()
        elif self.cmd == "UNAUTHENTICATE" and ok:
            self.forget_all()
            while self.inflate and not self.inflate.eof:
                self.fill()
            self.raw += self.inflate.unused_data if self.inflate else b""
            self.inflate = self.deflate = None
        elif self.cmd == "CANCELUPDATE" and ok:
            for tag in re.findall(rb'"([^"]+)"', self.line):
                self.contexts.pop(tag, None)
        elif self.cmd == "NOTIFY" and "[BADEVENT" not in reply:
            self.notify = self.next_notify if ok else NONE
            if self.box is not None and not self.tells_flags():
                self.box.stale = True
        elif self.cmd == "ENABLE" and ok:
            for words in self.data:
                if words[0] == b"ENABLED":
                    self.enabled |= {w.decode().upper() for w in words[1:]}
            self.condstore |= bool(self.enabled & {"CONDSTORE", "QRESYNC"})
            self.maybe_condstore |= self.condstore
        if self.tag in self.contexts:
            kept = self.contexts[self.tag]
            if not ok:
                del self.contexts[self.tag]
            elif kept.results is None:
                kept.start([])
        if ok and self.cmd in ("FETCH", "STORE", "SEARCH", "SORT", "STATUS"):
            self.condstore |= self.maybe_condstore

    def leave(self):
        self.box = None
        self.contexts = {}

    # ---- responses -------------------------------------------------------

    def code_of(self, text):
        """Response codes that say something of mailboxes."""
        box = self.box
        found = re.search(rb"\[COPYUID (\d+) ([\d:,]+) ([\d:,]+)\]", text)
        if found:
            self.copied = (int(found.group(1)), members(found.group(2)),
                           members(found.group(3)))
        found = re.search(rb"\[APPENDUID (\d+) ([\d:,]+)\]", text)
        if found:
            self.appended = (int(found.group(1)), members(found.group(2)))
        for name, value in re.findall(
                rb"\[(UIDVALIDITY|UIDNEXT|HIGHESTMODSEQ|MAILBOXID) "
                rb"\(?([^\])]+)", text[:200]):
            if box is None or self.cmd not in ("SELECT", "EXAMINE"):
                continue
            if name == b"UIDVALIDITY":
                box.validity = int(value)
            elif name == b"UIDNEXT":
                box.uidnext = int(value)
            elif name == b"HIGHESTMODSEQ":
                box.highest = int(value)
            else:
                box.mailboxid = value

    def condition(self, line):
        """OK, NO and BAD without a tag."""
        if b"[CLOSED]" in line:
            self.closed = True
            self.leave()
            if self.cmd in ("SELECT", "EXAMINE"):
                self.box = self.next_box
                self.data = [] # was of the one before
            elif self.cmd != "DELETE": # of what is selected here
                self.fail("CLOSED in answer to %s" % self.cmd)
        elif b"[NOUPDATE " in line:
            tag = re.search(rb'NOUPDATE "([^"]+)"', line).group(1)
            if self.contexts.pop(tag, None) is None:
                self.fail("NOUPDATE of %r" % tag)
        elif b"[INPROGRESS" in line:
            found = re.search(rb'\[INPROGRESS \("([^"]+)" (NIL|\d+) '
                              rb'(NIL|\d+)\)\]', line)
            if self.cmd not in SLOW or not found or \
                    found.group(1) != self.tag:
                self.fail("%r in answer to %s" % (line, self.tag))
            elif found.group(2) != b"NIL":
                done, goal = int(found.group(2)), int(found.group(3))
                if not self.progress <= done <= goal:
                    self.fail("%r behind %d" % (line, self.progress))
                self.progress = done
        elif b"[MESSAGELIMIT " in line:
            self.limited = int(re.search(rb"LIMIT \d+ (\d+)\]",
                                         line).group(1))
        elif b"[NOTIFICATIONOVERFLOW]" in line:
            self.fail("%r" % line)
        self.code_of(line)

    def untagged(self, line):
        kind = line[2:].split(b" ", 1)[0].rstrip(b"\r\n").upper()
        if kind in (b"OK", b"NO", b"BAD"):
            self.condition(line)
            return
        if kind == b"BYE":
            self.bye = line
            return
        try:
            words = tokens(line[2:])
        except (ValueError, IndexError) as e:
            self.fail("cannot be parsed (%s): %r" % (e, line[:200]))
            return
        self.data.append(words)
        if kind.isdigit():
            self.numbered(int(kind), words[1].upper(), words)
        elif kind == b"VANISHED":
            self.vanished(words)
        elif kind == b"ESEARCH":
            self.esearch(words)
        elif kind == b"LIST":
            self.listed(words)
        elif kind == b"STATUS":
            self.stated(words)
        elif kind == b"METADATA":
            self.metadata(words)
        elif kind in ANSWERS:
            self.only_by(kind, *ANSWERS[kind])
        elif kind != b"FLAGS":
            self.fail("what is %r?" % line[:100])

    def only_by(self, kind, *commands):
        if self.cmd not in commands:
            self.fail("%r in answer to %s" % (kind, self.cmd or "nothing"))

    def unasked(self, why):
        """WHY(notify): what is wrong with a response that no command asked
        for; None: nothing."""
        found = [why(n) if n is not None else "%r was not asked for" %
                 self.data[-1][:4] for n in self.heard()]
        if all(found):
            self.fail(found[-1])

    # ---- mailboxes -------------------------------------------------------

    def listed(self, words):
        name = words[3].decode()
        old = None
        for at, word in enumerate(words[4] if len(words) > 4 else []):
            if word == b"OLDNAME":
                old = words[4][at + 1][0].decode()
        if self.cmd not in ("LIST", "XLIST") and not (
                self.cmd in ("SELECT", "EXAMINE") and
                "IMAP4REV2" in self.enabled):
            self.unasked(lambda n: may_list(n, name, words[1], old))
        if self.names is not None:
            if old is not None:
                self.names.discard(old)
            if b"\\NonExistent" in words[1]:
                self.names.discard(name)
            else:
                self.names.add(name)

    def stated(self, words):
        name, pairs = words[1].decode(), words[2]
        items = {pairs[k].decode(): pairs[k + 1]
                 for k in range(0, len(pairs), 2)}
        if self.cmd not in ("STATUS", "LIST") and not (
                self.cmd == "NOTIFY" and self.next_notify.status):
            self.unasked(lambda n: may_status(n, name, items,
                                              self.maybe_condstore))
            if self.box is not None and self.box.name.decode() == name and \
                    name in self.lasting and \
                    self.cmd not in ("SELECT", "EXAMINE"):
                self.fail("STATUS of the selected mailbox")
        if name not in self.lasting:
            return
        known = self.status.setdefault(name, {})
        for item in ("UIDNEXT", "HIGHESTMODSEQ"):
            if item in items and int(items[item]) < int(known.get(item, 0)):
                self.fail("%s of %s fell from %s to %s" % (
                    item, name, known[item], items[item]))
        known.update(items)
        if name in self.watched:
            self.watched[name].update(items)

    def metadata(self, words):
        if len(words) > 2 and isinstance(words[2], list):
            self.only_by(b"METADATA with values", "GETMETADATA")
            return
        name = words[1].decode()
        event = "MailboxMetadataChange" if name else "ServerMetadataChange"
        self.unasked(
            lambda n: None if event in (n.events_of(name) if name else
                                        n.all_events())
            else "METADATA of %r was not asked for" % name)

    # ---- searches --------------------------------------------------------

    def esearch(self, words):
        about, rest = {}, words[1:]
        if rest and isinstance(rest[0], list):
            about = dict(zip(rest[0][::2], rest[0][1::2]))
            rest = rest[1:]
        uid = rest[:1] == [b"UID"]
        rest = rest[1:] if uid else rest
        data = list(zip(rest[::2], rest[1::2]))
        tag = about.get(b"TAG")
        updates = [d for d in data if d[0] in (b"ADDTO", b"REMOVEFROM")]
        if updates:
            if len(updates) != len(data):
                self.fail("results and updates in one: %r" % words)
            if tag not in self.contexts:
                self.fail("update of %r, which there is none of" % tag)
            else:
                self.contexts[tag].update(uid, updates)
            return
        self.only_by(b"ESEARCH", "SEARCH", "SORT", "ESEARCH")
        if tag != self.tag:
            self.fail("ESEARCH of %r in answer to %r" % (tag, self.tag))
        if uid != (self.is_uid or self.cmd == "ESEARCH"):
            self.fail("UIDs for numbers, or the reverse")
        if (b"MAILBOX" in about) != (self.cmd == "ESEARCH"):
            self.fail("ESEARCH of %r" % about)
        if self.returns is not None and \
                not {n.decode() for n, _ in data} <= set(self.returns):
            self.fail("%r, asked for %r" % (data, self.returns))
        if tag in self.contexts:
            found = dict(data).get(b"ALL")
            self.contexts[tag].start(members(found) if found else [])

    # ---- the selected mailbox --------------------------------------------

    def may_shrink(self, what):
        if self.box is None:
            self.fail("%s in answer to %s" % (what, self.cmd))
        elif self.immediate():
            return
        elif not self.tells("MessageExpunge"):
            if self.cmd not in REMOVING:
                self.fail("%s, which NOTIFY has not asked for" % what)
        elif self.cmd in ("", "SELECT", "EXAMINE", "CLOSE") or (
                self.cmd in FIXED and (not self.is_uid or self.has_numbers)):
            self.fail("%s in answer to %s" % (what, self.cmd or "nothing"))

    def numbered(self, n, kind, words):
        box = self.box
        if box is None:
            self.fail("%r without a mailbox" % words[:3])
        elif kind == b"EXISTS":
            if not self.tells("MessageNew") and self.cmd not in REMOVING | {
                    "SELECT", "EXAMINE"}:
                self.fail("EXISTS, which NOTIFY has not asked for")
            if n < len(box.uids):
                self.fail("EXISTS %d, there were %d" % (n, len(box.uids)))
            box.uids += [None] * (n - len(box.uids))
        elif kind == b"RECENT":
            if "IMAP4REV2" in self.enabled:
                self.fail("RECENT to IMAP4rev2")
            if n > len(box.uids):
                self.fail("RECENT %d of %d" % (n, len(box.uids)))
        elif kind == b"EXPUNGE":
            self.may_shrink("EXPUNGE")
            if self.enabled & {"QRESYNC", "UIDONLY"}:
                self.fail("EXPUNGE where VANISHED was asked for")
            if not 1 <= n <= len(box.uids):
                self.fail("EXPUNGE %d of %d" % (n, len(box.uids)))
            else:
                self.forget(n, box.uids.pop(n - 1))
        elif kind == b"FETCH" or kind == b"UIDFETCH":
            self.fetched(n, kind, words[2])
        else:
            self.fail("what is %r?" % words[:3])

    def forget(self, number, uid):
        for kept in self.contexts.values():
            kept.expunged(number, uid)
        self.box.gone.add(uid)
        for known in (self.box.flags, self.box.modseq):
            known.pop(uid, None)
        self.box.due.discard(uid)

    def vanished(self, words):
        earlier = isinstance(words[1], list)
        if not self.enabled & {"QRESYNC", "UIDONLY"}:
            self.fail("VANISHED was not asked for")
        if earlier:
            self.only_by(b"VANISHED (EARLIER)", "SELECT", "EXAMINE", "FETCH")
            return
        self.may_shrink("VANISHED")
        for uid in members(words[1]):
            at = self.place_of(uid)
            number = None
            if at is None:
                self.fail("VANISHED of UID %d, which was not there" % uid)
            elif self.box.uids.pop(at) is not None:
                number = at + 1
            self.forget(number, uid)

    def place_of(self, uid):
        """Where UID is, or could be as far as is known; else None."""
        uids = self.box.uids
        if uid in uids:
            return uids.index(uid)
        if "UIDONLY" in self.enabled: # no order is told of
            return uids.index(None) if None in uids else None
        at = 0
        for k, u in enumerate(uids):
            if u is not None and u < uid:
                at = k + 1
        return at if at < len(uids) and uids[at] is None else None

    def uid_at(self, n, kind, items):
        """The UID that a FETCH response is about; None: it is not known."""
        box = self.box
        if kind == b"UIDFETCH":
            if n not in box.uids:
                if None not in box.uids:
                    self.fail("UIDFETCH of UID %d, which is not there" % n)
                    return None
                box.uids[box.uids.index(None)] = n
            return n
        uid = box.uids[n - 1]
        if b"UID" not in items:
            return uid
        told = int(items[b"UID"])
        if uid is not None and uid != told:
            self.fail("message %d was UID %d, now %d" % (n, uid, told))
        if uid is None:
            if told in box.uids:
                self.fail("UID %d twice" % told)
            box.uids[n - 1] = told
        low = [u for u in box.uids[:n - 1] if u is not None]
        if low and low[-1] >= told:
            self.fail("UID %d behind %d" % (told, low[-1]))
        return told

    def may_be_told(self, kind, items):
        """What a FETCH response may have, and must have."""
        may = {b"UID", b"FLAGS", b"MODSEQ"} | self.asked
        if self.box.annotate or any(
                n is not None and n.tells("AnnotationChange")
                for n in self.heard()):
            may.add(b"ANNOTATION")
        news = set()
        for text in [n.items() for n in self.heard() if n is not None] + [
                c.items for c in self.contexts.values()]:
            news |= answers_to(text) if text else set()
        if not set(items) <= may | news:
            self.fail("%r, asked for %r" % (
                sorted(set(items) - may - news), sorted(self.asked)))
        resync = self.cmd in ("SELECT", "EXAMINE", "FETCH", "STORE")
        if b"FLAGS" in items and not resync and b"FLAGS" not in news and \
                not self.tells("FlagChange") and \
                not self.tells("AnnotationChange"):
            self.fail("FLAGS, which NOTIFY has not asked for")
        if kind == b"FETCH" and b"UID" not in items and (
                self.is_uid or self.cmd != "FETCH" and
                (self.condstore or "IMAP4REV2" in self.enabled) or
                self.cmd not in ("FETCH", "STORE") and
                None not in self.heard()):
            self.fail("FETCH without UID")
        if b"FLAGS" in items and self.condstore and b"MODSEQ" not in items:
            self.fail("FLAGS without MODSEQ")
        if b"MODSEQ" in items and not self.maybe_condstore:
            self.fail("MODSEQ was not asked for")

    def fetched(self, n, kind, words):
        box = self.box
        if len(words) % 2:
            self.fail("FETCH with an odd list %r" % words)
            return
        items = {words[k].upper(): words[k + 1]
                 for k in range(0, len(words), 2)}
        if (kind == b"UIDFETCH") != ("UIDONLY" in self.enabled):
            self.fail("%r" % kind)
            return
        if kind == b"FETCH" and not 1 <= n <= len(box.uids):
            self.fail("FETCH %d of %d" % (n, len(box.uids)))
            return
        uid = self.uid_at(n, kind, items)
        self.may_be_told(kind, items)
        if uid is not None:
            self.learned(uid, items)
        self.on_fetch(uid, items)

    def learned(self, uid, items):
        box = self.box
        self.answered.setdefault(uid, set()).update(items)
        modseq = None
        if b"MODSEQ" in items:
            modseq = int(items[b"MODSEQ"][0])
            if modseq < box.modseq.get(uid, 0):
                self.fail("MODSEQ of UID %d fell" % uid)
            box.modseq[uid] = modseq
        if b"FLAGS" not in items:
            return
        flags = {f.lower() for f in items[b"FLAGS"]}
        if b"\\recent" in flags and "IMAP4REV2" in self.enabled:
            self.fail("\\Recent to IMAP4rev2")
        box.flags[uid] = frozenset(flags - {b"\\recent"})
        self.told.add(uid)
        if modseq is not None:
            self.on_state(uid, modseq, box.flags[uid])

    def on_state(self, uid, modseq, flags):
        """For who wants to compare what is told of one moment."""

    def on_fetch(self, uid, items):
        """For who wants to know more of the answers."""
