"""`python -m frugalseg` is `frugalseg`."""

import sys

from frugalseg.interrupts import exit_on_ctrl_c

exit_on_ctrl_c()  # before the imports

from frugalseg.cli import main  # noqa: E402

sys.exit(main())
