"""Every operation of our augmentation against Kornia's on the same parameters, and the recipes against what Kornia
would draw for them."""

from __future__ import annotations

import math

import kornia.augmentation as K
import pytest
import torch
from kornia.filters import gaussian_blur2d
from torch.utils._python_dispatch import TorchDispatchMode

from frugalseg.dataset.augment import (
    RECIPES,
    Augment,
    blur_and_add_noise,
    brightness_then_contrast,
    change_intensity,
    contrast_then_brightness,
    similarity,
)
from frugalseg.dataset.blur import NO_BLUR, blur
from frugalseg.dataset.deform import deformed_grid, smoothed
from frugalseg.dataset.random_changes import draw
from frugalseg.dataset.resample import affine_grid, resample, resample_images
from frugalseg.dataset.source import Slices
from frugalseg.pretraining.views import INTENSITY, PLACE, StrongAugment, SuperCLAugment, draw_crops, rotated_crop

CPU = torch.device("cpu")
SIDE = 64


@pytest.fixture
def images():
    """Smooth pictures: a shift of a hundredth of a pixel shows, rounding does not."""
    torch.manual_seed(0)
    noise = torch.rand(6, 2, SIDE, SIDE)
    return gaussian_blur2d(noise, 9, torch.full((6, 2), 2.0)).sub(0.3).mul(2.5).clamp(0, 1)


def assert_same(found, wanted, within=1e-4):
    torch.testing.assert_close(found, wanted, rtol=0, atol=within)


def test_rotation_scale_and_shift_are_kornias(images):
    kornia = K.RandomAffine(degrees=30.0, translate=(0.1, 0.1), scale=(0.7, 1.4), p=1.0)
    wanted = kornia(images)
    drawn = kornia._params
    right, down = (drawn["translations"] / SIDE).unbind(1)
    maps = similarity(drawn["angle"], drawn["scale"][:, 0], right, down)
    assert drawn["angle"].abs().max() > 10
    assert_same(resample_images(images, affine_grid(maps, SIDE)), wanted)


def test_labels_and_weights_are_resampled_as_kornia_resamples_masks(images):
    torch.manual_seed(1)
    labels, weights = torch.randint(0, 4, (6, SIDE, SIDE)), torch.randint(0, 5, (6, SIDE, SIDE)) / 4
    geometry = K.RandomAffine(degrees=30.0, translate=(0.1, 0.1), scale=(0.7, 1.4), p=1.0)
    kornia = K.AugmentationSequential(geometry, data_keys=["input", "mask"])
    _, masks = kornia(images, torch.stack([labels.float(), 1 - weights], dim=1))
    drawn = geometry._params
    right, down = (drawn["translations"] / SIDE).unbind(1)
    grid = affine_grid(similarity(drawn["angle"], drawn["scale"][:, 0], right, down), SIDE)
    found = resample(Slices(images, labels.to(torch.uint8), weights), grid)
    # A pixel right between two may go to either.
    assert (found.labels == masks[:, 0]).float().mean() > 0.999
    assert ((1 - found.weights - masks[:, 1]).abs() < 1e-6).float().mean() > 0.999


def test_contrast_brightness_and_gamma_are_kornias(images):
    steps = [
        K.RandomContrast((0.6, 1.5), p=1.0),
        K.RandomBrightness((0.7, 1.3), p=1.0),
        K.RandomGamma((0.6, 1.7), p=1.0),
    ]
    wanted = torch.nn.Sequential(*steps)(images)
    contrast, brightness = steps[0]._params["contrast_factor"], steps[1]._params["brightness_factor"] - 1
    line = contrast_then_brightness({"contrast": contrast, "brightness": brightness})
    assert_same(change_intensity(images, line, steps[2]._params["gamma_factor"]), wanted)


