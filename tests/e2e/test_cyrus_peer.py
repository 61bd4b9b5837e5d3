"""A Cyrus IMAP 3.6 at the other end, small: everything both ways, twice, and
rolling for some seconds with kill -9 of both ends.  tests/peers/run does it with
any size.  Skipped where Debian's Cyrus cannot be had or run.
"""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
RUN = os.path.join(HERE, "..", "peers", "run")


def main():
    done = subprocess.run(
        [sys.executable, RUN, "--bin", sys.argv[1], "--users", "2",
         "--mailboxes", "14", "--messages", "60", "--minutes", "0.25",
         "--per-s", "6"], timeout=540)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
