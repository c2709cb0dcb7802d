"""Labels: added, renamed, deleted with their voxels, and every change undone."""

from __future__ import annotations

import numpy as np
import pytest

from tests.annotation.session import disc, put, read_mask

SHAPE = (32, 32)


def names(client):
    return {label["value"]: label["name"] for label in client.get("/api/state").json()["labels"]}


def test_labels_are_added_with_the_lowest_unused_value(client):
    assert client.post("/api/labels", json={"name": "aorta"}).json()["value"] == 2
    assert names(client) == {1: "spleen", 2: "aorta", 6: "liver"}
    client.post("/api/labels/undo")
    assert names(client) == {1: "spleen", 6: "liver"}


@pytest.mark.parametrize("name", ["liver", "", "a=b", "<b>x</b>", "x" * 61, "a,b"])
def test_a_used_or_unusable_name_is_refused(client, name):
    assert client.post("/api/labels", json={"name": name}).status_code == 422
    assert names(client) == {1: "spleen", 6: "liver"}


def test_a_label_is_renamed_and_recoloured_and_back(client):
    changed = client.patch("/api/labels/6", json={"name": "Leber", "color": "#0A0b0C"}).json()
    assert changed == {"value": 6, "name": "Leber", "color": "#0a0b0c"}
    client.post("/api/labels/undo")
    assert names(client)[6] == "liver"
    assert client.patch("/api/labels/6", json={"color": "red"}).status_code == 422


def test_a_drawn_label_is_deleted_only_after_asking_and_comes_back(client):
    both = disc(SHAPE)
    both[0, :5] = 1
    put(client, "scan_00", 3, both, 0)
    put(client, "scan_01", 4, disc(SHAPE), 0)
    asked = client.delete("/api/labels/6")
    assert asked.status_code == 409
    assert (asked.json()["slices"], asked.json()["voxels"]) == (2, 2 * np.count_nonzero(disc(SHAPE)))
    np.testing.assert_array_equal(read_mask(client, "scan_00", 3, SHAPE), both)

    assert client.delete("/api/labels/6?confirm=true").status_code == 200
    assert names(client) == {1: "spleen"}
    np.testing.assert_array_equal(read_mask(client, "scan_00", 3, SHAPE), np.where(both == 1, 1, 0))
    assert client.get("/api/cases/scan_00").json()["slices"][3]["source"] == "outlined"

    client.post("/api/labels/undo")
    assert names(client) == {1: "spleen", 6: "liver"}
    np.testing.assert_array_equal(read_mask(client, "scan_00", 3, SHAPE), both)
    np.testing.assert_array_equal(read_mask(client, "scan_01", 4, SHAPE), disc(SHAPE))


def test_undoing_a_deletion_leaves_what_was_drawn_since(client):
    put(client, "scan_00", 3, disc(SHAPE), 0)
    put(client, "scan_01", 4, disc(SHAPE), 0)
    client.delete("/api/labels/6?confirm=true")
    later = disc(SHAPE, value=1, radius=0.1)
    put(client, "scan_00", 3, later, 2)
    client.post("/api/labels/undo")
    np.testing.assert_array_equal(read_mask(client, "scan_00", 3, SHAPE), later)
    np.testing.assert_array_equal(read_mask(client, "scan_01", 4, SHAPE), disc(SHAPE))


def test_nothing_is_left_to_undo(client):
    assert client.post("/api/labels/undo").status_code == 422
