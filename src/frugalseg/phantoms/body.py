"""The trunk around the abdominal organs: skin, fat, muscle wall, lungs, spine, ribs, pelvis, and the table.

All positions are in mm of the reference anatomy: x towards the patient's left, y towards posterior, z towards superior;
z = 0 is at the level of the upper poles of the kidneys, about the first lumbar vertebra.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from frugalseg.imaging.volume import Array
from frugalseg.phantoms.canvas import (
    Canvas,
    CanvasRegion,
    Point,
    as_point,
    blend_intersection,
    blend_union,
    column,
    ellipsoid,
    rounded_column,
    tube,
)
from frugalseg.phantoms.patient import Patient, interpolate_heights
from frugalseg.phantoms.tissue import TISSUES

FAT, MUSCLE, BONE, LUNG = (TISSUES[name] for name in ("fat", "muscle", "bone", "lung"))

WALL_WIDTH: dict[float, float] = {-140: 134, -100: 131, -60: 125, -20: 128, 30: 134, 80: 131, 140: 124}
"""Height z → half the width of the trunk without subcutaneous fat, mm: hips, waist, rib cage."""

WALL_DEPTH: dict[float, float] = {-140: 88, -60: 89, 0: 93, 60: 95, 140: 90}
"""Height z → half its depth, mm."""

WALL_THICKNESS = 12.0
SQUARENESS = 0.22
SPINE_Y = 51.0
VERTEBRA_PITCH = 34.0
DISC_HEIGHT = 7.0
RIB_PITCH = 27.0
RIB_DESCENT = 0.62
"""Descent of a rib towards anterior, mm per mm; because of it, one axial slice cuts many ribs."""

DOMES: dict[str, tuple[Point, Point]] = {
    # dome of the diaphragm: centre, semi-axes
    "right": ((-57.0, -10.0, -12.0), (71.0, 84.0, 92.0)),
    "left": ((57.0, -12.0, -18.0), (71.0, 82.0, 86.0)),
}

BACK_MUSCLES: dict[str, tuple[tuple[float, float], tuple[float, float], dict[float, float]]] = {
    # column: |x| and y of its centre, half width and depth, size by height
    "erector": ((31, 79), (27, 16), {-140: 1.05, 0: 1.0, 140: 0.75}),
    "psoas": ((39, 50), (18, 17), {-140: 1.25, -60: 1.0, 0: 0.55, 25: 0.05}),
    "quadratus": ((66, 66), (21, 8), {-140: 1.1, -30: 1.0, 15: 0.1}),
}


@dataclass(frozen=True)
class Trunk:
    """Signed distances (mm) over the whole canvas to the surfaces that bound many organs.

    Attributes:
        wall: to the outer surface of the muscle wall.
        cavity: to the inner surface of the muscle wall.
        below_diaphragm: to the space under the diaphragm.
    """

    wall: Array
    cavity: Array
    below_diaphragm: Array

    def abdomen(self, region: CanvasRegion, inset: float) -> Array:
        """Distance to the peritoneal space of a region, `inset` mm away from wall and diaphragm."""
        inner = blend_intersection(self.cavity[region.box], self.below_diaphragm[region.box], 12.0)
        return inner + np.float32(inset)


def measure_trunk(canvas: Canvas, patient: Patient) -> Trunk:
    """Compute the surfaces of this patient's trunk."""
    everywhere = canvas.whole_region()
    z = everywhere.axes[2] - np.float32(patient.pose.shift[2])
    width, depth = interpolate_heights(WALL_WIDTH, z), interpolate_heights(WALL_DEPTH, z)
    wall = rounded_column(everywhere, 0, (width, depth), SQUARENESS)
    wall += everywhere.ripple(patient.ripples("wall", 1.5, (90, 200)))
    # Organs lie in front of the back muscles: posteriorly the cavity is shallower, more so below the ribs.
    cavity = rounded_column(
        everywhere, -7.0, (width - WALL_THICKNESS, depth - 17 + interpolate_heights({-20: -4, 30: 3}, z)), SQUARENESS
    )
    return Trunk(wall, np.maximum(cavity, wall + 7), _below_diaphragm_distance(everywhere, patient))


