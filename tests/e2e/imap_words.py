"""Words of IMAP: responses as nested lists, sets of numbers, what a FETCH has
asked for."""

import re

LITERAL = re.compile(rb"\{(\d+)\}\r\n$")
ATOM = re.compile(rb"[A-Z0-9.]*\[[^\]]*\](<[\d.]+>)?|[^ ()\r\n]+")
LITERAL_HERE = re.compile(rb"~?\{(\d+)\+?\}\r\n")


def tokens(line):
    """A response as nested lists of bytes; None for NIL."""
    at = [0]

    def item():
        c = line[at[0]:at[0] + 1]
        if c == b"(":
            at[0] += 1
            return group()
        if c == b'"':
            out = bytearray()
            at[0] += 1
            while line[at[0]] != 0x22:
                if line[at[0]] == 0x5c:
                    at[0] += 1
                out.append(line[at[0]])
                at[0] += 1
            at[0] += 1
            return bytes(out)
        found = LITERAL_HERE.match(line, at[0])
        if found:
            n = int(found.group(1))
            at[0] = found.end() + n
            return line[found.end():at[0]]
        found = ATOM.match(line, at[0])
        if not found:
            raise ValueError("cannot parse %r" % line[at[0]:at[0] + 80])
        at[0] = found.end()
        return None if found.group(0) == b"NIL" else found.group(0)

    def group():
        out = []
        while True:
            c = line[at[0]:at[0] + 1]
            if c in (b")", b""):
                at[0] += 1
                return out
            if c == b" ":
                at[0] += 1
                continue
            if line[at[0]:] == b"\r\n":
                at[0] = len(line)
                continue
            out.append(item())

    return group()


def whole(raw):
    """How many bytes at the front of RAW are a response with its literals; 0:
    it has not come whole."""
    at = 0
    while True:
        end = raw.find(b"\n", at) + 1
        if end == 0:
            return 0
        found = LITERAL.search(raw, at, end)
        if not found or raw.startswith(b"+ "):
            return end
        at = end + int(found.group(1))
        if len(raw) < at:
            return 0


def members(text):
    """The numbers of a sequence set without stars, in its order."""
    out = []
    for part in text.decode().split(","):
        a, _, b = part.partition(":")
        out.extend(range(int(a), int(b or a) + 1))
    return out


def answers_to(items):
    """The names under which the items of a FETCH are told."""
    words = tokens(items.encode() if isinstance(items, str) else items)
    if len(words) == 1 and isinstance(words[0], list):
        words = words[0]
    return {re.sub(rb"<(\d+)\.\d+>$", rb"<\1>",
                   w.upper().replace(b".PEEK[", b"["))
            for w in words if isinstance(w, bytes)}
