"""Numbers, plurals and lists for messages and reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def pluralize(amount: int, noun: str) -> str:
    """A number with its noun in the right form: 1 scan, 0 scans, 3 scans."""
    return f"{amount} {noun}{'' if amount == 1 else 's'}"


def name_some(names: Iterable[str], most: int = 5) -> str:
    """The first names in alphabetical order, and the number of the others: a, b, c, d, e and 3 more."""
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def align_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words as text with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def format_number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number with `digits` decimals and the character −, or a dash for None and NaN."""
    if value is None or value != value:
        return "–"
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if float(text) == 0:  # no −0.0
        text = text.lstrip("+-")
    return text.replace("-", "−")


def join_words(words: Sequence[str], last: str = "and") -> str:
    """Words as a list in a sentence: liver, spleen and aorta."""
    *others, end = words
    return f"{', '.join(others)} {last} {end}" if others else end
