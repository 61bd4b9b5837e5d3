#!/usr/bin/env python3
"""docs/examples: the files as they stand have no errors; with paths, addresses
and ports of a test each instance starts, takes a message by its LMTP listener
and gives it out by IMAP, and the pair becomes equal and swaps.

usage: test_examples.py BINDIR [TEST...]
"""

import grp
import imaplib
import os
import pwd
import re
import shutil
import signal
import smtplib
import subprocess
import tempfile

from pollux import (check_equal, free_port, message, run, tail,
                    wait_for)
from pair import Pair

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir,
                        os.pardir, "docs", "examples")
PASSWORD = "secret-1"
SYNC_PASSWORD = "change-me"


class Example:
    """One directory of docs/examples, made to run below TMP on ADDRESS."""

    def __init__(self, bin_dir, tmp, path, address, hosts, ports):
        self.bin_dir = os.path.abspath(bin_dir)
        self.dir = os.path.join(tmp, path.replace("/", "-"))
        self.name = path
        self.address, self.ports = address, ports
        self.proc = None
        os.makedirs(self.dir)
        texts = {}
        for name in ("imapd.conf", "cyrus.conf"):
            with open(os.path.join(EXAMPLES, path, name)) as f:
                texts[name] = f.read()
        instance = re.search(r"/var/lib/pollux/(\w+)/", texts["imapd.conf"])[1]
        imapd = texts["imapd.conf"]
        imapd = imapd.replace("/var/lib/pollux", self.dir + "/lib")
        imapd = imapd.replace("/etc/pollux/%s" % instance, tmp)
        imapd = imapd.replace("/etc/ssl/private", tmp)
        imapd = imapd.replace("cyrus_user: pollux", "cyrus_user: " +
                              pwd.getpwuid(os.geteuid()).pw_name)
        imapd = imapd.replace("cyrus_group: pollux", "cyrus_group: " +
                              grp.getgrgid(os.getegid()).gr_name)
        for host, at in hosts.items():
            imapd = imapd.replace("sync_host: " + host, "sync_host: " + at)
        imapd = re.sub(r"metrics_listen: .*", "metrics_listen: %s:%d" % (
            address, ports["metrics"]), imapd)
        imapd += ("\nsync_port: %d\nallowplaintext: yes\nlog_target: file\n"
                  "log_file: %s/log\n" % (ports["csync"], self.dir))
        cyrus = re.sub(r'listen="/run/pollux/[^/"]*/', 'listen="%s/' % self.dir,
                       texts["cyrus.conf"])
        cyrus = re.sub(
            r'listen="(?:[a-z0-9.]+:)?(imaps?|lmtp|csync)"',
            lambda m: 'listen="%s:%d"' % (address, ports[m[1]]), cyrus)
        for name, text in (("imapd.conf", imapd), ("cyrus.conf", cyrus)):
            with open(os.path.join(self.dir, name), "w") as f:
                f.write(text)
        self.files = ["-C", self.dir + "/imapd.conf", "-M",
                      self.dir + "/cyrus.conf"]

    def start(self):
        with open(self.dir + "/stderr", "wb") as out:
            self.proc = subprocess.Popen(
                [self.bin_dir + "/master", *self.files], stdout=out, stderr=out,
                stdin=subprocess.DEVNULL, start_new_session=True)
        wait_for("%s to serve" % self.name, lambda: self.has_log(
            "master.serving"), 60)

    def has_log(self, word):
        if self.proc.poll() is not None:
            raise SystemExit("%s ended\n%s%s" % (
                self.name, tail(self.dir + "/log"), tail(self.dir + "/stderr")))
        with open(self.dir + "/log") as f:
            return word in f.read()

    def end(self):
        if self.proc is not None:
            try:
                os.killpg(self.proc.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.proc.wait()

    def ctl(self, *args):
        done = subprocess.run(
            [self.bin_dir + "/ctl_failover", "-C", self.dir + "/imapd.conf",
             *args], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def deliver(self, number):
        path = self.dir + "/lmtp"
        if os.path.exists(path):
            conn = smtplib.LMTP(path)
        else:
            conn = smtplib.LMTP(self.address, self.ports["lmtp"])
        conn.sendmail("a@example.org", ["user"], message(number, to="user"))
        conn.quit()

    def count(self):
        conn = imaplib.IMAP4(self.address, self.ports["imap"])
        conn.login("user", PASSWORD)
        kind, data = conn.select("INBOX", readonly=True)
        conn.logout()
        return int(data[0]) if kind == "OK" else 0


class World:
    """A directory with passwords and a certificate, and what runs in it."""

    def __init__(self, bin_dir, server):
        self.bin_dir, self.server = bin_dir, server
        self.examples = []

    def __enter__(self):
        self.tmp = tempfile.mkdtemp(prefix="pollux-examples-")
        os.chmod(self.tmp, 0o755)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
             "-days", "2", "-subj", "/CN=" + self.server, "-addext",
             "subjectAltName=DNS:%s,IP:127.0.0.34,IP:127.0.0.35" %
             self.server, "-keyout",
             self.tmp + "/mail.key", "-out", self.tmp + "/mail.pem"],
            check=True, capture_output=True)
        return self

    def add(self, path, address, hosts=None, user_realm=None):
        ports, port = {}, Pair.some_port()
        for name in ("imap", "imaps", "lmtp", "csync", "metrics"):
            ports[name] = port = free_port([address], port)
            port += 1
        if self.examples and hosts:
            ports["csync"] = self.examples[0].ports["csync"]
        program = shutil.which("saslpasswd2") or "/usr/sbin/saslpasswd2"
        for user, password in (("user", PASSWORD), ("replica", SYNC_PASSWORD)):
            subprocess.run(
                [program, "-p", "-c", "-f", self.tmp + "/sasldb2", "-u",
                 user_realm or self.server, user], input=password.encode(),
                check=True, capture_output=True)
        example = Example(self.bin_dir, self.tmp, path, address, hosts or {},
                          ports)
        self.examples.append(example)
        return example

    def __exit__(self, kind, value, trace):
        for e in self.examples:
            e.end()
            if kind is not None:
                print("---- %s\n%s" % (e.name, tail(e.dir + "/log", 30)))
        shutil.rmtree(self.tmp, ignore_errors=True)


