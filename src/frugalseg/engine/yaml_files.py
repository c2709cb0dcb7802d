"""Reading YAML safely: nested aliases of a small file could expand to more values than memory holds."""

from __future__ import annotations

from typing import Any

import yaml

MAX_VALUES = 100_000
"""Maximum number of values after expanding aliases."""


def load_yaml(text: str) -> Any:
    """Plain data of a YAML text.

    Raises:
        yaml.YAMLError: it is not YAML, contains more than plain data, or expands to too many values.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        return None
    check_expanded_size(node)
    return yaml.constructor.SafeConstructor().construct_document(node)


def check_expanded_size(node: yaml.Node) -> None:
    """Raise `yaml.MarkedYAMLError` where a document expands to more than `MAX_VALUES` values, or contains itself."""
    if _expanded_size(node, {}) > MAX_VALUES:
        raise yaml.MarkedYAMLError(problem="its aliases expand to too many values", problem_mark=node.start_mark)


def _expanded_size(node: yaml.Node, known: dict[int, float]) -> float:
    """Number of values that a node expands to; infinite where it contains itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")  # while it is being counted: a node that refers to it then is inside it
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_expanded_size(part, known) for part in inner)
    return known[id(node)]
