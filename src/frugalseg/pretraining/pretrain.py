"""`frugalseg pretrain`: train an encoder on the training patients' slices, by any of the methods."""

from __future__ import annotations

import torch

from frugalseg._version import __version__
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.device import make_fabric
from frugalseg.engine.files import check_out
from frugalseg.engine.loop import Plan, train
from frugalseg.engine.progress import say
from frugalseg.engine.run import RunFolder
from frugalseg.engine.threads import with_threads
from frugalseg.errors import OptionError
from frugalseg.models.saved import save_model
from frugalseg.options import PretrainOptions
from frugalseg.pretraining.methods import METHODS, reads_superpixels
from frugalseg.pretraining.task import PretrainTask
from frugalseg.records.model import EncoderAnnotation, EncoderRecord
from frugalseg.text import counted


@with_threads
def pretrain(options: PretrainOptions) -> RunFolder:
    """Train an encoder and leave it in `options.out`.

    Raises:
        StoreError, SplitError, RunError, DeviceError, OptionError: as their docstrings say, before any training.
        InterruptedRunError: stopped by the person; resumable.
    """
    check_out(options.out)
    store = SliceStore.open(options.data)
    split = store.split(options.split)
    fabric = make_fabric(options.device, options.precision)
    if options.batch_size % fabric.world_size:
        raise OptionError(
            f"--batch-size {options.batch_size} cannot be shared equally by {fabric.world_size} processes",
            f"give a multiple of {fabric.world_size}",
        )
    least = METHODS[options.method].least_share * fabric.world_size
    if options.batch_size < least:
        raise OptionError(
            f"--batch-size {options.batch_size}: the batch norms of {options.method} need several slices a process",
            f"give 20, or at least {least}",
        )
    torch.manual_seed(options.seed)
    task = PretrainTask(options, store, split, fabric.device)
    with RunFolder.claim("pretrain", options, fabric, store.identity(split, reads_superpixels(options))) as run:
        if run.finished:
            say(f"{run.path} is finished")
            return run
        samples = "slices" if task.batches(0)[0].ndim == 1 else "triplets"
        say(
            f"pre-training by {options.method} on {counted(len(task.rows), 'slice')}: "
            f"{counted(task.steps, 'step')} of {options.batch_size} {samples}"
        )
        plan = Plan(task.steps, task.interval, options.seed, clip=None, checkpoint_minutes=options.checkpoint_minutes)
        train(task, plan, fabric, run)
        if fabric.is_global_zero:
            save_model(run.path, task.model.network, describe(options, store, task))
        return run


def describe(options: PretrainOptions, store: SliceStore, task: PretrainTask) -> EncoderRecord:
    """What a pre-training learned, and from what."""
    seen = store.slices.loc[task.rows]
    cases = set(seen["case"])
    return EncoderRecord(
        version=__version__,
        backbone=options.backbone,
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
        fingerprints=tuple(sorted(store.fingerprints_of(cases))),
    )
