"""Reads the mapping file (`RUNBOOK_MAPPING`) and says what is wrong in it: entry, value, what was meant."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from runbook_lib.errors import ConfigurationError
from runbook_lib.health.relations import NOT_MAPPED, RELATIONS
from runbook_lib.health.vocabulary import (
    JOB_COLUMNS,
    JOB_STATUSES,
    RUN_COLUMNS,
    RUN_STATUSES,
    plain_name,
)

_ENTRIES = ("schema", "table", "timezone", "columns", "statuses")
# `undecided` is what the proposal could not decide: it has to be empty before the file is used.
_STATUSES = {
    "jobs": (*JOB_STATUSES, "undecided"),
    "runs": (*RUN_STATUSES, "released", "undecided"),
}
_REQUIRED = {"jobs": ("job_id", "status"), "runs": ("execution_time",)}


@dataclass(frozen=True)
class TableMapping:
    """How one table of theirs is read as `jobs` or `runs`: our column → theirs, our status → their words.

    `only_known`: rows with a status word that has no meaning are not read. So it is for runs that are
    read out of the jobs, where a job that waits is no run; anywhere else such a word is shown.
    """

    ours: str
    schema: str
    table: str
    columns: Mapping[str, str]
    statuses: Mapping[str, tuple[str, ...]]
    timezone: str = "UTC"
    only_known: bool = False

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def words(self) -> dict[str, str]:
        """Their status words → ours, without those that are left out."""
        return {
            word: status
            for status, words in self.statuses.items()
            for word in words
            if status not in ("left_out", "undecided")
        }

    @property
    def left_out(self) -> tuple[str, ...]:
        """Words of rows that are not read."""
        return self.statuses.get("left_out", ())


@dataclass(frozen=True)
class PipelineMapping:
    """The mapping file as it was read. `runs` is None where neither a history nor an end of jobs is known."""

    file: Path
    jobs: TableMapping
    runs: TableMapping | None

    @property
    def tables(self) -> tuple[TableMapping, ...]:
        return (self.jobs,) if self.runs is None else (self.jobs, self.runs)

    def places(self) -> dict[str, list[str]]:
        """Every column of theirs that is read, as binds: `schemas`, `tables`, `columns`."""
        found = dict.fromkeys(
            (mapped.schema, mapped.table, column)
            for mapped in self.tables
            for column in mapped.columns.values()
        )
        schemas, tables, columns = (list(each) for each in zip(*found, strict=True))
        return {"schemas": schemas, "tables": tables, "columns": columns}

    @property
    def runs_are_jobs(self) -> bool:
        """Whether the runs are the jobs' last attempts, since there is no history."""
        return self.runs is not None and self.runs.title == self.jobs.title

    def missing(self, needs: Iterable[str]) -> list[str]:
        """Of columns such as `runs.started_at`, those that have no counterpart."""
        there = {
            f"{mapped.ours}.{column}"
            for mapped in self.tables
            for column in (*mapped.columns, *(["job_key"] if "job_id" in mapped.columns else []))
        }
        return [need for need in needs if need not in there]


def read_mapping(file: Path) -> PipelineMapping:
    """The mapping of a file. Raises `ConfigurationError` that names file, entry and fault."""
    return _Reader(file).read()


