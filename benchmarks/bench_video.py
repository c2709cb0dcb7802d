"""Peak memory of propagating masks through 50 and through 200 slices; time per slice with SAM 2.1 tiny's architecture.

Weights are random: memory and time do not depend on them. Every measurement runs in a separate process.
"""

from __future__ import annotations

import json
import subprocess
import sys

from tables import show

SIZE = 256
MEASURE = """
import json, resource, sys, time
import torch
from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VideoModel, Sam2VisionConfig
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession
from frugalseg.promptable.sam2_video import VideoModel

way, depth, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
config = Sam2VideoConfig()
if size < 1024:
    backbone = Sam2HieraDetConfig(
        hidden_size=8, image_size=[size, size], blocks_per_stage=[1, 1, 1, 1], embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2], global_attention_blocks=[],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=128,
        backbone_feature_sizes=[[size // stride] * 2 for stride in (4, 8, 16)],
    )
    config = Sam2VideoConfig(
        vision_config=vision, image_size=size, prompt_encoder_config={"hidden_size": 128, "image_size": size},
        mask_decoder_config={"hidden_size": 128}, memory_attention_hidden_size=128, memory_attention_num_layers=1,
        memory_attention_rope_feat_sizes=[size // 16] * 2, memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128, memory_fuser_embed_dim=128,
    )
network = Sam2VideoModel(config).eval()
mask = torch.zeros(2, size, size, dtype=torch.bool)
mask[0, size // 4 : size // 2, size // 4 : size // 2] = mask[1, size // 2 :, size // 2 :] = True
begun = time.perf_counter()
if way == "ours":
    model = VideoModel(network, "benchmark", torch.device("cpu"))
    begun = time.perf_counter()
    for z, _ in model.propagate(lambda z: torch.rand(size, size), range(depth), {0: mask}):
        pass
else:
    session = Sam2VideoInferenceSession(video=torch.rand(depth, 3, size, size), dtype=torch.float32)
    for k in range(2):
        session.add_mask_inputs(session.obj_id_to_idx(k), 0, mask[k][None, None].float())
    session.obj_with_new_inputs = [0, 1]
    for _ in network.propagate_in_video_iterator(session, start_frame_idx=0):
        pass
seconds = (time.perf_counter() - begun) / depth
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, seconds]))
"""


def measure(way: str, depth: int, size: int) -> tuple[float, float]:
    """Peak memory in MB and seconds per slice."""
    command = [sys.executable, "-c", MEASURE, way, str(depth), str(size)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    peak, seconds = json.loads(result.stdout.splitlines()[-1])
    return peak, seconds


def main() -> None:
    short, _ = measure("ours", 50, SIZE)
    long, seconds = measure("ours", 200, SIZE)
    plain_short, _ = measure("transformers", 50, SIZE)
    plain_long, _ = measure("transformers", 200, SIZE)
    rows = [
        ("peak memory, 50 slices", f"{short:.0f} MB", ""),
        ("peak memory, 200 slices", f"{long:.0f} MB", f"≤ {short + 20:.0f} MB"),
        ("with transformers' own session, 50 slices", f"{plain_short:.0f} MB", ""),
        ("with transformers' own session, 200 slices", f"{plain_long:.0f} MB", ""),
        ("time per slice", f"{seconds:.3f} s", ""),
    ]
    show(f"Propagating two objects through slices of {SIZE}², a small network", rows)
    peak, seconds = measure("ours", 4, 1024)
    rows = [("time per slice", f"{seconds:.1f} s", ""), ("peak memory", f"{peak:.0f} MB", "")]
    show("Propagating two objects through slices of 1024², SAM 2.1 tiny", rows)


if __name__ == "__main__":
    main()
