"""Facts about the database: the way in, then what holds it up from inside."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

from runbook_lib.database.expected_schema import expected_names
from runbook_lib.health.checks import Check
from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Fact, fact_of_check

# Another session's transaction that holds locks for longer is no ordinary one of a worker.
LONG_LOCK_SECONDS = 5.0
# A whole-table lock stops everybody from its first moment on.
TABLE_LOCK_SECONDS = 1.0
WHOLE_TABLE = ("AccessExclusiveLock", "ExclusiveLock", "ShareRowExclusiveLock", "ShareLock")
NEEDED_INDEXES = (
    "content_jobs_due",
    "content_jobs_deferred",
    "content_jobs_leased",
    "content_jobs_pkey",
)
LARGE_TABLE_ROWS = 10_000
# Far more than run at once between two vacuums of a busy queue.
MANY_TRANSACTIONS = 1000
DEAD_ROWS_SHARE, FEWEST_DEAD_ROWS = 0.5, 20_000
# Helpers of a server start with it, within moments; later means that it recovered from a crash.
RESTART_SECONDS = 3.0
FULL_PERCENT = 2.0
RECENT_CRASH = timedelta(minutes=15)
# Once, and jobs flow again: to be watched. Again and again, it is never long ago.
JUST_RECOVERED = timedelta(minutes=1)
STATISTICS_SECONDS = 30.0
# A worker's own transaction is no forgotten console's.
WORKERS = "runbook-worker"
STATUS_WORDS = ("pending", "processing", "completed", "error")


def database_facts(evidence: Evidence) -> Iterator[Fact]:
    """All of them; those that need a session are not known without one."""
    yield from _entrance(evidence)
    yield from _unread(evidence)
    yield from _state(evidence)
    yield from _limits(evidence)
    yield from _locks(evidence)
    yield from _shape(evidence)
    yield from _rules(evidence)
    yield from _upkeep(evidence)
    yield from _restarts(evidence)


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
    hung = bool(_reason_is(protocol, "silent") or _kind_is(login, "silent"))
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
        name is not None and not _bad(name) if name or link else None,
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
    lost = _passed(link) and login is not None and not _bad(login) and answers is False
    yield _fact(
        "database.breaks_after_login",
        "query",
        bool(lost) if inside else None,
        inside,
        "A session is opened, and its first question is not answered.",
        symptom=True,
        severe=True,
    )


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
        worst.idle if worst else None, 10, evidence.source("sessions"), subject={"application": worst.application, "role": worst.role} if worst else {},
    )  # fmt: skip
    workers = [row for row in sessions or () if row.application == "runbook-worker"]
    oldest = max((row.oldest_seconds for row in workers), default=None)
    yield Fact(
        "database.old_worker_sessions_live", "log in", None if sessions is None else oldest is not None,
        "Workers' sessions that were opened earlier go on working.", oldest, None, evidence.source("sessions"),
    )  # fmt: skip


def _locks(evidence: Evidence) -> Iterator[Fact]:
    rows, source = evidence.rows.get("table_locks"), evidence.source("table_locks")
    whole = [
        row
        for row in rows or ()
        if row.mode in WHOLE_TABLE
        and (
            (row.granted and (row.transaction_seconds or 0) >= TABLE_LOCK_SECONDS)
            or (row.hidden and row.waiting)
            or (not row.granted and row.waiting)
        )
    ]
    first = whole[0] if whole else None
    yield Fact(
        "database.table_lock_held", "query", None if rows is None else bool(whole),
        _whole_lock(first) if first
        else "A session holds a lock on a whole table of the pipeline.",
        _rounded(first.transaction_seconds) if first else None, TABLE_LOCK_SECONDS, source, symptom=True, severe=True, subject=_session(first),
    )  # fmt: skip
    blockers = evidence.checks.get("database.blockers")
    waiting = None if blockers is None or not blockers.answered else bool(blockers.value)
    yield Fact(
        "database.sessions_wait", "query", waiting, "Sessions wait for a lock that another one holds.",
        blockers.value if blockers else None, 0, blockers.source or "" if blockers else "",
    )  # fmt: skip
    locked = "tables_locked_for_reading" in evidence.rows
    yield Fact(
        "database.reading_waits_for_a_lock", "query", locked or (False if rows is not None else None),
        "Reading the pipeline's tables has to wait for somebody's lock.", locked, None, "triage.newest_attempts", symptom=True, severe=True,
    )  # fmt: skip
    idle = [row for row in rows or () if row.mode in ("RowShareLock", "RowExclusiveLock") and row.relation.endswith("content_jobs")
            and str(row.state).startswith("idle in transaction") and (row.in_state_seconds or 0) >= LONG_LOCK_SECONDS
            and row.application != WORKERS]  # fmt: skip
    sitting = idle[0] if idle else None
    yield Fact(
        "database.idle_transaction_holds_jobs", "claim", None if rows is None else bool(idle),
        f"Process {sitting.pid} ({sitting.application or 'no name'}) sits idle in a transaction that locked rows of content_jobs." if sitting
        else "A session sits idle in a transaction that locked jobs.",
        round(sitting.in_state_seconds, 1) if sitting else None, LONG_LOCK_SECONDS, source, subject=_session(sitting),
    )  # fmt: skip


def _session(row: Any | None) -> dict[str, Any]:
    if row is None or row.pid is None:
        return {}
    if not row.granted:
        return {"pid": row.blocker}
    known = {"pid": row.pid, "application": row.application}
    return known if row.since is None else {**known, "since": row.since.isoformat()}


def _whole_lock(row: Any) -> str:
    if row.pid is None:
        return f"A prepared transaction holds a lock on all of {row.relation}; no process belongs to it (pg_prepared_xacts)."
    if not row.granted:
        return f"Process {row.pid} ({_who(row)}) waits for a lock on all of {row.relation}, and everybody else waits behind it: process {row.blocker} holds it up."
    return f"Process {row.pid} ({_who(row)}) holds a lock on all of {row.relation}."


def _who(row: Any) -> str:
    return "another role's, the rest is hidden" if row.hidden else f"{row.application or 'no name'}, {row.state}"  # fmt: skip


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _shape(evidence: Evidence) -> Iterator[Fact]:
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
    absent = sorted(set(NEEDED_INDEXES) - usable)
    yield Fact(
        "database.claim_index_missing", "claim", None if rows is None else bool(absent),
        f"Indexes of content_jobs are missing or invalid: {', '.join(absent) or 'none'}.", absent, [], evidence.source("indexes"), symptom=True, subject={"index": absent[0]} if absent else {},
    )  # fmt: skip
    rights = evidence.rows.get("rights_of_workers")
    lacking = [f"{row.privilege} on {row.relation} ({row.role})" for row in rights or ()]
    readers_only = (
        bool(rights) and not any(row.of_a_worker for row in rights or ()) and len(rights or ()) > 8
    )
    yield Fact(
        "database.rights_missing", "record", None if rights is None or readers_only else bool(lacking),
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
    strange = [row for row in rows or () if row.kind != "table" and row.name not in expected_names(row.kind).get(row.relation, ())]  # fmt: skip
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


def _upkeep(evidence: Evidence) -> Iterator[Fact]:
    rows, source = evidence.rows.get("table_statistics"), evidence.source("table_statistics")
    largest = max((row.live_rows for row in rows or ()), default=None)
    yield Fact("database.table_large", "claim", None if rows is None else (largest or 0) >= LARGE_TABLE_ROWS,
               "A table of the pipeline is so large that reading all of it takes long.", largest, LARGE_TABLE_ROWS, source)  # fmt: skip
    dead = [
        row
        for row in rows or ()
        if row.dead_rows >= FEWEST_DEAD_ROWS
        and row.dead_rows > DEAD_ROWS_SHARE * max(1, row.live_rows)
    ]
    yield Fact("database.dead_rows_many", "query", None if rows is None else bool(dead),
               "Dead rows of a table outnumber what autovacuum should leave.", dead[0].dead_rows if dead else None, FEWEST_DEAD_ROWS, source)  # fmt: skip
    oldest = evidence.checks.get("database.oldest_transaction")
    prepared = evidence.checks.get("database.prepared_transactions")
    holder = next(
        (
            check
            for check in (oldest, prepared)
            if check is not None and check.verdict in ("warning", "critical")
        ),
        None,
    )
    yield _fact(
        "database.old_transaction",
        "query",
        holder is not None if oldest or prepared else None,
        holder or oldest,
        "An old transaction keeps dead rows from being removed.",
        subject=_oldest(oldest),
    )
    snapshot, asked = evidence.row("snapshot"), evidence.source("snapshot")
    yield Fact(
        "database.snapshot_held", "query", None if snapshot is None else snapshot.transactions_behind >= MANY_TRANSACTIONS,
        f"{snapshot.transactions_behind if snapshot else 0} transactions began since the oldest that still runs: dead rows since then cannot be removed.",
        snapshot.transactions_behind if snapshot else None, MANY_TRANSACTIONS, asked,
    )  # fmt: skip
    yield Fact(
        "database.autovacuum_off", "query", None if snapshot is None else snapshot.autovacuum == "off",
        "Autovacuum is switched off." if snapshot and snapshot.autovacuum == "off" else "Autovacuum is on.",
        snapshot.autovacuum if snapshot else None, "on", f"{asked}: autovacuum",
    )  # fmt: skip
    running = evidence.row("running_statements")
    yield Fact("database.statements_slow", "query", None if running is None else running.statements > 0,
               "Statements have run for longer than a second, and wait for no lock.", running.longest_seconds if running else None, 1.0, evidence.source("running_statements"))  # fmt: skip


def _oldest(check: Check | None) -> dict[str, Any]:
    sessions = check.details.get("sessions", ()) if check is not None else ()
    return {"pid": sessions[0]["pid"]} if sessions else {}


def _restarts(evidence: Evidence) -> Iterator[Fact]:
    times, source = evidence.row("server_times"), evidence.source("server_times")
    counted = None if times is None else times.deadlocks or 0
    yield Fact(
        "database.deadlocks_counted", "record", None if counted is None else counted >= 1,
        "The server has counted deadlocks in this database.", counted, 1, f"{source}: pg_stat_database",
    )  # fmt: skip
    pair = evidence.rows.get("deadlocks", ())
    grown = pair[-1].deadlocks - pair[0].deadlocks if len(pair) == 2 else None
    yield Fact(
        "database.deadlocks_go_on", "record", None if grown is None else grown > 0,
        f"{grown} deadlocks more were counted while this was looked at." if grown else "No deadlock was counted while this was looked at.",
        grown, 0, evidence.source("deadlocks"), symptom=True,
    )  # fmt: skip
    if times is None:
        return
    # An ordinary role may not see the server's helpers; a crash sets the statistics back as well.
    helper = times.checkpointer_started_at or times.statistics_since
    if helper is None:
        return
    late = (helper - times.started_at).total_seconds() > RESTART_SECONDS
    yield Fact(
        "database.recovered_from_a_crash", "connect", late and times.now - helper < RECENT_CRASH,
        "The server's helpers were started anew long after the server: it recovered from a crash lately.",
        helper, times.started_at, source, symptom=True, severe=True,
    )  # fmt: skip
    yield Fact(
        "database.recovered_just_now", "connect", late and times.now - helper < JUST_RECOVERED,
        "That was within the last minute.", helper, None, source,
    )  # fmt: skip
    since = times.statistics_since
    together = (
        times.checkpointer_started_at is not None
        and since is not None
        and abs((since - helper).total_seconds()) < STATISTICS_SECONDS
    )
    yield Fact(
        "database.statistics_began_with_it", "connect", late and together,
        "The server's statistics begin at the same moment: they were lost in the crash.",
        since, helper, f"{source}: pg_stat_bgwriter",
    )  # fmt: skip
    sessions = evidence.rows.get("worker_sessions", ())
    oldest = max((row.age_seconds for row in sessions), default=None)
    up_seconds = (times.now - helper).total_seconds()
    yield Fact(
        "database.sessions_all_new", "connect",
        late and oldest <= up_seconds + RESTART_SECONDS if oldest is not None else None,
        "All sessions of workers began after that moment: those before were dropped.",
        _rounded(oldest), round(up_seconds, 1), evidence.source("worker_sessions"),
    )  # fmt: skip


def _figure(check: Check) -> Any:
    if check.value is not None:
        return check.value
    return check.details.get("reason") or check.details.get("kind") or None


_fact = partial(fact_of_check, figure=_figure)


def _bad(check: Check | None) -> bool:
    return check is not None and check.verdict == "critical"


def _passed(check: Check | None) -> bool | None:
    """Whether a later step shows that this one went well."""
    return None if check is None else False


def _reason_is(check: Check | None, *reasons: str) -> bool | None:
    return None if check is None else check.details.get("reason") in reasons


def _kind_is(check: Check | None, kind: str) -> bool | None:
    return None if check is None else check.details.get("kind") == kind
