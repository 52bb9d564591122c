"""Who can do what, and who did: producers, operators, the console's callers, roles, the Data API, credentials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
from psycopg2.errors import InsufficientPrivilege

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import embedded
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import LONGEST_PROBLEM_CHARACTERS, Answer, checks_table, table
from runbook_lib.health.checks import Check, worst_verdict
from runbook_lib.health.periods import zone_of
from runbook_lib.health.sources import Sources
from runbook_lib.health.tables import Table
from runbook_lib.maintenance import access_records, database_access, held_credentials
from runbook_lib.maintenance.access_records import Part, Period
from runbook_lib.maintenance.published_posts import OpenSite
from runbook_lib.pipeline.posts import site_of_settings
from runbook_lib.policy import load_policy
from runbook_lib.settings import Settings, load_settings

# Part → the columns of its table, and what it says without a row.
_TABLES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "producers": (("source", "created_by", "known", "jobs", "pending", "published", "first_at", "last_at", "example"), "No job was created in these days."),
    "actions": (("actor", "actions", "refused", "failed", "outside_hours", "hosts", "new", "last_at"), "Nobody acted in these days."),
    "single_actions": (("acted_at", "actor", "host", "action", "target", "outcome", "said"), "No action was refused or done outside of working hours."),
    "refusals": (("address", "shown", "refused", "routes", "first_at", "last_at", "let_in_after"), "The console refused nobody."),
    "roles": (("role", "logs_in", "fits", "beyond"), "No role but the superusers reaches our tables."),
    "data_api": (("what", "reaches", "row_security", "policies", "open"), "The Data API reaches nothing of these tables."),
    "console_tokens": (("token", "scope", "kept", "age_days", "others_may_read"), "There are no tokens."),
    "application_passwords": (("name", "in_use_here", "age_days", "last_used", "last_address", "unused"), "The site did not say."),
}  # fmt: skip
_ORDER = {"critical": 0, "warning": 1, "not_allowed": 2, "not_enough_data": 3, "ok": 4}


@dataclass(frozen=True, repr=False)
class AccessReview(Answer):
    """Each part has its check and its table; `check` is the worst of them."""

    check: Check
    period: Period
    parts: Mapping[str, Part] = field(default_factory=dict)
    problem: str | None = None

    @property
    def checks(self) -> Table:
        """What each part found, the worst first."""
        return checks_table(self._worst_first(), f"Not known: {self.problem}")

    @property
    def producers(self) -> Table:
        """Who created jobs; what is not known stands first."""
        return self._table("producers")

    @property
    def actions(self) -> Table:
        """What each operator did."""
        return self._table("actions")

    @property
    def single_actions(self) -> Table:
        """Actions that were refused, or done outside of working hours."""
        return self._table("single_actions")

    @property
    def refusals(self) -> Table:
        """Whom the console refused."""
        return self._table("refusals")

    @property
    def roles(self) -> Table:
        """Database roles, and what they may beyond what they are for."""
        return self._table("roles")

    @property
    def data_api(self) -> Table:
        """What Supabase's Data API reaches of our tables."""
        return self._table("data_api")

    @property
    def console_tokens(self) -> Table:
        """The console's tokens by name."""
        return self._table("console_tokens")

    @property
    def application_passwords(self) -> Table:
        """The application passwords of our user at the site."""
        return self._table("application_passwords")

    def results(self) -> dict[str, Any]:
        """Verdicts and figures of all parts, for the record."""
        unknown = [row for row in self._rows("producers") if row["known"] is False]
        return {
            "since": self.period.since,
            "until": self.period.until,
            "verdicts": {part.check.name: part.check.verdict for part in self.parts.values()},
            "jobs": sum(row["jobs"] for row in self._rows("producers")),
            "jobs_of_unknown_producers": sum(row["jobs"] for row in unknown),
            "actions": sum(row["actions"] for row in self._rows("actions")),
            "actions_refused": sum(row["refused"] for row in self._rows("actions")),
            "actions_outside_hours": sum(row["outside_hours"] for row in self._rows("actions")),
            "requests_refused": sum(row["refused"] for row in self._rows("refusals")),
            "roles": len(self._rows("roles")),
            "tables_of_the_data_api": len(self._rows("data_api")),
            "problem": self.problem,
        }

    def sentences(self) -> list[str]:
        bad = [check for check in self._worst_first() if check.verdict in ("critical", "warning")]
        return [f"{check.name}: {one_line(check.message, 300)}" for check in bad[:3]]

    def _worst_first(self) -> list[Check]:
        return sorted((part.check for part in self.parts.values()), key=lambda check: _ORDER[check.verdict])  # fmt: skip

    def _rows(self, name: str) -> list[dict[str, Any]]:
        return list(self.parts[name].rows) if name in self.parts else []

    def _table(self, name: str) -> Table:
        columns, empty = _TABLES[name]
        part = self.parts.get(name)
        if part is None or not part.check.answered:
            empty = f"Not known: {part.check.message if part else self.problem}"
        return table(self._rows(name), columns, empty)


