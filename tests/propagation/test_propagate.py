"""`propagate`: one annotated slice to the whole volume, and what is recorded."""

from __future__ import annotations

import csv
import json
import weakref
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from frugalseg.errors import DeviceError, OptionError, RunError, ScanError
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.volume import Volume
from frugalseg.options import EvaluateOptions, PropagateOptions, RefineOptions
from frugalseg.promptable.embeddings import ScanSlices
from frugalseg.propagation import engines, task
from frugalseg.propagation import propagate as command
from frugalseg.propagation.box_engine import BoxPropagator
from frugalseg.propagation.engines import VideoEngine
from frugalseg.propagation.passes import Pass, SliceState
from frugalseg.propagation.propagate import propagate
from frugalseg.propagation.task import PropagationTask, assemble_mask, run_passes
from frugalseg.records.annotations import ANNOTATIONS_FILE, AnnotatedScan, AnnotationsRecord
from frugalseg.records.predictions import PREDICTIONS_FILE
from frugalseg.refinement.refiner import overlap
from tests.promptable.fake import Bright
from tests.propagation.test_box_engine import disc

DEPTH = 12
SAME_AXES = np.diag([-2.0, -2.0, 3.0, 1.0])
"""Axes to patient left, posterior, superior."""
OTHER_AXES = np.array([[0, 0, 2.0, 3], [0, -2.0, 0, 1], [-3.0, 0, 0, 7], [0, 0, 0, 1]])
"""Slices first, from the head down, then rows, then columns from the patient's left to the right."""

MODELS: list[Bright] = []


def liver(z):
    return disc(24 + z, 22 + z, 9 + 0.2 * z)


def spleen(z):
    return disc(20, 48, 6) if 2 <= z <= 9 else np.zeros((64, 64), bool)


def anatomy():
    """Slices (Z, H, W): grey values and labels, liver 6 and spleen 1."""
    rng = np.random.default_rng(0)
    grey = np.stack([20 + 60.0 * liver(z) + 40 * spleen(z) for z in range(DEPTH)]) + rng.normal(0, 2, (DEPTH, 64, 64))
    labels = np.stack([6 * liver(z) + 1 * spleen(z) for z in range(DEPTH)])
    return grey.round().astype(np.int16), labels.astype(np.uint8)


def save(path, slices, affine=SAME_AXES):
    """Slices (Z, H, W) in radiological view, as a file with the axes of `affine`."""
    array = slices.transpose(2, 1, 0) if affine is SAME_AXES else slices[::-1, :, ::-1]
    nib.save(nib.Nifti1Image(np.ascontiguousarray(array), affine), path)


def slices_of(path):
    """The content of a file as slices (Z, H, W)."""
    image = nib.load(path)
    array = np.asarray(image.dataobj)
    return array.transpose(2, 1, 0) if image.affine[2, 2] else array[::-1, :, ::-1]


