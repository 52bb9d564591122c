"""One turn of the coordinator: everything that one transaction decides.

A turn writes only to the database and to itself. What follows from it (answers to threads, new
attempts) is carried out by the worker once it is committed; a turn that was rolled back is thrown away.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from runbook_lib import __version__
from runbook_lib.credentials.masking import one_line
from runbook_lib.credentials.store import InUse
from runbook_lib.database.connection import Transaction
from runbook_lib.database.statements import load
from runbook_lib.pipeline import failure_templates, jobs
from runbook_lib.pipeline.attempt import (
    Abandoned,
    Attempt,
    Completed,
    Message,
    RequestDraft,
    StoreArticle,
    StoreDraft,
)
from runbook_lib.pipeline.failures import Failure, decide
from runbook_lib.pipeline.fingerprints import Template, TemplateTree
from runbook_lib.pipeline.options import WorkerOptions
from runbook_lib.pipeline.permits import Event, Permits, add_event, add_usage, end_expired_pauses
from runbook_lib.pipeline.provider_watch import ProviderWatch

_SQL = load("permits")

FULL_SCAN_SECONDS = 1.0
HEARTBEAT_SECONDS = 5.0
CREDENTIALS_SECONDS = 1.0
RECENT_ARTICLES = 500
RECENT_ARTICLES_SECONDS = 60.0
COUNT_SECONDS = 0.2
OVERDUE_GRACE_SECONDS = 1.0  # the calls inside end at the deadline by themselves and say why
MINIMUM_TRIAL_SECONDS = 60.0

TEMPLATES_SECONDS = 60.0

STOPPED = Failure("worker_stopped", "Handed back because the worker stopped.")


class Duties:
    """When each regular duty is next due, on the monotonic clock."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def take(self, duty: str, interval_seconds: float) -> bool:
        """True when the duty is due; it is then next due after the interval."""
        now = time.monotonic()
        if now < self._at.get(duty, 0.0):
            return False
        self._at[duty] = now + interval_seconds
        return True

    def set(self, duty: str, at: float) -> None:
        self._at[duty] = at

    def next_at(self, *duties: str) -> float:
        return min(self._at.get(duty, 0.0) for duty in duties)


@dataclass
class WorkerState:
    """What a worker knows between turns."""

    name: str
    options: WorkerOptions
    watch: ProviderWatch
    send: Callable[[Message], None]
    in_flight: dict[tuple[str, int], Attempt] = field(default_factory=dict)
    unstarted: Callable[[], list[Attempt]] = list
    credentials: Callable[[], dict[str, InUse]] = dict
    handles_noted: frozenset[tuple[str, str]] = frozenset()
    cursor: jobs.ClaimCursor = field(default_factory=jobs.ClaimCursor)
    duties: Duties = field(default_factory=Duties)
    recent_sketches: dict[str, tuple[int, ...]] = field(default_factory=dict)
    templates: TemplateTree = field(default_factory=TemplateTree)
    templates_since: datetime | None = None
    stopping: bool = False
    # Asked to drain; that may be taken back while it still has jobs in hand.
    draining: bool = False
    releasing: bool = False
    backlog: bool = True
    progressed: bool = False
    completed_count: int = 0
    failed_count: int = 0
    left: Any = None

    @property
    def leaving(self) -> bool:
        return self.stopping or self.draining


