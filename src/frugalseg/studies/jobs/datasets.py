"""The data sets of a study where they lie, and what must be true of them before anything is trained."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.splits import Split
from frugalseg.dataset.store import SliceStore
from frugalseg.errors import SplitError
from frugalseg.options import PretrainOptions
from frugalseg.pretraining.methods import METHODS
from frugalseg.studies.jobs.index_test_scans import LIST
from frugalseg.studies.jobs.job import MasksJob, Phantoms, PrepareJob, short_hash, slug
from frugalseg.studies.plan.plan import NOWHERE, DataPlan, MethodPlan, Plan, TestPlan
from frugalseg.studies.plan.yaml_source import Entry
from frugalseg.text import counted


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
class Source:
    """A data set.

    Attributes:
        job: what makes its store (its list of scans, where it is only tested on).
        entry: where the plan names it.
    """

    name: str
    job: PrepareJob
    entry: Entry

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
        if self.job.look:
            scans = LIST.read(self.job.options.out)["scans"]
        else:
            scans = [s for s in self.store.meta["scans"] if s["labels_sha256"] is not None]
        return [Scan(s["case"], s["patient"], s["fingerprint"], s["labels_sha256"]) for s in scans]


def locate(plan: Plan, out: Path) -> dict[str, Source]:
    """Every data set that the plan uses, with the job that prepares it.

    A folder's name contains a hash of its options, so a changed plan never uses an old store.
    """
    trained = {plan.train, *(m.pretrain_data for m in plan.methods if m.pretrain is not None)}
    used = trained | {test.data for test in plan.tests}
    return {name: _locate(data, out, name not in trained) for name, data in plan.data.items() if name in used}


def _locate(data: DataPlan, out: Path, look: bool) -> Source:
    options, phantoms = data.options, None
    if data.phantoms is not None:
        made = {"count": data.phantoms, "grid": data.grid, "seed": options.seed}
        folder = out / "phantoms" / f"{slug(data.name)}-{short_hash(made)}"
        phantoms = Phantoms(folder, slug(data.name), data.phantoms, data.grid, options.seed)
        options = replace(options, images=folder / "images", labels=folder / "labels")
    name = f"{slug(data.name)}-{short_hash(asdict(options))}"
    path = out / "stores" / (f"{name}.json" if look else name)
    job = PrepareJob(id=f"prepare.{name}", options=replace(options, out=path), phantoms=phantoms, look=look)
    return Source(data.name, job, data.entry)


def tested_scans(test: TestPlan, sources: Mapping[str, Source]) -> list[Scan]:
    """The scans of a test set.

    Raises:
        OptionError: there are none.
    """
    scans = sources[test.data].scans()
    if test.patients == "test":
        held_out = set(_split(test, sources).test)
        scans = [scan for scan in scans if scan.patient in held_out]
    if not scans:
        raise test.entry.error(
            f"{test.data} has no labelled {'test ' if test.patients == 'test' else ''}patients",
            "hold some out by fractions: or split:" if test.patients == "test" else "add masks",
        )
    return scans


def locate_masks(method: MethodPlan, test: TestPlan, sources: Mapping[str, Source], out: Path) -> MasksJob:
    """What looks at the masks that another program made of a test set, for a method that takes such."""
    assert method.other is not None
    options = sources[test.data].job.options
    target = method.other.target
    wanted: dict[str, Any] = {
        "images": options.images,
        "masks": method.other.folders[test.name],
        "case": tuple(scan.case for scan in tested_scans(test, sources)),
        "target": tuple(options.target if target is None else target),
        "stated": target is not None,
    }
    name = f"{slug(method.name, test.name)}-{short_hash(wanted)}"
    return MasksJob(id=f"prepare.{name}", out=out / "stores" / f"{name}.json", **wanted)


def _split(test: TestPlan, sources: Mapping[str, Source]) -> Split:
    job = sources[test.data].job
    if not job.look:
        return sources[test.data].store.split()
    content: dict[str, Any] = LIST.read(job.options.out)["split"]
    return Split(**{part: tuple(patients) for part, patients in content.items()})


def check_data(plan: Plan, sources: Mapping[str, Source]) -> None:
    """What can only be known once the scans are read, and must be before anything is trained.

    Raises:
        OptionError: a budget asks for more than there is; a test set holds scans that models are trained, chosen or
            (unless the method is transductive) pre-trained on. Each names the line of the plan.
    """
    store = sources[plan.train].store
    split = store.split()
    for method in plan.methods:
        _check_budgets(plan, method, store, split)
    learned = store.fingerprints({*split.train, *split.validation})
    names = {scan["case"] for scan in store.meta["scans"] if scan["patient"] in {*split.train, *split.validation}}
    for test in plan.tests:
        scans = {scan.fingerprint: scan.case for scan in tested_scans(test, sources)}
        if leaked := sorted(scans[seen] for seen in learned & scans.keys()):
            raise test.entry.error(
                f"models are trained or chosen on {len(leaked)} of its {counted(len(scans), 'scan')} "
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
            _check_pretraining(method, test, scans, sources)
    held_out = store.fingerprints({*split.validation, *split.test})
    for method in plan.methods:
        if method.pretrain is not None and not method.transductive and held_out & _seen(method, sources):
            raise method.entry.error(
                f"its pre-training on {method.pretrain_data} sees scans that {plan.train} holds out",
                _way_out(method),
            )


def _check_budgets(plan: Plan, method: MethodPlan, store: SliceStore, split: Split) -> None:
    if method.training is None:
        return
    usable = store.slices[store.middle(method.training.values.get("middle_fraction", 1.0))]

    def labels(text: str, entry: Entry, draw: int) -> bytes:
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
    method: MethodPlan, test: TestPlan, scans: Mapping[str, str], sources: Mapping[str, Source]
) -> None:
    if method.pretrain is None or method.transductive:
        return
    if leaked := sorted(scans[seen] for seen in _seen(method, sources) & scans.keys()):
        raise method.entry.error(
            f"its pre-training on {method.pretrain_data} sees {counted(len(leaked), 'scan')} of the test set "
            f"{test.name} ({', '.join(leaked[:5])})",
            _way_out(method),
        )


def _way_out(method: MethodPlan) -> str:
    assert method.pretrain is not None
    if METHODS[PretrainOptions(data=NOWHERE, out=NOWHERE, **method.pretrain).method].annotation != "none":
        return "pre-train on other scans: the labels it learns from may not be those of held-out scans"
    return "say transductive: true to do so knowingly; every table then marks the method"


def _seen(method: MethodPlan, sources: Mapping[str, Source]) -> set[str]:
    """Fingerprints of the scans that the method's pre-training may see."""
    store = sources[method.pretrain_data].store
    return store.fingerprints(set(store.patients if method.transductive else store.split().train))
