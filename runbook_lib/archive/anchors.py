"""Anchors: the chain's end, put where whoever can change the archive cannot change it.

A chain alone does not show that its tail was cut off, or that all of it was rewritten to fit. An anchor
that was taken before does. It is one line of text; `Head.as_text()` makes it for an alert or a mail.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from runbook_lib.archive import chain
from runbook_lib.archive.chain import Head
from runbook_lib.database import Database
from runbook_lib.errors import CouldNotBeDone, UsageError

GIT_DEADLINE_SECONDS = 30.0
NOTES_REF = "runbook-archive"
TAG_PREFIX = "runbook-archive/"


def put_in_file(head: Head, path: Path) -> None:
    """Adds a line to a file, flushed to the disk; what stands in it stays."""
    try:
        with path.expanduser().open("a", encoding="ascii") as file:
            file.write(f"{head.as_text()} {head.at.isoformat()}\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CouldNotBeDone(f"{path} does not take the anchor: {error.strerror}.") from error


def put_in_git_tag(head: Head, repository: Path) -> str:
    """An annotated tag, to be pushed where others hold it; returns its name."""
    name = f"{TAG_PREFIX}{head.chain}/{head.sequence}"
    _git(repository, "tag", "-a", name, "-m", head.as_text())
    return name


def put_in_git_note(head: Head, repository: Path) -> str:
    """A note at the newest commit; returns the notes' name."""
    _git(repository, "notes", f"--ref={NOTES_REF}", "append", "-m", head.as_text(), "HEAD")
    return f"refs/notes/{NOTES_REF}"


def record_anchor(database: Database, head: Head, actor: str, place: str) -> None:
    """Leaves an entry that says which head was put where, so that it is known where to look."""
    with database.transaction() as transaction:
        chain.append(
            transaction, chain.ANCHOR, head.as_text(), {"actor": actor, "anchor": head.as_text(), "place": place}
        )  # fmt: skip


def texts_of(given: str) -> list[str]:
    """What holds anchors: a line of text, a file, or `git:FOLDER`, whose tags and notes are read.

    Raises `UsageError` for what is none of them.
    """
    if given.startswith("git:"):
        repository = Path(given.removeprefix("git:") or ".")
        tags = _git(repository, "tag", "-l", f"{TAG_PREFIX}*", "--format=%(contents)")
        listed = _git(repository, "notes", f"--ref={NOTES_REF}", "list").splitlines()
        notes = [_git(repository, "cat-file", "-p", line.split()[0]) for line in listed]
        return [text for text in [tags, *notes] if text.strip()]
    if "runbook-archive:" in given:
        return [given]
    try:
        return [Path(given).expanduser().read_text("utf-8", "replace")]
    except OSError as error:
        raise UsageError(
            f"{given[:80]!r} is no anchor and no file that can be read: {error.strerror}."
        ) from None


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=GIT_DEADLINE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CouldNotBeDone(f"git cannot be run: {error}.") from error
    if done.returncode:
        raise CouldNotBeDone(f"git {arguments[0]} in {repository}: {done.stderr.strip()[:300]}")
    return done.stdout
