"""Hostile clients on the IMAP, LMTP and csync ports: each is refused or put
off within bounded memory and time while others are served.
test_withstand_clients.py BIN_DIR [TEST ...]."""

import os
import random
import resource
import ssl
import time

import csync_wire
from pollux import World, check, check_equal, message, number_of, numbers
from pollux import run, wait_for
from withstand import (RssWatch, channel, has_input, hello, no_crash, raw,
                       solid)

PORTS = ("imap", "lmtp", "csync")
# What one hostile client may cost for a while (under ASan, whose quarantine
# holds back what was freed, up to 256 MiB unless told otherwise).
GROWTH_MIB = 160
ASAN = "quarantine_size_mb=16:malloc_context_size=5"


def world(bin_dir, options=None):
    os.environ["ASAN_OPTIONS"] = ASAN
    return World(bin_dir, options)


class Served:
    """Asks at the end, and whenever told, that another client is served in a
    bounded time, that memory is bounded and that nobody has crashed."""

    def __init__(self, w, growth_mib=GROWTH_MIB, server=None):
        self.w = w
        self.server = server or w.a
        self.growth_mib = growth_mib
        self.rss = RssWatch(self.server.proc.pid)

    def __enter__(self):
        self.rss.__enter__()
        return self

    def another(self, seconds=20):
        began = time.monotonic()
        hello(self.server, "alice", self.w.users["alice"])
        check(time.monotonic() - began < seconds,
              "another client waited %.1f s" % (time.monotonic() - began))

    def __exit__(self, kind, *_):
        if kind is None:
            self.another()
        self.rss.__exit__()
        if kind is None:
            print("       memory: %.0f MiB, at most %.1f more" % (
                self.rss.start_kib / 1024, self.rss.grown_mib()))
            check(self.rss.grown_mib() < self.growth_mib,
                  "memory grew by %.1f MiB" % self.rss.grown_mib())
            no_crash(self.w.a, self.w.b)


def imap_login(w, user="alice", timeout=30):
    s = raw(w.a, "imap", timeout)
    f = s.makefile("rb")
    f.readline()
    s.sendall(b"l LOGIN %s %s\r\n" % (user.encode(), w.users[user].encode()))
    while True:
        line = f.readline()
        check(line, "closed at the login")
        if line.startswith(b"l "):
            check(line.startswith(b"l OK"), "login: %r" % line)
            return s, f


def pour(sock, chunk, limit):
    """Send CHUNK again and again until the peer closes or LIMIT bytes are
    gone; how many went."""
    sent = 0
    try:
        while sent < limit:
            sock.sendall(chunk)
            sent += len(chunk)
    except (BrokenPipeError, ConnectionResetError):
        pass
    return sent


