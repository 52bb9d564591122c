"""Verifies the whole archive: reads database and store, and lets `verify.py` compare them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from runbook_lib.archive import chain, verify
from runbook_lib.archive.chain import Head, canonical, sha256
from runbook_lib.archive.store import Store
from runbook_lib.database import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, NotFoundError, UsageError
from runbook_lib.settings import Settings
from runbook_lib.spool import open_spool

_SQL = load("archive")
READING_DEADLINE_SECONDS = 300.0
# A writer at work can look like tampering for a moment; what was found while it worked is looked at again.
LOOKS = 3
_ENTRY_BESIDE = re.compile(r"chain/([0-9a-f]{12})/\d+/(\d{12})\.json")


@dataclass(frozen=True)
class Verification:
    """What verifying found: `entries` were checked; each finding is {entry, kind, detail}.

    `not_beside` are entries that do not stand beside the objects yet; `other_chains` are those of
    other databases that file into the same place, with how many objects they account for.
    """

    entries: int
    findings: list[dict[str, Any]]
    head: Head
    anchors: list[str] = field(default_factory=list)
    not_beside: int = 0
    other_chains: dict[str, int] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        return {**asdict(self), "head": chain.head_as_record(self.head)}


def verify_archive(
    database: Database, store: Store, settings: Settings, *, anchors: Sequence[str] = ()
) -> Verification:
    """Checks every row, object and entry against the others, and against anchors (texts that hold them).

    Changes nothing. Raises `UsageError` for anchors of another chain.
    """
    wanted = read_anchors(anchors)
    earlier: list[dict[str, Any]] | None = None
    for look in range(1, LOOKS + 1):
        seen, head, others = gather(database, store, settings)
        _refuse_foreign(wanted, head)
        seen["anchors"] = wanted
        findings = verify.check(seen)
        if earlier is not None:
            findings = [each for each in findings if each in earlier]
        if not findings or look == LOOKS or not _moving(database, seen, head):
            break
        earlier = findings
    return Verification(
        len(seen["entries"]), findings, head, [f"runbook-archive:{name}:{n}:{digest}" for name, n, digest in wanted],
        len(seen["uncopied"]), others,
    )  # fmt: skip


def read_anchors(texts: Iterable[str]) -> list[tuple[str, int, str]]:
    """The anchors in these texts: a line, a mail, the contents of a file. Raises `UsageError` for none."""
    found = []
    for text in texts:
        if not (here := verify.ANCHOR.findall(text)):
            raise UsageError(
                f"There is no anchor in {text.strip()[:60]!r}; it is a line runbook-archive:… "
                "from `runbook archive anchor`, or a file that holds some."
            )
        found += [(name, int(sequence), digest) for name, sequence, digest in here]
    return found


def gather(
    database: Database, store: Store, settings: Settings
) -> tuple[dict[str, Any], Head, dict[str, int]]:
    """What there is, as `verify.check` takes it; the chain's end; other chains in the same place."""
    # Objects are listed first: what is listed is then entered in what is read after, or under way.
    names = list(store.names())
    seen, _, head = read_rows(database)
    seen["open_runs"] |= waiting_runs(settings)
    entries = [verify.parsed(text) for text in seen["entries"].values()]
    named = {each["name"] for entry in entries if entry for each in _named(entry)}
    others = _read_objects(store, names, named, seen)
    return seen, head, others


def read_rows(database: Database) -> tuple[dict[str, Any], dict[str, str], Head]:
    """What the database holds, of one moment: for `verify.check`, rows as canonical text, the chain's end."""
    with database.transaction(read_only=True, deadline_seconds=READING_DEADLINE_SECONDS) as reading:
        reading.run(_SQL["hold_snapshot"])
        head = chain.read_head(reading)
        seen, texts = _rows(reading, head)
    return seen, texts, head


def waiting_runs(settings: Settings) -> set[str]:
    """Runs whose record waits in the spool: their objects are not entered yet."""
    contents = (entry.content for entry in open_spool(settings).entries())
    return {str(content["run_id"]) for content in contents if "run_id" in content}


def row_as_recorded(row: dict[str, Any], record: dict[str, Any] | None) -> dict[str, Any]:
    """A row as plain values, with the columns that were recorded then: later versions have more."""
    plain: dict[str, Any] = json.loads(canonical(row))
    return {name: plain[name] for name in record if name in plain} if record else plain


