"""`frugalseg pretrain`: train an encoder on the training patients' slices with one of the methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from frugalseg._version import __version__
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.device import make_fabric
from frugalseg.engine.files import check_out
from frugalseg.engine.processes import check_batch_norm
from frugalseg.engine.progress import say
from frugalseg.engine.run import RunFolder
from frugalseg.engine.task import TrainingPlan
from frugalseg.engine.threads import with_threads
from frugalseg.engine.training import run_training, train_and_save
from frugalseg.errors import OptionError
from frugalseg.models.registry import BACKBONES
from frugalseg.models.saved import save_model
from frugalseg.options import PretrainOptions
from frugalseg.pretraining.methods import METHODS, reads_superpixels
from frugalseg.pretraining.task import PretrainTask
from frugalseg.records.networks import EncoderAnnotation, EncoderRecord
from frugalseg.records.split import Split
from frugalseg.text import pluralize

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@with_threads
def pretrain(options: PretrainOptions) -> RunFolder:
    """Train an encoder and save it in `options.out`.

    Raises:
        StoreError, SplitError, RunError, DeviceError, OptionError: as their docstrings say, before any training.
        InterruptedRunError: stopped by the user; can be resumed.
    """
    return run_training(PreTraining.open(options))


@dataclass(frozen=True)
class PreTraining:
    """A pre-training, opened and checked."""

    options: PretrainOptions
    store: SliceStore
    split: Split
    fabric: Fabric
    task: PretrainTask
    command: str = "pretrain"

    @classmethod
    def open(cls, options: PretrainOptions) -> PreTraining:
        """Open and check all inputs."""
        check_out(options.out)
        store = SliceStore.open(options.data)
        split = store.split(options.split)
        fabric = make_fabric(options.device, options.precision)
        _check_batch(options, fabric.world_size)
        torch.manual_seed(options.seed)
        task = PretrainTask(options, store, split, fabric.device)
        check_batch_norm(task.model, fabric)
        return cls(options, store, split, fabric, task)

    def identity(self) -> dict[str, str]:
        """Hashes of the store, the split and, where read, the superpixels."""
        return self.store.identity(self.split, reads_superpixels(self.options))

    def learn(self, run: RunFolder) -> None:
        """Train and save."""
        options, task = self.options, self.task
        samples = "slices" if task.batches(0)[0].ndim == 1 else "triplets"
        say(
            f"pre-training by {options.method} on {pluralize(len(task.rows), 'slice')}: "
            f"{pluralize(task.steps, 'step')} of {options.batch_size} {samples}"
        )
        plan = TrainingPlan(
            task.steps, task.interval, options.seed, clip=None, checkpoint_minutes=options.checkpoint_minutes
        )
        train_and_save(task, plan, self.fabric, run, lambda: self._save(run))

    def _save(self, run: RunFolder) -> None:
        save_model(run.path, self.task.model.network, make_record(self.options, self.store, self.task))


def _check_batch(options: PretrainOptions, processes: int) -> None:
    if options.batch_size % processes:
        raise OptionError(
            f"--batch-size {options.batch_size} cannot be shared equally by {processes} processes",
            f"give a multiple of {processes}",
        )
    least = METHODS[options.method].min_per_process * processes
    if options.batch_size < least:
        raise OptionError(
            f"--batch-size {options.batch_size}: the batch norms of {options.method} need several slices per process",
            f"give 20, or at least {least}",
        )


def make_record(options: PretrainOptions, store: SliceStore, task: PretrainTask) -> EncoderRecord:
    """The record of a pre-trained encoder: its network, and the data and labels it was trained on."""
    seen = store.slices.loc[task.rows]
    cases = set(seen["case"])
    return EncoderRecord(
        version=__version__,
        backbone=options.backbone,
        plugin=BACKBONES.origin(options.backbone),
        norm=task.norm,
        context=options.context or 0,
        method=options.method,
        published_weights=task.published,
        parameters=sum(p.numel() for p in task.model.network.parameters()),
        preprocessing=store.preprocessing,
        annotation=EncoderAnnotation(
            masks=0,
            organ_present_labels=len(seen) if task.method.annotation != "none" else 0,
            scans_seen=len(cases),
        ),
        probe=task.probe.record,
        fingerprints=tuple(sorted(store.fingerprints_of_cases(cases))),
    )
