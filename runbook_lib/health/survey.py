"""The survey: every declared check, side by side, each under its deadline.

It changes nothing and costs nothing. A check that hangs or fails harms no other; a right that the role
lacks is told as `not_allowed`, a column that the pipeline lacks as `not_enough_data`.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg2
import psycopg2.errors

from runbook_lib.credentials.masking import one_line
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import (
    ConfigurationError,
    DatabaseNotMigrated,
    DatabaseUnreachable,
    DeadlineExceeded,
    NotFoundError,
    RunbookError,
)
from runbook_lib.health import (
    database_checks,
    lock_checks,
    monitor_checks,
    outcome_checks,
    provider_checks,
    queue_checks,
    schedule_checks,
    storage_checks,
    workbench_checks,
    worker_checks,
)
from runbook_lib.health.checks import Check, Verdict, worst_verdict
from runbook_lib.health.connections import Connections
from runbook_lib.health.context import Context
from runbook_lib.health.registry import DeclaredCheck, View, not_allowed
from runbook_lib.health.side_by_side import run_probes

DEADLINE_SECONDS = 5.0
DECLARED: tuple[DeclaredCheck, ...] = (
    *database_checks.CHECKS,
    *lock_checks.CHECKS,
    *storage_checks.CHECKS,
    *queue_checks.CHECKS,
    *worker_checks.CHECKS,
    *outcome_checks.CHECKS,
    *provider_checks.CHECKS,
    *schedule_checks.CHECKS,
    *workbench_checks.CHECKS,
    *monitor_checks.CHECKS,
)
# From the worst to the best; what was not answered stands before what is well.
_WORST_FIRST: tuple[Verdict, ...] = ("critical", "warning", "not_allowed", "not_enough_data", "ok")


@dataclass(frozen=True)
class Survey:
    """What all checks answered, in the order in which they are declared."""

    checks: tuple[Check, ...]
    taken_at: datetime
    seconds: float

    @property
    def verdict(self) -> Verdict:
        return worst_verdict(self.checks)

    def worst_first(self) -> list[Check]:
        return sorted(self.checks, key=lambda check: _WORST_FIRST.index(check.verdict))

    def named(self, name: str) -> Check | None:
        return next((check for check in self.checks if check.name == name), None)

    def as_dictionary(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "taken_at": self.taken_at.isoformat(),
            "seconds": self.seconds,
            "checks": [check.masked() for check in self.worst_first()],
        }


def survey(
    context: Context,
    *,
    only: Iterable[str] | None = None,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Survey:
    """Runs the checks, all or those named in `only`: names, or parts such as `database`.

    Returns when all have answered, at the deadline at the latest. Raises `NotFoundError` for a name
    that no check has.
    """
    started = time.monotonic()
    wanted = None if only is None else frozenset(only)
    chosen = {check.name: check for check in _chosen(wanted)}
    pipeline = Connections(context.sources.pipeline)
    bookkeeping = (
        Connections(context.sources.bookkeeping)
        if context.sources.bookkeeping is not context.sources.pipeline
        else pipeline
    )
    view = View(context, Deadline.after(deadline_seconds), pipeline, bookkeeping)
    try:
        found = run_probes(
            {name: _probe(check, view) for name, check in chosen.items()},
            deadline_seconds,
            given_up=lambda name, _, seconds: _hung(chosen[name], seconds),
            failed=lambda name, error: _failed(chosen[name], error),
        )
    finally:
        pipeline.close()
        bookkeeping.close()
    checks = tuple(
        check
        for name, declared in chosen.items()
        for check in _wanted(declared, found[name], wanted)
    )
    return Survey(checks, datetime.now(UTC), round(time.monotonic() - started, 2))


def _chosen(wanted: frozenset[str] | None) -> Sequence[DeclaredCheck]:
    if wanted is None:
        return DECLARED
    known = {name for check in DECLARED for name in (*check.parts, *check.names)}
    for name in sorted(wanted - known):
        nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
        hint = f" Did you mean {nearest[0]}?" if nearest else ""
        raise NotFoundError(f"There is no check or part {name!r}.{hint}")
    return [check for check in DECLARED if wanted & {*check.parts, *check.names}]


def _wanted(
    declared: DeclaredCheck, answers: Sequence[Check], wanted: frozenset[str] | None
) -> Sequence[Check]:
    """Of a check's answers those that were asked for; all, where only another name told why there is none."""
    if wanted is None or declared.name in wanted:
        return answers
    return [check for check in answers if wanted & {check.name, check.part}] or answers


def _probe(check: DeclaredCheck, view: View) -> Callable[[], Iterator[Check]]:
    def probe() -> Iterator[Check]:
        if check.own and view.context.sources.attached:
            yield _not_ours(check)
            return
        missing = view.context.sources.missing(check.needs)
        if missing:
            yield _without_columns(check, missing)
            return
        named = {need.split(".")[0] for need in check.needs}
        if hidden := named & view.hidden_relations if named else None:
            yield _with_hidden_rows(check, sorted(hidden))
            return
        answer = check.function(view)
        yield from (answer,) if isinstance(answer, Check) else answer

    return probe


def _without_columns(check: DeclaredCheck, missing: Sequence[str]) -> Check:
    named = ", ".join(missing)
    return Check(
        check.name,
        "not_enough_data",
        f"This pipeline has no column for {named}, so this cannot be told.",
        source="the mapping",
        next=f"Add {named} to the mapping if the pipeline has it under another name.",
        details={"missing": list(missing)},
    )


def _not_ours(check: DeclaredCheck) -> Check:
    words = "This pipeline is not ours: its own programs leave nothing in our tables that tells it."
    return Check(check.name, "not_enough_data", words)


def _with_hidden_rows(check: DeclaredCheck, relations: Sequence[str]) -> Check:
    named = " and ".join(relations)
    return not_allowed(
        check.name,
        f"row-level security applies to it on {named}, so rows may be missing without an error",
        "Connect as the tables' owner, grant BYPASSRLS, or add a policy that lets this role read all rows.",
    )


def _hung(check: DeclaredCheck, seconds: float) -> Check:
    return Check(
        check.name,
        check.when_hung,
        f"There was no answer within {seconds:g} s; the check was given up.",
        seconds,
        "s",
        next="What it looks at takes requests and then stalls, or all is slow: look at the other checks first.",
    )


def _failed(check: DeclaredCheck, error: Exception) -> Check:
    if isinstance(error, psycopg2.errors.InsufficientPrivilege):
        return not_allowed(check.name, _first_line(error), check.grant)
    if isinstance(error, ConfigurationError):
        return Check(
            check.name, "critical", str(error), next="`runbook doctor` examines the settings."
        )
    return Check(check.name, "not_enough_data", _why(error), next=_next(error))


def _why(error: Exception) -> str:
    if isinstance(error, psycopg2.errors.LockNotAvailable):
        return "Not known: the table is locked by somebody else (see database.blockers)."
    if isinstance(error, DatabaseUnreachable):
        return "Not known: the database was not reached (see database.reachable)."
    if isinstance(error, DatabaseNotMigrated | DeadlineExceeded | RunbookError):
        return f"Not known: {error}"
    return f"The check itself failed: {type(error).__name__}: {one_line(_first_line(error))}"


def _next(error: Exception) -> str | None:
    if isinstance(error, RunbookError | psycopg2.Error):
        return None
    return "Please report this; the other checks were run."


def _first_line(error: Exception) -> str:
    # Only the first line: PostgreSQL's DETAIL prints whole rows, topics and bodies included.
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
