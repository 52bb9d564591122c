"""`content-automation`: tests the credentials, adds a topic, says where jobs are."""

from __future__ import annotations

from typing import Any

from runbook_lib.errors import UsageError
from runbook_lib.functions.calling import CONFLICT, Answered, Call
from runbook_lib.functions.requests import ContentAutomation
from runbook_lib.health.jobs_seen import job_with_runs, jobs_by_status
from runbook_lib.health.survey import survey
from runbook_lib.pipeline.intake import add_topics
from runbook_lib.pipeline.jobs import queue_left
from runbook_lib.pipeline.operations import show_job


def content_automation(call: Call) -> dict[str, Any]:
    """Does the one action that is asked for."""
    request = call.request
    assert isinstance(request, ContentAutomation)
    if request.action == "test_credentials":
        return _test_credentials(call)
    if request.action == "enqueue":
        return _enqueue(call, request)
    return _status_of_job(call, str(request.job_id)) if request.job_id else _status(call)


def _test_credentials(call: Call) -> dict[str, Any]:
    found = survey(call.context, only=["database.reachable", "openai", "wordpress"])
    return {"action": "test_credentials", **found.as_dictionary()}


def _enqueue(call: Call, request: ContentAutomation) -> dict[str, Any]:
    """Adds one topic. The same topic, or the same key, again is the job that is there already."""
    if call.context.sources.attached:
        raise UsageError(
            "This pipeline is not ours: nothing is written to it. Add the topic the way its producer does."
        )
    given = {
        "topic": request.topic,
        "category": request.category,
        "idempotency_key": request.idempotency_key,
    }
    result = add_topics(
        call.context.sources.pipeline,
        [{name: value for name, value in given.items() if value is not None}],
        created_by=call.actor,
        source="content-automation",
        maximum_topic_characters=call.context.settings.runbook_maximum_topic_characters,
    )
    if result.rejected:
        rejected = result.rejected_rows[0]
        raise UsageError(f"{rejected.column or 'topic'}: {rejected.reason}")
    if result.duplicates:
        there = result.duplicate_rows[0]
        raise Answered(
            CONFLICT,
            {
                "action": "enqueue",
                "error": f"This topic is job {there.job_id} already ({there.status}).",
                "job_id": there.job_id,
                "status": there.status,
                "post_url": there.post_url,
            },
        )
    return {
        "action": "enqueue",
        "added": result.added,
        "job_id": result.job_ids[0],
        "status": "pending",
    }


def _status(call: Call) -> dict[str, Any]:
    if call.context.sources.attached:
        return {"action": "status", "jobs": jobs_by_status(call.context.sources)}
    with call.context.sources.pipeline.transaction(read_only=True) as transaction:
        left = queue_left(transaction)._asdict()
    return {"action": "status", "jobs": left}


def _status_of_job(call: Call, job_id: str) -> dict[str, Any]:
    if call.context.sources.attached:
        seen = job_with_runs(call.context.sources, job_id)
        return {"action": "status", "job": seen.job, "runs": seen.runs}
    history = show_job(call.context.sources.pipeline, job_id)
    return {"action": "status", "job": history.job, "runs": history.runs}
