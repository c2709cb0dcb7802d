"""The command on tiny scans: every method, exact resumption, what is recorded, and bad input."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.checkpoint import load_checkpoint
from frugalseg.errors import FrugalsegError, OptionError, SplitError
from frugalseg.models.registry import build_segmenter
from frugalseg.models.saved import load_encoder
from frugalseg.options import PrepareOptions, PretrainOptions
from frugalseg.pretraining import methods as methods_module
from frugalseg.pretraining import task as task_module
from frugalseg.pretraining.methods import BYOL_DIM, METHODS, Head
from frugalseg.pretraining.pretrain import pretrain
from frugalseg.pretraining.slice_selection import select_training_slices
from frugalseg.pretraining.task import PretrainTask
from frugalseg.records.networks import PublishedWeights
from tests.engine.replay import CallRecorder, CpuRecorder, train_as_on_a_gpu
from tests.scans import write_cohort

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    images, labels = write_cohort(root, 9, labelled=6)
    return prepare(
        PrepareOptions(images=images, labels=labels, target=["liver=6"], size=32, superpixels=True, out=root / "store")
    )


@pytest.fixture(autouse=True)
def _unlabelled_scans_are_meant(recwarn):
    """Methods with image-level labels warn of unlabelled scans, which has a test below."""


def options(store, tmp_path, **changes):
    chosen = {"data": store.folder, "out": tmp_path / "run", "batch_size": 8, "device": "cpu", "precision": "32"}
    return PretrainOptions(**chosen | changes)


def make_task(store, tmp_path, **changes):
    return PretrainTask(options(store, tmp_path, **changes), store, store.split(), CPU)


def records(run):
    """metrics.jsonl without what depends on the clock."""
    clock = {"seconds", "samples_per_s", "wait"}
    return [{k: v for k, v in record.items() if k not in clock} for record in run.read_records()]


def test_the_registry_and_the_options_name_the_same_methods():
    assert get_args(get_args(get_type_hints(PretrainOptions)["method"])[0]) == tuple(METHODS)


def test_the_methods_page_tells_every_method_and_its_defaults():
    page = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "methods.md").read_text(encoding="utf-8")
    table = page.split("## ")[0].splitlines()
    rows = {line.split("|")[1].strip(" `"): line for line in table if line.startswith("| `")}
    assert list(rows) == list(METHODS)
    for name, method in METHODS.items():
        *_, views, labels, defaults, _ = (cell.strip() for cell in rows[name].split("|"))
        assert views == str(method.views), name
        assert labels == ("yes" if method.annotation != "none" else "no"), name
        compares = name not in {"byol", "classify"}
        assert list(map(float, defaults.split(","))) == [method.recipe.lr, *[method.recipe.tau] * compares], name


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_its_encoder_fits_a_segmenter(store, tmp_path, method):
    run = pretrain(options(store, tmp_path, method=method, steps=2))
    spec = json.loads((run.path / "model.json").read_text())
    assert (spec["kind"], spec["method"], spec["norm"]) == ("encoder", method, "instance_affine")
    labelled = METHODS[method].annotation != "none"
    split = store.split()
    scans = [p for p in split.train if p < "scan_06" or not labelled]
    assert spec["annotation"] == {
        "masks": 0,
        "organ_present_labels": 12 * len(scans) if labelled else 0,
        "scans_seen": len(scans),
    }
    assert set(spec["fingerprints"]) == store.fingerprints_of_patients(set(scans))
    weights = load_file(run.path / "model.safetensors")
    counted = [name for name in weights if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert spec["parameters"] == sum(weights[name].numel() for name in counted)
    assert {name.split(".")[0] for name in weights} == {"encoder", "head"}
    (last,) = records(run)
    assert np.isfinite(last["loss"])
    assert {"uniformity", "embedding_rank", "probe_auroc"} <= last.keys()
    model = build_segmenter("unet", 1, "instance_affine")
    load_encoder(model.encoder, run.path)
    name = "levels.0.0.weight"
    assert torch.equal(model.encoder.state_dict()[name], weights[f"encoder.{name}"])


@pytest.mark.parametrize("method", ["moco", "byol", "polycl-m", "supercl"])
def test_a_run_broken_off_and_resumed_equals_the_unbroken_one(store, tmp_path, monkeypatch, method):
    """Slow copies, queues, schedules, views, dropout, and drawn pixels all go on where they were, bit for bit."""
    narrow = replace(METHODS["byol"], head=Head(64, BYOL_DIM, batch_norm=True))  # 80 MB a checkpoint otherwise
    monkeypatch.setitem(METHODS, "byol", narrow)
    monkeypatch.setattr(methods_module, "BYOL_HIDDEN", 64)
    own = {"moco": {"queue_size": 24}, "supercl": {"intra_slices": 0.4}}
    chosen = {"method": method, "steps": 7, "checkpoint_minutes": 1e-9} | own.get(method, {})
    whole = pretrain(options(store, tmp_path, **chosen, out=tmp_path / "whole"))
    left = 4
    learn = PretrainTask.losses

    def killed(self, model, batch):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return learn(self, model, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PretrainTask, "losses", killed)
        pretrain(options(store, tmp_path, **chosen, out=tmp_path / "broken"))
    assert not (tmp_path / "broken" / "model.json").exists()
    broken = pretrain(options(store, tmp_path, **chosen, out=tmp_path / "broken", resume="yes"))
    one, other = load_checkpoint(whole.last), load_checkpoint(broken.last)
    assert one["step"] == other["step"] == 7
    assert one["model"].keys() == other["model"].keys()
    assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])
    assert records(whole) == records(broken)
    if method == "moco":
        assert (one["model"]["queue_rows"] >= 0).all()
        assert one["model"]["oldest"] == 7 * 8 % 24


@pytest.mark.parametrize("norm", ["instance_affine", "batch"])
@pytest.mark.parametrize("method", METHODS)
def test_the_graphable_module_is_called_in_every_step(store, tmp_path, method, norm):
    """One call a step, and always on one shape, of what embeds the views, however many passes a batch norm makes of
    it; learners that do otherwise are not recorded."""
    task = make_task(store, tmp_path, method=method, norm=norm, context=1)
    constant = task.graphable_module()
    assert (constant is None) == (method in {"moco", "byol", "supercl"})
    if constant is None:
        return
    recorded, shape = constant
    task.model.train()
    calls = []
    recorded.register_forward_pre_hook(lambda module, args: calls.append((module.training, *args)))
    for steps, batch in enumerate(task.stream(task.batches(0)[:2] + task.batches(1)[:1]), start=1):
        task.losses(task.model, batch)["loss"].backward()
        assert len(calls) == steps
    assert {(training, images.shape) for training, images in calls} == {(True, shape)}


@pytest.mark.parametrize("method", METHODS)
def test_replayed_steps_are_those_that_python_computes(store, tmp_path, monkeypatch, method):
    """Pairs, views, losses, slow copies, queues and superpixels: nothing is frozen, nothing read back."""
    narrow = replace(METHODS["byol"], head=Head(64, BYOL_DIM, batch_norm=True))
    monkeypatch.setitem(METHODS, "byol", narrow)
    monkeypatch.setattr(methods_module, "BYOL_HIDDEN", 64)
    chosen = {"method": method, "steps": 6} | ({"queue_size": 24} if method == "moco" else {})
    found = {}
    for name, recorder in (("called", CallRecorder), ("replayed", CpuRecorder)):
        recorders = train_as_on_a_gpu(monkeypatch, recorder)
        found[name] = load_checkpoint(pretrain(options(store, tmp_path, **chosen, out=tmp_path / name)).last)["model"]
    assert [(one.recorded, one.replayed) for one in recorders] == [(1, 3)]
    for name, value in found["called"].items():
        assert torch.equal(found["replayed"][name], value), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="steps are captured on a GPU, and there is none")
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_captures_whole_steps(store, tmp_path, capsys, method):
    pretrain(options(store, tmp_path, method=method, steps=6, device="cuda"))
    assert "CUDA graph" not in capsys.readouterr().err


def test_superpixels_of_every_step_keep_a_step_from_being_recorded(store, tmp_path):
    assert make_task(store, tmp_path, method="supercl").graphable
    assert not make_task(store, tmp_path, method="supercl", superpixels="online").graphable


def test_backbones_bring_their_own_norm_and_published_weights_are_noted(store, tmp_path, monkeypatch):
    def load(encoder, backbone, path):
        torch.nn.init.constant_(next(encoder.parameters()), 0.5)
        return PublishedWeights(path.name, "0" * 64, backbone, 7)

    monkeypatch.setattr(task_module, "load_published", load)
    chosen = options(store, tmp_path, method="simclr", backbone="resunet", weights=tmp_path / "w.pth", steps=1)
    run = pretrain(chosen)
    spec = json.loads((run.path / "model.json").read_text())
    assert spec["norm"] == "batch"
    assert (spec["published_weights"]["file"], spec["published_weights"]["kind"]) == ("w.pth", "resunet")
    first = next(iter(PretrainTask(chosen, store, store.split(), CPU).model.network.encoder.parameters()))
    assert (first == 0.5).all()


def test_only_training_patients_are_drawn_and_organ_methods_use_labelled_scans(store, tmp_path):
    split = store.split()
    everyone = store.slices.loc[select_training_slices(store, split, options(store, tmp_path, method="polycl-s"))]
    assert set(everyone["patient"]) == set(split.train)
    with pytest.warns(UserWarning, match="unlabelled slices of 3 scans are not used"):
        rows = select_training_slices(store, split, options(store, tmp_path, method="polycl-m"))
    assert set(store.slices.loc[rows, "patient"]) == {p for p in split.train if p < "scan_06"}


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.annotation == "none"])
def test_methods_without_annotation_never_learn_from_labels(store, tmp_path, method):
    """The same scans with other labels, or none, give the same batches and facts."""
    told = make_task(store, tmp_path, method=method)
    turned = SliceStore(store.folder, store.record, store.slices.assign(has_liver=~store.slices["has_liver"]))
    blind = PretrainTask(options(store, tmp_path, method=method), turned, store.split(), CPU)
    assert torch.equal(torch.stack(told.batches(1)), torch.stack(blind.batches(1)))
    assert told.metadata.present.shape[1] == 0
    assert not told.metadata.organs.any()


def test_batches_are_triplets_of_the_rule_stacked_for_the_loss(store, tmp_path):
    task = make_task(store, tmp_path, method="polycl-m")
    batches = task.batches(0)
    assert all(batch.shape == (8, 3) for batch in batches)
    table = store.slices
    for anchor, positive, negative in torch.cat(batches).tolist():
        assert table.at[anchor, "case"] == table.at[positive, "case"] == table.at[negative, "case"]
        assert table.at[anchor, "has_liver"] == table.at[positive, "has_liver"] != table.at[negative, "has_liver"]
    first = next(iter(task.stream(batches[:1])))
    stacked = np.concatenate([batches[0][:, i].numpy() for i in range(3)])
    assert np.array_equal(first.rows.numpy(), stacked)
    assert np.array_equal(first.images[:, 0].numpy(), store.images[stacked].astype(np.float32))


def test_pairs_are_redrawn_every_epoch_and_once_per_epoch(store, tmp_path, capsys):
    task = make_task(store, tmp_path, method="polycl-s")
    partner = [{a: p for a, p, _ in torch.cat(task.batches(epoch)).tolist()} for epoch in (0, 1)]
    both = partner[0].keys() & partner[1].keys()
    assert np.mean([partner[0][a] != partner[1][a] for a in both]) > 0.5
    assert task.batches(1) is task.batches(1)


def test_slices_without_a_partner_are_mentioned_once(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(SliceStore, "check_content", lambda *_: None)  # the slices are those of two scans now
    lonely = store.slices.copy()
    first = lonely.index[lonely["patient"].isin(store.split().train)][0]
    lonely.loc[first, "case"] = "a scan of one slice"
    task = PretrainTask(
        options(store, tmp_path, method="polycl-s"),
        SliceStore(store.folder, store.record, lonely),
        store.split(),
        CPU,
    )
    for epoch in (0, 0, 1, 0):
        task.batches(epoch)
    assert capsys.readouterr().err.count("not used as anchors: 1 slice without") in (1, 2)
    assert first not in torch.cat(task.batches(0))[:, 0].tolist()


def test_both_views_of_a_slice_stand_in_the_same_place(store, tmp_path, monkeypatch):
    task = make_task(store, tmp_path, method="simclr")
    seen = {}

    def watch(outputs, metadata, rows, superpixels):
        seen["rows"] = rows
        return {"loss": outputs.sum()}

    monkeypatch.setattr(task.model, "losses", watch)
    batch = next(iter(task.stream(task.batches(0)[:1])))

    def model(images):
        seen["images"] = images
        return images

    task.losses(model, batch)
    assert seen["images"].shape == (16, 1, 32, 32)
    assert torch.equal(seen["rows"], batch.rows.repeat(2))
    distance = torch.cdist(seen["images"][:8].flatten(1), seen["images"][8:].flatten(1))
    assert not (distance.diagonal() == 0).any()


def test_embeddings_learn_who_belongs_together(store, tmp_path):
    """After a few steps anchors are nearer to their positives than to their negatives, on fresh pairs."""
    torch.manual_seed(0)
    task = make_task(store, tmp_path, method="polycl-m", norm="batch", lr=1e-3)
    for epoch in range(4):
        for batch in task.stream(task.batches(epoch)):
            task.losses(task.model, batch)["loss"].backward()
            task.optimizer.step()
            task.optimizer.zero_grad()
    with torch.no_grad():  # in training mode: so few steps have not moved the running statistics yet
        fresh = [task.losses(task.model, batch)["loss"].item() for batch in task.stream(task.batches(99))]
    assert np.mean(fresh) < 0.35  # log 2 = 0.69 is chance


def test_defaults_are_the_methods_own_and_options_go_first(store, tmp_path):
    assert make_task(store, tmp_path, method="polycl-m").model.tau == 0.05
    assert make_task(store, tmp_path, method="simclr").model.tau == 0.1
    assert make_task(store, tmp_path, method="moco").model.tau == 0.2
    changed = make_task(store, tmp_path, method="simclr", temperature=0.5, lr=0.03)
    assert changed.model.tau == 0.5
    assert changed.optimizer.param_groups[0]["lr"] == 0.03


def test_schedules_move_within_an_epoch_polycl_restarts_and_the_others_end_at_nothing(store, tmp_path):
    def rates(**changes):
        task = make_task(store, tmp_path, **changes)
        found = []
        for _ in range(task.steps):
            found.append(task.optimizer.param_groups[0]["lr"])
            task.optimizer.step()
            task.scheduler.step()
        return task, found

    task, found = rates(method="polycl-s", epochs=4, restart_epochs=2)
    period = 2 * task.steps_per_epoch
    assert all(b < a for a, b in pairwise(found[:period]))
    assert found[period] == found[0] == 1e-4
    _, found = rates(method="simclr", epochs=4)
    assert all(b < a for a, b in pairwise(found))
    assert found[-1] < 0.02 * found[0]


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"method": "simclr", "batch_size": 500}, OptionError, "--batch-size 500 is more than the"),
        ({"method": "simclr", "augment": "none"}, OptionError, "would be identical"),
        ({"method": "polycl-s-batch", "batch_size": 6}, OptionError, "too small for 4 slices"),
        ({"method": "gcl", "batch_size": 6}, OptionError, "gcl takes 4 slices of each scan"),
        ({"method": "gcl", "middle_fraction": 0.2}, SplitError, "0 training scans have four slices"),
        ({"method": "pcl", "position_threshold": 1.5}, SplitError, "pcl finds no negative"),
        ({"method": "byol", "backbone": "none-such"}, OptionError, "--backbone 'none-such'"),
        (
            {"method": "byol", "weights": Path("w.pth")},
            OptionError,
            "there are no published weights for --backbone unet",
        ),
        ({"method": "moco", "backbone": "transunet-small", "norm": "instance"}, OptionError, "--norm instance"),
    ],
)
def test_what_cannot_work_is_refused_before_training(store, tmp_path, changes, error, said):
    with pytest.raises(error, match=said):
        pretrain(options(store, tmp_path, steps=2, **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.annotation != "none"])
def test_organ_methods_without_any_label_or_with_one_kind_are_refused(store, tmp_path, method):
    split = store.split()
    unlabelled = type(split)(tuple(p for p in split.train if p >= "scan_06"), split.validation, split.test)
    with pytest.raises(SplitError, match=f"{method} needs to know"):
        PretrainTask(options(store, tmp_path, method=method), store, unlabelled, CPU)
    everywhere = SliceStore(store.folder, store.record, store.slices.assign(has_liver=True))
    with pytest.raises(SplitError, match="all slices show the same organs"):
        PretrainTask(options(store, tmp_path, method=method), everywhere, split, CPU)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_scan_trains_or_the_error_says_why(store, tmp_path, method):
    """A split file may leave a single scan to train on; no method may divide by nothing then."""
    split = store.split()
    alone = type(split)(split.train[:1], split.validation, split.test)
    chosen = options(store, tmp_path, method=method)
    if method in {"polycl-s", "polycl-s-batch", "gcl"}:
        with pytest.raises(SplitError, match="there is only one scan|fewer than two scans"):
            PretrainTask(chosen, store, alone, CPU)
        return
    task = PretrainTask(chosen, store, alone, CPU)
    loss = task.losses(task.model, next(iter(task.stream(task.batches(0)))))["loss"]
    loss.backward()
    assert torch.isfinite(loss)


def test_methods_that_compare_scans_refuse_scans_of_one_slice(store, tmp_path):
    """One whole scan beside single slices: in-batch scan methods would have no negatives."""
    split = store.split()
    table = store.slices.copy()
    single = table.index[(table["patient"] != split.train[0])]
    table.loc[single, "case"] = [f"slice {i}" for i in single]
    torn = SliceStore(store.folder, store.record, table)
    with pytest.raises(SplitError, match="fewer than two scans have two slices or more"):
        PretrainTask(options(store, tmp_path, method="polycl-s-batch"), torn, split, CPU)


def test_min_distance_needs_heights(store, tmp_path):
    flat = SliceStore(store.folder, store.record, store.slices.assign(z_mm=0.0))
    with pytest.raises(OptionError, match="--min-distance-mm needs the distance between slices"):
        PretrainTask(options(store, tmp_path, method="polycl-s", min_distance_mm=3.0), flat, store.split(), CPU)
    unknown = SliceStore(store.folder, store.record, store.slices.assign(z_mm=np.nan))
    with pytest.raises(OptionError, match="--min-distance-mm needs"):
        PretrainTask(
            options(store, tmp_path, method="polycl-m-batch", min_distance_mm=3.0), unknown, store.split(), CPU
        )


def test_a_damaged_number_of_processes_is_no_excuse_for_unequal_shares(store, tmp_path, monkeypatch):
    class ThreeProcesses:
        world_size, device, is_global_zero = 3, CPU, True

    monkeypatch.setattr("frugalseg.pretraining.pretrain.make_fabric", lambda *_: ThreeProcesses())
    with pytest.raises(FrugalsegError, match="cannot be shared equally by 3 processes"):
        pretrain(options(store, tmp_path, method="simclr", steps=2))


def test_batches_without_a_pair_are_counted_aloud(store, tmp_path, capsys):
    task = make_task(store, tmp_path, method="polycl-m-batch")
    task._empty += 3
    task.validate()
    assert "3 of the last batches had no positive pair" in capsys.readouterr().err.replace("\n", " ")
    task.validate()
    assert "of the last batches" not in capsys.readouterr().err


def test_a_store_moved_elsewhere_trains_the_same(store, tmp_path):
    shutil.copytree(store.folder, tmp_path / "copy")
    one = pretrain(options(store, tmp_path, method="supcon", steps=2, out=tmp_path / "one"))
    two = pretrain(options(store, tmp_path, method="supcon", steps=2, data=tmp_path / "copy", out=tmp_path / "two"))
    assert records(one) == records(two)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("simclr", {"neg_scope": "other"}),
        ("polycl-m", {"queue_size": 7}),
        ("byol", {"temperature": 0.2}),
        ("classify", {"restart_epochs": 3}),
        ("pcl", {"min_distance_mm": 5.0}),
        ("polycl-o", {"slices_per_scan": 9}),
        ("moco", {"position_threshold": 0.3}),
        ("random-pairs", {"momentum": 0.3}),
    ],
)
def test_an_option_of_another_method_is_refused(store, tmp_path, method, changes):
    (name,) = changes
    with pytest.raises(OptionError, match=f"--{name.replace('_', '-')} is not used by {method}"):
        PretrainTask(options(store, tmp_path, method=method, **changes), store, store.split(), torch.device("cpu"))


@pytest.mark.parametrize(("batch_size", "processes"), [(1, 1), (2, 2)])
def test_a_process_with_one_slice_has_nothing_for_byols_batch_norms(
    store, tmp_path, monkeypatch, batch_size, processes
):
    class Processes:
        world_size, device, is_global_zero = processes, CPU, True

    monkeypatch.setattr("frugalseg.pretraining.pretrain.make_fabric", lambda *_: Processes())
    with pytest.raises(OptionError, match=f"--batch-size {batch_size}: the batch norms of byol"):
        pretrain(options(store, tmp_path, method="byol", batch_size=batch_size, steps=2))


@pytest.mark.parametrize("method", ["simclr", "supcon", "pcl", "supercl"])
def test_a_batch_of_one_has_nothing_to_compare(store, tmp_path, method):
    with pytest.raises(OptionError, match="--batch-size 1"):
        PretrainTask(options(store, tmp_path, method=method, batch_size=1), store, store.split(), CPU)


def trace(task, steps):
    """The learning rates of the first steps."""
    rates = []
    for _ in range(steps):
        rates.append(task.optimizer.param_groups[0]["lr"])
        task.optimizer.step()
        task.scheduler.step()
    return rates


def test_a_method_is_trained_on_the_recipe_of_another(store, tmp_path):
    own = make_task(store, tmp_path, method="simclr", epochs=4)
    task = make_task(store, tmp_path, method="simclr", recipe="polycl-m", epochs=4, restart_epochs=2)
    polycl = make_task(store, tmp_path, method="polycl-s", epochs=4, restart_epochs=2)
    steps = task.steps
    assert steps == polycl.steps
    assert trace(task, steps) == trace(polycl, steps)
    assert trace(own, steps)[0] == 1e-3
    assert task.optimizer.param_groups[0]["weight_decay"] == 0
    assert str(task.model.network.head) == str(polycl.model.network.head)
    assert str(own.model.network.head) != str(polycl.model.network.head)
    assert (task.method.recipe.tau, task.method.recipe.augment) == (0.1, "strong"), "views and τ stay SimCLR's"


def test_a_control_takes_the_recipe_of_what_it_controls(store, tmp_path):
    task = make_task(store, tmp_path, method="random-pairs", recipe="supercl", augment="strong", epochs=2)
    supercl = make_task(store, tmp_path, method="supercl", epochs=2)
    assert isinstance(task.optimizer, torch.optim.SGD)
    assert trace(task, 4) == trace(supercl, 4)
    assert str(task.model.network.head) == str(supercl.model.network.head)


@pytest.mark.parametrize("method", ["moco", "byol", "classify"])
def test_a_head_that_the_loss_needs_is_kept(store, tmp_path, method):
    one, other = (make_task(store, tmp_path, method=method, **more) for more in ({}, {"recipe": "polycl-m"}))
    assert str(one.model.network.head) == str(other.model.network.head)
    assert other.optimizer.param_groups[0]["initial_lr"] == 1e-4


def test_restarts_are_of_use_where_the_recipe_has_them(store, tmp_path):
    with pytest.raises(OptionError, match="--restart-epochs is not used by simclr"):
        make_task(store, tmp_path, method="simclr", restart_epochs=2)
    with pytest.raises(OptionError, match="--restart-epochs is not used by random-pairs"):
        make_task(store, tmp_path, method="random-pairs", recipe="supercl", restart_epochs=2)
