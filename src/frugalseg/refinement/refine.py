"""`frugalseg refine`: boxes around the input masks prompt a model that segments the organs again.

No reference is read on this way, except with --oracle, which says so in the note.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from frugalseg._version import __version__
from frugalseg.dataset.modality import scale_of, settle
from frugalseg.dataset.targets import Targets, parse_targets, to_classes, to_values
from frugalseg.engine.device import describe, find_device
from frugalseg.engine.files import check_out, sha256
from frugalseg.engine.progress import progress, say
from frugalseg.engine.threads import with_threads
from frugalseg.errors import PairingError
from frugalseg.imaging.find import find_dataset
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.volume import Volume
from frugalseg.masks.folder import NOTE, NOTED, MaskFolder, Words
from frugalseg.masks.inputs import check_kept, forget_changed, organs_in, pair, read_given
from frugalseg.options import PromptableOptions, RefineOptions
from frugalseg.promptable.embeddings import ScanSlices
from frugalseg.promptable.load import load_promptable
from frugalseg.promptable.protocol import Promptable, Recipe
from frugalseg.refinement.refiner import Refiner

WORDS = Words("refinement", "refining", "refined", "refine")
COARSE = "coarse"
"""Folder beside refined masks with what `predict --refine` had predicted."""
BY_CASE = ("roles", "annotated")
"""What the note beside the given masks says of each scan, and `evaluate` needs to know of refined ones too."""
SAME = ("method", "promptable", "settings", "targets", "model", "weights_sha256")


@with_threads
def refine(options: RefineOptions) -> dict[str, Path]:
    """Refine every mask of `options.masks`; returns case id → new mask.

    A scan that cannot be read, or whose mask lies on another grid, is reported and left out, the others are done.

    Raises:
        ScanError: some scans failed, after all others are written.
        PairingError: masks without scans, or the other way round for all of them.
        RunError: `out` is in use, holds the given masks, or no refinement of this kind to resume; or the model's
            weights are missing.
        OptionError: an unknown case, model or target.
        DeviceError: the GPU asked for is not there, or too small for one slice.
    """
    check_out(options.out)
    device = find_device(options.device)
    images, masks = pair(options.images, options.masks, options.case)
    check_kept(masks, images, options.out)
    references = {} if options.oracle is None else _references(options, images)
    options, expected = settle(options, images)
    intensity = scale_of(options)
    wanted = parse_targets(options.target)
    source = note_beside(options.masks)
    known = {str(name): tuple(values) for name, values in source.get("targets", {}).items()}
    model = load_promptable(options.model, device, options.precision)
    folder = MaskFolder.claim(options, images, _note(options, images, model, source, wanted), SAME, WORDS, (COARSE,))
    forget_changed(folder, masks)
    refiner = Refiner(model, options)

    def work(case: str, path: Path) -> tuple[Volume, dict[str, Any]]:
        volume = read_volume(path)
        expected.check(case, path, volume)
        scan, given = ScanSlices.of(volume, intensity), read_given(case, volume, masks[case])
        reference = read_given(case, volume, references[case]) if references else None
        organs = organs_in(given if reference is None else reference, wanted, known)
        classes, others = _split(scan, given, organs)
        prompting = None
        if reference is not None:
            prompting, others = to_classes(scan.stack(reference), organs), np.zeros_like(others)
        with progress(case, len(scan), "slices") as bar:
            refined, counts = refiner.refine(scan, classes, prompting, options.cache, bar.advance)
        names = dict(enumerate(organs, start=1))
        counts["organs"] = {names[number]: told for number, told in counts.pop("classes").items()}
        told = {"refinement": counts, "given": {"mask": str(masks[case].resolve()), "sha256": sha256(masks[case])}}
        known_before = {key: source[key][case] for key in BY_CASE if case in (source.get(key) or {})}
        return volume.with_array(scan.unstack(_joined(refined, others, organs))), told | known_before

    written = folder.fill(work, describe(device))
    _announce(folder.note["refinement"], options, wanted)
    return written


def note_beside(masks: Path) -> dict[str, Any]:
    """What `predict` noted beside the given masks, or nothing.

    Raises:
        PairingError: the note is damaged.
    """
    path = (masks if masks.is_dir() else masks.parent) / NOTE
    if not path.is_file():
        return {}
    note: dict[str, Any] = NOTED.read(path)
    return note


def _note(
    options: RefineOptions, images: Mapping[str, Path], model: Promptable, source: Mapping[str, Any], wanted: Targets
) -> dict[str, Any]:
    """What is known beforehand; what the given masks' own note says of their model and its scans stays true."""
    inherited = {key: source[key] for key in ("model", "weights_sha256") if key in source}
    settings = {"before": source["settings"]} if "settings" in source else {}
    return {
        "version": __version__,
        "method": "refine" if options.oracle is None else "oracle",
        **inherited,
        "promptable": promptable_of(options, model),
        "settings": settings | settings_of(options, "masks"),
        "targets": {name: list(values) for name, values in wanted.items()} or dict(source.get("targets", {})),
        "images": {case: str(path.resolve()) for case, path in images.items()},
        "masks": {},
        "given": {},
        "roles": None if source.get("roles") is None else {},
        "annotated": {},
        "refinement": {},
        "failed": dict(source.get("failed", {})),
    }


