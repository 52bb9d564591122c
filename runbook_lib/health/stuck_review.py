"""Jobs that stay in processing: left by their worker, held by one that came no step further, or behind a lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.errors import InsufficientPrivilege

from runbook_lib.credentials.masking import one_line
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import Answer
from runbook_lib.health.checks import Check, worst_verdict
from runbook_lib.health.context import Context
from runbook_lib.health.queue_checks import STUCK_JOBS, in_words
from runbook_lib.health.sources import Sources
from runbook_lib.health.stuck import Stuck, stuck_jobs
from runbook_lib.health.survey import Survey, survey
from runbook_lib.health.tables import Table
from runbook_lib.pipeline.sweeping import held_jobs
from runbook_lib.policy import load_policy
from runbook_lib.settings import load_settings

if TYPE_CHECKING:
    import pandas

ROWS_SHOWN = 100
# What tells why jobs stand: left, held without progress, behind a lock, more than workers can hold.
_ASKED = ("queue.stuck", "workers.progressing", "workers.alive", "database.blockers", "queue.concurrency")  # fmt: skip
# Without a worker nothing is stuck yet; that is told, and is system_down's to judge.
_ONLY_TOLD = ("workers.alive",)
_JOBS = ["job_id", "may_be_swept", "holder", "lease", "worker", "stage", "attempt", "topic"]
_WORKERS = [
    "worker",
    "host",
    "in_flight",
    "last_heard_seconds",
    "without_progress_seconds",
    "state",
]


@dataclass(frozen=True, repr=False)
class StuckJobs(Answer):
    """What stands in processing and why. Shown in a notebook, it is the answer.

    `check` is the worst of what was asked; `holders_gone` says whether whoever held the left jobs is gone:
    sweeping is refused unless it is ok.
    """

    check: Check
    holders_gone: Check
    survey: Survey
    jobs: Table
    workers: Table
    problem: str | None = None

    @property
    def causes(self) -> Table:
        """Each possible reason, whether it holds, and what to do about it."""
        rows = [
            {"reason": each.name, "verdict": each.verdict.replace("_", " "), "message": one_line(each.message, 500),
             "next": each.next, "procedure": _with_parameters(each)}
            for each in self.survey.worst_first()
        ]  # fmt: skip
        return Table(_frame(rows, ["reason", "verdict", "message", "next", "procedure"]),
                     empty=self.check.message)  # fmt: skip

    @property
    def locks(self) -> Table:
        """Sessions that wait for a lock, under the one that they wait for."""
        blockers = self.survey.named("database.blockers")
        lines = list(blockers.details.get("tree", ())) if blockers else []
        rows = [{"session": one_line(line, 300).replace("  ", "· ")} for line in lines]
        return Table(_frame(rows, ["session"]), empty="No session waits for another.")

    def results(self) -> dict[str, Any]:
        """The figures, for the record."""
        frame = self.jobs.frame
        return {
            "processing": len(frame),
            "may_be_swept": int(sum(frame["may_be_swept"] == "yes")) if len(frame) else 0,
            "workers": int(sum(self.workers.frame["state"] == "runs")) if len(self.workers.frame) else 0,
            "verdicts": {each.name: each.verdict for each in self.survey.checks},
            "holders_gone": self.holders_gone.verdict,
            "problem": self.problem,
        }  # fmt: skip


def stuck_jobs_review(
    sources: Sources, *, older_than_minutes: int = 30, deadline_seconds: float = 10.0
) -> StuckJobs:
    """Looks at what stands in processing; changes nothing.

    `older_than_minutes` is for a pipeline without leases: only there does age tell. Never raises for what it
    finds: a database that is away or closed to this role is `not_enough_data`, and says why.
    """
    try:
        settings = load_settings()
        context = Context(settings, load_policy(settings), sources)
        found = survey(context, only=_ASKED, deadline_seconds=deadline_seconds)
        jobs, holders = _jobs(sources, older_than_minutes)
    except (RunbookError, InsufficientPrivilege, psycopg2.OperationalError) as error:
        return _without_answers(one_line(str(error), 500))
    return StuckJobs(
        check=_overall(found, len(jobs)), holders_gone=holders, survey=found,
        jobs=Table(_frame(jobs, _JOBS), empty="No job is in processing."),
        workers=Table(_workers(found), empty="No worker was heard of within a day."),
    )  # fmt: skip


def _jobs(sources: Sources, older_than_minutes: int) -> tuple[list[dict[str, Any]], Check]:
    if sources.attached:
        found = stuck_jobs(
            sources, older_than_seconds=60 * older_than_minutes, row_count=ROWS_SHOWN
        )
        return [_theirs(job) for job in found.jobs], _holders_of_theirs(found)
    silent_limit = load_policy(load_settings()).thresholds.worker_silent_seconds
    with sources.pipeline.transaction(read_only=True) as transaction:
        rows = held_jobs(transaction, row_count=ROWS_SHOWN)
    return [_ours(row, silent_limit) for row in rows], _holders_of_ours(rows, silent_limit)


def _ours(row: Any, silent_limit: float) -> dict[str, Any]:
    expired = row.expired_for_seconds > 0
    return {
        "job_id": row.job_id, "topic": one_line(row.topic, 60), "stage": row.stage,
        "attempt": row.attempt, "worker": row.worker,
        "lease": f"over for {in_words(row.expired_for_seconds)}" if expired
        else f"runs for {in_words(-row.expired_for_seconds)}",
        "holder": _holder(row, silent_limit),
        "may_be_swept": "yes" if expired and not _lives(row, silent_limit) else "no",
    }  # fmt: skip


def _lives(row: Any, silent_limit: float) -> bool:
    return not row.stopped and row.silent_seconds is not None and row.silent_seconds < silent_limit


def _holder(row: Any, silent_limit: float) -> str:
    if row.silent_seconds is None:
        return "no such worker"
    if row.stopped:
        return "stopped"
    heard = f"heard of {in_words(row.silent_seconds)} ago"
    return f"lives, {heard}" if _lives(row, silent_limit) else f"silent, {heard}"


def _theirs(job: dict[str, Any]) -> dict[str, Any]:
    age = job["age_seconds"]
    return {
        "job_id": job["job_id"], "topic": one_line(job["topic"] or "", 60), "stage": job["stage"],
        "attempt": job["attempt"], "worker": job["worker"],
        "lease": "none" if age is None else f"none; begun {in_words(age)} ago",
        "holder": "not known", "may_be_swept": "no",
    }  # fmt: skip


def _holders_of_ours(rows: Sequence[Any], silent_limit: float) -> Check:
    expired = [row for row in rows if row.expired_for_seconds > 0]
    living = [row for row in expired if _lives(row, silent_limit)]
    if living:
        first = living[0]
        words = (
            f"{len(living)} of {len(expired)} jobs with an expired lease belong to a worker that lives: {first.worker} was "
            f"heard of {in_words(first.silent_seconds)} ago."
        )
        advice = "Drain that worker (`runbook workers drain`), or end its process and wait until it is silent. Then run this again."
    else:
        words = f"Nobody who held the {len(expired)} jobs with an expired lease is heard of."
        advice = None
    return Check(
        "stuck.holders_gone", "critical" if living else "ok", words, len(living), "jobs", 0,
        "sweeping.held_jobs", "that a frozen process will not wake up: fencing keeps it from finishing the job",
        advice,
    )  # fmt: skip


def _holders_of_theirs(found: Stuck) -> Check:
    words = f"{found.words} Whether their workers live is not known here, and nothing is taken from them."
    return Check("stuck.holders_gone", "not_enough_data", words, found.count, "jobs", 0, "stuck.stuck_jobs")  # fmt: skip


def _workers(found: Survey) -> pandas.DataFrame:
    alive = found.named("workers.alive")
    details = alive.details if alive else {}
    standing = found.named("workers.progressing")
    named = {row["worker"] for row in (standing.details.get("standing", ()) if standing else ())}
    rows = [
        {
            "worker": row["worker"], "host": row["host"], "in_flight": row["in_flight"],
            "last_heard_seconds": row["silent_seconds"],
            "without_progress_seconds": row["without_progress_seconds"],
            "state": "silent" if kind == "silent" else "stands still" if row["worker"] in named else "runs",
        }
        for kind in ("running", "silent") for row in details.get(kind, ())
    ]  # fmt: skip
    return _frame(rows, _WORKERS)


def _overall(found: Survey, processing: int) -> Check:
    judged = [each for each in found.checks if each.name not in _ONLY_TOLD]
    verdict = worst_verdict(judged)
    worst = next((each for each in judged if each.verdict == verdict), None)
    if worst is None:
        return Check("stuck.overall", verdict, "Nothing answered.")
    if verdict == "ok":
        words = f"{processing} jobs are in processing and none of them is stuck. {worst.message}"
        return replace(worst, name="stuck.overall", message=words)
    procedure = None if worst.procedure == STUCK_JOBS else worst.procedure
    return replace(worst, name="stuck.overall", message=f"{worst.name}: {worst.message}", procedure=procedure)  # fmt: skip


def _without_answers(problem: str) -> StuckJobs:
    check = Check("stuck.overall", "not_enough_data", f"Nothing could be told. {problem}")
    words = f"Not known: {problem}"
    return StuckJobs(
        check=check, holders_gone=replace(check, name="stuck.holders_gone"),
        survey=Survey((), datetime.now(UTC), 0.0), jobs=Table(_frame([], _JOBS), empty=words),
        workers=Table(_frame([], _WORKERS), empty=words), problem=problem,
    )  # fmt: skip


def _with_parameters(check: Check) -> str | None:
    if not check.procedure or check.procedure == STUCK_JOBS:
        return None
    given = " ".join(f"-p {name}={value}" for name, value in check.parameters.items())
    return f"{check.procedure} {given}".strip()


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(rows, columns=columns)
