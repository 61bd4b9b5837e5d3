#!/usr/bin/env python3
"""Looking at a pair over HTTP: metrics as OpenMetrics, health in each role,
status.json, limits, and that docs/monitoring/ names only what there is.

usage: test_metrics.py BINDIR [TEST...]
"""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time

from pollux import (Failed, World, check, check_equal, free_port, message, run,
                    wait_for)

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir,
                    os.pardir, "docs", "monitoring")


class Looked(World):
    """A pair, each of which listens for who looks."""

    def set_up(self, *args, **kwargs):
        super().set_up(*args, **kwargs)
        port = free_port([self.a.host, self.b.host], self.some_port())
        for i in (self.a, self.b):
            i.metrics_port = port
            with open(i.imapd_conf, "a") as f:
                f.write("metrics_listen: %s:%d\n" % (i.host, port))


def get(instance, path, method="GET"):
    """(status, headers, body) of PATH."""
    conn = http.client.HTTPConnection(instance.host, instance.metrics_port,
                                      timeout=10)
    try:
        conn.request(method, path)
        r = conn.getresponse()
        return r.status, r.headers, r.read().decode()
    finally:
        conn.close()


def health(instance):
    """Statuses of live, ready and master."""
    return tuple(get(instance, "/health/" + what)[0]
                 for what in ("live", "ready", "master"))


def status(instance):
    return json.loads(get(instance, "/status.json")[2])


# ---- OpenMetrics ------------------------------------------------------------

SAMPLE = re.compile(
    r'^([a-zA-Z_:][a-zA-Z0-9_:]*)'
    r'(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})?'
    r' (-?[0-9.]+(?:e[-+]?[0-9]+)?|\+Inf|NaN)$')
SUFFIXES = {"counter": ("_total",), "gauge": ("",),
            "histogram": ("_bucket", "_count", "_sum")}


def parse(text):
    """{family: (type, [(name, labels, value)])}; fails on what OpenMetrics 1.0
    does not allow."""
    check(text.endswith("# EOF\n"), "the text does not end in # EOF")
    families = {}
    now = None
    seen = set()
    for line in text.split("\n")[:-2]:
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            check(name not in families, "%s comes twice" % name)
            check(kind in SUFFIXES, "type %s" % kind)
            now = name
            families[name] = (kind, [])
        elif line.startswith("# UNIT "):
            _, _, name, unit = line.split(" ")
            check(name == now and name.endswith("_" + unit), line)
        elif line.startswith("# HELP "):
            check(line.split(" ")[2] == now and line.endswith("."), line)
        else:
            m = SAMPLE.match(line)
            check(m, "not a sample: %r" % line)
            kind, samples = families[now]
            check(m.group(1) in [now + s for s in SUFFIXES[kind]],
                  "%r in family %s" % (line, now))
            labels = dict(re.findall(r'([a-zA-Z_0-9]+)="((?:[^"\\]|\\.)*)"',
                                     m.group(2) or ""))
            key = (m.group(1), tuple(sorted(labels.items())))
            check(key not in seen, "%r comes twice" % line)
            seen.add(key)
            samples.append((m.group(1), labels, float(m.group(3))))
    for name, (kind, samples) in families.items():
        if kind == "histogram":
            check_histogram(name, samples)
    return families


def check_histogram(name, samples):
    last = {}
    for sample, labels, value in samples:
        rest = tuple(sorted((k, v) for k, v in labels.items() if k != "le"))
        if sample == name + "_bucket":
            le = float(labels["le"])
            before = last.get(rest, (-1.0, 0.0))
            check(le > before[0] and value >= before[1],
                  "buckets of %s%r" % (name, rest))
            last[rest] = (le, value)
        elif sample == name + "_count":
            check(last[rest] == (float("inf"), value),
                  "%s%r: the last bucket is not the count" % (name, rest))


def parse_by_library(text):
    """The same by Prometheus's own parser, where Debian's Python has that."""
    program = ("import sys\n"
               "try:\n"
               "    from prometheus_client.openmetrics import parser\n"
               "except ImportError:\n"
               "    sys.exit(77)\n"
               "print(*[f.name for f in parser.text_string_to_metric_families("
               "sys.stdin.read())])\n")
    done = subprocess.run(["/usr/bin/python3", "-c", program], input=text,
                          capture_output=True, text=True)
    if done.returncode == 77:
        print("       (python3-prometheus-client is not installed)")
        return
    check_equal(done.returncode, 0, done.stderr)
    check("pollux_role" in done.stdout.split(), "pollux_role is not there")


