"""A full disk is a `DiskError`, whichever library writes, and the previous file is unchanged."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import save

from frugalseg.engine.checkpoint import link_as_best, load_checkpoint, save_checkpoint
from frugalseg.engine.files import atomic_write, write_joined, write_json
from frugalseg.errors import DiskError
from frugalseg.imaging.volume import Volume
from frugalseg.imaging.write import write_mask
from frugalseg.phantoms.cohort import PhantomOptions, write_cohort
from frugalseg.propagation.passes import SliceState
from tests.engine.toy import ToyTask, run_toy

NOISE = np.random.default_rng(0).integers(0, 256, 400_000, dtype=np.uint8)
AFFINE = np.diag([-1.0, -1, 1, 1])


@contextmanager
def limit_file_size(size):
    """Writes beyond this many bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def checkpoint(path):
    save_checkpoint(path, {"step": 1, "model": {str(i): torch.from_numpy(NOISE.copy()) for i in range(3)}})


def safetensors(path):
    with atomic_write(path) as file:
        file.write(save({"w": torch.from_numpy(NOISE.copy())}))


def parquet(path):
    with atomic_write(path) as file:
        pd.DataFrame({"a": NOISE.astype(float)}).to_parquet(file)


def table(path):
    with atomic_write(path, "w") as file:
        pd.DataFrame({"a": NOISE}).to_csv(file)


def picture(path):
    figure = Figure(figsize=(8, 8))
    figure.subplots().imshow(NOISE[:360_000].reshape(600, 600))
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=150)


def text(path):
    write_json(path, NOISE.tolist())


def joined(path):
    part = path.with_name("part")
    with limit_file_size(resource.RLIM_INFINITY):
        part.write_bytes(NOISE.tobytes())
    try:
        write_joined(path, np.dtype(np.uint8), NOISE.shape, [part])
    finally:
        part.unlink()


def slice_state(path):
    beliefs = (NOISE[:360_000].reshape(1, 600, 600) / 32 - 4).astype(np.float32)
    one = np.ones(1)
    SliceState(0, beliefs, one > 0, one, one, one).save(path)


def mask(path):
    write_mask(Volume(NOISE.reshape(100, 100, 40), AFFINE, path), path)


WRITERS = {
    "last.ckpt": checkpoint,
    "model.safetensors": safetensors,
    "slices.parquet": parquet,
    "cases.csv": table,
    "chart.png": picture,
    "cases.json": text,
    "images.npy": joined,
    "0001.npz": slice_state,
    "mask.nii": mask,
    "mask.nii.gz": mask,
    "mask.nrrd": mask,
    "mask.mha": mask,
}


@pytest.mark.parametrize("size", [0, 100, 5_000, 70_000, 200_000])
@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_says_that_the_disk_is_full(tmp_path, name, size):
    path = tmp_path / name
    path.write_bytes(b"before")
    with limit_file_size(size), pytest.raises(DiskError, match=rf"{name}") as caught:
        WRITERS[name](path)
    assert "space" in str(caught.value)
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_training_keeps_its_last_checkpoint(tmp_path):
    class Wide(ToyTask):
        def __init__(self):
            super().__init__()
            self.more, self.steps_done = torch.zeros(0), 0

        def after_step(self):
            self.steps_done += 1
            if self.steps_done == 15:
                self.model.register_buffer("more", torch.from_numpy(NOISE.copy()))

    with limit_file_size(300_000), pytest.raises(DiskError, match=r"no space left while writing .*last\.ckpt"):
        run_toy(tmp_path / "run", Wide())
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["step"] == 10
    assert not list((tmp_path / "run").rglob(".*.tmp*"))


def test_a_best_checkpoint_that_has_to_be_copied(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError

    last, best = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    checkpoint(last)
    monkeypatch.setattr(os, "link", no_links)
    with limit_file_size(1000), pytest.raises(DiskError, match="best.ckpt"):
        link_as_best(last, best)
    link_as_best(last, best)
    assert best.read_bytes() == last.read_bytes()


def test_phantoms(tmp_path):
    with limit_file_size(1000), pytest.raises(DiskError, match="no space left"):
        write_cohort(tmp_path, 1, 0, PhantomOptions(shape=(32, 32, 8)))


def test_a_file_system_that_is_really_full(tmp_path):
    tmp_path = tmp_path / "small"
    tmp_path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here ({mounted.stderr.decode().strip()})")
    try:
        write_json(tmp_path / "small.json", {"a": 1})
        for name, write in WRITERS.items():
            if write is not joined:
                with pytest.raises(DiskError, match=name):
                    write(tmp_path / name)
        assert [path.name for path in tmp_path.iterdir()] == ["small.json"]
        assert json.loads((tmp_path / "small.json").read_text()) == {"a": 1}
    finally:
        subprocess.run(["umount", tmp_path], check=True)
