"""Many clients do everything to the same mailboxes, on master and replica at
once, each with a model of what it may be told (imap_model.py).

imap_stress.py BIN_DIR SECONDS [CLIENTS] [SEED].  The seed decides what each
client does, not the scheduling; an odd one also limits the messages of a command
(RFC 9738).  Prints how often each command was given at either side, and every
violation; the exit code is 0 if there was none.

Checked: each untagged response against the command under way, and what NOTIFY
asked for; sequence numbers and UIDs; what SEARCH finds; results that are kept
level; that a UID names the same message for everybody, and a MODSEQ the same
flags; that caches come level by QRESYNC.  The time is cut into rounds, and at
the end of each, when all is quiet, each session's picture of its mailbox, of its
results and of the mailboxes that it watches is held against that of a fresh one,
and master against replica.  At the end no sanitizer has spoken.
"""

import collections
import os
import random
import re
import sys
import threading
import time
import traceback

from imap_client import FIXED_BOXES, Client, message
from imap_model import Gone, Session
from pollux import World

# All but STARTTLS, for which test_tls.py is there.
COMMANDS = """APPEND AUTHENTICATE CANCELUPDATE CAPABILITY CHECK CLOSE COMPRESS
    COPY CREATE DELETE DELETEACL ENABLE ESEARCH EXAMINE EXPUNGE FETCH GETACL
    GETMETADATA GETQUOTA GETQUOTAROOT ID IDLE LIST LISTRIGHTS LOGIN LOGOUT LSUB
    MOVE MYRIGHTS NAMESPACE NOOP NOTIFY RENAME REPLACE SEARCH SELECT SETACL
    SETMETADATA SETQUOTA SORT STATUS STORE SUBSCRIBE THREAD UNAUTHENTICATE
    UNSELECT UNSUBSCRIBE XLIST""".split()
ROUND_S = 40
LIMIT = 100


class Shared:
    """What all clients know together."""

    def __init__(self):
        self.wrong = []
        self.lock = threading.Lock()
        self.bodies = {}     # (mailboxid, uidvalidity, uid) -> number
        self.states = {}     # (mailboxid, uid, modseq) -> flags
        self.ids = {}        # name -> mailboxid, of those that stay
        self.validities = {}
        self.counts = collections.Counter()
        self.commands = collections.Counter()
        self.sides = {True: collections.Counter(),
                      False: collections.Counter()}
        self.next_number = 0
        self.stop = threading.Event()

    def number(self):
        with self.lock:
            self.next_number += 1
            return self.next_number

    def count(self, what, on_master):
        with self.lock:
            self.sides[on_master][what] += 1

    def is_message(self, session, uid, number):
        self.is_message_of(session, session.box.mailboxid, session.box.validity,
                           uid, number)

    def is_message_of(self, session, mailboxid, validity, uid, number):
        with self.lock:
            was = self.bodies.setdefault((mailboxid, validity, uid), number)
        if was != number:
            session.fail("UID %d is message %d, was %d" % (uid, number, was))

    def is_state(self, session, uid, modseq, flags):
        if session.box.mailboxid is None:
            return
        with self.lock:
            was = self.states.setdefault(
                (session.box.mailboxid, uid, modseq), flags)
        if was != flags:
            session.fail("UID %d at MODSEQ %d has %r, for somebody else %r" % (
                uid, modseq, sorted(flags), sorted(was)))


def picture_of(world, shared, instance):
    """{name: Box} as a fresh session sees them."""
    s = Session(instance, "alice", world.users["alice"], shared.wrong,
                "last look at %s" % instance.name, timeout=120)
    s.on_state = lambda *state: shared.is_state(s, *state)
    seen = {}
    try:
        s.do("ENABLE CONDSTORE")
        s.do('LIST "" *')
        for name in sorted(w[3] for w in s.data if w[0] == b"LIST"):
            s.do(b"EXAMINE " + name)
            top = "*"
            while s.box.uids:
                s.do("UID FETCH 1:%s (FLAGS)" % top, asked="(FLAGS)")
                if s.limited is None or s.limited == 1:
                    break
                top = s.limited - 1
            seen[name] = s.box
    finally:
        s.close()
    return seen


