"""Recognises a pipeline that is not ours, and how its tables map to `jobs` and `runs`.

Reads catalogs, and a few distinct values of the columns that look like a status. Writes nothing there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg2 import sql

from runbook_lib.database.connection import Transaction
from runbook_lib.database.statements import load
from runbook_lib.health.vocabulary import (
    ALL_ATTEMPTS,
    JOB_COLUMNS,
    JOB_STATUSES,
    JOB_TABLE,
    MINIMUM,
    RUN_COLUMNS,
    RUN_STATUSES,
    RUN_TABLE,
    TIMES,
    WHOLE_NUMBERS,
    plain_name,
    status_of,
)

SAMPLED_ROWS = 10_000
MOST_STATUS_WORDS = 30
ENOUGH_KNOWN_WORDS = 2

_SQL = load("mapping")

# The written runbook's statements, and what each needs.
STATEMENTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "count of jobs in error": ("jobs", ("status",)),
    "recent errors": ("jobs", ("job_id", "status", "last_error", "retry_count", "created_at")),
    "common errors": ("jobs", ("status", "last_error", "created_at")),
    "stuck jobs": ("jobs", ("job_id", "status", "started_at")),
    "failures by day": ("runs", ("status", "execution_time")),
    "daily success rate": ("runs", ("status", "execution_time")),
    "processing times": ("runs", ("status", "execution_time", "started_at", "completed_at")),
    "old runs": ("runs", ("execution_time",)),
}


@dataclass(frozen=True)
class Relation:
    """One of their tables or views, with its columns by plain name."""

    schema: str
    name: str
    is_view: bool
    estimated_rows: int
    rows_hidden: bool
    may_read: bool
    columns: tuple[Any, ...]

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Mapped:
    """How one of their relations maps to `jobs` or `runs`."""

    relation: Relation
    columns: Mapping[str, str]
    statuses: Mapping[str, tuple[str, ...]]
    undecided: tuple[str, ...]
    notes: tuple[str, ...] = ()
    score: float = 0.0


@dataclass(frozen=True)
class Proposal:
    """What was recognised: `jobs`, and `runs` where there is a history of attempts."""

    jobs: Mapped
    runs: Mapped | None
    notes: tuple[str, ...] = field(default=())

    def missing(self) -> dict[str, list[str]]:
        """For each statement that would not work: what it lacks, as `relation.column`."""
        lacking = {}
        for statement, (relation, needed) in STATEMENTS.items():
            mapped = self.jobs if relation == "jobs" else self.runs
            absent = [
                f"{relation}.{each}"
                for each in needed
                if mapped is None or each not in mapped.columns
            ]
            if absent:
                lacking[statement] = absent
        return lacking

    def working(self) -> list[str]:
        return [statement for statement in STATEMENTS if statement not in self.missing()]


def recognise(transaction: Transaction) -> Proposal | None:
    """The likeliest job table of this database with its history of runs; None when nothing looks like one."""
    found = relations(transaction)
    pointers = transaction.rows(_SQL["foreign_keys"])
    jobs = _best(_as_jobs(transaction, relation) for relation in found)
    if jobs is None:
        return None
    others = [relation for relation in found if relation is not jobs.relation]
    runs = _best(_as_runs(transaction, relation, jobs, pointers) for relation in others)
    return Proposal(jobs, runs or _runs_out_of_jobs(jobs))


def relations(transaction: Transaction) -> list[Relation]:
    """Their tables and views, with their columns."""
    grouped: dict[tuple[str, str], list[Any]] = {}
    for row in transaction.rows(_SQL["columns"]):
        grouped.setdefault((row.schema_name, row.relation_name), []).append(row)
    return [
        Relation(
            schema,
            name,
            rows[0].is_view,
            rows[0].estimated_rows,
            rows[0].rows_hidden,
            rows[0].may_read,
            tuple(rows),
        )
        for (schema, name), rows in grouped.items()
    ]


def _best(candidates: Iterable[Mapped | None]) -> Mapped | None:
    # Tables before views over them; then the better fit; then the name, so that the answer is the same each time.
    found = [each for each in candidates if each is not None]
    return min(
        found,
        key=lambda each: (-each.score, each.relation.is_view, each.relation.title),
        default=None,
    )


def _as_jobs(transaction: Transaction, relation: Relation) -> Mapped | None:
    columns = _match(relation, JOB_COLUMNS)
    if not {"job_id", "status", "created_at"} <= columns.keys():
        return None
    words = status_words(transaction, relation, columns["status"])
    statuses, undecided = _sort_words(words, JOB_STATUSES)
    known = sum(len(each) for each in statuses.values())
    if words and known < ENOUGH_KNOWN_WORDS:
        return None
    name = plain_name(relation.name)
    if not words and not JOB_TABLE.search(name):
        return None
    waits = "pending" in statuses or "processing" in statuses
    score = (
        2 * bool(JOB_TABLE.search(name))
        + sum(each in columns for each in MINIMUM["jobs"])
        + ("topic" in columns)
        + min(known, 4) / 2
        # A history knows ends only, and points at what it is the history of.
        + 2 * waits
        - 2 * bool(RUN_TABLE.search(name))
    )
    return Mapped(relation, columns, statuses, undecided, _notes(relation, columns, words), score)


def _as_runs(
    transaction: Transaction, relation: Relation, jobs: Mapped, pointers: Sequence[Any]
) -> Mapped | None:
    columns = _match(relation, RUN_COLUMNS)
    pointing = [
        each.column_name
        for each in pointers
        if (each.schema_name, each.relation_name) == (relation.schema, relation.name)
        and (each.target_schema, each.target_name) == (jobs.relation.schema, jobs.relation.name)
    ]
    if pointing:
        columns["job_id"] = pointing[0]
    named_after = f"{plain_name(jobs.relation.name).rstrip('s')}_id"
    for row in relation.columns:
        if "job_id" not in columns and plain_name(row.column_name) == named_after:
            columns["job_id"] = row.column_name
    if not {"job_id", "execution_time"} <= columns.keys():
        return None
    words = status_words(transaction, relation, columns["status"]) if "status" in columns else []
    statuses, undecided = _sort_words(words, RUN_STATUSES)
    named = bool(RUN_TABLE.search(plain_name(relation.name)))
    if not named and not (pointing and statuses):
        return None
    score = 3 * bool(pointing) + 2 * named + sum(each in columns for each in MINIMUM["runs"])
    return Mapped(relation, columns, statuses, undecided, _notes(relation, columns, words), score)


def _runs_out_of_jobs(jobs: Mapped) -> Mapped | None:
    """Without a history, the jobs themselves: one run each, earlier attempts invisible."""
    ended = jobs.columns.get("completed_at") or jobs.columns.get("updated_at")
    if ended is None:
        return None
    columns = {
        name: jobs.columns[name]
        for name in ("job_id", "status", "started_at", "completed_at")
        if name in jobs.columns
    }
    columns["execution_time"] = ended
    if "last_error" in jobs.columns:
        columns["error"] = jobs.columns["last_error"]
    ends = {status: words for status, words in jobs.statuses.items() if status in RUN_STATUSES}
    note = "There is no history of runs: these are the jobs' last attempts, earlier ones are invisible."
    return Mapped(jobs.relation, columns, ends, (), (note,))


def _match(relation: Relation, vocabulary: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    by_plain_name = {plain_name(row.column_name): row for row in reversed(relation.columns)}
    found: dict[str, str] = {}
    for ours, theirs in vocabulary.items():
        fitting = [
            by_plain_name[name]
            for name in theirs
            if name in by_plain_name
            and by_plain_name[name].column_name not in found.values()
            and _type_fits(ours, by_plain_name[name])
        ]
        if fitting:
            found[ours] = fitting[0].column_name
        elif ours == "job_id" and vocabulary is JOB_COLUMNS:
            keys = [row.column_name for row in relation.columns if row.is_key]
            found |= {ours: keys[0]} if keys else {}
    # One column may be both the end of a run and its time.
    if "completed_at" not in found and vocabulary is RUN_COLUMNS:
        time = found.get("execution_time")
        if time is not None and plain_name(time) in RUN_COLUMNS["completed_at"]:
            found["completed_at"] = time
    return found


def _type_fits(ours: str, row: Any) -> bool:
    if ours in TIMES:
        return bool(row.type_category == "D")
    if ours in WHOLE_NUMBERS:
        return row.type_name in ("smallint", "integer", "bigint")
    if ours == "status":
        return row.type_category in ("S", "E")
    if ours == "job_id":
        return row.type_category in ("N", "S", "U")
    return row.type_category in ("S", "E", "U")


def status_words(transaction: Transaction, relation: Relation, column: str) -> list[str]:
    """The words of a status column: from the catalog, the planner's statistics and the first rows."""
    row = next(each for each in relation.columns if each.column_name == column)
    if row.enum_words:
        return list(row.enum_words)
    place = {"schema": relation.schema, "relation": relation.name, "column": column}
    words = set()
    for check in transaction.rows(_SQL["allowed_words"], **place):
        words |= {
            word.replace("''", "'") for word in re.findall(r"'((?:[^']|'')*)'", check.definition)
        }
    words |= {each.word for each in transaction.rows(_SQL["common_words"], **place)}
    if relation.may_read:
        sample = sql.SQL(str(_SQL["sampled_words"])).format(
            **{name: sql.Identifier(value) for name, value in place.items()}
        )
        text = sample.as_string(transaction.raw)
        words |= {
            each.word
            for each in transaction.rows(text, rows=SAMPLED_ROWS, words=MOST_STATUS_WORDS + 1)
        }
    # So many different values are no status.
    return sorted(words) if len(words) <= MOST_STATUS_WORDS else []


