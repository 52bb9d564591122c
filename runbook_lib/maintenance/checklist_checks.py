"""The checks that items of a checklist name: each takes the context and what the item gives it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from runbook_lib.database.statements import load
from runbook_lib.health.checks import Check, Verdict, worst_verdict
from runbook_lib.health.context import Context
from runbook_lib.health.probes.configuration import Configuration, probe_configuration
from runbook_lib.health.survey import survey
from runbook_lib.maintenance.dependencies import lock_age

_SQL = load("checklists")
SURVEY_SECONDS = 15.0
_SECRETS = ("settings.file_rights", "settings.stray_characters")


def asked(context: Context, names: Sequence[str], answered: Sequence[str] | None = None) -> Check:
    """The worst of some of the survey's checks. `answered` must have an answer; by default all of them."""
    found = survey(context, only=names, deadline_seconds=SURVEY_SECONDS).checks
    needed = found if answered is None else [each for each in found if each.name in answered]
    silent = [each for each in needed if not each.answered]
    verdict = worst_verdict(found)
    if verdict != "critical" and (silent or not needed):
        first = silent[0].message if silent else "Nothing answered."
        words = f"{len(silent)} of {len(found)} checks have no answer. First: {first}"
        return Check("survey", "not_enough_data", words, source="survey", next=_next(silent))
    worst = next((each for each in found if each.verdict == verdict), None)
    if worst is None or verdict == "ok":
        return Check("survey", verdict, f"{len(found)} checks, none of them critical or a warning.", source="survey")  # fmt: skip
    return replace(worst, message=f"{worst.name}: {worst.message}")


def settings(context: Context) -> Check:
    """Whether the settings fit, and whether anything in them is misspelt or overruled."""
    return _worst_of_settings(
        context,
        lambda check: check.name not in _SECRETS,
        "The settings fit, and nothing in them is misspelt or overruled.",
    )


def secrets_stored(context: Context) -> Check:
    """Whether both providers' secrets are set, and no file shows them to others. No value is looked at."""
    bad = _worst_of_settings(context, lambda check: check.name in _SECRETS, "")
    if bad.verdict != "ok":
        return bad
    sandboxed = sorted(context.settings.sandboxed())
    if sandboxed:
        words = f"{' and '.join(sandboxed)} are the sandbox's: no secret of a real provider is set."
        return Check("settings.secrets", "warning", words, source="settings")
    return Check("settings.secrets", "ok", "Both providers' secrets are set, and no file shows them.", source="settings")  # fmt: skip


def run_within(context: Context, procedure: str, days: float) -> Check:
    """Whether a procedure ran whole within so many days, and was not critical."""
    with context.sources.bookkeeping.transaction(read_only=True) as transaction:
        row = transaction.row(_SQL["latest_run"], procedure=procedure)
    source, how = _SQL["latest_run"].source, f"runbook run {procedure}"
    if row is None:
        words = f"{procedure} has never run whole here."
        return Check("run", "not_enough_data", words, None, "days", days, source, next=how)
    words = f"{procedure} ran {row.days:.1f} days ago: {str(row.verdict or 'no verdict').replace('_', ' ')} (run {row.run_id[:8]})."  # fmt: skip
    if row.days > days:
        return Check("run", "not_enough_data", f"{words} That is longer than {days:g} days.", round(row.days, 1), "days", days, source, next=how)  # fmt: skip
    verdict: Verdict = row.verdict or "not_enough_data"
    return Check("run", verdict, words, round(row.days, 1), "days", days, source,
                 "that it is well by now", how if verdict != "ok" else None)  # fmt: skip


def first_job(context: Context) -> Check:
    """Whether a job completed since a worker of the newest version began."""
    sources = context.sources
    with sources.bookkeeping.transaction(read_only=True) as transaction:
        newest = transaction.row(_SQL["newest_version"])
    source = _SQL["completed_since"].source
    if newest is None:
        words = "No worker of ours has begun, so nobody knows since when this version runs."
        return Check("first_job", "not_enough_data", words, source=source, next="python worker.py")
    statement = sources.reading(_SQL["completed_since"])
    with sources.pipeline.transaction(read_only=True) as transaction:
        row = transaction.row(statement, since=newest.began)
    assert row is not None
    since = f"version {newest.version} began at {newest.began:%Y-%m-%d %H:%M} UTC"
    if not row.completed:
        words = f"No job has completed since {since}."
        return Check("first_job", "critical", words, 0, "jobs", 1, source, next="runbook jobs add FILE, and look at what becomes of it")  # fmt: skip
    words = f"{row.completed} attempts completed since {since}; the first at {row.first_at:%H:%M}."
    return Check("first_job", "ok", words, row.completed, "attempts", 1, source, "that its article is good: read it")  # fmt: skip


def dependencies(context: Context, days: float) -> Check:
    """How old the lock is."""
    return lock_age(days=days)


def _worst_of_settings(context: Context, wanted: Callable[[Check], bool], words: str) -> Check:
    configuration = Configuration(os.environ, context.settings.env_file)
    found = [each for each in probe_configuration(configuration) if wanted(each)]
    return _bad(found) or Check("settings", "ok", words, len(found), "checks", source="settings")


def _bad(found: Iterable[Check]) -> Check | None:
    checks = list(found)
    verdict = worst_verdict(checks)
    if verdict not in ("warning", "critical"):
        return None
    return next(each for each in checks if each.verdict == verdict)


def _next(silent: Sequence[Check]) -> str | None:
    return next((each.next for each in silent if each.next), None)


# What an item may name in `check`.
CHECKS: dict[str, Callable[..., Check]] = {
    "survey": asked,
    "settings": settings,
    "secrets_stored": secrets_stored,
    "run_within": run_within,
    "first_job": first_job,
    "dependencies": dependencies,
}
