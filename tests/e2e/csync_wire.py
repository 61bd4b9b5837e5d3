"""Enough of the csync port to say what a well-behaved peer would not."""

import base64
import socket


class Wire:
    def __init__(self, host, port, timeout=30):
        self.sock = socket.create_connection((host, port), timeout)
        self.sock.settimeout(timeout)
        self.file = self.sock.makefile("rb")
        self.banner = self.answer()

    def line(self):
        line = self.file.readline(1 << 20)
        if not line:
            raise EOFError("closed")
        return line.decode("latin-1").rstrip("\r\n")

    def answer(self):
        """The line that ends an answer: one that does not begin with '*', or
        the '* OK' of the greeting."""
        while True:
            line = self.line()
            if not line.startswith("*") or line.startswith("* OK"):
                return line

    def ask(self, line):
        self.sock.sendall(line.encode() + b"\r\n")
        return self.answer()

    def login(self, user, password):
        text = base64.b64encode(b"\0%s\0%s" % (user.encode(),
                                               password.encode())).decode()
        return self.ask("AUTHENTICATE PLAIN %s" % text)

    def keys(self, cluster, instance, epoch, form):
        return ("CHANNEL default CLUSTER %s INSTANCE %s EPOCH %d FORMAT %d" %
                (cluster, instance, epoch, form))

    def open(self, *who):
        return self.ask("LOG OPEN %%(%s)" % self.keys(*who))

    def stream(self, cluster, instance, epoch, form, lsn, chain):
        return self.ask("LOG STREAM %%(%s LSN %d CHAIN %s)" % (
            self.keys(cluster, instance, epoch, form), lsn, chain))


def connect(instance, user, password):
    wire = Wire(instance.host, instance.csync_port)
    answer = wire.login(user, password)
    if not answer.startswith("OK"):
        raise AssertionError("login on csync: %s" % answer)
    return wire
