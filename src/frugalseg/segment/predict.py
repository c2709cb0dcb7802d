"""`frugalseg predict`: masks of whole scans, each in its scan's own grid.

Slices stream through the network in batches, so memory holds the scan, its mask and one batch. No reference mask
is read anywhere on this path.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from frugalseg._version import __version__
from frugalseg.dataset.targets import Targets, to_values
from frugalseg.engine.device import autocast, describe, find_device
from frugalseg.engine.files import write_json
from frugalseg.engine.parallel import list_failures, map_cases
from frugalseg.engine.progress import say
from frugalseg.errors import RunError, ScanError, disk_errors
from frugalseg.imaging.find import find_dataset
from frugalseg.imaging.fingerprint import fingerprint
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.square import Square
from frugalseg.imaging.volume import Volume, axial_slices, canonical
from frugalseg.imaging.write import mask_path, write_mask
from frugalseg.models.registry import build_segmenter
from frugalseg.models.saved import load_spec, load_weights
from frugalseg.options import PredictOptions
from frugalseg.segment.components import keep_largest
from frugalseg.segment.losses import probabilities
from frugalseg.segment.note import NOTE

BATCH = {"cpu": 4, "cuda": 32}
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))


@dataclass(frozen=True)
class Predictor:
    """A trained model with everything that must happen before and after it.

    Attributes:
        network: the segmenter, on its device, in evaluation mode.
        targets: organ → label values, in the order of the classes.
        largest: classes of which only the largest component is kept.
        scans: case, fingerprint and role of each scan of the model's data set.
    """

    network: nn.Module
    device: torch.device
    targets: Targets
    intensity: IntensityScale
    size: int
    largest: list[int]
    scans: list[dict[str, str]]
    options: PredictOptions

    @classmethod
    def load(cls, options: PredictOptions) -> Predictor:
        """Load the model of a fine-tuning run; raises `RunError` or `DeviceError`."""
        spec = load_spec(options.model, "segmenter")
        device = find_device(options.device)
        network = build_segmenter(spec["backbone"], len(spec["targets"]), spec["norm"])
        network.load_state_dict(load_weights(options.model))
        wanted = {"model": spec["keep_largest"].get, "on": lambda _: True, "off": lambda _: False}
        return cls(
            network=network.to(device).eval(),
            device=device,
            targets={name: tuple(values) for name, values in spec["targets"].items()},
            intensity=IntensityScale.from_dict(spec["preprocessing"]["intensity"]),
            size=spec["preprocessing"]["size"],
            largest=[i for i, name in enumerate(spec["targets"], start=1) if wanted[options.keep_largest](name)],
            scans=spec["scans"],
            options=options,
        )

    def segment(self, volume: Volume) -> Volume:
        """The mask of a scan, in the users' label values and on the scan's grid."""
        upright, way = canonical(volume)
        stack = axial_slices(upright.array)
        limits = self.intensity.fit(upright.array)
        square = Square.fit(stack.shape[1:], (upright.spacing[1], upright.spacing[0]), self.size)
        classes = np.empty(stack.shape, dtype=np.uint8)
        at_once = self.options.batch_size or BATCH[self.device.type]
        for z in range(0, len(stack), at_once):
            chunk = slice(z, z + at_once)
            images = torch.from_numpy(self.intensity.apply(stack[chunk], limits))
            classes[chunk] = self._classes(square, square.images(images))
        keep_largest(classes, self.largest)
        return volume.with_array(to_values(way.undo(axial_slices(classes)), self.targets))

    def role(self, case: str, volume: Volume) -> str:
        """What the model saw of this scan (see `finetune.scan_roles`), or "new".

        A scan is known by its voxels. Where they are new but the case id is not, it is taken for the scan of that
        id, changed on the way: to call a training scan new would be the worse error.
        """
        voxels = fingerprint(canonical(volume)[0])
        for scan in self.scans:
            if scan["fingerprint"] == voxels:
                return scan["role"]
        for scan in self.scans:
            if scan["case"] == case:
                warnings.warn(
                    f"{case} has the name of a scan of the model's data set but other voxels; it is counted as "
                    f"{scan['role']!r}. Rename it if it is another patient's",
                    stacklevel=2,
                )
                return scan["role"]
        return "new"

    @torch.inference_mode()
    def _classes(self, square: Square, images: Tensor) -> npt.NDArray[np.uint8]:
        """Square slices (N, S, S) → classes on the scan's own slices (N, H, W)."""
        shown = images.to(self.device).unsqueeze(1)
        views = FLIPS if self.options.flips else FLIPS[:1]
        with autocast(self.options.precision, self.device):
            logits = [self.network(shown.flip(axes)).flip(axes) for axes in views]
        mean = torch.stack([probabilities(one) for one in logits]).mean(dim=0)
        full = square.back(mean)
        background = 1 - full.sum(dim=1, keepdim=True)
        return torch.cat([background, full], dim=1).argmax(dim=1).to(torch.uint8).cpu().numpy()


def predict(options: PredictOptions) -> dict[str, Path]:
    """Segment every scan of `options.images`; returns case id → mask.

    A scan that cannot be read or segmented is reported and left out, the others are done.

    Raises:
        ScanError: some scans failed, after all others are written.
        RunError: the model is not there, or `out` is in use.
        DeviceError: the GPU asked for is not there.
    """
    predictor = Predictor.load(options)
    images, _ = find_dataset(options.images, None)
    if options.out.exists() and any(options.out.iterdir()) and not options.overwrite:
        raise RunError(f"{options.out} is in use", "choose another --out, or give --overwrite")
    scans = {path.resolve() for path in images.values()}
    if over := [case for case, path in images.items() if mask_path(options.out, case, path).resolve() in scans]:
        raise RunError(f"the mask of {over[0]} would overwrite the scan itself", "choose another --out")
    with disk_errors(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
        # An older note would speak for the masks of this model until the new one is there.
        (options.out / NOTE).unlink(missing_ok=True)
    say(f"segmenting {len(images)} scans on {describe(predictor.device)}")
    work = _segment_file(predictor, options.out)
    jobs = {case: (case, path) for case, path in images.items()}
    # One scan at a time: the network uses every core, and memory holds one scan.
    done, failures = map_cases(work, jobs, "predicting", workers=0)
    note = {
        "version": __version__,
        "model": str(options.model.resolve()),
        "targets": {name: list(values) for name, values in predictor.targets.items()},
        "settings": {
            "flips": options.flips,
            "keep_largest": [list(predictor.targets)[i - 1] for i in predictor.largest],
        },
        "images": {case: str(path.resolve()) for case, path in images.items()},
        "masks": {case: path.name for case, (path, _) in done.items()},
        "roles": {case: role for case, (_, role) in done.items()},
        "failed": {case: error.problem for case, error in failures.items()},
    }
    write_json(options.out / NOTE, note)
    if failures:
        raise ScanError(
            f"{len(failures)} of {len(images)} scans were not segmented, the others are in {options.out}:\n"
            f"{list_failures(failures)}",
            "mend or remove them, and predict them again into another folder",
        )
    return {case: path for case, (path, _) in done.items()}


def _segment_file(predictor: Predictor, out: Path) -> Callable[[tuple[str, Path]], tuple[Path, str]]:
    def work(job: tuple[str, Path]) -> tuple[Path, str]:
        case, source = job
        scan = read_volume(source)
        path = mask_path(out, case, source)
        write_mask(predictor.segment(scan), path)
        return path, predictor.role(case, scan)

    return work
