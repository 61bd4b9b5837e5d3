"""bench/run --compaction: what deliveries feel of the compactor.

Two instances over equal stores, one with the compactor at work and one with it
off. Both get 70 % of what the second can take, in turns, the other one stopped
meanwhile (SIGSTOP); p99 of the one beside p99 of the other. Latency counts from
when a message was due. That compaction did go on all the time is seen by its
packs, which have to have grown.
"""

import argparse
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "peers")]
import report  # noqa: E402
from growth import Shaped  # noqa: E402
from runner import Runner  # noqa: E402

USERS = 64
SHARE = 0.7     # of the highest rate
TARGET = 3.0    # times the p99 without compaction

# Options of imapd.conf: nothing is old enough to be packed, or all is.  The
# rate is the default.  Segments are small: of one that is read first, and then
# moved, a turn may see but the reading.
SEGMENT_MIB = 8
OFF = {"log_keep_bytes": "1000G", "sync_segment_bytes": "%dM" % SEGMENT_MIB}
ON = {**OFF, "log_keep_bytes": "0"}


def bytes_below(path):
    total = 0
    for d, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(d, name)).st_blocks * 512
            except OSError:
                continue
    return total


class Compaction(Runner):
    def __init__(self, args):
        super().__init__(args.build, tempfile.mkdtemp(
            prefix="pollux-compaction.", dir=args.dir))
        self.args = args
        self.stores = {}
        self.results = {
            "machine": report.machine(), "load_before": report.load_1min(),
            "quick": args.quick, "rounds": args.rounds}

    def packs(self, store):
        return bytes_below(os.path.join(store.instance.dir, "spool"))

    def make(self, messages):
        for number, (name, options) in enumerate((("off", OFF), ("on", ON))):
            s = Shaped(self, number, [
                "-U", USERS, "-M", USERS, "-N", messages, "-b", 4096,
                "-S", SEGMENT_MIB], options)
            self.stores[name] = s
            s.go()
            if name == "off":
                s.settle()
            self.signal(name, signal.SIGSTOP)
            print("  compactor %s: %d messages" % (name, messages), flush=True)

    def signal(self, name, number):
        os.kill(self.stores[name].instance.proc.pid, number)

    def load(self, name, rate, seconds):
        self.signal(name, signal.SIGCONT)
        try:
            return self.load_running(name, rate, seconds)
        finally:
            self.signal(name, signal.SIGSTOP)

    def load_running(self, name, rate, seconds):
        s = self.stores[name]
        before, log = self.packs(s), time.monotonic()
        r = self.lmtp(s, "-c", 8, "-u", USERS, "-w", 1, "-t", seconds,
                      *(["-r", rate] if rate else []))
        r["packed_bytes"] = self.packs(s) - before
        r["packed_mib_per_s"] = r["packed_bytes"] / (1 << 20) / (
            time.monotonic() - log)
        return r

    def run(self):
        quick = self.args.quick
        seconds = 3 if quick else 10
        # Several segments of the log: the newest one is never packed.
        self.make(100000 if quick else self.args.messages)
        most = statistics.median(
            self.load("off", 0, 2 if quick else 4)["per_s"]
            for _ in range(1 if quick else 3))
        rate = max(1, int(SHARE * most))
        runs = {"off": [], "on": []}
        for _ in range(self.args.rounds):
            for name in runs:
                r = self.load(name, rate, seconds)
                runs[name].append(r)
                print("  %-3s  %d /s of at most %d: p50 %.2f p99 %.2f max "
                      "%.1f ms, %.1f MiB/s packed" % (
                          name, r["per_s"], most, r["p50_ms"], r["p99_ms"],
                          r["max_ms"], r["packed_mib_per_s"]), flush=True)
        idle = [r for r in runs["on"] if r["packed_bytes"] <= 0]
        p99 = {name: statistics.median(r["p99_ms"] for r in got)
               for name, got in runs.items()}
        self.results.update(
            most_per_s=most, rate=rate, runs=runs, p99_ms=p99,
            ratio=p99["on"] / p99["off"],
            packed_mib_per_s=statistics.median(
                r["packed_mib_per_s"] for r in runs["on"]),
            valid=not idle)
        if idle:
            raise SystemExit("nothing was packed in %d of %d runs" % (
                len(idle), len(runs["on"])))
        slow = [r for got in runs.values() for r in got
                if r["per_s"] < 0.95 * rate]
        if slow:
            print("  the rate was not reached in %d of %d runs: the machine "
                  "is too busy for this" % (
                      len(slow), sum(len(got) for got in runs.values())))
        self.results["rate_reached"] = not slow
        print("  " + said(self.results))

    def close(self):
        for s in self.stores.values():
            s.stop()
        shutil.rmtree(self.base, ignore_errors=True)


def said(results):
    return ("p99 of deliveries at %d/s: %.2f ms with the compactor at work "
            "(%.1f MiB/s into packs), %.2f ms without: %.2f times, at most "
            "%s: %s" % (
                results["rate"], results["p99_ms"]["on"],
                results["packed_mib_per_s"], results["p99_ms"]["off"],
                results["ratio"], TARGET,
                "met" if results["ratio"] <= TARGET else "missed"))


def main():
    a = argparse.ArgumentParser(prog="bench/run --compaction")
    a.add_argument("build", help=argparse.SUPPRESS)
    a.add_argument("--quick", action="store_true", help="small and short")
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--messages", type=int, default=500000,
                   help="of 4 KiB to begin with (500000)")
    a.add_argument("--dir", default="/var/tmp",
                   help="where the stores lie (/var/tmp)")
    a.add_argument("--json", default=None,
                   help="where the figures go (build/bench-compaction.json)")
    a.add_argument("--markdown", default=None,
                   help="page whose section about it is written anew")
    args = a.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    c = Compaction(args)
    line = report.machine_line(c.results["machine"],
                               c.results["load_before"])
    print(line)
    try:
        c.run()
    finally:
        c.close()
    out = args.json or os.path.join(os.path.dirname(args.build),
                                    "bench-compaction.json")
    report.write_json(out, c.results)
    if args.markdown:
        report.put_section(
            args.markdown, "Deliveries during compaction",
            "`bench/run --compaction`, release build; medians of %d rounds "
            "in turns. %s.\n\n%s.\n" % (args.rounds, line, said(c.results)))
    print("all figures: %s" % os.path.relpath(out))


if __name__ == "__main__":
    main()
