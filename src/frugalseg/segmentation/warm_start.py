"""Warm start: a training that begins with the weights of an earlier one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from frugalseg.dataset.store import SliceStore
from frugalseg.engine.files import sha256
from frugalseg.errors import OptionError, SplitError
from frugalseg.models.blocks import MaskNetwork
from frugalseg.models.saved import WEIGHTS, load_weights, read_network_record
from frugalseg.models.weight_files import load_strictly
from frugalseg.options import FinetuneOptions
from frugalseg.records.model import InitialModel, ScanRole, SegmenterRecord
from frugalseg.records.split import Split
from frugalseg.segmentation.architecture import Architecture

CURE = "leave out --init, or give a model of the same backbone and organs"


@dataclass(frozen=True)
class WarmStart:
    """A trained model whose weights a training starts from.

    Attributes:
        run: its folder.
        model: its model.json.
    """

    run: Path
    model: SegmenterRecord

    @classmethod
    def open(
        cls, options: FinetuneOptions, store: SliceStore, split: Split, architecture: Architecture
    ) -> WarmStart | None:
        """The model of --init, checked; None without one.

        Raises:
            RunError: it is missing, unfinished or damaged.
            OptionError: it has another backbone, other organs or other intensities.
            SplitError: it was trained on scans that are held out here, or chosen by test scans.
        """
        if options.init is None:
            return None
        start = cls(options.init, read_network_record(SegmenterRecord, options.init))
        start._check_fit(store, architecture)
        start._check_leakage(store, split, options.transductive)
        return start

    def _check_fit(self, store: SliceStore, architecture: Architecture) -> None:
        model = self.model
        if list(model.targets) != list(store.targets):
            raise OptionError(
                f"--init {self.run} segments {', '.join(model.targets)}; {store.folder} has labels of "
                f"{', '.join(store.targets)}",
                CURE,
            )
        frozen = architecture.frozen_encoder
        signatures = [None if one is None else one.signature for one in (model.frozen_encoder, frozen)]
        if signatures[0] != signatures[1] or (frozen is None and model.backbone != architecture.backbone):
            raise OptionError(
                f"--init {self.run} has the backbone {model.backbone}, this training {architecture.backbone}", CURE
            )
        if model.preprocessing.intensity != store.intensity:
            raise OptionError(
                f"--init {self.run} expects intensities scaled by {asdict(model.preprocessing.intensity)}, the store "
                f"has {asdict(store.intensity)}",
                "prepare the store with the same window",
            )

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
                    f"--init {self.run} has used scans that are held out here: {', '.join(names[:5])}",
                    "use the split of its training, or leave out --init",
                )

    def load_into(self, network: MaskNetwork) -> None:
        """Load its weights; raises `RunError` where they do not fit the network, for example for another norm."""
        load_strictly(network, load_weights(self.run), self.run / WEIGHTS, "this training's network", cure=CURE)

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
    def record(self) -> InitialModel:
        """The model, for the record; its masks with those of the models that it started from itself."""
        before = self.model.initial_model
        masks = self.model.annotation.masks + (before.masks if before else 0)
        return InitialModel(str(self.run.absolute()), self.weights_sha256, masks)
