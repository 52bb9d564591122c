"""`runbook incident`: open, join, note, list, show, and what is drafted from it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import click

from runbook_lib.cli.output import actor_option, json_option, print_json, print_table
from runbook_lib.cli.procedures import pairs
from runbook_lib.database import open_reachable_or_not
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL, UsageError
from runbook_lib.incidents import copies, drafts, known, lab, records
from runbook_lib.incidents.copies import Copies
from runbook_lib.incidents.facts import IncidentFacts, gather_facts
from runbook_lib.incidents.impact import measure_impact
from runbook_lib.incidents.timeline import cells_by_hand, read_timeline
from runbook_lib.pipeline.moments import moment
from runbook_lib.settings import Settings, current_actor, load_settings
from runbook_lib.spool import UNWRITABLE, open_spool


@click.group()
def incident() -> None:
    """Incidents: open, join, note, list, show, update, hand-over, impact, vendor-bundle, close.

    ID is an incident's id, the beginning of it, or its five letters.
    """


@incident.command("open")
@click.option("--title", help="What is wrong, in a few words (default: what the alert says).")
@click.option("--severity", type=click.Choice(list(records.SEVERITIES)), default=None,
              help="critical: nothing or the wrong thing is published; major: part of it; minor: nobody notices.")  # fmt: skip
@click.option("--lead", help="Who leads (default: you).")
@click.option("--alert", "alert_id", metavar="ALERT", help="The alert that it is about: its procedure is filled in.")  # fmt: skip
@click.option("--began", metavar="TIME", help="When the trouble began, such as 2h or 2026-11-26T02:10 (UTC).")  # fmt: skip
@actor_option
@json_option
def open_command(
    title: str | None, severity: str | None, lead: str | None, alert_id: str | None,
    began: str | None, actor: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Opens an incident: its timeline begins, and you get copies of the notebooks to work in.

    Works while the database is away too; what is recorded then waits in files.
    """
    settings, who = load_settings(), current_actor(actor)
    notices: list[str] = []
    with open_reachable_or_not(settings, "runbook incident") as database:
        alert = _alert(settings, alert_id, notices) if alert_id else None
        new = records.new_incident(
            title or (alert or {}).get("message") or (alert or {}).get("cause") or "",
            severity or ("critical" if (alert or {}).get("severity") == "critical" else "major"),
            lead or who, who, began_at=moment(began, datetime.now(UTC)) if began else None, alert=alert,
        )  # fmt: skip
        waits = records.open_incident(database, open_spool(settings), new)
        known.remember(settings, new)
        made = copies.make_copies(settings, new.incident, who, new.procedure, new.parameters)
    _say_where(settings, new.incident, who, made, [*notices, *made.notices], waits, as_json)


@incident.command("join")
@click.argument("incident_id", metavar="ID")
@actor_option
@json_option
def join(incident_id: str, actor: str | None, as_json: bool) -> None:
    """Joins an incident: copies of your own, whose cells are told under your name."""
    settings, who = load_settings(), current_actor(actor)
    with open_reachable_or_not(settings, "runbook incident") as database:
        spool = open_spool(settings)
        found = known.find_known(database, settings, incident_id)
        _refuse_closed(found)
        new = copies.folder_of(settings, found.incident, who) is None
        known.remember(settings, found)
        made = copies.make_copies(settings, found.incident, who, found.procedure, found.parameters)
        waits = None
        if new:
            waits = records.add_entry(database, spool, found.incident, "joined", who, f"{who} joined.")  # fmt: skip
    _say_where(settings, found.incident, who, made, list(made.notices), waits, as_json)


@incident.command("copy")
@click.argument("incident_id", metavar="ID")
@click.argument("procedure")
@click.option("-p", "given", multiple=True, metavar="NAME=VALUE", help="A parameter; repeat it for several.")  # fmt: skip
@actor_option
@json_option
def copy(incident_id: str, procedure: str, given: tuple[str, ...], actor: str | None, as_json: bool) -> None:  # fmt: skip
    """Makes one more copy of PROCEDURE for you, with these parameters filled in."""
    from runbook_lib.procedures import catalogue
    from runbook_lib.procedures.parameters import from_texts

    settings, who = load_settings(), current_actor(actor)
    with open_reachable_or_not(settings, "runbook incident") as database:
        found = known.find_known(database, settings, incident_id)
        _refuse_closed(found)
        folder = copies.make_copies(settings, found.incident, who).folder
        declared = catalogue.find(procedure, settings)
        values = from_texts(declared.declarations, pairs(given))
        path = copies.another_copy(settings, folder, declared.name, values)
    _say_where(settings, found.incident, who, Copies(folder, path), [], None, as_json)


