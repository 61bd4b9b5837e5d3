"""Promotion while the old master lives behind a partition, swaps that are
called off half way, answers that get lost, and the shutdown file touched by hand.
test_withstand_failover.py BIN_DIR [TEST ...]."""

import glob
import hashlib
import os
import smtplib
import time

from pollux import World, check, check_equal, mailbox, message, numbers
from pollux import number_of, run, wait_for
from withstand import (Proxy, Rolling, channel, check_same_picture, no_crash,
                       solid)


class Partition:
    """A pair whose a reaches b through a proxy only; OPTIONS as World's.
    ROLLING: a's sync_client stands in its DAEMON, otherwise we start it."""

    def __init__(self, bin_dir, rolling=True, on_bytes=None, options=None):
        self.w = World(bin_dir, options, start=False)
        self.rolling = rolling
        self.on_bytes = on_bytes

    def __enter__(self):
        w = self.w.__enter__()
        self.proxy = Proxy((w.b.host, w.b.csync_port), on_bytes=self.on_bytes)
        w.a.configure(self.rolling, {"sync_host": self.proxy.host,
                                     "sync_port": str(self.proxy.port)})
        w.b.configure(self.rolling)
        w.start()
        w.a.must("promote")
        if self.rolling:
            w.wait_equal()
        return self

    def __exit__(self, *why):
        self.proxy.close()
        self.w.__exit__(*why)


def code_of(instance, number, user="alice"):
    """LMTP's answer to a message, or to its sender or recipient."""
    conn = instance.lmtp()
    try:
        return instance.deliver(conn, [user], message(number))[0]
    except smtplib.SMTPResponseException as e:
        return e.smtp_code
    finally:
        conn.close()


def streaming(instance):
    wait_for("the channel to stream",
             lambda: channel(instance)["state"] == "streaming")


def test_old_master_behind_a_partition(bin_dir):
    """Both write for a while.  Nothing of it is lost: the tail is exported."""
    with Partition(bin_dir, rolling=False) as p:
        w = p.w
        w.deliver_all(w.a, range(1, 21))
        with Rolling(w.a) as sync:
            w.wait_equal()
            sync.end()
        w.deliver_all(w.a, range(21, 31))       # never shipped
        rc, _, err = w.b.ctl("promote")
        check(rc != 0 and "twin is the master" in err,
              "a promotion beside a living master: %d %s" % (rc, err))
        w.b.must("promote", "--force")
        w.deliver_all(w.a, range(31, 41), users=("alice", "bob"))
        conn = w.a.imap("alice")
        check_equal(conn.append("INBOX", None, None, solid(50, 200000))[0],
                    "OK", "APPEND on the old master")
        conn.select("INBOX")
        conn.store("1:3", "+FLAGS", "(\\Flagged)")
        conn.create("INBOX.left")
        conn.logout()
        w.deliver_all(w.b, range(1000, 1020))
        kept = dict(mailbox(w.a, "alice"))
        tail = {uid: raw for uid, raw in kept.items()
                if number_of(raw) > 20}
        check_equal(len(tail), 21, "messages in the tail")

        with Rolling(w.a) as sync:
            wait_for("the old master to be fenced",
                     lambda: w.a.role() == "fenced")
            check(400 <= code_of(w.a, 60) < 500, "a deposed master takes mail")
            sync.end()
        check_equal(dict(mailbox(w.a, "alice")), kept, "reading while fenced")
        out = w.a.must("export")
        # Ten to alice alone, ten to alice and bob, and one by APPEND.
        folder, = glob.glob(os.path.join(w.a.dir, "conf", "export", "*"))
        index = open(os.path.join(folder, "index.txt")).read()
        for raw in tail.values():
            guid = hashlib.sha1(raw).hexdigest()
            path = os.path.join(folder, guid + ".eml")
            check(os.path.exists(path), "message %d is not in the export" %
                  number_of(raw))
            with open(path, "rb") as f:
                check_equal(f.read(), raw, "bytes of %s" % path)
            line = [x for x in index.splitlines() if guid in x]
            check(any("user.alice" in x for x in line),
                  "the index names no mailbox for %s: %s" % (guid, line))
        for raw in (r for _, r in mailbox(w.a, "bob")):
            guid = hashlib.sha1(raw).hexdigest()
            check(any("user.bob" in x for x in index.splitlines()
                      if guid in x), "bob's message is not in the index")
        check("21 messages" in out or "31 messages" in out, out)

        w.a.must("rejoin")
        with Rolling(w.b):
            w.wait_equal(w.b, timeout=60)
            check_equal(w.a.role(), "replica", "role after rejoin")
            check_equal(numbers(w.a, "alice"),
                        list(range(1, 21)) + list(range(1000, 1020)),
                        "messages after rejoin")
            w.deliver_all(w.b, [2000])
            w.wait_equal(w.b)
            check_same_picture(w.a, w.b, ["alice"])
        check(os.path.exists(os.path.join(folder, "index.txt")),
              "the export is gone after the rejoin")
        no_crash(w.a, w.b)


