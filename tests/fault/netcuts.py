"""netcuts.py BIN_DIR ROUNDS [SEED]: the way to the replica is cut, in turn and
at random moments, under LMTP and APPEND load; root, nft (package nftables).

    both        nothing passes, either way
    there       nothing passes from the master to the replica
    back        nothing passes from the replica to the master
    reset       connections are answered with a TCP reset
    half-open   nothing passes, and meanwhile the replica is killed (-9) and
                started again: the master holds a connection that nobody has
    loss        30 % of the packets are lost
    throttle    1 MB/s

All of it happens in a network namespace of its own, where the rules are about
the csync port only.  After each round both hold the same, by their digests, and
the ledger says so of the mail (tests/lib/ledger.py).  The master takes mail in
every cut.

netcuts.py BIN_DIR rate: deliveries a second of a master alone, and of one whose
replica cannot be reached, in turns; the latter has to be 0.95 of the former
(bench/mailload beside BIN_DIR)."""

import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir, "e2e"))
from pollux import Failed, PairError, World, check, check_equal  # noqa: E402
from pollux import wait_for  # noqa: E402
from ledger import Ledger, Load, Verifier  # noqa: E402

SKIP = 77
USERS = ("alice", "bob")
INSIDE = "POLLUX_NETCUTS"
CUTS = ("both", "there", "back", "reset", "half-open", "loss", "throttle")
# The mail of a round: some has to come through 1 MB/s.
SIZES = (300, 1000, 4000, 30000)
# What silence is noticed by (csync/ship_stream.c) takes 10 s; so long each so many
# rounds.
LONG_EACH = 15
LONG_S = 12


def why_not():
    """Why it cannot be done here, or None."""
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("nft") is None or shutil.which("unshare") is None:
        return "nft (package nftables) and unshare are needed"
    probe = ("ip link set lo up; nft add table inet t; "
             "nft 'add chain inet t o { type filter hook output priority 0; }';"
             "nft 'add rule inet t o tcp dport 9 numgen random mod 100 < 30 "
             "drop'; nft 'add rule inet t o tcp dport 9 reject with tcp reset'")
    done = subprocess.run(["unshare", "-n", "sh", "-ec", probe],
                          capture_output=True, text=True)
    return None if done.returncode == 0 else "no namespace or no rules: " + \
        done.stderr.strip().splitlines()[-1]


class Wire:
    """The rules of this namespace for the replica's csync port."""

    def __init__(self, port):
        self.port = port
        self.nft("add table inet cut",
                 "add chain inet cut out { type filter hook output priority 0; }")

    def nft(self, *lines):
        subprocess.run(["nft", "-f", "-"], input="\n".join(lines) + "\n",
                       text=True, check=True, capture_output=True)

    def cut(self, kind):
        there = "tcp dport %d " % self.port
        back = "tcp sport %d " % self.port
        ways = {"there": [there], "back": [back]}.get(kind, [there, back])
        verdict = {"reset": "reject with tcp reset",
                   "loss": "numgen random mod 100 < 30 drop",
                   "throttle": "limit rate over 1 mbytes/second burst 64 "
                               "kbytes drop"}.get(kind, "drop")
        self.nft(*["add rule inet cut out " + way + verdict for way in ways])

    def mend(self):
        self.nft("flush chain inet cut out")


def one_round(world, wire, ledger, verifier, kind, rng, long):
    before = len(ledger.acked)
    with Load(world.a, ledger, USERS, rng, sizes=SIZES):
        wait_for("mail to be taken", lambda: len(ledger.acked) > before + 5, 60)
        time.sleep(rng.uniform(0.0, 0.3))  # the random moment
        wire.cut(kind)
        try:
            at_cut = len(ledger.acked)
            ends = time.monotonic() + (LONG_S if long else
                                       rng.uniform(0.2, 2.5))
            if kind == "half-open":
                world.b.kill()
                world.b.start(wait=False)
            wait_for("mail to be taken behind the cut",
                     lambda: len(ledger.acked) > at_cut + 5, 60)
            while time.monotonic() < ends:
                time.sleep(0.02)
        finally:
            wire.mend()
    if kind == "half-open":
        world.b.wait_up()
    world.wait_equal(timeout=90)
    verifier.look(world.a, world.b)
    return len(ledger.acked) - before


