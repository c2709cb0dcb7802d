"""A published model: what it says, what it does not say, and that it predicts as before."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest

from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.dataset.prepare import prepare
from frugalseg.engine.files import MODEL_FILE, sha256
from frugalseg.errors import OptionError, RunError
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.imaging.read import read_volume
from frugalseg.options import EvaluateOptions, FinetuneOptions, PredictOptions, PrepareOptions, PullOptions, PushOptions
from frugalseg.records.model import PromptableModel, UsedModel
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.origin_of_model import PulledModel
from frugalseg.records.predictions import PREDICTIONS_FILE, PredictionRecord
from frugalseg.records.summary import SummaryRecord
from frugalseg.sharing.publish import pull, push
from tests.scans import write_cohort

EXACT = {"device": "cpu", "precision": "32"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Scans, a model, its masks, and their evaluation."""
    root = tmp_path_factory.mktemp("publish")
    images, labels = write_cohort(root, 5, shape=(32, 32, 6))
    target = ["liver=6", "spleen=1"]
    prepare(PrepareOptions(images=images, labels=labels, target=target, size=32, out=root / "store"))
    finetune(FinetuneOptions(data=root / "store", out=root / "fit", steps=40, budget="3 scans", **EXACT))
    predict(PredictOptions(model=root / "fit", images=images, out=root / "masks", **EXACT))
    evaluate(EvaluateOptions(predictions=root / "masks", references=labels, out=root / "evaluation", report=False))
    return root


def publish(root, folder, **more) -> str:
    return push(PushOptions(repo=str(folder), model=root / "fit", **more))


def test_a_published_model_predicts_as_before_and_knows_its_scans(root, tmp_path):
    revision = publish(root, tmp_path / "repo")
    pulled = pull(PullOptions(repo=str(tmp_path / "repo"), out=tmp_path / "model", revision=revision))
    assert pulled == PulledModel.read(tmp_path / "model" / "pulled.json")
    assert pulled.revision == revision
    assert pulled.weights_sha256 == sha256(root / "fit" / "model.safetensors")
    predict(PredictOptions(model=tmp_path / "model", images=root / "images", out=tmp_path / "masks", **EXACT))
    notes = [PredictionRecord.read(folder / PREDICTIONS_FILE) for folder in (root / "masks", tmp_path / "masks")]
    assert notes[0].roles == notes[1].roles
    assert notes[0].confidence == notes[1].confidence
    for case in notes[0].masks:
        ours, theirs = (read_volume(folder / f"{case}.nii.gz") for folder in (root / "masks", tmp_path / "masks"))
        assert np.array_equal(ours.array, theirs.array)


def test_no_name_and_no_path_is_published(root, tmp_path):
    record = SegmenterRecord.read_run(root / "fit")
    run = tmp_path / "fit"
    shutil.copytree(root / "fit", run)
    replace(
        record,
        backbone="/home/jane/dino",
        frozen_encoder=PromptableModel("/home/jane/dino", "DINOv2", "1"),
        pseudo_labels_refined_by=PromptableModel("/home/jane/sam.pth", "SAM", "1"),
        teacher=UsedModel("/home/jane/scan_00", "abc", 3),
        initial_model=UsedModel("/home/jane/scan_01", "abc", 3),
    ).write(run / MODEL_FILE)
    for keep_names in (False, True):
        out = tmp_path / f"repo-{keep_names}"
        push(PushOptions(repo=str(out), model=run, evaluation=root / "evaluation", keep_names=keep_names))
        assert sorted(path.name for path in out.iterdir()) == ["README.md", "model.json", "model.safetensors"]
        content = b"".join(path.read_bytes() for path in out.iterdir())
        assert b"jane" not in content
        assert str(root).encode() not in content
        assert str(tmp_path).encode() not in content
        assert (b"scan_0" in content) is keep_names
    scans = SegmenterRecord.read_run(tmp_path / "repo-False").scans
    assert [(scan.fingerprint, scan.role) for scan in scans] == [(s.fingerprint, s.role) for s in record.scans]
    assert len({scan.case for scan in scans}) == 5


