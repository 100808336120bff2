"""``python -m genpath.cli``."""

import sys

from genpath.cli import main

sys.exit(main())