def value(families, name, **labels):
    """The one sample NAME that has LABELS."""
    found = [v for _, samples in families.values() for n, have, v in samples
             if n == name and all(have.get(k) == w for k, w in labels.items())]
    check_equal(len(found), 1, "samples of %s %r" % (name, labels))
    return found[0]


def metrics(instance):
    status_code, headers, text = get(instance, "/metrics")
    check_equal(status_code, 200, "status of /metrics")
    check(headers["Content-Type"].startswith(
        "application/openmetrics-text; version=1.0.0"), headers["Content-Type"])
    return parse(text)


def test_metrics_are_openmetrics_and_count_what_happens(bin_dir):
    with Looked(bin_dir) as w:
        before = metrics(w.a)
        w.deliver_all(w.a, range(25))
        check_equal(w.a.deliver(w.a.lmtp(), ["alice"], message(3)), [250],
                    "a duplicate")
        conn = w.a.imap("alice")
        conn.select("INBOX")
        conn.fetch("1:*", "(FLAGS)")
        conn.fetch("1", "(RFC822.SIZE)")
        conn.select("nowhere")
        w.wait_equal()
        text = get(w.a, "/metrics")[2]
        parse_by_library(text)
        now = parse(text)
        grown = (value(now, "pollux_records_total") -
                 value(before, "pollux_records_total"))
        check(grown >= 25, "only %d records were counted" % grown)
        check_equal(value(now, "pollux_log_sync_seconds_count"),
                    value(now, "pollux_commits_total"), "syncs and commits")
        check_equal(value(now, "pollux_commit_group_records_sum"),
                    value(now, "pollux_records_total"), "records")
        check_equal(value(now, "pollux_role", role="master"), 1, "role")
        check_equal(value(now, "pollux_role", role="replica"), 0, "role")
        check_equal(value(now, "pollux_epoch"), 1, "epoch")
        check_equal(value(now, "pollux_sessions", service="imap"), 1,
                    "sessions of imap")
        check_equal(value(now, "pollux_logins_total", service="imap"), 1,
                    "logins")
        check_equal(value(now, "pollux_lmtp_delivered_total", service="lmtp"),
                    25, "deliveries")
        check_equal(value(now, "pollux_lmtp_duplicates_total", service="lmtp"),
                    1, "duplicates")
        check_equal(value(now, "pollux_command_seconds_count", protocol="imap",
                          command="FETCH"), 2, "FETCHes")
        check_equal(value(now, "pollux_commands_failed_total", protocol="imap",
                          command="SELECT"), 1, "SELECTs that failed")
        check_equal(value(now, "pollux_command_seconds_count", protocol="lmtp",
                          command="DATA"), 26, "DATAs")
        check_equal(value(now, "pollux_commands_failed_total", protocol="lmtp",
                          command="DATA"), 0, "DATAs that failed")
        check_equal(value(now, "pollux_channel_state", channel="default",
                          state="streaming"), 1, "state of the channel")
        check_equal(value(now, "pollux_channel_acknowledged_lsn",
                          channel="default"),
                    value(now, "pollux_durable_lsn"), "acknowledged")
        check_equal(value(now, "pollux_channel_lag_bytes", channel="default"),
                    0, "lag in bytes")
        check(value(now, "pollux_log_bytes") > 0, "no log")
        check(value(now, "pollux_rocksdb_block_cache_capacity") > 0,
              "no block cache")
        check(value(now, "process_resident_memory_bytes") > 1e6, "no memory")
        started = value(now, "process_start_time_seconds")
        check(abs(started - time.time()) < 300, "started at %f" % started)
        # Both say the same digest, and each sees that of the other.
        there = metrics(w.b)
        check_equal(value(there, "pollux_digest"), value(now, "pollux_digest"),
                    "digests")
        check_equal(value(there, "pollux_applied_lsn"),
                    value(now, "pollux_applied_lsn"), "positions")
        for i in (w.a, w.b):
            wait_for("equal digests to be seen", lambda: value(
                metrics(i), "pollux_twin_digest", compared="equal") == 1)
        conn.logout()


