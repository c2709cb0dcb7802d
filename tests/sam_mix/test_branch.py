from __future__ import annotations

from pathlib import Path

import pytest
import torch

from frugalseg.errors import OptionError
from frugalseg.promptable.huggingface import to_promptable
from frugalseg.promptable.litemedsam import LiteMedSAM, LiteMedSAMNetwork
from frugalseg.promptable.protocol import Prompts, Recipe
from frugalseg.promptable.tinyvit import TinyViT
from frugalseg.sam_mix.branch import SamBranch, count_trained_parameters
from frugalseg.sam_mix.prompts import to_mask_prompts
from tests.promptable.tiny_networks import randomized, sam, sam2

CPU = torch.device("cpu")


def tiny_sam():
    return to_promptable(sam(), Path("sam"), CPU, "32")


def tiny_litemedsam():
    vit = TinyViT(widths=(8, 16, 20, 24), depths=(1, 1, 1, 1), heads=(2, 5, 3), windows=(4, 4, 2), outputs=32)
    network = randomized(LiteMedSAMNetwork(vit, size=64, channels=32))
    return LiteMedSAM(network, "weights", CPU, "32", Recipe(64, (0, 0, 0), (1, 1, 1), 1, stretch=True))


MODELS = pytest.mark.parametrize("base", [tiny_sam, tiny_litemedsam])


@MODELS
@pytest.mark.parametrize(("dense", "share"), [("none", None), ("added", 0.0), ("mask", 0.0), ("mask", 1.0)])
def test_untrained_it_answers_as_the_promptable_model_and_with_the_whole_map_as_with_a_mask_prompt(base, dense, share):
    pictures, cams = torch.randn(2, 3, 64, 64), torch.rand(2, 64, 64)
    boxes = torch.tensor([[4.0, 6, 40, 50], [10, 0, 64, 30]])
    frozen = base()
    side = 4 * frozen.encode(pictures)["image"].shape[-1]
    given = torch.nn.functional.interpolate(cams[:, None], (side, side), mode="bilinear", antialias=True)[:, 0]
    masks = to_mask_prompts(given, 0.4) if share else None
    prompts = Prompts(torch.tensor([0, 1]), boxes, masks=masks)
    one, three = (frozen.decode(frozen.encode(pictures), prompts, several) for several in (False, True))
    branch = SamBranch(base(), "lora", 2, dense, 0.4)
    if share:
        torch.nn.init.constant_(branch.share, share)
    logits, scores = branch.decode(branch.encode(pictures), boxes, cams)
    assert torch.allclose(logits, torch.cat([one.logits, three.logits], 1), atol=1e-3, rtol=1e-3)
    assert torch.allclose(scores, torch.cat([one.scores, three.scores], 1), atol=1e-3, rtol=1e-3)


@MODELS
@pytest.mark.parametrize("adapt", ["lora", "decoder"])
def test_only_lora_prompt_encoder_and_decoder_learn(base, adapt):
    branch = SamBranch(base(), adapt, 2, "mask", 0.4)
    maps = branch.encode(torch.randn(1, 3, 64, 64))
    logits, scores = branch.decode(maps, torch.tensor([[4.0, 6, 40, 50]]), torch.rand(1, 64, 64))
    (logits.square().mean() + scores.sum()).backward()
    learning = {name for name, parameter in branch.named_parameters() if parameter.grad is not None}
    parts = {"lora" if ".lora_" in name else name.split(".")[0] for name in learning}
    assert parts == {"prompt_encoder", "mask_decoder", "share"} | ({"lora"} if adapt == "lora" else set())
    assert set(count_trained_parameters(branch)) == parts
    assert not any("shared_embedding" in name for name in learning)


@MODELS
def test_state_holds_only_trained_weights_and_loads_into_another_base(base):
    branch = SamBranch(base(), "lora", 2, "mask", 0.4)
    state = branch.state_dict()
    assert not any(name.startswith("image_encoder") and ".lora_" not in name for name in state)
    assert any(".lora_" in name for name in state)
    other = SamBranch(base(), "lora", 2, "mask", 0.4)
    with torch.no_grad():
        for value in state.values():
            value.add_(0.05)
    other.load_state_dict({name: value.clone() for name, value in state.items()})
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(branch.encode(x), other.encode(x))
    for missing in (next(name for name in state if ".lora_" in name), "mask_decoder.iou_token.weight"):
        with pytest.raises(RuntimeError, match="Missing key"):
            other.load_state_dict({name: value for name, value in state.items() if name != missing})


@pytest.mark.parametrize("dense", ["mask", "added"])
def test_the_map_has_no_effect_at_first_and_its_factor_learns(dense):
    branch = SamBranch(tiny_sam(), "decoder", 2, dense, 0.4)
    maps, boxes = branch.encode(torch.randn(1, 3, 64, 64)), torch.tensor([[4.0, 6, 40, 50]])
    one, _ = branch.decode(maps, boxes, torch.rand(1, 64, 64))
    other, _ = branch.decode(maps, boxes, torch.zeros(1, 64, 64))
    assert torch.equal(one, other)
    branch.decode(maps, boxes, torch.rand(1, 64, 64))[0].square().mean().backward()
    assert branch.share.grad.abs() > 0
    assert count_trained_parameters(branch)["share"] == 1


def test_other_families_are_refused():
    with pytest.raises(OptionError, match="SAM 2 .* cannot be trained by SAM-Mix"):
        SamBranch(to_promptable(sam2(), Path("x"), CPU, "32"), "lora", 2, "mask", 0.4)
