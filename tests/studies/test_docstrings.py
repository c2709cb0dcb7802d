"""Docstrings of trainings and mask makers that refer to what they implement."""

from __future__ import annotations

import inspect
import re

import pytest

from frugalseg.studies.mask_makers.table import MASK_MAKERS
from frugalseg.studies.trainings.table import TRAININGS

REFERENCE = re.compile(r"^See `(\w+)\.(\w+)`", re.MULTILINE)


@pytest.mark.parametrize("kind", [*TRAININGS.values(), *MASK_MAKERS.values()], ids=lambda kind: kind.__name__)
def test_what_a_docstring_refers_to_is_what_it_overrides(kind):
    bases = {base.__name__: base for base in kind.__mro__[1:]}
    for name in vars(kind):
        for base, method in REFERENCE.findall(inspect.getdoc(getattr(kind, name)) or ""):
            assert method == name
            assert name in vars(bases[base])
