#!/usr/bin/env python3
"""packaging/pollux.bash in a real bash: each option of the sources is offered,
none that is gone, verbs and values in their places.

usage: test_completion.py BINDIR
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

import programs

SCRIPT = os.path.join(programs.TOP, "packaging", "pollux.bash")


def bash(code, **env):
    done = subprocess.run(
        ["bash", "--norc", "-c", 'source "$1"\n' + code, "bash", SCRIPT],
        capture_output=True, text=True, env={**os.environ, **env})
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


def complete(*words, **env):
    """What is offered for the last of WORDS."""
    function = "_pollux" if words[0] == "pollux" else "_pollux_program"
    quoted = " ".join("'%s'" % w for w in words)
    return bash("COMP_WORDS=(%s); COMP_CWORD=%d; %s %s; "
                'echo "${COMPREPLY[@]}"' % (quoted, len(words) - 1, function,
                                           words[0]), **env)


def test_options_are_those_of_the_sources():
    wrong = []
    for name in programs.names():
        letters, longs = programs.options(name)
        want = {"-%s%s" % (k, "=" if v else "") for k, v in letters.items()}
        want |= {"--%s%s" % (k, "=" if v else "") for k, v in longs.items()
                 if k != "watch"}
        have = set(bash("_pollux_options " + name)) - {"--watch"}
        wrong += ["%s lacks %s" % (name, o) for o in sorted(want - have)]
        wrong += ["%s has %s" % (name, o) for o in sorted(have - want)]
    assert not wrong, "; ".join(wrong)


def test_all_programs_are_offered_and_verbs_are_those_of_the_sources():
    offered = set(complete("pollux", ""))
    assert offered == set(programs.names()) | {"-i"}, offered ^ set(
        programs.names())
    source = programs.read("failover", "ctl.c")
    table = source[source.index("} verbs[] = {"):]
    verbs = re.findall(r'\{"(\w+)", ctl_', table)
    assert len(verbs) >= 7, verbs
    assert sorted(complete("ctl_failover", "")) == sorted(verbs), verbs
    commands = re.findall(r'\{"(\w+)", (?:dump|verify|repair)\}',
                          programs.read("cmd", "synclog.c"))
    assert sorted(complete("synclog", "")) == sorted(commands), commands


def test_words_in_their_places():
    assert complete("ctl_failover", "sw") == ["swap"]
    assert complete("ctl_failover", "--json", "st") == ["status"]
    assert complete("ctl_failover", "--f") == ["--force"]
    assert complete("ctl_failover", "--color", "al") == ["always"]
    assert complete("ctl_failover", "--timeout", "") == []
    assert complete("pollux", "ctl_fail") == ["ctl_failover"]
    assert complete("pollux", "cyr_info", "conf-l") == ["conf-lint"]
    with tempfile.TemporaryDirectory() as tmp:
        os.makedirs(os.path.join(tmp, "be1"))
        env = {"POLLUX_CONF": tmp}
        assert complete("pollux", "-i", "", **env) == ["be1"]
        assert complete("pollux", "-i", "be1", "mbp", **env) == ["mbpath"]
        assert complete("pollux", "-i", "be1", "synclog", "r",
                        **env) == ["repair"]
        path = os.path.join(tmp, "imapd.conf")
        with open(path, "w"):
            pass
        assert complete("quota", "-C", path[:-3]) == [path]


def test_the_wrapper_finds_its_instance():
    wrapper = os.path.join(programs.TOP, "packaging", "pollux")
    with tempfile.TemporaryDirectory() as tmp:
        conf, lib = os.path.join(tmp, "etc"), os.path.join(tmp, "lib")
        os.makedirs(lib)
        os.makedirs(conf)
        with open(os.path.join(lib, "show"), "w") as f:
            f.write('#!/bin/sh\necho "$POLLUX_IMAPD_CONF" "$@"\n')
        os.chmod(os.path.join(lib, "show"), 0o755)

        def run(*args):
            done = subprocess.run(
                [wrapper, *args], capture_output=True, text=True,
                env={"PATH": os.environ["PATH"], "POLLUX_PROGRAMS": lib,
                     "POLLUX_CONF": conf})
            return done.returncode, done.stdout.strip()

        def make(name):
            os.makedirs(os.path.join(conf, name))
            with open(os.path.join(conf, name, "imapd.conf"), "w"):
                pass
        assert run("show", "a b") == (0, "a b")
        make("be1")
        assert run("show", "x") == (0, conf + "/be1/imapd.conf x")
        make("be2")
        assert run("show")[0] == 64
        assert run("-i", "be2", "show") == (0, conf + "/be2/imapd.conf")
        make("default")
        assert run("show") == (0, conf + "/default/imapd.conf")
        assert run("-i", "none", "show")[0] == 78
        assert run("../../bin/sh")[0] == 64
        assert run("nothing")[0] == 64
        assert run()[0] == 64


if __name__ == "__main__":
    if shutil.which("bash") is None:
        print("skipped: there is no bash")
        sys.exit(77)
    sys.exit(programs.check_all(
        [(k, v) for k, v in list(globals().items()) if k.startswith("test_")]))
