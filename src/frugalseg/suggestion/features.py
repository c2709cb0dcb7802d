"""Features of slices, by which it is judged which look alike; kept in a cache on request."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np

from frugalseg.dataset.descriptors import Features, describe_slices
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.files import atomic_write, sha256
from frugalseg.engine.progress import progress
from frugalseg.errors import OptionError, StoreError
from frugalseg.options import SuggestOptions
from frugalseg.suggestion.candidates import Rows

SLICES_AT_ONCE = 32


def compute_features(store: SliceStore, rows: Rows, options: SuggestOptions) -> Features:
    """Features (R, D) of these slices: the embedding of `options.encoder`, or small copies of the slices.

    Raises:
        RunError, OptionError: the encoder cannot be read, or expects another intensity scaling.
        StoreError: the cache is a file.
    """
    path = None if options.cache is None else _cache_path(options.cache, store, rows, options.encoder)
    if path is not None and (kept := _read(path, len(rows))) is not None:
        return kept
    features = (
        describe_slices(store.images, rows)
        if options.encoder is None
        else _embed(store, rows, options.encoder, options)
    )
    if path is not None:
        with atomic_write(path) as file:
            np.save(file, features, allow_pickle=False)
    return features


def _cache_path(folder: Path, store: SliceStore, rows: Rows, encoder: Path | None) -> Path:
    """The file of these features: its name contains a hash of everything that they depend on."""
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"--cache {folder} is a file", "give a folder")
    digest = hashlib.sha256(store.record.identity().encode())
    digest.update(rows.tobytes())
    if encoder is not None:
        from frugalseg.models.saved import WEIGHTS

        digest.update(sha256(encoder / WEIGHTS).encode())
    return folder / f"features-{digest.hexdigest()[:20]}.npy"


def _read(path: Path, count: int) -> Features | None:
    """The features in the cache; None where there are none. A damaged file counts as missing, with a warning."""
    if not path.is_file():
        return None
    try:
        found: Features = np.load(path, allow_pickle=False)
        if found.ndim != 2 or len(found) != count or not np.isfinite(found).all():
            raise ValueError(f"its shape is {found.shape}")
    except (OSError, EOFError, ValueError, TypeError) as error:
        warnings.warn(f"{path} is damaged ({error}); the features are computed again", stacklevel=2)
        return None
    return found


def _embed(store: SliceStore, rows: Rows, run: Path, options: SuggestOptions) -> Features:
    import torch

    from frugalseg.dataset.source import SliceSource
    from frugalseg.engine.device import find_device
    from frugalseg.models.registry import build_segmenter, input_channels
    from frugalseg.models.saved import load_encoder, read_network_record
    from frugalseg.records.networks import EncoderRecord

    record = read_network_record(EncoderRecord, run)
    if record.preprocessing.intensity != store.intensity:
        raise OptionError(
            f"--encoder {run} expects another intensity scaling than that of {store.folder}",
            "give an encoder that was pre-trained on this store, or leave out --encoder",
        )
    device = find_device(options.device)
    inputs = input_channels(record.context)
    encoder = build_segmenter(record.backbone, 1, record.norm, inputs=inputs, device=device).encoder
    load_encoder(encoder, run)
    encoder.to(device).eval()
    source = SliceSource(store, device, with_labels=False, rows=rows, context=record.context)
    parts = []
    with torch.inference_mode(), progress("embedding", len(rows), "slices") as bar:
        for batch in source.stream(torch.split(torch.from_numpy(rows), SLICES_AT_ONCE)):
            vectors = encoder.embed(encoder(batch.images)).float()
            parts.append(torch.nn.functional.normalize(vectors, dim=1).cpu())
            bar.advance(len(vectors))
    embedded: Features = torch.cat(parts).numpy()
    return embedded
