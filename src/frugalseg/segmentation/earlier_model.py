"""A model of an earlier fine-tuning that a training uses: its weights to start from, or its masks to learn from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from frugalseg.dataset.store import SliceStore
from frugalseg.engine.files import sha256
from frugalseg.errors import OptionError, SplitError
from frugalseg.models.blocks import MaskNetwork
from frugalseg.models.saved import WEIGHTS, load_weights, read_network_record
from frugalseg.models.weight_files import load_strictly
from frugalseg.options import Precision
from frugalseg.records.model import ScanRole, UsedModel
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.split import Split
from frugalseg.segmentation.architecture import Architecture, recorded_architecture


@dataclass(frozen=True)
class EarlierModel:
    """A trained model that a training uses.

    Attributes:
        run: its folder.
        model: its model.json.
        option: that it was given by, for messages.
    """

    run: Path
    model: SegmenterRecord
    option: str

    @classmethod
    def open(cls, run: Path, option: str, store: SliceStore, split: Split, transductive: bool) -> EarlierModel:
        """The model of a run, checked.

        Raises:
            RunError: it is missing, unfinished or damaged.
            OptionError: it has other organs or other intensities than the store.
            SplitError: it was trained on scans that are held out here, or chosen by test scans.
        """
        model = cls(run, read_network_record(SegmenterRecord, run), option)
        model._check_store(store)
        model._check_leakage(store, split, transductive)
        return model

    @property
    def _cure(self) -> str:
        return f"leave out {self.option}, or give a model of this training's kind and organs"

    def _check_store(self, store: SliceStore) -> None:
        if list(self.model.targets) != list(store.targets):
            raise OptionError(
                f"{self.option} {self.run} segments {', '.join(self.model.targets)}; {store.folder} has labels of "
                f"{', '.join(store.targets)}",
                self._cure,
            )
        if self.model.preprocessing.intensity != store.intensity:
            raise OptionError(
                f"{self.option} {self.run} expects intensities scaled by "
                f"{asdict(self.model.preprocessing.intensity)}, the store has {asdict(store.intensity)}",
                "prepare the store with the same window",
            )

    def check_architecture(self, architecture: Architecture) -> None:
        """Raise `OptionError` unless networks of this architecture can start from its weights."""
        frozen = architecture.frozen_encoder
        signatures = [None if one is None else one.signature for one in (self.model.frozen_encoder, frozen)]
        if signatures[0] != signatures[1] or (frozen is None and self.model.backbone != architecture.backbone):
            raise OptionError(
                f"{self.option} {self.run} has the backbone {self.model.backbone}, this training "
                f"{architecture.backbone}",
                self._cure,
            )

    def check_context(self, context: int) -> None:
        """Raise `OptionError` unless it sees as many neighbours as this training's networks."""
        if self.model.context != context:
            raise OptionError(
                f"{self.option} {self.run} has a context of {self.model.context}, this training of {context}",
                f"give --context {self.model.context}",
            )

    def check_size(self, store: SliceStore) -> None:
        """Raise `OptionError` unless it was trained on slices of the store's size: in others, organs have another size
        than it knows."""
        size = self.model.preprocessing.size
        if size != store.size:
            raise OptionError(
                f"{self.option} {self.run} was trained on slices of {size} pixels, the store has {store.size}",
                f"prepare the store with --size {size}, or leave out {self.option}",
            )

    def find_architecture(self, device: torch.device, precision: Precision, cache: Path | None) -> Architecture:
        """Its architecture, with cached features if it has a frozen encoder; raises as `recorded_architecture`."""
        used = None if self.model.frozen_encoder is None else cache
        return recorded_architecture(self.model, self.run, device, precision, cache=used)

    def _check_leakage(self, store: SliceStore, split: Split, transductive: bool) -> None:
        """No scan may be held out here whose mask the model knows, or without --transductive whose voxels it knows."""
        allowed = {"test", "unused", "new"} | ({"pretrain"} if transductive else set())
        role_of = {scan.fingerprint: scan.role for scan in self.model.scans}
        for part, roles in ((split.test, allowed), (split.validation, allowed | {"validation"})):
            held_out = store.fingerprints_of_patients(set(part))
            names = sorted(
                scan.case
                for scan in store.record.scans
                if scan.fingerprint in held_out and role_of.get(scan.fingerprint, "new") not in roles
            )
            if names:
                raise SplitError(
                    f"{self.option} {self.run} has used scans that are held out here: {', '.join(names[:5])}",
                    f"use the split of its training, or leave out {self.option}",
                )

    def load_into(self, network: MaskNetwork) -> None:
        """Load its weights; raises `RunError` where they do not fit the network, for example for another norm."""
        load_strictly(network, load_weights(self.run), self.run / WEIGHTS, "this training's network", cure=self._cure)

    def add_roles(self, scans: tuple[ScanRole, ...]) -> tuple[ScanRole, ...]:
        """The roles of a training's scans, with those of the scans that this model has used; see `scan_roles`."""
        used = {scan.fingerprint: scan.role for scan in self.model.scans if scan.role in ("train", "pretrain")}
        known = {scan.fingerprint for scan in scans}

        def combine(scan: ScanRole) -> ScanRole:
            before = used.get(scan.fingerprint, scan.role)
            return scan if scan.role == "train" else replace(scan, role=before)

        elsewhere = (ScanRole("", seen, role) for seen, role in sorted(used.items()) if seen not in known)
        return (*map(combine, scans), *elsewhere)

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of its weights."""
        return sha256(self.run / WEIGHTS)

    @property
    def record(self) -> UsedModel:
        """The model, for the record; its masks with those of the models that it used itself."""
        before = filter(None, (self.model.initial_model, self.model.teacher))
        masks = self.model.annotation.masks + sum(model.masks for model in before)
        return UsedModel(str(self.run.absolute()), self.weights_sha256, masks)
