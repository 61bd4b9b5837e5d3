"""First sync by hand, beside Cyrus: sync_client -A into an empty replica, the
same mail, in turns."""

import os
import shutil
import subprocess
import tempfile
import time

import servers
from pair import Pair

LOADS = ((4096, 10000), (65536, 2000))


def timed(command, what):
    began = time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=1800)
    if done.returncode != 0:
        raise SystemExit("%s: exit %d: %s%s" % (
            what, done.returncode, done.stdout[-2000:], done.stderr[-2000:]))
    return time.monotonic() - began


class FirstSync:
    """Messages a second of a first sync_client -A; Dovecot 2.4 has none."""
    part, better, unit, needs, raw, raw_target = (
        "sync", "more", "/s", None, None, None)
    best_target = None

    def __init__(self, size, count, target):
        self.size, self.count, self.target = size, count, target
        self.text = "sync_client -A of %d messages of %d KiB" % (
            count, size // 1024)

    def takes(self, server):
        return server.name in ("Pollux", "Cyrus")

    def measure(self, c, server, _round):
        base = tempfile.mkdtemp(prefix="sync.", dir=c.base)
        os.chmod(base, 0o755)
        count = self.count // (10 if c.args.quick else 1)
        users = servers.user_names(16)
        args = ("-c", 16, "-b", self.size, "-u", len(users), "-n", count)
        if server.name == "Pollux":
            seconds = self.of_pollux(c, base, users, args)
        else:
            seconds = self.of_cyrus(c, base, users, args)
        shutil.rmtree(base, ignore_errors=True)
        return {"value": count / seconds, "seconds": seconds,
                "messages": count, "wall_s": seconds}

    def of_pollux(self, c, base, users, args):
        p = Pair(os.path.join(c.build, "bin"), base,
                 {u: servers.PASSWORD for u in users})
        try:
            p.set_up(rolling=False)
            p.a.start()
            p.a.must("promote")
            c.program("mailload", ["-h", p.a.host, "-p", p.a.lmtp_port, *args])
            p.b.start()
            seconds = timed(p.a.program("sync_client", "-A"), "Pollux")
            p.wait_equal()
            return seconds
        finally:
            p.kill()

    def of_cyrus(self, c, base, users, args):
        replica = servers.CyrusReplica(c.args.packages, base, users)
        master = servers.Cyrus(c.args.packages, base, users, {
            "sync_host": replica.host, "sync_port": str(replica.sync_port),
            "sync_authname": users[0], "sync_password": servers.PASSWORD,
            "sync_realm": "peer.localhost"})
        try:
            for s in (replica, master):
                s.start()
            c.program("mailload", ["-h", master.host, "-p", master.lmtp_port,
                                   *args])
            return timed(master.inside("sync_client", "-A"), "Cyrus")
        finally:
            for s in (master, replica):
                s.stop()

    def detail(self, r):
        return "%.2f s" % r["seconds"]


MEASURES = [FirstSync(size, count, 15) for size, count in LOADS]
