"""bench/run --level: what sync_client -A costs on a store of a university.

A store of bench/shape (44,000 users, 457,000 mailboxes), its replica by log, and
a Pollux of another history that is brought level by state. Then -A is run when
there is nothing to do, and when mail has come into 100 mailboxes.
"""

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, os.pardir, "tests", "lib")]
import report  # noqa: E402
from pair import Instance, Pair  # noqa: E402
from runner import Runner  # noqa: E402

CHANGED = 100
TARGETS = {"nothing": 1.0, "changed": 2.0}  # seconds


class Level(Runner):
    def __init__(self, args):
        super().__init__(args.build, tempfile.mkdtemp(
            prefix="pollux-level.", dir=args.dir))
        self.args = args
        self.pair = Pair(os.path.join(args.build, "bin"), self.base,
                         {"admin": "secret"})
        self.a = self.pair.a
        self.c = Instance(self.pair, "c")
        self.results = {"machine": report.machine(),
                        "load_before": report.load_1min(),
                        "users": args.users, "mailboxes": args.mailboxes}
        self.next = 0

    def begin(self):
        self.pair.set_up(rolling=False)
        self.a.configure(rolling=False, options={
            "far_sync_host": self.c.host, "far_sync_by_state": "yes"})
        self.c.configure(rolling=False, options={"sync_host": "127.0.0.99"})
        self.program("shape", [
            "-d", os.path.join(self.a.dir, "conf"),
            "-s", os.path.join(self.a.dir, "spool"),
            "-U", self.args.users, "-M", self.args.mailboxes])
        for i in (self.a, self.pair.b, self.c):
            i.start()
        self.c.must("promote")

    def run_all(self, *args):
        """sync_client -A: (seconds, what it said)."""
        began = time.monotonic()
        done = subprocess.run(
            self.a.program("sync_client", *args, "-A"),
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=3600)
        took = time.monotonic() - began
        if done.returncode != 0:
            raise SystemExit("sync_client %s -A: %s%s" % (
                " ".join(args), done.stdout[-500:], done.stderr[-2000:]))
        return took, done.stdout

    def change(self):
        """Mail into CHANGED mailboxes, each of another user."""
        conn = self.a.lmtp()
        step = self.args.users // CHANGED
        for i in range(CHANGED):
            name = "u%04d" % (i * step)
            codes = self.a.deliver(
                conn, [name], b"Subject: %d\r\n\r\nx\r\n" % self.next)
            if codes != [250]:
                raise SystemExit("delivery to %s: %r" % (name, codes))
            self.next += 1
        conn.quit()

    def measure(self, what, *args):
        got = {"nothing": [], "changed": []}
        first, said = self.run_all(*args)
        print("  %s: first -A %.1f s" % (what, first), flush=True)
        # The first one by state has written to what nobody owns.
        for _ in range(3):
            self.run_all(*args)
        for _ in range(self.args.rounds):
            took, said = self.run_all(*args)
            got["nothing"].append(took)
            self.change()
            took, said = self.run_all(*args)
            got["changed"].append(took)
            if "commands=" in said and not re.search(
                    r"users=%d .* level=%d " % (
                        CHANGED, self.args.users - CHANGED), said):
                raise SystemExit("looked at others than who changed: " + said)
            self.run_all(*args)
        r = {k: statistics.median(v) for k, v in got.items()}
        print("  %s: nothing to do %.3f s, %d mailboxes changed %.3f s" % (
            what, r["nothing"], CHANGED, r["changed"]), flush=True)
        self.results[what] = {"first_s": first, **r, "runs": got}

    def run(self):
        self.begin()
        self.measure("by log")
        self.measure("by state", "-n", "far")

    def close(self):
        self.pair.kill()
        self.c.kill()
        shutil.rmtree(self.base, ignore_errors=True)


def table(results):
    rows = []
    for what in ("by log", "by state"):
        r = results[what]
        rows.append([what, "%.1f s" % r["first_s"],
                     *("%.3f s (%s)" % (
                         r[k], "met" if r[k] <= TARGETS[k] else "missed")
                       for k in ("nothing", "changed"))])
    return report.markdown_table(
        ["`sync_client -A`", "the first time", "nothing to do (at most 1 s)",
         "%d mailboxes changed (at most 2 s)" % CHANGED], rows)


def main():
    a = argparse.ArgumentParser(prog="bench/run --level")
    a.add_argument("build", help=argparse.SUPPRESS)
    a.add_argument("--quick", action="store_true", help="a tenth of the store")
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--users", type=int, default=44000)
    a.add_argument("--mailboxes", type=int, default=457000)
    a.add_argument("--dir", default="/var/tmp",
                   help="where the stores lie (/var/tmp)")
    a.add_argument("--json", default=None,
                   help="where the figures go (build/bench-level.json)")
    a.add_argument("--markdown", default=None,
                   help="page whose section about it is written anew")
    args = a.parse_args()
    if args.quick:
        args.users, args.mailboxes = args.users // 10, args.mailboxes // 10
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    b = Level(args)
    line = report.machine_line(b.results["machine"], b.results["load_before"])
    print(line)
    try:
        b.run()
    finally:
        b.close()
    out = args.json or os.path.join(os.path.dirname(args.build),
                                    "bench-level.json")
    report.write_json(out, b.results)
    text = table(b.results)
    print(text)
    if args.markdown:
        report.put_section(
            args.markdown, "sync_client -A on a large store",
            "`bench/run --level`, release build; %d users, %d mailboxes; "
            "medians of %d. %s.\n\n%s" % (
                args.users, args.mailboxes, args.rounds, line, text))
    print("all figures: %s" % os.path.relpath(out))


if __name__ == "__main__":
    main()
