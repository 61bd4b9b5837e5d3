"""What the programs' sources say of their options, for tests of manual pages
and completion."""

import os
import re

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                    os.pardir, os.pardir))
LONG = re.compile(r'\{"([a-z][a-z0-9-]*)",\s*(\w+_argument),')


def read(*path):
    with open(os.path.join(TOP, *path), encoding="utf-8") as f:
        return f.read()


def names():
    return sorted(name[:-2] for name in os.listdir(os.path.join(TOP, "cmd"))
                  if name.endswith(".c"))


def letters_of(spec):
    """{letter: takes an argument} of getopt's string."""
    return {m.group(1): m.group(2) != ""
            for m in re.finditer(r"([a-zA-Z0-9])(:*)", spec)}


def options(name):
    """({letter: takes an argument}, {long name: ...}) of a program."""
    path = os.path.join(TOP, "admin", "tool_%s.c" % name)
    is_tool = os.path.exists(path)
    source = read("admin" if is_tool else "cmd",
                  ("tool_%s.c" if is_tool else "%s.c") % name)
    source = re.sub(r'"\s*\n\s*"', "", source)
    letters, longs = {}, {}
    if is_tool:
        found = re.search(r'tool_option\(t, argc, argv,\s*"([^"]*)",\s*"([^"]*)"',
                          source)
        letters = {"C": True, "h": False}
        longs = {"json": False, "help": False}
        specs = found.groups() if found else ()
    else:
        if 'strcmp(argv[1], "--help")' in source:
            letters["h"] = longs["help"] = False
        specs = re.findall(r'getopt_long\(\s*argc, argv,\s*"([^"]*)"', source)
    if not specs:
        raise AssertionError("%s: no table of options found" % name)
    for spec in specs:
        letters.update(letters_of(spec))
    for long_name, kind in LONG.findall(source):
        longs[long_name] = kind != "no_argument"
    return letters, longs


def check_all(tests):
    """Run them; 0 if all passed."""
    failed = 0
    for name, test in tests:
        try:
            test()
            print("ok     %s" % name)
        except AssertionError as e:
            failed += 1
            print("FAILED %s: %s" % (name, e))
    return 1 if failed else 0
