"""The team's policy: thresholds, levels, contacts, quiet hours, from one commented TOML file.

`RUNBOOK_CONFIG` names it; without one the defaults hold, which are the written runbook's.
`examples/policy.toml` is the file with every default. A quantity carries its unit in its name.
"""

from __future__ import annotations

import tomllib
from datetime import datetime, time
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from runbook_lib.errors import ConfigurationError
from runbook_lib.settings import Settings


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError):
        raise ValueError(f"{name!r} is no time zone; names are like Europe/Berlin") from None
    return name


class Section(BaseModel):
    """A table of the file: unknown names are refused, so that a misspelt threshold is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Thresholds(Section):
    """When a figure is a warning, and when it is critical."""

    failure_rate_warning_percent: float = Field(10, ge=0, le=100)
    failure_rate_critical_percent: float = Field(20, ge=0, le=100)

    # the database
    database_latency_warning_milliseconds: float = Field(100, gt=0)
    database_latency_critical_milliseconds: float = Field(1000, gt=0)
    connections_warning_percent: float = Field(80, gt=0, le=100)
    connections_critical_percent: float = Field(95, gt=0, le=100)
    lock_wait_warning_seconds: float = Field(5, ge=0)
    lock_wait_critical_seconds: float = Field(60, ge=0)
    transaction_warning_seconds: float = Field(300, ge=0)
    transaction_critical_seconds: float = Field(3600, ge=0)
    idle_in_transaction_warning_seconds: float = Field(60, ge=0)
    retained_wal_warning_gigabytes: float = Field(2, gt=0)
    retained_wal_critical_gigabytes: float = Field(10, gt=0)
    database_size_limit_gigabytes: float | None = Field(None, gt=0)
    disk_free_warning_percent: float = Field(15, ge=0, le=100)
    disk_free_critical_percent: float = Field(5, ge=0, le=100)
    wraparound_warning_percent: float = Field(40, gt=0, le=100)
    wraparound_critical_percent: float = Field(75, gt=0, le=100)
    clock_skew_warning_seconds: float = Field(2, gt=0)

    # the queue and its workers
    pending_age_warning_seconds: float = Field(900, gt=0)
    pending_age_critical_seconds: float = Field(3600, gt=0)
    stuck_after_seconds: float = Field(1800, gt=0)
    concurrent_jobs_limit: int | None = Field(None, ge=1)
    worker_silent_seconds: float = Field(30, gt=0)
    worker_without_progress_seconds: float = Field(600, gt=0)

    # how long things take
    processing_time_warning_seconds: float = Field(2, gt=0)
    openai_p95_warning_seconds: float = Field(120, gt=0)
    wordpress_p95_warning_seconds: float = Field(10, gt=0)
    provider_response_warning_seconds: float = Field(2, gt=0)

    # money
    daily_cost_warning_percent: float = Field(80, gt=0, le=100)

    # keys and passwords
    secret_age_warning_days: float = Field(90, gt=0)

    # the workbench itself
    scheduler_silent_seconds: float = Field(120, gt=0)
    absent_run_grace_seconds: float = Field(300, gt=0)


class Detection(Section):
    """How sure the rules are before they raise an alarm, and how soon they may be."""

    # A failure rate is judged over each of these windows, by a bound that is wrong once in so many times.
    windows_minutes: tuple[int, ...] = (60, 120, 240, 480)
    wrong_once_in: int = Field(300_000, ge=100)
    fewest_failures: int = Field(6, ge=2)
    # What chance alone may do: failures in a row, and silences.
    false_alarms_per_year: float = Field(0.5, gt=0)
    # No success for so long while jobs wait, or three times what is long for this pipeline.
    no_success_minutes: float = Field(20, gt=0)
    # Shorter silences are never judged by what is usual.
    silence_minutes: float = Field(30, gt=0)
    # What is usual is learnt from so many weeks, by weekday and hour of this time zone.
    learned_weeks: int = Field(8, ge=2, le=52)
    fewest_weeks: int = Field(2, ge=1, le=52)
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        return _known_zone(value)

    @field_validator("windows_minutes")
    @classmethod
    def _some_windows(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or any(minutes < 15 or minutes > 1440 for minutes in value):
            raise ValueError("windows_minutes are one or more lengths from 15 to 1440")
        return value


class Level(Section):
    """Who answers at an escalation level, and what they do."""

    title: str
    contacts: tuple[str, ...] = ()
    duties: tuple[str, ...] = ()


class Vendor(Section):
    """Where a vendor's support and status are."""

    support_url: str
    status_url: str | None = None


