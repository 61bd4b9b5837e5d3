"""Mail for the scenarios: as MTAs, users and trouble send it."""

from email.message import EmailMessage

FOLDERS = ["Work", "Work/2026", "Work/2026/Q1", "With space",
           "Dots.in.a.name", "&AMk-t&AOk-", "R&-D", "Empty"]


def plain(n, subject=None, text=None):
    return ("From: Sender %d <sender%d@example.org>\r\n"
            "To: alice@example.org\r\n"
            "Subject: %s\r\n"
            "Date: Mon, 05 Jan 2026 10:%02d:00 +0100\r\n"
            "Message-ID: <clients-%d@example.org>\r\n"
            "\r\n%s\r\n" % (n, n, subject or "message %d" % n, n % 60, n,
                            text or "Text of message %d." % n)).encode()


def variety():
    """One message of each kind, with CRLF."""
    yield plain(1000)
    yield plain(1001, text="\r\n".join([".", "..", ".dot", "", "From here"]))
    yield plain(1002, text="x" * 990)
    yield plain(1003, text="\r\n".join("line %d" % i for i in range(20000)))
    yield b"Subject: no body, no other header\r\n\r\n"
    yield (b"From: a@example.org\r\nSubject: raw 8 bit \xe4\xf6\xfc\r\n"
           b"Content-Type: text/plain; charset=iso-8859-1\r\n"
           b"Content-Transfer-Encoding: 8bit\r\n\r\nGr\xfc\xdfe\r\n")
    yield (b"From: a@example.org\r\nSubject: folded\r\n\tin\r\n several\r\n"
           b"\tlines\r\nX-Long: " + b"y" * 5000 + b"\r\n\r\ntext\r\n")
    yield (b"From: a@example.org\r\nSubject: broken multipart\r\n"
           b"Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n"
           b"--b\r\nContent-Type: text/plain\r\n\r\nnever closed\r\n")
    for n in range(6):
        m = EmailMessage()
        m["From"] = "Jörg <joerg%d@example.org>" % n
        m["To"] = "alice@example.org"
        m["Subject"] = "Grüße, Nummer %d" % n
        m["Date"] = "Tue, 06 Jan 2026 11:%02d:00 +0100" % n
        m["Message-ID"] = "<variety-%d@example.org>" % n
        m.set_content("süß\n" * (n + 1))
        if n % 3 == 1:
            m.add_attachment(bytes(range(256)) * 400 * n,
                             maintype="application", subtype="octet-stream",
                             filename="data %d.bin" % n)
        if n % 3 == 2:
            inner = EmailMessage()
            inner["Subject"] = "inner %d" % n
            inner.set_content("forwarded\n")
            m.add_attachment(inner)
        yield m.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
