"""The program `master`: files with errors, second processes, START, SIGHUP, the
end, users and TLS.  test_master.py BIN_DIR [TEST ...]."""

import glob
import imaplib
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import time

from pollux import (World, check, check_equal, free_port, log_has, mailbox,
                    message, run, wait_for)

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, os.pardir, "base", "data")


def master(bin_dir, *args, timeout=30):
    """Run it to its end: (exit code, all output)."""
    done = subprocess.run([os.path.join(bin_dir, "master"), *args],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True,
                          timeout=timeout)
    return done.returncode, done.stdout


def single(bin_dir, **options):
    """One instance, a, without a twin, not started."""
    return World(bin_dir, options={"sync_host": "", **options}, start=False)


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def conf_of(w, services="", daemon="", start="", events=""):
    """cyrus.conf of a with the three usual services and more."""
    write(w.a.cyrus_conf,
          "START {\n%s\n}\nSERVICES {\n"
          ' imap cmd="imapd" listen="%s:%d"\n'
          ' lmtp cmd="lmtpd -a" listen="%s:%d"\n'
          ' csync cmd="sync_server" listen="%s:%d"\n%s\n}\n'
          "EVENTS {\n%s\n}\nDAEMON {\n%s\n}\n" % (
              start, w.a.host, w.a.imap_port, w.a.host, w.a.lmtp_port,
              w.a.host, w.a.csync_port, services, events, daemon))


def answers(host, port):
    try:
        with socket.create_connection((host, port), 2) as s:
            s.settimeout(5)
            return len(s.recv(10)) > 0
    except OSError:
        return False


def nap(number):
    """How long a child of this run's sleeps, in seconds: nobody else's."""
    return str(10000000 + os.getpid() * 10 + number)


