"""`frugalseg.load`: a trained model that segments scans from Python, without files.

It is in this package because it knows every kind of model, as `frugalseg predict` does.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from frugalseg.commands.functions import make_signature
from frugalseg.commands.help import unknown_option_error
from frugalseg.commands.table import COMMANDS
from frugalseg.commands.values import to_options
from frugalseg.engine.threads import use_threads
from frugalseg.errors import OptionError, ScanError
from frugalseg.imaging.find import find_dataset
from frugalseg.imaging.volume import Array, Volume, axial_slices, canonical, format_shape
from frugalseg.imaging.write import write_mask
from frugalseg.options import PredictOptions
from frugalseg.records.confidence import OrganConfidence
from frugalseg.sam_mix.predict_options import is_sam_mix, sam_mix_options
from frugalseg.segmentation.predict import NOT_WRITTEN, Predictor, written
from frugalseg.segmentation.probability_maps import STEPS, ProbabilityMaps

OPTIONS = (
    *("modality", "tta", "tta_degrees", "keep", "batch_size"),
    *("device", "threads", "precision", "backbone", "cache", "target"),
)
"""Options of `predict` that belong to a model, not to files."""
NO_PATH = Path()
"""In place of the folders of `predict`, which are not read or written here."""
ARRAY = "array"
"""Case id of a scan that is given as an array."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction:
    """The mask of one scan, in the grid of that scan.

    Attributes:
        mask: (X, Y, Z) label values in the order of the scan's own axes; 0 is background.
        organs: organ → label values; the mask has the first.
        affine: 4×4, voxel index → millimetres in RAS+ (nibabel's convention): that of the scan.
        spacing: voxel size in mm along each axis.
        confidence: organ → how far its mask may be trusted; without organs that the scan does not show, and empty for
            SAM-Mix.
        role: what the model saw of this scan: "new", or for example "train" or "test".
        probabilities: organ → (X, Y, Z) float32 in 0…1, in steps of 1/255; empty unless asked for.
        uncertainty: (X, Y, Z) float32: entropy of these probabilities, 0 (certain) to 1; None unless asked for.
        presence: organ → (Z,) probability that a slice shows it, counted towards the head; SAM-Mix only.
    """

    mask: npt.NDArray[np.integer[Any]]
    organs: Mapping[str, tuple[int, ...]]
    affine: npt.NDArray[np.float64]
    spacing: tuple[float, float, float]
    confidence: Mapping[str, OrganConfidence]
    role: str
    probabilities: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    uncertainty: npt.NDArray[np.float32] | None = None
    presence: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    _volume: Volume = field(repr=False)

    def organ(self, name: str) -> npt.NDArray[np.bool_]:
        """The mask of one organ (X, Y, Z); raises `OptionError` for an unknown one."""
        if name not in self.organs:
            raise OptionError(f"the model has no organ {name!r}", f"choose one of: {', '.join(self.organs)}")
        found: npt.NDArray[np.bool_] = self.mask == self.organs[name][0]
        return found

    def volume_ml(self, name: str) -> float:
        """The volume of one organ, ml."""
        voxel = abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000
        return int(self.organ(name).sum()) * voxel

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the mask as .nii.gz, .nii, .nrrd or .mha, as `frugalseg predict` does; raises `DiskError`."""
        write_mask(self._volume, Path(path))
        return Path(path)


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model, or the mean of several, ready to segment scans.

    Attributes:
        runs: its run folders.
        organs: organ → label values that it writes.
        options: the options it was loaded with.
    """

    runs: tuple[Path, ...]
    organs: Mapping[str, tuple[int, ...]]
    options: PredictOptions = field(repr=False)
    _predictor: Predictor = field(repr=False)
    _make: Callable[[Predictor, Volume, bool], tuple[Volume, dict[str, Any]]] = field(repr=False)

    def predict(
        self,
        scan: str | os.PathLike[str] | npt.ArrayLike,
        *,
        spacing: Sequence[float] | None = None,
        affine: npt.ArrayLike | None = None,
        axes: str = "LPS",
        probabilities: bool = False,
    ) -> Prediction:
        """Segment one scan.

        Args:
            scan: a file, a DICOM folder, or an array (X, Y, Z) of the scan's intensities (CT: HU).
            spacing: of an array without `affine`: voxel size in mm along each of its axes.
            affine: of an array: 4×4, voxel index → millimetres in RAS+, as nibabel's `image.affine`.
            axes: with `spacing`: where the array's axes run, as three letters of R L A P S I. LPS: to the patient's
                left, back and head, as in DICOM and ITK; SPL: as SimpleITK's `GetArrayFromImage` returns it.
            probabilities: whether to return the probabilities of each voxel too. They take a byte per voxel and organ
                while the scan is segmented, then four.

        Raises:
            ScanError: the file cannot be read; the array is not 3D, not of real numbers or not finite, or lacks its
                spacing; or the scan is of another modality than the model's.
            OptionError: `spacing`, `affine` or `axes` is invalid or does not fit; or the model is a SAM-Mix, which has
                no probabilities.
        """
        is_path = isinstance(scan, (str, os.PathLike))
        if is_path and (spacing is not None or affine is not None):
            raise OptionError("spacing or affine was given with a file, which states its own", "leave it out")
        with use_threads(self.options.threads):
            if is_path:
                case, path = _find_scan(Path(os.fspath(scan)))  # type: ignore[arg-type]
                found, role = self._predictor.read(case, path)
            else:
                found = to_volume(scan, spacing, affine, axes)
                self._predictor.expected.check(f"the {ARRAY}", None, found)
                role = self._predictor.role(ARRAY, found)
            return self._segment(found, role, probabilities)

    def _segment(self, scan: Volume, role: str, probabilities: bool) -> Prediction:
        mask, more = self._make(self._predictor, scan, probabilities)
        return Prediction(
            mask=np.ascontiguousarray(mask.array),
            organs=self.organs,
            affine=mask.affine,
            spacing=mask.spacing,
            role=role,
            _volume=mask,
            **more,
        )


