"""Refining masks: what gets a box, what is accepted, what is kept, and what predictions.json says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from frugalseg.errors import OptionError, PairingError, RunError, ScanError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.volume import Volume
from frugalseg.options import EvaluateOptions, RefineOptions
from frugalseg.promptable.embeddings import ScanSlices
from frugalseg.records.predictions import PREDICTIONS_FILE
from frugalseg.refinement import refine as command
from frugalseg.refinement.refine import refine
from frugalseg.refinement.refiner import Outline, Refiner, fuse_labels, weights_by_distance
from tests.promptable.fake import Bright

AFFINE = np.diag([-2.0, -2.0, 5.0, 1.0])
"""Axes to patient left, posterior, superior: array[:, :, z].T is the slice."""


def scan_of(*spots, depth=4, affine=AFFINE):
    """(64, 64, depth): 0 HU, with boxes (HU, x, y, width, height) in every slice; in HU of a window 0…100."""
    array = np.zeros((64, 64, depth), np.int16)
    for value, x, y, width, height in spots:
        array[x : x + width, y : y + height] = value
    return Volume(array, affine)


def mask_of(*spots, depth=4):
    return scan_of(*spots, depth=depth).array.astype(np.uint8)


def refined(image, coarse, model=None, reference=None, **more):
    options = RefineOptions(images="i", masks="m", out="o", **{"min_area_mm2": 0.0, **more})
    scan = ScanSlices.of(image, IntensityScale("ct", 0, 100))
    stacked = [None if a is None else scan.stack(image.with_array(a)) for a in (coarse, reference)]
    classes, counts = Refiner(model or Bright(), options).refine(scan, stacked[0], stacked[1])
    return scan.unstack(classes), counts


def test_the_model_s_mask_replaces_the_given_one_in_the_box_around_it():
    image = scan_of((80, 20, 24, 12, 10))
    truth = mask_of((1, 20, 24, 12, 10))
    given = mask_of((1, 22, 25, 9, 8))  # too small on all sides, by at most 2 pixels
    result, counts = refined(image, given, margin_mm=4.0)
    assert np.array_equal(result, truth)
    assert counts.organs["1"].mean_score == 0.9
    assert (counts.organs["1"].boxes, counts.organs["1"].kept) == (4, 0)
    # Without a margin the box ends where the given mask does, in millimetres: 2 mm is one pixel.
    assert refined(image, given, margin_mm=0.0)[0].sum() == given.sum()
    assert refined(image, given, margin_mm=2.0)[0].sum() == 4 * 11 * 10


def test_rows_and_columns_of_other_spacing_and_orientation():
    image = scan_of((80, 20, 24, 12, 10), affine=np.diag([1.0, 4.0, 5.0, 1.0]))  # to the right, to the front
    truth, given = mask_of((1, 20, 24, 12, 10)), mask_of((1, 22, 25, 9, 8))
    assert np.array_equal(refined(image, given, margin_mm=4.0)[0], truth)
    # 1.9 mm are nearly two columns on either side, of which one is bright on the right, but less than half a row.
    assert refined(image, given, margin_mm=1.9)[0].sum() == 4 * (2 + 9 + 1) * 8


def test_the_given_piece_is_kept_where_the_model_finds_something_else():
    image = scan_of((80, 20, 24, 12, 4))
    given = mask_of((1, 20, 24, 12, 10))  # the model outlines 40% of it
    result, counts = refined(image, given, min_iou=0.5)
    assert np.array_equal(result, given)
    assert (counts.organs["1"].kept, counts.organs["1"].refined) == (4, 0)
    assert counts.organs["1"].mean_iou_with_given == pytest.approx(0.4)
    result, counts = refined(image, given, min_iou=0.35)
    assert np.array_equal(result, mask_of((1, 20, 24, 12, 4)))
    assert counts.organs["1"].kept == 0


def test_each_component_gets_its_box_and_small_ones_stay_as_they_are():
    image = scan_of((80, 5, 5, 10, 10), (80, 40, 40, 10, 10), (80, 20, 20, 10, 10))
    given = mask_of((1, 6, 6, 8, 8), (1, 41, 41, 8, 8))
    model = Bright()
    result, counts = refined(image, given, model, margin_mm=3.0)
    assert np.array_equal(result, mask_of((1, 5, 5, 10, 10), (1, 40, 40, 10, 10)))
    assert len(model.boxes) == counts.organs["1"].boxes == 8
    # One box around all parts also contains what is between them.
    joined = refined(image, given, boxes="slice", margin_mm=3.0, min_iou=0.3)[0]
    assert joined[25, 25, 0] == 1
    # 64 pixels of 4 mm² are 256 mm².
    result, counts = refined(image, given, min_area_mm2=257.0)
    assert np.array_equal(result, given)
    assert (counts.organs["1"].boxes, counts.organs["1"].too_small) == (0, 8)


def test_several_masks_are_chosen_from_by_score():
    image, given = scan_of((80, 20, 20, 10, 10)), mask_of((1, 20, 20, 10, 9))
    taken = refined(image, given, Bright(scores=(0.1, 0.9, 0.2)), candidates="several", margin_mm=2.0)[0]
    assert np.array_equal(taken, mask_of((1, 20, 20, 10, 10)))
    other = refined(image, given, Bright(scores=(0.1, 0.2, 0.9)), candidates="several", margin_mm=2.0, min_iou=0.1)[0]
    assert other[20:24].sum() == 0  # the right half of the box


def test_organs_never_overlap_and_the_higher_score_wins():
    image = scan_of((80, 10, 10, 20, 10))
    given = mask_of((1, 10, 10, 11, 10), (2, 22, 10, 8, 10))

    class Unsure(Bright):
        def decode(self, embedding, prompts, several=False):
            found = super().decode(embedding, prompts, several)
            found.scores[prompts.boxes[:, 0] > 15] = 0.3
            return found

    # Boxes reach 2 pixels into the neighbour: columns 20…22 are in both.
    result = refined(image, given, Unsure(), margin_mm=4.0)[0]
    assert (result[10:23, 10:20] == 1).all()
    assert (result[23:30, 10:20] == 2).all()
    # A kept piece gives way to what the model outlines with a better score than a coin's.
    image.array[21:] = 0
    result, counts = refined(image, mask_of((1, 10, 10, 9, 10), (2, 19, 10, 11, 10)), margin_mm=4.0)
    assert counts.organs["2"].kept == 4
    assert (result[10:21, 10:20] == 1).all()
    assert (result[21:30, 10:20] == 2).all()


def test_boxes_are_decoded_in_batches_over_slices_and_organs():
    spots = [(80, 5 + 15 * i, 5, 10, 10) for i in range(4)]
    image, given = scan_of(*spots), mask_of(*((i + 1, *spot[1:]) for i, spot in enumerate(spots)))
    model = Bright()
    assert np.array_equal(refined(image, given, model, batch_size=2)[0], given)
    assert model.encoded == [2, 2]
    assert model.decoded == [8, 8]
    small = Bright(most=3)
    assert np.array_equal(refined(image, given, small, batch_size=2)[0], given)
    assert max(small.decoded) <= 3


def test_slices_without_mask_are_not_looked_at():
    image, given = scan_of((80, 20, 20, 10, 10), depth=6), mask_of((1, 20, 20, 10, 10), depth=6)
    given[:, :, [0, 3, 5]] = 0
    model = Bright()
    result, counts = refined(image, given, model)
    assert np.array_equal(result, given)
    assert (sum(model.encoded), counts.slices) == (3, 3)
    empty, counts = refined(image, np.zeros_like(given), model)
    assert (empty.sum(), sum(model.encoded), counts.organs) == (0, 3, {})


def test_oracle_boxes_come_from_the_reference_and_nothing_of_the_given_mask_stays():
    image = scan_of((80, 20, 20, 10, 10))
    given, reference = mask_of((1, 40, 40, 10, 10)), mask_of((1, 21, 21, 8, 8))
    result = refined(image, given, reference=reference, margin_mm=3.0)[0]
    assert np.array_equal(result, mask_of((1, 20, 20, 10, 10)))
    # Nor does the reference itself get into the result, however little the model finds of it, and however small it is.
    large = mask_of((1, 15, 15, 30, 30))
    assert np.array_equal(refined(image, given, reference=large)[0], mask_of((1, 20, 20, 10, 10)))
    speck = mask_of((1, 21, 21, 2, 2))
    result, counts = refined(image, given, reference=speck, margin_mm=20.0, min_area_mm2=100.0)
    assert np.array_equal(result, mask_of((1, 20, 20, 10, 10)))
    assert counts.organs["1"].too_small == 0


def test_consistency_drops_what_neighbours_deny_and_fills_what_they_agree_on():
    affine = np.diag([-2.0, -2.0, 1.0, 1.0])
    image, given = scan_of((80, 20, 20, 10, 10), depth=9, affine=affine), mask_of((1, 20, 20, 10, 10), depth=9)
    image.array[20:30, 29, 4] = 0  # one slice lacks a row
    image.array[20:30, 30, 6] = 80  # another has one too many
    plain = refined(image, given, margin_mm=4.0)[0]
    assert not plain[20:30, 29, 4].any()
    assert plain[20:30, 30, 6].all()
    assert np.array_equal(refined(image, given, margin_mm=4.0, smooth_slices=True)[0], given)


def test_neighbours_count_by_their_distance_in_mm():
    assert weights_by_distance(10.0) == [1.0]
    assert len(weights_by_distance(1.0)) == 4
    one, two = weights_by_distance(3.0)[1:]
    assert one == pytest.approx(np.exp(-0.5))
    assert two == pytest.approx(np.exp(-2.0))


def test_settling_averages_probabilities_before_it_cuts():
    def outline(value):
        plane = np.full((1, 1), value, np.float32)
        return Outline(plane, plane)

    assert fuse_labels([(1.0, {1: outline(0.9)}), (1.0, {})], (1, 1))[0, 0] == 0
    assert fuse_labels([(1.0, {1: outline(0.9)}), (1.0, {1: outline(0.2)})], (1, 1))[0, 0] == 1
    assert fuse_labels([(1.0, {1: outline(0.6), 2: outline(0.7)})], (1, 1))[0, 0] == 2


# The command


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Three scans a, b, c with masks (liver 6, spleen 1) that lack a rim; every model is a bright one."""
    for name in ("images", "masks", "labels"):
        (tmp_path / name).mkdir()
    for i, case in enumerate("abc"):
        image = scan_of((80, 10 + i, 10, 12, 12), (60, 40, 40, 8, 8))
        save(tmp_path / "images" / f"{case}.nii.gz", image.array)
        save(tmp_path / "labels" / f"{case}.nii.gz", mask_of((6, 10 + i, 10, 12, 12), (1, 40, 40, 8, 8)))
        save(tmp_path / "masks" / f"{case}.nii.gz", mask_of((6, 11 + i, 11, 10, 10), (1, 41, 41, 6, 6)))
    monkeypatch.setattr(command, "load_promptable", lambda name, device, precision: loaded(name))
    return tmp_path