def test_two_gib_literals(bin_dir):
    options = {"maxmessagesize": "64M"}
    with world(bin_dir, options) as w, Served(w) as served:
        w.deliver_all(w.a, [1])
        for n in (2147483648, 4294967296, 2 ** 63, 2 ** 64 + 5, 10 ** 30):
            for plus in (b"", b"+"):
                for head in (b"a LOGIN {%d%s}\r\n", b"a LOGIN x {%d%s}\r\n",
                             b"{%d%s}\r\n"):
                    s = raw(w.a, "imap")
                    s.recv(1000)
                    s.sendall(head % (n, plus))
                    got = s.recv(1000)
                    check(b"BAD" in got or b"NO" in got or b"BYE" in got,
                          "literal of %d before login: %r" % (n, got))
                    s.close()
                for head in (b"a APPEND INBOX {%d%s}\r\n",
                             b"a APPEND INBOX (\\Seen) {%d%s}\r\n",
                             b"a SELECT {%d%s}\r\n",
                             b"a SEARCH SUBJECT {%d%s}\r\n"):
                    s, f = imap_login(w)
                    s.sendall(head % (n, plus))
                    got = f.readline()
                    check(got.startswith((b"a BAD", b"a NO", b"* BYE")) and
                          b"+" != got[:1],
                          "literal of %d: %r" % (n, got))
                    s.close()
        # Whoever sends them all the same is hung up on, or skipped.
        s, f = imap_login(w)
        s.sendall(b"a APPEND INBOX {2147483648+}\r\n")
        sent = pour(s, b"x" * 65536, 200 << 20)
        check(sent < 100 << 20, "%d bytes of the literal were taken" % sent)
        s.close()
        served.another()
        for n in (2147483648, 2 ** 64 + 5):
            s = raw(w.a, "csync")
            s.recv(4000)
            s.sendall(b"LOG {%d+}\r\n" % n)
            got = s.recv(1000)
            check(b"BAD" in got or b"NO" in got or b"Fatal" in got or not got,
                  "csync, before login: %r" % got)
            s.close()
            wire = csync_wire.connect(w.a, "replica", "replica-secret")
            wire.sock.sendall(b"LOG OPEN %%(CHANNEL {%d+}\r\n" % n)
            got = read_some(wire.sock)
            check(b"BAD" in got or b"Fatal" in got, "csync: %r" % got)
        conn = w.a.lmtp()
        code, text = conn.docmd("MAIL FROM:<a@b.example> SIZE=2147483648")
        check_equal((code, text[:5]), (552, b"5.3.4"), "SIZE of 2 GiB")
        code, _ = conn.docmd("MAIL FROM:<a@b.example> SIZE=" + "9" * 30)
        check(code in (501, 552), "SIZE of 30 digits: %d" % code)
        conn.quit()


def read_some(sock):
    try:
        return sock.recv(65536)
    except ConnectionResetError:
        return b""


def used_kib(path):
    """Of the disk, holes left out."""
    return sum(os.stat(os.path.join(d, f)).st_blocks for d, _, files in
               os.walk(path) for f in files) // 2


def test_two_gib_message_that_never_ends(bin_dir):
    """Without maxmessagesize an APPEND of 2 GiB is begun: it costs no memory,
    and nothing of it is left when the client goes."""
    with world(bin_dir) as w, Served(w) as served:
        w.deliver_all(w.a, [1])
        w.wait_equal()
        before = used_kib(w.a.dir)
        held = []
        for plus in (b"", b"+"):
            s, f = imap_login(w)
            s.sendall(b"a APPEND INBOX {2147483648%s}\r\n" % plus)
            if not plus:
                check(f.readline().startswith(b"+"), "no go-ahead")
            sent = pour(s, os.urandom(65536), 200 << 20)
            check_equal(sent, 200 << 20, "bytes taken")
            held.append(s)
            served.another()
        for s in held:
            s.close()
        wait_for("the disk to be given back",
                 lambda: used_kib(w.a.dir) < before + (100 << 10), 60)
        check_equal(numbers(w.a, "alice"), [1], "messages")
        w.deliver_all(w.a, [2])
        w.wait_equal()


def test_endless_lines(bin_dir):
    with world(bin_dir) as w, Served(w) as served:
        w.deliver_all(w.a, [1])
        for port in PORTS:
            s = raw(w.a, port)
            sent = pour(s, b"A" * 65536, 300 << 20)
            print("       %s: %d MiB without an end taken" % (port, sent >> 20))
            check(sent < 64 << 20, "%s: %d bytes of one line were taken" %
                  (port, sent))
            s.close()
            served.another()
        s, _ = imap_login(w)
        sent = pour(s, b"a NOOP " + b"A" * 65536, 300 << 20)
        check(sent < 300 << 20, "IMAP after login: %d bytes taken" % sent)
        s.close()
        conn = w.a.lmtp()
        conn.docmd("MAIL FROM:<a@b.example>")
        conn.docmd("RCPT TO:<alice>")
        conn.docmd("DATA")
        # A message is allowed to have long lines; it has a largest size.
        sent = pour(conn.sock, b"A" * 65536, 64 << 20)
        check_equal(sent, 64 << 20, "bytes of a line inside a message")
        conn.sock.close()
        wire = csync_wire.connect(w.a, "replica", "replica-secret")
        sent = pour(wire.sock, b"B" * 65536, 300 << 20)
        check(sent < 64 << 20, "csync after login: %d bytes taken" % sent)


