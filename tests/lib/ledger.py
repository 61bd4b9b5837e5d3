"""A ledger of what was sent and what was acknowledged, clients that fill it,
and a reader that compares it with what is there.

Every message has a number; a client notes it when it begins to send, and again
when it was acknowledged.  Every acknowledged message has to be in its mailbox
exactly once with the bytes that were sent, and nothing may be there that nobody
sent.  What was sent and not acknowledged may be there or not, but it may not
come later: what is looked at once stays.
"""

import contextlib
import imaplib
import random
import smtplib
import threading
import time

from pollux import check, check_equal, fetch, message, number_of, uids

GONE = (OSError, EOFError, smtplib.SMTPException, imaplib.IMAP4.error)
PAGE = 200  # messages that are read at once
# Mostly small ones, some that have a record of their own.
SIZES = (300, 1000, 4000, 4000, 30000, 300000)


class Ledger:
    """What was sent to whom, and what was acknowledged."""

    def __init__(self):
        self.lock = threading.Lock()
        self.next = 1
        self.begun = {}  # number -> (user, size, by)
        self.acked = set()
        self.acked_at = {}  # number -> time.monotonic()
        self.fresh = set()  # acknowledged since they were looked at last

    def begin(self, user, size, by):
        with self.lock:
            number = self.next
            self.next += 1
            self.begun[number] = (user, size, by)
            return number

    def ack(self, number):
        with self.lock:
            self.acked.add(number)
            self.acked_at[number] = time.monotonic()
            self.fresh.add(number)

    def power_went(self, at):
        """A machine without power acknowledges nothing: what came after AT was
        said by one that did not know yet, and may be there or not.  How many.
        """
        with self.lock:
            late = [n for n, t in self.acked_at.items() if t >= at]
            for n in late:
                self.acked.discard(n)
                self.fresh.discard(n)
            self.acked_at = {}
            return len(late)


class Client(threading.Thread):
    """Sends to INSTANCE as fast as it is answered, and connects again when it is
    cut.  BY: "lmtp" or "append"; REFUSED: what answers said no, by their text;
    SOLID: make a message, instead of one that compresses well."""

    def __init__(self, instance, ledger, users, seed, by, make=message,
                 sizes=SIZES):
        super().__init__(daemon=True)
        self.instance = instance
        self.ledger = ledger
        self.users = users
        self.random = random.Random(seed)
        self.by = by
        self.make = make
        self.sizes = sizes
        self.conn = None
        self.user = None
        self.ending = threading.Event()
        self.refused = {}

    def refuse(self, text):
        self.refused[text] = self.refused.get(text, 0) + 1
        self.ending.wait(0.02)

    def lmtp_answer(self, user, raw):
        for line in (b"MAIL FROM:<sender@example.org>",
                     b"RCPT TO:<%s>" % user.encode(), b"DATA"):
            code, text = self.conn.docmd(line.decode())
            if code not in (250, 354):
                self.conn.docmd("RSET")
                return code, text
        self.conn.send(raw + b".\r\n")
        return self.conn.getreply()

    def send_lmtp(self):
        if self.conn is None:
            self.conn = self.instance.lmtp(timeout=10)
        user, size = self.choose()
        number = self.ledger.begin(user, size, self.by)
        code, text = self.lmtp_answer(user, self.make(number, size, user))
        if code == 250:
            self.ledger.ack(number)
        else:
            self.refuse("%d %s" % (code, text.decode().split(" ")[0]))

    def send_append(self):
        user, size = self.choose()
        if self.conn is None or self.user != user:
            self.hang_up()
            self.conn = self.instance.imap(user, timeout=10)
            self.user = user
        number = self.ledger.begin(user, size, self.by)
        kind, data = self.conn.append("INBOX", None, None,
                                      self.make(number, size, user))
        if kind == "OK":
            self.ledger.ack(number)
        else:
            self.refuse("%s %s" % (kind, data[0].decode().split(" ")[0]))

    def choose(self):
        size = self.random.choice(self.sizes)
        user = self.user if self.user and self.random.random() < 0.8 else \
            self.random.choice(self.users)
        return user, size

    def hang_up(self):
        if self.conn is not None:
            try:
                if self.by == "lmtp":
                    self.conn.close()
                else:
                    self.conn.shutdown()
            except GONE:
                pass
        self.conn = None

    def run(self):
        send = self.send_lmtp if self.by == "lmtp" else self.send_append
        while not self.ending.is_set():
            try:
                send()
            except GONE:
                self.hang_up()
                self.ending.wait(0.01)  # until it is there again
        self.hang_up()


