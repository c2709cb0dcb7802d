"""The run folders behind the predictions: commands, options, environment and curves."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from frugalseg.errors import FrugalsegError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.pretraining.embedding_metrics import is_collapsed
from frugalseg.records.any_model import read_model
from frugalseg.records.model import MaskModelRecord
from frugalseg.records.networks import EncoderRecord, ProbeRecord, SegmenterRecord
from frugalseg.records.sam_mix import SamMixRecord


@dataclass(frozen=True)
class RunFacts:
    """The readable content of one run folder.

    Attributes:
        title: what the run did.
        path: the folder.
        options: content of config.yaml.
        environment: content of environment.json.
        model: content of model.json.
        records: lines of metrics.jsonl.
        problems: sentences on files that are missing or damaged.
    """

    title: str
    path: Path
    options: dict[str, object] = field(default_factory=dict)
    environment: dict[str, object] = field(default_factory=dict)
    model: EncoderRecord | SegmenterRecord | SamMixRecord | None = None
    records: list[dict[str, object]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def command_line(self) -> str | None:
        """The command line, with the program's name in place of its path."""
        words = self.environment.get("command_line")
        if not isinstance(words, list) or not words:
            return None
        return shlex.join([Path(str(words[0])).name, *(str(w) for w in words[1:])])

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """Steps and values of one quantity in metrics.jsonl."""
        points = [
            (float(step), float(value))
            for r in self.records
            if _is_number(step := r.get("step")) and _is_number(value := r.get(name))
        ]
        return [step for step, _ in points], [value for _, value in points]

    def figure_names(self) -> list[str]:
        """Names of all numeric quantities in metrics.jsonl, in order of appearance."""
        return list(dict.fromkeys(name for r in self.records for name, value in r.items() if _is_number(value)))

    @property
    def collapsed(self) -> bool:
        """Whether, at the last probe, the encoder embedded all slices at nearly the same place."""
        _, values = self.curve("uniformity")
        return bool(values) and is_collapsed({"uniformity": values[-1]})

    @property
    def probe(self) -> ProbeRecord | None:
        """The record of a pre-training's probe; None where there was none."""
        return self.model.probe if isinstance(self.model, EncoderRecord) else None

    @property
    def validation_dice(self) -> dict[str, float]:
        """Organ → Dice of the model on its validation patients; empty where that is not known."""
        return self.model.validation_dice_of_organs if isinstance(self.model, MaskModelRecord) else {}

    @property
    def annotation(self) -> dict[str, object]:
        """The annotation that the model used, by name; empty without model.json."""
        return asdict(self.model.annotation) if self.model else {}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_runs(model: Path | None) -> list[RunFacts]:
    """Read the fine-tuning run at `model` and the pre-training run that its config names.

    Missing or damaged files are no errors: they are named in `RunFacts.problems`.
    """
    if model is None:
        return []
    finetuning = _read_run("Fine-tuning", model)
    encoder = finetuning.options.get("encoder")
    if not encoder:
        return [finetuning]
    path = Path(str(encoder))
    if not path.exists() and not path.is_absolute():
        path = model.parent / path.name  # it was relative to the training's working directory; often a sibling
    return [_read_run("Pre-training", path), finetuning]


def find_intensity_scale(runs: list[RunFacts]) -> IntensityScale | None:
    """The intensity scaling of the model's images, or None where its run cannot be read."""
    model = runs[-1].model if runs else None
    return model.preprocessing.intensity if model else None


def find_unlearned_organs(runs: list[RunFacts]) -> tuple[str, ...]:
    """Organs whose Dice was 0 on the model's validation patients."""
    model = runs[-1].model if runs else None
    return model.unlearned_organs if isinstance(model, MaskModelRecord) else ()


def _read_run(title: str, path: Path) -> RunFacts:
    if not path.is_dir():
        return RunFacts(title, path, problems=["The run folder does not exist."])
    problems: list[str] = []
    facts = RunFacts(title, path, model=_read_model(path, problems), problems=problems)
    facts.options.update(_read_mapping(path / "config.yaml", yaml.safe_load, facts.problems))
    facts.environment.update(_read_mapping(path / "environment.json", json.loads, facts.problems))
    facts.records.extend(_read_log(path / "metrics.jsonl"))
    if not facts.records:
        facts.problems.append("metrics.jsonl holds no records.")
    return facts


def _read_model(run: Path, problems: list[str]) -> EncoderRecord | SegmenterRecord | SamMixRecord | None:
    try:
        return read_model(run)
    except FrugalsegError as error:
        problems.append(f"{error.problem[:1].upper()}{error.problem[1:]}.")
        return None


def _read_mapping(path: Path, parse: Callable[[str], Any], problems: list[str]) -> dict[str, object]:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        problems.append(f"{path.name} cannot be read ({type(error).__name__}).")
        return {}
    return content if isinstance(content, dict) else {}


def _read_log(path: Path) -> list[dict[str, object]]:
    """All complete records; a line that was cut off by a kill is skipped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    return [record for line in lines if (record := _parse_record(line)) is not None]


def _parse_record(line: str) -> dict[str, object] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
