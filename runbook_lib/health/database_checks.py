"""The database: reached, fast, writable."""

from __future__ import annotations

from runbook_lib.database.statements import load
from runbook_lib.errors import DatabaseUnreachable
from runbook_lib.health.checks import Check
from runbook_lib.health.probes.login_failures import explain_login_failure
from runbook_lib.health.registry import DeclaredCheck, View

_SQL = load("database_checks")


def reachable(view: View) -> Check:
    """Connects, logs in and asks who answers."""
    name, statement = "database.reachable", _SQL["server"]
    try:
        server = view.row(statement)
    except DatabaseUnreachable as error:
        failure = explain_login_failure(str(error))
        return Check(
            name,
            "critical",
            f"{failure.meaning} {error}",
            False,
            source="login",
            next=failure.advice,
            procedure="emergency/system_down",
            details={"step": failure.step},
        )
    milliseconds = round((view.pipeline.connect_seconds or 0) * 1000, 1)
    return Check(
        name,
        "ok",
        f"PostgreSQL {server.version} answers; connecting took {milliseconds:g} ms.",
        milliseconds,
        "ms",
        source=statement.source,
        does_not_prove="that it can be written, or that another role can log in",
        details={"version": server.version, "started_at": server.started_at},
    )


CHECKS: tuple[DeclaredCheck, ...] = (
    DeclaredCheck(
        "database.reachable",
        "The database takes a connection and answers.",
        reachable,
        when_hung="critical",
    ),
)
