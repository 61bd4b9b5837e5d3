#!/usr/bin/env python3
"""What systemd is told (NOTIFY_SOCKET), in which order; and `ctl_failover
status --watch`, on a terminal and into a pipe.

usage: test_notify.py BINDIR [TEST...]
"""

import os
import pty
import select
import signal
import socket
import subprocess
import time

from pollux import World, check, check_equal, run, wait_for


class Listener:
    """A socket as systemd has one, and what was said on it."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        os.chmod(path, 0o777)
        self.sock.setblocking(False)
        self.said = []

    def listen(self):
        """What was said since, or comes within a moment."""
        select.select([self.sock], [], [], 0.2)
        try:
            while True:
                self.said += self.sock.recv(4096).decode().splitlines()
        except BlockingIOError:
            pass

    def wait(self, line, timeout=30):
        def heard():
            self.listen()
            return line in self.said
        wait_for("%r to be told" % line, heard, timeout)


def test_systemd_is_told_how_it_is(bin_dir):
    with World(bin_dir, start=False) as w:
        path = os.path.join(w.tmp, "notify")
        listener = Listener(path)
        os.environ.update(NOTIFY_SOCKET=path, WATCHDOG_USEC="600000")
        try:
            w.a.start()
        finally:
            del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]
        listener.wait("READY=1")
        check("STATUS=replica" in listener.said, "the role is not told")
        # READY came when the control socket answers, not before.
        check_equal(w.a.role(), "replica", "role")
        w.b.start()
        w.a.must("promote")
        listener.wait("STATUS=master")
        listener.said.clear()
        w.a.proc.send_signal(signal.SIGHUP)
        listener.wait("RELOADING=1")
        listener.wait("READY=1")
        lines = listener.said
        check(lines.index("RELOADING=1") < lines.index("READY=1"),
              "ready before it was read: %r" % lines)
        check(any(line.startswith("MONOTONIC_USEC=") for line in lines),
              "when it began to read is not told")
        # The watchdog is fed, again and again; how soon is the machine's to say.
        listener.said.clear()
        wait_for("a dozen signs of life", lambda: listener.listen() or sum(
            line == "WATCHDOG=1" for line in listener.said) >= 12)
        check_equal(w.a.stop(), 0, "exit code")
        listener.wait("STOPPING=1")


def test_without_systemd_nothing_is_said(bin_dir):
    with World(bin_dir, start=False) as w:
        w.a.start()
        check_equal(w.a.stop(), 0, "exit code")


def watch(instance, times, *options, terminal, word=b"digests"):
    """What --watch prints until WORD has come TIMES times; its exit code after
    SIGINT."""
    command = instance.program("ctl_failover", "status", "--watch=1", *options)
    env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    if terminal:
        ours, theirs = pty.openpty()
    else:
        ours, theirs = os.pipe()
    proc = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs,
                            stderr=subprocess.PIPE, env=env)
    os.close(theirs)
    got = b""
    end = time.monotonic() + 30
    try:
        while got.count(word) < times:
            check(time.monotonic() < end, "only %r was seen" % got)
            if select.select([ours], [], [], 0.2)[0]:
                got += os.read(ours, 65536)
        proc.send_signal(signal.SIGINT)
        return got.decode(), proc.wait(10)
    finally:
        proc.kill()
        proc.wait()
        proc.stderr.close()
        os.close(ours)


def test_watching_on_a_terminal_and_into_a_pipe(bin_dir):
    with World(bin_dir) as w:
        w.wait_equal()
        text, code = watch(w.a, 3, terminal=True)
        check_equal(code, 0, "exit code")
        check(text.count("\033[H\033[2J") >= 3, "not in one place: %r" % text)
        check("\033[1;33mmaster\033[0m" in text, "no colour: %r" % text)
        check("\033[32mequal\033[0m" in text, "no colour: %r" % text)
        text, code = watch(w.a, 2, terminal=False)
        check_equal(code, 0, "exit code")
        check("\033" not in text, "colours in a pipe: %r" % text)
        text, _ = watch(w.a, 1, "--color=never", terminal=True)
        check("\033[1;33m" not in text, "colours although never: %r" % text)
        code, out, _ = w.a.ctl("--color=always", "status")
        check_equal(code, 0, "exit code")
        check("\033[32mequal\033[0m" in out, "no colour although always")
        code, out, _ = w.a.ctl("--color=always", "--json", "status")
        check("\033" not in out, "colours in JSON")
        for wrong in ("--color=red", "--watch=0", "--watch=x"):
            check_equal(w.a.ctl(wrong, "status")[0], 2, wrong)
        w.b.kill()
        text, code = watch(w.a, 2, terminal=False, word=b"not reachable")
        check_equal(code, 5, "exit code of the last look")


if __name__ == "__main__":
    run([v for k, v in list(globals().items())
         if k.startswith("test_") and callable(v)])