def _rows(reading: Transaction, head: Head) -> tuple[dict[str, Any], dict[str, str]]:
    found = reading.rows(_SQL["all_entries"])
    entries = {row.sequence: row.entry for row in found}
    records = {row.sequence: row.record for row in found if row.record is not None}
    recorded = _latest_records(entries, records)
    texts, rows = {}, {}
    for row in reading.rows(_SQL["records_of_runs"]):
        now = row_as_recorded(row._asdict(), recorded.get(row.run_id))
        rows[f"notebook_runs/{row.run_id}"] = now
        texts[f"notebook_runs/{row.run_id}"] = canonical(now)
    wanted = {each["name"] for text in entries.values() for each in verify.parsed(text).get("rows", ())}  # fmt: skip
    for row in reading.rows(_SQL["actions_of_runs"]):
        if (name := f"admin_actions/{row.action_id}") in wanted:
            texts[name] = canonical(row._asdict())
    seen = {
        "chain": head.chain,
        "first": 1,
        "complete": None,
        "head": {"sequence": head.sequence, "sha256": head.sha256},
        "entries": entries,
        "records": records,
        "uncopied": {row.sequence for row in found if row.uncopied},
        "rows": rows,
        "found": {name: sha256(text) for name, text in texts.items()},
        "open_runs": {row.run_id for row in reading.rows(_SQL["runs_under_way"])},
    }
    return seen, texts


def _latest_records(entries: dict[int, str], records: dict[int, str]) -> dict[str, dict[str, Any]]:
    found = {}
    for sequence in sorted(records):
        entry = verify.parsed(entries[sequence])
        if entry and entry["kind"] in (chain.RUN, chain.RUN_FILED_LATE):
            try:
                found[entry["subject"]] = json.loads(records[sequence])
            except ValueError:
                pass  # An altered record; it is named for that.
    return found


def _named(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [*entry["objects"], entry["record"]]


def everything_beside(store: Store, seen: dict[str, Any]) -> tuple[dict[int, str], list[str]]:
    """The entries that stand beside the objects, and the names of all objects, entered or not."""
    found = {**seen, "found": {}}
    _read_objects(store, list(store.names()), set(), found)
    return found["copies"], sorted(found["found"])


def _read_objects(
    store: Store, names: Iterable[str], named: set[str], seen: dict[str, Any]
) -> dict[str, int]:
    """Digests of all objects and texts of all entries beside them; what belongs to other chains is left out."""
    entered = {chain.name_of_entry(seen["chain"], sequence) for sequence in seen["entries"]}
    beside = {name: found for name in {*names, *entered} if (found := _ENTRY_BESIDE.fullmatch(name))}  # fmt: skip
    texts = store.for_each(beside, lambda name: _text(store, name))
    ours = {name for name in beside if beside[name][1] == seen["chain"]}
    others, foreign = _other_chains(beside, texts, ours)
    wanted = sorted(({*names} - set(beside) - foreign) | named)
    digests = store.for_each(wanted, lambda name: _digest(store, name))
    seen["found"].update({name: digest for name, digest in digests.items() if digest is not None})
    seen["copies"] = {int(beside[name][2]): texts[name] for name in ours if texts[name] is not None}
    return others


def _other_chains(
    beside: dict[str, re.Match[str]], texts: dict[str, str | None], ours: set[str]
) -> tuple[dict[str, int], set[str]]:
    counts: dict[str, int] = {}
    foreign: set[str] = set()
    for name in beside.keys() - ours:
        entry = verify.parsed(texts[name])
        objects = {each["name"] for each in _named(entry)} if entry else set()
        counts[beside[name][1]] = counts.get(beside[name][1], 0) + len(objects)
        foreign |= objects
    return counts, foreign


def _text(store: Store, name: str) -> str | None:
    try:
        return store.read(name).decode("ascii", "replace")
    except NotFoundError:
        return None
    except CouldNotBeDone as error:
        return str(error)


def _digest(store: Store, name: str) -> str | None:
    try:
        return verify.digest(store.read(name))
    except NotFoundError:
        return None
    except (CouldNotBeDone, UsageError) as error:
        # It is there, and is none of ours: a link, a name that we do not give.
        return f"not read: {error}"


def _moving(database: Database, seen: dict[str, Any], head: Head) -> bool:
    """Whether somebody filed, started or ended a run since."""
    with database.transaction(read_only=True) as transaction:
        under_way = {row.run_id for row in transaction.rows(_SQL["runs_under_way"])}
        return chain.read_head(transaction) != head or not under_way <= seen["open_runs"]


def _refuse_foreign(anchors: list[tuple[str, int, str]], head: Head) -> None:
    foreign = sorted({name for name, _, _ in anchors if name != head.chain})
    if foreign:
        raise UsageError(
            f"The anchor is of chain {', '.join(foreign)}; this database's chain is {head.chain}. "
            "Verify with the database that it was taken from; if this one should be it, its chain was replaced."
        )
