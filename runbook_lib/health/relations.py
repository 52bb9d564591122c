"""The vocabulary of reading statements: what a figure or a check may ask of `jobs` and `runs`.

It is the same for our own pipeline and for one that is not ours: every column is there with its type,
and NULL where theirs has none (`Sources.missing` says so). `job_id` is text, to be shown and filed;
`job_key` is the same key as it is stored: join by it (`JOIN jobs USING (job_key)`), count by it, and
look a job up by it (`WHERE job_key = %(job_id)s`), since only that uses their index.

`runs` holds attempts that ended, `status` completed, error, lost or released. A status word of theirs
that the mapping does not know is passed on as it is, so that it is seen and counted as nothing of ours.
"""

from __future__ import annotations

from collections.abc import Mapping

# What the reader of a mapping fills in by itself.
NOT_MAPPED = ("job_key", "job_status")
# The type of `job_key` is that of the key in the table.
KEY = "key"
MOMENT = "timestamp with time zone"

JOB_COLUMN_TYPES: Mapping[str, str] = {
    "job_id": "text",
    "job_key": KEY,
    "status": "text",
    "stage": "text",
    "topic": "text",
    "category": "text",
    "priority": "integer",
    "attempt": "integer",
    "retry_count": "integer",
    "max_retries": "integer",
    "lost_count": "integer",
    "worker": "text",
    "lease_until": MOMENT,
    "run_at": MOMENT,
    "last_error": "text",
    "error_class": "text",
    "idempotency_key": "text",
    "draft_requested_at": MOMENT,
    "post_id": "bigint",
    "post_url": "text",
    "post_status": "text",
    "source": "text",
    "created_by": "text",
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "started_at": MOMENT,
    "completed_at": MOMENT,
}
RUN_COLUMN_TYPES: Mapping[str, str] = {
    "job_id": "text",
    "job_key": KEY,
    "attempt": "integer",
    "status": "text",
    "job_status": "text",
    "execution_time": MOMENT,
    "started_at": MOMENT,
    "completed_at": MOMENT,
    "worker": "text",
    "stage": "text",
    "charged": "boolean",
    "error": "text",
    "error_class": "text",
    "fingerprint": "text",
    "exception_class": "text",
    "provider": "text",
    "http_status": "integer",
    "provider_code": "text",
    "sqlstate": "text",
    "constraint_name": "text",
    "request_id": "text",
    "model": "text",
    "prompt_tokens": "integer",
    "completion_tokens": "integer",
    "tokens": "integer",
    "cost_usd": "numeric",
    "write_seconds": "double precision",
    "publish_seconds": "double precision",
    "category": "text",
}
RELATIONS: Mapping[str, Mapping[str, str]] = {"jobs": JOB_COLUMN_TYPES, "runs": RUN_COLUMN_TYPES}


def require_known(needs: list[str]) -> None:
    """Raises `ValueError` unless every need is `jobs.COLUMN` or `runs.COLUMN` of the vocabulary."""
    for need in needs:
        relation, _, column = need.partition(".")
        if column not in RELATIONS.get(relation, {}):
            raise ValueError(
                f"{need!r} is no column of jobs or runs; health/relations.py lists them"
            )
