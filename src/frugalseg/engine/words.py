"""Numbers as a person writes them."""

from __future__ import annotations


def counted(amount: int, noun: str) -> str:
    """A number with its noun, in the plural unless there is one: 1 scan, 0 scans, 3 scans."""
    return f"{amount} {noun}{'' if amount == 1 else 's'}"


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number with fixed decimals and a real minus, or a dash where there is none."""
    if value is None or value != value:
        return "–"
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if float(text) == 0:  # no −0.0
        text = text.lstrip("+-")
    return text.replace("-", "−")