@incident.command("note")
@click.argument("incident_id", metavar="ID")
@click.argument("text", nargs=-1, required=True)
@actor_option
@json_option
def note(incident_id: str, text: tuple[str, ...], actor: str | None, as_json: bool) -> None:
    """Notes what you saw, decided or did; `-` reads it from standard input."""
    settings, who = load_settings(), current_actor(actor)
    said = sys.stdin.read() if text == ("-",) else " ".join(text)
    with open_reachable_or_not(settings, "runbook incident") as database:
        spool = open_spool(settings)
        found = known.find_known(database, settings, incident_id)
        waits = records.add_entry(database, spool, found.incident, "note", who, said)
    if as_json:
        print_json({"incident": found.incident, "waits": waits})
    else:
        click.echo(f"Noted in {found.incident}." + (f" It waits in a file: {waits}" if waits else ""))  # fmt: skip


@incident.command("list")
@click.option("--open", "only_open", is_flag=True, help="Only those that are open.")
@json_option
def list_command(only_open: bool, as_json: bool) -> None:
    """Lists incidents, open ones first."""
    settings = load_settings()
    with open_reachable_or_not(settings, "runbook incident") as database:
        found = records.list_incidents(database, closed=not only_open)
    if as_json:
        print_json(found)
    elif found:
        print_table(
            [(each["incident"], each["status"], each["severity"], each["opened_at"], each["lead"],
              ", ".join(each["responders"]), each["cell_count"], each["title"]) for each in found],
            ["incident", "status", "severity", "opened (UTC)", "lead", "responders", "cells", "title"],
        )  # fmt: skip
    else:
        click.echo("There is no incident.")


@incident.command("show")
@click.argument("incident_id", metavar="ID")
@json_option
def show(incident_id: str, as_json: bool) -> None:
    """Shows an incident with its timeline."""
    settings = load_settings()
    with open_reachable_or_not(settings, "runbook incident") as database:
        found = records.find_incident(database, incident_id)
        entries = read_timeline(database, found.incident)
    if as_json:
        print_json({**found.__dict__, "timeline": entries})
        return
    for name in ("incident", "title", "severity", "status", "lead", "began_at", "opened_at", "cause",
                 "procedure", "closed_at", "closed_by", "resolution"):  # fmt: skip
        if (value := getattr(found, name)) is not None:
            click.echo(f"{name.replace('_', ' '):<12} {value}")
    for folder, mark in copies.folders(settings, found.incident):
        click.echo(f"{'copies':<12} {mark.actor}: {folder}")
    print_table([timeline_row(each) for each in entries], ["at (UTC)", "who", "what", "how it went", "said"])  # fmt: skip


@incident.command("update")
@click.argument("incident_id", metavar="ID")
@click.option("--keep", is_flag=True, help="Note in the timeline that it was said.")
@click.option("--next", "next_minutes", default=30, show_default=True, help="Minutes until the next one.")  # fmt: skip
@actor_option
@json_option
def update(incident_id: str, keep: bool, next_minutes: int, actor: str | None, as_json: bool) -> None:  # fmt: skip
    """Drafts an update for people who do not know the house, from what is recorded."""
    settings = load_settings()
    with _context(settings) as context:
        facts = _facts(context, incident_id)
        text = drafts.stakeholder_update(facts, next_minutes)
        if keep:
            _keep(context, facts.incident, "update", current_actor(actor), "An update was given to stakeholders.")  # fmt: skip
    _say_draft(facts, text, as_json)


@incident.command("hand-over")
@click.argument("incident_id", metavar="ID")
@click.option("--to", required=True, help="Who takes over.")
@click.option("--keep", is_flag=True, help="Note it in the timeline.")
@actor_option
@json_option
def hand_over(incident_id: str, to: str, keep: bool, actor: str | None, as_json: bool) -> None:
    """Drafts what the next one must know: what was found, what was changed, what is open."""
    settings = load_settings()
    with _context(settings) as context:
        facts = _facts(context, incident_id)
        text = drafts.hand_over(facts, to)
        if keep:
            _keep(context, facts.incident, "hand_over", current_actor(actor), f"Handed over to {to}.")  # fmt: skip
    _say_draft(facts, text, as_json)


@incident.command("impact")
@click.argument("incident_id", metavar="ID")
@json_option
def impact(incident_id: str, as_json: bool) -> None:
    """Counts jobs failed, late and doubled, posts published wrong, and the cost."""
    with _context(load_settings()) as context:
        found = records.find_incident(context.sources.bookkeeping, incident_id)
        measured = measure_impact(context.sources, context.policy, found.began_at, found.until)
    if as_json:
        print_json(measured.as_record())
    else:
        print_table(
            [(each.name, "not known" if each.value is None else f"{each.value:,}", each.unit, each.why) for each in measured.lines],
            ["what", "how much", "unit", "counted"],
        )  # fmt: skip


@incident.command("vendor-bundle")
@click.argument("incident_id", metavar="ID")
@click.argument("vendor")
@json_option
def vendor_bundle(incident_id: str, vendor: str, as_json: bool) -> None:
    """Writes a zip for VENDOR's support: times, request ids, answers without secrets."""
    from runbook_lib.incidents.vendor_bundle import write_bundle

    with _context(load_settings()) as context:
        found = records.find_incident(context.sources.bookkeeping, incident_id)
        bundle = write_bundle(context, found, vendor)
    if as_json:
        print_json(bundle.__dict__)
    else:
        click.echo(f"{bundle.requests} failed requests, {bundle.with_request_id} with a request id: {bundle.path}")  # fmt: skip


