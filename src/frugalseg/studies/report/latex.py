"""A table in the layout of the papers: LaTeX with booktabs."""

from __future__ import annotations

import re

from frugalseg.studies.report.table import Entry, Section, Table

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"\textbar{}",
    "–": "--",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "·": r"$\cdot$",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "§": r"$^{\S}$",
}


def escape(text: str) -> str:
    """Text that LaTeX prints as it stands here; line ends become spaces."""
    return "".join(_ESCAPES.get(char, char) for char in re.sub(r"\s+", " ", text))


def to_latex(table: Table) -> str:
    """A `table*` environment to `\\input` in a paper; the best of a column is bold, the second underlined."""
    width = len(table.columns)
    lines = [
        r"% needs \usepackage{booktabs} and \usepackage{graphicx}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        rf"\label{{tab:{re.sub(r'[^A-Za-z0-9-]+', '-', table.name)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{'l' * table.words}{'c' * (width - table.words)}}}",
        r"\toprule",
        *_spans(table),
        _row([escape(column) for column in table.columns]),
    ]
    for section in table.sections:
        lines += [r"\midrule", *_section(section, width)]
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if table.notes:
        notes = r"\\{} ".join(escape(note) for note in table.notes)
        lines.append(rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\footnotesize {notes}\end{{minipage}}")
    return "\n".join([*lines, r"\end{table*}", ""])


def _spans(table: Table) -> list[str]:
    if not table.spans:
        return []
    trials, rules, column = [""] * table.words, [], table.words + 1
    for heading, width in table.spans:
        trials.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(heading)}}}")
        rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
        column += width
    return [_row(trials), "".join(rules)]


def _section(section: Section, width: int) -> list[str]:
    heading = [rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape(section.heading)}}}}} \\"] if section.heading else []
    return heading + [_row([_entry(entry) for entry in row]) for row in section.rows]


def _entry(entry: Entry) -> str:
    text = escape(entry.text)
    if entry.rank:
        text = rf"\{'textbf' if entry.rank == 'best' else 'underline'}{{{text}}}"
    return rf"{text} {{\scriptsize ({escape(entry.note)})}}" if entry.note else text


def _row(trials: list[str]) -> str:
    # In braces: what begins a row with [ or * would be read as an argument of the \\ before it.
    return " & ".join(f"{{{trial}}}" if trial.startswith(("[", "*")) else trial for trial in trials) + r" \\"
