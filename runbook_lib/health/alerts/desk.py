"""Where a survey's checks become alerts, and where people look at them and acknowledge them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import psycopg2
import psycopg2.errors

from runbook_lib.changes.actions import admin_action
from runbook_lib.credentials.masking import mask, one_line
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import NotFoundError, RunbookError, UsageError
from runbook_lib.health.alerts.database_book import (
    decide_and_save,
    read_memory,
    save_alerts,
    save_deliveries,
    save_states,
    take_turn,
)
from runbook_lib.health.alerts.decisions import with_groups
from runbook_lib.health.alerts.file_book import FileBook
from runbook_lib.health.alerts.messages import Place, short_id
from runbook_lib.health.alerts.outbox import compose
from runbook_lib.health.alerts.records import Delivery, alert_of, as_record, state_record
from runbook_lib.health.alerts.reports import due_reports
from runbook_lib.health.alerts.rules import Alert, Notice, acknowledged
from runbook_lib.health.alerts.targets import Target, open_targets
from runbook_lib.health.checks import Check
from runbook_lib.health.context import Context
from runbook_lib.policy import Policy
from runbook_lib.settings import Settings
from runbook_lib.spool import open_spool

_SQL = load("alerts")
_DELIVERIES = load("alert_deliveries")
BOOKKEEPING = "alerts.bookkeeping"
OBSERVE_SECONDS = 15.0
FEWEST_ID_CHARACTERS = 4


class Checks(Protocol):
    """What a survey is to alerts."""

    @property
    def checks(self) -> Sequence[Check]: ...


@dataclass(frozen=True)
class Observed:
    """What followed from one survey. `problem` says why it went to the file and not to the database."""

    alerts: tuple[Alert, ...] = ()
    notices: tuple[Notice, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    checks: tuple[Check, ...] = field(default=(), repr=False)
    problem: str | None = None


class Desk:
    """Decides about alerts: in the database, or in the file of this host while that is away."""

    def __init__(self, settings: Settings, policy: Policy, address: str, monitor: str) -> None:
        self.policy = policy
        self.monitor = monitor
        self.targets: list[Target] = open_targets(settings)
        self.place = Place.of(settings, policy, address)
        self.spool = open_spool(settings)
        self.file_book = FileBook(settings.runbook_home / "alerts", self.spool)

    def observe(self, database: Database | None, checks: Sequence[Check]) -> Observed:
        """Takes up one survey. Never raises for the database: then the file takes its place."""
        checks = with_groups(checks)
        if database is None:
            return self._observe_in_file(checks, "There is no database.")
        try:
            return self._observe_in_database(database, checks)
        except psycopg2.errors.LockNotAvailable:
            # The database is there: another monitor decides, for longer than is worth waiting for.
            return Observed(checks=tuple(checks))
        except (RunbookError, psycopg2.Error) as error:
            return self._observe_in_file(checks, one_line(str(error), 300))

    def _observe_in_database(self, database: Database, checks: Sequence[Check]) -> Observed:
        self.spool.file(database)
        well = Check(BOOKKEEPING, "ok", "Alerts are kept in the database.", source="alerts")
        checks = [*checks, well]
        with database.transaction(deadline_seconds=OBSERVE_SECONDS) as transaction:
            now = take_turn(transaction)
            save_states(transaction, self.file_book.states_since_away())
            memory = read_memory(transaction)
            decided = decide_and_save(transaction, memory, checks, now, self.policy)
            deliveries = compose(decided.notices, checks, self.targets, self.place, now)
            deliveries += due_reports(
                transaction, checks, policy=self.policy, targets=self.targets, place=self.place,
                monitor=self.monitor, now=now,
            )  # fmt: skip
            save_deliveries(transaction, deliveries)
            self._keep_house(transaction)
        answers = {check.name: check for check in checks}
        alerts = {alert.alert_id: alert for alert in (*memory.alerts, *decided.alerts)}
        self.file_book.keep(
            [state_record(state, answers[state.check_name]) for state in decided.states],
            alerts.values(),
        )
        return Observed(
            decided.alerts, decided.notices, tuple(deliveries), tuple(checks), problem=None
        )

    def _keep_house(self, transaction: Any) -> None:
        transaction.run(_SQL["forget_old_values"])
        hours = self.policy.alerting.delivery_given_up_after_hours
        transaction.run(_DELIVERIES["give_up_deliveries"], hours=hours)

    def _observe_in_file(self, checks: Sequence[Check], problem: str) -> Observed:
        checks = [*checks, _bookkeeping_away(checks, problem)]
        self.file_book.give_up(timedelta(hours=self.policy.alerting.delivery_given_up_after_hours))
        decided, deliveries = self.file_book.decide(checks, self.policy, self.targets, self.place)
        return Observed(decided.alerts, decided.notices, tuple(deliveries), tuple(checks), problem)


def _bookkeeping_away(checks: Iterable[Check], problem: str) -> Check:
    """One cause, one alert: where the database itself is said to be bad already, this adds nothing."""
    said = any(check.part == "database" and check.verdict == "critical" for check in checks)
    return Check(
        BOOKKEEPING,
        "not_enough_data" if said else "critical",
        f"Alerts cannot be written to the database: {problem} They are kept in a file and sent from there.",
        source="alerts",
        next="`runbook doctor` says which step fails; what is in the file is filed by itself afterwards.",
    )


def observe(context: Context, survey: Checks) -> Observed:
    """Takes up one survey's checks: states, alerts, and what is to be sent for them."""
    database = context.sources.bookkeeping
    desk = Desk(context.settings, context.policy, context.sources.pipeline.address, "observe")
    return desk.observe(database, survey.checks)


