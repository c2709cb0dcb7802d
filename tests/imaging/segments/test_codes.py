from __future__ import annotations

import csv

import pytest
from pydicom.sr.codedict import codes as dictionary

from frugalseg.errors import OptionError
from frugalseg.imaging.segments.codes import TABLE, find_codes, to_key


def test_every_code_is_in_the_dictionary_of_the_standard() -> None:
    terms = [getattr(dictionary.SCT, name) for name in dir(dictionary.SCT)]
    known = {(term.value, term.scheme_designator) for term in terms if hasattr(term, "scheme_designator")}
    with TABLE.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for column in ("value", "modifier_value", "category_value"):
                assert not row[column] or (row[column], "SCT") in known, row


def test_the_words_of_a_name_may_stand_in_any_order() -> None:
    assert to_key("Kidney_Right") == to_key("right kidney") != to_key("left kidney")
    codes = find_codes(["kidney_left", "Liver"])
    assert (codes["kidney_left"].type.value, codes["kidney_left"].modifier.meaning) == ("64033007", "Left")
    assert codes["Liver"].modifier is None


def test_an_organ_without_a_code_is_refused_and_a_table_helps(tmp_path) -> None:
    with pytest.raises(OptionError, match="there is none for blob"):
        find_codes(["liver", "blob"])
    table = tmp_path / "own.csv"
    table.write_text("name,scheme,value,meaning,modifier_value,modifier_meaning\nblob,99X,B1,Blob,24028007,Right\n")
    code = find_codes(["blob"], table)["blob"]
    assert (code.type.scheme, code.type.value, code.modifier.meaning) == ("99X", "B1", "Right")
    with pytest.raises(OptionError, match="cannot be read"):
        find_codes(["blob"], tmp_path / "none.csv")
