"""Plans for tests: tiny scans, trainings of a few steps."""

from __future__ import annotations

from pathlib import Path

from frugalseg.options import StudyOptions
from frugalseg.studies.plan.plan import StudyPlan
from frugalseg.studies.plan.reader import read_plan
from tests.scans import write_cohort

PLAN = """\
name: tiny
data:
  tiny:
    images: images
    labels: labels
    target: [liver=6]
    size: 32
    fractions: [0.2, 0.2]
  away: {images: away/images, labels: away/labels, target: [liver=6], size: 32}
train: tiny
tests:
  held out: {data: tiny}
  away: {data: away, millimetres: false}
pretrain: {steps: 2, batch_size: 4, device: cpu, precision: "32"}
finetune: {steps: 2, batch_size: 4, device: cpu, precision: "32"}
backbones: [unet]
methods:
  scratch: {}
  polycl: {pretrain: {method: polycl-s}}
  polycl again:
    pretrain: {method: polycl-s}
    finetune: {lr: 0.001}
budgets: ["1 scans"]
draws: [0]
seeds: [0, 1]
baseline: scratch
"""


def write_plan(folder: Path, text: str = PLAN, scans: bool = True) -> Path:
    """A plan file and, beside it, the scans it names."""
    if scans:
        write_cohort(folder, 6, shape=(32, 32, 6))
        write_cohort(folder / "away", 8, shape=(32, 32, 6))
        for i in range(6):  # those of other seeds stay: the sets share no scan
            for kind in ("images", "labels"):
                (folder / "away" / kind / f"scan_{i:02d}.nii.gz").unlink()
    path = folder / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def changed(*replacements: tuple[str, str]) -> str:
    """PLAN with these texts replaced; each must be there."""
    text = PLAN
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    return text


def tiny_plan(folder: Path, *replacements: tuple[str, str]) -> StudyPlan:
    """The plan that `changed` gives, read."""
    return read_plan(write_plan(folder, changed(*replacements)))


def options(plan: Path, out: Path, **more) -> StudyOptions:
    """A study of one thread a job."""
    return StudyOptions(plan=plan, out=out, threads=1, **more)
