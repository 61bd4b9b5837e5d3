#!/usr/bin/env python3
"""Damage: a flipped bit is never served and never shipped, always reported,
and repaired from the twin; or the instance stops with one sentence that says
what to do.

    test_damage.py BIN_DIR [TEST ...]
"""

import glob
import os
import re
import subprocess

from damage_flips import SCRUB, run_flips
from pollux import (World, check, check_equal, log_has, mailbox, run,
                    wait_for)


def flip(path, offset, bit=3):
    """Turn over a bit of a file in place, whoever has it open."""
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)
        check(byte, "%s has %d bytes" % (path, offset))
        f.seek(offset)
        f.write(bytes([byte[0] ^ 1 << bit]))


def segments(instance):
    return sorted(glob.glob(os.path.join(instance.dir, "conf", "synclog",
                                         "seg-*.plx")))


def find_text(paths, text):
    """(path, offset) of the one place that has TEXT."""
    hits = []
    for path in paths:
        with open(path, "rb") as f:
            data = f.read()
        at = data.find(text)
        if at >= 0:
            hits.append((path, at))
    check_equal(len(hits), 1, "places with %r" % text)
    return hits[0]


def plain(number, text):
    """A message that zstd leaves alone: short, with TEXT in it."""
    return ("Message-ID: <m%d@test.example>\r\n\r\n%s\r\n"
            % (number, text)).encode()


def deliver(instance, raw, user="alice"):
    conn = instance.lmtp()
    check_equal(instance.deliver(conn, [user], raw), [250], "delivery")
    conn.quit()


