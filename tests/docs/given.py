"""What a reader of a page has already: tiny scans, masks, stores, models. Each is made once, by the program itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import yaml

from frugalseg.cli import main
from frugalseg.engine.files import sha256
from frugalseg.imaging.read import read_volume
from frugalseg.records.annotations import AnnotatedScan, AnnotationsRecord
from frugalseg.records.origin import WeightsOrigin
from frugalseg.studies.plan.shipped import SHIPPED_PLANS
from tests.imaging.scans import write_slice
from tests.models.test_published import colour_resnet, torchvision_file
from tests.promptable import tiny_networks
from tests.scans import AFFINE_LPS, tiny_scan

SHAPE = (32, 32, 8)
SCANS, LABELLED = 9, 8
SMALL = {
    "prepare": ["--size", "32"],
    "pretrain": ["--steps", "2"],
    "finetune": ["--steps", "2"],
    "sam-mix train": ["--steps", "2", "--classifier-size", "32", "--validate-every", "2"],
    "demo": ["--size", "32", "--phantoms", "5", "--steps", "2", "--pretrain-epochs", "1", "--budget", "1 scan"],
}
"""Command → options that make it short; they are added to those that a page prints."""


class Cupboard:
    """Folders and files by name, each made by the function of that name when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, target: Path) -> None:
        """Copy one to `target`."""
        source = self.find(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)

    def find(self, name: str) -> Path:
        """Where one is; what it is made from is made first."""
        path = self.folder / name
        if not path.exists():
            MAKERS[name](self, path)
        return path

    def run(self, *words: object) -> None:
        """Run a command, which must succeed."""
        name = next(
            name for name in (" ".join(map(str, words[:2])), str(words[0])) if name in SMALL or name == words[0]
        )
        assert main([*map(str, words), *SMALL.get(name, [])]) == 0


def _write_cohort(folder: Path, first: int, kind: int, count: int) -> None:
    folder.mkdir()
    for i in range(count):
        voxels = tiny_scan(first + i, SHAPE)[kind]
        nib.save(nib.Nifti1Image(voxels, AFFINE_LPS), folder / f"patient_{first + i:02d}.nii.gz")


def _scans(cupboard: Cupboard, path: Path) -> None:
    _write_cohort(path, 0, 0, SCANS)


def _masks(cupboard: Cupboard, path: Path) -> None:
    _write_cohort(path, 0, 1, LABELLED)


def _other_scans(cupboard: Cupboard, path: Path) -> None:
    _write_cohort(path, 50, 0, 2)


def _other_masks(cupboard: Cupboard, path: Path) -> None:
    _write_cohort(path, 50, 1, 2)


def _scan(cupboard: Cupboard, path: Path) -> None:
    shutil.copyfile(cupboard.find("scans") / "patient_08.nii.gz", path)


def _outline(mask: Path, target: Path) -> int:
    """Keep the middle slice of a mask only; returns its number."""
    image = nib.load(mask)
    voxels = np.asarray(image.dataobj).copy()
    middle = voxels.shape[2] // 2
    voxels[:, :, np.arange(voxels.shape[2]) != middle] = 0
    nib.save(nib.Nifti1Image(voxels, image.affine), target)
    return middle


def _outlined_slice(cupboard: Cupboard, path: Path) -> None:
    other = path.with_name("outlined_slice.tmp.nii.gz")
    nib.save(nib.Nifti1Image(tiny_scan(8, SHAPE)[1], AFFINE_LPS), other)
    written = other.with_name("one.nii.gz")
    _outline(other, written)
    other.unlink()
    written.rename(path)


def _outlined(cupboard: Cupboard, path: Path) -> None:
    path.mkdir()
    for mask in sorted(cupboard.find("masks").iterdir())[-2:]:
        _outline(mask, path / mask.name)


def _outlined_others(cupboard: Cupboard, path: Path) -> None:
    path.mkdir()
    for mask in cupboard.find("other_masks").iterdir():
        _outline(mask, path / mask.name)


