"""How what somebody asked for is shown: the answer first, in one box, with a line or two below it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runbook_lib.credentials.masking import one_line
from runbook_lib.health.checks import Check
from runbook_lib.health.tables import Table

if TYPE_CHECKING:
    import pandas

LONGEST_PROBLEM_CHARACTERS = 500
MEGABYTE = 1_000_000
_CHECK_COLUMNS = ("check", "verdict", "message", "next")


class Answer:
    """What was found. A subclass is a frozen dataclass with a `check` and `repr=False`, and says its
    `sentences`."""

    check: Check

    @property
    def verdict(self) -> str:
        return self.check.verdict

    def sentences(self) -> list[str]:
        """What to know beside the answer."""
        return []

    def __repr__(self) -> str:
        return "\n".join([f"{self.verdict}: {self.check.message}", *self.sentences()])

    def _repr_html_(self) -> str:
        return verdict_box(self.verdict, self.check.message, self.sentences())


def verdict_box(
    verdict: str, message: str, sentences: Iterable[str] = (), word: str | None = None
) -> str:
    """The answer as a page shows it: in the verdict's colour, `word` (else the verdict) first."""
    said = html.escape((word or verdict).replace("_", " "))
    lines = "".join(f"<p>{html.escape(one_line(line, 500))}</p>" for line in sentences)
    return (
        f'<div class="verdict verdict-{html.escape(verdict)}"><p><strong>{said}</strong>: '
        f"{html.escape(one_line(message, 1000))}</p>{lines}</div>"
    )


def table(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], empty: str, **shown: Any
) -> Table:
    """Rows as a table with these columns; `empty` is what it says when there are none."""
    return Table(frame(rows, columns), empty=empty, **shown)


def frame(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame([dict(row) for row in rows], columns=list(columns))


def checks_table(checks: Iterable[Check], empty: str = "Nothing was asked.") -> Table:
    """Checks as lines: what each says, and what to do about it."""
    told = [{**check.masked(), "check": check.name} for check in checks]
    rows = [{**each, "verdict": each["verdict"].replace("_", " ")} for each in told]
    return table(rows, _CHECK_COLUMNS, empty, absent="")


def size_words(size_bytes: float) -> str:
    """A size for people, in decimal units."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes:.0f} bytes"
