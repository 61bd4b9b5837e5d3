"""The measurements of bench/run: measure.py BUILD_DIR [--quick] ..."""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "tests", "lib")]
import turns  # noqa: E402
from pair import Pair  # noqa: E402
from report import (load_1min, machine, machine_line,  # noqa: E402
                    markdown_table, put_section, write_json)

USERS = {"u%04d" % n: "secret" for n in range(32)}
PARTS = ("raw", "lmtp", "ack", "lag", "idle", "seed", "turns")


class Bench:
    def __init__(self, args):
        self.args = args
        self.quick = args.quick
        self.results = {"machine": machine(), "quick": args.quick,
                        "load_before": load_1min()}
        self.rows = []
        self.pairs = []
        self.certificates = None

    def tool(self, name, *args, timeout=600):
        done = subprocess.run(
            [os.path.join(self.args.build, "bench", name),
             *[str(a) for a in args]],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout)
        if done.returncode != 0:
            raise SystemExit("%s %s: %s%s" % (
                name, " ".join(str(a) for a in args), done.stdout,
                done.stderr))
        return json.loads(done.stdout)

    def pair(self, rolling=True, options=None):
        base = tempfile.mkdtemp(prefix="pollux-bench.", dir=self.args.dir)
        p = Pair(os.path.join(self.args.build, "bin"), base, USERS, options)
        p.set_up(rolling)
        self.pairs.append(p)
        return p

    def drop(self, p):
        p.kill()
        shutil.rmtree(p.base, ignore_errors=True)
        self.pairs.remove(p)

    def row(self, what, measured, limit):
        self.rows.append((what, measured, limit))
        print("  %-44s %-58s %s" % (what, measured, limit), flush=True)

    # ---- parts ----

    def raw(self):
        t = 1 if self.quick else 3
        disk = {g: self.tool("rawdisk", "-g", g, "-t", t, self.args.dir)
                for g in (1, 8, 32)}
        big = self.tool("rawdisk", "-b", 1 << 20, "-t", t, self.args.dir)
        net = self.tool("rawnet", "-t", t)
        self.results["raw"] = {"disk": disk, "disk_1mib": big, "net": net}
        for g, r in disk.items():
            self.row("append + fdatasync, 4 KiB, groups of %d" % g,
                     "%.0f records/s, p50 %.3f p99 %.3f ms a sync" % (
                         r["records_per_s"], r["p50_ms"], r["p99_ms"]), "")
        self.row("append + fdatasync, 1 MiB",
                 "%.0f MiB/s" % big["mib_per_s"], "")
        self.row("loopback TCP, one connection",
                 "%.0f MiB/s, %.3f ms there and back" % (
                     net["mib_per_s"], net["rtt_p50_ms"]), "")

    def disk_now(self, group, rate=None):
        """The disk's limit once more: it changes within a minute.  RATE: so
        many groups a second."""
        paced = () if rate is None else ("-r", rate, "-t", 3)
        return self.tool("rawdisk", "-g", group, "-t", 1, *paced,
                         self.args.dir)

    def lmtp_runs(self, p, connections):
        seconds, runs = (2, 1) if self.quick else (5, 3)
        got = []
        for _ in range(runs):
            before = [cpu_s(i) for i in (p.a, p.b)]
            r = self.tool(
                "mailload", "-h", p.a.host, "-p", p.a.lmtp_port, "-c",
                connections, "-u", len(USERS), "-w", 1, "-t", seconds)
            r["cpu_us_each"] = {
                i.name: (cpu_s(i) - b) * 1e6 / r["answered"]
                for i, b in zip((p.a, p.b), before)}
            got.append(r)
        rate = statistics.median_low([r["per_s"] for r in got])
        return next(r for r in got if r["per_s"] == rate), got

    def lmtp(self):
        out = self.results["lmtp"] = []
        for with_replica in (False, True):
            p = self.pair(rolling=with_replica)
            p.a.start()
            if with_replica:
                p.b.start()
            p.a.must("promote")
            for connections in (1, 8, 32):
                disk = self.disk_now(connections)
                r, all_runs = self.lmtp_runs(p, connections)
                behind = None
                if with_replica:
                    began = time.monotonic()
                    p.wait_equal(timeout=120)
                    behind = time.monotonic() - began
                out.append({"replica": with_replica,
                            "connections": connections, "median": r,
                            "runs": all_runs, "disk": disk,
                            "caught_up_s": behind})
                self.row("LMTP 4 KiB, %2d connection%s, %s" % (
                    connections, " " if connections == 1 else "s",
                    "with replica" if with_replica else "alone"),
                    "%.0f /s, p50 %.2f p99 %.2f ms, %.0f us CPU%s" % (
                        r["per_s"], r["p50_ms"], r["p99_ms"],
                        sum(r["cpu_us_each"].values()), "" if behind is None else
                        ", equal %.2f s later" % behind),
                    "%.0f /s (disk, groups of %d)" % (
                        disk["records_per_s"], connections))
            self.drop(p)

    def ack(self):
        """What waiting for the replica costs one delivery.  Turn by turn, for
        the disk is another one a minute later."""
        kinds = (("alone", None), ("replica, sync_ack none", "none"),
                 ("replica, sync_ack received", "received"),
                 ("replica, sync_ack durable", "durable"))
        pairs = []
        for _, mode in kinds:
            p = self.pair(rolling=mode is not None, options={} if mode in (
                None, "none") else {"sync_ack": mode})
            p.a.start()
            if mode is not None:
                p.b.start()
            p.a.must("promote")
            if mode is not None:
                p.wait_equal()
            pairs.append(p)
        turns = [[self.tool("mailload", "-h", p.a.host, "-p", p.a.lmtp_port,
                            "-c", 1, "-u", len(USERS), "-w", 1, "-t", 1)
                  for p in pairs] for _ in range(2 if self.quick else 9)]
        out = self.results["ack"] = []
        for i, (what, mode) in enumerate(kinds):
            p50 = statistics.median(t[i]["p50_ms"] for t in turns)
            times = statistics.median(t[i]["p50_ms"] / t[0]["p50_ms"]
                                      for t in turns)
            out.append({"what": what, "p50_ms": p50, "times": times,
                        "turns": [t[i] for t in turns]})
            self.row("a delivery, %s" % what,
                     "p50 %.2f ms, %.2f times that alone" % (p50, times),
                     "2.5 times (goal)" if mode == "durable" else "")
        for p in pairs:
            self.drop(p)

    def lag(self):
        p = self.pair()
        p.start()
        p.a.must("promote")
        c = p.a.lmtp()
        p.a.deliver(c, ["u0000"], b"Subject: first\r\n\r\nfirst\r\n")
        c.quit()
        p.wait_equal()
        slots = os.path.join(p.a.dir, "conf", "synclog")
        out = self.results["lag"] = {}
        for name, rate, n, connections in (("idle", 20, 400, 1),
                                           ("at 1000 messages/s", 1000, 10000,
                                            8)):
            if self.quick:
                n //= 5
            disk = self.disk_now(1, rate)
            rtt = self.results["raw"]["net"]["rtt_p50_ms"]
            one, two = ("p50 %.2f p99 %.2f ms (%s and a round trip)" % (
                k * disk["p50_ms"] + rtt, k * disk["p99_ms"] + rtt, what)
                for k, what in ((1, "a sync"), (2, "two syncs")))
            r = self.tool("lag", "-h", p.a.host, "-p", p.a.lmtp_port, "-H",
                          p.b.host, "-i", p.b.imap_port, "-u", "u0000", "-r",
                          rate, "-n", n, "-c", connections, "-s", slots)
            out[name] = dict(r, disk=disk)
            self.row("lag %s: commit to applied" % name,
                     "p50 %.2f p99 %.2f ms" % (
                         r["channel_p50_ms"], r["channel_p99_ms"]), two)
            self.row("lag %s: 250 to EXISTS there" % name,
                     "p50 %.2f p99 %.2f ms" % (
                         r["visible_after_250_p50_ms"],
                         r["visible_after_250_p99_ms"]), one)
        _, text, _ = p.a.ctl("status")
        self.results["lag_status"] = text
        self.drop(p)

    def idle(self):
        """10,000 clients that wait, and how fast clients can come."""
        n = 200 if self.quick else 10000
        p = self.pair(rolling=False, options=self.certificate())
        p.a.start()
        p.a.must("promote")
        self.tool("mailload", "-h", p.a.host, "-p", p.a.lmtp_port, "-u",
                  len(USERS), "-n", 50 * len(USERS), "-c", 8)
        self.results["idle"] = []
        for what, limit, extra in (
                ("SELECTed", "24 KiB", ()), ("in IDLE", "24 KiB", ("-i",)),
                ("SELECTed, TLS", "48 KiB", ("-t",))):
            # Memory of the load before must not be reused and hide the cost.
            p.a.stop()
            p.a.start()
            r = self.tool("idle", "-h", p.a.host, "-p", p.a.imap_port, "-s",
                          p.a.proc.pid, "-n", n, "-u", len(USERS), *extra)
            self.results["idle"].append(r)
            self.row("memory of an idle connection, %s" % what,
                     "%.1f KiB each of %d" % (r["kib_each"], n),
                     "%s (goal)" % limit)
        self.results["logins"] = []
        for connections in (1, 8):
            cpu = cpu_s(p.a)
            r = self.tool("logins", "-h", p.a.host, "-p", p.a.imap_port, "-c",
                          connections, "-t", 2 if self.quick else 5, "-u",
                          len(USERS))
            r["server_cpu_us_each"] = (cpu_s(p.a) - cpu) * 1e6 / r["answered"]
            self.results["logins"].append(r)
            self.row("LOGIN and LOGOUT, %d connection%s at a time" % (
                connections, "" if connections == 1 else "s"),
                "%.0f /s, p50 %.2f p99 %.2f ms, %.0f us CPU" % (
                    r["per_s"], r["p50_ms"], r["p99_ms"],
                    r["server_cpu_us_each"]), "1000 /s (goal)")
        self.drop(p)

    def certificate(self):
        """Options for TLS with a certificate of our own."""
        self.certificates = tempfile.mkdtemp(prefix="pollux-bench-cert.")
        cert, key = (os.path.join(self.certificates, name)
                     for name in ("cert.pem", "key.pem"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
             "/CN=localhost", "-keyout", key, "-out", cert],
            check=True, capture_output=True)
        return {"tls_server_cert": cert, "tls_server_key": key}

    def seed(self):
        n = 5000 if self.quick else 50000
        p = self.pair(rolling=False)
        p.a.start()
        p.a.must("promote")
        load = self.tool("mailload", "-h", p.a.host, "-p", p.a.lmtp_port,
                         "-u", len(USERS), "-n", n, "-c", 32)
        p.b.start()
        began = time.monotonic()
        done = subprocess.run(
            p.a.program("sync_client", "-A"), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=1800)
        took = time.monotonic() - began
        if done.returncode != 0:
            raise SystemExit("sync_client -A: exit %d: %s%s" % (
                done.returncode, done.stdout, done.stderr))
        p.wait_equal()
        disk = self.tool("rawdisk", "-b", 1 << 20, "-t", 1, self.args.dir)
        mib = n * 4096 / 2**20
        limit = mib / min(disk["mib_per_s"],
                          self.results["raw"]["net"]["mib_per_s"])
        self.results["seed"] = {"messages": n, "bytes": 4096, "seconds": took,
                                "load": load, "disk": disk,
                                "output": done.stdout}
        self.row("first sync of %d messages of 4 KiB" % n,
                 "%.2f s, %.0f /s, digests equal" % (took, n / took),
                 "%.2f s (%.0f MiB by disk and loopback)" % (limit, mib))
        self.drop(p)

    def turns(self):
        turns.measure(self)


