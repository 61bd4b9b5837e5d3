"""Scenarios with 20,000 messages that are interrupted: `run --large`.

Half of the mail is there and half is here when it begins.  The client is killed
(-9) at random moments, then runs to the end.  Every message has to be on both
sides once, the twin has to show the same, and a further run changes nothing.
"""

import os
import random
import signal
import subprocess
import time

import mail
import maildir
import more
from scenarios import BOTH, settle
from world import Wrong, check, folders, must, need, quote, same

MESSAGES = 20000
KILLS = 8
FOLDERS = ("INBOX", "Work", "Lists/one", "Lists/two")


def text_of(n):
    """Message N: a Subject that nobody else has, 400 to 4,400 bytes."""
    return mail.plain(n, "large %d" % n, "x" * 60 + "\n" + ("%d " % n + "y" * 70
                                                           + "\n") *
                      (5 + n * 7919 % 50))


def fill_there(w, user):
    """The even numbers, and the folders for all."""
    c = w.imap(user)
    for name in FOLDERS[1:]:
        must(c.create(quote(name)))
    for n in range(0, MESSAGES, 2):
        must(c.append(quote(FOLDERS[n // 2 % 4]), "(\\Seen)" if n % 3 else None,
                      None, text_of(n)))
    c.logout()


def fill_here(box):
    """The odd ones."""
    for n in range(1, MESSAGES, 2):
        maildir.add(box, FOLDERS[n // 2 % 4], text_of(n), n,
                    "S" if n % 3 else "")


def numbers_there(c):
    """{folder: [number of each message]} by the Subjects."""
    found = {}
    for name in folders(c):
        if c.select(quote(name), readonly=True)[0] != "OK":
            continue  # the mere parent of others
        data = must(c.uid("FETCH", "1:*", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]"))
        found[name] = sorted(int(item[1].split(b"large ")[1].split()[0])
                             for item in data if isinstance(item, tuple))
    return found


def numbers_here(box):
    """The same of a Maildir."""
    found = {}
    for path, dirs, _ in os.walk(box):
        if {"cur", "new", "tmp"} <= set(dirs):
            found[os.path.relpath(path, box)] = sorted(
                number(f) for sub in ("cur", "new")
                for f in scan(os.path.join(path, sub)))
    return found


def scan(path):
    return [os.path.join(path, n) for n in os.listdir(path)]


def number(path):
    with open(path, "rb") as f:
        return int(f.read().split(b"Subject: large ", 1)[1].split()[0])


def interrupted(w, command, seed, moments):
    """COMMAND, killed after a random time of MOMENTS, KILLS times; how often it
    ended before."""
    rng = random.Random(seed)
    whole = 0
    for _ in range(KILLS):
        child = w.spawn(*command)
        try:
            child.wait(rng.uniform(*moments))
            whole += 1
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return whole


def with_mail(found):
    return {name: ns for name, ns in found.items() if ns}


def compare(w, user, box):
    want = {name: sorted(n for n in range(MESSAGES)
                         if FOLDERS[n // 2 % 4] == name) for name in FOLDERS}
    here = with_mail(numbers_here(box))
    same("mail here", counts(here), counts(want))
    check(here == want, "other mail here")
    w.equal()
    for at in (w.master, w.replica):
        c = w.imap(user, at)
        there = with_mail(numbers_there(c))
        c.logout()
        same("mail on " + at.name, counts(there), counts(want))
        check(there == want, "other mail on %s", at.name)


def counts(found):
    return {name: len(ns) for name, ns in found.items()}


def mbsync_large(w):
    """mbsync: 20,000 messages both ways, killed again and again, converge"""
    need("mbsync")
    user = "large"
    rc = maildir.config(w, user, w.master, user, BOTH)
    box = os.path.join(w.base, user)
    fill_there(w, user)
    fill_here(box)
    whole = interrupted(w, ["mbsync", "-c", rc, "all"], 1, (0.2, 4.0))
    check(whole < KILLS, "it was never interrupted")
    settle(w, rc, box, timeout=900)
    compare(w, user, box)
    before = w.durable()
    settle(w, rc, box, timeout=900)
    same("log position after one more run", w.durable(), before)


def offlineimap_large(w):
    """offlineimap: 20,000 messages both ways converge; killed while it reads"""
    need("offlineimap")
    user = "largeoff"
    box = w.dir("large-offline")
    fill_there(w, user)
    rc = more.offlineimap_rc(w, w.master, user, box)
    command = ["offlineimap", "-c", rc, "-u", "basic", "-o"]
    interrupted(w, command, 2, (1.0, 6.0))
    # What is new here is put there by a run that ends: offlineimap itself does
    # not know any more what it has put there when it is killed.
    fill_here(box)
    began = time.monotonic()
    for _ in range(4):
        before = w.durable(), files(box)
        out, err = w.run(*command, timeout=1800)
        check(b"ERROR" not in out + err, "offlineimap: %s",
              (out + err)[-800:])
        if (w.durable(), files(box)) == before:
            break
    else:
        raise Wrong("offlineimap still finds something to do after %d s" %
                    (time.monotonic() - began))
    compare(w, user, box)


def files(box):
    return sorted(os.path.join(path, n) for path, _, names in os.walk(box)
                  for n in names)


ALL = [(f.__name__.replace("_", "-"), f) for f in (
    mbsync_large, offlineimap_large)]
