"""Several channels, each with its own slot, cap and fate; a chain of replicas.
test_channels.py BIN_DIR [TEST ...]."""

import os
import re

from pollux import World, check, check_equal, log_has, numbers, run, wait_for
from withstand import check_same_picture, flood, no_crash, solid

from pair import Instance, tail  # isort: skip

SMALL = {"sync_segment_bytes": "256K", "state_flush_bytes": "64K",
         "log_keep_bytes": "0"}


class Three(World):
    """a ships to b by the channel without a name, and to c by "third", unless
    it is b that feeds c (CHAIN).  THIRD: options of that channel."""

    def __init__(self, bin_dir, options=None, chain=False, third=None):
        super().__init__(bin_dir, options)
        self.chain = chain
        self.third = third or {}
        self.c = None

    def set_up(self, *args, **kwargs):
        super().set_up(*args, **kwargs)
        self.c = Instance(self, "c")
        feeds = {"third_sync_host": self.c.host, **self.third}
        if self.chain:
            feeds["sync_log_chain"] = "yes"
        feeder = self.b if self.chain else self.a
        feeder.configure(options=feeds, channels=["third"])
        self.c.configure(rolling=False)

    def start(self):
        self.c.start(wait=False)
        super().start()
        self.c.wait_up()

    def __exit__(self, kind, value, trace):
        super().__exit__(kind, value, trace)
        if kind is not None and self.c is not None:
            print("---- log of c\n" + self.end_of_c)

    def kill(self):
        super().kill()
        self.end_of_c = tail(self.c.log, 40) if self.c is not None else ""
        if self.c is not None:
            self.c.kill()


def channels(instance):
    return {c["channel"]: c for c in instance.status()["channels"]}


def here(instance):
    return instance.status()["here"]


def same(one, other):
    """Both at one position with one digest."""
    x, y = here(one), here(other)
    if not x["reachable"] or not y["reachable"]:
        return False
    return all(x[k] == y[k] for k in ("applied", "chain", "digest"))


def test_three_replicas(bin_dir):
    with Three(bin_dir) as w:
        w.deliver_all(w.a, range(1, 21))
        wait_for("c to be equal", lambda: same(w.a, w.c))
        w.wait_equal()
        check_equal({n: c["state"] for n, c in channels(w.a).items()},
                    {"default": "streaming", "third": "streaming"}, "states")
        w.c.kill()
        wait_for("the channel to say so",
                 lambda: channels(w.a)["third"]["state"] == "connecting")
        w.deliver_all(w.a, range(21, 41))
        w.wait_equal()  # b is not held up
        third = channels(w.a)["third"]
        check(third["durable"] < channels(w.a)["default"]["durable"],
              "the lag of one channel is that of the other")
        check(third["text"] and third["since_us"] > 0, "no reason or no age")
        w.c.start()
        wait_for("c to be equal again", lambda: same(w.a, w.c), 60)
        check_same_picture(w.a, w.c, ["alice"])


def test_beyond_the_cap(bin_dir):
    """c is given up while a serves; when it is back it is seeded by itself, and
    what it has is not sent again."""
    cap = {"third_sync_log_cap": "1M"}
    with Three(bin_dir, SMALL, third=cap) as w:
        flood(w.a, 1, 300, size=4000)
        wait_for("c to be equal", lambda: same(w.a, w.c), 60)
        # Most of its bodies have left its log; the first pack alone says
        # nothing about the others.
        wait_for("c to have its bodies in packs",
                 lambda: here(w.c)["first_lsn"] > 200, 60)
        w.c.kill()
        conn = w.a.lmtp()
        number = 1000

        def expelled():
            nonlocal number
            for _ in range(40):
                number += 1
                check_equal(w.a.deliver(conn, ["bob"], solid(
                    number, 20000, "bob")), [250], "mail while c is away")
            return channels(w.a)["third"]["state"] == "reseed"
        wait_for("the channel to be given up", expelled, 120)
        check(log_has(w.a, "store.slot_expelled"), "not in the log")
        first = here(w.a)["first_lsn"]
        wait_for("the log to be let go", lambda: expelled() and
                 here(w.a)["first_lsn"] > max(first, 310), 120)
        w.wait_equal(timeout=60)
        before = here(w.b)["instance"]
        w.c.start()
        wait_for("c to be seeded", lambda: same(w.a, w.c), 120)
        with open(w.c.log) as f:
            kept = re.search(r"failover.reseed kept=(\d+) bodies", f.read())
        check(kept and int(kept.group(1)) >= 100, "bodies kept: %s" % kept)
        check_equal(channels(w.a)["third"]["state"], "streaming", "channel")
        check_same_picture(w.a, w.c, ["alice", "bob"])
        check_equal(here(w.b)["instance"], before, "b")
        w.deliver_all(w.a, [9001])
        wait_for("c to follow", lambda: same(w.a, w.c), 60)
        no_crash(w.a, w.b, w.c)


