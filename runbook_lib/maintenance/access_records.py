"""Who created jobs, who acted as an operator, and whom the console refused: what the records say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runbook_lib.database.statements import load
from runbook_lib.health.checks import Check
from runbook_lib.health.sources import Sources

# So many refusals from one address are somebody who tries, or a program that is set up wrongly.
REFUSALS_WARNING = 20
ROWS_SHOWN = 50
_SQL = load("access_review")
_BREACH = "emergency/security_breach"


@dataclass(frozen=True)
class Period:
    """The days of a review, and when people work: in these hours of a time zone, Monday to Friday."""

    since: datetime
    until: datetime
    time_zone: str = "UTC"
    begin_hour: int = 7
    end_hour: int = 20

    @property
    def days(self) -> dict[str, datetime]:
        return {"since": self.since, "until": self.until}

    @property
    def hours(self) -> dict[str, Any]:
        return {
            "time_zone": self.time_zone,
            "begin_hour": self.begin_hour,
            "end_hour": self.end_hour,
        }


@dataclass(frozen=True)
class Part:
    """One part of the review: its check, and the rows behind it."""

    check: Check
    rows: Sequence[dict[str, Any]] = ()


def producers(sources: Sources, period: Period, known: Sequence[str]) -> Part:
    """Jobs by who created them. One whose source and database role are both unknown is unauthorised."""
    name, source = "access.producers", "access_review.jobs_by_producer"
    missing = sources.missing(["jobs.created_at", "jobs.source", "jobs.created_by"])
    if len(missing) > 1 or "jobs.created_at" in missing:
        return Part(Check(name, "not_enough_data", f"This pipeline has no {', '.join(missing)}: who created a job is not known.", source=source))  # fmt: skip
    with sources.pipeline.transaction(read_only=True) as transaction:
        found = transaction.rows(sources.reading(_SQL["jobs_by_producer"]), **period.days)
    rows = [
        {"source": row.source, "created_by": row.created_by, "known": _known(row, known), "jobs": row.jobs,
         "pending": row.pending, "published": row.completed, "first_at": row.first_at, "last_at": row.last_at,
         "example": row.example}
        for row in found
    ]  # fmt: skip
    rows.sort(key=lambda row: bool(row["known"]))
    return Part(_producers_check(rows, known, name, source), rows)


def _known(row: Any, known: Sequence[str]) -> bool | None:
    return None if not known else row.source in known or row.created_by in known


def _producers_check(
    rows: Sequence[dict[str, Any]], known: Sequence[str], name: str, source: str
) -> Check:
    jobs = sum(row["jobs"] for row in rows)
    if not known:
        return Check(
            name, "not_enough_data", f"{jobs:,} jobs by {len(rows)} producers; which of them may create jobs was never said.",
            source=source, next="Name them as known_producers in the file of RUNBOOK_CONFIG.",
        )  # fmt: skip
    strangers = [row for row in rows if row["known"] is False]
    if not strangers:
        return Check(
            name, "ok", f"All {jobs:,} jobs were created by known producers.", 0, "jobs", 0, source,
            does_not_prove="that nobody uses the name of a known producer",
        )  # fmt: skip
    unknown, pending = (
        sum(row["jobs"] for row in strangers),
        sum(row["pending"] for row in strangers),
    )
    names = ", ".join(f"{row['source'] or 'no source'} ({row['created_by'] or 'no role'})" for row in strangers[:5])  # fmt: skip
    return Check(
        name, "critical", f"{unknown:,} jobs were created by somebody who is not known: {names}. {pending:,} of them still wait.",
        unknown, "jobs", 0, source,
        next="Pause all providers, keep the evidence, then find out who it is.", procedure=_BREACH,
        details={"pending": pending},
    )  # fmt: skip


def actions(sources: Sources, period: Period) -> Part:
    """What operators did, by person."""
    with sources.bookkeeping.transaction(read_only=True) as transaction:
        found = transaction.rows(_SQL["actions_by_actor"], **period.days, **period.hours)
        anybody = transaction.value(_SQL["actions_before"], since=period.since)
    rows = [
        {"actor": row.actor, "actions": row.actions, "refused": row.refused, "failed": row.failed,
         "outside_hours": row.outside_hours, "hosts": row.hosts,
         "new": not row.acted_before if anybody else None, "last_at": row.last_at}
        for row in found
    ]  # fmt: skip
    new = [row["actor"] for row in rows if row["new"]]
    counts = {each: sum(row[each] for row in rows) for each in ("actions", "refused", "outside_hours")}  # fmt: skip
    message = (
        f"{counts['actions']:,} actions by {len(rows)} people; {counts['refused']:,} refused, "
        f"{counts['outside_hours']:,} outside of working hours."
    )
    check = Check(
        "access.actions", "warning" if new else "ok",
        f"{message} Never seen before: {', '.join(new[:5])}." if new else message, len(new), "new actors", 0,
        "access_review.actions_by_actor", does_not_prove="that a person is who the name says",
        next="Ask them, or those who know them, whether it was they." if new else None,
    )  # fmt: skip
    return Part(check, rows)


def actions_to_look_at(sources: Sources, period: Period) -> Part:
    """Single actions that were refused or done outside of working hours."""
    with sources.bookkeeping.transaction(read_only=True) as transaction:
        found = transaction.rows(
            _SQL["actions_to_look_at"], **period.days, **period.hours, row_count=ROWS_SHOWN
        )
    rows = [row._asdict() for row in found]
    check = Check("access.single_actions", "ok", f"{len(rows)} single actions to look at.", len(rows), "actions", None, "access_review.actions_to_look_at")  # fmt: skip
    return Part(check, rows)


def refusals(sources: Sources, period: Period) -> Part:
    """Whom the console refused, by address and what was shown to it."""
    with sources.bookkeeping.transaction(read_only=True) as transaction:
        found = transaction.rows(_SQL["refusals_by_client"], **period.days, row_count=ROWS_SHOWN)
        asked = transaction.row(_SQL["requests_of_days"], **period.days)
    assert asked is not None
    rows = [
        {"address": row.client, "shown": row.token, "refused": row.requests, "routes": row.routes,
         "first_at": row.first_at, "last_at": row.last_at, "let_in_after": row.served_after}
        for row in found
    ]  # fmt: skip
    many = [row for row in rows if row["refused"] >= REFUSALS_WARNING]
    inside = [row for row in many if row["let_in_after"]]
    message = f"{asked.refused:,} of {asked.requests:,} requests to the console were refused."
    if many:
        message += f" {many[0]['address']} was refused {many[0]['refused']:,} times."
    if inside:
        message += f" {inside[0]['address']} was let in after that: a guess that hit, or somebody behind the same address."  # fmt: skip
    check = Check(
        "access.refusals", "warning" if many else "ok", message, max((row["refused"] for row in rows), default=0),
        "refusals from one address", REFUSALS_WARNING, "access_review.refusals_by_client",
        does_not_prove="anything about requests that a proxy before the console answered",
        next="Replace the write token, which ends every session, and look at what was done since." if inside else None,
        procedure=_BREACH if inside else None,
    )  # fmt: skip
    return Part(check, rows)