def _references(options: RefineOptions, images: Mapping[str, Path]) -> dict[str, Path]:
    assert options.oracle is not None
    found = find_dataset(options.images, options.oracle)[1]
    if missing := [case for case in images if case not in found]:
        raise PairingError(f"{options.oracle} holds no reference of {missing[0]}", "name those that have one by --case")
    return found


def _split(scan: ScanSlices, given: Volume, organs: Targets) -> tuple[Any, Any]:
    """The classes worked on, and the values of everything else, both (Z, H, W)."""
    values = scan.stack(given)
    classes = to_classes(values, organs)
    return classes, np.where(classes > 0, 0, values)


def _joined(refined: Any, others: Any, organs: Targets) -> Any:
    """Refined classes as label values, around the organs that stay as they are."""
    values = to_values(refined, organs)
    return np.where(others > 0, others, values).astype(np.result_type(values, others), copy=False)


def _announce(refinement: Mapping[str, Any], options: RefineOptions, wanted: Targets) -> None:
    organs = [told for counts in refinement.values() for told in counts["organs"].values()]
    boxes, kept = sum(told["boxes"] for told in organs), sum(told["kept"] for told in organs)
    small = sum(told["too_small"] for told in organs)
    found = {
        organ for counts in refinement.values() for organ, n in counts["organs"].items() if n["boxes"] + n["too_small"]
    }
    for organ in wanted:
        if organ not in found:
            say(f"{organ}: in none of the masks")
    if boxes:
        say(
            f"{boxes} boxes; in {kept} of them ({100 * kept / boxes:.1f}%) the model's mask overlapped the given one "
            f"by less than {options.min_iou:g} (IoU), and the given one was kept"
        )
    if small:
        say(f"{small} parts smaller than {options.min_area_mm2:g} mm² stayed as they were")
    if options.oracle is not None:
        say("oracle: the boxes came from references; this is no result of the method")


def settings_of(options: PromptableOptions, *apart: str) -> dict[str, Any]:
    """The options that change the result, for the note; `apart` are noted elsewhere."""
    no_matter = {"images", "out", "case", "target", "model", "device", "threads", "batch_size", "cache"}
    no_matter |= {"overwrite", "resume"}
    left = {name: value for name, value in asdict(options).items() if name not in no_matter | set(apart)}
    told: dict[str, Any] = json.loads(json.dumps(left, default=str))
    return told


def promptable_of(options: PromptableOptions, model: Any) -> dict[str, Any]:
    """The model, its recipe and how scans are shown to it, for the note."""
    recipe: Recipe = model.recipe
    return {
        "model": options.model,
        "name": model.name,
        "signature": model.signature,
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "shown": scale_of(options).to_dict(),
    }
