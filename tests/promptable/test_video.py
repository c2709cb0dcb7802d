from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import EdgeTamVideoConfig, EdgeTamVisionConfig
from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoInferenceSession
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from frugalseg.errors import OptionError, RunError
from frugalseg.promptable import sam2_video as video
from frugalseg.promptable.configs import HIERA, HieraSettings
from frugalseg.promptable.framing import SquareFrame
from frugalseg.promptable.huggingface import SAM2
from frugalseg.promptable.sam2_video import VideoModel, load_video_model
from tests.promptable import original_files as files
from tests.promptable import tiny_networks as tiny

CPU = torch.device("cpu")
SIDE = tiny.SIZE
NEAR = {"rtol": 1e-3, "atol": 1e-3}
DEPTH = 9


@pytest.fixture(scope="module")
def network() -> Any:
    # A memory of 3 slices and pointers of 6, so that a short volume outgrows both; pointers that weigh.
    network = tiny.sam2_video(num_maskmem=4, max_object_pointers_in_encoder=7)
    with torch.no_grad():
        network.object_pointer_proj.proj_out.weight.mul_(20)
    return network


@pytest.fixture
def model(network: Any) -> VideoModel:
    return VideoModel(network, "tiny", CPU, "32")


@pytest.fixture(scope="module")
def scan() -> Tensor:
    return torch.rand(DEPTH, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def masks(*boxes: tuple[int, int, int, int]) -> Tensor:
    """(K, H, W), each a box of rows and columns."""
    planes = torch.zeros(len(boxes), SIDE, SIDE, dtype=torch.bool)
    for plane, (top, bottom, left, right) in zip(planes, boxes, strict=True):
        plane[top:bottom, left:right] = True
    return planes


TWO = masks((10, 30, 12, 40), (36, 60, 20, 50))


def plainly(
    network: Any, session_type: type, scan: Tensor, prompts: Mapping[int, Tensor], start: int, reverse: bool = False
) -> dict[int, Tensor]:
    """Logits (K, L, L) of each slice from transformers' own loop, with all slices and outputs in memory."""
    recipe = replace(SAM2, size=SIDE)
    pixels = SquareFrame.of((SIDE, SIDE), recipe).to_model_input(scan, recipe)
    session = session_type(video=pixels, dtype=torch.float32)
    for z, given in prompts.items():
        for k, mask in enumerate(given):
            session.add_mask_inputs(session.obj_id_to_idx(k), z, mask[None, None].float())
        session.obj_with_new_inputs = list(range(len(given)))
        network(session, frame_idx=z)
    found = network.propagate_in_video_iterator(session, start_frame_idx=start, reverse=reverse)
    return {output.frame_idx: output.pred_masks[:, 0].clone() for output in found}


def ours(model: VideoModel, scan: Tensor, order: Sequence[int], prompts: Mapping[int, Tensor]) -> dict[int, Tensor]:
    return dict(model.propagate(scan, order, prompts, depth=DEPTH))


def same(found: Mapping[int, Tensor], expected: Mapping[int, Tensor], prompted: Sequence[int]) -> None:
    frame = SquareFrame.of((SIDE, SIDE), replace(SAM2, size=SIDE))
    assert found.keys() == expected.keys()
    for z in found.keys() - set(prompted):
        torch.testing.assert_close(found[z], frame.masks_to_slice(expected[z]), **NEAR)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_window_gives_what_the_whole_memory_gives(
    reverse: bool, model: VideoModel, network: Any, scan: Tensor
) -> None:
    start = DEPTH - 1 if reverse else 0
    order = range(start, -1, -1) if reverse else range(DEPTH)
    expected = plainly(network, Sam2VideoInferenceSession, scan, {start: TWO}, start, reverse)
    same(ours(model, scan, order, {start: TWO}), expected, [start])
    # The test would say little if slices far back were nothing to the network.
    short = tiny.sam2_video(num_maskmem=2, max_object_pointers_in_encoder=2)
    weights = {n: t for n, t in network.state_dict().items() if n != "memory_temporal_positional_encoding"}
    short.load_state_dict(weights, strict=False)
    other = plainly(short, Sam2VideoInferenceSession, scan, {start: TWO}, start, reverse)
    last = 0 if reverse else DEPTH - 1
    assert (other[last] - expected[last]).abs().max() > 0.01


def test_from_the_middle_each_way(model: VideoModel, network: Any, scan: Tensor) -> None:
    for reverse, order in ((False, range(4, DEPTH)), (True, range(4, -1, -1))):
        expected = plainly(network, Sam2VideoInferenceSession, scan, {4: TWO}, 4, reverse)
        same(ours(model, scan, order, {4: TWO}), expected, [4])


def test_two_annotated_slices_inform_what_lies_between(model: VideoModel, network: Any, scan: Tensor) -> None:
    prompts = {2: TWO, 7: masks((20, 44, 12, 40), (0, 0, 0, 0))}  # the second object has ended there
    expected = plainly(network, Sam2VideoInferenceSession, scan, prompts, 2)
    in_place = ours(model, scan, range(2, DEPTH), prompts)
    same(in_place, expected, [2, 7])
    first = ours(model, scan, [7, 2, 3, 4, 5, 6, 8], prompts)
    assert list(first) == [7, 2, 3, 4, 5, 6, 8]
    assert all(torch.equal(first[z], in_place[z]) for z in first)
    alone = ours(model, scan, range(2, DEPTH), {2: TWO})
    assert not torch.allclose(alone[5], in_place[5], atol=0.01)


def test_objects_do_not_touch_each_other(model: VideoModel, scan: Tensor) -> None:
    together = ours(model, scan, range(3, 7), {3: TWO})
    for k in range(2):
        alone = ours(model, scan, range(3, 7), {3: TWO[k : k + 1]})
        for z in alone:
            # The memory is kept in bfloat16: what differs by a rounding may differ by a step of it.
            assert (alone[z][0] - together[z][k]).abs().mean() < 0.01 * together[z][k].abs().mean()


def test_edgetams_memory_is_bounded_too(scan: Tensor) -> None:
    network = tiny.edgetam_video()
    expected = plainly(network, EdgeTamVideoInferenceSession, scan, {0: TWO}, 0)
    found = ours(VideoModel(network, "tiny", CPU, "32"), scan, range(DEPTH), {0: TWO})
    same(found, expected, [0])


def test_only_the_window_is_kept(
    model: VideoModel, network: Any, scan: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[Any] = []

    class Watched(video._Session):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            sessions.append(self)

    monkeypatch.setattr(video, "_Session", Watched)
    asked: list[int] = []

    def frame_of(z: int) -> Tensor:
        asked.append(z)
        return scan[z % DEPTH]

    for z, _ in model.propagate(frame_of, range(0, 30), {0: TWO}):
        (session,) = sessions
        assert not session.processed_frames
        assert not session.cache._vision_features
        for k in range(2):
            outputs = session.output_dict_per_obj[k]
            recent = outputs["non_cond_frame_outputs"]
            assert set(recent) == set(range(max(1, z - 5), z + 1))
            assert [t for t in recent if "maskmem_features" in recent[t]] == list(range(max(1, z - 2), z + 1))
            for output in [*recent.values(), *outputs["cond_frame_outputs"].values()]:
                assert not {"pred_masks", "high_res_masks"} & output.keys()
            assert not session.mask_inputs_per_obj[k]
            assert not session.frames_tracked_per_obj[k]
    assert asked == list(range(30))


def test_results_lie_on_the_slices_own_grid_and_are_free_to_change(model: VideoModel) -> None:
    scan = torch.rand(3, 40, 90)
    given = torch.zeros(1, 40, 90, dtype=torch.bool)
    given[0, 5:30, 20:70] = True
    for z, logits in model.propagate(scan, [1, 2], {1: given}):
        assert logits.shape == (1, 40, 90)
        assert logits.dtype == torch.float32
        logits.add_(1).clamp_(-5, 5)
        assert z == 2 or torch.equal(logits > 0, given)
    (logits,) = (logits for z, logits in model.propagate(scan, [1, 0], {1: given}) if z == 0)
    assert logits.shape == (1, 40, 90)


def test_an_object_smaller_than_a_pixel_of_the_picture_is_seen(
    model: VideoModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    add = video._Session.add_mask_inputs

    def watch(session: Any, k: int, z: int, mask: Tensor) -> None:
        seen.append(mask.sum((0, 1, 2, 3)))
        add(session, k, z, mask)

    monkeypatch.setattr(video._Session, "add_mask_inputs", watch)
    given = torch.zeros(2, 300, 300, dtype=torch.bool)
    given[0, 100, 100] = True
    list(model.propagate(torch.rand(2, 300, 300), [0, 1], {0: given}))
    assert seen[0] >= 1
    assert seen[1] == 0


@pytest.mark.parametrize(
    ("order", "prompts", "message"),
    [
        ([0, 1], {}, "at least one is needed"),
        ([0, 1], {2: TWO}, "must be in the order"),
        ([], {0: TWO}, "must be in the order"),
        ([0, 2, 1, 3], {0: TWO}, "rise or fall"),
        ([0, 1, 1], {0: TWO}, "each number once"),
        ([1, 0, -1], {1: TWO}, "from 0"),
        ([0, 1, 2], {0: TWO, 2: TWO[:1]}, "expected one shape"),
        ([0, 1], {0: TWO[0]}, r"expected one shape \(K, H, W\)"),
        ([0, 1], {0: TWO[:0]}, "K ≥ 1"),
    ],
)
def test_wrong_orders_and_masks_are_refused_at_once(
    order: list[int], prompts: dict[int, Tensor], message: str, model: VideoModel, scan: Tensor
) -> None:
    with pytest.raises(ValueError, match=message):
        model.propagate(scan, order, prompts)


def test_a_volume_of_one_slice(model: VideoModel, scan: Tensor) -> None:
    ((z, logits),) = model.propagate(scan[:1], [0], {0: TWO})
    assert z == 0
    assert torch.equal(logits > 0, TWO)


def test_half_precision_stays_near(model: VideoModel, network: Any, scan: Tensor) -> None:
    coarse = VideoModel(network, "tiny", CPU, "bf16")
    assert coarse.signature != model.signature
    exact, near = (dict(each.propagate(scan, [0, 1], {0: TWO}))[1] for each in (model, coarse))
    assert near.dtype == torch.float32
    assert (near - exact).abs().mean() < 0.2 * exact.abs().mean()


def test_video_models_from_folders(network: Any, scan: Tensor, tmp_path: Path) -> None:
    network.save_pretrained(tmp_path / "sam2")
    model = load_video_model(tmp_path / "sam2", CPU, "32")
    assert model.name == "SAM 2 (sam2)"
    assert model.signature == VideoModel(network, "tiny", CPU, "32").signature
    tiny.edgetam_video().save_pretrained(tmp_path / "edgetam")
    assert load_video_model(tmp_path / "edgetam", CPU, "32").name == "EdgeTAM (edgetam)"
    tiny.sam2().save_pretrained(tmp_path / "pictures")
    with pytest.raises(RunError, match="type 'sam2', expected sam2_video"):
        load_video_model(tmp_path / "pictures", CPU)
    # A video configuration over the weights for single pictures.
    text = (tmp_path / "sam2" / "config.json").read_text()
    (tmp_path / "pictures" / "config.json").write_text(text)
    with pytest.raises(RunError, match="the weight mask_downsample.* is missing"):
        load_video_model(tmp_path / "pictures", CPU)


def test_a_video_model_from_sam_2s_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HIERA, (8, (1, 1, 2, 1)), HieraSettings((1, 2, 2, 2), (8, 4, 4, 2), (3,)))
    torch.save({"model": files.random_weights(files.TINY_SAM2)}, tmp_path / "medsam2.pt")
    model = load_video_model(tmp_path / "medsam2.pt", CPU, "32")
    assert model.recipe == replace(SAM2, size=512)
    found = dict(model.propagate(torch.rand(2, SIDE, SIDE), [0, 1], {0: TWO}))
    assert torch.isfinite(found[1]).all()
    torch.save(files.random_weights(files.TINY_SAM), tmp_path / "sam.pth")
    with pytest.raises(RunError, match="sam.pth is SAM, which has no memory for several slices"):
        load_video_model(tmp_path / "sam.pth", CPU)
    torch.save({"image_encoder.patch_embed.seq.0.c.weight": torch.zeros(1)}, tmp_path / "lite_medsam.pth")
    with pytest.raises(RunError, match="is LiteMedSAM, which has no memory for several slices") as error:
        load_video_model(tmp_path / "lite_medsam.pth", CPU)
    assert "--engine box" in error.value.cure
    with pytest.raises(OptionError, match="no such file"):
        load_video_model(tmp_path / "nothing.pt", CPU)


@pytest.mark.skipif(find_spec("timm") is not None, reason="timm is installed: EdgeTAM's own backbone can be built")
def test_edgetams_own_backbone_needs_timm(tmp_path: Path) -> None:
    config = EdgeTamVideoConfig(vision_config=EdgeTamVisionConfig())
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "edgetam_video"
    tiny.edgetam_video().save_pretrained(tmp_path / "weights")
    (tmp_path / "weights" / "model.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(RunError, match="built by the package timm"):
        load_video_model(tmp_path, CPU)
