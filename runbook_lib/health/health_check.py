"""The hourly health check: every declared check, worst first, and how close each is to its threshold."""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runbook_lib.credentials.masking import one_line
from runbook_lib.errors import RunbookError
from runbook_lib.health.checks import Check, worst_verdict
from runbook_lib.health.context import Context
from runbook_lib.health.sources import Sources
from runbook_lib.health.survey import Survey, survey
from runbook_lib.health.tables import Table
from runbook_lib.policy import load_policy
from runbook_lib.settings import load_settings

if TYPE_CHECKING:
    import pandas

    from runbook_lib.health.charts import Chart

WORST_NAMED = 3


@dataclass(frozen=True)
class HealthCheck:
    """What all checks answered. Shown in a notebook, it is the answer in one look."""

    check: Check
    survey: Survey

    @property
    def verdict(self) -> str:
        return self.check.verdict

    @property
    def not_well(self) -> Table:
        """What is critical or a warning, and what to do about it."""
        rows = [
            _row(each, "next", "procedure") for each in self.survey.worst_first() if _is_bad(each)
        ]
        return Table(_frame(rows, ["check", "verdict", "message", "next", "procedure"]),
                     empty="Nothing is critical and nothing is a warning.")  # fmt: skip

    @property
    def by_part(self) -> Table:
        """Each part of the pipeline: its verdict and how many checks answered what."""
        parts: dict[str, list[Check]] = {}
        for each in self.survey.checks:
            parts.setdefault(each.part, []).append(each)
        rows = [
            {"part": part, "verdict": _words(worst_verdict(checks)), **_counted(checks)}
            for part, checks in parts.items()
        ]
        return Table(
            _frame(rows, ["part", "verdict", "checks", "critical", "warning", "not_answered"])
        )

    @property
    def not_answered(self) -> Table:
        """What could not be told, and why: neither good news nor bad."""
        rows = [_row(each) for each in self.survey.worst_first() if not each.answered]
        return Table(_frame(rows, ["check", "verdict", "message"]), empty="Every check answered.")

    @property
    def everything(self) -> Table:
        """All checks, and where each looked."""
        rows = [_row(each) for each in self.survey.worst_first()]
        for row, each in zip(rows, self.survey.worst_first(), strict=True):
            row["message"] += f" ({each.source})" if each.source else ""
        return Table(_frame(rows, ["check", "verdict", "message"]), empty=self.check.message)

    def thresholds_chart(self) -> Chart:
        """How much of its threshold each figure has used up."""
        from runbook_lib.health.charts import shares_of_thresholds

        return shares_of_thresholds(_shares(self.survey.checks))

    def results(self) -> dict[str, Any]:
        """Verdicts and figures by check, for the record."""
        return {
            "taken_at": self.survey.taken_at,
            "seconds": self.survey.seconds,
            **_counted(self.survey.checks),
            "verdicts": {each.name: each.verdict for each in self.survey.checks},
            "values": {
                each.name: each.value for each in self.survey.checks
                if isinstance(each.value, int | float)
            },
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"{self.verdict}: {self.check.message}"

    def _repr_html_(self) -> str:
        bad = [each for each in self.survey.worst_first() if _is_bad(each)][:WORST_NAMED]
        told = _counts_in_words(self.survey) if self.survey.checks else self.check.message
        lines = "".join(
            f"<p><strong>{html.escape(each.name)}</strong> {html.escape(one_line(each.message, 300))}</p>"
            for each in bad
        )
        return (
            f'<div class="verdict verdict-{html.escape(self.verdict)}"><p><strong>'
            f"{html.escape(_words(self.verdict))}</strong>: {html.escape(told)}</p>{lines}</div>"
        )


def health_check(sources: Sources, *, deadline_seconds: float = 10.0) -> HealthCheck:
    """Asks every check, side by side, for at most this long. Changes nothing and costs nothing.

    Never raises for what it finds: a database that is away is critical, settings that do not fit are
    told as `not_enough_data`.
    """
    try:
        settings = load_settings()
        context = Context(settings, load_policy(settings), sources)
        found = survey(context, deadline_seconds=deadline_seconds)
    except RunbookError as error:
        return _without_answers(one_line(str(error), 500))
    return HealthCheck(_overall(found), found)


def _overall(found: Survey) -> Check:
    counted, message = _counted(found.checks), _counts_in_words(found)
    worst = next(iter(found.worst_first()), None)
    overall = Check(
        "health.overall", found.verdict, message, counted["critical"], "critical checks", 0, "survey",
        does_not_prove="that the articles are good",
    )  # fmt: skip
    if worst is None or not _is_bad(worst):
        return overall
    first = one_line(worst.message, 300)
    return replace(
        overall, message=f"{message} First: {worst.name}: {first}", next=worst.next,
        procedure=worst.procedure, parameters=worst.parameters,
    )  # fmt: skip


def _counts_in_words(found: Survey) -> str:
    counted = _counted(found.checks)
    warnings = f"{counted['warning']} warning{'' if counted['warning'] == 1 else 's'}"
    return (
        f"{counted['checks']} checks at {found.taken_at.astimezone(UTC):%H:%M} UTC: {counted['critical']} critical, "
        f"{warnings}, {counted['not_answered']} not answered."
    )


def _without_answers(problem: str) -> HealthCheck:
    check = Check("health.overall", "not_enough_data", f"Nothing could be asked. {problem}")
    return HealthCheck(check, Survey((), datetime.now(UTC), 0.0))


def _counted(checks: Any) -> dict[str, int]:
    verdicts = Counter(each.verdict for each in checks)
    return {
        "checks": len(checks),
        "critical": verdicts["critical"],
        "warning": verdicts["warning"],
        "not_answered": verdicts["not_allowed"] + verdicts["not_enough_data"],
    }


def _shares(checks: tuple[Check, ...]) -> list[tuple[str, str, float]]:
    """Name, verdict and share of the threshold, in percent: above 100 what is over it.

    Where more is better (free space), a check that is well has its value above the threshold: then the
    threshold's share of the value says the same.
    """
    found: list[tuple[str, str, float]] = []
    for each in checks:
        if not each.answered or not _is_figure(each.value) or not _is_figure(each.threshold):
            continue
        value, threshold = float(each.value), float(each.threshold)
        if threshold <= 0 or value < 0:
            continue
        over = each.verdict != "ok"
        share = value / threshold
        if (share > 1) != over and share > 0:
            share = 1 / share
        if (share > 1) == over:
            found.append((each.name, each.verdict, 100 * share))
    return found


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_bad(check: Check) -> bool:
    return check.verdict in ("critical", "warning")


def _row(check: Check, *more: str) -> dict[str, Any]:
    told = check.masked()
    row = {
        "check": check.name, "verdict": _words(check.verdict), "message": told["message"],
        **{name: told[name] for name in more},
    }  # fmt: skip
    if row.get("procedure") and check.parameters:
        given = " ".join(f"-p {name}={value}" for name, value in told["parameters"].items())
        row["procedure"] = f"{row['procedure']} {given}"
    return row


def _words(verdict: str) -> str:
    return verdict.replace("_", " ")


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(rows, columns=columns)
