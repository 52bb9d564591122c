"""Incidents: the list, and one with its timeline as it grows, what it did, notes, drafts and its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from runbook_lib.archive.store import open_store
from runbook_lib.console.house import Fields, House, TheCaller, TheContext, TheHouse
from runbook_lib.console.run_pages import ARCHIVED_POLICY
from runbook_lib.errors import NotFoundError, RunbookError, UsageError
from runbook_lib.health.alerts import show_alert
from runbook_lib.health.context import Context
from runbook_lib.incidents import copies, drafts, known, records
from runbook_lib.incidents.closing import close_incident
from runbook_lib.incidents.draft_page import as_page
from runbook_lib.incidents.facts import IncidentFacts, gather_facts
from runbook_lib.spool import open_spool

router = APIRouter(include_in_schema=False)
# The newest entries are shown; all of them are in the post-mortem.
ENTRIES_SHOWN = 400
DRAFTS = {"update": "Update for stakeholders", "hand-over": "Hand-over", "post-mortem": "Post-mortem"}  # fmt: skip
NOBODY_YET = "whoever comes next"
Text = Annotated[str, Query(max_length=200)]


@router.get("/incidents")
def list_incidents(
    request: Request, house: TheHouse, context: TheContext, alert: Text = ""
) -> Response:
    """Open ones first, and a form to open another; from an alert's page it is filled in."""
    about = show_alert(context, alert) if alert else None
    return house.pages.show(
        request, "incidents.html.j2", title="Incidents", live_seconds=5, about=about,
        incidents=records.list_incidents(context.sources.bookkeeping), severities=records.SEVERITIES,
    )  # fmt: skip


@router.post("/incidents/open")
def open_incident(
    house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields
) -> Response:
    """Opens one under the caller's name, with copies on the machine of the console."""
    try:
        alert = show_alert(context, fields["alert"]) if fields.get("alert") else None
        new = records.new_incident(
            fields.get("title", ""), fields.get("severity", ""), fields.get("lead") or caller.actor,
            caller.actor, alert=alert,
        )  # fmt: skip
        records.open_incident(context.sources.bookkeeping, open_spool(context.settings), new)
        known.remember(context.settings, new)
        made = copies.make_copies(
            context.settings, new.incident, caller.actor, new.procedure, new.parameters
        )
    except RunbookError as error:
        return house.pages.refused("/incidents", error)
    said = f"Incident {new.incident} is open. " + " ".join(made.notices)
    return house.pages.done(f"/incidents/{new.incident}", said.strip())


@router.get("/incidents/{incident}")
def show_incident(
    request: Request, house: TheHouse, context: TheContext, incident: str
) -> Response:
    """One incident: its answer first, then the timeline, which grows while it is looked at."""
    found = _find(context, incident)
    facts = gather_facts(context, found)
    return house.pages.show(
        request, "incident.html.j2", title=f"Incident {found.incident}",
        live_seconds=5 if found.status == "open" else 0, incident=found, facts=facts, drafts=DRAFTS,
        entries=facts.timeline[: -ENTRIES_SHOWN - 1 : -1], entry_count=len(facts.timeline),
        folders=copies.folders(context.settings, found.incident), severity_words=records.SEVERITIES,
    )  # fmt: skip


@router.get("/incidents/{incident}/draft/{kind}")
def show_draft(
    request: Request, house: TheHouse, context: TheContext, incident: str, kind: str, to: Text = ""
) -> Response:
    """A draft as text to copy, from what is recorded now."""
    _require_known(kind)
    found = _find(context, incident)
    facts = gather_facts(context, found)
    return house.pages.show(
        request, "incident_draft.html.j2", title=f"{DRAFTS[kind]} of {found.incident}", incident=found,
        heading=DRAFTS[kind], kind=kind, text=_drafted(house, facts, kind, to).strip(), to=to,
    )  # fmt: skip


