"""Slow jobs: where the time goes, what grew, and whether more jobs at once would help at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import Answer, checks_table, table
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.context import Context
from runbook_lib.health.metrics import History
from runbook_lib.health.performance import AVERAGE_LIMIT_SECONDS
from runbook_lib.health.queue_checks import in_words
from runbook_lib.health.sources import Sources
from runbook_lib.health.statement_history import StatementTimes, statement_times
from runbook_lib.health.survey import Survey, survey
from runbook_lib.health.tables import Table
from runbook_lib.policy import Policy, load_policy
from runbook_lib.settings import load_settings

if TYPE_CHECKING:
    import pandas

    from runbook_lib.health.charts import Chart

_ASKED = (
    "queue.oldest_pending", "queue.depth", "queue.pauses", "queue.concurrency", "workers.alive",
    "workers.progressing", "database.latency", "database.connections", "database.pooler", "database.blockers",
    "openai.api", "wordpress.api",
)  # fmt: skip
_CONNECTIONS = ("database.connections", "database.connections_of_role", "database.connections_of_database", "database.pooler")  # fmt: skip
# The parts that an attempt's whole time is made of, whose they are, and where to go on.
PARTS: Mapping[str, tuple[str, str, str | None]] = {
    "writing": ("OpenAI", "Look at OpenAI's status page and at the length of the articles; a faster model is a decision of level 2. Pause OpenAI if attempts run into their deadline.", "troubleshooting/openai_errors"),
    "publishing": ("WordPress", "Look at the site: its load, its plugins, its disk. Articles are stored; pause WordPress if it lasts.", "troubleshooting/wordpress_errors"),
    "own": ("the pipeline and its database", "Look at the database's latency, locks and statements below, then at the workers' hosts.", "troubleshooting/database_errors"),
}  # fmt: skip
GROWN_RATIO = 1.5
FEWEST_ATTEMPTS = 20
STATEMENTS_SHOWN = 5
_BEFORE_DAYS = 7
_STAGES = ["part", "whose", "share_percent", "attempts", "average_seconds", "p50_seconds", "p95_seconds", "p50_before_seconds", "times_before"]  # fmt: skip
_STATEMENTS = ["query", "role", "calls", "share_percent", "mean_milliseconds"]


@dataclass(frozen=True)
class Part:
    """One part of an attempt's time, now and in the week before."""

    name: str
    attempts: int
    average_seconds: float
    p50_seconds: float
    p95_seconds: float
    before_attempts: int
    p50_before_seconds: float

    @property
    def seconds(self) -> float:
        return self.attempts * self.average_seconds

    @property
    def times_before(self) -> float:
        """How many times as long as before half of them take now; NaN where too few stand behind it."""
        few = min(self.attempts, self.before_attempts) < FEWEST_ATTEMPTS
        return math.nan if few or not self.p50_before_seconds else self.p50_seconds / self.p50_before_seconds  # fmt: skip

    @property
    def grew(self) -> bool:
        return self.times_before >= GROWN_RATIO


