"""What the tests of hostile surroundings share: small disks, a proxy that
stalls, cuts and counts, comparison of two sides by IMAP alone, and memory.

Everything waits for conditions; nothing sleeps for a while.
"""

import base64
import hashlib
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading

from pollux import check, check_equal, message

SKIP = 77


# ---- memory and processes ----------------------------------------------------

def rss_kib(pid):
    """Resident memory of one process in KiB."""
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


class RssWatch:
    """Samples the resident memory of PID until the end of the `with`; peak_kib
    is the highest value seen, start_kib the one at the beginning."""

    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        self.start_kib = self.peak_kib = rss_kib(self.pid)
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self):
        while not self.done.wait(0.02):
            try:
                self.peak_kib = max(self.peak_kib, rss_kib(self.pid))
            except (OSError, AttributeError):
                return

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def grown_mib(self):
        return (self.peak_kib - self.start_kib) / 1024


def no_crash(*instances):
    """Each is alive, and no sanitizer or assertion has spoken."""
    for i in instances:
        check(i.proc is not None and i.proc.poll() is None,
              "instance %s is gone" % i.name)
        for path in (i.log, os.path.join(i.dir, "stderr")):
            try:
                with open(path, errors="replace") as f:
                    text = f.read()
            except OSError:
                continue
            found = re.search(r"AddressSanitizer|LeakSanitizer|runtime error:"
                              r"|ENSURE|assert", text)
            check(found is None, "%s says: %s" % (
                path, text[max(0, found.start() - 200):found.start() + 2000]
                if found else ""))


class Rolling:
    """sync_client -R of instance FROM, in our hands."""

    def __init__(self, instance, *args):
        self.proc = subprocess.Popen(
            instance.program("sync_client", "-R", *args),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)

    def __enter__(self):
        return self

    def end(self, how=signal.SIGTERM, timeout=20):
        if self.proc.poll() is None:
            self.proc.send_signal(how)
        out, _ = self.proc.communicate(timeout=timeout)
        return self.proc.returncode, out

    def __exit__(self, *_):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.communicate()


def channel(instance):
    """The line of the default channel in `ctl_failover status`."""
    lines = instance.status().get("channels", [])
    return lines[0] if lines else {"state": "none", "text": ""}


# ---- disks -------------------------------------------------------------------

class SmallDisk:
    """A file system of MIB mebibytes at PATH (root only)."""

    def __init__(self, path, mib):
        self.path = path
        os.makedirs(path, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=%dm,mode=0755" % mib,
             "pollux-test", path], capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(done.stderr.strip())

    def free(self):
        s = os.statvfs(self.path)
        return s.f_bavail * s.f_frsize

    def fill(self, leave=0):
        """Take all but LEAVE bytes."""
        path = os.path.join(self.path, "ballast")
        fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            size = os.fstat(fd).st_size
            for step in (1 << 20, 1 << 12):
                while self.free() > leave:
                    try:
                        os.posix_fallocate(fd, size, step)
                    except OSError:
                        break
                    size += step
        finally:
            os.close(fd)

    def release(self):
        os.unlink(os.path.join(self.path, "ballast"))

    def close(self):
        subprocess.run(["umount", "-l", self.path], capture_output=True)


def need_root():
    """Say why and skip, where no file system can be mounted."""
    if os.geteuid() == 0 and subprocess.run(
            ["unshare", "-m", "true"], capture_output=True).returncode == 0:
        return
    print("skipped: mounting a small file system needs root")
    sys.exit(SKIP)


# ---- a proxy -----------------------------------------------------------------

class Proxy:
    """Carries TCP from a port of its own to TARGET.

    RULES.on_bytes(proxy, link, to_server, data) may return what to pass on
    instead (None: drop the link); `stalled` holds everything back while it is
    set, `cut()` drops all links, `to_server_bytes` counts."""

    def __init__(self, target, host="127.0.0.1", on_bytes=None):
        self.target = target
        self.on_bytes = on_bytes
        self.listener = socket.create_server((host, 0))
        self.host, self.port = self.listener.getsockname()
        self.go = threading.Event()
        self.go.set()
        self.closed = False
        self.links = []
        self.lock = threading.Lock()
        self.to_server_bytes = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target, 5)
            except OSError:
                client.close()
                continue
            link = (client, server)
            with self.lock:
                self.links.append(link)
            for pair in ((client, server, True), (server, client, False)):
                threading.Thread(target=self.carry, args=(link, *pair),
                                 daemon=True).start()

    def carry(self, link, source, sink, to_server):
        try:
            while True:
                self.go.wait()
                data = source.recv(65536)
                self.go.wait()
                if data and self.on_bytes:
                    data = self.on_bytes(self, link, to_server, data)
                if not data:
                    break
                if to_server:
                    self.to_server_bytes += len(data)
                sink.sendall(data)
        except OSError:
            pass
        self.drop(link)

    def drop(self, link):
        for s in link:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        with self.lock:
            if link in self.links:
                self.links.remove(link)

    def cut(self):
        with self.lock:
            links = list(self.links)
        for link in links:
            self.drop(link)

    def stall(self):
        self.go.clear()

    def resume(self):
        self.go.set()

    def close(self):
        self.listener.close()
        self.resume()
        self.cut()


