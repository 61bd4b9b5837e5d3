"""Two IMAP servers, asked everything about some users: are they equal?

Independent of how one became like the other: it knows IMAP and nothing else.
"""

import hashlib
import imaplib
import re
import socket

imaplib._MAXLINE = 100_000_000
for _name in ("GETMETADATA", "SETMETADATA", "GETQUOTAROOT", "ENABLE"):
    imaplib.Commands[_name] = ("AUTH", "SELECTED")

DELETED_STAMP = re.compile(r"[./][0-9A-F]{8}$")


def connect(side, user, password):
    c = imaplib.IMAP4(side.host, side.imap_port, timeout=60)
    # A command goes out in pieces, and none is to wait for an acknowledgement.
    c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    c.login(user, password)
    return c


def quoted(name):
    return '"%s"' % name.replace("\\", "\\\\").replace('"', '\\"')


def untagged(c, command, *args):
    """The data of all untagged answers named like COMMAND."""
    kind, data = c._simple_command(command, *args)
    if kind != "OK":
        raise imaplib.IMAP4.error("%s %s: %s" % (command, args, data))
    return c._untagged_response(kind, data, command)[1]


def flat(data):
    """Lines of imaplib, with literals in them as quoted strings."""
    out, cur = [], b""
    for part in data:
        if part is None:
            continue
        if isinstance(part, tuple):
            head = re.sub(rb"\{\d+\}$", b"", part[0])
            cur += head + b'"' + part[1] + b'"'
        else:
            out.append(cur + part)
            cur = b""
    if cur:
        out.append(cur)
    return out


def list_names(c, command):
    names = {}
    for line in flat(getattr(c, command)()[1]):
        m = re.match(rb'\((.*?)\) (?:"(.)"|NIL) (.*)$', line)
        if not m:
            continue
        name = m.group(3).decode()
        if name.startswith('"'):
            name = name[1:-1]
        names[name] = m.group(1).decode()
    return names


SPECIAL = {"\\all", "\\archive", "\\drafts", "\\flagged", "\\junk", "\\sent",
           "\\trash", "\\important", "\\snoozed"}


def special_use(flags):
    return sorted(f for f in flags.lower().split() if f in SPECIAL)


def acl_entries(line, name):
    """Identifiers and rights, less the obsolete letters."""
    parts = re.findall(rb'"([^"]*)"|(\S+)', line)
    words = [(a or b).decode() for a, b in parts]
    words = words[1:]
    return {words[i]: "".join(sorted(set(words[i + 1]) - set("cd")))
            for i in range(0, len(words) - 1, 2)}


METADATA = ("/shared/comment", "/private/comment",
            "/shared/vendor/pollux/test")


def metadata_of(c, name):
    found = {}
    for entry in METADATA:
        try:
            data = untagged_metadata(c, name, entry)
        except imaplib.IMAP4.error:
            continue
        for line in data:
            m = re.match(rb'.*?\(\S+ (?:"(.*)"|(\S+))\)$', line, re.S)
            if m:
                value = m.group(1) if m.group(1) is not None else m.group(2)
                if value != b"NIL":
                    found[entry] = value.replace(b'\\"', b'"').decode()
    return found


def untagged_metadata(c, name, entry):
    kind, data = c._simple_command("GETMETADATA", quoted(name), "(%s)" % entry)
    if kind != "OK":
        raise imaplib.IMAP4.error(data)
    return flat(c._untagged_response(kind, data, "METADATA")[1])


