"""The monthly review of the database: statistics, indexes, statements, numbers left, growth and room."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg2
import psycopg2.errors

from runbook_lib.credentials.masking import one_line
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import Answer, checks_table, table
from runbook_lib.health.checks import Check, worst_verdict
from runbook_lib.health.context import Context
from runbook_lib.health.sources import Sources
from runbook_lib.health.statement_history import StatementTimes, statement_times
from runbook_lib.health.storage_checks import GIGABYTE
from runbook_lib.health.survey import survey
from runbook_lib.health.tables import Table
from runbook_lib.maintenance import upkeep_checks
from runbook_lib.maintenance.growth import Growth, growth
from runbook_lib.maintenance.indexes import (
    Standing,
    Suggestion,
    read_indexes,
    suggestions,
    too_young,
)
from runbook_lib.maintenance.own_plans import OwnPlans, own_plans
from runbook_lib.policy import load_policy
from runbook_lib.settings import load_settings

if TYPE_CHECKING:
    from runbook_lib.health.charts import Chart

# What a month is soon enough to look at beside the review's own.
_ASKED = (
    "database.reachable", "database.connections", "database.blockers", "database.oldest_transaction",
    "database.prepared_transactions", "database.replication_slots", "database.wraparound", "database.size",
    "database.wal", "database.disk", "database.partitions",
)  # fmt: skip
_SUGGESTED = ["finding", "table_name", "index_name", "reason", "write_cost", "statement", "does_not_prove"]  # fmt: skip
_STATEMENTS = ["query", "role", "calls", "total_seconds", "share_percent", "mean_milliseconds", "p95_milliseconds"]  # fmt: skip
_TABLES = ["table", "size", "share_percent", "grown", "grown_since"]
STATEMENTS_SHOWN = 10
Found = TypeVar("Found")


@dataclass(frozen=True, repr=False)
class DatabaseReview(Answer):
    """What was found. `suggested` is for people to decide and to run; nothing of it is ever applied here."""

    check: Check
    checks: Sequence[Check]
    standing: Standing | None
    suggested: Sequence[Suggestion]
    plans: OwnPlans | None
    times: StatementTimes | None
    grown: Growth | None
    problem: str | None = None

    def sentences(self) -> list[str]:
        """The worst first, and where nothing could be told."""
        bad = [each for each in self.checks if each.verdict in ("critical", "warning")]
        return [f"{each.name}: {each.message}" for each in bad[:3]]

    @property
    def everything(self) -> Table:
        """All checks, the worst first."""
        order = ("critical", "warning", "not_allowed", "not_enough_data", "ok")
        ordered = sorted(self.checks, key=lambda each: order.index(each.verdict))
        return checks_table(ordered, self.check.message)

    @property
    def indexes(self) -> Table:
        """What may be done about indexes, with what each costs. For a person to decide."""
        empty = "Nothing to suggest: no index is invalid, repeated, unused or missing."
        if self.standing is not None and (young := too_young(self.standing)):
            empty = f"No index is invalid, repeated or missing. {young}"
        return table([each.as_row() for each in self.suggested], _SUGGESTED, self.problem or empty)

    @property
    def statements(self) -> Table:
        """The statements that took the most time, by their share of all of it."""
        if self.times is None:
            return table([], _STATEMENTS, self.check.message)
        rows = [
            {**row, "query": one_line(row["query"], 160), "total_seconds": row["total_milliseconds"] / 1000}
            for row in self.times.statements[:STATEMENTS_SHOWN]
        ]  # fmt: skip
        return table(rows, _STATEMENTS, self.times.message, caption=self.times.message)

    @property
    def tables(self) -> Table:
        """The largest tables, and what they grew by."""
        rows = self.grown.tables if self.grown else []
        return table(rows, _TABLES, self.check.message, absent="not known yet")

    def growth_chart(self) -> Chart:
        """The database's size as it was seen, its trend and its limit."""
        from runbook_lib.maintenance import charts

        if self.grown is None:
            return charts.nothing_to_draw("Sizes are not known.")
        return charts.growth(self.grown.sizes, self.grown.limit_bytes, self.grown.daily_bytes)

    def results(self) -> dict[str, Any]:
        """The figures, for the record."""
        found = {each.name: each for each in self.checks}
        stale = found.get("database.statistics")
        return {
            "verdicts": {name: each.verdict for name, each in found.items()},
            "values": {name: each.value for name, each in found.items() if isinstance(each.value, int | float)},
            "stale_tables": stale.value if stale else None,
            "suggested": [(each.finding, each.index_name) for each in self.suggested],
            "own_statements_planned": self.plans.planned if self.plans else None,
            "own_statements_not_planned": dict(self.plans.not_planned) if self.plans else None,
            "size_bytes": self.grown.sizes[-1][1] if self.grown else None,
            "daily_bytes": self.grown.daily_bytes if self.grown else None,
            "full_on": self.grown.full_on if self.grown else None,
            "problem": self.problem,
        }  # fmt: skip


