"""`python -m frugalseg` is `frugalseg`."""

import sys

from frugalseg.cli import main

sys.exit(main())
