"""`--modality auto`: one decision for all scans of a command, and the refusal of a scan that it does not fit."""

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
from frugalseg.options.common import PERCENTILES, WINDOW, IntensityOptions, Modality, told_modality
from frugalseg.records.model import Preprocessing
from frugalseg.text import name_some

ScalingOptions = TypeVar("ScalingOptions", bound=IntensityOptions)

SAMPLED_SCANS = 3
"""Scans that are read before the work begins, where their files do not say what they are. All others are compared when
their turn comes."""


class ModalityError(ScanError):
    """A scan is of another modality than the model, or than the scans beside it."""


@dataclass(frozen=True)
class ExpectedModality:
    """What scans are to be.

    Attributes:
        kind: how they are scaled.
        who: who expects it, as the beginning of a sentence that goes on with "CT".
        also: kinds that are right too: a model that learned from scans that look otherwise, on purpose, takes those.
        certain: a person or a data set said so, and no scan is refused.
    """

    kind: ModalityKind
    who: str
    also: Collection[str] = ()
    certain: bool = False

    def check(self, case: str, path: Path, volume: Volume) -> None:
        """Raise `ModalityError` where the scan is of another kind, for certain or by its values."""
        if self.certain:
            return
        found = find_modality(path, volume)
        if found.kind is None or found.kind in (self.kind, *self.also):
            return
        raise ModalityError(
            f"{case} is {MODALITY_NAMES[found.kind]}, for {found.why}; {self.who} {MODALITY_NAMES[self.kind]}",
            f"leave it out, or insist with --modality {self.kind}",
        )


def expected_modality(model: Path, preprocessing: Preprocessing, modality: Modality) -> ExpectedModality:
    """What scans a trained model expects.

    Args:
        model: its run, for the message.
        preprocessing: what model.json says of it. Models made before it said `looks_like` are taken by their kind.
        modality: what the person says of the scans; the model's own kind insists.

    Raises:
        OptionError: the person says that they are of the other kind.
    """
    kind: ModalityKind = preprocessing.intensity.kind
    if modality not in ("auto", kind):
        raise OptionError(
            f"--modality {modality}: {model} was trained on {MODALITY_NAMES[kind]}",
            f"give a model trained on {MODALITY_NAMES[modality]}, or --modality {kind} to try this one on them",
        )
    return ExpectedModality(kind, "the model was trained on", preprocessing.looks_like, certain=modality == kind)


def resolve_intensity(
    options: ScalingOptions, images: Mapping[str, Path], workers: int | None = None
) -> tuple[ScalingOptions, ExpectedModality]:
    """The options with modality, window and percentiles filled in, and what each scan is to be.

    What the options say decides, then what the files say, then the values of a few scans. Where nothing tells, scans
    are scaled by percentiles, which show something of every scan, and a warning says so.

    Raises:
        ScanError: there are scans of both kinds.
    """
    told = told_modality(options)
    expected = (
        _find_common_modality(images, workers)
        if told == "auto"
        else ExpectedModality(told, "all scans were stated to be", certain=True)
    )
    return fill_intensity(options, expected.kind), expected


def to_intensity_scale(options: IntensityOptions) -> IntensityScale:
    """How intensities are scaled by options in which nothing is left open."""
    limits = options.window if options.modality == "ct" else options.percentiles
    assert options.modality != "auto"  # see `resolve_intensity`
    assert limits is not None
    return IntensityScale(options.modality, *limits)


def fill_intensity(options: ScalingOptions, kind: ModalityKind) -> ScalingOptions:
    """The options of scans of one kind, with modality, window and percentiles filled in."""
    window, percentiles = options.window or WINDOW, options.percentiles or PERCENTILES
    return replace(options, modality=kind, window=window, percentiles=percentiles)  # type: ignore[type-var]


def _find_common_modality(images: Mapping[str, Path], workers: int | None) -> ExpectedModality:
    found = {case: told for case, path in images.items() if (told := read_declared_modality(path)) is not None}
    silent = [case for case in images if case not in found]
    found |= _find_some_modalities(images, silent, any(finding.kind for finding in found.values()), workers)
    kinds = {finding.kind for finding in found.values()} - {None}
    if len(kinds) > 1:
        raise mixed_modalities_error(
            found | _find_modalities(images, [case for case in silent if case not in found], workers)
        )
    case, finding = next(((c, f) for c, f in found.items() if f.kind is not None), ("", Finding(None, "")))
    if finding.kind is None:
        warnings.warn(
            "neither the files nor their values tell whether the scans are CT in HU; they are scaled by percentiles, "
            "as MR is. Give --modality ct if they are CT, or --modality mr to say that this is right",
            stacklevel=4,
        )
        return ExpectedModality("mr", "the other scans are")
    how = "by a window in HU" if finding.kind == "ct" else "each by its own percentiles"
    say(f"the scans are treated as {MODALITY_NAMES[finding.kind]} ({case}: {finding.why}) and scaled {how}")
    return ExpectedModality(finding.kind, "the other scans are")


def _find_some_modalities(
    images: Mapping[str, Path], cases: Sequence[str], told: bool, workers: int | None
) -> dict[str, Finding]:
    """What a few of these scans are; more of them where those are broken, or crops that tell nothing."""
    found = _find_modalities(images, chosen := _pick_evenly(cases, SAMPLED_SCANS), workers)
    left = [case for case in cases if case not in chosen]
    while left and not told and not any(finding.kind for finding in found.values()):
        found |= _find_modalities(images, left[:SAMPLED_SCANS], workers)
        left = left[SAMPLED_SCANS:]
    return found


def _pick_evenly(cases: Sequence[str], count: int) -> list[str]:
    """`count` of the cases from all along the list, always the same ones; all of fewer."""
    if len(cases) <= count:
        return list(cases)
    return [cases[i * (len(cases) - 1) // (count - 1)] for i in range(count)]


def _find_modalities(images: Mapping[str, Path], cases: Sequence[str], workers: int | None) -> dict[str, Finding]:
    """What these scans are; those that cannot be read are left to the work itself to report."""
    if not cases:
        return {}
    jobs = {case: images[case] for case in cases}
    return map_cases(lambda path: find_modality(path, read_volume(path)), jobs, "looking at intensities", workers)[0]


def mixed_modalities_error(found: Mapping[str, Finding]) -> ScanError:
    """The error for scans of both kinds."""
    parts = [
        f"    {MODALITY_NAMES[kind]}: {name_some(case for case, f in found.items() if f.kind == kind)}, "
        f"for {next(f.why for f in found.values() if f.kind == kind)}"
        for kind in MODALITY_NAMES
    ]
    return ScanError(
        "there are scans of two kinds:\n" + "\n".join(parts),
        "give those of one kind, or state by --modality how to scale all of them",
    )
