"""Four rounds of ack9.py: test_ack9.py BIN_DIR."""

import sys

import ack9

sys.exit(ack9.main(sys.argv[1], 4, 20260401))
