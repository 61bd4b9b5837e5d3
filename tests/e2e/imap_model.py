"""A client of IMAP that believes nothing: every response is parsed, and held
against what the session may be told by which command (RFC 3501, 5.5 and 7;
7162; 9051; 9586).

Session.do() sends one command and takes its responses.  What is wrong with them
goes to the list `wrong` that all sessions of a run share.
"""

import re
import socket
import zlib

# Commands during which sequence numbers must not change (RFC 3501, 7.4.1).
FIXED = {"FETCH", "STORE", "SEARCH", "SORT", "THREAD"}
LITERAL = re.compile(rb"\{(\d+)\}\r\n$")


class Gone(Exception):
    """The connection is over."""


def tokens(line):
    """A response as nested lists of bytes; None for NIL."""
    at = [0]

    def item():
        c = line[at[0]:at[0] + 1]
        if c == b"(":
            at[0] += 1
            return group()
        if c == b'"':
            out = bytearray()
            at[0] += 1
            while line[at[0]] != 0x22:
                if line[at[0]] == 0x5c:
                    at[0] += 1
                out.append(line[at[0]])
                at[0] += 1
            at[0] += 1
            return bytes(out)
        found = re.compile(rb"~?\{(\d+)\}\r\n").match(line, at[0])
        if found:
            n = int(found.group(1))
            at[0] = found.end() + n
            return line[found.end():at[0]]
        found = re.compile(
            rb"[A-Z0-9.]*\[[^\]]*\](<\d+>)?|[^ ()\r\n]+").match(line, at[0])
        if not found:
            raise ValueError("cannot parse %r" % line[at[0]:at[0] + 80])
        at[0] = found.end()
        return None if found.group(0) == b"NIL" else found.group(0)

    def group():
        out = []
        while True:
            c = line[at[0]:at[0] + 1]
            if c in (b")", b""):
                at[0] += 1
                return out
            if c == b" ":
                at[0] += 1
                continue
            if line[at[0]:] == b"\r\n":
                at[0] = len(line)
                continue
            out.append(item())

    return group()


def members(text):
    """The numbers of a sequence set without stars, in its order."""
    out = []
    for part in text.decode().split(","):
        a, _, b = part.partition(":")
        out.extend(range(int(a), int(b or a) + 1))
    return out


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


