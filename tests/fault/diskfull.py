"""diskfull.py BIN_DIR log|state [SECONDS] [SEED]: a disk that is full for SECONDS
(60) under load, and heals by itself.

log: the file system of the master's configdirectory is filled, so that the log
gets no further segment.  state: only that of the key-value store is (it lies on
a file system of its own), so that what the log took cannot be flushed.

Clients deliver and append all the time, a reader reads all the time.  Asked is:
a refusal is 452 4.3.1 by LMTP and NO [UNAVAILABLE] by IMAP and nothing else;
something was refused, by both; reading never fails; when there is room again mail
is taken without anybody doing anything, by the process that was there before; and
the ledger (tests/lib/ledger.py), on both twins, whose digests are equal.

Needs root for small file systems; else it says why and ends with 77.
"""

import os
import random
import sys
import threading
import time

TOP = os.path.dirname(os.path.abspath(__file__))
for folder in ("e2e", "lib"):
    sys.path.insert(0, os.path.join(TOP, os.pardir, folder))
from ledger import GONE, Ledger, Load, Verifier  # noqa: E402
from pollux import Failed, PairError, World, check  # noqa: E402
from pollux import check_equal, wait_for  # noqa: E402
from withstand import SmallDisk, need_root, no_crash, solid  # noqa: E402

USERS = ("alice", "bob")
DISK_MIB = 512
ALLOWED = {"452 4.3.1", "NO [UNAVAILABLE]"}
OPTIONS = {"sync_segment_bytes": "4M", "state_flush_bytes": "65536"}


class FullWorld(World):
    """As World, with WHAT of a on a small disk."""

    def __init__(self, bin_dir, what):
        super().__init__(bin_dir, OPTIONS)
        self.what = what
        self.disk = None

    def set_up(self, *args, **kwargs):
        place = "conf/state" if self.what == "state" else "conf"
        self.disk = SmallDisk(os.path.join(self.base, "a", place), DISK_MIB)
        super().set_up(*args, **kwargs)

    def __exit__(self, *why):
        self.kill()
        try:
            super().__exit__(*why)
        finally:
            if self.disk is not None:
                self.disk.close()


class Reader(threading.Thread):
    """Opens mailboxes and reads messages, as a mail program does."""

    def __init__(self, instance):
        super().__init__(daemon=True)
        self.instance = instance
        self.ending = threading.Event()
        self.reads = 0
        self.failed = None

    def run(self):
        try:
            while not self.ending.is_set():
                conn = self.instance.imap("alice", timeout=30)
                conn.select("INBOX", readonly=True)
                for _ in range(20):
                    kind, data = conn.fetch("1", "(UID BODY.PEEK[])")
                    check(kind == "OK" and len(data[0][1]) > 0, "FETCH")
                    self.reads += 1
                    self.ending.wait(0.02)
                conn.logout()
        except (Failed, *GONE) as e:
            self.failed = e


def fill_until_refused(world, load):
    """Keep it full until both protocols were refused."""
    def refused():
        world.disk.fill()
        got = load.refused()
        return all(text in got for text in ALLOWED)
    wait_for("refusals by LMTP and IMAP", refused, 300)


def full_for(world, load, ledger, seconds):
    """Full from the first refusals on for SECONDS; how much was taken then."""
    fill_until_refused(world, load)
    before = len(ledger.acked)
    ends = time.monotonic() + seconds
    wait_for("the minute to pass", lambda: time.monotonic() > ends,
             seconds + 5)
    return len(ledger.acked) - before


def run(bin_dir, what, seconds, seed):
    rng = random.Random(seed)
    ledger = Ledger()
    verifier = Verifier(ledger, USERS, make=solid)
    with FullWorld(bin_dir, what) as world:
        for user in USERS:  # INBOXes first: an APPEND does not make one
            world.a.imap(user).logout()
        pid = world.a.proc.pid
        with Load(world.a, ledger, USERS, rng, make=solid,
                  sizes=(400, 4000, 30000)) as load:
            wait_for("mail to be taken", lambda: len(ledger.acked) > 50, 60)
            reader = Reader(world.a)
            reader.start()
            taken = full_for(world, load, ledger, seconds)
            reads = reader.reads
            world.disk.release()
            began = time.monotonic()
            before = len(ledger.acked)
            wait_for("healing", lambda: len(ledger.acked) > before + 20, 60)
            healed_s = time.monotonic() - began
            reader.ending.set()
            reader.join(60)
            refused = load.refused()
        check(reader.failed is None, "reading failed: %s" % reader.failed)
        check(reads > seconds, "only %d reads in %d s" % (reads, seconds))
        check_equal(set(refused), ALLOWED, "answers that say no")
        check_equal(world.a.proc.pid, pid, "process")
        no_crash(world.a, world.b)
        world.wait_equal(timeout=90)
        verifier.look(world.a, world.b)
        world.a.stop()
        world.a.start()
        world.wait_equal(timeout=90)
        verifier.forget()
        verifier.look(world.a, world.b)
    print("%s full for %d s: %s; %d taken and %d reads meanwhile, mail again "
          "after %.2f s; %d acknowledged, %d there, lost 0 doubled 0 changed 0"
          % (what, seconds, refused, taken, reads, healed_s,
             len(ledger.acked), verifier.there()), flush=True)


def main(bin_dir, what, seconds, seed):
    try:
        run(bin_dir, what, seconds, seed)
    except (Failed, PairError) as e:
        print("FAILED: %s" % e)
        return 1
    return 0


if __name__ == "__main__":
    need_root()
    sys.exit(main(sys.argv[1], sys.argv[2],
                  float(sys.argv[3]) if len(sys.argv) > 3 else 60.0,
                  int(sys.argv[4]) if len(sys.argv) > 4
                  else random.SystemRandom().randrange(1 << 32)))
