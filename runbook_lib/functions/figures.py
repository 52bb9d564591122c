"""`monitoring` and `metrics`: the figures behind the checks."""

from __future__ import annotations

from typing import Any

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.errors import CouldNotBeDone, RunbookError
from runbook_lib.functions.calling import Call
from runbook_lib.functions.requests import Monitoring
from runbook_lib.health.metrics import History
from runbook_lib.health.survey import survey


def metrics(call: Call) -> dict[str, Any]:
    """Success by day and hour, durations, causes of failure, queue, tokens and cost."""
    return _figures(call)


def monitoring(call: Call) -> dict[str, Any]:
    """How the pipeline is, in one answer: every check, worst first, and the figures.

    Where figures cannot be had (the database is away), the checks are answered all the same.
    """
    found = survey(call.context).as_dictionary()
    try:
        figures: dict[str, Any] | None = _figures(call)
        problem = None
    except (psycopg2.Error, RunbookError) as error:
        figures, problem = None, one_line(str(error).splitlines()[0])
    return {**found, "figures": figures, "problem": problem}


def _figures(call: Call) -> dict[str, Any]:
    request = call.request
    assert isinstance(request, Monitoring)
    try:
        with History(call.context) as history:
            return history.as_json(request.days, timezone=request.time_zone)
    except psycopg2.errors.InsufficientPrivilege as error:
        raise CouldNotBeDone(
            f"This role may not read the figures: {str(error).splitlines()[0]}. `runbook db grants ROLE` prints what it needs."
        ) from None
