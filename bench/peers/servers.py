"""Pollux, Cyrus IMAP and Dovecot as the same thing: a server on loopback that is
started, measured and thrown away.

Cyrus and Dovecot are Debian's packages, unpacked by bench/peers/unpack.  Each
runs in a mount and a PID namespace of its own: the unpacked tree lies over /usr
there, so the programs find everything where they were built to look for it, what
Debian keeps in /run is a tmpfs, and when the namespace's first process ends
nothing of it is left.  That needs root.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "lib"))
from pair import Pair, PairError, free_port, tail, wait_for  # noqa: E402

PASSWORD = "secret"
RUN_AS = "mail"  # a user that every Debian has
TICKS = os.sysconf("SC_CLK_TCK")


def user_names(count):
    return ["u%04d" % n for n in range(count)]


def process_table():
    """{pid: (parent, CPU seconds of itself and of children it waited for)}"""
    table = {}
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % pid) as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        table[int(pid)] = (int(fields[1]),
                           sum(int(n) for n in fields[11:15]) / TICKS)
    return table


def cpu_of_threads(pid):
    """CPU seconds of the threads of PID that live, to the nanosecond."""
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        try:
            with open("/proc/%d/task/%s/schedstat" % (pid, task)) as f:
                total += int(f.read().split()[0])
        except OSError:
            continue
    return total / 1e9


def cpu_of_tree(root):
    """CPU seconds of process ROOT and all below it, the ended ones too."""
    table = process_table()
    below, todo, total = set(), [root], 0.0
    children = {}
    for pid, (parent, _) in table.items():
        children.setdefault(parent, []).append(pid)
    while todo:
        pid = todo.pop()
        if pid in below or pid not in table:
            continue
        below.add(pid)
        total += table[pid][1]
        todo += children.get(pid, [])
    return total


class Pollux:
    """One instance, without a twin."""

    name = "Pollux"

    def __init__(self, build, base, users, options=None):
        self.pair = Pair(os.path.join(build, "bin"),
                         os.path.join(base, "pollux"),
                         {u: PASSWORD for u in users}, options)
        self.host = self.pair.a.host
        self.imap_port = self.pair.a.imap_port
        self.lmtp_port = self.pair.a.lmtp_port
        self.version = "this tree"
        self.settings = "%s; one fdatasync for each commit group" % (
            "defaults" if not options else
            ", ".join("%s: %s" % kv for kv in options.items()))

    def start(self):
        self.pair.set_up(rolling=False)
        self.pair.a.start()
        self.pair.a.must("promote")

    def index(self):
        """Brings the search index level; it does so by itself, later."""
        subprocess.run(self.pair.a.program("squatter"), check=True,
                       stdin=subprocess.DEVNULL, capture_output=True)

    def cpu_s(self):
        return cpu_of_threads(self.pair.a.proc.pid)

    def stop(self):
        self.pair.kill()

    def complaint(self):
        """What it said that is more than its daily business, and the end."""
        with open(self.pair.a.log, errors="replace") as f:
            wrong = [line for line in f
                     if re.search(r"\] (notice|warn|error) ", line)]
        return "".join(wrong[-10:]) + "...\n" + tail(self.pair.a.log)


class Peer:
    """A server in its own namespaces; subclasses say which."""

    name = package = host = None

    def __init__(self, packages, base, users):
        self.tree = os.path.join(packages, self.name.lower())
        self.dir = os.path.join(base, self.name.lower())
        self.users = users
        self.proc = None
        port = Pair.some_port()
        self.imap_port = free_port([self.host], port)
        self.lmtp_port = free_port([self.host], self.imap_port + 1)
        self.version = "?"
        with open(self.tree + ".packages") as f:
            for line in f:
                if line.split()[0] == self.package:
                    self.version = line.split()[1]

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)

    def prepare(self):
        """Writes the configuration; returns the command that stays."""
        raise NotImplementedError

    def start(self):
        os.makedirs(self.dir)
        command = self.prepare()
        subprocess.run(["chown", "-R", "%s:%s" % (RUN_AS, RUN_AS), self.dir],
                       check=True)
        # The first process of a PID namespace has to be one that waits for
        # orphans: bash does.
        script = (
            'mount -t overlay -o "lowerdir=$1/usr:/usr" overlay /usr &&'
            ' mount -t tmpfs -o mode=755 tmpfs "$2/run" &&'
            ' %s && shift 2 && "$@"; exit $?' %
            self.in_run('"$2/run"'))
        with open(self.path("output"), "ab") as out:
            self.proc = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child",
                 "--mount-proc", "bash", "-c", script, self.name, self.tree,
                 self.dir, *command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True)
        wait_for("%s to serve" % self.name, self.is_up, timeout=60)

    def in_run(self, run):
        """Shell that fills the tmpfs RUN."""
        return "chown %s:%s %s" % (RUN_AS, RUN_AS, run)

    def is_up(self):
        if self.proc.poll() is not None:
            raise SystemExit("%s ended with %d\n%s" % (
                self.name, self.proc.returncode, self.complaint()))
        for port in (self.imap_port, self.lmtp_port):
            with socket.create_connection((self.host, port), 5) as s:
                if not s.recv(1):
                    raise PairError("closed at once")
        return True

    def index(self):
        """Makes the search index, where a search does not."""

    def cpu_s(self):
        return cpu_of_tree(self.proc.pid)

    def stop(self):
        """Ends the namespace, and with it all processes in it."""
        if self.proc is None:
            return
        # --kill-child: the namespace's first process dies with unshare.
        self.proc.send_signal(signal.SIGKILL)
        self.proc.wait()
        self.proc = None

    def complaint(self):
        return tail(self.path("output")) + tail(self.path("log"))


class Cyrus(Peer):
    """As Debian ships it (durability, databases, duplicate suppression), but
    for addresses, directories, who it runs as, and more processes allowed."""

    name, package, host = "Cyrus", "cyrus-imapd", "127.0.0.13"
    settings = ("imapd.conf as shipped, with altnamespace and unixhierarchysep;"
                " no *_unsafe, no replication; /run on a tmpfs")

    def __init__(self, packages, base, users, options=None):
        """OPTIONS: further lines of imapd.conf."""
        super().__init__(packages, base, users)
        self.options = options or {}

    def in_run(self, run):
        return ("mkdir -p {r}/proc {r}/lock {r}/socket &&"
                " chown -R {u}:{u} {r}").format(r=run, u=RUN_AS)

    def prepare(self):
        ours = {
            "configdirectory": self.path("conf"),
            "partition-default": self.path("spool"),
            "sievedir": self.path("sieve"),
            "proc_path": self.path("run", "proc"),
            "mboxname_lockpath": self.path("run", "lock"),
            "lmtpsocket": self.path("run", "socket", "lmtp"),
            "idlesocket": self.path("run", "socket", "idle"),
            "notifysocket": self.path("run", "socket", "notify"),
            "altnamespace": "yes",
            "unixhierarchysep": "yes",
            "servername": "peer.localhost",
            "cyrus_user": RUN_AS,
            "cyrus_group": RUN_AS,
            "admins": "cyrus",
            "autocreate_quota": "0",
            "autocreate_post": "yes",
            "sasl_mech_list": "PLAIN",
            "sasl_pwcheck_method": "auxprop",
            "sasl_auxprop_plugin": "sasldb",
            "sasl_sasldb_path": self.path("sasldb2"),
            **self.options,
        }
        with open(os.path.join(self.tree, "etc", "imapd.conf")) as f:
            shipped = [line for line in f
                       if line.strip() and not line.startswith("#") and
                       line.split(":")[0] not in ours]
        self.write("imapd.conf", "".join(shipped) + "".join(
            "%s: %s\n" % kv for kv in ours.items()))
        conf = "-C " + self.path("imapd.conf")
        lib = "/usr/lib/cyrus/bin/"
        self.write("cyrus.conf", (
            'START {{\n  recover cmd="{l}ctl_cyrusdb {c} -r"\n}}\n'
            'SERVICES {{\n'
            '  imap cmd="{l}imapd {c} -U 30" listen="{h}:{i}" prefork=0'
            ' maxchild=500\n'
            '  lmtp cmd="{l}lmtpd {c} -a" listen="{h}:{m}" prefork=0'
            ' maxchild=100\n{services}}}\n'
            'EVENTS {{\n  checkpoint cmd="{l}ctl_cyrusdb {c} -c" period=30\n}}'
            '\n').format(l=lib, c=conf, h=self.host, i=self.imap_port,
                         m=self.lmtp_port, services=self.services()))
        for d in ("conf", "spool", "sieve", "run"):
            os.mkdir(self.path(d))
        for d in ("db", "log", "msg", "proc", "ptclient", "quota", "socket",
                  "sync", "user"):
            os.mkdir(self.path("conf", d))
        program = shutil.which("saslpasswd2") or "/usr/sbin/saslpasswd2"
        for user in self.users:
            subprocess.run(
                [program, "-p", "-c", "-f", self.path("sasldb2"), "-u",
                 "peer.localhost", user], input=PASSWORD.encode(), check=True,
                capture_output=True)
        return [lib + "master", "-C", self.path("imapd.conf"), "-M",
                self.path("cyrus.conf"), "-p", self.path("run", "pid"), "-L",
                self.path("log")]


    def index(self):
        subprocess.run(self.inside("squatter"), check=True,
                       stdin=subprocess.DEVNULL, capture_output=True)

    def services(self):
        """Further lines of SERVICES."""
        return ""

    def inside(self, program, *args):
        """The command that runs one of its programs where it runs."""
        with open("/proc/%d/task/%d/children" % (self.proc.pid,
                                                 self.proc.pid)) as f:
            first = f.read().split()[0]
        return ["nsenter", "-t", first, "-m", "-p", "/usr/lib/cyrus/bin/" +
                program, "-C", self.path("imapd.conf"), *args]


class CyrusReplica(Cyrus):
    """A second one, which takes what a sync_client sends."""

    host = "127.0.0.15"

    def __init__(self, packages, base, users):
        super().__init__(packages, os.path.join(base, "replica"), users,
                         {"admins": "cyrus " + users[0]})
        os.makedirs(os.path.join(base, "replica"))
        os.chmod(os.path.join(base, "replica"), 0o755)
        self.sync_port = free_port([self.host], self.lmtp_port + 1)

    def services(self):
        return ('  csync cmd="/usr/lib/cyrus/bin/sync_server -C %s" '
                'listen="%s:%d" prefork=0 maxchild=20\n' % (
                    self.path("imapd.conf"), self.host, self.sync_port))


class Dovecot(Peer):
    """Compiled-in defaults (mail_fsync=optimized: it syncs what it delivers
    before it answers), but for addresses, directories and accounts."""

    name, package, host = "Dovecot", "dovecot-core", "127.0.0.14"

    def __init__(self, packages, base, users, mail_format):
        super().__init__(packages, base, users)
        self.mail_format = mail_format
        self.settings = ("%s, mail_fsync=optimized (default), no replication;"
                         " /run on a tmpfs" % mail_format)

    def in_run(self, run):
        return "chmod 755 %s" % run

    def prepare(self):
        for d in ("mail", "run", "state"):
            os.mkdir(self.path(d))
        where = {"maildir": "maildir:~/Maildir", "mdbox": "mdbox:~/mdbox",
                 "sdbox": "sdbox:~/sdbox"}[self.mail_format]
        self.write("dovecot.conf", """\
