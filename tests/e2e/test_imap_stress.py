"""Ten seconds of imap_stress.py with six clients: test_imap_stress.py BIN_DIR."""

import sys

import imap_stress

sys.exit(imap_stress.main(sys.argv[1], 10, 6, 20260501))
