"""The process that runs the promptable model: answers prompts, and embeds slices ahead of them.

It is a process of its own so that encoding a slice never delays the server, and so that the server imports no PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from frugalseg.annotation.ahead import Ahead
from frugalseg.annotation.prompt_requests import Focus, OpenScan, PromptAnswer, PromptRequest
from frugalseg.dataset.modality import fill_intensity, to_intensity_scale
from frugalseg.engine.device import find_device
from frugalseg.errors import FrugalsegError
from frugalseg.imaging.mapped import map_volume, sample_planes
from frugalseg.imaging.modality import guess_modality, read_declared_modality
from frugalseg.options import PropagateOptions
from frugalseg.promptable.batches import Batches
from frugalseg.promptable.embeddings import Embedder, ScanSlices
from frugalseg.promptable.load import load_promptable
from frugalseg.promptable.protocol import Embedding, Promptable, Prompts

AHEAD = 24
"""Slices on each side of the one on screen that are embedded ahead."""


class CachingEmbedder(Embedder):
    """An embedder for `Ahead`: the embeddings are kept in its cache."""

    def embed(self, z: int) -> None:
        """See `SliceEmbedder.embed`."""
        if self.cache is None or not self.cache.has(z):
            self([z])


@dataclass(eq=False)
class _Work:
    """The model, and the embedder of the scan that was used last.

    Attributes:
        last: the model's last logits of a slice: slice → (1, side, side).
    """

    model: Promptable
    cache: Path
    scan: OpenScan | None = None
    embedder: CachingEmbedder | None = None
    last: dict[int, torch.Tensor] = field(default_factory=dict)
    ahead: Ahead = field(default_factory=Ahead)

    def open(self, scan: OpenScan) -> CachingEmbedder:
        if self.embedder is None or scan != self.scan:
            volume = map_volume(scan.path, scan.kept)
            kind = (read_declared_modality(scan.path) or guess_modality(sample_planes(volume).array)).kind
            # As `propagate` scales it, so that both use the same embeddings.
            given = PropagateOptions(images=scan.path, out=scan.path, annotations=scan.path)
            slices = ScanSlices.of(volume, to_intensity_scale(fill_intensity(given, kind or "mr")))
            self.embedder = CachingEmbedder(self.model, slices, self.cache, Batches(1, "slices"))
            self.scan, self.last = scan, {}
        return self.embedder

    @torch.inference_mode()
    def answer(self, request: PromptRequest) -> PromptAnswer:
        embedder = self.open(request.scan)
        with self.ahead.paused_for(embedder, request.slice):
            embedding = embedder([request.slice])
            return self._decode(request, embedder, embedding)

    def _decode(self, request: PromptRequest, embedder: Embedder, embedding: Embedding) -> PromptAnswer:
        earlier = self.last.get(request.slice) if request.previous else None
        candidates = self.model.decode(embedding, _make_prompts(request, embedder, earlier))
        logits, scores = candidates.best()
        self.last[request.slice] = logits
        mask = (embedder.frame.masks_to_slice(logits)[0] > 0).to(torch.uint8).numpy()
        return PromptAnswer(mask, float(scores[0]))


def run_worker(connection: Connection, model: str, device: str, threads: int | None, cache: Path) -> None:
    """Answer requests until the connection is closed."""
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        work = _Work(load_promptable(model, find_device(device)), cache)
    except FrugalsegError as error:
        connection.send(PromptAnswer(message=error.problem, hint=error.cure))
        return
    connection.send(PromptAnswer())
    with suppress(EOFError, OSError):  # the server has ended, or closed the connection
        while True:
            request = connection.recv()
            if isinstance(request, Focus):
                _look_at(work, request)
            else:
                connection.send(_answer_safely(work, request))
    work.ahead.close()


def _look_at(work: _Work, focus: Focus) -> None:
    """Embed the slices around the one on screen; none of a scan that the model cannot use: a prompt on it says why."""
    with suppress(FrugalsegError):
        embedder = work.open(focus.scan)
        work.ahead.look_at(embedder, _order_around(focus.slice, len(embedder.scan)))


def _answer_safely(work: _Work, request: PromptRequest) -> PromptAnswer:
    try:
        return work.answer(request)
    except FrugalsegError as error:
        return PromptAnswer(message=error.problem, hint=error.cure)


def _order_around(z: int, depth: int) -> Iterator[int]:
    """Slice `z`, then its neighbours outwards."""
    yield z
    for distance in range(1, AHEAD + 1):
        yield from (near for near in (z + distance, z - distance) if 0 <= near < depth)


def _make_prompts(request: PromptRequest, embedder: Embedder, earlier: torch.Tensor | None) -> Prompts:
    frame = embedder.frame
    scale = torch.tensor([frame.columns / frame.width, frame.rows / frame.height])
    boxes = None if request.box is None else frame.boxes_to_model(torch.tensor([request.box]))
    points = labels = None
    if request.points:
        points = torch.tensor([[[column, row] for column, row, _ in request.points]]).float() * scale
        labels = torch.tensor([[label for *_, label in request.points]])
    return Prompts(torch.zeros(1, dtype=torch.int64), boxes, points, labels, earlier)
