"""How a worker shows what it does: one live line on a terminal, one JSON line per event elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TextIO

from runbook_lib.credentials.masking import mask, one_line
from runbook_lib.pipeline.attempt import Attempt, Completed
from runbook_lib.pipeline.failures import Failure, Fault
from runbook_lib.pipeline.model import Job
from runbook_lib.pipeline.options import WorkerOptions
from runbook_lib.pipeline.permits import Event

REDRAW_SECONDS = 0.25
TOPIC_CHARACTERS = 60


class Reporter:
    """Tells nobody; the base of those that do."""

    def started(self, worker: str, options: WorkerOptions) -> None: ...

    def stopping(self, in_flight: int) -> None: ...

    def stopped(self, worker: str, status: int, left: Any) -> None: ...

    def completed(self, attempt: Attempt, outcome: Completed) -> None: ...

    def failed(self, attempt: Attempt, failure: Failure) -> None: ...

    def lease_lost(self, job: Job) -> None: ...

    def event(self, event: Event) -> None: ...

    def database_away(self, error: Exception) -> None: ...

    def database_back(self) -> None: ...

    def turn(self, in_flight: Iterable[Attempt], left: Any) -> None: ...


class JsonReporter(Reporter):
    """One JSON object a line on a stream; times are UTC."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._database_is_away = False

    def _line(self, event: str, **fields: Any) -> None:
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            **fields,
        }
        self._stream.write(json.dumps(record, default=str, ensure_ascii=False) + "\n")
        self._stream.flush()

    def started(self, worker: str, options: WorkerOptions) -> None:
        self._line(
            "worker_started",
            worker=worker,
            concurrency=options.concurrency,
            prefetch=options.prefetch,
        )

    def stopping(self, in_flight: int) -> None:
        self._line("worker_stopping", in_flight=in_flight)

    def stopped(self, worker: str, status: int, left: Any) -> None:
        self._line(
            "worker_stopped", worker=worker, status=status, **(left._asdict() if left else {})
        )

    def completed(self, attempt: Attempt, outcome: Completed) -> None:
        self._line(
            "job_completed",
            **_job_fields(attempt),
            post_id=outcome.post_id,
            post_url=outcome.post_url,
            post_status=outcome.post_status,
        )

    def failed(self, attempt: Attempt, failure: Failure) -> None:
        event = "job_handed_back" if failure.fault is Fault.WORKER else "job_failed"
        self._line(
            event,
            **_job_fields(attempt),
            error_class=failure.error_class,
            message=one_line(mask(failure.message)),
            http_status=failure.http_status,
            request_id=failure.request_id,
        )

    def lease_lost(self, job: Job) -> None:
        self._line("lease_lost", job_id=job.job_id, attempt=job.attempt)

    def event(self, event: Event) -> None:
        self._line(
            event.kind,
            level=event.level,
            provider=event.provider,
            job_id=event.job_id,
            message=one_line(mask(event.message)),
        )

    def database_away(self, error: Exception) -> None:
        if not self._database_is_away:
            self._line("database_away", message=_reason(error))
        self._database_is_away = True

    def database_back(self) -> None:
        self._line("database_back")
        self._database_is_away = False


class TerminalReporter(Reporter):
    """A line for each ended job, and below them one that is redrawn."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._counts: Counter[str] = Counter()
        self._cost_usd = Decimal(0)
        self._drawn_at = 0.0
        self._width = 0
        self._database_is_away = False

    def _say(self, text: str) -> None:
        self._stream.write("\r" + text.ljust(self._width) + "\n")
        self._width = 0
        self._drawn_at = 0.0
        self._stream.flush()

    def started(self, worker: str, options: WorkerOptions) -> None:
        self._say(f"Worker {worker} started, {options.concurrency} jobs at a time.")

    def stopping(self, in_flight: int) -> None:
        self._say(f"Stopping: {in_flight} jobs finish or go back. Once more to go at once.")

    def stopped(self, worker: str, status: int, left: Any) -> None:
        text = f"Worker {worker} stopped: {self._summary()}."
        if left is not None and status:
            text += f" Left: {left.due_write + left.due_publish + left.deferred} pending, {left.error} in error."
        self._say(text)

    def completed(self, attempt: Attempt, outcome: Completed) -> None:
        self._counts["completed"] += 1
        self._add_cost(attempt)
        self._say(
            f"  {outcome.post_status or 'done'}: {_topic(attempt.job)}  {outcome.post_url or ''}"
        )

    def failed(self, attempt: Attempt, failure: Failure) -> None:
        self._counts["handed back" if failure.fault is Fault.WORKER else "failed"] += 1
        self._add_cost(attempt)
        self._say(
            f"  {failure.error_class}: {_topic(attempt.job)}  {one_line(mask(failure.message), 160)}"
        )

    def lease_lost(self, job: Job) -> None:
        self._counts["lost"] += 1
        self._say(f"  lease lost: {_topic(job)}")

    def event(self, event: Event) -> None:
        self._say(f"{event.level}: {one_line(mask(event.message))}")

    def database_away(self, error: Exception) -> None:
        if not self._database_is_away:
            self._say(f"The database is away; nothing is lost, trying again. {_reason(error)}")
        self._database_is_away = True

    def database_back(self) -> None:
        self._say("The database is back.")
        self._database_is_away = False

    def turn(self, in_flight: Iterable[Attempt], left: Any) -> None:
        now = time.monotonic()
        if now - self._drawn_at < REDRAW_SECONDS:
            return
        self._drawn_at = now
        stages = Counter("publishing" if _is_publishing(each) else "writing" for each in in_flight)
        doing = (
            ", ".join(f"{count} {stage}" for stage, count in sorted(stages.items()))
            or "waiting for jobs"
        )
        text = f"{doing} · {self._summary()}"
        self._stream.write("\r" + text.ljust(self._width))
        self._width = len(text)
        self._stream.flush()

    def _summary(self) -> str:
        counts = [f"{count} {name}" for name, count in sorted(self._counts.items())] or [
            "0 completed"
        ]
        return ", ".join(counts) + (f", ${self._cost_usd:.4f}" if self._cost_usd else "")

    def _add_cost(self, attempt: Attempt) -> None:
        if attempt.usage is not None and attempt.usage.cost_usd is not None:
            self._cost_usd += attempt.usage.cost_usd


def _job_fields(attempt: Attempt) -> dict[str, Any]:
    job, timings = attempt.job, attempt.timings
    return {
        "job_id": job.job_id,
        "attempt": job.attempt,
        "topic": _topic(job),
        "write_seconds": round(timings.write_seconds, 3) if timings else None,
        "publish_seconds": round(timings.publish_seconds, 3) if timings else None,
    }


def _is_publishing(attempt: Attempt) -> bool:
    return attempt.job.stage == "publish" or attempt.usage is not None


def _topic(job: Job) -> str:
    return one_line(job.topic, TOPIC_CHARACTERS)


def _reason(error: Exception) -> str:
    # Only the first line: PostgreSQL's DETAIL prints whole rows.
    return one_line(mask(str(error).split("\n")[0]))
