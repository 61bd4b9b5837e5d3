"""sync_client within a cluster: -A, -u, -m, -f, --dry-run, --verify, --diff,
and what it refuses.  test_sync_client.py BIN_DIR [TEST ...]."""

import os
import time

from pollux import World, check, check_equal, run, wait_for


def by_hand(bin_dir, options=None):
    """A world in which we start sync_client ourselves."""
    world = World(bin_dir, options, start=False)
    make = world.set_up
    world.set_up = lambda: make(rolling=False)
    return world


def begin(w):
    w.start()
    w.a.must("promote")
    for user in ("alice", "bob"):
        conn = w.a.imap(user)
        check_equal(conn.create("Sent")[0], "OK", "CREATE")
        conn.logout()
    w.deliver_all(w.a, range(1, 21))
    w.deliver_all(w.a, range(21, 31), users=("bob",))


def client(instance, *args, code=0):
    done = instance.run("sync_client", *args)
    check_equal(done.returncode, code, "sync_client %s: %s%s" % (
        " ".join(args), done.stdout, done.stderr))
    return done.stdout + done.stderr


def split(w):
    """a, which was killed, begins again without hearing of b's epoch."""
    w.b.stop()
    w.a.start()
    w.b.start()


def test_all_users(bin_dir):
    with by_hand(bin_dir) as w:
        begin(w)
        out = client(w.a, "-A", "--dry-run")
        check("would seed" in out, out)
        client(w.a, "--verify", code=3)
        client(w.a, "-A")
        check("nothing to do: equal" in client(w.a, "-A", "--dry-run"), "plan")
        check("store: equal at" in client(w.a, "--verify"), "verify")
        w.deliver_all(w.a, range(31, 41))
        check("would ship 10 records" in client(w.a, "--dry-run"), "plan")
        # What was said is not what was done.
        check("would ship 10 records" in client(w.a, "--dry-run"), "plan")
        out = client(w.a, "-u", "alice", "bob")
        check("user alice: equal" in out and "user bob: equal" in out, out)
        check_equal(w.a.ctl("status")[0], 0, "status")
        began = time.monotonic()
        check("equal" in client(w.a, "-A"), "again")
        check(time.monotonic() - began < 10, "equal, and took long")


def test_names(bin_dir):
    with by_hand(bin_dir) as w:
        begin(w)
        client(w.a, "-A")
        out = client(w.a, "-m", "user/alice", "user/bob/Sent")
        check("mailbox user.alice: equal" in out, out)
        check("mailbox user.bob.Sent: equal" in out, out)
        out = client(w.a, "--verify", "-u", "alice", "nobody-here", code=4)
        check("user alice: equal" in out, out)
        check("user nobody-here: is on neither side" in out, out)
        names = os.path.join(w.a.dir, "names")
        with open(names, "w") as f:
            f.write("alice\n\nbob\n")
        out = client(w.a, "-u", "-f", names)
        check_equal(out.count(": equal, digest"), 2, out)
        out = client(w.a, "-z", "-m", "user/alice")
        check("mailbox user.alice: equal" in out, out)
        out = client(w.a, "-A", "alice")  # a prefix: by state (sync_client -h)
        check("users=1 " in out and "failed=0" in out, out)
        for bad in (["-u"], ["-m"], ["-f", names], ["-t", "x", "-A"], []):
            client(w.a, *bad, code=64)
        client(w.a, "-u", "-f", names + "-not", code=1)


def test_wrong_direction(bin_dir):
    """A replica, and a master of an epoch that is over, ship to nobody."""
    with by_hand(bin_dir) as w:
        begin(w)
        client(w.a, "-A")
        for args in (["-A"], ["-u", "alice"], ["--dry-run"]):
            out = client(w.b, *args, code=1)
            check("not the master" in out, out)
        w.a.kill()
        w.b.must("promote")
        w.deliver_all(w.b, [100])
        split(w)
        out = client(w.a, "-A", "--dry-run", code=1)
        check("epoch 2" in out, out)
        before = w.b.status()["here"]["digest"]
        client(w.a, "-A", code=1)
        check_equal(w.b.status()["here"]["digest"], before, "the new master")


def test_what_differs(bin_dir):
    """Two masters after a split, at one LSN: each difference is named."""
    with by_hand(bin_dir) as w:
        begin(w)
        client(w.a, "-A")
        w.a.kill()
        w.b.must("promote")
        w.deliver_all(w.b, [200])
        split(w)
        w.deliver_all(w.a, [300, 301])
        lsn = wait_for("both at one LSN", lambda:
                       w.a.status()["here"]["applied"] ==
                       w.b.status()["here"]["applied"] and
                       w.a.status()["here"]["applied"])
        out = client(w.a, "--verify", code=4)
        check("store: UNEQUAL at" in out and str(lsn) in out, out)
        out = client(w.a, "--verify", "-u", "alice", "bob", code=4)
        check("user alice: UNEQUAL" in out and "user bob: equal" in out, out)
        out = client(w.a, "--verify", "-m", "user/alice/Sent", "user/alice",
                     code=4)
        check("mailbox user.alice.Sent: equal" in out, out)
        check("mailbox user.alice: UNEQUAL" in out, out)
        out = client(w.a, "--verify", "--diff", code=4)
        check("user alice: differs" in out, out)
        check("user bob" not in out, out)
        check("mailbox user.alice: exists 22 and 21" in out, out)
        check("UID 22: only here" in out, out)
        check("UID 65557: only on the replica" in out or "only on the replica"
              in out, out)
        check("UID 20:" not in out, "an equal row is named: " + out)


run([test_all_users, test_names, test_wrong_direction, test_what_differs])