base_dir = {d}/run
state_dir = {d}/state
log_path = {d}/log
listen = {h}
protocols = imap lmtp
ssl = no
disable_plaintext_auth = no
default_login_user = nobody
default_internal_user = {u}
default_internal_group = {u}
first_valid_uid = 1
hostname = peer.localhost
postmaster_address = postmaster@peer.localhost
mail_location = {w}
mail_max_userip_connections = 1000
passdb {{
  driver = static
  args = password={p}
}}
userdb {{
  driver = static
  args = uid={u} gid={u} home={d}/mail/%n allow_all_users=yes
}}
service imap-login {{
  inet_listener imap {{
    port = {i}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    port = {m}
  }}
}}
""".format(d=self.dir, h=self.host, u=RUN_AS, w=where, p=PASSWORD,
           i=self.imap_port, m=self.lmtp_port))
        return ["/usr/sbin/dovecot", "-F", "-c", self.path("dovecot.conf")]


def why_not():
    """Why Cyrus and Dovecot cannot run here, or None."""
    if os.geteuid() != 0:
        return "only root can give them namespaces of their own"
    with tempfile.TemporaryDirectory() as d:
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "sh", "-c",
             'mount -t overlay -o "lowerdir=%s:/usr" overlay /usr' % d],
            capture_output=True, text=True)
    if done.returncode != 0:
        return "no overlay mount: " + done.stderr.strip()
    return None