def test_old_master_that_was_frozen(bin_dir):
    """SIGSTOP, promotion, SIGCONT: it steps back when they meet."""
    with World(bin_dir) as w:
        w.deliver_all(w.a, range(1, 11))
        w.wait_equal()
        w.a.freeze()
        try:
            w.b.must("--timeout", "2", "promote", "--force")
            w.deliver_all(w.b, range(11, 21))
        finally:
            w.a.thaw()
        # Nothing was left behind: it becomes the replica by itself.
        wait_for("the old master to follow", lambda: w.a.role() == "replica")
        w.wait_equal(w.b, timeout=60)
        check_equal(numbers(w.a, "alice"), list(range(1, 21)), "messages")
        check_same_picture(w.a, w.b, ["alice"])
        no_crash(w.a, w.b)


def stall_after(word):
    """Nothing passes any more once the answer to WORD has."""
    state = {"asked": None}

    def on_bytes(proxy, link, to_server, data):
        if to_server and word in data:
            state["asked"] = link
        elif not to_server and link is state["asked"]:
            state["asked"] = None
            link[0].sendall(data)
            proxy.stall()
            proxy.go.wait()
            return None
        return data
    return on_bytes


def test_swap_whose_replica_cannot_drain(bin_dir):
    """F34: called off within a bounded time, the same master goes on in the
    same epoch, and whoever waited is answered."""
    with Partition(bin_dir, on_bytes=stall_after(b"LOG PREPARE")) as p:
        w = p.w
        w.deliver_all(w.a, [1])
        w.wait_equal()
        streaming(w.a)
        epoch = w.a.status()["here"]["epoch"]
        began = time.monotonic()
        rc, out, err = w.a.ctl("--timeout", "5", "swap", timeout=60)
        took = time.monotonic() - began
        check(rc != 0, "a swap without a replica succeeded: %s" % out)
        check("called off" in err, "the swap says: %s%s" % (out, err))
        check(took < 30, "called off after %.1f s" % took)
        p.proxy.cut()
        p.proxy.on_bytes = None
        p.proxy.resume()
        check_equal(code_of(w.a, 2), 250, "delivery after it")
        here = w.a.status()["here"]
        check_equal((here["role"], here["epoch"], here["fence"]),
                    ("master", epoch, False), "the old master")
        check_equal(w.b.role(), "replica", "the replica")
        w.wait_equal(timeout=60)
        check_equal(numbers(w.b, "alice"), [1, 2], "messages")
        w.a.must("swap")
        w.wait_equal(w.b, timeout=60)
        no_crash(w.a, w.b)


def test_swap_with_a_frozen_replica(bin_dir):
    """SIGSTOP of the replica: no swap, within a bounded time."""
    with World(bin_dir) as w:
        w.deliver_all(w.a, [1])
        w.wait_equal()
        epoch = w.a.status()["here"]["epoch"]
        w.b.freeze()
        try:
            began = time.monotonic()
            rc, out, err = w.a.ctl("--timeout", "3", "swap", timeout=60)
            check(time.monotonic() - began < 40, "too long")
            check(rc != 0, "a swap to a frozen replica: %s%s" % (out, err))
            check_equal(code_of(w.a, 2), 250, "delivery after it")
        finally:
            w.b.thaw()
        w.wait_equal(timeout=60)
        here = w.a.status()["here"]
        check_equal((here["role"], here["epoch"], here["fence"]),
                    ("master", epoch, False), "the old master")
        no_crash(w.a, w.b)


