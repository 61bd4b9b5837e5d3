#!/usr/bin/env python3
"""The search index in whole instances: it follows deliveries, survives kill -9,
is each twin's own, and squatter brings it level, with an instance or without."""

import os
import shutil

from pollux import World, check, check_equal, message, run, wait_for
from test_tools import CONFIG, DATA, OK, alone, good, refused, tool  # noqa: F401

INDEX = {"search_engine": "xapian", "search_batchsize": "5"}


def found(instance, what, user="alice"):
    c = instance.imap(user)
    c.select("INBOX", readonly=True)
    kind, data = c.search(None, *what)
    c.logout()
    check_equal(kind, "OK", "SEARCH")
    return data[0].split()


def indexed(instance, *args):
    """Messages that squatter still had to index."""
    out = good(instance, "squatter", *args)
    check(out.startswith("indexed "), out)
    return int(out.split()[1])


def test_follows_and_squatter(bin_dir):
    with alone(bin_dir, **INDEX) as w:
        a = w.a
        a.start()
        w.deliver_all(a, range(20))
        check_equal(found(a, ("TEXT", '"message 7"')), [b"8"], "by text")
        # The last few are not indexed by themselves, nor is their answer.
        w.deliver_all(a, range(20, 23))
        check_equal(len(found(a, ("TEXT", "message"))), 23, "in all of them")
        wait_for("the index", lambda: indexed(a, "user/alice") == 0)
        check_equal(indexed(a, "-X", "user/alice"), 23, "-X")
        check_equal(indexed(a, "-F", "-u", "alice"), 0, "-u")
        out = good(a, "squatter", "-v", "user/alice")
        check("user/alice: 0 messages" in out, out)
        refused(a, DATA, "user/nobody", "squatter", "user/nobody")
        a.kill()
        a.start()
        check_equal(found(a, ("TEXT", '"message 7"')), [b"8"], "after kill -9")
        a.stop()
        # Without an instance, and the instance goes on with it.
        shutil.rmtree(os.path.join(a.dir, "conf", "search"))
        check_equal(indexed(a), 23, "without an instance")
        a.start()
        check_equal(indexed(a), 0, "and then with one")
        check_equal(found(a, ("SUBJECT", '"message 7"')), [b"8"], "by subject")


def test_no_index_no_squatter(bin_dir):
    with alone(bin_dir) as w:
        w.a.start()
        w.deliver_all(w.a, range(3))
        code, _, err = tool(w.a, "squatter")
        check(code != OK and "search_engine is none" in err, err)
        check_equal(found(w.a, ("TEXT", '"message 1"')), [b"2"], "by reading")


def test_each_twin_has_its_own(bin_dir):
    with World(bin_dir, INDEX) as w:
        w.deliver_all(w.a, range(12))
        w.wait_equal()
        for i in (w.a, w.b):
            check_equal(found(i, ("TEXT", '"message 7"')), [b"8"], i.name)
            check_equal(indexed(i, "-X", "user/alice"), 12, i.name)
        # The index of one that was deposed serves the replica that it becomes.
        w.a.must("swap")
        w.wait_equal()
        w.deliver_all(w.b, range(12, 20))
        w.wait_equal()
        for i in (w.a, w.b):
            check_equal(len(found(i, ("TEXT", "message"))), 20, i.name)


if __name__ == "__main__":
    run([test_follows_and_squatter, test_no_index_no_squatter,
         test_each_twin_has_its_own])
