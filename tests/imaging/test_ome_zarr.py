from __future__ import annotations

import json
import shutil
import sys
import warnings
from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.files import sha256
from frugalseg.errors import ScanError
from frugalseg.imaging.find import find_dataset, find_scans
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.read import read_labels, read_volume
from frugalseg.imaging.validation import ScanWarning
from frugalseg.imaging.volume import canonical
from frugalseg.imaging.write import mask_path
from frugalseg.options import PrepareOptions
from tests.imaging.scans import numbered
from tests.imaging.zarrs import axis, write_zarr
from tests.scans import tiny_scan

VOXELS = numbered((4, 3, 2), np.int16)  # z, y, x


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_spacing_origin_and_axes_are_those_of_the_metadata(tmp_path: Path, version: str) -> None:
    path = write_zarr(tmp_path / "a.ome.zarr", VOXELS, None, (5, 2, 1.5), (10, 20, 30), version)
    scan = read_volume(path)
    assert scan.array.dtype == np.int16
    assert np.array_equal(scan.array, VOXELS.T)
    # RAS: x to the left and y to the back are negative
    expected = np.array([[-1.5, 0, 0, -30], [0, -2, 0, -20], [0, 0, 5, 10], [0, 0, 0, 1]])
    assert np.array_equal(scan.affine, expected)


@pytest.mark.parametrize("order", ["".join(p) for p in permutations("xyz")])
def test_axes_in_any_order_give_the_same_scan(tmp_path: Path, order: str) -> None:
    places = ["zyx".index(name) for name in order]
    path = write_zarr(tmp_path / "a.zarr", VOXELS.transpose(places), [axis(n) for n in order], [1, 1, 1])
    assert np.array_equal(read_volume(path).array, VOXELS.T)


def test_directions_of_axes_are_followed_and_the_position_stays_in_the_patient(tmp_path: Path) -> None:
    lps = write_zarr(tmp_path / "lps.zarr", VOXELS, None, (5, 2, 1.5), (10, 20, 30))
    ras = [
        axis("z", way="superior-to-inferior"),
        axis("y", way="posterior-to-anterior"),
        axis("x", way="left-to-right"),
    ]
    shift = (-10 - 3 * 5, -20 - 2 * 2, -30 - 1.5)  # the opposite corner, with all signs changed
    flipped = write_zarr(tmp_path / "ras.zarr", VOXELS[::-1, ::-1, ::-1], ras, (5, 2, 1.5), shift)
    one, other = (canonical(read_volume(path))[0] for path in (lps, flipped))
    assert np.array_equal(one.array, other.array)
    assert np.allclose(one.affine, other.affine)


@pytest.mark.parametrize(("unit", "mm"), [("micrometer", 1e-3), ("centimeter", 10), ("meter", 1000)])
def test_units_become_mm(tmp_path: Path, unit: str, mm: float) -> None:
    path = write_zarr(tmp_path / "a.zarr", VOXELS, [axis(n, unit) for n in "zyx"], (5 / mm, 2 / mm, 1.5 / mm))
    assert read_volume(path).spacing == pytest.approx((1.5, 2, 5))


