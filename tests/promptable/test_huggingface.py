from __future__ import annotations

import json
import pickle
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import SamConfig, SamModel

from frugalseg.errors import OptionError, RunError
from frugalseg.promptable import huggingface as hf
from frugalseg.promptable.huggingface import MEDSAM, SAM, SAM2, HuggingFaceModel, load_huggingface_folder
from frugalseg.promptable.protocol import Embedding, Prompts
from tests.promptable import tiny_networks as tiny

CPU = torch.device("cpu")
BUILDERS: dict[str, Callable[[], Any]] = {
    "sam": tiny.sam,
    "sam_hq": tiny.sam_hq,
    "sam2": tiny.sam2,
    "sam2_video": tiny.sam2_video,
}
NEAR = {"rtol": 1e-3, "atol": 1e-3}
BOXES = torch.tensor([[4.0, 6.0, 40.0, 50.0], [10.0, 0.0, 30.0, 64.0], [20.0, 20.0, 60.0, 44.0]])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    for name, build in BUILDERS.items():
        build().save_pretrained(root / name)
    return {name: root / name for name in BUILDERS}


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """SAM's folder, to be damaged."""
    return Path(shutil.copytree(folders["sam"], tmp_path / "sam"))


def pictures(count: int) -> Tensor:
    return torch.randn(count, 3, tiny.SIZE, tiny.SIZE, generator=torch.Generator().manual_seed(1))


def on(picture: int, count: int, **prompts: Tensor) -> Prompts:
    return Prompts(image_index=torch.full((count,), picture), **prompts)