def test_log_of_a_replica_goes(bin_dir):
    """Both twins run sync_client, as usual; the one that waits until its
    instance is the master keeps no log.  After a swap the roles are changed."""
    with World(bin_dir, SMALL) as w:
        number = 0

        def goes(master, replica):
            nonlocal number
            flood(master, number + 1, 100, size=9000)
            number += 100
            return (here(replica)["first_lsn"] > first and
                    channels(replica)["default"]["state"] == "waiting")
        for master, replica in ((w.a, w.b), (w.b, w.a)):
            w.wait_equal(master)
            first = here(replica)["durable"]
            wait_for("the log to be let go", lambda: goes(master, replica), 60)
            w.wait_equal(master, timeout=60)
            master.must("swap")
        w.wait_equal(w.a)
        check_same_picture(w.a, w.b, ["alice"])
        check(not log_has(w.a, "store.slot_expelled") and
              not log_has(w.b, "store.slot_expelled"), "given up")
        no_crash(w.a, w.b)


def test_reseed_by_hand(bin_dir):
    """-A does the same where nothing was given up by itself, and refuses a
    replica that holds what is not ours."""
    with Three(bin_dir, SMALL, third={"third_sync_log_cap": "1M"}) as w:
        flood(w.a, 1, 200, size=4000)
        wait_for("c to be equal", lambda: same(w.a, w.c), 60)
        w.c.kill()
        # Without its slot nothing is kept for it, and nothing is known of it.
        w.a.stop()
        os.unlink(os.path.join(w.a.dir, "conf", "synclog", "slots", "third"))
        w.a.configure(options={"third_sync_host": w.c.host})
        w.a.start()
        flood(w.a, 1000, 400, size=20000)
        wait_for("the log to be let go",
                 lambda: here(w.a)["first_lsn"] > 210, 60)
        w.c.start()
        done = w.a.run("sync_client", "-A", "-n", "third", "-o")
        check_equal(done.returncode, 0, "sync_client -A: " + done.stderr)
        wait_for("c to be equal", lambda: same(w.a, w.c), 60)
        check_same_picture(w.a, w.c, ["alice"])


def test_chain(bin_dir):
    with Three(bin_dir, chain=True) as w:
        w.deliver_all(w.a, range(1, 31))
        wait_for("the end of the chain", lambda: same(w.a, w.c))
        check_equal(numbers(w.c, "alice"), list(range(1, 31)), "mail at c")
        w.b.kill()
        w.deliver_all(w.a, range(31, 61))
        w.b.start()
        wait_for("the end of the chain", lambda: same(w.a, w.c), 60)
        # It is fed by whoever b is: also by a master.
        w.a.must("swap")
        w.deliver_all(w.b, range(61, 71))
        w.wait_equal(asked=w.b)
        wait_for("the end of the chain", lambda: same(w.b, w.c), 60)
        check_equal(here(w.c)["epoch"], 2, "epoch at the end of the chain")
        # And when it is the replica again.
        w.b.must("swap")
        w.deliver_all(w.a, range(71, 81))
        wait_for("the end of the chain", lambda: same(w.a, w.c), 60)
        check_equal(numbers(w.c, "alice"), list(range(1, 81)), "mail at c")
        no_crash(w.a, w.b, w.c)


