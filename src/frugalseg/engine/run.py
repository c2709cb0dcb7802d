"""A run folder: what was asked, on what it ran, what was measured, and where it stands.

config.yaml           the resolved options, readable by --config
environment.json      command, hashes of the data, versions, git commit, device
metrics.jsonl         one JSON object a report; the truth about the run
tensorboard/          the same as events, where TensorBoard is installed
checkpoints/          last.ckpt, and best.ckpt where a validation chooses
.lock                 held by the process that works here
model.safetensors, model.json   the result; model.json is written last of all
"""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import sys
import warnings
from collections.abc import Mapping
from functools import cached_property
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml
from filelock import BaseFileLock

from frugalseg._version import __version__
from frugalseg.engine.files import SPEC as SPEC
from frugalseg.engine.files import atomic_write, check_out, write_json
from frugalseg.engine.forms import Form
from frugalseg.engine.lock import in_use, lock_folder
from frugalseg.engine.threads import usable_cores
from frugalseg.engine.yaml_files import load_yaml
from frugalseg.errors import RunError, disk_errors
from frugalseg.options import Resume
from frugalseg.options.renamed import present_name
from frugalseg.text import pluralize

if TYPE_CHECKING:
    import torch
    from lightning.fabric import Fabric

NOT_SCIENCE = {"resume", "checkpoint_minutes", "out", "threads"}
"""Options that may differ when a run is resumed: they change nothing in the result."""
KNOWN_BY_CONTENT = {"data", "split", "encoder"}
"""Options that are paths of what environment.json knows by hashes, under `data`: it may have moved, and the run too."""

_CURE = "restore the file, or delete the run folder and start again"
CONFIG = Form({}, RunError, _CURE, parse=load_yaml)
ENVIRONMENT = Form({"data?": {str: str}, "threads?": int}, RunError, _CURE)
RECORD = Form({"step": int}, RunError, "delete the damaged lines, or the file: it is used for plots only")
"""A line of metrics.jsonl."""

PACKAGES = ("torch", "lightning", "kornia", "numpy", "nibabel")


class RunOptions(Protocol):
    """The options every run folder needs."""

    @property
    def out(self) -> Path:
        """The folder."""

    @property
    def resume(self) -> Resume:
        """Whether to continue."""


