from __future__ import annotations

import json
from dataclasses import replace

import pytest

from frugalseg.errors import RunError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.imaging.volume import Volume
from frugalseg.promptable.embeddings import EmbeddingCache, ScanSlices, hash_signature, make_embedding_signature
from frugalseg.propagation.task import prepare_folder
from frugalseg.records.origin import WeightsOrigin
from frugalseg.records.signatures import EmbeddingSignature, SlicesSignature
from tests.promptable.fake import Bright
from tests.records.test_store import FIXTURES, TIMES
from tests.scans import AFFINE_LPS, tiny_scan


@pytest.mark.parametrize("time", TIMES)
def test_embeddings_of_an_older_version_are_found_again(tmp_path, time):
    path = FIXTURES / time / "embedding_signature.json"
    there = EmbeddingSignature.read(path)
    digest = json.loads((FIXTURES / time / "embedding_digest.json").read_text())
    assert hash_signature(there) == digest
    scan = ScanSlices.of(Volume(tiny_scan()[0], AFFINE_LPS), IntensityScale("ct", -160, 240))
    assert make_embedding_signature(scan, Bright()) == there
    EmbeddingCache(tmp_path, there)
    assert (tmp_path / digest[:20] / "signature.json").read_text() == path.read_text()


def test_the_part_that_differs_is_named():
    one = EmbeddingSignature.read(FIXTURES / "before_records" / "embedding_signature.json")
    assert one.difference(one) is None
    assert replace(one, shown={"0": 0.0, "1": 1.0}).difference(one) == "shown"
    assert replace(one, recipe={}, image="another").difference(one) == "image"


@pytest.mark.parametrize("time", TIMES)
def test_slices_of_an_older_unfinished_propagation_are_kept(tmp_path, time):
    store = tmp_path / ".a.partial"
    store.mkdir()
    (store / "signature.json").write_bytes((FIXTURES / time / "slices_signature.json").read_bytes())
    (store / "0003.npz").touch()
    prepare_folder(store, ["a", 1], "b")
    assert (store / "0003.npz").exists()
    prepare_folder(store, ["a", 1], "b")
    assert (store / "0003.npz").exists()
    prepare_folder(store, ["a", 2], "b")
    assert not (store / "0003.npz").exists()


def test_slices_with_a_damaged_signature_are_not_kept(tmp_path):
    (tmp_path / "signature.json").write_text("[1]")
    (tmp_path / "0003.npz").touch()
    with pytest.raises(RunError, match="is damaged"):
        SlicesSignature.read(tmp_path / "signature.json")
    prepare_folder(tmp_path, "a")
    assert not (tmp_path / "0003.npz").exists()


@pytest.mark.parametrize("time", TIMES)
def test_an_older_origin_is_read(time):
    origin = WeightsOrigin.read(FIXTURES / time / "origin.json")
    source = "https://example.org/lite_medsam.pth"
    assert origin == WeightsOrigin("lite_medsam.pth", 12, "0" * 64, source, "Apache-2.0", True)
