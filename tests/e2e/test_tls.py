"""TLS between the twins and for clients.  test_tls.py BIN_DIR [TEST ...].

Passwords are refused in clear (allowplaintext: no, and no mechanism but PLAIN),
so whatever logs in does it under TLS."""

import imaplib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile

from pollux import World, check, check_equal, numbers, run


def make_certificates(path):
    """A CA, and a certificate of it for both addresses."""
    def openssl(*args):
        subprocess.run(("openssl",) + args, check=True, cwd=path,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=Test CA", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=twins",
            "-keyout", "server.key", "-out", "server.csr")
    with open(os.path.join(path, "ext"), "w") as f:
        f.write("subjectAltName=IP:127.0.0.11,IP:127.0.0.12,DNS:localhost\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey",
            "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext",
            "-out", "server.pem")
    for name in os.listdir(path):
        os.chmod(os.path.join(path, name), 0o644)


def options(path, ca="ca.pem"):
    return {
        "tls_server_cert": os.path.join(path, "server.pem"),
        "tls_server_key": os.path.join(path, "server.key"),
        "tls_server_ca_file": os.path.join(path, ca),
        "allowplaintext": "no",
        "sasl_mech_list": "PLAIN",
    }


class Certificates:
    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="pollux-tls-")
        os.chmod(self.path, 0o755)
        make_certificates(self.path)
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)


def imap_under_tls(instance, user, password, path):
    conn = imaplib.IMAP4(instance.host, instance.imap_port)
    check("LOGINDISABLED" in conn.capabilities, "passwords are taken in clear")
    conn.starttls(ssl.create_default_context(
        cafile=os.path.join(path, "ca.pem")))
    conn.login(user, password)
    return conn


def test_twins_and_clients_talk_under_tls(bin_dir):
    with Certificates() as path, World(bin_dir, options(path)) as w:
        w.deliver_all(w.a, range(1, 6))
        w.wait_equal()
        for instance in (w.a, w.b):
            conn = imap_under_tls(instance, "alice", w.users["alice"], path)
            _, count = conn.select("INBOX", readonly=True)
            check_equal(count, [b"5"], "messages")
            conn.logout()
        code, _, _ = w.a.ctl("swap")
        check_equal(code, 0, "exit code of swap")
        w.wait_equal()


def test_csync_offers_no_password_in_clear(bin_dir):
    with Certificates() as path, World(bin_dir, options(path)) as w:
        with socket.create_connection((w.b.host, w.b.csync_port), 10) as s:
            greeting = s.makefile("rb")
            lines = []
            while not lines or not lines[-1].startswith(b"* OK"):
                lines.append(greeting.readline())
            check(b"* STARTTLS\r\n" in lines, "no STARTTLS")
            check(not any(b"SASL" in line for line in lines),
                  "a password is asked for in clear")


def test_twin_with_an_unknown_certificate_gets_nothing(bin_dir):
    with Certificates() as path, Certificates() as other:
        shutil.copy(os.path.join(other, "ca.pem"),
                    os.path.join(path, "other.pem"))
        with World(bin_dir, options(path, "other.pem"), promote=False) as w:
            code, _, _ = w.a.ctl("promote")
            check_equal(code, 0, "exit code of promote")
            code, status, _ = w.a.ctl("status")
            check("certificate" in status or "verif" in status,
                  "status does not say why: %s" % status)
            check_equal(code, 5, "exit code of status")


if shutil.which("openssl") is None:
    print("skipped: there is no openssl program")
    sys.exit(77)
run([
    test_twins_and_clients_talk_under_tls,
    test_csync_offers_no_password_in_clear,
    test_twin_with_an_unknown_certificate_gets_nothing,
])
