"""Seven rounds of netcuts.py, one of each kind: test_netcuts.py BIN_DIR.
Skipped, with the reason, where there are no namespaces or no rules."""

import sys

import netcuts

sys.exit(netcuts.main(sys.argv[1], 7, 20260501))
