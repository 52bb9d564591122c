"""A pipeline's own sweeper, called as a planned change: look at what seems stuck, then let it sweep.

Nothing is written in its database by us: its function `RUNBOOK_FUNCTIONS_URL/sweeper` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from runbook_lib import changes
from runbook_lib.changes import ChangedRow, Preview, SeenRow, StepwiseKind
from runbook_lib.credentials.masking import one_line
from runbook_lib.database.connection import Database, Transaction
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import ConfigurationError, CouldNotBeDone, PlanRefused, UsageError
from runbook_lib.health.context import Context, open_context
from runbook_lib.health.stuck import LIVING_MINUTES, attempts_ended_lately, job_now, stuck_jobs
from runbook_lib.pipeline.transport import Answer, ExchangeFailed, Transport
from runbook_lib.settings import Settings, load_settings

CALL_SECONDS = 60.0
KEY_VARIABLE = "RUNBOOK_FUNCTIONS_KEY"


class RemoteSweep(StepwiseKind):
    """Calls the pipeline's own sweeper once, and records what became of each job that seemed stuck."""

    name = "sweeper.call"
    summary = "Calls the pipeline's own sweeper (RUNBOOK_FUNCTIONS_URL), and says what became of the jobs that seem stuck."
    parameters = {  # noqa: RUF012
        "older_than_seconds": "where there are no leases: jobs that were begun longer ago than this (default: the policy's stuck_after_seconds)",
        "while_workers_live": "yes: also while attempts still end, which says that workers live (default: no)",
    }
    row_limit = 1_000
    row_deadline_seconds = CALL_SECONDS + 30

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        settings = load_settings()
        url = sweeper_url(settings)
        text = given.get("older_than_seconds")
        try:
            seconds = None if text in (None, "") else float(str(text))
        except ValueError:
            seconds = -1.0
        if seconds is not None and not seconds > 0:
            raise UsageError(f"older_than_seconds is a number of seconds above 0, not {text!r}.")
        return {
            "older_than_seconds": seconds,
            "while_workers_live": str(given.get("while_workers_live") or "no").lower() == "yes",
            "call": curl_line(url, settings.runbook_functions_key is not None),
        }

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        with open_context(load_settings(), "runbook changes") as context:
            seconds = parameters["older_than_seconds"] or _default_seconds(context)
            found = stuck_jobs(context.sources, older_than_seconds=seconds, row_count=row_count)
            ended = attempts_ended_lately(context.sources) if found.by_age else 0
        if found.missing:
            raise UsageError(found.words)
        if found.count and ended and not parameters.get("while_workers_live"):
            raise PlanRefused(
                f"The sweeper is not called: {ended} attempts ended in the last {LIVING_MINUTES} minutes, so workers live, "
                f"and without leases nothing tells whether they still work on these {found.count} jobs: each that is given "
                "out again is written and published twice. Stop the workers first, and call it then; or plan it with "
                "while_workers_live=yes."
            )
        rows = [
            SeenRow(
                job["job_id"],
                seen={"status": job["status"], "started_at": _text(job["started_at"])},
                shown={
                    "job": job["job_id"],
                    "topic": job["topic"],
                    "in processing since": _text(job["started_at"]),
                    "note": "may still be running" if found.by_age else "its lease ran out",
                },
                at=job["started_at"],
            )
            for job in found.jobs
        ]
        return Preview(rows, found.count)

    @contextmanager
    def applier(
        self, database: Database, parameters: Mapping[str, Any], actor: str
    ) -> Iterator[Callable[[SeenRow], ChangedRow]]:
        settings = load_settings()
        with open_context(settings, "runbook changes") as context:
            answers: list[Answer] = []

            def look(row: SeenRow) -> ChangedRow:
                # One call sweeps them all: the first row makes it, and each row says what became of it.
                if not answers:
                    answers.append(call_sweeper(settings))
                now = job_now(context.sources, row.key)
                state = (
                    {"status": now.status, "started_at": _text(now.started_at)}
                    if now is not None
                    else {"status": "gone", "started_at": None}
                )
                answered = {
                    "http_status": answers[0].status,
                    "answer": one_line(answers[0].body.decode("utf-8", "replace"), 300),
                }
                return ChangedRow(
                    row.key, before=row.seen, after={**state, **answered}, changed=state != row.seen
                )

            yield look


def sweeper_url(settings: Settings) -> str:
    """Where the sweeper is. Raises `ConfigurationError` when no functions are configured."""
    if settings.runbook_functions_url is None:
        raise ConfigurationError(
            "RUNBOOK_FUNCTIONS_URL is not set: it names the pipeline's functions "
            "(https://….supabase.co/functions/v1), whose sweeper is called."
        )
    return f"{settings.runbook_functions_url}/sweeper"


def curl_line(url: str, with_key: bool) -> str:
    """The same call by hand. The key stays in the environment."""
    key = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if with_key else ""
    return f"curl -X POST{key} -H 'Content-Type: application/json' -d '{{}}' '{url}'"


def call_sweeper(settings: Settings) -> Answer:
    """Calls it once. Raises `CouldNotBeDone` unless it answers that it is done."""
    url, key = sweeper_url(settings), settings.runbook_functions_key
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key.get_secret_value()}"
    try:
        answer = Transport(connections=1, maximum_answer_bytes=1_000_000).exchange(
            "POST",
            url,
            deadline=Deadline.after(CALL_SECONDS),
            headers=headers,
            body=b"{}",
            repeatable=False,
        )
    except ExchangeFailed as error:
        known = "It may have swept: look again." if error.sent else "It was not called."
        raise CouldNotBeDone(f"The sweeper at {url} gave no answer: {error}. {known}") from None
    if not 200 <= answer.status < 300:
        said = one_line(answer.body.decode("utf-8", "replace"), 200)
        hint = f" Look at {KEY_VARIABLE}." if answer.status in (401, 403) else ""
        raise CouldNotBeDone(f"The sweeper at {url} answered {answer.status}: {said}.{hint}")
    return answer


def _default_seconds(context: Context) -> float:
    return context.policy.thresholds.stuck_after_seconds


def _text(moment: Any) -> str | None:
    return None if moment is None else moment.isoformat()


changes.register(RemoteSweep())
