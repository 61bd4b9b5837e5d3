#!/usr/bin/env python3
"""Manual pages: one for each program and file, each option of the sources in
it, rendered without a warning.

usage: test_man.py BINDIR
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

import programs

MAN = os.path.join(programs.TOP, "docs", "man")
TABLE = os.path.join(programs.TOP, "base", "config_options.c")
sys.path.insert(0, MAN)
sys.dont_write_bytecode = True
import options  # noqa: E402

FLAG = re.compile(r"\bFl ((?:\\-|[-\w])+)")


def page(name, section=8):
    try:
        return programs.read("docs", "man", "%s.%d" % (name, section))
    except OSError:
        raise AssertionError("docs/man/%s.%d is missing" % (name,
                                                           section)) from None


def imapd_conf():
    return subprocess.run(
        [sys.executable, "-B", os.path.join(MAN, "options.py"), TABLE,
         os.path.join(MAN, "imapd.conf.5.in")],
        check=True, capture_output=True, text=True).stdout


def flags(text):
    """All options that a page names; ".Fl dv" in a synopsis is not enough."""
    return {flag for line in text.splitlines()
            if line.startswith((".It Fl", ".Fl", ".Pq Fl"))
            or " Fl " in line
            for flag in FLAG.findall(line)}


def test_each_program_has_a_page_with_all_its_options():
    wrong = []
    for name in programs.names():
        letters, longs = programs.options(name)
        try:
            there = flags(page(name))
        except AssertionError as e:
            wrong.append(str(e))
            continue
        wrong += ["%s.8 lacks -%s" % (name, letter)
                  for letter in sorted(letters) if letter not in there]
        wrong += ["%s.8 lacks --%s" % (name, long_name)
                  for long_name in sorted(longs)
                  if "-" + long_name not in there]
    assert not wrong, "; ".join(wrong)


def test_no_page_names_an_option_that_is_gone():
    wrong = []
    for name in programs.names():
        letters, longs = programs.options(name)
        for line in page(name).splitlines():
            if not line.startswith(".It Fl"):
                continue
            for flag in FLAG.findall(line):
                if flag not in letters and flag[1:] not in longs:
                    wrong.append("%s.8 has -%s" % (name, flag))
    assert not wrong, "; ".join(wrong)


def test_exit_codes_of_ctl_failover_are_those_of_the_header():
    codes = re.findall(r"CTL_\w+ = (\d+),", programs.read("failover", "ctl.h"))
    there = re.findall(r"^\.It (\d+)$", page("ctl_failover"), re.M)
    assert codes == there, "header %r, page %r" % (codes, there)


def test_each_option_of_imapd_conf_is_told():
    text = imapd_conf()
    with open(TABLE) as f:
        rows = re.findall(r'\bROW\("([a-z0-9_]+)"', f.read())
    assert len(rows) > 500, "only %d rows were found" % len(rows)
    named = set(re.findall(r"^\.(?:It )?Cm ([a-z0-9_]+)", text, re.M))
    missing = sorted(set(rows) - named)
    assert not missing, "not in imapd.conf(5): %s" % " ".join(missing)
    # What works has its own words, default and all.
    for row in options.read_table(TABLE):
        if row["effect"] == "WORKS":
            assert ".It Cm %s :" % row["name"] in text, row["name"]
            assert row["help"] and len(row["help"]) > 5, row["name"]


def test_services_of_cyrus_conf_are_told():
    text = page("cyrus.conf", 5)
    source = programs.read("master", "programs.c")
    services = re.findall(r'\{"(\w+)",\s*PROGRAM_HOSTED', source)
    assert services, "no services found in master/programs.c"
    for name in services:
        assert "Cm %s" % name in text, name
    for word in ("cmd", "listen", "proto", "maxchild", "prefork", "period",
                 "at"):
        assert re.search(r"Cm (?:\w+ , )*%s\b" % word, text), word


def test_pages_render_without_a_warning():
    groff, mandoc = shutil.which("groff"), shutil.which("mandoc")
    if groff is None and mandoc is None:
        print("       (neither groff nor mandoc is installed: not rendered)")
        return
    with tempfile.TemporaryDirectory() as tmp:
        paths = [os.path.join(MAN, name) for name in sorted(os.listdir(MAN))
                 if re.search(r"\.[58]$", name)]
        generated = os.path.join(tmp, "imapd.conf.5")
        with open(generated, "w") as f:
            f.write(imapd_conf())
        for path in paths + [generated]:
            if groff:
                done = subprocess.run(
                    [groff, "-man", "-mdoc", "-Tutf8", "-ww", "-z", path],
                    capture_output=True, text=True)
                assert done.returncode == 0 and not done.stderr, done.stderr
            if mandoc:
                done = subprocess.run(
                    [mandoc, "-Tlint", "-Wwarning", path],
                    capture_output=True, text=True)
                said = [line for line in done.stdout.splitlines()
                        if "referenced manual not found" not in line]
                assert not said, "\n".join(said)


if __name__ == "__main__":
    sys.exit(programs.check_all(
        [(k, v) for k, v in list(globals().items()) if k.startswith("test_")]))
