"""What is known of proofs, for whoever only lists procedures: no database is made for it, nor waited for long."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2

from runbook_lib.database import embedded, own_tables
from runbook_lib.errors import RunbookError
from runbook_lib.policy import load_policy
from runbook_lib.rehearsal.records import Proof, proofs
from runbook_lib.settings import Settings

LONGEST_SECONDS = 3.0


def known_proofs(procedures: Sequence[str], settings: Settings) -> dict[str, Proof]:
    """The proofs of procedures by name; none where the workbench's database is not there or does not answer."""
    if settings.own_tables_url() is None and not _has_embedded(settings):
        return {}
    quickly = settings.model_copy(update={"runbook_database_deadline_seconds": LONGEST_SECONDS})
    try:
        database = own_tables(quickly, "runbook procedures")
        return proofs(database, procedures, load_policy(settings).rehearsals)
    except (RunbookError, psycopg2.Error, OSError):
        return {}


def _has_embedded(settings: Settings) -> bool:
    return embedded.data_directory(settings.runbook_home / "postgres").exists()