MODELS: list[Bright] = []
"""The models loaded by a test's commands, in order."""


def loaded(name):
    MODELS.append(Bright(signature=name))
    return MODELS[-1]


def save(path, array, affine=AFFINE):
    nib.save(nib.Nifti1Image(array, affine), path)


def load(path):
    return np.asarray(nib.load(path).dataobj)


def options(root, out="out", **more):
    given = {"images": root / "images", "masks": root / "masks", "window": (0, 100), "device": "cpu", **more}
    return RefineOptions(out=root / out, **given)


def note_of(folder):
    return json.loads((folder / PREDICTIONS_FILE).read_text())


def test_a_folder_of_masks_is_refined_with_a_note_beside(folders, capsys):
    written = refine(options(folders, margin_mm=3.0))
    assert list(written) == ["a", "b", "c"]
    for case, path in written.items():
        assert np.array_equal(load(path), load(folders / "labels" / f"{case}.nii.gz"))
    note = note_of(folders / "out")
    assert note["method"] == "refine"
    assert note["promptable"]["signature"] == "litemedsam"
    assert note["promptable"]["recipe"]["size"] == 64
    assert note["promptable"]["shown"] == {"kind": "ct", "low": 0, "high": 100}
    assert note["settings"]["margin_mm"] == 3.0
    assert note["refinement"]["a"]["organs"]["label 6"]["boxes"] == 4
    assert note["given"]["a"]["mask"] == str(folders / "masks" / "a.nii.gz")
    assert "24 boxes; for 0 of them" in capsys.readouterr().err


