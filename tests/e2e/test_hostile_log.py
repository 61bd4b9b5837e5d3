"""A log stream and a seed through a line that changes bytes, and servers whose
certificate is no good.  test_hostile_log.py BIN_DIR [TEST ...].

    flipped   a byte of what goes to the replica, or comes from it, is another
              one, anywhere behind the login: refused with one sentence, nothing
              is applied that the master has not, and without it all is equal
    lying     a replica that acknowledges what it never got
    TLS       expired, another name, another authority, none at all
"""

import os
import random
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib")]
from pollux import World, check, check_equal, run  # noqa: E402


class Flipper:
    """To TARGET and back; in one direction (TO_REPLICA) the byte at offset AT
    gets one other bit."""

    def __init__(self, target, to_replica, at, bit):
        self.target, self.to_replica, self.at, self.bit = (target, to_replica,
                                                           at, bit)
        self.done = False
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.name = "127.0.0.1:%d" % self.sock.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
                there = socket.create_connection(self.target)
            except OSError:
                return
            for one, other, to_replica in ((conn, there, True),
                                           (there, conn, False)):
                threading.Thread(target=self.carry, daemon=True,
                                 args=(one, other, to_replica)).start()

    def change(self, data, passed, to_replica):
        """DATA, of which PASSED bytes went before, on its way."""
        k = self.at - passed
        if to_replica == self.to_replica and 0 <= k < len(data):
            data[k] ^= 1 << self.bit
            self.done = True

    def carry(self, one, other, to_replica):
        passed = 0
        try:
            while True:
                data = bytearray(one.recv(65536))
                if not data:
                    break
                self.change(data, passed, to_replica)
                passed += len(data)
                other.sendall(data)
        except OSError:
            pass
        for s in (one, other):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


class Liar(Flipper):
    """What the replica acknowledges is 1,000 records more, all of it alike."""

    ACK = struct.pack("<IB3x", 60, 64)

    def __init__(self, target):
        super().__init__(target, False, -1, 0)

    def change(self, data, passed, to_replica):
        at = -1 if to_replica else data.find(self.ACK)
        while at >= 0 and at + 68 <= len(data):
            for field in (8, 16, 28):  # received, durable, applied
                lsn, = struct.unpack_from("<Q", data, at + field)
                struct.pack_into("<Q", data, at + field, lsn + 1000)
            self.done = True
            at = data.find(self.ACK, at + 68)


def by_hand(bin_dir, options=None):
    world = World(bin_dir, options, start=False)
    make = world.set_up
    world.set_up = lambda: make(rolling=False)
    return world


def client(instance, *args, codes=(0,)):
    done = instance.run("sync_client", *args, timeout=60)
    check(done.returncode in codes, "sync_client %s: exit %d: %s%s" % (
        " ".join(args), done.returncode, done.stdout, done.stderr))
    check("Sanitizer" not in done.stderr, done.stderr)
    return done


