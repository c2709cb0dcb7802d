from __future__ import annotations

import numpy as np
from scipy import ndimage

from frugalseg.segment.components import keep_largest


def naive(classes, numbers):
    out = classes.copy()
    for number in numbers:
        labels, count = ndimage.label(classes == number, structure=np.ones((3, 3, 3)))
        if count:
            sizes = [(labels == i).sum() for i in range(1, count + 1)]
            out[(classes == number) & (labels != 1 + int(np.argmax(sizes)))] = 0
    return out


def test_equals_the_loops_on_random_blobs():
    rng = np.random.default_rng(0)
    for _ in range(5):
        noise = ndimage.gaussian_filter(rng.normal(size=(20, 21, 22)), 1.5)
        classes = (np.digitize(noise, [0.08, 0.14])).astype(np.uint8)
        for numbers in ([1], [2], [1, 2]):
            assert np.array_equal(keep_largest(classes.copy(), numbers), naive(classes, numbers))


def test_corner_contact_joins_and_other_classes_stay():
    classes = np.zeros((6, 6, 6), np.uint8)
    classes[0, 0, 0] = classes[1, 1, 1] = 1
    classes[5, 5, 5] = 1
    classes[3, 3, 3] = classes[0, 5, 0] = 2
    kept = keep_largest(classes, [1])
    assert kept[0, 0, 0] == kept[1, 1, 1] == 1
    assert kept[5, 5, 5] == 0
    assert (kept == 2).sum() == 2


def test_absent_class_is_no_error():
    assert keep_largest(np.zeros((3, 3, 3), np.uint8), [1, 2]).sum() == 0
