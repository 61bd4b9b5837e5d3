"""mbsync, and Maildirs as it leaves them."""

import hashlib
import os
import re
import socket
import time

from world import check


def config(world, name, at, user, sync):
    """Channel of USER at the instance AT into the directory NAME."""
    box = world.dir(name)
    return world.file(name + ".mbsyncrc", """
IMAPAccount far
Host %s
Port %d
User %s
Pass %s
SSLType STARTTLS
CertificateFile %s

IMAPStore far
Account far

MaildirStore near
Path %s/
Inbox %s/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
CopyArrivalDate yes
SyncState *
%s
""" % (at.host, at.imap_port, user, world.password(user), world.pair.cert, box,
       box, sync))


def sync(world, rc, timeout=300):
    out, err = world.run("mbsync", "-V", "-c", rc, "all", timeout=timeout)
    check(b"rror" not in err, "mbsync: %s", err[-500:])
    return out


TUID = re.compile(rb"^X-TUID: .*\n", re.M)


def tree(box):
    """{folder: (UIDVALIDITY over there, {UID there: (SHA-1 of the text, flags,
    date)})}, and folders without mbsync's state as (None, {})."""
    found = {}
    for path, dirs, files in os.walk(box):
        if not {"cur", "new", "tmp"} <= set(dirs):
            continue
        near = {}
        for sub in ("cur", "new"):
            for name in os.listdir(os.path.join(path, sub)):
                file = os.path.join(path, sub, name)
                uid = re.search(r",U=(\d+)", name)
                info = name.split(":2,")
                with open(file, "rb") as f:
                    text = TUID.sub(b"", f.read().replace(b"\r\n", b"\n"))
                near[int(uid.group(1)) if uid else name] = (
                    hashlib.sha1(text).hexdigest(),
                    info[1] if len(info) > 1 else "",
                    int(os.stat(file).st_mtime))
        found[os.path.relpath(path, box)] = by_far(path, near)
    return found


def by_far(path, near):
    try:
        with open(os.path.join(path, ".mbsyncstate")) as f:
            head, pairs = f.read().split("\n\n", 1)
    except FileNotFoundError:
        return None, near
    validity = int(re.search(r"^FarUidValidity (\d+)", head, re.M).group(1))
    far = {}
    for line in pairs.splitlines():
        words = line.split()
        if int(words[1]) in near:
            far[int(words[0])] = near.pop(int(words[1]))
    check(not near, "%s: messages without a pair: %r", path, list(near)[:5])
    return validity, far


def loads(box):
    """The numbers N of all messages with Subject "load N"."""
    found = []
    for path, dirs, names in os.walk(box):
        if os.path.basename(path) not in ("cur", "new"):
            continue
        for name in names:
            with open(os.path.join(path, name), "rb") as f:
                n = re.search(rb"^Subject: load (\d+)$", f.read(), re.M)
            if n:
                found.append(int(n.group(1)))
    return found


def listing(box):
    """Every file with size and time: what a run that does nothing leaves as it
    was.  mbsync writes its state anew each time; there the bytes count."""
    found = {}
    for path, dirs, files in os.walk(box):
        for name in files:
            file = os.path.join(path, name)
            s = os.stat(file)
            if name.startswith(".mbsyncstate"):
                with open(file, "rb") as f:
                    found[file] = f.read()
            elif name not in (".uidvalidity", ".isyncuidmap.db"):
                found[file] = (s.st_size, s.st_mtime_ns, s.st_ino)
    return found


def add(box, folder, message, n, flags=None):
    """A new message of the local user."""
    name = "%d.%d_%d.%s" % (time.time(), os.getpid(), n, socket.gethostname())
    sub = "new" if flags is None else "cur"
    path = os.path.join(box, folder)
    for d in ("cur", "new", "tmp"):
        os.makedirs(os.path.join(path, d), exist_ok=True)
    tmp = os.path.join(path, "tmp", name)
    with open(tmp, "wb") as f:
        f.write(message.replace(b"\r\n", b"\n"))
    os.rename(tmp, os.path.join(path, sub, name +
                                ("" if flags is None else ":2," + flags)))


def files(box, folder):
    path = os.path.join(box, folder)
    return sorted(os.path.join(path, sub, n) for sub in ("cur", "new")
                  for n in os.listdir(os.path.join(path, sub)))


def reflag(file, flags):
    """Give the message other flags, as a local mail reader does."""
    folder = os.path.dirname(os.path.dirname(file))
    base = os.path.basename(file).split(":2,")[0]
    new = os.path.join(folder, "cur", base + ":2," + "".join(sorted(flags)))
    os.rename(file, new)
    return new
