"""Errors of OpenAI and of WordPress: how often, last seen when, still going on, and what is safe to do first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import psycopg2
from psycopg2.errors import InsufficientPrivilege

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import Answer, checks_table, table
from runbook_lib.health.checks import Check, Verdict, worst_verdict
from runbook_lib.health.context import Context
from runbook_lib.health.sources import Sources
from runbook_lib.health.survey import survey
from runbook_lib.health.tables import Table
from runbook_lib.pipeline.brakes import provider_states
from runbook_lib.pipeline.error_guide import (
    SCENARIOS,
    Scenario,
    scenario_of_class,
    scenario_of_text,
)
from runbook_lib.pipeline.failures import NOT_COUNTED_AS_FAILURE
from runbook_lib.policy import load_policy
from runbook_lib.settings import load_settings

Provider = Literal["openai", "wordpress"]
SOURCE = "failure_causes.causes"
_MOST_CAUSES = 500
# With these a provider takes nothing from us at all, so what is left to do is not to wait.
_BLOCKING = {"openai": ("openai_quota", "openai_key", "openai_configuration"), "wordpress": ("wordpress_login",)}  # fmt: skip
_CHECKS = {
    "openai": ("openai", "openai.quota_seen", "openai.usage", "cost.daily_cap"),
    "wordpress": ("wordpress",),
}
# Whether trying again helps, in a sentence: more retries are never the answer to money or to a key.
RETRYING: Mapping[str, str] = {
    "openai_quota": "No. It is money, not patience: every retry is refused the same way.",
    "openai_rate_limit": "Slower, not more often: workers wait as long as OpenAI asks, all of them together.",
    "openai_key": "No. The same key is refused every time.",
    "openai_configuration": "No. Every request fails alike until the setting is right.",
    "openai_trouble": "Yes, and it happens by itself, later each time.",
    "topic_refused": "No. The same topic is refused again: reword it.",
    "wordpress_login": "No. The same login is refused every time.",
    "wordpress_site": "Yes, and it happens by itself; articles are stored and not written again.",
    "wordpress_category": "Only after the category is there.",
    "wordpress_post": "Only after somebody has looked at the post.",
}
_NAMES = {"openai": "OpenAI", "wordpress": "WordPress"}


@dataclass(frozen=True)
class Seen:
    """One scenario of the guide, as it was met in the hours that are looked at."""

    scenario: Scenario
    attempts: int = 0
    jobs: int = 0
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    sample: str | None = None

    def goes_on(self, last_success: datetime | None) -> bool:
        """Whether nothing succeeded after it."""
        return self.last_seen is not None and (last_success is None or self.last_seen > last_success)  # fmt: skip


@dataclass(frozen=True)
class ProviderErrors(Answer):
    """A provider's errors. Shown in a notebook, it is the answer; `problem` says why there are no figures."""

    check: Check
    provider: Provider
    hours: int
    attempts: int
    seen: tuple[Seen, ...]
    last_success: datetime | None
    checks: tuple[Check, ...]
    brakes_now: Mapping[str, Any] | None = None
    problem: str | None = None

    @property
    def scenarios(self) -> Table:
        """Every scenario with its frequency and when it was last seen; most frequent first."""
        ordered = sorted(self.seen, key=lambda each: -each.attempts)
        rows = [
            {"error": each.scenario.title, "attempts": each.attempts, "jobs": each.jobs,
             "first_seen": each.first_seen, "last_seen": each.last_seen,
             "goes_on": each.goes_on(self.last_success) if each.attempts else None}
            for each in ordered
        ]  # fmt: skip
        return table(rows, ("error", "attempts", "jobs", "first_seen", "last_seen", "goes_on"), "No figures.")  # fmt: skip

    @property
    def first_actions(self) -> Table:
        """For each error that was met, or all if none was: what is safe to do first, and whether retrying helps."""
        met = [each for each in self.seen if each.attempts] or list(self.seen)
        rows = [
            {"error": each.scenario.title, "first": each.scenario.first_action,
             "does_retrying_help": RETRYING.get(each.scenario.id, "It is told by the job's attempts."),
             "then": " ".join(each.scenario.advice)}
            for each in met
        ]  # fmt: skip
        return table(rows, ("error", "first", "does_retrying_help", "then"), "Nothing was met.")

    @property
    def samples(self) -> Table:
        """The newest text of each error that was met, masked."""
        rows = [
            {"error": each.scenario.title, "newest_text": one_line(each.sample or "", 300)}
            for each in self.seen
            if each.attempts
        ]
        return table(rows, ("error", "newest_text"), "No attempt failed with an error of this provider.")  # fmt: skip

    @property
    def live(self) -> Table:
        """What the provider answers now; asking costs nothing."""
        return checks_table(self.checks)

    @property
    def brakes(self) -> Table:
        """Whether it is paused, and which limits hold for all workers together."""
        rows = [] if self.brakes_now is None else [
            {"what": name.replace("_", " "), "now": "none" if value is None else str(value)}
            for name, value in self.brakes_now.items()
        ]  # fmt: skip
        return table(rows, ("what", "now"), "Not known: this pipeline has no brakes of ours.")

    def results(self) -> dict[str, Any]:
        """The figures, for the record."""
        return {
            "hours": self.hours,
            "attempts": self.attempts,
            "errors": {each.scenario.id: each.attempts for each in self.seen},
            "goes_on": [each.scenario.id for each in self.seen if each.goes_on(self.last_success)],
            "last_success": self.last_success,
            "checks": {check.name: check.verdict for check in self.checks},
            "problem": self.problem,
        }


