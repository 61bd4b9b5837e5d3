"""What the scenarios share: the pair, programs, and ways to look."""

import glob
import hashlib
import imaplib
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from pair import Instance, wait_for

CYRUS_DEBS = ["cyrus-admin", "cyrus-clients", "cyrus-common",
              "libcyrus-imap-perl"]
CYRUS_CACHE = os.path.join(
    os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")),
    "pollux-clients", "cyrus")
LIBRARIES = "usr/lib/x86_64-linux-gnu"


class Skip(Exception):
    """The scenario cannot be run here."""


class Wrong(Exception):
    """Something is not as it must be."""


def check(condition, text, *args):
    if not condition:
        raise Wrong(text % args if args else text)


def same(what, got, want):
    if got != want:
        raise Wrong("%s: got %s, want %s" % (what, brief(got), brief(want)))


def brief(value):
    text = repr(value)
    return text if len(text) < 600 else text[:600] + "..."


def need(program):
    found = shutil.which(program)
    if found is None:
        raise Skip("no %s here" % program)
    return found


class World:
    def __init__(self, pair, base):
        self.pair = pair
        self.base = base
        self.master = pair.a
        self.replica = pair.b
        self.env = dict(os.environ, HOME=base, LC_ALL="C.UTF-8", TERM="xterm")
        self.env.pop("LD_LIBRARY_PATH", None)
        self.running = []
        self.instances = []
        self.cyrus_dir = None

    def end_scenario(self):
        """Nothing that a scenario started outlives it."""
        for child in self.running:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        self.running.clear()
        for one in self.instances:
            one.stop(60)
        self.instances.clear()

    def dir(self, name):
        path = os.path.join(self.base, name)
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    def file(self, name, text, mode=0o600):
        path = os.path.join(self.base, name)
        with open(path, "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        os.chmod(path, mode)
        return path

    def password(self, user):
        return self.pair.users[user]

    # ---- programs ----

    def run(self, *argv, ok=(0,), input=b"", timeout=180, env=None,
            one_stream=False):
        """stdout and stderr (or both in one) of a program that ends in time
        with a code of OK."""
        done = subprocess.run(
            argv, input=input, stdout=subprocess.PIPE, timeout=timeout,
            stderr=subprocess.STDOUT if one_stream else subprocess.PIPE,
            env=dict(self.env, **(env or {})))
        out, err = done.stdout, done.stderr or b""
        if ok is not None and done.returncode not in ok:
            raise Wrong("%s: exit %d\n%s\n%s" % (
                " ".join(argv), done.returncode,
                out[-2000:].decode("utf-8", "replace"),
                err[-2000:].decode("utf-8", "replace")))
        return out, err

    def spawn(self, *argv, log=None):
        with open(os.path.join(self.base, log or "spawned.log"), "ab") as out:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out,
                                     stderr=out, env=self.env,
                                     start_new_session=True)
        self.running.append(child)
        return child

    def on_terminal(self, *argv, timeout=120):
        """Run a full-screen program on a terminal of its own until it ends.
        What it drew comes back; one that does not end is a failure."""
        pid, fd = pty.fork()
        if pid == 0:
            try:
                os.execvpe(argv[0], list(argv), dict(
                    self.env, LINES="50", COLUMNS="132"))
            finally:
                os._exit(127)
        drawn, end = b"", time.monotonic() + timeout
        try:
            while time.monotonic() < end:
                if not select.select([fd], [], [], 1)[0]:
                    continue
                try:
                    some = os.read(fd, 65536)
                except OSError:  # the other side is closed: it has ended
                    some = b""
                if not some:
                    status = os.waitpid(pid, 0)[1]
                    pid = 0
                    same("exit of " + argv[0], status, 0)
                    return drawn
                drawn += some
            raise Wrong("%s still runs after %d s; last drawn: %r" % (
                argv[0], timeout, drawn[-700:]))
        finally:
            if pid != 0:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            os.close(fd)

    def third(self, **options):
        """An instance beside the pair, without a twin; end_scenario() ends
        it."""
        one = Instance(self.pair, "c")
        one.configure(False, options)
        with open(one.imapd_conf) as f:
            lines = [x for x in f if not x.startswith("sync_")]
        with open(one.imapd_conf, "w") as f:
            f.writelines(lines)
        self.instances.append(one)
        one.start()
        return one

    def cyrus(self):
        """Where Cyrus's client programs lie.  Debian's packages are unpacked
        and not installed: installed, they want an MTA and take the place of
        another mail server."""
        if self.cyrus_dir:
            return self.cyrus_dir
        root = CYRUS_CACHE
        if not os.path.exists(os.path.join(root, "done")):
            need("apt-get")
            tmp = tempfile.mkdtemp(prefix="debs.", dir=self.base)
            os.chmod(tmp, 0o755)
            got = subprocess.run(
                ["apt-get", "-q", "download", *CYRUS_DEBS], cwd=tmp,
                stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if got.returncode != 0:
                raise Skip("apt-get download: " + got.stderr.strip()[-200:])
            shutil.rmtree(root, ignore_errors=True)
            os.makedirs(root)
            for deb in glob.glob(os.path.join(tmp, "*.deb")):
                subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
            with open(os.path.join(root, "done"), "w"):
                pass
        self.cyrus_dir = root
        return root

    def cyrus_env(self):
        root = self.cyrus()
        libraries = os.path.join(root, LIBRARIES)
        return {"LD_LIBRARY_PATH": libraries, "PERL5LIB": ":".join([
            os.path.join(libraries, "perl5/5.36"),
            os.path.join(root, "usr/share/perl5")])}

    # ---- looking and making mail ----

    def imap(self, user, at=None):
        return (at or self.master).imap(user, self.password(user), 60)

    def lmtp_in(self, rcpts, messages, at=None):
        """Deliver; those that were taken."""
        at = at or self.master
        taken = []
        c = at.lmtp(60)
        for m in messages:
            if at.deliver(c, rcpts, m) == [250] * len(rcpts):
                taken.append(m)
        c.quit()
        return taken

    def append(self, c, folder, messages, flags=None):
        for m in messages:
            must(c.append(quote(folder), flags, None, m))

    def equal(self):
        """Wait until both twins are equal."""
        def twins_equal():
            s = self.master.status()
            return s["digests"] == "equal" and s["lag_records"] == 0
        wait_for("equal digests", twins_equal, 60)

    def durable(self):
        return self.master.status()["here"]["durable"]


def must(answer):
    """The data of an imaplib answer that has to be OK."""
    typ, data = answer
    check(typ == "OK", "answered %s %s", typ, data)
    return data


def quote(name):
    return '"%s"' % name.replace("\\", "\\\\").replace('"', '\\"')


def digest(message):
    return hashlib.sha1(message.replace(b"\r\n", b"\n")).hexdigest()


def contents(c, folder):
    """{UID: (digest of the text, flags without \\Recent)}."""
    must(c.select(quote(folder), readonly=True))
    found = {}
    data = must(c.uid("FETCH", "1:*", "(UID FLAGS BODY.PEEK[])"))
    for item in data:
        if not isinstance(item, tuple):
            continue
        words = item[0].decode()
        uid = int(words.split("UID ")[1].split()[0].rstrip(")"))
        flags = words.split("FLAGS (")[1].split(")")[0].split()
        found[uid] = (digest(item[1]),
                      tuple(sorted(f for f in flags if f != "\\Recent")))
    c.unselect() if "UNSELECT" in c.capabilities else c.close()
    return found


def folders(c):
    """Names as they are on the wire."""
    names = []
    for line in must(c.list()):
        if isinstance(line, tuple):
            names.append(line[1].decode())
        elif line:
            name = line.decode().split(' "/" ', 1)[1]
            names.append(name[1:-1].replace('\\"', '"')
                         if name.startswith('"') else name)
    return sorted(names)


def whole(c):
    """{folder: contents}."""
    return {name: contents(c, name) for name in folders(c)}


def mbox_of(w, name):
    """An MDA that appends each message to NAME with a line between."""
    path = os.path.join(w.base, name)
    script = w.file(name + ".sh", "#!/bin/sh\n{ cat; echo =END=; } >>%s\n"
                    % path, 0o700)
    return path, script


def fetched(path):
    try:
        with open(path, "rb") as f:
            return f.read().split(b"=END=\n")[:-1]
    except FileNotFoundError:
        return []


class Raw:
    """A connection on which every line is seen."""

    def __init__(self, at, user=None, password=None, timeout=60):
        self.sock = socket.create_connection((at.host, at.imap_port), timeout)
        self.f = self.sock.makefile("rb")
        self.n = 0
        check(self.line().startswith(b"* OK"), "no greeting")
        if user:
            self.do("LOGIN %s %s" % (user, password))

    def line(self):
        line = self.f.readline()
        if not line:
            raise Wrong("connection closed")
        return line.rstrip(b"\r\n")

    def send(self, text):
        self.sock.sendall(text.encode() + b"\r\n")

    def do(self, command, want="OK"):
        """Untagged lines up to the tagged answer, which has to be WANT."""
        self.n += 1
        tag = "r%d" % self.n
        self.send("%s %s" % (tag, command))
        return self.until(tag, want)

    def until(self, tag, want="OK"):
        lines = []
        while True:
            line = self.line()
            if line.startswith(tag.encode() + b" "):
                check(line.split()[1].decode() == want, "%s: %s", tag, line)
                return lines
            lines.append(line)

    def wait_line(self, *wanted):
        """Read until a line holds all of WANTED."""
        while True:
            line = self.line()
            if all(w in line for w in wanted):
                return line

    def close(self):
        self.f.close()
        self.sock.close()


class Load(threading.Thread):
    """LMTP and APPEND in turn for USER until end(); refused mail is tried
    again at the other twin until it is taken."""

    def __init__(self, world, user, first):
        super().__init__(daemon=True)
        self.world = world
        self.user = user
        self.n = first
        self.acked = []
        self.retries = 0
        self.stop = threading.Event()
        self.at = world.master
        self.lmtp = self.imap = None

    def once(self):
        import mail
        text = mail.plain(self.n, "load %d" % self.n)
        if self.n % 3:
            if self.lmtp is None:
                self.lmtp = self.at.lmtp(20)
            check(self.at.deliver(self.lmtp, [self.user], text) == [250],
                  "not taken")
        else:
            if self.imap is None:
                self.imap = self.world.imap(self.user, self.at)
            must(self.imap.append("Work", "(\\Flagged)", None, text))
        self.acked.append(self.n)

    def run(self):
        pair = self.world.pair
        while not self.stop.is_set():
            try:
                self.once()
            except Exception:  # whatever it was: not acknowledged
                for c in (self.lmtp, self.imap):
                    if c is not None:
                        (c.sock if hasattr(c, "sock") else c).close()
                self.lmtp = self.imap = None
                self.retries += 1
                self.at = pair.b if self.at is pair.a else pair.a
                self.stop.wait(0.01)
                continue
            self.n += 1

    def end(self):
        self.stop.set()
        self.join(60)
