"""Rehearsals: what was proven, on which fault, by whom."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from runbook_lib.database.schema import execute_file
from runbook_lib.errors import CouldNotBeDone

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    execute_file(op.get_context(), Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    raise CouldNotBeDone("Versions are not taken back: that would drop what they hold.")
