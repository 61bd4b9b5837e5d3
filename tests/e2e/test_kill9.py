"""Eight rounds of kill9.py: test_kill9.py BIN_DIR."""

import sys

import kill9

sys.exit(kill9.main(sys.argv[1], 8, 20260301))
