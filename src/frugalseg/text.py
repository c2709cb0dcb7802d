"""Numbers as a person writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def pluralize(amount: int, noun: str) -> str:
    """A number with its noun, in the plural unless there is one: 1 scan, 0 scans, 3 scans."""
    return f"{amount} {noun}{'' if amount == 1 else 's'}"


def name_some(names: Iterable[str], most: int = 5) -> str:
    """The first names in order, and how many more there are: a, b, c, d, e and 3 more."""
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def align_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words in columns that start below each other, at any width of the terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def format_number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number with fixed decimals and a real minus, or a dash where there is none."""
    if value is None or value != value:
        return "–"
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if float(text) == 0:  # no −0.0
        text = text.lstrip("+-")
    return text.replace("-", "−")
