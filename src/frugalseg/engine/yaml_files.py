"""YAML that is no bomb: a few lines whose aliases stand for each other grow to more than any memory holds."""

from __future__ import annotations

from typing import Any

import yaml

MAX_VALUES = 100_000
"""Values that a file may stand for once its aliases are written out."""


def load_yaml(text: str) -> Any:
    """Plain data.

    Raises:
        yaml.YAMLError: it is no YAML, holds more than plain data, or stands for too much.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        return None
    check_expanded_size(node)
    return yaml.constructor.SafeConstructor().construct_document(node)


def check_expanded_size(node: yaml.Node) -> None:
    """Raise `yaml.MarkedYAMLError` where a document stands for more than `MOST` values, or holds itself."""
    if _expanded_size(node, {}) > MAX_VALUES:
        raise yaml.MarkedYAMLError(problem="its aliases expand to too many values", problem_mark=node.start_mark)


def _expanded_size(node: yaml.Node, known: dict[int, float]) -> float:
    """Values that a node stands for; infinitely many where it holds itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")  # until it is counted: a node that reaches it meanwhile is inside it
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_expanded_size(part, known) for part in inner)
    return known[id(node)]
