"""By state between two Pollux of different histories, and a hostile peer.

    random histories   users of one side do things, sync_client -b brings the
                       other level, killed at random moments; in the end both are
                       equal over IMAP, and one more -A sends nothing.
                       POLLUX_BY_STATE_ROUNDS: how many (2)
    hostile            APPLY MAILBOX and MESSAGE cut at every byte, and lines
                       that no Cyrus sends: refused, nothing applied, and the
                       next one is served
"""

import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "peers")]
import imapstate  # noqa: E402
import load  # noqa: E402
from pair import Pair, SYNC_PASSWORD, SYNC_USER, wait_for  # noqa: E402
from withstand import Rolling, solid  # noqa: E402

USERS = ["u00", "u01"]
GUID = "da39a3ee5e6b4b0d3255bfef95601890afd80709"


class Side:
    """An instance as the helpers of tests/peers want it."""

    admin = "admin"

    def __init__(self, instance):
        self.me = instance
        self.host, self.imap_port = instance.host, instance.imap_port
        self.csync_port = instance.csync_port


class Strangers:
    """Two masters that are no twins: a brings b level."""

    def __init__(self, bin_dir, base):
        users = {u: "secret" for u in USERS + ["admin"]}
        self.pairs = [Pair(bin_dir, os.path.join(base, name), users)
                      for name in ("one", "two")]
        self.a, self.b = self.pairs[0].a, self.pairs[1].a
        self.options = {"altnamespace": "yes", "unixhierarchysep": "yes",
                        "delete_mode": "delayed", "expunge_mode": "delayed"}

    def start(self):
        peer = {"sync_host": self.b.host, "sync_port": str(self.b.csync_port)}
        for pair, more in zip(self.pairs, (peer, {})):
            pair.set_up(rolling=False, options={**self.options, **more})
            pair.a.start()
            pair.a.must("promote")

    def kill(self):
        for pair in self.pairs:
            pair.kill()


def sync(instance, *args, timeout=120):
    return subprocess.run(instance.program("sync_client", "-b", *args),
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=timeout)


