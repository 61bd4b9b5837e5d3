#!/usr/bin/env python3
"""docs/monitoring: alert rules and the dashboard's expressions as Prometheus's
own promtool reads them (Debian package prometheus), and what an alert has to
say.  That the names exist is tested by tests/e2e/test_metrics.py.

usage: test_monitoring.py BINDIR
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import programs

FOLDER = os.path.join(programs.TOP, "docs", "monitoring")


def promtool(path):
    program = shutil.which("promtool")
    if program is None:
        print("       (promtool is not installed: not read by it)")
        return
    done = subprocess.run([program, "check", "rules", path],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_say_what_to_do():
    text = programs.read("docs", "monitoring", "alerts.yml")
    alerts = re.split(r"^ +- alert: ", text, flags=re.M)[1:]
    assert len(alerts) >= 15, "only %d alerts" % len(alerts)
    for alert in alerts:
        name = alert.split("\n")[0]
        for key in ("expr:", "severity:", "summary:", "todo:"):
            assert alert.count(key) == 1, "%s: %s" % (name, key)
        # A tool that it names has to exist.
        for tool in re.findall(r"\b(ctl_\w+|cyr_\w+|synclog)\b",
                               alert.split("todo:")[1]):
            assert tool in programs.names(), "%s: no %s" % (name, tool)
    promtool(os.path.join(FOLDER, "alerts.yml"))


def test_expressions_of_the_dashboard_are_read_by_prometheus():
    board = json.loads(programs.read("docs", "monitoring", "grafana.json"))
    expressions = [t["expr"] for p in board["panels"] for t in p["targets"]]
    expressions += [a["expr"] for a in board["annotations"]["list"]]
    assert len(expressions) > 20
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as f:
        f.write("groups:\n- name: dashboard\n  rules:\n")
        for i, expression in enumerate(expressions):
            plain = expression.replace("$instance", ".*").replace(
                "$__rate_interval", "1m")
            f.write("  - {record: 'r%d', expr: %s}\n" % (i,
                                                        json.dumps(plain)))
        f.flush()
        promtool(f.name)


def test_panels_do_not_overlap():
    board = json.loads(programs.read("docs", "monitoring", "grafana.json"))
    taken = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, "%s overlaps" % panel["title"]
        taken |= cells
    ids = [p["id"] for p in board["panels"]]
    assert len(ids) == len(set(ids))


if __name__ == "__main__":
    sys.exit(programs.check_all(
        [(k, v) for k, v in list(globals().items()) if k.startswith("test_")]))