class Turn:
    """What one transaction decided."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._options = state.options
        self._ended: set[int] = set()
        self.replies: list[tuple[Attempt, bool]] = []
        self.finished: list[tuple[Attempt, Completed | Failure, bool]] = []
        self.gone: list[Attempt] = []
        self.claimed: list[Attempt] = []
        self.events: list[Event] = []
        self.articles: dict[str, tuple[int, ...]] = {}
        self.usage_recorded: list[Attempt] = []
        self.recent_sketches: dict[str, tuple[int, ...]] | None = None
        self.templates_saved: list[Template] = []
        self.renewed_at: float | None = None
        self.claim_was_full = False
        self.drain = state.draining
        self.left: Any = None

    def fill(self, transaction: Transaction, messages: Sequence[Message]) -> None:
        """Does all of a turn's work inside its transaction."""
        asking = self._take_messages(transaction, messages)
        self._hand_back_if_stopping(transaction)
        self._keep_leases(transaction)
        self._keep_house(transaction)
        permits = Permits(
            transaction,
            self._state.name,
            trial_seconds=max(MINIMUM_TRIAL_SECONDS, 2 * self._options.lease_seconds),
            asking_to_publish=len(asking),
        )
        self._state.watch.look(permits)
        self.drain = permits.drain
        self._answer_asking(transaction, permits, asking)
        if not self._state.stopping and not self.drain:
            self._claim(transaction, permits)
        if (
            self._options.until_empty
            and not self.claimed
            and self._state.duties.take("count", COUNT_SECONDS)
        ):
            self.left = jobs.queue_left(transaction)
        self.templates_saved = failure_templates.save(transaction, self._state.templates)
        self.events.extend(permits.events)
        for event in self.events:
            add_event(transaction, self._state.name, event)

    # messages from the threads

    def _take_messages(
        self, transaction: Transaction, messages: Sequence[Message]
    ) -> list[Attempt]:
        """Writes what the threads handed in; returns the attempts that ask to go on to publishing."""
        completed: list[jobs.Ended] = []
        ended: list[tuple[Attempt, Failure]] = []
        asking: list[Attempt] = []
        for message in messages:
            attempt, body = message.attempt, message.body
            if self._state.in_flight.get(attempt.key) is not attempt:
                self.replies.append((attempt, False))
            elif isinstance(body, Completed):
                completed.append(self._note_completed(transaction, message))
            elif isinstance(body, Failure):
                ended.append((attempt, body))
            elif isinstance(body, Abandoned):
                self._lose(attempt)
            elif isinstance(body, StoreArticle):
                if self._store_article(transaction, attempt, body):
                    asking.append(attempt)
            else:
                self._store(transaction, attempt, body)
        ended.extend(self._overdue())
        self._settle(transaction, [*completed, *self._decided(transaction, ended)])
        return asking

    def _store_article(
        self, transaction: Transaction, attempt: Attempt, body: StoreArticle
    ) -> bool:
        if not jobs.store_article(transaction, attempt, body):
            self.replies.append((attempt, False))
            self._lose(attempt)
            return False
        self.articles[attempt.job.job_id] = body.article.likeness_sketch
        self._record_usage(transaction, attempt)
        self.events.extend(self._state.watch.note_success(transaction, "openai"))
        return True

    def _store(
        self, transaction: Transaction, attempt: Attempt, body: RequestDraft | StoreDraft
    ) -> None:
        if isinstance(body, RequestDraft):
            ours = jobs.request_draft(transaction, attempt)
        else:
            ours = jobs.store_draft(transaction, attempt, body)
        self.replies.append((attempt, ours))
        if not ours:
            self._lose(attempt)

    def _overdue(self) -> list[tuple[Attempt, Failure]]:
        """Attempts past their deadline whose threads did not end them: given up."""
        now = time.monotonic() - OVERDUE_GRACE_SECONDS
        message = f"The attempt ran longer than {self._options.attempt_deadline_seconds:g} s."
        return [
            (attempt, Failure("attempt_deadline_exceeded", message))
            for attempt in self._state.in_flight.values()
            if attempt.deadline is not None
            and attempt.ended_at is None
            and now > attempt.deadline.at
        ]

    # ending attempts

    def end_attempts(
        self, transaction: Transaction, ended: Iterable[tuple[Attempt, Failure]]
    ) -> None:
        """Ends attempts with a failure, those left out that this turn has ended already."""
        self._settle(transaction, self._decided(transaction, ended))

    def _decided(
        self, transaction: Transaction, ended: Iterable[tuple[Attempt, Failure]]
    ) -> list[jobs.Ended]:
        return [
            self._decide(transaction, attempt, failure)
            for attempt, failure in ended
            if id(attempt) not in self._ended
        ]

    def _settle(self, transaction: Transaction, ended: list[jobs.Ended]) -> None:
        if not ended:
            return
        ours = jobs.settle(transaction, self._state.name, ended)
        for attempt, outcome, record in ended:
            self._ended.add(id(attempt))
            self.finished.append((attempt, outcome, attempt.key in ours))
            if isinstance(outcome, Failure) and attempt.key in ours and _is_given_up(record):
                self.events.append(_given_up_event(attempt, outcome))

    def _note_completed(self, transaction: Transaction, message: Message) -> jobs.Ended:
        if message.body.post_id is not None:
            add_usage(
                transaction,
                "wordpress",
                requests=1,
                prompt_tokens=0,
                completion_tokens=0,
                cost_usd=0,
            )
            self.events.extend(self._state.watch.note_success(transaction, "wordpress"))
        return jobs.Ended(message.attempt, message.body, message.record)

    def _decide(self, transaction: Transaction, attempt: Attempt, failure: Failure) -> jobs.Ended:
        watch, job = self._state.watch, attempt.job
        if failure.usage is not None:
            attempt.usage = failure.usage
        self._record_usage(transaction, attempt)
        paused, events = watch.note_failure(transaction, job.job_id, failure)
        self.events.extend(events)
        decision = decide(
            failure,
            retry_count=job.retry_count,
            max_retries=job.max_retries,
            provider_paused=paused,
            policy=self._options.retry,
            site_processing_seconds=self._options.site_processing_seconds,
        )
        fingerprint = self._state.templates.identify(failure)
        record = jobs.ended_record(attempt, failure, decision, fingerprint)
        return jobs.Ended(attempt, failure, record)

    def _record_usage(self, transaction: Transaction, attempt: Attempt) -> None:
        usage = attempt.usage
        if usage is None or attempt.usage_recorded:
            return
        add_usage(
            transaction,
            "openai",
            requests=1,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost_usd=usage.cost_usd or 0,
        )
        self.usage_recorded.append(attempt)

    def _lose(self, attempt: Attempt) -> None:
        self._ended.add(id(attempt))
        self.gone.append(attempt)

    def _still_ours(self) -> list[Attempt]:
        return [each for each in self._state.in_flight.values() if id(each) not in self._ended]

    def _hand_back_if_stopping(self, transaction: Transaction) -> None:
        if self._state.releasing:
            self.end_attempts(transaction, [(each, STOPPED) for each in self._still_ours()])
        elif self._state.leaving:
            self.end_attempts(transaction, [(each, STOPPED) for each in self._state.unstarted()])

    def _answer_asking(
        self, transaction: Transaction, permits: Permits, asking: list[Attempt]
    ) -> None:
        """Lets attempts with a stored article go on to publishing, or hands their jobs back."""
        asking = [attempt for attempt in asking if id(attempt) not in self._ended]
        if not asking:
            return
        stopping = self._state.stopping or self.drain
        allowed = 0 if stopping else permits.allowed("publish")
        going, waiting = asking[:allowed], asking[allowed:]
        permits.take("publish", [attempt.job.job_id for attempt in going])
        self.replies.extend((attempt, True) for attempt in going)
        self.replies.extend((attempt, False) for attempt in waiting)
        why = (
            STOPPED
            if stopping
            else Failure("provider_paused", "WordPress takes no more posts just now.")
        )
        self.end_attempts(transaction, [(attempt, why) for attempt in waiting])

    # duties

    def _keep_leases(self, transaction: Transaction) -> None:
        mine = self._still_ours()
        if not mine or not self._state.duties.take("renew", self._options.lease_seconds / 3):
            return
        self.renewed_at = time.monotonic()
        ours = jobs.renew(transaction, mine, self._options.lease_seconds)
        for attempt in mine:
            if attempt.job.job_id not in ours:
                self._lose(attempt)

    def _keep_house(self, transaction: Transaction) -> None:
        state, duties = self._state, self._state.duties
        if duties.take("templates", TEMPLATES_SECONDS):
            state.templates_since = failure_templates.learn(
                transaction, state.templates, state.templates_since
            )
        if duties.take("sweep", self._options.sweep_interval_seconds):
            swept = jobs.sweep(
                transaction, quarantine_after=self._options.quarantine_after_lost_attempts
            )
            self.events.extend(swept_event(each) for each in swept)
            self.events.extend(end_expired_pauses(transaction))
            if jobs.promote_deferred(transaction) or swept:
                state.cursor.restart()
        if duties.take("credentials", CREDENTIALS_SECONDS) and _changed_handles(state):
            duties.set("beat", 0.0)  # whoever rotates waits for it
        if duties.take("beat", HEARTBEAT_SECONDS):
            beat(transaction, state, stopped=False)
        if duties.take("recent", RECENT_ARTICLES_SECONDS):
            self.recent_sketches = jobs.recent_likeness_sketches(transaction, RECENT_ARTICLES)

    def _claim(self, transaction: Transaction, permits: Permits) -> None:
        state, options = self._state, self._options
        free = options.concurrency + options.prefetch - len(self._still_ours())
        if free <= 0:
            # Nothing was looked for: what was left before is still there.
            self.claim_was_full = state.backlog
            return
        write, publish = permits.allowed("write"), permits.allowed("publish")
        if write + publish <= 0:
            return
        if state.duties.take("scan", FULL_SCAN_SECONDS):
            state.cursor.restart()
        claimed_at = time.monotonic()
        claimed = jobs.claim(
            transaction,
            state.cursor,
            worker=state.name,
            count=free,
            write_count=write,
            publish_count=publish,
            lease_seconds=options.lease_seconds,
            topic_characters=options.maximum_topic_characters,
        )
        publishing = [job for job in claimed if job.stage == "publish"]
        permits.take("publish", [job.job_id for job in publishing])
        permits.take("write", [job.job_id for job in claimed if job.stage == "write"])
        articles = jobs.load_articles(transaction, publishing)
        for job in claimed:
            attempt = Attempt(
                job, state.send, claimed_at=claimed_at, lease_seconds=options.lease_seconds
            )
            attempt.article = articles.get(job.job_id)
            self.claimed.append(attempt)
        self.claim_was_full = len(claimed) >= min(free, write + publish)


