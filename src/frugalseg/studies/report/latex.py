"""Tables as LaTeX with booktabs, for papers."""

from __future__ import annotations

import re

from frugalseg.studies.report.table import Section, Table, TableCell

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


def escape_latex(text: str) -> str:
    """Text with the special characters of LaTeX escaped; line ends become spaces."""
    return "".join(_ESCAPES.get(char, char) for char in re.sub(r"\s+", " ", text))


def to_latex(table: Table) -> str:
    """A `table*` environment to `\\input` in a paper; the best of a column is bold, the second underlined."""
    width = len(table.columns)
    lines = [
        r"% needs \usepackage{booktabs} and \usepackage{graphicx}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escape_latex(table.title)}}}",
        rf"\label{{tab:{re.sub(r'[^A-Za-z0-9-]+', '-', table.name)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{'l' * table.words}{'c' * (width - table.words)}}}",
        r"\toprule",
        *_format_spans(table),
        _format_row([escape_latex(column) for column in table.columns]),
    ]
    for section in table.sections:
        lines += [r"\midrule", *_format_section(section, width)]
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if table.notes:
        notes = r"\\{} ".join(escape_latex(note) for note in table.notes)
        lines.append(rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\footnotesize {notes}\end{{minipage}}")
    return "\n".join([*lines, r"\end{table*}", ""])


def _format_spans(table: Table) -> list[str]:
    if not table.spans:
        return []
    cells, rules, column = [""] * table.words, [], table.words + 1
    for heading, width in table.spans:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(heading)}}}")
        rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
        column += width
    return [_format_row(cells), "".join(rules)]


def _format_section(section: Section, width: int) -> list[str]:
    heading = (
        [rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape_latex(section.heading)}}}}} \\"] if section.heading else []
    )
    return heading + [_format_row([_format_cell(entry) for entry in row]) for row in section.rows]


def _format_cell(cell: TableCell) -> str:
    text = escape_latex(cell.text)
    if cell.rank:
        text = rf"\{'textbf' if cell.rank == 'best' else 'underline'}{{{text}}}"
    return rf"{text} {{\scriptsize ({escape_latex(cell.note)})}}" if cell.note else text


def _format_row(cells: list[str]) -> str:
    # In braces: [ or * at the start of a row would be read as an argument of the preceding \\.
    return " & ".join(f"{{{cell}}}" if cell.startswith(("[", "*")) else cell for cell in cells) + r" \\"
