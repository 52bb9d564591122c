"""`health`: whether the system works. Answers 200 or 503, within five seconds, also without a database."""

from __future__ import annotations

from typing import Any

from runbook_lib.functions.calling import UNAVAILABLE, Answered, Call
from runbook_lib.health.survey import survey
from runbook_lib.processes import process_age_seconds

# The answer is due after five seconds. What a command took to start is taken off, down to the least in
# which a survey says anything.
ANSWER_SECONDS, WRITING_SECONDS = 5.0, 0.5
LONGEST_SURVEY_SECONDS, SHORTEST_SURVEY_SECONDS = 3.5, 1.5


def health(call: Call) -> dict[str, Any]:
    """Every check. 503 when one is critical; a warning is 200, for the system still works."""
    found = survey(call.context, deadline_seconds=_survey_seconds())
    body = {"status": found.verdict, **found.as_dictionary()}
    if found.verdict == "critical":
        raise Answered(UNAVAILABLE, body)
    return body


def _survey_seconds() -> float:
    age = process_age_seconds()
    left = ANSWER_SECONDS - WRITING_SECONDS - age if age < ANSWER_SECONDS else ANSWER_SECONDS
    return max(SHORTEST_SURVEY_SECONDS, min(LONGEST_SURVEY_SECONDS, left))
