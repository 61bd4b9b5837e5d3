#!/usr/bin/env python3
"""The status page in headless Chromium: four situations of a real pair, on a
desk and on a phone, by day and by night.  What the page shows is read from its
document; what the browser complains of (a broken policy, an error) fails.

usage: test_page.py BINDIR [TEST...]
With POLLUX_SHOTS=DIR pictures are kept there, of a pair with two minutes of
history: that makes those of docs/monitoring/.
"""

import html
import itertools
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

from pollux import check, check_equal, message, run, wait_for
from test_metrics import Looked, status

SHOTS = os.environ.get("POLLUX_SHOTS")
SECONDS = int(os.environ.get("POLLUX_SECONDS", 120 if SHOTS else 4))
CHROMIUM = shutil.which("chromium")


class Load(threading.Thread):
    """Mail for INSTANCE at a rate that goes up and down, none of it twice."""

    numbers = itertools.count(1)

    def __init__(self, world, instance):
        super().__init__(daemon=True)
        self.world, self.instance = world, instance
        self.over = False
        self.start()

    def run(self):
        conn, began = self.instance.lmtp(), time.monotonic()
        while not self.over:
            n = next(self.numbers)
            try:
                self.instance.deliver(conn, ["alice"], message(
                    n, 400 + n * 131 % 9000))
            except OSError:
                return
            phase = (time.monotonic() - began) / 20
            time.sleep(0.004 + 0.02 * abs((phase % 2) - 1))  # the rate itself

    def end(self):
        self.over = True
        self.join(30)


class Page:
    """What Chromium made of the page of an instance."""

    def __init__(self, instance, name, size=(1120, 1010), dark=False):
        url = "http://%s:%d/" % (instance.host, instance.metrics_port)
        with tempfile.TemporaryDirectory(prefix="pollux-page-") as tmp:
            picture = os.path.join(tmp, "page.png")
            args = [CHROMIUM, "--headless", "--disable-gpu", "--no-first-run",
                    "--disable-dev-shm-usage", "--hide-scrollbars",
                    "--force-device-scale-factor=%d" % (2 if size[0] < 600
                                                        else 1),
                    "--disable-background-networking", "--disable-sync",
                    "--user-data-dir=" + os.path.join(tmp, "profile"),
                    "--blink-settings=preferredColorScheme=%d" % (not dark),
                    "--window-size=%d,%d" % size, "--virtual-time-budget=1500",
                    "--enable-logging=stderr", "--v=0", "--lang=en",
                    "--timeout=20000"]
            if os.geteuid() == 0:
                args.append("--no-sandbox")
            self.dom = self.chromium(args + ["--dump-dom", url])
            self.text = " ".join(html.unescape(re.sub(
                r"<[^>]*>", " ", re.sub(r"(?s)<(script|style).*?</\1>", "",
                                        self.dom))).split())
            self.chromium(args + ["--screenshot=" + picture, url])
            with open(picture, "rb") as f:
                self.png = f.read()
        check(self.png.startswith(b"\x89PNG"), "no picture")
        self.size = struct.unpack(">II", self.png[16:24])
        if SHOTS:
            with open(os.path.join(SHOTS, "page-%s.png" % name), "wb") as f:
                f.write(self.png)

    def chromium(self, args):
        done = subprocess.run(args, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120)
        said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        check_equal(said, [], "what the browser complains of")
        return done.stdout

    def has(self, *texts):
        for text in texts:
            check(text in self.text, "%r is not on the page: %s" % (
                text, self.text[:1500]))

    def count(self, css):
        """Elements whose class is CSS, whole."""
        return len(re.findall(r'class="%s"' % re.escape(css), self.dom))


def grow(world, instance):
    """Some history under load."""
    load = Load(world, instance)
    try:
        wait_for("history", lambda: len(status(instance)["history"]) >= SECONDS
                 and status(instance)["here"]["durable"] > 50, SECONDS + 60)
    finally:
        load.end()