def cut_sync(instance, rng):
    """A sync_client -A that is killed somewhere in the middle."""
    proc = subprocess.Popen(instance.program("sync_client", "-b", "-A"),
                            stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
    try:
        proc.wait(rng.random() * 0.5)
    except subprocess.TimeoutExpired:
        proc.kill()
        proc.wait()


def equal(a, b):
    for user in USERS:
        diff = imapstate.differences(
            imapstate.user_state(a, user, "secret"),
            imapstate.user_state(b, user, "secret"))
        assert not diff, "%s:\n%s" % (user, "\n".join(diff[:20]))


def test_random_histories(pair):
    a, b = Side(pair.a), Side(pair.b)
    corpus = load.corpus_of("")
    people = load.fill(a, USERS, corpus, 10, 40, 1)
    for round_ in range(int(os.environ.get("POLLUX_BY_STATE_ROUNDS", "2"))):
        rng = random.Random(round_)
        for _ in range(3):
            for u in people:
                u.connect()
                for _ in range(15):
                    u.act()
                u.c.logout()
            cut_sync(pair.a, rng)
        done = sync(pair.a, "-A")
        assert done.returncode == 0, done.stdout + done.stderr
        equal(a, b)
        done = sync(pair.a, "-A")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "changes=0" in done.stdout, done.stdout
    # one user, one mailbox, and what only META has
    people[0].connect()
    people[0].append()
    people[0].subscribe()
    people[0].c.logout()
    for args in (("-u", "u00"), ("-m", "user/u01"), ("-s", "u00")):
        done = sync(pair.a, *args)
        assert done.returncode == 0, (args, done.stdout + done.stderr)
    equal(a, b)


def counts(text):
    return dict(kv.split("=") for kv in text.split() if "=" in kv)


def test_looks_only_at_who_has_changed(pair):
    """A second -A asks one question; one change makes it look at one user; a
    reader's \\Seen in another's mailbox is not missed."""
    for _ in range(3):
        done = sync(pair.a, "-A")
        assert done.returncode == 0, done.stderr
    assert "nothing has changed on either side" in done.stdout, done.stdout
    owner = imapstate.connect(Side(pair.a), "u00", "secret")
    owner.create("Shared")
    owner._simple_command("SETACL", "Shared", "u01", "lrs")
    owner.append("Shared", None, None, b"Subject: s\r\n\r\ns\r\n")
    owner.logout()
    done = sync(pair.a, "-A")
    assert done.returncode == 0, done.stderr
    assert counts(done.stdout)["users"] == "1", done.stdout
    assert counts(done.stdout)["level"] == "1", done.stdout
    reader = imapstate.connect(Side(pair.a), "u01", "secret")
    assert reader.select('"Other Users/u00/Shared"')[0] == "OK"
    reader.store("1", "+FLAGS", "(\\Seen)")
    reader.logout()
    done = sync(pair.a, "-A")
    assert done.returncode == 0, done.stderr
    equal(Side(pair.a), Side(pair.b))
    done = sync(pair.a, "-A", "--anew")
    assert counts(done.stdout)["changes"] == "0", done.stdout
    # What is changed at the peer is noticed too.
    b = imapstate.connect(Side(pair.b), "u00", "secret")
    assert b.create("Theirs")[0] == "OK"
    b.logout()
    done = sync(pair.a, "-A", "--remove-extra")
    assert counts(done.stdout)["extra"] == "1", done.stdout
    assert "Theirs" not in names(pair)


def test_dry_run_says_and_does_nothing(pair):
    a = imapstate.connect(Side(pair.a), "u00", "secret")
    a.create("Dry")
    a.append("Dry", None, None, b"Subject: d\r\n\r\nd\r\n")
    assert a.rename("Shared", "SharedTo")[0] == "OK"
    a.logout()
    before = names(pair)
    first = sync(pair.a, "-A", "--dry-run")
    assert first.returncode == 0, first.stderr
    for what in ("APPLY MAILBOX", "APPLY RENAME", "user.u00.Dry"):
        assert what in first.stdout, first.stdout
    assert names(pair) == before
    again = sync(pair.a, "-u", "u00", "--dry-run")
    assert counts(again.stdout)["changes"] == \
        counts(first.stdout)["changes"], first.stdout + again.stdout
    assert sync(pair.a, "-A").returncode == 0
    assert names(pair) == (before - {"Shared"}) | {"Dry", "SharedTo"}


def test_who_fails_is_named_and_left_over(pair):
    """One user cannot be brought level: all others are, exit code 1, and the
    list of the others can be given to -u -f."""
    left = os.path.join(pair.a.dir, "left")
    b = imapstate.connect(Side(pair.b), "u01", "secret")
    b.create("Taken")
    b.append("Taken", None, None, b"Subject: b\r\n\r\nb\r\n")
    b.logout()
    a = imapstate.connect(Side(pair.a), "u01", "secret")
    a.create("Taken")
    a.append("Taken", None, None, b"Subject: a\r\n\r\na\r\n")
    a.logout()
    a = imapstate.connect(Side(pair.a), "u00", "secret")
    a.create("Fine")
    a.logout()
    done = sync(pair.a, "-A", "--remainder", left, "--jobs", "2")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "not level: user u01" in done.stderr, done.stderr
    with open(left) as f:
        assert f.read() == "u01\n"
    assert "Fine" in names(pair)
    done = sync(pair.a, "-u", "-f", left, "--remove-extra")
    assert done.returncode == 0, done.stdout + done.stderr
    done = sync(pair.a, "-A", "--remainder", left)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(left) as f:
        assert f.read() == ""
    equal(Side(pair.a), Side(pair.b))


def test_what_is_deleted_there_finds_a_name(pair):
    """A mailbox that nobody owns is only at the peer, which has deleted ones of
    its name with the stamps of the next seconds."""
    b = imapstate.connect(Side(pair.b), "admin", "secret")
    for _ in range(40):
        assert b.create("shared3")[0] == "OK"
        assert b.delete("shared3")[0] == "OK"
    assert b.create("shared3")[0] == "OK"
    done = sync(pair.a, "-A", "--remove-extra")
    assert done.returncode == 0, done.stdout + done.stderr
    assert b.select("shared3")[0] == "NO"
    b.logout()


def test_the_wrong_direction_is_refused(pair):
    """What the peer has of its own is not written over."""
    b = imapstate.connect(Side(pair.b), "u00", "secret")
    b.append("INBOX", None, None, b"Subject: own\r\n\r\nb's own\r\n")
    a = imapstate.connect(Side(pair.a), "u00", "secret")
    a.append("INBOX", None, None, b"Subject: own\r\n\r\na's own\r\n")
    done = sync(pair.a, "-u", "u00")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "at the peer" in done.stderr or "own" in done.stderr, done.stderr
    b.select("INBOX")
    assert b.search(None, "SUBJECT", "own")[1][0].split(), "b lost its own"
    a.logout()
    b.logout()


# ---- hostile --------------------------------------------------------------


class Raw:
    def __init__(self, side):
        c = load.Csync(side, SYNC_USER, SYNC_PASSWORD)
        self.s, self.f = c.s, c.f

    def say(self, data):
        """The answer's last line, or b"" where the server hung up."""
        self.s.sendall(data)
        while True:
            line = self.f.readline()
            if not line.startswith(b"* ") or line.startswith(b"* Fatal"):
                return line

    def close(self):
        self.s.close()


HEAD = ("APPLY MAILBOX %%(UNIQUEID hostile%s MBOXNAME user.u00.%s LAST_UID %s "
        "HIGHESTMODSEQ %s RECENTUID 0 RECENTTIME 0 POP3_LAST_LOGIN 0 "
        "UIDVALIDITY %s PARTITION default ACL \"u00\tlrs\t\" OPTIONS \"\" "
        "RECORD (%s))\r\n")
RECORD = ("%%(UID %s MODSEQ %s LAST_UPDATED 1 FLAGS (\\Seen) INTERNALDATE 1 "
          "SIZE %d GUID %s)")
BODY = b"Subject: x\r\n\r\nbody\r\n"


def names(pair):
    c = imapstate.connect(Side(pair.b), "u00", "secret")
    found = set(imapstate.list_names(c, "list"))
    c.logout()
    return found


def test_cut_at_every_byte_leaves_nothing(pair):
    guid = hashlib.sha1(BODY).hexdigest()
    line = (HEAD % ("1", "Cut", 1, 5, 7, RECORD % (1, 5, len(BODY), guid)))
    message = b"APPLY MESSAGE (%%{default %s %d}\r\n%s)\r\n" % (
        guid.encode(), len(BODY), BODY)
    before = names(pair)
    data = message + line.encode()
    for n in list(range(0, len(data) - 1, 7)) + [len(data) - 2]:
        r = Raw(Side(pair.b))
        r.s.sendall(data[:n])
        r.close()
    assert names(pair) == before
    r = Raw(Side(pair.b))
    assert r.say(message) == b"OK success\r\n"
    for byte in line.encode()[:-1]:
        r.s.sendall(bytes([byte]))
    assert r.say(b"\n") == b"OK success\r\n"
    r.close()
    assert names(pair) == before | {"Cut"}


def test_what_no_cyrus_sends_is_refused(pair):
    before = names(pair)
    side = Side(pair.b)
    for data, answer in (
            # nothing, no mailbox, no such verb
            (b"APPLY MAILBOX %()\r\n", b"NO IMAP_PROTOCOL_BAD_PARAMETERS"),
            (b"APPLY NONSENSE x\r\n", b"NO IMAP_PROTOCOL_ERROR"),
            (b"GET NONSENSE x\r\n", b"NO IMAP_PROTOCOL_ERROR"),
            (b"GET FULLMAILBOX nowhere\r\n", b"NO IMAP_MAILBOX_NONEXISTENT"),
            (b"APPLY UNMAILBOX nowhere\r\n", b"NO IMAP_MAILBOX_NONEXISTENT"),
            # a message that is not its GUID
            (b"APPLY MESSAGE (%%{p %s 3}\r\nabc)\r\n" % GUID.encode(),
             b"NO IMAP_PROTOCOL_BAD_PARAMETERS"),
            # a live message whose body never came
            ((HEAD % ("2", "NoBody", 1, 5, 7,
                      RECORD % (1, 5, 3, "41" * 20))).encode(),
             b"NO IMAP_MAILBOX_LOCKED"),
            # a UIDVALIDITY, UID, MODSEQ that cannot be; not ascending
            ((HEAD % ("3", "Far", 1, 5, 4294967295, "")).encode(),
             b"NO IMAP_PROTOCOL_BAD_PARAMETERS"),
            ((HEAD % ("3", "Uid", 1, 5, 7, RECORD % (2, 5, 0, GUID))).encode(),
             b"NO IMAP_PROTOCOL_BAD_PARAMETERS"),
            ((HEAD % ("3", "Modseq", 1, 5, 7,
                      RECORD % (1, 6, 0, GUID))).encode(),
             b"NO IMAP_PROTOCOL_BAD_PARAMETERS"),
            ((HEAD % ("3", "Twice", 1, 5, 7, " ".join(
                [RECORD % (1, 5, 0, GUID)] * 2))).encode(),
             b"NO IMAP_PROTOCOL_BAD_PARAMETERS"),
            # names that are none
            ((HEAD % ("3", "a..b", 0, 1, 7, "")).encode(), b"NO POLLUX-"),
            # a UNIQUEID that another mailbox has
            ((HEAD % ("1", "Other", 0, 1, 7, "")).encode(),
             b"NO IMAP_MAILBOX_MOVED"),
            # MODSEQ and UIDs behind what is here
            ((HEAD % ("1", "Cut", 0, 1, 7, "")).encode(),
             b"NO IMAP_SYNC_CHECKSUM"),
            # a delta to something else
            ((HEAD % ("1", "Cut", 1, 9, 7, "")).replace(
                "RECORD", "SINCE_MODSEQ 4 RECORD").encode(),
             b"NO IMAP_SYNC_CHANGED"),
            # no lists, no numbers
            (b"APPLY RESERVE %(GUID (xyz))\r\n",
             b"NO IMAP_PROTOCOL_BAD_PARAMETERS"),
            (b"APPLY SEEN %(USERID u UNIQUEID i LASTREAD x)\r\n",
             b"NO IMAP_PROTOCOL_BAD_PARAMETERS"),
            (b"GET MBIDS (x)\r\n", b"NO IMAP_PROTOCOL_BAD_PARAMETERS"),
            (b"GET READERS (x)\r\n", b"NO IMAP_PROTOCOL_BAD_PARAMETERS"),
            (b"GET READERS x\r\n", b"NO IMAP_PROTOCOL_BAD_PARAMETERS"),
            (b"GET SEEN x\r\n", b"NO IMAP_PROTOCOL_BAD_PARAMETERS"),
            (b"GET SEEN %(UNIQUEID i LASTREAD 0 LASTUID 0 LASTCHANGE 0 "
             b"SEENUIDS 1)\r\n", b"NO IMAP_PROTOCOL_BAD_PARAMETERS"),
            (b"GET SEEN %(USERID u UNIQUEID i LASTREAD 0 LASTUID 0 LASTCHANGE "
             b"0 SEENUIDS x)\r\n", b"NO IMAP_PROTOCOL_BAD_PARAMETERS"),
            # beyond bounds: said, and hung up
            (b"APPLY MAILBOX %(ACL {999999999+}\r\n", b"* Fatal error"),
            (b"APPLY MESSAGE (%%{p %s 99999999999}\r\n" % GUID.encode(),
             b"* Fatal error"),
            (b"APPLY MAILBOX %(A ((((((((((((x))))))))))))\r\n",
             b"* Fatal error")):
        r = Raw(side)
        got = r.say(data)
        assert got.startswith(answer), (data[:100], got, answer)
        if not answer.startswith(b"* Fatal"):
            assert r.say(b"NOOP\r\n") == b"OK Noop completed\r\n", data
        r.close()
    assert names(pair) == before, names(pair) ^ before


def test_very_many_empty_messages(pair):
    """More in one piece of input than are written at once."""
    r = Raw(Side(pair.b))
    one = b"%%{p %s 0}\r\n " % GUID.encode()
    got = r.say(b"APPLY MESSAGE (" + one * 20000 + b")\r\n")
    assert got == b"OK success\r\n", got
    long = b"%%{%s %s 0}\r\n " % (b"p" * 60000, GUID.encode())
    got = r.say(b"APPLY MESSAGE (" + long + one * 20000 + b")\r\n")
    assert got == b"OK success\r\n", got
    r.close()


def files(bodies, lie=None):
    """APPLY MESSAGE with BODIES; the one of index LIE under another's name."""
    parts = []
    for i, body in enumerate(bodies):
        name = hashlib.sha1(b"x" if i == lie else body).hexdigest().encode()
        parts.append(b"%%{default %s %d}\r\n%s" % (name, len(body), body))
    return b"APPLY MESSAGE (" + b" ".join(parts) + b")\r\n"


def test_more_messages_than_are_written_at_once(pair):
    """The next one is half there when those before it are written; and what
    has failed is not forgotten for those that come behind it."""
    rng = random.Random(7)
    for size, count in ((40000, 60), (3000, 700), (900000, 5)):
        bodies = [b"Subject: %d\r\n\r\n" % i + rng.randbytes(size).replace(
            b"\0", b"0") for i in range(count)]
        r = Raw(Side(pair.b))
        got = r.say(files(bodies))
        assert got == b"OK success\r\n", got
        got = r.say(files(bodies, lie=1))
        assert got.startswith(b"NO "), got
        got = r.say(files(bodies))
        assert got == b"OK success\r\n", got
        r.close()


def test_a_replica_takes_and_gives_nothing_by_state(pair):
    """Only the master of a history may be changed, and only it knows what is
    so, unless one insists."""
    base = tempfile.mkdtemp(prefix="pollux-by-state-")
    third = Pair(sys.argv[1], base, {"u00": "secret"})
    try:
        third.set_up(rolling=False)
        third.a.start()  # nobody promoted it
        for data in (b"APPLY SUB %(USERID u00 MBOXNAME user.u00)\r\n",
                     (HEAD % ("9", "Here", 0, 1, 7, "")).encode(),
                     b"APPLY MESSAGE (%%{p %s 0}\r\n)\r\n" % GUID.encode()):
            r = Raw(Side(third.a))
            got = r.say(data)
            assert got.startswith(b"NO POLLUX-ROLE"), (data, got)
            r.close()
        to = "%s:%d" % (pair.b.host, pair.b.csync_port)
        done = sync(third.a, "-S", to, "-A")
        assert done.returncode == 1 and "not the master" in done.stderr
        done = sync(third.a, "-S", to, "-A", "--wrong-way")
        assert done.returncode == 0 and "users=0" in done.stdout, done.stderr
    finally:
        third.kill()
        shutil.rmtree(base, ignore_errors=True)


def test_beyond_the_cap_more_than_once(pair):
    """A channel by state that was given up is brought level as a whole when it
    is back, and from then on the log is kept for it again, up to the cap."""
    base = tempfile.mkdtemp(prefix="pollux-by-state-")
    two = Strangers(pair.pairs[0].bin_dir, base)
    two.options.update({"sync_segment_bytes": "256K", "log_keep_bytes": "0",
                        "state_flush_bytes": "64K", "sync_log_cap": "1M"})
    number = 0

    def deliver(size):
        nonlocal number
        conn = two.a.lmtp()
        for _ in range(30):
            number += 1
            assert two.a.deliver(conn, ["u00"], solid(
                number, size, "u00")) == [250]
        conn.quit()
        return True

    def given_up():
        with open(two.a.log, errors="replace") as f:
            return f.read().count("store.slot_expelled")

    def level():
        sides = [s.imap("u00") for s in (two.a, two.b)]
        try:
            found = [len(s.search(None, "ALL")[1][0].split()) for s in sides
                     if s.select("INBOX")[0] == "OK"]
            return found == [number, number]
        finally:
            for s in sides:
                s.logout()
    try:
        two.start()
        for turn in (1, 2):
            with Rolling(two.a, "-b"):
                deliver(400)
                wait_for("both to be level", level, 60)
                wait_for("the log to be followed", lambda: two.a.status()[
                    "channels"][0]["state"] == "streaming", 60)
            wait_for("the channel to be given up",
                     lambda: deliver(40000) and given_up() == turn, 60)
        with Rolling(two.a, "-b"):
            wait_for("both to be level", level, 60)
    finally:
        two.kill()
        shutil.rmtree(base, ignore_errors=True)


def main():
    base = tempfile.mkdtemp(prefix="pollux-by-state-")
    pair = Strangers(sys.argv[1], base)
    failed = 0
    try:
        pair.start()
        for name, test in list(globals().items()):
            if not name.startswith("test_"):
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
