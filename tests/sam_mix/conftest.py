"""A tiny store, a tiny SAM, and a classifier with few channels."""

from __future__ import annotations

import pytest

from frugalseg.dataset.prepare import prepare
from frugalseg.models import resnet
from frugalseg.options import PrepareOptions, SamMixTrainOptions
from frugalseg.sam_mix.train import sam_mix_train
from tests.promptable.tiny_networks import sam
from tests.scans import write_cohort


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """Folder with images, labels, a store of both organs, one of the liver, and a SAM folder."""
    root = tmp_path_factory.mktemp("mix")
    images, labels = write_cohort(root, 6, shape=(32, 32, 10))
    for name, target in (("store", ["liver=6", "spleen=1"]), ("liver", ["liver=6"])):
        prepare(PrepareOptions(images=images, labels=labels, target=target, size=32, out=root / name))
    sam().save_pretrained(root / "sam")
    return root


@pytest.fixture(scope="session")
def trained(cohort, tmp_path_factory):
    """A run on both organs; change nothing in it."""
    out = tmp_path_factory.mktemp("predict") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "PLANES", (4, 8, 16, 32))
        sam_mix_train(
            SamMixTrainOptions(
                data=cohort / "store",
                base=str(cohort / "sam"),
                out=out,
                adapt="decoder",
                budget="5 slices",
                steps=4,
                validate_every=4,
                classifier_lr=1e-4,  # so few steps at more leave it finding nothing
                classifier_size=64,
                device="cpu",
                precision="32",
            )
        )
    return out


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """ResNet-38 with a sixteenth of its channels: as the real one in everything but size."""
    monkeypatch.setattr(resnet, "PLANES", (4, 8, 16, 32))


@pytest.fixture
def options(cohort):
    """Options of a short training; `options(out=…, …)`."""

    def make(**more):
        settings = {
            "data": cohort / "liver",
            "base": str(cohort / "sam"),
            "budget": "5 slices",
            "steps": 6,
            "validate_every": 6,
            "classifier_size": 64,
            "device": "cpu",
            "precision": "32",
        }
        return SamMixTrainOptions(**(settings | more))

    return make
