"""bench/growth: how cost grows with what is stored.

Stores of several sizes are made by `shape` through the store's own
transactions; then an instance runs over each of them at once, and what is
measured is asked of them in turns, so that a disk or neighbour that changes its
pace changes it for all sizes.  Medians of the rounds.
"""

import argparse
import os
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "peers")]
import report  # noqa: E402
import servers  # noqa: E402
import svg  # noqa: E402
from runner import Runner  # noqa: E402

GIB = 1 << 30
SETTLE_S = 300


class Shaped(servers.Pollux):
    """An instance over a store that `shape` made."""

    def __init__(self, runner, size, shape_args, options=None):
        self.size = size
        self.base = os.path.join(runner.base, "s%d" % size)
        os.mkdir(self.base)
        super().__init__(runner.build, self.base, ("u0000", "ubig", "admin"),
                         options)
        self.pair.set_up(rolling=False)
        self.instance = self.pair.a
        conf = os.path.join(self.instance.dir, "conf")
        spool = os.path.join(self.instance.dir, "spool")
        for d in (conf, spool):
            os.makedirs(d)
        self.shape = runner.program(
            "shape", ["-d", conf, "-s", spool, *shape_args], timeout=3600)

    def go(self):
        """Starts it; seconds until a user was told what is in the INBOX."""
        began = time.monotonic()
        self.instance.start(wait=False)
        while not self.answers():
            if self.instance.proc.poll() is not None:
                raise SystemExit("ended with %d\n%s" % (
                    self.instance.proc.returncode, self.complaint()))
            if time.monotonic() > began + 600:
                raise SystemExit("no answer for 600 s\n" + self.complaint())
            time.sleep(0.001)
        return time.monotonic() - began

    def settle(self):
        """Waits until it does nothing: RocksDB still compacts what was just
        written, and that is not the cost of what is measured next."""
        end, quiet = time.monotonic() + SETTLE_S, 0
        before = self.cpu_s()
        while quiet < 4:
            time.sleep(0.25)
            now = self.cpu_s()
            quiet = quiet + 1 if now - before < 0.005 else 0
            before = now
            if time.monotonic() > end:
                print("    %s: still at work after %d s" % (
                    self.size, SETTLE_S), flush=True)
                return

    def answers(self):
        try:
            with socket.create_connection((self.host, self.imap_port),
                                          30) as s:
                s.sendall(b"a LOGIN u0000 secret\r\nb EXAMINE INBOX\r\n")
                got = b""
                while b"\r\nb " not in got:
                    more = s.recv(65536)
                    if not more:
                        return False
                    got += more
            return b"\r\nb OK" in got
        except OSError:
            return False

    def end(self):
        if self.instance.stop(120) != 0:
            raise SystemExit("did not stop well\n" + self.complaint())

    def forget_pages(self):
        """Nothing of its files stays in the page cache."""
        os.sync()
        for d, _, names in os.walk(self.instance.dir):
            for name in names:
                try:
                    fd = os.open(os.path.join(d, name), os.O_RDONLY)
                except OSError:
                    continue
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)

    def drop(self):
        self.stop()
        shutil.rmtree(self.base)


