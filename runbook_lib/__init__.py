"""A notebook-driven runbook and analytics workbench for a content pipeline on PostgreSQL.

The names that notebooks may use stand in `NOTEBOOK_NAMES`; each is imported when it is first asked for
(PEP 562), so that a worker never pays for what only reports need.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

__version__ = "0.1.0"

# It comes with JupyterLab, and jsonschema imports it where it is there: to compile 38 grammars, two seconds in each
# process that reads a notebook, for a format (iri) that no schema of a notebook has. jsonschema does without it.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

# name → the module that has it
NOTEBOOK_NAMES = {
    "parameter": "runbook_lib.procedures.parameters",
    "open_workplace": "runbook_lib.procedures.workplace",
    "health_check": "runbook_lib.health.health_check",
    "failure_rate": "runbook_lib.health.failure_rate",
    "performance_review": "runbook_lib.health.performance",
    "propose": "runbook_lib.procedures.proposals",
    "high_failure_rate": "runbook_lib.health.high_failure_rate",
    "stuck_jobs_review": "runbook_lib.health.stuck_review",
    "content_review": "runbook_lib.maintenance.content_review",
    "duplicate_review": "runbook_lib.maintenance.duplicate_review",
    "access_review": "runbook_lib.maintenance.access_review",
    "diagnose": "runbook_lib.triage.diagnosis",
    "propose_first_action": "runbook_lib.procedures.first_action",
    "database_errors": "runbook_lib.maintenance.database_errors",
    "slow_jobs": "runbook_lib.maintenance.slow_jobs",
    "database_review": "runbook_lib.maintenance.database_review",
    "job_runs_review": "runbook_lib.maintenance.job_runs_review",
    "checklist": "runbook_lib.maintenance.checklist_review",
    "secret_review": "runbook_lib.maintenance.secret_review",
    "key_compromise": "runbook_lib.maintenance.key_compromise",
    "openai_errors": "runbook_lib.maintenance.provider_errors",
    "wordpress_errors": "runbook_lib.maintenance.provider_errors",
    "which_procedure": "runbook_lib.procedures.start_page",
    "ask": "runbook_lib.procedures.questions",
    "backup_review": "runbook_lib.maintenance.backup_review",
    "conclude": "runbook_lib.procedures.recorder",
}


def __getattr__(name: str) -> Any:
    if name not in NOTEBOOK_NAMES:
        raise AttributeError(
            f"runbook_lib has no {name!r}; notebooks may use {', '.join(NOTEBOOK_NAMES)}"
        )
    return getattr(importlib.import_module(NOTEBOOK_NAMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *NOTEBOOK_NAMES]
