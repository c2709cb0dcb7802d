"""Reading the pre-training settings of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from frugalseg.errors import OptionError
from frugalseg.options import PretrainOptions
from frugalseg.pretraining.methods import METHOD_OPTIONS, METHODS, check_options, reads_superpixels, resolve_method
from frugalseg.studies.plan.data import DataPlan
from frugalseg.studies.plan.method import MethodPlan
from frugalseg.studies.plan.options import Values, make_options
from frugalseg.studies.plan.values import locate_error, read_choice
from frugalseg.studies.plan.yaml_source import YamlValue


def read_pretraining_data(pretrain: YamlValue | None, usual: str, data: Mapping[str, DataPlan], train: str) -> str:
    """The data set for pre-training: the value of `pretrain: data`, or `usual`."""
    given = {} if pretrain is None else pretrain.mapping()
    if "data" not in given:
        return usual
    source = read_choice(given["data"], data, "data set")
    theirs, ours = data[source].intensities, data[train].intensities
    if not set(theirs) & set(ours):
        raise given["data"].error(
            f"{source} is scaled by {' or '.join(theirs)}, {train} by {' or '.join(ours)}",
            "give both the same modality and window (or percentiles)",
        )
    return source


def check_shared_options(entry: YamlValue | None, methods: Iterable[MethodPlan]) -> None:
    """Refuse a shared pre-training option that no method reads, since it would have no effect."""
    pretrained = [make_options(PretrainOptions, m.pretrain) for m in methods if m.pretrain is not None]
    read = {name for options in pretrained for name in resolve_method(options).reads}
    for name, value in ({} if entry is None else entry.mapping()).items():
        if name in METHOD_OPTIONS and name not in read:
            raise value.error("is not used by any of the plan's methods", "remove it")


def check_pretraining(given: Mapping[str, YamlValue], pretrain: Values, transductive: bool, source: DataPlan) -> None:
    """Refuse options that `pretrain` would only reject when the job runs; `given` are the keys of the method."""
    options = make_options(PretrainOptions, pretrain)
    if reads_superpixels(options) and not source.options.superpixels:
        raise given["pretrain"].error(
            f"{options.method} learns from superpixels, and {source.name} has none",
            f"add superpixels: true to data.{source.name}",
        )
    try:
        check_options(options)
    except OptionError as error:
        raise locate_error(given["pretrain"].mapping(), given["pretrain"], error) from None
    if transductive and METHODS[options.method].annotation != "none":
        raise given["transductive"].error(
            f"{options.method} uses image-level labels made from masks, here those of test patients",
            "remove it, or pre-train with a method that needs no labels",
        )
