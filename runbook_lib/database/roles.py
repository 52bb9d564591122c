"""Database roles by what they are for, each with the least that it needs.

`reader` looks at everything and writes nothing (a person with psql, a dashboard); `operator` plans and
applies changes, runs procedures, the console, the monitor and the scheduler; `worker` runs jobs. None
of them owns a table, so none can alter or drop one: migrations are the owner's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook_lib.database import schema
from runbook_lib.database.connection import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import UsageError

PURPOSES = ("reader", "operator", "worker")
PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE")
_EVERYTHING = frozenset(PRIVILEGES)
_READ = frozenset({"SELECT"})
# What a worker touches; any other table it does not even read.
WORKER: Mapping[str, frozenset[str]] = {
    "content_jobs": frozenset({"SELECT", "UPDATE"}),
    "job_runs": frozenset({"SELECT", "INSERT"}),
    "articles": frozenset({"SELECT", "INSERT", "UPDATE"}),
    "events": frozenset({"INSERT"}),
    "workers": frozenset({"SELECT", "INSERT", "UPDATE"}),
    "provider_pauses": _EVERYTHING,
    "provider_limits": frozenset({"SELECT", "UPDATE"}),
    "provider_usage": frozenset({"SELECT", "INSERT", "UPDATE"}),
    "credential_handles": frozenset({"SELECT", "INSERT"}),
    "failure_templates": frozenset({"SELECT", "INSERT", "UPDATE"}),
    # Workers drop repeated marks where no monitor does (`drop_repeated_run_marks`).
    "dirty_run_hours": frozenset({"SELECT", "INSERT", "DELETE"}),
    "run_slots": _READ,
}
# History is written by workers, and evidence only grows: an operator does not change them.
OPERATOR: Mapping[str, frozenset[str]] = {
    "job_runs": _READ,
    "job_runs_default": _READ,
    "articles": _READ,
    "archive_entries": frozenset({"SELECT", "INSERT", "UPDATE"}),
    "admin_actions": frozenset({"SELECT", "INSERT", "UPDATE"}),
    "changes": frozenset({"SELECT", "INSERT", "UPDATE"}),
    "change_rows": frozenset({"SELECT", "INSERT", "UPDATE"}),
    "notebook_runs": frozenset({"SELECT", "INSERT", "UPDATE"}),
    "content_jobs": frozenset({"SELECT", "INSERT", "UPDATE"}),
    "incidents": frozenset({"SELECT", "INSERT", "UPDATE"}),
    "timeline_entries": frozenset({"SELECT", "INSERT", "UPDATE"}),
}
_CALLS_PARTITIONS = ("operator", "worker")
_SQL = load("roles")


def needed(purpose: str) -> dict[str, frozenset[str]]:
    """Table → what a role of this purpose may do with it. Raises `UsageError` for an unknown purpose.

    A table that is not named above is for bookkeeping: an operator writes it, a worker does not see it.
    """
    tables = schema.tables()
    if purpose == "reader":
        return dict.fromkeys(tables, _READ)
    if purpose == "worker":
        return {name: WORKER[name] for name in tables if name in WORKER}
    if purpose == "operator":
        return {name: OPERATOR.get(name, _EVERYTHING) for name in tables}
    raise UsageError(f"There is no purpose {purpose!r}; a role is a {', '.join(PURPOSES)}.")


def titled(purpose: str) -> str:
    """A purpose with its article."""
    return f"an {purpose}" if purpose == "operator" else f"a {purpose}"


def grants(database: Database, role: str, purpose: str) -> list[str]:
    """The statements that make another role fit a purpose, and no more; nothing is run.

    What the role has on our tables is taken away first. They are for the tables' owner, in one transaction.
    """
    with database.transaction(read_only=True) as transaction:
        return _statements(transaction, database.schema, role, purpose)


def apply_grants(transaction: Transaction, schema_name: str, role: str, purpose: str) -> list[str]:
    """Runs these statements in an open transaction; returns them.

    Raises `UsageError` for a role that does not exist or that owns our tables.
    """
    found = transaction.row(_SQL["role_that_is_granted"], role=role, schema=schema_name)
    if found is None:
        raise UsageError(
            f"There is no role {role!r}. Make it first, as somebody who may: CREATE ROLE … LOGIN PASSWORD …"
        )
    if found.owns:
        raise UsageError(
            f"{role} owns tables of the workbench, so it has every right whatever is granted. Name another role."
        )
    statements = _statements(transaction, schema_name, role, purpose)
    for statement in statements:
        transaction.run(statement.replace("%", "%%"))
    return statements


def purpose_of(privileges: Mapping[str, frozenset[str]]) -> str | None:
    """The narrowest purpose that covers what a role may do; None when it may more than any of them."""
    for purpose in ("worker", "reader", "operator"):
        allowed = needed(purpose)
        if all(given <= allowed.get(name, frozenset()) for name, given in privileges.items()):
            return purpose
    return None


def beyond(privileges: Mapping[str, frozenset[str]], purpose: str) -> dict[str, frozenset[str]]:
    """What a role may do that its purpose does not need, by table."""
    allowed = needed(purpose)
    surplus = {name: given - allowed.get(name, frozenset()) for name, given in privileges.items()}
    return {name: given for name, given in surplus.items() if given}


def lacking(privileges: Mapping[str, frozenset[str]], purpose: str) -> dict[str, frozenset[str]]:
    """What a purpose needs and a role may not do, by table."""
    missing = {
        name: wanted - privileges.get(name, frozenset()) for name, wanted in needed(purpose).items()
    }
    return {name: each for name, each in missing.items() if each}


def closest(privileges: Mapping[str, frozenset[str]]) -> str:
    """The first of worker, operator and reader that a role serves; else the one that it lacks least for."""
    return min(
        reversed(PURPOSES),
        key=lambda purpose: sum(len(each) for each in lacking(privileges, purpose).values()),
    )


def _statements(transaction: Transaction, schema_name: str, role: str, purpose: str) -> list[str]:
    wanted = needed(purpose)
    rows: list[Any] = transaction.rows(
        _SQL["grants_of_purpose"],
        schema=schema_name, role=role, everything=list(schema.tables()), tables=list(wanted),
        privileges=[", ".join(each for each in PRIVILEGES if each in wanted[name]) for name in wanted],
        functions=purpose in _CALLS_PARTITIONS,
    )  # fmt: skip
    return [row.statement for row in rows]
