"""The job's life in the database: claim, checkpoint, settle, renew, sweep.

Every function works inside the coordinator's open transaction. Every write about a claimed job is
fenced by (job_id, attempt, status = 'processing').
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from runbook_lib.database.connection import Transaction
from runbook_lib.database.statements import load
from runbook_lib.pipeline.attempt import Attempt, Completed, StoreArticle, StoreDraft
from runbook_lib.pipeline.failures import Decision, Failure
from runbook_lib.pipeline.fingerprints import TemplateTree
from runbook_lib.pipeline.model import Article, Job, Stage, Usage

_SQL = load("jobs")
LOST_FINGERPRINT = TemplateTree().identify(
    Failure("worker_lost", "The lease ran out; the worker vanished.")
)
_BEFORE_ALL = (-(2**31), "00000000-0000-0000-0000-000000000000")


class ClaimCursor:
    """Where the last claim ended, by stage; so that dead rows in front are not read again and again."""

    def __init__(self) -> None:
        self._after: dict[str, tuple[int, str]] = {}

    def after(self, stage: Stage) -> tuple[int, str]:
        return self._after.get(stage, _BEFORE_ALL)

    def advance(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            place = (job.priority, job.job_id)
            if place > self._after.get(job.stage, _BEFORE_ALL):
                self._after[job.stage] = place

    def restart(self) -> None:
        self._after.clear()


def claim(
    transaction: Transaction,
    cursor: ClaimCursor,
    *,
    worker: str,
    count: int,
    write_count: int,
    publish_count: int,
    lease_seconds: float,
    topic_characters: int,
) -> list[Job]:
    """Claims up to `count` jobs, in the order in which they are to begin."""
    write_after, publish_after = cursor.after("write"), cursor.after("publish")
    with transaction.raw.cursor() as rows:
        rows.execute(
            _SQL["claim_jobs"].text,
            {
                "worker": worker,
                "count": count,
                "write_count": min(write_count, count),
                "publish_count": min(publish_count, count),
                "write_after_priority": write_after[0],
                "write_after_job_id": write_after[1],
                "publish_after_priority": publish_after[0],
                "publish_after_job_id": publish_after[1],
                "lease_seconds": lease_seconds,
                # One more than allowed, so that "too long" can be seen without loading 10 MB of it.
                "topic_characters": topic_characters + 1,
            },
        )
        jobs = [Job._make(row) for row in rows.fetchall()]
    jobs.sort(key=lambda job: (job.stage != "publish", job.priority, job.job_id))
    return jobs


def load_articles(transaction: Transaction, jobs: Sequence[Job]) -> dict[str, Article]:
    """The stored articles of jobs that begin with publishing."""
    if not jobs:
        return {}
    rows = transaction.rows(_SQL["load_articles"], job_ids=[job.job_id for job in jobs])
    return {
        row.job_id: Article(
            title=row.title,
            excerpt=row.excerpt,
            body_markdown=row.body_markdown,
            tags=tuple(row.tags),
            finish_reason=row.finish_reason,
            usage=Usage(row.model, 0, 0, None),  # paid for by the attempt that wrote it
            word_count=row.word_count,
            likeness_sketch=tuple(row.likeness_sketch),
        )
        for row in rows
    }


def recent_likeness_sketches(transaction: Transaction, count: int) -> dict[str, tuple[int, ...]]:
    """Sketches of the newest articles by job, oldest first."""
    rows = transaction.rows(_SQL["recent_likeness_sketches"], count=count)
    return {row.job_id: tuple(row.likeness_sketch) for row in reversed(rows)}


def store_article(transaction: Transaction, attempt: Attempt, body: StoreArticle) -> bool:
    """Keeps the paid article; False when the attempt is not ours any more."""
    article, usage = body.article, body.article.usage
    stored = transaction.row(
        _SQL["store_article"],
        job_id=attempt.job.job_id,
        attempt=attempt.job.attempt,
        title=plain_text(article.title),
        excerpt=plain_text(article.excerpt),
        body_markdown=plain_text(article.body_markdown),
        tags=[plain_text(tag) for tag in article.tags],
        word_count=article.word_count,
        likeness_sketch=list(article.likeness_sketch),
        model=usage.model,
        finish_reason=article.finish_reason,
        request_id=usage.request_id,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost_usd=usage.cost_usd,
    )
    return stored is not None


def request_draft(transaction: Transaction, attempt: Attempt) -> bool:
    """Notes that a draft may exist from now on; False when the attempt is not ours any more."""
    job = attempt.job
    return (
        transaction.row(_SQL["request_draft"], job_id=job.job_id, attempt=job.attempt) is not None
    )


def store_draft(transaction: Transaction, attempt: Attempt, body: StoreDraft) -> bool:
    """Keeps the draft's id; False when the attempt is not ours any more."""
    stored = transaction.row(
        _SQL["store_draft"],
        job_id=attempt.job.job_id,
        attempt=attempt.job.attempt,
        post_id=body.post_id,
        post_url=body.post_url,
        post_status=body.post_status,
    )
    return stored is not None


class Ended(NamedTuple):
    """An ended attempt with what becomes of its job, as `settle` takes it."""

    attempt: Attempt
    outcome: Completed | Failure
    record: str