def database_review(sources: Sources, *, hours: int = 168) -> DatabaseReview:
    """Looks at all of it; changes nothing, and keeps only sizes and counters of its own.

    `hours` is how far back statements are compared. Never raises for what it finds: what this role may not
    see is `not_allowed`, what cannot be known `not_enough_data`, and the rest is told all the same.
    """
    try:
        settings = load_settings()
        context = Context(settings, load_policy(settings), sources)
        asked = list(survey(context, only=_ASKED, deadline_seconds=10).checks)
        with sources.pipeline.transaction(read_only=True) as transaction:
            indexes, standing = read_indexes(transaction)
        return _review(context, asked, suggestions(indexes, standing), standing, hours)
    except (RunbookError, psycopg2.Error) as error:
        problem = _words(error)
        check = Check("database.review", "not_enough_data", f"Not known: {problem}")
        return DatabaseReview(check, (), None, (), None, None, None, problem)


def _review(
    context: Context, asked: list[Check], suggested: list[Suggestion], standing: Standing, hours: int
) -> DatabaseReview:  # fmt: skip
    sources = context.sources
    checks = [*asked, *_upkeep(sources)]
    plans = _or_none(lambda: own_plans(sources), checks, "database.missing_indexes")
    if plans is not None:
        suggested += plans.suggestions()
    checks.append(_indexes_check(suggested, standing))
    room_bytes, room_words = _room(context, asked)
    grown = _or_none(lambda: growth(sources, room_bytes, room_words), checks, "database.growth")
    checks += [grown.check] if grown else []
    times = statement_times(context, hours)
    checks.append(Check("database.statements", times.verdict, times.message, next=times.next, source="statement_history.counters"))  # fmt: skip
    return DatabaseReview(_overall(checks, suggested), checks, standing, suggested, plans, times, grown)  # fmt: skip


def _upkeep(sources: Sources) -> Iterable[Check]:
    """Each check for itself: one that may not look harms no other."""
    asked: list[Callable[[Any], Check]] = [
        upkeep_checks.statistics, upkeep_checks.vacuum_lag, upkeep_checks.sequences,
    ]  # fmt: skip
    for function in asked:
        found: list[Check] = []

        def ask(function: Callable[[Any], Check] = function) -> Check:
            with sources.pipeline.transaction(read_only=True) as transaction:
                return function(transaction)

        answer = _or_none(ask, found, f"database.{function.__name__}")
        yield from ([answer] if answer else found)
    found = []
    answer = _or_none(lambda: upkeep_checks.bloat(sources), found, "database.bloat")
    yield from ([answer] if answer else found)


def _or_none(ask: Callable[[], Found], checks: list[Check], name: str) -> Found | None:
    """What was asked; None, and a check that says why, when it could not be told."""
    try:
        return ask()
    except psycopg2.errors.InsufficientPrivilege as error:
        checks.append(Check(name, "not_allowed", f"This role may not look: {_words(error)}", next="GRANT pg_monitor, or ask the owner."))  # fmt: skip
    except (RunbookError, psycopg2.Error) as error:
        checks.append(Check(name, "not_enough_data", f"Not known: {_words(error)}"))
    return None


def _indexes_check(suggested: Sequence[Suggestion], standing: Standing) -> Check:
    surest = [each for each in suggested if each.finding in ("invalid", "missing")]
    counted = ", ".join(f"{each.finding} {each.index_name if each.finding != 'missing' else 'on ' + each.table_name}" for each in suggested[:4])  # fmt: skip
    young = too_young(standing)
    words = (
        f"{len(suggested)} suggestions: {counted}."
        if suggested
        else "No index is invalid, repeated or missing."
    )
    return Check(
        "database.indexes", "warning" if surest else "ok", f"{words} {young or standing.words}", len(suggested),
        "suggestions", 0, "index_review.indexes", "that a suggestion helps: each says what it does not prove",
        "Look at the table of indexes; a person decides, and runs the statement outside a transaction." if suggested else None,
    )  # fmt: skip


def _room(context: Context, asked: Sequence[Check]) -> tuple[float | None, str]:
    """How much more the database may take: up to the plan's limit, or to the end of the disk that is seen."""
    found = {each.name: each for each in asked}
    size, disk = found.get("database.size"), found.get("database.disk")
    rooms: list[tuple[float, str]] = []
    limit = context.policy.thresholds.database_size_limit_gigabytes
    if limit is not None and size is not None and isinstance(size.value, int | float):
        rooms.append((limit * GIGABYTE - size.value, "database_size_limit_gigabytes"))
    if disk is not None and "free_bytes" in disk.details:
        rooms.append((float(disk.details["free_bytes"]), "free on the server's disk"))
    if not rooms:
        return (
            None,
            "the disk cannot be seen from here, and database_size_limit_gigabytes in RUNBOOK_CONFIG is not set",
        )
    return min(rooms)


def _overall(checks: Sequence[Check], suggested: Sequence[Suggestion]) -> Check:
    bad = [each for each in checks if each.verdict in ("critical", "warning")]
    unknown = [each.name for each in checks if not each.answered]
    words = f"{len(checks)} checks: {len(bad)} not well, {len(unknown)} not answered; {len(suggested)} suggestions about indexes."
    worst = next((each for each in bad if each.verdict == "critical"), bad[0] if bad else None)
    return Check(
        "database.review", worst_verdict(checks), words, len(bad), "checks", 0, "database_review",
        f"what was not answered: {', '.join(unknown)}" if unknown else None,
        worst.next if worst else None,
        procedure=worst.procedure if worst else None, parameters=worst.parameters if worst else {},
    )  # fmt: skip


def _words(error: Exception) -> str:
    return one_line((str(error).strip().splitlines() or [type(error).__name__])[0], 300)
