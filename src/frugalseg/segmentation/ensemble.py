"""Several trained models as one network: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from frugalseg.engine.files import sha256
from frugalseg.errors import OptionError
from frugalseg.models.saved import WEIGHTS, read_network_record
from frugalseg.records.networks import SegmenterRecord
from frugalseg.segmentation.losses import probabilities

SMALLEST = 1e-7
"""Smallest probability, so that its logarithm is finite."""
CLOSEST_FIRST = ("train", "validation", "pretrain", "unused", "test", "new")
"""Roles of a scan, the one that a model knows best first."""


@dataclass(frozen=True)
class Member:
    """A trained model.

    Attributes:
        run: its folder.
        record: its model.json.
    """

    run: Path
    record: SegmenterRecord

    @classmethod
    def read(cls, run: Path) -> Member:
        """The model in a run folder; raises `RunError` where there is no finished fine-tuning."""
        return cls(run, read_network_record(SegmenterRecord, run))

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of its weights."""
        return sha256(self.run / WEIGHTS)

    def check_alike(self, first: Member) -> None:
        """Raise `OptionError` if it segments other organs than `first`, or expects other slices."""
        own, others = self.record.preprocessing, first.record.preprocessing
        for name, given, expected in (
            ("organs", list(self.record.targets), list(first.record.targets)),
            ("size", own.size, others.size),
            ("intensities", own.intensity, others.intensity),
        ):
            if given != expected:
                raise OptionError(
                    f"--model {self.run}: its {name} are {given}, those of {first.run} are {expected}",
                    "average models that were trained on stores prepared with the same options",
                )


class Ensemble(nn.Module):
    """The mean of the probabilities of several networks.

    Args:
        networks: each gives logits (B, C, S, S), the background's being 0.
        contexts: for each, how many neighbouring slices it sees on each side.
    """

    def __init__(self, networks: Sequence[nn.Module], contexts: Sequence[int]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.contexts = tuple(contexts)

    def forward(self, images: Tensor) -> Tensor:
        """Slices with the neighbours of the largest context (B, 2·context + 1, S, S) → logits (B, C, S, S), float32.

        `probabilities` of these logits is the mean of the networks' probabilities.
        """
        centre = images.shape[1] // 2
        shown = (images[:, centre - context : centre + context + 1].contiguous() for context in self.contexts)
        found = [probabilities(network(seen).float()) for network, seen in zip(self.networks, shown, strict=True)]
        mean = torch.stack(found).mean(dim=0)
        background = 1 - mean.sum(dim=1, keepdim=True)
        return mean.clamp(min=SMALLEST).log() - background.clamp(min=SMALLEST).log()


def closest_role(roles: Sequence[str]) -> str:
    """The role of a scan for several models: a scan that one of them has learned from is no new scan."""
    return min(roles, key=CLOSEST_FIRST.index)
