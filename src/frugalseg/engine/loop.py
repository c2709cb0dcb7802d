"""The training loop; every training command is a `TrainingTask` that it runs.

All randomness of step n is a function of (seed, n, process): the order of an epoch comes from (seed, epoch), and the
random generators of dropout and augmentation are reseeded before every step. A resumed run therefore equals an
uninterrupted one, from any checkpoint, and no generator states are stored.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from frugalseg.engine import cuda_graphs
from frugalseg.engine.checkpoint import (
    State,
    check_checkpoint,
    link_as_best,
    load_checkpoint,
    mismatch_errors,
    save_checkpoint,
)
from frugalseg.engine.device import widest_float
from frugalseg.engine.memory import is_out_of_memory
from frugalseg.engine.processes import SharedStop, has_batch_norm, share_batch_norm
from frugalseg.engine.progress import Work, console, progress, say
from frugalseg.engine.recordable_optimizer import recordable_steps
from frugalseg.engine.run import RunFolder
from frugalseg.engine.task import TrainingPlan, TrainingTask
from frugalseg.errors import InterruptedRunError, RunError
from frugalseg.interrupts import raise_keyboard_interrupt, stop_requests

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Item = TypeVar("Item")

BAR_INTERVAL_S = 0.5
MEMORY_FULL = "too little GPU memory for CUDA graphs: steps are not replayed, which is slower"
VALIDATION_FIGURES = {"dice": "validation Dice", "probe_auroc": "probe AUROC"}
"""Validation figures in the progress bar → their titles."""
PART_PREFIX = "dice_"
"""Of the validation figures of which "dice" is the mean, such as the Dice of each organ."""
LOWEST_SHOWN = 2
"""Of these figures, so many are named in the progress bar."""


@dataclass
class _State:
    """Progress of a run: what a checkpoint contains besides state dicts."""

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    best_step: int = -1
    sums: dict[str, Tensor] = field(default_factory=dict)
    summed: int = 0


class _Stopwatch:
    """Splits the time of a report interval into waiting for data and the rest."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.begun = time.perf_counter()
        self.waited = 0.0
        self.samples = 0

    @property
    def seconds(self) -> float:
        return max(time.perf_counter() - self.begun, 1e-9)

    def time_waiting(self, stream: Iterable[Item]) -> Iterator[Item]:
        """The batches of a stream, adding up the time spent waiting for them."""
        iterator = iter(stream)
        while True:
            begun = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.waited += time.perf_counter() - begun
            yield batch


def train(task: TrainingTask, plan: TrainingPlan, fabric: Fabric, run: RunFolder) -> None:
    """Train to the end of `plan`, from the start or from the run's last checkpoint.

    Raises:
        InterruptedRunError: after Ctrl-C or SIGTERM, with a checkpoint written.
        RunError: the loss is no longer finite, or the checkpoint is damaged.
    """
    trainer = _Trainer(task, plan, fabric, run)
    if fabric.is_global_zero:
        run.write_length(plan.steps)
    with (
        stop_requests(_say_stopping, on_repeat=raise_keyboard_interrupt) as stop,
        progress("training", plan.steps, "steps") as bar,
    ):
        trainer.run_steps(bar, SharedStop(stop, fabric))


