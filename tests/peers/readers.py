"""\\Seen of one who may not see the mailbox any more, or not yet: it is kept at
both ends, and nothing of it is sent twice.

The same steps for any two sides; FIRST is brought level with SECOND by level(),
which follows the log to its end, and changes(), which is -A and says how many
changes that sent.
"""

import re

import imapstate
import load
from sides import PASSWORD, SYNC_PASSWORD, SYNC_USER


class Wrong(Exception):
    pass


class Readers:
    def __init__(self, first, second, owner, reader, level, changes):
        self.first, self.second = first, second
        self.owner_name, self.reader_name = owner, reader
        self.level, self.changes = level, changes
        self.owner = imapstate.connect(first, owner, PASSWORD)
        self.reader = imapstate.connect(first, reader, PASSWORD)

    def close(self):
        self.owner.logout()
        self.reader.logout()

    # ---- what they do ----

    def must(self, c, command, *args):
        kind, data = c._simple_command(command, *args)
        if kind != "OK":
            raise Wrong("%s %s: %s %s" % (command, args, kind, data))

    def folder(self, name, messages):
        """Made, with so many messages; its UNIQUEID."""
        self.must(self.owner, "CREATE", name)
        for i in range(messages):
            self.owner.append(name, None, None,
                              b"Subject: %d\r\n\r\n%d\r\n" % (i, i))
        data = imapstate.untagged(self.owner, "STATUS", name, "(MAILBOXID)")
        return re.search(rb"MAILBOXID \((\S+?)\)", data[0]).group(1).decode()

    def let(self, name, rights):
        self.must(self.owner, "SETACL", name, self.reader_name,
                  '"%s"' % rights)

    def mark(self, name, uids, sign="+"):
        self.must(self.reader, "SELECT", self.others(name))
        self.reader.state = "SELECTED"
        self.reader.uid("STORE", uids, sign + "FLAGS", "(\\Seen)")
        self.must(self.reader, "UNSELECT")
        self.reader.state = "AUTH"

    def others(self, name):
        return '"Other Users/%s/%s"' % (self.owner_name, name)

    # ---- what is to be so ----

    def told(self, uniqueid):
        """UIDs that the peer says that the reader has seen, or None."""
        c = load.Csync(self.second, SYNC_USER, SYNC_PASSWORD)
        lines = c.say(b"GET META %s" % self.reader_name.encode())
        c.close()
        for line in lines:
            m = re.match(r"\* SEEN %\((.*)\)$", line.decode())
            words = m.group(1).split() if m else []
            found = dict(zip(words[::2], words[1::2]))
            if found.get("UNIQUEID") == uniqueid:
                return found["SEENUIDS"].strip('"')
        return None

    def read_there(self, name):
        """The same as the reader sees it at the peer, over IMAP."""
        c = imapstate.connect(self.second, self.reader_name, PASSWORD)
        kind, data = c.select(self.others(name), readonly=True)
        self.want("EXAMINE: %r" % data, kind, "OK")
        uids = c.uid("SEARCH", "SEEN")[1][0].decode()
        c.logout()
        return uids

    def want(self, what, found, wanted):
        if found != wanted:
            raise Wrong("%s: %r, not %r" % (what, found, wanted))

    def nothing_left(self, what):
        n, said = self.changes()
        if n != 0:
            raise Wrong("%s: -A sent %d changes\n%s" % (what, n, said))

    # ---- the steps ----

    def step(self, what, box, told):
        """All is level, and the peer says TOLD of the reader."""
        self.level()
        self.want(what, self.told(box) or "", told)
        self.nothing_left(what)

    def rights_lost_and_back(self, name):
        box = self.folder(name, 3)
        self.let(name, "lrs")
        self.mark(name, "1:2")
        self.step("read", box, "1:2")
        self.let(name, "")
        self.step("right lost", box, "1:2")
        self.let(name, "lrs")
        self.step("right back", box, "1:2")
        self.want("right back", self.read_there(name), "1 2")
        self.mark(name, "3")
        self.let(name, "")
        self.step("read, and right lost", box, "1:3")
        self.let(name, "lrs")
        self.step("and back", box, "1:3")
        self.want("and back", self.read_there(name), "1 2 3")
        return box

    def unread_again(self, name, box):
        self.mark(name, "1", "-")
        self.let(name, "")
        self.step("unread, and right lost", box, "2:3")
        self.let(name, "lrs")
        self.step("unread, and right back", box, "2:3")
        self.mark(name, "2:3", "-")
        self.step("unread", box, "")
        self.mark(name, "2")
        self.step("read again", box, "2")

    def renamed_and_deleted(self, name, box):
        self.must(self.owner, "RENAME", name, name + "To")
        self.step("renamed", box, "2")
        self.want("renamed", self.read_there(name + "To"), "2")
        self.must(self.owner, "DELETE", name + "To")
        self.step("deleted", box, "2")

    def never_told(self, name):
        """The peer hears of it when the reader may see the mailbox again."""
        box = self.folder(name, 2)
        self.let(name, "lrs")
        self.mark(name, "1")
        self.let(name, "")
        self.step("never told", box, "")
        self.let(name, "lrs")
        self.step("told late", box, "1")
        self.want("told late", self.read_there(name), "1")

    def go(self, name):
        """NAME: of folders that nobody has."""
        box = self.rights_lost_and_back(name)
        self.unread_again(name, box)
        self.renamed_and_deleted(name, box)
        self.never_told(name + "Late")