def _segment(predictor: Predictor, scan: Volume, probabilities: bool) -> tuple[Volume, dict[str, Any]]:
    """The mask of a scan by a model of `finetune`, and the fields of `Prediction` that it fills."""
    made = predictor.segment_with_confidence(scan, probabilities)
    maps = {} if made.maps is None else _to_arrays(made.maps, predictor, scan)
    return made.mask, {"confidence": made.confidence, **maps}


def _to_arrays(maps: ProbabilityMaps, predictor: Predictor, scan: Volume) -> dict[str, Any]:
    """Probabilities and uncertainty on the scan's grid, 0…1."""
    way = canonical(scan)[1]

    def restore(plane: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(way.undo(axial_slices(plane))).astype(np.float32) / np.float32(STEPS)

    planes = zip(predictor.targets.items(), maps.planes, strict=True)
    return {
        "probabilities": {organ: restore(plane) for (organ, values), plane in planes if values != NOT_WRITTEN},
        "uncertainty": restore(maps.uncertainty),
    }


def _segment_mixed(predictor: Predictor, scan: Volume, probabilities: bool) -> tuple[Volume, dict[str, Any]]:
    """As `_segment`, by a SAM-Mix."""
    from frugalseg.sam_mix.predict import MixPredictor

    assert isinstance(predictor, MixPredictor)
    if probabilities:
        raise OptionError("a SAM-Mix has no probabilities of voxels", "leave out probabilities")
    made = predictor.segment_with_presence(scan)
    return made.mask, {"confidence": {}, "presence": dict(zip(predictor.trained, made.present.T, strict=True))}


def load(*models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], **options: Any) -> Model:
    """Load a trained model from its run folder; several are averaged.

    Args:
        models: run of `finetune` or of `sam_mix_train`, or several runs of `finetune`, also as a list.
        options: those of `frugalseg predict` that belong to a model: modality, tta, tta_degrees, keep, batch_size,
            device, threads, precision, backbone, cache, target.

    Raises:
        RunError: there is no finished run, or it is damaged, or one of `pretrain`.
        OptionError: an option is unknown or wrong, or the models cannot be averaged.
        DeviceError: there is no such GPU.
    """
    if unknown := [name for name in options if name not in OPTIONS]:
        raise unknown_option_error(unknown[0], "predict", OPTIONS)
    runs = [run for given in models for run in ([given] if isinstance(given, (str, os.PathLike)) else given)]
    given = to_options("predict", COMMANDS["predict"], {"model": runs, "images": NO_PATH, "out": NO_PATH, **options})
    with use_threads(given.threads):
        mixed = is_sam_mix(given.runs[0])
        predictor = _load_mixed(given) if mixed else Predictor.load(given)
    return Model(tuple(given.runs), written(predictor.targets), given, predictor, _segment_mixed if mixed else _segment)


