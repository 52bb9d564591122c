"""Facts about the tables: whether they are what our programs expect, and whether the role may use them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runbook_lib.database.expected_schema import expected_names
from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Fact

NEEDED_INDEXES = (
    "content_jobs_due",
    "content_jobs_deferred",
    "content_jobs_leased",
    "content_jobs_pkey",
)
STATUS_WORDS = ("pending", "processing", "completed", "error")


def schema_facts(evidence: Evidence) -> Iterator[Fact]:
    yield from _columns_indexes_and_rights(evidence)
    yield from _rules(evidence)


def _columns_indexes_and_rights(evidence: Evidence) -> Iterator[Fact]:
    found = evidence.rows.get("columns")
    missing = _missing_columns(found)
    yield Fact(
        "database.columns_missing", "query", None if found is None else bool(missing),
        f"Columns that our statements use are not there: {', '.join(missing) or 'none'}.", missing, [], evidence.source("columns"), symptom=True, severe=True,
    )  # fmt: skip
    demanded = [
        f"{row.title}.{row.name}" for row in found or ()
        if row.demanded and row.name not in expected_names("column").get(row.title, frozenset())
    ]  # fmt: skip
    yield Fact(
        "database.columns_demanded", "record", None if found is None else bool(demanded),
        f"Columns that no migration of ours made demand a value: {', '.join(demanded) or 'none'}.", demanded, [], evidence.source("columns"), symptom=True, severe=True,
    )  # fmt: skip
    rules = evidence.rows.get("status_rules")
    bad = [
        rule.name
        for rule in rules or ()
        if "= ANY" in rule.definition
        and not all(f"'{word}'" in rule.definition for word in STATUS_WORDS)
        and "(status = ANY" in rule.definition
    ]
    yield Fact(
        "database.status_rule_differs", "record", None if rules is None else bool(bad),
        "A constraint on the status of jobs refuses a status that the worker writes.", bad, [], evidence.source("status_rules"), symptom=True, severe=True,
    )  # fmt: skip
    rows = evidence.rows.get("indexes")
    usable = {row.name for row in rows or () if row.usable}
    # Without the right to use the schema no table of it is seen, nor an index.
    seen = {row.relation for row in evidence.rows.get("rules_of_tables", ()) if row.kind == "table"}
    absent = sorted(set(NEEDED_INDEXES) - usable) if usable or "content_jobs" in seen else []
    yield Fact(
        "database.claim_index_missing", "claim", None if rows is None else bool(absent),
        f"Indexes of content_jobs are missing or invalid: {', '.join(absent) or 'none'}.", absent, [], evidence.source("indexes"), symptom=True, subject={"index": absent[0]} if absent else {},
    )  # fmt: skip
    rights = evidence.rows.get("rights_of_workers")
    lacking = [f"{row.privilege} on {row.relation} ({row.role})" for row in rights or ()]
    yield Fact(
        "database.rights_missing", "record", None if rights is None else bool(lacking),
        f"The role that works lacks rights: {', '.join(lacking[:4]) or 'none'}.", lacking[:8], [], evidence.source("rights_of_workers"), symptom=True, severe=True,
        subject={"role": rights[0].role} if rights else {},
    )  # fmt: skip


def _missing_columns(found: Any) -> list[str]:
    there: dict[str, set[str]] = {}
    for row in found or ():
        there.setdefault(row.title, set()).add(row.name)
    return sorted(
        f"{table}.{name}"
        for table, names in there.items()
        for name in expected_names("column").get(table, frozenset()) - names
    )


def rules_of_others(evidence: Evidence) -> list[Any]:
    """Checks, triggers and policies on our tables that no migration of ours made."""
    rows = evidence.rows.get("rules_of_tables", ())
    return [row for row in rows if row.kind != "table" and row.name not in expected_names(row.kind).get(row.relation, ())]  # fmt: skip


def _rules(evidence: Evidence) -> Iterator[Fact]:
    """Tables that are gone, and checks, triggers and policies that the migrations did not make."""
    rows, source = evidence.rows.get("rules_of_tables"), evidence.source("rules_of_tables")
    there = {row.relation for row in rows or () if row.kind == "table"}
    gone = sorted(set(expected_names("table")) - there) if there else []
    yield Fact(
        "database.tables_missing", "query", None if rows is None else bool(gone),
        f"Tables that the worker needs are not there: {', '.join(gone) or 'none'}.", gone, [], source, symptom=True, severe=True,
    )  # fmt: skip
    hidden = evidence.rows.get("rows_hidden")
    which = [row.title for row in hidden or () if row.rows_hidden]
    yield Fact(
        "database.rows_hidden", "query", None if hidden is None else bool(which),
        f"Row-level security applies to this role on {', '.join(which) or 'no table'}: rows may be missing without an error.",
        which, [], evidence.source("rows_hidden"), symptom=True, severe=True,
    )  # fmt: skip
    strange = rules_of_others(evidence)
    checks = [f"{row.relation}.{row.name}" for row in strange if row.kind == "constraint"]
    yield Fact(
        "database.constraints_of_others", "record", None if rows is None else bool(checks),
        f"Constraints on our tables that no migration of ours made: {', '.join(checks) or 'none'}.", checks, [], source, clue=True,
    )  # fmt: skip
    others = [f"{row.kind} {row.name} on {row.relation}" for row in strange if row.kind != "constraint"]  # fmt: skip
    yield Fact(
        "database.rules_of_others", "record", None if rows is None else bool(others),
        f"Triggers and policies on our tables that no migration of ours made: {', '.join(others) or 'none'}.", others, [], source, clue=True,
    )  # fmt: skip
