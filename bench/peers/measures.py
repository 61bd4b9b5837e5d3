"""What bench/run --peers asks of each server.

Each has a part (for --only), a text, what it NEEDS filled in before, and
measure(); "better" says whether more or less of its value is good.  TARGET is
the least ratio to Cyrus, BEST_TARGET the least to whichever peer is quicker;
RAW_TARGET the most that p50 may be of one sync.
"""

import servers

READER = "reader"    # has one large INBOX
FOLDERS = "folders"  # has many folders
USERS = servers.user_names(64)


class Load:
    """Messages a second by mailload."""
    better, unit, needs, best_target = "more", "/s", None, None

    def __init__(self, part, kib, connections, target=None, raw_target=None):
        self.part, self.kib, self.connections = part, kib, connections
        self.target, self.raw_target = target, raw_target
        self.text = "%s %d KiB, %d connection%s" % (
            part.upper(), kib, connections, "" if connections == 1 else "s")

    def measure(self, c, server, _round):
        load = c.append if self.part == "append" else c.lmtp
        r = load(server, "-c", self.connections, "-b", self.kib * 1024, "-u",
                 len(USERS), "-w", 1, "-t", c.seconds)
        r["value"] = r["per_s"]
        return r

    def raw(self, c):
        r = c.raw("-b", self.kib * 1024, "-g", self.connections)
        r["value"] = r["records_per_s"]
        return r

    def detail(self, r):
        return "p50 %.2f p99 %.2f ms, %.0f us CPU" % (
            r["p50_ms"], r["p99_ms"], r["server_cpu_us_each"])


class Command:
    """One IMAP command on a new connection, in milliseconds."""
    better, unit, raw, raw_target = "less", " ms", None, None

    def __init__(self, part, text, command, needs, pre=(), user=READER,
                 target=None, best_target=None):
        self.part, self.text, self.command = part, text, command
        self.needs, self.pre, self.user = needs, pre, user
        self.target, self.best_target = target, best_target

    def measure(self, c, server, _round):
        before = [w for p in self.pre for w in ("-x", p)]
        r = c.imap(server, self.user, *before, self.command)
        r["value"] = r["ms"]
        return r

    def detail(self, r):
        return "%.2f MB" % (r["bytes"] / 1e6)


class Status(Command):
    """The state of all folders: by one LIST where the server can, else by
    one STATUS for each, all sent at once."""

    ITEMS = "(MESSAGES UNSEEN UIDNEXT)"

    def __init__(self):
        super().__init__("status", "STATUS of {folders} folders", None,
                         "folders", user=FOLDERS, target=10)

    def measure(self, c, server, _round):
        if c.can(server, "LIST-STATUS"):
            r = c.imap(server, self.user,
                       'LIST "" "F*" RETURN (STATUS %s)' % self.ITEMS)
            r["how"] = "LIST RETURN (STATUS)"
        else:
            r = c.imap(server, self.user, "-n", c.folders, "-W", 500,
                       "STATUS F%d " + self.ITEMS)
            r["how"] = "pipelined STATUS"
        if r["lines"] < 2 * c.folders:
            raise SystemExit("%s: %d lines about %d folders" % (
                server.name, r["lines"], c.folders))
        r["value"] = r["ms"]
        return r

    def detail(self, r):
        return r["how"]


class Create:
    """Mailboxes a second; several connections are several users."""
    part, better, unit, needs = "create", "more", "/s", None
    target, raw, raw_target, best_target = 20, None, None, None

    def __init__(self, connections):
        self.connections = connections
        self.text = "CREATE, %d connection%s" % (
            connections, "" if connections == 1 else "s")

    def measure(self, c, server, round_number):
        r = c.append(server, "-x", "CREATE N%dx%dx%%d" % (
            self.connections, round_number), "-c", self.connections, "-u",
            len(USERS), "-w", 1, "-t", c.seconds)
        r["value"] = r["per_s"]
        return r

    def detail(self, r):
        return "p50 %.2f p99 %.2f ms, %.0f us CPU" % (
            r["p50_ms"], r["p99_ms"], r["server_cpu_us_each"])


class Logins:
    """Clients that connect, log in and go, as fast as they can: LOGIN without
    TLS.  Pollux and Cyrus ask SASL's sasldb, Dovecot a fixed password."""
    part, better, unit, needs, raw, raw_target = (
        "logins", "more", "/s", None, None, None)
    target = best_target = None

    def __init__(self, connections):
        self.connections = connections
        self.text = "LOGIN and LOGOUT, %d connection%s at a time" % (
            connections, "" if connections == 1 else "s")

    def measure(self, c, server, _round):
        r = c.tool(server, "logins", "-h", server.host, "-p",
                   server.imap_port, "-c", self.connections, "-t", c.seconds,
                   "-u", len(USERS))
        r["value"] = r["per_s"]
        return r

    def detail(self, r):
        return "p50 %.2f p99 %.2f ms, %.0f us CPU" % (
            r["p50_ms"], r["p99_ms"], r["server_cpu_us_each"])


SELECT = "SELECT INBOX"


def reading(part, command, text=None, target=None, best_target=1):
    """COMMAND on a selected mailbox, asked once before: all have read it."""
    return Command(part, "%s, {messages} messages" % (text or command),
                   command, "messages", pre=(SELECT, command), target=target,
                   best_target=best_target)


MEASURES = [
    Load("lmtp", 4, 1, target=4),
    Load("lmtp", 4, 8),
    Load("lmtp", 4, 32, target=15),
    Load("lmtp", 64, 8, target=6),
    Load("append", 4, 1, raw_target=2),
    Load("append", 4, 8, target=8),
    Create(1),
    Create(8),
    Command("store", "STORE 1:* +FLAGS (\\Flagged), {messages} messages",
            "STORE 1:* +FLAGS (\\Flagged)", "messages",
            pre=(SELECT, "STORE 1:* -FLAGS.SILENT (\\Flagged)"), target=4),
    Command("select", "SELECT, {messages} messages", SELECT, "messages"),
    reading("fetch", "FETCH 1:* (FLAGS UID)"),
    reading("fetch", "FETCH 1:* (ENVELOPE)"),
    reading("fetch", "FETCH 1:* (BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)])",
            "FETCH 1:* of two header fields"),
    reading("fetch", "FETCH 1:* (BODY.PEEK[])"),
    reading("search", "SORT (SUBJECT) UTF-8 ALL"),
    reading("search", "THREAD REFERENCES UTF-8 ALL"),
    reading("search", 'SEARCH SUBJECT "number 77"'),
    reading("search", 'SEARCH TEXT "number 7777"', target=20),
    reading("search", 'SEARCH BODY "xyzzyx"', target=20),
    Status(),
    Logins(1),
    Logins(8),
]
