"""Parts of bench/run about a pair whose members change places: what a client
sees of a swap and of a promotion, restart, catching up, and proving equality."""

import smtplib
import statistics
import subprocess
import threading
import time

from pair import PairError, wait_for

SMALL = b"Subject: are you there\r\n\r\nyes\r\n"


class Caller(threading.Thread):
    """Delivers to whichever of the pair takes mail, one message after another,
    and notes when each was taken."""

    def __init__(self, pair, user):
        super().__init__(daemon=True)
        self.pair, self.user = pair, user
        self.taken_at = []
        self.ended = threading.Event()
        self.start()
        wait_for("the first message to be taken", lambda: self.taken_at)

    def run(self):
        at, conn = self.pair.a, None
        while not self.ended.is_set():
            try:
                if conn is None:
                    conn = at.lmtp(5)
                if at.deliver(conn, [self.user], SMALL) == [250]:
                    self.taken_at.append(time.monotonic())
                    continue
            except (OSError, EOFError, smtplib.SMTPException):
                pass
            conn = None
            at = self.pair.b if at is self.pair.a else self.pair.a

    def gap_since(self, t):
        """Seconds between the last message taken before and the first one
        after the longest pause that ended later than T; needs one taken after
        T + what the pause took."""
        times = list(self.taken_at)
        pairs = [(b - a) for a, b in zip(times, times[1:]) if b > t]
        return max(pairs)

    def taken_since(self, t):
        return sum(1 for x in self.taken_at if x > t)

    def end(self):
        self.ended.set()
        self.join(30)


def swaps(bench, p):
    """Planned swaps there and back under a caller."""
    n = 3 if bench.quick else 9
    gaps, took = [], []
    caller = Caller(p, "u0000")
    try:
        for _ in range(n):
            new = p.b if p.master() is p.a else p.a
            p.wait_equal()
            began = time.monotonic()
            (p.b if new is p.a else p.a).must("swap")
            took.append(time.monotonic() - began)
            now = time.monotonic()
            wait_for("mail to be taken again",
                     lambda: caller.taken_since(now) > 20)
            gaps.append(caller.gap_since(began))
    finally:
        caller.end()
    bench.results["swap"] = {"gap_s": gaps, "command_s": took}
    bench.row("planned swap: pause of mail, of %d" % n,
              "median %.0f ms, longest %.0f ms; the command %.0f ms" % (
                  1e3 * statistics.median(gaps), 1e3 * max(gaps),
                  1e3 * statistics.median(took)), "")


def promotions(bench, p):
    """kill -9 of the master, promote: from the command to mail taken."""
    n = 2 if bench.quick else 5
    took = []
    for _ in range(n):
        old = p.master()
        new = p.b if old is p.a else p.a
        p.wait_equal()
        old.kill()
        began = time.monotonic()
        new.must("promote", "--force")
        c = new.lmtp()
        if new.deliver(c, ["u0000"], SMALL) != [250]:
            raise PairError("the promoted instance takes no mail")
        took.append(time.monotonic() - began)
        c.quit()
        old.start()
        old.ctl("rejoin")
        wait_for("the old master to follow",
                 lambda: p.wait_equal(asked=new, timeout=5), 60)
    bench.results["promote"] = {"seconds": took}
    bench.row("kill -9 of the master, promote: command to 250, of %d" % n,
              "median %.0f ms, longest %.0f ms" % (
                  1e3 * statistics.median(took), 1e3 * max(took)), "")


def restart(bench, p):
    """kill -9 under load and start again: to the first answer."""
    n = 3 if bench.quick else 5
    took = []
    for _ in range(n):
        bench.tool("mailload", "-h", p.a.host, "-p", p.a.lmtp_port, "-u", 32,
                   "-c", 32, "-n", 5000)
        p.a.kill()
        began = time.monotonic()
        p.a.start(wait=False)
        wait_for("an answer", lambda: p.a.imap("u0000").logout(), 60)
        took.append(time.monotonic() - began)
    bench.results["restart"] = {"seconds": took}
    bench.row("kill -9, start: to the first LOGIN, of %d" % n,
              "median %.0f ms, longest %.0f ms" % (
                  1e3 * statistics.median(took), 1e3 * max(took)), "")


def catch_up(bench, p):
    """The replica was away: the log that it missed, in MB/s."""
    n, size = (2000 if bench.quick else 10000), 65536
    p.b.stop()
    bench.tool("mailload", "-h", p.a.host, "-p", p.a.lmtp_port, "-u", 32,
               "-c", 16, "-b", size, "-n", n)
    began = time.monotonic()
    p.b.start()
    p.wait_equal(timeout=300)
    took = time.monotonic() - began
    disk = bench.tool("rawdisk", "-b", 1 << 20, "-t", 1, bench.args.dir)
    bench.results["catch_up"] = {"messages": n, "bytes": size, "seconds": took,
                                 "disk": disk}
    bench.row("catching up %d messages of 64 KiB, start included" % n,
              "%.2f s, %.0f MB/s of mail" % (took, n * size / took / 1e6),
              "%.0f MB/s (disk)" % (disk["mib_per_s"] * 1.048576))


def equality(bench, p):
    """sync_client -A with nothing to do."""
    took = []
    for _ in range(5):
        began = time.monotonic()
        done = subprocess.run(p.a.program("sync_client", "-A"),
                              stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=600)
        took.append(time.monotonic() - began)
        if done.returncode != 0:
            raise SystemExit("sync_client -A: %s%s" % (
                done.stdout, done.stderr))
    bench.results["equality"] = {"seconds": took}
    bench.row("sync_client -A with nothing to do",
              "median %.0f ms" % (1e3 * statistics.median(took)), "")


def measure(bench):
    p = bench.pair()
    p.start()
    p.a.must("promote")
    bench.tool("mailload", "-h", p.a.host, "-p", p.a.lmtp_port, "-u", 32,
               "-c", 16, "-n", 2000)
    p.wait_equal()
    restart(bench, p)
    p.wait_equal()
    catch_up(bench, p)
    equality(bench, p)
    swaps(bench, p)
    promotions(bench, p)
    bench.drop(p)
