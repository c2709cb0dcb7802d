"""A run folder: options, environment, metrics, checkpoints and the model.

config.yaml           the resolved options, readable by --config
environment.json      command, hashes of the data, versions, git commit, device
length.json           the number of steps, for programs that show the progress
metrics.jsonl         one JSON object per report
tensorboard/          the same as events, if TensorBoard is installed
wandb/, wandb.id, mlflow.id   where `--log-to` sends them
checkpoints/          last.ckpt, and best.ckpt if there is a validation
.lock                 locked by the process that writes here
model.safetensors, model.json   the result; model.json is written last
"""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import sys
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml
from filelock import BaseFileLock

from frugalseg._version import __version__
from frugalseg.engine.files import MODEL_FILE, atomic_write, check_out, write_json
from frugalseg.engine.lock import is_in_use, lock_folder
from frugalseg.engine.metric_loggers import MetricLoggers, check_installed
from frugalseg.engine.schema import Schema
from frugalseg.engine.threads import usable_cores
from frugalseg.engine.yaml_files import load_yaml
from frugalseg.errors import RunError, disk_errors
from frugalseg.options import Resume
from frugalseg.options.common import Logger
from frugalseg.options.renamed import current_name
from frugalseg.text import pluralize

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

WITHOUT_EFFECT = {"resume", "checkpoint_minutes", "out", "threads", "cache", "log_to"}
"""Options that may differ when a run is resumed: they do not change the result."""
ADDED_LATER: dict[str, object] = {
    "choose": "random",
    "init": None,
    "teacher": None,
    "copies": None,
    "propagate": None,
    "engine": "box",
}
"""Options that earlier versions did not have, and the value with which a run does what it did then: such a run may be
resumed, and a study's trainings keep their names."""
KNOWN_BY_HASH = {"data", "split", "encoder", "init", "teacher"}
"""Options with paths of files whose hashes are in environment.json under `data`: the files and the run may be moved."""

_CURE = "restore the file, or delete the run folder and start again"
CONFIG = Schema({}, RunError, _CURE, parse=load_yaml)
ENVIRONMENT = Schema({"data?": {str: str}, "threads?": int}, RunError, _CURE)
LENGTH = Schema({"steps": int}, RunError, "delete it: it is only used to show the progress")
LENGTH_FILE = "length.json"
METRICS_LINE = Schema({"step": int}, RunError, "delete the damaged lines, or the file: it is used for plots only")
"""A line of metrics.jsonl."""

PACKAGES = ("torch", "lightning-fabric", "numpy", "nibabel")


class RunOptions(Protocol):
    """Options that a run folder needs."""

    @property
    def out(self) -> Path:
        """The run folder."""

    @property
    def resume(self) -> Resume:
        """Whether to resume."""

    @property
    def log_to(self) -> list[Logger]:
        """Programs that get the metrics."""


