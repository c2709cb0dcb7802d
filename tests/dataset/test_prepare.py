"""From a folder of scans to a store, and everything that can be wrong with the folder."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest

from frugalseg.dataset import prepare_scan as module
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.errors import DiskError, OptionError, PairingError, ScanError, StoreError
from frugalseg.options import PrepareOptions
from frugalseg.records.record import to_plain
from tests.padded import check_shown, write_padded_mr
from tests.scans import AFFINE_LPS, tiny_scan, write_cohort

CASES = 6


@pytest.fixture
def cohort(tmp_path):
    return write_cohort(tmp_path / "scans", CASES)


def options(cohort, tmp_path, **changes):
    images, labels = cohort
    settings = {"images": images, "labels": labels, "target": ["liver=6"], "size": 32, "out": tmp_path / "store"}
    return PrepareOptions(**settings | changes)


def everything(store):
    return {p.name: p.read_bytes() for p in store.folder.iterdir() if p.name != "store.json"}


def test_store_holds_every_slice_scaled_and_upright(cohort, tmp_path):
    store = prepare(options(cohort, tmp_path))
    assert store.images.shape == store.labels.shape == (CASES * 12, 32, 32)
    assert store.images.dtype == np.float16
    image, labels = tiny_scan(2)
    rows = store.slices.query("case == 'scan_02'").sort_values("z").index
    expected = (image.astype(np.float32).clip(-160, 240) + 160) / 400
    assert np.abs(store.images[rows].transpose(2, 1, 0) - expected).max() < 1e-3
    assert np.array_equal(store.labels[rows].transpose(2, 1, 0), labels == 6)
    assert store.slices.loc[rows, "has_liver"].tolist() == (labels == 6).any(axis=(0, 1)).tolist()
    assert store.slices.loc[rows, "z_mm"].tolist() == [5.0 * z for z in range(12)]
    assert store.slices.loc[rows, "position"].iloc[-1] == 1.0
    assert set(store.slices["row_mm"]) == {4.0}


def test_orientation_of_the_files_does_not_matter(cohort, tmp_path):
    upright = prepare(options(cohort, tmp_path))
    turned = tmp_path / "turned"
    for kind in ("images", "labels"):
        (turned / kind).mkdir(parents=True)
        for i, path in enumerate(sorted((tmp_path / "scans" / kind).iterdir())):
            codes = [
                ("R", "A", "S"),
                ("S", "L", "P"),
                ("A", "I", "L"),
                ("L", "P", "S"),
                ("P", "S", "R"),
                ("I", "R", "A"),
            ][i]
            image = nib.load(path)
            ornt = nib.orientations.ornt_transform(
                nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
            )
            nib.save(image.as_reoriented(ornt), turned / kind / path.name)
    again = prepare(options((turned / "images", turned / "labels"), tmp_path, out=tmp_path / "store_turned"))
    assert np.array_equal(upright.images, again.images)
    assert np.array_equal(upright.labels, again.labels)
    prints = [[scan.fingerprint for scan in store.record.scans] for store in (upright, again)]
    assert prints[0] == prints[1]


def test_masks_with_other_axes_than_their_scans_are_turned(cohort, tmp_path):
    upright = prepare(options(cohort, tmp_path))
    for i, path in enumerate(sorted(cohort[1].iterdir())):
        nib.save(nib.load(path).as_reoriented(np.array([[1, 1], [0, -1], [2, (-1) ** i]], float)), path)
    again = prepare(options(cohort, tmp_path, out=tmp_path / "store_turned"))
    assert np.array_equal(upright.labels, again.labels)
    assert again.labels.any()


def test_pairing_is_by_id_not_by_order(cohort, tmp_path):
    images, labels = cohort
    before = prepare(options(cohort, tmp_path))
    (images / ".DS_Store").write_text("hidden")
    (labels / ".hidden.nii.gz").write_text("hidden")
    shutil.copy(images / "scan_05.nii.gz", images / "aaa_unlabelled.nii.gz")
    after = prepare(options(cohort, tmp_path, out=tmp_path / "store2"))
    rows = after.slices.query("case == 'scan_00'").index
    assert np.array_equal(after.labels[rows], before.labels[before.slices.query("case == 'scan_00'").index])
    assert not after.slices.query("case == 'aaa_unlabelled'")["labelled"].any()


def test_several_targets_merge_and_number(cohort, tmp_path):
    store = prepare(options(cohort, tmp_path, target=["spleen=1", "liver=6"]))
    _, labels = tiny_scan(0)
    rows = store.slices.query("case == 'scan_00'").index
    assert np.array_equal(store.labels[rows] == 1, (labels == 1).transpose(2, 1, 0))
    assert np.array_equal(store.labels[rows] == 2, (labels == 6).transpose(2, 1, 0))
    merged = prepare(options(cohort, tmp_path, target=["both=1,6"], out=tmp_path / "merged"))
    assert np.array_equal(merged.labels[rows] == 1, (labels > 0).transpose(2, 1, 0))


def test_unlabelled_folder_alone(cohort, tmp_path):
    store = prepare(options(cohort, tmp_path, labels=None, target=[]))
    assert store.targets == {}
    assert len(store.split().train) == CASES


def test_again_is_the_same_store_and_costs_nothing(cohort, tmp_path, monkeypatch):
    first = everything(prepare(options(cohort, tmp_path)))
    monkeypatch.setattr(module, "prepare_scan", None)  # would fail if it were called
    assert everything(prepare(options(cohort, tmp_path))) == first


@pytest.mark.parametrize(
    ("change", "said"), [({"size": 64}, "size"), ({"window": (-100.0, 100.0)}, "intensity"), ({"seed": 1}, "split")]
)
def test_store_made_with_other_parameters_is_refused(cohort, tmp_path, change, said):
    before = everything(prepare(options(cohort, tmp_path)))
    with pytest.raises(StoreError, match=f"other parameters.*{said}"):
        prepare(options(cohort, tmp_path, **change))
    assert everything(SliceStore.open(tmp_path / "store")) == before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "images.npy is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "images.npy cannot be read"),
        (lambda path: path.write_bytes(b""), "images.npy cannot be read"),
    ],
)
def test_a_store_that_was_copied_in_part_is_not_taken_for_whole(cohort, tmp_path, spoil, said):
    store = prepare(options(cohort, tmp_path))
    spoil(store.folder / "images.npy")
    with pytest.raises(StoreError, match=said):
        prepare(options(cohort, tmp_path))
    with pytest.raises(StoreError, match=said):
        _ = SliceStore.open(store.folder).images


def test_scans_that_were_copied_or_moved_are_the_same_scans(cohort, tmp_path, monkeypatch):
    store = prepare(options(cohort, tmp_path))
    before = store.identity(store.split())
    moved = []
    for kind, folder in zip(("images", "labels"), cohort, strict=True):
        moved.append(tmp_path / "moved" / kind)
        moved[-1].mkdir(parents=True)
        for path in folder.iterdir():
            (moved[-1] / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(module, "prepare_scan", None)  # would fail if it were called
    store = prepare(options(moved, tmp_path))
    assert store.identity(store.split()) == before  # runs on it can be resumed
    with monkeypatch.context() as patch:
        patch.setattr(module, "sha256", None)  # nothing is read a second time
        prepare(options(moved, tmp_path))
    mask = bytearray((moved[1] / "scan_03.nii.gz").read_bytes())
    mask[-5] ^= 1  # the size stays
    (moved[1] / "scan_03.nii.gz").write_bytes(mask)
    with pytest.raises(StoreError, match=r"other scans.*scan_03"):
        prepare(options(moved, tmp_path))


def test_store_of_other_scans_is_refused(cohort, tmp_path):
    prepare(options(cohort, tmp_path))
    (cohort[0] / "scan_03.nii.gz").unlink()
    (cohort[1] / "scan_03.nii.gz").unlink()
    with pytest.raises(StoreError, match=r"other scans.*scan_03"):
        prepare(options(cohort, tmp_path))


def test_folder_that_is_no_store_is_left_alone(cohort, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not a slice store"):
        prepare(options(cohort, tmp_path))
    assert [p.name for p in (tmp_path / "store").iterdir()] == ["notes.txt"]


@pytest.fixture
def interrupted(cohort, tmp_path, monkeypatch):
    """A prepare that was stopped after three of the scans."""
    real, done = module.prepare_scan, []

    def dies_at_the_fourth(job):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(job.case)
        return real(job)

    monkeypatch.setattr(module, "prepare_scan", dies_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        prepare(options(cohort, tmp_path, workers=0))
    monkeypatch.setattr(module, "prepare_scan", lambda job: done.append(job.case) or real(job))
    return done


def test_interrupted_prepare_leaves_nothing_that_looks_finished_and_goes_on(interrupted, cohort, tmp_path):
    assert not (tmp_path / "store").exists()
    with pytest.raises(StoreError, match="unfinished"):
        SliceStore.open(tmp_path / "store")
    resumed = prepare(options(cohort, tmp_path, workers=0))
    assert sorted(interrupted) == [f"scan_{i:02d}" for i in range(CASES)]
    assert everything(resumed) == everything(prepare(options(cohort, tmp_path, out=tmp_path / "other", workers=2)))
    assert not (tmp_path / "store.partial").exists()


def test_part_of_an_exchanged_scan_is_made_again(interrupted, cohort, tmp_path):
    nib.save(nib.Nifti1Image(np.full((32, 32, 12), 240, np.int16), AFFINE_LPS), cohort[0] / "scan_00.nii.gz")
    store = prepare(options(cohort, tmp_path))
    assert (store.images[store.slices.query("case == 'scan_00'").index] == 1).all()


def test_killed_for_real(cohort, tmp_path):
    """SIGKILL while parts are being written; the next run finishes."""
    images, labels = cohort
    command = [
        sys.executable,
        "-m",
        "frugalseg",
        "prepare",
        "--images",
        images,
        "--labels",
        labels,
        "--target",
        "liver=6",
    ]
    process = subprocess.Popen(
        [*map(str, command), "--size", "256", "--workers", "0", "--out", str(tmp_path / "store")]
    )
    while process.poll() is None and not list(tmp_path.glob("store.partial/parts-*/*.json")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.returncode == -signal.SIGKILL:
        assert not (tmp_path / "store").exists()
    store = prepare(options(cohort, tmp_path, size=256))
    assert len(store.images) == CASES * 12


ONE_OF_SEVERAL = """
import sys
from pathlib import Path
from frugalseg.dataset.prepare import prepare
from frugalseg.errors import RunError, StoreError
from frugalseg.options import PrepareOptions
from frugalseg.records.record import to_plain
images, labels, out = map(Path, sys.argv[1:4])
print("ready", flush=True)
sys.stdin.readline()
try:
    prepare(PrepareOptions(images=images, labels=labels, target=[sys.argv[4]], size=64, workers=2, out=out))
    print("done")