def spoil(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def model(folder: Path) -> HuggingFaceModel:
    return load_huggingface_folder(folder, CPU, "32")


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("several", [False, True])
def test_boxes_give_the_masks_that_transformers_gives(name: str, several: bool, folders: dict[str, Path]) -> None:
    ours, pixels = model(folders[name]), pictures(1)
    embedding = ours.encode(pixels)
    found = ours.decode(embedding, on(0, 3, boxes=BOXES), several)
    inner = BOXES - torch.tensor([0, 0, 1, 1])  # SAM's boxes end in their last pixel
    with torch.no_grad():
        network = ours.network
        theirs = network(pixel_values=pixels, input_boxes=inner[None], multimask_output=several)
    side = embedding["image"].shape[-1] * 4
    assert found.logits.shape == (3, 3 if several else 1, side, side)
    assert found.logits.std() > 0.1
    torch.testing.assert_close(found.logits, theirs.pred_masks[0], **NEAR)
    torch.testing.assert_close(found.scores, theirs.iou_scores[0], **NEAR)


@pytest.mark.parametrize("name", ["sam", "sam2"])
def test_points_and_masks_give_the_masks_that_transformers_gives(name: str, folders: dict[str, Path]) -> None:
    ours, pixels = model(folders[name]), pictures(1)
    embedding = ours.encode(pixels)
    points, labels = torch.tensor([[[9.0, 30.0], [50.0, 2.0]]]), torch.tensor([[1, 0]])
    side = embedding["image"].shape[-1] * 4
    mask = torch.randn(1, side, side)
    with torch.no_grad():
        network = ours.network
        by_points = network(pixel_values=pixels, input_points=points[None], input_labels=labels[None])
        by_mask = network(pixel_values=pixels, input_masks=mask[None])
    found = ours.decode(embedding, on(0, 1, points=points, labels=labels), several=True)
    torch.testing.assert_close(found.logits, by_points.pred_masks[0], **NEAR)
    found = ours.decode(embedding, on(0, 1, masks=mask), several=True)
    torch.testing.assert_close(found.logits, by_mask.pred_masks[0], **NEAR)


@pytest.mark.parametrize("name", BUILDERS)
def test_prompts_of_several_pictures_in_one_batch(
    name: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = model(folders[name])
    embedding = ours.encode(pictures(2))
    prompts = Prompts(image_index=torch.tensor([1, 0, 1]), boxes=BOXES)
    together = ours.decode(embedding, prompts)
    monkeypatch.setattr(hf, "PROMPTS_PER_BATCH", 2)
    torch.testing.assert_close(ours.decode(embedding, prompts).logits, together.logits, **NEAR)
    for i, picture in enumerate([1, 0, 1]):
        alone: Embedding = {name: maps[picture : picture + 1] for name, maps in embedding.items()}
        found = ours.decode(alone, on(0, 1, boxes=BOXES[i : i + 1]))
        torch.testing.assert_close(found.logits, together.logits[i : i + 1], **NEAR)
        torch.testing.assert_close(found.scores, together.scores[i : i + 1], **NEAR)


def test_no_prompts_no_masks(folders: dict[str, Path]) -> None:
    ours = model(folders["sam"])
    embedding = ours.encode(pictures(1))
    assert len(ours.decode(embedding, on(0, 0, boxes=BOXES[:0])).logits) == 0
    with pytest.raises(ValueError, match="without boxes, points or masks"):
        ours.decode(embedding, on(0, 1))


def test_the_high_quality_decoder_sees_what_its_transformer_made_of_the_picture() -> None:
    # With its own part silenced, SAM-HQ is a SAM with one more mask token: the masks of the first four are the same.
    hq = tiny.sam_hq()
    with torch.no_grad():
        for parameter in hq.mask_decoder.hq_mask_mlp.proj_out.parameters():
            parameter.zero_()
    sam = SamModel(
        SamConfig(
            vision_config=tiny.VIT,
            prompt_encoder_config=tiny.PROMPTS,
            mask_decoder_config={**tiny.DECODER, "num_multimask_outputs": 4},
        )
    ).eval()
    weights, known = sam.state_dict(), hq.state_dict()
    for name in weights:
        if name in known and known[name].shape == weights[name].shape:
            weights[name] = known[name]
    tokens = [known["mask_decoder.mask_tokens.weight"], known["mask_decoder.hq_token.weight"]]
    weights["mask_decoder.mask_tokens.weight"] = torch.cat(tokens)
    sam.load_state_dict(weights)

    pixels = pictures(1)
    with torch.no_grad():
        inner = BOXES[None] - torch.tensor([0, 0, 1, 1])
        expected = sam(pixel_values=pixels, input_boxes=inner, multimask_output=False).pred_masks[0]
        assert not torch.allclose(expected, expected.transpose(2, 3), atol=0.1)
    ours = hf.SamHQ(hq, "SAM-HQ", replace(SAM, size=tiny.SIZE), CPU, "32")
    found = ours.decode(ours.encode(pixels), on(0, 3, boxes=BOXES)).logits
    torch.testing.assert_close(found, expected, **NEAR)


def test_half_precision_stays_near_and_results_are_float32(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        exact, coarse = model(folder), load_huggingface_folder(folder, CPU, "bf16")
        embeddings = exact.encode(pictures(1)), coarse.encode(pictures(1))
        for name, maps in embeddings[0].items():
            assert embeddings[1][name].dtype == torch.float32
            assert (embeddings[1][name] - maps).abs().mean() < 0.05 * maps.abs().mean()
        # All masks: between single ones SAM 2 chooses by a threshold.
        logits = exact.decode(embeddings[0], on(0, 3, boxes=BOXES), several=True).logits
        near = coarse.decode(embeddings[1], on(0, 3, boxes=BOXES), several=True).logits
        assert near.dtype == torch.float32
        assert (near - logits).abs().mean() < 0.1 * logits.abs().mean()
        assert coarse.signature != exact.signature


def test_each_family_has_its_recipe_at_its_own_size(folders: dict[str, Path], tmp_path: Path) -> None:
    at = {"size": tiny.SIZE}
    assert model(folders["sam"]).recipe == replace(SAM, **at)
    assert model(folders["sam_hq"]).recipe == replace(SAM, **at)
    assert model(folders["sam2"]).recipe == replace(SAM2, **at)
    assert model(folders["sam2_video"]).recipe == replace(SAM2, **at)
    # MedSAM's configuration is SAM's; what the folder, or the repository in Hugging Face's cache, is called tells.
    for name in ("medsam-vit-base", "models--someone--MedSAM/snapshots/0123abcd"):
        medsam = model(Path(shutil.copytree(folders["sam"], tmp_path / name)))
        assert medsam.recipe == replace(MEDSAM, **at)
        assert medsam.name.startswith("MedSAM (")


def test_the_signature_is_of_weights_configuration_and_recipe(folder: Path, tmp_path: Path) -> None:
    before = model(folder).signature
    pickled = tmp_path / "pickled"
    shutil.copytree(folder, pickled)
    network = SamModel.from_pretrained(folder)
    torch.save(network.state_dict(), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    assert model(pickled).signature == before
    assert model(folder.rename(tmp_path / "medsam")).signature != before
    folder = (tmp_path / "medsam").rename(folder)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["layer_norm_eps"] = 1e-5
    (folder / "config.json").write_text(json.dumps(config))
    changed = model(folder).signature
    assert changed != before
    spoil(folder, lambda weights: weights["mask_decoder.iou_token.weight"].add_(1e-3))
    assert model(folder).signature not in {before, changed}


def test_nothing_is_fetched(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_more: Any) -> Any:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for folder in folders.values():
        model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda weights: weights.pop("mask_decoder.iou_token.weight"),
            "weight mask_decoder.iou_token.weight is missing",
        ),
        (lambda weights: weights.update(extra=torch.zeros(1)), "the weight extra is unexpected"),
        (
            lambda weights: weights.update({"mask_decoder.mask_tokens.weight": torch.zeros(3, 16)}),
            r"mask_tokens.weight has the shape \(3, 16\), expected \(4, 16\)",
        ),
        (lambda weights: weights["vision_encoder.pos_embed"].fill_(torch.nan), "pos_embed holds values that are not"),
    ],
)
def test_weights_of_another_model_are_told(
    folder: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    spoil(folder, change)
    with pytest.raises(RunError, match=message):
        model(folder)


def test_damaged_folders_are_told(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="cannot be read: it is damaged"):
        model(folder)
    weights.unlink()
    with pytest.raises(RunError, match="cannot be read"):
        model(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Path()}, protocol=2))
    with pytest.raises(RunError, match="cannot be read"):
        model(folder)
    (folder / "config.json").write_text('{"model_type": "detr"}')
    with pytest.raises(RunError, match="type 'detr', expected one of sam, sam_hq, sam2"):
        model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(RunError, match="config.json is damaged"):
        model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(OptionError, match="no config.json"):
        model(folder)


def test_a_configuration_that_makes_no_network_is_told(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["mask_decoder_config"]["num_attention_heads"] = 7
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="not a model of its type"):
        model(folder)
