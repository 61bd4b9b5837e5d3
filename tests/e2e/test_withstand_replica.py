"""A replica that is away, of another epoch, of another cluster or of an older
format, and two processes on one store.
test_withstand_replica.py BIN_DIR [TEST ...]."""

import os
import re
import subprocess

import csync_wire
from pollux import World, check, check_equal, numbers, run, wait_for
from withstand import (Proxy, Rolling, channel, check_same_picture, flood,
                       hello, no_crash)

from pair import SYNC_PASSWORD, SYNC_USER  # isort: skip

AWAY_MESSAGES = 3000


def by_hand(bin_dir):
    """A world in which we start sync_client ourselves."""
    world = World(bin_dir, start=False)
    make = world.set_up
    world.set_up = lambda: make(rolling=False)
    return world


def test_replica_that_is_away(bin_dir):
    with World(bin_dir) as w:
        w.deliver_all(w.a, range(1, 11))
        w.wait_equal()
        check_equal(channel(w.a)["state"], "streaming", "channel")
        w.b.stop()
        gone = wait_for("the channel to say that nobody is there",
                        lambda: channel(w.a)["state"] != "streaming" and
                        channel(w.a))
        check_equal(gone["state"], "connecting", "channel of an absent replica")
        check(gone["text"], "no reason is given for the absent replica")
        check_equal(w.a.ctl("status")[0], 5, "exit code without a twin")
        accepted = flood(w.a, 1000, AWAY_MESSAGES)
        check_equal(len(accepted), AWAY_MESSAGES, "messages taken")
        before = w.a.status()["here"]["durable"]
        w.b.start()
        w.wait_equal(timeout=120)
        check(w.b.status()["here"]["applied"] >= before, "not caught up")
        check_equal(channel(w.a)["state"], "streaming", "channel")
        seen = check_same_picture(w.a, w.b, ["alice"])
        check_equal(seen, 10 + AWAY_MESSAGES, "messages compared")
        no_crash(w.a, w.b)


def test_replica_that_hangs(bin_dir):
    """Silence, not absence: the stream ends by itself and is made anew."""
    with by_hand(bin_dir) as w:
        proxy = Proxy((w.b.host, w.b.csync_port))
        try:
            w.a.configure(rolling=True, options={
                "sync_host": proxy.host, "sync_port": str(proxy.port)})
            w.start()
            w.a.must("promote")
            w.deliver_all(w.a, [1])
            w.wait_equal()
            proxy.stall()
            accepted = flood(w.a, 100, 500)
            wait_for("the silence to be noticed", lambda: channel_local(w.a)
                     != "streaming", 60)
            proxy.cut()
            proxy.resume()
            w.wait_equal(timeout=60)
            check_equal(len(numbers(w.b, "alice")), 1 + len(accepted), "count")
            no_crash(w.a, w.b)
        finally:
            proxy.close()


def channel_local(instance):
    """State of the channel, by a status whose twin does not answer."""
    rc, out, _ = instance.ctl("--timeout", "1", "status")
    for line in out.splitlines():
        if line.startswith("channel "):
            return line.split(": ")[1].split(",")[0]
    return None


def test_older_epoch_is_refused(bin_dir):
    """The old master of a promoted twin ships nothing, and learns why."""
    with by_hand(bin_dir) as w:
        w.start()
        w.a.must("promote")
        w.deliver_all(w.a, [1, 2])
        with Rolling(w.a):
            w.wait_equal()
        w.deliver_all(w.a, [3])
        w.b.must("promote", "--force")
        w.deliver_all(w.b, [4])
        with Rolling(w.a) as sync:
            wait_for("the old master to be fenced",
                     lambda: w.a.status()["here"]["role"] == "fenced")
            sync.end()
        why = w.a.status()["here"]["why"]
        check("deposed" in why and "epoch 2" in why, "why: %s" % why)
        check_equal(numbers(w.b, "alice"), [1, 2, 4], "on the new master")
        no_crash(w.a, w.b)
        # The wire says it too, to whoever asks as the old epoch.
        conn = csync_wire.connect(w.b, SYNC_USER, SYNC_PASSWORD)
        here = w.b.status()["here"]
        answer = conn.open(here["cluster"], "f" * 32, 1, 1)
        check(answer.startswith("NO POLLUX-"), "older epoch: %s" % answer)
        check("epoch" in answer, "older epoch: %s" % answer)