def _is_given_up(record: str) -> bool:
    return bool(json.loads(record).get("job_status") == "error")


def _given_up_event(attempt: Attempt, failure: Failure) -> Event:
    """A job that failed for good is noted, and nobody is called for it."""
    said = f"Job {attempt.job.job_id} ended in error: {failure.error_class}: {failure.message}"
    return Event(
        "job_given_up", one_line(said), "info", failure.provider, attempt.job.job_id,
        {"error_class": failure.error_class, "attempt": attempt.job.attempt},
    )  # fmt: skip


def beat(transaction: Transaction, state: WorkerState, *, stopped: bool) -> None:
    """Writes the worker's sign of life, and by which handles its credentials are known."""
    credentials = state.credentials()
    handles = _handles(credentials)
    if handles != state.handles_noted:
        note_handles(transaction, handles)
        state.handles_noted = handles
    transaction.run(
        _SQL["beat"],
        worker=state.name,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=__version__,
        concurrency=state.options.concurrency,
        prefetch=state.options.prefetch,
        settings_digest=state.options.settings_digest,
        in_flight=len(state.in_flight),
        finished_count=state.completed_count,
        failed_count=state.failed_count,
        unix_seconds=time.time(),
        progressed=state.progressed,
        stopped=stopped,
        credentials=json.dumps({name: used.as_dictionary() for name, used in credentials.items()}),
    )
    state.progressed = False


def _handles(credentials: Mapping[str, InUse]) -> frozenset[tuple[str, str]]:
    return frozenset((name, used.handle) for name, used in credentials.items())


def _changed_handles(state: WorkerState) -> bool:
    return _handles(state.credentials()) != state.handles_noted


def note_handles(transaction: Transaction, handles: Iterable[tuple[str, str]]) -> None:
    """Notes since when a credential of this handle has been in use."""
    for name, handle in sorted(handles):
        transaction.run(_SQL["note_handle"], name=name, handle=handle)


def swept_event(each: jobs.Swept) -> Event:
    """What is told of a job that the sweep took back."""
    if each.status == "error":
        return Event(
            "job_quarantined",
            f"Job {each.job_id} is in quarantine: too many workers in a row vanished on it.",
            "critical",
            job_id=each.job_id,
        )
    return Event(
        "lease_expired",
        f"Job {each.job_id} went back to pending: worker {each.worker} vanished during attempt {each.attempt}.",
        "warning",
        job_id=each.job_id,
    )
