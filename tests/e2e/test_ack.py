"""sync_ack with a replica that stays away: what clients are told under either
policy, what they see, and a swap under load.  test_ack.py BIN_DIR [TEST ...]."""

import random

from pollux import World, check, check_equal, log_has, message, numbers
from pollux import run, wait_for

from ledger import Ledger, Load, Verifier

FAST = {"sync_ack": "durable", "sync_ack_timeout": "1s"}


def acks(instance):
    return instance.status()["acks"]


def lines(instance, event):
    with open(instance.log) as f:
        return sum(event in line for line in f)


def deliver(instance, number, user="alice"):
    """Code and text of the answer to the message."""
    conn = instance.lmtp()
    try:
        for line in ("MAIL FROM:<s@example.org>", "RCPT TO:<%s>" % user,
                     "DATA"):
            code, text = conn.docmd(line)
            check(code in (250, 354), "%s: %d %s" % (line, code, text))
        conn.send(message(number) + b".\r\n")
        return conn.getreply()
    finally:
        conn.close()


def settle(instance):
    """A slow start may have taken longer than the timeout already."""
    wait_for("replicas to be waited for",
             lambda: acks(instance)["state"] == "waiting", 60)


def test_refuse(bin_dir):
    with World(bin_dir, FAST) as w:
        settle(w.a)
        events = ("store.ack_refusing", "store.ack_restored")
        before = [lines(w.a, e) for e in events]
        check_equal(deliver(w.a, 1)[0], 250, "with the replica")
        check_equal(acks(w.a)["state"], "waiting", "sync_ack")
        w.b.kill()
        code, text = deliver(w.a, 2)
        check_equal((code, text[:6]), (452, b"4.3.0 "), "without the replica")
        check_equal(acks(w.a)["state"], "refusing", "sync_ack")
        rc, out, _ = w.a.ctl("status")
        check("SYNC_ACK REFUSES" in out, "status does not say so: " + out)
        durable = w.a.status()["here"]["durable"]
        code, text = deliver(w.a, 3)
        check_equal(code, 452, "at once")
        conn = w.a.imap("alice")
        kind, data = conn.append("INBOX", None, None, message(4))
        check_equal((kind, data[0][:13]), ("NO", b"[UNAVAILABLE]"), "APPEND")
        conn.logout()
        check_equal(w.a.status()["here"]["durable"], durable,
                    "records while it refuses")
        check_equal(numbers(w.a, "alice"), [1], "seen without the replica")
        w.b.start()
        wait_for("the replica to be back",
                 lambda: acks(w.a)["state"] == "waiting", 60)
        # What was durable here appears; what was refused at once does not.
        check_equal(numbers(w.a, "alice"), [1, 2], "seen afterwards")
        check_equal(deliver(w.a, 5)[0], 250, "afterwards")
        w.wait_equal()
        check_equal(numbers(w.b, "alice"), [1, 2, 5], "on the replica")
        check_equal([lines(w.a, e) for e in events], [n + 1 for n in before],
                    "log lines")


def test_degrade(bin_dir):
    with World(bin_dir, {**FAST, "sync_ack_policy": "degrade"}) as w:
        settle(w.a)
        events = ("store.ack_degraded", "store.ack_restored")
        before = [lines(w.a, e) for e in events]
        check_equal(deliver(w.a, 1)[0], 250, "with the replica")
        w.b.freeze()
        try:
            check_equal(deliver(w.a, 2)[0], 250, "after the timeout")
            check(log_has(w.a, "store.ack_degraded"), "not in the log")
            for n in range(3, 30):
                check_equal(deliver(w.a, n)[0], 250, "without the replica")
            rc, out, _ = w.a.ctl("--timeout", "1", "status")
            check("SYNC_ACK DEGRADED" in out, "status does not say so: " + out)
        finally:
            w.b.thaw()
        wait_for("the replica to be waited for again",
                 lambda: acks(w.a)["state"] == "waiting", 60)
        check(acks(w.a)["alone"] >= 27, "groups counted: %s" % acks(w.a))
        check_equal([lines(w.a, e) for e in events], [n + 1 for n in before],
                    "log lines")
        w.wait_equal()


def test_promoted_without_a_twin(bin_dir):
    """The twin is dead: promotion works; then the policy holds."""
    with World(bin_dir, FAST) as w:
        settle(w.a)
        check_equal(deliver(w.a, 1)[0], 250, "with the replica")
        w.a.kill()
        w.b.must("promote")
        check_equal(numbers(w.b, "alice"), [1], "on the new master")
        check_equal(deliver(w.b, 2)[0], 452, "alone")
        w.a.start()
        wait_for("the old master to follow",
                 lambda: acks(w.b)["state"] == "waiting", 60)
        check_equal(deliver(w.b, 3)[0], 250, "with the other one")


def test_swap_under_load(bin_dir):
    ledger = Ledger()
    users = ("alice", "bob")
    verifier = Verifier(ledger, users)
    with World(bin_dir, {**FAST, "sync_ack_timeout": "10s"}) as w:
        for user in users:
            w.a.imap(user).logout()
        master, replica = w.a, w.b
        for _ in range(4):
            with Load(master, ledger, users, random.Random(1),
                      sizes=(1000, 4000)) as load:
                before = len(ledger.acked)
                wait_for("mail", lambda: len(ledger.acked) > before + 30, 60)
                master.must("swap")
            odd = [t for t in load.refused() if not t.startswith("451 4.3.2")
                   and "UNAVAILABLE" not in t]
            check(not odd, "refused: %s" % load.refused())
            master, replica = replica, master
            w.wait_equal(asked=master)
            verifier.look(master, replica)


run([test_refuse, test_degrade, test_promoted_without_a_twin,
     test_swap_under_load])
