"""Schedules: one YAML file each, read and checked as a whole; a bad file harms no other."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from runbook_lib.changes.catalogue import KIND_MODULES, OTHER_ACTIONS
from runbook_lib.errors import NotFoundError, RunbookError, UsageError
from runbook_lib.procedures import catalogue
from runbook_lib.procedures.parameters import check, nearest
from runbook_lib.scheduling.cron import LONGEST_WAIT, Cron, parse
from runbook_lib.settings import PROJECT_DIRECTORY, Settings

DIRECTORY = PROJECT_DIRECTORY / "schedules"
CATCH_UP = ("once", "each", "none")
OVERLAP = ("skip", "queue")
_REQUIRED = ("id", "procedure", "cron")
_FIELDS = (*_REQUIRED, "timezone", "parameters", "catch_up", "overlap", "deadline_minutes",
           "allow_changes", "paused")  # fmt: skip
_ID = re.compile(r"[a-z0-9][a-z0-9_]{0,80}")
# Local times that a change to or from daylight saving time skips or repeats.
_UNSAFE_HOURS = range(0, 4)


@dataclass(frozen=True)
class Schedule:
    """When a procedure runs by itself. `warnings` are what is allowed but may surprise."""

    id: str
    procedure: str
    cron: str
    timezone: str = "UTC"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    catch_up: str = "once"
    overlap: str = "skip"
    deadline_minutes: float | None = None
    allow_changes: tuple[str, ...] = ()
    paused_reason: str | None = None
    paused_until: datetime | None = None
    # Whether its procedure only reads: then it also runs while the database is away.
    read_only: bool = False
    warnings: tuple[str, ...] = ()

    @cached_property
    def _times(self) -> Cron:
        return parse(self.cron, self.timezone)

    def due_times(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The due times later than `after` and not later than `until`, in UTC, the earliest first."""
        return self._times.times(after, until)

    def next_times(self, now: datetime, count: int = 5) -> list[datetime]:
        """The next due times from now on."""
        return list(itertools.islice(self.due_times(now, now + LONGEST_WAIT), count))

    def is_paused(self, now: datetime) -> bool:
        return self.paused_reason is not None and (
            self.paused_until is None or now < self.paused_until
        )


@dataclass(frozen=True)
class Schedules:
    """What a directory holds: the schedules that fit, and for each file that does not, why."""

    schedules: dict[str, Schedule]
    problems: dict[str, str]

    def get(self, schedule_id: str) -> Schedule:
        """Raises `NotFoundError` with the nearest name, `UsageError` for one that does not fit."""
        if schedule_id in self.schedules:
            return self.schedules[schedule_id]
        if schedule_id in self.problems:
            raise UsageError(f"{schedule_id} is quarantined: {self.problems[schedule_id]}")
        raise NotFoundError(
            f"There is no schedule {schedule_id!r}{nearest(schedule_id, list(self.schedules)) or '.'} "
            "`runbook schedule list` shows them."
        )


def load_schedules(settings: Settings, directory: Path = DIRECTORY) -> Schedules:
    """Reads every `*.yaml` of the directory. Files that do not fit are in `problems` by their name."""
    found, problems = {}, {}
    files = sorted([*directory.glob("*.yaml"), *directory.glob("*.yml")])
    for path in files:
        try:
            schedule = read_schedule(path, settings)
            if schedule.id in found:
                raise UsageError(f"the id {schedule.id} belongs to another file already")
        except RunbookError as error:
            problems[path.stem if path.stem not in problems else path.name] = str(error)
            continue
        found[schedule.id] = schedule
    return Schedules(found, problems)


def signature(directory: Path, settings: Settings) -> object:
    """What differs once a schedule or a procedure that it may name has changed."""
    files = [*directory.glob("*.y*ml")]
    for folder in catalogue.folders(settings):
        files += folder.glob("*/*.ipynb")
    return sorted((str(path), *_changed(path)) for path in files)


