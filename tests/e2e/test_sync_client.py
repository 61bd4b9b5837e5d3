"""sync_client within a cluster: -A, -u, -m, -f, --dry-run, --verify, --diff,
and what it refuses.  test_sync_client.py BIN_DIR [TEST ...]."""

import os
import pty
import re
import shutil
import struct
import subprocess
import threading
import time

from pollux import World, check, check_equal, message, run, wait_for
from withstand import Proxy


def by_hand(bin_dir, options=None):
    """A world in which we start sync_client ourselves."""
    world = World(bin_dir, options, start=False)
    make = world.set_up
    world.set_up = lambda: make(rolling=False)
    return world


def begin(w):
    w.start()
    w.a.must("promote")
    for user in ("alice", "bob"):
        conn = w.a.imap(user)
        check_equal(conn.create("Sent")[0], "OK", "CREATE")
        conn.logout()
    w.deliver_all(w.a, range(1, 21))
    w.deliver_all(w.a, range(21, 31), users=("bob",))


def client(instance, *args, code=0):
    done = instance.run("sync_client", *args)
    check_equal(done.returncode, code, "sync_client %s: %s%s" % (
        " ".join(args), done.stdout, done.stderr))
    return done.stdout + done.stderr


def split(w):
    """a, which was killed, begins again without hearing of b's epoch."""
    w.b.stop()
    w.a.start()
    w.b.start()


def test_all_users(bin_dir):
    with by_hand(bin_dir) as w:
        begin(w)
        out = client(w.a, "-A", "--dry-run")
        check("would seed" in out, out)
        client(w.a, "--verify", code=3)
        client(w.a, "-A")
        check("nothing to do: equal" in client(w.a, "-A", "--dry-run"), "plan")
        check("store: equal at" in client(w.a, "--verify"), "verify")
        w.deliver_all(w.a, range(31, 41))
        check("would ship 10 records" in client(w.a, "--dry-run"), "plan")
        # What was said is not what was done.
        check("would ship 10 records" in client(w.a, "--dry-run"), "plan")
        out = client(w.a, "-u", "alice", "bob")
        check("user alice: equal" in out and "user bob: equal" in out, out)
        check_equal(w.a.ctl("status")[0], 0, "status")
        began = time.monotonic()
        check("equal" in client(w.a, "-A"), "again")
        check(time.monotonic() - began < 10, "equal, and took long")


def test_names(bin_dir):
    with by_hand(bin_dir) as w:
        begin(w)
        client(w.a, "-A")
        out = client(w.a, "-m", "user/alice", "user/bob/Sent")
        check("mailbox user.alice: equal" in out, out)
        check("mailbox user.bob.Sent: equal" in out, out)
        out = client(w.a, "--verify", "-u", "alice", "nobody-here", code=4)
        check("user alice: equal" in out, out)
        check("user nobody-here: is on neither side" in out, out)
        names = os.path.join(w.a.dir, "names")
        with open(names, "w") as f:
            f.write("alice\n\nbob\n")
        out = client(w.a, "-u", "-f", names)
        check_equal(out.count(": equal, digest"), 2, out)
        out = client(w.a, "-z", "-m", "user/alice")
        check("mailbox user.alice: equal" in out, out)
        w.deliver_all(w.a, [90])
        out = client(w.a, "-A", "ali")  # users that begin so, proved
        check("user alice: equal" in out and "bob" not in out, out)
        check_equal(w.a.ctl("status")[0], 0, "status")
        for bad in (["-u"], ["-m"], ["-f", names], ["-t", "x", "-A"], []):
            client(w.a, *bad, code=64)
        client(w.a, "-u", "-f", names + "-not", code=1)


def on_terminal(instance, *args):
    """What sync_client says to somebody who watches."""
    main, side = pty.openpty()
    proc = subprocess.Popen(instance.program("sync_client", *args), stdin=side,
                            stdout=side, stderr=side)
    os.close(side)
    said = b""
    try:
        while True:
            some = os.read(main, 65536)
            if not some:
                break
            said += some
    except OSError:  # how a terminal ends
        pass
    os.close(main)
    check_equal(proc.wait(60), 0, said.decode())
    return said.decode()


def test_progress(bin_dir):
    """On a terminal: how far, how fast, and how long it takes."""
    with by_hand(bin_dir) as w:
        begin(w)
        out = on_terminal(w.a, "-A")
        check(re.search(r"seeding: \d+ of \d+ messages, [\d.]+ MB sent, "
                        r"\d+/s, \d+ s left", out), out)
        w.deliver_all(w.a, range(40, 640))
        out = on_terminal(w.a, "-A")
        check(re.search(r"shipping: at \d+ of \d+ records, \d+/s, \d+ s left",
                        out), out)
        check("equal" in out, out)


