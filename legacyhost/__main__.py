"""``python -m legacyhost``."""

import sys

from legacyhost.cli import main

sys.exit(main())