def test_garbage(bin_dir):
    """Random bytes, and TLS where none is expected."""
    rnd = random.Random(20260105)
    with world(bin_dir) as w, Served(w):
        w.deliver_all(w.a, [1])
        for port in PORTS:
            for size in (1, 7, 100, 5000, 70000, 400000):
                s = raw(w.a, port)
                pour(s, rnd.randbytes(size), size)
                s.close()
            s = raw(w.a, port)
            pour(s, bytes(range(256)) * 256 + b"\r\n" * 1000, 66000)
            s.close()
            try:
                context = ssl.create_default_context()
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                context.wrap_socket(raw(w.a, port))
                check(False, "TLS on the plain port of %s" % port)
            except OSError:
                pass
        for _ in range(60):
            s, _ = imap_login(w)
            pour(s, rnd.randbytes(rnd.randrange(1, 3000)) + b"\r\n", 1)
            s.close()
            wire = csync_wire.connect(w.a, "replica", "replica-secret")
            pour(wire.sock, rnd.randbytes(rnd.randrange(1, 3000)) + b"\r\n", 1)
            wire.sock.close()
        # Garbage instead of frames, from one who may send them: to the
        # replica, which must go on following.
        here = w.wait_equal()["twin"]
        for _ in range(20):
            wire = csync_wire.connect(w.b, "replica", "replica-secret")
            wire.stream(here["cluster"], "f" * 32, here["epoch"], 1,
                        here["applied"], here["chain"])
            pour(wire.sock, rnd.randbytes(20000), 20000)
            wire.sock.close()
        w.deliver_all(w.a, [2])
        w.wait_equal(timeout=60)
        check_equal(numbers(w.b, "alice"), [1, 2], "messages of the replica")


def test_reader_that_reads_nothing(bin_dir):
    big = 40
    with world(bin_dir) as w:
        # 40 messages of 3 MiB: 120 MiB a FETCH.
        conn = w.a.lmtp(120)
        for n in range(big):
            check_equal(w.a.deliver(conn, ["bob"], solid(n, 3 << 20)), [250],
                        "delivery")
        conn.quit()
        w.deliver_all(w.a, [1])
        w.wait_equal(timeout=120)
        for server in (w.a, w.b):
            with Served(w, 100, server) as served:
                stuck = []
                for _ in range(8):
                    c = server.imap("bob", timeout=60)
                    c.select("INBOX", readonly=True)
                    c.sock.sendall(b"x FETCH 1:* (BODY.PEEK[])\r\n")
                    stuck.append(c)
                for c in stuck:
                    wait_for("the first bytes", lambda c=c: has_input(c.sock))
                for _ in range(5):
                    served.another()
                if server is w.a:
                    w.deliver_all(w.a, range(1000, 1050))
                w.wait_equal()
                # One of them reads after all, and gets everything.
                c = stuck[0]
                got = 0
                while True:
                    line = c.readline()
                    if line.startswith(b"x "):
                        check(line.startswith(b"x OK"), "%r" % line)
                        break
                    if line.endswith(b"}\r\n"):
                        n = int(line[line.rindex(b"{") + 1:-3])
                        body = c.read(n)
                        check(body.endswith(
                            solid(number_of(body[-n:]), 3 << 20)[-1000:]),
                            "a message was changed")
                        got += 1
                check_equal(got, big, "messages for a late reader")
                for c in stuck:
                    c.sock.close()