@router.get("/incidents/{incident}/page/{kind}")
def draft_page(
    house: TheHouse, context: TheContext, incident: str, kind: str, to: Text = ""
) -> Response:
    """A draft as a page; of a closed incident the post-mortem as it was archived. It may do nothing."""
    _require_known(kind)
    found = _find(context, incident)
    archived = f"incidents/{found.incident}/post_mortem.html"
    if kind == "post-mortem" and any(each["name"] == archived for each in found.archive_objects):
        page = open_store(house.settings).read(archived)
    else:
        facts = gather_facts(context, found)
        text = _drafted(house, facts, kind, to)
        page = as_page(facts, text)
    return Response(
        page, media_type="text/html; charset=utf-8",
        headers={"content-security-policy": ARCHIVED_POLICY, "x-frame-options": "SAMEORIGIN"},
    )  # fmt: skip


@router.post("/incidents/{incident}/note")
def add_note(
    house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields, incident: str
) -> Response:
    """Adds what somebody saw, decided or did."""
    return _after(
        house, context, incident, lambda found: _add(context, found, "note", caller.actor, fields.get("text", "")),
        "Noted.",
    )  # fmt: skip


@router.post("/incidents/{incident}/said")
def keep_draft(
    house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields, incident: str
) -> Response:
    """Notes that an update or a hand-over was given."""
    handed = fields.get("kind") == "hand-over"
    said = f"Handed over to {fields.get('to') or NOBODY_YET}." if handed else "An update was given to stakeholders."  # fmt: skip
    kind = "hand_over" if handed else "update"
    return _after(
        house, context, incident, lambda found: _add(context, found, kind, caller.actor, said), "Kept in the timeline."
    )  # fmt: skip


@router.post("/incidents/{incident}/join")
def join(house: TheHouse, context: TheContext, caller: TheCaller, incident: str) -> Response:
    """Makes copies for the caller, on the machine of the console."""

    def work(found: records.Incident) -> None:
        new = copies.folder_of(context.settings, found.incident, caller.actor) is None
        known.remember(context.settings, found)
        copies.make_copies(context.settings, found.incident, caller.actor, found.procedure, found.parameters)  # fmt: skip
        if new:
            _add(context, found, "joined", caller.actor, f"{caller.actor} joined.")

    return _after(house, context, incident, work, "You have copies of your own.")


@router.post("/incidents/{incident}/close")
def close(
    house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields, incident: str
) -> Response:
    """Archives the copies of this machine and drafts the post-mortem."""
    try:
        closed = close_incident(context, incident, caller.actor, fields.get("resolution", ""))
    except RunbookError as error:
        return house.pages.refused(f"/incidents/{incident}", error)
    said = f"The incident is closed; {len(closed.runs)} executed notebooks are in the archive. "
    return house.pages.done(f"/incidents/{incident}", said + " ".join(closed.notices))


def _require_known(kind: str) -> None:
    if kind not in DRAFTS:
        raise NotFoundError(f"There is no draft {kind[:40]!r}; there are {', '.join(DRAFTS)}.")


def _drafted(house: House, facts: IncidentFacts, kind: str, to: str) -> str:
    if kind == "update":
        return drafts.stakeholder_update(facts)
    if kind == "hand-over":
        return drafts.hand_over(facts, to or NOBODY_YET)
    return drafts.post_mortem(facts, house.settings.runbook_public_url)


def _after(
    house: House, context: Context, incident: str, work: Callable[[records.Incident], None], said: str
) -> Response:  # fmt: skip
    """Does what a form asks for in an incident that is open, and goes back to its page."""
    try:
        found = _find(context, incident)
        if found.status == "closed":
            raise UsageError(f"It was closed by {found.closed_by}; open a new one.")
        work(found)
    except RunbookError as error:
        return house.pages.refused(f"/incidents/{incident}", error)
    return house.pages.done(f"/incidents/{incident}", said)


def _find(context: Context, incident: str) -> records.Incident:
    return known.find_known(context.sources.bookkeeping, context.settings, incident)


def _add(context: Context, found: records.Incident, kind: str, actor: str, said: str) -> None:
    spool = open_spool(context.settings)
    records.add_entry(context.sources.bookkeeping, spool, found.incident, kind, actor, said)