def test_one_channel_and_one_time_point_are_a_scan(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", VOXELS[None, None], [axis(n) for n in "tczyx"], (1, 1, 5, 2, 1.5))
    scan = read_volume(path)
    assert np.array_equal(scan.array, VOXELS.T)
    assert scan.spacing == (1.5, 2, 5)


@pytest.mark.parametrize(("names", "said"), [("czyx", "has 2 channels"), ("tzyx", "has 2 time points")])
def test_several_channels_or_time_points_are_refused(tmp_path: Path, names: str, said: str) -> None:
    path = write_zarr(tmp_path / "a.zarr", np.stack([VOXELS, VOXELS]), [axis(n) for n in names])
    with pytest.raises(ScanError, match=f"{said}; one is supported"):
        read_volume(path)


def test_what_is_not_stated_is_assumed_with_a_warning(tmp_path: Path) -> None:
    plain = [{"name": name, "type": "space"} for name in "zyx"]
    path = write_zarr(tmp_path / "a.zarr", VOXELS, plain)
    with pytest.warns(ScanWarning, match=r"no unit of length on axis x; mm are assumed.*orientation of its axes"):
        scan = read_volume(path)
    assert scan.axes == "LPS"


def test_both_transformations_are_applied_in_their_order(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", VOXELS, None, (5, 2, 1), (1, 1, 1))
    change(path, lambda image: image.update(coordinateTransformations=[{"type": "scale", "scale": [2, 2, 2]}]))
    scan = read_volume(path)
    assert scan.spacing == (2, 4, 10)
    assert scan.affine[2, 3] == 2


def change(path: Path, edit: object) -> None:
    content = json.loads((path / ".zattrs").read_text())
    edit(content["multiscales"][0])  # type: ignore[operator]
    (path / ".zattrs").write_text(json.dumps(content))


def set_first(key: str, value: object) -> object:
    return lambda image: image["datasets"][0].update({key: value})


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda image: image.update(axes=["z", "y", "x"], version="0.3"), "version 0.3, which states axes in another"),
        (lambda image: image.update(axes=[axis(n) for n in "yx"]), "names 2 axes for an array of 4×3×2"),
        (lambda image: image.update(axes=[axis(n) for n in "cyx"]), "no axis z: it is not a 3D image"),
        (lambda image: image["axes"][0].update(unit="parsec"), "unit parsec on axis z"),
        (lambda image: image["axes"][0].update(orientation={"value": "apex-to-base"}), "orientation apex-to-base"),
        (set_first("path", "../other"), "outside its folder"),
        (set_first("path", "/etc"), "outside its folder"),
        (set_first("path", "1"), "lacks its voxels in 1/"),
        (set_first("coordinateTransformations", [{"type": "affine", "affine": []}]), "affine transformation"),
        (set_first("coordinateTransformations", [{"type": "scale", "scale": [1, 2]}]), "scale of 2 values for 3 axes"),
        (set_first("coordinateTransformations", [{"type": "scale", "scale": [0, 2, 2]}]), "zero spacing"),
        (lambda image: image["datasets"].clear(), "is damaged"),
        (lambda image: image["axes"][0].update(orientation={"value": "right-to-left"}), "parallel axes"),
    ],
)
def test_what_cannot_be_placed_is_refused(tmp_path: Path, edit: object, said: str) -> None:
    path = write_zarr(tmp_path / "a.zarr", VOXELS)
    change(path, edit)
    with pytest.raises(ScanError, match=said):
        read_volume(path)


