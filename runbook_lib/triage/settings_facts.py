"""Facts about this process's settings and what was planned."""

from __future__ import annotations

from collections.abc import Iterator

from runbook_lib.policy import Policy
from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Fact


def settings_facts(evidence: Evidence, policy: Policy) -> Iterator[Fact]:
    problem = evidence.settings_problem
    yield Fact(
        "settings.unusable",
        "configuration",
        problem is not None,
        f"The settings do not fit. {problem or ''}".strip(),
        problem,
        None,
        "environment and .env",
        symptom=True,
        severe=True,
    )
    malformed = problem is not None and "OPENAI_API_KEY" in problem and "character" in problem
    yield Fact(
        "settings.key_malformed",
        "configuration",
        malformed,
        "The API key holds a character that cannot be sent.",
        malformed,
        False,
        "settings: OPENAI_API_KEY",
    )
    schema = evidence.row("configured_schema")
    yield Fact(
        "settings.schema_without_tables", "configuration", None if schema is None else schema.tables == 0,
        f"RUNBOOK_DATABASE_SCHEMA names {schema.name!r}, which {'holds none of our tables' if schema.there else 'is not there'}." if schema and not schema.tables else "The schema that the settings name holds our tables.",
        schema.name if schema else None, None, evidence.source("configured_schema"), symptom=True, severe=True,
    )  # fmt: skip
    now = evidence.taken_at
    window = next(
        (each for each in policy.maintenance_windows if each.begin <= now < each.end), None
    )
    yield Fact("maintenance.planned", "configuration", window is not None, f"Maintenance is planned until {window.end:%H:%M}: {window.reason}" if window else "No maintenance is planned now.",
               window.reason if window else None, None, "RUNBOOK_CONFIG: maintenance_windows")  # fmt: skip
