"""Messages that break parsers go through LMTP and APPEND and come back byte for
byte, here and on the replica: 10,000 nested parts, a header line of 1 MiB, NUL
bytes, eight bits, bare CR and LF, 50 MiB.
test_withstand_messages.py BIN_DIR [TEST ...]."""

import imaplib
import os
import random
import re

from pollux import World, check, check_equal, run
from withstand import RssWatch, check_same_picture, no_crash, solid

HEAD = (b"From: a <a@example.org>\r\nTo: alice@example.org\r\nSubject: %s\r\n"
        b"Date: Mon, 05 Jan 2026 10:00:00 +0000\r\n"
        b"Message-ID: <%s@hostile.example>\r\n")


def head(name):
    return HEAD % (name, name)


def nested(depth, kind=b"multipart/mixed"):
    """DEPTH multiparts, each inside the one before, never closed or closed."""
    out = [head(b"nested-%d" % depth), b"MIME-Version: 1.0\r\n"]
    for i in range(depth):
        out.append(b"Content-Type: %s; boundary=b%d\r\n\r\n--b%d\r\n" %
                   (kind, i, i))
    out.append(b"Content-Type: text/plain\r\n\r\ndeep\r\n")
    for i in reversed(range(depth)):
        out.append(b"--b%d--\r\n" % i)
    return b"".join(out)


def siblings(count):
    return head(b"siblings-%d" % count) + (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=s\r\n"
        b"\r\n" + b"".join(b"--s\r\nContent-Type: text/plain; name=n%d\r\n\r\n"
                           b"part %d\r\n" % (i, i) for i in range(count)) +
        b"--s--\r\n")


def rfc822(depth):
    return b"".join(head(b"in-%d" % i) + b"MIME-Version: 1.0\r\n"
                    b"Content-Type: message/rfc822\r\n\r\n"
                    for i in range(depth)) + head(b"inside") + b"\r\ntext\r\n"


def hostile():
    """{name: bytes}, all with CRLF ends except where that is the point."""
    rnd = random.Random(4711)
    eight = bytes(range(1, 256)).replace(b"\r", b"").replace(b"\n", b"")
    return {
        "nested": nested(10000),
        "siblings": siblings(10000),
        "rfc822": rfc822(1000),
        "header-line": head(b"line") + b"X-Long: " + b"y" * (1 << 20) +
        b"\r\n\r\ntext\r\n",
        "header-to": head(b"to") + b"Cc: " + b",\r\n ".join(
            b"u%d <u%d@example.org>" % (i, i) for i in range(20000)) +
        b"\r\n\r\ntext\r\n",
        "body-line": head(b"body") + b"\r\n" + b"z" * (3 << 20) + b"\r\n",
        "eight-bit": head(b"eight") + b"X-Eight: " + eight + b"\r\n\r\n" +
        eight * 100 + b"\r\n",
        "no-header": b"\r\nonly a text\r\n",
        "no-body": head(b"nobody"),
        "dots": head(b"dots") + b"\r\n.\r\n..\r\n.a\r\n...\r\n",
        "random": head(b"random") + b"\r\n" +
        rnd.randbytes(300000).replace(b"\r", b"x").replace(b"\n", b"y")
        .replace(b"\0", b"z") + b"\r\n",
        "nul": head(b"nul") + b"X-Nul: a\0b\r\n\r\nc\0d\0\r\n",
        "bare-lf": head(b"lf") + b"\r\na\nb\n\nc\r\n",
        "bare-cr": head(b"cr") + b"\r\na\rb\r\r\nc\r\n",
    }


# IMAP's literals carry no NUL (RFC 3501, literal = CHAR8 without it), and SMTP
# gives lines no other end than CRLF (RFC 5321, 2.3.8): these may be refused,
# with a permanent answer, and by LMTP a lone CR or LF may become a line end.
MAY_REFUSE = {"nul", "bare-lf", "bare-cr"}


def lmtp_send(w, raw):
    """DATA exactly as RAW, dots stuffed; the code of the answer."""
    conn = w.a.lmtp(120)
    conn.docmd("MAIL FROM:<s@example.org>")
    conn.docmd("RCPT TO:<alice>")
    check_equal(conn.docmd("DATA")[0], 354, "DATA")
    stuffed = re.sub(rb"(^|\r\n)\.", rb"\1..", raw)
    conn.send(stuffed + b".\r\n")
    code, text = conn.getreply()
    conn.quit()
    return code, text


def last(conn):
    """(uid, bytes) of the newest message."""
    kind, data = conn.uid("FETCH", "*", "(UID BODY.PEEK[])")
    check_equal(kind, "OK", "FETCH")
    part = [p for p in data if isinstance(p, tuple)][0]
    return int(re.search(rb"UID (\d+)", part[0]).group(1)), part[1]