def test_files_as_they_stand_have_no_errors(bin_dir):
    paths = [root for root, _, files in os.walk(EXAMPLES)
             if "imapd.conf" in files]
    check_equal(len(paths), 5, "examples")
    for path in paths:
        done = subprocess.run(
            [os.path.join(bin_dir, "master"), "--check-config", "-C",
             os.path.join(path, "imapd.conf"), "-M",
             os.path.join(path, "cyrus.conf")], capture_output=True, text=True)
        wrong = [line for line in done.stdout.splitlines()
                 if any(word in line for word in (
                     ": error: ", ": warning: ", "no effect",
                     "not in this version"))]
        check_equal(wrong, [], path)
        check_equal(done.returncode, 0, path + ": " + done.stdout)


def test_single(bin_dir):
    with World(bin_dir, "mail.example.org") as w:
        e = w.add("single", "127.0.0.31")
        e.start()
        e.deliver(1)
        check_equal(e.count(), 1, "messages")
        check_equal(e.ctl("status")[0], 5, "status without a twin")


def test_several(bin_dir):
    with World(bin_dir, "be1.example.org") as w:
        both = [w.add("several/be1", "127.0.0.32", user_realm="be1.example.org"),
                w.add("several/be2", "127.0.0.33", user_realm="be2.example.org")]
        for e in both:
            e.start()
        for i, e in enumerate(both):
            for n in range(i + 1):
                e.deliver(n)
        check_equal([e.count() for e in both], [1, 2], "messages")


def test_pair(bin_dir):
    with World(bin_dir, "mail.example.org") as w:
        hosts = {"a.example.org": "127.0.0.34", "b.example.org": "127.0.0.35"}
        a = w.add("pair/a", "127.0.0.34", hosts)
        b = w.add("pair/b", "127.0.0.35", hosts)
        for e in (a, b):
            e.start()
        code, said = a.ctl("promote")
        check_equal(code, 0, said)
        a.deliver(1)
        wait_for("equal twins", lambda: a.ctl("status")[0] == 0)
        check_equal((a.count(), b.count()), (1, 1), "messages")
        code, said = a.ctl("swap")
        check_equal(code, 0, said)
        b.deliver(2)
        wait_for("equal twins", lambda: b.ctl("status")[0] == 0)
        check_equal((a.count(), b.count()), (2, 2), "messages")


if __name__ == "__main__":
    run([v for k, v in list(globals().items())
         if k.startswith("test_") and callable(v)])
