"""What stands in the database: the tables and their version, the role's rights, the partitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runbook_lib.database import roles
from runbook_lib.database.connection import Connection, Database
from runbook_lib.database.schema import tables as schema_tables
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.health.checks import Check
from runbook_lib.health.probes import Probe

_SQL = load("doctor")
PARTITION_WARNING_DAYS = 7
_MAKE_PARTITIONS = "SELECT make_job_runs_partitions(); a running worker does it every hour."


def probe_tables(connection: Connection, database: Database) -> Probe:
    """Schema, rights, version and partitions, or that the tables are not there."""
    schema = database.schema
    with connection.transaction(read_only=True) as transaction:
        namespace = transaction.row(_SQL["schema_rights"], schema=schema)
        rights = transaction.rows(_SQL["table_rights"], schema=schema, **_wanted())
    yield from _schema(namespace, schema)
    present = {row.relation for row in rights if row.present}
    if namespace is None or not set(roles.WORKER) <= present:
        yield from _absent(present, schema, may_create=bool(namespace and namespace.may_create))
        yield from _foreign_pipeline(connection)
        return
    yield _version(database)
    yield from _rights(rights)
    yield from _hidden_rows(rights)
    yield from _partitions(connection, schema)


def _wanted() -> dict[str, list[str]]:
    pairs = [(relation, each) for relation in schema_tables() for each in roles.PRIVILEGES]
    return {
        "relations": [relation for relation, _ in pairs],
        "privileges": [each for _, each in pairs],
    }


def _schema(namespace: Any, schema: str) -> Iterator[Check]:
    name, source = "database.schema", _SQL["schema_rights"].source
    if namespace is None:
        yield Check(
            name,
            "critical",
            f"There is no schema {schema}.",
            source=source,
            next=f"CREATE SCHEMA {schema}, or correct RUNBOOK_DATABASE_SCHEMA.",
        )
    elif not namespace.may_use:
        yield Check(
            name,
            "critical",
            f"This role may not use the schema {schema}.",
            source=source,
            next=f"GRANT USAGE ON SCHEMA {schema} TO this role.",
        )
    else:
        words = (
            "may create tables in" if namespace.may_create else "may use, but not create tables in,"
        )
        yield Check(
            name,
            "ok",
            f"This role {words} the schema {schema}.",
            value=namespace.may_create,
            source=source,
            does_not_prove=None
            if namespace.may_create
            else "that `runbook db migrate` works: it needs a role that may create",
        )


def _absent(present: set[str], schema: str, *, may_create: bool) -> Iterator[Check]:
    source = _SQL["table_rights"].source
    advice = "`runbook db migrate` makes them."
    if not may_create:
        advice = "`runbook db migrate --sql` prints what a role that may create tables has to run."
    if present - {"content_jobs", "job_runs"}:
        missing = ", ".join(sorted(set(roles.WORKER) - present))
        words = f"The workbench's tables are incomplete in {schema}; missing: {missing}."
    elif present:
        words = f"{' and '.join(sorted(present))} in {schema} are not of the workbench's making."
        advice = "To run the worker beside them, name another schema in RUNBOOK_DATABASE_SCHEMA and run `runbook db migrate`."
    else:
        words = f"The workbench's tables are not in the schema {schema}."
    yield Check("database.tables", "critical", words, sorted(present), source=source, next=advice)


def _foreign_pipeline(connection: Connection) -> Probe:
    from runbook_lib.health.mapping import recognise

    with connection.transaction(read_only=True) as transaction:
        proposal = recognise(transaction)
    if proposal is None:
        return
    runs = proposal.runs.relation.title if proposal.runs else "no table"
    words = f"{proposal.jobs.relation.title} looks like a table of jobs, {runs} like the history of their runs."
    if missing := proposal.missing():
        words += f" {len(missing)} of {len(missing) + len(proposal.working())} statements of the runbook would lack a column."
    yield Check(
        "database.foreign_pipeline",
        "ok",
        words,
        {
            "jobs": proposal.jobs.relation.title,
            "runs": runs,
            "working": proposal.working(),
            "missing": missing,
        },
        source="mapping.columns",
        does_not_prove="that the columns mean what they are called",
        next="To use the procedures on it: `runbook doctor --propose-mapping mapping.toml`.",
    )


def _version(database: Database) -> Check:
    from runbook_lib.database.schema import current_version, expected_version

    try:
        found, expected = current_version(database), expected_version()
    except CouldNotBeDone as error:
        return Check("database.tables", "not_allowed", str(error))
    if found == expected:
        words, advice = f"The tables are of version {found}.", None
    elif found is None:
        words = f"Tables of our names are in the schema {database.schema}, but `runbook db migrate` did not make them."
        advice = "Have them made by `runbook db migrate` in an empty schema, and name it in RUNBOOK_DATABASE_SCHEMA."
    else:
        words = f"The tables are of version {found}, this program expects {expected}."
        advice = "Run `runbook db migrate`." if found < expected else "Update this program."
    return Check(
        "database.tables",
        "critical" if advice else "ok",
        words,
        found,
        threshold=expected,
        next=advice,
    )


def _rights(rights: list[Any]) -> Iterator[Check]:
    """Whether the role serves one of the purposes that roles are made for, and what it lacks for the closest."""
    granted: dict[str, frozenset[str]] = {}
    for row in rights:
        if row.granted:
            granted[row.relation] = granted.get(row.relation, frozenset()) | {row.privilege}
    purpose = roles.closest(granted)
    missing = {
        relation: [each for each in roles.PRIVILEGES if each in lacked]
        for relation, lacked in roles.lacking(granted, purpose).items()
    }
    words = "; ".join(f"{', '.join(each)} on {relation}" for relation, each in missing.items())
    yield Check(
        "database.rights",
        "critical" if missing else "ok",
        f"This role lacks {words}, which {roles.titled(purpose)} needs."
        if missing
        else f"This role has every right that {roles.titled(purpose)} needs.",
        missing or None,
        source=_SQL["table_rights"].source,
        does_not_prove=None if missing or purpose != "reader" else "that it may work or change anything: it only reads",
        next=f"`runbook db grants ROLE --as {purpose}` prints what the owner has to run." if missing else None,
    )  # fmt: skip


def _hidden_rows(rights: list[Any]) -> Iterator[Check]:
    hidden = sorted({row.relation for row in rights if row.rows_hidden})
    if hidden:
        yield Check(
            "database.row_security",
            "critical",
            f"Row-level security applies to this role on {', '.join(hidden)}: rows may be missing without any error, "
            "and an empty queue proves nothing.",
            hidden,
            source=_SQL["table_rights"].source,
            next="Connect as the tables' owner, or grant BYPASSRLS, or add a policy for this role.",
        )


def _partitions(connection: Connection, schema: str) -> Iterator[Check]:
    with connection.transaction(read_only=True) as transaction:
        right = transaction.row(_SQL["partition_function_rights"], schema=schema)
        row = transaction.row(_SQL["partitions"])
        strays = transaction.value(_SQL["stray_rows"]) if row and row.may_count else None
    if right is None or not right.may_execute:
        yield Check(
            "database.partition_function",
            "warning",
            "This role may not call make_job_runs_partitions: workers cannot make partitions ahead.",
            source=_SQL["partition_function_rights"].source,
            next="GRANT EXECUTE ON FUNCTION make_job_runs_partitions(integer) TO this role.",
        )
    yield from judge_partitions(row, strays)


def judge_partitions(row: Any, strays: int | None) -> Iterator[Check]:
    """Partitions are made ahead and the default one is empty; `strays` None: its rows may not be counted."""
    days = float(row.days_ahead) if row is not None and row.days_ahead is not None else 0.0
    short = days < PARTITION_WARNING_DAYS
    yield Check(
        "database.partitions",
        "warning" if short else "ok",
        f"Partitions of job_runs are made for {days:.0f} days ahead.",
        round(days, 1),
        "days",
        PARTITION_WARNING_DAYS,
        _SQL["partitions"].source,
        next=_MAKE_PARTITIONS if short else None,
    )
    yield _default_partition(strays, row.default_bytes if row is not None else 0)


def _default_partition(strays: int | None, size_bytes: int) -> Check:
    name = "database.default_partition"
    if strays is None and size_bytes:
        return Check(
            name,
            "warning",
            f"The default partition of job_runs takes {size_bytes} bytes, and this role may not count its rows.",
            size_bytes,
            "bytes",
            0,
            _SQL["partitions"].source,
            "that rows are in it now: they may have been moved",
            _MAKE_PARTITIONS,
        )
    if not strays:
        words = "The default partition of job_runs is empty, as it should be."
        return Check(name, "ok", words, 0, "rows", 0, _SQL["partitions"].source)
    count = f"{strays} row{'s' if strays > 1 else ''}{' or more' if strays >= 1000 else ''}"
    return Check(
        name,
        "warning",
        f"The default partition of job_runs holds {count}: partitions were not made in time. Nothing is lost.",
        strays,
        "rows",
        0,
        _SQL["stray_rows"].source,
        next=_MAKE_PARTITIONS,
    )
