"""What `--help` prints, and the suggestions for a mistyped command or option.

Texts, choices and defaults come from the dataclasses of options; this module groups and formats them.
"""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from frugalseg.commands.switches import PLUGIN, SWITCH_TEXTS
from frugalseg.commands.table import COMMANDS, Command, required_options, to_flag
from frugalseg.errors import OptionError

OPTION_GROUPS: dict[str, tuple[str, ...]] = {
    "input": (
        *("config", "data", "repo", "plan", "study", "folder", "file", "name", "model", "images", "labels", "masks"),
        "series",
        *("annotations", "predictions", "references", "groups", "split", "folds", "fold", "encoder", "init", "weights"),
        *("base", "oracle", "teacher"),
        *(
            "target",
            "scan",
            "propagated",
            "case",
            "slices",
            "slice_range",
            "patient_pattern",
            "skip_broken",
            "fractions",
            "phantoms",
        ),
        *("demo", "annotator", "shell"),
    ),
    "intensities": ("modality", "window", "percentiles"),
    "sharing": ("evaluation", "licence", "data_licence", "keep_names", "private", "revision"),
    "output": (
        "out",
        "format",
        "output_type",
        "segment_codes",
        "preview",
        "probabilities",
        "overwrite",
        "resume",
        "checkpoint_minutes",
        "log_to",
        "report",
        "json",
    ),
    "labels": ("budget", "for_", "choose", "rule", "partial", "label_draw", "transductive"),
    "network": ("backbone", "norm", "context", "adapt", "lora_rank"),
    "training": (
        *("method", "preset", "recipe", "epochs", "pretrain_epochs", "steps", "batch_size", "masks_per_step", "lr"),
        *("classifier_lr", "validate_every", "middle_fraction", "augment", "copies", "semi", "self_training", "rounds"),
        *("mask_loss", "focal_gamma", "focal_alpha"),
    ),
    "contrastive loss": (
        *("temperature", "restart_epochs", "neg_scope", "min_distance_mm", "slices_per_scan", "position_threshold"),
        *("queue_size", "momentum"),
    ),
    "superpixels and SuperCL": (
        *("superpixels", "segments", "compactness", "intra_slices", "pixel_map", "max_pixels", "pixel_sample"),
        *("asp_norm", "intra_weight", "inter_weight"),
    ),
    "classifier map": ("classifier_size", "map_stride", "map_threshold", "map_weight", "dense_prompt"),
    "slices": ("size",),
    "masks": (
        "tta",
        "tta_degrees",
        "keep",
        "scan_boxes",
        "refine",
        "boxes",
        "margin_mm",
        "min_area_mm2",
        "min_iou",
        "smooth_slices",
        "candidates",
    ),
    "propagation": ("propagate", "engine", "min_overlap", "review_below", "calibration"),
    "metrics": ("tolerance_mm", "lesions", "lesion_iou", "slicewise", "bootstrap"),
    "part of the study": ("only",),
    "server": ("host", "port", "token", "read_only", "no_browser"),
    "device and speed": ("device", "threads", "workers", "jobs", "ray", "precision", "cache", "cache_gb"),
    "reproducibility": ("seed",),
}
"""Heading → options, in the order in which a command's help shows them."""

WIDTH = 110
"""Maximum number of characters per line."""


def format_overview() -> str:
    """What `frugalseg --help` prints."""
    lines = []
    for group, names in groupby(COMMANDS, lambda name: COMMANDS[name].group):
        lines += ["", f"{group}:", *_format_summaries(names)]
    return "\n".join(
        [
            "usage: frugalseg COMMAND [options]",
            "",
            "Medical image segmentation from very few annotations.",
            *lines,
            "",
            "`frugalseg COMMAND --help` lists a command's options. Start with `frugalseg demo`.",
        ]
    )


def format_subcommands(first: str) -> str:
    """What `frugalseg weights --help` prints: the commands that begin with `first`."""
    return "\n".join([f"usage: frugalseg {first} COMMAND [options]", "", *_format_summaries(find_subcommands(first))])


def find_subcommands(first: str) -> list[str]:
    """The commands of two words that begin with `first`."""
    return [name for name in COMMANDS if name.startswith(f"{first} ")]


def _format_summaries(names: Iterable[str]) -> list[str]:
    width = max(map(len, COMMANDS))
    return [f"  {name:<{width}}  {COMMANDS[name].summary}" for name in names]


def unknown_command_error(words: list[str]) -> OptionError:
    """The error for an unknown command; names the most similar ones."""
    first = words[0]
    if first.startswith("-"):
        return OptionError(
            f"{first} stands before the command", f"write it after the command: frugalseg COMMAND {first}"
        )
    if parts := find_subcommands(first):
        given = f"there is no command `{first} {words[1]}`" if words[1:] else f"`{first}` needs one more word"
        like = [f"{first} {one}" for one in _find_similar(words[1:2], [name.split()[1] for name in parts])]
        return OptionError(given, _format_suggestion(like) or f"choose one of: {', '.join(parts)}")
    like = _find_similar([" ".join(words[:2])], COMMANDS) or _find_similar(
        [first], [*COMMANDS, *{n.split()[0] for n in COMMANDS}]
    )
    cure = _format_suggestion(like) or f"choose one of: {', '.join(COMMANDS)}"
    return OptionError(f"there is no command `{first}`", cure)


