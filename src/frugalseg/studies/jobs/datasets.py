"""The prepared data sets of a study, and the checks on them before anything is trained."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.slice_choice import find_rule
from frugalseg.dataset.store import SliceStore
from frugalseg.errors import OptionError, SplitError
from frugalseg.options import PretrainOptions
from frugalseg.options.common import Modality, stated_modality
from frugalseg.pretraining.methods import METHODS
from frugalseg.records.scan_index import IndexedScan, ScanIndex
from frugalseg.records.split import Split
from frugalseg.records.store import ScanEntry
from frugalseg.segmentation.label_checks import check_propagation
from frugalseg.studies.jobs.job import Phantoms, PrepareJob, short_hash, slug
from frugalseg.studies.plan.data import DataPlan, ScansToSegment, TestPlan, find_references
from frugalseg.studies.plan.method import MethodPlan
from frugalseg.studies.plan.options import GREY_OPTIONS, UNKNOWN_PATH
from frugalseg.studies.plan.plan import StudyPlan
from frugalseg.studies.plan.yaml_source import YamlValue, flags_to_keys
from frugalseg.text import pluralize


@dataclass(frozen=True)
class LabelledScan:
    """A scan with a mask.

    Attributes:
        fingerprint: hash of its voxels.
        mask: SHA-256 of its mask's file.
    """

    case: str
    patient: str
    fingerprint: str
    mask: str


@dataclass(frozen=True)
class StudyDataset:
    """A data set of the plan and the job that prepares it.

    Attributes:
        job: makes its store, or only an index of its scans if it is used only for testing.
        entry: its place in the plan.
    """

    name: str
    job: PrepareJob
    entry: YamlValue

    @property
    def store(self) -> SliceStore:
        """The store; exists once the job is done."""
        return SliceStore.open(self.job.options.out)

    @property
    def references(self) -> Path:
        """The folder of masks."""
        return find_references(self.job.options)

    def labelled_scans(self) -> list[LabelledScan]:
        """The labelled scans, in the order of their case ids; known once the job is done."""
        if self.job.test_only:
            scans: Sequence[IndexedScan | ScanEntry] = ScanIndex.read(self.job.options.out).scans
        else:
            scans = self.store.record.scans
        return [
            LabelledScan(s.case, s.patient, s.fingerprint, s.labels_sha256)
            for s in scans
            if s.labels_sha256 is not None
        ]


def resolve_datasets(plan: StudyPlan, out: Path) -> dict[str, StudyDataset]:
    """Every data set that the plan uses, with the job that prepares it.

    The name of a store contains a hash of its options, so a changed plan never uses an old store.
    """
    trained = {plan.train, *(m.pretrain_data for m in plan.methods if m.pretrain is not None)}
    used = trained | {test.data for test in plan.tests}
    return {name: _resolve_dataset(data, out, name not in trained) for name, data in plan.data.items() if name in used}


def _resolve_dataset(data: DataPlan, out: Path, test_only: bool) -> StudyDataset:
    options, phantoms = data.options, None
    if data.phantoms is not None:
        cohort = {"count": data.phantoms, "grid": data.grid, "seed": options.seed}
        folder = out / "phantoms" / f"{slug(data.name)}-{short_hash(cohort)}"
        phantoms = Phantoms(folder, slug(data.name), data.phantoms, data.grid, options.seed)
        options = replace(options, images=folder / "images", labels=folder / "labels")
    name = f"{slug(data.name)}-{short_hash(asdict(options))}"
    path = out / "stores" / (f"{name}.json" if test_only else name)
    job = PrepareJob(id=f"prepare.{name}", options=replace(options, out=path), phantoms=phantoms, test_only=test_only)
    return StudyDataset(data.name, job, data.entry)


def list_test_scans(test: TestPlan, datasets: Mapping[str, StudyDataset]) -> list[LabelledScan]:
    """The scans of a test set.

    Raises:
        OptionError: there are none.
    """
    scans = datasets[test.data].labelled_scans()
    if test.patients == "test":
        held_out = set(_read_split(test, datasets).test)
        scans = [scan for scan in scans if scan.patient in held_out]
    if not scans:
        raise test.entry.error(
            f"{test.data} has no labelled {'test ' if test.patients == 'test' else ''}patients",
            "hold some out with fractions: or split:" if test.patients == "test" else "add masks",
        )
    return scans


def locate_scans(plan: StudyPlan, test: TestPlan, datasets: Mapping[str, StudyDataset], out: Path) -> ScansToSegment:
    """The scans of a test set, as input of mask makers and predictions.

    Raises:
        OptionError: there are none.
    """
    options = datasets[test.data].job.options
    # If the plan states the modality of the scans, models are given that of their training set, which fits them.
    modality: Modality = "auto"
    if stated_modality(options) != "auto":
        modality = datasets[plan.train].store.intensity.kind
    return ScansToSegment(
        name=test.name,
        images=options.images,
        references=datasets[test.data].references,
        series=tuple(options.series),
        case=tuple(scan.case for scan in list_test_scans(test, datasets)),
        target=tuple(options.target),
        modality=modality,
        grey={name: getattr(options, name) for name in GREY_OPTIONS},
        study=out,
    )


def _read_split(test: TestPlan, datasets: Mapping[str, StudyDataset]) -> Split:
    job = datasets[test.data].job
    if not job.test_only:
        return datasets[test.data].store.split()
    return ScanIndex.read(job.options.out).split


def check_data(plan: StudyPlan, datasets: Mapping[str, StudyDataset]) -> None:
    """The checks of a plan that need the scans to be read, done before anything is trained.

    Raises:
        OptionError: with the line of the plan: a budget exceeds the labels available; or a test set holds scans that
            models are trained on, selected on or (unless the method is transductive) pre-trained on.
    """
    store = datasets[plan.train].store
    split = store.split()
    for method in plan.methods:
        _check_budgets(plan, method, store, split)
    learned = store.fingerprints_of_patients({*split.train, *split.validation})
    names = {scan.case for scan in store.record.scans if scan.patient in {*split.train, *split.validation}}
    for test in plan.tests:
        scans = {scan.fingerprint: scan.case for scan in list_test_scans(test, datasets)}
        if leaked := sorted(scans[seen] for seen in learned & scans.keys()):
            raise test.entry.error(
                f"models are trained or selected on {len(leaked)} of its {pluralize(len(scans), 'scan')} "
                f"({', '.join(leaked[:5])})",
                "test on other scans, or on patients: test",
            )
        if alike := sorted(names & set(scans.values())):
            warnings.warn(
                f"the test set {test.name} and {plan.train} share case ids ({', '.join(alike[:5])}), but the voxels "
                "differ; make sure that these are different patients",
                stacklevel=2,
            )
        for method in plan.methods:
            _check_pretraining(method, test, scans, datasets)
    held_out = store.fingerprints_of_patients({*split.validation, *split.test})
    for method in plan.methods:
        if (
            method.pretrain is not None
            and not method.transductive
            and held_out & _pretraining_fingerprints(method, datasets)
        ):
            raise method.entry.error(
                f"its pre-training on {method.pretrain_data} sees scans that {plan.train} holds out",
                _suggest_cure(method),
            )


def _check_budgets(plan: StudyPlan, method: MethodPlan, store: SliceStore, split: Split) -> None:
    if method.training is None:
        return
    usable = store.slices[store.is_middle(method.training.values.get("middle_fraction", 1.0))]

    choose, propagate = method.training.values.get("choose", "random"), method.training.values.get("propagate")

    def draw_budget(text: str, entry: YamlValue, draw: int) -> bytes:
        budget = Budget.parse(text)
        try:
            check_propagation(propagate, budget.unit)
            rule = find_rule(choose, budget.unit, store)
            return draw_labels(usable, split.train, budget, draw, store.presence_columns, rule).tobytes()
        except SplitError as error:
            raise entry.error(error.problem.removeprefix("--budget "), error.cure) from None
        except OptionError as error:
            raise method.entry.error(
                f"{flags_to_keys(error.problem)} ({text})", "give the method budgets of slices"
            ) from None

    drawn: dict[bytes, str] = {}
    for text, draw in itertools.product(method.budgets, plan.draws):
        other = drawn.setdefault(draw_budget(text, plan.budget_entries[text], draw), text)
        if other != text:
            warnings.warn(
                f"{other} and {text} of {plan.train} are the same labels, so their columns show the same results",
                stacklevel=2,
            )


def _check_pretraining(
    method: MethodPlan, test: TestPlan, scans: Mapping[str, str], datasets: Mapping[str, StudyDataset]
) -> None:
    if method.pretrain is None or method.transductive:
        return
    if leaked := sorted(scans[seen] for seen in _pretraining_fingerprints(method, datasets) & scans.keys()):
        raise method.entry.error(
            f"its pre-training on {method.pretrain_data} sees {pluralize(len(leaked), 'scan')} of the test set "
            f"{test.name} ({', '.join(leaked[:5])})",
            _suggest_cure(method),
        )


def _suggest_cure(method: MethodPlan) -> str:
    assert method.pretrain is not None
    if METHODS[PretrainOptions(data=UNKNOWN_PATH, out=UNKNOWN_PATH, **method.pretrain).method].annotation != "none":
        return "pre-train on other scans: it must not learn from labels of held-out scans"
    return "set transductive: true if this is intended; every table then marks the method"


def _pretraining_fingerprints(method: MethodPlan, datasets: Mapping[str, StudyDataset]) -> set[str]:
    """Fingerprints of the scans that the method's pre-training may see."""
    store = datasets[method.pretrain_data].store
    return store.fingerprints_of_patients(set(store.patients if method.transductive else store.split().train))
