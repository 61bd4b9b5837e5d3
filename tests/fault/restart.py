"""restart.py BIN_DIR [CASE ...]: how long an instance takes to its first answers
after it was started: LMTP's 220, IMAP's greeting, and a SELECT.

The stores are made by bench/shape, which has to be built beside BIN_DIR:

mailboxes   500,000 mailboxes of 44,000 users, a message in each tenth; stopped
            in order, files not in the page cache.  Aim: under 2 s.
killed4k, killed64k   as much unflushed log as the product itself lets come
            together: ended as by kill -9 in the middle of messages of 4 and
            64 KiB.  Aim: under 5 s.
log4k, log64k   some 512 MiB of log and no state at all, so that every record has
            to be applied again: more than comes together.  Aim: under 5 s.

Ends with 1 if an aim was missed.
"""

import imaplib
import json
import os
import re
import shutil
import smtplib
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                os.pardir, "e2e"))
from pollux import World, check, wait_for  # noqa: E402

USER = "u0000"


def shape(world, *args):
    """Make the store of instance a; what shape said of it."""
    program = os.path.join(world.bin_dir, os.pardir, "bench", "shape")
    conf = os.path.join(world.a.dir, "conf")
    out = subprocess.run(
        [program, "-d", conf, "-s", os.path.join(world.a.dir, "spool"),
         *map(str, args)], check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def forget_pages(top):
    """Out of the page cache with all files below TOP."""
    for path, _, names in os.walk(top):
        for name in names:
            fd = os.open(os.path.join(path, name), os.O_RDONLY)
            try:
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)


def first_answers(world):
    """Start a: seconds to 220, to IMAP's greeting, to a SELECT's OK."""
    began = time.monotonic()
    world.a.start(wait=False)
    got = {}

    def lmtp():
        smtplib.LMTP(world.a.host, world.a.lmtp_port,
                     local_hostname="client.localhost").close()
        return True

    def imap():
        conn = imaplib.IMAP4(world.a.host, world.a.imap_port, 60)
        got["imap"] = time.monotonic() - began
        conn.login(USER, world.users[USER])
        kind, _ = conn.select("INBOX")
        check(kind == "OK", "SELECT")
        got["select"] = time.monotonic() - began
        conn.logout()
        return True

    wait_for("LMTP", lmtp, 300)
    got["lmtp"] = time.monotonic() - began
    wait_for("IMAP", imap, 300)
    return got


def replayed(world):
    with open(world.a.log) as f:
        found = re.findall(r"replayed=(\d+)", f.read())
    return int(found[-1]) if found else 0


def case(bin_dir, name, args, aim_s, drop_state=False, cold=False):
    """One store, one start.  False: the aim was missed."""
    with World(bin_dir, start=False) as world:
        world.add_user(USER, "secret-0")
        world.a.configure(rolling=False, options={"sync_host": ""})
        with open(world.a.imapd_conf) as f:
            lines = [line for line in f if not line.endswith(": \n")]
        with open(world.a.imapd_conf, "w") as f:
            f.writelines(lines)
        made = shape(world, *args)
        if drop_state:
            shutil.rmtree(os.path.join(world.a.dir, "conf", "state"))
        if cold:
            forget_pages(world.a.dir)
        got = first_answers(world)
        late = max(got.values())
        print("%-10s %d mailboxes, %d messages, %d MiB of log, %d records "
              "replayed: 220 after %.2f s, IMAP %.2f s, SELECT %.2f s%s" % (
                  name, made["mailboxes"], made["messages"],
                  made["log_bytes"] >> 20, replayed(world), got["lmtp"],
                  got["imap"], got["select"],
                  "" if late < aim_s else "  MISSED %g s" % aim_s),
              flush=True)
        return late < aim_s


# Messages of 4 KiB take some 1.7 KiB of the log, those of 64 KiB 23 KiB.
CASES = {
    "mailboxes": dict(args=("-U", 44000, "-M", 500000, "-N", 50000), aim_s=2,
                      cold=True),
    "killed4k": dict(args=("-U", 100, "-M", 1000, "-N", 150000, "-b", 4096,
                           "-k"), aim_s=5),
    "killed64k": dict(args=("-U", 100, "-M", 1000, "-N", 20000, "-b", 65536,
                            "-k"), aim_s=5),
    "log4k": dict(args=("-U", 100, "-M", 1000, "-N", 320000, "-b", 4096),
                  aim_s=5, drop_state=True),
    "log64k": dict(args=("-U", 100, "-M", 1000, "-N", 23000, "-b", 65536),
                   aim_s=5, drop_state=True),
}


def main(bin_dir, names):
    missed = [name for name in names or CASES
              if not case(bin_dir, name, **CASES[name])]
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
