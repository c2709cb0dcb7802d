"""Masks and organ presence on the validation patients: for choosing the model, not results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from frugalseg.dataset.source import SliceSource
from frugalseg.dataset.store import SliceStore
from frugalseg.options import Precision
from frugalseg.sam_mix.evaluate import detection_figures
from frugalseg.sam_mix.features import Features
from frugalseg.sam_mix.model import MixModel, assign_classes
from frugalseg.sam_mix.scan import Maps, ScanSegmenter
from frugalseg.segmentation.validate import ValidationSet

SLICES_AT_ONCE = 8
INTERPOLATION_FACTORS = (0.75, 0.5, 0.25)
"""Candidate interpolation factors from the base's weights (0) to the trained ones (1), besides 1."""


@dataclass(frozen=True)
class MixValidation(ValidationSet):
    """The labelled volumes of the validation patients, prompted by the classifier only.

    Attributes:
        features: maps of the frozen encoder by row, or None where the encoder is trained.
        scan_boxes: for each organ whether it is segmented with boxes from the scan, see `ScanSegmenter`; empty: none.
    """

    features: Features | None = None
    scan_boxes: tuple[bool, ...] = ()

    @classmethod
    def with_features(
        cls,
        store: SliceStore,
        patients: tuple[str, ...],
        source: SliceSource,
        precision: Precision,
        features: Features | None,
    ) -> MixValidation:
        """All labelled scans of `patients`."""
        plain = ValidationSet.from_store(store, patients, source, precision)
        return cls(store, source, plain.cases, precision, features)

    @torch.inference_mode()
    def predict(self, model: nn.Module, case: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Predicted and reference classes of one volume, (Z, S, S)."""
        predicted, reference, _ = self._predict_all(model, case)
        return predicted, reference

    def evaluate(self, model: MixModel) -> dict[str, float]:
        """Dice per volume as in `ValidationSet.dice`, and for each organ how well its slices are detected."""
        predictions = [self._predict_all(model, case) for case in self._iterate_cases("validation", list(self.cases))]
        if not predictions:
            return {}
        table = [self._dice(predicted, reference) for predicted, reference, _ in predictions]
        figures = self._means(np.array(table, dtype=float).reshape(-1, len(self.store.targets)))
        probabilities = np.concatenate([p for _, _, p in predictions])
        for i, organ in enumerate(self.store.targets):
            present = np.concatenate([(reference == i + 1).any(axis=(1, 2)) for _, reference, _ in predictions])
            detection = detection_figures(probabilities[:, i], present)
            for name in ("auroc", "accuracy", "sensitivity", "specificity"):
                value = detection[name]
                if value is not None:
                    figures[f"{name}_{organ}"] = float(value)
        return figures

    def interpolate_to_base(
        self, model: MixModel, base_state: Mapping[str, Tensor], trained: Mapping[str, float]
    ) -> tuple[float, Mapping[str, float]]:
        """Set the branch to the interpolation of the base's and the trained weights with the highest Dice.

        With few masks a decoder overfits to their scans; interpolation towards the base preserves its generalisation
        (WiSE-FT, arXiv 2109.01903, eq. 1). LoRA's change B·A starts at B = 0, so only B is interpolated.

        Args:
            model: trained; its branch is changed.
            base_state: `model.branch.state_dict()` from before the training.
            trained: validation figures of the trained model, as `evaluate` gives them; at least its "score".

        Returns:
            the factor, 1 or one of `INTERPOLATION_FACTORS`, and its validation figures.
        """
        learned = {name: value.clone() for name, value in model.branch.state_dict().items()}

        def move_to(factor: float) -> None:
            start = {name: learned[name] if "lora_A" in name else base_state[name] for name in learned}
            model.branch.load_state_dict({name: torch.lerp(start[name], learned[name], factor) for name in learned})

        figures = {1.0: trained}
        for factor in INTERPOLATION_FACTORS:
            move_to(factor)
            figures[factor] = self.evaluate(model)
        best = max(figures, key=lambda factor: figures[factor]["score"])
        move_to(best)
        return best, figures[best]

    def choose_scan_boxes(self, model: MixModel) -> dict[str, bool]:
        """Organ → whether its mean Dice is higher with boxes from the scan's first masks.

        Only scans labelled as a whole count.
        """
        organs = list(self.store.targets)
        dice = np.zeros((2, len(organs)))
        for case in self._iterate_cases("choosing the boxes", self.find_whole_cases()):
            for row, wanted in zip(dice, (False, True), strict=True):
                judged = replace(self, scan_boxes=(wanted,) * len(organs))
                row += np.nan_to_num(self._dice(*judged.predict(model, case)))
        return dict(zip(organs, (dice[1] > dice[0]).tolist(), strict=True))

    @torch.inference_mode()
    def _predict_all(
        self, model: nn.Module, case: str
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
        """Predicted and reference classes of one volume, and the probability of each organ in each slice (Z, K)."""
        assert isinstance(model, MixModel)
        rows = self.cases[case]
        maps = None if self.features is None else self._cached_maps(rows)
        segmenter = ScanSegmenter(
            model,
            self.precision,
            lambda slices: self.source.gather(rows[slices]).images,
            len(rows),
            SLICES_AT_ONCE,
            maps,
        )
        found = list(segmenter.with_scan_boxes(self.scan_boxes) if any(self.scan_boxes) else segmenter.by_slice())
        predicted = [assign_classes(masks.planes, masks.scores).cpu().numpy() for masks in found]
        present = [masks.present.cpu().double().numpy() for masks in found]
        reference = [self.source.gather(part).labels for part in torch.split(rows, SLICES_AT_ONCE)]
        labels = [each.cpu().numpy() for each in reference if each is not None]
        return np.concatenate(predicted), np.concatenate(labels), np.concatenate(present)

    def _cached_maps(self, rows: Tensor) -> Maps:
        features, device = self.features, self.source.device
        assert features is not None
        return lambda slices: features(rows[slices]).to(device)