class Session:
    def __init__(self, instance, user, password, wrong, name, timeout=60):
        self.instance, self.wrong, self.name = instance, wrong, name
        self.sock = socket.create_connection(
            (instance.host, instance.imap_port), timeout)
        self.raw = b""
        self.inflate = self.deflate = None
        self.count = 0
        self.cmd = ""
        self.line = b""
        self.box = None
        self.enabled = set()
        self.condstore = False
        self.replies = 0
        self.bye = b""
        self.data = []      # untagged responses of this command, as tokens
        self.told = set()   # UIDs whose flags this command told
        self.read_response()
        self.do("LOGIN %s %s" % (user, password))

    # ---- bytes -----------------------------------------------------------

    def fail(self, text):
        self.wrong.append("%s: %s\n   after %r\n   selected %s" % (
            self.name, text, self.line[:300],
            self.box and (self.box.name, self.box.uids[-20:])))

    def fill(self):
        data = self.sock.recv(65536)
        if not data:
            raise Gone("closed" + (" after %r" % self.bye if self.bye else ""))
        self.raw += self.inflate.decompress(data) if self.inflate else data

    def take_line(self):
        while b"\n" not in self.raw:
            self.fill()
        line, _, self.raw = self.raw.partition(b"\n")
        return line + b"\n"

    def take(self, n):
        while len(self.raw) < n:
            self.fill()
        out, self.raw = self.raw[:n], self.raw[n:]
        return out

    def read_response(self):
        line = self.take_line()
        while True:
            found = LITERAL.search(line)
            if not found or line.startswith(b"+ "):
                break
            line += self.take(int(found.group(1)))
            line += self.take_line()
        self.replies += 1
        return line

    def send(self, data):
        if self.deflate:
            data = self.deflate.compress(data)
            data += self.deflate.flush(zlib.Z_SYNC_FLUSH)
        self.sock.sendall(data)

    def close(self):
        self.sock.close()

    # ---- commands --------------------------------------------------------

    def do(self, text, want=("OK",), literal=True):
        """TEXT may be bytes with literals in it ({n+}).  The tagged reply
        behind the tag: "OK [...] text"."""
        self.count += 1
        tag = b"t%d" % self.count
        self.line = text if isinstance(text, bytes) else text.encode()
        words = self.line.split(b" ", 2)
        self.is_uid = words[0].upper() == b"UID"
        self.cmd = words[1 if self.is_uid else 0].decode().upper()
        self.data, self.told = [], set()
        self.has_numbers = self.cmd == "SEARCH" and re.search(
            rb" \d+:\*$", self.line) is not None
        self.before()
        self.send(tag + b" " + self.line + b"\r\n")
        return self.finish(tag, want)

    def finish(self, tag, want):
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
        if self.cmd == "COMPRESS" and reply.startswith("OK"):
            self.inflate = zlib.decompressobj(-15)
            self.deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
            rest, self.raw = self.raw, b""
            if rest:
                self.raw = self.inflate.decompress(rest)
        self.after(reply)
        return reply

    def idle(self, wait):
        """IDLE; WAIT(session) decides when it ends."""
        self.count += 1
        tag = b"t%d" % self.count
        self.line, self.cmd, self.is_uid = b"IDLE", "IDLE", False
        self.data, self.told = [], set()
        self.send(tag + b" IDLE\r\n")
        got = self.read_response()
        if not got.startswith(b"+"):
            self.fail("IDLE answered %r" % got)
            return
        old = self.sock.gettimeout()
        self.sock.settimeout(wait)
        try:
            while True:
                got = self.read_response()
                self.untagged(got)
        except (TimeoutError, socket.timeout):
            pass
        finally:
            self.sock.settimeout(old)
        self.send(b"DONE\r\n")
        self.finish(tag, ("OK",))

    def before(self):
        if self.cmd in ("SELECT", "EXAMINE"):
            self.old, self.box = self.box, Box(self.line.split(b" ")[1])
            self.closed = self.old is None

    def after(self, reply):
        ok = reply.startswith("OK")
        if self.cmd in ("SELECT", "EXAMINE"):
            if not self.closed:
                self.fail("no [CLOSED] for the mailbox before")
            if ok:
                self.box.readonly = "[READ-ONLY]" in reply
            else:
                self.box = None
        elif self.cmd in ("CLOSE", "UNSELECT") and ok:
            self.box = None
        elif self.cmd == "ENABLE" and ok:
            for words in self.data:
                if words[0] == b"ENABLED":
                    self.enabled |= {w.decode().upper() for w in words[1:]}
            self.condstore |= bool(self.enabled & {"CONDSTORE", "QRESYNC"})

    # ---- responses -------------------------------------------------------

    def code_of(self, text):
        """Response codes that say something of the selected mailbox."""
        box = self.box
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

    def untagged(self, line):
        kind = line[2:].split(b" ", 1)[0].rstrip(b"\r\n").upper()
        if kind in (b"OK", b"NO", b"BAD"):
            if b"[CLOSED]" in line:
                self.closed = True
                if self.cmd == "DELETE": # of what is selected here
                    self.box = None
            self.code_of(line)
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
        elif kind in (b"SEARCH", b"ESEARCH"):
            self.only_by(kind, "SEARCH", "SORT")
        elif kind in (b"LIST", b"LSUB"):
            self.only_by(kind, "LIST", "LSUB", *(
                ["SELECT", "EXAMINE"] if "IMAP4REV2" in self.enabled else []))
        elif kind == b"STATUS":
            self.only_by(kind, "STATUS", "LIST")
        elif kind == b"SORT" or kind == b"THREAD":
            self.only_by(kind, kind.decode())
        elif kind not in (b"FLAGS", b"CAPABILITY", b"ENABLED", b"ID",
                          b"NAMESPACE", b"MYRIGHTS", b"ACL", b"METADATA",
                          b"QUOTA", b"QUOTAROOT"):
            self.fail("what is %r?" % line[:100])

    def only_by(self, kind, *commands):
        if self.cmd not in commands:
            self.fail("%r in answer to %s" % (kind, self.cmd))

    def may_shrink(self, what):
        if self.cmd in FIXED and (not self.is_uid or self.has_numbers):
            self.fail("%s in answer to %s" % (what, self.cmd))
        if self.box is None or self.cmd in ("SELECT", "EXAMINE", "CLOSE"):
            self.fail("%s in answer to %s" % (what, self.cmd))

    def numbered(self, n, kind, words):
        box = self.box
        if box is None:
            self.fail("%r without a mailbox" % words[:3])
        elif kind == b"EXISTS":
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
                self.forget(box.uids.pop(n - 1))
        elif kind == b"FETCH" or kind == b"UIDFETCH":
            self.fetched(n, kind, words[2])
        else:
            self.fail("what is %r?" % words[:3])

    def forget(self, uid):
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
            if at is None:
                self.fail("VANISHED of UID %d, which was not there" % uid)
            else:
                self.box.uids.pop(at)
            self.forget(uid)

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

    def fetched(self, n, kind, items):
        box = self.box
        at = {}
        if len(items) % 2:
            self.fail("FETCH with an odd list %r" % items)
            return
        for k in range(0, len(items), 2):
            at[items[k].upper()] = items[k + 1]
        if (kind == b"UIDFETCH") != ("UIDONLY" in self.enabled):
            self.fail("%r" % kind)
            return
        if kind == b"UIDFETCH":
            uid = n
            if uid not in box.uids:
                if None not in box.uids:
                    self.fail("UIDFETCH of UID %d, which is not there" % uid)
                    return
                box.uids[box.uids.index(None)] = uid
        else:
            if not 1 <= n <= len(box.uids):
                self.fail("FETCH %d of %d" % (n, len(box.uids)))
                return
            uid = box.uids[n - 1]
        if b"UID" in at and kind == b"FETCH":
            told = int(at[b"UID"])
            if uid is not None and uid != told:
                self.fail("message %d was UID %d, now %d" % (n, uid, told))
            if uid is None:
                if told in box.uids:
                    self.fail("UID %d twice" % told)
                box.uids[n - 1] = uid = told
            low = [u for u in box.uids[:n - 1] if u is not None]
            if low and low[-1] >= told:
                self.fail("UID %d behind %d" % (told, low[-1]))
        unasked = self.cmd not in ("FETCH", "STORE")
        if (unasked or self.cmd == "STORE") and kind == b"FETCH" and \
                b"UID" not in at and (self.condstore or
                                      "IMAP4REV2" in self.enabled):
            self.fail("FETCH without UID")
        if b"FLAGS" in at and self.condstore and b"MODSEQ" not in at:
            self.fail("FLAGS without MODSEQ")
        if b"MODSEQ" in at and uid is not None:
            value = int(at[b"MODSEQ"][0])
            if value < box.modseq.get(uid, 0):
                self.fail("MODSEQ of UID %d fell" % uid)
            box.modseq[uid] = value
        if b"FLAGS" in at:
            flags = {f.lower() for f in at[b"FLAGS"]}
            if b"\\recent" in flags and "IMAP4REV2" in self.enabled:
                self.fail("\\Recent to IMAP4rev2")
            if uid is not None:
                box.flags[uid] = frozenset(flags - {b"\\recent"})
                self.told.add(uid)
        self.items = at
        self.on_fetch(uid, at)

    def on_fetch(self, uid, items):
        """For who wants to know more of the answers."""