# ---- mail --------------------------------------------------------------------

def solid(number, size=400, to="alice"):
    """As message(), with a text that hardly compresses."""
    head = message(number, 1, to).split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    text = random.Random(number).randbytes(size * 3 // 4)
    return head + base64.encodebytes(text).replace(b"\n", b"\r\n")


def flood(instance, first, count, user="alice", size=400, threads=4):
    """Messages FIRST .. FIRST+COUNT-1 by LMTP over THREADS connections; the
    numbers that were accepted."""
    todo = iter(range(first, first + count))
    lock = threading.Lock()
    accepted = []
    errors = []

    def work():
        try:
            conn = instance.lmtp()
            while True:
                with lock:
                    n = next(todo, None)
                if n is None:
                    break
                if instance.deliver(conn, [user],
                                    solid(n, size, user)) == [250]:
                    with lock:
                        accepted.append(n)
            conn.quit()
        except Exception as e:  # shown by the check below
            errors.append(e)
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    check(not errors, "delivery failed: %r" % errors[:1])
    return accepted


def hello(instance, user, password):
    """Bounded proof that another client is served: log in and look."""
    conn = instance.imap(user, password, timeout=30)
    try:
        check_equal(conn.status("INBOX", "(MESSAGES)")[0], "OK", "STATUS")
    finally:
        conn.logout()


def picture(instance, user):
    """Everything that IMAP shows of a user: {mailbox: (uidvalidity, uidnext,
    {uid: (flags, internaldate, sha1 of the bytes)})}."""
    conn = instance.imap(user, timeout=120)
    shown = {}
    try:
        kind, names = conn.list()
        check_equal(kind, "OK", "LIST")
        for line in names:
            if line is None:
                continue
            name = re.match(rb'\([^)]*\) (?:"."|NIL) (.*)$', line).group(1)
            name = name.decode()
            kind, _ = conn.select(name, readonly=True)
            check_equal(kind, "OK", "EXAMINE %s" % name)
            validity = conn.response("UIDVALIDITY")[1]
            uidnext = conn.response("UIDNEXT")[1]
            messages = {}
            kind, data = conn.uid("FETCH", "1:*",
                                  "(UID FLAGS INTERNALDATE BODY.PEEK[])")
            check_equal(kind, "OK", "FETCH of %s" % name)
            for part in data:
                if not isinstance(part, tuple):
                    continue
                uid = int(re.search(rb"UID (\d+)", part[0]).group(1))
                flags = re.search(rb"FLAGS \(([^)]*)\)", part[0]).group(1)
                date = re.search(rb'INTERNALDATE "([^"]*)"', part[0]).group(1)
                kept = sorted(f for f in flags.split() if f != b"\\Recent")
                messages[uid] = (kept, date,
                                 hashlib.sha1(part[1]).hexdigest())
            shown[name] = (validity, uidnext, messages)
    finally:
        conn.logout()
    return shown


def check_same_picture(one, other, users):
    """Both instances show the same by IMAP; the number of messages seen."""
    seen = 0
    for user in users:
        left, right = picture(one, user), picture(other, user)
        check_equal(sorted(left), sorted(right), "mailboxes of %s" % user)
        for name in left:
            check_equal(left[name][:2], right[name][:2],
                        "UIDVALIDITY and UIDNEXT of %s" % name)
            if left[name][2] != right[name][2]:
                differ = {u for u in set(left[name][2]) | set(right[name][2])
                          if left[name][2].get(u) != right[name][2].get(u)}
                check(False, "%s of %s differs at UIDs %r" % (
                    name, user, sorted(differ)[:10]))
            seen += len(left[name][2])
    return seen


def raw(instance, port, timeout=30):
    """A socket to a port of INSTANCE ("imap", "lmtp", "csync")."""
    s = socket.create_connection(
        (instance.host, getattr(instance, port + "_port")), timeout)
    s.settimeout(timeout)
    return s


def read_until_closed(sock, limit=1 << 22):
    """What the peer says until it closes, at most LIMIT bytes."""
    got = b""
    try:
        while len(got) < limit:
            data = sock.recv(65536)
            if not data:
                return got
            got += data
    except (ConnectionResetError, BrokenPipeError):
        return got
    return got


def has_input(sock):
    return bool(select.select([sock], [], [], 0)[0])
