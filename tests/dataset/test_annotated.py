"""Of masks by `annotate`, only outlined and reviewed slices are labels; all others are unlabelled, never background."""

from __future__ import annotations

import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.prepare import prepare
from frugalseg.errors import PairingError, StoreError
from frugalseg.options import PrepareOptions
from frugalseg.records.annotations import AnnotatedScan, AnnotationsRecord
from frugalseg.records.record import to_plain
from tests.scans import AFFINE_LPS, tiny_scan, write_cohort

OUTLINED, REVIEWED = (5, 11), (6,)


def annotate(folder, **scans):
    AnnotationsRecord(labels={"liver": 6}, scans=scans).write(folder / "annotations.json")


def scan(case, **slices):
    return AnnotatedScan(mask=f"{case}.nii.gz", slices=12, **slices)


@pytest.fixture
def cohort(tmp_path):
    images, labels = write_cohort(tmp_path / "scans", 4)
    annotate(
        labels,
        scan_00=scan("scan_00", outlined=OUTLINED, reviewed=REVIEWED, propagated=(7, 8)),
        scan_01=scan("scan_01", predicted=tuple(range(12))),
        scan_02=scan("scan_02", outlined=(4,)),
    )
    return images, labels


def options(cohort, tmp_path, **changes):
    images, labels = cohort
    given = {"images": images, "labels": labels, "target": ["liver=6"], "size": 32, "out": tmp_path / "store"}
    return PrepareOptions(**given | changes)


def labelled(store):
    chosen = store.slices[store.slices["labelled"]]
    return {case: tuple(table["z"]) for case, table in chosen.groupby("case")}


def test_only_outlined_and_reviewed_slices_are_labels(cohort, tmp_path):
    store = prepare(options(cohort, tmp_path))
    assert labelled(store) == {"scan_00": (5, 6, 11), "scan_02": (4,)}
    _, mask = tiny_scan(0)
    rows = store.slices.index[store.slices["case"] == "scan_00"].to_numpy()
    for z in (5, 6, 11):
        np.testing.assert_array_equal(store.labels[rows[z]].T, mask[:, :, z] == 6)


def test_what_the_masks_hold_elsewhere_is_not_in_the_store(cohort, tmp_path):
    """A propagated slice, or one that nobody has looked at: no trace of its mask is left."""
    store = prepare(options(cohort, tmp_path))
    others = ~store.slices["labelled"].to_numpy()
    assert not store.labels[others].any()
    assert not store.slices.loc[others, "has_liver"].any()


def test_an_outlined_empty_slice_is_a_label(cohort, tmp_path):
    assert not (tiny_scan(0)[1][:, :, 11] == 6).any()
    store = prepare(options(cohort, tmp_path, fractions=(0.0, 0.0)))
    rows = draw_labels(store.slices, store.patients, Budget.parse("100%"), 0, store.presence_columns)
    drawn = store.slices.loc[rows, ["case", "z"]].apply(tuple, axis=1).tolist()
    assert drawn == [("scan_00", 5), ("scan_00", 6), ("scan_00", 11), ("scan_02", 4)]


def test_scans_without_an_outline_are_unlabelled_and_for_training_only(cohort, tmp_path):
    store = prepare(options(cohort, tmp_path))
    entries = {entry.case: entry for entry in store.record.scans}
    assert [entry.labelled for entry in entries.values()] == [True, False, True, False]
    assert entries["scan_01"].labels_sha256 is None


def test_one_more_accepted_slice_makes_another_store(cohort, tmp_path):
    """Though the mask itself did not change."""
    prepare(options(cohort, tmp_path))
    prepare(options(cohort, tmp_path))  # the same: found
    path = cohort[1] / "annotations.json"
    record = AnnotationsRecord.read(path)
    more = replace(record.scans["scan_02"], reviewed=(5,))
    replace(record, scans={**record.scans, "scan_02": more}).write(path)
    with pytest.raises(StoreError, match="different: scan_02"):
        prepare(options(cohort, tmp_path))
    changed = prepare(options(cohort, tmp_path, out=tmp_path / "other"))
    assert labelled(changed)["scan_02"] == (4, 5)