def processes_with(word):
    """Ids of processes whose command line has WORD."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                if word.encode() in f.read():
                    found.append(int(path.split("/")[2]))
        except OSError:
            pass
    return found


def test_files_with_errors_start_nothing(bin_dir):
    with single(bin_dir) as w:
        with open(w.a.imapd_conf, "a") as f:
            f.write("no_such_option: 1\ntimeout: soon\n")
        conf_of(w, services=' x cmd="imapd -Z" listen="127.0.0.1:0"')
        rc, out = master(bin_dir, "-C", w.a.imapd_conf, "-M", w.a.cyrus_conf)
        check_equal(rc, 1, "exit code")
        for text in ("no_such_option", "timeout", "-Z"):
            check(text in out, "%s is not named in: %s" % (text, out))
        check(not os.path.exists(os.path.join(w.a.dir, "conf")),
              "something was made")
        rc, out = master(bin_dir, "-C", "/no/such/file")
        check(rc == 1 and "/no/such/file" in out, out)
        rc, out = master(bin_dir, "-X")
        check_equal(rc, 2, "exit code of a bad option")


def test_templates_pass_the_check(bin_dir):
    with single(bin_dir) as w:
        for kind in ("be", "re"):
            paths = {}
            for name in ("imapd", "cyrus"):
                with open(os.path.join(DATA, "%s_%s.conf" % (name, kind))) as f:
                    text = f.read()
                paths[name] = os.path.join(w.tmp, "%s_%s.conf" % (name, kind))
                write(paths[name], text.replace("/etc/imapd_%s.conf" % kind,
                                                paths["imapd"]))
            rc, out = master(bin_dir, "--check-config", "-C", paths["imapd"],
                             "-M", paths["cyrus"])
            check_equal(rc, 0, "exit code for %s: %s" % (kind, out))
            check("error:" not in out, out)
        check("has no effect in this version" in out, "nothing is said: " + out)


def test_second_process_on_a_store_is_refused(bin_dir):
    with single(bin_dir) as w:
        w.a.start()
        # The same store, nothing else in common.
        text = open(w.a.imapd_conf).read()
        other = os.path.join(w.a.dir, "other.conf")
        write(other, text + "control_socket: %s/other\n" % w.a.dir)
        cyrus = os.path.join(w.a.dir, "other-cyrus.conf")
        write(cyrus, "SERVICES { }\n")
        rc, out = master(bin_dir, "-C", other, "-M", cyrus, "-p",
                         os.path.join(w.a.dir, "other.pid"), "-L",
                         os.path.join(w.a.dir, "other.log"))
        check_equal(rc, 1, "exit code: " + out)
        check(out.startswith("master: ") and len(out.splitlines()) == 1,
              "not one clear sentence: " + out)
        # The same pid file.
        rc, out = master(bin_dir, "-C", other, "-M", cyrus)
        check_equal(rc, 1, "exit code: " + out)
        check("process %d" % w.a.proc.pid in out, out)
        check_equal(w.a.role(), "master", "the first one")


def test_start_comes_before_clients_and_events_run(bin_dir):
    with single(bin_dir) as w:
        scripts = {
            "one": "import os, socket\n"
                   "s = socket.create_connection(('%s', %d), 2)\n"
                   "s.settimeout(0.3)\n"
                   "try:\n    s.recv(1)\n    print('was', 'answered')\n"
                   "except TimeoutError:\n    print('was', 'silent')\n"
                   "open('%s/gate', 'w')\n" % (w.a.host, w.a.imap_port, w.tmp),
            "two": "import os\n"
                   "print('in', 'order', os.path.exists('%s/gate'))\n" % w.tmp,
            "event": "import os\nprint('child', os.environ['POLLUX_CHILD'])\n",
        }
        cmd = {}
        for name, text in scripts.items():
            path = os.path.join(w.tmp, name + ".py")
            write(path, text)
            cmd[name] = ' %s cmd="python3 %s"' % (name, path)
        conf_of(w, start="%(one)s\n%(two)s" % cmd, events=cmd["event"])
        w.a.start()
        wait_for("the event", lambda: log_has(w.a, "child 1"))
        check(log_has(w.a, "was silent"), "a client was served too early")
        check(log_has(w.a, "in order True"), "START ran in another order")


def test_sighup_changes_services_and_children(bin_dir):
    with single(bin_dir) as w:
        new_port = free_port([w.a.host], 15143)
        conf_of(w, daemon=' d1 cmd="sleep %s"' % nap(4))
        w.a.start()
        conn = w.a.imap("alice")
        wait_for("the daemon", lambda: processes_with(nap(4)))
        conf_of(w, services=' imap2 cmd="imapd" listen="%s:%d"' % (
            w.a.host, new_port), daemon=' d2 cmd="sleep %s"' % nap(5))
        w.a.proc.send_signal(signal.SIGHUP)
        wait_for("the new port", lambda: answers(w.a.host, new_port))
        wait_for("the new daemon", lambda: processes_with(nap(5)))
        wait_for("the end of the old", lambda: not processes_with(nap(4)))
        # A file with an error changes nothing.
        write(w.a.cyrus_conf, "SERVICES { imap cmd=\n")
        w.a.proc.send_signal(signal.SIGHUP)
        wait_for("the complaint", lambda: log_has(w.a, "master.not_reloaded"))
        check(answers(w.a.host, new_port), "a bad file closed a port")
        # Away again; who is inside stays.
        old = imaplib.IMAP4(w.a.host, new_port)
        conf_of(w)
        w.a.proc.send_signal(signal.SIGHUP)
        wait_for("the port to go", lambda: not answers(w.a.host, new_port))
        check_equal(old.noop()[0], "OK", "a session of the closed port")
        check_equal(conn.noop()[0], "OK", "an old session")
        with open(w.a.imapd_conf, "a") as f:
            f.write("timeout: 45m\n")
        w.a.proc.send_signal(signal.SIGHUP)
        wait_for("the hint", lambda: log_has(w.a, "config.needs_restart"))
        check(log_has(w.a, 'imapidletimeout timeout"'), "it names the option")


def test_log_file_is_opened_anew(bin_dir):
    with single(bin_dir) as w:
        w.a.start()
        os.rename(w.a.log, w.a.log + ".1")
        w.a.proc.send_signal(signal.SIGHUP)
        wait_for("the new file", lambda: log_has(w.a, "master.reloaded"))


def test_sigterm_ends_in_order_with_clients_inside(bin_dir):
    with single(bin_dir) as w:
        script = os.path.join(w.tmp, "deaf")  # a path of this world only
        write(script, "trap : TERM\nwhile :; do sleep 0.1; done\n")
        conf_of(w, daemon=' d cmd="sh %s"' % script)
        w.a.start()
        idle = [w.a.imap("alice") for _ in range(5)]
        half = socket.create_connection((w.a.host, w.a.lmtp_port))
        half.sendall(b"LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<alice>\r\nDATA\r\n")
        wait_for("the daemon", lambda: processes_with(script))
        began = time.monotonic()
        check_equal(w.a.stop(), 0, "exit code")
        check(time.monotonic() - began < 15, "it took too long")
        wait_for("the end of all of its group",
                 lambda: not processes_with(script), 5)
        check(not os.path.exists(os.path.join(w.a.dir, "conf/master.pid")),
              "the pid file is left")
        for conn in idle:
            try:
                conn.noop()
                check(False, "a session goes on")
            except conn.abort:
                pass
        conf_of(w)  # kill -9 at the end would leave one that is deaf
        w.a.start()
        check_equal(mailbox(w.a, "alice"), [], "half a message was stored")


def test_kill_9_leaves_no_children(bin_dir):
    with single(bin_dir) as w:
        conf_of(w, daemon=' d cmd="sleep %s"' % nap(7))
        w.a.start()
        wait_for("the daemon", lambda: processes_with(nap(7)))
        w.a.proc.kill()
        w.a.proc.wait()
        w.a.proc = None
        wait_for("the end of the daemon",
                 lambda: not processes_with(nap(7)))
        w.a.start()


def test_root_becomes_the_user(bin_dir):
    if os.geteuid() != 0:
        return
    nobody = pwd.getpwnam("nobody")
    with single(bin_dir, cyrus_user="nobody", cyrus_group="nogroup") as w:
        os.chown(w.sasldb, nobody.pw_uid, nobody.pw_gid)
        for path in (w.base, w.a.dir):
            os.chmod(path, 0o755)
        os.chown(w.a.imapd_conf, nobody.pw_uid, nobody.pw_gid)
        low = 144  # below 1024: bound as root, and again after SIGHUP
        conf_of(w, services=' low cmd="imapd" listen="%s:%d"' % (
            w.a.host, low), daemon=' d cmd="sleep %s"' % nap(8))
        w.a.start()
        with open("/proc/%d/status" % w.a.proc.pid) as f:
            status = f.read()
        uids = next(line for line in status.splitlines()
                    if line.startswith("Uid:")).split()[1:]
        check_equal(set(uids), {str(nobody.pw_uid)}, "user")
        check(answers(w.a.host, low), "port %d" % low)
        w.deliver_all(w.a, [1])
        check_equal(len(mailbox(w.a, "alice")), 1, "messages")
        st = os.stat(os.path.join(w.a.dir, "conf"))
        check_equal((st.st_uid, st.st_mode & 0o777), (nobody.pw_uid, 0o750),
                    "owner of configdirectory")
        st = os.stat(os.path.join(w.a.dir, "conf/socket/control"))
        check_equal(st.st_mode & 0o777, 0o600, "mode of the control socket")
        child = wait_for("the child", lambda: processes_with(nap(8)))[0]
        with open("/proc/%d/status" % child) as f:
            caps = next(line for line in f if line.startswith("CapEff:"))
        check_equal(int(caps.split()[1], 16), 0, "rights of a child")
        conf_of(w)
        w.a.proc.send_signal(signal.SIGHUP)
        wait_for("the port to go", lambda: not answers(w.a.host, low))
        conf_of(w, services=' low cmd="imapd" listen="%s:%d"' % (
            w.a.host, low))
        w.a.proc.send_signal(signal.SIGHUP)
        wait_for("the low port again", lambda: answers(w.a.host, low))
        check_equal(w.a.stop(), 0, "exit code")


def make_cert(path, name):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=" + name, "-keyout", path + ".key", "-out",
                    path + ".pem"], check=True, capture_output=True)


def subject(host, port):
    pem = ssl.get_server_certificate((host, port), timeout=5)
    text = subprocess.run(["openssl", "x509", "-noout", "-subject"],
                          input=pem, capture_output=True, text=True,
                          check=True)
    return text.stdout


def test_tls_and_its_reload(bin_dir):
    if shutil.which("openssl") is None:
        return
    with single(bin_dir) as w:
        cert = os.path.join(w.a.dir, "cert")
        make_cert(cert, "first.example")
        port = free_port([w.a.host], 15993)
        with open(w.a.imapd_conf, "a") as f:
            f.write("tls_server_cert: %s.pem\ntls_server_key: %s.key\n" % (
                cert, cert))
        conf_of(w, services=' imaps cmd="imapd -s" listen="%s:%d"' % (
            w.a.host, port))
        w.a.start()
        trust = ssl.create_default_context()
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
        conn = imaplib.IMAP4_SSL(w.a.host, port, ssl_context=trust)
        check_equal(conn.login("alice", w.users["alice"])[0], "OK", "LOGIN")
        plain = imaplib.IMAP4(w.a.host, w.a.imap_port)
        check_equal(plain.starttls(trust)[0], "OK", "STARTTLS")
        check_equal(plain.login("bob", w.users["bob"])[0], "OK", "LOGIN")
        check("first.example" in subject(w.a.host, port), "certificate")
        make_cert(cert, "second.example")
        w.a.proc.send_signal(signal.SIGHUP)
        wait_for("the new certificate",
                 lambda: "second.example" in subject(w.a.host, port))
        check_equal(conn.noop()[0], "OK", "a session under the old one")
        # A broken one changes nothing.
        write(cert + ".pem", "rubbish\n")
        w.a.proc.send_signal(signal.SIGHUP)
        wait_for("the complaint", lambda: log_has(w.a, "service.not_reloaded"))
        check("second.example" in subject(w.a.host, port), "certificate")


def test_limits_of_connections(bin_dir):
    with single(bin_dir, max_connections="6") as w:
        port = free_port([w.a.host], 15143)
        conf_of(w, services=' few cmd="imapd" listen="%s:%d" maxchild=2' % (
            w.a.host, port))
        w.a.start()
        inside = [imaplib.IMAP4(w.a.host, port) for _ in range(2)]
        try:
            imaplib.IMAP4(w.a.host, port)
            check(False, "a third one came in")
        except imaplib.IMAP4.error as e:
            check("Too many connections" in str(e), str(e))
        inside += [imaplib.IMAP4(w.a.host, w.a.imap_port) for _ in range(4)]
        with socket.create_connection((w.a.host, w.a.lmtp_port), 5) as s:
            check(s.recv(100).startswith(b"421 4.3.2"), "the seventh")
        check_equal(w.a.role(), "master", "the control socket is not counted")
        inside.pop().logout()
        wait_for("room", lambda: imaplib.IMAP4(w.a.host, w.a.imap_port))


def test_background(bin_dir):
    with single(bin_dir) as w:
        pid_file = os.path.join(w.a.dir, "pid")
        args = ["-C", w.a.imapd_conf, "-M", w.a.cyrus_conf, "-p", pid_file,
                "-d"]
        rc, out = master(bin_dir, *args)
        check_equal((rc, out), (0, ""), "master -d")
        pid = int(open(pid_file).read())
        try:
            check_equal(w.a.role(), "master", "role once the parent has ended")
            rc, out = master(bin_dir, *args)
            check_equal(rc, 1, "a second one: " + out)
            check("process %d" % pid in out, out)
        finally:
            os.kill(pid, signal.SIGTERM)
        wait_for("its end", lambda: not os.path.exists("/proc/%d" % pid))
        check(not os.path.exists(pid_file), "the pid file is left")


def test_taken_port_is_named(bin_dir):
    with single(bin_dir) as w:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((w.a.host, w.a.imap_port))
            s.listen()
            rc, out = master(bin_dir, "-C", w.a.imapd_conf, "-M",
                             w.a.cyrus_conf)
            check_equal(rc, 1, "exit code")
            check(str(w.a.imap_port) in out and "imap" in out, out)


run([
    test_files_with_errors_start_nothing,
    test_templates_pass_the_check,
    test_second_process_on_a_store_is_refused,
    test_start_comes_before_clients_and_events_run,
    test_sighup_changes_services_and_children,
    test_log_file_is_opened_anew,
    test_sigterm_ends_in_order_with_clients_inside,
    test_kill_9_leaves_no_children,
    test_root_becomes_the_user,
    test_tls_and_its_reload,
    test_limits_of_connections,
    test_background,
    test_taken_port_is_named,
])
