"""kill9.py BIN_DIR ROUNDS [SEED]: kill -9 of master, replica and sync_client in
turn, at random moments, under LMTP and APPEND load.

The ledger: every message has a number; a client notes it when it begins to
send, and again when it was acknowledged.  After each round every acknowledged
message has to be in its mailbox exactly once with the bytes that were sent,
nothing may be there that nobody sent, and the digests of both twins are equal.
"""

import imaplib
import os
import random
import signal
import smtplib
import sys
import threading
import time

from pollux import World, Failed, check, check_equal, fetch, message, number_of
from pollux import wait_for

LMTP_CLIENTS = 3
APPEND_CLIENTS = 2
USERS = ("alice", "bob")
GONE = (OSError, EOFError, smtplib.SMTPException, imaplib.IMAP4.error)


class Ledger:
    """What was sent to whom, and what was acknowledged."""

    def __init__(self):
        self.lock = threading.Lock()
        self.next = 1
        self.begun = {}  # number -> (user, size, by)
        self.acked = set()

    def begin(self, user, size, by):
        with self.lock:
            number = self.next
            self.next += 1
            self.begun[number] = (user, size, by)
            return number

    def ack(self, number):
        with self.lock:
            self.acked.add(number)


class Client(threading.Thread):
    """Sends as fast as it is answered, and connects again when it is cut."""

    def __init__(self, world, ledger, seed, by):
        super().__init__(daemon=True)
        self.world = world
        self.ledger = ledger
        self.random = random.Random(seed)
        self.by = by
        self.conn = None
        self.user = None
        self.ending = threading.Event()
        self.refused = 0

    def send_lmtp(self):
        if self.conn is None:
            self.conn = self.world.a.lmtp(timeout=10)
        user, size = self.choose()
        number = self.ledger.begin(user, size, self.by)
        codes = self.world.a.deliver(self.conn, [user],
                                     message(number, size, user))
        if codes == [250]:
            self.ledger.ack(number)
        else:
            self.refused += 1

    def send_append(self):
        user, size = self.choose()
        if self.conn is None or self.user != user:
            self.hang_up()
            self.conn = self.world.a.imap(user, timeout=10)
            self.user = user
        number = self.ledger.begin(user, size, self.by)
        kind, _ = self.conn.append("INBOX", None, None,
                                   message(number, size, user))
        if kind == "OK":
            self.ledger.ack(number)
        else:
            self.refused += 1

    def choose(self):
        # Mostly small ones, some that have a record of their own.
        size = self.random.choice((300, 1000, 4000, 4000, 30000, 300000))
        user = self.user if self.user and self.random.random() < 0.8 else \
            self.random.choice(USERS)
        return user, size

    def hang_up(self):
        if self.conn is not None:
            try:
                if self.by == "lmtp":
                    self.conn.close()
                else:
                    self.conn.shutdown()
            except GONE:
                pass
        self.conn = None

    def run(self):
        send = self.send_lmtp if self.by == "lmtp" else self.send_append
        while not self.ending.is_set():
            try:
                send()
            except GONE:
                self.hang_up()
                self.ending.wait(0.01)  # until it is there again
        self.hang_up()


