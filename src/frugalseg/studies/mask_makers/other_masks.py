"""Masks that another program made of the test scans, in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from frugalseg.dataset.targets import parse_targets
from frugalseg.records.scan_index import MaskIndex
from frugalseg.studies.jobs.job import EvaluatedJob, Job, MaskPreparationJob, short_hash, slug
from frugalseg.studies.jobs.other_masks import MasksToCheck, MasksToImport, check_masks, import_masks
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MaskMaker, MethodPlan
from frugalseg.studies.plan.method_parts import SharedSettings, read_note, read_own_backbones, read_own_budgets
from frugalseg.studies.plan.options import Values
from frugalseg.studies.plan.values import parse_value, require_existing
from frugalseg.studies.plan.yaml_source import YamlValue

METHOD_KEYS = ("note", "masks", "annotation", "budgets", "target", "uses_test_references", "transductive", "backbones")
REQUIRED_METHOD_KEYS = {
    "annotation": "state in words on which masks, and how many, that program was trained",
    "budgets": "name the budgets of the plan that correspond to this annotation",
}
"""Required key → what to write."""


@dataclass(frozen=True)
class OtherMasks(MaskMaker):
    """Masks of the test scans that another program made; the same for every budget, draw and seed.

    Attributes:
        folders: test set → folder.
        entries: test set → place of its folder in the plan.
        target: organs and their label values in these masks; None if they are those of each test set.
        stated_annotation: the program's training annotation, as the plan states it.
        given_references: whether it used slices or boxes from references of the test scans.
    """

    KEY = "masks"
    folders: Mapping[str, Path]
    entries: Mapping[str, YamlValue] = field(compare=False)
    target: tuple[str, ...] | None
    stated_annotation: str
    given_references: bool

    @classmethod
    def read(cls, name: str, entry: YamlValue, shared: SharedSettings, others: Mapping[str, MethodPlan]) -> MethodPlan:
        """See `MaskMaker.read`.

        Raises:
            OptionError: with the line: a missing or unknown key, a test set without a folder, a folder that does not
                exist, an organ of a test set that `target` does not name.
        """
        if "guided" in entry.mapping():
            raise entry.mapping()["guided"].error("was renamed", "write uses_test_references")
        given = entry.check_keys(*METHOD_KEYS)
        for key, cure in REQUIRED_METHOD_KEYS.items():
            if key not in given or given[key].is_empty:
                raise entry.error(f"masks of another program without {key}:", cure)
        backbones = read_own_backbones(given, shared.backbones)
        if "backbones" in given and len(backbones) > 1:
            raise given["backbones"].error(
                "masks of another program belong to none of the backbones",
                "name one backbone: the masks are listed with its methods",
            )
        target = given["target"].as_type(list[str]) if "target" in given else None
        if target is not None:
            _check_organs(given["target"], target, shared)
        folders = _read_folders(given["masks"], [test.name for test in shared.tests])
        annotation = str(given["annotation"].as_type(str)).strip()
        return MethodPlan(
            name=name,
            pretrain=None,
            pretrain_data=shared.pretrain_data,
            training=None,
            transductive=_read_flag(given, "transductive"),
            backbones=backbones[:1],
            budgets=read_own_budgets(given, shared.budgets, trained=False),
            note=read_note(given, f"masks of another program; its annotation, as stated in the plan: {annotation}"),
            entry=entry,
            masks=cls(
                folders={test: require_existing(one, one.as_type(Path)) for test, one in folders.items()},
                entries=folders,
                target=None if target is None else tuple(target),
                stated_annotation=annotation,
                given_references=_read_flag(given, "uses_test_references"),
            ),
        )

    def to_values(self, method: MethodPlan) -> Values:
        """See `MaskMaker.to_values`."""
        return {
            "backbones": list(method.backbones),
            "masks": {test: str(folder) for test, folder in self.folders.items()},
            "annotation": self.stated_annotation,
            "uses_test_references": self.given_references,
            "transductive": method.transductive,
            **({} if self.target is None else {"target": list(self.target)}),
        }

    @property
    def uses_test_references(self) -> bool:
        """See `MaskMaker.uses_test_references`."""
        return self.given_references

    @property
    def annotation(self) -> str:
        """See `MaskMaker.annotation`."""
        return self.stated_annotation

    def preparation_job(self, method: str, scans: ScansToSegment) -> tuple[Job, YamlValue]:
        """See `MaskMaker.preparation_job`: the masks are checked before anything is trained."""
        to_check = self._masks_to_check(method, scans)
        job = MaskPreparationJob(id=f"prepare.{to_check.out.stem}", maker=type(self), options=to_check)
        return job, self.entries[scans.name]

    def _masks_to_check(self, method: str, scans: ScansToSegment) -> MasksToCheck:
        wanted: Values = {
            "images": scans.images,
            "masks": self.folders[scans.name],
            "series": scans.series,
            "case": scans.case,
            "target": scans.target if self.target is None else self.target,
            "stated": self.target is not None,
        }
        path = scans.study / "stores" / f"{slug(method, scans.name)}-{short_hash(wanted)}.json"
        return MasksToCheck(**wanted, out=path)

    @staticmethod
    def prepare(options: MasksToCheck, threads: int) -> None:
        """See `MaskMaker.prepare`."""
        check_masks(options, threads)

    def identity(
        self, method: str, tests: Sequence[ScansToSegment], sources: Sequence[EvaluatedJob]
    ) -> dict[str, object]:
        """See `MaskMaker.identity`: the masks are identified by the hashes of their files."""
        checked_masks = {scans.name: self._masks_to_check(method, scans) for scans in tests}
        listed = {
            test: [[mask.case, mask.sha256] for mask in MaskIndex.read(masks.out).masks]
            for test, masks in checked_masks.items()
        }
        return {"masks": listed, "target": [masks.target for masks in checked_masks.values()]}

    def mask_options(
        self, method: str, scans: ScansToSegment, sources: Sequence[EvaluatedJob], out: Path
    ) -> MasksToImport:
        """See `MaskMaker.mask_options`."""
        masks = self._masks_to_check(method, scans)
        return MasksToImport(masks.images, masks.masks, masks.series, masks.case, masks.target, scans.target, out)

    @staticmethod
    def make(options: MasksToImport) -> None:
        """See `MaskMaker.make`."""
        import_masks(options)


def _read_folders(entry: YamlValue, tests: list[str]) -> Mapping[str, YamlValue]:
    """Test set → place of its folder in the plan; a single test set needs no name."""
    if len(tests) == 1 and entry.is_text:
        return {tests[0]: entry}
    folders = entry.check_keys(*tests)
    if missing := [test for test in tests if test not in folders]:
        raise entry.error(f"no folder for the test set {missing[0]}", "give one for each: TEST SET: FOLDER")
    return folders


def _check_organs(entry: YamlValue, target: list[str], shared: SharedSettings) -> None:
    named = parse_value(entry, parse_targets, target)
    for test in shared.tests:
        if missing := [organ for organ in shared.data[test.data].organs if organ not in named]:
            raise entry.error(
                f"does not name {missing[0]}, an organ of the test set {test.name}", f"add {missing[0]}=VALUE"
            )


def _read_flag(given: Mapping[str, YamlValue], key: str) -> bool:
    return bool(given[key].as_type(bool)) if key in given else False
