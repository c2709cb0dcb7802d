"""The network of a trained model as a file that other programs load: ONNX or TorchScript."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugalseg.engine.files import atomic_write
from frugalseg.errors import OptionError
from frugalseg.segmentation.losses import add_background

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]
"""Squares (N, 2·context + 1, S, S) → probabilities (N, 1 + C, S, S)."""

OPSET = 17
"""Version of ONNX's operators, which onnxruntime knows since 1.12 (2022)."""
INPUT, OUTPUT = "slices", "probabilities"


class WithBackground(nn.Module):
    """A segmenter whose output needs no explanation: probabilities of all classes, the background's first."""

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, slices: Tensor) -> Tensor:
        """(N, 2·context + 1, S, S) in [0, 1] → (N, 1 + C, S, S), whose sum over the classes is 1."""
        return F.softmax(add_background(self.segmenter(slices)), dim=1)


def save_onnx(network: nn.Module, example: Tensor, path: Path) -> Run:
    """Write `network` as ONNX, for any number of slices, and load the file again.

    Raises:
        OptionError: onnx or onnxruntime is not installed.
    """
    try:
        import onnx  # noqa: F401 - the exporter needs it
        import onnxruntime
    except ImportError as error:
        raise OptionError(
            f"--format onnx needs {error.name}, which is not installed", 'install "frugalseg[onnx]"'
        ) from error
    content = io.BytesIO()
    with _ignore_tracer_warnings():
        torch.onnx.export(
            network,
            (example,),
            content,  # type: ignore[arg-type]  # a file is allowed too
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )
    with atomic_write(path) as file:
        file.write(content.getvalue())
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return lambda slices: np.asarray(session.run([OUTPUT], {INPUT: slices})[0])


def save_torchscript(network: nn.Module, example: Tensor, path: Path) -> Run:
    """Write `network` as TorchScript, for any number of slices, and load the file again."""
    content = io.BytesIO()
    with _ignore_tracer_warnings():
        traced = torch.jit.trace(network, example)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, content)
    with atomic_write(path) as file:
        file.write(content.getvalue())
    loaded = torch.jit.load(path)  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def run(slices: Floats) -> Floats:
        found: Floats = loaded(torch.from_numpy(slices)).numpy()
        return found

    return run


@contextmanager
def _ignore_tracer_warnings() -> Iterator[None]:
    """Sizes become constants, as they are meant to: every exported network has slices of one size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
