"""The mapping of a pipeline that is not ours, compared with its tables: rights, rows, words, columns."""

from __future__ import annotations

from collections.abc import Iterator

from runbook_lib.database.connection import Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import ConfigurationError, RunbookError
from runbook_lib.health.attachment import their_definitions
from runbook_lib.health.checks import Check
from runbook_lib.health.mapping import SAMPLED_ROWS, relations, status_words
from runbook_lib.health.mapping_reader import PipelineMapping, TableMapping, read_mapping
from runbook_lib.health.needs import answers, lacking
from runbook_lib.health.probes import Probe
from runbook_lib.health.sources import refuse_their_schema, their_database
from runbook_lib.settings import Settings

STATEMENT_SECONDS = 10.0
_SQL = load("relations")
_GRANTS = "`runbook db grants ROLE --attached` prints what its owner has to run."


def probe_mapping(settings: Settings) -> Probe:
    """Every step for the mapping of these settings; nothing for a pipeline of our own."""
    if settings.runbook_mapping is None:
        return
    try:
        mapping = read_mapping(settings.runbook_mapping)
        refuse_their_schema(settings, mapping)
    except ConfigurationError as error:
        yield Check("mapping.file", "critical", str(error), source="RUNBOOK_MAPPING")
        return
    yield _read(mapping)
    database = their_database(settings, mapping, "runbook doctor")
    with database.transaction(read_only=True, deadline_seconds=STATEMENT_SECONDS) as transaction:
        try:
            their_definitions(transaction, mapping)
        except ConfigurationError as error:
            yield Check("mapping.tables", "critical", str(error), source="relations.their_columns")
            return
        yield from _rights(transaction, mapping)
        for mapped in mapping.tables:
            yield from _words(transaction, mapping, mapped)
    yield _columns(mapping)
    yield _own_tables(settings)


def _read(mapping: PipelineMapping) -> Check:
    runs = mapping.runs
    if runs is None:
        words = "there is no history of runs, and the jobs have no time of their end: no rate, no duration"
    elif mapping.runs_are_jobs:
        words = "there is no history of runs: the runs are the jobs' last attempts, earlier ones are invisible"
    else:
        words = f"{runs.title} holds the runs"
    return Check(
        "mapping.file",
        "ok" if runs is not None else "warning",
        f"{mapping.jobs.title} holds the jobs; {words}.",
        value={"jobs": mapping.jobs.title, "runs": runs.title if runs else None},
        source=str(mapping.file),
    )


def _rights(transaction: Transaction, mapping: PipelineMapping) -> Iterator[Check]:
    found = transaction.rows(_SQL["their_rights"], **mapping.places())
    refused = [row for row in found if not row.may_read]
    names = [f"{row.schema_name}.{row.table_name}.{row.column_name}" for row in refused]
    yield Check(
        "mapping.rights",
        "not_allowed" if refused else "ok",
        f"This role may not read {', '.join(names)}."
        if refused
        else f"This role may read all {len(found)} columns of the mapping.",
        names or len(found),
        source=_SQL["their_rights"].source,
        next=_GRANTS if refused else None,
    )
    hidden = sorted({f"{row.schema_name}.{row.table_name}" for row in found if row.rows_hidden})
    if hidden:
        yield Check(
            "mapping.row_security",
            "warning",
            f"Row-level security applies to this role on {', '.join(hidden)}: rows may be missing without any error, "
            "and an empty queue proves nothing.",
            hidden,
            source=_SQL["their_rights"].source,
            does_not_prove="that rows are hidden: a policy may let this role see them all",
            next=_GRANTS,
        )


def _words(
    transaction: Transaction, mapping: PipelineMapping, mapped: TableMapping
) -> Iterator[Check]:
    column = mapped.columns.get("status")
    # Words of runs that are read out of the jobs are the jobs' words.
    if column is None or mapped.only_known:
        return
    relation = next(
        (
            each
            for each in relations(transaction)
            if (each.schema, each.name) == (mapped.schema, mapped.table)
        ),
        None,
    )
    if relation is None:
        return
    seen = status_words(transaction, relation, column)
    unknown = sorted(set(seen) - set(mapped.words) - set(mapped.left_out))
    name = f"mapping.words_of_{mapped.ours}"
    if unknown:
        listed = ", ".join(map(repr, unknown))
        yield Check(
            name,
            "warning",
            f"{mapped.title}.{column} holds words that the mapping does not know: {listed}. "
            "Such rows are shown under their own word, and no rate counts them.",
            unknown,
            source="mapping.sampled_words",
            next=f"Add each to one of the lists of [{mapped.ours}.statuses] in {mapping.file}.",
        )
        return
    yield Check(
        name,
        "ok" if seen else "not_enough_data",
        f"Every word seen in {mapped.title}.{column} is mapped."
        if seen
        else f"No word could be seen in {mapped.title}.{column}.",
        seen,
        source="mapping.sampled_words",
        does_not_prove=f"that there is no other: the catalog, the planner's statistics and the first {SAMPLED_ROWS:,} rows were looked at",
    )


def _columns(mapping: PipelineMapping) -> Check:
    lost = lacking(mapping.missing)
    columns = sorted({column for missing in lost.values() for column in missing})
    costs = "; ".join(f"{answer} (lacks {', '.join(missing)})" for answer, missing in lost.items())
    return Check(
        "mapping.columns",
        "ok",
        f"{len(answers()) - len(lost)} of {len(answers())} checks and figures can be answered."
        + (f" Not: {costs}." if lost else ""),
        {"missing": columns, "costs": lost},
        source=str(mapping.file),
        next="Where the pipeline has such a column under another name, add it to the mapping."
        if lost
        else None,
    )


def _own_tables(settings: Settings) -> Check:
    """Where our own tables are, and whether they are current. Starts nothing."""
    from runbook_lib.database import own_tables, schema

    name = "mapping.own_tables"
    if settings.own_tables_url() is None:
        return Check(
            name,
            "ok",
            f"Our own tables are in the embedded PostgreSQL under {settings.runbook_home}, which starts by itself.",
            source="RUNBOOK_DATABASE_URL",
            next="For more than one machine, name a database in RUNBOOK_DATABASE_URL.",
        )
    with own_tables(settings, "runbook doctor") as database:
        where = f"Our own tables are at {database.address}, schema {database.schema}"
        try:
            schema.require_current(database)
        except RunbookError as error:
            return Check(name, "critical", str(error), source="RUNBOOK_DATABASE_URL")
    return Check(
        name,
        "ok",
        f"{where}, version {schema.expected_version()}.",
        source="RUNBOOK_DATABASE_URL",
    )