def test_masks_without_the_record_are_labels_as_a_whole(cohort, tmp_path):
    (cohort[1] / "annotations.json").unlink()
    store = prepare(options(cohort, tmp_path))
    assert store.slices["labelled"].all()


def test_no_outline_at_all_is_an_error(cohort, tmp_path):
    annotate(cohort[1], scan_00=scan("scan_00", predicted=(3,)))
    with pytest.raises(PairingError, match="no slice that a person outlined or reviewed"):
        prepare(options(cohort, tmp_path))


def test_a_record_of_other_scans_is_refused(cohort, tmp_path):
    annotate(cohort[1], scan_00=AnnotatedScan(mask="scan_00.nii.gz", slices=40, outlined=(3, 30)))
    with pytest.raises(Exception, match="annotations.json lists slice 30, but the scan has 12"):
        prepare(options(cohort, tmp_path))


def test_a_slice_listed_twice_or_out_of_range_is_a_damaged_record(cohort):
    path = cohort[1] / "annotations.json"
    text = path.read_text()
    for wrong in (text.replace('"reviewed": [\n        6', '"reviewed": [\n        5'), text.replace("11", "99")):
        assert wrong != text
        path.write_text(wrong)
        with pytest.raises(PairingError, match="damaged"):
            AnnotationsRecord.read(path)


def test_training_learns_from_these_slices_only(cohort, tmp_path):
    """Ruined masks elsewhere do not change the trained weights."""
    from frugalseg.commands.finetune import finetune
    from frugalseg.options import FinetuneOptions

    images, labels = cohort
    ruined = shutil.copytree(labels, tmp_path / "ruined")
    for case, kept in (("scan_00", (5, 6, 11)), ("scan_01", ()), ("scan_02", (4,)), ("scan_03", ())):
        mask = np.asarray(nib.load(labels / f"{case}.nii.gz").dataobj).copy()
        for z in set(range(12)) - set(kept):
            mask[:, :, z] = 6
        nib.save(nib.Nifti1Image(mask, AFFINE_LPS), ruined / f"{case}.nii.gz")
    weights = []
    for name, folder in (("whole", labels), ("ruined", ruined)):
        prepare(options((images, folder), tmp_path, out=tmp_path / f"{name}-store", fractions=(0.0, 0.0)))
        model = FinetuneOptions(data=tmp_path / f"{name}-store", out=tmp_path / f"{name}-model", steps=3, batch_size=2)
        run = finetune(model)
        weights.append((run.path / "model.safetensors").read_bytes())
        record = run.path / "model.json"
        assert '"masks": 4' in record.read_text()
    assert weights[0] == weights[1]


def test_unfinished_masks_are_no_references(cohort, tmp_path):
    from frugalseg.evaluation.evaluate import evaluate
    from frugalseg.options import EvaluateOptions

    _, labels = cohort
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for case in ("scan_00", "scan_02"):
        shutil.copy(labels / f"{case}.nii.gz", predictions)
        shutil.copy(labels / f"{case}.nii.gz", tmp_path / f"{case}.nii.gz")
    (labels / "scan_01.nii.gz").unlink()
    (labels / "scan_03.nii.gz").unlink()
    given = EvaluateOptions(predictions=predictions, references=labels, target=["liver=6"], out=tmp_path / "e")
    with pytest.raises(PairingError, match="unfinished masks of scan_00, scan_02"):
        evaluate(given)
    everything = tuple(range(12))
    annotate(labels, scan_00=scan("scan_00", outlined=everything), scan_02=scan("scan_02", reviewed=everything))
    evaluate(given)


def test_a_record_keeps_what_it_says(tmp_path):
    record = AnnotationsRecord(version="1", labels={"liver": 6}, scans={"a": scan("a", outlined=(1,), predicted=(2,))})
    record.write(tmp_path / "annotations.json")
    assert AnnotationsRecord.read_beside(tmp_path) == record
    assert list(to_plain(record)["scans"]["a"]["outlined"]) == [1]