def synclog(instance, verb):
    done = subprocess.run(
        [os.path.join(instance.pair.bin_dir, "synclog"), verb, "-C",
         instance.imapd_conf], capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_body_is_repaired_while_it_is_fetched(bin_dir):
    """On the master and on the replica: the client sees the right bytes, or
    NIL and NO, and never the wrong ones."""
    with World(bin_dir) as w:
        deliver(w.a, plain(1, "first-text-of-alice"))
        deliver(w.a, plain(2, "second-text-of-alice"))
        w.wait_equal()
        want = mailbox(w.a, "alice")
        for side in (w.a, w.b):
            path, at = find_text(segments(side), b"first-text-of-alice")
            flip(path, at)
            check_equal(mailbox(side, "alice"), want, "mail of " + side.name)
            check(log_has(side, "store.damaged"), "damage is not logged")
            wait_for("it to be healed", lambda: log_has(side, "store.healed"))
            status = side.status()
            check_equal(status["damaged"], 0, "damaged places")
            check_equal(status["healed"], 1, "healed places")


def test_what_no_twin_has_is_reported(bin_dir):
    """Both copies are damaged: NO [CORRUPTION] for this message, all others
    are served, status and `synclog verify` name it; what is seeded from there
    says so too."""
    with World(bin_dir) as w:
        deliver(w.a, plain(1, "first-text-of-alice"))
        deliver(w.a, plain(2, "second-text-of-alice"))
        w.wait_equal()
        want = dict(mailbox(w.a, "alice"))
        for side in (w.a, w.b):
            path, at = find_text(segments(side), b"first-text-of-alice")
            flip(path, at)
        conn = w.a.imap("alice")
        conn.select("INBOX", readonly=True)
        kind, data = conn.uid("FETCH", "1:*", "(UID BODY.PEEK[])")
        check_equal(kind, "NO", "FETCH of a damaged message")
        check(b"CORRUPTION" in data[-1], "response code: %r" % data[-1])
        got = [d[1] for d in conn.response("FETCH")[1]
               if isinstance(d, tuple)]
        check_equal(got, [want[2]], "the other message")
        check_equal(conn.noop()[0], "OK", "the session goes on")
        conn.logout()
        wait_for("it to be given up", lambda: w.a.status()["damaged_lost"] == 1)
        rc, out, err = synclog(w.a, "verify")
        check(rc == 1, "exit code %d of verify: %s%s" % (rc, out, err))
        check("damaged" in out + err, "verify says %r %r" % (out, err))


def sst_files(instance):
    return sorted(glob.glob(os.path.join(instance.dir, "conf", "state",
                                         "*.sst")))


def start_fails(instance):
    """It ends by itself; what it says."""
    instance.start(wait=False)
    check(instance.proc.wait(60) != 0, "%s started" % instance.name)
    instance.proc = None
    with open(os.path.join(instance.dir, "stderr")) as f:
        return f.read()


def test_node_file_and_state_of_a_replica_are_seeded_anew(bin_dir):
    """Where nothing else helps: the sentence says `ctl_failover rejoin`, which
    works while the instance is stopped, and the twin seeds it."""
    with World(bin_dir) as w:
        w.deliver_all(w.a, range(1, 6))
        w.wait_equal()
        want = mailbox(w.a, "alice")
        w.b.stop()
        flip(os.path.join(w.b.dir, "conf", "node"), 20)
        check("ctl_failover rejoin" in start_fails(w.b), "no advice")
        rc, out, err = w.a.ctl("rejoin")
        check(rc != 0, "the master let itself be emptied: %s" % out)
        w.b.must("rejoin")
        w.b.start()
        w.wait_equal()
        check_equal(mailbox(w.b, "alice"), want, "mail after the seed")


def test_state_is_made_anew_from_a_log_that_is_whole(bin_dir):
    """CURRENT of the database is damaged: the log begins at 1, so the next
    start needs nobody."""
    with World(bin_dir) as w:
        w.deliver_all(w.a, range(1, 6))
        w.wait_equal()
        want = mailbox(w.a, "alice")
        w.a.stop()
        flip(os.path.join(w.a.dir, "conf", "state", "CURRENT"), 3)
        w.a.start()
        check(log_has(w.a, "store.rebuilt"), "nothing says that it was rebuilt")
        check_equal(mailbox(w.a, "alice"), want, "mail after the rebuild")
        w.wait_equal()


def test_log_of_a_stopped_instance_is_repaired(bin_dir):
    """It does not start, and says what to run; that mends it."""
    with World(bin_dir) as w:
        w.deliver_all(w.a, range(1, 6))
        w.wait_equal()
        want = mailbox(w.a, "alice")
        for side in (w.b, w.a):
            side.stop()
            path, at = find_text(segments(side), b"PLXSEG")
            flip(path, at + 4096 + 64 + 2000)
            said = start_fails(side)
            check("synclog repair" in said and "rejoin" in said,
                  "it says %r" % said)
            rc, out, err = synclog(side, "repair")
            check_equal(rc, 0, "synclog repair: %s%s" % (out, err))
            check("Repaired 1 place" in out, "it says %r" % out)
            side.start()
            check_equal(mailbox(side, "alice"), want, "mail of " + side.name)
        w.wait_equal()


def test_damaged_frame_is_not_shipped(bin_dir):
    """The replica is away, a frame that it lacks is damaged: the channel is
    parked with segment and offset, the master goes on, a seed heals."""
    with World(bin_dir) as w:
        w.deliver_all(w.a, range(1, 4))
        w.wait_equal()
        applied = w.b.status()["here"]["applied"]
        w.b.stop()
        w.deliver_all(w.a, range(4, 9))
        path = segments(w.a)[-1]
        with open(path, "rb") as f:
            data = f.read()
        at = 0
        while True:  # the frame with the next record but one
            at = data.index(b"PLXF", at + 1)
            if (int.from_bytes(data[at + 24:at + 32], "little") == applied + 2
                    and data[at + 12] != 0):
                break
        flip(path, at + 57)  # its commit time: the message itself is whole
        w.b.start()
        wait_for("the channel to be parked", lambda: [
            c for c in w.a.status()["channels"] if c["state"] == "parked" and
            "segment" in c["text"] and "offset" in c["text"]], 60)
        check(w.b.status()["here"]["applied"] <= applied + 1,
              "the replica took a damaged frame")
        w.deliver_all(w.a, range(9, 12))
        want = mailbox(w.a, "alice")
        check_equal(len(want), 11, "messages on the master")
        w.b.must("rejoin")
        w.wait_equal(timeout=90)
        check_equal(mailbox(w.b, "alice"), want, "mail after the seed")


def test_log_that_no_twin_has_is_let_go_of(bin_dir):
    """The replica was seeded, so what is damaged in the master's log nobody has:
    its segment goes, although it is the one being written, and the log is sound
    at the next start."""
    with World(bin_dir, {"sync_segment_bytes": "8M", **SCRUB}) as w:
        w.deliver_all(w.a, range(1, 9))
        w.wait_equal()
        w.b.must("rejoin")
        wait_for("b to be seeded", lambda: w.wait_equal(timeout=5), 60)
        want = mailbox(w.a, "alice")
        path = segments(w.a)[-1]
        with open(path, "rb") as f:
            data = f.read(1 << 16)
        at = 0
        while data[at + 12] == 0:  # the first frame with a record
            at = data.index(b"PLXF", at + 1)
        flip(path, at + 57)  # its commit time: no body is hurt
        wait_for("nobody to have it",
                 lambda: log_has(w.a, "store.damage_lost"), 60)
        wait_for("it to be let go of", lambda: not os.path.exists(path) and
                 w.a.status()["damaged"] == 0, 60)
        w.deliver_all(w.a, range(9, 12))
        w.wait_equal()
        w.a.kill()
        w.a.start()
        w.wait_equal()
        check_equal(mailbox(w.a, "alice")[:len(want)], want, "mail of a")
        check_equal(mailbox(w.b, "alice"), mailbox(w.a, "alice"), "mail of b")


def test_scrubber_finds_what_nobody_reads(bin_dir):
    """In the log of both, and in a pack; it is repaired before anyone asks."""
    with World(bin_dir, {"scrub_rate": "100M", "scrub_interval": "3s"}) as w:
        deliver(w.a, plain(1, "first-text-of-alice"))
        deliver(w.a, plain(2, "second-text-of-alice"))
        w.wait_equal()
        want = mailbox(w.a, "alice")
        wait_for("a first round", lambda: w.b.status()["scrub_ended_us"])
        path, at = find_text(segments(w.b), b"first-text-of-alice")
        flip(path, at)
        wait_for("the scrubber to find it",
                 lambda: log_has(w.b, "store.healed"), 120)
        wait_for("all to be mended", lambda: w.b.status()["damaged"] == 0, 60)
        check_equal(mailbox(w.b, "alice"), want, "mail")
        w.b.stop()
        w.b.start()  # and the log is sound again
        w.wait_equal()


def test_flipped_bits(bin_dir):
    """A handful of what damage_flips.py does by the hundred."""
    with World(bin_dir, {"sync_segment_bytes": "8M", **SCRUB}) as w:
        run_flips(w, 2, 7)


def test_damage_of_the_cache_stops_nothing(bin_dir):
    """A bit in every file of it, of an instance that runs and then one that
    does not: the same answers, from a cache that is made anew."""
    def cache_files(instance):
        return [p for p in glob.glob(os.path.join(
            instance.dir, "conf", "cache", "*"))
            if re.search(r"\.sst$|MANIFEST-|CURRENT$", p)]

    def envelopes(instance):
        conn = instance.imap("alice")
        conn.select("INBOX", readonly=True)
        kind, data = conn.uid("FETCH", "1:*", "(UID ENVELOPE BODYSTRUCTURE)")
        check_equal(kind, "OK", "FETCH")
        conn.logout()
        return data

    with World(bin_dir) as w:
        w.deliver_all(w.a, range(1, 30))
        w.wait_equal()
        want = envelopes(w.a)
        w.a.stop()  # what was in memory is in its files
        w.a.start()
        check(any(p.endswith(".sst") for p in cache_files(w.a)),
              "the cache has no tables")
        for running in (True, False):
            if not running:
                w.a.stop()
            for path in cache_files(w.a):
                flip(path, os.path.getsize(path) // 3)
            if not running:
                w.a.start()
            check_equal(envelopes(w.a), want, "what is served")
            w.deliver_all(w.a, range(30, 33) if running else range(33, 36))
            want = envelopes(w.a)
            check(w.a.proc.poll() is None, "it has ended")
            w.a.stop()
            w.a.start()
            check_equal(envelopes(w.a), want, "what is served after a restart")
        check(log_has(w.a, "store.cache_lost"), "nothing says that it was lost")
        w.wait_equal()


if __name__ == "__main__":
    run([test_body_is_repaired_while_it_is_fetched,
         test_what_no_twin_has_is_reported,
         test_log_of_a_stopped_instance_is_repaired,
         test_node_file_and_state_of_a_replica_are_seeded_anew,
         test_state_is_made_anew_from_a_log_that_is_whole,
         test_damaged_frame_is_not_shipped,
         test_log_that_no_twin_has_is_let_go_of,
         test_scrubber_finds_what_nobody_reads,
         test_damage_of_the_cache_stops_nothing,
         test_flipped_bits])
