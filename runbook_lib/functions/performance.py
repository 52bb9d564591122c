"""`performance-monitor`: how long things take."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.functions.calling import Call
from runbook_lib.functions.requests import Performance
from runbook_lib.health.metrics import History, records
from runbook_lib.health.statement_history import statement_times

_ROUTES = load("statement_history")["routes"]


def performance_monitor(call: Call) -> dict[str, Any]:
    """p50, p95 and p99 with the number of measurements, by stage, model, provider, function and statement.

    Times of attempts are of those that completed; `failed` has the others. `own` is the pipeline's own
    time: an attempt less the time inside OpenAI and WordPress.
    """
    request = call.request
    assert isinstance(request, Performance)
    with History(call.context) as history:
        since = history.now() - timedelta(hours=request.hours)
        times = {
            by: records(history.durations(since, by=by)) for by in ("stage", "model", "provider")
        }
        failed = records(history.durations(since, by="stage", completed=False))
        as_of, problem = history.as_of.moment, history.as_of.problem
    return {
        "hours": request.hours,
        "since": since,
        "stages": times["stage"],
        "models": times["model"],
        "providers": times["provider"],
        "failed": failed,
        "functions": _routes(call, request.hours),
        "statements": statement_times(call.context, request.hours).as_dictionary(),
        "limits": {
            name: value
            for name, value in call.context.policy.thresholds
            if name in ("processing_time_warning_seconds", "openai_p95_warning_seconds", "wordpress_p95_warning_seconds")
        },
        "as_of": as_of,
        "problem": problem,
    }  # fmt: skip


def _routes(call: Call, hours: int) -> dict[str, Any]:
    """How long the console's answers took. What may not be read is told, not left out."""
    try:
        with call.context.sources.bookkeeping.transaction(read_only=True) as transaction:
            rows = [row._asdict() for row in transaction.rows(_ROUTES, hours=hours)]
    except psycopg2.errors.InsufficientPrivilege as error:
        return {
            "verdict": "not_allowed",
            "message": one_line(str(error).splitlines()[0]),
            "routes": [],
        }
    except (psycopg2.Error, RunbookError) as error:
        return {
            "verdict": "not_enough_data",
            "message": one_line(str(error).splitlines()[0]),
            "routes": [],
        }
    words = f"{sum(row['calls'] for row in rows)} requests in {hours} hours."
    return {"verdict": "ok" if rows else "not_enough_data", "message": words, "routes": rows}