def compare(world, people, shared):
    """All is quiet: what each session knows, and both sides, are the same."""
    world.wait_equal(timeout=120)
    pictures = {i: picture_of(world, shared, i) for i in (world.a, world.b)}
    a, b = pictures[world.a], pictures[world.b]
    for name in sorted(set(a) | set(b)):
        if name not in a or name not in b or any(
                getattr(a[name], what) != getattr(b[name], what)
                for what in ("validity", "uidnext", "mailboxid", "uids",
                             "flags", "modseq")):
            shared.wrong.append("%r differs on master and replica" % name)
    settled = 0
    for p in people:
        picture = pictures[p.instance]
        try:
            settled += p.settle(picture, {n.decode() for n in picture})
        except Gone as e:
            if "was deleted" not in str(e):
                shared.wrong.append("%s: at the end: %s" % (p.s.name, e))
            p.s.close()
            p.s = None
        except Exception:
            shared.wrong.append("client %d: %s" % (p.index,
                                                   traceback.format_exc()))
            p.s = None
    return settled


def one_round(people, shared, end):
    shared.stop.clear()
    threads = [threading.Thread(target=p.run) for p in people]
    for t in threads:
        t.start()
    while time.monotonic() < end and len(shared.wrong) < 20:
        threads[0].join(0.1)  # they go on until they are stopped
    shared.stop.set()
    for t in threads:
        t.join()


def prepare(w, shared):
    first = w.a.imap("alice")
    for name in FIXED_BOXES[1:]:
        first.create(name)
    for _ in range(30):
        first.append("INBOX", None, None, message(shared.number()))
    first.logout()
    w.wait_equal()
    for name, box in picture_of(w, shared, w.a).items():
        shared.ids[name.decode()] = box.mailboxid
        shared.validities[name.decode()] = box.validity


def end_well(w, shared):
    """Both end as asked, and neither has complained."""
    for i in (w.a, w.b):
        rc = i.stop(timeout=120)
        if rc != 0:
            shared.wrong.append("instance %s ended with %r" % (i.name, rc))
        for path in (i.log, os.path.join(i.dir, "stderr")):
            with open(path, errors="replace") as f:
                text = f.read()
            found = re.search(r"Sanitizer|runtime error:|ENSURE|SERVERBUG"
                              r"|imap\\.command_failed", text)
            if found:
                shared.wrong.append("%s of %s says: %s" % (
                    os.path.basename(path), i.name,
                    text[max(0, found.start() - 200):found.start() + 4000]))


def main(bin_dir, seconds, clients=20, seed=1, one_in_replica=4):
    shared, settled, rounds = Shared(), 0, 0
    print("seed %d, %d clients, %d s" % (seed, clients, seconds), flush=True)
    # Small segments: an empty one is looked through, which takes long under TSan.
    with World(bin_dir, options={
            "sync_segment_bytes": "4M",
            "imap_message_limit": str(LIMIT if seed % 2 else 0)}) as w:
        prepare(w, shared)
        people = [Client(w, shared, i, random.Random(seed * 1000 + i),
                         w.b if i % one_in_replica == one_in_replica - 1
                         else w.a)
                  for i in range(clients)]
        end = time.monotonic() + seconds
        while time.monotonic() < end and not shared.wrong:
            one_round(people, shared,
                      min(end, time.monotonic() + min(ROUND_S, seconds / 2)))
            settled += compare(w, people, shared)
            rounds += 1
        if (w.a.role(), w.b.role()) != ("master", "replica"):
            shared.wrong.append("a is %s, b is %s" % (w.a.role(), w.b.role()))
        end_well(w, shared)
    for name in sorted(set(shared.sides[True]) | set(shared.sides[False])):
        print("%-28s %7d %7d" % (name, shared.sides[True][name],
                                 shared.sides[False][name]))
    print(" ".join("%s:%d" % c for c in sorted(shared.commands.items())))
    never = [c for c in COMMANDS if c not in shared.commands]
    if never:
        print("never given: " + " ".join(never))
        if seconds >= 300:
            shared.wrong.append("a long run has not given all commands")
    for name, n in sorted(shared.counts.items()):
        print("%-28s %7d" % (name, n))
    print("%d messages, %d UIDs and %d states of messages seen, %d pictures "
          "compared in %d rounds, %d violations" % (
              shared.next_number, len(shared.bodies), len(shared.states),
              settled, rounds, len(shared.wrong)))
    for text in shared.wrong[:20]:
        print("VIOLATION " + text)
    idle = [side for side, done in (("master", shared.sides[True]),
                                    ("replica", shared.sides[False]))
            if not done and clients >= one_in_replica]
    if settled == 0 or idle:
        print("VIOLATION nothing was compared, or nothing done at %r" % idle)
    return 1 if shared.wrong or settled == 0 or idle else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]),
                  *[int(a) for a in sys.argv[3:5]]))
