#!/usr/bin/env python3
"""options.py TABLE PAGE.in: print PAGE with the options of the table in the
places of @OPTIONS_OURS@, @OPTIONS_WORK@, @OPTIONS_NOT_YET@ and
@OPTIONS_NO_SENSE@.

TABLE is base/config_options.c: what a row says (type, default, one line of
help) is said there once, to --check-config, cyr_info and the manual.
"""

import re
import sys
import textwrap

ROW = re.compile(r'\bROW\(((?:[^()"]|"(?:[^"\\]|\\.)*"|\([^()]*\))*)\)')
WORDS = re.compile(r'static const char \*const (\w+)\[\]\s*=\s*\{(.*?)\};', re.S)
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
TYPES = {"STRING": "string", "INT": "number", "SWITCH": "switch",
         "ENUM": "one of", "BITFIELD": "some of", "DURATION": "duration",
         "BYTES": "bytes", "LIST": "list"}
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days",
         "B": "bytes", "K": "KiB", "M": "MiB", "G": "GiB"}


def split(text):
    """The arguments of a call, at its commas."""
    parts, now, quoted, i = [], "", False, 0
    while i < len(text):
        c = text[i]
        if quoted and c == "\\":
            now += text[i:i + 2]
            i += 2
            continue
        if c == '"':
            quoted = not quoted
        if c == "," and not quoted:
            parts.append(now.strip())
            now = ""
        else:
            now += c
        i += 1
    parts.append(now.strip())
    return parts


def literal(text):
    """The value of adjacent string literals; None for NULL."""
    if text == "NULL":
        return None
    return "".join(STRING.findall(text)).replace('\\"', '"').replace("\\\\",
                                                                     "\\")


def read_table(path):
    """[{name, type, effect, default, help, words, unit, ours, channel,
    replaced_by}] in the order of the table."""
    with open(path) as f:
        source = f.read()
    source = re.sub(r"/\*.*?\*/", " ", source, flags=re.S)
    words = {name: [w.split("=")[0] for w in STRING.findall(body)]
             for name, body in WORDS.findall(source)}
    rows = []
    for match in ROW.finditer(source):
        parts = split(match.group(1))
        name = literal(parts[0])
        if name is None or not parts[0].startswith('"'):
            continue
        more = dict(re.findall(r"\.(\w+)\s*=\s*([^,]+)",
                               ", ".join(parts[5:])))
        rows.append({
            "name": name, "type": parts[1], "effect": parts[2],
            "default": literal(parts[3]), "help": literal(parts[4]),
            "words": words.get(more.get("words", "").strip(), []),
            "unit": more.get("unit", "").strip("' "),
            "ours": more.get("ours") == "true",
            "channel": more.get("per_channel") == "true",
            "replaced_by": literal(more["replaced_by"])
            if "replaced_by" in more else None,
        })
    return rows


def escape(text):
    """Text for roff: no line begins with a control character."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(("\\&" + line if line[:1] in ".'" else line)
                     for line in textwrap.wrap(text, 76,
                                               break_long_words=False,
                                               break_on_hyphens=False))


def sentence(text):
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def entry(row):
    kind = TYPES[row["type"]]
    if row["words"]:
        kind += " " + ", ".join(row["words"])
    elif row["unit"] in UNITS and row["type"] in ("DURATION", "BYTES"):
        kind += ", a plain number is " + UNITS[row["unit"]]
    lines = [".It Cm %s : Ar %s" % (row["name"], row["type"].lower()),
             escape(sentence(row["help"]))]
    if row["words"]:
        lines.append(escape(sentence(kind)))
    elif row["unit"] in UNITS and row["type"] in ("DURATION", "BYTES"):
        lines.append(escape("A plain number is %s." % UNITS[row["unit"]]))
    if row["channel"]:
        lines.append("May be of one channel:\n.Ar channel Ns _%s ."
                     % row["name"])
    if row["default"] not in (None, ""):
        lines.append("Default:\n.Ql %s ." % row["default"].replace(
            "\\", "\\e").replace("-", "\\-"))
    if row["replaced_by"]:
        lines.append("An old name of\n.Cm %s ." % row["replaced_by"])
    return "\n".join(lines)


def full(rows):
    return ".Bl -tag -width Ds\n%s\n.El" % "\n".join(entry(r) for r in rows)


def names(rows):
    body = " ,\n".join(".Cm " + r["name"] for r in rows)
    return body + " ."


def main():
    rows = read_table(sys.argv[1])
    with open(sys.argv[2]) as f:
        page = f.read()
    works = [r for r in rows if r["effect"] == "WORKS"]
    for mark, text in (
            ("OURS", full([r for r in works if r["ours"]])),
            ("WORK", full([r for r in works if not r["ours"]])),
            ("NOT_YET", names([r for r in rows if r["effect"] == "NOT_YET"])),
            ("NO_SENSE", names([r for r in rows
                                if r["effect"] == "NO_SENSE"]))):
        place = "@OPTIONS_%s@" % mark
        if place not in page:
            sys.exit("%s: no %s" % (sys.argv[2], place))
        page = page.replace(place, text)
    sys.stdout.write(page)


if __name__ == "__main__":
    main()
