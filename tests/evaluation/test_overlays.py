from __future__ import annotations

import base64
import io

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest

from frugalseg.evaluation.case_row import CaseRow
from frugalseg.evaluation.overlays import Cut, choose_cases, draw_cases, draw_panels
from frugalseg.evaluation.pairing import Pairs
from frugalseg.evaluation.policy import Outcome
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.write import write_mask
from tests.evaluation.blobs import AFFINE, LIVER, SHAPE, labels, save
from tests.padded import check_shown, record_shown, write_padded_mr


def rows(**dice):
    return [CaseRow(case, "test", "liver", Outcome.BOTH, {"dice": value}) for case, value in dice.items()]


def test_best_median_and_worst_are_chosen_by_dice():
    chosen = choose_cases(rows(a=0.5, b=0.9, c=float("nan"), d=0.7, e=0.1, f=0.8))
    assert [(label, r.case) for label, r in chosen] == [("best", "b"), ("median", "d"), ("worst", "e")]


def test_few_cases_are_shown_once():
    assert [label for label, _ in choose_cases(rows(a=0.5, b=0.9))] == ["best", "worst"]
    assert [label for label, _ in choose_cases(rows(a=0.5))] == ["best"]
    assert choose_cases(rows(a=float("nan"))) == []


def pixels(panel):
    return matplotlib.image.imread(io.BytesIO(base64.b64decode(panel.png)))[..., :3]


def near(picture, colour):
    return (np.abs(picture - np.array(colour)) < 0.12).all(axis=-1)


def test_panels_show_the_slices_they_name_with_both_outlines():
    prediction = LIVER.copy()
    prediction[:, :, 6] = False
    panels = draw_panels(None, LIVER, prediction, (2.0, 2.0, 4.0))
    assert [p.caption.split(":")[0] for p in panels] == [
        "Axial slice 3 of 10",
        "Axial slice 7 of 10, closer",
        "Coronal cut 5 of 18",
    ]
    assert f"{8 * 8 * 4 / 100:.1f} cm²" in panels[1].caption
    first, second, _ = (pixels(p) for p in panels)
    blue, orange = (0x56 / 255, 0xB4 / 255, 0xE9 / 255), (0xE6 / 255, 0x9F / 255, 0)
    assert near(first, blue).any()
    assert near(first, orange).any()
    assert near(second, blue).any()
    assert not near(second, orange).any()


def test_posterior_is_down_left_is_right_and_superior_is_up():
    image = np.zeros(SHAPE, np.float32)
    image[15:, 14:, :] = 1  # patient left and posterior
    image[:, :, 8:] = 1  # superior
    tiny = np.zeros(SHAPE, bool)
    tiny[9, 8, 4] = True
    axial, coronal = (pixels(p) for p in draw_panels(image, tiny, tiny, (1.0, 1.0, 1.0)))
    h, w = axial.shape[:2]
    assert axial[-h // 10, -w // 10].mean() > 0.9
    assert axial[h // 10, -w // 10].mean() < 0.1
    assert axial[-h // 10, w // 10].mean() < 0.1
    h = coronal.shape[0]
    assert coronal[h // 20].mean() > 0.9
    assert coronal[-h // 20].mean() < 0.1


def test_pictures_keep_the_proportions_of_the_body():
    axial, coronal = (pixels(p) for p in draw_panels(None, LIVER, LIVER, (2.0, 2.0, 4.0)))
    for picture, (across, down) in ((axial, (20 * 2, 18 * 2)), (coronal, (20 * 2, 10 * 4))):
        assert picture.shape[1] / picture.shape[0] == pytest.approx(across / down, rel=0.02)


def test_the_closer_view_stays_inside_the_image():
    mask = np.zeros((30, 40), bool)
    mask[1:3, 38:40] = True
    cut = Cut(None, mask, mask, (1.0, 2.0)).crop_to_masks(6.0)
    assert cut.reference.shape == (9, 5)
    assert cut.reference.sum() == 4


def test_a_scan_with_other_axes_than_its_masks_is_shown_with_them(tmp_path):
    scan = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.int16)
    for name, array in (("scan", scan), ("reference", labels()), ("prediction", labels())):
        save(tmp_path / f"{name}.nii.gz", array)

    def drawn(image):
        pairs = Pairs({"a": (tmp_path / "reference.nii.gz", tmp_path / "prediction.nii.gz")}, {}, ())
        return draw_cases(
            [("best", CaseRow("a", "test", "x", Outcome.BOTH, {}))], pairs, {"a": image}, {"x": (6,)}, None
        )[0]

    straight = drawn(tmp_path / "scan.nii.gz")
    turned = nib.Nifti1Image(scan, AFFINE).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]], float))
    nib.save(turned, tmp_path / "turned.nii.gz")
    assert straight.note == ""
    assert drawn(tmp_path / "turned.nii.gz") == straight
    moved = AFFINE.copy()
    moved[0, 3] = 5
    save(tmp_path / "moved.nii.gz", scan, moved)
    assert "is on another grid" in drawn(tmp_path / "moved.nii.gz").note


def test_padding_of_a_series_is_out_of_the_picture(tmp_path, monkeypatch):
    path, mask = write_padded_mr(tmp_path / "p1"), tmp_path / "p1.nii.gz"
    scan = read_volume(path)
    organ = np.zeros(scan.array.shape, np.uint8)
    organ[10:20, 10:20, 2:4] = 1
    write_mask(scan.with_array(organ), mask)
    seen = record_shown(monkeypatch)
    views = draw_cases(
        [("best", CaseRow("p1", "test", "liver", Outcome.BOTH, {}))],
        Pairs({"p1": (mask, mask)}, {}, ()),
        {"p1": path},
        {"liver": (1,)},
        None,
    )
    assert views[0].note == ""
    check_shown(seen[0].transpose(2, 1, 0))