def only(labels, *slices):
    kept = np.zeros_like(labels)
    kept[list(slices)] = labels[list(slices)]
    return kept


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Scans a and b (other axes), references, and annotations of slice 5."""
    grey, labels = anatomy()
    for name in ("images", "labels", "annotations"):
        (tmp_path / name).mkdir()
    for case, affine in (("a", SAME_AXES), ("b", OTHER_AXES)):
        save(tmp_path / "images" / f"{case}.nii.gz", grey, affine)
        save(tmp_path / "labels" / f"{case}.nii.gz", labels, affine)
        save(tmp_path / "annotations" / f"{case}.nii.gz", only(labels, 5), affine)

    def load(name, device, precision):
        MODELS.append(Bright(signature=name, score=0.95))
        return MODELS[-1]

    monkeypatch.setattr(engines, "load_promptable", load)
    return tmp_path


def options(root, out="out", **more):
    given = {"images": root / "images", "annotations": root / "annotations", "window": (0, 100), "device": "cpu"}
    return PropagateOptions(out=root / out, **given | more)


def note_of(folder):
    return json.loads((folder / PREDICTIONS_FILE).read_text())


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_one_slice_goes_through_the_whole_volume_in_any_axes(root):
    written = propagate(options(root))
    labels = anatomy()[1]
    for case in "ab":
        found = slices_of(written[case])
        for z in range(DEPTH):
            assert overlap(found[z] == 6, liver(z)) > 0.9
            if 2 <= z <= 9:
                assert overlap(found[z] == 1, spleen(z)) > 0.9
        assert set(np.unique(found)) == {0, 1, 6}
        assert np.array_equal(found[5], labels[5])
    # The axes of the file change nothing.
    assert np.array_equal(slices_of(written["a"]), slices_of(written["b"]))
    image = nib.load(written["b"])
    assert np.allclose(image.affine, OTHER_AXES)
    assert not list((root / "out").glob(".*.partial"))


def test_the_note_and_the_table_tell_what_was_done(root, capsys):
    propagate(options(root, case=["a"]))
    note = note_of(root / "out")
    assert note["method"] == "propagate"
    assert note["annotated"] == {"a": [5]}
    assert note["promptable"]["signature"] == "litemedsam"
    assert note["propagation"]["a"]["annotated_slices"] == {"label 1": [5], "label 6": [5]}
    assert note["propagation"]["a"]["propagated_slices"]["label 6"] == DEPTH - 1
    rows = rows_of(root / "out" / "a.slices.csv")
    livers = [row for row in rows if row["organ"] == "label 6"]
    assert [int(row["slice"]) for row in livers] == list(range(DEPTH))
    assert [row["source"] for row in livers] == ["propagated"] * 5 + ["annotated"] + ["propagated"] * 6
    assert float(livers[5]["confidence"]) == 1
    assert float(livers[0]["distance_mm"]) == 15
    area = float(livers[5]["area_mm2"])
    assert area == np.count_nonzero(liver(5)) * 4
    assert all(0.7 < float(row["confidence"]) <= 0.95 for row in livers if row["source"] == "propagated")
    # The spleen ends: where it was found no more is to be looked at.
    ended = [row for row in rows if row["organ"] == "label 1" and row["source"] == "ended"]
    assert all(row["review"] == "the organ seems to end here" for row in ended)
    assert note["propagation"]["a"]["needs_review"]["label 1"]
    assert "a, label 6: 5 → 0–11; slices that need review: none" in capsys.readouterr().err


def test_slices_of_low_confidence_need_review(root):
    propagate(options(root, case=["a"], target=["liver=6"], review_below=0.99))
    note = note_of(root / "out")
    assert note["propagation"]["a"]["needs_review"] == {"liver": [z for z in range(DEPTH) if z != 5]}
    assert note["targets"] == {"liver": [6]}
    assert set(np.unique(slices_of(root / "out" / "a.nii.gz"))) == {0, 6}


def test_annotated_slices_come_out_as_they_went_in_and_others_are_not_read(root):
    """All slices have labels; only the named one may be used, even if the others are wrong."""
    labels = anatomy()[1]
    wrong = labels.copy()
    wrong[[0, 3, 8]] = 7
    drawn = labels[5].copy()
    drawn[60:62, 60:62] = 6  # no organ: a person's pixels stay
    wrong[5] = drawn
    save(root / "annotations" / "a.nii.gz", wrong)
    found = slices_of(propagate(options(root, case=["a"], slices="5"))["a"])
    assert np.array_equal(found[5], drawn)
    assert 7 not in found
    save(root / "annotations" / "a.nii.gz", only(wrong, 5))
    again = slices_of(propagate(options(root, "again", case=["a"]))["a"])
    assert np.array_equal(found, again)


@pytest.mark.parametrize(("case", "affine"), [("a", SAME_AXES), ("b", OTHER_AXES)])
def test_annotated_slices_are_never_scored(root, case, affine):
    """A propagation that finds nothing elsewhere has Dice 0, whatever was annotated."""
    propagate(options(root, case=[case], target=["liver=6"]))
    out = root / "out" / f"{case}.nii.gz"
    found = slices_of(out)
    save(out, only(found, 5), affine)
    folders = {"predictions": root / "out", "references": root / "labels"}
    summary = evaluate(EvaluateOptions(**folders, out=root / "e", target=["liver=6"], case=[case]))
    assert mean_dice(summary) == 0
    assert summary.annotated_slices_left_out == {case: (5,)}
    assert f"Manually annotated slices are not included: {case} 5" in (root / "e" / "report.html").read_text()
    # Nor does an error there count.
    labels = anatomy()[1]
    labels[5] = 0
    save(out, labels, affine)
    again = evaluate(EvaluateOptions(**folders, out=root / "e2", target=["liver=6"], case=[case], report=False))
    assert mean_dice(again) == pytest.approx(1)


def mean_dice(summary):
    return summary.groups["all"].organs["liver"].metrics["dice"].mean


def test_several_annotated_slices_meet(root):
    labels = anatomy()[1]
    save(root / "annotations" / "a.nii.gz", only(labels, 2, 9))
    found = slices_of(propagate(options(root, case=["a"]))["a"])
    assert min(overlap(found[z] == 6, liver(z)) for z in range(DEPTH)) > 0.9
    assert sum(MODELS[-1].encoded) == DEPTH  # those between are reached from both sides, and encoded once
    rows = {int(r["slice"]): r for r in rows_of(root / "out" / "a.slices.csv") if r["organ"] == "label 6"}
    assert (rows[1]["propagated_from"], rows[5]["propagated_from"], rows[11]["propagated_from"]) == ("2", "2 9", "9")
    assert float(rows[4]["distance_mm"]) == 6
    assert rows[2]["source"] == rows[9]["source"] == "annotated"


def test_between_two_annotated_slices_the_nearer_decides(tmp_path):
    class Stubborn:
        """Returns the same mask in every slice, one from slice 2 and another from slice 9."""

        def make_propagator(self, _scan):
            return lambda one, _masks, _state: (
                SliceState.from_annotation(z, {2: low, 9: high}[one.start]) for z in one.order
            )

    low, high = disc(20, 20, 8)[None], disc(44, 44, 8)[None]
    work = PropagationTask(scan(), {"liver": (6,)}, {2: low, 9: high}, 0, DEPTH - 1)
    run_passes(Stubborn(), work, tmp_path, lambda _: None)
    classes = assemble_mask(work, tmp_path, 0.7)[0]
    for z in range(DEPTH):
        assert np.array_equal(classes[z], low[0] if z <= 5 else high[0])


def test_an_organ_on_one_side_only_is_told_where_it_meets_the_other(root):
    labels = anatomy()[1]
    annotated = only(labels, 3, 7)
    annotated[3][annotated[3] == 1] = 0  # the spleen is only drawn in slice 7
    save(root / "annotations" / "a.nii.gz", annotated)
    propagate(options(root, case=["a"]))
    rows = {int(r["slice"]): r for r in rows_of(root / "out" / "a.slices.csv") if r["organ"] == "label 1"}
    assert 3 not in rows
    assert rows[4]["review"] == "the organ is not in the annotated slice next to this one"
    assert rows[5]["review"] == ""
    assert (slices_of(root / "out" / "a.nii.gz")[3] != 1).all()


def test_a_range_is_kept_to(root):
    found = slices_of(propagate(options(root, case=["a"], slice_range="4,8"))["a"])
    assert [z for z in range(DEPTH) if found[z].any()] == [4, 5, 6, 7, 8]
    assert sum(MODELS[-1].encoded) == 5  # each once, the annotated slice on both ways too


def test_only_a_few_embeddings_are_held_at_a_time(root):
    propagate(options(root, case=["a"]))
    assert set(MODELS[-1].encoded) == {1}


def test_a_second_run_encodes_nothing_with_a_cache(root):
    first = propagate(options(root, case=["a"], cache=root / "cache"))
    again = propagate(options(root, "again", case=["a"], cache=root / "cache"))
    assert MODELS[-1].encoded == []
    assert np.array_equal(slices_of(first["a"]), slices_of(again["a"]))


def test_a_killed_propagation_goes_on_within_the_scan(root, monkeypatch):
    whole = propagate(options(root, "whole"))
    step, done = BoxPropagator._propagate_to, []

    def dying(self, before, z):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(z)
        return step(self, before, z)

    with monkeypatch.context() as patch:
        patch.setattr(BoxPropagator, "_propagate_to", dying)
        with pytest.raises(KeyboardInterrupt):
            propagate(options(root))
    assert done == [6, 7, 8, 9]
    with pytest.raises(RunError, match="in use"):
        propagate(options(root))
    with pytest.raises(RunError, match=r"other options \(margin_mm: 3.0 then, 9.0 now\)"):
        propagate(options(root, resume="yes", margin_mm=9.0))
    again = []
    with monkeypatch.context() as patch:
        patch.setattr(
            BoxPropagator, "_propagate_to", lambda self, before, z: (again.append(z), step(self, before, z))[1]
        )
        resumed = propagate(options(root, resume="yes"))
    assert again[:2] == [10, 11]
    assert len(again) == 7 + DEPTH - 1
    for case in "ab":
        assert np.array_equal(slices_of(resumed[case]), slices_of(whole[case]))
        assert rows_of(root / "out" / f"{case}.slices.csv") == rows_of(root / "whole" / f"{case}.slices.csv")
    assert note_of(root / "out")["propagation"] == note_of(root / "whole")["propagation"]


def test_what_was_kept_of_another_annotation_is_not_used(root, monkeypatch):
    step, done = BoxPropagator._propagate_to, []

    def dying(self, before, z):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(z)
        return step(self, before, z)

    with monkeypatch.context() as patch:
        patch.setattr(BoxPropagator, "_propagate_to", dying)
        with pytest.raises(KeyboardInterrupt):
            propagate(options(root, case=["a"]))
    corrected = only(anatomy()[1], 5)
    corrected[corrected == 6] = 3
    save(root / "annotations" / "a.nii.gz", corrected)
    found = slices_of(propagate(options(root, case=["a"], resume="yes"))["a"])
    assert set(np.unique(found)) == {0, 1, 3}


def test_a_finished_scan_is_done_again_where_its_annotation_was_corrected(root):
    propagate(options(root))
    corrected = only(anatomy()[1], 5)
    corrected[corrected == 6] = 3
    save(root / "annotations" / "a.nii.gz", corrected)
    written = propagate(options(root, resume="yes"))
    assert set(np.unique(slices_of(written["a"]))) == {0, 1, 3}
    assert sum(MODELS[-1].encoded) == DEPTH  # each slice once
    note = note_of(root / "out")
    assert set(note["propagation"]["a"]["annotated_slices"]) == {"label 1", "label 3"}
    assert set(note["masks"]) == {"a", "b"}


def outline(root, **slices):
    """List the outlined slices of each case in annotations.json."""
    scans = {case: AnnotatedScan(mask=f"{case}.nii.gz", slices=DEPTH, outlined=own) for case, own in slices.items()}
    labels = {"liver": 6, "spleen": 1}
    AnnotationsRecord(labels=labels, scans=scans).write(root / "annotations" / ANNOTATIONS_FILE)


def test_a_finished_scan_is_done_again_where_another_slice_of_it_was_accepted(root, capsys):
    """Accepting a slice leaves the bytes of the mask file as they were."""
    for case, affine in (("a", SAME_AXES), ("b", OTHER_AXES)):
        save(root / "annotations" / f"{case}.nii.gz", only(anatomy()[1], 3, 5), affine)
    outline(root, a=(5,), b=(5,))
    propagate(options(root))
    assert note_of(root / "out")["annotated"] == {"a": [5], "b": [5]}
    outline(root, a=(3, 5), b=(5,))
    propagate(options(root, resume="yes"))
    assert note_of(root / "out")["annotated"] == {"a": [3, 5], "b": [5]}
    assert "b: the input mask has changed" not in capsys.readouterr().err


def test_slices_that_nobody_outlined_are_never_taken_as_annotation(root):
    """A mask also holds slices of a program; in case a the only outlined slice is empty."""
    empty = only(anatomy()[1], 5, 6)
    empty[5] = 0
    save(root / "annotations" / "a.nii.gz", empty)
    outline(root, a=(5,), b=(5,))
    with pytest.raises(ScanError, match="a: no outlined slice shows an organ"):
        propagate(options(root))
    assert note_of(root / "out")["annotated"] == {"b": [5]}


def test_outlined_slices_without_the_wanted_organ_are_left_out(root):
    mixed = only(anatomy()[1], 3, 5)
    mixed[3][mixed[3] == 6] = 0  # only the spleen
    save(root / "annotations" / "a.nii.gz", mixed)
    outline(root, a=(3, 5))
    propagate(options(root, case=["a"], target=["liver=6"]))
    assert note_of(root / "out")["annotated"] == {"a": [5]}


def test_a_propagation_killed_before_its_mask_is_written_is_not_lost(root, monkeypatch):
    whole = propagate(options(root, "whole", case=["a"]))

    def dying(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("frugalseg.masks.output.write_mask", dying)
        with pytest.raises(KeyboardInterrupt):
            propagate(options(root, case=["a"]))
    resumed = propagate(options(root, case=["a"], resume="yes"))
    assert MODELS[-1].encoded == []
    assert np.array_equal(slices_of(resumed["a"]), slices_of(whole["a"]))
    assert not list((root / "out").glob(".*.partial"))


def test_memory_holds_what_is_believed_of_one_slice_at_a_time(root, monkeypatch):
    believed, held, most = task._load_state, [], []

    def counting(*given):
        most.append(sum(reference() is not None for reference in held))
        found = believed(*given)
        held.append(weakref.ref(found.beliefs))
        return found

    monkeypatch.setattr(task, "_load_state", counting)
    propagate(options(root, case=["a"]))
    assert len(most) == DEPTH
    assert max(most) <= 1


def test_bad_annotations_are_reported_and_the_others_are_done(root):
    save(root / "annotations" / "b.nii.gz", np.zeros((DEPTH, 64, 64), np.uint8), OTHER_AXES)
    with pytest.raises(ScanError, match="b: the annotation holds no foreground"):
        propagate(options(root))
    assert (root / "out" / "a.nii.gz").is_file()
    save(root / "annotations" / "b.nii.gz", only(anatomy()[1], 5))
    with pytest.raises(ScanError, match="b: image and labels are on different grids"):
        propagate(options(root, "grids"))
    with pytest.raises(ScanError, match="slice 4 holds no foreground; slices with some: 5"):
        propagate(options(root, "empty", case=["a"], slices="4"))


def test_an_organ_that_is_in_no_annotated_slice_is_told(root, capsys):
    found = slices_of(propagate(options(root, case=["a"], target=["liver=6", "kidney=2"]))["a"])
    assert set(np.unique(found)) == {0, 6}
    assert "a, kidney: in no annotated slice" in capsys.readouterr().err


def test_a_volume_of_one_slice_is_its_annotation(root, capsys):
    grey, labels = anatomy()
    save(root / "images" / "a.nii.gz", grey[5:6])
    save(root / "annotations" / "a.nii.gz", labels[5:6])
    found = slices_of(propagate(options(root, case=["a"]))["a"])
    assert np.array_equal(found, labels[5:6])
    assert "the annotated slice is the only one" in capsys.readouterr().err


def test_too_little_memory_for_all_boxes_is_halved(root, monkeypatch):
    monkeypatch.setattr(engines, "load_promptable", lambda *_: Bright(most=1, score=0.95))
    small = propagate(options(root, "small", case=["a"]))
    monkeypatch.setattr(engines, "load_promptable", lambda *_: Bright(score=0.95))
    assert np.array_equal(slices_of(small["a"]), slices_of(propagate(options(root, case=["a"]))["a"]))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"slices": "5,x"}, "--slices 5,x: 'x' is not a slice number"),
        ({"slices": "-3"}, "--slices -3"),
        ({"slice_range": "5"}, "--slice-range 5: expected two slices"),
        ({"review_below": 2.0}, "--review-below 2"),
    ],
)
def test_options_that_make_no_sense(root, more, said):
    with pytest.raises(OptionError, match=said):
        options(root, **more)


@pytest.mark.parametrize(
    ("more", "flag"),
    [
        ({"margin_mm": 5.0}, "--margin-mm 5.0"),
        ({"candidates": "several"}, "--candidates several"),
        ({"cache": Path("embeddings")}, "--cache embeddings"),
        ({"min_overlap": 0.2}, "--min-overlap 0.2"),
    ],
)
def test_what_means_nothing_to_a_video_model_is_refused(root, more, flag):
    options(root, **more)
    defaults = {name: getattr(PropagateOptions, name) for name in more}
    options(root, engine="sam2", **defaults)
    with pytest.raises(OptionError, match=f"{flag}: --engine sam2 .*\n.*leave --") as caught:
        options(root, engine="sam2", **more)
    assert "--engine box" in caught.value.cure


def test_slices_come_one_by_one_so_there_is_no_batch_size():
    assert "batch_size" not in {field.name for field in fields(PropagateOptions)}
    assert "batch_size" in {field.name for field in fields(RefineOptions)}


# Video models


class Film:
    """A video model that finds what is as bright as the prompted object, and records its calls."""

    name, signature, recipe, device = "Film", "film", Bright.recipe, torch.device("cpu")

    def __init__(self, most=99):
        self.most, self.asked = most, []

    def propagate(self, frames, order, prompts, depth=None) -> Iterator[tuple[int, torch.Tensor]]:
        ((start, masks),) = prompts.items()
        if len(masks) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.asked.append((start, list(order), len(masks), depth))
        for z in order:
            frame = frames(z)
            grey = [frames(start)[mask].mean() for mask in masks]
            yield z, torch.stack([torch.where((frame - value).abs() < 0.1, 8.0, -1024.0) for value in grey])


def scan():
    grey, _ = anatomy()
    return ScanSlices.of(Volume(grey.transpose(2, 1, 0), SAME_AXES), IntensityScale("ct", 0, 100))


def test_a_video_model_is_asked_once_a_direction_and_its_masks_are_taken(root, monkeypatch):
    films = []

    def load(path, device, precision):
        films.append(Film())
        return films[-1]

    monkeypatch.setattr("frugalseg.promptable.sam2_video.load_video_model", load)
    for module in (command, engines):
        monkeypatch.setattr(module, "find_weights", lambda name: name)
    found = slices_of(propagate(options(root, case=["a"], engine="sam2", model="sam2.1-tiny"))["a"])
    assert [(start, order[1], order[-1], count, depth) for start, order, count, depth in films[0].asked] == [
        (5, 6, 11, 2, DEPTH),
        (5, 4, 0, 2, DEPTH),
    ]
    assert min(overlap(found[z] == 6, liver(z)) for z in range(DEPTH)) > 0.9
    assert note_of(root / "out")["settings"]["engine"] == "sam2"


def test_a_video_model_carries_groups_where_memory_is_short(capsys):
    masks = np.stack([liver(5), np.zeros((64, 64), bool), spleen(5)])
    pass_ = Pass(5, (6, 7, 8))
    whole = list(VideoEngine(Film()).make_propagator(scan())(pass_, masks, None))
    film = Film(most=1)
    halved = list(VideoEngine(film).make_propagator(scan())(pass_, masks, None))
    assert "out of memory with 2 objects at once; continuing with 1" in capsys.readouterr().err
    assert [count for _, _, count, _ in film.asked] == [1, 1]
    for a, b in zip(whole, halved, strict=True):
        assert np.array_equal(a.beliefs, b.beliefs)
        assert a.alive.tolist() == [True, False, True]
    with pytest.raises(DeviceError, match="is too small for one of the objects"):
        list(VideoEngine(Film(most=0)).make_propagator(scan())(pass_, masks, None))


def test_a_video_pass_goes_on_after_the_slices_that_are_kept():
    masks = liver(5)[None]
    pass_ = Pass(5, (6, 7, 8, 9))
    whole = list(VideoEngine(Film()).make_propagator(scan())(pass_, masks, None))
    rest = list(VideoEngine(Film()).make_propagator(scan())(pass_, masks, whole[1].rounded()))
    assert [c.z for c in rest] == [8, 9]
    assert np.array_equal(rest[0].beliefs, whole[2].beliefs)
    assert rest[0].change == pytest.approx(whole[2].change)
    assert isinstance(rest[0], SliceState)


def test_what_a_video_model_hardly_believes_makes_no_difference_after_an_interruption():
    class Faint(Film):
        def propagate(self, *given, **more):
            for z, logits in super().propagate(*given, **more):
                yield z, torch.where((logits > 0) & (torch.arange(64) % 3 == 0), 0.02, logits)

    pass_ = Pass(5, (6, 7, 8))
    whole = list(VideoEngine(Faint()).make_propagator(scan())(pass_, liver(5)[None], None))
    rest = list(VideoEngine(Faint()).make_propagator(scan())(pass_, liver(5)[None], whole[0].rounded()))
    for one, other in zip(whole[1:], rest, strict=True):
        assert np.array_equal(one.masks(), one.rounded().masks())
        assert one.change.tolist() == other.change.tolist()