class Verifier:
    """Reads what came since the last look, so that a round costs what is new."""

    def __init__(self, ledger):
        self.ledger = ledger
        self.last_uid = {u: 0 for u in USERS}
        self.seen = {u: {} for u in USERS}  # number -> uid

    def take(self, user, uid, raw):
        number = number_of(raw)
        check(number in self.ledger.begun,
              "UID %d of %s was never sent" % (uid, user))
        check(number not in self.seen[user],
              "message %s of %s is there twice: UIDs %s and %d" % (
                  number, user, self.seen[user].get(number), uid))
        to, size, by = self.ledger.begun[number]
        check_equal(to, user, "recipient of message %d" % number)
        sent = message(number, size, to)
        same = raw == sent if by == "append" else raw.endswith(sent)
        check(same, "message %d of %s was changed (%s, %d bytes, %d sent)" % (
            number, user, by, len(raw), len(sent)))
        self.seen[user][number] = uid

    def new_of(self, instance, user):
        conn = instance.imap(user, timeout=60)
        try:
            kind, data = conn.select("INBOX", readonly=True)
            if kind != "OK":
                return 0, []
            return int(data[0]), fetch(conn, self.last_uid[user] + 1)
        finally:
            conn.logout()

    def look(self, world):
        for user in USERS:
            exists, new = self.new_of(world.a, user)
            there, twin_new = self.new_of(world.b, user)
            check(new == twin_new, "the twins show different mail of " + user)
            check_equal(there, exists, "messages of %s on the twin" % user)
            for uid, raw in new:
                self.take(user, uid, raw)
                self.last_uid[user] = uid
            check_equal(exists, len(self.seen[user]), "messages of " + user)
        lost = [n for n in self.ledger.acked
                if n not in self.seen[self.ledger.begun[n][0]]]
        check(not lost, "acknowledged and lost: %s" % sorted(lost)[:20])


def shipper_pid(world):
    """The process id of a's sync_client while it streams, or None."""
    for channel in world.a.status().get("channels", []):
        if channel["state"] == "streaming" and channel["pid"]:
            return channel["pid"]
    return None


def kill(world, victim):
    if victim == "sync_client":
        pid = wait_for("sync_client to stream", lambda: shipper_pid(world), 60)
        os.kill(pid, signal.SIGKILL)
        wait_for("sync_client to be started again",
                 lambda: shipper_pid(world) not in (None, pid), 60)
        return
    instance = world.a if victim == "master" else world.b
    instance.kill()
    instance.start()
    if victim == "master":
        check_equal(instance.role(), "master", "role after the restart")


def one_round(world, ledger, verifier, victim, rng):
    clients = [Client(world, ledger, rng.random(), "lmtp")
               for _ in range(LMTP_CLIENTS)]
    clients += [Client(world, ledger, rng.random(), "append")
                for _ in range(APPEND_CLIENTS)]
    before = len(ledger.acked)
    for c in clients:
        c.start()
    time.sleep(rng.uniform(0.05, 1.0))  # the random moment
    at_kill = len(ledger.acked)
    kill(world, victim)
    wait_for("mail to be taken again",
             lambda: len(ledger.acked) > at_kill + 5, 60)
    for c in clients:
        c.ending.set()
    for c in clients:
        c.join(60)
        check(not c.is_alive(), "a client hangs")
    world.wait_equal(timeout=90)
    verifier.look(world)
    return len(ledger.acked) - before


def rounds(bin_dir, count, seed):
    rng = random.Random(seed)
    ledger = Ledger()
    verifier = Verifier(ledger)
    print("seed %d" % seed, flush=True)
    with World(bin_dir) as world:
        # INBOXes first: an APPEND does not make one.
        world.deliver_all(world.a, [0])
        ledger.begun[0] = ("alice", 400, "lmtp")
        ledger.acked.add(0)
        world.a.imap("bob").logout()
        for i in range(count):
            victim = ("master", "replica", "sync_client")[i % 3]
            began = time.monotonic()
            acked = one_round(world, ledger, verifier, victim, rng)
            print("round %d: kill -9 %s: %d acknowledged, %d in all, equal "
                  "(%.1f s)" % (i + 1, victim, acked, len(ledger.acked),
                                time.monotonic() - began), flush=True)
        verifier.last_uid = {u: 0 for u in USERS}
        verifier.seen = {u: {} for u in USERS}
        verifier.look(world)  # all of it once more
        check_equal(world.a.ctl("status")[0], 0, "exit code of status")
    there = sum(len(s) for s in verifier.seen.values())
    print("rounds %d sent %d acknowledged %d there %d lost 0 doubled 0 "
          "changed 0" % (count, len(ledger.begun), len(ledger.acked), there))


def main(bin_dir, count, seed):
    try:
        rounds(bin_dir, count, seed)
    except Failed as e:
        print("FAILED: %s" % e)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]),
                  int(sys.argv[3]) if len(sys.argv) > 3
                  else random.SystemRandom().randrange(1 << 32)))
