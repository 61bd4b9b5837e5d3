"""First light: mail goes in by LMTP, comes out on the twin by IMAP, and the
twins swap.  test_first_light.py BIN_DIR [TEST ...]."""

import glob
import os
import smtplib

from pollux import (World, check, check_equal, mailbox, message, number_of,
                    numbers, run, wait_for)


def refused(code_of):
    """The code with which a call is refused, or 250."""
    try:
        codes = code_of()
        return codes[0]
    except smtplib.SMTPResponseException as e:
        return e.smtp_code


def append(instance, user, number):
    conn = instance.imap(user)
    try:
        return conn.append("INBOX", None, None, message(number))[0]
    finally:
        conn.logout()


def was_told(conn):
    """BYE: the role of the server has changed."""
    try:
        conn.noop()
    except conn.abort:
        return True
    return False


def test_mail_comes_out_on_both_twins(bin_dir):
    with World(bin_dir) as w:
        w.deliver_all(w.a, range(1, 21))
        w.deliver_all(w.a, range(21, 26), users=("alice", "bob"), size=200000)
        check_equal(append(w.a, "bob", 26), "OK", "APPEND")
        status = w.wait_equal()
        check_equal(status["here"]["digest"], status["twin"]["digest"],
                    "digests")
        check_equal(w.a.ctl("status")[0], 0, "exit code of status")
        for user in ("alice", "bob"):
            here, there = mailbox(w.a, user), mailbox(w.b, user)
            check(here == there, "the mailboxes of %s differ" % user)
        got = {number_of(raw): raw for _, raw in mailbox(w.b, "alice")}
        check_equal(sorted(got), list(range(1, 26)), "messages of alice")
        for n, raw in got.items():
            sent = message(n, 200000 if n > 20 else 400)
            check(raw.endswith(sent), "message %d was changed" % n)
        check_equal(numbers(w.b, "bob"), list(range(21, 27)), "those of bob")
        # The replica shows, and takes nothing.
        conn = w.b.lmtp()
        code = refused(lambda: w.b.deliver(conn, ["alice"], message(27)))
        check(400 <= code < 500, "LMTP on a replica answered %d" % code)
        check_equal(append(w.b, "bob", 28), "NO", "APPEND on a replica")


def test_swap_there_and_back(bin_dir):
    with World(bin_dir) as w:
        w.deliver_all(w.a, [1, 2])
        inside = w.a.imap("alice")
        inside.select()
        w.a.must("swap")
        wait_for("clients to be told", lambda: was_told(inside))
        wait_for("roles", lambda: w.b.role() == "master" and
                 w.a.role() == "replica")
        w.deliver_all(w.b, [3])
        wait_for("the message on the old master",
                 lambda: numbers(w.a, "alice") == [1, 2, 3])
        w.wait_equal()
        # An MTA that did not hear the answer tries again over there.
        w.deliver_all(w.b, [2])
        check_equal(numbers(w.b, "alice"), [1, 2, 3], "after a second try")
        w.b.must("swap")
        w.deliver_all(w.a, [4])
        w.wait_equal()
        check(mailbox(w.a, "alice") == mailbox(w.b, "alice"), "twins differ")
        check_equal(w.a.status()["here"]["epoch"], 3, "epoch")


def test_fence_holds_on_every_way(bin_dir):
    with World(bin_dir) as w:
        w.deliver_all(w.a, [1])
        conn = w.a.lmtp()

        def lmtp_code(n):
            return refused(lambda: w.a.deliver(conn, ["alice"], message(n)))
        for by_hand in (False, True):
            if by_hand:
                open(w.a.fence, "w").close()
            else:
                w.a.must("fence")
            code = wait_for("the fence", lambda: lmtp_code(2))
            check(400 <= code < 500, "LMTP behind the fence answered %d" % code)
            check_equal(append(w.a, "alice", 3), "NO", "APPEND")
            rc = w.a.ctl("status")[0]
            check_equal(rc, 6, "exit code of status behind the fence")
            if by_hand:
                os.unlink(w.a.fence)
                wait_for("the fence to go", lambda: lmtp_code(4) == 250)
            else:
                w.a.must("unfence")
                check_equal(lmtp_code(5), 250, "LMTP after the fence")
        w.wait_equal()
        check_equal(numbers(w.b, "alice"), [1, 4, 5], "messages")


def test_lost_master_promotion_export_and_rejoin(bin_dir):
    with World(bin_dir) as w:
        w.deliver_all(w.a, [1, 2])
        w.wait_equal()
        w.b.kill()
        w.deliver_all(w.a, [3])  # acknowledged, and never shipped
        w.a.kill()
        w.b.start()
        w.b.must("promote", "--force")
        w.deliver_all(w.b, [4])

        w.a.start()
        wait_for("the old master to be fenced",
                 lambda: w.a.role() == "fenced")
        conn = w.a.lmtp()
        code = refused(lambda: w.a.deliver(conn, ["alice"], message(5)))
        check(400 <= code < 500, "a deposed master answered %d" % code)
        w.a.must("export")
        saved = glob.glob(os.path.join(w.a.dir, "conf/export/*/*.eml"))
        check_equal(len(saved), 1, "exported messages")
        with open(saved[0], "rb") as f:
            check(f.read().endswith(message(3)), "the exported message")
        w.a.must("rejoin")
        w.wait_equal(timeout=90)
        check_equal(w.a.role(), "replica", "role after rejoin")
        check_equal(numbers(w.a, "alice"), [1, 2, 4], "messages")
        check(mailbox(w.a, "alice") == mailbox(w.b, "alice"), "twins differ")


def test_replica_that_was_away_catches_up(bin_dir):
    with World(bin_dir) as w:
        w.b.kill()
        w.deliver_all(w.a, range(1, 60))
        check_equal(w.a.ctl("status")[0], 5, "exit code without the twin")
        w.b.start()
        w.wait_equal(timeout=90)
        check(mailbox(w.a, "alice") == mailbox(w.b, "alice"), "twins differ")


def test_empty_replica_is_seeded(bin_dir):
    """A twin that never was there, and a master without sync_client: -A seeds,
    and -r goes on."""
    with World(bin_dir, start=False) as w:
        w.a.configure(rolling=False)
        w.a.start()
        w.a.must("promote")
        w.deliver_all(w.a, range(1, 40))
        w.b.start()
        import subprocess
        done = subprocess.run(w.a.program("sync_client", "-A", "-v"),
                              capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL)
        check_equal(done.returncode, 0, "sync_client -A: " + done.stdout +
                    done.stderr)
        w.wait_equal()
        w.a.stop()
        w.a.configure(rolling=True)
        w.a.start()
        w.deliver_all(w.a, [40])
        w.wait_equal()
        check(mailbox(w.a, "alice") == mailbox(w.b, "alice"), "twins differ")


run([
    test_mail_comes_out_on_both_twins,
    test_swap_there_and_back,
    test_fence_holds_on_every_way,
    test_lost_master_promotion_export_and_rejoin,
    test_replica_that_was_away_catches_up,
    test_empty_replica_is_seeded,
])