@pytest.mark.parametrize("contrast", [0.5, 0.8, 1.0, 1.2, 1.5])
@pytest.mark.parametrize("brightness", [-0.3, -0.1, 0.0, 0.1, 0.3])
def test_one_line_is_both_orders_with_their_clips(images, contrast, brightness):
    drawn = {"contrast": torch.full((6,), contrast), "brightness": torch.full((6,), brightness)}
    first = ((contrast * images).clamp(0, 1) + brightness).clamp(0, 1)
    assert_same(change_intensity(images, contrast_then_brightness(drawn)), first, 1e-6)
    second = (contrast * (images + brightness).clamp(0, 1)).clamp(0, 1)
    assert_same(change_intensity(images, brightness_then_contrast(drawn)), second, 1e-6)


def test_brightness_before_contrast_is_kornias(images):
    steps = [K.RandomBrightness((0.8, 1.2), p=1.0), K.RandomContrast((0.8, 1.2), p=1.0)]
    wanted = torch.nn.Sequential(*steps)(images)
    brightness, contrast = steps[0]._params["brightness_factor"] - 1, steps[1]._params["contrast_factor"]
    line = brightness_then_contrast({"contrast": contrast, "brightness": brightness})
    assert_same(change_intensity(images, line), wanted)


@pytest.mark.parametrize(("reach", "low", "high"), [(2, 0.5, 1.5), (1, 1.0, 3.0)])
def test_blur_is_kornias(images, reach, low, high):
    kornia = K.RandomGaussianBlur((2 * reach + 1, 2 * reach + 1), (low, high), p=1.0)
    wanted = kornia(images)
    assert_same(blur(images, kornia._params["sigma"], reach), wanted, 1e-6)


def test_a_slice_that_is_not_blurred_stays_as_it_is(images):
    assert torch.equal(blur(images, torch.full((6,), NO_BLUR), 2), images)


def test_noise_is_kornias(images):
    kornia = K.RandomGaussianNoise(std=0.06, p=1.0)
    torch.manual_seed(2)
    found = blur_and_add_noise(images, torch.full((6,), NO_BLUR), torch.full((6,), 0.06))
    torch.manual_seed(2)
    normal = torch.randn_like(images)
    wanted = kornia(images, params={**kornia.forward_parameters(images.shape), "gaussian_noise": 0.06 * normal})
    assert_same(found, wanted.clamp(0, 1), 1e-6)


def test_rotation_of_views_is_kornias(images):
    kornia = K.RandomRotation(15.0, p=1.0)
    wanted = kornia(images)
    whole = torch.ones(6, 2), torch.zeros(6, 2)
    maps = rotated_crop(-kornia._params["degrees"], *whole)  # Kornia's own sign of this class, unlike RandomAffine's
    assert_same(resample_images(images, affine_grid(maps, SIDE)), wanted, 1e-3)


def test_crop_of_views_is_kornias(images):
    """Kornia maps the middles of the outermost pixels of a crop to those of the result: its own share of the side."""
    kornia = K.RandomResizedCrop((SIDE, SIDE), scale=(0.5, 1.0), ratio=(0.9, 1.1), cropping_mode="resample")
    wanted = kornia(images)
    corners = kornia._params["src"].float()
    first, last = corners[:, 0], corners[:, 2]
    extent = (last - first) / (SIDE - 1)
    middle = (first + last + 1) / SIDE - 1
    place = torch.where(extent < 1, middle / (1 - extent), 0.0)
    maps = rotated_crop(torch.zeros(6), extent, place)
    assert_same(resample_images(images, affine_grid(maps, SIDE)), wanted, 1e-3)


def test_a_rotated_crop_is_a_crop_of_the_rotated_slice(images):
    """Once resampled it is sharper than twice resampled, but lies at the same place."""
    angle, extent = torch.linspace(-15, 15, 6), torch.linspace(0.75, 1, 6)[:, None].expand(-1, 2)
    place = torch.stack([torch.linspace(-1, 1, 6), torch.linspace(0.5, -0.5, 6)], dim=1)
    once = resample_images(images, affine_grid(rotated_crop(angle, extent, place), SIDE))
    turned = resample_images(images, affine_grid(rotated_crop(angle, torch.ones(6, 2), place), SIDE))
    twice = resample_images(turned, affine_grid(rotated_crop(torch.zeros(6), extent, place), SIDE))
    inner = slice(12, -12)
    difference = (once - twice)[..., inner, inner].abs()
    assert difference.mean() < 0.01
    assert difference.mean() < 0.1 * (once - images)[..., inner, inner].abs().mean()


