"""What benchmarks of notebooks share: a database, a folder of procedures, and a report to run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scratch import server
from runbook_lib.database.connection import Database
from runbook_lib.procedures.runner import run
from runbook_lib.settings import Settings

CARD = {
    "title": "A report", "purpose": "To be measured.", "changes": "nothing", "level": 1,
    "owner": "The benchmarks", "expected_minutes": 1, "alert": None, "version": "1.0",
    "reviewed_on": "2026-11-24", "reviewed_by": "the benchmarks", "next_review": "2099-11-24",
}  # fmt: skip
REPORT = [
    "%matplotlib inline\nimport os\nimport pandas as pd, matplotlib.pyplot as plt, sqlalchemy",
    "address = os.environ['DATABASE_URL'].replace('postgresql://', 'postgresql+psycopg2://')\n"
    "engine = sqlalchemy.create_engine(address)\n"
    "query = sqlalchemy.text('SELECT n, n * n AS square FROM generate_series(1, 200) AS n')\n"
    "frame = pd.read_sql(query, engine)",
    "frame.describe()",
    "frame.plot(x='n', y='square')\nplt.show()",
    "frame.tail()",
]


@dataclass(frozen=True)
class Scene:
    """Where the runs of one benchmark are recorded and archived."""

    database: Database
    settings: Settings
    folder: Path

    def add(self, name: str, cells: list[str], **card: Any) -> Path:
        """Writes a procedure of these code cells."""
        notebook = {
            "cells": [
                {"cell_type": "markdown", "id": "heading", "metadata": {}, "source": "# A report"},
                *({"cell_type": "code", "id": f"cell-{number}", "metadata": {}, "source": source,
                   "outputs": [], "execution_count": None} for number, source in enumerate(cells)),
            ],
            "metadata": {"runbook": {**CARD, **card},
                         "kernelspec": {"name": "python3", "display_name": "Python 3"}},
            "nbformat": 4, "nbformat_minor": 5,
        }  # fmt: skip
        path = self.folder / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook))
        return path

    def run(self, name: str, **options: Any) -> Any:
        return run(
            name, actor="benchmark", database=self.database, settings=self.settings, **options
        )


@contextmanager
def scene() -> Iterator[Scene]:
    """A scratch database and home; what runs here inherits its address and nothing of the caller's."""
    with server() as running:
        database = running.new_database()
        folder = running.home / "procedures"
        settings = Settings(
            database_url=database.url, runbook_home=running.home / "home", runbook_procedures=folder
        )
        os.environ["DATABASE_URL"] = database.url
        os.environ["RUNBOOK_HOME"] = str(settings.runbook_home)
        os.environ["RUNBOOK_PROCEDURES"] = str(folder)
        yield Scene(database, settings, folder)
