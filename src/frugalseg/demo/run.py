"""`frugalseg demo`: prepare, pre-train, fine-tune, predict and evaluate, one after the other."""

from __future__ import annotations

import shlex
import shutil
import time
from pathlib import Path

from filelock import BaseFileLock

from frugalseg.contrast.pretrain import pretrain
from frugalseg.dataset.budget import Budget, draw_labels
from frugalseg.dataset.prepare import prepare
from frugalseg.dataset.store import SliceStore
from frugalseg.demo.phantom import LABELS, write_cohort
from frugalseg.engine.device import find_device
from frugalseg.engine.files import check_out, write_json
from frugalseg.engine.lock import in_use, lock_folder
from frugalseg.engine.progress import say
from frugalseg.errors import RunError, SplitError
from frugalseg.evaluate.evaluate import evaluate
from frugalseg.options import (
    DemoOptions,
    EvaluateOptions,
    FinetuneOptions,
    PredictOptions,
    PrepareOptions,
    PretrainOptions,
)
from frugalseg.segment.finetune import finetune
from frugalseg.segment.predict import predict

MARK = ".frugalseg-demo"
SCANS = 3
"""Labelled scans to train on, unless told otherwise or fewer are there."""
MADE = ("scans", "store", "pretrained", "model", "predictions", "evaluation")


def demo(options: DemoOptions) -> Path:
    """Run the whole way and return the path of the report, which is also printed.

    Raises:
        RunError: the folder is in use and `overwrite` was not given.
        SplitError: the budget asks for more labels than the split leaves to train on.
    """
    check_out(options.out)
    if options.budget is not None:
        Budget.parse(options.budget)  # these two would otherwise be found wrong minutes later
    find_device(options.device)
    lock = _claim(options)
    try:
        return _run(options)
    finally:
        lock.release()


def _run(options: DemoOptions) -> Path:
    """The way itself; returns the path of the report."""
    out = options.out
    begun = time.perf_counter()
    images, labels, target = _scans(options)

    _announce("prepare", f"--images {images} --labels {labels} --target {' '.join(target)} --size {options.size}")
    store = prepare(
        PrepareOptions(
            images=images,
            labels=labels,
            target=target,
            size=options.size,
            modality=options.modality,
            out=out / "store",
            seed=options.seed,
        )
    )
    budget = _budget(options, store)
    _announce("pretrain", f"--data {out / 'store'} --method polycl-m --epochs {options.pretrain_epochs}")
    pretrain(
        PretrainOptions(
            data=out / "store",
            out=out / "pretrained",
            epochs=options.pretrain_epochs,
            device=options.device,
            seed=options.seed,
        )
    )
    _announce("finetune", f"--encoder {out / 'pretrained'} --budget {shlex.quote(budget)}")
    finetune(
        FinetuneOptions(
            data=out / "store",
            encoder=out / "pretrained",
            budget=budget,
            steps=options.steps,
            out=out / "model",
            device=options.device,
            seed=options.seed,
        )
    )
    _announce("predict", f"--model {out / 'model'} --images {images}")
    predict(PredictOptions(model=out / "model", images=images, out=out / "predictions", device=options.device))
    _announce("evaluate", f"--predictions {out / 'predictions'} --references {labels}")
    evaluate(
        EvaluateOptions(
            predictions=out / "predictions",
            references=labels,
            target=target,
            out=out / "evaluation",
            seed=options.seed,
        )
    )
    report = (out / "evaluation" / "report.html").resolve()
    say(f"\ndone in {time.perf_counter() - begun:.0f} s; open the report:")
    print(report)
    return report


def _claim(options: DemoOptions) -> BaseFileLock:
    """Take the folder; only what a demo made, as its mark says, is ever deleted, and never the user's scans."""
    out, mark = options.out, options.out / MARK
    if in_use(out):
        if not mark.is_file():
            raise RunError(f"{out} holds other things than a demo", "choose another --out")
        if not options.overwrite:
            raise RunError(f"{out} holds an earlier demo", "choose another --out, or give --overwrite")
        made = [out / name for name in (*MADE, "store.partial") if (out / name).exists()]
        given = [path.resolve() for path in (options.images, options.labels) if path is not None]
        if inside := [path for path in given for folder in made if path.is_relative_to(folder.resolve())]:
            raise RunError(f"{inside[0]} lies in the demo folder that would be overwritten", "choose another --out")
        lock = lock_folder(out)
        for folder in made:
            shutil.rmtree(folder)
    else:
        lock = lock_folder(out)
    write_json(mark, {"made_by": "frugalseg demo"})
    return lock


def _budget(options: DemoOptions, store: SliceStore) -> str:
    """The budget, tried: `finetune` would find too few labels only after the pre-training."""
    train, slices = store.split().train, store.slices
    left = slices.loc[slices["labelled"] & slices["patient"].isin(train), "case"].nunique()
    budget = options.budget or f"{max(1, min(SCANS, left))} scans"
    try:
        draw_labels(slices, train, Budget.parse(budget), FinetuneOptions.draw, store.presence_columns)
    except SplitError as error:
        raise SplitError(
            error.problem,
            "give --overwrite and a smaller --budget, or masks of more scans: of five, three are left to train on",
        ) from None
    return budget


def _scans(options: DemoOptions) -> tuple[Path, Path, list[str]]:
    if options.images is not None and options.labels is not None:
        return options.images, options.labels, options.target
    say(f"making {options.cases} phantoms of the abdomen")
    images, labels = write_cohort(options.out / "scans", options.cases, options.seed)
    return images, labels, [f"liver={LABELS['liver']}"]


def _announce(command: str, flags: str) -> None:
    say(f"\nfrugalseg {command} {flags}")
