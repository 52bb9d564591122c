"""The scheduler: APScheduler is the clock, the database says who deals with a due time.

APScheduler alone forgets at a restart, doubles with a second process and drops what comes due while it
stalls. So it only says "look now": which times are due follows from the schedule and the newest due time
that anybody dealt with, and a due time is claimed by inserting it. Any number of schedulers may run;
none is the leader. A look also comes once a minute, so that nothing hangs on one firing: not after the
database was away, not after the clock was set back.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.procedures.parameters import ParametersRefused
from runbook_lib.procedures.runner import close_lost_runs, run
from runbook_lib.scheduling.schedules import Schedule
from runbook_lib.settings import Settings

LOOK_SECONDS = 60
# A due time is in time when it is dealt with within this; later it is caught up by the policy.
IN_TIME = timedelta(seconds=120)
RUNS_AT_ONCE = 4
ABANDONED_AFTER_SECONDS = 300

Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Decision:
    """What becomes of one due time: `started` runs it, `missed` and `skipped` only record it."""

    due_at: datetime
    outcome: str
    note: str | None = None


def decide(schedule: Schedule, due_times: Iterable[datetime], now: datetime) -> list[Decision]:
    """The schedule's policies as a rule: what becomes of each due time, the oldest first."""
    due = list(due_times)
    if schedule.is_paused(now):
        note = f"The schedule is paused: {schedule.paused_reason}"
        return [Decision(each, "skipped", note) for each in due]
    if schedule.catch_up == "each":
        return [Decision(each, "started") for each in due]
    late = "No scheduler was there in time."
    decisions = [Decision(each, "missed", late) for each in due[:-1]]
    for newest in due[-1:]:
        runs = schedule.catch_up == "once" or now - newest <= IN_TIME
        decisions.append(Decision(newest, "started") if runs else Decision(newest, "missed", late))
    return decisions