def messages_of(c, with_modseq):
    """{UID: (flags, date, size, hash[, MODSEQ])} of the selected mailbox."""
    found = {}
    items = "(UID FLAGS INTERNALDATE RFC822.SIZE%s BODY.PEEK[])" % (
        " MODSEQ" if with_modseq else "")
    kind, data = c.uid("FETCH", "1:*", items)
    if kind != "OK":
        raise imaplib.IMAP4.error(data)
    pending = None
    for part in data:
        if isinstance(part, tuple):
            pending = [part[0], part[1], b""]
        elif part is not None and pending is not None:
            pending[2] = part
        if pending is None or isinstance(part, tuple):
            continue
        text = (pending[0] + pending[2]).decode()
        uid = int(re.search(r"UID (\d+)", text).group(1))
        flags = re.search(r"FLAGS \(([^)]*)\)", text).group(1)
        date = re.search(r'INTERNALDATE "([^"]*)"', text).group(1)
        size = int(re.search(r"RFC822.SIZE (\d+)", text).group(1))
        row = (tuple(sorted(f.lower() for f in flags.split()
                            if f.lower() != "\\recent")),
               imaplib.Internaldate2tuple(
                   ('INTERNALDATE "%s"' % date).encode()),
               size, hashlib.sha1(pending[1]).hexdigest())
        if with_modseq:
            row += (int(re.search(r"MODSEQ \((\d+)\)", text).group(1)),)
        found[uid] = row
        pending = None
    return found


def mailbox_of(c, name, is_own, with_modseq):
    got = {}
    kind, data = c.status(quoted(name),
                          "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN%s)" % (
                              " HIGHESTMODSEQ" if with_modseq else ""))
    if kind != "OK":
        return {"status": str(data)}
    status = flat(data)[0]
    for item in (b"MESSAGES", b"UIDNEXT", b"UIDVALIDITY", b"UNSEEN",
                 b"HIGHESTMODSEQ"):
        m = re.search(item + rb" (\d+)", status)
        if m:
            got[item.decode()] = int(m.group(1))
    if is_own:
        kind, data = c.getacl(quoted(name))
        got["acl"] = acl_entries(flat(data)[0], name)
        got["metadata"] = metadata_of(c, name)
    kind, data = c.select(quoted(name), readonly=True)
    if kind != "OK":
        got["select"] = str(data)
        return got
    if got.get("MESSAGES"):
        got["messages"] = messages_of(c, with_modseq)
    c.unselect() if hasattr(c, "unselect") else c.close()
    return got


def quota_of(c):
    found = {}
    try:
        kind, data = c.getquotaroot("INBOX")
    except imaplib.IMAP4.error:
        return found
    if kind != "OK":
        return found
    for line in flat(data[1] if isinstance(data[1], list) else data):
        for m in re.finditer(rb"(STORAGE|MESSAGE|X-NUM-FOLDERS) (\d+) (\d+)",
                             line):
            # usage is counted by each in its own way
            found[m.group(1).decode()] = int(m.group(3))
    return found


def user_state(side, user, password, with_modseq=True):
    c = connect(side, user, password)
    state = {"mailboxes": {}}
    names = list_names(c, "list")
    for name in sorted(names):
        if "\\noselect" in names[name].lower() or \
                "\\nonexistent" in names[name].lower():
            continue
        own = not name.startswith(("Other Users", "Shared Folders"))
        state["mailboxes"][name] = mailbox_of(c, name, own, with_modseq)
        state["mailboxes"][name]["use"] = special_use(names[name])
    # Of mailboxes that are there: a Cyrus hides the others (RFC 3501, 6.3.9
    # leaves that open), they come again with their mailbox.
    state["subscribed"] = sorted(set(list_names(c, "lsub")) & set(names))
    state["quota"] = quota_of(c)
    c.logout()
    return state


def differences(a, b, where=""):
    """What differs, as lines; [] if nothing does."""
    if isinstance(a, dict) and isinstance(b, dict):
        out = []
        for key in sorted(set(a) | set(b), key=str):
            at = "%s/%s" % (where, key)
            if key not in a:
                out.append("%s: only in the second: %.200r" % (at, b[key]))
            elif key not in b:
                out.append("%s: only in the first: %.200r" % (at, a[key]))
            else:
                out += differences(a[key], b[key], at)
        return out
    return [] if a == b else ["%s: %.300r, %.300r" % (where, a, b)]


def count(state):
    """(mailboxes, messages)"""
    boxes = state["mailboxes"].values()
    return len(boxes), sum(len(b.get("messages", ())) for b in boxes)
