"""Random histories with random cuts, by log and by state: one small seed of
tests/e2e/histories.py, which says what is done and compared.

POLLUX_HISTORY_SEED chooses another one, POLLUX_HISTORY_OPS how many operations.
"""

import os
import sys

import histories


def main():
    seed = int(os.environ.get("POLLUX_HISTORY_SEED", "7"))
    ops = int(os.environ.get("POLLUX_HISTORY_OPS", "1500"))
    world = histories.run_seed(sys.argv[1], seed, ops, 3, False)
    if world is None:
        return 1
    for kind in ("append", "flag", "expunge", "move", "create", "rename",
                 "delete", "acl", "annotate", "quota", "seen", "subscribe",
                 "sieve"):
        assert world.counts[kind] > 0, "seed %d tried no %s" % (seed, kind)
    assert sum(world.cuts.values()) > 3, "seed %d was hardly cut" % seed
    return 0


if __name__ == "__main__":
    sys.exit(main())