def openai_errors(sources: Sources, *, hours: int = 24, deadline_seconds: float = 10) -> ProviderErrors:  # fmt: skip
    """OpenAI's errors of the last hours, and what it says now. Only reads, costs no token, never raises."""
    return _provider_errors(sources, "openai", hours, deadline_seconds)


def wordpress_errors(sources: Sources, *, hours: int = 24, deadline_seconds: float = 10) -> ProviderErrors:  # fmt: skip
    """WordPress's errors of the last hours, and what the site says now. Only reads, never raises."""
    return _provider_errors(sources, "wordpress", hours, deadline_seconds)


def _provider_errors(
    sources: Sources, provider: Provider, hours: int, deadline_seconds: float
) -> ProviderErrors:
    seen, last_success, attempts, problem = _met(sources, provider, hours)
    checks, trouble = _asked(sources, provider, deadline_seconds)
    check = _overall(provider, hours, attempts, seen, last_success, checks, problem or trouble)
    return ProviderErrors(
        check, provider, hours, attempts, seen, last_success, checks, _brakes(sources, provider), problem
    )  # fmt: skip


def _met(
    sources: Sources, provider: Provider, hours: int
) -> tuple[tuple[Seen, ...], datetime | None, int, str | None]:
    none = tuple(Seen(scenario) for scenario in _scenarios(provider))
    try:
        sql = {name: sources.reading(each) for name, each in load("failure_causes").items()}
        with sources.pipeline.transaction(read_only=True) as transaction:
            window = transaction.row(sql["window"], hours=hours)
            assert window is not None
            within = {"since": window.since, "until": window.until}
            rows = transaction.rows(sql["causes"], row_count=_MOST_CAUSES, left_out=list(NOT_COUNTED_AS_FAILURE), **within)  # fmt: skip
            success = transaction.row(
                sources.reading(load("provider_errors")["last_success"]), **within
            )
    except (RunbookError, InsufficientPrivilege, psycopg2.OperationalError) as error:
        return none, None, 0, one_line(str(error).splitlines()[0], 500)
    assert success is not None
    return _by_scenario(none, rows), getattr(success, provider), success.attempts, None


def _scenarios(provider: Provider) -> Iterable[Scenario]:
    return (each for each in SCENARIOS if each.procedure == f"troubleshooting/{provider}_errors")


