"""sync_client and a peer that is hostile, broken, or no csync server at all.

A server of our own on loopback says what no server would, at each point of the
way: before, during and after login, by log and by state.  Each time sync_client
ends with 1 and one sentence, soon, in little memory, and the next run with the
real replica has all.  test_hostile_peer.py BIN_DIR [TEST ...].
"""

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "peers")]
import imapstate  # noqa: E402
from pair import Pair, wait_for  # noqa: E402

USERS = {"u00": "secret", "u01": "secret", "admin": "secret"}
LOG = b"* POLLUX-LOG 1 ZSTD\r\n"
HELLO = b"* SASL PLAIN\r\n%s* OK fake Pollux sync server\r\n"
# What sync_client may take in all; under ASan what was freed stays for a while.
RSS_MIB = 250
SLOWNESS = 1  # and how much slower they are


def is_asan(path):
    with open(path, "rb") as f:
        return b"__asan_init" in f.read()


class Peer:
    """A server that answers as SCRIPT does: a function of (connection, line),
    which returns bytes, an iterator of bytes, or None to hang up; line "" is the
    greeting.  AUTHENTICATE is let in unless the script answers it."""

    def __init__(self, script, greeting=HELLO % b""):
        self.script, self.greeting = script, greeting
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.at = "127.0.0.1:%d" % self.port
        self.lines = []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            t = threading.Thread(target=self.serve, args=(conn,), daemon=True)
            self.threads.append(t)
            t.start()

    def answer(self, line):
        if line == "":
            return self.greeting
        said = self.script(line)
        if said is False:  # as usual
            if line.startswith("AUTHENTICATE"):
                return b"OK Success (no protection)\r\n"
            return b"OK success\r\n"
        return said

    def serve(self, conn):
        try:
            with conn, conn.makefile("rb") as f:
                line = ""
                while True:
                    said = self.answer(line)
                    if said is None:
                        return
                    for part in [said] if isinstance(said, bytes) else said:
                        if self.ended.is_set():
                            return
                        conn.sendall(part)
                    line = f.readline(1 << 20).decode("latin-1").rstrip("\r\n")
                    if line == "":
                        return
                    self.lines.append(line)
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.sock.close()


def for_ever(part, pause=0.0):
    while True:
        yield part
        if pause:
            time.sleep(pause)


def after(word, said):
    """A script: SAID to commands that begin with WORD."""
    return lambda line: said() if line.startswith(word) else False


