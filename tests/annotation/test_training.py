"""Train from a few outlined slices, and see the masks of the other scans."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from frugalseg.annotation.job_table import JobError
from frugalseg.annotation.messages import JobOptions
from frugalseg.annotation.slices import Stroke
from frugalseg.annotation.trained import TrainedModel
from frugalseg.annotation.training_jobs import PredictWork, StrokeMaker, TrainWork
from frugalseg.annotation.training_plan import plan_training
from frugalseg.annotation.warm_start import choose_start, find_warm_start
from frugalseg.imaging.read import read_labels
from frugalseg.records.networks import SegmenterRecord
from tests.annotation.session import open_client, open_session, put, read_mask
from tests.annotation.test_jobs import start, wait_until_ended
from tests.scans import tiny_scan, write_cohort

SHAPE = (32, 32)
STARTS = (JobOptions(), JobOptions(from_scratch=True), JobOptions(size=64))


def draw(client, case, number, slices):
    mask = tiny_scan(number)[1]
    for z in slices:
        version = client.get(f"/api/cases/{case}").json()["slices"][z]["version"]
        assert put(client, case, z, mask[:, :, z].T, version).status_code == 200


def test_training_predicts_the_other_slices_and_never_a_drawn_one(tmp_path):
    images, _ = write_cohort(tmp_path, 5)
    (images / "broken.nii.gz").write_bytes(b"not a scan")
    with open_session(images, tmp_path / "out", threads=1) as session, open_client(session) as client:
        assert not client.get("/api/training").json()["ready"]
        for number in range(3):
            draw(client, f"scan_{number:02d}", number, (4, 5, 6))
        plan = client.get("/api/training").json()
        assert (plan["ready"], plan["slices"], plan["cases"], plan["validation"]) == (True, 9, 3, 1)
        assert (plan["targets"], plan["modality"]) == (["spleen", "liver"], "CT")

        propagated = Stroke(np.zeros(SHAPE, np.uint8), "propagate", "job 0", source="propagated")
        session.slices.fill("scan_00", [(8, propagated)], (None,))
        start(client, "train", None, size=32, steps=60, backbone="unet")
        job = wait_until_ended(client)
        assert job["state"] == "done", job
        assert "trained on 6 slices; predicted 5 scans; not broken" in job["message"]

        sources = [one["source"] for one in client.get("/api/cases/scan_00").json()["slices"]]
        assert sources == ["predicted"] * 4 + ["outlined"] * 3 + ["predicted", "propagated"] + ["predicted"] * 3
        np.testing.assert_array_equal(read_mask(client, "scan_00", 5, SHAPE), tiny_scan(0)[1][:, :, 5].T)
        assert {one["source"] for one in client.get("/api/cases/scan_04").json()["slices"]} == {"predicted"}
        truth = tiny_scan(4)[1][:, :, 5].T
        found = read_mask(client, "scan_04", 5, SHAPE)
        assert (
            2
            * np.count_nonzero((found == 6) & (truth == 6))
            / (np.count_nonzero(found == 6) + np.count_nonzero(truth == 6))
            > 0.5
        )

        state = client.get("/api/state").json()
        assert state["model"]["slices"] == 6
        assert state["model"]["dice"] is not None
        assert {case["id"]: case["state"] for case in state["cases"]}["scan_04"] == "predicted"
        model = TrainedModel.find(session.database)
        assert model is not None
        record = SegmenterRecord.read_run(model.path(tmp_path / "out"))
        assert record.annotation.masks == 6
        session.saver.save_all()
        assert set(np.unique(read_labels(tmp_path / "out" / "scan_04.nii.gz").array)) <= {0, 1, 6}

        client.post("/api/cases/scan_04/accept")
        assert client.get("/api/training").json()["slices"] == 9 + 12
        start(client, "predict", None)
        assert wait_until_ended(client, 2)["state"] == "done"
        assert {one["source"] for one in client.get("/api/cases/scan_04").json()["slices"]} == {"reviewed"}


def train(client, number, **options):
    start(client, "train", None, **options)
    job = wait_until_ended(client, number)
    assert job["state"] == "done", job
    return job


def test_a_second_training_starts_from_the_last_model_and_keeps_its_validation_scan(tmp_path):
    images, _ = write_cohort(tmp_path, 6)
    with open_session(images, tmp_path / "out", threads=1) as session, open_client(session) as client:
        assert client.get("/api/training").json()["cold_reason"] == "there is no model yet"
        for number in range(3):
            draw(client, f"scan_{number:02d}", number, (4, 5, 6))
        train(client, 1, size=32, steps=60, backbone="unet")
        first = read_model(session)
        held_out = [scan.case for scan in first.scans if scan.role == "validation"]
        assert len(held_out) == 1

        for number in (3, 4, 5):  # a split at random of these six scans would validate on scan_03
            draw(client, f"scan_{number:02d}", number, (5,))
        plan = client.get("/api/training").json()
        assert (plan["size"], plan["warm_steps"], plan["validation"]) == (32, 100, 1)
        job = train(client, 2, steps=1)
        assert "from the last model" in job["message"]
        second = read_model(session)
        assert second.initial_model is not None
        assert second.initial_model.model == str((tmp_path / "out" / "work/jobs/0001/model").absolute())
        assert [scan.case for scan in second.scans if scan.role == "validation"] == held_out
        assert second.preprocessing.intensity == first.preprocessing.intensity
        assert second.validation_dice > 0.3, "one step from initial weights finds nothing"

        given = [
            TrainWork().steps(session.context, session.jobs.add("train", None, options))[1].words for options in STARTS
        ]
        assert [("--init" in words, words[words.index("--steps") + 1]) for words in given] == [
            (True, "100"),
            (False, "300"),
            (False, "300"),
        ]


def read_model(session):
    return SegmenterRecord.read_run(TrainedModel.find(session.database).path(session.place.out))


def test_scans_that_a_model_has_learned_from_validate_none_of_its_successors(tmp_path):
    """Two scans are learned without validation: the third one is kept for it, also where chance says otherwise."""
    images, _ = write_cohort(tmp_path, 4)
    with open_session(images, tmp_path / "out", threads=1) as session, open_client(session) as client:
        for number in (0, 1):
            draw(client, f"scan_{number:02d}", number, (5,))
        train(client, 1, size=32, steps=1, backbone="unet")
        draw(client, "scan_02", 2, (5,))
        warm = find_warm_start(session.context, plan_training(session.context))[0]
        assert (warm.train, warm.validation) == (("scan_00", "scan_01"), ("scan_02",))
        assert not warm.fits(JobOptions(size=64))
        assert not warm.fits(JobOptions(window=(0.0, 50.0)))
        assert not warm.fits(JobOptions(backbone="resunet"))
        assert warm.fits(JobOptions(size=32, modality="ct", window=(-160.0, 240.0)))

        session.labels.change(6, "tumour", None)
        assert "other labels" in client.get("/api/training").json()["cold_reason"]
        assert choose_start(session.context, plan_training(session.context), JobOptions()) is None
        session.labels.change(6, "liver", None)
        version = client.get("/api/cases/scan_02").json()["slices"][5]["version"]
        client.delete("/api/cases/scan_02/slices/5/mask", headers={"If-Match": f'"{version}"'})
        assert find_warm_start(session.context, plan_training(session.context))[0].validation == ()


def test_suggestions_come_first_until_they_are_outlined(tmp_path):
    images, _ = write_cohort(tmp_path, 2)
    with open_session(images, tmp_path / "out", threads=1) as session, open_client(session) as client:
        draw(client, "scan_00", 0, (5, 6))
        assert start(client, "suggest", "scan_01").status_code == 409  # without a model
        start(client, "suggest", None, size=32)
        job = wait_until_ended(client)
        assert job["message"] == "10 slices suggested", job
        first = client.get("/api/state").json()["suggestion"]
        assert (first["case"], first["slice"]) not in {("scan_00", 5), ("scan_00", 6)}
        assert first["reason"]
        client.post(f"/api/cases/{first['case']}/slices/{first['slice']}/accept")
        second = client.get("/api/state").json()["suggestion"]
        assert (second["case"], second["slice"]) != (first["case"], first["slice"])


def test_the_options_of_a_training_reach_its_commands(tmp_path):
    images, _ = write_cohort(tmp_path, 1)
    with open_session(images, tmp_path / "out", start=False) as session, open_client(session) as client:
        draw(client, "scan_00", 0, (5,))
        options = JobOptions(size=64, steps=7, backbone="resunet", modality="ct", window=(-50, 250.5))
        prepare, finetune, predict = TrainWork().steps(session.context, session.jobs.add("train", None, options))
        given = {**dict(pairwise(prepare.words)), **dict(pairwise(finetune.words))}
        wanted = {"--size": "64", "--steps": "7", "--backbone": "resunet", "--modality": "ct", "--window": "-50"}
        assert wanted.items() <= given.items()
        assert "250.5" in prepare.words
        assert predict.words[0] == "predict"
        recipe = session.jobs.add("train", None, JobOptions(recipe="best"))
        words = TrainWork().steps(session.context, recipe)[1].words
        assert words[words.index("--preset") + 1] == "best"
        assert words[words.index("--backbone") + 1] == "unet"
        assert "--steps" not in words
        session.labels.change(6, "liver lesion", None)
        assert "liver lesion=6" in TrainWork().steps(session.context, session.jobs.add("train", None, options))[0].words


@pytest.mark.parametrize(
    ("backbone", "cache_gb", "kept"), [("litemedsam", 20.0, True), ("litemedsam", 1e-6, False), ("unet", 20.0, False)]
)
def test_predictions_keep_the_features_of_a_frozen_encoder_where_they_fit(tmp_path, backbone, cache_gb, kept):
    images, _ = write_cohort(tmp_path, 2)
    with (
        open_session(images, tmp_path / "out", start=False, cache_gb=cache_gb) as session,
        open_client(session) as client,
    ):
        draw(client, "scan_00", 0, (5,))
        job = session.jobs.add("train", None, JobOptions(backbone=backbone))
        _, finetune, predict = (step.words for step in TrainWork().steps(session.context, job))
        assert ("--cache" in predict) == kept
        if kept:  # and those that the training has made are used
            folder = predict[predict.index("--cache") + 1]
            assert folder == finetune[finetune.index("--cache") + 1] == str(session.place.features)


def test_a_prediction_that_ended_with_an_error_is_no_success(tmp_path):
    images, _ = write_cohort(tmp_path, 1)
    with open_session(images, tmp_path / "out", start=False) as session, open_client(session):
        job = session.jobs.add("predict", None, JobOptions())
        with pytest.raises(JobError, match="no scan could be predicted"):
            PredictWork().collect(session.context, job)


def test_a_slice_that_shows_nothing_is_not_the_least_certain_one():
    make = StrokeMaker(1, {4: (0.001, "look"), 5: (0.6, "")})
    shown = np.ones(SHAPE, np.uint8)
    assert [make(4, 0 * shown).confidence, make(4, shown).confidence, make(5, shown).confidence] == [None, 0.001, 0.6]


@pytest.mark.parametrize("options", [{"size": 8}, {"steps": 0}, {"window": [240, -160]}])
def test_impossible_options_are_refused(tmp_path, options):
    images, _ = write_cohort(tmp_path, 1)
    with open_session(images, tmp_path / "out", start=False) as session, open_client(session) as client:
        draw(client, "scan_00", 0, (5,))
        assert start(client, "train", None, **options).status_code == 409