def _load_mixed(options: PredictOptions) -> Predictor:
    from frugalseg.sam_mix.predict import MixPredictor  # imports transformers, which takes seconds

    return MixPredictor.from_options(sam_mix_options(options))


def _find_scan(path: Path) -> tuple[str, Path]:
    """Case id and path of the only scan at `path`."""
    scans = find_dataset(path, None)[0]
    if len(scans) > 1:
        raise ScanError(
            f"{path} holds {len(scans)} scans, expected one",
            "give one scan, or use frugalseg.predict, which writes the masks of a folder",
        )
    return next(iter(scans.items()))


def to_volume(scan: Any, spacing: Sequence[float] | None, affine: Any, axes: str = "LPS") -> Volume:
    """An array as a scan; for arguments and errors see `Model.predict`."""
    array = _to_numbers(scan)
    if (spacing is None) == (affine is None):
        given = "neither spacing nor affine" if affine is None else "both spacing and affine"
        raise ScanError(
            f"an array was given with {given}", "give spacing, the voxel size in mm along each axis, or the affine"
        )
    if affine is None:
        return Volume(array, _to_affine(spacing, axes))
    try:
        return Volume(array, np.asarray(affine, np.float64))
    except (TypeError, ValueError):
        problem = "the affine is not a 4×4 matrix of numbers"
        raise ScanError(problem, "give for example nibabel's image.affine") from None


def _to_numbers(scan: Any) -> Array:
    """A 3D array of finite real numbers, in a type that files have too."""
    try:
        array = np.asarray(scan)
    except (TypeError, ValueError, RuntimeError):
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        kind = type(scan).__name__ if array.dtype == object else f"an array of {array.dtype}"
        raise ScanError(f"the scan is {kind}, expected a path or an array of numbers", "give its intensities (CT: HU)")
    if array.ndim != 3 or 0 in array.shape:
        raise ScanError(
            f"the array has the shape {format_shape(array.shape) or '()'}, expected three axes (X, Y, Z)",
            "give one 3D volume; a single slice is array[:, :, None]",
        )
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        kept = array.astype(np.float32) if array.dtype.kind == "f" else array
    if bad := int(np.count_nonzero(~np.isfinite(kept))):
        raise ScanError(
            f"{bad} of {array.size} voxels of the array are NaN, infinite or too large",
            "replace them, for example by air",
        )
    if kept.dtype.itemsize <= 4:
        return kept
    limits = np.iinfo(np.int32)
    if kept.min() < limits.min or kept.max() > limits.max:
        raise ScanError(
            f"the array has values from {kept.min()} to {kept.max()}, expected at most 32 bits", "give its intensities"
        )
    return kept.astype(np.int32)


def _to_affine(spacing: Any, axes: str) -> npt.NDArray[np.float64]:
    """The affine of an array with this spacing, whose axes run in these directions."""
    try:
        sizes = np.asarray(spacing, np.float64)
    except (TypeError, ValueError):
        sizes = np.empty(0)
    if sizes.shape != (3,) or not np.isfinite(sizes).all() or (sizes <= 0).any():
        raise OptionError(f"spacing {spacing}: expected three numbers above 0", "give mm along each axis of the array")
    pairs = ("RL", "AP", "SI")
    rows = [next((row for row, pair in enumerate(pairs) if letter in pair), None) for letter in str(axes).upper()]
    if sorted(row for row in rows if row is not None) != [0, 1, 2] or len(rows) != 3:
        raise OptionError(f"axes {axes!r}: expected one letter each of R or L, A or P, S or I", "give for example LPS")
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (row, letter) in enumerate(zip(rows, str(axes).upper(), strict=True)):
        assert row is not None
        affine[row, axis] = sizes[axis] * (1 if letter == pairs[row][0] else -1)
    return affine


load.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        next(iter(inspect.signature(load).parameters.values())),
        *(make_signature(COMMANDS["predict"]).parameters[name] for name in OPTIONS),
    ]
)