def test_the_search_index_is_watched(bin_dir):
    """How far it is behind, how large it is, and that it cannot be opened."""
    with Looked(bin_dir, {"search_engine": "xapian",
                          "search_batchsize": "5"}) as w:
        def index(name):
            return value(metrics(w.b), "pollux_search_" + name)
        # The replica's is its own.
        w.deliver_all(w.a, range(12))
        w.wait_equal()
        wait_for("the index", lambda: index("index_level") == 1 and
                 index("indexed_messages_total") + index("index_left_messages")
                 == 12)
        w.deliver_all(w.a, range(12, 15))
        w.wait_equal()
        wait_for("all of it", lambda: index("index_level") == 1 and
                 index("indexed_messages_total") + index("index_left_messages")
                 == 15)
        check(index("index_left_messages") < 5, "too many are left")
        check(index("indexed_bytes_total") > 5 * 400, "bytes")
        for name in ("index_failing", "index_failures_total",
                     "skipped_messages_total", "index_waiting_mailboxes",
                     "index_last_failure_timestamp_seconds"):
            check_equal(index(name), 0, name)
        check_equal(index("index_open"), 1, "open")
        w.b.stop()
        w.b.start()
        wait_for("bytes", lambda: index("index_bytes") > 0)
        wait_for("what is left", lambda: status(w.b)["search"]["state"] ==
                 "level")
        w.b.stop()
        path = os.path.join(w.b.dir, "conf", "search")
        shutil.rmtree(path)
        with open(path, "w") as f:
            f.write("not a directory\n")
        w.b.start()
        wait_for("the failure", lambda: index("index_failing") == 1)
        check_equal(index("index_open"), 0, "open")
        check(index("index_last_failure_timestamp_seconds") > 0, "when")
        check_equal(status(w.b)["search"]["state"], "failing", "state")
        check(any("could not be opened" in v["what"]
                  for v in status(w.b)["advice"]), "advice")


def test_health_follows_the_role(bin_dir):
    with Looked(bin_dir) as w:
        check_equal(health(w.a), (200, 200, 200), "health of the master")
        check_equal(health(w.b), (200, 200, 503), "health of the replica")
        check_equal(get(w.b, "/health/master")[2], "role replica\n", "why")
        w.a.must("fence")
        check_equal(health(w.a), (200, 200, 503), "health behind the fence")
        check("fence is up" in status(w.a)["advice"][0]["what"],
              "the fence is not told")
        w.a.must("unfence")
        check_equal(health(w.a), (200, 200, 200), "health after the fence")
        wait_for("the stream to go on", lambda: status(
            w.a)["channels"][0]["state"] == "streaming")
        w.a.must("swap")
        check_equal(health(w.a), (200, 200, 503), "health after the swap")
        check_equal(health(w.b), (200, 200, 200), "health of the new master")
        # The old master is gone: the other one is told, and goes on.
        w.a.kill()
        wait_for("the twin's absence to be seen", lambda: value(
            metrics(w.b), "pollux_twin_up") == 0)
        check_equal(health(w.b), (200, 200, 200), "health without a twin")
        check(any("does not answer" in a["what"]
                  for a in status(w.b)["advice"]), "nothing is said of it")


def test_lag_is_told_in_records_bytes_and_seconds(bin_dir):
    with Looked(bin_dir) as w:
        w.deliver_all(w.a, range(5))
        w.wait_equal()
        w.b.kill()
        wait_for("a point of history", lambda: len(
            status(w.a)["history"]) >= 2)
        began = time.time()
        w.deliver_all(w.a, range(5, 25), size=2000)

        def lagging():
            c = status(w.a)["channels"][0]
            return c if c["lag_records"] >= 20 and c["lag_us"] > 1500000 else None
        c = wait_for("the lag to be seen", lagging)
        check(c["lag_is_exact"], "what is a second old is not remembered")
        age = time.time() - began
        check(c["lag_us"] / 1e6 < age + 2.0,
              "%.1f s behind after %.1f s" % (c["lag_us"] / 1e6, age))
        check(3000 < c["lag_bytes"] < 200000, "%d bytes" % c["lag_bytes"])
        check(c["state"] != "streaming", "it streams to nobody")
        w.b.start()
        w.wait_equal()
        wait_for("the lag to go", lambda: status(
            w.a)["channels"][0]["lag_records"] == 0)