class QuietHours(Section):
    """Hours in which only what is critical is sent at once; the rest waits until they end."""

    begin: time | None = None
    end: time | None = None
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        return _known_zone(value)

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.begin is None) != (self.end is None):
            raise ValueError("begin and end belong together")
        return self


class MaintenanceWindow(Section):
    """A planned time without alerts: what happens in it is recorded and not sent."""

    begin: datetime
    end: datetime
    reason: str

    @model_validator(mode="after")
    def _in_order_and_with_zone(self) -> Self:
        if self.begin.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("begin and end need an offset from UTC, such as 2026-12-01T22:00:00Z")
        if self.end <= self.begin:
            raise ValueError("end must come after begin")
        return self


class Route(Section):
    """Which level an alert goes to first, and who is told beside it. The first route that fits counts."""

    causes: str
    level: int = Field(1, ge=1, le=3)
    also_told: tuple[int, ...] = ()
    owner: str | None = None

    @field_validator("also_told")
    @classmethod
    def _levels(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if unknown := sorted(set(value) - {1, 2, 3}):
            raise ValueError(f"levels are 1, 2 and 3, not {unknown[0]}")
        return value


def _default_routes() -> tuple[Route, ...]:
    # A breach: level 2 contains it, level 3 decides and is told at once.
    return (Route(causes="*security*", level=2, also_told=(3,)),)


class Alerting(Section):
    """When an alert opens, is raised, repeated and ends, and how it is sent."""

    survey_interval_seconds: float = Field(60, gt=0)
    # A check has to be bad so many times in a row, and for so long.
    bad_times: int = Field(2, ge=1)
    bad_minutes: float = Field(1, ge=0)
    # It has recovered when it was good for so long.
    good_minutes: float = Field(3, ge=0)
    # It flaps when it turned so often within this time, until it has not turned for the third.
    flapping_changes: int = Field(6, ge=3)
    flapping_within_minutes: float = Field(60, gt=0)
    flapping_ends_after_minutes: float = Field(30, gt=0)
    # Nobody acknowledged: the next level is told. Nothing changed: said once more.
    raise_level_after_minutes: float = Field(30, gt=0)
    remind_after_minutes: float = Field(240, gt=0)
    acknowledged_for_minutes: float = Field(480, gt=0)
    # An event does not recover; its alert ends when it was not seen again for so long.
    event_ends_after_minutes: float = Field(60, gt=0)
    # The check does not answer any more, or is gone.
    unseen_ends_after_hours: float = Field(24, gt=0)
    delivery_deadline_seconds: float = Field(30, gt=0)
    delivery_retry_seconds: float = Field(30, gt=0)
    delivery_retry_maximum_seconds: float = Field(900, gt=0)
    delivery_given_up_after_hours: float = Field(24, gt=0)
    # The written runbook's times: health each hour, the failure rate each day at midnight UTC.
    hourly_health: Literal["always", "not_well", "never"] = "not_well"
    daily_failure_rate: Literal["always", "not_well", "never"] = "always"
    routes: tuple[Route, ...] = Field(default_factory=_default_routes)


def _default_levels() -> dict[str, Level]:
    return {
        "1": Level(
            title="System administrator",
            duties=("Routine maintenance", "First troubleshooting", "Watching performance", "Keeping documents current"),
        ),
        "2": Level(
            title="Senior developer",
            duties=("Errors that need the code", "Performance work", "Containing a security incident", "Changes to the system"),
        ),
        "3": Level(
            title="Technical lead",
            duties=("Critical failures", "Deciding about a security breach", "Large decisions", "Escalating to vendors"),
        ),
    }  # fmt: skip


def _default_vendors() -> dict[str, Vendor]:
    return {
        "supabase": Vendor(support_url="https://supabase.com/dashboard/support/new", status_url="https://status.supabase.com"),
        "openai": Vendor(support_url="https://help.openai.com", status_url="https://status.openai.com"),
        "wordpress": Vendor(support_url="https://wordpress.org/support/forums/"),
    }  # fmt: skip


class Rehearsals(Section):
    """How often procedures are practised on a staged fault, and the chapters of which they are."""

    due_days: int = Field(90, ge=1, le=3650)
    chapters: tuple[str, ...] = ("emergency", "troubleshooting")


class Retention(Section):
    """How long runs of notebooks stay in the archive, and runs of jobs in job_runs."""

    # 0: for ever.
    keep_days: int = Field(0, ge=0, le=36_500)
    # procedure (chapter/name) → days, where they differ.
    keep_days_by_procedure: dict[str, int] = Field(default_factory=dict)
    # Rows of job_runs: from when the written runbook calls them old, and how long they are kept.
    job_runs_old_days: int = Field(30, ge=1, le=3650)
    job_runs_keep_days: int = Field(90, ge=30, le=3650)
    # Runs that a reviewer signed stay, whatever their age.
    keep_signed_off: bool = True

    @field_validator("keep_days_by_procedure")
    @classmethod
    def _whole_days(cls, value: dict[str, int]) -> dict[str, int]:
        for name, days in value.items():
            if "/" not in name or not 0 <= days <= 36_500:
                raise ValueError(
                    f"{name!r} = {days}: a procedure is chapter/name, days are 0 to 36500"
                )
        return value


class Automation(Section):
    """Which first actions of triage the monitor does by itself: none, unless a cause is named.

    Whether a cause may stand here is for triage to say: `runbook monitor` refuses to start with one that
    may not.
    """

    causes: tuple[str, ...] = ()
    actions_per_day: int = Field(5, ge=1, le=100)
    # How sure triage has to be of the cause.
    least_confidence: float = Field(0.7, ge=0.6, le=1)
    # Triage is asked while something is critical, and not more often than this.
    look_every_minutes: float = Field(5, ge=0, le=1440)
    # A pause that it makes: after so long one job tries, and ends the pause if it succeeds.
    pause_minutes: float = Field(1, gt=0, le=1440)


class Policy(Section):
    """Everything that a team decides for itself, read once and frozen."""

    thresholds: Thresholds = Thresholds()
    detection: Detection = Detection()
    levels: dict[str, Level] = Field(default_factory=_default_levels)
    vendors: dict[str, Vendor] = Field(default_factory=_default_vendors)
    quiet_hours: QuietHours = QuietHours()
    alerting: Alerting = Alerting()
    maintenance_windows: tuple[MaintenanceWindow, ...] = ()
    retention: Retention = Retention()
    automation: Automation = Automation()
    rehearsals: Rehearsals = Rehearsals()
    # Who may create jobs: values of content_jobs.source and created_by. Empty: everybody.
    known_producers: tuple[str, ...] = ()

    @field_validator("levels")
    @classmethod
    def _three_levels(cls, value: dict[str, Level]) -> dict[str, Level]:
        if unknown := sorted(set(value) - {"1", "2", "3"}):
            raise ValueError(f"levels are 1, 2 and 3, not {', '.join(unknown)}")
        return {**_default_levels(), **value}

    @field_validator("vendors")
    @classmethod
    def _known_vendors_stay(cls, value: dict[str, Vendor]) -> dict[str, Vendor]:
        return {**_default_vendors(), **value}


def load_policy(settings: Settings) -> Policy:
    """The policy that `RUNBOOK_CONFIG` names, else the defaults.

    Raises `ConfigurationError` that names the file, the entry and what is wrong with it.
    """
    return read_policy(settings.runbook_config) if settings.runbook_config else Policy()


def read_policy(file: Path) -> Policy:
    """Reads one file. Raises `ConfigurationError`."""
    try:
        found: dict[str, Any] = tomllib.loads(file.expanduser().read_text("utf-8"))
        return Policy.model_validate(found)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"RUNBOOK_CONFIG: {file} cannot be read: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"RUNBOOK_CONFIG: {file} is not TOML: {error}.") from None
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise ConfigurationError(f"RUNBOOK_CONFIG: {file} does not fit. {problems}.") from None
