"""The scheduler: APScheduler is the clock, the database says who deals with a due time.

APScheduler alone forgets at a restart, doubles with a second process and drops what comes due while it
stalls. So it only says "look now": which times are due follows from the schedule and the newest due time
that anybody dealt with, and a due time is claimed by inserting it. Any number of schedulers may run;
none is the leader. A look also comes once a minute by a clock that is never set, so that nothing hangs on
one firing: not after the database was away, not after the machine's clock was set back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Database
from runbook_lib.errors import RunbookError
from runbook_lib.procedures.claims import ProcedureBusy
from runbook_lib.procedures.parameters import ParametersRefused
from runbook_lib.procedures.runner import close_lost_runs, file_spool, run
from runbook_lib.scheduling.decisions import Decision, decide, overlapped
from runbook_lib.scheduling.ledger import Ledger, Settlement
from runbook_lib.scheduling.schedules import (
    DIRECTORY,
    Schedule,
    Schedules,
    load_schedules,
    signature,
)
from runbook_lib.settings import Settings
from runbook_lib.spool import UNWRITABLE, open_spool

LOOK_SECONDS = 60.0
# How often files are looked at, and how often a sign of life is given.
WATCH_SECONDS = 5.0
BEAT_SECONDS = 15.0
RUNS_AT_ONCE = 4
_NOT_DONE: tuple[type[Exception], ...] = (RunbookError, *UNWRITABLE)

Say = Callable[[dict[str, Any]], None]


class DueTimes(BaseTrigger):
    """A schedule's due times as APScheduler asks for them."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        return next(iter(self._schedule.next_times(now, 1)), None)