def _sort_words(
    words: Iterable[str], allowed: tuple[str, ...]
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    statuses: dict[str, tuple[str, ...]] = {}
    undecided = []
    for word in words:
        status = status_of(word, allowed)
        if status is None:
            undecided.append(word)
        else:
            statuses[status] = (*statuses.get(status, ()), word)
    return statuses, tuple(undecided)


def _notes(relation: Relation, columns: Mapping[str, str], words: Sequence[str]) -> tuple[str, ...]:
    types = {row.column_name: row.type_name for row in relation.columns}
    notes = []
    if not relation.may_read:
        notes.append(f"This role may not read it: GRANT SELECT ON {relation.title} TO this role.")
    elif relation.rows_hidden:
        notes.append(
            "Row-level security applies to this role: rows may be missing without any error. Add a policy, or grant BYPASSRLS."
        )
    naive = [
        theirs
        for ours, theirs in columns.items()
        if ours in TIMES and "time zone" in types[theirs] and "without" in types[theirs]
    ]
    if naive:
        notes.append(
            f"{', '.join(dict.fromkeys(naive))}: without time zone; `timezone` below says how to read it."
        )
    retries = columns.get("retry_count")
    if retries is not None and plain_name(retries) in ALL_ATTEMPTS:
        notes.append(f"{retries} may count all attempts, the first one included.")
    if not words and "status" in columns:
        notes.append(f"No value of {columns['status']} could be seen: fill in the status words.")
    return tuple(notes)
