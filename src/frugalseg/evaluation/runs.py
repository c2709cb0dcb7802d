"""What the run folders behind the predictions tell: commands, options, environment and curves."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from frugalseg.errors import FrugalsegError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.pretraining.embedding_metrics import collapsed


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
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
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
        points = [(r["step"], r[name]) for r in self.records if _number(r.get("step")) and _number(r.get(name))]
        return [float(s) for s, _ in points], [float(v) for _, v in points]

    def figures(self) -> list[str]:
        """Names of all numbers in metrics.jsonl, in order of appearance."""
        return list(dict.fromkeys(name for r in self.records for name, value in r.items() if _number(value)))

    @property
    def collapsed(self) -> bool:
        """Whether the probe saw, at its last look, an encoder that embeds all slices alike."""
        _, values = self.curve("uniformity")
        return bool(values) and collapsed({"uniformity": values[-1]})

    @property
    def probe(self) -> dict[str, Any]:
        """What the probe of a pre-training looked at, as model.json tells; empty where there was none."""
        told = self.model.get("probe")
        return told if isinstance(told, dict) else {}


def _number(value: object) -> bool:
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
    if not runs:
        return None
    try:
        return IntensityScale.from_dict(runs[-1].model["preprocessing"]["intensity"])
    except (KeyError, TypeError, ValueError, FrugalsegError):  # no model.json, or another program's
        return None


def _read_run(title: str, path: Path) -> RunFacts:
    facts = RunFacts(title, path)
    if not path.is_dir():
        facts.problems.append("The run folder is not there.")
        return facts
    facts.options.update(_mapping(path / "config.yaml", yaml.safe_load, facts.problems))
    facts.environment.update(_mapping(path / "environment.json", json.loads, facts.problems))
    facts.model.update(_mapping(path / "model.json", json.loads, facts.problems))
    facts.records.extend(_lines(path / "metrics.jsonl"))
    if not facts.records:
        facts.problems.append("metrics.jsonl holds no records.")
    return facts


def _mapping(path: Path, parse: Callable[[str], Any], problems: list[str]) -> dict[str, Any]:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        problems.append(f"{path.name} cannot be read ({type(error).__name__}).")
        return {}
    return content if isinstance(content, dict) else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    """All whole records; a line that a kill cut off is passed over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    return [record for line in lines if (record := _record(line)) is not None]


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
