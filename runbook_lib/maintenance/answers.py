"""How a review is shown in a notebook: the answer first, in one box, with a line or two below it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from runbook_lib.credentials.masking import one_line
from runbook_lib.health.checks import Check
from runbook_lib.health.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MEGABYTE = 1_000_000


class Answer:
    """What a review found. A subclass is a frozen dataclass with a `check` and `repr=False`, and says its `lines`."""

    check: Check

    @property
    def verdict(self) -> str:
        return self.check.verdict

    def lines(self) -> list[str]:
        """What to know beside the answer."""
        return []

    def __repr__(self) -> str:
        return "\n".join([f"{self.verdict}: {self.check.message}", *self.lines()])

    def _repr_html_(self) -> str:
        said, verdict = html.escape(self.verdict.replace("_", " ")), html.escape(self.verdict)
        lines = "".join(f"<p>{html.escape(one_line(line, 500))}</p>" for line in self.lines())
        return (
            f'<div class="verdict verdict-{verdict}"><p><strong>{said}</strong>: '
            f"{html.escape(one_line(self.check.message, 1000))}</p>{lines}</div>"
        )


def table(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], empty: str, **shown: Any
) -> Table:
    """Rows as a table with these columns; `empty` is what it says when there are none."""
    import pandas

    frame = pandas.DataFrame([dict(row) for row in rows], columns=list(columns))
    return Table(frame, empty=empty, **shown)


def checks_table(checks: Iterable[Check], empty: str) -> Table:
    """Checks as lines: what each says, and what to do about it."""
    rows = [
        {"check": each.name, "verdict": each.verdict.replace("_", " "), "message": one_line(each.message, 500), "next": each.next}
        for each in checks
    ]  # fmt: skip
    return table(rows, ["check", "verdict", "message", "next"], empty, absent="")


def size_words(size_bytes: float) -> str:
    """A size for people, in decimal units."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes:.0f} bytes"