def _annotations(cupboard: Cupboard, path: Path) -> None:
    path.mkdir()
    scans = {}
    for mask in sorted(cupboard.find("masks").iterdir())[:4]:
        middle = _outline(mask, path / mask.name)
        scans[mask.name.removesuffix(".nii.gz")] = AnnotatedScan(mask=mask.name, slices=SHAPE[2], outlined=(middle,))
    AnnotationsRecord(labels={"liver": 6, "spleen": 1}, scans=scans).write(path / "annotations.json")


def _nnunet(cupboard: Cupboard, path: Path) -> None:
    for kind, folder, ending in (("scans", "imagesTr", "_0000.nii.gz"), ("masks", "labelsTr", ".nii.gz")):
        (path / folder).mkdir(parents=True)
        for source in sorted(cupboard.find(kind).iterdir())[:LABELLED]:
            image = nib.load(source)
            voxels = np.asarray(image.dataobj)
            if kind == "masks":  # nnU-Net wants 0, 1, 2, …
                voxels = np.select([voxels == 6, voxels == 1], [1, 2]).astype(np.uint8)
            name = source.name.removesuffix(".nii.gz") + ending
            nib.save(nib.Nifti1Image(voxels, image.affine), path / folder / name)
    labels = {"background": 0, "liver": 1, "spleen": 2}
    about = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": LABELLED, "file_ending": ".nii.gz"}
    (path / "dataset.json").write_text(json.dumps(about), encoding="utf-8")


