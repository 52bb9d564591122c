"""Facts about the scheduler: whether one runs, and whether what is due was run."""

from __future__ import annotations

from collections.abc import Iterator

from runbook_lib.triage.evidence import SILENT_SECONDS, Evidence
from runbook_lib.triage.facts import Fact
from runbook_lib.triage.process_table import SOURCE
from runbook_lib.triage.worker_facts import REMEMBERED_SECONDS

# A run takes minutes; one that is there for longer holds nobody's hand.
LONGEST_RUN_SECONDS = 3600.0


def scheduler_facts(evidence: Evidence) -> Iterator[Fact]:
    rows = evidence.rows.get("schedulers")
    gone = [row for row in rows or () if evidence.process_state(row) == "gone"]
    left = [
        row for row in rows or () if row not in gone and row.silent_seconds <= REMEMBERED_SECONDS
    ]
    yield Fact(
        "scheduler.process_gone", "scheduler", bool(gone) and not left if rows is not None else None,
        f"The process of the scheduler {gone[0].scheduler} is gone." if gone else "Schedulers have their processes.",
        len(gone), 1, SOURCE, symptom=True, severe=True,
    )  # fmt: skip
    beat, absent = (
        evidence.checks.get("scheduler.heartbeat"),
        evidence.checks.get("scheduler.absent_runs"),
    )
    silent = None if beat is None or not beat.answered else beat.verdict in ("warning", "critical")
    yield Fact("scheduler.silent", "scheduler", silent, beat.message if beat else "Whether a scheduler runs is not known.", beat.value if beat else None, beat.threshold if beat else None,
               (beat.source if beat else None) or "scheduler.heartbeat", symptom=True, severe=True)  # fmt: skip
    missing = (
        None if absent is None or not absent.answered else absent.verdict in ("warning", "critical")
    )
    yield Fact("scheduler.runs_absent", "scheduler", missing, absent.message if absent else "Whether runs are absent is not known.", absent.value if absent else None, absent.threshold if absent else None,
               (absent.source if absent else None) or "scheduler.absent_runs", symptom=True)  # fmt: skip
    busy = [
        row for row in left
        if row.silent_seconds <= SILENT_SECONDS and row.at_a_run_seconds is not None and row.at_a_run_seconds <= LONGEST_RUN_SECONDS
    ]  # fmt: skip
    late = max((run["late_seconds"] for run in absent.details.values()), default=None) if missing and absent else None  # fmt: skip
    before = bool(busy) and late is not None and busy[0].at_a_run_seconds >= late
    yield Fact(
        "scheduler.at_a_run_before", "scheduler", before if rows is not None else None,
        f"The scheduler {busy[0].scheduler} lives, and is at a run that it began before: what is due waits for that one." if before
        else "No run that began before holds up what is due.",
        round(busy[0].at_a_run_seconds, 1) if busy else None, LONGEST_RUN_SECONDS, evidence.source("schedulers"),
    )  # fmt: skip
