"""The data sets and the test sets of a plan."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from frugalseg.dataset.targets import parse_targets
from frugalseg.options import PrepareOptions
from frugalseg.options.common import PERCENTILES, WINDOW, Modality, stated_modality
from frugalseg.studies.plan.options import PREPARE, Values, to_plain_values
from frugalseg.studies.plan.yaml_source import YamlValue


def find_references(options: PrepareOptions) -> Path:
    """The folder of a data set's masks: as given, or that of an nnU-Net raw data set."""
    return options.labels or options.images / "labelsTr"


@dataclass(frozen=True)
class DataPlan:
    """A named data set.

    Attributes:
        options: options of `prepare`, except `out`. For phantoms, `images` and `labels` are set when they are made.
        entry: its place in the plan.
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
        """The organs to segment."""
        return list(parse_targets(self.options.target))

    @property
    def intensities(self) -> tuple[str, ...]:
        """The intensity scaling; both possible ones where the modality is only known from the scans."""
        scalings = {"ct": self.options.window or WINDOW, "mr": self.options.percentiles or PERCENTILES}
        modality = stated_modality(self.options)
        return tuple(f"{kind} {low:g}…{high:g}" for kind, (low, high) in scalings.items() if modality in ("auto", kind))

    def to_values(self) -> Values:
        """The data set as in a plan, with every default."""
        given = to_plain_values(
            {name: value for name, value in asdict(self.options).items() if name in PREPARE.in_plans}
        )
        if self.phantoms is None:
            return given
        given = {name: value for name, value in given.items() if name not in ("images", "labels")}
        return {"phantoms": self.phantoms, "grid": list(self.grid), **given}


@dataclass(frozen=True)
class TestPlan:
    """A test set: scans that every model is tested on.

    Attributes:
        data: name of the data set.
        patients: test (those that its split holds out) or all.
        in_domain: whether they come from the same source as the training scans.
        millimetres: False where the spacing in the files is a placeholder.
        entry: its place in the plan.
    """

    name: str
    data: str
    patients: str
    in_domain: bool
    millimetres: bool
    entry: YamlValue

    def to_values(self) -> Values:
        """The test set as in a plan."""
        return {
            "data": self.data,
            "patients": self.patients,
            "in_domain": self.in_domain,
            "millimetres": self.millimetres,
        }


@dataclass(frozen=True)
class ScansToSegment:
    """The scans of a test set, to be segmented.

    Attributes:
        name: of the test set.
        images, references: folders of scans and of their reference masks.
        series: rules that choose one DICOM series of each sub-folder as its scan.
        case: case ids of the scans.
        target: organs and their label values in the references.
        modality: the modality that models are given.
        grey: options of the intensity scaling: `GREY_OPTIONS` → value.
        study: the study's folder.
    """

    name: str
    images: Path
    references: Path
    series: tuple[str, ...]
    case: tuple[str, ...]
    target: tuple[str, ...]
    modality: Modality
    grey: Values
    study: Path

    def common_options(self, out: Path) -> Values:
        """The options common to all commands that write masks of these scans into `out`."""
        return {
            "images": self.images,
            "series": list(self.series),
            "out": out,
            "case": list(self.case),
            "target": list(self.target),
            "overwrite": True,
            "resume": "auto",
        }
