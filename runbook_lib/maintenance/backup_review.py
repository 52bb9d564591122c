"""Is there a backup, is it young, and can it be used? And: does the archive still hold what was filed?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.errors import InsufficientPrivilege

from runbook_lib.archive.store import open_store
from runbook_lib.archive.verification import verify_archive
from runbook_lib.credentials.masking import one_line
from runbook_lib.database.binaries import client_binaries
from runbook_lib.errors import RunbookError, ServiceNotStarted
from runbook_lib.health.answers import Answer, checks_table, table
from runbook_lib.health.checks import Check, Verdict, worst_verdict
from runbook_lib.health.sources import Sources
from runbook_lib.health.tables import Table
from runbook_lib.maintenance.dump_files import DumpFile, dump_files, fault_of
from runbook_lib.maintenance.trial_restore import RestoreTest, try_restore
from runbook_lib.settings import Settings, load_settings

_TABLE_COLUMNS = ("table", "rows", "rows_restored", "sums_equal", "sampled", "sample_equal", "equal")  # fmt: skip
_HOSTED_STEPS = (
    "For a database that Supabase hosts: open the project, Database, Backups, read the date of the newest one, "
    "and run this again with seen_on and seen_by. RUNBOOK_BACKUPS names the folder of your own dumps."
)
_RESTORE_NOW = "Find out what differs before you need the backup: run it again, then look at pg_restore's complaints."


@dataclass(frozen=True)
class Seen:
    """What a person saw of a hosted backup: on what day the newest one was made, and who says so."""

    newest_on: date | None = None
    by: str = ""


@dataclass(frozen=True, repr=False)
class BackupReview(Answer):
    """Three checks: the newest backup, the trial restore, the archive; `check` is the worst of them."""

    check: Check
    newest: Check
    restore: Check
    archive: Check
    tested: RestoreTest | None = None

    @property
    def checks(self) -> Table:
        return checks_table((self.newest, self.restore, self.archive))

    @property
    def tables(self) -> Table:
        """Every table on both sides, those that differ first."""
        rows = [each.row() for each in self.tested.tables] if self.tested else []
        rows.sort(key=lambda row: (row["equal"], -(row["rows"] or 0)))
        return table(rows, _TABLE_COLUMNS, f"Not compared: {self.restore.message}")

    def results(self) -> dict[str, Any]:
        """Verdicts and figures, for the record."""
        tested = self.tested
        return {
            "verdicts": {each.name: each.verdict for each in (self.newest, self.restore, self.archive)},
            "newest_age_hours": self.newest.value,
            "tables": len(tested.tables) if tested else 0,
            "tables_different": tested.different if tested else [],
            "rows_restored": tested.rows if tested else 0,
            "dump_bytes": tested.dump_bytes if tested else None,
            "seconds": dict(tested.seconds) if tested else {},
            "minutes_to_restore": round(tested.restore_seconds / 60, 2) if tested else None,
            "archive_entries": self.archive.details.get("entries"),
            "archive_findings": self.archive.value,
        }  # fmt: skip

    def sentences(self) -> list[str]:
        return [each.message for each in (self.newest, self.restore, self.archive)]


def backup_review(
    sources: Sources,
    *,
    maximum_age_hours: float = 26,
    restore: bool = True,
    restore_newest: bool = False,
    seen_on: date | None = None,
    seen_by: str = "",
    deadline_minutes: float = 30,
) -> BackupReview:
    """Looks at the newest backup, restores a dump into a server of its own and compares, verifies the archive.

    `restore_newest` restores the newest dump of RUNBOOK_BACKUPS instead of one made now. The source is only
    read. Never raises for what it finds.
    """
    try:
        settings = load_settings()
    except RunbookError as error:
        failed = Check("backup.overall", "not_enough_data", f"Nothing could be asked. {one_line(str(error), 300)}")  # fmt: skip
        return BackupReview(failed, failed, failed, failed)
    dumps, folder_problem = _dumps(settings.runbook_backups)
    newest = _asked("backup.newest", lambda: _newest_check(sources, settings, dumps, folder_problem, maximum_age_hours, Seen(seen_on, seen_by)))  # fmt: skip
    tested: RestoreTest | None = None
    file = dumps[0].path if restore_newest and dumps else None

    def trial() -> Check:
        nonlocal tested
        if not restore:
            return Check("backup.restore", "not_enough_data", "Nothing was restored: it was not asked for.")  # fmt: skip
        if restore_newest and file is None:
            return Check("backup.restore", "not_enough_data", "There is no dump in RUNBOOK_BACKUPS to restore.")  # fmt: skip
        tested = try_restore(sources.bookkeeping, settings.runbook_home, 60 * deadline_minutes, file)  # fmt: skip
        return _restore_check(tested, sources.attached)

    restored = _asked("backup.restore", trial)
    archive = _asked("backup.archive", lambda: _archive_check(sources, settings))
    return BackupReview(_overall(newest, restored, archive), newest, restored, archive, tested)


def _dumps(folder: Path | None) -> tuple[list[DumpFile], str | None]:
    if folder is None:
        return [], None
    try:
        return dump_files(folder), None
    except OSError as error:
        return [], f"RUNBOOK_BACKUPS names {folder}, which cannot be read: {error.strerror}."


def _newest_check(
    sources: Sources,
    settings: Settings,
    dumps: list[DumpFile],
    folder_problem: str | None,
    maximum_age_hours: float,
    seen: Seen,
) -> Check:
    check = Check("backup.newest", "critical", "", None, "hours", maximum_age_hours, "RUNBOOK_BACKUPS", next="Make one now, and find out why it was not made.")  # fmt: skip
    if settings.runbook_backups is None:
        return _seen_check(check, maximum_age_hours, seen)
    if folder_problem or not dumps:
        return replace(check, message=folder_problem or f"There is no dump in {settings.runbook_backups}.")  # fmt: skip
    newest, age = dumps[0], round(dumps[0].age_hours(), 1)
    told = f"The newest of {len(dumps)} dumps, {newest.path.name}, is {age:g} hours old and has {newest.bytes:,} bytes"
    if fault := fault_of(newest, client_binaries(_server_major(sources))):
        return replace(check, value=age, message=f"{told}, but {fault}.")
    if age > maximum_age_hours:
        return replace(check, value=age, message=f"{told}: older than {maximum_age_hours:g} hours.")
    if len(dumps) > 1 and newest.bytes < dumps[1].bytes / 2:
        return replace(check, verdict="warning", value=age, message=f"{told}, less than half of the one before.", next="Look at what is missing in it.")  # fmt: skip
    return replace(check, verdict="ok", value=age, message=f"{told}.", next=None, does_not_prove="that it is kept in another place than the database")  # fmt: skip


def _seen_check(check: Check, maximum_age_hours: float, seen: Seen) -> Check:
    if seen.newest_on is None or not seen.by.strip():
        return replace(check, verdict="not_enough_data", message=f"Where the backups are is not known here. {_HOSTED_STEPS}", next=_HOSTED_STEPS, source=None)  # fmt: skip
    age = 24.0 * (datetime.now(UTC).date() - seen.newest_on).days
    verdict: Verdict = "critical" if age > maximum_age_hours + 24 else "ok"
    return replace(
        check, verdict=verdict, value=age, source="a person",
        message=f"{seen.by.strip()} saw a backup of {seen.newest_on}, {age / 24:g} days old.",
        next=check.next if verdict == "critical" else None, does_not_prove="that it can be restored",
    )  # fmt: skip


def _server_major(sources: Sources) -> int:
    with sources.bookkeeping.transaction(read_only=True) as transaction:
        return int(transaction.raw.server_version) // 10_000


def _restore_check(tested: RestoreTest, attached: bool) -> Check:
    what = tested.file or "a dump made just now"
    seconds = tested.seconds
    told = (
        f"{what} was restored in {tested.restore_seconds / 60:.1f} minutes ({tested.dump_bytes:,} bytes, {tested.rows:,} rows): "
        if tested.restore_seconds >= 60
        else f"{what} was restored in {tested.restore_seconds:.1f} s ({tested.dump_bytes:,} bytes, {tested.rows:,} rows): "
    )
    scope = "counts, sums and sampled rows" if tested.file is None else "tables and rows"
    check = Check(
        "backup.restore", "ok", f"{told}{scope} of {len(tested.tables)} tables are as in the source.", len(tested.different),
        "tables that differ", 0, "backups.statements_of_figures",
        does_not_prove="anything about their tables: their owner backs those up" if attached else "that roles, other schemas and the archive's files are in your backups",
        details={"seconds": dict(seconds), "complaints": list(tested.complaints)},
    )  # fmt: skip
    if tested.different:
        return replace(check, verdict="critical", message=f"{told}{', '.join(tested.different[:5])} differ from the source.", next=_RESTORE_NOW)  # fmt: skip
    if tested.complaints:
        return replace(check, verdict="warning", message=f"{check.message} It complained: {tested.complaints[0]}", next="Read the complaints; the data is there.")  # fmt: skip
    return check


def _archive_check(sources: Sources, settings: Settings) -> Check:
    found = verify_archive(sources.bookkeeping, open_store(settings), settings)
    check = Check(
        "backup.archive", "ok", f"All {found.entries:,} entries of the archive agree with their files and rows.", len(found.findings),
        "findings", 0, "archive.verify", does_not_prove="that nobody rewrote all of it: an anchor outside does",
        details={"entries": found.entries},
    )  # fmt: skip
    if not found.findings:
        return check
    first = found.findings[0]
    return replace(
        check, verdict="critical", message=f"{len(found.findings):,} findings in the archive. First: {first['kind']}, {one_line(str(first['detail']), 200)}.",
        next="`runbook archive verify` lists them; keep everything as it is.", procedure="emergency/security_breach",
    )  # fmt: skip


def _asked(name: str, ask: Callable[[], Check]) -> Check:
    """What a part found, or why it could not be asked; the others stand."""
    try:
        return ask()
    except InsufficientPrivilege as error:
        return Check(name, "not_allowed", one_line(str(error), 300), next="Run it as the owner of the tables, who may read all of them.")  # fmt: skip
    except ServiceNotStarted as error:
        return Check(name, "not_enough_data", one_line(str(error), 400), next="Install PostgreSQL's programs of the server's version.")  # fmt: skip
    except (RunbookError, psycopg2.Error, OSError) as error:
        return Check(name, "not_enough_data", one_line(str(error), 400))


def _overall(newest: Check, restore: Check, archive: Check) -> Check:
    parts = (newest, restore, archive)
    order = {"critical": 0, "warning": 1, "ok": 3}
    worst = min(parts, key=lambda check: order.get(check.verdict, 2))
    verdict = worst_verdict(parts)
    if verdict == "ok" and not (newest.answered and restore.answered):
        # What was not looked at must not pass for a backup that is well.
        verdict = "not_enough_data"
    if restore.verdict == "not_allowed" and verdict == "not_enough_data":
        verdict = "not_allowed"
    said = {"ok": "well", "critical": "critical", "warning": "a warning"}
    told = ", ".join(f"{name} {said.get(check.verdict, 'not answered')}" for name, check in zip(("the newest backup:", "restoring:", "the archive:"), parts, strict=True))  # fmt: skip
    return Check(
        "backup.overall", verdict, f"{told[0].upper()}{told[1:]}. {worst.message if worst.verdict != 'ok' else ''}".strip(),
        worst.value, worst.unit, worst.threshold, worst.source, worst.does_not_prove, worst.next, worst.procedure,
    )  # fmt: skip