class Load:
    """LMTP and APPEND clients on INSTANCE for one `with`."""

    def __init__(self, instance, ledger, users, rng, lmtp=3, append=2,
                 **kwargs):
        self.clients = [
            Client(instance, ledger, users, rng.random(), by, **kwargs)
            for by in ["lmtp"] * lmtp + ["append"] * append]

    def __enter__(self):
        for c in self.clients:
            c.start()
        return self

    def refused(self):
        """How often which answer was no."""
        total = {}
        for c in self.clients:
            for text, n in list(c.refused.items()):
                total[text] = total.get(text, 0) + n
        return total

    def __exit__(self, kind, *_):
        for c in self.clients:
            c.ending.set()
        for c in self.clients:
            c.join(60)
            if kind is None:
                check(not c.is_alive(), "a client hangs")


class Verifier:
    """Reads what came since the last look, so that a round costs what is new."""

    def __init__(self, ledger, users, make=message):
        self.ledger = ledger
        self.users = users
        self.make = make
        self.forget()

    def forget(self):
        """The next look is at all of it."""
        self.last_uid = {u: 0 for u in self.users}
        self.seen = {u: {} for u in self.users}  # number -> uid
        self.ledger.fresh = set(self.ledger.acked)

    def take(self, user, uid, raw):
        number = number_of(raw)
        check(number in self.ledger.begun,
              "UID %d of %s was never sent" % (uid, user))
        check(number not in self.seen[user],
              "message %s of %s is there twice: UIDs %s and %d" % (
                  number, user, self.seen[user].get(number), uid))
        to, size, by = self.ledger.begun[number]
        check_equal(to, user, "recipient of message %d" % number)
        sent = self.make(number, size, to)
        same = raw == sent if by == "append" else raw.endswith(sent)
        check(same, "message %d of %s was changed (%s, %d bytes, %d sent)" % (
            number, user, by, len(raw), len(sent)))
        self.seen[user][number] = uid

    def look(self, *instances):
        """The first of INSTANCES against the ledger, the others against it."""
        for user in self.users:
            self.look_at(instances, user)
        lost = [n for n in self.ledger.fresh
                if n not in self.seen[self.ledger.begun[n][0]]]
        check(not lost, "acknowledged and lost: %s" % [
            "%d to %s of %d bytes by %s" % (n, *self.ledger.begun[n])
            for n in sorted(lost)[:20]])
        self.ledger.fresh = set()

    def look_at(self, instances, user):
        """What is new of USER, a page at a time: bodies of one page are held."""
        with contextlib.ExitStack() as stack:
            conns = []
            exists = []
            for instance in instances:
                conn = instance.imap(user, timeout=60)
                stack.callback(conn.logout)
                kind, data = conn.select("INBOX", readonly=True)
                conns.append(conn if kind == "OK" else None)
                exists.append(int(data[0]) if kind == "OK" else 0)
            for n in exists[1:]:
                check_equal(n, exists[0], "messages of %s on the twin" % user)
            new = [uids(c, self.last_uid[user] + 1) if c is not None else []
                   for c in conns]
            for of_twin in new[1:]:
                check_equal(of_twin, new[0], "UIDs of %s on the twin" % user)
            for i in range(0, len(new[0]), PAGE):
                page = new[0][i:i + PAGE]
                got = fetch(conns[0], page[0], page[-1])
                check_equal([u for u, _ in got], page, "UIDs of " + user)
                for twin in conns[1:]:
                    check(fetch(twin, page[0], page[-1]) == got,
                          "the twins show different mail of " + user)
                for uid, raw in got:
                    self.take(user, uid, raw)
                    self.last_uid[user] = uid
            check_equal(exists[0], len(self.seen[user]), "messages of " + user)

    def there(self):
        return sum(len(s) for s in self.seen.values())