def lose_handover(deliver, marks=None):
    """The link breaks at LOG HANDOVER; DELIVER: behind it, so that only the
    answer is lost.  MARKS: its files are read when it is sent."""
    state = {"link": None}
    marks = {} if marks is None else marks

    def on_bytes(proxy, link, to_server, data):
        if to_server and b"LOG HANDOVER" in data:
            for path in marks:
                with open(path) as f:
                    marks[path] = f.read()
            if deliver:
                state["link"] = link
                return data
            return None
        if not to_server and link is state["link"]:
            state["link"] = None
            return None
        return data
    return on_bytes


def test_lost_answer_of_the_handover(bin_dir):
    """The twin was promoted and nobody heard it say so."""
    with Partition(bin_dir, on_bytes=lose_handover(True)) as p:
        w = p.w
        w.deliver_all(w.a, [1])
        w.wait_equal()
        streaming(w.a)
        rc, out, err = w.a.ctl("swap", timeout=60)
        check("lost" in err, "the swap says: %s%s" % (out, err))
        if rc != 0:
            w.a.must("unfence")
        wait_for("one master", lambda: (w.a.role(), w.b.role()) ==
                 ("replica", "master"))
        check_equal(w.b.status()["here"]["epoch"], 2, "epoch")
        check(400 <= code_of(w.a, 2) < 500, "both take mail")
        check_equal(code_of(w.b, 3), 250, "delivery on the new master")
        w.wait_equal(w.b, timeout=60)
        check_equal(numbers(w.a, "alice"), [1, 3], "messages")
        check_equal(rc, 0, "exit code of a swap that did happen: %s" % err)
        no_crash(w.a, w.b)


def test_lost_handover(bin_dir):
    """The twin never got it: the old master goes on, and that token is dead."""
    marks = {}
    with Partition(bin_dir, on_bytes=lose_handover(False, marks)) as p:
        w = p.w
        w.deliver_all(w.a, [1])
        w.wait_equal()
        streaming(w.a)
        marks[w.a.fence] = None
        rc, out, err = w.a.ctl("swap", timeout=60)
        check("lost" in err, "the swap says: %s%s" % (out, err))
        here = w.a.status()["here"]
        check_equal((here["role"], here["epoch"], here["fence"]),
                    ("master", 1, False), "the old master: %d %s%s" %
                    (rc, out, err))
        check(rc != 0, "a swap that did not happen ended 0")
        check_equal(marks[w.a.fence], "handover sent to %s:%d\n" % (
            p.proxy.host, p.proxy.port), "the fence file")
        check_equal(code_of(w.a, 2), 250, "delivery after it")
        p.proxy.on_bytes = None
        w.wait_equal(timeout=60)
        streaming(w.a)
        w.a.must("swap")
        w.wait_equal(w.b, timeout=60)
        check_equal(numbers(w.b, "alice"), [1, 2], "messages")
        no_crash(w.a, w.b)


def test_shutdown_file_by_hand(bin_dir):
    """touch: LMTP 4xx, sync_client drains, says where and exits 0; rm: on."""
    with Partition(bin_dir, rolling=False) as p:
        w = p.w
        with Rolling(w.a) as sync:
            w.deliver_all(w.a, range(1, 101))
            w.wait_equal()
            open(w.a.fence, "w").close()
            wait_for("the fence", lambda: 400 <= code_of(w.a, 200) < 500)
            wait_for("sync_client to end", lambda: sync.proc.poll() is not None)
            rc, out = sync.end()
            check_equal(rc, 0, "exit code of sync_client: %s" % out)
            durable = w.a.status()["here"]["durable"]
            check("drained: the replica holds 1:%d" % durable in out,
                  "sync_client said: %s" % out)
            check_equal(w.b.status()["here"]["applied"], durable, "position")
            conn = w.a.imap("alice")
            check_equal(conn.append("INBOX", None, None, message(300))[0],
                        "NO", "APPEND behind the fence")
            conn.logout()
            check_equal(len(numbers(w.a, "alice")), 100, "reading goes on")
        os.unlink(w.a.fence)
        wait_for("the fence to go", lambda: code_of(w.a, 400) == 250)
        with Rolling(w.a):
            w.wait_equal()
        check_equal(numbers(w.b, "alice"), list(range(1, 101)) + [400],
                    "messages")
        no_crash(w.a, w.b)


if __name__ == "__main__":
    run([test_old_master_behind_a_partition, test_old_master_that_was_frozen,
         test_swap_whose_replica_cannot_drain, test_swap_with_a_frozen_replica,
         test_lost_answer_of_the_handover, test_lost_handover,
         test_shutdown_file_by_hand])
