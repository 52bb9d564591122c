"""The diagnosis: evidence, facts and causes put together for a person, a page, a notebook and a program."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import UnavailableDatabase
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL, RunbookError
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.context import Context
from runbook_lib.health.probes.configuration import Configuration
from runbook_lib.health.sources import Sources, open_sources
from runbook_lib.health.tables import Table
from runbook_lib.policy import Policy, load_policy
from runbook_lib.settings import Settings, load_settings, named_env_file
from runbook_lib.triage.attempts import Attempts, most_by
from runbook_lib.triage.causes import DATABASE_ERRORS, OPENAI_ERRORS, WORDPRESS_ERRORS
from runbook_lib.triage.clock_facts import clock_facts
from runbook_lib.triage.content_facts import content_facts
from runbook_lib.triage.database_facts import database_facts
from runbook_lib.triage.evidence import DEADLINE_SECONDS, Evidence, NotChecked, collect
from runbook_lib.triage.facts import LAYERS, Fact, Facts
from runbook_lib.triage.failure_facts import failure_facts
from runbook_lib.triage.fleet_facts import fleet_facts
from runbook_lib.triage.judgement import GENERIC, Found, Judgement, judge
from runbook_lib.triage.provider_facts import provider_facts
from runbook_lib.triage.queue_facts import queue_facts
from runbook_lib.triage.scheduler_facts import scheduler_facts
from runbook_lib.triage.settings_facts import settings_facts
from runbook_lib.triage.worker_facts import worker_facts
from runbook_lib.triage.write_facts import write_facts

if TYPE_CHECKING:
    import pandas

    from runbook_lib.health.charts import Chart

VERDICTS: Mapping[str, Verdict] = {
    "healthy": "ok", "watch": "warning", "fault": "critical", "unknown": "not_enough_data",
}  # fmt: skip
SYSTEM_DOWN = "emergency/system_down"
# Where to look on when trouble is narrowed to a layer, and no cause of it is known.
LOOK_ON: Mapping[str, str] = {
    **dict.fromkeys(("query", "claim", "record"), DATABASE_ERRORS), "generate": OPENAI_ERRORS,
    **dict.fromkeys(("draft", "publish"), WORDPRESS_ERRORS), "workers": "emergency/stuck_jobs", "data": "emergency/bad_content",
}  # fmt: skip
_NAMED = 3
# As workers write it beside a pause that the day's limit of costs or tokens made.
DAILY_CAP = "daily_cap_reached"


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong, what is safe, and on what evidence. Shown in a notebook, it is the answer in one look."""

    judgement: Judgement
    facts: Facts
    evidence: Evidence
    not_checked: tuple[NotChecked, ...]
    seconds: float

    @property
    def verdict(self) -> str:
        return self.judgement.verdict

    @property
    def causes(self) -> tuple[Found, ...]:
        return self.judgement.causes

    @property
    def first(self) -> Found | None:
        return self.causes[0] if self.causes else None

    @property
    def layer(self) -> str | None:
        return self.judgement.layer

    @property
    def next_step(self) -> str | None:
        """Where no cause is known: what the probe that saw the trouble advises, or where to look on. Changes nothing."""
        if self.verdict != "unknown":
            return None
        advised = next(
            (fact.next for fact in _telling(self.judgement.unexplained) if fact.next), None
        )
        procedure = LOOK_ON.get(self.layer or "")
        look = f"Look on: runbook run {procedure}" if procedure else "Look on: runbook doctor"
        return f"{advised} {look}" if advised else look

    @property
    def waiting(self) -> tuple[str, ...]:
        """What is paused, until when, and what lets it go on once its reason is gone: a sentence for each provider."""
        rows = self.evidence.rows.get("pauses", ())
        return tuple(_pause_in_words(row) for row in rows if self.verdict != "healthy")

    # for programs

    @property
    def exit_status(self) -> int:
        return EXIT_NOT_WELL if self.verdict in ("fault", "unknown") else EXIT_DONE

    @property
    def check(self) -> Check:
        first = self.first
        return Check(
            "triage.verdict", VERDICTS[self.verdict], self.in_words(), [each.cause.id for each in self.causes], None, None, "triage",
            "that nothing else is wrong: " + str(len(self.not_checked)) + " things could not be looked at" if self.not_checked else None,
            first.action.words if first else None, first.cause.procedure if first and first.cause.procedure != SYSTEM_DOWN else None,
            details={"layer": self.layer},
        )  # fmt: skip

    def as_dictionary(self) -> dict[str, Any]:
        """The form that other programs read."""
        return {
            "verdict": self.verdict,
            "layer": self.layer,
            "causes": [_as_dictionary(each) for each in self.causes],
            "next_step": self.next_step,
            "waiting": list(self.waiting),
            "scope": self.scope(),
            "unexplained": [fact.cited() for fact in self.judgement.unexplained],
            "not_checked": [{"what": each.what, "why": each.why} for each in self.not_checked],
            "seconds": self.seconds,
        }

    def scope(self) -> dict[str, Any]:
        """What fails: since when, which jobs, models, categories and workers; and what changed around then."""
        failures = Attempts(self.evidence.rows.get("newest_attempts", ())).newest_failures()
        since = min((row.execution_time for row in failures), default=None)
        return {
            "failed_attempts": len(failures),
            "jobs": len({row.job_id for row in failures}),
            "since": since.isoformat() if since else None,
            "workers": sorted({str(row.worker) for row in failures if row.worker})[:10],
            "models": sorted({str(row.model) for row in failures if row.model})[:10],
            "categories": sorted({str(row.category) for row in failures if row.category})[:10],
            "most_frequent": most_by(failures, "error_class")[0],
            "changes": [
                {
                    "at": row.changed_at.isoformat(),
                    "kind": row.kind,
                    "who": row.who,
                    "what": one_line(row.what or "", 200),
                }
                for row in self.evidence.rows.get("recent_changes", ())
            ][:10],
        }

    def results(self) -> dict[str, Any]:
        """For the record of a run."""
        return {
            "triage": self.verdict, "layer": self.layer, "causes": [each.cause.id for each in self.causes],
            "confidence": [each.confidence for each in self.causes],
            "first_action": self.first.action.command if self.first else None,
            "not_checked": len(self.not_checked), "seconds": self.seconds,
        }  # fmt: skip

    # for people

    def in_words(self) -> str:
        """The answer in a sentence or two."""
        if self.judgement.maintenance:
            return self.judgement.maintenance
        if self.first is not None:
            told = f"{self.first.cause.title} ({self.first.cause.id}, layer: {self.layer})"
            beside = [each.cause.id for each in self.causes[1:] if each.over is self.first.over]
            past = [each.cause.id for each in self.causes[1:] if each.over and not self.first.over]
            told += f" Beside it: {', '.join(beside)}." if beside else ""
            told += f" Over by now: {', '.join(past)}." if past else ""
            severe = next((fact for fact in self.judgement.unexplained if fact.severe), None)
            return told + (f" Not explained by it: {severe.words}" if severe else "")
        if self.verdict == "unknown":
            told = " ".join(fact.words for fact in _telling(self.judgement.unexplained)[:_NAMED])
            return f"No known cause fits. The trouble is at the layer “{self.layer}”. {told}"
        if self.verdict == "watch":
            told = " ".join(fact.words for fact in self.judgement.unexplained[:_NAMED])
            return f"Nothing is broken that needs an action now; worth watching: {told}"
        return "Every layer does its work."

    @property
    def what_to_do(self) -> Table:
        """Each cause with its first safe action, and who may do it."""
        rows = [
            {"cause": each.cause.id, "confidence": each.confidence, "what_is_wrong": each.cause.title, "first_action": each.action.words,
             "command": each.action.command, "by_itself": _AUTOMATION[each.action.automation], "never": each.action.never or ""}
            for each in self.causes
        ]  # fmt: skip
        return Table(_frame(rows, ["cause", "confidence", "what_is_wrong", "first_action", "command", "by_itself", "never"]),
                     decimals={"confidence": 2}, empty="No cause was named, so there is no action that would be known to be safe.")  # fmt: skip

    @property
    def why(self) -> Table:
        """The evidence of each cause; where none is named, what does not do its work."""
        rows = [
            {"cause": each.cause.id, "evidence": fact.words, "value": in_short(fact.value), "threshold": in_short(fact.threshold), "from": fact.source}
            for each in self.causes for fact in each.evidence
        ]  # fmt: skip
        rows += [
            {"cause": "?", "evidence": fact.words, "value": in_short(fact.value), "threshold": in_short(fact.threshold), "from": fact.source}
            for fact in self.judgement.unexplained
        ]  # fmt: skip
        return Table(
            _frame(rows, ["cause", "evidence", "value", "threshold", "from"]),
            empty="Nothing speaks for any trouble.",
        )

    @property
    def scope_and_changes(self) -> Table:
        """What changed in the last hours, the newest first: one of these may be the reason, or none."""
        rows = self.scope()["changes"]
        return Table(
            _frame(rows, ["at", "kind", "who", "what"]),
            empty="Nothing that leaves a row changed within six hours.",
        )

    @property
    def could_not_be_told(self) -> Table:
        rows = [{"what": each.what, "why": each.why} for each in self.not_checked]
        return Table(_frame(rows, ["what", "why"]), empty="Everything could be looked at.")

    def layers(self) -> list[tuple[str, str, str]]:
        """Each layer as (name, state, words): broken, worth a look, does its work, or not known."""
        found = []
        for layer in LAYERS:
            facts = [fact for fact in self.facts if fact.layer == layer]
            bad = [fact for fact in facts if fact.symptom and fact.holds]
            named = [each for each in self.causes if each.cause.layer == layer]
            if named or any(fact.severe for fact in bad):
                words = named[0].cause.id if named else bad[0].words
                found.append((layer, "broken", words))
            elif bad:
                found.append((layer, "look", bad[0].words))
            elif any(fact.holds is not None for fact in facts):
                found.append((layer, "works", ""))
            else:
                found.append((layer, "not known", ""))
        return found

    def layers_chart(self) -> Chart:
        """The way of a job through the layers, and where it breaks."""
        from runbook_lib.triage.layers_chart import draw_layers

        return draw_layers(self.layers(), self.first.cause.title if self.first else self.in_words())

    def __repr__(self) -> str:
        return f"{self.verdict}: {self.in_words()}"

    def _repr_html_(self) -> str:
        lines = [
            f"<p><strong>{html.escape(self.verdict)}</strong>: {html.escape(self.in_words())}</p>"
        ]
        if self.next_step:
            lines.append(
                f"<p><strong>No action is known to be safe.</strong> {html.escape(self.next_step)}</p>"
            )
        for each in self.causes[:_NAMED]:
            action = each.action
            lines.append(
                f"<p><strong>Safe first:</strong> {html.escape(action.words)} <code>{html.escape(action.command)}</code></p>"
            )
            if action.never:
                lines.append(f"<p><strong>Not this:</strong> {html.escape(action.never)}</p>")
        lines += [f"<p>{html.escape(each)}</p>" for each in self.waiting]
        since = self.scope()["since"]
        if self.verdict in ("fault", "unknown") and since:
            scope = self.scope()
            lines.append(
                f"<p>{scope['failed_attempts']} attempts of {scope['jobs']} jobs failed, the first at {html.escape(since[11:16])} UTC.</p>"
            )
            changed = "; ".join(
                f"{each['at'][11:16]} {each['kind']} ({each['who']}): {one_line(each['what'], 80)}"
                for each in scope["changes"][:_NAMED]
            )
            lines.append(
                f"<p><strong>Changed lately</strong>, one of these or none may be the reason: {html.escape(changed)}.</p>"
                if changed
                else ""
            )
        return f'<div class="verdict verdict-{VERDICTS[self.verdict]}">{"".join(lines)}</div>'


