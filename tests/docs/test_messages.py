#!/usr/bin/env python3
"""docs/troubleshooting.md against the sources: what it quotes is said, and each
warning and error of the log is in it.

usage: test_messages.py BINDIR
"""

import glob
import os
import re
import sys

import programs

FOLDERS = ("base", "net", "mime", "synclog", "store", "csync", "failover",
           "admin", "metrics", "imapd", "lmtpd", "master", "cmd")


def sources():
    """All sources in one, adjacent string literals joined."""
    text = []
    for folder in FOLDERS:
        for path in sorted(glob.glob(os.path.join(programs.TOP, folder,
                                                  "*.c"))):
            with open(path, encoding="utf-8") as f:
                text.append(re.sub(r'"\s*\n\s*"', "", f.read()))
    return "\n".join(text)


def rows():
    """First cells of all tables."""
    for line in programs.read("docs", "troubleshooting.md").splitlines():
        if line.startswith("| ") and not line.startswith(("| message",
                                                          "| ---")):
            yield line.split(" | ")[0][2:]


def test_what_is_quoted_is_said():
    source = sources()
    plain = source.replace('\\"', '"')
    wrong = []
    for cell in rows():
        for event in re.findall(r"`([a-z]+\.[a-z_]+)`", cell):
            if '"%s"' % event not in source:
                wrong.append(event)
        quoted = re.match(r'"(.*)"$', cell)
        if quoted:
            # Replies begin with a code or a word that stands elsewhere.
            for part in quoted.group(1).split("…"):
                if part.strip() and part not in plain:
                    wrong.append(quoted.group(1))
        elif "`" not in cell:
            wrong.append("neither quoted nor an event: " + cell)
    assert not wrong, "not in the sources: %s" % "; ".join(wrong)


def test_each_warning_and_error_is_told():
    page = programs.read("docs", "troubleshooting.md")
    events = set(re.findall(r'log_(?:warn|error)\(\s*[^,]+,\s*"([a-z_.]+)"',
                            sources()))
    assert len(events) > 40, "only %d events were found" % len(events)
    missing = sorted(e for e in events if "`%s`" % e not in page)
    assert not missing, "not in docs/troubleshooting.md: %s" % " ".join(missing)


def test_links_between_documents_lead_somewhere():
    wrong = []
    for path in glob.glob(os.path.join(programs.TOP, "docs", "*.md")) + [
            os.path.join(programs.TOP, "README.md")]:
        with open(path, encoding="utf-8") as f:
            for name in re.findall(
                    r"\b((?:docs|tests|packaging)/[\w./-]*\w)", f.read()):
                if not os.path.exists(os.path.join(programs.TOP, name)):
                    wrong.append("%s: %s" % (os.path.basename(path), name))
    assert not wrong, "; ".join(wrong)


if __name__ == "__main__":
    sys.exit(programs.check_all(
        [(k, v) for k, v in list(globals().items()) if k.startswith("test_")]))
