"""Versions of Python and of the packages that frugalseg needs, and the optional extras."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path

from packaging.requirements import Requirement

from frugalseg._version import __version__
from frugalseg.diagnosis.section import Facts, Problem, Section

PACKAGE = "frugalseg"
REPAIR = "install it again: pip install --force-reinstall "
EXTRAS = {
    "tracking": "TensorBoard's files of each training",
    "wandb": "metrics sent to Weights & Biases (--log-to wandb)",
    "mlflow": "metrics sent to MLflow (--log-to mlflow)",
    "cluster": "jobs and scans on several machines (--ray)",
    "onnx": "export --format onnx",
    "zarr": "scans in OME-Zarr",
    "annotate": "the page of annotate",
}
"""Optional extra → what it is for."""
MODULES = {
    "SimpleITK": "SimpleITK",
    "scikit-image": "skimage",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "docstring-parser": "docstring_parser",
    "pylibjpeg-openjpeg": "openjpeg",
}
"""Package → its module, where the names differ."""


def describe_program() -> Section:
    """frugalseg, Python and the operating system."""
    return Section(
        {
            "frugalseg": __version__,
            "Python": f"{platform.python_implementation()} {platform.python_version()}",
            "system": platform.platform(),
            "machine": platform.machine(),
            "virtual environment": sys.prefix != sys.base_prefix,
            "page of annotate": _has_page(),
        }
    )


def _has_page() -> bool:
    return (Path(__file__).resolve().parents[1] / "annotation" / "page" / "index.html").is_file()


def describe_packages() -> Section:
    """Version of every package that frugalseg needs; those that are missing, too old, or that cannot be imported."""
    facts: Facts = {}
    problems = []
    for requirement in _read_requirements():
        if "extra" in str(requirement.marker or ""):
            continue
        facts[requirement.name] = _find_version(requirement)
        problems += _check_package(requirement)
    return Section(facts, problems)


def describe_extras() -> Section:
    """Each optional extra: the version of its packages, or what it would be for."""
    facts: Facts = {}
    problems = []
    for extra, purpose in EXTRAS.items():
        needed = [one for one in _read_requirements() if one.marker and _belongs(one, extra)]
        versions = {one.name: _find_version(one) for one in needed}
        if needed and None not in versions.values():
            facts[extra] = ", ".join(f"{name} {version}" for name, version in versions.items())
            problems += [problem for one in needed for problem in _check_version(one)]
        else:
            facts[extra] = f"not installed; for {purpose}: pip install 'frugalseg[{extra}]'"
    return Section(facts, problems)


def _belongs(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _read_requirements() -> Iterator[Requirement]:
    """The requirements of the installed package, extras included; none where it runs without being installed."""
    try:
        yield from map(Requirement, metadata.requires(PACKAGE) or [])
    except metadata.PackageNotFoundError:
        return


def _find_version(requirement: Requirement) -> str | None:
    try:
        return metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return None


def _check_package(requirement: Requirement) -> list[Problem]:
    return _check_version(requirement) or _check_import(requirement.name)


def _check_version(requirement: Requirement) -> list[Problem]:
    version = _find_version(requirement)
    plain = f"'{requirement.name}{requirement.specifier}'"
    if version is None:
        return [Problem(f"the package {requirement.name} is not installed", f"run pip install {plain}")]
    if not requirement.specifier.contains(version, prereleases=True):
        found = f"{requirement.name} {version} is installed, but frugalseg needs {requirement.specifier}"
        return [Problem(found, f"run pip install {plain}")]
    return []


def _check_import(name: str) -> list[Problem]:
    """A package that is there may not load: of another platform, or built against another version of numpy."""
    try:
        import_module(MODULES.get(name, name.replace("-", "_")))
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return [Problem(f"the package {name} cannot be imported ({reason})", REPAIR + name)]
    return []
