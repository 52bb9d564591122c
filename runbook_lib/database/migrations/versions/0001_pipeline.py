"""The pipeline's tables."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from runbook_lib.database.schema import execute_file
from runbook_lib.errors import CouldNotBeDone

revision = "0001"
down_revision = None


def upgrade() -> None:
    execute_file(op.get_context(), Path(__file__).with_suffix(".sql"))


def downgrade() -> None:
    raise CouldNotBeDone(
        "The first version is not taken back: that would drop every job and its history."
    )