def sync(instance, *args, timeout=150):
    """(exit code, stdout and stderr, seconds, MiB at most)"""
    began = time.monotonic()
    with tempfile.TemporaryFile() as out:
        proc = subprocess.Popen(instance.program("sync_client", *args),
                                stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        timer = threading.Timer(timeout, proc.kill)
        timer.start()
        _, status, used = os.wait4(proc.pid, 0)
        timer.cancel()
        proc.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode(errors="replace")
    return (proc.returncode, text, time.monotonic() - began,
            used.ru_maxrss / 1024)


def fails(instance, peer, *args, says, within=30):
    code, text, took, rss = sync(instance, "-S", peer.at, *args)
    where = "%s: exit %d after %.1f s, %.0f MiB: %s" % (
        " ".join(args), code, took, rss, text[-600:])
    assert code == 1, where
    assert re.search(says, text), "not \"%s\": %s" % (says, where)
    assert took < within * SLOWNESS, "long: " + where
    assert rss < RSS_MIB, "much: " + where
    return text


def digest(instance):
    return instance.status()["here"]["digest"]


# ---- no csync server, or none that lets us in -------------------------------


def test_no_csync_port(pair):
    for greeting, says in (
            (b"SSH-2.0-OpenSSH_9.2\r\n", "not a csync port.*SSH"),
            (b"220 mx.example.org ESMTP\r\n", "not a csync port.*220"),
            (b"+OK POP3 ready\r\n", r"not a csync port.*\+OK"),
            (b"* OK [CAPABILITY IMAP4rev1 IDLE] ready\r\n",
             "not a csync port.*IMAP4rev1"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not a csync port.*HTTP"),
            (b"\x16\x03\x01\x02\x00\r\n", "not a csync port"),
            (b"", "no answer"),
            (b"x" * 100000, "line of more than"),
            (b"* X\r\n" * 1000, "endless greeting")):
        with Peer(lambda line: None, greeting) as peer:
            for args in (("-A",), ("-b", "-A"), ("--verify",)):
                fails(pair.a, peer, "-t", "1", *args, says=says, within=20)


def test_other_ports_of_a_twin(pair):
    """The commonest mistake: the right host, and another service's port."""
    for port in (pair.a.imap_port, pair.a.lmtp_port):
        code, text, took, _ = sync(pair.a, "-S", "%s:%d" % (pair.b.host, port),
                                   "-A")
        assert code == 1 and "is not a csync port" in text and took < 15, text
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    for host, says in (("127.0.0.1:%d" % port, "refused"),
                       ("no-such-host.invalid", "no-such-host.invalid"),
                       ("127.0.0.1:nothing", "nothing"),
                       ("127.0.0.1:1/tsl", "only /tls and /noauth"),
                       ("[::1", "no ]"), ("[::1]x", "HOST")):
        for args in (("-A",), ("-b", "-A"), ("-o", "-R"), ("-1",)):
            code, text, _, _ = sync(pair.a, "-S", host, *args)
            assert code == 1 and says in text, (host, args, code, text)


def test_login(pair):
    for said, says in (
            (lambda: b"NO authentication failure\r\n", "login.*refused"),
            (lambda: b"BAD which mechanism?\r\n", "login.*refused"),
            (lambda: None, "closed by the peer"),
            (lambda: b"+ !!!\r\n", "not base64"),
            (lambda: b"\0\0\0\r\n", "login"),
            (lambda: b"+ " + b"A" * 200000 + b"\r\n", "line of more than"),
            (lambda: for_ever(b"+ QQ==\r\n"), "log|closed|answer")):
        with Peer(after("AUTHENTICATE", said)) as peer:
            for args in (("-A",), ("-b", "-A")):
                fails(pair.a, peer, "-t", "2", *args, says=says, within=20)
    with Peer(lambda line: False, b"* STARTTLS\r\n* OK fake\r\n") as peer:
        fails(pair.a, peer, "-t", "2", "-A", says="TLS with 127.0.0.1")
    with Peer(lambda line: False, b"* SASL KERBEROS_V9\r\n* OK fake\r\n") as peer:
        fails(pair.a, peer, "-t", "2", "-A", says="mechanism|no worthy|login")


# ---- answers ----------------------------------------------------------------

ANSWERS = (
    (lambda: None, "closed|by the peer"),
    (lambda: b"", "silent|no answer"),
    (lambda: b"nonsense\r\n", "peer says|not a CSYNC answer"),
    (lambda: b"\0\xff" * 50000, "answer|line of more|silent"),
    (lambda: b"* \r\n", "answer"),
    (lambda: b"* MAILBOX\r\nOK\r\n", "answer|digest|LOGSTATUS|level"),
    (lambda: b"* X {99999999999}\r\n", "answer|literal"),
    (lambda: b"* X {99999999999999999999999}\r\n", "answer|literal"),
    (lambda: b"* X " + b"(" * 100000 + b"\r\n", "answer|line of more"),
    (lambda: b"* X \"" + b"y" * 3000000, "answer|line of more|silent"),
    (lambda: for_ever(b"* X %%(A %s)\r\n" % (b"y" * 30000)),
     "answer of over|too long"),
    (lambda: for_ever(b"* X y\r\n" * 10000), "answer of over|too long"),
    (lambda: for_ever(b"* LOGUSER %(USER joe DIGEST 0123456789abcdef)\r\n" *
                      1000), "answer of over|too long"),
    (lambda: for_ever(b"* X y\r\n", 0.3), "bit by bit|silent|told to stop"),
    (lambda: b"BYE shutting down\r\n", "shutting down"),
    (lambda: b"* Fatal error: out of sorts\r\n", "out of sorts|answer"),
    (lambda: b"NO " + b"z" * 100000 + b"\r\n", "zzz|line of more|answer"),
)


def test_answers_by_state(pair):
    """The first question, by state; and with GET USER a user's lists."""
    for said, says in ANSWERS:
        if "bit by bit" in says:
            continue  # the way by state waits as long as something comes
        with Peer(after("GET", said)) as peer:
            fails(pair.a, peer, "-t", "2", "-b", "-u", "u00",
                  says=says + "|not brought level")
    head = (b"* MAILBOX %%(UNIQUEID u%s MBOXNAME user.u00.x%s LAST_UID 0 "
            b"HIGHESTMODSEQ 1 RECENTUID 0 RECENTTIME 0 POP3_LAST_LOGIN 0 "
            b"UIDVALIDITY 1 PARTITION default ACL \"\" OPTIONS P)\r\n")

    def boxes():
        n = 0
        while True:
            n += 1
            yield b"".join(head % (b"%d.%d" % (n, i), b"%d.%d" % (n, i))
                           for i in range(200))
    with Peer(after("GET USER", boxes)) as peer:
        fails(pair.a, peer, "-t", "5", "-b", "-u", "u00",
              says="answer of over", within=60)


def test_answers_by_log(pair):
    greeting = HELLO % LOG
    for said, says in ANSWERS:
        with Peer(after("LOG STATUS", said), greeting) as peer:
            fails(pair.a, peer, "-t", "1", "--verify", says=says)
            if "of over" not in says and "bit by bit" not in says:
                fails(pair.a, peer, "-t", "1", "-A", says=says)
    with Peer(lambda line: False, greeting) as peer:  # OK to everything
        fails(pair.a, peer, "-t", "2", "-A", says="no LOGSTATUS")
        fails(pair.a, peer, "-t", "2", "-b", "-A", says="LOGSTATUS|malformed")


def test_a_list_of_users_without_end(pair):
    """LOG USERS that always has more, from the beginning again."""
    real = pair.b.status()["here"]

    def script(line):
        if line.startswith("LOG STATUS"):
            return b"* LOGSTATUS %%(%s)\r\nOK\r\n" % (
                b"VERSION 1 RECORD_FORMAT 1 CLUSTER %032x INSTANCE %032x ROLE "
                b"master EPOCH 1 FENCE 0 SWAPPING 0 SEEDING 0 SEED_WANTED 0 "
                b"DURABLE_EPOCH 1 DURABLE 9 CHAIN %016x APPLIED_EPOCH 1 APPLIED "
                b"9 APPLIED_CHAIN %016x DIGEST %016x APPLIED_TIME 1 FIRST 1 "
                b"START 0 WALL 1 SERVERNAME x TEXT \"\" EPOCHS ()" %
                (1, 2, 3, 3, 4))
        if line.startswith("LOG USERS"):
            return (b"* LOGUSER %(USER joe DIGEST 0123456789abcdef)\r\n"
                    b"* LOGVIEW %(LSN 9 DIGEST 0123456789abcdef MORE 1)\r\n"
                    b"OK\r\n")
        return False
    assert real
    with Peer(script, HELLO % LOG) as peer:
        text = fails(pair.a, peer, "-t", "2", "-b", "-A", says=".")
        assert "not in order" in text, text


def test_random_bytes(pair):
    """Whatever comes, after the greeting, after login, or in an answer."""
    rng = random.Random(4)
    pieces = [b"* ", b"OK ", b"NO ", b"\r\n", b"%(", b")", b"(", b"{3}\r\nabc",
              b"MAILBOX ", b"LOGSTATUS ", b"UNIQUEID ", b"\"", b"\\", b"{5",
              b"RECORD (", b" 1", b"\0", b"\xff\xfe", b"MESSAGE (%{x "]
    for n in range(24):
        noise = b"".join(rng.choice(pieces) for _ in range(rng.randrange(60)))
        word = rng.choice(("GET", "LOG", "AUTHENTICATE", "APPLY"))
        greeting = HELLO % rng.choice((b"", LOG))
        with Peer(after(word, lambda: noise), greeting) as peer:
            args = rng.choice((("-A",), ("-b", "-A"), ("-b", "-u", "u00"),
                               ("--verify",), ("-1",)))
            code, text, took, rss = sync(pair.a, "-S", peer.at, "-t", "1", *args)
            assert code in (0, 1, 3, 4), (n, noise, args, code, text)
            assert "Sanitizer" not in text, text
            assert took < 40 and rss < RSS_MIB, (n, noise, args, took, rss)


def test_told_to_stop(pair):
    """SIGTERM ends one that waits for a peer that says nothing."""
    append(pair.a, "u00", "INBOX", 1)
    for word, more in (("AUTHENTICATE", LOG), ("LOG", LOG), ("GET", b"")):
        with Peer(after(word, lambda: b""), HELLO % more) as peer:
            proc = subprocess.Popen(
                pair.a.program("sync_client", "-b", "-n", "c2", "-R", "-S",
                               peer.at),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL)
            try:
                wait_for("sync_client to ask", lambda: any(
                    line.startswith(word) for line in peer.lines))
                began = time.monotonic()
                proc.terminate()
                assert proc.wait(60) == 0
                assert time.monotonic() - began < 3 * SLOWNESS, word
            finally:
                if proc.poll() is None:
                    proc.kill()
                    proc.wait()


# ---- a real peer, cut off, or one that hangs up on one user ------------------


class Cutter:
    """Between sync_client and a real server: after so many bytes of the
    server's, or as soon as WORD is said to it, the line is cut."""

    def __init__(self, target, nbytes=None, word=None):
        self.target, self.nbytes, self.word = target, nbytes, word
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.at = "127.0.0.1:%d" % self.sock.getsockname()[1]
        self.cuts = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
                there = socket.create_connection(self.target)
            except OSError:
                return
            for one, other, back in ((conn, there, False), (there, conn, True)):
                threading.Thread(target=self.carry, args=(one, other, back),
                                 daemon=True).start()

    def carry(self, one, other, back):
        passed, tail = 0, b""
        try:
            while True:
                data = one.recv(65536)
                if not data:
                    break
                if back and self.nbytes is not None:
                    data = data[:max(0, self.nbytes - passed)]
                    passed += len(data)
                other.sendall(data)
                if back and self.nbytes is not None and passed >= self.nbytes:
                    self.cuts += 1
                    break
                tail = (tail + data)[-300:]
                if not back and self.word and self.word in tail:
                    self.cuts += 1
                    break
        except OSError:
            pass
        for s in (one, other):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


def append(instance, user, folder, n):
    c = instance.imap(user, "secret")
    c.create(folder)
    for i in range(n):
        assert c.append(folder, None, None, b"Subject: %d\r\n\r\n%s %d\r\n" % (
            i, folder.encode(), i))[0] == "OK"
    c.logout()


def differences(pair, user):
    a, b = (imapstate.user_state(Side(i), user, "secret")
            for i in (pair.a, pair.b))
    return imapstate.differences(a, b)


class Side:
    admin = "admin"

    def __init__(self, instance):
        self.host, self.imap_port = instance.host, instance.imap_port


def test_cut_at_many_bytes(pair):
    """The real server's answers end at byte n, for many n."""
    target = (pair.b.host, pair.b.csync_port)
    for n in list(range(1, 400, 23)) + list(range(400, 4000, 331)):
        append(pair.a, "u00", "INBOX", 1)
        with Cutter(target, nbytes=n) as cut:
            code, text, took, _ = sync(pair.a, "-S", cut.at, "-t", "3", "-b",
                                       "-u", "u00")
            assert took < 30, (n, took, text)
            assert code == (1 if cut.cuts else 0) or "changes" in text, (
                n, cut.cuts, code, text)
    code, text, _, _ = sync(pair.a, "-b", "-u", "u00")
    assert code == 0, text
    assert not differences(pair, "u00")


def rolling(pair, at, *args):
    return subprocess.Popen(
        pair.a.program("sync_client", "-b", "-n", "c2", "-S", at, *args),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)


def channel_text(pair):
    return {c["channel"]: c for c in pair.a.status()["channels"]}["c2"]["text"]


def test_one_user_whom_the_peer_hangs_up_on(pair):
    """He is parked, the others go on, and he is not forgotten by an end of
    sync_client: the next one brings him level."""
    target = (pair.b.host, pair.b.csync_port)
    assert sync(pair.a, "-b", "-n", "c2", "-1")[0] == 0
    append(pair.a, "u00", "Poison", 2)
    append(pair.a, "u01", "Fine", 2)
    with Cutter(target, word=b"Poison") as cut:
        proc = rolling(pair, cut.at, "-R")
        try:
            wait_for("u01 to be level", lambda: not differences(pair, "u01"),
                     timeout=60)
            wait_for("u00 to be parked", lambda: re.search(
                "1 parked, the last one user u00", channel_text(pair)),
                     timeout=60)
            append(pair.a, "u01", "Finer", 2)
            wait_for("u01 to be level", lambda: not differences(pair, "u01"),
                     timeout=60)
        finally:
            proc.kill()  # not even told to stop
            proc.wait()
        assert cut.cuts >= 3
        code, text, _, _ = sync(pair.a, "-b", "-n", "c2", "-S", cut.at, "-1")
        assert code == 1, text  # never 0 while somebody is not level
    assert differences(pair, "u00")
    code, text, _, _ = sync(pair.a, "-b", "-n", "c2", "-1")
    assert code == 0, text
    assert not differences(pair, "u00")
    code, text, _, _ = sync(pair.a, "-b", "-A")
    assert code == 0 and "changes=0" in text, text


def test_a_file_ends_it(pair):
    """-F: what is durable by then is there, the file is gone, and so is
    sync_client; writes go on."""
    append(pair.a, "u00", "INBOX", 3)
    path = os.path.join(pair.a.dir, "end-of-c2")
    to = "%s:%d" % (pair.b.host, pair.b.csync_port)
    proc = rolling(pair, to, "-R", "-F", path)
    try:
        append(pair.a, "u00", "INBOX", 3)
        open(path, "w").close()
        assert proc.wait(30) == 0
    finally:
        if proc.poll() is None:
            proc.kill()
            proc.wait()
    assert not os.path.exists(path)
    assert not differences(pair, "u00")
    with socket.create_server(("127.0.0.1", 0)) as s:
        nowhere = "127.0.0.1:%d" % s.getsockname()[1]
    append(pair.a, "u00", "INBOX", 1)
    open(path, "w").close()
    proc = rolling(pair, nowhere, "-R", "-F", path)
    assert proc.wait(30) == 1  # it has not all
    assert not os.path.exists(path)


def test_the_fence_ends_it(pair):
    append(pair.a, "u00", "INBOX", 1)
    to = "%s:%d" % (pair.b.host, pair.b.csync_port)
    proc = rolling(pair, to, "-R")
    try:
        wait_for("u00 to be level", lambda: not differences(pair, "u00"))
        append(pair.a, "u00", "INBOX", 3)
        open(pair.a.fence, "w").close()
        assert proc.wait(30) == 0
    finally:
        if proc.poll() is None:
            proc.kill()
            proc.wait()
        os.unlink(pair.a.fence)
    assert not differences(pair, "u00")


def test_names_and_what_is_left(pair):
    """Unknown names are told; -f takes remarks; several prefixes; and who was
    not come to stands in --remainder."""
    for args, says in ((("-u", "nobody"), "no such user"),
                       (("-s", "nobody"), "no such user"),
                       (("-m", "user/u00/Nothing"), "no such mailbox")):
        code, text, _, _ = sync(pair.a, "-b", *args)
        assert code == 1 and says in text, (args, code, text)
    names = os.path.join(pair.a.dir, "names")
    with open(names, "w") as f:
        f.write("# who is to go\nu00\n\nu01\n")
    code, text, _, _ = sync(pair.a, "-b", "-u", "-f", names)
    assert code == 0 and "users=2" in text, text
    code, text, _, _ = sync(pair.a, "-b", "-A", "--anew", "u00", "u01")
    assert code == 0 and "users=2" in text, text
    code, text, _, _ = sync(pair.a, "-b", "-A", "--anew", "zzz")
    assert "users=0" in text, text
    left = os.path.join(pair.a.dir, "left")
    target = (pair.b.host, pair.b.csync_port)
    append(pair.a, "u00", "INBOX", 1)
    for args in (("-u", "u00", "u01"), ("-A", "--jobs", "1")):
        with Cutter(target, word=b"USER u00") as cut:
            code, text, _, _ = sync(pair.a, "-S", cut.at, "-b",
                                    "--remainder", left, *args)
        assert code == 1, (args, text)
        with open(left) as f:
            assert "u00" in f.read().split(), (args, text)
    code, text, _, _ = sync(pair.a, "-b", "-u", "-f", left,
                            "--remainder", left)
    assert code == 0, text
    assert os.path.getsize(left) == 0
    assert not differences(pair, "u00")


def test_wrong_command_lines(pair):
    for args, says in (((), "say what to do"), (("-u",), "want names"),
                       (("-A", "-u", "x"), "give one of"),
                       (("-u", "-m", "x"), "give one of"),
                       (("-r", "x"), "names go with"),
                       (("-R", "-f", "x"), "-f goes with"),
                       (("-A", "--jobs", "0"), "1 to"),
                       (("-r", "--verify"), "do not go with"),
                       (("-m", "x", "--remainder", "y"), "--remainder goes"),
                       (("-t", "x", "-A"), "takes seconds"),
                       (("--nonsense",), "nonsense")):
        code, text, _, _ = sync(pair.a, *args)
        assert code == 64 and says in text, (args, code, text)
        assert len(text) < 300, text
    for args, says in ((("-n", "thrid", "-R"), "no channel of the name thrid"),
                       (("-b", "-z", "-S", "/nowhere", "-A"), "nowhere"),
                       (("-C", "/nowhere", "-A"), "nowhere"),
                       (("--verify",), "--dry-run")):
        code, text, _, _ = sync(pair.a, *args)
        assert code == 1 and says in text, (args, code, text)
    assert "thrid" not in [c["channel"] for c in pair.a.status()["channels"]]
    with Peer(lambda line: False) as peer:
        fails(pair.a, peer, "-b", "-z", "-A", says="offers no compression")


# ---- and a client that is no better ------------------------------------------


def test_random_commands_change_nothing(pair):
    """Words of CSYNC by log in any order, cut and mixed: the instance goes on,
    and its state is what it was."""
    import csync_wire
    from pair import SYNC_PASSWORD, SYNC_USER
    rng = random.Random(11)
    before = digest(pair.b)
    ids = ["%032x" % rng.getrandbits(128) for _ in range(2)]
    values = ids + ["0", "1", "-1", "18446744073709551616", "\"\"", "(", ")",
                    "%(", "{3+}\r\nabc", "{9999999999+}", "x" * 300, "u00"]
    verbs = ["STATUS", "DIGEST", "OPEN", "STREAM", "SEED", "USERS", "MAILBOXES",
             "ROWS", "RESEED", "EXPORT", "PREPARE", "HANDOVER", "LEND", "CANCEL",
             "NOTHING"]
    keys = ["CHANNEL", "CLUSTER", "INSTANCE", "EPOCH", "FORMAT", "LSN", "CHAIN",
            "TOKEN", "DIGEST", "AFTER", "USER", "MAILBOX", "ZSTD", "RECEIPTS"]
    for _ in range(300):
        wire = csync_wire.connect(pair.b, SYNC_USER, SYNC_PASSWORD)
        wire.sock.settimeout(0.05)
        body = " ".join("%s %s" % (rng.choice(keys), rng.choice(values))
                        for _ in range(rng.randrange(8)))
        line = "LOG %s %s" % (rng.choice(verbs), rng.choice(
            ("", "%%(%s)" % body, "%%(%s" % body, body)))
        data = line.encode() + rng.choice((b"\r\n", b"\n", b"", b"\r\n" * 3))
        noise = rng.randbytes(rng.randrange(300))
        try:
            wire.sock.sendall(data + noise)
            wire.sock.recv(65536)
        except OSError:
            pass
        wire.sock.close()
    assert digest(pair.b) == before
    assert pair.b.status()["here"]["role"] == "master"


class Strangers:
    """Two masters that are no twins."""

    def __init__(self, bin_dir, base):
        self.pairs = [Pair(bin_dir, os.path.join(base, n), USERS)
                      for n in ("one", "two")]
        self.a, self.b = self.pairs[0].a, self.pairs[1].a

    def start(self):
        to = {"sync_host": self.b.host, "sync_port": str(self.b.csync_port),
              "unixhierarchysep": "yes", "sync_log_channels": "c2"}
        for pair in self.pairs:
            pair.set_up(rolling=False, options=to)
            pair.a.start()
            pair.a.must("promote")
        append(self.a, "u00", "Old", 3)
        append(self.a, "u01", "Old", 3)

    def kill(self):
        for pair in self.pairs:
            pair.kill()


def main():
    base = tempfile.mkdtemp(prefix="pollux-hostile-")
    pair = Strangers(sys.argv[1], base)
    failed = 0
    global RSS_MIB, SLOWNESS
    if is_asan(os.path.join(sys.argv[1], "sync_client")):
        RSS_MIB += 450
        SLOWNESS = 4
    try:
        pair.start()
        for name, test in list(globals().items()):
            if not name.startswith("test_") or (sys.argv[2:] and
                                                name not in sys.argv[2:]):
                continue
            began = time.monotonic()
            try:
                test(pair)
                print("ok     %s (%.1f s)" % (name, time.monotonic() - began))
            except Exception as e:  # the others are worth to be seen too
                failed += 1
                print("FAILED %s: %s: %s" % (name, type(e).__name__, e))
            sys.stdout.flush()
    finally:
        pair.kill()
        shutil.rmtree(base, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