class Scheduler:
    """Runs the schedules of a directory until it is asked to stop."""

    def __init__(
        self, database: Database, settings: Settings, say: Say, directory: Path = DIRECTORY
    ) -> None:
        self._database = database
        self._settings = settings
        self._say = say
        self._directory = directory
        self._ledger = Ledger(database, str(directory.absolute()))
        self._spool = open_spool(settings)
        self._began_at = datetime.now(UTC)
        self._known = Schedules({}, {})
        self._signature: object = None
        self._dealing: dict[str, threading.Lock] = {}
        # Kept for when the database is away: the newest due time dealt with, and the pauses.
        self._seen: dict[str, datetime] = {}
        self._pauses: dict[str, str] = {}
        self._away = False
        self._stopping = threading.Event()
        self._end_runs = threading.Event()
        self._clock = _new_clock()

    def serve(self, stop: threading.Event, end_runs: threading.Event | None = None) -> None:
        """Runs until `stop` is set; then nothing new begins, and runs may end within the grace time.

        What still goes on after it, or when `end_runs` is set, is ended and archived as killed.
        """
        self._clock.start()
        try:
            self._watch_until(stop)
        finally:
            self._stopping.set()
            self._clock.shutdown(wait=False)
            self._wait_for_runs(end_runs or threading.Event())
            self._with_database(self._ledger.stopped)

    def read_files(self) -> bool:
        """Reads the schedules again when a file has changed; whether one had."""
        found = signature(self._directory, self._settings)
        if found == self._signature:
            return False
        known, before = load_schedules(self._settings, self._directory), self._known
        self._signature, self._known = found, known
        for schedule in known.schedules.values():
            if before.schedules.get(schedule.id) != schedule:
                self._expect(schedule)
        for schedule_id in before.schedules.keys() - known.schedules.keys():
            self._clock.remove_job(schedule_id)
            if schedule_id not in known.problems:
                self._say({"event": "removed", "schedule": schedule_id})
        for name, problem in known.problems.items():
            if before.problems.get(name) != problem:
                self._say({"event": "quarantined", "schedule": name, "message": problem})
        return True

    def look(self, schedule_id: str) -> None:
        """Deals with what is due of one schedule. Never raises: what went wrong is said."""
        schedule = self._known.schedules.get(schedule_id)
        lock = self._dealing.setdefault(schedule_id, threading.Lock())
        if schedule is None or not lock.acquire(blocking=False):
            return  # A run of this schedule goes on here; what comes due meanwhile is seen after it.
        try:
            self._deal_with(schedule)
        except UNWRITABLE as error:
            self._deal_without_database(schedule, error)
        except RunbookError as error:
            self._tell("problem", schedule, message=one_line(str(error)))
        except Exception as error:
            self._tell("problem", schedule, message=one_line(f"{type(error).__name__}: {error}"))
        finally:
            lock.release()

    def tidy(self) -> None:
        """Files what waits in the spool, and settles what vanished runners and schedulers left."""
        file_spool(self._database, self._settings)
        close_lost_runs(self._database, self._settings)
        for schedule_id, due_at, outcome in self._ledger.settle_abandoned():
            self._say({"event": "abandoned", "schedule": schedule_id, "due_at": due_at,
                       "message": f"settled as {outcome}"})  # fmt: skip

    # --- watching

    def _watch_until(self, stop: threading.Event) -> None:
        looked_at = time.monotonic()
        beaten_at = -BEAT_SECONDS
        while True:
            changed = self.read_files()
            if changed or time.monotonic() - beaten_at >= BEAT_SECONDS:
                self._with_database(self._give_sign_of_life)
                beaten_at = time.monotonic()
            if time.monotonic() - looked_at >= LOOK_SECONDS:
                self._look_at_all()
                looked_at = time.monotonic()
            if stop.wait(WATCH_SECONDS):
                return

    def _give_sign_of_life(self) -> None:
        self._ledger.beat()
        self.tidy()
        self._pauses = self._ledger.pauses()
        self._ledger.keep(self._known, datetime.now(UTC))

    def _look_at_all(self) -> None:
        for job in self._clock.get_jobs():
            job.modify(next_run_time=datetime.now(UTC))

    def _expect(self, schedule: Schedule) -> None:
        times = schedule.next_times(datetime.now(UTC), 1)
        self._tell("waits", schedule, due_at=times[0] if times else None)
        self._clock.add_job(
            self.look, DueTimes(schedule), [schedule.id], id=schedule.id, replace_existing=True,
            next_run_time=datetime.now(UTC),
        )  # fmt: skip

    def _with_database(self, step: Callable[[], None]) -> None:
        """Does a step that needs the database. That it went away, and that it is back, is said once."""
        try:
            step()
        except _NOT_DONE as error:
            if not self._away:
                self._say({"event": "database away", "schedule": "-",
                           "message": f"{one_line(str(error), 300)} What only reads runs unclaimed."})  # fmt: skip
            self._away = True
        else:
            if self._away:
                self._say({"event": "database back", "schedule": "-"})
            self._away = False

    # --- dealing with due times

    def _deal_with(self, schedule: Schedule) -> None:
        queued_since = None
        while not self._stopping.is_set() and (due := self._due_times(schedule)):
            if running := self._ledger.running(schedule.id):
                if schedule.overlap == "skip":
                    self._record(schedule, overlapped(due, running.due_at))
                return
            began_at = datetime.now(UTC)
            self._pauses = self._ledger.pauses()
            decisions = decide(
                schedule, due, began_at,
                pause=self._pauses.get(schedule.id), queued_since=queued_since,
            )  # fmt: skip
            if not self._carry_out(schedule, decisions):
                return
            if schedule.overlap == "skip":
                ended_at = datetime.now(UTC)
                during = [each for each in self._due_times(schedule) if each <= ended_at]
                self._record(schedule, overlapped(during, due[-1]))
            queued_since = began_at

    def _due_times(self, schedule: Schedule) -> list[datetime]:
        """What is due and nobody dealt with yet, the oldest first."""
        last = self._ledger.last_due(schedule.id)
        if last is not None:
            self._seen[schedule.id] = max(last, self._seen.get(schedule.id, last))
        return list(schedule.due_times(last or self._began_at, datetime.now(UTC)))

    def _carry_out(self, schedule: Schedule, decisions: Sequence[Decision]) -> bool:
        """Whether anything was run, so that time has passed and it is worth looking again."""
        ran = False
        for decision in decisions:
            if self._stopping.is_set():
                return False
            if not self._claim(schedule, decision) or decision.outcome != "started":
                continue
            settlement = self._run(schedule, decision.due_at)
            try:
                self._ledger.settle(schedule.id, decision.due_at, settlement)
            except UNWRITABLE:
                self._ledger.settle_later(schedule.id, decision.due_at, settlement, self._spool)
            ran = True
        return ran

    def _record(self, schedule: Schedule, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            self._claim(schedule, decision)

    def _claim(self, schedule: Schedule, decision: Decision) -> bool:
        if not self._ledger.claim(schedule.id, decision):
            return False
        self._seen[schedule.id] = decision.due_at
        if decision.outcome != "started":
            self._tell(decision.outcome, schedule, due_at=decision.due_at, message=decision.note)
        return True

    def _deal_without_database(self, schedule: Schedule, reason: Exception) -> None:
        """Runs what only reads, unclaimed; another scheduler may do the same. The rest waits."""
        now = datetime.now(UTC)
        due = list(schedule.due_times(self._seen.get(schedule.id, self._began_at), now))
        if not due:
            return
        if not schedule.read_only:
            self._tell("problem", schedule, due_at=due[-1],
                       message=f"It waits for the database. {one_line(str(reason), 300)}")  # fmt: skip
            return
        for decision in decide(schedule, due, now, pause=self._pauses.get(schedule.id)):
            if self._stopping.is_set():
                return
            self._seen[schedule.id] = decision.due_at
            settlement = Settlement(decision.outcome, note=decision.note)
            if decision.outcome == "started":
                self._tell("unclaimed", schedule, due_at=decision.due_at, message=one_line(
                    f"The database is away, so nobody else knows of this run. {reason}", 300))  # fmt: skip
                settlement = self._run(schedule, decision.due_at)
            self._ledger.settle_unclaimed(schedule.id, decision.due_at, settlement, self._spool)

    def _run(self, schedule: Schedule, due_at: datetime) -> Settlement:
        self._tell("begins", schedule, due_at=due_at)
        deadline = schedule.deadline_minutes
        try:
            record = run(
                schedule.procedure, schedule.parameters, f"schedule {schedule.id}", "schedule",
                database=self._database, settings=self._settings, schedule_id=schedule.id,
                due_at=due_at, deadline_seconds=deadline * 60 if deadline else None,
                stop=self._end_runs, allow_changes=schedule.allow_changes,
                on_notice=lambda text: self._tell("notice", schedule, due_at=due_at, message=text),
            )  # fmt: skip
        except ParametersRefused as error:
            settlement = Settlement("refused", note=str(error))
        except ProcedureBusy as error:
            settlement = Settlement("overlapped", note=str(error))
        except _NOT_DONE as error:
            settlement = Settlement("failed", note=str(error))
        else:
            outcome = "ran" if record.status == "succeeded" else "failed"
            settlement = Settlement(outcome, record.run_id, record.error, record.verdict)
        self._tell(settlement.outcome, schedule, due_at=due_at, run_id=settlement.run_id,
                   verdict=settlement.verdict, message=settlement.told)  # fmt: skip
        return settlement

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


def _new_clock() -> BackgroundScheduler:
    # It warns when a look comes while one goes on, which is meant here.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    return BackgroundScheduler(
        timezone=UTC,
        executors={"default": ThreadPoolExecutor(RUNS_AT_ONCE)},
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )
