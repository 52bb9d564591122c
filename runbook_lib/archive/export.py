"""A zip for an auditor: runs with all that belongs to them, and what checks it without anything of ours."""

from __future__ import annotations

import json
import os
import re
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook_lib.archive import chain, verify
from runbook_lib.archive.entries import find_entry
from runbook_lib.archive.search import read_time
from runbook_lib.archive.store import Store
from runbook_lib.archive.verification import everything_beside, read_anchors, read_rows
from runbook_lib.database import Database
from runbook_lib.errors import CouldNotBeDone, NotFoundError, UsageError

_ENTRIES = re.compile(r"(\d{1,15})\.\.(\d{1,15})")
_TEMPLATE = Path(__file__).parent / "export_readme.txt"


@dataclass(frozen=True)
class Exported:
    """What an export holds: `complete` entries with records, rows and objects of all `entries` in it.

    `findings` are what its own `verify.py` says of it.
    """

    file: str
    entries: int
    complete: int
    runs: int
    findings: list[dict[str, Any]]

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


def export(
    database: Database, store: Store, wanted: str, file: Path, *, actor: str, anchors: Sequence[str] = ()
) -> Exported:  # fmt: skip
    """Writes what `wanted` names into a new zip.

    `wanted`: a run or its address, `all`, entries `3..17`, or the times `2026-11-01..2026-11-30` in
    which they were entered. What was tampered with goes into the zip as it is, and is among the findings.
    """
    if file.exists():
        raise UsageError(f"{file} exists; an export is never written over something.")
    anchor_lines = [f"runbook-archive:{name}:{n}:{sha}" for name, n, sha in read_anchors(anchors)]
    seen, texts, head = read_rows(database)
    entries = {n: verify.parsed(text) for n, text in sorted(seen["entries"].items())}
    strangers: list[str] = []
    if wanted == "all":
        # Also what nobody entered, and entries that stand only beside the objects: they are what to look at.
        copies, strangers = everything_beside(store, seen)
        entries = {
            n: verify.parsed(text) for n, text in sorted({**copies, **seen["entries"]}.items())
        }
    complete = _belonging(entries, _wanted(database, wanted, entries))
    if not complete:
        raise NotFoundError(f"There is no entry that {wanted} names.")
    rows = set(texts) if wanted == "all" else _named_rows(entries, complete)
    files = _evidence(seen, complete)
    files |= {f"rows/{name}.json": texts[name] for name in sorted(rows) if name in texts}
    files["anchor.txt"] = "\n".join([*anchor_lines, head.as_text(), ""])
    files["verify.py"] = Path(verify.__file__).read_text("utf-8")
    files["README.txt"] = _readme(seen, entries, complete, head, actor, wanted)
    names = sorted({*_names(seen, entries, complete), *strangers})
    data = store.for_each(names, lambda name: _read(store, name))
    found = {f"objects/{name}": each for name, each in data.items() if each is not None}
    _write_zip(file, {**files, **found})
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(file).extractall(folder)
        findings = verify.check(verify.read_export(Path(folder), read_anchors(anchor_lines)))
    runs = sum(entries[n].get("kind", "").startswith("run") for n in complete)
    held = sum(n >= min(complete) for n in seen["entries"])
    return Exported(str(file), held, len(complete), runs, findings)


def _wanted(database: Database, wanted: str, entries: dict[int, dict[str, Any]]) -> set[int]:
    if wanted == "all":
        return set(entries)
    if bounds := _ENTRIES.fullmatch(wanted):
        return {n for n in entries if int(bounds[1]) <= n <= int(bounds[2])}
    since, dots, until = wanted.partition("..")
    if dots:
        begin, end = chain.plain(read_time(since)), until
        # A date's end is meant: the texts compare as the times do.
        end = f"{until}T~" if len(until) == len("2026-11-30") else chain.plain(read_time(until))
        return {n for n, entry in entries.items() if entry and begin <= entry["at"] <= end}
    run_id = find_entry(database, wanted)["run_id"]
    return {n for n, entry in entries.items() if entry and entry["subject"] == run_id}


def _belonging(entries: dict[int, dict[str, Any]], wanted: set[int]) -> set[int]:
    """With an entry of a run come all others about it; a deletion's record says what is gone."""
    subjects = {entries[n]["subject"] for n in wanted if entries[n]}
    return wanted | {n for n, entry in entries.items() if entry and entry["subject"] in subjects}


def _evidence(seen: dict[str, Any], complete: set[int]) -> dict[str, str]:
    first = min(complete)
    part = {
        "chain": seen["chain"],
        "first": first,
        "complete": sorted(complete),
        "head": seen["head"],
        "entries": {n: text for n, text in sorted(seen["entries"].items()) if n >= first},
        "records": {n: text for n, text in seen["records"].items() if n in complete},
        "uncopied": sorted(seen["uncopied"]),
        "open_runs": sorted(seen["open_runs"]),
    }
    return {"evidence.json": json.dumps(part, indent=1, ensure_ascii=True)}


def _named_rows(entries: dict[int, dict[str, Any]], complete: set[int]) -> set[str]:
    return {each["name"] for n in complete if entries[n] for each in entries[n]["rows"]}


def _names(
    seen: dict[str, Any], entries: dict[int, dict[str, Any]], complete: set[int]
) -> list[str]:
    last = max([*entries, seen["head"]["sequence"]])
    beside = [chain.name_of_entry(seen["chain"], n) for n in range(min(complete), last + 1)]
    named = [entries[n] for n in sorted(complete) if entries[n]]
    return [
        *beside,
        *(each["name"] for entry in named for each in [*entry["objects"], entry["record"]]),
    ]


def _read(store: Store, name: str) -> bytes | None:
    try:
        return store.read(name)
    except NotFoundError:
        return None
    except (CouldNotBeDone, UsageError) as error:
        return f"not read: {error}".encode("ascii", "replace")


def _readme(
    seen: dict[str, Any],
    entries: dict[int, dict[str, Any]],
    complete: set[int],
    head: chain.Head,
    actor: str,
    wanted: str,
) -> str:
    lines = []
    for n in sorted(complete):
        record = json.loads(seen["records"].get(n) or "{}") if entries[n] else {}
        said = " ".join(
            str(record[name]) for name in _TOLD if isinstance(record, dict) and record.get(name)
        )
        lines.append(f"{n:>8}  {entries[n].get('kind', 'unreadable'):<18} {said}")
    return _TEMPLATE.read_text("utf-8").format(
        wanted=wanted, actor=actor, exported_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        first=min(complete), last=head.sequence, complete=len(complete), anchor=head.as_text(),
        listing="\n".join(lines),
    )  # fmt: skip


_TOLD = ("procedure", "run_id", "started_at", "status", "verdict", "actor", "reviewer", "meaning", "place")  # fmt: skip


def _write_zip(file: Path, contents: dict[str, str | bytes]) -> None:
    """Whole or not at all, and never over something."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(temporary, "x", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        os.link(temporary, file)
    except FileExistsError:
        raise UsageError(f"{file} exists; an export is never written over something.") from None
    except OSError as error:
        raise CouldNotBeDone(f"{file} cannot be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)
