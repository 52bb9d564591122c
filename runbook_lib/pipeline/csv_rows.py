"""Reads CSV row by row, so that a row that breaks the form costs itself and no other.

Python's reader takes everything after a quote that is never closed for one text. Here the end of each
row is found first; a row without one, or with a quote where none may stand, is given back as a
`BrokenRow` and reading goes on with the next physical line. Not more than `LOOK_AHEAD_CHARACTERS` are
held while looking for the end of a quoted text.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal

from runbook_lib.errors import UsageError
from runbook_lib.pipeline.job_rows import BrokenRow, Columns, FileRow, broken_row, not_read

LOOK_AHEAD_CHARACTERS = 16_000_000
DELIMITERS = ",;\t|"


class _Lines:
    """Physical lines with their numbers; lines that were looked at too far ahead can be put back."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._returned: deque[str] = deque()
        self.number = 0

    def next(self) -> str | None:
        line = self._returned.popleft() if self._returned else next(self._lines, None)
        self.number += line is not None
        return line

    def put_back(self, lines: list[str]) -> None:
        self._returned.extendleft(reversed(lines))
        self.number -= len(lines)


def csv_rows(
    text: Iterable[str], name: str, row_characters: int, warnings: list[str]
) -> Iterator[FileRow | BrokenRow]:
    # The limit is the whole process's; a row is no longer than this when it is parsed.
    csv.field_size_limit(max(csv.field_size_limit(), LOOK_AHEAD_CHARACTERS))
    lines = _Lines(text)
    delimiter, headings = _headings(lines, name)
    columns = Columns.of(tuple(headings))
    if "topic" not in columns.heading_of:
        raise UsageError(
            f"{name} has no column for the topic. Its headings are: {', '.join(headings)}. "
            f"Known headings: {', '.join(Columns.known())}."
        )
    if columns.unknown:
        warnings.append(not_read(columns.unknown, name))
    positions = {column: headings.index(heading) for column, heading in columns.heading_of.items()}
    for number, cells, broken in _records(lines, delimiter, row_characters):
        if broken is not None:
            yield broken
        elif any(cell.strip() for cell in cells[len(headings) :]):
            reason = (
                f"has {len(cells)} cells, the heading has {len(headings)}: a text that holds "
                f"{delimiter!r} needs quotes around it"
            )
            yield broken_row(number, reason, delimiter.join(cells))
        else:
            yield FileRow(
                number,
                {
                    column: cells[position]
                    for column, position in positions.items()
                    if position < len(cells)
                },
            )


def _headings(lines: _Lines, name: str) -> tuple[str, list[str]]:
    """The delimiter under which most headings are known ones, and the headings."""
    line = lines.next()
    while line is not None and not line.strip():
        line = lines.next()
    if line is not None and (told := re.fullmatch(r"sep=(.)\s*", line)):  # Excel writes this
        return told[1], next(csv.reader([lines.next() or ""], delimiter=told[1]))
    if line is None:
        raise UsageError(f"{name} is empty: not even a heading.")
    readings = []
    for delimiter in DELIMITERS:
        headings = next(csv.reader([line], delimiter=delimiter))
        readings.append(
            (len(Columns.of(tuple(headings)).heading_of), len(headings), delimiter, headings)
        )
    _, _, delimiter, headings = max(readings, key=lambda reading: reading[:2])
    return delimiter, headings


def _records(
    lines: _Lines, delimiter: str, row_characters: int
) -> Iterator[tuple[int, list[str], BrokenRow | None]]:
    while (line := lines.next()) is not None:
        if line.isspace():
            continue
        number = lines.number
        record, problem = _whole_record(line, lines, delimiter)
        if problem is None and sum(map(len, record)) > row_characters:
            reason = f"is longer than {row_characters} characters"
            yield number, [], broken_row(number, reason, record[0])
            continue
        if problem is None:
            try:
                cells = next(csv.reader(record, delimiter=delimiter, strict=True))
            except csv.Error as error:
                problem = f"is not CSV: {error}"
        if problem is not None:
            lines.put_back(record[1:])
            yield number, [], broken_row(number, problem, line)
        elif any(cells):
            yield number, cells, None


def _whole_record(line: str, lines: _Lines, delimiter: str) -> tuple[list[str], str | None]:
    """The lines from this one to the end of its record, and what is wrong with it."""
    record, length = [line], len(line)
    state = _quotes(line, delimiter, within=False)
    while state == "open":
        following = lines.next() if length <= LOOK_AHEAD_CHARACTERS else None
        if following is None:
            return record, "opens a quote that is never closed"
        record.append(following)
        length += len(following)
        state = _quotes(following, delimiter, within=True)
    if state == "broken":
        return record, "has a quote that is closed before its text ends; a quote inside is doubled"
    return record, None


def _quotes(line: str, delimiter: str, *, within: bool) -> Literal["open", "closed", "broken"]:
    """Whether a quoted cell is open at the end of the line. Only a cell's first character opens one."""
    position = 0
    while True:
        if not within:
            if line.startswith('"', position):
                position += 1
            else:
                start = line.find(delimiter + '"', position)
                if start < 0:
                    return "closed"
                position = start + 2
        within = False
        end = line.find('"', position)
        while end >= 0 and line.startswith('"', end + 1):
            end = line.find('"', end + 2)
        if end < 0:
            return "open"
        rest = line[end + 1 : end + 2]
        if rest in ("", "\r", "\n"):
            return "closed"
        if rest != delimiter:
            return "broken"
        position = end + 2
