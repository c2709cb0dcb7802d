"""`frugalseg push` and `frugalseg pull`: publish a trained model with a model card, and fetch one."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path

from frugalseg.engine.files import MODEL_FILE, check_out, sha256, temporary_name
from frugalseg.engine.progress import say
from frugalseg.errors import RunError, disk_errors
from frugalseg.models.saved import WEIGHTS, load_weights, read_network_record
from frugalseg.options import PullOptions, PushOptions, find_folder
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.origin_of_model import PulledModel
from frugalseg.sharing.hub import CARD, download, upload
from frugalseg.sharing.model_card import write_card
from frugalseg.sharing.pseudonyms import anonymise

PULLED_FILE = "pulled.json"


def push(options: PushOptions) -> str:
    """Publish a model: its weights, model.json without case ids and paths, and a model card; returns the revision.

    Raises:
        RunError: there is no finished fine-tuning, its weights are damaged, the folder is in use, or the Hub refuses.
        OptionError: the evaluation is one of another model.
    """
    record = anonymise(read_network_record(SegmenterRecord, options.model), options.keep_names)
    load_weights(options.model)  # raises for damaged ones
    folder = find_folder(options.repo)
    if folder is not None:
        check_out(folder, "--repo")
        if not options.overwrite and folder.exists() and any(folder.iterdir()):
            raise RunError(f"{folder} is not empty", "choose another folder, or give --overwrite")
    for name, given in (("--licence", options.licence), ("--data-licence", options.data_licence)):
        if given is None:
            warnings.warn(f"without {name} the model card says that it is not stated", stacklevel=2)
    with tempfile.TemporaryDirectory() as made:
        staging = Path(made)
        shutil.copyfile(options.model / WEIGHTS, staging / WEIGHTS)
        record.write(staging / MODEL_FILE)
        card = write_card(options, record, sha256(staging / WEIGHTS))
        (staging / CARD).write_text(card, encoding="utf-8")
        revision = upload(staging, options.repo, options.private)
    say(f"published: {options.repo}, revision {revision}")
    return revision


def pull(options: PullOptions) -> PulledModel:
    """Fetch a published model into a folder for `predict --model`; returns where it came from.

    The files are checked before the folder is there: the record, and every weight. Nothing is unpickled or run.

    Raises:
        RunError: `out` exists, there is no such model, it is damaged, or the Hub cannot be reached.
    """
    check_out(options.out)
    if options.out.exists() and any(options.out.iterdir()):
        raise RunError(f"{options.out} is not empty", "choose another --out")
    waiting = temporary_name(options.out)
    with disk_errors(options.out):
        waiting.mkdir(parents=True)
        try:
            revision = download(options.repo, options.revision, waiting)
            read_network_record(SegmenterRecord, waiting)
            load_weights(waiting)
            pulled = PulledModel(repo=options.repo, revision=revision, weights_sha256=sha256(waiting / WEIGHTS))
            pulled.write(waiting / PULLED_FILE)
            if options.out.exists():
                options.out.rmdir()
            waiting.rename(options.out)
        finally:
            shutil.rmtree(waiting, ignore_errors=True)
    say(f"model: {options.out}, revision {revision}")
    return pulled
