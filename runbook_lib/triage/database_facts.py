"""Facts about the database: the way in, and whether it lets anybody read, write and connect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from runbook_lib.health.checks import Check
from runbook_lib.maintenance.sessions import OWN_PROGRAMS
from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Fact, fact_of_check, figure_of
from runbook_lib.triage.lock_facts import lock_facts
from runbook_lib.triage.schema_facts import schema_facts
from runbook_lib.triage.upkeep_facts import upkeep_facts

FULL_PERCENT = 2.0
NO_NAME = "(no name)"
# A program chooses its name itself, and a command with it is copied into a shell: what acts there is not repeated.
_HARMLESS_NAME = re.compile(r"[\w .,:/@+=-]+")
# Whose first word takes longer than that is slow to reach: a login that did not end in time proves no standstill.
SLOW_FIRST_WORD_SECONDS = 0.3
_fact = partial(fact_of_check, figure=figure_of)


def database_facts(evidence: Evidence) -> Iterator[Fact]:
    """All of them; those that need a session are not known without one."""
    yield from _entrance(evidence)
    yield from _unread(evidence)
    yield from _state(evidence)
    yield from _limits(evidence)
    yield from lock_facts(evidence)
    yield from schema_facts(evidence)
    yield from upkeep_facts(evidence)


def _entrance(evidence: Evidence) -> Iterator[Fact]:
    steps = evidence.entrance
    login = next((steps[name] for name in ("database.login", "database.limit", "database.server",
                  "database.database", "database.encryption", "database.access") if name in steps), None)  # fmt: skip
    name, link, protocol = (
        steps.get(f"database.{step}") for step in ("name", "connection", "protocol")
    )
    inside = evidence.checks.get("database.reachable")
    yield _fact(
        "database.name_unresolved",
        "resolve",
        _bad(name) if name else _passed(link),
        name,
        "The name of the database's host cannot be resolved.",
        symptom=True,
        severe=True,
        source="look-up of the database's host",
    )
    yield _fact(
        "database.name_server_silent",
        "resolve",
        _reason_is(name, "name_server"),
        name,
        "This machine's name server gave no answer for the database's host.",
    )
    yield _fact(
        "database.refused",
        "connect",
        _reason_is(link, "refused"),
        link,
        "The host answers, and refuses connections on the database's port: nothing listens there.",
        symptom=True,
        severe=True,
    )
    yield _fact(
        "database.no_route",
        "connect",
        _reason_is(link, "silent", "no_route"),
        link,
        "The database's host takes no connection in time.",
        symptom=True,
        severe=True,
    )
    yield _fact(
        "database.resets",
        "connect",
        _reason_is(link, "reset"),
        link,
        "The database's port takes the connection and resets it.",
        symptom=True,
        severe=True,
    )
    first_word_seconds = float(protocol.value or 0.0) if protocol else 0.0
    slow = first_word_seconds > SLOW_FIRST_WORD_SECONDS
    unfinished = bool(_kind_is(login, "silent"))
    unread = "newest_attempts" not in evidence.rows
    yield Fact(
        "database.slow_to_reach", "connect", slow if protocol else None,
        f"The database's first word took {first_word_seconds:.1f} s, and a login or a question takes several there and back: the way there is slow.",
        first_word_seconds, SLOW_FIRST_WORD_SECONDS, (protocol.source if protocol else None) or "SSLRequest", symptom=True, severe=unfinished or unread,
    )  # fmt: skip
    hung = bool(_reason_is(protocol, "silent") or (unfinished and not slow))
    yield _fact(
        "database.silent",
        "connect",
        hung if link or login else None,
        protocol or login,
        "The database takes the connection, and answers nothing.",
        symptom=True,
        severe=True,
    )
    yield _fact(
        "database.another_program",
        "connect",
        _bad(protocol) and not _reason_is(protocol, "silent") if protocol else None,
        protocol,
        "What takes the connection is not PostgreSQL, or ends it at the first word.",
        symptom=True,
        severe=True,
    )
    for kind, layer, words in (
        ("password", "log in", "The database refuses the password of a new session."),
        ("server", "log in", "The server has no connection left for a new session."),
        ("role", "log in", "The role has no connection left for a new session."),
        ("database", "log in", "The database has no connection left for a new session."),
        ("pooler", "log in", "The pooler takes no further client, or had no connection in time."),
        ("starting", "log in", "The server is starting, or recovering after a crash."),
    ):  # fmt: skip
        yield _fact(
            f"database.login_{kind}",
            layer,
            _kind_is(login, kind),
            login,
            words,
            symptom=True,
            severe=True,
        )
    known = ("password", "server", "role", "database", "pooler", "starting", "silent")
    other = bool(login and _bad(login) and login.details.get("kind") not in known)
    yield _fact(
        "database.login_refused",
        "log in",
        other if login else None,
        login,
        "A new session is refused at the login.",
        symptom=True,
        severe=True,
    )
    yield _fact(
        "database.opens_sessions",
        "log in",
        None if login is None else not _bad(login),
        login,
        "A new session can be opened.",
    )
    answers = None if inside is None else inside.verdict == "ok"
    yield _fact("database.answers", "query", answers, inside, "The database answers a question.")
    yield _fact(
        "database.unanswered",
        "query",
        None if answers is None else not answers,
        inside,
        "The database does not answer a question.",
    )
    yield _fact(
        "database.name_resolved",
        "resolve",
        None if name is None else not _bad(name),
        name,
        "The name of the database's host is resolved.",
    )
    yield _fact(
        "database.connects",
        "connect",
        link is not None and not _bad(link) if link else None,
        link,
        "The database's port takes connections.",
    )
    lost = login is not None and not _bad(login) and _bad(inside)
    yield _fact(
        "database.breaks_after_login", "query", lost if inside else None, inside,
        "A session is opened, and its first question is not answered: a pooler that lost the server behind it does so.",
        symptom=True, severe=True,
    )  # fmt: skip


def _unread(evidence: Evidence) -> Iterator[Fact]:
    """What nobody could read is no good news."""
    opened = evidence.entrance.get("database.opened")
    yield _fact(
        "database.not_opened", "log in", _bad(opened), opened, opened.message if opened else "The database was opened.",
        symptom=True, severe=True,
    )  # fmt: skip
    why = next((each.why for each in evidence.not_checked if each.what == "newest_attempts"), "")
    yield Fact(
        "database.history_unread", "query", "newest_attempts" not in evidence.rows, f"The history could not be read. {why}".strip(),
        why or None, None, "triage.newest_attempts", symptom=True, severe=True,
    )  # fmt: skip


def _state(evidence: Evidence) -> Iterator[Fact]:
    writable, disk, size = (
        evidence.checks.get(f"database.{name}") for name in ("writable", "disk", "size")
    )
    read_only = (
        None if writable is None or not writable.answered else writable.verdict == "critical"
    )
    yield _fact(
        "database.read_only",
        "record",
        read_only,
        writable,
        "The database takes no write.",
        symptom=True,
        severe=True,
    )
    full = next(
        (check for check in (disk, size) if check is not None and check.verdict == "critical"), None
    )
    known = [check for check in (disk, size) if check is not None and check.answered]
    yield _fact(
        "database.disk_nearly_full",
        "record",
        full is not None if known else None,
        full or disk,
        "The database's disk, or its plan's limit, is nearly used up.",
        symptom=full is not None,
    )
    room = {each.directory: each.free_percent for each in evidence.rows.get("room", ())}
    spaces = [(row, room.get(row.directory)) for row in evidence.rows.get("tablespaces", ())]
    full_spaces = [(row, free) for row, free in spaces if free is not None and free < FULL_PERCENT]
    yield Fact(
        "database.tablespace_full", "record", bool(full_spaces) if any(free is not None for _, free in spaces) else None,
        f"The tablespace {full_spaces[0][0].name} has {full_spaces[0][1]:.1f} % of its disk left." if full_spaces else "Tablespaces have room.",
        full_spaces[0][1] if full_spaces else None, FULL_PERCENT, evidence.source("tablespaces"), symptom=True, severe=True,
    )  # fmt: skip
    latency = evidence.checks.get("database.latency")
    slow = None if latency is None or not latency.answered else latency.verdict != "ok"
    yield _fact(
        "database.slow_answers",
        "query",
        slow,
        latency,
        "A question to the database and back takes long.",
        symptom=True,
    )


def _limits(evidence: Evidence) -> Iterator[Fact]:
    pooler = evidence.checks.get("database.pooler")
    waits = None if pooler is None or not pooler.answered else pooler.verdict != "ok"
    yield _fact(
        "database.pooler_queues",
        "log in",
        waits,
        pooler,
        "Clients wait for the pooler.",
        symptom=True,
    )
    for owner, suffix in (("server", ""), ("role", "_of_role"), ("database", "_of_database")):
        check = evidence.checks.get(f"database.connections{suffix}")
        full = None if check is None or not check.answered else check.verdict == "critical"
        yield _fact(
            f"database.connections_full_{owner}",
            "log in",
            full,
            check,
            f"Nearly all connections that this {owner} may have are in use.",
            symptom=True,
        )
    sessions = evidence.rows.get("sessions")
    worst = max(sessions or (), key=lambda row: row.idle, default=None)
    yield Fact(
        "database.one_program_holds_idle_sessions", "log in",
        None if sessions is None else bool(worst and worst.idle >= 10 and worst.idle * 2 > sum(row.sessions for row in sessions)),
        f"Most sessions are idle ones of one program ({worst.application})." if worst else "Most sessions are idle ones of one program.",
        worst.idle if worst else None, 10, evidence.source("sessions"), subject=_program(worst),
    )  # fmt: skip
    workers = [row for row in sessions or () if row.application == "runbook-worker"]
    oldest = max((row.oldest_seconds for row in workers), default=None)
    yield Fact(
        "database.old_worker_sessions_live", "log in", None if sessions is None else oldest is not None,
        "Workers' sessions that were opened earlier go on working.", oldest, None, evidence.source("sessions"),
    )  # fmt: skip


def _program(row: Any) -> dict[str, Any]:
    """Whose idle sessions could be ended: a program with a name, and none of the workbench."""
    if row is None or row.application.lower().startswith((NO_NAME, OWN_PROGRAMS)):
        return {}
    if not (_HARMLESS_NAME.fullmatch(row.application) and _HARMLESS_NAME.fullmatch(row.role or "")):
        return {}
    return {"application": row.application, "role": row.role}


def _bad(check: Check | None) -> bool:
    return check is not None and check.verdict == "critical"


def _passed(check: Check | None) -> bool | None:
    """Whether a later step shows that this one went well."""
    return None if check is None else False


def _reason_is(check: Check | None, *reasons: str) -> bool | None:
    return None if check is None else check.details.get("reason") in reasons


def _kind_is(check: Check | None, kind: str) -> bool | None:
    return None if check is None else check.details.get("kind") == kind
