"""The monitor: each minute it surveys, brings the history up to date, and tells what has to be told.

Any number of monitors may run on any hosts. A survey is a turn that one of them takes, by the
database's clock; every monitor sends what is due, and a delivery is claimed for the time of a lease.
Each address has a thread of its own, so that one that hangs holds up neither the survey nor the others.
Without the database each host surveys, decides and sends for itself (`alerts.file_book`).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL, RunbookError
from runbook_lib.health import beats
from runbook_lib.health.alerts import chart
from runbook_lib.health.alerts.database_book import DatabaseOutbox
from runbook_lib.health.alerts.delivery import Deliverer, Round
from runbook_lib.health.alerts.desk import Desk, Observed
from runbook_lib.health.alerts.records import Delivery, value_of
from runbook_lib.health.alerts.targets import Target
from runbook_lib.health.checks import Check, worst_verdict
from runbook_lib.health.context import Context, open_context
from runbook_lib.health.monitor_checks import DELIVERY, delivery_check
from runbook_lib.health.rollup import refresh
from runbook_lib.health.survey import survey
from runbook_lib.policy import load_policy
from runbook_lib.settings import Settings

# How soon another monitor goes on with what one that died has left, beyond the leases.
DELIVERY_LOOK_SECONDS = 5.0
REFRESH_SECONDS = 20.0
# A survey, a refresh and a decision together; whoever takes longer has lost the turn.
TURN_LEASE_SECONDS = 90.0
STOP_GRACE_SECONDS = 5.0
CHART_SECONDS = 5.0
_REMEMBERED_VALUES = 180

Say = Callable[[dict[str, Any]], None]
Act = Callable[[Context, Sequence[Check]], Sequence[dict[str, Any]]]
_TURNS = load("alert_deliveries")


@dataclass(frozen=True)
class Turn:
    """What one turn did. `surveyed` is False when another monitor has this interval's survey."""

    surveyed: bool
    checks: tuple[Check, ...] = ()
    observed: Observed = field(default_factory=Observed)
    seconds: float = 0.0
    problems: tuple[str, ...] = ()
    # What was done about it, by whoever may act.
    done: tuple[dict[str, Any], ...] = ()

    @property
    def verdict(self) -> str:
        return worst_verdict(self.checks)

    @property
    def well(self) -> bool:
        return self.verdict != "critical" and self.observed.problem is None

    def as_dictionary(self) -> dict[str, Any]:
        shown = [check for check in self.checks if check.verdict in ("warning", "critical")]
        found: dict[str, Any] = {
            "event": "surveyed" if self.surveyed else "left_to_another",
            "verdict": self.verdict, "checks": len(self.checks),
            "not_well": [check.name for check in shown], "seconds": self.seconds,
            "told": [{"kind": each.kind, "cause": each.alert.cause, "alert_id": each.alert.alert_id}
                     for each in self.observed.notices],
            "without_database": self.observed.problem, "problems": list(self.problems), "done": list(self.done),
        }  # fmt: skip
        return {name: value for name, value in found.items() if value not in (None, [], ())}