_AUTOMATION = {"Y": "safe by itself", "P": "a person confirms", "N": "only a person"}


def diagnose(sources: Sources, *, deadline_seconds: float = DEADLINE_SECONDS) -> Diagnosis:
    """Looks at everything at once and says what is wrong. Changes nothing, costs nothing, never raises for what it finds."""
    started = time.monotonic()
    settings, policy, problem = _settings()
    found = collect(
        Context(settings or _fallback(), policy, sources), deadline_seconds=deadline_seconds
    )
    return assess(replace(found, settings_problem=problem), policy, time.monotonic() - started)


def diagnose_context(context: Context, *, deadline_seconds: float = DEADLINE_SECONDS) -> Diagnosis:
    """As `diagnose`, where settings and policy are at hand."""
    started = time.monotonic()
    found = collect(context, deadline_seconds=deadline_seconds)
    return assess(found, context.policy, time.monotonic() - started)


def assess(evidence: Evidence, policy: Policy, seconds: float = 0.0) -> Diagnosis:
    """The judgement on what was answered: nothing but the evidence and the thresholds goes into it."""
    attempts = Attempts(evidence.rows.get("newest_attempts", ()))
    facts = Facts.of(
        [
            *database_facts(evidence),
            *provider_facts(evidence),
            *failure_facts(evidence, attempts),
            *content_facts(evidence, attempts),
            *queue_facts(evidence, attempts),
            *worker_facts(evidence, attempts),
            *fleet_facts(evidence, attempts),
            *write_facts(evidence, attempts),
            *clock_facts(evidence, attempts, policy),
            *scheduler_facts(evidence),
            *settings_facts(evidence, policy),
        ]
    )
    return Diagnosis(
        judge(facts),
        facts,
        evidence,
        _grouped(evidence.not_checked),
        round(seconds, 2),
    )


