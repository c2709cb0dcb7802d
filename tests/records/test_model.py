"""model.json: the files of every training are read, and those of the previous format."""

from __future__ import annotations

import json
import math

import pytest

from frugalseg.errors import RunError
from frugalseg.imaging.intensity import IntensityScale
from frugalseg.records.any_model import read_mask_model, read_model
from frugalseg.records.model import ModelRecord, Preprocessing, ScanRole, read_model_kind
from frugalseg.records.networks import EncoderAnnotation, EncoderRecord, SegmenterAnnotation, SegmenterRecord
from frugalseg.records.record import rename_keys
from frugalseg.records.sam_mix import BaseModel, FocalLoss, SamMixAnnotation, SamMixRecord, SamMixSettings
from tests.records.files import FORMAT_0, old_file

KINDS = {"encoder": EncoderRecord, "segmenter": SegmenterRecord, "sam-mix": SamMixRecord}


@pytest.fixture
def run(tmp_path):
    """A run folder with the model.json of a fixture, with some of its values changed."""

    def make(kind, **change):
        (tmp_path / "model.json").write_text(json.dumps(old_file(f"{kind}.model", **change)))
        return tmp_path

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_a_format_is_read_and_written_in_the_present_one(run, tmp_path, kind):
    record = read_model(run(kind))
    assert type(record) is KINDS[kind]
    assert (record.kind, record.KIND) == (kind, kind)
    record.write(tmp_path / "model.json")
    content = json.loads((tmp_path / "model.json").read_text())
    assert content["format"] == ModelRecord.FORMAT
    assert KINDS[kind].read_run(tmp_path) == record
    # Nothing of the old file is lost.
    old = rename_keys(old_file(f"{kind}.model"), {"way_from_base": "interpolation", "share_of_map": "map_factor"})
    assert old.keys() <= content.keys()
    assert {name: content[name] for name in old if name not in ("preprocessing", "annotation")} == {
        name: value for name, value in old.items() if name not in ("preprocessing", "annotation")
    }
    for name in ("preprocessing", "annotation"):
        assert old[name].items() <= content[name].items()


def test_the_values_of_an_encoder():
    record = EncoderRecord.read(FORMAT_0 / "encoder.model.json")
    assert (record.backbone, record.norm, record.context, record.method) == ("unet", "instance_affine", 0, "polycl-s")
    assert record.preprocessing == Preprocessing(32, IntensityScale("ct", -160, 240))
    assert record.annotation == EncoderAnnotation(masks=0, organ_present_labels=0, scans_seen=3)
    assert record.probe is not None
    assert record.probe.organs == ("liver", "spleen")
    assert len(record.fingerprints) == 3


def test_the_values_of_a_segmenter():
    record = SegmenterRecord.read(FORMAT_0 / "segmenter.model.json")
    assert record.targets == {"liver": (6,), "spleen": (1,)}
    assert record.scans[0] == ScanRole("scan_00", record.scans[0].fingerprint, "pretrain")
    pretraining = EncoderAnnotation(masks=0, organ_present_labels=0, scans_seen=3)
    assert isinstance(record.annotation, SegmenterAnnotation)
    assert record.annotation.pretraining == pretraining
    assert (record.annotation.organ_present_labels, record.annotation.pretrain_scans) == (0, 3)
    assert record.annotation.unlabelled_scans == 2


def test_the_values_of_a_sam_mix():
    record = SamMixRecord.read(FORMAT_0 / "sam-mix.model.json")
    assert record.base == BaseModel("sam", "SAM (sam)", "fc9dfdf79074a403")
    assert record.settings == SamMixSettings("decoder", 8, "mask", 0.4, 64, 2, 32)
    assert record.focal == FocalLoss({"liver": 0.5, "spleen": 0.5}, 2.0)
    assert isinstance(record.annotation, SamMixAnnotation)
    assert record.annotation.masks == 5
    assert (record.annotation.unlabelled_slices, record.annotation.pretrain_scans) == (0, 0)
    written = old_file("sam-mix.model")
    assert (record.interpolation, record.map_factor) == (written["way_from_base"], written["share_of_map"])


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("encoder", {"context": 10**9}, "context is 1000000000"),
        ("encoder", {"norm": "group"}, "'norm': invalid enum value 'group'"),
        ("encoder", {"fingerprints": None}, "'fingerprints': expected a list"),
        ("segmenter", {"targets": {}}, "targets names no organ"),
        ("segmenter", {"keep": {"liver": "all"}}, "keep names no post-processing for spleen"),
        ("segmenter", {"context": -1}, "context is -1"),
        ("segmenter", {"keep": {"liver": "all", "spleen": "some"}}, "invalid enum value 'some'"),
        ("segmenter", {"preprocessing": {"size": 0, "intensity": {"kind": "ct", "low": 0, "high": 1}}}, "size is 0"),
        (
            "segmenter",
            {"preprocessing": {"size": 8, "intensity": {"kind": "ct", "low": math.nan, "high": 1}}},
            "expected a lower and a higher number",
        ),
        ("sam-mix", {"settings": {}}, "it has no 'settings.adapt'"),
        ("sam-mix", {"targets": {}}, "targets names no organ"),
    ],
)
def test_impossible_values_are_damage_of_the_file(run, kind, change, told):
    folder = run(kind, **change)
    with pytest.raises(RunError) as error:
        read_model(folder)
    assert f"{folder / 'model.json'} is damaged" in error.value.problem
    assert told in error.value.problem
    assert error.value.cure == ModelRecord.CURE


def test_a_run_of_another_kind_is_refused_and_the_command_named(run):
    with pytest.raises(RunError, match="holds a model of kind 'encoder', expected 'segmenter'") as error:
        SegmenterRecord.read_run(run("encoder"))
    assert error.value.cure == "give a run folder of `frugalseg finetune`"
    with pytest.raises(RunError, match="expected 'segmenter'"):
        read_mask_model(run("encoder"))
    assert isinstance(read_mask_model(run("sam-mix")), SamMixRecord)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(RunError, match="holds no trained model") as error:
        EncoderRecord.read_run(tmp_path)
    assert error.value.cure == "give a run folder of `frugalseg pretrain`"
    (tmp_path / "config.yaml").touch()
    with pytest.raises(RunError, match="is a run that has not finished"):
        read_model_kind(tmp_path)


def test_an_unknown_kind(run):
    folder = run("encoder")
    (folder / "model.json").write_text(json.dumps(old_file("encoder.model", kind="oracle")))
    assert read_model_kind(folder) == "oracle"
    with pytest.raises(RunError, match="its kind is 'oracle', expected encoder, segmenter, sam-mix"):
        read_model(folder)


def test_a_file_of_a_later_version(run):
    with pytest.raises(RunError, match="has format 99") as error:
        read_model(run("encoder", format=99))
    assert error.value.cure == "update frugalseg"


def test_a_segmenter_made_before_validation_masks_were_counted(run):
    annotation = old_file("segmenter.model")["annotation"]
    del annotation["validation_masks"]
    record = read_mask_model(run("segmenter", annotation=annotation))
    assert record.annotation.validation_masks is None