def _series(cupboard: Cupboard, path: Path) -> None:
    voxels = tiny_scan(60, SHAPE)[0]
    identity = {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5", "series": "1.2.3.6"}
    names = {"PatientID": "p1", "PatientName": "", "PatientBirthDate": "", "PatientSex": "", "StudyID": ""}
    dates = {"StudyDate": "", "StudyTime": "", "AccessionNumber": "", "ReferringPhysicianName": ""}
    for z in range(SHAPE[2]):
        rows = np.ascontiguousarray(voxels[:, :, z].T)
        write_slice(path / "p1" / f"{z}.dcm", rows, (0, 0, 5 * z), spacing=(4, 4), **identity, **names, **dates)


def _export(cupboard: Cupboard, path: Path) -> None:
    """Two series and a localizer of each patient."""
    for case, number in (("P1", 60), ("P2", 61), ("P3", 62)):
        voxels = tiny_scan(number, SHAPE)[0]
        for series, description in (("SE1", "Topogram"), ("SE2", "Abdomen portal"), ("SE3", "Abdomen portal MPR")):
            kind = ["ORIGINAL", "PRIMARY", "LOCALIZER" if series == "SE1" else "AXIAL"]
            tags = {"series": f"{number}.{series[-1]}", "SeriesDescription": description, "ImageType": kind}
            for z in range(1 if series == "SE1" else SHAPE[2]):
                rows = np.ascontiguousarray(voxels[:, :, z].T)
                write_slice(path / case / "ST1" / series / f"{z}.dcm", rows, (0, 0, 5 * z), spacing=(4, 4), **tags)


def _export_masks(cupboard: Cupboard, path: Path) -> None:
    path.mkdir()
    for case, number in (("P1", 60), ("P2", 61), ("P3", 62)):
        grid = read_volume(cupboard.find("export") / case / "ST1" / "SE2")
        labels = tiny_scan(number, SHAPE)[1]
        nib.save(nib.Nifti1Image(labels[:, ::-1], grid.affine), path / f"{case}.nii.gz")


def _patients(cupboard: Cupboard, path: Path) -> None:
    lines = [f"patient_{i:02d},{('GE', 'Siemens')[i % 2]},{'FM'[i % 2]}" for i in range(SCANS)]
    path.write_text("\n".join(["case,scanner,sex", *lines]), encoding="utf-8")


def _split(cupboard: Cupboard, path: Path) -> None:
    patients = [f"patient_{i:02d}" for i in range(LABELLED)]
    parts = {"train": patients[:5], "validation": patients[5:6], "test": patients[6:]}
    path.write_text(json.dumps(parts), encoding="utf-8")


def _store(cupboard: Cupboard, path: Path) -> None:
    scans, masks = cupboard.find("scans"), cupboard.find("masks")
    cupboard.run("prepare", "--images", scans, "--labels", masks, "--target", "liver=6", "--out", path)


def _model(cupboard: Cupboard, path: Path) -> None:
    cupboard.run("finetune", "--data", cupboard.find("store"), "--budget", "3 scans", "--out", path)


def _predictions(cupboard: Cupboard, path: Path) -> None:
    cupboard.run("predict", "--model", cupboard.find("model"), "--images", cupboard.find("scans"), "--out", path)


def _evaluation(cupboard: Cupboard, path: Path) -> None:
    given = ["--predictions", cupboard.find("predictions"), "--references", cupboard.find("masks")]
    cupboard.run("evaluate", *given, "--target", "liver=6", "--out", path)


def _sam_folder(cupboard: Cupboard, path: Path) -> None:
    tiny_networks.sam().save_pretrained(path)


def _weights_file(cupboard: Cupboard, path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


def _resnet18(cupboard: Cupboard, path: Path) -> None:
    from frugalseg.models.resnet import ResNetShape

    network = colour_resnet(ResNetShape(name="resnet18", depths=(2, 2, 2, 2)))
    torchvision_file(path.parent, network, "resnet18.pth").rename(path)


def _plans(cupboard: Cupboard, path: Path) -> None:
    path.mkdir()
    plan = yaml.safe_load((SHIPPED_PLANS / "smoke.yaml").read_text(encoding="utf-8"))
    for data in plan["data"].values():
        data |= {"phantoms": min(data["phantoms"], 5), "grid": [64, 64, 24]}
    (path / "smoke.yaml").write_text(yaml.safe_dump(shorten_plan(plan)), encoding="utf-8")


def shorten_plan(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan with small slices, two methods, one budget, one draw, one seed and trainings of two steps."""
    sizes = {name: data | {"size": 32} for name, data in plan["data"].items()}
    methods = dict(list(plan["methods"].items())[:2])
    once = {"methods": methods, "budgets": plan["budgets"][:1], "draws": [0], "seeds": [0]}
    return plan | once | {"data": sizes, "pretrain": {"steps": 2}, "finetune": {"steps": 2}}


def _weights(cupboard: Cupboard, path: Path) -> None:
    """A home with a SAM of random weights under the name litemedsam."""
    folder = path / "weights" / "litemedsam"
    folder.mkdir(parents=True)
    cupboard.put("sam_folder", folder / "tiny")
    size = sum(file.stat().st_size for file in (folder / "tiny").iterdir())
    WeightsOrigin("tiny", size, sha256(folder / "tiny"), "made by a test", "", False).write(folder / "origin.json")


MAKERS: dict[str, Callable[[Cupboard, Path], None]] = {
    "scans": _scans,
    "masks": _masks,
    "other_scans": _other_scans,
    "other_masks": _other_masks,
    "scan": _scan,
    "outlined_slice": _outlined_slice,
    "outlined": _outlined,
    "outlined_others": _outlined_others,
    "annotations": _annotations,
    "nnunet": _nnunet,
    "series": _series,
    "export": _export,
    "export_masks": _export_masks,
    "patients": _patients,
    "split": _split,
    "store": _store,
    "model": _model,
    "predictions": _predictions,
    "evaluation": _evaluation,
    "sam_folder": _sam_folder,
    "weights_file": _weights_file,
    "resnet18": _resnet18,
    "plans": _plans,
    "weights": _weights,
}
"""Name → the function that makes it."""
