"""The organs of the abdomen, in painting order: later organs overwrite earlier ones.

All positions are in mm of the reference anatomy: x towards the patient's left, y towards posterior, z towards superior.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frugalseg.imaging.volume import Array
from frugalseg.phantoms.body import Trunk
from frugalseg.phantoms.canvas import (
    Canvas,
    CanvasRegion,
    Point,
    Wave,
    as_point,
    blend_intersection,
    blend_union,
    ellipsoid,
    rotation_matrix,
    tube,
)
from frugalseg.phantoms.patient import Patient
from frugalseg.phantoms.tissue import LABELS, TISSUES

FAT, BOWEL, HEART = (TISSUES[name] for name in ("fat", "bowel", "heart"))

ORGAN_SHAPES: dict[str, tuple[Point, Point, Point]] = {
    # part: centre mm, semi-axes mm, tilt in degrees about x, y, z
    "right lobe": ((-67, 0, 4), (80, 90, 106), (0, 0, 0)),
    "left lobe": ((-2, -45, 35), (84, 41, 37), (0, -14, 0)),
    "visceral surface": ((22, 21, -31), (48, 48, 58), (0, 0, 0)),
    "spleen": ((86, 32, 22), (38, 56, 64), (-18, 0, -24)),
    "splenic hilum": ((46, 0, 14), (27, 31, 44), (0, 0, 0)),
    "right kidney": ((-61, 36, -34), (27, 25, 54), (8, -9, 24)),
    "left kidney": ((61, 37, -20), (27, 25, 55), (8, 9, -24)),
    "fundus": ((46, -8, 46), (30, 32, 33), (0, 0, 0)),
    "stomach body": ((48, -42, 8), (27, 25, 44), (-14, -12, 0)),
    "antrum": ((18, -50, -22), (40, 17, 18), (0, -16, 0)),
    "gallbladder": ((-42, -42, -28), (15, 27, 17), (-25, 0, 12)),
    "ventricles": ((34, -34, 108), (54, 42, 46), (0, 20, -30)),
}

VESSELS: dict[str, tuple[str, float, tuple[Point, ...]]] = {
    # vessel: its HU, radius mm, path mm
    "superior mesenteric vein": ("vein", 5.5, ((2, -14, -110), (-6, -12, -50), (-8, -4, -14))),
    "superior mesenteric artery": ("aorta", 3.6, ((10, 10, 2), (10, -6, -22), (8, -14, -100))),
    "splenic vein": ("vein", 4.2, ((-8, -4, -14), (28, 2, 4), (60, 18, 16), (76, 24, 22))),
    "left renal vein": ("vein", 4.0, ((-14, 20, -12), (8, 9, -14), (36, 26, -18), (50, 32, -20))),
    "right renal vein": ("vein", 4.0, ((-22, 22, -28), (-46, 32, -34))),
    "coeliac trunk": ("aorta", 3.4, ((10, 16, 14), (10, 0, 16), (34, 2, 20))),
}

AORTA: tuple[Point, ...] = ((22, 28, 140), (14, 26, 70), (8, 23, 0), (4, 22, -75), (4, 22, -90))
ILIAC_ARTERIES: tuple[tuple[Point, ...], ...] = tuple(((4, 22, -88), (s * 26 + 2, 20, -140)) for s in (-1, 1))
VENA_CAVA: tuple[Point, ...] = ((-10, 4, 90), (-22, 8, 66), (-23, 20, 10), (-20, 23, -90))
ILIAC_VEINS: tuple[tuple[Point, ...], ...] = tuple(((-20, 23, -88), (s * 28 - 2, 27, -140)) for s in (-1, 1))

PORTAL_TREE: tuple[tuple[float, tuple[Point, ...]], ...] = (
    # radius mm, path mm
    (6.0, ((-8, -4, -14), (-30, -8, 12))),
    (4.6, ((-30, -8, 12), (-56, 2, 18), (-84, 18, 14))),
    (4.0, ((-30, -8, 12), (-20, -38, 26), (14, -52, 36))),
    (3.0, ((-56, 2, 18), (-82, -30, 22), (-96, -46, 20))),
    (2.6, ((-70, 8, 17), (-84, 20, -18), (-90, 26, -40))),
    (2.4, ((-62, -4, 18), (-80, -20, -14), (-88, -28, -36))),
    (2.2, ((-84, 18, 14), (-98, 40, 24))),
)
HEPATIC_VEINS: tuple[tuple[float, tuple[Point, ...]], ...] = (
    (4.2, ((-22, 8, 64), (-58, 14, 50), (-92, 16, 30), (-102, 10, 4))),
    (3.8, ((-22, 8, 64), (-46, -22, 48), (-64, -44, 26), (-70, -52, 2))),
    (3.4, ((-20, 6, 64), (0, -30, 50), (26, -48, 42))),
    (2.2, ((-58, 14, 50), (-84, 34, 44), (-98, 40, 40))),
)

COLON: dict[str, tuple[float, tuple[Point, ...]]] = {
    "ascending": (21, ((-86, 10, -130), (-90, 8, -95), (-84, -8, -62))),
    "transverse": (18, ((-84, -18, -62), (-52, -52, -70), (0, -63, -60), (48, -60, -46), (84, -32, -8))),
    "descending": (15, ((90, -18, -2), (99, 10, -30), (101, 14, -90), (94, 4, -135))),
}

GAS_HU = -960.0
LIVER_TIP_Z = -80.0
LIVER_VESSEL_CALIBRE = 1.2
RENAL_CORTEX_MM = 7.0
STOMACH_WALL_MM = 4.0


def _organ_geometry(patient: Patient, part: str, jitter: float = 3.0) -> tuple[Array, Array, Array]:
    centre, semi, tilt = ORGAN_SHAPES[part]
    return patient.jitter(part, centre, jitter), patient.stretch(part, semi), rotation_matrix(*tilt)


def _organ_distance(region: CanvasRegion, patient: Patient, part: str, jitter: float = 3.0) -> Array:
    centre, semi, tilt = _organ_geometry(patient, part, jitter=jitter)
    return ellipsoid(region, centre, semi, tilt)


def _organ_region(
    canvas: Canvas, patient: Patient, part: str, margin: float = 8.0, jitter: float = 3.0
) -> CanvasRegion:
    centre, semi, tilt = _organ_geometry(patient, part, jitter=jitter)
    # The box of a tilted ellipsoid.
    return canvas.region_around(centre, np.sqrt(np.square(tilt * semi).sum(axis=1)) + margin)


def _path_region(canvas: Canvas, path: Sequence[Point], margin: float) -> CanvasRegion:
    low, high = np.min(path, axis=0), np.max(path, axis=0)
    return canvas.region_around((low + high) / 2, (high - low) / 2 + margin)


def _gas_distance(region: CanvasRegion, lumen: Array, level: float) -> Array:
    """Signed distance to gas in a lumen: it fills the anterior part, down to a fluid level at `level` (scanner mm)."""
    surface = (region.axes[1] - np.float32(level))[:, None]
    return np.maximum(lumen, surface)


def _scanner_y(canvas: Canvas, place: Sequence[float] | Array) -> float:
    low, high = canvas.pose.scanner_box(np.asarray(place, float), np.zeros(3))
    return float(low[1] + high[1]) / 2


# ------------------------------------------------------------------------------------------------- bowel


def paint_bowel(canvas: Canvas, patient: Patient, trunk: Trunk) -> None:
    """Small-bowel loops, and the colon around them."""
    rng = patient.rng("small bowel")
    for x in np.linspace(-66, 70, 5):
        for z in np.linspace(-126, -28, 7):
            start = np.array((x, -28.0, z)) + rng.uniform((-14, -32, -8), (14, 30, 8))
            _paint_loop(canvas, patient, trunk, start, rng)
    for part in COLON:
        _paint_colon(canvas, patient, trunk, part)


def _paint_loop(canvas: Canvas, patient: Patient, trunk: Trunk, start: Array, rng: np.random.Generator) -> None:
    heading = rng.uniform(0, 2 * np.pi)
    path = [start]
    for _ in range(2):
        heading += rng.uniform(-1.4, 1.4)
        path.append(path[-1] + (30 * np.cos(heading), 18 * np.sin(heading), rng.uniform(-10, 10)))
    points = [as_point(p) for p in path]
    radius = float(rng.uniform(9, 14.5))
    filling = rng.random()
    region = _path_region(canvas, points, radius + 5)
    outer = tube(region, points, radius) + Wave.draw(rng, 1.6, (14, 34)).sample(region.axes)
    outer = np.maximum(outer, trunk.abdomen(region, 3.0))
    canvas.paint(region, outer - 2, patient.hu["fat"], FAT)
    canvas.paint(region, outer, patient.hu["bowel_wall"], BOWEL)
    fluid = 240.0 if patient.oral_contrast and filling < 0.6 else float(rng.uniform(12, 40))
    canvas.paint(region, outer + np.float32(2.6), fluid)
    if filling > 0.72:
        level = _scanner_y(canvas, start) - radius * rng.uniform(-0.2, 0.6)
        canvas.paint(region, _gas_distance(region, outer + np.float32(2.6), level), GAS_HU)


def _paint_colon(canvas: Canvas, patient: Patient, trunk: Trunk, part: str) -> None:
    radius, usual = COLON[part]
    rng = patient.rng(part)
    points = [as_point(np.asarray(point) + rng.uniform(-6, 6, 3)) for point in usual]
    radius *= float(rng.uniform(0.75, 1.1))
    region = _path_region(canvas, points, radius + 5)
    haustra = region.ripple(patient.ripples(part, 1.3, (22, 40)))
    outer = np.maximum(tube(region, points, radius) + haustra, trunk.abdomen(region, 2.0))
    canvas.paint(region, outer - 2, patient.hu["fat"], FAT)
    canvas.paint(region, outer, patient.hu["bowel_wall"], BOWEL)
    lumen = outer + np.float32(2.4)
    stool = region.grain(rng, 7.0)
    canvas.paint(region, lumen, float(rng.uniform(-10, 50)) + 60 * stool)
    bubbles = np.maximum(lumen + 1, np.float32(2.6) - 4 * np.abs(stool))
    canvas.paint(region, bubbles, -700.0)
    if part == "transverse" or rng.random() < 0.3:
        level = _scanner_y(canvas, points[len(points) // 2]) + rng.uniform(-0.4, 0.5) * radius
        canvas.paint(region, _gas_distance(region, lumen, level), GAS_HU)


def paint_mesentery(canvas: Canvas, patient: Patient) -> None:
    """Small vessels in the fat between the bowel loops."""
    rng = patient.rng("mesentery")
    for _ in range(16):
        root = np.array((4.0, -10.0, rng.uniform(-90, -20)))
        tip = root + rng.uniform((-62, -38, -35), (62, 22, 5))
        path = [as_point(root + (tip - root) * 0.25), as_point(tip)]
        region = _path_region(canvas, path, 4)
        distance = tube(region, path, float(rng.uniform(0.9, 2.0)))
        distance[~canvas.is_tissue(region, FAT)] = 10
        canvas.paint(region, distance, patient.hu["vein"])


# ----------------------------------------------------------------------------------- heart and vessels


def paint_heart(canvas: Canvas, patient: Patient, trunk: Trunk) -> None:
    """The heart on the diaphragm, with myocardium and blood, and the oesophagus behind it."""
    region = _organ_region(canvas, patient, "ventricles")
    outer = _organ_distance(region, patient, "ventricles") + region.ripple(patient.ripples("heart", 1.5, (50, 90)))
    outer = blend_intersection(outer, -(trunk.below_diaphragm[region.box] - 4), 10.0)
    canvas.paint(region, outer - 3, patient.hu["fat"], FAT)
    canvas.paint(region, outer, patient.hu["myocardium"], HEART)
    centre, semi, tilt = _organ_geometry(patient, "ventricles")
    left = ellipsoid(region, centre + np.array((16, 6, -2)), semi * (0.58, 0.5, 0.62), tilt)
    canvas.paint(region, np.minimum(left, blend_intersection(outer + 3, 9 - left, 4.0)), patient.hu["heart"])
    path: tuple[Point, ...] = ((8, 10, 140), (12, 10, 70), (28, 2, 52))
    region = _path_region(canvas, path, 12)
    canvas.paint(region, tube(region, path, 7.5), patient.hu["stomach_wall"], TISSUES["other"])


def paint_vessels(canvas: Canvas, patient: Patient) -> None:
    """Aorta and inferior vena cava with their iliac branches, and the large visceral vessels."""
    for tissue, radius, path in VESSELS.values():
        region = _path_region(canvas, path, radius + 3)
        canvas.paint(region, tube(region, path, radius), patient.hu[tissue], TISSUES["other"])
    rng = patient.rng("great vessels")
    calibre = rng.uniform(0.88, 1.12, 2)
    _paint_trunk_vessel(canvas, patient, "vein", "inferior_vena_cava", 10.5 * calibre[1], (VENA_CAVA, *ILIAC_VEINS))
    _paint_trunk_vessel(canvas, patient, "aorta", "aorta", 9.8 * calibre[0], (AORTA, *ILIAC_ARTERIES))


def _paint_trunk_vessel(
    canvas: Canvas, patient: Patient, tissue: str, label: str, radius: float, paths: Sequence[Sequence[Point]]
) -> None:
    main, *branches = paths
    # The label ends where the vessel divides.
    numbers = [LABELS[label]] + [TISSUES["other"]] * len(branches)
    for path, number in reversed(list(zip(paths, numbers, strict=True))):
        region = _path_region(canvas, path, radius + 3)
        calibre = radius if path is main else 0.68 * radius
        canvas.paint(region, tube(region, path, calibre), patient.hu[tissue], number)


# ---------------------------------------------------------------------------------------- upper organs


def paint_pancreas(canvas: Canvas, patient: Patient) -> None:
    """Head beside the duodenum, body across the great vessels, tail towards the spleen."""
    rng = patient.rng("pancreas")
    usual = np.array(((-24, -8, -26), (-12, -12, -8), (14, -14, 4), (44, -2, 10), (70, 16, 18)))
    path = [as_point(point) for point in usual + rng.uniform(-3, 3, usual.shape)]
    region = _path_region(canvas, path, 20)
    lobules = region.ripple(patient.ripples("pancreas", 1.3, (12, 26)))
    canvas.paint(region, tube(region, path, 11.5) + lobules, patient.hu["pancreas"] + 4 * lobules, LABELS["pancreas"])
    duodenum: tuple[Point, ...] = ((-30, -30, -14), (-44, -8, -30), (-42, 2, -62), (-8, 6, -70))
    region = _path_region(canvas, duodenum, 14)
    outer = tube(region, duodenum, 11.0)
    canvas.paint(region, outer, patient.hu["bowel_wall"], BOWEL)
    canvas.paint(region, outer + 3, 25.0)


def paint_stomach(canvas: Canvas, patient: Patient, trunk: Trunk) -> None:
    """Fundus, body and antrum, filled with fluid or oral contrast and, above the fluid level, gas."""
    region = canvas.region_around((38, -20, 14), (72, 64, 78))
    parts = [_organ_distance(region, patient, part) for part in ("fundus", "stomach body", "antrum")]
    outer = blend_union(blend_union(parts[0], parts[1], 22.0), parts[2], 20.0)
    outer += region.ripple(patient.ripples("stomach", 1.6, (35, 80)))
    outer = blend_intersection(outer, trunk.abdomen(region, 4.0), 8.0)
    rng = patient.rng("stomach content")
    canvas.paint(region, outer - 3, patient.hu["fat"], FAT)
    canvas.paint(region, outer, patient.hu["stomach_wall"], LABELS["stomach"])
    folds = region.ripple(patient.ripples("rugae", 1.0, (14, 28)))
    lumen = outer + np.float32(STOMACH_WALL_MM) + folds
    meal = float(rng.uniform(8, 40)) * region.grain(rng, 7.0)
    canvas.paint(region, lumen, (230.0 if patient.oral_contrast else float(rng.uniform(10, 55))) + meal)
    level = _scanner_y(canvas, (48, float(rng.uniform(-50, -22)), 10))
    canvas.paint(region, _gas_distance(region, lumen, level), GAS_HU)


def paint_spleen(canvas: Canvas, patient: Patient, trunk: Trunk) -> None:
    """A crescent between diaphragm, stomach and left kidney; mottled in the arterial phase."""
    region = _organ_region(canvas, patient, "spleen", 10)
    outer = _organ_distance(region, patient, "spleen") + region.ripple(patient.ripples("spleen", 1.8, (40, 90)))
    outer = blend_intersection(outer, trunk.abdomen(region, 3.0), 8.0)
    outer = blend_intersection(outer, -_organ_distance(region, patient, "splenic hilum"), 10.0)
    mottle: float | Array = 0.0
    if patient.phase == "arterial":
        mottle = 22 * region.grain(patient.rng("spleen mottle"), 12.0)
    canvas.paint(region, outer - 2, patient.hu["fat"], FAT)
    canvas.paint(region, outer, patient.hu["spleen"] + mottle, LABELS["spleen"])


def paint_liver(canvas: Canvas, patient: Patient, trunk: Trunk) -> None:
    """Right and left lobe under the diaphragm with an indented visceral surface, vessels, and sometimes lesions."""
    region = canvas.region_around((-30, -8, 5), (120, 100, 105))
    outer = _liver_surface(region, patient, trunk)
    parenchyma = 6 * region.grain(patient.rng("parenchyma"), 16.0)
    canvas.paint(region, outer, patient.hu["liver"] + parenchyma, LABELS["liver"])
    for radius, path in PORTAL_TREE + HEPATIC_VEINS:
        _paint_liver_vessel(canvas, patient, radius * LIVER_VESSEL_CALIBRE, path)
    for radius, path in _draw_twigs(patient):
        _paint_liver_vessel(canvas, patient, radius, path)
    _paint_lesions(canvas, patient)


def _liver_surface(region: CanvasRegion, patient: Patient, trunk: Trunk) -> Array:
    lobes = blend_union(
        _organ_distance(region, patient, "right lobe", 5), _organ_distance(region, patient, "left lobe", 5), 26.0
    )
    lobes += region.ripple(patient.ripples("liver", 2.2, (60, 130)))
    lobes = blend_intersection(lobes, -_organ_distance(region, patient, "visceral surface", 5), 18.0)
    lobes = blend_intersection(lobes, _above_margin(region, patient), 16.0)
    return blend_intersection(lobes, trunk.abdomen(region, 2.5), 7.0)


def _above_margin(region: CanvasRegion, patient: Patient) -> Array:
    """Signed distance to the space above the lower margin, which descends from the left lobe to the right flank."""
    rng = patient.rng("liver margin")
    fall = np.deg2rad(rng.uniform(36, 48))
    # Curved outwards, so that the margin is not a plane.
    sag = np.square((region.x + 60) / 60) * 5
    height = region.z - np.float32(rng.uniform(-66, -42)) + sag
    slanted = np.float32(np.sin(fall)) * (region.x + 50) - np.float32(np.cos(fall)) * height
    slanted += np.float32(0.12) * region.y
    return blend_intersection(slanted, LIVER_TIP_Z - region.z, 16.0)


def _draw_twigs(patient: Patient) -> list[tuple[float, tuple[Point, ...]]]:
    """Side branches of the liver vessels: radius and path, mm."""
    rng = patient.rng("liver twigs")
    twigs: list[tuple[float, tuple[Point, ...]]] = []
    for _, path in PORTAL_TREE[1:] + HEPATIC_VEINS:
        for knot in path[1:]:
            tip = np.asarray(knot) + rng.uniform((-30, -30, -24), (6, 26, 20))
            twigs.append((float(rng.uniform(1.2, 2.3)), (knot, as_point(tip))))
    return twigs


def _paint_liver_vessel(canvas: Canvas, patient: Patient, radius: float, path: Sequence[Point]) -> None:
    region = _path_region(canvas, path, radius + 3)
    taper = 1 - np.float32(0.004) * np.abs(region.x + 30)
    distance = tube(region, path, np.float32(radius) * taper)
    inside = canvas.is_tissue(region, LABELS["liver"])
    distance[~inside] = 10
    canvas.paint(region, distance, patient.hu["liver_vessel"])


def _paint_lesions(canvas: Canvas, patient: Patient) -> None:
    """Up to three cysts or hypodense metastases, labelled as liver."""
    rng = patient.rng("lesions")
    for _ in range(int(rng.choice(4, p=(0.45, 0.25, 0.2, 0.1)))):
        centre, radius = rng.uniform((-100, -40, -30), (-20, 30, 50)), rng.uniform(4, 13)
        hu = 8.0 if rng.random() < 0.5 else patient.hu["liver"] - rng.uniform(25, 50)
        region = canvas.region_around(centre, (radius * 1.3,) * 3)
        distance = ellipsoid(region, centre, radius * rng.uniform(0.85, 1.15, 3))
        distance[~canvas.is_tissue(region, LABELS["liver"])] = 10
        canvas.paint(region, distance, hu)


def paint_gallbladder(canvas: Canvas, patient: Patient, trunk: Trunk) -> None:
    """The pear-shaped gallbladder under the liver."""
    region = _organ_region(canvas, patient, "gallbladder")
    outer = blend_intersection(_organ_distance(region, patient, "gallbladder"), trunk.abdomen(region, 5.0), 4.0)
    canvas.paint(region, outer - 1.5, patient.hu["stomach_wall"], TISSUES["other"])
    canvas.paint(region, outer, patient.hu["gallbladder"], LABELS["gallbladder"])


def paint_kidneys(canvas: Canvas, patient: Patient) -> None:
    """Both kidneys in perirenal fat: cortex, pyramids, and sinus fat towards the midline."""
    for side, sign in (("right", -1), ("left", 1)):
        part = f"{side} kidney"
        region = _organ_region(canvas, patient, part, 14)
        outer = _organ_distance(region, patient, part) + region.ripple(patient.ripples(part, 1.0, (28, 60)))
        centre, semi, tilt = _organ_geometry(patient, part)
        sinus = ellipsoid(region, centre - sign * tilt[:, 0] * semi[0] * 0.55, semi * (0.62, 0.42, 0.5), tilt)
        kidney = blend_intersection(outer, -sinus, 4.0)
        canvas.paint(region, outer - 7, patient.hu["fat"], FAT)
        canvas.paint(region, kidney, patient.hu["kidney_cortex"], LABELS[f"{side}_kidney"])
        columns = region.ripple(patient.ripples(part + " pyramids", 3.0, (16, 26)))
        pyramids = blend_intersection(kidney + RENAL_CORTEX_MM, columns, 2.0)
        canvas.paint(region, pyramids, patient.hu["kidney_medulla"])