def test_only_the_target_is_refined_and_other_organs_are_never_overwritten(folders):
    written = refine(options(folders, target=["liver=6"], case=["b"]))
    result, before = load(written["b"]), load(folders / "masks" / "b.nii.gz")
    assert list(written) == ["b"]
    assert (result == 6).sum() == 4 * 144
    assert np.array_equal(result == 1, before == 1)
    # An organ whose box reaches over another's pixels stops there.
    before[11, 10:22] = 1
    save(folders / "masks" / "b.nii.gz", before)
    result = load(refine(options(folders, "again", target=["liver=6"], case=["b"]))["b"])
    assert (result[11, 10:22] == 1).all()
    assert (result == 6).sum() == 4 * 132


def test_what_the_predicting_model_knew_of_the_scans_stays_known(folders):
    source = {
        "model": "/runs/fit",
        "weights_sha256": "x",
        "targets": {"liver": [6], "spleen": [1]},
        "settings": {"flips": False},
        "roles": {"a": "test", "b": "train", "c": "new"},
        "failed": {"d": "broken"},
    }
    (folders / "masks" / PREDICTIONS_FILE).write_text(json.dumps(source))
    refine(options(folders))
    note = note_of(folders / "out")
    assert note["roles"] == source["roles"]
    assert (note["model"], note["targets"]) == ("/runs/fit", source["targets"])
    assert note["settings"]["before"] == {"flips": False}
    assert note["failed"] == {"d": "broken"}
    assert set(note["refinement"]["a"]["organs"]) == {"liver", "spleen"}
    from frugalseg.evaluation.evaluate import evaluate

    judged = EvaluateOptions(
        predictions=folders / "out", references=folders / "labels", out=folders / "e", target=["liver=6"], report=False
    )
    groups = evaluate(judged).groups
    assert groups["unseen"].scans == 2
    assert groups["unseen"].organs["liver"].metrics["dice"].mean == 1


