from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.sam.modeling_sam import SamMaskDecoder

from frugalseg.errors import RunError
from frugalseg.imaging.read import read_labels, read_volume
from frugalseg.imaging.volume import axial_slices, canonical
from frugalseg.promptable.decoder import ALL, ONE, SEVERAL, decode_masks
from frugalseg.promptable.framing import SquareFrame
from frugalseg.promptable.litemedsam import RECIPE, LiteMedSAM, LiteMedSAMNetwork, is_litemedsam, load_litemedsam
from frugalseg.promptable.protocol import Prompts, Recipe
from frugalseg.promptable.state_dict_keys import PROMPTS_AND_DECODER, load_renamed
from frugalseg.promptable.tinyvit import PUBLISHED_NAMES, TinyViT, TinyViTBlock, WindowAttention, fold_norms
from tests.promptable.lite_file import published

CPU = torch.device("cpu")
TINY = Recipe(size=32, mean=(0, 0, 0), std=(1, 1, 1), scale=1, stretch=True)
RULES = PUBLISHED_NAMES + PROMPTS_AND_DECODER


def network() -> LiteMedSAMNetwork:
    torch.manual_seed(0)
    made = LiteMedSAMNetwork(
        TinyViT((8, 16, 24, 32), (1, 1, 2, 1), (2, 3, 4), (3, 4, 3), outputs=16), size=32, channels=16
    )
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def model(precision="32") -> LiteMedSAM:
    return LiteMedSAM(network(), "weights", CPU, precision, TINY)


def boxes(*picture: int) -> Prompts:
    corners = torch.tensor([[4.0, 6.0, 20.0, 28.0], [1.0, 2.0, 30.0, 9.0], [10.0, 10.0, 12.0, 31.0]])
    return Prompts(torch.tensor(picture), boxes=torch.stack([corners[i % 3] for i in range(len(picture))]))