class RunFolder:
    """The folder of one run. Create it with `claim`, as a context manager that ends when everything is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "checkpoints" / "last.ckpt"
        self.best = path / "checkpoints" / "best.ckpt"
        self.metrics = path / "metrics.jsonl"
        self._lock: BaseFileLock | None = None
        self._loggers: MetricLoggers | None = None

    def __fspath__(self) -> str:
        return str(self.path)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._loggers is not None:
            self._loggers.close(failed=kind is not None)
        if self._lock is not None:
            self._lock.release()

    @classmethod
    def claim(
        cls, command: str, options: RunOptions, fabric: Fabric, data: Mapping[str, str] | None = None
    ) -> RunFolder:
        """Lock `options.out` for a new run, or for the run to resume there.

        Of several processes that share a run the first does this, and the others wait for it. The folder is locked
        against other processes, unless the run is finished and will only be read.

        Args:
            command: name of the command, for config.yaml and environment.json.
            options: a dataclass of options.
            fabric: the processes, and the device for environment.json.
            data: hashes of the training data, for environment.json.

        Raises:
            RunError: a new run in a used folder, `--resume` without a run to resume, a resumed run with
                other options or on other data, or another process works on it; or processes that share the run were
                given different options.
            OptionError: a program that shall get the metrics is not installed, or cannot start.
        """
        from frugalseg.engine.processes import check_same_everywhere  # here: reading a run needs no PyTorch

        run = cls(options.out)
        check_same_everywhere(to_plain_options(options, absolute=True), fabric)
        if fabric.is_global_zero:
            run._claim(command, options, fabric.device, dict(data or {}))
        fabric.barrier()
        return run

    def _claim(self, command: str, options: RunOptions, device: torch.device, data: dict[str, str]) -> None:
        check_installed(options.log_to)
        config = to_plain_options(options, absolute=True)
        begun = self._check_free(config, data, options.resume)
        if self.finished:
            return
        self._lock = lock_folder(self.path)  # only now: a refused folder is left unchanged
        self._loggers = MetricLoggers(options.log_to, self.path, options)
        if begun:
            self._compare_threads(device)
        else:
            self._begin(command, config, data, device)

    def _begin(self, command: str, config: dict[str, object], data: dict[str, str], device: torch.device) -> None:
        """Write the files of a new run."""
        # Written first: a folder with files but without config.yaml is not recognised as a run folder.
        with atomic_write(self.path / "config.yaml", "w") as file:
            file.write(f"# frugalseg {command} --config THIS_FILE --out ANOTHER_FOLDER repeats this run\n")
            yaml.safe_dump(config, file, sort_keys=False, allow_unicode=True)
        write_json(self.path / "environment.json", {"command": command, "data": data, **describe_environment(device)})
        with disk_errors(self.path):
            self.last.parent.mkdir(parents=True, exist_ok=True)

    def _check_free(self, config: dict[str, object], data: dict[str, str], resume: Resume) -> bool:
        """Whether there is a checkpoint to resume from; raises `RunError` where the folder must not be used."""
        check_out(self.path)
        if self.last.is_file() and resume != "no":
            if not (self.path / "config.yaml").is_file() or not (self.path / "environment.json").is_file():
                raise RunError(
                    f"{self.path} has a checkpoint, but its config.yaml or environment.json is missing",
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
        elif is_in_use(self.path):
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
        """Whether the model has been written."""
        return (self.path / MODEL_FILE).is_file()

    def _check_same(self, config: dict[str, object]) -> None:
        before = CONFIG.read(self.path / "config.yaml")
        for name in before:
            if (present := current_name(str(name), config)) != name:
                raise RunError(
                    f"{self.path / 'config.yaml'} has the option {name}, which was renamed to {present}",
                    f"write {present} in that file, or start a new run in another --out",
                )
        differing = [
            k
            for k in config.keys() | before.keys()
            if k not in WITHOUT_EFFECT | KNOWN_BY_HASH
            and not _is_same_value(k, config.get(k), before.get(k, ADDED_LATER.get(k)))
        ]
        if differing:
            listed = "; ".join(f"{key}: {before.get(key)} then, {config.get(key)} now" for key in sorted(differing))
            raise RunError(
                f"the run in {self.path} had other options ({listed})",
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
                f"the result then differs in the last digits (use --threads {before} for the same result)",
                stacklevel=2,
            )

    def log(self, record: Mapping[str, float]) -> None:
        """Append one record to metrics.jsonl, and give it to the loggers."""
        with disk_errors(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self._loggers is not None:
            self._loggers.log(int(record["step"]), {name: value for name, value in record.items() if name != "step"})

    def write_length(self, steps: int) -> None:
        """Write how many steps the training has, which its options alone do not tell."""
        write_json(self.path / LENGTH_FILE, {"steps": steps})

    def drop_records_after(self, step: int) -> None:
        """Remove the records of steps that a resumed run will repeat, and a line that a kill cut off."""
        if not self.metrics.is_file():
            return
        kept = [line for line, record in self._read_lines() if record["step"] <= step]
        with atomic_write(self.metrics, "w") as file:
            file.writelines(kept)

    def read_records(self) -> list[dict[str, float]]:
        """All records of metrics.jsonl."""
        return [record for _, record in self._read_lines()]

    def _read_lines(self) -> list[tuple[str, dict[str, float]]]:
        """Every complete line of metrics.jsonl, and its record."""
        try:
            lines = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as error:
            raise METRICS_LINE.damage_error(self.metrics, f"it cannot be read ({error})") from error
        whole = [line for line in lines if line.endswith("\n")]  # a kill cuts off the last
        return [(line, METRICS_LINE.parse_text(self.metrics, line)) for line in whole]


def read_length(run: Path) -> int | None:
    """The number of steps of the training in this run folder; None before it begins, and for older versions.

    Raises:
        RunError: length.json is damaged.
    """
    path = run / LENGTH_FILE
    return int(LENGTH.read(path)["steps"]) if path.is_file() else None


PATH_OPTIONS = {"weights", "base", "refine", "propagate"}


def _is_same_value(name: str, one: Any, other: Any) -> bool:
    """Whether two values of an option mean the same; paths may be relative or absolute. The name of a promptable model
    is compared like a path."""
    if name in PATH_OPTIONS and one is not None and other is not None:
        return Path(one).resolve() == Path(other).resolve()
    return bool(one == other)


def to_plain_options(options: object, absolute: bool = False) -> dict[str, object]:
    """A dataclass of options as plain values for YAML, on request with absolute paths."""

    def to_plain_value(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value.absolute() if absolute else value)
        if isinstance(value, (list, tuple)):
            return [to_plain_value(v) for v in value]
        return value

    return {field.name: to_plain_value(getattr(options, field.name)) for field in dataclasses.fields(options)}  # type: ignore[arg-type]


def describe_environment(device: torch.device) -> dict[str, object]:
    """Versions, system, device and threads: they show later why two runs differ."""
    import torch  # here, since many commands read runs and few make one

    from frugalseg.engine.device import describe_device

    return {
        "frugalseg": __version__,
        "commit": _find_git_commit(),
        "command_line": sys.argv,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": describe_device(device),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "packages": {name: _find_version(name) for name in PACKAGES},
    }


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _find_git_commit() -> str | None:
    """The git commit of the source tree that this package runs from, if any."""
    here = Path(__file__).resolve().parent
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
