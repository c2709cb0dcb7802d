"""`frugalseg export`: a trained model as a folder that other programs use without frugalseg."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from frugalseg.engine.files import check_out, sha256
from frugalseg.engine.lock import lock_folder
from frugalseg.engine.progress import say
from frugalseg.engine.threads import with_threads
from frugalseg.errors import FrugalsegError, OptionError, RunError, disk_errors
from frugalseg.models.saved import WEIGHTS, read_network_record
from frugalseg.options import ExportFormat, ExportOptions
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.recipe import ExportRecipe
from frugalseg.segmentation.model import load_segmenter
from frugalseg.sharing import processing
from frugalseg.sharing.agreement import compare, describe_check
from frugalseg.sharing.bundle import BUNDLE_MODEL, BUNDLE_RECIPE, write_bundle
from frugalseg.sharing.network import Run, WithBackground, save_onnx, save_torchscript
from frugalseg.sharing.recipe import make_recipe, read_squares
from frugalseg.sharing.scan_of_run import find_scan

RECIPE_FILE = "recipe.json"
STANDALONE = Path(__file__).parent / "standalone"
"""Files that are copied into exports; nothing of this program imports them."""
EXAMPLE_SLICES = 2
"""In the batch that traces a network: with one, batch sizes would become constants."""


@dataclass(frozen=True)
class ExportKind:
    """A format of exports.

    Attributes:
        model: path of the network in the folder.
        recipe: path of recipe.json there.
        save: writes the network and loads it again.
        write_programs: writes the rest.
    """

    model: str
    recipe: str
    save: Callable[[nn.Module, torch.Tensor, Path], Run]
    write_programs: Callable[[Path, ExportRecipe], None]


def _copy_program(name: str) -> Callable[[Path, ExportRecipe], None]:
    """Write processing.py and an example that uses it."""

    def write(folder: Path, recipe: ExportRecipe) -> None:
        shutil.copyfile(Path(processing.__file__), folder / "processing.py")
        shutil.copyfile(STANDALONE / name, folder / "predict.py")

    return write


KINDS: dict[ExportFormat, ExportKind] = {
    "onnx": ExportKind("model.onnx", RECIPE_FILE, save_onnx, _copy_program("predict_onnx.py")),
    "torch": ExportKind("model.ts", RECIPE_FILE, save_torchscript, _copy_program("predict_torch.py")),
    "monai-bundle": ExportKind(BUNDLE_MODEL, BUNDLE_RECIPE, save_torchscript, write_bundle),
}


@with_threads
def export(options: ExportOptions) -> ExportRecipe:
    """Export a model, and compare it with the original on a scan; returns what is in recipe.json.

    Raises:
        RunError: there is no finished fine-tuning, `out` is in use, or the exported network computes something else.
        OptionError: the model has a frozen encoder, there is no scan to compare on, or a package is missing.
        ScanError: the scan cannot be read.
    """
    check_out(options.out)
    record = read_network_record(SegmenterRecord, options.model)
    if record.frozen_encoder is not None:
        raise OptionError(
            f"--model {options.model} has the frozen encoder {record.frozen_encoder.name}, whose weights are not part "
            "of the model and cannot be put into an export",
            "train a network from its masks (`frugalseg finetune --teacher`) and export that",
        )
    scan = options.scan or find_scan(options.model, record)
    squares = read_squares(scan, record)
    if not options.overwrite and options.out.exists() and any(options.out.iterdir()):
        raise RunError(f"{options.out} is not empty", "choose another --out, or give --overwrite")
    kind = KINDS[options.format]
    network = WithBackground(load_segmenter(options.model, record, torch.device("cpu"), "32"))
    network = network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    with lock_folder(options.out), disk_errors(options.out):
        (options.out / kind.model).parent.mkdir(parents=True, exist_ok=True)
        example = torch.from_numpy(squares[:1]).expand(EXAMPLE_SLICES, -1, -1, -1).contiguous()
        run = kind.save(network, example, options.out / kind.model)
        try:
            check = compare(network, run, squares, scan)
        except FrugalsegError:
            (options.out / kind.model).unlink()
            raise
        recipe = make_recipe(record, sha256(options.model / WEIGHTS), check)
        kind.write_programs(options.out, recipe)
        recipe.write(options.out / kind.recipe)
    say(f"compared on {scan}: {describe_check(check)}")
    return recipe