except (RunError, StoreError) as error:
    print(type(error).__name__, error.problem)
"""


@pytest.mark.parametrize("targets", [["liver=6"] * 3, ["liver=6", "liver=1", "liver=6"]])
def test_three_at_once_make_one_store_of_one_of_them(cohort, tmp_path, targets):
    command = [sys.executable, "-c", ONE_OF_SEVERAL, *map(str, cohort), str(tmp_path / "store")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, target], **pipes) for target in targets]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert all(process.returncode == 0 for process in processes), outputs
    done = [target for target, (out, _) in zip(targets, outputs, strict=True) if out.startswith("done")]
    refused = [out for out, _ in outputs if not out.startswith("done")]
    assert len(set(done)) == 1
    assert all("another process works in" in out or "other parameters (targets" in out for out in refused)
    alone = prepare(options(cohort, tmp_path, target=[done[0]], size=64, out=tmp_path / "alone"))
    assert everything(SliceStore.open(tmp_path / "store")) == everything(alone)
    assert not (tmp_path / "store.partial").exists()


@pytest.mark.parametrize("name", ["images", "labels", "json"])
@pytest.mark.parametrize("damage", ["missing", "short", "other"])
def test_a_part_is_believed_only_when_whole(interrupted, cohort, tmp_path, name, damage):
    part = next((tmp_path / "store.partial").glob(f"parts-*/scan_00.{name}"))
    content = part.read_bytes()
    if damage == "missing":
        part.unlink()
    else:
        part.write_bytes(content[:-7] if damage == "short" else bytes(len(content)))
    store = prepare(options(cohort, tmp_path, workers=0))
    assert sorted(interrupted) == ["scan_00", *(f"scan_{i:02d}" for i in range(CASES))]
    assert everything(store) == everything(prepare(options(cohort, tmp_path, out=tmp_path / "other")))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_broken_scans_are_all_named_and_the_others_kept(cohort, tmp_path):
    truncate(cohort[0] / "scan_01.nii.gz")
    truncate(cohort[1] / "scan_04.nii.gz")
    with pytest.raises(ScanError, match=r"2 of 6 scans") as error:
        prepare(options(cohort, tmp_path))
    assert "scan_01" in error.value.problem
    assert "scan_04" in error.value.problem
    assert not (tmp_path / "store").exists()
    store = prepare(options(cohort, tmp_path, skip_broken=True))
    assert sorted(store.slices["case"].unique()) == ["scan_00", "scan_02", "scan_03", "scan_05"]


def test_mask_on_another_grid(cohort, tmp_path):
    _, mask = tiny_scan(2)
    moved = AFFINE_LPS.copy()
    moved[2, 3] += 5.0
    nib.save(nib.Nifti1Image(mask, moved), cohort[1] / "scan_02.nii.gz")
    with pytest.raises(ScanError, match=r"scan_02: image and labels are on different grids"):
        prepare(options(cohort, tmp_path))


def test_mask_without_image_and_no_matching_mask(cohort, tmp_path):
    shutil.copy(cohort[1] / "scan_00.nii.gz", cohort[1] / "stranger.nii.gz")
    with pytest.raises(PairingError, match="stranger"):
        prepare(options(cohort, tmp_path))
    lonely = tmp_path / "lonely"
    lonely.mkdir()
    shutil.copy(cohort[1] / "scan_00.nii.gz", lonely / "other.nii.gz")
    with pytest.raises(PairingError, match="no label"):
        prepare(options((cohort[0], lonely), tmp_path))


def test_target_value_that_no_mask_holds_then_the_right_one(cohort, tmp_path):
    with pytest.raises(OptionError, match=r"label value 7 is in none of the masks \(they hold 1, 6\)"):
        prepare(options(cohort, tmp_path, target=["liver=7"]))
    assert not (tmp_path / "store").exists()
    prepare(options(cohort, tmp_path))


def test_one_scan_under_two_names_stays_in_one_part(cohort, tmp_path):
    for i in range(3):
        for folder in cohort:
            shutil.copy(folder / "scan_00.nii.gz", folder / f"copy_{i}.nii.gz")
    with pytest.warns(UserWarning, match="identical scan"):
        store = prepare(options(cohort, tmp_path))
    parts = {store.split().part_by_patient()[p] for p in ("scan_00", "copy_0", "copy_1", "copy_2")}
    assert len(parts) == 1


def test_patients_with_several_scans_stay_together(tmp_path):
    images, labels = write_cohort(tmp_path / "scans", 8)
    for folder in (images, labels):
        for i in range(8):
            (folder / f"scan_{i:02d}.nii.gz").rename(folder / f"P{i // 2}_{'ab'[i % 2]}.nii.gz")
    store = prepare(options((images, labels), tmp_path, patient_pattern=r"(P\d+)_"))
    assert store.patients == ["P0", "P1", "P2", "P3"]
    with pytest.raises(OptionError, match="finds no patient"):
        prepare(options((images, labels), tmp_path, patient_pattern=r"(Q\d+)", out=tmp_path / "no"))


def test_split_from_a_file(cohort, tmp_path):
    split = {"train": ["scan_00", "scan_01"], "validation": ["scan_02"], "test": ["scan_03"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    store = prepare(options(cohort, tmp_path, split=tmp_path / "split.json"))
    assert to_plain(store.split()) == {part: tuple(patients) for part, patients in split.items()}


@pytest.mark.parametrize(
    ("labelled", "changes", "said"),
    [
        (6, {}, "3 for training, 1 for validation, 2 for test"),
        (3, {}, "1 for training, 1 for validation, 1 for test"),
        (2, {}, "2 for training, 0 for validation, 0 for test"),
        (6, {"fractions": (0.0, 0.5)}, "3 for training, 0 for validation, 3 for test"),
    ],
)
def test_the_split_of_the_labelled_scans_is_told(tmp_path, capsys, labelled, changes, said):
    prepare(options(write_cohort(tmp_path / "scans", CASES, labelled=labelled), tmp_path, **changes))
    lines = capsys.readouterr().err.splitlines()
    where = lines.index(f"  labelled scans: {said}")
    if " 0 for validation" in said:
        assert "keeps the model of the last step" in lines[where + 1]
        assert "--fractions" in lines[where + 1]
        assert "--split" in lines[where + 1]
    else:
        assert lines[where + 1 :] == []


def test_labelled_scans_that_a_split_file_leaves_out_are_told(cohort, tmp_path, capsys):
    split = {"train": ["scan_00", "scan_01"], "validation": ["scan_02"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    prepare(options(cohort, tmp_path, split=tmp_path / "split.json"))
    assert "0 for test, 3 unused, since --split does not list them" in capsys.readouterr().err


def test_images_given_as_their_own_labels(cohort, tmp_path):
    with pytest.raises(PairingError, match=r"scan_00: image and label are the same file, .*, and likewise for 5 more"):
        prepare(options((cohort[0], cohort[0]), tmp_path))
    assert not (tmp_path / "store").exists()


def test_mr_is_scaled_by_its_own_percentiles_and_ct_of_mr_warns(cohort, tmp_path):
    for path in cohort[0].iterdir():
        image, _ = tiny_scan(int(path.name[5:7]))
        nib.save(nib.Nifti1Image((image + 1024).astype(np.uint16), AFFINE_LPS), path)
    store = prepare(options(cohort, tmp_path, modality="mr"))
    assert store.images.max() == 1
    assert store.images.min() == 0
    with pytest.warns(UserWarning, match="do not look like HU"):
        prepare(options(cohort, tmp_path, modality="ct", out=tmp_path / "as_ct"))


def test_full_disk_leaves_no_store(cohort, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(DiskError, match="no space left"):
            prepare(options(cohort, tmp_path, workers=0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "store").exists()
    prepare(options(cohort, tmp_path))


def test_middle_of_the_scans(cohort, tmp_path):
    store = prepare(options(cohort, tmp_path))
    kept = store.slices[store.is_middle(0.3)]
    assert (kept.groupby("case")["z"].agg(list).map(tuple) == (4, 5, 6, 7)).all()
    assert store.is_middle(1.0).all()
    assert (store.slices[store.is_middle(0.01)].groupby("case").size() == 1).all()


def test_padding_of_a_series_is_out_of_the_picture(tmp_path):
    write_padded_mr(tmp_path / "scans" / "p1")
    store = prepare(PrepareOptions(images=tmp_path / "scans", modality="mr", size=32, out=tmp_path / "store"))
    check_shown(np.asarray(store.images, dtype=np.float32))
    assert store.record.scans[0].limits == pytest.approx([7, 454], abs=3)
