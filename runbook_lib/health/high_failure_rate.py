"""A high failure rate, for whoever was woken by it: what fails, since when, where, and whose fault it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.errors import InsufficientPrivilege

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Transaction
from runbook_lib.database.statements import Statement, load
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import Answer
from runbook_lib.health.checks import Check, worst_verdict
from runbook_lib.health.rates import Rate, failure_check, rate
from runbook_lib.health.sources import Sources
from runbook_lib.health.tables import Table
from runbook_lib.pipeline.error_guide import UNKNOWN, Scenario, scenario_of_class, scenario_of_text
from runbook_lib.pipeline.failures import NOT_COUNTED_AS_FAILURE
from runbook_lib.policy import Thresholds, load_policy
from runbook_lib.settings import load_settings

if TYPE_CHECKING:
    import pandas

    from runbook_lib.health.charts import Chart

MOST_CAUSES, MOST_PLACES = 500, 60
# Above this share of the failures one party is said to be at fault; below it, nobody is.
MOST_OF_THEM_PERCENT = 60.0
SOURCE = "failure_causes.outcomes"
_CAUSES = ["cause", "attempts", "share_percent", "jobs", "since", "last_seen", "whose_fault", "meaning", "first_action", "procedure"]  # fmt: skip
_COUNTED, _ADVICE = [*_CAUSES[:7]], ["cause", *_CAUSES[7:]]
_PLACES = ["by", "which", "failed", "attempts", "failures_percent", "at_least_percent", "stands_out"]  # fmt: skip
_FAILED_JOBS = ["error_class", "jobs", "written", "oldest", "newest"]
_PARTIES = {"openai": "OpenAI", "wordpress": "WordPress", "database": "the database", "stuck": "our workers"}  # fmt: skip
_OTHER_PARTIES = {"topic_refused": "the topics", "bad_content": "the articles", "duplicate_content": "the topics",
                  "slow_jobs": "not told by the class"}  # fmt: skip


@dataclass(frozen=True, repr=False)
class HighFailureRate(Answer):
    """What fails in the last hours. Shown in a notebook, it is the answer.

    `check` is the worse of both rates, of attempts and of jobs; `at_fault` whose fault most of it is, None
    where no party has most of it. `problem` is set, and the tables are empty, when it could not be told.
    """

    check: Check
    since: datetime | None
    attempts: Rate
    jobs: Rate
    at_fault: str | None
    causes: Table
    advice: Table
    places: Table
    failed_jobs: Table
    hours: pandas.DataFrame
    thresholds: Thresholds
    sources: Sources = field(repr=False)
    problem: str | None = None

    @property
    def rates(self) -> Table:
        """The failure rate per attempt and per job, each with its bounds."""
        import pandas

        rows = [
            {"of": noun, "failed": each.part, "all": each.whole, "failures_percent": each.percent,
             "at_least_percent": each.low_percent, "at_most_percent": each.high_percent}
            for noun, each in (("attempts", self.attempts), ("jobs that ended", self.jobs))
        ]  # fmt: skip
        return Table(pandas.DataFrame(rows), absent="no data")

    def by_hour_chart(self) -> Chart:
        """Attempts of each hour by outcome, and the share of failures with its thresholds."""
        from runbook_lib.health.charts import runs_by_hour

        return runs_by_hour(self.hours, self.thresholds)

    def retry(self, error_class: str | None = None) -> dict[str, Any]:
        """The parameters for retrying the failed jobs of a class; without one, of the most frequent one.

        Where nothing stands in error, they fit no job.
        """
        chosen = error_class or self._most_failed()
        return {"class": chosen} if chosen else {"since": (self.since or datetime.now(UTC)).isoformat()}  # fmt: skip

    def cause_gone(self, error_class: str | None = None, *, minutes: int = 15) -> Check:
        """Whether the cause is gone: ok only when attempts completed lately and none failed of it."""
        try:
            statement = self.sources.reading(load("failure_causes")["since_then"])
            with self.sources.pipeline.transaction(read_only=True) as transaction:
                row = transaction.row(statement, error_class=error_class, minutes=minutes)
        except (RunbookError, InsufficientPrivilege, psycopg2.OperationalError) as error:
            return _gone("not_enough_data", f"It cannot be told. {one_line(str(error), 300)}", None)
        assert row is not None
        what = f"attempts with {error_class}" if error_class else "attempts"
        words = f"In the last {minutes} minutes {row.failed} {what} failed and {row.completed} attempts completed."  # fmt: skip
        if row.failed:
            return _gone("critical", f"{words} The cause is still there.", row.failed)
        if not row.completed:
            return _gone("not_enough_data", f"{words} Nothing shows yet that it works again.", 0)
        return _gone("ok", f"{words} It works again.", 0)

    def _most_failed(self) -> str | None:
        classes = [
            name for name in self.failed_jobs.frame["error_class"]
            if name not in (*NOT_COUNTED_AS_FAILURE, "unclassed")
        ]  # fmt: skip
        return classes[0] if classes else None

    def results(self) -> dict[str, Any]:
        """The figures, for the record."""
        causes = self.causes.frame
        return {
            "since": self.since,
            "attempts": self.attempts.whole,
            "attempts_failed": self.attempts.part,
            "attempts_failed_percent": _rounded(self.attempts.percent),
            "attempts_failed_low_percent": _rounded(self.attempts.low_percent),
            "attempts_failed_high_percent": _rounded(self.attempts.high_percent),
            "jobs": self.jobs.whole,
            "jobs_failed": self.jobs.part,
            "jobs_failed_percent": _rounded(self.jobs.percent),
            "at_fault": self.at_fault,
            "causes": dict(zip(causes["cause"], causes["attempts"], strict=True)),
            "failed_jobs": dict(
                zip(self.failed_jobs.frame["error_class"], self.failed_jobs.frame["jobs"], strict=True)
            ),
            "problem": self.problem,
        }  # fmt: skip


def high_failure_rate(sources: Sources, *, hours: int = 24) -> HighFailureRate:
    """What failed in the last hours, of our own pipeline or of one that is not ours. Reads only.

    Never raises for what it finds: a database that is away or closed to this role is `not_enough_data`,
    and says why.
    """
    try:
        sql = {name: sources.reading(each) for name, each in load("failure_causes").items()}
        limits = load_policy(load_settings()).thresholds
        with sources.pipeline.transaction(read_only=True) as transaction:
            return _found(transaction, sql, hours, limits, sources)
    except (RunbookError, InsufficientPrivilege, psycopg2.OperationalError) as error:
        return _without_figures(one_line(str(error), 500), sources)


def _found(
    transaction: Transaction, sql: Mapping[str, Statement], hours: int, limits: Thresholds,
    sources: Sources,
) -> HighFailureRate:  # fmt: skip
    transaction.run(load("performance")["one_snapshot"])
    window = transaction.row(sql["window"], hours=hours)
    assert window is not None
    within = {"since": window.since, "until": window.until, "left_out": list(NOT_COUNTED_AS_FAILURE)}  # fmt: skip
    outcomes = {row.outcome: row for row in transaction.rows(sql["outcomes"], **within)}
    ended = transaction.row(sql["jobs_ended"], **within)
    failed = sum(outcomes[name].attempts for name in ("error", "lost") if name in outcomes)
    completed = outcomes["completed"].attempts if "completed" in outcomes else 0
    attempts = rate(failed, failed + completed)
    jobs = rate(ended.failed, ended.failed + ended.completed) if ended else rate(0, 0)
    causes = _causes(transaction.rows(sql["causes"], row_count=MOST_CAUSES, **within))
    at_fault = _at_fault(causes)
    return HighFailureRate(
        check=_overall(attempts, jobs, causes, at_fault, hours, limits),
        since=window.since, attempts=attempts, jobs=jobs, at_fault=at_fault,
        causes=Table(causes[_COUNTED], empty="No attempt failed."),
        advice=Table(causes[_ADVICE], empty="There is nothing to act on."),
        places=Table(_places(transaction.rows(sql["places"], row_count=MOST_PLACES, **within), attempts),
                     empty="No attempt ended."),
        failed_jobs=Table(transaction.frame(sql["failed_jobs"], row_count=MOST_PLACES),
                          empty="No job stands in error: there is nothing to retry."),
        hours=_with_rates(transaction.frame(sql["hours"], **within)),
        thresholds=limits, sources=sources,
    )  # fmt: skip


def _causes(rows: list[Any]) -> pandas.DataFrame:
    """One row a class; what has no class is put under the scenario that its text tells of."""
    import pandas

    found: dict[str, dict[str, Any]] = {}
    total = sum(row.attempts for row in rows)
    for row in rows:
        scenario = scenario_of_class(row.error_class) if row.error_class else scenario_of_text(row.text)  # fmt: skip
        cause = row.error_class or ("unclassed" if scenario is UNKNOWN else scenario.id)
        entry = found.setdefault(cause, {
            "cause": cause, "attempts": 0, "share_percent": 0.0, "jobs": row.jobs, "since": row.first_seen,
            "last_seen": row.last_seen, "whose_fault": _party(scenario, cause), "meaning": scenario.meaning,
            "first_action": scenario.first_action, "procedure": scenario.procedure,
        })  # fmt: skip
        if entry["attempts"]:
            entry["jobs"] = None  # texts that differ: one job may stand in several of them
        entry["attempts"] += row.attempts
        entry["since"] = min(entry["since"], row.first_seen)
        entry["last_seen"] = max(entry["last_seen"], row.last_seen)
        entry["share_percent"] = round(100 * entry["attempts"] / total, 1)
    ordered = sorted(found.values(), key=lambda each: (-each["attempts"], each["cause"]))
    return pandas.DataFrame(ordered, columns=_CAUSES)


def _party(scenario: Scenario, cause: str) -> str:
    begins = scenario.id.split("_")[0]
    if scenario is UNKNOWN or begins == "by":
        return "not known"
    return _OTHER_PARTIES.get(scenario.id) or _PARTIES.get(begins, "not known")


def _at_fault(causes: pandas.DataFrame) -> str | None:
    if causes.empty:
        return None
    shares = causes.groupby("whose_fault")["attempts"].sum().sort_values(ascending=False)
    party = str(shares.index[0])
    most = 100 * shares.iloc[0] / shares.sum() >= MOST_OF_THEM_PERCENT
    return party if most and not party.startswith("not ") else None


def _places(rows: list[Any], overall: Rate) -> pandas.DataFrame:
    """Each place with its rate; it stands out where even the lower bound is above the rate of all."""
    import pandas

    found = []
    for row in rows:
        share = rate(row.failed, row.attempts)
        # What is not known (a model, where writing failed) is no place that could stand out.
        known = row.which != "not known" and overall.percent is not None
        out = known and (share.low_percent or 0) > (overall.percent or 0)
        found.append({
            "by": row.by_what, "which": row.which, "failed": row.failed, "attempts": row.attempts,
            "failures_percent": share.percent, "at_least_percent": share.low_percent, "stands_out": out,
        })  # fmt: skip
    return pandas.DataFrame(found, columns=_PLACES)


def _with_rates(hours: pandas.DataFrame) -> pandas.DataFrame:
    failed = hours["error"] + hours["lost"]
    counted = failed + hours["completed"]
    attempts = counted + hours["released"] + hours["left_out"]
    percent = (100 * failed / counted.where(counted > 0)).round(1)
    hours = hours.assign(attempts=attempts, failures_percent=percent)
    if not hours.empty:
        hours["hour"] = hours["hour"].dt.tz_convert("UTC")
    return hours


def _overall(
    attempts: Rate, jobs: Rate, causes: pandas.DataFrame, at_fault: str | None, hours: int,
    limits: Thresholds,
) -> Check:  # fmt: skip
    checks = [
        failure_check(
            "failures.of_hours", each, what=f"{noun} of the last {hours} hours", source=SOURCE,
            thresholds=limits,
        )
        for noun, each in (("attempts", attempts), ("jobs", jobs))
    ]  # fmt: skip
    verdict = worst_verdict(checks)
    worst = next((check for check in checks if check.verdict == verdict), checks[0])
    if causes.empty:
        return worst
    first = causes.iloc[0]
    whose = f" Most of it is with {at_fault}." if at_fault else " No single party has most of it."
    told = (
        f" Most frequent: {first['cause']}, {first['attempts']} attempts since "
        f"{first['since'].astimezone(UTC):%Y-%m-%d %H:%M} UTC."
    )
    procedure = first["procedure"] if verdict in ("warning", "critical") else None
    return replace(
        worst, message=worst.message + told + whose, procedure=procedure,
        next=f"{first['meaning']} First: {first['first_action']}" if procedure else worst.next,
    )  # fmt: skip


def _gone(verdict: Any, message: str, failed: int | None) -> Check:
    return Check(
        "failures.cause_gone", verdict, message, failed, "attempts", 0, "failure_causes.since_then",
        "that it stays gone",
        None if verdict == "ok" else "Repair the cause first; a retry before that fails the same way and is paid for again.",
    )  # fmt: skip


def _without_figures(problem: str, sources: Sources) -> HighFailureRate:
    import pandas

    none, words = rate(0, 0), f"No figures: {problem}"
    check = failure_check("failures.of_hours", none, what="attempts", source=SOURCE)
    hours = ["hour", "completed", "error", "lost", "released", "left_out", "attempts", "failures_percent"]  # fmt: skip

    return HighFailureRate(
        check=replace(check, message=f"There are no figures. {problem}"), since=None, attempts=none,
        jobs=none, at_fault=None, causes=Table(pandas.DataFrame(columns=_COUNTED), empty=words),
        advice=Table(pandas.DataFrame(columns=_ADVICE), empty=words),
        places=Table(pandas.DataFrame(columns=_PLACES), empty=words),
        failed_jobs=Table(pandas.DataFrame(columns=_FAILED_JOBS), empty=words),
        hours=pandas.DataFrame(columns=hours), thresholds=Thresholds(), sources=sources,
        problem=problem,
    )  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
