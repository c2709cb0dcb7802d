"""Runs one command of frugalseg for the server, and ends when the server is gone.

    python -m frugalseg.annotation.child propagate --images …

Standard input is a pipe whose other end the server holds: when it closes, also because the server was killed, the
command gets SIGTERM, on which trainings write a checkpoint. Otherwise two jobs could later work in one folder.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

GRACE_S = 60.0
"""Time to write a checkpoint."""
NICENESS = 5
"""Jobs leave the processor to the server and to the page."""


def end_with_server() -> None:
    """Wait until standard input is closed, then end this process."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    threading.Thread(target=end_with_server, daemon=True).start()
    sys.argv[0] = "frugalseg"
    runpy.run_module("frugalseg", run_name="__main__", alter_sys=False)
