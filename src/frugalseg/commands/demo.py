"""`frugalseg demo`: prepare, pre-train, fine-tune, predict and evaluate."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

from frugalseg.commands.finetune import finetune
from frugalseg.commands.predict import predict
from frugalseg.commands.table import format_command
from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.engine.device import find_device
from frugalseg.engine.files import check_out, write_json
from frugalseg.engine.lock import is_in_use, lock_folder
from frugalseg.engine.progress import say
from frugalseg.engine.run import to_plain_options
from frugalseg.engine.schema import Schema
from frugalseg.engine.threads import with_threads
from frugalseg.errors import RunError, SplitError
from frugalseg.evaluation.evaluate import evaluate
from frugalseg.options import (
    DemoOptions,
    EvaluateOptions,
    FinetuneOptions,
    PredictOptions,
    PrepareOptions,
    PretrainOptions,
)
from frugalseg.phantoms.cohort import LABELS, write_cohort
from frugalseg.pretraining.pretrain import pretrain

MARKER = ".frugalseg-demo"
WITHOUT_EFFECT = {"out", "device", "threads", "overwrite", "resume"}
"""Options that may differ when a demo is resumed."""
MARKER_SCHEMA = Schema({"options?": {str: object}}, RunError, "start again with --overwrite")
"""Content of `MARKER`; older versions did not write the options."""
DEFAULT_SCANS = 3
"""Default number of labelled scans to train on; fewer if there are fewer."""
SUBFOLDERS = ("scans", "store", "pretrained", "model", "predictions", "evaluation")


@with_threads
def demo(options: DemoOptions) -> Path:
    """Run the whole workflow and return the path of the report, which is also printed.

    Raises:
        RunError: the folder is in use and neither `overwrite` nor `resume` was given; or there is nothing to resume, or
            a demo with other options.
        SplitError: the budget exceeds the labels that the split leaves for training.
    """
    check_out(options.out)
    if options.budget is not None:
        Budget.parse(options.budget)  # otherwise errors in these two would be found minutes later
    find_device(options.device)
    lock = _claim_folder(options)
    try:
        return _run_commands(options)
    finally:
        lock.release()


def _run_commands(options: DemoOptions) -> Path:
    """Run the commands in order; returns the path of the report."""
    out = options.out
    begun = time.perf_counter()
    images, labels, target = _find_scans(options)

    made = PrepareOptions(
        images=images,
        labels=labels,
        target=target,
        size=options.size,
        modality=options.modality,
        out=out / "store",
        seed=options.seed,
    )
    store: SliceStore = _run_command("prepare", prepare, made)
    budget = _choose_budget(options, store)
    _run_command(
        "pretrain",
        pretrain,
        PretrainOptions(
            data=out / "store",
            out=out / "pretrained",
            epochs=options.pretrain_epochs,
            seed=options.seed,
            device=options.device,
            resume="auto",
        ),
    )
    _run_command(
        "finetune",
        finetune,
        FinetuneOptions(
            data=out / "store",
            encoder=out / "pretrained",
            budget=budget,
            steps=options.steps,
            out=out / "model",
            seed=options.seed,
            device=options.device,
            resume="auto",
        ),
    )
    _run_command(
        "predict",
        predict,
        PredictOptions(
            model=out / "model", images=images, out=out / "predictions", device=options.device, resume="auto"
        ),
    )
    _run_command(
        "evaluate",
        evaluate,
        EvaluateOptions(
            predictions=out / "predictions",
            references=labels,
            out=out / "evaluation",
            seed=options.seed,
            overwrite=True,
        ),
    )
    report = (out / "evaluation" / "report.html").resolve()
    say(f"\nfinished in {time.perf_counter() - begun:.0f} s; open the report:")
    print(report)
    return report


def _claim_folder(options: DemoOptions) -> BaseFileLock:
    """Lock the folder. Only subfolders of a demo, which its marker identifies, are deleted, never the user's scans."""
    out, mark = options.out, options.out / MARKER
    if is_in_use(out):
        if not mark.is_file():
            raise RunError(f"{out} is not the folder of a demo", "choose another --out")
        if options.resume != "no":
            _check_same_options(options, mark)
            return lock_folder(out)
        if not options.overwrite:
            raise RunError(f"{out} holds an earlier demo", "choose another --out, or give --resume or --overwrite")
        made = [out / name for name in (*SUBFOLDERS, "scans.partial", "store.partial") if (out / name).exists()]
        given = [path.resolve() for path in (options.images, options.labels) if path is not None]
        if inside := [path for path in given for folder in made if path.is_relative_to(folder.resolve())]:
            raise RunError(f"{inside[0]} is in the demo folder that would be overwritten", "choose another --out")
        lock = lock_folder(out)
        for folder in made:
            shutil.rmtree(folder)
    else:
        if options.resume == "yes":
            raise RunError(f"--resume: {out} holds no demo to resume", "leave out --resume")
        lock = lock_folder(out)
    write_json(mark, {"made_by": "frugalseg demo", "options": _result_options(options)})
    return lock


def _result_options(options: DemoOptions) -> dict[str, object]:
    """Options that must be the same when a demo is resumed."""
    return {
        name: value for name, value in to_plain_options(options, absolute=True).items() if name not in WITHOUT_EFFECT
    }


def _check_same_options(options: DemoOptions, mark: Path) -> None:
    before, now = MARKER_SCHEMA.read(mark).get("options", {}), _result_options(options)
    if differing := [name for name in now if before.get(name) != now[name]]:
        listed = "; ".join(f"{name}: {before.get(name)} then, {now[name]} now" for name in differing)
        raise RunError(
            f"the demo in {options.out} had other options ({listed})",
            "resume with the same options, choose another --out, or start again with --overwrite",
        )


def _choose_budget(options: DemoOptions, store: SliceStore) -> str:
    """The label budget, checked here since `finetune` would find too few labels only after the pre-training."""
    train, slices = store.split().train, store.slices
    left = slices.loc[slices["labelled"] & slices["patient"].isin(train), "case"].nunique()
    budget = options.budget or f"{max(1, min(DEFAULT_SCANS, left))} scans"
    try:
        draw_labels(slices, train, Budget.parse(budget), FinetuneOptions.label_draw, store.presence_columns)
    except SplitError as error:
        raise SplitError(
            error.problem,
            "give --overwrite and a smaller --budget, or masks of more scans: of five, three remain for training",
        ) from None
    return budget


def _find_scans(options: DemoOptions) -> tuple[Path, Path, list[str]]:
    if options.images is not None and options.labels is not None:
        return options.images, options.labels, options.target
    scans, partial = options.out / "scans", options.out / "scans.partial"
    if not scans.is_dir():
        say(f"simulating {options.phantoms} phantoms of the abdomen")
        write_cohort(partial, options.phantoms, options.seed)
        partial.rename(scans)
    return scans / "images", scans / "labels", [f"liver={LABELS['liver']}"]


def _run_command(name: str, command: Callable[[Any], Any], given: Any) -> Any:
    """Print the command line of a command, and run it."""
    say(f"\n{format_command(name, given)}")
    return command(given)
