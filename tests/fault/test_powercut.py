"""Three cycles of powercut.py on ext4 and three on XFS: test_powercut.py
BIN_DIR.  Skipped, with the reason, where neither can be had."""

import sys

import powercut

powercut.own_mounts()
codes = [powercut.main(sys.argv[1], fs, 3, 20260401) for fs in ("ext4", "xfs")]
sys.exit(max((c for c in codes if c != powercut.SKIP), default=powercut.SKIP))
