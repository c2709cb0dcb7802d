from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Sam2Model, Sam2VideoModel, SamHQModel, SamModel

from frugalseg.errors import OptionError, RunError
from frugalseg.promptable import configs as shapes
from frugalseg.promptable.checkpoint import Checkpoint
from frugalseg.promptable.configs import HIERA, HieraSettings, hq_config, sam2_config, sam2_video_config, sam_config
from frugalseg.promptable.huggingface import MEDSAM, SAM, SAM2
from frugalseg.promptable.original_checkpoints import build_sam2_network, build_sam_network, load_original_checkpoint
from frugalseg.promptable.protocol import Prompts
from frugalseg.promptable.state_dict_keys import HQ_NAMES, SAM2_NAMES, SAM_NAMES, rename_key
from frugalseg.weights.folder import ORIGIN
from tests.promptable import original_files as files

CPU = torch.device("cpu")
VIT = {"b": (768, 12, 12, (2, 5, 8, 11)), "l": (1024, 24, 16, (5, 11, 17, 23)), "h": (1280, 32, 16, (7, 15, 23, 31))}
SAM_PARAMETERS = {"b": 93_735_472 + 256, "l": 312_342_832 + 256, "h": 641_090_608 + 256}
"""Parameters as published, plus the 2 × 128 numbers of the positional encoding, which are not counted there."""
HIERAS = {"tiny": (96, (1, 2, 7, 2), 7), "small": (96, (1, 2, 11, 2), 7), "base+": (112, (2, 3, 16, 3), 14)}
HIERAS["large"] = (144, (2, 6, 36, 4), 7)
SAM2_MILLIONS = {"tiny": 38.9, "small": 46.0, "base+": 80.8, "large": 224.4}
"""Of SAM 2.1, github.com/facebookresearch/sam2."""


def size(shapes_: files.Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes_.values())


def given(path: Path, weights: dict[str, Tensor], wrapper: str | None = None) -> Path:
    torch.save({wrapper: weights} if wrapper else weights, path)
    return path


@pytest.fixture
def sam_weights() -> dict[str, Tensor]:
    return files.random_weights(files.TINY_SAM)


@pytest.fixture
def tiny_hiera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HIERA, (8, (1, 1, 2, 1)), HieraSettings((1, 2, 2, 2), (8, 4, 4, 2), (3,)))


def fits(theirs: files.Shapes, rules: Any, network: Any) -> None:
    """Every renamed weight has its shape, each name once; the positional encoding twice."""
    ours = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    del ours["shared_image_embedding.positional_embedding"]
    assert len({rename_key(name, rules) for name in theirs}) == len(theirs)
    assert {rename_key(name, rules): shape for name, shape in theirs.items()} == ours


@pytest.mark.parametrize("letter", VIT)
def test_segment_anythings_files_fit_in_full_size(letter: str, tmp_path: Path) -> None:
    hidden, depth, heads, everywhere = VIT[letter]
    theirs = files.sam(hidden, depth, heads, everywhere)
    assert size(theirs) == SAM_PARAMETERS[letter]
    assert letter != "b" or len(theirs) == 314
    config: Any = sam_config(Checkpoint(files.save_hollow(theirs, tmp_path / f"sam_vit_{letter}.pth")))
    vision = config.vision_config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads) == (hidden, depth, heads)
    assert tuple(vision.global_attn_indexes) == everywhere
    assert (vision.image_size, vision.patch_size, vision.window_size) == (1024, 16, 14)
    with torch.device("meta"):
        fits(theirs, SAM_NAMES, SamModel(config))
        hq = files.sam_hq(hidden)
        config = hq_config(Checkpoint(files.save_hollow({**theirs, **hq}, tmp_path / f"sam_hq_vit_{letter}.pth")))
        fits({**theirs, **hq}, HQ_NAMES, SamHQModel(config))


