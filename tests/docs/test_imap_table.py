#!/usr/bin/env python3
"""docs/imap.md: each capability that is announced has its row, and each test
that a row names is there.

usage: test_imap_table.py BINDIR
"""

import os
import re
import sys

import programs

DOC = programs.read("docs", "imap.md")
# Said by who.c in other ways than as a word of its lists.
MORE = ["SASL-IR", "STARTTLS", "LOGINDISABLED", "APPENDLIMIT=", "MESSAGELIMIT=",
        "COMPRESS=DEFLATE", "UNAUTHENTICATE"]


def announced():
    text = programs.read("imapd", "who.c")
    always = re.search(r'always\[\] = "([^"]+)"', text).group(1).split()
    after = re.search(r"after_login\[\] = \{(.*?)\};", text, re.S).group(1)
    for word in MORE:
        assert word in text, "%s is not announced any more" % word
    return always + re.findall(r'"([^"]+)"', after) + MORE


def test_each_capability_has_its_row():
    table = DOC[DOC.index("## Capabilities"):DOC.index("## Programs")]
    said = set()
    for row in re.findall(r"^\| ([^|]+) \|", table, re.M):
        family = ""
        for word in re.split(r", | ", row.replace("`", "")):
            word = word.strip("()")
            if word.startswith("="):
                word = family + word
            family = word.split("=")[0]
            said.add(word)
    missing = [c for c in announced() if c not in said]
    assert not missing, "no row for " + ", ".join(missing)


def test_each_test_that_is_named_is_there():
    there = {f for _, _, names in os.walk(os.path.join(programs.TOP, "tests"))
             for f in names}
    for name in set(re.findall(r"\b((?:test|fuzz)_\w+\.(?:c|py))", DOC)):
        assert name in there, "%s is named and not there" % name


failed = 0
for test in [test_each_capability_has_its_row,
             test_each_test_that_is_named_is_there]:
    try:
        test()
        print("ok     " + test.__name__)
    except AssertionError as e:
        print("FAILED %s: %s" % (test.__name__, e))
        failed = 1
sys.exit(failed)
