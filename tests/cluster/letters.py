"""Work on scans for the tests of Ray, which processes of the cluster import from here."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from frugalseg.engine.pool import CaseWork
from frugalseg.engine.progress import say
from frugalseg.errors import DiskError, RunError, ScanError

CASES = {name: name for name in "abcdef"}


@dataclass(frozen=True)
class Letters(CaseWork[str, str, str]):
    """Doubles the letter of each case; `fault` says what happens with the letter c.

    Attributes:
        folder: counts in files what is done.
    """

    folder: Path
    fault: str = ""
    needs: tuple[Path, ...] = ()

    @cached_property
    def model(self) -> object:
        """What cannot be sent to another process."""
        (self.folder / f"loaded by {os.getpid()}").touch()
        return threading.Lock()

    def inputs(self) -> Iterable[Path]:
        return self.needs

    def set_up(self) -> None:
        say("the model is loaded")
        _ = self.model
        if self.fault == "set-up" and not self._is_here():
            raise RunError("the weights are not there", "fetch them")

    def read(self, case: str, job: str) -> str:
        assert self.model is self.model
        if case == "c" and self.fault:
            getattr(self, self.fault.replace("-", "_"), lambda: None)()
        return job.upper()

    def make(self, case: str, source: str) -> str:
        time.sleep(0.05)
        return f"{source}{source} {torch.get_num_threads()}"

    def _is_here(self) -> bool:
        return (self.folder / f"here {os.getpid()}").exists()

    def broken(self) -> None:
        raise ScanError("c is damaged", "copy it again")

    def bug(self) -> None:
        raise ValueError("shapes do not match")

    def dies(self) -> None:
        (self.folder / f"died in {os.getpid()}").touch()
        os._exit(1)

    def says(self) -> None:
        say("something about c")
        warnings.warn("c looks odd", stacklevel=1)

    def full(self) -> None:
        """The disk of the first machine that comes here is full."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        try:
            with (self.folder / "full").open("x") as file:
                file.write(node)
        except FileExistsError:
            pass
        if (self.folder / "full").read_text() == node:
            raise DiskError("no space left", "delete something")
