#!/usr/bin/env python3
"""Random bits, turned over one at a time in log, packs, database and cache of
one twin, stopped and running.

    damage_flips.py BIN_DIR [N [SEED]]       N of each kind, 100 if not given

After each: all that is served over IMAP is what was delivered, or NIL with a NO;
then all is whole again, repaired from the twin (digests and every message
equal), or the instance had stopped with one sentence that says what to do, and
doing that made it whole.  The other twin runs all the time.  The scrubber goes
round and round: an instance that ran is "unhurt" only when a whole round since
the flip has found nothing.  What is in the cache never stops an instance.
"""

import os
import random
import re
import shutil
import subprocess
import sys
import time

from pollux import (Failed, World, check, check_equal, tail, wait_for)

MESSAGES = 60
KINDS = ("log", "pack", "sst", "cache")
# So often the twin is promoted for what a stopped instance says.
PROMOTIONS = 2
SCRUB = {"scrub_rate": "1G", "scrub_interval": "1s"}


def used_bytes(path):
    """Where the last byte that is not zero lies."""
    with open(path, "rb") as f:
        return len(f.read().rstrip(b"\0"))


class Flips:
    def __init__(self, world, seed):
        self.w = world
        self.rng = random.Random(seed)
        self.copies = {}
        self.outcomes = {}
        self.promotions = 0

    # ---- the world ----

    def build(self):
        """a: all bodies in the log, which begins at 1.  b: seeded, so they lie
        in packs, and its log begins later; some more in its log."""
        w = self.w
        w.deliver_all(w.a, range(MESSAGES))
        w.deliver_all(w.a, range(MESSAGES, MESSAGES + 6), size=70000)
        w.wait_equal()
        w.b.must("rejoin")
        wait_for("b to be seeded", lambda: w.wait_equal(timeout=5), 60)
        w.deliver_all(w.a, range(MESSAGES + 6, MESSAGES + 16))
        w.wait_equal()
        self.want = self.read(w.a)
        check_equal(len(self.want), MESSAGES + 16, "messages")
        for side in (w.a, w.b):
            side.stop()
            copy = side.dir + ".copy"
            subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always",
                            side.dir, copy], check=True)
            self.copies[side] = copy
            side.start()
        w.wait_equal()

    def restore(self, side):
        side.kill()
        shutil.rmtree(side.dir)
        subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always",
                        self.copies[side], side.dir], check=True)

    def files(self, side, kind):
        found = []
        for base, dirs, names in os.walk(side.dir):
            dirs[:] = [d for d in dirs if not re.match(
                r"discarded|damaged-state", d)]
            for name in names:
                if (kind == "log" and re.match(r"seg-.*\.plx$", name) or
                        kind == "pack" and re.match(r"pack-.*\.plx$", name) or
                        base.endswith({"sst": "/state", "cache": "/cache"}.get(
                            kind, "/-")) and re.match(
                            r".*\.sst$|MANIFEST-|CURRENT$|OPTIONS-|IDENTITY$",
                            name)):
                    found.append(os.path.join(base, name))
        return sorted(found)

    def flip(self, side, kind):
        files = [(p, used_bytes(p)) for p in self.files(side, kind)]
        at = self.rng.randrange(sum(n for _, n in files))
        for path, n in files:
            if at < n:
                break
            at -= n
        bit = self.rng.randrange(8)
        with open(path, "r+b") as f:
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ 1 << bit]))
        return "%s offset %d bit %d" % (os.path.relpath(path, side.dir), at,
                                        bit)

    # ---- what is served ----

    def read(self, side):
        """{uid: bytes, or None for NIL}; a NIL wants a NO."""
        conn = side.imap("alice")
        try:
            kind, data = conn.select("INBOX", readonly=True)
            if kind != "OK":
                check(b"CORRUPTION" in data[0] or b"UNAVAILABLE" in data[0],
                      "SELECT says %r" % data)
                return {}
            kind, data = conn.uid("FETCH", "1:*", "(UID BODY.PEEK[])")
            if kind != "OK":
                check(b"CORRUPTION" in data[-1] or b"UNAVAILABLE" in data[-1],
                      "FETCH says %r" % data)
                data = conn.response("FETCH")[1]
            got = {}
            for part in data:
                if isinstance(part, tuple):
                    uid = int(re.search(rb"UID (\d+)", part[0]).group(1))
                    got[uid] = part[1]
                elif part and b"NIL" in part:
                    check_equal(kind, "NO", "answer with a NIL")
            return got
        finally:
            try:
                conn.logout()
            except Exception:
                pass

    def check_served(self, side):
        """Nothing wrong is served; True if all is."""
        got = self.read(side)
        for uid, raw in got.items():
            check(self.want.get(uid) == raw, "uid %d: wrong bytes" % uid)
        return len(got) == len(self.want)

    def alive(self, side):
        return side.proc is not None and side.proc.poll() is None

    def said(self, side):
        text = tail(os.path.join(side.dir, "stderr"), 3)
        for line in tail(side.log, 40).splitlines():
            if "master.fatal" in line or "master.failed" in line:
                text += line
        return text

    def obey(self, side):
        """The instance has ended: do what its sentence says."""
        text = self.said(side)
        if side.proc is not None:
            side.proc.wait(30)
        side.kill()
        open(os.path.join(side.dir, "stderr"), "w").close()
        if "synclog repair" in text:
            done = subprocess.run(
                [os.path.join(self.w.bin_dir, "synclog"), "repair", "-C",
                 side.imapd_conf], capture_output=True, text=True, timeout=60)
            if done.returncode == 0:
                check(self.start(side), "it does not start after 'synclog "
                      "repair': " + self.said(side))
                return "repaired"
            text = done.stderr
        check("ctl_failover rejoin" in text, "no advice in %r" % text)
        if side is self.w.a:  # its twin would be promoted: see test_damage.py
            if self.start(side):
                return "rebuilt"
            if self.promotions < PROMOTIONS:
                self.promotions += 1
                return self.promote_twin()
            self.restore(side)
            check(self.start(side), "the copy does not start")
            return "stopped"
        side.must("rejoin")
        check(self.start(side), "it does not start to rejoin")
        return "rejoined"

    def promote_twin(self):
        """a does not start: b is promoted, a seeded by it; both are equal."""
        w = self.w
        w.b.must("promote", "--force")
        w.a.must("rejoin")
        check(self.start(w.a), "it does not start to rejoin")
        wait_for("a to be seeded by b", lambda: all(
            self.read(side) == self.want for side in (w.a, w.b)) and
            w.b.status().get("digests") == "equal", 60)
        for side in (w.a, w.b):  # both, before one meets the other's epoch
            self.restore(side)
        for side in (w.a, w.b):
            check(self.start(side), "the copy does not start")
        w.wait_equal()
        return "promoted"

    def scrubbed(self, side):
        """Wait until a round that began from now on has ended; or side has."""
        for _ in range(2):
            def ended():
                return side.status()["scrub_ended_us"]
            try:
                before = ended()
                wait_for("a round of the scrubber", lambda: not self.alive(
                    side) or ended() != before, 60)
            except (Failed, KeyError, OSError):
                if self.alive(side):
                    raise
            if not self.alive(side):
                return

    def start(self, side):
        side.start(wait=False)

        def up():
            if side.proc.poll() is not None:
                return True
            return side.role() is not None
        wait_for("%s to start or end" % side.name, up, 60)
        if not self.alive(side):
            return False
        try:
            side.wait_up()
        except SystemExit:
            return False
        return True

    def whole(self, side):
        """All served, nothing damaged any more, digests equal; or ended."""
        def done():
            if not self.alive(side):
                return True
            status = side.status()
            return (status.get("digests") == "equal" and
                    status["lag_records"] == 0 and status["damaged"] == 0)
        wait_for("it to be whole", done, 40)
        return self.alive(side)

    def settle(self, side, how):
        """Read until all is whole, obeying what is said; how it went."""
        for _ in range(4):
            if not self.alive(side):
                how = self.obey(side)
                if how == "rejoined":
                    wait_for("the seed", lambda: self.whole(side), 60)
                continue
            try:
                served = self.check_served(side)
            except (OSError, EOFError) as e:
                wait_for("it to end after %s" % e,
                         lambda: not self.alive(side), 20)
                continue
            except Exception as e:
                if "abort" not in type(e).__name__:
                    raise
                continue
            if self.whole(side) and served:
                return how
            if self.alive(side) and self.check_served(side):
                return "healed" if how == "unhurt" else how
        raise Failed("it does not become whole")

    def one(self, side, kind, stopped):
        where = "?"
        try:
            if stopped:
                side.stop()
            where = self.flip(side, kind)
            healed = 0
            if stopped:
                self.start(side)
            else:
                healed = side.status()["healed"]
                self.scrubbed(side)
            how = self.settle(side, "unhurt")
            check(kind != "cache" or how == "unhurt",
                  "damage of the cache: " + how)
            if how == "unhurt" and side.status()["healed"] > healed:
                how = "healed"
        except Exception as e:
            print("FAILED after %s of %s (%s, %s): %s" % (
                where, side.name, kind, "stopped" if stopped else "running",
                e))
            print("%s\n%s" % (self.said(side), tail(side.log, 30)))
            raise
        key = (kind, "stopped" if stopped else "running", how)
        self.outcomes[key] = self.outcomes.get(key, 0) + 1
        # What was not looked at must not meet the next one.
        if not stopped or how not in ("unhurt", "healed"):
            return
        self.restore(side)
        check(self.start(side), "the copy does not start")


def run_flips(world, n, seed):
    flips = Flips(world, seed)
    flips.build()
    began = time.monotonic()
    for i in range(n):
        for kind in KINDS:
            side = (world.b if kind == "pack" or
                    (kind in ("sst", "cache") and i % 4 > 1) else world.a)
            stopped = i % 2 == 0
            flips.one(side, kind, stopped)
            if not stopped:
                flips.restore(side)
                check(flips.start(side), "the copy does not start")
    for key in sorted(flips.outcomes):
        print("  %-5s %-8s %-9s %d" % (*key, flips.outcomes[key]))
    print("  %d flips, seed %d, %.0f s" % (len(KINDS) * n, seed,
                                           time.monotonic() - began))


if __name__ == "__main__":
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    start = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    with World(sys.argv[1], {"sync_segment_bytes": "8M", **SCRUB}) as w:
        run_flips(w, count, start)
