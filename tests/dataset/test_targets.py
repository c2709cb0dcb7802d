from __future__ import annotations

import numpy as np
import pytest

from frugalseg.dataset.targets import parse_targets, to_classes, to_values
from frugalseg.errors import OptionError


def test_reads_one_several_and_merged():
    assert parse_targets(["liver=6"]) == {"liver": (6,)}
    assert list(parse_targets(["liver=1,2", "left kidney=3"]).items()) == [("liver", (1, 2)), ("left kidney", (3,))]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["liver"], "name=value"),
        (["=6"], "name=value"),
        (["liver=six"], "name=value"),
        (["liver=1,"], "name=value"),
        (["liver=0"], "background"),
        (["liver=-1"], "must be in 1…65535"),
        (["liver=70000"], "must be in 1…65535"),
        (["liver=1", "liver=2"], "twice"),
        (["liver=1", "spleen=2,1"], "to 'liver' and to 'spleen'"),
    ],
)
def test_refuses_what_makes_no_sense(texts, said):
    with pytest.raises(OptionError, match=said):
        parse_targets(texts)


def test_classes_and_back():
    targets = parse_targets(["liver=1,300", "spleen=7"])
    labels = np.array([[0, 1, 300], [7, 5, 300]], dtype=np.uint16)
    classes = to_classes(labels, targets)
    assert classes.tolist() == [[0, 1, 1], [2, 0, 1]]
    assert classes.dtype == np.uint8
    assert to_values(classes, targets).tolist() == [[0, 1, 1], [7, 0, 1]]


def test_values_above_a_byte_survive():
    targets = parse_targets(["liver=300"])
    assert to_values(np.array([0, 1], np.uint8), targets).tolist() == [0, 300]