def test_delayed_replica(bin_dir):
    """c has it at once and shows it later, over a restart too; promoted, it
    shows all."""
    with Three(bin_dir) as w:
        w.c.configure(rolling=False, options={"sync_apply_delay": "1h"})
        w.c.stop()
        w.c.start()
        w.deliver_all(w.a, range(1, 31))

        def has_it():
            third = channels(w.a)["third"]
            return third["state"] == "streaming" and \
                third["durable"] == here(w.a)["durable"]
        wait_for("it to be durable at c", has_it)
        check_equal(here(w.c)["durable"], here(w.a)["durable"], "log of c")
        check(here(w.c)["applied"] < here(w.a)["applied"], "applied at once")
        w.c.kill()
        w.deliver_all(w.a, range(31, 41))
        w.c.start()
        wait_for("it to be durable at c", has_it, 60)
        check_equal(here(w.c)["durable"], here(w.a)["durable"], "log of c")
        applied = here(w.c)["applied"]
        check(applied < here(w.a)["applied"], "applied by a restart")
        # A shorter delay, by which some of it is due.
        w.c.stop()
        w.c.configure(rolling=False, options={"sync_apply_delay": "1s"})
        w.c.start()
        wait_for("c to show it", lambda: same(w.a, w.c), 60)
        w.c.stop()
        w.c.configure(rolling=False, options={"sync_apply_delay": "1h"})
        w.c.start()
        w.deliver_all(w.a, range(41, 61))
        wait_for("it to be durable at c", has_it, 60)
        w.a.kill()
        w.b.kill()
        w.c.must("promote", timeout=120)
        check_equal(numbers(w.c, "alice"), list(range(1, 61)), "after promotion")
        w.deliver_all(w.c, [61])
        check_equal(numbers(w.c, "alice"), list(range(1, 62)), "as a master")
        no_crash(w.c)


def test_no_swap_with_a_delayed_twin(bin_dir):
    """It is refused before anything changes, and says why."""
    with World(bin_dir) as w:
        w.b.stop()
        w.b.configure(options={"sync_apply_delay": "1h"})
        w.b.start()
        w.deliver_all(w.a, range(1, 4))
        wait_for("the channel to stream", lambda:
                 w.a.status()["channels"][0]["state"] == "streaming")
        for args in (("swap",), ("--force", "swap")):
            code, out, err = w.a.ctl(*args)
            check_equal(code, 1, "swap: " + out + err)
            check("sync_apply_delay" in err and "3600 s ago" in err, err)
        check_equal(w.a.role(), "master", "role")
        w.deliver_all(w.a, [4])
        # Without the delay it goes.
        w.b.stop()
        w.b.configure()
        w.b.start()
        w.wait_equal()
        w.a.must("swap")
        check_equal(numbers(w.b, "alice"), [1, 2, 3, 4], "after the swap")
        no_crash(w.a, w.b)


def test_parked_channel(bin_dir):
    """A channel that may not log in says why and since when; the other one
    goes on."""
    with Three(bin_dir, third={"third_sync_password": "wrong"}) as w:
        w.deliver_all(w.a, range(1, 6))
        w.wait_equal()
        parked = wait_for("the channel to be parked", lambda:
                          channels(w.a)["third"]["state"] == "parked" and
                          channels(w.a)["third"])
        check("login" in parked["text"], "reason: " + parked["text"])
        check(parked["since_us"] > 0, "no age")
        _, out, _ = w.a.ctl("status")
        check(re.search(r"channel third to .*: parked for \d+ s", out),
              "status: " + out)
        w.deliver_all(w.a, range(6, 11))
        w.wait_equal()


def test_swap_waits_for_the_stream(bin_dir):
    """Right after the twin was started its stream is still to come."""
    with World(bin_dir) as w:
        w.deliver_all(w.a, range(1, 4))
        w.wait_equal()
        w.b.stop()
        # Until it asks each second or two only.
        wait_for("sync_client to have looked for it a few times", lambda:
                 w.a.status()["channels"][0]["state"] == "connecting")
        w.b.start()
        w.a.must("swap")
        w.wait_equal(w.b)
        check_equal(w.b.role(), "master", "role of b")
        check_equal(numbers(w.b, "alice"), [1, 2, 3], "after the swap")


def test_no_swap_by_anothers_stream(bin_dir):
    """That a third one is shipped to is no reason to ask the twin."""
    with Three(bin_dir) as w:
        w.deliver_all(w.a, range(1, 4))
        w.wait_equal()
        w.a.stop()
        w.a.configure(rolling=False, options={"third_sync_host": w.c.host},
                      channels=["third"])
        w.a.start()
        wait_for("the third one", lambda: channels(w.a)["third"]["state"] ==
                 "streaming")
        code, out, err = w.a.ctl("swap")
        check_equal(code, 1, "swap: " + out + err)
        check("no sync_client ships to the twin" in err, err)
        check_equal(w.a.role(), "master", "role")
        w.deliver_all(w.a, [4])


if __name__ == "__main__":
    run([test_three_replicas, test_beyond_the_cap, test_log_of_a_replica_goes,
         test_reseed_by_hand,
         test_chain, test_delayed_replica, test_no_swap_with_a_delayed_twin,
         test_swap_waits_for_the_stream, test_no_swap_by_anothers_stream,
         test_parked_channel])
