"""Pre-training as the loop runs it: one task for every method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.loop import Task, steps_and_interval
from frugalseg.engine.progress import say
from frugalseg.errors import OptionError
from frugalseg.models.blocks import ProjectionNet
from frugalseg.models.pretrained_weights import load_published
from frugalseg.models.registry import build_projection, choose_norm, inputs_of
from frugalseg.options import Norm, PretrainOptions
from frugalseg.pretraining.learners import Learner
from frugalseg.pretraining.methods import Method, Setting, check_options, chosen_method, reads_superpixels
from frugalseg.pretraining.probe import Probe
from frugalseg.pretraining.recipes import make_optimizer, make_schedule
from frugalseg.pretraining.samplers import Pool
from frugalseg.pretraining.slice_metadata import SliceMetadata
from frugalseg.pretraining.slice_selection import check_variety, training_rows
from frugalseg.pretraining.views import views_of
from frugalseg.records.model import PublishedWeights
from frugalseg.records.split import Split

EPOCHS = 100


@dataclass(frozen=True)
class Drawn:
    """A batch of slices on the device.

    Attributes:
        images: (N, channels, S, S); of triplets all anchors, then all positives, then all negatives.
        rows: (N,) their rows in the store.
        superpixels: (N, S, S), for methods that read them from the store.
    """

    images: Tensor
    rows: Tensor
    superpixels: Tensor | None


class PretrainTask(Task):
    """Any method: its sampler draws slices, its views change them, its learner embeds and compares them.

    Attributes:
        method: what `options.method` names.
        rows: (N,) rows of the store that are trained on.
        norm: normalisation layers of the network.
        steps, interval: length of the run, and steps between reports.
        published: what the weights are that training started from, or None.
        probe: watches the encoder.
    """

    model: Learner

    def __init__(self, options: PretrainOptions, store: SliceStore, split: Split, device: torch.device) -> None:
        self.options = options
        check_options(options)
        self.method = chosen_method(options)
        recipe = self.method.recipe
        self.size = store.size
        self.rows = training_rows(store, split, options)
        facts = SliceMetadata.of(store, self.rows, with_organs=self.method.annotation != "none")
        check_variety(options, self.rows, facts)
        self.pool = Pool(self.rows, facts)
        self._drawn = 0, self.method.sampler(self.pool, options, 0)
        self.steps_per_epoch = len(self.batches(0))
        self.steps, self.interval = steps_and_interval(
            self.steps_per_epoch, options.steps, options.epochs or EPOCHS, reports=None
        )
        context = options.context or 0
        self.source = SliceSource(
            store,
            device,
            with_labels=False,
            rows=self.rows,
            context=context,
            with_superpixels=reads_superpixels(options),
        )
        self.probe = Probe(store, self.rows, self.source, options.seed)
        self.facts = facts.to(device)
        self.changes = _changes(options, self.method)
        self.norm = choose_norm(options.backbone, options.norm, preferred="instance_affine")
        network, self.published = _network(options, self.norm)
        if self.method.head is not None:
            network.head = self.method.head.build(network.encoder.embedding_dim, len(store.targets))
        self.model = self.method.learner(network, self._setting())
        self.optimizer = make_optimizer(recipe, self.model.parameters(), options.lr)
        restart = options.restart_epochs * self.steps_per_epoch
        self.scheduler = make_schedule(recipe, self.optimizer, self.steps, restart)
        self._empty = torch.zeros((), device=device)

    def _setting(self) -> Setting:
        tau = self.options.temperature or self.method.recipe.tau
        return Setting(self.options, tau, self.steps, self.method.views)

    def batches(self, epoch: int) -> list[Tensor]:
        """The sampler's batches: rows (B,), or (B, 3) of triplets."""
        if self._drawn[0] != epoch:
            self._drawn = epoch, self.method.sampler(self.pool, self.options, epoch)
        return self._drawn[1]

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Drawn]:
        """The slices of each batch; of triplets all anchors, then all positives, then all negatives."""
        flat = [rows.reshape(len(rows), -1).T.reshape(-1) for rows in batches]
        for rows, slices in zip(flat, self.source.stream(flat), strict=True):
            yield Drawn(slices.images, rows.to(slices.images.device, non_blocking=True), slices.superpixels)

    def losses(self, model: nn.Module, batch: Drawn) -> dict[str, Tensor]:
        """What the learner makes of the views of the batch."""
        views = self.method.views
        outputs = model(views_of(batch.images, views, self.changes))
        losses = self.model.losses(outputs, self.facts, batch.rows.repeat(views), batch.superpixels)
        if "empty" in losses:
            self._empty += losses["empty"]
        return losses

    def graphable_module(self) -> tuple[nn.Module, tuple[int, ...]] | None:
        """The learner on all views of a batch, where it does no more than embed them, however many passes through the
        network that takes."""
        if not self.model.embeds_alone:
            return None
        views = self.batches(0)[0].numel() * self.method.views
        return self.model, (views, inputs_of(self.options.context or 0), self.size, self.size)

    @property
    def graphable(self) -> bool:
        """Every method's steps but those of SuperCL with superpixels that the CPU computes anew in each."""
        return self.model.graphable

    def before_step(self, step: int) -> None:
        """Let the learner prepare the step."""
        self.model.before_step(step)

    def after_step(self) -> None:
        """Let the learner's slow copy and queue follow."""
        self.model.after_step()

    def validate(self) -> dict[str, float]:
        """What the probe sees in the encoder: for watching; nothing is chosen by it, the last step is the result.

        Says how many batches since the last report held no pair; they added 0 to the loss and no gradient.
        """
        if empty := int(self._empty):
            say(f"{empty} of the last batches had no positive pair, and contributed no gradient")
            self._empty.zero_()
        return self.probe(self.model.network)


def _changes(options: PretrainOptions, method: Method) -> nn.Module:
    kind = options.augment or method.recipe.augment
    if kind not in method.changes:
        why = (
            " compares views of a slice, which would be the same picture" if kind == "none" else " has no such changes"
        )
        raise OptionError(
            f"--augment {kind}: {options.method}{why}", f"give {' or '.join(method.changes)}, or leave it out"
        )
    return method.changes[kind]()


def _network(options: PretrainOptions, norm: Norm) -> tuple[ProjectionNet, PublishedWeights | None]:
    """A network with PolyCL's head, and what the published weights are that its encoder has, if any."""
    network = build_projection(options.backbone, norm, inputs=inputs_of(options.context or 0))
    if options.weights is None:
        return network, None
    return network, load_published(network.encoder, options.backbone, options.weights)
