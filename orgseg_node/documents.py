"""Reports for people: an HTML page without any other file, and the same as PDF."""

from __future__ import annotations

import html
import io
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

_STYLE: Final = """
body{font:15px sans-serif;max-width:75em;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;margin:1em 0}
td,th{padding:.3em .7em;border-bottom:1px solid #ccc;text-align:right}
td:first-child,th:first-child{text-align:left}
"""
_A4: Final = (8.27, 11.69)
_LETTERS: Final = 108
_LINES: Final = 78


def html_page(title: str, parts: Iterable[str], style: str = "") -> bytes:
    """A page.

    Parameters
    ----------
    title : of the page
    parts : of its body, as HTML
    style : rules of CSS besides the usual ones
    """
    body = "\n".join(parts)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escaped(title)}</title>'
        f"<style>{_STYLE}{style}</style></head><body>{body}</body></html>\n"
    )
    return page.encode()


def html_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table."""
    titles = "".join(f"<th>{escaped(name)}</th>" for name in head)
    lines = "".join(f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{titles}</tr>{lines}</table>"


def html_list(lines: Iterable[Any]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{escaped(line)}</li>" for line in lines) + "</ul>"


def escaped(value: Any) -> str:
    """Text in which nothing is HTML."""
    return html.escape(str(value))


def text_pdf(title: str, created: datetime, lines: Iterable[str]) -> bytes:
    """Lines of text as a PDF of A4 pages; the same lines give the same bytes.

    Parameters
    ----------
    title : of the document
    created : when it was made
    lines : long ones are wrapped
    """
    wrapped = [part for line in lines for part in (textwrap.wrap(line, _LETTERS) or [""])]
    made = io.BytesIO()
    metadata = {"Title": title, "Creator": "orgseg_node", "CreationDate": created}
    with PdfPages(made, metadata=metadata) as pages:
        for start in range(0, len(wrapped), _LINES):
            figure = Figure(figsize=_A4)
            figure.text(
                0.06, 0.96, "\n".join(wrapped[start : start + _LINES]), family="DejaVu Sans Mono", size=7.2,
                va="top", linespacing=1.35,
            )  # fmt: skip
            pages.savefig(figure)
    return made.getvalue()
