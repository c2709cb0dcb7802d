"""Reading what a plan says of pre-training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from frugalseg.errors import OptionError
from frugalseg.options import PretrainOptions
from frugalseg.pretraining.methods import METHOD_OPTIONS, METHODS, check_options, reads_superpixels, resolve_method
from frugalseg.studies.plan.data import DataPlan
from frugalseg.studies.plan.method import MethodPlan
from frugalseg.studies.plan.options import Values, of_plan
from frugalseg.studies.plan.values import chosen, where
from frugalseg.studies.plan.yaml_source import YamlValue


def read_source(pretrain: YamlValue | None, usual: str, data: Mapping[str, DataPlan], train: str) -> str:
    """The data set that is pre-trained on: what stands under `pretrain: data`, or the usual one."""
    given = {} if pretrain is None else pretrain.mapping()
    if "data" not in given:
        return usual
    source = chosen(given["data"], data, "data set")
    there, here = data[source].intensities, data[train].intensities
    if not set(there) & set(here):
        raise given["data"].error(
            f"{source} is scaled by {' or '.join(there)}, {train} by {' or '.join(here)}",
            "give both the same modality and window (or percentiles)",
        )
    return source


def check_shared(entry: YamlValue | None, methods: Iterable[MethodPlan]) -> None:
    """Refuse a shared pre-training option that no method reads, and so would change nothing."""
    pretrained = [of_plan(PretrainOptions, m.pretrain) for m in methods if m.pretrain is not None]
    read = {name for options in pretrained for name in resolve_method(options).reads}
    for name, value in ({} if entry is None else entry.mapping()).items():
        if name in METHOD_OPTIONS and name not in read:
            raise value.error("is not used by any of the plan's methods", "take it out")


def check_pretraining(given: Mapping[str, YamlValue], pretrain: Values, transductive: bool, source: DataPlan) -> None:
    """Refuse what `pretrain` would only find when the job runs; `given` are the keys of the method."""
    options = of_plan(PretrainOptions, pretrain)
    if reads_superpixels(options) and not source.options.superpixels:
        raise given["pretrain"].error(
            f"{options.method} learns from superpixels, and {source.name} has none",
            f"add superpixels: true to data.{source.name}",
        )
    try:
        check_options(options)
    except OptionError as error:
        raise where(given["pretrain"].mapping(), given["pretrain"], error) from None
    if transductive and METHODS[options.method].annotation != "none":
        raise given["transductive"].error(
            f"{options.method} uses image-level labels made from masks, here those of test patients",
            "take it out, or pre-train by a method that needs no labels",
        )