def list_alerts(
    context: Context, *, resolved: bool = False, days: int = 7, limit: int = 500
) -> list[dict[str, Any]]:
    """Alerts, what is open first and the worst first, each with how many deliveries came through.

    `resolved` adds those that ended in the last days.
    """
    with context.sources.bookkeeping.transaction(read_only=True) as transaction:
        rows = transaction.rows(_SQL["list_alerts"], resolved=resolved, days=days, limit=limit)
    return [_shown(row._asdict()) for row in rows]


def show_alert(context: Context, alert_id: str) -> dict[str, Any]:
    """One alert with its deliveries. `alert_id` may be its beginning. Raises `NotFoundError`."""
    with context.sources.bookkeeping.transaction(read_only=True) as transaction:
        row = _find(transaction, alert_id)
        deliveries = transaction.rows(_SQL["deliveries_of_alert"], alert_id=str(row.alert_id))
    return {**_shown(row._asdict()), "deliveries": [each._asdict() for each in deliveries]}


def acknowledge(
    context: Context, alert_id: str, *, actor: str, note: str | None = None
) -> dict[str, Any]:
    """Says that somebody is at it: the level is not raised while that holds.

    `alert_id` may be its beginning. Raises `NotFoundError`, and `UsageError` for one that has ended.
    """
    database = context.sources.bookkeeping
    shown_note = mask(note.strip()) if note and note.strip() else None
    with database.transaction(read_only=True) as transaction:
        found = str(_find(transaction, alert_id).alert_id)
    with (
        admin_action(database, actor=actor, action="acknowledge_alert", target=found, reason=note) as action,
        database.transaction() as transaction,
    ):  # fmt: skip
        now = take_turn(transaction)
        (row,) = transaction.rows(_SQL["lock_alert"], alert_id=found)
        alert = alert_of(row._asdict())
        if alert.resolved_at is not None:
            raise UsageError(f"Alert {short_id(found)} has ended; there is nothing to acknowledge.")
        after = acknowledged(alert, actor, shown_note, now)
        save_alerts(transaction, [after])
        action.done(transaction, before=_who(alert), after=_who(after))
    return _shown(as_record(after))


def undelivered(context: Context) -> list[dict[str, Any]]:
    """By address: what failed and waits, or was given up. Not empty is an alarm of its own."""
    with context.sources.bookkeeping.transaction(read_only=True) as transaction:
        return [row._asdict() for row in transaction.rows(_DELIVERIES["undelivered"])]


def _find(transaction: Any, alert_id: str) -> Any:
    wanted = alert_id.strip().lower()
    if len(wanted) < FEWEST_ID_CHARACTERS or set(wanted) - set("0123456789abcdef-"):
        raise UsageError(f"{alert_id!r} is no alert's id; `runbook alerts list` shows them.")
    rows = transaction.rows(_SQL["alerts_by_prefix"], prefix=wanted)
    if not rows:
        raise NotFoundError(f"There is no alert {alert_id}; `runbook alerts list` shows them.")
    if len(rows) > 1:
        raise UsageError(f"Several alerts begin with {alert_id}; give more of it.")
    return rows[0]


def _who(alert: Alert) -> dict[str, Any]:
    found = as_record(alert)
    return {name: found[name] for name in ("status", "acknowledged_by", "acknowledged_note")}


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    evidence = record.get("evidence") or {}
    return {**record, "alert_id": str(record["alert_id"]), "message": evidence.get("message")}