def test_propagated_masks_are_refined_and_their_annotated_slices_still_not_scored(folders):
    """`propagate` records no roles, but the manually annotated slices."""
    from frugalseg.evaluation.evaluate import evaluate

    source = {"method": "propagate", "settings": {}, "targets": {}, "roles": None, "annotated": {"a": [2], "b": [0, 3]}}
    (folders / "masks" / PREDICTIONS_FILE).write_text(json.dumps(source))
    refine(options(folders, case=["a", "c"]))
    note = note_of(folders / "out")
    assert note["annotated"] == {"a": [2]}
    judged = EvaluateOptions(
        predictions=folders / "out",
        references=folders / "labels",
        out=folders / "e",
        target=["liver=6"],
        case=["a", "c"],
        report=False,
    )
    summary = evaluate(judged)
    assert summary.annotated_slices_left_out == {"a": (2,)}
    assert list(summary.groups) == ["all"]


def test_masks_from_anywhere_can_be_evaluated(folders):
    from frugalseg.evaluation.evaluate import evaluate

    refine(options(folders))
    judged = EvaluateOptions(
        predictions=folders / "out", references=folders / "labels", out=folders / "e", target=["liver=6"], report=False
    )
    assert list(evaluate(judged).groups) == ["all"]


def test_an_oracle_is_called_so_and_needs_all_references(folders, capsys):
    written = refine(options(folders, oracle=folders / "labels"))
    assert note_of(folders / "out")["method"] == "oracle"
    assert "not a result of the method" in capsys.readouterr().err
    assert np.array_equal(load(written["a"]), load(folders / "labels" / "a.nii.gz"))
    with pytest.raises(RunError, match="method: oracle then, refine now"):
        refine(options(folders, resume="yes"))
    (folders / "labels" / "b.nii.gz").unlink()
    with pytest.raises(PairingError, match="no reference of b"):
        refine(options(folders, "other", oracle=folders / "labels"))


