"""A table as CSV, HTML and LaTeX."""

from __future__ import annotations

import csv
import html
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from orgseg_node.durable import atomic_file

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
        "{": r"\{",
        "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"$<$",
        ">": r"$>$",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of text.

    Attributes
    ----------
    name : file name without suffix
    title, note : above and below it
    columns, rows : cells, as many in each row as there are columns
    """

    name: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"Table {self.name} has rows with another number of cells than columns.")

    def as_csv(self) -> str:
        """Comma-separated, with a header line."""
        stream = StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return stream.getvalue()

    def as_html(self) -> str:
        """A complete page."""
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.escape(self.title)}</title></head><body>\n{self.html_fragment()}</body></html>\n"
        )

    def html_fragment(self) -> str:
        """The table with its note, as part of a page."""
        head = "".join(f"<th>{html.escape(c)}</th>" for c in self.columns)
        body = "\n".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows
        )
        return (
            f"<table><caption>{html.escape(self.title)}</caption>\n<thead><tr>{head}</tr></thead>\n"
            f"<tbody>\n{body}\n</tbody></table>\n<p>{html.escape(self.note)}</p>\n"
        )

    def as_latex(self) -> str:
        """A floating table with the rules of the booktabs package."""

        def line(cells: Sequence[str]) -> str:
            return " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"

        rows = "\n".join(line(row) for row in self.rows)
        return (
            f"\\begin{{table}}\n\\caption{{{self.title.translate(_LATEX)}}}\n"
            f"\\begin{{tabular}}{{{'l' * len(self.columns)}}}\n\\toprule\n{line(self.columns)}\n\\midrule\n"
            f"{rows}\n\\bottomrule\n\\end{{tabular}}\n\n{self.note.translate(_LATEX)}\n\\end{{table}}\n"
        )

    def write(self, folder: Path) -> tuple[Path, ...]:
        """Write all three files."""
        texts = {".csv": self.as_csv(), ".html": self.as_html(), ".tex": self.as_latex()}
        paths = tuple(folder / f"{self.name}{suffix}" for suffix in texts)
        for path, text in zip(paths, texts.values(), strict=True):
            with atomic_file(path) as part:
                part.write_text(text, encoding="utf-8")
        return paths
