"""`.env`: noticed when it changed, and rewritten without losing anything else that stands in it."""

from __future__ import annotations

import io
import logging
import os
import re
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream

from runbook_lib.durable_files import write_durably
from runbook_lib.errors import CouldNotBeDone

# What it cannot read is told by whoever reads settings, once and with the name.
logging.getLogger("dotenv.main").setLevel(logging.ERROR)

_BARE = re.compile(r"[A-Za-z0-9_@%+=:,./~?&*!-]+")
_ASSIGNMENT = re.compile(
    r"\A(?P<before>\s*(?:export[^\S\r\n]+)?)(?P<name>[^=\s]+)[^\S\r\n]*=[^\S\r\n]*"
    r"(?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^\r\n]*?)"
    r"(?P<after>(?:[^\S\r\n]+\#[^\r\n]*)?[^\S\r\n]*(?:\r\n|\n|\r)?)\Z",
    re.DOTALL,
)


class EnvFile:
    """One `.env`. Its values are read by `settings.read_settings`; here it is watched and rewritten."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def mark(self) -> object:
        """Something cheap that differs after the file was written; None when there is none."""
        try:
            state = self.path.stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_size, state.st_ino

    def value(self, name: str) -> str | None:
        """What the file says of this name now. Raises `CouldNotBeDone` when it cannot be read."""
        return _values(self._read()).get(name)

    def readable_by_others(self) -> bool:
        """Whether anybody but its owner may read it."""
        try:
            return bool(self.path.stat().st_mode & 0o077)
        except OSError:
            return False

    def require_writable(self) -> None:
        """Raises `CouldNotBeDone` when `replace` would not be possible: before anything else is changed."""
        target = self.path.resolve()
        self._read()
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise CouldNotBeDone(
                f"{target.parent} cannot be written by this user, and the new {target.name} is made there. "
                "Do it as the user who owns it."
            )

    def replace(self, name: str, value: str) -> None:
        """Gives a name its new value; everything else stays as it stands: order, comments, mode, owner.

        Written beside it, read back, and put into its place in one step: who reads it sees the old file
        or the new one. Every line that sets the name is changed, so that no earlier value is left
        in it. Raises `CouldNotBeDone`, and then the file is as it was.
        """
        target = self.path.resolve()
        before = self._read()
        after = replaced(before, name, value)
        if _values(after) != {**_values(before), name: value}:
            raise CouldNotBeDone(
                f"{name} was not written: {target} would not give the value back as it is. "
                "A value with ${…} in it cannot stand in such a file: make another one."
            )
        try:
            write_durably(
                target,
                after.encode("utf-8"),
                prepare=lambda descriptor: _as_before(target, descriptor),
            )
        except OSError as error:
            raise CouldNotBeDone(
                f"{target} was not written ({error.strerror}); it is as it was."
            ) from None

    def _read(self) -> str:
        try:
            # Bytes, so that line ends stay as they are.
            return self.path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise CouldNotBeDone(f"{self.path} cannot be read: {reason}.") from None


def unreadable_lines(path: Path) -> dict[int, str]:
    """Lines of an env file that are no `NAME=value`, by their number, each with its first word.

    Whoever reads such a file goes on after them as if they were not there. Raises OSError or UnicodeError for a
    file that cannot be read; one that is not there has none.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    parts = (part for part in parse_stream(io.StringIO(text)) if part.error)
    return {
        part.original.line: (part.original.string.split() or [""])[0].partition("=")[0]
        for part in parts
    }


def replaced(text: str, name: str, value: str) -> str:
    """The text of an env file in which a name has this value; added at the end where it was not set."""
    parts = list(parse_stream(io.StringIO(text, newline="")))
    if any(part.key == name for part in parts):
        return "".join(
            _assigned(part, name, value) if part.key == name else part.original.string
            for part in parts
        )
    end = "" if not text or text.endswith(("\n", "\r")) else "\n"
    return f"{text}{end}{name}={_written(value)}\n"


def _assigned(part: Binding, name: str, value: str) -> str:
    found = _ASSIGNMENT.match(part.original.string)
    before, after = (found["before"], found["after"]) if found else ("", "\n")
    return f"{before}{name}={_written(value)}{after}"


def _written(value: str) -> str:
    """The value as such a file takes it: without quotation marks where none are needed, since not every
    reader of the same file takes them away."""
    if _BARE.fullmatch(value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _values(text: str) -> dict[str, str | None]:
    return dict(dotenv_values(stream=io.StringIO(text), encoding="utf-8"))


def _as_before(target: Path, descriptor: int) -> None:
    """Mode and owner of the file that is replaced; a new one is its owner's alone."""
    try:
        state = target.stat()
    except FileNotFoundError:
        return
    if (state.st_uid, state.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, state.st_uid, state.st_gid)
    os.fchmod(descriptor, state.st_mode & 0o7777)