class RunFolder:
    """One run's folder. Make it with `claim`, in a `with` that ends when nothing more is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "checkpoints" / "last.ckpt"
        self.best = path / "checkpoints" / "best.ckpt"
        self.metrics = path / "metrics.jsonl"
        self._lock: BaseFileLock | None = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()

    @classmethod
    def claim(
        cls, command: str, options: RunOptions, fabric: Fabric, data: Mapping[str, str] | None = None
    ) -> RunFolder:
        """Take `options.out` for a new run, or find the run to resume there.

        Of several processes that share a run the first does this; the others wait for it. A process that does not
        share it is kept out of the folder, unless the run is finished and will only be read.

        Args:
            command: the command's name, for the record.
            options: a dataclass of options.
            fabric: the processes, and the device for environment.json.
            data: hashes of what is learned from, kept in environment.json.

        Raises:
            RunError: a new run on a used folder, `--resume` where there is nothing to resume, a resumed run
                with other options or on other data, or another process is at work on it.
        """
        run = cls(options.out)
        if fabric.is_global_zero:
            run._claim(command, options, fabric.device, dict(data or {}))
        fabric.barrier()
        return run

    def _claim(self, command: str, options: RunOptions, device: torch.device, data: dict[str, str]) -> None:
        config = plain(options, lasting=True)
        begun = self._check_free(config, data, options.resume)
        if self.finished:
            return
        self._lock = lock_folder(self.path)  # only now: a folder that is refused stays as it was
        if begun:
            self._compare_threads(device)
            return
        # First of all: a folder without it that holds something is not known to be a run's.
        with atomic_write(self.path / "config.yaml", "w") as file:
            file.write(f"# frugalseg {command} --config THIS_FILE --out ANOTHER_FOLDER runs the same again\n")
            yaml.safe_dump(config, file, sort_keys=False, allow_unicode=True)
        write_json(self.path / "environment.json", {"command": command, "data": data, **environment(device)})
        with disk_errors(self.path):
            self.last.parent.mkdir(parents=True, exist_ok=True)

    def _check_free(self, config: dict[str, object], data: dict[str, str], resume: Resume) -> bool:
        """Whether there is a checkpoint to go on from; raises `RunError` where the folder must not be taken."""
        check_out(self.path)
        if self.last.is_file() and resume != "no":
            if not (self.path / "config.yaml").is_file() or not (self.path / "environment.json").is_file():
                raise RunError(
                    f"{self.path} has a checkpoint, but not what it was made with (config.yaml, environment.json)",
                    "restore the two files, or delete the folder and start again",
                )
            self._check_same(config)
            self._check_same_data(data)
            return True
        if resume == "yes":
            raise RunError(
                f"--resume: {self.path} holds no checkpoint to continue from",
                "check the path, or leave out --resume to start a new run (--resume auto does either)",
            )
        if (self.path / "config.yaml").is_file() and resume == "auto":
            self._check_same(config)
            if (self.path / "environment.json").is_file():
                self._check_same_data(data)
        elif in_use(self.path):
            if self.finished:
                raise RunError(f"{self.path} holds a finished run", "choose another --out")
            run = (self.path / "config.yaml").is_file()
            raise RunError(
                f"{self.path} is in use" + (" by a run" if run else ""),
                "choose another --out" + (", or continue that run with --resume" if run else ""),
            )
        return False

    @property
    def finished(self) -> bool:
        """Whether the model is written."""
        return (self.path / SPEC).is_file()

    def _check_same(self, config: dict[str, object]) -> None:
        before = CONFIG.read(self.path / "config.yaml")
        for name in before:
            if (present := present_name(str(name), config)) != name:
                raise RunError(
                    f"{self.path / 'config.yaml'} has the option {name}, which was renamed to {present}",
                    f"write {present} in that file, or start a new run in another --out",
                )
        differing = [
            k
            for k in config.keys() | before.keys()
            if k not in NOT_SCIENCE | KNOWN_BY_CONTENT and not _same(k, config.get(k), before.get(k))
        ]
        if differing:
            told = "; ".join(f"{key}: {before.get(key)} then, {config.get(key)} now" for key in sorted(differing))
            raise RunError(
                f"the run in {self.path} had other options ({told})",
                "resume with the same options, or start a new run in another --out",
            )

    def _check_same_data(self, data: dict[str, str]) -> None:
        before = ENVIRONMENT.read(self.path / "environment.json").get("data", {})
        if differing := sorted(name for name in data if data[name] != before.get(name)):
            raise RunError(
                f"the run in {self.path} was started on other data (changed: {', '.join(differing)})",
                "resume with the store and split it was started on, or start a new run in another --out",
            )

    def _compare_threads(self, device: torch.device) -> None:
        import torch

        before, now = ENVIRONMENT.read(self.path / "environment.json").get("threads"), torch.get_num_threads()
        if before not in (None, now) and device.type == "cpu":
            warnings.warn(
                f"the run in {self.path} was started with {pluralize(before, 'CPU thread')} and continues with {now}: "
                f"the result then differs in the last digits (--threads {before} for the same)",
                stacklevel=2,
            )

    def log(self, record: Mapping[str, float]) -> None:
        """Append one record to metrics.jsonl, and to TensorBoard's events where TensorBoard is installed."""
        with disk_errors(self.metrics):
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            if self._events is not None:
                for name, value in record.items():
                    self._events.add_scalar(name, value, record["step"])
                self._events.flush()

    @cached_property
    def _events(self) -> Any:
        """TensorBoard's writer; after a resumption it supersedes what the broken run wrote later."""
        if find_spec("tensorboard") is None:
            return None
        from torch.utils.tensorboard import SummaryWriter

        done = [record["step"] for record in self.records()] if self.metrics.is_file() else []
        return SummaryWriter(str(self.path / "tensorboard"), purge_step=done[-1] if done else None)

    def forget_after(self, step: int) -> None:
        """Drop the records of steps that a resumed run will do again, and a line a kill cut off."""
        if not self.metrics.is_file():
            return
        kept = [line for line, record in self._lines() if record["step"] <= step]
        with atomic_write(self.metrics, "w") as file:
            file.writelines(kept)

    def records(self) -> list[dict[str, float]]:
        """All of metrics.jsonl."""
        return [record for _, record in self._lines()]

    def _lines(self) -> list[tuple[str, dict[str, float]]]:
        """Every whole line of metrics.jsonl, and what it says."""
        try:
            lines = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as error:
            raise RECORD.damaged(self.metrics, f"it cannot be read ({error})") from error
        whole = [line for line in lines if line.endswith("\n")]  # a kill cuts off the last
        return [(line, RECORD.parsed(self.metrics, line)) for line in whole]


PATHS = {"weights", "base", "refine"}


def _same(name: str, one: Any, other: Any) -> bool:
    """Whether two values of an option mean the same; a path may be written relative or absolute. The name of
    a promptable model is like a path here: the same from one folder is the same."""
    if name in PATHS and one is not None and other is not None:
        return Path(one).resolve() == Path(other).resolve()
    return bool(one == other)


def plain(options: object, lasting: bool = False) -> dict[str, object]:
    """A dataclass of options as YAML keeps it; a `lasting` one has paths that lead there from any folder."""

    def simple(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value.absolute() if lasting else value)
        if isinstance(value, (list, tuple)):
            return [simple(v) for v in value]
        return value

    return {field.name: simple(getattr(options, field.name)) for field in dataclasses.fields(options)}  # type: ignore[arg-type]


def environment(device: torch.device) -> dict[str, object]:
    """What a run ran on: enough to see later why two runs differ."""
    import torch  # here, since many commands read runs and few make one

    from frugalseg.engine.device import describe

    return {
        "frugalseg": __version__,
        "commit": _git_commit(),
        "command_line": sys.argv,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": describe(device),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the source tree this package runs from, where it runs from one."""
    here = Path(__file__).resolve().parent
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