def test_replica_refuses_older_epoch_and_newer_format(bin_dir):
    with World(bin_dir) as w:
        w.deliver_all(w.a, [1])
        w.wait_equal()
        w.a.must("swap")  # epoch 2; a follows
        w.wait_equal()
        here = w.a.status()["here"]
        position = here["applied"]
        conn = csync_wire.connect(w.a, SYNC_USER, SYNC_PASSWORD)
        answer = conn.open(here["cluster"], "f" * 32, 1, 1)
        check(answer.startswith("NO POLLUX-FENCED"), answer)
        check("epoch 1" in answer and "epoch 2" in answer, answer)
        answer = conn.open("e" * 32, "f" * 32, 9, 1)
        check(answer.startswith("NO POLLUX-HISTORY"), answer)
        check("cluster" in answer, answer)
        answer = conn.open(here["cluster"], "f" * 32, 2, 99)
        check(answer.startswith("NO POLLUX-VERSION"), answer)
        check("format 99, this replica knows " in answer, answer)
        answer = conn.stream(here["cluster"], "f" * 32, 2, 1, position,
                             "0" * 16)
        check(answer.startswith("NO POLLUX-HISTORY"), answer)
        answer = conn.stream(here["cluster"], "f" * 32, 2, 1, position + 7,
                             "0" * 16)
        check(answer.startswith("NO POLLUX-GAP"), answer)
        check_equal(w.a.status()["here"]["applied"], position, "position")
        w.wait_equal()
        no_crash(w.a, w.b)


def test_older_format_is_parked(bin_dir):
    """The master of a newer format is told by its replica, by name."""
    def newer(proxy, link, to_server, data):
        return (re.sub(rb"FORMAT \d", b"FORMAT 9", data) if to_server
                else data)
    with by_hand(bin_dir) as w:
        proxy = Proxy((w.b.host, w.b.csync_port), on_bytes=newer)
        try:
            w.a.configure(rolling=True, options={
                "sync_host": proxy.host, "sync_port": str(proxy.port)})
            w.start()
            w.a.must("promote")
            parked = wait_for("the channel to be parked", lambda: channel(w.a)
                              if channel(w.a)["state"] == "parked" else None)
            check("9" in parked["text"] and "format" in parked["text"],
                  "parked: %s" % parked["text"])
            check_equal(w.b.status()["here"]["applied"], 0, "applied")
            no_crash(w.a, w.b)
        finally:
            proxy.close()


def test_another_cluster_is_parked(bin_dir):
    with by_hand(bin_dir) as w:
        w.a.configure(rolling=True)
        w.start()
        w.b.must("promote", "--force")  # a cluster of its own
        w.deliver_all(w.b, [7])
        w.a.must("promote", "--force")
        w.deliver_all(w.a, [1])
        parked = wait_for("the channel to be parked", lambda: channel(w.a)
                          if channel(w.a)["state"] == "parked" else None)
        check("another cluster" in parked["text"], parked["text"])
        check_equal(w.a.ctl("status")[0], 4, "exit code of status")
        _, out, _ = w.a.ctl("status")
        check("parked" in out and "another cluster" in out, out)
        check_equal(numbers(w.a, "alice"), [1], "one")
        check_equal(numbers(w.b, "alice"), [7], "the other")
        no_crash(w.a, w.b)


def test_two_processes_on_one_store(bin_dir):
    with World(bin_dir) as w:
        w.deliver_all(w.a, [1])

        def second(*more):
            done = subprocess.run(
                w.a.program("master", "-M", w.a.cyrus_conf, *more),
                capture_output=True, text=True, timeout=60)
            check(done.returncode != 0, "a second process was let in")
            with open(w.a.log, errors="replace") as f:
                said = done.stderr + done.stdout + f.read()[end:]
            return said
        end = os.path.getsize(w.a.log)
        said = second()
        check("another" in said or "already" in said or "runs" in said,
              "the second says: %s" % said)
        # Past the pid file, past the ports: the store's own lock.
        other = os.path.join(w.a.dir, "other.conf")
        with open(w.a.imapd_conf) as f, open(other, "w") as to:
            to.write(f.read().replace(
                "log_file: %s" % w.a.log, "log_file: %s.2" % w.a.log))
            to.write("control_socket: %s/control.2\n" % w.a.dir)
        services = os.path.join(w.a.dir, "other.cyrus")
        with open(services, "w") as f:
            f.write("SERVICES {\n}\n")
        done = subprocess.run(
            [w.a.program("master")[0], "-C", other, "-M", services, "-p",
             os.path.join(w.a.dir, "other.pid")],
            capture_output=True, text=True, timeout=60)
        check(done.returncode != 0, "a second process on one store was let in")
        log = w.a.log + ".2"
        said = done.stderr + (open(log).read() if os.path.exists(log) else "")
        check("process" in said and w.a.dir in said,
              "the second says: %s" % said)
        w.deliver_all(w.a, [2])
        hello(w.a, "alice", w.users["alice"])
        w.wait_equal()
        check_equal(numbers(w.a, "alice"), [1, 2], "the first")
        no_crash(w.a, w.b)


if __name__ == "__main__":
    run([test_replica_that_is_away, test_replica_that_hangs,
         test_older_epoch_is_refused,
         test_replica_refuses_older_epoch_and_newer_format,
         test_older_format_is_parked, test_another_cluster_is_parked,
         test_two_processes_on_one_store])