def test_a_second_run_takes_every_embedding_from_the_cache(folders):
    first = refine(options(folders, cache=folders / "cache"))
    again = refine(options(folders, "again", cache=folders / "cache", margin_mm=5.0))
    assert sum(MODELS[-2].encoded) == 12
    assert MODELS[-1].encoded == []
    assert note_of(folders / "again")["refinement"]["a"]["slices_from_cache"] == 4
    assert np.array_equal(load(first["a"]), load(again["a"]))


def test_a_mask_with_other_axes_gives_the_same_in_those_of_the_scan(folders):
    straight = {case: load(path) for case, path in refine(options(folders, "straight")).items()}
    for path in (folders / "masks").glob("*.nii.gz"):
        nib.save(nib.load(path).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]], float)), path)
    for case, path in refine(options(folders, "turned")).items():
        assert np.array_equal(load(path), straight[case])
        assert np.array_equal(nib.load(path).affine, nib.load(folders / "images" / path.name).affine)


def test_a_mask_on_another_grid_is_reported_and_the_others_are_done(folders):
    moved = AFFINE.copy()
    moved[0, 3] = 5
    save(folders / "masks" / "b.nii.gz", load(folders / "masks" / "b.nii.gz"), moved)
    with pytest.raises(ScanError, match="b: image and labels are on different grids"):
        refine(options(folders))
    assert sorted(path.name for path in (folders / "out").glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz"]
    assert "different grids" in note_of(folders / "out")["failed"]["b"]


def test_an_interrupted_refinement_goes_on(folders, monkeypatch):
    whole = refine(options(folders, "whole"))
    refine_one, done = Refiner.refine, []

    def dying(self, *given, **more):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(1)
        return refine_one(self, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Refiner, "refine", dying)
        with pytest.raises(KeyboardInterrupt):
            refine(options(folders))
    assert list(note_of(folders / "out")["masks"]) == ["a"]
    with pytest.raises(RunError, match="in use"):
        refine(options(folders))
    with pytest.raises(RunError, match=r"other options \(margin_mm: 3.0 then, 9.0 now\)"):
        refine(options(folders, margin_mm=9.0, resume="auto"))
    with pytest.raises(RunError, match="promptable.model: litemedsam then, medsam now"):
        refine(options(folders, model="medsam", resume="auto"))
    refine(options(folders, resume="yes"))
    assert sum(MODELS[-1].encoded) == 8
    assert note_of(folders / "out")["refinement"] == note_of(folders / "whole")["refinement"]
    for case, path in whole.items():
        assert np.array_equal(load(path), load(folders / "out" / f"{case}.nii.gz"))


def test_a_mask_that_was_changed_since_is_refined_again(folders, capsys):
    refine(options(folders))
    save(folders / "masks" / "b.nii.gz", mask_of((6, 12, 11, 10, 10)))
    refine(options(folders, resume="yes"))
    assert sum(MODELS[-1].encoded) == 4
    assert "b: the input mask has changed" in capsys.readouterr().err
    assert set(np.unique(load(folders / "out" / "b.nii.gz"))) == {0, 6}
    refine(options(folders, resume="yes"))
    assert MODELS[-1].encoded == []


def test_a_mask_is_refined_again_where_the_reference_of_its_boxes_was_changed(folders, capsys):
    shutil.copytree(folders / "masks", folders / "references")
    oracle = {"oracle": folders / "references"}
    refine(options(folders, **oracle))
    save(folders / "references" / "b.nii.gz", mask_of((6, 12, 11, 10, 10)))
    refine(options(folders, resume="yes", **oracle))
    assert "b: the input mask has changed" in capsys.readouterr().err
    refine(options(folders, resume="yes", **oracle))
    assert MODELS[-1].encoded == []


def test_given_masks_are_never_overwritten(folders):
    before = {path: path.read_bytes() for path in (folders / "masks").iterdir()}
    with pytest.raises(RunError, match="the new mask of a would overwrite its input mask"):
        refine(options(folders, "masks", overwrite=True))
    assert {path: path.read_bytes() for path in (folders / "masks").iterdir()} == before


def test_a_raw_data_set_of_nnu_net(folders):
    raw = folders / "raw"
    raw.mkdir()
    (folders / "images").rename(raw / "imagesTr")
    (folders / "masks").rename(raw / "labelsTr")
    for path in list((raw / "imagesTr").iterdir()):
        path.rename(path.with_name(path.name.replace(".nii.gz", "_0000.nii.gz")))
    assert list(refine(options(folders, images=raw, masks=raw / "labelsTr"))) == ["a", "b", "c"]


def test_an_organ_that_is_in_no_mask_is_told(folders, capsys):
    refine(options(folders, target=["liver=6", "kidney=2"]))
    said = capsys.readouterr().err
    assert "kidney: in none of the masks" in said
    assert "liver: in none" not in said


def test_label_values_that_no_mask_is_written_with(folders):
    large = load(folders / "masks" / "a.nii.gz").astype(np.uint32)
    large[large == 1] = 2**32 - 1
    save(folders / "masks" / "a.nii.gz", large)
    with pytest.raises(ScanError, match="label value 4294967295, expected 0…65535"):
        refine(options(folders))
    save(folders / "masks" / "a.nii.gz", -large.astype(np.int16))
    with pytest.raises(ScanError, match="label value -6"):
        refine(options(folders, "negative"))


def test_one_scan_and_one_mask_belong_together_whatever_their_names(folders):
    single = options(folders, images=folders / "images" / "a.nii.gz", masks=folders / "masks" / "b.nii.gz")
    assert list(refine(single)) == ["a"]
    with pytest.raises(OptionError, match="--case z"):
        refine(replace(single, out=folders / "o", case=["z"]))
    with pytest.raises(PairingError, match="a: image and label are the same file"):
        refine(replace(single, out=folders / "o", masks=single.images))


def test_one_slice_and_slices_too_narrow(folders):
    thin = scan_of((80, 10, 10, 12, 12), depth=1)
    assert refined(thin, mask_of((1, 11, 11, 10, 10), depth=1), margin_mm=3.0)[0].sum() == 144
    save(folders / "images" / "a.nii.gz", np.zeros((64, 5, 4), np.int16))
    save(folders / "masks" / "a.nii.gz", np.ones((64, 5, 4), np.uint8))
    with pytest.raises(ScanError, match="at least 8×8 are needed"):
        refine(options(folders))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"margin_mm": -1.0}, "--margin-mm -1"),
        ({"margin_mm": float("nan")}, "--margin-mm nan"),
        ({"min_area_mm2": float("nan")}, "--min-area-mm2 nan"),
        ({"min_iou": 1.5}, "--min-iou 1.5"),
        ({"min_area_mm2": -1.0}, "--min-area-mm2 -1"),
        ({"window": (5.0, 1.0)}, "--window 5 1"),
        ({"batch_size": 0}, "--batch-size 0"),
    ],
)
def test_options_that_make_no_sense(tmp_path, more, said):
    with pytest.raises(OptionError, match=said):
        options(tmp_path, **more)