def _below_diaphragm_distance(region: CanvasRegion, patient: Patient) -> Array:
    domes = []
    for side, (centre, semi) in DOMES.items():
        x, y, z = patient.jitter(f"{side} dome", centre, 4.0)
        above = CanvasRegion(region.box, region.axes, region.x, region.y, np.maximum(region.z, np.float32(z)))
        domes.append(ellipsoid(above, (x, y, z), semi))
    # The recesses of the lungs extend lower posteriorly than anteriorly.
    floor = (region.z - 12 + np.float32(0.45) * region.y) * np.float32(0.9)
    return blend_union(blend_union(domes[0], domes[1], 95.0), floor, 20.0)


def paint_trunk(canvas: Canvas, patient: Patient, trunk: Trunk) -> None:
    """Skin, subcutaneous fat, muscle wall, and the fat in the cavity."""
    everywhere = canvas.whole_region()
    skin = _skin_distance(everywhere, patient, trunk)
    canvas.paint(everywhere, skin, patient.hu["skin"])
    canvas.paint(everywhere, skin + 2, patient.hu["fat"] + _fat_texture(everywhere, patient), FAT)
    canvas.paint(everywhere, _muscle_wall_distance(everywhere, trunk), patient.hu["muscle"], MUSCLE)
    _paint_intermuscular_fat(canvas, patient, trunk)
    canvas.paint(everywhere, trunk.cavity, patient.hu["fat"] + _fat_texture(everywhere, patient), FAT)


def _skin_distance(region: CanvasRegion, patient: Patient, trunk: Trunk) -> Array:
    fat = np.float32(patient.fat_mm)
    # Fat is thicker at the flanks and the belly, and compressed where the back lies on the table.
    flank = np.square(region.x / 150)
    front = np.clip(-region.y / 110, 0, 1)
    lower = np.clip((20 - region.z) / 120, 0, 1)
    thickness = fat * (np.float32(0.7) + np.float32(0.25) * flank + np.float32(0.35) * front * lower)
    distance: Array = trunk.wall - thickness - 3
    # A furrow along the spine.
    distance += 5 * np.exp(-np.square(region.x / 16)) * (region.y > 0)
    return distance


def _fat_texture(region: CanvasRegion, patient: Patient) -> Array:
    """Faint septa and small vessels within fat, so that it is not uniform, HU."""
    return 9 * region.grain(patient.rng("strands"), 13.0)


def _muscle_wall_distance(region: CanvasRegion, trunk: Trunk) -> Array:
    # The linea alba: the wall is thinner in the anterior midline.
    distance: Array = trunk.wall + 4 * np.exp(-np.square(region.x / 7)) * (region.y < 0)
    return distance


def _paint_intermuscular_fat(canvas: Canvas, patient: Patient, trunk: Trunk) -> None:
    """The thin fat planes between the layers of the flank, and between wall and back muscles."""
    everywhere = canvas.whole_region()
    depth = trunk.wall + np.float32(6.5) + everywhere.ripple(patient.ripples("layers", 1.5, (50, 120)))
    plane = np.maximum(np.abs(depth) - np.float32(0.7), 60 - np.abs(everywhere.x))
    canvas.paint(everywhere, plane, patient.hu["fat"] * 0.6)


def paint_back_muscles(canvas: Canvas, patient: Patient) -> None:
    """Erector spinae, psoas and quadratus lumborum on both sides, each wrapped in a little fat."""
    for side in (-1, 1):
        for name, ((x, y), (a, b), size_at) in BACK_MUSCLES.items():
            region = canvas.region_around((side * x, y, 0), (1.4 * a, 1.4 * b, 400))
            size = interpolate_heights(size_at, region.axes[2] - np.float32(patient.pose.shift[2]))
            ripple = region.ripple(patient.ripples(f"{name} {side}", 0.8, (25, 60)))
            distance = column(region, (side * x, y), (a * size, b * size)) + ripple
            canvas.paint(region, distance - 2, patient.hu["fat"], FAT)
            canvas.paint(region, distance, patient.hu["muscle"] + 4 * ripple, MUSCLE)


