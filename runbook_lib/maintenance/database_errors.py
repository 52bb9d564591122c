"""Errors of the database: which of the three it is, what separates them, and what is safe to do first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import Answer, checks_table, table
from runbook_lib.health.checks import Check, Verdict, worst_verdict
from runbook_lib.health.context import Context
from runbook_lib.health.sources import Sources
from runbook_lib.health.survey import survey
from runbook_lib.health.tables import Table
from runbook_lib.pipeline.error_guide import scenario_of_text
from runbook_lib.policy import load_policy
from runbook_lib.settings import load_settings

_SQL = load("database_errors")
_SESSIONS_SQL = load("triage")["sessions"]
_ASKED = (
    "database.reachable", "database.latency", "database.writable", "database.connections", "database.pooler",
    "database.blockers", "database.oldest_transaction", "database.prepared_transactions",
    "database.replication_slots", "database.wal", "database.disk",
)  # fmt: skip
LONG_STATEMENT_SECONDS = 30.0
_BY_SQLSTATE = {
    "53300": "database_connections", "53200": "database_connections", "40P01": "database_deadlock",
    "57014": "database_timeout", "55P03": "database_timeout", "25P03": "database_timeout",
}  # fmt: skip
_KINDS = ["error", "now", "evidence", "what_tells_it_apart", "first_safe_action"]
_ATTEMPTS = ["error", "attempts", "first_seen", "last_seen", "sample"]
_HOLDERS = ["application", "role", "sessions", "idle", "opened_within_a_minute"]
_SESSIONS = ["pid", "role", "application", "seconds", "waits_for", "query"]


@dataclass(frozen=True)
class Kind:
    """One kind of trouble: what tells it from the others, and what may be done at once without harm."""

    title: str
    tells_apart: str
    first: str


KINDS: Mapping[str, Kind] = {
    "database_connections": Kind(
        "connection limit exceeded",
        "New connections fail, those that are open work on. The count is at the limit of server, role, database or pooler.",
        "Close idle sessions of your own programs: the application that holds the most (`idle_application`). Then fewer workers or less concurrency, never more.",
    ),
    "database_deadlock": Kind(
        "deadlock detected",
        "Single statements fail after a second, and succeed when they are tried again. Nobody waits any more.",
        "Nothing at once: the attempt is tried again by itself. If it comes again, take both statements from the server's log.",
    ),
    "database_locked": Kind(
        "time-out behind a lock",
        "A time-out like the next one, but the session waits for a lock: the tree shows for whom.",
        "Ask the owner of the root to end its transaction. Else cancel the root, then terminate it: never those who wait.",
    ),
    "database_timeout": Kind(
        "time-out of a slow statement",
        "It runs and waits for no lock. One statement, the same each time, at any hour.",
        "Look at its plan and at stale statistics: monthly/database_optimization. Cancel it only if it is nobody's job.",
    ),
    "database_trouble": Kind(
        "not reachable, refusing or full",
        "Every statement fails alike, of every program.",
        "Follow what database.reachable, database.writable and database.disk say; `runbook doctor` names the step.",
    ),
}  # fmt: skip
# What is often advised for these errors, and is refused here.
REFUSED = (
    ("Increase query time-out limits", "A statement behind a lock then only waits longer, and holds its connection meanwhile: the limit of connections is met next."),
    ("Optimize database queries, when connections run out", "It takes days and frees no connection now. Count who holds them first."),
    ("Raise max_connections", "It needs a restart, and each connection takes memory: a server that is short of memory ends all of them."),
    ("Reduce concurrent jobs, because of a deadlock", "Two are enough for a deadlock. It gets rarer and stays; locking in one order ends it."),
    ("Add database indexes, because of a time-out", "Not before the plan was seen: a lock looks the same, and building an index waits for it too."),
    ("Restart the database", "All transactions are lost, and with them what tells who held the lock. The root alone is enough."),
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class DatabaseErrors(Answer):
    """What was found. `blocker_pid` is the session that holds the others up; `may_be_ended` whether it does."""

    check: Check
    checks: Sequence[Check]
    seen: Mapping[str, str]
    attempts: Table
    running: Table
    holders: Table
    blocker_pid: int | None
    may_be_ended: Check
    counts: Mapping[str, int] = field(default_factory=dict)
    problem: str | None = None

    def sentences(self) -> list[str]:
        return [f"{KINDS[name].title}: {evidence}" for name, evidence in self.seen.items()]

    @property
    def kinds(self) -> Table:
        """The kinds of error side by side: which is seen now, and what to do first."""
        rows = [
            {"error": kind.title, "now": "seen" if name in self.seen else "not seen", "evidence": self.seen.get(name),
             "what_tells_it_apart": kind.tells_apart, "first_safe_action": kind.first}
            for name, kind in sorted(KINDS.items(), key=lambda each: each[0] not in self.seen)
        ]  # fmt: skip
        return table(rows, _KINDS, self.check.message, absent="none")

    @property
    def everything(self) -> Table:
        """What the checks of the database say, the worst first."""
        order = ("critical", "warning", "not_allowed", "not_enough_data", "ok")
        return checks_table(
            sorted(self.checks, key=lambda each: order.index(each.verdict)), self.check.message
        )

    @property
    def locks(self) -> Table:
        """Sessions that wait for a lock, under the one that they wait for."""
        found = next((each for each in self.checks if each.name == "database.blockers"), None)
        lines = list(found.details.get("tree", ())) if found else []
        rows = [{"session": one_line(line, 300).replace("  ", "· ")} for line in lines]
        return table(rows, ["session"], "No session waits for another.")

    @property
    def refused(self) -> Table:
        """Advice that is often given for these errors and would do harm now."""
        rows = [{"advice": advice, "why_not": why} for advice, why in REFUSED]
        return table(rows, ["advice", "why_not"], "")

    def results(self) -> dict[str, Any]:
        """The figures, for the record."""
        return {
            "seen": dict(self.seen), "attempts": dict(self.counts), "blocker_pid": self.blocker_pid,
            "verdicts": {each.name: each.verdict for each in self.checks}, "problem": self.problem,
        }  # fmt: skip


def database_errors(
    sources: Sources, *, minutes: int = 60, blocker_pid: int | None = None
) -> DatabaseErrors:
    """Looks at the database and at what attempts met lately; changes nothing.

    `blocker_pid` is a session to look at; by default the root of the longest tree of waiters. Never raises
    for what it finds: with the database away the checks say so, and the rest is not known.
    """
    try:
        settings = load_settings()
        context = Context(settings, load_policy(settings), sources)
        checks = list(survey(context, only=_ASKED, deadline_seconds=10).checks)
    except RunbookError as error:
        return _without_answers(one_line(str(error), 500))
    attempts, running, holders, problem = _read(sources, minutes)
    counts = _counted(attempts)
    seen = _seen(checks, counts, running, minutes)
    pid, may_be_ended = _blocker(checks, blocker_pid)
    return DatabaseErrors(
        check=_overall(checks, seen, counts), checks=checks, seen=seen, counts=counts, problem=problem,
        attempts=table(_attempt_rows(attempts), _ATTEMPTS, problem or f"No attempt met an error of the database in {minutes} minutes."),
        holders=table(_holder_rows(holders), _HOLDERS, problem or "Nobody has a session here."),
        running=table(_running_rows(running), _SESSIONS, problem or f"No statement runs longer than {LONG_STATEMENT_SECONDS:g} s."),
        blocker_pid=pid, may_be_ended=may_be_ended,
    )  # fmt: skip


def _read(sources: Sources, minutes: int) -> tuple[list[Any], list[Any], list[Any], str | None]:
    """What attempts met, what runs long, and who has sessions; and why not, when it could not be read."""
    try:
        with sources.pipeline.transaction(read_only=True) as transaction:
            running = transaction.rows(_SQL["long_statements"], seconds=LONG_STATEMENT_SECONDS)
            holders = transaction.rows(_SESSIONS_SQL)
        with sources.pipeline.transaction(read_only=True) as transaction:
            found = transaction.rows(sources.reading(_SQL["failed_attempts"]), minutes=minutes)
        return found, running, holders, None
    except (RunbookError, psycopg2.Error) as error:
        first = (str(error).strip().splitlines() or ["no reason given"])[0]
        return [], [], [], f"Not known: {one_line(first, 300)}"


def kind_of(sqlstate: str | None, text: str | None) -> str | None:
    """The kind of a failed attempt's error; None when it is not the database's."""
    if sqlstate in _BY_SQLSTATE:
        return _BY_SQLSTATE[sqlstate]
    if sqlstate:
        return "database_trouble"
    found = scenario_of_text(text).id
    return found if found in KINDS else None


def _counted(attempts: Iterable[Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in attempts:
        if (kind := kind_of(row.sqlstate, row.error)) is not None:
            counts[kind] = counts.get(kind, 0) + row.attempts
    return counts


def _seen(
    checks: Sequence[Check], counts: Mapping[str, int], running: Sequence[Any], minutes: int
) -> dict[str, str]:
    """Which kinds there are now, each with its evidence; what is certain stands first."""
    found = {each.name: each for each in checks}
    bad = {name: each for name, each in found.items() if each.verdict in ("critical", "warning")}
    seen: dict[str, list[str]] = {}
    for kind, names in (
        ("database_connections", ("database.connections", "database.connections_of_role", "database.connections_of_database", "database.pooler")),
        ("database_locked", ("database.blockers",)),
        ("database_trouble", ("database.reachable", "database.writable", "database.disk")),
    ):  # fmt: skip
        seen[kind] = [bad[name].message for name in names if name in bad]
    reason = found.get("database.reachable")
    if reason is not None and reason.verdict == "critical" and scenario_of_text(reason.message).id == "database_connections":  # fmt: skip
        seen["database_connections"], seen["database_trouble"] = [reason.message], []
    if running:
        seen["database_timeout"] = [
            f"process {running[0].pid} has run one statement for {running[0].seconds:.0f} s and waits for no lock"
        ]
    for kind, count in counts.items():
        # A time-out while sessions wait for a lock is told by the lock.
        named = (
            "database_locked" if kind == "database_timeout" and seen["database_locked"] else kind
        )
        seen.setdefault(named, []).append(f"{count} attempts in {minutes} minutes")
    return {kind: one_line("; ".join(words), 400) for kind, words in seen.items() if words}


def _blocker(checks: Sequence[Check], asked: int | None) -> tuple[int | None, Check]:
    """The session to end, and whether ending it helps anybody."""
    name = "database.blocker"
    found = {each.name: each for each in checks}
    blockers, oldest = found.get("database.blockers"), found.get("database.oldest_transaction")
    roots = [root["pid"] for root in blockers.details.get("roots", ())] if blockers else []
    idle = [
        row["pid"] for row in (oldest.details.get("sessions", ()) if oldest and oldest.verdict in ("warning", "critical") else ())
    ]  # fmt: skip
    pid = asked if asked is not None else next(iter(roots), None)
    if pid is None:
        return None, Check(name, "ok", "Nobody holds others up.", 0, "sessions")
    if pid in roots:
        return pid, Check(
            name, "warning", f"Process {pid} holds others up and waits for nobody.", pid, "process"
        )
    if pid in idle:
        return pid, Check(
            name,
            "warning",
            f"Process {pid} has been in a transaction for long; nobody waits for it now.",
            pid,
            "process",
        )
    return pid, Check(
        name, "critical", f"Process {pid} holds nobody up: ending it would only lose its work.", pid, "process",
        next="End the root of the tree, not those who wait.",
    )  # fmt: skip


def _overall(checks: Sequence[Check], seen: Mapping[str, str], counts: Mapping[str, int]) -> Check:
    verdict: Verdict = worst_verdict(checks)
    if counts and verdict == "ok":
        verdict = "warning"
    first = next(iter(seen), None)
    words = (
        f"Seen: {', '.join(KINDS[kind].title for kind in seen)}."
        if seen
        else "No error of the database is seen."
    )
    worst = next((each for each in checks if each.verdict == verdict), None)
    unknown = [each.name for each in checks if not each.answered]
    return Check(
        "database.errors", verdict, words, sum(counts.values()), "attempts", 0, "database_errors.failed_attempts",
        f"what was not answered: {', '.join(unknown)}" if unknown else None,
        KINDS[first].first if first else (worst.next if worst and verdict != "ok" else None),
        details={"seen": dict(seen)},
    )  # fmt: skip


def _attempt_rows(attempts: Iterable[Any]) -> list[dict[str, Any]]:
    rows = []
    for row in attempts:
        kind = kind_of(row.sqlstate, row.error)
        if kind is not None:
            rows.append({
                "error": KINDS[kind].title, "attempts": row.attempts, "first_seen": row.first_seen,
                "last_seen": row.last_seen, "sample": one_line(row.error or row.sqlstate or "", 200),
            })  # fmt: skip
    return rows[:20]


def _holder_rows(holders: Iterable[Any]) -> list[dict[str, Any]]:
    return [
        {"application": row.application, "role": row.role, "sessions": row.sessions, "idle": row.idle,
         "opened_within_a_minute": row.new_sessions}
        for row in holders
    ]  # fmt: skip


def _running_rows(running: Iterable[Any]) -> list[dict[str, Any]]:
    return [
        {"pid": row.pid, "role": row.role, "application": row.application, "seconds": row.seconds,
         "waits_for": row.wait_event or "nothing: it computes", "query": one_line(row.query or "", 200)}
        for row in running
    ]  # fmt: skip


def _without_answers(problem: str) -> DatabaseErrors:
    check = Check("database.errors", "not_enough_data", f"Nothing could be asked. {problem}")
    nobody = Check("database.blocker", "not_enough_data", "Not known who holds others up.")
    return DatabaseErrors(
        check, (), {}, table([], _ATTEMPTS, problem), table([], _SESSIONS, problem), table([], _HOLDERS, problem), None,
        nobody, problem=problem,
    )  # fmt: skip