class _Reader:
    """One reading of one file; every complaint names the file and the entry."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> PipelineMapping:
        found = self._parse()
        self._refuse_unknown("", found, ("jobs", "runs"), "a section")
        if "jobs" not in found:
            raise self._complaint("jobs", "is missing: say which table holds the jobs")
        jobs = self._table("jobs", found["jobs"])
        runs = self._table("runs", found["runs"]) if "runs" in found else _runs_out_of_jobs(jobs)
        if runs is not None and runs.title == jobs.title and "status" in runs.columns:
            columns = {**runs.columns, "job_status": runs.columns["status"]}
            runs = replace(runs, columns=columns, only_known=True)
        return PipelineMapping(self._file, jobs, runs)

    def _parse(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self._file.read_text("utf-8"))
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(
                f"RUNBOOK_MAPPING: {self._file} cannot be read: {reason}. "
                "`runbook doctor --propose-mapping FILE` writes one."
            ) from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(
                f"RUNBOOK_MAPPING: {self._file} is no TOML: {error}."
            ) from None

    def _table(self, ours: str, given: Any) -> TableMapping:
        section = self._section(ours, given)
        self._refuse_unknown(ours, section, _ENTRIES, "an entry")
        columns = self._columns(ours, section.get("columns", {}))
        return TableMapping(
            ours,
            self._text(f"{ours}.schema", section.get("schema", "public")),
            self._text(f"{ours}.table", section.get("table")),
            columns,
            self._statuses(ours, section.get("statuses", {}), "status" in columns),
            self._time_zone(f"{ours}.timezone", section.get("timezone", "UTC")),
        )

    def _columns(self, ours: str, given: Any) -> dict[str, str]:
        where = f"{ours}.columns"
        section = self._section(where, given)
        allowed = tuple(name for name in RELATIONS[ours] if name not in NOT_MAPPED)
        for name in section:
            if name not in allowed and (known := _our_name(ours, name)):
                raise self._complaint(
                    f"{where}.{name}",
                    f"is not a column of ours; did you mean {known!r}? Left of = stands our name",
                )
        self._refuse_unknown(where, section, allowed, "a column of ours")
        for name in _REQUIRED[ours]:
            if name not in section:
                raise self._complaint(
                    f"{where}.{name}", f"is missing: {ours} cannot be read without it"
                )
        return {name: self._text(f"{where}.{name}", theirs) for name, theirs in section.items()}

    def _statuses(self, ours: str, given: Any, needed: bool) -> dict[str, tuple[str, ...]]:
        where, allowed = f"{ours}.statuses", _STATUSES[ours]
        section = self._section(where, given)
        self._refuse_unknown(where, section, allowed, "a status of ours")
        found = {
            name: tuple(self._words(f"{where}.{name}", words)) for name, words in section.items()
        }
        choices = ", ".join(name for name in allowed if name != "undecided")
        if undecided := found.get("undecided"):
            raise self._complaint(
                f"{where}.undecided",
                f"still holds {', '.join(map(repr, undecided))}: decide what each means and move it into one of {choices}",
            )
        seen: dict[str, str] = {}
        for name, words in found.items():
            for word in words:
                if word in seen:
                    raise self._complaint(
                        f"{where}.{name}", f"holds {word!r}, and so does {seen[word]}: keep one"
                    )
                seen[word] = name
        if needed and not seen:
            raise self._complaint(where, f"maps no word of theirs: fill in {choices}")
        return found

    def _words(self, where: str, given: Any) -> list[str]:
        if not isinstance(given, list):
            raise self._complaint(where, f"must be a list of their words, and is {given!r}")
        return [self._text(where, word) for word in given]

    def _time_zone(self, where: str, given: Any) -> str:
        name = self._text(where, given)
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise self._complaint(
                where, f"is {name!r}, which is no time zone; expected a name such as Europe/Berlin"
            ) from None
        return name

    def _section(self, where: str, given: Any) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise self._complaint(where, f"must be a section, and is {given!r}")
        return given

    def _text(self, where: str, given: Any) -> str:
        if given is None:
            raise self._complaint(where, "is missing")
        if not isinstance(given, str) or not given or "\0" in given:
            raise self._complaint(where, f"must be a text, and is {given!r}")
        return given

    def _refuse_unknown(
        self, where: str, given: Iterable[str], allowed: tuple[str, ...], what: str
    ) -> None:
        for name in given:
            if name not in allowed:
                entry = f"{where}.{name}" if where else name
                raise self._complaint(entry, f"is not {what}; {nearest(name, allowed)}")

    def _complaint(self, entry: str, words: str) -> ConfigurationError:
        return complaint(self._file, entry, words)


def complaint(file: Path, entry: str, words: str) -> ConfigurationError:
    """What is wrong with one entry of a mapping file."""
    end = "" if words.endswith("?") else "."
    return ConfigurationError(f"RUNBOOK_MAPPING: {file}: {entry} {words}{end}")


def _our_name(ours: str, theirs: str) -> str | None:
    """Our column for a name that other pipelines give it."""
    vocabulary = JOB_COLUMNS if ours == "jobs" else RUN_COLUMNS
    plain = plain_name(theirs)
    return next((name for name, others in vocabulary.items() if plain in others), None)


def nearest(name: str, allowed: Iterable[str]) -> str:
    """What was probably meant, in words; all that there is when nothing is near."""
    allowed = list(allowed)
    by_lower = {each.lower(): each for each in allowed}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    if close:
        return f"did you mean {by_lower[close[0]]!r}?"
    shown = ", ".join(allowed[:30]) or "none"
    return f"there are: {shown}" + (" …" if len(allowed) > 30 else "")


def _runs_out_of_jobs(jobs: TableMapping) -> TableMapping | None:
    """Without a history, the jobs themselves: one run each, the last."""
    ended = jobs.columns.get("completed_at") or jobs.columns.get("updated_at")
    if ended is None:
        return None
    shared = ("job_id", "status", "started_at", "completed_at", "category", "error_class")
    columns = {name: jobs.columns[name] for name in shared if name in jobs.columns}
    columns["execution_time"] = ended
    if "last_error" in jobs.columns:
        columns["error"] = jobs.columns["last_error"]
    statuses = {name: words for name, words in jobs.statuses.items() if name in RUN_STATUSES}
    return TableMapping("runs", jobs.schema, jobs.table, columns, statuses, jobs.timezone)
