"""What a session has asked to be told of, and what it must be told then: results
of searches that are kept level (RFC 5267), and NOTIFY (RFC 5465).
"""

from imap_words import members

MESSAGES = {"MessageNew", "MessageExpunge"}
CHANGES = {"FlagChange", "AnnotationChange"}
NAMES = {"MailboxName", "SubscriptionChange"}


class Context:
    """The result of one SEARCH or SORT with UPDATE.  KEY says how to find it
    again; None: by numbers of then, which cannot be asked for any more."""

    def __init__(self, session, tag, uid, sort, key, items):
        self.session, self.tag, self.uid = session, tag, uid
        self.sort, self.key, self.items = sort, key, items
        self.results = None  # numbers or UIDs; of SORT in its order
        self.only = None     # no others than these UIDs may come in
        self.lost = False    # a number changed that is not known
        self.updates = 0

    def fail(self, text):
        self.session.fail("result of %s: %s" % (self.tag.decode(), text))
        self.lost = True

    def start(self, numbers):
        self.results = list(numbers)
        if len(set(numbers)) != len(numbers):
            self.fail("twice in %r" % numbers)
        for n in numbers:
            self.must_be_there(n)

    def must_be_there(self, n):
        box = self.session.box
        if self.uid:
            if n not in box.uids and None not in box.uids:
                self.fail("UID %d is not there" % n)
        elif not 1 <= n <= len(box.uids):
            self.fail("number %d of %d" % (n, len(box.uids)))

    def update(self, uid, data):
        """DATA: ADDTO and REMOVEFROM with their lists, in order."""
        self.updates += 1
        if self.results is None:
            self.fail("an update before the result")
            return
        if uid != self.uid:
            self.fail("UIDs for numbers, or the reverse")
        for name, pairs in data:
            for at in range(0, len(pairs), 2):
                take = self.comes if name == b"ADDTO" else self.leaves
                for k, n in enumerate(members(pairs[at + 1])):
                    take(int(pairs[at]), k, n)

    def comes(self, position, k, n):
        if self.lost:
            return
        self.must_be_there(n)
        if n in self.results:
            self.fail("ADDTO of %d, which is in it" % n)
        elif self.only is not None and n not in self.only:
            self.fail("ADDTO of %d, which was not asked for" % n)
        elif position == 0:
            if self.sort:
                self.fail("ADDTO without a position")
            self.results.append(n)
        elif position + k > len(self.results) + 1:
            self.fail("ADDTO at %d of %d" % (position + k, len(self.results)))
        else:
            self.results.insert(position + k - 1, n)

    def leaves(self, position, _, n):
        if self.lost:
            return
        if position == 0 and self.sort:
            self.fail("REMOVEFROM without a position")
        elif n not in self.results:
            self.fail("REMOVEFROM of %d, which is not in it" % n)
        elif position == 0:
            self.results.remove(n)
        elif not 1 <= position <= len(self.results) or \
                self.results[position - 1] != n:
            self.fail("REMOVEFROM of %d at %d of %r" % (n, position,
                                                        self.results))
        else:
            self.results.pop(position - 1)

    def expunged(self, number, uid):
        """NUMBER None: it is not known."""
        if self.results is None or self.lost:
            return
        if self.uid:
            if uid in self.results:
                self.fail("UID %d went without REMOVEFROM" % uid)
            return
        if number is None:
            self.lost = True
        elif number in self.results:
            self.fail("%d went without REMOVEFROM before it" % number)
        else:
            self.results = [n - (n > number) for n in self.results]


class Notify:
    """One NOTIFY SET.  SELECTED: None, or (delayed, events, items of new
    messages); GROUPS: [(source, names, events)]."""

    def __init__(self, selected=None, groups=(), status=False):
        self.selected, self.groups, self.status = selected, groups, status

    def command(self):
        words = ["NOTIFY SET"] + (["STATUS"] if self.status else [])
        if self.selected is not None:
            delayed, events, items = self.selected
            words.append("(SELECTED%s %s)" % (
                "-DELAYED" if delayed else "",
                "(%s)" % " ".join(
                    e + (" (%s)" % items if items and e == "MessageNew" else "")
                    for e in sorted(events, reverse=True))
                if events else "NONE"))
        for source, names, events in self.groups:
            words.append("(%s%s (%s))" % (
                source, " (%s)" % " ".join(names) if names else "",
                " ".join(sorted(events))))
        return " ".join(words) if self.selected or self.groups else \
            "NOTIFY NONE"

    # ---- the selected mailbox ----

    def tells(self, event):
        return self.selected is not None and event in self.selected[1]

    def immediate(self):
        """Sequence numbers may change at any time (5.3)."""
        return self.tells("MessageExpunge") and not self.selected[0]

    def items(self):
        return self.selected[2] if self.selected else ""

    # ---- others ----

    def events_of(self, name, surely=False):
        """What may be told of NAME; SURELY: what must be."""
        found = set()
        for source, names, events in self.groups:
            if source in ("SUBSCRIBED", "INBOXES"):
                there = not surely
            elif source == "PERSONAL":
                there = True
            else:
                there = name in names or source == "SUBTREE" and any(
                    name.startswith(n + "/") for n in names)
            if there:
                found |= set(events)
        return found

    def all_events(self):
        return set().union(*(events for _, _, events in self.groups))


NONE = Notify()


def may_status(notify, name, items, condstore):
    """Why "* STATUS NAME (ITEMS)" is not to be told unasked; None: it is."""
    events = notify.events_of(name)
    if not events & (MESSAGES | CHANGES):
        return "STATUS of %s was not asked for" % name
    may = {"UIDNEXT", "MESSAGES"} if events & MESSAGES else set()
    if events & CHANGES:
        may.add("UIDVALIDITY")
    if condstore:
        may.add("HIGHESTMODSEQ")
    if not set(items) <= may:
        return "STATUS of %s with %r" % (name, sorted(set(items) - may))
    if "UIDNEXT" in items or "MESSAGES" in items:
        if not {"UIDNEXT", "MESSAGES"} <= set(items):
            return "STATUS of %s lacks one of UIDNEXT and MESSAGES" % name
    return None


def may_list(notify, name, attributes, old):
    events = notify.events_of(name) | (notify.events_of(old) if old else set())
    if b"\\NoAccess" in attributes and events:
        return None
    if not events & NAMES:
        return "LIST of %s was not asked for" % name
    if (old or b"\\NonExistent" in attributes) and \
            "MailboxName" not in events:
        return "LIST of %s, who asked for subscriptions" % name
    return None