def test_a_folder_without_metadata_and_metadata_without_an_image_are_refused(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", VOXELS)
    (path / ".zattrs").write_text("{}")
    with pytest.raises(ScanError, match="metadata has no multiscales"):
        read_volume(path)
    (path / ".zattrs").unlink()
    with pytest.raises(ScanError, match="neither zarr.json nor .zattrs"):
        read_volume(path)


@pytest.mark.parametrize("key", ["compressor", "filters"])
def test_a_codec_that_runs_code_is_refused_unread(tmp_path: Path, key: str) -> None:
    path = write_zarr(tmp_path / "a.zarr", VOXELS)
    header = json.loads((path / "0" / ".zarray").read_text())
    header[key] = {"id": "pickle"} if key == "compressor" else [{"id": "pickle"}]
    (path / "0" / ".zarray").write_text(json.dumps(header))
    with pytest.raises(ScanError, match=f"is damaged, or stored in a way that is not supported .*{key}"):
        read_volume(path)


def test_shards_are_read_and_an_unknown_codec_in_them_is_refused(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", VOXELS, version="0.5", chunks=(1, 1, 1), shards=(2, 3, 2))
    assert np.array_equal(read_volume(path).array, VOXELS.T)
    header = json.loads((path / "0" / "zarr.json").read_text())
    (shards,) = header["codecs"]
    shards["configuration"]["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})
    (path / "0" / "zarr.json").write_text(json.dumps(header))
    with pytest.raises(ScanError, match="not supported .*pickle"):
        read_volume(path)


def test_a_shape_beyond_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", VOXELS)
    header = json.loads((path / "0" / ".zarray").read_text())
    for key in ("shape", "chunks"):
        (path / "0" / ".zarray").write_text(json.dumps({**header, key: [100_000, 100_000, 1000]}))
        with pytest.raises(ScanError, match="of memory; .* are free"):
            read_volume(path)


def test_missing_chunks_are_named(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", VOXELS, chunks=(1, 3, 2))
    (path / "0" / "2.0.0").unlink()
    with pytest.warns(ScanWarning, match="not hold all of its chunks"):
        scan = read_volume(path)
    assert not scan.array[..., 2].any()


def test_damaged_chunks_are_errors_of_the_scan(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", VOXELS, chunks=(4, 3, 2))
    chunk = path / "0" / "0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:8] + b"\xff" * 9)
    with pytest.raises(ScanError, match="is damaged"):
        read_volume(path)


def test_without_tensorstore_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_zarr(tmp_path / "a.zarr", VOXELS)
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(ScanError, match=r"(?s)needs the package tensorstore.*frugalseg\[zarr\]"):
        read_volume(path)


def test_a_blosc_chunk_that_claims_more_than_it_holds_ends_no_process(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", VOXELS, chunks=(4, 3, 2), compressors=blosc())
    chunk = path / "0" / "0.0.0"
    content = bytearray(chunk.read_bytes())
    content[12:16] = b"\x71\x71\x85\x60"  # its compressed size; zarr then reads beyond its end
    chunk.write_bytes(content)
    with pytest.raises(ScanError, match="is damaged"):
        read_volume(path)


def blosc() -> object:
    return pytest.importorskip("numcodecs").Blosc()


def test_they_are_found_as_scans_and_masks_and_not_searched(tmp_path: Path) -> None:
    write_zarr(tmp_path / "scans" / "p1.ome.zarr", VOXELS)
    write_zarr(tmp_path / "scans" / "p2.zarr", VOXELS)
    write_zarr(tmp_path / "masks" / "p1.zarr", (VOXELS > 5).astype(np.uint8))
    scans, masks = find_dataset(tmp_path / "scans", tmp_path / "masks")
    assert {case: path.name for case, path in scans.items()} == {"p1": "p1.ome.zarr", "p2": "p2.zarr"}
    assert list(masks) == ["p1"]
    assert find_scans(scans["p1"]) == {"p1": scans["p1"]}
    mask = read_labels_on(masks["p1"], read_volume(scans["p1"]), "p1")
    assert np.array_equal(mask.array, (VOXELS > 5).T)
    assert read_labels(masks["p1"]).array.dtype == np.uint8
    assert mask_path(tmp_path, "p1", scans["p1"]) == tmp_path / "p1.nii.gz"
    shutil.move(scans["p2"], tmp_path / "scans" / "deep" / "p2.zarr")
    with pytest.warns(ScanWarning, match="not read: deep/"):
        find_scans(tmp_path / "scans")


def test_a_store_notices_a_changed_chunk(tmp_path: Path) -> None:
    path = write_zarr(tmp_path / "a.zarr", VOXELS, chunks=(1, 3, 2))
    before = sha256(path)
    first, second = (path / "0" / name for name in ("0.0.0", "1.0.0"))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    assert sha256(path) != before
    second.write_bytes(content)
    assert sha256(path) != before  # two chunks in each other's place


def test_a_store_of_ome_zarr_is_that_of_the_same_nifti(tmp_path: Path) -> None:
    for case in range(3):
        image, labels = tiny_scan(case)
        affine = np.diag([-1.5, -1.5, 3.0, 1.0])
        for folder, array in (("images", image), ("labels", labels)):
            (tmp_path / "nifti" / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, affine), tmp_path / "nifti" / folder / f"c{case}.nii.gz")
            write_zarr(tmp_path / "zarr" / folder / f"c{case}.ome.zarr", array.T, None, (3.0, 1.5, 1.5))
    stores = []
    for kind in ("nifti", "zarr"):
        folders = {"images": tmp_path / kind / "images", "labels": tmp_path / kind / "labels"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prepare(PrepareOptions(**folders, out=tmp_path / f"{kind}-store", target=["liver=1"], size=32, workers=0))
        stores.append(SliceStore.open(tmp_path / f"{kind}-store"))
    for name in ("images.npy", "labels.npy"):
        first, second = (np.load(store.folder / name) for store in stores)
        assert np.array_equal(first, second)
        assert first.any()