def flip_rounds(w, rng, rounds, prepare, furthest):
    flipped = refused = 0
    for n in range(rounds):
        prepare(n)
        to_replica = rng.random() < 0.7
        at = rng.randrange(60, furthest if to_replica else 2500)
        with Flipper((w.b.host, w.b.csync_port), to_replica, at,
                     rng.randrange(8)) as line:
            done = client(w.a, "-S", line.name, "-t", "3", "-A",
                          codes=(0, 1))
        flipped += line.done
        refused += done.returncode
        check(done.returncode == 0 or done.stderr.strip() != "",
              "no word of why")
        # Behind, perhaps; never another state at the same position.
        client(w.a, "--verify", codes=(0, 3))
        check(w.a.role() == "master" and w.b.role() == "replica",
              "a role has changed: %s %s" % (w.a.role(), w.b.role()))
    client(w.a, "-A")
    check("store: equal" in client(w.a, "--verify").stdout, "not equal")
    print("       %d lines flipped, %d refused" % (flipped, refused))
    check(flipped > rounds // 3 and refused > 0, "nothing was tried")


def test_flipped_log(bin_dir):
    with by_hand(bin_dir) as w:
        w.start()
        w.a.must("promote")
        client(w.a, "-A")
        rng = random.Random(5)
        flip_rounds(w, rng, 16,
                    lambda n: w.deliver_all(w.a, range(10 * n, 10 * n + 5)),
                    6000)


def test_flipped_seed(bin_dir):
    """An empty replica, each time, and half of one."""
    with by_hand(bin_dir) as w:
        w.start()
        w.a.must("promote")
        w.deliver_all(w.a, range(1, 30))
        rng = random.Random(6)

        def empty(_):
            if w.b.status()["here"]["applied"] == "0:0":
                return
            w.b.stop()
            shutil.rmtree(os.path.join(w.b.dir, "conf"))
            shutil.rmtree(os.path.join(w.b.dir, "spool"), ignore_errors=True)
            w.b.start()
        flip_rounds(w, rng, 5, empty, 40000)


# ---- TLS ---------------------------------------------------------------------


def openssl(path, *args):
    subprocess.run(("openssl",) + args, check=True, cwd=path,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def authority(path, name):
    openssl(path, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=" + name, "-keyout", name + ".key", "-out",
            name + ".pem")


def certificate(path, ca, name, alt, days="2"):
    with open(os.path.join(path, "ext"), "w") as f:
        f.write("subjectAltName=%s\n" % alt)
    openssl(path, "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=" + name,
            "-keyout", name + ".key", "-out", name + ".csr")
    openssl(path, "x509", "-req", "-in", name + ".csr", "-CA", ca + ".pem",
            "-CAkey", ca + ".key", "-CAcreateserial", "-extfile", "ext", "-days",
            days, "-out", name + ".pem")


class TlsServer:
    """A csync greeting with STARTTLS, then the certificate NAME; keeps what it
    is told after that."""

    def __init__(self, path, name, answer=b"OK Begin TLS negotiation now\r\n"):
        self.path, self.name, self.answer = path, name, answer
        self.heard = b""
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.at = "127.0.0.1:%d" % self.sock.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,),
                             daemon=True).start()

    def serve(self, conn):
        try:
            conn.sendall(b"* STARTTLS\r\n* POLLUX-LOG 1 ZSTD\r\n* OK x\r\n")
            conn.recv(1000)
            conn.sendall(self.answer)
            if self.name is None:
                self.heard += conn.recv(1000)
                return
            ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ctx.load_cert_chain(os.path.join(self.path, self.name + ".pem"),
                                os.path.join(self.path, self.name + ".key"))
            tls = ctx.wrap_socket(conn, server_side=True)
            tls.sendall(b"* SASL PLAIN\r\n* POLLUX-LOG 1 ZSTD\r\n* OK x\r\n")
            self.heard += tls.recv(1000)
        except OSError:
            pass
        finally:
            conn.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


def test_acknowledged_and_never_sent(bin_dir):
    """The log goes by what a replica acknowledges, and so may answers."""
    with by_hand(bin_dir) as w:
        w.start()
        w.a.must("promote")
        client(w.a, "-A")
        w.deliver_all(w.a, range(1, 4))
        with Liar((w.b.host, w.b.csync_port)) as line:
            done = client(w.a, "-S", line.name, "-t", "3", "-1", codes=(1,))
        check(line.done, "nothing was acknowledged")
        check("is the last that it was sent" in done.stderr, done.stderr)
        channel = w.a.status()["channels"][0]
        check(channel["durable"] <= w.a.status()["here"]["durable"],
              "believed: %s" % channel)
        client(w.a, "-A")
        check("store: equal" in client(w.a, "--verify").stdout, "not equal")


def test_certificates_that_are_no_good(bin_dir):
    if shutil.which("openssl") is None:
        print("       skipped: there is no openssl program")
        return
    path = tempfile.mkdtemp(prefix="pollux-tls-")
    try:
        authority(path, "ca")
        authority(path, "other")
        certificate(path, "ca", "good", "IP:127.0.0.1")
        certificate(path, "ca", "elsewhere", "DNS:elsewhere.example.org")
        certificate(path, "ca", "late", "IP:127.0.0.1", days="-1")
        certificate(path, "other", "stranger", "IP:127.0.0.1")
        with by_hand(bin_dir, {"sync_tls_ca_file":
                               os.path.join(path, "ca.pem")}) as w:
            w.start()
            w.a.must("promote")
            for name, says in (("elsewhere", "mismatch|not.*name|name"),
                               ("late", "expired"),
                               ("stranger", "issuer|self.signed|unable to get")):
                with TlsServer(path, name) as server:
                    for args in (("-A",), ("-b", "-A"), ("-1",)):
                        done = client(w.a, "-S", server.at, "-t", "3", *args,
                                      codes=(1,))
                        check(re.search(says, done.stderr) and
                              "TLS with 127.0.0.1" in done.stderr,
                              "%s: %s" % (name, done.stderr))
                    check_equal(server.heard, b"", "said to " + name)
            with TlsServer(path, "good") as server:
                client(w.a, "-S", server.at, "-t", "3", "-A", codes=(1,))
                check(b"AUTHENTICATE" in server.heard, "the good one is used")
            for answer in (b"NO not today\r\n", b"BAD\r\n", b""):
                with TlsServer(path, None, answer) as server:
                    done = client(w.a, "-S", server.at, "-t", "2", "-A",
                                  codes=(1,))
                    check("TLS with 127.0.0.1" in done.stderr, done.stderr)
                    check(b"AUTHENTICATE" not in server.heard, "in clear")
    finally:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    run([test_flipped_log, test_flipped_seed, test_acknowledged_and_never_sent,
         test_certificates_that_are_no_good])