def unknown_option_error(flag: str, name: str, known: Iterable[str]) -> OptionError:
    """The error for an option that a command does not have.

    Args:
        flag: the option as given: a flag, or a key of a config file.
        name: name of the command.
        known: its options, written like `flag`.
    """
    cure = _format_suggestion(_find_similar([flag], known)) or "check its name"
    return OptionError(f"`{name}` has no option {flag}", f"{cure}; `frugalseg {name} --help` lists all")


def _find_similar(given: Iterable[str], known: Iterable[str]) -> list[str]:
    return [match for word in given for match in get_close_matches(word, list(known), n=1)]


def _format_suggestion(similar: list[str]) -> str:
    return f"did you mean {' or '.join(f'`{one}`' for one in similar)}?" if similar else ""


def format_help(name: str, command: Command) -> str:
    """What `frugalseg NAME --help` prints: usage, options in groups with choices and defaults, and an example."""
    width = min(WIDTH, shutil.get_terminal_size().columns)
    parser = argparse.ArgumentParser(
        prog=f"frugalseg {name}",
        usage=" ".join([f"frugalseg {name}", *_format_usage(command)]),
        description=command.description,
        epilog=f"example:\n  {command.example}",
        formatter_class=lambda prog: _Formatter(prog, width=width, max_help_position=30),
        add_help=False,
    )
    texts, types = read_option_texts(command), get_type_hints(command.options)
    by_name = {field.name: field for field in fields(command.options)}
    for title, members in OPTION_GROUPS.items():
        shown = [member for member in members if member in by_name or member == "config"]
        group = parser.add_argument_group(title)
        for member in shown:
            if member == "config":
                group.add_argument("--config", metavar="FILE", help="A YAML file with any of these options.")
                continue
            field = by_name[member]
            text = f"{texts[member]}{format_default(field)}".replace("%", "%%")
            group.add_argument(to_flag(member), help=text, **_argument_shape(types[member]))
    group = parser.add_argument_group("every command")
    for switch, text in SWITCH_TEXTS.items():
        if switch[2:] in by_name:  # the command's own option
            continue
        if switch == PLUGIN:
            group.add_argument(PLUGIN, metavar="MODULE", help=text)
        else:
            group.add_argument(*switch.split(", "), action="store_true", help=text)
    return parser.format_help()


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps names with hyphens (`mean-teacher`) on one line."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


def read_option_texts(command: Command) -> dict[str, str]:
    """Option → the docstring under its field, on one line."""
    from docstring_parser import parse_from_object

    texts: dict[str, str] = {}
    for base in reversed(command.options.__mro__[:-1]):
        texts |= {p.arg_name: " ".join((p.description or "").split()) for p in parse_from_object(base).params}
    return texts


def _format_usage(command: Command) -> list[str]:
    types = get_type_hints(command.options)
    needed = [f"{to_flag(name)} {_to_metavar(types[name])}" for name in required_options(command)]
    if command.first in required_options(command):
        needed[required_options(command).index(command.first)] = command.first.upper()
    return [*needed, "[options]"]


def format_default(field: Field[Any]) -> str:
    """The default in brackets; empty where there is none, or where the option's text states it."""
    if field.default is MISSING and field.default_factory is MISSING:
        return " (required)"
    if field.default in (None, MISSING) or field.default is False or field.default == "":
        return ""
    value = field.default
    shown = " ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value).replace("True", "true")
    return f" (default: {shown})"


def _argument_shape(kind: Any) -> dict[str, Any]:
    """Arguments of argparse's `add_argument` for an option of this type: metavar and number of values."""
    kind = remove_none(kind)
    if get_origin(kind) is list:
        return {"metavar": _to_metavar(kind), "nargs": "+"}
    if get_origin(kind) is tuple:
        return {"metavar": ("LOW", "HIGH")[: len(get_args(kind))], "nargs": len(get_args(kind))}
    if kind is bool:
        return {"metavar": "{true,false}", "nargs": "?"}
    return {"metavar": _to_metavar(kind)}


def _to_metavar(kind: Any) -> str:
    kind = remove_none(kind)
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    if get_origin(kind) is list:
        return _to_metavar(get_args(kind)[0])
    return {Path: "PATH", int: "N", float: "X", str: "TEXT"}[kind]


def remove_none(kind: Any) -> Any:
    """The type without None: `int` for `int | None`."""
    if get_origin(kind) in (Union, UnionType):
        return next(one for one in get_args(kind) if one is not type(None))
    return kind


TYPE_DESCRIPTIONS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}


def describe_type(kind: Any) -> str:
    """A type in words, for error messages."""
    kind = remove_none(kind)
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if get_origin(kind) is tuple:
        return f"{len(inner)} values, each {describe_type(inner[0])}"
    return describe_type(inner[0]) if get_origin(kind) is list else TYPE_DESCRIPTIONS[kind]
