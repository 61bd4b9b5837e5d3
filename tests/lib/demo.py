"""What ./demo shows: demo.py BIN_DIR [--once] [--keep]."""

import glob
import json
import os
import shutil
import signal
import smtplib
import sys
import tempfile
import threading
import time
from email.message import EmailMessage

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from pair import Pair, PairError, wait_for  # noqa: E402

USERS = {"alice": "wonder-land-1", "bob": "build-er-2", "carol": "ca-rol-3"}
CORPUS = os.environ.get("DEMO_CORPUS", os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "../../../shared/corpus"))


def say(step, text):
    print("%-12s %s" % (step, text), flush=True)


# ---- messages ------------------------------------------------------------


def generated():
    """Plain text, umlauts, an attachment, a message in a message, a big one."""
    for n in range(40):
        m = EmailMessage()
        m["From"] = "Sender %d <sender%d@example.org>" % (n, n)
        m["To"] = "alice@example.org"
        m["Subject"] = ("Message %d", "Grüße, Nummer %d", "With a file, %d",
                        "Forwarded: %d")[n % 4] % n
        m["Date"] = "Mon, 05 Jan 2026 10:%02d:00 +0100" % n
        m["Message-ID"] = "<demo-%d@example.org>" % n
        m.set_content("Line after line of text, süß.\n" * (5 + 7 * n))
        if n % 4 == 2:
            m.add_attachment(bytes(range(256)) * (40 + 400 * (n // 10)),
                             maintype="application", subtype="octet-stream",
                             filename="data-%d.bin" % n)
        if n % 4 == 3:
            inner = EmailMessage()
            inner["Subject"] = "inner %d" % n
            inner.set_content("I was forwarded.\n")
            m.add_attachment(inner)
        yield m.as_bytes()


def messages():
    """(Where from, messages): real mail if the corpus is there."""
    files = sorted(glob.glob(os.path.join(CORPUS, "*", "*.eml")))
    if not files:
        return "generated", list(generated())
    found = []
    for name in files:
        with open(name, "rb") as f:
            found.append(f.read())
    return "of a corpus of real and odd mail", found


# ---- light load ------------------------------------------------------------


class Load(threading.Thread):
    """An MTA at work: RATE messages a second to carol; what is not accepted is
    tried again at the other twin until it is."""

    def __init__(self, pair, rate):
        super().__init__(daemon=True)
        self.pair = pair
        self.rate = rate
        self.done = threading.Event()
        self.acked = []  # (number, when)
        self.retries = 0
        self.at = pair.a
        self.conn = None

    def once(self, n):
        if self.conn is None:
            self.conn = self.at.lmtp(10)
        text = ("From: load@example.org\r\nTo: carol@example.org\r\n"
                "Subject: load %d\r\nMessage-ID: <load-%d@example.org>\r\n"
                "\r\nload %d\r\n" % (n, n, n)).encode()
        codes = self.at.deliver(self.conn, ["carol"], text)
        if codes != [250]:
            raise smtplib.SMTPResponseException(codes[0], b"not now")

    def run(self):
        n = 0
        began = time.monotonic()
        while not self.done.is_set():
            try:
                self.once(n)
            except (OSError, EOFError, smtplib.SMTPException):
                if self.conn is not None:
                    self.conn.close()
                self.conn = None
                self.retries += 1
                self.at = (self.pair.b if self.at is self.pair.a
                           else self.pair.a)
                self.done.wait(0.002)
                continue
            self.acked.append((n, time.monotonic()))
            n += 1
            self.done.wait(max(0.0, began + n / self.rate - time.monotonic()))

    def end(self):
        self.done.set()
        self.join(30)

    def longest_gap_ms(self):
        times = [t for _, t in self.acked]
        gaps = [b - a for a, b in zip(times, times[1:])]
        return max(gaps, default=0.0) * 1000


# ---- the steps -------------------------------------------------------------


def side(s):
    return "%s, epoch %d, at %d:%d, digest %s" % (
        s["role"], s["epoch"], s["applied_epoch"], s["applied"], s["digest"])


def show_status(pair, step, asked):
    s = pair.wait_equal(asked)
    here, there = s["here"], s["twin"]
    say(step, "%s: %s" % (asked.name, side(here)))
    say("", "%s: %s" % ("b" if asked is pair.a else "a", side(there)))
    say("", "digests %s, lag %d records, %.3f ms" % (
        s["digests"], s["lag_records"], s["lag_ms"]))
    if here["digest"] != there["digest"] or here["applied"] != there["applied"]:
        raise PairError("the twins are not equal")
    return s


def deliver(pair):
    where, mails = messages()
    conn = pair.a.lmtp()
    began = time.monotonic()
    accepted = refused = sent_bytes = 0
    distinct = set()
    for n, text in enumerate(mails):
        rcpts = ["alice", "bob"] if n % 5 == 0 else ["alice"]
        try:
            codes = pair.a.deliver(conn, rcpts, text)
        except smtplib.SMTPResponseException as e:
            codes = [e.smtp_code] * len(rcpts)
        for rcpt, code in zip(rcpts, codes):
            if code == 250:
                accepted += 1
                distinct.add((rcpt, text.replace(b"\r\n", b"\n").rstrip(b"\n")))
            else:
                refused += 1
        sent_bytes += len(text)
    seconds = time.monotonic() - began
    conn.quit()
    say("deliver", "%d messages (%s, %.1f MiB) by LMTP to a in %.2f s: "
        "%d deliveries accepted, %d refused" % (
            len(mails), where, sent_bytes / 2**20, seconds, accepted, refused))
    if len(distinct) < accepted:
        say("", "%d of them were there already, byte for byte, and are kept "
            "once" % (accepted - len(distinct)))
    return len(distinct)


def read_on_replica(pair, expected):
    pair.wait_equal()
    counts = {}
    for user in ("alice", "bob"):
        c = pair.b.imap(user)
        typ, data = c.select("INBOX", readonly=True)
        counts[user] = int(data[0])
        if user == "alice":
            typ, data = c.fetch("1", "(UID RFC822.SIZE INTERNALDATE "
                                "BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
            first = data[0]
        c.logout()
    subject = " ".join(first[1].decode("utf-8", "replace").split())
    say("read", "b, the replica, shows by IMAP: alice %d, bob %d messages; "
        "first: \"%.50s\"" % (counts["alice"], counts["bob"], subject))
    if sum(counts.values()) != expected:
        raise PairError("%d different messages accepted, %d on the replica" %
                        (expected, sum(counts.values())))


def swap_under_load(pair):
    load = Load(pair, 50)
    load.start()
    wait_for("load", lambda: len(load.acked) >= 25)
    out = json.loads(pair.a.must("--json", "swap"))
    at = len(load.acked)
    wait_for("load after the swap", lambda: len(load.acked) >= at + 25)
    load.end()
    say("swap", "b is the master of epoch %d since record %d: write gap %.1f "
        "ms" % (out["epoch"], out["position"], out["gap_ms"]))
    c = pair.b.imap("carol")
    c.select("INBOX", readonly=True)
    typ, data = c.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    found = sorted(int(d[1].split()[-1]) for d in data if isinstance(d, tuple))
    c.logout()
    if found != [n for n, _ in load.acked]:
        raise PairError("accepted %d messages under load, found %d" % (
            len(load.acked), len(found)))
    say("", "an MTA at %d messages/s saw at most %.1f ms between two 250s and "
        "had to try %d times again; all %d are there once" % (
            load.rate, load.longest_gap_ms(), load.retries, len(load.acked)))


def append_and_see(pair):
    c = pair.b.imap("alice")
    text = (b"From: alice@example.org\r\nSubject: written on b after the swap"
            b"\r\nMessage-ID: <after-swap@example.org>\r\n\r\nHello, a.\r\n")
    began = time.monotonic()
    typ, data = c.append("INBOX", r"(\Seen)", None, text)
    if typ != "OK":
        raise PairError("APPEND on b: %s %s" % (typ, data))
    c.logout()

    d = pair.a.imap("alice")

    def seen():
        d.select("INBOX", readonly=True)
        typ, data = d.search(None, "SUBJECT", '"written on b"')
        return data[0].split()
    number = wait_for("the message on a", seen)[0].decode()
    ms = (time.monotonic() - began) * 1000
    d.logout()
    say("append", "written on b by IMAP APPEND, seen on a, now the replica, as "
        "number %s: %.1f ms for all of it" % (number, ms))


def stay(pair, master):
    print()
    print("A mail program may connect now (no TLS in this demo):")
    print("  IMAP %s port %d (the master), or %s (its replica, read-only)" % (
        master.host, master.imap_port,
        (pair.a if master is pair.b else pair.b).host))
    for user, password in USERS.items():
        print("  user %-6s password %s" % (user, password))
    print("  LMTP %s port %d for further mail" % (
        master.host, master.lmtp_port))
    print("  %s -C %s status" % (
        os.path.join(pair.bin_dir, "ctl_failover"), master.imapd_conf))
    print("Ctrl-C ends it.", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print()


def run(pair):
    pair.set_up()
    pair.start()
    for i in (pair.a, pair.b):
        say("instance %s" % i.name, "%s: imap %d, lmtp %d, csync %d, pid %d" % (
            i.host, i.imap_port, i.lmtp_port, i.csync_port, i.proc.pid))
    say("users", ", ".join(USERS) + " (in a sasldb of the demo)")
    pair.a.must("promote")
    wait_for("a to write", lambda: pair.a.role() == "master")
    say("promote", "a, first start: master of epoch %d" %
        pair.a.status()["here"]["epoch"])
    read_on_replica(pair, deliver(pair))
    show_status(pair, "status", pair.a)
    swap_under_load(pair)
    append_and_see(pair)
    show_status(pair, "status", pair.b)


def main():
    bin_dir = sys.argv[1]
    base = tempfile.mkdtemp(prefix="pollux-demo.")
    pair = Pair(bin_dir, base, USERS, first_port=10143)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rc = 1
    try:
        run(pair)
        if "--once" not in sys.argv:
            stay(pair, pair.b)
        pair.stop()
        rc = 0
        say("end", "both instances stopped")
    except PairError as e:
        print("demo: %s" % e, file=sys.stderr)
        for i in (pair.a, pair.b):
            for name in ("log", "stderr"):
                path = os.path.join(i.dir, name)
                if os.path.exists(path):
                    print("---- %s of %s" % (name, i.name), file=sys.stderr)
                    with open(path, errors="replace") as f:
                        sys.stderr.writelines(f.readlines()[-12:])
    except KeyboardInterrupt:
        print()
    finally:
        pair.kill()
        if "--keep" in sys.argv:
            say("kept", base)
        else:
            shutil.rmtree(base, ignore_errors=True)
    sys.exit(rc)


if __name__ == "__main__":
    main()
