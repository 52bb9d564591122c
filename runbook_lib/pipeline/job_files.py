"""Reads rows out of files of topics: CSV and JSON Lines, in whatever encoding they come.

A row that breaks the file's own form is reported as a `BrokenRow` and reading goes on with the next
physical line. Never more than one row is held in memory.
"""

from __future__ import annotations

import codecs
import io
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from runbook_lib.errors import NotFoundError, UsageError
from runbook_lib.pipeline.csv_rows import csv_rows
from runbook_lib.pipeline.job_rows import BrokenRow, Columns, FileRow, broken_row, not_read

FileFormat = Literal["csv", "jsonl"]

OTHER_COLUMNS_CHARACTERS = 100_000
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
                yield from csv_rows(text, self.name, row_characters, self.warnings)
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
            yield broken_row(number, f"is not JSON: {error.msg} at character {error.pos + 1}", line)
            continue
        except (RecursionError, ValueError):  # nested too deep, or a number of absurd length
            yield broken_row(
                number, "is JSON that is nested too deep or holds too long a number", line
            )
            continue
        if isinstance(value, str):
            value = {"topic": value}
        if not isinstance(value, dict):
            yield broken_row(number, "is JSON, but neither an object nor a text", line)
            continue
        columns = Columns.of(tuple(value))
        new = set(columns.unknown) - unknown
        if new and len(unknown) < 100:
            unknown |= new
            warnings.append(not_read(sorted(new), f"line {number}"))
        yield FileRow(
            number, {column: value[heading] for column, heading in columns.heading_of.items()}
        )
