"""What the run folders behind the predictions tell: commands, options, environment and curves."""

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
from frugalseg.records.model import EncoderRecord, ProbeRecord, SamMixRecord, SegmenterRecord, read_model


@dataclass(frozen=True)
class RunFacts:
    """One run folder, as far as it can be read.

    Attributes:
        title: what the run did.
        path: the folder.
        options: of config.yaml.
        environment: of environment.json.
        model: of model.json.
        records: of metrics.jsonl.
        problems: what is missing or damaged, in words.
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
        """The command as it was given, with the program's name for its path."""
        words = self.environment.get("command_line")
        if not isinstance(words, list) or not words:
            return None
        return shlex.join([Path(str(words[0])).name, *(str(w) for w in words[1:])])

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """Steps and values of one figure of metrics.jsonl."""
        points = [
            (float(step), float(value))
            for r in self.records
            if _number(step := r.get("step")) and _number(value := r.get(name))
        ]
        return [step for step, _ in points], [value for _, value in points]

    def figures(self) -> list[str]:
        """Names of all numbers in metrics.jsonl, in order of appearance."""
        return list(dict.fromkeys(name for r in self.records for name, value in r.items() if _number(value)))

    @property
    def collapsed(self) -> bool:
        """Whether the probe saw, at its last look, an encoder that embeds all slices alike."""
        _, values = self.curve("uniformity")
        return bool(values) and is_collapsed({"uniformity": values[-1]})

    @property
    def probe(self) -> ProbeRecord | None:
        """What the probe of a pre-training looked at; None where there was none."""
        return self.model.probe if isinstance(self.model, EncoderRecord) else None

    @property
    def annotation(self) -> dict[str, object]:
        """The annotation that the model used, by name; empty where model.json does not tell."""
        return asdict(self.model.annotation) if self.model else {}


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_runs(model: Path | None) -> list[RunFacts]:
    """The fine-tuning run at `model` and the pre-training run its config names; nothing here is an error."""
    if model is None:
        return []
    finetuning = _read_run("Fine-tuning", model)
    encoder = finetuning.options.get("encoder")
    if not encoder:
        return [finetuning]
    path = Path(str(encoder))
    if not path.exists() and not path.is_absolute():
        path = model.parent / path.name  # relative to where the training was started; often a sibling
    return [_read_run("Pre-training", path), finetuning]


def intensity_of(runs: list[RunFacts]) -> IntensityScale | None:
    """How the model's images are scaled, or None where its run does not tell."""
    model = runs[-1].model if runs else None
    return model.preprocessing.intensity if model else None


def _read_run(title: str, path: Path) -> RunFacts:
    if not path.is_dir():
        return RunFacts(title, path, problems=["The run folder is not there."])
    problems: list[str] = []
    facts = RunFacts(title, path, model=_model(path, problems), problems=problems)
    facts.options.update(_mapping(path / "config.yaml", yaml.safe_load, facts.problems))
    facts.environment.update(_mapping(path / "environment.json", json.loads, facts.problems))
    facts.records.extend(_lines(path / "metrics.jsonl"))
    if not facts.records:
        facts.problems.append("metrics.jsonl holds no records.")
    return facts


def _model(run: Path, problems: list[str]) -> EncoderRecord | SegmenterRecord | SamMixRecord | None:
    try:
        return read_model(run)
    except FrugalsegError as error:
        problems.append(f"{error.problem[:1].upper()}{error.problem[1:]}.")
        return None


def _mapping(path: Path, parse: Callable[[str], Any], problems: list[str]) -> dict[str, object]:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        problems.append(f"{path.name} cannot be read ({type(error).__name__}).")
        return {}
    return content if isinstance(content, dict) else {}


def _lines(path: Path) -> list[dict[str, object]]:
    """All whole records; a line that a kill cut off is passed over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    return [record for line in lines if (record := _record(line)) is not None]


def _record(line: str) -> dict[str, object] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