def test_half_open_connections(bin_dir):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = 1500
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    with world(bin_dir) as w, Served(w) as served:
        w.deliver_all(w.a, [1])
        held = []
        for port in PORTS:
            for i in range(want):
                s = raw(w.a, port)
                if i % 3 == 1:
                    s.sendall(b"a")
                held.append(s)
            served.another()
        conn = w.a.lmtp()
        check_equal(w.a.deliver(conn, ["alice"], message(2)), [250], "LMTP")
        conn.quit()
        w.wait_equal()
        print("       %d connections held" % len(held))
        for s in held:
            s.close()
        wait_for("the connections to go", lambda: len(os.listdir(
            "/proc/%d/fd" % w.a.proc.pid)) < 300, 60)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_slow_loris(bin_dir):
    """A byte now and then does not keep a connection beyond login_timeout."""
    limit_s = 3
    with world(bin_dir, {"login_timeout": "%ds" % limit_s}) as w:
        with Served(w):
            w.deliver_all(w.a, [1])
            for port in ("imap", "csync"):
                began = time.monotonic()
                s = raw(w.a, port, timeout=0.1)
                closed = False
                while not closed:
                    check(time.monotonic() - began < limit_s + 15,
                          "%s: not hung up on" % port)
                    try:
                        s.sendall(b"N")
                        closed = s.recv(4096) == b""
                    except TimeoutError:
                        continue
                    except OSError:
                        closed = True
                check(time.monotonic() - began >= limit_s - 1,
                      "%s: hung up on too early" % port)
            # Who is logged in stays.
            s, f = imap_login(w)
            wait_for("the time to pass",
                     lambda b=time.monotonic(): time.monotonic() - b >
                     limit_s + 1)
            s.sendall(b"n NOOP\r\n")
            check(f.readline().startswith(b"n OK"), "a session was ended")


def test_thousand_pipelined_commands(bin_dir):
    many = 1000
    with world(bin_dir) as w, Served(w):
        w.deliver_all(w.a, range(1, 101))
        s, f = imap_login(w, timeout=120)
        s.sendall(b"s SELECT INBOX\r\n" + b"".join(
            b"p%d %s\r\n" % (i, (b"NOOP", b"FETCH 1:* (FLAGS ENVELOPE)",
                                 b"UID SEARCH ALL", b"FOO",
                                 b"STORE %d +FLAGS (\\Seen)" % (i % 100 + 1))
                             [i % 5]) for i in range(many)))
        seen = 0
        while seen < many:
            line = f.readline()
            check(line, "closed after %d answers" % seen)
            if line.startswith(b"p"):
                tag, word = line.split()[:2]
                check_equal(tag, b"p%d" % seen, "order of answers")
                check_equal(word, b"BAD" if seen % 5 == 3 else b"OK",
                            "answer %r" % line)
                seen += 1
        s.close()
        s = raw(w.a, "lmtp", 120)
        f = s.makefile("rb")
        s.sendall(b"LHLO x\r\n" + b"NOOP\r\n" * many + b"QUIT\r\n")
        lines = f.read().splitlines()
        check_equal(sum(line.startswith(b"250 2.0.0") for line in lines) >=
                    many, True, "answers to NOOP on LMTP: %r" % lines[-3:])
        wire = csync_wire.connect(w.a, "replica", "replica-secret")
        wire.sock.sendall(b"NOOP\r\n" * many + b"LOG STATUS\r\n" * 100)
        for _ in range(many + 100):
            check(wire.answer().startswith("OK"), "csync answers")
        w.wait_equal()


def test_many_at_once(bin_dir):
    """All of it together, and mail goes on through both."""
    with world(bin_dir) as w, Served(w) as served:
        held = []
        for i in range(300):
            s = raw(w.a, PORTS[i % 3])
            s.settimeout(0.2)
            pour(s, (b"A" * 3000, b"\x16\x03\x01\x02\x00\x01\x00" * 50,
                     b"a LOGIN {131072}\r\n", b"LHLO x\r\nMAIL FROM:<"
                     )[i % 4], 1)
            held.append(s)
        accepted = []
        conn = w.a.lmtp()
        for n in range(200):
            check_equal(w.a.deliver(conn, ["alice"], message(n)), [250], "LMTP")
            accepted.append(n)
        served.another()
        for s in held:
            s.close()
        w.wait_equal()
        check_equal(numbers(w.b, "alice"), accepted, "on the replica")
        check_equal(channel(w.a)["state"], "streaming", "channel")


if __name__ == "__main__":
    run([test_two_gib_literals, test_two_gib_message_that_never_ends,
         test_endless_lines, test_garbage,
         test_reader_that_reads_nothing, test_half_open_connections,
         test_slow_loris, test_thousand_pipelined_commands,
         test_many_at_once])
