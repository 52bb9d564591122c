"""How a review shows itself: the verdict and its sentences first, in text and in a page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from runbook_lib.health.checks import Check
from runbook_lib.health.tables import Table

if TYPE_CHECKING:
    import pandas

LONGEST_PROBLEM_CHARACTERS = 500


class Answer:
    """A review that shows itself by its `check` and `sentences`; frozen dataclasses build on it."""

    check: Check

    @property
    def verdict(self) -> str:
        return self.check.verdict

    def sentences(self) -> list[str]:
        """What else is said in the first look."""
        return []

    def __repr__(self) -> str:
        return "\n".join([f"{self.verdict}: {self.check.message}", *self.sentences()])

    def _repr_html_(self) -> str:
        said = html.escape(self.verdict.replace("_", " "))
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in self.sentences())
        return (
            f'<div class="verdict verdict-{html.escape(self.verdict)}">'
            f"<p><strong>{said}</strong>: {html.escape(self.check.message)}</p>{lines}</div>"
        )


def table(rows: Iterable[Mapping[str, Any]], columns: Iterable[str], empty: str) -> Table:
    """A table of these columns, also when there is no row."""
    return Table(frame(rows, columns), empty=empty)


def frame(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame([dict(row) for row in rows], columns=list(columns))


def checks_table(checks: Iterable[Check], empty: str = "Nothing was asked.") -> Table:
    """Each check with its verdict and what it says."""
    rows = [
        {"check": told["name"], "verdict": told["verdict"].replace("_", " "), "message": told["message"], "next": told["next"]}
        for told in (check.masked() for check in checks)
    ]  # fmt: skip
    return table(rows, ("check", "verdict", "message", "next"), empty)