@dataclass(frozen=True, repr=False)
class SlowJobs(Answer):
    """Where the time goes. `more_at_once` says whether anything stands against more jobs at once."""

    check: Check
    more_at_once: Check
    parts: Sequence[Part]
    survey: Survey | None
    stages: pandas.DataFrame | None
    times: StatementTimes | None
    problem: str | None = None

    def sentences(self) -> list[str]:
        return [self.more_at_once.message]

    @property
    def by_part(self) -> Table:
        """Each part's share of the time, how long it takes, and how long it took in the week before."""
        whole = sum(part.seconds for part in self.parts) or math.nan
        rows = [
            {"part": part.name, "whose": PARTS[part.name][0], "share_percent": 100 * part.seconds / whole,
             "attempts": part.attempts, "average_seconds": part.average_seconds, "p50_seconds": part.p50_seconds,
             "p95_seconds": part.p95_seconds, "p50_before_seconds": part.p50_before_seconds,
             "times_before": part.times_before}
            for part in self.parts
        ]  # fmt: skip
        return table(rows, _STAGES, self.problem or "No attempt completed in this time.", absent="too few",
                     decimals={"average_seconds": 2, "p50_seconds": 2, "p95_seconds": 2, "p50_before_seconds": 2, "times_before": 2})  # fmt: skip

    @property
    def around(self) -> Table:
        """Queue, workers, providers and database, the worst first."""
        found = self.survey.worst_first() if self.survey else []
        return checks_table([*found, self.more_at_once], self.check.message)

    @property
    def statements(self) -> Table:
        """The statements that took the most time of the database."""
        rows = self.times.statements[:STATEMENTS_SHOWN] if self.times else ()
        shown = [{**row, "query": one_line(row["query"], 160)} for row in rows]
        return table(shown, _STATEMENTS, self.times.message if self.times else self.check.message)

    def parts_chart(self) -> Chart:
        """The share of an attempt's time that each part took."""
        from runbook_lib.maintenance.charts import shares

        rows = [
            (
                f"{part.name}\n({PARTS[part.name][0].split(' and ')[0].removeprefix('the ')})",
                part.seconds,
            )
            for part in self.parts
        ]
        return shares(sorted(rows, key=lambda row: -row[1]), "seconds of all attempts together", self.problem or "No attempt completed in this time.")  # fmt: skip

    def durations_chart(self) -> Chart:
        """Half, 95 % and 99 % of the attempts by stage, with the written runbook's limit."""
        from runbook_lib.health.charts import durations
        from runbook_lib.maintenance.charts import nothing_to_draw

        if self.stages is None:
            return nothing_to_draw("Durations are not known.")
        return durations(self.stages, AVERAGE_LIMIT_SECONDS)

    def results(self) -> dict[str, Any]:
        """The figures, for the record."""
        return {
            "parts": {
                part.name: {"attempts": part.attempts, "average_seconds": round(part.average_seconds, 3),
                            "times_before": None if math.isnan(part.times_before) else round(part.times_before, 2)}
                for part in self.parts
            },
            "grown": [part.name for part in self.parts if part.grew],
            "more_at_once": self.more_at_once.verdict,
            "verdicts": {each.name: each.verdict for each in self.survey.checks} if self.survey else {},
            "problem": self.problem,
        }  # fmt: skip


def slow_jobs(sources: Sources, *, hours: int = 24) -> SlowJobs:
    """Looks at where the time of the last hours went, beside the week before; changes nothing.

    Never raises for what it finds: with the database away, or without the columns, it says what is not known.
    """
    try:
        settings = load_settings()
        context = Context(settings, load_policy(settings), sources)
        found = survey(context, only=_ASKED, deadline_seconds=10)
    except RunbookError as error:
        return _without_figures(one_line(str(error), 500), None)
    try:
        with History(context) as history:
            since = history.now() - timedelta(hours=hours)
            stages = history.durations(since)
            before = history.durations(since - timedelta(days=_BEFORE_DAYS), since)
            failures = history.failures(since)
    except (RunbookError, psycopg2.Error) as error:
        problem = one_line((str(error).strip().splitlines() or [type(error).__name__])[0], 300)
        return _without_figures(problem, found)
    parts = _parts(stages, before)
    limited = int(sum(row["attempts"] for row in failures.to_dict("records") if str(row["error_class"]).endswith("_rate_limited")))  # fmt: skip
    return SlowJobs(
        check=_check(found, parts, hours), more_at_once=_more_at_once(found, parts, limited, context.policy),
        parts=parts, survey=found, stages=stages, times=statement_times(context, hours),
    )  # fmt: skip


def _parts(stages: pandas.DataFrame, before: pandas.DataFrame) -> list[Part]:
    now = {row["stage"]: row for row in stages.to_dict("records")}
    then = {row["stage"]: row for row in before.to_dict("records")}
    return [
        Part(
            name, int(now[name]["attempts"]), now[name]["average_seconds"], now[name]["p50_seconds"],
            now[name]["p95_seconds"], int(then[name]["attempts"]) if name in then else 0,
            then[name]["p50_seconds"] if name in then else math.nan,
        )
        for name in PARTS
        if name in now
    ]  # fmt: skip


def _check(found: Survey, parts: Sequence[Part], hours: int) -> Check:
    """What is slow: first whether jobs wait, then what of an attempt grew."""
    waiting = found.named("queue.oldest_pending")
    grown = sorted((part for part in parts if part.grew), key=lambda part: -part.times_before)
    if waiting is not None and waiting.verdict in ("warning", "critical"):
        words, advice, procedure = _why_they_wait(found, waiting)
        return _told(waiting.verdict, words, advice, procedure, waiting.value, "s")
    if grown:
        part = grown[0]
        whose, advice, elsewhere = PARTS[part.name]
        words = f"{part.name.capitalize()} takes {part.times_before:.1f} times as long as in the week before: half of the attempts within {part.p50_seconds:.1f} s. That is {whose}."
        return _told("warning", words, advice, elsewhere, round(part.times_before, 2), "times")
    if not parts:
        return _told("not_enough_data", f"No attempt completed in {hours} hours, so nothing can be said of how long one takes.", None, None, None, None)  # fmt: skip
    most = max(parts, key=lambda part: part.seconds)
    share = 100 * most.seconds / (sum(part.seconds for part in parts) or 1)
    words = f"Nothing waits for long and nothing grew. {share:.0f} % of the time is {most.name}: {PARTS[most.name][0]}."
    return _told("ok", words, None, None, round(share, 1), "percent")


