"""`runbook run PROCEDURE --step`: a procedure in a terminal, cell by cell, for when JupyterLab is what is broken."""

from __future__ import annotations

import re
import select
import sys
import threading
from typing import Any

import click

from runbook_lib.archive.notebook_files import read_notebook
from runbook_lib.credentials.masking import mask
from runbook_lib.procedures.execution import Progress
from runbook_lib.procedures.journal import executed_notebook

LOOK_SECONDS = 0.2
WORDS = {"": "run", "r": "run", "s": "skip", "q": "quit"}
_HTML_TAG = re.compile(r"<[^>]{1,200}>")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class TerminalSteps:
    """Shows each cell with the text before it, asks what to do, and shows what came out.

    Notebook, questions and outputs go to `stderr`, so that the answer stands alone on `stdout`.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._directory: Any = None
        self._shown = 0

    def begin(self, directory: Any) -> None:
        """Where the execution keeps its notebook and its journal."""
        self._directory = directory

    def decide(self, progress: Progress, index: int) -> str:
        cells = read_notebook((self._directory / "notebook.ipynb").read_bytes()).cells
        for cell in cells[self._shown : index]:
            if cell.cell_type == "markdown":
                _say(as_text(cell.source) + "\n")
        self._shown = index + 1
        _say(click.style(f"cell {progress.number} of {progress.total}", bold=True))
        _say("\n".join(f"    {line}" for line in mask(cells[index].source).splitlines()))
        return self._answer()

    def ran(self, index: int) -> None:
        for text in outputs_as_text(executed_notebook(self._directory).cells[index]):
            _say(text)
        _say("")

    def _answer(self) -> str:
        while True:
            click.echo("Enter runs it, s skips it, q quits: ", err=True, nl=False)
            line = self._line()
            if line is None:
                _say("")
                return "quit"
            if (word := WORDS.get(line.strip().lower())) is not None:
                return word

    def _line(self) -> str | None:
        """What was typed; None at the end of input, or when a signal asked for the end."""
        while not self._stop.is_set():
            if select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
                return sys.stdin.readline() or None
        return None


def as_text(markdown: str) -> str:
    """Markdown as it reads in a terminal: headings bold, links with their address, no marks of bold."""
    lines = []
    for line in mask(markdown).splitlines():
        line = re.sub(r"\[([^\]]+)\]\(([^)]+)\)", r"\1 (\2)", line)
        line = re.sub(r"\*\*(.+?)\*\*", r"\1", line)
        heading = re.match(r"#{1,6}\s+(.+)", line)
        lines.append(click.style(heading[1], bold=True, underline=True) if heading else line)
    return "\n".join(_printable(line) for line in lines)


def outputs_as_text(cell: Any) -> list[str]:
    """What a cell showed, as text: tables and figures by their plain form."""
    found = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            found.append(output.text.rstrip("\n"))
        elif output.output_type == "error":
            found.append(f"{output.ename}: {output.evalue}")
        else:
            plain = output.get("data", {}).get("text/plain", "")
            shown = output.get("data", {}).get("text/html", "")
            # Where the plain form is only the name of an object, its page says more.
            if plain.startswith("<") and shown:
                plain = re.sub(r"\s*\n\s*", "\n", _HTML_TAG.sub(" ", shown)).strip()
            found.append(plain)
    return [_printable(text) for text in found if text]


def _printable(text: str) -> str:
    kept = re.sub(r"\x1b\[[0-9;]*m", lambda colour: colour[0].replace("\x1b", "\ue000"), text)
    return _UNPRINTABLE.sub("", kept).replace("\ue000", "\x1b")


def _say(text: str) -> None:
    click.echo(text, err=True)
