"""A Mac's GPU as a device. There is none here: its presence is simulated, and nothing is computed on it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import lightning_fabric
import pytest
import torch

from frugalseg.dataset.source import free_memory
from frugalseg.engine import device as devices
from frugalseg.engine.device import autocast, describe_device, find_device, make_fabric, resolve_precision, widest_float
from frugalseg.engine.memory import is_out_of_memory
from frugalseg.engine.threads import prepare_environment
from frugalseg.errors import DeviceError, OptionError
from frugalseg.features.encoder import SLICES_AT_ONCE
from frugalseg.promptable.batches import BOXES_PER_BATCH, SLICES_PER_BATCH
from frugalseg.promptable.litemedsam import PROMPTS_PER_BATCH
from frugalseg.sam_mix.predict import BATCH
from tests.engine.toy import ToyTask, run_toy

MPS = torch.device("mps")


@pytest.fixture
def mac(monkeypatch):
    """As if PyTorch had found a Mac's GPU."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)


def test_it_is_used_where_it_was_asked_for(mac):
    assert find_device("mps") == MPS
    assert find_device("cpu").type == "cpu"


def test_auto_does_not_choose_it(mac, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert find_device("auto").type == "cpu"


@pytest.mark.parametrize(("built", "said"), [(False, "not built for Macs"), (True, "has no GPU that PyTorch can use")])
def test_without_one_it_is_refused_with_the_reason(monkeypatch, built, said):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: built)
    with pytest.raises(DeviceError, match=said) as caught:
        find_device("mps")
    assert "--device cpu" in caught.value.cure


def test_it_computes_in_float32(mac):
    assert resolve_precision("auto", MPS) == resolve_precision("32", MPS) == "32-true"
    for precision in ("bf16", "16"):
        with pytest.raises(OptionError, match=f"--precision {precision} is not supported with --device mps"):
            resolve_precision(precision, MPS)
    assert not autocast("auto", MPS)._enabled


def test_sums_over_steps_have_a_type_that_the_device_has(monkeypatch, tmp_path):
    """float64 does not exist on a Mac's GPU; on other devices sums stay in it."""
    assert widest_float(MPS) == torch.float32
    assert widest_float(torch.device("cpu")) == widest_float(torch.device("cuda")) == torch.float64
    wanted = []
    monkeypatch.setattr("frugalseg.engine.loop.widest_float", lambda device: wanted.append(device) or torch.float32)
    monkeypatch.setattr(torch.Tensor, "double", lambda self: pytest.fail("a sum in float64 on the device"))
    run_toy(tmp_path / "run", ToyTask())
    assert wanted == [torch.device("cpu")]


def test_lightning_is_given_the_accelerator(mac, monkeypatch):
    given = {}

    class Fabric(SimpleNamespace):
        def launch(self):
            given.update(vars(self))

    monkeypatch.setattr(lightning_fabric, "Fabric", Fabric)
    make_fabric("mps", "auto")
    assert (given["accelerator"], given["devices"], given["precision"]) == ("mps", 1, "32-true")


def test_several_processes_cannot_share_it(mac, monkeypatch):
    monkeypatch.setattr(devices, "count_processes", lambda: 2)
    with pytest.raises(OptionError, match="several processes cannot train together"):
        make_fabric("mps", "32")


def test_it_has_a_name_for_people(monkeypatch):
    monkeypatch.setattr(devices.platform, "mac_ver", lambda: ("15.2", ("", "", ""), "arm64"))
    assert describe_device(MPS) == "Apple GPU (MPS), macOS 15.2"


def test_its_free_memory_is_what_metal_recommends_less_what_is_used(monkeypatch):
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 10 << 30)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 4 << 30)
    assert free_memory(MPS) == 6 << 30


def test_its_lack_of_memory_is_recognised():
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))


@pytest.mark.parametrize("table", [SLICES_AT_ONCE, SLICES_PER_BATCH, BOXES_PER_BATCH, PROMPTS_PER_BATCH, BATCH])
def test_every_table_of_batch_sizes_has_it(table):
    assert table.keys() == {"cpu", "mps", "cuda"}


def test_operations_that_it_lacks_fall_back_to_the_cpu(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delenv("PYTORCH_ENABLE_MPS_FALLBACK", raising=False)
    prepare_environment(None)
    assert devices.os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] == "1"
    monkeypatch.setenv("PYTORCH_ENABLE_MPS_FALLBACK", "0")
    prepare_environment(None)
    assert devices.os.environ["PYTORCH_ENABLE_MPS_FALLBACK"] == "0", "the user's choice stays"