class Scheduler:
    """Runs schedules until it is asked to stop."""

    def __init__(
        self, database: Database, settings: Settings, schedules: Iterable[Schedule], say: Say
    ) -> None:
        self._database = database
        self._settings = settings
        self._schedules = list(schedules)
        self._say = say
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._began_at = datetime.now(UTC)
        self._dealing = {schedule.id: threading.Lock() for schedule in self._schedules}
        self._stopping = threading.Event()
        self._end_runs = threading.Event()

    def serve(self, stop: threading.Event, end_runs: threading.Event | None = None) -> None:
        """Runs until `stop` is set; then nothing new begins, and runs may end within the grace time.

        What still goes on after it, or when `end_runs` is set, is ended and archived as killed.
        """
        clock = self._clock()
        clock.start()
        try:
            stop.wait()
        finally:
            self._stopping.set()
            clock.shutdown(wait=False)
            self._wait_for_runs(end_runs or threading.Event())

    def look(self, schedule: Schedule) -> None:
        """Deals with what is due of one schedule. Never raises: what went wrong is said."""
        lock = self._dealing[schedule.id]
        if not lock.acquire(blocking=False):
            return  # A run of this schedule goes on here; what comes due meanwhile is seen after it.
        try:
            self._settle_abandoned()
            while not self._stopping.is_set() and self._deal_with(schedule):
                pass
        except RunbookError as error:
            self._tell("problem", schedule, message=one_line(str(error)))
        except Exception as error:
            self._tell("problem", schedule, message=one_line(f"{type(error).__name__}: {error}"))
        finally:
            lock.release()

    def _clock(self) -> Any:
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler

        # It warns when a look comes while one goes on, which is meant here.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        clock = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(RUNS_AT_ONCE)},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        for schedule in self._schedules:
            clock.add_job(self.look, schedule.trigger(), [schedule], id=schedule.id)
            clock.add_job(
                self.look, "interval", [schedule], id=f"{schedule.id} again",
                seconds=LOOK_SECONDS, next_run_time=datetime.now(UTC),
            )  # fmt: skip
        return clock

    def _deal_with(self, schedule: Schedule) -> bool:
        """Deals with what is due now; whether something was run, so that it is worth looking again."""
        due = self._due_times(schedule)
        if not due:
            return False
        if running := self._running(schedule):
            if schedule.overlap == "skip":
                self._skip(schedule, due, running.due_at)
            return False
        ended_at = None
        for decision in decide(schedule, due, datetime.now(UTC)):
            if self._stopping.is_set():
                return False
            if self._claim(schedule, decision) and decision.outcome == "started":
                self._run(schedule, decision.due_at)
                ended_at = datetime.now(UTC)
        if ended_at is not None and schedule.overlap == "skip":
            during = [each for each in self._due_times(schedule) if each <= ended_at]
            self._skip(schedule, during, due[-1])
        return ended_at is not None

    def _due_times(self, schedule: Schedule) -> list[datetime]:
        """What is due and nobody dealt with yet, the oldest first."""
        now = datetime.now(UTC)
        with self._database.transaction(read_only=True) as transaction:
            last = transaction.value(load("schedule_runs")["last_due"], schedule_id=schedule.id)
        return list(schedule.due_times(last or self._began_at, now))

    def _run(self, schedule: Schedule, due_at: datetime) -> None:
        self._tell("begins", schedule, due_at=due_at)
        deadline = schedule.deadline_minutes
        try:
            record = run(
                schedule.procedure, schedule.parameters, f"schedule {schedule.id}", "schedule",
                database=self._database, settings=self._settings, schedule_id=schedule.id,
                due_at=due_at, deadline_seconds=deadline * 60 if deadline else None,
                stop=self._end_runs,
            )  # fmt: skip
        except ParametersRefused as error:
            self._settle(schedule, due_at, "refused", None, str(error))
        except RunbookError as error:
            self._settle(schedule, due_at, "failed", None, str(error))
        else:
            outcome = "ran" if record.status == "succeeded" else "failed"
            self._settle(schedule, due_at, outcome, record.run_id, record.error, record.verdict)

    def _claim(self, schedule: Schedule, decision: Decision) -> bool:
        with self._database.transaction() as transaction:
            claimed = transaction.value(
                load("schedule_runs")["claim_due"], schedule_id=schedule.id,
                due_at=decision.due_at, claimed_by=self._name, outcome=decision.outcome,
                note=decision.note,
            )  # fmt: skip
        if claimed is not None and decision.outcome != "started":
            self._tell(decision.outcome, schedule, due_at=decision.due_at, message=decision.note)
        return claimed is not None

    def _skip(self, schedule: Schedule, due: list[datetime], running: datetime | None) -> None:
        which = f"The run of {running.astimezone(UTC).isoformat()}" if running else "A run"
        for each in due:
            self._claim(schedule, Decision(each, "skipped", f"{which} still went on."))

    def _settle(
        self, schedule: Schedule, due_at: datetime, outcome: str, run_id: str | None,
        note: str | None, verdict: str | None = None,
    ) -> None:  # fmt: skip
        note = one_line(note, 500) if note else None
        self._tell(outcome, schedule, due_at=due_at, run_id=run_id, verdict=verdict, message=note)
        with self._database.transaction() as transaction:
            transaction.run(
                load("schedule_runs")["settle_due"], schedule_id=schedule.id, due_at=due_at,
                outcome=outcome, run_id=run_id, note=note,
            )  # fmt: skip

    def _running(self, schedule: Schedule) -> Any | None:
        with self._database.transaction(read_only=True) as transaction:
            return transaction.row(load("schedule_runs")["running_now"], schedule_id=schedule.id)

    def _settle_abandoned(self) -> None:
        close_lost_runs(self._database, self._settings)
        with self._database.transaction() as transaction:
            rows = transaction.rows(
                load("schedule_runs")["settle_abandoned"],
                abandoned_after_seconds=ABANDONED_AFTER_SECONDS,
            )
        for row in rows:
            self._say({"event": "abandoned", "schedule": row.schedule_id,
                       "due_at": row.due_at, "message": f"settled as {row.outcome}"})  # fmt: skip

    def _wait_for_runs(self, end_runs: threading.Event) -> None:
        waited = 0.0
        while any(lock.locked() for lock in self._dealing.values()):
            if end_runs.wait(0.1) or waited >= self._settings.runbook_stop_grace_seconds:
                self._end_runs.set()
                end_runs = threading.Event()
            waited += 0.1

    def _tell(self, event: str, schedule: Schedule, **details: Any) -> None:
        self._say({"event": event, "schedule": schedule.id, "procedure": schedule.procedure,
                   **{name: value for name, value in details.items() if value is not None}})  # fmt: skip
