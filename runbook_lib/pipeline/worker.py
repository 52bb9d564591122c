"""The worker: one coordinator with one connection, and threads that run the attempts.

The coordinator turns a loop. Each turn is one transaction: take what the threads have handed in
(checkpoints, ended attempts), write it, renew leases, sweep, claim up to the free slots, commit; then
answer the threads. That is group commit without a timer: under load a batch is whatever came in
during the last commit, and when idle it is one job and one commit.

Losing the database loses nothing: what could not be committed is kept and written when it is back.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any
from uuid import uuid4

import psycopg2

from runbook_lib.credentials.handles import handle_of
from runbook_lib.credentials.masking import one_line
from runbook_lib.credentials.store import ENV_FILE, ENVIRONMENT, Credentials, InUse
from runbook_lib.database.connection import Connection, Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import EXIT_COULD_NOT_BE_DONE, CouldNotBeDone, DatabaseUnreachable
from runbook_lib.pipeline import jobs
from runbook_lib.pipeline.attempt import Abandoned, Attempt, AttemptOver, Completed, Message
from runbook_lib.pipeline.failures import Failure, Fault, JobFailed
from runbook_lib.pipeline.model import PROVIDER_OF_STAGE, Job
from runbook_lib.pipeline.options import WorkerOptions
from runbook_lib.pipeline.provider_watch import ProviderWatch
from runbook_lib.pipeline.refusals import Refusals
from runbook_lib.pipeline.reporting import Reporter
from runbook_lib.pipeline.turn import Turn, WorkerState, beat

log = logging.getLogger(__name__)
_SQL = load("permits")

CHANNEL = "content_jobs"
PARTITIONS_SECONDS = 3600.0
RECONNECT_SWEEP_GRACE_SECONDS = 5.0
LONG_PAUSE_SECONDS = 60.0
TRANSACTION_POOLER_PORT = 6543
# Only these are a worker's: an admin key must not be beside it.
WORKER_NAMES = ("OPENAI_API_KEY", "WORDPRESS_APP_PASSWORD")
ADDRESS_SECONDS = 1.0
# What the database refuses of one row, and not of every other: a rule of its own counts as one.
UNUSABLE_VALUE = (
    psycopg2.DataError,
    psycopg2.IntegrityError,
    psycopg2.errors.RaiseException,
    ValueError,
)

Handler = Callable[[Attempt], Completed]


class Worker:
    """Runs jobs until it is stopped, drained or, with `until_empty`, nothing is left to do.

    `handler` runs one attempt; it returns `Completed`, or raises `JobFailed` or `AttemptOver`.
    """

    def __init__(
        self,
        database: Database,
        handler: Handler,
        options: WorkerOptions,
        reporter: Reporter,
        *,
        credentials: Credentials | None = None,
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:4]}"
        self._database = database
        self._handler = handler
        self._options = options
        self._reporter = reporter
        self._state = WorkerState(
            self.name,
            options,
            ProviderWatch(self.name, options),
            self._send,
            unstarted=self._unstarted,
            credentials=self._credentials_in_use,
        )
        self._credentials = credentials
        self._connection: Connection | None = None
        self._listener: Connection | None = None
        self._connected_before = False
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._kept: list[Message] = []
        self._refusals = Refusals(self.name)
        self._work: queue.SimpleQueue[Attempt | None] = queue.SimpleQueue()
        self._stop_requests = 0
        self._grace_ends_at: float | None = None
        self._sleeping = False
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)

    # what signals and other threads call

    def stop(self) -> None:
        """First call: finish or hand back, within the grace time. Second call: release and go."""
        self._stop_requests += 1
        self._wake()

    def recent_sketches(self, job: Job) -> Iterable[tuple[int, ...]]:
        """Likeness sketches of recent articles, the job's own left out."""
        recent = list(self._state.recent_sketches.items())
        return [sketch for job_id, sketch in recent if job_id != job.job_id]

    def _send(self, message: Message) -> None:
        self._inbox.put(message)
        if self._sleeping:
            self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._wake_writer, b"!")
        except BlockingIOError:
            pass  # the pipe is full, so it is awake

    # the loop

    def run(self, *, install_signals: bool = True) -> int:
        """Works; returns the exit status: with `until_empty`, 1 if anything is left pending or in error."""
        if install_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.stop())
        for _ in range(self._options.concurrency):
            self._start_thread()
        self._reporter.started(self.name, self._options)
        delay_seconds = 0.1
        while True:
            self._wait()
            self._note_stop()
            try:
                done = self._one_turn()
                self._refusals.over()
                delay_seconds = 0.1
            except (CouldNotBeDone, psycopg2.Error) as error:
                self._reporter.database_away(error)
                self._refusals.note(error, self._connection)
                self._disconnect()
                if self._state.releasing:
                    return self._end(EXIT_COULD_NOT_BE_DONE)
                self._sleep_until_woken(delay_seconds * random.uniform(0.5, 1))
                delay_seconds = min(2.0, delay_seconds * 2)
                continue
            if done:
                return self._end(self._exit_status())

    def _end(self, status: int) -> int:
        try:
            if self._connection is not None:
                with self._transaction(self._connection) as transaction:
                    beat(transaction, self._state, stopped=True)
        except (CouldNotBeDone, psycopg2.Error):
            pass  # its heartbeat will age instead
        for attempt in self._state.in_flight.values():
            attempt.over = True
        for _ in range(self._options.concurrency):
            self._work.put(None)
        self._disconnect()
        self._reporter.stopped(self.name, status, self._state.left)
        return status

    def _exit_status(self) -> int:
        left = self._state.left
        if not self._options.until_empty or left is None:
            return 0
        return 1 if left.due_write + left.due_publish + left.deferred + left.error else 0

    def _note_stop(self) -> None:
        now = time.monotonic()
        if self._stop_requests and self._grace_ends_at is None:
            self._grace_ends_at = now + self._options.stop_grace_seconds
            self._state.stopping = True
            self._reporter.stopping(len(self._state.in_flight))
        grace_is_over = self._grace_ends_at is not None and now >= self._grace_ends_at
        self._state.releasing = self._stop_requests > 1 or grace_is_over

    # waiting

    def _wait(self) -> None:
        if self._kept or self._connection is None:
            return
        self._sleeping = True
        try:
            can_claim = self._state.backlog and self._free_slots() > 0 and not self._state.leaving
            if self._inbox.empty() and not can_claim:
                self._sleep_until_woken(self._seconds_to_next_duty())
        finally:
            self._sleeping = False

    def _sleep_until_woken(self, seconds: float) -> None:
        listener = self._listener if self._listener and not self._listener.broken else None
        readers: list[Any] = [self._wake_reader, *([listener.raw] if listener else [])]
        ready, _, _ = select.select(readers, [], [], max(0.0, seconds))
        if self._wake_reader in ready:
            os.read(self._wake_reader, 65536)
        if listener is not None and listener.raw in ready:
            self._hear_notifications(listener)

    def _hear_notifications(self, listener: Connection) -> None:
        try:
            listener.raw.poll()
            listener.raw.notifies.clear()
        except psycopg2.Error:
            listener.close()
            self._listener = None
            return
        if not self._state.in_flight:
            self._state.cursor.restart()

    def _seconds_to_next_duty(self) -> float:
        state = self._state
        ends = [
            state.duties.next_at("sweep", "beat", "recent", "credentials"),
            time.monotonic() + self._options.idle_poll_seconds,
        ]
        if state.in_flight:
            ends.append(state.duties.next_at("renew"))
        elif self._options.until_empty:
            ends.append(state.duties.next_at("count"))
        if self._grace_ends_at is not None:
            ends.append(self._grace_ends_at)
        ends.extend(
            attempt.deadline.at + 1
            for attempt in list(state.in_flight.values())
            if attempt.deadline is not None
        )
        return max(0.0, min(ends) - time.monotonic())

    def _free_slots(self) -> int:
        return self._options.concurrency + self._options.prefetch - len(self._state.in_flight)

    # one turn

    def _one_turn(self) -> bool:
        """One transaction and what follows from it; True when the worker is done."""
        connection = self._connected()
        self._collect_messages()
        turn = Turn(self._state)
        try:
            with self._transaction(connection) as transaction:
                turn.fill(transaction, self._kept)
        except UNUSABLE_VALUE as error:
            if not self._kept:
                raise DatabaseUnreachable(
                    f"A statement of the worker failed: {type(error).__name__}"
                ) from error
            self._turn_by_message()
            return False
        self._kept = []
        self._carry_out(turn)
        return self._is_done(turn)

    def _collect_messages(self) -> None:
        while True:
            try:
                self._kept.append(self._inbox.get_nowait())
            except queue.Empty:
                return

    def _turn_by_message(self) -> None:
        """One message that the database cannot take must not stop the others."""
        while self._kept:
            message = self._kept[0]
            turn = Turn(self._state)
            try:
                with self._transaction(self._connected()) as transaction:
                    turn.fill(transaction, [message])
            except UNUSABLE_VALUE as error:
                # Not the whole error: PostgreSQL's DETAIL prints whole rows.
                log.error("A result of job %s cannot be stored: %s", message.attempt.job.job_id, type(error).__name__)  # fmt: skip
                turn = Turn(self._state)
                turn.replies.append((message.attempt, False))
                with self._transaction(self._connected()) as transaction:
                    turn.end_attempts(transaction, [(message.attempt, _cannot_be_stored(error))])
            self._kept.pop(0)
            self._carry_out(turn)

    def _carry_out(self, turn: Turn) -> None:
        """What follows from a committed turn."""
        state = self._state
        for attempt, outcome, ours in turn.finished:
            self._forget(attempt)
            self._count(attempt, outcome, ours)
        for attempt in turn.gone:
            self._forget(attempt)
            self._reporter.lease_lost(attempt.job)
        for attempt in turn.usage_recorded:
            attempt.usage_recorded = True
        for attempt, go_on in turn.replies:
            attempt.reply(go_on)
        if turn.renewed_at is not None:
            for attempt in state.in_flight.values():
                attempt.lease_until = turn.renewed_at + self._options.lease_seconds
        state.templates.saved(turn.templates_saved)
        if turn.recent_sketches is not None:
            state.recent_sketches = turn.recent_sketches
        state.recent_sketches.update(turn.articles)
        state.draining = turn.drain
        state.backlog = turn.claim_was_full
        state.cursor.advance(attempt.job for attempt in turn.claimed)
        for attempt in turn.claimed:
            state.in_flight[attempt.key] = attempt
            self._work.put(attempt)
        if turn.left is not None:
            state.left = turn.left
        for event in turn.events:
            self._reporter.event(event)
        self._reporter.turn(state.in_flight.values(), state.left)

    def _forget(self, attempt: Attempt) -> None:
        attempt.over = True
        self._state.in_flight.pop(attempt.key, None)
        if attempt.started_at is not None and attempt.ended_at is None:
            # Its thread is stuck, or has yet to notice: another one takes its place.
            attempt.abandoned = True
            self._start_thread()

    def _count(self, attempt: Attempt, outcome: Completed | Failure, ours: bool) -> None:
        self._state.progressed = True
        if not ours:
            self._reporter.lease_lost(attempt.job)
        elif isinstance(outcome, Completed):
            self._state.completed_count += 1
            self._reporter.completed(attempt, outcome)
        else:
            self._state.failed_count += outcome.fault is not Fault.WORKER
            self._reporter.failed(attempt, outcome)

    def _is_done(self, turn: Turn) -> bool:
        if self._state.in_flight or not self._inbox.empty():
            return False
        if self._state.leaving:
            return True
        left = turn.left
        if left is None:
            return False
        # A pause that is too long to wait for counts as "not due".
        opens = self._state.watch.opens_within
        due = left.due_write * opens("openai", LONG_PAUSE_SECONDS) + left.due_publish * opens(
            "wordpress", LONG_PAUSE_SECONDS
        )
        return bool(left.processing == 0 and due == 0)

    # the connection

    def _transaction(self, connection: Connection) -> AbstractContextManager[Transaction]:
        # A stalled link must not outlive the leases that are to be renewed over it.
        seconds = min(self._database.deadline_seconds, self._options.lease_seconds / 3)
        return connection.transaction(deadline_seconds=max(1.0, seconds))

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.broken:
            self._connection = self._database.connect()
            self._greet(self._connection)
        elif self._state.duties.take("address", ADDRESS_SECONDS):
            self._follow_address(self._connection)
        # Also on a connection that lasts for months.
        if self._state.duties.take("partitions", PARTITIONS_SECONDS):
            self._make_partitions(self._connection)
            self._drop_repeated_marks(self._connection)
        return self._connection

    def _follow_address(self, connection: Connection) -> None:
        """After the database's password changed: the new connection first, then the old one is let go.

        Sessions that are open outlive their password, so nothing is lost while the new one does not fit.
        """
        if not self._database.follows or self._database.url == connection.opened_with:
            return
        try:
            self._connection = self._database.connect()
        except DatabaseUnreachable as error:
            log.warning("The database's new password is not used yet: %s", error)
            return
        connection.close()
        if self._listener is not None:
            self._listener.close()
        self._listen()
        self._state.duties.set("beat", 0.0)

    def _credentials_in_use(self) -> dict[str, InUse]:
        """The providers' credentials, and the one that this worker's connection was opened with."""
        used = self._credentials.in_use(*WORKER_NAMES) if self._credentials is not None else {}
        if self._connection is not None and self._connection.opened_with:
            origin = ENV_FILE if self._database.follows else ENVIRONMENT
            used["DATABASE_URL"] = InUse(
                handle_of("DATABASE_URL", self._connection.opened_with), origin, time.time()
            )
        return used

    def _greet(self, connection: Connection) -> None:
        """What a new connection begins with."""
        state = self._state
        with self._transaction(connection) as transaction:
            jobs.hand_back_strangers(
                transaction, self.name, (job_id for job_id, _ in state.in_flight)
            )
            beat(transaction, state, stopped=False)
        if self._connected_before:
            # The others come back at the same moment: let them renew before anything is swept.
            state.duties.set("renew", 0.0)
            state.duties.set("sweep", time.monotonic() + RECONNECT_SWEEP_GRACE_SECONDS)
            self._reporter.database_back()
        self._connected_before = True
        state.cursor.restart()
        self._listen()

    def _make_partitions(self, connection: Connection) -> None:
        try:
            with self._transaction(connection) as transaction:
                transaction.run(_SQL["make_partitions"])
        except psycopg2.Error as error:
            # Rows then go to the default partition, which alarms: nothing is lost.
            log.warning("Partitions of job_runs could not be made: %s", str(error).split("\n")[0])

    def _drop_repeated_marks(self, connection: Connection) -> None:
        try:
            with self._transaction(connection) as transaction:
                transaction.run(_SQL["drop_repeated_run_marks"])
        except psycopg2.Error as error:
            log.warning("Marks for the rollup could not be dropped: %s", str(error).split("\n")[0])

    def _listen(self) -> None:
        if not self._options.listen or f":{TRANSACTION_POOLER_PORT}/" in self._database.address:
            return
        try:
            self._listener = self._database.connect()
            with self._listener.raw.cursor() as cursor:
                cursor.execute(f"LISTEN {CHANNEL}")
        except (psycopg2.Error, DatabaseUnreachable):
            self._listener = None  # polling finds the jobs without it

    def _disconnect(self) -> None:
        for connection in (self._connection, self._listener):
            if connection is not None:
                connection.close()
        self._connection = self._listener = None
        # What was noted last may have been rolled back.
        self._state.handles_noted = frozenset()

    # the threads

    def _start_thread(self) -> None:
        threading.Thread(target=self._run_attempts, name="attempts", daemon=True).start()

    def _run_attempts(self) -> None:
        while (attempt := self._work.get()) is not None:
            if attempt.over:
                continue
            outcome = self._run_attempt(attempt)
            attempt.ended_at = time.monotonic()
            record = (
                jobs.ended_record(attempt, outcome, None) if isinstance(outcome, Completed) else ""
            )
            self._send(Message(attempt, outcome, record))
            if attempt.abandoned:
                return

    def _run_attempt(self, attempt: Attempt) -> Completed | Failure | Abandoned:
        provider = PROVIDER_OF_STAGE[attempt.job.stage]
        if self._options.prefetch and not self._state.watch.is_open(provider):
            return Failure(
                "provider_paused", f"{provider} was paused before it began.", provider=provider
            )
        attempt.begin(self._options.attempt_deadline_seconds)
        try:
            return self._handler(attempt)
        except AttemptOver:
            return Abandoned()
        except JobFailed as error:
            return error.failure
        except Exception as error:
            log.exception("Job %s met an unexpected error", attempt.job.job_id)
            name = type(error).__name__
            return Failure("unexpected_error", f"{name} in the worker.", exception_class=name)

    def _unstarted(self) -> list[Attempt]:
        """Takes the attempts that no thread has begun."""
        found: list[Attempt] = []
        while True:
            try:
                attempt = self._work.get_nowait()
            except queue.Empty:
                return found
            if attempt is not None and not attempt.over:
                found.append(attempt)


def _why(error: Exception) -> str:
    """What a rule that raises says, or which constraint refuses; other messages may hold values of the row."""
    if not isinstance(error, psycopg2.Error):
        return "."
    if isinstance(error, psycopg2.errors.RaiseException):
        return f": {one_line(error.diag.message_primary or '', 200)}"
    if error.diag.constraint_name:
        return f": {error.diag.table_name}.{error.diag.constraint_name}."
    return "."


def _cannot_be_stored(error: Exception) -> Failure:
    return Failure(
        "unexpected_error",
        f"The result cannot be stored: {type(error).__name__}{_why(error)}",
        exception_class=type(error).__name__,
        sqlstate=getattr(error, "pgcode", None),
    )