def _by_scenario(none: Sequence[Seen], rows: Iterable[Any]) -> tuple[Seen, ...]:
    found = {seen.scenario.id: seen for seen in none}
    for row in rows:
        scenario = scenario_of_class(row.error_class) if row.error_class else scenario_of_text(row.text)  # fmt: skip
        before = found.get(scenario.id)
        if before is None:
            continue
        newer = before.last_seen is None or row.last_seen > before.last_seen
        found[scenario.id] = replace(
            before,
            attempts=before.attempts + row.attempts,
            jobs=before.jobs + row.jobs,
            first_seen=min(filter(None, (before.first_seen, row.first_seen))),
            last_seen=row.last_seen if newer else before.last_seen,
            sample=row.sample if newer else before.sample,
        )
    return tuple(found.values())


def _asked(
    sources: Sources, provider: Provider, deadline_seconds: float
) -> tuple[tuple[Check, ...], str | None]:
    try:
        settings = load_settings()
        context = Context(settings, load_policy(settings), sources)
        found = survey(context, only=_CHECKS[provider], deadline_seconds=deadline_seconds)
    except RunbookError as error:
        return (), one_line(str(error), 500)
    return found.checks, None


def _brakes(sources: Sources, provider: Provider) -> Mapping[str, Any] | None:
    if sources.attached:
        return None
    try:
        state = next(each for each in provider_states(sources.bookkeeping) if each.provider == provider)  # fmt: skip
    except (RunbookError, psycopg2.Error, StopIteration):
        return None
    pause = state.pause
    return {
        "paused": f"since {pause.paused_at:%Y-%m-%d %H:%M} UTC by {pause.paused_by}: {one_line(pause.reason, 200)}" if pause else "no",
        "jobs_there_now": state.in_flight,
        "jobs_there_at_most": state.concurrency,
        "requests_a_minute_at_most": state.requests_per_minute,
        "requests_today": state.requests_today,
        "tokens_today": state.tokens_today,
        "cost_today_usd": f"{state.cost_usd_today:.2f}",
        "cost_a_day_at_most_usd": state.daily_cost_usd,
    }  # fmt: skip


def _overall(
    provider: Provider, hours: int, attempts: int, seen: Sequence[Seen], last_success: datetime | None,
    checks: Sequence[Check], problem: str | None,
) -> Check:  # fmt: skip
    name = f"{provider}.errors"
    refused = next((check for check in checks if check.verdict == "critical"), None)
    met = sorted((each for each in seen if each.attempts), key=lambda each: -each.attempts)
    blocking = [each for each in met if each.scenario.id in _BLOCKING[provider] and each.goes_on(last_success)]  # fmt: skip
    failed = sum(each.attempts for each in met)
    words = f"Of {attempts} attempts in the last {hours} hours {failed} met an error of {_NAMES[provider]}."
    if problem is not None:
        words = f"There are no figures. {problem}"
    if met:
        words += f" Most frequent: {met[0].scenario.title}, {met[0].attempts} times, last at {_time(met[0].last_seen)}."
    if blocking:
        return _told(
            name,
            "critical",
            f"{words} It goes on: nothing succeeded since.",
            failed,
            blocking[0].scenario,
        )
    if refused is not None:
        words += f" Now: {refused.message}"
        return Check(name, "critical", words, failed, "attempts", 0, SOURCE, next=refused.next)
    if problem is not None:
        return Check(name, "not_enough_data", words, source=SOURCE, next="`runbook doctor`")
    if met:
        return _told(name, "warning", words, failed, met[0].scenario)
    if worst_verdict(checks) == "warning":
        warned = next(check for check in checks if check.verdict == "warning")
        return Check(
            name,
            "warning",
            f"{words} Now: {warned.message}",
            0,
            "attempts",
            0,
            SOURCE,
            next=warned.next,
        )
    if not attempts and not any(check.answered for check in checks):
        return Check(name, "not_enough_data", words, 0, "attempts", 0, SOURCE)
    return Check(name, "ok", f"{words} It answers as it should.", 0, "attempts", 0, SOURCE)


def _told(name: str, verdict: Verdict, words: str, failed: int, scenario: Scenario) -> Check:
    retrying = RETRYING.get(scenario.id, "")
    return Check(
        name, verdict, words, failed, "attempts", 0, SOURCE,
        next=f"{scenario.meaning} First: `{scenario.first_action}`. Does trying again help? {retrying}",
    )  # fmt: skip


def _time(moment: datetime | None) -> str:
    return "an unknown time" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