def rounds(bin_dir, count, seed):
    rng = random.Random(seed)
    ledger = Ledger()
    verifier = Verifier(ledger, USERS)
    began = time.monotonic()
    print("seed %d" % seed, flush=True)
    with World(bin_dir) as world:
        wire = Wire(world.b.csync_port)
        for user in USERS:
            world.a.imap(user).logout()
        for i in range(1, count + 1):
            kind = CUTS[i % len(CUTS)]
            round_began = time.monotonic()
            took = one_round(world, wire, ledger, verifier, kind, rng,
                             i % LONG_EACH == 0)
            print("round %d: %s: %d acknowledged, equal (%.1f s)" % (
                i, kind, took, time.monotonic() - round_began), flush=True)
        verifier.forget()
        verifier.look(world.a, world.b)
        check_equal(world.a.ctl("status")[0], 0, "exit code of status")
    print("rounds %d sent %d acknowledged %d there %d unequal 0 lost 0 (%.0f s)"
          % (count, len(ledger.begun), len(ledger.acked), verifier.there(),
             time.monotonic() - began))


# ---- the rate ---------------------------------------------------------------

def a_rate(bin_dir, world, seconds):
    done = subprocess.run(
        [os.path.join(bin_dir, os.pardir, "bench", "mailload"), "-h",
         world.a.host, "-p", str(world.a.lmtp_port), "-c", "8", "-b", "4096",
         "-U", "alice", "-w", "0", "-t", str(seconds)], capture_output=True,
        text=True, timeout=seconds + 60)
    check(done.returncode == 0, "mailload: " + done.stderr)
    return json.loads(done.stdout)["per_s"]


def one_master(stack, bin_dir, with_replica):
    world = World(bin_dir, start=False, promote=False)
    make = world.set_up
    world.set_up = lambda: make(rolling=with_replica)
    stack.enter_context(world)
    wire = Wire(world.b.csync_port)
    if with_replica:
        # Nobody listens; from now on nobody even answers.
        wire.cut("both")
        stack.callback(wire.nft, "delete table inet cut")
    world.a.start()
    world.a.must("promote", "--force", timeout=120)
    world.a.imap("alice").logout()
    a_rate(bin_dir, world, 2)
    return world


def rate(bin_dir, seconds=2, turns=15):
    """Two masters, turn by turn: the disk is another one a minute later."""
    runs = []
    with contextlib.ExitStack() as stack:
        masters = [one_master(stack, bin_dir, with_replica)
                   for with_replica in (False, True)]
        for turn in range(turns):
            said = {}
            for k in (0, 1) if turn % 2 else (1, 0):
                said[k] = a_rate(bin_dir, masters[k], seconds)
            runs.append((said[0], said[1]))
            print("alone %.0f/s, with an unreachable replica %.0f/s" % (
                said[0], said[1]), flush=True)
    alone, away = (statistics.median(r[k] for r in runs) for k in (0, 1))
    times = statistics.median(r[1] / r[0] for r in runs)
    print("medians of %d turns: alone %.0f/s, with an unreachable replica "
          "%.0f/s: %.3f times" % (turns, alone, away, times))
    return 0 if times >= 0.95 else 1


def main(bin_dir, count, seed):
    reason = why_not()
    if reason is not None:
        print("skipped: " + reason)
        return SKIP
    if os.environ.get(INSIDE) != "1":
        args = [sys.executable, os.path.abspath(__file__), bin_dir, str(count),
                str(seed)]
        return subprocess.run(
            ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"',
             "sh", *args], env={**os.environ, INSIDE: "1"}).returncode
    try:
        if count == "rate":
            return rate(bin_dir)
        rounds(bin_dir, int(count), int(seed))
    except (Failed, PairError) as e:
        print("FAILED: %s" % e)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2],
                  int(sys.argv[3]) if len(sys.argv) > 3
                  else random.SystemRandom().randrange(1 << 32)))
