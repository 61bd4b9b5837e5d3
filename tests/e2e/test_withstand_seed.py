"""Seeding: from a master whose log does not begin at 1, by command and unasked,
and broken off again and again.
test_withstand_seed.py BIN_DIR [TEST ...]."""

import os
import re
import shutil
import signal
import subprocess

from pollux import World, check, check_equal, log_has, run, wait_for
from withstand import (Proxy, Rolling, channel, check_same_picture, flood,
                       no_crash, solid)

USERS = ["alice", "bob"]
SEED_MESSAGES = 2500
SEED_BYTES = 4000


def by_hand(bin_dir):
    """A world in which we start sync_client ourselves."""
    world = World(bin_dir, start=False)
    make = world.set_up
    world.set_up = lambda: make(rolling=False)
    return world


def empty(instance):
    """As if it had never been there."""
    instance.stop()
    for name in ("conf", "spool"):
        shutil.rmtree(os.path.join(instance.dir, name), ignore_errors=True)
    instance.start()


def some_of_everything(world, instance, first):
    """More than INBOX: folders, flags, renames, expunges, ACLs."""
    world.deliver_all(instance, range(first, first + 40),
                      users=("alice", "bob"))
    conn = instance.imap("alice")
    base = "INBOX.f%d" % first
    for name in (base, base + ".sub", base + ".gone"):
        check_equal(conn.create(name)[0], "OK", "CREATE %s" % name)
    conn.subscribe(base)
    conn.select("INBOX")
    conn.store("1:10", "+FLAGS", "(\\Seen $Label%d)" % first)
    conn.copy("1:20", base)
    conn.copy("5:8", base + ".sub")
    conn.store("2,4,6", "+FLAGS", "(\\Deleted)")
    conn.expunge()
    check_equal(conn.append(base, "(\\Flagged)", '"05-Jan-2026 10:00:00 +0100"',
                            solid(first, 9000))[0], "OK", "APPEND")
    conn.rename(base + ".sub", base + ".renamed")
    conn.delete(base + ".gone")
    conn.setacl(base, "bob", "lrs")
    conn.logout()


def seeded_line(out):
    """(sent, all) of 'seed: done, N of M messages sent'."""
    found = re.search(r"seed: done, (\d+) of (\d+) messages sent", out)
    check(found, "no seed in: %s" % out)
    return int(found.group(1)), int(found.group(2))


def test_chain_of_seeds(bin_dir):
    """A seeds B, B takes over and seeds A, and the log goes on each time."""
    with World(bin_dir) as w:
        some_of_everything(w, w.a, 100)
        w.wait_equal()
        w.b.must("rejoin")
        some_of_everything(w, w.a, 200)
        w.wait_equal(timeout=60)
        start = w.b.status()["here"]["first_lsn"]
        check(start != 1, "the log of a seeded replica begins at %d" % start)
        check_same_picture(w.a, w.b, USERS)
        streaming(w.a)
        w.a.must("swap")
        some_of_everything(w, w.b, 300)
        w.wait_equal(w.b, timeout=60)
        w.a.must("rejoin")
        some_of_everything(w, w.b, 400)
        w.wait_equal(w.b, timeout=60)
        check(log_has(w.a, "csync.seeded"), "a was not seeded")
        streaming(w.b)
        # The log goes on behind the seed without a gap and without another.
        some_of_everything(w, w.b, 500)
        w.wait_equal(w.b, timeout=60)
        with open(w.a.log, errors="replace") as f:
            check_equal(f.read().count("csync.seeded"), 1, "seeds taken by a")
        seen = check_same_picture(w.a, w.b, USERS)
        check(seen > 400, "messages compared: %d" % seen)
        # And both start again from what is on their disks.
        for i in (w.a, w.b):
            i.kill()
        w.start()
        w.wait_equal(w.b, timeout=60)
        streaming(w.b)
        w.b.must("swap")
        w.deliver_all(w.a, [9000])
        w.wait_equal(timeout=60)
        check_same_picture(w.a, w.b, USERS)
        no_crash(w.a, w.b)


def test_seed_by_command_from_a_seeded_master(bin_dir):
    """sync_client -A to an empty replica where the log does not reach back."""
    with World(bin_dir) as w:
        some_of_everything(w, w.a, 100)
        w.wait_equal()
        w.b.must("rejoin")
        streaming(w.a)
        w.a.must("swap")
        w.wait_equal(w.b)
        empty(w.a)
        parked = wait_for("the channel to be parked", lambda: channel(w.b)
                          if channel(w.b)["state"] == "parked" else None)
        check("sync_client -A" in parked["text"], parked["text"])
        some_of_everything(w, w.b, 200)
        done = subprocess.run(w.b.program("sync_client", "-A"),
                              capture_output=True, text=True, timeout=120)
        check_equal(done.returncode, 0, "sync_client -A: %s%s" %
                    (done.stdout, done.stderr))
        sent, total = seeded_line(done.stdout)
        check_equal(sent, total, "messages sent")
        check("equal" in done.stdout, done.stdout)
        some_of_everything(w, w.b, 300)
        w.wait_equal(w.b, timeout=90)
        streaming(w.b)
        check_same_picture(w.a, w.b, USERS)
        no_crash(w.a, w.b)


