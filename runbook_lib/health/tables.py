"""Tables for people: a DataFrame with headings in words, aligned figures, and gaps that say so."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


# Longer texts are sentences: a phone shows such a table row by row, each cell with its heading.
LONGEST_WORD_CHARACTERS = 40


@dataclass(frozen=True)
class Table:
    """A DataFrame and how to show it; `frame` is the data to go on with.

    `decimals` gives the digits of a column, `absent` the words for a missing value.
    """

    frame: pandas.DataFrame
    caption: str = ""
    absent: str = "–"
    empty: str = "No rows."
    decimals: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        if self.frame.empty:
            return self.empty
        shown = self.frame.copy().astype(object)
        for name in shown.columns:
            shown[name] = [self._cell(name, value) for value in shown[name]]
        text = shown.rename(columns=_heading).to_string(index=False, max_colwidth=80)
        return f"{self.caption}\n{text}" if self.caption else text

    def _repr_html_(self) -> str:
        if self.frame.empty:
            return f"<p>{html.escape(self.empty)}</p>"
        names = list(self.frame.columns)
        numeric = {name for name in names if _is_numeric(self.frame[name])}
        heading = "".join(
            f'<th scope="col"{_class(name in numeric)}>{html.escape(_heading(name))}</th>'
            for name in names
        )
        rows = "".join(
            "<tr>"
            + "".join(
                f'<td{_class(name in numeric, value)} data-label="{html.escape(_heading(name))}">'
                f"{html.escape(self._cell(name, value))}</td>"
                for name, value in zip(names, row, strict=True)
            )
            + "</tr>"
            for row in self.frame.itertuples(index=False, name=None)
        )
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        prose = any(_is_prose(self.frame[name]) for name in names)
        table = '<table class="prose">' if prose else "<table>"
        return f"{table}{caption}<thead><tr>{heading}</tr></thead><tbody>{rows}</tbody></table>"

    def _cell(self, name: str, value: Any) -> str:
        if _is_missing(value):
            return self.absent
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, datetime):
            return value.strftime("%Y-%m-%d %H:%M")
        if isinstance(value, date):
            return value.strftime("%a %Y-%m-%d")
        if isinstance(value, float | Decimal):
            return f"{value:,.{self.decimals.get(name, 1)}f}"
        if isinstance(value, int):
            return f"{value:,}"
        return str(value)


def _heading(name: str) -> str:
    """A column's heading: its unit, which ends its name, in brackets or as a sign."""
    words, _, unit = name.rpartition("_")
    sign = {"percent": " %", "seconds": " (s)", "usd": " (USD)"}.get(unit)
    return (f"{words}{sign}" if sign and words else name).replace("_", " ")


def _class(numeric: bool, value: Any = None) -> str:
    if numeric:
        return ' class="number"'
    return ' class="date"' if isinstance(value, date) else ""


def _is_numeric(column: pandas.Series) -> bool:
    return all(
        isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        for value in column.tolist()
        if not _is_missing(value)
    )


def _is_prose(column: pandas.Series) -> bool:
    return any(
        isinstance(value, str) and len(value) > LONGEST_WORD_CHARACTERS for value in column.tolist()
    )


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)
