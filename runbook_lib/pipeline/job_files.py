"""Reads rows out of files of topics: CSV and JSON Lines, in whatever encoding they come.

A row that breaks the file's own form is reported as a `BrokenRow` and reading goes on with the next
physical line. Memory is bounded: never more than one row is held, or `LOOK_AHEAD_CHARACTERS` while
looking for the end of a quoted text.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from runbook_lib.errors import NotFoundError, UsageError
from runbook_lib.pipeline.job_rows import Columns

FileFormat = Literal["csv", "jsonl"]

LOOK_AHEAD_CHARACTERS = 16_000_000
OTHER_COLUMNS_CHARACTERS = 100_000
EXCERPT_CHARACTERS = 500
DELIMITERS = ",;\t|"
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with theirs
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
FORMAT_OF_SUFFIX: dict[str, FileFormat] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_BAD_BYTE = re.compile("[\udc80-\udcff]")
_BEYOND_ASCII = re.compile("[^\x00-\x7f\udc80-\udcff]")


def _mark_bad_byte(error: UnicodeError) -> tuple[str, int]:
    # A byte that does not fit becomes a lone surrogate, so that only its row is rejected.
    assert isinstance(error, UnicodeDecodeError)
    return chr(0xDC00 + max(0x80, error.object[error.start])), max(error.end, error.start + 1)


codecs.register_error("mark_bad_byte", _mark_bad_byte)


@dataclass(frozen=True)
class FileRow:
    """One row as the file has it: the physical line it begins on, and its values by known column."""

    line: int
    values: dict[str, Any]


@dataclass(frozen=True)
class BrokenRow:
    """A line that is no row; reading goes on with the next one."""

    line: int
    reason: str
    text: str


@dataclass
class JobFile:
    """An open file of topics. `warnings` grows while it is read."""

    name: str
    format: FileFormat
    encoding: str
    size_bytes: int
    stream: BinaryIO
    warnings: list[str] = field(default_factory=list)

    def rows(self, maximum_topic_characters: int) -> Iterator[FileRow | BrokenRow]:
        """The file's rows in order; empty lines are no rows.

        Raises `UsageError` when a CSV file has no column for the topic.
        """
        row_characters = maximum_topic_characters + OTHER_COLUMNS_CHARACTERS
        text = io.TextIOWrapper(
            self.stream,
            encoding=self.encoding,
            errors="mark_bad_byte",
            newline="\n" if self.format == "jsonl" else "",
        )
        try:
            if self.format == "jsonl":
                yield from _json_rows(text, self.warnings)
            else:
                yield from _csv_rows(text, self.name, row_characters, self.warnings)
        finally:
            text.detach()

    def read_bytes(self) -> int:
        """How far reading has come, for progress."""
        return self.stream.tell()


@contextmanager
def open_job_file(
    source: Path | str | BinaryIO, *, file_format: FileFormat | None = None, name: str | None = None
) -> Iterator[JobFile]:
    """Opens a path or a binary stream, finding out its encoding and format.

    A stream that cannot be read twice (standard input) is copied to a temporary file first. Raises
    `NotFoundError` or `UsageError` for a path that cannot be read.
    """
    title = name or (str(source) if isinstance(source, Path | str) else "standard input")
    with _seekable(source) as stream:
        size_bytes = stream.seek(0, io.SEEK_END)
        warnings: list[str] = []
        encoding, start = _encoding(stream, title, warnings)
        chosen = file_format or _format(stream, start, encoding, title)
        stream.seek(start)
        yield JobFile(title, chosen, encoding, size_bytes, stream, warnings)


@contextmanager
def _seekable(source: Path | str | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, Path | str):
        try:
            with open(source, "rb") as file:
                if file.seekable():
                    yield file
                    return
                with _seekable(file) as copy:  # a named pipe, or /dev/stdin
                    yield copy
                return
        except FileNotFoundError:
            raise NotFoundError(f"There is no file {str(source)!r}.") from None
        except (IsADirectoryError, PermissionError) as error:
            raise UsageError(f"{str(source)!r} cannot be read: {error.strerror}.") from None
    if source.seekable():
        yield source
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
        yield copy


def _encoding(stream: BinaryIO, name: str, warnings: list[str]) -> tuple[str, int]:
    """The encoding, and where the text starts after a byte order mark."""
    stream.seek(0)
    head = stream.read(4096)
    for mark, encoding in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    if b"\x00" in head[1:2] and b"\x00" not in head[:1]:
        return "utf-16-le", 0
    if b"\x00" in head[:1] and b"\x00" not in head[1:2]:
        return "utf-16-be", 0
    if not _looks_like_windows(stream):
        return "utf-8", 0
    warnings.append(f"{name} is not UTF-8; it was read as Windows-1252.")
    return "cp1252", 0


def _looks_like_windows(stream: BinaryIO) -> bool:
    """Bytes that are not UTF-8, and not one character beyond ASCII that is.

    A file that has both is UTF-8 with damaged rows: reading all of it as Windows-1252 would turn its
    good rows into nonsense.
    """
    stream.seek(0)
    decode = codecs.getincrementaldecoder("utf-8")("mark_bad_byte").decode
    damaged = False
    while chunk := stream.read(1 << 20):
        text = decode(chunk)
        if text.isascii():
            continue
        if _BEYOND_ASCII.search(text):
            return False
        damaged = True
    return damaged or bool(_BAD_BYTE.search(decode(b"", True)))


def _format(stream: BinaryIO, start: int, encoding: str, name: str) -> FileFormat:
    if found := FORMAT_OF_SUFFIX.get(Path(name).suffix.lower()):
        return found
    stream.seek(start)
    head = stream.read(4096).decode(encoding, "ignore").lstrip()
    if head.startswith("["):
        raise UsageError(
            f"{name} is one JSON array. Write one object a line (JSON Lines), for example with "
            "`jq -c '.[]'`; or say --format csv if it is CSV."
        )
    return "jsonl" if head.startswith("{") else "csv"


# JSON Lines


def _json_rows(lines: Iterable[str], warnings: list[str]) -> Iterator[FileRow | BrokenRow]:
    unknown: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            yield _broken(number, f"is not JSON: {error.msg} at character {error.pos + 1}", line)
            continue
        except (RecursionError, ValueError):  # nested too deep, or a number of absurd length
            yield _broken(
                number, "is JSON that is nested too deep or holds too long a number", line
            )
            continue
        if isinstance(value, str):
            value = {"topic": value}
        if not isinstance(value, dict):
            yield _broken(number, "is JSON, but neither an object nor a text", line)
            continue
        columns = Columns.of(tuple(value))
        new = set(columns.unknown) - unknown
        if new and len(unknown) < 100:
            unknown |= new
            warnings.append(_not_read(sorted(new), f"line {number}"))
        yield FileRow(
            number, {column: value[heading] for column, heading in columns.heading_of.items()}
        )


# CSV


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


def _csv_rows(
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
        warnings.append(_not_read(columns.unknown, name))
    positions = {column: headings.index(heading) for column, heading in columns.heading_of.items()}
    for number, cells, broken in _records(lines, delimiter, row_characters):
        if broken is not None:
            yield broken
        elif any(cell.strip() for cell in cells[len(headings) :]):
            reason = (
                f"has {len(cells)} cells, the heading has {len(headings)}: a text that holds "
                f"{delimiter!r} needs quotes around it"
            )
            yield _broken(number, reason, delimiter.join(cells))
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
            yield number, [], _broken(number, reason, record[0])
            continue
        if problem is None:
            try:
                cells = next(csv.reader(record, delimiter=delimiter, strict=True))
            except csv.Error as error:
                problem = f"is not CSV: {error}"
        if problem is not None:
            lines.put_back(record[1:])
            yield number, [], _broken(number, problem, line)
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


def _broken(line: int, reason: str, text: str) -> BrokenRow:
    return BrokenRow(line, reason, text.strip("\r\n")[:EXCERPT_CHARACTERS])


def _not_read(headings: list[str], where: str) -> str:
    return (
        f"{where}: {', '.join(headings)} was not read; the known headings are "
        f"{', '.join(Columns.known())}."
    )