class Growth(Runner):
    def __init__(self, args):
        super().__init__(args.build, tempfile.mkdtemp(
            prefix="pollux-growth.", dir=args.dir))
        self.args = args
        self.quick = args.quick
        self.rounds = args.rounds
        self.stores = []
        self.results = {
            "machine": report.machine(), "load_before": report.load_1min(),
            "quick": args.quick, "rounds": args.rounds, "parts": {}}

    # -- steps that the parts share --

    def make(self, sizes, shape_args):
        """Instances over one store for each size, running."""
        self.stores = []
        for size in sizes:
            self.stores.append(Shaped(self, size, shape_args(size)))
            print("    %s: made at %.0f /s" % (size, made_per_s(
                self.stores[-1].shape)), flush=True)

    def drop_all(self):
        for s in self.stores:
            s.drop()
        self.stores = []

    def starts(self, out, cold=True):
        """Start times, over cold files and over warm ones; all run then."""
        for s in self.stores:
            if cold:
                s.forget_pages()
                out[s.size]["start_cold_ms"] = s.go() * 1e3
                s.settle()
                s.end()
            out[s.size]["start_ms"] = s.go() * 1e3
            s.settle()

    def in_turns(self, out, name, ask, value):
        """ASK(store) of every store in turns; VALUE of its answers as
        medians, by column."""
        got = {s.size: [] for s in self.stores}
        for _ in range(self.rounds):
            for s in self.stores:
                got[s.size].append(ask(s))
        for size, answers in got.items():
            for column, key in value.items():
                out[size][column] = statistics.median(
                    a[key] for a in answers)
            out[size].setdefault("runs", {})[name] = answers

    def report(self, part, title, x_name, out, ratio=None):
        columns = [c for c in dict.fromkeys(
            c for row in out.values() for c in row) if c != "runs"]
        header = [title, *[c.replace("_", " ") for c in columns]]
        rows = [["{:,}".format(size), *[
            figure(row.get(c)) for c in columns]] for size, row in out.items()]
        widths = [max(len(r[i]) for r in [header, *rows])
                  for i in range(len(header))]
        print("")
        for r in [header, *rows]:
            print("  " + "  ".join(c.rjust(w) for c, w in zip(r, widths)))
        said = []
        for column, limit in ratio or ():
            sizes = list(out)
            least, most = (out[sizes[0]][column], out[sizes[-1]][column])
            said.append("%s at %s is %.2f times that at %s%s" % (
                column.replace("_", " "), "{:,}".format(sizes[-1]),
                most / least, "{:,}".format(sizes[0]),
                "" if limit is None else "; at most %s: %s" % (
                    limit, "met" if most <= limit * least else "missed")))
            print("  " + said[-1])
        print("", flush=True)
        self.results["parts"][part] = {
            "title": title, "x": x_name, "columns": columns,
            "header": header, "rows": rows, "said": said,
            "sizes": {str(size): row for size, row in out.items()}}
        if self.args.svg:
            os.makedirs(self.args.svg, exist_ok=True)
            for unit, what in (("us", "microseconds"), ("ms", "milliseconds")):
                series = {c.replace("_", " "): [
                    (size, row.get(c)) for size, row in out.items()]
                    for c in columns if ("_%s" % unit) in c}
                svg.plot(os.path.join(self.args.svg, "growth-%s-%s.svg" % (
                    part, unit)), "cost by %s" % x_name, x_name, what, series)

    # -- the parts --

    def messages(self):
        """Messages in one mailbox."""
        sizes = (100, 10000) if self.quick else (1000, 100000, 1000000)
        n = 200 if self.quick else 1000
        self.make(sizes, lambda size: [
            "-U", 1, "-M", 1, "-N", 1, "-B", size, "-b", 1000])
        out = {size: {} for size in sizes}
        for s in self.stores:
            s.go()
            s.settle()
            s.end()
            s.forget_pages()
            s.go()
            out[s.size]["select_cold_ms"] = self.imap(
                s, "ubig", "SELECT INBOX")["ms"]
        self.in_turns(out, "select", lambda s: self.imap(
            s, "ubig", "-x", "SELECT INBOX", "-n", 10, "SELECT INBOX"),
            {"select_warm_ms": "p50_ms"})
        self.in_turns(out, "other", lambda s: self.lmtp(
            s, "-c", 1, "-U", "u0000", "-n", n, "-b", 4096),
            {"delivery_elsewhere_us_cpu": "server_cpu_us_each"})
        self.in_turns(out, "delivery", lambda s: self.lmtp(
            s, "-c", 1, "-U", "ubig", "-n", n, "-b", 4096),
            {"delivery_us_cpu": "server_cpu_us_each",
             "delivery_p50_ms": "p50_ms"})
        self.in_turns(out, "append", lambda s: self.append(
            s, "-c", 1, "-U", "ubig", "-n", n, "-b", 4096),
            {"append_us_cpu": "server_cpu_us_each",
             "append_p50_ms": "p50_ms"})
        self.in_turns(out, "flags", lambda s: self.imap(
            s, "ubig", "-x", "SELECT INBOX", "-n", n // 10,
            "STORE %d +FLAGS.SILENT (\\Seen)", "-f", 1),
            {"store_one_p50_ms": "p50_ms"})
        self.report("messages", "messages in the mailbox", "messages", out,
                    [("delivery_us_cpu", 1.3), ("delivery_p50_ms", 1.3)])

    def users(self):
        sizes = (1, 10, 100) if self.quick else (1, 10, 100, 1000, 10000)
        n = 500 if self.quick else 5000
        self.make(sizes, lambda size: ["-U", size, "-M", size, "-N", size])
        out = {size: {} for size in sizes}
        self.starts(out)
        for connections in (1, 8):
            self.in_turns(
                out, "delivery%d" % connections, lambda s: self.lmtp(
                    s, "-c", connections, "-u", s.size, "-n", n, "-b", 4096),
                {"delivery_%d_us_cpu" % connections: "server_cpu_us_each",
                 "delivery_%d_per_s" % connections: "per_s"})
        self.report("users", "users", "users", out,
                    [("delivery_1_us_cpu", None)])

    def mailboxes(self):
        sizes = (100, 5000) if self.quick else (100, 10000, 100000, 500000)
        n = 200 if self.quick else 1000

        def users_of(size):
            return max(1, min(44000, size // 10))
        self.make(sizes, lambda size: ["-U", users_of(size), "-M", size, "-N",
                                       size, "-b", 600])
        out = {size: {} for size in sizes}
        self.starts(out)
        made = [0]

        def create(s):
            made[0] += n
            return self.imap(s, "u0000", "-n", n, "-f", made[0],
                             "CREATE made%d")
        self.in_turns(out, "list", lambda s: self.imap(
            s, "u0000", "-n", 5, 'LIST "" "%"'), {"list_own_ms": "p50_ms"})
        self.in_turns(out, "list_all", lambda s: self.imap(
            s, "admin", 'LIST "" "*"'), {"list_all_ms": "ms"})
        self.in_turns(out, "create", create, {"create_p50_ms": "p50_ms"})
        self.in_turns(out, "delivery", lambda s: self.lmtp(
            s, "-c", 1, "-u", min(10000, users_of(s.size)), "-n", n, "-b",
            4096),
            {"delivery_us_cpu": "server_cpu_us_each",
             "delivery_p50_ms": "p50_ms"})
        last = out[sizes[-1]]
        self.report("mailboxes", "mailboxes", "mailboxes", out,
                    [("delivery_us_cpu", None), ("create_p50_ms", None)])
        if not self.quick:
            print("  start with %d mailboxes under 2 s: %s\n" % (
                sizes[-1], "met" if last["start_cold_ms"] < 2000
                else "missed"))

    def log(self):
        """Size of the log."""
        free = shutil.disk_usage(self.base).free
        wanted = (0.1, 0.5) if self.quick else (1, 5, 20)
        sizes = [g for g in wanted if 2 * sum(
            w for w in wanted if w <= g) * GIB < free]
        for g in wanted:
            if g not in sizes:
                print("    without %s GiB: %d GiB are free" % (g, free / GIB))
        each = self.log_bytes_each(65536)
        out = {}
        for g in sizes:  # one after another: room for the largest only
            self.make([int(g * 1024)], lambda mib: [
                "-U", 100, "-M", 100, "-N", int(mib * (1 << 20) / each), "-b",
                65536])
            s = self.stores[0]
            row = out[s.size] = {"log_gib": s.shape["log_bytes"] / GIB}
            self.starts(out)
            r = [self.lmtp(s, "-c", 1, "-u", 100, "-n", 500, "-b", 4096)
                 for _ in range(self.rounds)]
            row["delivery_us_cpu"] = statistics.median(
                x["server_cpu_us_each"] for x in r)
            row["delivery_p50_ms"] = statistics.median(
                x["p50_ms"] for x in r)
            row["select_ms"] = self.imap(s, "u0000", "SELECT INBOX")["ms"]
            self.drop_all()
        self.report("log", "MiB of log", "MiB of log", out)

    def log_bytes_each(self, size):
        """What a message of SIZE bytes takes in the log."""
        n = (8 << 20) // size
        # Small segments: the log counts whole ones.
        probe = Shaped(self, 0, ["-U", 10, "-M", 10, "-N", n, "-b", size,
                                 "-S", 1])
        probe.drop()
        return probe.shape["log_bytes"] / n

    def replay(self):
        """Restart after kill -9, by how much log the state had not flushed."""
        sizes = (16, 64) if self.quick else (64, 256, 512)
        out = {size: {} for size in sizes}
        each = self.log_bytes_each(4096)
        self.make(sizes, lambda mib: [
            "-U", 100, "-M", 100, "-N", int(mib * (1 << 20) / each), "-b",
            4096, "-k"])
        for s in self.stores:
            out[s.size]["log_mib"] = s.shape["log_bytes"] / (1 << 20)
            out[s.size]["records"] = s.shape["records"]
            out[s.size]["start_ms"] = s.go() * 1e3
        self.report("replay", "MiB of log asked for", "MiB", out)

    def close(self):
        for s in self.stores:
            s.stop()
        shutil.rmtree(self.base, ignore_errors=True)


PARTS = ("messages", "users", "mailboxes", "log", "replay")


def made_per_s(shape):
    took = shape["create_s"] + shape["append_s"]
    return (shape["mailboxes"] + shape["messages"]) / max(took, 0.001)


def figure(value):
    if value is None:
        return ""
    if value >= 100:
        return "{:,.0f}".format(value)
    return "%.2f" % value


def markdown(results):
    text = "`bench/growth%s`, release build, medians of %d rounds in turns. " \
        "%s.\n" % (" --quick" if results["quick"] else "", results["rounds"],
                   report.machine_line(results["machine"],
                                       results["load_before"]))
    for part in results["parts"].values():
        text += "\n" + report.markdown_table(part["header"], part["rows"])
        text += "".join("\n%s.\n" % said for said in part["said"])
    return text


def main():
    a = argparse.ArgumentParser(prog="bench/growth")
    a.add_argument("build", help=argparse.SUPPRESS)
    a.add_argument("--quick", action="store_true", help="small sizes")
    a.add_argument("--only", default=",".join(PARTS),
                   help="parts, of " + ", ".join(PARTS))
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--dir", default="/var/tmp",
                   help="where the stores lie (/var/tmp)")
    a.add_argument("--svg", default="build/growth",
                   help="directory for the plots (build/growth); empty: none")
    a.add_argument("--json", default=None,
                   help="where the figures go (build/bench-growth.json)")
    a.add_argument("--markdown", default=None,
                   help="page whose section about growth is written anew")
    args = a.parse_args()
    parts = args.only.split(",")
    if not set(parts) <= set(PARTS) or args.rounds < 1:
        a.error("parts are " + ", ".join(PARTS) + "; at least one round")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    g = Growth(args)
    print(report.machine_line(g.results["machine"], g.results["load_before"]))
    try:
        for part in PARTS:
            if part in parts:
                print("  %s" % part, flush=True)
                getattr(g, part)()
                g.drop_all()
    finally:
        g.close()
    out = args.json or os.path.join(os.path.dirname(args.build),
                                    "bench-growth.json")
    report.write_json(out, g.results)
    if args.markdown:
        report.put_section(args.markdown, "Growth", markdown(g.results))
    print("all figures: %s" % os.path.relpath(out))


if __name__ == "__main__":
    main()
