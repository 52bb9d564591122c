"""`runbook archive`: what was run, and the executed notebooks that it left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from runbook_lib.archive.entries import find_entry, list_entries, state_of_notebook
from runbook_lib.archive.notebook_files import replace_atomically
from runbook_lib.archive.store import FolderStore, Store, open_store
from runbook_lib.cli import archive_evidence
from runbook_lib.cli.output import json_option, print_json, print_table
from runbook_lib.database import open_database
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL, NotFoundError
from runbook_lib.settings import Settings, load_settings


@click.group()
def archive() -> None:
    """The archive: every executed notebook, and who ran it."""


archive.add_command(archive_evidence.verify)
archive.add_command(archive_evidence.anchor)


@archive.command("list")
@click.option("--procedure", help="Only runs of this procedure, chapter/name.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
def list_command(procedure: str | None, limit: int, as_json: bool) -> None:
    """Lists runs, the newest first."""
    with open_database(load_settings()) as database:
        entries = list_entries(database, procedure=procedure, limit=limit)
    if as_json:
        print_json(entries)
        return
    rows = [
        (
            entry["run_id"], entry["started_at"], entry["procedure"], entry["status"],
            entry["verdict"], entry["actor"], entry["schedule_id"] or entry["trigger"],
        )
        for entry in entries
    ]  # fmt: skip
    print_table(rows, ["run", "started", "procedure", "status", "verdict", "actor", "asked by"])


@archive.command()
@click.argument("run")
@json_option
def show(run: str, as_json: bool) -> int:
    """Shows one run: its record, its results, and whether the archived notebook is unaltered.

    RUN is the run's id or the beginning of it. Exit status 1 when the notebook is altered or missing.
    """
    settings = load_settings()
    store = open_store(settings)
    with open_database(settings) as database:
        entry = find_entry(database, run)
    entry["notebook_state"] = state_of_notebook(store, entry)
    for name in ("archive_notebook", "archive_html"):
        entry[name] = store.address(entry[name]) if entry[name] else None
    if as_json:
        print_json(entry)
    else:
        _print(entry)
    return EXIT_NOT_WELL if entry["notebook_state"] in ("altered", "missing") else EXIT_DONE


@archive.command("open")
@click.argument("run")
def open_command(run: str) -> None:
    """Opens a run's page in the browser, and prints where it is."""
    settings = load_settings()
    with open_database(settings) as database:
        entry = find_entry(database, run)
    if entry["archive_html"] is None:
        raise NotFoundError(f"Run {entry['run_id']} has no archived page; it {entry['status']}.")
    store = open_store(settings)
    page = store.read(entry["archive_html"])
    click.echo(store.address(entry["archive_html"]))
    click.launch(_as_file(store, entry["archive_html"], page, settings).as_uri())


def _as_file(store: Store, name: str, page: bytes, settings: Settings) -> Path:
    """A page as a file that a browser opens: itself in a folder, a copy from an object store."""
    if isinstance(store, FolderStore):
        return store.path(name)
    directory = settings.runbook_home / "opened"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_atomically(directory / name.rpartition("/")[2], page, durable=False)
    return directory / name.rpartition("/")[2]


def _print(entry: dict[str, Any]) -> None:
    for name, value in entry.items():
        if value in (None, {}, "") or name == "results":
            continue
        shown = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
        click.echo(f"{name.replace('_', ' ').ljust(18)} {shown}")
    click.echo("results")
    click.echo(json.dumps(entry["results"], indent=2, ensure_ascii=False, default=str))
