"""Evidence kept in a file: the statements as they were run, what they answered, and what each probe found.

From it anybody has every cited figure again, without the system that it came from: `diagnosis.assess` makes
the diagnosis anew, and `runbook triage --from FILE` compares it with the one that was given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from runbook_lib.durable_files import write_durably
from runbook_lib.errors import UsageError
from runbook_lib.health.checks import Check
from runbook_lib.triage.diagnosis import Diagnosis
from runbook_lib.triage.evidence import Evidence, NotChecked, masked_row

_FORM = 1
_TIME = "time"


class KeptRow(SimpleNamespace):
    """A row that was kept. A column that was not asked for when it was kept is not known."""

    def __getattr__(self, name: str) -> None:
        return None


def keep(found: Diagnosis, path: Path) -> None:
    """Writes the diagnosis and all of its evidence; values are masked as in every output."""
    kept = {
        "form": _FORM,
        "answer": found.as_dictionary(),
        "evidence": _as_plain(found.evidence),
    }
    text = json.dumps(kept, default=_value, ensure_ascii=False, indent=1)
    write_durably(path, text.encode("utf-8"))


def read(path: Path) -> tuple[dict[str, Any], Evidence]:
    """The answer that was given, and its evidence. Raises `UsageError` for a file that is none of these."""
    try:
        kept = json.loads(path.read_text("utf-8"), object_hook=_hook)
        if kept["form"] != _FORM:
            raise UsageError(f"{path} has form {kept['form']}; this program reads form {_FORM}.")
        return kept["answer"], _evidence(kept["evidence"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} holds no kept evidence of triage: {error}") from error


def differences(given: Mapping[str, Any], anew: Diagnosis) -> list[str]:
    """Where a diagnosis made anew says something else than the one that was given."""
    plain = json.loads(json.dumps(anew.as_dictionary(), default=str))
    told = json.loads(json.dumps(given, default=str))
    found = [
        f"{name}: {told.get(name)!r}, recomputed {plain.get(name)!r}"
        for name in ("verdict", "layer", "unexplained")
        if told.get(name) != plain.get(name)
    ]
    before = {cause["id"]: cause for cause in told["causes"]}
    after = {cause["id"]: cause for cause in plain["causes"]}
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            found.append(f"cause {name}: {before.get(name)!r}, recomputed {after.get(name)!r}")
    return found


def _as_plain(evidence: Evidence) -> dict[str, Any]:
    return {
        "taken_at": evidence.taken_at,
        "seconds": evidence.seconds,
        "settings_problem": evidence.settings_problem,
        "openai_deadline_seconds": evidence.openai_deadline_seconds,
        "statements": {
            name: {
                "cited_as": evidence.source(name),
                "text": evidence.statements.get(name),
                "rows": [_row(row) for row in rows],
            }
            for name, rows in evidence.rows.items()
        },
        "probes": [check.masked() for check in evidence.checks.values()],
        "entrance": [check.masked() for check in evidence.entrance.values()],
        "not_checked": [{"what": each.what, "why": each.why} for each in evidence.not_checked],
    }


def _row(row: Any) -> Any:
    if isinstance(row, bool):
        return row
    named = row._asdict() if hasattr(row, "_asdict") else vars(row)
    return masked_row(named)


def _evidence(kept: Mapping[str, Any]) -> Evidence:
    statements = kept["statements"]
    return Evidence(
        checks={each["name"]: Check(**each) for each in kept["probes"]},
        entrance={each["name"]: Check(**each) for each in kept["entrance"]},
        rows={
            name: [KeptRow(**row) if isinstance(row, dict) else row for row in each["rows"]]
            for name, each in statements.items()
        },
        not_checked=tuple(NotChecked(**each) for each in kept["not_checked"]),
        taken_at=kept["taken_at"],
        seconds=kept["seconds"],
        settings_problem=kept["settings_problem"],
        openai_deadline_seconds=kept["openai_deadline_seconds"],
        statements={name: each["text"] for name, each in statements.items() if each["text"]},
    )


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return {_TIME: value.astimezone(UTC).isoformat()}
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, UUID):
        return str(value)
    return str(value)


def _hook(found: dict[str, Any]) -> Any:
    return datetime.fromisoformat(found[_TIME]) if found.keys() == {_TIME} else found
