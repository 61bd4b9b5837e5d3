"""\\Seen of readers between two Pollux of different histories: tests/peers/
readers.py, by -A alone and by following the log, and what expiry takes.
"""

import os
import shutil
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "lib"),
                os.path.join(HERE, "..", "peers")]
import imapstate  # noqa: E402
import readers  # noqa: E402
import test_by_state as by_state  # noqa: E402


def everything(pair):
    done = by_state.sync(pair.a, "-A", "--anew", "-l")
    assert done.returncode == 0, done.stdout + done.stderr
    return int(by_state.counts(done.stdout)["changes"]), done.stdout


def follow(pair):
    done = by_state.sync(pair.a, "-1")
    assert done.returncode == 0, done.stdout + done.stderr


def people(pair):
    return readers.Readers(
        by_state.Side(pair.a), by_state.Side(pair.b), "u00", "u01",
        lambda: follow(pair), lambda: everything(pair))


def test_by_log_and_by_everything(pair):
    r = people(pair)
    r.go("Rolling")
    r.level = lambda: everything(pair)
    r.go("Everything")
    r.close()


def test_what_expiry_took_is_not_sent(pair):
    """The peer still says that a message that is gone for good was seen."""
    r = people(pair)
    box = r.folder("Expired", 2)
    r.let("Expired", "lrs")
    r.mark("Expired", "1")
    r.step("read", box, "1")
    r.must(r.owner, "SELECT", "Expired")
    r.owner.state = "SELECTED"
    r.owner.uid("STORE", "1", "+FLAGS", "(\\Deleted)")
    r.owner.expunge()
    r.must(r.owner, "UNSELECT")
    r.owner.state = "AUTH"
    done = pair.a.run("cyr_expire", "-E", "1", "-X", "0")
    assert done.returncode == 0, done.stderr
    r.level()
    r.nothing_left("expired")
    r.mark("Expired", "2")
    r.step("read another", box, "2")
    r.close()


def main():
    base = tempfile.mkdtemp(prefix="pollux-by-state-seen-")
    pair = by_state.Strangers(sys.argv[1], base)
    try:
        pair.start()
        admin = imapstate.connect(by_state.Side(pair.a), "admin", "secret")
        for user in by_state.USERS:
            assert admin.create("user/" + user)[0] == "OK"
        admin.logout()
        test_by_log_and_by_everything(pair)
        test_what_expiry_took_is_not_sent(pair)
    finally:
        pair.kill()
        shutil.rmtree(base, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
