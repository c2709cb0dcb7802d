from __future__ import annotations

import pytest
import torch

from frugalseg.errors import RunError
from frugalseg.sam_mix.features import Features


def test_each_row_is_encoded_once_and_comes_back_the_same(tmp_path):
    encoded = []

    def encode(row):
        encoded.append(row)
        return torch.full((2, 3, 3), row + 0.5)

    features = Features(encode, 10, tmp_path / "run")
    first = features(torch.tensor([7, 2, 7]))
    assert first.shape == (3, 2, 3, 3)
    assert first.dtype == torch.float32
    assert encoded == [7, 2]
    again = features(torch.tensor([2, 0, 7]))
    assert encoded == [7, 2, 0]
    assert again[:, 0, 0, 0].tolist() == [2.5, 0.5, 7.5]
    assert torch.equal(again[2], first[0])
    assert not list((tmp_path / "run").iterdir())


def test_values_beyond_float16_are_reported(tmp_path):
    with pytest.raises(RunError, match="float16"):
        Features(lambda row: torch.full((1, 2, 2), 1e6), 3, tmp_path)(torch.tensor([1]))
