"""The site's pages: which section each belongs to, in which order, and what it is for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """One of the four kinds of documentation, a folder of docs/.

    Attributes:
        title: its heading.
        purpose: what a reader finds here, in one sentence.
        pages: path below the folder without the suffix → what the page is for.
        groups: heading → pages of a further list, for pages that belong together.
    """

    title: str
    purpose: str
    pages: dict[str, str]
    groups: dict[str, dict[str, str]]


SECTIONS = {
    "tutorial": Section(
        "Tutorials",
        "Lessons to follow from beginning to end.",
        {
            "first-model": "from a folder of scans to a report, with simulated scans: ten minutes, no data needed",
            "model-in-a-minute": "a light decoder on the features of a frozen encoder, from five labelled slices",
            "annotate": "outline slices in the browser, propagate, correct, train",
        },
        {},
    ),
    "how-to": Section(
        "How-to guides",
        "Directions for one task each.",
        {},
        {
            "Installation": {
                "install": "pip, without internet, Docker, Apptainer, conda, Macs; if something does not work",
            },
            "Data and labels": {
                "own-scans": "formats, targets, splits by patient, budgets, cross-validation",
                "annotate": "`annotate` in daily use: which slices are labels, what Train does, several people",
                "suggest": "which slices are worth a person's time",
                "hospital-formats": "DICOM objects in and out, previews, statistics, probabilities",
            },
            "Training": {
                "recipe": "what performed best, and what to expect for how many minutes of outlining",
                "unlabelled-scans": "pre-training, self-training and mean teacher",
                "sam-mix": "a classifier learned from image-level labels prompts a SAM",
                "log-metrics": "curves in TensorBoard, Weights & Biases or MLflow",
                "interrupted-runs": "resume, and train in several processes",
                "clusters": "one command on several machines; SLURM, Kubernetes",
            },
            "Masks": {
                "refine-and-propagate": "a promptable model improves masks, or an outlined slice is propagated",
                "evaluate": "metrics, patient by patient, groups of patients, lesions, volumes",
                "trust": "confidence, expected Dice and its lower bound",
                "share": "export, publish and fetch models",
                "offline-weights": "install weights where there is no internet",
            },
            "Programs": {
                "python": "commands as functions, and a trained model on files and arrays",
                "plugins": "your own backbone, method, metric or promptable model",
            },
            "Research": {
                "compare-methods": "a study: every method at every budget, several times, one report",
            },
        },
    ),
    "reference": Section(
        "Reference",
        "Facts to look up.",
        {
            "commands/index": "every command with all its options",
            "python": "the functions and records of `import frugalseg`",
            "command-line": "switches of every command, logs, memory, completion",
            "json": "what `--json` prints, key by key",
            "glossary": "the terms of this documentation",
        },
        {
            "Methods and models": {
                "methods": "every pre-training method, with its source and its differences from it",
                "backbones": "networks to train, and frozen encoders",
                "promptable-models": "SAM, SAM 2, LiteMedSAM and others",
                "weights": "files, sizes, licences, checksums",
            },
            "Evaluation": {
                "metrics": "what is measured, and its value for empty masks",
                "statistics": "intervals, tests, forecasts, and what they assume",
                "plans": "all keys of a plan for `study`",
            },
            "Files and interfaces": {
                "files": "what is read and written, key by key",
                "versions": "what a version promises, and which files of others are read",
                "annotation-api": "the HTTP requests of `annotate`",
            },
        },
    ),
    "explanation": Section(
        "Explanation",
        "How it works, why, and what was measured.",
        {
            "design": "the way of a scan through the program, and the reasons",
            "decisions/index": "one page a decision: alternatives and consequences",
            "speed": "what was measured, and what makes it fast",
            "scale": "what happens at a hundred thousand scans",
            "dependencies": "which packages, and instead of what",
            "contributing": "where things are, and how to add one",
        },
        {
            "Results": {
                "results": "questions and answers, each with its figures",
                "results/recipe": "presets, pre-training, augmentation",
                "results/pre-training": "PolyCL's claims with the paper's recipe, and where pre-training could pay",
                "results/another-hospital": "what was tried against the loss there",
                "results/frozen": "light decoders, averaging, against `best`",
                "results/organs": "thirteen organs from four scans",
                "results/third-dimension": "three views, a 3D network, rules for pieces",
                "results/outlining": "which slices to outline",
                "results/sam": "refining, propagating, SAM-Mix",
                "results/confidence": "how often the bounds held",
                "results/mr": "SuperCL and others on MR",
                "results/annotation": "one session, in minutes and Dice",
                "results/demo": "what the demo shows",
                "tables/README": "the CSV files behind the tables",
            },
        },
    ),
}
"""Folder → section."""
