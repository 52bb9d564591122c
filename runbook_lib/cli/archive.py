"""`runbook archive`: what was run, found again, compared, and the executed notebooks that it left."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from runbook_lib.archive.diff import Change, Difference, compare
from runbook_lib.archive.entries import find_entry, state_of_notebook
from runbook_lib.archive.notebook_files import replace_atomically
from runbook_lib.archive.search import Query, condition, read_time, search, series
from runbook_lib.archive.store import FolderStore, Store, open_store
from runbook_lib.cli import archive_evidence, archive_upkeep
from runbook_lib.cli.output import json_option, print_json, print_table
from runbook_lib.database import open_database
from runbook_lib.errors import (
    EXIT_DONE,
    EXIT_NOT_WELL,
    CouldNotBeDone,
    NotFoundError,
    UsageError,
)
from runbook_lib.settings import Settings, load_settings

BAR_CHARACTERS = 30
STATUSES = ("running", "succeeded", "failed", "timed_out", "killed", "lost", "refused")
VERDICTS = ("ok", "warning", "critical", "not_enough_data")


class Time(click.ParamType):
    """2026-11-01, or with a time; UTC unless it says otherwise."""

    name = "time"

    def convert(self, value: Any, param: Any, context: Any) -> datetime:
        return value if isinstance(value, datetime) else read_time(value)


@click.group()
def archive() -> None:
    """The archive: every executed notebook, and who ran it.

    RUN is a run's id, the beginning of it, or an address: weekly/performance_review@latest, @latest-ok
    (ran whole, not critical), or @2026-11-01 (as of the end of that day).
    """


archive.add_command(archive_evidence.verify)
archive.add_command(archive_evidence.anchor)
archive.add_command(archive_upkeep.sign)
archive.add_command(archive_upkeep.export)
archive.add_command(archive_upkeep.prune)


@archive.command("list")
@click.option("--procedure", help="chapter/name, or a bare name.")
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--verdict", type=click.Choice(VERDICTS))
@click.option("--actor", help="Who ran it.")
@click.option("--incident", help="The incident in which it ran.")
@click.option("--schedule", "schedule_id", help="The schedule that ran it.")
@click.option("--since", type=Time(), help="Started then or later.")
@click.option("--until", type=Time(), help="Started before then.")
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="What a parameter was; also != < <= > >= and ~ (occurs in).")  # fmt: skip
@click.option("-r", "--result", "results", multiple=True, metavar="NAME>VALUE", help="What a result was; dots lead into nested ones.")  # fmt: skip
@click.option("--text", help="Occurs in parameters, results, error, actor or incident.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
def list_command(
    parameters: tuple[str, ...], results: tuple[str, ...], as_json: bool, **asked: Any
) -> None:
    """Lists runs that fit all that is asked, the newest first."""
    conditions = [condition(each) for each in results]
    conditions += [condition(each, "parameter") for each in parameters]
    with open_database(load_settings()) as database:
        found = search(database, Query(conditions=tuple(conditions), **asked))
    if as_json:
        print_json(found)
        return
    rows = [
        (
            run["run_id"], run["started_at"], run["procedure"], run["status"], run["verdict"],
            run["actor"], run["incident"] or run["schedule_id"] or run["trigger"],
        )
        for run in found
    ]  # fmt: skip
    print_table(rows, ["run", "started", "procedure", "status", "verdict", "actor", "asked by"])


@archive.command()
@click.argument("run")
@json_option
def show(run: str, as_json: bool) -> int:
    """Shows one run: its record, its results, its sign-offs, and whether its notebook is unaltered.

    Exit status 1 when the notebook is altered or missing.
    """
    settings = load_settings()
    store = open_store(settings)
    with open_database(settings) as database:
        entry = find_entry(database, run)
    entry["notebook_state"] = state_of_notebook(store, entry)
    for name in ("archive_notebook", "archive_html", "archive_record"):
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


@archive.command()
@click.argument("a")
@click.argument("b")
@json_option
def diff(a: str, b: str, as_json: bool) -> int:
    """What differs between the runs A and B: verdict and figures first, then cells.

    Exit status 1 when something does.
    """
    settings = load_settings()
    with open_database(settings) as database:
        found = compare(open_store(settings), find_entry(database, a), find_entry(database, b))
    if as_json:
        print_json(found.as_record())
    else:
        _print_difference(found)
    return EXIT_DONE if found.same else EXIT_NOT_WELL


@archive.command()
@click.argument("procedure")
@click.argument("result")
@click.option("--since", type=Time(), help="Started then or later.")
@click.option("--until", type=Time(), help="Started before then.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="The newest so many.")  # fmt: skip
@click.option("--chart", type=click.Path(path_type=Path, dir_okay=False), help="Draw it into this PNG.")  # fmt: skip
@json_option
def figure(procedure: str, result: str, chart: Path | None, as_json: bool, **asked: Any) -> None:
    """One figure of PROCEDURE across its runs: RESULT is its name, with dots for nested ones."""
    with open_database(load_settings()) as database:
        found = series(database, procedure, result, query=Query(**asked))
    if not any(each["value"] is not None for each in found):
        raise NotFoundError(f"None of {len(found)} runs concluded {result!r}. `runbook archive show RUN` lists what a run did.")  # fmt: skip
    if chart is not None:
        _draw(found, procedure, result, chart)
    if as_json:
        print_json(found)
        return
    numbers = [each["value"] for each in found if _is_number(each["value"])]
    most = max((abs(number) for number in numbers), default=0) or 1
    rows = [
        (
            each["run_id"], each["started_at"], each["verdict"] or each["status"], each["value"],
            "█" * round(abs(each["value"]) / most * BAR_CHARACTERS) if _is_number(each["value"]) else "",
        )
        for each in found
    ]  # fmt: skip
    print_table(rows, ["run", "started", "verdict", result, ""])


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
        if value in (None, {}, "", []) or name in ("results", "entries", "archive_objects"):
            continue
        shown = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
        click.echo(f"{name.replace('_', ' ').ljust(18)} {shown}")
    for each in entry["entries"]:
        said = json.dumps(each["record"], ensure_ascii=False) if each["record"] else ""
        click.echo(f"{'entry'.ljust(18)} {each['sequence']} {each['kind']} {each['at']} {said}")
    click.echo("results")
    click.echo(json.dumps(entry["results"], indent=2, ensure_ascii=False, default=str))


def _print_difference(found: Difference) -> None:
    if found.same:
        click.echo("Nothing differs but who ran them and when.")
    changes = {"": found.answer, "figure": found.figures, "parameter": found.parameters, "code": found.code}  # fmt: skip
    rows = [
        (f"{what} {change.name}".strip(), change.a, change.b, _percent(change))
        for what, listed in changes.items()
        for change in listed
    ]
    if rows:
        print_table(rows, ["", "A", "B", "change"])
    for cell in found.cells or ():
        click.echo(f"\ncell {cell.cell}: {cell.what}")
        for line in cell.lines:
            click.echo(f"    {line}")
    if found.missing:
        click.echo(f"\nThe cells are not compared. {found.missing}")


def _percent(change: Change) -> str:
    return "" if change.percent is None else f"{change.percent:+g} %"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _draw(found: list[dict[str, Any]], procedure: str, result: str, path: Path) -> None:
    from runbook_lib.health.charts import new_figure, png_of

    points = [(each["started_at"], each["value"]) for each in found if _is_number(each["value"])]
    if not points:
        raise UsageError(
            f"{result} is no number in any of these runs, so there is nothing to draw."
        )
    drawn = new_figure(height_inches=3.2)
    axes = drawn.subplots()
    axes.plot(*zip(*points, strict=True), marker="o", linewidth=1.5)
    axes.set_ylim(bottom=min(0, *(value for _, value in points)))
    axes.set_title(f"{result}, {procedure}", loc="left")
    drawn.autofmt_xdate()
    try:
        path.write_bytes(png_of(drawn))
    except OSError as error:
        raise CouldNotBeDone(f"{path} cannot be written: {error.strerror}.") from error
