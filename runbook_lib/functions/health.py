"""`health`: whether the system works. Answers 200 or 503, within five seconds, also without a database."""

from __future__ import annotations

from typing import Any

from runbook_lib.functions.calling import UNAVAILABLE, Answered, Call
from runbook_lib.health.survey import survey

# The answer is due after five seconds; the rest is for starting the command and writing the answer.
SURVEY_SECONDS = 3.5


def health(call: Call) -> dict[str, Any]:
    """Every check. 503 when one is critical; a warning is 200, for the system still works."""
    found = survey(call.context, deadline_seconds=SURVEY_SECONDS)
    body = {"status": found.verdict, **found.as_dictionary()}
    if found.verdict == "critical":
        raise Answered(UNAVAILABLE, body)
    return body
