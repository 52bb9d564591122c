"""How other pipelines name what we call jobs and runs: column names and status words seen in the field."""

from __future__ import annotations

import re

# Ours → theirs, the likeliest first. The first name is our own.
JOB_COLUMNS: dict[str, tuple[str, ...]] = {
    "job_id": ("job_id", "id", "uuid", "guid", "task_id", "request_id", "item_id", "queue_id"),
    "status": ("status", "state", "job_status", "job_state", "task_status", "task_state", "processing_status", "current_status", "phase"),
    "last_error": ("last_error", "error", "error_message", "last_error_message", "error_msg", "err", "failure_reason", "fail_reason", "error_text", "error_details", "error_detail", "exception", "failure", "message"),
    "retry_count": ("retry_count", "retries", "num_retries", "number_of_retries", "retry", "attempts", "attempt_count", "attempt", "tries", "try_count", "attempts_made", "failed_attempts"),
    "created_at": ("created_at", "created", "created_on", "create_time", "date_created", "creation_date", "inserted_at", "enqueued_at", "queued_at", "submitted_at", "requested_at", "added_at"),
    "topic": ("topic", "title", "subject", "prompt", "headline", "keyword", "payload", "input"),
    "category": ("category", "category_name", "section", "channel", "type", "kind"),
    "updated_at": ("updated_at", "updated", "modified_at", "last_modified", "changed_at", "updated_on"),
    "started_at": ("started_at", "start_time", "started", "started_on", "processing_started_at", "locked_at", "claimed_at", "picked_at", "begin_time"),
    "completed_at": ("completed_at", "finished_at", "ended_at", "end_time", "finish_time", "completed", "finished", "done_at", "completed_on", "published_at", "processed_at"),
}  # fmt: skip
RUN_COLUMNS: dict[str, tuple[str, ...]] = {
    "job_id": ("job_id", "task_id", "content_job_id", "job", "task", "item_id", "request_id", "queue_id", "parent_id"),
    "status": ("status", "state", "result", "outcome", "run_status", "final_status"),
    "execution_time": ("execution_time", "executed_at", "run_at", "ran_at", "run_time", "completed_at", "finished_at", "ended_at", "end_time", "logged_at", "recorded_at", "timestamp", "ts", "created_at", "created", "inserted_at"),
    "started_at": JOB_COLUMNS["started_at"],
    "completed_at": JOB_COLUMNS["completed_at"],
    "error": ("error", "error_message", "last_error", "error_msg", "failure_reason", "error_text", "exception", "message"),
}  # fmt: skip
# What the written runbook's own statements name.
MINIMUM = {
    "jobs": ("job_id", "status", "last_error", "retry_count", "created_at"),
    "runs": ("status", "execution_time", "started_at", "completed_at"),
}
TIMES = frozenset(("created_at", "updated_at", "started_at", "completed_at", "execution_time"))
WHOLE_NUMBERS = frozenset(("retry_count",))
ALL_ATTEMPTS = frozenset(
    ("attempts", "attempt_count", "attempt", "tries", "try_count", "attempts_made")
)

STATUS_WORDS: dict[str, frozenset[str]] = {
    "pending": frozenset(["pending", "queued", "new", "waiting", "ready", "todo", "to_do", "scheduled", "created", "open", "enqueued", "available", "submitted", "requested", "retry", "retrying", "retryable", "deferred", "delayed", "backlog", "not_started", "draft_requested"]),
    "processing": frozenset(["processing", "running", "in_progress", "inprogress", "active", "started", "working", "executing", "locked", "claimed", "generating", "writing", "publishing", "busy", "picked"]),
    "completed": frozenset(["completed", "complete", "done", "success", "succeeded", "successful", "finished", "published", "ok", "processed", "delivered"]),
    "error": frozenset(["error", "errored", "failed", "failure", "fail", "fatal", "dead", "dead_letter", "discarded", "exception", "crashed", "timeout", "timed_out", "aborted", "rejected", "exhausted"]),
    "lost": frozenset(["lost", "stalled", "stale", "orphaned", "abandoned", "expired"]),
    "left_out": frozenset(["cancelled", "canceled", "skipped", "ignored", "archived", "deleted", "paused", "on_hold", "released", "draft"]),
}  # fmt: skip
JOB_STATUSES = ("pending", "processing", "completed", "error", "left_out")
RUN_STATUSES = ("completed", "error", "lost", "left_out")

JOB_TABLE = re.compile(r"job|task|queue|work|item|content|article|post|request|pipeline|generation")
RUN_TABLE = re.compile(r"run|execution|attempt|history|log|result|event")


def plain_name(name: str) -> str:
    """`createdAt`, `Created-At` and `created_at` are one name: `created_at`."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    name = re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def status_of(word: str, allowed: tuple[str, ...]) -> str | None:
    """Our status for one of their words; None when it has to be decided by a person."""
    plain = plain_name(word)
    for status, words in STATUS_WORDS.items():
        if plain in words:
            if status in allowed:
                return status
            # A job has no status "lost": such a job waits to be claimed again. A run that has not
            # ended yet counts nowhere.
            return "processing" if status == "lost" else "left_out"
    return None
