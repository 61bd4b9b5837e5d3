"""What `postfix` and `exim` have in common: a real MTA delivers into a pair that
changes places and is killed, and each message that it took is there exactly
once, on both sides.

An MTA is a class with NAME, CACHE-able `unpack()`, and objects of it with
`port`, start(), stop(), queued() (messages that it still has) and log_counts()
(how often each outcome stands in its log, "bounced" among them).
"""

import glob
import os
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                    os.pardir, os.pardir))
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))
sys.path.insert(0, os.path.join(TOP, "tests", "e2e"))
from pair import Pair, tail, wait_for  # noqa: E402
from pollux import mailbox, message, number_of  # noqa: E402

HOST = "127.0.0.1"
USERS = {"user%d" % i: "secret-%d" % i for i in range(4)}
SENDERS = 4
DOWN_S = 0.3  # how long a killed master is away


def example(name):
    """The text of a file of docs/examples."""
    with open(os.path.join(TOP, "docs", "examples", name)) as f:
        return f.read()


def unpack(package, has):
    """Debian's PACKAGE, unpacked below ~/.cache; None if it cannot be had.  HAS: a
    file of it."""
    cache = os.path.expanduser("~/.cache/pollux-" + package)
    root = os.path.join(cache, "root")
    if not os.path.exists(root + has):
        os.makedirs(cache, exist_ok=True)
        got = subprocess.run(["apt-get", "-q", "download", package],
                             cwd=cache, capture_output=True, text=True)
        files = glob.glob(os.path.join(cache, package + "_*.deb"))
        if got.returncode != 0 or not files:
            return None
        subprocess.run(["dpkg-deb", "-x", files[0], root], check=True)
    return root


class Daemon:
    """An MTA's process, with all that it starts in a session of its own."""

    def __init__(self, port, log, stderr):
        self.port, self.log, self.stderr = port, log, stderr
        self.proc = None

    def run(self, command, env):
        with open(self.stderr, "wb") as out:
            self.proc = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, env=env)

        def up():
            if self.proc.poll() is not None:
                raise SystemExit("the MTA ended with %d\n%s%s" % (
                    self.proc.returncode, tail(self.log), tail(self.stderr)))
            smtplib.SMTP(HOST, self.port, timeout=5).quit()
            return True
        wait_for("the MTA to listen", up, 60)

    def stop(self):
        if self.proc is None:
            return
        self.proc.terminate()
        try:
            self.proc.wait(20)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.proc.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.proc.wait()
        self.proc = None


class Sender(threading.Thread):
    """Hands its share of the messages to the MTA and notes what it took."""

    def __init__(self, mta, numbers):
        super().__init__(daemon=True)
        self.mta, self.numbers, self.taken = mta, numbers, []
        self.why = None
        self.start()

    def run(self):
        try:
            conn = smtplib.SMTP(HOST, self.mta.port, timeout=120,
                                local_hostname="client.localhost")
            for n in self.numbers:
                user = "user%d" % (n % len(USERS))
                conn.sendmail("sender@example.org", [user + "@example.org"],
                              message(n, 300 + n * 97 % 4000, user))
                self.taken.append(n)
            conn.quit()
        except Exception as e:  # told at the end, with what was taken so far
            self.why = e


def swap(pair):
    """The twins change places; tried until it works."""
    def done():
        master = pair.master()
        if master is None:
            return None
        code, out, err = master.ctl("swap")
        if code == 8:
            master.ctl("unfence")
        return out if code == 0 else None
    return wait_for("a swap", done, 90).strip()


def kill(pair):
    """kill -9 of the master, which comes back."""
    master = wait_for("a master", pair.master)
    master.kill()
    time.sleep(DOWN_S)
    master.start()