class Monitor:
    """One monitor process. Nothing that a check, the database or an address does ends it.

    `act` is called with what was found, by the monitor that has the survey's turn; what it returns is said.
    """

    def __init__(self, settings: Settings, say: Say, act: Act | None = None) -> None:
        self._settings = settings
        self._policy = load_policy(settings)
        self._say = say
        self._act = act
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._interval_seconds = self._policy.alerting.survey_interval_seconds
        self._context: Context | None = None
        self._desk = Desk(settings, self._policy, _address(settings), self._name)
        self._values: dict[str, deque[chart.Value]] = {}
        self._wake: dict[str, threading.Event] = {
            target.key: threading.Event() for target in self._desk.targets
        }

    def serve(self, stop: threading.Event) -> int:
        """Surveys and sends until `stop` is set."""
        self._say({"event": "monitor_started", "monitor": self._name,
                   "targets": [target.name for target in self._desk.targets],
                   "interval_seconds": self._interval_seconds})  # fmt: skip
        threads = [
            threading.Thread(target=self._send_for_ever, args=(target, stop), daemon=True)
            for target in self._desk.targets
        ]
        for thread in threads:
            thread.start()
        due = time.monotonic()
        while not stop.is_set():
            turn = self.turn()
            if turn.surveyed:
                self._say(turn.as_dictionary())
            due = max(due + self._interval_seconds, time.monotonic())
            stop.wait(max(0.0, due - time.monotonic()))
        for event in self._wake.values():
            event.set()
        until = time.monotonic() + STOP_GRACE_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._beat(stopped=True)
        self._say({"event": "monitor_stopped", "monitor": self._name})
        self.close()
        return EXIT_DONE

    def once(self) -> int:
        """One survey at once and one round of sending; the exit status says whether all is well."""
        turn = self.turn(at_once=True)
        self._say(turn.as_dictionary())
        rounds: list[Round] = []
        threads = [
            threading.Thread(target=lambda each=target: rounds.append(self._send_once(each)))
            for target in self._desk.targets
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._beat(stopped=True)
        self.close()
        arrived = not any(each.failed for each in rounds)
        return EXIT_DONE if turn.well and arrived else EXIT_NOT_WELL

    def close(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None

    # surveying

    def turn(self, *, at_once: bool = False) -> Turn:
        """One turn: sign of life, and the survey unless another monitor has it. Never raises."""
        began = time.monotonic()
        problems: list[str] = []
        context = self._open(problems)
        database = context.sources.bookkeeping if context else None
        self._beat(problem=problems[0] if problems else None)
        if not self._takes_survey(database, at_once, problems):
            return Turn(False, problems=tuple(problems))
        checks = self._survey(context, problems)
        self._refresh(context, problems)
        observed = self._desk.observe(database, checks)
        done = self._acted(context, observed.checks, problems)
        self._end_survey(database)
        self._remember(observed.checks)
        for event in self._wake.values():
            event.set()
        seconds = round(time.monotonic() - began, 2)
        return Turn(True, observed.checks, observed, seconds, tuple(problems), done)

    def _open(self, problems: list[str]) -> Context | None:
        if self._context is None:
            try:
                self._context = open_context(
                    self._settings, "runbook monitor", require_schema=False
                )
            except RunbookError as error:
                problems.append(one_line(str(error), 300))
        return self._context

    def _takes_survey(self, database: Database | None, at_once: bool, problems: list[str]) -> bool:
        if database is not None:
            try:
                with database.transaction(deadline_seconds=10) as transaction:
                    return transaction.value(
                        _TURNS["take_survey_turn"], monitor=self._name, at_once=at_once,
                        lease_seconds=TURN_LEASE_SECONDS,
                    ) is not None  # fmt: skip
            except (RunbookError, psycopg2.Error) as error:
                problems.append(one_line(str(error), 300))
        return at_once or self._desk.file_book.take_turn(self._interval_seconds)

    def _end_survey(self, database: Database | None) -> None:
        if database is None:
            return
        try:
            with database.transaction(deadline_seconds=10) as transaction:
                transaction.run(
                    _TURNS["end_survey_turn"], monitor=self._name,
                    interval_seconds=self._interval_seconds,
                )  # fmt: skip
        except (RunbookError, psycopg2.Error):
            pass  # the lease of the turn ends by itself

    def _survey(self, context: Context | None, problems: list[str]) -> tuple[Check, ...]:
        if context is None:
            said = problems[0] if problems else "It could not be opened."
            return (Check("database.reachable", "critical", said, False, source="start"),)
        try:
            checks = survey(context).checks
        except Exception as error:
            message = one_line(f"{type(error).__name__}: {error}", 300)
            problems.append(message)
            return (Check("monitor.survey", "critical", f"The survey failed: {message}"),)
        return (*self._with_own_deliveries(checks), Check("monitor.survey", "ok", "It was made."))

    def _with_own_deliveries(self, checks: Sequence[Check]) -> list[Check]:
        """What waits in this host's file is an alarm as well, and the only one without a database."""
        waiting = [each for each in self._desk.file_book.waiting() if each.last_error]
        said = next((check for check in checks if check.name == DELIVERY), None)
        if not waiting or (said is not None and said.verdict == "critical"):
            return list(checks)
        rows = [
            {"target": target, "waiting": len(mine), "given_up": 0, "reason": mine[-1].last_error,
             "since": min(each.created_at for each in mine)}
            for target in sorted({each.target for each in waiting})
            if (mine := [each for each in waiting if each.target == target])
        ]  # fmt: skip
        others = [check for check in checks if check.name != DELIVERY]
        return [*others, delivery_check(rows, True, "file")]

    def _refresh(self, context: Context | None, problems: list[str]) -> None:
        """Brings the history up to date; a failure is said and harms nothing else."""
        if context is None:
            return
        try:
            refresh(context.sources, deadline_seconds=REFRESH_SECONDS)
        except Exception as error:
            message = one_line(f"{type(error).__name__}: {error}", 300)
            problems.append(f"The history was not brought up to date: {message}")

    def _acted(
        self, context: Context | None, checks: Sequence[Check], problems: list[str]
    ) -> tuple[dict[str, Any], ...]:
        """What was done by itself; a failure is said and harms nothing else."""
        if self._act is None or context is None:
            return ()
        try:
            return tuple(self._act(context, checks))
        except Exception as error:
            message = one_line(f"{type(error).__name__}: {error}", 300)
            problems.append(f"What may be done by itself was not: {message}")
            return ()

    def _beat(self, *, problem: str | None = None, stopped: bool = False) -> None:
        if self._context is None:
            return
        try:
            beats.beat(
                self._context.sources.bookkeeping, self._name, self._interval_seconds,
                problem=problem, stopped=stopped,
            )  # fmt: skip
        except (RunbookError, psycopg2.Error):
            pass  # without the database nobody could read it

    # sending

    def _send_for_ever(self, target: Target, stop: threading.Event) -> None:
        wake = self._wake[target.key]
        deliverer = self._deliverer(target)
        while not stop.is_set():
            wake.wait(DELIVERY_LOOK_SECONDS)
            wake.clear()
            try:
                deliverer.send_what_is_due(self._outbox())
            except Exception as error:
                message = one_line(f"{type(error).__name__}: {error}", 300)
                self._say({"event": "problem", "target": target.name, "message": message})
        deliverer.close()

    def _send_once(self, target: Target) -> Round:
        deliverer = self._deliverer(target)
        try:
            return deliverer.send_what_is_due(self._outbox())
        finally:
            deliverer.close()

    def _deliverer(self, target: Target) -> Deliverer:
        return Deliverer(
            target, self._policy.alerting, self._desk.file_book, self._say, self._chart
        )

    def _outbox(self) -> DatabaseOutbox | None:
        context = self._context
        return DatabaseOutbox(context.sources.bookkeeping, self._name) if context else None

    # charts

    def _remember(self, checks: Sequence[Check]) -> None:
        now = datetime.now(UTC)
        for check in checks:
            if (value := value_of(check)) is not None:
                kept = self._values.setdefault(check.name, deque(maxlen=_REMEMBERED_VALUES))
                kept.append((now, value, check.verdict))

    def _chart(self, delivery: Delivery) -> bytes | None:
        """The picture for a delivery; an alert goes out without one rather than late or not at all."""
        drawn: list[bytes | None] = []

        def draw() -> None:
            try:
                drawn.append(chart.of_delivery(
                    delivery, self._context.sources.bookkeeping if self._context else None,
                    self._desk.file_book.open_alerts(), self._values,
                ))  # fmt: skip
            except Exception as error:
                message = one_line(f"{type(error).__name__}: {error}", 200)
                self._say({"event": "no_chart", "title": delivery.title, "message": message})

        # The first one loads the drawing library, which takes long on a busy machine.
        drawing = threading.Thread(target=draw, daemon=True)
        drawing.start()
        drawing.join(CHART_SECONDS)
        return drawn[0] if drawn else None


def _address(settings: Settings) -> str:
    """Where the pipeline is, for people: without a password, and without connecting."""
    if settings.database_url is None:
        return f"{socket.gethostname()}, embedded in {settings.runbook_home}"
    return Database(settings.database_url.get_secret_value()).address