def diagnose_here(*, deadline_seconds: float = DEADLINE_SECONDS) -> Diagnosis:
    """As `diagnose`, of the system that this process's settings name, also when they do not fit, or when its
    database cannot be opened. Never raises for what it finds."""
    settings, _, _ = _settings()
    try:
        sources = open_sources(settings or _fallback(), "runbook triage", require_schema=False)
    except RunbookError as error:
        unavailable = UnavailableDatabase(error)
        sources = Sources(unavailable, unavailable)
    with sources:
        return diagnose(sources, deadline_seconds=deadline_seconds)


def _settings() -> tuple[Settings | None, Policy, str | None]:
    try:
        settings = load_settings()
        settings.sandboxed()
        return settings, load_policy(settings), None
    except RunbookError as error:
        return None, Policy(), one_line(str(error), 500)


def _fallback() -> Settings:
    """Where the database is, of settings that do not fit as a whole: so that the rest is still looked at."""
    found = Configuration.of_this_process(named_env_file())
    url = found.value("DATABASE_URL")
    return Settings.model_construct(
        database_url=SecretStr(url) if url else None,
        runbook_database_schema=found.value("RUNBOOK_DATABASE_SCHEMA") or "public",
        runbook_home=Path(
            found.value("RUNBOOK_HOME") or Settings.model_fields["runbook_home"].default
        ).absolute(),
    )


