"""A pair of instances on loopback, for the demo, the benchmark and end-to-end
tests: configuration, users, processes, and what one asks of them.

Python's own library only.  Ends only what it started.  Nothing here sleeps for
a while where it could wait for a condition.
"""

import glob
import grp
import imaplib
import json
import os
import pwd
import random
import shutil
import signal
import smtplib
import socket
import subprocess
import time

SERVERNAME = "twins.localhost"
SYNC_USER = "replica"
SYNC_PASSWORD = "replica-secret"
HOSTS = {"a": "127.0.0.11", "b": "127.0.0.12", "c": "127.0.0.13"}


class PairError(Exception):
    """Something did not happen in time, or a program failed."""


def wait_for(what, condition, timeout=30.0):
    """The first true value of condition(), asked every 5 ms; its errors count
    as 'not yet'."""
    end = time.monotonic() + timeout
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
        except (OSError, EOFError, PairError, imaplib.IMAP4.error,
                smtplib.SMTPException) as e:
            last = e
        if time.monotonic() > end:
            raise PairError("waited %.0f s for %s%s" % (
                timeout, what, ": %s" % last if last else ""))
        time.sleep(0.005)


def free_port(hosts, first):
    """A port, from FIRST on, that is free on all HOSTS."""
    for port in range(first, first + 2000):
        try:
            for host in hosts:
                with socket.socket() as s:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.bind((host, port))
            return port
        except OSError:
            continue
    raise PairError("no free port from %d on" % first)


def tail(path, lines=15):
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-lines:])
    except OSError:
        return ""


def states_of(group):
    """Of each thread in the processes of GROUP, as /proc has them."""
    states = []
    for path in glob.glob("/proc/[0-9]*/task/[0-9]*/stat"):
        try:
            with open(path) as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[2]) == group:
            states.append(fields[0])
    return states