class _Trainer:
    def __init__(self, task: TrainingTask, plan: TrainingPlan, fabric: Fabric, run: RunFolder) -> None:
        self.task, self.plan, self.fabric, self.run = task, plan, fabric, run
        self.sum_type = widest_float(fabric.device)
        task.model = share_batch_norm(task.model, fabric)
        self.is_shared = fabric.world_size > 1
        if self.is_shared:
            self._capture_share()
        self.model, self.optimizer = fabric.setup(task.model, task.optimizer)
        self.state = _State()
        self.watch = _Stopwatch()
        self.bar_updated_at = 0.0
        self.figures: list[str] = []
        self.saved_at = time.perf_counter()
        resuming = run.last.is_file()
        fabric.barrier()  # every process has checked before the first one writes
        if resuming:
            self._restore(load_checkpoint(run.last))
        else:
            self._save()
        self.compute: Callable[[Any], dict[str, Tensor]] = self._compute
        if not self.is_shared:
            self._use_graphs()

    def _capture_share(self) -> None:
        """On several GPUs, capture the passes of this process's share of a batch, before they are wrapped.

        A whole step is not captured: the gradients of the other processes are part of it.
        """
        if not self._may_capture():
            return
        if has_batch_norm(self.task.model):
            say("passes with a batch norm over several processes are not replayed as CUDA graphs, which is slower")
            return
        self.task.model.to(self.fabric.device)
        self._capture_passes()

    def _use_graphs(self) -> None:
        """On one GPU, replay whole steps, or else the network's passes, as CUDA graphs."""
        # A scaler, of --precision 16, reads back whether gradients are finite.
        scaled = getattr(self.fabric.strategy.precision, "scaler", None) is not None
        steps = recordable_steps(self.task.optimizer, self.fabric.device)
        if steps is None or scaled or not self.task.graphable or not self._may_capture():
            self._capture_passes()
            return
        recordable = partial(self._compute, optimizer_step=steps.step)
        recorder = cuda_graphs.GpuRecorder(self.fabric.device)
        self.compute = cuda_graphs.GraphedStep(
            self._compute, recordable, steps.prepare, recorder, self._continue_without_graph
        )

    def _may_capture(self) -> bool:
        return bool(self.fabric.device.type == "cuda")

    def _continue_without_graph(self, error: RuntimeError) -> None:
        self.optimizer.zero_grad()  # gradients that were recorded were never computed
        seed_step(self.plan.seed, self.state.step, self.fabric.global_rank)
        if is_out_of_memory(error):
            say(MEMORY_FULL)
        else:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            say(f"this training's steps cannot be captured as a CUDA graph, which is slower ({reason})")
            self._capture_passes()

    def _capture_passes(self) -> None:
        """On a GPU, capture the network's passes as CUDA graphs, if memory suffices."""
        constant = self.task.graphable_module()
        if constant is None or not self._may_capture():
            return
        network, (batch, *shape) = constant
        share = len(range(self.fabric.global_rank, batch, self.fabric.world_size))
        try:
            with self.fabric.autocast():
                cuda_graphs.capture(network, (share, *shape))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            say(MEMORY_FULL)

    def run_steps(self, bar: Work, stop: SharedStop) -> None:
        state, plan, per_epoch = self.state, self.plan, self.task.steps_per_epoch
        bar.resume_from(state.step)
        self.watch.restart()
        while state.step < plan.steps:
            epoch, done = divmod(state.step, per_epoch)
            batches = self.task.batches(epoch)[done : done + plan.steps - state.step]
            share = [batch[self.fabric.global_rank :: self.fabric.world_size] for batch in batches]
            for batch, rows in zip(self.watch.time_waiting(self.task.stream(share)), batches, strict=True):
                stop.begin_step()
                self._step(batch)
                self.watch.samples += len(rows)
                bar.update(state.step)
                self._update_bar(bar)
                if state.step % plan.report_every == 0 or state.step == plan.steps:
                    self._report()
                elif stop.find_request() or time.perf_counter() - self.saved_at > 60 * plan.checkpoint_minutes:
                    self._save()
                if (asked := stop.find_request()) and state.step < plan.steps:
                    raise InterruptedRunError(
                        f"stopped by {asked} after step {state.step} of {plan.steps}; the checkpoint is written",
                        "run the same command with --resume to continue from there",
                    )

    def _step(self, batch: Any) -> None:
        seed_step(self.plan.seed, self.state.step, self.fabric.global_rank)
        self.task.before_step(self.state.step)
        losses = self.compute(batch)
        self.task.scheduler.step()
        self.state.step += 1
        self.state.summed += 1
        for name, value in losses.items():
            value = value.to(self.sum_type)  # summed on the device: reading it here would make a GPU wait
            self.state.sums[name] = self.state.sums[name] + value if name in self.state.sums else value

    def _compute(self, batch: Any, optimizer_step: Callable[[], Any] | None = None) -> dict[str, Tensor]:
        """One step on the device, and its losses; `optimizer_step` stands in for the optimiser's own."""
        self.model.train()
        losses = self.task.losses(self.model, batch)
        self.fabric.backward(losses["loss"])
        if self.plan.clip is not None:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.plan.clip, error_if_nonfinite=False)
        (optimizer_step or self.optimizer.step)()
        self.optimizer.zero_grad()
        self.task.after_step()
        return {name: value.detach() for name, value in losses.items()}

    def _update_bar(self, bar: Work) -> None:
        """Show loss and speed on the bar; at most twice a second, since reading the loss waits for the GPU."""
        if time.perf_counter() - self.bar_updated_at < BAR_INTERVAL_S or not self.state.summed:
            return
        self.bar_updated_at = time.perf_counter()
        loss = float(self.state.sums["loss"]) / self.state.summed
        best = [f"best {self.state.best:.3f} at step {self.state.best_step}"] if self.state.best_step >= 0 else []
        speed = f"{self.watch.samples / self.watch.seconds:.0f} samples/s"
        wait = f"{self.watch.waited / self.watch.seconds:.0%} waiting"
        bar.note = " · ".join([f"loss {loss:.3f}", *self.figures, *best, speed, wait])

    def _say_record(self, record: Mapping[str, float]) -> None:
        """Print a record of metrics.jsonl where there is no progress bar."""
        if not console.is_interactive:
            numbers = {k: v for k, v in record.items() if isinstance(v, float) and k != "epoch"}
            if self.state.best_step >= 0:
                numbers["best"] = self.state.best
            figures = " ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            say(f"step {record['step']}/{self.plan.steps} {figures}")

    def _report(self) -> None:
        """Log the interval's means, validate, and write a checkpoint."""
        state = self.state
        record: dict[str, float] = {"step": state.step, "epoch": round(state.step / self.task.steps_per_epoch, 3)}
        record |= {name: float(total) / state.summed for name, total in state.sums.items()}
        record["lr"] = self.optimizer.param_groups[0]["lr"]
        record["samples_per_s"] = self.watch.samples / self.watch.seconds
        record["wait"] = self.watch.waited / self.watch.seconds
        state.seconds += self.watch.seconds
        if not math.isfinite(record["loss"]):
            raise RunError(
                f"the loss is {record['loss']} at step {state.step}",
                "start again with a lower --lr, or with --precision 32",
            )
        if self.fabric.is_global_zero:
            begun = time.perf_counter()
            self.task.model.eval()
            with torch.no_grad():
                validated = self.task.validate()
            record |= validated
            self.figures = _format_validation(validated)  # without dice_loss and other losses
            state.seconds += time.perf_counter() - begun
            record["seconds"] = round(state.seconds, 3)
            better = "score" in record and record["score"] >= state.best
            if better:
                state.best, state.best_step = record["score"], state.step
            self.run.log(record)
            self._say_record(record)
        state.sums, state.summed = {}, 0
        self._save()
        if self.fabric.is_global_zero and better:  # after a kill just before this line, `_restore` does it
            link_as_best(self.run.last, self.run.best)
        self.fabric.barrier()
        self.watch.restart()

    def _save(self) -> None:
        self.saved_at = time.perf_counter()
        if not self.fabric.is_global_zero:
            return
        save_checkpoint(
            self.run.last,
            {
                **vars(self.state),
                "model": self.task.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.task.scheduler.state_dict(),
                "scaler": self.fabric.strategy.precision.state_dict(),
            },
        )

    def _restore(self, saved: State) -> None:
        check_checkpoint(self.run.last, saved, self.plan.steps)
        with mismatch_errors(self.run.last):
            self.task.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.task.scheduler.load_state_dict(saved["scheduler"])
            self.fabric.strategy.precision.load_state_dict(saved["scaler"])
        self.state = _State(**{field.name: saved[field.name] for field in fields(_State)})
        if self.fabric.is_global_zero:
            if self.state.best_step == self.state.step:
                link_as_best(self.run.last, self.run.best)
            self.run.drop_records_after(self.state.step)
            say(f"continuing {self.run.path} after step {self.state.step} of {self.plan.steps}")
        self.fabric.barrier()