@pytest.mark.parametrize("side", [32, 128])
def test_smoothing_of_displacements_is_kornias(side):
    torch.manual_seed(3)
    noise, sigma = torch.rand(3, 2, side, side) * 2 - 1, torch.tensor([0.9, 3.5, 4.2]) * side / 128
    reach = math.ceil(4 * 4.25 * side / 128)
    wanted = gaussian_blur2d(noise, 2 * reach + 1, sigma[:, None].expand(-1, 2), border_type="constant")
    assert_same(smoothed(noise, sigma, reach), wanted, 1e-5)


def test_flips_are_kornias(images):
    recipe = RECIPES["supercl"]
    still = {"strength": 0.0, "smoothness": 14.0, "angle": 0.0, "zoom": 1.0}
    for flip, mirror in (K.RandomHorizontalFlip(p=1.0), (-1.0, 1.0)), (K.RandomVerticalFlip(p=1.0), (1.0, -1.0)):
        drawn = {"mirror_x": mirror[0], "mirror_y": mirror[1], **still}
        grid = recipe.grid({name: torch.full((6,), value) for name, value in drawn.items()}, SIDE)
        assert_same(resample_images(images, grid), flip(images))


def test_without_strength_the_deformation_is_kornias_affine(images):
    torch.manual_seed(4)
    angle, zoom = torch.rand(6) * 2 * math.pi, 0.7 + 0.6 * torch.rand(6)
    kornia = K.RandomAffine(degrees=180.0, scale=(0.7, 1.4), p=1.0)
    drawn = kornia.forward_parameters(images.shape)
    drawn |= {"angle": -angle.rad2deg(), "scale": (1 / zoom)[:, None].expand(-1, 2)}
    noise = torch.rand(6, 2, SIDE, SIDE)
    grid = deformed_grid(noise, torch.zeros(6), torch.full((6,), 14.0), angle, zoom)
    assert_same(resample_images(images, grid), kornia(images, params=drawn))


COUNT = 20_000


def moments(values):
    values = values.double()
    return [values.mean().item(), values.std().item(), values.min().item(), values.max().item()]


@pytest.mark.parametrize(("strength", "s"), [("light", 0.3), ("robust", 1.0)])
def test_recipes_draw_as_kornia_did(strength, s):
    """Of each parameter how often it is drawn, and its mean, spread and range among the slices that are changed."""
    torch.manual_seed(5)
    wanted = {
        "angle": (0.95, K.RandomAffine(30.0 * s, p=1.0), "angle"),
        "scale": (0.95, K.RandomAffine(0.0, scale=(1 - 0.3 * s, 1 + 0.4 * s), p=1.0), "scale"),
        "right": (0.95, K.RandomAffine(0.0, translate=(0.1 * s, 0.1 * s), p=1.0), "translations"),
        "contrast": (0.7, K.RandomContrast((1 - 0.4 * s, 1 + 0.5 * s), p=1.0), "contrast_factor"),
        "brightness": (0.7, K.RandomBrightness((1 - 0.3 * s, 1 + 0.3 * s), p=1.0), "brightness_factor"),
        "gamma": (0.5, K.RandomGamma((1 - 0.4 * s, 1 + 0.7 * s), p=1.0), "gamma_factor"),
        "sigma": (0.2, K.RandomGaussianBlur((5, 5), (0.5, 1.0 + 0.5 * s), p=1.0), "sigma"),
    }
    recipe = RECIPES[strength]
    drawn = {**draw(recipe.place, COUNT, CPU), **draw(recipe.intensity, COUNT, CPU)}
    parameters = {p.name: p for change in (*recipe.place, *recipe.intensity) for p in change.parameters}
    for name, (p, kornia, key) in wanted.items():
        changed = drawn[name][drawn[name] != parameters[name].neutral]
        assert len(changed) / COUNT == pytest.approx(p, abs=0.015), name
        theirs = kornia.forward_parameters(torch.Size([COUNT, 1, SIDE, SIDE]))[key]
        theirs = theirs.reshape(COUNT, -1)[:, 0] / (SIDE if name == "right" else 1) - float(name == "brightness")
        width = parameters[name].high - parameters[name].low
        assert moments(changed) == pytest.approx(moments(theirs), abs=0.02 * width), name
    assert (drawn["noise"] > 0).float().mean().item() == pytest.approx(0.4, abs=0.015)
    assert drawn["noise"].max().item() == pytest.approx(0.06 * s)