def count(conn):
    return int(conn.select("INBOX", readonly=True)[1][0])


def look_at_all(instance, user):
    """Everything the parser made of them can be asked for."""
    conn = instance.imap(user, timeout=120)
    conn.select("INBOX", readonly=True)
    for what in ("(ENVELOPE)", "(BODYSTRUCTURE)", "(BODY)", "(BODY.PEEK[1])",
                 "(BODY.PEEK[HEADER.FIELDS (SUBJECT X-LONG)])",
                 "(BODY.PEEK[1.1.1.1.1.1.1.MIME])", "(RFC822.SIZE)",
                 "(BODY.PEEK[TEXT]<1000000.50>)", "(BODY.PEEK[9999])"):
        kind, data = conn.fetch("1:*", what)
        check_equal(kind, "OK", "FETCH %s" % what)
    for what in ('SUBJECT "nested"', 'BODY "deep"', 'TEXT "part 9999"',
                 'HEADER "X-Long" "yyyy"', 'FROM "example"'):
        kind, data = conn.search(None, what)
        check_equal(kind, "OK", "SEARCH %s" % what)
    conn.logout()


def test_hostile_messages_come_back(bin_dir):
    with World(bin_dir) as w, RssWatch(w.a.proc.pid) as rss:
        w.deliver_all(w.a, [1])
        refused = []
        conn = w.a.imap("alice", timeout=120)
        for name, sent in hostile().items():
            raw = sent
            before = count(conn)
            code, text = lmtp_send(w, raw)
            if code != 250:
                check(name in MAY_REFUSE and 500 <= code < 600,
                      "LMTP of %s: %d %r" % (name, code, text))
                refused.append("lmtp/" + name)
            else:
                check_equal(count(conn), before + 1, "messages after " + name)
                if name.startswith("bare"):
                    raw = re.sub(rb"[\r\n]", b"", raw)
                    got = re.sub(rb"[\r\n]", b"", last(conn)[1])
                else:
                    got = last(conn)[1]
                check(got.endswith(raw) and len(got) - len(raw) < 2000,
                      "LMTP of %s: %d bytes came back for %d" %
                      (name, len(got), len(raw)))
            raw = sent
            kind, data = conn.append("INBOX", None, None, raw)
            if kind != "OK":
                check(name in MAY_REFUSE, "APPEND of %s: %r" % (name, data))
                refused.append("append/" + name)
            else:
                conn.select("INBOX", readonly=True)
                check(last(conn)[1] == raw, "APPEND of %s was changed" % name)
        print("       refused: %s" % " ".join(refused))
        w.wait_equal(timeout=60)
        seen = check_same_picture(w.a, w.b, ["alice"])
        check(seen >= 23, "messages: %d" % seen)
        look_at_all(w.a, "alice")
        look_at_all(w.b, "alice")
        no_crash(w.a, w.b)
        # From the log, after a crash.
        w.a.kill()
        w.a.start()
        w.wait_equal(timeout=60)
        check_same_picture(w.a, w.b, ["alice"])
        no_crash(w.a, w.b)
    print("       memory: at most %.0f MiB more" % rss.grown_mib())


class Keep:
    """imaplib makes CRLF of every line end in append(): not of ours."""

    def sub(self, _, text):
        return text


def test_fifty_mebibytes(bin_dir):
    size = 50 << 20
    with World(bin_dir) as w, RssWatch(w.a.proc.pid) as rss:
        raw = solid(1, size)
        code, text = lmtp_send(w, raw)
        check_equal(code, 250, "LMTP of 50 MiB: %r" % text)
        conn = w.a.imap("alice", timeout=120)
        conn.select("INBOX", readonly=True)
        check(last(conn)[1].endswith(raw), "LMTP changed it")
        other = solid(2, size)
        check_equal(conn.append("INBOX", None, None, other)[0], "OK",
                    "APPEND of 50 MiB")
        conn.select("INBOX", readonly=True)
        check(last(conn)[1] == other, "APPEND changed it")
        w.wait_equal(timeout=120)
        check_equal(check_same_picture(w.a, w.b, ["alice"]), 2, "messages")
        no_crash(w.a, w.b)
        print("       memory: at most %.0f MiB more" % rss.grown_mib())
        check(rss.grown_mib() < 260, "memory: %.0f MiB" % rss.grown_mib())


if __name__ == "__main__":
    imaplib.MapCRLF = Keep()
    imaplib._MAXLINE = 1 << 26
    os.environ["ASAN_OPTIONS"] = "quarantine_size_mb=16"
    run([test_hostile_messages_come_back, test_fifty_mebibytes])
