"""The training task of all pre-training methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.device import to_device
from frugalseg.engine.progress import say
from frugalseg.engine.task import TrainingTask, steps_and_interval
from frugalseg.errors import OptionError
from frugalseg.models.blocks import ProjectionNet
from frugalseg.models.pretrained_weights import load_published
from frugalseg.models.registry import build_projection, choose_norm, input_channels
from frugalseg.options import Norm, PretrainOptions
from frugalseg.pretraining.learners import Learner
from frugalseg.pretraining.methods import LearnerSettings, Method, check_options, reads_superpixels, resolve_method
from frugalseg.pretraining.probe import Probe
from frugalseg.pretraining.samplers import Pool
from frugalseg.pretraining.slice_metadata import SliceMetadata
from frugalseg.pretraining.slice_selection import check_variety, select_training_slices
from frugalseg.pretraining.views import make_views
from frugalseg.records.networks import PublishedWeights
from frugalseg.records.split import Split

DEFAULT_EPOCHS = 100


@dataclass(frozen=True)
class PretrainBatch:
    """A batch of slices on the device.

    Attributes:
        images: (N, channels, S, S); of triplets all anchors, then all positives, then all negatives.
        rows: (N,) their rows in the store.
        superpixels: (N, S, S), for methods that read them from the store.
    """

    images: Tensor
    rows: Tensor
    superpixels: Tensor | None


class PretrainTask(TrainingTask):
    """Pre-training by any method: a sampler draws slices, augmentation makes views, a learner computes the loss.

    Attributes:
        method: what `options.method` names.
        rows: (N,) rows of the store to train on.
        norm: the network's normalisation layers.
        steps, interval: length of the run, steps between reports.
        published: the published weights that training starts from, or None.
        probe: monitors the encoder.
    """

    model: Learner

    def __init__(self, options: PretrainOptions, store: SliceStore, split: Split, device: torch.device) -> None:
        self.options = options
        check_options(options)
        self.method = resolve_method(options)
        recipe = self.method.recipe
        self.size = store.size
        self.rows = select_training_slices(store, split, options)
        metadata = SliceMetadata.from_store(store, self.rows, with_organs=self.method.annotation != "none")
        check_variety(options, self.rows, metadata)
        self.pool = Pool(self.rows, metadata)
        self._drawn = 0, self.method.sampler(self.pool, options, 0)
        self.steps_per_epoch = len(self.batches(0))
        self.steps, self.interval = steps_and_interval(
            self.steps_per_epoch, options.steps, options.epochs or DEFAULT_EPOCHS, reports=None
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
        self.metadata = metadata.to(device)
        self.augmentation = _make_augmentation(options, self.method)
        self.norm = choose_norm(options.backbone, options.norm, preferred="instance_affine")
        network, self.published = _build_network(options, self.norm, device)
        if self.method.head is not None:
            network.head = self.method.head.build(network.encoder.embedding_dim, len(store.targets))
        self.model = self.method.learner(network, self._setting())
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = recipe.make_optimizer(trained, options.lr)
        restart = options.restart_epochs * self.steps_per_epoch
        self.scheduler = recipe.make_schedule(self.optimizer, self.steps, restart)
        self._empty = torch.zeros((), device=device)

    def _setting(self) -> LearnerSettings:
        tau = self.options.temperature or self.method.recipe.tau
        return LearnerSettings(self.options, tau, self.steps, self.method.views)

    def batches(self, epoch: int) -> list[Tensor]:
        """The sampler's batches: rows (B,), or (B, 3) of triplets."""
        if self._drawn[0] != epoch:
            self._drawn = epoch, self.method.sampler(self.pool, self.options, epoch)
        return self._drawn[1]

    def stream(self, batches: Sequence[Tensor]) -> Iterator[PretrainBatch]:
        """The slices of each batch; of triplets all anchors, then all positives, then all negatives."""
        flat = [rows.reshape(len(rows), -1).T.reshape(-1) for rows in batches]
        for rows, slices in zip(flat, self.source.stream(flat), strict=True):
            yield PretrainBatch(slices.images, to_device(rows, slices.images.device), slices.superpixels)

    def losses(self, model: nn.Module, batch: PretrainBatch) -> dict[str, Tensor]:
        """The learner's loss on the views of the batch."""
        views = self.method.views
        outputs = model(make_views(batch.images, views, self.augmentation))
        losses = self.model.losses(outputs, self.metadata, batch.rows.repeat(views), batch.superpixels)
        if "empty" in losses:
            self._empty += losses["empty"]
        return losses

    def graphable_module(self) -> tuple[nn.Module, tuple[int, ...]] | None:
        """The learner on all views of a batch, if it only embeds them, in one pass through the network or several."""
        if not self.model.only_embeds:
            return None
        views = self.batches(0)[0].numel() * self.method.views
        return self.model, (views, input_channels(self.options.context or 0), self.size, self.size)

    @property
    def graphable(self) -> bool:
        """True for every method except SuperCL with superpixels computed on the CPU in every step."""
        return self.model.graphable

    def before_step(self, step: int) -> None:
        """Update what the learner's next step depends on."""
        self.model.before_step(step)

    def after_step(self) -> None:
        """Update the learner's momentum encoder and queue."""
        self.model.after_step()

    def validate(self) -> dict[str, float]:
        """The probe's figures of the encoder, for monitoring only: the result is the model of the last step.

        Reports how many batches since the last report had no positive pair; their loss is 0, without a gradient.
        """
        if empty := int(self._empty):
            say(f"{empty} of the last batches had no positive pair, and contributed no gradient")
            self._empty.zero_()
        return self.probe(self.model.network)


def _make_augmentation(options: PretrainOptions, method: Method) -> nn.Module:
    kind = options.augment or method.recipe.augment
    if kind not in method.augmentations:
        identical = " compares views of a slice, which would be identical"
        why = identical if kind == "none" else " does not have this augmentation"
        raise OptionError(
            f"--augment {kind}: {options.method}{why}", f"give {' or '.join(method.augmentations)}, or leave it out"
        )
    return method.augmentations[kind]()


def _build_network(
    options: PretrainOptions, norm: Norm, device: torch.device
) -> tuple[ProjectionNet, PublishedWeights | None]:
    """A network with PolyCL's head, and the published weights of its encoder, if any."""
    network = build_projection(options.backbone, norm, inputs=input_channels(options.context or 0), device=device)
    if options.weights is None:
        return network, None
    return network, load_published(network.encoder, options.backbone, options.weights)
