"""What a fine-tuning trains: a whole network of the registry, or a light decoder on a frozen encoder's features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from frugalseg.errors import OptionError
from frugalseg.features.decoder import build_feature_segmenter
from frugalseg.features.encoder import FrozenEncoder
from frugalseg.models.blocks import MaskNetwork, Segmenter
from frugalseg.models.pretrained_weights import load_published
from frugalseg.models.registry import BACKBONES, build_segmenter, choose_norm, input_channels
from frugalseg.models.saved import load_encoder
from frugalseg.options import FinetuneOptions, Norm, Precision
from frugalseg.plugins import PluginOrigin, describe_failures
from frugalseg.records.model import PromptableModel
from frugalseg.records.networks import PublishedWeights, SegmenterRecord

if TYPE_CHECKING:
    from frugalseg.dataset.source import RowArray
    from frugalseg.features.cache import SliceFeatures
    from frugalseg.segmentation.presets import Preset

FROZEN_NORM: Norm = "batch"
"""Default norm on a frozen encoder, whatever a preset prefers: an instance norm removes from a slice's features how
strong they are on the whole, which says what the slice shows."""
STEPS = 300
"""Steps of a decoder on a frozen encoder, for presets with a number of steps."""
COPIES = 0
"""Default of --copies for a frozen encoder."""


@dataclass(frozen=True)
class NetworkShape:
    """What a network is built for.

    Attributes:
        classes: number of organs.
        norm: normalisation layers, see `Architecture.choose_norm`.
        dropout: by default that of the architecture.
        context: neighbouring slices on each side that it sees.
        side: of the slices, in pixels.
    """

    classes: int
    norm: Norm
    dropout: float | None
    context: int
    side: int


class Architecture(Protocol):
    """A kind of network that `finetune` trains."""

    @property
    def device(self) -> torch.device:
        """Where its networks run."""

    @property
    def backbone(self) -> str:
        """Its name, as in the options."""

    @property
    def frozen_encoder(self) -> PromptableModel | None:
        """The frozen encoder, for the record; None without one."""

    def choose_norm(self, requested: Norm | None, preferred: Norm) -> Norm:
        """The norm of its networks; raises `OptionError` for one that they cannot have."""

    def adapt(self, preset: Preset) -> Preset:
        """The preset with what its networks need otherwise."""

    def build(self, shape: NetworkShape) -> MaskNetwork:
        """A network with initial weights."""

    def build_initialized(
        self, shape: NetworkShape, options: FinetuneOptions
    ) -> tuple[MaskNetwork, PublishedWeights | None]:
        """A network that starts from what the options give; raises `OptionError` or `RunError` for what does not fit.

        Returns:
            The network, and published weights that were loaded into it, if any.
        """

    def count_copies(self, options: FinetuneOptions) -> int:
        """Changed copies of each labelled slice to train on; raises `OptionError` for --copies where it needs none."""

    def open_features(self, images: RowArray, cache: Path) -> SliceFeatures | None:
        """The features of slices (N, S, S) that the networks take, cached; None where they take slices alone."""


@dataclass(frozen=True)
class WholeNetwork:
    """A network of `models.registry`; see `Architecture`.

    Attributes:
        backbone: its name.
        device: where it will run.
    """

    backbone: str
    device: torch.device
    frozen_encoder: None = None

    def choose_norm(self, requested: Norm | None, preferred: Norm) -> Norm:
        """See `Architecture.choose_norm`."""
        return choose_norm(self.backbone, requested, preferred)

    def adapt(self, preset: Preset) -> Preset:
        """See `Architecture.adapt`."""
        return preset

    def build(self, shape: NetworkShape) -> Segmenter:
        """See `Architecture.build`."""
        inputs = input_channels(shape.context)
        return build_segmenter(
            self.backbone, shape.classes, shape.norm, shape.dropout, inputs=inputs, device=self.device
        )

    def build_initialized(
        self, shape: NetworkShape, options: FinetuneOptions
    ) -> tuple[MaskNetwork, PublishedWeights | None]:
        """See `Architecture.build_initialized`."""
        network = self.build(shape)
        if options.encoder is not None:
            load_encoder(network.encoder, options.encoder)
        if options.weights is not None:
            return network, load_published(network.encoder, self.backbone, options.weights)
        return network, None

    def count_copies(self, options: FinetuneOptions) -> int:
        """See `Architecture.count_copies`; every slice is changed anew in every step."""
        if options.copies is not None:
            raise OptionError(
                f"--copies {options.copies} applies to frozen encoders only, --backbone {self.backbone} is none",
                "leave out --copies",
            )
        return 0

    def open_features(self, images: RowArray, cache: Path) -> None:
        """See `Architecture.open_features`."""


@dataclass(frozen=True)
class DecoderOnFeatures:
    """A light decoder on the features of a frozen encoder; see `Architecture`.

    Attributes:
        encoder: the frozen encoder.
        device: where the decoder will run.
    """

    encoder: FrozenEncoder
    device: torch.device

    @property
    def backbone(self) -> str:
        """See `Architecture.backbone`."""
        return self.encoder.given

    @property
    def frozen_encoder(self) -> PromptableModel:
        """See `Architecture.frozen_encoder`."""
        return self.encoder.record

    def choose_norm(self, requested: Norm | None, preferred: Norm) -> Norm:
        """See `Architecture.choose_norm`; every norm is possible."""
        return requested or FROZEN_NORM

    def adapt(self, preset: Preset) -> Preset:
        """See `Architecture.adapt`; a light decoder has learned what it can after few steps."""
        augment = "features" if preset.augment == "robust" else preset.augment
        return replace(preset, augment=augment, steps=preset.steps and STEPS)

    def build(self, shape: NetworkShape) -> MaskNetwork:
        """See `Architecture.build`."""
        settings = (shape.context, shape.side, shape.classes, shape.norm, shape.dropout or 0.0)
        return build_feature_segmenter(self.encoder, *settings, device=self.device)

    def build_initialized(
        self, shape: NetworkShape, options: FinetuneOptions
    ) -> tuple[MaskNetwork, PublishedWeights | None]:
        """See `Architecture.build_initialized`."""
        if options.weights is not None:
            raise OptionError(
                f"--weights {options.weights}: --backbone {self.backbone} is a frozen encoder with weights of its own",
                "leave out --weights",
            )
        return self.build(shape), None

    def count_copies(self, options: FinetuneOptions) -> int:
        """See `Architecture.count_copies`."""
        return COPIES if options.copies is None else options.copies

    def open_features(self, images: RowArray, cache: Path) -> SliceFeatures:
        """See `Architecture.open_features`."""
        from frugalseg.features.cache import SliceFeatures  # prediction needs neither the store nor pandas

        return SliceFeatures(images, self.encoder, cache)


def choose_norm_of(backbone: str, requested: Norm | None, preferred: Norm) -> Norm:
    """As `Architecture.choose_norm`, for the name of a backbone; a frozen encoder is not loaded."""
    return choose_norm(backbone, requested, preferred) if backbone in BACKBONES else requested or FROZEN_NORM


def find_plugin(backbone: str) -> PluginOrigin | None:
    """The plug-in that a backbone is from; None for one of frugalseg, and for a frozen encoder."""
    return BACKBONES.origin(backbone) if backbone in BACKBONES else None


def find_architecture(backbone: str, device: torch.device, precision: Precision) -> Architecture:
    """The architecture of a name: a backbone of the registry, or a frozen encoder.

    Raises:
        OptionError, RunError: there is none of this name, or the encoder's weights are not installed or damaged.
    """
    if backbone in BACKBONES:
        return WholeNetwork(backbone, device)
    try:
        return DecoderOnFeatures(FrozenEncoder.load(backbone, device, precision), device)
    except OptionError as error:
        raise OptionError(
            f"--backbone {backbone}: {error.problem}{describe_failures()}",
            f"give a network ({', '.join(sorted(BACKBONES))}) or an image encoder; for an encoder {error.cure}",
        ) from error


def recorded_architecture(
    record: SegmenterRecord,
    run: Path,
    device: torch.device,
    precision: Precision,
    encoder: str | None = None,
    cache: Path | None = None,
) -> Architecture:
    """The architecture of a trained model.

    Args:
        record: model.json.
        run: its folder, for messages.
        device, precision: of the frozen encoder, if it has one.
        encoder: name, folder or file of that encoder; None for that of the training.
        cache: folder of its cached features; None for none.

    Raises:
        OptionError, RunError: the encoder is missing or damaged, or another one than that of the training; or there is
            none, but `encoder` or `cache` was given.
    """
    if record.frozen_encoder is None:
        for option, given in (("--backbone", encoder), ("--cache", cache)):
            if given is not None:
                raise OptionError(f"{option} {given}: {run} has no frozen encoder", f"leave out {option}")
        return WholeNetwork(record.backbone, device)
    found = FrozenEncoder.load_recorded(record.frozen_encoder, run, encoder, device, precision)
    return DecoderOnFeatures(found if cache is None else found.with_cache(cache), device)