class Instance:
    """One master process with its directory.  NAME is "a" or "b", or "c" for a
    third one that a test makes itself."""

    def __init__(self, pair, name):
        self.pair = pair
        self.name = name
        self.host = HOSTS[name]
        self.dir = os.path.join(pair.base, name)
        self.imapd_conf = os.path.join(self.dir, "imapd.conf")
        self.cyrus_conf = os.path.join(self.dir, "cyrus.conf")
        self.log = os.path.join(self.dir, "log")
        self.fence = os.path.join(self.dir, "shutdown")
        self.proc = None
        self.imap_port = pair.ports["imap"]
        self.lmtp_port = pair.ports["lmtp"]
        self.csync_port = pair.ports["csync"]

    # ---- configuration ----

    def configure(self, rolling=True, options=None, channels=()):
        """Write both files.  ROLLING: sync_client -r stands in DAEMON, and one
        for each of CHANNELS; OPTIONS are further lines of imapd.conf."""
        twin = HOSTS["b" if self.name == "a" else "a"]
        lines = {
            "servername": SERVERNAME,
            "configdirectory": os.path.join(self.dir, "conf"),
            "partition-default": os.path.join(self.dir, "spool"),
            "defaultpartition": "default",
            "admins": "admin %s" % SYNC_USER,
            "allowplaintext": "yes",
            "sasl_pwcheck_method": "auxprop",
            "sasl_auxprop_plugin": "sasldb",
            "sasl_sasldb_path": self.pair.sasldb,
            "sasl_mech_list": "PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-1",
            "autocreate_post": "yes",
            "autocreate_quota": "0",
            "sync_host": twin,
            "sync_port": str(self.csync_port),
            "sync_authname": SYNC_USER,
            "sync_password": SYNC_PASSWORD,
            "sync_log": "yes",
            "sync_shutdown_file": self.fence,
            "cyrus_user": pwd.getpwuid(os.geteuid()).pw_name,
            "cyrus_group": grp.getgrgid(os.getegid()).gr_name,
            "log_target": "file",
            "log_file": self.log,
        }
        lines.update(self.pair.options)
        lines.update(options or {})
        os.makedirs(self.dir, exist_ok=True)
        with open(self.imapd_conf, "w") as f:
            f.writelines("%s: %s\n" % kv for kv in lines.items())
        os.chmod(self.imapd_conf, 0o600)
        daemon = ""
        if rolling:
            daemon = '    sync cmd="sync_client -r -C %s"\n' % self.imapd_conf
        for name in channels:
            daemon += '    sync%s cmd="sync_client -r -n %s -C %s"\n' % (
                name, name, self.imapd_conf)
        with open(self.cyrus_conf, "w") as f:
            f.write(
                'SERVICES {\n'
                '    imap  cmd="imapd"       listen="%s:%d"\n'
                '    lmtp  cmd="lmtpd -a"    listen="%s:%d"\n'
                '    csync cmd="sync_server" listen="%s:%d"\n'
                '}\n'
                'DAEMON {\n%s}\n' % (
                    self.host, self.imap_port, self.host, self.lmtp_port,
                    self.host, self.csync_port, daemon))

    # ---- processes ----

    def program(self, name, *args):
        return [os.path.join(self.pair.bin_dir, name), "-C", self.imapd_conf,
                *args]

    def run(self, name, *args, timeout=120.0):
        """A program to its end: a subprocess.CompletedProcess."""
        return subprocess.run(
            self.program(name, *args), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout)

    def start(self, wait=True):
        out = open(os.path.join(self.dir, "stderr"), "ab")
        self.proc = subprocess.Popen(
            self.program("master", "-M", self.cyrus_conf),
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True)
        out.close()
        if wait:
            self.wait_up()

    def wait_up(self, timeout=60.0):
        def up():
            if self.proc.poll() is not None:
                raise SystemExit("instance %s ended with %d\n%s%s" % (
                    self.name, self.proc.returncode, tail(self.log),
                    tail(os.path.join(self.dir, "stderr"))))
            socket.create_connection((self.host, self.imap_port), 1).close()
            return self.role() is not None
        wait_for("instance %s to serve" % self.name, up, timeout)

    def stop(self, timeout=30.0):
        """SIGTERM, and wait for the end; returns its exit code."""
        if self.proc is None:
            return None
        self.proc.terminate()
        try:
            rc = self.proc.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            rc = None
        self.proc = None
        return rc

    def kill(self):
        """SIGKILL for the instance and the children it started."""
        if self.proc is None:
            return
        try:
            os.killpg(self.proc.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.proc.wait()
        self.proc = None

    def freeze(self):
        """SIGSTOP for all of it; back when no thread of it runs any more, which
        on a busy machine is later."""
        group = self.proc.pid
        os.killpg(group, signal.SIGSTOP)
        wait_for("instance %s to stand still" % self.name,
                 lambda: all(state in "TtZX" for state in states_of(group)))

    def thaw(self):
        os.killpg(self.proc.pid, signal.SIGCONT)

    # ---- asking ----

    def ctl(self, *args, timeout=60.0):
        """ctl_failover ARGS: (exit code, stdout, stderr)."""
        done = subprocess.run(
            self.program("ctl_failover", *args), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout)
        return done.returncode, done.stdout, done.stderr

    def status(self):
        rc, out, err = self.ctl("--json", "status")
        try:
            return json.loads(out)
        except ValueError:
            raise PairError("ctl_failover status of %s: exit %d, %s%s" % (
                self.name, rc, out, err)) from None

    def role(self):
        here = self.status().get("here", {})
        return here.get("role") if here.get("reachable") else None

    def must(self, *args, timeout=60.0):
        """ctl_failover ARGS that has to end 0; its stdout."""
        rc, out, err = self.ctl(*args, timeout=timeout)
        if rc != 0:
            raise PairError("ctl_failover %s on %s: exit %d: %s%s" % (
                " ".join(args), self.name, rc, out, err))
        return out.strip()

    def imap(self, user, password=None, timeout=30.0):
        c = imaplib.IMAP4(self.host, self.imap_port, timeout)
        c.login(user, password or self.pair.users[user])
        return c

    def lmtp(self, timeout=30.0):
        c = smtplib.LMTP(self.host, self.lmtp_port,
                         local_hostname="client.localhost")
        c.sock.settimeout(timeout)
        c.ehlo()  # says LHLO
        return c

    def deliver(self, c, rcpts, message, sender="sender@example.org"):
        """One message on the LMTP connection C; the codes of all recipients.
        A connection that the server closed is an OSError or SMTPException."""
        code, text = c.docmd("MAIL FROM:<%s>" % sender)
        if code != 250:
            raise smtplib.SMTPResponseException(code, text)
        for rcpt in rcpts:
            code, text = c.docmd("RCPT TO:<%s>" % rcpt)
            if code != 250:
                c.docmd("RSET")
                raise smtplib.SMTPResponseException(code, text)
        code, text = c.docmd("DATA")
        if code != 354:
            raise smtplib.SMTPResponseException(code, text)
        body = message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        if not body.endswith(b"\r\n"):
            body += b"\r\n"
        if body.startswith(b"."):
            body = b"." + body
        body = body.replace(b"\r\n.", b"\r\n..")
        c.send(body + b".\r\n")
        answers = [c.getreply() for _ in rcpts]
        return [code for code, _ in answers]


class Pair:
    """Two instances under BASE with the programs of BIN_DIR."""

    def __init__(self, bin_dir, base, users, options=None, first_port=None):
        """FIRST_PORT: where to look for free ports from; somewhere, if it is
        not given, so that pairs which start at one time do not meet."""
        self.bin_dir = os.path.abspath(bin_dir)
        self.base = os.path.abspath(base)
        self.users = dict(users)
        self.options = options or {}
        self.sasldb = os.path.join(self.base, "sasldb2")
        hosts = list(HOSTS.values())
        self.ports = {}
        port = first_port or self.some_port()
        for name in ("imap", "lmtp", "csync"):
            self.ports[name] = port = free_port(hosts, port)
            port += 1
        os.makedirs(self.base, mode=0o700, exist_ok=True)
        self.a = Instance(self, "a")
        self.b = Instance(self, "b")

    @staticmethod
    def some_port():
        return random.SystemRandom().randrange(10000, 28000)

    def set_up(self, rolling=True, options=None):
        for name, password in {**self.users,
                               SYNC_USER: SYNC_PASSWORD}.items():
            self.add_user(name, password)
        for i in (self.a, self.b):
            i.configure(rolling, options)

    def add_user(self, name, password):
        program = shutil.which("saslpasswd2") or "/usr/sbin/saslpasswd2"
        subprocess.run(
            [program, "-p", "-c", "-f", self.sasldb, "-u", SERVERNAME, name],
            input=password.encode(), check=True, capture_output=True)
        self.users[name] = password

    def start(self):
        for i in (self.a, self.b):
            i.start(wait=False)
        for i in (self.a, self.b):
            i.wait_up()

    def wait_equal(self, asked=None, timeout=30.0):
        """Both at one position with one digest; the status of ASKED (a) that
        said so."""
        def equal():
            s = (asked or self.a).status()
            return s if (s["digests"] == "equal" and
                         s["lag_records"] == 0) else None
        return wait_for("equal digests", equal, timeout)

    def master(self):
        for i in (self.a, self.b):
            if i.role() == "master":
                return i
        return None

    def stop(self):
        for i in (self.a, self.b):
            if i.proc is not None:
                i.proc.terminate()
        for i in (self.a, self.b):
            i.stop()

    def kill(self):
        for i in (self.a, self.b):
            i.kill()