def test_the_card_states_figures_counts_and_licences(root, tmp_path):
    more = {"evaluation": root / "evaluation", "licence": "mit", "data_licence": "CC-BY-4.0"}
    publish(root, tmp_path / "repo", **more)
    card = (tmp_path / "repo" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: frugalseg\n")
    assert "\nlicense: mit\n" in card
    assert "Not a medical device" in card
    assert "| masks | 18 slices of 3 scans (budget 3 scans) |" in card
    assert "| the scans and masks it was trained on | CC-BY-4.0 |" in card
    liver = SummaryRecord.read(root / "evaluation" / "summary.json").groups["unseen"].organs["liver"].metrics
    assert f"| liver | 1 | {liver['dice'].mean:.3f} | {liver['nsd'].mean:.3f} | {liver['hd95_mm'].mean:.1f} |" in card
    assert "On 1 scan that the model has never seen" in card


def test_without_test_patients_or_evaluation_the_card_says_so(root, tmp_path, recwarn):
    seen = [scan.case for scan in SegmenterRecord.read_run(root / "fit").scans if scan.role != "test"]
    out = tmp_path / "masks"
    predict(PredictOptions(model=root / "fit", images=root / "images", case=seen, out=out, **EXACT))
    given = {"predictions": out, "references": root / "labels", "case": seen, "report": False}
    evaluate(EvaluateOptions(out=tmp_path / "evaluation", **given))
    publish(root, tmp_path / "repo", evaluation=tmp_path / "evaluation")
    card = (tmp_path / "repo" / "README.md").read_text()
    assert "**No test patients**" in card
    assert "| organ | scans |" not in card
    assert "| this model | not stated by its authors |" in card
    assert any("without --licence" in str(one.message) for one in recwarn)
    publish(root, tmp_path / "other")
    assert "published without an evaluation" in (tmp_path / "other" / "README.md").read_text()


def test_a_frozen_encoder_is_named_with_its_licence(root, tmp_path):
    shutil.copytree(root / "fit", tmp_path / "fit")
    encoder = PromptableModel("litemedsam", "LiteMedSAM", "1")
    replace(SegmenterRecord.read_run(root / "fit"), frozen_encoder=encoder).write(tmp_path / "fit" / MODEL_FILE)
    push(PushOptions(repo=str(tmp_path / "repo"), model=tmp_path / "fit"))
    card = (tmp_path / "repo" / "README.md").read_text()
    assert "The weights of the encoder LiteMedSAM are not part of this repository" in card
    assert "| LiteMedSAM (frozen encoder) | Apache-2.0 |" in card


def test_what_is_wrong_is_refused(root, tmp_path):
    publish(root, tmp_path / "repo")
    with pytest.raises(RunError, match="is not empty"):
        publish(root, tmp_path / "repo")
    with pytest.raises(RunError, match=r"holds revision [0-9a-f]{64}, --revision abc was given"):
        pull(PullOptions(repo=str(tmp_path / "repo"), out=tmp_path / "model", revision="abc"))
    weights = tmp_path / "repo" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RunError, match="cannot be read"):
        pull(PullOptions(repo=str(tmp_path / "repo"), out=tmp_path / "model"))
    weights.unlink()
    with pytest.raises(RunError, match=r"holds no model\.safetensors"):
        pull(PullOptions(repo=str(tmp_path / "repo"), out=tmp_path / "model"))
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.glob(".model*"))
    with pytest.raises(OptionError, match="give owner/name"):
        PullOptions(repo="liver", out=tmp_path / "model")


def test_figures_of_another_model_are_refused(root, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(root / "masks", other)
    record = PredictionRecord.read(other / PREDICTIONS_FILE)
    replace(record, weights_sha256="0" * 64).write(other / PREDICTIONS_FILE)
    evaluate(EvaluateOptions(predictions=other, references=root / "labels", out=tmp_path / "eval", report=False))
    with pytest.raises(OptionError, match="masks of another model"):
        publish(root, tmp_path / "new", evaluation=tmp_path / "eval")


class FakeHub:
    """Keeps repositories in a folder, one commit each; stands in for huggingface_hub.HfApi."""

    place: Path
    private: bool | None = None

    def create_repo(self, repo, private, exist_ok):
        FakeHub.private = private

    def upload_folder(self, repo_id, folder_path, allow_patterns, commit_message):
        shutil.copytree(folder_path, self.place / repo_id / "c0ffee")
        return SimpleNamespace(oid="c0ffee")

    def model_info(self, repo, revision):
        if not (self.place / repo).is_dir() or revision not in (None, "c0ffee"):
            raise OSError("404 Client Error: not found")
        return SimpleNamespace(sha="c0ffee")

    def snapshot_download(self, repo, revision, local_dir, allow_patterns):
        for path in (self.place / repo / revision).iterdir():
            assert path.name in allow_patterns
            shutil.copyfile(path, local_dir / path.name)


def test_the_hub_gets_and_gives_one_pinned_commit(root, tmp_path, monkeypatch):
    monkeypatch.setattr(FakeHub, "place", tmp_path / "hub", raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    assert push(PushOptions(repo="me/liver", model=root / "fit", private=True)) == "c0ffee"
    assert FakeHub.private is True
    pulled = pull(PullOptions(repo="me/liver", out=tmp_path / "model"))
    assert (pulled.repo, pulled.revision) == ("me/liver", "c0ffee")
    assert SegmenterRecord.read_run(tmp_path / "model").targets == {"liver": (6,), "spleen": (1,)}
    with pytest.raises(RunError, match="me/liver: 404 Client Error"):
        pull(PullOptions(repo="me/liver", out=tmp_path / "new", revision="beef"))
    with pytest.raises(RunError, match="404 Client Error"):
        pull(PullOptions(repo="me/other", out=tmp_path / "new"))