def _told(
    verdict: Verdict, words: str, advice: str | None, procedure: str | None, value: Any, unit: str | None
) -> Check:  # fmt: skip
    return Check("jobs.slow", verdict, words, value, unit, None, "history.durations",
                 "that each single job is fast: these are halves and tails of many", advice, procedure=procedure)  # fmt: skip


def _why_they_wait(found: Survey, waiting: Check) -> tuple[str, str | None, str | None]:
    for name in ("workers.alive", "queue.pauses", "workers.progressing", "database.blockers"):
        check = found.named(name)
        if check is not None and check.verdict in ("warning", "critical"):
            return f"{waiting.message} The reason: {check.message}", check.next, check.procedure
    words = (
        f"{waiting.message} Workers run and nothing is paused: they are busy, or held to a limit."
    )
    return words, "See below what stands against more jobs at once.", None


def _more_at_once(found: Survey, parts: Sequence[Part], rate_limited: int, policy: Policy) -> Check:
    against = [*_no_need(found), *_no_room(found, rate_limited), *_slow_elsewhere(parts, policy)]
    name = "jobs.more_at_once"
    if against:
        return Check(name, "warning", f"More jobs at once would not help: {'; '.join(against)}.", len(against), "reasons", 0, "slow_jobs",
                     next="See to these first. More jobs at once would make them worse.", details={"against": against})  # fmt: skip
    return Check(
        name, "ok", "Nothing that is seen stands against more jobs at once. Whether it helps only a trial tells.", 0, "reasons", 0, "slow_jobs",
        "that the providers allow more: their limits are not all known here",
        "Level 2 raises RUNBOOK_CONCURRENCY of one worker by a quarter, and looks here again after an hour.",
    )  # fmt: skip


def _no_need(found: Survey) -> list[str]:
    depth, alive = found.named("queue.depth"), found.named("workers.alive")
    against = []
    if depth is not None and depth.answered and not depth.value:
        against.append("no job waits")
    if alive is not None and alive.answered:
        running = alive.details.get("running", ())
        free = sum(max(0, each["capacity"] - each["in_flight"]) for each in running)
        if not running:
            against.append("no worker runs: start one first")
        elif free and depth is not None and depth.value:
            against.append(
                f"{free} jobs more could be in hand already, so something else holds them back"
            )
    return against


def _no_room(found: Survey, rate_limited: int) -> list[str]:
    against = []
    for name in _CONNECTIONS:
        check = found.named(name)
        if check is not None and check.verdict in ("warning", "critical"):
            against.append(f"connections are short ({name})")
    connections = found.named("database.connections")
    if connections is None or not connections.answered:
        against.append("it is not known whether connections are left")
    if rate_limited:
        against.append(f"{rate_limited} attempts met a rate limit")
    for name, words in (
        ("queue.pauses", "a provider is paused"), ("queue.concurrency", "the limit of jobs at once is reached"),
        ("database.blockers", "sessions wait for locks"), ("openai.api", "OpenAI is not well"), ("wordpress.api", "WordPress is not well"),
    ):  # fmt: skip
        check = found.named(name)
        if check is not None and check.verdict in ("warning", "critical"):
            against.append(words)
    return against


def _slow_elsewhere(parts: Sequence[Part], policy: Policy) -> list[str]:
    """A model or a site that is slow gets slower with more at once."""
    limits = policy.thresholds
    longest = {
        "writing": limits.openai_p95_warning_seconds, "publishing": limits.wordpress_p95_warning_seconds,
    }  # fmt: skip
    against = []
    for part in parts:
        limit = longest.get(part.name, math.inf)
        if part.grew:
            against.append(f"{part.name} takes {part.times_before:.1f} times as long as before")
        elif part.p95_seconds > limit:
            against.append(
                f"{part.name} is slow: 95 % within {in_words(part.p95_seconds)}, {in_words(limit)} are expected"
            )
    return against


def _without_figures(problem: str, found: Survey | None) -> SlowJobs:
    check = Check("jobs.slow", "not_enough_data", f"Not known: {problem}")
    more = Check("jobs.more_at_once", "warning", "More jobs at once are not advised: nothing is known of what they would meet.", 1, "reasons", 0, "slow_jobs")  # fmt: skip
    return SlowJobs(check, more, (), found, None, None, problem)
