"""Small procedures for the tests, written into a folder of their own: one for each way to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CARD: dict[str, Any] = {
    "title": "A fixture",
    "purpose": "To see what becomes of it.",
    "changes": "nothing",
    "level": 1,
    "owner": "The tests",
    "expected_minutes": 1,
    "alert": None,
    "version": "1.0",
    "reviewed_on": "2026-11-24",
    "reviewed_by": "the tests",
    "next_review": "2027-11-24",
}


def write_procedure(
    folder: Path,
    name: str,
    *cells: str,
    parameters: str | None = None,
    tags: dict[int, list[str]] | None = None,
    **card: Any,
) -> Path:
    """Writes `chapter/name.ipynb` with these code cells; `parameters` is the tagged cell's text.

    `tags` are those of the cells by their number, counted without the parameters.
    """
    written = [_code("parameters", parameters, ["parameters"])] if parameters else []
    written += [
        _code(f"cell-{number}", source, (tags or {}).get(number))
        for number, source in enumerate(cells, start=1)
    ]
    notebook = {
        "cells": [_heading("# A fixture"), *written],
        "metadata": {"runbook": {**CARD, **card}, "kernelspec": {"name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path = folder / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook))
    return path


def _heading(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": "heading", "metadata": {}, "source": text}


def _code(identifier: str, source: str, tags: list[str] | None = None) -> dict[str, Any]:
    return {
        "cell_type": "code", "id": identifier, "metadata": {"tags": tags} if tags else {},
        "source": source, "outputs": [], "execution_count": None,
    }  # fmt: skip
