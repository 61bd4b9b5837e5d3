"""A full disk, under the master and under the replica: temporary errors,
reading goes on, it heals by itself, nothing acknowledged is lost.
test_withstand_disk.py BIN_DIR [TEST ...]; needs root for small file systems."""

from pollux import World, check, check_equal, numbers, run, wait_for
from withstand import (SmallDisk, channel, check_same_picture, hello,
                       need_root, no_crash, solid)

DISK_MIB = 96
# Small segments, so that the log needs a new one soon.
OPTIONS = {"sync_segment_bytes": "2M"}


def deliver(conn, world, instance, number, size):
    """(code, text) of one delivery on CONN."""
    conn.docmd("MAIL FROM:<sender@example.org>")
    code, text = conn.docmd("RCPT TO:<alice>")
    if code != 250:
        conn.docmd("RSET")
        return code, text
    code, text = conn.docmd("DATA")
    if code != 354:
        conn.docmd("RSET")
        return code, text
    conn.send(solid(number, size) + b".\r\n")
    return conn.getreply()


def fill_by_delivery(world, instance, first, size=60000, most=4000):
    """Deliver until it is refused: (numbers accepted, the refusal)."""
    conn = instance.lmtp()
    accepted = []
    for n in range(first, first + most):
        code, text = deliver(conn, world, instance, n, size)
        if code != 250:
            conn.quit()
            return accepted, (code, text)
        accepted.append(n)
    raise AssertionError("the disk does not get full")


class DiskWorld(World):
    """As World, with the state of NAME on a small disk."""

    def __init__(self, bin_dir, name):
        super().__init__(bin_dir, OPTIONS)
        self.disk_name = name
        self.disk = None

    def set_up(self, *args, **kwargs):
        self.disk = SmallDisk("%s/%s/conf" % (self.base, self.disk_name),
                              DISK_MIB)
        super().set_up(*args, **kwargs)

    def __exit__(self, *why):
        self.kill()
        try:
            super().__exit__(*why)
        finally:
            if self.disk is not None:
                self.disk.close()


def refuses(instance):
    """Nothing is taken: the LMTP answer and the IMAP answer."""
    conn = instance.imap("alice")
    kind, data = conn.append("INBOX", None, None, solid(900001, 200000))
    check_equal(kind, "NO", "APPEND on a full disk")
    check(b"UNAVAILABLE" in data[0], "APPEND says %r" % data[0])
    conn.logout()


def test_full_disk_of_the_master(bin_dir):
    with DiskWorld(bin_dir, "a") as w:
        w.deliver_all(w.a, range(1, 11))
        w.disk.fill(leave=3 << 20)
        accepted, (code, text) = fill_by_delivery(w, w.a, 1000)
        check_equal((code, text[:5]), (452, b"4.3.1"), "LMTP on a full disk")
        refuses(w.a)
        kept = sorted(list(range(1, 11)) + accepted)
        check_equal(numbers(w.a, "alice"), kept, "reading on a full disk")
        hello(w.a, "alice", w.users["alice"])
        # Small ones may still fit in the segment that is there; in the end
        # they do not.
        small, (code, text) = fill_by_delivery(w, w.a, 20000, size=400,
                                               most=20000)
        check_equal((code, text[:5]), (452, b"4.3.1"), "the small ones")
        no_crash(w.a, w.b)
        w.disk.release()
        conn = w.a.lmtp()
        wait_for("healing", lambda: deliver(conn, w, w.a, 5000, 60000)[0] ==
                 250)
        kept = sorted(kept + small + [5000])
        check_equal(numbers(w.a, "alice"), kept, "messages after healing")
        w.wait_equal(timeout=60)
        check_same_picture(w.a, w.b, ["alice"])
        # What is on disk is whole too.
        w.a.stop()
        w.a.start()
        check_equal(numbers(w.a, "alice"), kept, "messages after a restart")
        w.wait_equal(timeout=60)
        no_crash(w.a, w.b)


def test_kill_on_a_full_disk(bin_dir):
    """kill -9 while it is full: it starts again as soon as there is room."""
    with DiskWorld(bin_dir, "a") as w:
        w.deliver_all(w.a, range(1, 6))
        w.disk.fill(leave=3 << 20)
        accepted, _ = fill_by_delivery(w, w.a, 1000)
        w.disk.fill()
        w.a.kill()
        w.disk.release()
        w.a.start()
        check_equal(numbers(w.a, "alice"),
                    sorted(list(range(1, 6)) + accepted), "messages")
        w.wait_equal(timeout=60)
        no_crash(w.a, w.b)


def test_full_disk_of_the_replica(bin_dir):
    with DiskWorld(bin_dir, "b") as w:
        w.deliver_all(w.a, range(1, 11))
        w.wait_equal()
        w.disk.fill(leave=3 << 20)
        conn = w.a.lmtp()
        n = 1000

        def more_until_stuck():
            nonlocal n
            check_equal(deliver(conn, w, w.a, n, 60000)[0], 250,
                        "the master while its replica is full")
            n += 1
            return channel(w.a)["state"] != "streaming"
        wait_for("the replica to refuse", more_until_stuck, 120)
        # The master goes on, and says why the channel does not.
        for _ in range(50):
            check_equal(deliver(conn, w, w.a, n, 60000)[0], 250, "the master")
            n += 1
        texts = []

        def looks():
            """Each look at a channel that is stuck shows the reason."""
            line = channel(w.a)
            if line["state"] != "streaming":
                texts.append(line["text"])
            return len(texts) >= 20
        wait_for("looks at the channel", looks)
        check(all("space" in t or "room" in t or "full" in t for t in texts),
              "the reason, looked at %d times: %r" % (len(texts), set(texts)))
        hello(w.b, "alice", w.users["alice"])
        no_crash(w.a, w.b)
        w.disk.release()
        w.wait_equal(timeout=60)
        check_equal(numbers(w.b, "alice"),
                    list(range(1, 11)) + list(range(1000, n)), "messages")
        check_same_picture(w.a, w.b, ["alice"])
        no_crash(w.a, w.b)


if __name__ == "__main__":
    need_root()
    run([test_full_disk_of_the_master, test_kill_on_a_full_disk,
         test_full_disk_of_the_replica])