def test_status_is_json_and_the_page_asks_for_nothing_else(bin_dir):
    with Looked(bin_dir) as w:
        def well():
            """The last look may be of when the twin was starting."""
            s = status(w.a)
            return None if s["advice"] else s
        s = wait_for("no advice for a pair that is well", well)
        check_equal(s["here"]["role"], "master", "role")
        # Asked before it followed, it answers with its epoch of then.
        t = wait_for("the twin's answer", lambda: [
            t for t in status(w.a)["twins"]
            if t["compared"] == "equal" and t["epoch"] == 1])[0]
        check_equal((t["role"], t["reachable"]), ("replica", True), "the twin")
        code, headers, page = get(w.a, "/")
        check_equal(code, 200, "status of the page")
        policy = headers["Content-Security-Policy"]
        nonce = re.search(r"script-src 'nonce-([0-9a-f]{32})'", policy)
        check(nonce and "default-src 'none'" in policy, policy)
        check_equal(page.count('nonce="%s"' % nonce.group(1)), 2,
                    "style and script with the nonce")
        check("@NONCE@" not in page, "a nonce was left out")
        check(nonce.group(1) not in get(w.a, "/")[2], "the nonce is reused")
        for url in re.findall(r'(?:src|href)="([^"]*)"', page):
            check(url.startswith("data:") or ":" not in url and "//" not in url,
                  "the page asks for %s" % url)


def test_bad_requests_are_refused_and_bounded(bin_dir):
    with Looked(bin_dir) as w:
        a = (w.a.host, w.a.metrics_port)

        def raw(data):
            with socket.create_connection(a, 10) as s:
                s.sendall(data)
                got = b""
                while True:
                    part = s.recv(65536)
                    if not part:
                        return got
                    got += part
        for data, want in (
                (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
                (b"GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 413),
                (b"nonsense\r\n\r\n", 400),
                (b"GET /nothing HTTP/1.0\r\n\r\n", 404),
                (b"GET / HTTP/1.1\r\nA: " + 9000 * b"a", 431),
                (b"\x16\x03\x01\x02\x00", 400)):
            got = raw(data)
            check(got.startswith(b"HTTP/1.1 %d " % want),
                  "%r to %r" % (got[:60], data[:40]))
        code, headers, body = get(w.a, "/metrics", "HEAD")
        check_equal((code, body), (200, ""), "HEAD")
        check(int(headers["Content-Length"]) > 1000, "length of HEAD")
        # Two in a row on one connection.
        got = raw(b"GET /health/live HTTP/1.1\r\n\r\n"
                  b"GET /health/live HTTP/1.1\r\nConnection: close\r\n\r\n")
        check_equal(got.count(b"HTTP/1.1 200 OK"), 2, "pipelined requests")
        # More connections than there may be: mail is not touched, and those
        # who are in get their answer.
        many = [socket.create_connection(a, 10) for _ in range(80)]
        try:
            w.deliver_all(w.a, [1])
            many[0].sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
            check(many[0].recv(100).startswith(b"HTTP/1.1 200"),
                  "the first of many got no answer")

            def refused():
                many[-1].settimeout(0.05)
                return many[-1].recv(1) == b""
            wait_for("the last of many to be turned away", refused)
        finally:
            for s in many:
                s.close()
        wait_for("room again", lambda: health(w.a) == (200, 200, 200))


def test_it_is_off_unless_asked_for_and_errors_name_the_option(bin_dir):
    with World(bin_dir, start=False) as w:
        w.a.configure(options={"metrics_listen": "127.0.0.1:nonsense"})
        w.a.start(wait=False)
        check(w.a.proc.wait(30) == 1, "it started")
        w.a.proc = None
        with open(os.path.join(w.a.dir, "stderr")) as f:
            check("metrics_listen" in f.read(), "the option is not named")
        w.b.start()
        with open(w.b.log) as f:
            check("metrics.listening" not in f.read(), "it listens")


def test_monitoring_files_name_only_what_there_is(bin_dir):
    names = set()
    for name in ("alerts.yml", "grafana.json"):
        with open(os.path.join(DOCS, name)) as f:
            text = f.read()
        if name.endswith(".json"):
            panels = json.loads(text)["panels"]
            check(len(panels) >= 8, "only %d panels" % len(panels))
            text = "\n".join(t["expr"] for p in panels
                             for t in p.get("targets", []))
        found = set(re.findall(r"\b(?:pollux|process)_[a-z0-9_]+\b", text))
        check(len(found) >= 8, "%s names only %r" % (name, found))
        names |= found
    with Looked(bin_dir) as w:
        w.deliver_all(w.a, [1])
        w.a.imap("alice").logout()
        w.wait_equal()
        families = metrics(w.a)
        there = {sample for _, samples in families.values()
                 for sample, _, _ in samples}
        check_equal(sorted(names - there), [], "names that are not there")


if __name__ == "__main__":
    run([v for k, v in list(globals().items())
         if k.startswith("test_") and callable(v)])