def write_markdown(path, b):
    text = "`bench/run%s`, release build; client and both servers share the " \
        "cores. %s.\n\n" % (
            " --quick" if b.quick else "",
            machine_line(b.results["machine"], b.results["load_before"]))
    text += markdown_table(
        ("what", "measured", "raw limit, the same minute"), b.rows)
    text += "\nus CPU: of both instances and sync_client, for each message. " \
        "bench/README.md says how each is measured.\n"
    put_section(path, "A pair, beside the disk and the loopback", text)


def cpu_s(instance):
    """CPU time so far of an instance and its children."""
    if instance.proc is None:
        return 0.0
    ticks = 0
    for pid in os.listdir("/proc"):
        try:
            with open("/proc/%s/stat" % pid) as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if pid == str(instance.proc.pid) or (
                fields[1] == str(instance.proc.pid)):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main():
    a = argparse.ArgumentParser(prog="bench/run")
    a.add_argument("build", help=argparse.SUPPRESS)
    a.add_argument("--quick", action="store_true", help="shorter, one run each")
    a.add_argument("--only", default=",".join(PARTS),
                   help="parts, of " + ", ".join(PARTS))
    a.add_argument("--dir", default="/var/tmp",
                   help="where the stores lie (/var/tmp)")
    a.add_argument("--json", default=None,
                   help="where the figures go (build/bench.json)")
    a.add_argument("--markdown", default=None,
                   help="write the table there as well")
    args = a.parse_args()
    parts = args.only.split(",")
    if not set(parts) <= set(PARTS):
        a.error("parts are " + ", ".join(PARTS))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    b = Bench(args)
    print(machine_line(b.results["machine"], b.results["load_before"]))
    print("client and both servers share these cores\n")
    print("  %-44s %-58s %s" % ("what", "measured", "raw limit"))
    try:
        for part in PARTS:
            if part == "raw" or part in parts:
                getattr(b, part)()
    finally:
        for p in list(b.pairs):
            b.drop(p)
        if b.certificates is not None:
            shutil.rmtree(b.certificates, ignore_errors=True)
    out = args.json or os.path.join(os.path.dirname(args.build), "bench.json")
    write_json(out, b.results)
    if args.markdown:
        write_markdown(args.markdown, b)
    print("\nall figures: %s" % os.path.relpath(out))


if __name__ == "__main__":
    main()
