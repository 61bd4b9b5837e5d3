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


def client_certificate(path, name):
    """NAME.pem and NAME.key, of the CA."""
    def openssl(*args):
        subprocess.run(("openssl",) + args, check=True, cwd=path,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=" + name,
            "-keyout", name + ".key", "-out", name + ".csr")
    openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey",
            "ca.key", "-CAcreateserial", "-days", "2", "-out", name + ".pem")
    for end in (".key", ".pem"):
        os.chmod(os.path.join(path, name + end), 0o644)


def test_mutual_tls_with_a_pinned_authority(bin_dir):
    """csync wants certificates of clients, and replicas are believed only if
    the authority of sync_tls_ca_file says so; the login is no admin."""
    with Certificates() as path:
        client_certificate(path, "twin")
        both = options(path, "server.pem")  # nobody of those counts
        both.update({
            "sync_tls_ca_file": os.path.join(path, "ca.pem"),
            "sync_tls_required": "yes",
            "tls_client_cert": os.path.join(path, "twin.pem"),
            "tls_client_key": os.path.join(path, "twin.key"),
            "csync_tls_client_ca_file": os.path.join(path, "ca.pem"),
            "csync_tls_client_certs": "require",
            "admins": "admin",
            "sync_admins": "replica",
        })
        with World(bin_dir, both) as w:
            w.deliver_all(w.a, range(1, 6))
            w.wait_equal()
            check_equal(w.a.ctl("swap")[0], 0, "exit code of swap")
            w.wait_equal(asked=w.b)
            # Without a certificate of its own it gets nowhere.
            w.b.configure(options={"tls_client_cert": "",
                                   "tls_client_key": ""})
            with open(w.b.imapd_conf) as f:
                lines = [l for l in f if not l.endswith(": \n")]
            with open(w.b.imapd_conf, "w") as f:
                f.writelines(lines)
            done = w.b.run("sync_client", "-A", "-o", "-t", "5")
            check_equal(done.returncode, 1, "without a certificate")
            # To IMAP the login is nobody special.
            conn = imap_under_tls(w.b, "replica", "replica-secret", path)
            check_equal(conn.select("user/alice", readonly=True)[0], "NO",
                        "SELECT of another's mailbox")
            conn.logout()


def test_replica_without_tls_is_not_logged_in_at(bin_dir):
    with World(bin_dir, {"sync_tls_required": "yes"}, promote=False) as w:
        w.a.ctl("promote")
        done = w.a.run("sync_client", "-A", "-o")
        check_equal(done.returncode, 1, "exit code")
        check("offers no TLS" in done.stderr, done.stderr)


def test_any_certificate_only_on_demand(bin_dir):
    """No authority is named, and the system's do not know it."""
    with Certificates() as path:
        own = options(path)
        del own["tls_server_ca_file"]
        with World(bin_dir, own, promote=False) as w:
            w.a.ctl("promote")
            done = w.a.run("sync_client", "-A", "-o")
            check_equal(done.returncode, 1, "exit code")
            check("sync_tls_ca_file" in done.stderr, done.stderr)
        with World(bin_dir, {**own, "sync_tls_verify": "no"}) as w:
            w.deliver_all(w.a, [1])
            w.wait_equal()


if shutil.which("openssl") is None:
    print("skipped: there is no openssl program")
    sys.exit(77)
run([
    test_twins_and_clients_talk_under_tls,
    test_csync_offers_no_password_in_clear,
    test_twin_with_an_unknown_certificate_gets_nothing,
    test_mutual_tls_with_a_pinned_authority,
    test_replica_without_tls_is_not_logged_in_at,
    test_any_certificate_only_on_demand,
])