def hold_shipping(instance):
    """The sync_client of INSTANCE stands still, and is told to go on at the
    end, by the number that is returned."""
    pid = instance.status()["channels"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_normal(bin_dir):
    with Looked(bin_dir) as w:
        grow(w, w.a)
        w.wait_equal()
        wait_for("the twin to be seen equal", lambda: status(
            w.a)["twins"][0]["compared"] == "equal")
        load = Load(w, w.a) if SHOTS else None
        page = Page(w.a, "normal")
        page.has("Mail is taken and kept on both instances", "this instance", "master", "replica",
                 w.b.host, "DATA", "Written to the log")
        check_equal(page.count("card side master"), 1, "masters drawn")
        check_equal(page.count("card side replica"), 1, "replicas drawn")
        check_equal(page.count("dot a"), 1, "the stream is drawn")
        check("NaN" not in page.dom and "undefined" not in page.text,
              "a number is missing")
        Page(w.a, "normal-dark", dark=True)
        phone = Page(w.a, "phone", size=(390, 1900), dark=True)
        check_equal(phone.size, (780, 3800), "size of the picture")
        if load:
            load.end()
        # The other side of it.
        page = Page(w.b, "replica")
        page.has("A replica, ready to take over")
        check_equal(page.count("card side master"), 1, "masters drawn")


def test_lagging(bin_dir):
    with Looked(bin_dir) as w:
        grow(w, w.a)
        w.wait_equal()
        pid = hold_shipping(w.a)
        try:
            load = Load(w, w.a)
            wait_for("a lag that is told", lambda: status(w.a)["advice"], 60)
            if SHOTS:
                wait_for("more of it", lambda: status(
                    w.a)["channels"][0]["lag_us"] > 25e6, 60)
            page = Page(w.a, "lagging")
            load.end()
        finally:
            os.kill(pid, signal.SIGCONT)
        page.has("The replica of channel default is", "behind",
                 "Nothing, if it is catching up")
        check_equal(page.count("link warn"), 1, "the link is drawn in doubt")
        w.wait_equal()


def test_fenced(bin_dir):
    with Looked(bin_dir) as w:
        grow(w, w.a)
        w.wait_equal()
        pid = hold_shipping(w.a)
        try:
            w.deliver_all(w.a, range(100000, 100007))
        finally:
            w.a.kill()
        del pid  # went with its instance
        w.b.must("promote")
        w.a.start()
        wait_for("a to be deposed", lambda: w.a.role() == "fenced")
        wait_for("the twin to be seen", lambda: status(
            w.a)["twins"][0].get("role") == "master")
        page = Page(w.a, "fenced")
        page.has("This instance was deposed", "ctl_failover rejoin", "deposed")
        check_equal(page.count("card side fenced"), 1, "the fenced one")
        check_equal(page.count("link bad leftward"), 1, "the link is cut")


def test_replica_gone(bin_dir):
    with Looked(bin_dir) as w:
        grow(w, w.a)
        w.wait_equal()
        wait_for("the twin to be seen", lambda: status(
            w.a)["twins"][0].get("role") == "replica")
        w.b.kill()
        load = Load(w, w.a)
        wait_for("its absence to be told", lambda: any(
            "does not answer" in a["what"] for a in status(w.a)["advice"]))
        if SHOTS:
            wait_for("the lag to grow", lambda: status(
                w.a)["channels"][0]["lag_us"] > 20e6, 60)
        page = Page(w.a, "replica-gone")
        load.end()
        page.has("does not answer", "Look after it", "no answer")
        check_equal(page.count("card side gone"), 1, "the one that is gone")


def test_markup_in_what_an_instance_says_is_only_shown(bin_dir):
    """What an instance says is data: markup in it is shown, not obeyed."""
    evil = 'x.localhost/<img src=x onerror=alert(1)>"'
    with Looked(bin_dir, options={"sync_host": evil}, promote=False) as w:
        wait_for("the twin to be asked", lambda: status(
            w.a)["twins"][0]["asked"])
        page = Page(w.a, "evil")
        check("<img" not in page.dom, "markup came through")
        page.has(evil)


if __name__ == "__main__":
    if CHROMIUM is None:
        print("skipped: chromium is not installed (apt-get install chromium)")
        sys.exit(77)
    run([v for k, v in list(globals().items())
         if k.startswith("test_") and callable(v)])
