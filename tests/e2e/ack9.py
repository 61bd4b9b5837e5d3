"""ack9.py BIN_DIR ROUNDS [SEED]: sync_ack: durable, kill -9 of the master under
LMTP and APPEND load, and promotion of its replica.

What is asked after each promotion: tests/lib/ledger.py of the replica that is
the master now: whatever the dead one had acknowledged is there once, with its
bytes, although nothing was ever shipped after the kill.  Then the dead one comes
back (it is fenced, or follows by itself), rejoins, is equal, and shows the
same; and the next round kills the other one.
"""

import glob
import os
import random
import shutil
import sys
import time

from pollux import Failed, PairError, World, check, check_equal, wait_for

from ledger import Ledger, Load, Verifier

USERS = ("alice", "bob")
OPTIONS = {"sync_ack": "durable", "sync_ack_timeout": "5s",
           "sync_segment_bytes": "4M"}
READ_EACH = 50
SIZES = (300, 1000, 4000, 30000)


def streams(instance):
    return any(c["state"] == "streaming" and c["pid"]
               for c in instance.status().get("channels", []))


def come_back(world, old, new):
    """OLD, which was killed, follows NEW again."""
    old.start()

    def settled():
        here = old.status()["here"]
        return here if here.get("role") in ("replica", "fenced") and \
            here["epoch"] == new.status()["here"]["epoch"] else None
    here = wait_for("the old master to learn of the new one", settled, 60)
    left = here["role"] == "fenced"
    if left:
        wait_for("a rejoin", lambda: old.ctl("rejoin")[0] == 0, 60)
    world.wait_equal(asked=new, timeout=120)
    for path in glob.glob(os.path.join(old.dir, "conf", "discarded-*")) + \
            glob.glob(os.path.join(old.dir, "spool", "discarded-*")):
        shutil.rmtree(path, ignore_errors=True)
    return left


def one_round(world, ledger, verifier, master, replica, rng):
    before = len(ledger.acked)
    load = Load(master, ledger, USERS, rng, sizes=SIZES)
    with load:
        wait_for("mail to be taken", lambda: len(ledger.acked) > before + 20,
                 60)
        time.sleep(rng.uniform(0.0, 0.4))  # the random moment
        master.kill()
    acked = len(ledger.acked) - before
    replica.must("promote")
    verifier.look(replica)
    left = come_back(world, master, replica)
    verifier.look(replica, master)
    return acked, left


def rounds(bin_dir, count, seed):
    rng = random.Random(seed)
    ledger = Ledger()
    verifier = Verifier(ledger, USERS)
    began = time.monotonic()
    tails = 0
    print("seed %d" % seed, flush=True)
    with World(bin_dir, OPTIONS) as world:
        master, replica = world.a, world.b
        for user in USERS:
            world.a.imap(user).logout()
        for i in range(1, count + 1):
            round_began = time.monotonic()
            wait_for("the channel to stream", lambda: streams(master), 60)
            acked, left = one_round(world, ledger, verifier, master, replica,
                                    rng)
            tails += left
            master, replica = replica, master
            if i % READ_EACH == 0 or i == count:
                verifier.forget()
                verifier.look(world.a, world.b)
            print("round %d: %d acknowledged, %d in all, none missing%s "
                  "(%.1f s)" % (i, acked, len(ledger.acked),
                                ", a tail left behind" if left else "",
                                time.monotonic() - round_began), flush=True)
        acks = master.status()["acks"]
        check_equal(acks["state"], "waiting", "sync_ack at the end")
        check_equal(acks["alone"], 0, "groups answered without a replica")
    print("rounds %d sent %d acknowledged %d there %d missing 0 doubled 0, "
          "tails left behind %d (%.0f s)" % (
              count, len(ledger.begun), len(ledger.acked), verifier.there(),
              tails, time.monotonic() - began))


def main(bin_dir, count, seed):
    try:
        rounds(bin_dir, count, seed)
    except (Failed, PairError) as e:
        print("FAILED: %s" % e)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20,
                  int(sys.argv[3]) if len(sys.argv) > 3
                  else random.SystemRandom().randrange(1 << 32)))