@incident.command("close")
@click.argument("incident_id", metavar="ID")
@click.option("--resolution", required=True, help="How it ended, in a sentence.")
@actor_option
@json_option
def close(incident_id: str, resolution: str, actor: str | None, as_json: bool) -> int:
    """Closes an incident: archives the copies as they were run, drafts the post-mortem.

    Exit status 1 when a copy could not be archived; the rest is.
    """
    from runbook_lib.incidents.closing import close_incident

    with _context(load_settings()) as context:
        closed = close_incident(context, incident_id, current_actor(actor), resolution)
    if as_json:
        print_json({"incident": closed.incident.incident, "runs": closed.runs, "post_mortem": closed.post_mortem,
                    "page": closed.page, "notices": closed.notices})  # fmt: skip
    else:
        click.echo(f"Incident {closed.incident.incident} is closed. In the archive: its timeline, the post-mortem, {len(closed.runs)} executed notebooks.")  # fmt: skip
        click.echo(f"The post-mortem is drafted: {closed.post_mortem}\nand as a page:            {closed.page}")  # fmt: skip
        for notice in closed.notices:
            click.echo(f"runbook: {notice}", err=True)
    return EXIT_NOT_WELL if closed.notices else EXIT_DONE


@incident.command("cells")
@click.option("--limit", default=100, show_default=True)
@json_option
def cells(limit: int, as_json: bool) -> None:
    """Lists cells that were executed outside of any incident, straight from notebooks/."""
    with open_reachable_or_not(load_settings(), "runbook incident") as database:
        found = cells_by_hand(database, limit)
    if as_json:
        print_json(found)
    else:
        print_table([timeline_row({**each, "kind": "cell"}) for each in found], ["at (UTC)", "who", "what", "how it went", "said"])  # fmt: skip


def timeline_row(entry: dict[str, Any]) -> tuple[Any, ...]:
    """One entry as a line of the table."""
    if entry["kind"] != "cell":
        return entry["at"], entry["actor"], entry["kind"].replace("_", " "), "", entry["said"]
    number = f"cell {entry['cell_number']}" if entry["cell_number"] else "a cell"
    title = f", {entry['cell_title']}" if entry["cell_title"] else ""
    went = [entry["status"], entry["verdict"], entry["error"]]
    if entry["seconds"] is not None:
        went.append(f"{entry['seconds']:.1f} s")
    return (
        entry["at"], entry["actor"], f"{entry['notebook'] or 'a notebook'} {number}{title}",
        " · ".join(each.replace("_", " ") for each in went if each), entry["said"],
    )  # fmt: skip


def _context(settings: Settings) -> Any:
    """The databases, whether they can be reached or not."""
    from runbook_lib.health.context import open_context

    return open_context(settings, "runbook incident", require_schema=False)


def _facts(context: Any, incident_id: str) -> IncidentFacts:
    found = known.find_known(context.sources.bookkeeping, context.settings, incident_id)
    return gather_facts(context, found)


def _say_draft(facts: IncidentFacts, text: str, as_json: bool) -> None:
    if as_json:
        print_json({"incident": facts.incident.incident, "as_of": facts.at, "text": text})
    else:
        click.echo(text)


def _keep(context: Any, found: records.Incident, kind: str, actor: str, said: str) -> None:
    spool = open_spool(context.settings)
    records.add_entry(context.sources.bookkeeping, spool, found.incident, kind, actor, said)


def _alert(settings: Settings, alert_id: str, notices: list[str]) -> dict[str, Any] | None:
    from runbook_lib.health.alerts import show_alert
    from runbook_lib.health.context import open_context

    try:
        with open_context(settings) as context:
            return show_alert(context, alert_id)
    except UNWRITABLE as error:
        notices.append(f"The alert could not be read, so nothing is filled in. {error}")
        return None


def _refuse_closed(found: records.Incident) -> None:
    if found.status == "closed":
        raise UsageError(
            f"Incident {found.incident} was closed by {found.closed_by}; open a new one with `runbook incident open`."
        )


def _say_where(
    settings: Settings, incident_id: str, actor: str, made: Copies, notices: list[str],
    waits: str | None, as_json: bool,
) -> None:  # fmt: skip
    link = lab.link_to(settings, made.opens or made.folder)
    if as_json:
        print_json({"incident": incident_id, "actor": actor, "folder": made.folder, "opens": made.opens,
                    "link": link, "notices": notices, "waits": waits})  # fmt: skip
        return
    click.echo(f"Incident {incident_id}, as {actor}.")
    click.echo(f"Copies:  {made.folder}")
    if made.opens is not None:
        click.echo(f"Open:    {made.opens.relative_to(made.folder)}")
    click.echo(f"Link:    {link or 'no lab is up: `runbook lab` starts one, then `runbook incident join ' + incident_id + '` prints the link'}")  # fmt: skip
    for notice in notices:
        click.echo(f"runbook: {notice}", err=True)
    if waits:
        click.echo(f"runbook: What is recorded waits in files until the database is back: {waits}", err=True)  # fmt: skip
