"""Programs that plot metrics of trainings: each is a class in `LOGGERS`.

metrics.jsonl is written anyway. TensorBoard, which only writes files, is used where it is installed; the others send
figures to a server, and are used only if `--log-to` names them. They get the run folder's name, the options other than
paths, and the metrics: no host, user, path, source code or console output.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from frugalseg.engine.files import atomic_write
from frugalseg.errors import OptionError
from frugalseg.options.common import Logger

PROJECT = "frugalseg"
"""Project of Weights & Biases and experiment of MLflow, unless WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME name another."""


class MetricLogger(Protocol):
    """One run in such a program. Create it with the run folder and the options as plain values without paths.

    Everything that can fail for a reason that the user can correct fails here, before the training starts.
    """

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Add the figures of one step."""

    def close(self, failed: bool) -> None:
        """Write what is pending; `failed`: the training was stopped by an error or by the user."""


class TensorBoardLogger:
    """Events in the folder `tensorboard` of the run."""

    def __init__(self, folder: Path, config: Mapping[str, object]) -> None:
        self.folder = folder
        self.writer: Any = None

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Add figures; the first after a resumption replace the later ones of the interrupted run."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self, failed: bool) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()


class WandbLogger:
    """A run of Weights & Biases, with its own settings (WANDB_MODE, WANDB_ENTITY, …). A resumed run continues."""

    def __init__(self, folder: Path, config: Mapping[str, object]) -> None:
        import wandb

        silent = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            host="",
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            silent=True,
        )
        known = folder / "wandb.id"
        self.run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.name,
            id=known.read_text(encoding="utf-8") if known.is_file() else None,
            resume="allow",
            dir=folder,
            config=dict(config),
            settings=silent,
            reinit="create_new",
        )
        _keep(known, self.run.id)
        self.run.define_metric("*", step_metric="step")  # steps after the checkpoint are repeated after a resumption

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Add figures."""
        self.run.log({**figures, "step": step})

    def close(self, failed: bool) -> None:
        """Send what is pending."""
        self.run.finish(exit_code=int(failed))


class MlflowLogger:
    """A run of MLflow, on the server or in the store that MLFLOW_TRACKING_URI names. A resumed run continues."""

    def __init__(self, folder: Path, config: Mapping[str, object]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self.client: Any = MlflowClient()
        known = folder / "mlflow.id"
        if known.is_file():
            self.run = known.read_text(encoding="utf-8")
            self.client.update_run(self.run, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self.client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self.client.create_experiment(name)
        # Without a user's name: MLflow would otherwise take that of the system's account.
        self.run = self.client.create_run(experiment, run_name=folder.name, tags={"mlflow.user": ""}).info.run_id
        self.client.log_batch(self.run, params=[Param(key, str(value)) for key, value in config.items()])
        _keep(known, self.run)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Add figures."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.run, [Metric(name, float(value), now, step) for name, value in figures.items()])

    def close(self, failed: bool) -> None:
        """State how the run ended."""
        self.client.set_terminated(self.run, "FAILED" if failed else "FINISHED")


LOGGERS: dict[Logger, type[TensorBoardLogger | WandbLogger | MlflowLogger]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "mlflow": MlflowLogger,
}
"""Name → class. The name is also that of the module, and (`tracking` for TensorBoard) that of the extra with it."""
EXTRAS: dict[Logger, str] = {"tensorboard": "tracking", "wandb": "wandb", "mlflow": "mlflow"}


class MetricLoggers:
    """All loggers of a run. One that fails is left out from then on: no training ends because of it.

    Args:
        names: those that the user asked for.
        folder: the run folder.
        options: dataclass of the run's options.

    Raises:
        OptionError: one is not installed, or cannot start.
    """

    def __init__(self, names: Iterable[Logger], folder: Path, options: Any) -> None:
        self.running: dict[str, MetricLogger] = {}
        wanted = dict.fromkeys(names)
        if find_spec("tensorboard") is not None:
            wanted["tensorboard"] = None
        config = _describe_options(options)
        for name in wanted:
            self.running[name] = _start(name, folder, config)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Add the figures of one step to each."""
        for name, logger in [*self.running.items()]:
            self._attempt(name, partial(logger.log, step, figures))

    def close(self, failed: bool) -> None:
        """Close each."""
        for name, logger in [*self.running.items()]:
            self._attempt(name, partial(logger.close, failed))
        self.running = {}

    def _attempt(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # whatever a server or its client raises
            del self.running[name]
            told = f"{name} gets no more metrics ({_first_line(error)}); metrics.jsonl has them all"
            warnings.warn(told, stacklevel=3)


def check_installed(names: Iterable[Logger]) -> None:
    """Raise `OptionError` for the first that is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise OptionError(
                f"--log-to {name}: the package {name} is not installed", f"run pip install 'frugalseg[{EXTRAS[name]}]'"
            )


def _start(name: Logger, folder: Path, config: Mapping[str, object]) -> MetricLogger:
    try:
        return LOGGERS[name](folder, config)
    except Exception as error:
        if not (folder / f"{name}.id").is_file():  # so that the folder is free for the next attempt
            shutil.rmtree(folder / name, ignore_errors=True)
        raise OptionError(
            f"--log-to {name}: it cannot start ({_first_line(error)})",
            f"check the settings of {name}, or leave it out: metrics.jsonl has the same figures",
        ) from error


def _describe_options(options: Any) -> dict[str, object]:
    """The options without paths, which may name people."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    return {name: value for name, value in values.items() if not _has_path(value)}


def _has_path(value: object) -> bool:
    return isinstance(value, Path) or (isinstance(value, (list, tuple)) and any(map(_has_path, value)))


def _keep(path: Path, name: str) -> None:
    """Keep the name of a run, to continue it after a resumption."""
    with atomic_write(path, "w") as file:
        file.write(name)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