def test_a_change_of_place_is_drawn_for_all_its_parameters_together():
    torch.manual_seed(6)
    drawn = draw(RECIPES["robust"].place, COUNT, CPU)
    still = {name: value == (1.0 if name == "scale" else 0.0) for name, value in drawn.items()}
    assert all(torch.equal(one, still["angle"]) for one in still.values())
    coefficients = torch.corrcoef(torch.stack([value[~still["angle"]] for value in drawn.values()]))
    assert (coefficients - torch.eye(4)).abs().max() < 0.03


def test_crops_are_drawn_as_kornia_did():
    torch.manual_seed(7)
    side = 512
    kornia = K.RandomResizedCrop((side, side), scale=(0.5, 1.0), ratio=(0.9, 1.1))
    corners = kornia.forward_parameters(torch.Size([COUNT, 1, side, side]))["src"].float()
    theirs = (corners[:, 2] - corners[:, 0] + 1) / side
    ours = draw_crops(COUNT, CPU)
    for measure in (lambda e: e[:, 0], lambda e: e[:, 1], lambda e: e.prod(dim=1), lambda e: e[:, 0] / e[:, 1]):
        levels = torch.tensor([0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
        assert_same(measure(ours).quantile(levels), measure(theirs).quantile(levels), 0.006)
    starts = (1 - ours) * (1 + torch.stack([draw(PLACE, COUNT, CPU)[axis] for axis in "xy"], dim=1)) / 2
    assert_same(starts.mean(dim=0), corners[:, 0].mean(dim=0) / side, 0.003)
    assert_same(starts.std(dim=0), corners[:, 0].std(dim=0) / side, 0.003)


def test_views_draw_as_kornia_did():
    torch.manual_seed(8)
    drawn = {**draw(PLACE, COUNT, CPU), **draw(INTENSITY, COUNT, CPU)}
    expected = {"angle": (0.8, 0, 15), "brightness": (0.8, 0, 0.2), "contrast": (0.8, 1, 0.2), "sigma": (0.5, 1, 0.5)}
    for name, (p, middle, half) in expected.items():
        neutral = {"contrast": 1.0, "sigma": NO_BLUR}.get(name, 0.0)
        values = drawn[name][(drawn[name] - neutral).abs() > 1e-9]
        assert len(values) / COUNT == pytest.approx(p, abs=0.015), name
        wanted = [middle, half / math.sqrt(3), middle - half, middle + half]
        assert moments(values) == pytest.approx(wanted, abs=0.04 * half), name


class _Operations(TorchDispatchMode):
    """The names of all operations that PyTorch is asked for."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


READ_BACK = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "_to_cpu", "equal", "unique_dim"}
"""Operations whose result the host must wait for."""


@pytest.mark.parametrize("change", ["light", "robust", "supercl", "views", "published"])
def test_nothing_is_read_back_from_the_device(images, change):
    labels = torch.zeros(6, SIDE, SIDE, dtype=torch.uint8)
    if change in RECIPES:
        augment, batch = Augment(change), Slices(images, labels, torch.ones(6, SIDE, SIDE))
    else:
        changes = StrongAugment() if change == "views" else SuperCLAugment()
        augment, batch = (lambda x: changes.recolour(changes.move(x))), images
    augment(batch)  # makes the tables of the parameters
    with _Operations() as asked:
        augment(batch)
    assert not READ_BACK & set(asked.names)
    assert len(asked.names) < 150
