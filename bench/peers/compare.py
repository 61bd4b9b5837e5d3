"""bench/run --peers: Pollux beside Cyrus IMAP and Dovecot, in one run.

All three run at once, and what is measured is asked of them in turns: Pollux,
Cyrus, Dovecot, and again, so that a disk or neighbour that changes its pace
changes it for all.  Medians of the rounds, and ratios of the medians; a ratio
over 1 always says that Pollux is quicker.
"""

import argparse
import imaplib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..")]
import measures  # noqa: E402
import report  # noqa: E402
import servers  # noqa: E402
import syncing  # noqa: E402
from measures import FOLDERS, READER, USERS  # noqa: E402
from runner import Runner  # noqa: E402

MEASURES = measures.MEASURES + syncing.MEASURES
PARTS = list(dict.fromkeys(m.part for m in MEASURES))


class Comparison(Runner):
    def __init__(self, args):
        self.args = args
        self.seconds = args.seconds or (1 if args.quick else 4)
        self.messages = 1000 if args.quick else 20000
        self.folders = 100 if args.quick else 2000
        super().__init__(args.build, tempfile.mkdtemp(
            prefix="pollux-peers.", dir=args.dir))
        os.chmod(self.base, 0o755)  # the peers run as another user
        self.servers = []
        self.capabilities = {}
        self.results = {
            "machine": report.machine(), "load_before": report.load_1min(),
            "quick": args.quick, "rounds": args.rounds, "skipped": {},
            "seconds": self.seconds, "measures": []}

    def can(self, server, capability):
        if server.name not in self.capabilities:
            c = imaplib.IMAP4(server.host, server.imap_port, 30)
            c.login(USERS[0], servers.PASSWORD)
            _, lines = c.capability()
            self.capabilities[server.name] = lines[0].decode().split()
            c.logout()
        return capability in self.capabilities[server.name]

    # -- steps --

    def start(self):
        users = USERS + [READER, FOLDERS]
        a = self.args
        self.servers.append(servers.Pollux(
            a.build, self.base, users,
            {"search_engine": "squat"} if a.search_index else None))
        why_not = servers.why_not()
        if why_not is None:
            done = subprocess.run([os.path.join(HERE, "unpack"), a.packages])
            if done.returncode != 0:
                why_not = "their packages cannot be fetched"
        if why_not is None:
            self.servers += [
                servers.Cyrus(a.packages, self.base, users,
                              {"search_engine": "squat"}
                              if a.search_index else None),
                servers.Dovecot(a.packages, self.base, users,
                                a.dovecot_format)]
        else:
            self.results["skipped"]["Cyrus, Dovecot"] = why_not
            print("without Cyrus and Dovecot: %s" % why_not)
        for s in self.servers:
            s.start()
            # Mailboxes are made by the first delivery.
            self.lmtp(s, "-c", 4, "-u", len(USERS), "-n", len(USERS))
        self.results["servers"] = {
            s.name: {"version": s.version, "settings": s.settings}
            for s in self.servers}

    def fill(self, what):
        for s in self.servers:
            if what == "messages":
                self.imap(s, READER, "-m", 2300, "-n", self.messages, "-W", 32,
                          "INBOX")
                if self.args.search_index:
                    s.index()
            else:
                self.imap(s, FOLDERS, "-n", self.folders, "-W", 32,
                          "CREATE F%d")
                self.imap(s, FOLDERS, "-m", 600, "-n", self.folders, "-W", 32,
                          "F%d")

    def measure(self, m):
        text = m.text.format(messages=self.messages, folders=self.folders)
        asked = [s for s in self.servers
                 if getattr(m, "takes", lambda _: True)(s)]
        runs = {s.name: [] for s in asked}
        raw = []
        for round_number in range(self.args.rounds):
            if m.raw is not None:
                raw.append(m.raw(self))
            for s in asked:
                runs[s.name].append(m.measure(self, s, round_number))
        row = {"text": text, "part": m.part, "better": m.better,
               "target": m.target, "best_target": m.best_target,
               "raw_target": m.raw_target, "runs": runs,
               "raw": raw, "ratio": {}}
        row["median"] = {name: median(r) for name, r in runs.items()}
        ours = row["median"]["Pollux"]
        for name, r in row["median"].items():
            if name != "Pollux":
                row["ratio"][name] = (ours["value"] / r["value"]
                                      if m.better == "more"
                                      else r["value"] / ours["value"])
        if raw:
            row["raw_median"] = median(raw)
            row["p50_of_raw"] = ours["p50_ms"] / row["raw_median"]["p50_ms"]
        # Where it cannot be told apart nothing is said of it.
        row["others_cpu_share"] = max(
            (r["others_cpu_s"] / r["wall_s"] / os.cpu_count()
             for runs_of_one in runs.values() for r in runs_of_one
             if "others_cpu_s" in r), default=None)
        row["cells"] = self.cells(m, row)
        self.results["measures"].append(row)
        print("  %-45s %s" % (text, "  ".join(
            "%*s" % (w, c) for w, c in zip((13, 13, 13, 13, 7, 7, 0),
                                           row["cells"]))), flush=True)
        for s in asked:
            print("      %-8s %s" % (s.name, m.detail(
                row["median"][s.name])), flush=True)

    def cells(self, m, row):
        """Raw, each server, each ratio, target."""
        def shown(v):
            return "%.0f%s" % (v, m.unit) if v >= 100 else "%.1f%s" % (
                v, m.unit)
        names = ("Pollux", "Cyrus", "Dovecot")
        cells = [shown(row["raw_median"]["value"]) if row["raw"] else ""]
        cells += [shown(row["median"][n]["value"]) if n in row["median"]
                  else "" for n in names]
        cells += ["%.1f x" % row["ratio"][n] if n in row["ratio"] else ""
                  for n in names[1:]]
        target = ""
        if m.target and "Cyrus" in row["ratio"]:
            target = "%s x Cyrus: %s" % (
                m.target, verdict(row["ratio"]["Cyrus"] >= m.target))
        if m.best_target and row["ratio"]:
            least = min(row["ratio"].values())
            target += "%s%s x the quicker: %s" % (
                "; " if target else "", m.best_target,
                verdict(least >= m.best_target))
        if m.raw_target:
            target = "p50 %.3f ms <= %s x raw %.3f: %s" % (
                row["median"]["Pollux"]["p50_ms"], m.raw_target,
                row["raw_median"]["p50_ms"],
                verdict(row["p50_of_raw"] <= m.raw_target))
        return cells + [target]

    def run(self, parts):
        self.start()
        print("  %-45s %13s  %13s  %13s  %13s  %7s  %7s" % (
            "", "raw disk", "Pollux", "Cyrus", "Dovecot", "x Cyrus",
            "x Dovec."))
        filled = set()
        for m in MEASURES:
            if m.part not in parts:
                continue
            if m.part == "search" and self.args.search_index:
                m.target = None  # it is to a Cyrus without one
            if m.needs and m.needs not in filled:
                self.fill(m.needs)
                filled.add(m.needs)
            self.measure(m)

    def stop(self):
        for s in self.servers:
            s.stop()
        shutil.rmtree(self.base, ignore_errors=True)


