"""What the end-to-end tests share: a world of two instances that is always
cleaned up, messages, and asking for what is in a mailbox.

Instances, users and programs come from tests/lib/pair.py.
"""

import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir, "lib"))
from pair import Pair, PairError, free_port  # noqa: E402,F401
from pair import tail, wait_for  # noqa: E402,F401

USERS = {"alice": "wonder-1", "bob": "builder-2"}


class Failed(Exception):
    """A promise was not kept."""


def check(condition, text):
    if not condition:
        raise Failed(text)


def check_equal(got, want, text):
    if got != want:
        raise Failed("%s: got %r, want %r" % (text, got, want))


def message(number, size=400, to="alice"):
    """A message that is known by its number, of SIZE bytes or a little more.
    Ends in CRLF, as every message does after SMTP."""
    head = ("From: Sender <sender@example.org>\r\nTo: %s@example.org\r\n"
            "Subject: message %d\r\nMessage-ID: <m%d@test.example>\r\n"
            "Date: Mon, 05 Jan 2026 10:00:00 +0000\r\n\r\n" % (to, number,
                                                              number))
    line = hashlib.sha1(b"%d" % number).hexdigest() + "\r\n"
    body = line * max(1, (size - len(head)) // len(line))
    return (head + body).encode()


def number_of(raw):
    """The number of a message that message() made, or None."""
    found = re.search(rb"^Message-ID: <m(\d+)@test\.example>", raw, re.M)
    return int(found.group(1)) if found else None


def fetch(conn, first_uid=1, last_uid="*"):
    """[(uid, bytes)] of the selected mailbox, from FIRST_UID to LAST_UID."""
    kind, data = conn.uid("FETCH", "%d:%s" % (first_uid, last_uid),
                          "(UID BODY.PEEK[])")
    check_equal(kind, "OK", "FETCH")
    got = []
    for part in data:
        if isinstance(part, tuple):
            uid = int(re.search(rb"UID (\d+)", part[0]).group(1))
            if uid >= first_uid:
                got.append((uid, part[1]))
    return sorted(got)


def uids(conn, first_uid=1):
    """All UIDs of the selected mailbox from FIRST_UID on, in order."""
    # A line each: imaplib takes no answer of SEARCH with 150,000 UIDs.
    kind, data = conn.uid("FETCH", "%d:*" % first_uid, "(UID)")
    check_equal(kind, "OK", "FETCH")
    found = re.findall(rb"UID (\d+)", b" ".join(filter(None, data)))
    return sorted(u for u in map(int, found) if u >= first_uid)


def mailbox(instance, user, name="INBOX", first_uid=1):
    """The same for a mailbox that is opened for this; [] if there is none."""
    conn = instance.imap(user)
    try:
        kind, _ = conn.select(name, readonly=True)
        return fetch(conn, first_uid) if kind == "OK" else []
    finally:
        conn.logout()


def numbers(instance, user):
    return sorted(number_of(raw) for _, raw in mailbox(instance, user))


class World(Pair):
    """Two instances in a directory of their own, for one `with`.  PROMOTE: a is
    the master.  Both are ended and the directory is removed at the end,
    whatever happens; after a failure the ends of the logs are shown."""

    def __init__(self, bin_dir, options=None, promote=True, start=True):
        self.tmp = tempfile.mkdtemp(prefix="pollux-e2e-")
        os.chmod(self.tmp, 0o755)
        super().__init__(bin_dir, os.path.join(self.tmp, "pair"), USERS,
                         options)
        self.promote = promote
        self.do_start = start

    def set_up(self, *args, **kwargs):
        """An option whose value is "" is left out."""
        super().set_up(*args, **kwargs)
        for i in (self.a, self.b):
            with open(i.imapd_conf) as f:
                lines = [line for line in f if not line.endswith(": \n")]
            with open(i.imapd_conf, "w") as f:
                f.writelines(lines)

    def __enter__(self):
        try:
            self.set_up()
            if self.do_start:
                self.start()
                if self.promote:
                    self.a.must("promote")
                    self.wait_equal()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, value, trace):
        self.kill()
        if kind is not None:
            # First, since who shows a part of the output shows its beginning.
            print("---- failed: %s: %s" % (kind.__name__, value))
            for i in (self.a, self.b):
                print("---- log of %s\n%s---- stderr of %s\n%s" % (
                    i.name, tail(i.log, 40), i.name,
                    tail(os.path.join(i.dir, "stderr"), 40)))
        if os.environ.get("POLLUX_KEEP"):
            print("kept: %s" % self.tmp)
        else:
            shutil.rmtree(self.tmp, ignore_errors=True)

    def deliver_all(self, instance, wanted, users=("alice",), size=400):
        """Messages of the numbers WANTED by LMTP to each of USERS."""
        conn = instance.lmtp()
        for n in wanted:
            codes = instance.deliver(conn, users, message(n, size, users[0]))
            check_equal(codes, [250] * len(users), "answers to message %d" % n)
        conn.quit()


def log_has(instance, text):
    try:
        with open(instance.log, errors="replace") as f:
            return text in f.read()
    except OSError:
        return False


def run(tests):
    """Run each test, say how it went, and end with 1 if one failed."""
    bin_dir = sys.argv[1]
    only = sys.argv[2:]
    failed = []
    for test in tests:
        if only and test.__name__ not in only:
            continue
        began = time.monotonic()
        try:
            test(bin_dir)
            verdict = "ok"
        except BaseException as e:
            if isinstance(e, KeyboardInterrupt):
                raise
            traceback.print_exc(file=sys.stdout)
            failed.append(test.__name__)
            verdict = "FAILED"
        print("%-6s %s (%.1f s)" % (verdict, test.__name__,
                                    time.monotonic() - began), flush=True)
    if failed:
        print("failed: " + " ".join(failed))
    sys.exit(1 if failed else 0)
