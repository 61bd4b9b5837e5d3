#!/usr/bin/env python3
"""docs/imap-musts/: each demand of the RFCs has its row, and each test that a
row names is there.

The texts of the RFCs are not part of the project: they are looked for in
POLLUX_RFC, or in ../shared/rfc beside the sources.  Without them the rows are
not counted, and the test says so.

usage: test_imap_musts.py BINDIR
"""

import os
import re
import sys
from collections import Counter

import programs
import rfc_musts

RFCS = ["3501", "9051", "7162", "4314", "5256", "5258", "5464", "9208"]
TEXTS = os.environ.get("POLLUX_RFC",
                       os.path.join(programs.TOP, "..", "shared", "rfc"))
NAMED = re.compile(r"([\w/]*test_\w+\.c) (test_\w+)")


def text_of(rfc):
    return os.path.join(TEXTS, "rfc%s.txt" % rfc)


def rows(rfc):
    """[(section, what, how)]"""
    text = programs.read("docs", "imap-musts", "rfc%s.md" % rfc)
    found = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.M)
    return [r for r in found if r[0] not in ("section", "---")]


def test_each_row_says_how_or_why_not():
    for rfc in RFCS:
        for section, what, how in rows(rfc):
            assert (how == "binds the client" or
                    re.match(r"no test: \S", how) or NAMED.match(how) or
                    how.startswith("e2e/imap_stress.py")), \
                "RFC %s, %s, %s: %s" % (rfc, section, what, how)


def test_each_test_that_is_named_is_there():
    functions = {}
    for rfc in RFCS:
        for _, what, how in rows(rfc):
            for path, function in NAMED.findall(how):
                if "/" not in path:
                    path = "imapd/" + path
                if path not in functions:
                    source = programs.read("tests", *path.split("/"))
                    functions[path] = set(
                        re.findall(r"^(test_\w+)\(", source, re.M))
                assert function in functions[path], \
                    "RFC %s, %s: %s has no %s" % (rfc, what, path, function)
    assert functions, "no row names a test"


def test_each_sentence_has_its_row():
    if not os.path.isdir(TEXTS):
        print("skipped: the texts of the RFCs are not here (POLLUX_RFC)")
        return
    missing = [rfc for rfc in RFCS if not os.path.isfile(text_of(rfc))]
    assert not missing, "%s has no %s (POLLUX_RFC names another folder)" % (
        TEXTS, ", ".join("rfc%s.txt" % rfc for rfc in missing))
    for rfc in RFCS:
        asked = Counter(section or "-" for section, _ in
                        rfc_musts.sentences(text_of(rfc)))
        has = Counter(section for section, _, _ in rows(rfc))
        for section in sorted(set(asked) | set(has)):
            assert asked[section] == has[section], \
                "RFC %s, section %s: %d sentences, %d rows" % (
                    rfc, section, asked[section], has[section])


failed = 0
for test in [test_each_row_says_how_or_why_not,
             test_each_test_that_is_named_is_there,
             test_each_sentence_has_its_row]:
    try:
        test()
        print("ok     " + test.__name__)
    except AssertionError as e:
        print("FAILED %s: %s" % (test.__name__, e))
        failed = 1
sys.exit(failed)