def squeezed(instance):
    """(bytes, bytes on the wire) of what sync_client said that it shipped."""
    done = instance.run("sync_client", "-l", "-A")
    check_equal(done.returncode, 0, done.stdout + done.stderr)
    found = re.search(r"sync.squeezed .*bytes=(\d+) on_the_wire=(\d+)",
                      done.stderr)
    return tuple(map(int, found.groups())) if found else None


def flag_again_and_again(w):
    """Many small records, much the same."""
    conn = w.a.imap("alice")
    conn.select("INBOX")
    for i in range(60):
        conn.store("1:*", "+FLAGS" if i % 2 == 0 else "-FLAGS", "Keyword")
    conn.logout()


def test_zstd_on_the_wire(bin_dir):
    """What is not compressed in the log already is, on its way; a seed too."""
    with by_hand(bin_dir, {"sync_compress": "yes"}) as w:
        begin(w)
        squeezed(w.a)
        w.wait_equal()
        flag_again_and_again(w)
        plain, wire = squeezed(w.a)
        check(0 < wire < plain / 2, "%d bytes took %d" % (plain, wire))
        w.wait_equal()
        # Under -z too, and to one that is seeded.
        out = client(w.a, "-z", "-A")
        check("equal" in out, out)
        w.b.stop()
        shutil.rmtree(os.path.join(w.b.dir, "conf"))
        shutil.rmtree(os.path.join(w.b.dir, "spool"))
        w.b.start()
        out = client(w.a, "-z", "-A")
        check("seed: done" in out, out)
        w.wait_equal()


class Wire:
    """What a master says to a replica by way of a proxy that hides the words
    HIDDEN of the replica's greeting."""

    def __init__(self, w, *hidden):
        self.hidden, self.said = hidden, {}
        self.proxy = Proxy((w.b.host, w.b.csync_port), on_bytes=self.on_bytes)
        w.a.configure(False, {"sync_host": self.proxy.host,
                              "sync_port": str(self.proxy.port)})

    def on_bytes(self, proxy, link, to_server, data):
        if to_server:
            self.said[link] = self.said.get(link, b"") + data
        elif link not in self.said:
            for word in self.hidden:
                check(word in data, "%r is not in %r" % (word, data))
                data = data.replace(word, b"")
        return data

    def types(self):
        """Of the messages of streams and seeds (csync/PROTOCOL.md, 2)."""
        found = set()
        for data in self.said.values():
            begin = re.search(rb"^LOG (SEED|STREAM)\b[^\n]*\n", data, re.M)
            at = begin.end() if begin else len(data)
            while at + 8 <= len(data):
                n, kind, zeros = struct.unpack_from("<IB3s", data, at)
                check_equal(zeros, bytes(3), "a header at %d" % at)
                found.add(kind)
                at += 8 + n
            check_equal(at, len(data), "the end of the last message")
        return found


def ship_two_ways(w):
    """A seed, then many small records: squeezed() of these."""
    begin(w)
    check("seed: done" in client(w.a, "-A"), "a seed")
    w.wait_equal()
    flag_again_and_again(w)
    found = squeezed(w.a)
    w.wait_equal()
    return found


FRAMES, ZSTD, SEED_ROWS = 1, 7, 20


def test_no_zstd_to_one_that_does_not_offer_it(bin_dir):
    """As a replica of before says it: it would not know such a message."""
    for hidden in ((), (b" ZSTD", b"* COMPRESS DEFLATE\r\n")):
        with by_hand(bin_dir, {"sync_compress": "yes"}) as w:
            wire = Wire(w, *hidden)
            found = ship_two_ways(w)
            types = wire.types()
            wire.proxy.close()
            if hidden:
                check_equal(found, None, "squeezed")
                check(ZSTD not in types, "types %r" % types)
                check({FRAMES, SEED_ROWS} <= types, "types %r" % types)
            else:
                check(found is not None and ZSTD in types, "types %r" % types)
    # What it offers is taken: DEFLATE, around all of it.
    with by_hand(bin_dir, {"sync_compress": "yes"}) as w:
        wire = Wire(w, b" ZSTD")
        check_equal(ship_two_ways(w), None, "squeezed")
        check(any(b"COMPRESS DEFLATE" in d for d in wire.said.values()),
              "no DEFLATE")
        wire.proxy.close()


