"""kill9.py BIN_DIR ROUNDS [SEED]: kill -9 of master, replica and sync_client in
turn, at random moments, under LMTP and APPEND load.

What is asked after each round: tests/lib/ledger.py, of both twins, which have
to show the same mail; and their digests are equal.  A round reads what is new.
Each 50 rounds bench/storecheck, where it was built, looks at all digests and
bodies of both stores; each 250 and at the end all mail is read again.

    master        killed and started again
    replica       the same
    sync_client   killed; the master starts it again
    twice         the master, and again while it recovers
    flushing      the master, while it writes its state out
    replica twice, replica flushing
"""

import os
import random
import signal
import subprocess
import sys
import time

from pollux import Failed, PairError, World, check, check_equal, wait_for

from ledger import Ledger, Load, Verifier

USERS = ("alice", "bob")
CHECK_EACH = 50
READ_EACH = 250
VICTIMS = ("master", "replica", "sync_client", "twice", "flushing",
           "replica twice", "master", "replica flushing")
# The state is flushed as often as it can be, and segments are small.
OPTIONS = {"state_flush_bytes": "65536", "sync_segment_bytes": "4M"}


def shipper_pid(world):
    """The process id of a's sync_client while it streams, or None."""
    for channel in world.a.status().get("channels", []):
        if channel["state"] == "streaming" and channel["pid"]:
            return channel["pid"]
    return None


def kill_sync_client(world):
    pid = wait_for("sync_client to stream", lambda: shipper_pid(world), 60)
    os.kill(pid, signal.SIGKILL)
    wait_for("sync_client to be started again",
             lambda: shipper_pid(world) not in (None, pid), 60)


def state_files(instance):
    return {n for n in os.listdir(os.path.join(instance.dir, "conf", "state"))
            if n.endswith(".sst")}


def kill(world, victim, rng):
    """Who VICTIM says, and start it again."""
    if victim == "sync_client":
        return kill_sync_client(world)
    instance = world.b if victim.startswith("replica") else world.a
    if victim.endswith("flushing"):
        before = state_files(instance)
        wait_for("a flush", lambda: state_files(instance) - before, 30)
    instance.kill()
    if victim.endswith("twice"):
        instance.start(wait=False)
        time.sleep(rng.uniform(0.0, 0.1))  # somewhere in the recovery
        instance.kill()
    instance.start(wait=False)


def one_round(world, ledger, verifier, victim, rng):
    before = len(ledger.acked)
    with Load(world.a, ledger, USERS, rng):
        wait_for("mail to be taken", lambda: len(ledger.acked) > before, 60)
        time.sleep(rng.uniform(0.0, 0.4))  # the random moment
        kill(world, victim, rng)
        at_kill = len(ledger.acked)
        wait_for("mail to be taken again",
                 lambda: len(ledger.acked) > at_kill + 5, 60)
    world.wait_equal(timeout=90)
    verifier.look(world.a, world.b)
    return len(ledger.acked) - before


def storecheck(world):
    """All digests and bodies of both, by a program of its own."""
    program = os.path.join(world.bin_dir, os.pardir, "bench", "storecheck")
    if not os.path.exists(program):
        return
    for i in (world.a, world.b):
        check_equal(i.stop(), 0, "exit code of " + i.name)
        done = subprocess.run(
            [program, "-d", os.path.join(i.dir, "conf"), "-s",
             os.path.join(i.dir, "spool")], capture_output=True, text=True)
        check(done.returncode == 0, "storecheck of %s: %s" % (i.name,
                                                              done.stderr))
    world.start()
    world.wait_equal(timeout=60)


def rounds(bin_dir, count, seed):
    rng = random.Random(seed)
    ledger = Ledger()
    verifier = Verifier(ledger, USERS)
    began = time.monotonic()
    print("seed %d" % seed, flush=True)
    with World(bin_dir, OPTIONS) as world:
        # INBOXes first: an APPEND does not make one.
        for user in USERS:
            world.a.imap(user).logout()
        for i in range(1, count + 1):
            victim = VICTIMS[i % len(VICTIMS)]
            round_began = time.monotonic()
            acked = one_round(world, ledger, verifier, victim, rng)
            if i % CHECK_EACH == 0 or i == count:
                storecheck(world)
            if i % READ_EACH == 0 or i == count:
                verifier.forget()
                verifier.look(world.a, world.b)
            print("round %d: kill -9 %s: %d acknowledged, %d in all, equal "
                  "(%.1f s)" % (i, victim, acked, len(ledger.acked),
                                time.monotonic() - round_began), flush=True)
        check_equal(world.a.role(), "master", "role at the end")
        check_equal(world.a.ctl("status")[0], 0, "exit code of status")
    print("rounds %d sent %d acknowledged %d there %d lost 0 doubled 0 "
          "changed 0 (%.0f s)" % (count, len(ledger.begun), len(ledger.acked),
                                  verifier.there(), time.monotonic() - began))


def main(bin_dir, count, seed):
    try:
        rounds(bin_dir, count, seed)
    except (Failed, PairError) as e:
        print("FAILED: %s" % e)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]),
                  int(sys.argv[3]) if len(sys.argv) > 3
                  else random.SystemRandom().randrange(1 << 32)))