def _changed(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


def read_schedule(path: Path, settings: Settings) -> Schedule:
    """Reads and checks one file, its procedure and parameters too. Raises `UsageError`."""
    values = _read_yaml(path)
    problems = [f"{name} is missing" for name in _REQUIRED if name not in values]
    problems += [
        f"{name} is unknown{nearest(str(name), _FIELDS)}" for name in values if name not in _FIELDS
    ]
    if problems:
        raise UsageError("; ".join(problems))
    schedule = _schedule(values)
    if schedule.id != path.stem:
        raise UsageError(f"the id {schedule.id!r} must be the file's name, {path.stem!r}")
    found = _check_procedure(schedule, settings)
    schedule = replace(schedule, read_only=found.card.read_only)
    return replace(schedule, warnings=tuple(_warnings(schedule)))


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    class StrictLoader(yaml.SafeLoader):
        """YAML in which a key that stands twice is a mistake."""

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        names = [loader.construct_object(name) for name, _ in node.value]
        for name in names:
            if not isinstance(name, str) or names.count(name) > 1:
                raise yaml.YAMLError(f"{name!r} stands twice or is not a text")
        return loader.construct_mapping(node, deep=True)

    StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        found = yaml.load(path.read_text("utf-8"), StrictLoader)
    except (OSError, UnicodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"not readable: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(found, dict):
        raise UsageError("expected a mapping with id, procedure and cron")
    return found


def _schedule(values: dict[str, Any]) -> Schedule:
    for name in ("id", "procedure", "cron"):
        if not isinstance(values[name], str):
            raise UsageError(f"{name} must be a text, not {values[name]!r}")
    if not _ID.fullmatch(values["id"]):
        raise UsageError(f"id {values['id']!r} must be of small letters, digits and underscores")
    reason, until = _paused(values.get("paused"))
    schedule = Schedule(
        id=values["id"],
        procedure=values["procedure"],
        cron=" ".join(values["cron"].split()),
        timezone=_zone(values.get("timezone", "UTC")),
        parameters=_mapping("parameters", values.get("parameters")),
        catch_up=_choice("catch_up", values.get("catch_up", "once"), CATCH_UP),
        overlap=_choice("overlap", values.get("overlap", "skip"), OVERLAP),
        deadline_minutes=_minutes(values.get("deadline_minutes")),
        allow_changes=_names("allow_changes", values.get("allow_changes")),
        paused_reason=reason,
        paused_until=until,
    )
    parse(schedule.cron, schedule.timezone)
    return schedule


def _check_procedure(schedule: Schedule, settings: Settings) -> catalogue.Procedure:
    found = catalogue.find(schedule.procedure, settings)
    if found.name != schedule.procedure:
        raise UsageError(f"procedure must be {found.name}, with its chapter")
    check(found.declarations, schedule.parameters)
    return found


def _warnings(schedule: Schedule) -> Iterator[str]:
    if not schedule.read_only and not schedule.allow_changes:
        yield (
            "the procedure changes something and allow_changes names nothing: what it applies is refused"
        )
    for name in schedule.allow_changes:
        if name not in KIND_MODULES and name not in OTHER_ACTIONS:
            near = nearest(name, [*KIND_MODULES, *OTHER_ACTIONS])
            yield f"allow_changes names {name!r}, which no change is called{near}"
    if schedule.timezone == "UTC":
        return
    hour = schedule.cron.split()[1]
    figures = [int(figure) for figure in re.findall(r"\d+", hour)]
    if "*" in hour or any(figure in _UNSAFE_HOURS for figure in figures):
        yield (
            f"{schedule.cron!r} in {schedule.timezone} may come due between 00:00 and 03:00 local time, "
            "which a change of daylight saving time skips or repeats; use UTC or a later hour"
        )


def _paused(value: Any) -> tuple[str | None, datetime | None]:
    if value is None:
        return None, None
    paused = _mapping("paused", value)
    if not isinstance(paused.get("reason"), str) or set(paused) - {"reason", "until"}:
        raise UsageError("paused takes a reason and, if it ends, until")
    until = paused.get("until")
    if isinstance(until, str):
        try:
            until = datetime.fromisoformat(until)
        except ValueError:
            raise UsageError(f"paused.until {until!r} is not a time") from None
    if isinstance(until, date) and not isinstance(until, datetime):
        until = datetime(until.year, until.month, until.day)
    if until is not None and not isinstance(until, datetime):
        raise UsageError(f"paused.until {until!r} is not a time")
    if until is not None and until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return paused["reason"], until


def _zone(value: Any) -> str:
    try:
        return ZoneInfo(value).key
    except (KeyError, ValueError, OSError, TypeError, AttributeError):
        raise UsageError(
            f"timezone {value!r} does not exist; expected UTC or a name such as Europe/Berlin"
        ) from None


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{name} must be a mapping, not {value!r}")
    return value


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise UsageError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return str(value)


def _minutes(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1440:
        raise UsageError(f"deadline_minutes must be a number from 1 to 1440, not {value!r}")
    return float(value)


def _names(name: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UsageError(f"{name} must be a list of names, not {value!r}")
    return tuple(value)
