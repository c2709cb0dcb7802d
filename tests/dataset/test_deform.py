"""SuperCL's deformation, seen in what it does to pictures of the coordinates, at every size."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy.ndimage import gaussian_filter

from frugalseg.dataset.augment import Augment
from frugalseg.dataset.deform import DEFORMATION, deformed_grid, draw_noise
from frugalseg.dataset.random_changes import draw
from frugalseg.dataset.resample import resample_images
from frugalseg.dataset.source import Slices

SIZES = [32, 64, 128, 256]
DRAWS = {32: 400, 64: 200, 128: 60, 256: 20}


def mirrored_and_deformed(pictures):
    return Augment("supercl").move(Slices(pictures, None)).images


def draw_parameters(count, size, always=False):
    change = replace(DEFORMATION, p=1.0) if always else DEFORMATION
    device = torch.device("cpu")
    return {"noise": draw_noise(count, size, device), **draw((change,), count, device)}


def deformed(pictures):
    return resample_images(pictures, deformed_grid(**draw_parameters(len(pictures), pictures.shape[-1])))


def moved_coordinates(changes, size, count):
    """Where every pixel was taken from, (count, 2, size, size) as x, y in pixels, and NaN outside of the picture."""
    rows = torch.arange(size, dtype=torch.float32)
    y, x = torch.meshgrid(rows, rows, indexing="ij")
    picture = torch.stack([x, y, torch.ones_like(x)]).expand(count, 3, size, size)
    moved = changes(picture)
    inside = moved[:, 2:] > 1 - 1e-4
    return torch.where(inside, moved[:, :2], torch.nan)


def jacobians(where):
    """Signed area of every pixel, (count, size − 1, size − 1); NaN outside."""
    right, down = where[..., :-1, 1:] - where[..., :-1, :-1], where[..., 1:, :-1] - where[..., :-1, :-1]
    return right[:, 0] * down[:, 1] - right[:, 1] * down[:, 0]


def as_affine(where):
    """The affine map nearest to each draw, (count, 3, 2), and what is left of the displacements, in pixels of the
    result; NaN outside."""
    size = where.shape[-1]
    rows = torch.arange(size, dtype=torch.float64)
    y, x = torch.meshgrid(rows, rows, indexing="ij")
    plain = torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(0, 1)
    maps, rest = [], []
    for one in where.double().flatten(2).movedim(1, 2):
        inside = ~one.isnan().any(dim=1)
        affine = torch.linalg.lstsq(plain[inside], one[inside]).solution
        maps.append(affine)
        rest.append((one - plain @ affine) @ torch.linalg.inv(affine[:2]))
    return torch.stack(maps), torch.stack(rest)


@pytest.mark.parametrize("size", SIZES)
def test_no_pixel_is_folded_over(size):
    """Every pixel's area has the sign of its whole slice, which a mirrored one has turned."""
    torch.manual_seed(0)
    areas = jacobians(moved_coordinates(mirrored_and_deformed, size, DRAWS[size])).flatten(1)
    assert areas.isfinite().float().mean() > 0.7
    whole = areas.nanmedian(dim=1, keepdim=True).values
    assert (areas[areas.isfinite()] * whole.expand_as(areas)[areas.isfinite()] > 0).all()


@pytest.mark.parametrize("size", SIZES)
def test_displacements_are_the_published_share_of_the_side(size):
    """0.163 · strength / smoothness pixels of 512 in their standard deviation: 0.46 % of the side, whatever it is."""
    torch.manual_seed(1)
    drawn = draw_parameters(DRAWS[size], size, always=True)
    grid = deformed_grid(**drawn)
    _, rest = as_affine(moved_coordinates(lambda pictures: resample_images(pictures, grid), size, DRAWS[size]))
    share = rest.square().nanmean().sqrt().item() / size
    strength = (350**3 - 100**3) / 3 / 250  # mean of the square of 100…350
    smoothness = (1 / 14 - 1 / 17) / 3  # mean of one over the square of 14…17
    assert math.sqrt(strength * smoothness / (12 * math.pi)) / 512 == pytest.approx(0.0046, rel=0.1)
    ratio = (drawn["strength"] / drawn["smoothness"]).square().mean().item()
    expected = math.sqrt(ratio / (12 * math.pi)) / 512
    # A little less: the border holds displacements back, and the affine map takes its part.
    assert 0.85 * expected < share < 1.05 * expected


def test_displacements_are_scipys_smoothed_noise():
    torch.manual_seed(2)
    size = 512
    drawn = draw_parameters(2, size, always=True)
    drawn |= {"angle": torch.zeros(2), "zoom": torch.ones(2)}
    middles = torch.arange(size) + 0.5
    plain = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), dim=-1)
    found = (deformed_grid(**drawn) + 1) * size / 2 - plain
    for i in range(2):
        for axis in range(2):
            noise = drawn["noise"][i, axis].double().numpy()
            smooth = gaussian_filter(noise, drawn["smoothness"][i].item(), mode="constant", cval=0)
            expected = torch.from_numpy(drawn["strength"][i].item() * smooth)
            assert (found[i, ..., axis] - expected).abs().max() < 5e-3  # of 10 pixels


def test_deformation_rotation_and_scale_are_of_the_same_two_slices_in_three():
    torch.manual_seed(3)
    size, count = 32, 600
    maps, rest = as_affine(moved_coordinates(deformed, size, count))
    linear = maps[:, :2]
    bent = rest.square().flatten(1).nanmean(dim=1).sqrt() > 1e-3
    turned = (linear - torch.eye(2).double()).abs().amax(dim=(1, 2)) > 1e-3
    assert torch.equal(bent, turned)
    assert bent.float().mean().item() == pytest.approx(0.67, abs=0.06)
    zoom = linear[bent].det().sqrt()
    assert 0.66 < zoom.min() < 0.74
    assert 1.26 < zoom.max() < 1.34
    angle = torch.atan2(linear[bent][:, 0, 1], linear[bent][:, 0, 0])
    assert angle.abs().max() > 3.0  # all round
    assert len(angle.div(math.pi / 4).floor().unique()) == 8


def test_both_flips_are_drawn_apart():
    torch.manual_seed(4)
    maps, _ = as_affine(moved_coordinates(mirrored_and_deformed, 32, 400))
    mirrored = maps[:, :2].det() < 0
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.08)
    still = (maps[:, :2].abs() - torch.eye(2).double()).abs().amax(dim=(1, 2)) < 1e-3
    signs = {tuple(one.diagonal().sign().tolist()) for one in maps[still][:, :2]}
    assert signs == {(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)}


def test_supercl_changes_no_intensity():
    images = torch.rand(4, 1, 32, 32)
    assert torch.equal(Augment("supercl").recolour(Slices(images, None)).images, images)