def verdict(ok):
    return "met" if ok else "missed"


def median(runs):
    middle = statistics.median_low([r["value"] for r in runs])
    return next(r for r in runs if r["value"] == middle)


def markdown(results):
    text = ("`bench/run --peers%s`, release build, in turns in one run, medians "
            "of %d rounds of %d s; client and servers share the cores. %s.\n\n"
            % (" --quick" if results["quick"] else "", results["rounds"],
               results["seconds"],
               report.machine_line(results["machine"],
                                   results["load_before"])))
    for name, s in results["servers"].items():
        text += "- %s: %s, %s\n" % (name, s["version"], s["settings"])
    for name, why in results["skipped"].items():
        text += "- %s: not measured, %s\n" % (name, why)
    shares = [r["others_cpu_share"] for r in results["measures"]
              if r["others_cpu_share"] is not None] or [0.0]
    text += ("\nOther processes of the machine took up to %.0f %% of its CPU "
             "while one of these ran, %.0f %% in the middle one.\n" % (
                 100 * max(shares), 100 * statistics.median(shares)))
    text += "\n" + report.markdown_table(
        ("what", "raw disk", "Pollux", "Cyrus", "Dovecot", "to Cyrus",
         "to Dovecot", "target"),
        [[r["text"], *r["cells"]] for r in results["measures"]])
    loads = [r for r in results["measures"] if r["raw"]]
    if loads:
        text += "\n" + report.markdown_table(
            ("p50 / p99 ms; server CPU us a message", *results["servers"]),
            [[r["text"], *["%.2f / %.2f; %.0f" % (
                m["p50_ms"], m["p99_ms"], m["server_cpu_us_each"])
                for m in r["median"].values()]] for r in loads])
    return text


def main():
    a = argparse.ArgumentParser(prog="bench/run --peers")
    a.add_argument("build", help=argparse.SUPPRESS)
    a.add_argument("--quick", action="store_true", help="small and short")
    a.add_argument("--only", default=",".join(PARTS),
                   help="parts, of " + ", ".join(PARTS))
    a.add_argument("--rounds", type=int, default=3)
    a.add_argument("--seconds", type=int, default=0,
                   help="of each load, after 1 s of it (4)")
    a.add_argument("--search-index", action="store_true",
                   help="Pollux and Cyrus with search_engine: squat")
    a.add_argument("--dovecot-format", default="mdbox",
                   choices=("mdbox", "sdbox", "maildir"))
    a.add_argument("--dir", default="/var/tmp",
                   help="where the stores lie (/var/tmp)")
    a.add_argument("--packages", default="/var/tmp/pollux-peer-packages",
                   help="where the peers' programs lie, or are unpacked to")
    a.add_argument("--json", default=None,
                   help="where the figures go (build/bench-peers.json)")
    a.add_argument("--markdown", default=None,
                   help="page whose section about peers is written anew")
    args = a.parse_args()
    parts = args.only.split(",")
    if not set(parts) <= set(PARTS) or args.rounds < 1:
        a.error("parts are " + ", ".join(PARTS) + "; at least one round")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    c = Comparison(args)
    try:
        print(report.machine_line(c.results["machine"],
                                  c.results["load_before"]))
        c.run(parts)
    finally:
        c.stop()
    out = args.json or os.path.join(os.path.dirname(args.build),
                                    "bench-peers.json")
    report.write_json(out, c.results)
    if args.markdown:
        report.put_section(args.markdown, "Beside Cyrus and Dovecot",
                           markdown(c.results))
    print("\nall figures: %s" % os.path.relpath(out))


if __name__ == "__main__":
    main()
