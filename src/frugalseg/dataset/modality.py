"""`--modality auto`: one modality for all scans of a command; scans of another one are refused."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from frugalseg.engine.parallel import map_cases
from frugalseg.engine.progress import say
from frugalseg.errors import OptionError, ScanError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.modality import MODALITY_NAMES, Finding, ModalityKind, find_modality, read_declared_modality
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import Volume
from frugalseg.options.common import PERCENTILES, WINDOW, IntensityOptions, Modality, stated_modality
from frugalseg.records.model import Preprocessing
from frugalseg.text import name_some

ScalingOptions = TypeVar("ScalingOptions", bound=IntensityOptions)

SAMPLED_SCANS = 3
"""Number of scans that are read in advance if their files do not declare a modality. The others are checked when they
are processed."""


class ModalityError(ScanError):
    """A scan has another modality than the model or the other scans."""


@dataclass(frozen=True)
class ExpectedModality:
    """The modality that all scans of a command must have.

    Attributes:
        kind: how they are scaled.
        reason: why, as the beginning of a sentence that ends with "CT".
        also: further accepted kinds, as for a model that was trained on scans whose values look like another kind.
        certain: stated by the user, so that no scan is refused.
    """

    kind: ModalityKind
    reason: str
    also: Collection[str] = ()
    certain: bool = False

    def check(self, case: str, path: Path | None, volume: Volume) -> None:
        """Raise `ModalityError` if the files (None for a scan without any) or the values show another kind."""
        if self.certain:
            return
        found = find_modality(path, volume)
        if found.kind is None or found.kind in (self.kind, *self.also):
            return
        raise ModalityError(
            f"{case} is {MODALITY_NAMES[found.kind]} ({found.why}); {self.reason} {MODALITY_NAMES[self.kind]}",
            f"remove it, or scale all scans alike with --modality {self.kind}",
        )


def expected_modality(model: Path, preprocessing: Preprocessing, modality: Modality) -> ExpectedModality:
    """The modality that a trained model expects.

    Args:
        model: its run, for messages.
        preprocessing: from model.json. Models from before `looks_like` was stored expect their own kind only.
        modality: the `--modality` option; if it states the kind of the model, no scan is refused.

    Raises:
        OptionError: the option states another kind than that of the model.
    """
    kind: ModalityKind = preprocessing.intensity.kind
    if modality not in ("auto", kind):
        raise OptionError(
            f"--modality {modality}: {model} was trained on {MODALITY_NAMES[kind]}",
            f"give a model trained on {MODALITY_NAMES[modality]}, or --modality {kind} to apply this one anyway",
        )
    return ExpectedModality(kind, "the model was trained on", preprocessing.looks_like, certain=modality == kind)


def resolve_intensity(
    options: ScalingOptions, images: Mapping[str, Path], workers: int | None = None
) -> tuple[ScalingOptions, ExpectedModality]:
    """The options with modality, window and percentiles filled in, and the modality that each scan must have.

    The options take precedence, then what the files declare, then the values of a few scans. If none of them decides,
    scans are scaled by percentiles, which suit every scan, and a warning says so.

    Raises:
        ScanError: there are scans of both kinds.
    """
    stated = stated_modality(options)
    expected = (
        _find_common_modality(images, workers)
        if stated == "auto"
        else ExpectedModality(stated, "all scans were stated to be", certain=True)
    )
    return fill_intensity(options, expected.kind), expected


def to_intensity_scale(options: IntensityOptions) -> IntensityScale:
    """The intensity scaling of options that were completed by `resolve_intensity`."""
    limits = options.window if options.modality == "ct" else options.percentiles
    assert options.modality != "auto"  # see `resolve_intensity`
    assert limits is not None
    return IntensityScale(options.modality, *limits)


def fill_intensity(options: ScalingOptions, kind: ModalityKind) -> ScalingOptions:
    """The options with modality, window and percentiles filled in for scans of one kind."""
    window, percentiles = options.window or WINDOW, options.percentiles or PERCENTILES
    return replace(options, modality=kind, window=window, percentiles=percentiles)  # type: ignore[type-var]


def _find_common_modality(images: Mapping[str, Path], workers: int | None) -> ExpectedModality:
    found = {case: finding for case, path in images.items() if (finding := read_declared_modality(path)) is not None}
    undeclared = [case for case in images if case not in found]
    found |= _find_some_modalities(images, undeclared, any(finding.kind for finding in found.values()), workers)
    kinds = {finding.kind for finding in found.values()} - {None}
    if len(kinds) > 1:
        raise mixed_modalities_error(
            found | _find_modalities(images, [case for case in undeclared if case not in found], workers)
        )
    case, finding = next(((c, f) for c, f in found.items() if f.kind is not None), ("", Finding(None, "")))
    if finding.kind is None:
        warnings.warn(
            "neither the files nor their values show whether the scans are CT in HU; they are scaled by percentiles, "
            "like MR. Give --modality ct if they are CT, or --modality mr to confirm the scaling",
            stacklevel=4,
        )
        return ExpectedModality("mr", "the other scans are")
    how = "by a window in HU" if finding.kind == "ct" else "each by its own percentiles"
    say(f"the scans are treated as {MODALITY_NAMES[finding.kind]} ({case}: {finding.why}) and scaled {how}")
    return ExpectedModality(finding.kind, "the other scans are")


def _find_some_modalities(
    images: Mapping[str, Path], cases: Sequence[str], decided: bool, workers: int | None
) -> dict[str, Finding]:
    """The modality of a few of these scans; of more, until one is found, if those are unreadable or undetermined."""
    found = _find_modalities(images, chosen := _pick_evenly(cases, SAMPLED_SCANS), workers)
    left = [case for case in cases if case not in chosen]
    while left and not decided and not any(finding.kind for finding in found.values()):
        found |= _find_modalities(images, left[:SAMPLED_SCANS], workers)
        left = left[SAMPLED_SCANS:]
    return found


def _pick_evenly(cases: Sequence[str], count: int) -> list[str]:
    """`count` evenly spaced cases of the list, or all if there are fewer."""
    if len(cases) <= count:
        return list(cases)
    return [cases[i * (len(cases) - 1) // (count - 1)] for i in range(count)]


def _find_modalities(images: Mapping[str, Path], cases: Sequence[str], workers: int | None) -> dict[str, Finding]:
    """The modality of these scans, without unreadable ones, which are reported when they are processed."""
    if not cases:
        return {}
    jobs = {case: images[case] for case in cases}
    return map_cases(lambda path: find_modality(path, read_volume(path)), jobs, "checking intensities", workers)[0]


def mixed_modalities_error(found: Mapping[str, Finding]) -> ScanError:
    """The error for scans of both kinds."""
    parts = [
        f"    {MODALITY_NAMES[kind]}: {name_some(case for case, f in found.items() if f.kind == kind)} "
        f"({next(f.why for f in found.values() if f.kind == kind)})"
        for kind in MODALITY_NAMES
    ]
    return ScanError(
        "there are scans of two modalities:\n" + "\n".join(parts),
        "give scans of one modality, or state with --modality how to scale all of them",
    )
