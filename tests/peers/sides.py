"""The two sides of a replication between Pollux and Cyrus IMAP 3.6: each started
on loopback, each asked to sync to the other, both read over IMAP.

Cyrus is Debian's, unpacked by bench/peers/unpack; it runs in namespaces of its
own (bench/peers/servers.py), which needs root.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"),
                os.path.join(HERE, "..", "..", "bench", "peers")]
import servers  # noqa: E402
from pair import (Pair, PairError, SYNC_PASSWORD, SYNC_USER,  # noqa: E402
                  free_port, wait_for)

PASSWORD = servers.PASSWORD
LIB = "/usr/lib/cyrus/bin/"


def why_not(packages):
    """Why no Cyrus can run here, or None; unpacks it first."""
    why = servers.why_not()
    if why is not None:
        return why
    done = subprocess.run(
        [os.path.join(HERE, "..", "..", "bench", "peers", "unpack"), packages],
        capture_output=True, text=True)
    if done.returncode != 0:
        return "Cyrus is not to be had: " + (done.stderr + done.stdout)[-300:]
    if not os.path.exists(os.path.join(packages, "cyrus", "usr", "lib",
                                       "cyrus", "bin", "sync_server")):
        return "%s has a Cyrus without sync_server" % packages
    return None


class Done:
    """How a sync_client ended."""

    def __init__(self, done, seconds=0.0):
        self.code = done.returncode
        self.out = done.stdout.decode(errors="replace")
        self.err = done.stderr.decode(errors="replace")
        self.seconds = seconds


class Cyrus(servers.Cyrus):
    """A Cyrus with sync_server, and sync_client to PEER ((host, port))."""

    admin = "cyrus"

    def __init__(self, packages, base, users):
        super().__init__(packages, base, list(users) + ["cyrus", SYNC_USER])
        self.csync_port = free_port([self.host], self.lmtp_port + 1)
        self.sieve_port = free_port([self.host], self.csync_port + 1)
        self.peer = ("127.0.0.1", "1")
        self.rolling = None

    def prepare(self):
        command = super().prepare()
        more = {
            "admins": "cyrus %s" % SYNC_USER,
            "sync_host": self.peer[0],
            "sync_port": str(self.peer[1]),
            "sync_authname": SYNC_USER,
            "sync_password": SYNC_PASSWORD,
            "sync_log": "yes",
            "sync_try_imap": "no",
            "sync_repeat_interval": "0",
            "sync_timeout": "60",
            "delete_mode": "delayed",
            "expunge_mode": "delayed",
            "allowplaintext": "yes",
            "specialusealways": "yes",
            "sieve_extensions": "fileinto reject vacation",
            "annotation_allow_undefined": "yes",
        }
        with open(self.path("imapd.conf")) as f:
            lines = [l for l in f if l.split(":")[0] not in more]
        lines += ["%s: %s\n" % kv for kv in more.items()]
        self.write("imapd.conf", "".join(lines))
        with open(self.path("cyrus.conf")) as f:
            text = f.read()
        more = (
            '  csync cmd="{l}sync_server -C {c}" listen="{h}:{p}" prefork=0\n'
            '  sieve cmd="{l}timsieved -C {c}" listen="{h}:{s}" prefork=0\n'
        ).format(l=LIB, c=self.path("imapd.conf"), h=self.host,
                 p=self.csync_port, s=self.sieve_port)
        self.write("cyrus.conf", text.replace("SERVICES {\n",
                                              "SERVICES {\n" + more))
        self.set_password(SYNC_USER, SYNC_PASSWORD)
        return command

    def set_password(self, user, password):
        program = shutil.which("saslpasswd2") or "/usr/sbin/saslpasswd2"
        subprocess.run(
            [program, "-p", "-c", "-f", self.path("sasldb2"), "-u",
             "peer.localhost", user], input=password.encode(), check=True,
            capture_output=True)

    def start(self):
        if os.path.isdir(self.dir):
            return self.start_again()
        return super().start()

    def start_again(self):
        """After stop(): the same directory."""
        shutil.rmtree(self.path("run"), ignore_errors=True)
        os.mkdir(self.path("run"))
        prepare = self.prepare
        self.prepare = lambda: [LIB + "master", "-C", self.path("imapd.conf"),
                                "-M", self.path("cyrus.conf"), "-p",
                                self.path("run", "pid"), "-L",
                                self.path("log")]
        makedirs = os.makedirs
        os.makedirs = lambda *a, **k: None
        try:
            super().start()
        finally:
            os.makedirs = makedirs
            self.prepare = prepare

    def inside(self):
        """The PID, as we see it, of the namespace's first process."""
        with open("/proc/%d/task/%d/children" % (self.proc.pid,
                                                 self.proc.pid)) as f:
            return int(f.read().split()[0])

    def command(self, *argv):
        return ["nsenter", "--target", str(self.inside()), "--mount", "--pid",
                "setpriv", "--reuid", servers.RUN_AS, "--regid",
                servers.RUN_AS, "--clear-groups", *argv]

    def sync(self, *args, timeout=600):
        """sync_client ARGS to the peer, with its protocol in what it says."""
        return Done(subprocess.run(
            self.command(LIB + "sync_client", "-C", self.path("imapd.conf"),
                         *args),
            stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout))

    def start_rolling(self):
        out = open(self.path("rolling"), "ab")
        self.rolling = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL"] +
            self.command(LIB + "sync_client", "-C", self.path("imapd.conf"),
                         "-R", "-v"),
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True)
        out.close()

    def stop_rolling(self):
        if self.rolling is not None:
            os.killpg(self.rolling.pid, signal.SIGKILL)
            self.rolling.wait()
            self.rolling = None

    def stop(self):
        self.stop_rolling()
        super().stop()


class Pollux:
    """One instance, a master without a twin."""

    name = "Pollux"
    admin = "admin"

    def __init__(self, bin_dir, base, users, options=None):
        self.pair = Pair(bin_dir, os.path.join(base, "pollux"),
                         {u: PASSWORD for u in users}, options)
        self.pair.users["admin"] = PASSWORD
        self.me = self.pair.a
        self.host = self.me.host
        self.imap_port = self.me.imap_port
        self.csync_port = self.me.csync_port
        self.rolling = None
        self.peer = None
        self.set_up = False

    def start(self):
        if not self.set_up:
            options = {"altnamespace": "yes", "unixhierarchysep": "yes",
                       "delete_mode": "delayed", "expunge_mode": "delayed"}
            if self.peer is not None:
                options.update({"sync_host": self.peer[0],
                                "sync_port": str(self.peer[1])})
            self.pair.set_up(rolling=False, options=options)
            self.me.start()
            self.me.must("promote")
            self.set_up = True
        else:
            self.me.start()

    def sync(self, *args, timeout=600):
        return Done(subprocess.run(
            self.me.program("sync_client", *args), stdin=subprocess.DEVNULL,
            capture_output=True, timeout=timeout))

    def start_rolling(self, *args):
        out = open(os.path.join(self.me.dir, "rolling"), "ab")
        self.rolling = subprocess.Popen(
            self.me.program("sync_client", "-R", "-v", *args),
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True)
        out.close()

    def stop_rolling(self):
        if self.rolling is not None:
            os.killpg(self.rolling.pid, signal.SIGKILL)
            self.rolling.wait()
            self.rolling = None

    def kill(self):
        self.me.kill()

    def stop(self):
        self.stop_rolling()
        self.me.stop()

    def complaint(self):
        return servers.tail(self.me.log)