def chaos(pair, total, swaps, kills):
    """Events in turn, spread over the deliveries."""
    events = sorted([((i + 1) / (swaps + 1), swap) for i in range(swaps)] +
                    [((i + 1) / (kills + 1) - 0.02, kill)
                     for i in range(kills)], key=lambda e: e[0])

    def delivered():
        master = pair.master()
        return master.status()["here"]["durable"] if master else 0
    for at, event in events:
        wait_for("%d deliveries" % (at * total),
                 lambda: delivered() >= at * total, 600)
        began = time.monotonic()
        said = event(pair)
        print("  at %6d: %s (%.1f s)%s" % (
            at * total, event.__name__, time.monotonic() - began,
            ": " + said.splitlines()[-1] if said else ""), flush=True)


def compare(pair, taken):
    """Faults: what was taken and is not there once, on either side."""
    faults = []
    pair.wait_equal(asked=pair.master(), timeout=120)
    for instance in (pair.a, pair.b):
        found = {}
        for user in USERS:
            for _, raw in mailbox(instance, user):
                n = number_of(raw)
                found[n] = found.get(n, 0) + 1
                if n is None or n % len(USERS) != int(user[4:]):
                    faults.append("message %r in the mailbox of %s" % (n, user))
        lost = sorted(set(taken) - set(found))
        twice = sorted(n for n, times in found.items() if times > 1)
        strange = sorted(str(n) for n in set(found) - set(taken))
        print("  %s: %d messages, %d lost, %d twice, %d nobody sent" % (
            instance.name, sum(found.values()), len(lost), len(twice),
            len(strange)))
        for what, which in (("lost", lost), ("twice", twice),
                            ("strange", strange)):
            if which:
                faults.append("%s on %s: %s" % (what, instance.name,
                                                which[:10]))
    return faults


def run(name, make, root, argv, counts=(20000, 10, 5)):
    """make(ROOT, directory, pair) is an MTA that delivers into the pair.  ARGV:
    [BINDIR [MESSAGES [SWAPS [KILLS]]]], else COUNTS.  The exit code."""
    bin_dir = argv[0] if argv else os.path.join(TOP, "build", "debug", "bin")
    total, swaps, kills = [int(argv[i + 1]) if len(argv) > i + 1 else n
                           for i, n in enumerate(counts)]
    if os.geteuid() != 0:
        print("skipped: %s wants to be started by root" % name)
        return 77
    if root is None:
        print("skipped: Debian's %s could not be downloaded" % name)
        return 77
    tmp = tempfile.mkdtemp(prefix="pollux-%s-" % name)
    os.chmod(tmp, 0o755)
    pair = Pair(bin_dir, os.path.join(tmp, "pair"), USERS)
    mta, good = None, False
    try:
        pair.set_up()
        pair.start()
        pair.a.must("promote")
        pair.wait_equal()
        mta = make(root, tmp, pair)
        mta.start()
        print("%d messages by %d sessions through %s, %d swaps, %d kill -9" % (
            total, SENDERS, name, swaps, kills), flush=True)
        began = time.monotonic()
        faults = deliver(name, mta, pair, total, swaps, kills)
        for fault in faults:
            print("FAULT: " + fault)
        good = not faults
        print("%s: %s, %d messages in %.0f s" % (
            name, "all there exactly once" if good else "FAILED", total,
            time.monotonic() - began))
        return 0 if good else 1
    finally:
        if mta:
            mta.stop()
        pair.kill()
        if good:
            shutil.rmtree(tmp, ignore_errors=True)
        else:
            print("kept: " + tmp)


def deliver(name, mta, pair, total, swaps, kills):
    """Faults of one run of TOTAL messages."""
    began = time.monotonic()
    senders = [Sender(mta, range(i, total, SENDERS)) for i in range(SENDERS)]
    chaos(pair, total, swaps, kills)
    for s in senders:
        s.join(600)
    taken = [n for s in senders for n in s.taken]
    faults = ["a sender stopped: %r" % s.why for s in senders if s.why]
    if len(taken) != total:
        faults.append("%s took %d of %d" % (name, len(taken), total))
    wait_for("the queue to be empty", lambda: mta.queued() == 0, 300)
    print("  all handed over after %.0f s; in the log: %s" % (
        time.monotonic() - began, mta.log_counts()))
    faults += compare(pair, taken)
    counts = mta.log_counts()
    if counts.get("bounced"):
        faults.append("%d were bounced" % counts["bounced"])
    return faults