def _pause_in_words(row: Any) -> str:
    begun, provider = row.paused_at.astimezone(UTC), row.provider
    told = f"{provider} is paused since {begun:%H:%M} UTC ({row.error_class or row.reason})"
    end = f"{row.until.astimezone(UTC):%H:%M} UTC" if row.until else None
    if row.error_class == DAILY_CAP:
        return f"{told}, until {end} or a higher limit: runbook limits show."
    if row.automatic:
        return f"{told}; one job tries again at {end}. Once it is repaired, this lets all go on at once: runbook resume {provider}"
    return f"{told} by {row.paused_by}{f', until {end}' if end else ''}. This ends it: runbook resume {provider}"


def _grouped(not_checked: tuple[NotChecked, ...]) -> tuple[NotChecked, ...]:
    """What failed for one reason in one line."""
    by_reason: dict[str, list[str]] = {}
    for each in not_checked:
        by_reason.setdefault(each.why, []).append(each.what)
    return tuple(
        NotChecked(
            names[0]
            if len(names) == 1
            else f"{', '.join(names[:_NAMED])}{f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''}",
            why,
        )
        for why, names in by_reason.items()
    )


def _as_dictionary(found: Found) -> dict[str, Any]:
    cause = found.cause
    return {
        "id": cause.id, "layer": cause.layer, "confidence": found.confidence, "title": cause.title,
        "evidence": [_plain(fact.cited()) for fact in found.evidence],
        "first_action": found.action.words,
        "command": found.action.command,
        "plan": {"kind": found.action.change, "parameters": dict(found.action.parameters)} if found.action.change else None,
        "subject": found.subject,
        "never": found.action.never,
        "safe_to_automate": found.action.automation, "over": found.over, "mistaken_for": list(cause.mistaken_for),
        "level": cause.level, "procedure": cause.procedure,
    }  # fmt: skip


def _plain(cited: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        for name, value in cited.items()
    }


def _telling(facts: tuple[Fact, ...]) -> list[Fact]:
    return sorted(facts, key=lambda fact: (fact.name.startswith(GENERIC), not fact.severe))


def in_short(value: Any) -> str:
    """A figure for one cell of a table."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return one_line(str(value), 80)


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(rows, columns=columns)
