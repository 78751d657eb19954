"""`python -m stablegrad` is the command line."""

import sys

from stablegrad.cli import main

sys.exit(main())
