"""Masks that another program made of the test scans, in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from frugalseg.dataset.targets import parse_targets
from frugalseg.records.scan_index import MaskIndex
from frugalseg.studies.jobs.job import Job, MaskPreparationJob, ModelJob, short_hash, slug
from frugalseg.studies.jobs.other_masks import MasksToCheck, TakenMasks, check_masks, take_masks
from frugalseg.studies.plan.data import ScansToSegment
from frugalseg.studies.plan.method import MaskMaker, MethodPlan
from frugalseg.studies.plan.method_parts import Shared, own_backbones, own_budgets, own_note
from frugalseg.studies.plan.options import Values
from frugalseg.studies.plan.values import checked, existing
from frugalseg.studies.plan.yaml_source import YamlValue

KEYS = ("note", "masks", "annotation", "budgets", "target", "uses_test_references", "transductive", "backbones")
NEEDED = {
    "annotation": "state in words on which masks, and how many, that program was trained",
    "budgets": "name the budgets of the plan that correspond to this annotation",
}
"""Key that must be there → what to write."""


@dataclass(frozen=True)
class OtherMasks(MaskMaker):
    """Masks of the test scans that another program made; the same for every budget, draw and seed.

    Attributes:
        folders: test set → folder.
        entries: test set → where the plan says so.
        target: organs and their label values in these masks; None where they are those of each test set.
        stated_annotation: what that program learned from, as the plan states it.
        given_references: whether references of the test scans gave it slices or boxes.
    """

    KEY = "masks"
    folders: Mapping[str, Path]
    entries: Mapping[str, YamlValue] = field(compare=False)
    target: tuple[str, ...] | None
    stated_annotation: str
    given_references: bool

    @classmethod
    def read(cls, name: str, entry: YamlValue, shared: Shared, trained: Mapping[str, MethodPlan]) -> MethodPlan:
        """See `MaskMaker.read`.

        Raises:
            OptionError: naming the line: a key that is missing or unknown, a test set without a folder, a folder that
                is not there, an organ of a test set that `target` does not name.
        """
        if "guided" in entry.mapping():
            raise entry.mapping()["guided"].error("has another name now", "call it uses_test_references")
        given = entry.known(*KEYS)
        for key, cure in NEEDED.items():
            if key not in given or given[key].is_empty:
                raise entry.error(f"masks of another program, and no {key}:", cure)
        backbones = own_backbones(given, shared.backbones)
        if "backbones" in given and len(backbones) > 1:
            raise given["backbones"].error("masks of another program are of none of them", "name one, to stand beside")
        target = given["target"].as_type(list[str]) if "target" in given else None
        if target is not None:
            _check_organs(given["target"], target, shared)
        folders = _folders(given["masks"], [test.name for test in shared.tests])
        annotation = str(given["annotation"].as_type(str)).strip()
        return MethodPlan(
            name=name,
            pretrain=None,
            pretrain_data=shared.pretrain_data,
            training=None,
            transductive=_flag(given, "transductive"),
            backbones=backbones[:1],
            budgets=own_budgets(given, shared.budgets, trained=False),
            note=own_note(given, f"masks of another program; what it was given, as the plan states it: {annotation}"),
            entry=entry,
            masks=cls(
                folders={test: existing(one, one.as_type(Path)) for test, one in folders.items()},
                entries=folders,
                target=None if target is None else tuple(target),
                stated_annotation=annotation,
                given_references=_flag(given, "uses_test_references"),
            ),
        )

    def resolved(self, method: MethodPlan) -> Values:
        """See `MaskMaker.resolved`."""
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

    def preparation(self, method: str, scans: ScansToSegment) -> tuple[Job, YamlValue]:
        """See `MaskMaker.preparation`: the masks are looked at before anything is trained."""
        to_check = self._to_check(method, scans)
        job = MaskPreparationJob(id=f"prepare.{to_check.out.stem}", maker=type(self), options=to_check)
        return job, self.entries[scans.name]

    def _to_check(self, method: str, scans: ScansToSegment) -> MasksToCheck:
        target = scans.target if self.target is None else self.target
        wanted = {
            "images": scans.images,
            "masks": self.folders[scans.name],
            "case": scans.case,
            "target": target,
            "stated": self.target is not None,
        }
        path = scans.study / "stores" / f"{slug(method, scans.name)}-{short_hash(wanted)}.json"
        return MasksToCheck(scans.images, self.folders[scans.name], scans.case, target, self.target is not None, path)

    @staticmethod
    def prepare(options: MasksToCheck, threads: int) -> None:
        """See `MaskMaker.prepare`."""
        check_masks(options, threads)

    def content(self, method: str, tests: Sequence[ScansToSegment], model: ModelJob | None) -> dict[str, object]:
        """See `MaskMaker.content`: they are known by what lies in the folders."""
        checked_masks = {scans.name: self._to_check(method, scans) for scans in tests}
        listed = {
            test: [[mask.case, mask.sha256] for mask in MaskIndex.read(masks.out).masks]
            for test, masks in checked_masks.items()
        }
        return {"masks": listed, "target": [masks.target for masks in checked_masks.values()]}

    def options(self, method: str, scans: ScansToSegment, model: ModelJob | None, out: Path) -> TakenMasks:
        """See `MaskMaker.options`."""
        masks = self._to_check(method, scans)
        return TakenMasks(masks.images, masks.masks, masks.case, masks.target, scans.target, out)

    @staticmethod
    def make(options: TakenMasks) -> None:
        """See `MaskMaker.make`."""
        take_masks(options)


def _folders(entry: YamlValue, tests: list[str]) -> Mapping[str, YamlValue]:
    """Test set → where its folder is written; a single test set needs no name."""
    if len(tests) == 1 and entry.is_text:
        return {tests[0]: entry}
    folders = entry.known(*tests)
    if missing := [test for test in tests if test not in folders]:
        raise entry.error(f"no folder for the test set {missing[0]}", "name one for each: TEST SET: FOLDER")
    return folders


def _check_organs(entry: YamlValue, target: list[str], shared: Shared) -> None:
    named = checked(entry, parse_targets, target)
    for test in shared.tests:
        if missing := [organ for organ in shared.data[test.data].organs if organ not in named]:
            raise entry.error(f"does not name {missing[0]}, which {test.name} is tested on", f"add {missing[0]}=VALUE")


def _flag(given: Mapping[str, YamlValue], key: str) -> bool:
    return bool(given[key].as_type(bool)) if key in given else False
