"""docs/migrating-from-cyrus.md as it is written: its lines of imapd.conf and
cyrus.conf, and its commands, are taken from the page, and only names of hosts
and files are other ones.  From a Cyrus 3.6 to Pollux, the swap, and back.
test_migrating.py BIN_DIR.  Skipped where Debian's Cyrus cannot be had or run.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "peers")]
import imapstate  # noqa: E402
import load  # noqa: E402
import sides  # noqa: E402
from pair import SYNC_PASSWORD, SYNC_USER, wait_for  # noqa: E402

PAGE = os.path.join(HERE, "..", "..", "docs", "migrating-from-cyrus.md")
PACKAGES = "/var/tmp/pollux-sync-peers"
USERS = ["u00", "u01"]
CYRUS_CONF = "/etc/imapd.conf"
ENDS = "/var/lib/cyrus/sync-ends"


def blocks():
    """The indented blocks of the page, each a list of lines."""
    found, last = [], False
    with open(PAGE) as f:
        for line in f:
            is_block = line.startswith("    ") and line.strip() != ""
            if is_block and not last:
                found.append([])
            if is_block:
                found[-1].append(line.strip())
            last = is_block
    return found


class Page:
    """Blocks by what they begin with, each taken in turn."""

    def __init__(self):
        self.left = blocks()

    def take(self, begins):
        if not self.left or not self.left[0][0].startswith(begins):
            raise AssertionError("the page goes on with %r, not \"%s\"" % (
                self.left[:1], begins))
        return self.left.pop(0)


class Cyrus(sides.Cyrus):
    """With the page's lines in imapd.conf, START and SERVICES."""

    lines, start_lines, service_lines = (), (), ()

    def real(self, line):
        """LINE of the page with what is where here."""
        for there, here in (
                (CYRUS_CONF, self.path("imapd.conf")),
                (ENDS, self.path("sync-ends")),
                ("pollux.example.org", str(self.peer[0])),
                ("sync_port: 2005", "sync_port: %s" % self.peer[1]),
                ("sync_password: secret", "sync_password: " + SYNC_PASSWORD),
                ('cmd="sync_', 'cmd="%ssync_' % sides.LIB),
                ('listen="csync"', 'listen="%s:%d"' % (self.host,
                                                       self.csync_port))):
            line = line.replace(there, here)
        return line

    def prepare(self):
        if not os.path.exists(self.path("imapd.conf")):
            self.argv = super().prepare()
            self.shipped = self.read("imapd.conf")
        ours = [self.real(line) for line in self.lines]
        keys = {line.split(":")[0] for line in ours}
        keys |= {k for k in ("sync_log", "sync_host", "sync_port",
                             "sync_authname", "sync_password", "sync_try_imap")}
        kept = [line for line in self.shipped.splitlines()
                if line.split(":")[0] not in keys]
        self.write("imapd.conf", "\n".join(kept + ours) + "\n")
        text = self.read("cyrus.conf")
        if self.service_lines:  # till then it serves to put scripts there
            text = re.sub(r"  csync cmd=.*\n", "", text)
        text = re.sub(r"  syncclient cmd=.*\n", "", text)
        for section, lines in (("START {\n", self.start_lines),
                               ("SERVICES {\n", self.service_lines)):
            text = text.replace(section, section + "".join(
                "  %s\n" % self.real(line) for line in lines))
        self.write("cyrus.conf", text)
        return self.argv

    def read(self, name):
        with open(self.path(name)) as f:
            return f.read()

    def start_again(self):
        prepare = self.prepare
        shutil.rmtree(self.path("run"), ignore_errors=True)
        for d in ("run", "run/proc", "run/lock", "run/socket"):
            os.mkdir(self.path(d))
        prepare()
        super().start_again()

    def clients(self):
        """How many sync_client run there."""
        root = os.readlink("/proc/%d/ns/pid" % self.inside())
        n = 0
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/comm" % pid) as f:
                    is_one = f.read().strip() == "sync_client"
                n += is_one and os.readlink("/proc/%s/ns/pid" % pid) == root
            except OSError:
                continue
        return n

    def shell(self, line):
        """A command line of the page, sync_client being Cyrus's."""
        inside = " ".join(self.command(sides.LIB + "sync_client"))
        return subprocess.run(
            ["sh", "-c", "sync_client() { %s \"$@\"; }; %s" % (
                inside, self.real(line))],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=120)


