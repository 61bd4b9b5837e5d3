#!/usr/bin/env python3
"""The search index in whole instances: it follows deliveries, survives kill -9,
is each twin's own, and squatter brings it level, with an instance or without."""

import errno
import os
import shutil
import subprocess

from pollux import World, check, check_equal, message, run, wait_for
from test_tools import (CONFIG, DATA, IO, OK, alone, good,  # noqa: F401
                        refused, tool)

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


class HeldIndex:
    """The index of instance A, which is down: it cannot be opened before the
    end of the `with`, as if that took long."""

    def __init__(self, a):
        self.path = os.path.join(a.dir, "conf", "search", "CURRENT")

    def __enter__(self):
        os.rename(self.path, self.path + ".held")
        os.mkfifo(self.path)
        self.fifo = None
        return self

    def is_asked_for(self):
        """Somebody has opened it, and waits for what is in it."""
        try:
            self.fifo = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as e:
            check_equal(e.errno, errno.ENXIO, "errno")
        return self.fifo is not None

    def __exit__(self, *_):
        with open(self.path + ".held", "rb") as f:
            current = f.read()
        os.rename(self.path + ".held", self.path)
        if self.fifo is not None:
            os.write(self.fifo, current)
            os.close(self.fifo)


def test_squatter_while_the_instance_comes_up(bin_dir):
    """The control socket answers before the index is open."""
    with alone(bin_dir, **INDEX) as w:
        a = w.a
        a.start()
        w.deliver_all(a, range(23))
        good(a, "squatter")
        a.stop()
        with HeldIndex(a) as held:
            a.start(wait=False)
            wait_for("the index to be opened", held.is_asked_for)
            early = subprocess.Popen(a.program("squatter"),
                                     stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True)
            # Others are answered; it waits.
            for _ in range(5):
                good(a, "quota")
            check_equal(early.poll(), None, "squatter has ended early")
        out, _ = early.communicate(timeout=60)
        check_equal((early.returncode, out.split()[:2]),
                    (OK, ["indexed", "0"]), out)
        a.wait_up()
        a.stop()
        # One that cannot be opened: why, and what to do.
        shutil.rmtree(os.path.join(a.dir, "conf", "search"))
        with open(os.path.join(a.dir, "conf", "search"), "w") as f:
            f.write("not a directory\n")
        a.start()
        code, _, err = tool(a, "squatter")
        check_equal(code, IO, err)
        check("could not open its index (" in err and
              "restart the instance" in err, err)
        check_equal(found(a, ("SUBJECT", '"message 7"')), [b"8"], "by reading")


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
         test_squatter_while_the_instance_comes_up,
         test_each_twin_has_its_own])
