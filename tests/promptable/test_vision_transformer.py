"""Vision transformers without prompts as image encoders: patches in their places, and what is refused."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
)

from frugalseg.errors import RunError
from frugalseg.promptable.load import load_image_encoder, load_promptable

CPU = torch.device("cpu")
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 4}
NETWORKS = {
    "dinov2": lambda: Dinov2Model(Dinov2Config(**SMALL, mlp_ratio=2)),
    "dinov2_with_registers": lambda: Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(**SMALL, mlp_ratio=2, num_register_tokens=3)
    ),
    "dinov3_vit": lambda: DINOv3ViTModel(DINOv3ViTConfig(**SMALL, intermediate_size=32, num_register_tokens=3)),
}


@pytest.fixture(params=NETWORKS)
def folder(request, tmp_path):
    torch.manual_seed(0)
    NETWORKS[request.param]().save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


def test_a_patch_of_the_map_is_that_of_the_image(folder):
    encoder = load_image_encoder(folder, CPU, "32")
    assert encoder.recipe.size == 32 * 4
    assert folder.name in encoder.name
    dark = torch.zeros(1, 3, 128, 128)
    bright = dark.clone()
    bright[..., 5 * 4 : 6 * 4, 20 * 4 : 21 * 4] = 3.0
    maps = [encoder.encode(image)["image"] for image in (dark, bright)]
    assert maps[0].shape == (1, 16, 32, 32)
    change = (maps[1] - maps[0]).abs().sum(dim=1)[0]
    assert divmod(int(change.argmax()), 32) == (5, 20)


def test_other_weights_have_another_signature_the_precision_changes_only_that_of_the_cache(folder, tmp_path):
    first, half = load_image_encoder(folder, CPU, "32"), load_image_encoder(folder, CPU, "bf16")
    assert first.weights_signature == half.weights_signature
    assert first.signature != half.signature
    torch.manual_seed(1)
    NETWORKS[folder.name]().save_pretrained(tmp_path / "other")
    assert load_image_encoder(tmp_path / "other", CPU, "32").weights_signature != first.weights_signature


def test_it_cannot_be_prompted(folder):
    with pytest.raises(RunError, match="expected one of sam"):
        load_promptable(folder, CPU)


def test_a_folder_whose_weights_do_not_fit_is_refused(folder):
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 16', '"hidden_size": 32'))
    with pytest.raises(RunError, match=r"does not fit its config\.json"):
        load_image_encoder(folder, CPU)
