"""The tissues of a phantom: their numbers and their Hounsfield units in each contrast phase."""

from __future__ import annotations

LABELS: dict[str, int] = {
    "spleen": 1,
    "right_kidney": 2,
    "left_kidney": 3,
    "stomach": 4,
    "gallbladder": 5,
    "liver": 6,
    "aorta": 8,
    "inferior_vena_cava": 9,
    "pancreas": 11,
}
"""Organ → value in the label volume."""

TISSUES: dict[str, int] = LABELS | {
    "fat": 32,
    "muscle": 33,
    "bone": 34,
    "lung": 35,
    "heart": 36,
    "bowel": 37,
    "other": 38,
}
"""Tissue → number on the canvas; tissues that are not in `LABELS` are background in the label volume."""

PHASES = ("native", "arterial", "portal")
PHASE_SHARE = (0.2, 0.25, 0.55)
"""Probability of each phase: most abdominal scans are portal venous."""

HU_BY_PHASE: dict[str, tuple[float, float, float]] = {
    # tissue: native, arterial, portal venous
    "liver": (57, 72, 107),
    "liver_vessel": (43, 90, 150),
    "spleen": (48, 112, 120),
    "kidney_cortex": (32, 165, 178),
    "kidney_medulla": (30, 72, 145),
    "pancreas": (42, 98, 92),
    "aorta": (42, 285, 152),
    "vein": (42, 75, 138),
    "heart": (43, 215, 140),
    "myocardium": (45, 95, 105),
    "stomach_wall": (40, 72, 82),
    "bowel_wall": (38, 78, 86),
    "muscle": (52, 56, 60),
    "gallbladder": (8, 8, 9),
    "skin": (25, 30, 35),
    "fat": (-104, -104, -102),
    "cortical_bone": (560, 560, 570),
    "marrow": (165, 170, 190),
    "disc": (75, 80, 85),
    "cartilage": (95, 98, 100),
    "canal": (22, 25, 28),
    "lung": (-850, -845, -840),
}

HU_SPREAD: dict[str, float] = {"liver": 6, "spleen": 6, "marrow": 40, "aorta": 18, "lung": 20, "muscle": 4, "fat": 5}
"""Largest deviation of one patient from the table, HU; 3 for other tissues."""
