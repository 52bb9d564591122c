"""What is known of proofs without starting a database for it, and without waiting for one that is away."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2

from runbook_lib.database import Database, embedded
from runbook_lib.errors import RunbookError
from runbook_lib.policy import load_policy
from runbook_lib.rehearsal.records import Proof, proofs
from runbook_lib.settings import Settings

LONGEST_SECONDS = 3.0


def known_proofs(procedures: Sequence[str], settings: Settings) -> dict[str, Proof]:
    """The proofs of procedures by name; none where the workbench's database does not answer at once."""
    try:
        url = _running(settings)
        if url is None:
            return {}
        database = Database(url, application_name="runbook procedures", deadline_seconds=LONGEST_SECONDS, schema=settings.runbook_database_schema)  # fmt: skip
        return proofs(database, procedures, load_policy(settings).rehearsals)
    except (RunbookError, psycopg2.Error, OSError):
        return {}


def _running(settings: Settings) -> str | None:
    if (url := settings.own_tables_url()) is not None:
        return url.get_secret_value()
    status = embedded.server(settings.runbook_home).status()
    return embedded.address(settings.runbook_home, status.state) if status.ready else None
