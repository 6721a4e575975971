"""`python -m sbridge` is `sbridge`."""

import sys

from sbridge.cli import main

sys.exit(main())