def must(done, what):
    assert done.returncode == 0, "%s: exit %d\n%s%s" % (
        what, done.returncode, done.stdout[-1500:], done.stderr[-1500:])
    return done.stdout


def differences(one, other):
    for user in USERS:
        diff = imapstate.differences(
            imapstate.user_state(one, user, sides.PASSWORD),
            imapstate.user_state(other, user, sides.PASSWORD))
        if diff:
            return diff[:10]
    return []


def act(side, people, n=15):
    for person in people:
        person.side = side
        person.connect()
        for _ in range(n):
            person.act()
        person.c.logout()


def level(one, other, what):
    wait_for("%s: %s" % (what, differences(one, other)),
             lambda: not differences(one, other), timeout=90)


def go(cyrus, pollux, page):
    own = page.take("sync_admins:")
    cyrus.lines = page.take("admins:") + page.take("sync_log:")
    pollux.pair.options = dict(line.split(": ", 1) for line in own)
    pollux.pair.options["admins"] = "admin"
    pollux.start()
    assert SYNC_USER in own[0]
    cyrus.start()
    people = load.fill(cyrus, USERS, load.corpus_of(""), 10, 40, 1)
    for line in page.take("sync_client -C"):
        must(cyrus.shell(line), line)
    assert not differences(cyrus, pollux)

    start_line = page.take("syncclient")
    proof, = page.take("sync_client -C")
    cyrus.stop()
    cyrus.start_lines = start_line
    cyrus.start()
    wait_for("one sync_client to run", lambda: cyrus.clients() == 1)
    act(cyrus, people)
    level(cyrus, pollux, "rolling to Pollux")
    assert cyrus.shell(proof).stdout.strip() == "0"
    print("ok     Cyrus to Pollux")

    touch, proof = page.take("touch")
    must(cyrus.shell(touch), touch)
    wait_for("Cyrus's sync_client to end", lambda: cyrus.clients() == 0)
    wait_for("the proof", lambda: cyrus.shell(proof).stdout.strip() == "0")
    assert not differences(cyrus, pollux)
    back = [line.replace("cyrus.example.org", cyrus.host)
            .replace("port: 2005", "port: %d" % cyrus.csync_port)
            .replace("password: secret", "password: " + SYNC_PASSWORD)
            for line in page.take("sync_log_channels")]
    with open(pollux.me.imapd_conf, "a") as f:
        f.write("\n".join(back) + "\n")
    cyrus.stop()
    cyrus.start_lines, cyrus.service_lines = (), page.take("csync")
    cyrus.start()
    act(pollux, people)
    once, = page.take("sync_client -n back -A")
    done = pollux.sync(*once.split()[1:])
    assert done.code == 0, done.out + done.err
    assert not differences(pollux, cyrus)
    daemon, = page.take("back cmd=")
    line = re.search(r'"sync_client (.*)"', daemon).group(1).replace("-r", "-R")
    pollux.start_rolling(*line.split())
    act(pollux, people)
    level(pollux, cyrus, "rolling to Cyrus")
    print("ok     the swap, and Pollux to Cyrus")

    fence, again = page.take("ctl_failover fence")
    act(pollux, people)
    pollux.me.must(*fence.split()[1:])
    assert pollux.rolling.wait(60) == 0, "it does not end by the fence"
    pollux.rolling = None
    done = pollux.sync(*again.split()[1:])
    assert done.code == 0 and "changes=0" in done.out, done.out + done.err
    assert not differences(pollux, cyrus)
    cyrus.stop()
    cyrus.start_lines = start_line
    cyrus.start()
    unfence, = page.take("ctl_failover unfence")
    pollux.me.must(*unfence.split()[1:])
    act(cyrus, people)
    level(cyrus, pollux, "back")
    print("ok     back")
    page.take("users=")
    assert not page.left, page.left


def main():
    why = sides.why_not(PACKAGES)
    if why is not None:
        print("skipped: " + why)
        return 77
    base = tempfile.mkdtemp(prefix="pollux-migrating-")
    os.chmod(base, 0o755)
    cyrus = Cyrus(PACKAGES, base, USERS)
    pollux = sides.Pollux(sys.argv[1], base, USERS)
    cyrus.peer = (pollux.host, pollux.csync_port)
    try:
        go(cyrus, pollux, Page())
    finally:
        pollux.stop_rolling()
        cyrus.stop()
        pollux.kill()
        shutil.rmtree(base, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