def settle(transaction: Transaction, worker: str, ended: Sequence[Ended]) -> set[tuple[str, int]]:
    """Writes the next state of jobs and one row in `job_runs` each, in one statement.

    Returns the (job_id, attempt) that were still ours. An attempt that was not leaves a row `lost`.
    """
    records = "[" + ",".join(each.record for each in ended) + "]"
    with transaction.raw.cursor() as rows:
        rows.execute(_SQL["settle_attempts"].text, {"ended": records, "worker": worker})
        settled = {job_id for (job_id,) in rows.fetchall()}
    kept = set()
    for each in ended:
        job = each.attempt.job
        if job.job_id in settled:
            kept.add((job.job_id, job.attempt))
        else:
            _record_late(transaction, worker, each)
    return kept


def _record_late(transaction: Transaction, worker: str, each: Ended) -> None:
    job = each.attempt.job
    transaction.run(
        _SQL["record_late_attempt"],
        job_id=job.job_id,
        attempt=job.attempt,
        worker=worker,
        stage=job.stage,
        error="The attempt ended after its lease was taken away; its result was not used.",
    )


def ended_record(
    attempt: Attempt,
    outcome: Completed | Failure,
    decision: Decision | None,
    fingerprint: str | None = None,
) -> str:
    """What `settle` writes about one attempt, as JSON; `decision` None means completed.

    Threads make it for completed attempts, so that the coordinator need not.
    """
    started = attempt.started_at or attempt.claimed_at
    # Only what is not the rule: absent means completed, uncharged, null. PostgreSQL reads every byte.
    row: dict[str, Any] = {
        "job_id": attempt.job.job_id,
        "attempt": attempt.job.attempt,
        "begun": round(started - attempt.claimed_at, 6),
        "ran": round((attempt.ended_at or started) - started, 6),
    }
    if decision is not None:
        row["run_status"] = decision.run_status
        row["job_status"] = decision.job_status
        row["charged"] = decision.charged
    if decision is not None and decision.delay_seconds is not None:
        row["delay_seconds"] = decision.delay_seconds
    if attempt.timings is not None and attempt.timings.write_seconds:
        row["write_seconds"] = attempt.timings.write_seconds
    if attempt.timings is not None and attempt.timings.publish_seconds:
        row["publish_seconds"] = attempt.timings.publish_seconds
    if usage := attempt.usage:
        row["model"] = usage.model
        row["prompt_tokens"] = usage.prompt_tokens
        row["completion_tokens"] = usage.completion_tokens
        row["cost_usd"] = None if usage.cost_usd is None else str(usage.cost_usd)
        row["request_id"] = usage.request_id
    if isinstance(outcome, Completed):
        if outcome.post_id is not None:
            row["post_id"] = outcome.post_id
            row["post_url"] = outcome.post_url
            row["post_status"] = outcome.post_status
    else:
        row.update(_failure_columns(outcome), fingerprint=fingerprint)
    return json.dumps(row)


def _failure_columns(failure: Failure) -> dict[str, Any]:
    columns = {
        "error": plain_text(failure.message),
        "error_class": failure.error_class,
        "stage": failure.stage,
        "exception_class": failure.exception_class,
        "provider": failure.provider,
        "http_status": failure.http_status,
        "provider_code": failure.provider_code and plain_text(failure.provider_code),
        "sqlstate": failure.sqlstate,
        "constraint_name": failure.constraint_name,
    }
    if failure.request_id:
        columns["request_id"] = plain_text(failure.request_id)
    return columns


def renew(transaction: Transaction, attempts: Sequence[Attempt], lease_seconds: float) -> set[str]:
    """Prolongs the leases of attempts in flight; returns the jobs that are still ours."""
    rows = transaction.rows(
        _SQL["renew_leases"],
        job_ids=[attempt.job.job_id for attempt in attempts],
        attempts=[attempt.job.attempt for attempt in attempts],
        lease_seconds=lease_seconds,
    )
    return {row.job_id for row in rows}


@dataclass(frozen=True)
class Swept:
    """One job that the sweep took back."""

    job_id: str
    status: str
    attempt: int
    worker: str


def sweep(
    transaction: Transaction,
    *,
    quarantine_after: int,
    count: int = 1000,
    job_ids: Sequence[str] | None = None,
) -> list[Swept]:
    """Takes jobs back whose lease ran out, only these where some are named: pending at once, or into quarantine."""
    rows = transaction.rows(
        _SQL["sweep_expired_leases"],
        quarantine_after=quarantine_after,
        count=count,
        fingerprint=LOST_FINGERPRINT,
        job_ids=None if job_ids is None else list(job_ids),
    )
    return [Swept(*row) for row in rows]


def hand_back_strangers(transaction: Transaction, worker: str, in_flight: Iterable[str]) -> int:
    """Hands jobs back that stand as this worker's but are not in flight in it."""
    return transaction.run(_SQL["hand_back_strangers"], worker=worker, in_flight=list(in_flight))


def promote_deferred(transaction: Transaction, count: int = 5000) -> int:
    """Makes jobs due whose `run_at` has come; returns how many."""
    return transaction.run(_SQL["promote_deferred_jobs"], count=count)


def queue_left(transaction: Transaction) -> Any:
    """Counts: processing, due_write, due_publish, deferred, error; and next_due_seconds."""
    return transaction.row(_SQL["queue_left"])


def notify_workers(transaction: Transaction) -> None:
    """A hint to idle workers; call it once per enqueue, inside its transaction."""
    transaction.run(_SQL["notify_workers"])


def plain_text(text: str) -> str:
    """Text that PostgreSQL can store: without NUL and lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
