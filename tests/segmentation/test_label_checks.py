"""What labels cannot teach is said before the training."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest

from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.prepare import prepare
from frugalseg.errors import SplitError
from frugalseg.options import FinetuneOptions, PrepareOptions
from frugalseg.segmentation.finetune import FineTuning
from frugalseg.segmentation.label_checks import LabelDraw
from tests.scans import AFFINE_LPS, tiny_scan

ORGANS = {"liver": 6, "spleen": 1, "gland": 9}


def make_store(folder, masks, organs=("liver", "spleen", "gland"), side=4):
    """The store of training patients whose masks show organs in given slices: [{"gland": [3, 4]}, …].

    An organ is a square of `side` pixels.
    """
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for n, shown in enumerate(masks):
        image, _ = tiny_scan(n)
        labels = np.zeros(image.shape, np.uint8)
        for organ, planes in shown.items():
            column = list(ORGANS).index(organ) * 8
            labels[column + 2 : column + 2 + side, 4 : 4 + side, planes] = ORGANS[organ]
        nib.save(nib.Nifti1Image(image, AFFINE_LPS), folder / "images" / f"scan_{n}.nii.gz")
        nib.save(nib.Nifti1Image(labels, AFFINE_LPS), folder / "labels" / f"scan_{n}.nii.gz")
    target = [f"{organ}={ORGANS[organ]}" for organ in organs]
    given = {"images": folder / "images", "labels": folder / "labels", "target": target, "fractions": (0.0, 0.0)}
    return prepare(PrepareOptions(**given, size=32, out=folder / "store", workers=0))


def check(store, text, draw=0):
    """The draw's slices, and the warnings about them."""
    budget, patients = Budget.parse(text), store.split().train
    rows = draw_labels(store.slices, patients, budget, draw, store.presence_columns)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        LabelDraw(store, store.slices, patients, budget, draw, rows).check_organs()
    return store.slices.loc[rows], [str(warning.message) for warning in caught]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Three patients; the spleen in two of them, the gland in one slice each of two, one of them beside the spleen."""
    masks = [
        {"liver": range(2, 9)},
        {"liver": range(2, 9), "spleen": [3, 4, 5], "gland": [4]},
        {"liver": range(2, 9), "spleen": [3, 4, 5], "gland": [7]},
    ]
    return make_store(tmp_path_factory.mktemp("organs"), masks)


def test_absent_organs_are_named_with_the_budget_that_shows_them(store):
    draw = next(n for n in range(20) if not check(store, "1 scan", n)[0]["has_spleen"].any())
    _, said = check(store, "1 scan", draw)
    assert said == [
        f'--budget "1 scan", draw {draw}: no labelled slice shows spleen or gland, so the model cannot learn them '
        "(the smallest budget of this draw that shows them: 2 scans for spleen, 2 scans for gland)"
    ]
    drawn, said = check(store, "2 scans", draw)
    assert drawn["has_spleen"].any()
    assert said == [
        f'--budget "2 scans", draw {draw}: only one labelled slice shows gland, which is little to learn from '
        "(the smallest budget of this draw that shows it in two slices: 3 scans)"
    ]
    assert check(store, "3 scans", draw)[1] == []


@pytest.mark.parametrize("draw", range(4))
def test_the_budget_of_slices_that_is_named_holds_the_organ_and_none_smaller(store, draw):
    drawn, said = check(store, "1 slice", draw)
    absent = [organ for organ in ORGANS if not drawn[f"has_{organ}"].any()]
    (text,) = said  # and none that a single slice is one slice
    for organ in absent:
        amount = next(n for n in range(1, 22) if check(store, f"{n} slices", draw)[0][f"has_{organ}"].any())
        assert f"{amount} slices for {organ}" in text or (len(absent) == 1 and f"shows it: {amount} slices)" in text)


def test_an_organ_in_no_training_label_has_no_budget(tmp_path):
    store = make_store(tmp_path, [{"liver": [2, 3], "spleen": [2]}, {"liver": [2, 3]}, {"liver": [5, 6], "gland": [6]}])
    budget, patients = Budget.parse("100%"), ("scan_0", "scan_1")
    rows = draw_labels(store.slices, patients, budget, 0, store.presence_columns)
    with pytest.warns(UserWarning, match="of the training patients") as caught:
        LabelDraw(store, store.slices, patients, budget, 0, rows).check_organs()
    assert [str(warning.message) for warning in caught] == [
        "no labelled slice of the training patients shows gland, so the model cannot learn it; "
        "label it in a training patient, or prepare a store without it",
        "only one labelled slice of the training patients shows spleen, which is little to learn from; "
        "label it in more slices",
    ]


def test_a_budget_without_any_organ_is_an_error_before_the_run_folder_is_made(tmp_path):
    store = make_store(tmp_path, [{}, {}, {"liver": [5, 6]}], organs=("liver",))
    draw = next(n for n in range(20) if _shows_nothing(store, n))
    options = FinetuneOptions(
        data=store.folder, budget="1 scan", label_draw=draw, out=tmp_path / "run", device="cpu", steps=2
    )
    with pytest.raises(SplitError, match=rf'"1 scan", draw {draw}: none of 12 labelled slices shows liver') as e:
        FineTuning.open(options)
    assert e.value.cure in ('give --budget "2 scans" or more, or another --label-draw',) or "3 scans" in e.value.cure
    assert not (tmp_path / "run").exists()


def _shows_nothing(store, draw):
    rows = draw_labels(store.slices, store.split().train, Budget.parse("1 scan"), draw, store.presence_columns)
    return not store.slices.loc[rows, "has_liver"].any()


def test_a_small_organ_is_named_before_the_training(tmp_path):
    with pytest.warns(UserWarning, match="gland covers only 1 pixel"):
        store = make_store(tmp_path, [{"liver": range(2, 9), "gland": [4, 5]}], organs=("gland",), side=1)
    assert check(store, "1 scan")[1] == [
        "gland covers only 1 pixel of a typical slice at --size 32 and is easily missed; "
        "prepare the scans with --size 96"
    ]