def test_maps_have_a_quarter_of_the_picture_s_side():
    pictures = torch.rand(2, 3, 32, 32)
    embedding = model().encode(pictures)
    assert embedding["image"].shape == (2, 16, 8, 8)
    assert torch.allclose(embedding["image"][1:], model().encode(pictures[1:])["image"], atol=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_prompts_are_answered_each_for_its_picture(several):
    made = model()
    embedding = made.encode(torch.rand(3, 3, 32, 32))
    pictures = (2, 0, 1, 1, 2, 0)  # more than a CPU decodes at once
    together = made.decode(embedding, boxes(*pictures), several)
    assert together.logits.shape == (6, 3 if several else 1, 32, 32)
    assert together.scores.shape == (6, 3 if several else 1)
    for i, picture in enumerate(pictures):
        one = {"image": embedding["image"][picture : picture + 1]}
        prompt = Prompts(torch.tensor([0]), boxes=boxes(*pictures).boxes[i : i + 1])
        alone = made.decode(one, prompt, several)
        assert torch.allclose(together.logits[i], alone.logits[0], atol=1e-4)
        assert torch.allclose(together.scores[i], alone.scores[0], atol=1e-4)


def test_points_and_masks_are_prompts_too_and_none_is_refused():
    made = model()
    embedding = made.encode(torch.rand(1, 3, 32, 32))
    first = torch.zeros(1, dtype=torch.long)
    points = Prompts(first, points=torch.tensor([[[5.0, 6.0], [9.0, 20.0]]]), labels=torch.tensor([[1, 0]]))
    moved = Prompts(first, points=torch.tensor([[[25.0, 6.0], [9.0, 20.0]]]), labels=torch.tensor([[1, 0]]))
    masks = Prompts(first, masks=torch.randn(1, 64, 64))
    answers = [made.decode(embedding, prompts).logits for prompts in (points, moved, masks)]
    assert all(answer.shape == (1, 1, 32, 32) for answer in answers)
    assert not torch.allclose(answers[0], answers[1])
    with pytest.raises(ValueError, match="without boxes"):
        made.decode(embedding, Prompts(first))
    none = made.decode(embedding, Prompts(first[:0], boxes=torch.zeros(0, 4)))
    assert none.logits.shape == (0, 1, 32, 32)


def test_16_bits_are_near_to_32():
    pictures = torch.rand(1, 3, 32, 32)
    full, half = model(), model("bf16")
    embeddings = full.encode(pictures)["image"], half.encode(pictures)["image"]
    assert embeddings[1].dtype == torch.float32
    assert (embeddings[0] - embeddings[1]).abs().mean() < 0.05 * embeddings[0].std()
    answers = [made.decode({"image": embeddings[0]}, boxes(0, 0)) for made in (full, half)]
    assert answers[1].logits.dtype == torch.float32
    assert (answers[0].logits - answers[1].logits).abs().mean() < 0.05 * answers[0].logits.std()


def test_the_signature_tells_weights_recipe_and_arithmetic_apart():
    assert model().signature == model().signature
    others = [
        LiteMedSAM(network(), "others", CPU, "32", TINY),
        LiteMedSAM(network(), "weights", CPU, "32", RECIPE),
        model("bf16"),
    ]
    assert len({made.signature for made in [model(), *others]}) == 4


@pytest.mark.parametrize("wanted", [ONE, SEVERAL, ALL])
@pytest.mark.parametrize("tokens", [0, 2, 5])
def test_masks_are_those_of_transformers_decoder(tokens, wanted):
    made = network().eval()
    decoder: SamMaskDecoder = made.mask_decoder
    maps, dense = torch.randn(3, 16, 8, 8), torch.randn(3, 16, 8, 8)
    sparse = torch.randn(3, 1, tokens, 16) if tokens else None
    with torch.no_grad():
        places = made.encode_positions()
        modes = {ONE: [False], SEVERAL: [True], ALL: [False, True]}[wanted]
        answers = [decoder(maps, places.expand(3, -1, -1, -1), sparse, dense, multimask_output=m) for m in modes]
        found = decode_masks(decoder, maps, places, None if sparse is None else sparse[:, 0], dense, wanted)
    for mine, expected in zip(found, zip(*answers, strict=True), strict=True):
        assert torch.allclose(mine, torch.cat(expected, dim=2)[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("masks", [False, True])
def test_prompts_of_one_map_are_decoded_as_if_each_had_its_own(masks):
    made = network().eval()
    maps, index = torch.randn(2, 16, 8, 8).to(memory_format=torch.channels_last), torch.tensor([1, 0, 1])
    dense = torch.randn(3 if masks else 1, 16, 8, 8)
    given = (made.encode_positions(), torch.randn(3, 2, 16), dense, ONE)
    expected = decode_masks(made.mask_decoder, maps[index], *given)  # with gradients, in another order of memory
    with torch.no_grad():
        found = decode_masks(made.mask_decoder, maps, *given, map_of=index)
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_attention_is_that_of_the_formula():
    torch.manual_seed(0)
    attention = WindowAttention(12, 3, 2)
    nn.init.normal_(attention.biases)
    windows = torch.randn(5, 4, 12)
    parts = attention.qkv(attention.norm(windows)).reshape(5, 4, 3, 12)  # of each head: 4 of q, 4 of k, 4 of v
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    expected = torch.empty(5, 4, 12)
    for head in range(3):
        q, k, v = parts[:, :, head].split(4, dim=-1)
        scores = q @ k.transpose(1, 2) / 2
        for i, here in enumerate(places):
            for j, there in enumerate(places):
                scores[:, i, j] += attention.biases[head, 2 * abs(here[0] - there[0]) + abs(here[1] - there[1])]
        expected[:, :, 4 * head : 4 * head + 4] = scores.softmax(-1) @ v
    expected = attention.out(expected)
    assert torch.allclose(attention(windows), expected, atol=1e-5)
    with torch.no_grad():  # another way
        assert torch.allclose(attention(windows), expected, atol=1e-5)


def test_windows_at_the_border_are_filled_up_with_zeros():
    torch.manual_seed(0)
    block = TinyViTBlock(8, 2, 4)
    x = torch.randn(1, 8, 6, 6)
    filled = F.pad(x, (0, 2, 0, 2)).permute(0, 2, 3, 1)
    corner = block.attention(filled[:, 4:, 4:].reshape(1, 16, 8)).reshape(1, 4, 4, 8)
    assert torch.allclose(block._attend_in_windows(x.permute(0, 2, 3, 1))[:, 4:, 4:], corner[:, :2, :2], atol=1e-5)


def test_a_file_s_every_weight_finds_its_place():
    source, target = network().eval(), network().eval()
    for parameter in target.parameters():
        nn.init.zeros_(parameter)
    file = published(source.state_dict())
    assert "image_encoder.layers.1.blocks.0.local_conv.c.weight" in file
    assert "mask_decoder.transformer.layers.0.norm4.weight" in file
    load_renamed(target, fold_norms(file), RULES, Path("file"), "LiteMedSAM")
    for name, tensor in source.state_dict().items():
        assert torch.allclose(target.state_dict()[name], tensor, atol=1e-5), name


def without(name):
    return lambda file: file.pop(name)


def with_(name, tensor):
    return lambda file: file.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without("image_encoder.layers.2.blocks.1.mlp.fc2.weight"),
            "the weight image_encoder.stages.1.1.fc2.weight is missing",
        ),
        (
            without("image_encoder.layers.0.downsample.conv2.bn.running_var"),
            "the weight image_encoder.reductions.0.* is missing",
        ),
        (without("prompt_encoder.no_mask_embed.weight"), "the weight prompt_encoder.no_mask_embed.weight is missing"),
        (
            with_("image_encoder.layers.4.norm.weight", torch.ones(3)),
            "image_encoder.layers.4.norm.weight is unexpected",
        ),
        (
            with_("mask_decoder.iou_token.weight", torch.ones(1, 3)),
            r"iou_token.weight has the shape \(1, 3\), expected",
        ),
        (with_("mask_decoder.iou_token.weight", torch.full((1, 16), torch.nan)), "not finite"),
        (
            with_("mask_decoder.norm_final_attn.w", torch.ones(1)),
            "the weight mask_decoder.norm_final_attn.w is unexpected",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    file = published(network().state_dict())
    change(file)
    with pytest.raises(RunError, match=message):
        load_renamed(network(), fold_norms(file), RULES, Path("file"), "LiteMedSAM")


def test_another_model_s_file_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"encoder.weight": torch.zeros(3)}, path)
    assert not is_litemedsam(path)
    with pytest.raises(RunError, match=r"other\.pth does not fit LiteMedSAM: the weight .* is missing"):
        load_litemedsam(path, CPU)


@pytest.fixture(scope="module")
def real(litemedsam_file):
    return load_litemedsam(litemedsam_file, CPU, "32")


def test_real_weights_answer_as_the_authors_own_program_does(real):
    """The figures are from the published program with the published weights, on the same synthetic image."""
    rows, columns = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    grey = 0.5 + 0.25 * torch.sin(rows / 17) * torch.cos(columns / 23) + 0.25 * torch.sin(rows * columns / 2000)
    embedding = real.encode(grey.expand(1, 3, 256, 256))
    assert embedding["image"].std().item() == pytest.approx(0.1057, abs=1e-4)
    corners = embedding["image"][0, ::64, 0, 0].tolist()
    assert corners == pytest.approx([0.012337, -0.010202, -0.0022061, -0.14215], abs=1e-5)
    prompts = Prompts(torch.zeros(1, dtype=torch.long), boxes=torch.tensor([[40.0, 60.0, 181.0, 201.0]]))
    answer = real.decode(embedding, prompts, several=True)
    assert answer.scores[0].tolist() == pytest.approx([0.2185, 0.2366, 0.2089], abs=1e-4)
    assert answer.logits[0, 0, 85, ::85].tolist() == pytest.approx([-0.2166, 0.0773, 0.0077, -0.0891], abs=1e-4)
    assert answer.logits[0].mean((1, 2)).tolist() == pytest.approx([-0.0877, -0.1028, -0.1247], abs=1e-4)


def test_real_weights_outline_a_liver(real, shared_data):
    folder = shared_data / "totalsegmentator_example"
    scan = axial_slices(canonical(read_volume(folder / "dicom_ct"))[0].array)[10]
    liver = axial_slices(canonical(read_labels(folder / "example_seg_dicom.nii.gz"))[0].array)[10] == 5
    grey = torch.from_numpy(((scan.astype("float32") + 160) / 400).clip(0, 1))
    truth = torch.from_numpy(liver.copy())
    rows, columns = truth.any(1).nonzero(), truth.any(0).nonzero()
    box = torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
    frame = SquareFrame.of(tuple(grey.shape), real.recipe)
    embedding = real.encode(frame.to_model_input(grey[None], real.recipe))
    logits, _ = real.decode(embedding, Prompts(torch.tensor([0]), boxes=frame.boxes_to_model(box))).best()
    mask = frame.masks_to_slice(logits)[0] > 0
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.96  # measured: 0.979