def _format_validation(figures: Mapping[str, float]) -> list[str]:
    """Figures of the last validation, as text; of several organs the lowest are named."""
    shown = [f"{words} {figures[name]:.3f}" for name, words in VALIDATION_FIGURES.items() if name in figures]
    parts = {name.removeprefix(PART_PREFIX): dice for name, dice in figures.items() if name.startswith(PART_PREFIX)}
    if len(parts) < 2:
        return shown
    lowest = sorted(parts.items(), key=lambda part: part[1])[:LOWEST_SHOWN]
    return [*shown, "lowest " + ", ".join(f"{name} {dice:.2f}" for name, dice in lowest)]


@dataclass(frozen=True)
class BestStep:
    """The training step of the final weights.

    Attributes:
        step: the best by validation, otherwise the last.
        score: its validation score; None without validation.
    """

    step: int
    score: float | None


def load_best(run: RunFolder, task: TrainingTask, steps: int) -> BestStep:
    """Load the best checkpoint of a finished training, otherwise its last, into the model.

    Raises:
        RunError: it is missing, damaged, or belongs to another training.
    """
    path = run.best if run.best.is_file() else run.last
    best = load_checkpoint(path)
    check_checkpoint(path, best, steps)
    with mismatch_errors(path):
        task.model.load_state_dict(best["model"])
    return BestStep(best["step"], best["best"] if math.isfinite(best["best"]) else None)


def seed_step(seed: int, step: int, process: int = 0) -> None:
    """Seed PyTorch's generators for one step of one process."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1)[0]))


def _say_stopping() -> None:
    say("stopping after this step; a checkpoint will be written (Ctrl-C again to stop at once)")
