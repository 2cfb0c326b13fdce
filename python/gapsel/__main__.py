"""`python -m gapsel` is the command `gapsel`."""

import sys

from gapsel.cli import main

sys.exit(main())