def test_wrong_direction(bin_dir):
    """A replica, and a master of an epoch that is over, ship to nobody."""
    with by_hand(bin_dir) as w:
        begin(w)
        client(w.a, "-A")
        for args in (["-A"], ["-u", "alice"], ["--dry-run"]):
            out = client(w.b, *args, code=1)
            check("not the master" in out, out)
        w.a.kill()
        w.b.must("promote")
        w.deliver_all(w.b, [100])
        split(w)
        out = client(w.a, "-A", "--dry-run", code=1)
        check("epoch 2" in out, out)
        before = w.b.status()["here"]["digest"]
        out = client(w.a, "-b", "-u", "bob", code=1)
        check("epoch 2 of this cluster" in out and "--wrong-way" in out, out)
        out = client(w.a, "-b", "-u", "bob", "--wrong-way")
        check("changes=0" in out, out)
        client(w.a, "-A", code=1)
        check_equal(w.b.status()["here"]["digest"], before, "the new master")


class Busy(threading.Thread):
    """Mail for bob at each of INSTANCES in turn, as fast as it goes, until the
    end of the block."""

    def __init__(self, *instances):
        super().__init__(daemon=True)
        self.instances = instances
        self.sent, self.stop = 0, threading.Event()

    def run(self):
        conns = [(i, i.lmtp()) for i in self.instances]
        while not self.stop.is_set():
            for i, conn in conns:
                if i.deliver(conn, ["bob"], message(1000 + self.sent)) != [250]:
                    return
            self.sent += 1
        for _, conn in conns:
            conn.quit()

    def __enter__(self):
        self.start()
        wait_for("some mail", lambda: self.sent > 5)
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.join(30)


def test_verify_under_load(bin_dir):
    """Lag is no difference; what differs is found while others get mail."""
    with World(bin_dir) as w:
        w.deliver_all(w.a, range(1, 6), users=("alice", "bob"))
        with Busy(w.a) as load:
            for _ in range(5):
                for args in (["--verify"], ["--verify", "--diff"],
                             ["--verify", "-u", "alice"],
                             ["--verify", "-m", "user/alice"]):
                    out = client(w.a, *args)
                    check("equal" in out and "UNEQUAL" not in out, out)
                # bob is written to all the time: equal, or not known
                done = w.a.run("sync_client", "--verify", "-u", "bob")
                check(done.returncode in (0, 3), done.stdout)
        check(load.sent > 20, "hardly any load: %d" % load.sent)


def two_masters_at_one_lsn(w):
    """After a split each has got mail that the other has not: their LSN."""
    begin(w)
    client(w.a, "-A")
    w.a.kill()
    w.b.must("promote")
    w.deliver_all(w.b, [200])
    split(w)
    w.deliver_all(w.a, [300, 301])
    return wait_for("both at one LSN", lambda:
                    w.a.status()["here"]["applied"] ==
                    w.b.status()["here"]["applied"] and
                    w.a.status()["here"]["applied"])


def test_differs_under_load(bin_dir):
    """Two masters, at about one LSN all the time: alice differs, bob gets
    mail."""
    with by_hand(bin_dir) as w:
        two_masters_at_one_lsn(w)
        with Busy(w.a, w.b) as load:
            out = client(w.a, "--verify", "-u", "alice", code=4)
            check("user alice: UNEQUAL" in out, out)
            out = client(w.a, "--verify", "--diff", "-u", "alice", code=4)
            check("user alice: differs" in out, out)
            alice = out[out.index("user alice: differs"):].split("\nuser ")[0]
            check("UID 22: only here" in alice, out)
            check("only on the replica" in alice, out)
            check("UID 20:" not in alice, "an equal row is named: " + out)
        check(load.sent > 5, "no load")


def test_what_differs(bin_dir):
    """Two masters after a split, at one LSN: each difference is named."""
    with by_hand(bin_dir) as w:
        lsn = two_masters_at_one_lsn(w)
        out = client(w.a, "--verify", code=4)
        check("store: UNEQUAL at" in out and str(lsn) in out, out)
        out = client(w.a, "--verify", "-u", "alice", "bob", code=4)
        check("user alice: UNEQUAL" in out and "user bob: equal" in out, out)
        out = client(w.a, "--verify", "-m", "user/alice/Sent", "user/alice",
                     code=4)
        check("mailbox user.alice.Sent: equal" in out, out)
        check("mailbox user.alice: UNEQUAL" in out, out)
        out = client(w.a, "--verify", "--diff", code=4)
        check("user alice: differs" in out, out)
        check("user bob" not in out, out)
        check("mailbox user.alice: exists 22 and 21" in out, out)
        check("UID 22: only here" in out, out)
        check("UID 65557: only on the replica" in out or "only on the replica"
              in out, out)
        check("UID 20:" not in out, "an equal row is named: " + out)


run([test_all_users, test_names, test_progress, test_zstd_on_the_wire,
     test_no_zstd_to_one_that_does_not_offer_it, test_wrong_direction,
     test_verify_under_load, test_differs_under_load, test_what_differs])