@pytest.mark.parametrize("name", HIERAS)
@pytest.mark.parametrize("newer", [False, True])
def test_sam_2s_files_fit_in_full_size(name: str, newer: bool, tmp_path: Path) -> None:
    embed, stages, background = HIERAS[name]
    theirs = files.sam2(embed, stages, background, newer=newer)
    assert not newer or round(size(theirs) / 1e6, 1) == pytest.approx(SAM2_MILLIONS[name], abs=0.11)
    checkpoint = Checkpoint(files.save_hollow(theirs, tmp_path / "sam2.pt", "model"))
    config: Any = sam2_video_config(checkpoint)
    assert config.enable_temporal_pos_encoding_for_object_pointers is newer
    assert config.enable_occlusion_spatial_embedding is newer
    assert config.image_size == 1024
    with torch.device("meta"):
        points = "sam_prompt_encoder.point_embeddings"
        joined = {key: shape for key, shape in theirs.items() if not key.startswith(points)}
        fits({**joined, f"{points}.weight": (4, 256)}, SAM2_NAMES, Sam2VideoModel(config))
        picture = Sam2Model(sam2_config(checkpoint))
        assert picture.state_dict().keys() <= Sam2VideoModel(config).state_dict().keys()


@pytest.mark.parametrize(
    ("rules", "theirs", "ours"),
    [
        (SAM_NAMES, "image_encoder.blocks.3.norm2.weight", "vision_encoder.layers.3.layer_norm2.weight"),
        (SAM_NAMES, "image_encoder.neck.2.weight", "vision_encoder.neck.conv2.weight"),
        (SAM_NAMES, "image_encoder.neck.3.bias", "vision_encoder.neck.layer_norm2.bias"),
        (SAM_NAMES, "prompt_encoder.mask_downscaling.1.weight", "prompt_encoder.mask_embed.layer_norm1.weight"),
        (SAM_NAMES, "prompt_encoder.point_embeddings.2.weight", "prompt_encoder.point_embed.2.weight"),
        (
            SAM_NAMES,
            "mask_decoder.output_hypernetworks_mlps.1.layers.1.bias",
            "mask_decoder.output_hypernetworks_mlps.1.layers.0.bias",
        ),
        (
            SAM_NAMES,
            "mask_decoder.iou_prediction_head.layers.0.weight",
            "mask_decoder.iou_prediction_head.proj_in.weight",
        ),
        (SAM_NAMES, "mask_decoder.output_upscaling.3.weight", "mask_decoder.upscale_conv2.weight"),
        (HQ_NAMES, "mask_decoder.hf_mlp.layers.1.weight", "mask_decoder.hq_mask_mlp.layers.0.weight"),
        (HQ_NAMES, "mask_decoder.hf_mlp.layers.0.weight", "mask_decoder.hq_mask_mlp.proj_in.weight"),
        (HQ_NAMES, "mask_decoder.embedding_encoder.3.bias", "mask_decoder.encoder_conv2.bias"),
        (SAM2_NAMES, "image_encoder.trunk.blocks.1.norm1.bias", "vision_encoder.backbone.blocks.1.layer_norm1.bias"),
        (
            SAM2_NAMES,
            "image_encoder.trunk.blocks.0.mlp.layers.1.weight",
            "vision_encoder.backbone.blocks.0.mlp.proj_out.weight",
        ),
        (SAM2_NAMES, "image_encoder.neck.convs.0.conv.bias", "vision_encoder.neck.convs.0.bias"),
        (
            SAM2_NAMES,
            "sam_mask_decoder.transformer.layers.1.mlp.layers.0.weight",
            "mask_decoder.transformer.layers.1.mlp.proj_in.weight",
        ),
        (
            SAM2_NAMES,
            "sam_mask_decoder.pred_obj_score_head.layers.1.bias",
            "mask_decoder.pred_obj_score_head.layers.0.bias",
        ),
        (SAM2_NAMES, "obj_ptr_proj.layers.1.weight", "object_pointer_proj.layers.0.weight"),
        (SAM2_NAMES, "memory_encoder.out_proj.weight", "memory_encoder.projection.weight"),
        (
            SAM2_NAMES,
            "memory_encoder.mask_downsampler.encoder.4.bias",
            "memory_encoder.mask_downsampler.layers.1.layer_norm.bias",
        ),
        (SAM2_NAMES, "memory_encoder.fuser.layers.1.gamma", "memory_encoder.memory_fuser.layers.1.scale"),
        (
            SAM2_NAMES,
            "memory_attention.layers.3.self_attn.out_proj.bias",
            "memory_attention.layers.3.self_attn.o_proj.bias",
        ),
        (SAM2_NAMES, "no_mem_pos_enc", "no_memory_positional_encoding"),
        (SAM2_NAMES, "no_mem_embed", "no_memory_embedding"),
    ],
)
def test_tensors_of_one_shape_are_not_mixed_up(rules: Any, theirs: str, ours: str) -> None:
    assert rename_key(theirs, rules) == ours


