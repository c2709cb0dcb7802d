"""The data sets of a study where they lie, and what must be true of them before anything is trained."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.store import SliceStore
from frugalseg.errors import SplitError
from frugalseg.options import PretrainOptions
from frugalseg.options.common import Modality, stated_modality
from frugalseg.pretraining.methods import METHODS
from frugalseg.records.scan_index import IndexedScan, ScanIndex
from frugalseg.records.split import Split
from frugalseg.records.store import ScanEntry
from frugalseg.studies.jobs.job import Phantoms, PrepareJob, short_hash, slug
from frugalseg.studies.plan.data import DataPlan, ScansToSegment, TestPlan
from frugalseg.studies.plan.method import MethodPlan
from frugalseg.studies.plan.options import NOWHERE, SHOWN
from frugalseg.studies.plan.plan import Plan
from frugalseg.studies.plan.yaml_source import YamlValue
from frugalseg.text import pluralize


@dataclass(frozen=True)
class Scan:
    """A scan with a mask.

    Attributes:
        fingerprint: of its voxels.
        mask: SHA-256 of the file of its mask.
    """

    case: str
    patient: str
    fingerprint: str
    mask: str


@dataclass(frozen=True)
class StudyDataset:
    """A data set.

    Attributes:
        job: what makes its store (its list of scans, where it is only tested on).
        entry: where the plan names it.
    """

    name: str
    job: PrepareJob
    entry: YamlValue

    @property
    def store(self) -> SliceStore:
        """The store; there once the job is done."""
        return SliceStore.open(self.job.options.out)

    @property
    def references(self) -> Path:
        """The folder of masks."""
        options = self.job.options
        return options.labels or options.images / "labelsTr"

    def scans(self) -> list[Scan]:
        """The labelled scans, by case id; there once the job is done."""
        if self.job.test_only:
            scans: Sequence[IndexedScan | ScanEntry] = ScanIndex.read(self.job.options.out).scans
        else:
            scans = self.store.record.scans
        return [Scan(s.case, s.patient, s.fingerprint, s.labels_sha256) for s in scans if s.labels_sha256 is not None]


def resolve_datasets(plan: Plan, out: Path) -> dict[str, StudyDataset]:
    """Every data set that the plan uses, with the job that prepares it.

    A folder's name contains a hash of its options, so a changed plan never uses an old store.
    """
    trained = {plan.train, *(m.pretrain_data for m in plan.methods if m.pretrain is not None)}
    used = trained | {test.data for test in plan.tests}
    return {name: _resolve(data, out, name not in trained) for name, data in plan.data.items() if name in used}


def _resolve(data: DataPlan, out: Path, test_only: bool) -> StudyDataset:
    options, phantoms = data.options, None
    if data.phantoms is not None:
        made = {"count": data.phantoms, "grid": data.grid, "seed": options.seed}
        folder = out / "phantoms" / f"{slug(data.name)}-{short_hash(made)}"
        phantoms = Phantoms(folder, slug(data.name), data.phantoms, data.grid, options.seed)
        options = replace(options, images=folder / "images", labels=folder / "labels")
    name = f"{slug(data.name)}-{short_hash(asdict(options))}"
    path = out / "stores" / (f"{name}.json" if test_only else name)
    job = PrepareJob(id=f"prepare.{name}", options=replace(options, out=path), phantoms=phantoms, test_only=test_only)
    return StudyDataset(data.name, job, data.entry)


def tested_scans(test: TestPlan, datasets: Mapping[str, StudyDataset]) -> list[Scan]:
    """The scans of a test set.

    Raises:
        OptionError: there are none.
    """
    scans = datasets[test.data].scans()
    if test.patients == "test":
        held_out = set(_split(test, datasets).test)
        scans = [scan for scan in scans if scan.patient in held_out]
    if not scans:
        raise test.entry.error(
            f"{test.data} has no labelled {'test ' if test.patients == 'test' else ''}patients",
            "hold some out by fractions: or split:" if test.patients == "test" else "add masks",
        )
    return scans


def scans_to_segment(plan: Plan, test: TestPlan, datasets: Mapping[str, StudyDataset], out: Path) -> ScansToSegment:
    """The scans of a test set as mask makers are given them.

    Raises:
        OptionError: there are none.
    """
    options = datasets[test.data].job.options
    # Models are told what they know, where the plan says what the scans are.
    modality: Modality = "auto"
    if stated_modality(options) != "auto":
        modality = datasets[plan.train].store.intensity.kind
    return ScansToSegment(
        name=test.name,
        images=options.images,
        references=datasets[test.data].references,
        case=tuple(scan.case for scan in tested_scans(test, datasets)),
        target=tuple(options.target),
        modality=modality,
        grey={name: getattr(options, name) for name in SHOWN},
        study=out,
    )


def _split(test: TestPlan, datasets: Mapping[str, StudyDataset]) -> Split:
    job = datasets[test.data].job
    if not job.test_only:
        return datasets[test.data].store.split()
    return ScanIndex.read(job.options.out).split


def check_data(plan: Plan, datasets: Mapping[str, StudyDataset]) -> None:
    """What can only be known once the scans are read, and must be before anything is trained.

    Raises:
        OptionError: a budget asks for more than there is; a test set holds scans that models are trained, chosen or
            (unless the method is transductive) pre-trained on. Each names the line of the plan.
    """
    store = datasets[plan.train].store
    split = store.split()
    for method in plan.methods:
        _check_budgets(plan, method, store, split)
    learned = store.fingerprints_of_patients({*split.train, *split.validation})
    names = {scan.case for scan in store.record.scans if scan.patient in {*split.train, *split.validation}}
    for test in plan.tests:
        scans = {scan.fingerprint: scan.case for scan in tested_scans(test, datasets)}
        if leaked := sorted(scans[seen] for seen in learned & scans.keys()):
            raise test.entry.error(
                f"models are trained or chosen on {len(leaked)} of its {pluralize(len(scans), 'scan')} "
                f"({', '.join(leaked[:5])})",
                "test on other scans, or on patients: test",
            )
        if alike := sorted(names & set(scans.values())):
            warnings.warn(
                f"the test set {test.name} and {plan.train} share case ids ({', '.join(alike[:5])}) with other voxels; "
                "make sure that they are other patients",
                stacklevel=2,
            )
        for method in plan.methods:
            _check_pretraining(method, test, scans, datasets)
    held_out = store.fingerprints_of_patients({*split.validation, *split.test})
    for method in plan.methods:
        if method.pretrain is not None and not method.transductive and held_out & _seen(method, datasets):
            raise method.entry.error(
                f"its pre-training on {method.pretrain_data} sees scans that {plan.train} holds out",
                _way_out(method),
            )


def _check_budgets(plan: Plan, method: MethodPlan, store: SliceStore, split: Split) -> None:
    if method.training is None:
        return
    usable = store.slices[store.is_middle(method.training.values.get("middle_fraction", 1.0))]

    def labels(text: str, entry: YamlValue, draw: int) -> bytes:
        try:
            return draw_labels(usable, split.train, Budget.parse(text), draw, store.presence_columns).tobytes()
        except SplitError as error:
            raise entry.error(error.problem.removeprefix("--budget "), error.cure) from None

    drawn: dict[bytes, str] = {}
    for text, draw in itertools.product(method.budgets, plan.draws):
        other = drawn.setdefault(labels(text, plan.budget_entries[text], draw), text)
        if other != text:
            warnings.warn(
                f"{other} and {text} of {plan.train} are the same labels: both columns show the same", stacklevel=2
            )


def _check_pretraining(
    method: MethodPlan, test: TestPlan, scans: Mapping[str, str], datasets: Mapping[str, StudyDataset]
) -> None:
    if method.pretrain is None or method.transductive:
        return
    if leaked := sorted(scans[seen] for seen in _seen(method, datasets) & scans.keys()):
        raise method.entry.error(
            f"its pre-training on {method.pretrain_data} sees {pluralize(len(leaked), 'scan')} of the test set "
            f"{test.name} ({', '.join(leaked[:5])})",
            _way_out(method),
        )


def _way_out(method: MethodPlan) -> str:
    assert method.pretrain is not None
    if METHODS[PretrainOptions(data=NOWHERE, out=NOWHERE, **method.pretrain).method].annotation != "none":
        return "pre-train on other scans: the labels it learns from may not be those of held-out scans"
    return "say transductive: true to do so knowingly; every table then marks the method"


def _seen(method: MethodPlan, datasets: Mapping[str, StudyDataset]) -> set[str]:
    """Fingerprints of the scans that the method's pre-training may see."""
    store = datasets[method.pretrain_data].store
    return store.fingerprints_of_patients(set(store.patients if method.transductive else store.split().train))
