"""The data sets and the test sets of a plan."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from frugalseg.dataset.targets import parse_targets
from frugalseg.options import PrepareOptions
from frugalseg.options.common import PERCENTILES, WINDOW, Modality, stated_modality
from frugalseg.studies.plan.options import PREPARE, Values, simple
from frugalseg.studies.plan.yaml_source import YamlValue


@dataclass(frozen=True)
class DataPlan:
    """A named data set.

    Attributes:
        options: what `prepare` is given, but for `out`. Of phantoms, `images` and `labels` are where they will lie.
        entry: where the plan says so.
        phantoms: number of phantoms to make, or None for real scans.
        grid: voxels of a phantom along left, posterior, superior.
    """

    name: str
    options: PrepareOptions
    entry: YamlValue = field(compare=False)
    phantoms: int | None = None
    grid: tuple[int, int, int] = (96, 96, 40)

    @property
    def organs(self) -> list[str]:
        """What is segmented."""
        return list(parse_targets(self.options.target))

    @property
    def intensities(self) -> tuple[str, ...]:
        """How intensities become [0, 1]; both ways in which they may, where the scans will tell."""
        ways = {"ct": self.options.window or WINDOW, "mr": self.options.percentiles or PERCENTILES}
        told = stated_modality(self.options)
        return tuple(f"{kind} {low:g}…{high:g}" for kind, (low, high) in ways.items() if told in ("auto", kind))

    def resolved(self) -> Values:
        """As plain data, every default filled in."""
        given = simple({name: value for name, value in asdict(self.options).items() if name in PREPARE.in_plans})
        if self.phantoms is None:
            return given
        given = {name: value for name, value in given.items() if name not in ("images", "labels")}
        return {"phantoms": self.phantoms, "grid": list(self.grid), **given}


@dataclass(frozen=True)
class TestPlan:
    """Scans that every model is tested on.

    Attributes:
        data: name of the data set.
        patients: test (those that its split holds out) or all.
        in_domain: whether they come from where the training scans come from.
        millimetres: False where the spacing in the files is a placeholder.
        entry: where the plan says so.
    """

    name: str
    data: str
    patients: str
    in_domain: bool
    millimetres: bool
    entry: YamlValue

    def resolved(self) -> Values:
        """As plain data."""
        told = {"in_domain": self.in_domain, "millimetres": self.millimetres}
        return {"data": self.data, "patients": self.patients, **told}


@dataclass(frozen=True)
class ScansToSegment:
    """The scans of a test set where they lie: what masks are made of.

    Attributes:
        name: of the test set.
        images, references: folders of scans and of their reference masks.
        case: the scans.
        target: organs and their label values in the references.
        modality: what models are told that the scans are.
        grey: how their intensities become grey values: `SHOWN` → value.
        study: the study's folder.
    """

    name: str
    images: Path
    references: Path
    case: tuple[str, ...]
    target: tuple[str, ...]
    modality: Modality
    grey: Values
    study: Path

    def options(self, out: Path) -> Values:
        """The options that all commands have in common which write masks of these scans into `out`."""
        return {
            "images": self.images,
            "out": out,
            "case": list(self.case),
            "target": list(self.target),
            "overwrite": True,
            "resume": "auto",
        }
