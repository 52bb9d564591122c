"""A draft as one page that is safe to open, needs nothing from outside, and can be read on a phone."""

from __future__ import annotations

import re

from runbook_lib.archive.rendering import Page, render
from runbook_lib.incidents.facts import IncidentFacts

_TABLE = re.compile(r"<table>(.*?)</table>", re.DOTALL)
_HEADING = re.compile(r"<th[^>]*>(.*?)</th>", re.DOTALL)
_ROW = re.compile(r"<tr>(.*?)</tr>", re.DOTALL)
_CELL = re.compile(r"<td>")


def as_page(facts: IncidentFacts, text: str) -> bytes:
    """The draft, which is Markdown, under the incident's title and severity."""
    import nbformat

    incident = facts.incident
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    summary = f"{incident.incident}: {incident.title}"
    page = render(notebook, Page(incident.title, incident.severity, summary)).decode()
    return _TABLE.sub(_row_by_row, page).encode()


def _row_by_row(table: re.Match[str]) -> str:
    """A table whose rows a phone shows one below the other, each cell with its heading."""
    headings = _HEADING.findall(table[1])

    def labelled(row: re.Match[str]) -> str:
        names = iter(headings)
        return _CELL.sub(lambda _: f'<td data-label="{next(names, "")}">', row[0])

    return f'<table class="prose">{_ROW.sub(labelled, table[1])}</table>'
