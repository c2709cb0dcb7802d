from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from pydicom import dcmread

from frugalseg.errors import ScanError
from frugalseg.imaging.labels import read_labels_on
from frugalseg.imaging.read import read_volume
from frugalseg.imaging.segments.contours import fill_outlines, find_outlines
from frugalseg.imaging.segments.kinds import SEGMENTS_FILE
from frugalseg.imaging.segments.rtstruct_writer import write_rtstruct
from tests.imaging.segments.series import AUTHOR, make_organs, random_mask, write_source


@pytest.mark.parametrize("seed", range(20))
def test_masks_of_noise_come_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((17, 23)) < rng.uniform(0.1, 0.9)
    assert np.array_equal(fill_outlines(find_outlines(mask), mask.shape), mask)


def test_each_contour_filled_by_itself_gives_the_mask_too() -> None:
    """Holes are joined to the contour around them: a reader that knows no exclusive or sees them as well."""
    mask = np.zeros((15, 15), bool)
    mask[1:14, 1:14], mask[3:12, 3:12], mask[5:10, 5:10], mask[7, 7] = True, False, True, False
    outlines = find_outlines(mask)
    assert len(outlines) == 2
    united = np.zeros_like(mask)
    for outline in outlines:
        united |= fill_outlines([outline], mask.shape)
    assert np.array_equal(united, mask)


def test_filling_agrees_with_another_program() -> None:
    rng = np.random.default_rng(0)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 40))
    ring = np.stack([20 + rng.uniform(3, 18, 40) * np.sin(angles), 25 + rng.uniform(3, 20, 40) * np.cos(angles)], 1)
    centres = np.stack(np.indices((40, 50)), -1).reshape(-1, 2)
    expected = Outline(np.concatenate([ring, ring[:1]])).contains_points(centres).reshape(40, 50)
    assert expected.any()
    assert np.array_equal(fill_outlines([ring], (40, 50)), expected)


def change(path, edit) -> None:
    dataset = dcmread(path)
    edit(dataset)
    dataset.save_as(path)


def test_open_contours_are_refused_unless_their_region_is_not_read(tmp_path) -> None:
    source = write_source(tmp_path / "scan")
    scan, path = read_volume(source), tmp_path / "m.dcm"
    mask = random_mask(scan, [1, 2])
    write_rtstruct(mask, path, source, make_organs(liver=1, spleen=2), AUTHOR)

    def open_one(dataset) -> None:
        dataset.ROIContourSequence[1].ContourSequence[0].ContourGeometricType = "OPEN_PLANAR"

    change(path, open_one)
    with pytest.raises(ScanError, match="contour of 'spleen' that is not closed"):
        read_labels_on(path, scan, "case")
    (tmp_path / SEGMENTS_FILE).write_text("name,value\nliver,5\n")
    assert np.array_equal(read_labels_on(path, scan, "case").array, 5 * (mask.array == 1))


def test_regions_that_overlap_are_refused(tmp_path) -> None:
    source = write_source(tmp_path / "scan")
    scan, path = read_volume(source), tmp_path / "m.dcm"
    write_rtstruct(random_mask(scan, [1, 2]), path, source, make_organs(liver=1, spleen=2), AUTHOR)

    def repeat(dataset) -> None:
        dataset.ROIContourSequence[1].ContourSequence = dataset.ROIContourSequence[0].ContourSequence

    change(path, repeat)
    with pytest.raises(ScanError, match="both 'liver' and 'spleen'"):
        read_labels_on(path, scan, "case")


def test_contours_between_slices_are_refused(tmp_path) -> None:
    source = write_source(tmp_path / "scan")
    scan, path = read_volume(source), tmp_path / "m.dcm"
    write_rtstruct(random_mask(scan, [1]), path, source, make_organs(liver=1), AUTHOR)

    def lift(dataset) -> None:
        contour = dataset.ROIContourSequence[0].ContourSequence[0]
        data = [float(v) for v in contour.ContourData]
        contour.ContourData = [v + (i % 3 == 2) for i, v in enumerate(data)]

    change(path, lift)
    with pytest.raises(Exception, match="does not lie in a slice"):
        read_labels_on(path, scan, "case")
