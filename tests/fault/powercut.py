"""powercut.py BIN_DIR ext4|xfs CYCLES [SEED]: the power goes under load, again
and again, and nothing that was acknowledged is missed.

An instance has its configdirectory and its partition on a file system of its
own (tests/lib/cutdisk.py).  Clients deliver by LMTP and APPEND; at a random
moment the file system is shut down below it by the ioctl, which loses what was
not synced, the instance is killed, the file system mounted again (journal
recovery) and the instance started.  In each third cycle the power goes a second
time while it starts.

What is asked after each cycle: tests/lib/ledger.py.  Each 25 cycles and at the
end all messages are read again, and bench/storecheck, where it was built, looks
at all digests and bodies.  Needs root; else it says why and ends with 77.

What it cannot show: single sectors that are torn or written in another order by
the device itself; tests/sim and tests/store do.
"""

import os
import random
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.abspath(__file__))
for folder in ("e2e", "lib"):
    sys.path.insert(0, os.path.join(TOP, os.pardir, folder))
from cutdisk import (WAYS, CutDisk, own_mounts, room_in_memory,  # noqa: E402
                     why_not)
from ledger import Ledger, Load, Verifier  # noqa: E402
from pollux import Failed, PairError, World, check  # noqa: E402
from pollux import check_equal, wait_for  # noqa: E402

SKIP = 77
USERS = ("alice", "bob")
DISK_MIB = 2048
WHOLE_EACH = 25
# Small segments, so that the log begins a new one now and then.
OPTIONS = {"sync_segment_bytes": "4M"}


class CutWorld(World):
    """Instance a alone, its data on a CutDisk."""

    def __init__(self, bin_dir, fs):
        super().__init__(bin_dir, OPTIONS, start=False)
        self.fs = fs
        self.disk = None

    def set_up(self):
        super().set_up(rolling=False)
        self.disk = CutDisk(os.path.join(self.tmp, "disk"), self.fs, DISK_MIB,
                            room_in_memory(DISK_MIB))
        self.a.configure(rolling=False, options={
            "configdirectory": os.path.join(self.disk.path, "conf"),
            "partition-default": os.path.join(self.disk.path, "spool"),
        })
        with open(self.a.imapd_conf) as f:
            lines = [x for x in f if not x.startswith("sync_host:")]
        with open(self.a.imapd_conf, "w") as f:
            f.writelines(lines)
        self.a.start()

    def __exit__(self, *why):
        self.kill()
        if self.disk is not None:
            self.disk.close()
        super().__exit__(*why)

    def cut(self, way):
        """The power goes, and comes back."""
        self.disk.cut(way)
        self.a.kill()
        # The kernel may take a moment to let go of a killed process's files.
        wait_for("unmounting", lambda: self.disk.unmount() or True, 20)
        self.disk.mount()


def serves(world):
    conn = world.a.lmtp(timeout=60)
    conn.close()
    return True


def start_again(world, rng, twice):
    if twice:
        world.a.start(wait=False)
        time.sleep(rng.uniform(0.0, 0.15))  # a random moment of the recovery
        world.cut(rng.choice(WAYS))
    world.a.start(wait=False)
    wait_for("the instance to serve", lambda: serves(world), 60)


def storecheck(world):
    """All digests and bodies, by a program of its own."""
    program = os.path.join(world.bin_dir, os.pardir, "bench", "storecheck")
    if not os.path.exists(program):
        return
    check_equal(world.a.stop(), 0, "exit code of the instance")
    done = subprocess.run(
        [program, "-d", os.path.join(world.disk.path, "conf"), "-s",
         os.path.join(world.disk.path, "spool")],
        capture_output=True, text=True)
    check(done.returncode == 0, "storecheck: " + done.stderr)
    world.a.start()


def cycles(bin_dir, fs, count, seed, quiet=False):
    rng = random.Random(seed)
    ledger = Ledger()
    verifier = Verifier(ledger, USERS)
    began = time.monotonic()
    late = 0  # acknowledged while the power went: not counted
    print("%s: seed %d" % (fs, seed), flush=True)
    with CutWorld(bin_dir, fs) as world:
        for user in USERS:  # INBOXes first: an APPEND does not make one
            world.a.imap(user).logout()
        for i in range(1, count + 1):
            round_began = time.monotonic()
            before = len(ledger.acked)
            with Load(world.a, ledger, USERS, rng):
                wait_for("mail to be taken",
                         lambda: len(ledger.acked) > before, 60)
                time.sleep(rng.uniform(0.0, 0.5))  # the random moment
                went = time.monotonic()
                world.cut(WAYS[i % len(WAYS)])
            # The ioctl takes a moment, in which both file systems may answer a
            # sync with success whose blocks never become part of the file
            # (README.md).
            late += ledger.power_went(went)
            start_again(world, rng, i % 3 == 0)
            if i % WHOLE_EACH == 0 or i == count:
                verifier.forget()
                storecheck(world)
            verifier.look(world.a)
            if not quiet:
                print("%s cycle %d: %d acknowledged, %d in all (%.1f s)" % (
                    fs, i, len(ledger.acked) - before, len(ledger.acked),
                    time.monotonic() - round_began), flush=True)
    print("%s cycles %d sent %d acknowledged %d there %d lost 0 doubled 0 "
          "changed 0; %d answers while the power went (%.0f s)" % (
              fs, count, len(ledger.begun), len(ledger.acked),
              verifier.there(), late, time.monotonic() - began), flush=True)


def main(bin_dir, fs, count, seed):
    reason = why_not(fs)
    if reason is not None:
        print("skipped: %s" % reason)
        return SKIP
    try:
        cycles(bin_dir, fs, count, seed)
    except (Failed, PairError) as e:
        print("FAILED: %s" % e)
        return 1
    return 0


if __name__ == "__main__":
    own_mounts()
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]),
                  int(sys.argv[4]) if len(sys.argv) > 4
                  else random.SystemRandom().randrange(1 << 32)))