def streaming(instance):
    wait_for("the channel to stream",
             lambda: channel(instance)["state"] == "streaming")


class SeedWorld:
    """A full master a, an empty replica b, and a proxy between that stops the
    seed where we want it."""

    def __init__(self, bin_dir):
        self.w = by_hand(bin_dir)
        self.limit = None

    def __enter__(self):
        w = self.w.__enter__()
        try:
            self.proxy = Proxy((w.b.host, w.b.csync_port), on_bytes=self.pace)
            w.a.configure(rolling=False, options={
                "sync_host": self.proxy.host,
                "sync_port": str(self.proxy.port)})
            w.start()
            w.a.must("promote", "--force")
            flood(w.a, 0, SEED_MESSAGES, size=SEED_BYTES, threads=8)
            some_of_everything(w, w.a, 10000)
        except BaseException:
            import sys
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *why):
        if hasattr(self, "proxy"):
            self.proxy.close()
        self.w.__exit__(*why)

    def pace(self, proxy, link, to_server, data):
        """Hold everything back once LIMIT bytes went to the replica."""
        if to_server and self.limit is not None and \
                proxy.to_server_bytes >= self.limit:
            proxy.stall()
            proxy.go.wait()
        return data

    def seed_until(self, nbytes):
        """A running sync_client -A of which NBYTES more went over."""
        self.limit = self.proxy.to_server_bytes + nbytes
        sync = subprocess.Popen(self.w.a.program("sync_client", "-A"),
                                stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

        def there():
            check(sync.poll() is None, "sync_client -A ended: %s" %
                  (sync.stdout.read() if sync.poll() is not None else ""))
            return self.proxy.to_server_bytes >= self.limit and \
                not self.proxy.go.is_set()
        try:
            wait_for("the seed to get so far", there, 60)
        except BaseException:
            sync.kill()
            sync.communicate()
            raise
        return sync

    def go_on(self):
        self.limit = None
        self.proxy.cut()
        self.proxy.resume()

    def finish(self):
        """The rest of the seed: (messages sent now, all of them)."""
        done = subprocess.run(self.w.a.program("sync_client", "-A"),
                              capture_output=True, text=True, timeout=200)
        check_equal(done.returncode, 0, "sync_client -A: %s%s" %
                    (done.stdout, done.stderr))
        return seeded_line(done.stdout)


def test_seed_broken_off(bin_dir):
    """kill -9 of sync_client and of the replica in the middle, several times:
    it resumes, bodies are not sent twice, both sides are equal in the end."""
    step = SEED_MESSAGES * SEED_BYTES // 7
    with SeedWorld(bin_dir) as s:
        w = s.w
        for i, victim in enumerate(("client", "replica", "client", "link",
                                    "replica")):
            sync = s.seed_until(step)
            if victim == "client":
                sync.send_signal(signal.SIGKILL)
            elif victim == "replica":
                w.b.kill()
            s.go_on()
            sync.communicate(timeout=60)
            check(sync.returncode != 0, "a broken seed ended 0")
            if victim == "replica":
                w.b.start()
            # Mail goes on meanwhile.
            w.deliver_all(w.a, range(20000 + 10 * i, 20010 + 10 * i))
            status = w.a.status()
            check(status["exit"] != 0, "a half-seeded replica counts as equal")
            check(status["digests"] != "equal", "digests %s" %
                  status["digests"])
        # The replica shows nothing that is half there.
        sent, total = s.finish()
        check(total > SEED_MESSAGES, "messages in all: %d" % total)
        check(sent < total * 0.75, "%d of %d messages sent once more" %
              (sent, total))
        over = s.proxy.to_server_bytes
        body_bytes = SEED_MESSAGES * SEED_BYTES
        check(over < body_bytes * 1.5, "%d bytes for %d bytes of mail" %
              (over, body_bytes))
        print("       the last of 6 runs sent %d of %d messages; %.2f times "
              "the mail went over in all" % (sent, total, over / body_bytes))
        with Rolling(w.a):
            w.deliver_all(w.a, range(30000, 30010))
            w.wait_equal(timeout=60)
            check_same_picture(w.a, w.b, USERS)
        no_crash(w.a, w.b)


def test_seed_whose_master_dies(bin_dir):
    step = SEED_MESSAGES * SEED_BYTES // 3
    with SeedWorld(bin_dir) as s:
        w = s.w
        sync = s.seed_until(step)
        w.a.kill()
        s.go_on()
        sync.communicate(timeout=60)
        check(sync.returncode != 0, "a broken seed ended 0")
        w.a.start()
        sent, total = s.finish()
        check(sent < total * 0.85, "%d of %d sent again" % (sent, total))
        with Rolling(w.a):
            w.wait_equal(timeout=60)
            check_same_picture(w.a, w.b, USERS)
        no_crash(w.a, w.b)


if __name__ == "__main__":
    run([test_chain_of_seeds, test_seed_by_command_from_a_seeded_master,
         test_seed_broken_off, test_seed_whose_master_dies])
