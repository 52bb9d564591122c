"""What is known of an incident at this moment: the one source of updates, hand-overs and the post-mortem."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.statements import load
from runbook_lib.health.context import Context
from runbook_lib.incidents.impact import Impact, measure_impact
from runbook_lib.incidents.records import Incident
from runbook_lib.incidents.timeline import KIND, read_timeline
from runbook_lib.spool import UNWRITABLE, Spool, open_spool

_SQL = load("incidents")


@dataclass(frozen=True)
class IncidentFacts:
    """An incident with everything that was recorded meanwhile. `problem` says what could not be read."""

    incident: Incident
    at: datetime
    entries: list[dict[str, Any]] = field(default_factory=list)
    actions: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    impact: Impact | None = None
    problem: str | None = None

    @property
    def cells(self) -> list[dict[str, Any]]:
        return [each for each in self.entries if each["kind"] == "cell"]

    @property
    def timeline(self) -> list[dict[str, Any]]:
        """The entries in order, and between them what was changed and run without a working copy."""
        others = [_of_action(each) for each in self.actions]
        others += [_of_run(each) for each in self.runs if each["trigger"] != "incident"]
        return sorted([*self.entries, *others], key=lambda each: each["at"])

    @property
    def responders(self) -> list[str]:
        """Who took part, in the order in which they came."""
        return list(dict.fromkeys(each["actor"] for each in self.entries))

    @property
    def changes(self) -> list[dict[str, Any]]:
        """Actions that changed something, or tried to."""
        return [each for each in self.actions if each["action"] not in _NOT_CHANGES]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The newest verdict of each notebook."""
        newest = {(each["actor"], each["notebook"]): each for each in self.cells if each["verdict"]}
        return sorted(newest.values(), key=lambda each: each["at"])

    @property
    def notebooks(self) -> Counter[str]:
        """How many cells were executed of each notebook."""
        return Counter(each["notebook"] or "a notebook without a name" for each in self.cells)


def _of_action(action: dict[str, Any]) -> dict[str, Any]:
    words = [action["action"].replace("_", " "), action["target"], f"({action['outcome']})"]
    said = " ".join(filter(None, words)) + (f": {action['reason']}" if action["reason"] else "")
    return {**_NOTHING, "kind": "action", "at": action["acted_at"], "actor": action["actor"], "said": said}  # fmt: skip


def _of_run(run: dict[str, Any]) -> dict[str, Any]:
    found = f", found {run['verdict']}" if run["verdict"] else ""
    said = f"{run['procedure']} {run['status']}{found}".replace("_", " ")
    return {**_NOTHING, "kind": "run", "at": run["started_at"], "actor": run["actor"], "said": said}


_NOTHING: dict[str, Any] = {"filed_late": False, "status": None, "verdict": None, "error": None}
_NOT_CHANGES = ("acknowledge_alert",)


def gather_facts(context: Context, incident: Incident) -> IncidentFacts:
    """Reads what is known now. While the database is away: what waits in files of this machine."""
    now, database = datetime.now(UTC), context.sources.bookkeeping
    until = incident.until
    window = {"since": incident.began_at, "until": until}
    impact = measure_impact(context.sources, context.policy, incident.began_at, until)
    try:
        entries = read_timeline(database, incident.incident)
        with database.transaction(read_only=True) as transaction:
            actions = transaction.rows(
                _SQL["actions_meanwhile"], incident=incident.incident, **window
            )
            alerts = transaction.rows(_SQL["alerts_meanwhile"], **window)
            runs = transaction.rows(_SQL["runs_of_incident"], incident=incident.incident)
    except UNWRITABLE as error:
        waiting = waiting_entries(open_spool(context.settings), incident.incident)
        return IncidentFacts(
            incident, now, waiting, impact=impact, problem=one_line(str(error), 300)
        )
    return IncidentFacts(
        incident, now, entries, [row._asdict() for row in actions],
        [row._asdict() for row in alerts], [row._asdict() for row in runs], impact,
    )  # fmt: skip


def waiting_entries(spool: Spool, incident: str) -> list[dict[str, Any]]:
    """The entries of an incident that wait to be filed; of a cell the newest state."""
    found: dict[str, dict[str, Any]] = {}
    for each in spool.entries():
        if each.kind == KIND and each.content.get("incident") == incident:
            entry = dict(each.content)
            for name in ("at", "ended_at"):
                if isinstance(entry.get(name), str):
                    entry[name] = datetime.fromisoformat(entry[name])
            found[entry["entry_id"]] = {**entry, "filed_late": True}
    return sorted(found.values(), key=lambda each: each["at"])
