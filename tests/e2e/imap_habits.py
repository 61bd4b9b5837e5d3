"""What a client of imap_stress.py does with the later extensions: results that
are kept level (RFC 5267), NOTIFY (5465), searches of many mailboxes (7377),
annotations (5257), parts of a FETCH (9394), starting afresh (8437).  Mixed into
imap_client.Client.
"""

import re
import time

from imap_watch import NONE, Notify
from imap_words import members

MAY_FAIL = ("OK", "NO")
NAMED = ["INBOX", "a", "b"]
KEYS = ["ALL", "UNSEEN", "FLAGGED", "DELETED", "KEYWORD $one",
        "OR FLAGGED KEYWORD $two", "SUBJECT message UNDELETED",
        "LARGER 500 UNANSWERED", 'ANNOTATION /comment value.shared "x"']
SORTS = ["ARRIVAL", "REVERSE SUBJECT", "SIZE", "REVERSE SIZE ARRIVAL",
         "ANNOTATION /comment value.shared"]
NEWS = "UID BODY.PEEK[HEADER.FIELDS (X-Number)]"


class Habits:
    def habits(self):
        return [(4, self.keep_level), (1, self.cancel), (3, self.notify),
                (4, self.listen), (2, self.search_many), (2, self.part),
                (2, self.changed), (1, self.start_afresh)]

    # ---- results that are kept level ---------------------------------------

    def keep_level(self):
        s, rng = self.s, self.rng
        uid = self.by_uid or rng.random() < 0.6
        items = NEWS if rng.random() < 0.3 else ""
        update = "UPDATE (%s)" % items if items else "UPDATE"
        key, only = rng.choice(KEYS), None
        again = key
        if rng.random() < 0.2:
            which, only = self.some(uid)
            if which is None or None in only:
                return
            key, again = "%s%s %s" % ("UID " if uid else "", which, key), None
        sort = rng.choice(SORTS) if rng.random() < 0.4 else None
        reply = s.do("%s%s RETURN (%s ALL) %s%s" % (
            "UID " if uid else "", "SORT" if sort else "SEARCH", update,
            "(%s) UTF-8 " % sort if sort else "", key), MAY_FAIL,
            returns={"ALL"}, keep=(sort, again, items))
        kept = s.contexts.get(s.tag)
        if kept is None:
            return
        if s.limited is not None or not reply.startswith("OK"):
            kept.key = None
        # "1:*" may be more than was known (NOTIFY).
        if uid and only is not None and "1:*" not in key:
            kept.only = set(only)
        self.shared.counts["results kept level"] += 1

    def cancel(self):
        s = self.s
        if s.contexts:
            tags = self.rng.sample(sorted(s.contexts),
                                   self.rng.randint(1, len(s.contexts)))
            s.do("CANCELUPDATE " + " ".join('"%s"' % t.decode() for t in tags))

    def settle_results(self):
        """Each result that is kept is what is found now."""
        s, compared = self.s, 0
        for kept in list(s.contexts.values()):
            self.shared.counts["updates of results"] += kept.updates
            kept.updates = 0
            if kept.lost or kept.key is None:
                continue
            s.do("%s%s RETURN (ALL) %s%s" % (
                "UID " if kept.uid else "", "SORT" if kept.sort else "SEARCH",
                "(%s) UTF-8 " % kept.sort if kept.sort else "", kept.key))
            found = [members(w[w.index(b"ALL") + 1]) for w in s.data
                     if w[0] == b"ESEARCH" and b"ALL" in w]
            found = found[0] if found else []
            if s.limited is not None:
                continue
            if found != (kept.results if kept.sort else sorted(kept.results)):
                kept.fail("%s %s is %r, was kept as %r" % (
                    kept.sort, kept.key, found, kept.results))
            compared += 1
        self.shared.counts["results compared"] += compared
        return compared

    # ---- NOTIFY --------------------------------------------------------------

    def notify(self):
        s, rng = self.s, self.rng
        selected = None
        if rng.random() < 0.85:
            events = {"MessageNew", "MessageExpunge"} | set(rng.sample(
                ["FlagChange", "FlagChange", "AnnotationChange"],
                rng.randint(0, 2)))
            selected = (rng.random() < 0.6, events,
                        NEWS if rng.random() < 0.4 else "")
        groups = []
        for _ in range(rng.randint(0, 2)):
            source = rng.choice(["PERSONAL", "PERSONAL", "INBOXES",
                                 "SUBSCRIBED", "SUBTREE", "MAILBOXES",
                                 "MAILBOXES"])
            names = rng.sample(NAMED + ["t0", "t1"], 2) if source in (
                "SUBTREE", "MAILBOXES") else []
            events = set(rng.sample(
                ["MailboxName", "SubscriptionChange", "MailboxMetadataChange",
                 "ServerMetadataChange"], rng.randint(0, 2)))
            if rng.random() < 0.7:
                events |= {"MessageNew", "MessageExpunge"}
                events |= set(rng.sample(["FlagChange"], rng.randint(0, 1)))
            if events:
                groups.append((source, names, events))
        wish = Notify(selected, groups, rng.random() < 0.7) \
            if rng.random() < 0.9 and (selected or groups) else NONE
        s.next_notify = wish
        s.names = None
        s.watched = {}
        reply = s.do(wish.command(), MAY_FAIL)
        self.shared.counts["NOTIFY"] += 1
        if not reply.startswith("OK") or s.box is None:
            return
        if wish.status:
            told = {w[1].decode(): w[2] for w in s.data if w[0] == b"STATUS"}
            for name in NAMED:
                if name == s.box.name.decode():
                    continue
                if wish.events_of(name, surely=True) & {
                        "MessageNew", "FlagChange"} and name not in told:
                    s.fail("NOTIFY SET STATUS did not tell of %s" % name)
                if name in told and "MessageNew" in wish.events_of(
                        name, surely=True):
                    s.watched[name] = dict(s.status[name])
        if "MailboxName" in set().union(set(), *(
                e for source, _, e in wish.groups if source == "PERSONAL")):
            s.names = set()
            s.do('LIST "" *')
        if s.box is not None and s.box.stale and s.tells_flags():
            self.fetch_flags()
            s.box.stale = False
        elif s.box is not None and None in s.box.uids:
            self.learn()

    def listen(self):
        """Between commands, if anything may come then."""
        s = self.s
        if s.may_be_told_anything():
            s.listen(self.rng.uniform(0.02, 0.3))
            self.shared.counts["told between commands"] += len(s.data)
            s.data = []
        if s.box is not None and not s.bye and None in s.box.uids:
            self.learn()

    def hear(self, picture, names):
        """All that NOTIFY promises comes without a command."""
        s, end = self.s, time.monotonic() + 30
        here = s.box and picture.get(s.box.name)

        def missing():
            if here and here.mailboxid == s.box.mailboxid and \
                    s.immediate() and len(here.uids) != len(s.box.uids):
                return "%d messages" % len(here.uids)
            for name, told in s.watched.items():
                there = picture.get(name.encode())
                if there and there is not here and \
                        int(told["UIDNEXT"]) != there.uidnext:
                    return "UIDNEXT %d of %s" % (there.uidnext, name)
            if s.names not in (None, names):
                return "names %r, but %r" % (sorted(names), sorted(s.names))
            return None
        while missing() and not s.bye:
            s.listen(0.05)
            if time.monotonic() > end:
                s.fail("is not told of %s" % missing())
                return
        if s.immediate():
            self.shared.counts["heard without a command"] += 1

    def settle_watched(self, picture, names):
        """What NOTIFY has told of other mailboxes adds up."""
        s, compared = self.s, 0
        here = s.box.name.decode() if s.box else None
        for name, told in s.watched.items():
            there = picture.get(name.encode())
            if name == here or there is None:
                continue
            if int(told["UIDNEXT"]) != there.uidnext or \
                    int(told["MESSAGES"]) != len(there.uids):
                s.fail("%s has UIDNEXT %d and %d messages, NOTIFY told %r" % (
                    name, there.uidnext, len(there.uids), told))
            compared += 1
        if s.names is not None:
            if s.names != names:
                s.fail("NOTIFY told of %r, there are %r" % (
                    sorted(s.names), sorted(names)))
            compared += 1
        self.shared.counts["watched mailboxes compared"] += compared
        return compared

    # ---- others ----------------------------------------------------------------

    def search_many(self):
        s, rng = self.s, self.rng
        where = rng.choice(["PERSONAL", "MAILBOXES (INBOX a)", "SELECTED",
                            "SUBTREE b", "SELECTED SUBSCRIBED", "INBOXES"])
        s.do("ESEARCH IN (%s) RETURN (ALL COUNT) %s" % (where,
                                                       rng.choice(KEYS)),
             MAY_FAIL, returns={"ALL", "COUNT", "MODSEQ"})
        seen = set()
        for words in s.data:
            if words[0] != b"ESEARCH" or b"COUNT" not in words:
                continue
            about = dict(zip(words[1][::2], words[1][1::2]))
            name = about[b"MAILBOX"].decode()
            if name in seen:
                s.fail("%s twice" % name)
            seen.add(name)
            found = members(words[words.index(b"ALL") + 1])
            if len(found) != int(words[words.index(b"COUNT") + 1]):
                s.fail("COUNT of %r" % words)
            if name in NAMED and int(about[b"UIDVALIDITY"]) != \
                    self.shared.validities[name]:
                s.fail("another UIDVALIDITY: %r" % words)

    def part(self):
        """FETCH of the first or last few."""
        s = self.s
        if not s.box.uids:
            return
        reply = s.do("UID FETCH 1:* (UID ENVELOPE) (PARTIAL %s)" %
                     self.rng.choice(["1:5", "-1:-5"]), MAY_FAIL,
                     asked="(UID ENVELOPE)")
        told = [u for u, items in s.answered.items() if b"ENVELOPE" in items]
        if len(told) > 5:
            s.fail("PARTIAL of five told %r" % told)
        if reply.startswith("OK") and s.box and not told and \
                len([u for u in s.box.uids if u]) > 5:
            s.fail("PARTIAL told nothing")

    def changed(self):
        """CHANGEDSINCE, and what has vanished since."""
        s = self.s
        if not s.condstore or not s.box.highest:
            return
        vanished = " VANISHED" if "QRESYNC" in s.enabled else ""
        self.s.do("UID FETCH 1:* (FLAGS) (CHANGEDSINCE %d%s)" % (
            s.box.highest, vanished), MAY_FAIL, asked="(FLAGS)")
        for words in s.data:
            if words[0] == b"VANISHED" and isinstance(words[1], list):
                left = set(members(words[2])) & set(s.box.uids)
                if left and s.tells("MessageExpunge"):
                    s.fail("VANISHED (EARLIER) of %r, which are there" % left)

    def annotate(self):
        which, uids = self.some(True)
        if which is None or len(uids) > 50:
            return
        self.s.do("UID STORE %s ANNOTATION (/comment (value.%s %s))" % (
            which, self.rng.choice(["shared", "shared", "priv"]),
            self.rng.choice(['"x"', '"y"', "NIL"])), MAY_FAIL)

    def start_afresh(self):
        s = self.s
        if s.condstore:
            self.keep_cache()
        if self.rng.random() < 0.3:
            s.do("LOGOUT")
            if not s.bye:
                s.fail("no BYE")
            s.bye = b""
            s.close()
            self.s = None
            return
        s.do("UNAUTHENTICATE")
        s.log_in()
        if self.rng.random() < 0.3 and s.deflate is None:
            s.do("COMPRESS DEFLATE")
        self.enable()
        self.select()

    def refused(self):
        """Nothing is written at a replica, and it says why."""
        s = self.s
        which, _ = self.some(True)
        lines = ["APPEND INBOX {3+}\r\nx\r\n", "CREATE t9", "SUBSCRIBE b",
                 'SETMETADATA a (/shared/comment "x")']
        if which:
            lines += ["UID STORE %s +FLAGS (\\Seen)" % which,
                      "UID COPY %s a" % which, "UID MOVE %s a" % which,
                      "UID EXPUNGE %s" % which]
        line = self.rng.choice(lines)
        reply = s.do(line, ("NO",))
        if not re.match(r"NO (\[UNAVAILABLE\]|Mailbox is read-only)", reply):
            s.fail("the replica answers %r" % reply)
