from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from frugalseg.dataset.store import SliceStore
from frugalseg.segmentation.labels import LOWEST_LOGIT, frequency_logits
from tests.stores import store_record


def test_first_logits_are_the_frequencies_in_the_labelled_slices(tmp_path):
    """The softmax over (0, logits) then gives each organ the share of pixels that it has."""
    labels = np.zeros((3, 10, 10), dtype=np.uint8)
    labels[0, :2], labels[1, 0, 0], labels[2] = 1, 2, 3  # the third slice is not labelled
    np.save(tmp_path / "labels.npy", labels)
    record = store_record({"large": (1,), "tiny": (2,), "absent": (3,)}, size=10)
    store = SliceStore(tmp_path, record, pd.DataFrame(index=range(3)))
    large, tiny, absent = frequency_logits(store, np.array([0, 1]))
    shares = np.exp([0.0, large, tiny]) / np.exp([0.0, large, tiny]).sum()
    assert shares == pytest.approx([179 / 200, 20 / 200, 1 / 200])
    assert absent == pytest.approx(max(LOWEST_LOGIT, np.log(1 / 179)))