def access_review(
    sources: Sources,
    *,
    days: int = 31,
    since: datetime | None = None,
    time_zone: str = "UTC",
    work_begins_hour: int = 7,
    work_ends_hour: int = 20,
    open_site: OpenSite = site_of_settings,
) -> AccessReview:
    """Reviews the last days, or since a moment. Reads only, here and at the site.

    Never raises for what it finds; a part that cannot be asked says why, and the others stand. Raises
    `UsageError` for a time zone that does not exist.
    """
    zone_of(time_zone)
    now = datetime.now(UTC)
    begin = since or now - timedelta(days=days)
    begin = begin if begin.tzinfo else begin.replace(tzinfo=UTC)
    period = Period(begin, now, time_zone, work_begins_hour, work_ends_hour)
    try:
        settings = load_settings()
        known = load_policy(settings).known_producers
        is_embedded = _is_embedded(sources, settings)
    except RunbookError as error:
        problem = one_line(str(error), LONGEST_PROBLEM_CHARACTERS)
        return AccessReview(Check("access.overall", "not_enough_data", f"Nothing could be asked. {problem}"), period, problem=problem)  # fmt: skip
    asked: dict[str, Callable[[], Part]] = {
        "producers": lambda: access_records.producers(sources, period, known),
        "actions": lambda: access_records.actions(sources, period),
        "single_actions": lambda: access_records.actions_to_look_at(sources, period),
        "refusals": lambda: access_records.refusals(sources, period),
        "roles": lambda: database_access.role_rights(sources, embedded=is_embedded),
        "data_api": lambda: database_access.exposure(sources),
        "console_tokens": lambda: held_credentials.console_tokens(settings),
        "application_passwords": lambda: held_credentials.application_passwords(open_site),
    }
    parts = {name: _answered(name, ask) for name, ask in asked.items()}
    return AccessReview(_overall(parts), period, parts)


def _is_embedded(sources: Sources, settings: Settings) -> bool:
    """Whether our tables are in the embedded server, which has no other role. A kernel is given its address."""
    if settings.own_tables_url() is None:
        return True
    status = embedded.server(settings.runbook_home).status()
    return status.ready and embedded.address(settings.runbook_home, status.state) == sources.bookkeeping.url  # fmt: skip


def _answered(name: str, ask: Callable[[], Part]) -> Part:
    """What a part found; a right that is missing or a database that is away hides only this part."""
    try:
        return ask()
    except InsufficientPrivilege as error:
        said, verdict = one_line(str(error), 300), "not_allowed"
    except (RunbookError, psycopg2.OperationalError) as error:
        said, verdict = one_line(str(error), 300), "not_enough_data"
    return Part(Check(f"access.{name}", verdict, said, source="access_review"))  # type: ignore[arg-type]


def _overall(parts: Mapping[str, Part]) -> Check:
    checks = [part.check for part in parts.values()]
    records = [parts[name].check for name in ("producers", "actions", "refusals", "roles")]
    counted = {word: sum(check.verdict == word for check in checks) for word in _ORDER}
    silent = counted["not_allowed"] + counted["not_enough_data"]
    message = f"{len(checks)} parts: {counted['critical']} critical, {counted['warning']} warnings, {silent} not answered."  # fmt: skip
    worst = min(checks, key=lambda check: _ORDER[check.verdict])
    if not any(check.answered for check in records):
        # What is on this machine says nothing about who did what.
        verdict = "not_allowed" if all(check.verdict == "not_allowed" for check in records[1:]) else "not_enough_data"  # fmt: skip
        return Check("access.overall", verdict, f"{message} {records[1].message}", source="access_review")  # type: ignore[arg-type]  # fmt: skip
    if worst.verdict in ("critical", "warning"):
        message += f" First: {worst.name}: {one_line(worst.message, 300)}"
    return Check(
        "access.overall", worst_verdict(checks), message, counted["critical"], "critical parts", 0, "access_review",
        does_not_prove="that nobody was there: only what was recorded can be reviewed",
        next=worst.next, procedure=worst.procedure,
    )  # fmt: skip
