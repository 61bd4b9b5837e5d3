"""Running the programs of bench/ against a server, for compare.py, growth.py and
compaction.py."""

import json
import os
import subprocess
import time

import report


class Runner:
    """Programs of BUILD; stores and the raw disk lie under BASE."""

    def __init__(self, build, base):
        self.build = build
        self.base = base

    def program(self, name, args, timeout=900):
        done = subprocess.run(
            [os.path.join(self.build, "bench", name),
             *[str(a) for a in args]], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout)
        if done.returncode != 0:
            raise SystemExit("%s %s: %s%s" % (
                name, " ".join(str(a) for a in args), done.stdout[-500:],
                done.stderr[-2000:]))
        return json.loads(done.stdout)

    def tool(self, server, name, *args, timeout=900):
        """NAME's report, with what the server and others of this machine
        took of the CPU meanwhile."""
        cpu, busy, began = server.cpu_s(), report.busy_s(), time.monotonic()
        try:
            r = self.program(name, args, timeout)
        except SystemExit as e:
            raise SystemExit("%s\n%s\n%s" % (
                server.name, e, server.complaint())) from None
        r["wall_s"] = time.monotonic() - began
        r["server_cpu_s"] = server.cpu_s() - cpu
        r["others_cpu_s"] = max(0.0, report.busy_s() - busy -
                                r["server_cpu_s"] - r["client_cpu_s"])
        if "answered" in r:
            r["server_cpu_us_each"] = r["server_cpu_s"] * 1e6 / r["answered"]
        return r

    def imap(self, server, user, *args, **kw):
        return self.tool(server, "imaptime", "-h", server.host, "-p",
                         server.imap_port, "-u", user, *args, **kw)

    def lmtp(self, server, *args, **kw):
        return self.tool(server, "mailload", "-h", server.host, "-p",
                         server.lmtp_port, *args, **kw)

    def append(self, server, *args, **kw):
        return self.tool(server, "mailload", "-a", "-h", server.host, "-p",
                         server.imap_port, *args, **kw)

    def raw(self, *args):
        return self.program("rawdisk", [*args, "-t", 1, self.base])
