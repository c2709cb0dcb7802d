"""`frugalseg suggest` from a store to suggestions.json and the contact sheet."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
import torch

from frugalseg.commands.finetune import finetune
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore, build_index
from frugalseg.errors import OptionError, RunError, StoreError
from frugalseg.models.saved import read_network_record
from frugalseg.options import FinetuneOptions, PrepareOptions, PretrainOptions, SuggestOptions
from frugalseg.records.confidence import OrganCalibration, Promise
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.suggestions import SuggestionsRecord
from frugalseg.segmentation.finetune import FineTuning
from frugalseg.segmentation.losses import add_background
from frugalseg.segmentation.model import load_segmenter
from frugalseg.suggestion.certainty import QueriedModel
from frugalseg.suggestion.suggest import suggest
from tests.scans import write_cohort
from tests.studies.made_up import made_up_study

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store of nine scans, of which the first four have masks, and a model of it."""
    root = tmp_path_factory.mktemp("suggest")
    images, labels = write_cohort(root, 9, labelled=4)
    prepare(PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, out=root / "store"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        finetune(FinetuneOptions(data=root / "store", out=root / "model", steps=4, device="cpu", threads=1))
    return root


def options(folder, tmp_path, **given):
    return SuggestOptions(data=folder / "store", out=tmp_path / "out", device="cpu", threads=1, **given)


def test_suggested_slices_are_unlabelled_ones_of_training_patients(folder, tmp_path):
    record = suggest(options(folder, tmp_path, budget=7))
    assert record == SuggestionsRecord.read(tmp_path / "out" / "suggestions.json")
    assert len(record.suggestions) == 7
    assert {one.case for one in record.suggestions} == {f"scan_{i:02d}" for i in range(4, 9)}
    assert record.candidates == 5 * 12
    assert record.targets == {"liver": (6,)}
    assert all(0 <= one.slice < one.slices == 12 and one.reason for one in record.suggestions)
    assert len({(one.case, one.slice) for one in record.suggestions}) == 7


def test_held_out_patients_are_not_suggested_even_without_masks(folder, tmp_path):
    names = [f"scan_{i:02d}" for i in range(9)]
    split = {"train": names[:1] + names[6:], "validation": names[1:2] + names[4:5], "test": names[2:4] + names[5:6]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    record = suggest(options(folder, tmp_path, budget=9, split=tmp_path / "split.json"))
    assert {one.case for one in record.suggestions} == {"scan_06", "scan_07", "scan_08"}
    assert record.candidates == 3 * 12


def test_the_contact_sheet_shows_every_slice(folder, tmp_path):
    suggest(options(folder, tmp_path, budget=7, model=folder / "model"))
    picture = matplotlib.image.imread(tmp_path / "out" / "suggestions.png")
    height, width = picture.shape[:2]
    for line, column in [(0, n) for n in range(5)] + [(1, 0), (1, 1)]:
        tile = picture[line * height // 2 : (line + 1) * height // 2, column * width // 5 : (column + 1) * width // 5]
        assert tile[..., :3].std() > 0.1, "a scan is drawn"
    assert picture[height // 2 :, width // 2 :, :3].max() == 0, "no eighth slice"


@pytest.mark.parametrize("rule", ["spread", "alike", "unsure"])
def test_no_label_is_read(rule, folder, tmp_path):
    """Neither of training nor of held-out scans: the array is gone."""
    copy = shutil.copytree(folder / "store", tmp_path / "store")
    (copy / "labels.npy").unlink()
    given = options(folder, tmp_path, budget=4, rule=rule, model=folder / "model")
    blind = suggest(replace(given, data=copy, out=tmp_path / "blind"))
    assert [(one.case, one.slice) for one in blind.suggestions] == [
        (one.case, one.slice) for one in suggest(given).suggestions
    ]


def test_a_training_never_touches_labels_of_test_scans(folder, tmp_path):
    """Their labels and images are damaged, and what they show is unknown; the choice and the training stay the same."""
    chosen = {}
    for name in ("whole", "damaged"):
        images, labels = write_cohort(tmp_path / name, 6)
        store = prepare(
            PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, out=tmp_path / name / "store")
        )
        test = store.slices["patient"].isin(store.split().test).to_numpy()
        assert test.any()
        if name == "damaged":
            for array in ("labels", "images"):
                stored = np.load(store.folder / f"{array}.npy")
                stored[test] = 77
                np.save(store.folder / f"{array}.npy", stored)
        for choose in ("interval", "middle", "random-all", "suggest"):
            given = FinetuneOptions(
                data=store.folder, out=tmp_path / choose, budget="4 slices", choose=choose, steps=1, device="cpu"
            )
            training = FineTuning.open(given)
            assert not test[training.labelled].any()
            chosen.setdefault(choose, []).append(training.labelled.tolist())
    assert all(whole == damaged for whole, damaged in chosen.values())


def test_empty_slices_count_as_annotation_and_the_record_says_how_they_were_chosen(folder, tmp_path):
    given = FinetuneOptions(
        data=folder / "store", out=tmp_path / "run", budget="20 slices", choose="random-all", steps=1, device="cpu"
    )
    finetune(given)
    record = SegmenterRecord.read_run(tmp_path / "run")
    assert (record.annotation.masks, record.annotation.choose) == (20, "random-all")
    store = SliceStore.open(folder / "store")
    labelled = FineTuning.open(replace(given, out=tmp_path / "other")).labelled
    assert not store.slices.loc[labelled, "has_liver"].all()


def test_certainty_is_that_of_a_loop_over_pixels(folder, tmp_path):
    store = SliceStore.open(folder / "store")
    rows = np.array([3, 17, 40, 41])
    model = QueriedModel.open(folder / "model", store)
    model = replace(model, record=replace(model.record, calibration={}))
    found = model.measure(store, rows, options(folder, tmp_path, precision="32"))
    record = read_network_record(SegmenterRecord, folder / "model")
    network = load_segmenter(folder / "model", record, torch.device("cpu"), "32")
    images = SliceSource(store, torch.device("cpu"), with_labels=False).gather(torch.from_numpy(rows)).images
    with torch.inference_mode():
        sure = add_background(network(images)).softmax(dim=1).numpy()
    for n in range(len(rows)):
        errors = both = either = 0.0
        for i in range(32):
            for j in range(32):
                p = sure[n, :, i, j]
                errors += 1 - p.max()
                both += p[1] if p[1] > p[0] else 0
                either += p[1] + (p[1] > p[0])
        assert found.errors[n] == pytest.approx(errors, rel=1e-4)
        expected = 2 * both / either if either >= 1 else np.nan
        assert found.confidence[n] == pytest.approx(expected, rel=1e-4, nan_ok=True)


def test_confidence_is_corrected_by_the_model_s_calibration(folder, tmp_path):
    """Errors were twice what the probabilities said: so is the shortfall of the expected Dice."""
    store, rows = SliceStore.open(folder / "store"), np.arange(60)
    model = QueriedModel.open(folder / "model", store)
    slices = Promise(masks=20, expected=2.0, bound=None, holds_for=None)
    known = OrganCalibration(level=0.9, patients=3, keep="all", scans=slices, slices=slices)
    given = options(folder, tmp_path)
    found = {}
    for name, calibration in (("plain", {}), ("calibrated", {"probabilities": {"liver": known}})):
        asked = replace(model, record=replace(model.record, calibration=calibration))
        found[name] = asked.measure(store, rows, given).confidence
    shown = ~np.isnan(found["plain"])
    assert shown.any()
    assert found["calibrated"][shown] == pytest.approx((1 - 2 * (1 - found["plain"][shown])).clip(0, 1))


def test_for_a_mask_what_post_processing_removes_is_not_the_organ(folder, tmp_path, monkeypatch):
    """A second component in other slices does not widen the extent."""
    store = SliceStore.open(folder / "store")
    model = QueriedModel.open(folder / "model", store)
    model = replace(model, record=replace(model.record, keep={"liver": "largest"}))

    class TwoParts(torch.nn.Module):
        def forward(self, images):
            z = self.seen + torch.arange(len(images))
            self.seen += len(images)
            logits = torch.full((len(images), 1, 32, 32), -9.0)
            logits[(z >= 2) & (z <= 5), :, 4:20, 4:20] = 9.0
            logits[z == 9, :, 4:9, 4:9] = 9.0
            return logits

    rows = store.slices.index[store.slices["case"] == "scan_06"].to_numpy(np.int64)
    shown = {}
    for purpose in ("mask", "model"):
        network = TwoParts()
        network.seen = 0
        monkeypatch.setattr("frugalseg.suggestion.certainty.load_segmenter", lambda *_, network=network: network)
        given = options(folder, tmp_path, for_=purpose, scan="scan_06" if purpose == "mask" else None)
        shown[purpose] = np.flatnonzero(model.measure(store, rows, given).areas).tolist()
    assert shown == {"mask": [2, 3, 4, 5], "model": [2, 3, 4, 5, 9]}


def test_the_cache_gives_the_same_suggestions_and_a_damaged_file_is_replaced(folder, tmp_path):
    given = options(folder, tmp_path, budget=4, rule="alike", cache=tmp_path / "cache", overwrite=True)
    first = suggest(given).suggestions
    (kept,) = (tmp_path / "cache").glob("features-*.npy")
    features = np.load(kept)
    np.save(kept, features[::-1].copy())
    assert suggest(given).suggestions != first, "the cache is used"
    kept.write_bytes(b"\x93NUMPY")
    with pytest.warns(UserWarning, match="is damaged"):
        assert suggest(given).suggestions == first
    assert np.array_equal(np.load(kept), features)


def test_an_encoder_tells_what_looks_alike(folder, tmp_path):
    from frugalseg.pretraining.pretrain import pretrain

    pretrain(PretrainOptions(data=folder / "store", out=tmp_path / "encoder", method="simclr", steps=2, device="cpu"))
    given = options(folder, tmp_path, budget=4, rule="alike", cache=tmp_path / "cache", encoder=tmp_path / "encoder")
    assert len(suggest(given).suggestions) == 4
    (kept,) = (tmp_path / "cache").glob("features-*.npy")
    assert np.linalg.norm(np.load(kept), axis=1) == pytest.approx(1, abs=1e-3)


def test_with_partial_masks_the_slices_around_outlined_ones_are_left(folder, tmp_path):
    whole = suggest(options(folder, tmp_path, budget=1)).candidates
    store = SliceStore.open(folder / "store")
    labelled = store.slices[store.slices["labelled"] & store.slices["patient"].isin(store.split().train)]
    partial = suggest(options(folder, tmp_path / "partial", budget=1, partial=True)).candidates
    assert partial == whole + int((~labelled["has_liver"]).sum())


def test_single_labelled_slices_leave_the_others_of_their_scan(folder, tmp_path):
    """As `prepare` stores masks with an annotations.json: one scan has two labelled slices."""
    copy = shutil.copytree(folder / "store", tmp_path / "store")
    store = SliceStore.open(copy)
    whole = suggest(options(folder, tmp_path, budget=1)).candidates
    train = store.split().train
    one = next(scan for scan in store.record.scans if scan.labelled and scan.patient in train)
    scans = tuple(replace(scan, labelled_slices=(4, 5)) if scan is one else scan for scan in store.record.scans)
    build_index(scans, store.targets).to_parquet(copy / "slices.parquet")
    replace(store.record, scans=scans).write(copy / "store.json")
    record = suggest(replace(options(folder, tmp_path, budget=60 + 10), data=copy, out=tmp_path / "more"))
    assert record.candidates == whole + 10
    assert {s.slice for s in record.suggestions if s.case == one.case} == set(range(12)) - {4, 5}


def test_for_a_mask_the_first_slice_is_inside_the_organ(folder, tmp_path):
    record = suggest(options(folder, tmp_path, for_="mask", scan="scan_05", budget=2))
    assert record.purpose == "mask"
    assert {one.case for one in record.suggestions} == {"scan_05"}
    store = SliceStore.open(folder / "store")
    shows = np.load(folder / "store" / "images.npy")[store.slices["case"] == "scan_05"].max(axis=(1, 2)) > 0.5
    assert shows[record.suggestions[0].slice]


def test_a_study_forecasts_what_the_slices_bring(folder, tmp_path, monkeypatch, capsys):
    """Ten slices of a scan are outlined, five more are suggested: a fitted law says what they bring."""
    study = made_up_study(
        lambda m, budget, d, s, i: 0.7 + 0.03 * np.log(float(budget.split()[0])) + 0.01 * i,
        budgets=("5 slices", "20 slices"),
        methods=("scratch",),
    )
    monkeypatch.setattr("frugalseg.studies.report.results.collect_results", lambda path: study)
    record = suggest(options(folder, tmp_path, budget=5, study=tmp_path))
    (forecast,) = record.forecasts
    store = SliceStore.open(folder / "store")
    outlined = int((store.slices["labelled"] & store.slices["patient"].isin(store.split().train)).sum())
    assert (forecast.outlined, forecast.more) == (outlined, 5)
    assert forecast.gain == pytest.approx(0.03 * np.log((outlined + 5) / outlined), abs=1e-5)
    assert f"5 more slices after {outlined}: +0.0" in " ".join(capsys.readouterr().err.split())
    scans = made_up_study(lambda *_: 0.5, methods=("scratch",))
    monkeypatch.setattr("frugalseg.studies.report.results.collect_results", lambda path: scans)
    with pytest.raises(OptionError, match="has no curve of slices"):
        suggest(options(folder, tmp_path, study=tmp_path, overwrite=True))


def refusal(kind, folder, tmp_path, **given):
    with pytest.raises(kind) as caught:
        suggest(options(folder, tmp_path, **given))
    assert not (tmp_path / "out").exists(), "nothing is written"
    return str(caught.value)


def test_bad_input_is_refused_with_what_to_do(folder, tmp_path):
    assert "only 60 slices" in refusal(OptionError, folder, tmp_path, budget=61)
    assert "no such scan" in refusal(OptionError, folder, tmp_path, for_="mask", scan="scan_99")
    assert "has no scan_05.slices.csv" in refusal(
        OptionError, folder, tmp_path, for_="mask", scan="scan_05", propagated=tmp_path
    )
    refusal(RunError, folder, tmp_path, model=tmp_path / "none")
    (tmp_path / "scan_05.slices.csv").write_text("slice,organ\n1,liver\n")
    message = refusal(RunError, folder, tmp_path, for_="mask", scan="scan_05", propagated=tmp_path)
    assert "is damaged" in message
    for wrong in ({"for_": "mask"}, {"scan": "scan_05"}, {"budget": 0}, {"rule": "unsure"}, {"label_draw": -1}):
        with pytest.raises(OptionError):
            options(folder, tmp_path, **wrong)


def test_a_store_without_unlabelled_scans_has_nothing_left(tmp_path):
    images, labels = write_cohort(tmp_path, 4)
    prepare(PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, out=tmp_path / "store"))
    with pytest.raises(StoreError, match=r"nothing is left to outline(.|\n)*--partial"):
        suggest(options(tmp_path, tmp_path))


def test_a_model_of_other_targets_is_refused(folder, tmp_path):
    images, labels = folder / "images", folder / "labels"
    prepare(PrepareOptions(images=images, labels=labels, target=["spleen=1"], size=32, out=tmp_path / "store"))
    with pytest.raises(OptionError, match="segments liver, the store is for spleen"):
        suggest(options(tmp_path, tmp_path, model=folder / "model"))
    prepare(
        PrepareOptions(images=images, labels=labels, target=["liver=6"], size=48, out=tmp_path / "larger" / "store")
    )
    with pytest.raises(OptionError, match="slices of 32 pixels"):
        suggest(options(tmp_path / "larger", tmp_path, model=folder / "model"))


def test_earlier_suggestions_are_kept_unless_they_may_be_replaced(folder, tmp_path):
    suggest(options(folder, tmp_path, budget=2))
    before = (tmp_path / "out" / "suggestions.json").read_text()
    with pytest.raises(RunError, match="has suggestions already"):
        suggest(options(folder, tmp_path, budget=3))
    assert (tmp_path / "out" / "suggestions.json").read_text() == before
    suggest(options(folder, tmp_path, budget=3, overwrite=True))
    assert len(json.loads((tmp_path / "out" / "suggestions.json").read_text())["suggestions"]) == 3