def paint_lungs(canvas: Canvas, patient: Patient, trunk: Trunk) -> None:
    """Both lungs down to the diaphragm, with the vessels that are visible in a soft-tissue window."""
    region = canvas.region_around((0, 0, 110), (150, 110, 160))
    pleura = blend_intersection(trunk.cavity[region.box], -trunk.below_diaphragm[region.box], 8.0)
    mediastinum = _mediastinum_distance(region)
    chest = blend_intersection(pleura, -mediastinum, 8.0)
    wall_side = np.maximum(trunk.cavity[region.box] - 1, -mediastinum)
    canvas.paint(region, np.maximum(pleura - 2.5, wall_side), patient.hu["muscle"], MUSCLE)
    canvas.paint(region, chest, patient.hu["lung"] + region.ripple(patient.ripples("lung", 12, (40, 90))), LUNG)
    _paint_lung_vessels(canvas, patient)


def _mediastinum_distance(region: CanvasRegion) -> Array:
    spine = column(region, (4, 44), (34, 44))
    heart = ellipsoid(region, (22, -28, 108), (70, 52, 62))
    # Behind the sternum the mediastinum widens into a triangle of fat.
    front = np.maximum(np.abs(region.x - 5) - 4 - np.square(np.clip(-region.y - 50, 0, 40) / 11), region.y)
    return blend_union(blend_union(spine, heart, 14.0), front, 14.0)


def _paint_lung_vessels(canvas: Canvas, patient: Patient) -> None:
    rng = patient.rng("lung vessels")
    for _ in range(14):
        side = rng.choice((-1, 1))
        start = np.array([side * rng.uniform(55, 80), rng.uniform(0, 40), rng.uniform(105, 150)])
        stop = start + rng.uniform((-5, -15, -55), (35, 35, -25)) * (side, 1, 1)
        region = canvas.region_around((start + stop) / 2, np.abs(stop - start) / 2 + 4)
        distance = tube(region, [as_point(start), as_point(stop)], rng.uniform(1.0, 2.4))
        distance[~canvas.is_tissue(region, LUNG)] = 10
        canvas.paint(region, distance, patient.hu["vein"])


def paint_spine(canvas: Canvas, patient: Patient) -> None:
    """Vertebral bodies with a dense rim, discs between them, canal, pedicles and processes."""
    region = canvas.region_around((0, 68, 0), (62, 40, 400))
    level = _height_in_vertebra(region)
    bodies = column(region, (0, SPINE_Y), (22.5, 16.5)) - np.float32(1.5) * np.square(level / (VERTEBRA_PITCH / 2))
    _paint_bone(canvas, region, bodies, patient, rim=2.2)
    disc = np.maximum(bodies, np.float32((VERTEBRA_PITCH - DISC_HEIGHT) / 2) - np.abs(level))
    canvas.paint(region, disc, patient.hu["disc"], TISSUES["other"])
    _paint_arches(canvas, region, level, patient)
    canal = column(region, (0, SPINE_Y + 24), (9.5, 7.5))
    canvas.paint(region, canal, patient.hu["canal"], TISSUES["other"])


def _height_in_vertebra(region: CanvasRegion) -> Array:
    """Height above the middle of the nearest vertebral body, mm."""
    return np.mod(region.z + VERTEBRA_PITCH / 2, np.float32(VERTEBRA_PITCH)) - np.float32(VERTEBRA_PITCH / 2)


