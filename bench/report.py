"""What the benchmarks say about the machine, and where they write it."""

import json
import os
import platform
import re
import time


def load_1min():
    with open("/proc/loadavg") as f:
        return float(f.read().split()[0])


def machine():
    model = ""
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"cpus": os.cpu_count(), "cpu": model,
            "kernel": platform.release(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") *
                                os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}


def machine_line(m, load_before):
    return ("%(cpus)d x %(cpu)s, %(memory_gib)s GiB, Linux %(kernel)s, "
            "%(date)s" % m + "; load of the machine before it began: %.1f" %
            load_before)


def busy_s():
    """CPU seconds that the whole machine has worked so far."""
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, soft = [
            int(n) for n in f.readline().split()[1:8]]
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def write_json(path, results):
    with open(path, "w") as f:
        json.dump(results, f, indent=1, sort_keys=True)
        f.write("\n")


def markdown_table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| %s |\n" % " | ".join(
        " ".join(str(cell).split()) for cell in line) for line in lines)


def put_section(path, heading, text):
    """Replaces the section "## HEADING" of the page PATH, or adds it."""
    page = "# Figures\n"
    if os.path.exists(path):
        with open(path) as f:
            page = f.read()
    section = "## %s\n\n%s\n" % (heading, text.strip())
    found = re.search(r"^## %s\n.*?(?=^## |\Z)" % re.escape(heading), page,
                      re.M | re.S)
    if found:
        after = page[found.end():]
        page = page[:found.start()] + section + ("\n" + after if after else "")
    else:
        page = page.rstrip("\n") + "\n\n" + section
    with open(path, "w") as f:
        f.write(page)
