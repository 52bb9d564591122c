"""How commands answer: JSON for programs, aligned tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import click

# How a verdict is shown, and in which colour.
MARKS = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "critical": ("CRITICAL", "red"),
    "not_allowed": ("not allowed", "yellow"),
    "not_enough_data": ("not known", "yellow"),
}

json_option = click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")


def actor_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--actor", default=None, help="Who does this (default: RUNBOOK_ACTOR, else the login)."
    )(command)


def print_json(value: Any) -> None:
    click.echo(
        json.dumps(
            value, default=_plain, ensure_ascii=False, indent=None if not sys.stdout.isatty() else 2
        )
    )


def print_table(rows: Sequence[Sequence[Any]], headings: Sequence[str]) -> None:
    """Columns as wide as their widest cell; control characters in cells are made visible."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max([len(heading), *(len(row[index]) for row in cells)])
        for index, heading in enumerate(headings)
    ]
    for line in [list(headings), ["-" * width for width in widths], *cells]:
        click.echo(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return "".join(character if character.isprintable() else "�" for character in str(value))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, UUID | Path):
        return str(value)
    if hasattr(value, "_asdict"):
        return value._asdict()
    raise TypeError(f"{type(value).__name__} does not go into JSON")