def test_a_sam_file_makes_a_working_model(sam_weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = given(tmp_path / "sam_vit_tiny.pth", sam_weights)
    network = build_sam_network(Checkpoint(path))
    state = network.state_dict()
    assert all(torch.equal(state[rename_key(name, SAM_NAMES)], tensor) for name, tensor in sam_weights.items())
    places = sam_weights["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]
    assert torch.equal(state["shared_image_embedding.positional_embedding"], places)
    model = load_original_checkpoint(path, CPU, "32")
    assert model.recipe == replace(SAM, size=64)
    assert model.name == "SAM (sam_vit_tiny.pth)"
    pixels = torch.randn(1, 3, 64, 64)
    prompts = Prompts(image_index=torch.tensor([0]), boxes=torch.tensor([[8.0, 8.0, 50.0, 50.0]]))
    found = model.decode(model.encode(pixels), prompts)
    with torch.no_grad():
        theirs = network(
            pixel_values=pixels, input_boxes=torch.tensor([[[8.0, 8.0, 49.0, 49.0]]]), multimask_output=False
        )
    torch.testing.assert_close(found.logits, theirs.pred_masks[0], rtol=1e-3, atol=1e-3)


def test_medsam_is_told_by_its_name(sam_weights: dict[str, Tensor], tmp_path: Path) -> None:
    plain = load_original_checkpoint(given(tmp_path / "sam_vit_b.pth", sam_weights), CPU, "32")
    medsam = load_original_checkpoint(given(tmp_path / "MedSAM_vit_b.pth", sam_weights), CPU, "32")
    assert medsam.recipe == replace(MEDSAM, size=64)
    assert medsam.signature != plain.signature
    # So are files that `frugalseg weights import --name` keeps.
    kept = tmp_path / "my-medsam"
    kept.mkdir()
    (kept / ORIGIN).write_text("{}")
    imported = load_original_checkpoint(given(kept / "best.pth", sam_weights), CPU, "32")
    assert imported.name == "MedSAM (my-medsam/best.pth)"
    assert imported.signature == medsam.signature


def test_a_sam_hq_file_makes_a_working_model(sam_weights: dict[str, Tensor], tmp_path: Path) -> None:
    weights = sam_weights | files.random_weights(files.sam_hq(16, 16))
    path = given(tmp_path / "sam_hq_vit_tiny.pth", weights, "model")
    state = build_sam_network(Checkpoint(path)).state_dict()
    assert all(torch.equal(state[rename_key(name, HQ_NAMES)], tensor) for name, tensor in weights.items())
    model = load_original_checkpoint(path, CPU, "32")
    assert model.name.startswith("SAM-HQ")
    assert sorted(model.encode(torch.randn(2, 3, 64, 64))) == ["early", "image"]


@pytest.mark.usefixtures("tiny_hiera")
def test_a_sam_2_file_makes_both_models(tmp_path: Path) -> None:
    weights = files.random_weights(files.TINY_SAM2)
    path = given(tmp_path / "MedSAM2_latest.pt", weights, "model")
    network = build_sam2_network(Checkpoint(path))
    state = network.state_dict()
    points = torch.cat([weights.pop(f"sam_prompt_encoder.point_embeddings.{i}.weight") for i in range(4)])
    assert torch.equal(state["prompt_encoder.point_embed.weight"], points)
    assert all(torch.equal(state[rename_key(name, SAM2_NAMES)], tensor) for name, tensor in weights.items())
    model = load_original_checkpoint(path, CPU, "32")
    assert model.recipe == replace(SAM2, size=512)  # as MedSAM2 was trained
    embedding = model.encode(torch.randn(1, 3, 512, 512))
    assert embedding["image"].shape == (1, 128, 32, 32)
    with torch.no_grad():
        same = network.get_image_embeddings(torch.zeros(1, 3, 512, 512))[-1]
    torch.testing.assert_close(model.encode(torch.zeros(1, 3, 512, 512))["image"], same)
    found = model.decode(
        embedding, Prompts(image_index=torch.tensor([0]), boxes=torch.tensor([[8.0, 8.0, 300.0, 200.0]]))
    )
    assert found.logits.shape == (1, 1, 128, 128)


def test_a_sam_2_of_a_size_that_nobody_published(tmp_path: Path) -> None:
    path = given(tmp_path / "sam2.pt", files.random_weights(files.TINY_SAM2), "model")
    with pytest.raises(RunError, match=r"SAM 2 of unknown size: 8 channels, blocks \(1, 1, 2, 1\)"):
        load_original_checkpoint(path, CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda weights: weights.pop("mask_decoder.iou_token.weight"),
            "does not fit SAM: the weight .*iou_token.* is missing",
        ),
        (
            lambda weights: weights.pop("image_encoder.pos_embed"),
            "does not fit SAM: the weight image_encoder.pos_embed is missing",
        ),
        (lambda weights: weights.update(extra=torch.zeros(1)), "does not fit SAM: the weight extra is unexpected"),
        (
            lambda weights: weights.update({"image_encoder.neck.1.bias": torch.zeros(3)}),
            r"image_encoder.neck.1.bias has the shape \(3,\), expected \(16,\)",
        ),
        (
            lambda weights: weights.update({"image_encoder.pos_embed": torch.zeros(3)}),
            r"pos_embed has the shape \(3,\)",
        ),
        (
            lambda weights: weights["image_encoder.neck.1.bias"].fill_(torch.inf),
            "neck.1.bias holds values that are not",
        ),
        (
            lambda weights: weights.update({"mask_decoder.mask_tokens.weight": torch.zeros(4, 17)}),
            "no SAM has weights of such shapes",
        ),
        (lambda weights: weights.clear(), "neither SAM nor SAM-HQ nor SAM 2: its first weight is nothing"),
    ],
)
def test_files_of_another_model_are_told(
    change: Callable[[dict[str, Tensor]], object], message: str, sam_weights: dict[str, Tensor], tmp_path: Path
) -> None:
    change(sam_weights)
    with pytest.raises(RunError, match=message) as caught:
        load_original_checkpoint(given(tmp_path / "sam.pth", sam_weights), CPU)
    assert "sam.pth" in caught.value.problem


def test_damaged_files_are_told(sam_weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = given(tmp_path / "sam.pth", sam_weights)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(RunError, match=r"sam.pth cannot be read: it is damaged"):
        load_original_checkpoint(path, CPU)
    path.write_bytes(pickle.dumps({"model": Path()}, protocol=2))
    with pytest.raises(RunError, match="holds more than weights"):
        load_original_checkpoint(path, CPU)
    given(path, {"backbone.conv1.weight": torch.zeros(1)})
    with pytest.raises(RunError, match=r"neither SAM nor SAM-HQ nor SAM 2: its first weight is backbone.conv1.weight"):
        load_original_checkpoint(path, CPU)
    with pytest.raises(OptionError, match="no such file"):
        load_original_checkpoint(tmp_path / "nothing.pth", CPU)


def test_every_published_hiera_has_as_many_stages_as_settings() -> None:
    for (_, blocks), known in shapes.HIERA.items():
        assert len(known.heads) == len(known.windows) == len(blocks) == 4
        assert max(known.global_blocks) < sum(blocks)
