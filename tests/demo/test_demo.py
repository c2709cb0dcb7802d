"""The demo on the user's own scans: what it finds wrong before the training that takes minutes."""

from __future__ import annotations

import pytest

from frugalseg.demo import run as room
from frugalseg.demo.run import demo
from frugalseg.errors import SplitError
from frugalseg.options import DemoOptions
from tests.scans import write_cohort


class PreTrainingBegunError(Exception):
    """As far as these tests go."""


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Options of a demo on four labelled scans, of which two are left to train on; no training begins."""

    def begin(options):
        raise PreTrainingBegunError

    monkeypatch.setattr(room, "pretrain", begin)
    images, labels = write_cohort(tmp_path / "scans", 4)
    return {"images": images, "labels": labels, "target": ["liver=6"], "size": 32, "device": "cpu"}


def test_a_budget_of_more_scans_than_are_left_ends_before_the_pre_training(given, tmp_path):
    with pytest.raises(SplitError, match="'3 scans': there are only 2 labelled training scans; .* 2 other") as caught:
        demo(DemoOptions(out=tmp_path / "demo", budget="3 scans", **given))
    assert "--overwrite and a smaller --budget" in caught.value.cure
    with pytest.raises(PreTrainingBegunError):
        demo(DemoOptions(out=tmp_path / "demo", budget="2 scans", overwrite=True, **given))


def test_of_few_scans_the_demo_takes_what_is_left(given, tmp_path, monkeypatch):
    class FineTuningBegunError(Exception):
        """With a budget."""

    def begin(options):
        raise FineTuningBegunError(options.budget)

    monkeypatch.setattr(room, "pretrain", lambda options: None)
    monkeypatch.setattr(room, "finetune", begin)
    with pytest.raises(FineTuningBegunError, match="2 scans"):
        demo(DemoOptions(out=tmp_path / "demo", **given))