def _paint_arches(canvas: Canvas, region: CanvasRegion, level: Array, patient: Patient) -> None:
    x, y = np.abs(region.x), region.y - np.float32(SPINE_Y)
    ring = np.abs(np.hypot(x / 1.25, y - 24) - 12) - 3
    lamina = np.maximum(ring, np.abs(level + 2) - 13)
    spinous = np.maximum(np.maximum(x - 3.2, np.abs(y - 31) - 10), np.abs(level + 7) - 10)
    transverse = np.maximum(np.abs(y - 22 - np.float32(0.12) * x) - 3.6, np.maximum(x - 42, np.abs(level - 4) - 6))
    facets = np.maximum(np.hypot(x - 18, y - 29) - 7, np.abs(level) - 15)
    arch = blend_union(blend_union(lamina, spinous, 4.0), blend_union(transverse, facets, 4.0), 3.0)
    _paint_bone(canvas, region, arch, patient, rim=1.8)


def _paint_bone(canvas: Canvas, region: CanvasRegion, distance: Array, patient: Patient, rim: float) -> None:
    """A bone: a dense cortex `rim` mm thick around its marrow."""
    canvas.paint(region, distance, patient.hu["cortical_bone"], BONE)
    trabeculae = 30 * region.grain(patient.rng("trabeculae"), 6.0)
    canvas.paint(region, distance + np.float32(rim), patient.hu["marrow"] + trabeculae)


def paint_ribs(canvas: Canvas, patient: Patient, trunk: Trunk) -> None:
    """Oblique ribs within the wall, which end anteriorly in cartilage, and the sternum."""
    region = canvas.region_around((0, 0, 100), (150, 110, 170))
    along = region.z - np.float32(RIB_DESCENT) * region.y
    offset = float(patient.rng("ribs").uniform(0, RIB_PITCH))
    across = np.mod(along + np.float32(offset), np.float32(RIB_PITCH)) - np.float32(RIB_PITCH / 2)
    middle = trunk.wall[region.box] + np.float32(7.0)
    rib = np.sqrt(middle * middle + np.square(across * np.float32(0.62))) - np.float32(4.2)
    rib = np.maximum(rib, 24 - np.abs(region.x))
    rib = np.maximum(rib, (-18 - along) * np.float32(0.7))
    bony = np.maximum(rib, (-region.y - 52 - np.float32(0.12) * np.abs(region.x)))
    canvas.paint(region, rib, patient.hu["cartilage"], TISSUES["other"])
    _paint_bone(canvas, region, bony, patient, rim=1.6)
    plate = np.hypot(np.maximum(np.abs(region.x) - 12, 0), middle) - 5
    sternum = np.maximum(plate, np.maximum(region.y, 62 - region.z))
    _paint_bone(canvas, region, sternum, patient, rim=1.6)


def paint_pelvis(canvas: Canvas, patient: Patient) -> None:
    """The iliac crests, which lie in the lowest slices."""
    for side in (-1, 1):
        region = canvas.region_around((side * 84, 36, -125), (50, 60, 45))
        x, y = side * region.x - 84, region.y - 36
        blade = np.abs(x + np.float32(0.62) * y - 14 + np.float32(0.006) * y * y) * np.float32(0.85) - 3.8
        crest = np.hypot(y / 46, (region.z + 145) / 45) - 1
        _paint_bone(canvas, region, np.maximum(blade, crest * 44), patient, rim=2.0)


def paint_table(canvas: Canvas, patient: Patient) -> None:
    """The curved table under the patient: a thin shell around foam, horizontal in the scanner for every pose."""
    x, y, _ = canvas.axes
    lowest = _back_position(patient) + 6
    radius = 420.0 + float(patient.rng("table").uniform(-60, 60))
    depth = np.hypot(x[:, None], y - np.float32(lowest - radius)) - np.float32(radius)
    for thickness, offset, hu in ((3.0, 0.0, 150.0), (24.0, 13.5, -965.0), (2.0, 27.0, -150.0)):
        share = np.clip(0.5 - (np.abs(depth - offset) - thickness / 2) / canvas.blur, 0, 1)
        free = canvas.hu < -900
        canvas.hu += np.where(free, share[:, :, None] * (np.float32(hu) - canvas.hu), 0)


def _back_position(patient: Patient) -> float:
    """Position of the surface of the back, scanner mm towards posterior."""
    return float(patient.pose.shift[1] + patient.pose.scale[1] * (WALL_DEPTH[60] + 0.6 * patient.fat_mm + 3))
