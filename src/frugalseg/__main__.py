"""`python -m frugalseg` is `frugalseg`."""

import sys

from frugalseg.interrupts import leave_at_once

leave_at_once()  # before the imports

from frugalseg.cli import main  # noqa: E402

sys.exit(main())
